/* writer_end.c - how a writer ends: by the one commit, or dropped in any other way, of which the
 * interpreter's exit is one. */
#include "writer.h"

#include <time.h>
#include <unistd.h>

#define EXIT_WAIT_MS 1000
#define DROPS_WAIT_MS 5000

static struct py_writer *open_writers;
static pid_t unended_in; /* the process that dropped one whose end took too long to wait for */

/* ---- those that are open ------------------------------------------------------------------------- */
void py_writer_link(struct py_writer *writer)
{
    writer->next = open_writers;
    writer->link = &open_writers;
    if (open_writers)
        open_writers->link = &writer->next;
    open_writers = writer;
}

void py_writer_unlink(struct py_writer *writer)
{
    if (!writer->link)
        return;
    *writer->link = writer->next;
    if (writer->next)
        writer->next->link = writer->link;
    writer->link = NULL;
}

/* ---- commit and drop ----------------------------------------------------------------------------- */

void py_writer_let_go(struct py_writer *writer)
{
    py_place_clear(&writer->place);
    Py_CLEAR(writer->owner);
}

/* With the result kept; the engine's writer is not needed any more. */
static int keep_result(struct py_writer *writer, const pst_write_result *result)
{
    pst_writer *ended = writer->writer;
    writer->writer = NULL;
    writer->state = PY_WRITER_DONE;
    writer->n_stored = result->size;
    writer->n_parts = result->n_parts;
    py_writer_unlink(writer);
    PyThreadState *thread = PyEval_SaveThread();
    pst_writer_free(ended);
    PyEval_RestoreThread(thread);
    py_writer_let_go(writer);
    Py_XDECREF(writer->etag);
    Py_XDECREF(writer->version);
    writer->etag = result->etag[0] ? py_str_of_chars(result->etag) : Py_NewRef(Py_None);
    writer->version = result->version[0] ? py_str_of_chars(result->version) : Py_NewRef(Py_None);
    return writer->etag && writer->version ? 0 : -1;
}

PyObject *py_writer_finalize(PyObject *object, PyObject *unused)
{
    struct py_writer *writer = py_writer_of(object);
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_error err = PST_ERROR_INIT;
    (void)unused;
    if (py_writer_check_idle(writer) < 0)
        return NULL;
    if (writer->state != PY_WRITER_DONE) {
        if (py_writer_check_open(writer) < 0)
            return NULL;
        py_writer_drop_reserved(writer);
        if (py_writer_check_open(writer) < 0)
            return NULL;
        py_writer_enter(writer);
        pst_rc rc = pst_writer_finalize(writer->writer, &result, &err);
        int ended = py_writer_leave(writer, rc, &err);
        if (rc == PST_OK && ended < 0) { /* published, and then Ctrl-C */
            PyObject *type, *value, *trace;
            PyErr_Fetch(&type, &value, &trace);
            if (keep_result(writer, &result) < 0)
                PyErr_Clear();
            PyErr_Restore(type, value, trace);
        }
        if (ended < 0 || keep_result(writer, &result) < 0)
            return NULL;
    }
    return Py_BuildValue("KK", (unsigned long long)writer->n_written,
                         (unsigned long long)writer->n_stored);
}

/* Drop what was written. The token is fired first: then the engine waits for at most a second, and what
 * takes longer goes on in the background, as the reply to the opening of an upload may. */
static pst_rc drop(struct py_writer *writer, pst_error *err)
{
    pst_writer *ended = writer->writer;
    writer->writer = NULL;
    writer->state = PY_WRITER_DROPPED;
    py_writer_unlink(writer);
    py_writer_drop_reserved(writer);
    pst_cancel_fire(writer->call.limits.cancel);
    PyThreadState *thread = PyEval_SaveThread();
    pst_rc rc = pst_writer_cancel(ended, err);
    pst_writer_free(ended);
    PyEval_RestoreThread(thread);
    py_writer_let_go(writer);
    py_loans_return();
    if (rc == PST_E_DEADLINE)
        unended_in = getpid();
    return rc == PST_E_DEADLINE || rc == PST_E_FORKED ? PST_OK : rc;
}

/* The same where another exception is on its way. */
void py_writer_drop_quietly(struct py_writer *writer)
{
    pst_error err = PST_ERROR_INIT;
    PyObject *type, *value, *trace;
    if (writer->state != PY_WRITER_OPEN || writer->is_busy || !writer->writer)
        return;
    PyErr_Fetch(&type, &value, &trace);
    (void)drop(writer, &err);
    PyErr_Restore(type, value, trace);
}

