/* fixture.h - the second half of kit.h: what requirements are made of. Included by it. */
#ifndef PST_KIT_FIXTURE_H
#define PST_KIT_FIXTURE_H

#include "kit.h"

/* ---- what tests are made of (fixture.c) ---------------------------------------------------------- */

/* A key below the test's base, in memory that lives as long as the process. */
pst_str k_key(struct k_test *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
pst_str k_key_bytes(struct k_test *t, pst_str name);
pst_str k_text(const char *text);
bool k_str_eq(pst_str a, pst_str b);

/* Bytes that depend on seed and position; all 256 values occur. */
void k_fill(unsigned char *buf, size_t n, uint64_t seed, uint64_t offset);
/* SIZE_MAX: equal, else the first position that differs. */
size_t k_differs(const unsigned char *buf, size_t n, uint64_t seed, uint64_t offset);

struct k_attrs {
    uint64_t size;
    int64_t mtime_ns;
    uint32_t kind, etag_strength;
    char etag[1200];
};
pst_str k_etag(const struct k_attrs *a);

/* Calls ready to be run or to be given more. */
struct k_source;
struct k_call *k_new_stat(struct k_store *s, pst_str key);
struct k_call *k_new_read(struct k_store *s, pst_str key, uint64_t offset, uint64_t length);
struct k_call *k_new_put(struct k_store *s, pst_str key, const struct k_source *src, uint64_t size);
uint64_t k_align_up(const struct k_store *s, uint64_t n); /* to the store's io_align */

pst_rc k_put(struct k_store *s, pst_str key, uint64_t size, uint64_t seed);
bool k_make(struct k_store *s, pst_str key, uint64_t size, uint64_t seed); /* must succeed */
pst_rc k_stat(struct k_store *s, pst_str key, struct k_attrs *out);
bool k_holds(struct k_store *s, pst_str key, uint64_t size, uint64_t seed); /* reads and compares */
bool k_absent(struct k_store *s,
              pst_str key); /* stat, read and listing agree that it is not there */
pst_rc k_remove(struct k_store *s, pst_str key);
pst_rc k_read(struct k_store *s, pst_str key, uint64_t offset, uint64_t length,
              unsigned char **bytes, uint64_t *n);

/* List everything, page by page; the entries are the caller's: k_entries_fini. */
struct k_listing {
    pst_str prefix, start_after;
    uint32_t flags, max_entries;
    bool use_cursor, use_token; /* neither: what there is, the cursor first */
    unsigned n_pages;           /* out */
    uint32_t largest_page;      /* out */
    struct k_entries entries;   /* out */
};
pst_rc k_list(struct k_store *s, struct k_listing *l);
/* Does the store list that way? A slot that answers UNIMPLEMENTED counts as none. */
bool k_lists_by_cursor(struct k_store *s);
bool k_lists_by_token(struct k_store *s);
void k_entries_fini(struct k_entries *e);
pst_str k_dup_str(pst_str s); /* k_free_str */
void k_free_str(pst_str s);
void k_entries_add(struct k_entries *e, const pst_entry *entry);
const pst_entry *k_entries_find(const struct k_entries *e, pst_str key);

/* Exactly the keys of the corpus below l->prefix and behind l->start_after, each once (group_list.c). */
struct k_corpus;
void k_check_complete(struct k_test *t, const struct k_corpus *c, const struct k_listing *l,
                      pst_rc rc, const char *what);
/* Both ways to list, where the store has both: for (unsigned way = 0; k_next_way(s, &way, &l);) */
bool k_next_way(struct k_store *s, unsigned *way, struct k_listing *l);
/* A copy or rename, run. */
struct k_call *k_run_copy(struct k_store *s, enum k_slot slot, pst_str from, pst_str to,
                          uint32_t flags, const pst_attr *attr);
/* Run a read, which must give the object's bytes in its range (group_mem.c). */
struct k_object;
void k_read_and_check(struct k_call *c, const struct k_object *o, const char *what);
bool k_has_bytes(struct k_call *c, const struct k_object *o, uint64_t offset, uint64_t n);
/* The result of a put, copy or commit names size and etag as stat does (group_write.c). */
void k_check_put(struct k_store *s, const struct k_call *c, pst_str key, uint64_t size);

/* An object to read: made with exactly `size` bytes, or with profile ro the best one found. */
struct k_object {
    pst_str key;
    uint64_t size;
    unsigned char *data;
};
bool k_object(struct k_store *s, uint64_t size, struct k_object *out);
void k_object_fini(struct k_object *o);

/* Keys of the listing tests below "<base>"; sorted. Profile ro: what is there. */
struct k_corpus {
    pst_str prefix;
    pst_str *keys;
    size_t n;
};
bool k_corpus(struct k_store *s, struct k_corpus *out);
void k_corpus_fini(struct k_corpus *c);

/* Bytes to write: in spans of about `span` bytes (0: one), readable until k_source_bury. */
struct k_source {
    struct k_region region;
    pst_iov iov[K_SPANS_MAX];
    size_t n;
};
struct k_source *k_source_new(const char *owner, size_t size, uint64_t seed, uint64_t offset,
                              size_t span);
void k_source_bury(struct k_source *src);

struct k_writer {
    struct k_store *store;
    pst_upload *upload;
    pst_str key;
    uint64_t seed, part_bytes; /* as the store's limits allow */
};
bool k_writer_open(struct k_writer *w, struct k_store *s, pst_str key, uint64_t seed);
bool k_writer_part(struct k_writer *w, uint32_t number, uint64_t size);
pst_rc k_writer_commit(struct k_writer *w, uint64_t size, uint32_t n_parts);
pst_rc k_writer_abort(struct k_writer *w);
void k_writer_free(struct k_writer *w);

unsigned char *k_alloc(size_t n); /* zeroed, never NULL: the process ends without memory */
void k_free(void *p);
long k_plugin_bytes(
    void); /* taken from malloc by others than the kit; 0 where malloc cannot tell */

/* One operation of each kind that the store offers and the profile allows (tour.c):
 *     struct k_tour tour = {.store = s};
 *     while (k_tour_next(&tour)) { run tour.call; k_tour_check(&tour); k_tour_done(&tour); } */
struct k_tour {
    struct k_store *store;
    unsigned step;
    struct k_call *call; /* ready to be submitted */
    pst_rc expected;
    const char *what;
    struct k_object object; /* what reads are held against */
    struct k_source *source;
    struct k_writer writer;
    pst_cursor *cursor;
    pst_str key;
};
bool k_tour_next(struct k_tour *tour);
/* The outcome must be the expected one, or `also` if that is not 0. */
bool k_tour_check_or(struct k_tour *tour, pst_rc also);
bool k_tour_check(struct k_tour *tour);
void k_tour_done(struct k_tour *tour);
void k_tour_run(struct k_store *s); /* all of them, each must have its outcome */

/* State of the process that a plugin must leave alone. */
struct k_process {
    int n_fds, n_threads;
    unsigned umask_bits;
    char cwd[512], locale[256];
    uint64_t environment, signals, signal_mask;
};
void k_process_look(struct k_process *out);
void k_process_compare(struct k_test *t, const struct k_process *before,
                       const struct k_process *after, const char *when, uint32_t what);
#define K_SAME_FDS 1u
#define K_SAME_THREADS 2u
#define K_SAME_REST 4u
int k_count_threads(void);

#endif
