/* frame.c - a plugin around a plugin, so that one thing at a time can be made wrong.
 *
 * The plugin underneath is linked in (-DPST_STATIC_PLUGIN renames its entry to SUBJECT_ENTRY). It gets
 * a host table of ours, and the host gets tables of ours; every call passes through here both ways. The
 * environment variable PST_MUTANT says which mutation is active; without it nothing is changed and the
 * whole must pass the kit like the plugin underneath. */
#include <stdlib.h>
#include <string.h>

#include "mutant.h"

pst_rc SUBJECT_ENTRY(const pst_host *, const pst_plugin **, pst_error *);

enum mutant mutant;
atomic_int n_inflight, n_open_uploads;

#define SHIMS_MAX 16
static struct shim shims[SHIMS_MAX];
static const pst_plugin *subject;
pst_plugin plugin_table;
static pst_backend_ops ops_table;
static uint32_t subject_scratch; /* rounded up; ours begins there */

static const char *const names[] = {
    "none",
#define NAME_OF_build(name)
#define NAME_OF_file(name) #name,
#define NAME_OF_mem(name) #name,
#define NAME_OF_s3(name) #name,
#define X(name, base, killers) NAME_OF_##base(name)
#include "mutants.def"
#undef X
};

static void choose_mutant(void)
{
    const char *wanted = getenv("PST_MUTANT");
    for (size_t i = 0; wanted && i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i], wanted) == 0)
            mutant = (enum mutant)i;
}

static void __attribute__((constructor)) load(void)
{
    choose_mutant();
    on_load();
}

static void __attribute__((destructor)) unload(void)
{
    on_unload();
}

/* ---- host functions, as the plugin underneath sees them ---------------------------------------- */

static struct shim *shim_of(const pst_host *table)
{
    return (struct shim *)(uintptr_t)table; /* the table is its first member */
}

static struct call *call_of(pst_op *op)
{
    return (struct call *)(void *)((char *)op->scratch + subject_scratch);
}

/* after.c may end an operation itself; this is where all of them end. */
static void finish(struct call *c, pst_rc rc)
{
    pst_op *op = c->op;
    const pst_host *real = c->shim->real;
    pst_iov dst = c->dst[0], src = {NULL, 0};
    if (c->slot == PUT && c->changed.put.n_src > 0)
        src = c->changed.put.src[0];
    if (c->slot == UPLOAD_PART && c->changed.part.n_src > 0)
        src = c->changed.part.src[0];
    if (c->slot == UPLOAD_OPEN && rc == PST_OK)
        atomic_fetch_add(&n_open_uploads, 1);
    atomic_fetch_sub(&n_inflight, 1);
    op->host = real;
    atomic_store(&c->is_done, true);
    if (mutant == M_one_host_for_all)
        real = shims[0].real;
    if (mutant == M_cancel_loses_completion && atomic_load(&c->is_cancelled))
        return;
    if (mutant == M_parked_cancel_loses_completion && atomic_load(&c->is_cancelled) &&
        atomic_load(&c->was_parked))
        return;
    complete_real(real, op, rc, &dst, &src);
}

static void s_complete(const pst_host *table, pst_op *op, pst_rc rc)
{
    struct call *c = call_of(op);
    (void)table;
    finish(c, after(c, rc));
}

static void s_wake(const pst_host *table, pst_backend *backend)
{
    const pst_host *real = shim_of(table)->real;
    if (mutant != M_never_wakes)
        real->wake(real, backend);
}

static pst_rc s_dst(const pst_host *table, pst_op *op, const pst_dst_args *args,
                    pst_dst_grant *grant)
{
    struct call *c = call_of(op);
    (void)table;
    pst_rc rc = mutate_dst(c, args, grant);
    c->dst_rc = rc;
    if (rc == PST_LATER)
        atomic_store(&c->was_parked, true);
    if (rc == PST_OK) {
        c->n_dst = grant->n_dst;
        for (size_t i = 0; i < 2 && i < grant->n_dst; i++)
            c->dst[i] = grant->dst[i];
    }
    return rc;
}

static pst_rc s_list_emit(const pst_host *table, pst_op *op, const pst_entry *entries, size_t n,
                          size_t stride)
{
    struct call *c = call_of(op);
    (void)table;
    c->n_emitted += n;
    return mutate_emit(c, entries, n, stride);
}

