/* host.c - the host table that plugins are tested with.
 *
 * It does what docs/abi.md promises of a host, to the letter and no further: it answers BUSY, LATER
 * and no-memory whenever that is allowed, runs an operation to its end before exec returns, offers no
 * service but those of libpenstock-net, and has no member that a host of its minor need not have. Every call is checked:
 * is the operation one of this host that is still under way, are the arguments well formed, may this
 * be called now. What is wrong fails the requirement that happens to run, with a line that says what
 * the rule is.
 *
 * Memory from alloc is filled with garbage, framed by canaries and, once given back, kept poisoned
 * and looked at again when the test ends. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "kit.h"

#define HOSTS_MAX 8u
static struct k_host *all_hosts[HOSTS_MAX];
static atomic_uint n_hosts;

/* Not by host_private: an older host has no such member. */
static struct k_host *host_of(const pst_host *table)
{
    unsigned n = atomic_load(&n_hosts);
    for (unsigned i = 0; i < n; i++)
        if (all_hosts[i]->table == table)
            return all_hosts[i];
    k_fail(all_hosts[0]->test, "expected a host function to be called with the host's table, got "
                               "another pointer");
    return all_hosts[0];
}

/* The call behind `op`, or NULL after saying what is wrong. */
static struct k_call *call_of(struct k_host *host, const pst_op *op, const char *function)
{
    struct k_call *c = k_call_find(host, op);
    if (!c) {
        k_fail(host->test,
               "expected %s with an operation of this host, got a pointer it never gave "
               "out",
               function);
        return NULL;
    }
    int state = atomic_load(&c->state);
    if (state != K_SUBMITTING && state != K_PENDING) {
        k_fail(host->test, "expected no %s for %s after it %s, got one", function,
               k_slot_name(c->slot), state == K_DONE ? "had completed" : "answered BUSY");
        return NULL;
    }
    return c;
}

/* One of the pair by which libcurl wakes itself up, which it opens without the flag: the service's. */
static bool is_unnamed_socket(int fd)
{
    struct sockaddr_un name;
    socklen_t len = sizeof(name);
    return getsockname(fd, (struct sockaddr *)(void *)&name, &len) == 0 &&
           name.sun_family == AF_UNIX && len == sizeof(sa_family_t);
}

void k_check_cloexec(struct k_host *host)
{
    struct k_test *t = host->test;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char *end = NULL;
        long fd = strtol(e->d_name, &end, 10);
        bool is_old = *end != '\0' || fd == dirfd(dir);
        for (size_t i = 0; i < t->n_fds_before && !is_old; i++)
            is_old = t->fds_before[i] == (int)fd;
        int flags = is_old || (host->services && is_unnamed_socket((int)fd))
                        ? FD_CLOEXEC
                        : fcntl((int)fd, F_GETFD);
        if (flags >= 0 && !(flags & FD_CLOEXEC))
            k_fail(t,
                   "expected every descriptor of the plugin to be close-on-exec, got number %ld "
                   "without it",
                   fd);
    }
    (void)closedir(dir);
}

static void probe(struct k_host *host)
{
    if (atomic_load(&host->probe_fds))
        k_check_cloexec(host);
}

static void h_complete(const pst_host *table, pst_op *op, pst_rc rc)
{
    struct k_host *host = host_of(table);
    probe(host);
    struct k_call *c = k_call_find(host, op);
    if (!c) {
        k_fail(host->test, "expected complete() with an operation of this host, got a pointer it "
                           "never gave out");
        return;
    }
    int state = atomic_load(&c->state);
    if (state == K_DONE)
        k_fail(host->test, "expected one completion of %s, got a second one (%s after %s)",
               k_slot_name(c->slot), k_rc_name(rc), k_rc_name(c->rc));
    else if (state == K_IDLE)
        k_fail(host->test, "expected nothing from %s that answered BUSY, got a completion (%s)",
               k_slot_name(c->slot), k_rc_name(rc));
    else
        k_call_completed(c, rc);
}

static void h_wake(const pst_host *table, pst_backend *backend)
{
    struct k_host *host = host_of(table);
    if (host->test->store.host == host && host->test->store.backend != backend)
        k_fail(host->test,
               "expected wake() with the store that answered BUSY, got another pointer");
    (void)pthread_mutex_lock(&host->mutex);
    atomic_fetch_add(&host->n_wakes, 1);
    (void)pthread_cond_broadcast(&host->wake_cond);
    (void)pthread_mutex_unlock(&host->mutex);
}

