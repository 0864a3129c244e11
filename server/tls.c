/*
 * tls.c - the server's certificate, read from PEM files, replaced by a reload.
 *
 * GnuTLS asks for it at each handshake and goes on reading what it got until that handshake is over. So the last one is
 * kept beside the current one, and freed by the load after, when a minute has passed: handshakes end within
 * header_seconds, and two reloads in a minute keep one more.
 */
#include "tls.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <pthread.h>

#define MAX_CHAIN  16
#define MAX_PEM    ((size_t)1 << 20)
#define RETIRED_NS 60000000000ULL

typedef struct certificate {
    gnutls_pcert_st chain[MAX_CHAIN];
    unsigned length;
    gnutls_privkey_t key;
    uint64_t retired_ns;
    struct certificate *next; /* retired before */
} certificate;

static struct {
    pthread_mutex_t lock;
    certificate *current;
} tls = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void free_certificate(certificate *c) {
    for (unsigned i = 0; i < c->length; i++) gnutls_pcert_deinit(&c->chain[i]);
    if (c->key != NULL) gnutls_privkey_deinit(c->key);
    sri_free(c);
}

static sr_status fail(int status, const char *path, sr_error *error) {
    return sri_fail(error, SR_ERR_FORMAT, path, "%s: %s", path, gnutls_strerror(status));
}

static sr_status read_key(certificate *made, const char *path, sr_error *error) {
    sri_buffer bytes = {0};
    sr_status code = sri_read_file(path, MAX_PEM, &bytes, error);
    if (code != SR_OK) return code;
    gnutls_datum_t pem = {(unsigned char *)bytes.data, (unsigned)bytes.len};
    int status = gnutls_privkey_init(&made->key);
    if (status == 0)
        status = gnutls_privkey_import_x509_raw(made->key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
    if (bytes.data != NULL) gnutls_memset(bytes.data, 0, bytes.len);
    sri_buffer_free(&bytes);
    return status == 0 ? SR_OK : fail(status, path, error);
}

/* Whether the key is that of the first certificate. */
static bool is_pair(const certificate *made) {
    unsigned char a[64], b[64];
    size_t a_len = sizeof a, b_len = sizeof b;
    gnutls_pubkey_t own;
    if (gnutls_pubkey_init(&own) != 0) return false;
    bool same =
        gnutls_pubkey_import_privkey(own, made->key, 0, 0) == 0 &&
        gnutls_pubkey_get_key_id(own, GNUTLS_KEYID_USE_SHA256, a, &a_len) == 0 &&
        gnutls_pubkey_get_key_id(made->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, b, &b_len) == 0 &&
        a_len == b_len && __builtin_memcmp(a, b, a_len) == 0;
    gnutls_pubkey_deinit(own);
    return same;
}

static void release_retired(certificate *newest, uint64_t now) {
    for (certificate *c = newest; c->next != NULL;) {
        certificate *retired = c->next;
        if (now - retired->retired_ns < RETIRED_NS) {
            c = retired;
            continue;
        }
        c->next = retired->next;
        free_certificate(retired);
    }
}

sr_status srv_tls_load(const char *path, const char *key, sr_error *error) {
    certificate *made = sri_alloc_zero(1, sizeof *made);
    if (made == NULL) return sri_fail_memory(error);
    sri_buffer pem = {0};
    unsigned length = MAX_CHAIN;
    sr_status code = sri_read_file(path, MAX_PEM, &pem, error);
    if (code == SR_OK) {
        gnutls_datum_t bytes = {(unsigned char *)pem.data, (unsigned)pem.len};
        int status = gnutls_pcert_list_import_x509_raw(
            made->chain, &length, &bytes, GNUTLS_X509_FMT_PEM, GNUTLS_X509_CRT_LIST_SORT);
        if (status < 0)
            code = fail(status, path, error);
        else
            made->length = length;
    }
    sri_buffer_free(&pem);
    if (code == SR_OK) code = read_key(made, key, error);
    if (code == SR_OK && !is_pair(made))
        code = sri_fail(error, SR_ERR_INVALID, key, "%s is not the key of the certificate %s", key,
                        path);
    if (code != SR_OK) {
        free_certificate(made);
        return code;
    }
    pthread_mutex_lock(&tls.lock);
    uint64_t now = sri_nanoseconds();
    made->next = tls.current;
    if (made->next != NULL) made->next->retired_ns = now;
    tls.current = made;
    release_retired(made, now);
    pthread_mutex_unlock(&tls.lock);
    return SR_OK;
}

void srv_tls_unload(void) {
    while (tls.current != NULL) {
        certificate *next = tls.current->next;
        free_certificate(tls.current);
        tls.current = next;
    }
}

static int retrieve(gnutls_session_t session, const gnutls_datum_t *authorities,
                    int authority_count, const gnutls_pk_algorithm_t *algorithms,
                    int algorithm_count, gnutls_pcert_st **chain, unsigned *length,
                    gnutls_privkey_t *key) {
    (void)session, (void)authorities, (void)authority_count, (void)algorithms,
        (void)algorithm_count;
    pthread_mutex_lock(&tls.lock);
    *chain = tls.current->chain;
    *length = tls.current->length;
    *key = tls.current->key;
    pthread_mutex_unlock(&tls.lock);
    return 0;
}

struct MHD_OptionItem srv_tls_option(void) {
    return (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)retrieve};
}

struct MHD_OptionItem srv_tls_versions(void) {
    static const char versions[] = "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1";
    return (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)versions};
}
