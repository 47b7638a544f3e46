/* Connections: kept, capped, counted, replaced when they turn out to be closed; the order of the line;
 * fork; the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "calls.h"
#include "server.h"

static struct net_host host;

/* What a script counts. */
static struct {
    atomic_uint n_busy, most_busy, n_gate;
    atomic_int is_open; /* /gate answers */
    const char *half;   /* of a head */
    char order[256];
    atomic_uint n_order;
} seen;

static int reply_by_path(struct conn *c, void *arg)
{
    (void)arg;
    if (strstr(c->head, " /broken") && c->n_requests == 2) {
        conn_reset(c);
        return 0;
    }
    if (!conn_read_body(c))
        return 0;
    const unsigned busy = atomic_fetch_add(&seen.n_busy, 1) + 1;
    unsigned most = atomic_load(&seen.most_busy);
    while (busy > most && !atomic_compare_exchange_weak(&seen.most_busy, &most, busy)) {}
    if (strstr(c->head, " /order/"))
        seen.order[atomic_fetch_add(&seen.n_order, 1)] = strstr(c->head, " /order/")[8];
    if (strstr(c->head, " /gate")) {
        atomic_fetch_add(&seen.n_gate, 1);
        while (!atomic_load(&seen.is_open))
            usleep(1000);
    }
    if (strstr(c->head, " /slow"))
        usleep(3000);
    atomic_fetch_sub(&seen.n_busy, 1);
    /* Served, and closed before the next request comes: stale for whoever keeps it. */
    if (strstr(c->head, " /stale")) {
        if (c->n_requests == 2)
            return 0; /* its second request is never answered */
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale");
        return 1;
    }
    if (strstr(c->head, " /last") && c->n_requests == 2) {
        server_refuse(c->server);
        return 0;
    }
    if (strstr(c->head, " /broken")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale");
        return 1;
    }
    if (strstr(c->head, " /close")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        return 0;
    }
    if (strstr(c->head, " /half") && c->n_requests == 2) {
        conn_printf(c, "%s", seen.half); /* a byte of the reply came: no second try */
        return 0;
    }
    conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", c->body_len);
    conn_write(c, c->body, c->body_len);
    return 1;
}

static struct server *begin(void)
{
    memset(&seen, 0, sizeof(seen));
    return server_start(reply_by_path, NULL);
}

static void run_path(pst_http_client *client, struct server *server, const char *path,
                     struct call *call)
{
    call_init(call, client, &host, "GET", url_of(server_port(server), path));
    call_run(call);
    call_fini(call);
}

static void test_connection__is_kept_and_counted(void **state)
{
    struct server *server = begin();
    pst_http_client *client = net_client(&host, NULL);
    pst_http_stats stats = {.struct_size = sizeof(stats)};
    struct call call;
    (void)state;
    for (int i = 0; i < 5; i++) {
        run_path(client, server, "/x", &call);
        assert_int_equal(call.rc, PST_OK);
        assert_int_equal((call.reply.flags & PST_HTTP_REUSED) != 0, i > 0);
    }
    assert_int_equal(server_connections(server), 1);
    host.http->stats(client, &stats);
    assert_int_equal(stats.n_open, 1);
    assert_int_equal(stats.requests, 5);
    assert_int_equal(stats.opened, 1);
    assert_int_equal(stats.reused, 4);
    assert_true(stats.connect_ns > 0);
    assert_int_equal(stats.tls_ns, 0);
    host.http->client_free(client);
    server_stop(server);
}

static void test_figures__of_clients_are_summed_and_outlive_them(void **state)
{
    struct server *server = begin();
    pst_http_client *first = net_client(&host, NULL), *second = net_client(&host, NULL);
    pst_http_stats before, stats;
    struct call call;
    (void)state;
    host.net->stats(host.instance, &before);
    for (int i = 0; i < 3; i++)
        run_path(first, server, "/x", &call);
    run_path(second, server, "/x", &call);
    host.net->stats(host.instance, &stats);
    assert_int_equal(stats.requests - before.requests, 4);
    uint64_t opened = stats.opened - before.opened; /* they may share one */
    assert_true(opened == 1 || opened == 2);
    assert_int_equal(stats.reused - before.reused, 4 - opened);
    host.http->client_free(first);
    host.http->client_free(second);
    host.net->stats(host.instance, &stats);
    assert_int_equal(stats.requests - before.requests, 4);
    assert_true(stats.connect_ns > before.connect_ns);
    server_stop(server);
}

