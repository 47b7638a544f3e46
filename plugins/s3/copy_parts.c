/* copy_parts.c - a copy as an upload whose parts the store takes from the source.
 *
 *     HEAD of the source -> its tags -> open -> parts, eight side by side -> commit
 *                                         |        | failed
 *                                         +--------+-> abort
 *
 * The steps are those of upload.c and upload_commit.c with `then` set to come back here, conditions on
 * the destination and lost replies included. Every part names the etag that HEAD showed, so a source
 * that is replaced meanwhile fails the copy instead of mixing two versions. Attributes and tags are
 * carried over from the HEAD, since an upload takes them when it is opened.
 *
 * The first failure stops the other parts, aborts the upload, and is what the copy reports. */
#include <inttypes.h>
#include <string.h>

#include "attr.h"
#include "copy.h"
#include "error.h"
#include "group.h"
#include "look.h"
#include "ops.h"
#include "text.h"
#include "upload.h"
#include "xml.h"

#define SIDE_BY_SIDE 8u
#define PART_BYTES ((uint64_t)128 << 20)
#define PART_MULTIPLE ((uint64_t)1 << 20)
#define TAGS_MAX 50u
#define REPLY_BYTES_MAX ((uint64_t)1 << 20)
#define ONE_COPY_BYTES ((uint64_t)5 << 30) /* what one CopyObject takes */

struct copying {
    pst_backend *store;
    const pst_copy_args *args;
    pst_put_result *result;
    pst_str source;
    pst_attr attr; /* of the source */
    pst_put_args put;
    pst_upload_result opened;
    pst_commit_args commit;
    pst_abort_args abort;
    pst_result none;
    uint64_t part_bytes;
    uint32_t n_parts, n_tags;
    pst_kv tags[TAGS_MAX];
    pst_kv tag; /* being read */
    atomic_uint next;
    atomic_int has_failed;
    pst_rc rc; /* of the first that failed; at first of the CopyObject before, in err too */
    pst_error err;
};

static struct copying *copying_of(pst_op *op)
{
    return s3_call_of(op)->outer;
}

static void end(pst_op *op, pst_rc rc)
{
    struct copying *c = copying_of(op);
    if (c->opened.upload)
        s3_upload_free(c->opened.upload);
    s3_complete(op, rc);
}

/* ---- the end ---------------------------------------------------------------------------------- */

static void on_aborted(pst_op *op, pst_rc rc)
{
    struct copying *c = copying_of(op);
    const struct s3_look *look = s3_call_of(op)->look;
    int was_there = rc == PST_OK && op->err->http_status != 404;
    int is_unseen = look && (look->verdict == S3_LOOK_NOTHING || look->verdict == S3_LOOK_OTHER);
    s3_error_copy(op->err, &c->err); /* what counts is why */
    /* Its reply lost, the commit may still be carried out unless there was an upload to abort. To try once
     * more would then meet our own work. */
    if (c->opened.upload->locked.is_in_doubt && was_there && is_unseen)
        op->err->flags &= ~PST_ERR_MAYBE_APPLIED;
    else if (c->opened.upload->locked.is_in_doubt)
        op->err->flags |= PST_ERR_MAYBE_APPLIED;
    end(op, c->rc);
}

static void fail(pst_op *op, pst_rc rc)
{
    struct s3_call *call = s3_call_of(op);
    struct copying *c = copying_of(op);
    c->rc = rc;
    c->err = (pst_error)PST_ERROR_INIT;
    s3_error_copy(&c->err, op->err);
    call->then = on_aborted;
    s3_request_tidy(&call->request, 1);
    op->err->http_status = 0; /* from here on the abort's */
    rc = s3_upload_abort(c->opened.upload, op, &c->abort, &c->none);
    if (rc != PST_PENDING)
        on_aborted(op, rc);
}

static void on_committed(pst_op *op, pst_rc rc)
{
    if (rc == PST_OK)
        end(op, rc);
    else
        fail(op, rc);
}

static void commit(pst_op *op)
{
    struct s3_call *call = s3_call_of(op);
    struct copying *c = copying_of(op);
    c->commit = (pst_commit_args){
        .struct_size = sizeof(c->commit), .size = c->attr.size, .n_parts = c->n_parts};
    call->then = on_committed;
    pst_rc rc = s3_upload_commit(c->opened.upload, op, &c->commit, c->result);
    if (rc != PST_PENDING)
        on_committed(op, rc);
}

/* ---- the parts -------------------------------------------------------------------------------- */

struct part_reply {
    pst_op *op;
    pst_str etag;
    pst_sum sum; /* that the store made, where the upload was opened for one */
    uint32_t algorithm, reserved0;
};

