/* Compressed objects end to end: written by Penstock and read by the zstd command, the other way round,
 * whole and by ranges; and everything that can be wrong with them. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <penstock/penstock.h>
#include <penstock/sum.h>

#include "scratch.h"
#include "torture.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define FRAME (64 * KIB)
#define TEXT_BYTES (3 * MIB + 12345)

extern char **environ;

struct fixture {
    pst_context *context;
    pst_store *store;
    void *dir;
};

static char text[TEXT_BYTES];

static int setup_budget(void **state, uint64_t budget_bytes)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const char *const dirs[] = {getenv("PST_TEST_PLUGINS"), NULL};
    const pst_context_options options = {.struct_size = sizeof(options),
                                         .flags = PST_CONTEXT_ONLY_DIRS |
                                                  PST_CONTEXT_NO_ENVIRONMENT,
                                         .memory_budget_bytes = budget_bytes,
                                         .plugin_dirs = dirs};
    unsigned seed = 7;
    assert_non_null(f);
    for (size_t i = 0; i < sizeof(text); i++) {
        seed = seed * 1103515245u + 12345u;
        text[i] = "etaoin shrdlu"[(seed >> 16) % 13];
    }
    scratch_setup(&f->dir);
    const pst_kv root = {PST_STR("root"), pst_str_of(f->dir, strlen(f->dir))};
    assert_int_equal(pst_context_new(&options, &f->context, NULL), PST_OK);
    assert_int_equal(pst_store_open(f->context, PST_STR("file:///"), &root, 1, &f->store, NULL),
                     PST_OK);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_budget(state, 256 * MIB);
}

static int setup_small_budget(void **state)
{
    return setup_budget(state, 2 * MIB);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(f->context, &stats);
    assert_int_equal(stats.in_flight_bytes, 0);
    assert_int_equal(stats.handed_out_bytes, 0);
    pst_store_free(f->store);
    pst_context_free(f->context);
    scratch_teardown(&f->dir);
    free(f);
    return 0;
}

static pst_str str(const char *s)
{
    return pst_str_of(s, strlen(s));
}

/* ---- the zstd command -------------------------------------------------------------------------- */

