/* cmd_stat.c - attributes of objects; with -v what is known of the store they lie in. */
#include <string.h>

#include "cli.h"

#define LABEL "%-16s: "

static void add_line(struct cli_text_buf *text, const char *label, pst_str value)
{
    if (value.len == 0)
        return;
    cli_addf(text, LABEL, label);
    cli_add_printable(text, value);
    cli_add(text, "\n", 1);
}

static const char *sum_name(uint32_t algorithm)
{
    static const char *const names[] = {"", "CRC32C", "CRC64NVME", "SHA256", "MD5"};
    return algorithm < sizeof(names) / sizeof(names[0]) ? names[algorithm] : "";
}

/* Sums come with the stride that the library was compiled with. */
static const pst_sum *sum_at(const pst_attr *attr, uint32_t i)
{
    return (const pst_sum *)(const void *)((const char *)attr->sums + i * attr->sum_stride);
}

static pst_str scope_name(const pst_sum *sum)
{
    return sum->scope == PST_SCOPE_RANGE ? PST_STR("range") : PST_STR("object");
}

static void add_hex(struct cli_text_buf *text, const pst_sum *sum)
{
    for (uint32_t i = 0; i < sum->length && i < sizeof(sum->bytes); i++)
        cli_addf(text, "%02x", sum->bytes[i]);
}

/* The text attributes under their names for people and for JSON. */
struct text_attribute {
    const char *label, *json;
    pst_str value;
};
#define N_TEXT_ATTRIBUTES 7u
static void collect_texts(const pst_attr *attr, struct text_attribute out[N_TEXT_ATTRIBUTES])
{
    const struct text_attribute all[N_TEXT_ATTRIBUTES] = {
        {"Content-Type", "content_type", attr->content_type},
        {"Content-Encoding", "content_encoding", attr->content_encoding},
        {"Content-Language", "content_language", attr->content_language},
        {"Disposition", "content_disposition", attr->content_disposition},
        {"Cache-Control", "cache_control", attr->cache_control},
        {"StorageClass", "storage_class", attr->storage_class},
        {"VersionId", "version", attr->version},
    };
    memcpy(out, all, sizeof(all));
}

static const char *strength_name(uint32_t strength)
{
    return strength == PST_ETAG_STRONG ? "strong" : strength == PST_ETAG_WEAK ? "weak" : "none";
}

static void add_pairs(struct cli_text_buf *text, const char *title, const pst_kv *pairs, size_t n)
{
    if (n > 0)
        cli_addf(text, "%s:\n", title);
    for (size_t i = 0; i < n; i++) {
        cli_addf(text, "  ");
        cli_add_printable(text, pairs[i].key);
        cli_addf(text, " = ");
        cli_add_printable(text, pairs[i].value);
        cli_add(text, "\n", 1);
    }
}

static void add_object(struct cli_text_buf *text, const pst_attr *attr)
{
    struct text_attribute texts[N_TEXT_ATTRIBUTES];

    cli_addf(text, LABEL "%llu\n", "Size", (unsigned long long)attr->size);
    if (attr->mtime_ns != PST_TIME_UNKNOWN) {
        cli_addf(text, LABEL, "LastModified");
        cli_add_time(text, attr->mtime_ns, true);
        cli_add(text, "\n", 1);
    }
    add_line(text, "ETag", attr->etag);
    collect_texts(attr, texts);
    for (size_t i = 0; i < N_TEXT_ATTRIBUTES; i++)
        add_line(text, texts[i].label, texts[i].value);
    for (uint32_t i = 0; i < attr->n_sums; i++) {
        const pst_sum *sum = sum_at(attr, i);
        cli_addf(text, LABEL, sum_name(sum->algorithm));
        add_hex(text, sum);
        if (sum->scope == PST_SCOPE_RANGE)
            cli_addf(text, ", of %llu bytes at %llu", (unsigned long long)sum->size,
                     (unsigned long long)sum->offset);
        cli_add(text, "\n", 1);
    }
    add_pairs(text, "User Metadata", attr->user_meta, attr->n_user_meta);
    add_pairs(text, "Tags", attr->tags, attr->n_tags);
}

