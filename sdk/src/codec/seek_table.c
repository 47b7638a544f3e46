#include "codec/seek_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#define SKIPPABLE_MAGIC 0x184d2a5eu
#define SEEKABLE_MAGIC 0x8f92eab1u
#define HAS_CHECKSUMS 0x80u
#define RESERVED_BITS 0x7cu /* a later format that a reader of this one must not guess at */
#define HEAD_BYTES 8u

static uint32_t get_u32(const void *at)
{
    const unsigned char *p = at;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_u32(void *at, uint32_t value)
{
    unsigned char *p = at;
    for (unsigned i = 0; i < 4; i++)
        p[i] = (unsigned char)(value >> (8 * i));
}

/* ---- reading ----------------------------------------------------------------------------------- */

pst_rc pst_seek_table_find(const void *footer, uint64_t object_bytes, uint64_t *table_bytes,
                           pst_error *err)
{
    const unsigned char *p = footer;
    const uint64_t n_frames = get_u32(p);
    *table_bytes = 0;
    if (get_u32(p + 5) != SEEKABLE_MAGIC)
        return PST_OK;
    if (p[4] & RESERVED_BITS)
        return pst_fail(err, PST_E_DATA_LOSS,
                        "the seek table's flags at offset %" PRIu64 " are of an unknown format",
                        object_bytes - PST_SEEK_FOOTER_BYTES + 4);
    uint64_t bytes = HEAD_BYTES + n_frames * (p[4] & HAS_CHECKSUMS ? 12 : 8) +
                     PST_SEEK_FOOTER_BYTES;
    if (n_frames > PST_SEEK_FRAMES_MAX || bytes > object_bytes)
        return pst_fail(err, PST_E_DATA_LOSS,
                        "the seek table at the end, offset %" PRIu64 ", cannot have %" PRIu64
                        " frames",
                        object_bytes - PST_SEEK_FOOTER_BYTES, n_frames);
    *table_bytes = bytes;
    return PST_OK;
}

pst_rc pst_seek_table_read(const void *table, uint64_t table_bytes, uint64_t object_bytes,
                           struct pst_seek_table **out, pst_error *err)
{
    const unsigned char *p = table;
    const unsigned char *footer = p + table_bytes - PST_SEEK_FOOTER_BYTES;
    const size_t n_frames = get_u32(footer), step = footer[4] & HAS_CHECKSUMS ? 12 : 8;
    const uint64_t table_at = object_bytes - table_bytes;
    uint64_t stored = 0, content = 0;
    *out = NULL;
    /* It may be another one than was found: a longer table is read by a request of its own. */
    if (get_u32(footer + 5) != SEEKABLE_MAGIC || (footer[4] & RESERVED_BITS) ||
        n_frames > PST_SEEK_FRAMES_MAX ||
        HEAD_BYTES + (uint64_t)n_frames * step + PST_SEEK_FOOTER_BYTES != table_bytes ||
        get_u32(p) != SKIPPABLE_MAGIC || get_u32(p + 4) != table_bytes - HEAD_BYTES)
        return pst_fail(err, PST_E_DATA_LOSS,
                        "no seek table at offset %" PRIu64 ", where it must start", table_at);
    const size_t bytes = (n_frames + 1) * sizeof(struct pst_seek_point); /* 2 GiB at most */
    struct pst_seek_table *made = malloc(sizeof(*made) + bytes);
    if (!made)
        return pst_fail(err, PST_E_NO_MEMORY, "no memory for a seek table of %zu frames", n_frames);
    made->n_frames = n_frames;
    for (size_t i = 0; i < n_frames;
         i++) { /* sums of 2^27 numbers below 2^32: they cannot overflow */
        made->at[i] = (struct pst_seek_point){stored, content};
        stored += get_u32(p + HEAD_BYTES + i * step);
        content += get_u32(p + HEAD_BYTES + i * step + 4);
    }
    made->at[n_frames] = (struct pst_seek_point){stored, content};
    if (stored != table_at) {
        free(made);
        return pst_fail(err, PST_E_DATA_LOSS,
                        "the frames in the seek table at offset %" PRIu64 " end at offset %" PRIu64,
                        table_at, stored);
    }
    *out = made;
    return PST_OK;
}

size_t pst_seek_table_frame_of(const struct pst_seek_table *table, uint64_t offset)
{
    size_t low = 0, high = table->n_frames; /* the frame starts at or before offset; after it */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (table->at[middle].content_at <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ---- writing ----------------------------------------------------------------------------------- */

void pst_seek_log_init(struct pst_seek_log *log)
{
    static const char head[HEAD_BYTES];
    pst_dynbuf_init(&log->bytes,
                    HEAD_BYTES + (size_t)PST_SEEK_FRAMES_MAX * 8 + PST_SEEK_FOOTER_BYTES);
    pst_dynbuf_add(&log->bytes, head, sizeof(head)); /* a failure shows at the end */
    log->n_frames = 0;
}

void pst_seek_log_fini(struct pst_seek_log *log)
{
    pst_dynbuf_fini(&log->bytes);
}

static pst_rc fail_no_memory(pst_error *err)
{
    return pst_fail(err, PST_E_NO_MEMORY, "no memory for the seek table");
}

pst_rc pst_seek_log_add(struct pst_seek_log *log, uint32_t stored_bytes, uint32_t content_bytes,
                        pst_error *err)
{
    char entry[8];
    if (log->n_frames == PST_SEEK_FRAMES_MAX)
        return pst_fail(err, PST_E_UNIMPLEMENTED,
                        "a zstd object has at most %u frames: make zstd_frame_bytes larger",
                        PST_SEEK_FRAMES_MAX);
    put_u32(entry, stored_bytes);
    put_u32(entry + 4, content_bytes);
    if (pst_dynbuf_add(&log->bytes, entry, sizeof(entry)) != 0)
        return fail_no_memory(err);
    log->n_frames++;
    return PST_OK;
}

pst_rc pst_seek_log_end(struct pst_seek_log *log, pst_error *err)
{
    char footer[PST_SEEK_FOOTER_BYTES] = {0};
    put_u32(footer, log->n_frames);
    put_u32(footer + 5, SEEKABLE_MAGIC);
    if (pst_dynbuf_add(&log->bytes, footer, sizeof(footer)) != 0)
        return fail_no_memory(err);
    put_u32(log->bytes.data, SKIPPABLE_MAGIC);
    put_u32(log->bytes.data + 4, (uint32_t)(log->bytes.len - HEAD_BYTES));
    return PST_OK;
}
