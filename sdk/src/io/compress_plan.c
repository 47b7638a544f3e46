#include "io/compress_plan.h"

#include <inttypes.h>

#include "codec/zstd_lib.h"
#include "core/error.h"
#include "io/compress.h"
#include "io/verb.h"

#define FRAME_BYTES ((uint64_t)4 << 20)
#define FRAME_MIN ((uint64_t)64 << 10)
#define FRAME_MAX ((uint64_t)1 << 30)
#define FIRST_BYTES ((uint64_t)256 << 10) /* of a stream whose length is not known */
#define FIRST_MIN ((uint64_t)4 << 10)
#define WORKERS_MAX 256u
#define MEMORY_MAX ((uint64_t)64 << 20) /* of the workers together, unless their number was given */

static pst_rc take(const pst_write_options *given, pst_write_options *options, pst_error *err)
{
    pst_rc rc = pst_options_take(options, sizeof(*options), given, err);
    if (rc != PST_OK)
        return rc;
    if (options->zstd_level < 0 || options->zstd_level > PST_ZSTD_LEVEL_MAX)
        return pst_fail(err, PST_E_INVALID,
                        "zstd level %d: 1 to %d are allowed, and 0 for no compression",
                        (int)options->zstd_level, PST_ZSTD_LEVEL_MAX);
    if (options->zstd_workers > WORKERS_MAX)
        return pst_fail(err, PST_E_INVALID,
                        "%u zstd workers: 1 to %u are allowed, and 0 for the choice of Penstock",
                        options->zstd_workers, WORKERS_MAX);
    if (options->zstd_frame_bytes > 0 &&
        (options->zstd_frame_bytes < FRAME_MIN || options->zstd_frame_bytes > FRAME_MAX))
        return pst_fail(err, PST_E_INVALID,
                        "zstd frames of %" PRIu64 " bytes: %" PRIu64 " to %" PRIu64
                        " are allowed, and 0 for the choice of Penstock",
                        options->zstd_frame_bytes, FRAME_MIN, FRAME_MAX);
    return PST_OK;
}

pst_rc pst_compress_check(const pst_write_options *given, pst_error *err)
{
    pst_write_options options;
    return take(given, &options, err);
}

uint64_t pst_compress_bound(uint64_t in_bytes)
{
    const uint64_t block = (uint64_t)128 << 10;
    return in_bytes + (in_bytes >> 8) + (in_bytes < block ? (block - in_bytes) >> 11 : 0);
}

uint64_t pst_compress_room(uint64_t in_bytes)
{
    return in_bytes + pst_compress_bound(in_bytes);
}

uint64_t pst_compress_context_bytes(int level, uint64_t frame_bytes)
{
    static const uint8_t mib[PST_ZSTD_LEVEL_MAX + 1] = {
        0, 1, 1, 2, 3, 4, 4, 7, 7, 13, 25, 25, 49, 33, 49, 65, 33, 49, 50, 50, 66, 66, 66};
    uint64_t bytes = (uint64_t)mib[level] << 20;
    if (level >= 19 && frame_bytes > FRAME_BYTES) /* windows that grow with the frame, to a point */
        bytes *= frame_bytes < 10 * FRAME_BYTES ? (frame_bytes + FRAME_BYTES - 1) / FRAME_BYTES
                                                : 10;
    return bytes;
}

pst_rc pst_compress_plan(const pst_write_options *given, uint64_t budget_bytes, uint32_t cores,
                         struct pst_compress_plan *out, pst_error *err)
{
    pst_write_options options;
    pst_rc rc = take(given, &options, err);
    if (rc != PST_OK)
        return rc;
    uint64_t frame = options.zstd_frame_bytes;
    if (frame > 0 && pst_compress_room(frame) > budget_bytes)
        return pst_fail(err, PST_E_OVER_BUDGET,
                        "zstd frames of %" PRIu64 " bytes need %" PRIu64
                        " bytes of memory, the memory budget is %" PRIu64 " bytes",
                        frame, pst_compress_room(frame), budget_bytes);
    if (frame == 0) { /* half of the budget is for the parts that take what comes out */
        frame = FRAME_BYTES;
        while (frame > FRAME_MIN && pst_compress_room(frame) > budget_bytes / 2)
            frame /= 2;
    }
    uint64_t fit = MEMORY_MAX / (pst_compress_context_bytes(options.zstd_level, frame) +
                                 pst_compress_room(frame));
    uint64_t first = options.size_hint;
    if (first == 0 || first == PST_UNKNOWN)
        first = FIRST_BYTES;
    if (first < FIRST_MIN)
        first = FIRST_MIN;
    out->level = options.zstd_level;
    out->frame_bytes = (size_t)frame;
    out->first_bytes = (size_t)(first < frame ? first : frame);
    out->n_workers = options.zstd_workers;
    if (out->n_workers == 0)
        out->n_workers = fit < 1 ? 1 : fit < cores ? (uint32_t)fit : cores;
    return PST_OK;
}