/* Run it with these words; stdout goes to `out`, unless NULL. Returns its exit status. */
static int run_zstd(const char *const *words, const char *in, const char *out)
{
    char *argv[16] = {NULL};
    posix_spawn_file_actions_t actions;
    pid_t child = 0;
    int status = 0, n = 0;
    argv[n++] = (char *)(uintptr_t) "zstd";
    for (; *words; words++)
        argv[n++] = (char *)(uintptr_t)*words;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, in, O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, out ? out : "/dev/null",
                                     O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    assert_int_equal(posix_spawnp(&child, "zstd", &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *slurp(const char *path, size_t *len)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    char *bytes = malloc((size_t)st.st_size + 1);
    assert_non_null(bytes);
    *len = (size_t)st.st_size;
    assert_int_equal(read(fd, bytes, *len), st.st_size);
    close(fd);
    return bytes;
}

/* ---- objects ----------------------------------------------------------------------------------- */

/* What is stored under `key`, to be freed. */
static unsigned char *stored_as(struct fixture *f, const char *key, size_t *len)
{
    return (unsigned char *)slurp(scratch_path(f->dir, key), len);
}

static void put_raw(struct fixture *f, const char *key, const void *bytes, size_t len)
{
    const pst_iov src = {(void *)(uintptr_t)bytes, len};
    assert_int_equal(pst_put(f->store, str(key), &src, 1, NULL, NULL, NULL, NULL), PST_OK);
}

static void write_compressed(struct fixture *f, const char *key, size_t len, int level,
                             size_t frame_bytes, pst_write_result *result)
{
    pst_writer *writer = NULL;
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .zstd_level = level,
                                       .zstd_frame_bytes = frame_bytes,
                                       .sums = 1u << PST_SUM_CRC32C};
    assert_int_equal(pst_writer_open(f->store, str(key), &options, NULL, &writer, NULL), PST_OK);
    for (size_t at = 0; at < len; at += 100000)
        assert_int_equal(
            pst_writer_write(writer, text + at, len - at < 100000 ? len - at : 100000, NULL),
            PST_OK);
    assert_int_equal(pst_writer_finalize(writer, result, NULL), PST_OK);
    pst_writer_free(writer);
}

static const pst_read_options by_name = {.struct_size = sizeof(by_name),
                                         .decode = PST_DECODE_BY_NAME};

static void require_get(struct fixture *f, const char *key, const void *content, size_t len)
{
    pst_buffer *buffer = NULL;
    pst_error err = PST_ERROR_INIT;
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_read_options options = by_name;
    options.flags = PST_READ_EXPECT_CRC32C;
    options.expected_crc32c = pst_crc32c(0, content, len);
    pst_rc rc = pst_get(f->store, str(key), &options, NULL, &buffer, &info, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(rc, PST_OK);
    assert_int_equal(pst_buffer_size(buffer), len);
    assert_int_equal(info.n_read, len);
    assert_int_equal(info.crc32c, options.expected_crc32c);
    if (len > 0)
        assert_memory_equal(pst_buffer_data(buffer), content, len);
    pst_buffer_unref(buffer);
}

static void require_failure(struct fixture *f, const char *key, pst_rc rc, const char *message)
{
    pst_buffer *buffer = NULL;
    pst_error err = PST_ERROR_INIT;
    assert_int_equal(pst_get(f->store, str(key), &by_name, NULL, &buffer, NULL, &err), rc);
    assert_null(buffer);
    if (!strstr(err.message, message))
        assert_string_equal(err.message, message);
}

/* ---- both directions --------------------------------------------------------------------------- */

static void test_zstd__the_command_reads_what_we_write(void **state)
{
    static const size_t lengths[] = {0, 1, FRAME, FRAME + 1, TEXT_BYTES};
    static const char *const test[] = {"-t", NULL}, *const decode[] = {"-dc", NULL};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t len = 0;
        pst_write_result result = {.struct_size = sizeof(result)};
        write_compressed(f, "a.zst", lengths[i], 3, FRAME, &result);
        const char *in = scratch_path(f->dir, "a.zst"), *out = scratch_path(f->dir, "out");
        free(stored_as(f, "a.zst", &len));
        assert_int_equal(result.size, len);
        assert_int_equal(result.bytes_written, lengths[i]);
        assert_int_equal(run_zstd(test, in, NULL), 0);
        assert_int_equal(run_zstd(decode, in, out), 0);
        char *bytes = slurp(out, &len);
        assert_int_equal(len, lengths[i]);
        assert_memory_equal(bytes, text, len);
        free(bytes);
        require_get(f, "a.zst", text, lengths[i]);
    }
}

static void test_zstd__we_read_what_the_command_writes(void **state)
{
    static const char *const ways[][6] = {
        {"-c", NULL},
        {"-c", "--no-check", NULL},
        {"-c", "-9", "--check", NULL},
        {"-c", "--long=27", NULL},
        {"-c", "--no-content-size", NULL},
        {"-c", "--stream-size=3158073", NULL},
        {"-c", "-T2", "-B65536", NULL},
        {"-c", "--fast=5", NULL},
    };
    struct fixture *f = *state;
    const char *in = scratch_path(f->dir, "in"), *out = scratch_path(f->dir, "out");
    scratch_write_bytes(in, text, TEXT_BYTES);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        size_t len = 0;
        assert_int_equal(run_zstd(ways[i], in, out), 0);
        char *bytes = slurp(out, &len);
        put_raw(f, "theirs.zst", bytes, len);
        require_get(f, "theirs.zst", text, TEXT_BYTES);
        free(bytes);
    }
}

static void test_zstd__frames_of_different_makers_follow_each_other(void **state)
{
    static const char *const plain[] = {"-c", NULL};
    struct fixture *f = *state;
    const char *in = scratch_path(f->dir, "in"), *out = scratch_path(f->dir, "out");
    size_t len = 0;
    scratch_write_bytes(in, text, 500000);
    assert_int_equal(run_zstd(plain, in, out), 0);
    char *theirs = slurp(out, &len);
    write_compressed(f, "ours.zst", 300000, 1, FRAME, NULL);
    size_t size = 0;
    unsigned char *ours = stored_as(f, "ours.zst", &size);
    char *both = malloc(len + size), *content = malloc(800000);
    assert_non_null(both);
    assert_non_null(content);
    memcpy(both, ours, size);
    memcpy(both + size, theirs, len);
    memcpy(content, text, 300000);
    memcpy(content + 300000, text, 500000);
    put_raw(f, "both.zst", both, len + size);
    require_get(f, "both.zst", content, 800000);
    free(theirs);
    free(ours);
    free(both);
    free(content);
}

