#include <errno.h>
#include <fcntl.h>
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

#include "core/discover.h"
#include "core/strict.h"
#include "scratch.h"
#include "torture.h"

/* Only what the test itself puts there: not the plugins of the machine it runs on. */
#define HERE (PST_CONTEXT_ONLY_DIRS)

static void add_plugin(const char *dir, const char *name, const char *id)
{
    char text[512], file[64];

    snprintf(text, sizeof(text),
             "{\"manifest\": 1, \"abi\": \"1.0\", \"id\": \"%s\", \"version\": \"1\","
             " \"library\": \"%s.so\", \"threads\": \"parallel\", \"schemes\": [\"%s\"],"
             " \"caps\": [\"read\"], \"options\": []}",
             id, name, id);
    snprintf(file, sizeof(file), "%s.json", name);
    scratch_write(scratch_path(dir, file), text);
    snprintf(file, sizeof(file), "%s.so", name);
    scratch_write(scratch_path(dir, file), "not really a library");
}

static struct pst_discovery found;

static void discover(uint32_t flags, const char *dir_a, const char *dir_b)
{
    const char *const dirs[] = {dir_a, dir_b, NULL};
    pst_error err = PST_ERROR_INIT;

    assert_int_equal(pst_discover(flags, dirs, &found, &err), PST_OK);
}

static int forget(void **state)
{
    pst_discovery_fini(&found);
    unsetenv("PENSTOCK_PLUGIN_PATH");
    return scratch_teardown(state);
}

static void assert_found(size_t i, const char *id)
{
    assert_true(i < found.n);
    if (found.items[i].reason)
        fail_msg("%s", found.items[i].reason);
    assert_string_equal(found.items[i].manifest.id, id);
}

static void assert_skipped(size_t i, const char *needle)
{
    assert_true(i < found.n);
    assert_non_null(found.items[i].reason);
    if (!strstr(found.items[i].reason, needle))
        fail_msg("'%s' is not in '%s'", needle, found.items[i].reason);
    assert_null(strchr(found.items[i].reason, '\n'));
}

static void test_discover__manifests_come_in_byte_order_with_absolute_paths(void **state)
{
    add_plugin(*state, "b", "b");
    add_plugin(*state, "a0", "a0");
    add_plugin(*state, "a-b", "ab");
    discover(HERE, *state, NULL);
    assert_int_equal(found.n, 3);
    assert_found(0, "ab");
    assert_found(1, "a0");
    assert_found(2, "b");
    assert_string_equal(found.items[2].manifest_path, scratch_path(*state, "b.json"));
    assert_string_equal(found.items[2].library_path, scratch_path(*state, "b.so"));
}

static void test_discover__folders_are_searched_in_the_order_given(void **state)
{
    add_plugin(scratch_mkdir(*state, "one"), "z", "z");
    add_plugin(scratch_mkdir(*state, "two"), "a", "a");
    discover(HERE, scratch_path(*state, "one"), scratch_path(*state, "two"));
    assert_int_equal(found.n, 2);
    assert_found(0, "z");
    assert_found(1, "a");
}

static void test_discover__a_folder_is_searched_once_under_all_its_names(void **state)
{
    add_plugin(scratch_mkdir(*state, "one"), "a", "a");
    assert_int_equal(symlink("one", scratch_path(*state, "link")), 0);
    discover(HERE, scratch_path(*state, "link"), scratch_path(*state, "one/../one/"));
    assert_int_equal(found.n, 1);
    assert_string_equal(found.items[0].manifest_path, scratch_path(*state, "one/a.json"));
}

static void test_discover__other_files_are_no_manifests(void **state)
{
    add_plugin(*state, "a", "a");
    scratch_write(scratch_path(*state, ".hidden.json"), "x");
    scratch_write(scratch_path(*state, "a.json.tmp"), "x");
    scratch_write(scratch_path(*state, ".json"), "x");
    scratch_write(scratch_path(*state, "ajson"), "x");
    discover(HERE, *state, NULL);
    assert_int_equal(found.n, 1);
}

