/* call.c - one operation, from the test's arguments to its checked outcome.
 *
 * The test fills `in` with pointers into its own memory. Submitting copies all of it into guarded
 * pages: the operation, its scratch and its result can be written, arguments, vectors and strings
 * only read. When the completion comes, on whatever thread, everything is copied out and the pages
 * become inaccessible before complete() returns, so whoever looks at the operation afterwards is
 * caught, the thread that is still inside the submit function included. Destinations become
 * read-only and are compared with a snapshot when the test lets go of them.
 *
 * A call that the test lets go of stays for hundreds of others: a completion that comes late must find
 * the one it belongs to, and a late access its trap. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kit.h"

_Thread_local struct k_call *k_submitting;

/* ---- finding a call by its operation ----------------------------------------------------------- */

static struct k_call **bucket_of(struct k_host *host, const pst_op *op)
{
    uintptr_t h = (uintptr_t)op >> 4;
    h ^= h >> 16;
    return &host->buckets[(h ^ (h >> 10)) % (sizeof(host->buckets) / sizeof(host->buckets[0]))];
}

struct k_call *k_call_find(struct k_host *host, const pst_op *op)
{
    (void)pthread_mutex_lock(&host->mutex);
    struct k_call *c = *bucket_of(host, op);
    while (c && c->op != op)
        c = c->next_in_bucket;
    (void)pthread_mutex_unlock(&host->mutex);
    return c;
}

void k_call_register(struct k_call *c)
{
    (void)pthread_mutex_lock(&c->host->mutex);
    struct k_call **bucket = bucket_of(c->host, c->op);
    c->next_in_bucket = *bucket;
    *bucket = c;
    (void)pthread_mutex_unlock(&c->host->mutex);
}

struct k_call *k_call_new(struct k_store *s, enum k_slot slot, void *object)
{
    struct k_call *c = (struct k_call *)(void *)k_alloc(sizeof(*c));
    c->store = s;
    c->host = s->host;
    c->slot = slot;
    c->object = object ? object : s->backend;
    c->attempt = 1;
    c->place = K_AT_END;
    c->emit_limit = SIZE_MAX;
    (void)pthread_mutex_init(&c->mutex, NULL);
    (void)pthread_cond_init(&c->cond, NULL);
    return c;
}

void *k_dup_array(const void *array, size_t n, size_t size)
{
    unsigned char *copy = k_alloc(n * size + 1);
    if (n > 0)
        memcpy(copy, array, n * size);
    return copy;
}

/* ---- submit ------------------------------------------------------------------------------------ */

static pst_rc call_slot(struct k_call *c)
{
    const pst_backend_ops *o = c->store->ops;
    void *b = c->object, *a = c->args, *r = c->result;
    pst_op *op = c->op;
    switch (c->slot) {
    case K_READ:
        return o->read(b, op, a, r);
    case K_STAT:
        return o->stat(b, op, a, r);
    case K_PUT:
        return o->put(b, op, a, r);
    case K_APPEND:
        return o->append(b, op, a, r);
    case K_COPY:
        return o->copy(b, op, a, r);
    case K_RENAME:
        return o->rename(b, op, a, r);
    case K_REMOVE:
        return o->remove(b, op, a, r);
    case K_LIST:
        return o->list(b, op, a, r);
    case K_LIST_OPEN:
        return o->list_open(b, op, a, r);
    case K_LIST_PAGE:
        return o->list_page(b, op, a, r);
    case K_UPLOAD_OPEN:
        return o->upload_open(b, op, a, r);
    case K_UPLOAD_PART:
        return o->upload_part(b, op, a, r);
    case K_UPLOAD_COMMIT:
        return o->upload_commit(b, op, a, r);
    case K_UPLOAD_ABORT:
        return o->upload_abort(b, op, a, r);
    case K_CONTAINER_CREATE:
        return o->container_create(b, op, a, r);
    case K_CONTAINER_DELETE:
        return o->container_delete(b, op, a, r);
    case K_CONTAINER_LIST:
        return o->container_list(b, op, a, r);
    case K_PRESIGN:
        return o->presign(b, op, a, r);
    case K_CLEANUP:
        return o->cleanup(b, op, a, r);
    case K_N_SLOTS:
        break;
    }
    return PST_E_UNIMPLEMENTED;
}

