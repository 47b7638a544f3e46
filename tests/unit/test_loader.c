#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <penstock/plugins.h>

#include "core/loader.h"
#include "scratch.h"
#include "torture.h"

static const pst_host host = {
    .struct_size = sizeof(host), .abi_major = PST_ABI_MAJOR, .abi_minor = PST_ABI_MINOR};

static const char *plugin(const char *name)
{
    char file[64];

    snprintf(file, sizeof(file), "%s.so", name);
    return scratch_path(UNIT_PLUGINS, file);
}

static struct pst_loaded *open_plugin(const char *name)
{
    pst_error err = PST_ERROR_INIT;
    struct pst_loaded *loaded = NULL;

    if (pst_loader_open(plugin(name), &host, &loaded, &err) != PST_OK)
        fail_msg("%s", err.message);
    return loaded;
}

static void assert_path_refused(const char *path, const char *needle)
{
    pst_error err = PST_ERROR_INIT;
    struct pst_loaded *loaded = NULL;

    assert_int_equal(pst_loader_open(path, &host, &loaded, &err), PST_E_BAD_PLUGIN);
    assert_null(loaded);
    assert_int_equal(err.code, PST_E_BAD_PLUGIN);
    if (!strstr(err.message, needle))
        fail_msg("'%s' is not in '%s'", needle, err.message);
    const char *first = strstr(err.message, path);
    assert_non_null(first);
    assert_null(strstr(first + 1, path)); /* named once */
    assert_null(strchr(err.message, '\n'));
    assert_int_equal(pst_loader_open(path, &host, &loaded, NULL), PST_E_BAD_PLUGIN);
}

static void assert_refused(const char *name, const char *needle)
{
    assert_path_refused(plugin(name), needle);
}

/* ---- what is good ----------------------------------------------------------------------------- */

static void test_loader__copies_every_table(void **state)
{
    struct pst_loaded *l = open_plugin("plain");

    (void)state;
    assert_string_equal(l->id, "plain");
    assert_string_equal(l->plugin.version, "1.2.3");
    assert_int_equal(l->caps, PST_CAP_READ | PST_CAP_STAT);
    assert_ptr_equal(l->plugin.ops, &l->ops);
    assert_ptr_equal(l->plugin.limits, &l->limits);
    assert_ptr_equal(l->plugin.options, l->options);
    assert_int_equal(l->limits.key_max, 1024);
    assert_non_null(l->ops.read);
    assert_null(l->ops.put);
    assert_int_equal(l->n_options, 4);
    assert_string_equal(l->options[1].name, "token");
    assert_string_equal(l->options[1].doc, ""); /* NULL in the plugin */
    assert_null(l->options[1].fallback);
    pst_loader_free(l);
}

static void test_loader__maps_the_library_for_good(void **state)
{
    (void)state;
    pst_loader_free(open_plugin("plain"));
    assert_true(scratch_is_mapped(plugin("plain")));
}

static void test_loader__smaller_struct_gives_null_for_what_it_lacks(void **state)
{
    struct pst_loaded *l = open_plugin("smaller");

    (void)state;
    /* Behind its end lies a pointer that must not be taken for shutdown. */
    assert_null(l->plugin.shutdown);
    assert_null(l->plugin.fork_child);
    assert_null(l->plugin.query);
    assert_non_null(l->plugin.store_open);
    assert_int_equal(l->plugin.struct_size, sizeof(pst_plugin));
    pst_loader_free(l);
}

static void test_loader__larger_struct_loses_its_tail_and_unknown_capabilities(void **state)
{
    struct pst_loaded *l = open_plugin("larger");
    struct {
        struct pst_loaded copy;
    } whole;

    (void)state;
    whole.copy = *l;
    assert_int_equal(l->plugin.struct_size, sizeof(pst_plugin));
    assert_int_equal(l->ops.struct_size, sizeof(pst_backend_ops));
    assert_int_equal(l->limits.struct_size, sizeof(pst_limits));
    assert_int_equal(l->caps, PST_CAP_READ | PST_CAP_STAT);
    assert_int_equal(l->plugin.caps, l->caps);
    /* The members that follow the copies were not run over. */
    assert_ptr_equal(whole.copy.plugin.ops, &l->ops);
    assert_int_equal(whole.copy.n_options, 4);
    pst_loader_free(l);
}

