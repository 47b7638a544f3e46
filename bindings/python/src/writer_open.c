/* writer_open.c - open_writer: the options of a writer, and its start. */
#include "ops.h"
#include "writer.h"

#include <unistd.h>

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
    struct py_writer *writer = py_writer_of(PyType_GenericAlloc(py_module.writer, 0));
    pst_store_info info = {.struct_size = sizeof(info)};
    pst_error err = PST_ERROR_INIT;
    if (!writer) {
        py_place_clear(place);
        return NULL;
    }
    writer->place = *place;
    writer->owner = Py_NewRef(place->self);
    writer->state = PY_WRITER_DROPPED; /* until there is something to drop */
    writer->uri = py_place_uri(place);
    if (!writer->uri || py_call_hold(&writer->call, writing->timeout_s) < 0) {
        Py_DECREF((PyObject *)writer);
        return NULL;
    }
    pst_store_describe(place->store, &info);
    wish_buffer(&info, buffer_bytes, &writing->options);
    writer->mem_align = info.mem_align;
    writer->is_compressed = writing->options.zstd_level != 0;
    py_writer_enter(writer);
    pst_rc rc = pst_writer_open(place->store, place->key, &writing->options, &writer->call.limits,
                                &writer->writer, &err);
    if (rc == PST_OK) {
        writer->state = PY_WRITER_OPEN;
        writer->pid = getpid();
    }
    if (py_writer_leave(writer, rc, &err) < 0) {
        Py_DECREF((PyObject *)writer);
        return NULL;
    }
    py_writer_link(writer);
    return (PyObject *)writer;
}

PyObject *py_open_writer(PyObject *self, PyObject *args, PyObject *kwargs)
{
    char *names[] = {py_place_word(self), "part_bytes",        "buffer_bytes", "max_in_flight",
                     "size_hint",         "compression_level", PY_WRITE_WORDS, NULL};
    PyObject *where, *part = Py_None, *buffer = Py_None, *in_flight = Py_None, *hint = Py_None;
    PyObject *level = Py_None, *writer = NULL;
    struct py_write_in in = {0};
    struct py_writing writing;
    struct py_place place;
    uint64_t buffer_bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOOO" PY_WRITE_FORMAT ":open_writer", names,
                                     &where, &part, &buffer, &in_flight, &hint, &level,
                                     PY_WRITE_INTO(&in)) ||
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
