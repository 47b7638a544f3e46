/* Bytes in, a seekable zstd object out: whatever the pieces, the workers and the memory. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zstd.h>

#include "codec/seek_table.h"
#include "core/store.h"
#include "io/compress.h"
#include "io/compress_plan.h"
#include "io/room.h"
#include "memstore.h"
#include "torture.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define FRAME (64 * KIB)

static const struct pst_limit never = {0, NULL};

struct fixture {
    pst_context *context;
    pst_store *store;
    struct pst_port *port;
};

/* What comes out. */
struct sink {
    unsigned char *at;
    size_t len, room;
    pst_rc fail_with; /* ... the n-th emit */
    unsigned fail_at, n_emits;
    struct pst_port *port; /* takes so much of its budget for each emit, as a part would */
    uint64_t part_bytes;
};

static unsigned char text[3 * MIB];

static int setup_budget(void **state, uint64_t budget_bytes)
{
    struct fixture *f = calloc(1, sizeof(*f));
    unsigned seed = 1;
    assert_non_null(f);
    memstore_reset();
    f->context = memstore_context(budget_bytes);
    f->store = memstore_open(f->context);
    assert_int_equal(pst_store_port(f->store, &f->port, NULL), PST_OK);
    for (size_t i = 0; i < sizeof(text); i++) {
        seed = seed * 1103515245u + 12345u;
        text[i] = (unsigned char)("etaoin shrdlu"[(seed >> 16) % 13]);
    }
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_budget(state, 64 * MIB);
}

static int setup_small_budget(void **state)
{
    return setup_budget(state, 300 * KIB);
}

static pst_stats stats_of(const struct fixture *f)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(f->context, &stats);
    return stats;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    while (stats_of(f).in_flight_bytes >
           0) /* of frames that a runner still has; else it hangs here */
        sched_yield();
    pst_port_unref(f->port);
    pst_store_free(f->store);
    pst_context_free(f->context);
    free(f);
    memstore_reset();
    return 0;
}

static pst_rc take(void *arg, const void *data, size_t len)
{
    struct sink *sink = arg;
    if (++sink->n_emits == sink->fail_at)
        return sink->fail_with;
    if (sink->part_bytes > 0) {
        pst_rc rc = pst_room_reserve(&sink->port->core->budget, sink->part_bytes, &never);
        assert_int_equal(rc, PST_OK);
    }
    if (sink->len + len > sink->room) {
        sink->room = sink->room * 2 + len;
        unsigned char *larger = realloc(sink->at, sink->room);
        assert_non_null(larger);
        sink->at = larger;
    }
    memcpy(sink->at + sink->len, data, len);
    sink->len += len;
    if (sink->part_bytes > 0)
        pst_budget_release(&sink->port->core->budget, sink->part_bytes);
    return PST_OK;
}

/* Compress `len` bytes of text, `step` at a time. */
static pst_rc compress_to(const struct fixture *f, const pst_write_options *options, size_t len,
                          size_t step, struct sink *sink, pst_error *err)
{
    struct pst_compressor *c = NULL;
    pst_rc rc = pst_compressor_new(f->port, options, take, sink, &c, err);
    for (size_t at = 0; rc == PST_OK && at < len; at += step)
        rc = pst_compressor_write(c, text + at, len - at < step ? len - at : step, NULL, &never,
                                  err);
    if (rc == PST_OK)
        rc = pst_compressor_finish(c, &never, err);
    pst_compressor_free(c);
    return rc;
}

static pst_write_options options_of(int level, uint32_t workers, size_t frame_bytes)
{
    return (pst_write_options){.struct_size = sizeof(pst_write_options),
                               .zstd_level = level,
                               .zstd_workers = workers,
                               .zstd_frame_bytes = frame_bytes};
}

