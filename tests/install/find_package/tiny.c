/* tiny.c - the least that is a plugin: it declares a scheme and a capability, and opens no store. */
#include <penstock/plugin.h>

static pst_rc open_store(const pst_host *host, const pst_open_args *args, pst_backend **backend,
                         pst_error *err)
{
    (void)host;
    (void)args;
    (void)err;
    *backend = NULL;
    return PST_E_UNIMPLEMENTED;
}

static pst_rc stat_object(pst_backend *backend, pst_op *op, const pst_stat_args *args,
                          pst_attr *result)
{
    (void)backend;
    (void)op;
    (void)args;
    (void)result;
    return PST_E_NOT_FOUND;
}

static void describe(pst_backend *backend, pst_backend_info *info)
{
    (void)backend;
    (void)info;
}

static void close_store(pst_backend *backend)
{
    (void)backend;
}

static const char *const schemes[] = {"tiny", NULL};
static const pst_limits limits = {.struct_size = sizeof limits};
static const pst_backend_ops ops = {
    .struct_size = sizeof ops,
    .stat = stat_object,
    .info = describe,
    .close = close_store,
};
static const pst_plugin plugin_table = {
    .struct_size = sizeof plugin_table,
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = PST_CAP_STAT,
    .threads = PST_THREADS_PARALLEL,
    .id = "tiny",
    .version = "1.0.0",
    .vendor = "Example",
    .license = "Apache-2.0",
    .schemes = schemes,
    .limits = &limits,
    .ops = &ops,
    .store_open = open_store,
};

PST_PLUGIN_ENTRY(host, plugin, err)
{
    (void)host;
    (void)err;
    *plugin = &plugin_table;
    return PST_OK;
}
