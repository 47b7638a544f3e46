/* look.h - was it carried out? One HEAD after a write whose reply was lost. */
#ifndef PST_S3_LOOK_H
#define PST_S3_LOOK_H

#include "s3.h"

enum s3_verdict {
    S3_LOOK_OURS,  /* the key holds what we wrote */
    S3_LOOK_OTHER, /* ... for certain something else, now */
    S3_LOOK_NOTHING,
    S3_LOOK_UNCLEAR /* it could not be found out */
};

/* Lives in memory of the operation until found() is called. All of `what` that is known is compared. */
struct s3_look {
    pst_str key, version; /* version empty: what the key holds now */
    uint64_t size;        /* what was written; PST_UNKNOWN: any */
    pst_str etag;         /* ... the etag it must have; empty: not known */
    const pst_iov *src;   /* ... and the bytes: an etag may be their MD5. NULL: no */
    size_t n_src;
    const pst_sum *sums; /* ... and their checksums */
    size_t sum_stride;
    uint32_t n_sums;
    enum s3_verdict verdict;
    pst_rc rc; /* of the HEAD: CANCELLED, DEADLINE or NO_MEMORY may be why it is UNCLEAR */
    /* The operation's error is again what it was before the look. `now`: etag, version and size of the
     * object that is there. */
    void (*found)(pst_op *, const struct s3_look *, const pst_put_result *now);
    pst_put_result now;
    pst_error saved;
};

/* found() will be called, perhaps before this returns. */
void s3_look(struct s3_look *look, pst_backend *store, pst_op *op);

/* May the failure of a conditional write stem from its own earlier reply that was lost? */
int s3_look_is_due(const pst_op *op, pst_rc rc);

#endif
