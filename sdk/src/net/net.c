#include <stdio.h>
#include <string.h>

#include "util/net_abi.h"

static pst_rc instance_new(const struct pst_net_host *nh, struct pst_net_instance **out,
                           pst_error *err)
{
    (void)nh;
    (void)err;
    *out = NULL;
    return PST_E_INTERNAL;
}

static const void *service(struct pst_net_instance *instance, const char *name)
{
    (void)instance;
    (void)name;
    return NULL;
}

static const struct pst_net net = {
    .build_id = PENSTOCK_BUILD_ID,
    .instance_new = instance_new,
    .service = service,
};

pst_rc pst_net_open_1(const char *build_id, const struct pst_net **out, pst_error *err)
{
    if (strcmp(build_id, net.build_id) != 0) {
        if (PST_HAS(pst_error, err, message)) {
            err->code = PST_E_BAD_PLUGIN;
            snprintf(err->message, sizeof(err->message), "built as %s, not as %s", net.build_id,
                     build_id);
        }
        return PST_E_BAD_PLUGIN;
    }
    *out = &net;
    return PST_OK;
}
