/* many_args.c - the arguments of operations on many objects: lists, pairs, and the places that they name. */
#include "many.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

int py_is_of_store(PyObject *self)
{
    return PyObject_TypeCheck(self, py_module.store);
}

PyObject *py_items_take(PyObject *value, const char *what)
{
    if (PyUnicode_Check(value) || PyBytes_Check(value))
        return PyErr_Format(PyExc_TypeError, "%s must be a list, not %R", what, Py_TYPE(value));
    return PySequence_List(value);
}

int py_pair_take(PyObject *item, const char *what, PyObject **pair, PyObject **first,
                 PyObject **second)
{
    *pair = PyUnicode_Check(item) || PyBytes_Check(item) ? NULL : PySequence_Tuple(item);
    if (*pair && PyTuple_Size(*pair) == 2) {
        *first = PyTuple_GetItem(*pair, 0);
        *second = PyTuple_GetItem(*pair, 1);
        return 0;
    }
    if (*pair) {
        PyErr_Format(PyExc_ValueError, "%s, not %zd values", what, PyTuple_Size(*pair));
    } else if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s, not %R", what, Py_TYPE(item));
    }
    Py_CLEAR(*pair);
    return -1;
}

int py_in_flight_take(PyObject *value, uint32_t if_none, uint32_t *out)
{
    uint64_t n = if_none;
    if (py_u64_take(value, "max_in_flight", if_none, &n) < 0)
        return -1;
    if (n == 0 || n > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError,
                        n ? "max_in_flight is too large" : "max_in_flight must be above 0");
        return -1;
    }
    *out = (uint32_t)n;
    return 0;
}

static pst_str scheme_of(const struct py_place *place)
{
    const char *colon = memchr(place->text.str.ptr, ':', place->text.str.len);
    return pst_str_of(place->text.str.ptr, colon ? (size_t)(colon - place->text.str.ptr) : 0);
}

/* One call serves one scheme, as those who come from elsewhere expect. */
static int check_scheme(const struct py_place *first, const struct py_place *place)
{
    pst_str a = scheme_of(first), b = scheme_of(place);
    int is_same = a.len == b.len;
    for (size_t i = 0; is_same && i < a.len; i++)
        is_same = (a.ptr[i] | 0x20) == (b.ptr[i] | 0x20);
    if (is_same)
        return 0;
    PyObject *uri = py_place_uri(place);
    if (uri)
        py_refuse(uri, "one call takes URIs of one scheme, not both %.*s:// and %.*s://",
                  (int)a.len, a.ptr, (int)b.len, b.ptr);
    Py_XDECREF(uri);
    return -1;
}

int py_places_take(PyObject *self, PyObject *value, struct py_place *places, size_t i)
{
    if (py_place_take(self, value, &places[i]) < 0)
        return -1;
    return places[i].store == places[0].store ? 0 : check_scheme(&places[0], &places[i]);
}

void py_places_clear(struct py_place *places, size_t n)
{
    for (size_t i = 0; places && i < n; i++)
        py_place_clear(&places[i]);
    free(places);
}

uint64_t py_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t py_time_left(uint64_t timeout_ms, uint64_t began_ms)
{
    uint64_t spent_ms = timeout_ms ? py_now_ms() - began_ms : 0;
    return timeout_ms == 0 ? 0 : spent_ms < timeout_ms ? timeout_ms - spent_ms : 1;
}
