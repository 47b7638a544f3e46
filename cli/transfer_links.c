/* transfer_links.c - what a listing of a local directory leaves out.
 *
 * The file plugin follows links to files as its option `symlinks` says: inside the directory that the
 * store is rooted at (the default; an absolute link counts as leading out), anywhere, or never. Links
 * that it does not follow, links to directories, and fifos, sockets and devices do not appear in its
 * recursive listings. A copy without them would be incomplete and look complete, so this walk finds
 * them beforehand. It reads names and types only (d_type), resolves links alone, by the same call with
 * the same flags as the plugin, and enters none. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transfer.h"

struct walk {
    struct cli *cli;
    int root_fd;
    struct cli_text_buf path; /* of the entry, relative to the root; NUL-terminated */
    bool is_tree;
    enum transfer_links links;
    transfer_link_fn fn;
    void *arg;
};

/* Open what the link leads to, as the plugin would; -1 and errno. */
static int follow_link(const struct walk *walk)
{
    struct open_how how = {.flags = O_PATH | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    if (walk->links == TRANSFER_LINKS_ANYWHERE)
        return openat(walk->root_fd, walk->path.data, O_PATH | O_CLOEXEC);
    return (int)syscall(SYS_openat2, walk->root_fd, walk->path.data, &how, sizeof(how));
}

/* Why a listing leaves this link out, or NULL: it shows the file behind it. */
static const char *judge_link(const struct walk *walk)
{
    const char *why = NULL;
    struct stat st;
    int fd;

    if (walk->links == TRANSFER_LINKS_NEVER)
        return "a symbolic link";
    fd = follow_link(walk);
    if (fd < 0)
        return errno == EXDEV ? "a symbolic link that is absolute or leads out of the source"
               : errno == ENOENT || errno == ENOTDIR ? "a symbolic link that leads nowhere"
               : errno == ELOOP                      ? "a symbolic link in a circle"
                                                     : "a symbolic link that cannot be followed";
    if (fstat(fd, &st) != 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
        why = "a symbolic link to neither a file nor a directory";
    else if (S_ISDIR(st.st_mode) && walk->is_tree && walk->links != TRANSFER_LINKS_ANYWHERE)
        why = "a symbolic link to a directory";
    close(fd);
    return why;
}

static int walk_dir(struct walk *walk);

static int judge_entry(struct walk *walk, char type)
{
    const char *why = NULL;

    if (type == DT_DIR)
        return walk->is_tree ? walk_dir(walk) : CLI_OK;
    if (type == DT_LNK)
        why = judge_link(walk);
    else if (type != DT_REG)
        why = "neither a file nor a directory";
    if (why)
        walk->fn(walk->arg, walk->path.data, why);
    return CLI_OK;
}

static char find_type(int dir_fd, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN)
        return (char)entry->d_type;
    return fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (char)IFTODT(st.st_mode)
                                                                         : (char)DT_REG;
}

/* Collect type and name of all but files; so the depth of a tree costs memory and no descriptors. */
static int read_names(struct walk *walk, struct cli_text_buf *names)
{
    const char *path = walk->path.len > 0 ? walk->path.data : ".";
    int fd = openat(walk->root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;

    if (!dir) {
        int sys_errno = errno;
        if (fd >= 0)
            close(fd);
        return cli_fail_errno(walk->cli, sys_errno, "%s", path);
    }
    errno = 0;
    while ((entry = readdir(dir)) != NULL) {
        char type = find_type(fd, entry);
        if (type != DT_REG && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            cli_add(names, &type, 1);
            cli_add(names, entry->d_name, strlen(entry->d_name) + 1);
        }
        errno = 0;
    }
    int code = errno == 0 ? CLI_OK : cli_fail_errno(walk->cli, errno, "%s", path);
    closedir(dir);
    return code;
}

static int walk_dir(struct walk *walk)
{
    struct cli_text_buf names = {0};
    size_t len = walk->path.len;
    int code = read_names(walk, &names);

    for (size_t i = 0; i < names.len && code == CLI_OK; i += strlen(names.data + i) + 1) {
        char type = names.data[i++];
        walk->path.len = len;
        cli_addf(&walk->path, len > 0 ? "/%s" : "%s", names.data + i);
        code = cli_interrupted(walk->cli) ? CLI_INTERRUPTED : judge_entry(walk, type);
    }
    cli_text_fini(&names);
    return code;
}

int transfer_walk_links(struct cli *cli, const struct transfer_place *place,
                        enum transfer_links links, transfer_link_fn fn, void *arg)
{
    struct walk walk = {
        .cli = cli, .is_tree = place->is_tree, .links = links, .fn = fn, .arg = arg};
    int code;

    walk.root_fd = open(place->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (walk.root_fd < 0)
        return cli_fail_errno(cli, errno, "%s", place->dir);
    code = walk_dir(&walk);
    close(walk.root_fd);
    cli_text_fini(&walk.path);
    return code;
}
