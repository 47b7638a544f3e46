/* decode.c - whole objects, decompressed. Ranges of them are in decode_range.c.
 *
 * The object is fetched as it is stored, by the range engine, and its frames are found by walking over
 * them: their headers tell how long the content is, so that one buffer of exactly that size is made and
 * all frames go into it side by side (decode_crew.c). Where a header does not tell, the object is decoded
 * as a stream into a buffer that grows. A seek table plays no part in this.
 *
 * Memory: the stored bytes and the content are reserved from the budget in one step before anything is
 * decompressed; what can never fit is refused with the sizes. A length that lies is found out when the
 * frame ends elsewhere, and nothing is written beyond what was announced. The list of frames is not
 * reserved: where very small ones would make it long, the object is decoded as a stream instead. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "codec/frame.h"
#include "codec/name.h"
#include "codec/zstd_lib.h"
#include "core/error.h"
#include "io/decode_state.h"
#include "io/room.h"
#include "io/verb.h"

#define GROW_BYTES ((size_t)1 << 20)
#define LIST_MIN 65536u /* frames; a longer list takes no more memory than the stored bytes */

pst_rc pst_decode_asked(const pst_read_options *given, pst_str key, int *is_asked, pst_error *err)
{
    pst_read_options options;
    *is_asked = 0;
    pst_rc rc = pst_options_take(&options, sizeof(options), given, err);
    return rc == PST_OK ? pst_decode_wanted(options.decode, key, is_asked, err) : rc;
}

/* ---- time and memory --------------------------------------------------------------------------- */

const pst_call *pst_decode_call_now(struct decode *d)
{
    if (d->limit.deadline_ns > 0) {
        uint64_t now_ns = pst_now_ns();
        d->call.timeout_ms = now_ns < d->limit.deadline_ns
                                 ? (d->limit.deadline_ns - now_ns) / 1000000u + 1
                                 : 1;
    }
    return &d->call;
}

pst_rc pst_decode_reserve(struct decode *d, uint64_t stored, uint64_t content, uint64_t beside,
                          pst_error *err)
{
    struct pst_budget *budget = &d->port->core->budget;
    uint64_t bytes = stored + content + beside;
    if (bytes > budget->limit_bytes)
        return pst_fail(err, PST_E_OVER_BUDGET,
                        "%" PRIu64 " stored bytes and %" PRIu64
                        " decompressed ones need memory at once, the memory budget is %" PRIu64
                        " bytes",
                        stored, content + beside, budget->limit_bytes);
    pst_rc rc = pst_room_reserve(budget, bytes, &d->limit);
    if (rc != PST_OK)
        return pst_fail(err, rc, "%s", pst_rc_text(rc));
    d->reserved_bytes += bytes;
    return PST_OK;
}

pst_rc pst_decode_make_buffer(struct decode *d, size_t bytes, pst_error *err)
{
    d->buffer = pst_buffer_new(d->port->core->arenas, bytes, 0);
    if (!d->buffer)
        return pst_fail(err, PST_E_NO_MEMORY, "no memory for %zu decompressed bytes", bytes);
    d->own = (pst_iov){pst_buffer_bytes(d->buffer), bytes};
    return PST_OK;
}

/* ---- frames ------------------------------------------------------------------------------------ */

pst_rc pst_decode_add_piece(struct decode *d, const struct pst_decode_piece *piece, size_t *n_room,
                            pst_error *err)
{
    if (d->n_pieces == *n_room) {
        size_t n = *n_room ? *n_room * 2 : 16;
        struct pst_decode_piece *more = reallocarray(d->pieces, n, sizeof(*more));
        if (!more)
            return pst_fail(err, PST_E_NO_MEMORY, "no memory for a list of %zu zstd frames", n);
        d->pieces = more;
        *n_room = n;
    }
    d->pieces[d->n_pieces++] = *piece;
    return PST_OK;
}

/* List the frames of the whole object. *is_known 0: one of them does not tell how long its content is, or
 * is not in order, or they are too many; decoding it as a stream will tell. */
static pst_rc list_frames(struct decode *d, int *is_known, pst_error *err)
{
    const char *p = pst_buffer_data(d->stored);
    size_t left = pst_buffer_size(d->stored), at = 0, n_room = 0;
    *is_known = 0;
    while (left > 0) {
        size_t n = pst_frame_is_start(p + at, left) ? d->zstd->frame_size(p + at, left) : 0;
        unsigned long long content = d->zstd->content_size(p + at, left);
        if (n == 0 || d->zstd->is_error(n) || content == PST_ZSTD_UNKNOWN ||
            content == PST_ZSTD_ERROR || content > SIZE_MAX / 2 - d->content_len ||
            (d->n_pieces >= LIST_MIN &&
             d->n_pieces > pst_buffer_size(d->stored) / sizeof(d->pieces[0])))
            return PST_OK;
        const struct pst_decode_piece piece = {.in = p + at,
                                               .in_len = n,
                                               .stored_at = at,
                                               .content_len = (size_t)content,
                                               .take = (size_t)content,
                                               .dst_at = d->content_len};
        pst_rc rc = pst_decode_add_piece(d, &piece, &n_room, err);
        if (rc != PST_OK)
            return rc;
        d->content_len += (size_t)content;
        at += n;
        left -= n;
    }
    *is_known = at > 0;
    return PST_OK;
}

