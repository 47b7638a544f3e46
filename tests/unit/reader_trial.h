/* reader_trial.h - a streaming reader of a store whose every read the test can pause, fail or change. */
#ifndef PST_TEST_READER_TRIAL_H
#define PST_TEST_READER_TRIAL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "readstore.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define SIZE (10 * 64 * KIB + 1000)

static const pst_str key = {"k", 1};

struct fixture {
    pst_context *context;
    pst_store *store;
};

static inline int setup(void **state)
{
    readstore_reset();
    rd.size = SIZE;
    *state = calloc(1, sizeof(struct fixture));
    return 0;
}

static inline pst_store *store_with(void **state, uint64_t budget_bytes)
{
    struct fixture *f = *state;
    f->context = readstore_context(budget_bytes);
    f->store = readstore_open(f->context);
    return f->store;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    pst_store_free(f->store);
    pst_context_free(f->context);
    free(f);
    return 0;
}

static inline pst_read_options options_of(uint64_t part_bytes, uint32_t n)
{
    return (pst_read_options){
        .struct_size = sizeof(pst_read_options), .part_bytes = part_bytes, .max_in_flight = n};
}

static inline pst_reader *open_reader(pst_store *store, uint64_t offset, uint64_t length,
                                      const pst_read_options *options, const pst_call *call)
{
    pst_error err = PST_ERROR_INIT;
    pst_reader *reader = NULL;
    if (pst_reader_open(store, key, offset, length, options, call, &reader, &err) != PST_OK)
        fail_msg("%s", err.message);
    return reader;
}

static inline pst_reader *open_parts(pst_store *store, const pst_read_options *options)
{
    return open_reader(store, 0, PST_UNKNOWN, options, NULL);
}

static inline pst_read_info info_of(pst_reader *reader)
{
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_reader_info(reader, &info);
    return info;
}

static inline void assert_says(const pst_error *err, const char *what)
{
    if (!strstr(err->message, what))
        fail_msg("\"%s\" lacks \"%s\"", err->message, what);
}

/* Take everything by next() and compare; returns how much there was, *rc how it ended. */
static inline uint64_t drain(pst_reader *reader, unsigned version, uint64_t offset, pst_rc *rc,
                             pst_error *err)
{
    uint64_t n = 0;
    for (;;) {
        pst_buffer *buffer = NULL;
        *rc = pst_reader_next(reader, &buffer, err);
        if (!buffer)
            return n;
        assert_true(read_is(pst_buffer_data(buffer), pst_buffer_size(buffer), version, offset + n));
        n += pst_buffer_size(buffer);
        pst_buffer_unref(buffer);
    }
}

static inline void assert_drains(pst_reader *reader, uint64_t offset, uint64_t length)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;
    uint64_t n = drain(reader, 1, offset, &rc, &err);
    if (rc != PST_OK)
        fail_msg("%s", err.message);
    assert_int_equal(n, length);
}

static inline uint64_t peak_of(void **state)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(((struct fixture *)*state)->context, &stats);
    assert_int_equal(stats.in_flight_bytes, 0);
    return stats.peak_in_flight_bytes;
}

#define READER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
