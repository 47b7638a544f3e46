/* path.c - keys, and opening what they name without leaving the root.
 *
 * A key is bytes: "a/b" is the file b in the directory a below the root, and no byte is folded,
 * trimmed or decoded on the way. What a file system cannot hold exactly is refused before any I/O,
 * so that two keys never share a file and no key reaches outside ("..").
 *
 * The name itself is safe then; symbolic links below the root are the rest of the problem, since
 * anybody who may write there can make one at any moment. Looking first and opening afterwards loses
 * that race. So the kernel does both at once: openat2() with RESOLVE_BENEATH refuses a step out of
 * the root with EXDEV (an absolute link counts as one). Kernels before 5.6, and some sandboxes, have
 * no openat2; there we walk component by component with O_NOFOLLOW and follow no link at all. With
 * the root "/" there is no outside, and a plain openat() does.
 *
 * Fails: INVALID for a bad key, NOT_FOUND, DENIED for rights and links. A directory that vanishes
 * between two steps of making a path is made again, a few times.
 *
 * Does not: cache descriptors of directories. A cached one would keep reading a directory that was
 * renamed away. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    RESOLVE_TRIES = 64, /* openat2 gives EAGAIN when a rename runs beside it */
    MAKE_TRIES = 64     /* another writer may remove an empty directory that we just made */
};

static int is_hex(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f')))
            return 0;
    }
    return 1;
}

/* ".penstock-tmp-<16 hex of the boot id>-<pid>-<16 hex of chance>", exactly. */
int fst_is_temp_name(const char *name, size_t len)
{
    static const char head[] = ".penstock-tmp-";
    const size_t head_len = sizeof(head) - 1;
    size_t pid_len = 0;

    if (len < head_len + 16 + 1 + 1 + 1 + 16 || memcmp(name, head, head_len) != 0 ||
        !is_hex(name + head_len, 16) || name[head_len + 16] != '-')
        return 0;
    const char *pid = name + head_len + 17;
    const char *end = name + len - 17;
    while (pid + pid_len < end && pid[pid_len] >= '0' && pid[pid_len] <= '9')
        pid_len++;
    return pid_len > 0 && pid_len <= 10 && pid + pid_len == end && end[0] == '-' &&
           is_hex(end + 1, 16);
}

int fst_is_own_name(const char *name, size_t len)
{
    const size_t lock_len = sizeof(FST_LOCK_NAME) - 1;

    if (len < lock_len || name[0] != '.')
        return 0;
    return (len == lock_len && memcmp(name, FST_LOCK_NAME, len) == 0) ||
           fst_is_temp_name(name, len);
}

const char *fst_component_fault(const char *name, size_t len)
{
    if (len == 0)
        return "a key has no empty component (no leading, trailing or double slash)";
    if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
        return "a key has no component \".\" or \"..\"";
    if (len > FST_COMPONENT_MAX)
        return "a component of a key is at most 255 bytes long";
    if (fst_is_own_name(name, len))
        return "this name is reserved for temporary and lock files";
    return NULL;
}

pst_rc fst_key_check(const pst_backend *b, pst_op *op, pst_str key)
{
    const char *fault = NULL;

    if (key.len == 0)
        fault = "the key is empty";
    else if (key.len > FST_KEY_MAX)
        fault = "a key is at most 4000 bytes long";
    else if (memchr(key.ptr, '\0', key.len))
        fault = "a key holds no NUL byte";
    for (size_t start = 0; !fault && start <= key.len;) {
        const char *slash = memchr(key.ptr + start, '/', key.len - start);
        size_t end = slash ? (size_t)(slash - key.ptr) : key.len;
        fault = fst_component_fault(key.ptr + start, end - start);
        start = end + 1;
    }
    return fault ? fst_fail(b, op, PST_E_INVALID, key, "%s", fault) : PST_OK;
}

