/* reader_decode.c - zstd between the ranges of a reader and the application. */
#include <string.h>

#include <penstock/sum.h>

#include "codec/decoder.h"
#include "core/error.h"
#include "io/reader_state.h"
#include "io/room.h"

/* The stored bytes have ended: so must the stream. */
static pst_rc end_stream(struct pst_reader *reader)
{
    pst_error cause = PST_ERROR_INIT;
    pst_rc rc = pst_decoder_end(reader->decoder, &cause);
    if (rc != PST_OK)
        return pst_reader_fail(reader, rc, &cause);
    return pst_reader_check_sums(reader);
}

pst_rc pst_reader_decode(struct pst_reader *reader, const struct pst_limit *limit, void *dst,
                         size_t capacity, size_t *n_read)
{
    struct pst_reader_piece *piece = &reader->piece;
    pst_error cause = PST_ERROR_INIT;
    int is_input_over = 0;
    while (*n_read < capacity && !reader->is_over) {
        size_t n_in = 0, n_out = 0;
        if (piece->at == piece->n && !is_input_over) {
            pst_reader_drop_piece(reader);
            pst_rc rc = pst_reader_take(reader, limit, &is_input_over);
            if (rc != PST_OK)
                return rc;
        }
        const char *in = piece->n > 0 ? (const char *)pst_buffer_data(piece->buffer) + piece->at
                                      : NULL;
        pst_rc rc = pst_decoder_run(reader->decoder, in, piece->n - piece->at, &n_in,
                                    (char *)dst + *n_read, capacity - *n_read, &n_out, &cause);
        if (rc != PST_OK)
            return pst_reader_fail(reader, rc, &cause);
        if (reader->flags & (PST_READ_CRC32C | PST_READ_EXPECT_CRC32C))
            reader->info.crc32c = pst_crc32c(reader->info.crc32c, (char *)dst + *n_read, n_out);
        piece->at += n_in;
        *n_read += n_out;
        if (n_in > 0 || n_out > 0 || !is_input_over)
            continue;
        rc = end_stream(reader);
        if (rc != PST_OK)
            return rc;
        reader->is_over = 1;
    }
    return PST_OK;
}

/* What came out is far shorter than the buffer: keep it in memory of its own size. */
static pst_buffer *shrink(struct pst_reader *reader, pst_buffer *buffer, size_t n)
{
    pst_buffer *small = n < pst_buffer_capacity(buffer) / 2
                            ? pst_buffer_new(reader->port->core->arenas, n, 1)
                            : NULL;
    if (!small)
        return buffer;
    memcpy(pst_buffer_bytes(small), pst_buffer_bytes(buffer), n);
    pst_buffer_unref(buffer);
    return small;
}

pst_rc pst_reader_decode_next(struct pst_reader *reader, const struct pst_limit *limit,
                              pst_buffer **out)
{
    struct pst_core *core = reader->port->core;
    size_t n = 0;
    if (reader->is_over)
        return PST_OK;
    pst_rc rc = pst_room_reserve(&core->budget, reader->part_bytes, limit);
    if (rc != PST_OK)
        return pst_reader_fail(reader, rc, NULL);
    pst_buffer *buffer = pst_buffer_new(core->arenas, (size_t)reader->part_bytes, 1);
    pst_budget_idle(&core->budget, reader->part_bytes); /* nobody waits for it while we wait */
    if (!buffer)
        rc = pst_reader_fail(reader, PST_E_NO_MEMORY, NULL);
    else
        rc = pst_reader_decode(reader, limit, pst_buffer_bytes(buffer), (size_t)reader->part_bytes,
                               &n);
    if (rc == PST_OK && n > 0) {
        buffer = shrink(reader, buffer, n);
        pst_buffer_set_size(buffer, n);
        pst_buffer_hand_out(buffer);
        *out = buffer;
        buffer = NULL;
    }
    pst_buffer_unref(buffer);
    pst_budget_busy(&core->budget, reader->part_bytes);
    pst_budget_release(&core->budget, reader->part_bytes);
    return rc;
}
