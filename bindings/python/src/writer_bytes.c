/* writer_bytes.c - the calls of a writer that take bytes.
 *
 * Memory that cannot change under the engine's hands travels where it lies: bytes objects, BytesViews, what
 * reserve() lent and got back, and what write_owned_bytes() is told to own. Other buffers are copied.
 *
 * The CRC-32C of what was given runs along here rather than in the engine, which would hand it to the store:
 * whether a store gets checksums is for its own option to say. */
#include "writer.h"

#define KEEP_BYTES ((size_t)64 << 10)   /* less is copied sooner than it is looked after */
#define CHUNK_BYTES ((size_t)128 << 10) /* summed, then copied while in cache */

/* clang-format off */
/* Memory that reserve() lends, as a memoryview looks at it. */
struct py_reserved {
    PyObject_HEAD
    pst_buffer *buffer;
    char *data; /* NULL once it was committed: then nobody may write there */
    size_t size;
    Py_ssize_t n_exports;
};
/* clang-format on */

static PyTypeObject *reserved_type;

/* ---- writing ------------------------------------------------------------------------------------- */

/* Copy the bytes of a buffer into the writer. */
static int write_copy(struct py_writer *writer, const char *data, size_t len)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = PST_OK;
    py_writer_enter(writer);
    for (size_t at = 0; at < len && rc == PST_OK;) {
        size_t n = len - at < CHUNK_BYTES ? len - at : CHUNK_BYTES;
        writer->crc32c = pst_crc32c(writer->crc32c, data + at, n);
        rc = pst_writer_write(writer->writer, data + at, n, &err);
        at += n;
    }
    if (rc == PST_OK)
        writer->n_written += len;
    return py_writer_leave(writer, rc, &err);
}

/* Give it the buffer, and with it one reference. */
static int write_buffer(struct py_writer *writer, pst_buffer *buffer)
{
    pst_error err = PST_ERROR_INIT;
    py_writer_enter(writer);
    size_t len = pst_buffer_size(buffer);
    writer->crc32c = pst_crc32c(writer->crc32c, pst_buffer_data(buffer), len);
    pst_rc rc = pst_writer_write_owned(writer->writer, buffer, &err);
    pst_buffer_unref(buffer);
    if (rc == PST_OK)
        writer->n_written += len;
    return py_writer_leave(writer, rc, &err);
}

/* Lend it the memory of an object of Python's. */
static int write_loan(struct py_writer *writer, struct py_loan *loan)
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
static int append(struct py_writer *writer, PyObject *data, int may_own, size_t *len)
{
    if (py_writer_check_open(writer) < 0)
        return -1;
    pst_buffer *buffer = py_view_buffer(data);
    struct py_loan *loan = buffer ? NULL : py_loan_take(data);
    if (buffer)
        pst_buffer_ref(buffer);
    else if (!loan)
        return -1;
    py_writer_drop_reserved(writer);
    if (py_writer_check_open(writer) <
        0) { /* taking one, dropping the other: any code may have run */
        pst_buffer_unref(buffer);
        if (loan)
            py_loan_release(loan);
        return -1;
    }
    *len = buffer ? pst_buffer_size(buffer) : (size_t)loan->view.len;
    if (buffer)
        return write_buffer(writer, buffer);
    if ((may_own || PyBytes_CheckExact(data)) && *len >= KEEP_BYTES)
        return write_loan(writer, loan);
    int result = write_copy(writer, loan->view.buf, *len);
    py_loan_release(loan);
    py_loans_return();
    return result;
}

PyObject *py_writer_write(PyObject *object, PyObject *data)
{
    size_t len = 0;
    return append(py_writer_of(object), data, 0, &len) < 0 ? NULL : PyLong_FromSize_t(len);
}

PyObject *py_writer_write_chunk(PyObject *object, PyObject *data)
{
    size_t len = 0;
    return append(py_writer_of(object), data, 0, &len) < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *py_writer_write_owned_bytes(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char word_data[] = "data", word_copy[] = "copy";
    char *names[] = {word_data, word_copy, NULL};
    PyObject *data;
    int is_copy = 0;
    size_t len = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$p:write_owned_bytes", names, &data,
                                     &is_copy))
        return NULL;
    return append(py_writer_of(object), data, !is_copy, &len) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- memory that is lent ------------------------------------------------------------------------- */

static int reserved_get(PyObject *object, Py_buffer *view, int flags)
{
    struct py_reserved *reserved = (struct py_reserved *)object;
    if (!reserved->data) {
        PyErr_SetString(PyExc_BufferError, "this memory was committed");
        view->obj = NULL;
        return -1;
    }
    if (PyBuffer_FillInfo(view, object, reserved->data, (Py_ssize_t)reserved->size, 0, flags) < 0)
        return -1;
    reserved->n_exports++;
    return 0;
}

