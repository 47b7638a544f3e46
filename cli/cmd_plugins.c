/* cmd_plugins.c - which plugins were found, which were not used and why, what one of them offers, and
 * the manifest that makes one known. Nothing but `manifest` runs a plugin's code. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static pst_str text_of(const char *text)
{
    return pst_str_of(text, strlen(text));
}

static const char *state_name(uint32_t state)
{
    static const char *const names[] = {"found", "loaded", "shadowed", "skipped", "static"};
    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

static bool is_usable(const pst_plugin_info *info)
{
    return info->state != PST_PLUGIN_SHADOWED && info->state != PST_PLUGIN_SKIPPED;
}

static const char *or_dash(const char *text)
{
    return text[0] ? text : "-";
}

/* ---- list ----------------------------------------------------------------------------------------- */

static void print_json(struct cli *cli, const pst_plugin_info *info)
{
    struct cli_text_buf line = {0}, caps = {0};

    cli_add_caps(&caps, info->caps);
    cli_json_begin(&line);
    cli_json_text(&line, "id", text_of(info->id));
    cli_json_text(&line, "version", text_of(info->version));
    cli_json_text(&line, "vendor", text_of(info->vendor));
    cli_json_text(&line, "license", text_of(info->license));
    cli_json_text(&line, "state", text_of(state_name(info->state)));
    cli_json_text(&line, "schemes", text_of(info->schemes));
    cli_json_text(&line, "capabilities", pst_str_of(caps.data, caps.len));
    cli_json_bytes(&line, "manifest", text_of(info->manifest_path));
    cli_json_bytes(&line, "library", text_of(info->library_path));
    cli_json_bytes(&line, "reason", text_of(info->reason));
    cli_json_end(&line);
    cli_put_text(cli, &line);
    cli_text_fini(&line);
    cli_text_fini(&caps);
}

static void print_row(struct cli *cli, const pst_plugin_info *info, bool has_reason)
{
    struct cli_text_buf line = {0};

    cli_addf(&line, "%-16s %-10s %-9s %-20s ", or_dash(info->id), or_dash(info->version),
             state_name(info->state), or_dash(info->schemes));
    cli_add_printable(&line, text_of(has_reason && info->manifest_path[0] ? info->manifest_path
                                                                          : info->library_path));
    cli_add(&line, "\n", 1);
    if (has_reason && info->reason[0]) {
        cli_addf(&line, "    ");
        cli_add_printable(&line, text_of(info->reason));
        cli_add(&line, "\n", 1);
    }
    cli_put_text(cli, &line);
    cli_text_fini(&line);
}

static int load_infos(struct cli *cli, pst_plugin_info **infos, size_t *n)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;
    int code = cli_context(cli);

    if (code)
        return code;
    rc = pst_plugins_list(cli->context, infos, n, &err);
    return rc == PST_OK ? CLI_OK : cli_fail_rc(cli, rc, &err);
}

static int run_list(struct cli *cli, const struct cli_args *args)
{
    bool has_reason = cli_flag(args, "why") > 0, is_json = cli_flag(args, "json") > 0;
    pst_plugin_info *infos = NULL;
    size_t n = 0, n_hidden = 0;
    int code = load_infos(cli, &infos, &n);

    if (code)
        return code;
    if (!is_json)
        cli_printf(cli, "%-16s %-10s %-9s %-20s %s\n", "PLUGIN", "VERSION", "STATE", "SCHEMES",
                   has_reason ? "MANIFEST" : "LIBRARY");
    for (size_t i = 0; i < n; i++) {
        if (!has_reason && !is_usable(&infos[i]))
            n_hidden++;
        else if (is_json)
            print_json(cli, &infos[i]);
        else
            print_row(cli, &infos[i], has_reason);
    }
    pst_plugins_free(infos);
    if (n_hidden > 0)
        cli_note(cli, "%zu more cannot be used: --why tells the reason", n_hidden);
    return CLI_OK;
}

