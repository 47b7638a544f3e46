/* claims.h - what a store says about the checksums of an object, compared with the bytes that arrive.
 *
 * A claim is the CRC of a stretch of the object: of all of it, or of one of the parts it was written in.
 * Pieces of the object are fed in any order and on any thread; each piece adds its share to the claims it
 * touches. A claim is judged when all its bytes were seen: one that covers bytes which are not read is
 * never compared with anything. */
#ifndef PST_IO_CLAIMS_H
#define PST_IO_CLAIMS_H

#include <pthread.h>
#include <stdatomic.h>

#include "io/sums.h"

struct pst_claim {
    uint64_t offset, size;
    uint64_t wanted, got; /* got: the shares of the `seen` bytes, put together */
    uint64_t seen;
};

struct pst_claims {
    atomic_uint refs;       /* shared with reads that may be left behind */
    pthread_mutex_t mutex;  /* guards got and seen, and agreed_bytes */
    struct pst_claim *list; /* in order and without gaps from 0 to the object's end */
    size_t n;
    uint32_t algorithm; /* of all of them */
    uint64_t agreed_bytes;
    atomic_int is_set; /* after all others: the list does not change any more */
};

/* NULL for lack of memory. */
struct pst_claims *pst_claims_new(void);
struct pst_claims *pst_claims_ref(struct pst_claims *claims);
void pst_claims_unref(struct pst_claims *claims); /* NULL is allowed */

/* Take what can be compared from what a store supplied: the CRC of the whole object, else those of parts
 * that cover it without gaps; other algorithms are ignored. Only the first set that is taken counts.
 * Returns 1 when there are claims. */
int pst_claims_take(struct pst_claims *claims, const pst_sum *sums, uint32_t n, size_t stride,
                    uint64_t object_size);

/* Does the list say that there are sums, but of parts, which only stat tells? */
int pst_claims_are_hinted(const pst_sum *sums, uint32_t n, size_t stride);

static inline int pst_claims_is_set(struct pst_claims *claims)
{
    return claims && atomic_load_explicit(&claims->is_set, memory_order_acquire);
}

/* How many bytes have been found to be as claimed. An empty object is compared here.
 * Errors: DATA_LOSS for that. */
pst_rc pst_claims_agreed(struct pst_claims *claims, uint64_t *bytes, pst_error *err);

/* A run of bytes of the object, fed piece by piece. */
struct pst_feed {
    struct pst_claims *claims; /* NULL: only `total` is computed */
    size_t at;                 /* the claim that is being fed */
    uint64_t offset, begun;    /* in the object: of the next byte, of the first that `share` has */
    struct pst_sums share;     /* since then */
    struct pst_sums total;     /* of the whole run; complete after pst_feed_end */
    pst_rc rc;
    pst_error error;
};

/* Begin at `offset` of the object; `which` are the sums wanted of the run itself. Claims that are not set
 * are left alone. */
void pst_feed_begin(struct pst_feed *feed, struct pst_claims *claims, uint64_t offset,
                    uint32_t which);
void pst_feed_add(struct pst_feed *feed, const void *data, size_t len);

/* Errors: DATA_LOSS, naming both sums, when a claim was completed and is wrong. */
pst_rc pst_feed_end(struct pst_feed *feed, pst_error *err);

/* "wanted crc32c:e3069283, got crc32c:00000000" */
pst_rc pst_claim_fail(uint32_t algorithm, uint64_t wanted, uint64_t got, const char *of_what,
                      pst_error *err);

#endif
