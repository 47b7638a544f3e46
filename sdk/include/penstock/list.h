/* list.h - walk the keys of a store, page by page, however many there are. */
#ifndef PENSTOCK_LIST_H
#define PENSTOCK_LIST_H

#include <penstock/store.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pst_list pst_list;

#define PST_LISTING_RECURSIVE 1u  /* every object below the prefix; without it '/' delimits */
#define PST_LISTING_UNORDERED 2u  /* as the store sends them, sooner and with less memory */
#define PST_LISTING_EMPTY_DIRS 4u /* with RECURSIVE: empty directories too, as prefixes */
/* All versions of each key and its delete markers, one entry each, told apart by version and flags. In
 * the order of keys; those of one key from the newest on. UNIMPLEMENTED without PST_CAP_VERSIONS. */
#define PST_LISTING_VERSIONS 16u
typedef struct pst_list_options {
    uint32_t struct_size, flags;
    pst_str start_after;   /* only keys greater than this, in byte order */
    uint32_t page_entries; /* 0: 1,000 */
    uint32_t reserved0;
} pst_list_options;

/* Start a listing of the keys that begin with `prefix` (bytes, no directory logic: "a/b" also
 * matches "a/bc"). In key byte order unless UNORDERED.
 * Ownership: pst_list_free. Threads: one at a time. Blocks: not yet. */
PST_API PST_NODISCARD pst_rc pst_list_open(pst_store *store, pst_str prefix,
                                           const pst_list_options *options, pst_list **out,
                                           pst_error *err);

/* Start a listing of the containers (buckets) whose names begin with `prefix`, as entries, in no
 * particular order. Otherwise as pst_list_open. Errors: UNIMPLEMENTED. */
PST_API PST_NODISCARD pst_rc pst_container_list(pst_store *store, pst_str prefix, pst_list **out,
                                                pst_error *err);

/* Fetch the next page. *n is 0 at the end. A failure is an error, never a short list; it may be
 * tried again. Ownership: entries are borrowed until the next call on this list. */
PST_API PST_NODISCARD pst_rc pst_list_page(pst_list *list, const pst_call *call,
                                           const pst_entry **entries, size_t *n, pst_error *err);

/* Fetch the next entry, or NULL at the end; pages are read as needed. */
PST_API PST_NODISCARD pst_rc pst_list_next(pst_list *list, const pst_call *call,
                                           const pst_entry **entry, pst_error *err);

PST_API void pst_list_free(pst_list *list);

#ifdef __cplusplus
}
#endif
#endif
