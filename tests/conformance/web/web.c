/* web.c - web://, objects on a plain HTTP server: the conformance kit's second network plugin.
 *
 * It has nothing of S3: errors are lines of text, listings one key a line, the key stands in the path.
 * tests/servers/faults/web.json declares such a server; that both together run the groups HTTP and FAULT
 * shows that these are about networks, not about one provider.
 *
 * Happy path: a submit function fills a job in the operation's scratch and sends one request. A reply to a
 * read is looked at in accept: range and length must be what was asked for, then the memory is had from
 * the operation or from dst(). done turns status and body into a result.
 *
 * Fails: the first word of an error's body is the provider's code and goes before the status. A lost reply
 * to a write is MAYBE_APPLIED. Does not: follow redirects, repeat, sign, upload in parts. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "web.h"

/* ---- requests ---------------------------------------------------------------------------------- */

static char *put_path(const struct job *j, char *at, pst_str text)
{
    static const char digits[] = "0123456789ABCDEF";
    char *end = j->text + REQUEST_BYTES - 512;
    for (size_t i = 0; i < text.len && at < end; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '-' || c == '_' || c == '.' || c == '/') {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = digits[c >> 4];
            *at++ = digits[c & 15];
        }
    }
    *at = '\0';
    return at;
}

static pst_rc send(struct job *j, const char *method, pst_str key, const char *query,
                   pst_kv *headers, size_t n_headers, const pst_iov *body, size_t n_body,
                   uint32_t flags)
{
    char *at = j->text + snprintf(j->text, 600, "%s%s", j->b->base, key.len > 0 ? "/" : "");
    at = put_path(j, at, key);
    at += snprintf(at, 400, "%s", query);
    pst_http_request request = {.struct_size = sizeof(request),
                                .flags = flags,
                                .op = j->op,
                                .method = pst_str_of(method, strlen(method)),
                                .url = pst_str_of(j->text, (size_t)(at - j->text)),
                                .headers = headers,
                                .n_headers = n_headers,
                                .body = body,
                                .n_body = n_body,
                                .body_max = 1u << 20,
                                .accept = j->kind == READ ? web_accept : NULL,
                                .done = web_done,
                                .ctx = j};
    pst_op *op = j->op;
    pst_rc rc = j->b->http->send(j->b->client, &request, &j->id);
    /* From here on the operation may be over. */
    return rc == PST_PENDING ? rc : web_fail(op, rc, 0, "the request cannot be sent");
}

static struct job *new_job(pst_backend *b, pst_op *op, enum kind kind, const void *args,
                           void *result)
{
    struct job *j = op->scratch;
    j->b = b;
    j->op = op;
    j->kind = kind;
    j->args = args;
    j->result = result;
    j->text = op->host->op_alloc(op->host, op, REQUEST_BYTES);
    if (!j->text)
        (void)web_fail(op, PST_E_NO_MEMORY, 0, "out of memory");
    return j->text ? j : NULL;
}

static int fits(pst_op *op, pst_str key)
{
    if (key.len > 0 && key.len <= 1000 && key.ptr[0] != '/')
        return 1;
    (void)web_fail(op, PST_E_INVALID, 0,
                   "a key has 1 to 1,000 bytes and does not begin with a slash");
    return 0;
}

/* ---- slots ------------------------------------------------------------------------------------- */

static pst_rc w_read(pst_backend *b, pst_op *op, const pst_read_args *args, pst_read_result *r)
{
    struct job *j = fits(op, args->key) ? new_job(b, op, READ, args, r) : NULL;
    char range[64];
    if (!j)
        return op->err->code;
    if (args->length == 0) {
        r->n_read = 0;
        r->object_size = PST_UNKNOWN;
        return PST_OK;
    }
    uint64_t last = args->offset + (args->length - 1);
    last = last < args->offset || last > INT64_MAX ? INT64_MAX : last;
    (void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64,
                   args->offset > INT64_MAX ? (uint64_t)INT64_MAX - 1 : args->offset, last);
    pst_kv headers[] = {{PST_STR("range"), pst_str_of(range, strlen(range))},
                        {PST_STR("if-match"), args->if_match}};
    return send(j, "GET", args->key, "", headers, args->if_match.len > 0 ? 2 : 1, NULL, 0, 0);
}

static pst_rc w_stat(pst_backend *b, pst_op *op, const pst_stat_args *args, pst_attr *r)
{
    struct job *j = fits(op, args->key) ? new_job(b, op, STAT, args, r) : NULL;
    return j ? send(j, "HEAD", args->key, "", NULL, 0, NULL, 0, 0) : op->err->code;
}

/* A condition would not hold for a second one: over a connection that is not sent over twice. */
static pst_rc w_put(pst_backend *b, pst_op *op, const pst_put_args *args, pst_put_result *r)
{
    struct job *j = fits(op, args->key) ? new_job(b, op, PUT, args, r) : NULL;
    pst_kv headers[2];
    size_t n = 0;
    if (!j)
        return op->err->code;
    if (args->flags & PST_PUT_CREATE_ONLY)
        headers[n++] = (pst_kv){PST_STR("if-none-match"), PST_STR("*")};
    if (args->if_match.len > 0)
        headers[n++] = (pst_kv){PST_STR("if-match"), args->if_match};
    return send(j, "PUT", args->key, "", headers, n, args->src, args->n_src,
                n > 0 ? PST_HTTP_NO_REUSE : 0);
}

