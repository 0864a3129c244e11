/* test_base.c - errors, buffers, arena, hash map, files, SHA-256 and the thread pool. */
#include "unit.h"

#include "base/base.h"
#include "base/histogram.h"
#include "base/poller.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void errors_are_one_line_of_whole_characters(void **state) {
    (void)state;
    sr_error error;
    assert_int_equal(sri_fail(&error, SR_ERR_FORMAT, "a\nb", "line %d\nof %s", 3, "x"),
                     SR_ERR_FORMAT);
    assert_string_equal(error.message, "line 3 of x");
    assert_string_equal(error.place, "a b");
    char place[600];
    for (size_t i = 0; i + 3 < sizeof place; i += 3) memcpy(place + i, "\xE2\x82\xAC", 3);
    place[sizeof place - 3] = '\0';
    sri_fail(&error, SR_ERR_IO, place, "x");
    assert_int_equal(strlen(error.place), 255); /* 85 whole characters of 3 bytes */
    sri_fail(&error, SR_ERR_IO, place + 1, "x");
    assert_memory_equal(error.place, "??\xE2\x82\xAC", 5); /* the first character was cut off */
    assert_int_equal(strlen(error.place), 2 + 84 * 3);
    sri_fail(&error, SR_ERR_IO, NULL, "bell \a, csi \xC2\x9B, latin \xE9t\xE9, euro \xE2\x82\xAC");
    assert_string_equal(error.message, "bell  , csi   , latin ?t?, euro \xE2\x82\xAC");
    assert_int_equal(sri_fail(NULL, SR_ERR_IO, NULL, "x"), SR_ERR_IO);
}

static void status_names_cover_every_code(void **state) {
    (void)state;
    assert_string_equal(sr_status_name(SR_OK), "SR_OK");
    assert_string_equal(sr_status_name(SR_ERR_CANCELLED), "SR_ERR_CANCELLED");
    assert_string_equal(sr_status_name((sr_status)99), "SR_ERR_?");
}

