/* path.c - operands that name places: URIs, "-", and plain local paths.
 *
 * The one rule: "://" makes a URI, everything else is a local path. So "s3:/x" and "bucket/key" are
 * paths, and when such a path is not there the message says how a URI looks. A URI is handed on byte
 * by byte. A plain path becomes file:///absolute/path here, because file:// refuses "." and "..":
 * both are resolved, ".." as the kernel does it (through links) where the directories exist and by
 * the text where they do not. Nothing else about a path is touched; links stay links.
 *
 * A directory may be named with or without its slash: without, something below "key/" makes it one.
 * With a slash it is a directory whatever else has that name. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <penstock/plugin.h>

#include "frame.h"

/* ---- plain paths --------------------------------------------------------------------------------- */

/* Append the components of `path` to the absolute path in `out`, by the text alone. */
static void append_components(struct cli_text_buf *out, const char *path)
{
    while (*path) {
        size_t len = strcspn(path, "/");
        if (len == 2 && path[0] == '.' && path[1] == '.') {
            while (out->len > 0 && out->data[--out->len] != '/')
                continue;
        } else if (len > 0 && !(len == 1 && path[0] == '.')) {
            cli_add(out, "/", 1);
            cli_add(out, path, len);
        }
        path += len;
        path += strspn(path, "/");
    }
}

/* The length of `path` up to and including its last ".." component, 0 if it has none. */
static size_t find_last_dotdot(const char *path)
{
    size_t found = 0;
    for (size_t i = 0; path[i];) {
        size_t len = strcspn(path + i, "/");
        if (len == 2 && path[i] == '.' && path[i + 1] == '.')
            found = i + 2;
        i += len;
        i += strspn(path + i, "/");
    }
    return found;
}

char *cli_absolute_path(const char *path)
{
    struct cli_text_buf out = {0};
    size_t n_dotdot = find_last_dotdot(path);
    char *head = NULL;

    if (n_dotdot > 0) {
        char *with_dotdot = cli_dup(path, n_dotdot);
        head = realpath(with_dotdot, NULL);
        free(with_dotdot);
        if (head)
            path += n_dotdot;
    }
    if (!head && path[0] != '/') {
        head = getcwd(NULL, 0);
        if (!head)
            return NULL;
    }
    if (head)
        append_components(&out, head);
    append_components(&out, path);
    free(head);
    if (out.len == 0)
        cli_add(&out, "/", 1);
    cli_add(&out, "", 1);
    return out.data;
}

/* Does the text of a plain path say that it is a directory: "", "x/", ".", ".."? */
static bool names_directory(const char *path)
{
    const char *last = strrchr(path, '/');
    last = last ? last + 1 : path;
    return *last == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0;
}

/* ---- locations ----------------------------------------------------------------------------------- */

static int parse_path(struct cli *cli, struct cli_location *location)
{
    struct cli_text_buf uri = {0};
    char *path;

    if (location->arg[0] == '\0')
        return cli_usage(cli, "an empty path names nothing");
    path = cli_absolute_path(location->arg);
    if (!path)
        return cli_fail_errno(cli, errno, "%s", location->arg);
    cli_addf(&uri, "file://%s", path);
    if (names_directory(location->arg) && strcmp(path, "/") != 0)
        cli_add(&uri, "/", 1);
    cli_add(&uri, "", 1);
    location->uri = uri.data;
    location->is_path = true;
    free(path);
    return CLI_OK;
}

int cli_location_parse(struct cli *cli, const char *arg, uint32_t flags, struct cli_location *out)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;

    memset(out, 0, sizeof(*out));
    out->arg = arg;
    if (strcmp(arg, "-") == 0) {
        if (!(flags & CLI_ALLOW_STDIO))
            return cli_usage(cli, "'-' (standard input or output) is not possible here");
        out->is_stdio = true;
        return CLI_OK;
    }
    if (strstr(arg, "://")) {
        out->uri = cli_dup(arg, strlen(arg));
    } else {
        int code = parse_path(cli, out);
        if (code)
            return code;
    }
    rc = pst_uri_parse(pst_str_of(out->uri, strlen(out->uri)), &out->parts, &err);
    if (rc != PST_OK) {
        cli_location_fini(out);
        return cli_fail_rc(cli, rc, &err);
    }
    out->is_directory = out->parts.key.len == 0 ||
                        out->parts.key.ptr[out->parts.key.len - 1] == '/';
    return CLI_OK;
}

void cli_location_fini(struct cli_location *location)
{
    if (location->store)
        pst_store_free(location->store);
    free(location->uri);
    memset(location, 0, sizeof(*location));
}

