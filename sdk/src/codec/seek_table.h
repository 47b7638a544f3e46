/* seek_table.h - where each frame of a seekable zstd object lies, in the object and in its content.
 *
 * The format is zstd's own (contrib/seekable_format, version 0.1.0): a last, skippable frame of
 *     u32 0x184d2a5e, u32 bytes that follow,
 *     for each frame: u32 bytes stored, u32 bytes of content [, u32 checksum],
 *     u32 number of frames, u8 flags (bit 7: checksums), u32 0x8f92eab1; all little-endian.
 * Every decoder of zstd passes over it. */
#ifndef PST_CODEC_SEEK_TABLE_H
#define PST_CODEC_SEEK_TABLE_H

#include <penstock/status.h>

#include "util/dynbuf.h"

#define PST_SEEK_FOOTER_BYTES 9u
#define PST_SEEK_FRAMES_MAX 0x8000000u /* as the reference decoder has it */

/* ---- reading ----------------------------------------------------------------------------------- */

struct pst_seek_point {
    uint64_t stored_at, content_at;
};

struct pst_seek_table {
    size_t n_frames;
    struct pst_seek_point at[]; /* n_frames of them, then the ends of both */
};

/* From the last PST_SEEK_FOOTER_BYTES of an object that has as many: how long its table is, 0 when it has none.
 * Errors: DATA_LOSS, naming the offset, for a table that does not fit the object. */
pst_rc pst_seek_table_find(const void *footer, uint64_t object_bytes, uint64_t *table_bytes,
                           pst_error *err);

/* From the last `table_bytes` of it, as many as were found. It need not be the table that was found. The
 * frames must fill what lies before the table, to the byte.
 * Ownership: free(*out). Errors: DATA_LOSS, naming the offset; NO_MEMORY. */
pst_rc pst_seek_table_read(const void *table, uint64_t table_bytes, uint64_t object_bytes,
                           struct pst_seek_table **out, pst_error *err);

/* The frame that holds the byte of the content at `offset`, which is less than its length. */
size_t pst_seek_table_frame_of(const struct pst_seek_table *table, uint64_t offset);

/* ---- writing ----------------------------------------------------------------------------------- */

/* A table that grows, in the form it will be written in. */
struct pst_seek_log {
    struct pst_dynbuf bytes;
    uint32_t n_frames;
};

void pst_seek_log_init(struct pst_seek_log *log);
void pst_seek_log_fini(struct pst_seek_log *log);

/* Errors: NO_MEMORY; UNIMPLEMENTED beyond PST_SEEK_FRAMES_MAX. */
pst_rc pst_seek_log_add(struct pst_seek_log *log, uint32_t stored_bytes, uint32_t content_bytes,
                        pst_error *err);

/* Complete it: log->bytes is the table then. Errors: NO_MEMORY. */
pst_rc pst_seek_log_end(struct pst_seek_log *log, pst_error *err);

#endif