static int32_t on_part_element(void *ctx, const char *path, pst_str text)
{
    static const pst_str stem = {"CopyPartResult/Checksum", 23};
    struct part_reply *r = ctx;
    const char *name = s3_sum_name(r->algorithm);
    uint32_t strength;
    if (name && strncmp(path, stem.ptr, stem.len) == 0 && strcmp(path + stem.len, name) == 0 &&
        !s3_sum_parse(r->algorithm, text, &r->sum))
        return PST_E_DATA_LOSS;
    if (strcmp(path, "CopyPartResult/ETag") != 0)
        return PST_OK;
    r->etag = s3_keep_etag(r->op, text, &strength);
    return r->etag.ptr ? PST_OK : PST_E_NO_MEMORY;
}

/* The store took the part, or says in the document that it did not. */
static pst_rc take_part(struct s3_member *member, const pst_http_reply *reply)
{
    pst_op *op = member->group->op;
    struct copying *c = copying_of(op);
    uint32_t number = (uint32_t)(uintptr_t)member->state - 1;
    pst_str body = s3_skip_blanks(reply->body);
    struct part_reply r = {.op = op, .algorithm = c->opened.upload->algorithm};
    const struct s3_xml handler = {.end = on_part_element, .ctx = &r};
    struct s3_problem problem;
    struct s3_part part = {.offset = number * c->part_bytes};
    uint64_t rest = c->attr.size - part.offset;
    part.length = rest < c->part_bytes ? rest : c->part_bytes;
    if (s3_problem_parse(body, &problem))
        return s3_error_from_document(&member->request, &problem, reply);
    pst_rc rc = s3_xml_parse(body, &handler);
    if (rc == PST_E_NO_MEMORY)
        return s3_fail(&member->err, rc, "out of memory");
    if (rc != PST_OK || r.etag.len == 0) {
        (void)s3_fail(&member->err, PST_E_UNAVAILABLE,
                      "the store did not say what became of a part");
        member->err.flags |= PST_ERR_RETRYABLE;
        return PST_E_UNAVAILABLE;
    }
    part.sum = r.sum;
    return s3_upload_keep_part(c->opened.upload, number, &part, r.etag)
               ? PST_OK
               : s3_fail(&member->err, PST_E_NO_MEMORY, "out of memory");
}

static pst_rc send_part(struct s3_member *member, uint32_t number)
{
    struct copying *c = copying_of(member->group->op);
    struct s3_request *request = &member->request;
    uint64_t from = number * c->part_bytes;
    uint64_t rest = c->attr.size - from;
    uint64_t length = rest < c->part_bytes ? rest : c->part_bytes;
    s3_member_init(member, "PUT", c->args->to);
    s3_request_paramf(request, "partNumber", "%" PRIu32, number + 1);
    s3_request_param(request, "uploadId", c->opened.upload->id);
    s3_request_header(request, "x-amz-copy-source", c->source);
    s3_request_header(request, "x-amz-copy-source-if-match", c->attr.etag);
    if (c->n_parts > 1) /* of objects up to 5 MiB S3 takes no ranges */
        s3_request_headerf(request, "x-amz-copy-source-range", "bytes=%" PRIu64 "-%" PRIu64, from,
                           from + length - 1);
    s3_sse_c_headers(request, 0);
    s3_sse_c_headers(request, 1);
    request->body_max = REPLY_BYTES_MAX;
    return s3_request_send(request);
}

static void note_failure(struct s3_member *member, pst_rc rc)
{
    struct copying *c = copying_of(member->group->op);
    if (atomic_exchange(&c->has_failed, 1))
        return;
    c->rc = rc;
    c->err = member->err;
    s3_group_cancel(member->group);
}

static pst_rc step(struct s3_member *member, pst_rc rc, const pst_http_reply *reply)
{
    struct copying *c = copying_of(member->group->op);
    if (rc == PST_OK && reply)
        rc = take_part(member, reply);
    if (rc == PST_OK && !atomic_load(&c->has_failed)) {
        uint32_t number = atomic_fetch_add(&c->next, 1);
        if (number >= c->n_parts)
            return PST_OK;
        member->state = (void *)(uintptr_t)(number + 1);
        rc = send_part(member, number);
    }
    if (rc != PST_OK && rc != PST_PENDING)
        note_failure(member, rc);
    return rc;
}

static void over(struct s3_group *group)
{
    pst_op *op = group->op;
    struct copying *c = copying_of(op);
    if (!atomic_load(&c->has_failed)) {
        commit(op);
        return;
    }
    c->opened.upload->locked.has_stray = 1; /* nobody else is left who looks */
    s3_error_copy(op->err, &c->err);
    fail(op, c->rc);
}

static void on_opened(pst_op *op, pst_rc rc)
{
    struct copying *c = copying_of(op);
    struct s3_group *group = NULL;
    if (rc != PST_OK) {
        end(op, rc);
        return;
    }
    if (c->n_parts == 0) {
        commit(op);
        return;
    }
    group = s3_group_new(c->store, op, c->n_parts < SIDE_BY_SIDE ? c->n_parts : SIDE_BY_SIDE);
    if (!group) {
        fail(op, s3_fail(op->err, PST_E_NO_MEMORY, "out of memory"));
        return;
    }
    group->step = step;
    group->over = over;
    s3_group_start(group);
}

/* ---- the source ------------------------------------------------------------------------------- */

