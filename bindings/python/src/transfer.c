/* transfer.c - copying objects through memory, several at a time, without the GIL.
 *
 * The calling thread starts workers, waits, and does what must be done with the GIL: signal handlers and the
 * progress callback. A worker takes one pair after the other; an object travels as parts that a reader hands
 * to a writer without copying them, so memory does not grow with its size. What is written is there whole
 * or not at all.
 *
 * The first failure, the end of the time, Ctrl-C, or an exception in the callback fires one cancel token
 * that all calls hold; workers end within a second and leave nothing behind. Objects that were complete by
 * then stay. */
#include "place.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <penstock/plugin.h>
#include <penstock/reader.h>
#include <penstock/writer.h>

#define LOOK_NS 50000000 /* how often the calling thread looks for signals */
#define TELL_LOOKS 2u    /* ... and after how many looks it tells of progress */
#define WORKERS_MAX 256u

struct pair {
    struct py_place from, to;
};

struct transfer {
    const struct pair *pairs;
    size_t n_pairs;
    const pst_copy_options *options; /* of all, or NULL */
    int keeps_attributes;
    pst_cancel *cancel;
    atomic_size_t n_started, n_done;
    atomic_ullong n_bytes;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct {
        size_t n_running;
        pst_rc rc; /* of the first failure that is no consequence of another */
        size_t failed;
        int is_of_target; /* it is about where the pair goes, not where it comes from */
        pst_error err;
        char etag[1104]; /* of the last object */
    } locked;
};

/* ---- one object ---------------------------------------------------------------------------------- */

/* The attributes that both stores know. */
static pst_rc load_attributes(const struct pair *pair, const pst_call *call, pst_str version,
                              pst_attr **loaded, pst_attr *out, pst_error *err)
{
    const pst_stat_options look = {.struct_size = sizeof(look), .version = version};
    pst_store_info from = {.struct_size = sizeof(from)}, to = {.struct_size = sizeof(to)};
    uint64_t both;
    pst_rc rc;

    memset(out, 0, sizeof(*out));
    out->struct_size = sizeof(*out);
    pst_store_describe(pair->from.store, &from);
    pst_store_describe(pair->to.store, &to);
    both = from.caps & to.caps;
    if (!(both & (PST_CAP_CONTENT_TYPE | PST_CAP_USER_META)))
        return PST_OK;
    rc = pst_stat(pair->from.store, pair->from.key, &look, call, loaded, err);
    if (rc != PST_OK)
        return rc;
    if (both & PST_CAP_CONTENT_TYPE) {
        out->content_type = (*loaded)->content_type;
        out->content_encoding = (*loaded)->content_encoding;
        out->content_language = (*loaded)->content_language;
        out->content_disposition = (*loaded)->content_disposition;
        out->cache_control = (*loaded)->cache_control;
    }
    if (both & PST_CAP_USER_META) {
        out->user_meta = (*loaded)->user_meta;
        out->n_user_meta = (*loaded)->n_user_meta;
    }
    return PST_OK;
}

/* From `reader`, whose first bytes are in `buffer`, to `writer`. Takes over `buffer`. *is_of_target: which
 * of the two failed. */
static pst_rc pump(struct transfer *t, pst_reader *reader, pst_buffer *buffer, pst_writer *writer,
                   int *is_of_target, pst_error *err)
{
    pst_rc rc = PST_OK;

    while (buffer && rc == PST_OK) {
        rc = pst_writer_write_owned(writer, buffer, err);
        if (rc == PST_OK)
            atomic_fetch_add(&t->n_bytes, pst_buffer_size(buffer));
        pst_buffer_unref(buffer);
        buffer = NULL;
        if (rc == PST_OK) {
            rc = pst_reader_next(reader, &buffer, err);
            *is_of_target = rc == PST_OK;
        }
    }
    pst_buffer_unref(buffer);
    return rc;
}

static pst_rc write_rest(struct transfer *t, const struct pair *pair, const pst_attr *attr,
                         pst_reader *reader, pst_buffer *first, const pst_call *call,
                         int *is_of_target, pst_write_result *result, pst_error *err)
{
    pst_write_options options = {.struct_size = sizeof(options), .attr = attr};
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_writer *writer = NULL;
    pst_rc rc;

    pst_reader_info(reader, &info);
    options.size_hint = info.object_size;
    if (t->options) {
        options.flags = t->options->flags;
        options.if_match = t->options->if_match;
    }
    *is_of_target = 1;
    rc = pst_writer_open(pair->to.store, pair->to.key, &options, call, &writer, err);
    if (rc != PST_OK) {
        pst_buffer_unref(first);
        return rc;
    }
    rc = pump(t, reader, first, writer, is_of_target, err);
    if (rc == PST_OK)
        rc = pst_writer_finalize(writer, result, err);
    pst_writer_free(writer);
    return rc;
}

