/* transfer_place.c - what the operands of a transfer stand for.
 *
 * A place is a store, a prefix and perhaps one name. Keys of object stores are taken as they are.
 * Where a store keeps its objects as files below an option `root` (file://, direct://), a directory
 * is opened as a store of its own, rooted at that directory: then the plugin itself refuses every
 * name and every link that would leave it, whatever names the other side makes up. Only what stands
 * on the command line is resolved here, as the user may name any file he likes.
 *
 * The target's name for a source follows from the operands alone, except that an existing local
 * directory counts as one without its slash; so a transfer that is run again finds its own files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <penstock/plugin.h>

#include "transfer.h"

/* ---- local paths -------------------------------------------------------------------------------- */

/* The value with which `plugin` is opened for its option `name`, NULL if it has none. free(). */
static int find_option(struct cli *cli, const char *plugin, const char *name, char **out)
{
    pst_error err = PST_ERROR_INIT;
    pst_config_entry *entries = NULL;
    const pst_kv *given;
    size_t n_entries = 0, n_given = cli_pairs(cli->args, "option", &given);
    size_t plugin_len = strlen(plugin), name_len = strlen(name);
    pst_rc rc = pst_config_list(cli->context, plugin, &entries, &n_entries, &err);

    *out = NULL;
    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, &err);
    for (size_t i = 0; i < n_entries && !*out; i++) {
        if (strcmp(entries[i].option, name) == 0)
            *out = cli_dup(entries[i].value, strlen(entries[i].value));
    }
    pst_config_free(entries);
    for (size_t i = 0; i < n_given && *out; i++) {
        pst_str key = given[i].key;
        if (key.len == plugin_len + 1 + name_len && key.ptr[plugin_len] == '.' &&
            memcmp(key.ptr, plugin, plugin_len) == 0)
            key = pst_str_of(key.ptr + plugin_len + 1, name_len);
        if (key.len != name_len || memcmp(key.ptr, name, name_len) != 0)
            continue;
        free(*out);
        *out = cli_dup(given[i].value.ptr, given[i].value.len);
    }
    return CLI_OK;
}

/* May `key` be appended to a path and mean what the store means by it? */
static bool is_plain_key(pst_str key)
{
    size_t begin = 0;
    while (begin < key.len) {
        const char *slash = memchr(key.ptr + begin, '/', key.len - begin);
        size_t len = slash ? (size_t)(slash - key.ptr) - begin : key.len - begin;
        const char *component = key.ptr + begin;
        if (len == 0 || (component[0] == '.' && (len == 1 || (len == 2 && component[1] == '.'))))
            return false;
        begin += len + 1;
    }
    return true;
}

/* The absolute path behind a location that was opened; NULL when its store does not keep objects as
 * files. Without a slash at the end. */
static int find_path(struct cli *cli, struct transfer_place *place, char **out)
{
    const struct cli_location *location = &place->location;
    struct cli_text_buf path = {0};
    pst_str key = location->parts.key;
    char *root = NULL, *links = NULL;
    int code = CLI_OK;

    *out = NULL;
    if (!(place->info.caps & PST_CAP_EMPTY_DIRS) || location->parts.authority.len > 0)
        return CLI_OK;
    code = find_option(cli, place->info.plugin, "root", &root);
    if (code == CLI_OK)
        code = find_option(cli, place->info.plugin, "symlinks", &links);
    if (code != CLI_OK || !root) {
        free(links);
        return code;
    }
    place->links = links && strcmp(links, "follow") == 0   ? TRANSFER_LINKS_ANYWHERE
                   : links && strcmp(links, "refuse") == 0 ? TRANSFER_LINKS_NEVER
                                                           : TRANSFER_LINKS_INSIDE;
    free(links);
    if (!is_plain_key(key)) {
        code = cli_fail_rc_at(
            cli, PST_E_INVALID, NULL,
            "%s: no file has this name (empty, '.' and '..' components): ", location->uri);
    } else {
        char *absolute = cli_absolute_path(root);
        if (!absolute)
            code = cli_fail_errno(cli, errno, "%s", root);
        if (absolute && strcmp(absolute, "/") != 0)
            cli_addf(&path, "%s", absolute);
        free(absolute);
        if (key.len > 0 && key.ptr[key.len - 1] == '/')
            key.len--;
        if (key.len > 0 || path.len == 0)
            cli_addf(&path, "/");
        cli_add(&path, key.ptr, key.len);
        cli_add(&path, "", 1);
    }
    free(root);
    if (code == CLI_OK)
        *out = path.data;
    else
        cli_text_fini(&path);
    return code;
}

