#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/manifest.h"
#include "scratch.h"
#include "torture.h"

/* A manifest with every member; tests change one piece of it. */
static const char good[] =
    "{\"manifest\": 1, \"abi\": \"1.0\", \"id\": \"acme.tape\", \"version\": \"1.2\","
    " \"vendor\": \"Acme\", \"license\": \"MIT\", \"library\": \"tape.so\","
    " \"threads\": \"serial\", \"schemes\": [\"tape\", \"lto+1\"],"
    " \"caps\": [\"read\", \"stat\"],"
    " \"limits\": {\"part_min\": 5242880, \"parts_max\": 10000, \"parts_uniform\": true},"
    " \"options\": [{\"name\": \"part_size\", \"type\": \"size\", \"default\": \"8MiB\","
    " \"doc\": \"Bytes in a part\", \"env\": \"TAPE_PART TAPE_PART_SIZE\", \"min\": 1,"
    " \"max\": 1073741824}, {\"name\": \"pin\", \"type\": \"string\", \"secret\": true},"
    " {\"name\": \"mode\", \"type\": \"enum\", \"choices\": \"fast|safe\","
    " \"default\": \"safe\", \"deprecated\": true}]}";

/* `good` with the first `from` replaced; "" if it is not there. */
static const char *with(const char *from, const char *to)
{
    static char text[sizeof(good) + 4096];
    const char *at = strstr(good, from);

    assert_non_null(at);
    snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    return text;
}

static void assert_refused(const char *text, const char *needle)
{
    pst_error err = PST_ERROR_INIT;
    struct pst_manifest m;

    assert_int_equal(pst_manifest_parse("/p/x.json", text, strlen(text), &m, &err),
                     PST_E_BAD_PLUGIN);
    if (!strstr(err.message, needle))
        fail_msg("'%s' is not in '%s'", needle, err.message);
    assert_non_null(strstr(err.message, "/p/x.json"));
    assert_null(strchr(err.message, '\n'));
    assert_null(m.id);
}

static void parse(const char *text, struct pst_manifest *m)
{
    pst_error err = PST_ERROR_INIT;

    if (pst_manifest_parse("/p/x.json", text, strlen(text), m, &err) != PST_OK)
        fail_msg("%s", err.message);
}

static void test_manifest__every_member_is_read(void **state)
{
    struct pst_manifest m;

    (void)state;
    parse(good, &m);
    assert_string_equal(m.id, "acme.tape");
    assert_string_equal(m.version, "1.2");
    assert_string_equal(m.vendor, "Acme");
    assert_string_equal(m.license, "MIT");
    assert_string_equal(m.library, "tape.so");
    assert_int_equal(m.abi_major, 1);
    assert_int_equal(m.abi_minor, 0);
    assert_int_equal(m.threads, PST_THREADS_SERIAL);
    assert_int_equal(m.caps, PST_CAP_READ | PST_CAP_STAT);
    assert_string_equal(m.schemes[0], "tape");
    assert_string_equal(m.schemes[1], "lto+1");
    assert_null(m.schemes[2]);
    assert_int_equal(m.limits.part_min, 5242880);
    assert_int_equal(m.limits.parts_max, 10000);
    assert_int_equal(m.limits.flags, PST_LIMIT_PARTS_UNIFORM);
    assert_int_equal(m.limits.part_max, 0);
    assert_int_equal(m.n_options, 3);
    assert_int_equal(m.options[0].type, PST_OPT_SIZE);
    assert_string_equal(m.options[0].fallback, "8MiB");
    assert_string_equal(m.options[0].env, "TAPE_PART TAPE_PART_SIZE");
    assert_int_equal(m.options[0].max, 1073741824);
    assert_int_equal(m.options[1].flags, PST_OPT_SECRET);
    assert_null(m.options[1].fallback);
    assert_string_equal(m.options[2].choices, "fast|safe");
    assert_int_equal(m.options[2].flags, PST_OPT_DEPRECATED);
    assert_string_equal(m.notes, "");
    pst_manifest_fini(&m);
}

