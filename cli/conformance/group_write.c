/* group_write.c - WRITE: put, copy, rename, remove, append, containers, cleanup. Uploads are in
 * group_upload.c. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

/* Put with flags and a condition; the outcome. */
static pst_rc put_if(struct k_store *s, pst_str key, uint64_t size, uint64_t seed, uint32_t flags,
                     pst_str if_match)
{
    struct k_source *src = k_source_new("put", (size_t)size, seed, 0, 0);
    struct k_call *c = k_new_put(s, key, src, size);
    c->in.put.flags = flags;
    c->in.put.if_match = if_match;
    pst_rc rc = k_call_run(c);
    k_source_bury(src);
    k_call_free(c);
    return rc;
}

void k_check_put(struct k_store *s, const struct k_call *c, pst_str key, uint64_t size)
{
    struct k_test *t = s->test;
    struct k_attrs a;
    const pst_put_result *r = &c->out.put;
    pst_rc rc = k_stat(s, key, &a);
    if (!k_that(t, rc == PST_OK, "expected stat of what was written: OK, got %s", k_rc_name(rc)))
        return;
    k_that(t, a.size == size, "expected stat to tell %llu bytes, got %llu",
           (unsigned long long)size, (unsigned long long)a.size);
    k_that(t, r->size == size || r->size == PST_UNKNOWN,
           "expected the result to tell %llu bytes, got "
           "%llu",
           (unsigned long long)size, (unsigned long long)r->size);
    k_that(t, r->etag_strength == PST_ETAG_NONE || k_str_eq(r->etag, k_etag(&a)),
           "expected the result to name stat's etag %s, got %s", k_show(k_etag(&a)),
           k_show(r->etag));
}

void k_WRITE_001(struct k_test *t)
{
    static const uint64_t sizes[] = {1, 4096, 100003, (1u << 20) + 1};
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_PUT);
    for (size_t i = 0; s && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        pst_str key = k_key(t, "put-%zu", i);
        struct k_source *src = k_source_new("put", (size_t)sizes[i], i, 0, 0);
        struct k_call *c = k_new_put(s, key, src, sizes[i]);
        k_step(t, "putting %llu bytes", (unsigned long long)sizes[i]);
        (void)k_call_run(c);
        k_source_bury(src);
        if (k_want(c, PST_OK, "put")) {
            k_check_put(s, c, key, sizes[i]);
            (void)k_holds(s, key, sizes[i], i);
        }
        k_call_free(c);
    }
}

void k_WRITE_002(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_PUT);
    pst_str key = k_key(t, "empty");
    struct k_attrs a;
    if (!s || !k_make(s, key, 0, 0))
        return;
    pst_rc rc = k_stat(s, key, &a);
    k_that(t, rc == PST_OK && a.size == 0,
           "expected stat of an empty object: OK and 0 bytes, got %s "
           "and %llu",
           k_rc_name(rc), (unsigned long long)a.size);
    (void)k_holds(s, key, 0, 0);
}

void k_WRITE_003(struct k_test *t)
{
    static const uint64_t sizes[] = {100000, 10, 0, 5000, 5000, 200000};
    struct k_store *s = k_need(t, K_WRITES);
    pst_str key = k_key(t, "replaced");
    for (size_t i = 0; s && i < sizeof(sizes) / sizeof(sizes[0]); i++)
        if (!k_make(s, key, sizes[i], i) || !k_holds(s, key, sizes[i], i))
            return;
}

/* ---- a reader beside a writer -------------------------------------------------------------------- */

#define N_VERSIONS 60u
#define VERSION_BYTES 300000u

struct rewriter {
    struct k_store *store;
    pst_str key;
    atomic_bool is_over;
};

static void *rewrite(void *arg)
{
    struct rewriter *w = arg;
    for (uint64_t i = 1; i < N_VERSIONS && !k_failed(w->store->test); i++)
        (void)k_make(w->store, w->key, VERSION_BYTES + i, i);
    atomic_store(&w->is_over, true);
    return NULL;
}

/* The size tells which version it should be. */
static void check_version(struct k_test *t, const unsigned char *bytes, uint64_t n)
{
    if (!k_that(t, n >= VERSION_BYTES && n < VERSION_BYTES + N_VERSIONS,
                "expected one of the versions written, got %llu bytes", (unsigned long long)n))
        return;
    uint64_t seed = n - VERSION_BYTES;
    size_t at = k_differs(bytes, (size_t)n, seed, 0);
    k_that(t, at == SIZE_MAX, "expected the bytes of one version, got another's at %zu", at);
}

void k_WRITE_004(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES);
    struct rewriter w = {.store = s, .key = k_key(t, "rewritten")};
    pthread_t thread;
    unsigned n_read = 0;
    if (!s || !k_make(s, w.key, VERSION_BYTES, 0))
        return;
    if (s->plugin->threads == PST_THREADS_SERIAL) {
        k_skip(t, "the plugin is SERIAL");
        return;
    }
    if (pthread_create(&thread, NULL, rewrite, &w) != 0)
        return;
    while (!atomic_load(&w.is_over) && !k_failed(t)) {
        unsigned char *bytes = NULL;
        uint64_t n = 0;
        uint64_t align = s->limits.io_align > 1 ? s->limits.io_align : 1;
        uint64_t length = (VERSION_BYTES + N_VERSIONS + align - 1) / align * align;
        k_step(t, "reading an object that is being replaced");
        pst_rc rc = k_read(s, w.key, 0, length, &bytes, &n);
        if (rc == PST_OK)
            check_version(t, bytes, n);
        else /* whoever cannot tell which version it read must say so */
            k_that(t, rc == PST_E_CHANGED, "expected a read beside a put: OK or CHANGED, got %s",
                   k_rc_name(rc));
        n_read += rc == PST_OK;
        k_free(bytes);
    }
    (void)pthread_join(thread, NULL);
    k_that(t, n_read > 0, "expected some of the reads beside a put to succeed, got none");
}