static void test_connection__that_the_server_closes_is_not_used_again(void **state)
{
    struct server *server = begin();
    pst_http_client *client = net_client(&host, NULL);
    struct call call;
    (void)state;
    for (int i = 0; i < 3; i++) {
        run_path(client, server, "/close", &call);
        assert_int_equal(call.rc, PST_OK);
    }
    assert_int_equal(server_connections(server), 3);
    host.http->client_free(client);
    server_stop(server);
}

static void test_connection__of_its_own_is_new_and_closed_afterwards(void **state)
{
    struct server *server = begin();
    pst_http_client *client = net_client(&host, NULL);
    pst_http_stats stats = {.struct_size = sizeof(stats)};
    struct call call;
    (void)state;
    run_path(client, server, "/x", &call);
    call_init(&call, client, &host, "GET", url_of(server_port(server), "/x"));
    call.request.flags = PST_HTTP_NO_REUSE;
    call_run(&call);
    assert_false(call.reply.flags & PST_HTTP_REUSED);
    call_fini(&call);
    run_path(client, server, "/x", &call);
    assert_true(call.reply.flags & PST_HTTP_REUSED);
    assert_int_equal(server_connections(server), 2);
    host.http->stats(client, &stats);
    assert_int_equal(stats.n_open, 1);
    host.http->client_free(client);
    server_stop(server);
}

/* The server reads the request and closes: only then does the client learn that it was too late. */
static void test_stale__connection_is_replaced_and_the_body_sent_again(void **state)
{
    const size_t sizes[] = {0, 1000, 200000, 3000000};
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct server *server = begin();
        pst_http_client *client = net_client(&host, NULL);
        char *memory = malloc(sizes[i] + 1);
        const pst_iov spans[] = {{memory, sizes[i] / 3},
                                 {memory + sizes[i] / 3, sizes[i] - sizes[i] / 3}};
        struct call call;
        for (size_t k = 0; k < sizes[i]; k++)
            memory[k] = (char)(k * 13);
        for (int k = 0; k < 2; k++) {
            call_init(&call, client, &host, sizes[i] ? "PUT" : "GET",
                      url_of(server_port(server), "/stale"));
            call.request.body = spans;
            call.request.n_body = 2;
            call_run(&call);
            if (call.rc != PST_OK)
                fail_msg("%zu bytes: %d: %s", sizes[i], (int)call.rc, call.message);
            assert_string_equal(call.body, "stale");
            assert_int_equal(call.reply.n_sent, sizes[i]);
            assert_false(call.reply.flags & PST_HTTP_REUSED);
            call_fini(&call);
        }
        assert_int_equal(server_connections(server), 2);
        free(memory);
        host.http->client_free(client);
        server_stop(server);
    }
}

/* ... here it closes with a reset, in the middle of the body if there is one. */
static void test_stale__connection_that_is_reset_is_replaced_however_often(void **state)
{
    const size_t len = 8u << 20;
    struct server *server = begin();
    pst_http_client *client = net_client(&host, NULL);
    char *memory = calloc(1, len);
    const pst_iov body = {memory, len};
    struct call call;
    (void)state;
    for (int i = 0; i < 24; i++) {
        call_init(&call, client, &host, i < 12 ? "PUT" : "GET",
                  url_of(server_port(server), "/broken"));
        call.request.body = &body;
        call.request.n_body = i < 12;
        call_run(&call);
        if (call.rc != PST_OK)
            fail_msg("%d: %d: %s", i, (int)call.rc, call.message);
        assert_string_equal(call.body, "stale");
        assert_int_equal(call.reply.n_sent, i < 12 ? len : 0);
        call_fini(&call);
    }
    assert_int_equal(server_connections(server), 24);
    free(memory);
    host.http->client_free(client);
    server_stop(server);
}

