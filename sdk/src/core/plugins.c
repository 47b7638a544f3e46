/* plugins.c - the public view of a context's plugins and options. */
#include <penstock/plugins.h>

#include "core/core.h"

pst_rc pst_plugins_list(pst_context *context, pst_plugin_info **out, size_t *n, pst_error *err)
{
    struct pst_core *core;
    pst_rc rc = pst_core_of(context, &core, err);
    return rc == PST_OK ? pst_registry_list(core->registry, out, n, err) : rc;
}

pst_rc pst_plugins_load(pst_context *context, const char *id, pst_error *err)
{
    struct pst_core *core;
    pst_rc rc = pst_core_of(context, &core, err);
    return rc == PST_OK ? pst_registry_load(core->registry, id, err) : rc;
}

pst_rc pst_config_list(pst_context *context, const char *id, pst_config_entry **out, size_t *n,
                       pst_error *err)
{
    struct pst_core *core;
    pst_rc rc = pst_core_of(context, &core, err);
    return rc == PST_OK ? pst_registry_config_list(core->registry, id, out, n, err) : rc;
}
