/* dlpack.c - bytes as DLPack tensors of uint8.
 *
 * A tensor has a reference of its own to the buffer and needs nothing of Python's to let go of it: the
 * frameworks call its deleter on any thread, with the GIL or without.
 *
 * The memory is read-only, and only DLPack 1.0 can say so: the legacy protocol is refused. Memory that
 * does not start at a multiple of 64 bytes is refused too, which some frameworks would copy without a
 * word. Both are a BufferError; copy=True gives a fresh, writable, aligned copy by either protocol.
 *
 * JAX asks by the legacy protocol alone, and never writes: an exporter for it is had by for_jax(). */
#include "dlpack.h"

#include <stdlib.h>

enum { DLPACK_ALIGN = 64 };

/* ---- tensors ----------------------------------------------------------------------------------- */

/* One exported tensor, by either protocol, with its reference to the buffer. */
struct tensor {
    union {
        struct dlpack_legacy legacy;
        struct dlpack_versioned versioned;
    } dlpack;
    pst_buffer *buffer;
    int64_t shape, stride;
};

static void free_tensor(struct tensor *tensor)
{
    pst_buffer_unref(tensor->buffer);
    free(tensor);
}

/* The frameworks call these on any thread, with or without the GIL. */
static void delete_legacy(struct dlpack_legacy *self)
{
    free_tensor(self->manager);
}

static void delete_versioned(struct dlpack_versioned *self)
{
    free_tensor(self->manager);
}

/* A consumer renames the capsule, and then the tensor is its own. */
static const char legacy_name[] = "dltensor";
static const char versioned_name[] = "dltensor_versioned";

static void destroy_legacy(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, legacy_name))
        delete_legacy(PyCapsule_GetPointer(capsule, legacy_name));
}

static void destroy_versioned(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, versioned_name))
        delete_versioned(PyCapsule_GetPointer(capsule, versioned_name));
}

/* Takes over the reference to `buffer`, which NULL stands for no bytes. */
static PyObject *export_tensor(pst_buffer *buffer, int is_versioned, uint64_t flags)
{
    struct tensor *tensor = calloc(1, sizeof(*tensor));
    PyObject *capsule = NULL;

    if (!tensor) {
        pst_buffer_unref(buffer);
        return PyErr_NoMemory();
    }
    tensor->buffer = buffer;
    tensor->shape = buffer ? (int64_t)pst_buffer_size(buffer) : 0;
    tensor->stride = 1;
    /* The protocol has no const; the flag says it. */
    union {
        const void *in;
        void *out;
    } data = {.in = buffer ? pst_buffer_data(buffer) : NULL};
    const struct dlpack_tensor shown = {
        .data = data.out,
        .device_type = DLPACK_CPU,
        .ndim = 1,
        .dtype_code = DLPACK_UINT,
        .dtype_bits = 8,
        .dtype_lanes = 1,
        .shape = &tensor->shape,
        .strides = &tensor->stride,
    };
    if (is_versioned) {
        tensor->dlpack.versioned = (struct dlpack_versioned){
            .major = DLPACK_MAJOR,
            .minor = DLPACK_MINOR,
            .manager = tensor,
            .deleter = delete_versioned,
            .flags = flags,
            .tensor = shown,
        };
        capsule = PyCapsule_New(&tensor->dlpack.versioned, versioned_name, destroy_versioned);
    } else {
        tensor->dlpack.legacy = (struct dlpack_legacy){
            .tensor = shown,
            .manager = tensor,
            .deleter = delete_legacy,
        };
        capsule = PyCapsule_New(&tensor->dlpack.legacy, legacy_name, destroy_legacy);
    }
    if (!capsule)
        free_tensor(tensor);
    return capsule;
}

/* ---- what is asked for ------------------------------------------------------------------------- */

/* Does the consumer know the versioned protocol? -1: no pair of numbers. */
static int knows_versions(PyObject *max_version)
{
    if (!max_version || max_version == Py_None)
        return 0;
    PyObject *major = PySequence_GetItem(max_version, 0);
    const long number = major ? PyLong_AsLong(major) : -1;
    Py_XDECREF(major);
    if (PyErr_Occurred())
        return -1;
    return number >= DLPACK_MAJOR;
}

/* 1: here, in main memory; 0: elsewhere; -1: no pair of numbers. */
static int is_cpu(PyObject *device)
{
    long numbers[2] = {0};

    if (!device || device == Py_None)
        return 1;
    for (int i = 0; i < 2; i++) {
        PyObject *item = PySequence_GetItem(device, i);
        numbers[i] = item ? PyLong_AsLong(item) : -1;
        Py_XDECREF(item);
        if (PyErr_Occurred())
            return -1;
    }
    return numbers[0] == DLPACK_CPU && numbers[1] == 0;
}