static void test_discover__one_bad_manifest_does_not_hide_the_others(void **state)
{
    add_plugin(*state, "a", "a");
    scratch_write(scratch_path(*state, "b.json"), "{\"manifest\": ");
    add_plugin(*state, "c", "c");
    discover(HERE, *state, NULL);
    assert_int_equal(found.n, 3);
    assert_found(0, "a");
    assert_skipped(1, "b.json: line 1");
    assert_found(2, "c");
}

static void test_discover__manifest_that_is_a_pipe_is_skipped_without_waiting(void **state)
{
    assert_int_equal(mkfifo(scratch_path(*state, "p.json"), 0600), 0);
    discover(HERE, *state, NULL);
    assert_int_equal(found.n, 1);
    assert_skipped(0, "p.json: not a regular file");
}

static void test_discover__missing_library_is_the_reason(void **state)
{
    add_plugin(*state, "a", "a");
    assert_int_equal(unlink(scratch_path(*state, "a.so")), 0);
    add_plugin(*state, "b", "b");
    assert_int_equal(unlink(scratch_path(*state, "b.so")), 0);
    scratch_mkdir(*state, "b.so");
    discover(HERE, *state, NULL);
    assert_skipped(0, "a.so: No such file");
    assert_skipped(1, "b.so: not a regular file");
    /* The rest is known, so that it can be told whose scheme is missing. */
    assert_string_equal(found.items[0].manifest.id, "a");
}

static void test_discover__folder_that_was_asked_for_and_is_missing_is_recorded(void **state)
{
    discover(HERE, scratch_path(*state, "nowhere"), NULL);
    assert_int_equal(found.n, 1);
    assert_string_equal(found.items[0].manifest_path, scratch_path(*state, "nowhere"));
    assert_skipped(0, "nowhere: No such file");
}

static void test_discover__file_in_place_of_a_folder_is_recorded(void **state)
{
    scratch_write(scratch_path(*state, "file"), "");
    discover(HERE, scratch_path(*state, "file"), NULL);
    assert_int_equal(found.n, 1);
    assert_skipped(0, "file: Not a directory");
}

static void test_discover__plugin_path_comes_after_the_folders_given(void **state)
{
    char path[1024];

    add_plugin(scratch_mkdir(*state, "given"), "a", "a");
    add_plugin(scratch_mkdir(*state, "env1"), "b", "b");
    add_plugin(scratch_mkdir(*state, "env2"), "c", "c");
    snprintf(path, sizeof(path), "::%s/env1::%s/env2:", (char *)*state, (char *)*state);
    setenv("PENSTOCK_PLUGIN_PATH", path, 1);
    discover(0, scratch_path(*state, "given"), NULL);
    assert_true(found.n >= 3);
    assert_found(0, "a");
    assert_found(1, "b");
    assert_found(2, "c");
}

/* Nothing of the scratch folder is found when only the environment names it. */
static void assert_environment_is_ignored(void *dir, uint32_t flags)
{
    add_plugin(dir, "a", "a");
    setenv("PENSTOCK_PLUGIN_PATH", dir, 1);
    discover(flags, NULL, NULL);
    for (size_t i = 0; i < found.n; i++)
        assert_null(strstr(found.items[i].manifest_path, dir));
}

static void test_discover__environment_is_ignored_when_told_so(void **state)
{
    assert_environment_is_ignored(*state, PST_CONTEXT_NO_ENVIRONMENT);
}

static void test_discover__only_dirs_leaves_out_all_else(void **state)
{
    assert_environment_is_ignored(*state, PST_CONTEXT_ONLY_DIRS);
    assert_int_equal(found.n, 0);
}

