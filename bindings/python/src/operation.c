/* operation.c - an operation of asyncio: from Python's arguments to requests, from events to values.
 *
 * Places are taken when the operation is made, so wrong arguments raise before any I/O. The
 * buffers of the caller are held from then on until the event of their request has come: only then does
 * nothing read or write them any more. */
#include "operation.h"

#include "many.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>
#include <time.h>

#include <penstock/plugin.h>

PyTypeObject *py_operation_type;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- making ----------------------------------------------------------------------------------- */

static pst_str scheme_of(const struct py_item *item)
{
    const char *colon = memchr(item->place.text.str.ptr, ':', item->place.text.str.len);
    return pst_str_of(item->place.text.str.ptr,
                      colon ? (size_t)(colon - item->place.text.str.ptr) : 0);
}

/* One call takes one scheme, as get_many does. */
static int check_scheme(const struct py_item *first, const struct py_item *item)
{
    pst_error err = PST_ERROR_INIT;
    if (first->place.store == item->place.store)
        return 0;
    pst_str a = scheme_of(first), b = scheme_of(item);
    if (a.len == b.len && PyOS_mystrnicmp(a.ptr, b.ptr, (Py_ssize_t)a.len) == 0)
        return 0;
    PyOS_snprintf(err.message, sizeof(err.message),
                  "one call takes URIs of one scheme, not both %.*s:// and %.*s://", (int)a.len,
                  a.ptr, (int)b.len, b.ptr);
    py_place_fail(&item->place, PST_E_INVALID, &err);
    return -1;
}

static int take_targets(struct py_operation *operation, PyObject *targets)
{
    const char *what = py_is_of_store(operation->owner) ? "keys" : "uris";
    operation->targets = operation->is_many ? py_items_take(targets, what) : Py_NewRef(targets);
    if (!operation->targets)
        return -1;
    operation->n = operation->is_many ? (size_t)PyList_Size(operation->targets) : 1;
    operation->items = calloc(operation->n + 1, sizeof(*operation->items));
    if (!operation->items) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < operation->n; i++) {
        PyObject *target = operation->targets;
        if (operation->is_many)
            target = PyList_GetItem(operation->targets, (Py_ssize_t)i);
        operation->items[i].operation = operation;
        if (py_place_take(operation->owner, target, &operation->items[i].place) < 0 ||
            check_scheme(&operation->items[0], &operation->items[i]) < 0)
            return -1;
    }
    return 0;
}

static int take_timeout(struct py_operation *operation, PyObject *timeout)
{
    double seconds;
    if (py_timeout_take(timeout, &seconds) < 0)
        return -1;
    if (seconds >= 0 && seconds < 1e9)
        operation->deadline_ns = now_ns() + (uint64_t)(seconds * 1e9);
    return 0;
}

struct py_operation *py_operation_new(PyObject *loop, int kind, PyObject *store, PyObject *targets,
                                      int is_many, PyObject *timeout)
{
    struct py_operation *operation = (struct py_operation *)(void *)PyType_GenericAlloc(
        py_operation_type, 0);
    if (!operation)
        return NULL;
    operation->kind = kind;
    operation->is_many = (char)is_many;
    operation->window = 1;
    operation->length = PST_UNKNOWN;
    operation->object_size = ULLONG_MAX;
    operation->wait.loop = Py_NewRef(loop);
    operation->owner = Py_NewRef(store);
    if (take_timeout(operation, timeout) < 0 || take_targets(operation, targets) < 0) {
        Py_DECREF(&operation->ob_base);
        return NULL;
    }
    if (is_many && !(operation->result = PyList_New((Py_ssize_t)operation->n))) {
        Py_DECREF(&operation->ob_base);
        return NULL;
    }
    return operation;
}

int py_operation_take_data(struct py_operation *operation, size_t i, PyObject *data)
{
    if (!operation->data)
        operation->data = calloc(operation->n, sizeof(*operation->data));
    if (!operation->data) {
        PyErr_NoMemory();
        return -1;
    }
    Py_buffer *buffer = &operation->data[i];
    int rc = operation->kind == PY_GET_INTO ? py_writable_take(data, buffer)
                                            : py_bytes_take(data, buffer);
    if (rc < 0)
        buffer->obj = NULL;
    return rc;
}

int py_operation_take_range(struct py_operation *operation, PyObject *offset, PyObject *length)
{
    if (py_u64_take(offset, "offset", 0, &operation->offset) < 0)
        return -1;
    return py_u64_take(length, "length", PST_UNKNOWN, &operation->length);
}

int py_operation_take_copy(struct py_operation *operation, PyObject *to)
{
    return py_place_take(operation->owner, to, &operation->to);
}

