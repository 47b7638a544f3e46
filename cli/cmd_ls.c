/* cmd_ls.c - list objects: one full URI a line, so that a line can be pasted back.
 *
 * A URI is printed as raw bytes. A key that holds a newline thus spans two lines: --null ends each
 * entry with NUL instead, --json escapes, and on a terminal such a URI is shown as $'...'. Entries
 * stream as pages arrive; a listing that fails in the middle is an error after what was printed. */
#include <string.h>

#include "cli.h"

struct lister {
    struct cli *cli;
    const struct cli_location *location;
    bool is_json, is_long, is_human, is_null, only_count, has_versions;
    uint64_t limit, n_entries, n_bytes;
};

static void add_json_entry(struct cli_text_buf *line, const pst_entry *entry, pst_str uri,
                           bool has_versions)
{
    cli_json_begin(line);
    cli_json_bytes(line, "uri", uri);
    cli_json_bytes(line, "key", entry->key);
    if (entry->kind == PST_KIND_PREFIX) {
        cli_json_text(line, "kind", PST_STR("directory"));
        cli_json_end(line);
        return;
    }
    cli_json_text(line, "kind", PST_STR("object"));
    cli_json_number(line, "size", entry->size);
    if (entry->mtime_ns != PST_TIME_UNKNOWN) {
        struct cli_text_buf time = {0};
        cli_add_time(&time, entry->mtime_ns, true);
        cli_json_text(line, "modified", pst_str_of(time.data, time.len));
        cli_text_fini(&time);
    }
    if (entry->etag.len > 0)
        cli_json_bytes(line, "etag", entry->etag);
    if (entry->version.len > 0)
        cli_json_bytes(line, "version", entry->version);
    if (has_versions) {
        cli_json_bool(line, "latest", (entry->flags & PST_ENTRY_LATEST) != 0);
        cli_json_bool(line, "delete_marker", (entry->flags & PST_ENTRY_DELETE_MARKER) != 0);
    }
    if (entry->content_encoding.len > 0)
        cli_json_bytes(line, "content_encoding", entry->content_encoding);
    if (entry->storage_class.len > 0)
        cli_json_bytes(line, "storage_class", entry->storage_class);
    cli_json_end(line);
}

static void add_columns(const struct lister *lister, struct cli_text_buf *line,
                        const pst_entry *entry)
{
    struct cli_text_buf size = {0};

    if (entry->kind == PST_KIND_PREFIX)
        cli_addf(&size, "-");
    else if (lister->is_human)
        cli_add_human(&size, entry->size);
    else
        cli_addf(&size, "%llu", (unsigned long long)entry->size);
    cli_addf(line, "%12.*s  ", (int)size.len, size.data);
    cli_text_fini(&size);
    if (entry->kind == PST_KIND_PREFIX || entry->mtime_ns == PST_TIME_UNKNOWN)
        cli_addf(line, "%-20s", "-");
    else
        cli_add_time(line, entry->mtime_ns, false);
    cli_addf(line, "  ");
}

/* "latest" or "old", "deleted" for a marker that hides the key now, "marker" for one that did. */
static void add_version(struct cli_text_buf *line, const pst_entry *entry)
{
    bool is_latest = (entry->flags & PST_ENTRY_LATEST) != 0;
    const char *state = is_latest ? "latest" : "old";

    if (entry->kind == PST_KIND_PREFIX)
        state = "-";
    else if (entry->flags & PST_ENTRY_DELETE_MARKER)
        state = is_latest ? "deleted" : "marker";
    cli_addf(line, "%-7s  %-32.*s  ", state, entry->version.len ? (int)entry->version.len : 1,
             entry->version.len ? entry->version.ptr : "-");
}

