/* remove.c - delete one key or many.
 *
 * Keys travel in batches, a few side by side. Each batch is a task with its own copy of its keys and its
 * own statuses, so a call that is cut short leaves it behind and goes. A batch that fails as a whole is
 * repeated by io/retry.c; keys that fail one by one inside a batch that succeeded (S3 answers 200 and an
 * error per key) are collected and sent again in the next round, after the same back-off. */
#include <stdlib.h>
#include <string.h>

#include <penstock/object.h>

#include "core/error.h"
#include "io/call.h"
#include "io/retry.h"
#include "io/verb.h"

#define BATCH_MAX 1000u /* what S3 takes; used where the store sets no limit */
#define SIDE_BY_SIDE 4u /* batches of one call on their way */

/* One call. The batches that it left behind keep it. */
struct run {
    struct pst_gate gate;
    atomic_uint refs;
    struct {
        struct batch *running, *ended;
        uint32_t n_running;
        int is_abandoned; /* nobody settles what ends from now on */
    } locked;
};

/* One task; lives in its memory. */
struct batch {
    struct run *run;
    struct pst_task *task;
    struct batch *prev, *next;
    size_t n;
    size_t *indices; /* of its keys in the caller's array */
    pst_rc *statuses;
    pst_error *errors;
    pst_rc rc;
};

/* What the caller's thread knows. */
struct removal {
    struct pst_port *port;
    const pst_str *keys, *versions; /* versions: NULL or one for each key */
    size_t n_keys;
    pst_str if_match;
    pst_call call; /* of this library's size */
    struct pst_limit limit;
    struct run *run;
    size_t *todo, n_todo; /* this round */
    size_t n_again;       /* at the front of todo: the next round */
    uint32_t attempt, max_attempts;
    uint32_t retry_after_ms;
    pst_rc *statuses;
    size_t n_failed, first_failed;
    pst_error first_error;
};

/* ---- batches ---------------------------------------------------------------------------------- */

static struct run *new_run(void)
{
    struct run *run = calloc(1, sizeof(*run));
    if (!run)
        return NULL;
    pst_gate_init(&run->gate);
    atomic_init(&run->refs, 1);
    return run;
}

static void drop_run(struct run *run)
{
    if (!run || atomic_fetch_sub(&run->refs, 1) != 1)
        return;
    pst_gate_fini(&run->gate);
    free(run);
}

static void on_end(struct pst_task *task, pst_rc rc)
{
    struct batch *batch = task->owner;
    struct run *run = batch->run;
    pthread_mutex_lock(&run->gate.mutex);
    batch->rc = rc;
    if (batch->prev)
        batch->prev->next = batch->next;
    else
        run->locked.running = batch->next;
    if (batch->next)
        batch->next->prev = batch->prev;
    run->locked.n_running--;
    int is_abandoned = run->locked.is_abandoned;
    if (!is_abandoned) {
        batch->next = run->locked.ended;
        run->locked.ended = batch;
    }
    pthread_cond_signal(&run->gate.changed);
    pthread_mutex_unlock(&run->gate.mutex);
    if (is_abandoned)
        pst_task_unref(task);
    drop_run(run);
}

/* Copy those of `from` at `indices` into the task. NULL for lack of memory. */
static pst_str *copy_strs(struct pst_task *task, const pst_str *from, const size_t *indices,
                          size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += from[indices[i]].len;
    pst_str *to = pst_task_keep(task, NULL, n * sizeof(*to));
    char *text = pst_task_keep(task, NULL, bytes);
    if (!to || !text)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        pst_str one = from[indices[i]];
        if (one.len > 0)
            memcpy(text, one.ptr, one.len);
        to[i] = pst_str_of(text, one.len);
        text += one.len;
    }
    return to;
}

static int copy_keys(struct pst_task *task, const struct removal *removal, const size_t *indices,
                     size_t n)
{
    pst_remove_args *args = &task->args.remove;
    args->struct_size = sizeof(*args);
    args->keys = copy_strs(task, removal->keys, indices, n);
    args->versions = removal->versions ? copy_strs(task, removal->versions, indices, n) : NULL;
    args->n_keys = n;
    if (!args->keys || (removal->versions && !args->versions))
        return 0;
    return pst_task_keep_str(task, removal->if_match, &task->args.remove.if_match);
}