int py_operation_fits(const struct py_operation *operation)
{
    pst_store_info info = {.struct_size = sizeof(info)};
    const pst_store *described = NULL;
    for (size_t i = 0; i < operation->n; i++) {
        const struct py_item *item = &operation->items[i];
        if (item->place.store != described)
            pst_store_describe(item->place.store, &info);
        described = item->place.store;
        if (!(info.caps & PST_CAP_PUT))
            return 0;
        if (info.part_max > 0 && (uint64_t)operation->data[i].len > info.part_max)
            return 0;
    }
    return 1;
}

/* ---- asking ----------------------------------------------------------------------------------- */

static uint64_t left_ms(uint64_t deadline_ns)
{
    uint64_t now = now_ns();
    if (deadline_ns == 0)
        return 0;
    return deadline_ns > now + 1000000u ? (deadline_ns - now) / 1000000u : 1;
}

void py_operation_ask(struct py_item *item, pst_iov *iov, pst_request *request)
{
    static const uint32_t kinds[PY_KINDS] = {
        [PY_GET] = PST_REQ_GET,   [PY_GET_INTO] = PST_REQ_GET, [PY_PUT] = PST_REQ_PUT,
        [PY_STAT] = PST_REQ_STAT, [PY_EXISTS] = PST_REQ_STAT,  [PY_DELETE] = PST_REQ_DELETE,
        [PY_COPY] = PST_REQ_COPY,
    };
    const struct py_operation *operation = item->operation;
    *request = (pst_request){.struct_size = sizeof(*request),
                             .kind = kinds[operation->kind],
                             .user_data = (uint64_t)(uintptr_t)item,
                             .offset = operation->offset,
                             .length = operation->length,
                             .timeout_ms = left_ms(operation->deadline_ns),
                             .store = item->place.store,
                             .key = item->place.key};
    if (operation->kind == PY_COPY) {
        request->from = item->place.store;
        request->store = operation->to.store;
        request->to = operation->to.key;
    }
    if (!operation->data)
        return;
    const Py_buffer *data = &operation->data[item - operation->items];
    *iov = (pst_iov){data->buf, (size_t)data->len};
    if (operation->kind == PY_PUT) {
        request->src = iov;
        request->n_src = 1;
    } else {
        request->dst = iov;
        request->n_dst = 1;
        request->length = iov->len;
    }
}

/* ---- keeping ---------------------------------------------------------------------------------- */

