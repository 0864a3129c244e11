/*
 * group.c - writing changes to the store in groups: one transaction for all that comes while it is open.
 *
 * A leader takes the records that have gathered, writes them without `writer`, and looks again; when there are none
 * it commits. Where somebody wants the group synced and others are about to join, it waits a moment for them, as one sync serves all.
 * After LONGEST seconds it writes the rest with `writer` held and commits, so that the log does not grow without end. After
 * as much time in groups that followed each other at once, the lock is left free for a moment, so that other processes
 * get their turn: they could not know when to look otherwise. A group of MAX_BYTES takes no more deferred changes: their vectors
 * stay in memory until it ends.
 *
 * While a group is open an epoch is pinned: what its records point to is not released, however often it has changed since. So
 * a deferred change needs no copy of what it has put into the table.
 *
 * When a record cannot be written or the group not committed, all of it is rolled back and the table loaded again:
 * callers that wait get the error, and deferred changes, which readers have seen, are lost, which the
 * callback, the next receipt and the next flush tell. Should the table not be loaded then, the group is
 * `broken`: nothing more is changed until it could be, and readers see what was published last.
 *
 * A deferred change is shown at once, with all that is in the table by then: so it joins no group that has others, which are
 * shown when they are stored. Others may join its group.
 *
 * Rejected: to undo a failed group in memory (a second way to change the table, hardly ever taken), and to write a
 * change before it is made in memory (a group would hold up the deferred changes in it).
 */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "router/router_int.h"

#define LONGEST   0.05              /* seconds that a group stays open while more comes */
#define JOINING   1e-3              /* seconds that a synced group waits for those about to join */
#define GATHERING 2000              /* microseconds that the thread behind lets changes gather */
#define RESTING   1e-3              /* seconds that the store is left to others after so much */
#define MAX_BYTES ((size_t)4 << 20) /* of a group; beyond it deferred changes wait for the next */

group_record *sri_group_record(size_t changes, size_t adds) {
    size_t bytes = sizeof(group_record), part;
    if (!sri_size_mul(changes, sizeof(sri_change), &part) || !sri_size_add(bytes, part, &bytes) ||
        !sri_size_mul(adds, sizeof(utterance *), &part) || !sri_size_add(bytes, part, &bytes))
        return NULL;
    group_record *record = sri_alloc(bytes);
    if (record == NULL) return NULL;
    *record = (group_record){.bytes = bytes};
    record->changes = (sri_change *)(record + 1);
    record->adds = (utterance **)(record->changes + changes);
    return record;
}

void sri_group_init(sri_group *group) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* that of sri_seconds() */
    pthread_cond_init(&group->ended, NULL);
    pthread_cond_init(&group->arrived, &attributes);
    pthread_cond_init(&group->wake, NULL);
    pthread_condattr_destroy(&attributes);
}

/* ---- Opening, joining ------------------------------------------------------------------------------------- */

sr_status sri_group_mend(sr_router *router, sr_error *error) {
    if (!router->group.broken) return SR_OK;
    sr_status code = sri_router_load_table(router, atomic_load(&router->ready), error);
    if (code == SR_OK) router->group.broken = false;
    return code;
}

/* Other processes look for the lock every few tenths of a millisecond. */
static void give_way(sri_group *group) {
    double free = sri_seconds() - group->left;
    if (free < RESTING && group->held < LONGEST) return;
    if (free < RESTING) usleep((useconds_t)((RESTING - free) * 1e6));
    group->held = 0;
}

sr_status sri_group_begin(sr_router *router, bool *changed, sr_error *error) {
    sri_group *group = &router->group;
    sri_store *store = router->store;
    uint64_t revision = 0, fit = 0;
    *changed = false;
    if (group->open) return SR_OK;
    if (store->keeps) give_way(group);
    sr_status code = store->kind->begin(store, &revision, &fit, error);
    if (code != SR_OK) return code;
    if (revision != router->table->state.revision) {
        *changed = true;
        /* With the lock kept, so that a busy process cannot come first each time. */
        code = sri_router_refresh(router, error);
        if (code != SR_OK) {
            /* What cannot be done within a group can be done without: to store what had to be encoded anew (reload.c). */
            store->kind->rollback(store);
            return sri_router_refresh(router, error);
        }
    }
    group->open = true;
    group->begun = sri_seconds();
    group->pin = sri_epoch_pin(router->epoch);
    return SR_OK;
}

void sri_group_push(sr_router *router, group_record *record) {
    sri_group *group = &router->group;
    if (group->last != NULL)
        group->last->next = record;
    else
        group->first = record;
    group->last = record;
    group->bytes += record->bytes;
    group->unpublished = true;
    group->synced = group->synced || record->durability == SR_DURABILITY_FULL;
    group->deferred += record->durability == SR_DURABILITY_DEFERRED;
    if (group->leading) pthread_cond_signal(&group->arrived);
    if (record->durability == SR_DURABILITY_DEFERRED) pthread_cond_signal(&group->wake);
}