static void test_manifest__what_was_written_reads_back_equal(void **state)
{
    pst_error err = PST_ERROR_INIT;
    struct pst_manifest m, again;
    char *json, *json2;

    (void)state;
    parse(good, &m);
    assert_int_equal(pst_manifest_write(&m, &json, &err), PST_OK);
    parse(json, &again);
    assert_int_equal(pst_manifest_compare(&m, "a", &again, "b", &err), PST_OK);
    assert_int_equal(pst_manifest_write(&again, &json2, &err), PST_OK);
    assert_string_equal(json, json2);
    free(json);
    free(json2);
    pst_manifest_fini(&m);
    pst_manifest_fini(&again);
}

static void test_manifest__range_that_bounds_nothing_reads_back_equal(void **state)
{
    struct pst_manifest m, again;
    char *json;

    (void)state;
    parse(with("\"max\": 1073741824", "\"max\": 1"), &m); /* found by the fuzzer */
    assert_int_equal(pst_manifest_write(&m, &json, NULL), PST_OK);
    parse(json, &again);
    assert_int_equal(pst_manifest_compare(&m, "a", &again, "b", NULL), PST_OK);
    free(json);
    pst_manifest_fini(&m);
    pst_manifest_fini(&again);
}

static void test_manifest__is_written_sorted_with_a_newline_at_the_end(void **state)
{
    struct pst_manifest m;
    char *json;

    (void)state;
    parse(good, &m);
    assert_int_equal(pst_manifest_write(&m, &json, NULL), PST_OK);
    const char start[] = "{\n  \"abi\": \"1.0\",\n  \"caps\": [\n    \"read\",\n";
    assert_memory_equal(json, start, sizeof(start) - 1);
    assert_string_equal(json + strlen(json) - 3, "\n}\n");
    assert_true(strstr(json, "\"id\"") < strstr(json, "\"library\""));
    free(json);
    pst_manifest_fini(&m);
}

static void test_manifest__optional_members_may_be_absent(void **state)
{
    struct pst_manifest m;

    (void)state;
    parse("{\"manifest\": 1, \"abi\": \"1.0\", \"id\": \"a\", \"version\": \"1\","
          " \"library\": \"a.so\", \"threads\": \"parallel\", \"schemes\": [\"a\"],"
          " \"caps\": [\"read\"], \"options\": []}",
          &m);
    assert_string_equal(m.vendor, "");
    assert_string_equal(m.license, "");
    assert_int_equal(m.limits.part_max, 0);
    assert_int_equal(m.n_options, 0);
    pst_manifest_fini(&m);
}

static void test_manifest__missing_member_is_named(void **state)
{
    static const char *const members[] = {"manifest", "abi",     "id",   "version", "library",
                                          "threads",  "schemes", "caps", "options"};

    (void)state;
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        char from[32], to[32], needle[64];
        snprintf(from, sizeof(from), "\"%s\":", members[i]);
        snprintf(to, sizeof(to), "\"not-%s\":", members[i]);
        snprintf(needle, sizeof(needle), "'%s' is missing", members[i]);
        assert_refused(with(from, to), needle);
    }
    assert_refused(with("\"name\": \"pin\", ", ""), "'name' is missing");
    assert_refused(with("\"type\": \"size\", ", ""), "option part_size: 'type' is missing");
}

static void test_manifest__wrong_type_is_named(void **state)
{
    (void)state;
    assert_refused("[]", "must be a JSON object");
    assert_refused(with("\"manifest\": 1", "\"manifest\": \"1\""), "'manifest' must be an integer");
    assert_refused(with("\"1.0\"", "1.0"), "'abi' must be a string");
    assert_refused(with("\"1.0\"", "\"9\""), "'abi' must be like");
    assert_refused(with("\"1.0\"", "\"1.0.1\""), "'abi' must be like");
    assert_refused(with("\"1.0\"", "\"-1.9\""), "'abi' must be like");
    assert_refused(with("\"1.0\"", "\"1.70000\""), "'abi' must be like");
    assert_refused(with("\"acme.tape\"", "null"), "'id' must be a string");
    assert_refused(with("\"serial\"", "\"none\""), "'threads' must be");
    assert_refused(with("[\"tape\", \"lto+1\"]", "\"tape\""), "'schemes' must be an array");
    assert_refused(with("[\"tape\", \"lto+1\"]", "[1]"), "'schemes' must be an array of strings");
    assert_refused(with("[\"read\", \"stat\"]", "{}"), "'caps' must be an array");
    assert_refused(with("[\"read\", \"stat\"]", "[true]"), "'caps' must be an array of strings");
    assert_refused(with("5242880", "-1"), "limits.'part_min' must be an integer from 0 up");
    assert_refused(with("5242880", "1e6"), "limits.'part_min' must be an integer");
    assert_refused(with("10000", "4294967296"), "limits.'parts_max' must be an integer from 0 to");
    assert_refused(with("true}", "1}"), "limits.'parts_uniform' must be true or false");
    assert_refused(with("\"size\"", "\"volume\""), "option part_size: 'type' must be");
    assert_refused(with("\"8MiB\"", "8"), "option part_size: 'default' must be a string");
    assert_refused(with("\"min\": 1", "\"min\": \"1\""), "option part_size: 'min' must be an int");
    assert_refused(with("\"secret\": true", "\"secret\": 1"), "option pin: 'secret' must be true");
    assert_refused(with("\"options\": [", "\"options\": [7, "), "'options' must be an array of ob");
}