static void *s_op_alloc(const pst_host *table, pst_op *op, size_t size)
{
    const pst_host *real = shim_of(table)->real;
    char *p = real->op_alloc(real, op, size);
    if (!p && mutant == M_op_alloc_unchecked)
        abort();
    return p;
}

static void *s_alloc(const pst_host *table, size_t size, size_t align)
{
    const pst_host *real = shim_of(table)->real;
    char *p = real->alloc(real, size, align);
    if (!p && mutant == M_alloc_unchecked)
        abort();
    if (p && mutant == M_writes_behind_alloc)
        p[size] = 1;
    return p;
}

static void s_dealloc(const pst_host *table, void *memory)
{
    const pst_host *real = shim_of(table)->real;
    real->dealloc(real, memory);
    if (memory && mutant == M_writes_after_dealloc)
        *(char *)memory = 1;
}

static pst_rc s_exec(const pst_host *table, pst_op *op, uint32_t pool, void (*fn)(void *),
                     void *arg)
{
    const pst_host *real = shim_of(table)->real;
    return real->exec(real, op, pool, fn, arg);
}

static void s_log(const pst_host *table, uint32_t level, const char *id, const char *text)
{
    const pst_host *real = shim_of(table)->real;
    real->log(real, level, id, text);
}

static int32_t s_log_enabled(const pst_host *table, uint32_t level)
{
    const pst_host *real = shim_of(table)->real;
    return real->log_enabled(real, level);
}

static const void *s_service(const pst_host *table, const char *name)
{
    const pst_host *real = shim_of(table)->real;
    return change_service(name, real->service(real, name));
}

static struct shim *find_shim(const pst_host *real)
{
    for (size_t i = 0; i < SHIMS_MAX; i++)
        if (shims[i].real == real)
            return &shims[i];
    return NULL;
}

static struct shim *make_shim(const pst_host *real)
{
    struct shim *shim = find_shim(real);
    for (size_t i = 0; i < SHIMS_MAX && !shim; i++)
        if (!shims[i].real)
            shim = &shims[i];
    if (!shim || shim->real)
        return shim;
    shim->real = real;
    shim->table = (pst_host){
        .struct_size = sizeof(pst_host),
        .abi_major = real->abi_major,
        .abi_minor = real->abi_minor,
        .complete = s_complete,
        .wake = s_wake,
        .dst = s_dst,
        .list_emit = s_list_emit,
        .op_alloc = s_op_alloc,
        .alloc = s_alloc,
        .dealloc = s_dealloc,
        .exec = s_exec,
        .log = s_log,
        .log_enabled = s_log_enabled,
        .service = s_service,
    };
    return shim;
}

/* ---- operations, as the host sees them --------------------------------------------------------- */

static pst_rc call_subject(struct call *c, pst_op *op, const void *a, void *r)
{
    const pst_backend_ops *o = subject->ops;
    void *x = c->object;
    switch (c->slot) {
    case READ:
        return o->read(x, op, a, r);
    case STAT:
        return o->stat(x, op, a, r);
    case PUT:
        return o->put(x, op, a, r);
    case APPEND:
        return mutant == M_append_replaces ? o->put(x, op, a, r) : o->append(x, op, a, r);
    case COPY:
        return o->copy(x, op, a, r);
    case RENAME:
        return mutant == M_rename_copies ? o->copy(x, op, a, r) : o->rename(x, op, a, r);
    case REMOVE:
        return o->remove(x, op, a, r);
    case LIST:
        return o->list(x, op, a, r);
    case LIST_OPEN:
        return o->list_open(x, op, a, r);
    case LIST_PAGE:
        return o->list_page(x, op, a, r);
    case UPLOAD_OPEN:
        return o->upload_open(x, op, a, r);
    case UPLOAD_PART:
        return o->upload_part(x, op, a, r);
    case UPLOAD_COMMIT:
        return o->upload_commit(x, op, a, r);
    case UPLOAD_ABORT:
        return o->upload_abort(x, op, a, r);
    case CONTAINER_CREATE:
        return o->container_create(x, op, a, r);
    case CONTAINER_DELETE:
        return o->container_delete(x, op, a, r);
    case CONTAINER_LIST:
        return o->container_list(x, op, a, r);
    case PRESIGN:
        return o->presign(x, op, a, r);
    case CLEANUP:
        return o->cleanup(x, op, a, r);
    }
    return PST_E_UNIMPLEMENTED;
}