/* The buffer is full: twice the room. Does not wait: who holds bytes cannot let go of them. */
static pst_rc grow(struct decode *d, size_t used, pst_error *err)
{
    struct pst_budget *budget = &d->port->core->budget;
    size_t capacity = d->own.len, larger = capacity ? capacity * 2 : GROW_BYTES;
    pst_buffer *old = d->buffer;
    if (d->reserved_bytes + larger > budget->limit_bytes)
        return pst_fail(
            err, PST_E_OVER_BUDGET,
            "%zu stored bytes have more than %zu bytes of content, the memory budget is "
            "%" PRIu64 " bytes",
            pst_buffer_size(d->stored), used, budget->limit_bytes);
    pst_budget_force(budget, larger);
    d->reserved_bytes += larger;
    pst_rc rc = pst_decode_make_buffer(d, larger, err);
    if (rc == PST_OK && old) {
        memcpy(d->own.ptr, pst_buffer_bytes(old), used);
        pst_budget_release(budget, capacity);
        d->reserved_bytes -= capacity;
    }
    pst_buffer_unref(old);
    return rc;
}

static pst_rc decode_stream(struct decode *d, pst_error *err)
{
    struct pst_decoder *decoder = NULL;
    const char *in = pst_buffer_data(d->stored);
    size_t in_len = pst_buffer_size(d->stored), at = 0, done = 0, n_in = 0, n_out = 0;
    pst_rc rc = pst_decode_reserve(d, in_len, 0, 0, err);
    if (rc == PST_OK)
        rc = pst_decoder_new(&decoder, err);
    while (rc == PST_OK) {
        if (done == d->own.len)
            rc = grow(d, done, err);
        if (rc == PST_OK && (rc = pst_decode_strike(&d->limit)) != PST_OK)
            pst_fail(err, rc, "%s", pst_rc_text(rc));
        size_t room = d->own.len - done < GROW_BYTES * 8 ? d->own.len - done : GROW_BYTES * 8;
        if (rc == PST_OK)
            rc = pst_decoder_run(decoder, in + at, in_len - at, &n_in, (char *)d->own.ptr + done,
                                 room, &n_out, err);
        if (rc != PST_OK || (n_in == 0 && n_out == 0))
            break;
        if (pst_decode_is_summed(d)) /* while it is in cache */
            d->crc32c = pst_crc32c(d->crc32c, (char *)d->own.ptr + done, n_out);
        at += n_in;
        done += n_out;
    }
    if (rc == PST_OK)
        rc = pst_decoder_end(decoder, err);
    pst_decoder_free(decoder);
    d->content_len = done;
    return rc;
}

/* ---- the whole object -------------------------------------------------------------------------- */

pst_rc pst_decode_all(struct decode *d, const pst_iov *spans, size_t n_spans, pst_error *err)
{
    const struct pst_decode_dst dst = {spans, n_spans, pst_decode_is_summed(d) != 0};
    pst_rc rc = pst_decode_pieces(d->port, d->pieces, d->n_pieces, &dst, &d->limit, err);
    d->crc32c = 0;
    for (size_t i = 0; i < d->n_pieces; i++)
        d->crc32c = pst_crc32c_combine(d->crc32c, d->pieces[i].crc32c, d->pieces[i].take);
    return rc;
}

pst_rc pst_decode_whole(struct decode *d, pst_error *err)
{
    int is_known = 0;
    d->options.flags |= d->flags & PST_READ_VERIFY; /* of the stored bytes, all of them */
    pst_rc rc = pst_get(d->store, d->ask->key, &d->options, pst_decode_call_now(d), &d->stored,
                        &d->info, err);
    d->is_told = rc != PST_OK;
    if (rc == PST_OK)
        rc = list_frames(d, &is_known, err);
    if (rc != PST_OK)
        return rc;
    if (!is_known) {
        free(d->pieces);
        d->pieces = NULL;
        d->n_pieces = 0;
        d->content_len = 0;
        return decode_stream(d, err);
    }
    rc = pst_decode_reserve(d, pst_buffer_size(d->stored), d->content_len, 0, err);
    if (rc == PST_OK)
        rc = pst_decode_make_buffer(d, d->content_len, err);
    return rc == PST_OK ? pst_decode_all(d, &d->own, 1, err) : rc;
}

