/* memstore.c - when the store in memory answers: now, on the host's pool, or when the test says so; and
 * what it answers when it was told to fail.
 *
 * Each call becomes a job in the operation's scratch. mem_perform() does the work under one mutex and
 * the answer goes out without it. */
#include "memstore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/static_plugins.h"
#include "memstore_work.h"

struct memstore mem;

struct pst_backend {
    const pst_host *host;
};

static struct mem_job *held;
static unsigned n_held;

/* ---- jobs ------------------------------------------------------------------------------------- */

static int is_due(struct mem_fault *fault)
{
    if (fault->from > 1) {
        fault->from--;
        return 0;
    }
    if (fault->from == 0 || fault->times == 0)
        return 0;
    fault->times--;
    return 1;
}

/* The upload's side of contract 14. */
static void begin_locked(struct mem_job *job)
{
    pst_upload *upload = job->object;
    if (job->slot == MEM_UPLOAD_PART) {
        uint32_t number = ((const pst_part_args *)job->args)->number % 256;
        mem.has_overlap |= upload->is_part_under_way[number];
        upload->is_part_under_way[number] = 1;
        upload->n_under_way++;
        if (++mem.n_parts_now > mem.n_parts_max)
            mem.n_parts_max = mem.n_parts_now;
    } else if (job->slot == MEM_UPLOAD_COMMIT || job->slot == MEM_UPLOAD_ABORT) {
        mem.has_overlap |= upload->n_under_way > 0;
        upload->n_under_way++;
    }
}

static void end_locked(struct mem_job *job)
{
    pst_upload *upload = job->object;
    if (job->slot == MEM_UPLOAD_PART) {
        upload->is_part_under_way[((const pst_part_args *)job->args)->number % 256] = 0;
        mem.n_parts_now--;
    }
    if (job->slot == MEM_UPLOAD_PART || job->slot == MEM_UPLOAD_COMMIT ||
        job->slot == MEM_UPLOAD_ABORT)
        upload->n_under_way--;
}

static pst_rc run_locked(struct mem_job *job)
{
    struct mem_fault *fault = &mem.fault[job->slot];
    pst_rc rc = PST_OK;
    int must_fail = is_due(fault);
    if (must_fail && mem.quirk == MEM_LISTS_THEN_FAILS)
        mem_perform(job, 1);
    else if (!must_fail || fault->is_applied)
        rc = mem_perform(job, 0);
    if (must_fail) {
        rc = fault->rc;
        job->op->err->code = rc;
        job->op->err->flags = fault->flags;
        snprintf(job->op->err->message, sizeof(job->op->err->message), "told to fail");
    }
    end_locked(job);
    return rc;
}

static pst_rc run_job(struct mem_job *job)
{
    pthread_mutex_lock(&mem_mutex);
    pst_rc rc = run_locked(job);
    pthread_cond_broadcast(&mem_changed);
    pthread_mutex_unlock(&mem_mutex);
    return rc;
}

static void run_and_complete(void *arg)
{
    struct mem_job *job = arg;
    pst_op *op = job->op;
    pst_rc rc = run_job(job);
    op->host->complete(op->host, op, rc);
}

static pst_rc submit(enum mem_slot slot, void *object, pst_op *op, const void *args, void *result)
{
    struct mem_job *job = op->scratch;
    *job = (struct mem_job){
        .slot = slot, .op = op, .object = object, .args = args, .result = result};
    pthread_mutex_lock(&mem_mutex);
    if (mem.busy[slot] > 0) {
        mem.busy[slot]--;
        pthread_mutex_unlock(&mem_mutex);
        return PST_BUSY;
    }
    mem.calls[slot]++;
    if (op->attempt > mem.attempts_max)
        mem.attempts_max = op->attempt;
    begin_locked(job);
    enum mem_mode mode = mem.mode[slot];
    if (mode == MEM_HOLD) {
        job->next = held;
        held = job;
        n_held++;
    }
    pthread_cond_broadcast(&mem_changed);
    pthread_mutex_unlock(&mem_mutex);
    if (mode == MEM_INLINE)
        return run_job(job);
    if (mode == MEM_HOLD)
        return PST_PENDING;
    pst_rc rc = op->host->exec(op->host, op, PST_POOL_BLOCKING, run_and_complete, job);
    if (rc == PST_OK)
        return PST_PENDING;
    pthread_mutex_lock(&mem_mutex);
    end_locked(job);
    pthread_mutex_unlock(&mem_mutex);
    return rc;
}

