/* group_env.c - ENV: fork, descriptors, threads, signals, output, memory, exit. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit.h"
#include "requirements_fwd.h"

/* ---- fork ---------------------------------------------------------------------------------------- */

/* In the child: what a host does there, then everything once. Never returns. */
static void live_in_child(struct k_test *t)
{
    struct k_store s = {0};
    const pst_plugin *plugin = t->store.plugin;
    k_host_after_fork(t->host);
    t->fork_generation++;
    k_step(t, "in a forked child: calling fork_child");
    for (unsigned i = 0; i < 2; i++)
        if (plugin->fork_child)
            plugin->fork_child(t->host->table);
    k_step(t, "in a forked child: opening a store");
    if (k_open(t->host, &s)) {
        k_step(t, "in a forked child: using the store");
        k_tour_run(&s);
        k_close(&s);
    }
    _exit(0);
}

/* A lock that was held in another thread at the time of the fork hangs the child, not us. */
static bool wait_for_child(struct k_test *t, pid_t pid)
{
    int status = 0;
    unsigned limit_ms = t->config->timeout_s * 500u;
    for (unsigned ms = 0; ms < limit_ms; ms++) {
        if (waitpid(pid, &status, WNOHANG) == pid) {
            if (WIFSIGNALED(status))
                k_fail(t, "expected a forked child to work, got it killed by signal %d (%s)",
                       WTERMSIG(status), strsignal(WTERMSIG(status)));
            return !WIFSIGNALED(status);
        }
        k_pause_ms(1);
    }
    k_fail(t, "expected a forked child to work, got it hanging for %u s", limit_ms / 1000u);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    return false;
}

static bool fork_once(struct k_test *t)
{
    pid_t pid = fork();
    if (pid == 0)
        live_in_child(t);
    return k_that(t, pid > 0, "the kit could not fork") && wait_for_child(t, pid);
}

void k_ENV_001(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    k_tour_run(s);
    if (fork_once(t)) {
        k_step(t, "using the store of the parent after the fork");
        k_tour_run(s);
    }
}

struct crowd {
    struct k_store *store;
    struct k_object object;
    atomic_bool is_over;
};

static void *keep_busy(void *arg)
{
    struct crowd *crowd = arg;
    struct k_store *s = crowd->store;
    uint64_t length = crowd->object.size;
    for (unsigned i = 0; !atomic_load(&crowd->is_over); i++) {
        struct k_call *c = k_call_new(s, i % 2 && (s->caps & PST_CAP_STAT) ? K_STAT : K_READ, NULL);
        if (c->slot == K_STAT) {
            c->in.stat.key = crowd->object.key;
        } else {
            c->in.read.key = crowd->object.key;
            c->in.read.length = length;
        }
        (void)k_call_run(c);
        k_call_free(c);
    }
    return NULL;
}

#define N_BUSY 3u
#define N_FORKS 12u

/* The allocators of sanitizers hold locks across fork that nobody gives back in the child. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_INSTRUMENTED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_INSTRUMENTED 1
#endif
#if !defined(IS_INSTRUMENTED)
#define IS_INSTRUMENTED 0
#endif

void k_ENV_002(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct crowd crowd = {.store = s};
    pthread_t threads[N_BUSY];
    unsigned n = 0;
    if (!s || !k_object(s, 70001, &crowd.object))
        return;
    if (IS_INSTRUMENTED) {
        k_skip(t, "this kit is built with a sanitizer that does not survive such a fork");
        return;
    }
    if (s->plugin->threads == PST_THREADS_SERIAL) {
        k_skip(t, "the plugin is SERIAL");
        return;
    }
    for (unsigned i = 0; i < N_BUSY; i++)
        n += pthread_create(&threads[n], NULL, keep_busy, &crowd) == 0;
    bool works = true;
    for (unsigned i = 0; i < N_FORKS && works && !k_failed(t); i++) {
        k_pause_ms(i % 4);
        /* The kit's own lock must not be caught in the middle. */
        (void)pthread_mutex_lock(&t->host->mutex);
        pid_t pid = fork();
        if (pid == 0)
            live_in_child(t);
        (void)pthread_mutex_unlock(&t->host->mutex);
        works = pid > 0 && wait_for_child(t, pid);
    }
    atomic_store(&crowd.is_over, true);
    for (unsigned i = 0; i < n; i++)
        (void)pthread_join(threads[i], NULL);
}

