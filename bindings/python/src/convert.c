/* convert.c - values of Python's as the C API takes them, and back.
 *
 * What has the wrong type is a TypeError and what cannot be a ValueError, both naming the argument, and
 * both before anything is read or written. Keys are bytes to Penstock: str travels as UTF-8, and bytes
 * that are none as surrogate escapes, so that what a listing gave finds its object again. */
#include "py.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int py_type_raise(const char *what, const char *wanted, PyObject *value)
{
    PyObject *name = PyType_GetName(Py_TYPE(value));

    if (name)
        PyErr_Format(PyExc_TypeError, "%s must be %s, not %U", what, wanted, name);
    Py_XDECREF(name);
    return -1;
}

/* ---- text -------------------------------------------------------------------------------------- */

/* Steals `bytes`, an object of type bytes. */
static int take_bytes(PyObject *bytes, struct py_text *out)
{
    char *data = NULL;
    Py_ssize_t n = 0;

    if (!bytes || PyBytes_AsStringAndSize(bytes, &data, &n) < 0) {
        Py_XDECREF(bytes);
        return -1;
    }
    out->owner = bytes;
    out->str = pst_str_of(data, (size_t)n);
    return 0;
}

static int take_str(PyObject *value, struct py_text *out)
{
    Py_ssize_t n = 0;
    const char *data = PyUnicode_AsUTF8AndSize(value, &n);

    if (data) {
        out->owner = Py_NewRef(value);
        out->str = pst_str_of(data, (size_t)n);
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        return -1;
    PyErr_Clear(); /* it has surrogates: those of surrogateescape stand for bytes */
    return take_bytes(PyUnicode_AsEncodedString(value, "utf-8", "surrogateescape"), out);
}

int py_text_take(PyObject *value, const char *what, struct py_text *out)
{
    *out = (struct py_text){0};
    if (PyUnicode_Check(value))
        return take_str(value, out);
    if (PyBytes_Check(value))
        return take_bytes(Py_NewRef(value), out);
    return py_type_raise(what, "str or bytes", value);
}

void py_text_clear(struct py_text *text)
{
    Py_CLEAR(text->owner);
    text->str = pst_str_of(NULL, 0);
}

/* The absolute form of a path, in the bytes of the file system. New reference. */
static PyObject *absolute_path(PyObject *value)
{
    PyObject *path = PyOS_FSPath(value);
    PyObject *os_path = path ? PyImport_ImportModule("os.path") : NULL;
    PyObject *absolute = os_path ? PyObject_CallMethod(os_path, "abspath", "(O)", path) : NULL;

    if (absolute && PyUnicode_Check(absolute)) {
        PyObject *encoded = PyUnicode_EncodeFSDefault(absolute);
        Py_DECREF(absolute);
        absolute = encoded;
    }
    Py_XDECREF(os_path);
    Py_XDECREF(path);
    return absolute;
}

static int take_path(PyObject *value, struct py_text *out)
{
    static const char scheme[] = "file://";
    const size_t n_scheme = sizeof(scheme) - 1;
    PyObject *path = absolute_path(value);
    PyObject *uri = NULL;
    char *data = NULL;
    Py_ssize_t n = 0;

    if (path && PyBytes_AsStringAndSize(path, &data, &n) == 0)
        uri = PyBytes_FromStringAndSize(NULL, n + (Py_ssize_t)n_scheme);
    if (uri) {
        char *to = PyBytes_AsString(uri);
        memcpy(to, scheme, n_scheme);
        memcpy(to + n_scheme, data, (size_t)n);
    }
    Py_XDECREF(path);
    return take_bytes(uri, out);
}

int py_uri_take(PyObject *value, struct py_text *out)
{
    *out = (struct py_text){0};
    if (PyUnicode_Check(value) || PyBytes_Check(value))
        return py_text_take(value, "uri", out);
    PyObject *fspath = PyObject_GetAttrString((PyObject *)Py_TYPE(value), "__fspath__");
    if (!fspath) {
        PyErr_Clear();
        return py_type_raise("uri", "str, bytes or os.PathLike", value);
    }
    Py_DECREF(fspath);
    return take_path(value, out);
}

PyObject *py_str_of(pst_str text)
{
    return PyUnicode_DecodeUTF8(text.len ? text.ptr : "", (Py_ssize_t)text.len, "surrogateescape");
}

PyObject *py_str_of_chars(const char *text)
{
    return py_str_of(pst_str_of(text, text ? strlen(text) : 0));
}

/* ---- pairs ------------------------------------------------------------------------------------- */

/* The text that an option's value stands for. New reference, or NULL with TypeError. */
static PyObject *text_of_value(PyObject *key, PyObject *value, const char *what)
{
    if (PyUnicode_Check(value) || PyBytes_Check(value))
        return Py_NewRef(value);
    if (PyBool_Check(value))
        return PyUnicode_FromString(value == Py_True ? "true" : "false");
    if (PyIndex_Check(value))
        return PyNumber_ToBase(value, 10);
    PyObject *name = PyType_GetName(Py_TYPE(value));
    if (name)
        PyErr_Format(PyExc_TypeError, "%s[%R] must be str, bytes, int or bool, not %U", what, key,
                     name);
    Py_XDECREF(name);
    return NULL;
}

/* One text whose owner goes into the list. */
static int take_owned(struct py_kv *out, PyObject *value, const char *what, pst_str *str)
{
    struct py_text text;

    if (py_text_take(value, what, &text) < 0)
        return -1;
    const int rc = PyList_Append(out->owner, text.owner);
    *str = text.str;
    py_text_clear(&text);
    return rc;
}

static int take_pair(struct py_kv *out, PyObject *key, PyObject *value, const char *what)
{
    pst_kv *kv = &out->kv[out->n];

    if (!PyUnicode_Check(key) && !PyBytes_Check(key)) {
        PyErr_Format(PyExc_TypeError, "%s: names must be str, not %R", what, key);
        return -1;
    }
    PyObject *text = text_of_value(key, value, what);
    if (!text)
        return -1;
    int rc = take_owned(out, key, what, &kv->key);
    if (rc == 0)
        rc = take_owned(out, text, what, &kv->value);
    Py_DECREF(text);
    if (rc == 0)
        out->n++;
    return rc;
}

int py_kv_take(PyObject *dict, const char *what, struct py_kv *out)
{
    PyObject *key = NULL, *value = NULL;
    Py_ssize_t position = 0;

    *out = (struct py_kv){0};
    if (!dict || dict == Py_None)
        return 0;
    if (!PyDict_Check(dict))
        return py_type_raise(what, "a dict", dict);
    const size_t room = (size_t)PyDict_Size(dict);
    if (room == 0)
        return 0;
    out->owner = PyList_New(0);
    out->kv = calloc(room, sizeof(*out->kv));
    if (!out->owner || !out->kv) {
        if (out->owner)
            PyErr_NoMemory();
        py_kv_clear(out);
        return -1;
    }
    /* Taking a pair may run code of a value's own type, so it may change the dict: never past the room. */
    while (out->n < room && PyDict_Next(dict, &position, &key, &value)) {
        if (value == Py_None)
            continue;
        Py_INCREF(key);
        Py_INCREF(value);
        const int rc = take_pair(out, key, value, what);
        Py_DECREF(key);
        Py_DECREF(value);
        if (rc < 0) {
            py_kv_clear(out);
            return -1;
        }
    }
    return 0;
}

void py_kv_clear(struct py_kv *kv)
{
    free(kv->kv);
    Py_XDECREF(kv->owner);
    *kv = (struct py_kv){0};
}

/* ---- numbers ----------------------------------------------------------------------------------- */

int py_u64_take(PyObject *value, const char *what, uint64_t if_none, uint64_t *out)
{
    *out = if_none;
    if (!value || value == Py_None)
        return 0;
    if (!PyIndex_Check(value))
        return py_type_raise(what, "an int", value);
    PyObject *number = PyNumber_Index(value);
    PyObject *zero = PyLong_FromLong(0);
    int is_negative = number && zero ? PyObject_RichCompareBool(number, zero, Py_LT) : -1;
    uint64_t taken = 0;
    if (is_negative == 0)
        taken = PyLong_AsUnsignedLongLong(number);
    Py_XDECREF(number);
    Py_XDECREF(zero);
    if (is_negative < 0)
        return -1;
    if (is_negative) {
        PyErr_Format(PyExc_ValueError, "%s must not be negative", what);
        return -1;
    }
    if (PyErr_Occurred() || taken == PST_UNKNOWN) {
        PyErr_Format(PyExc_ValueError, "%s is too large", what);
        return -1;
    }
    *out = taken;
    return 0;
}

int py_timeout_take(PyObject *value, double *out)
{
    *out = -1;
    if (!value || value == Py_None)
        return 0;
    const double seconds = PyFloat_AsDouble(value);
    if (PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            py_type_raise("timeout", "a number of seconds or None", value);
        }
        return -1;
    }
    if (!(seconds > 0)) { /* not a number, too */
        PyErr_SetString(PyExc_ValueError, "timeout must be above 0 seconds; None is no limit");
        return -1;
    }
    if (isfinite(seconds))
        *out = seconds;
    return 0;
}

