/* calls.h - a host with nothing but http/1, and requests that a test can wait for. */
#ifndef PST_TESTS_NET_CALLS_H
#define PST_TESTS_NET_CALLS_H

#include <pthread.h>
#include <stdatomic.h>

#include <penstock/sum.h>

#include "util/net_abi.h"

struct net_host {
    pst_host host;
    const struct pst_net *net;
    struct pst_net_instance *instance;
    const pst_http_1 *http;
};

void net_host_open(struct net_host *h, uint32_t n_cores);
void net_host_open_with(struct net_host *h, uint32_t n_cores, uint32_t flags); /* PST_NET_* */
/* Ends the threads; nothing may be under way for longer than a second. */
void net_host_close(struct net_host *h);
pst_http_client *net_client(struct net_host *h, const pst_http_config *config);
/* This run is about the other way: every client is told PST_HTTP_LIBCURL. */
int net_is_by_libcurl(void);

/* enter() and leave() of the host above: whether this thread is between them. */
int net_is_entered(void);

/* One request and what became of it. Fill `request`, set hooks, call_send, call_wait. */
struct call {
    pst_http_request request;
    const pst_http_1 *http;
    pst_http_client *client;
    uint64_t id;
    /* What accept does: answers[i] the i-th time (the last one for ever), with grants[i]. */
    const int32_t *answers;
    const pst_iov *grants; /* one span for each TAKE */
    unsigned n_answers;
    void (*on_accept)(struct call *call, const pst_http_head *head);
    void (*on_done)(struct call *call);

    atomic_uint n_accepts, n_done;
    uint32_t head_status;
    uint64_t head_length, last_taken;
    pst_rc rc;
    pst_http_reply reply; /* strings copied below */
    char message[600], peer[64], headers[4096];
    char *body;
    size_t body_len;
    uint64_t done_ns;
    int was_entered; /* every callback ran between enter and leave */
};

void call_init(struct call *call, pst_http_client *client, const struct net_host *h,
               const char *method, const char *url);
/* Let accept answer as call->answers says. */
void call_accepts(struct call *call, const int32_t *answers, unsigned n, const pst_iov *grants);
void call_send(struct call *call);
void call_wait(struct call *call);
/* Wait until accept was asked n times. */
void call_wait_accepts(struct call *call, unsigned n);
/* call_send and call_wait */
void call_run(struct call *call);
void call_fini(struct call *call);

/* "http://127.0.0.1:<port><path>" in one of a few rotating buffers. */
const char *url_of(uint16_t port, const char *path);
uint64_t now_ns(void);

#endif
