/* errors.c - the exceptions, and how a pst_error becomes one.
 *
 * Each has a base of Python's own beside penstock.Error, so that code which knows nothing of Penstock
 * catches it too: FileNotFoundError, PermissionError, TimeoutError, ValueError. What an error knows is in
 * attributes. They have defaults on the class, so that every penstock.Error has all of them, also one
 * that Python code raised; an instance sets those that differ. All of that is strings, numbers and args,
 * so exceptions can be pickled and cross processes; errno and its like, which Python keeps elsewhere, go
 * with them (reduce). */
#include "py.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* An exception class: of which name, below which of ours, with which base of Python's. */
struct kind {
    const char *name;
    pst_rc rc;          /* PST_OK: stands for none */
    const char *parent; /* NULL: Error */
    PyObject **base;    /* NULL: none */
    int sys_errno;      /* of those that are an OSError, where the store gave none */
    const char *doc;
};

static const struct kind kinds[] = {
    {"CancelledError", PST_E_CANCELLED, NULL, NULL, 0, "The operation was cancelled."},
    {"InvalidArgumentError", PST_E_INVALID, NULL, &PyExc_ValueError, 0,
     "An argument, option or key that cannot be."},
    {"NotFoundError", PST_E_NOT_FOUND, NULL, &PyExc_FileNotFoundError, ENOENT,
     "There is no such object or container."},
    {"ExistsError", PST_E_EXISTS, NULL, &PyExc_FileExistsError, EEXIST,
     "There is such an object or container already."},
    {"PermissionDeniedError", PST_E_DENIED, NULL, &PyExc_PermissionError, EACCES,
     "The store knows who asks, and refuses."},
    {"UnauthenticatedError", PST_E_UNAUTHENTICATED, NULL, &PyExc_PermissionError, EACCES,
     "The store does not accept the credentials, or there are none."},
    {"UnavailableError", PST_E_UNAVAILABLE, NULL, &PyExc_ConnectionError, 0,
     "The store cannot be reached or cannot serve now."},
    {"ThrottledError", PST_E_THROTTLED, "UnavailableError", NULL, 0,
     "The store asks for fewer requests."},
    {"PreconditionError", PST_E_PRECONDITION, NULL, NULL, 0,
     "A condition of the call does not hold."},
    {"RangeError", PST_E_RANGE, NULL, &PyExc_ValueError, 0, "The object does not have that range."},
    {"UnsupportedOperationError", PST_E_UNIMPLEMENTED, NULL, &PyExc_NotImplementedError, 0,
     "This store, or this version, cannot do that."},
    {"TimeoutError", PST_E_DEADLINE, NULL, &PyExc_TimeoutError, ETIMEDOUT,
     "The timeout passed first."},
    {"DataLossError", PST_E_DATA_LOSS, NULL, NULL, 0, "The bytes are not those that were stored."},
    {"StoreIOError", PST_E_IO, NULL, &PyExc_OSError, EIO, "Input or output failed."},
    {"NoSpaceError", PST_E_NO_SPACE, "StoreIOError", NULL, ENOSPC, "The store is full."},
    {"NoMemoryError", PST_E_NO_MEMORY, NULL, &PyExc_MemoryError, 0, "Out of memory."},
    {"InternalError", PST_E_INTERNAL, NULL, NULL, 0, "A defect of Penstock or of a plugin."},
    {"ChangedError", PST_E_CHANGED, NULL, NULL, 0, "The object was replaced while it was read."},
    {"OverBudgetError", PST_E_OVER_BUDGET, NULL, &PyExc_MemoryError, 0,
     "It can never fit the memory budget."},
    {"ForkedError", PST_E_FORKED, NULL, NULL, 0,
     "The handle belongs to the process before a fork."},
    {"BadPluginError", PST_E_BAD_PLUGIN, NULL, NULL, 0, "A plugin cannot be used."},
    {"NoSchemeError", PST_E_NO_SCHEME, NULL, &PyExc_ValueError, 0, "No plugin serves this scheme."},
};
enum { N_KINDS = sizeof(kinds) / sizeof(kinds[0]) };
static PyObject *types[N_KINDS];

/* ---- one exception ----------------------------------------------------------------------------- */

static size_t find_kind(pst_rc rc)
{
    size_t internal = 0;

    for (size_t i = 0; i < N_KINDS; i++) {
        if (kinds[i].rc == rc)
            return i;
        if (kinds[i].rc == PST_E_INTERNAL)
            internal = i;
    }
    return internal; /* a code of a later version */
}

