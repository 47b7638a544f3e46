/* cmd_cp.c - copy objects and directories, from any store to any other. */
#include "transfer.h"

static const struct cli_option options[] = {
    TRANSFER_OPTION_RECURSIVE, TRANSFER_OPTIONS,      TRANSFER_OPTION_REGEX,
    TRANSFER_OPTION_LINKS,     CLI_OPTION_VERSION_ID, CLI_FLOW_OPTION_COMPRESS,
    TRANSFER_OPTIONS_FLOW,     TRANSFER_OPTION_END,
};

static int run(struct cli *cli, const struct cli_args *args)
{
    struct transfer_options transfer = {0};
    int code = transfer_options_read(cli, args, &transfer);
    return code == CLI_OK ? transfer_run(cli, args, &transfer) : code;
}

const struct cli_verb cli_cmd_cp = {
    .name = "cp",
    .operands = "SRC... DEST",
    .summary = "copy objects or directories",
    .details =
        "SRC and DEST are URIs or local paths, of the same store or of two. A DEST that ends in "
        "'/', "
        "has no key or is a local directory is a directory: SRC keeps its name in it.\n\n"
        "With -r, SRC may be a directory. 'cp -r tree copy' makes copy what tree is, whether copy "
        "is "
        "there or not; 'cp -r tree copy/' makes copy/tree; 'tree/' stands for what is in tree. "
        "Without -r, 'tree/' stands for the objects right in it.\n\n"
        "What is there already, of the same size and CRC-32C, is not copied again, so a copy that "
        "was "
        "interrupted is completed by running it again.",
    .options = options,
    .min_operands = 2,
    .max_operands = CLI_ANY,
    .run = run,
};
