/* decoder.c - libzstd's streaming decoder, with offsets in its errors and a bound on its memory.
 *
 * libzstd says after each call how many bytes it wants next: a header, or a block and the head of the one
 * after it. It is given exactly that, never more, so that where it finds something wrong is known to the
 * block, and is the same however the stream was cut into pieces. Given what it wants in one piece it
 * decodes from the caller's memory; only pieces of a block are gathered by it first.
 *
 * Frames begin with one of two magic numbers, which is checked here before libzstd sees them: it would
 * also take the formats of before 1.0, whose decoders nobody tests any more.
 *
 * A failure stays: the context is in the middle of something then, and would make things up. */
#include "codec/decoder.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec/frame.h"
#include "codec/zstd_lib.h"
#include "core/error.h"

#define FIRST_WISH ((size_t)5) /* what tells how long the rest of a header is */

struct pst_decoder {
    const struct pst_zstd *zstd;
    struct ZSTD_DCtx_s *dctx;
    uint64_t taken;    /* bytes of the stream so far */
    uint64_t frame_at; /* where the frame started that is being read, or comes next */
    uint64_t piece_at; /* ... the header or block */
    size_t wish;       /* bytes of it still to come */
    int has_frame;     /* one has ended */
    int is_held;       /* more output may be waiting for room */
    size_t head_len;
    unsigned char head[PST_FRAME_HEAD_MAX];
    pst_error error;
};

pst_rc pst_decoder_new(struct pst_decoder **out, pst_error *err)
{
    const struct pst_zstd *zstd = NULL;
    *out = NULL;
    pst_rc rc = pst_zstd_get(&zstd, err);
    if (rc != PST_OK)
        return rc;
    struct pst_decoder *decoder = calloc(1, sizeof(*decoder));
    if (decoder)
        decoder->dctx = pst_zstd_take_dctx(zstd);
    if (!decoder || !decoder->dctx) {
        free(decoder);
        return pst_fail(err, PST_E_NO_MEMORY, "no memory to decompress");
    }
    decoder->zstd = zstd;
    decoder->wish = FIRST_WISH;
    decoder->error = (pst_error)PST_ERROR_INIT;
    zstd->dctx_set(decoder->dctx, PST_ZSTD_D_WINDOW_LOG_MAX, PST_FRAME_WINDOW_LOG_MAX);
    *out = decoder;
    return PST_OK;
}

void pst_decoder_start_at(struct pst_decoder *decoder, uint64_t offset)
{
    decoder->taken = decoder->frame_at = decoder->piece_at = offset;
}

static pst_rc stay_failed(const struct pst_decoder *decoder, pst_error *err)
{
    pst_error_copy(err, &decoder->error);
    return decoder->error.code;
}

static pst_rc fail(struct pst_decoder *decoder, size_t result, pst_error *err)
{
    const struct pst_zstd *zstd = decoder->zstd;
    pst_error *to = &decoder->error;
    switch (zstd->error_code(result)) {
    case PST_ZSTD_E_NO_MEMORY:
        pst_fail(to, PST_E_NO_MEMORY, "no memory to decompress the frame at offset %" PRIu64,
                 decoder->frame_at);
        break;
    case PST_ZSTD_E_WINDOW:
        pst_fail(to, PST_E_OVER_BUDGET,
                 "the zstd frame at offset %" PRIu64 " needs a window of %" PRIu64
                 " bytes, more than the %" PRIu64 " that are allowed",
                 decoder->frame_at, pst_frame_window(decoder->head, decoder->head_len),
                 PST_FRAME_WINDOW_MAX);
        break;
    case PST_ZSTD_E_CHECKSUM:
        pst_fail(to, PST_E_DATA_LOSS,
                 "the content of the zstd frame at offset %" PRIu64
                 " does not have the checksum that stands at offset %" PRIu64,
                 decoder->frame_at, decoder->piece_at);
        break;
    default:
        pst_fail(to, PST_E_DATA_LOSS, "corrupt zstd data at offset %" PRIu64 ": %s",
                 decoder->piece_at, zstd->error_name(result));
    }
    return stay_failed(decoder, err);
}

/* Look at the first bytes of a frame before libzstd does. */
static pst_rc check_head(struct pst_decoder *decoder, const void *in, size_t len, pst_error *err)
{
    size_t room = sizeof(decoder->head) - decoder->head_len;
    size_t n = len < room ? len : room;
    if (n == 0)
        return PST_OK;
    memcpy(decoder->head + decoder->head_len, in, n);
    decoder->head_len += n;
    if (pst_frame_is_start(decoder->head, decoder->head_len))
        return PST_OK;
    pst_fail(&decoder->error, PST_E_DATA_LOSS, "no zstd frame at offset %" PRIu64,
             decoder->frame_at);
    return stay_failed(decoder, err);
}

/* `n` bytes were taken, and `hint` more are wanted: 0 at the end of a frame. */
static void advance(struct pst_decoder *decoder, size_t n, size_t hint)
{
    decoder->taken += n;
    if (hint == 0) {
        decoder->has_frame = 1;
        decoder->frame_at = decoder->piece_at = decoder->taken;
        decoder->head_len = 0;
        decoder->wish = FIRST_WISH;
    } else if (n == decoder->wish) {
        decoder->piece_at = decoder->taken;
        decoder->wish = hint;
    } else {
        decoder->wish -= n;
    }
}

pst_rc pst_decoder_run(struct pst_decoder *decoder, const void *in, size_t in_len, size_t *n_in,
                       void *out, size_t capacity, size_t *n_out, pst_error *err)
{
    *n_in = *n_out = 0;
    if (decoder->error.code != PST_OK)
        return stay_failed(decoder, err);
    while (*n_out < capacity) {
        const char *from = (const char *)in + *n_in;
        size_t left = in_len - *n_in;
        struct pst_zstd_in source = {from, left < decoder->wish ? left : decoder->wish, 0};
        struct pst_zstd_out sink = {(char *)out + *n_out, capacity - *n_out, 0};
        if (source.size == 0 && !decoder->is_held)
            break;
        pst_rc rc = check_head(decoder, from, source.size, err);
        if (rc != PST_OK)
            return rc;
        size_t hint = decoder->zstd->decompress_stream(decoder->dctx, &sink, &source);
        if (decoder->zstd->is_error(hint))
            return fail(decoder, hint, err);
        decoder->is_held = hint > 0 && sink.pos == sink.size;
        *n_in += source.pos;
        *n_out += sink.pos;
        advance(decoder, source.pos, hint);
    }
    return PST_OK;
}

pst_rc pst_decoder_end(struct pst_decoder *decoder, pst_error *err)
{
    if (decoder->error.code != PST_OK)
        return stay_failed(decoder, err);
    if (decoder->taken > decoder->frame_at)
        return pst_fail(err, PST_E_DATA_LOSS,
                        "the data ends at offset %" PRIu64
                        ", in the middle of the zstd frame at offset %" PRIu64,
                        decoder->taken, decoder->frame_at);
    if (!decoder->has_frame)
        return pst_fail(err, PST_E_DATA_LOSS,
                        "no zstd frame at offset %" PRIu64 ": there is no data", decoder->taken);
    return PST_OK;
}

void pst_decoder_free(struct pst_decoder *decoder)
{
    if (!decoder)
        return;
    pst_zstd_give_dctx(decoder->zstd, decoder->dctx);
    free(decoder);
}