/* Open the place's store once more, rooted at its directory. */
static int open_rooted(struct cli *cli, struct transfer_place *place)
{
    pst_kv root = {PST_STR("root"), pst_str_of(place->dir, strlen(place->dir))};
    int code = cli_store_open(cli, &place->location, &root, &place->store);
    if (code == CLI_OK)
        pst_store_describe(place->store, &place->info);
    return code;
}

/* ---- names -------------------------------------------------------------------------------------- */

static bool ends_in_slash(const char *text)
{
    size_t len = strlen(text);
    return len > 0 && text[len - 1] == '/';
}

static size_t without_slash(pst_str key)
{
    return key.len > 0 && key.ptr[key.len - 1] == '/' ? key.len - 1 : key.len;
}

/* Where the last component of `key`, a slash at its end aside, begins. */
static size_t find_leaf(pst_str key)
{
    size_t at = without_slash(key);
    while (at > 0 && key.ptr[at - 1] != '/')
        at--;
    return at;
}

/* Split the location's key into the place's prefix and name. */
static void set_object(struct transfer_place *place)
{
    pst_str key = place->location.parts.key;
    size_t leaf = find_leaf(key);
    struct cli_text_buf shown = {0};

    place->prefix = cli_dup(key.ptr, leaf);
    place->name = cli_dup(key.ptr + leaf, key.len - leaf);
    cli_add_uri(&shown, &place->location, pst_str_of(key.ptr, leaf));
    cli_add(&shown, "", 1);
    place->shown = shown.data;
}

/* The directory of the file `path`. */
static char *dup_parent(const char *path)
{
    size_t len = (size_t)(strrchr(path, '/') - path);
    return cli_dup(path, len > 0 ? len : 1);
}

/* The location is a directory: a prefix of keys, or `dir` (then the prefix is that store's own). */
static void set_directory(struct transfer_place *place, char *dir)
{
    pst_str key = place->location.parts.key;
    bool lacks_slash = key.len > 0 && key.ptr[key.len - 1] != '/';
    struct cli_text_buf text = {0};

    cli_add(&text, key.ptr, dir ? 0 : key.len);
    cli_add(&text, "/", !dir && lacks_slash);
    cli_add(&text, "", 1);
    place->prefix = text.data;
    memset(&text, 0, sizeof(text));
    cli_add_uri(&text, &place->location, key);
    cli_add(&text, "/", lacks_slash);
    cli_add(&text, "", 1);
    place->shown = text.data;
    place->dir = dir;
}

void transfer_place_fini(struct transfer_place *place)
{
    pst_store_free(place->direct);
    pst_store_free(place->direct_target);
    pst_store_free(place->store);
    cli_location_fini(&place->location);
    free(place->prefix);
    free(place->shown);
    free(place->dir);
    free(place->name);
    free(place->into);
    memset(place, 0, sizeof(*place));
}

static int open_location(struct cli *cli, const char *arg, struct transfer_place *place)
{
    int code = cli_location_parse(cli, arg, 0, &place->location);
    if (code == CLI_OK)
        code = cli_location_open(cli, &place->location);
    if (code == CLI_OK) {
        place->info.struct_size = sizeof(place->info);
        pst_store_describe(place->location.store, &place->info);
    }
    return code;
}

static int need_recursion(struct cli *cli, const struct transfer_place *place)
{
    return cli_usage(cli, "%s: is a directory: use -r, or end it in '/' for its objects alone",
                     place->location.arg);
}

/* ---- sources ------------------------------------------------------------------------------------ */

static int open_source_path(struct cli *cli, const struct transfer_options *options, char *path,
                            struct transfer_place *place)
{
    struct stat st;

