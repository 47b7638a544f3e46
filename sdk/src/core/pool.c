/* pool.c - worker threads with one line of jobs per store.
 *
 * Shares that have a job they may run stand in a ring; a worker takes one job from the first share and
 * moves that share to the end. A share may occupy at most three quarters of the threads, so a store
 * whose disk hangs leaves room for the others.
 *
 * Waking a thread costs tens of microseconds, more than a small job. So at most one wake is on its way
 * at any time: the woken worker takes a job and wakes the next one only when jobs remain. And a worker
 * that is about to look for its next job counts: what it submits on its way back wakes nobody.
 *
 * A thread outside that would only wait for its own jobs may run them itself (pst_pool_help). It counts
 * like a worker that is about to look for a job, but takes none of others and leaves when there is none
 * of its own. */
#include "core/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include <penstock/status.h>

#include "core/fault.h"
#include "core/stack.h"
#include "util/mutex.h"

#define LOOK_MAX 64u /* jobs of others that a helping thread looks behind */

struct pst_pool {
    pthread_mutex_t mutex;
    pthread_cond_t wake;  /* to workers */
    pthread_cond_t ended; /* to pst_pool_free */
    uint32_t max_threads;
    struct {
        struct pst_share *first, **last; /* ring of shares with a runnable job */
        uint32_t n_threads, n_idle, n_jobs;
        uint32_t n_returning; /* workers that will look for a job in a moment */
        int is_waking, is_stopping, is_orphaned;
    } locked;
};

int32_t pst_pool_new(uint32_t max_threads, struct pst_pool **out)
{
    pthread_condattr_t attr;
    struct pst_pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return PST_E_NO_MEMORY;
    pst_mutex_init_short(&pool->mutex);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->wake, &attr);
    pthread_cond_init(&pool->ended, &attr);
    pthread_condattr_destroy(&attr);
    pool->max_threads = max_threads;
    pool->locked.last = &pool->locked.first;
    *out = pool;
    return PST_OK;
}

static void destroy(struct pst_pool *pool)
{
    pthread_cond_destroy(&pool->ended);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

void pst_share_init(struct pst_pool *pool, struct pst_share *share)
{
    uint32_t spare = PST_FAULT(NO_SHARE) ? 0 : pool->max_threads / 4;
    uint32_t max = pool->max_threads - spare;
    *share = (struct pst_share){.last = &share->first, .max_running = max ? max : 1};
}

static void list_share_locked(struct pst_pool *pool, struct pst_share *share)
{
    if (share->is_listed || !share->first || share->n_running >= share->max_running)
        return;
    share->is_listed = 1;
    share->next = NULL;
    *pool->locked.last = share;
    pool->locked.last = &share->next;
}

static struct pst_job *take_job_locked(struct pst_pool *pool, struct pst_share **from)
{
    struct pst_share *share = pool->locked.first;
    pool->locked.first = share->next;
    if (!pool->locked.first)
        pool->locked.last = &pool->locked.first;
    share->is_listed = 0;
    struct pst_job *job = share->first;
    share->first = job->next;
    if (!share->first)
        share->last = &share->first;
    share->n_running++;
    pool->locked.n_jobs--;
    list_share_locked(pool, share);
    *from = share;
    return job;
}

static void *run_worker(void *arg);

static int start_thread_locked(struct pst_pool *pool)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &attr, run_worker, pool);
    pthread_attr_destroy(&attr);
    if (failed)
        return 0;
    pool->locked.n_threads++;
    return 1;
}

/* See to it that somebody is coming for the jobs in the ring. */
static int call_worker_locked(struct pst_pool *pool)
{
    if (pool->locked.is_waking || pool->locked.n_jobs <= pool->locked.n_returning)
        return 1;
    if (pool->locked.n_idle > 0) {
        pool->locked.is_waking = 1;
        pthread_cond_signal(&pool->wake);
        return 1;
    }
    if (pool->locked.n_threads < pool->max_threads && start_thread_locked(pool)) {
        pool->locked.is_waking = 1;
        return 1;
    }
    return pool->locked.n_threads > 0; /* the busy ones get to it */
}

/* Run a job that was taken. The mutex is dropped meanwhile; the thread counts as returning from the end
 * of the job on. */
static void run_job_locked(struct pst_pool *pool, struct pst_share *share,
                           const struct pst_job *job)
{
    void (*fn)(void *) = job->fn;
    void *fn_arg = job->arg;
    void (*after)(void *) = job->after;
    void *after_arg = job->after_arg;
    pthread_mutex_unlock(&pool->mutex);
    pst_stack_enter();
    fn(fn_arg);
    pthread_mutex_lock(&pool->mutex);
    share->n_running--;
    list_share_locked(pool, share);
    pool->locked.n_returning++;
    pthread_mutex_unlock(&pool->mutex);
    if (after) /* may free the share. Never ends the core: a worker cannot wait for it */
        after(after_arg);
    pst_stack_leave(); /* runs what the job's completions deferred */
    pthread_mutex_lock(&pool->mutex);
}

