/* walk.c - everything below a base, entry by entry, as ls, du and rm see it. */
#include <string.h>

#include "cli.h"

static int walk_object(const struct cli_walk *walk)
{
    const struct cli_base *base = walk->base;
    pst_entry entry = {.kind = PST_KIND_OBJECT, .size = base->size, .mtime_ns = base->mtime_ns};
    const char *slash = memrchr(base->prefix, '/', base->prefix_len);
    size_t start = slash ? (size_t)(slash - base->prefix) + 1 : 0;
    pst_str relative = pst_str_of(base->prefix + start, base->prefix_len - start);

    entry.key = pst_str_of(base->prefix, base->prefix_len);
    return cli_regex_matches(walk->regex, relative) ? walk->fn(walk->arg, &entry, relative)
                                                    : CLI_OK;
}

int cli_walk(struct cli *cli, const struct cli_walk *walk)
{
    pst_list_options options = {.struct_size = sizeof(options)};
    const struct cli_base *base = walk->base;
    pst_error err = PST_ERROR_INIT;
    pst_list *list = NULL;
    const pst_entry *entry = NULL;
    int code = CLI_OK;
    pst_rc rc;

    if (base->is_object) {
        code = walk_object(walk);
        return code == CLI_STOP ? CLI_OK : code;
    }
    options.flags = walk->flags;
    options.page_entries = walk->page_entries;
    rc = pst_list_open(walk->location->store, pst_str_of(base->prefix, base->prefix_len), &options,
                       &list, &err);
    while (rc == PST_OK && code == CLI_OK) {
        rc = pst_list_next(list, &cli->call, &entry, &err);
        if (rc != PST_OK || !entry)
            break;
        pst_str relative = pst_str_of(entry->key.ptr + base->prefix_len,
                                      entry->key.len - base->prefix_len);
        if (cli_regex_matches(walk->regex, relative))
            code = walk->fn(walk->arg, entry, relative);
    }
    pst_list_free(list);
    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, &err);
    return code == CLI_STOP ? CLI_OK : code;
}
