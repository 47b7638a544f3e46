/* readstore.h - a store with one object to read, linked into a test as plugin "rd". Its bytes are computed
 * from offset and version, so it may be of any size; it changes, fails and pauses when it is told to.
 * One per process. */
#ifndef PST_TEST_READSTORE_H
#define PST_TEST_READSTORE_H

#include <penstock/penstock.h>
#include <penstock/plugin.h>

#define READSTORE_SEEN 512

struct readstore {
    uint64_t caps;
    pst_limits limits;
    uint64_t size;
    unsigned version;          /* the etag is "v<version>" */
    const unsigned char *body; /* else the bytes are read_byte() */
    uint32_t etag_strength;
    int hides_size, ignores_if_match, is_missing;
    int has_sum; /* of the whole object: `sum`, in answer to PST_READ_SUMS */
    uint32_t sum;
    unsigned change_at; /* before this read (1 is the first) version and size move on */
    int64_t size_change;
    unsigned fail_at, fail_times; /* reads from this one fail with ... */
    pst_rc fail_rc;
    uint32_t fail_flags;
    unsigned hold_at;  /* this read waits until it is cancelled */
    unsigned may_pass; /* reads beyond this one (0: none) wait until it is raised */

    /* What was seen. */
    unsigned n_reads, n_now, n_max; /* ever, at once */
    unsigned n_waiting;
    uint64_t n_bytes;
    struct {
        uint64_t offset, length;
        unsigned has_if_match;
    } seen[READSTORE_SEEN];
};
extern struct readstore rd;

void readstore_reset(void);

/* Wait until `*counter` is at least `value` (30 s at most; fails the test). */
void readstore_wait_for(const unsigned *counter, unsigned value);

/* Let reads up to number `n` pass. */
void readstore_let(unsigned n);

/* How many reads there were. */
unsigned readstore_reads(void);

unsigned char read_byte(unsigned version, uint64_t offset);

/* Are these the bytes at `offset` of that version? */
int read_is(const void *data, size_t len, unsigned version, uint64_t offset);

/* A context that sees no other plugin, and a store rd://box in it. */
pst_context *readstore_context(uint64_t budget_bytes);
pst_store *readstore_open(pst_context *context);

#endif
