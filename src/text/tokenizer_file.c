/*
 * tokenizer_file.c - opens a tokenizer.json: settings, added tokens and special tokens, by Jansson.
 *
 * Only what BERT-like models have is understood. A setting that would change ids and is not
 * understood is refused by name rather than passed over: ids that are nearly right are worse than
 * none. `truncation` and `padding` are not read: sri_tokenize() is told its capacity.
 *
 * A static model has the tokenizer of the transformer that it was made from, in a file of its own.
 * So those that are open are kept in a list, and a file with the bytes of one of them gets that:
 * the vocabulary is read once, and stands in memory once.
 */
#include "text/text_int.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

typedef struct {
    const char *path;
    sri_tokenizer *tokenizer;
    sr_error *error;
} opening;

static sr_status unsupported(opening *o, const char *what, const char *found) {
    return sri_fail(o->error, SR_ERR_UNSUPPORTED, o->path,
                    "%s: %s %s is not supported; only BERT's tokenizers (BertNormalizer, "
                    "BertPreTokenizer, WordPiece) are",
                    o->path, what, found);
}

static sr_status damaged(opening *o, const char *what) {
    return sri_fail(o->error, SR_ERR_FORMAT, o->path, "%s is damaged: %s; fetch the file again",
                    o->path, what);
}

/* The `type` of a part of the pipeline, as words for a message. */
static const char *type_of(const json_t *part) {
    if (part == NULL || json_is_null(part)) return "(none)";
    const char *type = json_string_value(json_object_get(part, "type"));
    return type == NULL ? "(without a type)" : type;
}

static bool read_flag(const json_t *object, const char *name, bool *value) {
    const json_t *flag = json_object_get(object, name);
    *value = json_is_true(flag);
    return json_is_boolean(flag);
}

static bool read_id(const json_t *number, int32_t *id) {
    json_int_t value = json_integer_value(number);
    *id = (int32_t)value;
    return json_is_integer(number) && value >= 0 && value <= (json_int_t)SRI_TOKEN_ID_MAX;
}

static void count_id(sri_tokenizer *t, int32_t id) {
    t->vocabulary = SRI_MAX(t->vocabulary, (size_t)id + 1);
}

/* ---- Normaliser and splitting ----------------------------------------------------------------------- */

static sr_status read_pipeline(opening *o, const json_t *root) {
    sri_tokenizer *t = o->tokenizer;
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *splitter = json_object_get(root, "pre_tokenizer");
    if (strcmp(type_of(normalizer), "BertNormalizer") != 0)
        return unsupported(o, "normalizer", type_of(normalizer));
    if (strcmp(type_of(splitter), "BertPreTokenizer") != 0)
        return unsupported(o, "pre_tokenizer", type_of(splitter));
    const json_t *accents = json_object_get(normalizer, "strip_accents");
    bool known = read_flag(normalizer, "clean_text", &t->clean_text) &&
                 read_flag(normalizer, "handle_chinese_chars", &t->ideographs) &&
                 read_flag(normalizer, "lowercase", &t->lowercase) &&
                 (accents == NULL || json_is_null(accents) || json_is_boolean(accents));
    if (!known) return damaged(o, "a flag of the normalizer is missing or no boolean");
    t->strip_accents = json_is_boolean(accents) ? json_is_true(accents) : t->lowercase;
    return SR_OK;
}

/* ---- Model ------------------------------------------------------------------------------------------- */

/* Old files name no type; one with a limit for words is a WordPiece model. */
static bool is_word_piece(const json_t *model) {
    if (json_object_get(model, "type") == NULL)
        return json_object_get(model, "max_input_chars_per_word") != NULL;
    return strcmp(type_of(model), "WordPiece") == 0;
}

static sr_status find_unknown(opening *o, const json_t *name) {
    sri_tokenizer *t = o->tokenizer;
    sri_buffer padded = {0};
    size_t len = json_string_length(name);
    bool fits = sri_buffer_append(&padded, json_string_value(name), len) &&
                sri_buffer_append(&padded, "\0\0\0\0\0\0\0", SRI_PIECE_SLACK);
    if (fits) t->unknown = len == 0 ? -1 : sri_pieces_find(&t->pieces, padded.data, len, false);
    sri_buffer_free(&padded);
    if (!fits) return sri_fail_memory(o->error);
    return t->unknown >= 0 ? SR_OK : damaged(o, "the unknown token is not in the vocabulary");
}

