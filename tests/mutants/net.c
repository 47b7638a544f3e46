/* net.c - what is wrong with the mutants of a network plugin: between it and the service http/1, and in
 * what it makes of failures.
 *
 * The plugin's own callbacks are kept in an exchange, one for each request; heads, grants and outcomes
 * pass through here both ways. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mutant.h"

#define HEADERS_MAX 200

struct exchange {
    pst_http_request own; /* the plugin's: callbacks good, strings those below */
    pst_http_client *client;
    char *copy; /* of method, URL and headers, to send them again */
    pst_kv *headers;
    uint64_t first, last; /* of the range asked for; last 0: none */
    char range[80];       /* what a content-range is replaced by */
    const pst_iov *dst;
    bool has_no_length, is_echo;
    unsigned n_redirects;
};

static const pst_http_1 *real_http;
static pst_http_1 http_table;
static atomic_uint n_sent, n_failed;
static char first_etag[200];

/* ---- a request that can be sent again ------------------------------------------------------------ */

static pst_str store(char **at, pst_str s)
{
    char *start = *at;
    if (s.len > 0)
        memcpy(start, s.ptr, s.len);
    *at += s.len;
    return pst_str_of(start, s.len);
}

static struct exchange *exchange_of(pst_http_client *client, const pst_http_request *request)
{
    struct exchange *x = calloc(1, sizeof(*x));
    size_t n = request->method.len + request->url.len + 1;
    char text[100];
    if (!x)
        abort();
    for (size_t i = 0; i < request->n_headers; i++)
        n += request->headers[i].key.len + request->headers[i].value.len;
    x->copy = malloc(n);
    x->headers = calloc(request->n_headers + 1, sizeof(pst_kv));
    if (!x->copy || !x->headers)
        abort();
    char *at = x->copy;
    x->own = *request;
    x->client = client;
    x->own.method = store(&at, request->method);
    x->own.url = store(&at, request->url);
    for (size_t i = 0; i < request->n_headers; i++) {
        x->headers[i].key = store(&at, request->headers[i].key);
        x->headers[i].value = store(&at, request->headers[i].value);
        if (x->headers[i].key.len != 5 || strncasecmp(x->headers[i].key.ptr, "range", 5) != 0)
            continue;
        (void)snprintf(text, sizeof(text), "%.*s", (int)x->headers[i].value.len,
                       x->headers[i].value.ptr);
        (void)sscanf(text, "bytes=%" SCNu64 "-%" SCNu64, &x->first, &x->last);
    }
    x->own.headers = x->headers;
    return x;
}

static void free_exchange(struct exchange *x)
{
    free(x->copy);
    free(x->headers);
    free(x);
}

/* ---- the head of a reply --------------------------------------------------------------------------- */

static bool has_header(const pst_http_head *head, const char *name)
{
    for (size_t i = 0; i < head->n_headers; i++)
        if (head->headers[i].key.len == strlen(name) &&
            memcmp(head->headers[i].key.ptr, name, head->headers[i].key.len) == 0)
            return true;
    return false;
}

static void replace_header(pst_kv *all, size_t *n, const char *name, pst_str value)
{
    for (size_t i = 0; i < *n; i++) {
        if (all[i].key.len == strlen(name) && memcmp(all[i].key.ptr, name, strlen(name)) == 0) {
            all[i].value = value;
            return;
        }
    }
    all[*n].key = pst_str_of(name, strlen(name));
    all[(*n)++].value = value;
}

/* As if the reply were exactly the range that was asked for. */
static void flatter(struct exchange *x, pst_http_head *h, pst_kv *all, bool with_length)
{
    uint64_t length = x->last - x->first + 1;
    if (!with_length && h->content_length != PST_UNKNOWN)
        length = h->content_length;
    (void)snprintf(x->range, sizeof(x->range), "bytes %" PRIu64 "-%" PRIu64 "/70001", x->first,
                   x->first + length - 1);
    replace_header(all, &h->n_headers, "content-range", pst_str_of(x->range, strlen(x->range)));
    h->status = 206;
    h->content_length = length;
}

static void remember_etag(pst_kv *all, pst_http_head *h)
{
    for (size_t i = 0; i < h->n_headers; i++)
        if (all[i].key.len == 4 && memcmp(all[i].key.ptr, "etag", 4) == 0 && !first_etag[0])
            (void)snprintf(first_etag, sizeof(first_etag), "%.*s", (int)all[i].value.len,
                           all[i].value.ptr);
    replace_header(all, &h->n_headers, "etag", pst_str_of(first_etag, strlen(first_etag)));
}

