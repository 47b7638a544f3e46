/* task.h - one operation at a plugin: submit, exactly one completion, cancel, late destination.
 *
 * A task is one attempt after the other of one operation; the layer above decides about repeating
 * (io/retry.h). Its states, all under the port's mutex:
 *
 *     IDLE -> WAITING -> SUBMITTING -> PENDING -> IDLE      done() is called on the way to IDLE
 *      ^  ^        ^------- BUSY ---'       |  ^              (which may rest it, or submit again)
 *      |  |                            LATER '-' dst_ready    parked: counted apart
 *      '- RESTING <- pst_task_rest
 *
 * The completion may come before submit has returned, and a cancel may still be on some stack when it
 * comes. The task leaves PENDING only when all three have: that is what `n_holds` counts. */
#ifndef PST_CORE_TASK_H
#define PST_CORE_TASK_H

#include <stdatomic.h>

#include <penstock/plugin.h>

#include "core/pool.h"
#include "core/reactor.h"

struct pst_port;
struct pst_chunk;
struct pst_waiter;

enum pst_slot {
    PST_SLOT_READ,
    PST_SLOT_STAT,
    PST_SLOT_PUT,
    PST_SLOT_COPY,
    PST_SLOT_RENAME,
    PST_SLOT_REMOVE,
    PST_SLOT_LIST,
    PST_SLOT_LIST_OPEN,
    PST_SLOT_LIST_PAGE,
    PST_SLOT_UPLOAD_OPEN,
    PST_SLOT_UPLOAD_PART,
    PST_SLOT_UPLOAD_COMMIT,
    PST_SLOT_UPLOAD_ABORT,
    PST_SLOT_CONTAINER_CREATE,
    PST_SLOT_CONTAINER_DELETE,
    PST_SLOT_CONTAINER_LIST,
    PST_SLOT_PRESIGN,
    PST_SLOT_CLEANUP
};

enum pst_task_state {
    PST_TASK_IDLE,
    PST_TASK_WAITING,
    PST_TASK_SUBMITTING,
    PST_TASK_PENDING,
    PST_TASK_RESTING
};

struct pst_task {
    pst_op op; /* first: the plugin's view */
    struct pst_port *port;
    enum pst_slot slot;
    void *object; /* upload or cursor; NULL: the backend */
    union {
        pst_read_args read;
        pst_stat_args stat;
        pst_put_args put;   /* put and upload_open */
        pst_copy_args copy; /* copy and rename */
        pst_remove_args remove;
        pst_list_args list; /* list, list_open and container_list */
        pst_page_args page;
        pst_part_args part;
        pst_commit_args commit;
        pst_abort_args abort;
        pst_container_args container;
        pst_presign_args presign;
        pst_cleanup_args cleanup;
    } args;
    union { /* cleared before every attempt */
        pst_read_result read;
        pst_attr stat;
        pst_put_result put;       /* put, copy, upload_commit */
        pst_remove_result remove; /* its pointers are the caller's and stay */
        pst_list_result list;
        pst_cursor_result cursor;
        pst_upload_result upload;
        pst_presign_result presign;
        pst_cleanup_result cleanup;
        pst_result none;
    } result;
    pst_error error;

    /* Hooks, set before submit. All may run on any thread with no host lock held, must not block
     * and must not call a plugin; submitting another task is allowed. */
    void (*done)(struct pst_task *, pst_rc); /* exactly once per submit; may unref the task */
    pst_rc (*dst)(struct pst_task *, const pst_dst_args *, pst_dst_grant *);
    void (*dst_cancelled)(struct pst_task *); /* a parked task was cancelled: leave the line */
    pst_rc (*emit)(struct pst_task *, const pst_entry *, size_t n, size_t stride);
    void (*rested)(struct pst_task *); /* after pst_task_rest, on the reactor */
    void *owner;

    int is_late; /* a read that may answer LATER; set with `dst` */