/* libzstd itself reads it, frame by frame, and the table says the same. */
static void require_object(const struct sink *sink, const void *content, size_t len,
                           size_t frame_bytes)
{
    uint64_t table_bytes = 0;
    struct pst_seek_table *table = NULL;
    char *out = malloc(len + 1);
    size_t n_frames = len == 0 ? 1 : (len + frame_bytes - 1) / frame_bytes, done = 0;
    assert_non_null(out);
    assert_int_equal(ZSTD_decompress(out, len, sink->at, sink->len), len);
    assert_memory_equal(out, content, len);
    free(out);

    assert_true(sink->len >= PST_SEEK_FOOTER_BYTES);
    assert_int_equal(pst_seek_table_find(sink->at + sink->len - PST_SEEK_FOOTER_BYTES, sink->len,
                                         &table_bytes, NULL),
                     PST_OK);
    assert_int_equal(table_bytes, 17 + 8 * n_frames);
    assert_int_equal(pst_seek_table_read(sink->at + sink->len - table_bytes, table_bytes, sink->len,
                                         &table, NULL),
                     PST_OK);
    assert_int_equal(table->n_frames, n_frames);
    for (size_t i = 0; i < n_frames; i++) {
        const unsigned char *frame = sink->at + table->at[i].stored_at;
        size_t left = len - done;
        size_t n = left < frame_bytes ? left : frame_bytes;
        assert_int_equal(table->at[i].content_at, done);
        assert_int_equal(ZSTD_findFrameCompressedSize(frame, sink->len - table->at[i].stored_at),
                         table->at[i + 1].stored_at - table->at[i].stored_at);
        assert_int_equal(ZSTD_getFrameContentSize(frame, 18), n);
        assert_int_equal(frame[4] & 4, 4); /* has a checksum */
        done += n;
    }
    assert_int_equal(table->at[n_frames].content_at, len);
    free(table);
}

/* ---- content ---------------------------------------------------------------------------------- */

static void test_compress__any_length_in_any_pieces_is_a_seekable_object(void **state)
{
    static const size_t lengths[] = {0,     1,         1000,      FRAME - 1,
                                     FRAME, FRAME + 1, 3 * FRAME, 7 * FRAME + 77};
    static const size_t step[] = {777, FRAME, 5 * FRAME + 5};
    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (size_t k = 0; k < sizeof(step) / sizeof(step[0]); k++) {
            for (uint32_t workers = 0; workers < 4; workers++) {
                struct sink sink = {.at = NULL};
                pst_write_options options = options_of(1, workers, FRAME);
                assert_int_equal(compress_to(*state, &options, lengths[i], step[k], &sink, NULL),
                                 PST_OK);
                require_object(&sink, text, lengths[i], FRAME);
                free(sink.at);
            }
        }
    }
}

static void test_compress__a_size_hint_that_is_wrong_changes_nothing(void **state)
{
    static const uint64_t hints[] = {1, 4096, 5000, FRAME, 10 * MIB, PST_UNKNOWN};
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
        struct sink sink = {.at = NULL};
        pst_write_options options = options_of(1, 2, FRAME);
        options.size_hint = hints[i];
        assert_int_equal(compress_to(*state, &options, 200000, 999, &sink, NULL), PST_OK);
        require_object(&sink, text, 200000, FRAME);
        free(sink.at);
    }
}

static void test_compress__frames_have_4_mib_unless_told_otherwise(void **state)
{
    struct sink sink = {.at = NULL};
    pst_write_options options = options_of(3, 0, 0);
    assert_int_equal(compress_to(*state, &options, sizeof(text), 100000, &sink, NULL), PST_OK);
    require_object(&sink, text, sizeof(text), 4 * MIB);
    free(sink.at);
}

static void test_compress__every_level_works(void **state)
{
    size_t shortest = 100000;
    for (int level = 1; level <= 22; level++) {
        struct sink sink = {.at = NULL};
        pst_write_options options = options_of(level, 1, 0);
        assert_int_equal(compress_to(*state, &options, 100000, 100000, &sink, NULL), PST_OK);
        require_object(&sink, text, 100000, 4 * MIB);
        if (level == 1)
            shortest = sink.len;
        free(sink.at);
    }
    assert_true(shortest < 60000);
}

/* ---- owned buffers ---------------------------------------------------------------------------- */

static atomic_uint n_released;

static void count_release(void *arg)
{
    (void)arg;
    atomic_fetch_add(&n_released, 1);
}

