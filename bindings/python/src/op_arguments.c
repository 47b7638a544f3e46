/* op_arguments.c - arguments that several operations take. */
#include "ops.h"

#include <string.h>

int py_text_take_optional(PyObject *value, const char *what, struct py_text *out)
{
    memset(out, 0, sizeof(*out));
    if (!value || value == Py_None)
        return 0;
    return py_text_take(value, what, out);
}

int py_choose(PyObject *value, const char *what, const char *const *names, uint32_t *out)
{
    *out = 0;
    if (!value || value == Py_None)
        return 0;
    if (!PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str or None, not %R", what, Py_TYPE(value));
        return -1;
    }
    for (uint32_t i = 0; names[i]; i++) {
        if (PyUnicode_CompareWithASCIIString(value, names[i]) == 0) {
            *out = i + 1;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "%s cannot be %R", what, value);
    return -1;
}

int py_decode_take(PyObject *value, uint32_t *out)
{
    static const char *const names[] = {"name", "zstd", NULL};
    static const uint32_t decodings[] = {PST_DECODE_NEVER, PST_DECODE_BY_NAME, PST_DECODE_ZSTD};
    uint32_t i;

    if (py_choose(value, "decode", names, &i) < 0)
        return -1;
    *out = decodings[i];
    return 0;
}

int py_place_parse(PyObject *self, PyObject *args, PyObject *kwargs, const char *format,
                   struct py_place *place, double *timeout_s)
{
    char *names[] = {py_place_word(self), "timeout", NULL};
    PyObject *where, *timeout = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &where, &timeout) ||
        py_timeout_take(timeout, timeout_s) < 0)
        return -1;
    return py_place_take(self, where, place);
}
