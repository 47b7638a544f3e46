/* many.h - read many objects or ranges in one call. */
#ifndef PENSTOCK_MANY_H
#define PENSTOCK_MANY_H

#include <penstock/object.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pst_get_item {
    pst_str key;
    uint64_t offset, length; /* length PST_UNKNOWN: to the end */
    pst_str version;         /* empty: the latest */
} pst_get_item;

typedef struct pst_get_result {
    pst_rc status;
    uint32_t is_verified; /* as in pst_read_info */
    uint64_t object_size;
    pst_buffer *buffer; /* NULL unless status is PST_OK */
    pst_error *error;   /* NULL if status is PST_OK */
} pst_get_result;

#define PST_MANY_STOP_AT_FIRST 1u /* cancel the rest at the first failure */
typedef struct pst_many_options {
    uint32_t struct_size, flags;
    uint32_t max_in_flight; /* objects at once, above 0 */
    uint32_t reserved0;
    const pst_read_options *read; /* NULL, or options of each read; not `decode` nor `version` */
    void *reserved1;
} pst_many_options;

/* Read all `items`; results[i] belongs to items[i], the same key may appear twice. Items fail one
 * by one; the call returns PST_OK, or the code of the first item that failed. Bytes in flight stay
 * within the context's budget, results that were handed out do not count.
 * Ownership: pst_get_results_free(results, n), after a failure too.
 * Errors: INVALID for max_in_flight 0 and for what options->read may not have. */
PST_API PST_NODISCARD pst_rc pst_get_many(pst_store *store, const pst_get_item *items, size_t n,
                                          const pst_many_options *options, const pst_call *call,
                                          pst_get_result *results, pst_error *err);

typedef struct pst_range {
    uint64_t offset, length; /* length PST_UNKNOWN: to the end */
} pst_range;

typedef struct pst_ranges_options {
    uint32_t struct_size;
    uint32_t max_in_flight; /* requests at once; 0: 16 */
    uint64_t
        merge_gap_bytes; /* ranges this near share a request; 0: 64 KiB; PST_UNKNOWN: none do */
    uint64_t merge_max_bytes;     /* of a shared request; 0: 8 MiB */
    const pst_read_options *read; /* NULL, or options of each read */
    void *reserved0;
} pst_ranges_options;

/* Read many ranges of one object, all of one version. Ranges may come in any order, overlap and
 * repeat; near ones are read by one request, and their results are views of its buffer. results[i]
 * belongs to ranges[i], each as pst_get_range would give it. *n_requests (or NULL) tells how many
 * requests it took. An object without a strong etag is read by one request that spans all ranges,
 * unless options->read has PST_READ_ALLOW_UNPINNED.
 * Ownership: pst_get_results_free(results, n), after a failure too.
 * Errors: as pst_get_many; CHANGED, for all that were not read yet, when the object was replaced;
 * INVALID for other flags of options->read than EXACT and ALLOW_UNPINNED; UNIMPLEMENTED for ranges of
 * what would be decoded; OVER_BUDGET when options->read->part_bytes is more than the memory budget. */
PST_API PST_NODISCARD pst_rc pst_get_ranges(pst_store *store, pst_str key, const pst_range *ranges,
                                            size_t n, const pst_ranges_options *options,
                                            const pst_call *call, pst_get_result *results,
                                            size_t *n_requests, pst_error *err);

/* Release the buffers and errors in `results` (the array itself is the caller's). */
PST_API void pst_get_results_free(pst_get_result *results, size_t n);

#ifdef __cplusplus
}
#endif
#endif
