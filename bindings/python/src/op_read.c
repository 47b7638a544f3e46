/* op_read.c - reading an object: whole, in part, or into memory of the caller.
 *
 * get_into holds the caller's memory by its buffer export until the call has returned; by then, after an
 * error or Ctrl-C too, nothing writes there any more. */
#include "ops.h"

#include <string.h>

/* How an object is read. */
struct read_in {
    PyObject *version, *if_match, *verify, *decode, *timeout;
};
struct reading {
    pst_read_options options;
    struct py_text version, if_match, checksum;
    double timeout_s;
    int is_validated;
};

static void clear_reading(struct reading *reading)
{
    py_text_clear(&reading->version);
    py_text_clear(&reading->if_match);
    py_text_clear(&reading->checksum);
}

static int take_reading(const struct read_in *in, struct reading *out)
{
    memset(out, 0, sizeof(*out));
    out->options.struct_size = sizeof(out->options);
    if (py_timeout_take(in->timeout ? in->timeout : Py_None, &out->timeout_s) < 0 ||
        py_decode_take(in->decode, &out->options.decode) < 0)
        return -1;
    if (in->verify && in->verify != Py_None && in->verify != Py_False) {
        out->is_validated = 1;
        if (in->verify != Py_True && py_text_take(in->verify, "verify", &out->checksum) < 0)
            return -1;
    }
    if (py_text_take_optional(in->version, "version", &out->version) < 0 ||
        py_text_take_optional(in->if_match, "if_match", &out->if_match) < 0) {
        clear_reading(out);
        return -1;
    }
    out->options.version = out->version.str;
    out->options.if_match = out->if_match.str;
    return 0;
}

enum extent { WHOLE, RANGE, SUFFIX };

static pst_rc read_extent(const struct py_place *place, enum extent extent, uint64_t offset,
                          uint64_t length, const struct reading *reading, const pst_call *call,
                          pst_buffer **out, pst_error *err)
{
    const pst_read_options *options = &reading->options;

    if (extent == SUFFIX)
        return pst_get_suffix(place->store, place->key, length, options, call, out, NULL, err);
    if (extent == WHOLE)
        return reading->is_validated
                   ? pst_get_with_validation(place->store, place->key, reading->checksum.str,
                                             options, call, out, NULL, err)
                   : pst_get(place->store, place->key, options, call, out, NULL, err);
    return reading->is_validated
               ? pst_get_range_with_validation(place->store, place->key, offset, length,
                                               reading->checksum.str, options, call, out, NULL, err)
               : pst_get_range(place->store, place->key, offset, length, options, call, out, NULL,
                               err);
}

static PyObject *read_view(PyObject *self, PyObject *where, enum extent extent, uint64_t offset,
                           uint64_t length, uint32_t flags, const struct read_in *in)
{
    pst_error err = PST_ERROR_INIT;
    pst_buffer *buffer = NULL;
    PyObject *result = NULL;
    struct reading reading;
    struct py_place place;
    struct py_call call;
    pst_rc rc;

    if (take_reading(in, &reading) < 0)
        return NULL;
    reading.options.flags |= flags;
    if (py_place_take(self, where, &place) < 0) {
        clear_reading(&reading);
        return NULL;
    }
    if (py_call_begin(&call, reading.timeout_s) == 0) {
        rc = read_extent(&place, extent, offset, length, &reading, &call.limits, &buffer, &err);
        if (py_call_end(&call) < 0)
            pst_buffer_unref(buffer);
        else
            result = rc == PST_OK ? py_view_new(buffer) : py_place_fail(&place, rc, &err);
    }
    py_place_clear(&place);
    clear_reading(&reading);
    return result;
}

PyObject *py_op_get(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_place_word(self), "version", "if_match", "verify", "decode",
                     "timeout",           NULL};
    struct read_in in = {0};
    PyObject *where;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOOO:get", names, &where, &in.version,
                                     &in.if_match, &in.verify, &in.decode, &in.timeout))
        return NULL;
    return read_view(self, where, WHOLE, 0, PST_UNKNOWN, 0, &in);
}

PyObject *py_op_get_range(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_place_word(self), "offset", "length", "exact",   "version",
                     "if_match",          "verify", "decode", "timeout", NULL};
    PyObject *where, *offset, *length = Py_None;
    uint64_t offset_bytes, length_bytes;
    struct read_in in = {0};
    int is_exact = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O$pOOOOO:get_range", names, &where, &offset,
                                     &length, &is_exact, &in.version, &in.if_match, &in.verify,
                                     &in.decode, &in.timeout) ||
        py_u64_take(offset, "offset", 0, &offset_bytes) < 0 ||
        py_u64_take(length, "length", PST_UNKNOWN, &length_bytes) < 0)
        return NULL;
    return read_view(self, where, RANGE, offset_bytes, length_bytes, is_exact ? PST_READ_EXACT : 0,
                     &in);
}

PyObject *py_op_get_suffix(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_place_word(self), "length",  "exact", "version",
                     "if_match",          "timeout", NULL};
    struct read_in in = {0};
    PyObject *where, *length;
    uint64_t length_bytes;
    int is_exact = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$pOOO:get_suffix", names, &where, &length,
                                     &is_exact, &in.version, &in.if_match, &in.timeout) ||
        py_u64_take(length, "length", PST_UNKNOWN, &length_bytes) < 0)
        return NULL;
    return read_view(self, where, SUFFIX, 0, length_bytes, is_exact ? PST_READ_EXACT : 0, &in);
}

static PyObject *read_into(PyObject *self, PyObject *where, const Py_buffer *dst, uint64_t offset,
                           const struct read_in *in)
{
    pst_error err = PST_ERROR_INIT;
    PyObject *result = NULL;
    struct reading reading;
    struct py_place place;
    struct py_call call;
    size_t n_read = 0;
    pst_rc rc;

    if (take_reading(in, &reading) < 0)
        return NULL;
    if (py_place_take(self, where, &place) < 0) {
        clear_reading(&reading);
        return NULL;
    }
    if (py_call_begin(&call, reading.timeout_s) == 0) {
        rc = pst_get_into(place.store, place.key, offset, dst->buf, (size_t)dst->len,
                          &reading.options, &call.limits, &n_read, NULL, &err);
        if (py_call_end(&call) == 0)
            result = rc == PST_OK ? PyLong_FromSize_t(n_read) : py_place_fail(&place, rc, &err);
    }
    py_place_clear(&place);
    clear_reading(&reading);
    return result;
}

PyObject *py_op_get_into(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_place_word(self), "buffer", "offset",  "version",
                     "if_match",          "decode", "timeout", NULL};
    PyObject *where, *into, *offset = Py_None, *result;
    struct read_in in = {0};
    uint64_t offset_bytes;
    Py_buffer dst;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O$OOOO:get_into", names, &where, &into,
                                     &offset, &in.version, &in.if_match, &in.decode, &in.timeout) ||
        py_u64_take(offset, "offset", 0, &offset_bytes) < 0 || py_writable_take(into, &dst) < 0)
        return NULL;
    result = read_into(self, where, &dst, offset_bytes, &in);
    PyBuffer_Release(&dst);
    return result;
}
