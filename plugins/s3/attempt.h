/* attempt.h - one try of a request, and what may be put right after it. */
#ifndef PST_S3_ATTEMPT_H
#define PST_S3_ATTEMPT_H

#include <time.h>

#include "request.h"

uint64_t s3_clock_ns(clockid_t clock);

/* Send with the identity there is. PENDING, for S3_PRESIGN OK, or an error in *err. */
pst_rc s3_attempt(struct s3_request *request);

/* What http/1 calls for a try: request.c. */
int32_t s3_request_on_accept(void *ctx, const pst_http_head *head, pst_http_grant *grant);
void s3_request_on_done(void *ctx, pst_rc rc, const pst_http_reply *reply);

/* What was put right already: bits of own.corrected. */
#define S3_CORRECTED_REGION 1u
#define S3_CORRECTED_CLOCK 2u
#define S3_CORRECTED_TOKEN 4u
#define S3_REDIRECT_UNIT 256u /* above: how many redirects were followed */

/* What follows from a reply that is no success. */
enum s3_correction {
    S3_CORRECT_NOTHING, /* it is an error */
    S3_CORRECT_SEND,    /* something was put right: send again */
    S3_CORRECT_TOKEN,   /* send again with fresh credentials */
    S3_CORRECT_REFUSED, /* a redirect that is not followed: *err is filled */
};
enum s3_correction s3_correct(struct s3_request *request, const pst_http_reply *reply);

#endif
