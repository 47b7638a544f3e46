/* Signatures, keys and collected bodies are gone from memory that http/1 gives back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <malloc.h>

#include "calls.h"
#include "net/net.h"
#include "server.h"

#define SECRET "wJalrXUtnFEMI"
#define BODY_BYTES ((size_t)200 * 1024)

/* Whatever the library frees goes by here (the linker's --wrap). Looked at are the threads of its loops, and
 * the one that ends them. */
void __real_free(void *memory);
void *__real_realloc(void *memory, size_t size);
void __wrap_free(void *memory);
void *__wrap_realloc(void *memory, size_t size);

static atomic_int n_found, n_looked;
static _Thread_local int is_ending;

static void look(void *memory)
{
    if (!memory || (!pst_loop_here() && !is_ending))
        return;
    atomic_fetch_add(&n_looked, 1);
    if (memmem(memory, malloc_usable_size(memory), SECRET, strlen(SECRET)))
        atomic_fetch_add(&n_found, 1);
}

void __wrap_free(void *memory)
{
    look(memory);
    __real_free(memory);
}

void *__wrap_realloc(void *memory, size_t size)
{
    look(memory);
    return __real_realloc(memory, size);
}

static int give_credentials(struct conn *c, void *arg)
{
    static char body[BODY_BYTES];
    (void)arg;
    for (size_t i = 0; i + strlen(SECRET) < sizeof(body); i += strlen(SECRET))
        memcpy(body + i, SECRET, strlen(SECRET));
    if (conn_is(c, "GET", "/chunked?sig=" SECRET)) {
        conn_printf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n",
                    sizeof(body));
        conn_write(c, body, sizeof(body));
        conn_printf(c, "\r\n0\r\n\r\n");
    } else {
        conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", sizeof(body));
        conn_write(c, body, sizeof(body));
    }
    return 1;
}

static void ask(struct net_host *host, pst_http_client *client, const char *url)
{
    static char wide[20000];
    memset(wide, 'x', sizeof(wide));
    const pst_kv headers[] = {{PST_STR("authorization"), PST_STR(SECRET)},
                              {PST_STR("x-wide"), {wide, sizeof(wide)}}}; /* its head has to grow */
    struct call call;
    call_init(&call, client, host, "GET", url);
    call.request.headers = headers;
    call.request.n_headers = 2;
    call.request.body_max = 1 << 20;
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.body_len, BODY_BYTES);
    call_fini(&call);
}

static void test_memory__given_back_holds_no_secret(void **state)
{
    struct server *server = server_start(give_credentials, NULL);
    struct net_host host;
    (void)state;
    net_host_open(&host, 1);
    pst_http_client *client = net_client(&host, NULL);
    ask(&host, client, url_of(server_port(server), "/?sig=" SECRET));
    ask(&host, client, url_of(server_port(server), "/chunked?sig=" SECRET));
    is_ending = 1;
    host.http->client_free(client);
    net_host_close(&host);
    is_ending = 0;
    server_stop(server);
    assert_true(atomic_load(&n_looked) > 0);
    assert_int_equal(atomic_load(&n_found), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory__given_back_holds_no_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