static void test_zstd__only_the_name_or_the_option_decompresses(void **state)
{
    struct fixture *f = *state;
    pst_buffer *buffer = NULL;
    pst_read_options options = by_name;
    write_compressed(f, "plain", 1000, 1, 0, NULL);
    size_t size = 0;
    unsigned char *stored = stored_as(f, "plain", &size);
    require_get(f, "plain", stored, size);
    free(stored);
    assert_int_equal(pst_get(f->store, str("plain"), NULL, NULL, &buffer, NULL, NULL), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), size);
    pst_buffer_unref(buffer);
    options.decode = PST_DECODE_ZSTD;
    assert_int_equal(pst_get(f->store, str("plain"), &options, NULL, &buffer, NULL, NULL), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), 1000);
    pst_buffer_unref(buffer);
    options.decode = 9;
    assert_int_equal(pst_get(f->store, str("plain"), &options, NULL, &buffer, NULL, NULL),
                     PST_E_INVALID);
}

/* ---- ranges ------------------------------------------------------------------------------------ */

static void require_range(struct fixture *f, const char *key, uint64_t offset, uint64_t length,
                          size_t total)
{
    size_t from = offset < total ? (size_t)offset : total, n = 0;
    size_t want = length < total - from ? (size_t)length : total - from;
    pst_buffer *buffer = NULL;
    pst_error err = PST_ERROR_INIT;
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_read_options options = by_name;
    options.flags = PST_READ_CRC32C;
    pst_rc rc = pst_get_range(f->store, str(key), offset, length, &options, NULL, &buffer, &info,
                              &err);
    assert_string_equal(err.message, "");
    assert_int_equal(rc, PST_OK);
    assert_int_equal(pst_buffer_size(buffer), want);
    assert_int_equal(info.crc32c, pst_crc32c(0, text + from, want));
    if (want > 0)
        assert_memory_equal(pst_buffer_data(buffer), text + from, want);
    pst_buffer_unref(buffer);

    /* The same into two spans of memory of our own, of exactly that size. */
    if (length > TEXT_BYTES)
        return;
    size_t split = (size_t)length / 3;
    char *first = malloc(split + 1), *second = malloc((size_t)length - split + 1);
    assert_non_null(first);
    assert_non_null(second);
    const pst_iov spans[2] = {{first, split}, {second, (size_t)length - split}};
    assert_int_equal(
        pst_get_into_iov(f->store, str(key), offset, spans, 2, &by_name, NULL, &n, NULL, NULL),
        PST_OK);
    assert_int_equal(n, want);
    assert_memory_equal(first, text + from, want < split ? want : split);
    if (want > split)
        assert_memory_equal(second, text + from + split, want - split);
    free(first);
    free(second);
}

static void test_zstd__ranges_are_served_through_the_seek_table(void **state)
{
    static const struct {
        uint64_t offset, length;
    } ranges[] = {
        {0, 1},
        {0, FRAME},
        {FRAME - 1, 2},
        {FRAME, FRAME},
        {10 * FRAME + 7, 5 * FRAME + 3},
        {TEXT_BYTES - 1, 1},
        {TEXT_BYTES - 1, 100},
        {TEXT_BYTES, 5},
        {UINT64_MAX - 1, 5},
        {12345, 0},
        {1000000, PST_UNKNOWN},
        {0, TEXT_BYTES},
    };
    struct fixture *f = *state;
    write_compressed(f, "a.zst", TEXT_BYTES, 3, FRAME, NULL);
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        require_range(f, "a.zst", ranges[i].offset, ranges[i].length, TEXT_BYTES);
}

static void test_zstd__ranges_of_one_frame_and_of_nothing_are_served(void **state)
{
    struct fixture *f = *state;
    write_compressed(f, "one.zst", 1000, 3, 0, NULL);
    require_range(f, "one.zst", 10, 100, 1000);
    require_range(f, "one.zst", 990, 100, 1000);
    write_compressed(f, "none.zst", 0, 3, 0, NULL);
    require_range(f, "none.zst", 0, 100, 0);
    require_range(f, "none.zst", 5, 100, 0);
}

