/* module.c - the extension module: refuses where it cannot work, then lets each file add its part.
 *
 * The module exists once in a process. What it makes is global, so a subinterpreter, which would share
 * it with the first without a word, gets an ImportError; and a second import after the first one was
 * forgotten (`del sys.modules[...]`) gets the same module back, whose types are those of the objects
 * that are still alive. */
#include "py.h"

#include <pthread.h>

struct py_module py_module;

static PyObject *the_module;

/* ---- context ----------------------------------------------------------------------------------- */

pst_context *py_context(void)
{
    static pst_context *context;

    if (!context) {
        pst_context_options options = {.struct_size = sizeof(options)};
        pst_error err = PST_ERROR_INIT;
        if (py_log_begin(&options) < 0)
            return NULL;
        if (context) /* Python code has run: another thread was here */
            return context;
        const pst_rc rc = pst_context_new(&options, &context, &err);
        if (rc != PST_OK) {
            context = NULL;
            py_raise(rc, &err, NULL);
        }
    }
    return context;
}

/* ---- functions --------------------------------------------------------------------------------- */

static PyObject *stats(PyObject *module, PyObject *unused)
{
    pst_context *context = py_context();
    pst_stats now = {.struct_size = sizeof(now)};

    (void)module;
    (void)unused;
    if (!context)
        return NULL;
    pst_context_stats(context, &now);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"ops_submitted", now.ops_submitted},
        {"ops_completed", now.ops_completed},
        {"retries", now.retries},
        {"busy", now.busy},
        {"bytes_read", now.bytes_read},
        {"bytes_written", now.bytes_written},
        {"budget_bytes", now.budget_bytes},
        {"in_flight_bytes", now.in_flight_bytes},
        {"peak_in_flight_bytes", now.peak_in_flight_bytes},
        {"handed_out_bytes", now.handed_out_bytes},
        {"abandoned_ops", now.abandoned_ops},
        {"threads", now.threads},
        {"fork_generation", now.fork_generation},
        {"mapped_bytes", now.mapped_bytes},
        {"peak_mapped_bytes", now.peak_mapped_bytes},
        {"idle_bytes", now.idle_bytes},
        {"maps", now.maps},
        {"reuses", now.reuses},
        {"ranges", now.ranges},
        {"hedges", now.hedges},
        {"hedges_won", now.hedges_won},
        {"http_requests", now.http_requests},
        {"http_opened", now.http_opened},
        {"http_reused", now.http_reused},
        {"http_name_ns", now.http_name_ns},
        {"http_connect_ns", now.http_connect_ns},
        {"http_tls_ns", now.http_tls_ns},
    };
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict && i < sizeof(rows) / sizeof(rows[0]); i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(rows[i].value);
        if (!value || PyDict_SetItemString(dict, rows[i].name, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}

static PyMethodDef functions[] = {
    {"stats", stats, METH_NOARGS,
     "stats($module, /)\n--\n\n"
     "Figures of the moment: operations, bytes, memory, connections."},
    {NULL, NULL, 0, NULL},
};

/* ---- where Python looks for signals ------------------------------------------------------------ */

static int find_main_thread(void)
{
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *main_thread = threading ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
    PyObject *ident = main_thread ? PyObject_GetAttrString(main_thread, "ident") : NULL;

    if (ident)
        py_module.main_thread = PyLong_AsUnsignedLong(ident);
    Py_XDECREF(ident);
    Py_XDECREF(main_thread);
    Py_XDECREF(threading);
    return PyErr_Occurred() ? -1 : 0;
}

/* The thread that forked is the only one of the child, and Python's main thread there. */
static void become_main_thread(void)
{
    py_module.main_thread = PyThread_get_thread_ident();
}

/* ---- loading ----------------------------------------------------------------------------------- */

static PyObject *create_module(PyObject *spec, PyModuleDef *def)
{
    (void)def;
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        PyErr_SetString(PyExc_ImportError,
                        "penstock does not support subinterpreters: use threads or processes");
        return NULL;
    }
    if (the_module)
        return Py_NewRef(the_module);
    PyObject *name = PyObject_GetAttrString(spec, "name");
    PyObject *module = name ? PyModule_NewObject(name) : NULL;
    Py_XDECREF(name);
    return module;
}

static int fill_module(PyObject *module)
{
    if (module == the_module)
        return 0;
    if (find_main_thread() < 0 ||
        PyModule_AddStringConstant(module, "__version__", pst_version()) < 0 ||
        PyModule_AddFunctions(module, functions) < 0 || py_errors_init(module) < 0 ||
        py_view_init(module) < 0 || py_store_init(module) < 0 || py_list_init(module) < 0 ||
        py_reader_init(module) < 0 || py_writer_init(module) < 0 || py_queue_init(module) < 0)
        return -1;
    if (pthread_atfork(NULL, NULL, become_main_thread) != 0) {
        PyErr_NoMemory();
        return -1;
    }
    the_module = Py_NewRef(module);
    return 0;
}

PyMODINIT_FUNC PyInit__penstock(void);

PyMODINIT_FUNC PyInit__penstock(void)
{
    static PyModuleDef_Slot slots[] = {
        {Py_mod_create, PY_SLOT(create_module)},
        {Py_mod_exec, PY_SLOT(fill_module)},
        {0, NULL},
    };
    static PyModuleDef definition = {
        .m_base = PyModuleDef_HEAD_INIT,
        .m_name = "penstock._penstock",
        .m_doc = "What of penstock is written in C.",
        .m_slots = slots,
    };

    return PyModuleDef_Init(&definition);
}
