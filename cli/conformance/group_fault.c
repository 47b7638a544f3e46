/* group_fault.c - FAULT, the first half: what a provider refuses, in its own words. The words are those of
 * the declaration; what they must come to is the same for all. */
#include <stdio.h>
#include <string.h>

#include "kit_fault.h"
#include "requirements_fwd.h"

#define SIZE 5000u
#define SEED 47u
#define ONCE(on, fault) "[{'on': " on ", 'fault': " fault "}]"
#define ALWAYS(on, fault) "[{'on': " on ", 'times': 0, 'fault': " fault "}]"
#define REPLY_MARKS (K_FROM_REPLY | K_PROVIDER | K_ENDPOINT | K_NO_MAYBE)

static struct k_store *begin(struct k_test *t, const char *fault, pst_str *key)
{
    if (fault && !k_has_fault(t, fault))
        return NULL;
    struct k_store *s = k_fault_store(t, PST_CAP_READ);
    if (s)
        *key = k_fault_object(t, "object", SIZE, SEED);
    return s;
}

static void check_retry_after(struct k_call *c, uint32_t wanted_ms)
{
    k_that(c->host->test, c->error.retry_after_ms == wanted_ms,
           "expected retry_after_ms %u as the reply said, got %u", wanted_ms,
           c->error.retry_after_ms);
}

/* A read under a fault that stays: fails so, sends one request, and works again afterwards. */
static struct k_call *refused(struct k_test *t, const char *fault, uint32_t marks,
                              const pst_rc *codes)
{
    char rules[200];
    pst_str key;
    struct k_store *s = begin(t, fault, &key);
    if (!s)
        return NULL;
    (void)snprintf(rules, sizeof(rules), ALWAYS("'get'", "'%s'"), fault);
    struct k_call *c = k_read_under(s, rules, key, 0, SIZE);
    (void)k_want_failure(c, fault, marks | REPLY_MARKS, codes);
    size_t n = k_fault_count(t, "get");
    k_that(t, n == 1, "expected one request, since to repeat is the host's, got %zu", n);
    k_that(t, c->n_dst_calls == 0, "expected no dst() for an error, got %u", c->n_dst_calls);
    k_wants_recovery(s, key, SIZE, SEED);
    return c;
}

static void finish(struct k_call *c)
{
    if (c)
        k_call_free(c);
}

void k_FAULT_001(struct k_test *t)
{
    finish(refused(t, "throttled", K_RETRY, K_CODES(PST_E_THROTTLED)));
}

void k_FAULT_002(struct k_test *t)
{
    struct k_call *c = refused(t, "too_many", K_RETRY, K_CODES(PST_E_THROTTLED));
    if (c)
        check_retry_after(c, 2000);
    finish(c);
}

void k_FAULT_003(struct k_test *t)
{
    struct k_call *c = refused(t, "unavailable", K_RETRY,
                               K_CODES(PST_E_UNAVAILABLE, PST_E_THROTTLED));
    if (c)
        check_retry_after(c, 2000);
    finish(c);
}

void k_FAULT_004(struct k_test *t)
{
    finish(refused(t, "internal", K_RETRY, K_CODES(PST_E_UNAVAILABLE)));
}

void k_FAULT_005(struct k_test *t)
{
    finish(refused(t, "timeout", K_RETRY, K_CODES(PST_E_UNAVAILABLE, PST_E_THROTTLED)));
}

void k_FAULT_006(struct k_test *t)
{
    if (!k_has_fault(t, "conflict"))
        return;
    struct k_store *s = k_fault_store(t, PST_CAP_PUT | PST_CAP_CREATE_ONLY);
    if (!s)
        return;
    struct k_source *source = k_source_new("put", SIZE, SEED, 0, 0);
    pst_str key = k_key(t, "put");
    for (unsigned i = 0; i < 2; i++) {
        struct k_call *c = k_new_put(s, key, source, SIZE);
        c->in.put.flags = PST_PUT_CREATE_ONLY;
        k_fault_set(t, i == 0 ? ALWAYS("'put'", "'conflict'") : "[]");
        k_step(t, "a create-only put that meets another one under way");
        (void)k_call_run(c);
        if (i == 0)
            (void)k_want_failure(c, "a conflict with a writer that may fail yet",
                                 K_RETRY | K_NO_MAYBE | K_PROVIDER,
                                 K_CODES(PST_E_UNAVAILABLE, PST_E_THROTTLED));
        else if (k_want(c, PST_OK, "the next put"))
            (void)k_fault_holds(t, key, SIZE, SEED);
        k_call_free(c);
    }
    k_source_bury(source);
}

void k_FAULT_007(struct k_test *t)
{
    finish(refused(t, "denied", K_NO_RETRY, K_CODES(PST_E_DENIED)));
}

