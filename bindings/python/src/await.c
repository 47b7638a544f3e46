/* await.c - an operation as what a coroutine waits for.
 *
 * A task takes it for a future, since it has _asyncio_future_blocking: it asks to be called back, and cancels
 * the operation when it is cancelled itself. A future of asyncio's is done with its cancel. Here a cancel
 * only asks, and the callback comes when the operation is over: a coroutine that is cancelled raises after
 * that.
 *
 * One task waits for an operation, once. It does so before the operation is told, in the turn in which it
 * made it, and it always lets the loop run, though the operation may be over at once. */
#include "operation.h"

static PyObject *name_run;

static struct py_operation *operation_of(PyObject *self)
{
    return (struct py_operation *)(void *)self;
}

/* ---- the outcome ------------------------------------------------------------------------------ */

static PyObject *raise_cancelled(PyObject *message)
{
    PyObject *module = PyImport_ImportModule("asyncio");
    PyObject *type = module ? PyObject_GetAttrString(module, "CancelledError") : NULL;
    if (type)
        PyErr_SetObject(type, message);
    Py_XDECREF(type);
    Py_XDECREF(module);
    return NULL;
}

/* What is over: its result, borrowed, or NULL with what it failed with. */
static PyObject *outcome_of(struct py_operation *operation)
{
    if (operation->is_dropped)
        return raise_cancelled(operation->wait.message);
    if (operation->error) {
        PyErr_SetObject((PyObject *)Py_TYPE(operation->error), operation->error);
        return NULL;
    }
    if (!operation->result)
        PyErr_SetString(PyExc_RuntimeError, "the operation was awaited before");
    return operation->result;
}

static PyObject *wait_on(struct py_operation *operation)
{
    operation->wait.is_blocking = 1;
    return Py_NewRef(&operation->ob_base);
}

/* The coroutine has the outcome: a view must not live longer than its user wants, and an exception leads to
 * the frames in which the operation is a variable. */
static void let_go(struct py_operation *operation)
{
    Py_CLEAR(operation->result);
    Py_CLEAR(operation->error);
    Py_CLEAR(operation->wait.thrown);
}

PySendResult py_await_send(PyObject *self, PyObject *value, PyObject **result)
{
    struct py_operation *operation = operation_of(self);
    (void)value;
    if (!operation->wait.is_told) {
        *result = wait_on(operation);
        return PYGEN_NEXT;
    }
    *result = NULL;
    if (operation->wait.thrown)
        PyErr_SetObject((PyObject *)Py_TYPE(operation->wait.thrown), operation->wait.thrown);
    else
        *result = Py_XNewRef(outcome_of(operation));
    let_go(operation);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

PyObject *py_await_next(PyObject *self)
{
    PyObject *result;
    PySendResult state = py_await_send(self, Py_None, &result);
    if (state != PYGEN_RETURN)
        return result;
    PyObject *stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, result, NULL);
    if (stop)
        PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
    Py_DECREF(result);
    return NULL;
}

/* ---- what a task calls ------------------------------------------------------------------------ */

static PyObject *get_loop(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *loop = operation_of(self)->wait.loop;
    return Py_NewRef(loop ? loop : Py_None); /* None: it is garbage, with its loop */
}

static PyObject *add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t n_args,
                                   PyObject *names)
{
    struct py_operation *operation = operation_of(self);
    Py_ssize_t n_names = names ? PyTuple_Size(names) : 0;
    if (n_args != 1 || n_names > 1 ||
        (n_names == 1 &&
         PyUnicode_CompareWithASCIIString(PyTuple_GetItem(names, 0), "context") != 0)) {
        PyErr_SetString(PyExc_TypeError, "add_done_callback takes a function and a context");
        return NULL;
    }
    if (operation->wait.is_told || operation->wait.callback) {
        PyErr_SetString(PyExc_RuntimeError, "one task waits for an operation, once");
        return NULL;
    }
    operation->wait.callback = Py_NewRef(args[0]);
    operation->wait.context = n_names == 1 && args[1] != Py_None ? Py_NewRef(args[1]) : NULL;
    Py_RETURN_NONE;
}

