/* look.c - what became of a write whose reply was lost.
 *
 * A conditional write must not be repeated blindly: the second attempt would find the work of the first
 * and report a conflict with ourselves. So the object is looked at, and compared with what we wrote:
 * size, then the etag where it is known, a checksum that both sides have, and the MD5 of our bytes where
 * the etag has the form of one. An etag that fits is ours. One that does not says nothing: stores that
 * encrypt make etags of the same form that are no MD5 of anything. The MD5 is made on the host's pool and
 * only in this rare case.
 *
 * A look that finds nothing of ours is no proof that nothing will come: the request may be under way
 * still. So the error stays MAYBE_APPLIED, and the host is told that it may try again (REPEATABLE). An
 * attempt after that one, and no other, takes a refusal for a possible echo and looks again.
 *
 * Another writer of the very same bytes cannot be told apart from us; the key then holds what was to be
 * written. */
#include "look.h"

#include <string.h>

#include "attr.h"
#include "ops.h"
#include "text.h"

int s3_look_is_due(const pst_op *op, pst_rc rc)
{
    if (op->err->flags & PST_ERR_MAYBE_APPLIED)
        return rc != PST_E_CANCELLED;
    return (op->flags & PST_OP_REPEATABLE) && (rc == PST_E_PRECONDITION || rc == PST_E_EXISTS);
}

static struct s3_look *look_of(pst_op *op)
{
    return s3_call_of(op)->look;
}

static void end(pst_op *op, enum s3_verdict verdict)
{
    struct s3_look *look = look_of(op);
    s3_error_copy(op->err, &look->saved);
    look->verdict = verdict;
    look->found(op, look, &look->now);
}

static void compare_md5(void *arg)
{
    pst_op *op = arg;
    struct s3_look *look = look_of(op);
    const pst_backend *store = s3_call_of(op)->request.store;
    uint8_t md5[16], found[16];
    if (store->crypto->digest(store->host, PST_DIGEST_MD5, look->src, look->n_src, md5) != PST_OK) {
        end(op, S3_LOOK_UNCLEAR);
        return;
    }
    int is_same = s3_etag_md5(look->now.etag, found) && memcmp(found, md5, sizeof(md5)) == 0;
    end(op, is_same ? S3_LOOK_OURS : S3_LOOK_UNCLEAR);
}

/* A checksum that both sides know decides: returns 1 and the verdict. */
static int compare_sums(const struct s3_look *look, const struct s3_sums *theirs,
                        enum s3_verdict *verdict)
{
    for (uint32_t i = 0; i < theirs->n; i++) {
        const pst_sum *ours = s3_sum_find(look->sums, look->n_sums, look->sum_stride,
                                          theirs->sums[i].algorithm);
        if (!ours)
            continue;
        *verdict = memcmp(ours->bytes, theirs->sums[i].bytes, theirs->sums[i].length) == 0
                       ? S3_LOOK_OURS
                       : S3_LOOK_OTHER;
        return 1;
    }
    return 0;
}

static void on_head(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct s3_look *look = look_of(op);
    struct s3_sums sums;
    enum s3_verdict verdict = S3_LOOK_UNCLEAR;
    uint64_t size = PST_UNKNOWN;
    uint8_t md5[16];
    look->rc = rc;
    if (rc != PST_OK) {
        end(op, rc == PST_E_NOT_FOUND ? S3_LOOK_NOTHING : S3_LOOK_UNCLEAR);
        return;
    }
    (void)s3_parse_u64(s3_header(reply->headers, reply->n_headers, "content-length"), &size);
    s3_sums_take(reply->headers, reply->n_headers, &sums);
    s3_put_take(op, reply, size, &look->now);
    if (look->now.etag.len == 0 && s3_header(reply->headers, reply->n_headers, "etag").len > 0)
        look->rc = PST_E_NO_MEMORY;
    if (look->size != PST_UNKNOWN && size != look->size) {
        end(op, S3_LOOK_OTHER);
    } else if (look->etag.len > 0 && s3_str_eq(look->etag, look->now.etag)) {
        end(op, S3_LOOK_OURS);
    } else if (compare_sums(look, &sums, &verdict)) {
        end(op, verdict);
    } else if (look->src && s3_etag_md5(look->now.etag, md5)) {
        if (op->host->exec(op->host, op, PST_POOL_CPU, compare_md5, op) != PST_OK)
            end(op, S3_LOOK_UNCLEAR);
    } else {
        end(op, S3_LOOK_UNCLEAR);
    }
}

void s3_look(struct s3_look *look, pst_backend *store, pst_op *op)
{
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    call->look = look;
    look->now.struct_size = sizeof(look->now);
    look->saved = (pst_error)PST_ERROR_INIT;
    s3_error_copy(&look->saved, op->err);
    s3_request_init(request, store, op, "HEAD", look->key);
    if (look->version.len > 0)
        s3_request_param(request, "versionId", look->version);
    s3_request_header(request, "x-amz-checksum-mode", PST_STR("ENABLED"));
    s3_sse_c_headers(request, 0);
    request->done = on_head;
    pst_rc rc = s3_request_send(request);
    if (rc != PST_PENDING) {
        look->rc = rc;
        end(op, S3_LOOK_UNCLEAR);
    }
}