void sri_group_show(sr_router *router) {
    sri_view_publish(router);
    router->group.unpublished = false;
}

void sri_group_let_go(sr_router *router) {
    const sri_group *group = &router->group;
    if (group->open && !group->leading && group->first == NULL) sri_group_settle(router);
}

void sri_group_leave(sr_router *router) {
    sri_group *group = &router->group;
    atomic_fetch_sub(&group->joining, 1);
    if (group->leading) pthread_cond_signal(&group->arrived);
}

/* ---- Ending ------------------------------------------------------------------------------------------------- */

static void free_records(group_record **list) {
    for (group_record *each = *list, *next; each != NULL; each = next) {
        next = each->next;
        sri_free(each);
    }
    *list = NULL;
}

/* What the store has now need not stay in memory. */
static void mark_durable(const sr_router *router) {
    for (const group_record *each = router->group.written; each != NULL; each = each->next)
        for (size_t i = 0; i < each->add_count; i++) {
            const utterance *added = each->adds[i];
            if (!added->gone && utterance_slot(added) != SRI_INDEX_NONE)
                sri_index_set_durable(router->table->index, utterance_slot(added));
        }
}

/* `stored`: nothing has failed but the syncing, which not all of them want. */
static void tell_waiters(sri_group *group, sr_status code, bool stored, const sr_error *error) {
    for (group_waiter *each = group->waiters; each != NULL; each = each->next) {
        each->done = true;
        each->code = stored && !each->synced ? SR_OK : code;
        if (each->code != SR_OK) each->error = *error;
    }
    group->waiters = NULL;
}

static void close_group(sr_router *router) {
    sri_group *group = &router->group;
    free_records(&group->written);
    free_records(&group->first);
    group->last = NULL;
    group->bytes = group->deferred = 0;
    group->synced = group->unpublished = group->open = false;
    group->left = sri_seconds();
    group->held += group->left - group->begun;
    sri_epoch_unpin(group->pin);
    pthread_cond_broadcast(&group->ended);
}

static void note_lost(sri_group *group, uint64_t deferred, const sr_error *error) {
    if (deferred == 0) return;
    group->lost += deferred;
    group->lost_untold += deferred;
    group->lost_uncalled += deferred;
    group->lost_error = *error;
    if (!group->flush_failed) group->flush_error = *error;
    group->flush_failed = true;
}

/* The store has rolled the group back; or, where `committed` says so, it may have failed in nothing but the syncing. */
static void fail_group(sr_router *router, bool committed, sr_status code, const sr_error *error) {
    sri_group *group = &router->group;
    uint64_t wanted = router->table->state.revision, deferred = group->deferred;
    sri_log(SR_LOG_WARN, "%s: changes could not be stored: %s", router->database, error->message);
    group->broken = true;
    close_group(router);
    sr_error reason;
    bool loaded = sri_group_mend(router, &reason) == SR_OK;
    if (!loaded)
        sri_log(SR_LOG_ERROR, "%s: the table could not be loaded again: %s", router->database,
                reason.message);
    bool stored = loaded && committed && router->table->state.revision >= wanted;
    if (!stored) note_lost(group, deferred, error);
    tell_waiters(group, code, stored, error);
}

static void end_group(sr_router *router) {
    sri_group *group = &router->group;
    sri_store *store = router->store;
    sr_error error;
    bool synced = group->synced;
    sr_status code = store->kind->commit(store, synced, &error);
    if (code != SR_OK) {
        fail_group(router, synced, code, &error);
        return;
    }
    mark_durable(router);
    if (group->unpublished) sri_view_publish(router);
    close_group(router);
    tell_waiters(group, SR_OK, true, NULL);
    sri_epoch_advance(router->epoch, SIZE_MAX); /* what the group's pin held back */
}

/* ---- Leading ------------------------------------------------------------------------------------------------ */

/* Takes what has gathered. */
static group_record *take(sri_group *group) {
    group_record *taken = group->first;
    group->first = group->last = NULL;
    return taken;
}

static sr_status write_records(sr_router *router, const group_record *records, sr_error *error) {
    sri_store *store = router->store;
    sr_status code = SR_OK;
    for (; records != NULL && code == SR_OK; records = records->next)
        code = store->kind->write(store, &records->commit, error);
    return code;
}

static void keep_written(sri_group *group, group_record *records) {
    while (records != NULL) {
        group_record *next = records->next;
        records->next = group->written;
        group->written = records;
        records = next;
    }
}

/* Lets those join who are about to. */
static void wait_for_more(sr_router *router) {
    sri_group *group = &router->group;
    double until = sri_seconds() + JOINING;
    time_t seconds = (time_t)until;
    struct timespec time = {seconds, (long)((until - (double)seconds) * 1e9)};
    while (group->synced && group->first == NULL && atomic_load(&group->joining) > 0)
        if (pthread_cond_timedwait(&group->arrived, &router->writer, &time) != 0) return;
}

