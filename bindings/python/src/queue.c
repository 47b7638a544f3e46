/* queue.c - submit and reap, for event loops. */
#include "py.h"

int py_queue_init(PyObject *module)
{
    (void)module;
    return 0;
}
