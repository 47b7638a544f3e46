/* Frames in, content out: the same bytes and the same errors, however the stream is cut into pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zstd.h>

#include "codec/decoder.h"

#define ROOM ((size_t)1 << 18)

struct bytes {
    unsigned char *at;
    size_t len;
};

/* Compressible, and different for each seed. */
static struct bytes text_of(size_t len, unsigned seed)
{
    struct bytes text = {malloc(len + 1), len};
    assert_non_null(text.at);
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1103515245u + 12345u;
        text.at[i] = (unsigned char)("etaoin shrdlu"[(seed >> 16) % 13]);
    }
    return text;
}

#define WITH_SUM 1u
#define WITH_SIZE 2u
static void add_frame(struct bytes *stream, const void *data, size_t len, unsigned flags)
{
    ZSTD_CCtx *cctx = ZSTD_createCCtx();
    assert_non_null(cctx);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_checksumFlag, flags & WITH_SUM ? 1 : 0);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, flags & WITH_SIZE ? 1 : 0);
    stream->at = realloc(stream->at, stream->len + ZSTD_compressBound(len));
    assert_non_null(stream->at);
    ZSTD_outBuffer out = {stream->at + stream->len, ZSTD_compressBound(len), 0};
    ZSTD_inBuffer in = {data, len, 0};
    if (flags & WITH_SIZE)
        ZSTD_CCtx_setPledgedSrcSize(cctx, len);
    else /* two calls: it cannot know */
        ZSTD_compressStream2(cctx, &out, &in, ZSTD_e_continue);
    assert_int_equal(ZSTD_compressStream2(cctx, &out, &in, ZSTD_e_end), 0);
    stream->len += out.pos;
    ZSTD_freeCCtx(cctx);
}

static void add_raw(struct bytes *stream, const void *data, size_t len)
{
    stream->at = realloc(stream->at, stream->len + len + 1);
    assert_non_null(stream->at);
    memcpy(stream->at + stream->len, data, len);
    stream->len += len;
}

static void add_skippable(struct bytes *stream, unsigned char variant, unsigned char len)
{
    const unsigned char head[8] = {(unsigned char)(0x50 + variant), 0x2a, 0x4d, 0x18, len, 0, 0, 0};
    static const unsigned char zeros[255];
    add_raw(stream, head, sizeof(head));
    add_raw(stream, zeros, len);
}

/* Decode all of it, `in_step` and `out_step` bytes at a time. *out gets what came before an error. */
static pst_rc decode(const struct bytes *stream, size_t in_step, size_t out_step, struct bytes *out,
                     pst_error *err)
{
    struct pst_decoder *decoder = NULL;
    size_t at = 0, n_in = 0, n_out = 0;
    out->at = malloc(ROOM);
    out->len = 0;
    assert_non_null(out->at);
    assert_int_equal(pst_decoder_new(&decoder, err), PST_OK);
    pst_rc rc = PST_OK;
    /* Memory of exactly that size, so that a sanitizer sees a byte beyond it. */
    unsigned char *to = malloc(out_step);
    assert_non_null(to);
    do {
        size_t len = stream->len - at < in_step ? stream->len - at : in_step;
        unsigned char *in = malloc(len + (len == 0));
        assert_non_null(in);
        memcpy(in, stream->at + at, len);
        rc = pst_decoder_run(decoder, in, len, &n_in, to, out_step, &n_out, err);
        assert_true(n_in <= len && n_out <= out_step && out->len + n_out <= ROOM);
        memcpy(out->at + out->len, to, n_out);
        out->len += n_out;
        at += n_in;
        free(in);
    } while (rc == PST_OK && (n_in > 0 || n_out > 0));
    free(to);
    if (rc == PST_OK) {
        assert_int_equal(at, stream->len);
        rc = pst_decoder_end(decoder, err);
    }
    pst_decoder_free(decoder);
    return rc;
}

static const size_t steps[] = {1, 7, 1000, ROOM};
#define N_STEPS (sizeof(steps) / sizeof(steps[0]))

static void require_content(const struct bytes *stream, const void *content, size_t len)
{
    pst_error err = PST_ERROR_INIT;
    struct bytes out;
    for (size_t i = 0; i < N_STEPS; i++) {
        for (size_t k = 0; k < N_STEPS; k++) {
            assert_int_equal(decode(stream, steps[i], steps[k], &out, &err), PST_OK);
            assert_int_equal(out.len, len);
            assert_memory_equal(out.at, content, len);
            free(out.at);
        }
    }
}

/* Every way to cut it must end with this code and this very message. */
static void require_error(const struct bytes *stream, pst_rc rc, const char *message)
{
    struct bytes out;
    for (size_t i = 0; i < N_STEPS; i++) {
        for (size_t k = 0; k < N_STEPS; k++) {
            pst_error err = PST_ERROR_INIT;
            assert_int_equal(decode(stream, steps[i], steps[k], &out, &err), rc);
            assert_string_equal(err.message, message);
            free(out.at);
        }
    }
}