static void sha256_matches_the_published_vectors(void **state) {
    (void)state;
    char hex[65];
    sri_sha256 sha;
    sri_sha256_init(&sha);
    sri_sha256_hex(&sha, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sri_sha256_init(&sha);
    sri_sha256_update(&sha, "abc", 3);
    sri_sha256_hex(&sha, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sri_sha256_init(&sha);
    for (int i = 0; i < 1000000 / 8; i++) sri_sha256_update(&sha, "aaaaaaaa", 8);
    sri_sha256_hex(&sha, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void map_agrees_with_a_plain_array_under_churn(void **state) {
    (void)state;
    enum { KEYS = 2000, STEPS = 200000 };
    static char keys[KEYS][12];
    static int64_t expected[KEYS]; /* -1: absent */
    sri_map map = {0};
    for (int i = 0; i < KEYS; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        expected[i] = -1;
    }
    uint32_t random = 1;
    for (int step = 0; step < STEPS; step++) {
        random = random * 1664525u + 1013904223u;
        int i = (int)(random >> 8) % KEYS;
        if ((random & 128) != 0) {
            assert_true(sri_map_put(&map, sr_str_of(keys[i]), (uint64_t)step));
            expected[i] = step;
        } else {
            assert_int_equal(sri_map_remove(&map, sr_str_of(keys[i])), expected[i] >= 0);
            expected[i] = -1;
        }
    }
    size_t present = 0;
    for (int i = 0; i < KEYS; i++) {
        uint64_t value = 0;
        assert_int_equal(sri_map_get(&map, sr_str_of(keys[i]), &value), expected[i] >= 0);
        if (expected[i] >= 0) assert_int_equal(value, expected[i]);
        present += expected[i] >= 0;
    }
    assert_int_equal(map.count, present);
    assert_true(map.capacity <= 4096);
    sri_map_free(&map);
}

static void map_holds_the_empty_key(void **state) {
    (void)state;
    sri_map map = {0};
    assert_false(sri_map_get(&map, (sr_str){NULL, 0}, NULL));
    assert_true(sri_map_put(&map, (sr_str){NULL, 0}, 7));
    assert_true(sri_map_get(&map, (sr_str){"", 0}, NULL));
    sri_map_free(&map);
}

static void buffer_stops_at_its_maximum(void **state) {
    (void)state;
    sri_buffer buffer = {.max = 10};
    assert_true(sri_buffer_append_str(&buffer, "12345"));
    assert_false(sri_buffer_append_str(&buffer, "678901"));
    assert_int_equal(buffer.len, 5);
    assert_true(sri_buffer_format(&buffer, "%d", 67890));
    assert_memory_equal(buffer.data, "1234567890", 10);
    sri_buffer_free(&buffer);
}

static void buffer_formats_what_is_long(void **state) {
    (void)state;
    sri_buffer buffer = {0};
    assert_true(sri_buffer_format(&buffer, "%0500d", 7));
    assert_int_equal(buffer.len, 500);
    assert_int_equal(buffer.data[499], '7');
    sri_buffer_free(&buffer);
}

static void arena_keeps_what_it_gave(void **state) {
    (void)state;
    sri_arena arena = {0};
    sr_str copies[1000];
    for (int i = 0; i < 1000; i++) {
        char text[200];
        memset(text, 'a' + i % 26, sizeof text);
        copies[i] = sri_arena_copy(&arena, (sr_str){text, (size_t)(i % 200)});
        assert_non_null(copies[i].data);
    }
    for (int i = 0; i < 1000; i++)
        for (size_t j = 0; j < copies[i].len; j++)
            assert_int_equal(copies[i].data[j], 'a' + i % 26);
    assert_non_null(sri_arena_alloc(&arena, 1000000));
    assert_null(sri_arena_alloc(&arena, SIZE_MAX - 4));
    sri_arena_free(&arena);
}

static void files_that_cannot_be_mapped_are_explained(void **state) {
    (void)state;
    sri_mapping mapping;
    sr_error error;
    assert_int_equal(sri_map_file("/nonexistent/file", &mapping, &error), SR_ERR_NOT_FOUND);
    assert_non_null(strstr(error.message, "/nonexistent/file"));
    assert_int_equal(sri_map_file("/tmp", &mapping, &error), SR_ERR_FORMAT);
    assert_int_equal(sri_map_file("/dev/null", &mapping, &error), SR_ERR_FORMAT);
    sri_buffer buffer = {0};
    assert_int_equal(sri_read_file("/dev/zero", 100000, &buffer, &error), SR_ERR_LIMIT);
    assert_int_equal(sri_read_file("/tmp", 100, &buffer, &error), SR_ERR_FORMAT);
    sri_buffer_free(&buffer);
}

static void write_pattern(int descriptor, size_t size) {
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(i * 7 + i / 256);
        assert_int_equal(write(descriptor, &byte, 1), 1);
    }
    close(descriptor);
}

static void assert_reads(const char *path, size_t size) {
    sri_buffer buffer = {0};
    assert_int_equal(sri_read_file(path, size, &buffer, NULL), SR_OK);
    assert_int_equal(buffer.len, size);
    for (size_t i = 0; i < size; i++)
        assert_int_equal((uint8_t)buffer.data[i], (uint8_t)(i * 7 + i / 256));
    sri_buffer_free(&buffer);
    if (size == 0) return;
    assert_int_equal(sri_read_file(path, size - 1, &buffer, NULL), SR_ERR_LIMIT);
    sri_buffer_free(&buffer);
}

static void files_are_read_whole_whatever_they_say_of_their_size(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 65600, 150000};
    for (size_t i = 0; i < SRI_COUNT(sizes); i++) {
        char path[] = "/tmp/sr-base-XXXXXX";
        write_pattern(mkstemp(path), sizes[i]);
        assert_reads(path, sizes[i]);
        unlink(path);
    }
    int ends[2]; /* a pipe says nothing */
    assert_int_equal(pipe(ends), 0);
    write_pattern(ends[1], 5000);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    sri_buffer buffer = {0};
    assert_int_equal(sri_read_file(path, 5000, &buffer, NULL), SR_OK);
    assert_int_equal(buffer.len, 5000);
    close(ends[0]);
    sri_buffer_free(&buffer);
}

typedef struct {
    atomic_int *counts, inside, most;
    atomic_int in_slot[4];
} pool_job;

static void count_task(void *argument, size_t task, int slot) {
    pool_job *job = argument;
    assert_true(slot >= 0 && slot < 4);
    assert_int_equal(atomic_fetch_add(&job->in_slot[slot], 1), 0); /* nobody else is in this slot */
    atomic_fetch_add(&job->counts[task], 1);
    atomic_fetch_sub(&job->in_slot[slot], 1);
}

typedef struct {
    sri_pool *pool;
    pool_job *job;
} pool_caller;

enum { TASKS = 5000 };

static void *call_pool(void *argument) {
    pool_caller *caller = argument;
    sri_pool_run(caller->pool, count_task, caller->job, TASKS);
    return NULL;
}

static void pool_runs_every_task_once_for_many_callers(void **state) {
    (void)state;
    sri_pool *pool;
    assert_int_equal(sri_pool_open(4, &pool, NULL), SR_OK);
    pool_job job = {.counts = calloc(TASKS, sizeof(atomic_int))};
    pool_caller caller = {pool, &job};
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_pool, &caller), 0);
    for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < TASKS; i++) assert_int_equal(job.counts[i], 6);
    free(job.counts);
    sri_pool_close(&pool);
    assert_null(pool);
}