/* ---- descriptors, threads, process --------------------------------------------------------------- */

static void fail_some(struct k_store *s)
{
    struct k_attrs a;
    unsigned char *bytes = NULL;
    uint64_t n = 0;
    (void)k_stat(s, k_key(s->test, "not-there"), &a);
    (void)k_read(s, k_key(s->test, "not/there"), 0, 4096, &bytes, &n);
    k_free(bytes);
}

/* Everything once, failures too, from open to close. */
static bool whole_life(struct k_test *t)
{
    struct k_store s = {0};
    if (!k_need_on(t, t->host, K_READS, &s))
        return false;
    k_tour_run(&s);
    fail_some(&s);
    k_close(&s);
    k_host_end_services(t->host);
    return true;
}

void k_ENV_003(struct k_test *t)
{
    struct k_process before, after;
    t->host = k_host_new(t, K_SAME, 4);
    if (!whole_life(t))
        return;
    k_process_look(&before);
    for (unsigned i = 0; i < 3; i++)
        (void)whole_life(t);
    k_process_look(&after);
    k_process_compare(t, &before, &after, "after more stores were opened, used and closed",
                      K_SAME_FDS);
    k_that(t, after.n_fds == (int)t->n_fds_before - 1 || after.n_fds == before.n_fds,
           "expected no descriptor left by the first store, got %d more",
           after.n_fds - (int)t->n_fds_before + 1);
}

void k_ENV_004(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    atomic_store(&s->host->probe_fds, true);
    k_check_cloexec(s->host);
    struct k_tour tour = {.store = s};
    while (k_tour_next(&tour)) {
        (void)k_call_run(tour.call);
        (void)k_tour_check(&tour);
        k_check_cloexec(s->host); /* cursors and uploads are open now */
        k_tour_done(&tour);
    }
}

void k_ENV_005(struct k_test *t)
{
    t->host = k_host_new(t, K_SAME, 4);
    k_pool_start(t->host->pool);
    k_pool_start(t->host->courier);
    int before = k_count_threads();
    if (!whole_life(t) || !whole_life(t))
        return;
    int after = k_count_threads();
    k_that(t, after <= before, "expected %d threads after close, got %d", before, after);
}

void k_ENV_006(struct k_test *t)
{
    struct k_process before, after;
    t->host = k_host_new(t, K_SAME, 4);
    (void)umask(027); /* unlike any default */
    k_process_look(&before);
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    k_tour_run(s);
    fail_some(s);
    k_process_look(&after);
    k_process_compare(t, &before, &after, "while a store is open", K_SAME_REST);
    k_close(s);
    k_process_look(&after);
    k_process_compare(t, &before, &after, "after close", K_SAME_REST);
}

void k_ENV_007(struct k_test *t)
{
    struct stat st;
    t->host = k_host_new(t, K_SAME, 4);
    if (!whole_life(t))
        return;
    (void)fflush(NULL);
    if (fstat(1, &st) == 0)
        k_that(t, st.st_size == 0, "expected nothing on stdout and stderr, got %lld bytes",
               (long long)st.st_size);
}

/* ---- memory ---------------------------------------------------------------------------------------- */

#define N_WARM 30u
#define N_CYCLES 150u
#define GROWTH_MAX 128

static bool one_cycle(struct k_test *t, const struct k_object *o)
{
    struct k_store s = {0};
    struct k_attrs a;
    if (!k_need_on(t, t->host, K_READS, &s))
        return false;
    if (s.caps & PST_CAP_STAT)
        (void)k_stat(&s, o->key, &a);
    struct k_call *c = k_call_new(&s, K_READ, NULL);
    c->in.read.key = o->key;
    c->in.read.length = 4096;
    (void)k_call_run(c);
    k_call_free(c);
    struct k_listing l = {.prefix = o->key, .flags = PST_LIST_RECURSIVE};
    (void)k_list(&s, &l);
    k_entries_fini(&l.entries);
    fail_some(&s);
    k_close(&s);
    return true;
}

