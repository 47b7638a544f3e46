/* queue.c - operations that end on a descriptor, for event loops.
 *
 * A Queue belongs to one loop, whose thread alone calls it. one() and many() make operations. flush(), which
 * the loop calls at the end of the turn, submits what waits, all in one go, and reap(), which the loop calls
 * when the descriptor polls readable, takes the events and submits what came next. Both then tell the tasks
 * whose operations are over, directly: one callback of the loop serves them all.
 *
 * Cancel is asked for and then waited for: an operation is over when nothing reads or writes the caller's
 * memory any more, or nothing was ever started. Another thread cancels only where the garbage collector
 * ends a coroutine there, hence the looks at is_stopped after each stretch without the GIL.
 *
 * A request that a batch was refused for fails alone: the others are submitted one by one. */
#include "many.h"
#include "operation.h"

#define BATCH 64 /* requests that wait for no later turn of the loop */
#define EVENTS 128
#define END_WAIT_MS 1000u

struct queue {
    PyObject_HEAD
    pst_queue *queue;
    struct py_operation *first;          /* all that are not over, a reference each */
    struct py_operation *waiting, **end; /* of these, those with requests to submit */
    struct py_operation *over, **last;   /* not told yet, a reference each */
    Py_ssize_t n_pending;                /* requests that flush() would submit */
    size_t n_over;
    char is_scheduled; /* flush(), by the loop */
};

static struct queue *queue_of(PyObject *self)
{
    return (struct queue *)(void *)self;
}

static pst_queue *open_queue(struct queue *queue)
{
    if (!queue->queue)
        PyErr_SetString(PyExc_ValueError, "the queue is closed");
    return queue->queue;
}

/* ---- lists ------------------------------------------------------------------------------------ */

static size_t room_of(const struct py_operation *operation)
{
    size_t left = operation->n - operation->n_started;
    size_t room = operation->window - operation->n_live;
    if (operation->is_stopped)
        return 0;
    return left < room ? left : room;
}

static void wait_if_room(struct queue *queue, struct py_operation *operation)
{
    if (operation->is_waiting || room_of(operation) == 0)
        return;
    operation->is_waiting = 1;
    operation->next_waiting = NULL;
    *queue->end = operation;
    queue->end = &operation->next_waiting;
}

static void end_waiting(struct queue *queue, struct py_operation *operation)
{
    struct py_operation **at = &queue->waiting;
    if (!operation->is_waiting)
        return;
    while (*at && *at != operation)
        at = &(*at)->next_waiting;
    if (*at)
        *at = operation->next_waiting;
    if (queue->end == &operation->next_waiting)
        queue->end = at;
    operation->is_waiting = 0;
}

static void link_live(struct queue *queue, struct py_operation *operation)
{
    operation->next = queue->first;
    if (queue->first)
        queue->first->previous = operation;
    queue->first = operation;
}

static void unlink_live(struct queue *queue, struct py_operation *operation)
{
    if (operation->previous)
        operation->previous->next = operation->next;
    else
        queue->first = operation->next;
    if (operation->next)
        operation->next->previous = operation->previous;
    operation->previous = operation->next = NULL;
}

/* Nothing of it is under way, and nothing will be started. Its reference goes with it to the other list. */
static void end_if_over(struct queue *queue, struct py_operation *operation)
{
    if (operation->is_over || operation->n_live > 0 ||
        (!operation->is_stopped && operation->n_started < operation->n))
        return;
    operation->is_over = 1;
    operation->queue = NULL;
    end_waiting(queue, operation);
    unlink_live(queue, operation);
    operation->next_waiting = NULL;
    *queue->last = operation;
    queue->last = &operation->next_waiting;
    queue->n_over++;
    py_operation_release(operation); /* of those that were never started */
}

/* Start nothing more of it, and end what is under way. */
static void stop(struct queue *queue, struct py_operation *operation)
{
    pst_queue *handle = queue->queue;
    if (operation->is_stopped)
        return;
    operation->is_stopped = 1;
    end_waiting(queue, operation);
    for (size_t i = 0; i < operation->n_started; i++) {
        uint64_t id = operation->items[i].id;
        if (id == 0)
            continue;
        Py_BEGIN_ALLOW_THREADS
        pst_queue_cancel(handle, id);
        Py_END_ALLOW_THREADS
    }
}

/* After a request of it has ended. */
static void go_on(struct queue *queue, struct py_operation *operation)
{
    if (operation->error)
        stop(queue, operation);
    wait_if_room(queue, operation);
    end_if_over(queue, operation);
}

/* ---- submit and reap -------------------------------------------------------------------------- */

