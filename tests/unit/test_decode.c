/* Decompressing reads of an object that changes, or whose version nothing can pin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>
#include <zstd.h>

#include "codec/seek_table.h"
#include "readstore.h"

#define KIB ((size_t)1 << 10)
#define FRAME (64 * KIB)
#define N_FRAMES 8u
#define MIB ((uint64_t)1 << 20)
#ifndef SHADOW_FACTOR
#define SHADOW_FACTOR 1
#endif

static const pst_str key = {"k", 1};
static const pst_read_options zstd = {.struct_size = sizeof(zstd), .decode = PST_DECODE_ZSTD};

struct fixture {
    pst_context *context;
    pst_store *store;
    unsigned char *object;
    unsigned char content[N_FRAMES * FRAME];
};

/* Frames of noise, so that they are long, then `n_empty` of nothing, so that the table is. */
static void make_object(struct fixture *f, unsigned n_empty)
{
    struct pst_seek_log log;
    size_t len = 0, room = N_FRAMES * ZSTD_compressBound(FRAME) + n_empty * 32 + 17 +
                           8 * (N_FRAMES + n_empty);
    uint64_t x = 88172645463325252u;
    f->object = malloc(room);
    assert_non_null(f->object);
    pst_seek_log_init(&log);
    for (size_t i = 0; i < sizeof(f->content); i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        f->content[i] = (unsigned char)x;
    }
    for (unsigned i = 0; i < N_FRAMES + n_empty; i++) {
        size_t in_len = i < N_FRAMES ? FRAME : 0;
        size_t n = ZSTD_compress(f->object + len, room - len, f->content + (in_len ? i * FRAME : 0),
                                 in_len, 1);
        assert_false(ZSTD_isError(n));
        assert_int_equal(pst_seek_log_add(&log, (uint32_t)n, (uint32_t)in_len, NULL), PST_OK);
        len += n;
    }
    assert_int_equal(pst_seek_log_end(&log, NULL), PST_OK);
    memcpy(f->object + len, log.bytes.data, log.bytes.len);
    rd.body = f->object;
    rd.size = len + log.bytes.len;
    pst_seek_log_fini(&log);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    readstore_reset();
    make_object(f, 0);
    f->context = readstore_context(64 * MIB);
    f->store = readstore_open(f->context);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(f->context, &stats);
    assert_int_equal(stats.in_flight_bytes, 0);
    assert_int_equal(stats.handed_out_bytes, 0);
    pst_store_free(f->store);
    pst_context_free(f->context);
    free(f->object);
    free(f);
    return 0;
}

static pst_rc get_range(struct fixture *f, uint64_t offset, uint64_t length, uint32_t flags,
                        pst_error *err)
{
    pst_buffer *buffer = NULL;
    pst_read_options options = zstd;
    options.flags = flags;
    pst_rc rc = pst_get_range(f->store, key, offset, length, &options, NULL, &buffer, NULL, err);
    if (rc == PST_OK) {
        assert_int_equal(pst_buffer_size(buffer), length);
        assert_memory_equal(pst_buffer_data(buffer), f->content + offset, length);
    }
    pst_buffer_unref(buffer);
    return rc;
}

static void test_decode__a_range_takes_two_reads_of_one_version(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(get_range(f, FRAME + 5, 10, 0, NULL), PST_OK);
    assert_int_equal(readstore_reads(), 2);
    assert_int_equal(rd.seen[1].has_if_match, 1);
    assert_in_range(rd.n_bytes, 1, 64 * KIB + FRAME + 100);
}

static void test_decode__a_table_longer_than_the_first_read_takes_one_more(void **state)
{
    struct fixture *f = *state;
    free(f->object);
    make_object(f, 9000);
    assert_int_equal(get_range(f, 3, 5, 0, NULL), PST_OK);
    assert_int_equal(readstore_reads(), 3);
    assert_int_equal(rd.seen[1].has_if_match, 1);
    assert_int_equal(rd.seen[2].has_if_match, 1);
}

