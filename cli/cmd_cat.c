/* cmd_cat.c - whole objects to standard output, one after the other. */
#include "flow.h"

static int cat_location(struct cli *cli, struct cli_flow *flow, struct cli_location *location,
                        pst_str version)
{
    pst_read_options options = {.struct_size = sizeof(options), .version = version};
    pst_read_info info = {.struct_size = sizeof(info)};
    struct cli_stream stream = {
        .length = PST_UNKNOWN, .options = &options, .sink = cli_sink_stdout, .arg = cli};
    int code = cli_location_open(cli, location);

    if (code)
        return code;
    cli_flow_read_options(flow, &options);
    options.flags |= PST_READ_CRC32C;
    stream.store = location->store;
    stream.key = location->parts.key;
    stream.name = location->uri;
    stream.info = &info;
    code = cli_stream_read(cli, &stream);
    if (code == CLI_OK) {
        cli_verify_read(cli, flow, &stream);
        cli_flow_add_read(flow, &info);
        cli_flow_add_object(flow, info.n_read, info.n_read);
        cli_flow_add_crc(flow, info.crc32c);
    }
    cli_flow_add_store(flow, location->uri, location->store);
    return code;
}

static int run_cat(struct cli *cli, const struct cli_args *args)
{
    struct cli_tally tally = {0};
    struct cli_flow flow = {0};
    pst_str version;
    int code = cli_flow_init(cli, args, &flow);

    if (code == CLI_OK)
        code = cli_version_id(cli, args, &version);
    if (code) {
        cli_flow_fini(&flow);
        return code;
    }
    for (uint32_t i = 0; i < args->n_operands && !cli_output_closed(cli); i++) {
        struct cli_location location;
        code = cli_location_parse(cli, args->operands[i], 0, &location);
        if (code == CLI_OK) {
            code = cat_location(cli, &flow, &location, version);
            cli_location_fini(&location);
        }
        cli_tally_add(&tally, code);
    }
    cli_flow_tell(cli, &flow);
    cli_flow_fini(&flow);
    return cli_tally_exit(&tally);
}

static const struct cli_option options[] = {
    CLI_OPTION_VERSION_ID,
    CLI_FLOW_OPTIONS,
    CLI_FLOW_OPTION_JSON,
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
