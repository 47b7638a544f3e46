/* writer.c - penstock.ObjectWriter: an object written as a stream.
 *
 * finalize is the only commit. What ends in any other way - cancel, an exception in the `with` block, the
 * last reference gone, the interpreter exiting - is dropped, and nothing is left in the store.
 *
 * Memory that cannot change under the engine's hands travels where it lies: bytes objects, BytesViews, what
 * reserve() lent and got back, and what write_owned_bytes() is told to own. Other buffers are copied.
 *
 * The CRC-32C of what was given runs along here rather than in the engine, which would hand it to the store:
 * whether a store gets checksums is for its own option to say. */
#include "ops.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEEP_BYTES ((size_t)64 << 10)   /* less is copied sooner than it is looked after */
#define CHUNK_BYTES ((size_t)128 << 10) /* summed, then copied while in cache */
#define EXIT_WAIT_MS 1000

enum state { WRITER_OPEN, WRITER_DONE, WRITER_DROPPED };

/* clang-format off */
/* Memory that reserve() lends, as a memoryview looks at it. */
struct reserved {
    PyObject_HEAD
    pst_buffer *buffer;
    char *data;
    size_t size;
    Py_ssize_t n_exports;
};

struct writer {
    PyObject_HEAD
    pst_writer *writer; /* NULL unless open */
    struct py_place place; /* taken while it is open ... */
    PyObject *owner;       /* ... and so is the Store it is of, or the module */
    PyObject *uri;
    struct py_call call;
    pid_t pid;   /* of the process that opened it */
    int is_busy; /* a call is under way */
    enum state state;
    uint64_t n_written;
    uint32_t crc32c, mem_align;
    int is_compressed;
    struct reserved *reserved; /* lent and not committed yet ... */
    PyObject *view;            /* ... as this memoryview */
    /* Of a finalized one. */
    uint64_t n_stored;
    uint32_t n_parts;
    PyObject *etag, *version;
    struct writer *next, **link; /* of those that are open */
};
/* clang-format on */

static struct writer *open_writers;
static PyTypeObject *reserved_type;

static struct writer *writer_of(PyObject *object)
{
    return (struct writer *)object;
}

/* ---- memory that is lent ------------------------------------------------------------------------- */

static int reserved_get(PyObject *object, Py_buffer *view, int flags)
{
    struct reserved *reserved = (struct reserved *)object;
    if (PyBuffer_FillInfo(view, object, reserved->data, (Py_ssize_t)reserved->size, 0, flags) < 0)
        return -1;
    reserved->n_exports++;
    return 0;
}

static void reserved_release(PyObject *object, Py_buffer *view)
{
    (void)view;
    ((struct reserved *)object)->n_exports--;
}

static void reserved_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    pst_buffer_unref(((struct reserved *)object)->buffer);
    PyObject_Free(object);
    Py_DECREF((PyObject *)type);
}

static struct reserved *new_reserved(PyObject *owner, size_t size, uint32_t align)
{
    struct reserved *reserved = (struct reserved *)PyType_GenericAlloc(reserved_type, 0);
    pst_context *context = py_store_context(owner);
    pst_error err = PST_ERROR_INIT;
    if (!reserved || !context) {
        Py_XDECREF((PyObject *)reserved);
        return NULL;
    }
    PyThreadState *thread = PyEval_SaveThread();
    pst_rc rc = pst_buffer_alloc(context, size, align, &reserved->buffer, &err);
    PyEval_RestoreThread(thread);
    if (rc != PST_OK) {
        reserved->buffer = NULL;
        Py_DECREF((PyObject *)reserved);
        py_raise(rc, &err, NULL);
        return NULL;
    }
    reserved->data = pst_buffer_writable(reserved->buffer);
    reserved->size = size;
    return reserved;
}

static void drop_reserved(struct writer *writer)
{
    Py_CLEAR(writer->view);
    Py_CLEAR(writer->reserved);
}

/* ---- one call at a time -------------------------------------------------------------------------- */

static void link_writer(struct writer *writer)
{
    writer->next = open_writers;
    writer->link = &open_writers;
    if (open_writers)
        open_writers->link = &writer->next;
    open_writers = writer;
}

