/* writer.c - writers of objects of any length. */
#include "py.h"

int py_writer_init(PyObject *module)
{
    (void)module;
    return 0;
}