/* Steals `value`. */
static int set(PyObject *exception, const char *name, PyObject *value)
{
    const int rc = value ? PyObject_SetAttrString(exception, name, value) : -1;
    Py_XDECREF(value);
    return rc;
}

static int set_text(PyObject *exception, const char *name, const char *text)
{
    return text[0] ? set(exception, name,
                         PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace"))
                   : 0;
}

static int set_number(PyObject *exception, const char *name, long value)
{
    return value ? set(exception, name, PyLong_FromLong(value)) : 0;
}

static int set_facts(PyObject *exception, const pst_error *err)
{
    if (set_number(exception, "http_status", err->http_status) < 0 ||
        set_number(exception, "attempt", (long)err->attempt) < 0 ||
        set_number(exception, "max_attempts", (long)err->max_attempts) < 0 ||
        set_text(exception, "provider_code", err->provider_code) < 0 ||
        set_text(exception, "request_id", err->request_id) < 0 ||
        set_text(exception, "endpoint", err->endpoint) < 0)
        return -1;
    if ((err->flags & PST_ERR_RETRYABLE) && set(exception, "retryable", Py_NewRef(Py_True)) < 0)
        return -1;
    if ((err->flags & PST_ERR_MAYBE_APPLIED) &&
        set(exception, "maybe_applied", Py_NewRef(Py_True)) < 0)
        return -1;
    return 0;
}

PyObject *py_exception_new(pst_rc rc, const pst_error *err, PyObject *uri)
{
    const size_t i = find_kind(rc);
    const char *text = err && err->message[0] ? err->message : pst_rc_text(rc);
    PyObject *message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    PyObject *exception = message
                              ? PyObject_CallFunctionObjArgs(types[i], message, (PyObject *)NULL)
                              : NULL;

    Py_XDECREF(message);
    if (!exception)
        return NULL;
    /* The class knows its own code; a code of a later version is told as it is called. */
    if ((kinds[i].rc != rc && set_text(exception, "code", pst_rc_name(rc)) < 0) ||
        (uri && set(exception, "uri", Py_NewRef(uri)) < 0) ||
        (err && set_facts(exception, err) < 0))
        goto failed;
    if (PyObject_IsInstance(exception, PyExc_OSError) == 1) {
        const int number = err && err->sys_errno ? err->sys_errno : kinds[i].sys_errno;
        if (set_number(exception, "errno", number) < 0)
            goto failed;
    }
    return exception;
failed:
    Py_DECREF(exception);
    return NULL;
}

PyObject *py_raise(pst_rc rc, const pst_error *err, PyObject *uri)
{
    if (rc == PST_E_CANCELLED && PyErr_Occurred())
        return NULL;
    PyObject *exception = py_exception_new(rc, err, uri);
    if (exception) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

PyObject *py_refuse(PyObject *uri, const char *format, ...)
{
    pst_error err = PST_ERROR_INIT;
    va_list args;

    va_start(args, format);
    vsnprintf(err.message, sizeof(err.message), format, args);
    va_end(args);
    return py_raise(PST_E_INVALID, &err, uri);
}

/* ---- the classes ------------------------------------------------------------------------------- */

/* Makes penstock.<name> and puts it in the module. Borrowed: the module keeps it. */
static PyObject *make_class(PyObject *module, const char *name, const char *doc, PyObject *bases,
                            PyObject *attributes)
{
    char full_name[64];
    PyObject *type = NULL;

    if (PyOS_snprintf(full_name, sizeof(full_name), "penstock.%s", name) > 0)
        type = PyErr_NewExceptionWithDoc(full_name, doc, bases, attributes);
    if (type && PyModule_AddObjectRef(module, name, type) < 0)
        Py_CLEAR(type);
    return type;
}

/* A member of OSError that is set goes among the attributes. */
static int keep_member(PyObject *self, const char *name, PyObject *state)
{
    PyObject *value = PyObject_GetAttrString(self, name);
    int rc = !value ? -1 : value == Py_None ? 0 : PyDict_SetItemString(state, name, value);

    Py_XDECREF(value);
    return rc;
}

/* What pickle and copy make it again from: class, args, attributes. OSError's own way forgets the members
 * that were set after it was made. */
static PyObject *reduce(PyObject *self, PyObject *unused)
{
    static const char *const members[] = {"errno", "strerror", "filename", "filename2"};
    PyObject *args = PyObject_GetAttrString(self, "args");
    PyObject *attributes = args ? PyObject_GetAttrString(self, "__dict__") : NULL;
    PyObject *state = attributes ? PyDict_Copy(attributes) : NULL, *parts = NULL;
    int rc = state ? PyObject_IsInstance(self, PyExc_OSError) : -1;

    (void)unused;
    for (size_t i = 0; rc == 1 && i < sizeof(members) / sizeof(members[0]); i++)
        rc = keep_member(self, members[i], state) < 0 ? -1 : 1;
    if (rc >= 0)
        parts = PyTuple_Pack(3, (PyObject *)Py_TYPE(self), args, state);
    Py_XDECREF(state);
    Py_XDECREF(attributes);
    Py_XDECREF(args);
    return parts;
}

static int add_reduce(PyObject *type)
{
    static PyMethodDef definition = {"__reduce__", reduce, METH_NOARGS, NULL};
    PyObject *method = PyDescr_NewMethod((PyTypeObject *)type, &definition);
    int rc = method ? PyObject_SetAttrString(type, "__reduce__", method) : -1;

    Py_XDECREF(method);
    return rc;
}

/* The root, with the default of every attribute. */
static PyObject *make_root(PyObject *module)
{
    static const char *const absent[] = {"code",    "uri",          "http_status",   "request_id",
                                         "attempt", "max_attempts", "provider_code", "endpoint"};
    PyObject *attributes = Py_BuildValue("{s:O,s:O}", "retryable", Py_False, "maybe_applied",
                                         Py_False);

    for (size_t i = 0; attributes && i < sizeof(absent) / sizeof(absent[0]); i++) {
        if (PyDict_SetItemString(attributes, absent[i], Py_None) < 0)
            Py_CLEAR(attributes);
    }
    PyObject *root = attributes ? make_class(module, "Error",
                                             "Any failure of Penstock; the subclasses say which.",
                                             PyExc_RuntimeError, attributes)
                                : NULL;
    Py_XDECREF(attributes);
    if (root && add_reduce(root) < 0)
        Py_CLEAR(root);
    return root;
}

static PyObject *parent_of(const struct kind *kind)
{
    if (!kind->parent)
        return py_module.error;
    for (size_t i = 0; i < N_KINDS; i++) {
        if (strcmp(kinds[i].name, kind->parent) == 0)
            return types[i]; /* made before its children: the order of the table */
    }
    return NULL;
}

static int make_kind(PyObject *module, size_t i)
{
    const struct kind *kind = &kinds[i];
    PyObject *parent = parent_of(kind);
    PyObject *bases = kind->base ? PyTuple_Pack(2, parent, *kind->base) : PyTuple_Pack(1, parent);
    PyObject *attributes = Py_BuildValue("{s:s}", "code", pst_rc_name(kind->rc));

    if (bases && attributes)
        types[i] = make_class(module, kind->name, kind->doc, bases, attributes);
    Py_XDECREF(bases);
    Py_XDECREF(attributes);
    return types[i] ? 0 : -1;
}

/* Raised by the Python half: no code of the core tells a wanted length from the one found. */
static int make_length_mismatch(PyObject *module)
{
    PyObject *bases = PyTuple_Pack(2, py_module.error, PyExc_ValueError);
    PyObject *attributes = Py_BuildValue("{s:s,s:O,s:O}", "code", "RANGE", "expected", Py_None,
                                         "actual", Py_None);
    PyObject *type = bases && attributes
                         ? make_class(module, "LengthMismatchError",
                                      "An object has another length than was expected.", bases,
                                      attributes)
                         : NULL;

    Py_XDECREF(bases);
    Py_XDECREF(attributes);
    Py_XDECREF(type);
    return type ? 0 : -1;
}

int py_errors_init(PyObject *module)
{
    py_module.error = make_root(module);
    if (!py_module.error)
        return -1;
    for (size_t i = 0; i < N_KINDS; i++) {
        if (make_kind(module, i) < 0)
            return -1;
    }
    if (make_length_mismatch(module) < 0)
        return -1;
    return PyModule_AddObjectRef(module, "ObjectNotFoundError", types[find_kind(PST_E_NOT_FOUND)]);
}