void k_FAULT_008(struct k_test *t)
{
    finish(refused(t, "unknown_key", K_NO_RETRY, K_CODES(PST_E_UNAUTHENTICATED, PST_E_DENIED)));
    if (!k_failed(t))
        finish(
            refused(t, "bad_signature", K_NO_RETRY, K_CODES(PST_E_UNAUTHENTICATED, PST_E_DENIED)));
}

/* ---- what is put right once ------------------------------------------------------------------------ */

#define REQUESTS_MAX 4u

/* Met once, the operation succeeds all the same if it `must_mend`. Met for ever, it fails soon. In that
 * order: a plugin that has put something right may find the same complaint absurd. */
static void mended(struct k_test *t, const char *fault, bool must_mend, const pst_rc *codes)
{
    char rules[200];
    pst_str key;
    struct k_store *s = begin(t, fault, &key);
    if (!s)
        return;
    (void)snprintf(rules, sizeof(rules), ONCE("'get'", "'%s'"), fault);
    struct k_call *c = k_read_under(s, rules, key, 0, SIZE);
    if (c->rc == PST_OK || must_mend)
        k_that(t, c->rc == PST_OK && k_read_is_right(c, SEED, 0, SIZE),
               "expected a read that meets %s once to succeed, got %s: %s", fault, k_rc_name(c->rc),
               c->error.message);
    else
        (void)k_want_failure(c, fault, K_NO_RETRY | REPLY_MARKS, codes);
    k_call_free(c);
    (void)snprintf(rules, sizeof(rules), ALWAYS("'get'", "'%s'"), fault);
    c = k_read_under(s, rules, key, 0, SIZE);
    (void)k_want_failure(c, fault, K_NO_RETRY | REPLY_MARKS, codes);
    size_t n = k_fault_count(t, NULL);
    k_that(t, n >= 1 && n <= REQUESTS_MAX, "expected at most %u requests, got %zu", REQUESTS_MAX,
           n);
    k_call_free(c);
    k_wants_recovery(s, key, SIZE, SEED);
}

void k_FAULT_009(struct k_test *t)
{
    mended(t, "expired", false, K_CODES(PST_E_UNAUTHENTICATED));
}

void k_FAULT_010(struct k_test *t)
{
    mended(t, "skewed", true, K_CODES(PST_E_UNAUTHENTICATED, PST_E_DENIED));
}

void k_FAULT_011(struct k_test *t)
{
    mended(t, "region_wrong", true,
           K_CODES(PST_E_INVALID, PST_E_DENIED, PST_E_UNAUTHENTICATED, PST_E_NOT_FOUND));
}

void k_FAULT_012(struct k_test *t)
{
    mended(t, "region_moved", true,
           K_CODES(PST_E_INVALID, PST_E_DENIED, PST_E_UNAUTHENTICATED, PST_E_NOT_FOUND));
}

void k_FAULT_013(struct k_test *t)
{
    struct k_call *c = refused(
        t, "archived", K_NO_RETRY,
        K_CODES(PST_E_DENIED, PST_E_INVALID, PST_E_UNIMPLEMENTED, PST_E_PRECONDITION));
    if (c)
        k_that(t, strstr(c->error.message, c->error.provider_code) || c->error.provider_code[0],
               "expected the error of an archived object to name it, got %s", c->error.message);
    finish(c);
}

void k_FAULT_014(struct k_test *t)
{
    struct k_call *c = refused(t, "no_container", K_NO_RETRY, K_CODES(PST_E_NOT_FOUND));
    if (c)
        k_that(t, c->error.flags & PST_ERR_NO_CONTAINER,
               "expected the flag NO_CONTAINER where the container is missing, got 0x%x",
               c->error.flags);
    finish(c);
}

/* ---- listings, batches, sums ----------------------------------------------------------------------- */

static void want_list(struct k_store *s, struct k_listing *l, size_t n)
{
    k_step(s->test, "listing");
    pst_rc rc = k_list(s, l);
    k_that(s->test, rc == PST_OK && l->entries.n == n, "expected %zu entries, got %s and %zu", n,
           k_rc_name(rc), l->entries.n);
    k_entries_fini(&l->entries);
}

#define N_LISTED 9u

static struct k_store *begin_list(struct k_test *t, struct k_listing *l)
{
    struct k_store *s = k_fault_store(t, PST_CAP_LIST);
    for (unsigned i = 0; s && i < N_LISTED; i++) {
        char name[20];
        (void)snprintf(name, sizeof(name), "list/%u", i);
        (void)k_fault_object(t, name, 10, i);
    }
    l->prefix = k_key(t, "list/");
    l->flags = PST_LIST_RECURSIVE;
    l->max_entries = 4;
    return s;
}

