/* dlpack.h - what of the DLPack ABI is needed to export bytes, and who exports them.
 *
 * The ABI is that of https://dmlc.github.io/dlpack, 1.0. The names are ours, the layouts are DLPack's: those
 * of DLManagedTensor, of "dltensor" capsules, and of DLManagedTensorVersioned, of "dltensor_versioned"
 * ones. */
#ifndef PENSTOCK_PY_DLPACK_H
#define PENSTOCK_PY_DLPACK_H

#include "py.h"

enum { DLPACK_MAJOR = 1, DLPACK_MINOR = 0 };
enum { DLPACK_CPU = 1 };  /* kDLCPU */
enum { DLPACK_UINT = 1 }; /* kDLUInt */

#define DLPACK_READ_ONLY 1u
#define DLPACK_IS_COPIED 2u

struct dlpack_tensor {
    void *data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t dtype_code, dtype_bits;
    uint16_t dtype_lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};

struct dlpack_legacy {
    struct dlpack_tensor tensor;
    void *manager;
    void (*deleter)(struct dlpack_legacy *self); /* on any thread */
};

struct dlpack_versioned {
    uint32_t major, minor;
    void *manager;
    void (*deleter)(struct dlpack_versioned *self);
    uint64_t flags;
    struct dlpack_tensor tensor;
};

/* __dlpack__(*, stream, max_version, dl_device, copy) of the bytes in `buffer` (NULL: none), which is
 * borrowed. `is_trusted`: the consumer never writes, so it may have the legacy protocol too. */
PyObject *py_dlpack_export(pst_buffer *buffer, int is_trusted, PyObject *args, PyObject *kwargs);

/* __dlpack_device__() of all memory there is. */
PyObject *py_dlpack_device(PyObject *self, PyObject *unused);

/* An object whose __dlpack__ trusts its consumer. Takes a reference of its own to `buffer`. */
PyObject *py_dlpack_exporter_new(pst_buffer *buffer);

int py_dlpack_init(void);

#endif
