/* cmd_container.c - mb and rb: create and delete buckets, on file:// directories. */
#include "cli.h"

typedef pst_rc (*container_fn)(pst_store *store, pst_str name, const pst_call *call,
                               pst_error *err);

static int run_container(struct cli *cli, const struct cli_args *args, container_fn fn)
{
    struct cli_tally tally = {0};

    for (uint32_t i = 0; i < args->n_operands; i++) {
        struct cli_location location;
        int code = cli_location_parse(cli, args->operands[i], 0, &location);
        if (code == CLI_OK)
            code = cli_location_open(cli, &location);
        if (code == CLI_OK) {
            pst_error err = PST_ERROR_INIT;
            pst_str name = location.parts.key;
            pst_rc rc;
            if (name.len > 0 && name.ptr[name.len - 1] == '/')
                name.len--;
            rc = fn(location.store, name, &cli->call, &err);
            if (rc != PST_OK)
                code = cli_fail_rc(cli, rc, &err);
        }
        cli_location_fini(&location);
        cli_tally_add(&tally, code);
    }
    return cli_tally_exit(&tally);
}

static int run_mb(struct cli *cli, const struct cli_args *args)
{
    return run_container(cli, args, pst_container_create);
}

static int run_rb(struct cli *cli, const struct cli_args *args)
{
    return run_container(cli, args, pst_container_delete);
}

const struct cli_verb cli_cmd_mb = {
    .name = "mb",
    .operands = "URI...",
    .summary = "create buckets or containers; on file:// directories",
    .min_operands = 1,
    .max_operands = CLI_ANY,
    .run = run_mb,
};

const struct cli_verb cli_cmd_rb = {
    .name = "rb",
    .operands = "URI...",
    .summary = "delete empty buckets or containers; on file:// directories",
    .details = "One that is not empty is refused (exit 6).",
    .min_operands = 1,
    .max_operands = CLI_ANY,
    .run = run_rb,
};