static const struct cli_option list_options[] = {
    {0, CLI_FLAG, "why", NULL, "also what was skipped or shadowed, with the reason", NULL, 0, 0},
    {0, CLI_FLAG, "json", NULL, "one JSON object a line", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_plugins_list = {
    .name = "plugins list",
    .operands = "",
    .summary = "list the plugins that were found",
    .details = "Searched in this order: --plugin-dir, $PENSTOCK_PLUGIN_PATH, the folder beside the "
               "library, system directories. The first of an id wins.",
    .options = list_options,
    .complete = CLI_COMPLETE_NOTHING,
    .run = run_list,
};

/* ---- show ----------------------------------------------------------------------------------------- */

static void add_fact(struct cli_text_buf *text, const char *label, const char *value)
{
    if (!value[0])
        return;
    cli_addf(text, "%-13s: ", label);
    cli_add_printable(text, text_of(value));
    cli_add(text, "\n", 1);
}

static void add_options(struct cli_text_buf *text, const pst_config_entry *entries, size_t n)
{
    if (n > 0)
        cli_addf(text, "Options:\n");
    for (size_t i = 0; i < n; i++) {
        cli_addf(text, "  %s (%s)", entries[i].option, entries[i].type);
        if (entries[i].source == PST_SOURCE_DEFAULT && entries[i].value[0])
            cli_addf(text, ", default %s", entries[i].value);
        if (entries[i].env[0])
            cli_addf(text, ", from %s", entries[i].env);
        cli_addf(text, "\n      %s\n", entries[i].doc);
    }
}

static int show(struct cli *cli, const pst_plugin_info *info)
{
    struct cli_text_buf text = {0}, caps = {0};
    pst_config_entry *entries = NULL;
    pst_error err = PST_ERROR_INIT;
    size_t n = 0;
    pst_rc rc = PST_OK;

    if (is_usable(info))
        rc = pst_config_list(cli->context, info->id, &entries, &n, &err);
    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, &err);
    cli_add_caps(&caps, info->caps);
    cli_add(&caps, "", 1);
    add_fact(&text, "Plugin", info->id);
    add_fact(&text, "Version", info->version);
    add_fact(&text, "Vendor", info->vendor);
    add_fact(&text, "License", info->license);
    add_fact(&text, "Schemes", info->schemes);
    add_fact(&text, "State", state_name(info->state));
    add_fact(&text, "Reason", info->reason);
    add_fact(&text, "Manifest", info->manifest_path);
    add_fact(&text, "Library", info->library_path);
    add_fact(&text, "Capabilities", caps.data);
    add_options(&text, entries, n);
    cli_put_text(cli, &text);
    cli_text_fini(&text);
    cli_text_fini(&caps);
    pst_config_free(entries);
    return CLI_OK;
}

static int run_show(struct cli *cli, const struct cli_args *args)
{
    const char *id = args->operands[0];
    const pst_plugin_info *found = NULL;
    pst_plugin_info *infos = NULL;
    size_t n = 0;
    int code = load_infos(cli, &infos, &n);

    if (code)
        return code;
    /* One that can be used wins over one of the same id that cannot. */
    for (size_t i = 0; i < n; i++) {
        if (strcmp(infos[i].id, id) == 0 && (!found || (!is_usable(found) && is_usable(&infos[i]))))
            found = &infos[i];
    }
    if (!found)
        code = cli_fail(cli, CLI_NOT_FOUND, "%s: no plugin has that name (penstock plugins list)",
                        id);
    else if (cli_flag(args, "json"))
        print_json(cli, found);
    else
        code = show(cli, found);
    pst_plugins_free(infos);
    return code;
}

static const struct cli_option show_options[] = {
    {0, CLI_FLAG, "json", NULL, "one JSON object; its options are in the manifest", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_plugins_show = {
    .name = "plugins show",
    .operands = "ID",
    .summary = "show what a plugin offers and its options",
    .options = show_options,
    .min_operands = 1,
    .max_operands = 1,
    .complete = CLI_COMPLETE_PLUGINS,
    .run = run_show,
};

/* ---- manifest ------------------------------------------------------------------------------------- */

/* Whole or not at all: hosts scan the folder while we write. */
static int write_file(struct cli *cli, const char *path, const char *text)
{
    struct cli_text_buf temporary = {0};
    FILE *file;
    int code = CLI_OK;

    cli_addf(&temporary, "%s.tmp", path);
    cli_add(&temporary, "", 1);
    file = fopen(temporary.data, "we");
    if (!file) {
        code = cli_fail_errno(cli, errno, "%s", temporary.data);
    } else {
        bool is_written = fputs(text, file) >= 0;
        int sys_errno = errno;
        if (fclose(file) != 0) {
            is_written = false;
            sys_errno = errno;
        }
        if (is_written && rename(temporary.data, path) != 0) {
            is_written = false;
            sys_errno = errno;
        }
        if (!is_written) {
            code = cli_fail_errno(cli, sys_errno, "%s", path);
            remove(temporary.data);
        }
    }
    cli_text_fini(&temporary);
    return code;
}

static int run_manifest(struct cli *cli, const struct cli_args *args)
{
    const char *output = cli_text(args, "output");
    pst_error err = PST_ERROR_INIT;
    char *json = NULL;
    int code = CLI_OK;
    pst_rc rc = pst_plugins_manifest(args->operands[0], &json, &err);

    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, &err);
    if (output)
        code = write_file(cli, output, json);
    else
        cli_put(cli, json, strlen(json));
    free(json);
    return code;
}

static const struct cli_option manifest_options[] = {
    {'o', CLI_TEXT, "output", "FILE", "write it here instead of standard output", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_plugins_manifest = {
    .name = "plugins manifest",
    .operands = "FILE",
    .summary = "make the manifest of a plugin's library",
    .details =
        "Loads FILE and writes the JSON by which hosts find it; it belongs beside FILE under "
        "the same name with .json. pst_add_plugin() of the CMake package does this.",
    .options = manifest_options,
    .min_operands = 1,
    .max_operands = 1,
    .run = run_manifest,
};