static void test_discover__own_folder_is_beside_a_library_and_below_a_program(void **state)
{
    char *dir = NULL;
    char exe[4096];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

    (void)state;
    assert_true(n > 0);
    exe[n] = '\0';
    *strrchr(exe, '/') = '\0';
    assert_int_equal(
        pst_discover_beside((const void *)"a constant of this program", "penstock/plugins", &dir),
        PST_OK);
    assert_memory_equal(dir, exe, strlen(exe));
    assert_string_equal(dir + strlen(exe), "/../lib/penstock/plugins");
    free(dir);
    /* The stream itself, unlike the pointer to it, lies in libc. */
    assert_int_equal(pst_discover_beside(stderr, "penstock/plugins", &dir), PST_OK);
    assert_non_null(strstr(dir, "/penstock/plugins"));
    assert_null(strstr(dir, ".."));
    free(dir);
}

static void test_discover__opens_no_library(void **state)
{
    add_plugin(*state, "a", "a");
    discover(HERE, *state, NULL);
    assert_found(0, "a");
    assert_false(scratch_is_mapped(scratch_path(*state, "a.so")));
}

/* ---- strict mode ------------------------------------------------------------------------------ */

static void test_strict__takes_what_only_its_owner_can_write(void **state)
{
    add_plugin(*state, "a", "a");
    discover(HERE | PST_CONTEXT_STRICT, *state, NULL);
    assert_int_equal(found.n, 1);
    assert_found(0, "a");
}

static void test_strict__world_writable_folder_is_refused_whole(void **state)
{
    add_plugin(*state, "a", "a");
    assert_int_equal(chmod(*state, 0777), 0);
    discover(HERE | PST_CONTEXT_STRICT, *state, NULL);
    assert_int_equal(found.n, 1);
    assert_skipped(0, "is writable by others (mode 0777)");
    assert_skipped(0, *state);
    assert_null(found.items[0].manifest.id);
}

static void test_strict__sticky_does_not_excuse_the_plugin_folder(void **state)
{
    add_plugin(*state, "a", "a");
    assert_int_equal(chmod(*state, 01777), 0);
    discover(HERE | PST_CONTEXT_STRICT, *state, NULL);
    assert_int_equal(found.n, 1);
    assert_skipped(0, "is writable by others (mode 1777)");
}

static void test_strict__parent_that_others_write_is_refused(void **state)
{
    const char *inner = scratch_mkdir(*state, "inner");

    add_plugin(inner, "a", "a");
    assert_int_equal(chmod(*state, 0775), 0);
    discover(HERE | PST_CONTEXT_STRICT, inner, NULL);
    assert_int_equal(found.n, 1);
    assert_skipped(0, "is writable by others (mode 0775)");
}

static void test_strict__group_writable_manifest_or_library_is_refused(void **state)
{
    add_plugin(*state, "a", "a");
    add_plugin(*state, "b", "b");
    assert_int_equal(chmod(scratch_path(*state, "a.json"), 0664), 0);
    assert_int_equal(chmod(scratch_path(*state, "b.so"), 0646), 0);
    discover(HERE | PST_CONTEXT_STRICT, *state, NULL);
    assert_int_equal(found.n, 2);
    assert_skipped(0, "a.json is writable by others (mode 0664)");
    assert_skipped(1, "b.so is writable by others (mode 0646)");
}

static void test_strict__library_behind_a_link_is_judged_where_it_lies(void **state)
{
    const char *open_dir = scratch_mkdir(*state, "open");
    const char *dir = scratch_mkdir(*state, "dir");

    add_plugin(dir, "a", "a");
    assert_int_equal(rename(scratch_path(dir, "a.so"), scratch_path(open_dir, "a.so")), 0);
    assert_int_equal(symlink("../open/a.so", scratch_path(dir, "a.so")), 0);
    assert_int_equal(chmod(open_dir, 0777), 0);
    discover(HERE | PST_CONTEXT_STRICT, dir, NULL);
    assert_int_equal(found.n, 1);
    assert_skipped(0, "open is writable by others");
}

