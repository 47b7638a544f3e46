/* context.c - makes, shares and ends contexts; fork.
 *
 * Ending: pst_context_free cancels what is in flight and waits for it, at most a second. Handles that
 * the application still holds keep the core alive; freeing the last one ends it. The last reference may
 * go on the reactor's thread, never on a worker's.
 *
 * Fork: a handler in the child counts up a generation and lets the network
 * library forget its loops, nothing else. The first call on a context in the
 * child sees that its core is of an older generation, builds a new one from the saved configuration and
 * swaps it in. The parent's core stays as it is, a copy of memory that nobody looks at: its locks may be
 * held for ever by threads that do not exist here. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <penstock/services.h>

#include "core/core.h"
#include "core/cred.h"
#include "core/error.h"
#include "core/fault.h"
#include "core/memory_limit.h"
#include "core/net.h"
#include "core/port.h"
#include "core/stack.h"

#define BLOCKING_THREADS 64u
#define BLOCKING_THREADS_MAX 4096u
#define MAX_IN_FLIGHT 256u
#define MAX_ATTEMPTS 5u
#define FIRST_READ_BYTES ((uint64_t)8 << 20)
#define END_WAIT_NS 1000000000u
#define TRIM_NS 5000000000u /* idle memory stays for one to two of these */

struct pst_context {
    atomic_uint refs; /* the application, each store handle and queue */
    atomic_int is_freed;
    _Atomic(struct pst_core *) core;
    atomic_uint rebuilding;     /* the generation somebody builds a core for */
    pst_context_options config; /* complete: defaults filled in, strings owned */
};

static atomic_uint fork_generation;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void count_fork(void)
{
    atomic_fetch_add(&fork_generation, 1);
    pst_services_fork_child();
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, count_fork);
}

void pst_fork_watch(void)
{
    pthread_once(&fork_once, watch_forks);
}

uint32_t pst_fork_generation(void)
{
    return atomic_load_explicit(&fork_generation, memory_order_relaxed);
}

/* ---- configuration ---------------------------------------------------------------------------- */

static void free_config(pst_context_options *config)
{
    union {
        const char *const *borrowed;
        char **owned;
    } dirs = {.borrowed = config->plugin_dirs};
    for (char **dir = dirs.owned; dir && *dir; dir++)
        free(*dir);
    free(dirs.owned);
    union {
        const char *borrowed;
        char *owned;
    } file = {.borrowed = config->config_file};
    free(file.owned);
}

static int copy_dirs(const char *const *from, pst_context_options *to)
{
    size_t n = 0;
    while (from && from[n])
        n++;
    char **dirs = calloc(n + 1, sizeof(*dirs));
    if (!dirs)
        return 0;
    to->plugin_dirs = (const char *const *)dirs;
    for (size_t i = 0; i < n; i++) {
        dirs[i] = strdup(from[i]);
        if (!dirs[i])
            return 0;
    }
    return 1;
}

uint32_t pst_usable_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
        return (uint32_t)CPU_COUNT(&set);
    return 1;
}

static uint64_t budget_default(void)
{
    struct sysinfo info;
    uint64_t total = sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit
                                         : (uint64_t)1 << 30;
    uint64_t limit = pst_cgroup_memory_limit();
    return (limit < total ? limit : total) / 4;
}

static pst_rc check_config(const pst_context_options *c, pst_error *err)
{
    const uint32_t known = PST_CONTEXT_STRICT | PST_CONTEXT_NO_ENVIRONMENT | PST_CONTEXT_ONLY_DIRS;
    if (c->flags & ~known)
        return pst_fail(err, PST_E_INVALID, "context: unknown flags 0x%x", c->flags & ~known);
    if (c->blocking_threads > BLOCKING_THREADS_MAX)
        return pst_fail(err, PST_E_INVALID,
                        "context: blocking_threads is %u, at most %u are allowed",
                        c->blocking_threads, BLOCKING_THREADS_MAX);
    if (c->memory_budget_bytes > 0 && c->memory_budget_bytes < 65536)
        return pst_fail(err, PST_E_INVALID,
                        "context: memory_budget_bytes is %llu, at least 65536 are needed",
                        (unsigned long long)c->memory_budget_bytes);
    if (!c->memory_map != !c->memory_unmap)
        return pst_fail(
            err, PST_E_INVALID,
            "context: memory_map and memory_unmap belong together: give both or neither");
    return PST_OK;
}