static void test_stale__is_not_repeated_once_a_byte_of_the_reply_has_come(void **state)
{
    const char *const halves[] = {"HTTP/1.1 200 OK\r\n", "HTTP/1.1 20", "H"};
    const int n = net_is_by_libcurl() ? 1 : 3; /* libcurl counts whole lines */
    (void)state;
    for (int i = 0; i < n; i++) {
        struct server *server = begin();
        pst_http_client *client = net_client(&host, NULL);
        struct call call;
        seen.half = halves[i];
        run_path(client, server, "/half", &call);
        assert_int_equal(call.rc, PST_OK);
        run_path(client, server, "/half", &call);
        assert_int_equal(call.rc, PST_E_UNAVAILABLE);
        assert_int_equal(call.reply.failed_at, PST_HTTP_AT_HEAD);
        assert_true(call.reply.flags & PST_HTTP_MAY_BE_SENT);
        assert_int_equal(server_connections(server), 1);
        host.http->client_free(client);
        server_stop(server);
    }
}

/* The first try may have been obeyed, whatever becomes of the second. */
static void test_stale__that_cannot_be_replaced_may_have_been_sent(void **state)
{
    const size_t sizes[] = {0, 1000, 200000};
    char *memory = calloc(1, sizes[2]);
    (void)state;
    for (int i = 0; i < 3; i++) {
        const pst_iov span = {memory, sizes[i]};
        struct server *server = begin();
        pst_http_client *client = net_client(&host, NULL);
        struct call call;
        run_path(client, server, "/last", &call);
        assert_int_equal(call.rc, PST_OK);
        call_init(&call, client, &host, sizes[i] ? "PUT" : "DELETE",
                  url_of(server_port(server), "/last"));
        call.request.body = &span;
        call.request.n_body = 1;
        call_run(&call);
        assert_int_equal(call.rc, PST_E_UNAVAILABLE);
        assert_int_equal(call.reply.failed_at, PST_HTTP_AT_CONNECT);
        assert_true(call.reply.flags & PST_HTTP_MAY_BE_SENT);
        call_fini(&call);
        host.http->client_free(client);
        server_stop(server);
    }
    free(memory);
}

/* The reply has come whole and the server has gone while accept has no memory yet: for libcurl, which
 * looks for closed connections when a new one begins, once a second at most, this one is of no use. Its
 * number must not be the next one's as long as it is ours. */
static void test_connection__closed_by_the_server_leaves_the_next_one_alone(void **state)
{
    const int32_t answers[] = {PST_HTTP_PAUSE, PST_HTTP_COLLECT};
    const pst_http_config config = {
        .struct_size = sizeof(config), .flags = PST_HTTP_NO_PROXY, .stall_timeout_ms = 2000};
    struct server *server = begin();
    struct net_host single;
    struct call first, second;
    (void)state;
    net_host_open(&single, 1);
    pst_http_client *client = net_client(&single, &config);
    call_init(&first, client, &single, "GET", url_of(server_port(server), "/close"));
    call_accepts(&first, answers, 2, NULL);
    call_send(&first);
    call_wait_accepts(&first, 1);
    usleep(1200000);
    call_init(&second, client, &single, "GET", url_of(server_port(server), "/gate"));
    call_send(&second);
    while (atomic_load(&seen.n_gate) == 0)
        usleep(1000);
    single.http->resume(client, first.id);
    call_wait(&first);
    assert_int_equal(first.rc, PST_OK);
    assert_string_equal(first.body, "ok");
    atomic_store(&seen.is_open, 1);
    call_wait(&second);
    if (second.rc != PST_OK)
        fail_msg("%s", second.message);
    call_fini(&first);
    call_fini(&second);
    single.http->client_free(client);
    net_host_close(&single);
    server_stop(server);
}

struct chain {
    pst_http_client *client;
    pst_http_request request;
    atomic_int must_stop, has_stopped;
};

static void send_again(void *ctx, pst_rc rc, const pst_http_reply *reply)
{
    struct chain *chain = ctx;
    uint64_t id;
    (void)rc;
    (void)reply;
    if (atomic_load(&chain->must_stop)) {
        atomic_store(&chain->has_stopped, 1);
        return;
    }
    assert_int_equal(host.http->send(chain->client, &chain->request, &id), PST_PENDING);
    host.http->cancel(chain->client, id);
}

