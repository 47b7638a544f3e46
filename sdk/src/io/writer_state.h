/* writer_state.h - the state of a writer, shared by writer.c (the calls), writer_part.c (bytes become
 * parts), writer_zstd.c (compressed on the way) and writer_end.c (finalize, cancel, free). */
#ifndef PST_IO_WRITER_STATE_H
#define PST_IO_WRITER_STATE_H

#include "io/part.h"
#include "io/sink.h"
#include "io/writer.h"

enum pst_writer_state {
    PST_WRITER_OPEN,
    PST_WRITER_FINALIZING,
    PST_WRITER_DONE,
    PST_WRITER_FAILED,
    PST_WRITER_CANCELLED
};

struct pst_writer {
    struct pst_sink *sink;
    struct pst_port *port; /* the sink's */
    uint32_t generation;
    enum pst_writer_state state;
    pst_call call;
    uint64_t deadline_ns; /* of the whole writer, 0 for none */
    struct pst_part_plan plan;
    uint64_t hint_bytes, reach_bytes; /* expected length, or PST_UNKNOWN; what the plan can hold */
    int is_hint_exact;                /* else it is the most that it can be */
    uint32_t max_in_flight;
    int is_conditional, can_put, can_upload, is_upload_open;
    int is_held_to_put;                  /* the store keeps its condition for one request only */
    struct pst_cargo *kept, **kept_last; /* full, of a store without uploads */
    struct pst_cargo *current;           /* being filled */
    size_t lent_bytes;                   /* behind it, by pst_writer_reserve */
    uint64_t offset;                     /* of `current` in the object */
    uint32_t number;                     /* of `current` */
    struct pst_sums sums;                /* of all before it */
    uint64_t n_written;                  /* as the application gave them */
    struct pst_compressor *compressor;   /* NULL: bytes are stored as they are */
    struct pst_cargo *scratch;           /* what a compressing writer lends */
    uint32_t given_crc32c;               /* of what it was given */
    pst_rc rc;
    pst_error error;
    pst_write_result result;
};

/* Put operation and URI before writer->error, which may hold the cause. Returns rc. */
pst_rc pst_writer_fail(struct pst_writer *writer, pst_rc rc);

/* Refuse a call that the writer's state does not allow. */
pst_rc pst_writer_check(const struct pst_writer *writer, int is_write, pst_error *err);

/* Every later call answers rc and writer->error. Returns rc. */
pst_rc pst_writer_stay_failed(struct pst_writer *writer, pst_rc rc, pst_error *err);

struct pst_sink_run pst_writer_run(const struct pst_writer *writer);

/* ---- bytes become parts. On failure writer->error says why ------------------------------------ */

/* Plan the parts; INVALID and OVER_BUDGET as pst_part_plan. */
pst_rc pst_parts_plan(struct pst_writer *writer, const pst_write_options *options, pst_error *err);

/* Append bytes. With `owner` they lie in that buffer, which is referenced as far as possible. */
pst_rc pst_parts_append(struct pst_writer *writer, const char *data, size_t len, pst_buffer *owner);

/* Fill *err for an object that is longer than what the plan can hold. Returns the code. */
pst_rc pst_parts_fail_reach(const struct pst_writer *writer, pst_error *err);

/* How many more bytes the store can hold. */
uint64_t pst_parts_room(const struct pst_writer *writer);

/* Lend 1 to `want` bytes behind the last one, if there is room; then append the first `len` of them. */
pst_rc pst_parts_lend(struct pst_writer *writer, size_t want, void **out, size_t *len);
pst_rc pst_parts_keep(struct pst_writer *writer, size_t len);

/* `current` is as long as it will be: send it, or keep it for the put. */
pst_rc pst_parts_end(struct pst_writer *writer);

/* ---- the same for a writer that compresses ---------------------------------------------------- */

pst_rc pst_compressed_open(struct pst_writer *writer, const pst_write_options *options,
                           pst_error *err);
pst_rc pst_compressed_append(struct pst_writer *writer, const char *data, size_t len,
                             pst_buffer *owner);
pst_rc pst_compressed_lend(struct pst_writer *writer, size_t want, void **out, size_t *len);
pst_rc pst_compressed_keep(struct pst_writer *writer, size_t len);

/* Make parts of all that was given. */
pst_rc pst_compressed_finish(struct pst_writer *writer);

/* Stop, and release what it takes. */
void pst_compressed_close(struct pst_writer *writer);

#endif