/* Make a task for the keys at `indices`. NULL for lack of memory. */
static struct batch *new_batch(struct removal *removal, const size_t *indices, size_t n)
{
    struct pst_task *task = pst_task_new(removal->port, PST_SLOT_REMOVE, NULL);
    if (!task)
        return NULL;
    struct batch *batch = pst_task_keep(task, NULL, sizeof(*batch));
    size_t *own_indices = pst_task_keep(task, indices, n * sizeof(*indices));
    pst_rc *statuses = pst_task_keep(task, NULL, n * sizeof(*statuses));
    pst_error *errors = pst_task_keep(task, NULL, n * sizeof(*errors));
    if (!batch || !own_indices || !statuses || !errors || !copy_keys(task, removal, indices, n)) {
        pst_task_unref(task);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        statuses[i] = PST_E_INTERNAL;
        errors[i] = (pst_error)PST_ERROR_INIT;
    }
    *batch = (struct batch){.run = removal->run,
                            .task = task,
                            .n = n,
                            .indices = own_indices,
                            .statuses = statuses,
                            .errors = errors};
    task->result.remove.status = statuses;
    task->result.remove.errors = errors;
    task->result.remove.error_stride = sizeof(*errors);
    task->op.affinity = removal->call.affinity;
    task->owner = batch;
    task->then = on_end;
    return batch;
}

static void start(struct removal *removal, struct batch *batch)
{
    struct run *run = removal->run;
    atomic_fetch_add(&run->refs, 1);
    pthread_mutex_lock(&run->gate.mutex);
    batch->next = run->locked.running;
    if (batch->next)
        batch->next->prev = batch;
    run->locked.running = batch;
    run->locked.n_running++;
    pthread_mutex_unlock(&run->gate.mutex);
    pst_retry_submit(batch->task, removal->max_attempts, removal->limit.deadline_ns);
}

/* ---- results ---------------------------------------------------------------------------------- */

static void note_failure(struct removal *removal, size_t index, const pst_error *error)
{
    removal->n_failed++;
    if (removal->n_failed > 1 && index > removal->first_failed)
        return;
    removal->first_failed = index;
    pst_error_copy(&removal->first_error, error);
}

/* Take the statuses of a batch that has ended. */
static void settle(struct removal *removal, struct batch *batch)
{
    for (size_t i = 0; i < batch->n; i++) {
        size_t index = batch->indices[i];
        const pst_error *error = &batch->errors[i];
        pst_rc rc = batch->statuses[i];
        if (batch->rc != PST_OK && rc != PST_OK) {
            rc = batch->rc;
            error = &batch->task->error;
        } else if (rc > 0) {
            rc = PST_E_INTERNAL;
        }
        removal->statuses[index] = rc;
        if (rc == PST_OK)
            continue;
        if (batch->rc == PST_OK && pst_retry_is_allowed(rc, error, removal->if_match.len == 0,
                                                        removal->attempt, removal->max_attempts)) {
            removal->todo[removal->n_again++] = index;
            if (error->retry_after_ms > removal->retry_after_ms)
                removal->retry_after_ms = error->retry_after_ms;
        } else {
            note_failure(removal, index, error);
        }
    }
    pst_task_unref(batch->task);
}

/* Cut short: tell the plugin and go. What still runs ends by itself. */
static void abandon(struct removal *removal, pst_rc why)
{
    struct run *run = removal->run;
    struct batch *ended;
    pthread_mutex_lock(&run->gate.mutex);
    run->locked.is_abandoned = 1;
    ended = run->locked.ended;
    run->locked.ended = NULL;
    pthread_mutex_unlock(&run->gate.mutex);
    while (ended) {
        struct batch *next = ended->next;
        settle(removal, ended);
        ended = next;
    }
    for (;;) {
        struct pst_task *found = NULL;
        pthread_mutex_lock(&run->gate.mutex);
        for (struct batch *batch = run->locked.running; batch && !found; batch = batch->next) {
            if (!atomic_load(&batch->task->is_cancelled))
                found = pst_task_ref(batch->task);
        }
        pthread_mutex_unlock(&run->gate.mutex);
        if (!found)
            return;
        pst_retry_cancel(found, why);
        pst_task_unref(found);
    }
}

