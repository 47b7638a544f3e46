/* cred.h - who we are: the chain of credential sources of AWS, one refresh at a time. */
#ifndef PST_S3_CRED_H
#define PST_S3_CRED_H

#include <stdatomic.h>
#include <stdint.h>

#include <penstock/services.h>

struct s3_creds;
struct s3_config;

/* Credentials at one moment; immutable, counted. No access key: anonymous, requests go unsigned. */
struct s3_identity {
    atomic_uint refs;
    uint32_t reserved0;
    uint64_t generation;                           /* grows with every refresh of the store */
    int64_t expires_unix_ns;                       /* PST_TIME_UNKNOWN: never */
    char *access_key, *secret_key, *session_token; /* wiped when freed; token NULL for none */
    char source[160]; /* for messages: "environment", "profile dev of ~/.aws/credentials" */
};

/* Somebody who waits for credentials; lives in his own struct until fn has been called. */
struct s3_waiter {
    struct s3_waiter *next, **link;
    /* On a thread of the host. OK: `identity` is yours to unref; else err says what failed, naming the
     * source. */
    void (*fn)(struct s3_waiter *, pst_rc, struct s3_identity *identity, const pst_error *err);
    void *ctx;
    struct s3_creds *creds; /* cred.c's own */
};

/* Without a region in the options or the environment: take that of the profile, if there is one. A file
 * that cannot be read is no error here; it is one when keys are looked for in it. */
void s3_creds_find_region(const pst_host *host, struct s3_config *config);

/* Reads no file and asks nobody yet. `host`, `http`, `client` etc. are taken from `store`. */
pst_rc s3_creds_new(pst_backend *store, struct s3_creds **out, pst_error *err);

/* With no waiter left and no refresh under way (close has waited for it). */
void s3_creds_free(struct s3_creds *creds);

/* OK: *out, yours to unref. PENDING: waiter->fn will be called, not before this returns. `refused`: 0,
 * or the generation that the store has just refused as expired; asks the source again once per
 * generation. Renews in the background when less than five minutes are left, and goes on with what it
 * has meanwhile. `op` is for the application's callback (cred/1). Errors: in *err, naming the source. */
pst_rc s3_creds_get(struct s3_creds *creds, pst_op *op, uint64_t refused, struct s3_waiter *waiter,
                    struct s3_identity **out, pst_error *err);

/* Copy what says why, for somebody else who waited. */
void s3_creds_explain(pst_error *to, const pst_error *from);

/* Stop waiting. 1: fn will not be called. 0: it was, or is about to be. */
int s3_creds_leave(struct s3_creds *creds, struct s3_waiter *waiter);

void s3_identity_unref(struct s3_identity *identity);

#endif