    /* The layer above keeps its policy here (io/retry.c). */
    void (*then)(struct pst_task *, pst_rc);
    void (*repeats)(struct pst_task *, pst_rc); /* NULL allowed: that attempt failed for now */
    uint64_t retry_until_ns;
    uint32_t lost;             /* PST_ERR_MAYBE_APPLIED, if an attempt before this one ended so */
    struct pst_waiter *waiter; /* of pst_call_run */
    const void *crew; /* of its jobs (pool.h): a thread that waits for the task may run them */
    atomic_int is_cancelled;
    atomic_int cancel_code; /* CANCELLED or DEADLINE: who asked first; set before is_cancelled */

    /* The engine's own. */
    atomic_uint refs;
    struct pst_task *prev_waiting, *next_waiting, *prev_task, *next_task;
    struct pst_timer ready_timer, rest_timer, cancel_timer;
    struct pst_job job; /* for the first exec of an attempt */
    atomic_int is_job_used;
    struct pst_chunk *chunks, *kept; /* op_alloc; pst_task_keep */
    struct pst_chunk
        *secrets; /* cred.c's, under its lock: apart from op_alloc, which another thread may
                                * be in; wiped before it is given back */
    struct {
        enum pst_task_state state;
        int is_completed, n_holds;
        int is_asking;      /* for memory, or parked: dst_ready would be news */
        int is_parked;      /* ... and does not count as being at the plugin */
        int is_ready_early; /* dst_ready came before it was parked */
        int is_granted;     /* memory, in this attempt */
        int wants_cancel, is_cancel_sent;
        pst_rc rc;
    } locked; /* under port->mutex */
};

/* Tasks in order of arrival. */
struct pst_task_line {
    struct pst_task *first, *last;
};

/* Make a task for `port` (a reference is taken). NULL for lack of memory. */
struct pst_task *pst_task_new(struct pst_port *port, enum pst_slot slot, void *object);
struct pst_task *pst_task_ref(struct pst_task *task);
void pst_task_unref(struct pst_task *task);

/* Hand it to the plugin as soon as its turn comes. done() follows exactly once, perhaps before this
 * returns. Any thread, also inside hooks. */
void pst_task_submit(struct pst_task *task);

/* Ask it to end early with `code` (CANCELLED or DEADLINE); done() still comes. Any thread. */
void pst_task_cancel(struct pst_task *task, pst_rc code);

/* From done(): leave the task alone until due_ns (CLOCK_MONOTONIC) or a cancel, then call rested(). It
 * counts as outstanding meanwhile. */
void pst_task_rest(struct pst_task *task, uint64_t due_ns);

/* A parked task has its memory (or its refusal) now: tell the plugin, from the reactor. */
void pst_task_dst_ready(struct pst_task *task);

/* Memory that lives until the next submit or the end of the task (what op_alloc gives). */
void *pst_task_alloc(struct pst_task *task, size_t size);

/* Copy bytes or texts into memory that lives as long as the task; with `bytes` NULL it is not filled.
 * NULL ptr for lack of memory (an empty string stays empty). One thread at a time, not while it is
 * submitted. */
void *pst_task_keep(struct pst_task *task, const void *bytes, size_t size);
int pst_task_keep_str(struct pst_task *task, pst_str from, pst_str *to);

/* "GET file:///x": operation and place, for messages. */
const char *pst_slot_name(enum pst_slot slot);

/* May it change what a reader of the store sees? */
int pst_slot_writes(enum pst_slot slot);

/* Free what op_alloc gave. */
void pst_task_drop_results(struct pst_task *task);

/* For host.c: the plugin's side of the life cycle. */
void pst_task_complete(struct pst_task *task, pst_rc rc);
pst_rc pst_task_dst(struct pst_task *task, const pst_dst_args *args, pst_dst_grant *grant);

/* For port.c: one submit of a task that was taken from the line under `epoch`. Returns PST_BUSY when it
 * was put back, PST_PENDING when the plugin owes a completion, else PST_OK. */
pst_rc pst_task_start(struct pst_task *task, uint64_t epoch);

#endif
