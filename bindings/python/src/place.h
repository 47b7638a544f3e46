/* place.h - what an operation works on: an object that a key of a Store names, or a URI.
 *
 * One C function serves both. As a method of Store its first argument is a key, as a function of the module
 * a URI; py_place_take makes a store and a key of either. */
#ifndef PENSTOCK_PY_PLACE_H
#define PENSTOCK_PY_PLACE_H

#include "py.h"

struct py_place {
    pst_store *store; /* good until py_place_clear */
    pst_str key;
    PyObject *self; /* the Store, or the module; borrowed */
    struct py_text text;
};

/* What the first argument of the operation is called: "key" or "uri". */
char *py_place_word(PyObject *self);

int py_place_take(PyObject *self, PyObject *value, struct py_place *out);
void py_place_clear(struct py_place *place);

/* The URI of the object, for errors. New reference. */
PyObject *py_place_uri(const struct py_place *place);

/* Raise what `rc` stands for. Returns NULL. */
PyObject *py_place_fail(const struct py_place *place, pst_rc rc, const pst_error *err);

/* Text or None, which leaves *out empty. */
int py_text_take_optional(PyObject *value, const char *what, struct py_text *out);

/* The operations of ops.c, named as methods and as functions. */
PyMethodDef *py_store_methods(void);
int py_ops_init(PyObject *module);

/* The listings of list.c: a method and a function each. */
PyObject *py_list_new(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_list_new_containers(PyObject *self, PyObject *args, PyObject *kwargs);

/* Those of many.c, put_many.c, reader.c and writer_open.c. */
PyObject *py_get_many(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_get_ranges(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_put_many(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_open_reader(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *py_open_writer(PyObject *self, PyObject *args, PyObject *kwargs);

/* Copying many objects through memory (transfer.c). */
PyObject *py_transfer(PyObject *module, PyObject *args, PyObject *kwargs);

/* Copy one object to where its store cannot copy it to by itself. *etag: NULL, or yours. */
int py_transfer_one(const struct py_place *from, const struct py_place *to,
                    const pst_copy_options *options, double timeout_s, PyObject **etag);

#endif
