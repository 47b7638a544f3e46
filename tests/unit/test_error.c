#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/error.h"
#include "core/log.h"

static void test_error__returns_its_code_and_keeps_the_facts(void **state)
{
    pst_error err = PST_ERROR_INIT;

    (void)state;
    err.http_status = 503;
    snprintf(err.endpoint, sizeof(err.endpoint), "old");
    assert_int_equal(pst_fail(&err, PST_E_RANGE, "offset %d", 7), PST_E_RANGE);
    assert_int_equal(err.code, PST_E_RANGE);
    assert_string_equal(err.message, "offset 7");
    assert_int_equal(err.http_status, 0);
    assert_string_equal(err.endpoint, "");
}

static void test_error__no_struct_is_needed(void **state)
{
    (void)state;
    assert_int_equal(pst_fail(NULL, PST_E_IO, "x"), PST_E_IO);
    assert_int_equal(pst_fail_errno(NULL, PST_E_IO, EIO, "x"), PST_E_IO);
    pst_error_prefix(NULL, "x");
    pst_error_clear(NULL);
    pst_error_copy(NULL, NULL);
}

static void test_error__message_is_one_line_of_utf8(void **state)
{
    pst_error err = PST_ERROR_INIT;

    (void)state;
    (void)pst_fail(&err, PST_E_IO, "a\nb\tc\x01 \x7f \xc2\x9b \xff \xc3\xa4 \xed\xa0\x80 d\\n");
    assert_string_equal(err.message, "a\\nb\\tc\\x01 \\x7f \\xc2\\x9b \\xff \xc3\xa4 "
                                     "\\xed\\xa0\\x80 d\\n");
}

static void test_error__long_message_is_cut_visibly_between_characters(void **state)
{
    pst_error err = PST_ERROR_INIT;
    char text[2001];

    (void)state;
    for (size_t i = 0; i + 1 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa4", 2);
    text[2000] = '\0';
    (void)pst_fail(&err, PST_E_IO, "x%s", text);
    const size_t len = strlen(err.message);
    assert_in_range(len, sizeof(err.message) - 3, sizeof(err.message) - 1);
    assert_string_equal(err.message + len - 3, "...");
    assert_memory_equal(err.message + len - 5, "\xc3\xa4", 2);
}

static void test_error__errno_gives_its_text_and_number(void **state)
{
    pst_error err = PST_ERROR_INIT;

    (void)state;
    assert_int_equal(pst_fail_errno(&err, PST_E_NO_SPACE, ENOSPC, "write %s", "x"), PST_E_NO_SPACE);
    assert_string_equal(err.message, "write x: No space left on device");
    assert_int_equal(err.sys_errno, ENOSPC);
}

static void test_error__errno_text_survives_a_long_name(void **state)
{
    pst_error err = PST_ERROR_INIT;
    char name[1500];

    (void)state;
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    (void)pst_fail_errno(&err, PST_E_IO, EIO, "%s", name);
    assert_non_null(strstr(err.message, "nn...: Input/output error"));
}

static void test_error__prefix_goes_before_the_message(void **state)
{
    pst_error err = PST_ERROR_INIT;

    (void)state;
    (void)pst_fail_errno(&err, PST_E_IO, EIO, "x");
    pst_error_prefix(&err, "get %s: ", "file:///x");
    assert_string_equal(err.message, "get file:///x: x: Input/output error");
    assert_int_equal(err.code, PST_E_IO);
    assert_int_equal(err.sys_errno, EIO);
}

static void test_error__own_message_may_be_an_argument(void **state)
{
    pst_error err = PST_ERROR_INIT;

    (void)state;
    (void)pst_fail(&err, PST_E_IO, "inner");
    (void)pst_fail(&err, PST_E_IO, "outer: %s", err.message);
    assert_string_equal(err.message, "outer: inner");
}

/* What an application of another version passes in: a struct_size that is not ours. */
struct skewed {
    pst_error err;
    unsigned char tail[64];
};

static void poison(struct skewed *s, size_t struct_size)
{
    memset(s, 0xa5, sizeof(*s));
    s->err.struct_size = (uint32_t)struct_size;
}

static void assert_poisoned_from(const struct skewed *s, size_t offset)
{
    const unsigned char *bytes = (const unsigned char *)s;

    for (size_t i = offset; i < sizeof(*s); i++)
        assert_int_equal(bytes[i], 0xa5);
}

static void test_error__older_struct_is_filled_only_as_far_as_it_reaches(void **state)
{
    const size_t sizes[] = {0, 4, offsetof(pst_error, flags), offsetof(pst_error, attempt),
                            offsetof(pst_error, message)};
    pst_error full = PST_ERROR_INIT;
    struct skewed s;

    (void)state;
    (void)pst_fail_errno(&full, PST_E_IO, EIO, "x");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t touched = sizes[i] < 4 ? 4 : sizes[i];
        poison(&s, sizes[i]);
        (void)pst_fail_errno(&s.err, PST_E_IO, EIO, "x");
        pst_error_prefix(&s.err, "y");
        assert_poisoned_from(&s, touched);
        pst_error_copy(&s.err, &full);
        assert_poisoned_from(&s, touched);
        pst_error_clear(&s.err);
        assert_poisoned_from(&s, touched);
        assert_int_equal(s.err.struct_size, sizes[i]);
        if (sizes[i] >= 8)
            assert_int_equal(s.err.code, 0);
    }
}

