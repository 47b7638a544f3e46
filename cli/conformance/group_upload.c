/* group_upload.c - WRITE, the part about uploads: numbered parts, then commit or abort. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit.h"
#include "requirements_fwd.h"

#define REST 1234u

/* Open an upload of two whole parts and a rest, and send all of them. */
static bool send_three(struct k_writer *w, struct k_store *s, pst_str key, uint64_t seed)
{
    return k_writer_open(w, s, key, seed) && k_writer_part(w, 0, w->part_bytes) &&
           k_writer_part(w, 1, w->part_bytes) && k_writer_part(w, 2, REST);
}

static uint64_t size_of_three(const struct k_writer *w)
{
    return 2 * w->part_bytes + REST;
}

static bool commit_three(struct k_writer *w)
{
    pst_rc rc = k_writer_commit(w, size_of_three(w), 3);
    return k_that(w->store->test, rc == PST_OK, "expected upload_commit: OK, got %s",
                  k_rc_name(rc));
}

void k_WRITE_007(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "uploaded");
    struct k_attrs a;
    if (!s)
        return;
    if (send_three(&w, s, key, 1) && commit_three(&w) && k_holds(s, key, size_of_three(&w), 1)) {
        pst_rc rc = k_stat(s, key, &a);
        k_that(t, rc == PST_OK && a.size == size_of_three(&w),
               "expected stat of the upload to tell %llu bytes, got %s and %llu",
               (unsigned long long)size_of_three(&w), k_rc_name(rc), (unsigned long long)a.size);
    }
    k_writer_free(&w);
    (void)k_holds(s, key, size_of_three(&w), 1);
}

/* ---- order ---------------------------------------------------------------------------------------- */

#define N_PARTS 9u

struct sender {
    struct k_writer *writer;
    unsigned first, step;
};

static void *send_some(void *arg)
{
    struct sender *x = arg;
    for (unsigned i = x->first; i < N_PARTS; i += x->step)
        (void)k_writer_part(x->writer, i, i + 1 < N_PARTS ? x->writer->part_bytes : REST);
    return NULL;
}

void k_WRITE_008(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD | PST_CAP_UPLOAD_UNORDERED);
    struct k_writer w = {0};
    pst_str backwards = k_key(t, "backwards"), beside = k_key(t, "side-by-side");
    if (!s)
        return;
    if (k_writer_open(&w, s, backwards, 1)) {
        k_step(t, "sending parts backwards");
        bool is_sent = k_writer_part(&w, 2, REST) && k_writer_part(&w, 1, w.part_bytes) &&
                       k_writer_part(&w, 0, w.part_bytes);
        if (is_sent && commit_three(&w))
            (void)k_holds(s, backwards, size_of_three(&w), 1);
    }
    k_writer_free(&w);
    if (s->plugin->threads == PST_THREADS_SERIAL || !k_writer_open(&w, s, beside, 2))
        return;
    struct sender senders[3];
    pthread_t threads[3];
    unsigned n = 0;
    k_step(t, "sending parts from three threads");
    for (unsigned i = 0; i < 3; i++) {
        senders[i] = (struct sender){&w, i, 3};
        n += pthread_create(&threads[n], NULL, send_some, &senders[i]) == 0;
    }
    for (unsigned i = 0; i < n; i++)
        (void)pthread_join(threads[i], NULL);
    uint64_t size = (N_PARTS - 1) * w.part_bytes + REST;
    pst_rc rc = k_writer_commit(&w, size, N_PARTS);
    if (k_that(t, rc == PST_OK, "expected upload_commit: OK, got %s", k_rc_name(rc)))
        (void)k_holds(s, beside, size, 2);
    k_writer_free(&w);
}

void k_WRITE_009(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "resent");
    if (!s)
        return;
    k_step(t, "sending parts again");
    if (k_writer_open(&w, s, key, 1) && k_writer_part(&w, 0, w.part_bytes) &&
        k_writer_part(&w, 0, w.part_bytes) && k_writer_part(&w, 1, w.part_bytes) &&
        k_writer_part(&w, 0, w.part_bytes) && k_writer_part(&w, 2, REST) &&
        k_writer_part(&w, 2, REST) && commit_three(&w)) {
        (void)k_holds(s, key, size_of_three(&w), 1);
        k_step(t, "sending a part again after commit");
        (void)k_writer_part(&w, 1, w.part_bytes);
        (void)k_holds(s, key, size_of_three(&w), 1);
    }
    k_writer_free(&w);
}

