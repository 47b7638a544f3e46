/* log.c - the lines of the core to Python's logging, under the name "penstock".
 *
 * A line comes on any thread, perhaps while another thread has the GIL and waits for the core: nothing
 * may wait for the GIL here. So lines go into a ring, and one pending call makes the main thread empty it
 * when it is at the interpreter's next safe point. When the ring is full lines are dropped, and counted.
 *
 * The level is that of the logger when the context is made; what the logger then lets through is up to
 * it, at any time. After the interpreter's exit handlers nothing is called any more. */
#include "py.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { LINES_MAX = 64, LINES_AT_ONCE = 8, LINE_SIZE = 1024 };

struct line {
    uint32_t level;
    char text[LINE_SIZE];
};

static struct {
    pthread_mutex_t mutex;
    struct {
        size_t first, n;
        unsigned long n_dropped;
        int is_scheduled;
        struct line lines[LINES_MAX];
    } locked;
} ring = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static atomic_int has_ended;

/* ---- into the ring: any thread, no GIL --------------------------------------------------------- */

static int empty_ring(void *unused);

/* Have empty_ring called; is_scheduled is set already. */
static void schedule(void)
{
    if (Py_AddPendingCall(empty_ring, NULL) == 0)
        return;
    pthread_mutex_lock(&ring.mutex);
    ring.locked.is_scheduled = 0; /* too many are pending: the next line tries again */
    pthread_mutex_unlock(&ring.mutex);
}

static void add_line(void *unused, uint32_t level, const char *text)
{
    int must_schedule = 0;

    (void)unused;
    if (atomic_load(&has_ended))
        return;
    pthread_mutex_lock(&ring.mutex);
    if (ring.locked.n == LINES_MAX) {
        ring.locked.n_dropped++;
    } else {
        struct line *line = &ring.locked.lines[(ring.locked.first + ring.locked.n) % LINES_MAX];
        const size_t n = strnlen(text, LINE_SIZE - 1);
        memcpy(line->text, text, n);
        line->text[n] = '\0';
        line->level = level;
        ring.locked.n++;
    }
    must_schedule = !ring.locked.is_scheduled;
    ring.locked.is_scheduled = 1;
    pthread_mutex_unlock(&ring.mutex);
    if (must_schedule)
        schedule();
}

/* ---- out of it: the main thread, with the GIL -------------------------------------------------- */

/* 1: *line is the oldest; 0: there is none, and the next one is to schedule. */
static int take_line(struct line *line, unsigned long *n_dropped)
{
    int has_line = 0;

    pthread_mutex_lock(&ring.mutex);
    *n_dropped = ring.locked.n_dropped;
    ring.locked.n_dropped = 0;
    if (ring.locked.n > 0) {
        *line = ring.locked.lines[ring.locked.first];
        ring.locked.first = (ring.locked.first + 1) % LINES_MAX;
        ring.locked.n--;
        has_line = 1;
    } else {
        ring.locked.is_scheduled = 0;
    }
    pthread_mutex_unlock(&ring.mutex);
    return has_line;
}

static int python_level(uint32_t level)
{
    switch (level) {
    case PST_LEVEL_ERROR:
        return 40;
    case PST_LEVEL_WARN:
        return 30;
    case PST_LEVEL_INFO:
        return 20;
    default:
        return 10;
    }
}

/* A handler that raises is its owner's business, and told as logging itself tells it. What is no Exception,
 * as Ctrl-C meanwhile, is the program's: -1. */
static int tell_failure(PyObject *where)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyErr_WriteUnraisable(where);
    return 0;
}

/* Takes over `text`. */
static int log_text(PyObject *logger, uint32_t level, PyObject *text)
{
    PyObject *done =
        text ? PyObject_CallMethod(logger, "log", "(isO)", python_level(level), "%s", text) : NULL;
    const int result = done ? 0 : tell_failure(logger);

    Py_XDECREF(done);
    Py_XDECREF(text);
    return result;
}

