/* cred.c - asks the application for credentials, once for all who need them.
 *
 * Plugins ask for the store of an operation. What the application answered last is given at once, as a
 * copy in memory of the operation, as long as it has not expired and nobody has said that the provider
 * refused it. Else the operation waits. The application's function may block, so one thread does nothing
 * but call it, for one store after the other; a store stands in that line once, however many operations
 * wait (single flight). A last part of the lifetime before the end the application is asked again, and
 * meanwhile the old answer is still given.
 *
 * Whoever waits has a timer on the reactor. It is armed for the timeout; an answer, a failure or a cancel
 * takes it back and arms it for now. So the plugin's function is called exactly once, always on the
 * reactor's thread, with no lock held, and under a reference to the port (contract 4 and 17).
 *
 * Failing: an answer that comes too late for those who waited is kept for those to come. A failure is
 * handed to those who wait and not kept: the next one asks again. While an old answer is still good, a
 * failure is only logged, and the next attempt is ten seconds away. Values are wiped where they are freed
 * and never logged. */
#include "core/cred.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/error.h"
#include "core/fault.h"
#include "core/log.h"
#include "core/port.h"
#include "core/stack.h"
#include "util/chunk.h"

#define TIMEOUT_MS 60000u
#define SECOND_NS INT64_C(1000000000)
#define MARGIN_NS (300 * SECOND_NS) /* asked again so long before the end, or a fifth of the time */
#define NEXT_TRY_NS (10 * SECOND_NS)      /* after a failure, as long as an old answer is good */
#define NAME_MAX_BYTES ((size_t)256)      /* of what the application adds ... */
#define VALUE_MAX_BYTES ((size_t)1 << 16) /* ... a session token may be long */

/* What the application said. Counted under the mutex once it is handed over. */
struct pst_credentials_answer {
    unsigned refs;
    pst_kv *kv; /* texts are of malloc */
    size_t n;
    size_t n_bytes; /* of all texts */
    int64_t expires_unix_ns;
    uint64_t generation;
};

/* An operation that waits, in memory of its own. */
struct waiter {
    struct waiter *next;
    struct pst_task *task;
    void (*fn)(void *ctx, pst_rc, const pst_credentials *, const pst_error *);
    void *ctx;
    struct pst_timer timer;
    int is_settled; /* else the timer fires for the timeout */
    pst_rc rc;
    struct pst_credentials_answer *answer; /* with PST_OK */
    pst_error error;
};

struct pst_cred_store {
    struct pst_cred *cred;
    char *uri;
    unsigned refs; /* all from here on under cred->mutex: the port, the line and the thread */
    struct pst_credentials_answer *current;
    uint64_t generation;
    int64_t refresh_unix_ns; /* when the application is asked although `current` is good */
    int is_asked;            /* it stands in the line, or the application is at it */
    struct waiter *waiters;
    struct pst_cred_store *next; /* in the line */
};

struct pst_cred {
    pst_credentials_fn fn;
    void *arg;
    uint32_t timeout_ms;
    struct pst_reactor *reactor; /* not after is_ending */
    struct pst_log *log;
    pthread_t thread; /* if has_thread */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct {
        unsigned refs;                      /* the core, the thread */
        int has_thread, is_ending, is_gone; /* is_gone: the thread, all but its end */
        struct pst_cred_store *line, **line_end;
    } locked;
};

static int64_t unix_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * SECOND_NS + now.tv_nsec;
}

/* ---- answers ----------------------------------------------------------------------------------- */

static void free_text(pst_str text)
{
    union {
        const char *borrowed;
        char *owned;
    } at = {.borrowed = text.ptr};
    if (at.owned)
        explicit_bzero(at.owned, text.len);
    free(at.owned);
}

static void unref_answer(struct pst_credentials_answer *answer)
{
    if (!answer || --answer->refs > 0)
        return;
    for (size_t i = 0; i < answer->n; i++) {
        free_text(answer->kv[i].key);
        free_text(answer->kv[i].value);
    }
    free(answer->kv);
    free(answer);
}