/* ---- nothing before, nothing after ----------------------------------------------------------------- */

void k_WRITE_010(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "not-yet");
    if (!s)
        return;
    if (k_writer_open(&w, s, key, 1)) {
        k_step(t, "looking for an upload that is open");
        (void)k_absent(s, key);
        if (k_writer_part(&w, 0, w.part_bytes) && k_absent(s, key) &&
            k_writer_part(&w, 1, w.part_bytes) && k_writer_part(&w, 2, REST) && k_absent(s, key) &&
            commit_three(&w))
            (void)k_holds(s, key, size_of_three(&w), 1);
    }
    k_writer_free(&w);
}

/* Every entry below the base; the same before and after means that nothing was left. */
static size_t count_all(struct k_store *s)
{
    struct k_listing l = {.prefix = k_key(s->test, "%s", ""),
                          .flags = PST_LIST_RECURSIVE | PST_LIST_EMPTY_DIRS};
    pst_rc rc = k_list(s, &l);
    size_t n = l.entries.n;
    k_that(s->test, rc == PST_OK, "expected a listing: OK, got %s", k_rc_name(rc));
    k_entries_fini(&l.entries);
    return n;
}

void k_WRITE_011(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "a/b/aborted");
    if (!s || !k_make(s, k_key(t, "other"), 10, 1))
        return;
    size_t before = count_all(s);
    for (unsigned n_parts = 0; n_parts < 3; n_parts++) {
        bool is_sent = k_writer_open(&w, s, key, 1);
        for (unsigned i = 0; i < n_parts && is_sent; i++)
            is_sent = k_writer_part(&w, i, w.part_bytes);
        if (is_sent) {
            pst_rc rc = k_writer_abort(&w);
            k_that(t, rc == PST_OK, "expected upload_abort: OK, got %s", k_rc_name(rc));
            (void)k_absent(s, key);
        }
        k_writer_free(&w);
        (void)k_absent(s, key);
        size_t after = count_all(s);
        k_that(t, after == before, "expected %zu entries after abort as before, got %zu", before,
               after);
    }
}

void k_WRITE_012(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "freed"), old = k_key(t, "old");
    if (!s || !k_make(s, old, 10, 1))
        return;
    size_t before = count_all(s);
    (void)send_three(&w, s, key, 1);
    k_writer_free(&w);
    (void)k_absent(s, key);
    (void)send_three(&w, s, old, 2);
    k_writer_free(&w);
    (void)k_holds(s, old, 10, 1);
    size_t after = count_all(s);
    k_that(t, after == before, "expected %zu entries after upload_free as before, got %zu", before,
           after);
}

void k_WRITE_013(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    static const int64_t wrong[] = {-1, 1, -1234, 70000};
    if (!s)
        return;
    for (size_t i = 0; i < 4; i++) {
        struct k_writer w = {0};
        pst_str key = k_key(t, "wrong-size-%zu", i);
        if (send_three(&w, s, key, 1)) {
            uint64_t size = (uint64_t)((int64_t)size_of_three(&w) + wrong[i]);
            k_step(t, "committing %llu bytes instead of %llu", (unsigned long long)size,
                   (unsigned long long)size_of_three(&w));
            pst_rc rc = k_writer_commit(&w, size, 3);
            k_that(t, rc < 0,
                   "expected commit of %llu bytes to be refused when the parts have %llu, "
                   "got %s",
                   (unsigned long long)size, (unsigned long long)size_of_three(&w), k_rc_name(rc));
            (void)k_absent(s, key);
        }
        k_writer_free(&w);
        (void)k_absent(s, key);
    }
}