static PyObject *find_logger(void)
{
    static int has_handler;
    PyObject *logging = PyImport_ImportModule("logging");
    PyObject *logger = logging ? PyObject_CallMethod(logging, "getLogger", "(s)", "penstock")
                               : NULL;

    if (logger && !has_handler) {
        /* As libraries do: an application that set up no logging is shown nothing. */
        PyObject *handler = PyObject_CallMethod(logging, "NullHandler", NULL);
        PyObject *done = handler ? PyObject_CallMethod(logger, "addHandler", "(O)", handler) : NULL;
        if (!done)
            Py_CLEAR(logger);
        has_handler = done != NULL;
        Py_XDECREF(handler);
        Py_XDECREF(done);
    }
    Py_XDECREF(logging);
    return logger;
}

/* Tell so many at most: what the handlers' own work adds might never end. */
static int tell_lines(int max)
{
    PyObject *logger = find_logger();
    struct line line = {0};
    unsigned long n_dropped = 0;
    int has_line = 1, result = logger ? 0 : tell_failure(NULL);

    for (int n = 0; has_line && n < max && result == 0; n++) {
        has_line = take_line(&line, &n_dropped);
        if (logger && n_dropped > 0)
            result = log_text(logger, PST_LEVEL_WARN,
                              PyUnicode_FromFormat("%lu lines of the log were dropped", n_dropped));
        if (logger && has_line && result == 0)
            result = log_text(
                logger, line.level,
                PyUnicode_DecodeUTF8(line.text, (Py_ssize_t)strlen(line.text), "replace"));
    }
    if (has_line)
        schedule();
    Py_XDECREF(logger);
    return result;
}

static int empty_ring(void *unused)
{
    (void)unused;
    return tell_lines(LINES_AT_ONCE);
}

/* ---- life -------------------------------------------------------------------------------------- */

static PyObject *end_logging(PyObject *self, PyObject *unused)
{
    int has_lines, result = 0;

    (void)self;
    (void)unused;
    pthread_mutex_lock(&ring.mutex);
    has_lines = ring.locked.n > 0;
    pthread_mutex_unlock(&ring.mutex);
    /* Not for nothing: importing logging now would make Python forget that it ends by Ctrl-C. */
    if (has_lines)
        result = tell_lines(LINES_MAX);
    atomic_store(&has_ended, 1);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static int register_end(void)
{
    static PyMethodDef end = {"end_logging", end_logging, METH_NOARGS, NULL};
    PyObject *atexit_module = PyImport_ImportModule("atexit");
    PyObject *function = atexit_module ? PyCFunction_New(&end, NULL) : NULL;
    PyObject *done = function ? PyObject_CallMethod(atexit_module, "register", "(O)", function)
                              : NULL;

    Py_XDECREF(done);
    Py_XDECREF(function);
    Py_XDECREF(atexit_module);
    return done ? 0 : -1;
}

/* The core's level for the logger's. */
static int find_level(uint32_t *level)
{
    PyObject *logger = find_logger();
    PyObject *effective = logger ? PyObject_CallMethod(logger, "getEffectiveLevel", NULL) : NULL;
    const long number = effective ? PyLong_AsLong(effective) : -1;

    Py_XDECREF(effective);
    Py_XDECREF(logger);
    if (PyErr_Occurred())
        return -1;
    *level = number > 30   ? PST_LEVEL_ERROR
             : number > 20 ? PST_LEVEL_WARN
             : number > 10 ? PST_LEVEL_INFO
                           : PST_LEVEL_DEBUG;
    return 0;
}

/* Without the module nobody has asked for a log yet, and importing it is not ours to do: it takes as
 * long as all the rest. */
static int is_logging_imported(void)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */

    return modules && PyDict_GetItemString(modules, "logging") != NULL;
}

static void after_fork_in_child(void)
{
    ring.mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    ring.locked.n = 0;
    ring.locked.is_scheduled = 0;
}

int py_log_begin(pst_context_options *options)
{
    static int has_begun;

    options->log_level = PST_LEVEL_WARN;
    if (is_logging_imported() && find_level(&options->log_level) < 0)
        return -1;
    if (!has_begun) {
        if (register_end() < 0)
            return -1;
        if (pthread_atfork(NULL, NULL, after_fork_in_child) != 0) {
            PyErr_NoMemory();
            return -1;
        }
        has_begun = 1;
    }
    options->log = add_line;
    return 0;
}
