/* cmd_mv.c - move objects and directories: rename where one store can, else copy, check, delete. */
#include "transfer.h"

/* No --size-time: what it takes for identical is not sure enough to delete the source for. */
static const struct cli_option options[] = {
    TRANSFER_OPTION_RECURSIVE, TRANSFER_OPTIONS_WITHOUT_TIME, TRANSFER_OPTION_REGEX,
    TRANSFER_OPTIONS_FLOW,     TRANSFER_OPTION_END,
};

static int run(struct cli *cli, const struct cli_args *args)
{
    struct transfer_options transfer = {.is_move = true};
    int code = transfer_options_read(cli, args, &transfer);
    return code == CLI_OK ? transfer_run(cli, args, &transfer) : code;
}

const struct cli_verb cli_cmd_mv = {
    .name = "mv",
    .operands = "SRC... DEST",
    .summary = "move objects or directories",
    .details =
        "Names work as with cp. Within one store that can, objects are renamed; else each is "
        "copied, "
        "the copy is looked at, and only then the source is deleted. A source whose copy failed "
        "stays.\n\n"
        "A local directory that holds symbolic links is not moved at all: their targets would "
        "leave "
        "from under them.",
    .options = options,
    .min_operands = 2,
    .max_operands = CLI_ANY,
    .run = run,
};