static void test_decode__replaced_between_the_reads_is_changed(void **state)
{
    struct fixture *f = *state;
    for (unsigned is_longer = 0; is_longer < 2; is_longer++) {
        pst_error err = PST_ERROR_INIT;
        rd.change_at = readstore_reads() + 2;
        rd.size_change = -(int64_t)is_longer;
        assert_int_equal(get_range(f, 5, 10, 0, &err), PST_E_CHANGED);
        assert_string_equal(err.message, "GET rd://box/k: the object changed while it was read");
        rd.size += is_longer;
    }
}

static void test_decode__replaced_where_if_match_is_ignored_is_changed(void **state)
{
    struct fixture *f = *state;
    rd.ignores_if_match = 1;
    rd.change_at = 2;
    assert_int_equal(get_range(f, 5, 10, 0, NULL), PST_E_CHANGED);
}

static void test_decode__what_cannot_be_pinned_comes_by_one_read(void **state)
{
    static const uint32_t strengths[] = {PST_ETAG_WEAK, PST_ETAG_NONE};
    struct fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        rd.etag_strength = strengths[i];
        rd.change_at = readstore_reads() + 2; /* the first read of the end plays no part any more */
        assert_int_equal(get_range(f, FRAME + 5, 10, 0, NULL), PST_OK);
    }
    rd.change_at = 0;
    unsigned n = readstore_reads();
    uint64_t bytes = rd.n_bytes;
    assert_int_equal(get_range(f, FRAME + 5, 10, PST_READ_ALLOW_UNPINNED, NULL), PST_OK);
    assert_int_equal(readstore_reads() - n, 2);
    assert_in_range(rd.n_bytes - bytes, 1, 64 * KIB + FRAME + 100);
}

/* Where the table was read by a request of its own, it may be that of another object. */
static void test_decode__a_table_that_is_not_the_one_found_is_data_loss(void **state)
{
    static const uint32_t counts[] = {0, N_FRAMES - 1, N_FRAMES + 1, 0x8000001u, 0xffffffffu};
    struct fixture *f = *state;
    const size_t table_bytes = 17 + 8 * N_FRAMES;
    unsigned char *own = malloc(table_bytes), *footer = own + table_bytes - PST_SEEK_FOOTER_BYTES;
    struct pst_seek_table *table = NULL;
    assert_non_null(own);
    memcpy(own, f->object + rd.size - table_bytes, table_bytes);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]) + 3; i++) {
        unsigned char kept[PST_SEEK_FOOTER_BYTES];
        pst_error err = PST_ERROR_INIT;
        memcpy(kept, footer, sizeof(kept));
        for (unsigned k = 0; k < 4 && i >= 3; k++)
            footer[k] = (unsigned char)(counts[i - 3] >> (8 * k));
        if (i < 3)
            footer[4 + i / 2] ^= i == 0 ? 0x80 : i == 1 ? 0x40 : 1; /* checksums, unknown, magic */
        assert_int_equal(pst_seek_table_read(own, table_bytes, rd.size, &table, &err),
                         PST_E_DATA_LOSS);
        assert_null(table);
        assert_non_null(strstr(err.message, "no seek table at offset "));
        memcpy(footer, kept, sizeof(kept));
    }
    assert_int_equal(pst_seek_table_read(own, table_bytes, rd.size, &table, NULL), PST_OK);
    free(table);
    free(own);
}

static void test_decode__whole_frames_need_no_memory_beside_their_own(void **state)
{
    struct fixture *f = *state;
    pst_store_free(f->store);
    pst_context_free(f->context);
    f->context = readstore_context(rd.size + sizeof(f->content) + FRAME / 2);
    f->store = readstore_open(f->context);
    assert_int_equal(get_range(f, 0, sizeof(f->content), 0, NULL), PST_OK);
    assert_int_equal(get_range(f, 1, sizeof(f->content) - 1, 0, NULL), PST_E_OVER_BUDGET);
}