static void test_manifest__malformed_json_names_line_and_column(void **state)
{
    (void)state;
    assert_refused("", "line 1");
    assert_refused("{\n\"manifest\": 1,\n", "line 3");
    assert_refused(with("\"id\"", "id"), "line 1, column");
    assert_refused(with("\"1.2\"", "\"1\\u0000\""), "line 1");
    assert_refused(with("\"1.2\"", "\"\xff\""), "line 1");
    assert_refused("{} x", "line 1");
}

static void test_manifest__duplicate_member_is_refused(void **state)
{
    (void)state;
    assert_refused(with("\"vendor\"", "\"id\""), "duplicate object key");
    assert_refused(with("\"vendor\"", "\"id\""), "id");
}

static void test_manifest__cut_anywhere_is_an_error(void **state)
{
    (void)state;
    for (size_t len = 0; len < strlen(good); len++) {
        struct pst_manifest m;
        assert_int_equal(pst_manifest_parse("x", good, len, &m, NULL), PST_E_BAD_PLUGIN);
    }
}

static void test_manifest__unknown_members_are_noted_not_refused(void **state)
{
    struct pst_manifest m;

    (void)state;
    parse(with("\"vendor\"", "\"homepage\": \"x\", \"vendor\""), &m);
    assert_string_equal(m.notes, "unknown: homepage");
    pst_manifest_fini(&m);
    parse(with("[\"read\",", "[\"teleport\", \"read\","), &m);
    assert_string_equal(m.notes, "unknown: capability teleport");
    assert_int_equal(m.caps, PST_CAP_READ | PST_CAP_STAT);
    pst_manifest_fini(&m);
    parse(with("\"part_min\"", "\"part_best\": 1, \"part_min\""), &m);
    assert_string_equal(m.notes, "unknown: limits.part_best");
    pst_manifest_fini(&m);
    parse(with("\"secret\"", "\"since\": 1, \"secret\""), &m);
    assert_string_equal(m.notes, "unknown: option pin: since");
    pst_manifest_fini(&m);
}

static void test_manifest__later_format_or_abi_is_refused_for_that(void **state)
{
    (void)state;
    /* What else may have changed in them does not matter: `id` is no string here. */
    assert_refused("{\"manifest\": 2, \"id\": 7}", "format 2, this host reads 1");
    assert_refused("{\"manifest\": 1, \"abi\": \"2.0\", \"id\": 7}",
                   "ABI 2.0 has the wrong major, this host takes 1.0 and up");
    assert_refused("{\"manifest\": 1, \"abi\": \"0.9\", \"id\": 7}", "ABI 0.9 has the wrong major");
}

static void test_manifest__later_minor_is_taken(void **state)
{
    struct pst_manifest m;

    (void)state;
    parse(with("\"1.0\"", "\"1.17\""), &m);
    assert_int_equal(m.abi_minor, 17);
    pst_manifest_fini(&m);
}

static void test_manifest__library_stays_in_its_folder(void **state)
{
    static const char *const bad[] = {"",        "/abs/x.so", "../x.so", "a/../../x.so", "a/..",
                                      "a//b.so", "a/",        "..",      "a/../x.so"};
    struct pst_manifest m;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char to[64];
        snprintf(to, sizeof(to), "\"%s\"", bad[i]);
        assert_refused(with("\"tape.so\"", to), "stays in its folder");
    }
    parse(with("tape.so", "sub/..tape.so"), &m);
    assert_string_equal(m.library, "sub/..tape.so");
    pst_manifest_fini(&m);
}

