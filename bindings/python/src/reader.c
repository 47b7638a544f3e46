/* reader.c - an object as a file: read, seek, tell. penstock._streams makes an io.RawIOBase of it.
 *
 * Bytes come in one of two ways. Read in a row, they come from a stream of the engine's, which fetches
 * ahead. After a seek, and where much is wanted at once, just what is wanted is read, straight to where it
 * is wanted; two such reads in a row make a stream again.
 *
 * All reads are of one version: the etag of the first reply, where it is a strong one, is asked for by every
 * later one, and an object that was replaced is a ChangedError.
 *
 * A stream that failed is dropped and the place in the object stays, so that a read which Ctrl-C or a
 * timeout ended can be made again. In a fork child the parent's stream is dropped likewise. */
#include "ops.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES ((size_t)64 << 10) /* what is read of an object before its length is known */
#define SKIP_BYTES ((uint64_t)1 << 20) /* a step forward that is read rather than jumped */
#define LARGE_BYTES ((size_t)8 << 20)  /* so much at once is read in parallel without a stream */
#define ROW_READS 2u                   /* after a seek: so many reads in a row make a stream */

/* clang-format off */
struct reader {
    PyObject_HEAD
    struct py_place place; /* taken until it is closed, when its store is NULL ... */
    PyObject *owner;       /* ... and so is the Store it is of, or the module */
    PyObject *uri;
    struct py_call call;
    double timeout_s;
    int is_busy; /* a call is under way */
    int is_decoded, has_readahead;
    pst_read_options options; /* if_match is `etag` */
    pst_reader *stream;
    uint64_t stream_at; /* where its next byte lies */
    uint64_t at, size;  /* size: PST_UNKNOWN until a reply told it */
    uint64_t row_end;   /* where the last read ended ... */
    unsigned row_reads; /* ... which was so manieth in a row */
    char etag[sizeof(((pst_read_info *)0)->etag)];
};
/* clang-format on */

static struct reader *reader_of(PyObject *object)
{
    return (struct reader *)object;
}

/* ---- what a reply tells. From here on without the GIL, until said otherwise ---------------------- */

static void pin(struct reader *reader, uint32_t strength, const char *etag, size_t len)
{
    if (strength != PST_ETAG_STRONG || reader->options.if_match.len > 0 || len == 0 ||
        len >= sizeof(reader->etag))
        return;
    memcpy(reader->etag, etag, len);
    reader->options.if_match = pst_str_of(reader->etag, len);
}

static void learn(struct reader *reader, const pst_read_info *info)
{
    pin(reader, info->etag_strength, info->etag, strlen(info->etag));
    if (!reader->is_decoded && reader->size == PST_UNKNOWN)
        reader->size = info->object_size;
}

static void drop_stream(struct reader *reader)
{
    pst_reader_free(reader->stream);
    reader->stream = NULL;
}

/* ---- reading ------------------------------------------------------------------------------------- */

static pst_rc read_stream(struct reader *reader, void *dst, size_t len, size_t *n, pst_error *err)
{
    pst_read_info info = {.struct_size = sizeof(info), .object_size = PST_UNKNOWN};
    pst_rc rc = pst_reader_read(reader->stream, dst, len, n, err);
    if (rc != PST_OK) {
        drop_stream(reader);
        return rc;
    }
    reader->stream_at += *n;
    pst_reader_info(reader->stream, &info);
    learn(reader, &info);
    return PST_OK;
}

static pst_rc read_exactly(struct reader *reader, void *dst, size_t len, size_t *n, pst_error *err)
{
    pst_read_info info = {.struct_size = sizeof(info), .object_size = PST_UNKNOWN};
    pst_rc rc = pst_get_into(reader->place.store, reader->place.key, reader->at, dst, len,
                             &reader->options, &reader->call.limits, n, &info, err);
    if (rc == PST_OK)
        learn(reader, &info);
    else if (rc == PST_E_PRECONDITION && reader->options.if_match.len > 0)
        rc = err->code = PST_E_CHANGED; /* it was our own condition */
    return rc;
}