static int32_t n_accept(void *ctx, const pst_http_head *head, pst_http_grant *grant)
{
    struct exchange *x = ctx;
    pst_http_head h = *head;
    pst_kv all[HEADERS_MAX + 1];
    bool is_whole = head->status == 200 && x->last > 0;
    h.n_headers = h.n_headers < HEADERS_MAX - 2 ? h.n_headers : HEADERS_MAX - 2;
    memcpy(all, head->headers, h.n_headers * sizeof(pst_kv));
    h.headers = all;
    if (mutant == M_refuses_chunks && has_header(head, "transfer-encoding"))
        return PST_E_UNIMPLEMENTED;
    if (mutant == M_closing_is_failing && has_header(head, "connection"))
        return PST_E_UNAVAILABLE;
    if (mutant == M_counts_headers && head->n_headers > 40)
        abort();
    if ((mutant == M_takes_more || mutant == M_takes_200_for_206) && head->n_taken > 0)
        return PST_HTTP_REJECT;
    if (mutant == M_trusts_any_range && head->status == 206)
        flatter(x, &h, all, false);
    if ((mutant == M_takes_200_for_206 && is_whole) ||
        (mutant == M_takes_more && head->status == 206) ||
        (mutant == M_takes_errors && head->status == 500))
        flatter(x, &h, all, true);
    if (mutant == M_etag_is_the_first)
        remember_etag(all, &h);
    x->has_no_length = !has_header(head, "content-length") &&
                       !has_header(head, "transfer-encoding");
    int32_t answer = x->own.accept(x->own.ctx, &h, grant);
    x->dst = answer == PST_HTTP_TAKE ? grant->dst : NULL;
    return answer;
}

/* ---- the end of a request -------------------------------------------------------------------------- */

static void n_done(void *ctx, pst_rc rc, const pst_http_reply *reply);

static void send_on(struct exchange *x, pst_str url)
{
    pst_http_request r = x->own;
    uint64_t id;
    r.url = url;
    r.accept = x->own.accept ? n_accept : NULL;
    r.done = n_done;
    r.ctx = x;
    if (real_http->send(x->client, &r, &id) != PST_PENDING)
        abort();
}

static pst_rc spoil_outcome(struct exchange *x, pst_rc rc, const pst_http_reply *reply)
{
    unsigned n_before = atomic_fetch_add(&n_sent, 1);
    if (mutant == M_new_connections_fail && n_before > 0 && rc == PST_OK &&
        !(reply->flags & PST_HTTP_REUSED))
        return PST_E_UNAVAILABLE;
    if (mutant == M_tls_is_invalid && reply->failed_at == PST_HTTP_AT_TLS)
        return PST_E_INVALID;
    if (mutant == M_forgets_length && x->has_no_length && x->dst)
        *(unsigned char *)x->dst[0].ptr ^= 1;
    if (mutant == M_neighbours_fail && rc != PST_OK)
        atomic_fetch_add(&n_failed, 1);
    if (mutant == M_neighbours_fail && rc == PST_OK && atomic_exchange(&n_failed, 0) > 0)
        return PST_E_UNAVAILABLE;
    return rc;
}

static void n_done(void *ctx, pst_rc rc, const pst_http_reply *reply)
{
    struct exchange *x = ctx;
    if (x->is_echo) {
        free_exchange(x);
        return;
    }
    for (size_t i = 0; mutant == M_follows_redirects && rc == PST_OK && reply->status == 307 &&
                       i < reply->n_headers;
         i++) {
        if (reply->headers[i].key.len == 8 &&
            memcmp(reply->headers[i].key.ptr, "location", 8) == 0 && x->n_redirects++ < 50) {
            send_on(x, reply->headers[i].value);
            return;
        }
    }
    rc = spoil_outcome(x, rc, reply);
    pst_http_reply changed = *reply;
    if (mutant == M_lost_delete_is_412 && rc != PST_OK && x->own.method.ptr[0] == 'D') {
        changed.status = 412;
        rc = PST_OK;
    }
    x->own.done(x->own.ctx, rc, &changed);
    free_exchange(x);
}

/* ---- the service ----------------------------------------------------------------------------------- */

static uint64_t after_ms(uint64_t ms)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + ms * 1000000u;
}

