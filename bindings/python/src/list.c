/* list.c - listings. */
#include "py.h"

int py_list_init(PyObject *module)
{
    (void)module;
    return 0;
}
