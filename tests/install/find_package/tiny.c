/* tiny.c - the least that is a plugin: it declares a scheme and opens no store. */
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

static const char *const schemes[] = {"tiny", NULL};
static const pst_limits limits = {.struct_size = sizeof limits};
static const pst_backend_ops ops = {.struct_size = sizeof ops};
static const pst_plugin plugin_table = {
    .struct_size = sizeof plugin_table,
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
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