static void submit(struct queue *queue, struct py_item **items, const pst_request *requests,
                   size_t n)
{
    uint64_t ids[BATCH];
    pst_rc rc;
    pst_error err = PST_ERROR_INIT;
    if (n == 0)
        return;
    Py_BEGIN_ALLOW_THREADS
    rc = pst_queue_submit(queue->queue, requests, n, ids, &err);
    Py_END_ALLOW_THREADS
    if (rc != PST_OK && n > 1) {
        for (size_t i = 0; i < n; i++)
            submit(queue, &items[i], &requests[i], 1);
        return;
    }
    if (rc != PST_OK) {
        py_operation_refuse(items[0], rc, &err);
        go_on(queue, items[0]->operation);
        return;
    }
    for (size_t i = 0; i < n; i++)
        items[i]->id = ids[i];
    for (size_t i = 0; i < n; i++) {
        if (!items[i]->operation->is_stopped || items[i]->id == 0)
            continue;
        Py_BEGIN_ALLOW_THREADS
        pst_queue_cancel(queue->queue, ids[i]);
        Py_END_ALLOW_THREADS
    }
}

static void submit_waiting(struct queue *queue)
{
    struct py_item *items[BATCH];
    pst_request requests[BATCH];
    pst_iov iovs[BATCH];
    while (queue->waiting) {
        size_t n = 0;
        while (queue->waiting && n < BATCH) {
            struct py_operation *operation = queue->waiting;
            for (size_t room = room_of(operation); room > 0 && n < BATCH; room--, n++) {
                items[n] = &operation->items[operation->n_started++];
                operation->n_live++;
                py_operation_ask(items[n], &iovs[n], &requests[n]);
            }
            if (room_of(operation) == 0)
                end_waiting(queue, operation);
        }
        submit(queue, items, requests, n);
    }
    queue->n_pending = 0;
}

static void take_events(struct queue *queue, pst_event *events, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct py_item *item = (struct py_item *)(uintptr_t)events[i].user_data;
        struct py_operation *operation = item->operation;
        py_operation_keep(item, &events[i]);
        pst_event_fini(&events[i]);
        go_on(queue, operation);
    }
}

/* Let the loop call flush() at the end of its turn. */
static int schedule(struct queue *queue, PyObject *loop)
{
    if (queue->is_scheduled)
        return 0;
    PyObject *call = PyObject_GetAttrString(&queue->ob_base, "flush");
    PyObject *handle = call ? PyObject_CallMethod(loop, "call_soon", "O", call) : NULL;
    queue->is_scheduled = handle != NULL;
    Py_XDECREF(call);
    Py_XDECREF(handle);
    return handle ? 0 : -1;
}

/* After something that ends the loop was raised, the others are told in a later run. */
static void tell_later(struct queue *queue, PyObject *loop)
{
    PyObject *type, *value, *traceback;
    if (!queue->over)
        return;
    PyErr_Fetch(&type, &value, &traceback);
    if (schedule(queue, loop) < 0)
        PyErr_WriteUnraisable(loop);
    PyErr_Restore(type, value, traceback);
}

/* Tell those that are over by now. What they start, and what that ends at once, is for later turns: other
 * callbacks of the loop come first. */