static PyObject *export_copy(pst_buffer *buffer, int is_versioned)
{
    pst_buffer *copy = NULL;

    if (buffer) {
        copy = py_buffer_copy(pst_buffer_data(buffer), pst_buffer_size(buffer));
        if (!copy)
            return NULL;
    }
    return export_tensor(copy, is_versioned, DLPACK_IS_COPIED);
}

static PyObject *export_alias(pst_buffer *buffer, int is_versioned, int is_trusted)
{
    if (!is_versioned && !is_trusted) {
        PyErr_SetString(PyExc_BufferError,
                        "a BytesView is read-only, which DLPack before 1.0 cannot say: "
                        "pass copy=True, or use memoryview(view), or for JAX view.for_jax()");
        return NULL;
    }
    if (buffer && (uintptr_t)pst_buffer_data(buffer) % DLPACK_ALIGN != 0) {
        PyErr_Format(PyExc_BufferError,
                     "this view does not start at a multiple of %d bytes, so some frameworks "
                     "would copy it: pass copy=True, or use memoryview(view)",
                     DLPACK_ALIGN);
        return NULL;
    }
    return export_tensor(buffer ? pst_buffer_ref(buffer) : NULL, is_versioned, DLPACK_READ_ONLY);
}

static PyObject *export_as_asked(pst_buffer *buffer, int is_trusted, PyObject *args,
                                 PyObject *kwargs)
{
    static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream = Py_None, *max_version = Py_None, *device = Py_None, *copy = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__", names, &stream,
                                     &max_version, &device, &copy))
        return NULL;
    if (stream != Py_None) {
        PyErr_SetString(PyExc_BufferError, "memory of the CPU has no stream: stream must be None");
        return NULL;
    }
    const int here = is_cpu(device);
    const int is_versioned = here < 0 ? -1 : knows_versions(max_version);
    const int is_copy = is_versioned < 0 || copy == Py_None ? 0 : PyObject_IsTrue(copy);
    if (here < 0 || is_versioned < 0 || is_copy < 0)
        return NULL;
    if (!here) {
        PyErr_SetString(PyExc_BufferError, "a BytesView is exported to the CPU only: (1, 0)");
        return NULL;
    }
    return is_copy ? export_copy(buffer, is_versioned)
                   : export_alias(buffer, is_versioned, is_trusted);
}

PyObject *py_dlpack_export(pst_buffer *buffer, int is_trusted, PyObject *args, PyObject *kwargs)
{
    pst_buffer *held = buffer ? pst_buffer_ref(buffer) : NULL; /* the arguments may run any code */
    PyObject *capsule = export_as_asked(held, is_trusted, args, kwargs);

    pst_buffer_unref(held);
    return capsule;
}

PyObject *py_dlpack_device(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return Py_BuildValue("(ii)", DLPACK_CPU, 0);
}

/* ---- the exporter for JAX ---------------------------------------------------------------------- */

struct exporter {
    PyObject ob_base;
    pst_buffer *buffer;
};

static PyTypeObject *exporter_type;

PyObject *py_dlpack_exporter_new(pst_buffer *buffer)
{
    PyObject *self = PyType_GenericAlloc(exporter_type, 0);

    if (self && buffer)
        ((struct exporter *)(void *)self)->buffer = pst_buffer_ref(buffer);
    return self;
}

static void exporter_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    pst_buffer_unref(((struct exporter *)(void *)self)->buffer);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *exporter_dlpack(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return py_dlpack_export(((struct exporter *)(void *)self)->buffer, 1, args, kwargs);
}

static PyMethodDef methods[] = {
    {"__dlpack__", PY_METHOD(exporter_dlpack), METH_VARARGS | METH_KEYWORDS,
     "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
     "Export as a DLPack tensor of uint8, by the legacy protocol too."},
    {"__dlpack_device__", py_dlpack_device, METH_NOARGS,
     "__dlpack_device__($self, /)\n--\n\nThe CPU: (1, 0)."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "What BytesView.for_jax gives."},
    {Py_tp_dealloc, PY_SLOT(exporter_dealloc)},
    {Py_tp_methods, methods},
    {0, NULL},
};

int py_dlpack_init(void)
{
    static PyType_Spec spec = {
        .name = "penstock._penstock.DLPackExporter",
        .basicsize = sizeof(struct exporter),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = slots,
    };

    exporter_type = (PyTypeObject *)(void *)PyType_FromSpec(&spec);
    return exporter_type ? 0 : -1;
}