static sr_status read_model(opening *o, const json_t *root, const sri_tokenizer_parts *parts) {
    sri_tokenizer *t = o->tokenizer;
    const json_t *model = json_object_get(root, "model");
    if (!json_is_object(model)) return damaged(o, "it has no model");
    if (!is_word_piece(model)) return unsupported(o, "model", type_of(model));
    const json_t *unknown = json_object_get(model, "unk_token");
    const json_t *prefix = json_object_get(model, "continuing_subword_prefix");
    const json_t *limit = json_object_get(model, "max_input_chars_per_word");
    if (!json_is_string(unknown) || !json_is_string(prefix) || !json_is_integer(limit) ||
        json_integer_value(limit) < 0)
        return damaged(o, "the model's unk_token, continuing_subword_prefix or "
                          "max_input_chars_per_word is missing");
    if (json_integer_value(limit) > SRI_WORD_CHARS_MAX)
        return unsupported(o, "a max_input_chars_per_word of more than 1000 in the model",
                           "WordPiece");
    if (parts->vocabulary == NULL) return damaged(o, "the model's vocabulary is missing");
    t->max_word_chars = (size_t)json_integer_value(limit);
    uint32_t largest = 0;
    sr_str text = {json_string_value(prefix), json_string_length(prefix)};
    sr_status status =
        sri_tokenizer_read_vocabulary(o->path, parts, text, &t->pieces, &largest, o->error);
    count_id(t, (int32_t)largest);
    return status == SR_OK ? find_unknown(o, unknown) : status;
}

/* ---- Special tokens around --------------------------------------------------------------------------- */

/* BertProcessing: {"cls": ["[CLS]", 101], "sep": ["[SEP]", 102]}. */
static sr_status read_bert_processing(opening *o, const json_t *processor) {
    if (!read_id(json_array_get(json_object_get(processor, "cls"), 1), &o->tokenizer->leading) ||
        !read_id(json_array_get(json_object_get(processor, "sep"), 1), &o->tokenizer->trailing))
        return damaged(o, "the post_processor's cls or sep is missing");
    return SR_OK;
}

/* The one id of a special token of a template. */
static sr_status read_special(opening *o, const json_t *processor, const json_t *special,
                              int32_t *id) {
    const char *name = json_string_value(json_object_get(special, "id"));
    const json_t *token =
        name == NULL ? NULL : json_object_get(json_object_get(processor, "special_tokens"), name);
    const json_t *ids = json_object_get(token, "ids");
    if (json_array_size(ids) > 1)
        return unsupported(o, "post_processor with a special token of several ids:", name);
    if (!read_id(json_array_get(ids, 0), id))
        return damaged(o, "a special token of the post_processor has no id");
    return SR_OK;
}

static sr_status read_template(opening *o, const json_t *processor) {
    const json_t *single = json_object_get(processor, "single");
    if (!json_is_array(single)) return damaged(o, "the post_processor has no template");
    size_t texts = 0;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i),
                     *special = json_object_get(item, "SpecialToken");
        if (special == NULL) {
            const char *id =
                json_string_value(json_object_get(json_object_get(item, "Sequence"), "id"));
            if (id == NULL || strcmp(id, "A") != 0 || ++texts > 1)
                return unsupported(
                    o, "post_processor template that is not one text A:", "TemplateProcessing");
            continue;
        }
        int32_t *place = texts == 0 ? &o->tokenizer->leading : &o->tokenizer->trailing;
        if (*place >= 0)
            return unsupported(
                o, "post_processor with two special tokens on a side:", "TemplateProcessing");
        sr_status status = read_special(o, processor, special, place);
        if (status != SR_OK) return status;
    }
    return texts == 1
               ? SR_OK
               : unsupported(o, "post_processor template without a text:", "TemplateProcessing");
}

static sr_status read_processor(opening *o, const json_t *root) {
    const json_t *processor = json_object_get(root, "post_processor");
    sri_tokenizer *t = o->tokenizer;
    t->leading = t->trailing = -1;
    if (processor == NULL || json_is_null(processor)) return SR_OK;
    sr_status status;
    if (strcmp(type_of(processor), "TemplateProcessing") == 0)
        status = read_template(o, processor);
    else if (strcmp(type_of(processor), "BertProcessing") == 0)
        status = read_bert_processing(o, processor);
    else
        return unsupported(o, "post_processor", type_of(processor));
    if (t->leading >= 0) count_id(t, t->leading);
    if (t->trailing >= 0) count_id(t, t->trailing);
    return status;
}

