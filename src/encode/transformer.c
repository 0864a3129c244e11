/* transformer.c - the encoder over a local transformer model. */
#include "encode/encode_int.h"

sr_status sri_transformer_encoder_open(const sr_encoder_options *options, sr_encoder *encoder, sr_error *error) {
    (void)encoder;
    return sri_fail(error, SR_ERR_UNSUPPORTED, options->model, "not yet");
}
