/* view.c - BytesView: what was read, where it was read to.
 *
 * A view is one reference to a buffer of the core, which any thread may drop without the GIL. Whatever
 * shows the same memory keeps it alive on its own: a slice and a DLPack tensor have references of their
 * own, a memoryview or an array keeps the view it came from. So release() and the end of a `with` only
 * give up this handle; where memoryviews or arrays of it are left, the memory goes with the last of them.
 *
 * Always read-only: two views may share bytes, and get_many packs small objects side by side.
 *
 * DLPack is in dlpack.c. */
#include "py.h"

#include <string.h>

#include "dlpack.h"

/* From this size on, copying, comparing or giving back is worth letting other threads run. */
enum { LARGE = 256 * 1024 };

struct view {
    PyObject ob_base;
    pst_buffer *buffer; /* NULL: nothing to show, or released and nobody looks */
    Py_ssize_t n_exports;
    Py_hash_t hash; /* -1: not known yet */
    int is_released;
};

/* ---- the memory -------------------------------------------------------------------------------- */

static struct view *view_of(PyObject *self)
{
    return (struct view *)(void *)self;
}

/* Some consumers of a buffer want an address for no bytes, too. */
static const void *data_of(const struct view *view)
{
    static const _Alignas(64) char nothing[1];
    const void *data = view->buffer ? pst_buffer_data(view->buffer) : NULL;

    return data ? data : nothing;
}

static size_t size_of(const struct view *view)
{
    return view->buffer ? pst_buffer_size(view->buffer) : 0;
}

static void unref(pst_buffer *buffer)
{
    if (!buffer || pst_buffer_size(buffer) < LARGE) {
        pst_buffer_unref(buffer);
        return;
    }
    PyThreadState *thread = PyEval_SaveThread();
    pst_buffer_unref(buffer);
    PyEval_RestoreThread(thread);
}

static void drop_buffer(struct view *view)
{
    pst_buffer *buffer = view->buffer;

    view->buffer = NULL;
    unref(buffer);
}

static void copy_bytes(void *to, const void *from, size_t n)
{
    if (n < LARGE) {
        if (n > 0)
            memcpy(to, from, n);
        return;
    }
    PyThreadState *thread = PyEval_SaveThread();
    memcpy(to, from, n);
    PyEval_RestoreThread(thread);
}

pst_buffer *py_buffer_copy(const void *data, size_t n)
{
    pst_context *context = py_context();
    pst_error err = PST_ERROR_INIT;
    pst_buffer *buffer = NULL;

    if (!context)
        return NULL;
    const pst_rc rc = pst_buffer_alloc(context, n, 0, &buffer, &err);
    if (rc != PST_OK) {
        py_raise(rc, &err, NULL);
        return NULL;
    }
    copy_bytes(pst_buffer_writable(buffer), data, n);
    return buffer;
}

/* 0, or -1 with ValueError. */
static int check_open(const struct view *view)
{
    if (!view->is_released)
        return 0;
    PyErr_SetString(PyExc_ValueError, "this BytesView was released");
    return -1;
}

/* ---- life -------------------------------------------------------------------------------------- */

static PyObject *new_of_type(PyTypeObject *type, pst_buffer *buffer)
{
    PyObject *self = PyType_GenericAlloc(type, 0);

    if (!self) {
        unref(buffer);
        return NULL;
    }
    view_of(self)->buffer = buffer;
    view_of(self)->hash = -1;
    return self;
}

PyObject *py_view_new(pst_buffer *buffer)
{
    return new_of_type(py_module.bytes_view, buffer);
}

pst_buffer *py_view_buffer(PyObject *value)
{
    if (Py_TYPE(value) != py_module.bytes_view || view_of(value)->is_released)
        return NULL;
    return view_of(value)->buffer;
}

/* BytesView(data=b""): a copy. What pickle calls. */
static PyObject *view_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", NULL};
    PyObject *data = NULL;
    pst_buffer *buffer = NULL;
    Py_buffer bytes;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:BytesView", names, &data))
        return NULL;
    if (data) {
        if (py_bytes_take(data, &bytes) < 0)
            return NULL;
        const int is_empty = bytes.len == 0;
        if (!is_empty)
            buffer = py_buffer_copy(bytes.buf, (size_t)bytes.len);
        PyBuffer_Release(&bytes);
        if (!is_empty && !buffer)
            return NULL;
    }
    return new_of_type(type, buffer);
}

static void view_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    drop_buffer(view_of(self));
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *view_release(PyObject *self, PyObject *unused)
{
    struct view *view = view_of(self);

    (void)unused;
    view->is_released = 1;
    if (view->n_exports == 0)
        drop_buffer(view);
    Py_RETURN_NONE;
}