static void add_json_sums(struct cli_text_buf *text, const pst_attr *attr)
{
    cli_json_name(text, "sums");
    cli_add(text, "[", 1);
    for (uint32_t i = 0; i < attr->n_sums; i++) {
        const pst_sum *sum = sum_at(attr, i);
        const char *name = sum_name(sum->algorithm);
        if (i > 0)
            cli_add(text, ",", 1);
        cli_json_begin(text);
        cli_json_text(text, "algorithm", pst_str_of(name, strlen(name)));
        cli_json_text(text, "scope", scope_name(sum));
        if (sum->scope == PST_SCOPE_RANGE) {
            cli_json_number(text, "offset", sum->offset);
            cli_json_number(text, "size", sum->size);
        }
        cli_json_name(text, "value");
        cli_add(text, "\"", 1);
        add_hex(text, sum);
        cli_add(text, "\"", 1);
        cli_json_close(text);
    }
    cli_add(text, "]", 1);
}

static void add_json_pairs(struct cli_text_buf *text, const char *name, const pst_kv *pairs,
                           size_t n)
{
    cli_json_name(text, name);
    cli_json_begin(text);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            cli_add(text, ",", 1);
        cli_add_json(text, pairs[i].key);
        cli_add(text, ":", 1);
        cli_add_json(text, pairs[i].value);
    }
    cli_json_close(text);
}

static void add_json_object(struct cli_text_buf *text, const pst_attr *attr)
{
    struct text_attribute texts[N_TEXT_ATTRIBUTES];

    cli_json_number(text, "size", attr->size);
    if (attr->mtime_ns != PST_TIME_UNKNOWN) {
        struct cli_text_buf time = {0};
        cli_add_time(&time, attr->mtime_ns, true);
        cli_json_text(text, "modified", pst_str_of(time.data, time.len));
        cli_text_fini(&time);
    }
    if (attr->etag.len > 0)
        cli_json_bytes(text, "etag", attr->etag);
    cli_json_text(
        text, "etag_strength",
        pst_str_of(strength_name(attr->etag_strength), strlen(strength_name(attr->etag_strength))));
    collect_texts(attr, texts);
    for (size_t i = 0; i < N_TEXT_ATTRIBUTES; i++) {
        if (texts[i].value.len > 0)
            cli_json_bytes(text, texts[i].json, texts[i].value);
    }
    add_json_sums(text, attr);
    add_json_pairs(text, "user_meta", attr->user_meta, attr->n_user_meta);
    add_json_pairs(text, "tags", attr->tags, attr->n_tags);
}

static void add_store(struct cli_text_buf *text, const pst_store_info *info, bool is_json)
{
    struct cli_text_buf caps = {0};

    cli_add_caps(&caps, info->caps);
    if (is_json) {
        cli_json_name(text, "store");
        cli_json_begin(text);
        cli_json_text(text, "plugin", pst_str_of(info->plugin, strlen(info->plugin)));
        cli_json_text(text, "endpoint", pst_str_of(info->endpoint, strlen(info->endpoint)));
        cli_json_text(text, "note", pst_str_of(info->note, strlen(info->note)));
        cli_json_text(text, "capabilities", pst_str_of(caps.data, caps.len));
        cli_json_number(text, "key_max", info->key_max);
        cli_json_number(text, "object_max", info->object_max);
        cli_json_number(text, "part_min", info->part_min);
        cli_json_number(text, "part_max", info->part_max);
        cli_json_number(text, "parts_max", info->parts_max);
        cli_json_close(text);
    } else {
        add_line(text, "Plugin", pst_str_of(info->plugin, strlen(info->plugin)));
        add_line(text, "Endpoint", pst_str_of(info->endpoint, strlen(info->endpoint)));
        add_line(text, "Note", pst_str_of(info->note, strlen(info->note)));
        add_line(text, "Capabilities", pst_str_of(caps.data, caps.len));
        cli_addf(text, LABEL "%u\n", "Longest key", info->key_max);
    }
    cli_text_fini(&caps);
}

