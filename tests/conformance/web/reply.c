/* reply.c - what came back: ranges that are looked at, memory for them, results, failures. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "web.h"

pst_rc web_fail(pst_op *op, pst_rc rc, uint32_t flags, const char *message)
{
    op->err->code = rc;
    op->err->flags = flags;
    (void)snprintf(op->err->message, sizeof(op->err->message), "%s", message);
    return rc;
}

static pst_str header(const pst_kv *all, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (all[i].key.len == strlen(name) && memcmp(all[i].key.ptr, name, all[i].key.len) == 0)
            return all[i].value;
    return pst_str_of("", 0);
}

static pst_str keep(pst_op *op, pst_str s)
{
    char *copy = s.len > 0 ? op->host->op_alloc(op->host, op, s.len) : NULL;
    if (copy)
        memcpy(copy, s.ptr, s.len);
    return pst_str_of(copy ? copy : "", copy ? s.len : 0);
}

uint64_t web_number(pst_str digits)
{
    uint64_t value = 0;
    for (size_t i = 0; i < digits.len && i < 18 && digits.ptr[i] >= '0' && digits.ptr[i] <= '9';
         i++)
        value = value * 10 + (uint64_t)(digits.ptr[i] - '0');
    return value;
}

/* ---- the reply to a read ----------------------------------------------------------------------- */

/* "bytes 5-9/100" */
static int parse_range(pst_str text, uint64_t *first, uint64_t *length, uint64_t *size)
{
    char copy[100];
    uint64_t last;
    (void)snprintf(copy, sizeof(copy), "%.*s", (int)(text.len < 99 ? text.len : 99), text.ptr);
    if (sscanf(copy, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, first, &last, size) != 3 ||
        last < *first)
        return 0;
    *length = last - *first + 1;
    return 1;
}

static int32_t take_memory(struct job *j, uint32_t flags, pst_http_grant *grant)
{
    const pst_read_args *args = j->args;
    if (PST_HAS(pst_read_args, args, n_dst) && args->n_dst > 0) {
        grant->dst = args->dst;
        grant->n_dst = args->n_dst;
        return PST_HTTP_TAKE;
    }
    pst_dst_args ask = {.struct_size = sizeof(ask),
                        .flags = flags,
                        .length = j->length,
                        .capacity = j->length,
                        .object_size = j->size,
                        .etag_strength = j->etag_len > 0 ? PST_ETAG_STRONG : PST_ETAG_NONE,
                        .etag = pst_str_of(j->etag, j->etag_len)};
    pst_dst_grant given = {.struct_size = sizeof(given)};
    pst_rc rc = j->op->host->dst(j->op->host, j->op, &ask, &given);
    if (rc == PST_LATER)
        return PST_HTTP_PAUSE;
    if (rc != PST_OK)
        return web_fail(j->op, rc, 0, "no memory for the bytes");
    grant->dst = given.dst;
    grant->n_dst = given.n_dst;
    return PST_HTTP_TAKE;
}

int32_t web_accept(void *ctx, const pst_http_head *head, pst_http_grant *grant)
{
    struct job *j = ctx;
    const pst_read_args *args = j->args;
    pst_str etag = header(head->headers, head->n_headers, "etag");
    if (head->status < 200 || head->status > 299)
        return PST_HTTP_REJECT;
    if (head->n_taken > 0)
        return web_fail(j->op, PST_E_DATA_LOSS, 0, "more bytes came than the reply's range has");
    if (head->status == 206 &&
        (!parse_range(header(head->headers, head->n_headers, "content-range"), &j->first,
                      &j->length, &j->size) ||
         j->first != args->offset || j->length > args->length))
        return web_fail(j->op, PST_E_DATA_LOSS, 0, "the reply has another range, or names none");
    if (head->status == 200 && (args->offset > 0 || head->content_length == PST_UNKNOWN ||
                                head->content_length > args->length))
        return web_fail(j->op, PST_E_UNIMPLEMENTED, 0, "the server does not know ranges");
    if (head->status == 200)
        j->length = j->size = head->content_length;
    if (head->content_length != PST_UNKNOWN && head->content_length != j->length)
        return web_fail(j->op, PST_E_DATA_LOSS, 0, "length and range of the reply differ");
    j->etag_len = (uint32_t)(etag.len < sizeof(j->etag) ? etag.len : 0);
    memcpy(j->etag, etag.ptr, j->etag_len);
    return j->length == 0 ? PST_HTTP_COLLECT : take_memory(j, 0, grant);
}

