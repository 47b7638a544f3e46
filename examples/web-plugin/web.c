/* web.c - a plugin that reads files of any web server: web://host:port/path. docs/http.md walks through it.
 *
 * It shows http/1 as a backend uses it: requests whose replies go straight into the host's memory, a
 * pause while there is none, and failures told apart. A read asks for a range; a server that knows no
 * ranges answers 200 with the whole file, which is taken if it was small enough to be wanted whole.
 *
 * There is nothing here that blocks and no thread: every function below runs on a thread of the caller
 * or of http/1, and returns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <penstock/services.h>

struct pst_backend {
    const pst_host *host;
    const pst_http_1 *http;
    pst_http_client *client;
    char origin[512]; /* "http://host:port" */
};

/* What an operation is about, in its scratch: the host zeroes it before each submit. */
struct job {
    pst_backend *web;
    pst_op *op;
    const pst_read_args *args; /* NULL: a stat */
    pst_read_result *result;
    pst_attr *attr;
    uint64_t http_id;
    uint64_t object_size;
};

static pst_rc fail(pst_op *op, pst_rc rc, const char *text)
{
    op->err->code = rc;
    snprintf(op->err->message, sizeof(op->err->message), "%s", text);
    return rc;
}

/* ---- the request ------------------------------------------------------------------------------ */

/* Everything that a path may not hold as it is becomes %XX. */
static int write_url(const pst_backend *web, pst_str key, char *out, size_t cap)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
    size_t used = (size_t)snprintf(out, cap, "%s/", web->origin);
    for (size_t i = 0; i < key.len; i++) {
        const char c = key.ptr[i];
        if (used + 4 > cap)
            return 0;
        if (c && strchr(plain, c))
            out[used++] = c;
        else
            used += (size_t)snprintf(out + used, cap - used, "%%%02X", (unsigned char)c);
    }
    out[used] = '\0';
    return 1;
}

static pst_str text_of(const char *s)
{
    return pst_str_of(s, strlen(s));
}

static int32_t on_head(void *ctx, const pst_http_head *head, pst_http_grant *grant);
static void on_done(void *ctx, pst_rc rc, const pst_http_reply *reply);

static pst_rc send_request(struct job *job, const char *method, pst_str key, const pst_kv *headers,
                           size_t n_headers)
{
    char url[4096]; /* send copies what it needs */
    if (!write_url(job->web, key, url, sizeof(url)))
        return fail(job->op, PST_E_INVALID, "the key is too long");
    const pst_http_request request = {
        .struct_size = sizeof(request),
        .flags = 0,
        .op = job->op,
        .method = text_of(method),
        .url = text_of(url),
        .headers = headers,
        .n_headers = n_headers,
        .deadline_ns = job->op->deadline_ns,
        .accept = on_head,
        .done = on_done,
        .ctx = job,
    };
    /* PENDING, or an error and no call. By the time it returns the operation may have completed: the
     * last thing done with the job. */
    const pst_rc rc = job->web->http->send(job->web->client, &request, &job->http_id);
    return rc == PST_PENDING ? rc : fail(job->op, rc, "http/1 does not take the request");
}

static struct job *begin(pst_backend *web, pst_op *op)
{
    struct job *job = op->scratch;
    job->web = web;
    job->op = op;
    job->object_size = PST_UNKNOWN;
    return job;
}

static pst_rc web_read(pst_backend *web, pst_op *op, const pst_read_args *args,
                       pst_read_result *result)
{
    struct job *job = begin(web, op);
    char range[64];
    pst_kv headers[2] = {{PST_STR("range"), {NULL, 0}}, {PST_STR("if-match"), args->if_match}};
    job->args = args;
    job->result = result;
    snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long)args->offset,
             (unsigned long long)(args->offset + args->length - 1));
    headers[0].value = text_of(range);
    return send_request(job, "GET", args->key, headers, args->if_match.len > 0 ? 2 : 1);
}

static pst_rc web_stat(pst_backend *web, pst_op *op, const pst_stat_args *args, pst_attr *attr)
{
    struct job *job = begin(web, op);
    job->attr = attr;
    return send_request(job, "HEAD", args->key, NULL, 0);
}

/* ---- the reply -------------------------------------------------------------------------------- */

static pst_str find(const pst_kv *headers, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (headers[i].key.len == strlen(name) &&
            memcmp(headers[i].key.ptr, name, strlen(name)) == 0)
            return headers[i].value;
    }
    return pst_str_of(NULL, 0);
}