static pst_rc complete_config(const pst_context_options *given, pst_context_options *config,
                              pst_error *err)
{
    pst_rc rc;
    memset(config, 0, sizeof(*config));
    if (given && given->struct_size < sizeof(uint32_t))
        return pst_fail(err, PST_E_INVALID, "context: options without struct_size");
    if (given)
        memcpy(config, given,
               given->struct_size < sizeof(*config) ? given->struct_size : sizeof(*config));
    const char *const *dirs = config->plugin_dirs;
    const char *file = config->config_file;
    config->struct_size = sizeof(*config);
    config->plugin_dirs = NULL;
    config->config_file = NULL;
    rc = check_config(config, err);
    if (rc != PST_OK)
        return rc;
    if (!copy_dirs(dirs, config) || (file && !(config->config_file = strdup(file)))) {
        free_config(config);
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    }
    if (config->memory_budget_bytes == 0)
        config->memory_budget_bytes = budget_default();
    if (config->idle_memory_bytes == 0)
        config->idle_memory_bytes = config->memory_budget_bytes;
    if (config->blocking_threads == 0)
        config->blocking_threads = BLOCKING_THREADS;
    if (config->cpu_threads == 0)
        config->cpu_threads = pst_usable_cores();
    if (config->max_in_flight == 0)
        config->max_in_flight = MAX_IN_FLIGHT;
    if (config->max_attempts == 0)
        config->max_attempts = MAX_ATTEMPTS;
    if (config->first_read_bytes == 0)
        config->first_read_bytes = FIRST_READ_BYTES;
    return PST_OK;
}

/* ---- core ------------------------------------------------------------------------------------- */

/* Services first: their callbacks may use everything else. A callback that does not come back keeps the
 * whole core, as it may keep using it. */
static void destroy_core(struct pst_core *core)
{
    uint64_t deadline_ns = pst_now_ns() + END_WAIT_NS;
    if (core->services && !pst_services_shutdown(core->services, deadline_ns))
        return;
    pst_cred_free(core->cred, deadline_ns);
    pst_pool_free(core->blocking, deadline_ns);
    pst_pool_free(core->cpu, deadline_ns);
    if (core->arenas) /* buffers that are out may end at any time: not with a timer of ours */
        pst_arenas_watch(core->arenas, NULL, NULL);
    pst_reactor_free(core->reactor);
    pst_registry_free(core->registry);
    pst_services_free(core->services); /* plugins have freed their clients by now */
    pst_arenas_free(core->arenas);
    pst_budget_fini(&core->budget);
    pst_log_fini(&core->log);
    pthread_mutex_destroy(&core->mutex);
    free(core);
}

static void on_idle(void *arg)
{
    struct pst_core *core = arg;
    pst_reactor_arm(core->reactor, &core->trim_timer, pst_now_ns() + TRIM_NS);
}

static void run_trim(void *arg)
{
    struct pst_core *core = arg;
    if (pst_arenas_trim(core->arenas))
        on_idle(core);
}

static void run_destroy(void *arg)
{
    destroy_core(arg);
}

