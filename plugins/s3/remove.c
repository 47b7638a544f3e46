/* remove.c - deleting one key, or up to a thousand in one request.
 *
 * One key is one DELETE. Many are one DeleteObjects, which answers 200 and an error per key; what it does
 * not name is gone (Quiet). Keys that XML 1.0 cannot carry (control characters, U+FFFE, U+FFFF) are
 * deleted one by one, a few side by side, and so is everything where the store does not know the
 * request. A key that is not there is OK.
 *
 * A DELETE with a condition whose reply was lost: an object that is not there any more was deleted; one
 * that still has the etag may be tried again. One with another etag was not ours to delete, if it is not
 * what somebody wrote after we did. */
#include <string.h>

#include "attr.h"
#include "error.h"
#include "group.h"
#include "look.h"
#include "ops.h"
#include "probe.h"
#include "text.h"
#include "xml.h"

#define SIDE_BY_SIDE 8u
#define REPLY_BYTES_MAX ((uint64_t)4 << 20)

struct removal {
    struct s3_look look;
    uint32_t *batch, *single; /* indices of keys */
    uint32_t n_batch, n_single;
    atomic_uint next; /* of `single` */
    uint32_t reserved0;
    pst_op *op;
    pst_iov body;
    int has_stray; /* the reply holds an error of a key that was not sent */
    pst_error stray;
    struct s3_problem problem; /* being read */
    pst_str key, version;      /* ... of this one, in `kept` */
    char kept[2 * S3_KEY_MAX + 2];
};

static pst_str version_of(const pst_remove_args *args, size_t i)
{
    return args->versions ? args->versions[i] : pst_str_of(NULL, 0);
}

static pst_str if_match_of(const pst_remove_args *args)
{
    return S3_GET(pst_remove_args, args, if_match);
}

static void settle(pst_op *op, size_t i, pst_rc rc, const pst_error *err)
{
    pst_remove_result *result = s3_call_of(op)->result;
    result->status[i] = rc;
    if (rc != PST_OK && result->errors)
        s3_error_copy((pst_error *)(void *)((char *)result->errors + i * result->error_stride),
                      err);
}

/* What was asked for is so. */
static int is_gone(pst_rc rc, const pst_error *err)
{
    return rc == PST_OK || (rc == PST_E_NOT_FOUND && !(err->flags & PST_ERR_NO_CONTAINER) &&
                            strcmp(err->provider_code, "NoSuchBucket") != 0);
}

static void fill_delete(struct s3_request *request, const pst_remove_args *args, size_t i)
{
    pst_str version = version_of(args, i);
    if (version.len > 0)
        s3_request_param(request, "versionId", version);
    request->flags = S3_CHANGES;
}

/* ---- one key ---------------------------------------------------------------------------------- */

static void end_one(pst_op *op, pst_rc rc)
{
    settle(op, 0, rc, op->err);
    s3_complete(op, rc);
}

static void on_found(pst_op *op, const struct s3_look *look, const pst_put_result *now)
{
    pst_rc rc = op->err->code;
    if (look->verdict == S3_LOOK_NOTHING) {
        rc = PST_OK;
    } else if (look->verdict == S3_LOOK_OURS) {
        op->flags |= PST_OP_REPEATABLE;
    } else if (now->etag.len > 0) {
        rc = s3_fail(op->err, PST_E_PRECONDITION, "the object's etag is another one");
        op->err->flags = PST_ERR_MAYBE_APPLIED; /* it may have come after ours was deleted */
    }
    end_one(op, rc);
}

static void on_one(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    const pst_remove_args *args = s3_call_of(op)->args;
    struct removal *r = s3_call_of(op)->state;
    (void)reply;
    if (rc != PST_OK && if_match_of(args).len > 0 && s3_look_is_due(op, rc)) {
        op->err->code = rc;
        r->look.key = args->keys[0];
        r->look.version = version_of(args, 0);
        r->look.size = PST_UNKNOWN;
        r->look.etag = if_match_of(args);
        r->look.found = on_found;
        s3_look(&r->look, request->store, op);
        return;
    }
    end_one(op, is_gone(rc, op->err) ? PST_OK : rc);
}

