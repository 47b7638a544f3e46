/* 10,000 operations of every kind while system calls fail: EIO, ENOSPC, EDQUOT, ESTALE, EINTR, short reads
 * and writes, replies that were lost.
 *
 * One thread operates, so that after each operation it is known what each key must hold; another reads all
 * keys all the time, past Penstock. An operation that says OK has done exactly what was asked: bytes,
 * sizes and listings are compared. One that fails says why in one line, with an errno that was really
 * given, and the key holds what it held before; or, where the error says MAYBE_APPLIED, what was to be
 * written, but never anything else. In the end the store is cleaned up: the keys are whole, no other file
 * is left, nor an open descriptor.
 *
 * PST_TEST_SEED repeats a run; a failure prints the seed and the number of the operation. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chaos.h"
#include "io_faults.h"
#include "scratch.h"
#include "versions.h"

enum { OPERATIONS = 10000 };

/* ---- operations -------------------------------------------------------------------------------- */

static void do_put(struct world *w, size_t key)
{
    uint64_t v = ++w->last_version;
    int is_new = next(w, 5) == 0;
    pst_write_options options = {.struct_size = sizeof(options),
                                 .flags = is_new ? PST_WRITE_CREATE_ONLY : 0,
                                 .sums = next(w, 3) == 0 ? 1u << PST_SUM_CRC32C : 0};

    version_fill(v, w->body);
    size_t size = version_size(v), cut = (size_t)next(w, size);
    const pst_iov src[] = {{w->body, cut}, {w->body + cut, size - cut}};
    begin(w, "put");
    pst_rc rc = pst_put(w->store, key_of(w, key), src, 2, &options, NULL, NULL, &w->err);
    end(w, rc, is_new && w->held[key] ? PST_E_EXISTS : PST_OK);
    settle(w, key, v, rc);
}

static void do_upload(struct world *w, size_t key)
{
    uint64_t v = ++w->last_version;
    int is_dropped = next(w, 6) == 0;
    pst_writer *writer = NULL;
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .part_bytes = 32768u << 2 * next(w, 2)};

    version_fill(v, w->body);
    begin(w, is_dropped ? "upload without finalize" : "upload");
    pst_rc rc = pst_writer_open(w->store, key_of(w, key), &options, NULL, &writer, &w->err);
    for (size_t at = 0, n; rc == PST_OK && at < version_size(v); at += n) {
        n = 1 + (size_t)next(w, 70000);
        n = n < version_size(v) - at ? n : version_size(v) - at;
        rc = pst_writer_write(writer, w->body + at, n, &w->err);
    }
    if (rc == PST_OK && !is_dropped)
        rc = pst_writer_finalize(writer, NULL, &w->err);
    pst_writer_free(writer);
    end(w, rc, PST_OK);
    settle(w, key, is_dropped ? w->held[key] : v, rc);
}

static void do_get(struct world *w, size_t key)
{
    pst_buffer *buffer = NULL;
    const pst_read_options options = {
        .struct_size = sizeof(options), .part_bytes = 20000, .max_in_flight = 4};

    begin(w, "get");
    pst_rc rc = pst_get(w->store, key_of(w, key), &options, NULL, &buffer, NULL, &w->err);
    end(w, rc, wanted_of(w, key));
    if (rc == PST_OK)
        CHECK(w, is_slice(w, key, 0, pst_buffer_data(buffer), pst_buffer_size(buffer), SIZE_MAX));
    pst_buffer_unref(buffer);
}

static void do_get_range(struct world *w, size_t key)
{
    pst_buffer *buffer = NULL;
    uint64_t offset = next(w, 70000), length = 1 + next(w, 70000);

    begin(w, "get range");
    pst_rc rc = pst_get_range(w->store, key_of(w, key), offset, length, NULL, NULL, &buffer, NULL,
                              &w->err);
    end(w, rc, wanted_of(w, key));
    if (rc == PST_OK)
        CHECK(w, is_slice(w, key, offset, pst_buffer_data(buffer), pst_buffer_size(buffer),
                          (size_t)length));
    pst_buffer_unref(buffer);
}

static void do_get_into(struct world *w, size_t key)
{
    uint64_t offset = next(w, 2) * next(w, 5000);
    size_t capacity = 1 + (size_t)next(w, VERSION_BYTES_MAX), n = 0;

    begin(w, "get into");
    pst_rc rc = pst_get_into(w->store, key_of(w, key), offset, w->body, capacity, NULL, NULL, &n,
                             NULL, &w->err);
    end(w, rc, wanted_of(w, key));
    if (rc == PST_OK)
        CHECK(w, is_slice(w, key, offset, w->body, n, capacity));
}