/* Requests that are cancelled at once, each of which sends the next: the loop never gets to sleep. */
static void test_line__that_never_ends_lets_replies_through(void **state)
{
    struct server *server = begin();
    struct net_host single;
    struct chain chain = {.must_stop = 0};
    struct call call;
    (void)state;
    net_host_open(&single, 1);
    chain.client = net_client(&single, NULL);
    chain.request = (pst_http_request){.struct_size = sizeof(chain.request),
                                       .ctx = &chain,
                                       .method = PST_STR("GET"),
                                       .url = PST_STR("http://127.0.0.1:1/"),
                                       .done = send_again};
    pst_http_client *client = net_client(&single, NULL);
    call_init(&call, client, &single, "GET", url_of(server_port(server), "/slow"));
    call_run(&call);
    call_fini(&call);
    send_again(&chain, PST_OK, NULL);
    for (int i = 0; i < 5; i++) {
        call_init(&call, client, &single, "GET", url_of(server_port(server), "/slow"));
        call.request.deadline_ns = now_ns() + 5000000000u;
        call_run(&call);
        if (call.rc != PST_OK)
            fail_msg("%d: %s", i, call.message);
        assert_true(call.reply.flags & PST_HTTP_REUSED);
        call_fini(&call);
    }
    atomic_store(&chain.must_stop, 1);
    while (!atomic_load(&chain.has_stopped))
        usleep(1000);
    single.http->client_free(client);
    single.http->client_free(chain.client);
    net_host_close(&single);
    server_stop(server);
}

enum { MANY = 300 };

static void test_cap__holds_for_an_origin_and_everything_is_served(void **state)
{
    const uint32_t caps[] = {1, 3, 40};
    struct call *calls = calloc(MANY, sizeof(*calls));
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct server *server = begin();
        const pst_http_config config = {
            .struct_size = sizeof(config), .flags = PST_HTTP_NO_PROXY, .max_connections = caps[i]};
        pst_http_client *client = net_client(&host, &config);
        for (int k = 0; k < MANY; k++) {
            call_init(&calls[k], client, &host, "GET", url_of(server_port(server), "/slow"));
            call_send(&calls[k]);
        }
        for (int k = 0; k < MANY; k++) {
            call_wait(&calls[k]);
            assert_int_equal(calls[k].rc, PST_OK);
            call_fini(&calls[k]);
        }
        assert_true(seen.most_busy <= caps[i]);
        assert_true(server_connections(server) <= caps[i]);
        host.http->client_free(client);
        server_stop(server);
    }
    free(calls);
}

static void test_line__keeps_order_and_lets_another_store_through(void **state)
{
    struct server *server = begin();
    const pst_http_config one = {
        .struct_size = sizeof(one), .flags = PST_HTTP_NO_PROXY, .max_connections = 1};
    pst_http_client *client = net_client(&host, &one);
    pst_http_client *other = net_client(&host, &one);
    struct call gate, late, calls[9], quick;
    char path[] = "/order/0";
    (void)state;
    call_init(&gate, client, &host, "GET", url_of(server_port(server), "/gate"));
    call_send(&gate);
    call_init(&late, client, &host, "GET", url_of(server_port(server), "/order/z"));
    late.request.not_before_ns = now_ns() + 200000000u;
    call_send(&late);
    for (int i = 0; i < 9; i++) {
        path[7] = (char)('0' + i);
        call_init(&calls[i], client, &host, "GET", url_of(server_port(server), path));
        call_send(&calls[i]);
    }
    run_path(other, server, "/x", &quick);
    assert_int_equal(quick.rc, PST_OK);
    atomic_store(&seen.is_open, 1);
    for (int i = 0; i < 9; i++) {
        call_wait(&calls[i]);
        call_fini(&calls[i]);
    }
    call_wait(&late);
    assert_true(late.done_ns >= late.request.not_before_ns);
    call_fini(&late);
    call_wait(&gate);
    call_fini(&gate);
    assert_string_equal(seen.order, "012345678z");
    host.http->client_free(client);
    host.http->client_free(other);
    server_stop(server);
}

static void send_next(struct call *call)
{
    struct call *next = call + 1;
    assert_true(net_is_entered());
    if (next->request.done)
        call_send(next);
}

static void test_send__from_done_goes_on_the_same_connection(void **state)
{
    struct server *server = begin();
    pst_http_client *client = net_client(&host, NULL);
    struct call calls[11];
    (void)state;
    memset(calls, 0, sizeof(calls));
    for (int i = 0; i < 10; i++) {
        call_init(&calls[i], client, &host, "GET", url_of(server_port(server), "/x"));
        calls[i].on_done = send_next;
    }
    call_send(&calls[0]);
    for (int i = 0; i < 10; i++) {
        call_wait(&calls[i]);
        assert_int_equal(calls[i].rc, PST_OK);
        call_fini(&calls[i]);
    }
    assert_int_equal(server_connections(server), 1);
    host.http->client_free(client);
    server_stop(server);
}

