/* many.c - many objects or ranges in one call. */
#include "py.h"

int py_many_init(PyObject *module)
{
    (void)module;
    return 0;
}
