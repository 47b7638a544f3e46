/* How the network library is found, checked and refused. This program has none beside itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/net.h"
#include "scratch.h"
#include "util/net_abi.h"

static struct {
    int n;
    char line[1024];
} logged;

static void note_log(const pst_host *host, uint32_t level, const char *plugin_id, const char *utf8)
{
    (void)host;
    (void)plugin_id;
    assert_int_equal(level, PST_LOG_ERROR);
    logged.n++;
    snprintf(logged.line, sizeof(logged.line), "%s", utf8);
}

static const pst_host host = {.struct_size = sizeof(host), .log = note_log};

static pst_services *make(void)
{
    pst_services *services = NULL;
    memset(&logged, 0, sizeof(logged));
    assert_int_equal(pst_services_new(&host, &services, NULL), PST_OK);
    return services;
}

static void test_net__another_name_is_answered_without_loading_anything(void **state)
{
    pst_services *services = make();
    (void)state;
    assert_null(pst_services_find(services, "http/2"));
    assert_null(pst_services_find(services, "http"));
    assert_null(pst_services_find(services, ""));
    assert_int_equal(logged.n, 0);
    assert_string_equal(pst_services_failure(services), "");
    pst_services_free(services);
}

static void test_net__a_library_that_is_not_there_is_told_once_and_remembered(void **state)
{
    pst_services *services = make();
    (void)state;
    assert_null(pst_services_find(services, "http/1"));
    assert_null(pst_services_find(services, "crypto/1"));
    assert_int_equal(logged.n, 1);
    assert_non_null(strstr(logged.line, "/lib/libpenstock-net.so"));
    assert_string_equal(pst_services_failure(services), logged.line);
    pst_services_free(services);
}

static void test_net__services_that_were_shut_down_load_nothing(void **state)
{
    pst_services *services = make();
    (void)state;
    assert_int_equal(pst_services_shutdown(services, 0), 1);
    assert_null(pst_services_find(services, "http/1"));
    assert_int_equal(logged.n, 0);
    pst_services_free(services);
    pst_services_free(NULL);
}

static void test_net__another_build_is_refused_with_both_files_named(void **state)
{
    const struct pst_net *net = NULL;
    pst_error err = PST_ERROR_INIT;
    (void)state;
    assert_int_equal(pst_net_load(UNIT_PLUGINS "/other_net.so", &net, &err), PST_E_BAD_PLUGIN);
    assert_non_null(strstr(err.message, UNIT_PLUGINS "/other_net.so"));
    assert_non_null(strstr(err.message, "/test_net: built as another-build, not as "));
}

static void test_net__a_file_without_the_entry_is_refused(void **state)
{
    const struct pst_net *net = NULL;
    pst_error err = PST_ERROR_INIT;
    (void)state;
    assert_int_equal(pst_net_load(UNIT_PLUGINS "/plain.so", &net, &err), PST_E_BAD_PLUGIN);
    assert_non_null(strstr(err.message, "plain.so does not export pst_net_open_1"));
}

static void test_net__the_library_of_this_build_is_taken(void **state)
{
    const struct pst_net *net = NULL;
    pst_error err = PST_ERROR_INIT;
    char path[4096];
    (void)state;
    snprintf(path, sizeof(path), "%s/lib/libpenstock-net.so", getenv("PST_TEST_BINARY"));
    assert_int_equal(pst_net_load(path, &net, &err), PST_OK);
    assert_non_null(net);
    assert_true(scratch_is_mapped("libpenstock-net.so"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_net__another_name_is_answered_without_loading_anything),
        cmocka_unit_test(test_net__a_library_that_is_not_there_is_told_once_and_remembered),
        cmocka_unit_test(test_net__services_that_were_shut_down_load_nothing),
        cmocka_unit_test(test_net__another_build_is_refused_with_both_files_named),
        cmocka_unit_test(test_net__a_file_without_the_entry_is_refused),
        cmocka_unit_test(test_net__the_library_of_this_build_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