static void unlink_writer(struct writer *writer)
{
    if (!writer->link)
        return;
    *writer->link = writer->next;
    if (writer->next)
        writer->next->link = writer->link;
    writer->link = NULL;
}

static int check_idle(const struct writer *writer)
{
    if (!writer->is_busy)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the writer is in use by another thread");
    return -1;
}

static int check_open(const struct writer *writer)
{
    if (check_idle(writer) < 0)
        return -1;
    if (writer->state == WRITER_OPEN)
        return 0;
    py_refuse(writer->uri, writer->state == WRITER_DONE ? "the writer has been finalized"
                                                        : "the writer was cancelled");
    return -1;
}

static void begin(struct writer *writer)
{
    writer->is_busy = 1;
    py_call_enter(&writer->call);
}

static int end(struct writer *writer, pst_rc rc, const pst_error *err)
{
    int result = py_call_leave(&writer->call);
    writer->is_busy = 0;
    if (result == 0 && rc != PST_OK) {
        py_raise(rc, err, writer->uri);
        result = -1;
    }
    return result;
}

/* ---- bytes --------------------------------------------------------------------------------------- */

/* Copy the bytes of a buffer into the writer. */
static int write_copy(struct writer *writer, const char *data, size_t len)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = PST_OK;
    begin(writer);
    for (size_t at = 0; at < len && rc == PST_OK;) {
        size_t n = len - at < CHUNK_BYTES ? len - at : CHUNK_BYTES;
        writer->crc32c = pst_crc32c(writer->crc32c, data + at, n);
        rc = pst_writer_write(writer->writer, data + at, n, &err);
        at += n;
    }
    if (rc == PST_OK)
        writer->n_written += len;
    return end(writer, rc, &err);
}

/* Give it the buffer, and with it one reference. */
static int write_buffer(struct writer *writer, pst_buffer *buffer)
{
    pst_error err = PST_ERROR_INIT;
    begin(writer);
    size_t len = pst_buffer_size(buffer);
    writer->crc32c = pst_crc32c(writer->crc32c, pst_buffer_data(buffer), len);
    pst_rc rc = pst_writer_write_owned(writer->writer, buffer, &err);
    pst_buffer_unref(buffer);
    if (rc == PST_OK)
        writer->n_written += len;
    return end(writer, rc, &err);
}

/* Lend it the memory of an object of Python's. */
static int write_loan(struct writer *writer, struct py_loan *loan)
{
    pst_error err = PST_ERROR_INIT;
    pst_buffer *buffer = NULL;
    pst_rc rc = pst_buffer_wrap(loan->view.buf, (size_t)loan->view.len, py_loan_release, loan,
                                &buffer, &err);
    if (rc == PST_OK)
        return write_buffer(writer, buffer);
    py_loan_release(loan);
    py_raise(rc, &err, writer->uri);
    return -1;
}

/* Append what `data` holds. *len: how much that was. */
static int append(struct writer *writer, PyObject *data, int may_own, size_t *len)
{
    if (check_open(writer) < 0)
        return -1;
    pst_buffer *buffer = py_view_buffer(data);
    if (buffer) {
        *len = pst_buffer_size(buffer);
        drop_reserved(writer);
        return write_buffer(writer, pst_buffer_ref(buffer));
    }
    struct py_loan *loan = py_loan_take(data);
    if (!loan)
        return -1;
    *len = (size_t)loan->view.len;
    if (check_open(writer) < 0) { /* asking for the buffer may have run any code */
        py_loan_release(loan);
        return -1;
    }
    drop_reserved(writer);
    if ((may_own || PyBytes_CheckExact(data)) && *len >= KEEP_BYTES)
        return write_loan(writer, loan);
    int result = write_copy(writer, loan->view.buf, *len);
    py_loan_release(loan);
    py_loans_return();
    return result;
}

static PyObject *writer_write(PyObject *object, PyObject *data)
{
    size_t len = 0;
    return append(writer_of(object), data, 0, &len) < 0 ? NULL : PyLong_FromSize_t(len);
}

