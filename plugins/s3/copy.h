/* copy.h - what the two ways of copying share. */
#ifndef PST_S3_COPY_H
#define PST_S3_COPY_H

#include "s3.h"

/* "/bucket/key?versionId=...", encoded, in memory of the operation; empty for lack of it. */
pst_str s3_copy_source(pst_op *op, const pst_backend *store, const pst_copy_args *args);

/* Make `request` one about the source. */
void s3_copy_aim(struct s3_request *request, const pst_copy_args *args, const char *method);

/* Copy by an upload whose parts the store takes from the source: what is too large for one CopyObject,
 * and what depends on the destination. `refused`: PST_OK, or what one CopyObject was refused with
 * (op->err too), which is the answer unless the source turns out to be that large. PENDING, or why it
 * could not begin. */
pst_rc s3_copy_in_parts(pst_backend *store, pst_op *op, const pst_copy_args *args,
                        pst_put_result *result, pst_rc refused);

#endif
