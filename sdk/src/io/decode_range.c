/* decode_range.c - ranges of the content of a seekable zstd object.
 *
 * The object's last 64 KiB are fetched, which nearly always hold all of its seek table, then just the
 * frames that the range touches, if they were not among those bytes. All requests are pinned to the first
 * one's version; an object whose version cannot be pinned is fetched whole, by one request, unless
 * PST_READ_ALLOW_UNPINNED is given. A table is believed only as far as the frames agree with it.
 *
 * An object without a table is read from its start only: anything else would decompress, and pay for, what
 * nobody asked for. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec/seek_table.h"
#include "core/error.h"
#include "io/decode_state.h"

#define TAIL_BYTES ((uint64_t)64 << 10)

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
    pst_rc rc = pst_get_range(d->store, d->ask->key, offset, length, &options,
                              pst_decode_call_now(d), out, &info, err);
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

/* The object's end, which holds the table, and what the object is. Where nothing can pin a second read to
 * the version of the first, all of it comes at once. */
static pst_rc read_tail(struct decode *d, pst_error *err)
{
    pst_rc rc = pst_get_suffix(d->store, d->ask->key, TAIL_BYTES, &d->options,
                               pst_decode_call_now(d), &d->tail, &d->info, err);
    if (rc == PST_OK && d->info.etag_strength != PST_ETAG_STRONG &&
        !(d->flags & PST_READ_ALLOW_UNPINNED) && pst_buffer_size(d->tail) == TAIL_BYTES) {
        pst_buffer_unref(d->tail);
        d->tail = NULL;
        rc = pst_get(d->store, d->ask->key, &d->options, pst_decode_call_now(d), &d->tail, &d->info,
                     err);
    }
    d->is_told = rc != PST_OK;
    return rc;
}

static pst_rc read_table(struct decode *d, struct pst_seek_table **out, pst_error *err)
{
    pst_buffer *longer = NULL;
    uint64_t table_bytes = 0;
    pst_rc rc = read_tail(d, err);
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
        pst_rc rc = pst_decode_add_piece(d, &piece, &n_room, err);
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
        rc = pst_decode_reserve(d, stored, is_new ? d->content_len : 0, bytes_beside(d, &dst), err);
    if (rc == PST_OK && is_new)
        rc = pst_decode_make_buffer(d, d->content_len, err);
    return rc == PST_OK ? pst_decode_all(d, dst.spans, dst.n_spans, err) : rc;
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
    pst_rc rc = pst_decode_whole(d, err);
    if (rc != PST_OK)
        return rc;
    if (d->content_len > d->ask->length)
        d->content_len = (size_t)d->ask->length;
    if (pst_decode_is_summed(d))
        d->crc32c = pst_crc32c(0, d->own.ptr, d->content_len);
    if (d->ask->dst)
        scatter(d->ask, d->own.ptr, d->content_len);
    return PST_OK;
}

pst_rc pst_decode_range(struct decode *d, pst_error *err)
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
