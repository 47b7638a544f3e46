/* A read gives the exact bytes of one version, or an error. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "mini_host.h"

static const pst_str none = {NULL, 0};

static pst_rc read_text(struct mini_fixture *f, uint64_t offset, uint64_t length, uint32_t flags,
                        char **text)
{
    size_t n;
    pst_rc rc = mini_read(&f->mini, PST_STR("o"), offset, length, flags, none, text, &n, NULL);

    if (rc == PST_OK)
        assert_int_equal(strlen(*text), n);
    return rc;
}

static void assert_range(struct mini_fixture *f, uint64_t offset, uint64_t length, uint32_t flags,
                         const char *expected)
{
    char *text;

    assert_int_equal(read_text(f, offset, length, flags, &text), PST_OK);
    assert_string_equal(text, expected);
    free(text);
}

static void check_ranges(struct mini_fixture *f)
{
    mini_write_file(f->dir, "o", "0123456789");
    assert_range(f, 0, 10, 0, "0123456789");
    assert_range(f, 0, 100, 0, "0123456789");
    assert_range(f, 3, 4, 0, "3456");
    assert_range(f, 9, 5, 0, "9");
    assert_range(f, 10, 5, 0, "");
    assert_range(f, 4000, 5, 0, "");
    assert_range(f, UINT64_MAX, 5, 0, "");
    assert_range(f, UINT64_MAX - 2, 5, 0, "");
    assert_range(f, 2, 0, 0, "");
    assert_range(f, 12345, 4, PST_READ_SUFFIX, "6789");
    assert_range(f, 0, 100, PST_READ_SUFFIX, "0123456789");
    assert_range(f, 0, 0, PST_READ_SUFFIX, "");
    mini_write_file(f->dir, "o", "");
    assert_range(f, 0, 10, 0, "");
    assert_range(f, 0, 10, PST_READ_SUFFIX, "");
}

static void test_read__ranges_are_exact_with_granted_memory(void **state)
{
    check_ranges(*state);
}

static void test_read__ranges_are_exact_in_spans_of_three_bytes(void **state)
{
    struct mini_fixture *f = *state;

    f->mini.span_bytes = 3;
    check_ranges(f);
    f->mini.dst = MINI_DST_EARLY;
    check_ranges(f);
}

static void test_read__ranges_are_exact_with_early_memory(void **state)
{
    struct mini_fixture *f = *state;

    f->mini.dst = MINI_DST_EARLY;
    check_ranges(f);
}

static void test_read__later_is_answered_by_starting_over(void **state)
{
    struct mini_fixture *f = *state;

    f->mini.dst = MINI_DST_LATER;
    check_ranges(f);
    assert_int_equal(f->mini.n_later, 6); /* reads of something; one LATER for each */
    f->mini.is_threaded = 1;
    for (int i = 0; i < 200; i++)
        check_ranges(f);
}

static void test_read__later_leaves_no_descriptor_open(void **state)
{
    struct mini_fixture *f = *state;
    int before = mini_count_names("/proc/self/fd");

    f->mini.dst = MINI_DST_LATER;
    check_ranges(f);
    assert_int_equal(mini_count_names("/proc/self/fd"), before);
}

static void test_read__thousands_of_spans_are_filled(void **state)
{
    struct mini_fixture *f = *state;
    char *big = malloc(100001), *text;

    for (size_t i = 0; i < 100000; i++)
        big[i] = (char)('a' + (i * 7 + i / 26) % 26);
    big[100000] = '\0';
    mini_write_file(f->dir, "o", big);
    f->mini.span_bytes = 17;
    assert_int_equal(read_text(f, 0, 200000, 0, &text), PST_OK);
    assert_string_equal(text, big);
    free(text);
    free(big);
}

