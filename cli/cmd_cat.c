/* cmd_cat.c - whole objects to standard output, one after the other. */
#include "cli.h"

static int cat_location(struct cli *cli, struct cli_location *location, pst_str version)
{
    const pst_read_options options = {.struct_size = sizeof(options), .version = version};
    struct cli_stream stream = {
        .length = PST_UNKNOWN, .options = &options, .sink = cli_sink_stdout, .arg = cli};
    int code = cli_location_open(cli, location);

    if (code)
        return code;
    stream.store = location->store;
    stream.key = location->parts.key;
    stream.name = location->uri;
    return cli_stream_read(cli, &stream);
}

static int run_cat(struct cli *cli, const struct cli_args *args)
{
    struct cli_tally tally = {0};
    pst_str version;
    int usage = cli_version_id(cli, args, &version);

    if (usage)
        return usage;
    for (uint32_t i = 0; i < args->n_operands && !cli_output_closed(cli); i++) {
        struct cli_location location;
        int code = cli_location_parse(cli, args->operands[i], 0, &location);
        if (code == CLI_OK) {
            code = cat_location(cli, &location, version);
            cli_location_fini(&location);
        }
        cli_tally_add(&tally, code);
    }
    return cli_tally_exit(&tally);
}

static const struct cli_option options[] = {
    CLI_OPTION_VERSION_ID,
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_cat = {
    .name = "cat",
    .operands = "URI...",
    .summary = "write objects to standard output, one after the other",
    .details =
        "Each object is read by ranges, so memory stays bounded however large it is. One that "
        "changes while it is read is an error (exit 7) after what was written so far.",
    .options = options,
    .min_operands = 1,
    .max_operands = CLI_ANY,
    .run = run_cat,
};