static int print_entry(void *arg, const pst_entry *entry, pst_str relative)
{
    struct lister *lister = arg;
    struct cli *cli = lister->cli;
    struct cli_text_buf line = {0}, uri = {0};

    (void)relative;
    if (lister->n_entries == lister->limit || cli_output_closed(cli))
        return CLI_STOP;
    lister->n_entries++;
    lister->n_bytes += entry->kind == PST_KIND_OBJECT ? entry->size : 0;
    if (lister->only_count)
        return CLI_OK;
    cli_add_uri(&uri, lister->location, entry->key);
    if (lister->is_json) {
        add_json_entry(&line, entry, pst_str_of(uri.data, uri.len), lister->has_versions);
        cli_put_text(cli, &line);
    } else {
        if (lister->is_long)
            add_columns(lister, &line, entry);
        if (lister->has_versions)
            add_version(&line, entry);
        cli_put_text(cli, &line);
        cli_put_uri(cli, pst_str_of(uri.data, uri.len));
        cli_put(cli, lister->is_null ? "" : "\n", 1);
    }
    cli_text_fini(&line);
    cli_text_fini(&uri);
    return CLI_OK;
}

static int print_container(struct lister *lister, const pst_entry *entry)
{
    struct cli *cli = lister->cli;
    struct cli_text_buf line = {0}, uri = {0};

    if (lister->n_entries == lister->limit || cli_output_closed(cli))
        return CLI_STOP;
    lister->n_entries++;
    if (lister->only_count)
        return CLI_OK;
    cli_add(&uri, lister->location->parts.scheme.ptr, lister->location->parts.scheme.len);
    cli_addf(&uri, "://");
    cli_add(&uri, entry->key.ptr, entry->key.len);
    cli_add(&uri, "/", 1);
    if (lister->is_json) {
        cli_json_begin(&line);
        cli_json_bytes(&line, "uri", pst_str_of(uri.data, uri.len));
        cli_json_text(&line, "kind", PST_STR("container"));
        cli_json_end(&line);
        cli_put_text(cli, &line);
    } else {
        cli_put_uri(cli, pst_str_of(uri.data, uri.len));
        cli_put(cli, lister->is_null ? "" : "\n", 1);
    }
    cli_text_fini(&line);
    cli_text_fini(&uri);
    return CLI_OK;
}

/* "s3://" names no container: list them. Not where a store has none, as file:// has not. */
static int list_containers(struct lister *lister, const struct cli_location *location,
                           bool *is_done)
{
    struct cli *cli = lister->cli;
    pst_error err = PST_ERROR_INIT;
    const pst_entry *entry = NULL;
    pst_list *list = NULL;
    int code = CLI_OK;

    if (location->parts.authority.len > 0 || location->parts.key.len > 0)
        return CLI_OK;
    pst_rc rc = pst_container_list(location->store, PST_STR(""), &list, &err);
    while (rc == PST_OK && code == CLI_OK) {
        rc = pst_list_next(list, &cli->call, &entry, &err);
        if (rc != PST_OK || !entry)
            break;
        code = print_container(lister, entry);
    }
    pst_list_free(list);
    if (rc == PST_E_UNIMPLEMENTED)
        return CLI_OK;
    *is_done = true;
    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, &err);
    return code == CLI_STOP ? CLI_OK : code;
}

/* What is to be listed. The versions of a key are those of its name, whether or not it is there now: of
 * such a location the one key is listed, or what is below it. */
static int find_base(struct lister *lister, const struct cli_location *location,
                     struct cli_base *base)
{
    if (!lister->has_versions)
        return cli_base_find(lister->cli, location, base);
    base->prefix = cli_dup(location->parts.key.ptr, location->parts.key.len);
    base->prefix_len = location->parts.key.len;
    return CLI_OK;
}

static int list_location(struct lister *lister, struct cli_location *location, uint32_t flags,
                         struct cli_regex *regex)
{
    struct cli *cli = lister->cli;
    struct cli_base base = {0};
    struct cli_walk walk = {.location = location,
                            .base = &base,
                            .flags = flags,
                            .regex = regex,
                            .fn = print_entry,
                            .arg = lister};
    bool is_done = false;
    int code = cli_location_open(cli, location);

    lister->location = location;
    if (code == CLI_OK)
        code = list_containers(lister, location, &is_done);
    if (code || is_done)
        return code;
    code = find_base(lister, location, &base);
    if (code)
        return code;
    if (lister->limit < 1000)
        walk.page_entries = (uint32_t)lister->limit + 1;
    code = cli_walk(cli, &walk);
    cli_base_fini(&base);
    return code;
}

