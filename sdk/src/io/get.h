/* get.h - the range engine: one read of any size, as one first read and the rest in parallel. */
#ifndef PST_IO_GET_H
#define PST_IO_GET_H

#include <penstock/object.h>
#include <penstock/sum.h>

#include "core/port.h"
#include "io/claims.h"
#include "io/get_pace.h"

struct pst_get;

/* What to read. Texts and the iov array are copied; the memory the iovs point to is not. */
struct pst_get_spec {
    struct pst_port *port; /* a reference is taken */
    pst_str key, if_match, version;
    uint64_t offset, length; /* length PST_UNKNOWN: to the end */
    int is_suffix;           /* the last `length` bytes; the port must have PST_CAP_READ_SUFFIX */
    uint32_t flags;          /* PST_READ_* */
    const pst_iov *dst;      /* n_dst 0: into a new buffer */
    size_t n_dst;
    uint32_t max_attempts, affinity;
    uint64_t deadline_ns;
    uint64_t part_bytes;      /* of each range; 0: adapted */
    uint32_t max_in_flight;   /* ranges; 0: adapted */
    uint32_t hedge_after_ms;  /* 0: never */
    uint32_t expected_crc32c; /* with PST_READ_EXPECT_CRC32C */
    struct pst_claims
        *claims; /* with PST_READ_VERIFY: what the first reply says about sums goes there,
                                * and the owner compares; NULL: the read does. A reference is taken */
    void (*done)(struct pst_get *, pst_rc); /* once, under the rules of task hooks */
    void *owner;
    const void *crew; /* who may run its jobs (core/pool.h), or NULL */
};

/* What came of it; valid in done() and until the last reference goes. */
struct pst_get_outcome {
    pst_buffer *buffer; /* NULL when dst was given; pst_get_take moves it out */
    uint64_t n_read, object_size;
    uint32_t etag_strength;
    pst_str etag;
    uint64_t elapsed_ns, part_bytes;
    uint32_t n_ranges, max_in_flight, n_retries, n_hedges, n_hedges_won;
    uint32_t has_crc32c, crc32c, is_verified;
    uint32_t is_hinted;    /* the store has sums of parts, which stat tells */
    uint32_t was_unranged; /* the first reply could have brought the sum of the whole */
    pst_error *error;      /* the whole line, on failure */
};

/* NULL for lack of memory. */
struct pst_get *pst_get_new(const struct pst_get_spec *spec);
void pst_get_start(struct pst_get *get);

/* End it early; done() comes when nothing writes to the destination any more. */
void pst_get_stop(struct pst_get *get, pst_rc code);

struct pst_get *pst_get_ref(struct pst_get *get);
void pst_get_unref(struct pst_get *get);

void *pst_get_owner(struct pst_get *get);

/* The key, in memory of the get. */
pst_str pst_get_key(const struct pst_get *get);
const struct pst_get_outcome *pst_get_outcome_of(struct pst_get *get);

/* Move the buffer out; its bytes count as handed out from the moment the read was done. */
pst_buffer *pst_get_take(struct pst_get *get);

/* Copy an outcome, as far as info->struct_size reaches. `info` may be NULL. */
void pst_get_fill_info(const struct pst_get_outcome *outcome, pst_read_info *info);

/* INVALID for flags that are not among `known` (PST_READ_*). */
pst_rc pst_read_check_flags(uint32_t flags, uint32_t known, pst_error *err);

/* Take the caller's options (NULL: none) into `spec`, whose port is set.
 * Errors: INVALID, naming the limit; OVER_BUDGET when one part does not fit. */
pst_rc pst_read_take_options(const pst_read_options *given, struct pst_get_spec *spec,
                             pst_error *err);

/* The same for reads of several keys: without a look at key and version, and nothing before the error. */
pst_rc pst_read_fill_spec(const pst_read_options *given, struct pst_get_spec *spec, pst_error *err);

/* Is there anything in `flags` that needs the checksum? */
static inline int pst_read_is_summed(uint32_t flags)
{
    return (flags & (PST_READ_CRC32C | PST_READ_VERIFY | PST_READ_EXPECT_CRC32C)) != 0;
}

/* Can a stat bring checksums that what is read can be compared with? Pure. */
struct pst_verify_case {
    uint64_t object_size, offset;
    uint64_t n_wanted, n_first; /* by the whole read; brought by the first reply */
    int was_unranged;           /* it was a reply to the whole object, as far as the plugin likes */
    int is_hinted;              /* ... and said that there are sums of parts */
};
int pst_verify_is_worth_asking(const struct pst_verify_case *c);

/* Is the stat of the version that is read? */
int pst_verify_is_same(const pst_attr *attr, uint64_t object_size, pst_str etag);

/* Compare. Errors: DATA_LOSS naming both. */
pst_rc pst_read_check_crc32c(uint32_t wanted, uint32_t got, pst_error *err);

#endif
