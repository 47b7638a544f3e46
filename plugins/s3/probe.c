#include "probe.h"

#include <string.h>

#include "config.h"
#include "endpoint.h"
#include "error.h"

struct s3_probe {
    const pst_host *host;
    enum s3_conditions policy;
    int is_aws;
};

pst_rc s3_probe_new(pst_backend *store, struct s3_probe **out, pst_error *err)
{
    struct s3_probe *probe = store->host->alloc(store->host, sizeof(*probe), 16);
    if (!probe)
        return s3_fail(err, PST_E_NO_MEMORY, "out of memory");
    memset(probe, 0, sizeof(*probe));
    probe->host = store->host;
    probe->policy = store->config->conditional_writes;
    probe->is_aws = s3_endpoints_are_aws(store->endpoints);
    *out = probe;
    return PST_OK;
}

void s3_probe_free(struct s3_probe *probe)
{
    if (probe)
        probe->host->dealloc(probe->host, probe);
}

pst_rc s3_probe_need(struct s3_probe *probe, pst_op *op, enum s3_conditional what, pst_str key)
{
    (void)what;
    (void)key;
    if (probe->policy == S3_CONDITIONS_TRUST ||
        (probe->policy == S3_CONDITIONS_AUTO && probe->is_aws))
        return PST_OK;
    return s3_fail(op->err, PST_E_UNIMPLEMENTED,
                   "it is not known that the store obeys conditions of writes: the option "
                   "conditional_writes=trust says that it does");
}

void s3_probe_cancel(struct s3_probe *probe, pst_op *op)
{
    (void)probe;
    (void)op;
}

uint64_t s3_probe_caps(const struct s3_probe *probe, uint64_t caps)
{
    if (probe->policy == S3_CONDITIONS_REFUSE)
        caps &= ~(PST_CAP_CREATE_ONLY | PST_CAP_WRITE_IF_MATCH | PST_CAP_UPLOAD_CONDITIONAL);
    return caps;
}
