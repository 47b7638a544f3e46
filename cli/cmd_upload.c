/* cmd_upload.c - cp whose target is always a directory. */
#include "transfer.h"

static const struct cli_option options[] = {
    TRANSFER_OPTION_RECURSIVE, TRANSFER_OPTIONS,      TRANSFER_OPTION_REGEX, TRANSFER_OPTION_LINKS,
    CLI_FLOW_OPTION_COMPRESS,  TRANSFER_OPTIONS_FLOW, TRANSFER_OPTION_END,
};

static int run(struct cli *cli, const struct cli_args *args)
{
    struct transfer_options transfer = {.is_target_directory = true};
    int code = transfer_options_read(cli, args, &transfer);
    return code == CLI_OK ? transfer_run(cli, args, &transfer) : code;
}

const struct cli_verb cli_cmd_upload = {
    .name = "upload",
    .operands = "SRC... DEST/",
    .summary = "copy files and directories below a prefix",
    .details =
        "As cp with a DEST that ends in '/': each SRC keeps its name below DEST, and what is in "
        "'tree/' goes right below it.",
    .options = options,
    .min_operands = 2,
    .max_operands = CLI_ANY,
    .run = run,
};
