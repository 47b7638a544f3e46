/* verbs.c - the table of verbs, in the order of the help text. */
#include <string.h>

#include "cli.h"

extern const struct cli_verb cli_cmd_ls, cli_cmd_stat, cli_cmd_get, cli_cmd_put, cli_cmd_cat,
    cli_cmd_du, cli_cmd_rm;
extern const struct cli_verb cli_cmd_cp, cli_cmd_mv, cli_cmd_sync, cli_cmd_upload, cli_cmd_download;
extern const struct cli_verb cli_cmd_mb, cli_cmd_rb, cli_cmd_presign, cli_cmd_cleanup;
extern const struct cli_verb cli_cmd_plugins_list, cli_cmd_plugins_show, cli_cmd_plugins_manifest,
    cli_cmd_plugins_new, cli_cmd_conformance, cli_cmd_config_show;
extern const struct cli_verb cli_cmd_bench_get, cli_cmd_bench_put, cli_cmd_bench_mixed,
    cli_cmd_bench_list;
extern const struct cli_verb cli_cmd_version, cli_cmd_help, cli_cmd_man, cli_cmd_complete;

const struct cli_verb *const cli_verbs[] = {
    &cli_cmd_ls,
    &cli_cmd_stat,
    &cli_cmd_get,
    &cli_cmd_put,
    &cli_cmd_cat,
    &cli_cmd_du,
    &cli_cmd_rm,
    &cli_cmd_cp,
    &cli_cmd_mv,
    &cli_cmd_sync,
    &cli_cmd_upload,
    &cli_cmd_download,
    &cli_cmd_mb,
    &cli_cmd_rb,
    &cli_cmd_presign,
    &cli_cmd_cleanup,
    &cli_cmd_bench_get,
    &cli_cmd_bench_put,
    &cli_cmd_bench_mixed,
    &cli_cmd_bench_list,
    &cli_cmd_plugins_list,
    &cli_cmd_plugins_show,
    &cli_cmd_plugins_manifest,
    &cli_cmd_plugins_new,
    &cli_cmd_conformance,
    &cli_cmd_config_show,
    &cli_cmd_version,
    &cli_cmd_help,
    &cli_cmd_man,
    &cli_cmd_complete,
    NULL,
};

bool cli_has_option(const struct cli_verb *verb, const char *name)
{
    for (const struct cli_option *option = verb->options; option && option->name; option++) {
        if (strcmp(option->name, name) == 0)
            return true;
    }
    return false;
}
