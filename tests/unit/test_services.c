/* The network library from a host's side: who reads files never maps it, who asks for a service does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <penstock/penstock.h>
#include <penstock/services.h>

#include "scratch.h"

static int is_network_mapped(void)
{
    return scratch_is_mapped("penstock-net") || scratch_is_mapped("curl") ||
           scratch_is_mapped("libssl") || scratch_is_mapped("libcrypto");
}

static void test_services__who_reads_and_writes_files_maps_neither_curl_nor_openssl(void **state)
{
    const char *dirs[] = {getenv("PST_TEST_PLUGINS"), NULL};
    const pst_context_options options = {.struct_size = sizeof(options), .plugin_dirs = dirs};
    char uri[4096], name[4096];
    pst_context *context = NULL;
    pst_store *store = NULL;
    pst_buffer *buffer = NULL;
    pst_error err = PST_ERROR_INIT;
    char text[] = "some bytes";
    const pst_iov src = {text, sizeof(text)};
    const char *folder = *state;
    snprintf(uri, sizeof(uri), "file://%s/", folder);
    snprintf(name, sizeof(name), "%s/object", folder + 1);
    const pst_str key = pst_str_of(name, strlen(name));
    assert_int_equal(pst_context_new(&options, &context, &err), PST_OK);
    if (pst_store_open(context, pst_str_of(uri, strlen(uri)), NULL, 0, &store, &err) != PST_OK)
        fail_msg("%s", err.message);
    if (pst_put(store, key, &src, 1, NULL, NULL, NULL, &err) != PST_OK ||
        pst_get(store, key, NULL, NULL, &buffer, NULL, &err) != PST_OK)
        fail_msg("%s", err.message);
    assert_int_equal(pst_buffer_size(buffer), sizeof(text));
    pst_buffer_unref(buffer);
    assert_false(is_network_mapped());
    pst_store_free(store);
    pst_context_free(context);
    assert_false(is_network_mapped());
}

static void print_log(const pst_host *host, uint32_t level, const char *plugin_id, const char *utf8)
{
    (void)host;
    (void)level;
    print_error("%s: %s\n", plugin_id, utf8);
}

static const pst_host host = {.struct_size = sizeof(host), .log = print_log};

static void test_services__a_host_of_its_own_has_http_and_cryptography(void **state)
{
    static const uint8_t wanted[4] = {0xba, 0x78, 0x16, 0xbf};
    char text[] = "abc";
    const pst_iov data = {text, 3};
    uint8_t out[32];
    pst_services *services = NULL;
    (void)state;
    assert_int_equal(pst_services_new(&host, &services, NULL), PST_OK);
    assert_false(is_network_mapped());
    const pst_crypto_1 *crypto = pst_services_find(services, "crypto/1");
    assert_non_null(crypto);
    assert_int_equal(crypto->digest(&host, PST_DIGEST_SHA256, &data, 1, out), PST_OK);
    assert_memory_equal(out, wanted, sizeof(wanted));
    assert_non_null(pst_services_find(services, "http/1"));
    assert_null(pst_services_find(services, "cred/1")); /* a host that has it answers by itself */
    assert_true(is_network_mapped());
    pst_services_free(services);
}

static pst_http_client *make_client(pst_services *services, const pst_http_1 **http)
{
    const pst_http_config config = {.struct_size = sizeof(config)};
    pst_http_client *client = NULL;
    pst_error err = PST_ERROR_INIT;
    *http = pst_services_find(services, "http/1");
    return *http && (*http)->client_new(&host, &config, &client, &err) == PST_OK ? client : NULL;
}

static void test_services__a_fork_child_makes_services_of_its_own(void **state)
{
    const pst_http_1 *http = NULL;
    pst_services *services = NULL;
    int status = 0;
    (void)state;
    assert_int_equal(pst_services_new(&host, &services, NULL), PST_OK);
    pst_http_client *client = make_client(services, &http);
    assert_non_null(client);
    pid_t pid = fork();
    if (pid == 0) {
        pst_services *own = NULL;
        alarm(5);
        pst_services_free(services); /* the parent's: left alone */
        int is_good = pst_services_new(&host, &own, NULL) == PST_OK;
        client = is_good ? make_client(own, &http) : NULL;
        if (client)
            http->client_free(client);
        pst_services_free(own);
        syscall(SYS_exit_group, client ? 0 : 1); /* past the checkers of leaks */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    http->client_free(client);
    pst_services_free(services);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_services__who_reads_and_writes_files_maps_neither_curl_nor_openssl, scratch_setup,
            scratch_teardown),
        cmocka_unit_test(test_services__a_host_of_its_own_has_http_and_cryptography),
        cmocka_unit_test(test_services__a_fork_child_makes_services_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
