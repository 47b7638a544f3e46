/* reader.c - an object as a stream: open, read, next.
 *
 * reader_window.c keeps ranges of one version coming, in order; here their bytes go to the application:
 * copied once by read, handed over as they are by next, or decompressed on the way straight to where they
 * are wanted (reader_decode.c).
 *
 * A checksum is complete before the last bytes are delivered, so that with PST_READ_EXPECT_CRC32C no
 * application ever holds all of a wrong stream without having seen the error. Of a decoded stream, whose
 * last bytes are known by its end only, it is compared before the end is told.
 *
 * Errors stay: after a failure every later call answers the same. The call given at open holds for each
 * call on the reader: its cancel token ends any of them, its timeout starts anew with each. Ranges ahead
 * know no deadline of their own; they end when a call on the reader gives up.
 *
 * What it does not do: seek. Another place is another reader. */
#include <stdlib.h>
#include <string.h>

#include <penstock/sum.h>

#include "codec/decoder.h"
#include "codec/name.h"
#include "core/error.h"
#include "io/reader_state.h"
#include "io/verb.h"

/* ---- open and free ---------------------------------------------------------------------------- */

static pst_rc check_range(const struct pst_reader *reader, int is_decoded, pst_error *err)
{
    if (is_decoded && (reader->offset != 0 || reader->length != PST_UNKNOWN))
        return pst_fail(
            err, PST_E_UNIMPLEMENTED,
            "a range of a compressed object cannot be decoded: offsets would be those of "
            "the stored bytes; read it whole, or with PST_DECODE_NEVER");
    return PST_OK;
}

static int keep_texts(struct pst_reader *reader, pst_str key, const pst_read_options *options)
{
    const pst_str from[] = {key, options->if_match, options->version};
    pst_str *const to[] = {&reader->key, &reader->if_match, &reader->version};
    reader->kept = malloc(key.len + options->if_match.len + options->version.len + 1);
    if (!reader->kept)
        return 0;
    char *at = reader->kept;
    for (size_t i = 0; i < 3; i++) {
        if (from[i].len > 0)
            memcpy(at, from[i].ptr, from[i].len);
        *to[i] = pst_str_of(at, from[i].len);
        at += from[i].len;
    }
    return 1;
}

/* Fill a zeroed reader; what it holds when this fails is freed by the caller. */
static pst_rc set_up(struct pst_reader *reader, pst_str key, const pst_read_options *given,
                     const pst_call *call, pst_error *err)
{
    const struct pst_budget *budget = &reader->port->core->budget;
    struct pst_reader_wish wish = {.length = reader->length};
    pst_read_options options;
    pst_rc rc = pst_options_take(&options, sizeof(options), given, err);
    if (rc == PST_OK)
        rc = pst_options_take(&reader->call, sizeof(reader->call), call, err);
    reader->call.struct_size = sizeof(reader->call);
    if (rc == PST_OK)
        rc = pst_decode_wanted(options.decode, key, &wish.is_decoded, err);
    if (rc == PST_OK)
        rc = check_range(reader, wish.is_decoded, err);
    wish.part_bytes = options.part_bytes;
    wish.max_in_flight = options.max_in_flight;
    if (rc == PST_OK)
        rc = pst_reader_plan(budget->limit_bytes, &reader->port->limits, &wish, &reader->part_bytes,
                             &reader->n_ahead, err);
    if (rc == PST_OK && !keep_texts(reader, key, &options))
        rc = pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    if (rc == PST_OK && wish.is_decoded)
        rc = pst_decoder_new(&reader->decoder, err);
    reader->flags = options.flags;
    if (rc == PST_OK && (options.flags & PST_READ_VERIFY) && !(reader->claims = pst_claims_new()))
        rc = pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    reader->hedge_after_ms = options.hedge_after_ms;
    reader->expected_crc32c = options.expected_crc32c;
    return rc == PST_OK ? rc : pst_fail_at(reader->port, "GET", key, rc, err, err);
}

