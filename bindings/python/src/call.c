/* call.c - blocking calls without the GIL that still hear of Ctrl-C. */
#include "py.h"

static _Thread_local pst_cancel *lent; /* py_call_lend */

pst_cancel *py_call_lend(pst_cancel *cancel)
{
    pst_cancel *previous = lent;
    lent = cancel;
    return previous;
}

/* On the waiting thread, which has no locks: let Python run its signal handlers. A handle keeps its token for
 * calls from any thread, and on another than the main one that which was lent to the thread ends them. */
static int look_for_signals(void *arg)
{
    struct py_call *call = arg;
    if (PyThread_get_thread_ident() != py_module.main_thread)
        return lent && pst_cancel_fired(lent);
    PyEval_RestoreThread(call->thread);
    call->is_interrupted = PyErr_CheckSignals() < 0;
    call->thread = PyEval_SaveThread();
    return call->is_interrupted;
}

static void set_limits(struct py_call *call, double timeout_s)
{
    *call = (struct py_call){.limits = {.struct_size = sizeof(call->limits)}};
    if (timeout_s >= 0) {
        double timeout_ms = timeout_s * 1e3;
        call->limits.timeout_ms = timeout_ms < 1      ? 1
                                  : timeout_ms < 1e15 ? (uint64_t)timeout_ms
                                                      : (uint64_t)1000000000000000;
    }
}

static int make_token(struct py_call *call)
{
    if (pst_cancel_new_polled(look_for_signals, call, &call->limits.cancel) == PST_OK)
        return 0;
    PyErr_NoMemory();
    return -1;
}

int py_call_begin(struct py_call *call, double timeout_s)
{
    set_limits(call, timeout_s);
    call->limits.cancel = lent;
    /* Only the main thread runs signal handlers; any other would ask in vain. */
    if (PyThread_get_thread_ident() == py_module.main_thread && make_token(call) < 0)
        return -1;
    py_call_enter(call);
    return 0;
}

int py_call_end(struct py_call *call)
{
    int result = py_call_leave(call);
    py_call_drop(call);
    return result;
}

int py_call_hold(struct py_call *call, double timeout_s)
{
    set_limits(call, timeout_s);
    return make_token(call);
}

void py_call_enter(struct py_call *call)
{
    call->is_interrupted = 0;
    call->thread = PyEval_SaveThread();
}

int py_call_leave(struct py_call *call)
{
    PyEval_RestoreThread(call->thread);
    py_loans_return();
    /* The handler may have raised when the call had just ended: the exception comes first. */
    return call->is_interrupted ? -1 : 0;
}

void py_call_drop(struct py_call *call)
{
    if (call->limits.cancel != lent)
        pst_cancel_free(call->limits.cancel);
    call->limits.cancel = NULL;
}
