/* cmd_sync.c - make one directory what another is. */
#include "transfer.h"

static const struct cli_option options[] = {
    {0, CLI_FLAG, "delete", NULL, "delete objects of DEST that SRC does not have", NULL, 0, 0},
    TRANSFER_OPTIONS,
    TRANSFER_OPTION_LINKS,
    TRANSFER_OPTIONS_FLOW,
    TRANSFER_OPTION_END,
};

static int run(struct cli *cli, const struct cli_args *args)
{
    struct transfer_options transfer = {.is_sync = true,
                                        .is_recursive = true,
                                        .is_target_directory = true,
                                        .deletes_extras = cli_flag(args, "delete") > 0};
    int code = transfer_options_read(cli, args, &transfer);
    return code == CLI_OK ? transfer_run(cli, args, &transfer) : code;
}

const struct cli_verb cli_cmd_sync = {
    .name = "sync",
    .operands = "SRC DEST",
    .summary = "copy what differs from one directory to another",
    .details =
        "Everything below SRC goes to the same name below DEST, a slash at the end of either makes "
        "no "
        "difference. Objects of the same size and CRC-32C are left alone.\n\n"
        "--delete deletes from DEST what SRC does not have, empty directories included: only after "
        "everything was copied without a failure, and not at all when SRC holds no object. See it "
        "beforehand with --dry-run.",
    .options = options,
    .min_operands = 2,
    .max_operands = 2,
    .run = run,
};