/* ---- content ----------------------------------------------------------------------------------- */

static void test_decoder__any_cut_gives_the_same_bytes(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 5000, 140000};
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct bytes text = text_of(sizes[i], (unsigned)i);
        for (unsigned flags = 0; flags < 4; flags++) {
            struct bytes stream = {NULL, 0};
            add_frame(&stream, text.at, text.len, flags);
            require_content(&stream, text.at, text.len);
            free(stream.at);
        }
        free(text.at);
    }
}

static void test_decoder__frames_follow_each_other_and_skippable_ones_are_passed_over(void **state)
{
    struct bytes stream = {NULL, 0}, text = text_of(9000, 7);
    (void)state;
    add_skippable(&stream, 0, 0);
    add_frame(&stream, text.at, 3000, WITH_SUM);
    add_frame(&stream, text.at, 0, WITH_SUM | WITH_SIZE);
    add_skippable(&stream, 15, 255);
    add_frame(&stream, text.at + 3000, 1, 0);
    add_frame(&stream, text.at + 3001, 5999, WITH_SIZE);
    add_skippable(&stream, 14, 17);
    require_content(&stream, text.at, 9000);
    free(stream.at);
    free(text.at);
}

static void test_decoder__incompressible_blocks_pass(void **state)
{
    struct bytes stream = {NULL, 0}, noise = {malloc(200000), 200000};
    unsigned long long x = 88172645463325252ull;
    (void)state;
    assert_non_null(noise.at);
    for (size_t i = 0; i < noise.len; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        noise.at[i] = (unsigned char)x;
    }
    add_frame(&stream, noise.at, noise.len, WITH_SUM | WITH_SIZE);
    require_content(&stream, noise.at, noise.len);
    free(stream.at);
    free(noise.at);
}

/* ---- errors ------------------------------------------------------------------------------------ */

static void test_decoder__no_data_is_no_frame(void **state)
{
    struct bytes stream = {(unsigned char *)"", 0};
    (void)state;
    require_error(&stream, PST_E_DATA_LOSS, "no zstd frame at offset 0: there is no data");
}

static void test_decoder__text_is_no_frame(void **state)
{
    struct bytes stream = {(unsigned char *)"plain text", 10};
    (void)state;
    require_error(&stream, PST_E_DATA_LOSS, "no zstd frame at offset 0");
}

static void test_decoder__formats_before_1_0_are_no_frames(void **state)
{
    static const unsigned char v07[] = {0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0, 0, 0};
    struct bytes stream = {NULL, 0};
    (void)state;
    add_raw(&stream, v07, sizeof(v07));
    require_error(&stream, PST_E_DATA_LOSS, "no zstd frame at offset 0");
    free(stream.at);
}

static void test_decoder__garbage_after_a_frame_is_named_with_its_offset(void **state)
{
    struct bytes stream = {NULL, 0};
    char message[128];
    (void)state;
    add_frame(&stream, "some content", 12, WITH_SUM);
    size_t end = stream.len;
    add_raw(&stream, "\0\0\0\0\0\0\0\0", 8);
    snprintf(message, sizeof(message), "no zstd frame at offset %zu", end);
    require_error(&stream, PST_E_DATA_LOSS, message);
    stream.len = end + 1; /* a single byte too much */
    require_error(&stream, PST_E_DATA_LOSS, message);
    free(stream.at);
}

static void test_decoder__a_cut_anywhere_is_named_with_its_offset(void **state)
{
    struct bytes text = text_of(600, 3), stream = {NULL, 0};
    char message[160];
    (void)state;
    add_frame(&stream, text.at, 300, WITH_SUM);
    size_t second = stream.len;
    add_frame(&stream, text.at + 300, 300, WITH_SIZE);
    size_t whole = stream.len;
    for (size_t cut = 1; cut < whole; cut++) {
        size_t frame = cut < second ? 0 : second;
        if (cut == second)
            continue;
        stream.len = cut;
        snprintf(message, sizeof(message),
                 "the data ends at offset %zu, in the middle of the zstd frame at offset %zu", cut,
                 frame);
        require_error(&stream, PST_E_DATA_LOSS, message);
    }
    stream.len = second;
    require_content(&stream, text.at, 300);
    free(stream.at);
    free(text.at);
}

static void test_decoder__wrong_checksum_is_named(void **state)
{
    struct bytes text = text_of(400, 5), stream = {NULL, 0};
    char message[160];
    (void)state;
    add_frame(&stream, text.at, 100, WITH_SIZE);
    size_t second = stream.len;
    add_frame(&stream, text.at, 400, WITH_SUM);
    stream.at[stream.len - 2] ^= 1;
    snprintf(message, sizeof(message),
             "the content of the zstd frame at offset %zu does not have the checksum that stands "
             "at offset %zu",
             second, stream.len - 4);
    require_error(&stream, PST_E_DATA_LOSS, message);
    free(stream.at);
    free(text.at);
}

