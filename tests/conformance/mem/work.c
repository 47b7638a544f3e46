/* work.c - a queue of jobs and two threads, and what every operation needs.
 *
 * A submit function puts a job, which lives in the operation's scratch, into the store's queue and answers
 * PENDING; a thread takes it, runs the blocking function, calls wake if somebody was sent away, and
 * completes the operation as the last thing it does with it. A read that must wait for memory is parked
 * until dst_ready puts it into the queue again. */
#include "mem.h"

#include <signal.h>
#include <stdio.h>

pst_rc mem_fail(pst_op *op, pst_rc rc, pst_str key, const char *why)
{
    char text[300];
    size_t n = 0;
    for (size_t i = 0; i < key.len && n + 2 < sizeof(text); i++) {
        unsigned char c = (unsigned char)key.ptr[i];
        text[n++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    text[n] = '\0';
    op->err->code = rc;
    (void)snprintf(op->err->message, sizeof(op->err->message), "mem: %s: %s", text, why);
    return rc;
}

static void run_job(pst_backend *b, struct job *job)
{
    pst_op *op = job->op;
    const pst_host *host = op->host;
    pst_rc rc;
    for (;;) {
        rc = atomic_load(&job->is_cancelled) ? (pst_rc)PST_E_CANCELLED
                                             : job->run(job->object, op, job->args, job->result);
        if (rc != PST_LATER)
            break;
        unsigned expected = RUNNING;
        if (atomic_compare_exchange_strong(&job->state, &expected, PARKED))
            return;
        atomic_store(&job->state, RUNNING);
    }
    (void)pthread_mutex_lock(&b->mutex);
    b->locked.n_inflight--;
    int owes_wake = b->locked.owes_wake;
    b->locked.owes_wake = 0;
    (void)pthread_mutex_unlock(&b->mutex);
    if (owes_wake)
        host->wake(host, b);
    host->complete(host, op, rc);
}

static void *serve(void *arg)
{
    pst_backend *b = arg;
    (void)pthread_mutex_lock(&b->mutex);
    for (;;) {
        while (!b->locked.first && !b->locked.is_closing)
            (void)pthread_cond_wait(&b->cond, &b->mutex);
        struct job *job = b->locked.first;
        if (!job)
            break;
        b->locked.first = job->next;
        if (!b->locked.first)
            b->locked.last = &b->locked.first;
        (void)pthread_mutex_unlock(&b->mutex);
        run_job(b, job);
        (void)pthread_mutex_lock(&b->mutex);
    }
    (void)pthread_mutex_unlock(&b->mutex);
    return NULL;
}

static void queue_locked(pst_backend *b, struct job *job)
{
    job->next = NULL;
    *b->locked.last = job;
    b->locked.last = &job->next;
    (void)pthread_cond_signal(&b->cond);
}

pst_rc mem_submit(pst_backend *b, void *object, pst_op *op, const void *args, void *result,
                  pst_rc (*run)(void *, pst_op *, const void *, void *))
{
    pst_rc rc = PST_PENDING;
    (void)pthread_mutex_lock(&b->mutex);
    if (b->locked.n_inflight >= INFLIGHT_MAX) {
        b->locked.owes_wake = 1;
        rc = PST_BUSY;
    } else {
        struct job *job = op->scratch;
        job->run = run;
        job->object = object;
        job->op = op;
        job->args = args;
        job->result = result;
        b->locked.n_inflight++;
        queue_locked(b, job);
    }
    (void)pthread_mutex_unlock(&b->mutex);
    return rc;
}

void mem_cancel(pst_backend *b, pst_op *op)
{
    struct job *job = op->scratch;
    (void)b;
    atomic_store(&job->is_cancelled, 1);
}

void mem_dst_ready(pst_backend *b, pst_op *op)
{
    struct job *job = op->scratch;
    if (atomic_exchange(&job->state, READY) != PARKED)
        return;
    atomic_store(&job->state, RUNNING);
    (void)pthread_mutex_lock(&b->mutex);
    queue_locked(b, job);
    (void)pthread_mutex_unlock(&b->mutex);
}

/* ---- what operations need ----------------------------------------------------------------------- */

int mem_op_dup(pst_op *op, pst_str s, pst_str *out)
{
    if (s.len == 0)
        return 0;
    char *p = op->host->op_alloc(op->host, op, s.len);
    if (!p)
        return -1;
    memcpy(p, s.ptr, s.len);
    *out = pst_str_of(p, s.len);
    return 0;
}

int mem_tell_etag(pst_op *op, const struct object *o, pst_str *etag, uint32_t *strength)
{
    char *buf = op->host->op_alloc(op->host, op, ETAG_SIZE);
    if (!buf)
        return -1;
    *etag = mem_etag(o, buf);
    *strength = PST_ETAG_STRONG;
    return 0;
}

int mem_tell_version(const pst_backend *b, pst_op *op, const struct object *o, pst_str *version)
{
    char *buf = NULL;
    if (b->n_kept == 0)
        return 0;
    buf = op->host->op_alloc(op->host, op, ETAG_SIZE);
    if (!buf)
        return -1;
    *version = mem_version(o, buf);
    return 0;
}

pst_rc mem_check(pst_backend *b, pst_op *op, pst_str key)
{
    if (key.len == 0)
        return mem_fail(op, PST_E_INVALID, key, "a key cannot be empty");
    if (key.len > KEY_MAX)
        return mem_fail(op, PST_E_INVALID, key, "a key has at most 1024 bytes");
    if (atomic_load(&b->bucket->is_there))
        return PST_OK;
    op->err->flags |= PST_ERR_NO_CONTAINER;
    return mem_fail(op, PST_E_NOT_FOUND, key, "no such bucket");
}

struct object *mem_find_ref(pst_backend *b, pst_str key, pst_str version)
{
    (void)pthread_mutex_lock(&mem_process.mutex);
    struct object *o = version.len > 0 ? mem_find_version(b->bucket, key, version)
                                       : mem_find(b->bucket, key);
    if (o && !o->is_marker)
        (void)mem_object_ref(o);
    else
        o = NULL;
    (void)pthread_mutex_unlock(&mem_process.mutex);
    return o;
}

/* ---- threads ------------------------------------------------------------------------------------ */

/* Threads of ours take no signal that is meant for the application. */
int mem_start_threads(pst_backend *b)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (b->n_threads < N_THREADS &&
           pthread_create(&b->threads[b->n_threads], NULL, serve, b) == 0)
        b->n_threads++;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return b->n_threads > 0 ? 0 : -1;
}

void mem_join_threads(pst_backend *b)
{
    (void)pthread_mutex_lock(&b->mutex);
    b->locked.is_closing = 1;
    (void)pthread_cond_broadcast(&b->cond);
    (void)pthread_mutex_unlock(&b->mutex);
    for (unsigned i = 0; i < b->n_threads; i++)
        (void)pthread_join(b->threads[i], NULL);
}
