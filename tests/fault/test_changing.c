/* Objects that change while they are read by ranges: the exact bytes of one version, or an error.
 *
 * The object is a file of blocks; each begins with the number of the generation that wrote it. A writer
 * process truncates it, grows it, rewrites it in place block by block, replaces it by rename and deletes
 * it, over and over, while this one reads it in every way that asks for more than one range. What comes
 * back must be a state that the file was in at one moment:
 *
 *     g g g g g g g g        as it was written, whole or cut to half
 *     g g g h h h h h        while generation g is written over h = g - 1
 *     g g g g g 0 0 0        grown again, the second half not written yet
 *
 * Bytes of two moments show as a third value, as a step back, or as a step where there can be none.
 *
 * Then the same changes once more, each in a known place: between two parts of a stream, and at every
 * moment before and after the plugin looks at the file or has read from it (points.c). */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <penstock/penstock.h>

#include "changing.h"
#include "points.h"
#include "scratch.h"

#define PART (8 * BLOCK)
#define ROUNDS 150u
#define KEY PST_STR("o")

/* ---- the writer -------------------------------------------------------------------------------- */

/* Pacing, so that some reads get through between two changes: up to 8 ms. */
static void pause_a_bit(struct writer *w)
{
    struct timespec pause = {0, 0};
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    pause.tv_nsec = (long)(w->random >> 33) % 8000000;
    nanosleep(&pause, NULL);
}

static void write_for_ever(struct writer *w)
{
    for (unsigned i = 0;; i++) {
        switch (i % 4) {
        case 0:
            rewrite_in_place(w);
            break;
        case 1:
            truncate_it(w);
            pause_a_bit(w);
            grow_it(w);
            break;
        case 2:
            replace_it(w);
            break;
        default:
            delete_it(w);
            pause_a_bit(w);
            replace_it(w);
        }
        pause_a_bit(w);
    }
}