static void test_read__etag_pins_the_version(void **state)
{
    struct mini_fixture *f = *state;
    char etag[128], again[128];
    struct stat st;

    mini_write_file(f->dir, "o", "one");
    assert_int_equal(mini_read(&f->mini, PST_STR("o"), 0, 9, 0, none, NULL, NULL, etag), PST_OK);
    assert_int_equal(mini_etag(&f->mini, PST_STR("o"), again), PST_OK);
    assert_string_equal(etag, again);
    assert_int_equal(mini_read(&f->mini, PST_STR("o"), 0, 9, 0, mini_str(etag), NULL, NULL, NULL),
                     PST_OK);
    assert_int_equal(mini_read(&f->mini, PST_STR("o"), 0, 9, 0, PST_STR("other"), NULL, NULL, NULL),
                     PST_E_PRECONDITION);
    /* Same size, new bytes, old mtime: the ctime gives it away. */
    char *path = mini_path(f->dir, "o");
    assert_int_equal(stat(path, &st), 0);
    mini_pass_tick(f->dir, "o");
    mini_write_file(f->dir, "o", "two");
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[2]){st.st_atim, st.st_mtim}, 0), 0);
    assert_int_equal(mini_read(&f->mini, PST_STR("o"), 0, 9, 0, mini_str(etag), NULL, NULL, NULL),
                     PST_E_PRECONDITION);
    free(path);
}

/* What happens to the file while the read has it open. */
static void grow(void *arg)
{
    char *path = mini_path(((struct mini_fixture *)arg)->dir, "o");
    FILE *f = fopen(path, "a");
    fputs("more", f);
    fclose(f);
    free(path);
}

static void shrink(void *arg)
{
    char *path = mini_path(((struct mini_fixture *)arg)->dir, "o");
    assert_int_equal(truncate(path, 4), 0);
    free(path);
}

static void rewrite(void *arg)
{
    mini_write_file(((struct mini_fixture *)arg)->dir, "o", "abcdefghij");
}

static void rewrite_with_old_mtime(void *arg)
{
    char *path = mini_path(((struct mini_fixture *)arg)->dir, "o");
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    rewrite(arg);
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[2]){st.st_atim, st.st_mtim}, 0), 0);
    free(path);
}

static void replace(void *arg)
{
    struct mini_fixture *f = arg;
    char *from = mini_path(f->dir, "new"), *to = mini_path(f->dir, "o");

    mini_write_file(f->dir, "new", "a new file of another size");
    assert_int_equal(rename(from, to), 0);
    free(from);
    free(to);
}

static void delete (void *arg)
{
    char *path = mini_path(((struct mini_fixture *)arg)->dir, "o");
    assert_int_equal(unlink(path), 0);
    free(path);
}

static pst_rc read_while(struct mini_fixture *f, void (*event)(void *), char **text)
{
    mini_write_file(f->dir, "o", "0123456789");
    mini_pass_tick(f->dir, "o");
    f->mini.on_dst = event;
    f->mini.on_dst_arg = f;
    pst_rc rc = read_text(f, 0, 10, 0, text);
    f->mini.on_dst = NULL;
    return rc;
}

static void test_read__change_in_place_while_reading_is_changed(void **state)
{
    struct mini_fixture *f = *state;
    void (*const events[])(void *) = {grow, shrink, rewrite, rewrite_with_old_mtime};

    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        char *text;
        assert_int_equal(read_while(f, events[i], &text), PST_E_CHANGED);
        assert_int_equal(f->mini.err.flags & PST_ERR_RETRYABLE, 0);
    }
}

static void test_read__replaced_or_deleted_file_gives_the_old_version(void **state)
{
    struct mini_fixture *f = *state;
    void (*const events[])(void *) = {replace, delete};

    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        char *text;
        assert_int_equal(read_while(f, events[i], &text), PST_OK);
        assert_string_equal(text, "0123456789");
        free(text);
    }
}