static void copy_args(struct call *c, const void *args, size_t size)
{
    uint32_t given = 0;
    memcpy(&given, args, sizeof(given));
    memset(&c->changed, 0, sizeof(c->changed));
    if (size <= sizeof(c->changed)) {
        memcpy(&c->changed, args, given < size ? given : size);
        memcpy(&c->changed, &given, sizeof(given));
    }
}

static pst_rc submit(enum slot slot, void *object, pst_op *op, const void *args, size_t args_size,
                     void *result)
{
    struct call *c = call_of(op);
    const pst_host *real = op->host;
    pst_rc rc;
    memset((void *)c, 0, sizeof(*c));
    c->shim = find_shim(real);
    c->slot = slot;
    c->object = object;
    c->op = op;
    c->args = args;
    c->result = result;
    copy_args(c, args, args_size);
    if (slot == READ && c->changed.read.n_dst > 0) {
        c->n_dst = c->changed.read.n_dst;
        for (size_t i = 0; i < 2 && i < c->n_dst; i++)
            c->dst[i] = c->changed.read.dst[i];
    }
    if (before(c, &rc))
        return rc;
    op->host = &c->shim->table;
    atomic_fetch_add(&n_inflight, 1);
    rc = call_subject(c, op, c->args, result);
    if (rc == PST_PENDING) {
        after_pending(op);
        return rc;
    }
    op->host = real;
    atomic_fetch_sub(&n_inflight, 1);
    if (rc == PST_BUSY) {
        memset((void *)c, 0, sizeof(*c));
        if (mutant == M_busy_leaves_traces)
            op->flags = 1;
        return mutant == M_busy_becomes_error ? PST_E_UNAVAILABLE : rc;
    }
    if (slot == UPLOAD_OPEN && rc == PST_OK)
        atomic_fetch_add(&n_open_uploads, 1);
    return after(c, rc);
}

#define SLOT(name, slot, object_type, args_type, result_type)                                      \
    static pst_rc m_##name(object_type *object, pst_op *op, const args_type *args,                 \
                           result_type *result)                                                    \
    {                                                                                              \
        return submit(slot, object, op, args, sizeof(*args), result);                              \
    }

SLOT(read, READ, pst_backend, pst_read_args, pst_read_result)
SLOT(stat, STAT, pst_backend, pst_stat_args, pst_attr)
SLOT(put, PUT, pst_backend, pst_put_args, pst_put_result)
SLOT(append, APPEND, pst_backend, pst_put_args, pst_put_result)
SLOT(copy, COPY, pst_backend, pst_copy_args, pst_put_result)
SLOT(rename, RENAME, pst_backend, pst_copy_args, pst_put_result)
SLOT(remove, REMOVE, pst_backend, pst_remove_args, pst_remove_result)
SLOT(list, LIST, pst_backend, pst_list_args, pst_list_result)
SLOT(list_open, LIST_OPEN, pst_backend, pst_list_args, pst_cursor_result)
SLOT(list_page, LIST_PAGE, pst_cursor, pst_page_args, pst_list_result)
SLOT(upload_open, UPLOAD_OPEN, pst_backend, pst_put_args, pst_upload_result)
SLOT(upload_part, UPLOAD_PART, pst_upload, pst_part_args, pst_result)
SLOT(upload_commit, UPLOAD_COMMIT, pst_upload, pst_commit_args, pst_put_result)
SLOT(upload_abort, UPLOAD_ABORT, pst_upload, pst_abort_args, pst_result)
SLOT(container_create, CONTAINER_CREATE, pst_backend, pst_container_args, pst_result)
SLOT(container_delete, CONTAINER_DELETE, pst_backend, pst_container_args, pst_result)
SLOT(container_list, CONTAINER_LIST, pst_backend, pst_list_args, pst_list_result)
SLOT(presign, PRESIGN, pst_backend, pst_presign_args, pst_presign_result)
SLOT(cleanup, CLEANUP, pst_backend, pst_cleanup_args, pst_cleanup_result)

static void m_upload_free(pst_upload *upload)
{
    atomic_fetch_sub(&n_open_uploads, 1);
    on_upload_free(upload);
    subject->ops->upload_free(upload);
}

