/* reader.c - objects as streams. */
#include "py.h"

int py_reader_init(PyObject *module)
{
    (void)module;
    return 0;
}
