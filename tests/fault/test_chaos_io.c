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
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include <penstock/penstock.h>

#include "io_faults.h"
#include "scratch.h"
#include "versions.h"

enum { OPERATIONS = 10000, KEYS = 24, ONE_IN = 60, BATCH = 6 };

struct world {
    const char *dir, *what; /* what: the operation under way */
    pst_context *context;
    pst_store *store;
    uint64_t seed, turn, random;
    uint64_t held[KEYS]; /* version of each key, 0: absent */
    uint64_t last_version;
    char keys[KEYS][32];
    char *paths[KEYS];
    char *body; /* of VERSION_BYTES_MAX */
    pst_error err;
    unsigned n_faults; /* in this operation */
    size_t n_ok, n_failed, n_maybe;
    unsigned long n_faults_before[IO_FAULT_CALLS];
};

#define CHECK(w, condition) check((w), (condition), #condition, __LINE__)

static void check(const struct world *w, int holds, const char *text, int line)
{
    if (holds)
        return;
    print_error("seed %llu, operation %llu, %s: %s\n  error: %s (errno %d, %u faults)\n",
                (unsigned long long)w->seed, (unsigned long long)w->turn, w->what, text,
                w->err.message, w->err.sys_errno, w->n_faults);
    _fail(__FILE__, line);
}

static uint64_t next(struct world *w, uint64_t below) /* xorshift64, Marsaglia 2003 */
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (w->random >> 11) % below;
}

static pst_str key_of(const struct world *w, size_t i)
{
    return pst_str_of(w->keys[i], strlen(w->keys[i]));
}

/* ---- around each operation --------------------------------------------------------------------- */

static void begin(struct world *w, const char *what)
{
    w->what = what;
    w->err = (pst_error)PST_ERROR_INIT;
    io_faults_arm(w->seed, w->turn, ONE_IN);
}

/* Is it what an errno that was really given leads to? */
static int is_clear(pst_rc rc, const pst_error *err)
{
    return (rc == PST_E_IO || rc == PST_E_NO_SPACE) && io_faults_had(err->sys_errno);
}

/* `wanted`: what it answers if nothing goes wrong. */
static void end(struct world *w, pst_rc rc, pst_rc wanted)
{
    w->n_faults = io_faults_disarm();
    w->n_ok += rc == PST_OK;
    w->n_failed += rc != PST_OK;
    if (rc != PST_OK) {
        CHECK(w, w->err.code == rc);
        CHECK(w, w->err.message[0] != '\0' && !strpbrk(w->err.message, "\n\r"));
    }
    if (rc == wanted)
        return;
    CHECK(w, rc != PST_OK);
    CHECK(w, is_clear(rc, &w->err));
}

/* The key holds what it did, or what was written, as the answer says. */
static void settle(struct world *w, size_t key, uint64_t written, pst_rc rc)
{
    uint64_t now = version_of_file(w->paths[key]);
    int is_maybe = rc != PST_OK && (w->err.flags & PST_ERR_MAYBE_APPLIED);

    if (rc == PST_OK)
        CHECK(w, now == written);
    else
        CHECK(w, now == w->held[key] || (is_maybe && now == written));
    w->n_maybe += is_maybe && now == written;
    w->held[key] = now;
}

static int is_slice(const struct world *w, size_t key, uint64_t offset, const void *bytes, size_t n,
                    size_t most)
{
    size_t size = version_size(w->held[key]);
    size_t left = offset < size ? size - (size_t)offset : 0;

    return n == (left < most ? left : most) &&
           (n == 0 || version_matches(w->held[key], (size_t)offset, bytes, n));
}

/* ---- operations -------------------------------------------------------------------------------- */

static pst_rc wanted_of(const struct world *w, size_t key)
{
    return w->held[key] ? PST_OK : PST_E_NOT_FOUND;
}

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
    pst_rc first = PST_OK;

    for (size_t i = 0; i < BATCH; i++)
        items[i] = (pst_get_item){key_of(w, (key + i * 5) % KEYS), next(w, 2) * next(w, 3000),
                                  next(w, 2) ? PST_UNKNOWN : next(w, 30000)};
    begin(w, "get many");
    pst_rc rc = pst_get_many(w->store, items, BATCH, &options, NULL, results, &w->err);
    w->n_faults = io_faults_disarm();
    for (size_t i = 0; i < BATCH; i++) {
        const pst_get_result *result = &results[i];
        size_t at = (key + i * 5) % KEYS;

        if (first == PST_OK)
            first = result->status;
        if (result->status == PST_OK) {
            size_t most = items[i].length < SIZE_MAX ? (size_t)items[i].length : SIZE_MAX;
            CHECK(w, w->held[at] != 0);
            CHECK(w, is_slice(w, at, items[i].offset, pst_buffer_data(result->buffer),
                              pst_buffer_size(result->buffer), most));
            continue;
        }
        CHECK(w, !result->buffer && result->error && result->error->code == result->status);
        CHECK(w, result->status == wanted_of(w, at) || is_clear(result->status, result->error));
    }
    CHECK(w, rc == first);
    w->n_ok += rc == PST_OK;
    w->n_failed += rc != PST_OK;
    pst_get_results_free(results, BATCH);
}

