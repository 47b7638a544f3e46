/* memstore.h - a store in memory, linked into a test as plugin "mem", that does as it is told: answer
 * now or later, fail the n-th call, be BUSY, lie about sizes and order. One per process. */
#ifndef PST_TEST_MEMSTORE_H
#define PST_TEST_MEMSTORE_H

#include <penstock/penstock.h>
#include <penstock/plugin.h>

enum mem_slot {
    MEM_READ,
    MEM_STAT,
    MEM_PUT,
    MEM_COPY,
    MEM_RENAME,
    MEM_REMOVE,
    MEM_LIST,
    MEM_LIST_OPEN,
    MEM_LIST_PAGE,
    MEM_UPLOAD_OPEN,
    MEM_UPLOAD_PART,
    MEM_UPLOAD_COMMIT,
    MEM_UPLOAD_ABORT,
    MEM_CONTAINER,
    MEM_CONTAINER_LIST,
    MEM_PRESIGN,
    MEM_CLEANUP,
    MEM_SLOTS
};

enum mem_mode {
    MEM_INLINE, /* before submit returns */
    MEM_POOL,   /* on a thread of the host */
    MEM_HOLD    /* when memstore_release is called, or at once when it is cancelled */
};

/* Fail calls from..from+times-1 (1 is the next) with `rc` and error flags. */
struct mem_fault {
    unsigned from, times;
    pst_rc rc;
    uint32_t flags;
    int is_applied; /* ... after doing it all the same */
};

enum mem_quirk {
    MEM_HONEST,
    MEM_SWAPS_KEYS,    /* two neighbours of a page */
    MEM_SWAPS_PAGES,   /* the second page begins with the first key again */
    MEM_LEAVES_PREFIX, /* lists a key that does not start with it */
    MEM_OVERFILLS,     /* one entry more than asked for */
    MEM_REPEATS_TOKEN,
    MEM_LISTS_THEN_FAILS, /* with the first MEM_LIST or MEM_LIST_PAGE fault: after half the entries */
    MEM_GIVES_NOTHING,    /* OK, but no cursor and no upload */
    MEM_REPEATS_VERSIONS /* the same one of a key twice */
};

struct memstore {
    uint64_t caps;
    pst_limits limits;
    uint32_t want_sums;
    int has_cursors;      /* else list_open answers UNIMPLEMENTED */
    int ignores_cancel;   /* of held operations */
    int64_t size_lie;     /* added to the size that put and commit report */
    int hides_size;       /* ... or none is reported */
    unsigned empty_pages; /* before each page that is not */
    size_t stride;        /* of entries; 0: the host's */
    enum mem_quirk quirk;
    enum mem_mode mode[MEM_SLOTS];
    struct mem_fault fault[MEM_SLOTS];
    unsigned busy[MEM_SLOTS]; /* so many BUSY first */
    const char *failing_key; /* remove: its status is UNAVAILABLE, retryable, failing_times times */
    unsigned failing_times;
    pst_rc failing_rc;

    /* What was seen. */
    unsigned calls[MEM_SLOTS];
    unsigned n_cursors, n_uploads; /* open */
    unsigned n_aborted, n_batch_max;
    unsigned n_parts_now, n_parts_max; /* at the plugin at once */
    uint32_t attempts_max;
    char version[16];        /* the last that a stat, copy or remove named */
    char from_authority[16]; /* of the last copy */
    uint32_t stat_flags;
    size_t n_tags;                         /* of the last put or upload */
    pst_sum put_sum, commit_sum, part_sum; /* the last of each, length 0: none */
    size_t n_src_max;
    int has_overlap; /* two attempts of one part at once, or a commit or abort beside a part */
    uint64_t part_bytes[64];
    pst_iov spans[256]; /* of put and upload_part, in the order of the calls */
    size_t n_spans;
};
extern struct memstore mem;

/* Empty store, all switches off, everything supported. */
void memstore_reset(void);

/* Wait until `n` operations are held (any slot). */
void memstore_wait_held(unsigned n);

/* Let all held operations end, from this thread. */
void memstore_release(void);

/* Wait until `*counter` is `value`. */
void memstore_wait_for(const unsigned *counter, unsigned value);

/* Look at an object: its size, or -1. *data may be NULL. Valid until the store changes. */
int64_t memstore_find(const char *key, const unsigned char **data);

/* Put an object of `size` zero bytes. */
void memstore_add(const char *key, size_t size);

size_t memstore_count(void);

/* A context that sees no other plugin, and a store mem://box in it. */
pst_context *memstore_context(uint64_t budget_bytes);
pst_store *memstore_open(pst_context *context);

#endif
