/* pool.h - threads for blocking plugins and for computing: started on demand, never beyond a cap,
 * shared out among stores. */
#ifndef PST_CORE_POOL_H
#define PST_CORE_POOL_H

#include <stdint.h>

struct pst_pool;

/* Work to run once. It lives in its owner's struct until fn starts. */
struct pst_job {
    void (*fn)(void *arg);
    void *arg;
    void (*after)(void *arg); /* NULL allowed: last, when the share is not touched any more */
    void *after_arg;
    const void *crew; /* who may help: a thread that waits for this job; NULL: nobody */
    struct pst_job *next;
};

/* One store's line at a pool. Shares take turns, so one store cannot starve another. */
struct pst_share {
    struct pst_job *first, **last;
    struct pst_share *next;
    uint32_t n_running, max_running;
    uint32_t is_listed, reserved0;
};

int32_t pst_pool_new(uint32_t max_threads, struct pst_pool **out);

/* Stop the threads once their jobs have ended; jobs still queued do not run. Waits until deadline_ns;
 * a thread that is still inside a job then is left behind and the last one frees the pool.
 * Returns 1 when all ended in time. Not on a thread of this pool. */
int pst_pool_free(struct pst_pool *pool, uint64_t deadline_ns);

void pst_share_init(struct pst_pool *pool, struct pst_share *share);

/* Queue a job. Returns PST_OK, or NO_MEMORY when not even one thread could be started. */
int32_t pst_pool_run(struct pst_pool *pool, struct pst_share *share, struct pst_job *job);

/* A thread that is about to wait for jobs may run them itself instead, which saves waking a worker and
 * being woken. enter() before they are queued: until leave() it counts as a worker that is looking for
 * its next job. help() runs one of those that carry `crew`; returns 0 when none is in line. */
void pst_pool_enter(struct pst_pool *pool);
int pst_pool_help(struct pst_pool *pool, struct pst_share *share, const void *crew);
void pst_pool_leave(struct pst_pool *pool);

uint32_t pst_pool_threads(struct pst_pool *pool);

#endif
