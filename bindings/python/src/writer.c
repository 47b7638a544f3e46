/* writer.c - penstock.ObjectWriter: an object written as a stream.
 *
 * finalize is the only commit. What ends in any other way - cancel, an exception in the `with` block, the
 * last reference gone, the interpreter exiting - is dropped, and nothing is left in the store. */
#include "writer.h"

/* ---- one call at a time -------------------------------------------------------------------------- */

int py_writer_check_idle(const struct py_writer *writer)
{
    if (!writer->is_busy)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the writer is in use by another thread");
    return -1;
}

int py_writer_check_open(const struct py_writer *writer)
{
    if (py_writer_check_idle(writer) < 0)
        return -1;
    if (writer->state == PY_WRITER_OPEN)
        return 0;
    py_refuse(writer->uri, writer->state == PY_WRITER_DONE ? "the writer has been finalized"
                                                           : "the writer was cancelled");
    return -1;
}

void py_writer_enter(struct py_writer *writer)
{
    writer->is_busy = 1;
    py_call_enter(&writer->call);
}

int py_writer_leave(struct py_writer *writer, pst_rc rc, const pst_error *err)
{
    int result = py_call_leave(&writer->call);
    writer->is_busy = 0;
    if (result == 0 && rc != PST_OK) {
        py_raise(rc, err, writer->uri);
        result = -1;
    }
    return result;
}

/* ---- the last reference gone --------------------------------------------------------------------- */

static void writer_dealloc(PyObject *object)
{
    struct py_writer *writer = py_writer_of(object);
    PyTypeObject *type = Py_TYPE(object);
    py_writer_drop_quietly(writer);
    py_writer_unlink(writer);
    py_writer_drop_reserved(writer);
    py_writer_let_go(writer);
    py_call_drop(&writer->call);
    Py_CLEAR(writer->uri);
    Py_CLEAR(writer->etag);
    Py_CLEAR(writer->version);
    PyObject_Free(object);
    Py_DECREF((PyObject *)type);
}

/* ---- what is known ------------------------------------------------------------------------------- */

static PyObject *writer_bytes_written(PyObject *object, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(py_writer_of(object)->n_written);
}

static PyObject *writer_compressed_bytes(PyObject *object, PyObject *unused)
{
    const struct py_writer *writer = py_writer_of(object);
    (void)unused;
    if (writer->state == PY_WRITER_DONE)
        return PyLong_FromUnsignedLongLong(writer->n_stored);
    if (writer->is_compressed)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(writer->n_written);
}

static PyObject *writer_checksum(PyObject *object, PyObject *unused)
{
    char text[PST_CRC32C_TEXT_SIZE];
    (void)unused;
    return PyUnicode_FromString(pst_crc32c_text(py_writer_of(object)->crc32c, text));
}

static PyObject *writer_repr(PyObject *object)
{
    static const char *const states[] = {"open", "finalized", "cancelled"};
    const struct py_writer *writer = py_writer_of(object);
    return PyUnicode_FromFormat("<penstock.ObjectWriter %R, %s>", writer->uri,
                                states[writer->state]);
}

static PyObject *get_uri(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef(py_writer_of(object)->uri);
}

static PyObject *get_closed(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(py_writer_of(object)->state != PY_WRITER_OPEN);
}

static PyObject *get_etag(PyObject *object, void *unused)
{
    PyObject *etag = py_writer_of(object)->etag;
    (void)unused;
    return Py_NewRef(etag ? etag : Py_None);
}

static PyObject *get_version(PyObject *object, void *unused)
{
    PyObject *version = py_writer_of(object)->version;
    (void)unused;
    return Py_NewRef(version ? version : Py_None);
}

static PyObject *get_parts(PyObject *object, void *unused)
{
    const struct py_writer *writer = py_writer_of(object);
    (void)unused;
    if (writer->state != PY_WRITER_DONE)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(writer->n_parts ? writer->n_parts : 1);
}

/* ---- the module's part --------------------------------------------------------------------------- */

static int make_type(PyObject *module)
{
    static PyMethodDef methods[] = {
        {"write", py_writer_write, METH_O,
         "write($self, data, /)\n--\n\n"
         "Append bytes and return how many. bytes and BytesView travel without a copy."},
        {"write_chunk", py_writer_write_chunk, METH_O,
         "write_chunk($self, data, /)\n--\n\nAppend bytes, as write does."},
        {"write_owned_bytes", PY_METHOD(py_writer_write_owned_bytes), METH_VARARGS | METH_KEYWORDS,
         "write_owned_bytes($self, data, *, copy=False)\n--\n\n"
         "Append the bytes of any buffer without a copy: it must not change before finalize."},
        {"reserve", py_writer_reserve, METH_O,
         "reserve($self, size, /)\n--\n\n"
         "Lend memory to fill: a writable memoryview of `size` bytes, good until the next call."},
        {"commit", py_writer_commit, METH_VARARGS,
         "commit($self, nbytes=None, /)\n--\n\n"
         "Append the first `nbytes` (None: all) of what was reserved, without a copy unless "
         "something still looks at it."},
        {"finalize", py_writer_finalize, METH_NOARGS,
         "finalize($self, /)\n--\n\n"
         "Publish the object: (bytes written, bytes stored). May be repeated."},
        {"cancel", py_writer_cancel, METH_NOARGS,
         "cancel($self, /)\n--\n\nDrop the object and leave nothing behind. May be repeated."},
        {"bytes_written", writer_bytes_written, METH_NOARGS,
         "bytes_written($self, /)\n--\n\nTell how many bytes were given so far."},
        {"compressed_bytes", writer_compressed_bytes, METH_NOARGS,
         "compressed_bytes($self, /)\n--\n\n"
         "Tell how many bytes are stored; None before finalize where it compresses."},
        {"checksum", writer_checksum, METH_NOARGS,
         "checksum($self, /)\n--\n\n"
         "Tell the CRC-32C of the bytes given so far, as 'crc32c:e3069283'."},
        {"__enter__", py_writer_enter_block, METH_NOARGS, NULL},
        {"__exit__", py_writer_exit_block, METH_VARARGS, NULL},
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
        .basicsize = sizeof(struct py_writer),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = slots,
    };
    py_module.writer = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!py_module.writer)
        return -1;
    return PyModule_AddObjectRef(module, "ObjectWriter", (PyObject *)py_module.writer);
}

int py_writer_init(PyObject *module)
{
    if (make_type(module) < 0 || py_writer_bytes_init(module) < 0)
        return -1;
    return py_writer_end_init();
}