static pst_rc h_dst(const pst_host *table, pst_op *op, const pst_dst_args *args,
                    pst_dst_grant *grant)
{
    struct k_host *host = host_of(table);
    probe(host);
    struct k_call *c = call_of(host, op, "dst()");
    return c ? k_call_grant(c, args, grant) : PST_E_INTERNAL;
}

static pst_rc h_list_emit(const pst_host *table, pst_op *op, const pst_entry *entries, size_t n,
                          size_t stride)
{
    struct k_host *host = host_of(table);
    probe(host);
    struct k_call *c = call_of(host, op, "list_emit()");
    return c ? k_call_emit(c, entries, n, stride) : PST_E_INTERNAL;
}

/* Counts down; true once, when it reaches zero. */
static bool falls_due(atomic_int *countdown)
{
    int left = atomic_load(countdown);
    while (left > 0) {
        if (atomic_compare_exchange_weak(countdown, &left, left - 1))
            return left == 1;
    }
    return false;
}

static void *h_op_alloc(const pst_host *table, pst_op *op, size_t size)
{
    struct k_host *host = host_of(table);
    struct k_call *c = call_of(host, op, "op_alloc()");
    atomic_fetch_add(&host->n_op_allocs, 1);
    if (!c || falls_due(&host->fail_op_alloc_at))
        return NULL;
    return k_call_op_alloc(c, size);
}

/* ---- alloc ------------------------------------------------------------------------------------- */

#define BLOCK_LIVE 0x6b6c697665ull
#define BLOCK_FREE 0x6b66726565ull
#define CANARY 16u
#define GARBAGE 0xa5
#define AFTER_FREE 0xdd

struct k_block {
    uint64_t state;
    size_t size;
    unsigned char *memory; /* what malloc gave */
    struct k_block *next;
};

static struct k_block *block_of(void *memory)
{
    unsigned char *p = memory;
    return (struct k_block *)(void *)(p - CANARY - sizeof(struct k_block));
}

static bool is_filled(const unsigned char *p, size_t n, unsigned char value)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != value)
            return false;
    return true;
}

static void *h_alloc(const pst_host *table, size_t size, size_t align)
{
    struct k_host *host = host_of(table);
    atomic_fetch_add(&host->n_allocs, 1);
    if (align == 0 || (align & (align - 1)) != 0) {
        k_fail(host->test, "expected alloc() with a power of two as alignment, got %zu", align);
        return NULL;
    }
    if (falls_due(&host->fail_alloc_at) || size > ((size_t)1 << 40))
        return NULL;
    size_t step = align < 16 ? 16 : align;
    size_t front = sizeof(struct k_block) + CANARY;
    unsigned char *memory = k_alloc(size + front + step + CANARY);
    uintptr_t skip = (uintptr_t)(memory + front) % step;
    unsigned char *p = memory + front + (skip ? step - skip : 0);
    struct k_block *block = block_of(p);
    block->state = BLOCK_LIVE;
    block->size = size;
    block->memory = memory;
    block->next = NULL;
    memset(p - CANARY, K_POISON, CANARY);
    memset(p, GARBAGE, size);
    memset(p + size, K_POISON, CANARY);
    atomic_fetch_add(&host->n_alloc_live, 1);
    atomic_fetch_add(&host->alloc_bytes_live, (long)size);
    return p;
}

static void h_dealloc(const pst_host *table, void *memory)
{
    struct k_host *host = host_of(table);
    unsigned char *p = memory;
    if (!p)
        return;
    struct k_block *block = block_of(p);
    if (block->state != BLOCK_LIVE) {
        k_fail(host->test, "expected dealloc() of memory from alloc(), got %s",
               block->state == BLOCK_FREE ? "memory given back before" : "another pointer");
        return;
    }
    if (!is_filled(p - CANARY, CANARY, K_POISON) || !is_filled(p + block->size, CANARY, K_POISON))
        k_fail(host->test,
               "expected only the %zu bytes asked of alloc() to be written, got bytes "
               "written around them",
               block->size);
    block->state = BLOCK_FREE;
    atomic_fetch_sub(&host->n_alloc_live, 1);
    atomic_fetch_sub(&host->alloc_bytes_live, (long)block->size);
    memset(p, AFTER_FREE, block->size);
    if (!atomic_load(&host->has_quarantine)) {
        k_free(block->memory);
        return;
    }
    (void)pthread_mutex_lock(&host->mutex);
    block->next = host->quarantine;
    host->quarantine = block;
    (void)pthread_mutex_unlock(&host->mutex);
}

