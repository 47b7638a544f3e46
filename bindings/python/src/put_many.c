/* put_many.c - write many objects in one call.
 *
 * Everything is checked and taken before anything is sent. A window of puts is kept in a queue of the call's
 * own. The bytes are read where they lie: a call that ends in peace returns when the engine has let go of
 * them, and after Ctrl-C or the first failure they stay lent until it has (loan.c). What is too long for one
 * request goes afterwards, in parts, one object at a time. */
#include "many.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define IN_FLIGHT 64u
#define EVENTS_MAX 64u
#define RETURN_WAIT_S 1

/* ---- memory on its way --------------------------------------------------------------------------- */

/* How much is with the engine. It may outlive the call, as the last loans may. */
struct tally {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct {
        size_t n_out, refs;
    } locked;
};

/* Memory of one object on its way. */
struct cargo {
    struct py_loan *loan;
    struct tally *tally;
};

struct put {
    struct cargo *cargo; /* until the engine has it */
    pst_iov src;
    uint64_t put_max; /* bytes of one request */
    pst_rc rc;
    pst_error *error;
    int is_tried;
};

struct puts {
    PyObject *given;
    struct py_place *places;
    struct put *all;
    size_t n, next, n_out;
    uint32_t max_in_flight;
    int each_may_fail, is_failed;
    uint64_t timeout_ms, began_ms;
    struct tally *tally;
    pst_cancel *cancel;
    pst_queue *queue;
};

static struct tally *new_tally(void)
{
    pthread_condattr_t attr;
    struct tally *tally = calloc(1, sizeof(*tally));
    if (!tally) {
        PyErr_NoMemory();
        return NULL;
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&tally->mutex, NULL);
    pthread_cond_init(&tally->changed, &attr);
    pthread_condattr_destroy(&attr);
    tally->locked.refs = 1;
    return tally;
}

static void drop_tally(struct tally *tally)
{
    if (!tally)
        return;
    pthread_mutex_lock(&tally->mutex);
    size_t left = --tally->locked.refs;
    pthread_mutex_unlock(&tally->mutex);
    if (left > 0)
        return;
    pthread_cond_destroy(&tally->changed);
    pthread_mutex_destroy(&tally->mutex);
    free(tally);
}

/* The engine has let go of it. Any thread, without the GIL. */
static void return_cargo(void *arg)
{
    struct cargo *cargo = arg;
    struct tally *tally = cargo->tally;
    py_loan_release(cargo->loan);
    free(cargo);
    pthread_mutex_lock(&tally->mutex);
    if (--tally->locked.n_out == 0)
        pthread_cond_signal(&tally->changed);
    pthread_mutex_unlock(&tally->mutex);
    drop_tally(tally);
}

/* A put tells its end before the engine has let go of the memory; who put it shall not have to wonder. */
static void wait_for_cargo(struct tally *tally)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += RETURN_WAIT_S;
    pthread_mutex_lock(&tally->mutex);
    while (tally->locked.n_out > 0 &&
           pthread_cond_timedwait(&tally->changed, &tally->mutex, &until) == 0)
        ;
    pthread_mutex_unlock(&tally->mutex);
}

/* `n` more are with the engine, or not after all. */
static void count_cargo(struct tally *tally, size_t n, int is_out)
{
    pthread_mutex_lock(&tally->mutex);
    tally->locked.n_out = is_out ? tally->locked.n_out + n : tally->locked.n_out - n;
    tally->locked.refs = is_out ? tally->locked.refs + n : tally->locked.refs - n;
    pthread_mutex_unlock(&tally->mutex);
}

static int take_cargo(struct put *put, struct tally *tally, PyObject *data)
{
    put->cargo = malloc(sizeof(*put->cargo));
    if (!put->cargo) {
        PyErr_NoMemory();
        return -1;
    }
    put->cargo->tally = tally;
    put->cargo->loan = py_loan_take(data);
    if (!put->cargo->loan) {
        free(put->cargo);
        put->cargo = NULL;
        return -1;
    }
    put->src = (pst_iov){put->cargo->loan->view.buf, (size_t)put->cargo->loan->view.len};
    return 0;
}

static void clear_puts(struct puts *puts)
{
    for (size_t i = 0; puts->all && i < puts->n; i++) {
        struct cargo *cargo = puts->all[i].cargo;
        if (cargo)
            py_loan_release(cargo->loan);
        free(cargo);
        free(puts->all[i].error);
    }
    drop_tally(puts->tally);
    py_loans_return();
    py_places_clear(puts->places, puts->n);
    free(puts->all);
    Py_CLEAR(puts->given);
}

