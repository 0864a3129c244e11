/* tls.h - the server's certificate, which a reload replaces. */
#ifndef SRV_TLS_H
#define SRV_TLS_H

#include <microhttpd.h>

#include "base/base.h"

/* Reads a certificate with its chain and its key, and uses them from the next handshake on. A failure leaves those that
 * there are in place. */
SR_MUST_CHECK sr_status srv_tls_load(const char *certificate, const char *key, sr_error *error);
/* After the daemon has stopped. */
void srv_tls_unload(void);
/* The daemon's option that asks for the certificate at each handshake. */
struct MHD_OptionItem srv_tls_option(void);
/* Nothing older than TLS 1.2 (RFC 8996). */
struct MHD_OptionItem srv_tls_versions(void);

#endif
