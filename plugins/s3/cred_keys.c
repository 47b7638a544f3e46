/* cred_keys.c - the keys of the options and nothing else; the chain of sources takes its place. */
#include <string.h>

#include "config.h"
#include "cred.h"
#include "s3.h"

struct s3_creds {
    const pst_host *host;
    struct s3_identity identity;
};

pst_rc s3_creds_new(pst_backend *store, struct s3_creds **out, pst_error *err)
{
    struct s3_creds *creds = store->host->alloc(store->host, sizeof(*creds), 16);

    (void)err;
    if (!creds)
        return PST_E_NO_MEMORY;
    memset(creds, 0, sizeof(*creds));
    creds->host = store->host;
    creds->identity.generation = 1;
    creds->identity.expires_unix_ns = PST_TIME_UNKNOWN;
    creds->identity.access_key = store->config->access_key_id;
    creds->identity.secret_key = store->config->secret_access_key;
    if (store->config->session_token[0])
        creds->identity.session_token = store->config->session_token;
    memcpy(creds->identity.source, "options", 8);
    *out = creds;
    return PST_OK;
}

void s3_creds_free(struct s3_creds *creds)
{
    if (creds)
        creds->host->dealloc(creds->host, creds);
}

pst_rc s3_creds_get(struct s3_creds *creds, pst_op *op, uint64_t refused, struct s3_waiter *waiter,
                    struct s3_identity **out)
{
    (void)op;
    (void)refused;
    (void)waiter;
    *out = &creds->identity;
    return PST_OK;
}

int s3_creds_leave(struct s3_creds *creds, struct s3_waiter *waiter)
{
    (void)creds;
    (void)waiter;
    return 0;
}

void s3_identity_unref(struct s3_identity *identity)
{
    (void)identity;
}
