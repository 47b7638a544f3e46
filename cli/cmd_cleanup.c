/* cmd_cleanup.c - remove what writers that died left behind: temporary files, unfinished uploads. */
#include "cli.h"

static int clean_location(struct cli *cli, struct cli_location *location)
{
    const struct cli_args *args = cli->args;
    uint64_t n_removed = 0, n_bytes = 0;
    pst_error err = PST_ERROR_INIT;
    struct cli_text_buf prefix = {0};
    bool is_dry_run = cli_flag(args, "dry-run") > 0;
    pst_rc rc;
    int code = cli_location_open(cli, location);

    if (code)
        return code;
    /* A directory, slash or not: leftovers of "dirfoo" are not those of "dir". No look whether it is
     * there, an unfinished upload may be all that a prefix has. */
    cli_add(&prefix, location->parts.key.ptr, location->parts.key.len);
    if (!location->is_directory)
        cli_add(&prefix, "/", 1);
    rc = pst_cleanup(location->store, pst_str_of(prefix.data, prefix.len),
                     cli_number(args, "older-than") / 1000, is_dry_run ? PST_CLEAN_DRY_RUN : 0,
                     &cli->call, &n_removed, &n_bytes, &err);
    cli_text_fini(&prefix);
    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, &err);
    if (cli_flag(args, "json")) {
        cli_printf(cli, "{\"removed\":%llu,\"bytes\":%llu,\"dry_run\":%s}\n",
                   (unsigned long long)n_removed, (unsigned long long)n_bytes,
                   is_dry_run ? "true" : "false");
    } else {
        struct cli_text_buf size = {0};
        cli_add_human(&size, n_bytes);
        cli_printf(cli, "%s %llu leftovers, %.*s\n", is_dry_run ? "would remove" : "removed",
                   (unsigned long long)n_removed, (int)size.len, size.data);
        cli_text_fini(&size);
    }
    return CLI_OK;
}

static int run_cleanup(struct cli *cli, const struct cli_args *args)
{
    struct cli_location location;
    int code = cli_location_parse(cli, args->operands[0], 0, &location);

    if (code)
        return code;
    code = clean_location(cli, &location);
    cli_location_fini(&location);
    return code;
}

static const struct cli_option options[] = {
    {0, CLI_DURATION, "older-than", "DURATION", "only what is older than this", "1d", 0, 0},
    {'n', CLI_FLAG, "dry-run", NULL, "count and remove nothing", NULL, 0, 0},
    {0, CLI_FLAG, "json", NULL, "print the counts as one JSON object", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_cleanup = {
    .name = "cleanup",
    .operands = "URI",
    .summary = "remove what writers that died left behind",
    .details =
        "Temporary files and unfinished uploads below URI; objects are never touched. Choose "
        "--older-than longer than any write that may still be running.",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
    .run = run_cleanup,
};
