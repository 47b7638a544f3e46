#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/options.h"
#include "scratch.h"
#include "torture.h"

static const pst_option options[] = {
    {.type = PST_OPT_SIZE,
     .min = 1,
     .max = 1 << 30,
     .name = "part_size",
     .fallback = "8MiB",
     .doc = "",
     .env = "T_PART T_PART_SIZE",
     .choices = ""},
    {.type = PST_OPT_STRING,
     .flags = PST_OPT_SECRET,
     .name = "token",
     .doc = "",
     .env = "T_TOKEN",
     .choices = ""},
    {.type = PST_OPT_ENUM, .name = "mode", .doc = "", .env = "", .choices = "fast|safe|"},
    {.type = PST_OPT_BOOL, .name = "sync", .fallback = "no", .doc = "", .env = "", .choices = ""},
    {.type = PST_OPT_INT,
     .min = -5,
     .max = 5,
     .name = "level",
     .doc = "",
     .env = "T_LEVEL",
     .choices = ""},
    {.type = PST_OPT_DURATION, .name = "wait", .doc = "", .env = "", .choices = ""},
    {.type = PST_OPT_PATH,
     .flags = PST_OPT_DEPRECATED,
     .name = "root",
     .doc = "use base",
     .env = "",
     .choices = ""},
};
static const uint64_t key[4] = {1, 2, 3, 4};
static const struct pst_settings no_settings;

static struct pst_option_scope scope(void)
{
    return (struct pst_option_scope){
        .plugin_id = "t",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .settings = &no_settings,
        .use_environment = 1,
        .digest_key = key,
    };
}

static pst_kv kv(const char *name, const char *value)
{
    return (pst_kv){pst_str_of(name, strlen(name)), pst_str_of(value, strlen(value))};
}

static struct pst_resolved resolved;

static void resolve(const struct pst_option_scope *s, const pst_kv *given, size_t n)
{
    pst_error err = PST_ERROR_INIT;

    pst_resolved_fini(&resolved);
    if (pst_options_resolve(s, given, n, &resolved, &err) != PST_OK)
        fail_msg("%s", err.message);
}

/* The value of one option, "(none)" if it has none. */
static const char *value_of(const char *name)
{
    for (size_t i = 0; i < resolved.n; i++) {
        const pst_kv *at = &resolved.kv[i];
        if (at->key.len == strlen(name) && memcmp(at->key.ptr, name, at->key.len) == 0) {
            assert_int_equal(strlen(at->value.ptr), at->value.len);
            return at->value.ptr;
        }
    }
    return "(none)";
}

static void assert_refused(const struct pst_option_scope *s, pst_kv given, const char *needle)
{
    pst_error err = PST_ERROR_INIT;
    struct pst_resolved out;

    assert_int_equal(pst_options_resolve(s, &given, 1, &out, &err), PST_E_INVALID);
    if (!strstr(err.message, needle))
        fail_msg("'%s' is not in '%s'", needle, err.message);
    assert_null(out.kv);
}

/* Normalise one value given explicitly. */
static void assert_becomes(const char *name, const char *text, const char *expected)
{
    const struct pst_option_scope s = scope();
    const pst_kv given = kv(name, text);

    resolve(&s, &given, 1);
    assert_string_equal(value_of(name), expected);
}

static void assert_bad(const char *name, const char *text, const char *needle)
{
    const struct pst_option_scope s = scope();

    assert_refused(&s, kv(name, text), needle);
}

static int tidy(void **state)
{
    pst_resolved_fini(&resolved);
    unsetenv("T_PART");
    unsetenv("T_PART_SIZE");
    unsetenv("T_TOKEN");
    unsetenv("T_LEVEL");
    return scratch_teardown(state);
}

static void test_options__values_arrive_in_one_form(void **state)
{
    (void)state;
    assert_becomes("part_size", "4MiB", "4194304");
    assert_becomes("part_size", "4194304", "4194304");
    assert_becomes("mode", "safe", "safe");
    assert_becomes("mode", "", "");
    assert_becomes("sync", "YES", "1");
    assert_becomes("sync", "off", "0");
    assert_becomes("level", "+5", "5");
    assert_becomes("level", "-005", "-5");
    assert_becomes("wait", "5m", "300000");
    assert_becomes("root", "a b/../c", "a b/../c");
    assert_becomes("token", "", "");
}

