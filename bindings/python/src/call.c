/* call.c - blocking calls without the GIL that still hear of Ctrl-C. */
#include "py.h"

static _Thread_local pst_cancel *lent; /* py_call_lend */

pst_cancel *py_call_lend(pst_cancel *cancel)
{
    pst_cancel *previous = lent;
    lent = cancel;
    return previous;
}

/* On the waiting thread, which has no locks: let Python run its signal handlers. */
static int look_for_signals(void *arg)
{
    struct py_call *call = arg;
    PyEval_RestoreThread(call->thread);
    call->is_interrupted = PyErr_CheckSignals() < 0;
    call->thread = PyEval_SaveThread();
    return call->is_interrupted;
}

int py_call_begin(struct py_call *call, double timeout_s)
{
    *call = (struct py_call){.limits = {.struct_size = sizeof(call->limits)}};
    if (timeout_s >= 0) {
        double timeout_ms = timeout_s * 1e3;
        call->limits.timeout_ms = timeout_ms < 1      ? 1
                                  : timeout_ms < 1e15 ? (uint64_t)timeout_ms
                                                      : (uint64_t)1000000000000000;
    }
    call->limits.cancel = lent;
    /* Only the main thread runs signal handlers; any other would ask in vain. */
    if (PyThread_get_thread_ident() == py_module.main_thread &&
        pst_cancel_new_polled(look_for_signals, call, &call->limits.cancel) != PST_OK) {
        PyErr_NoMemory();
        return -1;
    }
    call->thread = PyEval_SaveThread();
    return 0;
}

int py_call_end(struct py_call *call)
{
    PyEval_RestoreThread(call->thread);
    if (call->limits.cancel != lent)
        pst_cancel_free(call->limits.cancel);
    call->limits.cancel = NULL;
    /* The handler may have raised when the call had just ended: the exception comes first. */
    return call->is_interrupted ? -1 : 0;
}