void k_WRITE_014(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "missing-part");
    if (!s)
        return;
    if (k_writer_open(&w, s, key, 1)) {
        if (!(s->caps & PST_CAP_UPLOAD_UNORDERED)) {
            k_skip(t, "parts must come in order: none can be missing in the middle");
        } else if (k_writer_part(&w, 0, w.part_bytes) && k_writer_part(&w, 2, REST)) {
            pst_rc rc = k_writer_commit(&w, size_of_three(&w), 3);
            k_that(t, rc < 0, "expected commit with part 1 missing to be refused, got %s",
                   k_rc_name(rc));
            (void)k_absent(s, key);
        }
    }
    k_writer_free(&w);
    (void)k_absent(s, key);
}

/* ---- again ------------------------------------------------------------------------------------------ */

void k_WRITE_015(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "committed-twice");
    struct k_attrs a, b;
    if (!s)
        return;
    if (send_three(&w, s, key, 1) && commit_three(&w) && k_stat(s, key, &a) == PST_OK) {
        for (unsigned i = 0; i < 2; i++) {
            pst_rc rc = k_writer_commit(&w, size_of_three(&w), 3);
            k_that(t, rc == PST_OK, "expected commit to succeed again, got %s", k_rc_name(rc));
        }
        (void)k_holds(s, key, size_of_three(&w), 1);
        pst_rc rc = k_stat(s, key, &b);
        k_that(t, rc == PST_OK && strcmp(a.etag, b.etag) == 0,
               "expected the same object after a second commit, got %s and etag %s instead of %s",
               k_rc_name(rc), k_show(k_etag(&b)), k_show(k_etag(&a)));
    }
    k_writer_free(&w);
    (void)k_holds(s, key, size_of_three(&w), 1);
}

void k_WRITE_016(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "aborted-after");
    if (!s)
        return;
    if (send_three(&w, s, key, 1) && commit_three(&w)) {
        (void)k_writer_abort(&w); /* whatever it answers */
        (void)k_holds(s, key, size_of_three(&w), 1);
    }
    k_writer_free(&w);
    (void)k_holds(s, key, size_of_three(&w), 1);
}

void k_WRITE_017(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "committed-after-abort");
    if (!s)
        return;
    if (send_three(&w, s, key, 1) &&
        k_that(t, k_writer_abort(&w) == PST_OK, "expected upload_abort: OK, got an error")) {
        pst_rc rc = k_writer_commit(&w, size_of_three(&w), 3);
        k_that(t, rc < 0, "expected commit after abort to fail, got %s", k_rc_name(rc));
        (void)k_absent(s, key);
    }
    k_writer_free(&w);
    (void)k_absent(s, key);
}

void k_WRITE_018(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "aborted-twice");
    if (!s)
        return;
    if (send_three(&w, s, key, 1)) {
        for (unsigned i = 0; i < 3; i++) {
            pst_rc rc = k_writer_abort(&w);
            k_that(t, rc == PST_OK, "expected abort number %u: OK, got %s", i + 1, k_rc_name(rc));
        }
    }
    k_writer_free(&w);
    (void)k_absent(s, key);
}

void k_WRITE_019(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "no-parts");
    if (!s)
        return;
    if (k_writer_open(&w, s, key, 1)) {
        pst_rc rc = k_writer_commit(&w, 0, 0);
        if (k_that(t, rc == PST_OK, "expected commit without parts: OK, got %s", k_rc_name(rc)))
            (void)k_holds(s, key, 0, 1);
    }
    k_writer_free(&w);
}

void k_WRITE_020(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD | PST_CAP_CREATE_ONLY |
                                      PST_CAP_UPLOAD_CONDITIONAL);
    pst_str key = k_key(t, "created-meanwhile");
    struct k_writer w = {.store = s, .key = key, .seed = 1};
    if (!s)
        return;
    struct k_call *c = k_call_new(s, K_UPLOAD_OPEN, NULL);
    c->in.put.key = key;
    c->in.put.flags = PST_PUT_CREATE_ONLY;
    c->in.put.size_hint = PST_UNKNOWN;
    (void)k_call_run(c);
    if (k_want(c, PST_OK, "upload_open with CREATE_ONLY where nothing is")) {
        w.upload = c->out.upload.upload;
        if (k_writer_part(&w, 0, 100) && k_make(s, key, 50, 2)) {
            pst_rc rc = k_writer_commit(&w, 100, 1);
            k_that(t, rc == PST_E_EXISTS,
                   "expected commit onto an object that came meanwhile: "
                   "EXISTS, got %s",
                   k_rc_name(rc));
            (void)k_holds(s, key, 50, 2);
        }
    }
    k_call_free(c);
    k_writer_free(&w);
    (void)k_holds(s, key, 50, 2);
}

