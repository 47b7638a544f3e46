/* sync.h - write a plugin of blocking functions; this header makes them asynchronous.
 *
 * It is compiled INTO the plugin and adds nothing to the ABI. Fill a pst_backend_ops whose functions
 * block (same signatures, they return PST_OK or an error, never PENDING or BUSY), and wrap it:
 *
 *     static const pst_backend_ops blocking = {.struct_size = sizeof(blocking), .read = my_read};
 *     PST_SYNC_OPS(my_ops, blocking)
 *     static const pst_plugin my_plugin = {..., .op_scratch = PST_SYNC_SCRATCH, .ops = &my_ops};
 *
 * Each operation becomes one job on the host's pool. Three things to know:
 *  - read: when host->dst answers PST_LATER, clean up and return PST_LATER; the function is called
 *    again from its start once there is memory, and no thread waits meanwhile.
 *  - long loops ask pst_sync_cancelled(op) now and then and return PST_E_CANCELLED.
 *  - info, close, flush, list_close and upload_free are handed on as they are. */
#ifndef PENSTOCK_SYNC_H
#define PENSTOCK_SYNC_H

#include <string.h>

#include <penstock/plugin.h>

enum { PST_SYNC_RUNNING = 0, PST_SYNC_PARKED = 1, PST_SYNC_READY = 2 };

typedef struct pst_sync_job {
    pst_rc (*call)(struct pst_sync_job *);
    void *object; /* backend, upload or cursor */
    pst_op *op;
    const void *args;
    void *result;
    uint32_t state;     /* PST_SYNC_*; only read can be parked */
    uint32_t cancelled; /* set by cancel, from any thread */
} pst_sync_job;

#define PST_SYNC_SCRATCH ((uint32_t)sizeof(pst_sync_job))

/* Has the host lost interest in `op`? Any thread; cheap. */
static inline int pst_sync_cancelled(const pst_op *op)
{
    const pst_sync_job *job = (const pst_sync_job *)op->scratch;
    return __atomic_load_n(&job->cancelled, __ATOMIC_ACQUIRE) != 0;
}

/* An operation that was cancelled before its function ran. */
static inline pst_rc pst_sync_end_cancelled(pst_op *op)
{
    op->err->code = PST_E_CANCELLED;
    memcpy(op->err->message, "cancelled", sizeof("cancelled"));
    return PST_E_CANCELLED;
}

