/*
 * queue_alarm.c - deadlines of what waits: a binary heap, and a thread that sleeps until the earliest.
 *
 * The thread starts with the first deadline. It is woken for a deadline that is earlier than all others, and for no other; a submission
 * that was answered is taken out of the heap, so the thread may wake for nothing now and then. One that has been taken whole for a batch
 * is let be: its answer is on the way.
 */
#include <time.h>

#include "router/queue_int.h"

static void place(const sri_queue *queue, size_t at, submission *put) {
    queue->alarms[at] = put;
    put->alarm = at;
}

static void sift_up(sri_queue *queue, size_t at, submission *put) {
    for (size_t above; at > 0; at = above) {
        above = (at - 1) / 2;
        if (queue->alarms[above]->deadline <= put->deadline) break;
        place(queue, at, queue->alarms[above]);
    }
    place(queue, at, put);
}

static void sift_down(sri_queue *queue, size_t at, submission *put) {
    for (size_t below; (below = 2 * at + 1) < queue->alarm_count; at = below) {
        if (below + 1 < queue->alarm_count &&
            queue->alarms[below + 1]->deadline < queue->alarms[below]->deadline)
            below++;
        if (put->deadline <= queue->alarms[below]->deadline) break;
        place(queue, at, queue->alarms[below]);
    }
    place(queue, at, put);
}

bool sri_alarm_reserve(sri_queue *queue) {
    void *alarms = queue->alarms;
    bool enough =
        sri_grow(&alarms, &queue->alarm_capacity, queue->alarm_count + 1, sizeof(submission *));
    queue->alarms = alarms;
    return enough;
}

void sri_alarm_set(sri_queue *queue, submission *watched) {
    sift_up(queue, queue->alarm_count++, watched);
    if (watched->alarm == 0) pthread_cond_signal(&queue->alarmed);
}

void sri_alarm_clear(sri_queue *queue, submission *watched) {
    size_t at = watched->alarm;
    if (at == SRI_NO_ALARM) return;
    watched->alarm = SRI_NO_ALARM;
    submission *last = queue->alarms[--queue->alarm_count];
    if (last == watched) return;
    if (at > 0 && queue->alarms[(at - 1) / 2]->deadline > last->deadline)
        sift_up(queue, at, last);
    else
        sift_down(queue, at, last);
}

/* The next whose deadline has passed and that waits, claimed; NULL when there is none. */
static submission *take_expired(sri_queue *queue) {
    uint64_t now = sri_nanoseconds();
    while (queue->alarm_count > 0 && queue->alarms[0]->deadline <= now) {
        submission *first = queue->alarms[0];
        sri_alarm_clear(queue, first);
        if (first->lane != NULL && sri_queue_claim(queue, first)) return first;
    }
    return NULL;
}

/* Answers those whose deadlines have passed; false when there were none. */
static bool answer_expired(sri_queue *queue, const sr_error *error) {
    bool some = false;
    for (submission *each; (each = take_expired(queue)) != NULL; some = true) {
        pthread_mutex_unlock(&queue->mutex);
        sri_queue_answer(each, SR_ERR_TIMEOUT, error);
        pthread_mutex_lock(&queue->mutex);
        sri_queue_finish(queue, each, SR_ERR_TIMEOUT);
    }
    return some;
}

static void sleep_until_next(sri_queue *queue) {
    if (queue->alarm_count == 0) {
        pthread_cond_wait(&queue->alarmed, &queue->mutex);
        return;
    }
    uint64_t deadline = queue->alarms[0]->deadline;
    struct timespec until = {(time_t)(deadline / 1000000000u), (long)(deadline % 1000000000u)};
    pthread_cond_timedwait(&queue->alarmed, &queue->mutex, &until);
}

static void *keep(void *argument) {
    sri_queue *queue = argument;
    sr_error error;
    sri_fail(&error, SR_ERR_TIMEOUT, "deadline", "%s", SRI_LATE);
    pthread_mutex_lock(&queue->mutex);
    while (!queue->closing) {
        if (answer_expired(queue, &error))
            sri_queue_tell(queue);
        else
            sleep_until_next(queue);
    }
    pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

sr_status sri_alarm_start(sri_queue *queue, sr_error *error) {
    if (queue->keeping) return SR_OK;
    int failed = pthread_create(&queue->keeper, NULL, keep, queue);
    if (failed != 0)
        return sri_fail_errno(error, failed, "deadline", "cannot start the thread of deadlines");
    queue->keeping = true;
    return SR_OK;
}