static void test_options__wrong_values_say_what_is_right(void **state)
{
    (void)state;
    assert_bad("part_size", "8XB", "option 'part_size' of plugin 't': '8XB' is not a size");
    assert_bad("part_size", "0", "'0' is not within 1..1073741824 bytes");
    assert_bad("part_size", "2GiB", "'2GiB' is not within 1..1073741824 bytes");
    assert_bad("mode", "Fast", "'Fast' is not one of fast|safe|");
    assert_bad("mode", "fas", "'fas' is not one of");
    assert_bad("sync", "maybe", "'maybe' is neither true nor false");
    assert_bad("level", "6", "'6' is not within -5..5");
    assert_bad("level", "1.0", "'1.0' is not a whole number");
    assert_bad("wait", "5", "'5' is not a duration");
    assert_bad("root", "", "'' is not a path");
}

static void test_options__value_with_a_nul_is_refused(void **state)
{
    const struct pst_option_scope s = scope();
    const pst_kv given = {PST_STR("root"), PST_STR("a\0b")};

    (void)state;
    assert_refused(&s, given, "holds a NUL byte");
}

static void test_options__unknown_name_gets_a_suggestion(void **state)
{
    (void)state;
    assert_bad("part_sise", "1", "plugin 't' has no option 'part_sise', did you mean 'part_size'?");
    assert_bad("Root", "1", "did you mean 'root'?");
    assert_bad("completely_else", "1", "has no option 'completely_else'");
}

static void test_options__option_given_twice_is_refused(void **state)
{
    const struct pst_option_scope s = scope();
    const pst_kv given[] = {kv("level", "1"), kv("level", "1")};
    pst_error err = PST_ERROR_INIT;

    (void)state;
    assert_int_equal(pst_options_resolve(&s, given, 2, &resolved, &err), PST_E_INVALID);
    assert_string_equal(err.message, "option 'level' of plugin 't' is given twice");
}

static void test_options__come_in_declared_order_without_those_unset(void **state)
{
    const struct pst_option_scope s = scope();
    const pst_kv given[] = {kv("wait", "1s"), kv("token", "x")};

    (void)state;
    resolve(&s, given, 2);
    assert_int_equal(resolved.n, 4);
    assert_memory_equal(resolved.kv[0].key.ptr, "part_size", 9);
    assert_memory_equal(resolved.kv[1].key.ptr, "token", 5);
    assert_memory_equal(resolved.kv[2].key.ptr, "sync", 4);
    assert_memory_equal(resolved.kv[3].key.ptr, "wait", 4);
    assert_string_equal(value_of("level"), "(none)");
}

static struct pst_settings read_settings(const char *path, const char *text)
{
    struct pst_settings settings;
    pst_error err = PST_ERROR_INIT;

    scratch_write(path, text);
    if (pst_settings_read(path, &settings, &err) != PST_OK)
        fail_msg("%s", err.message);
    return settings;
}

static void test_options__explicit_beats_environment_beats_file_beats_default(void **state)
{
    struct pst_settings settings = read_settings(scratch_path(*state, "c.json"),
                                                 "{\"t\": {\"part_size\": \"3M\"}}");
    struct pst_option_scope s = scope();
    const pst_kv given = kv("part_size", "1M");

    resolve(&s, NULL, 0);
    assert_string_equal(value_of("part_size"), "8388608");
    s.settings = &settings;
    resolve(&s, NULL, 0);
    assert_string_equal(value_of("part_size"), "3145728");
    setenv("T_PART_SIZE", "2M", 1);
    resolve(&s, NULL, 0);
    assert_string_equal(value_of("part_size"), "2097152");
    resolve(&s, &given, 1);
    assert_string_equal(value_of("part_size"), "1048576");
    s.use_environment = 0;
    resolve(&s, NULL, 0);
    assert_string_equal(value_of("part_size"), "3145728");
    pst_settings_fini(&settings);
}