static void test_zstd__a_range_fetches_only_the_frames_it_touches(void **state)
{
    struct fixture *f = *state;
    pst_stats before = {.struct_size = sizeof(before)}, after = {.struct_size = sizeof(after)};
    pst_buffer *buffer = NULL;
    write_compressed(f, "a.zst", TEXT_BYTES, 3, FRAME, NULL);
    pst_context_stats(f->context, &before);
    assert_int_equal(
        pst_get_range(f->store, str("a.zst"), FRAME, 10, &by_name, NULL, &buffer, NULL, NULL),
        PST_OK);
    pst_buffer_unref(buffer);
    pst_context_stats(f->context, &after);
    assert_in_range(after.bytes_read - before.bytes_read, 1, 64 * KIB + FRAME);
}

static void test_zstd__suffixes_are_of_the_content(void **state)
{
    struct fixture *f = *state;
    pst_buffer *buffer = NULL;
    write_compressed(f, "a.zst", 500000, 3, FRAME, NULL);
    assert_int_equal(
        pst_get_suffix(f->store, str("a.zst"), 70000, &by_name, NULL, &buffer, NULL, NULL), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), 70000);
    assert_memory_equal(pst_buffer_data(buffer), text + 430000, 70000);
    pst_buffer_unref(buffer);
    assert_int_equal(
        pst_get_suffix(f->store, str("a.zst"), MIB, &by_name, NULL, &buffer, NULL, NULL), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), 500000);
    pst_buffer_unref(buffer);
}

static void test_zstd__exact_is_about_the_content(void **state)
{
    struct fixture *f = *state;
    pst_buffer *buffer = NULL;
    pst_error err = PST_ERROR_INIT;
    pst_read_options options = by_name;
    options.flags = PST_READ_EXACT;
    write_compressed(f, "a.zst", 1000, 3, 0, NULL);
    assert_int_equal(
        pst_get_range(f->store, str("a.zst"), 900, 101, &options, NULL, &buffer, NULL, &err),
        PST_E_RANGE);
    assert_non_null(strstr(err.message, "the content ends after 100 of 101 bytes"));
    assert_int_equal(
        pst_get_range(f->store, str("a.zst"), 900, 100, &options, NULL, &buffer, NULL, &err),
        PST_OK);
    pst_buffer_unref(buffer);
}

static void test_zstd__without_a_table_only_the_start_can_be_read(void **state)
{
    static const char *const plain[] = {"-c", NULL};
    struct fixture *f = *state;
    const char *in = scratch_path(f->dir, "in"), *out = scratch_path(f->dir, "out");
    size_t len = 0;
    pst_buffer *buffer = NULL;
    pst_error err = PST_ERROR_INIT;
    scratch_write_bytes(in, text, 500000);
    assert_int_equal(run_zstd(plain, in, out), 0);
    char *bytes = slurp(out, &len);
    put_raw(f, "theirs.zst", bytes, len);
    free(bytes);
    require_range(f, "theirs.zst", 0, 1000, 500000);
    require_range(f, "theirs.zst", 0, 600000, 500000);
    assert_int_equal(
        pst_get_range(f->store, str("theirs.zst"), 1, 10, &by_name, NULL, &buffer, NULL, &err),
        PST_E_UNIMPLEMENTED);
    assert_non_null(strstr(err.message, "GET file:///theirs.zst: the object has no zstd seek "
                                        "table"));
    assert_null(buffer);
    assert_int_equal(
        pst_get_suffix(f->store, str("theirs.zst"), 10, &by_name, NULL, &buffer, NULL, &err),
        PST_E_UNIMPLEMENTED);
}

/* ---- what is wrong ----------------------------------------------------------------------------- */

static void test_zstd__a_checksum_that_does_not_fit_names_both(void **state)
{
    struct fixture *f = *state;
    pst_buffer *buffer = NULL;
    pst_error err = PST_ERROR_INIT;
    write_compressed(f, "a.zst", 100000, 3, FRAME, NULL);
    assert_int_equal(pst_get_with_validation(f->store, str("a.zst"), PST_STR("crc32c:00000001"),
                                             &by_name, NULL, &buffer, NULL, &err),
                     PST_E_DATA_LOSS);
    assert_non_null(strstr(err.message, "crc32c:00000001"));
    assert_null(buffer);
}