static void test_read__what_is_no_object_is_not_found_and_named(void **state)
{
    struct mini_fixture *f = *state;
    static const struct {
        const char *name, *words;
    } others[] = {{"dir", "is a directory"}, {"fifo", "is a fifo"}, {"socket", "is a socket"}};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *path = mini_path(f->dir, "dir");
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(mkdir(path, 0777), 0);
    free(path);
    path = mini_path(f->dir, "fifo");
    assert_int_equal(mkfifo(path, 0666), 0);
    free(path);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", f->dir);
    assert_int_equal(bind(s, (const struct sockaddr *)&address, sizeof(address)), 0);
    close(s);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_int_equal(mini_read(&f->mini, mini_str(others[i].name), 0, 1, 0, none, NULL, NULL,
                                   NULL), /* and a fifo does not hang it */
                         PST_E_NOT_FOUND);
        assert_non_null(strstr(f->mini.err.message, others[i].words));
        assert_int_equal(mini_etag(&f->mini, mini_str(others[i].name), NULL), PST_E_NOT_FOUND);
        assert_non_null(strstr(f->mini.err.message, others[i].words));
    }
    assert_int_equal(mini_read(&f->mini, PST_STR("none"), 0, 1, 0, none, NULL, NULL, NULL),
                     PST_E_NOT_FOUND);
    assert_int_equal(f->mini.err.flags, 0);
}

static void test_read__file_of_the_kernel_without_a_size_is_an_error(void **state)
{
    struct mini_host mini;

    (void)state;
    assert_int_equal(mini_open(&mini, NULL), PST_OK); /* the default root */
    assert_int_equal(mini_read(&mini, PST_STR("proc/self/status"), 0, 9, 0, none, NULL, NULL, NULL),
                     PST_E_CHANGED);
    assert_non_null(strstr(mini.err.message, "although its size is 0"));
    mini_close(&mini);
}

static int read_as_nobody(void *arg)
{
    struct mini_fixture *f = arg;

    return mini_read(&f->mini, PST_STR("o"), 0, 1, 0, none, NULL, NULL, NULL) == PST_E_DENIED &&
                   mini_etag(&f->mini, PST_STR("o"), NULL) == PST_OK
               ? 0
               : 1;
}

static void test_read__unreadable_file_is_denied_but_has_a_size(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "o");

    mini_write_file(f->dir, "o", "secret");
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(chmod(f->dir, 0755), 0);
    if (geteuid() != 0) /* our own file: take away all rights */
        assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(mini_run_child(read_as_nobody, f, 1), 0);
    free(path);
}

static void test_read__cancel_between_blocks_ends_it(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "o");

    mini_write_file(f->dir, "o", "");
    assert_int_equal(truncate(path, 20 << 20), 0);
    f->mini.cancel_at_dst = 1;
    assert_int_equal(mini_read(&f->mini, PST_STR("o"), 0, 20 << 20, 0, none, NULL, NULL, NULL),
                     PST_E_CANCELLED);
    free(path);
}

static void test_read__old_version_is_not_supported(void **state)
{
    struct mini_fixture *f = *state;
    struct mini_op op;
    const pst_read_args args = {
        .struct_size = sizeof(args), .length = 1, .key = PST_STR("o"), .version = PST_STR("v1")};
    pst_read_result result = {.struct_size = sizeof(result)};

    mini_write_file(f->dir, "o", "x");
    mini_op_init(&f->mini, &op);
    assert_int_equal(
        mini_op_wait(&op, f->mini.plugin->ops->read(f->mini.store, &op.op, &args, &result)),
        PST_E_UNIMPLEMENTED);
    mini_op_fini(&op);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mini_setup, mini_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_read__ranges_are_exact_with_granted_memory),
        TEST(test_read__ranges_are_exact_in_spans_of_three_bytes),
        TEST(test_read__ranges_are_exact_with_early_memory),
        TEST(test_read__later_is_answered_by_starting_over),
        TEST(test_read__later_leaves_no_descriptor_open),
        TEST(test_read__thousands_of_spans_are_filled),
        TEST(test_read__etag_pins_the_version),
        TEST(test_read__change_in_place_while_reading_is_changed),
        TEST(test_read__replaced_or_deleted_file_gives_the_old_version),
        TEST(test_read__what_is_no_object_is_not_found_and_named),
        TEST(test_read__file_of_the_kernel_without_a_size_is_an_error),
        TEST(test_read__unreadable_file_is_denied_but_has_a_size),
        TEST(test_read__cancel_between_blocks_ends_it),
        TEST(test_read__old_version_is_not_supported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