/* Move the stream forward to where the reader is. */
static pst_rc skip(struct reader *reader, pst_error *err)
{
    char *scratch = malloc(FIRST_BYTES);
    pst_rc rc = scratch ? PST_OK : PST_E_NO_MEMORY;
    while (rc == PST_OK && reader->stream_at < reader->at) {
        uint64_t left = reader->at - reader->stream_at;
        size_t n = 0;
        rc = read_stream(reader, scratch, left < FIRST_BYTES ? (size_t)left : FIRST_BYTES, &n, err);
        if (rc == PST_OK && n == 0)
            break; /* beyond the end */
    }
    free(scratch);
    return rc;
}

static int wants_stream(const struct reader *reader, size_t len)
{
    if (reader->is_decoded)
        return 1;
    return reader->has_readahead && len < LARGE_BYTES && reader->at == reader->row_end &&
           reader->row_reads >= ROW_READS;
}

/* Have the stream stand where the reader is, or have none. */
static pst_rc place_stream(struct reader *reader, size_t len, pst_error *err)
{
    pst_rc rc = PST_OK;
    if (reader->stream && reader->stream_at < reader->at &&
        reader->at - reader->stream_at <= SKIP_BYTES)
        rc = skip(reader, err);
    if (rc != PST_OK)
        return rc;
    if (reader->stream && reader->stream_at != reader->at)
        drop_stream(reader);
    if (reader->stream || !wants_stream(reader, len))
        return PST_OK;
    reader->stream_at = reader->at;
    return pst_reader_open(reader->place.store, reader->place.key, reader->at, PST_UNKNOWN,
                           &reader->options, &reader->call.limits, &reader->stream, err);
}

/* Read `len` bytes, fewer only at the end. A failure leaves the reader where it was. */
static pst_rc read_bytes(struct reader *reader, char *dst, size_t len, size_t *n_read,
                         pst_error *err)
{
    const uint64_t start = reader->at;
    int may_be_forked = reader->stream != NULL;
    *n_read = 0;
    while (*n_read < len && reader->at < reader->size) {
        size_t n = 0, want = len - *n_read;
        pst_rc rc = place_stream(reader, want, err);
        if (rc == PST_OK)
            rc = reader->stream ? read_stream(reader, dst + *n_read, want, &n, err)
                                : read_exactly(reader, dst + *n_read, want, &n, err);
        if (rc == PST_E_FORKED && may_be_forked) { /* the stream is the parent's */
            drop_stream(reader);
            may_be_forked = 0;
            continue;
        }
        if (rc != PST_OK) {
            reader->at = start;
            return rc;
        }
        reader->at += n;
        *n_read += n;
        if (n < want) {
            if (reader->size == PST_UNKNOWN && (n > 0 || reader->at == 0 || reader->is_decoded))
                reader->size = reader->at;
            break;
        }
    }
    reader->row_reads = start == reader->row_end ? reader->row_reads + 1 : 1;
    reader->row_end = reader->at;
    return PST_OK;
}

static pst_rc look(struct reader *reader, pst_error *err)
{
    pst_attr *attr = NULL;
    pst_rc rc = pst_stat(reader->place.store, reader->place.key, NULL, &reader->call.limits, &attr,
                         err);
    if (rc != PST_OK)
        return rc;
    reader->size = attr->size;
    pin(reader, attr->etag_strength, attr->etag.ptr, attr->etag.len);
    pst_attr_free(attr);
    return PST_OK;
}

/* ---- one call at a time. From here on with the GIL ----------------------------------------------- */

static int begin(struct reader *reader)
{
    if (!reader->place.store) {
        PyErr_SetString(PyExc_ValueError, "the reader is closed");
        return -1;
    }
    if (reader->is_busy) {
        PyErr_SetString(PyExc_ValueError, "the reader is in use by another thread");
        return -1;
    }
    reader->is_busy = 1;
    py_call_enter(&reader->call);
    return 0;
}

/* Raise what ended the call. A token that was fired ends every later call too, so it is replaced. */
static int end(struct reader *reader, pst_rc rc, const pst_error *err)
{
    int is_fired = reader->call.limits.cancel && pst_cancel_fired(reader->call.limits.cancel);
    if (is_fired)
        drop_stream(reader); /* which may take its time: before the GIL */
    int is_interrupted = py_call_leave(&reader->call) < 0;
    if (is_fired) {
        py_call_drop(&reader->call);
        if (py_call_hold(&reader->call, reader->timeout_s) < 0)
            is_interrupted = 1;
    }
    reader->is_busy = 0;
    if (!is_interrupted && rc == PST_OK)
        return 0;
    if (!is_interrupted)
        py_raise(rc, err, reader->uri);
    return -1;
}

