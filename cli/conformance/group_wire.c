/* group_wire.c - HTTP, the second half: connections that break, stall, or never come about, and what is
 * left of a store that has seen all of it. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kit_fault.h"
#include "requirements_fwd.h"

#define SIZE 300001u
#define SEED 43u
#define CANCEL_MS 500u

static struct k_store *begin(struct k_test *t, pst_str *key)
{
    struct k_store *s = k_fault_store(t, PST_CAP_READ);
    if (s)
        *key = k_fault_object(t, "object", SIZE, SEED);
    return s;
}

/* ---- broken -------------------------------------------------------------------------------------- */

void k_HTTP_013(struct k_test *t)
{
    static const char *const cuts[] = {"{'at': 'before_head'}",
                                       "{'at': 'in_head'}",
                                       "{'at': 'body', 'bytes': 0}",
                                       "{'at': 'body', 'bytes': 1}",
                                       "{'at': 'body', 'bytes': 150000}",
                                       "{'at': 'body', 'bytes': 300000}",
                                       "{'at': 'in_head', 'how': 'close'}",
                                       "{'at': 'body', 'bytes': 150000, 'how': 'close'}"};
    pst_str key;
    struct k_store *s = begin(t, &key);
    for (size_t i = 0; s && i < sizeof(cuts) / sizeof(cuts[0]) && !k_failed(t); i++) {
        char rules[300], what[100];
        (void)snprintf(rules, sizeof(rules), "[{'on': 'get', 'times': 0, 'fault': {'cut': %s}}]",
                       cuts[i]);
        (void)snprintf(what, sizeof(what), "a reply that breaks %s", cuts[i]);
        struct k_call *c = k_read_under(s, rules, key, 0, SIZE);
        (void)k_want_failure(c, what, K_RETRY | K_NO_MAYBE | K_ENDPOINT,
                             K_CODES(PST_E_UNAVAILABLE));
        k_call_free(c);
        k_wants_recovery(s, key, SIZE, SEED);
    }
}

/* ---- stalled ------------------------------------------------------------------------------------- */

#define N_STALLS 3u
static const char stalls[] =
    "[{'on': 'get', 'key': '*/stall-0', 'times': 0, 'fault': {'stall': {'at': 'before_head'}}},"
    " {'on': 'get', 'key': '*/stall-1', 'times': 0, 'fault': {'stall': {'at': 'in_head'}}},"
    " {'on': 'get', 'key': '*/stall-2', 'times': 0,"
    "  'fault': {'stall': {'at': 'body', 'bytes': 150000}}}]";

/* Side by side, so that together they take the time of one; a SERIAL plugin gets the last alone. */
static size_t begin_stalls(struct k_test *t, struct k_call *calls[N_STALLS], struct k_store **out)
{
    struct k_store *s = k_fault_store(t, PST_CAP_READ);
    size_t n = s && s->plugin->threads == PST_THREADS_SERIAL ? 1 : N_STALLS;
    *out = s;
    if (!s)
        return 0;
    for (size_t i = 0; i < n; i++) {
        char name[20];
        (void)snprintf(name, sizeof(name), "stall-%zu", N_STALLS - 1 - i);
        calls[i] = k_new_read(s, k_fault_object(t, name, SIZE, SEED), 0, SIZE);
        calls[i]->keep = true; /* until every cancel of it has returned */
    }
    k_fault_set(t, "%s", stalls);
    k_step(t, "reading what stalls before the head, in it, and in the body");
    for (size_t i = 0; i < n; i++)
        (void)k_call_submit(calls[i]);
    return n;
}

void k_HTTP_014(struct k_test *t)
{
    struct k_call *calls[N_STALLS];
    struct k_store *s;
    size_t n = begin_stalls(t, calls, &s);
    unsigned limit_ms = t->config->timeout_s * 900u;
    for (size_t i = 0; i < n; i++) {
        bool is_over = k_call_wait(calls[i], limit_ms);
        if (!k_that(t, is_over,
                    "expected a reply that stalls to be given up, got nothing for %u s (an option "
                    "of the plugin for it belongs into the declaration)",
                    limit_ms / 1000u)) {
            calls[i]->hung = true;
            return;
        }
        (void)k_want_failure(calls[i], "a reply that stalls", K_RETRY | K_NO_MAYBE | K_ENDPOINT,
                             K_CODES(PST_E_UNAVAILABLE, PST_E_DEADLINE));
        k_call_free(calls[i]);
    }
    if (s)
        k_wants_recovery(s, k_key(t, "stall-2"), SIZE, SEED);
}