static void do_get_many(struct world *w, size_t key)
{
    const pst_many_options options = {.struct_size = sizeof(options), .max_in_flight = 3};
    pst_get_item items[BATCH];
    pst_get_result results[BATCH];

    for (size_t i = 0; i < BATCH; i++)
        items[i] = (pst_get_item){.key = key_of(w, (key + i * 5) % KEYS),
                                  .offset = next(w, 2) * next(w, 3000),
                                  .length = next(w, 2) ? PST_UNKNOWN : next(w, 30000)};
    begin(w, "get many");
    pst_rc rc = pst_get_many(w->store, items, BATCH, &options, NULL, results, &w->err);
    end_batch(w, rc, results);
    for (size_t i = 0; i < BATCH; i++) {
        const pst_get_result *result = &results[i];
        size_t at = (key + i * 5) % KEYS;
        size_t most = items[i].length < SIZE_MAX ? (size_t)items[i].length : SIZE_MAX;

        check_item(w, at, result);
        if (result->status == PST_OK)
            CHECK(w, is_slice(w, at, items[i].offset, pst_buffer_data(result->buffer),
                              pst_buffer_size(result->buffer), most));
    }
    pst_get_results_free(results, BATCH);
}

static void do_read_stream(struct world *w, size_t key)
{
    const pst_read_options options = {
        .struct_size = sizeof(options), .part_bytes = 30000, .max_in_flight = 3};
    pst_reader *reader = NULL;
    uint64_t offset = next(w, 2) * next(w, 5000);
    size_t n = 0, n_all = 0;

    begin(w, "read as a stream");
    pst_rc rc = pst_reader_open(w->store, key_of(w, key), offset, PST_UNKNOWN, &options, NULL,
                                &reader, &w->err);
    while (rc == PST_OK && n_all < VERSION_BYTES_MAX) {
        rc = pst_reader_read(reader, w->body + n_all, VERSION_BYTES_MAX - n_all, &n, &w->err);
        n_all += rc == PST_OK ? n : 0;
        if (rc == PST_OK && n == 0)
            break;
    }
    pst_reader_free(reader);
    end(w, rc, wanted_of(w, key));
    if (rc == PST_OK)
        CHECK(w, is_slice(w, key, offset, w->body, n_all, SIZE_MAX));
}

static void do_get_ranges(struct world *w, size_t key)
{
    const pst_ranges_options options = {.struct_size = sizeof(options),
                                        .merge_gap_bytes = next(w, 2) ? PST_UNKNOWN : 2000};
    pst_range ranges[BATCH];
    pst_get_result results[BATCH];

    for (size_t i = 0; i < BATCH; i++)
        ranges[i] = (pst_range){next(w, 9000), 1 + next(w, 60000)};
    begin(w, "get ranges");
    pst_rc rc = pst_get_ranges(w->store, key_of(w, key), ranges, BATCH, &options, NULL, results,
                               NULL, &w->err);
    end_batch(w, rc, results);
    for (size_t i = 0; i < BATCH; i++) {
        const pst_get_result *result = &results[i];

        check_item(w, key, result);
        if (result->status == PST_OK)
            CHECK(w, is_slice(w, key, ranges[i].offset, pst_buffer_data(result->buffer),
                              pst_buffer_size(result->buffer), (size_t)ranges[i].length));
    }
    pst_get_results_free(results, BATCH);
}

static void do_stat(struct world *w, size_t key)
{
    pst_attr *attr = NULL;

    begin(w, "stat");
    pst_rc rc = pst_stat(w->store, key_of(w, key), NULL, NULL, &attr, &w->err);
    end(w, rc, wanted_of(w, key));
    if (rc == PST_OK)
        CHECK(w, attr->size == version_size(w->held[key]));
    pst_attr_free(attr);
}

static void do_list(struct world *w, size_t key)
{
    const pst_list_options options = {.struct_size = sizeof(options),
                                      .flags = PST_LISTING_RECURSIVE,
                                      .page_entries = 1 + (uint32_t)key};
    pst_list *list = NULL;
    const pst_entry *entry = NULL;
    size_t n = 0, n_held = 0;

    begin(w, "list");
    pst_rc rc = pst_list_open(w->store, PST_STR(""), &options, &list, &w->err);
    while (rc == PST_OK && (rc = pst_list_next(list, NULL, &entry, &w->err)) == PST_OK && entry) {
        size_t i = 0;
        while (i < KEYS && (entry->key.len != strlen(w->keys[i]) ||
                            memcmp(entry->key.ptr, w->keys[i], entry->key.len) != 0))
            i++;
        CHECK(w, i < KEYS);
        CHECK(w, entry->size == version_size(w->held[i]));
        n++;
    }
    pst_list_free(list);
    end(w, rc, PST_OK);
    for (size_t i = 0; i < KEYS; i++)
        n_held += w->held[i] != 0;
    if (rc == PST_OK)
        CHECK(w, n == n_held);
}