void k_WRITE_021(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    struct k_writer w = {0};
    pst_str key = k_key(t, "replaced-by-upload");
    if (!s || !k_make(s, key, 777, 9))
        return;
    if (send_three(&w, s, key, 1) && k_holds(s, key, 777, 9) && commit_three(&w))
        (void)k_holds(s, key, size_of_three(&w), 1);
    k_writer_free(&w);
    (void)k_holds(s, key, size_of_three(&w), 1);
}

/* ---- writers that die -------------------------------------------------------------------------------- */

/* In a child: upload a part, tell the parent, and wait to be killed. */
static void write_until_killed(struct k_test *t, pst_str key, int ready_fd)
{
    struct k_store s = {0};
    struct k_writer w;
    if (t->store.plugin && t->store.plugin->fork_child)
        t->store.plugin->fork_child(t->host->table);
    k_host_after_fork(t->host);
    t->fork_generation++;
    if (k_open(t->host, &s) && k_writer_open(&w, &s, key, 1) && k_writer_part(&w, 0, w.part_bytes))
        (void)!write(ready_fd, "r", 1);
    for (;;)
        k_pause_ms(1000);
}

static bool kill_a_writer(struct k_test *t, pst_str key)
{
    int fds[2];
    char byte = 0;
    if (pipe(fds) != 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(fds[0]);
        write_until_killed(t, key, fds[1]);
    }
    (void)close(fds[1]);
    k_step(t, "killing a writer");
    bool is_ready = pid > 0 && read(fds[0], &byte, 1) == 1;
    (void)close(fds[0]);
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    return k_that(t, is_ready,
                  "expected a forked child to open a store and upload a part, got none");
}

void k_ENV_009(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD);
    pst_str key = k_key(t, "killed");
    if (!s || !k_make(s, k_key(t, "other"), 10, 1))
        return;
    size_t before = count_all(s);
    if (!kill_a_writer(t, key))
        return;
    (void)k_absent(s, key);
    size_t after = count_all(s);
    k_that(t, after == before, "expected %zu entries after a writer was killed as before, got %zu",
           before, after);
    if (k_make(s, key, 100, 2))
        (void)k_holds(s, key, 100, 2);
}

static struct k_call *run_cleanup(struct k_store *s, uint32_t flags)
{
    struct k_call *c = k_call_new(s, K_CLEANUP, NULL);
    c->in.cleanup.prefix = k_key(s->test, "%s", "");
    c->in.cleanup.flags = flags;
    (void)k_call_run(c);
    (void)k_want(c, PST_OK, "cleanup");
    return c;
}

void k_WRITE_035(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_UPLOAD | PST_CAP_CLEANUP);
    pst_str key = k_key(t, "killed");
    uint64_t n[4];
    if (!s || !k_make(s, k_key(t, "object"), 100, 5) || !kill_a_writer(t, key))
        return;
    for (unsigned i = 0; i < 4; i++) {
        k_step(t, "cleaning up, round %u", i + 1);
        struct k_call *c = run_cleanup(s, i < 2 ? PST_CLEANUP_DRY_RUN : 0);
        n[i] = c->out.cleanup.n_removed;
        k_that(t, c->entries.n == n[i],
               "expected cleanup to list what it counts, got %zu entries for "
               "%llu",
               c->entries.n, (unsigned long long)n[i]);
        k_call_free(c);
    }
    k_that(t, n[0] == n[1] && n[1] == n[2],
           "expected dry runs to remove nothing, got %llu, %llu, then "
           "%llu",
           (unsigned long long)n[0], (unsigned long long)n[1], (unsigned long long)n[2]);
    k_that(t, n[3] == 0, "expected nothing left after cleanup, got %llu more",
           (unsigned long long)n[3]);
    (void)k_holds(s, k_key(t, "object"), 100, 5);
    k_that(t, count_all(s) == 1, "expected the object alone after cleanup, got %zu entries",
           count_all(s));
}
