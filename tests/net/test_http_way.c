/* Ways to a server: proxies of both kinds, a unix socket, IPv6, all addresses of a name; and what a
 * large body asks before it goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "calls.h"
#include "scratch.h"
#include "server.h"

static struct net_host host;

static int echo_head(struct conn *c, void *arg)
{
    (void)arg;
    if (!conn_read_body(c))
        return 0;
    conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(c->head), c->head);
    return 1;
}

/* A proxy that refuses, tunnels, or answers itself with the request as it came. */
static int be_proxy(struct conn *c, void *arg)
{
    unsigned *n_asked = arg;
    unsigned port = 0;
    (*n_asked)++;
    if (sscanf(c->head, "CONNECT 127.0.0.1:%u ", &port) == 1) {
        if (!strstr(c->head, "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=")) {
            conn_printf(c, "HTTP/1.1 407 Proxy Authentication Required\r\nX-Proxy: yes\r\n"
                           "Content-Length: 0\r\n\r\n");
            return 1;
        }
        conn_printf(c, "HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n");
        conn_tunnel(c, (uint16_t)port);
        return 0;
    }
    return echo_head(c, NULL);
}

static void run(const pst_http_config *config, const char *url, struct call *call)
{
    pst_http_client *client = net_client(&host, config);
    call_init(call, client, &host, "GET", url);
    call_run(call);
    call_fini(call);
    host.http->client_free(client);
}

static void test_proxy__for_http_gets_the_whole_url_byte_by_byte(void **state)
{
    unsigned n_asked = 0;
    struct server *proxy = server_start(be_proxy, &n_asked);
    const char *const proxy_url = url_of(server_port(proxy), "");
    const pst_http_config config = {.struct_size = sizeof(config),
                                    .proxy = pst_str_of(proxy_url, strlen(proxy_url))};
    const char *const url = "http://no-such-name.invalid:81/a/../%7e?x=%2F+/..";
    pst_http_client *client = net_client(&host, &config);
    char want[128];
    struct call call;
    (void)state;
    call_init(&call, client, &host, "GET", url);
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    snprintf(want, sizeof(want), "GET %s HTTP/1.1\r\nHost: no-such-name.invalid:81\r\n", url);
    assert_ptr_equal(strstr(call.body, want), call.body);
    assert_int_equal(n_asked, 1);
    call_fini(&call);
    host.http->client_free(client);
    server_stop(proxy);
}

