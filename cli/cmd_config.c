/* cmd_config.c - the value of every option and where it came from. */
#include <string.h>

#include "cli.h"

static pst_str text_of(const char *text)
{
    return pst_str_of(text, strlen(text));
}

static const char *source_name(uint32_t source)
{
    static const char *const names[] = {"default", "file", "environment", "explicit"};
    return source < sizeof(names) / sizeof(names[0]) ? names[source] : "unknown";
}

static void print_entry(struct cli *cli, const pst_config_entry *entry)
{
    struct cli_text_buf line = {0};

    if (cli_flag(cli->args, "json")) {
        cli_json_begin(&line);
        cli_json_text(&line, "plugin", text_of(entry->plugin));
        cli_json_text(&line, "option", text_of(entry->option));
        cli_json_bytes(&line, "value", text_of(entry->value));
        cli_json_text(&line, "source", text_of(source_name(entry->source)));
        cli_json_bytes(&line, "detail", text_of(entry->detail));
        cli_json_end(&line);
    } else {
        cli_addf(&line, "%s.%s = ", entry->plugin, entry->option);
        cli_add_printable(&line, text_of(entry->value));
        cli_addf(&line, "  (%s", source_name(entry->source));
        if (entry->detail[0]) {
            cli_addf(&line, ": ");
            cli_add_printable(&line, text_of(entry->detail));
        }
        cli_addf(&line, ")\n");
    }
    cli_put_text(cli, &line);
    cli_text_fini(&line);
}

static int run_config_show(struct cli *cli, const struct cli_args *args)
{
    pst_error err = PST_ERROR_INIT;
    pst_config_entry *entries = NULL;
    size_t n = 0;
    pst_rc rc;
    int code = cli_context(cli);

    if (code)
        return code;
    rc = pst_config_list(cli->context, args->n_operands ? args->operands[0] : NULL, &entries, &n,
                         &err);
    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, &err);
    for (size_t i = 0; i < n; i++)
        print_entry(cli, &entries[i]);
    pst_config_free(entries);
    return CLI_OK;
}

static const struct cli_option options[] = {
    {0, CLI_FLAG, "json", NULL, "one JSON object a line", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_config_show = {
    .name = "config show",
    .operands = "[PLUGIN]",
    .summary = "show each option's value and where it came from",
    .details =
        "What a store is opened with when nothing is given by --option: environment, then the "
        "configuration file, then the plugin's default. Secrets are shown as (secret).",
    .options = options,
    .max_operands = 1,
    .complete = CLI_COMPLETE_PLUGINS,
    .run = run_config_show,
};
