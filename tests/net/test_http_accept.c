/* What accept may answer, and what follows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "calls.h"
#include "server.h"

static struct net_host host;
static pst_http_client *client;
static struct server *server;

static char pattern_at(size_t i)
{
    return (char)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

static void write_pattern(struct conn *c, size_t from, size_t len)
{
    char *block = malloc(len);
    for (size_t i = 0; i < len; i++)
        block[i] = pattern_at(from + i);
    conn_write(c, block, len);
    free(block);
}

static void assert_pattern(const char *memory, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (memory[i] != pattern_at(i))
            fail_msg("byte %zu differs", i);
    }
}

/* /body/N: N bytes with a length; /chunks/N/K: N bytes in chunks of K; /empty, /none: no body. */
static int reply_pattern(struct conn *c, void *arg)
{
    size_t n = 0, chunk = 0;
    (void)arg;
    if (sscanf(c->head, "%*s /body/%zu", &n) == 1) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
        if (strncmp(c->head, "HEAD", 4) != 0)
            write_pattern(c, 0, n);
    } else if (sscanf(c->head, "%*s /chunks/%zu/%zu", &n, &chunk) == 2) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (size_t at = 0; at < n; at += chunk) {
            const size_t part = n - at < chunk ? n - at : chunk;
            conn_printf(c, "%zx\r\n", part);
            write_pattern(c, at, part);
            conn_printf(c, "\r\n");
        }
        conn_printf(c, "0\r\nX-Trailer: late\r\n\r\n");
    } else if (strstr(c->head, " /interim")) {
        conn_printf(c, "HTTP/1.1 102 Processing\r\nX-Hidden: 1\r\n\r\n"
                       "HTTP/1.1 103 Early Hints\r\nX-Hidden: 2\r\n\r\n"
                       "HTTP/1.1 200 OK\r\nX-Shown: 3\r\nContent-Length: 0\r\n\r\n");
    } else if (strstr(c->head, " /close")) {
        conn_printf(c, "HTTP/1.1 200 OK\r\n\r\n");
        write_pattern(c, 0, 5000);
        return 0;
    } else if (strstr(c->head, " /none")) {
        conn_printf(c, "HTTP/1.1 204 No Content\r\n\r\n");
    } else if (sscanf(c->head, "%*s /denied/%zu", &n) == 1) {
        conn_printf(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: %zu\r\n\r\n", n);
        write_pattern(c, 0, n);
    } else {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
    return 1;
}

static void begin(struct call *call, const char *method, const char *path)
{
    call_init(call, client, &host, method, url_of(server_port(server), path));
}

static void test_take__long_body_fills_one_span(void **state)
{
    const size_t len = 5000000;
    char *memory = malloc(len);
    const pst_iov span = {memory, len};
    const int32_t take = PST_HTTP_TAKE;
    struct call call;
    (void)state;
    begin(&call, "GET", "/body/5000000");
    call_accepts(&call, &take, 1, &span);
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.n_accepts, 1);
    assert_int_equal(call.reply.n_taken, len);
    assert_int_equal(call.reply.has_crc32c, 0);
    assert_pattern(memory, len);
    call_fini(&call);
    free(memory);
}

static void test_take__a_full_grant_is_followed_by_the_next(void **state)
{
    const size_t len = 1000000;
    char *memory = malloc(len);
    const int32_t take[] = {PST_HTTP_TAKE, PST_HTTP_TAKE, PST_HTTP_TAKE};
    const pst_iov spans[] = {{memory, 7}, {memory + 7, 500000}, {memory + 500007, len - 500007}};
    struct call call;
    (void)state;
    begin(&call, "GET", "/chunks/1000000/33333");
    call_accepts(&call, take, 3, spans);
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.head_length, PST_UNKNOWN);
    assert_int_equal(call.n_accepts, 3);
    assert_int_equal(call.last_taken, 500007);
    assert_int_equal(call.reply.n_taken, len);
    assert_pattern(memory, len);
    assert_null(strstr(call.headers, "trailer"));
    call_fini(&call);
    free(memory);
}

static void test_take__exactly_full_at_the_end_asks_for_nothing(void **state)
{
    char memory[4000];
    const int32_t take = PST_HTTP_TAKE;
    const pst_iov span = {memory, sizeof(memory)};
    struct call call;
    (void)state;
    begin(&call, "GET", "/chunks/4000/1000");
    call_accepts(&call, &take, 1, &span);
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.n_accepts, 1);
    call_fini(&call);
}

