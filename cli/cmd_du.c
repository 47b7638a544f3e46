/* cmd_du.c - how much lies below a location: one line for each directory right below it, then the
 * total. Sums are kept by name, so any order of the listing will do; memory grows with the number of
 * first-level directories, never with the number of objects. */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

struct usage {
    pst_str key; /* owned; the whole key, ending in '/' */
    uint64_t n_objects, n_bytes;
};

struct summer {
    struct cli *cli;
    const struct cli_location *location;
    void *by_name; /* tsearch(3) */
    struct usage *last;
    struct usage total;
};

static int compare_usage(const void *a, const void *b)
{
    const struct usage *x = a, *y = b;
    size_t len = x->key.len < y->key.len ? x->key.len : y->key.len;
    int order = len ? memcmp(x->key.ptr, y->key.ptr, len) : 0;
    return order ? order : (x->key.len > y->key.len) - (x->key.len < y->key.len);
}

static void free_usage(void *node)
{
    struct usage *usage = node;
    free((void *)(uintptr_t)usage->key.ptr);
    free(usage);
}

/* The sum of the first-level directory that begins `key`. */
static struct usage *find_usage(struct summer *summer, pst_str key)
{
    struct usage wanted = {.key = key};
    struct usage *usage, **node;

    if (summer->last && compare_usage(summer->last, &wanted) == 0)
        return summer->last;
    node = tfind(&wanted, &summer->by_name, compare_usage);
    if (node) {
        summer->last = *node;
        return *node;
    }
    usage = cli_alloc(1, sizeof(*usage));
    usage->key = pst_str_of(cli_dup(key.ptr, key.len), key.len);
    node = tsearch(usage, &summer->by_name, compare_usage);
    if (!node)
        exit(cli_fail(summer->cli, CLI_IO, "out of memory"));
    summer->last = usage;
    return usage;
}

static int add_entry(void *arg, const pst_entry *entry, pst_str relative)
{
    struct summer *summer = arg;
    const char *slash = relative.len ? memchr(relative.ptr, '/', relative.len) : NULL;

    if (entry->kind != PST_KIND_OBJECT)
        return CLI_OK;
    summer->total.n_objects++;
    summer->total.n_bytes += entry->size;
    if (slash) {
        size_t len = (size_t)(slash + 1 - entry->key.ptr);
        struct usage *usage = find_usage(summer, pst_str_of(entry->key.ptr, len));
        usage->n_objects++;
        usage->n_bytes += entry->size;
    }
    return cli_interrupted(summer->cli) ? CLI_INTERRUPTED : CLI_OK;
}

static void print_usage(const struct summer *summer, const struct usage *usage, bool is_total)
{
    struct cli *cli = summer->cli;
    struct cli_text_buf line = {0}, uri = {0};

    cli_add_uri(&uri, summer->location, usage->key);
    if (cli_flag(cli->args, "json")) {
        cli_json_begin(&line);
        cli_json_bytes(&line, "uri", pst_str_of(uri.data, uri.len));
        cli_json_number(&line, "bytes", usage->n_bytes);
        cli_json_number(&line, "objects", usage->n_objects);
        cli_json_bool(&line, "total", is_total);
        cli_json_end(&line);
        cli_put_text(cli, &line);
    } else {
        struct cli_text_buf size = {0};
        if (cli_flag(cli->args, "human"))
            cli_add_human(&size, usage->n_bytes);
        else
            cli_addf(&size, "%llu", (unsigned long long)usage->n_bytes);
        cli_addf(&line, "%14.*s  %10llu  ", (int)size.len, size.data,
                 (unsigned long long)usage->n_objects);
        cli_text_fini(&size);
        cli_put_text(cli, &line);
        cli_put_uri(cli, pst_str_of(uri.data, uri.len));
        cli_put(cli, "\n", 1);
    }
    cli_text_fini(&line);
    cli_text_fini(&uri);
}

static void print_node(const void *node, VISIT visit, void *arg)
{
    if (visit == postorder || visit == leaf)
        print_usage(arg, *(struct usage *const *)node, false);
}

static int sum_location(struct cli *cli, struct cli_location *location, struct cli_regex *regex)
{
    struct summer summer = {.cli = cli, .location = location};
    struct cli_base base = {0};
    struct cli_walk walk = {.location = location,
                            .base = &base,
                            .regex = regex,
                            .fn = add_entry,
                            .flags = PST_LISTING_RECURSIVE | PST_LISTING_UNORDERED,
                            .arg = &summer};
    int code = cli_location_open(cli, location);

    if (code)
        return code;
    code = cli_base_find(cli, location, &base);
    if (code)
        return code;
    code = cli_walk(cli, &walk);
    if (code == CLI_OK) {
        if (!cli_flag(cli->args, "summarize"))
            twalk_r(summer.by_name, print_node, &summer);
        summer.total.key = pst_str_of(base.prefix, base.prefix_len);
        print_usage(&summer, &summer.total, true);
    }
    tdestroy(summer.by_name, free_usage);
    cli_base_fini(&base);
    return code;
}

static int run_du(struct cli *cli, const struct cli_args *args)
{
    struct cli_regex *regex = NULL;
    struct cli_tally tally = {0};
    int code = cli_regex_new(cli, cli_text(args, "regex"), &regex);

    if (code)
        return code;
    for (uint32_t i = 0; i < args->n_operands; i++) {
        struct cli_location location;
        code = cli_location_parse(cli, args->operands[i], 0, &location);
        if (code == CLI_OK) {
            code = sum_location(cli, &location, regex);
            cli_location_fini(&location);
        }
        cli_tally_add(&tally, code);
    }
    cli_regex_free(regex);
    return cli_tally_exit(&tally);
}

static const struct cli_option options[] = {
    {'h', CLI_FLAG, "human", NULL, "sizes like 1.5 MiB", NULL, 0, 0},
    {'s', CLI_FLAG, "summarize", NULL, "only the total", NULL, 0, 0},
    {'p', CLI_TEXT, "regex", "REGEX", "only objects whose path below the URI matches (PCRE2)", NULL,
     0, 0},
    {0, CLI_FLAG, "json", NULL, "one JSON object a line", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_du = {
    .name = "du",
    .operands = "URI...",
    .summary = "sum up the sizes of all objects below",
    .details = "Prints bytes, number of objects and URI of each directory right below, then of the "
               "whole. Sizes are those of the objects, not of the disk blocks that hold them.",
    .options = options,
    .min_operands = 1,
    .max_operands = CLI_ANY,
    .run = run_du,
};