static void reserved_release(PyObject *object, Py_buffer *view)
{
    (void)view;
    ((struct py_reserved *)object)->n_exports--;
}

static void reserved_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    pst_buffer_unref(((struct py_reserved *)object)->buffer);
    PyObject_Free(object);
    Py_DECREF((PyObject *)type);
}

/* The writer is in use meanwhile, so that its Store stays open. */
static struct py_reserved *new_reserved(struct py_writer *writer, size_t size)
{
    struct py_reserved *reserved = (struct py_reserved *)PyType_GenericAlloc(reserved_type, 0);
    pst_context *context = py_store_context(writer->owner);
    pst_error err = PST_ERROR_INIT;
    if (!reserved || !context) {
        Py_XDECREF((PyObject *)reserved);
        return NULL;
    }
    py_writer_enter(writer);
    pst_rc rc = pst_buffer_alloc(context, size, writer->mem_align, &reserved->buffer, &err);
    if (rc != PST_OK)
        reserved->buffer = NULL;
    if (py_writer_leave(writer, rc, &err) < 0) {
        Py_DECREF((PyObject *)reserved);
        return NULL;
    }
    reserved->data = pst_buffer_writable(reserved->buffer);
    reserved->size = size;
    return reserved;
}

/* Whoever watches the memoryview by a weak reference is told, and may do anything. */
void py_writer_drop_reserved(struct py_writer *writer)
{
    Py_CLEAR(writer->view);
    Py_CLEAR(writer->reserved);
}

PyObject *py_writer_reserve(PyObject *object, PyObject *value)
{
    struct py_writer *writer = py_writer_of(object);
    uint64_t size;
    if (py_u64_take(value, "size", 0, &size) < 0 || py_writer_check_open(writer) < 0)
        return NULL;
    if (size == 0 || size > PY_SSIZE_T_MAX) {
        PyErr_SetString(PyExc_ValueError, "size must be above 0, and what memory can hold");
        return NULL;
    }
    py_writer_drop_reserved(writer);
    if (py_writer_check_open(writer) < 0)
        return NULL;
    struct py_reserved *reserved = new_reserved(writer, (size_t)size);
    PyObject *view = reserved ? PyMemoryView_FromObject((PyObject *)reserved) : NULL;
    if (!view) {
        Py_XDECREF((PyObject *)reserved);
        return NULL;
    }
    py_writer_drop_reserved(writer); /* of any code that ran meanwhile */
    writer->reserved = reserved;
    writer->view = Py_NewRef(view);
    return view;
}

/* Take the memoryview back. Where an array or another view still looks at the memory it stays writable, so
 * its bytes are copied. */
static int take_back(PyObject *view, const struct py_reserved *reserved)
{
    PyObject *released = PyObject_CallMethod(view, "release", NULL);
    if (!released && !PyErr_ExceptionMatches(PyExc_BufferError))
        return -1;
    PyErr_Clear();
    Py_XDECREF(released);
    return reserved->n_exports == 0;
}

static int commit(struct py_writer *writer, struct py_reserved *reserved, int is_ours, size_t len)
{
    pst_error err = PST_ERROR_INIT;
    pst_buffer *part = NULL;
    if (!is_ours)
        return write_copy(writer, reserved->data, len);
    reserved->data = NULL;
    pst_rc rc = pst_buffer_slice(reserved->buffer, 0, len, &part, &err);
    if (rc == PST_OK)
        return write_buffer(writer, part);
    py_raise(rc, &err, writer->uri);
    return -1;
}

PyObject *py_writer_commit(PyObject *object, PyObject *args)
{
    struct py_writer *writer = py_writer_of(object);
    PyObject *value = Py_None;
    uint64_t len;
    if (!PyArg_ParseTuple(args, "|O:commit", &value) ||
        py_u64_take(value, "nbytes", PST_UNKNOWN, &len) < 0 || py_writer_check_open(writer) < 0)
        return NULL;
    if (!writer->reserved) {
        PyErr_SetString(PyExc_ValueError, "nothing was reserved");
        return NULL;
    }
    if (len == PST_UNKNOWN)
        len = writer->reserved->size;
    if (len > writer->reserved->size)
        return PyErr_Format(PyExc_ValueError, "%llu bytes are committed, %zu were reserved",
                            (unsigned long long)len, writer->reserved->size);
    struct py_reserved *reserved = writer->reserved;
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

int py_writer_bytes_init(PyObject *module)
{
    static PyType_Slot slots[] = {
        {Py_tp_doc, "Memory that a writer lends."},
        {Py_tp_dealloc, PY_SLOT(reserved_dealloc)},
        {Py_bf_getbuffer, PY_SLOT(reserved_get)},
        {Py_bf_releasebuffer, PY_SLOT(reserved_release)},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "penstock._penstock.ReservedBuffer",
        .basicsize = sizeof(struct py_reserved),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = slots,
    };
    reserved_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return reserved_type ? 0 : -1;
}
