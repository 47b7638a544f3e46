/* compress_plan.h - how a stream is compressed: frames, workers. Pure. */
#ifndef PST_IO_COMPRESS_PLAN_H
#define PST_IO_COMPRESS_PLAN_H

#include <penstock/object.h>

struct pst_compress_plan {
    int level;
    size_t frame_bytes; /* of input, all but the last */
    size_t first_bytes; /* memory that the first one starts with */
    uint32_t n_workers;
};

/* The most that `in_bytes` can become: ZSTD_compressBound, which is part of the format's promises. */
uint64_t pst_compress_bound(uint64_t in_bytes);

/* What a frame reserves: that, and what goes in. */
uint64_t pst_compress_room(uint64_t in_bytes);

/* Memory, in bytes, that one context of libzstd takes: measured with 1.5, rounded up. */
uint64_t pst_compress_context_bytes(int level, uint64_t frame_bytes);

/* What was asked for, and where nothing was, what fits the budget and keeps a stream's memory below
 * 128 MiB. Errors: as pst_compress_check; OVER_BUDGET, naming both sizes, for a frame that was asked for
 * and can never fit. */
pst_rc pst_compress_plan(const pst_write_options *given, uint64_t budget_bytes, uint32_t cores,
                         struct pst_compress_plan *out, pst_error *err);

#endif
