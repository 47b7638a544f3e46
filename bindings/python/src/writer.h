/* writer.h - what the files of penstock.ObjectWriter share: writer.c (the object), writer_open.c (its start),
 * writer_bytes.c (what is written), writer_end.c (commit and drop). */
#ifndef PENSTOCK_PY_WRITER_H
#define PENSTOCK_PY_WRITER_H

#include "place.h"

#include <sys/types.h>

enum py_writer_state { PY_WRITER_OPEN, PY_WRITER_DONE, PY_WRITER_DROPPED };

/* clang-format off */
struct py_writer {
    PyObject_HEAD
    pst_writer *writer; /* NULL unless open */
    struct py_place place; /* taken while it is open ... */
    PyObject *owner;       /* ... and so is the Store it is of, or the module */
    PyObject *uri;
    struct py_call call;
    pid_t pid;   /* of the process that opened it */
    int is_busy; /* a call is under way */
    enum py_writer_state state;
    uint64_t n_written;
    uint32_t crc32c, mem_align;
    int is_compressed;
    struct py_reserved *reserved; /* lent and not committed yet ... */
    PyObject *view;               /* ... as this memoryview */
    /* Of a finalized one. */
    uint64_t n_stored;
    uint32_t n_parts;
    PyObject *etag, *version;
    struct py_writer *next, **link; /* of those that are open */
};
/* clang-format on */

static inline struct py_writer *py_writer_of(PyObject *object)
{
    return (struct py_writer *)object;
}

/* ---- one call at a time (writer.c) --------------------------------------------------------------- */

/* ValueError while another thread is in a call ... */
int py_writer_check_idle(const struct py_writer *writer);

/* ... and when it was finalized or cancelled. */
int py_writer_check_open(const struct py_writer *writer);

/* A call on the engine's writer stands between the two; leave raises what ended it. */
void py_writer_enter(struct py_writer *writer);
int py_writer_leave(struct py_writer *writer, pst_rc rc, const pst_error *err);

/* ---- bytes (writer_bytes.c) ---------------------------------------------------------------------- */

PyObject *py_writer_write(PyObject *object, PyObject *data);
PyObject *py_writer_write_chunk(PyObject *object, PyObject *data);
PyObject *py_writer_write_owned_bytes(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *py_writer_reserve(PyObject *object, PyObject *value);
PyObject *py_writer_commit(PyObject *object, PyObject *args);

/* Take no more what was reserved and not committed. */
void py_writer_drop_reserved(struct py_writer *writer);

int py_writer_bytes_init(PyObject *module);

/* ---- the end (writer_end.c) ---------------------------------------------------------------------- */

PyObject *py_writer_finalize(PyObject *object, PyObject *unused);
PyObject *py_writer_cancel(PyObject *object, PyObject *unused);
PyObject *py_writer_enter_block(PyObject *object, PyObject *unused);
PyObject *py_writer_exit_block(PyObject *object, PyObject *args);

/* Drop it unless that has been done, or cannot be done here; an exception on its way stays. */
void py_writer_drop_quietly(struct py_writer *writer);

/* Of a writer that has ended: its store is not needed any more. */
void py_writer_let_go(struct py_writer *writer);

/* The writers that are open, which the interpreter's exit drops. */
void py_writer_link(struct py_writer *writer);
void py_writer_unlink(struct py_writer *writer);

int py_writer_end_init(void);

#endif