/* Wait until at most `n_left` batches run, settling those that end. */
static pst_rc wait_for(struct removal *removal, uint32_t n_left)
{
    struct run *run = removal->run;
    pst_rc rc = PST_OK;
    pthread_mutex_lock(&run->gate.mutex);
    for (;;) {
        struct batch *batch = run->locked.ended;
        if (batch) {
            run->locked.ended = batch->next;
            pthread_mutex_unlock(&run->gate.mutex);
            settle(removal, batch);
            pthread_mutex_lock(&run->gate.mutex);
        } else if (run->locked.n_running <= n_left || rc != PST_OK) {
            break;
        } else {
            rc = pst_gate_sleep(&run->gate, &removal->limit);
        }
    }
    pthread_mutex_unlock(&run->gate.mutex);
    return rc;
}

static pst_rc run_round(struct removal *removal)
{
    uint32_t max = removal->port->limits.remove_batch_max;
    size_t batch_max = max ? max : BATCH_MAX;
    size_t n_todo = removal->n_todo;
    pst_rc rc = PST_OK;
    removal->n_again = 0; /* never passes `from`: a batch settles after it was made */
    for (size_t from = 0; from < n_todo && rc == PST_OK; from += batch_max) {
        size_t n = n_todo - from < batch_max ? n_todo - from : batch_max;
        struct batch *batch = new_batch(removal, removal->todo + from, n);
        if (!batch)
            return PST_E_NO_MEMORY;
        start(removal, batch);
        rc = wait_for(removal, SIDE_BY_SIDE - 1);
    }
    return rc == PST_OK ? wait_for(removal, 0) : rc;
}

static pst_rc back_off(struct removal *removal)
{
    uint64_t now_ns = pst_now_ns();
    uint64_t due_ns = now_ns + pst_retry_delay_ns(removal->attempt, removal->retry_after_ms,
                                                  now_ns * 0x9e3779b97f4a7c15u);
    struct pst_gate *gate = &removal->run->gate;
    pst_rc rc = PST_OK;
    pthread_mutex_lock(&gate->mutex);
    while (rc == PST_OK && pst_now_ns() < due_ns) {
        struct pst_limit nap = {due_ns, removal->limit.cancel};
        int is_ours = removal->limit.deadline_ns && removal->limit.deadline_ns < due_ns;
        if (is_ours)
            nap.deadline_ns = removal->limit.deadline_ns;
        rc = pst_gate_sleep(gate, &nap);
        if (rc == PST_E_DEADLINE && !is_ours)
            rc = PST_OK;
    }
    pthread_mutex_unlock(&gate->mutex);
    return rc;
}

static pst_rc run_rounds(struct removal *removal)
{
    pst_rc rc = pst_limit_is_fired(&removal->limit) ? (pst_rc)PST_E_CANCELLED : run_round(removal);
    while (rc == PST_OK && removal->n_again > 0) {
        removal->n_todo = removal->n_again;
        rc = back_off(removal);
        removal->attempt++;
        if (rc == PST_OK)
            rc = run_round(removal);
    }
    return rc;
}

static pst_rc report(struct removal *removal, pst_rc rc, pst_error *err)
{
    if (rc != PST_OK) { /* the call as a whole was cut short */
        abandon(removal, rc == PST_E_NO_MEMORY ? (pst_rc)PST_E_CANCELLED : rc);
        for (size_t i = 0; i < removal->n_keys; i++) {
            if (removal->statuses[i] == PST_PENDING)
                removal->statuses[i] = rc;
        }
        return pst_fail_at(removal->port, pst_slot_name(PST_SLOT_REMOVE), removal->keys[0], rc,
                           NULL, err);
    }
    if (removal->n_failed == 0)
        return PST_OK;
    rc = removal->statuses[removal->first_failed];
    pst_fail_at(removal->port, pst_slot_name(PST_SLOT_REMOVE), removal->keys[removal->first_failed],
                rc, &removal->first_error, err);
    if (removal->n_failed > 1)
        pst_error_prefix(err, "%zu of %zu keys failed, the first: ", removal->n_failed,
                         removal->n_keys);
    return rc;
}