static PyObject *writer_write_chunk(PyObject *object, PyObject *data)
{
    size_t len = 0;
    return append(writer_of(object), data, 0, &len) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *writer_write_owned_bytes(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char word_data[] = "data", word_copy[] = "copy";
    char *names[] = {word_data, word_copy, NULL};
    PyObject *data;
    int is_copy = 0;
    size_t len = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$p:write_owned_bytes", names, &data,
                                     &is_copy))
        return NULL;
    return append(writer_of(object), data, !is_copy, &len) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *writer_reserve(PyObject *object, PyObject *value)
{
    struct writer *writer = writer_of(object);
    uint64_t size;
    if (py_u64_take(value, "size", 0, &size) < 0 || check_open(writer) < 0)
        return NULL;
    if (size == 0 || size > PY_SSIZE_T_MAX) {
        PyErr_SetString(PyExc_ValueError, "size must be above 0, and what memory can hold");
        return NULL;
    }
    drop_reserved(writer);
    struct reserved *reserved = new_reserved(writer->owner, (size_t)size, writer->mem_align);
    PyObject *view = reserved ? PyMemoryView_FromObject((PyObject *)reserved) : NULL;
    if (!view) {
        Py_XDECREF((PyObject *)reserved);
        return NULL;
    }
    drop_reserved(writer); /* another thread's, meanwhile */
    writer->reserved = reserved;
    writer->view = Py_NewRef(view);
    return view;
}

/* Take the memoryview back. Where an array or another view still looks at the memory it stays writable, so
 * its bytes are copied. */
static int take_back(PyObject *view, const struct reserved *reserved)
{
    PyObject *released = PyObject_CallMethod(view, "release", NULL);
    if (!released && !PyErr_ExceptionMatches(PyExc_BufferError))
        return -1;
    PyErr_Clear();
    Py_XDECREF(released);
    return reserved->n_exports == 0;
}

static int commit(struct writer *writer, struct reserved *reserved, int is_ours, size_t len)
{
    pst_error err = PST_ERROR_INIT;
    pst_buffer *part = NULL;
    if (!is_ours)
        return write_copy(writer, reserved->data, len);
    pst_rc rc = pst_buffer_slice(reserved->buffer, 0, len, &part, &err);
    if (rc == PST_OK)
        return write_buffer(writer, part);
    py_raise(rc, &err, writer->uri);
    return -1;
}