pst_rc pst_reader_open(pst_store *store, pst_str key, uint64_t offset, uint64_t length,
                       const pst_read_options *options, const pst_call *call, pst_reader **out,
                       pst_error *err)
{
    struct pst_get_spec checked = {.key = key};
    *out = NULL;
    pst_rc rc = pst_store_port(store, &checked.port, err);
    if (rc != PST_OK)
        return rc;
    struct pst_reader *reader = calloc(1, sizeof(*reader));
    if (!reader) {
        rc = pst_fail_at(checked.port, "GET", key, PST_E_NO_MEMORY, NULL, err);
        pst_port_unref(checked.port);
        return rc;
    }
    atomic_init(&reader->refs, 1);
    pst_gate_init(&reader->gate);
    reader->port = checked.port;
    reader->generation = reader->port->core->generation;
    reader->offset = offset;
    reader->length = length;
    reader->began_ns = pst_now_ns();
    reader->error.struct_size = sizeof(reader->error);
    reader->locked.object_size = PST_UNKNOWN;
    reader->locked.end = PST_UNKNOWN;
    rc = pst_read_take_options(options, &checked, err);
    if (rc == PST_OK)
        rc = set_up(reader, key, options, call, err);
    if (rc == PST_OK && length > 0 && (rc = pst_reader_start(reader)) != PST_OK)
        pst_fail_at(reader->port, "GET", key, rc, NULL, err);
    if (rc != PST_OK) {
        pst_decoder_free(reader->decoder);
        pst_reader_unref(reader);
        return rc;
    }
    reader->is_over = length == 0;
    reader->context = pst_context_ref(pst_store_context(store));
    *out = reader;
    return PST_OK;
}

void pst_reader_free(pst_reader *reader)
{
    if (!reader || reader->generation != pst_fork_generation())
        return; /* in a fork child the parent's ranges, buffers and locks are not ours */
    pst_reader_stop(reader);
    pst_reader_drop_piece(reader);
    pst_decoder_free(reader->decoder);
    pst_context_unref(reader->context);
    pst_reader_unref(reader);
}

/* ---- checksum --------------------------------------------------------------------------------- */

static int wants_sum(const struct pst_reader *reader)
{
    return (reader->flags & (PST_READ_CRC32C | PST_READ_EXPECT_CRC32C)) != 0;
}

pst_rc pst_reader_check_sums(struct pst_reader *reader)
{
    pst_error cause = PST_ERROR_INIT;
    pst_rc rc = PST_OK;
    uint64_t agreed = 0;
    int is_claimed = pst_claims_is_set(reader->claims);
    if (!reader->decoder)
        reader->info.crc32c = reader->stored_crc32c;
    if (reader->flags & PST_READ_EXPECT_CRC32C)
        rc = pst_read_check_crc32c(reader->expected_crc32c, reader->info.crc32c, &cause);
    if (rc == PST_OK && is_claimed)
        rc = pst_claims_agreed(reader->claims, &agreed, &cause);
    if (rc != PST_OK)
        return pst_reader_fail(reader, rc, &cause);
    if (reader->stored_bytes > 0)
        reader->info.is_verified = agreed == reader->stored_bytes ||
                                   reader->agreed_bytes == reader->stored_bytes;
    else
        reader->info.is_verified = is_claimed && reader->locked.object_size == 0;
    return PST_OK;
}

/* ---- delivery --------------------------------------------------------------------------------- */

/* Refuse a call that the reader's state does not allow. */
static pst_rc check_state(struct pst_reader *reader, pst_error *err)
{
    struct pst_core *core;
    if (reader->generation != pst_fork_generation())
        return pst_fail(err, PST_E_FORKED, "the reader belongs to the process before fork");
    int is_cancelled = (reader->call.cancel && pst_cancel_fired(reader->call.cancel)) ||
                       pst_core_of(reader->context, &core, NULL) != PST_OK;
    if (reader->rc == PST_OK && is_cancelled)
        pst_reader_fail(reader, PST_E_CANCELLED, NULL);
    if (reader->rc != PST_OK)
        pst_error_copy(err, &reader->error);
    return reader->rc;
}

/* Have bytes at hand, unless this is the end. */
static pst_rc fill_piece(struct pst_reader *reader, const struct pst_limit *limit)
{
    int is_end = 0;
    while (!reader->is_over && reader->piece.at == reader->piece.n) {
        pst_reader_drop_piece(reader);
        pst_rc rc = pst_reader_take(reader, limit, &is_end);
        if (rc != PST_OK)
            return rc;
        if (is_end || pst_reader_is_last(reader)) {
            rc = pst_reader_check_sums(reader);
            if (rc != PST_OK)
                return rc;
        }
        reader->is_over = is_end;
    }
    return PST_OK;
}