/* ---- methods ------------------------------------------------------------------------------------- */

static PyObject *reader_readinto(PyObject *object, PyObject *buffer)
{
    struct reader *reader = reader_of(object);
    pst_error err = PST_ERROR_INIT;
    Py_buffer view;
    size_t n = 0;
    if (py_writable_take(buffer, &view) < 0)
        return NULL;
    int result = begin(reader);
    if (result == 0) {
        pst_rc rc = read_bytes(reader, view.buf, (size_t)view.len, &n, &err);
        result = end(reader, rc, &err);
    }
    PyBuffer_Release(&view);
    return result == 0 ? PyLong_FromSize_t(n) : NULL;
}

/* Bytes of an object whose length is not known yet: its first ones, or all of them where no reply tells the
 * length, as of what is decompressed. */
struct head {
    char *data;
    size_t len;
};

static pst_rc read_head(struct reader *reader, uint64_t want, struct head *head, pst_error *err)
{
    pst_rc rc = PST_OK;
    while (rc == PST_OK && reader->size == PST_UNKNOWN && head->len < want) {
        size_t n = head->len > 0 ? head->len : FIRST_BYTES, n_read = 0;
        if (n > want - head->len)
            n = (size_t)(want - head->len);
        char *grown = head->len <= SIZE_MAX / 2 ? realloc(head->data, head->len + n) : NULL;
        if (!grown)
            return PST_E_NO_MEMORY;
        head->data = grown;
        rc = read_bytes(reader, head->data + head->len, n, &n_read, err);
        head->len += n_read;
        if (n_read < n)
            break;
    }
    return rc;
}

static uint64_t left_of(const struct reader *reader, uint64_t want)
{
    uint64_t left = reader->size == PST_UNKNOWN || reader->at >= reader->size
                        ? 0
                        : reader->size - reader->at;
    return left < want ? left : want;
}

/* The head and `n` more bytes. New reference; a reader that failed stands at `start` again. */
static PyObject *read_rest(struct reader *reader, const struct head *head, uint64_t n)
{
    pst_error err = PST_ERROR_INIT;
    size_t n_read = 0;
    if (n > PY_SSIZE_T_MAX - head->len)
        return PyErr_NoMemory();
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(head->len + n));
    if (!bytes)
        return NULL;
    char *to = PyBytes_AsString(bytes);
    if (head->len > 0)
        memcpy(to, head->data, head->len);
    if (n > 0) {
        int result = begin(reader);
        if (result == 0) {
            pst_rc rc = read_bytes(reader, to + head->len, (size_t)n, &n_read, &err);
            result = end(reader, rc, &err);
        }
        if (result < 0) {
            Py_DECREF(bytes);
            return NULL;
        }
    }
    if (n_read < n) { /* the end came sooner than the store had said */
        PyObject *less = PyBytes_FromStringAndSize(to, (Py_ssize_t)(head->len + n_read));
        Py_DECREF(bytes);
        return less;
    }
    return bytes;
}

static PyObject *reader_read(PyObject *object, PyObject *args)
{
    struct reader *reader = reader_of(object);
    pst_error err = PST_ERROR_INIT;
    struct head head = {NULL, 0};
    PyObject *size = Py_None, *bytes = NULL;
    Py_ssize_t given = -1;
    if (!PyArg_ParseTuple(args, "|O:read", &size))
        return NULL;
    if (size != Py_None) {
        given = PyNumber_AsSsize_t(size, PyExc_OverflowError);
        if (given == -1 && PyErr_Occurred())
            return NULL;
    }
    uint64_t want = given < 0 ? PY_SSIZE_T_MAX : (uint64_t)given, start = reader->at;
    if (begin(reader) < 0)
        return NULL;
    pst_rc rc = read_head(reader, want, &head, &err);
    if (end(reader, rc, &err) == 0)
        bytes = read_rest(reader, &head, left_of(reader, want - head.len));
    if (!bytes)
        reader->at = start;
    free(head.data);
    return bytes;
}

