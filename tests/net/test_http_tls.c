/* TLS: who is trusted, who is not, and what a handshake leaves for the next. The certificates are made
 * by openssl when the test begins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "calls.h"
#include "scratch.h"
#include "server.h"

static struct net_host host;
static char *dir;
static char ca[256], cert[256], key[256], other_ca[256], client_cert[256], client_key[256];

static void run_command(const char *command)
{
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

static void make_ca(const char *name)
{
    char command[2048];
    snprintf(command, sizeof(command),
             "cd '%s' && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
             "-keyout %s.key -out %s.pem -days 2 -subj '/CN=%s' 2>/dev/null",
             dir, name, name, name);
    run_command(command);
}

static void make_cert(const char *name, const char *subject, const char *alt)
{
    char command[2048];
    snprintf(command, sizeof(command),
             "cd '%s' && printf 'subjectAltName=%s\\n' >%s.ext && openssl req -newkey ec -pkeyopt "
             "ec_paramgen_curve:P-256 -nodes -keyout %s.key -out %s.csr -subj '/CN=%s' 2>/dev/null "
             "&& openssl x509 -req -in %s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
             "-extfile %s.ext -out %s.pem 2>/dev/null",
             dir, alt, name, name, name, subject, name, name, name);
    run_command(command);
}

static int make_all(void **state)
{
    char command[1024];
    if (scratch_setup(state) != 0)
        return -1;
    dir = *state;
    make_ca("ca");
    make_ca("other");
    make_cert("server", "server", "IP:127.0.0.1");
    make_cert("client", "client", "DNS:client");
    snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
    snprintf(other_ca, sizeof(other_ca), "%s/other.pem", dir);
    snprintf(cert, sizeof(cert), "%s/server.pem", dir);
    snprintf(key, sizeof(key), "%s/server.key", dir);
    snprintf(client_cert, sizeof(client_cert), "%s/client.pem", dir);
    snprintf(client_key, sizeof(client_key), "%s/client.key", dir);
    snprintf(command, sizeof(command),
             "mkdir '%s/hashed' && cp '%s' '%s/hashed/' && openssl rehash '%s/hashed'", dir, ca,
             dir, dir);
    run_command(command);
    net_host_open(&host, 1);
    return 0;
}

static int drop_all(void **state)
{
    net_host_close(&host);
    return scratch_teardown(state);
}

static int say_ok(struct conn *c, void *arg)
{
    (void)arg;
    if (!conn_read_body(c))
        return 0;
    conn_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\nok", c->body_len + 2);
    conn_write(c, c->body, c->body_len);
    return strstr(c->head, " /close") == NULL;
}

static void run(const pst_http_config *config, const char *address, struct server *server,
                const char *path, struct call *call)
{
    pst_http_client *client = net_client(&host, config);
    char url[128];
    snprintf(url, sizeof(url), "https://%s:%u%s", address, server_port(server), path);
    call_init(call, client, &host, "GET", url);
    call_run(call);
    call_fini(call);
    host.http->client_free(client);
}

static pst_http_config trusting(const char *file, const char *folder)
{
    pst_http_config config = {.struct_size = sizeof(config), .flags = PST_HTTP_NO_PROXY};
    if (file)
        config.ca_file = pst_str_of(file, strlen(file));
    if (folder)
        config.ca_dir = pst_str_of(folder, strlen(folder));
    return config;
}

static void test_tls__a_private_ca_is_trusted_by_file_folder_and_environment(void **state)
{
    struct server *server = server_start_tls(cert, key, NULL, say_ok, NULL);
    char folder[300];
    struct call call;
    (void)state;
    snprintf(folder, sizeof(folder), "%s/hashed", dir);
    pst_http_config config = trusting(ca, NULL);
    run(&config, "127.0.0.1", server, "/", &call);
    if (call.rc != PST_OK)
        fail_msg("%s", call.message);
    config = trusting(NULL, folder);
    run(&config, "127.0.0.1", server, "/", &call);
    assert_int_equal(call.rc, PST_OK);
    config = trusting(NULL, NULL);
    setenv("SSL_CERT_FILE", ca, 1);
    run(&config, "127.0.0.1", server, "/", &call);
    unsetenv("SSL_CERT_FILE");
    assert_int_equal(call.rc, PST_OK);
    setenv("SSL_CERT_DIR", folder, 1);
    run(&config, "127.0.0.1", server, "/", &call);
    unsetenv("SSL_CERT_DIR");
    assert_int_equal(call.rc, PST_OK);
    server_stop(server);
}

static void expect_untrusted(const pst_http_config *config, const char *address,
                             struct server *server, const char *words)
{
    struct call call;
    run(config, address, server, "/?X-Amz-Signature=abc", &call);
    if (call.rc != PST_E_UNAVAILABLE || call.reply.failed_at != PST_HTTP_AT_TLS ||
        !strstr(call.message, words) || strstr(call.message, "abc") ||
        strstr(call.message, address) != call.message)
        fail_msg("%d at %u: %s", (int)call.rc, call.reply.failed_at, call.message);
    assert_false(call.reply.flags & PST_HTTP_MAY_BE_SENT);
}

static void test_tls__another_ca_name_or_no_file_at_all_is_refused(void **state)
{
    struct server *server = server_start_tls(cert, key, NULL, say_ok, NULL);
    char missing[300];
    (void)state;
    pst_http_config config = trusting(NULL, NULL);
    expect_untrusted(&config, "127.0.0.1", server, "certificate");
    config = trusting(other_ca, NULL);
    expect_untrusted(&config, "127.0.0.1", server, "certificate");
    config = trusting(ca, NULL);
    expect_untrusted(&config, "localhost", server, "localhost");
    snprintf(missing, sizeof(missing), "%s/missing.pem", dir);
    config = trusting(missing, NULL);
    expect_untrusted(&config, "127.0.0.1", server, missing);
    server_stop(server);
}

static void test_tls__a_client_certificate_is_shown_where_it_is_asked_for(void **state)
{
    struct server *server = server_start_tls(cert, key, ca, say_ok, NULL);
    struct call call;
    (void)state;
    pst_http_config config = trusting(ca, NULL);
    run(&config, "127.0.0.1", server, "/", &call);
    assert_int_equal(call.rc, PST_E_UNAVAILABLE);
    config.client_cert = pst_str_of(client_cert, strlen(client_cert));
    config.client_key = pst_str_of(client_key, strlen(client_key));
    run(&config, "127.0.0.1", server, "/", &call);
    if (call.rc != PST_OK)
        fail_msg("%s", call.message);
    server_stop(server);
}

static void test_tls__sessions_are_taken_up_again_and_time_is_counted(void **state)
{
    struct server *server = server_start_tls(cert, key, NULL, say_ok, NULL);
    const pst_http_config config = trusting(ca, NULL);
    pst_http_client *client = net_client(&host, &config);
    pst_http_stats stats = {.struct_size = sizeof(stats)};
    char url[128];
    struct call call;
    (void)state;
    snprintf(url, sizeof(url), "https://127.0.0.1:%u/close", server_port(server));
    for (int i = 0; i < 20; i++) {
        call_init(&call, client, &host, "GET", url);
        call_run(&call);
        if (call.rc != PST_OK)
            fail_msg("%d: %s", i, call.message);
        call_fini(&call);
    }
    host.http->stats(client, &stats);
    assert_true(stats.tls_ns > 0);
    assert_true(server_resumptions(server) > 0);
    host.http->client_free(client);
    server_stop(server);
}

static void test_tls__a_large_body_goes_and_comes_whole(void **state)
{
    struct server *server = server_start_tls(cert, key, NULL, say_ok, NULL);
    const pst_http_config config = trusting(ca, NULL);
    pst_http_client *client = net_client(&host, &config);
    const size_t len = 5000000;
    char *out = malloc(len);
    char *in = malloc(len + 2);
    const pst_iov body = {out, len}, span = {in, len + 2};
    const int32_t take = PST_HTTP_TAKE;
    char url[128];
    struct call call;
    (void)state;
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(i * 11 + (i >> 9));
    snprintf(url, sizeof(url), "https://127.0.0.1:%u/", server_port(server));
    call_init(&call, client, &host, "PUT", url);
    call.request.body = &body;
    call.request.n_body = 1;
    call_accepts(&call, &take, 1, &span);
    call_run(&call);
    assert_int_equal(call.rc, PST_OK);
    assert_int_equal(call.reply.n_taken, len + 2);
    assert_memory_equal(in + 2, out, len);
    call_fini(&call);
    free(in);
    free(out);
    host.http->client_free(client);
    server_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls__a_private_ca_is_trusted_by_file_folder_and_environment),
        cmocka_unit_test(test_tls__another_ca_name_or_no_file_at_all_is_refused),
        cmocka_unit_test(test_tls__a_client_certificate_is_shown_where_it_is_asked_for),
        cmocka_unit_test(test_tls__sessions_are_taken_up_again_and_time_is_counted),
        cmocka_unit_test(test_tls__a_large_body_goes_and_comes_whole),
    };
    return cmocka_run_group_tests(tests, make_all, drop_all);
}