    if (options->version.len > 0)
        return cli_usage(cli, "%s: files have no versions", place->location.arg);
    if (stat(path, &st) != 0)
        return cli_fail_errno(cli, errno, "%s", place->location.arg);
    if (S_ISDIR(st.st_mode)) {
        if (!options->is_recursive && !place->location.is_directory)
            return need_recursion(cli, place);
        set_directory(place, cli_dup(path, strlen(path)));
        return open_rooted(cli, place);
    }
    if (place->location.is_directory)
        return cli_fail_errno(cli, ENOTDIR, "%s", place->location.arg);
    if (!S_ISREG(st.st_mode))
        return cli_fail(cli, CLI_USAGE, "%s: neither a file nor a directory", place->location.arg);
    set_object(place);
    place->dir = dup_parent(path);
    place->store = pst_store_ref(place->location.store);
    place->size = (uint64_t)st.st_size;
    place->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return CLI_OK;
}

/* One key of an object store. */
static int open_source_object(struct cli *cli, struct transfer_place *place, bool *is_found)
{
    const pst_stat_options options = {.struct_size = sizeof(options), .version = place->version};
    pst_error err = PST_ERROR_INIT;
    pst_attr *attr = NULL;
    pst_rc rc = pst_stat(place->store, place->location.parts.key, &options, &cli->call, &attr,
                         &err);

    *is_found = rc == PST_OK && attr->kind == PST_KIND_OBJECT;
    if (*is_found) {
        set_object(place);
        place->size = attr->size;
        place->mtime_ns = attr->mtime_ns;
    }
    pst_attr_free(attr);
    return rc == PST_OK || rc == PST_E_NOT_FOUND ? CLI_OK : cli_fail_rc(cli, rc, &err);
}

static int open_source_keys(struct cli *cli, const struct transfer_options *options,
                            struct transfer_place *place)
{
    struct cli_base base = {0};
    bool is_found = false;
    int code = CLI_OK;

    place->store = pst_store_ref(place->location.store);
    place->version = options->version;
    if (!place->location.is_directory && !options->is_recursive)
        code = open_source_object(cli, place, &is_found);
    if (code != CLI_OK || is_found)
        return code;
    if (place->version.len > 0)
        return cli_fail(cli, CLI_NOT_FOUND, "%s: no object has such a version",
                        place->location.uri);
    code = cli_base_find(cli, &place->location, &base);
    if (code != CLI_OK)
        return code;
    if (base.is_object) {
        set_object(place);
        place->size = base.size;
        place->mtime_ns = base.mtime_ns;
    } else if (!options->is_recursive && !place->location.is_directory) {
        code = need_recursion(cli, place);
    } else {
        set_directory(place, NULL);
    }
    cli_base_fini(&base);
    return code;
}

int transfer_source_open(struct cli *cli, const struct transfer_options *options, const char *arg,
                         struct transfer_place *out)
{
    char *path = NULL;
    int code = open_location(cli, arg, out);

    out->is_tree = options->is_recursive;
    if (code == CLI_OK)
        code = find_path(cli, out, &path);
    if (code == CLI_OK)
        code = path ? open_source_path(cli, options, path, out)
                    : open_source_keys(cli, options, out);
    free(path);
    if (code == CLI_OK && options->is_sync && out->name)
        code = cli_usage(cli, "%s: is no directory: sync works on directories", arg);
    if (code == CLI_OK && options->unescapes && !out->dir)
        code = cli_usage(cli, "%s: --unescape-keys is for local files", arg);
    return code;
}

/* ---- the target --------------------------------------------------------------------------------- */

/* The names that source `place` gets below a target that is a directory. */
static void set_into(struct transfer_place *place, bool is_below_own_name)
{
    pst_str key = place->location.parts.key;
    size_t leaf = find_leaf(key), end = without_slash(key);
    struct cli_text_buf into = {0};

    if (!place->name && is_below_own_name && end > leaf) {
        cli_add(&into, key.ptr + leaf, end - leaf);
        cli_add(&into, "/", 1);
    }
    cli_add(&into, "", 1);
    place->into = into.data;
}

/* The place is one file of a store that is rooted at the file's directory. A link that the user names
 * stands for the file that it leads to, as with `get`; a move replaces the link. */