static bool writes(enum k_slot slot)
{
    return slot == K_PUT || slot == K_APPEND || slot == K_COPY || slot == K_RENAME ||
           slot == K_UPLOAD_OPEN || slot == K_UPLOAD_COMMIT || slot == K_CONTAINER_CREATE;
}

static void check_untouched(struct k_call *c, const unsigned char *op_before,
                            const unsigned char *result_before)
{
    struct k_test *t = c->host->test;
    if (memcmp(op_before, c->op, c->op_len) != 0)
        k_fail(t, "expected %s that answers BUSY to leave the op as it was, got it changed",
               k_slot_name(c->slot));
    if (memcmp(result_before, c->result, c->result_len) != 0)
        k_fail(t, "expected %s that answers BUSY to leave the result as it was, got it changed",
               k_slot_name(c->slot));
    if (c->err->code != 0 || c->err->message[0])
        k_fail(t, "expected %s that answers BUSY to leave the error empty, got code %d",
               k_slot_name(c->slot), (int)c->err->code);
}

pst_rc k_call_submit_once(struct k_call *c)
{
    struct k_test *t = c->host->test;
    const char *name = k_slot_name(c->slot);
    if (!c->op)
        k_place_all(c);
    if (writes(c->slot))
        atomic_store(&t->shared->has_written, true);
    unsigned char *op_before = k_dup_array(c->op, 1, c->op_len);
    unsigned char *result_before = k_dup_array(c->result, 1, c->result_len);
    if (c->op->scratch)
        memset(c->op->scratch, 0, c->store->plugin->op_scratch);
    atomic_store(&t->shared->last_slot, (unsigned)c->slot + 1);
    c->exec_said_busy = false;
    c->started_ns = k_now_ns();
    atomic_fetch_add(&c->host->n_outstanding, 1);
    atomic_store(&c->state, K_SUBMITTING);
    k_submitting = c;
    pst_rc rc = call_slot(c);
    k_submitting = NULL;
    int state = atomic_load(&c->state);
    if (rc == PST_PENDING) {
        int expected = K_SUBMITTING;
        (void)atomic_compare_exchange_strong(&c->state, &expected, K_PENDING);
        c->was_pending = true;
        if (PST_HAS(pst_backend_ops, c->store->ops, flush) && c->store->ops->flush)
            c->store->ops->flush(c->store->backend);
    } else if (state == K_DONE) {
        k_fail(t,
               "expected complete() only for an operation that answers PENDING, got it for %s "
               "that then answered %s",
               name, k_rc_name(rc));
        rc = PST_PENDING;
    } else if (rc == PST_BUSY) {
        check_untouched(c, op_before, result_before);
        c->said_busy = true;
        c->n_busy++;
        atomic_store(&c->state, K_IDLE);
        atomic_fetch_sub(&c->host->n_outstanding, 1);
    } else {
        k_call_completed(c, rc);
    }
    k_free(op_before);
    k_free(result_before);
    return rc;
}

pst_rc k_call_submit(struct k_call *c)
{
    uint64_t give_up_ns = k_now_ns() + 20000000000u;
    for (;;) {
        unsigned wakes = atomic_load(&c->host->n_wakes);
        pst_rc rc = k_call_submit_once(c);
        if (rc != PST_BUSY)
            return rc;
        if (k_now_ns() > give_up_ns) {
            k_fail(c->host->test, "expected %s to be accepted after BUSY, got BUSY for 20 seconds",
                   k_slot_name(c->slot));
            c->hung = true;
            return PST_E_INTERNAL;
        }
        if (!c->exec_said_busy && atomic_load(&c->host->n_wakes) == wakes)
            k_pause_ms(1);
    }
}

bool k_call_wait(struct k_call *c, unsigned timeout_ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000u);
    until.tv_nsec += (long)(timeout_ms % 1000u) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    (void)pthread_mutex_lock(&c->mutex);
    int rc = 0;
    while (!c->is_finished && rc == 0)
        rc = pthread_cond_timedwait(&c->cond, &c->mutex, &until);
    bool is_finished = c->is_finished;
    (void)pthread_mutex_unlock(&c->mutex);
    return is_finished;
}