/* "bytes 0-9/100": the bytes that were asked for, of how many? */
static int is_range_we_asked(struct job *job, const pst_http_head *head)
{
    char text[96];
    unsigned long long first, last, total;
    const pst_str range = find(head->headers, head->n_headers, "content-range");
    snprintf(text, sizeof(text), "%.*s", (int)range.len, range.ptr ? range.ptr : "");
    if (sscanf(text, "bytes %llu-%llu/%llu", &first, &last, &total) != 3)
        return 0;
    job->object_size = total;
    return first == job->args->offset && last < job->args->offset + job->args->length &&
           head->content_length == last - first + 1;
}

/* Where the body goes. The host's memory is asked for as late as here, where the size is known. */
static int32_t on_head(void *ctx, const pst_http_head *head, pst_http_grant *grant)
{
    struct job *job = ctx;
    const pst_host *host = job->web->host;
    if (!job->args || head->status >= 300)
        return PST_HTTP_REJECT;
    if (head->status == 206) {
        if (!is_range_we_asked(job, head))
            return PST_E_DATA_LOSS;
    } else { /* the whole file: good if it is what was wanted */
        if (head->content_length == PST_UNKNOWN || job->args->offset > 0 ||
            head->content_length > job->args->length)
            return PST_E_UNIMPLEMENTED;
        job->object_size = head->content_length;
    }
    if (job->args->n_dst > 0) {
        grant->dst = job->args->dst;
        grant->n_dst = job->args->n_dst;
        return PST_HTTP_TAKE;
    }
    pst_str etag = find(head->headers, head->n_headers, "etag");
    const pst_dst_args wanted = {
        .struct_size = sizeof(wanted),
        .length = head->content_length,
        .capacity = head->content_length,
        .object_size = job->object_size,
        .etag_strength = etag.len == 0        ? PST_ETAG_NONE
                         : etag.ptr[0] == '"' ? PST_ETAG_STRONG
                                              : PST_ETAG_WEAK,
        .etag = etag,
    };
    pst_dst_grant memory = {.struct_size = sizeof(memory)};
    const pst_rc rc = host->dst(host, job->op, &wanted, &memory);
    if (rc == PST_LATER)
        return PST_HTTP_PAUSE; /* web_dst_ready resumes, and we are asked again */
    if (rc != PST_OK)
        return rc;
    grant->dst = memory.dst;
    grant->n_dst = memory.n_dst;
    return PST_HTTP_TAKE;
}

static void web_dst_ready(pst_backend *web, pst_op *op)
{
    const struct job *job = op->scratch;
    web->http->resume(web->client, job->http_id);
}

static void web_cancel(pst_backend *web, pst_op *op)
{
    const struct job *job = op->scratch;
    web->http->cancel(web->client, job->http_id);
}

/* A string of the result lives in memory of the operation. */
static pst_str keep(struct job *job, pst_str s)
{
    char *copy = s.len > 0 ? job->web->host->op_alloc(job->web->host, job->op, s.len) : NULL;
    if (!copy)
        return pst_str_of(NULL, 0);
    memcpy(copy, s.ptr, s.len);
    return pst_str_of(copy, s.len);
}

static void fill_result(struct job *job, const pst_http_reply *reply)
{
    const pst_str etag = find(reply->headers, reply->n_headers, "etag");
    const uint32_t strength = etag.len == 0        ? PST_ETAG_NONE
                              : etag.ptr[0] == '"' ? PST_ETAG_STRONG
                                                   : PST_ETAG_WEAK;
    if (job->args) {
        job->result->n_read = reply->n_taken;
        job->result->object_size = job->object_size;
        job->result->etag_strength = strength;
        job->result->etag = keep(job, etag);
        return;
    }
    const pst_str length = find(reply->headers, reply->n_headers, "content-length");
    char text[32];
    snprintf(text, sizeof(text), "%.*s", (int)length.len, length.ptr ? length.ptr : "");
    job->attr->size = length.len > 0 ? strtoull(text, NULL, 10) : PST_UNKNOWN;
    job->attr->mtime_ns = PST_TIME_UNKNOWN;
    job->attr->etag_strength = strength;
    job->attr->etag = keep(job, etag);
    job->attr->content_type = keep(job, find(reply->headers, reply->n_headers, "content-type"));
}