static PyObject *writer_commit(PyObject *object, PyObject *args)
{
    struct writer *writer = writer_of(object);
    PyObject *value = Py_None;
    uint64_t len;
    if (!PyArg_ParseTuple(args, "|O:commit", &value) || check_open(writer) < 0)
        return NULL;
    if (!writer->reserved) {
        PyErr_SetString(PyExc_ValueError, "nothing was reserved");
        return NULL;
    }
    if (py_u64_take(value, "nbytes", writer->reserved->size, &len) < 0)
        return NULL;
    if (len > writer->reserved->size)
        return PyErr_Format(PyExc_ValueError, "%llu bytes are committed, %zu were reserved",
                            (unsigned long long)len, writer->reserved->size);
    struct reserved *reserved = writer->reserved;
    PyObject *view = writer->view;
    writer->reserved = NULL;
    writer->view = NULL;
    int result = take_back(view, reserved);
    if (result >= 0 && len > 0)
        result = commit(writer, reserved, result, (size_t)len);
    Py_DECREF(view);
    Py_DECREF((PyObject *)reserved);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- the end ------------------------------------------------------------------------------------- */

static void let_go(struct writer *writer)
{
    py_place_clear(&writer->place);
    Py_CLEAR(writer->owner);
}

/* With the result kept; the engine's writer is not needed any more. */
static int keep_result(struct writer *writer, const pst_write_result *result)
{
    pst_writer *ended = writer->writer;
    writer->writer = NULL;
    writer->state = WRITER_DONE;
    writer->n_stored = result->size;
    writer->n_parts = result->n_parts;
    unlink_writer(writer);
    PyThreadState *thread = PyEval_SaveThread();
    pst_writer_free(ended);
    PyEval_RestoreThread(thread);
    let_go(writer);
    Py_XDECREF(writer->etag);
    Py_XDECREF(writer->version);
    writer->etag = result->etag[0] ? py_str_of_chars(result->etag) : Py_NewRef(Py_None);
    writer->version = result->version[0] ? py_str_of_chars(result->version) : Py_NewRef(Py_None);
    return writer->etag && writer->version ? 0 : -1;
}

static PyObject *writer_finalize(PyObject *object, PyObject *unused)
{
    struct writer *writer = writer_of(object);
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_error err = PST_ERROR_INIT;
    (void)unused;
    if (check_idle(writer) < 0)
        return NULL;
    if (writer->state != WRITER_DONE) {
        if (check_open(writer) < 0)
            return NULL;
        drop_reserved(writer);
        begin(writer);
        pst_rc rc = pst_writer_finalize(writer->writer, &result, &err);
        int ended = end(writer, rc, &err);
        if (rc == PST_OK && ended < 0) { /* published, and then Ctrl-C */
            PyObject *type, *value, *trace;
            PyErr_Fetch(&type, &value, &trace);
            if (keep_result(writer, &result) < 0)
                PyErr_Clear();
            PyErr_Restore(type, value, trace);
        }
        if (ended < 0 || keep_result(writer, &result) < 0)
            return NULL;
    }
    return Py_BuildValue("KK", (unsigned long long)writer->n_written,
                         (unsigned long long)writer->n_stored);
}

/* Drop what was written. The token is fired first: then the engine waits for at most a second, and what
 * takes longer goes on in the background. */
static pst_rc drop(struct writer *writer, pst_error *err)
{
    pst_writer *ended = writer->writer;
    writer->writer = NULL;
    writer->state = WRITER_DROPPED;
    unlink_writer(writer);
    drop_reserved(writer);
    pst_cancel_fire(writer->call.limits.cancel);
    PyThreadState *thread = PyEval_SaveThread();
    pst_rc rc = pst_writer_cancel(ended, err);
    pst_writer_free(ended);
    PyEval_RestoreThread(thread);
    let_go(writer);
    py_loans_return();
    return rc == PST_E_DEADLINE || rc == PST_E_FORKED ? PST_OK : rc;
}

/* The same where another exception is on its way. */
static void drop_quietly(struct writer *writer)
{
    pst_error err = PST_ERROR_INIT;
    PyObject *type, *value, *trace;
    if (writer->state != WRITER_OPEN || writer->is_busy || !writer->writer)
        return;
    PyErr_Fetch(&type, &value, &trace);
    (void)drop(writer, &err);
    PyErr_Restore(type, value, trace);
}

static PyObject *writer_cancel(PyObject *object, PyObject *unused)
{
    struct writer *writer = writer_of(object);
    pst_error err = PST_ERROR_INIT;
    (void)unused;
    if (check_idle(writer) < 0)
        return NULL;
    if (writer->state == WRITER_DROPPED)
        Py_RETURN_NONE;
    if (check_open(writer) < 0)
        return NULL;
    pst_rc rc = drop(writer, &err);
    if (rc != PST_OK)
        return py_raise(rc, &err, writer->uri);
    Py_RETURN_NONE;
}

static PyObject *writer_enter(PyObject *object, PyObject *unused)
{
    (void)unused;
    return check_open(writer_of(object)) < 0 ? NULL : Py_NewRef(object);
}

static PyObject *writer_exit(PyObject *object, PyObject *args)
{
    struct writer *writer = writer_of(object);
    PyObject *type = PyTuple_Size(args) > 0 ? PyTuple_GetItem(args, 0) : Py_None;
    if (writer->state != WRITER_OPEN)
        Py_RETURN_NONE;
    if (type != Py_None) {
        drop_quietly(writer);
        Py_RETURN_NONE;
    }
    PyObject *sizes = writer_finalize(object, NULL);
    if (!sizes) {
        drop_quietly(writer);
        return NULL;
    }
    Py_DECREF(sizes);
    Py_RETURN_NONE;
}

static void writer_dealloc(PyObject *object)
{
    struct writer *writer = writer_of(object);
    PyTypeObject *type = Py_TYPE(object);
    drop_quietly(writer);
    unlink_writer(writer);
    drop_reserved(writer);
    let_go(writer);
    py_call_drop(&writer->call);
    Py_CLEAR(writer->uri);
    Py_CLEAR(writer->etag);
    Py_CLEAR(writer->version);
    PyObject_Free(object);
    Py_DECREF((PyObject *)type);
}

/* At the interpreter's exit: stop the calls under way, then drop what is open. */
static PyObject *drop_open_writers(PyObject *module, PyObject *unused)
{
    const struct timespec slice = {.tv_nsec = 10000000};
    const pid_t pid = getpid();
    (void)module;
    (void)unused;
    for (struct writer *writer = open_writers; writer; writer = writer->next) {
        if (writer->is_busy)
            pst_cancel_fire(writer->call.limits.cancel);
    }
    for (int waited_ms = 0; open_writers;) {
        struct writer *writer = open_writers;
        while (writer && (writer->is_busy || writer->pid != pid))
            writer = writer->next;
        if (writer) {
            Py_INCREF((PyObject *)writer);
            drop_quietly(writer);
            unlink_writer(writer);
            Py_DECREF((PyObject *)writer);
            continue;
        }
        int is_busy = 0;
        for (writer = open_writers; writer; writer = writer->next)
            is_busy |= writer->is_busy && writer->pid == pid;
        if (!is_busy || waited_ms >= EXIT_WAIT_MS)
            break;
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&slice, NULL);
        Py_END_ALLOW_THREADS
        waited_ms += 10;
    }
    Py_RETURN_NONE;
}