static void cancel(pst_backend *backend, pst_op *op)
{
    struct mem_job *job = NULL;
    (void)backend;
    pthread_mutex_lock(&mem_mutex);
    for (struct mem_job **at = &held; *at && !mem.ignores_cancel; at = &(*at)->next) {
        if ((*at)->op != op)
            continue;
        job = *at;
        *at = job->next;
        n_held--;
        end_locked(job);
        break;
    }
    pthread_cond_broadcast(&mem_changed);
    pthread_mutex_unlock(&mem_mutex);
    if (job)
        op->host->complete(op->host, op, PST_E_CANCELLED);
}

/* ---- the tables ------------------------------------------------------------------------------- */

#define SLOT(name, slot, object_type, args_type, result_type)                                      \
    static pst_rc name(object_type *object, pst_op *op, const args_type *args,                     \
                       result_type *result)                                                        \
    {                                                                                              \
        return submit(slot, object, op, args, result);                                             \
    }

SLOT(mem_read, MEM_READ, pst_backend, pst_read_args, pst_read_result)
SLOT(mem_stat, MEM_STAT, pst_backend, pst_stat_args, pst_attr)
SLOT(mem_put, MEM_PUT, pst_backend, pst_put_args, pst_put_result)
SLOT(mem_copy, MEM_COPY, pst_backend, pst_copy_args, pst_put_result)
SLOT(mem_rename, MEM_RENAME, pst_backend, pst_copy_args, pst_put_result)
SLOT(mem_remove, MEM_REMOVE, pst_backend, pst_remove_args, pst_remove_result)
SLOT(mem_list, MEM_LIST, pst_backend, pst_list_args, pst_list_result)
SLOT(mem_list_open, MEM_LIST_OPEN, pst_backend, pst_list_args, pst_cursor_result)
SLOT(mem_list_page, MEM_LIST_PAGE, pst_cursor, pst_page_args, pst_list_result)
SLOT(mem_upload_open, MEM_UPLOAD_OPEN, pst_backend, pst_put_args, pst_upload_result)
SLOT(mem_upload_part, MEM_UPLOAD_PART, pst_upload, pst_part_args, pst_result)
SLOT(mem_upload_commit, MEM_UPLOAD_COMMIT, pst_upload, pst_commit_args, pst_put_result)
SLOT(mem_upload_abort, MEM_UPLOAD_ABORT, pst_upload, pst_abort_args, pst_result)
SLOT(mem_container, MEM_CONTAINER, pst_backend, pst_container_args, pst_result)
SLOT(mem_container_list, MEM_CONTAINER_LIST, pst_backend, pst_list_args, pst_list_result)
SLOT(mem_presign, MEM_PRESIGN, pst_backend, pst_presign_args, pst_presign_result)
SLOT(mem_cleanup, MEM_CLEANUP, pst_backend, pst_cleanup_args, pst_cleanup_result)

static void info(pst_backend *backend, pst_backend_info *out)
{
    (void)backend;
    uint32_t size = out->limits->struct_size;
    out->caps = mem.caps;
    *out->limits = mem.limits;
    out->limits->struct_size = size;
    out->want_sums = mem.want_sums;
    out->endpoint = out->note = "";
}

static void close_store(pst_backend *backend)
{
    mem_drop(backend);
}

static pst_rc open_store(const pst_host *host, const pst_open_args *args, pst_backend **out,
                         pst_error *err)
{
    (void)args;
    (void)err;
    *out = mem_grab(sizeof(**out));
    (*out)->host = host;
    return PST_OK;
}

static void dst_ready(pst_backend *backend, pst_op *op)
{
    (void)backend;
    (void)op;
}

static const pst_backend_ops ops = {
    .struct_size = sizeof(ops),
    .read = mem_read,
    .stat = mem_stat,
    .put = mem_put,
    .copy = mem_copy,
    .rename = mem_rename,
    .remove = mem_remove,
    .list = mem_list,
    .list_open = mem_list_open,
    .list_page = mem_list_page,
    .list_close = mem_list_close,
    .upload_open = mem_upload_open,
    .upload_part = mem_upload_part,
    .upload_commit = mem_upload_commit,
    .upload_abort = mem_upload_abort,
    .upload_free = mem_upload_free,
    .container_create = mem_container,
    .container_delete = mem_container,
    .container_list = mem_container_list,
    .presign = mem_presign,
    .cleanup = mem_cleanup,
    .dst_ready = dst_ready,
    .cancel = cancel,
    .info = info,
    .close = close_store,
};

