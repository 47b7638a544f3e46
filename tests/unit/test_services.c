/* The network library from a host's side: who reads files never maps it, who asks for a service does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_services__who_reads_and_writes_files_maps_neither_curl_nor_openssl, scratch_setup,
            scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