void k_ENV_008(struct k_test *t)
{
    struct k_store *s;
    struct k_object o;
    t->host = k_host_new(t, K_SAME, 2);
    atomic_store(&t->host->has_quarantine, false);
    s = k_need(t, K_READS);
    if (!s || !k_object(s, 5000, &o))
        return;
    k_close(s);
    k_step(t, "opening and closing stores");
    for (unsigned i = 0; i < N_WARM; i++)
        if (!one_cycle(t, &o))
            return;
    k_host_end_services(t->host); /* what they keep for the next store is not the plugin's */
    long before = k_plugin_bytes();
    long blocks_before = atomic_load(&t->host->n_alloc_live);
    for (unsigned i = 0; i < N_CYCLES; i++)
        (void)one_cycle(t, &o);
    k_host_end_services(t->host);
    long grown = k_plugin_bytes() - before;
    k_that(t, grown < (long)N_CYCLES * GROWTH_MAX,
           "expected %u more stores to leave nothing in the heap, got %ld bytes for each", N_CYCLES,
           grown / (long)N_CYCLES);
    k_that(t, atomic_load(&t->host->n_alloc_live) == blocks_before,
           "expected %u more stores to give back what they took from alloc(), got %ld blocks left",
           N_CYCLES, atomic_load(&t->host->n_alloc_live) - blocks_before);
    k_object_fini(&o);
}

/* ---- shutdown, exit, signals ------------------------------------------------------------------------- */

void k_ENV_010(struct k_test *t)
{
    struct k_store *first = k_need(t, K_READS);
    struct k_store second;
    if (!first || !k_open(k_host_new(t, K_SAME, 2), &second))
        return;
    if (!first->plugin->shutdown) {
        k_close(&second);
        k_skip(t, "the plugin has no shutdown");
        return;
    }
    k_tour_run(first);
    k_close(first);
    k_step(t, "shutting one host down");
    first->plugin->shutdown(t->host->table);
    k_tour_run(&second);
    k_close(&second);
    k_step(t, "shutting the other host down");
    second.plugin->shutdown(second.host->table);
    /* And a third one, after all of them: shutdown is not the end of the plugin. */
    t->host = k_host_new(t, K_SAME, 2);
    struct k_store third;
    if (k_open(t->host, &third)) {
        k_tour_run(&third);
        k_close(&third);
    }
}

/* Exit with a store open and operations that have not begun, or are under way. */
static void leave(struct k_test *t, bool is_held)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !k_object(s, 300000, &o))
        _exit(0);
    if (is_held)
        k_pool_hold(s->host->pool, true);
    for (unsigned i = 0; i < (s->plugin->threads == PST_THREADS_SERIAL ? 1u : 12u); i++) {
        struct k_call *c = k_call_new(s, K_READ, NULL);
        c->in.read.key = o.key;
        c->in.read.length = o.size;
        c->dst_later = i % 3 == 0;
        c->dst_manual = true;
        (void)k_call_submit_once(c);
    }
    k_step(t, "exiting with operations under way");
    exit(0);
}

void k_ENV_011(struct k_test *t)
{
    for (unsigned i = 0; i < 6 && !k_failed(t); i++) {
        pid_t pid = fork();
        if (pid == 0)
            leave(t, i % 2 == 0);
        if (!k_that(t, pid > 0, "the kit could not fork"))
            return;
        int status = 0;
        (void)waitpid(pid, &status, 0);
        k_that(t, WIFEXITED(status) && WEXITSTATUS(status) == 0,
               "expected exit with status 0, got %s %d",
               WIFSIGNALED(status) ? "killed by signal" : "status",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
}

static void ignore_signal(int number)
{
    (void)number;
}

void k_ENV_012(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct sigaction action;
    struct itimerval timer = {{0, 300}, {0, 300}};
    if (!s)
        return;
    memset(&action, 0, sizeof(action));
    action.sa_handler = ignore_signal; /* without SA_RESTART: calls fail with EINTR */
    (void)sigaction(SIGALRM, &action, NULL);
    (void)setitimer(ITIMER_REAL, &timer, NULL);
    for (unsigned i = 0; i < 6 && !k_failed(t); i++)
        k_tour_run(s);
    memset(&timer, 0, sizeof(timer));
    (void)setitimer(ITIMER_REAL, &timer, NULL);
}
