/* retry.c - the policy of repeating; core/task.c does the attempts.
 *
 * Three brakes: attempts, the deadline, and a token bucket per store. Every retry takes tokens, every
 * success gives one back, so that a store which fails all the time is soon asked once per operation
 * only. */
#include "io/retry.h"

#include <stddef.h>

#include "core/error.h"
#include "core/fault.h"
#include "core/port.h"

#define BASE_NS 50000000u       /* first back-off: up to 50 ms */
#define CEILING_NS 20000000000u /* ... never above 20 s */
#define RETRY_AFTER_MAX_MS 300000u
#define TOKENS_PER_RETRY 5
#define TOKENS_MAX PST_RETRY_TOKENS

int pst_retry_is_allowed(pst_rc rc, const pst_error *error, int is_repeatable, uint32_t attempt,
                         uint32_t max_attempts)
{
    if (rc >= 0 || rc == PST_E_CANCELLED || rc == PST_E_DEADLINE || attempt >= max_attempts)
        return 0;
    if (!(error->flags & PST_ERR_RETRYABLE) || error->retry_after_ms > RETRY_AFTER_MAX_MS)
        return 0;
    return is_repeatable || !(error->flags & PST_ERR_MAYBE_APPLIED);
}

uint64_t pst_retry_delay_ns(uint32_t attempt, uint32_t retry_after_ms, uint64_t random)
{
    uint64_t span_ns = BASE_NS;
    for (uint32_t i = 1; i < attempt && span_ns < CEILING_NS; i++)
        span_ns *= 2;
    if (span_ns > CEILING_NS)
        span_ns = CEILING_NS;
    uint64_t wish_ns = (uint64_t)retry_after_ms * 1000000u;
    uint64_t jitter_ns = random % (span_ns + 1);
    return wish_ns + jitter_ns; /* full jitter, on top of what the provider asks for */
}

static uint64_t mix(uint64_t x) /* splitmix64, Vigna 2015 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* May it run twice when the first may have reached the store? */
static int is_repeatable(const struct pst_task *task)
{
    if (PST_FAULT(REPEAT_CONDITIONAL) || (task->op.flags & PST_OP_REPEATABLE))
        return 1;
    switch (task->slot) {
    case PST_SLOT_PUT:
        return !(task->args.put.flags & PST_PUT_CREATE_ONLY) && task->args.put.if_match.len == 0;
    case PST_SLOT_COPY:
        return !(task->args.copy.flags & PST_PUT_CREATE_ONLY) && task->args.copy.if_match.len == 0;
    case PST_SLOT_REMOVE:
        return task->args.remove.if_match.len == 0;
    case PST_SLOT_RENAME:
    case PST_SLOT_CONTAINER_CREATE:
    case PST_SLOT_CONTAINER_DELETE:
        return 0;
    default:
        return 1; /* reads; parts are identical; commit and abort may be repeated by contract */
    }
}

static int take_tokens(struct pst_port *port)
{
    if (atomic_fetch_sub(&port->retry_tokens, TOKENS_PER_RETRY) >= TOKENS_PER_RETRY)
        return 1;
    atomic_fetch_add(&port->retry_tokens, TOKENS_PER_RETRY);
    return 0;
}

static void give_token(struct pst_port *port)
{
    if (atomic_fetch_add(&port->retry_tokens, 1) >= TOKENS_MAX)
        atomic_fetch_sub(&port->retry_tokens, 1);
}

static pst_rc cancelled(struct pst_task *task)
{
    uint32_t kept = task->error.flags & PST_ERR_MAYBE_APPLIED; /* the plugin knows, a cancel not */
    pst_rc code = atomic_load(&task->cancel_code);
    pst_rc rc = pst_fail(&task->error, code, "%s", pst_rc_text(code));
    task->error.flags |= kept;
    return rc;
}

/* For good. That the last attempt did not reach the store says nothing about those before it. */
static void fail(struct pst_task *task, pst_rc rc)
{
    task->error.flags |= task->lost;
    task->then(task, rc);
}

static void on_done(struct pst_task *task, pst_rc rc)
{
    struct pst_port *port = task->port;
    if (rc == PST_OK) {
        give_token(port);
        task->then(task, rc);
        return;
    }
    if (atomic_load(&task->is_cancelled)) {
        /* The plugin may have failed because of the cancel; what counts is who asked for it. */
        fail(task, cancelled(task));
        return;
    }
    uint64_t now_ns = pst_now_ns();
    uint64_t due_ns = now_ns + pst_retry_delay_ns(task->op.attempt, task->error.retry_after_ms,
                                                  mix(now_ns ^ (task->op.id << 20)));
    int is_in_time = task->retry_until_ns == 0 || due_ns < task->retry_until_ns;
    if (!is_in_time ||
        !pst_retry_is_allowed(rc, &task->error, is_repeatable(task), task->op.attempt,
                              task->op.max_attempts) ||
        !take_tokens(port)) {
        fail(task, rc);
        return;
    }
    if (pst_slot_writes(task->slot))
        task->lost |= task->error.flags & PST_ERR_MAYBE_APPLIED;
    if (task->repeats)
        task->repeats(task, rc);
    task->op.attempt += PST_FAULT(NO_ATTEMPT) ? 0 : 1;
    atomic_fetch_add_explicit(&port->core->retries, 1, memory_order_relaxed);
    pst_logf(&port->core->log, PST_LEVEL_INFO, "%s %s failed (%s), attempt %u of %u in %llu ms",
             pst_slot_name(task->slot), port->uri, task->error.message, task->op.attempt,
             task->op.max_attempts, (unsigned long long)((due_ns - now_ns) / 1000000u));
    pst_task_rest(task, due_ns);
}

static void on_rested(struct pst_task *task)
{
    if (atomic_load(&task->is_cancelled))
        fail(task, cancelled(task));
    else
        pst_task_submit(task);
}

void pst_retry_submit(struct pst_task *task, uint32_t max_attempts, uint64_t deadline_ns)
{
    task->done = on_done;
    task->rested = on_rested;
    task->retry_until_ns = deadline_ns;
    task->op.deadline_ns = deadline_ns;
    task->op.attempt = 1;
    task->op.flags = 0;
    task->lost = 0;
    task->op.max_attempts = max_attempts ? max_attempts : task->port->core->config.max_attempts;
    pst_task_submit(task);
}

void pst_retry_cancel(struct pst_task *task, pst_rc code)
{
    pst_task_cancel(task, code);
}