static void test_options__first_variable_that_is_set_wins(void **state)
{
    const struct pst_option_scope s = scope();

    (void)state;
    setenv("T_PART", "", 1); /* empty is not set */
    setenv("T_PART_SIZE", "2M", 1);
    resolve(&s, NULL, 0);
    assert_string_equal(value_of("part_size"), "2097152");
    setenv("T_PART", "1M", 1);
    resolve(&s, NULL, 0);
    assert_string_equal(value_of("part_size"), "1048576");
}

static void test_options__wrong_value_is_named_with_its_source_and_not_replaced(void **state)
{
    const char *path = scratch_path(*state, "c.json");
    struct pst_settings settings = read_settings(path, "{\"t\": {\"level\": 77}}");
    struct pst_option_scope s = scope();
    char needle[4200];

    s.settings = &settings;
    snprintf(needle, sizeof(needle), "from config file %s: '77' is not within", path);
    assert_refused(&s, kv("wait", "1s"), needle);
    setenv("T_LEVEL", "x", 1);
    assert_refused(&s, kv("wait", "1s"), "from environment variable T_LEVEL: 'x' is not a whole");
    pst_settings_fini(&settings);
}

/* ---- secrets ---------------------------------------------------------------------------------- */

static void test_options__secret_is_in_no_message(void **state)
{
    const struct pst_option_scope s = scope();
    const pst_kv given = {PST_STR("token"), PST_STR("hunter\0002")};
    pst_error err = PST_ERROR_INIT;

    (void)state;
    assert_int_equal(pst_options_resolve(&s, &given, 1, &resolved, &err), PST_E_INVALID);
    assert_null(strstr(err.message, "hunter"));
    assert_non_null(strstr(err.message, "the value (secret) holds a NUL"));
}

static void test_options__identity_tells_secrets_apart_without_telling_them(void **state)
{
    struct pst_option_scope s = scope();
    const pst_kv one = kv("token", "hunter2"), other = kv("token", "hunter3");
    const uint64_t other_key[4] = {5, 6, 7, 8};
    char *first, *second, *keyed;

    (void)state;
    resolve(&s, &one, 1);
    first = strdup(resolved.identity);
    assert_null(strstr(first, "hunter"));
    resolve(&s, &one, 1);
    assert_string_equal(first, resolved.identity);
    resolve(&s, &other, 1);
    second = strdup(resolved.identity);
    assert_string_not_equal(first, second);
    s.digest_key = other_key;
    resolve(&s, &other, 1);
    keyed = strdup(resolved.identity);
    assert_string_not_equal(second, keyed);
    free(first);
    free(second);
    free(keyed);
}

static void test_options__a_plugin_is_told_where_each_value_comes_from(void **state)
{
    const struct pst_option_scope s = scope();
    const pst_kv given = kv("part_size", "4MiB");
    char *explicit_identity;

    (void)state;
    resolve(&s, &given, 1);
    explicit_identity = strdup(resolved.identity);
    for (size_t i = 0; i < resolved.n; i++)
        assert_int_equal(resolved.sources[i], strncmp(resolved.kv[i].key.ptr, "part_size", 9) == 0
                                                  ? PST_SOURCE_EXPLICIT
                                                  : PST_SOURCE_DEFAULT);
    setenv("T_PART", "4MiB", 1);
    resolve(&s, NULL, 0);
    for (size_t i = 0; i < resolved.n; i++)
        assert_int_equal(resolved.sources[i], strncmp(resolved.kv[i].key.ptr, "part_size", 9) == 0
                                                  ? PST_SOURCE_ENVIRONMENT
                                                  : PST_SOURCE_DEFAULT);
    assert_string_not_equal(explicit_identity, resolved.identity);
    free(explicit_identity);
}

