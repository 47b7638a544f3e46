#include "puppet.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/static_plugins.h"

#define ALL_CAPS                                                                                   \
    (PST_CAP_READ | PST_CAP_READ_SUFFIX | PST_CAP_STAT | PST_CAP_PUT | PST_CAP_UPLOAD |            \
     PST_CAP_UPLOAD_UNORDERED | PST_CAP_REMOVE | PST_CAP_LIST | PST_CAP_LIST_ORDERED |             \
     PST_CAP_COPY | PST_CAP_RENAME | PST_CAP_READ_IF_MATCH | PST_CAP_WRITE_IF_MATCH |              \
     PST_CAP_CREATE_ONLY | PST_CAP_UPLOAD_CONDITIONAL | PST_CAP_VERSIONS | PST_CAP_CANCEL_BOUNDED)

struct puppet puppet;

struct pst_backend {
    int is_serial;
};

struct pst_upload {
    uint64_t bytes;
};

void puppet_reset(void)
{
    memset(&puppet, 0, sizeof(puppet));
    puppet.caps = ALL_CAPS;
    puppet.body = "0123456789";
    puppet.body_len = 10;
    puppet.etag = "v1";
    puppet.etag_strength = PST_ETAG_STRONG;
}

/* ---- holding ---------------------------------------------------------------------------------- */

pst_rc puppet_hold(pst_op *op)
{
    int i = atomic_load(&puppet.n_held);
    if (i == PUPPET_HELD_MAX)
        abort();
    puppet.held[i] = op;
    atomic_store(&puppet.n_held, i + 1);
    return PST_PENDING;
}

void puppet_wait_count(const atomic_int *counter, int n)
{
    const struct timespec tick = {.tv_nsec = 200000};
    for (int i = 0; atomic_load(counter) < n; i++) {
        assert_true(i < 50000);
        nanosleep(&tick, NULL);
    }
}

void puppet_wait_held(int n)
{
    puppet_wait_count(&puppet.n_held, n);
}

static void enter(void)
{
    int now = atomic_fetch_add(&puppet.n_outstanding, 1) + 1;
    int max = atomic_load(&puppet.max_outstanding);
    while (now > max && !atomic_compare_exchange_weak(&puppet.max_outstanding, &max, now))
        ;
    atomic_fetch_add(&puppet.n_submits, 1);
}

static pst_rc leave(pst_rc rc)
{
    if (rc != PST_PENDING)
        atomic_fetch_sub(&puppet.n_outstanding, 1);
    return rc;
}

void puppet_release(int i, pst_rc rc)
{
    pst_op *op = puppet.held[i];
    atomic_fetch_sub(&puppet.n_outstanding, 1);
    op->host->complete(op->host, op, rc);
}

struct release {
    int i;
    pst_rc rc;
};

static void *run_release(void *arg)
{
    struct release *release = arg;
    puppet_release(release->i, release->rc);
    free(release);
    return NULL;
}

pthread_t puppet_release_elsewhere(int i, pst_rc rc)
{
    pthread_t thread;
    struct release *release = malloc(sizeof(*release));
    assert_non_null(release);
    *release = (struct release){i, rc};
    assert_int_equal(pthread_create(&thread, NULL, run_release, release), 0);
    return thread;
}

/* ---- built-in answers ------------------------------------------------------------------------- */

pst_rc puppet_read(pst_op *op, const pst_read_args *args, pst_read_result *result)
{
    uint64_t offset = args->offset, length = args->length;
    const pst_iov *dst = args->dst;
    size_t n_dst = args->n_dst;
    pst_dst_grant grant = {.struct_size = sizeof(grant)};
    if (args->flags & PST_READ_SUFFIX)
        offset = puppet.body_len > length ? puppet.body_len - length : 0;
    uint64_t rest = offset < puppet.body_len ? puppet.body_len - offset : 0;
    if (rest > length)
        rest = length;
    result->object_size = puppet.body_len;
    result->etag = pst_str_of(puppet.etag, strlen(puppet.etag));
    result->etag_strength = puppet.etag_strength;
    if (args->if_match.len > 0 && (args->if_match.len != result->etag.len ||
                                   memcmp(args->if_match.ptr, puppet.etag, result->etag.len) != 0))
        return PST_E_PRECONDITION;
    if (n_dst == 0 && rest > 0) {
        const pst_dst_args ask = {.struct_size = sizeof(ask),
                                  .length = rest,
                                  .capacity = rest,
                                  .object_size = puppet.body_len,
                                  .etag = result->etag,
                                  .etag_strength = puppet.etag_strength};
        pst_rc rc = op->host->dst(op->host, op, &ask, &grant);
        if (rc != PST_OK)
            return rc;
        dst = grant.dst;
        n_dst = grant.n_dst;
    }
    for (size_t i = 0; i < n_dst && result->n_read < rest; i++) {
        uint64_t span = rest - result->n_read;
        if (span > dst[i].len)
            span = dst[i].len;
        memcpy(dst[i].ptr, puppet.body + offset + result->n_read, span);
        result->n_read += span;
    }
    return PST_OK;
}

