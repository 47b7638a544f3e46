/* loan.c - memory of Python's that the engine reads after the call has returned.
 *
 * The engine says on any thread that it is done. Waiting for the GIL there would hold a thread that others
 * need, for ever when the interpreter is ending; so what comes back is put on a list, which the next call of
 * Python's empties. */
#include "py.h"

#include <stdatomic.h>
#include <stdlib.h>

static _Atomic(struct py_loan *) returned;

struct py_loan *py_loan_take(PyObject *value)
{
    struct py_loan *loan = calloc(1, sizeof(*loan));
    if (!loan) {
        PyErr_NoMemory();
        return NULL;
    }
    if (py_bytes_take(value, &loan->view) < 0) {
        free(loan);
        return NULL;
    }
    return loan;
}

void py_loan_release(void *arg)
{
    struct py_loan *loan = arg;
    loan->next = atomic_load(&returned);
    while (!atomic_compare_exchange_weak(&returned, &loan->next, loan))
        ;
}

void py_loans_return(void)
{
    PyObject *type, *value, *trace;
    if (!atomic_load_explicit(&returned, memory_order_relaxed))
        return;
    struct py_loan *loan = atomic_exchange(&returned, NULL);
    PyErr_Fetch(&type, &value, &trace); /* letting go of an object may run any code */
    while (loan) {
        struct py_loan *next = loan->next;
        PyBuffer_Release(&loan->view);
        free(loan);
        loan = next;
    }
    PyErr_Restore(type, value, trace);
}