void k_FAULT_015(struct k_test *t)
{
    struct k_listing l = {0};
    struct k_store *s = begin_list(t, &l);
    if (!s)
        return;
    k_fault_set(t, "[{'on': 'list', 'nth': 2, 'fault':"
                   " {'apply': false, 'status': 500, 'body': 'no'}}]");
    k_step(t, "a listing whose second page fails");
    pst_rc rc = k_list(s, &l);
    k_that(t, rc < 0, "expected the failure of a page to be the listing's, got %s and %zu entries",
           k_rc_name(rc), l.entries.n);
    k_entries_fini(&l.entries);
    want_list(s, &l, N_LISTED);
}

void k_FAULT_016(struct k_test *t)
{
    static const char *const faults[] = {"{'cut': {'at': 'body', 'bytes': 100}}",
                                         "{'cut': {'at': 'body', 'bytes': 100, 'how': 'close'}}",
                                         "{'shorten': 30}", "{'body': ''}",
                                         "{'body': 'not a listing'}"};
    struct k_listing l = {0};
    struct k_store *s = begin_list(t, &l);
    for (size_t i = 0; s && i < sizeof(faults) / sizeof(faults[0]); i++) {
        k_fault_set(t, "[{'on': 'list', 'times': 0, 'fault': %s}]", faults[i]);
        k_step(t, "a listing under %s", faults[i]);
        pst_rc rc = k_list(s, &l);
        k_that(t, rc < 0, "expected an error from a listing under %s, got %s and %zu entries",
               faults[i], k_rc_name(rc), l.entries.n);
        k_entries_fini(&l.entries);
    }
    if (s) {
        k_fault_set(t, NULL);
        want_list(s, &l, N_LISTED);
    }
}

#define N_BATCH 4u

void k_FAULT_017(struct k_test *t)
{
    struct k_store *s = k_fault_store(t, PST_CAP_REMOVE);
    pst_str keys[N_BATCH];
    if (!s)
        return;
    if (s->limits.remove_batch_max > 0 && s->limits.remove_batch_max < N_BATCH) {
        k_skip(t, "the store removes at most %u keys at once", s->limits.remove_batch_max);
        return;
    }
    for (unsigned i = 0; i < N_BATCH; i++) {
        char name[20];
        (void)snprintf(name, sizeof(name), "batch-%u", i);
        keys[i] = k_fault_object(t, name, 10, i);
    }
    struct k_call *c = k_call_new(s, K_REMOVE, NULL);
    c->in.remove.keys = keys;
    c->in.remove.n_keys = N_BATCH;
    c->give_errors = true;
    k_fault_set(t, ALWAYS("'delete_many'", "{'refuse_key': 2}"));
    k_step(t, "removing four keys, one of which is refused under status 200");
    (void)k_call_run(c);
    if (k_fault_count(t, "delete_many") == 0)
        k_skip(t, "the plugin removes key by key");
    else
        for (unsigned i = 0; i < N_BATCH; i++)
            k_that(t, i == 1 ? c->statuses[i] == PST_E_DENIED : c->statuses[i] == PST_OK,
                   "expected %s for key %u of the batch, got %s", i == 1 ? "DENIED" : "OK", i,
                   k_rc_name(c->statuses[i]));
    k_call_free(c);
}

struct seen_sum {
    uint32_t n;
    uint8_t bytes[32];
};

/* Before complete returns: the plugin may have it in the operation's scratch. */
static void keep_sum(struct k_call *c, void *arg)
{
    struct seen_sum *seen = arg;
    if (c->rc != PST_OK || c->live.read.n_sums == 0)
        return;
    seen->n = c->live.read.n_sums;
    memcpy(seen->bytes, c->live.read.sums[0].bytes, sizeof(seen->bytes));
}

void k_FAULT_018(struct k_test *t)
{
    pst_str key;
    struct k_store *s = begin(t, "wrong_sum", &key);
    struct seen_sum seen[2] = {{0}, {0}};
    for (unsigned i = 0; s && i < 2; i++) {
        struct k_call *c = k_new_read(s, key, 0, SIZE);
        c->in.read.flags = PST_READ_SUMS;
        c->on_complete = keep_sum;
        c->on_complete_arg = &seen[i];
        k_fault_set(t, i == 0 ? "[]" : ALWAYS("'get'", "'wrong_sum'"));
        k_step(t, "reading with sums");
        (void)k_call_run(c);
        if (i == 1 && c->rc != PST_OK && seen[0].n > 0)
            (void)k_want_failure(c, "a reply with a wrong sum", K_NO_MAYBE,
                                 K_CODES(PST_E_DATA_LOSS));
        else if (i == 1 && seen[0].n > 0)
            k_that(t, seen[1].n > 0 && memcmp(seen[0].bytes, seen[1].bytes, 32) != 0,
                   "expected the sum that the reply carries, got one that the plugin computed or "
                   "none");
        k_call_free(c);
    }
    if (s && seen[0].n == 0)
        k_skip(t, "the store supplies no sums with a read");
}