void k_HTTP_015(struct k_test *t)
{
    struct k_call *calls[N_STALLS];
    struct k_store *s;
    size_t n = begin_stalls(t, calls, &s);
    if (!s)
        return;
    unsigned limit_ms = (s->caps & PST_CAP_CANCEL_BOUNDED) ? CANCEL_MS
                                                           : t->config->timeout_s * 500u;
    for (unsigned i = 0; i < 5000 && k_fault_count(t, "get") < n; i++)
        k_pause_ms(1);
    k_pause_ms(30); /* so that what is sent of the bodies has come */
    for (size_t i = 0; i < n; i++) {
        if (atomic_load(&calls[i]->state) == K_DONE)
            continue;
        k_step(t, "cancelling a read whose reply stalls");
        k_call_cancel(calls[i]);
        if (!k_that(t, k_call_wait(calls[i], limit_ms),
                    "expected a cancelled read to complete within %u ms, got nothing", limit_ms)) {
            calls[i]->hung = true;
            return;
        }
        k_that(t, calls[i]->rc == PST_E_CANCELLED || calls[i]->rc == PST_E_UNAVAILABLE,
               "expected CANCELLED from a read whose reply stalls, got %s",
               k_rc_name(calls[i]->rc));
        k_call_free(calls[i]);
    }
    k_wants_recovery(s, k_key(t, "stall-2"), SIZE, SEED);
}

/* ---- no connection ------------------------------------------------------------------------------- */

void k_HTTP_017(struct k_test *t)
{
    if (!k_faults_has_tls(t)) {
        k_skip(t, "the declaration has no tls_options");
        return;
    }
    t->uses_tls = true;
    struct k_store *s = k_fault_store(t, PST_CAP_READ);
    if (!s)
        return;
    struct k_call *c = k_new_read(s, k_key(t, "object"), 0, SIZE);
    k_step(t, "reading over TLS from a server that has none");
    (void)k_call_run(c);
    (void)k_want_failure(c, "a server without TLS", K_NO_MAYBE | K_ENDPOINT,
                         K_CODES(PST_E_UNAVAILABLE));
    k_call_free(c);
}

/* A port that was free a moment ago, and that nobody listens on. */
static void use_closed_port(struct k_test *t)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (const struct sockaddr *)(const void *)&in, len) == 0 &&
        getsockname(fd, (struct sockaddr *)(void *)&in, &len) == 0)
        (void)snprintf(t->fault_address, sizeof(t->fault_address), "127.0.0.1:%u",
                       (unsigned)ntohs(in.sin_port));
    if (fd >= 0)
        (void)close(fd);
}

void k_HTTP_018(struct k_test *t)
{
    use_closed_port(t);
    struct k_store *s = k_fault_store(t, PST_CAP_READ);
    if (!s)
        return;
    struct k_call *c = k_new_read(s, k_key(t, "object"), 0, SIZE);
    k_step(t, "reading from a port that nobody listens on");
    (void)k_call_run(c);
    (void)k_want_failure(c, "a closed port", K_RETRY | K_NO_MAYBE | K_ENDPOINT,
                         K_CODES(PST_E_UNAVAILABLE));
    k_call_free(c);
}

/* ---- side by side -------------------------------------------------------------------------------- */

#define N_BESIDE 12u