static void test_manifest__names_are_checked(void **state)
{
    (void)state;
    assert_refused(with("acme.tape", "Acme"), "'id' is 'Acme'");
    assert_refused(with("acme.tape", ""), "'id' is ''");
    assert_refused(with("\"1.2\"", "\"\""), "'version' is empty");
    assert_refused(with("\"Acme\"", "\"A\\ncme\""), "not one line");
    assert_refused(with("[\"tape\", \"lto+1\"]", "[]"), "'schemes' is empty");
    assert_refused(with("lto+1", "LTO"), "'LTO' is not a scheme");
    assert_refused(with("lto+1", "1x"), "'1x' is not a scheme");
    assert_refused(with("lto+1", "tape"), "scheme 'tape' is there twice");
    assert_refused(with("\"pin\"", "\"part_size\""), "option 'part_size' is there twice");
    assert_refused(with("\"pin\"", "\"a=b\""), "'a=b' is not a name for an option");
    assert_refused(with("[\"read\", \"stat\"]", "[\"teleport\"]"), "no capability");
}

static void test_manifest__declarations_of_options_are_checked(void **state)
{
    (void)state;
    assert_refused(with("\"8MiB\"", "\"8XB\""), "option 'part_size': '8XB' is not a size");
    assert_refused(with("\"8MiB\"", "\"2GiB\""), "option 'part_size': '2GiB' is not within 1..");
    assert_refused(with("\"min\": 1,", "\"min\": 2000000000,"), "min is over max");
    assert_refused(with("\"default\": \"safe\"", "\"default\": \"slow\""), "not one of fast|safe");
    assert_refused(with("\"choices\": \"fast|safe\", ", ""), "an enum has choices");
    assert_refused(with("\"secret\": true", "\"secret\": true, \"default\": \"x\""),
                   "secret cannot have a default");
    assert_refused(with("\"secret\": true", "\"max\": 7"), "only numbers have a range");
}

static void test_manifest__first_difference_to_the_library_is_told(void **state)
{
    static const char *const changes[][3] = {
        {"\"1.2\"", "\"1.3\"", "manifest /p/m.json says version '1.2', library /p/l.so says '1.3'"},
        {"acme.tape", "acme.disk", "says id 'acme.tape'"},
        {"\"MIT\"", "\"BSD\"", "says license 'MIT'"},
        {"1.0", "1.10", "says ABI minor '0'"},
        {"\"serial\"", "\"parallel\"", "says threads '1'"},
        {"\"stat\"", "\"put\"", "says capability stat 'yes'"},
        {"lto+1", "lto+2", "says scheme 'lto+1'"},
        {", \"lto+1\"", "", "says scheme 'lto+1', library /p/l.so says '(none)'"},
        {"5242880", "5242881", "says limits.part_min '5242880'"},
        {"true}", "false}", "says limits.flags '1'"},
        {"\"8MiB\"", "\"4MiB\"", "option 'part_size': manifest /p/m.json says default '8MiB'"},
        {"Bytes in", "Size of", "says doc"},
        {"\"max\": 1073741824", "\"max\": 1073741823", "says range and flags"},
        {"\"secret\": true", "\"secret\": false", "says range and flags"},
        {"fast|safe", "fast|safe|x", "says choices"},
        {", {\"name\": \"pin\", \"type\": \"string\", \"secret\": true}", "", "number of options"},
    };
    struct pst_manifest m;

    (void)state;
    parse(good, &m);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        pst_error err = PST_ERROR_INIT;
        struct pst_manifest other;
        parse(with(changes[i][0], changes[i][1]), &other);
        assert_int_equal(pst_manifest_compare(&m, "/p/m.json", &other, "/p/l.so", &err),
                         PST_E_BAD_PLUGIN);
        if (!strstr(err.message, changes[i][2]))
            fail_msg("'%s' is not in '%s'", changes[i][2], err.message);
        pst_manifest_fini(&other);
    }
    pst_manifest_fini(&m);
}

static void test_manifest__file_that_is_none_is_refused(void **state)
{
    const char *path = scratch_path(*state, "x.json");
    pst_error err = PST_ERROR_INIT;
    struct pst_manifest m;

    assert_int_equal(pst_manifest_read(path, &m, &err), PST_E_BAD_PLUGIN);
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(pst_manifest_read(path, &m, &err), PST_E_BAD_PLUGIN);
    assert_non_null(strstr(err.message, "not a regular file"));
    assert_int_equal(pst_manifest_read(*state, &m, &err), PST_E_BAD_PLUGIN);
    assert_non_null(strstr(err.message, "not a regular file"));
}