static void test_loader__newer_minor_is_taken(void **state)
{
    struct pst_loaded *l = open_plugin("new_minor");

    (void)state;
    assert_int_equal(l->plugin.abi_minor, 10);
    pst_loader_free(l);
}

/* ---- what is not a plugin --------------------------------------------------------------------- */

static void test_loader__missing_file_is_one_line(void **state)
{
    assert_path_refused(scratch_path(*state, "none.so"), "none.so: No such file");
}

static void test_loader__text_file_is_refused(void **state)
{
    const char *path = scratch_path(*state, "text.so");

    scratch_write(path, "this is not ELF, however long it may be; it only looks like a library");
    assert_path_refused(path, "cannot be loaded: ");
}

static void test_loader__library_cut_anywhere_is_one_line(void **state)
{
    struct stat st;
    char name[32];

    assert_int_equal(stat(plugin("plain"), &st), 0);
    for (unsigned i = 0; i < 64; i++) {
        snprintf(name, sizeof(name), "cut%u.so", i);
        const char *path = scratch_path(*state, name);
        scratch_copy_head(plugin("plain"), path, (size_t)st.st_size * i / 64);
        assert_path_refused(path, i < 1 ? "file too short" : "the file is cut");
    }
    const char *path = scratch_path(*state, "last.so");
    scratch_copy_head(plugin("plain"), path, (size_t)st.st_size - 1);
    assert_path_refused(path, "the file is cut");
    scratch_copy_head(plugin("plain"), path, 40); /* within the first header */
    assert_path_refused(path, "cannot be loaded: ");
}

static void test_loader__library_without_the_entry_is_refused(void **state)
{
    (void)state;
    assert_refused("no_entry", "not a Penstock plugin: it does not export pst_plugin_open_1");
}

static void test_loader__entry_of_the_next_major_is_told_as_that(void **state)
{
    (void)state;
    assert_refused("next_major", "wrong ABI major: it exports pst_plugin_open_2");
}

static void test_loader__entry_that_refuses_is_quoted_on_one_line(void **state)
{
    (void)state;
    assert_refused("refuses", "its entry answers permission denied: no licence file\\nin sight");
}

/* ---- tables that are wrong -------------------------------------------------------------------- */

static void test_loader__abi_out_of_range_is_refused(void **state)
{
    (void)state;
    assert_refused("wrong_major", "ABI 7.0 has the wrong major, this host takes 1.0 and up");
}

static void test_loader__absent_tables_and_functions_are_refused(void **state)
{
    (void)state;
    assert_refused("no_table", "the entry returned no table");
    assert_refused("no_open", "store_open is NULL");
    assert_refused("no_info", "slots info and close are required");
}

static void test_loader__cut_tables_are_refused(void **state)
{
    (void)state;
    assert_refused("tiny_plugin", "struct_size 4 of its plugin table cannot be right");
    assert_refused("short_plugin", "of its plugin table is too small or cut");
    assert_refused("cut_plugin", "of its plugin table is too small or cut");
    assert_refused("short_ops", "struct_size of its ops table is too small or cut");
    assert_refused("huge_ops", "struct_size of its ops table is too small or cut");
    assert_refused("short_limits", "struct_size of its limits is too small or cut");
    assert_refused("short_stride", "option_stride is wrong");
}

static void test_loader__capability_without_its_slot_is_refused(void **state)
{
    (void)state;
    assert_refused("null_slot", "declares capability 'put' but its slot 'put' is NULL");
    assert_refused("null_list", "declares capability 'list' but its slot 'list' is NULL");
    assert_refused("no_caps", "no capability that this host knows");
}

static void test_loader__values_out_of_range_are_refused(void **state)
{
    (void)state;
    assert_refused("no_threads", "'threads' is neither serial nor parallel");
    assert_refused("big_scratch", "op_scratch is 4097, the most is 4096");
    assert_refused("bad_id", "'id' is 'Plain Plugin'");
    assert_refused("bad_scheme", "'Plain' is not a scheme in lower case");
    assert_refused("twin_option", "option 'mode' is there twice");
    assert_refused("bad_default", "option 'n': 'ten' is not a whole number");
}

/* ---- its manifest ----------------------------------------------------------------------------- */