static void do_stat(struct world *w, size_t key)
{
    pst_attr *attr = NULL;

    begin(w, "stat");
    pst_rc rc = pst_stat(w->store, key_of(w, key), NULL, &attr, &w->err);
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
    pst_rc rc = pst_copy(w->store, key_of(w, key), key_of(w, to), NULL, NULL, NULL, &w->err);
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
    pst_rc rc = pst_delete(w->store, key_of(w, key), PST_STR(""), NULL, &w->err);
    end(w, rc, PST_OK);
    settle(w, key, 0, rc);
}

static const struct {
    void (*run)(struct world *w, size_t key);
    unsigned weight;
} operations[] = {
    {do_put, 18},     {do_upload, 18},  {do_get, 14},   {do_get_range, 8},
    {do_get_into, 5}, {do_get_many, 6}, {do_stat, 6},   {do_list, 4},
    {do_copy, 8},     {do_rename, 7},   {do_delete, 6},
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

/* ---- the store before and after ---------------------------------------------------------------- */

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

static size_t n_files;

static int count_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path;
    (void)st;
    (void)ftw;
    n_files += type != FTW_D;
    return 0;
}

static void open_world(struct world *w, const char *dir, const char *scheme, const pst_kv *more,
                       size_t n_more)
{
    static const char *const folders[] = {"", "d/", "d/e/f/", "g/"};
    const char *seed = getenv("PST_TEST_SEED");
    const char *const dirs[] = {getenv("PST_TEST_PLUGINS"), NULL};
    const pst_context_options options = {.struct_size = sizeof(options),
                                         .flags = PST_CONTEXT_ONLY_DIRS |
                                                  PST_CONTEXT_NO_ENVIRONMENT,
                                         .memory_budget_bytes = (uint64_t)64 << 20,
                                         .blocking_threads = 4,
                                         .first_read_bytes = 40000,
                                         .plugin_dirs = dirs};
    pst_kv all[4] = {{PST_STR("root"), pst_str_of(dir, strlen(dir))},
                     {PST_STR("fsync"), PST_STR("data")}};
    char uri[32];

    *w = (struct world){.dir = dir, .seed = seed ? strtoull(seed, NULL, 10) : 4};
    for (unsigned i = 0; i < IO_FAULT_CALLS; i++)
        w->n_faults_before[i] = io_faults_total(i);
    w->random = w->seed * 0x9e3779b97f4a7c15u | 1;
    w->err = (pst_error)PST_ERROR_INIT;
    assert_non_null(w->body = malloc(VERSION_BYTES_MAX));
    for (size_t i = 0; i < KEYS; i++) {
        snprintf(w->keys[i], sizeof(w->keys[i]), "%sk%zu", folders[i % 4], i);
        assert_true(asprintf(&w->paths[i], "%s/%s", dir, w->keys[i]) > 0);
    }
    for (size_t i = 0; i < n_more; i++)
        all[2 + i] = more[i];
    snprintf(uri, sizeof(uri), "%s:///", scheme);
    w->what = "open";
    CHECK(w, pst_context_new(&options, &w->context, &w->err) == PST_OK);
    CHECK(w, pst_store_open(w->context, pst_str_of(uri, strlen(uri)), all, 2 + n_more, &w->store,
                            &w->err) == PST_OK);
}

static void close_world(struct world *w)
{
    uint64_t n_removed = 0, n_bytes = 0;
    size_t n_held = 0;

    w->what = "the end";
    CHECK(w,
          pst_cleanup(w->store, PST_STR(""), 0, 0, NULL, &n_removed, &n_bytes, &w->err) == PST_OK);
    for (size_t i = 0; i < KEYS; i++) {
        CHECK(w, version_of_file(w->paths[i]) == w->held[i]);
        n_held += w->held[i] != 0;
        free(w->paths[i]);
    }
    n_files = 0;
    assert_int_equal(nftw(w->dir, count_file, 16, FTW_PHYS), 0);
    CHECK(w, n_files == n_held);
    for (unsigned i = 0; i < IO_FAULT_CALLS; i++)
        print_message("%s %lu%s", io_faults_name(i), io_faults_total(i) - w->n_faults_before[i],
                      i + 1 < IO_FAULT_CALLS ? ", " : " faults\n");
    print_message("%zu operations done, %zu failed (%zu of them applied all the same), %llu files "
                  "left over were removed\n",
                  w->n_ok, w->n_failed, w->n_maybe, (unsigned long long)n_removed);
    pst_store_free(w->store);
    pst_context_free(w->context);
    free(w->body);
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

/* ---- tests ------------------------------------------------------------------------------------- */

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
