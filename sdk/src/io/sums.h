/* sums.h - the checksums of bytes on their way, of whichever algorithms are wanted.
 *
 * CRCs run along while bytes are in cache and are combined afterwards, whatever the order. Digests
 * (SHA-256, MD5) take a whole part at once; they are OpenSSL's, by way of crypto/1. */
#ifndef PST_IO_SUMS_H
#define PST_IO_SUMS_H

#include <penstock/base.h>

#include "core/port.h"

#define PST_SUM_BIT(algorithm) (1u << (algorithm))
#define PST_SUMS_CRC (PST_SUM_BIT(PST_SUM_CRC32C) | PST_SUM_BIT(PST_SUM_CRC64NVME))
#define PST_SUMS_DIGEST (PST_SUM_BIT(PST_SUM_SHA256) | PST_SUM_BIT(PST_SUM_MD5))
#define PST_SUMS_MAX 4u

/* CRCs of the bytes so far, of the algorithms in `which`. */
struct pst_sums {
    uint32_t which; /* PST_SUM_BITs; others than CRCs do not run along */
    uint32_t crc32c;
    uint64_t crc64nvme;
};

void pst_sums_add(struct pst_sums *sums, const void *data, size_t len);

/* What `sums` becomes when `len` bytes follow that have the CRCs of `next`. */
void pst_sums_append(struct pst_sums *sums, const struct pst_sums *next, uint64_t len);

/* CRCs as a list of at most PST_SUMS_MAX. Returns how many. */
uint32_t pst_sums_list(const struct pst_sums *sums, pst_sum *out);

/* Is there a CRC-32C in the list? Then *crc32c is it. */
uint32_t pst_sums_get_crc32c(const pst_sum *list, uint32_t n, uint32_t *crc32c);

/* Append the sums among `which` of the bytes at `src` to `list`, which has *n so far.
 * Errors: UNIMPLEMENTED where a digest cannot be had, saying why. */
pst_rc pst_sums_compute(struct pst_core *core, uint32_t which, const pst_iov *src, size_t n_src,
                        pst_sum *list, uint32_t *n, pst_error *err);

/* A task that goes to its plugin once the sums of its bytes are there. */
struct pst_summing {
    struct pst_job job;
    struct pst_task *task;
    const pst_iov *src;
    size_t n_src;
    uint32_t which;
    pst_sum *list; /* room for PST_SUMS_MAX; *n of them are there already */
    uint32_t *n;
    uint32_t max_attempts; /* as pst_retry_submit takes them */
    uint64_t deadline_ns;
};

/* Compute, on a worker where that takes long, then pst_retry_submit. What goes wrong before is told by
 * task->then as well. */
void pst_summing_start(struct pst_summing *summing);

#endif