/* ---- what is known ------------------------------------------------------------------------------- */

static PyObject *writer_bytes_written(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(writer_of(object)->n_written);
}

static PyObject *writer_compressed_bytes(PyObject *object, PyObject *unused)
{
    const struct writer *writer = writer_of(object);
    (void)unused;
    if (writer->state == WRITER_DONE)
        return PyLong_FromUnsignedLongLong(writer->n_stored);
    if (writer->is_compressed)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(writer->n_written);
}

static PyObject *writer_checksum(PyObject *object, PyObject *unused)
{
    char text[PST_CRC32C_TEXT_SIZE];
    (void)unused;
    return PyUnicode_FromString(pst_crc32c_text(writer_of(object)->crc32c, text));
}

static PyObject *writer_repr(PyObject *object)
{
    static const char *const states[] = {"open", "finalized", "cancelled"};
    const struct writer *writer = writer_of(object);
    return PyUnicode_FromFormat("<penstock.ObjectWriter %R, %s>", writer->uri,
                                states[writer->state]);
}

static PyObject *get_uri(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef(writer_of(object)->uri);
}

static PyObject *get_closed(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(writer_of(object)->state != WRITER_OPEN);
}

static PyObject *get_etag(PyObject *object, void *unused)
{
    PyObject *etag = writer_of(object)->etag;
    (void)unused;
    return Py_NewRef(etag ? etag : Py_None);
}

static PyObject *get_version(PyObject *object, void *unused)
{
    PyObject *version = writer_of(object)->version;
    (void)unused;
    return Py_NewRef(version ? version : Py_None);
}

static PyObject *get_parts(PyObject *object, void *unused)
{
    const struct writer *writer = writer_of(object);
    (void)unused;
    if (writer->state != WRITER_DONE)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(writer->n_parts ? writer->n_parts : 1);
}

/* ---- opening ------------------------------------------------------------------------------------- */

static int take_level(PyObject *value, int32_t *out)
{
    uint64_t level;
    if (py_u64_take(value, "compression_level", 0, &level) < 0)
        return -1;
    if (value != Py_None && (level < 1 || level > 22)) {
        PyErr_SetString(PyExc_ValueError, "compression_level must lie in 1 to 22");
        return -1;
    }
    *out = (int32_t)level;
    return 0;
}

static int take_numbers(PyObject *part, PyObject *in_flight, PyObject *hint,
                        pst_write_options *options)
{
    uint64_t n;
    if (py_u64_take(part, "part_bytes", 0, &options->part_bytes) < 0 ||
        py_u64_take(in_flight, "max_in_flight", 0, &n) < 0 ||
        py_u64_take(hint, "size_hint", 0, &options->size_hint) < 0)
        return -1;
    if ((part != Py_None && options->part_bytes == 0) ||
        (in_flight != Py_None && (n == 0 || n > UINT32_MAX))) {
        PyErr_SetString(PyExc_ValueError, "part_bytes and max_in_flight must be above 0");
        return -1;
    }
    options->max_in_flight = (uint32_t)n;
    return 0;
}

