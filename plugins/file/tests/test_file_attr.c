/* stat: text fields, user metadata and checksums that are kept beside the bytes. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "mini_host.h"

static const pst_str none = {NULL, 0};
static const pst_sum sum_of_digits = {.algorithm = PST_SUM_CRC32C,
                                      .scope = PST_SCOPE_OBJECT,
                                      .length = 4,
                                      .bytes = {0xe3, 0x06, 0x92, 0x83}};

static void assert_str(pst_str s, const char *expected)
{
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(s.ptr, expected, s.len);
}

/* The value of a metadata key; fails the test if it is not there. */
static pst_str meta(const pst_attr *attr, const char *key)
{
    for (size_t i = 0; i < attr->n_user_meta; i++) {
        if (attr->user_meta[i].key.len == strlen(key) &&
            memcmp(attr->user_meta[i].key.ptr, key, strlen(key)) == 0)
            return attr->user_meta[i].value;
    }
    fail_msg("no metadata key %s", key);
    return none;
}

static pst_rc put_with(struct mini_fixture *f, const char *key, const pst_attr *attr)
{
    return mini_put(&f->mini, mini_str(key), "123456789", 9, 0, none, attr, NULL);
}

static void test_attr__text_fields_and_metadata_come_back_exactly(void **state)
{
    struct mini_fixture *f = *state;
    const pst_kv kv[] = {{PST_STR("Colour"), PST_STR("blue")},
                         {PST_STR("colour"), PST_STR("red")}, /* case is kept apart */
                         {PST_STR("\xc3\xa4 %=/.\n"), PST_STR("\xe2\x82\xac")},
                         {PST_STR("empty"), PST_STR("")}};
    const pst_attr attr = {.struct_size = sizeof(attr),
                           .content_type = PST_STR("text/plain; charset=utf-8"),
                           .content_encoding = PST_STR("zstd"),
                           .content_language = PST_STR("de"),
                           .content_disposition = PST_STR("attachment; filename=\"x\""),
                           .cache_control = PST_STR("no-cache"),
                           .storage_class = PST_STR("COLD"),
                           .user_meta = kv,
                           .n_user_meta = 4};
    pst_attr got;
    struct mini_op op;

    assert_int_equal(put_with(f, "o", &attr), PST_OK);
    assert_int_equal(mini_stat(&f->mini, PST_STR("o"), &op, &got), PST_OK);
    assert_int_equal(got.struct_size, sizeof(got));
    assert_int_equal(got.size, 9);
    assert_int_equal(got.kind, PST_KIND_OBJECT);
    assert_int_equal(got.etag_strength, PST_ETAG_STRONG);
    assert_str(got.content_type, "text/plain; charset=utf-8");
    assert_str(got.content_encoding, "zstd");
    assert_str(got.content_language, "de");
    assert_str(got.content_disposition, "attachment; filename=\"x\"");
    assert_str(got.cache_control, "no-cache");
    assert_str(got.storage_class, "COLD");
    assert_int_equal(got.n_user_meta, 4);
    assert_str(meta(&got, "Colour"), "blue");
    assert_str(meta(&got, "colour"), "red");
    assert_str(meta(&got, "\xc3\xa4 %=/.\n"), "\xe2\x82\xac");
    assert_str(meta(&got, "empty"), "");
    mini_op_fini(&op);
}

