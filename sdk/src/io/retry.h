/* retry.h - repeat what failed for a while, and only what is safe to repeat (R7). */
#ifndef PST_IO_RETRY_H
#define PST_IO_RETRY_H

#include "core/task.h"

/* Submit `task`, again and again if need be: exponential back-off with full jitter, the provider's
 * retry-after respected, never beyond deadline_ns (CLOCK_MONOTONIC, 0: none) nor max_attempts (0: the
 * context's). task->then(task, rc) runs exactly once, at the end, under the rules of task hooks;
 * task->done is taken; task->repeats(task, rc), if set, runs before each wait. task->op.attempt tells
 * how many attempts there were. Deadline and cancel (pst_retry_cancel) end the waiting between attempts
 * too. */
void pst_retry_submit(struct pst_task *task, uint32_t max_attempts, uint64_t deadline_ns);

/* End it early with `code` (CANCELLED or DEADLINE), wherever it is; then() still comes, once. */
void pst_retry_cancel(struct pst_task *task, pst_rc code);

/* May a failed attempt be repeated? Pure; `is_repeatable` is false for what must not run twice when
 * the first may have been applied. A store that asks for more than five minutes is not waited for. */
int pst_retry_is_allowed(pst_rc rc, const pst_error *error, int is_repeatable, uint32_t attempt,
                         uint32_t max_attempts);

/* How long to wait before attempt+1, in ns; `random` is any 64 random bits. Pure. */
uint64_t pst_retry_delay_ns(uint32_t attempt, uint32_t retry_after_ms, uint64_t random);

#endif