static PyObject *view_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return check_open(view_of(self)) < 0 ? NULL : Py_NewRef(self);
}

static PyObject *view_exit(PyObject *self, PyObject *args)
{
    (void)args;
    return view_release(self, NULL);
}

/* ---- buffer protocol --------------------------------------------------------------------------- */

static int view_getbuffer(PyObject *self, Py_buffer *out, int flags)
{
    struct view *view = view_of(self);

    if (check_open(view) < 0) {
        out->obj = NULL;
        return -1;
    }
    /* The protocol has no const; readonly says it. */
    union {
        const void *in;
        void *out;
    } data = {.in = data_of(view)};
    if (PyBuffer_FillInfo(out, self, data.out, (Py_ssize_t)size_of(view), 1, flags) < 0)
        return -1;
    view->n_exports++;
    return 0;
}

static void view_releasebuffer(PyObject *self, Py_buffer *unused)
{
    struct view *view = view_of(self);

    (void)unused;
    view->n_exports--;
    if (view->is_released && view->n_exports == 0)
        drop_buffer(view);
}

static PyObject *view_memoryview(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyMemoryView_FromObject(self);
}

static PyObject *view_to_bytes(PyObject *self, PyObject *unused)
{
    struct view *view = view_of(self);

    (void)unused;
    if (check_open(view) < 0)
        return NULL;
    const size_t n = size_of(view);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    if (!bytes)
        return NULL;
    view->n_exports++; /* against a release meanwhile */
    copy_bytes(PyBytes_AsString(bytes), data_of(view), n);
    view_releasebuffer(self, NULL);
    return bytes;
}

/* Copies only where what it goes to wants bytes in the stream. */
static PyObject *view_reduce_ex(PyObject *self, PyObject *protocol)
{
    const long number = PyLong_AsLong(protocol);
    PyObject *data = NULL;

    if (number == -1 && PyErr_Occurred())
        return NULL;
    if (number >= 5) {
        PyObject *pickle = PyImport_ImportModule("pickle");
        data = pickle ? PyObject_CallMethod(pickle, "PickleBuffer", "(O)", self) : NULL;
        Py_XDECREF(pickle);
    } else {
        data = view_to_bytes(self, NULL);
    }
    return data ? Py_BuildValue("(O(N))", (PyObject *)Py_TYPE(self), data) : NULL;
}

/* ---- as a sequence of bytes -------------------------------------------------------------------- */

static Py_ssize_t view_length(PyObject *self)
{
    return check_open(view_of(self)) < 0 ? -1 : (Py_ssize_t)size_of(view_of(self));
}

static PyObject *view_item(PyObject *self, Py_ssize_t i)
{
    struct view *view = view_of(self);

    if (check_open(view) < 0)
        return NULL;
    if (i < 0 || (size_t)i >= size_of(view)) {
        PyErr_SetString(PyExc_IndexError, "BytesView index out of range");
        return NULL;
    }
    return PyLong_FromLong(((const unsigned char *)data_of(view))[i]);
}

static PyObject *slice_of(struct view *view, size_t start, size_t n)
{
    pst_error err = PST_ERROR_INIT;
    pst_buffer *buffer = NULL;

    if (n > 0) {
        const pst_rc rc = pst_buffer_slice(view->buffer, start, n, &buffer, &err);
        if (rc != PST_OK)
            return py_raise(rc, &err, NULL);
    }
    return py_view_new(buffer);
}

static PyObject *view_subscript(PyObject *self, PyObject *index)
{
    struct view *view = view_of(self);

    if (PySlice_Check(index)) {
        Py_ssize_t start, stop, step;
        if (PySlice_Unpack(index, &start, &stop, &step) < 0 || check_open(view) < 0)
            return NULL;
        if (step != 1) {
            PyErr_SetString(PyExc_ValueError, "a BytesView is sliced with step 1: memoryview(view) "
                                              "takes other steps");
            return NULL;
        }
        const Py_ssize_t n = PySlice_AdjustIndices((Py_ssize_t)size_of(view), &start, &stop, step);
        return slice_of(view, (size_t)start, (size_t)n);
    }
    if (!PyIndex_Check(index)) {
        PyErr_SetString(PyExc_TypeError, "BytesView indices must be integers or slices");
        return NULL;
    }
    Py_ssize_t i = PyNumber_AsSsize_t(index, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred())
        return NULL;
    if (i < 0 && !view->is_released)
        i += (Py_ssize_t)size_of(view);
    return view_item(self, i);
}