void k_host_check_quarantine(struct k_host *host)
{
    (void)pthread_mutex_lock(&host->mutex);
    for (struct k_block *block = host->quarantine; block; block = block->next) {
        const unsigned char *p = (const unsigned char *)(block + 1) + CANARY;
        if (!is_filled(p, block->size, AFTER_FREE)) {
            k_fail(host->test,
                   "expected memory given back by dealloc() to stay untouched, got %zu "
                   "bytes written to afterwards",
                   block->size);
            break;
        }
    }
    (void)pthread_mutex_unlock(&host->mutex);
}

/* ---- threads, log, services -------------------------------------------------------------------- */

static pst_rc h_exec(const pst_host *table, pst_op *op, uint32_t pool, void (*fn)(void *),
                     void *arg)
{
    struct k_host *host = host_of(table);
    atomic_fetch_add(&host->n_exec, 1);
    probe(host);
    if (pool > PST_POOL_CPU || !fn) {
        k_fail(host->test, "expected exec() with a pool of plugin.h and a function, got pool %u%s",
               pool, fn ? "" : " and NULL");
        return PST_E_INVALID;
    }
    struct k_call *c = op ? call_of(host, op, "exec()") : NULL;
    if (op && !c)
        return PST_E_INTERNAL;
    bool is_submitting = c && k_submitting == c;
    if (is_submitting) {
        int left = atomic_load(&host->exec_busy);
        while (left > 0) {
            if (atomic_compare_exchange_weak(&host->exec_busy, &left, left - 1)) {
                atomic_fetch_add(&host->n_exec_busy, 1);
                c->exec_said_busy = true;
                return PST_BUSY;
            }
        }
    }
    k_pool_post(host->pool, fn, arg);
    /* A thread may be descheduled here for as long as the operation takes. */
    if (is_submitting && atomic_load(&host->exec_finishes))
        (void)k_call_wait(c, 2000);
    return PST_OK;
}

void k_check_text(struct k_test *t, const char *what, const char *text)
{
    size_t len = strnlen(text, 4096);
    for (size_t i = 0; i < len; i++) {
        unsigned char b = (unsigned char)text[i];
        if (b < 0x20 || b == 0x7f) {
            k_fail(t,
                   "expected %s to be one line without control characters, got byte 0x%02x in %s",
                   what, b, k_show(pst_str_of(text, len)));
            break;
        }
        size_t more = b < 0x80 ? 0 : (b & 0xe0) == 0xc0 ? 1 : (b & 0xf0) == 0xe0 ? 2 : 3;
        if (b >= 0x80 && (b < 0xc2 || b > 0xf4))
            more = SIZE_MAX;
        for (size_t k = 1; more != SIZE_MAX && k <= more; k++)
            if (((unsigned char)text[i + k] & 0xc0) != 0x80)
                more = SIZE_MAX;
        if (more == SIZE_MAX) {
            k_fail(t, "expected %s to be UTF-8, got byte 0x%02x at %zu", what, b, i);
            break;
        }
        i += more;
    }
    const pst_plugin *plugin = t->store.plugin;
    for (size_t k = 0; plugin && k < plugin->n_options; k++) {
        const char *at = (const char *)plugin->options + k * plugin->option_stride;
        const pst_option *declared = (const pst_option *)(const void *)at;
        uint32_t source;
        const char *value = (declared->flags & PST_OPT_SECRET)
                                ? k_option_given(t, declared, &source)
                                : NULL;
        if (value && strlen(value) >= 4 && strstr(text, value))
            k_fail(t, "expected no secret in %s, got the value of option %s", what, declared->name);
    }
}