static void test_compress__owned_bytes_are_referenced_until_they_are_compressed(void **state)
{
    static const size_t starts[] = {0, 1, FRAME - 1, FRAME};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        struct sink sink = {.at = NULL};
        struct pst_compressor *c = NULL;
        pst_buffer *buffer = NULL;
        pst_write_options options = options_of(1, 2, FRAME);
        size_t len = 5 * FRAME + 99;
        atomic_store(&n_released, 0);
        assert_int_equal(pst_buffer_wrap(text + starts[i], len, count_release, NULL, &buffer, NULL),
                         PST_OK);
        assert_int_equal(pst_compressor_new(f->port, &options, take, &sink, &c, NULL), PST_OK);
        assert_int_equal(pst_compressor_write(c, text, starts[i], NULL, &never, NULL), PST_OK);
        assert_int_equal(pst_compressor_write(c, text + starts[i], len, buffer, &never, NULL),
                         PST_OK);
        pst_buffer_unref(buffer);
        assert_int_equal(pst_compressor_write(c, text + starts[i] + len, 5, NULL, &never, NULL),
                         PST_OK);
        assert_int_equal(pst_compressor_finish(c, &never, NULL), PST_OK);
        assert_int_equal(atomic_load(&n_released), 1);
        pst_compressor_free(c);
        require_object(&sink, text, starts[i] + len + 5, FRAME);
        free(sink.at);
    }
}

/* ---- what is refused -------------------------------------------------------------------------- */

static void test_compress__levels_beyond_1_to_22_are_named(void **state)
{
    static const struct {
        int32_t level;
        const char *message;
    } bad[] = {
        {-1, "zstd level -1: 1 to 22 are allowed, and 0 for no compression"},
        {23, "zstd level 23: 1 to 22 are allowed, and 0 for no compression"},
        {INT32_MIN, "zstd level -2147483648: 1 to 22 are allowed, and 0 for no compression"},
    };
    (void)state;
    for (int32_t level = 0; level <= 22; level++) {
        pst_write_options options = options_of(level, 0, 0);
        assert_int_equal(pst_compress_check(&options, NULL), PST_OK);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        pst_error err = PST_ERROR_INIT;
        pst_write_options options = options_of(bad[i].level, 0, 0);
        assert_int_equal(pst_compress_check(&options, &err), PST_E_INVALID);
        assert_string_equal(err.message, bad[i].message);
    }
    assert_int_equal(pst_compress_check(NULL, NULL), PST_OK);
}

static void test_compress__frames_and_workers_out_of_range_are_named(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_write_options options = options_of(3, 257, 0);
    (void)state;
    assert_int_equal(pst_compress_check(&options, &err), PST_E_INVALID);
    assert_string_equal(err.message,
                        "257 zstd workers: 1 to 256 are allowed, and 0 for the choice of Penstock");
    options = options_of(3, 0, FRAME - 1);
    assert_int_equal(pst_compress_check(&options, &err), PST_E_INVALID);
    assert_string_equal(err.message, "zstd frames of 65535 bytes: 65536 to 1073741824 are allowed, "
                                     "and 0 for the choice of Penstock");
    options = options_of(3, 256, ((size_t)1 << 30) + 1);
    assert_int_equal(pst_compress_check(&options, &err), PST_E_INVALID);
    options = options_of(3, 256, (size_t)1 << 30);
    assert_int_equal(pst_compress_check(&options, &err), PST_OK);
}