/* A wish for memory rather than for parts of that very length: brought into what the store takes. */
static void wish_buffer(const pst_store_info *info, uint64_t buffer_bytes,
                        pst_write_options *options)
{
    uint64_t n = buffer_bytes, multiple = info->part_multiple;
    if (n == 0 || options->part_bytes > 0)
        return;
    n = n < info->part_min ? info->part_min : n;
    n = info->part_max && n > info->part_max ? info->part_max : n;
    if (multiple > 1 && n % multiple != 0)
        n = n > multiple ? n / multiple * multiple : multiple;
    options->part_bytes = n;
}

/* Takes over the place, after a failure too. */
static PyObject *new_writer(struct py_place *place, struct py_writing *writing,
                            uint64_t buffer_bytes)
{
    struct writer *writer = writer_of(PyType_GenericAlloc(py_module.writer, 0));
    pst_store_info info = {.struct_size = sizeof(info)};
    pst_error err = PST_ERROR_INIT;
    if (!writer) {
        py_place_clear(place);
        return NULL;
    }
    writer->place = *place;
    writer->owner = Py_NewRef(place->self);
    writer->state = WRITER_DROPPED; /* until there is something to drop */
    writer->uri = py_place_uri(place);
    if (!writer->uri || py_call_hold(&writer->call, writing->timeout_s) < 0) {
        Py_DECREF((PyObject *)writer);
        return NULL;
    }
    pst_store_describe(place->store, &info);
    wish_buffer(&info, buffer_bytes, &writing->options);
    writer->mem_align = info.mem_align;
    writer->is_compressed = writing->options.zstd_level != 0;
    begin(writer);
    pst_rc rc = pst_writer_open(place->store, place->key, &writing->options, &writer->call.limits,
                                &writer->writer, &err);
    if (rc == PST_OK) {
        writer->state = WRITER_OPEN;
        writer->pid = getpid();
    }
    if (end(writer, rc, &err) < 0) {
        Py_DECREF((PyObject *)writer);
        return NULL;
    }
    link_writer(writer);
    return (PyObject *)writer;
}

PyObject *py_open_writer(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_place_word(self),
                     "part_bytes",
                     "buffer_bytes",
                     "max_in_flight",
                     "size_hint",
                     "create_only",
                     "if_match",
                     "content_type",
                     "content_encoding",
                     "content_language",
                     "content_disposition",
                     "cache_control",
                     "storage_class",
                     "metadata",
                     "tags",
                     "checksum",
                     "compression_level",
                     "timeout",
                     NULL};
    PyObject *where, *part = Py_None, *buffer = Py_None, *in_flight = Py_None, *hint = Py_None;
    PyObject *level = Py_None, *writer = NULL;
    struct py_write_in in = {0};
    struct py_writing writing;
    struct py_place place;
    uint64_t buffer_bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOOOOOOOOOOOOOOO:open_writer", names,
                                     &where, &part, &buffer, &in_flight, &hint, &in.create_only,
                                     &in.if_match, &in.texts[0], &in.texts[1], &in.texts[2],
                                     &in.texts[3], &in.texts[4], &in.texts[5], &in.metadata,
                                     &in.tags, &in.checksum, &level, &in.timeout) ||
        py_u64_take(buffer, "buffer_bytes", 0, &buffer_bytes) < 0 ||
        py_writing_take(&in, &writing) < 0)
        return NULL;
    if (take_numbers(part, in_flight, hint, &writing.options) == 0 &&
        take_level(level, &writing.options.zstd_level) == 0 &&
        py_place_take(self, where, &place) == 0)
        writer = new_writer(&place, &writing, buffer_bytes);
    py_writing_clear(&writing);
    return writer;
}

/* ---- the module's part --------------------------------------------------------------------------- */

