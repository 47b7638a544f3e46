/* pool.c - the threads that run what the plugin hands to exec, first come first served. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "kit.h"

struct job {
    void (*fn)(void *);
    void *arg;
    struct job *next;
};

struct k_pool {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    unsigned n_threads, n_started, n_idle;
    bool is_held;
    size_t n_waiting;
    struct job *first, **last;
};

uint64_t k_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void k_pause_ms(unsigned ms)
{
    struct timespec left = {(time_t)(ms / 1000u), (long)(ms % 1000u) * 1000000L};
    if (ms == 0)
        left.tv_nsec = 100000;
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static void *work(void *arg)
{
    struct k_pool *pool = arg;
    (void)pthread_mutex_lock(&pool->mutex);
    for (;;) {
        while (!pool->first || pool->is_held) {
            pool->n_idle++;
            (void)pthread_cond_wait(&pool->cond, &pool->mutex);
            pool->n_idle--;
        }
        struct job *job = pool->first;
        pool->first = job->next;
        if (!pool->first)
            pool->last = &pool->first;
        pool->n_waiting--;
        (void)pthread_mutex_unlock(&pool->mutex);
        job->fn(job->arg);
        k_free(job);
        (void)pthread_mutex_lock(&pool->mutex);
    }
    return NULL;
}

static void start_thread_locked(struct k_pool *pool)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, pool) == 0) {
        (void)pthread_detach(thread);
        pool->n_started++;
    }
}

struct k_pool *k_pool_new(unsigned n_threads)
{
    struct k_pool *pool = (struct k_pool *)(void *)k_alloc(sizeof(*pool));
    (void)pthread_mutex_init(&pool->mutex, NULL);
    (void)pthread_cond_init(&pool->cond, NULL);
    pool->n_threads = n_threads;
    pool->last = &pool->first;
    return pool;
}

void k_pool_start(struct k_pool *pool)
{
    (void)pthread_mutex_lock(&pool->mutex);
    while (pool->n_started < pool->n_threads)
        start_thread_locked(pool);
    (void)pthread_mutex_unlock(&pool->mutex);
}

void k_pool_post(struct k_pool *pool, void (*fn)(void *), void *arg)
{
    struct job *job = (struct job *)(void *)k_alloc(sizeof(*job));
    job->fn = fn;
    job->arg = arg;
    (void)pthread_mutex_lock(&pool->mutex);
    *pool->last = job;
    pool->last = &job->next;
    pool->n_waiting++;
    if (pool->n_idle < pool->n_waiting && pool->n_started < pool->n_threads)
        start_thread_locked(pool);
    (void)pthread_cond_signal(&pool->cond);
    (void)pthread_mutex_unlock(&pool->mutex);
}

void k_pool_hold(struct k_pool *pool, bool is_held)
{
    (void)pthread_mutex_lock(&pool->mutex);
    pool->is_held = is_held;
    (void)pthread_cond_broadcast(&pool->cond);
    (void)pthread_mutex_unlock(&pool->mutex);
}

size_t k_pool_waiting(struct k_pool *pool)
{
    (void)pthread_mutex_lock(&pool->mutex);
    size_t n = pool->n_waiting;
    (void)pthread_mutex_unlock(&pool->mutex);
    return n;
}

void k_pool_after_fork(struct k_pool *pool)
{
    (void)pthread_mutex_init(&pool->mutex, NULL);
    (void)pthread_cond_init(&pool->cond, NULL);
    pool->n_started = 0;
    pool->n_idle = 0;
    pool->is_held = false;
    pool->n_waiting = 0;
    pool->first = NULL;
    pool->last = &pool->first;
}