static pst_rc move_one(struct transfer *t, const struct pair *pair, int *is_of_target,
                       pst_write_result *result, pst_error *err)
{
    const pst_call call = {.struct_size = sizeof(call), .cancel = t->cancel};
    pst_read_options options = {.struct_size = sizeof(options)};
    pst_reader *reader = NULL;
    pst_buffer *first = NULL;
    pst_attr *loaded = NULL, attr;
    pst_rc rc;

    if (t->options) {
        options.if_match = t->options->from_if_match;
        options.version = t->options->from_version;
    }
    memset(&attr, 0, sizeof(attr));
    attr.struct_size = sizeof(attr);
    rc = pst_reader_open(pair->from.store, pair->from.key, 0, PST_UNKNOWN, &options, &call, &reader,
                         err);
    if (rc == PST_OK)
        rc = pst_reader_next(reader, &first, err);
    if (rc == PST_OK && t->keeps_attributes)
        rc = load_attributes(pair, &call, options.version, &loaded, &attr, err);
    if (rc == PST_OK) {
        rc = write_rest(t, pair, t->keeps_attributes ? &attr : NULL, reader, first, &call,
                        is_of_target, result, err);
        first = NULL;
    }
    pst_buffer_unref(first);
    pst_attr_free(loaded);
    pst_reader_free(reader);
    return rc;
}

/* ---- workers ------------------------------------------------------------------------------------- */

static void note_end(struct transfer *t, size_t i, pst_rc rc, int is_of_target,
                     const pst_error *err, const pst_write_result *result)
{
    pthread_mutex_lock(&t->mutex);
    if (rc == PST_OK) {
        memcpy(t->locked.etag, result->etag, sizeof(t->locked.etag));
    } else if (t->locked.rc == PST_OK && !pst_cancel_fired(t->cancel)) {
        t->locked.rc = rc;
        t->locked.failed = i;
        t->locked.is_of_target = is_of_target;
        t->locked.err = *err;
        pst_cancel_fire(t->cancel);
    }
    pthread_mutex_unlock(&t->mutex);
    atomic_fetch_add(&t->n_done, rc == PST_OK);
}

