/* group_lost.c - FAULT, the second half: the request was carried out and the reply is lost. Whoever asked
 * must not be told of a conflict with himself, and nothing may be left behind. A connection is warm
 * before the fault comes, so that a client that sends again on another one is seen. */
#include <stdio.h>
#include <string.h>

#include "kit_fault.h"
#include "requirements_fwd.h"

#define SIZE 5000u
#define SEED 53u
#define CUT "{'cut': {'at': 'before_head'}}"
#define LOST(on) "[{'on': " on ", 'fault': " CUT "}]"
#define NOT_APPLIED(on) "[{'on': " on ", 'fault': {'apply': false, 'cut': {'at': 'before_head'}}}]"
#define REMOVES "['delete', 'delete_many']"

static struct k_store *begin(struct k_test *t, uint64_t caps)
{
    struct k_store *s = k_fault_store(t, caps | PST_CAP_READ);
    if (s)
        k_wants_recovery(s, k_fault_object(t, "warm", 100, 1), 100, 1);
    return s && !k_failed(t) ? s : NULL;
}

static void run_under(struct k_call *c, const char *rules, const char *what)
{
    k_fault_set(c->host->test, "%s", rules);
    k_step(c->host->test, "%s", what);
    (void)k_call_run(c);
}

/* OK, for the plugin looked; or an error that says that it may have happened. */
static bool want_known_or_maybe(struct k_call *c, const char *what)
{
    if (c->rc == PST_OK || c->hung)
        return !c->hung;
    return k_want_failure(c, what, K_MAYBE,
                          K_CODES(PST_E_UNAVAILABLE, PST_E_DEADLINE, PST_E_EXISTS,
                                  PST_E_PRECONDITION, PST_E_NOT_FOUND));
}

/* ---- put ----------------------------------------------------------------------------------------- */

enum condition { NONE, CREATE_ONLY, IF_MATCH };

static void lose_put(struct k_test *t, enum condition condition, uint64_t caps, const char *what)
{
    struct k_store *s = begin(t, PST_CAP_PUT | caps);
    struct k_attrs before = {0};
    if (!s)
        return;
    pst_str key = k_key(t, "put");
    if (condition == IF_MATCH) {
        key = k_fault_object(t, "put", 100, 2);
        if (!k_that(t, k_stat(s, key, &before) == PST_OK, "expected stat of an object to work"))
            return;
    }
    struct k_source *source = k_source_new("put", SIZE, SEED, 0, 0);
    struct k_call *c = k_new_put(s, key, source, SIZE);
    c->in.put.flags = condition == CREATE_ONLY ? PST_PUT_CREATE_ONLY : 0;
    if (condition == IF_MATCH)
        c->in.put.if_match = k_etag(&before);
    run_under(c, LOST("'put'"), what);
    if (want_known_or_maybe(c, what))
        (void)k_fault_holds(t, key, SIZE, SEED);
    if (c->rc == PST_OK && c->out.put.size != PST_UNKNOWN)
        k_that(t, c->out.put.size == SIZE, "expected size %u from %s, got %llu", SIZE, what,
               (unsigned long long)c->out.put.size);
    k_call_free(c);
    k_source_bury(source);
}

void k_FAULT_019(struct k_test *t)
{
    lose_put(t, NONE, 0, "a put whose reply is lost");
}

void k_FAULT_020(struct k_test *t)
{
    lose_put(t, CREATE_ONLY, PST_CAP_CREATE_ONLY, "a create-only put whose reply is lost");
}

void k_FAULT_021(struct k_test *t)
{
    lose_put(t, IF_MATCH, PST_CAP_WRITE_IF_MATCH | PST_CAP_STAT,
             "a put with if_match whose reply is lost");
}

/* Somebody else's object under the key, and no reply to our own attempt: that is a conflict. */
void k_FAULT_022(struct k_test *t)
{
    struct k_store *s = begin(t, PST_CAP_PUT | PST_CAP_CREATE_ONLY);
    if (!s)
        return;
    pst_str key = k_fault_object(t, "taken", SIZE, SEED + 1);
    struct k_source *source = k_source_new("put", SIZE, SEED, 0, 0);
    struct k_call *c = k_new_put(s, key, source, SIZE);
    c->in.put.flags = PST_PUT_CREATE_ONLY;
    run_under(c, LOST("'put'"), "a create-only put of a taken key, whose reply is lost");
    k_that(t, c->rc != PST_OK, "expected no OK for a key that another object has, got OK");
    (void)k_fault_holds(t, key, SIZE, SEED + 1);
    k_call_free(c);
    k_source_bury(source);
}

/* ---- uploads ------------------------------------------------------------------------------------- */

#define PARTS 2u

static bool open_with_parts(struct k_writer *w, struct k_store *s, pst_str key)
{
    if (!k_writer_open(w, s, key, SEED))
        return false;
    for (uint32_t i = 0; i < PARTS; i++)
        if (!k_writer_part(w, i, i + 1 < PARTS ? w->part_bytes : SIZE))
            return false;
    return true;
}

