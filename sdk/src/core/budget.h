/* budget.h - how many bytes may be in flight. First come, first served. */
#ifndef PST_CORE_BUDGET_H
#define PST_CORE_BUDGET_H

#include <pthread.h>
#include <stdint.h>

/* Somebody who waits for bytes. `granted` runs once, on the thread that released, no lock held. */
struct pst_budget_waiter {
    uint64_t bytes;
    void (*granted)(struct pst_budget_waiter *);
    struct pst_budget_waiter *next;
};

struct pst_budget {
    pthread_mutex_t mutex;
    uint64_t limit_bytes;
    struct {
        uint64_t reserved_bytes, peak_bytes;
        uint64_t idle_bytes; /* reserved, and only the application can set them free */
        struct pst_budget_waiter *first, **last;
    } locked;
};

void pst_budget_init(struct pst_budget *budget, uint64_t limit_bytes);
void pst_budget_fini(struct pst_budget *budget);

/* Reserve at once, or get in line behind those who wait. Returns 1 when reserved, 0 when `waiter`
 * was queued. More than the limit is served when nothing else is reserved; whether to ask for it at
 * all is the caller's decision. */
int pst_budget_reserve(struct pst_budget *budget, uint64_t bytes, struct pst_budget_waiter *waiter);

/* Reserve only what fits the limit while nobody stands in line. Returns 1 when reserved. For what is
 * wanted but not needed: fetching ahead. */
int pst_budget_try(struct pst_budget *budget, uint64_t bytes);

/* Reserve without asking: for those who could not let go otherwise. */
void pst_budget_force(struct pst_budget *budget, uint64_t bytes);

/* Reserved bytes now wait for the application (a part that is being filled), or no longer do. Nobody
 * waits for such bytes: when no others are reserved, the first in line is served over the limit. */
void pst_budget_idle(struct pst_budget *budget, uint64_t bytes);
void pst_budget_busy(struct pst_budget *budget, uint64_t bytes);

/* Give back, and serve those in line who fit now. */
void pst_budget_release(struct pst_budget *budget, uint64_t bytes);

/* Serve the first in line although it does not fit: nothing else could move (core/task.c: feed). */
void pst_budget_force_first(struct pst_budget *budget);

/* Leave the line. Returns 1 when it was in line and will not be granted, else 0. */
int pst_budget_leave(struct pst_budget *budget, struct pst_budget_waiter *waiter);

#endif