void cli_add_uri(struct cli_text_buf *buf, const struct cli_location *location, pst_str key)
{
    const pst_uri *parts = &location->parts;
    cli_add(buf, parts->scheme.ptr, parts->scheme.len);
    cli_add(buf, "://", 3);
    cli_add(buf, parts->authority.ptr, parts->authority.len);
    cli_add(buf, "/", 1);
    cli_add(buf, key.ptr, key.len);
}

/* ---- opening ------------------------------------------------------------------------------------- */

/* Is `id` (length len) a plugin, and does it serve `scheme`? */
static bool find_plugin(const pst_plugin_info *infos, size_t n, pst_str id, pst_str scheme,
                        bool *is_known)
{
    *is_known = false;
    for (size_t i = 0; i < n; i++) {
        const char *word = infos[i].schemes;
        if (infos[i].state == PST_PLUGIN_SHADOWED || strlen(infos[i].id) != id.len ||
            memcmp(infos[i].id, id.ptr, id.len) != 0)
            continue;
        *is_known = true;
        while (*word) {
            size_t len = strcspn(word, " ");
            if (len == scheme.len && strncasecmp(word, scheme.ptr, len) == 0)
                return true;
            word += len + (word[len] == ' ');
        }
    }
    return false;
}

/* From -o choose what is for the plugin of this scheme: names without a dot, and "plugin.name" with
 * the plugin's part cut off. `extra` stands over what has its name. */
static int choose_options(struct cli *cli, pst_str scheme, const pst_kv *extra, pst_kv **out,
                          size_t *n_out)
{
    const pst_kv *given;
    size_t n_given = cli_pairs(cli->args, "option", &given), n = 0, n_infos = 0;
    pst_plugin_info *infos = NULL;
    pst_kv *chosen = cli_alloc(n_given + 1, sizeof(*chosen));
    int code = CLI_OK;

    for (size_t i = 0; i < n_given && code == CLI_OK; i++) {
        const char *dot = memrchr(given[i].key.ptr, '.', given[i].key.len);
        pst_error err = PST_ERROR_INIT;
        bool is_known = true, is_ours = true;
        size_t id_len;
        pst_rc rc = PST_OK;
        chosen[n] = given[i];
        if (dot) {
            id_len = (size_t)(dot - given[i].key.ptr);
            chosen[n].key = pst_str_of(dot + 1, given[i].key.len - id_len - 1);
            if (!infos)
                rc = pst_plugins_list(cli->context, &infos, &n_infos, &err);
            if (rc != PST_OK) {
                code = cli_fail_rc(cli, rc, &err);
                break;
            }
            is_ours = find_plugin(infos, n_infos, pst_str_of(given[i].key.ptr, id_len), scheme,
                                  &is_known);
        }
        if (!is_known)
            code = cli_usage(cli, "--option %.*s: no plugin has that name", (int)given[i].key.len,
                             given[i].key.ptr);
        if (extra && chosen[n].key.len == extra->key.len &&
            memcmp(chosen[n].key.ptr, extra->key.ptr, extra->key.len) == 0)
            is_ours = false;
        n += is_ours;
    }
    if (extra)
        chosen[n++] = *extra;
    pst_plugins_free(infos);
    *out = chosen;
    *n_out = n;
    return code;
}

int cli_location_open(struct cli *cli, struct cli_location *location)
{
    if (location->is_stdio || location->store)
        return CLI_OK;
    return cli_store_open(cli, location, NULL, &location->store);
}

int cli_store_open(struct cli *cli, const struct cli_location *location, const pst_kv *extra,
                   pst_store **out)
{
    pst_error err = PST_ERROR_INIT;
    pst_kv *options = NULL;
    size_t n_options = 0;
    pst_rc rc;
    int code = cli_context(cli);

    if (code)
        return code;
    code = choose_options(cli, location->parts.scheme, extra, &options, &n_options);
    if (code == CLI_OK) {
        rc = pst_store_open(cli->context, pst_str_of(location->uri, strlen(location->uri)), options,
                            n_options, out, &err);
        if (rc != PST_OK)
            code = cli_fail_rc(cli, rc, &err);
    }
    free(options);
    return code;
}

/* ---- what is there ------------------------------------------------------------------------------- */

static void set_directory(struct cli_base *base, pst_str key)
{
    base->is_object = false;
    base->prefix = cli_dup(key.ptr, key.len + 1); /* room for a slash */
    base->prefix_len = key.len;
    if (key.len > 0 && key.ptr[key.len - 1] != '/')
        base->prefix[base->prefix_len++] = '/';
    base->prefix[base->prefix_len] = '\0';
}

