/* ops.h - the operations that ops.c makes methods and functions of. */
#ifndef PENSTOCK_PY_OPS_H
#define PENSTOCK_PY_OPS_H

#include "place.h"

/* ---- op_arguments.c ------------------------------------------------------------------------------ */

/* A choice by name: 1 for the first of `names`, 0 for None. ValueError for what is not among them. */
int py_choose(PyObject *value, const char *what, const char *const *names, uint32_t *out);

/* How an object that may be compressed is read: None, 'name' or 'zstd'. */
int py_decode_take(PyObject *value, uint32_t *out);

/* One place and a timeout, for operations that take no more. */
int py_place_parse(PyObject *self, PyObject *args, PyObject *kwargs, const char *format,
                   struct py_place *place, double *timeout_s);

/* ---- op_read.c ----------------------------------------------------------------------------------- */

PyObject *py_op_get(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_get_range(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_get_suffix(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_get_into(PyObject *self, PyObject *args, PyObject *kwargs);

/* ---- op_write.c ---------------------------------------------------------------------------------- */

/* What is written beside the bytes: as it was given, NULL and None where it was not, and as the engine takes
 * it. */
enum { PY_N_TEXTS = 6 };
struct py_write_in {
    PyObject *create_only, *if_match, *texts[PY_N_TEXTS], *metadata, *tags, *checksum, *timeout;
};
struct py_writing {
    pst_write_options options;
    pst_attr attr;
    struct py_text if_match, texts[PY_N_TEXTS];
    struct py_kv metadata, tags;
    double timeout_s;
};
/* The keywords that give it, the format of as many, and where PyArg_ParseTupleAndKeywords puts them. */
#define PY_TEXT_WORDS                                                                              \
    "content_type", "content_encoding", "content_language", "content_disposition",                 \
        "cache_control", "storage_class"
#define PY_WRITE_WORDS                                                                             \
    "create_only", "if_match", PY_TEXT_WORDS, "metadata", "tags", "checksum", "timeout"
#define PY_WRITE_FORMAT "OOOOOOOOOOOO"
#define PY_WRITE_INTO(in)                                                                          \
    &(in)->create_only, &(in)->if_match, &(in)->texts[0], &(in)->texts[1], &(in)->texts[2],        \
        &(in)->texts[3], &(in)->texts[4], &(in)->texts[5], &(in)->metadata, &(in)->tags,           \
        &(in)->checksum, &(in)->timeout
/* ... and how help() shows them, but for timeout, which stands last. */
#define PY_WRITE_SHOWN                                                                             \
    "create_only=False, if_match=None, content_type=None, content_encoding=None, "                 \
    "content_language=None, content_disposition=None, cache_control=None, storage_class=None, "    \
    "metadata=None, tags=None, checksum=None"

int py_writing_take(const struct py_write_in *in, struct py_writing *out);
void py_writing_clear(struct py_writing *writing);

PyObject *py_op_put(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_copy(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_rename(PyObject *self, PyObject *args, PyObject *kwargs);

/* ---- op_object.c --------------------------------------------------------------------------------- */

PyObject *py_op_stat(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_exists(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_delete(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_delete_prefix(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_delete_many(PyObject *self, PyObject *args, PyObject *kwargs); /* of a Store */

/* ---- op_store.c ---------------------------------------------------------------------------------- */

PyObject *py_op_create_container(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_delete_container(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_presign(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_op_describe_store(PyObject *self, PyObject *unused);
PyObject *py_op_describe(PyObject *self, PyObject *uri);

#endif