static pst_rc w_remove(pst_backend *b, pst_op *op, const pst_remove_args *args,
                       pst_remove_result *r)
{
    struct job *j = new_job(b, op, REMOVE, args, r);
    pst_kv header = {PST_STR("if-match"), {NULL, 0}};
    if (!j)
        return op->err->code;
    if (args->n_keys != 1 || !fits(op, args->keys[0]))
        return web_fail(op, PST_E_INVALID, 0, "one key at a time, of 1 to 1,000 bytes");
    if (PST_HAS(pst_remove_args, args, if_match))
        header.value = args->if_match;
    return send(j, "DELETE", args->keys[0], "", &header, header.value.len > 0, NULL, 0,
                header.value.len > 0 ? PST_HTTP_NO_REUSE : 0);
}

static pst_rc w_list(pst_backend *b, pst_op *op, const pst_list_args *args, pst_list_result *r)
{
    struct job *j = new_job(b, op, LIST, args, r);
    char query[64];
    if (!j)
        return op->err->code;
    if (!(args->flags & PST_LIST_RECURSIVE) || args->start_after.len > 0)
        return web_fail(op, PST_E_UNIMPLEMENTED, 0, "listings are flat and begin at the beginning");
    (void)snprintf(query, sizeof(query), "?max=%u", args->max_entries ? args->max_entries : 1000u);
    pst_kv headers[] = {{PST_STR("x-prefix"), args->prefix},
                        {PST_STR("x-after"), args->page_token}};
    return send(j, "GET", pst_str_of("", 0), query, headers, 2, NULL, 0, 0);
}

static void w_dst_ready(pst_backend *b, pst_op *op)
{
    const struct job *j = op->scratch;
    b->http->resume(b->client, j->id);
}

static void w_cancel(pst_backend *b, pst_op *op)
{
    const struct job *j = op->scratch;
    b->http->cancel(b->client, j->id);
}

#define CAPS                                                                                       \
    (PST_CAP_READ | PST_CAP_STAT | PST_CAP_PUT | PST_CAP_REMOVE | PST_CAP_LIST |                   \
     PST_CAP_READ_IF_MATCH | PST_CAP_WRITE_IF_MATCH | PST_CAP_CREATE_ONLY |                        \
     PST_CAP_CANCEL_BOUNDED)

static void w_info(pst_backend *b, pst_backend_info *info)
{
    info->caps = CAPS;
    info->endpoint = b->base;
    info->note = "";
    info->limits->key_max = 1000;
    info->limits->remove_batch_max = 1;
}

static void w_close(pst_backend *b)
{
    b->http->client_free(b->client);
    b->host->dealloc(b->host, b);
}

static pst_rc store_open(const pst_host *host, const pst_open_args *args, pst_backend **out,
                         pst_error *err)
{
    pst_http_config config = {.struct_size = sizeof(config), .user_agent = PST_STR("web/1.0")};
    const pst_http_1 *http = host->service(host, "http/1");
    pst_backend *b = http ? host->alloc(host, sizeof(*b), 16) : NULL;
    if (!b) {
        err->code = http ? PST_E_NO_MEMORY : PST_E_UNIMPLEMENTED;
        (void)snprintf(err->message, sizeof(err->message), "%s",
                       http ? "out of memory" : "the host offers no http/1");
        return err->code;
    }
    memset(b, 0, sizeof(*b));
    b->host = host;
    b->http = http;
    for (size_t i = 0; i < args->n_options; i++) {
        pst_str key = args->options[i].key, value = args->options[i].value;
        if (key.len == strlen("server"))
            (void)snprintf(b->base, sizeof(b->base), "%.*s/%.*s", (int)value.len, value.ptr,
                           (int)args->authority.len, args->authority.ptr);
        else /* stall, in milliseconds */
            config.stall_timeout_ms = (uint32_t)web_number(value);
    }
    pst_rc rc = http->client_new(host, &config, &b->client, err);
    if (rc != PST_OK) {
        host->dealloc(host, b);
        return rc;
    }
    *out = b;
    return PST_OK;
}

static const pst_option options[] = {
    {.type = PST_OPT_STRING, .name = "server", .doc = "URL of the server"},
    {.type = PST_OPT_DURATION,
     .name = "stall",
     .fallback = "30s",
     .doc = "give a reply up that does not move for so long"},
};
static const char *const schemes[] = {"web", NULL};
static const pst_limits limits = {
    .struct_size = sizeof(limits), .key_max = 1000, .remove_batch_max = 1};
static const pst_backend_ops ops = {
    .struct_size = sizeof(ops),
    .read = w_read,
    .stat = w_stat,
    .put = w_put,
    .remove = w_remove,
    .list = w_list,
    .dst_ready = w_dst_ready,
    .cancel = w_cancel,
    .info = w_info,
    .close = w_close,
};
static const pst_plugin plugin_table = {
    .struct_size = sizeof(plugin_table),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = CAPS,
    .threads = PST_THREADS_PARALLEL,
    .op_scratch = sizeof(struct job),
    .id = "web",
    .version = "1.0.0",
    .vendor = "Penstock",
    .license = "Apache-2.0",
    .schemes = schemes,
    .limits = &limits,
    .options = options,
    .option_stride = sizeof(options[0]),
    .n_options = sizeof(options) / sizeof(options[0]),
    .ops = &ops,
    .store_open = store_open,
};

PST_PLUGIN_ENTRY(host, plugin, err)
{
    (void)host;
    (void)err;
    *plugin = &plugin_table;
    return PST_OK;
}