PyObject *py_writer_cancel(PyObject *object, PyObject *unused)
{
    struct py_writer *writer = py_writer_of(object);
    pst_error err = PST_ERROR_INIT;
    (void)unused;
    if (py_writer_check_idle(writer) < 0)
        return NULL;
    if (writer->state == PY_WRITER_DROPPED)
        Py_RETURN_NONE;
    if (py_writer_check_open(writer) < 0)
        return NULL;
    pst_rc rc = drop(writer, &err);
    if (rc != PST_OK)
        return py_raise(rc, &err, writer->uri);
    Py_RETURN_NONE;
}

PyObject *py_writer_enter_block(PyObject *object, PyObject *unused)
{
    (void)unused;
    return py_writer_check_open(py_writer_of(object)) < 0 ? NULL : Py_NewRef(object);
}

PyObject *py_writer_exit_block(PyObject *object, PyObject *args)
{
    struct py_writer *writer = py_writer_of(object);
    PyObject *type = PyTuple_Size(args) > 0 ? PyTuple_GetItem(args, 0) : Py_None;
    if (writer->state != PY_WRITER_OPEN)
        Py_RETURN_NONE;
    if (type != Py_None) {
        py_writer_drop_quietly(writer);
        Py_RETURN_NONE;
    }
    PyObject *sizes = py_writer_finalize(object, NULL);
    if (!sizes) {
        py_writer_drop_quietly(writer);
        return NULL;
    }
    Py_DECREF(sizes);
    Py_RETURN_NONE;
}

/* ---- the interpreter's exit ---------------------------------------------------------------------- */

/* What goes on in the background needs the process: wait until two looks in a row find nothing under way. The
 * exception of a signal handler ends the wait. */
static int wait_for_drops(void)
{
    const struct timespec slice = {.tv_nsec = 10000000};
    pst_stats stats = {.struct_size = sizeof(stats)};
    int n_quiet = 0;
    for (int waited_ms = 0; n_quiet < 2 && waited_ms < DROPS_WAIT_MS; waited_ms += 10) {
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&slice, NULL);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0)
            return -1;
        pst_context_stats(py_context(), &stats);
        n_quiet = stats.ops_submitted == stats.ops_completed ? n_quiet + 1 : 0;
    }
    return 0;
}

/* Stop the calls under way, then drop what is open. */
static PyObject *drop_open_writers(PyObject *module, PyObject *unused)
{
    const struct timespec slice = {.tv_nsec = 10000000};
    const pid_t pid = getpid();
    (void)module;
    (void)unused;
    for (struct py_writer *writer = open_writers; writer; writer = writer->next) {
        if (writer->is_busy)
            pst_cancel_fire(writer->call.limits.cancel);
    }
    for (int waited_ms = 0; open_writers;) {
        struct py_writer *writer = open_writers;
        while (writer && (writer->is_busy || writer->pid != pid))
            writer = writer->next;
        if (writer) {
            Py_INCREF((PyObject *)writer);
            py_writer_drop_quietly(writer);
            py_writer_unlink(writer);
            Py_DECREF((PyObject *)writer);
            continue;
        }
        int is_busy = 0;
        for (writer = open_writers; writer; writer = writer->next)
            is_busy |= writer->is_busy && writer->pid == pid;
        if (!is_busy || waited_ms >= EXIT_WAIT_MS)
            break;
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&slice, NULL);
        Py_END_ALLOW_THREADS
        waited_ms += 10;
    }
    if (unended_in == pid && wait_for_drops() < 0)
        return NULL;
    Py_RETURN_NONE;
}

int py_writer_end_init(void)
{
    static PyMethodDef definition = {"_drop_open_writers", drop_open_writers, METH_NOARGS, NULL};
    PyObject *function = PyCFunction_NewEx(&definition, NULL, NULL);
    PyObject *atexit = function ? PyImport_ImportModule("atexit") : NULL;
    PyObject *result = atexit ? PyObject_CallMethod(atexit, "register", "O", function) : NULL;
    int rc = result ? 0 : -1;
    Py_XDECREF(result);
    Py_XDECREF(atexit);
    Py_XDECREF(function);
    return rc;
}
