/* op_object.c - looking at objects and deleting them. */
#include "ops.h"

#include <stdlib.h>
#include <string.h>

PyObject *py_op_stat(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_place_word(self), "version", "timeout", NULL};
    PyObject *where, *version_in = NULL, *timeout = Py_None, *result = NULL;
    pst_stat_options options = {.struct_size = sizeof(options)};
    pst_error err = PST_ERROR_INIT;
    struct py_text version;
    struct py_place place;
    pst_attr *attr = NULL;
    struct py_call call;
    double timeout_s;
    pst_rc rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OO:stat", names, &where, &version_in,
                                     &timeout) ||
        py_timeout_take(timeout, &timeout_s) < 0 ||
        py_text_take_optional(version_in, "version", &version) < 0)
        return NULL;
    options.version = version.str;
    if (py_place_take(self, where, &place) < 0) {
        py_text_clear(&version);
        return NULL;
    }
    if (py_call_begin(&call, timeout_s) == 0) {
        rc = pst_stat(place.store, place.key, &options, &call.limits, &attr, &err);
        if (py_call_end(&call) == 0)
            result = rc == PST_OK ? py_attr_dict(attr) : py_place_fail(&place, rc, &err);
        pst_attr_free(attr);
    }
    py_place_clear(&place);
    py_text_clear(&version);
    return result;
}

PyObject *py_op_exists(PyObject *self, PyObject *args, PyObject *kwargs)
{
    pst_error err = PST_ERROR_INIT;
    PyObject *result = NULL;
    struct py_place place;
    struct py_call call;
    double timeout_s;
    int exists = 0;
    pst_rc rc;

    if (py_place_parse(self, args, kwargs, "O|$O:exists", &place, &timeout_s) < 0)
        return NULL;
    if (py_call_begin(&call, timeout_s) == 0) {
        rc = pst_exists(place.store, place.key, &call.limits, &exists, &err);
        if (py_call_end(&call) == 0)
            result = rc == PST_OK ? PyBool_FromLong(exists) : py_place_fail(&place, rc, &err);
    }
    py_place_clear(&place);
    return result;
}

PyObject *py_op_delete(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_place_word(self), "version", "if_match", "timeout", NULL};
    PyObject *where, *version_in = NULL, *match_in = NULL, *timeout = Py_None, *result = NULL;
    pst_delete_options options = {.struct_size = sizeof(options)};
    pst_error err = PST_ERROR_INIT;
    struct py_text version, match;
    struct py_place place;
    struct py_call call;
    double timeout_s;
    pst_rc rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOO:delete_object", names, &where,
                                     &version_in, &match_in, &timeout) ||
        py_timeout_take(timeout, &timeout_s) < 0 ||
        py_text_take_optional(version_in, "version", &version) < 0)
        return NULL;
    if (py_text_take_optional(match_in, "if_match", &match) < 0) {
        py_text_clear(&version);
        return NULL;
    }
    options.version = version.str;
    options.if_match = match.str;
    if (py_place_take(self, where, &place) == 0) {
        if (py_call_begin(&call, timeout_s) == 0) {
            rc = pst_delete(place.store, place.key, &options, &call.limits, &err);
            if (py_call_end(&call) == 0)
                result = rc == PST_OK ? Py_NewRef(Py_None) : py_place_fail(&place, rc, &err);
        }
        py_place_clear(&place);
    }
    py_text_clear(&match);
    py_text_clear(&version);
    return result;
}

PyObject *py_op_delete_prefix(PyObject *self, PyObject *args, PyObject *kwargs)
{
    pst_error err = PST_ERROR_INIT;
    PyObject *result = NULL;
    struct py_place place;
    uint64_t n_deleted = 0;
    struct py_call call;
    double timeout_s;
    pst_rc rc;

    if (py_place_parse(self, args, kwargs, "O|$O:delete_prefix", &place, &timeout_s) < 0)
        return NULL;
    if (py_call_begin(&call, timeout_s) == 0) {
        rc = pst_delete_prefix(place.store, place.key, &call.limits, &n_deleted, &err);
        if (py_call_end(&call) == 0)
            result = rc == PST_OK ? PyLong_FromUnsignedLongLong(n_deleted)
                                  : py_place_fail(&place, rc, &err);
    }
    py_place_clear(&place);
    return result;
}

/* ---- deleting many ------------------------------------------------------------------------------- */

