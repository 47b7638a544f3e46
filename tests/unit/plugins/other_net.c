/* A network library that is none of this build's: it refuses every id but its own. */
#include <stdio.h>

#include "util/net_abi.h"

pst_rc pst_net_open_1(const char *build_id, const struct pst_net **out, pst_error *err)
{
    *out = NULL;
    err->code = PST_E_BAD_PLUGIN;
    snprintf(err->message, sizeof(err->message), "built as another-build, not as %s", build_id);
    return PST_E_BAD_PLUGIN;
}