enum { PHASES = 200, CHUNKS = 37 };

typedef struct {
    sri_pool *pool;
    atomic_int counts[PHASES][CHUNKS];
    int phase;
    atomic_int leaders;
} team_work;

static void count_chunk(void *argument, size_t chunk) {
    team_work *work = argument;
    atomic_fetch_add(&work->counts[work->phase][chunk], 1);
}

/* Each phase must see all of the one before. */
static void lead_phases(void *argument, sri_team *team, int slot) {
    (void)slot;
    team_work *work = argument;
    atomic_fetch_add(&work->leaders, 1);
    for (work->phase = 0; work->phase < PHASES; work->phase++) {
        sri_team_run(team, count_chunk, work, CHUNKS);
        for (int i = 0; i < CHUNKS; i++) assert_int_equal(work->counts[work->phase][i], 1);
    }
}

static void *lead_often(void *pool) {
    for (int round = 0; round < 20; round++) {
        team_work *work = calloc(1, sizeof *work);
        sri_pool_lead(pool, lead_phases, work);
        assert_int_equal(work->leaders, 1);
        free(work);
    }
    return NULL;
}

static void team_runs_every_chunk_of_every_phase_once(void **state) {
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        sri_pool *pool;
        assert_int_equal(sri_pool_open(threads, &pool, NULL), SR_OK);
        pthread_t callers[3];
        for (int i = 0; i < 3; i++)
            assert_int_equal(pthread_create(&callers[i], NULL, lead_often, pool), 0);
        for (int i = 0; i < 3; i++) pthread_join(callers[i], NULL);
        assert_false(sri_pool_wanted(pool));
        sri_pool_close(&pool);
    }
}

static void pool_refuses_a_thread_count_out_of_range(void **state) {
    (void)state;
    sri_pool *pool;
    sr_error error;
    assert_int_equal(sri_pool_open(0, &pool, &error), SR_ERR_INVALID);
    assert_int_equal(sri_pool_open(100000, &pool, &error), SR_ERR_INVALID);
    assert_non_null(strstr(error.message, "100000"));
}