void k_HTTP_024(struct k_test *t)
{
    struct k_store *s = k_fault_store(t, PST_CAP_READ);
    struct k_call *calls[N_BESIDE];
    if (!s)
        return;
    if (s->plugin->threads == PST_THREADS_SERIAL) {
        k_skip(t, "the plugin is SERIAL");
        return;
    }
    for (unsigned i = 0; i < N_BESIDE; i++) {
        char name[20];
        (void)snprintf(name, sizeof(name), "%s-%u", i % 2 ? "bad" : "good", i);
        calls[i] = k_new_read(s, k_fault_object(t, name, SIZE, SEED + i), 0, SIZE);
    }
    k_fault_set(t, "[{'on': 'get', 'key': '*/bad-*', 'times': 0, 'fault':"
                   " {'delay_ms': 20, 'cut': {'at': 'body', 'bytes': 100000}}},"
                   " {'on': 'get', 'times': 0, 'fault': {'drip': {'bytes': 50000,"
                   " 'every_ms': 10}}}]");
    k_step(t, "reading %u objects at once, half of which break", N_BESIDE);
    for (unsigned i = 0; i < N_BESIDE; i++)
        (void)k_call_submit(calls[i]);
    for (unsigned i = 0; i < N_BESIDE; i++) {
        if (!k_call_finish(calls[i]))
            return;
        if (i % 2)
            (void)k_want_failure(calls[i], "the read that breaks", K_RETRY,
                                 K_CODES(PST_E_UNAVAILABLE));
        else
            k_that(t, calls[i]->rc == PST_OK && k_read_is_right(calls[i], SEED + i, 0, SIZE),
                   "expected the right bytes beside a read that breaks, got %s: %s",
                   k_rc_name(calls[i]->rc), calls[i]->error.message);
        k_call_free(calls[i]);
    }
}

/* ---- uploads that break -------------------------------------------------------------------------- */

void k_HTTP_025(struct k_test *t)
{
    struct k_store *s = k_fault_store(t, PST_CAP_READ | PST_CAP_PUT);
    if (!s)
        return;
    pst_str key = k_key(t, "put");
    struct k_source *source = k_source_new("put", SIZE, SEED, 0, 7001);
    for (unsigned i = 0; i < 2 && !k_failed(t); i++) {
        struct k_call *c = k_new_put(s, key, source, SIZE);
        k_fault_set(t, "[{'on': 'put', 'times': 0, 'fault': {'cut_request': %u}}]",
                    i ? 100000u : 0u);
        k_step(t, "putting an object over a connection that breaks while it is sent");
        (void)k_call_run(c);
        (void)k_want_failure(c, "a put whose bytes did not arrive", K_RETRY | K_ENDPOINT,
                             K_CODES(PST_E_UNAVAILABLE));
        k_fault_set(t, NULL);
        k_fault_absent(t, key);
        k_call_free(c);
    }
    struct k_call *again = k_new_put(s, key, source, SIZE);
    k_step(t, "putting it again");
    (void)k_call_run(again);
    if (k_want(again, PST_OK, "the next put"))
        (void)k_fault_holds(t, key, SIZE, SEED);
    k_call_free(again);
    k_source_bury(source);
}

/* ---- nothing left -------------------------------------------------------------------------------- */

static void suffer(struct k_store *s, pst_str key)
{
    static const char *const faults[] = {"{'cut': {'at': 'before_head'}}",
                                         "{'cut': {'at': 'body', 'bytes': 1000}}",
                                         "{'shorten': 10}",
                                         "{'extend': 10}",
                                         "{'garbage': true}",
                                         "{'filler': 65536}",
                                         "{'apply': false, 'status': 503, 'body': 'later'}",
                                         "{'apply': false, 'status': 404, 'body': 'gone'}"};
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        char rules[300];
        (void)snprintf(rules, sizeof(rules), "[{'on': 'get', 'times': 0, 'fault': %s}]", faults[i]);
        struct k_call *c = k_read_under(s, rules, key, 0, SIZE);
        k_call_free(c);
    }
}

void k_HTTP_026(struct k_test *t)
{
    struct k_process before, after;
    pst_str key = {0};
    t->host = k_host_new(t, K_SAME, 4);
    k_pool_start(t->host->pool);
    k_pool_start(t->host->courier);
    for (unsigned i = 0; i < 3; i++) {
        struct k_store *s = begin(t, &key);
        if (!s)
            return;
        suffer(s, key);
        k_close(s);
        k_host_end_services(t->host);
        k_process_look(&after);
        if (i == 0) /* what is mapped for the first time may keep something for good */
            before = after;
    }
    k_process_compare(t, &before, &after, "after stores that saw faults were closed",
                      K_SAME_FDS | K_SAME_THREADS);
    k_that(t, atomic_load(&t->host->n_alloc_live) == 0,
           "expected everything from alloc() to be given back after faults, got %ld blocks left",
           atomic_load(&t->host->n_alloc_live));
}