static struct pst_credentials_answer *new_answer(void)
{
    struct pst_credentials_answer *answer = calloc(1, sizeof(*answer));
    if (answer) {
        answer->refs = 1;
        answer->expires_unix_ns = PST_TIME_UNKNOWN;
    }
    return answer;
}

static pst_str dup_text(pst_str text)
{
    char *copy = malloc(text.len + 1);
    if (copy && text.len > 0)
        memcpy(copy, text.ptr, text.len);
    return pst_str_of(copy, text.len);
}

pst_rc pst_credentials_add(pst_credentials_answer *answer, pst_str name, pst_str value)
{
    if (name.len == 0 || name.len > NAME_MAX_BYTES || value.len > VALUE_MAX_BYTES)
        return PST_E_INVALID;
    pst_kv *kv = reallocarray(answer->kv, answer->n + 1, sizeof(*kv));
    if (!kv)
        return PST_E_NO_MEMORY;
    answer->kv = kv;
    kv[answer->n] = (pst_kv){dup_text(name), dup_text(value)};
    if (!kv[answer->n].key.ptr || !kv[answer->n].value.ptr) {
        free_text(kv[answer->n].key);
        free_text(kv[answer->n].value);
        return PST_E_NO_MEMORY;
    }
    answer->n++;
    answer->n_bytes += name.len + value.len;
    return PST_OK;
}

void pst_credentials_expire(pst_credentials_answer *answer, int64_t expires_unix_ns)
{
    answer->expires_unix_ns = expires_unix_ns;
}

static int is_good(const struct pst_credentials_answer *answer, int64_t now_ns)
{
    return answer->expires_unix_ns == PST_TIME_UNKNOWN || answer->expires_unix_ns > now_ns;
}

/* Copy into memory of the operation, as far as the plugin's struct reaches. Several threads may ask for
 * one operation, and answers come on the reactor's while the plugin is in op_alloc: so it is memory of
 * its own, and under the mutex. */
static pst_rc give(struct pst_task *task, const struct pst_credentials_answer *answer,
                   pst_credentials *out)
{
    pst_kv *kv = pst_chunk_alloc(&task->secrets, answer->n * sizeof(*kv) + answer->n_bytes + 1);
    if (!kv)
        return PST_E_NO_MEMORY;
    char *at = (char *)(kv + answer->n);
    for (size_t i = 0; i < answer->n; i++) {
        const pst_str from[2] = {answer->kv[i].key, answer->kv[i].value};
        pst_str *to[2] = {&kv[i].key, &kv[i].value};
        for (int k = 0; k < 2; k++) {
            memcpy(at, from[k].ptr, from[k].len);
            *to[k] = pst_str_of(at, from[k].len);
            at += from[k].len;
        }
    }
    if (PST_HAS(pst_credentials, out, n_kv)) {
        out->kv = kv;
        out->n_kv = answer->n;
    }
    if (PST_HAS(pst_credentials, out, expires_unix_ns))
        out->expires_unix_ns = answer->expires_unix_ns;
    if (PST_HAS(pst_credentials, out, generation))
        out->generation = answer->generation;
    return PST_OK;
}

/* ---- waiting ----------------------------------------------------------------------------------- */

static void leave_locked(struct pst_cred_store *store, const struct waiter *waiter)
{
    struct waiter **at = &store->waiters;
    while (*at != waiter)
        at = &(*at)->next;
    *at = waiter->next;
}

