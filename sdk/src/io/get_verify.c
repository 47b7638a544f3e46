/* get_verify.c - where the checksums come from that a read is compared with (PST_READ_VERIFY).
 *
 * A reply to a whole object may bring them: then nothing more is asked. A range's reply cannot, since
 * what stores keep is of the object or of its parts. So once the first reply has shown that there is more,
 * one stat asks for them, while the ranges travel. Bytes that arrive before its answer are noted and summed
 * again from the destination when it is there; all others are summed once, out of the cache, split where
 * parts end (io/claims.c).
 *
 * It is one stat for a read, and none where it could not help: for a small piece of an object, for a whole
 * object whose reply said nothing, for one that is read twice and has no etag, or where the store cannot
 * stat. What it answers is used only if it is of the version that is read. A stat that fails fails nothing:
 * the read was not verified then, and says so. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "core/stack.h"
#include "io/get_state.h"
#include "io/retry.h"

#define ASK_MIN_BYTES ((uint64_t)1 << 20) /* of a read that is not of the whole object */
#define INLINE_BYTES ((uint64_t)64 << 10) /* as long as handing it to another thread takes */

int pst_verify_is_worth_asking(const struct pst_verify_case *c)
{
    int is_whole = c->offset == 0 && c->n_wanted == c->object_size;
    if (c->object_size == PST_UNKNOWN || c->object_size == 0)
        return 0;
    if (is_whole && c->n_first == c->object_size && c->was_unranged)
        return c->is_hinted;
    return is_whole || c->n_wanted >= ASK_MIN_BYTES;
}

int pst_verify_is_same(const pst_attr *attr, uint64_t object_size, pst_str etag)
{
    if (PST_FAULT(TRUST_ANY_STAT))
        return 1;
    if (attr->size != object_size)
        return 0;
    return attr->etag.len == etag.len &&
           (etag.len == 0 || memcmp(attr->etag.ptr, etag.ptr, etag.len) == 0);
}

/* ---- bytes that came before the answer ---------------------------------------------------------- */

void pst_get_unfed(struct pst_get *get, uint64_t from, uint64_t n)
{
    int is_late = 0;
    pthread_mutex_lock(&get->mutex);
    if (get->locked.asks == PST_ASK_UNDER_WAY && !PST_FAULT(FORGET_UNFED)) {
        if (get->n_unfed == get->max_unfed) {
            size_t max = get->max_unfed > 0 ? 2 * get->max_unfed : 8;
            struct pst_stretch *more = reallocarray(get->unfed, max, sizeof(*more));
            if (more) {
                get->unfed = more;
                get->max_unfed = max;
            }
        }
        if (get->n_unfed < get->max_unfed)
            get->unfed[get->n_unfed++] = (struct pst_stretch){from, n};
        /* else there is no memory for it: its claims stay incomplete, the read is not verified */
    } else {
        is_late = pst_claims_is_set(get->claims); /* the answer came just now */
    }
    pthread_mutex_unlock(&get->mutex);
    if (!is_late)
        return;
    pst_error why = PST_ERROR_INIT;
    pst_rc rc = pst_get_feed_again(get, from, n, &why);
    if (rc == PST_OK)
        return;
    pthread_mutex_lock(&get->mutex);
    pst_get_fail_locked(get, rc, &why);
    pthread_mutex_unlock(&get->mutex);
}

/* ---- the question -------------------------------------------------------------------------------- */

/* The stat is over and so is what followed from it. */
static void close_ask(struct pst_get *get)
{
    pthread_mutex_lock(&get->mutex);
    int is_over = --get->locked.n_running == 0;
    int is_failed = get->locked.rc != PST_OK;
    pthread_mutex_unlock(&get->mutex);
    if (is_over)
        pst_get_end(get);
    else if (is_failed)
        pst_get_stop_running(get, PST_E_CANCELLED);
    pst_get_unref(get);
}

