/* cancel.c - a switch that ends the calls of another thread, for event loops that let a thread wait. */
#include "operation.h"

static PyTypeObject *cancel_type;

struct cancel {
    PyObject_HEAD
    pst_cancel *token;
    int is_running;
};

static struct cancel *cancel_of(PyObject *self)
{
    return (struct cancel *)(void *)self;
}

static PyObject *make(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    if (PyTuple_Size(args) != 0 || (keywords && PyDict_Size(keywords) != 0)) {
        PyErr_SetString(PyExc_TypeError, "Cancel takes no arguments");
        return NULL;
    }
    PyObject *self = PyType_GenericAlloc(type, 0);
    if (self && pst_cancel_new(&cancel_of(self)->token) != PST_OK) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return self;
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    pst_cancel_free(cancel_of(self)->token);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *run(PyObject *self, PyObject *args, PyObject *keywords)
{
    struct cancel *cancel = cancel_of(self);
    Py_ssize_t n = PyTuple_Size(args);
    if (n < 1) {
        PyErr_SetString(PyExc_TypeError, "run needs a function");
        return NULL;
    }
    if (pst_cancel_fired(cancel->token))
        return py_raise(PST_E_CANCELLED, NULL, NULL);
    PyObject *rest = PyTuple_GetSlice(args, 1, n);
    if (!rest)
        return NULL;
    pst_cancel *previous = py_call_lend(cancel->token);
    cancel->is_running = 1;
    PyObject *result = PyObject_Call(PyTuple_GetItem(args, 0), rest, keywords);
    cancel->is_running = 0;
    py_call_lend(previous);
    Py_DECREF(rest);
    return result;
}

static PyObject *fire(PyObject *self, PyObject *unused)
{
    (void)unused;
    pst_cancel_fire(cancel_of(self)->token);
    return PyBool_FromLong(cancel_of(self)->is_running);
}

static PyMethodDef methods[] = {
    {"run", PY_METHOD(run), METH_VARARGS | METH_KEYWORDS,
     "run(function, *args, **keywords)\n\n"
     "Call it on this thread, which is not the main one; what it waits for ends when fire() is "
     "called."},
    {"fire", fire, METH_NOARGS, "End it, for good. Gives whether it runs; if not, it never will."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "A switch that ends the calls of another thread."},
    {Py_tp_new, PY_SLOT(make)},
    {Py_tp_dealloc, PY_SLOT(dealloc)},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "penstock._penstock.Cancel",
    .basicsize = sizeof(struct cancel),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int py_cancel_init(PyObject *module)
{
    cancel_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return cancel_type ? PyModule_AddType(module, cancel_type) : -1;
}