static void test_loader__manifest_of_a_library_describes_it(void **state)
{
    pst_error err = PST_ERROR_INIT;
    struct pst_manifest m, says;
    struct pst_loaded *l = open_plugin("plain");
    char *json = NULL;

    (void)state;
    if (pst_plugins_manifest(plugin("plain"), &json, &err) != PST_OK)
        fail_msg("%s", err.message);
    assert_int_equal(pst_manifest_parse("x", json, strlen(json), &m, &err), PST_OK);
    assert_string_equal(m.library, "plain.so");
    pst_loader_describe(l, "plain.so", &says);
    if (pst_manifest_compare(&m, "x", &says, "y", &err) != PST_OK)
        fail_msg("%s", err.message);
    pst_manifest_fini(&m);
    pst_loader_free(l);
    free(json);
}

static void test_loader__manifest_keeps_the_name_it_was_asked_by(void **state)
{
    pst_error err = PST_ERROR_INIT;
    char *json = NULL;
    char *cwd = getcwd(NULL, 0);

    /* A bare name is of this folder, and is not looked for where libraries are. */
    assert_int_equal(symlink(plugin("plain"), scratch_path(*state, "link.so")), 0);
    assert_int_equal(chdir(*state), 0);
    pst_rc rc = pst_plugins_manifest("link.so", &json, &err);
    assert_int_equal(chdir(cwd), 0);
    free(cwd);
    if (rc != PST_OK)
        fail_msg("%s", err.message);
    assert_non_null(strstr(json, "\"library\": \"link.so\""));
    free(json);
}

static void test_loader__no_manifest_is_written_of_what_cannot_be_loaded(void **state)
{
    char *json = (char *)1;
    pst_error err = PST_ERROR_INIT;

    (void)state;
    assert_int_equal(pst_plugins_manifest(plugin("wrong_major"), &json, &err), PST_E_BAD_PLUGIN);
    assert_null(json);
    assert_int_equal(pst_plugins_manifest(plugin("nowhere"), &json, &err), PST_E_BAD_PLUGIN);
    assert_non_null(strstr(err.message, "nowhere.so: No such file"));
    assert_int_equal(pst_plugins_manifest("", &json, &err), PST_E_BAD_PLUGIN);
}

/* ---- no memory -------------------------------------------------------------------------------- */

static void test_loader__survives_every_failed_allocation(void **state)
{
    const char *path = plugin("plain");
    unsigned n = 1;

    (void)state;
    pst_loader_free(open_plugin("plain")); /* what the dynamic linker keeps is not ours */
    const long before = torture_live();
    for (;; n++) {
        char *json = NULL;
        torture_arm(n);
        pst_rc rc = pst_plugins_manifest(path, &json, NULL);
        if (!torture_disarm()) {
            assert_int_equal(rc, PST_OK);
            free(json);
            break;
        }
        assert_int_equal(rc, PST_E_NO_MEMORY);
        assert_int_equal(torture_live(), before);
    }
    assert_true(n > 20);
}

int main(void)
{
#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loader__copies_every_table),
        cmocka_unit_test(test_loader__maps_the_library_for_good),
        cmocka_unit_test(test_loader__smaller_struct_gives_null_for_what_it_lacks),
        cmocka_unit_test(test_loader__larger_struct_loses_its_tail_and_unknown_capabilities),
        cmocka_unit_test(test_loader__newer_minor_is_taken),
        IN_SCRATCH(test_loader__missing_file_is_one_line),
        IN_SCRATCH(test_loader__text_file_is_refused),
        IN_SCRATCH(test_loader__library_cut_anywhere_is_one_line),
        cmocka_unit_test(test_loader__library_without_the_entry_is_refused),
        cmocka_unit_test(test_loader__entry_of_the_next_major_is_told_as_that),
        cmocka_unit_test(test_loader__entry_that_refuses_is_quoted_on_one_line),
        cmocka_unit_test(test_loader__abi_out_of_range_is_refused),
        cmocka_unit_test(test_loader__absent_tables_and_functions_are_refused),
        cmocka_unit_test(test_loader__cut_tables_are_refused),
        cmocka_unit_test(test_loader__capability_without_its_slot_is_refused),
        cmocka_unit_test(test_loader__values_out_of_range_are_refused),
        cmocka_unit_test(test_loader__manifest_of_a_library_describes_it),
        IN_SCRATCH(test_loader__manifest_keeps_the_name_it_was_asked_by),
        cmocka_unit_test(test_loader__no_manifest_is_written_of_what_cannot_be_loaded),
        cmocka_unit_test(test_loader__survives_every_failed_allocation),
    };

    torture_jansson();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