/* As the host does it: again, while the plugin says that this may help. */
static void commit_under(struct k_test *t, const char *rules, const char *what)
{
    struct k_store *s = begin(t, PST_CAP_UPLOAD);
    struct k_writer w = {0};
    if (!s)
        return;
    pst_str key = k_key(t, "upload");
    if (open_with_parts(&w, s, key)) {
        uint64_t size = w.part_bytes * (PARTS - 1) + SIZE;
        pst_rc rc = PST_E_UNAVAILABLE;
        k_fault_set(t, "%s", rules);
        for (unsigned i = 0; i < 4 && rc == PST_E_UNAVAILABLE; i++) {
            struct k_call *c = k_call_new(s, K_UPLOAD_COMMIT, w.upload);
            c->in.commit.size = size;
            c->in.commit.n_parts = PARTS;
            k_step(t, "%s, attempt %u", what, i + 1);
            rc = k_call_run(c);
            rc = rc == PST_PENDING ? c->rc : rc;
            if (c->rc != PST_OK)
                (void)k_want_failure(c, what, K_RETRY, K_CODES(PST_E_UNAVAILABLE));
            k_call_free(c);
        }
        if (k_that(t, rc == PST_OK, "expected %s to be OK in the end, got %s", what, k_rc_name(rc)))
            (void)k_fault_holds(t, key, size, SEED);
        k_that(t, k_fault_uploads(t) == 0, "expected no upload left behind %s, got one", what);
    }
    k_writer_free(&w);
}

void k_FAULT_023(struct k_test *t)
{
    commit_under(t, LOST("'upload_commit'"), "a commit whose reply is lost");
}

void k_FAULT_024(struct k_test *t)
{
    commit_under(t, NOT_APPLIED("'upload_commit'"), "a commit that was not carried out");
}

void k_FAULT_025(struct k_test *t)
{
    if (k_has_fault(t, "error_with_200"))
        commit_under(t, "[{'on': 'upload_commit', 'fault': 'error_with_200'}]",
                     "a commit that fails under status 200");
}

void k_FAULT_026(struct k_test *t)
{
    struct k_store *s = begin(t, PST_CAP_UPLOAD);
    struct k_writer w = {0};
    if (!s)
        return;
    if (open_with_parts(&w, s, k_key(t, "upload"))) {
        pst_rc rc = PST_E_UNAVAILABLE;
        k_fault_set(t, LOST("'upload_abort'"));
        for (unsigned i = 0; i < 3 && rc == PST_E_UNAVAILABLE; i++) {
            struct k_call *c = k_call_new(s, K_UPLOAD_ABORT, w.upload);
            k_step(t, "an abort whose reply is lost, attempt %u", i + 1);
            (void)k_call_run(c);
            rc = c->rc;
            if (rc != PST_OK)
                (void)k_want_failure(c, "an abort whose reply is lost", K_RETRY,
                                     K_CODES(PST_E_UNAVAILABLE));
            k_call_free(c);
        }
        k_that(t, rc == PST_OK,
               "expected an abort whose reply was lost to be OK in the end, got %s", k_rc_name(rc));
        k_that(t, k_fault_uploads(t) == 0, "expected no upload left behind the abort, got one");
    }
    k_writer_free(&w);
}

void k_FAULT_027(struct k_test *t)
{
    static const char *const faults[] = {LOST("'upload_part'"), NOT_APPLIED("'upload_part'"),
                                         "[{'on': 'upload_part', 'fault': {'cut_request': 1000}}]"};
    struct k_store *s = begin(t, PST_CAP_UPLOAD);
    for (size_t i = 0; s && i < sizeof(faults) / sizeof(faults[0]) && !k_failed(t); i++) {
        struct k_writer w = {0};
        pst_str key = k_key(t, "upload-%zu", i);
        if (!k_writer_open(&w, s, key, SEED))
            return;
        struct k_source *source = k_source_new("part", SIZE, SEED, 0, 0);
        for (unsigned attempt = 0, is_done = 0; attempt < 3 && !is_done && !k_failed(t);
             attempt++) {
            struct k_call *c = k_call_new(s, K_UPLOAD_PART, w.upload);
            c->in.part.src = source->iov;
            c->in.part.n_src = source->n;
            c->attempt = attempt + 1;
            run_under(c, attempt == 0 ? faults[i] : "[]", "a part that is lost, and sent again");
            is_done = c->rc == PST_OK;
            if (!is_done)
                (void)k_want_failure(c, "a part that is lost", K_RETRY, K_CODES(PST_E_UNAVAILABLE));
            k_call_free(c);
        }
        if (k_that(t, k_writer_commit(&w, SIZE, 1) == PST_OK, "expected the commit to be OK"))
            (void)k_fault_holds(t, key, SIZE, SEED);
        k_source_bury(source);
        k_writer_free(&w);
    }
}