int py_operation_tell(struct py_operation *operation)
{
    PyObject *callback = operation->wait.callback, *context = operation->wait.context, *done;
    operation->wait.is_told = 1;
    operation->wait.callback = operation->wait.context = NULL;
    if (!callback)
        return 0;
    if (context)
        done = PyObject_CallMethodObjArgs(context, name_run, callback, &operation->ob_base, NULL);
    else
        done = PyObject_CallFunctionObjArgs(callback, &operation->ob_base, NULL);
    Py_DECREF(callback);
    Py_XDECREF(context);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyObject *get_result(PyObject *self, PyObject *unused)
{
    (void)unused;
    return Py_XNewRef(outcome_of(operation_of(self)));
}

static PyObject *cancel(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char msg[] = "msg";
    char *names[] = {msg, NULL};
    PyObject *message = Py_None;
    struct py_operation *operation = operation_of(self);
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:cancel", names, &message))
        return NULL;
    if (operation->wait.is_told)
        Py_RETURN_FALSE;
    Py_XDECREF(operation->wait.message);
    operation->wait.message = message == Py_None ? NULL : Py_NewRef(message);
    py_operation_cancel(operation);
    Py_RETURN_TRUE;
}

/* ---- what a coroutine calls ------------------------------------------------------------------- */

/* Nobody waits any more: the coroutine is closed, where it must not wait. */
static PyObject *close_it(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct py_operation *operation = operation_of(self);
    py_operation_cancel(operation);
    Py_CLEAR(operation->wait.callback);
    Py_CLEAR(operation->wait.context);
    Py_RETURN_NONE;
}

/* Take down what was thrown, as an exception object. New reference. */
static PyObject *take_thrown(PyObject *args)
{
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &traceback))
        return NULL;
    if (PyExceptionInstance_Check(type))
        return Py_NewRef(type);
    if (!PyExceptionClass_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
        return NULL;
    }
    Py_INCREF(type);
    Py_XINCREF(value);
    traceback = NULL; /* the frames of the coroutine are what it will get */
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* End the operation, and raise what was thrown when it is over. */
static PyObject *throw_it(PyObject *self, PyObject *args)
{
    struct py_operation *operation = operation_of(self);
    PyObject *thrown = take_thrown(args);
    if (!thrown)
        return NULL;
    if (!operation->wait.is_told)
        py_operation_cancel(operation);
    if (operation->is_over) {
        operation->wait.is_told = 1;
        let_go(operation);
        PyErr_SetObject((PyObject *)Py_TYPE(thrown), thrown);
        Py_DECREF(thrown);
        return NULL;
    }
    Py_XDECREF(operation->wait.thrown);
    operation->wait.thrown = thrown;
    return wait_on(operation);
}

/* ---- the type --------------------------------------------------------------------------------- */

PyMethodDef py_await_methods[] = {
    {"get_loop", get_loop, METH_NOARGS, "The event loop."},
    {"add_done_callback", PY_METHOD(add_done_callback), METH_FASTCALL | METH_KEYWORDS,
     "add_done_callback(function, *, context=None)\n\nCall it when the operation is over."},
    {"result", get_result, METH_NOARGS, "What came, or raise what went wrong."},
    {"cancel", PY_METHOD(cancel), METH_VARARGS | METH_KEYWORDS,
     "cancel(msg=None)\n\nAsk it to end. False if it has ended and everybody knows."},
    {"throw", throw_it, METH_VARARGS, "End it, and raise this when it is over."},
    {"close", close_it, METH_NOARGS, "Ask it to end; nobody waits."},
    {NULL, NULL, 0, NULL},
};

int py_await_traverse(struct py_operation *operation, visitproc visit, void *arg)
{
    Py_VISIT(operation->wait.loop);
    Py_VISIT(operation->wait.callback);
    Py_VISIT(operation->wait.context);
    Py_VISIT(operation->wait.thrown);
    Py_VISIT(operation->wait.message);
    return 0;
}

void py_await_clear(struct py_operation *operation)
{
    Py_CLEAR(operation->wait.loop);
    Py_CLEAR(operation->wait.callback);
    Py_CLEAR(operation->wait.context);
    Py_CLEAR(operation->wait.thrown);
    Py_CLEAR(operation->wait.message);
}

int py_await_init(void)
{
    name_run = PyUnicode_InternFromString("run");
    return name_run ? 0 : -1;
}
