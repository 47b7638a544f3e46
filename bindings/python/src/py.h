/* py.h - what the files of the extension share.
 *
 * The extension uses the public C API alone, and of Python's only the limited API of 3.11: one binary for
 * every later version. Subinterpreters are refused, so what is global to the module is global here.
 *
 * Errors: a function that returns PyObject * or int says NULL or -1 with an exception set. Nothing here may
 * be called without the GIL unless it says so. */
#ifndef PENSTOCK_PY_H
#define PENSTOCK_PY_H

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <penstock/penstock.h>

/* A function in a table of slots, which are void *: a cast that POSIX has and ISO C has not. */
#define PY_SLOT(function) (__extension__(void *)(function))

/* A function with other parameters than PyCFunction in a table of methods; its flags say which. */
#define PY_METHOD(function) ((PyCFunction)(void (*)(void))(function))

/* ---- the module (module.c) --------------------------------------------------------------------- */

/* Types and exceptions, made when the module is loaded; all live as long as the process. */
extern struct py_module {
    PyObject *error; /* penstock.Error and its subclasses: errors.c */
    PyTypeObject *bytes_view, *store, *listing, *entry, *reader, *writer, *queue;
    unsigned long main_thread; /* where Python looks for signals; renewed in a fork child */
} py_module;

/* Each file adds its types, functions and constants; called once, in this order. */
int py_errors_init(PyObject *module);
int py_view_init(PyObject *module);
int py_store_init(PyObject *module);
int py_list_init(PyObject *module);
int py_reader_init(PyObject *module);
int py_writer_init(PyObject *module);
int py_queue_init(PyObject *module);

/* The context of all that names no other; made on first use, never freed. Borrowed. */
pst_context *py_context(void);

/* Set the log members of a context's options: its lines go to Python's logging (log.c). */
int py_log_begin(pst_context_options *options);

/* ---- exceptions (errors.c) --------------------------------------------------------------------- */

/* Raise what `rc` stands for, with the attributes that `err` (NULL: none) and `uri` (NULL: none) give.
 * CANCELLED with an exception already set (Ctrl-C) leaves that one. Returns NULL. */
PyObject *py_raise(pst_rc rc, const pst_error *err, PyObject *uri);

/* Raise INVALID with a message of its own. Returns NULL. */
PyObject *py_refuse(PyObject *uri, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The exception itself, for results that carry one each. New reference. */
PyObject *py_exception_new(pst_rc rc, const pst_error *err, PyObject *uri);

/* ---- calls that wait (call.c) ------------------------------------------------------------------ */

/* A blocking call of the C API, without the GIL:
 *
 *     struct py_call call;
 *     if (py_call_begin(&call, timeout_s) < 0)
 *         return NULL;
 *     rc = pst_get(store, key, NULL, &call.limits, &buffer, NULL, &err);
 *     if (py_call_end(&call) < 0)   (Ctrl-C: release what came, return NULL)
 *
 * On the main thread signal handlers run about every 50 ms, and one that raises ends the call. */
struct py_call {
    pst_call limits;
    PyThreadState *thread;
    int is_interrupted;
};
int py_call_begin(struct py_call *call, double timeout_s); /* below 0: no limit */
int py_call_end(struct py_call *call);

/* Let all calls of this thread, where it is not the main one, end when `cancel` fires; NULL: no more. Returns
 * what it was before. */
pst_cancel *py_call_lend(pst_cancel *cancel);

/* The same for a handle that keeps its call for later ones, as readers and writers do: held before the
 * handle is opened, dropped after it was freed, and each call on it stands between enter and leave. A token
 * that Ctrl-C fired ends every later call too. `call` must not move. */
int py_call_hold(struct py_call *call, double timeout_s);
void py_call_enter(struct py_call *call);
int py_call_leave(struct py_call *call);
void py_call_drop(struct py_call *call);

/* ---- memory that the engine reads after a call has returned (loan.c) --------------------------- */

/* Contiguous bytes of an object of Python's, which stays as it is until the loan was returned. */
struct py_loan {
    Py_buffer view;
    struct py_loan *next;
};
struct py_loan *py_loan_take(PyObject *value);

/* Give the loan `arg` back: on any thread, with the GIL or without. Fits pst_buffer_wrap and pst_request. */
void py_loan_release(void *arg);

/* Let go of the objects behind all loans that were given back; every call of call.c ends with it. */
void py_loans_return(void);

/* ---- values (convert.c) ------------------------------------------------------------------------ */

/* TypeError, in place of what may be set: "uri must be str, not int"; `wanted` says what it must be. Returns
 * -1. */
int py_type_raise(const char *what, const char *wanted, PyObject *value);

/* Text of Python's as bytes: str in UTF-8 (surrogateescape, as os.fsencode does), bytes as they are.
 * `str` borrows from `owner`. */
struct py_text {
    PyObject *owner;
    pst_str str;
};
int py_text_take(PyObject *value, const char *what,
                 struct py_text *out); /* TypeError names `what` */
void py_text_clear(struct py_text *text);

/* A URI: the same, or an os.PathLike, which stands for file:// and its absolute path. */
int py_uri_take(PyObject *value, struct py_text *out);

/* The other way; keys that are no UTF-8 come as surrogate escapes, and go back to the same bytes. */
PyObject *py_str_of(pst_str text);
PyObject *py_str_of_chars(const char *text);

/* A dict of options or metadata as pairs of texts. bool is "true" or "false", int its digits, None is left
 * out. Freed by py_kv_clear. */
struct py_kv {
    pst_kv *kv;
    size_t n;
    PyObject *owner; /* a list of what the pairs borrow from */
};
int py_kv_take(PyObject *dict, const char *what, struct py_kv *out); /* NULL and None: empty */
void py_kv_clear(struct py_kv *kv);

/* Non-negative integers of Python; ValueError names `what`. None gives `if_none`. */
int py_u64_take(PyObject *value, const char *what, uint64_t if_none, uint64_t *out);

/* Seconds as a float, None: -1, no limit. ValueError for what is not above 0. */
int py_timeout_take(PyObject *value, double *out);

/* Contiguous bytes of any object with a buffer. Released by PyBuffer_Release. */
int py_bytes_take(PyObject *value, Py_buffer *out);
int py_writable_take(PyObject *value, Py_buffer *out);

/* The attributes as the dict that penstock.stat gives. */
PyObject *py_attr_dict(const pst_attr *attr);

/* ---- BytesView (view.c) ------------------------------------------------------------------------ */

/* Take over one reference to `buffer`, after a failure too. NULL buffer: an empty view. */
PyObject *py_view_new(pst_buffer *buffer);

/* A fresh buffer with a copy of the bytes, which stay where they are until this returns. */
pst_buffer *py_buffer_copy(const void *data, size_t n);

/* The buffer behind a view, borrowed, or NULL where `value` is no view. */
pst_buffer *py_view_buffer(PyObject *value);

/* ---- Store (store.c) --------------------------------------------------------------------------- */

/* The context of that store: queues and buffers for it come from there. Borrowed, while a place
 * of it is taken: without one, any code that runs may close it. */
pst_context *py_store_context(PyObject *value);

/* The store that the URI lies in, opened with the default options and kept; *key borrows from `uri`.
 * Borrowed: kept stores live as long as the process. */
pst_store *py_store_at(pst_str uri, pst_str *key);

#endif