static void test_options__identity_is_the_same_for_two_spellings_and_apart_for_two_values(
    void **state)
{
    const struct pst_option_scope s = scope();
    const pst_kv spelled[] = {kv("part_size", "1MiB"), kv("part_size", "1048576")};
    /* One value that looks like two options is not the two options. */
    const pst_kv tricky[] = {kv("root", "x\nwait=1:5"), kv("root", "x")};
    char *first;

    (void)state;
    resolve(&s, &spelled[0], 1);
    first = strdup(resolved.identity);
    resolve(&s, &spelled[1], 1);
    assert_string_equal(first, resolved.identity);
    free(first);
    resolve(&s, &tricky[0], 1);
    first = strdup(resolved.identity);
    resolve(&s, &tricky[1], 1);
    assert_string_not_equal(first, resolved.identity);
    assert_non_null(strstr(first, "root=10:x\nwait=1:5\n"));
    free(first);
}

/* ---- log -------------------------------------------------------------------------------------- */

static void count_line(void *arg, uint32_t level, const char *line)
{
    assert_int_equal(level, PST_LEVEL_WARN);
    assert_string_equal(line, "option 'root' of plugin 't' is deprecated: use base");
    ++*(int *)arg;
}

static void test_options__use_of_a_deprecated_option_is_logged(void **state)
{
    struct pst_option_scope s = scope();
    const pst_kv given = kv("root", "x");
    struct pst_log log;
    int lines = 0;

    (void)state;
    pst_log_init(&log, count_line, &lines, PST_LEVEL_WARN);
    s.log = &log;
    resolve(&s, NULL, 0);
    assert_int_equal(lines, 0);
    resolve(&s, &given, 1);
    assert_int_equal(lines, 1);
    pst_log_fini(&log);
}

/* ---- config file ------------------------------------------------------------------------------ */

static void test_settings__values_may_be_strings_integers_and_booleans(void **state)
{
    struct pst_settings settings = read_settings(
        scratch_path(*state, "c.json"),
        "{\"t\": {\"a\": \"x\", \"b\": -7, \"c\": true}, \"u\": {}}");

    assert_string_equal(pst_settings_get(&settings, "t", "a"), "x");
    assert_string_equal(pst_settings_get(&settings, "t", "b"), "-7");
    assert_string_equal(pst_settings_get(&settings, "t", "c"), "true");
    assert_null(pst_settings_get(&settings, "u", "a"));
    assert_null(pst_settings_get(&settings, "t", "d"));
    pst_settings_fini(&settings);
}

static void test_settings__malformed_files_are_refused_with_the_place(void **state)
{
    static const char *const bad[][2] = {
        {"", "line 1"},
        {"[]", "must be a JSON object"},
        {"{\"t\": 1}", "'t' must be an object of options"},
        {"{\"t\": {\"a\": null}}", "'t.a' must be a string"},
        {"{\"t\": {\"a\": 1.5}}", "'t.a' must be a string"},
        {"{\"t\": {\"a\": []}}", "'t.a' must be a string"},
        {"{\"t\": {\"a\": 1, \"a\": 2}}", "duplicate object key"},
        {"{\"t\":\n {\"a\": hunter2}}", "line 2"},
    };
    const char *path = scratch_path(*state, "c.json");

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct pst_settings settings;
        pst_error err = PST_ERROR_INIT;
        scratch_write(path, bad[i][0]);
        assert_int_equal(pst_settings_read(path, &settings, &err), PST_E_INVALID);
        assert_non_null(strstr(err.message, path));
        if (!strstr(err.message, bad[i][1]))
            fail_msg("'%s' is not in '%s'", bad[i][1], err.message);
        assert_null(strstr(err.message, "hunter")); /* the text around it may be a secret */
    }
}

static void test_settings__unreadable_file_is_refused(void **state)
{
    struct pst_settings settings;
    pst_error err = PST_ERROR_INIT;

    assert_int_equal(pst_settings_read(scratch_path(*state, "none"), &settings, &err),
                     PST_E_INVALID);
    assert_non_null(strstr(err.message, "none: No such file"));
    assert_int_equal(pst_settings_read(*state, &settings, &err), PST_E_INVALID);
    assert_non_null(strstr(err.message, "not a regular file"));
}

