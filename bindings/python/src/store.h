/* store.h - what store.c is made of: credentials and options. */
#ifndef PENSTOCK_PY_STORE_H
#define PENSTOCK_PY_STORE_H

#include "place.h"

/* ---- credentials.c ------------------------------------------------------------------------------- */

/* Lets a context ask a Python callable for credentials. */
struct py_asker;

/* `callable` is borrowed until py_asker_drop. */
struct py_asker *py_asker_new(PyObject *callable);
void py_asker_drop(struct py_asker *asker); /* NULL is allowed */

/* A context that asks through it; waits without the GIL. */
pst_context *py_asker_context(struct py_asker *asker, PyObject *uri);

int py_asker_init(void);

/* ---- options.c ----------------------------------------------------------------------------------- */

/* Options and the credentials that are a dict, as one new dict. Either may be None. */
PyObject *py_options_join(PyObject *options, PyObject *credentials);

/* Those of `options` that `store` does not call secrets, as a new dict. */
PyObject *py_options_public(pst_store *store, PyObject *options);

#endif
