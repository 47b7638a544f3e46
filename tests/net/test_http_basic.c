/* What a request puts on the wire, and what comes back where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "calls.h"
#include "server.h"

static struct net_host host;

static int reply_by_path(struct conn *c, void *arg)
{
    (void)arg;
    if (!conn_read_body(c))
        return 0;
    if (strstr(c->head, " /echo")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
                    strlen(c->head) + c->body_len);
        conn_write(c, c->head, strlen(c->head));
        conn_write(c, c->body, c->body_len);
        return 1;
    }
    if (strstr(c->head, " /missing")) {
        conn_printf(c, "HTTP/1.1 404 Not Found\r\nX-One:  a b \r\nX-one: \r\nContent-Length: "
                       "4\r\n\r\ngone");
        return 1;
    }
    if (strstr(c->head, " /chunked")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n");
        return 1;
    }
    conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"v1\"\r\n\r\n0123456789");
    return 1;
}

static void test_get__body_goes_to_the_granted_memory(void **state)
{
    struct server *server = server_start(reply_by_path, NULL);
    pst_http_client *client = net_client(&host, NULL);
    char memory[10];
    const pst_iov span = {memory, sizeof(memory)};
    const int32_t take = PST_HTTP_TAKE;
    struct call call;
    (void)state;
    call_init(&call, client, &host, "GET", url_of(server_port(server), "/x"));
    call.request.flags = PST_HTTP_CRC32C;
    call_accepts(&call, &take, 1, &span);
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.reply.status, 200);
    assert_int_equal(call.head_length, 10);
    assert_int_equal(call.reply.n_taken, 10);
    assert_memory_equal(memory, "0123456789", 10);
    assert_int_equal(call.reply.has_crc32c, 1);
    assert_int_equal(call.reply.crc32c, 0x280c069e);
    assert_string_equal(call.message, "");
    assert_non_null(strstr(call.headers, "etag=\"v1\"\n"));
    call_fini(&call);
    host.http->client_free(client);
    server_stop(server);
}

static void run_plain(struct server *server, const char *method, const char *path,
                      struct call *call)
{
    pst_http_client *client = net_client(&host, NULL);
    call_init(call, client, &host, method, url_of(server_port(server), path));
    call_run(call);
    host.http->client_free(client);
}

static void test_get__target_and_headers_go_out_byte_by_byte(void **state)
{
    struct server *server = server_start(reply_by_path, NULL);
    const pst_http_config config = {
        .struct_size = sizeof(config), .flags = PST_HTTP_NO_PROXY, .user_agent = PST_STR("s3/1.2")};
    pst_http_client *client = net_client(&host, &config);
    const pst_kv headers[] = {
        {PST_STR("X-Amz-Date"), PST_STR("20260101T000000Z")},
        {PST_STR("x-empty"), PST_STR("")},
        {PST_STR("Range"), PST_STR("bytes=0-9")},
    };
    struct call call;
    char want[512];
    (void)state;
    call_init(&call, client, &host, "GET",
              url_of(server_port(server), "/echo/a/../%2e%7E//b%20c;&'()*!~?x=%2F&y=a+b?/../"));
    call.request.headers = headers;
    call.request.n_headers = 3;
    call_run(&call);
    snprintf(want, sizeof(want),
             "GET /echo/a/../%%2e%%7E//b%%20c;&'()*!~?x=%%2F&y=a+b?/../ HTTP/1.1\r\n"
             "Host: 127.0.0.1:%u\r\nUser-Agent: penstock/%s s3/1.2\r\n"
             "X-Amz-Date: 20260101T000000Z\r\nx-empty:\r\nRange: bytes=0-9\r\n\r\n",
             server_port(server), PENSTOCK_VERSION);
    assert_string_equal(call.body, want);
    call_fini(&call);
    host.http->client_free(client);
    server_stop(server);
}

/* libcurl's lists have a language of their own, where "Name:" takes a header away. */
static void test_get__headers_that_look_odd_go_out_as_well(void **state)
{
    struct server *server = server_start(reply_by_path, NULL);
    pst_http_client *client = net_client(&host, NULL);
    const pst_kv headers[] = {
        {PST_STR("x-note"), PST_STR("see below:")},
        {PST_STR("x-blank"), PST_STR(" \t")},
        {PST_STR("x-semi"), PST_STR("a;")},
        {PST_STR("user-agent"), PST_STR("mine:")},
    };
    struct call call;
    (void)state;
    call_init(&call, client, &host, "GET", url_of(server_port(server), "/echo"));
    call.request.headers = headers;
    call.request.n_headers = 4;
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    assert_non_null(
        strstr(call.body, "x-note: see below:\r\nx-blank:\r\nx-semi: a;\r\nuser-agent: mine:\r\n"));
    assert_null(strstr(call.body, "User-Agent"));
    call_fini(&call);
    host.http->client_free(client);
    server_stop(server);
}