static void test_error__newer_struct_keeps_its_tail(void **state)
{
    pst_error full = PST_ERROR_INIT;
    struct skewed s;

    (void)state;
    (void)pst_fail(&full, PST_E_IO, "x");
    poison(&s, sizeof(s));
    (void)pst_fail(&s.err, PST_E_IO, "hello");
    assert_string_equal(s.err.message, "hello");
    pst_error_copy(&s.err, &full);
    assert_string_equal(s.err.message, "x");
    pst_error_clear(&s.err);
    assert_string_equal(s.err.message, "");
    assert_poisoned_from(&s, sizeof(pst_error));
}

static void test_error__copy_clears_what_the_source_does_not_have(void **state)
{
    pst_error from = PST_ERROR_INIT, to = PST_ERROR_INIT;

    (void)state;
    (void)pst_fail(&from, PST_E_DENIED, "new");
    (void)pst_fail(&to, PST_E_IO, "old");
    from.struct_size = offsetof(pst_error, message);
    pst_error_copy(&to, &from);
    assert_int_equal(to.code, PST_E_DENIED);
    assert_string_equal(to.message, "");
    assert_int_equal(to.struct_size, sizeof(to));
}

static void test_printable__cuts_at_every_size_without_overrun(void **state)
{
    const pst_str text = PST_STR("ab\n\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\x01z");

    (void)state;
    for (size_t cap = 1; cap < 40; cap++) {
        char out[48];
        memset(out, 0x5a, sizeof(out));
        assert_ptr_equal(pst_printable(text, out, cap), out);
        assert_true(strlen(out) < cap);
        for (size_t i = cap; i < sizeof(out); i++)
            assert_int_equal(out[i], 0x5a);
        if (cap > 3 && cap < 19)
            assert_string_equal(out + strlen(out) - 3, "...");
    }
}

static void test_status__every_code_has_a_text_a_name_and_an_exit_code(void **state)
{
    (void)state;
    assert_string_equal(pst_rc_text(PST_E_NOT_FOUND), "not found");
    assert_string_equal(pst_rc_name(PST_E_NOT_FOUND), "NOT_FOUND");
    assert_int_equal(pst_rc_exit_code(PST_E_NOT_FOUND), 3);
    assert_int_equal(pst_rc_exit_code(PST_E_CANCELLED), 130);
    assert_int_equal(pst_rc_exit_code(PST_OK), 0);
    for (pst_rc rc = PST_E_NO_SCHEME; rc < 0; rc++) {
        assert_string_not_equal(pst_rc_text(rc), "unknown error");
        assert_int_not_equal(pst_rc_exit_code(rc), 0);
    }
}

static void test_status__code_of_a_later_version_is_an_unknown_error(void **state)
{
    (void)state;
    assert_string_equal(pst_rc_text(-9999), "unknown error");
    assert_string_equal(pst_rc_name(-9999), "UNKNOWN");
    assert_int_equal(pst_rc_exit_code(-9999), pst_rc_exit_code(PST_E_INTERNAL));
    assert_int_equal(pst_rc_exit_code(17), pst_rc_exit_code(PST_E_INTERNAL));
}

