#include "core/budget.h"

#include <stddef.h>

#include "core/fault.h"
#include "util/mutex.h"

void pst_budget_init(struct pst_budget *b, uint64_t limit_bytes)
{
    pst_mutex_init_short(&b->mutex);
    b->limit_bytes = limit_bytes;
    b->locked.reserved_bytes = b->locked.peak_bytes = b->locked.idle_bytes = 0;
    b->locked.first = NULL;
    b->locked.last = &b->locked.first;
}

void pst_budget_fini(struct pst_budget *b)
{
    pthread_mutex_destroy(&b->mutex);
}

static void add_locked(struct pst_budget *b, uint64_t bytes)
{
    b->locked.reserved_bytes += bytes;
    if (b->locked.reserved_bytes > b->locked.peak_bytes)
        b->locked.peak_bytes = b->locked.reserved_bytes;
}

static int fits_locked(const struct pst_budget *b, uint64_t bytes)
{
    uint64_t reserved = b->locked.reserved_bytes;
    return PST_FAULT(NO_BUDGET) || reserved == b->locked.idle_bytes ||
           (reserved <= b->limit_bytes && bytes <= b->limit_bytes - reserved);
}

int pst_budget_reserve(struct pst_budget *b, uint64_t bytes, struct pst_budget_waiter *waiter)
{
    pthread_mutex_lock(&b->mutex);
    int is_granted = !b->locked.first && fits_locked(b, bytes);
    if (is_granted) {
        add_locked(b, bytes);
    } else {
        waiter->bytes = bytes;
        waiter->next = NULL;
        *b->locked.last = waiter;
        b->locked.last = &waiter->next;
    }
    pthread_mutex_unlock(&b->mutex);
    return is_granted;
}

int pst_budget_try(struct pst_budget *b, uint64_t bytes)
{
    pthread_mutex_lock(&b->mutex);
    uint64_t reserved = b->locked.reserved_bytes;
    int is_granted = !b->locked.first && reserved <= b->limit_bytes &&
                     bytes <= b->limit_bytes - reserved;
    if (is_granted)
        add_locked(b, bytes);
    pthread_mutex_unlock(&b->mutex);
    return is_granted;
}

void pst_budget_force(struct pst_budget *b, uint64_t bytes)
{
    pthread_mutex_lock(&b->mutex);
    add_locked(b, bytes);
    pthread_mutex_unlock(&b->mutex);
}

static struct pst_budget_waiter *pop_locked(struct pst_budget *b, int must_fit)
{
    struct pst_budget_waiter *waiter = b->locked.first;
    if (!waiter || (must_fit && !fits_locked(b, waiter->bytes)))
        return NULL;
    add_locked(b, waiter->bytes);
    b->locked.first = waiter->next;
    if (!b->locked.first)
        b->locked.last = &b->locked.first;
    return waiter;
}

/* Serve who fits, one after the other, none with the lock held. It is held at the call, not after. */
static void serve_and_unlock(struct pst_budget *b)
{
    struct pst_budget_waiter *waiter;
    while ((waiter = pop_locked(b, 1))) {
        pthread_mutex_unlock(&b->mutex);
        waiter->granted(waiter);
        pthread_mutex_lock(&b->mutex);
    }
    pthread_mutex_unlock(&b->mutex);
}

void pst_budget_force_first(struct pst_budget *b)
{
    pthread_mutex_lock(&b->mutex);
    struct pst_budget_waiter *waiter = pop_locked(b, 0);
    pthread_mutex_unlock(&b->mutex);
    if (waiter)
        waiter->granted(waiter);
}

void pst_budget_idle(struct pst_budget *b, uint64_t bytes)
{
    pthread_mutex_lock(&b->mutex);
    b->locked.idle_bytes += bytes;
    serve_and_unlock(b);
}

void pst_budget_busy(struct pst_budget *b, uint64_t bytes)
{
    pthread_mutex_lock(&b->mutex);
    b->locked.idle_bytes -= bytes;
    pthread_mutex_unlock(&b->mutex);
}

void pst_budget_release(struct pst_budget *b, uint64_t bytes)
{
    pthread_mutex_lock(&b->mutex);
    b->locked.reserved_bytes -= bytes;
    serve_and_unlock(b);
}

int pst_budget_leave(struct pst_budget *b, struct pst_budget_waiter *waiter)
{
    int was_in_line = 0;
    pthread_mutex_lock(&b->mutex);
    for (struct pst_budget_waiter **at = &b->locked.first; *at; at = &(*at)->next) {
        if (*at != waiter)
            continue;
        *at = waiter->next;
        if (!*at)
            b->locked.last = at;
        was_in_line = 1;
        break;
    }
    if (was_in_line)
        serve_and_unlock(b); /* the one behind may fit where this one did not */
    else
        pthread_mutex_unlock(&b->mutex);
    return was_in_line;
}