static int make_types(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"write", writer_write, METH_O,
         "write($self, data, /)\n--\n\n"
         "Append bytes and return how many. bytes and BytesView travel without a copy."},
        {"write_chunk", writer_write_chunk, METH_O,
         "write_chunk($self, data, /)\n--\n\nAppend bytes, as write does."},
        {"write_owned_bytes", PY_METHOD(writer_write_owned_bytes), METH_VARARGS | METH_KEYWORDS,
         "write_owned_bytes($self, data, *, copy=False)\n--\n\n"
         "Append the bytes of any buffer without a copy: it must not change before finalize."},
        {"reserve", writer_reserve, METH_O,
         "reserve($self, size, /)\n--\n\n"
         "Lend memory to fill: a writable memoryview of `size` bytes, good until the next call."},
        {"commit", writer_commit, METH_VARARGS,
         "commit($self, nbytes=None, /)\n--\n\n"
         "Append the first `nbytes` (None: all) of what was reserved, without a copy unless "
         "something still looks at it."},
        {"finalize", writer_finalize, METH_NOARGS,
         "finalize($self, /)\n--\n\n"
         "Publish the object: (bytes written, bytes stored). May be repeated."},
        {"cancel", writer_cancel, METH_NOARGS,
         "cancel($self, /)\n--\n\nDrop the object and leave nothing behind. May be repeated."},
        {"bytes_written", writer_bytes_written, METH_NOARGS,
         "bytes_written($self, /)\n--\n\nTell how many bytes were given so far."},
        {"compressed_bytes", writer_compressed_bytes, METH_NOARGS,
         "compressed_bytes($self, /)\n--\n\n"
         "Tell how many bytes are stored; None before finalize where it compresses."},
        {"checksum", writer_checksum, METH_NOARGS,
         "checksum($self, /)\n--\n\n"
         "Tell the CRC-32C of the bytes given so far, as 'crc32c:e3069283'."},
        {"__enter__", writer_enter, METH_NOARGS, NULL},
        {"__exit__", writer_exit, METH_VARARGS, NULL},
        {NULL, NULL, 0, NULL},
    };
    static PyGetSetDef values[] = {
        {"uri", get_uri, NULL, "Where the object will be.", NULL},
        {"closed", get_closed, NULL, "Was it finalized or cancelled?", NULL},
        {"etag", get_etag, NULL, "Of the published object, or None.", NULL},
        {"version", get_version, NULL, "Of the published object, where the store keeps versions.",
         NULL},
        {"parts", get_parts, NULL, "In how many the published object was sent, or None.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, "An object that is being written; penstock.open_writer makes one.\n\n"
                    "finalize publishes it. As a context manager it does so at the end of the "
                    "block, and drops the object when an exception leaves it."},
        {Py_tp_dealloc, PY_SLOT(writer_dealloc)},
        {Py_tp_repr, PY_SLOT(writer_repr)},
        {Py_tp_methods, methods},
        {Py_tp_getset, values},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "penstock.ObjectWriter",
        .basicsize = sizeof(struct writer),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = slots,
    };
    static PyType_Slot reserved_slots[] = {
        {Py_tp_doc, "Memory that a writer lends."},
        {Py_tp_dealloc, PY_SLOT(reserved_dealloc)},
        {Py_bf_getbuffer, PY_SLOT(reserved_get)},
        {Py_bf_releasebuffer, PY_SLOT(reserved_release)},
        {0, NULL},
    };
    static PyType_Spec reserved_spec = {
        .name = "penstock._penstock.ReservedBuffer",
        .basicsize = sizeof(struct reserved),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = reserved_slots,
    };
    py_module.writer = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    reserved_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &reserved_spec, NULL);
    if (!py_module.writer || !reserved_type)
        return -1;
    return PyModule_AddObjectRef(module, "ObjectWriter", (PyObject *)py_module.writer);
}

static int hear_of_exit(void)
{
    static PyMethodDef definition = {"_drop_open_writers", drop_open_writers, METH_NOARGS, NULL};
    PyObject *function = PyCFunction_NewEx(&definition, NULL, NULL);
    PyObject *atexit = function ? PyImport_ImportModule("atexit") : NULL;
    PyObject *result = atexit ? PyObject_CallMethod(atexit, "register", "O", function) : NULL;
    int rc = result ? 0 : -1;
    Py_XDECREF(result);
    Py_XDECREF(atexit);
    Py_XDECREF(function);
    return rc;
}

int py_writer_init(PyObject *module)
{
    return make_types(module) < 0 ? -1 : hear_of_exit();
}