/* A byte, or several in a row, as in bytes: without this `in` would look at single bytes alone and say no. */
static int view_contains(PyObject *self, PyObject *value)
{
    Py_buffer all, part;
    unsigned char byte;

    if (PyIndex_Check(value)) {
        const Py_ssize_t number = PyNumber_AsSsize_t(value, PyExc_ValueError);
        if (number == -1 && PyErr_Occurred())
            return -1;
        if (number < 0 || number > 255) {
            PyErr_SetString(PyExc_ValueError, "byte must be in range(0, 256)");
            return -1;
        }
        byte = (unsigned char)number;
        part = (Py_buffer){.buf = &byte, .len = 1};
    } else if (py_bytes_take(value, &part) < 0) {
        return -1;
    }
    int result = PyObject_GetBuffer(self, &all, PyBUF_SIMPLE);
    if (result == 0) {
        PyThreadState *thread = PyEval_SaveThread();
        result = part.len == 0 ||
                 (all.len > 0 && memmem(all.buf, (size_t)all.len, part.buf, (size_t)part.len));
        PyEval_RestoreThread(thread);
        PyBuffer_Release(&all);
    }
    if (part.obj)
        PyBuffer_Release(&part);
    return result;
}

/* ---- comparison and hash ----------------------------------------------------------------------- */

static int compare_bytes(const Py_buffer *a, const Py_buffer *b)
{
    const size_t n = (size_t)(a->len < b->len ? a->len : b->len);
    int order = 0;

    if (n < LARGE) {
        order = n > 0 ? memcmp(a->buf, b->buf, n) : 0;
    } else {
        PyThreadState *thread = PyEval_SaveThread();
        order = memcmp(a->buf, b->buf, n);
        PyEval_RestoreThread(thread);
    }
    return order ? order : (a->len > b->len) - (a->len < b->len);
}

static PyObject *answer(int order, int op)
{
    switch (op) {
    case Py_EQ:
        return PyBool_FromLong(order == 0);
    case Py_NE:
        return PyBool_FromLong(order != 0);
    case Py_LT:
        return PyBool_FromLong(order < 0);
    case Py_LE:
        return PyBool_FromLong(order <= 0);
    case Py_GT:
        return PyBool_FromLong(order > 0);
    default:
        return PyBool_FromLong(order >= 0);
    }
}

/* With bytes, bytearray and its own kind. A memoryview, an array compare themselves with it. */
static PyObject *view_richcompare(PyObject *self, PyObject *other, int op)
{
    Py_buffer ours, theirs;

    if (Py_TYPE(other) != py_module.bytes_view && !PyBytes_Check(other) &&
        !PyByteArray_Check(other))
        return Py_NewRef(Py_NotImplemented);
    if (PyObject_GetBuffer(self, &ours, PyBUF_SIMPLE) < 0)
        return NULL;
    if (PyObject_GetBuffer(other, &theirs, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&ours);
        return NULL;
    }
    /* Different lengths are different, whatever the bytes. */
    const int is_equality = op == Py_EQ || op == Py_NE;
    const int order = is_equality && ours.len != theirs.len ? 1 : compare_bytes(&ours, &theirs);
    PyBuffer_Release(&theirs);
    PyBuffer_Release(&ours);
    return answer(order, op);
}

/* That of bytes, by way of a memoryview of plain memory: the limited API has no other. */
static Py_hash_t view_hash(PyObject *self)
{
    struct view *view = view_of(self);
    union {
        const void *in;
        char *out;
    } data = {.in = data_of(view)};

    if (view->hash != -1)
        return view->hash; /* as bytes, also after a release: dicts may still hold it */
    if (check_open(view) < 0)
        return -1;
    PyObject *memory = PyMemoryView_FromMemory(data.out, (Py_ssize_t)size_of(view), PyBUF_READ);
    if (memory)
        view->hash = PyObject_Hash(memory);
    Py_XDECREF(memory);
    return view->hash;
}

static PyObject *view_repr(PyObject *self)
{
    const struct view *view = view_of(self);

    if (view->is_released)
        return PyUnicode_FromString("<penstock.BytesView, released>");
    return PyUnicode_FromFormat("<penstock.BytesView of %zu bytes>", size_of(view));
}

static PyObject *get_nbytes(PyObject *self, void *unused)
{
    (void)unused;
    return check_open(view_of(self)) < 0 ? NULL : PyLong_FromSize_t(size_of(view_of(self)));
}

/* ---- DLPack ------------------------------------------------------------------------------------ */

static PyObject *view_dlpack(PyObject *self, PyObject *args, PyObject *kwargs)
{
    if (check_open(view_of(self)) < 0)
        return NULL;
    return py_dlpack_export(view_of(self)->buffer, 0, args, kwargs);
}