/* Without openat2: every component by itself, no link followed. `path` is writable and restored. */
static int walk(const pst_backend *b, char *path, int flags)
{
    int fd = b->root_fd;
    char *name = path;

    for (;;) {
        char *slash = strchr(name, '/');
        if (slash)
            *slash = '\0';
        int next = openat(fd, name,
                          (slash ? O_PATH | O_DIRECTORY : flags) | O_NOFOLLOW | O_CLOEXEC);
        int saved = errno;
        struct stat st;
        if (next < 0 && saved == ENOTDIR && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISLNK(st.st_mode))
            saved = ELOOP; /* say what it is, as openat2 does */
        if (next >= 0 && (flags & O_PATH) && !slash && fstat(next, &st) == 0 &&
            S_ISLNK(st.st_mode)) { /* O_PATH | O_NOFOLLOW opens the link itself */
            close(next);
            next = -1;
            saved = ELOOP;
        }
        if (slash)
            *slash = '/';
        if (fd != b->root_fd)
            close(fd);
        errno = saved;
        if (next < 0 || !slash)
            return next;
        fd = next;
        name = slash + 1;
    }
}

int fst_open(const pst_backend *b, const char *path, int flags)
{
    if (b->confine == FST_PLAIN)
        return openat(b->root_fd, path, flags | O_CLOEXEC);
    if (b->confine == FST_WALK) {
        char copy[FST_PATH_SIZE];
        size_t len = strlen(path);
        if (len >= sizeof(copy)) {
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(copy, path, len + 1);
        return walk(b, copy, flags);
    }
    struct open_how how = {.flags = (uint64_t)(uint32_t)flags | O_CLOEXEC, .resolve = b->resolve};
    long fd = -1;
    for (int i = 0; i < RESOLVE_TRIES; i++) {
        fd = syscall(SYS_openat2, b->root_fd, path, &how, sizeof(how));
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    return (int)fd;
}

int fst_lookup(const pst_backend *b, const char *path, struct stat *st)
{
    if (b->confine == FST_PLAIN)
        return fstatat(b->root_fd, path, st, 0);
    /* O_PATH touches nothing: no rights on the file needed, no device woken up. */
    int fd = fst_open(b, path, O_PATH);
    if (fd < 0)
        return -1;
    int rc = fstat(fd, st);
    int saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

const char *fst_type_text(mode_t mode)
{
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISFIFO(mode))
        return "a fifo";
    if (S_ISSOCK(mode))
        return "a socket";
    if (S_ISLNK(mode))
        return "a symbolic link";
    if (S_ISREG(mode))
        return "a file";
    return "a device";
}

pst_rc fst_object_open(const pst_backend *b, pst_op *op, pst_str key, int *fd, struct stat *st)
{
    char path[FST_KEY_MAX + 1];

    memcpy(path, key.ptr, key.len);
    path[key.len] = '\0';
    /* O_NONBLOCK: opening a fifo would wait for a writer. It means nothing for regular files. */
    *fd = fst_open(b, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0 && (errno == ENXIO || errno == ENODEV))
        return fst_fail(b, op, PST_E_NOT_FOUND, key, "is a socket or device, not an object");
    if (*fd < 0)
        return fst_fail_errno(b, op, errno, key, "open");
    pst_rc rc = PST_OK;
    if (fstat(*fd, st) != 0)
        rc = fst_fail_errno(b, op, errno, key, "fstat");
    else if (!S_ISREG(st->st_mode))
        rc = fst_fail(b, op, PST_E_NOT_FOUND, key, "is %s, not an object",
                      fst_type_text(st->st_mode));
    if (rc != PST_OK) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}

pst_rc fst_empty_check(const pst_backend *b, pst_op *op, pst_str key, int fd, const struct stat *st)
{
    char byte;

    if (st->st_size == 0 && pread(fd, &byte, 1, 0) > 0)
        return fst_fail(b, op, PST_E_CHANGED, key, "holds bytes although its size is 0");
    return PST_OK;
}

const char *fst_leaf(const struct fst_parent *parent)
{
    return parent->path + (parent->dir_len > 0 ? parent->dir_len + 1 : 0);
}

/* Open the directory path[0..len). */
static int open_dir(const pst_backend *b, char *path, size_t len)
{
    if (len == 0)
        return fst_open(b, ".", O_PATH | O_DIRECTORY);
    char kept = path[len];
    path[len] = '\0';
    int fd = fst_open(b, path, O_PATH | O_DIRECTORY);
    int saved = errno;
    path[len] = kept;
    errno = saved;
    return fd;
}

/* Make what is missing of the directory, from the top. 0, or -1 and errno. */
static int make_dirs(const pst_backend *b, struct fst_parent *parent)
{
    char *path = parent->path;
    int above = open_dir(b, path, 0);
    int saved = 0;

    parent->created_len = 0; /* what an earlier try made may be another's by now */
    for (size_t start = 0, end; above >= 0 && start < parent->dir_len; start = end + 1) {
        end = start + (size_t)(strchr(path + start, '/') - (path + start));
        int fd = open_dir(b, path, end);
        if (fd < 0 && errno == ENOENT) {
            path[end] = '\0';
            int rc = mkdirat(above, path + start, 0777); /* the kernel applies the umask */
            saved = errno;
            path[end] = '/';
            if (rc == 0 && b->fsync == FST_FSYNC_FULL && fst_dir_sync(above) != 0) {
                rc = -1;
                saved = errno;
            }
            if (rc == 0 && parent->created_len == 0)
                parent->created_len = end;
            else if (rc != 0 && saved == EEXIST)
                parent->created_len = 0; /* what lies below it is not ours alone */
            errno = saved;
            fd = rc == 0 || saved == EEXIST ? open_dir(b, path, end) : -1;
        }
        saved = errno;
        close(above);
        errno = saved;
        above = fd;
    }
    if (above < 0)
        return -1;
    parent->fd = above;
    return 0;
}

pst_rc fst_parent_open(const pst_backend *b, pst_op *op, pst_str key, int create,
                       struct fst_parent *parent)
{
    memcpy(parent->path, key.ptr, key.len);
    parent->path[key.len] = '\0';
    parent->path_len = key.len;
    parent->created_len = 0;
    const char *slash = memrchr(parent->path, '/', key.len);
    parent->dir_len = slash ? (size_t)(slash - parent->path) : 0;

    parent->fd = open_dir(b, parent->path, parent->dir_len);
    for (int i = 0; parent->fd < 0 && create && errno == ENOENT && i < MAKE_TRIES; i++)
        make_dirs(b, parent);
    if (parent->fd >= 0)
        return PST_OK;
    int saved = errno;
    fst_parent_close(b, parent, 1);
    if (saved == ENOTDIR && create)
        return fst_fail(b, op, PST_E_INVALID, key,
                        "an object cannot be a directory too: a part of this key is a file");
    return fst_fail_errno(b, op, saved, key, "open the directory");
}

void fst_parent_close(const pst_backend *b, struct fst_parent *parent, int drop)
{
    if (parent->fd >= 0)
        close(parent->fd);
    parent->fd = -1;
    size_t end = parent->dir_len;
    while (drop && parent->created_len > 0 && end >= parent->created_len) {
        size_t start = end;
        while (start > 0 && parent->path[start - 1] != '/')
            start--;
        int above = open_dir(b, parent->path, start > 0 ? start - 1 : 0);
        if (above < 0)
            break;
        parent->path[end] = '\0';
        int rc = unlinkat(above, parent->path + start, AT_REMOVEDIR); /* only if it is empty */
        parent->path[end] = '/';
        close(above);
        if (rc != 0 || start == 0)
            break;
        end = start - 1;
    }
    parent->created_len = 0;
}

int fst_dir_sync(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    int saved = errno;
    if (close(fd) != 0 && rc == 0) {
        rc = -1;
        saved = errno;
    }
    errno = saved;
    /* Some file systems have no fsync of directories: nothing to wait for there. */
    return rc != 0 && errno == EINVAL ? 0 : rc;
}