static pid_t start_writer(struct writer *w)
{
    pid_t parent = getpid(), child = fork();
    assert_true(child >= 0);
    if (child > 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
        write_for_ever(w);
    _exit(1);
}

static int is_expected(pst_rc rc, const pst_error *err)
{
    if (rc == PST_OK || rc == PST_E_CHANGED || rc == PST_E_NOT_FOUND)
        return 1;
    print_message("%s\n", err->message);
    return 0;
}

/* ---- reading ----------------------------------------------------------------------------------- */

struct world {
    pst_context *context;
    pst_store *store;
};

static uint32_t at_once = 4;

static pst_read_options in_parts(void)
{
    return (pst_read_options){
        .struct_size = sizeof(pst_read_options), .part_bytes = PART, .max_in_flight = at_once};
}

static pst_rc by_get(struct world *w, pst_error *err)
{
    const pst_read_options options = in_parts();
    pst_buffer *buffer = NULL;
    struct sight sight = {.n = 0};
    pst_rc rc = pst_get(w->store, KEY, &options, NULL, &buffer, NULL, err);
    if (rc == PST_OK) {
        see(&sight, 0, pst_buffer_data(buffer), pst_buffer_size(buffer));
        assert_true(sight.n == BLOCKS || sight.n == HALF);
        judge("get", &sight);
    }
    pst_buffer_unref(buffer);
    return rc;
}

static pst_rc by_get_into(struct world *w, pst_error *err)
{
    static char dst[BLOCKS * BLOCK + 1];
    const pst_read_options options = in_parts();
    struct sight sight = {.n = 0};
    size_t n = 0;
    pst_rc rc = pst_get_into(w->store, KEY, 0, dst, sizeof(dst), &options, NULL, &n, NULL, err);
    if (rc == PST_OK) {
        see(&sight, 0, dst, n);
        assert_true(sight.n == BLOCKS || sight.n == HALF);
        judge("get_into", &sight);
    }
    return rc;
}

/* What came before an error is of one version too. */
static pst_rc by_reader(struct world *w, pst_error *err)
{
    const pst_read_options options = in_parts();
    struct sight sight = {.n = 0};
    pst_reader *reader = NULL;
    pst_buffer *buffer = NULL;
    pst_rc rc;
    assert_int_equal(pst_reader_open(w->store, KEY, 0, PST_UNKNOWN, &options, NULL, &reader, NULL),
                     PST_OK);
    while ((rc = pst_reader_next(reader, &buffer, err)) == PST_OK && buffer) {
        see(&sight, sight.n * BLOCK, pst_buffer_data(buffer), pst_buffer_size(buffer));
        pst_buffer_unref(buffer);
    }
    pst_reader_free(reader);
    assert_true(rc != PST_OK || sight.n == BLOCKS || sight.n == HALF);
    judge("reader", &sight);
    return rc;
}

static pst_rc by_ranges(struct world *w, pst_error *err)
{
    enum { N = BLOCKS * BLOCK / PART };
    const pst_ranges_options options = {
        .struct_size = sizeof(options), .max_in_flight = 4, .merge_gap_bytes = PST_UNKNOWN};
    struct sight sight = {.n = 0};
    pst_range ranges[N];
    pst_get_result results[N];
    for (size_t i = 0; i < N; i++)
        ranges[i] = (pst_range){i * PART, PART};
    pst_rc rc = pst_get_ranges(w->store, KEY, ranges, N, &options, NULL, results, NULL, err);
    for (size_t i = 0; i < N; i++) {
        assert_true(results[i].status == PST_OK || rc != PST_OK);
        if (results[i].status == PST_OK && pst_buffer_size(results[i].buffer) > 0)
            see(&sight, i * PART, pst_buffer_data(results[i].buffer),
                pst_buffer_size(results[i].buffer));
    }
    judge("get_ranges", &sight);
    pst_get_results_free(results, N);
    return rc;
}

static const struct {
    const char *name;
    pst_rc (*read)(struct world *w, pst_error *err);
} ways[] = {
    {"get", by_get}, {"get_into", by_get_into}, {"reader", by_reader}, {"get_ranges", by_ranges}};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void open_world(struct world *w, const char *dir, const char *scheme)
{
    const char *const dirs[] = {getenv("PST_TEST_PLUGINS"), NULL};
    const pst_context_options options = {.struct_size = sizeof(options),
                                         .flags = PST_CONTEXT_ONLY_DIRS |
                                                  PST_CONTEXT_NO_ENVIRONMENT,
                                         .memory_budget_bytes = (uint64_t)64 << 20,
                                         .blocking_threads = 4,
                                         .first_read_bytes = PART,
                                         .plugin_dirs = dirs};
    const pst_kv root = {PST_STR("root"), pst_str_of(dir, strlen(dir))};
    pst_error err = PST_ERROR_INIT;
    char uri[32];
    int n = snprintf(uri, sizeof(uri), "%s:///", scheme);
    assert_int_equal(pst_context_new(&options, &w->context, NULL), PST_OK);
    if (pst_store_open(w->context, pst_str_of(uri, (size_t)n), &root, 1, &w->store, &err) != PST_OK)
        fail_msg("%s", err.message);
}

static void close_world(struct world *w)
{
    pst_store_free(w->store);
    pst_context_free(w->context);
}

static struct writer writer_in(const char *dir)
{
    struct writer w = {.path = scratch_path(dir, "o"),
                       .temporary = scratch_path(dir, "new"),
                       .generation = 1,
                       .random = 1};
    replace_it(&w);
    return w;
}

static void read_what_changes(const char *dir, const char *scheme)
{
    struct writer w = writer_in(dir);
    struct world world;
    size_t n_ok[WAYS] = {0}, n_failed[WAYS] = {0};
    int status;
    pid_t child = start_writer(&w); /* before this process has threads */
    open_world(&world, dir, scheme);
    for (unsigned i = 0; i < ROUNDS * WAYS; i++) {
        pst_error err = PST_ERROR_INIT;
        pst_rc rc = ways[i % WAYS].read(&world, &err);
        assert_true(is_expected(rc, &err));
        if (rc == PST_OK)
            n_ok[i % WAYS]++;
        else
            n_failed[i % WAYS]++;
    }
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status)); /* and not by a failure of its own */
    w.generation = 1u << 30;
    replace_it(&w);
    for (size_t i = 0; i < WAYS; i++) {
        print_message("%s %s: %zu whole, %zu refused\n", scheme, ways[i].name, n_ok[i],
                      n_failed[i]);
        assert_true(n_failed[i] > 0); /* else nothing was tried */
        assert_int_equal(ways[i].read(&world, NULL), PST_OK);
    }
    close_world(&world);
}