/* ---- Added tokens ------------------------------------------------------------------------------------- */

/* lstrip and rstrip take white space along, which separates words and gives no ids either way; only
 * a content that itself has white space at an edge could tell the difference. */
static bool edge_is_white(sr_str content) {
    const char *last = content.data + content.len, *first = content.data;
    do last--;
    while (((uint8_t)*last & 0xC0) == 0x80);
    const char *end = content.data + content.len;
    return (sri_char_record(sri_utf8_next(&first, end)).flags & SRI_CHAR_WHITE) != 0 ||
           (sri_char_record(sri_utf8_next(&last, end)).flags & SRI_CHAR_WHITE) != 0;
}

static sr_status read_added_token(opening *o, const json_t *object, sri_added_token *token) {
    sri_tokenizer *t = o->tokenizer;
    const json_t *content = json_object_get(object, "content");
    bool left, right, normalized, special;
    if (!json_is_string(content) || !read_id(json_object_get(object, "id"), &token->id) ||
        !read_flag(object, "single_word", &token->single_word) ||
        !read_flag(object, "lstrip", &left) || !read_flag(object, "rstrip", &right) ||
        !read_flag(object, "normalized", &normalized) || !read_flag(object, "special", &special))
        return damaged(o, "an added token lacks its content, its id or a flag");
    size_t len = json_string_length(content);
    token->content = sri_arena_copy(&t->strings, (sr_str){json_string_value(content), len});
    if (token->content.data == NULL) return sri_fail_memory(o->error);
    if (len == 0) return SR_OK; /* never found in a text */
    if (normalized)
        return unsupported(o, "an added token that is normalized:", token->content.data);
    if ((left || right) && edge_is_white(token->content))
        return unsupported(
            o, "an added token with lstrip or rstrip and white space:", token->content.data);
    if (strstr(token->content.data, "\xEF\xBF\xBD") != NULL)
        return unsupported(o, "an added token with U+FFFD:", token->content.data);
    char *padded = sri_arena_alloc(&t->strings, len + SRI_PIECE_SLACK);
    if (padded == NULL) return sri_fail_memory(o->error);
    memcpy(padded, token->content.data, len);
    memset(padded + len, 0, SRI_PIECE_SLACK);
    int32_t id = sri_pieces_find(&t->pieces, padded, len, false);
    if (id >= 0 && id != token->id)
        return damaged(o, "an added token's id differs from the vocabulary's");
    return SR_OK;
}

static int longer_first(const void *a, const void *b) {
    size_t first = ((const sri_added_token *)a)->content.len,
           second = ((const sri_added_token *)b)->content.len;
    if (first != second) return first < second ? 1 : -1;
    return memcmp(((const sri_added_token *)a)->content.data,
                  ((const sri_added_token *)b)->content.data, first);
}

static sr_status read_added_tokens(opening *o, const json_t *root) {
    sri_tokenizer *t = o->tokenizer;
    const json_t *list = json_object_get(root, "added_tokens");
    size_t count = json_array_size(list);
    if (list != NULL && !json_is_array(list)) return damaged(o, "added_tokens is no array");
    if (count > SRI_ADDED_TOKENS_MAX)
        return unsupported(o, "a number of added tokens above 1024 in", "added_tokens");
    t->added = sri_alloc_array(count, sizeof *t->added);
    if (t->added == NULL) return sri_fail_memory(o->error);
    for (size_t i = 0; i < count; i++) {
        sri_added_token *token = &t->added[t->added_count];
        sr_status status = read_added_token(o, json_array_get(list, i), token);
        if (status != SR_OK) return status;
        if (token->content.len == 0) continue;
        t->added_count++;
        count_id(t, token->id);
    }
    qsort(t->added, t->added_count, sizeof *t->added, longer_first);
    for (size_t i = 1; i < t->added_count; i++)
        if (sri_str_equal(t->added[i].content, t->added[i - 1].content))
            return damaged(o, "an added token stands there twice");
    return SR_OK;
}

/* ---- The file ------------------------------------------------------------------------------------------ */