/* Writes the open group and ends it. `writer` is held before and after. */
static void lead(sr_router *router) {
    sri_group *group = &router->group;
    sr_status code = SR_OK;
    sr_error error;
    group->leading = true;
    while (code == SR_OK && group->first != NULL) {
        group_record *taken = take(group);
        bool late = sri_seconds() > group->begun + LONGEST;
        if (!late) pthread_mutex_unlock(&router->writer);
        code = write_records(router, taken, &error);
        if (!late) pthread_mutex_lock(&router->writer);
        keep_written(group, taken);
        if (code == SR_OK && group->first == NULL && !late) wait_for_more(router);
    }
    if (code == SR_OK) {
        end_group(router);
    } else {
        router->store->kind->rollback(router->store);
        fail_group(router, false, code, &error);
    }
    group->leading = false;
    pthread_cond_broadcast(&group->ended);
}

void sri_group_settle(sr_router *router) {
    sri_group *group = &router->group;
    while (group->open)
        if (group->leading)
            pthread_cond_wait(&group->ended, &router->writer);
        else
            lead(router);
}

sr_status sri_group_finish(sr_router *router, group_waiter *own, sr_error *error) {
    sri_group *group = &router->group;
    own->next = group->waiters;
    group->waiters = own;
    group->synced = group->synced || own->synced;
    while (!own->done)
        if (group->leading)
            pthread_cond_wait(&group->ended, &router->writer);
        else
            lead(router);
    if (own->code != SR_OK && error != NULL) *error = own->error;
    return own->code;
}

/* ---- The thread behind -------------------------------------------------------------------------------------- */

/* So that no commit has to copy the log. */
static void tidy(const sr_router *router) {
    sr_error error;
    if (router->store->kind->checkpoint(router->store, &error) != SR_OK)
        sri_log(SR_LOG_INFO, "%s: the log was not copied: %s", router->database, error.message);
}

static void *write_behind(void *argument) {
    sr_router *router = argument;
    sri_group *group = &router->group;
    pthread_mutex_lock(&router->writer);
    while (!group->stop) {
        bool lost = group->lost_uncalled > 0; /* found by a call that has no receipt, perhaps */
        if (!lost && (!group->open || group->leading)) {
            pthread_cond_wait(group->open ? &group->ended : &group->wake, &router->writer);
            continue;
        }
        pthread_mutex_unlock(&router->writer);
        if (lost)
            sri_group_tell(router);
        else
            usleep(GATHERING);
        pthread_mutex_lock(&router->writer);
        if (lost || !group->open || group->leading) continue;
        lead(router);
        pthread_mutex_unlock(&router->writer);
        tidy(router);
        pthread_mutex_lock(&router->writer);
    }
    pthread_mutex_unlock(&router->writer);
    return NULL;
}

sr_status sri_group_admit(sr_router *router, sr_error *error) {
    sri_group *group = &router->group;
    /* The thread behind may be this very one, in the callback. To show this change would show those that are not
     * stored yet, and may never be. */
    while (group->open && (group->bytes > MAX_BYTES || group->unpublished))
        if (group->leading)
            pthread_cond_wait(&group->ended, &router->writer);
        else
            lead(router);
    if (group->started) return SR_OK;
    int failed = pthread_create(&group->thread, NULL, write_behind, router);
    if (failed != 0)
        return sri_fail_errno(error, failed, "durability",
                              "cannot start the thread that stores deferred changes");
    group->started = true;
    return SR_OK;
}

void sri_group_tell(sr_router *router) {
    sri_group *group = &router->group;
    pthread_mutex_lock(&router->writer);
    uint64_t lost = group->lost_uncalled;
    sr_error error = group->lost_error;
    group->lost_uncalled = 0;
    pthread_mutex_unlock(&router->writer);
    if (lost > 0 && router->lost != NULL) router->lost(router->lost_user, lost, &error);
}

uint64_t sri_group_lost(sr_router *router) {
    uint64_t lost = router->group.lost_untold;
    router->group.lost_untold = 0;
    return lost;
}

sr_status sr_router_flush(sr_router *router, sr_error *error) {
    sri_group *group = &router->group;
    pthread_mutex_lock(&router->writer);
    sri_group_settle(router);
    bool failed = group->flush_failed;
    if (failed && error != NULL) *error = group->flush_error;
    sr_status code = failed ? group->flush_error.code : SR_OK;
    group->flush_failed = false;
    pthread_mutex_unlock(&router->writer);
    sri_group_tell(router);
    return code;
}

/* The callback may be called once more by this, and would like to change something. */
void sri_group_close(sr_router *router) {
    sri_group *group = &router->group;
    pthread_mutex_lock(&router->writer);
    sri_group_settle(router);
    group->stop = true;
    pthread_cond_signal(&group->wake);
    pthread_cond_broadcast(&group->ended);
    bool started = group->started;
    pthread_mutex_unlock(&router->writer);
    if (started) pthread_join(group->thread, NULL);
    sri_group_tell(router);
    pthread_cond_destroy(&group->ended);
    pthread_cond_destroy(&group->arrived);
    pthread_cond_destroy(&group->wake);
}