static pst_rc end_read(struct job *j, const pst_http_reply *reply)
{
    pst_read_result *r = j->result;
    r->n_read = reply->status == 416 ? 0 : j->length;
    r->object_size = reply->status == 416 ? PST_UNKNOWN : j->size;
    if (reply->status != 416 && reply->n_taken != j->length)
        return web_fail(j->op, PST_E_DATA_LOSS, PST_ERR_RETRYABLE,
                        "fewer bytes came than announced");
    r->etag = keep(j->op, pst_str_of(j->etag, j->etag_len));
    if (j->etag_len > 0 && r->etag.len == 0)
        return web_fail(j->op, PST_E_NO_MEMORY, 0, "out of memory");
    r->etag_strength = j->etag_len > 0 ? PST_ETAG_STRONG : PST_ETAG_NONE;
    return PST_OK;
}

/* ---- failures ---------------------------------------------------------------------------------- */

static const struct {
    const char *word; /* NULL: by status */
    uint32_t status;
    pst_rc rc;
    uint32_t flags;
} meanings[] = {
    {"timeout", 0, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},
    {"busy", 0, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},
    {"slow-down", 0, PST_E_THROTTLED, PST_ERR_RETRYABLE},
    {"expired", 0, PST_E_UNAUTHENTICATED, 0},
    {"no-store", 0, PST_E_NOT_FOUND, PST_ERR_NO_CONTAINER},
    {"exists", 0, PST_E_EXISTS, 0},
    {NULL, 401, PST_E_UNAUTHENTICATED, 0},
    {NULL, 403, PST_E_DENIED, 0},
    {NULL, 404, PST_E_NOT_FOUND, 0},
    {NULL, 412, PST_E_PRECONDITION, 0},
    {NULL, 429, PST_E_THROTTLED, PST_ERR_RETRYABLE},
    {NULL, 500, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},
    {NULL, 502, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},
    {NULL, 503, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},
    {NULL, 504, PST_E_UNAVAILABLE, PST_ERR_RETRYABLE},
};

static void copy_text(char *to, size_t size, pst_str from)
{
    size_t n = from.len < size - 1 ? from.len : size - 1;
    for (size_t i = 0; i < n; i++)
        to[i] = from.ptr[i] >= ' ' && from.ptr[i] < 0x7f ? from.ptr[i] : '?';
    to[n] = '\0';
}

static pst_rc explain(struct job *j, pst_rc rc, const pst_http_reply *reply)
{
    pst_error *err = j->op->err;
    int writes = j->kind == PUT || j->kind == REMOVE;
    copy_text(err->endpoint, sizeof(err->endpoint), pst_str_of(reply->peer, strlen(reply->peer)));
    if (rc != PST_OK) {
        if (err->code == 0) /* else accept has said why */
            (void)web_fail(j->op, rc, rc == PST_E_UNAVAILABLE ? PST_ERR_RETRYABLE : 0,
                           reply->message);
        if (writes && (reply->flags & PST_HTTP_MAY_BE_SENT))
            err->flags |= PST_ERR_MAYBE_APPLIED;
        return rc;
    }
    const char *end = reply->body.len > 0 ? memchr(reply->body.ptr, ':', reply->body.len) : NULL;
    pst_str after = header(reply->headers, reply->n_headers, "retry-after");
    pst_str word = pst_str_of(reply->body.ptr, end ? (size_t)(end - reply->body.ptr) : 0);
    (void)web_fail(j->op, PST_E_IO, 0, "the server's answer is not understood");
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        const char *w = meanings[i].word;
        if (w ? word.len != strlen(w) || memcmp(word.ptr, w, word.len) != 0
              : meanings[i].status != reply->status)
            continue;
        err->code = meanings[i].rc;
        err->flags = meanings[i].flags;
        break;
    }
    (void)snprintf(err->message, sizeof(err->message), "HTTP %u from %s", reply->status,
                   err->endpoint);
    err->http_status = (int32_t)reply->status;
    copy_text(err->provider_code, sizeof(err->provider_code), word);
    copy_text(err->request_id, sizeof(err->request_id),
              header(reply->headers, reply->n_headers, "x-request-id"));
    err->retry_after_ms =
        (uint32_t)(1000 * web_number(pst_str_of(after.ptr, after.len < 4 ? after.len : 4)));
    return err->code;
}