static sr_status read_settings(opening *o, const json_t *root, const sri_tokenizer_parts *parts) {
    sr_status status = json_is_object(root) ? SR_OK : damaged(o, "it is no JSON object");
    const char *model = type_of(json_object_get(root, "model"));
    /* The model's kind is what a user knows a tokenizer by, so it is named first. */
    if (status == SR_OK &&
        json_is_string(json_object_get(json_object_get(root, "model"), "type")) &&
        strcmp(model, "WordPiece") != 0)
        status = unsupported(o, "model", model);
    if (status == SR_OK) status = read_pipeline(o, root);
    if (status == SR_OK) status = read_model(o, root, parts);
    if (status == SR_OK) status = read_processor(o, root);
    if (status == SR_OK) status = read_added_tokens(o, root);
    if (status == SR_OK) sri_tokenizer_prepare(o->tokenizer);
    return status;
}

static sr_status read_text(opening *o, sr_str text) {
    sri_tokenizer_parts parts;
    sr_status status = sri_tokenizer_split(o->path, text, &parts, o->error);
    if (status != SR_OK) return status;
    json_error_t fault;
    json_t *root = json_loadb(parts.rest.data, parts.rest.len, JSON_REJECT_DUPLICATES, &fault);
    if (root == NULL)
        status = damaged(o, fault.text);
    else
        status = read_settings(o, root, &parts);
    json_decref(root);
    sri_buffer_free(&parts.rest);
    return status;
}

/* ---- Those that are open ------------------------------------------------------------------------------- */

static pthread_mutex_t open_mutex = PTHREAD_MUTEX_INITIALIZER;
static sri_tokenizer *open_list;
static uint64_t digest_seed; /* 0: not made yet */

/* Two files of one length have the same digest once in 2^64 times, and nobody can make such, not
 * knowing the seed. */
static sri_file_digest digest_of(sr_str text) {
    if (digest_seed == 0) digest_seed = sri_random_seed() | 1;
    return (sri_file_digest){text.len, sri_hash(text.data, text.len, digest_seed)};
}

static bool same_file(const sri_file_digest *a, const sri_file_digest *b) {
    return a->len == b->len && a->hash == b->hash;
}

static void free_tokenizer(sri_tokenizer *t) {
    sri_pieces_free(&t->pieces);
    sri_arena_free(&t->strings);
    sri_free(t->added);
    sri_free(t);
}

static sr_status make_tokenizer(const char *path, sr_str text, sri_tokenizer **tokenizer,
                                sr_error *error) {
    opening o = {path, sri_alloc_zero(1, sizeof(sri_tokenizer)), error};
    if (o.tokenizer == NULL) return sri_fail_memory(error);
    sr_status status = read_text(&o, text);
    if (status == SR_OK)
        *tokenizer = o.tokenizer;
    else
        free_tokenizer(o.tokenizer);
    return status;
}

/* One that is open with the same bytes, or a new one; under the mutex. */
static sr_status share(const char *path, sr_str text, sri_tokenizer **tokenizer, sr_error *error) {
    sri_file_digest digest = digest_of(text);
    for (sri_tokenizer *t = open_list; t != NULL; t = t->next) {
        if (!same_file(&t->file, &digest)) continue;
        t->users++;
        *tokenizer = t;
        return SR_OK;
    }
    sr_status status = make_tokenizer(path, text, tokenizer, error);
    if (status != SR_OK) return status;
    (*tokenizer)->file = digest;
    (*tokenizer)->users = 1;
    (*tokenizer)->next = open_list;
    open_list = *tokenizer;
    return SR_OK;
}

sr_status sri_tokenizer_open(const char *path, sri_tokenizer **tokenizer, sr_error *error) {
    *tokenizer = NULL;
    sri_buffer file = {0};
    sr_status status = sri_read_file(path, SRI_TOKENIZER_FILE_MAX, &file, error);
    size_t len = file.len;
    if (status == SR_OK && !sri_buffer_append(&file, "\0\0\0\0\0\0\0", SRI_PIECE_SLACK))
        status = sri_fail_memory(error);
    if (status == SR_OK) {
        pthread_mutex_lock(&open_mutex);
        status = share(path, (sr_str){file.data, len}, tokenizer, error);
        pthread_mutex_unlock(&open_mutex);
    }
    sri_buffer_free(&file);
    return status;
}

void sri_tokenizer_close(sri_tokenizer **tokenizer) {
    sri_tokenizer *t = *tokenizer;
    if (t == NULL) return;
    pthread_mutex_lock(&open_mutex);
    bool last = --t->users == 0;
    for (sri_tokenizer **at = &open_list; last; at = &(*at)->next) {
        if (*at != t) continue;
        *at = t->next;
        break;
    }
    pthread_mutex_unlock(&open_mutex);
    if (last) free_tokenizer(t);
    *tokenizer = NULL;
}