#define ALL_CAPS                                                                                   \
    (PST_CAP_READ | PST_CAP_STAT | PST_CAP_PUT | PST_CAP_UPLOAD | PST_CAP_UPLOAD_UNORDERED |       \
     PST_CAP_REMOVE | PST_CAP_LIST | PST_CAP_LIST_ORDERED | PST_CAP_COPY | PST_CAP_RENAME |        \
     PST_CAP_CONTAINER | PST_CAP_PRESIGN | PST_CAP_CLEANUP | PST_CAP_WRITE_IF_MATCH |              \
     PST_CAP_CREATE_ONLY | PST_CAP_USER_META | PST_CAP_CONTENT_TYPE | PST_CAP_CANCEL_BOUNDED |     \
     PST_CAP_EMPTY_DIRS | PST_CAP_UPLOAD_CONDITIONAL | PST_CAP_READ_IF_MATCH | PST_CAP_VERSIONS |  \
     PST_CAP_TAGS | PST_CAP_COPY_ACROSS)

static const char *const schemes[] = {"mem", NULL};
static const pst_limits no_limits = {.struct_size = sizeof(no_limits)};
static const pst_plugin plugin = {
    .struct_size = sizeof(plugin),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = ALL_CAPS,
    .threads = PST_THREADS_PARALLEL,
    .op_scratch = sizeof(struct mem_job),
    .id = "mem",
    .version = "1",
    .vendor = "tests",
    .license = "Apache-2.0",
    .schemes = schemes,
    .limits = &no_limits,
    .option_stride = sizeof(pst_option),
    .ops = &ops,
    .store_open = open_store,
};

static pst_rc open_plugin(const pst_host *host, const pst_plugin **out, pst_error *err)
{
    (void)host;
    (void)err;
    *out = &plugin;
    return PST_OK;
}

/* Stands before the archive's empty table. */
const struct pst_static_plugin pst_static_plugins[] = {{"mem", open_plugin}, {NULL, NULL}};

/* ---- for tests -------------------------------------------------------------------------------- */

void memstore_reset(void)
{
    pthread_mutex_lock(&mem_mutex);
    mem_drop_all();
    held = NULL;
    n_held = 0;
    memset(&mem, 0, sizeof(mem));
    mem.caps = ALL_CAPS;
    mem.has_cursors = 1;
    pthread_mutex_unlock(&mem_mutex);
}

static void wait_until(int (*is_so)(const void *), const void *arg)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&mem_mutex);
    while (!is_so(arg)) {
        if (pthread_cond_timedwait(&mem_changed, &mem_mutex, &until) != 0)
            break;
    }
    int is_met = is_so(arg);
    pthread_mutex_unlock(&mem_mutex);
    assert_true(is_met);
}

static int are_held(const void *arg)
{
    return n_held == *(const unsigned *)arg;
}

void memstore_wait_held(unsigned n)
{
    wait_until(are_held, &n);
}

struct counter {
    const unsigned *at;
    unsigned value;
};

static int has_value(const void *arg)
{
    const struct counter *counter = arg;
    return *counter->at == counter->value;
}

void memstore_wait_for(const unsigned *counter, unsigned value)
{
    struct counter wanted = {counter, value};
    wait_until(has_value, &wanted);
}

void memstore_release(void)
{
    pthread_mutex_lock(&mem_mutex);
    struct mem_job *job = held;
    held = NULL;
    n_held = 0;
    pthread_mutex_unlock(&mem_mutex);
    while (job) {
        struct mem_job *next = job->next;
        run_and_complete(job);
        job = next;
    }
}

int64_t memstore_find(const char *key, const unsigned char **data)
{
    pthread_mutex_lock(&mem_mutex);
    const struct mem_object *object = mem_find(pst_str_of(key, strlen(key)));
    int64_t size = object ? (int64_t)object->size : -1;
    if (object && data)
        *data = object->data;
    pthread_mutex_unlock(&mem_mutex);
    return size;
}

void memstore_add(const char *key, size_t size)
{
    pthread_mutex_lock(&mem_mutex);
    mem_set(pst_str_of(key, strlen(key)), mem_grab(size + 1), size);
    pthread_mutex_unlock(&mem_mutex);
}

pst_context *memstore_context(uint64_t budget_bytes)
{
    static const char *const nowhere[] = {NULL};
    pst_context_options options = {.struct_size = sizeof(options),
                                   .flags = PST_CONTEXT_NO_ENVIRONMENT | PST_CONTEXT_ONLY_DIRS,
                                   .memory_budget_bytes = budget_bytes,
                                   .plugin_dirs = nowhere};
    pst_error err = PST_ERROR_INIT;
    pst_context *context = NULL;
    if (pst_context_new(&options, &context, &err) != PST_OK)
        print_error("%s\n", err.message);
    assert_non_null(context);
    return context;
}

pst_store *memstore_open(pst_context *context)
{
    pst_error err = PST_ERROR_INIT;
    pst_store *store = NULL;
    if (pst_store_open(context, PST_STR("mem://box/"), NULL, 0, &store, &err) != PST_OK)
        print_error("%s\n", err.message);
    assert_non_null(store);
    return store;
}