static void test_take__a_pause_between_grants_loses_and_doubles_nothing(void **state)
{
    const size_t len = 1000000;
    char *memory = malloc(len);
    const int32_t answers[] = {PST_HTTP_PAUSE, PST_HTTP_TAKE, PST_HTTP_PAUSE, PST_HTTP_PAUSE,
                               PST_HTTP_TAKE};
    const pst_iov spans[] = {
        {NULL, 0}, {memory, 12345}, {NULL, 0}, {NULL, 0}, {memory + 12345, len - 12345}};
    const char *const paths[] = {"/body/1000000", "/chunks/1000000/1000"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct call call;
        memset(memory, 0, len);
        begin(&call, "GET", paths[i]);
        call.request.flags = PST_HTTP_CRC32C;
        call_accepts(&call, answers, 5, spans);
        call_send(&call);
        call_wait_accepts(&call, 1);
        host.http->resume(client, call.id);
        call_wait_accepts(&call, 3);
        host.http->resume(client, call.id);
        call_wait_accepts(&call, 4);
        host.http->resume(client, call.id);
        call_wait(&call);
        assert_int_equal(call.rc, PST_OK);
        assert_int_equal(call.n_accepts, 5);
        assert_int_equal(call.reply.n_taken, len);
        assert_pattern(memory, len);
        assert_int_equal(call.reply.crc32c, pst_crc32c(0, memory, len));
        call_fini(&call);
    }
    free(memory);
}

static void resume_at_once(struct call *call, const pst_http_head *head)
{
    (void)head;
    if (atomic_load(&call->n_accepts) == 0)
        call->http->resume(call->client, call->id);
}

static void test_pause__resumed_from_inside_accept_asks_again(void **state)
{
    char memory[4];
    const int32_t answers[] = {PST_HTTP_PAUSE, PST_HTTP_TAKE};
    const pst_iov spans[] = {{NULL, 0}, {memory, 4}};
    struct call call;
    (void)state;
    begin(&call, "GET", "/body/4");
    call_accepts(&call, answers, 2, spans);
    call.on_accept = resume_at_once;
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    assert_pattern(memory, 4);
    call_fini(&call);
}

static void test_pause__of_a_reply_without_a_body_holds_done_back(void **state)
{
    const int32_t answers[] = {PST_HTTP_PAUSE, PST_HTTP_COLLECT};
    const char *const paths[] = {"/empty", "/none"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct call call, other;
        begin(&call, "GET", paths[i]);
        call_accepts(&call, answers, 2, NULL);
        call_send(&call);
        call_wait_accepts(&call, 1);
        begin(&other, "GET", "/empty"); /* the loop goes on meanwhile */
        call_run(&other);
        call_fini(&other);
        assert_int_equal(call.n_done, 0);
        host.http->resume(client, call.id);
        call_wait(&call);
        assert_int_equal(call.rc, PST_OK);
        assert_int_equal(call.n_accepts, 2);
        call_fini(&call);
    }
}

static void test_accept__hears_of_a_head_reply_and_its_length(void **state)
{
    const int32_t collect = PST_HTTP_COLLECT;
    struct call call;
    (void)state;
    begin(&call, "HEAD", "/body/123456");
    call_accepts(&call, &collect, 1, NULL);
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.n_accepts, 1);
    assert_int_equal(call.head_length, 123456);
    assert_int_equal(call.body_len, 0);
    call_fini(&call);
}

static void test_accept__does_not_see_interim_replies(void **state)
{
    const int32_t collect = PST_HTTP_COLLECT;
    struct call call;
    (void)state;
    begin(&call, "GET", "/interim");
    call_accepts(&call, &collect, 1, NULL);
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.n_accepts, 1);
    assert_int_equal(call.head_status, 200);
    assert_string_equal(call.headers, "x-shown=3\ncontent-length=0\n");
    call_fini(&call);
}

static void test_accept__a_negative_code_is_what_done_gets(void **state)
{
    const int32_t refuse = PST_E_CHANGED;
    const char *const paths[] = {"/body/1000000", "/empty", "/chunks/100/10"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct call call;
        begin(&call, "GET", paths[i]);
        call_accepts(&call, &refuse, 1, NULL);
        call_run(&call);
        assert_int_equal(call.rc, PST_E_CHANGED);
        assert_int_equal(call.reply.failed_at, 0);
        assert_string_equal(call.message, "");
        assert_int_equal(call.reply.status, 200);
        call_fini(&call);
    }
}