static void test_zstd__any_cut_is_data_loss_or_missing_the_table(void **state)
{
    struct fixture *f = *state;
    write_compressed(f, "a.zst", 2000, 3, 0, NULL);
    size_t size = 0;
    unsigned char *copy = stored_as(f, "a.zst", &size);
    for (size_t cut = 0; cut < size; cut++) {
        put_raw(f, "cut.zst", copy, cut);
        if (cut == size - 25) /* without the table it is an object of one frame */
            require_get(f, "cut.zst", text, 2000);
        else
            require_failure(f, "cut.zst", PST_E_DATA_LOSS, " at offset ");
    }
    free(copy);
}

static void test_zstd__any_flipped_byte_is_an_error_or_harmless(void **state)
{
    struct fixture *f = *state;
    write_compressed(f, "a.zst", FRAME + 500, 1, FRAME, NULL);
    size_t size = 0;
    unsigned char *copy = stored_as(f, "a.zst", &size);
    for (size_t at = 0; at < size; at += at < 40 || at + 700 > size ? 1 : 997) {
        pst_buffer *buffer = NULL;
        copy[at] ^= 0x41;
        put_raw(f, "bad.zst", copy, size);
        for (unsigned is_range = 0; is_range < 2; is_range++) {
            pst_rc rc = is_range ? pst_get_range(f->store, str("bad.zst"), FRAME - 5, 10, &by_name,
                                                 NULL, &buffer, NULL, NULL)
                                 : pst_get(f->store, str("bad.zst"), &by_name, NULL, &buffer, NULL,
                                           NULL);
            if (rc == PST_OK) {
                size_t n = is_range ? 10 : FRAME + 500;
                assert_int_equal(pst_buffer_size(buffer), n);
                assert_memory_equal(pst_buffer_data(buffer), text + (is_range ? FRAME - 5 : 0), n);
                pst_buffer_unref(buffer);
                buffer = NULL;
            } else {
                assert_true(rc == PST_E_DATA_LOSS || rc == PST_E_OVER_BUDGET ||
                            rc == PST_E_UNIMPLEMENTED);
            }
        }
        copy[at] ^= 0x41;
    }
    free(copy);
}

/* Patch the u32 of the table at `at` bytes from the end. */
static void test_zstd__tables_that_lie_are_found_out(void **state)
{
    static const struct {
        size_t from_end;
        uint32_t value;
        const char *message;
    } lies[] = {
        {9, 1000000, "cannot have 1000000 frames"},
        {9, 0xffffffff, "cannot have 4294967295 frames"},
        {9, 1, "no seek table at offset"},
        {9, 0, "no seek table at offset"},
        {13, 1, "says it has 34464 bytes of content, the seek table says 1"},
        {13, 0xffffffff, "the seek table says 4294967295"},
        {17, 5, "end at offset"},
        {17, 0xffffffff, "end at offset"},
        {29, 100, "no seek table at offset"},
        {33, 0x184d2a5d, "no seek table at offset"},
    };
    struct fixture *f = *state;
    write_compressed(f, "a.zst", 100000, 1, FRAME, NULL);
    size_t size = 0;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        pst_buffer *buffer = NULL;
        pst_error err = PST_ERROR_INIT;
        unsigned char *copy = stored_as(f, "a.zst", &size);
        for (unsigned k = 0; k < 4; k++)
            copy[size - lies[i].from_end + k] = (unsigned char)(lies[i].value >> (8 * k));
        put_raw(f, "lie.zst", copy, size);
        assert_int_equal(pst_get_range(f->store, str("lie.zst"), FRAME - 5, 10, &by_name, NULL,
                                       &buffer, NULL, &err),
                         PST_E_DATA_LOSS);
        assert_null(buffer);
        assert_non_null(strstr(err.message, "GET file:///lie.zst: "));
        if (!strstr(err.message, lies[i].message))
            assert_string_equal(err.message, lies[i].message);
        free(copy);
    }
}

