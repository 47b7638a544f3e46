/* pst_plugins_manifest: load a library that has no manifest yet, and write one.
 *
 * The entry function wants a host. No operation will ever run here, so this one is a table whose
 * functions are all present and do the least that is right: memory is real, because an entry may
 * allocate; work is refused. */
#include <penstock/plugins.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/loader.h"

static void ignore_complete(const pst_host *host, pst_op *op, pst_rc rc)
{
    (void)host;
    (void)op;
    (void)rc;
}

static void ignore_wake(const pst_host *host, pst_backend *backend)
{
    (void)host;
    (void)backend;
}

static pst_rc refuse_dst(const pst_host *host, pst_op *op, const pst_dst_args *args,
                         pst_dst_grant *grant)
{
    (void)host;
    (void)op;
    (void)args;
    (void)grant;
    return PST_E_UNIMPLEMENTED;
}

static pst_rc refuse_list_emit(const pst_host *host, pst_op *op, const pst_entry *entries, size_t n,
                               size_t stride)
{
    (void)host;
    (void)op;
    (void)entries;
    (void)n;
    (void)stride;
    return PST_E_UNIMPLEMENTED;
}

static void *refuse_op_alloc(const pst_host *host, pst_op *op, size_t size)
{
    (void)host;
    (void)op;
    (void)size;
    return NULL;
}

static void *alloc(const pst_host *host, size_t size, size_t align)
{
    void *memory = NULL;

    (void)host;
    if (align < sizeof(void *))
        align = sizeof(void *);
    return posix_memalign(&memory, align, size) == 0 ? memory : NULL;
}

static void dealloc(const pst_host *host, void *memory)
{
    (void)host;
    free(memory);
}

static pst_rc refuse_exec(const pst_host *host, pst_op *op, uint32_t pool, void (*fn)(void *),
                          void *arg)
{
    (void)host;
    (void)op;
    (void)pool;
    (void)fn;
    (void)arg;
    return PST_E_UNIMPLEMENTED;
}

static void ignore_log(const pst_host *host, uint32_t level, const char *plugin_id,
                       const char *utf8)
{
    (void)host;
    (void)level;
    (void)plugin_id;
    (void)utf8;
}

static int32_t no_log(const pst_host *host, uint32_t level)
{
    (void)host;
    (void)level;
    return 0;
}

static const void *no_service(const pst_host *host, const char *name)
{
    (void)host;
    (void)name;
    return NULL;
}

static const pst_host describing_host = {
    .struct_size = (uint32_t)sizeof(pst_host),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .complete = ignore_complete,
    .wake = ignore_wake,
    .dst = refuse_dst,
    .list_emit = refuse_list_emit,
    .op_alloc = refuse_op_alloc,
    .alloc = alloc,
    .dealloc = dealloc,
    .exec = refuse_exec,
    .log = ignore_log,
    .log_enabled = no_log,
    .service = no_service,
};

pst_rc pst_plugins_manifest(const char *path, char **json, pst_error *err)
{
    const char *slash = strrchr(path, '/');
    struct pst_manifest described;
    struct pst_loaded *loaded = NULL;
    pst_rc rc;

    *json = NULL;
    /* A path without a slash would be looked for in LD_LIBRARY_PATH. */
    char *real = realpath(path, NULL);
    if (!real)
        return errno == ENOMEM ? pst_fail(err, PST_E_NO_MEMORY, "plugin %s: out of memory", path)
                               : pst_fail_errno(err, PST_E_BAD_PLUGIN, errno, "plugin %s", path);
    rc = pst_loader_open(real, &describing_host, &loaded, err);
    if (rc != PST_OK)
        goto out;
    pst_loader_describe(loaded, slash ? slash + 1 : path, &described);
    rc = pst_manifest_write(&described, json, err);
    if (loaded->plugin.shutdown)
        loaded->plugin.shutdown(&describing_host);
out:
    pst_loader_free(loaded);
    free(real);
    return rc;
}
