/* writer_zstd.c - a writer that compresses: bytes of the application go through io/compress.c, what comes
 * out becomes parts.
 *
 * The compressor emits on the thread that writes, so parts, budget and errors are those of any writer.
 * Two checksums are kept: of the bytes given, which the result tells, and of the bytes stored, which go
 * to the store with each part. How many bytes there will be is not known, only the most that it can be:
 * that bounds the parts, so that a stream whose length is known fits, and it is no promise to the store.
 *
 * pst_writer_reserve lends one piece of scratch memory, since what is committed is copied into a frame. */
#include "io/writer_state.h"

#include <penstock/sum.h>

#include "core/error.h"
#include "io/compress.h"

#define LEND_BYTES ((uint64_t)1 << 20)
#define SUM_BYTES ((size_t)128 << 10) /* summed, then copied into a frame, while in cache */

static pst_rc on_compressed(void *arg, const void *data, size_t len)
{
    return pst_parts_append(arg, data, len, NULL);
}

pst_rc pst_compressed_open(struct pst_writer *writer, const pst_write_options *options,
                           pst_error *err)
{
    return pst_compressor_new(writer->port, options, on_compressed, writer, &writer->compressor,
                              err);
}

/* A part that failed has said why. */
static pst_rc fail_unless_said(struct pst_writer *writer, pst_rc rc, const pst_error *cause)
{
    if (rc == PST_OK || writer->error.code == rc)
        return rc;
    pst_error_copy(&writer->error, cause);
    writer->error.code = rc;
    return pst_writer_fail(writer, rc);
}

pst_rc pst_compressed_append(struct pst_writer *writer, const char *data, size_t len,
                             pst_buffer *owner)
{
    struct pst_sink_run run = pst_writer_run(writer);
    pst_error cause = PST_ERROR_INIT;
    pst_rc rc = PST_OK;
    while (len > 0 && rc == PST_OK) {
        size_t n = owner || len < SUM_BYTES ? len : SUM_BYTES;
        if (writer->sums.which & PST_SUM_BIT(PST_SUM_CRC32C))
            writer->given_crc32c = pst_crc32c(writer->given_crc32c, data, n);
        rc = pst_compressor_write(writer->compressor, data, n, owner, &run.limit, &cause);
        data += n;
        len -= n;
    }
    return fail_unless_said(writer, rc, &cause);
}

pst_rc pst_compressed_lend(struct pst_writer *writer, size_t want, void **out, size_t *len)
{
    pst_rc rc = PST_OK;
    if (!writer->scratch) {
        struct pst_sink_run run = pst_writer_run(writer);
        uint64_t bytes = writer->port->core->budget.limit_bytes / 8;
        bytes = bytes > LEND_BYTES ? LEND_BYTES : bytes > 0 ? bytes : 1;
        rc = pst_cargo_new(writer->port, (size_t)bytes, 0, &run.limit, &writer->scratch);
    }
    if (rc == PST_OK)
        rc = pst_cargo_lend(writer->scratch, writer->port, out, len);
    if (rc != PST_OK)
        return pst_writer_fail(writer, rc);
    if (*len > want)
        *len = want;
    return PST_OK;
}

pst_rc pst_compressed_keep(struct pst_writer *writer, size_t len)
{
    void *data = NULL;
    size_t room = 0;
    pst_rc rc = pst_cargo_lend(writer->scratch, writer->port, &data, &room); /* the same again */
    return rc == PST_OK ? pst_compressed_append(writer, data, len, NULL)
                        : pst_writer_fail(writer, rc);
}

pst_rc pst_compressed_finish(struct pst_writer *writer)
{
    struct pst_sink_run run = pst_writer_run(writer);
    pst_error cause = PST_ERROR_INIT;
    pst_cargo_free(writer->scratch);
    writer->scratch = NULL;
    pst_rc rc = pst_compressor_finish(writer->compressor, &run.limit, &cause);
    return fail_unless_said(writer, rc, &cause);
}

void pst_compressed_close(struct pst_writer *writer)
{
    pst_compressor_free(writer->compressor);
    pst_cargo_free(writer->scratch);
    writer->compressor = NULL;
    writer->scratch = NULL;
}