static PyObject *tell(struct queue *queue)
{
    int rc = 0;
    for (size_t n = queue->n_over; rc == 0 && n > 0 && queue->over; n--) {
        struct py_operation *operation = queue->over;
        queue->over = operation->next_waiting;
        if (!queue->over)
            queue->last = &queue->over;
        queue->n_over--;
        rc = py_operation_tell(operation);
        if (rc < 0)
            tell_later(queue, operation->wait.loop);
        Py_DECREF(&operation->ob_base);
    }
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *flush(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct queue *queue = queue_of(self);
    queue->is_scheduled = 0;
    if (!open_queue(queue))
        return NULL;
    submit_waiting(queue);
    return tell(queue);
}

static PyObject *reap(PyObject *self, PyObject *unused)
{
    (void)unused;
    pst_event events[EVENTS];
    size_t n = 0;
    pst_rc rc;
    pst_error err = PST_ERROR_INIT;
    struct queue *queue = queue_of(self);
    if (!open_queue(queue))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    rc = pst_queue_wait(queue->queue, events, EVENTS, 0, NULL, &n, &err);
    Py_END_ALLOW_THREADS
    if (rc != PST_OK)
        return py_raise(rc, &err, NULL);
    take_events(queue, events, n);
    submit_waiting(queue);
    return tell(queue);
}

/* ---- making operations ------------------------------------------------------------------------ */

/* Submitted at the end of this turn of the loop, or now if there is enough. What is over at once is told at
 * the end of the turn, too, when its coroutine waits for it. Takes over the reference. */
static PyObject *begin(struct queue *queue, struct py_operation *operation)
{
    if (schedule(queue, operation->wait.loop) < 0) {
        Py_DECREF(&operation->ob_base);
        return NULL;
    }
    Py_INCREF(&operation->ob_base);
    operation->queue = &queue->ob_base;
    link_live(queue, operation);
    wait_if_room(queue, operation);
    queue->n_pending += (Py_ssize_t)room_of(operation);
    end_if_over(queue, operation); /* many of none */
    if (queue->n_pending >= BATCH)
        submit_waiting(queue);
    return &operation->ob_base;
}

static int take_details(struct py_operation *operation, PyObject *first, PyObject *second)
{
    switch (operation->kind) {
    case PY_GET:
        return py_operation_take_range(operation, first, second);
    case PY_GET_INTO:
        if (py_operation_take_range(operation, first, Py_None) < 0)
            return -1;
        return py_operation_take_data(operation, 0, second);
    case PY_PUT:
        return py_operation_take_data(operation, 0, first);
    case PY_COPY:
        return py_operation_take_copy(operation, first);
    default:
        return 0;
    }
}

static int take_kind(PyObject *value, int *kind)
{
    long number = PyLong_AsLong(value);
    if (number == -1 && PyErr_Occurred())
        return -1;
    if (number < PY_GET || number >= PY_KINDS) {
        PyErr_SetString(PyExc_ValueError, "unknown kind of operation");
        return -1;
    }
    *kind = (int)number;
    return 0;
}

static int check_args(const char *name, Py_ssize_t n_args, Py_ssize_t wanted)
{
    if (n_args == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, wanted, n_args);
    return -1;
}

/* Too large for one request each? The caller goes another way. */
static int is_refused(const struct py_operation *operation)
{
    return operation->kind == PY_PUT && !py_operation_fits(operation);
}

static PyObject *one(PyObject *self, PyObject *const *args, Py_ssize_t n_args)
{
    int kind;
    struct queue *queue = queue_of(self);
    if (check_args("one", n_args, 7) < 0 || !open_queue(queue) || take_kind(args[1], &kind) < 0)
        return NULL;
    struct py_operation *operation = py_operation_new(args[0], kind, args[2], args[3], 0, args[6]);
    if (!operation)
        return NULL;
    if (take_details(operation, args[4], args[5]) < 0) {
        Py_DECREF(&operation->ob_base);
        return NULL;
    }
    if (is_refused(operation)) {
        Py_DECREF(&operation->ob_base);
        Py_RETURN_NONE;
    }
    return begin(queue, operation);
}

static int take_many_data(struct py_operation *operation, PyObject *data)
{
    PyObject *all = PySequence_Tuple(data);
    if (!all)
        return -1;
    int rc = 0;
    if (PyTuple_Size(all) != (Py_ssize_t)operation->n) {
        PyErr_SetString(PyExc_ValueError, "as many data as targets are needed");
        rc = -1;
    }
    for (size_t i = 0; i < operation->n && rc == 0; i++)
        rc = py_operation_take_data(operation, i, PyTuple_GetItem(all, (Py_ssize_t)i));
    Py_DECREF(all);
    return rc;
}

static int take_window(struct py_operation *operation, PyObject *value)
{
    uint32_t window;
    if (py_in_flight_take(value, 64, &window) < 0)
        return -1;
    operation->window = window;
    return 0;
}

static PyObject *many(PyObject *self, PyObject *const *args, Py_ssize_t n_args)
{
    int kind;
    struct queue *queue = queue_of(self);
    if (check_args("many", n_args, 8) < 0 || !open_queue(queue) || take_kind(args[1], &kind) < 0)
        return NULL;
    int takes_exceptions = PyObject_IsTrue(args[6]);
    if (takes_exceptions < 0)
        return NULL;
    struct py_operation *operation = py_operation_new(args[0], kind, args[2], args[3], 1, args[7]);
    if (!operation)
        return NULL;
    operation->takes_exceptions = (char)takes_exceptions;
    if (take_window(operation, args[5]) < 0 ||
        (kind == PY_PUT && take_many_data(operation, args[4]) < 0)) {
        Py_DECREF(&operation->ob_base);
        return NULL;
    }
    if (is_refused(operation)) {
        Py_DECREF(&operation->ob_base);
        Py_RETURN_NONE;
    }
    return begin(queue, operation);
}

void py_operation_cancel(struct py_operation *operation)
{
    PyObject *self = Py_XNewRef(operation->queue);
    operation->is_dropped = 1; /* what came and was not told yet, too */
    if (!self)
        return;
    stop(queue_of(self), operation);
    end_if_over(queue_of(self), operation);
    Py_DECREF(self);
}

static PyObject *get_fileno(PyObject *self, PyObject *unused)
{
    (void)unused;
    pst_queue *queue = open_queue(queue_of(self));
    return queue ? PyLong_FromLong(pst_queue_fd(queue)) : NULL;
}

/* ---- the type --------------------------------------------------------------------------------- */

static PyObject *make(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    if (PyTuple_Size(args) != 0 || (keywords && PyDict_Size(keywords) != 0)) {
        PyErr_SetString(PyExc_TypeError, "Queue takes no arguments");
        return NULL;
    }
    pst_context *context = py_context();
    if (!context)
        return NULL;
    PyObject *self = PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    pst_error err = PST_ERROR_INIT;
    struct queue *queue = queue_of(self);
    queue->end = &queue->waiting;
    queue->last = &queue->over;
    pst_rc rc = pst_queue_new(context, &queue->queue, &err);
    if (rc != PST_OK) {
        Py_DECREF(self);
        return py_raise(rc, &err, NULL);
    }
    return self;
}

/* End everything, waiting at most about a second. What has not ended by then keeps the caller's buffers, which
 * must never be written after they were given back. In a fork child everything is the parent's. */
static void shut(struct queue *queue)
{
    pst_event events[EVENTS];
    pst_queue *handle = queue->queue;
    if (!handle)
        return;
    for (struct py_operation *operation = queue->first; operation; operation = operation->next)
        operation->queue = NULL; /* nobody else may come back to what is going */
    for (struct py_operation *operation = queue->first; operation; operation = operation->next) {
        operation->is_dropped = 1;
        stop(queue, operation);
    }
    for (struct py_operation *operation = queue->first, *next; operation; operation = next) {
        next = operation->next;
        end_if_over(queue, operation);
    }
    while (queue->first) {
        size_t n = 0;
        pst_rc rc;
        Py_BEGIN_ALLOW_THREADS
        rc = pst_queue_wait(handle, events, EVENTS, END_WAIT_MS, NULL, &n, NULL);
        Py_END_ALLOW_THREADS
        if (rc != PST_OK || n == 0)
            break;
        take_events(queue, events, n);
    }
    queue->queue = NULL;
    Py_BEGIN_ALLOW_THREADS
    pst_queue_free(handle);
    Py_END_ALLOW_THREADS
    while (queue->first) {
        struct py_operation *operation = queue->first;
        unlink_live(queue, operation);
        operation->is_over = 1;
        Py_DECREF(&operation->ob_base);
    }
    while (queue->over) {
        struct py_operation *operation = queue->over;
        queue->over = operation->next_waiting;
        Py_DECREF(&operation->ob_base);
    }
    queue->last = &queue->over;
    queue->n_over = 0;
}

static PyObject *close_queue(PyObject *self, PyObject *unused)
{
    (void)unused;
    shut(queue_of(self));
    Py_RETURN_NONE;
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    struct queue *queue = queue_of(self);
    Py_VISIT(Py_TYPE(self));
    for (struct py_operation *operation = queue->first; operation; operation = operation->next)
        Py_VISIT(operation);
    for (struct py_operation *operation = queue->over; operation;
         operation = operation->next_waiting)
        Py_VISIT(operation);
    return 0;
}

static int clear(PyObject *self)
{
    shut(queue_of(self));
    return 0;
}

static void dealloc(PyObject *self)
{
    PyObject *type, *value, *traceback;
    PyTypeObject *own_type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyErr_Fetch(&type, &value, &traceback);
    shut(queue_of(self));
    PyErr_Restore(type, value, traceback);
    PyObject_GC_Del(self);
    Py_DECREF(own_type);
}

static PyObject *get_pending(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(queue_of(self)->n_pending);
}

static PyMethodDef methods[] = {
    {"one", PY_METHOD(one), METH_FASTCALL,
     "one(loop, kind, store, target, first, second, timeout)\n\n"
     "Make an operation on one object; None if its data needs more than one request."},
    {"many", PY_METHOD(many), METH_FASTCALL,
     "many(loop, kind, store, targets, data, max_in_flight, return_exceptions, timeout)\n\n"
     "Make an operation on many objects; None if any data needs more than one request."},
    {"flush", flush, METH_NOARGS, "Submit what waits, and tell what is over."},
    {"reap", reap, METH_NOARGS, "Take what has ended, and tell the tasks that wait for it."},
    {"fileno", get_fileno, METH_NOARGS, "Polls readable while something has ended."},
    {"close", close_queue, METH_NOARGS, "End everything."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"n_pending", get_pending, NULL, "Requests that flush() would submit.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "Operations of one event loop."},
    {Py_tp_new, PY_SLOT(make)},
    {Py_tp_traverse, PY_SLOT(traverse)},
    {Py_tp_clear, PY_SLOT(clear)},
    {Py_tp_dealloc, PY_SLOT(dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "penstock._penstock.Queue",
    .basicsize = sizeof(struct queue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int py_queue_init(PyObject *module)
{
    py_module.queue = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!py_module.queue || PyModule_AddType(module, py_module.queue) < 0)
        return -1;
    if (py_operation_init(module) < 0)
        return -1;
    return py_cancel_init(module);
}