static void set_target_file(struct transfer_place *place, const char *path, bool follows)
{
    char *real = follows ? realpath(path, NULL) : NULL;
    struct cli_text_buf shown = {0};

    set_object(place);
    place->prefix[0] = '\0';
    place->dir = dup_parent(real ? real : path);
    if (real && strcmp(real, path) != 0) {
        const char *leaf = strrchr(real, '/') + 1;
        free(place->name);
        place->name = cli_dup(leaf, strlen(leaf));
        cli_add_uri(&shown, &place->location, pst_str_of(real + 1, (size_t)(leaf - real) - 1));
        cli_add(&shown, "", 1);
        free(place->shown);
        place->shown = shown.data;
    }
    free(real);
}

static int open_target_path(struct cli *cli, const struct transfer_options *options, char *path,
                            bool is_directory, size_t n_sources, struct transfer_place *place)
{
    struct stat st;
    bool is_there = stat(path, &st) == 0;

    if (!is_there && errno != ENOENT)
        return cli_fail_errno(cli, errno, "%s", place->location.arg);
    if (is_there && !S_ISDIR(st.st_mode) && is_directory)
        return cli_fail_errno(cli, ENOTDIR, "%s", place->location.arg);
    is_there = is_there && S_ISDIR(st.st_mode);
    if (n_sources > 1 && !is_there && !place->location.is_directory &&
        !options->is_target_directory)
        return cli_usage(cli, "%s: is no directory, and there are several sources",
                         place->location.arg);
    if (is_directory || is_there) {
        set_directory(place, cli_dup(path, strlen(path)));
        return is_there ? open_rooted(cli, place) : CLI_OK;
    }
    set_target_file(place, path, !options->is_move);
    is_there = stat(place->dir, &st) == 0 && S_ISDIR(st.st_mode);
    return is_there ? open_rooted(cli, place) : CLI_OK;
}

int transfer_target_open(struct cli *cli, const struct transfer_options *options, const char *arg,
                         struct transfer_place *sources, size_t n_sources,
                         struct transfer_place *out)
{
    char *path = NULL;
    int code = open_location(cli, arg, out);
    bool is_directory = out->location.is_directory || options->is_target_directory || n_sources > 1;

    for (size_t i = 0; i < n_sources; i++)
        is_directory = is_directory || !sources[i].name;
    if (code == CLI_OK)
        code = find_path(cli, out, &path);
    if (code != CLI_OK)
        return code;
    if (!path && options->is_target_local)
        code = cli_usage(cli, "%s: is no local directory", arg);
    else if (!path && options->escapes)
        code = cli_usage(cli, "%s: --escape-keys is for local directories", arg);
    else if (path)
        code = open_target_path(cli, options, path, is_directory, n_sources, out);
    else if (n_sources > 1 && !out->location.is_directory && !options->is_target_directory)
        code = cli_usage(cli, "%s: must end in '/', as there are several sources", arg);
    else if (is_directory)
        set_directory(out, NULL);
    else
        set_object(out);
    if (code == CLI_OK && !path)
        out->store = pst_store_ref(out->location.store);
    free(path);

    /* "tree" to "copy" is a copy of the tree; into "copy/", and among others, it keeps its name. */
    bool is_into = ends_in_slash(out->location.uri) || options->is_target_directory ||
                   n_sources > 1;
    for (size_t i = 0; i < n_sources && code == CLI_OK; i++)
        set_into(&sources[i], is_into && !options->is_sync && !sources[i].location.is_directory);
    return code;
}

/* mkdir -p */
static int make_directories(struct cli *cli, const char *dir)
{
    char *path = cli_dup(dir, strlen(dir));
    int code = CLI_OK;

    for (char *at = path + 1; code == CLI_OK; at++) {
        char was = *at;
        if (was != '/' && was != '\0')
            continue;
        *at = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            code = cli_fail_errno(cli, errno, "%s", path);
        *at = was;
        if (was == '\0')
            break;
    }
    free(path);
    return code;
}

int transfer_target_ready(struct cli *cli, struct transfer_place *target)
{
    int code = CLI_OK;
    if (target->store)
        return CLI_OK;
    code = make_directories(cli, target->dir);
    return code == CLI_OK ? open_rooted(cli, target) : code;
}