static void test_attr__plain_file_has_size_time_and_nothing_else(void **state)
{
    struct mini_fixture *f = *state;
    struct mini_op op;
    struct stat st;
    pst_attr got;
    char *path = mini_path(f->dir, "o");

    mini_write_file(f->dir, "o", "12345");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(mini_stat(&f->mini, PST_STR("o"), &op, &got), PST_OK);
    assert_int_equal(got.size, 5);
    assert_int_equal(got.mtime_ns, st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
    assert_int_equal(got.n_sums, 0);
    assert_int_equal(got.n_user_meta, 0);
    assert_int_equal(got.content_type.len, 0);
    assert_int_equal(got.version.len, 0);
    mini_op_fini(&op);
    free(path);
}

static void test_attr__replacing_an_object_leaves_nothing_of_the_old_attributes(void **state)
{
    struct mini_fixture *f = *state;
    const pst_kv kv = {PST_STR("k"), PST_STR("v")};
    const pst_attr attr = {.struct_size = sizeof(attr),
                           .content_type = PST_STR("text/plain"),
                           .user_meta = &kv,
                           .n_user_meta = 1};
    struct mini_op op;
    pst_attr got;

    assert_int_equal(put_with(f, "o", &attr), PST_OK);
    assert_int_equal(put_with(f, "o", NULL), PST_OK);
    assert_int_equal(mini_stat(&f->mini, PST_STR("o"), &op, &got), PST_OK);
    assert_int_equal(got.content_type.len, 0);
    assert_int_equal(got.n_user_meta, 0);
    mini_op_fini(&op);
}

static void test_attr__metadata_that_does_not_fit_is_refused_and_nothing_is_written(void **state)
{
    struct mini_fixture *f = *state;
    char *big = malloc(70000), *long_key = malloc(237);
    memset(big, 'v', 70000);
    memset(long_key, 'k', 237);
    const pst_kv bad[] = {
        {PST_STR("big"), {big, 70000}},
        {{long_key, 237}, PST_STR("v")},
        {PST_STR(""), PST_STR("v")},
        {{"a\0b", 3}, PST_STR("v")},
    };
    const pst_kv fits = {{long_key, 236}, PST_STR("v")};
    const pst_kv twice[] = {{PST_STR("k"), PST_STR("1")}, {PST_STR("k"), PST_STR("2")}};
    pst_attr attr = {.struct_size = sizeof(attr), .n_user_meta = 1};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        attr.user_meta = &bad[i];
        assert_int_equal(put_with(f, "sub/dir/o", &attr), PST_E_INVALID);
        assert_int_equal(mini_count_names(f->dir), 0); /* no file, no directory */
    }
    attr.user_meta = twice;
    attr.n_user_meta = 2;
    assert_int_equal(put_with(f, "o", &attr), PST_E_INVALID);
    assert_int_equal(mini_count_names(f->dir), 0);
    attr.user_meta = &fits;
    attr.n_user_meta = 1;
    assert_int_equal(put_with(f, "o", &attr), PST_OK);
    free(big);
    free(long_key);
}

static void test_attr__sum_is_kept_while_the_bytes_are(void **state)
{
    struct mini_fixture *f = *state;
    struct mini_op op;
    pst_attr got;

    assert_int_equal(mini_put_sum(&f->mini, PST_STR("o"), "123456789", 9, &sum_of_digits), PST_OK);
    assert_int_equal(mini_stat(&f->mini, PST_STR("o"), &op, &got), PST_OK);
    assert_int_equal(got.n_sums, 1);
    assert_int_equal(got.sum_stride, sizeof(pst_sum));
    assert_int_equal(got.sums[0].algorithm, PST_SUM_CRC32C);
    assert_int_equal(got.sums[0].scope, PST_SCOPE_OBJECT);
    assert_int_equal(got.sums[0].length, 4);
    assert_memory_equal(got.sums[0].bytes, sum_of_digits.bytes, 4);
    mini_op_fini(&op);
}