static void *run_worker(void *arg)
{
    struct pst_pool *pool = arg;
    struct pst_share *share;
    int is_fresh = 1; /* just started or woken: the wake that was on its way has arrived */

    pthread_mutex_lock(&pool->mutex);
    while (!pool->locked.is_stopping) {
        if (is_fresh) {
            pool->locked.is_waking = 0;
            is_fresh = 0;
        }
        if (!pool->locked.first) {
            pool->locked.n_idle++;
            pthread_cond_wait(&pool->wake, &pool->mutex);
            pool->locked.n_idle--;
            is_fresh = 1;
            continue;
        }
        struct pst_job *job = take_job_locked(pool, &share);
        if (pool->locked.first)
            call_worker_locked(pool);
        run_job_locked(pool, share, job);
        pool->locked.n_returning--;
    }
    int is_last = --pool->locked.n_threads == 0;
    int is_orphaned = pool->locked.is_orphaned;
    pthread_cond_signal(&pool->ended);
    pthread_mutex_unlock(&pool->mutex);
    if (is_last && is_orphaned)
        destroy(pool);
    return NULL;
}

static void unlist_share_locked(struct pst_pool *pool, struct pst_share *share)
{
    struct pst_share **at = &pool->locked.first;
    while (*at != share)
        at = &(*at)->next;
    *at = share->next;
    if (!*at)
        pool->locked.last = at;
    share->is_listed = 0;
}

/* Take the job that `at` points to out of the line. */
static void drop_job_locked(struct pst_pool *pool, struct pst_share *share, struct pst_job **at)
{
    *at = (*at)->next;
    if (!*at)
        share->last = at;
    pool->locked.n_jobs--;
    if (share->is_listed && !share->first)
        unlist_share_locked(pool, share);
}

int32_t pst_pool_run(struct pst_pool *pool, struct pst_share *share, struct pst_job *job)
{
    int32_t rc = PST_OK;
    pthread_mutex_lock(&pool->mutex);
    struct pst_job **at = share->last;
    job->next = NULL;
    *at = job;
    share->last = &job->next;
    pool->locked.n_jobs++;
    list_share_locked(pool, share);
    if (pool->locked.first && !call_worker_locked(pool)) { /* no thread at all: take it back */
        drop_job_locked(pool, share, at);
        rc = PST_E_NO_MEMORY;
    }
    pthread_mutex_unlock(&pool->mutex);
    return rc;
}

/* ---- helping ---------------------------------------------------------------------------------- */

static struct pst_job *take_own_job_locked(struct pst_pool *pool, struct pst_share *share,
                                           const void *crew)
{
    struct pst_job **at = &share->first;
    for (unsigned looked = 0; *at && (*at)->crew != crew; looked++) {
        if (looked == LOOK_MAX)
            return NULL;
        at = &(*at)->next;
    }
    struct pst_job *job = *at;
    if (!job)
        return NULL;
    drop_job_locked(pool, share, at);
    share->n_running++;
    if (share->is_listed && share->n_running >= share->max_running)
        unlist_share_locked(pool, share);
    return job;
}

void pst_pool_enter(struct pst_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pool->locked.n_returning++;
    pthread_mutex_unlock(&pool->mutex);
}

int pst_pool_help(struct pst_pool *pool, struct pst_share *share, const void *crew)
{
    pthread_mutex_lock(&pool->mutex);
    struct pst_job *job = pool->locked.is_stopping ? NULL : take_own_job_locked(pool, share, crew);
    int has_job = job != NULL;
    if (has_job) {
        pool->locked.n_returning--;
        if (pool->locked.first)
            call_worker_locked(pool);
        run_job_locked(pool, share, job);
    }
    pthread_mutex_unlock(&pool->mutex);
    return has_job;
}

void pst_pool_leave(struct pst_pool *pool)
{
    struct pst_share *share;
    pthread_mutex_lock(&pool->mutex);
    pool->locked.n_returning--;
    while (pool->locked.first && !call_worker_locked(pool)) {
        /* A job of others counted on this thread, and there is no other. */
        struct pst_job *job = take_job_locked(pool, &share);
        run_job_locked(pool, share, job);
        pool->locked.n_returning--;
    }
    pthread_mutex_unlock(&pool->mutex);
}

uint32_t pst_pool_threads(struct pst_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    uint32_t n = pool->locked.n_threads;
    pthread_mutex_unlock(&pool->mutex);
    return n;
}

int pst_pool_free(struct pst_pool *pool, uint64_t deadline_ns)
{
    if (!pool)
        return 1;
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                             .tv_nsec = (long)(deadline_ns % 1000000000u)};
    pthread_mutex_lock(&pool->mutex);
    pool->locked.is_stopping = 1;
    pthread_cond_broadcast(&pool->wake);
    while (pool->locked.n_threads > 0 &&
           pthread_cond_timedwait(&pool->ended, &pool->mutex, &until) != ETIMEDOUT)
        ;
    int all_ended = pool->locked.n_threads == 0;
    pool->locked.is_orphaned = !all_ended;
    pthread_mutex_unlock(&pool->mutex);
    if (all_ended)
        destroy(pool);
    return all_ended;
}
