/*
 * group_int.h - changes on their way to the store, in groups that are one transaction each.
 *
 * A group is opened by the first change that is made in memory and takes the store's write lock, so that nobody else
 * can change the table until the group has been committed: what is in memory is never planned on a stale table. Each
 * change leaves a record, in the order of the changes. One thread at a time leads: it writes the records that have gathered, without
 * `writer`, so that others may add to the group meanwhile, and when there are none left commits, with `writer`. Callers that must
 * not return before that lead themselves, or wait for the one who does; for deferred changes a thread of
 * the router's own leads.
 *
 * Changes that are not deferred are shown to readers when their group has been committed, so that no reader sees what a crash takes
 * back; deferred ones at once. When a group cannot be stored the table is loaded again.
 */
#ifndef SRI_GROUP_INT_H
#define SRI_GROUP_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/epoch.h"
#include "store/store.h"

struct sr_router;
struct utterance;

/* A change as the store takes it; one piece of memory. Texts lie in the table and vectors in its index, whose memory an
 * open group keeps from being released; or vectors are the caller's, who waits. */
typedef struct group_record {
    struct group_record *next;
    sri_commit commit;
    sri_change *changes; /* of `commit` */
    sri_store_model model;
    struct utterance **adds; /* to be told when they are stored */
    size_t add_count;
    sr_durability durability;
    size_t bytes; /* with the vectors that it keeps in memory */
} group_record;

/* A caller that waits for the end of the group. */
typedef struct group_waiter {
    struct group_waiter *next;
    bool synced; /* it wants the group synced */
    bool done;
    sr_status code;
    sr_error error;
} group_waiter;

/* Guarded by `writer`, but for `joining` and what the leader has taken. */
typedef struct sri_group {
    bool open, leading;
    bool synced;                /* somebody in it wants that */
    bool unpublished;           /* it has changes that readers do not see yet */
    bool broken;                /* the table is not what is stored, and could not be loaded */
    sri_pin pin;                /* while open */
    double begun, left;         /* in seconds: this group, and the one before */
    double held;                /* seconds of groups that followed each other closely */
    group_record *first, *last; /* not yet written */
    group_record *written;      /* of this group */
    size_t bytes;               /* of its records, written or not */
    uint64_t deferred;          /* changes of this group */
    group_waiter *waiters;
    atomic_int joining; /* callers about to add a change */
    pthread_cond_t ended, arrived, wake;
    pthread_t thread; /* writes deferred changes */
    bool started, stop;
    uint64_t lost, lost_untold, lost_uncalled; /* in all, by a receipt, by the callback */
    sr_error lost_error, flush_error;
    bool flush_failed;
} sri_group;

void sri_group_init(sri_group *group);
/* Stores what is waiting, ends the thread. */
void sri_group_close(struct sr_router *router);

/* Room for a record of `changes` changes and `adds` additions. NULL when memory is short. */
group_record *sri_group_record(size_t changes, size_t adds);

/* ---- The caller holds `writer`, which all but begin(), push() and lost() may release and take again ---- */

/* Opens a group unless one is open. `*changed`: another process had changed the table, which was brought up to date, and
 * what was planned is to be planned again; as a rule the group is open by then, so that this happens once. */
SR_MUST_CHECK sr_status sri_group_begin(struct sr_router *router, bool *changed, sr_error *error);
/* Adds the record of a change that is in memory now; takes it over. */
void sri_group_push(struct sr_router *router, group_record *record);
/* Shows readers what the open group has so far. */
void sri_group_show(struct sr_router *router);
/* Ends a group that nothing was added to. */
void sri_group_let_go(struct sr_router *router);
/* Says that a caller counted in `joining` has added its change, or will not. */
void sri_group_leave(struct sr_router *router);
/* Waits until the group is stored, leading it where nobody else does. `own` is memory of the caller's, zeroed but for
 * `synced`. */
SR_MUST_CHECK sr_status sri_group_finish(struct sr_router *router, group_waiter *own,
                                         sr_error *error);
/* Loads the table if a failed group has left it other than what is stored; no group is open then. */
SR_MUST_CHECK sr_status sri_group_mend(struct sr_router *router, sr_error *error);
/* Waits until a deferred change may open a group or join the one that is open, and makes sure that there is a thread for
 * it. */
SR_MUST_CHECK sr_status sri_group_admit(struct sr_router *router, sr_error *error);
/* Ends the open group, if there is one, however that ends; then the store may be used. */
void sri_group_settle(struct sr_router *router);
/* Deferred changes taken back that no receipt has told yet; they count as told. */
uint64_t sri_group_lost(struct sr_router *router);

/* ---- The caller does not hold `writer` ------------------------------------------------------------------ */

/* Tells the callback what was lost. */
void sri_group_tell(struct sr_router *router);

#endif
