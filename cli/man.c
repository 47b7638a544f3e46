/* man.c - penstock.1, made from the tables of verbs and options (hidden verb "__man").
 *
 * The build runs it and installs the result. Every text is escaped for roff, so that a '-' stays a
 * minus that can be pasted and a line may start with a full stop. */
#include <stdlib.h>
#include <string.h>

#include "frame.h"

static void add_roff(struct cli_text_buf *buf, const char *text, size_t len)
{
    bool is_line_start = true;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (is_line_start && (c == '.' || c == '\''))
            cli_add(buf, "\\&", 2);
        if (c == '\\')
            cli_add(buf, "\\e", 2);
        else if (c == '-')
            cli_add(buf, "\\-", 2);
        else
            cli_add(buf, &c, 1);
        is_line_start = c == '\n';
    }
}

static void add_text(struct cli_text_buf *buf, const char *text)
{
    add_roff(buf, text, strlen(text));
}

static void add_option(struct cli_text_buf *buf, const struct cli_option *option)
{
    cli_addf(buf, ".TP\n");
    if (option->letter)
        cli_addf(buf, "\\fB\\-%c\\fR, ", option->letter);
    cli_addf(buf, "\\fB\\-\\-");
    add_text(buf, option->name);
    cli_addf(buf, "\\fR");
    if (option->value) {
        cli_addf(buf, "=\\fI");
        add_text(buf, option->value);
        cli_addf(buf, "\\fR");
    }
    cli_addf(buf, "\n");
    add_text(buf, option->help);
    if (option->fallback) {
        cli_addf(buf, " (default: ");
        add_text(buf, option->fallback);
        cli_addf(buf, ")");
    }
    cli_addf(buf, ".\n");
}

static void add_options(struct cli_text_buf *buf, const struct cli_option *options)
{
    for (; options && options->name; options++)
        add_option(buf, options);
}

static void add_details(struct cli_text_buf *buf, const char *details)
{
    while (details && *details) {
        const char *end = strstr(details, "\n\n");
        size_t len = end ? (size_t)(end - details) : strlen(details);
        bool is_example = strncmp(details, "  ", 2) == 0;
        cli_addf(buf, is_example ? ".PP\n.nf\n" : ".PP\n");
        add_roff(buf, details, len);
        cli_addf(buf, is_example ? "\n.fi\n" : "\n");
        details = end ? end + 2 : NULL;
    }
}

static void add_verb(struct cli_text_buf *buf, const struct cli_verb *verb)
{
    cli_addf(buf, ".SS ");
    add_text(buf, verb->name);
    cli_addf(buf, "%s", verb->operands[0] ? " " : "");
    add_text(buf, verb->operands);
    cli_addf(buf, "\n");
    add_text(buf, verb->summary);
    cli_addf(buf, ".\n");
    add_details(buf, verb->details);
    add_options(buf, verb->options);
}

static const char head[] = ".SH NAME\n"
                           "penstock \\- objects and files in any store that a plugin serves\n"
                           ".SH SYNOPSIS\n"
                           ".B penstock\n"
                           "\\fICOMMAND\\fR [\\fIOPTIONS\\fR] \\fIARGUMENTS\\fR\n"
                           ".SH DESCRIPTION\n"
                           "Lists, reads, writes, copies and removes objects. The plugin that "
                           "serves a URI's scheme is found\n"
                           "by its manifest and loaded when it is first needed.\n"
                           ".PP\n"
                           "A location is a URI, \\fIscheme\\fR://\\fIauthority\\fR/\\fIkey\\fR, "
                           "whose key is every byte after\n"
                           "the authority and its slash: nothing is decoded, and what \\fBls\\fR "
                           "prints can be pasted back.\n"
                           "Anything without :// is a local path; a scheme is never guessed. \\- "
                           "is standard input or output.\n"
                           "Sources come before the destination.\n";

static const char tail[] =
    ".SH EXIT STATUS\n"
    ".TP\n0\nDone. A reader that closed standard output early is no error.\n"
    ".TP\n1\nSome items failed, others did not, or they failed in different ways; each has its "
    "line.\n"
    ".TP\n2\nUsage: command, option, URI, scheme, plugin, or what the store cannot do.\n"
    ".TP\n3\nNot found.\n"
    ".TP\n4\nDenied or not authenticated.\n"
    ".TP\n5\nUnavailable, throttled or out of time.\n"
    ".TP\n6\nAlready there, or a precondition failed.\n"
    ".TP\n7\nData loss, changed while it was read, or a range beyond the end.\n"
    ".TP\n8\nNo space, input or output error.\n"
    ".TP\n130\nInterrupted (128 plus the signal's number).\n"
    ".SH ENVIRONMENT\n"
    ".TP\nPENSTOCK_PLUGIN_PATH\nDirectories with plugins, separated by colons.\n"
    ".TP\nPENSTOCK_CONFIG\nThe configuration file, JSON: {\"plugin\": {\"option\": \"value\"}}.\n"
    ".PP\nThe variables that set a plugin's options are shown by \\fBpenstock plugins show\\fR.\n";

static int run_man(struct cli *cli, const struct cli_args *args)
{
    struct cli_text_buf page = {0};

    (void)args;
    cli_addf(&page, ".TH PENSTOCK 1 \"\" \"penstock %s\" \"User Commands\"\n%s", pst_version(),
             head);
    cli_addf(&page, ".SH COMMANDS\n");
    for (size_t i = 0; cli_verbs[i]; i++) {
        if (!cli_verbs[i]->is_hidden)
            add_verb(&page, cli_verbs[i]);
    }
    cli_addf(&page, ".SH OPTIONS OF EVERY COMMAND\n");
    add_options(&page, cli_global_options);
    cli_addf(&page, "%s", tail);
    cli_put_text(cli, &page);
    cli_text_fini(&page);
    return CLI_OK;
}

const struct cli_verb cli_cmd_man = {
    .name = "__man",
    .operands = "",
    .summary = "print the manual page",
    .is_hidden = true,
    .run = run_man,
};