static void *run_worker(void *arg)
{
    struct transfer *t = arg;

    for (;;) {
        pst_write_result result = {.struct_size = sizeof(result)};
        pst_error err = PST_ERROR_INIT;
        size_t i = atomic_fetch_add(&t->n_started, 1);
        if (i >= t->n_pairs || pst_cancel_fired(t->cancel))
            break;
        int is_of_target = 0;
        pst_rc rc = move_one(t, &t->pairs[i], &is_of_target, &result, &err);
        note_end(t, i, rc, is_of_target, &err, &result);
    }
    pthread_mutex_lock(&t->mutex);
    t->locked.n_running--;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

/* Signals are for Python's threads. Returns how many threads there are. */
static size_t start_workers(struct transfer *t, size_t n, pthread_t *threads)
{
    sigset_t all, before;
    size_t n_threads = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    t->locked.n_running = n; /* nobody else looks yet */
    while (n_threads < n && pthread_create(&threads[n_threads], NULL, run_worker, t) == 0)
        n_threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_mutex_lock(&t->mutex);
    t->locked.n_running -= n - n_threads;
    pthread_mutex_unlock(&t->mutex);
    return n_threads;
}

/* ---- waiting ------------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int has_ended(struct transfer *t)
{
    uint64_t until_ns = now_ns() + LOOK_NS;
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                             .tv_nsec = (long)(until_ns % 1000000000u)};
    int error = 0;
    pthread_mutex_lock(&t->mutex);
    while (t->locked.n_running > 0 && error != ETIMEDOUT)
        error = pthread_cond_timedwait(&t->changed, &t->mutex, &until);
    int is_over = t->locked.n_running == 0;
    pthread_mutex_unlock(&t->mutex);
    return is_over;
}

static int tell_progress(struct transfer *t, PyObject *progress)
{
    PyObject *result;

    if (!progress || progress == Py_None)
        return 0;
    result = PyObject_CallFunction(progress, "nK", (Py_ssize_t)atomic_load(&t->n_done),
                                   (unsigned long long)atomic_load(&t->n_bytes));
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* 1 when all workers have ended. *must_end: the call is to stop, an exception may be set. */
static int look(struct transfer *t, int *must_end)
{
    struct py_call call;
    int is_over;

    if (py_call_begin(&call, -1) < 0) {
        PyThreadState *save = PyEval_SaveThread();
        is_over = has_ended(t);
        PyEval_RestoreThread(save);
        *must_end = 1;
        return is_over;
    }
    is_over = has_ended(t);
    /* Fired by what lets an event loop end the calls of its threads. */
    *must_end = call.limits.cancel && pst_cancel_fired(call.limits.cancel);
    if (py_call_end(&call) < 0)
        *must_end = 1;
    return is_over;
}

/* What the call fails with, unless a worker failed first. */
static void note_failure(struct transfer *t, pst_rc rc, const char *why)
{
    pthread_mutex_lock(&t->mutex);
    if (t->locked.rc == PST_OK) {
        t->locked.rc = rc;
        t->locked.failed = t->n_pairs;
        t->locked.err = (pst_error)PST_ERROR_INIT;
        t->locked.err.code = rc;
        PyOS_snprintf(t->locked.err.message, sizeof(t->locked.err.message),
                      "%s when %zu of %zu objects had been copied", why, atomic_load(&t->n_done),
                      t->n_pairs);
    }
    pthread_mutex_unlock(&t->mutex);
    pst_cancel_fire(t->cancel);
}

/* Until all workers have ended. Leaves an exception that a handler or the callback raised. */
static void wait_for_workers(struct transfer *t, double timeout_s, PyObject *progress)
{
    uint64_t start_ns = now_ns();
    int is_ending = 0, must_end = 0;

    for (unsigned n_looks = 1; !look(t, &must_end); n_looks++) {
        if (is_ending)
            continue;
        is_ending = 1;
        if (must_end)
            note_failure(t, PST_E_CANCELLED, "cancelled");
        else if (timeout_s >= 0 && (double)(now_ns() - start_ns) > timeout_s * 1e9)
            note_failure(t, PST_E_DEADLINE, "the time was over");
        else if (PyErr_CheckSignals() < 0 ||
                 (n_looks % TELL_LOOKS == 0 && tell_progress(t, progress) < 0))
            note_failure(t, PST_E_CANCELLED, "interrupted");
        else
            is_ending = 0;
    }
}

static int init_transfer(struct transfer *t, const struct pair *pairs, size_t n_pairs)
{
    pthread_condattr_t attr;

    memset(t, 0, sizeof(*t));
    if (pst_cancel_new(&t->cancel) != PST_OK) {
        PyErr_NoMemory();
        return -1;
    }
    t->pairs = pairs;
    t->n_pairs = n_pairs;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &attr);
    pthread_condattr_destroy(&attr);
    return 0;
}

static void fini_transfer(struct transfer *t)
{
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->mutex);
    pst_cancel_free(t->cancel);
}

/* Do it all. -1 with an exception set. */
static int run_transfer(struct transfer *t, size_t n_workers, double timeout_s, PyObject *progress)
{
    pthread_t threads[WORKERS_MAX];
    PyThreadState *save;
    size_t n_threads;

    if (n_workers > t->n_pairs)
        n_workers = t->n_pairs;
    if (n_workers > WORKERS_MAX)
        n_workers = WORKERS_MAX;
    n_threads = start_workers(t, n_workers, threads);
    if (n_threads > 0)
        wait_for_workers(t, timeout_s, progress);
    save = PyEval_SaveThread();
    for (size_t i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    PyEval_RestoreThread(save);
    if (PyErr_Occurred())
        return -1;
    if (n_threads == 0 && t->n_pairs > 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot start a thread");
        return -1;
    }
    if (t->locked.rc == PST_OK)
        return tell_progress(t, progress);
    if (t->locked.failed < t->n_pairs) {
        const struct pair *pair = &t->pairs[t->locked.failed];
        py_place_fail(t->locked.is_of_target ? &pair->to : &pair->from, t->locked.rc,
                      &t->locked.err);
    } else {
        py_raise(t->locked.rc, &t->locked.err, NULL);
    }
    return -1;
}

int py_transfer_one(const struct py_place *from, const struct py_place *to,
                    const pst_copy_options *options, double timeout_s, PyObject **etag)
{
    const struct pair pair = {.from = *from, .to = *to};
    struct transfer t;
    int result;

    if (init_transfer(&t, &pair, 1) < 0)
        return -1;
    t.options = options;
    t.keeps_attributes = 1;
    result = run_transfer(&t, 1, timeout_s, NULL);
    if (result == 0) {
        *etag = t.locked.etag[0] ? py_str_of_chars(t.locked.etag) : Py_NewRef(Py_None);
        result = *etag ? 0 : -1;
    }
    fini_transfer(&t);
    return result;
}

/* ---- many ---------------------------------------------------------------------------------------- */

static void clear_pairs(struct pair *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        py_place_clear(&pairs[i].from);
        py_place_clear(&pairs[i].to);
    }
    free(pairs);
}