static void test_decoder__any_flipped_bit_is_an_error_or_harmless(void **state)
{
    struct bytes text = text_of(700, 11), stream = {NULL, 0}, out;
    unsigned n_failed = 0;
    (void)state;
    add_frame(&stream, text.at, text.len, WITH_SUM | WITH_SIZE);
    for (size_t bit = 0; bit < stream.len * 8; bit++) {
        pst_error err = PST_ERROR_INIT;
        stream.at[bit / 8] ^= (unsigned char)(1u << bit % 8);
        pst_rc rc = decode(&stream, 64, 64, &out, &err);
        if (rc == PST_OK) {
            assert_int_equal(out.len, text.len);
            assert_memory_equal(out.at, text.at, text.len);
        } else {
            n_failed++;
            assert_true(rc == PST_E_DATA_LOSS || rc == PST_E_OVER_BUDGET);
            assert_non_null(strstr(err.message, " at offset "));
        }
        free(out.at);
        stream.at[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_true(n_failed > stream.len * 8 - 8);
    free(stream.at);
    free(text.at);
}

static void test_decoder__window_of_128_mib_passes_and_a_larger_one_is_named(void **state)
{
    /* A header with a window descriptor and one empty last block. */
    unsigned char frame[9] = {0x28, 0xb5, 0x2f, 0xfd, 0, 0, 1, 0, 0};
    struct bytes stream = {frame, sizeof(frame)};
    (void)state;
    frame[5] = (27 - 10) << 3;
    require_content(&stream, "", 0);
    frame[5] = (27 - 10) << 3 | 1;
    require_error(&stream, PST_E_OVER_BUDGET,
                  "the zstd frame at offset 0 needs a window of 150994944 bytes, more than the "
                  "134217728 that are allowed");
    frame[5] = 0xff;
    require_error(&stream, PST_E_OVER_BUDGET,
                  "the zstd frame at offset 0 needs a window of 4123168604160 bytes, more than "
                  "the 134217728 that are allowed");
}

static void test_decoder__a_single_segment_larger_than_the_window_is_named(void **state)
{
    static const unsigned char frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0,
                                          1,    0,    0,    0,    0,    0, 0, 0};
    struct bytes stream = {NULL, 0};
    (void)state;
    add_raw(&stream, frame, sizeof(frame));
    require_error(&stream, PST_E_OVER_BUDGET,
                  "the zstd frame at offset 0 needs a window of 4294967296 bytes, more than the "
                  "134217728 that are allowed");
    free(stream.at);
}

static void test_decoder__an_error_stays(void **state)
{
    struct pst_decoder *decoder = NULL;
    pst_error first = PST_ERROR_INIT, again = PST_ERROR_INIT, end = PST_ERROR_INIT;
    struct bytes stream = {NULL, 0};
    char out[16];
    size_t n_in = 0, n_out = 0;
    (void)state;
    add_frame(&stream, "some content", 12, WITH_SUM);
    assert_int_equal(pst_decoder_new(&decoder, NULL), PST_OK);
    assert_int_equal(pst_decoder_run(decoder, "xx", 2, &n_in, out, sizeof(out), &n_out, &first),
                     PST_E_DATA_LOSS);
    assert_int_equal(
        pst_decoder_run(decoder, stream.at, stream.len, &n_in, out, sizeof(out), &n_out, &again),
        PST_E_DATA_LOSS);
    assert_int_equal(n_in + n_out, 0);
    assert_int_equal(pst_decoder_end(decoder, &end), PST_E_DATA_LOSS);
    assert_string_equal(again.message, first.message);
    assert_string_equal(end.message, first.message);
    pst_decoder_free(decoder);
    pst_decoder_free(NULL);
    free(stream.at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoder__any_cut_gives_the_same_bytes),
        cmocka_unit_test(test_decoder__frames_follow_each_other_and_skippable_ones_are_passed_over),
        cmocka_unit_test(test_decoder__incompressible_blocks_pass),
        cmocka_unit_test(test_decoder__no_data_is_no_frame),
        cmocka_unit_test(test_decoder__text_is_no_frame),
        cmocka_unit_test(test_decoder__formats_before_1_0_are_no_frames),
        cmocka_unit_test(test_decoder__garbage_after_a_frame_is_named_with_its_offset),
        cmocka_unit_test(test_decoder__a_cut_anywhere_is_named_with_its_offset),
        cmocka_unit_test(test_decoder__wrong_checksum_is_named),
        cmocka_unit_test(test_decoder__any_flipped_bit_is_an_error_or_harmless),
        cmocka_unit_test(test_decoder__window_of_128_mib_passes_and_a_larger_one_is_named),
        cmocka_unit_test(test_decoder__a_single_segment_larger_than_the_window_is_named),
        cmocka_unit_test(test_decoder__an_error_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
