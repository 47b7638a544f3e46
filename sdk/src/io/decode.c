/* decode.c - whole objects and ranges of them, decompressed.
 *
 * A whole object is fetched as it is stored, by the range engine, and its frames are found by walking
 * over them: their headers tell how long the content is, so that one buffer of exactly that size is made
 * and all frames go into it side by side (decode_crew.c). Where a header does not tell, the object is
 * decoded as a stream into a buffer that grows. The seek table plays no part in this.
 *
 * A range needs the table: the object's last 64 KiB are fetched, which nearly always hold all of it, then
 * just the frames that the range touches, if they were not among those bytes. Both requests are pinned to
 * the first one's version. An object without a table is read from its start only: anything else would
 * decompress, and pay for, what nobody asked for. A table is believed only as far as the frames agree.
 *
 * Memory: the stored bytes and the content are reserved from the budget in one step before anything is
 * decompressed; what can never fit is refused with the sizes. A length that lies is found out when the
 * frame ends elsewhere, and nothing is written beyond what was announced. */
#include "io/decode.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "codec/frame.h"
#include "codec/name.h"
#include "codec/seek_table.h"
#include "codec/zstd_lib.h"
#include "core/error.h"
#include "io/decode_crew.h"
#include "io/get.h"
#include "io/room.h"
#include "io/verb.h"

#define TAIL_BYTES ((uint64_t)64 << 10)
#define GROW_BYTES ((size_t)1 << 20)

struct decode {
    pst_store *store;
    struct pst_port *port;
    const struct pst_zstd *zstd;
    const struct pst_decode_ask *ask;
    pst_read_options options; /* of the caller; then of the reads of stored bytes */
    uint32_t flags;           /* ... and the caller's */
    pst_call call;            /* of the reads of stored bytes */
    struct pst_limit limit;
    uint64_t began_ns;
    pst_read_info info; /* of the first read, then summed up */
    pst_buffer *stored, *tail;
    uint64_t stored_at;
    struct pst_decode_piece *pieces;
    size_t n_pieces, content_len;
    pst_iov own; /* the span that is a new buffer */
    pst_buffer *buffer;
    uint32_t crc32c;
    uint64_t reserved_bytes;
    int is_told; /* a read of stored bytes failed, and has said all there is to say */
};

static uint32_t is_summed(const struct decode *d)
{
    return (d->flags & (PST_READ_CRC32C | PST_READ_EXPECT_CRC32C)) ? 1 : 0;
}

pst_rc pst_decode_asked(const pst_read_options *given, pst_str key, int *is_asked, pst_error *err)
{
    pst_read_options options;
    *is_asked = 0;
    pst_rc rc = pst_options_take(&options, sizeof(options), given, err);
    return rc == PST_OK ? pst_decode_wanted(options.decode, key, is_asked, err) : rc;
}

/* ---- reading what is stored -------------------------------------------------------------------- */

/* What is left of the caller's time. */
static const pst_call *call_now(struct decode *d)
{
    if (d->limit.deadline_ns > 0) {
        uint64_t now_ns = pst_now_ns();
        d->call.timeout_ms = now_ns < d->limit.deadline_ns
                                 ? (d->limit.deadline_ns - now_ns) / 1000000u + 1
                                 : 1;
    }
    return &d->call;
}

static void add_info(struct decode *d, const pst_read_info *more)
{
    d->info.n_ranges += more->n_ranges;
    d->info.n_retries += more->n_retries;
    d->info.n_hedges += more->n_hedges;
    d->info.n_hedges_won += more->n_hedges_won;
    if (more->part_bytes > d->info.part_bytes)
        d->info.part_bytes = more->part_bytes;
    if (more->max_in_flight > d->info.max_in_flight)
        d->info.max_in_flight = more->max_in_flight;
}