static void test_strict__file_of_another_user_is_refused(void **state)
{
    pst_error err = PST_ERROR_INIT;
    const char *path = scratch_path(*state, "a.json");

    if (geteuid() != 0) { /* only root can give a file away; what is root's is good for others */
        assert_int_equal(pst_strict_check("/etc/passwd", &err), PST_OK);
        return;
    }
    add_plugin(*state, "a", "a");
    assert_int_equal(chown(path, 12345, 0), 0);
    assert_int_equal(pst_strict_check(path, &err), PST_E_BAD_PLUGIN);
    assert_non_null(strstr(err.message, "a.json belongs to user 12345"));
    assert_int_equal(chown(path, 0, 0), 0);
    assert_int_equal(pst_strict_check(path, NULL), PST_OK);
}

static void test_strict__without_it_nobody_asks(void **state)
{
    add_plugin(*state, "a", "a");
    assert_int_equal(chmod(*state, 0777), 0);
    discover(HERE, *state, NULL);
    assert_found(0, "a");
}

/* ---- no memory -------------------------------------------------------------------------------- */

static void test_discover__survives_every_failed_allocation(void **state)
{
    const char *const dirs[] = {*state, "/nonexistent", NULL};
    const long before = torture_live();
    unsigned n = 1;

    add_plugin(*state, "a", "a");
    add_plugin(*state, "b", "b");
    assert_int_equal(unlink(scratch_path(*state, "b.so")), 0);
    for (;; n++) {
        pst_error err = PST_ERROR_INIT;
        torture_arm(n);
        pst_rc rc = pst_discover(HERE | PST_CONTEXT_STRICT, dirs, &found, &err);
        if (!torture_disarm()) {
            assert_int_equal(rc, PST_OK);
            assert_int_equal(found.n, 3);
            break;
        }
        if (rc != PST_E_NO_MEMORY)
            fail_msg("allocation %u: %s", n, pst_rc_name(rc));
        assert_int_equal(found.n, 0);
        assert_int_equal(torture_live(), before);
    }
    assert_true(n > 30);
}

int main(void)
{
#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_setup, forget)
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_discover__manifests_come_in_byte_order_with_absolute_paths),
        IN_SCRATCH(test_discover__folders_are_searched_in_the_order_given),
        IN_SCRATCH(test_discover__a_folder_is_searched_once_under_all_its_names),
        IN_SCRATCH(test_discover__other_files_are_no_manifests),
        IN_SCRATCH(test_discover__one_bad_manifest_does_not_hide_the_others),
        IN_SCRATCH(test_discover__manifest_that_is_a_pipe_is_skipped_without_waiting),
        IN_SCRATCH(test_discover__missing_library_is_the_reason),
        IN_SCRATCH(test_discover__folder_that_was_asked_for_and_is_missing_is_recorded),
        IN_SCRATCH(test_discover__file_in_place_of_a_folder_is_recorded),
        IN_SCRATCH(test_discover__plugin_path_comes_after_the_folders_given),
        IN_SCRATCH(test_discover__environment_is_ignored_when_told_so),
        IN_SCRATCH(test_discover__only_dirs_leaves_out_all_else),
        IN_SCRATCH(test_discover__own_folder_is_beside_a_library_and_below_a_program),
        IN_SCRATCH(test_discover__opens_no_library),
        IN_SCRATCH(test_strict__takes_what_only_its_owner_can_write),
        IN_SCRATCH(test_strict__world_writable_folder_is_refused_whole),
        IN_SCRATCH(test_strict__sticky_does_not_excuse_the_plugin_folder),
        IN_SCRATCH(test_strict__parent_that_others_write_is_refused),
        IN_SCRATCH(test_strict__group_writable_manifest_or_library_is_refused),
        IN_SCRATCH(test_strict__library_behind_a_link_is_judged_where_it_lies),
        IN_SCRATCH(test_strict__file_of_another_user_is_refused),
        IN_SCRATCH(test_strict__without_it_nobody_asks),
        IN_SCRATCH(test_discover__survives_every_failed_allocation),
    };

    torture_jansson();
    umask(022);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
