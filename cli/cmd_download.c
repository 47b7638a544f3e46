/* cmd_download.c - cp whose target is always a local directory. */
#include "transfer.h"

static const struct cli_option options[] = {
    TRANSFER_OPTION_RECURSIVE, TRANSFER_OPTIONS,      TRANSFER_OPTION_REGEX,
    TRANSFER_OPTION_LINKS,     TRANSFER_OPTIONS_FLOW, TRANSFER_OPTION_END,
};

static int run(struct cli *cli, const struct cli_args *args)
{
    struct transfer_options transfer = {.is_target_directory = true, .is_target_local = true};
    int code = transfer_options_read(cli, args, &transfer);
    return code == CLI_OK ? transfer_run(cli, args, &transfer) : code;
}

const struct cli_verb cli_cmd_download = {
    .name = "download",
    .operands = "URI... DIR",
    .summary = "copy objects into a local directory",
    .details =
        "DIR is made if it is not there. An object keeps the last part of its key as its name; "
        "with "
        "-r, 's3://bucket/tree' becomes DIR/tree, and what is below 's3://bucket/tree/' comes "
        "right "
        "into DIR.\n\n"
        "Nothing is written outside DIR, whatever the keys are. A key that cannot be a file name "
        "fails, unless --escape-keys gives it another.",
    .options = options,
    .min_operands = 2,
    .max_operands = CLI_ANY,
    .run = run,
};