static void note_end(struct pst_reader *reader)
{
    if (reader->is_over && reader->info.elapsed_ns == 0)
        reader->info.elapsed_ns = pst_now_ns() - reader->began_ns;
}

static pst_rc copy_pieces(struct pst_reader *reader, const struct pst_limit *limit, char *dst,
                          size_t capacity, size_t *n_read)
{
    while (*n_read < capacity) {
        pst_rc rc = fill_piece(reader, limit);
        if (rc != PST_OK || reader->is_over)
            return rc;
        struct pst_reader_piece *piece = &reader->piece;
        size_t left = capacity - *n_read, n = piece->n - piece->at;
        if (n > left)
            n = left;
        memcpy(dst + *n_read, (const char *)pst_buffer_data(piece->buffer) + piece->at, n);
        piece->at += n;
        *n_read += n;
    }
    return PST_OK;
}

pst_rc pst_reader_read(pst_reader *reader, void *dst, size_t capacity, size_t *n_read,
                       pst_error *err)
{
    struct pst_limit limit = pst_limit_of(&reader->call);
    *n_read = 0;
    pst_rc rc = check_state(reader, err);
    if (rc != PST_OK || capacity == 0)
        return rc;
    rc = reader->decoder ? pst_reader_decode(reader, &limit, dst, capacity, n_read)
                         : copy_pieces(reader, &limit, dst, capacity, n_read);
    if (rc != PST_OK) {
        *n_read = 0;
        pst_error_copy(err, &reader->error);
        return rc;
    }
    reader->info.n_read += *n_read;
    note_end(reader);
    return PST_OK;
}

/* Hand over what is left of the piece at hand. */
static pst_rc give_piece(struct pst_reader *reader, pst_buffer **out)
{
    struct pst_reader_piece *piece = &reader->piece;
    if (piece->at > 0) { /* read took the bytes before */
        pst_rc rc = pst_buffer_slice(piece->buffer, piece->at, piece->n - piece->at, out, NULL);
        if (rc != PST_OK)
            return pst_reader_fail(reader, rc, NULL);
    } else {
        *out = pst_buffer_ref(piece->buffer);
    }
    pst_buffer_hand_out(piece->buffer);
    pst_reader_drop_piece(reader);
    return PST_OK;
}

pst_rc pst_reader_next(pst_reader *reader, pst_buffer **out, pst_error *err)
{
    struct pst_limit limit = pst_limit_of(&reader->call);
    *out = NULL;
    pst_rc rc = check_state(reader, err);
    if (rc != PST_OK)
        return rc;
    if (reader->decoder) {
        rc = pst_reader_decode_next(reader, &limit, out);
    } else {
        rc = fill_piece(reader, &limit);
        if (rc == PST_OK && !reader->is_over)
            rc = give_piece(reader, out);
    }
    if (rc != PST_OK) {
        pst_error_copy(err, &reader->error);
        return rc;
    }
    reader->info.n_read += *out ? pst_buffer_size(*out) : 0;
    note_end(reader);
    return PST_OK;
}

void pst_reader_info(pst_reader *reader, pst_read_info *out)
{
    pst_read_info now;
    uint32_t size = out->struct_size;
    if (reader->generation != pst_fork_generation())
        return;
    now = reader->info;
    pthread_mutex_lock(&reader->gate.mutex);
    now.object_size = reader->locked.object_size;
    now.etag_strength = reader->locked.etag_strength;
    now.max_in_flight = reader->locked.most_under_way;
    memcpy(now.etag, reader->locked.etag, sizeof(now.etag));
    pthread_mutex_unlock(&reader->gate.mutex);
    now.struct_size = size;
    now.has_crc32c = wants_sum(reader) && reader->is_over;
    if (!now.has_crc32c)
        now.crc32c = 0;
    if (now.elapsed_ns == 0)
        now.elapsed_ns = pst_now_ns() - reader->began_ns;
    memcpy(out, &now, size < sizeof(now) ? size : sizeof(now));
}
