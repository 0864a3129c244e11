/*
 * epoch.h - readers that never wait: what they may still see is kept until the last of them has
 * gone on.
 *
 * One writer at a time publishes immutable things by atomic pointers; any number of readers pin the
 * epoch, load the pointers, use what they point to, and unpin. What the writer has made unreachable
 * it retires; it is released once every pin is younger than that. Epoch-based reclamation: K.
 * Fraser, Practical Lock-Freedom, University of Cambridge, 2004. Reference counts were rejected:
 * every reader would write to the same cache line.
 */
#ifndef SRI_EPOCH_H
#define SRI_EPOCH_H

#include "base/base.h"

typedef struct sri_epoch sri_epoch;

SR_MUST_CHECK sr_status sri_epoch_open(sri_epoch **epoch, sr_error *error);
/* Releases all that was retired. Nobody may be pinned. */
void sri_epoch_close(sri_epoch **epoch);

/* ---- Readers: any thread, as often as wanted, one pin within another too --------------------- */

typedef struct sri_pin {
    struct sri_pin_slot *slot;
} sri_pin;

/* Takes no lock. A pointer loaded (acquire) after this stays good until sri_epoch_unpin(). A
 * long pin delays releasing, nothing else. */
sri_pin sri_epoch_pin(sri_epoch *epoch);
void sri_epoch_unpin(sri_pin pin);

/* ---- The writer: one thread at a time -------------------------------------------------------- */

/* Stands inside what is retired, so that retiring cannot fail. */
typedef struct sri_retired {
    struct sri_retired *next;
    uint64_t epoch;
    void (*release)(struct sri_retired *retired);
} sri_retired;

/* `item` is unreachable from every pointer that is published, or will be when
 * sri_epoch_advance() is called next, before which nothing is released. */
void sri_epoch_retire(sri_epoch *epoch, sri_retired *item, void (*release)(sri_retired *retired));
/* Begins a new epoch: pins from now on see what was published before this call. Releases what no
 * pin can see any more, the oldest first, `most` items at most, so that one call takes a bounded
 * time. Releasing may retire nothing. */
void sri_epoch_advance(sri_epoch *epoch, size_t most);
/* Items that wait for their release. */
size_t sri_epoch_waiting(const sri_epoch *epoch);

#endif