bool k_call_finish(struct k_call *c)
{
    unsigned limit_ms = c->host->test->config->timeout_s * 500u;
    if (k_call_wait(c, limit_ms))
        return true;
    if (!c->hung)
        k_fail(c->host->test, "expected %s to complete, got nothing for %u s", k_slot_name(c->slot),
               limit_ms / 1000u);
    c->hung = true;
    c->rc = K_NOT_ANSWERED;
    return false;
}

pst_rc k_call_run(struct k_call *c)
{
    pst_rc rc = k_call_submit(c);
    if (rc != PST_PENDING)
        return rc;
    return k_call_finish(c) ? c->rc : K_NOT_ANSWERED;
}

void k_call_cancel(struct k_call *c)
{
    if (PST_HAS(pst_backend_ops, c->store->ops, cancel) && c->store->ops->cancel)
        c->store->ops->cancel(c->store->backend, c->op);
}

void k_call_ready(struct k_call *c)
{
    atomic_store(&c->is_parked, false);
    c->store->ops->dst_ready(c->store->backend, c->op);
}

void k_call_bury(struct k_call *c)
{
    k_region_bury(&c->region);
}

/* The end of a call that nobody can be late for any more. */
static void destroy(struct k_call *c)
{
    struct k_copy *copy = c->copies;
    k_region_destroy(&c->region);
    k_region_destroy(&c->data);
    for (size_t i = 0; i < K_HEAPS; i++)
        k_region_destroy(&c->heaps[i]);
    while (copy) {
        struct k_copy *next = copy->next;
        k_free(copy);
        copy = next;
    }
    k_free(c->statuses);
    k_free(c->errors);
    k_free(c);
}

#define FREED_MAX 400u

static void retire(struct k_call *c)
{
    struct k_host *host = c->host;
    struct k_call *oldest = NULL;
    (void)pthread_mutex_lock(&host->mutex);
    c->next_freed = NULL;
    if (host->freed_last)
        host->freed_last->next_freed = c;
    else
        host->freed_first = c;
    host->freed_last = c;
    if (++host->n_freed > FREED_MAX) {
        oldest = host->freed_first;
        host->freed_first = oldest->next_freed;
        host->n_freed--;
        struct k_call **link = bucket_of(host, oldest->op);
        while (*link != oldest)
            link = &(*link)->next_in_bucket;
        *link = oldest->next_in_bucket;
    }
    (void)pthread_mutex_unlock(&host->mutex);
    if (oldest)
        destroy(oldest);
}

void k_call_free(struct k_call *c)
{
    if (atomic_load(&c->state) == K_DONE && c->snapshot) {
        for (size_t i = 0, at = 0; i < c->n_spans; at += c->spans[i].len, i++) {
            if (memcmp(c->snapshot + at, c->spans[i].ptr, c->spans[i].len) != 0) {
                k_fail(c->host->test,
                       "expected nobody to write to the destination of %s after it "
                       "completed, got other bytes there",
                       k_slot_name(c->slot));
                break;
            }
        }
        k_region_bury(&c->data);
    }
    if (atomic_load(&c->state) == K_DONE) {
        for (size_t i = 0; i < K_HEAPS; i++)
            if (c->heaps[i].base)
                k_region_bury(&c->heaps[i]);
        k_region_bury(&c->region);
        k_entries_fini(&c->entries);
    }
    k_free(c->snapshot);
    c->snapshot = NULL;
    if (atomic_load(&c->state) == K_DONE)
        retire(c);
}

bool k_want(struct k_call *c, pst_rc rc, const char *what)
{
    if (c->hung)
        return false;
    if (c->rc == rc)
        return true;
    k_fail(c->host->test, "expected %s: %s, got %s%s%s", what, k_rc_name(rc), k_rc_name(c->rc),
           c->rc < 0 && c->error.message[0] ? ": " : "", c->rc < 0 ? c->error.message : "");
    return false;
}

unsigned char *k_call_bytes(struct k_call *c, uint64_t *n)
{
    uint64_t total = c->out.read.n_read;
    if (total > c->snapshot_len)
        total = c->snapshot_len;
    unsigned char *bytes = k_alloc((size_t)total + 1);
    if (total > 0)
        memcpy(bytes, c->snapshot, (size_t)total);
    *n = total;
    return bytes;
}