/* A later read, of the version that the first one saw. */
static pst_rc read_pinned(struct decode *d, uint64_t offset, uint64_t length, pst_buffer **out,
                          pst_error *err)
{
    pst_read_options options = d->options;
    pst_read_info info = {.struct_size = sizeof(info)};
    int is_own_pin = options.if_match.len == 0 && d->info.etag_strength == PST_ETAG_STRONG;
    if (is_own_pin)
        options.if_match = pst_str_of(d->info.etag, strlen(d->info.etag));
    pst_rc rc = pst_get_range(d->store, d->ask->key, offset, length, &options, call_now(d), out,
                              &info, err);
    int is_changed = rc == PST_E_PRECONDITION && is_own_pin;
    if (rc == PST_OK &&
        (strcmp(info.etag, d->info.etag) != 0 || info.object_size != d->info.object_size ||
         pst_buffer_size(*out) != length))
        is_changed = 1;
    d->is_told = rc != PST_OK && !is_changed;
    if (is_changed) {
        pst_buffer_unref(*out);
        *out = NULL;
        return pst_fail(err, PST_E_CHANGED, "the object changed while it was read");
    }
    add_info(d, &info);
    return rc;
}

/* ---- memory ------------------------------------------------------------------------------------ */

static pst_rc reserve(struct decode *d, uint64_t stored, uint64_t content, uint64_t beside,
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

static pst_rc make_buffer(struct decode *d, size_t bytes, pst_error *err)
{
    d->buffer = pst_buffer_new(d->port->core->arenas, bytes, 0);
    if (!d->buffer)
        return pst_fail(err, PST_E_NO_MEMORY, "no memory for %zu decompressed bytes", bytes);
    d->own = (pst_iov){pst_buffer_bytes(d->buffer), bytes};
    return PST_OK;
}

/* ---- frames ------------------------------------------------------------------------------------ */

static pst_rc add_piece(struct decode *d, const struct pst_decode_piece *piece, size_t *n_room,
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
 * is not in order; decoding it as a stream will tell. */
static pst_rc list_frames(struct decode *d, int *is_known, pst_error *err)
{
    const char *p = pst_buffer_data(d->stored);
    size_t left = pst_buffer_size(d->stored), at = 0, n_room = 0;
    *is_known = 0;
    while (left > 0) {
        size_t n = pst_frame_is_start(p + at, left) ? d->zstd->frame_size(p + at, left) : 0;
        unsigned long long content = d->zstd->content_size(p + at, left);
        if (n == 0 || d->zstd->is_error(n) || content == PST_ZSTD_UNKNOWN ||
            content == PST_ZSTD_ERROR || content > SIZE_MAX / 2 - d->content_len)
            return PST_OK;
        const struct pst_decode_piece piece = {.in = p + at,
                                               .in_len = n,
                                               .stored_at = at,
                                               .content_len = (size_t)content,
                                               .take = (size_t)content,
                                               .dst_at = d->content_len};
        pst_rc rc = add_piece(d, &piece, &n_room, err);
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
    pst_rc rc = make_buffer(d, larger, err);
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
    pst_rc rc = reserve(d, in_len, 0, 0, err);
    if (rc == PST_OK)
        rc = pst_decoder_new(&decoder, err);
    while (rc == PST_OK) {
        if (done == d->own.len)
            rc = grow(d, done, err);
        if (rc == PST_OK && d->limit.cancel && pst_cancel_fired(d->limit.cancel))
            rc = pst_fail(err, PST_E_CANCELLED, "%s", pst_rc_text(PST_E_CANCELLED));
        size_t room = d->own.len - done < GROW_BYTES * 8 ? d->own.len - done : GROW_BYTES * 8;
        if (rc == PST_OK)
            rc = pst_decoder_run(decoder, in + at, in_len - at, &n_in, (char *)d->own.ptr + done,
                                 room, &n_out, err);
        if (rc != PST_OK || (n_in == 0 && n_out == 0))
            break;
        at += n_in;
        done += n_out;
    }
    if (rc == PST_OK)
        rc = pst_decoder_end(decoder, err);
    pst_decoder_free(decoder);
    d->content_len = done;
    if (rc == PST_OK && is_summed(d))
        d->crc32c = pst_crc32c(0, d->own.ptr, done);
    return rc;
}

/* ---- the whole object -------------------------------------------------------------------------- */

static pst_rc decode_pieces(struct decode *d, const pst_iov *spans, size_t n_spans, pst_error *err)
{
    const struct pst_decode_dst dst = {spans, n_spans, is_summed(d) != 0};
    pst_rc rc = pst_decode_pieces(d->port, d->pieces, d->n_pieces, &dst, &d->limit, err);
    d->crc32c = 0;
    for (size_t i = 0; i < d->n_pieces; i++)
        d->crc32c = pst_crc32c_combine(d->crc32c, d->pieces[i].crc32c, d->pieces[i].take);
    return rc;
}

static pst_rc read_whole(struct decode *d, pst_error *err)
{
    int is_known = 0;
    d->options.flags |= d->flags & PST_READ_VERIFY; /* of the stored bytes, all of them */
    pst_rc rc = pst_get(d->store, d->ask->key, &d->options, call_now(d), &d->stored, &d->info, err);
    d->is_told = rc != PST_OK;
    if (rc == PST_OK)
        rc = list_frames(d, &is_known, err);
    if (rc != PST_OK)
        return rc;
    if (!is_known) {
        d->n_pieces = 0;
        d->content_len = 0;
        return decode_stream(d, err);
    }
    rc = reserve(d, pst_buffer_size(d->stored), d->content_len, 0, err);
    if (rc == PST_OK)
        rc = make_buffer(d, d->content_len, err);
    return rc == PST_OK ? decode_pieces(d, &d->own, 1, err) : rc;
}

/* ---- a range ----------------------------------------------------------------------------------- */

static pst_rc read_table(struct decode *d, struct pst_seek_table **out, pst_error *err)
{
    pst_buffer *longer = NULL;
    uint64_t table_bytes = 0;
    pst_rc rc = pst_get_suffix(d->store, d->ask->key, TAIL_BYTES, &d->options, call_now(d),
                               &d->tail, &d->info, err);
    if (rc != PST_OK)
        return rc;
    const size_t len = pst_buffer_size(d->tail);
    const char *end = len > 0 ? (const char *)pst_buffer_data(d->tail) + len : NULL;
    if (len >= PST_SEEK_FOOTER_BYTES && d->info.object_size != PST_UNKNOWN)
        rc = pst_seek_table_find(end - PST_SEEK_FOOTER_BYTES, d->info.object_size, &table_bytes,
                                 err);
    if (rc != PST_OK || table_bytes == 0)
        return rc;
    if (table_bytes > len) {
        rc = read_pinned(d, d->info.object_size - table_bytes, table_bytes, &longer, err);
        if (rc == PST_OK)
            end = (const char *)pst_buffer_data(longer) + table_bytes;
    }
    if (rc == PST_OK)
        rc = pst_seek_table_read(end - table_bytes, table_bytes, d->info.object_size, out, err);
    pst_buffer_unref(longer);
    return rc;
}

/* The part of the content that is asked for, as pread would have it. */
static void clip(const struct pst_decode_ask *ask, uint64_t total, uint64_t *from, uint64_t *to)
{
    uint64_t length = ask->length;
    *from = ask->offset < total ? ask->offset : total;
    if (ask->is_suffix)
        *from = length < total ? total - length : 0;
    *to = length < total - *from ? *from + length : total;
}

/* The frames first..last as pieces, after `d->stored` holds them. */
static pst_rc list_range(struct decode *d, const struct pst_seek_table *table, size_t first,
                         size_t last, uint64_t from, uint64_t to, pst_error *err)
{
    size_t n_room = 0;
    for (size_t i = first; i <= last; i++) {
        const struct pst_seek_point *at = &table->at[i], *next = &table->at[i + 1];
        const uint64_t a = at->content_at > from ? at->content_at : from;
        const uint64_t b = next->content_at < to ? next->content_at : to;
        const struct pst_decode_piece piece = {
            .in = (const char *)pst_buffer_data(d->stored) + (at->stored_at - d->stored_at),
            .in_len = (size_t)(next->stored_at - at->stored_at),
            .stored_at = at->stored_at,
            .content_len = (size_t)(next->content_at - at->content_at),
            .skip = (size_t)(a - at->content_at),
            .take = (size_t)(b - a),
            .dst_at = (size_t)(a - from)};
        unsigned long long content = d->zstd->content_size(piece.in, piece.in_len);
        if (content != PST_ZSTD_UNKNOWN && content != PST_ZSTD_ERROR &&
            content != piece.content_len)
            return pst_fail(err, PST_E_DATA_LOSS,
                            "the zstd frame at offset %" PRIu64
                            " says it has %llu bytes of content, the seek table says %zu",
                            piece.stored_at, content, piece.content_len);
        pst_rc rc = add_piece(d, &piece, &n_room, err);
        if (rc != PST_OK)
            return rc;
    }
    return PST_OK;
}

/* Memory for frames that cannot be decompressed where they belong. */
static uint64_t bytes_beside(const struct decode *d, const struct pst_decode_dst *dst)
{
    size_t n = 0, longest = 0;
    for (size_t i = 0; i < d->n_pieces; i++) {
        if (pst_decode_is_in_place(&d->pieces[i], dst))
            continue;
        n++;
        if (d->pieces[i].content_len > longest)
            longest = d->pieces[i].content_len;
    }
    return (uint64_t)pst_decode_threads(d->port, n) * longest;
}

static pst_rc read_frames(struct decode *d, const struct pst_seek_table *table, uint64_t from,
                          uint64_t to, pst_error *err)
{
    const size_t first = pst_seek_table_frame_of(table, from);
    const size_t last = pst_seek_table_frame_of(table, to - 1);
    const uint64_t stored = table->at[last + 1].stored_at - table->at[first].stored_at;
    const uint64_t tail_at = d->info.object_size - pst_buffer_size(d->tail);
    const int is_new = d->ask->dst == NULL;
    pst_rc rc = PST_OK;
    d->content_len = (size_t)(to - from);
    d->stored_at = table->at[first].stored_at;
    if (d->stored_at >= tail_at) {
        d->stored = pst_buffer_ref(d->tail);
        d->stored_at = tail_at;
    } else {
        rc = read_pinned(d, d->stored_at, stored, &d->stored, err);
    }
    if (rc == PST_OK)
        rc = list_range(d, table, first, last, from, to, err);
    const struct pst_decode_dst dst = {is_new ? &d->own : d->ask->dst, is_new ? 1 : d->ask->n_dst,
                                       0};
    d->own.len = d->content_len; /* to see what can go where it belongs */
    if (rc == PST_OK)
        rc = reserve(d, stored, is_new ? d->content_len : 0, bytes_beside(d, &dst), err);
    if (rc == PST_OK && is_new)
        rc = make_buffer(d, d->content_len, err);
    return rc == PST_OK ? decode_pieces(d, dst.spans, dst.n_spans, err) : rc;
}

static void scatter(const struct pst_decode_ask *ask, const char *from, size_t len)
{
    for (size_t i = 0; i < ask->n_dst && len > 0; i++) {
        size_t n = ask->dst[i].len < len ? ask->dst[i].len : len;
        memcpy(ask->dst[i].ptr, from, n);
        from += n;
        len -= n;
    }
}

/* Without a table, from the start: all of it is decompressed, and what is beyond `length` dropped. */
static pst_rc read_start(struct decode *d, pst_error *err)
{
    if (d->ask->is_suffix || d->ask->offset > 0)
        return pst_fail(err, PST_E_UNIMPLEMENTED,
                        "the object has no zstd seek table, so that no range of its content can be "
                        "read: read all of it, or store it with Penstock's compression");
    pst_rc rc = read_whole(d, err);
    if (rc != PST_OK)
        return rc;
    if (d->content_len > d->ask->length)
        d->content_len = (size_t)d->ask->length;
    if (is_summed(d))
        d->crc32c = pst_crc32c(0, d->own.ptr, d->content_len);
    if (d->ask->dst)
        scatter(d->ask, d->own.ptr, d->content_len);
    return PST_OK;
}

static pst_rc read_range(struct decode *d, pst_error *err)
{
    struct pst_seek_table *table = NULL;
    uint64_t from = 0, to = 0;
    pst_rc rc = read_table(d, &table, err);
    if (rc == PST_OK && !table)
        rc = read_start(d, err);
    if (rc == PST_OK && table) {
        clip(d->ask, table->at[table->n_frames].content_at, &from, &to);
        if (to > from)
            rc = read_frames(d, table, from, to, err);
    }
    free(table);
    return rc;
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
                                            .has_crc32c = is_summed(d),
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
    pst_rc rc = d->buffer ? (pst_rc)PST_OK : make_buffer(d, 0, err);
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
        rc = is_whole ? read_whole(&d, &cause) : read_range(&d, &cause);
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