static void test_proxy__of_the_environment_is_used_unless_told_otherwise(void **state)
{
    unsigned n_asked = 0;
    struct server *server = server_start(echo_head, NULL);
    struct server *proxy = server_start(be_proxy, &n_asked);
    const pst_http_config plain = {.struct_size = sizeof(plain)};
    const pst_http_config straight = {.struct_size = sizeof(straight), .flags = PST_HTTP_NO_PROXY};
    const pst_http_config excepted = {.struct_size = sizeof(excepted),
                                      .no_proxy = PST_STR("other,127.0.0.1")};
    struct call call;
    (void)state;
    setenv("http_proxy", url_of(server_port(proxy), ""), 1);
    run(&plain, url_of(server_port(server), "/"), &call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(n_asked, 1);
    run(&straight, url_of(server_port(server), "/"), &call);
    run(&excepted, url_of(server_port(server), "/"), &call);
    const char *const proxy_url = url_of(server_port(proxy), "");
    const pst_http_config never = {.struct_size = sizeof(never),
                                   .flags = PST_HTTP_NO_PROXY,
                                   .proxy = pst_str_of(proxy_url, strlen(proxy_url))};
    run(&never, url_of(server_port(server), "/"), &call);
    setenv("no_proxy", "127.0.0.1", 1);
    run(&plain, url_of(server_port(server), "/"), &call);
    unsetenv("no_proxy");
    unsetenv("http_proxy");
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(n_asked, 1);
    server_stop(proxy);
    server_stop(server);
}

static void test_proxy__one_that_is_given_is_not_used_with_no_proxy(void **state)
{
    unsigned n_asked = 0;
    struct server *server = server_start(echo_head, NULL);
    struct server *proxy = server_start(be_proxy, &n_asked);
    const char *const proxy_url = url_of(server_port(proxy), "");
    const pst_http_config config = {.struct_size = sizeof(config),
                                    .flags = PST_HTTP_NO_PROXY,
                                    .proxy = pst_str_of(proxy_url, strlen(proxy_url))};
    struct call call;
    (void)state;
    run(&config, url_of(server_port(server), "/"), &call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(n_asked, 0);
    server_stop(proxy);
    server_stop(server);
}

static void test_environment__is_not_read_for_a_host_that_says_so(void **state)
{
    static const char *const names[] = {"http_proxy", "all_proxy", "ALL_PROXY"};
    unsigned n_asked = 0;
    struct server *server = server_start(echo_head, NULL);
    struct server *proxy = server_start(be_proxy, &n_asked);
    const pst_http_config plain = {.struct_size = sizeof(plain)};
    struct net_host deaf;
    struct call call;
    (void)state;
    net_host_open_with(&deaf, 1, PST_NET_NO_ENVIRONMENT);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        setenv(names[i], url_of(server_port(proxy), ""), 1);
    pst_http_client *client = net_client(&deaf, &plain);
    call_init(&call, client, &deaf, "GET", url_of(server_port(server), "/"));
    call_run(&call);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(n_asked, 0);
    call_fini(&call);
    deaf.http->client_free(client);
    net_host_close(&deaf);
    server_stop(proxy);
    server_stop(server);
}

static void test_proxy__tunnel_refused_fails_to_connect_and_tells_no_password(void **state)
{
    unsigned n_asked = 0;
    struct server *proxy = server_start(be_proxy, &n_asked);
    char proxy_url[128];
    struct call call;
    (void)state;
    snprintf(proxy_url, sizeof(proxy_url), "http://user:wrong@127.0.0.1:%u", server_port(proxy));
    const pst_http_config config = {.struct_size = sizeof(config),
                                    .proxy = pst_str_of(proxy_url, strlen(proxy_url))};
    run(&config, "https://127.0.0.1:1/", &call);
    assert_int_equal(call.rc, PST_E_UNAVAILABLE);
    assert_int_equal(call.reply.failed_at, PST_HTTP_AT_CONNECT);
    assert_int_equal(call.reply.status, 0);
    assert_string_equal(call.headers, "");
    assert_null(strstr(call.message, "wrong"));
    assert_non_null(strstr(call.message, "through the proxy"));
    server_stop(proxy);
    run(&config, "https://127.0.0.1:1/", &call); /* it is gone */
    assert_int_equal(call.reply.failed_at, PST_HTTP_AT_CONNECT);
    assert_null(strstr(call.message, "wrong"));
}

static void test_proxy__tunnel_is_dug_with_the_password_given(void **state)
{
    unsigned n_asked = 0;
    struct server *server = server_start(echo_head, NULL); /* speaks no TLS: the handshake fails */
    struct server *proxy = server_start(be_proxy, &n_asked);
    char proxy_url[128], url[128];
    struct call call;
    (void)state;
    snprintf(proxy_url, sizeof(proxy_url), "http://user:secret@127.0.0.1:%u", server_port(proxy));
    snprintf(url, sizeof(url), "https://127.0.0.1:%u/", server_port(server));
    const pst_http_config config = {.struct_size = sizeof(config),
                                    .connect_timeout_ms = 500,
                                    .proxy = pst_str_of(proxy_url, strlen(proxy_url))};
    run(&config, url, &call);
    assert_int_equal(call.rc, PST_E_UNAVAILABLE);
    assert_int_equal(call.reply.failed_at, PST_HTTP_AT_TLS);
    assert_int_equal(server_connections(server), 1);
    assert_null(strstr(call.message, "secret"));
    server_stop(proxy);
    server_stop(server);
}

static void test_unix_socket__replaces_the_address(void **state)
{
    const char *path = scratch_path(*state, "sock");
    struct server *server = server_start_at(path, echo_head, NULL);
    const pst_http_config config = {.struct_size = sizeof(config),
                                    .unix_socket = pst_str_of(path, strlen(path))};
    struct call call;
    assert_non_null(server);
    setenv("http_proxy", "http://127.0.0.1:1", 1); /* does not apply */
    run(&config, "http://some-name.invalid/x", &call);
    unsetenv("http_proxy");
    if (call.rc != PST_OK)
        fail_msg("%s", call.message);
    assert_int_equal(call.reply.status, 200);
    server_stop(server);
}

static void test_ipv6__address_in_brackets_is_reached_and_named(void **state)
{
    struct server *server = server_start_at("::1", echo_head, NULL);
    char url[64], peer[64];
    struct call call;
    (void)state;
    if (!server) {
        print_message("no IPv6 here\n");
        return;
    }
    snprintf(url, sizeof(url), "http://[::1]:%u/x", server_port(server));
    snprintf(peer, sizeof(peer), "[::1]:%u", server_port(server));
    run(NULL, url, &call);
    assert_int_equal(call.rc, PST_OK);
    assert_string_equal(call.peer, peer);
    server_stop(server);
    run(NULL, url, &call);
    assert_int_equal(call.rc, PST_E_UNAVAILABLE);
    assert_ptr_equal(strstr(call.message, peer), call.message);
}

/* ---- Expect: 100-continue ---------------------------------------------------------------------- */

struct expect {
    unsigned n_asked, n_requests;
    int status;
    size_t n_early; /* bytes of the body that came unasked */
    int is_deaf;    /* never says "continue" */
};

static int answer_expect(struct conn *c, void *arg)
{
    struct expect *e = arg;
    char text[64];
    const char *value = conn_field(c, "expect", text, sizeof(text));
    e->n_requests++;
    if (value && strcmp(value, "100-continue") == 0) {
        e->n_asked++;
        e->n_early += c->n_early;
        if (e->status >= 400) {
            conn_printf(c, "HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno", e->status);
            return e->status == 417;
        }
        if (!e->is_deaf)
            conn_printf(c, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    if (!conn_read_body(c))
        return 0;
    conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    return 1;
}

static void put(pst_http_client *client, struct server *server, const pst_iov *body,
                struct call *call)
{
    const int32_t collect = PST_HTTP_COLLECT;
    call_init(call, client, &host, "PUT", url_of(server_port(server), "/x"));
    call->request.body = body;
    call->request.n_body = 1;
    call_accepts(call, &collect, 1, NULL);
    call_run(call);
    call_fini(call);
}

static void test_expect__asks_until_a_large_body_was_welcome(void **state)
{
    struct expect e = {0};
    struct server *server = server_start(answer_expect, &e);
    pst_http_client *client = net_client(&host, NULL);
    char *memory = calloc(1, 2u << 20);
    const pst_iov small = {memory, 1000000}, large = {memory, 2u << 20};
    struct call call;
    (void)state;
    put(client, server, &small, &call);
    assert_int_equal(e.n_asked, 0);
    put(client, server, &large, &call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.n_accepts, 1);
    assert_int_equal(e.n_asked, 1);
    put(client, server, &large, &call);
    assert_int_equal(e.n_asked, 1);
    e.status = 503;
    e.n_early = 0;
    put(client, server, &large, &call); /* goes unasked, comes back with nothing said about it */
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(e.n_asked, 1);
    free(memory);
    host.http->client_free(client);
    server_stop(server);
}

static void test_expect__a_refusal_costs_no_body_and_the_next_one_asks_again(void **state)
{
    struct expect e = {.status = 503};
    struct server *server = server_start(answer_expect, &e);
    pst_http_client *client = net_client(&host, NULL);
    char *memory = calloc(1, 2u << 20);
    const pst_iov large = {memory, 2u << 20};
    struct call call;
    (void)state;
    for (unsigned i = 1; i < 4; i++) {
        put(client, server, &large, &call);
        assert_int_equal(call.rc, PST_OK);
        assert_int_equal(call.reply.status, 503);
        assert_int_equal(call.reply.n_sent, 0);
        assert_false(call.reply.flags & PST_HTTP_MAY_BE_SENT);
        assert_int_equal(e.n_asked, i);
    }
    assert_int_equal(e.n_early, 0);
    free(memory);
    host.http->client_free(client);
    server_stop(server);
}

static void test_expect__a_server_that_says_nothing_or_417_gets_the_body_anyway(void **state)
{
    struct expect deaf = {.is_deaf = 1}, old = {.status = 417};
    struct expect *const kinds[] = {&deaf, &old};
    char *memory = calloc(1, 2u << 20);
    const pst_iov large = {memory, 2u << 20};
    struct call call;
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct server *server = server_start(answer_expect, kinds[i]);
        pst_http_client *client = net_client(&host, NULL);
        put(client, server, &large, &call);
        assert_int_equal(call.rc, PST_OK);
        assert_int_equal(call.reply.status, 200);
        assert_int_equal(call.n_accepts, 1);
        assert_int_equal(kinds[i]->n_asked, 1);
        put(client, server, &large, &call);
        assert_int_equal(call.rc, PST_OK);
        assert_int_equal(kinds[i]->n_asked, 1);
        host.http->client_free(client);
        server_stop(server);
    }
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proxy__for_http_gets_the_whole_url_byte_by_byte),
        cmocka_unit_test(test_proxy__of_the_environment_is_used_unless_told_otherwise),
        cmocka_unit_test(test_proxy__one_that_is_given_is_not_used_with_no_proxy),
        cmocka_unit_test(test_environment__is_not_read_for_a_host_that_says_so),
        cmocka_unit_test(test_proxy__tunnel_refused_fails_to_connect_and_tells_no_password),
        cmocka_unit_test(test_proxy__tunnel_is_dug_with_the_password_given),
        cmocka_unit_test_setup_teardown(test_unix_socket__replaces_the_address, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test(test_ipv6__address_in_brackets_is_reached_and_named),
        cmocka_unit_test(test_expect__asks_until_a_large_body_was_welcome),
        cmocka_unit_test(test_expect__a_refusal_costs_no_body_and_the_next_one_asks_again),
        cmocka_unit_test(test_expect__a_server_that_says_nothing_or_417_gets_the_body_anyway),
    };
    net_host_open(&host, 1);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    net_host_close(&host);
    return rc;
}
