/* help.c - help texts, made from the tables of verbs and options.
 *
 * A verb's `details` are paragraphs separated by empty lines; one that starts with two spaces is an
 * example and is printed as it is, the others are wrapped. man.c follows the same rule. */
#include <stdlib.h>
#include <string.h>

#include "frame.h"

#define WIDTH 80u
#define OPTION_COLUMN 27u

/* "-j, --jobs=N". */
static void add_option_names(struct cli_text_buf *buf, const struct cli_option *option)
{
    if (option->letter)
        cli_addf(buf, "-%c, ", option->letter);
    else
        cli_addf(buf, "    ");
    cli_addf(buf, "--%s", option->name);
    if (option->value)
        cli_addf(buf, "=%s", option->value);
}

/* Append `text` wrapped at WIDTH; it begins at `column`, later lines after `indent` spaces. */
static void add_wrapped(struct cli_text_buf *buf, const char *text, size_t column, size_t indent)
{
    bool is_line_start = true;

    while (*text) {
        size_t len = strcspn(text, " \n");
        if (!is_line_start && column + 1 + len > WIDTH) {
            cli_addf(buf, "\n%*s", (int)indent, "");
            column = indent;
            is_line_start = true;
        }
        if (!is_line_start) {
            cli_add(buf, " ", 1);
            column++;
        }
        cli_add(buf, text, len);
        column += len;
        is_line_start = false;
        text += len;
        text += strspn(text, " \n");
    }
    cli_add(buf, "\n", 1);
}

static void add_option_help(struct cli_text_buf *buf, const struct cli_option *option)
{
    struct cli_text_buf help = {0};
    size_t start = buf->len;
    size_t column;

    cli_addf(buf, "  ");
    add_option_names(buf, option);
    column = buf->len - start;
    if (column + 2 > OPTION_COLUMN) {
        cli_addf(buf, "\n%*s", (int)OPTION_COLUMN, "");
    } else {
        cli_addf(buf, "%*s", (int)(OPTION_COLUMN - column), "");
    }
    cli_addf(&help, "%s", option->help);
    if (option->fallback)
        cli_addf(&help, " (default: %s)", option->fallback);
    cli_add(&help, "", 1);
    add_wrapped(buf, help.data, OPTION_COLUMN, OPTION_COLUMN);
    cli_text_fini(&help);
}

static void add_options(struct cli_text_buf *buf, const struct cli_option *options,
                        const char *title)
{
    if (!options || !options[0].name)
        return;
    cli_addf(buf, "\n%s:\n", title);
    for (; options->name; options++)
        add_option_help(buf, options);
}

static void add_details(struct cli_text_buf *buf, const char *details)
{
    while (details && *details) {
        const char *end = strstr(details, "\n\n");
        size_t len = end ? (size_t)(end - details) : strlen(details);
        cli_add(buf, "\n", 1);
        if (strncmp(details, "  ", 2) == 0) {
            cli_add(buf, details, len);
            cli_add(buf, "\n", 1);
        } else {
            char *paragraph = cli_dup(details, len);
            add_wrapped(buf, paragraph, 0, 0);
            free(paragraph);
        }
        details = end ? end + 2 : NULL;
    }
}

static void add_verb_help(struct cli_text_buf *buf, const struct cli_verb *verb)
{
    cli_addf(buf, "Usage: penstock %s [OPTIONS]%s%s\n\n", verb->name, verb->operands[0] ? " " : "",
             verb->operands);
    cli_addf(buf, "%s.\n", verb->summary);
    add_details(buf, verb->details);
    add_options(buf, verb->options, "Options");
    cli_addf(buf, "\nOptions of every command: see 'penstock help'.\n");
}

static void add_command_help(struct cli_text_buf *buf)
{
    cli_addf(buf, "Usage: penstock COMMAND [OPTIONS] ARGUMENTS\n\n"
                  "Objects and files in any store that a plugin serves. A location is a URI, or a\n"
                  "plain path for a local file; '-' is standard input or output.\n\nCommands:\n");
    for (size_t i = 0; cli_verbs[i]; i++) {
        if (!cli_verbs[i]->is_hidden)
            cli_addf(buf, "  %-17s %s\n", cli_verbs[i]->name, cli_verbs[i]->summary);
    }
    add_options(buf, cli_global_options, "Options of every command");
    cli_addf(buf,
             "\nExit codes: 0 done, 1 some items failed, 2 usage, 3 not found, 4 denied,\n"
             "5 unavailable or timeout, 6 exists or precondition, 7 data loss or range beyond\n"
             "the end, 8 no space or I/O error, 130 interrupted.\n"
             "More: penstock help COMMAND, man penstock.\n");
}

int cli_help(struct cli *cli, const struct cli_verb *verb)
{
    struct cli_text_buf text = {0};

    if (verb)
        add_verb_help(&text, verb);
    else
        add_command_help(&text);
    cli_put_text(cli, &text);
    cli_text_fini(&text);
    return CLI_OK;
}

bool cli_help_group(struct cli *cli, const char *group)
{
    struct cli_text_buf text = {0};
    size_t len = strlen(group);
    bool is_group = false;

    cli_addf(&text, "Usage: penstock %s COMMAND [OPTIONS] ARGUMENTS\n\nCommands:\n", group);
    for (size_t i = 0; cli_verbs[i]; i++) {
        const struct cli_verb *verb = cli_verbs[i];
        if (strncmp(verb->name, group, len) != 0 || verb->name[len] != ' ')
            continue;
        is_group = true;
        cli_addf(&text, "  %-17s %s\n", verb->name, verb->summary);
    }
    cli_addf(&text, "\nMore: penstock help %s COMMAND.\n", group);
    if (is_group)
        cli_put_text(cli, &text);
    cli_text_fini(&text);
    return is_group;
}

static int run_help(struct cli *cli, const struct cli_args *args)
{
    const struct cli_verb *verb = NULL;
    uint32_t n_words = 0;
    int code;

    if (args->n_operands == 0)
        return cli_help(cli, NULL);
    if (args->n_operands == 1 && cli_help_group(cli, args->operands[0]))
        return CLI_OK;
    code = cli_find_verb(cli, args->operands, args->n_operands, &verb, &n_words);
    if (code)
        return code;
    if (n_words < args->n_operands)
        return cli_usage(cli, "takes one command, but got '%s' too", args->operands[n_words]);
    return cli_help(cli, verb);
}

const struct cli_verb cli_cmd_help = {
    .name = "help",
    .operands = "[COMMAND]",
    .summary = "show how a command is used",
    .max_operands = 2,
    .complete = CLI_COMPLETE_NOTHING,
    .run = run_help,
};
