/* store.c - stores, and the calls of one object. */
#include "py.h"

int py_store_init(PyObject *module)
{
    (void)module;
    return 0;
}
