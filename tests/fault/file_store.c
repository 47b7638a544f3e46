#include "file_store.h"

#include <string.h>

#include <penstock/plugin.h>

#include "core/static_plugins.h"

pst_rc pst_plugin_open_1_file(const pst_host *, const pst_plugin **, pst_error *);

const struct pst_static_plugin pst_static_plugins[] = {
    {"file", pst_plugin_open_1_file},
    {NULL, NULL},
};

pst_rc file_context(pst_context **out, pst_error *err)
{
    static const char *const no_dirs[] = {NULL};
    const pst_context_options options = {.struct_size = sizeof(options),
                                         .flags = PST_CONTEXT_ONLY_DIRS |
                                                  PST_CONTEXT_NO_ENVIRONMENT,
                                         .memory_budget_bytes = (uint64_t)64 << 20,
                                         .blocking_threads = 4,
                                         .first_read_bytes = 65536,
                                         .plugin_dirs = no_dirs};
    return pst_context_new(&options, out, err);
}

pst_rc file_store(pst_context *context, const char *dir, pst_store **out, pst_error *err)
{
    const pst_kv root = {PST_STR("root"), pst_str_of(dir, strlen(dir))};
    return pst_store_open(context, PST_STR("file:///"), &root, 1, out, err);
}
