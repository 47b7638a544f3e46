/* credentials.c - Python functions that give credentials.
 *
 * A context calls back on a thread of its own, which takes the GIL for it. It may still do so when the Store
 * that it belonged to has gone, so what it calls through is never freed, only emptied; and when the
 * interpreter is going it is not waited for any more. */
#include "store.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct py_asker {
    PyObject *callable; /* of the Store; NULL: that has gone. Under the GIL */
    struct py_asker *next;
};

static struct py_asker *askers; /* all of them, so that none is lost */
static atomic_int is_exiting;

/* The exception that is set, as the one line that the errors of the waiting operations carry. */
static void tell_exception(pst_error *err)
{
    PyObject *type, *value, *trace, *text = NULL, *name = NULL, *line = NULL;
    Py_ssize_t len = 0;
    const char *chars = NULL;

    PyErr_Fetch(&type, &value, &trace);
    if (type)
        name = PyObject_GetAttrString(type, "__name__");
    if (value)
        text = PyObject_Str(value);
    if (name && text)
        line = PyUnicode_FromFormat("%U: %U", name, text);
    if (line)
        chars = PyUnicode_AsUTF8AndSize(line, &len);
    if (chars && PST_HAS(pst_error, err, message)) {
        size_t n = (size_t)len < sizeof(err->message) ? (size_t)len : sizeof(err->message) - 1;
        for (size_t i = 0; i < n; i++)
            err->message[i] = chars[i] == '\n' || chars[i] == '\r' ? ' ' : chars[i];
        err->message[n] = '\0';
    }
    PyErr_Clear();
    Py_XDECREF(line);
    Py_XDECREF(name);
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
}

/* "expires": seconds since 1970, or a datetime. */
static int add_expiry(pst_credentials_answer *answer, PyObject *value)
{
    PyObject *seconds;
    double unix_s;

    if (value == Py_None)
        return 0;
    seconds = PyObject_HasAttrString(value, "timestamp")
                  ? PyObject_CallMethod(value, "timestamp", NULL)
                  : Py_NewRef(value);
    if (!seconds)
        return -1;
    unix_s = PyFloat_AsDouble(seconds);
    Py_DECREF(seconds);
    if (unix_s == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            py_type_raise("expires", "seconds since 1970 or a datetime", value);
        return -1;
    }
    if (!(unix_s >= 0 && unix_s < 9e9)) {
        PyErr_SetString(PyExc_ValueError, "expires is no time: seconds since 1970, or a datetime");
        return -1;
    }
    pst_credentials_expire(answer, (int64_t)(unix_s * 1e9));
    return 0;
}

static int add_credential(pst_credentials_answer *answer, PyObject *key, PyObject *value)
{
    struct py_text name, text;
    pst_rc rc;

    if (py_text_take(key, "a name of credentials", &name) < 0)
        return -1;
    if (name.str.len == 7 && memcmp(name.str.ptr, "expires", 7) == 0) {
        py_text_clear(&name);
        return add_expiry(answer, value);
    }
    if (value == Py_None) {
        py_text_clear(&name);
        return 0;
    }
    if (py_text_take(value, "a value of credentials", &text) < 0) {
        py_text_clear(&name);
        return -1;
    }
    rc = pst_credentials_add(answer, name.str, text.str);
    if (rc != PST_OK)
        py_raise(rc, NULL, key);
    py_text_clear(&name);
    py_text_clear(&text);
    return rc == PST_OK ? 0 : -1;
}

static int add_credentials(pst_credentials_answer *answer, PyObject *mapping)
{
    int is_mapping = PyObject_HasAttrString(mapping, "items");
    PyObject *items = is_mapping ? PyMapping_Items(mapping) : NULL;
    int result = items ? 0 : -1;

    if (!is_mapping)
        py_type_raise("what credentials returns", "a dict", mapping);

    for (Py_ssize_t i = 0; items && result == 0 && i < PyList_Size(items); i++) {
        PyObject *pair = PyList_GetItem(items, i); /* what items() of any object gives */
        if (PyTuple_Check(pair) && PyTuple_Size(pair) == 2) {
            result = add_credential(answer, PyTuple_GetItem(pair, 0), PyTuple_GetItem(pair, 1));
        } else {
            PyErr_SetString(PyExc_TypeError, "credentials must be a mapping of names to texts");
            result = -1;
        }
    }
    Py_XDECREF(items);
    return result;
}

/* On the context's thread. */
static pst_rc ask(void *arg, const char *uri, pst_credentials_answer *answer, pst_error *err)
{
    struct py_asker *asker = arg;
    PyObject *callable, *text = NULL, *mapping = NULL;
    PyGILState_STATE gil;
    pst_rc rc = PST_OK;

    if (atomic_load(&is_exiting)) /* no interpreter to wait for any more */
        return PST_E_CANCELLED;
    gil = PyGILState_Ensure();
    callable = asker->callable;
    if (callable) {
        Py_INCREF(callable);
        text = py_str_of_chars(uri);
        if (text)
            mapping = PyObject_CallFunctionObjArgs(callable, text, NULL);
        if (!mapping || add_credentials(answer, mapping) < 0) {
            tell_exception(err);
            rc = PST_E_UNAUTHENTICATED;
        }
        Py_XDECREF(mapping);
        Py_XDECREF(text);
        Py_DECREF(callable);
    } else {
        rc = PST_E_CANCELLED;
    }
    PyGILState_Release(gil);
    return rc;
}

static PyObject *note_exit(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    atomic_store(&is_exiting, 1);
    Py_RETURN_NONE;
}

/* ---- from the Store's side ------------------------------------------------------------------------ */

struct py_asker *py_asker_new(PyObject *callable)
{
    struct py_asker *asker = calloc(1, sizeof(*asker));

    if (!asker) {
        PyErr_NoMemory();
        return NULL;
    }
    asker->callable = callable;
    asker->next = askers;
    askers = asker;
    return asker;
}

void py_asker_drop(struct py_asker *asker)
{
    if (asker)
        asker->callable = NULL;
}

pst_context *py_asker_context(struct py_asker *asker, PyObject *uri)
{
    pst_context_options options = {
        .struct_size = sizeof(options), .credentials = ask, .credentials_arg = asker};
    pst_error err = PST_ERROR_INIT;
    pst_context *context = NULL;
    PyThreadState *save;
    pst_rc rc;

    if (py_log_begin(&options) < 0)
        return NULL;
    save = PyEval_SaveThread();
    rc = pst_context_new(&options, &context, &err);
    PyEval_RestoreThread(save);
    if (rc == PST_OK)
        return context;
    py_raise(rc, &err, uri);
    return NULL;
}

int py_asker_init(void)
{
    static PyMethodDef note = {"_note_exit", note_exit, METH_NOARGS, NULL};
    PyObject *function = PyCFunction_NewEx(&note, NULL, NULL);
    PyObject *module = PyImport_ImportModule("atexit");
    PyObject *result = function && module ? PyObject_CallMethod(module, "register", "O", function)
                                          : NULL;
    int is_done = result ? 0 : -1;

    Py_XDECREF(result);
    Py_XDECREF(module);
    Py_XDECREF(function);
    return is_done;
}
