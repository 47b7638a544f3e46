/* operation.h - what queue.c (submit and reap), operation.c (what is asked for and what came) and await.c (the
 * coroutine that waits) share. */
#ifndef PENSTOCK_PY_OPERATION_H
#define PENSTOCK_PY_OPERATION_H

#include "place.h"

/* What an operation may do; the numbers are known to _aio.py by name. */
enum {
    PY_GET = 1,
    PY_GET_INTO,
    PY_PUT,
    PY_STAT,
    PY_EXISTS,
    PY_DELETE,
    PY_COPY,
    PY_KINDS,
};

/* One object of an operation. */
struct py_item {
    struct py_operation *operation;
    uint64_t id; /* while it is under way; else 0 */
    struct py_place place;
};

/* One request, or many of a kind of which `window` are under way at a time. The queue has a reference until
 * it is over, and links it by `next`. */
struct py_operation {
    PyObject_HEAD
    PyObject *queue;                      /* borrowed; NULL once it is over */
    struct py_operation *previous, *next; /* among those that are not over */
    struct py_operation *next_waiting; /* among those with requests to submit; after the end: next
                                           * of those that are over and not told */
    PyObject *targets;                 /* as they were given: one, or a list */
    PyObject *result, *error;
    PyObject *owner; /* penstock.Store, or None: targets are URIs */
    struct {         /* await.c; all but the loop NULL where there is none */
        PyObject *loop;
        PyObject *callback, *context; /* of the task that waits */
        PyObject *thrown;             /* what the coroutine raises at the end, whatever came */
        PyObject *message;            /* of the cancellation */
        char is_blocking;             /* the task's, as of any future */
        char is_told;                 /* the end; the callback is gone by then */
    } wait;
    struct py_item *items;
    Py_buffer *data; /* PUT, GET_INTO: one each, held until that has ended; obj NULL: none */
    size_t n, n_started, n_live, window;
    uint64_t offset, length, deadline_ns; /* deadline 0: none */
    struct py_place to;                   /* COPY */
    unsigned long long object_size;       /* of the last that was read; ULLONG_MAX: not known */
    int kind;
    char is_many, is_waiting, is_stopped, is_dropped, is_over, takes_exceptions;
};

extern PyTypeObject *py_operation_type;
int py_operation_init(PyObject *module);

/* Make one; nothing is started. All arguments are checked here. `store`: None or a penstock.Store. */
struct py_operation *py_operation_new(PyObject *loop, int kind, PyObject *store, PyObject *targets,
                                      int is_many, PyObject *timeout);

/* The arguments that not all kinds have. */
int py_operation_take_data(struct py_operation *operation, size_t i, PyObject *data);
int py_operation_take_range(struct py_operation *operation, PyObject *offset, PyObject *length);
int py_operation_take_copy(struct py_operation *operation, PyObject *to);

/* Can one request each carry the data of a PUT? */
int py_operation_fits(const struct py_operation *operation);

/* Fill in the request for the item; borrows from the operation. Allowed without the GIL. */
void py_operation_ask(struct py_item *item, pst_iov *iov, pst_request *request);

/* Keep what the event brought. It is the operation's error that fails an operation. */
void py_operation_keep(struct py_item *item, pst_event *event);

/* Let go of the caller's buffers but those of requests under way. What is under way when the queue goes (see
 * shut() in queue.c) keeps its memory for ever. */
void py_operation_release(struct py_operation *operation);

/* The same for a request that could not be submitted. */
void py_operation_refuse(struct py_item *item, pst_rc rc, const pst_error *err);

/* Ask it to end and drop its result; is_over tells when it has (queue.c). */
void py_operation_cancel(struct py_operation *operation);

/* It is over: call back the task that waits. -1: that raised. */
int py_operation_tell(struct py_operation *operation);

/* What await.c brings to the type of operations. */
int py_await_init(void);
int py_await_traverse(struct py_operation *operation, visitproc visit, void *arg);
void py_await_clear(struct py_operation *operation);
PySendResult py_await_send(PyObject *self, PyObject *value, PyObject **result);
PyObject *py_await_next(PyObject *self);
extern PyMethodDef py_await_methods[];

/* Cancel tokens for calls in other threads: cancel.c. */
int py_cancel_init(PyObject *module);

#endif