static void test_settings__unknown_option_or_wrong_value_is_refused(void **state)
{
    const char *path = scratch_path(*state, "c.json");
    struct pst_option_scope s = scope();
    pst_error err = PST_ERROR_INIT;
    struct pst_settings settings = read_settings(path, "{\"t\": {\"levl\": 1}, \"u\": {\"x\": 1}}");

    s.settings = &settings;
    assert_int_equal(pst_options_check_settings(&s, &err), PST_E_INVALID);
    assert_non_null(strstr(err.message, "config file "));
    assert_non_null(strstr(err.message, "did you mean 'level'?"));
    pst_settings_fini(&settings);
    settings = read_settings(path, "{\"t\": {\"level\": 99}}");
    assert_int_equal(pst_options_check_settings(&s, &err), PST_E_INVALID);
    assert_non_null(strstr(err.message, "'99' is not within -5..5"));
    pst_settings_fini(&settings);
    settings = read_settings(path, "{\"t\": {\"level\": 3}, \"u\": {\"x\": 1}}");
    assert_int_equal(pst_options_check_settings(&s, &err), PST_OK);
    pst_settings_fini(&settings);
}

/* ---- no memory -------------------------------------------------------------------------------- */

static void test_options__resolving_survives_every_failed_allocation(void **state)
{
    const struct pst_option_scope s = scope();
    const pst_kv given[] = {kv("token", "x"), kv("root", "/y")};
    const long before = torture_live();
    unsigned n = 1;

    (void)state;
    for (;; n++) {
        pst_error err = PST_ERROR_INIT;
        torture_arm(n);
        pst_rc rc = pst_options_resolve(&s, given, 2, &resolved, &err);
        if (!torture_disarm()) {
            assert_int_equal(rc, PST_OK);
            break;
        }
        assert_int_equal(rc, PST_E_NO_MEMORY);
        assert_null(resolved.kv);
        assert_int_equal(torture_live(), before);
    }
    assert_true(n > 5);
}

static void test_settings__reading_survives_every_failed_allocation(void **state)
{
    const char *path = scratch_path(*state, "c.json");
    const long before = torture_live();
    struct pst_settings settings;
    unsigned n = 1;

    scratch_write(path, "{\"t\": {\"token\": \"a value that is longer than a few bytes\","
                        " \"level\": 5}, \"u\": {\"x\": true}}");
    for (;; n++) {
        torture_arm(n);
        pst_rc rc = pst_settings_read(path, &settings, NULL);
        if (!torture_disarm()) {
            assert_int_equal(rc, PST_OK);
            pst_settings_fini(&settings);
            break;
        }
        assert_int_equal(rc, PST_E_NO_MEMORY);
        assert_int_equal(torture_live(), before);
    }
    assert_true(n > 10);
    assert_int_equal(torture_live(), before);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, scratch_setup, tidy)
    const struct CMUnitTest tests[] = {
        TEST(test_options__values_arrive_in_one_form),
        TEST(test_options__wrong_values_say_what_is_right),
        TEST(test_options__value_with_a_nul_is_refused),
        TEST(test_options__unknown_name_gets_a_suggestion),
        TEST(test_options__option_given_twice_is_refused),
        TEST(test_options__come_in_declared_order_without_those_unset),
        TEST(test_options__explicit_beats_environment_beats_file_beats_default),
        TEST(test_options__first_variable_that_is_set_wins),
        TEST(test_options__wrong_value_is_named_with_its_source_and_not_replaced),
        TEST(test_options__secret_is_in_no_message),
        TEST(test_options__identity_tells_secrets_apart_without_telling_them),
        TEST(test_options__a_plugin_is_told_where_each_value_comes_from),
        TEST(test_options__identity_is_the_same_for_two_spellings_and_apart_for_two_values),
        TEST(test_options__use_of_a_deprecated_option_is_logged),
        TEST(test_settings__values_may_be_strings_integers_and_booleans),
        TEST(test_settings__malformed_files_are_refused_with_the_place),
        TEST(test_settings__unreadable_file_is_refused),
        TEST(test_settings__unknown_option_or_wrong_value_is_refused),
        TEST(test_options__resolving_survives_every_failed_allocation),
        TEST(test_settings__reading_survives_every_failed_allocation),
    };

    torture_jansson();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
