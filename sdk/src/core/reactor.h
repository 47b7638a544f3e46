/* reactor.h - the one thread a context keeps for what must not run on a plugin's stack: timers,
 * dst_ready, back-off, BUSY polls, closing stores. */
#ifndef PST_CORE_REACTOR_H
#define PST_CORE_REACTOR_H

#include <stdint.h>

struct pst_reactor;

/* Work to run once, soon or at a time. It lives in its owner's struct, so arming never allocates and
 * never fails. Set fn and arg, leave the rest zero. */
struct pst_timer {
    void (*fn)(void *arg);
    void *arg;
    uint64_t due_ns; /* CLOCK_MONOTONIC */
    uint64_t seq;    /* keeps work of the same time in order */
    uint64_t is_armed;
    struct pst_timer *child, *next, *prev; /* pairing heap; prev is the parent of a first child */
};

/* Start the thread. */
int32_t pst_reactor_new(struct pst_reactor **out);

/* Stop the thread and free; what is still armed does not run. On the reactor's own thread it returns
 * at once, and the thread frees the rest when fn has returned. */
void pst_reactor_free(struct pst_reactor *reactor);

/* Arm `timer` for due_ns (0: now), or move it when it is armed already. fn runs on the reactor's
 * thread with no lock held and may free the timer. */
void pst_reactor_arm(struct pst_reactor *reactor, struct pst_timer *timer, uint64_t due_ns);

/* Take the timer back. Returns 1 when it was armed and will not run; 0 when it runs, ran, or was
 * never armed. */
int pst_reactor_disarm(struct pst_reactor *reactor, struct pst_timer *timer);

/* Is this the reactor's thread? */
int pst_reactor_is_self(const struct pst_reactor *reactor);

uint64_t pst_now_ns(void);

#endif