/* ---- conditions ---------------------------------------------------------------------------------- */

#define N_RIVALS 8u

struct rival {
    struct k_store *store;
    pst_str key, if_match;
    uint32_t flags;
    unsigned number;
    pst_rc rc;
    pthread_barrier_t *start;
};

static void *compete(void *arg)
{
    struct rival *r = arg;
    (void)pthread_barrier_wait(r->start);
    r->rc = put_if(r->store, r->key, 1000 + r->number, r->number, r->flags, r->if_match);
    return NULL;
}

/* Eight puts with the same condition: one must win, and its bytes must be there. Each puts what was never
 * there before: an etag may be a sum of the bytes, and fit again. */
static void race(struct k_store *s, pst_str key, uint32_t flags, pst_str if_match, pst_rc loser,
                 unsigned round)
{
    struct k_test *t = s->test;
    struct rival rivals[N_RIVALS];
    pthread_t threads[N_RIVALS];
    pthread_barrier_t start;
    unsigned n_won = 0, winner = 0;
    if (s->plugin->threads == PST_THREADS_SERIAL)
        return;
    (void)pthread_barrier_init(&start, NULL, N_RIVALS);
    for (unsigned i = 0; i < N_RIVALS; i++) {
        rivals[i] = (struct rival){
            s, key, if_match, flags, round * N_RIVALS + i, PST_E_INTERNAL, &start};
        if (pthread_create(&threads[i], NULL, compete, &rivals[i]) != 0) {
            k_fail(t, "the kit could not start a thread");
            return;
        }
    }
    for (unsigned i = 0; i < N_RIVALS; i++) {
        (void)pthread_join(threads[i], NULL);
        if (rivals[i].rc == PST_OK) {
            n_won++;
            winner = rivals[i].number;
        } else {
            k_that(t, rivals[i].rc == loser, "expected the losers of a race to get %s, got %s",
                   k_rc_name(loser), k_rc_name(rivals[i].rc));
        }
    }
    (void)pthread_barrier_destroy(&start);
    if (k_that(t, n_won == 1, "expected one winner of %u with the same condition, got %u", N_RIVALS,
               n_won))
        (void)k_holds(s, key, 1000 + winner, winner);
}

void k_WRITE_005(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_PUT | PST_CAP_CREATE_ONLY);
    pst_str key = k_key(t, "created");
    if (!s)
        return;
    pst_str none = pst_str_of(NULL, 0);
    pst_rc rc = put_if(s, key, 100, 1, PST_PUT_CREATE_ONLY, none);
    k_that(t, rc == PST_OK, "expected CREATE_ONLY where nothing is: OK, got %s", k_rc_name(rc));
    rc = put_if(s, key, 200, 2, PST_PUT_CREATE_ONLY, none);
    k_that(t, rc == PST_E_EXISTS, "expected CREATE_ONLY onto an object: EXISTS, got %s",
           k_rc_name(rc));
    (void)k_holds(s, key, 100, 1);
    for (unsigned i = 0; i < 10 && !k_failed(t); i++) {
        k_step(t, "creating an object from %u threads", N_RIVALS);
        race(s, k_key(t, "race-%u", i), PST_PUT_CREATE_ONLY, none, PST_E_EXISTS, i);
    }
}

void k_WRITE_006(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_PUT | PST_CAP_WRITE_IF_MATCH);
    pst_str key = k_key(t, "matched");
    struct k_attrs a;
    if (!s || !k_make(s, key, 100, 1) || k_stat(s, key, &a) != PST_OK)
        return;
    pst_rc rc = put_if(s, key, 200, 2, 0, k_etag(&a));
    k_that(t, rc == PST_OK, "expected a put with the current etag: OK, got %s", k_rc_name(rc));
    (void)k_holds(s, key, 200, 2);
    rc = put_if(s, key, 300, 3, 0, k_etag(&a));
    k_that(t, rc == PST_E_PRECONDITION, "expected a put with an old etag: PRECONDITION, got %s",
           k_rc_name(rc));
    (void)k_holds(s, key, 200, 2);
    rc = put_if(s, k_key(t, "not-there"), 10, 4, 0, k_etag(&a));
    k_that(t, rc == PST_E_PRECONDITION || rc == PST_E_NOT_FOUND,
           "expected a put with an etag where nothing is: PRECONDITION or NOT_FOUND, got %s",
           k_rc_name(rc));
    (void)k_absent(s, k_key(t, "not-there"));
    for (unsigned i = 0; i < 10 && !k_failed(t); i++) {
        k_step(t, "replacing an object from %u threads with the same etag", N_RIVALS);
        if (k_stat(s, key, &a) == PST_OK)
            race(s, key, 0, k_etag(&a), PST_E_PRECONDITION, i);
    }
}