/* Two sizes swapped between the frames: the sum is right, each is not. */
static void test_zstd__a_table_with_shifted_frames_is_found_out(void **state)
{
    struct fixture *f = *state;
    pst_buffer *buffer = NULL;
    write_compressed(f, "a.zst", 3 * FRAME, 1, FRAME, NULL);
    size_t size = 0;
    unsigned char *copy = stored_as(f, "a.zst", &size);
    copy[size - 9 - 8]++;
    copy[size - 9 - 16]--;
    put_raw(f, "lie.zst", copy, size);
    for (unsigned i = 1; i < 3; i++)
        assert_int_equal(pst_get_range(f->store, str("lie.zst"), i * FRAME, 10, &by_name, NULL,
                                       &buffer, NULL, NULL),
                         PST_E_DATA_LOSS);
    free(copy);
}

static void test_zstd__content_beyond_the_budget_is_refused_with_the_sizes(void **state)
{
    static const char *const with_size[] = {"-c", "--stream-size=3158073", NULL};
    static const char *const without_size[] = {"-c", "--no-content-size", NULL};
    struct fixture *f = *state;
    const char *in = scratch_path(f->dir, "in"), *out = scratch_path(f->dir, "out");
    size_t len = 0;
    scratch_write_bytes(in, text, TEXT_BYTES);
    assert_int_equal(run_zstd(with_size, in, out), 0);
    char *bytes = slurp(out, &len);
    put_raw(f, "big.zst", bytes, len);
    free(bytes);
    require_failure(f, "big.zst", PST_E_OVER_BUDGET,
                    " stored bytes and 3158073 decompressed ones need memory at once, the memory "
                    "budget is 2097152 bytes");
    assert_int_equal(run_zstd(without_size, in, out), 0);
    bytes = slurp(out, &len);
    put_raw(f, "big.zst", bytes, len);
    free(bytes);
    require_failure(f, "big.zst", PST_E_OVER_BUDGET, "the memory budget is 2097152 bytes");
}

static void test_zstd__conditions_hold_for_what_is_stored(void **state)
{
    struct fixture *f = *state;
    pst_buffer *buffer = NULL;
    pst_read_options options = by_name;
    write_compressed(f, "a.zst", TEXT_BYTES, 1, FRAME, NULL);
    options.if_match = PST_STR("\"not this one\"");
    assert_int_equal(
        pst_get_range(f->store, str("a.zst"), 0, 10, &options, NULL, &buffer, NULL, NULL),
        PST_E_PRECONDITION);
    assert_int_equal(pst_get(f->store, str("missing.zst"), &by_name, NULL, &buffer, NULL, NULL),
                     PST_E_NOT_FOUND);
}

static void test_zstd__a_fired_token_and_a_deadline_end_it(void **state)
{
    struct fixture *f = *state;
    pst_buffer *buffer = NULL;
    pst_cancel *cancel = NULL;
    assert_int_equal(pst_cancel_new(&cancel), PST_OK);
    pst_cancel_fire(cancel);
    const pst_call fired = {.struct_size = sizeof(fired), .cancel = cancel};
    write_compressed(f, "a.zst", TEXT_BYTES, 1, FRAME, NULL);
    assert_int_equal(pst_get(f->store, str("a.zst"), &by_name, &fired, &buffer, NULL, NULL),
                     PST_E_CANCELLED);
    assert_int_equal(
        pst_get_range(f->store, str("a.zst"), 5, 10, &by_name, &fired, &buffer, NULL, NULL),
        PST_E_CANCELLED);
    const pst_call ample = {.struct_size = sizeof(ample), .timeout_ms = 60000};
    assert_int_equal(pst_get(f->store, str("a.zst"), &by_name, &ample, &buffer, NULL, NULL),
                     PST_OK);
    assert_int_equal(pst_buffer_size(buffer), TEXT_BYTES);
    pst_buffer_unref(buffer);
    pst_cancel_free(cancel);
}