struct batch {
    struct py_text *texts;
    pst_str *keys;
    pst_rc *statuses;
    size_t n;
};

static void clear_batch(struct batch *batch)
{
    for (size_t i = 0; batch->texts && i < batch->n; i++)
        py_text_clear(&batch->texts[i]);
    free(batch->texts);
    free(batch->keys);
    free(batch->statuses);
}

static int take_batch(PyObject *list, struct batch *out)
{
    Py_ssize_t n = PyList_Size(list);

    memset(out, 0, sizeof(*out));
    if (n < 0)
        return -1;
    out->texts = calloc((size_t)n + 1, sizeof(*out->texts));
    out->keys = calloc((size_t)n + 1, sizeof(*out->keys));
    out->statuses = calloc((size_t)n + 1, sizeof(*out->statuses));
    if (!out->texts || !out->keys || !out->statuses) {
        clear_batch(out);
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (py_text_take(PyList_GetItem(list, i), "key", &out->texts[i]) < 0) {
            clear_batch(out);
            return -1;
        }
        out->keys[i] = out->texts[i].str;
        out->n++;
    }
    return 0;
}

static PyObject *outcome_of(const struct py_place *store, const struct py_text *key, pst_rc rc,
                            const pst_error *err)
{
    const struct py_place place = {.self = store->self, .text = *key};
    PyObject *uri, *exception;

    if (rc == PST_OK)
        return Py_NewRef(Py_None);
    uri = py_place_uri(&place);
    exception = uri ? py_exception_new(rc, err, uri) : NULL;
    Py_XDECREF(uri);
    return exception;
}

/* A list with None or an exception for each key. The engine tells details of one failure, the first: where
 * there are several nobody knows whose they are. */
static PyObject *outcomes_of(const struct py_place *store, const struct batch *batch,
                             const pst_error *err)
{
    PyObject *result = PyList_New(0);
    size_t n_failed = 0;

    for (size_t i = 0; i < batch->n; i++)
        n_failed += batch->statuses[i] != PST_OK;
    for (size_t i = 0; result && i < batch->n; i++) {
        PyObject *one = outcome_of(store, &batch->texts[i], batch->statuses[i],
                                   n_failed == 1 ? err : NULL);
        if (!one || PyList_Append(result, one) < 0)
            Py_CLEAR(result);
        Py_XDECREF(one);
    }
    return result;
}

static PyObject *delete_batch(PyObject *self, PyObject *keys, int returns_exceptions,
                              double timeout_s)
{
    pst_error err = PST_ERROR_INIT;
    PyObject *result = NULL, *nothing = PyUnicode_FromString("");
    struct py_place place;
    struct batch batch;
    struct py_call call;
    pst_rc rc;

    if (!nothing)
        return NULL;
    if (take_batch(keys, &batch) < 0) {
        Py_DECREF(nothing);
        return NULL;
    }
    if (py_place_take(self, nothing, &place) == 0) {
        for (size_t i = 0; i < batch.n; i++)
            batch.statuses[i] = PST_E_CANCELLED; /* what is not reached */
        if (py_call_begin(&call, timeout_s) == 0) {
            rc = pst_delete_many(place.store, batch.keys, NULL, batch.n, &call.limits,
                                 batch.statuses, &err);
            if (py_call_end(&call) == 0)
                result = rc == PST_OK || returns_exceptions ? outcomes_of(&place, &batch, &err)
                                                            : py_place_fail(&place, rc, &err);
        }
        py_place_clear(&place);
    }
    clear_batch(&batch);
    Py_DECREF(nothing);
    return result;
}

PyObject *py_op_delete_many(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"keys", "return_exceptions", "timeout", NULL};
    PyObject *keys, *timeout = Py_None, *list, *result;
    int returns_exceptions = 0;
    double timeout_s;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$pO:delete_many", names, &keys,
                                     &returns_exceptions, &timeout) ||
        py_timeout_take(timeout, &timeout_s) < 0)
        return NULL;
    if (PyUnicode_Check(keys) || PyBytes_Check(keys)) {
        PyErr_SetString(PyExc_TypeError, "keys must be several keys, not one");
        return NULL;
    }
    list = PySequence_List(keys);
    if (!list)
        return NULL;
    result = delete_batch(self, list, returns_exceptions, timeout_s);
    Py_DECREF(list);
    if (!result || returns_exceptions)
        return result;
    Py_DECREF(result);
    Py_RETURN_NONE;
}