static void test_take__a_body_longer_than_its_memory_is_data_loss(void **state)
{
    char memory[100];
    const int32_t take[] = {PST_HTTP_TAKE, PST_HTTP_TAKE};
    const pst_iov spans[] = {{memory, sizeof(memory)}, {NULL, 0}};
    struct call call;
    (void)state;
    begin(&call, "GET", "/chunks/101/50");
    call_accepts(&call, take, 2, spans);
    call_run(&call);
    assert_int_equal(call.rc, PST_E_DATA_LOSS);
    assert_int_equal(call.reply.n_taken, 100);
    assert_int_equal(call.reply.failed_at, PST_HTTP_AT_BODY);
    call_fini(&call);
}

static void test_collect__more_than_body_max_is_data_loss(void **state)
{
    const char *const paths[] = {"/body/1001", "/chunks/1001/10", "/body/1000", "/chunks/1000/10",
                                 "/close"};
    const pst_rc codes[] = {PST_E_DATA_LOSS, PST_E_DATA_LOSS, PST_OK, PST_OK, PST_E_DATA_LOSS};
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct call call;
        begin(&call, "GET", paths[i]);
        call.request.body_max = 1000;
        call_run(&call);
        assert_int_equal(call.rc, codes[i]);
        if (codes[i] == PST_OK)
            assert_pattern(call.body, 1000);
        call_fini(&call);
    }
}

static void test_collect__a_body_up_to_the_close_is_whole(void **state)
{
    struct call call;
    (void)state;
    begin(&call, "GET", "/close");
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.body_len, 5000);
    assert_pattern(call.body, 5000);
    call_fini(&call);
}

static void test_reject__keeps_64_kib_and_says_that_more_came(void **state)
{
    const char *const paths[] = {"/denied/100", "/denied/65536", "/denied/65537", "/denied/200000",
                                 "/denied/50000000"};
    const size_t kept[] = {100, 65536, 65536, 65536, 65536};
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct call call;
        begin(&call, "GET", paths[i]);
        call_run(&call);
        assert_int_equal(call.rc, PST_OK);
        assert_int_equal(call.reply.status, 403);
        assert_int_equal(call.body_len, kept[i]);
        assert_pattern(call.body, kept[i]);
        assert_int_equal((call.reply.flags & PST_HTTP_CUT) != 0, i >= 2);
        call_fini(&call);
    }
}

static void test_reject__reads_a_short_rest_and_gives_up_a_long_one(void **state)
{
    pst_http_stats before = {.struct_size = sizeof(before)};
    pst_http_stats after = {.struct_size = sizeof(after)};
    struct call call;
    (void)state;
    host.http->stats(client, &before);
    begin(&call, "GET", "/denied/200000");
    call_run(&call);
    call_fini(&call);
    begin(&call, "GET", "/empty");
    call_run(&call);
    assert_true(call.reply.flags & PST_HTTP_REUSED);
    call_fini(&call);
    begin(&call, "GET", "/denied/50000000");
    call_run(&call);
    call_fini(&call);
    begin(&call, "GET", "/empty");
    call_run(&call);
    assert_false(call.reply.flags & PST_HTTP_REUSED);
    call_fini(&call);
    host.http->stats(client, &after);
    assert_true(after.bytes_received - before.bytes_received < 2000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take__long_body_fills_one_span),
        cmocka_unit_test(test_take__a_full_grant_is_followed_by_the_next),
        cmocka_unit_test(test_take__exactly_full_at_the_end_asks_for_nothing),
        cmocka_unit_test(test_take__a_pause_between_grants_loses_and_doubles_nothing),
        cmocka_unit_test(test_pause__resumed_from_inside_accept_asks_again),
        cmocka_unit_test(test_pause__of_a_reply_without_a_body_holds_done_back),
        cmocka_unit_test(test_accept__hears_of_a_head_reply_and_its_length),
        cmocka_unit_test(test_accept__does_not_see_interim_replies),
        cmocka_unit_test(test_accept__a_negative_code_is_what_done_gets),
        cmocka_unit_test(test_take__a_body_longer_than_its_memory_is_data_loss),
        cmocka_unit_test(test_collect__more_than_body_max_is_data_loss),
        cmocka_unit_test(test_collect__a_body_up_to_the_close_is_whole),
        cmocka_unit_test(test_reject__keeps_64_kib_and_says_that_more_came),
        cmocka_unit_test(test_reject__reads_a_short_rest_and_gives_up_a_long_one),
    };
    net_host_open(&host, 1);
    server = server_start(reply_pattern, NULL);
    client = net_client(&host, NULL);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    host.http->client_free(client);
    server_stop(server);
    net_host_close(&host);
    return rc;
}