static int take_pair(PyObject *value, PyObject *source, PyObject *target, struct pair *out)
{
    PyObject *pair = PySequence_Tuple(value);
    int result = -1;

    if (pair && PyTuple_Size(pair) != 2)
        PyErr_SetString(PyExc_ValueError, "each pair must have two elements");
    else if (pair && py_place_take(source, PyTuple_GetItem(pair, 0), &out->from) == 0)
        result = py_place_take(target, PyTuple_GetItem(pair, 1), &out->to);
    Py_XDECREF(pair);
    return result;
}

static struct pair *take_pairs(PyObject *list, PyObject *source, PyObject *target, size_t *n)
{
    size_t n_pairs = (size_t)PyList_Size(list);
    struct pair *pairs = calloc(n_pairs + 1, sizeof(*pairs));

    if (!pairs) {
        PyErr_NoMemory();
        return NULL;
    }
    for (size_t i = 0; i < n_pairs; i++) {
        if (take_pair(PyList_GetItem(list, (Py_ssize_t)i), source, target, &pairs[i]) < 0) {
            clear_pairs(pairs, i + 1);
            return NULL;
        }
    }
    *n = n_pairs;
    return pairs;
}

/* None stands for the module: then the pair has URIs. */
static int choose_side(PyObject *module, PyObject **side, const char *what)
{
    if (!*side || *side == Py_None) {
        *side = module;
    } else if (!PyObject_TypeCheck(*side, py_module.store)) {
        PyErr_Format(PyExc_TypeError, "%s must be a Store or None, not %R", what, Py_TYPE(*side));
        return -1;
    }
    return 0;
}

PyObject *py_transfer(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pairs",    "max_in_flight", "source", "target",
                            "progress", "timeout",       NULL};
    PyObject *value, *many = Py_None, *source = NULL, *target = NULL, *progress = NULL;
    PyObject *timeout = Py_None, *list, *result = NULL;
    uint64_t max_in_flight;
    struct pair *pairs;
    struct transfer t;
    double timeout_s;
    size_t n = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$OOOO:transfer", names, &value, &many,
                                     &source, &target, &progress, &timeout) ||
        py_u64_take(many, "max_in_flight", 32, &max_in_flight) < 0 ||
        py_timeout_take(timeout, &timeout_s) < 0 || choose_side(module, &source, "source") < 0 ||
        choose_side(module, &target, "target") < 0)
        return NULL;
    if (max_in_flight == 0) {
        PyErr_SetString(PyExc_ValueError, "max_in_flight must be above 0");
        return NULL;
    }
    if (progress && progress != Py_None && !PyCallable_Check(progress)) {
        PyErr_SetString(PyExc_TypeError, "progress must be a callable or None");
        return NULL;
    }
    list = PySequence_List(value);
    pairs = list ? take_pairs(list, source, target, &n) : NULL;
    Py_XDECREF(list);
    if (!pairs)
        return NULL;
    if (init_transfer(&t, pairs, n) == 0) {
        if (run_transfer(&t, max_in_flight < WORKERS_MAX ? (size_t)max_in_flight : WORKERS_MAX,
                         timeout_s, progress) == 0)
            result = PyLong_FromUnsignedLongLong(atomic_load(&t.n_bytes));
        fini_transfer(&t);
    }
    clear_pairs(pairs, n);
    return result;
}