static void h_log(const pst_host *table, uint32_t level, const char *plugin_id, const char *utf8)
{
    struct k_host *host = host_of(table);
    struct k_test *t = host->test;
    atomic_fetch_add(&host->n_logs, 1);
    if (level > PST_LOG_DEBUG || !plugin_id || !utf8) {
        k_fail(t, "expected log() with a level of plugin.h, an id and a text, got level %u%s%s",
               level, plugin_id ? "" : ", no id", utf8 ? "" : ", no text");
        return;
    }
    bool is_service = host->services &&
                      (strcmp(plugin_id, "net") == 0 || strcmp(plugin_id, "http") == 0);
    if (t->store.plugin && !is_service && strcmp(plugin_id, t->store.plugin->id) != 0)
        k_fail(t, "expected log() with the plugin's id %s, got %s", t->store.plugin->id, plugin_id);
    k_check_text(t, "a log line", utf8);
}

static int32_t h_log_enabled(const pst_host *table, uint32_t level)
{
    (void)host_of(table);
    (void)level;
    return 1;
}

static const void *h_service(const pst_host *table, const char *name)
{
    struct k_host *host = host_of(table);
    if (!name || !strchr(name, '/')) {
        k_fail(host->test, "expected service() with \"name/major\", got %s", name ? name : "NULL");
        return NULL;
    }
    (void)pthread_mutex_lock(&host->mutex);
    if (!host->services) {
        pst_error err = PST_ERROR_INIT;
        if (pst_services_new(host->table, &host->services, &err) != PST_OK)
            host->services = NULL;
    }
    pst_services *services = host->services;
    (void)pthread_mutex_unlock(&host->mutex);
    return services ? pst_services_find(services, name) : NULL;
}

void k_host_end_services(struct k_host *host)
{
    pst_services_free(host->services);
    host->services = NULL;
}

bool k_is_stride(const pst_plugin *plugin, size_t stride, size_t ours)
{
    bool is_older = plugin->abi_minor + 1u <= PST_ABI_MINOR; /* not <: the minor may be 0 */
    return stride % 8 == 0 && (stride >= ours || (is_older && stride >= sizeof(pst_str)));
}

/* Minor 0 has none before it; its host of an older minor differs by its structs alone. */
static uint16_t minor_of(enum k_skew skew)
{
    int minor = (int)PST_ABI_MINOR + (int)skew;
    return (uint16_t)(minor < 0 ? 0 : minor);
}

struct k_host *k_host_new(struct k_test *t, enum k_skew skew, unsigned n_threads)
{
    struct k_host *host = (struct k_host *)(void *)k_alloc(sizeof(*host));
    host->test = t;
    host->skew = skew;
    host->pool = k_pool_new(n_threads);
    host->courier = k_pool_new(1);
    atomic_store(&host->has_quarantine, true);
    (void)pthread_mutex_init(&host->mutex, NULL);
    (void)pthread_cond_init(&host->wake_cond, NULL);

    pst_host full = {
        .struct_size = (uint32_t)sizeof(pst_host),
        .abi_major = PST_ABI_MAJOR,
        .abi_minor = minor_of(skew),
        .complete = h_complete,
        .wake = h_wake,
        .dst = h_dst,
        .list_emit = h_list_emit,
        .op_alloc = h_op_alloc,
        .alloc = h_alloc,
        .dealloc = h_dealloc,
        .exec = h_exec,
        .log = h_log,
        .log_enabled = h_log_enabled,
        .service = h_service,
    };
    size_t len = sizeof(full);
    if (skew == K_OLDER)
        len = offsetof(pst_host, host_private);
    size_t total = len + (skew == K_NEWER ? K_TAIL : 0);
    full.struct_size = (uint32_t)total;
    k_region_init(&host->region, "the host", 64 * 1024, 1);
    unsigned char *memory = k_region_take(&host->region, "table", total, 8, K_AT_END);
    memset(memory, K_POISON, total);
    memcpy(memory, &full, len);
    k_region_protect(&host->region, memory, PROT_READ);
    host->table = (pst_host *)(void *)memory;

    unsigned i = atomic_load(&n_hosts);
    if (i < HOSTS_MAX) {
        all_hosts[i] = host;
        atomic_store(&n_hosts, i + 1);
    }
    return host;
}

void k_host_after_fork(struct k_host *host)
{
    (void)pthread_mutex_init(&host->mutex, NULL);
    (void)pthread_cond_init(&host->wake_cond, NULL);
    k_pool_after_fork(host->pool);
    k_pool_after_fork(host->courier);
    atomic_store(&host->exec_busy, 0);
    atomic_store(&host->n_outstanding, 0);
    host->services = NULL; /* those of the parent have no threads here */
}