static void test_compress__plan_fits_memory_and_budget(void **state)
{
    static const struct {
        int level;
        uint32_t asked_workers, cores;
        uint64_t asked_frame, budget, hint;
        size_t frame, first;
        uint32_t workers;
    } rows[] = {
        {3, 0, 2, 0, 1 << 30, 0, 4 << 20, 256 << 10, 2},
        {3, 0, 64, 0, 1 << 30, 0, 4 << 20, 256 << 10, 6},
        {3, 64, 64, 0, 1 << 30, 0, 4 << 20, 256 << 10, 64},
        {9, 0, 8, 0, 1 << 30, PST_UNKNOWN, 4 << 20, 256 << 10, 3},
        {12, 0, 8, 0, 1 << 30, 100, 4 << 20, 4096, 1},
        {22, 0, 8, 0, 1 << 30, 1 << 20, 4 << 20, 1 << 20, 1},
        {22, 3, 8, 0, 1 << 30, 1ull << 40, 4 << 20, 4 << 20, 3},
        {1, 0, 8, 64 << 20, 1 << 30, 0, 64 << 20, 256 << 10, 1},
        {1, 0, 8, 0, 16 << 20, 0, 2 << 20, 256 << 10, 8},
        {1, 0, 2, 0, 1 << 20, 0, 128 << 10, 128 << 10, 2},
        {1, 0, 2, 0, 140 << 10, 0, 64 << 10, 64 << 10, 2},
        {1, 0, 2, 0, 1000, 0, 64 << 10, 64 << 10, 2},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pst_compress_plan plan;
        pst_write_options options = options_of(rows[i].level, rows[i].asked_workers,
                                               rows[i].asked_frame);
        options.size_hint = rows[i].hint;
        assert_int_equal(pst_compress_plan(&options, rows[i].budget, rows[i].cores, &plan, NULL),
                         PST_OK);
        assert_int_equal(plan.level, rows[i].level);
        assert_int_equal(plan.frame_bytes, rows[i].frame);
        assert_int_equal(plan.first_bytes, rows[i].first);
        assert_int_equal(plan.n_workers, rows[i].workers);
    }
}

static void test_compress__frame_larger_than_the_budget_is_refused_with_both_sizes(void **state)
{
    struct fixture *f = *state;
    struct pst_compressor *c = NULL;
    struct sink sink = {.at = NULL};
    pst_error err = PST_ERROR_INIT;
    pst_write_options options = options_of(3, 1, 64 * MIB);
    assert_int_equal(pst_compressor_new(f->port, &options, take, &sink, &c, &err),
                     PST_E_OVER_BUDGET);
    assert_string_equal(err.message, "zstd frames of 67108864 bytes need 134479872 bytes of "
                                     "memory, the memory budget is 67108864 bytes");
    assert_null(c);
}

static void test_compress__bound_and_contexts_are_as_libzstd_has_them(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, 131071, 131072, 131073, 4194304, 1 << 30};
    char *in = calloc(1, 4 * MIB), *out = malloc(ZSTD_compressBound(4 * MIB));
    (void)state;
    assert_non_null(in);
    assert_non_null(out);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        assert_int_equal(pst_compress_bound(sizes[i]), ZSTD_compressBound(sizes[i]));
    for (int level = 1; level <= 22; level++) {
        ZSTD_CCtx *cctx = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(cctx, ZSTD_c_compressionLevel, level);
        size_t n = ZSTD_compress2(cctx, out, ZSTD_compressBound(4 * MIB), in, 4 * MIB);
        assert_false(ZSTD_isError(n));
        uint64_t said = pst_compress_context_bytes(level, 4 * MIB);
        assert_in_range(ZSTD_sizeof_CCtx(cctx), said / 2 - MIB / 2, said);
        ZSTD_freeCCtx(cctx);
    }
    free(in);
    free(out);
}

/* ---- memory ----------------------------------------------------------------------------------- */

static void test_compress__memory_is_a_few_frames_however_long_the_stream(void **state)
{
    struct sink sink = {.at = NULL};
    pst_write_options options = options_of(1, 2, FRAME);
    assert_int_equal(compress_to(*state, &options, sizeof(text), 10000, &sink, NULL), PST_OK);
    require_object(&sink, text, sizeof(text), FRAME);
    assert_in_range(stats_of(*state).peak_in_flight_bytes, FRAME, 3 * pst_compress_room(FRAME));
    free(sink.at);
}

