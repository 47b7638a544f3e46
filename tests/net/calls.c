#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static _Thread_local int n_entered;

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void enter(void)
{
    n_entered++;
}

static void leave(void)
{
    n_entered--;
}

int net_is_entered(void)
{
    return n_entered > 0;
}

static void log_line(const pst_host *host, uint32_t level, const char *id, const char *text)
{
    (void)host;
    fprintf(stderr, "%u %s: %s\n", level, id, text);
}

static int32_t log_enabled(const pst_host *host, uint32_t level)
{
    (void)host;
    (void)level;
    return getenv("PST_TEST_LOG") != NULL;
}

void net_host_open(struct net_host *h, uint32_t n_cores)
{
    net_host_open_with(h, n_cores, 0);
}

void net_host_open_with(struct net_host *h, uint32_t n_cores, uint32_t flags)
{
    pst_error err = PST_ERROR_INIT;
    const struct pst_net_host nh = {
        .host = &h->host, .n_cores = n_cores, .flags = flags, .enter = enter, .leave = leave};
    memset(h, 0, sizeof(*h));
    h->host.struct_size = sizeof(h->host);
    h->host.log = log_line;
    h->host.log_enabled = log_enabled;
    assert_int_equal(pst_net_open_1(PENSTOCK_BUILD_ID, &h->net, &err), PST_OK);
    assert_int_equal(h->net->instance_new(&nh, &h->instance, &err), PST_OK);
    h->http = h->net->service(h->instance, "http/1");
    assert_non_null(h->http);
}

void net_host_close(struct net_host *h)
{
    assert_true(h->net->instance_shutdown(h->instance, now_ns() + 5000000000u));
    h->net->instance_free(h->instance);
}

int net_is_by_libcurl(void)
{
    return getenv("PST_TEST_LIBCURL") != NULL;
}

pst_http_client *net_client(struct net_host *h, const pst_http_config *config)
{
    const pst_http_config plain = {.struct_size = sizeof(plain), .flags = PST_HTTP_NO_PROXY};
    pst_http_config own = config ? *config : plain;
    pst_http_client *client = NULL;
    pst_error err = PST_ERROR_INIT;
    if (net_is_by_libcurl())
        own.flags |= PST_HTTP_LIBCURL;
    if (h->http->client_new(&h->host, &own, &client, &err) != PST_OK)
        fail_msg("client_new: %s", err.message);
    return client;
}

static int32_t on_accept(void *ctx, const pst_http_head *head, pst_http_grant *grant)
{
    struct call *call = ctx;
    const unsigned n = atomic_load(&call->n_accepts);
    const unsigned at = n < call->n_answers ? n : call->n_answers - 1;
    call->was_entered &= net_is_entered();
    call->head_status = head->status;
    call->head_length = head->content_length;
    call->last_taken = head->n_taken;
    if (call->answers[at] == PST_HTTP_TAKE) {
        grant->dst = &call->grants[at];
        grant->n_dst = 1;
    }
    if (call->on_accept)
        call->on_accept(call, head);
    pthread_mutex_lock(&mutex);
    atomic_fetch_add(&call->n_accepts, 1);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    return call->answers[at];
}

static void on_done(void *ctx, pst_rc rc, const pst_http_reply *reply)
{
    struct call *call = ctx;
    size_t used = 0;
    call->done_ns = now_ns();
    call->was_entered &= net_is_entered();
    call->rc = rc;
    call->reply = *reply;
    snprintf(call->message, sizeof(call->message), "%s", reply->message);
    snprintf(call->peer, sizeof(call->peer), "%s", reply->peer);
    call->headers[0] = '\0';
    for (size_t i = 0; i < reply->n_headers && used < sizeof(call->headers); i++)
        used += (size_t)snprintf(call->headers + used, sizeof(call->headers) - used, "%.*s=%.*s\n",
                                 (int)reply->headers[i].key.len, reply->headers[i].key.ptr,
                                 (int)reply->headers[i].value.len, reply->headers[i].value.ptr);
    call->body_len = reply->body.len;
    call->body = malloc(reply->body.len + 1);
    if (reply->body.len > 0)
        memcpy(call->body, reply->body.ptr, reply->body.len);
    call->body[reply->body.len] = '\0';
    if (call->on_done)
        call->on_done(call);
    pthread_mutex_lock(&mutex);
    atomic_fetch_add(&call->n_done, 1);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

void call_init(struct call *call, pst_http_client *client, const struct net_host *h,
               const char *method, const char *url)
{
    memset(call, 0, sizeof(*call));
    call->http = h->http;
    call->client = client;
    call->was_entered = 1;
    call->request.struct_size = sizeof(call->request);
    call->request.method = pst_str_of(method, strlen(method));
    call->request.url = pst_str_of(url, strlen(url));
    call->request.body_max = 64u << 20;
    call->request.done = on_done;
    call->request.ctx = call;
}

void call_accepts(struct call *call, const int32_t *answers, unsigned n, const pst_iov *grants)
{
    call->answers = answers;
    call->n_answers = n;
    call->grants = grants;
    call->request.accept = on_accept;
}

void call_send(struct call *call)
{
    assert_int_equal(call->http->send(call->client, &call->request, &call->id), PST_PENDING);
}

static void wait_for(atomic_uint *counter, unsigned n)
{
    pthread_mutex_lock(&mutex);
    while (atomic_load(counter) < n)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
}

void call_wait(struct call *call)
{
    wait_for(&call->n_done, 1);
}

void call_wait_accepts(struct call *call, unsigned n)
{
    wait_for(&call->n_accepts, n);
}

void call_run(struct call *call)
{
    call_send(call);
    call_wait(call);
}

void call_fini(struct call *call)
{
    assert_int_equal(call->n_done, 1);
    assert_true(call->was_entered);
    free(call->body);
}

const char *url_of(uint16_t port, const char *path)
{
    static char urls[16][512];
    static unsigned next;
    char *url = urls[next++ % 16];
    snprintf(url, sizeof(urls[0]), "http://127.0.0.1:%u%s", port, path);
    return url;
}