static void run_feed(void *arg)
{
    struct pst_get *get = arg;
    pst_error why = PST_ERROR_INIT;
    pst_rc rc = PST_OK;
    for (size_t i = 0; i < get->n_unfed && rc == PST_OK; i++) /* nobody adds to it any more */
        rc = pst_get_feed_again(get, get->unfed[i].from, get->unfed[i].n, &why);
    if (rc != PST_OK) {
        pthread_mutex_lock(&get->mutex);
        pst_get_fail_locked(get, rc, &why);
        pthread_mutex_unlock(&get->mutex);
    }
    close_ask(get);
}

static void on_answer(struct pst_task *task, pst_rc rc)
{
    struct pst_get *get = task->owner;
    struct pst_core *core = get->spec.port->core;
    const pst_attr *attr = &task->result.stat;
    uint64_t bytes = 0;
    pthread_mutex_lock(&get->mutex);
    if (rc == PST_OK && pst_verify_is_same(attr, get->outcome.object_size, get->outcome.etag))
        pst_claims_take(get->claims, attr->sums, attr->n_sums, attr->sum_stride, attr->size);
    get->locked.asks = PST_ASK_OVER;
    get->locked.look = NULL;
    for (size_t i = 0; i < get->n_unfed; i++)
        bytes += get->unfed[i].n;
    pthread_mutex_unlock(&get->mutex);
    if (rc != PST_OK && rc != PST_E_CANCELLED)
        pst_logf(&core->log, PST_LEVEL_INFO, "read not verified, its checksums cannot be had: %s",
                 task->error.message[0] ? task->error.message : pst_rc_text(rc));
    pst_task_unref(task);
    if (!pst_claims_is_set(get->claims) || bytes == 0) {
        close_ask(get);
        return;
    }
    get->feed_job = (struct pst_job){.fn = run_feed, .arg = get};
    if (bytes <= INLINE_BYTES || !pst_stack_is_foreign() ||
        pst_pool_run(core->cpu, &core->cpu_share, &get->feed_job) != PST_OK)
        run_feed(get);
}

/* Make the stat. NULL where there is none to make. */
static struct pst_task *make_ask_locked(struct pst_get *get)
{
    struct pst_port *port = get->spec.port;
    if (!pst_port_has(port, PST_CAP_STAT))
        return NULL;
    struct pst_task *task = pst_task_new(port, PST_SLOT_STAT, NULL);
    if (!task)
        return NULL; /* not verified, then */
    task->args.stat = (pst_stat_args){.struct_size = sizeof(task->args.stat),
                                      .flags = PST_STAT_SUMS,
                                      .key = get->spec.key,
                                      .version = get->spec.version};
    task->op.affinity = get->spec.affinity;
    task->crew = get->spec.crew;
    task->owner = pst_get_ref(get);
    task->then = on_answer;
    get->locked.look = task;
    get->locked.asks = PST_ASK_UNDER_WAY;
    get->locked.n_running++;
    return pst_task_ref(task);
}

void pst_get_learn_sums(struct pst_get *get, const struct pst_task *first)
{
    const pst_read_result *r = &first->result.read;
    struct pst_task *task = NULL;
    int is_hinted = pst_claims_are_hinted(r->sums, r->n_sums, r->sum_stride);
    if (!get->claims)
        return;
    pthread_mutex_lock(&get->mutex);
    get->outcome.is_hinted = is_hinted != 0;
    get->outcome.was_unranged = first->is_late != 0;
    get->base = get->spec.is_suffix ? r->object_size - get->locked.total : get->spec.offset;
    int is_taken = pst_claims_take(get->claims, r->sums, r->n_sums, r->sum_stride,
                                   get->outcome.object_size);
    const struct pst_verify_case c = {.object_size = get->outcome.object_size,
                                      .offset = get->base,
                                      .n_wanted = get->locked.total,
                                      .n_first = r->n_read,
                                      .was_unranged = first->is_late,
                                      .is_hinted = is_hinted};
    if (!is_taken && !get->spec.claims && get->locked.asks == PST_ASK_NOT &&
        pst_verify_is_worth_asking(&c))
        task = make_ask_locked(get);
    pthread_mutex_unlock(&get->mutex);
    if (!task)
        return;
    pst_retry_submit(task, get->spec.max_attempts, get->spec.deadline_ns);
    pst_task_unref(task);
}