static pst_rc slot_read(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    enter();
    return leave(puppet.hooks.read ? puppet.hooks.read(b, op, a, r) : puppet_read(op, a, r));
}

static pst_rc slot_stat(pst_backend *b, pst_op *op, const pst_stat_args *a, pst_attr *r)
{
    enter();
    if (puppet.hooks.stat)
        return leave(puppet.hooks.stat(b, op, a, r));
    r->size = puppet.body_len;
    r->etag = pst_str_of(puppet.etag, strlen(puppet.etag));
    r->etag_strength = puppet.etag_strength;
    return leave(PST_OK);
}

static uint64_t count(const pst_iov *src, size_t n)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += src[i].len;
    return bytes;
}

static pst_rc slot_put(pst_backend *b, pst_op *op, const pst_put_args *a, pst_put_result *r)
{
    enter();
    if (puppet.hooks.put)
        return leave(puppet.hooks.put(b, op, a, r));
    r->size = count(a->src, a->n_src);
    return leave(PST_OK);
}

static pst_rc slot_copy(pst_backend *b, pst_op *op, const pst_copy_args *a, pst_put_result *r)
{
    enter();
    return leave(puppet.hooks.copy ? puppet.hooks.copy(b, op, a, r) : PST_OK);
}

static pst_rc slot_rename(pst_backend *b, pst_op *op, const pst_copy_args *a, pst_put_result *r)
{
    enter();
    return leave(puppet.hooks.rename ? puppet.hooks.rename(b, op, a, r) : PST_OK);
}

static pst_rc slot_remove(pst_backend *b, pst_op *op, const pst_remove_args *a,
                          pst_remove_result *r)
{
    enter();
    if (puppet.hooks.remove)
        return leave(puppet.hooks.remove(b, op, a, r));
    for (size_t i = 0; i < a->n_keys; i++)
        r->status[i] = PST_OK;
    return leave(PST_OK);
}

static pst_rc slot_list(pst_backend *b, pst_op *op, const pst_list_args *a, pst_list_result *r)
{
    enter();
    return leave(puppet.hooks.list ? puppet.hooks.list(b, op, a, r) : PST_OK);
}

static pst_rc slot_upload_open(pst_backend *b, pst_op *op, const pst_put_args *a,
                               pst_upload_result *r)
{
    enter();
    if (puppet.hooks.upload_open)
        return leave(puppet.hooks.upload_open(b, op, a, r));
    r->upload = calloc(1, sizeof(*r->upload));
    return leave(r->upload ? PST_OK : PST_E_NO_MEMORY);
}

static pst_rc slot_part(pst_upload *u, pst_op *op, const pst_part_args *a, pst_result *r)
{
    enter();
    if (puppet.hooks.upload_part)
        return leave(puppet.hooks.upload_part(u, op, a, r));
    return leave(PST_OK);
}

static pst_rc slot_commit(pst_upload *u, pst_op *op, const pst_commit_args *a, pst_put_result *r)
{
    enter();
    if (puppet.hooks.upload_commit)
        return leave(puppet.hooks.upload_commit(u, op, a, r));
    r->size = a->size;
    return leave(PST_OK);
}

static pst_rc slot_abort(pst_upload *u, pst_op *op, const pst_abort_args *a, pst_result *r)
{
    enter();
    return leave(puppet.hooks.upload_abort ? puppet.hooks.upload_abort(u, op, a, r) : PST_OK);
}

static void slot_upload_free(pst_upload *upload)
{
    if (atomic_load(&puppet.n_outstanding) > 0)
        atomic_store(&puppet.closed_while_outstanding, 1);
    if (atomic_fetch_add(&puppet.n_upload_frees, 1) == 0)
        free(upload); /* a second free is counted, not carried out */
}

static void slot_dst_ready(pst_backend *b, pst_op *op)
{
    atomic_fetch_add(&puppet.n_dst_ready, 1);
    if (puppet.hooks.dst_ready)
        puppet.hooks.dst_ready(b, op);
}

static void slot_flush(pst_backend *b)
{
    (void)b;
    atomic_fetch_add(&puppet.n_flushes, 1);
}

static void slot_cancel(pst_backend *b, pst_op *op)
{
    atomic_fetch_add(&puppet.n_cancels, 1);
    if (puppet.hooks.cancel)
        puppet.hooks.cancel(b, op);
}

static void slot_info(pst_backend *b, pst_backend_info *info)
{
    (void)b;
    uint32_t size = info->limits->struct_size;
    info->caps = puppet.caps;
    info->want_sums = puppet.want_sums;
    info->endpoint = puppet.endpoint;
    *info->limits = puppet.limits;
    info->limits->struct_size = size;
}

static void slot_close(pst_backend *backend)
{
    if (atomic_load(&puppet.n_outstanding) > 0)
        atomic_store(&puppet.closed_while_outstanding, 1);
    if (atomic_fetch_add(&puppet.n_closed, 1) < atomic_load(&puppet.n_open))
        free(backend);
}