/* ---- bytes ------------------------------------------------------------------------------------- */

/* In place of the BufferError of an object that has bytes, but not in one piece. Returns -1. */
static int raise_not_contiguous(const char *what)
{
    if (PyErr_ExceptionMatches(PyExc_BufferError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s must be contiguous in memory", what);
    }
    return -1;
}

int py_bytes_take(PyObject *value, Py_buffer *out)
{
    if (!PyObject_CheckBuffer(value))
        return py_type_raise("data", "bytes or another object with a buffer", value);
    return PyObject_GetBuffer(value, out, PyBUF_SIMPLE) < 0 ? raise_not_contiguous("data") : 0;
}

int py_writable_take(PyObject *value, Py_buffer *out)
{
    if (!PyObject_CheckBuffer(value))
        return py_type_raise("buffer", "bytearray or another object with a writable buffer", value);
    if (PyObject_GetBuffer(value, out, PyBUF_WRITABLE) == 0)
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_BufferError))
        return -1;
    /* Which of the two is it not? */
    PyErr_Clear();
    if (PyObject_GetBuffer(value, out, PyBUF_SIMPLE) < 0)
        return raise_not_contiguous("buffer");
    PyBuffer_Release(out);
    return py_type_raise("buffer", "writable", value);
}

/* ---- attributes -------------------------------------------------------------------------------- */