static void test_shutdown__cancels_what_waits_and_what_travels(void **state)
{
    struct server *server = begin();
    struct net_host other;
    const pst_http_config one = {
        .struct_size = sizeof(one), .flags = PST_HTTP_NO_PROXY, .max_connections = 1};
    struct call calls[5], late;
    (void)state;
    net_host_open(&other, 4);
    pst_http_client *client = net_client(&other, &one);
    for (int i = 0; i < 5; i++) {
        call_init(&calls[i], client, &other, "GET", url_of(server_port(server), "/gate"));
        calls[i].request.not_before_ns = i == 4 ? now_ns() + 60000000000u : 0;
        call_send(&calls[i]);
    }
    assert_true(other.net->instance_shutdown(other.instance, now_ns() + 5000000000u));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(calls[i].n_done, 1);
        assert_int_equal(calls[i].rc, PST_E_CANCELLED);
        call_fini(&calls[i]);
    }
    call_init(&late, client, &other, "GET", url_of(server_port(server), "/x"));
    assert_int_equal(other.http->send(client, &late.request, &late.id), PST_E_CANCELLED);
    other.http->client_free(client);
    other.net->instance_free(other.instance);
    atomic_store(&seen.is_open, 1);
    server_stop(server);
}

#if !defined(__SANITIZE_THREAD__) /* which does not support threads in a fork child */
static int read_in_child(struct server *server)
{
    struct net_host child;
    struct call call;
    host.net->fork_child();
    host.net->fork_child();
    net_host_open(&child, 2);
    pst_http_client *client = net_client(&child, NULL);
    call_init(&call, client, &child, "GET", url_of(server_port(server), "/x"));
    call_run(&call);
    const int is_good = call.rc == PST_OK && !(call.reply.flags & PST_HTTP_REUSED);
    call_fini(&call);
    child.http->client_free(client);
    net_host_close(&child);
    return is_good ? 0 : 1;
}

static void test_fork__child_reads_and_the_parent_goes_on(void **state)
{
    struct server *server = begin();
    pst_http_client *client = net_client(&host, NULL);
    struct call call;
    (void)state;
    for (int i = 0; i < 10; i++) {
        int status = 1;
        run_path(client, server, "/x", &call);
        assert_int_equal(call.rc, PST_OK);
        pid_t child = fork();
        if (child == 0)
            _exit(read_in_child(server));
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        run_path(client, server, "/x", &call);
        assert_int_equal(call.rc, PST_OK);
        assert_true(call.reply.flags & PST_HTTP_REUSED);
    }
    host.http->client_free(client);
    server_stop(server);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connection__is_kept_and_counted),
        cmocka_unit_test(test_figures__of_clients_are_summed_and_outlive_them),
        cmocka_unit_test(test_connection__that_the_server_closes_is_not_used_again),
        cmocka_unit_test(test_connection__of_its_own_is_new_and_closed_afterwards),
        cmocka_unit_test(test_stale__connection_is_replaced_and_the_body_sent_again),
        cmocka_unit_test(test_stale__connection_that_is_reset_is_replaced_however_often),
        cmocka_unit_test(test_stale__is_not_repeated_once_a_byte_of_the_reply_has_come),
        cmocka_unit_test(test_stale__that_cannot_be_replaced_may_have_been_sent),
        cmocka_unit_test(test_connection__closed_by_the_server_leaves_the_next_one_alone),
        cmocka_unit_test(test_line__that_never_ends_lets_replies_through),
        cmocka_unit_test(test_cap__holds_for_an_origin_and_everything_is_served),
        cmocka_unit_test(test_line__keeps_order_and_lets_another_store_through),
        cmocka_unit_test(test_send__from_done_goes_on_the_same_connection),
        cmocka_unit_test(test_shutdown__cancels_what_waits_and_what_travels),
#if !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(test_fork__child_reads_and_the_parent_goes_on),
#endif
    };
    net_host_open(&host, 2);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    net_host_close(&host);
    return rc;
}