/* Keys that cannot be are failures of their own and keep nobody else back. */
static void choose_keys(struct removal *removal)
{
    for (size_t i = 0; i < removal->n_keys; i++) {
        pst_error why = PST_ERROR_INIT;
        removal->statuses[i] = pst_verb_check_key(removal->port, removal->keys[i], &why);
        if (removal->statuses[i] == PST_OK && removal->versions)
            removal->statuses[i] = pst_verb_check_version(removal->port, removal->versions[i],
                                                          &why);
        if (removal->statuses[i] != PST_OK) {
            note_failure(removal, i, &why);
        } else {
            removal->statuses[i] = PST_PENDING;
            removal->todo[removal->n_todo++] = i;
        }
    }
}

static pst_rc remove_keys(pst_store *store, const pst_str *keys, const pst_str *versions,
                          size_t n_keys, pst_str if_match, const pst_call *call, pst_rc *statuses,
                          pst_error *err)
{
    struct removal removal = {.keys = keys,
                              .versions = versions,
                              .n_keys = n_keys,
                              .if_match = if_match,
                              .statuses = statuses,
                              .attempt = 1,
                              .limit = pst_limit_of(call),
                              .first_error = PST_ERROR_INIT};
    pst_rc rc = pst_options_take(&removal.call, sizeof(removal.call), call, err);
    if (rc == PST_OK)
        rc = pst_store_port(store, &removal.port, err);
    if (rc != PST_OK)
        goto out;
    rc = pst_verb_need(removal.port,
                       PST_CAP_REMOVE | (if_match.len > 0 ? PST_CAP_WRITE_IF_MATCH : 0), err);
    if (rc == PST_OK) {
        removal.max_attempts = removal.call.max_attempts ? removal.call.max_attempts
                                                         : removal.port->core->config.max_attempts;
        removal.todo = calloc(n_keys, sizeof(*removal.todo));
        removal.run = new_run();
        if (!removal.todo || !removal.run)
            rc = pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    }
    if (rc != PST_OK) {
        pst_fail_at(removal.port, pst_slot_name(PST_SLOT_REMOVE), keys[0], rc, err, err);
        goto out;
    }
    choose_keys(&removal);
    rc = report(&removal, run_rounds(&removal), err);
    n_keys = 0; /* every status is set */
out:
    for (size_t i = 0; i < n_keys; i++)
        statuses[i] = rc;
    drop_run(removal.run);
    free(removal.todo);
    if (removal.port)
        pst_port_unref(removal.port);
    return rc;
}

/* ---- the calls -------------------------------------------------------------------------------- */

pst_rc pst_delete(pst_store *store, pst_str key, const pst_delete_options *options,
                  const pst_call *call, pst_error *err)
{
    pst_delete_options own;
    pst_rc status = PST_OK;
    pst_rc rc = pst_options_take(&own, sizeof(own), options, err);
    if (rc == PST_OK && own.flags != 0)
        rc = pst_fail(err, PST_E_INVALID, "unknown flags 0x%x", (unsigned)own.flags);
    if (rc != PST_OK)
        return rc;
    return remove_keys(store, &key, own.version.len > 0 ? &own.version : NULL, 1, own.if_match,
                       call, &status, err);
}

pst_rc pst_delete_many(pst_store *store, const pst_str *keys, const pst_str *versions,
                       size_t n_keys, const pst_call *call, pst_rc *statuses, pst_error *err)
{
    pst_error_clear(err);
    if (n_keys == 0)
        return PST_OK;
    return remove_keys(store, keys, versions, n_keys, pst_str_of(NULL, 0), call, statuses, err);
}