static pst_rc build_core(const pst_context_options *config, struct pst_core **out, pst_error *err)
{
    pst_rc rc = PST_OK;
    struct pst_core *core = calloc(1, sizeof(*core));
    if (!core)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    core->host = pst_host_template;
    core->host.host_private = core;
    core->generation = pst_fork_generation();
    core->config = *config;
    core->end_timer.fn = run_destroy;
    core->end_timer.arg = core;
    core->trim_timer.fn = run_trim;
    core->trim_timer.arg = core;
    atomic_init(&core->refs, 1);
    pthread_mutex_init(&core->mutex, NULL);
    pst_log_init(&core->log, config->log, config->log_arg, config->log_level);
    pst_budget_init(&core->budget, config->memory_budget_bytes);
    const struct pst_memory_source source = {config->memory_map, config->memory_unmap,
                                             config->memory_arg};
    rc = pst_arenas_new(&source, config->idle_memory_bytes, &core->arenas);
    if (rc == PST_OK)
        rc = pst_pool_new(config->blocking_threads, &core->blocking);
    if (rc == PST_OK)
        rc = pst_pool_new(config->cpu_threads, &core->cpu);
    if (rc == PST_OK)
        rc = pst_reactor_new(&core->reactor);
    if (rc == PST_OK)
        rc = pst_services_new(&core->host, &core->services, NULL);
    if (rc == PST_OK && (config->flags & PST_CONTEXT_NO_ENVIRONMENT))
        pst_services_ignore_environment(core->services);
    if (rc == PST_OK && config->credentials &&
        !(core->cred = pst_cred_new(config, core->reactor, &core->log)))
        rc = PST_E_NO_MEMORY;
    if (rc != PST_OK) {
        pst_fail(err, rc, "context: cannot start: out of memory or threads");
        destroy_core(core);
        return rc;
    }
    pst_arenas_watch(core->arenas, on_idle, core);
    pst_share_init(core->cpu, &core->cpu_share);
    core->cpu_share.max_running = config->cpu_threads;
    pst_share_init(core->blocking, &core->common_share);
    const struct pst_registry_config registry = {
        .flags = config->flags,
        .plugin_dirs = config->plugin_dirs,
        .config_file = config->config_file,
        .host = &core->host,
        .log = &core->log,
    };
    rc = pst_registry_new(&registry, &core->registry, err);
    if (rc != PST_OK) {
        destroy_core(core);
        return rc;
    }
    *out = core;
    return PST_OK;
}

struct pst_core *pst_core_ref(struct pst_core *core)
{
    atomic_fetch_add_explicit(&core->refs, 1, memory_order_relaxed);
    return core;
}