static void test_attr__read_supplies_the_sum_when_it_is_asked_and_begins_the_object(void **state)
{
    static const struct {
        uint64_t offset, length;
        uint32_t flags, n_sums;
    } cases[] = {
        {0, 9, 0, 0},
        {0, 9, PST_READ_SUMS, 1},
        {0, 4, PST_READ_SUMS, 1},
        {1, 8, PST_READ_SUMS, 0},
        {0, 3, PST_READ_SUMS | PST_READ_SUFFIX, 0},
        {0, 9, PST_READ_SUMS | PST_READ_SUFFIX, 1},
    };
    struct mini_fixture *f = *state;

    assert_int_equal(mini_put_sum(&f->mini, PST_STR("o"), "123456789", 9, &sum_of_digits), PST_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mini_op op;
        pst_read_result got = {.struct_size = sizeof(got)};
        const pst_read_args args = {.struct_size = sizeof(args),
                                    .flags = cases[i].flags,
                                    .offset = cases[i].offset,
                                    .length = cases[i].length,
                                    .key = PST_STR("o")};
        mini_op_init(&f->mini, &op);
        assert_int_equal(
            mini_op_wait(&op, f->mini.plugin->ops->read(f->mini.store, &op.op, &args, &got)),
            PST_OK);
        assert_int_equal(got.n_sums, cases[i].n_sums);
        if (got.n_sums > 0)
            assert_memory_equal(got.sums[0].bytes, sum_of_digits.bytes, 4);
        mini_op_fini(&op);
    }
}

static uint32_t count_sums(struct mini_fixture *f, const char *key)
{
    struct mini_op op;
    pst_attr got;

    assert_int_equal(mini_stat(&f->mini, mini_str(key), &op, &got), PST_OK);
    mini_op_fini(&op);
    return got.n_sums;
}

/* Wait until the clock is well past the 50 ms in which a ctime is believed to be the writer's. */
static void pass_trust_window(const char *path)
{
    struct timespec now;
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    do
        clock_gettime(CLOCK_REALTIME, &now);
    while ((now.tv_sec - st.st_ctim.tv_sec) * 1000000000 + now.tv_nsec - st.st_ctim.tv_nsec <
           80000000);
}

static void test_attr__sum_is_not_believed_after_a_change_with_the_old_mtime(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "o");
    struct stat st;

    assert_int_equal(mini_put_sum(&f->mini, PST_STR("o"), "123456789", 9, &sum_of_digits), PST_OK);
    assert_int_equal(stat(path, &st), 0);
    pass_trust_window(path);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "X", 1, 4), 1);
    assert_int_equal(futimens(fd, (struct timespec[2]){st.st_atim, st.st_mtim}), 0);
    close(fd);
    struct stat after;
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, st.st_size);
    assert_int_equal(after.st_mtim.tv_nsec, st.st_mtim.tv_nsec);
    assert_int_equal(count_sums(f, "o"), 0);
    free(path);
}

static void test_attr__sum_is_not_believed_after_truncation_or_append(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "o");

    assert_int_equal(mini_put_sum(&f->mini, PST_STR("o"), "123456789", 9, &sum_of_digits), PST_OK);
    assert_int_equal(truncate(path, 8), 0);
    assert_int_equal(count_sums(f, "o"), 0);
    assert_int_equal(mini_put_sum(&f->mini, PST_STR("o"), "123456789", 9, &sum_of_digits), PST_OK);
    FILE *file = fopen(path, "a");
    assert_int_equal(fputs("0", file) < 0, 0);
    fclose(file);
    assert_int_equal(count_sums(f, "o"), 0);
    free(path);
}

static void test_attr__damaged_sum_is_not_reported(void **state)
{
    struct mini_fixture *f = *state;
    static const char *const bad[] = {"",
                                      "x",
                                      "9",
                                      "9 1 1 crc32c:e306928",
                                      "crc32c:e3069283",
                                      "9 99999999999999999999 1 crc32c:e3069283"};
    char *path = mini_path(f->dir, "o");

    assert_int_equal(put_with(f, "o", NULL), PST_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(setxattr(path, "user.penstock.sums", bad[i], strlen(bad[i]), 0), 0);
        assert_int_equal(count_sums(f, "o"), 0);
    }
    free(path);
}

