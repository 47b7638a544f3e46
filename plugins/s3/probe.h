/* probe.h - does the store obey the conditions of writes? Asked of the store itself, before anything
 * relies on them. */
#ifndef PST_S3_PROBE_H
#define PST_S3_PROBE_H

#include "s3.h"

/* What can be conditional, and how: by If-None-Match or by If-Match. */
enum s3_conditional {
    S3_PUT_CREATE,
    S3_PUT_MATCH,
    S3_COMPLETE_CREATE,
    S3_COMPLETE_MATCH,
    S3_DELETE_MATCH,
    S3_N_CONDITIONALS
};

pst_rc s3_probe_new(pst_backend *store, struct s3_probe **out, pst_error *err);

/* With nothing waiting. */
void s3_probe_free(struct s3_probe *probe);

/* May `op`, about to write `key`, rely on such a condition? OK: yes. PENDING: call->go_on is called with
 * the answer, perhaps before this returns. UNIMPLEMENTED: the store ignores it; op->err names what was
 * found. */
pst_rc s3_probe_need(struct s3_probe *probe, pst_op *op, enum s3_conditional what, pst_str key);

/* `op` was cancelled: stop waiting, if it does. */
void s3_probe_cancel(struct s3_probe *probe, pst_op *op);

/* Those of `caps` that what is known by now leaves. */
uint64_t s3_probe_caps(const struct s3_probe *probe, uint64_t caps);

#endif
