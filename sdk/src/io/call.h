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

/* With gate->mutex held: sleep until signalled, for at most 50 ms, so that the caller loops. Returns
 * PST_OK, or CANCELLED or DEADLINE when the limit says so. */
pst_rc pst_gate_sleep(struct pst_gate *gate, const struct pst_limit *limit);

/* Submit with retries and wait for the end. `key` is for messages only.
 * When cancel or deadline strike: with is_pinned the call still waits until the task has ended (it
 * uses memory of the caller); without, it returns at once and the task ends by itself: drop the
 * reference, read no results.
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
