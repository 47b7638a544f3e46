/* group.h - several requests side by side on behalf of one operation. */
#ifndef PST_S3_GROUP_H
#define PST_S3_GROUP_H

#include "s3.h"

struct s3_member {
    struct s3_request request; /* first */
    pst_error err;             /* of this request */
    struct s3_group *group;
    void *state; /* the caller's */
};

struct s3_group {
    pst_op *op;
    struct s3_member *members;
    void *state; /* the caller's */
    uint32_t n;
    uint32_t is_tidying; /* it runs although the operation was cancelled: it cleans up */
    atomic_uint n_running;
    /* The next request of `member`: PENDING when it was sent, else the member is over. Called with
     * PST_OK and no reply at first. Members run beside each other. */
    pst_rc (*step)(struct s3_member *member, pst_rc rc, const pst_http_reply *reply);
    /* All members are over. Runs once, on the thread of the last. */
    void (*over)(struct s3_group *group);
};

/* In memory of the operation, NULL for lack of it. While it runs it is cancelled with `op`. */
struct s3_group *s3_group_new(pst_backend *store, pst_op *op, uint32_t n);

/* Start the members. over() follows, perhaps before this returns. */
void s3_group_start(struct s3_group *group);

/* As s3_request_init; then fill the request and send it as any other. */
void s3_member_init(struct s3_member *member, const char *method, pst_str key);

void s3_group_cancel(struct s3_group *group);

#endif