/* RFC 3339 in UTC to the nanosecond, or None. */
static PyObject *rfc3339_of(int64_t unix_ns)
{
    char text[80];
    struct tm tm;

    if (unix_ns == PST_TIME_UNKNOWN)
        return Py_NewRef(Py_None);
    int64_t seconds = unix_ns / 1000000000, rest = unix_ns % 1000000000;
    if (rest < 0) {
        seconds--;
        rest += 1000000000;
    }
    const time_t time = (time_t)seconds;
    if (!gmtime_r(&time, &tm))
        return Py_NewRef(Py_None);
    PyOS_snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ", tm.tm_year + 1900,
                  tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)rest);
    return PyUnicode_FromString(text);
}

static PyObject *text_or_none(pst_str text)
{
    return text.len ? py_str_of(text) : Py_NewRef(Py_None);
}

static PyObject *dict_of_pairs(const pst_kv *kv, size_t n)
{
    PyObject *dict = PyDict_New();

    for (size_t i = 0; dict && i < n; i++) {
        PyObject *key = py_str_of(kv[i].key);
        PyObject *value = py_str_of(kv[i].value);
        if (!key || !value || PyDict_SetItem(dict, key, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

static const char *algorithm_name(uint32_t algorithm)
{
    switch (algorithm) {
    case PST_SUM_CRC32C:
        return "crc32c";
    case PST_SUM_CRC64NVME:
        return "crc64nvme";
    case PST_SUM_SHA256:
        return "sha256";
    case PST_SUM_MD5:
        return "md5";
    default:
        return NULL;
    }
}

static PyObject *hex_of(const pst_sum *sum)
{
    char text[2 * sizeof(sum->bytes)];
    size_t n = 0;

    for (; n < sum->length && n < sizeof(sum->bytes); n++) {
        text[2 * n] = "0123456789abcdef"[sum->bytes[n] >> 4];
        text[2 * n + 1] = "0123456789abcdef"[sum->bytes[n] & 15];
    }
    return PyUnicode_FromStringAndSize(text, (Py_ssize_t)(2 * n));
}

/* Names and hexadecimal digits of the object's sums. */
static PyObject *dict_of_sums(const pst_attr *attr)
{
    PyObject *dict = PyDict_New();

    for (size_t i = 0; dict && i < attr->n_sums; i++) {
        const pst_sum *sum = (const void *)((const char *)attr->sums + i * attr->sum_stride);
        const char *name = algorithm_name(sum->algorithm);
        if (!name || sum->scope != PST_SCOPE_OBJECT)
            continue;
        PyObject *hex = hex_of(sum);
        if (!hex || PyDict_SetItemString(dict, name, hex) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(hex);
    }
    return dict;
}

static PyObject *etag_strength_of(uint32_t strength)
{
    return PyUnicode_FromString(strength == PST_ETAG_STRONG ? "strong"
                                : strength == PST_ETAG_WEAK ? "weak"
                                                            : "none");
}

PyObject *py_attr_dict(const pst_attr *attr)
{
    const int has_time = attr->mtime_ns != PST_TIME_UNKNOWN;
    const int has_size = attr->size != PST_UNKNOWN;
    const struct {
        const char *name;
        PyObject *value; /* new */
    } rows[] = {
        {"size", has_size ? PyLong_FromUnsignedLongLong(attr->size) : Py_NewRef(Py_None)},
        {"last_modified", rfc3339_of(attr->mtime_ns)},
        {"etag", text_or_none(attr->etag)},
        {"content_type", text_or_none(attr->content_type)},
        {"content_language", text_or_none(attr->content_language)},
        {"content_encoding", text_or_none(attr->content_encoding)},
        {"cache_control", text_or_none(attr->cache_control)},
        {"content_disposition", text_or_none(attr->content_disposition)},
        {"storage_class", text_or_none(attr->storage_class)},
        {"version_id", text_or_none(attr->version)},
        {"metadata", dict_of_pairs(attr->user_meta, attr->n_user_meta)},
        /* Names that users of the predecessor know, and that no store behind Penstock tells. */
        {"expires", Py_NewRef(Py_None)},
        {"server_side_encryption", Py_NewRef(Py_None)},
        {"ssekms_key_id", Py_NewRef(Py_None)},
        {"sse_customer_algorithm", Py_NewRef(Py_None)},
        {"replication_status", Py_NewRef(Py_None)},
        /* And what there is beyond those names. */
        {"kind", PyUnicode_FromString(attr->kind == PST_KIND_PREFIX ? "prefix" : "object")},
        {"mtime_ns", has_time ? PyLong_FromLongLong(attr->mtime_ns) : Py_NewRef(Py_None)},
        {"etag_strength", etag_strength_of(attr->etag_strength)},
        {"checksums", dict_of_sums(attr)},
        {"tags", dict_of_pairs(attr->tags, attr->n_tags)},
    };
    PyObject *dict = PyDict_New();

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (dict && (!rows[i].value || PyDict_SetItemString(dict, rows[i].name, rows[i].value) < 0))
            Py_CLEAR(dict);
        Py_XDECREF(rows[i].value);
    }
    return dict;
}