/* The reactor: tell the plugin. Its function may end the operation, and the waiter with it. */
static void run_deliver(void *arg)
{
    struct waiter *waiter = arg;
    struct pst_task *task = waiter->task;
    struct pst_port *port = pst_port_ref(task->port);
    struct pst_cred_store *store = port->cred;
    struct pst_cred *cred = store->cred;
    pst_credentials given = {.struct_size = sizeof(given)};
    pst_error error = PST_ERROR_INIT;
    pthread_mutex_lock(&cred->mutex);
    leave_locked(store, waiter);
    pst_rc rc = waiter->rc;
    if (!waiter->is_settled)
        rc = pst_fail(&waiter->error, PST_E_DEADLINE,
                      "the application gave no credentials for %s within %u ms", store->uri,
                      cred->timeout_ms);
    else if (rc == PST_OK && (rc = give(task, waiter->answer, &given)) != PST_OK)
        pst_fail(&waiter->error, rc, "out of memory");
    unref_answer(waiter->answer);
    if (rc != PST_OK)
        pst_error_copy(&error, &waiter->error);
    pthread_mutex_unlock(&cred->mutex);
    pst_stack_enter();
    waiter->fn(waiter->ctx, rc, rc == PST_OK ? &given : NULL, rc == PST_OK ? NULL : &error);
    pst_stack_leave();
    pst_port_unref(port);
}

/* Call the plugin soon, with the answer, or else an error; not if that is under way already. */
static void settle_locked(struct pst_cred *cred, struct waiter *waiter, pst_rc rc,
                          struct pst_credentials_answer *answer, const pst_error *error)
{
    if (waiter->is_settled || !pst_reactor_disarm(cred->reactor, &waiter->timer))
        return;
    waiter->is_settled = 1;
    waiter->rc = rc;
    if (answer) {
        waiter->answer = answer;
        answer->refs++;
    } else {
        pst_error_copy(&waiter->error, error);
    }
    pst_reactor_arm(cred->reactor, &waiter->timer, 0);
}

static void cancel_locked(struct pst_cred_store *store, struct pst_task *task)
{
    pst_error error = PST_ERROR_INIT;
    if (PST_FAULT(LOSE_CRED_CANCEL))
        return;
    pst_rc code = atomic_load(&task->cancel_code);
    pst_fail(&error, code, "%s", pst_rc_text(code));
    for (struct waiter *waiter = store->waiters; waiter; waiter = waiter->next) {
        if (waiter->task == task)
            settle_locked(store->cred, waiter, code, NULL, &error);
    }
}

void pst_cred_cancel(struct pst_task *task)
{
    struct pst_cred_store *store = task->port->cred;
    if (!store)
        return;
    pthread_mutex_lock(&store->cred->mutex);
    cancel_locked(store, task);
    pthread_mutex_unlock(&store->cred->mutex);
}

/* ---- asking ------------------------------------------------------------------------------------ */

static void unref_store_locked(struct pst_cred_store *store)
{
    if (--store->refs > 0)
        return;
    unref_answer(store->current);
    free(store->uri);
    free(store);
}

/* Drop a reference; unlocks. */
static void unref_unlock(struct pst_cred *cred)
{
    int is_last = --cred->locked.refs == 0;
    struct pst_cred_store *line = is_last ? cred->locked.line : NULL;
    while (line) {
        struct pst_cred_store *next = line->next;
        unref_store_locked(line);
        line = next;
    }
    pthread_mutex_unlock(&cred->mutex);
    if (!is_last)
        return;
    pthread_cond_destroy(&cred->changed);
    pthread_mutex_destroy(&cred->mutex);
    free(cred);
}

static void keep_answer_locked(struct pst_cred_store *store, struct pst_credentials_answer *answer,
                               int64_t now_ns)
{
    answer->generation = ++store->generation;
    answer->refs++;
    unref_answer(store->current);
    store->current = answer;
    store->refresh_unix_ns = INT64_MAX;
    if (answer->expires_unix_ns != PST_TIME_UNKNOWN) {
        int64_t fifth_ns = (answer->expires_unix_ns - now_ns) / 5;
        store->refresh_unix_ns = answer->expires_unix_ns -
                                 (fifth_ns < MARGIN_NS ? fifth_ns : MARGIN_NS);
    }
}

/* Take what the application's function brought, and tell those who wait. */
static void take_locked(struct pst_cred_store *store, pst_rc rc,
                        struct pst_credentials_answer *answer, const pst_error *error)
{
    struct pst_cred *cred = store->cred;
    int64_t now_ns = unix_now_ns();
    store->is_asked = 0;
    if (rc == PST_OK)
        keep_answer_locked(store, answer, now_ns);
    else
        store->refresh_unix_ns = now_ns + NEXT_TRY_NS;
    for (struct waiter *waiter = store->waiters; waiter; waiter = waiter->next)
        settle_locked(cred, waiter, rc, rc == PST_OK ? answer : NULL, error);
}

