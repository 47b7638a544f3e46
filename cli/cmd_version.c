/* cmd_version.c - which command, which library, which plugin ABI. */
#include <dlfcn.h>
#include <string.h>

#include <penstock/plugin.h>

#include "frame.h"

/* The file that pst_version() lives in: which of several installed libraries is used. */
static const char *find_library(void)
{
    Dl_info info;
    /* ISO C knows no cast from a function to an object pointer, POSIX does. */
    union {
        const char *(*function)(void);
        void *object;
    } address = {.function = pst_version};

    return dladdr(address.object, &info) && info.dli_fname ? info.dli_fname : "";
}

int cli_print_version(struct cli *cli)
{
    cli_printf(cli, "penstock %s (libpenstock %s, plugin ABI %u.%u)\n", PENSTOCK_VERSION,
               pst_version(), PST_ABI_MAJOR, PST_ABI_MINOR);
    return CLI_OK;
}

static int run_version(struct cli *cli, const struct cli_args *args)
{
    struct cli_text_buf line = {0}, abi = {0};
    const char *path = find_library();

    if (!cli_flag(args, "json")) {
        cli_print_version(cli);
        if (cli->verbosity > 0)
            cli_printf(cli, "%s\n", path);
        return CLI_OK;
    }
    cli_addf(&abi, "%u.%u", PST_ABI_MAJOR, PST_ABI_MINOR);
    cli_json_begin(&line);
    cli_json_text(&line, "version", PST_STR(PENSTOCK_VERSION));
    cli_json_text(&line, "library_version", pst_str_of(pst_version(), strlen(pst_version())));
    cli_json_text(&line, "abi", pst_str_of(abi.data, abi.len));
    cli_json_bytes(&line, "library", pst_str_of(path, strlen(path)));
    cli_json_end(&line);
    cli_put_text(cli, &line);
    cli_text_fini(&line);
    cli_text_fini(&abi);
    return CLI_OK;
}

static const struct cli_option options[] = {
    {0, CLI_FLAG, "json", NULL, "one JSON object, with the path of the library", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_version = {
    .name = "version",
    .operands = "",
    .summary = "show the versions of command, library and plugin ABI",
    .options = options,
    .complete = CLI_COMPLETE_NOTHING,
    .run = run_version,
};