static pst_rc open_upload(pst_op *op)
{
    struct s3_call *call = s3_call_of(op);
    struct copying *c = copying_of(op);
    int is_new = (c->args->flags & PST_COPY_REPLACE_ATTR) != 0;
    c->put.struct_size = sizeof(c->put);
    c->put.flags = c->args->flags & PST_PUT_CREATE_ONLY;
    c->put.size_hint = c->attr.size;
    c->put.key = c->args->to;
    c->put.if_match = c->args->if_match;
    c->attr.tags = c->tags;
    c->attr.n_tags = c->n_tags;
    c->attr.storage_class = pst_str_of(NULL, 0); /* as CopyObject: that of the options */
    c->put.attr = is_new ? c->args->attr : &c->attr;
    c->opened.struct_size = sizeof(c->opened);
    call->then = on_opened;
    return s3_upload_open(c->store, op, &c->put, &c->opened);
}

static int32_t on_tag_element(void *ctx, const char *path, pst_str text)
{
    pst_op *op = ctx;
    struct copying *c = copying_of(op);
    if (strcmp(path, "Tagging/TagSet/Tag/Key") == 0) {
        c->tag.key = s3_keep(op, text);
    } else if (strcmp(path, "Tagging/TagSet/Tag/Value") == 0) {
        c->tag.value = s3_keep(op, text);
    } else if (strcmp(path, "Tagging/TagSet/Tag") == 0) {
        if (c->n_tags < TAGS_MAX && c->tag.key.len > 0)
            c->tags[c->n_tags++] = c->tag;
        memset(&c->tag, 0, sizeof(c->tag));
    }
    return PST_OK;
}

static void on_tags(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    if (rc == PST_OK) {
        const struct s3_xml handler = {.end = on_tag_element, .ctx = op, .root = "Tagging"};
        rc = s3_document_read(request, reply, &handler);
    }
    if (rc == PST_OK)
        rc = open_upload(op);
    if (rc != PST_PENDING)
        end(op, rc);
}

static pst_rc ask_for_tags(pst_op *op)
{
    struct s3_request *request = &s3_call_of(op)->request;
    s3_copy_aim(request, copying_of(op)->args, "GET");
    s3_request_param(request, "tagging", PST_STR(""));
    request->body_max = REPLY_BYTES_MAX;
    request->done = on_tags;
    return s3_request_send(request);
}

/* How long the parts are: as many as S3 takes, or fewer. */
static pst_rc plan(pst_op *op, struct copying *c)
{
    uint64_t size = c->attr.size;
    if (size == PST_UNKNOWN)
        return s3_fail(op->err, PST_E_DATA_LOSS, "the store does not say how long the source is");
    uint64_t least = size / S3_PARTS_MAX + 1;
    c->part_bytes = PART_BYTES;
    if (least > PART_BYTES)
        c->part_bytes = (least + PART_MULTIPLE - 1) / PART_MULTIPLE * PART_MULTIPLE;
    c->n_parts = (uint32_t)(size / c->part_bytes + (size % c->part_bytes != 0));
    return PST_OK;
}

static void on_head(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct copying *c = copying_of(op);
    struct s3_sums sums;
    uint64_t n_tags = 0;
    if (rc == PST_OK) {
        if (!s3_attr_take(op, reply->headers, reply->n_headers, &c->attr, &sums))
            rc = s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
        (void)s3_parse_u64(s3_header(reply->headers, reply->n_headers, "x-amz-tagging-count"),
                           &n_tags);
    }
    if (rc == PST_OK && c->rc != PST_OK && c->attr.size <= ONE_COPY_BYTES) {
        s3_error_copy(op->err, &c->err);
        rc = c->rc;
    }
    if (rc == PST_OK)
        rc = plan(op, c);
    if (rc == PST_OK)
        rc = n_tags > 0 && !(c->args->flags & PST_COPY_REPLACE_ATTR) ? ask_for_tags(op)
                                                                     : open_upload(op);
    if (rc != PST_PENDING)
        end(op, rc);
}

pst_rc s3_copy_in_parts(pst_backend *store, pst_op *op, const pst_copy_args *args,
                        pst_put_result *result, pst_rc refused)
{
    struct s3_call *call = s3_call_of(op);
    struct s3_request *request = &call->request;
    struct copying *c = s3_alloc(op, sizeof(*c));
    if (!c)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    memset(c, 0, sizeof(*c));
    c->store = store;
    c->args = args;
    c->result = result;
    c->rc = refused;
    c->err = (pst_error)PST_ERROR_INIT;
    if (refused != PST_OK)
        s3_error_copy(&c->err, op->err);
    c->attr.struct_size = sizeof(c->attr);
    c->abort.struct_size = sizeof(c->abort);
    c->none.struct_size = sizeof(c->none);
    c->source = s3_copy_source(op, store, args);
    if (c->source.len == 0)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    call->outer = c;
    s3_copy_aim(request, args, "HEAD");
    s3_request_header(request, "if-match", args->from_if_match);
    request->done = on_head;
    return s3_request_send(request);
}