static void test_manifest__file_over_a_mebibyte_is_refused_unread(void **state)
{
    const char *path = scratch_path(*state, "x.json");
    char *text = malloc(PST_MANIFEST_MAX_BYTES + 1);
    pst_error err = PST_ERROR_INIT;
    struct pst_manifest m;

    memset(text, ' ', PST_MANIFEST_MAX_BYTES + 1);
    memcpy(text, good, sizeof(good) - 1);
    scratch_write_bytes(path, text, PST_MANIFEST_MAX_BYTES + 1);
    assert_int_equal(pst_manifest_read(path, &m, &err), PST_E_BAD_PLUGIN);
    assert_non_null(strstr(err.message, "over 1048576 bytes"));
    scratch_write_bytes(path, text, PST_MANIFEST_MAX_BYTES);
    assert_int_equal(pst_manifest_read(path, &m, &err), PST_OK);
    pst_manifest_fini(&m);
    free(text);
}

static void test_manifest__reading_survives_every_failed_allocation(void **state)
{
    const char *path = scratch_path(*state, "x.json");
    const long before = torture_live();
    unsigned n = 1;

    scratch_write(path, good);
    for (;; n++) {
        struct pst_manifest m;
        pst_error err = PST_ERROR_INIT;
        torture_arm(n);
        pst_rc rc = pst_manifest_read(path, &m, &err);
        if (!torture_disarm()) {
            assert_int_equal(rc, PST_OK);
            pst_manifest_fini(&m);
            break;
        }
        assert_int_equal(rc, PST_E_NO_MEMORY);
        assert_int_equal(torture_live(), before);
    }
    assert_true(n > 20);
    assert_int_equal(torture_live(), before);
}

static void test_manifest__writing_survives_every_failed_allocation(void **state)
{
    struct pst_manifest m;
    unsigned n = 1;

    (void)state;
    parse(good, &m);
    const long before = torture_live();
    for (;; n++) {
        char *json = NULL;
        torture_arm(n);
        pst_rc rc = pst_manifest_write(&m, &json, NULL);
        if (!torture_disarm()) {
            assert_int_equal(rc, PST_OK);
            free(json);
            break;
        }
        assert_int_equal(rc, PST_E_NO_MEMORY);
        assert_null(json);
        assert_int_equal(torture_live(), before);
    }
    assert_true(n > 20);
    pst_manifest_fini(&m);
}

int main(void)
{
#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest__every_member_is_read),
        cmocka_unit_test(test_manifest__what_was_written_reads_back_equal),
        cmocka_unit_test(test_manifest__range_that_bounds_nothing_reads_back_equal),
        cmocka_unit_test(test_manifest__is_written_sorted_with_a_newline_at_the_end),
        cmocka_unit_test(test_manifest__optional_members_may_be_absent),
        cmocka_unit_test(test_manifest__missing_member_is_named),
        cmocka_unit_test(test_manifest__wrong_type_is_named),
        cmocka_unit_test(test_manifest__malformed_json_names_line_and_column),
        cmocka_unit_test(test_manifest__duplicate_member_is_refused),
        cmocka_unit_test(test_manifest__cut_anywhere_is_an_error),
        cmocka_unit_test(test_manifest__unknown_members_are_noted_not_refused),
        cmocka_unit_test(test_manifest__later_format_or_abi_is_refused_for_that),
        cmocka_unit_test(test_manifest__later_minor_is_taken),
        cmocka_unit_test(test_manifest__library_stays_in_its_folder),
        cmocka_unit_test(test_manifest__names_are_checked),
        cmocka_unit_test(test_manifest__declarations_of_options_are_checked),
        cmocka_unit_test(test_manifest__first_difference_to_the_library_is_told),
        IN_SCRATCH(test_manifest__file_that_is_none_is_refused),
        IN_SCRATCH(test_manifest__file_over_a_mebibyte_is_refused_unread),
        IN_SCRATCH(test_manifest__reading_survives_every_failed_allocation),
        cmocka_unit_test(test_manifest__writing_survives_every_failed_allocation),
    };

    torture_jansson();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
