/* Writers that are dropped: whatever they were doing, nothing is left in the directory, and the object
 * that was there stays as it was. Real files, real threads, both local plugins. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <penstock/penstock.h>

#include "scratch.h"

#define KIB ((size_t)1 << 10)
#define PART (64 * KIB)
#define KEY PST_STR("o")

struct world {
    const char *dir;
    pst_context *context;
    pst_store *store;
};

static unsigned char bytes[16 * PART];

static void open_world(struct world *w, const char *dir, const char *scheme)
{
    const char *const dirs[] = {getenv("PST_TEST_PLUGINS"), NULL};
    const pst_context_options options = {.struct_size = sizeof(options),
                                         .flags = PST_CONTEXT_ONLY_DIRS |
                                                  PST_CONTEXT_NO_ENVIRONMENT,
                                         .memory_budget_bytes = 16 * PART,
                                         .blocking_threads = 4,
                                         .plugin_dirs = dirs};
    const pst_kv root = {PST_STR("root"), pst_str_of(dir, strlen(dir))};
    const pst_iov old = {bytes, 3};
    pst_error err = PST_ERROR_INIT;
    char uri[32];
    int n = snprintf(uri, sizeof(uri), "%s:///", scheme);
    w->dir = dir;
    assert_int_equal(pst_context_new(&options, &w->context, NULL), PST_OK);
    if (pst_store_open(w->context, pst_str_of(uri, (size_t)n), &root, 1, &w->store, &err) != PST_OK)
        fail_msg("%s", err.message);
    assert_int_equal(pst_put(w->store, KEY, &old, 1, NULL, NULL, NULL, NULL), PST_OK);
}

/* Free waits for a second at most; an abort that takes longer goes on in the background. */
static void close_world(struct world *w)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    do {
        pst_context_stats(w->context, &stats);
        usleep(1000);
    } while (stats.in_flight_bytes > 0);
    pst_store_free(w->store);
    pst_context_free(w->context);
}

/* Only the object is there, with its three bytes. */
static void require_untouched(const struct world *w)
{
    pst_buffer *buffer = NULL;
    unsigned n_entries = 0;
    DIR *dir = opendir(w->dir);
    assert_non_null(dir);
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (strcmp(entry->d_name, "o") != 0)
            print_error("left behind: %s\n", entry->d_name);
        n_entries++;
    }
    closedir(dir);
    assert_int_equal(n_entries, 1);
    assert_int_equal(pst_get(w->store, KEY, NULL, NULL, &buffer, NULL, NULL), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), 3);
    pst_buffer_unref(buffer);
}

static pst_rc write_by(pst_writer *writer, unsigned way, size_t size)
{
    pst_buffer *buffer = NULL;
    pst_rc rc = PST_OK;
    if (way == 0)
        return pst_writer_write(writer, bytes, size, NULL);
    if (way == 1) {
        rc = pst_buffer_wrap(bytes, size, NULL, NULL, &buffer, NULL);
        if (rc == PST_OK)
            rc = pst_writer_write_owned(writer, buffer, NULL);
        pst_buffer_unref(buffer);
        return rc;
    }
    for (size_t at = 0; at < size && rc == PST_OK;) {
        void *to = NULL;
        size_t len = 0;
        rc = pst_writer_reserve(writer, size - at, &to, &len, NULL);
        if (rc == PST_OK) {
            memcpy(to, bytes + at, len);
            rc = pst_writer_commit(writer, len, NULL);
        }
        at += len;
    }
    return rc;
}

enum end { END_FREE, END_CANCEL, END_TOKEN, END_LENT, END_CHILD, N_ENDS };

static void drop(struct world *w, enum end end, unsigned way, size_t size, int32_t zstd_level)
{
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .part_bytes = PART,
                                       .sums = 1u << PST_SUM_CRC32C,
                                       .zstd_level = zstd_level,
                                       .zstd_frame_bytes = PART};
    pst_call call = {.struct_size = sizeof(call)};
    pst_writer *writer = NULL;
    void *lent = NULL;
    size_t len = 0;
    assert_int_equal(pst_cancel_new(&call.cancel), PST_OK);
    assert_int_equal(pst_writer_open(w->store, KEY, &options, &call, &writer, NULL), PST_OK);
    assert_int_equal(write_by(writer, way, size), PST_OK);
    if (end == END_CANCEL)
        assert_int_equal(pst_writer_cancel(writer, NULL), PST_OK);
    if (end == END_TOKEN) {
        pst_cancel_fire(call.cancel);
        assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_E_CANCELLED);
        assert_int_equal(pst_writer_write(writer, bytes, 1, NULL), PST_E_CANCELLED);
    }
    if (end == END_LENT)
        assert_int_equal(pst_writer_reserve(writer, 100, &lent, &len, NULL), PST_OK);
    if (end == END_CHILD) { /* drops it as well, which must not pull the parent's file away */
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            pst_writer_free(writer);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_int_equal(write_by(writer, way, size), PST_OK);
    }
    pst_writer_free(writer);
    pst_cancel_free(call.cancel);
}

static void drop_everywhere(const char *dir, const char *scheme)
{
    static const size_t sizes[] = {0, 100, PART, 3 * PART + 5, sizeof(bytes) / 2};
    struct world w;
    open_world(&w, dir, scheme);
    for (unsigned i = 0; i < N_ENDS * 3 * 5 * 2; i++) {
        unsigned end = i % N_ENDS, way = i / N_ENDS % 3, size = i / N_ENDS / 3 % 5;
        drop(&w, (enum end)end, way, sizes[size], i / N_ENDS / 3 / 5 ? 1 : 0);
        require_untouched(&w);
    }
    close_world(&w);
}

static void test_file__a_dropped_writer_leaves_nothing(void **state)
{
    drop_everywhere(*state, "file");
}

static void test_direct__a_dropped_writer_leaves_nothing(void **state)
{
    drop_everywhere(*state, "direct");
}

#define DROPPED_TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DROPPED_TEST(test_file__a_dropped_writer_leaves_nothing),
        DROPPED_TEST(test_direct__a_dropped_writer_leaves_nothing),
    };
    unsigned seed = 1;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        seed = seed * 1103515245u + 12345u;
        bytes[i] = (unsigned char)(seed >> 16);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