static PyObject *reader_size(PyObject *object, PyObject *unused)
{
    struct reader *reader = reader_of(object);
    pst_error err = PST_ERROR_INIT;
    (void)unused;
    if (begin(reader) < 0)
        return NULL;
    pst_rc rc = reader->size == PST_UNKNOWN && !reader->is_decoded ? look(reader, &err) : PST_OK;
    if (end(reader, rc, &err) < 0)
        return NULL;
    if (reader->size == PST_UNKNOWN)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(reader->size);
}

static PyObject *reader_tell(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(reader_of(object)->at);
}

/* Where seek counts from. -1 with an exception. */
static int origin_of(struct reader *reader, int whence, uint64_t *origin)
{
    *origin = 0;
    if (whence == 0)
        return 0;
    if (whence == 1) {
        *origin = reader->at;
        return 0;
    }
    if (whence != 2) {
        PyErr_Format(PyExc_ValueError, "whence must be 0, 1 or 2, not %d", whence);
        return -1;
    }
    PyObject *size = reader_size((PyObject *)reader, NULL);
    if (!size)
        return -1;
    Py_DECREF(size);
    *origin = reader->size;
    return 0;
}

static PyObject *reader_seek(PyObject *object, PyObject *args)
{
    struct reader *reader = reader_of(object);
    long long offset;
    int whence = 0;
    uint64_t origin;
    if (!PyArg_ParseTuple(args, "L|i:seek", &offset, &whence))
        return NULL;
    if (reader->is_decoded) {
        PyErr_SetString(PyExc_ValueError, "what is decompressed on the way cannot be sought in");
        return NULL;
    }
    if (reader->is_busy || !reader->place.store) {
        PyErr_SetString(PyExc_ValueError, reader->is_busy ? "the reader is in use by another thread"
                                                          : "the reader is closed");
        return NULL;
    }
    if (origin_of(reader, whence, &origin) < 0)
        return NULL;
    uint64_t back = offset < 0 ? 0 - (uint64_t)offset : 0;
    if (back > origin || (offset > 0 && (uint64_t)offset > (uint64_t)INT64_MAX - origin)) {
        PyErr_Format(PyExc_ValueError, "there is no such place in an object: %lld from %llu",
                     offset, (unsigned long long)origin);
        return NULL;
    }
    reader->at = offset < 0 ? origin - back : origin + (uint64_t)offset;
    return reader_tell(object, NULL);
}

static PyObject *get_decoded(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(reader_of(object)->is_decoded);
}

static void close_reader(struct reader *reader)
{
    reader->is_busy = 1; /* nobody else reads from what is going, or closes it twice */
    PyThreadState *thread = PyEval_SaveThread();
    drop_stream(reader);
    PyEval_RestoreThread(thread);
    reader->is_busy = 0;
    py_place_clear(&reader->place);
    Py_CLEAR(reader->owner);
}

static PyObject *reader_close(PyObject *object, PyObject *unused)
{
    struct reader *reader = reader_of(object);
    (void)unused;
    if (reader->is_busy) {
        PyErr_SetString(PyExc_ValueError, "the reader is in use by another thread");
        return NULL;
    }
    if (reader->place.store)
        close_reader(reader);
    Py_RETURN_NONE;
}

static void reader_dealloc(PyObject *object)
{
    struct reader *reader = reader_of(object);
    PyTypeObject *type = Py_TYPE(object);
    close_reader(reader);
    py_call_drop(&reader->call);
    Py_CLEAR(reader->uri);
    PyObject_Free(object);
    Py_DECREF((PyObject *)type);
}

/* ---- opening ------------------------------------------------------------------------------------- */

static int take_options(PyObject *part_bytes, PyObject *in_flight, PyObject *decode,
                        pst_read_options *out)
{
    uint64_t n = 0;
    *out = (pst_read_options){.struct_size = sizeof(*out)};
    if (py_u64_take(part_bytes, "part_bytes", 0, &out->part_bytes) < 0 ||
        py_u64_take(in_flight, "max_in_flight", 0, &n) < 0 ||
        py_decode_take(decode, &out->decode) < 0)
        return -1;
    if ((part_bytes != Py_None &&
         (out->part_bytes < PST_READ_PART_MIN || out->part_bytes > PST_READ_PART_MAX)) ||
        (in_flight != Py_None && (n == 0 || n > PST_READ_IN_FLIGHT_MAX))) {
        PyErr_Format(PyExc_ValueError,
                     "part_bytes must lie in %llu to %llu and max_in_flight in 1 to %u",
                     PST_READ_PART_MIN, PST_READ_PART_MAX, PST_READ_IN_FLIGHT_MAX);
        return -1;
    }
    out->max_in_flight = (uint32_t)n;
    return 0;
}