static void print_one(struct cli *cli, const struct cli_location *location, const pst_attr *attr,
                      pst_str directory)
{
    bool is_json = cli_flag(cli->args, "json") > 0;
    pst_store_info info = {.struct_size = sizeof(info)};
    struct cli_text_buf text = {0}, uri = {0};

    cli_add_uri(&uri, location, attr ? location->parts.key : directory);
    pst_store_describe(location->store, &info);
    if (is_json) {
        cli_json_begin(&text);
        cli_json_bytes(&text, "uri", pst_str_of(uri.data, uri.len));
        cli_json_text(&text, "kind", attr ? PST_STR("object") : PST_STR("directory"));
        if (attr)
            add_json_object(&text, attr);
        if (cli->verbosity > 0)
            add_store(&text, &info, true);
        cli_json_end(&text);
    } else {
        cli_printf(cli, LABEL, "URI");
        cli_put_uri(cli, pst_str_of(uri.data, uri.len));
        cli_put(cli, "\n", 1);
        if (attr)
            add_object(&text, attr);
        else
            cli_addf(&text, LABEL "directory\n", "Kind");
        if (cli->verbosity > 0)
            add_store(&text, &info, false);
    }
    cli_put_text(cli, &text);
    cli_text_fini(&text);
    cli_text_fini(&uri);
}

static int stat_location(struct cli *cli, struct cli_location *location, pst_str version)
{
    const pst_stat_options options = {
        .struct_size = sizeof(options),
        .flags = cli_flag(cli->args, "json") || cli->verbosity > 0 ? PST_LOOK_SUMS : 0,
        .version = version};
    pst_error err = PST_ERROR_INIT;
    struct cli_base base = {0};
    pst_attr *attr = NULL;
    pst_rc rc = PST_E_NOT_FOUND;
    int code = cli_location_open(cli, location);

    if (code)
        return code;
    if (!location->is_directory)
        rc = pst_stat(location->store, location->parts.key, &options, &cli->call, &attr, &err);
    if (rc == PST_OK && attr->kind == PST_KIND_OBJECT) {
        print_one(cli, location, attr, PST_STR(""));
    } else if (version.len == 0 && (rc == PST_OK || rc == PST_E_NOT_FOUND)) {
        /* Not an object: a directory perhaps, and if not this says what is missing. */
        code = cli_base_find(cli, location, &base);
        if (code == CLI_OK)
            print_one(cli, location, NULL, pst_str_of(base.prefix, base.prefix_len));
        cli_base_fini(&base);
    } else {
        code = cli_fail_rc(cli, rc, &err);
    }
    pst_attr_free(attr);
    return code;
}

static int run_stat(struct cli *cli, const struct cli_args *args)
{
    struct cli_tally tally = {0};
    pst_str version;
    int usage = cli_version_id(cli, args, &version);

    if (usage)
        return usage;
    for (uint32_t i = 0; i < args->n_operands; i++) {
        struct cli_location location;
        int code = cli_location_parse(cli, args->operands[i], 0, &location);
        if (code == CLI_OK) {
            if (i > 0 && !cli_flag(args, "json"))
                cli_put(cli, "\n", 1);
            code = stat_location(cli, &location, version);
            cli_location_fini(&location);
        }
        cli_tally_add(&tally, code);
    }
    return cli_tally_exit(&tally);
}

static const struct cli_option options[] = {
    CLI_OPTION_VERSION_ID,
    {0, CLI_FLAG, "json", NULL, "one JSON object a line", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_stat = {
    .name = "stat",
    .operands = "URI...",
    .summary = "show the attributes of objects",
    .details =
        "With -v also what is known of the store: its plugin, endpoint, capabilities, and "
        "what it fell back to when it was opened. With -v and --json checksums are shown that "
        "the store has to look for, those of parts included. Of a directory only its kind is "
        "shown.",
    .options = options,
    .min_operands = 1,
    .max_operands = CLI_ANY,
    .run = run_stat,
};