static inline void pst_sync_run(void *arg)
{
    pst_sync_job *job = (pst_sync_job *)arg;
    pst_op *op = job->op;
    pst_rc rc;
    for (;;) {
        rc = pst_sync_cancelled(op) ? pst_sync_end_cancelled(op) : job->call(job);
        if (rc != PST_LATER)
            break;
        uint32_t expected = PST_SYNC_RUNNING;
        if (__atomic_compare_exchange_n(&job->state, &expected, (uint32_t)PST_SYNC_PARKED, 0,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return; /* dst_ready queues the job again; it is not ours any more */
        __atomic_store_n(&job->state, (uint32_t)PST_SYNC_RUNNING, __ATOMIC_RELEASE);
    }
    op->host->complete(op->host, op, rc);
}

static inline pst_rc pst_sync_submit(pst_rc (*call)(pst_sync_job *), void *object, pst_op *op,
                                     const void *args, void *result)
{
    pst_sync_job *job = (pst_sync_job *)op->scratch;
    job->call = call;
    job->object = object;
    job->op = op;
    job->args = args;
    job->result = result;
    pst_rc rc = op->host->exec(op->host, op, PST_POOL_BLOCKING, pst_sync_run, job);
    return rc == PST_OK ? (pst_rc)PST_PENDING : rc;
}

static inline void pst_sync_dst_ready(pst_backend *backend, pst_op *op)
{
    pst_sync_job *job = (pst_sync_job *)op->scratch;
    uint32_t was = __atomic_exchange_n(&job->state, (uint32_t)PST_SYNC_READY, __ATOMIC_ACQ_REL);
    (void)backend;
    if (was != PST_SYNC_PARKED)
        return; /* the job still runs: it sees READY and starts over by itself */
    __atomic_store_n(&job->state, (uint32_t)PST_SYNC_RUNNING, __ATOMIC_RELEASE);
    pst_rc rc = op->host->exec(op->host, op, PST_POOL_BLOCKING, pst_sync_run, job);
    if (rc != PST_OK)
        op->host->complete(op->host, op, rc < 0 ? rc : (pst_rc)PST_E_UNAVAILABLE);
}

static inline void pst_sync_cancel(pst_backend *backend, pst_op *op)
{
    pst_sync_job *job = (pst_sync_job *)op->scratch;
    (void)backend;
    __atomic_store_n(&job->cancelled, 1u, __ATOMIC_RELEASE);
}

#define PST_SYNC_SLOT_(OPS, slot, object_type, args_type, result_type)                             \
    static pst_rc pst_sync_call_##slot(pst_sync_job *job)                                          \
    {                                                                                              \
        return (OPS).slot((object_type *)job->object, job->op, (const args_type *)job->args,       \
                          (result_type *)job->result);                                             \
    }                                                                                              \
    static pst_rc pst_sync_##slot(object_type *object, pst_op *op, const args_type *args,          \
                                  result_type *result)                                             \
    {                                                                                              \
        return (OPS).slot ? pst_sync_submit(pst_sync_call_##slot, object, op, args, result)        \
                          : (pst_rc)PST_E_UNIMPLEMENTED;                                           \
    }

#define PST_SYNC_PASS_(OPS, slot, object_type)                                                     \
    static void pst_sync_##slot(object_type *object)                                               \
    {                                                                                              \
        if ((OPS).slot)                                                                            \
            (OPS).slot(object);                                                                    \
    }

/* Define `static const pst_backend_ops name` around the blocking table `OPS`. */
#define PST_SYNC_OPS(name, OPS)                                                                    \
    PST_SYNC_SLOT_(OPS, read, pst_backend, pst_read_args, pst_read_result)                         \
    PST_SYNC_SLOT_(OPS, stat, pst_backend, pst_stat_args, pst_attr)                                \
    PST_SYNC_SLOT_(OPS, put, pst_backend, pst_put_args, pst_put_result)                            \
    PST_SYNC_SLOT_(OPS, append, pst_backend, pst_put_args, pst_put_result)                         \
    PST_SYNC_SLOT_(OPS, copy, pst_backend, pst_copy_args, pst_put_result)                          \
    PST_SYNC_SLOT_(OPS, rename, pst_backend, pst_copy_args, pst_put_result)                        \
    PST_SYNC_SLOT_(OPS, remove, pst_backend, pst_remove_args, pst_remove_result)                   \
    PST_SYNC_SLOT_(OPS, list, pst_backend, pst_list_args, pst_list_result)                         \
    PST_SYNC_SLOT_(OPS, list_open, pst_backend, pst_list_args, pst_cursor_result)                  \
    PST_SYNC_SLOT_(OPS, list_page, pst_cursor, pst_page_args, pst_list_result)                     \
    PST_SYNC_SLOT_(OPS, upload_open, pst_backend, pst_put_args, pst_upload_result)                 \
    PST_SYNC_SLOT_(OPS, upload_part, pst_upload, pst_part_args, pst_result)                        \
    PST_SYNC_SLOT_(OPS, upload_commit, pst_upload, pst_commit_args, pst_put_result)                \
    PST_SYNC_SLOT_(OPS, upload_abort, pst_upload, pst_abort_args, pst_result)                      \
    PST_SYNC_SLOT_(OPS, container_create, pst_backend, pst_container_args, pst_result)             \
    PST_SYNC_SLOT_(OPS, container_delete, pst_backend, pst_container_args, pst_result)             \
    PST_SYNC_SLOT_(OPS, container_list, pst_backend, pst_list_args, pst_list_result)               \
    PST_SYNC_SLOT_(OPS, presign, pst_backend, pst_presign_args, pst_presign_result)                \
    PST_SYNC_SLOT_(OPS, cleanup, pst_backend, pst_cleanup_args, pst_cleanup_result)                \
    PST_SYNC_PASS_(OPS, list_close, pst_cursor)                                                    \
    PST_SYNC_PASS_(OPS, upload_free, pst_upload)                                                   \
    PST_SYNC_PASS_(OPS, flush, pst_backend)                                                        \
    PST_SYNC_PASS_(OPS, close, pst_backend)                                                        \
    static void pst_sync_info(pst_backend *backend, pst_backend_info *info)                        \
    {                                                                                              \
        (OPS).info(backend, info);                                                                 \
    }                                                                                              \
    static const pst_backend_ops name = {                                                          \
        (uint32_t)sizeof(pst_backend_ops),                                                         \
        0,                                                                                         \
        pst_sync_read,                                                                             \
        pst_sync_stat,                                                                             \
        pst_sync_put,                                                                              \
        pst_sync_append,                                                                           \
        pst_sync_copy,                                                                             \
        pst_sync_rename,                                                                           \
        pst_sync_remove,                                                                           \
        pst_sync_list,                                                                             \
        pst_sync_list_open,                                                                        \
        pst_sync_list_page,                                                                        \
        pst_sync_list_close,                                                                       \
        pst_sync_upload_open,                                                                      \
        pst_sync_upload_part,                                                                      \
        pst_sync_upload_commit,                                                                    \
        pst_sync_upload_abort,                                                                     \
        pst_sync_upload_free,                                                                      \
        pst_sync_container_create,                                                                 \
        pst_sync_container_delete,                                                                 \
        pst_sync_container_list,                                                                   \
        pst_sync_presign,                                                                          \
        pst_sync_cleanup,                                                                          \
        pst_sync_dst_ready,                                                                        \
        pst_sync_flush,                                                                            \
        pst_sync_cancel,                                                                           \
        pst_sync_info,                                                                             \
        pst_sync_close,                                                                            \
    };

#endif