/* Not where the whole container is missing: that is worth saying. */
static bool is_nothing_there(pst_rc rc, const pst_error *err)
{
    return rc == PST_E_NOT_FOUND && !(err->flags & PST_ERR_NO_CONTAINER);
}

/* Is there anything whose key begins with `prefix`? */
static pst_rc find_below(struct cli *cli, pst_store *store, pst_str prefix, bool *found,
                         pst_error *err)
{
    pst_list_options options = {
        .struct_size = sizeof(options), .flags = PST_LISTING_UNORDERED, .page_entries = 1};
    const pst_entry *entry = NULL;
    pst_list *list = NULL;
    pst_rc rc = pst_list_open(store, prefix, &options, &list, err);

    if (rc == PST_OK)
        rc = pst_list_next(list, &cli->call, &entry, err);
    *found = rc == PST_OK && entry;
    pst_list_free(list);
    return is_nothing_there(rc, err) ? PST_OK : rc;
}

/* Is there an empty directory of that name? Such one shows only in the listing of its parent. */
static pst_rc find_empty_directory(struct cli *cli, pst_store *store, const struct cli_base *base,
                                   bool *found, pst_error *err)
{
    pst_list_options options = {.struct_size = sizeof(options), .flags = PST_LISTING_UNORDERED};
    pst_str prefix = pst_str_of(base->prefix, base->prefix_len - 1);
    const pst_entry *entry = NULL;
    pst_list *list = NULL;
    pst_rc rc = pst_list_open(store, prefix, &options, &list, err);

    *found = false;
    while (rc == PST_OK && !*found) {
        rc = pst_list_next(list, &cli->call, &entry, err);
        if (rc != PST_OK || !entry)
            break;
        *found = entry->kind == PST_KIND_PREFIX && entry->key.len == base->prefix_len &&
                 memcmp(entry->key.ptr, base->prefix, base->prefix_len) == 0;
    }
    pst_list_free(list);
    return is_nothing_there(rc, err) ? PST_OK : rc;
}

static int fail_nothing_there(struct cli *cli, const struct cli_location *location)
{
    if (location->is_path && strchr(location->arg, ':'))
        return cli_fail(cli, CLI_NOT_FOUND, "%s: not found (a local path; a URI has '://')",
                        location->arg);
    return cli_fail(cli, CLI_NOT_FOUND, "%s: not found",
                    location->is_path ? location->arg : location->uri);
}

/* What is there; *found is false when nothing is, and then `out` holds nothing. */
static pst_rc look(struct cli *cli, const struct cli_location *location, struct cli_base *out,
                   bool *found, pst_error *err)
{
    pst_store_info info = {.struct_size = sizeof(info)};
    pst_str key = location->parts.key;
    pst_attr *attr = NULL;
    pst_rc rc = PST_OK;

    memset(out, 0, sizeof(*out));
    set_directory(out, key);
    *found = key.len == 0;
    if (!*found)
        rc = find_below(cli, location->store, pst_str_of(out->prefix, out->prefix_len), found, err);
    if (rc == PST_OK && !*found && !location->is_directory) {
        rc = pst_stat(location->store, key, NULL, &cli->call, &attr, err);
        if (rc == PST_OK) {
            out->is_object = attr->kind == PST_KIND_OBJECT;
            out->size = attr->size;
            out->mtime_ns = attr->mtime_ns;
            *found = true;
            if (out->is_object)
                out->prefix[--out->prefix_len] = '\0';
        } else if (rc == PST_E_NOT_FOUND) {
            rc = PST_OK;
        }
        pst_attr_free(attr);
    }
    pst_store_describe(location->store, &info);
    if (rc == PST_OK && !*found && (info.caps & PST_CAP_EMPTY_DIRS))
        rc = find_empty_directory(cli, location->store, out, found, err);
    if (rc != PST_OK || !*found)
        cli_base_fini(out);
    return rc;
}

int cli_base_find(struct cli *cli, const struct cli_location *location, struct cli_base *out)
{
    pst_error err = PST_ERROR_INIT;
    bool found;
    pst_rc rc = look(cli, location, out, &found, &err);

    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, &err);
    return found ? CLI_OK : fail_nothing_there(cli, location);
}

int cli_base_exists(struct cli *cli, const struct cli_location *location, bool *exists)
{
    pst_error err = PST_ERROR_INIT;
    struct cli_base base;
    pst_rc rc = look(cli, location, &base, exists, &err);

    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, &err);
    cli_base_fini(&base);
    return CLI_OK;
}

void cli_base_fini(struct cli_base *base)
{
    free(base->prefix);
    memset(base, 0, sizeof(*base));
}