void k_FAULT_028(struct k_test *t)
{
    struct k_store *s = begin(t, PST_CAP_UPLOAD);
    if (!s)
        return;
    struct k_call *c = k_call_new(s, K_UPLOAD_OPEN, NULL);
    c->in.put.key = k_key(t, "upload");
    c->in.put.size_hint = PST_UNKNOWN;
    run_under(c, "[{'on': 'upload_open', 'times': 0, 'fault': " CUT "}]",
              "opening an upload whose reply is lost");
    if (c->rc == PST_OK) /* a plugin may open it when the first part comes */
        s->ops->upload_free(c->out.upload.upload);
    else
        (void)k_want_failure(c, "opening an upload", K_RETRY, K_CODES(PST_E_UNAVAILABLE));
    k_call_free(c);
    k_fault_set(t, NULL);
    struct k_writer w = {0};
    if (open_with_parts(&w, s, k_key(t, "upload")))
        k_that(t, k_writer_commit(&w, w.part_bytes * (PARTS - 1) + SIZE, PARTS) == PST_OK,
               "expected the next upload to be committed");
    k_writer_free(&w);
}

void k_FAULT_029(struct k_test *t)
{
    struct k_store *s = begin(t, PST_CAP_UPLOAD | PST_CAP_UPLOAD_CONDITIONAL | PST_CAP_CREATE_ONLY);
    if (!s)
        return;
    pst_str key = k_key(t, "upload");
    struct k_call *open = k_call_new(s, K_UPLOAD_OPEN, NULL);
    open->in.put.key = key;
    open->in.put.size_hint = SIZE;
    open->in.put.flags = PST_PUT_CREATE_ONLY;
    (void)k_call_run(open);
    struct k_writer w = {.store = s, .key = key, .seed = SEED};
    if (k_want(open, PST_OK, "opening a create-only upload"))
        w.upload = open->out.upload.upload;
    k_call_free(open);
    if (w.upload && k_writer_part(&w, 0, SIZE)) {
        pst_rc rc = PST_E_UNAVAILABLE;
        k_fault_set(t, LOST("'upload_commit'"));
        for (unsigned i = 0; i < 3 && rc == PST_E_UNAVAILABLE; i++)
            rc = k_writer_commit(&w, SIZE, 1);
        k_that(t, rc == PST_OK,
               "expected a create-only commit whose reply was lost to be OK in the end, got %s",
               k_rc_name(rc));
        (void)k_fault_holds(t, key, SIZE, SEED);
    }
    k_writer_free(&w);
}

/* ---- remove and copy ------------------------------------------------------------------------------ */

static void lose_remove(struct k_test *t, bool is_conditional, uint64_t caps)
{
    struct k_store *s = begin(t, PST_CAP_REMOVE | caps);
    struct k_attrs a = {0};
    if (!s)
        return;
    pst_str key = k_fault_object(t, "remove", SIZE, SEED);
    if (is_conditional && !k_that(t, k_stat(s, key, &a) == PST_OK, "expected stat to work"))
        return;
    struct k_call *c = k_call_new(s, K_REMOVE, NULL);
    c->in.remove.keys = &key;
    c->in.remove.n_keys = 1;
    c->in.remove.if_match = is_conditional ? k_etag(&a) : pst_str_of("", 0);
    run_under(c, LOST(REMOVES), "removing a key, the reply to which is lost");
    if (want_known_or_maybe(c, "a remove whose reply is lost") && c->rc == PST_OK && c->statuses)
        k_that(t, c->statuses[0] == PST_OK || c->statuses[0] == PST_E_UNAVAILABLE,
               "expected the status OK of a key that was removed, got %s",
               k_rc_name(c->statuses[0]));
    (void)k_fault_absent(t, key);
    k_call_free(c);
    k_that(t, k_remove(s, key) == PST_OK, "expected the next remove of the key to be OK");
}

void k_FAULT_030(struct k_test *t)
{
    lose_remove(t, false, 0);
}

void k_FAULT_031(struct k_test *t)
{
    lose_remove(t, true, PST_CAP_WRITE_IF_MATCH | PST_CAP_STAT);
}

static void copy_under(struct k_test *t, const char *rules, bool is_applied, uint32_t flags,
                       uint64_t caps)
{
    struct k_store *s = begin(t, PST_CAP_COPY | caps);
    if (!s)
        return;
    pst_str from = k_fault_object(t, "from", SIZE, SEED), to = k_key(t, "to");
    struct k_call *c = k_call_new(s, K_COPY, NULL);
    c->in.copy.from = from;
    c->in.copy.to = to;
    c->in.copy.flags = flags;
    run_under(c, rules, "copying an object");
    if (is_applied && want_known_or_maybe(c, "a copy whose reply is lost"))
        (void)k_fault_holds(t, to, SIZE, SEED);
    if (!is_applied) {
        (void)k_want_failure(c, "a copy that fails under status 200", K_RETRY | K_PROVIDER,
                             K_CODES(PST_E_UNAVAILABLE));
        (void)k_fault_absent(t, to);
    }
    k_call_free(c);
}

void k_FAULT_032(struct k_test *t)
{
    copy_under(t, LOST("'copy'"), true, 0, 0);
}

void k_FAULT_033(struct k_test *t)
{
    if (k_has_fault(t, "error_with_200"))
        copy_under(t, "[{'on': 'copy', 'times': 0, 'fault': 'error_with_200'}]", false, 0, 0);
}