/* The probe has answered. */
static void go_on(pst_op *op, pst_rc rc)
{
    if (rc == PST_OK)
        rc = s3_request_send(&s3_call_of(op)->request);
    if (rc != PST_PENDING)
        end_one(op, rc);
}

static pst_rc remove_one(pst_backend *store, pst_op *op, const pst_remove_args *args)
{
    struct s3_request *request = &s3_call_of(op)->request;
    s3_request_init(request, store, op, "DELETE", args->keys[0]);
    fill_delete(request, args, 0);
    request->done = on_one;
    pst_rc rc = PST_OK;
    if (if_match_of(args).len > 0) {
        s3_request_header(request, "if-match", if_match_of(args));
        request->flags |= S3_IS_CONDITIONAL;
        s3_call_of(op)->go_on = go_on;
        rc = s3_probe_need(store->probe, op, S3_DELETE_MATCH, args->keys[0]);
    }
    if (rc == PST_OK)
        rc = s3_request_send(request);
    if (rc != PST_PENDING)
        settle(op, 0, rc, op->err);
    return rc;
}

/* ---- one by one, side by side ----------------------------------------------------------------- */

static pst_rc step(struct s3_member *member, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = member->group->op;
    const pst_remove_args *args = s3_call_of(op)->args;
    struct removal *r = s3_call_of(op)->state;
    (void)reply;
    if (member->state) { /* which key it was, plus one */
        size_t i = (size_t)(uintptr_t)member->state - 1;
        settle(op, i, is_gone(rc, &member->err) ? PST_OK : rc, &member->err);
    }
    while (rc != PST_E_CANCELLED) {
        uint32_t next = atomic_fetch_add(&r->next, 1);
        if (next >= r->n_single)
            break;
        size_t i = r->single[next];
        s3_member_init(member, "DELETE", args->keys[i]);
        fill_delete(&member->request, args, i);
        member->state = (void *)(uintptr_t)(i + 1);
        rc = s3_request_send(&member->request);
        if (rc == PST_PENDING)
            return rc;
        settle(op, i, rc, &member->err);
    }
    member->state = NULL;
    return PST_OK;
}

static void over(struct s3_group *group)
{
    pst_op *op = group->op;
    struct s3_request *request = &s3_call_of(op)->request;
    int is_cancelled = atomic_load(&request->own.is_cancelled);
    s3_complete(op, is_cancelled ? s3_fail(op->err, PST_E_CANCELLED, "cancelled") : PST_OK);
}

/* PENDING, or why it could not begin. */
static pst_rc remove_singly(pst_backend *store, pst_op *op)
{
    const struct removal *r = s3_call_of(op)->state;
    struct s3_group *group = s3_group_new(store, op,
                                          r->n_single < SIDE_BY_SIDE ? r->n_single : SIDE_BY_SIDE);
    if (!group)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    group->step = step;
    group->over = over;
    s3_group_start(group);
    return PST_PENDING;
}

/* ---- DeleteObjects ---------------------------------------------------------------------------- */

static pst_str keep_field(struct removal *r, size_t at, pst_str text)
{
    size_t len = text.len < S3_KEY_MAX ? text.len : S3_KEY_MAX;
    if (len > 0)
        memcpy(r->kept + at, text.ptr, len);
    return pst_str_of(r->kept + at, len);
}

static void take_error(struct removal *r)
{
    pst_op *op = r->op;
    struct s3_call *call = s3_call_of(op);
    const pst_remove_args *args = call->args;
    pst_error err = PST_ERROR_INIT;
    struct s3_request *request = &call->request;
    const pst_http_reply none = {.struct_size = sizeof(none), .status = 200};
    request->err = &err;
    pst_rc rc = s3_error_from_document(request, &r->problem, &none);
    request->err = op->err;
    int is_found = 0;
    for (uint32_t k = 0; k < r->n_batch; k++) {
        size_t i = r->batch[k];
        pst_str version = version_of(args, i); /* stores name one where none was sent */
        if (!s3_str_eq(args->keys[i], r->key) ||
            (version.len > 0 && r->version.len > 0 && !s3_str_eq(version, r->version)))
            continue;
        is_found = 1;
        settle(op, i, is_gone(rc, &err) ? PST_OK : rc, &err);
    }
    if (!is_found && !is_gone(rc, &err) && !r->has_stray) {
        r->has_stray = 1;
        r->stray = err;
    }
}

