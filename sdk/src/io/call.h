/* call.h - what the blocking calls share: get at the port, wait with cancel and deadline, say what
 * failed. */
#ifndef PST_IO_CALL_H
#define PST_IO_CALL_H

#include <penstock/call.h>
#include <penstock/store.h>

#include "core/port.h"
#include "core/store.h"

/* A place to wait at. Completions count down; the waiter looks at cancel and deadline in slices. */
struct pst_gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};
void pst_gate_init(struct pst_gate *gate);
void pst_gate_fini(struct pst_gate *gate);

/* When a call must end; from the pst_call. timeout 0 is never: deadline_ns 0. */
struct pst_limit {
    uint64_t deadline_ns;
    pst_cancel *cancel;
};
struct pst_limit pst_limit_of(const pst_call *call);

/* Was its token fired? An operation that is given such a one is not submitted. */
int pst_limit_is_fired(const struct pst_limit *limit);

/* With gate->mutex held: sleep until signalled, for at most 50 ms, so that the caller loops. Returns
 * PST_OK, or CANCELLED or DEADLINE when the limit says so. */
pst_rc pst_gate_sleep(struct pst_gate *gate, const struct pst_limit *limit);

/* The thread of a call without a limit runs its own jobs at a blocking plugin while it waits: nobody is
 * woken for them. begin() before anything is submitted, with `crew` set in tasks and gets; run() runs one
 * job, 0: there is none, or the thread does not help; end() before it sleeps or returns. */
struct pst_helper {
    struct pst_port *port; /* NULL: does not help */
    const void *crew;
};
void pst_helper_begin(struct pst_helper *helper, struct pst_port *port, const void *crew,
                      const struct pst_limit *limit);
int pst_helper_run(struct pst_helper *helper);
void pst_helper_end(struct pst_helper *helper);

/* Where a blocking call waits for its operation, which may outlast it. */
struct pst_waiter;

/* Made with two references: the call's and the operation's. NULL for lack of memory. */
struct pst_waiter *pst_waiter_new(struct pst_core *core);

/* The operation has ended: wake the call. Drops the operation's reference. Allowed in task hooks. */
void pst_waiter_end(struct pst_waiter *waiter, pst_rc rc);

/* Help while waiting (pst_helper); `waiter` is the crew. The port lives until the wait is over. */
void pst_waiter_help(struct pst_waiter *waiter, struct pst_port *port,
                     const struct pst_limit *limit);

/* Wait, drop the call's reference, return how the operation ended. When the limit strikes stop() is
 * called; then a pinned call waits on, any other returns why, with *is_done 0, if it must. */
pst_rc pst_waiter_wait(struct pst_waiter *waiter, struct pst_limit limit, int is_pinned,
                       void (*stop)(void *arg, pst_rc code), void *arg, int *is_done);

/* The operation was not started after all. */
void pst_waiter_free(struct pst_waiter *waiter);

/* Submit with retries and wait for the end. `key` is for messages only.
 * When cancel or deadline strike: with is_pinned the call still waits until the task has ended (it
 * uses memory of the caller); without, it returns at once and the task ends by itself: drop the
 * reference, read no results. A write that was left so may have been applied: the error says so.
 * On failure *err holds the whole line: operation, URI, cause, attempt. */
pst_rc pst_call_run(struct pst_task *task, pst_str key, const pst_call *call, int is_pinned,
                    pst_error *err);

/* Fill *err with one line: operation, URI of `key`, what `cause` says (NULL: the text of rc), attempt.
 * Returns rc. */
pst_rc pst_fail_at(struct pst_port *port, const char *operation, pst_str key, pst_rc rc,
                   const pst_error *cause, pst_error *err);

/* Copy the task's error to *err and put operation and URI before its message. Returns rc. */
pst_rc pst_call_fail(struct pst_task *task, pst_str key, pst_rc rc, pst_error *err);

#endif