static PyObject *view_for_jax(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (check_open(view_of(self)) < 0)
        return NULL;
    return py_dlpack_exporter_new(view_of(self)->buffer);
}

/* The capsule at once: TensorFlow's from_dlpack takes no exporter. */
static PyObject *view_for_tensorflow(PyObject *self, PyObject *unused)
{
    PyObject *none = PyTuple_New(0);
    PyObject *capsule = NULL;

    (void)unused;
    if (none && check_open(view_of(self)) == 0)
        capsule = py_dlpack_export(view_of(self)->buffer, 1, none, NULL);
    Py_XDECREF(none);
    return capsule;
}

/* ---- the type ---------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"memoryview", view_memoryview, METH_NOARGS,
     "memoryview($self, /)\n--\n\nThe bytes as a read-only memoryview; nothing is copied."},
    {"to_bytes", view_to_bytes, METH_NOARGS, "to_bytes($self, /)\n--\n\nA copy as bytes."},
    {"release", view_release, METH_NOARGS,
     "release($self, /)\n--\n\n"
     "Give up this handle. The memory goes when nothing else shows it."},
    {"__bytes__", view_to_bytes, METH_NOARGS, "__bytes__($self, /)\n--\n\nA copy as bytes."},
    {"__enter__", view_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nThe view itself."},
    {"__exit__", view_exit, METH_VARARGS,
     "__exit__($self, exc_type, exc_value, traceback, /)\n--\n\nCall release()."},
    {"__reduce_ex__", view_reduce_ex, METH_O,
     "__reduce_ex__($self, protocol, /)\n--\n\nFor pickle: the bytes, out of band from protocol 5 "
     "on."},
    {"__dlpack__", PY_METHOD(view_dlpack), METH_VARARGS | METH_KEYWORDS,
     "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
     "Export as a DLPack tensor of uint8: read-only and without a copy, or with copy=True a "
     "copy.\n\n"
     "BufferError where it cannot be had without a copy: for a consumer of DLPack before 1.0, and\n"
     "for a view that does not start at a multiple of 64 bytes."},
    {"__dlpack_device__", py_dlpack_device, METH_NOARGS,
     "__dlpack_device__($self, /)\n--\n\nThe CPU: (1, 0)."},
    {"for_jax", view_for_jax, METH_NOARGS,
     "for_jax($self, /)\n--\n\n"
     "What jax.dlpack.from_dlpack takes, without a copy.\n\n"
     "JAX asks for DLPack as it was before 1.0, where nothing says that memory is read-only, and "
     "a\n"
     "BytesView itself refuses that. JAX never writes to its arrays; give this to nobody who "
     "does."},
    {"for_tensorflow", view_for_tensorflow, METH_NOARGS,
     "for_tensorflow($self, /)\n--\n\n"
     "What tf.experimental.dlpack.from_dlpack takes, without a copy.\n\n"
     "As for_jax, for the same reason. It can be taken once."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"nbytes", get_nbytes, NULL, "How many bytes there are.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "BytesView(data=b'', /)\n--\n\n"
     "Read-only bytes in memory of Penstock's: what reads return. Given data, a copy of it.\n\n"
     "memoryview(view), numpy.frombuffer(view) and slices show the same memory, which\n"
     "lives as long as any of them."},
    {Py_tp_new, PY_SLOT(view_tp_new)},
    {Py_tp_dealloc, PY_SLOT(view_dealloc)},
    {Py_tp_repr, PY_SLOT(view_repr)},
    {Py_tp_hash, PY_SLOT(view_hash)},
    {Py_tp_richcompare, PY_SLOT(view_richcompare)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_bf_getbuffer, PY_SLOT(view_getbuffer)},
    {Py_bf_releasebuffer, PY_SLOT(view_releasebuffer)},
    {Py_sq_length, PY_SLOT(view_length)},
    {Py_sq_item, PY_SLOT(view_item)},
    {Py_sq_contains, PY_SLOT(view_contains)},
    {Py_mp_length, PY_SLOT(view_length)},
    {Py_mp_subscript, PY_SLOT(view_subscript)},
    {0, NULL},
};

int py_view_init(PyObject *module)
{
    static PyType_Spec spec = {
        .name = "penstock.BytesView",
        .basicsize = sizeof(struct view),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    PyObject *type = PyType_FromSpec(&spec);

    if (!type)
        return -1;
    py_module.bytes_view = (PyTypeObject *)(void *)type;
    return PyModule_AddObjectRef(module, "BytesView", type) < 0 ? -1 : py_dlpack_init();
}