/* ---- the call ---------------------------------------------------------------------------------- */

static pst_rc start(struct decode *d, const pst_read_options *options, const pst_call *call,
                    pst_error *err)
{
    struct pst_get_spec spec = {.port = d->port, .key = d->ask->key};
    pst_rc rc = pst_read_take_options(options, &spec, err); /* checks them, and the key */
    if (rc != PST_OK)
        return rc;
    rc = pst_options_take(&d->options, sizeof(d->options), options, err);
    if (rc == PST_OK)
        rc = pst_options_take(&d->call, sizeof(d->call), call, err);
    if (rc == PST_OK)
        rc = pst_zstd_get(&d->zstd, err);
    d->flags = d->options.flags;
    d->options.struct_size = sizeof(d->options);
    d->options.flags &= PST_READ_ALLOW_UNPINNED;
    d->options.decode = PST_DECODE_NEVER;
    d->call.struct_size = sizeof(d->call);
    d->info.struct_size = sizeof(d->info);
    return rc == PST_OK ? rc : pst_fail_at(d->port, "GET", d->ask->key, rc, err, err);
}

static pst_rc check_delivered(const struct decode *d, pst_error *err)
{
    const struct pst_decode_ask *ask = d->ask;
    if ((d->flags & PST_READ_EXACT) && !ask->is_suffix && ask->length != PST_UNKNOWN &&
        d->content_len < ask->length)
        return pst_fail(err, PST_E_RANGE, "the content ends after %zu of %" PRIu64 " bytes",
                        d->content_len, ask->length);
    if (d->flags & PST_READ_EXPECT_CRC32C)
        return pst_read_check_crc32c(d->options.expected_crc32c, d->crc32c, err);
    return PST_OK;
}

static void fill_info(const struct decode *d, pst_read_info *info)
{
    const struct pst_get_outcome outcome = {.n_read = d->content_len,
                                            .object_size = d->info.object_size,
                                            .etag_strength = d->info.etag_strength,
                                            .etag = pst_str_of(d->info.etag, strlen(d->info.etag)),
                                            .elapsed_ns = pst_now_ns() - d->began_ns,
                                            .part_bytes = d->info.part_bytes,
                                            .n_ranges = d->info.n_ranges,
                                            .max_in_flight = d->info.max_in_flight,
                                            .n_retries = d->info.n_retries,
                                            .n_hedges = d->info.n_hedges,
                                            .n_hedges_won = d->info.n_hedges_won,
                                            .has_crc32c = pst_decode_is_summed(d),
                                            .crc32c = d->crc32c,
                                            .is_verified = d->info.is_verified};
    pst_get_fill_info(&outcome, info);
}

static pst_rc hand_over(struct decode *d, pst_buffer **out, size_t *n_read, pst_error *err)
{
    if (d->ask->dst) {
        *n_read = d->content_len;
        return PST_OK;
    }
    pst_rc rc = d->buffer ? (pst_rc)PST_OK : pst_decode_make_buffer(d, 0, err);
    if (rc != PST_OK)
        return rc;
    pst_buffer_set_size(d->buffer, d->content_len);
    pst_buffer_hand_out(d->buffer);
    *out = d->buffer;
    d->buffer = NULL;
    return PST_OK;
}

pst_rc pst_decode_read(pst_store *store, const struct pst_decode_ask *ask,
                       const pst_read_options *options, const pst_call *call, pst_buffer **out,
                       size_t *n_read, pst_read_info *info, pst_error *err)
{
    struct decode d = {.store = store, .ask = ask, .limit = pst_limit_of(call)};
    const int is_whole = !ask->dst && !ask->is_suffix && ask->offset == 0 &&
                         ask->length == PST_UNKNOWN;
    pst_error cause = PST_ERROR_INIT;
    d.began_ns = pst_now_ns();
    pst_rc rc = pst_store_port(store, &d.port, err);
    if (rc != PST_OK)
        return rc;
    rc = start(&d, options, call, err);
    if (rc == PST_OK) {
        rc = is_whole ? pst_decode_whole(&d, &cause) : pst_decode_range(&d, &cause);
        if (rc == PST_OK)
            rc = check_delivered(&d, &cause);
        if (rc == PST_OK)
            rc = hand_over(&d, out, n_read, &cause);
        if (rc == PST_OK)
            fill_info(&d, info);
        else if (d.is_told)
            pst_error_copy(err, &cause);
        else
            pst_fail_at(d.port, "GET", ask->key, rc, &cause, err);
    }
    pst_buffer_unref(d.stored);
    pst_buffer_unref(d.tail);
    pst_buffer_unref(d.buffer);
    free(d.pieces);
    pst_budget_release(&d.port->core->budget, d.reserved_bytes);
    pst_port_unref(d.port);
    return rc;
}
