/* reactor.c - one thread, one pairing heap of timers.
 *
 * The heap is intrusive (Fredman, Sedgewick, Sleator, Tarjan 1986): a completion that has to defer
 * its follow-up must not be able to fail for lack of memory. Removing an arbitrary timer cuts its
 * subtree out and merges the children back. */
#include "core/reactor.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include <penstock/status.h>

struct pst_reactor {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    pthread_t thread;
    struct {
        struct pst_timer *root;
        uint64_t next_seq;
        int is_stopping, frees_itself;
    } locked;
};

static _Thread_local const struct pst_reactor *reactor_of_this_thread;

uint64_t pst_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int pst_reactor_is_self(const struct pst_reactor *reactor)
{
    return reactor_of_this_thread == reactor;
}

static struct pst_timer *merge(struct pst_timer *a, struct pst_timer *b)
{
    if (!a || !b)
        return a ? a : b;
    if (b->due_ns < a->due_ns || (b->due_ns == a->due_ns && b->seq < a->seq)) {
        struct pst_timer *swap = a;
        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (b->next)
        b->next->prev = b;
    a->child = b;
    a->next = a->prev = NULL;
    return a;
}

/* Merge a list of siblings in pairs, left to right, then the pairs, right to left. */
static struct pst_timer *merge_siblings(struct pst_timer *first)
{
    struct pst_timer *pairs = NULL, *root = NULL;
    while (first) {
        struct pst_timer *a = first, *b = first->next;
        first = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        a = merge(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct pst_timer *next = pairs->next;
        pairs->next = NULL;
        root = merge(root, pairs);
        pairs = next;
    }
    return root;
}

static void remove_locked(struct pst_reactor *r, struct pst_timer *timer)
{
    struct pst_timer *below = merge_siblings(timer->child);
    if (timer == r->locked.root) {
        r->locked.root = below;
    } else {
        if (timer->prev->child == timer)
            timer->prev->child = timer->next;
        else
            timer->prev->next = timer->next;
        if (timer->next)
            timer->next->prev = timer->prev;
        r->locked.root = merge(r->locked.root, below);
    }
    timer->child = timer->next = timer->prev = NULL;
    timer->is_armed = 0;
}

static void wait_locked(struct pst_reactor *r)
{
    if (!r->locked.root) {
        pthread_cond_wait(&r->wake, &r->mutex);
        return;
    }
    uint64_t due_ns = r->locked.root->due_ns;
    struct timespec until = {.tv_sec = (time_t)(due_ns / 1000000000u),
                             .tv_nsec = (long)(due_ns % 1000000000u)};
    pthread_cond_timedwait(&r->wake, &r->mutex, &until);
}

static void destroy(struct pst_reactor *r)
{
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->mutex);
    free(r);
}

static void *run_reactor(void *arg)
{
    struct pst_reactor *r = arg;
    reactor_of_this_thread = r;
    pthread_mutex_lock(&r->mutex);
    while (!r->locked.is_stopping) {
        struct pst_timer *timer = r->locked.root;
        if (!timer || timer->due_ns > pst_now_ns()) {
            wait_locked(r);
            continue;
        }
        void (*fn)(void *) = timer->fn;
        void *fn_arg = timer->arg;
        remove_locked(r, timer);
        pthread_mutex_unlock(&r->mutex);
        fn(fn_arg); /* may free the timer */
        pthread_mutex_lock(&r->mutex);
    }
    int frees_itself = r->locked.frees_itself;
    pthread_mutex_unlock(&r->mutex);
    if (frees_itself)
        destroy(r);
    return NULL;
}

int32_t pst_reactor_new(struct pst_reactor **out)
{
    pthread_condattr_t attr;
    struct pst_reactor *r = calloc(1, sizeof(*r));
    if (!r)
        return PST_E_NO_MEMORY;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&r->thread, NULL, run_reactor, r) != 0) {
        destroy(r);
        return PST_E_NO_MEMORY;
    }
    *out = r;
    return PST_OK;
}

void pst_reactor_free(struct pst_reactor *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->mutex);
    r->locked.is_stopping = 1;
    r->locked.frees_itself = pst_reactor_is_self(r);
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->mutex);
    if (pst_reactor_is_self(r)) {
        pthread_detach(r->thread);
        return;
    }
    pthread_join(r->thread, NULL);
    destroy(r);
}

void pst_reactor_arm(struct pst_reactor *r, struct pst_timer *timer, uint64_t due_ns)
{
    pthread_mutex_lock(&r->mutex);
    if (timer->is_armed)
        remove_locked(r, timer);
    timer->due_ns = due_ns;
    timer->seq = r->locked.next_seq++;
    timer->is_armed = 1;
    r->locked.root = merge(r->locked.root, timer);
    if (r->locked.root == timer)
        pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->mutex);
}

int pst_reactor_disarm(struct pst_reactor *r, struct pst_timer *timer)
{
    pthread_mutex_lock(&r->mutex);
    int was_armed = timer->is_armed != 0;
    if (was_armed)
        remove_locked(r, timer);
    pthread_mutex_unlock(&r->mutex);
    return was_armed;
}