/* What comes first is taken for the reply. */
static bool meets_interim(const pst_http_request *request)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char text[2048] = "";
    const char *host = memmem(request->url.ptr, request->url.len, "127.0.0.1:", 10);
    if (!host)
        return false;
    char *path = NULL;
    in.sin_port = htons((uint16_t)strtoul(host + 10, &path, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int n = snprintf(text, sizeof(text), "GET %.*s HTTP/1.1\r\nhost: x\r\n\r\n",
                     (int)(request->url.ptr + request->url.len - path), path);
    bool is_interim = false;
    if (connect(fd, (const struct sockaddr *)(const void *)&in, sizeof(in)) == 0 &&
        write(fd, text, (size_t)n) == n && read(fd, text, sizeof(text) - 1) > 12)
        is_interim = text[9] == '1';
    (void)close(fd);
    return is_interim;
}

static void send_echo(pst_http_client *client, const pst_http_request *request)
{
    struct exchange *x = exchange_of(client, request);
    pst_http_request r = *request;
    uint64_t id;
    x->is_echo = true;
    r.accept = NULL;
    r.done = n_done;
    r.ctx = x;
    if (real_http->send(client, &r, &id) != PST_PENDING)
        free_exchange(x);
}

static pst_rc n_send(pst_http_client *client, const pst_http_request *request, uint64_t *id)
{
    static _Atomic(uint64_t) last_op;
    struct exchange *x = exchange_of(client, request);
    pst_http_request r = *request;
    r.accept = request->accept ? n_accept : NULL;
    r.done = n_done;
    r.ctx = x;
    if (mutant == M_sends_twice_unseen)
        r.flags &= ~PST_HTTP_NO_REUSE;
    if (mutant == M_maybe_is_forgotten || mutant == M_transport_is_final)
        r.flags |= PST_HTTP_NO_REUSE; /* else http/1 sends again, and there is nothing to forget */
    if (mutant == M_is_impatient)
        r.deadline_ns = after_ms(150);
    if (mutant == M_repeats_itself && request->method.len == 3 && request->method.ptr[0] == 'G')
        send_echo(client, request);
    bool is_second = request->op && atomic_exchange(&last_op, request->op->id) == request->op->id;
    if ((mutant == M_one_request_each && is_second) ||
        (mutant == M_interim_is_final && meets_interim(request))) {
        free_exchange(x);
        return PST_E_INVALID;
    }
    pst_rc rc = real_http->send(client, &r, id);
    if (rc != PST_PENDING)
        free_exchange(x);
    return rc;
}

static void n_cancel(pst_http_client *client, uint64_t id)
{
    if (mutant != M_cancel_waits_for_the_server)
        real_http->cancel(client, id);
}

static pst_rc n_client_new(const pst_host *host, const pst_http_config *config,
                           pst_http_client **out, pst_error *err)
{
    pst_http_config c = *config;
    if (mutant == M_waits_for_ever)
        c.stall_timeout_ms = 3600000;
    /* The service knows the real host only. */
    return real_http->client_new(((const struct shim *)(const void *)host)->real, &c, out, err);
}

const void *change_service(const char *name, const void *table)
{
    if (!table || strcmp(name, "http/1") != 0)
        return table;
    real_http = table;
    http_table = *real_http;
    http_table.client_new = n_client_new;
    http_table.send = n_send;
    http_table.cancel = n_cancel;
    return &http_table;
}

/* ---- what becomes of an operation ------------------------------------------------------------------- */

static pst_rc become(pst_error *err, pst_rc rc)
{
    err->code = rc;
    return rc;
}

static pst_rc spoil_failure(struct call *c, pst_rc rc)
{
    pst_error *err = c->op->err;
    const pst_host *real = c->shim->real;
    bool is_store_wide = rc == PST_E_UNAUTHENTICATED || rc == PST_E_DENIED;
    switch (mutant) {
    case M_failed_reads_are_ok:
        if (c->slot == READ)
            ((pst_read_result *)c->result)->n_read = 0;
        return c->slot == READ ? PST_OK : rc;
    case M_transport_is_final:
        err->flags &= ~PST_ERR_RETRYABLE;
        break;
    case M_maybe_is_forgotten:
        err->flags &= ~PST_ERR_MAYBE_APPLIED;
        break;
    case M_failed_puts_are_ok:
        return c->slot == PUT ? PST_OK : rc;
    case M_failure_leaks:
        (void)real->alloc(real, 16, 16);
        break;
    case M_throttled_is_unavailable:
        return rc == PST_E_THROTTLED ? become(err, PST_E_UNAVAILABLE) : rc;
    case M_retry_after_is_lost:
        err->retry_after_ms = 0;
        break;
    case M_status_goes_first:
        if (err->http_status == 400)
            err->flags = 0;
        return err->http_status == 400 ? become(err, PST_E_INVALID) : rc;
    case M_conflict_is_exists:
        return err->http_status == 409 ? become(err, PST_E_EXISTS) : rc;
    case M_denied_is_repeated:
        err->flags |= is_store_wide ? PST_ERR_RETRYABLE : 0;
        break;
    case M_archived_is_missing:
        return strcmp(err->provider_code, "InvalidObjectState") == 0 ? become(err, PST_E_NOT_FOUND)
                                                                     : rc;
    case M_container_is_not_told:
        err->flags &= ~PST_ERR_NO_CONTAINER;
        break;
    case M_failed_page_is_the_last:
        return c->slot == LIST ? PST_OK : rc;
    case M_status_200_is_ok:
        return err->http_status == 200 ? PST_OK : rc;
    default:
        break;
    }
    return rc;
}

pst_rc after_net(struct call *c, pst_rc rc)
{
    if (rc < 0)
        rc = spoil_failure(c, rc);
    if (mutant == M_batch_is_ok && c->slot == REMOVE)
        for (size_t i = 0; i < c->changed.remove.n_keys; i++)
            ((pst_remove_result *)c->result)->status[i] = PST_OK;
    const pst_read_result *r = c->result;
    if (mutant == M_sums_are_made_up && c->slot == READ && rc == PST_OK && r->n_sums > 0)
        memset((void *)(uintptr_t)r->sums[0].bytes, 7, sizeof(r->sums[0].bytes));
    return rc;
}
