/* How requests fail: told apart by stage, within the time that was given, in one line. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "calls.h"
#include "server.h"

static struct net_host host;
static struct server *server;

static const pst_http_config hasty = {.struct_size = sizeof(hasty),
                                      .flags = PST_HTTP_NO_PROXY,
                                      .connect_timeout_ms = 300,
                                      .stall_timeout_ms = 400};

static void drip(struct conn *c)
{
    char byte = 'x';
    for (int i = 0; i < 20; i++) { /* two and a half times the stall timeout */
        usleep(50000);
        conn_write(c, &byte, 1);
    }
}

/* Replies that http/1's own way must not take for good ones, and some that it must. */
static const struct {
    const char *text;
    int is_good;
} raw[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 1},
    {"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 1},
    {"HTTP/1.0 200 OK\r\n\r\nok", 1},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nT: 1\r\n\r\n", 1},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n02 \r\nok\r\n00\r\n\r\n", 1},
    {"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 0},
    {"HTTP/1.1 99 OK\r\nContent-Length: 2\r\n\r\nok", 0},
    {"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", 0},
    {"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 0},
    {"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno colon\r\n\r\nok", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n folded\r\n\r\nok", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\rb\r\n\r\nok", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: "
     "chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
     0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nok\r\n0\r\n\r\n", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokk\r\n0\r\n\r\n", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\nok\r\n0\r\n\r\n",
     0},
    {"HTTP/1.1 101 Switching Protocols\r\n\r\n", 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", 0},
};
enum { N_RAW = sizeof(raw) / sizeof(raw[0]) };

static void conn_raw(struct conn *c)
{
    unsigned i = 0;
    sscanf(c->head, "GET /raw/%u", &i);
    conn_write(c, raw[i].text, strlen(raw[i].text));
}

static int misbehave(struct conn *c, void *arg)
{
    (void)arg;
    if (strstr(c->head, " /silent")) {
        conn_wait_closed(c);
    } else if (strstr(c->head, " /short")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789");
    } else if (strstr(c->head, " /cut-chunk")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    } else if (strstr(c->head, " /bad-chunk")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n");
    } else if (strstr(c->head, " /nothing")) {
        return 0;
    } else if (strstr(c->head, " /reset-head")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-");
        conn_reset(c);
    } else if (strstr(c->head, " /reset-body")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789");
        usleep(50000); /* else the reset overtakes the bytes */
        conn_reset(c);
    } else if (strstr(c->head, " /stall-body")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789");
        conn_wait_closed(c);
    } else if (strstr(c->head, " /drip")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n");
        drip(c);
    } else if (strstr(c->head, " /long")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n0123456789");
        return 1;
    } else if (strstr(c->head, " /garbage")) {
        conn_printf(c, "SSH-2.0-OpenSSH\r\n\r\n");
    } else if (strstr(c->head, " /two-lengths")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde");
    } else if (strstr(c->head, " /many-lines")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\n");
        for (int i = 0; i < 70; i++)
            conn_printf(c, "X-%d: %04000d\r\n", i, i);
        conn_printf(c, "\r\n");
    } else if (strstr(c->head, " /trailers")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n");
        for (int i = 0; i < 70; i++)
            conn_printf(c, "X-%d: %04000d\r\n", i, i);
        conn_printf(c, "\r\n");
    } else if (strstr(c->head, " /some-lines")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
        for (int i = 0; i < 60; i++)
            conn_printf(c, "X-%d: %04000d\r\n", i, i);
        conn_printf(c, "\r\n");
        return 1;
    } else if (strstr(c->head, " /wide-line")) {
        char *line = malloc(120000);
        memset(line, 'a', 120000);
        conn_printf(c, "HTTP/1.1 200 OK\r\nX: ");
        conn_write(c, line, 120000);
        conn_printf(c, "\r\n\r\n");
        free(line);
    } else if (strncmp(c->head, "GET /raw/", 9) == 0) {
        conn_raw(c);
    } else if (strstr(c->head, " /stop-reading")) {
        conn_printf(c, "HTTP/1.1 100 Continue\r\n\r\n");
        usleep(50000);
        conn_reset(c);
    } else {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        return 1;
    }
    return 0;
}

static void run_at(const char *url, struct call *call)
{
    pst_http_client *client = net_client(&host, &hasty);
    call_init(call, client, &host, "GET", url);
    call_run(call);
    host.http->client_free(client);
}

static void expect_failure(const char *path, uint32_t at, const char *words)
{
    struct call call;
    char name[64];
    run_at(url_of(server_port(server), path), &call);
    if (call.rc != PST_E_UNAVAILABLE || call.reply.failed_at != at || !strstr(call.message, words))
        fail_msg("%s: %d at %u: %s", path, (int)call.rc, call.reply.failed_at, call.message);
    snprintf(name, sizeof(name), "127.0.0.1:%u: ", server_port(server));
    assert_ptr_equal(strstr(call.message, name), call.message);
    assert_null(strchr(call.message, '\n'));
    assert_true(call.reply.flags & PST_HTTP_MAY_BE_SENT);
    assert_string_not_equal(call.peer, "");
    call_fini(&call);
}

static void test_reply__that_breaks_off_fails_where_it_did(void **state)
{
    (void)state;
    expect_failure("/nothing", PST_HTTP_AT_HEAD, "connection lost before the reply");
    expect_failure("/reset-head", PST_HTTP_AT_HEAD, "connection lost before the reply");
    expect_failure("/garbage", PST_HTTP_AT_HEAD, "no valid reply");
    expect_failure("/short", PST_HTTP_AT_BODY, "after 10 of 100 bytes");
    expect_failure("/reset-body", PST_HTTP_AT_BODY, "after 10 of 100 bytes");
    expect_failure("/cut-chunk", PST_HTTP_AT_BODY, "after 5 bytes");
    expect_failure("/bad-chunk", PST_HTTP_AT_BODY, "broken off");
}

static void test_reply__with_a_head_too_long_or_two_lengths_fails(void **state)
{
    struct call call;
    (void)state;
    expect_failure("/many-lines", PST_HTTP_AT_HEAD, "head of the reply is too long");
    expect_failure("/wide-line", PST_HTTP_AT_HEAD, "head of the reply is too long");
    expect_failure("/two-lengths", PST_HTTP_AT_HEAD, "no valid content-length");
    expect_failure("/trailers", PST_HTTP_AT_BODY, "");
    run_at(url_of(server_port(server), "/some-lines"), &call);
    assert_int_equal(call.rc, PST_OK);
    call_fini(&call);
}

static void test_reply__is_parsed_strictly_on_our_own_way(void **state)
{
    struct call call;
    char path[32];
    (void)state;
    if (net_is_by_libcurl())
        return; /* libcurl has its own mind */
    for (unsigned i = 0; i < N_RAW; i++) {
        snprintf(path, sizeof(path), "/raw/%u", i);
        run_at(url_of(server_port(server), path), &call);
        if ((call.rc == PST_OK) != raw[i].is_good)
            fail_msg("%u: %d: %s", i, (int)call.rc, call.message);
        if (raw[i].is_good)
            assert_string_equal(call.body, "ok");
        else
            assert_int_equal(call.rc, PST_E_UNAVAILABLE);
        call_fini(&call);
    }
}

static void test_reply__longer_than_announced_is_cut_and_its_connection_is_not_used_again(
    void **state)
{
    struct server *fresh = server_start(misbehave,
                                        NULL); /* no connection is left of another test */
    pst_http_client *client = net_client(&host, &hasty);
    struct call call;
    (void)state;
    for (int i = 0; i < 3; i++) {
        call_init(&call, client, &host, "GET", url_of(server_port(fresh), i ? "/ok" : "/long"));
        call_run(&call);
        assert_int_equal(call.rc, PST_OK);
        assert_string_equal(call.body, i ? "ok" : "0123");
        assert_int_equal((call.reply.flags & PST_HTTP_REUSED) != 0, i == 2);
        call_fini(&call);
    }
    host.http->client_free(client);
    server_stop(fresh);
}

static void test_stall__no_byte_for_so_long_fails_but_a_drip_does_not(void **state)
{
    const uint64_t start = now_ns();
    struct call call;
    (void)state;
    expect_failure("/silent", PST_HTTP_AT_HEAD, "nothing moved for 400 ms (waiting for the reply)");
    assert_true(now_ns() - start >= 400000000u);
    assert_true(now_ns() - start < 5000000000u);
    expect_failure("/stall-body", PST_HTTP_AT_BODY,
                   "nothing moved for 400 ms (receiving the body)");
    run_at(url_of(server_port(server), "/drip"), &call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.body_len, 20);
    call_fini(&call);
}

static void test_stall__does_not_strike_while_accept_has_paused(void **state)
{
    pst_http_client *client = net_client(&host, &hasty);
    const int32_t answers[] = {PST_HTTP_PAUSE, PST_HTTP_COLLECT};
    struct call call, other;
    (void)state;
    call_init(&call, client, &host, "GET", url_of(server_port(server), "/ok"));
    call_accepts(&call, answers, 2, NULL);
    call_send(&call);
    call_wait_accepts(&call, 1);
    /* Two requests that stall one after the other are the clock. */
    for (int i = 0; i < 2; i++) {
        call_init(&other, client, &host, "GET", url_of(server_port(server), "/silent"));
        call_run(&other);
        assert_int_equal(other.rc, PST_E_UNAVAILABLE);
        call_fini(&other);
    }
    assert_int_equal(call.n_done, 0);
    host.http->resume(client, call.id);
    call_wait(&call);
    assert_int_equal(call.rc, PST_OK);
    call_fini(&call);
    host.http->client_free(client);
}

static void test_deadline__ends_a_request_at_any_stage(void **state)
{
    pst_http_client *client = net_client(&host, NULL);
    const int32_t pause = PST_HTTP_PAUSE;
    const char *const paths[] = {"/silent", "/stall-body", "/ok", "/ok"};
    struct call call;
    (void)state;
    for (int i = 0; i < 4; i++) {
        const uint64_t start = now_ns();
        call_init(&call, client, &host, "GET", url_of(server_port(server), paths[i]));
        call.request.deadline_ns = start + 100000000u;
        if (i == 2)
            call.request.not_before_ns = start + 60000000000u;
        if (i == 3)
            call_accepts(&call, &pause, 1, NULL);
        call_run(&call);
        assert_int_equal(call.rc, PST_E_DEADLINE);
        assert_true(call.done_ns >= start + 100000000u);
        assert_true(call.done_ns < start + 3000000000u);
        assert_non_null(strstr(call.message, "deadline passed"));
        call_fini(&call);
    }
    host.http->client_free(client);
}

/* A socket that listens and whose line is full: whoever connects waits. */
struct full {
    int fd, fillers[8];
    uint16_t port;
};

static void full_open(struct full *f)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(sa);
    f->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(f->fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(listen(f->fd, 0), 0);
    getsockname(f->fd, (struct sockaddr *)&sa, &len);
    f->port = ntohs(sa.sin_port);
    for (int i = 0; i < 8; i++) {
        f->fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(f->fillers[i], (struct sockaddr *)&sa, len);
    }
}

static void full_close(struct full *f)
{
    for (int i = 0; i < 8; i++)
        close(f->fillers[i]);
    close(f->fd);
}

static void test_connect__refused_late_and_unknown_are_told_apart(void **state)
{
    struct full full;
    struct call call;
    char want[128];
    (void)state;
    full_open(&full);
    run_at(url_of(full.port, "/"), &call);
    assert_int_equal(call.rc, PST_E_UNAVAILABLE);
    assert_int_equal(call.reply.failed_at, PST_HTTP_AT_CONNECT);
    snprintf(want, sizeof(want),
             "127.0.0.1:%u: no connection within 300 ms: waiting for the connection", full.port);
    assert_string_equal(call.message, want);
    assert_false(call.reply.flags & PST_HTTP_MAY_BE_SENT);
    call_fini(&call);
    full_close(&full);

    run_at(url_of(full.port, "/"), &call); /* closed by now */
    assert_int_equal(call.rc, PST_E_UNAVAILABLE);
    assert_int_equal(call.reply.failed_at, PST_HTTP_AT_CONNECT);
    snprintf(want, sizeof(want), "127.0.0.1:%u: cannot connect: Connection refused", full.port);
    assert_string_equal(call.message, want);
    assert_string_equal(call.peer, "");
    call_fini(&call);

    run_at("http://no-such-name.invalid:81/?X-Amz-Signature=secret", &call);
    assert_int_equal(call.rc, PST_E_UNAVAILABLE);
    assert_int_equal(call.reply.failed_at, PST_HTTP_AT_NAME);
    assert_non_null(strstr(call.message, "no-such-name.invalid:81: "));
    assert_null(strstr(call.message, "secret"));
    call_fini(&call);
}

static void test_tls__with_a_server_that_speaks_none_fails_in_the_handshake(void **state)
{
    struct call call;
    char url[64];
    (void)state;
    snprintf(url, sizeof(url), "https://127.0.0.1:%u/", server_port(server));
    run_at(url, &call);
    assert_int_equal(call.rc, PST_E_UNAVAILABLE);
    assert_int_equal(call.reply.failed_at, PST_HTTP_AT_TLS);
    assert_false(call.reply.flags & PST_HTTP_MAY_BE_SENT);
    call_fini(&call);
}

static void test_upload__that_is_cut_fails_while_it_is_sent(void **state)
{
    pst_http_client *client = net_client(&host, &hasty);
    char *memory = calloc(1, 64u << 20);
    const pst_iov body = {memory, 64u << 20};
    struct call call;
    (void)state;
    call_init(&call, client, &host, "PUT", url_of(server_port(server), "/stop-reading"));
    call.request.body = &body;
    call.request.n_body = 1;
    call_run(&call);
    assert_int_equal(call.rc, PST_E_UNAVAILABLE);
    assert_int_equal(call.reply.failed_at, PST_HTTP_AT_SEND);
    assert_false(call.reply.flags & PST_HTTP_MAY_BE_SENT);
    assert_non_null(strstr(call.message, "of 67108864 bytes of the request's body"));
    call_fini(&call);
    free(memory);
    host.http->client_free(client);
}

static void cancel_now(struct call *call, const pst_http_head *head)
{
    (void)head;
    call->http->cancel(call->client, call->id);
}

static void expect_cancelled(struct call *call)
{
    const uint64_t start = now_ns();
    call->http->cancel(call->client, call->id);
    call_wait(call);
    assert_int_equal(call->rc, PST_E_CANCELLED);
    assert_int_equal(call->reply.failed_at, 0);
    assert_true(call->done_ns < start + 500000000u || call->done_ns < start);
    call_fini(call);
}

static void test_cancel__works_at_every_stage_within_half_a_second(void **state)
{
    pst_http_client *client = net_client(&host, NULL);
    const int32_t collect = PST_HTTP_COLLECT;
    const int32_t pause = PST_HTTP_PAUSE;
    char *memory = calloc(1, 64u << 20);
    const pst_iov body = {memory, 64u << 20};
    struct full full;
    struct call call;
    (void)state;
    /* before its time */
    call_init(&call, client, &host, "GET", url_of(server_port(server), "/ok"));
    call.request.not_before_ns = now_ns() + 60000000000u;
    call_send(&call);
    expect_cancelled(&call);
    /* the name */
    call_init(&call, client, &host, "GET", "http://no-such-name.invalid/");
    call_send(&call);
    host.http->cancel(client, call.id);
    call_wait(&call); /* may have failed by itself before */
    call_fini(&call);
    /* the connection */
    full_open(&full);
    call_init(&call, client, &host, "GET", url_of(full.port, "/"));
    call_send(&call);
    usleep(20000);
    expect_cancelled(&call);
    full_close(&full);
    /* sending */
    call_init(&call, client, &host, "PUT", url_of(server_port(server), "/silent-put"));
    call.request.body = &body;
    call.request.n_body = 1;
    call_send(&call);
    host.http->cancel(client, call.id);
    call_wait(&call);
    assert_int_equal(call.rc, PST_E_CANCELLED);
    call_fini(&call);
    /* in accept, and paused */
    call_init(&call, client, &host, "GET", url_of(server_port(server), "/stall-body"));
    call_accepts(&call, &collect, 1, NULL);
    call.on_accept = cancel_now;
    call_run(&call);
    assert_int_equal(call.rc, PST_E_CANCELLED);
    call_fini(&call);
    call_init(&call, client, &host, "GET", url_of(server_port(server), "/ok"));
    call_accepts(&call, &pause, 1, NULL);
    call_send(&call);
    call_wait_accepts(&call, 1);
    expect_cancelled(&call);
    /* the body */
    call_init(&call, client, &host, "GET", url_of(server_port(server), "/stall-body"));
    call_accepts(&call, &collect, 1, NULL);
    call_send(&call);
    call_wait_accepts(&call, 1);
    expect_cancelled(&call);
    free(memory);
    host.http->client_free(client);
}

static void expect_invalid(pst_http_client *client, const char *method, const char *url,
                           const pst_kv *header)
{
    struct call call;
    call_init(&call, client, &host, method, url);
    call.request.headers = header;
    call.request.n_headers = header ? 1 : 0;
    assert_int_equal(host.http->send(client, &call.request, &call.id), PST_E_INVALID);
}

static void test_send__refuses_what_would_break_the_request(void **state)
{
    pst_http_client *client = net_client(&host, NULL);
    const pst_kv bad[] = {
        {PST_STR("x"), PST_STR("a\r\nHost: evil")},
        {PST_STR("x y"), PST_STR("a")},
        {PST_STR(""), PST_STR("a")},
        {PST_STR("Content-Length"), PST_STR("1")},
        {PST_STR("connection"), PST_STR("close")},
        {PST_STR("transfer-encoding"), PST_STR("x")},
    };
    const char *const urls[] = {
        "ftp://a/",
        "http://",
        "http:///x",
        "http://a b/",
        "http://a/b c",
        "http://u:p@a/",
        "http://a/#x",
        "http://a:0/",
        "http://a:65536/",
        "http://a:1x/",
        "http://[::1/",
        "http://a/\r\nx",
        "",
        "http://[::1]x/",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_invalid(client, "GET", "http://127.0.0.1:1/", &bad[i]);
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++)
        expect_invalid(client, "GET", urls[i], NULL);
    expect_invalid(client, "GET /", "http://127.0.0.1:1/", NULL);
    expect_invalid(client, "", "http://127.0.0.1:1/", NULL);
    host.http->client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reply__that_breaks_off_fails_where_it_did),
        cmocka_unit_test(test_reply__with_a_head_too_long_or_two_lengths_fails),
        cmocka_unit_test(test_reply__is_parsed_strictly_on_our_own_way),
        cmocka_unit_test(
            test_reply__longer_than_announced_is_cut_and_its_connection_is_not_used_again),
        cmocka_unit_test(test_stall__no_byte_for_so_long_fails_but_a_drip_does_not),
        cmocka_unit_test(test_stall__does_not_strike_while_accept_has_paused),
        cmocka_unit_test(test_deadline__ends_a_request_at_any_stage),
        cmocka_unit_test(test_connect__refused_late_and_unknown_are_told_apart),
        cmocka_unit_test(test_tls__with_a_server_that_speaks_none_fails_in_the_handshake),
        cmocka_unit_test(test_upload__that_is_cut_fails_while_it_is_sent),
        cmocka_unit_test(test_cancel__works_at_every_stage_within_half_a_second),
        cmocka_unit_test(test_send__refuses_what_would_break_the_request),
    };
    net_host_open(&host, 1);
    server = server_start(misbehave, NULL);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    server_stop(server);
    net_host_close(&host);
    return rc;
}