/* ---- in a known place -------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*change)(struct writer *);
    pst_rc rc;
} changes[] = {
    {"truncated", truncate_it, PST_E_CHANGED},
    {"grown", grow_it, PST_E_CHANGED},
    {"rewritten", rewrite_in_place, PST_E_CHANGED},
    {"rewritten by half", rewrite_half, PST_E_CHANGED},
    {"rewritten far behind", rewrite_a_later_block, PST_E_CHANGED},
    {"replaced", replace_it, PST_E_CHANGED},
    {"deleted", delete_it, PST_E_NOT_FOUND},
};

static void change_between_parts(const char *dir, const char *scheme)
{
    struct world world;
    const pst_read_options options = {
        .struct_size = sizeof(options), .part_bytes = PART, .max_in_flight = 1};
    open_world(&world, dir, scheme);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct writer w = writer_in(dir);
        for (unsigned n_before = 1; n_before <= 3; n_before++) {
            pst_reader *reader = NULL;
            pst_buffer *buffer = NULL;
            struct sight sight = {.n = 0};
            replace_it(&w);
            assert_int_equal(
                pst_reader_open(world.store, KEY, 0, PST_UNKNOWN, &options, NULL, &reader, NULL),
                PST_OK);
            for (unsigned k = 0; k < n_before; k++) {
                assert_int_equal(pst_reader_next(reader, &buffer, NULL), PST_OK);
                see(&sight, sight.n * BLOCK, pst_buffer_data(buffer), pst_buffer_size(buffer));
                pst_buffer_unref(buffer);
            }
            changes[i].change(&w);
            for (int again = 0; again < 2; again++) {
                pst_rc rc = pst_reader_next(reader, &buffer, NULL);
                if (rc != changes[i].rc)
                    fail_msg("%s %s after %u parts: %s", scheme, changes[i].name, n_before,
                             pst_rc_name(rc));
                assert_null(buffer);
            }
            judge(changes[i].name, &sight);
            assert_int_equal(sight.n, n_before * PART / BLOCK);
            pst_reader_free(reader);
        }
    }
    close_world(&world);
}

struct planned {
    struct writer *writer;
    void (*change)(struct writer *);
};

static void carry_out(void *arg)
{
    const struct planned *planned = arg;
    planned->change(planned->writer);
}

/* One range after the other, so that the points come in the same order each time. */
static void change_at_every_point(const char *dir, const char *scheme)
{
    const size_t n_changes = sizeof(changes) / sizeof(changes[0]);
    size_t n_runs = 0, n_ok = 0;
    struct world world;
    at_once = 1;
    open_world(&world, dir, scheme);
    for (size_t i = 0; i < n_changes * WAYS; i++) {
        struct writer w = writer_in(dir);
        struct planned planned = {&w, changes[i / WAYS].change};
        int was_reached = 1;
        for (unsigned point = 1; was_reached; point++) {
            pst_error err = PST_ERROR_INIT;
            replace_it(&w);
            points_arm(point, carry_out, &planned);
            pst_rc rc = ways[i % WAYS].read(&world, &err);
            was_reached = points_disarm();
            assert_true(is_expected(rc, &err));
            assert_true(rc == PST_OK || was_reached);
            n_ok += rc == PST_OK;
            n_runs++;
        }
    }
    at_once = 4;
    print_message("%s: %zu of %zu reads went through\n", scheme, n_ok, n_runs);
    assert_true(n_runs > n_changes * WAYS * 15); /* else the points were missed */
    close_world(&world);
}

static void test_file__that_changes_is_read_as_one_version_or_not(void **state)
{
    read_what_changes(*state, "file");
}

static void test_file__changed_between_two_parts_ends_the_stream(void **state)
{
    change_between_parts(*state, "file");
}

static void test_file__changed_at_any_point_is_one_version_or_not(void **state)
{
    change_at_every_point(*state, "file");
}

static void test_direct__file_changed_at_any_point_is_one_version_or_not(void **state)
{
    change_at_every_point(*state, "direct");
}

static void test_direct__file_that_changes_is_read_as_one_version_or_not(void **state)
{
    read_what_changes(*state, "direct");
}

static void test_direct__file_changed_between_two_parts_ends_the_stream(void **state)
{
    change_between_parts(*state, "direct");
}

#define CHANGING_TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHANGING_TEST(test_file__that_changes_is_read_as_one_version_or_not),
        CHANGING_TEST(test_file__changed_between_two_parts_ends_the_stream),
        CHANGING_TEST(test_file__changed_at_any_point_is_one_version_or_not),
        CHANGING_TEST(test_direct__file_that_changes_is_read_as_one_version_or_not),
        CHANGING_TEST(test_direct__file_changed_between_two_parts_ends_the_stream),
        CHANGING_TEST(test_direct__file_changed_at_any_point_is_one_version_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