/* ---- the ends of the others -------------------------------------------------------------------- */

static pst_rc end_stat(struct job *j, const pst_http_reply *reply)
{
    pst_attr *a = j->result;
    a->size = web_number(header(reply->headers, reply->n_headers, "content-length"));
    a->kind = PST_KIND_OBJECT;
    a->mtime_ns = PST_TIME_UNKNOWN;
    a->etag = keep(j->op, header(reply->headers, reply->n_headers, "etag"));
    a->etag_strength = a->etag.len > 0 ? PST_ETAG_STRONG : PST_ETAG_NONE;
    return a->etag.len > 0 ? PST_OK : web_fail(j->op, PST_E_NO_MEMORY, 0, "out of memory");
}

static pst_rc end_put(struct job *j, const pst_http_reply *reply)
{
    const pst_put_args *args = j->args;
    pst_put_result *r = j->result;
    r->size = 0;
    for (size_t i = 0; i < args->n_src; i++)
        r->size += args->src[i].len;
    r->etag = keep(j->op, header(reply->headers, reply->n_headers, "etag"));
    r->etag_strength = r->etag.len > 0 ? PST_ETAG_STRONG : PST_ETAG_NONE;
    return PST_OK;
}

/* "key\n" for each, and "end\n": a list that was cut short cannot be taken for a whole one. */
static pst_rc end_list(struct job *j, const pst_http_reply *reply)
{
    pst_list_result *r = j->result;
    const char *at = reply->body.ptr, *end = at + reply->body.len;
    pst_str next = header(reply->headers, reply->n_headers, "x-next");
    if (reply->body.len < 4 || memcmp(end - 4, "end\n", 4) != 0)
        return web_fail(j->op, PST_E_DATA_LOSS, PST_ERR_RETRYABLE, "the listing has no end");
    for (end -= 4; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        pst_entry e = {.key = pst_str_of(at, stop ? (size_t)(stop - at) : 0),
                       .mtime_ns = PST_TIME_UNKNOWN};
        pst_rc rc = j->op->host->list_emit(j->op->host, j->op, &e, 1, sizeof(e));
        if (rc != PST_OK || !stop)
            return web_fail(j->op, stop ? rc : PST_E_DATA_LOSS, 0, "the listing was refused");
        at = stop + 1;
    }
    if (PST_HAS(pst_list_result, r, next_token))
        r->next_token = keep(j->op, next);
    return PST_OK;
}

void web_done(void *ctx, pst_rc rc, const pst_http_reply *reply)
{
    struct job *j = ctx;
    pst_op *op = j->op;
    int is_good = rc == PST_OK && ((reply->status >= 200 && reply->status <= 299) ||
                                   (j->kind == READ && reply->status == 416));
    if (!is_good)
        rc = explain(j, rc, reply);
    else if (j->kind == READ)
        rc = end_read(j, reply);
    else if (j->kind == STAT)
        rc = end_stat(j, reply);
    else if (j->kind == PUT)
        rc = end_put(j, reply);
    else if (j->kind == LIST)
        rc = end_list(j, reply);
    if (j->kind == REMOVE)
        ((pst_remove_result *)j->result)->status[0] = rc;
    op->host->complete(op->host, op, rc);
}