static void test_get__headers_arrive_in_order_in_lower_case_and_trimmed(void **state)
{
    struct server *server = server_start(reply_by_path, NULL);
    struct call call;
    (void)state;
    run_plain(server, "GET", "/missing", &call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.reply.status, 404);
    assert_int_equal(call.reply.failed_at, 0);
    assert_string_equal(call.headers, "x-one=a b\nx-one=\ncontent-length=4\n");
    assert_string_equal(call.body, "gone"); /* no accept: rejected, kept as text */
    call_fini(&call);
    server_stop(server);
}

static void test_get__chunked_body_is_collected(void **state)
{
    struct server *server = server_start(reply_by_path, NULL);
    struct call call;
    (void)state;
    run_plain(server, "GET", "/chunked", &call);
    assert_int_equal(call.rc, PST_OK);
    assert_string_equal(call.body, "hello world");
    call_fini(&call);
    server_stop(server);
}

static void put_and_compare(const pst_iov *body, size_t n, const char *method)
{
    struct server *server = server_start(reply_by_path, NULL);
    pst_http_client *client = net_client(&host, NULL);
    uint64_t total = 0;
    struct call call;
    call_init(&call, client, &host, method, url_of(server_port(server), "/echo"));
    call.request.body = body;
    call.request.n_body = n;
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    const char *at = strstr(call.body, "\r\n\r\n") + 4;
    for (size_t i = 0; i < n; i++) {
        if (body[i].len > 0)
            assert_memory_equal(at, body[i].ptr, body[i].len);
        at += body[i].len;
        total += body[i].len;
    }
    assert_int_equal(at - call.body, call.body_len);
    assert_int_equal(call.reply.n_sent, total);
    assert_true(call.reply.flags & PST_HTTP_MAY_BE_SENT);
    *(strstr(call.body, "\r\n\r\n") + 2) = '\0';
    assert_null(strstr(call.body, "Content-Type"));
    assert_null(strstr(call.body, "Accept"));
    assert_null(strstr(call.body, "Transfer-Encoding"));
    char length[64];
    snprintf(length, sizeof(length), "Content-Length: %llu\r\n", (unsigned long long)total);
    assert_non_null(strstr(call.body, length));
    call_fini(&call);
    host.http->client_free(client);
    server_stop(server);
}

static void test_put__short_body_long_body_and_spans_arrive_whole(void **state)
{
    char *memory = malloc(3u << 20);
    (void)state;
    for (size_t i = 0; i < 3u << 20; i++)
        memory[i] = (char)(i * 7 + (i >> 11));
    const pst_iov small = {memory, 1000};
    const pst_iov spans[] = {{memory, 10}, {NULL, 0}, {memory + 10, 70000}, {memory + 70010, 1}};
    const pst_iov large = {memory, 3u << 20};
    put_and_compare(NULL, 0, "PUT");
    put_and_compare(&small, 1, "PUT");
    put_and_compare(&small, 1, "POST");
    put_and_compare(spans, 4, "PUT");
    put_and_compare(&large, 1, "PUT");
    put_and_compare(&small, 1, "DELETE");
    free(memory);
}

static int never_reply(struct conn *c, void *arg)
{
    (void)arg;
    conn_wait_closed(c);
    return 0;
}

static void test_cancel__ends_a_request_that_waits_for_its_reply(void **state)
{
    struct server *server = server_start(never_reply, NULL);
    pst_http_client *client = net_client(&host, NULL);
    struct call call;
    (void)state;
    call_init(&call, client, &host, "GET", url_of(server_port(server), "/x"));
    call_send(&call);
    host.http->cancel(client, call.id);
    call_wait(&call);
    assert_int_equal(call.rc, PST_E_CANCELLED);
    host.http->cancel(client, call.id); /* unknown by now */
    host.http->resume(client, call.id);
    call_fini(&call);
    host.http->client_free(client);
    server_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get__body_goes_to_the_granted_memory),
        cmocka_unit_test(test_get__target_and_headers_go_out_byte_by_byte),
        cmocka_unit_test(test_get__headers_that_look_odd_go_out_as_well),
        cmocka_unit_test(test_get__headers_arrive_in_order_in_lower_case_and_trimmed),
        cmocka_unit_test(test_get__chunked_body_is_collected),
        cmocka_unit_test(test_put__short_body_long_body_and_spans_arrive_whole),
        cmocka_unit_test(test_cancel__ends_a_request_that_waits_for_its_reply),
    };
    net_host_open(&host, 2);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    net_host_close(&host);
    return rc;
}