static void test_attr__sum_travels_with_copy_and_rename(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "o"), *copied = mini_path(f->dir, "copied");

    assert_int_equal(mini_put_sum(&f->mini, PST_STR("o"), "123456789", 9, &sum_of_digits), PST_OK);
    pass_trust_window(path);
    assert_int_equal(count_sums(f, "o"), 1);
    assert_int_equal(mini_copy(&f->mini, PST_STR("o"), PST_STR("copied"), 0, none, none, NULL),
                     PST_OK);
    assert_int_equal(count_sums(f, "copied"), 1);
    pass_trust_window(copied);
    assert_int_equal(mini_rename(&f->mini, PST_STR("copied"), PST_STR("moved"), 0, none), PST_OK);
    assert_int_equal(count_sums(f, "moved"), 1);
    /* ... but not one that is not believed any more. */
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(count_sums(f, "o"), 0);
    assert_int_equal(mini_copy(&f->mini, PST_STR("o"), PST_STR("copied"), 0, none, none, NULL),
                     PST_OK);
    assert_int_equal(count_sums(f, "copied"), 0);
    assert_int_equal(mini_rename(&f->mini, PST_STR("o"), PST_STR("moved"), 0, none), PST_OK);
    assert_int_equal(count_sums(f, "moved"), 0);
    free(path);
    free(copied);
}

static void test_attr__sum_of_the_wrong_length_is_refused(void **state)
{
    struct mini_fixture *f = *state;
    pst_sum sum = sum_of_digits;

    sum.length = 5;
    assert_int_equal(mini_put_sum(&f->mini, PST_STR("o"), "123456789", 9, &sum), PST_E_INVALID);
    assert_int_equal(mini_count_names(f->dir), 0);
}

static void test_attr__every_kind_of_sum_comes_back(void **state)
{
    struct mini_fixture *f = *state;
    static const struct {
        uint32_t algorithm, length;
    } kinds[] = {
        {PST_SUM_CRC32C, 4}, {PST_SUM_CRC64NVME, 8}, {PST_SUM_SHA256, 32}, {PST_SUM_MD5, 16}};

    for (size_t i = 0; i < 4; i++) {
        pst_sum sum = {.algorithm = kinds[i].algorithm, .length = kinds[i].length};
        struct mini_op op;
        pst_attr got;
        for (uint32_t j = 0; j < sum.length; j++)
            sum.bytes[j] = (uint8_t)(j * 37 + 250);
        assert_int_equal(mini_put_sum(&f->mini, PST_STR("o"), "x", 1, &sum), PST_OK);
        assert_int_equal(mini_stat(&f->mini, PST_STR("o"), &op, &got), PST_OK);
        assert_int_equal(got.n_sums, 1);
        assert_memory_equal(&got.sums[0], &sum, sizeof(sum));
        mini_op_fini(&op);
    }
}

static void test_attr__times_before_1970_are_kept(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "o");
    struct mini_op op;
    pst_attr got;

    mini_write_file(f->dir, "o", "old");
    const struct timespec then[2] = {{-10, 5}, {-10, 5}};
    assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
    assert_int_equal(mini_stat(&f->mini, PST_STR("o"), &op, &got), PST_OK);
    assert_int_equal(got.mtime_ns, -10000000000 + 5);
    mini_op_fini(&op);
    free(path);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mini_setup, mini_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_attr__text_fields_and_metadata_come_back_exactly),
        TEST(test_attr__plain_file_has_size_time_and_nothing_else),
        TEST(test_attr__replacing_an_object_leaves_nothing_of_the_old_attributes),
        TEST(test_attr__metadata_that_does_not_fit_is_refused_and_nothing_is_written),
        TEST(test_attr__sum_is_kept_while_the_bytes_are),
        TEST(test_attr__read_supplies_the_sum_when_it_is_asked_and_begins_the_object),
        TEST(test_attr__sum_is_not_believed_after_a_change_with_the_old_mtime),
        TEST(test_attr__sum_is_not_believed_after_truncation_or_append),
        TEST(test_attr__damaged_sum_is_not_reported),
        TEST(test_attr__sum_travels_with_copy_and_rename),
        TEST(test_attr__sum_of_the_wrong_length_is_refused),
        TEST(test_attr__every_kind_of_sum_comes_back),
        TEST(test_attr__times_before_1970_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
