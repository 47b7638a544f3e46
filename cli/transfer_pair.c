/* transfer_pair.c - a source and the target together: do they overlap, and does one store hold both?
 *
 * Overlap is looked for before anything is changed. Local places are compared by their real paths,
 * links resolved as far as the path exists, keys as text: both end in '/', so that "tree" is no part of
 * "tree2".
 *
 * A store that holds both sides copies and renames by itself, which moves no bytes through here; so does
 * one that may copy from the other's container, if the library finds that the two are alike. For
 * two local directories that is a store rooted at "/". It does not keep names below the target as the
 * store rooted there does, so each name is looked at first: one that a link would lead elsewhere goes
 * the long way, and fails there with the plugin's own words. (Somebody who can replace directories of
 * the target by links in the instant between can lead a rename astray; a copy through the rooted store
 * he cannot.) */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transfer.h"

/* ---- places that overlap ------------------------------------------------------------------------ */

/* The path `dir` with links resolved as far as it exists; ends in '/'. free(). */
static char *find_real_path(const char *dir)
{
    struct cli_text_buf out = {0};
    char *head = cli_dup(dir, strlen(dir));
    size_t len = strlen(dir);
    char *real = NULL;

    while (len > 0 && !(real = realpath(head, NULL))) {
        while (len > 0 && head[--len] != '/')
            continue;
        head[len] = '\0';
    }
    if (real && strcmp(real, "/") != 0)
        cli_addf(&out, "%s", real);
    cli_addf(&out, "%s", dir + len);
    if (out.len == 0 || out.data[out.len - 1] != '/')
        cli_add(&out, "/", 1);
    cli_add(&out, "", 1);
    free(head);
    free(real);
    return out.data;
}

/* Where the names of a place lie, as text that can be compared with another place's: a real path, or
 * the prefix of keys. `below` is what follows (a name, `into`). free(). */
static char *find_position(const struct transfer_place *place, const char *below)
{
    struct cli_text_buf text = {0};
    char *base = place->dir ? find_real_path(place->dir)
                            : cli_dup(place->prefix, strlen(place->prefix));
    cli_addf(&text, "%s%s", base, below);
    cli_add(&text, "", 1);
    free(base);
    return text.data;
}

static bool begins_with(const char *text, const char *head)
{
    return strncmp(text, head, strlen(head)) == 0;
}

/* Two names of one file (hard links, links in the path)? */
static bool is_same_file(const struct transfer_place *source, const char *source_name,
                         const struct transfer_place *target, const char *target_name)
{
    char *a = find_position(source, source_name), *b = find_position(target, target_name);
    struct stat st_a, st_b;
    bool is_same = stat(a, &st_a) == 0 && stat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev &&
                   st_a.st_ino == st_b.st_ino;
    free(a);
    free(b);
    return is_same;
}

int transfer_check_overlap(struct cli *cli, const struct transfer_options *options,
                           const struct cli_flow *flow, const struct transfer_place *source,
                           const struct transfer_place *target)
{
    const char *to_name = target->name ? target->name : source->name;
    const char *from_arg = source->location.arg, *to_arg = target->location.arg;
    int code = CLI_OK;

    if (!source->dir != !target->dir ||
        (!source->dir && source->location.store != target->location.store))
        return CLI_OK;
    if (source->name && cli_flow_compresses(flow, pst_str_of(source->name, strlen(source->name))))
        return CLI_OK; /* the target has another name, and what is named .zst is not compressed */
    char *from = find_position(source, source->name ? source->name : "");
    char *to = find_position(target, source->name ? to_name : source->into);
    bool is_same = strcmp(from, to) == 0;
    if (source->name) {
        if (is_same || (source->dir && is_same_file(source, source->name, target, to_name)))
            code = cli_usage(cli, "%s and %s are the same object", from_arg, to_arg);
    } else if (is_same) {
        code = cli_usage(cli, "%s and %s are the same directory", from_arg, to_arg);
    } else if (begins_with(to, from)) {
        code = cli_usage(cli, "%s lies inside %s, its source", to_arg, from_arg);
    } else if (begins_with(from, to) && (options->is_move || options->deletes_extras)) {
        code = cli_usage(cli, "%s lies inside %s, its target", from_arg, to_arg);
    }
    free(from);
    free(to);
    return code;
}

/* ---- stores that copy ------------------------------------------------------------------------- */

int transfer_direct_open(struct cli *cli, struct transfer_place *source,
                         const struct transfer_place *target)
{
    const pst_kv root = {PST_STR("root"), PST_STR("/")};

    bool is_one_plugin = strcmp(source->info.plugin, target->info.plugin) == 0;

    if (!source->dir && !target->dir && is_one_plugin &&
        (source->store == target->store || (target->info.caps & PST_CAP_COPY_ACROSS))) {
        source->direct = pst_store_ref(source->store);
        source->direct_target = pst_store_ref(target->store);
    }
    if (source->dir && target->dir && is_one_plugin) {
        int code = cli_store_open(cli, &target->location, &root, &source->direct);
        if (code != CLI_OK)
            return code;
        source->direct_target = pst_store_ref(source->direct);
    }
    return CLI_OK;
}

void transfer_direct_key(const struct transfer_place *place, pst_str name, struct cli_text_buf *out)
{
    out->len = 0;
    if (place->dir) {
        cli_addf(out, "%s", place->dir + 1);
        if (out->len > 0)
            cli_add(out, "/", 1);
    } else {
        cli_addf(out, "%s", place->prefix);
    }
    cli_add(out, name.ptr, name.len);
}

bool transfer_is_beneath(const char *dir, const char *name)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    const char *slash = strrchr(name, '/');
    char *parent = cli_dup(name, slash ? (size_t)(slash - name) : 0);
    bool is_beneath = false;
    int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (dir_fd >= 0) {
        long fd = syscall(SYS_openat2, dir_fd, slash ? parent : ".", &how, sizeof(how));
        /* Up to the first component that is missing, no step left the directory. */
        is_beneath = fd >= 0 || errno == ENOENT;
        if (fd >= 0)
            close((int)fd);
        close(dir_fd);
    }
    free(parent);
    return is_beneath;
}
