/* Objects much larger than the memory budget: what can be read in bounded memory is, what cannot is refused
 * at once, naming both sizes. The object is a sparse file of 2 GiB with a mark every 32 MiB, the budget
 * 64 MiB. Peak resident memory only grows, so what must stay small runs first. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <penstock/penstock.h>

#include "scratch.h"

#define MIB ((uint64_t)1 << 20)
#define SIZE ((uint64_t)(2048 * MIB + 1001)) /* the tail is no multiple of anything */
#define STRIDE (32 * MIB)
#define BUDGET (64 * MIB)
#define PEAK_MIB ((uint64_t)128)
#define KEY PST_STR("big")

static const char *const schemes[] = {"file", "direct"};
#define SCHEMES (sizeof(schemes) / sizeof(schemes[0]))

struct world {
    pst_context *context;
    pst_store *store;
};

static uint64_t mark_of(uint64_t offset)
{
    return (offset + 1) * 0x9e3779b97f4a7c15u;
}

/* At every multiple of STRIDE, and at the very end. */
static int setup(void **state)
{
    int rc = scratch_setup(state);
    int fd = open(scratch_path(*state, "big"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)SIZE), 0);
    for (uint64_t at = 0; at < SIZE; at += STRIDE) {
        uint64_t mark = mark_of(at);
        assert_int_equal(pwrite(fd, &mark, sizeof(mark), (off_t)at), sizeof(mark));
    }
    assert_int_equal(pwrite(fd, "z", 1, (off_t)SIZE - 1), 1);
    close(fd);
    return rc;
}

static void open_world(struct world *w, const char *dir, const char *scheme)
{
    const char *const dirs[] = {getenv("PST_TEST_PLUGINS"), NULL};
    const pst_context_options options = {.struct_size = sizeof(options),
                                         .flags = PST_CONTEXT_ONLY_DIRS |
                                                  PST_CONTEXT_NO_ENVIRONMENT,
                                         .memory_budget_bytes = BUDGET,
                                         .plugin_dirs = dirs};
    const pst_kv root = {PST_STR("root"), pst_str_of(dir, strlen(dir))};
    pst_error err = PST_ERROR_INIT;
    char uri[32];
    int n = snprintf(uri, sizeof(uri), "%s:///", scheme);
    assert_int_equal(pst_context_new(&options, &w->context, NULL), PST_OK);
    if (pst_store_open(w->context, pst_str_of(uri, (size_t)n), &root, 1, &w->store, &err) != PST_OK)
        fail_msg("%s", err.message);
}

static uint64_t resident_mib(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return (uint64_t)usage.ru_maxrss / 1024;
}

/* `outside`: memory of the caller that was touched. */
static void close_world(struct world *w, const char *what, uint64_t outside_mib)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(w->context, &stats);
    print_message("%s: %llu MiB resident at most, %llu in flight, %llu mapped\n", what,
                  (unsigned long long)resident_mib(),
                  (unsigned long long)(stats.peak_in_flight_bytes / MIB),
                  (unsigned long long)(stats.peak_mapped_bytes / MIB));
    assert_true(stats.peak_in_flight_bytes <= BUDGET);
    assert_int_equal(stats.in_flight_bytes, 0);
    assert_true(resident_mib() < PEAK_MIB + outside_mib);
    pst_store_free(w->store);
    pst_context_free(w->context);
}

/* Are the marks in these bytes right? */
static void check_bytes(const char *bytes, uint64_t offset, size_t len)
{
    uint64_t at = (offset + STRIDE - 1) / STRIDE * STRIDE;
    for (; at < offset + len; at += STRIDE) {
        uint64_t mark = mark_of(at);
        size_t n = offset + len - at < sizeof(mark) ? (size_t)(offset + len - at) : sizeof(mark);
        assert_memory_equal(bytes + (at - offset), &mark, n);
    }
    if (offset + len == SIZE)
        assert_int_equal(bytes[len - 1], 'z');
}

static void test_stream__of_2_gib_stays_within_64_mib(void **state)
{
    for (size_t i = 0; i < SCHEMES; i++) {
        struct world w;
        pst_reader *reader = NULL;
        pst_buffer *buffer = NULL;
        uint64_t at = 0;
        pst_rc rc;
        open_world(&w, *state, schemes[i]);
        rc = pst_reader_open(w.store, KEY, 0, PST_UNKNOWN, NULL, NULL, &reader, NULL);
        assert_int_equal(rc, PST_OK);
        while ((rc = pst_reader_next(reader, &buffer, NULL)) == PST_OK && buffer) {
            check_bytes(pst_buffer_data(buffer), at, pst_buffer_size(buffer));
            at += pst_buffer_size(buffer);
            pst_buffer_unref(buffer);
        }
        assert_int_equal(rc, PST_OK);
        assert_int_equal(at, SIZE);
        pst_reader_free(reader);
        close_world(&w, schemes[i], 0);
    }
}