static void m_list_close(pst_cursor *cursor)
{
    if (mutant != M_cursor_leaks)
        subject->ops->list_close(cursor);
}

static void m_dst_ready(pst_backend *backend, pst_op *op)
{
    if (mutant == M_waits_for_memory)
        atomic_store(&call_of(op)->is_ready, true);
    else
        subject->ops->dst_ready(backend, op);
}

static void m_cancel(pst_backend *backend, pst_op *op)
{
    struct call *c = call_of(op);
    atomic_store(&c->is_cancelled, true);
    if (on_cancel(c))
        return;
    subject->ops->cancel(backend, op);
}

static void m_flush(pst_backend *backend)
{
    if (mutant == M_flush_needs_operations && atomic_load(&n_inflight) == 0)
        abort();
    if (subject->ops->flush)
        subject->ops->flush(backend);
}

static void m_info(pst_backend *backend, pst_backend_info *info)
{
    subject->ops->info(backend, info);
    change_info(info);
}

static void m_close(pst_backend *backend)
{
    on_store_close();
    subject->ops->close(backend);
}

static pst_rc m_store_open(const pst_host *host, const pst_open_args *args, pst_backend **out,
                           pst_error *err)
{
    pst_rc rc = subject->store_open(&make_shim(host)->table, args, out, err);
    if (rc == PST_OK)
        on_store_open(host, args);
    return rc;
}

static void m_fork_child(const pst_host *host)
{
    static int n_calls;
    if (++n_calls > 1 && mutant == M_fork_child_once_only)
        abort();
    if (subject->fork_child)
        subject->fork_child(&make_shim(host)->table);
}

static bool is_shut_down;

static void m_shutdown(const pst_host *host)
{
    is_shut_down = mutant == M_shutdown_ends_all_hosts;
    if (subject->shutdown)
        subject->shutdown(&make_shim(host)->table);
}

bool plugin_is_shut_down(void)
{
    return is_shut_down;
}

static void fill_tables(void)
{
    const pst_backend_ops *o = subject->ops;
    plugin_table = *subject;
    ops_table = (pst_backend_ops){
        .struct_size = sizeof(ops_table),
        .read = o->read ? m_read : NULL,
        .stat = o->stat ? m_stat : NULL,
        .put = o->put ? m_put : NULL,
        .append = o->append ? m_append : NULL,
        .copy = o->copy ? m_copy : NULL,
        .rename = o->rename ? m_rename : NULL,
        .remove = o->remove ? m_remove : NULL,
        .list = o->list ? m_list : NULL,
        .list_open = o->list_open ? m_list_open : NULL,
        .list_page = o->list_page ? m_list_page : NULL,
        .list_close = o->list_close ? m_list_close : NULL,
        .upload_open = o->upload_open ? m_upload_open : NULL,
        .upload_part = o->upload_part ? m_upload_part : NULL,
        .upload_commit = o->upload_commit ? m_upload_commit : NULL,
        .upload_abort = o->upload_abort ? m_upload_abort : NULL,
        .upload_free = o->upload_free ? m_upload_free : NULL,
        .container_create = o->container_create ? m_container_create : NULL,
        .container_delete = o->container_delete ? m_container_delete : NULL,
        .container_list = o->container_list ? m_container_list : NULL,
        .presign = o->presign ? m_presign : NULL,
        .cleanup = o->cleanup ? m_cleanup : NULL,
        .dst_ready = m_dst_ready,
        .flush = m_flush,
        .cancel = m_cancel,
        .info = m_info,
        .close = m_close,
    };
    subject_scratch = (subject->op_scratch + 15u) / 16u * 16u;
    plugin_table.op_scratch = subject_scratch + (uint32_t)sizeof(struct call);
    plugin_table.ops = &ops_table;
    plugin_table.store_open = m_store_open;
    plugin_table.fork_child = m_fork_child;
    plugin_table.shutdown = m_shutdown;
    change_tables(&plugin_table, &ops_table);
}

PST_PLUGIN_ENTRY(host, plugin, err)
{
    struct shim *shim = make_shim(host);
    pst_rc rc = shim ? SUBJECT_ENTRY(&shim->table, &subject, err) : (pst_rc)PST_E_NO_MEMORY;
    if (rc != PST_OK)
        return rc;
    if (!plugin_table.ops)
        fill_tables();
    *plugin = &plugin_table;
    return PST_OK;
}
