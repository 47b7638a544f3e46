/* chaos.c - what the chaos of test_chaos_io.c must not do to a store.
 *
 * The world knows which version each key holds. A write adds a second possibility only where its error
 * says MAYBE_APPLIED; which of the two it is, the file tells, read past Penstock. Errors are compared with
 * what was injected: an errno that nobody gave is as wrong as a code that no errno leads to. */
#include "chaos.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

void check(const struct world *w, int holds, const char *text, const char *file, int line)
{
    if (holds)
        return;
    print_error("seed %llu, operation %llu, %s: %s\n  error: %s (errno %d, %u faults)\n",
                (unsigned long long)w->seed, (unsigned long long)w->turn, w->what, text,
                w->err.message, w->err.sys_errno, w->n_faults);
    _fail(file, line);
}

uint64_t next(struct world *w, uint64_t below) /* xorshift64, Marsaglia 2003 */
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (w->random >> 11) % below;
}

pst_str key_of(const struct world *w, size_t i)
{
    return pst_str_of(w->keys[i], strlen(w->keys[i]));
}

/* ---- around each operation --------------------------------------------------------------------- */

void begin(struct world *w, const char *what)
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

void end(struct world *w, pst_rc rc, pst_rc wanted)
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

void settle(struct world *w, size_t key, uint64_t written, pst_rc rc)
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

int is_slice(const struct world *w, size_t key, uint64_t offset, const void *bytes, size_t n,
             size_t most)
{
    size_t size = version_size(w->held[key]);
    size_t left = offset < size ? size - (size_t)offset : 0;

    return n == (left < most ? left : most) &&
           (n == 0 || version_matches(w->held[key], (size_t)offset, bytes, n));
}

void end_batch(struct world *w, pst_rc rc, const pst_get_result *results)
{
    pst_rc first = PST_OK;

    w->n_faults = io_faults_disarm();
    for (size_t i = 0; i < BATCH && first == PST_OK; i++)
        first = results[i].status;
    CHECK(w, rc == first);
    w->n_ok += rc == PST_OK;
    w->n_failed += rc != PST_OK;
}

void check_item(struct world *w, size_t key, const pst_get_result *result)
{
    if (result->status == PST_OK) {
        CHECK(w, w->held[key] != 0 && !result->error);
        return;
    }
    CHECK(w, !result->buffer && result->error && result->error->code == result->status);
    CHECK(w, result->status == wanted_of(w, key) || is_clear(result->status, result->error));
}

pst_rc wanted_of(const struct world *w, size_t key)
{
    return w->held[key] ? PST_OK : PST_E_NOT_FOUND;
}

/* ---- the store before and after ---------------------------------------------------------------- */

static size_t n_files;

static int count_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path;
    (void)st;
    (void)ftw;
    n_files += type != FTW_D;
    return 0;
}

void open_world(struct world *w, const char *dir, const char *scheme, const pst_kv *more,
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

void close_world(struct world *w)
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