static const pst_backend_ops ops = {
    .struct_size = sizeof(ops),
    .read = slot_read,
    .stat = slot_stat,
    .put = slot_put,
    .copy = slot_copy,
    .rename = slot_rename,
    .remove = slot_remove,
    .list = slot_list,
    .upload_open = slot_upload_open,
    .upload_part = slot_part,
    .upload_commit = slot_commit,
    .upload_abort = slot_abort,
    .upload_free = slot_upload_free,
    .dst_ready = slot_dst_ready,
    .flush = slot_flush,
    .cancel = slot_cancel,
    .info = slot_info,
    .close = slot_close,
};

static pst_rc open_store(const pst_host *host, const pst_open_args *args, pst_backend **out,
                         pst_error *err)
{
    (void)args;
    (void)err;
    *out = calloc(1, sizeof(**out));
    if (!*out)
        return PST_E_NO_MEMORY;
    puppet.host = host;
    puppet.backend = *out;
    atomic_fetch_add(&puppet.n_open, 1);
    return PST_OK;
}

static void fork_child(const pst_host *host)
{
    (void)host;
    atomic_fetch_add(&puppet.n_fork_child, 1);
}

/* Lies behind what struct_size of the serial plugin covers: nobody may see it. */
static void beyond_the_end(const pst_host *host)
{
    (void)host;
    atomic_fetch_add(&puppet.n_beyond, 1);
}

static const pst_limits limits = {.struct_size = sizeof(limits)};

static pst_rc enter_plugin(const pst_plugin *plugin, const pst_plugin **out)
{
    *out = plugin;
    return PST_OK;
}

static pst_rc open_puppet(const pst_host *host, const pst_plugin **out, pst_error *err)
{
    static const char *const schemes[] = {"puppet", NULL};
    static const pst_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PST_ABI_MAJOR,
        .abi_minor = PST_ABI_MINOR,
        .caps = ALL_CAPS,
        .threads = PST_THREADS_PARALLEL,
        .op_scratch = 64,
        .id = "puppet",
        .version = "1.0.0",
        .vendor = "Penstock",
        .license = "Apache-2.0",
        .schemes = schemes,
        .limits = &limits,
        .ops = &ops,
        .store_open = open_store,
        .fork_child = fork_child,
    };
    (void)host;
    (void)err;
    return enter_plugin(&plugin, out);
}

static pst_rc open_serial(const pst_host *host, const pst_plugin **out, pst_error *err)
{
    static const char *const schemes[] = {"serial", NULL};
    static const pst_plugin plugin = {
        .struct_size = offsetof(pst_plugin, fork_child), /* as one of an older minor would be */
        .abi_major = PST_ABI_MAJOR,
        .abi_minor = PST_ABI_MINOR,
        .caps = ALL_CAPS,
        .threads = PST_THREADS_SERIAL,
        .op_scratch = 64,
        .id = "serial",
        .version = "1.0.0",
        .vendor = "Penstock",
        .license = "Apache-2.0",
        .schemes = schemes,
        .limits = &limits,
        .ops = &ops,
        .store_open = open_store,
        .shutdown = beyond_the_end,
    };
    (void)host;
    (void)err;
    return enter_plugin(&plugin, out);
}

static pst_rc open_early(const pst_host *host, const pst_plugin **out, pst_error *err)
{
    static const char *const schemes[] = {"early", NULL};
    static pst_backend_ops early_ops;
    static const pst_plugin plugin = {
        .struct_size = sizeof(plugin),
        .abi_major = PST_ABI_MAJOR,
        .abi_minor = PST_ABI_MINOR,
        .caps = ALL_CAPS,
        .threads = PST_THREADS_PARALLEL,
        .op_scratch = 64,
        .id = "early",
        .version = "1.0.0",
        .vendor = "Penstock",
        .license = "Apache-2.0",
        .schemes = schemes,
        .limits = &limits,
        .ops = &early_ops,
        .store_open = open_store,
    };
    (void)host;
    (void)err;
    early_ops = ops;
    early_ops.dst_ready = NULL;
    return enter_plugin(&plugin, out);
}

const struct pst_static_plugin pst_static_plugins[] = {
    {"puppet", open_puppet},
    {"serial", open_serial},
    {"early", open_early},
    {NULL, NULL},
};

pst_context *puppet_context(const pst_context_options *options)
{
    static const char *const no_dirs[] = {NULL};
    pst_context_options own = {.struct_size = sizeof(own)};
    pst_context *context = NULL;
    pst_error err = PST_ERROR_INIT;
    if (options)
        own = *options;
    own.flags |= PST_CONTEXT_ONLY_DIRS | PST_CONTEXT_NO_ENVIRONMENT;
    own.plugin_dirs = no_dirs;
    if (pst_context_new(&own, &context, &err) != PST_OK)
        fail_msg("%s", err.message);
    return context;
}

pst_store *puppet_store(pst_context *context, const char *scheme)
{
    char uri[64];
    pst_store *store = NULL;
    pst_error err = PST_ERROR_INIT;
    int n = snprintf(uri, sizeof(uri), "%s://host/", scheme);
    if (pst_store_open(context, pst_str_of(uri, (size_t)n), NULL, 0, &store, &err) != PST_OK)
        fail_msg("%s", err.message);
    return store;
}
