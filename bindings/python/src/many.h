/* many.h - the arguments of operations on many objects (many_args.c). */
#ifndef PENSTOCK_PY_MANY_H
#define PENSTOCK_PY_MANY_H

#include "place.h"

/* Is it a Store, whose objects are named by keys, or the module? */
int py_is_of_store(PyObject *self);

/* The items of any iterable but text, which would fall apart into letters, as a list. New reference. */
PyObject *py_items_take(PyObject *value, const char *what);

/* The two halves of a pair, borrowed from *pair, a new reference. `what` begins the message of errors. */
int py_pair_take(PyObject *item, const char *what, PyObject **pair, PyObject **first,
                 PyObject **second);

/* max_in_flight, above 0. None gives `if_none`. */
int py_in_flight_take(PyObject *value, uint32_t if_none, uint32_t *out);

/* Make places[i] of a URI or key; all of a list have one scheme. */
int py_places_take(PyObject *self, PyObject *value, struct py_place *places, size_t i);

/* Clear a list of `n`, and free it. */
void py_places_clear(struct py_place *places, size_t n);

/* What is left of a timeout (0: no limit) that began at `began_ms`: at least 1. Without the GIL. */
uint64_t py_now_ms(void);
uint64_t py_time_left(uint64_t timeout_ms, uint64_t began_ms);

#endif
