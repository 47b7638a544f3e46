/* op_store.c - what concerns a store as a whole: containers, URLs, what it is. */
#include "ops.h"

#include <stdlib.h>

typedef pst_rc (*container_fn)(pst_store *store, pst_str name, const pst_call *call,
                               pst_error *err);

static PyObject *run_container(PyObject *self, PyObject *args, PyObject *kwargs, const char *format,
                               container_fn fn)
{
    pst_error err = PST_ERROR_INIT;
    PyObject *result = NULL;
    struct py_place place;
    struct py_call call;
    double timeout_s;
    pst_str name;
    pst_rc rc;

    if (py_place_parse(self, args, kwargs, format, &place, &timeout_s) < 0)
        return NULL;
    name = place.key;
    if (name.len > 0 && name.ptr[name.len - 1] == '/')
        name.len--;
    if (py_call_begin(&call, timeout_s) == 0) {
        rc = fn(place.store, name, &call.limits, &err);
        if (py_call_end(&call) == 0)
            result = rc == PST_OK ? Py_NewRef(Py_None) : py_place_fail(&place, rc, &err);
    }
    py_place_clear(&place);
    return result;
}

PyObject *py_op_create_container(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return run_container(self, args, kwargs, "O|$O:create_container", pst_container_create);
}

PyObject *py_op_delete_container(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return run_container(self, args, kwargs, "O|$O:delete_container", pst_container_delete);
}

PyObject *py_op_presign(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_place_word(self), "method", "expires_s", "timeout", NULL};
    PyObject *where, *method_in = NULL, *expires = Py_None, *timeout = Py_None, *result = NULL;
    pst_error err = PST_ERROR_INIT;
    struct py_text method;
    struct py_place place;
    struct py_call call;
    uint64_t expires_s;
    char *url = NULL;
    double timeout_s;
    pst_rc rc;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO$O:presign", names, &where, &method_in,
                                     &expires, &timeout) ||
        py_u64_take(expires, "expires_s", 3600, &expires_s) < 0 ||
        py_timeout_take(timeout, &timeout_s) < 0 ||
        py_text_take_optional(method_in, "method", &method) < 0)
        return NULL;
    if (py_place_take(self, where, &place) == 0) {
        if (py_call_begin(&call, timeout_s) == 0) {
            rc = pst_presign(place.store, place.key, method.str.len ? method.str : PST_STR("GET"),
                             expires_s, &call.limits, &url, &err);
            if (py_call_end(&call) == 0)
                result = rc == PST_OK ? py_str_of_chars(url) : py_place_fail(&place, rc, &err);
            free(url);
        }
        py_place_clear(&place);
    }
    py_text_clear(&method);
    return result;
}

static PyObject *capabilities_of(uint64_t caps)
{
    PyObject *result = PyFrozenSet_New(NULL);

    for (uint64_t bit = 1; result && bit; bit <<= 1) {
        const char *known = caps & bit ? pst_cap_name(bit) : NULL;
        PyObject *name = known ? py_str_of_chars(known) : NULL;
        /* Nobody else has seen the set yet, so it may still grow. */
        if (known && (!name || PySet_Add(result, name) < 0))
            Py_CLEAR(result);
        Py_XDECREF(name);
    }
    return result;
}

static PyObject *describe(pst_store *store)
{
    pst_store_info info = {.struct_size = sizeof(info)};
    PyObject *caps;

    pst_store_describe(store, &info);
    caps = capabilities_of(info.caps);
    if (!caps)
        return NULL;
    return Py_BuildValue("{szszszszszsNsKsKsKsI}", "plugin", info.plugin, "scheme", info.scheme,
                         "authority", info.authority, "endpoint", info.endpoint, "note", info.note,
                         "capabilities", caps, "object_max", (unsigned long long)info.object_max,
                         "part_min", (unsigned long long)info.part_min, "part_max",
                         (unsigned long long)info.part_max, "parts_max", info.parts_max);
}

PyObject *py_op_describe_store(PyObject *self, PyObject *unused)
{
    PyObject *nothing = PyUnicode_FromString(""), *result = NULL;
    struct py_place place;

    (void)unused;
    if (nothing && py_place_take(self, nothing, &place) == 0) {
        result = describe(place.store);
        py_place_clear(&place);
    }
    Py_XDECREF(nothing);
    return result;
}

PyObject *py_op_describe(PyObject *self, PyObject *uri)
{
    struct py_place place;
    PyObject *result;

    if (py_place_take(self, uri, &place) < 0)
        return NULL;
    result = describe(place.store);
    py_place_clear(&place);
    return result;
}