static void test_status__version_is_the_headers(void **state)
{
    char expected[32];

    (void)state;
    snprintf(expected, sizeof(expected), "%d.%d.%d", PST_VERSION_MAJOR, PST_VERSION_MINOR,
             PST_VERSION_PATCH);
    assert_string_equal(pst_version(), expected);
}

struct lines {
    unsigned n;
    uint32_t level;
    char last[2000];
};

static void keep_line(void *arg, uint32_t level, const char *line)
{
    struct lines *lines = arg;

    lines->n++;
    lines->level = level;
    snprintf(lines->last, sizeof(lines->last), "%s", line);
}

static void test_log__gives_one_line_of_the_level_asked_for(void **state)
{
    struct lines lines = {0};
    struct pst_log log;

    (void)state;
    pst_log_init(&log, keep_line, &lines, PST_LEVEL_WARN);
    pst_logf(&log, PST_LEVEL_INFO, "not this");
    assert_int_equal(lines.n, 0);
    assert_false(pst_log_enabled(&log, PST_LEVEL_INFO));
    assert_true(pst_log_enabled(&log, PST_LEVEL_WARN));
    pst_logf(&log, PST_LEVEL_ERROR, "two\nlines %d", 2);
    assert_int_equal(lines.n, 1);
    assert_int_equal(lines.level, PST_LEVEL_ERROR);
    assert_string_equal(lines.last, "two\\nlines 2");
    pst_log_fini(&log);
}

static void test_log__works_in_a_fork_child_whose_parent_held_the_mutex(void **state)
{
    struct lines lines = {0};
    struct pst_log log;
    int status = -1;

    (void)state;
    pst_log_init(&log, keep_line, &lines, PST_LEVEL_DEBUG);
    pthread_mutex_lock(&log.mutex); /* as a thread does that is gone after fork */
    pid_t child = fork();
    if (child == 0) {
        pst_log_fork_child(&log);
        pst_logf(&log, PST_LEVEL_DEBUG, "alive");
        _exit(strcmp(lines.last, "alive") == 0 ? 0 : 1);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    pthread_mutex_unlock(&log.mutex);
    pst_log_fini(&log);
}

static void test_log__without_a_sink_nothing_is_enabled(void **state)
{
    struct pst_log log;

    (void)state;
    pst_log_init(&log, NULL, NULL, PST_LEVEL_DEBUG);
    assert_false(pst_log_enabled(&log, PST_LEVEL_ERROR));
    pst_logf(&log, PST_LEVEL_ERROR, "nowhere");
    pst_logf(NULL, PST_LEVEL_ERROR, "nowhere");
    pst_log_fini(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error__returns_its_code_and_keeps_the_facts),
        cmocka_unit_test(test_error__no_struct_is_needed),
        cmocka_unit_test(test_error__message_is_one_line_of_utf8),
        cmocka_unit_test(test_error__long_message_is_cut_visibly_between_characters),
        cmocka_unit_test(test_error__errno_gives_its_text_and_number),
        cmocka_unit_test(test_error__errno_text_survives_a_long_name),
        cmocka_unit_test(test_error__prefix_goes_before_the_message),
        cmocka_unit_test(test_error__own_message_may_be_an_argument),
        cmocka_unit_test(test_error__older_struct_is_filled_only_as_far_as_it_reaches),
        cmocka_unit_test(test_error__newer_struct_keeps_its_tail),
        cmocka_unit_test(test_error__copy_clears_what_the_source_does_not_have),
        cmocka_unit_test(test_printable__cuts_at_every_size_without_overrun),
        cmocka_unit_test(test_status__every_code_has_a_text_a_name_and_an_exit_code),
        cmocka_unit_test(test_status__code_of_a_later_version_is_an_unknown_error),
        cmocka_unit_test(test_status__version_is_the_headers),
        cmocka_unit_test(test_log__gives_one_line_of_the_level_asked_for),
        cmocka_unit_test(test_log__works_in_a_fork_child_whose_parent_held_the_mutex),
        cmocka_unit_test(test_log__without_a_sink_nothing_is_enabled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
