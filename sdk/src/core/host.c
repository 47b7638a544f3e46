/* host.c - the table of functions that plugins call.
 *
 * Every function is thread-safe, blocks on nothing but short locks, and never calls back into the
 * plugin: what follows from it is deferred (core/stack.h). */
#include <stdlib.h>

#include <string.h>

#include "core/core.h"
#include "core/cred.h"
#include "core/error.h"
#include "core/fault.h"
#include "core/port.h"
#include "core/stack.h"

static struct pst_core *core_of(const pst_host *host)
{
    return host->host_private;
}

static struct pst_task *task_of(pst_op *op)
{
    return op->host_private;
}

static void host_complete(const pst_host *host, pst_op *op, pst_rc rc)
{
    (void)host;
    pst_stack_host_call_begin();
    pst_task_complete(task_of(op), rc);
    pst_stack_host_call_end();
}

static void host_wake(const pst_host *host, pst_backend *backend)
{
    struct pst_core *core = core_of(host);
    struct pst_port *found = NULL;
    pst_stack_host_call_begin();
    pthread_mutex_lock(&core->mutex);
    for (struct pst_port *port = core->locked.ports; port && !found; port = port->next) {
        if (port->backend == backend)
            found = pst_port_try_ref(port);
    }
    pthread_mutex_unlock(&core->mutex);
    if (found) {
        pst_port_wake(found);
        pst_port_unref(found);
    }
    pst_stack_host_call_end();
}

static pst_rc host_dst(const pst_host *host, pst_op *op, const pst_dst_args *args,
                       pst_dst_grant *grant)
{
    (void)host;
    pst_stack_host_call_begin();
    pst_rc rc = pst_task_dst(task_of(op), args, grant);
    pst_stack_host_call_end();
    return rc;
}

static pst_rc host_list_emit(const pst_host *host, pst_op *op, const pst_entry *entries, size_t n,
                             size_t stride)
{
    struct pst_task *task = task_of(op);
    (void)host;
    return task->emit ? task->emit(task, entries, n, stride) : (pst_rc)PST_OK;
}

static void *host_op_alloc(const pst_host *host, pst_op *op, size_t size)
{
    (void)host;
    return pst_task_alloc(task_of(op), size);
}

static void *host_alloc(const pst_host *host, size_t size, size_t align)
{
    void *memory = NULL;
    (void)host;
    if (posix_memalign(&memory, align < sizeof(void *) ? sizeof(void *) : align, size) != 0)
        return NULL;
    return memory;
}

static void host_dealloc(const pst_host *host, void *memory)
{
    (void)host;
    free(memory);
}

/* A job that has no task, or is its task's second one. */
struct loose_job {
    struct pst_job job;
    int is_for_ever; /* may be a loop of the plugin's own: nothing may wait for its end */
    void (*fn)(void *);
    void *arg;
};

static void run_loose(void *arg)
{
    struct loose_job *loose = arg;
    void (*fn)(void *) = loose->fn;
    void *fn_arg = loose->arg;
    int is_for_ever = loose->is_for_ever;
    free(loose);
    uint32_t depth = is_for_ever ? pst_stack_suspend() : 0;
    fn(fn_arg);
    if (is_for_ever)
        pst_stack_resume(depth);
}

static void release_port(void *arg)
{
    pst_port_unref(arg);
}

static pst_rc run_job(struct pst_core *core, struct pst_port *port, uint32_t pool,
                      struct pst_job *job)
{
    job->after = NULL;
    if (pool == PST_POOL_CPU)
        return pst_pool_run(core->cpu, &core->cpu_share, job);
    if (!port)
        return pst_pool_run(core->blocking, &core->common_share, job);
    /* The plugin's function runs under a reference: no close while it is on a stack (contract 4). */
    job->after = release_port;
    job->after_arg = pst_port_ref(port);
    pst_rc rc = pst_pool_run(core->blocking, &port->share, job);
    if (rc != PST_OK)
        pst_port_unref(port);
    return rc;
}

static pst_rc host_exec(const pst_host *host, pst_op *op, uint32_t pool, void (*fn)(void *),
                        void *arg)
{
    struct pst_core *core = core_of(host);
    struct pst_task *task = op ? task_of(op) : NULL;
    struct pst_job *job = NULL;
    struct loose_job *loose = NULL;
    pst_rc rc;
    if (!fn || pool > PST_POOL_CPU)
        return PST_E_INVALID;
    pst_stack_host_call_begin();
    if (task && !atomic_exchange(&task->is_job_used, 1)) {
        job = &task->job;
        job->fn = fn;
        job->arg = arg;
        job->crew = task->crew;
    } else if ((loose = malloc(sizeof(*loose)))) {
        loose->is_for_ever = !task && !PST_FAULT(AFTER_THE_JOB);
        loose->fn = fn;
        loose->arg = arg;
        job = &loose->job;
        job->crew = NULL;
        job->fn = run_loose;
        job->arg = loose;
    }
    rc = job ? run_job(core, task ? task->port : NULL, pool, job) : (pst_rc)PST_E_NO_MEMORY;
    if (rc != PST_OK)
        free(loose);
    pst_stack_host_call_end();
    return rc;
}

static void host_log(const pst_host *host, uint32_t level, const char *plugin_id, const char *utf8)
{
    pst_logf(&core_of(host)->log, level, "%s: %s", plugin_id, utf8);
}

static int32_t host_log_enabled(const pst_host *host, uint32_t level)
{
    return pst_log_enabled(&core_of(host)->log, level);
}

static const void *host_service(const pst_host *host, const char *name)
{
    struct pst_core *core = core_of(host);
    if (name && core->cred && strcmp(name, "cred/1") == 0)
        return &pst_cred_service;
    return pst_services_find(core->services, name);
}

const pst_host pst_host_template = {
    .struct_size = sizeof(pst_host),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .complete = host_complete,
    .wake = host_wake,
    .dst = host_dst,
    .list_emit = host_list_emit,
    .op_alloc = host_op_alloc,
    .alloc = host_alloc,
    .dealloc = host_dealloc,
    .exec = host_exec,
    .log = host_log,
    .log_enabled = host_log_enabled,
    .service = host_service,
};
