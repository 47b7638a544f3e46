/* page.h - a page of a listing, from the XML of any of S3's listings to the host. */
#ifndef PST_S3_PAGE_H
#define PST_S3_PAGE_H

#include "s3.h"

struct s3_entries {
    pst_entry *at;
    size_t n, room;
};

/* In memory of the operation. */
struct s3_page {
    pst_op *op;
    struct s3_entries objects, prefixes; /* as they come: S3 sends them one after the other */
    pst_entry entry;                     /* being read */
    pst_str prefix, start_after;         /* what the caller asked for */
    char *texts, *texts_end;
    pst_str token, next_key, next_version; /* where the next page begins */
    int is_truncated, is_encoded;
};

/* Room for the texts of `document`. Returns 0 for lack of memory. */
int s3_page_init(struct s3_page *page, pst_op *op, pst_str document, const pst_list_args *args);

/* Copy a text of the document; never longer than that as a whole. */
pst_str s3_page_keep(struct s3_page *page, pst_str text);

/* Fill the entry being read from an element of an object, a version or a delete marker: "Key", "ETag". */
void s3_page_field(struct s3_page *page, const char *name, pst_str text);

/* The entry being read is complete. Returns 0 for lack of memory. */
int s3_page_add(struct s3_page *page, struct s3_entries *to, uint32_t kind);

/* Decode what is encoded, drop what was not asked for, put objects and prefixes in order, and hand them
 * to the host. DATA_LOSS: a broken encoding. */
pst_rc s3_page_emit(struct s3_page *page);

/* The same of the first `max` (0: all). *last: the name that the next page begins after, empty where
 * there is none. */
pst_rc s3_page_emit_some(struct s3_page *page, size_t max, pst_str *last);

/* What of a prefix or a key to start after S3 can be asked for: all of it, unless it ends within a
 * character or holds what no key does. */
pst_str s3_askable(pst_str text);

/* Can a key begin so at all? */
int s3_is_prefix_possible(pst_str prefix);

#endif