/* The exception that is set, taken down. */
static PyObject *take_exception(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

static PyObject *exception_of(const struct py_item *item, pst_rc rc, const pst_error *err)
{
    PyObject *uri = py_place_uri(&item->place);
    PyObject *error = uri ? py_exception_new(rc, err, uri) : NULL;
    Py_XDECREF(uri);
    return error ? error : take_exception();
}

static PyObject *value_of(struct py_operation *operation, pst_event *event)
{
    pst_buffer *buffer = event->buffer;
    switch (operation->kind) {
    case PY_GET:
        event->buffer = NULL;
        return py_view_new(buffer);
    case PY_GET_INTO:
        return PyLong_FromUnsignedLongLong(event->size);
    case PY_STAT:
        return py_attr_dict(event->attr);
    case PY_EXISTS:
        return PyBool_FromLong(event->attr && event->attr->kind == PST_KIND_OBJECT);
    case PY_PUT:
    case PY_COPY:
        return event->etag && event->etag[0] ? py_str_of_chars(event->etag) : Py_NewRef(Py_None);
    default:
        return Py_NewRef(Py_None);
    }
}

/* The URI or key as it was given, where that was text. */
static PyObject *name_of(const struct py_operation *operation, size_t i)
{
    PyObject *given = PyList_GetItem(operation->targets, (Py_ssize_t)i);
    return PyUnicode_Check(given) ? Py_NewRef(given)
                                  : py_str_of(operation->items[i].place.text.str);
}

/* One element of what many give: reads come with the URI that they belong to, writes tell None. Steals
 * `value`. */
static void set_element(struct py_operation *operation, size_t i, PyObject *value)
{
    if (operation->kind == PY_GET && value) {
        PyObject *name = name_of(operation, i);
        PyObject *pair = name ? PyTuple_Pack(2, name, value) : NULL;
        Py_XDECREF(name);
        Py_DECREF(value);
        value = pair;
    }
    if (value)
        PyList_SetItem(operation->result, (Py_ssize_t)i, value);
}

/* Steals both; one is NULL. */
static void keep(struct py_item *item, PyObject *value, PyObject *error)
{
    struct py_operation *operation = item->operation;
    size_t i = (size_t)(item - operation->items);
    if (error && !(operation->is_many && operation->takes_exceptions)) {
        if (operation->error)
            Py_DECREF(error); /* the first one tells */
        else
            operation->error = error;
    } else if (operation->is_many) {
        if (value && operation->kind == PY_PUT) {
            Py_DECREF(value);
            value = Py_NewRef(Py_None);
        }
        set_element(operation, i, value ? value : error);
        if (PyErr_Occurred() && !operation->error)
            operation->error = take_exception();
    } else {
        operation->result = value;
    }
}

static void end_item(struct py_item *item)
{
    struct py_operation *operation = item->operation;
    size_t i = (size_t)(item - operation->items);
    item->id = 0;
    operation->n_live--;
    if (operation->data && operation->data[i].obj)
        PyBuffer_Release(&operation->data[i]);
}

void py_operation_release(struct py_operation *operation)
{
    for (size_t i = 0; i < operation->n && operation->data; i++) {
        if (operation->data[i].obj && operation->items[i].id == 0)
            PyBuffer_Release(&operation->data[i]);
    }
}

void py_operation_keep(struct py_item *item, pst_event *event)
{
    struct py_operation *operation = item->operation;
    end_item(item);
    if (event->object_size != PST_UNKNOWN)
        operation->object_size = event->object_size;
    if (operation->is_dropped || operation->error)
        return;
    if (event->status == PST_E_NOT_FOUND && operation->kind == PY_EXISTS) {
        keep(item, Py_NewRef(Py_False), NULL);
        return;
    }
    if (event->status != PST_OK) {
        keep(item, NULL, exception_of(item, event->status, event->error));
        return;
    }
    PyObject *value = value_of(operation, event);
    keep(item, value, value ? NULL : take_exception());
}

void py_operation_refuse(struct py_item *item, pst_rc rc, const pst_error *err)
{
    end_item(item);
    if (!item->operation->is_dropped && !item->operation->error)
        keep(item, NULL, exception_of(item, rc, err));
}

/* ---- the type --------------------------------------------------------------------------------- */

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    struct py_operation *operation = (struct py_operation *)(void *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(operation->targets);
    Py_VISIT(operation->result);
    Py_VISIT(operation->error);
    Py_VISIT(operation->owner);
    return py_await_traverse(operation, visit, arg);
}

static int clear(PyObject *self)
{
    struct py_operation *operation = (struct py_operation *)(void *)self;
    py_await_clear(operation);
    Py_CLEAR(operation->result);
    Py_CLEAR(operation->error);
    return 0;
}

static void dealloc(PyObject *self)
{
    struct py_operation *operation = (struct py_operation *)(void *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    py_operation_release(operation);
    for (size_t i = 0; i < operation->n && operation->items; i++)
        py_place_clear(&operation->items[i].place);
    py_place_clear(&operation->to);
    free(operation->items);
    free(operation->data);
    Py_CLEAR(operation->targets);
    Py_CLEAR(operation->owner); /* after the places that are counted in it */
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"_asyncio_future_blocking", T_BOOL, offsetof(struct py_operation, wait.is_blocking), 0, NULL},
    {"is_over", T_BOOL, offsetof(struct py_operation, is_over), READONLY, NULL},
    {"object_size", T_ULONGLONG, offsetof(struct py_operation, object_size), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "One request of a Queue, or many of a kind."},
    {Py_tp_traverse, PY_SLOT(traverse)},
    {Py_tp_clear, PY_SLOT(clear)},
    {Py_tp_dealloc, PY_SLOT(dealloc)},
    {Py_am_await, PY_SLOT(PyObject_SelfIter)},
    {Py_am_send, PY_SLOT(py_await_send)},
    {Py_tp_iter, PY_SLOT(PyObject_SelfIter)},
    {Py_tp_iternext, PY_SLOT(py_await_next)},
    {Py_tp_methods, py_await_methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "penstock._penstock.Operation",
    .basicsize = sizeof(struct py_operation),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int py_operation_init(PyObject *module)
{
    static const struct {
        const char *name;
        int kind;
    } kinds[] = {
        {"GET", PY_GET},       {"GET_INTO", PY_GET_INTO}, {"PUT", PY_PUT},   {"STAT", PY_STAT},
        {"EXISTS", PY_EXISTS}, {"DELETE", PY_DELETE},     {"COPY", PY_COPY},
    };
    py_operation_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!py_operation_type || py_await_init() < 0)
        return -1;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (PyModule_AddIntConstant(module, kinds[i].name, kinds[i].kind) < 0)
            return -1;
    }
    return 0;
}