/* Takes over the place, after a failure too. */
static PyObject *new_reader(struct py_place *place, const pst_read_options *options,
                            int has_readahead, double timeout_s)
{
    struct reader *reader = reader_of(PyType_GenericAlloc(py_module.reader, 0));
    if (!reader) {
        py_place_clear(place);
        return NULL;
    }
    reader->place = *place;
    reader->owner = Py_NewRef(place->self);
    reader->uri = py_place_uri(place);
    reader->options = *options;
    reader->timeout_s = timeout_s;
    reader->has_readahead = has_readahead;
    reader->is_decoded = options->decode == PST_DECODE_ZSTD ||
                         (options->decode == PST_DECODE_BY_NAME && pst_key_is_zstd(place->key));
    reader->size = PST_UNKNOWN;
    reader->row_reads = ROW_READS; /* who begins at the beginning is likely to go on */
    if (!reader->uri || py_call_hold(&reader->call, timeout_s) < 0) {
        Py_DECREF((PyObject *)reader);
        return NULL;
    }
    return (PyObject *)reader;
}

/* The io.RawIOBase around it. New reference; takes over `raw`. */
static PyObject *make_file(PyObject *raw, PyObject *uri)
{
    PyObject *streams = PyImport_ImportModule("penstock._streams");
    PyObject *file = streams ? PyObject_CallMethod(streams, "Reader", "OO", raw, uri) : NULL;
    Py_XDECREF(streams);
    Py_DECREF(raw);
    return file;
}

PyObject *py_open_reader(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char readahead[] = "readahead", part_bytes[] = "part_bytes", timeout[] = "timeout",
                max_in_flight[] = "max_in_flight", decode[] = "decode";
    char *names[] = {
        py_place_word(self), readahead, part_bytes, max_in_flight, decode, timeout, NULL};
    PyObject *uri, *part = Py_None, *in_flight = Py_None, *how = Py_None, *limit = Py_None;
    PyObject *file = NULL;
    struct py_place place;
    pst_read_options options;
    int has_readahead = 1;
    double timeout_s;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$pOOOO:open_reader", names, &uri,
                                     &has_readahead, &part, &in_flight, &how, &limit) ||
        take_options(part, in_flight, how, &options) < 0 ||
        py_timeout_take(limit, &timeout_s) < 0 || py_place_take(self, uri, &place) < 0)
        return NULL;
    PyObject *raw = new_reader(&place, &options, has_readahead, timeout_s);
    if (raw)
        file = make_file(raw, reader_of(raw)->uri);
    return file;
}

/* ---- the module's part --------------------------------------------------------------------------- */

int py_reader_init(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"read", reader_read, METH_VARARGS, "read($self, size=-1, /)\n--\n\n"},
        {"readinto", reader_readinto, METH_O, "readinto($self, buffer, /)\n--\n\n"},
        {"seek", reader_seek, METH_VARARGS, "seek($self, offset, whence=0, /)\n--\n\n"},
        {"tell", reader_tell, METH_NOARGS, "tell($self, /)\n--\n\n"},
        {"size", reader_size, METH_NOARGS, "size($self, /)\n--\n\n"},
        {"close", reader_close, METH_NOARGS, "close($self, /)\n--\n\n"},
        {NULL, NULL, 0, NULL},
    };
    static PyGetSetDef values[] = {
        {"decoded", get_decoded, NULL, "Is it decompressed on the way?", NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_dealloc, PY_SLOT(reader_dealloc)},
        {Py_tp_methods, methods},
        {Py_tp_getset, values},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "penstock._penstock.RawReader",
        .basicsize = sizeof(struct reader),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = slots,
    };
    py_module.reader = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return py_module.reader ? 0 : -1;
}
