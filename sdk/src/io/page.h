/* page.h - one page of a listing, packed as the plugin hands it over. */
#ifndef PST_IO_PAGE_H
#define PST_IO_PAGE_H

#include <penstock/plugin.h>

struct pst_page_text;

struct pst_page {
    pst_entry *entries;
    size_t n, room;
    struct pst_page_text *texts; /* first one is being filled */
    struct pst_page_text *spare; /* kept for the next page */
    pst_rc fault;                /* what the plugin did wrong, or NO_MEMORY */
    pst_error why;
};

/* What every entry must obey. */
struct pst_page_rules {
    pst_str prefix;
    pst_str after;    /* keys must be greater; at first start_after */
    int is_ordered;   /* ... and in byte order */
    int is_first;     /* `after` is start_after: the group that holds it may come */
    int has_versions; /* the entry before may be another version of the same key */
    size_t max_entries;
};

/* All zero is an empty page. */
void pst_page_fini(struct pst_page *page);

/* Forget the entries, keep the memory. */
void pst_page_clear(struct pst_page *page);

/* Copy n entries of `stride` bytes each, checked by the rules. The first failure stays in page->fault
 * and page->why, and nothing more is taken. Returns page->fault. */
pst_rc pst_page_add(struct pst_page *page, const struct pst_page_rules *rules,
                    const pst_entry *entries, size_t n, size_t stride);

/* Compare keys byte by byte, as memcmp does. */
int pst_key_compare(pst_str a, pst_str b);

#endif
