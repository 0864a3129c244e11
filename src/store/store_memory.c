/*
 * store_memory.c - the store that keeps nothing: the router's own memory is the table.
 *
 * It is loaded while empty; after that the router never has a reason to load it again, since nobody else
 * can change it.
 */
#include "store/store.h"

typedef struct memory_store {
    sri_store base;
    uint64_t revision, fits;
    uint64_t before; /* the revision when the group was opened */
} memory_store;

static sr_status load(sri_store *store, const char *fingerprint, int dimension,
                      const sri_store_sink *sink, sr_error *error) {
    (void)store, (void)fingerprint, (void)dimension;
    sri_store_state state = {.revision = 0, .next_id = 1};
    return sink->begin(sink->user, &state, error);
}

static sr_status changes(sri_store *store, uint64_t revision, uint64_t next_id,
                         const char *fingerprint, int dimension, const sri_store_news *news,
                         bool *whole, sr_error *error) {
    (void)fingerprint, (void)dimension, (void)revision;
    sri_store_state state = {.revision = ((memory_store *)store)->revision, .next_id = next_id};
    *whole = false;
    return news->begin(news->user, &state, error);
}

static sr_status revision(sri_store *store, uint64_t *revision_out, uint64_t *fit,
                          sr_error *error) {
    (void)error;
    *revision_out = ((memory_store *)store)->revision;
    *fit = ((memory_store *)store)->fits;
    return SR_OK;
}

static sr_status begin(sri_store *store, uint64_t *revision_out, uint64_t *fit, sr_error *error) {
    memory_store *self = (memory_store *)store;
    self->before = self->revision;
    return revision(store, revision_out, fit, error);
}

static sr_status write_changes(sri_store *store, const sri_commit *commit, sr_error *error) {
    (void)error;
    ((memory_store *)store)->revision = commit->new_revision;
    return SR_OK;
}

static sr_status commit(sri_store *store, bool synced, sr_error *error) {
    (void)store, (void)synced, (void)error;
    return SR_OK;
}

static void rollback(sri_store *store) {
    memory_store *self = (memory_store *)store;
    self->revision = self->before;
}

static sr_status checkpoint(sri_store *store, sr_error *error) {
    (void)store, (void)error;
    return SR_OK;
}

static sr_status open_reader(sri_store *store, const char *fingerprint, int dimension,
                             sri_store_reader **reader, sr_error *error) {
    (void)store, (void)fingerprint, (void)dimension, (void)error;
    *reader = NULL;
    return SR_OK;
}

static sr_status load_fit(sri_store *store, bool whole, sri_store_fit *fit, sr_error *error) {
    (void)store, (void)whole, (void)error;
    *fit = (sri_store_fit){0};
    return SR_OK;
}

static sr_status save_fit(sri_store *store, const sri_store_fit *fit, uint64_t *serial,
                          sr_error *error) {
    (void)fit, (void)error;
    *serial = ++((memory_store *)store)->fits;
    return SR_OK;
}

static sr_status verify(sri_store *store, sr_error *error) {
    (void)store, (void)error;
    return SR_OK;
}

static void close_store(sri_store *store) { sri_free(store); }

sr_status sri_store_open_memory(sri_store **handle, sr_error *error) {
    static const sri_store_kind kind = {.load = load,
                                        .changes = changes,
                                        .revision = revision,
                                        .begin = begin,
                                        .write = write_changes,
                                        .commit = commit,
                                        .rollback = rollback,
                                        .checkpoint = checkpoint,
                                        .open_reader = open_reader,
                                        .load_fit = load_fit,
                                        .save_fit = save_fit,
                                        .verify = verify,
                                        .close = close_store};
    memory_store *store = sri_alloc_zero(1, sizeof *store);
    *handle = NULL;
    if (store == NULL) return sri_fail_memory(error);
    store->base.kind = &kind;
    atomic_init(&store->base.read_only, false);
    atomic_init(&store->base.schema, SRI_STORE_SCHEMA);
    *handle = &store->base;
    return SR_OK;
}