static int take_put(PyObject *self, PyObject *item, struct puts *puts, size_t i)
{
    pst_store_info info = {.struct_size = sizeof(info)};
    struct put *put = &puts->all[i];
    PyObject *pair, *uri, *data;
    if (py_pair_take(item,
                     py_is_of_store(self) ? "each of the items must be a pair (key, data)"
                                          : "each of the items must be a pair (uri, data)",
                     &pair, &uri, &data) < 0)
        return -1;
    int result = py_places_take(self, uri, puts->places, i);
    if (result == 0)
        result = take_cargo(put, puts->tally, data);
    Py_DECREF(pair);
    if (result < 0)
        return -1;
    if (i > 0 && puts->places[i].store == puts->places[i - 1].store) {
        put->put_max = put[-1].put_max;
    } else {
        pst_store_describe(puts->places[i].store, &info);
        put->put_max = info.part_max ? info.part_max : UINT64_MAX;
    }
    return 0;
}

static int take_puts(PyObject *self, PyObject *value, struct puts *puts)
{
    puts->given = py_items_take(value, "items");
    if (!puts->given)
        return -1;
    puts->tally = new_tally();
    if (!puts->tally)
        return -1;
    puts->n = (size_t)PyList_Size(puts->given);
    puts->places = calloc(puts->n ? puts->n : 1, sizeof(*puts->places));
    puts->all = calloc(puts->n ? puts->n : 1, sizeof(*puts->all));
    if (!puts->places || !puts->all) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < puts->n; i++) {
        if (take_put(self, PyList_GetItem(puts->given, (Py_ssize_t)i), puts, i) < 0)
            return -1;
    }
    return 0;
}

static void note_put(struct puts *puts, size_t i, pst_rc rc, const pst_error *err)
{
    struct put *put = &puts->all[i];
    put->rc = rc;
    if (rc == PST_OK)
        return;
    put->error = err ? malloc(sizeof(*err)) : NULL;
    if (put->error)
        *put->error = *err;
    puts->is_failed = 1;
}

static pst_request request_of(const struct puts *puts, size_t i)
{
    const struct put *put = &puts->all[i];
    return (pst_request){.struct_size = sizeof(pst_request),
                         .kind = PST_REQ_PUT,
                         .user_data = i,
                         .timeout_ms = py_time_left(puts->timeout_ms, puts->began_ms),
                         .store = puts->places[i].store,
                         .key = puts->places[i].key,
                         .src = &put->src,
                         .n_src = 1,
                         .release = return_cargo,
                         .release_arg = put->cargo};
}

/* Send some of the puts. All or none of a batch are taken: when none is, each goes alone, and the one that
 * cannot go fails alone. */
static void submit(struct puts *puts, const size_t *at, size_t n)
{
    pst_request requests[EVENTS_MAX] = {0};
    pst_error err = PST_ERROR_INIT;
    for (size_t i = 0; i < n; i++)
        requests[i] = request_of(puts, at[i]);
    count_cargo(puts->tally, n, 1);
    pst_rc rc = pst_queue_submit(puts->queue, requests, n, NULL, &err);
    if (rc != PST_OK)
        count_cargo(puts->tally, n, 0);
    if (rc == PST_OK) {
        for (size_t i = 0; i < n; i++)
            puts->all[at[i]].cargo = NULL;
        puts->n_out += n;
    } else if (n == 1) {
        note_put(puts, at[0], rc, &err);
    } else {
        for (size_t i = 0; i < n; i++)
            submit(puts, &at[i], 1);
    }
}

/* Fill the window. */
static void submit_more(struct puts *puts)
{
    while (puts->next < puts->n && puts->n_out < puts->max_in_flight &&
           (puts->each_may_fail || !puts->is_failed)) {
        size_t room = puts->max_in_flight - puts->n_out, at[EVENTS_MAX], n = 0;
        while (puts->next < puts->n && n < room && n < EVENTS_MAX) {
            struct put *put = &puts->all[puts->next];
            if (put->src.len <= put->put_max) {
                put->is_tried = 1;
                at[n++] = puts->next;
            }
            puts->next++;
        }
        if (n > 0)
            submit(puts, at, n);
    }
}