/* Longer than what one call of libzstd decompresses. */
static void test_zstd__a_frame_of_70_mib_is_decompressed_and_checked_in_slices(void **state)
{
    static const char *const plain[] = {"-c", "-1", "--stream-size=73400320", NULL};
    struct fixture *f = *state;
    const char *in = scratch_path(f->dir, "in"), *out = scratch_path(f->dir, "out");
    size_t len = 0, total = 70 * MIB;
    char *zeros = calloc(1, total), message[160];
    assert_non_null(zeros);
    scratch_write_bytes(in, zeros, total);
    assert_int_equal(run_zstd(plain, in, out), 0);
    unlink(in);
    char *bytes = slurp(out, &len);
    put_raw(f, "long.zst", bytes, len);
    require_get(f, "long.zst", zeros, total);
    bytes[len - 1] ^= 1; /* its checksum */
    put_raw(f, "long.zst", bytes, len);
    snprintf(message, sizeof(message),
             "the content of the zstd frame at offset 0 does not have the checksum that stands at "
             "offset %zu",
             len - 4);
    require_failure(f, "long.zst", PST_E_DATA_LOSS, message);
    free(bytes);
    free(zeros);
}

/* ---- memory that runs out ---------------------------------------------------------------------- */

static void test_zstd__any_failing_allocation_is_no_memory_and_leaks_nothing(void **state)
{
    unsigned n = 1;
    int was_reached = 1;
    (void)state;
    for (; was_reached; n++) {
        void *own = NULL;
        pst_buffer *whole = NULL, *range = NULL;
        char into[1000];
        size_t n_read = 0;
        long before = torture_live();
        setup(&own);
        struct fixture *f = own;
        write_compressed(f, "a.zst", 5 * FRAME, 1, FRAME, NULL);
        torture_arm(n);
        pst_rc rc = pst_get(f->store, str("a.zst"), &by_name, NULL, &whole, NULL, NULL);
        if (rc == PST_OK)
            rc = pst_get_range(f->store, str("a.zst"), FRAME - 1, 3 * FRAME, &by_name, NULL, &range,
                               NULL, NULL);
        if (rc == PST_OK)
            rc = pst_get_into(f->store, str("a.zst"), 77, into, sizeof(into), &by_name, NULL,
                              &n_read, NULL, NULL);
        was_reached = torture_disarm();
        if (rc == PST_OK) {
            assert_memory_equal(pst_buffer_data(whole), text, 5 * FRAME);
            assert_memory_equal(pst_buffer_data(range), text + FRAME - 1, 3 * FRAME);
            assert_memory_equal(into, text + 77, sizeof(into));
        } else {
            assert_int_equal(rc, PST_E_NO_MEMORY);
        }
        pst_buffer_unref(whole);
        pst_buffer_unref(range);
        teardown(&own);
        assert_int_equal(torture_live(), before);
    }
    assert_true(n > 10);
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(test_zstd__the_command_reads_what_we_write),
        WITH_STORE(test_zstd__we_read_what_the_command_writes),
        WITH_STORE(test_zstd__frames_of_different_makers_follow_each_other),
        WITH_STORE(test_zstd__only_the_name_or_the_option_decompresses),
        WITH_STORE(test_zstd__ranges_are_served_through_the_seek_table),
        WITH_STORE(test_zstd__ranges_of_one_frame_and_of_nothing_are_served),
        WITH_STORE(test_zstd__a_range_fetches_only_the_frames_it_touches),
        WITH_STORE(test_zstd__suffixes_are_of_the_content),
        WITH_STORE(test_zstd__exact_is_about_the_content),
        WITH_STORE(test_zstd__without_a_table_only_the_start_can_be_read),
        WITH_STORE(test_zstd__a_checksum_that_does_not_fit_names_both),
        WITH_STORE(test_zstd__any_cut_is_data_loss_or_missing_the_table),
        WITH_STORE(test_zstd__any_flipped_byte_is_an_error_or_harmless),
        WITH_STORE(test_zstd__tables_that_lie_are_found_out),
        WITH_STORE(test_zstd__a_table_with_shifted_frames_is_found_out),
        cmocka_unit_test_setup_teardown(
            test_zstd__content_beyond_the_budget_is_refused_with_the_sizes, setup_small_budget,
            teardown),
        WITH_STORE(test_zstd__a_fired_token_and_a_deadline_end_it),
        WITH_STORE(test_zstd__a_frame_of_70_mib_is_decompressed_and_checked_in_slices),
        WITH_STORE(test_zstd__conditions_hold_for_what_is_stored),
        cmocka_unit_test(test_zstd__any_failing_allocation_is_no_memory_and_leaks_nothing),
    };
    torture_jansson();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
