#include "attr.h"
#include "error.h"
#include "ops.h"
#include "text.h"

#define EXPIRES_MAX_S 604800u /* SigV4: seven days */

static void on_done(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_presign_result *result = s3_call_of(request->op)->result;
    (void)reply;
    if (rc == PST_OK)
        result->url = request->url;
    s3_complete(request->op, rc);
}

pst_rc s3_presign(pst_backend *store, pst_op *op, const pst_presign_args *args,
                  pst_presign_result *result)
{
    static const char *const methods[] = {"GET", "PUT", "HEAD", "DELETE"};
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    const pst_str wanted = S3_GET(pst_presign_args, args, method);
    const char *method = wanted.len == 0 ? "GET" : NULL;
    pst_rc rc = s3_key_check(store, op, args->key);
    if (rc != PST_OK)
        return rc;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]) && !method; i++)
        method = s3_str_is(wanted, methods[i]) ? methods[i] : NULL;
    if (!method)
        return s3_fail(op->err, PST_E_INVALID,
                       "a URL can be presigned for GET, PUT, HEAD or DELETE");
    if (args->expires_s < 1 || args->expires_s > EXPIRES_MAX_S)
        return s3_fail(op->err, PST_E_INVALID, "a presigned URL is good for 1 to %u seconds",
                       EXPIRES_MAX_S);
    call->args = args;
    call->result = result;
    s3_request_init(request, store, op, method, args->key);
    request->flags = S3_PRESIGN;
    request->presign_s = (uint32_t)args->expires_s;
    request->done = on_done;
    rc = s3_request_send(request);
    if (rc == PST_OK)
        result->url = request->url;
    return rc;
}