static void do_copy(struct world *w, size_t key)
{
    size_t to = (key + 1 + (size_t)next(w, KEYS - 1)) % KEYS;

    begin(w, "copy");
    pst_rc rc = pst_copy(w->store, key_of(w, key), w->store, key_of(w, to), NULL, NULL, NULL,
                         &w->err);
    end(w, rc, wanted_of(w, key));
    settle(w, to, w->held[key], rc);
    settle(w, key, w->held[key], PST_OK);
}

static void do_rename(struct world *w, size_t key)
{
    size_t to = (key + 1 + (size_t)next(w, KEYS - 1)) % KEYS;
    uint64_t moved = w->held[key];

    begin(w, "rename");
    pst_rc rc = pst_rename(w->store, key_of(w, key), key_of(w, to), NULL, NULL, &w->err);
    end(w, rc, wanted_of(w, key));
    settle(w, to, moved, rc);
    settle(w, key, 0, rc);
    CHECK(w, w->held[key] == moved || w->held[to] == moved);
}

static void do_delete(struct world *w, size_t key)
{
    begin(w, "delete");
    pst_rc rc = pst_delete(w->store, key_of(w, key), NULL, NULL, &w->err);
    end(w, rc, PST_OK);
    settle(w, key, 0, rc);
}

static const struct {
    void (*run)(struct world *w, size_t key);
    unsigned weight;
} operations[] = {
    {do_put, 18},        {do_upload, 18},    {do_get, 10},     {do_get_range, 7}, {do_get_into, 5},
    {do_read_stream, 5}, {do_get_ranges, 4}, {do_get_many, 5}, {do_stat, 5},      {do_list, 4},
    {do_copy, 7},        {do_rename, 6},     {do_delete, 6},
};
enum { ALL_WEIGHTS = 100 };

static void do_one(struct world *w)
{
    uint64_t chance = next(w, ALL_WEIGHTS);
    size_t i = 0;

    while (chance >= operations[i].weight)
        chance -= operations[i++].weight;
    operations[i].run(w, (size_t)next(w, KEYS));
}

/* ---- tests ------------------------------------------------------------------------------------- */

static size_t count_descriptors(void)
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* `kinds`: bits of the faults that must have come, else it tells nothing. */
static void run_world(const char *dir, const char *scheme, const pst_kv *more, size_t n_more,
                      unsigned kinds)
{
    static struct world w;
    size_t n_descriptors = count_descriptors();

    open_world(&w, dir, scheme, more, n_more);
    struct watcher *watcher = watcher_start((const char *const *)w.paths, KEYS);
    assert_non_null(watcher);
    for (w.turn = 0; w.turn < OPERATIONS; w.turn++)
        do_one(&w);
    long n_seen = watcher_stop(watcher);
    CHECK(&w, n_seen > 1000);
    CHECK(&w, w.n_ok > OPERATIONS / 2 && w.n_failed > OPERATIONS / 20);
    for (unsigned i = 0; i < IO_FAULT_CALLS; i++)
        CHECK(&w, !(kinds & 1u << i) || io_faults_total(i) > w.n_faults_before[i]);
    close_world(&w);
    assert_int_equal(count_descriptors(), n_descriptors);
}

/* What each plugin does sooner or later. */
enum {
    COMMON = 1u << IO_FAULT_READ | 1u << IO_FAULT_WRITE | 1u << IO_FAULT_OPEN |
             1u << IO_FAULT_CREATE | 1u << IO_FAULT_SYNC | 1u << IO_FAULT_RENAME |
             1u << IO_FAULT_UNLINK | 1u << IO_FAULT_STAT | 1u << IO_FAULT_LIST |
             1u << IO_FAULT_COPY | 1u << IO_FAULT_CLOSE
};

static void test_chaos_io__file_ends_every_operation_exactly_or_clearly(void **state)
{
    run_world(*state, "file", NULL, 0, COMMON);
}

static void test_chaos_io__direct_ends_every_operation_exactly_or_clearly(void **state)
{
    const pst_kv options[] = {{PST_STR("block_size"), PST_STR("64KiB")}};

    run_world(*state, "direct", options, 1,
              COMMON | 1u << IO_FAULT_ENTER | 1u << IO_FAULT_COMPLETE);
}

static void test_chaos_io__direct_without_a_ring_does_too(void **state)
{
    const pst_kv options[] = {{PST_STR("block_size"), PST_STR("64KiB")},
                              {PST_STR("io_uring"), PST_STR("off")}};

    run_world(*state, "direct", options, 2, COMMON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_chaos_io__file_ends_every_operation_exactly_or_clearly,
                                        scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(
            test_chaos_io__direct_ends_every_operation_exactly_or_clearly, scratch_setup,
            scratch_teardown),
        cmocka_unit_test_setup_teardown(test_chaos_io__direct_without_a_ring_does_too,
                                        scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
