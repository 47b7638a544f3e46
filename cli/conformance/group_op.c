/* group_op.c - OP: from submit to completion, with everything that a host may do in between.
 *
 * Much of what is required here is checked at every operation of every requirement, by host.c and
 * call.c; the functions below bring about the situations in which it goes wrong. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

void k_OP_001(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    k_tour_run(s);
    k_step(t, "waiting for second completions");
    k_pause_ms(100);
    k_that(t, atomic_load(&s->host->n_outstanding) == 0,
           "expected every operation to have completed, got %u outstanding",
           atomic_load(&s->host->n_outstanding));
}

void k_OP_002(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (s)
        k_tour_run(s);
}

void k_OP_003(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    atomic_store(&s->host->exec_finishes, true);
    k_tour_run(s);
}

void k_OP_004(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    k_tour_run(s);
    k_step(t, "waiting for late accesses");
    k_pause_ms(100);
}

void k_OP_005(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_tour tour = {.store = s};
    if (!s)
        return;
    while (k_tour_next(&tour)) {
        atomic_store(&s->host->exec_busy, 3);
        (void)k_call_run(tour.call);
        atomic_store(&s->host->exec_busy, 0);
        (void)k_tour_check(&tour);
        k_tour_done(&tour);
    }
    if (atomic_load(&s->host->n_exec_busy) == 0)
        k_skip(t, "the plugin does not call exec while it is submitting");
}

/* ---- BUSY of the plugin's own ------------------------------------------------------------------ */

#define FLOOD_MAX 2000u

/* Reads that stay under way: dst() answers LATER. */
static struct k_call *new_parked_read(struct k_store *s, const struct k_object *o)
{
    struct k_call *c = k_call_new(s, K_READ, NULL);
    c->in.read.key = o->key;
    c->in.read.length = o->size;
    c->dst_later = 1;
    c->dst_manual = true;
    return c;
}

/* Submit until the plugin says that it has had enough. The number of calls it took. */
static size_t flood(struct k_store *s, const struct k_object *o, struct k_call **calls, size_t max,
                    bool *is_full)
{
    *is_full = false;
    for (size_t i = 0; i < max; i++) {
        calls[i] = new_parked_read(s, o);
        if (k_call_submit_once(calls[i]) == PST_BUSY) {
            *is_full = true;
            return i;
        }
    }
    return max;
}

static void let_go(struct k_call *c)
{
    for (unsigned ms = 0; ms < 10000 && !atomic_load(&c->is_parked); ms++) {
        if (k_call_wait(c, 0))
            return;
        k_pause_ms(1);
    }
    k_call_ready(c);
}

void k_OP_006(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    bool is_full = false, is_woken = false;
    if (!s || !k_object(s, 100, &o))
        return;
    if (s->plugin->threads == PST_THREADS_SERIAL) {
        k_skip(t, "the plugin is SERIAL: it never has two operations");
        return;
    }
    size_t max = s->limits.inflight_max > 0 && s->limits.inflight_max < FLOOD_MAX
                     ? s->limits.inflight_max + 8
                     : FLOOD_MAX;
    struct k_call **calls = (struct k_call **)(void *)k_alloc(max * sizeof(struct k_call *));
    k_step(t, "submitting up to %zu operations", max);
    size_t n = flood(s, &o, calls, max, &is_full);
    for (size_t i = 0; i < n; i++)
        let_go(calls[i]);
    k_step(t, "waiting for wake");
    for (unsigned ms = 0; is_full && ms < 5000 && !is_woken; ms++) {
        is_woken = atomic_load(&s->host->n_wakes) > 0;
        k_pause_ms(1);
    }
    k_that(t, !is_full || is_woken,
           "expected wake() after a BUSY of the plugin's own, got none in 5 "
           "s");
    if (is_full) {
        calls[n]->dst_manual = false;
        (void)k_call_submit(calls[n++]);
    } else {
        k_skip(t, "the plugin has no limit of its own below %zu operations", max);
    }
    for (size_t i = 0; i < n; i++) {
        if (k_call_finish(calls[i]))
            (void)k_want(calls[i], PST_OK, "a read, one of many");
        k_call_free(calls[i]);
    }
    k_free(calls);
    k_object_fini(&o);
}

#define SUBMIT_LIMIT_MS 2000u

void k_OP_007(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_tour tour = {.store = s};
    if (!s)
        return;
    while (k_tour_next(&tour)) {
        k_pool_hold(s->host->pool, true);
        uint64_t started_ns = k_now_ns();
        pst_rc rc = k_call_submit(tour.call);
        uint64_t took_ms = (k_now_ns() - started_ns) / 1000000u;
        k_pool_hold(s->host->pool, false);
        k_that(t, took_ms < SUBMIT_LIMIT_MS,
               "expected the submit of %s to return at once, got %llu "
               "ms",
               tour.what, (unsigned long long)took_ms);
        if (rc == PST_PENDING)
            (void)k_call_finish(tour.call);
        (void)k_tour_check(&tour);
        k_tour_done(&tour);
    }
}

void k_OP_008(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    if (s->plugin->op_scratch == 0)
        k_skip(t, "the plugin asks for no scratch");
    else
        k_tour_run(s);
}

/* ---- locks and threads ------------------------------------------------------------------------- */

struct intruder {
    struct k_call *call;
    atomic_bool has_returned;
    pst_rc rc;
};

static void *intrude(void *arg)
{
    struct intruder *i = arg;
    i->rc = k_call_submit_once(i->call);
    atomic_store(&i->has_returned, true);
    return NULL;
}