/* Content whose length no frame tells is decompressed as a stream, here for longer than there is time. */
static void test_decode__a_stream_ends_at_the_deadline(void **state)
{
    struct fixture *f = *state;
    const pst_call hasty = {.struct_size = sizeof(hasty), .timeout_ms = 10};
    const size_t plain_len = 200 * MIB, room = MIB;
    pst_buffer *buffer = NULL;
    ZSTD_CCtx *cctx = ZSTD_createCCtx();
    unsigned char *plain = calloc(1, plain_len);
    assert_true(cctx && plain);
    pst_store_free(f->store);
    pst_context_free(f->context);
    f->context = readstore_context(1024 * MIB);
    f->store = readstore_open(f->context);
    free(f->object);
    rd.body = f->object = malloc(room);
    assert_non_null(f->object);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, 0);
    rd.size = ZSTD_compress2(cctx, f->object, room, plain, plain_len);
    assert_false(ZSTD_isError(rd.size));
    ZSTD_freeCCtx(cctx);
    free(plain);
    assert_int_equal(pst_get(f->store, key, &zstd, NULL, &buffer, NULL, NULL), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), plain_len);
    pst_buffer_unref(buffer);
    assert_int_equal(pst_get(f->store, key, &zstd, &hasty, &buffer, NULL, NULL), PST_E_DEADLINE);
    assert_null(buffer);
}

static uint64_t memory_peak(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return (uint64_t)usage.ru_maxrss * KIB;
}

/* Comes first: what later tests need would hide what this one may not. */
static void test_decode__very_small_frames_take_no_memory_each(void **state)
{
    static const unsigned char empty[8] = {0x50, 0x2a, 0x4d, 0x18}; /* may be skipped */
    const size_t n_bytes = 70000, n_empty = 2000000;
    struct fixture *f = *state;
    const size_t room = n_bytes * ZSTD_compressBound(1) + n_empty * sizeof(empty);
    size_t len = 0;
    pst_buffer *buffer = NULL;
    free(f->object);
    f->object = malloc(room);
    assert_non_null(f->object);
    for (size_t i = 0; i < n_bytes; i++)
        len += ZSTD_compress(f->object + len, room - len, f->content + i, 1, 1);
    for (size_t i = 0; i < n_empty; i++, len += sizeof(empty))
        memcpy(f->object + len, empty, sizeof(empty));
    rd.body = f->object;
    rd.size = len;
    const uint64_t before = memory_peak();
    assert_int_equal(pst_get(f->store, key, &zstd, NULL, &buffer, NULL, NULL), PST_OK);
    assert_in_range(memory_peak() - before, 0,
                    120 * MIB * SHADOW_FACTOR); /* 72 bytes for each would be 142 MiB */
    assert_int_equal(pst_buffer_size(buffer), n_bytes);
    assert_memory_equal(pst_buffer_data(buffer), f->content, n_bytes);
    pst_buffer_unref(buffer);
}

static void test_decode__failures_of_reads_are_told_once(void **state)
{
    struct fixture *f = *state;
    pst_buffer *buffer = NULL;
    for (unsigned at = 1; at <= 2; at++) {
        pst_error err = PST_ERROR_INIT;
        rd.fail_at = readstore_reads() + at;
        rd.fail_times = 1;
        rd.fail_rc = PST_E_DENIED;
        assert_int_equal(get_range(f, 5, 10, 0, &err), PST_E_DENIED);
        assert_string_equal(err.message, "GET rd://box/k: told to fail");
    }
    pst_error err = PST_ERROR_INIT;
    rd.is_missing = 1;
    assert_int_equal(pst_get(f->store, key, &zstd, NULL, &buffer, NULL, &err), PST_E_NOT_FOUND);
    assert_string_equal(err.message, "GET rd://box/k: told to fail");
    assert_int_equal(get_range(f, 5, 10, 0, &err), PST_E_NOT_FOUND);
    assert_string_equal(err.message, "GET rd://box/k: told to fail");
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(test_decode__very_small_frames_take_no_memory_each),
        WITH_STORE(test_decode__a_range_takes_two_reads_of_one_version),
        WITH_STORE(test_decode__a_table_longer_than_the_first_read_takes_one_more),
        WITH_STORE(test_decode__replaced_between_the_reads_is_changed),
        WITH_STORE(test_decode__replaced_where_if_match_is_ignored_is_changed),
        WITH_STORE(test_decode__what_cannot_be_pinned_comes_by_one_read),
        WITH_STORE(test_decode__a_table_that_is_not_the_one_found_is_data_loss),
        WITH_STORE(test_decode__whole_frames_need_no_memory_beside_their_own),
        WITH_STORE(test_decode__a_stream_ends_at_the_deadline),
        WITH_STORE(test_decode__failures_of_reads_are_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