static pst_rc explain_status(struct job *job, const pst_http_reply *reply)
{
    pst_rc rc = PST_E_INTERNAL;
    char text[64];
    if (reply->status == 404 || reply->status == 410)
        rc = PST_E_NOT_FOUND;
    else if (reply->status == 401 || reply->status == 403)
        rc = PST_E_DENIED;
    else if (reply->status == 412)
        rc = PST_E_CHANGED;
    else if (reply->status == 429 || reply->status >= 500)
        rc = PST_E_UNAVAILABLE;
    if (rc == PST_E_UNAVAILABLE)
        job->op->err->flags |= PST_ERR_RETRYABLE;
    job->op->err->http_status = (int32_t)reply->status;
    snprintf(text, sizeof(text), "the server answered %u", reply->status);
    return fail(job->op, rc, text);
}

static void on_done(void *ctx, pst_rc rc, const pst_http_reply *reply)
{
    struct job *job = ctx;
    const pst_host *host = job->web->host;
    pst_op *op = job->op;
    snprintf(op->err->endpoint, sizeof(op->err->endpoint), "%s", reply->peer);
    if (rc != PST_OK) {
        /* A transport that failed may do better next time; reading twice does no harm. */
        if (rc == PST_E_UNAVAILABLE)
            op->err->flags |= PST_ERR_RETRYABLE;
        fail(op, rc, *reply->message ? reply->message : "not the range that was asked for");
    } else if (reply->status == 416 && job->args) {
        job->result->n_read = 0; /* at or behind the end, which is no error */
        job->result->object_size = PST_UNKNOWN;
    } else if (reply->status >= 300) {
        rc = explain_status(job, reply);
    } else {
        fill_result(job, reply);
    }
    host->complete(host, op, rc); /* the last thing: op and job are gone now */
}

/* ---- the store and the tables ----------------------------------------------------------------- */

static pst_rc web_open(const pst_host *host, const pst_open_args *args, pst_backend **out,
                       pst_error *err)
{
    const pst_http_1 *http = host->service(host, "http/1");
    const pst_http_config config = {.struct_size = sizeof(config),
                                    .user_agent = PST_STR("web/1.0")};
    if (!http) {
        err->code = PST_E_UNIMPLEMENTED;
        snprintf(err->message, sizeof(err->message), "the host has no http/1");
        return PST_E_UNIMPLEMENTED;
    }
    pst_backend *web = calloc(1, sizeof(*web));
    if (!web)
        return PST_E_NO_MEMORY;
    web->host = host;
    web->http = http;
    snprintf(web->origin, sizeof(web->origin), "http://%.*s", (int)args->authority.len,
             args->authority.ptr);
    const pst_rc rc = http->client_new(host, &config, &web->client, err);
    if (rc != PST_OK) {
        free(web);
        return rc;
    }
    *out = web;
    return PST_OK;
}

static void web_info(pst_backend *web, pst_backend_info *info)
{
    info->caps = PST_CAP_READ | PST_CAP_STAT | PST_CAP_READ_IF_MATCH | PST_CAP_CANCEL_BOUNDED;
    info->endpoint = web->origin + strlen("http://");
}

static void web_close(pst_backend *web)
{
    web->http->client_free(web->client);
    free(web);
}

static const char *const schemes[] = {"web", NULL};
static const pst_limits limits = {.struct_size = sizeof(limits)};
static const pst_backend_ops ops = {
    .struct_size = sizeof(ops),
    .read = web_read,
    .stat = web_stat,
    .dst_ready = web_dst_ready,
    .cancel = web_cancel,
    .info = web_info,
    .close = web_close,
};
static const pst_plugin plugin_table = {
    .struct_size = sizeof(plugin_table),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = PST_CAP_READ | PST_CAP_STAT | PST_CAP_READ_IF_MATCH | PST_CAP_CANCEL_BOUNDED,
    .threads = PST_THREADS_PARALLEL,
    .op_scratch = sizeof(struct job),
    .id = "web",
    .version = "1.0.0",
    .vendor = "Example",
    .license = "Apache-2.0",
    .schemes = schemes,
    .limits = &limits,
    .ops = &ops,
    .store_open = web_open,
};

PST_PLUGIN_ENTRY(host, plugin, err)
{
    (void)host;
    (void)err;
    *plugin = &plugin_table;
    return PST_OK;
}