/* Runs inside complete(): another thread submits meanwhile, and must not have to wait for us. */
static void submit_beside(struct k_call *c, void *arg)
{
    struct intruder *i = arg;
    pthread_t thread;
    if (pthread_create(&thread, NULL, intrude, i) != 0)
        return;
    (void)pthread_detach(thread);
    for (unsigned ms = 0; ms < 3000 && !atomic_load(&i->has_returned); ms++)
        k_pause_ms(1);
    k_that(
        c->host->test, atomic_load(&i->has_returned),
        "expected a submit to go on while complete() of %s is running, got it blocked: a lock is "
        "held",
        k_slot_name(c->slot));
}

void k_OP_018(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS | PST_CAP_STAT);
    struct k_tour tour = {.store = s};
    if (!s)
        return;
    if (s->plugin->threads == PST_THREADS_SERIAL) {
        k_skip(t, "the plugin is SERIAL: it never has two operations");
        return;
    }
    while (k_tour_next(&tour)) {
        struct intruder *i = (struct intruder *)(void *)k_alloc(sizeof(*i));
        i->call = k_new_stat(s, tour.object.key);
        tour.call->on_complete = submit_beside;
        tour.call->on_complete_arg = i;
        (void)k_call_run(tour.call);
        (void)k_tour_check(&tour);
        for (unsigned ms = 0; ms < 5000 && !atomic_load(&i->has_returned); ms++)
            k_pause_ms(1);
        if (i->rc == PST_BUSY)
            (void)k_call_submit(i->call);
        if (k_call_finish(i->call))
            (void)k_want(i->call, PST_OK, "a stat submitted beside complete()");
        k_tour_done(&tour);
    }
}

#define N_THREADS 8u
#define N_ROUNDS 24u

struct worker {
    struct k_store *store;
    const struct k_object *object;
    unsigned number;
    pst_str key;
};

static void read_range(struct worker *w, unsigned round)
{
    struct k_test *t = w->store->test;
    uint64_t size = w->object->size;
    uint64_t align = w->store->limits.io_align > 1 ? w->store->limits.io_align : 1;
    uint64_t offset = size > 0 ? (uint64_t)(w->number * 7919u + round * 104729u) % size : 0;
    offset -= offset % align;
    uint64_t length = (1 + (w->number * 31u + round * 1009u) % 60000u + align - 1) / align * align;
    struct k_call *c = k_call_new(w->store, K_READ, NULL);
    c->in.read.key = w->object->key;
    c->in.read.offset = offset;
    c->in.read.length = length;
    if (round % 2 == 0)
        k_call_dst(c, (size_t)length, round % 3 ? 0 : 777, K_AT_END);
    (void)k_call_run(c);
    uint64_t rest = size - offset < length ? size - offset : length;
    if (k_want(c, PST_OK, "a read beside others"))
        k_that(t,
               c->out.read.n_read == rest &&
                   memcmp(c->snapshot, w->object->data + offset, (size_t)rest) == 0,
               "expected %llu bytes at %llu while other threads read, got %llu or other ones",
               (unsigned long long)rest, (unsigned long long)offset,
               (unsigned long long)c->out.read.n_read);
    k_call_free(c);
}

static void *work_beside_others(void *arg)
{
    struct worker *w = arg;
    struct k_store *s = w->store;
    bool may_write = s->test->config->profile != K_RO;
    for (unsigned round = 0; round < N_ROUNDS && !k_failed(s->test); round++) {
        read_range(w, round);
        struct k_attrs a;
        if (s->caps & PST_CAP_STAT) {
            pst_rc rc = k_stat(s, w->object->key, &a);
            k_that(s->test, rc == PST_OK && a.size == w->object->size,
                   "expected stat beside others to tell %llu bytes, got %s and %llu",
                   (unsigned long long)w->object->size, k_rc_name(rc), (unsigned long long)a.size);
        }
        if (may_write && round % 4 == w->number % 4) {
            uint64_t size = 1000u + w->number * 100u + round;
            if (k_make(s, w->key, size, size))
                (void)k_holds(s, w->key, size, size);
        }
    }
    return NULL;
}

void k_OP_019(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    struct worker workers[N_THREADS];
    pthread_t threads[N_THREADS];
    unsigned n = 0;
    if (!s || !k_object(s, 300007, &o))
        return;
    if (s->plugin->threads == PST_THREADS_SERIAL) {
        k_skip(t, "the plugin is SERIAL");
        return;
    }
    k_step(t, "reading and writing from %u threads", N_THREADS);
    for (unsigned i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){s, &o, i, k_key(t, "thread-%u", i)};
        n += pthread_create(&threads[n], NULL, work_beside_others, &workers[i]) == 0;
    }
    for (unsigned i = 0; i < n; i++)
        (void)pthread_join(threads[i], NULL);
    k_object_fini(&o);
}

static void *flush_often(void *arg)
{
    struct k_store *s = arg;
    for (unsigned i = 0; i < 200; i++)
        s->ops->flush(s->backend);
    return NULL;
}

void k_OP_020(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    pthread_t threads[2];
    unsigned n = 0;
    if (!s)
        return;
    if (!s->ops->flush) {
        k_skip(t, "the plugin has no flush");
        return;
    }
    k_step(t, "calling flush");
    s->ops->flush(s->backend);
    s->ops->flush(s->backend);
    for (unsigned i = 0; i < 2; i++)
        n += pthread_create(&threads[n], NULL, flush_often, s) == 0;
    k_tour_run(s);
    for (unsigned i = 0; i < n; i++)
        (void)pthread_join(threads[i], NULL);
}