static void keep_text(char *to, size_t capacity, pst_str text)
{
    size_t len = text.len < capacity - 1 ? text.len : capacity - 1;
    if (len > 0)
        memcpy(to, text.ptr, len);
    to[len] = '\0';
}

static int32_t on_element(void *ctx, const char *path, pst_str text)
{
    static const char stem[] = "DeleteResult/Error";
    struct removal *r = ctx;
    if (strncmp(path, stem, sizeof(stem) - 1) != 0)
        return PST_OK;
    const char *name = path + sizeof(stem) - 1;
    if (strcmp(name, "/Key") == 0) {
        r->key = keep_field(r, 0, text);
    } else if (strcmp(name, "/VersionId") == 0) {
        r->version = keep_field(r, S3_KEY_MAX + 1, text);
    } else if (strcmp(name, "/Code") == 0) {
        keep_text(r->problem.code, sizeof(r->problem.code), text);
    } else if (strcmp(name, "/Message") == 0) {
        keep_text(r->problem.message, sizeof(r->problem.message), text);
    } else if (name[0] == '\0') {
        take_error(r);
        memset(&r->problem, 0, sizeof(r->problem));
        r->key = r->version = pst_str_of(NULL, 0);
    }
    return PST_OK;
}

/* The reply was read as a whole, or was not: then nothing is known of any key. An error of nobody's is
 * everybody's who has none of his own. */
static void settle_batch(pst_op *op, pst_rc rc)
{
    struct removal *r = s3_call_of(op)->state;
    const pst_remove_result *result = s3_call_of(op)->result;
    for (uint32_t k = 0; k < r->n_batch; k++) {
        size_t i = r->batch[k];
        if (rc != PST_OK)
            settle(op, i, rc, op->err);
        else if (result->status[i] == PST_PENDING)
            settle(op, i, r->has_stray ? r->stray.code : PST_OK, &r->stray);
    }
}

static void on_batch(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    pst_op *op = request->op;
    struct removal *r = s3_call_of(op)->state;
    pst_remove_result *result = s3_call_of(op)->result;
    if (rc == PST_OK) {
        const struct s3_xml handler = {.end = on_element, .ctx = r, .root = "DeleteResult"};
        for (uint32_t k = 0; k < r->n_batch; k++)
            result->status[r->batch[k]] = PST_PENDING;
        rc = s3_document_read(request, reply, &handler);
        settle_batch(op, rc);
    } else if (rc == PST_E_UNIMPLEMENTED) { /* then all one by one; the arrays lie side by side */
        r->single = r->batch;
        r->n_single += r->n_batch;
        rc = PST_OK;
    }
    if (rc == PST_OK && r->n_single > 0)
        rc = remove_singly(request->store, op);
    if (rc != PST_PENDING)
        s3_complete(op, rc);
}

static char *append(char *at, const char *text)
{
    size_t len = strlen(text);
    memcpy(at, text, len);
    return at + len;
}

static char *append_element(char *at, char *end, const char *open, pst_str text, const char *close)
{
    at = append(at, open);
    at += s3_xml_escape(text, at, (size_t)(end - at));
    return append(at, close);
}