static void test_stream__with_as_much_ahead_as_there_may_be_stays_there_too(void **state)
{
    const pst_read_options options = {
        .struct_size = sizeof(options), .part_bytes = 4 * MIB, .max_in_flight = 64};
    char *dst = malloc(MIB);
    for (size_t i = 0; i < SCHEMES; i++) {
        struct world w;
        pst_reader *reader = NULL;
        uint64_t at = 0;
        size_t n = 0;
        open_world(&w, *state, schemes[i]);
        assert_int_equal(
            pst_reader_open(w.store, KEY, 0, PST_UNKNOWN, &options, NULL, &reader, NULL), PST_OK);
        do {
            assert_int_equal(pst_reader_read(reader, dst, MIB, &n, NULL), PST_OK);
            if (n > 0)
                check_bytes(dst, at, n);
            at += n;
        } while (n > 0);
        assert_int_equal(at, SIZE);
        pst_reader_free(reader);
        close_world(&w, schemes[i], 0);
    }
    free(dst);
}

static void assert_says_both(const pst_error *err, uint64_t one, uint64_t other)
{
    char text[2][24];
    snprintf(text[0], sizeof(text[0]), "%llu", (unsigned long long)one);
    snprintf(text[1], sizeof(text[1]), "%llu", (unsigned long long)other);
    assert_int_equal(err->code, PST_E_OVER_BUDGET);
    if (!strstr(err->message, text[0]) || !strstr(err->message, text[1]))
        fail_msg("\"%s\" lacks %s or %s", err->message, text[0], text[1]);
}

static void test_get__of_more_than_the_budget_is_refused_naming_both(void **state)
{
    for (size_t i = 0; i < SCHEMES; i++) {
        struct world w;
        pst_error err = PST_ERROR_INIT;
        pst_buffer *buffer = NULL;
        open_world(&w, *state, schemes[i]);
        assert_int_equal(pst_get(w.store, KEY, NULL, NULL, &buffer, NULL, &err), PST_E_OVER_BUDGET);
        assert_null(buffer);
        assert_says_both(&err, SIZE, BUDGET);
        close_world(&w, schemes[i], 0);
    }
}

static void test_part__of_more_than_the_budget_is_refused_at_once_naming_both(void **state)
{
    const uint64_t part = BUDGET + 4096;
    const pst_read_options options = {.struct_size = sizeof(options), .part_bytes = part};
    for (size_t i = 0; i < SCHEMES; i++) {
        struct world w;
        pst_stats stats = {.struct_size = sizeof(stats)};
        pst_error err = PST_ERROR_INIT;
        pst_reader *reader = NULL;
        pst_buffer *buffer = NULL;
        open_world(&w, *state, schemes[i]);
        assert_int_equal(
            pst_reader_open(w.store, KEY, 0, PST_UNKNOWN, &options, NULL, &reader, &err),
            PST_E_OVER_BUDGET);
        assert_says_both(&err, part, BUDGET);
        assert_int_equal(pst_get(w.store, KEY, &options, NULL, &buffer, NULL, &err),
                         PST_E_OVER_BUDGET);
        assert_says_both(&err, part, BUDGET);
        pst_context_stats(w.context, &stats);
        assert_int_equal(stats.ops_submitted, 0);
        close_world(&w, schemes[i], 0);
    }
}

/* Last: the destination is the caller's, and larger than all else. */
static void test_get_into__of_2_gib_needs_no_more_than_the_budget_beside_it(void **state)
{
    for (size_t i = 0; i < SCHEMES; i++) {
        struct world w;
        pst_error err = PST_ERROR_INIT;
        size_t n = 0;
        char *dst = mmap(NULL, SIZE + 1, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_true(dst != MAP_FAILED);
        open_world(&w, *state, schemes[i]);
        if (pst_get_into(w.store, KEY, 0, dst, SIZE + 1, NULL, NULL, &n, NULL, &err) != PST_OK)
            fail_msg("%s", err.message);
        assert_int_equal(n, SIZE);
        check_bytes(dst, 0, n);
        munmap(dst, SIZE + 1);
        close_world(&w, schemes[i], SIZE / MIB + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream__of_2_gib_stays_within_64_mib),
        cmocka_unit_test(test_stream__with_as_much_ahead_as_there_may_be_stays_there_too),
        cmocka_unit_test(test_get__of_more_than_the_budget_is_refused_naming_both),
        cmocka_unit_test(test_part__of_more_than_the_budget_is_refused_at_once_naming_both),
        cmocka_unit_test(test_get_into__of_2_gib_needs_no_more_than_the_budget_beside_it),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