void pst_core_unref(struct pst_core *core)
{
    if (atomic_fetch_sub_explicit(&core->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (core->generation != pst_fork_generation())
        return;
    if (pst_stack_is_clear())
        destroy_core(core);
    else /* a worker cannot wait for itself */
        pst_reactor_arm(core->reactor, &core->end_timer, 0);
}

/* Build a core for the generation after a fork and swap it in; one thread does, the others wait. */
static pst_rc rebuild(pst_context *context, pst_error *err)
{
    uint32_t generation = pst_fork_generation();
    struct pst_core *old = atomic_load(&context->core), *fresh = NULL;
    unsigned claimed = atomic_load(&context->rebuilding);
    while (claimed != generation) {
        if (!atomic_compare_exchange_weak(&context->rebuilding, &claimed, generation))
            continue;
        pst_registry_fork_child(old->registry);
        pst_rc rc = build_core(&context->config, &fresh, err);
        if (rc != PST_OK) {
            atomic_store(&context->rebuilding, old->generation);
            return rc;
        }
        atomic_store(&context->core, fresh);
        return PST_OK;
    }
    while (atomic_load(&context->core)->generation != generation) {
        if (atomic_load(&context->rebuilding) != generation)
            return rebuild(context, err); /* the one who tried has failed */
        usleep(100);
    }
    return PST_OK;
}

pst_rc pst_core_of(pst_context *context, struct pst_core **out, pst_error *err)
{
    struct pst_core *core = atomic_load(&context->core);
    if (atomic_load(&context->is_freed))
        return pst_fail(err, PST_E_CANCELLED, "the context was freed");
    if (core->generation != pst_fork_generation() && !PST_FAULT(KEEP_CORE)) {
        pst_rc rc = rebuild(context, err);
        if (rc != PST_OK)
            return rc;
        core = atomic_load(&context->core);
    }
    *out = core;
    return PST_OK;
}

/* ---- public ----------------------------------------------------------------------------------- */

pst_rc pst_context_new(const pst_context_options *options, pst_context **out, pst_error *err)
{
    struct pst_core *core = NULL;
    *out = NULL;
    pst_context *context = calloc(1, sizeof(*context));
    if (!context)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    pst_fork_watch();
    pst_rc rc = complete_config(options, &context->config, err);
    if (rc == PST_OK) {
        rc = build_core(&context->config, &core, err);
        if (rc != PST_OK)
            free_config(&context->config);
    }
    if (rc != PST_OK) {
        free(context);
        return rc;
    }
    atomic_init(&context->refs, 1);
    atomic_init(&context->core, core);
    atomic_init(&context->rebuilding, core->generation);
    *out = context;
    return PST_OK;
}

pst_context *pst_context_ref(pst_context *context)
{
    atomic_fetch_add_explicit(&context->refs, 1, memory_order_relaxed);
    return context;
}

void pst_context_unref(pst_context *context)
{
    if (atomic_fetch_sub_explicit(&context->refs, 1, memory_order_acq_rel) != 1)
        return;
    pst_core_unref(atomic_load(&context->core));
    free_config(&context->config);
    free(context);
}

/* Call fn for each port, with a reference and no lock held. Those that close meanwhile may be missed. */
static void each_port(struct pst_core *core, void (*fn)(struct pst_port *, uint64_t),
                      uint64_t deadline_ns)
{
    struct pst_port *previous = NULL;
    pthread_mutex_lock(&core->mutex);
    for (struct pst_port *port = core->locked.ports; port; port = port->next) {
        if (!pst_port_try_ref(port))
            continue; /* on its way out */
        pthread_mutex_unlock(&core->mutex);
        if (previous)
            pst_port_unref(previous); /* kept until now, so that its `next` stayed good */
        fn(port, deadline_ns);
        previous = port;
        pthread_mutex_lock(&core->mutex);
    }
    pthread_mutex_unlock(&core->mutex);
    if (previous)
        pst_port_unref(previous);
}

static void cancel_port(struct pst_port *port, uint64_t deadline_ns)
{
    (void)deadline_ns;
    pst_port_cancel_all(port, 1);
}

static void wait_port(struct pst_port *port, uint64_t deadline_ns)
{
    pst_port_wait_idle(port, deadline_ns);
}

/* No handle is left: what closes on other threads right now is waited for, so that after the free
 * nothing of the context runs any more. */
static void wait_closed(struct pst_core *core, uint64_t deadline_ns)
{
    while (atomic_load(&core->refs) > 1 && pst_now_ns() < deadline_ns)
        usleep(50);
}

void pst_context_free(pst_context *context)
{
    if (!context)
        return;
    atomic_store(&context->is_freed, 1);
    struct pst_core *core = atomic_load(&context->core);
    if (core->generation == pst_fork_generation()) {
        uint64_t deadline_ns = pst_now_ns() + END_WAIT_NS;
        each_port(core, cancel_port, deadline_ns);
        each_port(core, wait_port, deadline_ns);
        if (atomic_load(&context->refs) == 1)
            wait_closed(core, deadline_ns);
    }
    pst_context_unref(context);
}

void pst_context_stats(pst_context *context, pst_stats *out)
{
    struct pst_core *core;
    uint32_t size = out->struct_size;
    pst_stats now = {.struct_size = size};
    if (pst_core_of(context, &core, NULL) == PST_OK) {
        now.ops_submitted = atomic_load(&core->ops_submitted);
        now.ops_completed = atomic_load(&core->ops_completed);
        now.retries = atomic_load(&core->retries);
        now.busy = atomic_load(&core->busy);
        now.bytes_read = atomic_load(&core->bytes_read);
        now.bytes_written = atomic_load(&core->bytes_written);
        now.abandoned_ops = atomic_load(&core->abandoned);
        pthread_mutex_lock(&core->budget.mutex);
        now.budget_bytes = core->budget.limit_bytes;
        now.in_flight_bytes = core->budget.locked.reserved_bytes;
        now.peak_in_flight_bytes = core->budget.locked.peak_bytes;
        pthread_mutex_unlock(&core->budget.mutex);
        struct pst_arena_stats memory;
        pst_arenas_stats(core->arenas, &memory);
        now.handed_out_bytes = memory.handed_out_bytes;
        now.mapped_bytes = memory.mapped_bytes;
        now.peak_mapped_bytes = memory.peak_mapped_bytes;
        now.idle_bytes = memory.idle_bytes;
        now.maps = memory.maps;
        now.reuses = memory.reuses;
        now.ranges = atomic_load(&core->ranges);
        now.hedges = atomic_load(&core->hedges);
        now.hedges_won = atomic_load(&core->hedges_won);
        pst_http_stats http;
        pst_services_stats(core->services, &http);
        now.http_requests = http.requests;
        now.http_opened = http.opened;
        now.http_reused = http.reused;
        now.http_name_ns = http.name_ns;
        now.http_connect_ns = http.connect_ns;
        now.http_tls_ns = http.tls_ns;
        now.threads = pst_pool_threads(core->blocking) + pst_pool_threads(core->cpu) +
                      pst_cred_threads(core->cred) + 1;
        now.fork_generation = core->generation;
    }
    memcpy(out, &now, size < sizeof(now) ? size : sizeof(now));
}
