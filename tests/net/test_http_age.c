/* Connections that grow old, by a clock of our own: what the net library and libcurl take for now is
 * later by `ahead_ns` than it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "calls.h"
#include "server.h"

#define LONG_NS (200 * INT64_C(1000000000)) /* more than libcurl keeps an idle connection */

static struct net_host host;
static atomic_llong ahead_ns;
static atomic_int is_open;

/* Instead of the C library's: a program comes before it. */
__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *out)
{
    const int rc = (int)syscall(SYS_clock_gettime, id, out);
    if (rc == 0 && id == CLOCK_MONOTONIC) {
        const long long ahead = atomic_load(&ahead_ns);
        out->tv_sec += (time_t)(ahead / 1000000000);
    }
    return rc;
}

/* /half: half of the body, and the rest when the gate is open. Each body is of one letter. */
static int reply(struct conn *c, void *arg)
{
    char body[2000];
    (void)arg;
    memset(body, strstr(c->head, " /half") ? 'h' : 'x', sizeof(body));
    conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", sizeof(body));
    conn_write(c, body, sizeof(body) / 2);
    while (strstr(c->head, " /half") && !atomic_load(&is_open))
        usleep(1000);
    conn_write(c, body + sizeof(body) / 2, sizeof(body) / 2);
    return 1;
}

static pst_http_client *patient_client(void)
{
    const pst_http_config config = {.struct_size = sizeof(config),
                                    .flags = PST_HTTP_NO_PROXY,
                                    .max_connections = 8, /* one loop */
                                    .stall_timeout_ms = 1000000};
    return net_client(&host, &config);
}

static void assert_body(const struct call *call, char letter)
{
    if (call->rc != PST_OK)
        fail_msg("%d: %s", (int)call->rc, call->message);
    assert_int_equal(call->body_len, 2000);
    for (size_t i = 0; i < call->body_len; i++)
        assert_int_equal(call->body[i], letter);
}

/* When libcurl opens the next connection it looks for old ones to close, and the number of a descriptor
 * that it closes goes to the new one. */
static void test_age__of_a_busy_connection_does_not_end_it(void **state)
{
    struct server *server = server_start(reply, NULL);
    pst_http_client *client = patient_client();
    const int32_t take = PST_HTTP_TAKE;
    char memory[2000];
    const pst_iov span = {memory, sizeof(memory)};
    struct call slow, others[3];
    (void)state;
    atomic_store(&is_open, 0);
    call_init(&slow, client, &host, "GET", url_of(server_port(server), "/half"));
    call_accepts(&slow, &take, 1, &span);
    call_send(&slow);
    call_wait_accepts(&slow, 1);
    atomic_fetch_add(&ahead_ns, LONG_NS);
    for (int i = 0; i < 3; i++) {
        call_init(&others[i], client, &host, "GET", url_of(server_port(server), "/x"));
        call_send(&others[i]);
    }
    for (int i = 0; i < 3; i++) {
        call_wait(&others[i]);
        assert_body(&others[i], 'x');
        call_fini(&others[i]);
    }
    atomic_store(&is_open, 1);
    call_wait(&slow);
    if (slow.rc != PST_OK)
        fail_msg("%d: %s", (int)slow.rc, slow.message);
    assert_int_equal(slow.reply.n_taken, sizeof(memory));
    for (size_t i = 0; i < sizeof(memory); i++)
        assert_int_equal(memory[i], 'h');
    call_fini(&slow);
    host.http->client_free(client);
    server_stop(server);
}

static void test_age__of_an_idle_connection_ends_it(void **state)
{
    struct server *server = server_start(reply, NULL);
    pst_http_client *client = patient_client();
    pst_http_stats stats = {.struct_size = sizeof(stats)};
    struct call call;
    (void)state;
    for (int i = 0; i < 4; i++) {
        if (i == 2)
            atomic_fetch_add(&ahead_ns, LONG_NS);
        call_init(&call, client, &host, "GET", url_of(server_port(server), "/x"));
        call_run(&call);
        assert_body(&call, 'x');
        assert_int_equal((call.reply.flags & PST_HTTP_REUSED) != 0, i % 2);
        call_fini(&call);
    }
    assert_int_equal(server_connections(server), 2);
    host.http->stats(client, &stats);
    assert_int_equal(stats.n_open, 1);
    host.http->client_free(client);
    server_stop(server);
}

/* ... in an origin that nobody asks any more, too. */
static void test_age__of_an_idle_connection_ends_it_without_another_request(void **state)
{
    struct server *servers[] = {server_start(reply, NULL), server_start(reply, NULL)};
    pst_http_client *client = patient_client();
    pst_http_stats stats = {.struct_size = sizeof(stats)};
    struct call call;
    (void)state;
    for (int i = 0; i < 2; i++) {
        call_init(&call, client, &host, "GET", url_of(server_port(servers[i]), "/x"));
        call_run(&call);
        assert_body(&call, 'x');
        call_fini(&call);
        if (i == 0)
            atomic_fetch_add(&ahead_ns, LONG_NS);
    }
    host.http->stats(client, &stats);
    assert_int_equal(stats.opened, 2);
    assert_int_equal(stats.n_open, 1);
    host.http->client_free(client);
    server_stop(servers[0]);
    server_stop(servers[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_age__of_a_busy_connection_does_not_end_it),
        cmocka_unit_test(test_age__of_an_idle_connection_ends_it),
        cmocka_unit_test(test_age__of_an_idle_connection_ends_it_without_another_request),
    };
    net_host_open(&host, 2);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    net_host_close(&host);
    return rc;
}
