/* Presets: which store is opened, with which options. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <penstock/plugin.h>
#include <penstock/store.h>

#include "core/static_plugins.h"
#include "torture.h"

/* A plugin that serves three schemes and notes how it was opened. Of the preset it knows one option. */
static struct {
    int n_opens;
    char scheme[16], options[256];
} seen;

static const pst_limits limits = {.struct_size = sizeof(limits)};
static const pst_option options[] = {
    {.type = PST_OPT_INT, .name = "queue_depth", .fallback = "3", .doc = "-"},
    {.type = PST_OPT_STRING, .name = "own", .doc = "-"},
};

static pst_rc probe_open(const pst_host *host, const pst_open_args *args, pst_backend **out,
                         pst_error *err)
{
    size_t n = 0;

    (void)host;
    (void)err;
    seen.n_opens++;
    snprintf(seen.scheme, sizeof(seen.scheme), "%.*s", (int)args->scheme.len, args->scheme.ptr);
    seen.options[0] = '\0';
    for (size_t i = 0; i < args->n_options && n < sizeof(seen.options); i++)
        n += (size_t)snprintf(seen.options + n, sizeof(seen.options) - n, "%.*s=%.*s ",
                              (int)args->options[i].key.len, args->options[i].key.ptr,
                              (int)args->options[i].value.len, args->options[i].value.ptr);
    *out = (pst_backend *)&seen;
    return PST_OK;
}

static void probe_info(pst_backend *backend, pst_backend_info *info)
{
    (void)backend;
    info->endpoint = info->note = "";
}

static pst_rc probe_read(pst_backend *backend, pst_op *op, const pst_read_args *args,
                         pst_read_result *result)
{
    (void)backend;
    (void)op;
    (void)args;
    (void)result;
    return PST_E_NOT_FOUND;
}

static void probe_cancel(pst_backend *backend, pst_op *op)
{
    (void)backend;
    (void)op;
}

static void probe_close(pst_backend *backend)
{
    (void)backend;
}

static const pst_backend_ops ops = {
    .struct_size = sizeof(ops),
    .read = probe_read,
    .cancel = probe_cancel,
    .info = probe_info,
    .close = probe_close,
};
static const char *const schemes[] = {"direct", "file", "other", NULL};
static const pst_plugin plugin = {
    .struct_size = sizeof(plugin),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = PST_CAP_READ,
    .threads = PST_THREADS_PARALLEL,
    .id = "probe",
    .version = "1",
    .vendor = "-",
    .license = "-",
    .schemes = schemes,
    .limits = &limits,
    .options = options,
    .option_stride = sizeof(options[0]),
    .n_options = 2,
    .ops = &ops,
    .store_open = probe_open,
};

static pst_rc probe_entry(const pst_host *host, const pst_plugin **out, pst_error *err)
{
    (void)host;
    (void)err;
    *out = &plugin;
    return PST_OK;
}

const struct pst_static_plugin pst_static_plugins[] = {{"probe", probe_entry}, {NULL, NULL}};

static int setup(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_context *context;

    if (pst_context_new(NULL, &context, &err) != PST_OK)
        return -1;
    *state = context;
    memset(&seen, 0, sizeof(seen));
    return 0;
}

static int teardown(void **state)
{
    pst_context_free(*state);
    return 0;
}

static void open_fast(void **state, const char *uri, const pst_kv *given, size_t n)
{
    pst_error err = PST_ERROR_INIT;
    pst_store *store;

    pst_rc rc = pst_store_open_high_performance(*state, pst_str_of(uri, strlen(uri)), given, n,
                                                &store, &err);
    if (rc != PST_OK)
        fail_msg("%s", err.message);
    pst_store_free(store);
}

static void test_preset__a_local_path_becomes_direct(void **state)
{
    open_fast(state, "file:///a/b", NULL, 0);
    assert_string_equal(seen.scheme, "direct");
    open_fast(state, "FILE:///a/b", NULL, 0);
    assert_string_equal(seen.scheme, "direct");
}

static void test_preset__options_that_the_plugin_knows_are_set(void **state)
{
    open_fast(state, "direct:///a", NULL, 0);
    assert_string_equal(seen.options, "queue_depth=16 ");
}

static void test_preset__options_of_the_caller_come_first(void **state)
{
    const pst_kv given[] = {{PST_STR("own"), PST_STR("x")}, {PST_STR("queue_depth"), PST_STR("9")}};

    open_fast(state, "file:///a", given, 2);
    assert_string_equal(seen.options, "queue_depth=9 own=x ");
}

static void test_preset__other_schemes_open_as_always(void **state)
{
    open_fast(state, "other://x/a", NULL, 0);
    assert_string_equal(seen.scheme, "other");
    assert_string_equal(seen.options, "queue_depth=3 ");
}

static void test_preset__direct_io_leaves_the_defaults(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_store *store;

    assert_int_equal(pst_store_open_direct_io(*state, PST_STR("file:///a"), NULL, 0, &store, &err),
                     PST_OK);
    assert_string_equal(seen.scheme, "direct");
    assert_string_equal(seen.options, "queue_depth=3 ");
    pst_store_free(store);
}

static void test_preset__what_is_no_uri_is_refused(void **state)
{
    pst_error err = PST_ERROR_INIT;
    pst_store *store = (pst_store *)&err;

    assert_int_equal(pst_store_open_direct_io(*state, PST_STR("a/b"), NULL, 0, &store, &err),
                     PST_E_INVALID);
    assert_null(store);
    assert_int_equal(seen.n_opens, 0);
}

static void test_preset__memory_may_run_out_anywhere(void **state)
{
    open_fast(state, "file:///a", NULL, 0); /* what is made once */
    for (unsigned n = 1;; n++) {
        pst_error err = PST_ERROR_INIT;
        pst_store *store = NULL;
        torture_arm(n);
        pst_rc rc = pst_store_open_high_performance(*state, PST_STR("file:///a"), NULL, 0, &store,
                                                    &err);
        if (!torture_disarm()) {
            assert_int_equal(rc, PST_OK);
            pst_store_free(store);
            break;
        }
        assert_true(rc == PST_OK || rc == PST_E_NO_MEMORY);
        pst_store_free(store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_preset__a_local_path_becomes_direct, setup, teardown),
        cmocka_unit_test_setup_teardown(test_preset__options_that_the_plugin_knows_are_set, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_preset__options_of_the_caller_come_first, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_preset__other_schemes_open_as_always, setup, teardown),
        cmocka_unit_test_setup_teardown(test_preset__direct_io_leaves_the_defaults, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_preset__what_is_no_uri_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_preset__memory_may_run_out_anywhere, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