/* Two streams of one thread, and what takes their output wants most of the budget for itself. */
static void test_compress__streams_that_share_a_small_budget_do_not_wait_for_each_other(
    void **state)
{
    struct fixture *f = *state;
    struct pst_compressor *c[2] = {NULL, NULL};
    struct sink sinks[2] = {{.at = NULL, .port = f->port, .part_bytes = 250 * KIB},
                            {.at = NULL, .port = f->port, .part_bytes = 250 * KIB}};
    pst_write_options options = options_of(1, 2, FRAME);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pst_compressor_new(f->port, &options, take, &sinks[i], &c[i], NULL),
                         PST_OK);
    for (size_t at = 0; at < 20 * FRAME; at += FRAME / 2) {
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(pst_compressor_write(c[i], text + at, FRAME / 2, NULL, &never, NULL),
                             PST_OK);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pst_compressor_finish(c[i], &never, NULL), PST_OK);
        pst_compressor_free(c[i]);
        require_object(&sinks[i], text, 20 * FRAME, FRAME);
        free(sinks[i].at);
    }
}

/* ---- ends before the end ---------------------------------------------------------------------- */

static void test_compress__a_budget_that_others_fill_is_shared_frame_by_frame(void **state)
{
    const struct fixture *f = *state;
    struct pst_budget *budget = &f->port->core->budget;
    const uint64_t others = 165 * KIB; /* beside them there is room for one frame of 64 KiB */
    pst_write_options options = options_of(1, 2, FRAME);
    struct sink sink = {.at = NULL};
    struct pst_compressor *c = NULL;
    pst_budget_force(budget, others);
    assert_int_equal(pst_compressor_new(f->port, &options, take, &sink, &c, NULL), PST_OK);
    assert_int_equal(pst_compressor_write(c, text, FRAME, NULL, &never, NULL), PST_OK);
    assert_int_equal(sink.n_emits, 0);
    assert_int_equal(pst_compressor_write(c, text + FRAME, FRAME, NULL, &never, NULL), PST_OK);
    assert_int_equal(sink.n_emits, 1); /* let go of the first one */
    assert_int_equal(pst_compressor_finish(c, &never, NULL), PST_OK);
    pst_compressor_free(c);
    pst_budget_release(budget, others);
    require_object(&sink, text, 2 * FRAME, FRAME);
    free(sink.at);
}

static void test_compress__what_the_taker_answers_comes_back_and_stays(void **state)
{
    struct fixture *f = *state;
    for (unsigned n = 1; n <= 6; n++) { /* 5 frames, then the table */
        struct pst_compressor *c = NULL;
        struct sink sink = {.fail_with = PST_E_NO_SPACE, .fail_at = n};
        pst_error err = PST_ERROR_INIT;
        pst_write_options options = options_of(1, 1, FRAME);
        assert_int_equal(pst_compressor_new(f->port, &options, take, &sink, &c, &err), PST_OK);
        pst_rc rc = pst_compressor_write(c, text, 5 * FRAME, NULL, &never, &err);
        if (rc == PST_OK)
            rc = pst_compressor_finish(c, &never, &err);
        assert_int_equal(rc, PST_E_NO_SPACE);
        assert_string_equal(err.message, ""); /* it is the taker's to explain */
        unsigned n_emits = sink.n_emits;
        assert_int_equal(pst_compressor_write(c, text, 1, NULL, &never, &err), PST_E_NO_SPACE);
        assert_int_equal(pst_compressor_finish(c, &never, &err), PST_E_NO_SPACE);
        assert_int_equal(sink.n_emits, n_emits);
        pst_compressor_free(c);
        free(sink.at);
    }
}

static void test_compress__finish_may_be_repeated(void **state)
{
    struct fixture *f = *state;
    struct pst_compressor *c = NULL;
    struct sink sink = {.at = NULL};
    pst_write_options options = options_of(1, 1, FRAME);
    assert_int_equal(pst_compressor_new(f->port, &options, take, &sink, &c, NULL), PST_OK);
    assert_int_equal(pst_compressor_write(c, text, 100, NULL, &never, NULL), PST_OK);
    assert_int_equal(pst_compressor_finish(c, &never, NULL), PST_OK);
    assert_int_equal(pst_compressor_finish(c, &never, NULL), PST_OK);
    pst_compressor_free(c);
    require_object(&sink, text, 100, FRAME);
    free(sink.at);
}