static pst_rc reap(struct puts *puts, pst_error *err)
{
    pst_event events[EVENTS_MAX];
    size_t n = 0;
    pst_rc rc = pst_queue_wait(puts->queue, events, EVENTS_MAX, PST_UNKNOWN, puts->cancel, &n, err);
    for (size_t i = 0; i < n; i++) {
        note_put(puts, (size_t)events[i].user_data, events[i].status, events[i].error);
        pst_event_fini(&events[i]);
        puts->n_out--;
    }
    return rc;
}

/* What is too long for one request. */
static pst_rc put_long_ones(struct puts *puts, const pst_call *limits, pst_error *err)
{
    pst_call call = *limits;
    for (size_t i = 0; i < puts->n && (puts->each_may_fail || !puts->is_failed); i++) {
        struct put *put = &puts->all[i];
        if (put->is_tried)
            continue;
        call.timeout_ms = py_time_left(puts->timeout_ms, puts->began_ms);
        pst_rc rc = pst_put(puts->places[i].store, puts->places[i].key, &put->src, 1, NULL, &call,
                            NULL, err);
        if (rc == PST_E_CANCELLED)
            return rc;
        note_put(puts, i, rc, err);
    }
    return PST_OK;
}

/* Without the GIL. Returns OK when each has ended, or all that began before the first failure. */
static pst_rc run_puts(struct puts *puts, pst_context *context, const pst_call *limits,
                       pst_error *err)
{
    if (puts->n == 0)
        return PST_OK; /* no place is taken, so nothing keeps the context */
    pst_rc rc = pst_queue_new(context, &puts->queue, err);
    if (rc != PST_OK)
        return rc;
    puts->cancel = limits->cancel;
    puts->timeout_ms = limits->timeout_ms;
    puts->began_ms = py_now_ms();
    submit_more(puts);
    while (puts->n_out > 0 && rc == PST_OK && (puts->each_may_fail || !puts->is_failed)) {
        rc = reap(puts, err);
        submit_more(puts);
    }
    pst_queue_free(puts->queue); /* stops what is under way still */
    if (rc != PST_OK)
        return rc;
    wait_for_cargo(puts->tally);
    return put_long_ones(puts, limits, err);
}

static PyObject *raise_put(const struct puts *puts)
{
    size_t i = 0;
    while (puts->all[i].rc == PST_OK)
        i++;
    return py_place_fail(&puts->places[i], puts->all[i].rc, puts->all[i].error);
}

static PyObject *list_puts(const struct puts *puts)
{
    PyObject *list = PyList_New((Py_ssize_t)puts->n);
    for (size_t i = 0; list && i < puts->n; i++) {
        const struct put *put = &puts->all[i];
        PyObject *uri = put->rc == PST_OK ? NULL : py_place_uri(&puts->places[i]);
        PyObject *value = put->rc == PST_OK ? Py_NewRef(Py_None)
                          : uri             ? py_exception_new(put->rc, put->error, uri)
                                            : NULL;
        Py_XDECREF(uri);
        if (!value || PyList_SetItem(list, (Py_ssize_t)i, value) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *tell_puts(const struct puts *puts)
{
    if (puts->each_may_fail)
        return list_puts(puts);
    return puts->is_failed ? raise_put(puts) : Py_NewRef(Py_None);
}

PyObject *py_put_many(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char word_items[] = "items", word_max_in_flight[] = "max_in_flight",
                word_return_exceptions[] = "return_exceptions", word_timeout[] = "timeout";
    char *names[] = {word_items, word_max_in_flight, word_return_exceptions, word_timeout, NULL};
    PyObject *items, *in_flight = Py_None, *timeout = Py_None, *result = NULL;
    pst_context *context = NULL;
    struct puts puts = {0};
    pst_error err = PST_ERROR_INIT;
    struct py_call call;
    double timeout_s;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$pO:put_many", names, &items, &in_flight,
                                     &puts.each_may_fail, &timeout) ||
        py_in_flight_take(in_flight, IN_FLIGHT, &puts.max_in_flight) < 0 ||
        py_timeout_take(timeout, &timeout_s) < 0)
        return NULL;
    if (take_puts(self, items, &puts) == 0 && (context = py_store_context(self)) != NULL &&
        py_call_begin(&call, timeout_s) == 0) {
        pst_rc rc = run_puts(&puts, context, &call.limits, &err);
        if (py_call_end(&call) == 0)
            result = rc == PST_OK ? tell_puts(&puts) : py_raise(rc, &err, NULL);
    }
    clear_puts(&puts);
    return result;
}