static pst_rc remove_batch(pst_backend *store, pst_op *op, const pst_remove_args *args)
{
    struct s3_request *request = &s3_call_of(op)->request;
    struct removal *r = s3_call_of(op)->state;
    uint8_t md5[16];
    char md5_text[S3_BASE64_BYTES(sizeof(md5))];
    size_t room = 256;
    for (uint32_t k = 0; k < r->n_batch; k++) /* "&quot;" is the longest that a byte becomes */
        room += 6 * (args->keys[r->batch[k]].len + version_of(args, r->batch[k]).len) + 80;
    char *body = s3_alloc(op, room);
    if (!body)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    char *at = append(body, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                            "<Quiet>true</Quiet>");
    for (uint32_t k = 0; k < r->n_batch; k++) {
        pst_str version = version_of(args, r->batch[k]);
        at = append(at, "<Object>");
        at = append_element(at, body + room, "<Key>", args->keys[r->batch[k]], "</Key>");
        if (version.len > 0)
            at = append_element(at, body + room, "<VersionId>", version, "</VersionId>");
        at = append(at, "</Object>");
    }
    at = append(at, "</Delete>");
    r->body = (pst_iov){body, (size_t)(at - body)};
    pst_rc rc = store->crypto->digest(store->host, PST_DIGEST_MD5, &r->body, 1, md5);
    if (rc != PST_OK)
        return s3_fail(op->err, rc, "the digest of the body cannot be computed");
    s3_base64_encode(md5, sizeof(md5), md5_text);
    s3_request_init(request, store, op, "POST", pst_str_of(NULL, 0));
    s3_request_param(request, "delete", PST_STR(""));
    s3_request_header(request, "content-type", PST_STR("application/xml"));
    s3_request_headerf(request, "content-md5", "%s", md5_text);
    request->body = &r->body;
    request->n_body = 1;
    request->body_max = REPLY_BYTES_MAX;
    request->flags = S3_CHANGES;
    request->done = on_batch;
    return s3_request_send(request);
}

/* ---- which way -------------------------------------------------------------------------------- */

static int is_xml(pst_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t *s = (const uint8_t *)text.ptr + i;
        if (*s < 0x20)
            return 0;
        if (*s == 0xef && i + 2 < text.len && s[1] == 0xbf && s[2] >= 0xbe)
            return 0; /* U+FFFE, U+FFFF */
    }
    return 1;
}

/* Sort the keys that can be deleted at all into the two lists. */
static void sort_keys(const pst_backend *store, pst_op *op, const pst_remove_args *args,
                      struct removal *r)
{
    for (size_t i = 0; i < args->n_keys; i++) {
        pst_rc rc = s3_key_check(store, op, args->keys[i]);
        if (rc != PST_OK)
            settle(op, i, rc, op->err);
        else if (is_xml(args->keys[i]))
            r->batch[r->n_batch++] = (uint32_t)i;
    }
    r->single = r->batch + r->n_batch;
    for (size_t i = 0; i < args->n_keys; i++) {
        if (!is_xml(args->keys[i]) && s3_key_check(store, op, args->keys[i]) == PST_OK)
            r->single[r->n_single++] = (uint32_t)i;
    }
}

pst_rc s3_remove(pst_backend *store, pst_op *op, const pst_remove_args *args,
                 pst_remove_result *result)
{
    struct s3_call *call = s3_call_of(op);
    if (if_match_of(args).len > 0 && args->n_keys != 1)
        return s3_fail(op->err, PST_E_INVALID, "if_match needs exactly one key");
    if (args->n_keys == 0)
        return PST_OK;
    struct removal *r = s3_alloc(op, sizeof(*r));
    uint32_t *indices = s3_alloc(op, args->n_keys * sizeof(*indices));
    if (!r || !indices)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    memset(r, 0, sizeof(*r));
    call->args = args;
    call->result = result;
    call->state = r;
    r->op = op;
    r->batch = indices;
    sort_keys(store, op, args, r);
    if (r->n_batch + r->n_single == 0)
        return PST_OK; /* each with its reason */
    if (args->n_keys == 1)
        return remove_one(store, op, args);
    if (r->n_batch > 0)
        return remove_batch(store, op, args);
    s3_request_init(&call->request, store, op, "DELETE", pst_str_of(NULL, 0)); /* for cancel */
    return remove_singly(store, op);
}