static void histogram_quantiles_are_within_a_part_in_128(void **state) {
    (void)state;
    sri_histogram *all = calloc(1, sizeof *all), *half = calloc(1, sizeof *half);
    assert_true(isnan(sri_histogram_quantile(all, 0.5)));
    /* 1, 1.01, 1.01^2 ... nanoseconds up to 20 minutes, every second one in another histogram */
    static double values[3000];
    size_t count = 0;
    for (double value = 1; value < 1.2e12; value *= 1.01) values[count++] = value;
    for (size_t i = 0; i < count; i++)
        sri_histogram_add(i % 2 == 0 ? all : half, (uint64_t)values[i]);
    sri_histogram_merge(all, half);
    assert_int_equal(all->count, count);
    static const double quantiles[] = {0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1};
    for (size_t i = 0; i < SRI_COUNT(quantiles); i++) {
        size_t rank = (size_t)ceil(quantiles[i] * (double)count);
        double exact = floor(values[rank == 0 ? 0 : rank - 1]);
        double found = sri_histogram_quantile(all, quantiles[i]);
        assert_true(found >= exact);
        assert_true(found <= exact * (1 + 1.0 / 128));
    }
    assert_true(sri_histogram_quantile(all, 1) == (double)all->max);
    sri_histogram_add(all, UINT64_MAX); /* longer than it tells apart */
    assert_int_equal(all->count, count + 1);
    free(all);
    free(half);
}

static void poller_tells_what_came_once(void **state) {
    (void)state;
    sri_poller poller;
    sri_poll_event events[4];
    int pair[2];
    char byte;
    assert_int_equal(sri_poller_open(&poller, NULL), SR_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(sri_poller_add(&poller, pair[0], &pair[0], NULL), SR_OK);
    assert_int_equal(sri_poller_wait(&poller, events, 4, 0), 1);
    assert_true(events[0].writable && !events[0].readable && !events[0].closed);
    assert_ptr_equal(events[0].user, &pair[0]);
    sri_exact_timers();
    uint64_t before = sri_nanoseconds();
    assert_int_equal(sri_poller_wait(&poller, events, 4, 2000000), 0); /* it has been told */
    assert_true(sri_nanoseconds() - before >= 2000000);
    assert_int_equal(write(pair[1], "x", 1), 1);
    assert_int_equal(sri_poller_wait(&poller, events, 4, SRI_POLL_FOREVER), 1);
    assert_true(events[0].readable && !events[0].closed);
    assert_int_equal(read(pair[0], &byte, 1), 1);
    close(pair[1]);
    assert_true(sri_poller_wait(&poller, events, 4, 1000000000) >= 1);
    assert_true(events[0].readable && events[0].closed);
    close(pair[0]);
    sri_poller_close(&poller);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_one_line_of_whole_characters),
        cmocka_unit_test(status_names_cover_every_code),
        cmocka_unit_test(sha256_matches_the_published_vectors),
        cmocka_unit_test(map_agrees_with_a_plain_array_under_churn),
        cmocka_unit_test(map_holds_the_empty_key),
        cmocka_unit_test(buffer_stops_at_its_maximum),
        cmocka_unit_test(buffer_formats_what_is_long),
        cmocka_unit_test(arena_keeps_what_it_gave),
        cmocka_unit_test(files_that_cannot_be_mapped_are_explained),
        cmocka_unit_test(files_are_read_whole_whatever_they_say_of_their_size),
        cmocka_unit_test(pool_runs_every_task_once_for_many_callers),
        cmocka_unit_test(team_runs_every_chunk_of_every_phase_once),
        cmocka_unit_test(histogram_quantiles_are_within_a_part_in_128),
        cmocka_unit_test(poller_tells_what_came_once),
        cmocka_unit_test(pool_refuses_a_thread_count_out_of_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