/* Call the application, with no lock held. */
static pst_rc call(struct pst_cred *cred, const char *uri, struct pst_credentials_answer **answer,
                   pst_error *error)
{
    pst_error own = PST_ERROR_INIT;
    *answer = new_answer();
    if (!*answer)
        return pst_fail(error, PST_E_NO_MEMORY, "out of memory");
    pst_rc rc = cred->fn(cred->arg, uri, *answer, &own);
    if (rc == PST_OK && !is_good(*answer, unix_now_ns()))
        return pst_fail(error, PST_E_UNAUTHENTICATED,
                        "the application gave credentials for %s that have expired", uri);
    if (rc == PST_OK)
        return rc;
    if (rc > 0)
        rc = PST_E_INTERNAL;
    pst_error_copy(error, &own);
    return pst_fail(error, rc, "the application gave no credentials for %s: %s", uri,
                    own.message[0] ? own.message : pst_rc_text(rc));
}

static void *run_thread(void *arg)
{
    struct pst_cred *cred = arg;
    pthread_mutex_lock(&cred->mutex);
    while (!cred->locked.is_ending) {
        struct pst_cred_store *store = cred->locked.line;
        if (!store) {
            pthread_cond_wait(&cred->changed, &cred->mutex);
            continue;
        }
        cred->locked.line = store->next;
        if (!store->next)
            cred->locked.line_end = &cred->locked.line;
        pthread_mutex_unlock(&cred->mutex);
        struct pst_credentials_answer *answer = NULL;
        pst_error error = PST_ERROR_INIT;
        pst_rc rc = call(cred, store->uri, &answer, &error);
        pthread_mutex_lock(&cred->mutex);
        if (!cred->locked.is_ending) {
            if (rc != PST_OK)
                pst_logf(cred->log, PST_LEVEL_WARN, "%s", error.message);
            take_locked(store, rc, answer, &error);
        }
        unref_answer(answer);
        unref_store_locked(store);
    }
    cred->locked.is_gone = 1;
    pthread_cond_broadcast(&cred->changed);
    unref_unlock(cred);
    return NULL;
}

/* Put the store into the line, unless it is there. Returns 0 if there is no thread to be had. */
static int ask_locked(struct pst_cred_store *store)
{
    struct pst_cred *cred = store->cred;
    if (store->is_asked)
        return 1;
    if (!cred->locked.has_thread) {
        if (pthread_create(&cred->thread, NULL, run_thread, cred) != 0)
            return 0;
        cred->locked.has_thread = 1;
        cred->locked.refs++;
    }
    store->is_asked = 1;
    store->refs++;
    store->next = NULL;
    *cred->locked.line_end = store;
    cred->locked.line_end = &store->next;
    pthread_cond_broadcast(&cred->changed);
    return 1;
}

static pst_rc wait_locked(struct pst_cred_store *store, struct pst_task *task,
                          void (*fn)(void *, pst_rc, const pst_credentials *, const pst_error *),
                          void *ctx)
{
    struct pst_cred *cred = store->cred;
    struct waiter *waiter = pst_chunk_alloc(&task->secrets, sizeof(*waiter));
    if (!waiter || !ask_locked(store))
        return PST_E_NO_MEMORY;
    *waiter = (struct waiter){.next = store->waiters, .task = task, .fn = fn, .ctx = ctx};
    waiter->error.struct_size = sizeof(waiter->error);
    waiter->timer = (struct pst_timer){.fn = run_deliver, .arg = waiter};
    store->waiters = waiter;
    pst_reactor_arm(cred->reactor, &waiter->timer,
                    pst_now_ns() + (uint64_t)cred->timeout_ms * 1000000u);
    if (atomic_load(&task->is_cancelled))
        cancel_locked(store, task); /* it came before there was a waiter to be found */
    return PST_PENDING;
}