static void test_compress__a_fired_token_ends_the_wait(void **state)
{
    struct fixture *f = *state;
    struct pst_compressor *c = NULL;
    struct sink sink = {.at = NULL};
    pst_cancel *cancel = NULL;
    pst_error err = PST_ERROR_INIT;
    pst_write_options options = options_of(19, 1, MIB); /* a frame takes a while */
    assert_int_equal(pst_cancel_new(&cancel), PST_OK);
    pst_cancel_fire(cancel);
    const struct pst_limit fired = {0, cancel};
    assert_int_equal(pst_compressor_new(f->port, &options, take, &sink, &c, NULL), PST_OK);
    assert_int_equal(pst_compressor_write(c, text, 2 * MIB, NULL, &fired, &err), PST_OK);
    assert_int_equal(pst_compressor_write(c, text, MIB, NULL, &fired, &err), PST_E_CANCELLED);
    assert_int_equal(err.code, PST_E_CANCELLED);
    assert_int_equal(pst_compressor_finish(c, &never, NULL), PST_E_CANCELLED);
    pst_compressor_free(c); /* does not wait for the frame that is being compressed */
    pst_cancel_free(cancel);
    free(sink.at);
}

static void test_compress__dropped_in_the_middle_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    for (size_t len = 0; len < 5 * FRAME; len += FRAME / 2 + 1) {
        struct pst_compressor *c = NULL;
        struct sink sink = {.at = NULL};
        pst_write_options options = options_of(3, 3, FRAME);
        assert_int_equal(pst_compressor_new(f->port, &options, take, &sink, &c, NULL), PST_OK);
        assert_int_equal(pst_compressor_write(c, text, len, NULL, &never, NULL), PST_OK);
        pst_compressor_free(c);
        free(sink.at);
    }
    pst_compressor_free(NULL);
}

static void test_compress__any_failing_allocation_is_no_memory_and_leaks_nothing(void **state)
{
    pst_write_options options = options_of(1, 1, FRAME);
    unsigned n = 1;
    int was_reached = 1;
    (void)state;
    for (; was_reached; n++) {
        void *own = NULL;
        long before = torture_live();
        setup(&own);
        struct sink sink = {.at = malloc(MIB), .room = MIB};
        torture_arm(n);
        pst_rc rc = compress_to(own, &options, 5 * FRAME, 50000, &sink, NULL);
        was_reached = torture_disarm();
        if (rc == PST_OK)
            require_object(&sink, text, 5 * FRAME, FRAME);
        else
            assert_int_equal(rc, PST_E_NO_MEMORY);
        free(sink.at);
        teardown(&own);
        assert_int_equal(torture_live(), before);
    }
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_compress__any_length_in_any_pieces_is_a_seekable_object, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compress__a_size_hint_that_is_wrong_changes_nothing,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_compress__frames_have_4_mib_unless_told_otherwise,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_compress__every_level_works, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_compress__owned_bytes_are_referenced_until_they_are_compressed, setup, teardown),
        cmocka_unit_test(test_compress__levels_beyond_1_to_22_are_named),
        cmocka_unit_test(test_compress__frames_and_workers_out_of_range_are_named),
        cmocka_unit_test(test_compress__plan_fits_memory_and_budget),
        cmocka_unit_test_setup_teardown(
            test_compress__frame_larger_than_the_budget_is_refused_with_both_sizes, setup,
            teardown),
        cmocka_unit_test(test_compress__bound_and_contexts_are_as_libzstd_has_them),
        cmocka_unit_test_setup_teardown(
            test_compress__memory_is_a_few_frames_however_long_the_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_compress__streams_that_share_a_small_budget_do_not_wait_for_each_other,
            setup_small_budget, teardown),
        cmocka_unit_test_setup_teardown(
            test_compress__a_budget_that_others_fill_is_shared_frame_by_frame, setup_small_budget,
            teardown),
        cmocka_unit_test_setup_teardown(test_compress__what_the_taker_answers_comes_back_and_stays,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_compress__finish_may_be_repeated, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compress__a_fired_token_ends_the_wait, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_compress__dropped_in_the_middle_leaves_nothing, setup,
                                        teardown),
        cmocka_unit_test(test_compress__any_failing_allocation_is_no_memory_and_leaks_nothing),
    };
    torture_jansson();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