static int run_ls(struct cli *cli, const struct cli_args *args)
{
    struct lister lister = {.cli = cli};
    struct cli_regex *regex = NULL;
    struct cli_tally tally = {0};
    uint32_t flags = 0;
    int code = cli_regex_new(cli, cli_text(args, "regex"), &regex);

    if (code)
        return code;
    lister.is_json = cli_flag(args, "json") > 0;
    lister.is_long = cli_flag(args, "long") > 0;
    lister.is_human = cli_flag(args, "human") > 0;
    lister.is_null = cli_flag(args, "null") > 0;
    lister.only_count = cli_flag(args, "count") > 0;
    lister.has_versions = cli_flag(args, "versions") > 0;
    lister.limit = cli_number(args, "limit");
    if (cli_flag(args, "recursive"))
        flags |= PST_LISTING_RECURSIVE;
    if (cli_flag(args, "unordered") || lister.only_count)
        flags |= PST_LISTING_UNORDERED;
    if (lister.has_versions)
        flags |= PST_LISTING_VERSIONS;

    for (uint32_t i = 0; i < args->n_operands; i++) {
        struct cli_location location;
        code = cli_location_parse(cli, args->operands[i], 0, &location);
        if (code == CLI_OK) {
            code = list_location(&lister, &location, flags, regex);
            cli_location_fini(&location);
        }
        cli_tally_add(&tally, code);
    }
    cli_regex_free(regex);
    if (lister.only_count && lister.is_json)
        cli_printf(cli, "{\"count\":%llu,\"bytes\":%llu}\n", (unsigned long long)lister.n_entries,
                   (unsigned long long)lister.n_bytes);
    else if (lister.only_count)
        cli_printf(cli, "%llu\n", (unsigned long long)lister.n_entries);
    return cli_tally_exit(&tally);
}

static const struct cli_option options[] = {
    {'r', CLI_FLAG, "recursive", NULL, "every object below, not just one level", NULL, 0, 0},
    {'l', CLI_FLAG, "long", NULL, "size and time (UTC) before each URI", NULL, 0, 0},
    {'h', CLI_FLAG, "human", NULL, "with -l: sizes like 1.5 MiB", NULL, 0, 0},
    {0, CLI_FLAG, "versions", NULL, "old versions and delete markers too, with their ids", NULL, 0,
     0},
    {'p', CLI_TEXT, "regex", "REGEX", "only entries whose path below the URI matches (PCRE2)", NULL,
     0, 0},
    {0, CLI_FLAG, "json", NULL, "one JSON object a line", NULL, 0, 0},
    {0, CLI_COUNT, "limit", "N", "stop after N entries", NULL, 0, 0},
    {'c', CLI_FLAG, "count", NULL, "print only how many there are", NULL, 0, 0},
    {'0', CLI_FLAG, "null", NULL, "end each entry with NUL instead of newline", NULL, 0, 0},
    {'U', CLI_FLAG, "unordered", NULL, "as the store sends them: sooner, with less memory", NULL, 0,
     0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_ls = {
    .name = "ls",
    .operands = "URI...",
    .summary = "list objects, one full URI a line",
    .details =
        "Without -r one level is listed; directories end in a slash. A URI that names a "
        "directory is listed whether or not it ends in a slash; one that names an object "
        "lists that object. The order is that of the keys' bytes.\n\n"
        "A URI without a container, like s3://, lists the containers. With --versions each version "
        "of a key is an entry, whose state (latest, old; deleted, marker) and id come before the "
        "URI; a URI that is no directory stands for all keys that begin so.\n\n"
        "URIs are printed byte by byte. For keys that may hold newlines use --null or "
        "--json. With --json a name that is not UTF-8 has its exact bytes in \"uri_hex\".\n\n"
        "  penstock ls -r --regex '\\.npz$' s3://bucket/train/",
    .options = options,
    .min_operands = 1,
    .max_operands = CLI_ANY,
    .run = run_ls,
};