static pst_rc get(const pst_host *host, pst_op *op, uint64_t refused, pst_credentials *out,
                  void (*fn)(void *, pst_rc, const pst_credentials *, const pst_error *), void *ctx)
{
    struct pst_task *task = op->host_private;
    struct pst_cred_store *store = task->port->cred;
    int64_t now_ns = unix_now_ns();
    pst_rc rc;
    (void)host;
    pst_stack_host_call_begin();
    pthread_mutex_lock(&store->cred->mutex);
    struct pst_credentials_answer *current = store->current;
    int is_refused = current && refused >= current->generation && !PST_FAULT(KEEP_REFUSED);
    if (current && (is_refused || !is_good(current, now_ns) || PST_FAULT(FORGET_ANSWER))) {
        unref_answer(current);
        current = store->current = NULL;
    }
    if (current) {
        rc = give(task, current, out);
        if (now_ns >= store->refresh_unix_ns)
            (void)ask_locked(store);
    } else {
        rc = wait_locked(store, task, fn, ctx);
    }
    /* From here on the plugin's function may run, and end the operation: nothing of it is touched. */
    pthread_mutex_unlock(&store->cred->mutex);
    pst_stack_host_call_end();
    return rc;
}

const pst_cred_1 pst_cred_service = {.struct_size = sizeof(pst_cred_1), .get = get};

/* ---- beginning and end ------------------------------------------------------------------------- */

struct pst_cred *pst_cred_new(const pst_context_options *config, struct pst_reactor *reactor,
                              struct pst_log *log)
{
    pthread_condattr_t attr;
    struct pst_cred *cred = calloc(1, sizeof(*cred));
    if (!cred)
        return NULL;
    cred->fn = config->credentials;
    cred->arg = config->credentials_arg;
    cred->timeout_ms = config->credentials_timeout_ms ? config->credentials_timeout_ms : TIMEOUT_MS;
    cred->reactor = reactor;
    cred->log = log;
    cred->locked.refs = 1;
    cred->locked.line_end = &cred->locked.line;
    pthread_mutex_init(&cred->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&cred->changed, &attr);
    pthread_condattr_destroy(&attr);
    return cred;
}

void pst_cred_free(struct pst_cred *cred, uint64_t deadline_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                   .tv_nsec = (long)(deadline_ns % 1000000000u)};
    if (!cred)
        return;
    pthread_mutex_lock(&cred->mutex);
    cred->locked.is_ending = 1;
    pthread_cond_broadcast(&cred->changed);
    while (cred->locked.has_thread && !cred->locked.is_gone &&
           pthread_cond_timedwait(&cred->changed, &cred->mutex, &until) != ETIMEDOUT)
        ;
    pthread_t thread = cred->thread;
    int must_join = cred->locked.has_thread && cred->locked.is_gone;
    int must_detach = cred->locked.has_thread && !cred->locked.is_gone;
    unref_unlock(cred);
    if (must_join)
        pthread_join(thread, NULL);
    else if (must_detach)
        pthread_detach(thread);
}

uint32_t pst_cred_threads(struct pst_cred *cred)
{
    if (!cred)
        return 0;
    pthread_mutex_lock(&cred->mutex);
    uint32_t n = cred->locked.has_thread ? 1 : 0;
    pthread_mutex_unlock(&cred->mutex);
    return n;
}

struct pst_cred_store *pst_cred_store_new(struct pst_cred *cred, const char *uri)
{
    struct pst_cred_store *store = calloc(1, sizeof(*store));
    if (!store || !(store->uri = strdup(uri))) {
        free(store);
        return NULL;
    }
    store->cred = cred;
    store->refs = 1;
    return store;
}

void pst_cred_store_free(struct pst_cred_store *store)
{
    if (!store)
        return;
    struct pst_cred *cred = store->cred;
    pthread_mutex_lock(&cred->mutex);
    unref_store_locked(store);
    pthread_mutex_unlock(&cred->mutex);
}
