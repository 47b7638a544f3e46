/* remove.c - removing objects, making and removing directories.
 *
 * A key is removed exactly: nothing else, no parent directory, no directory of that name. A key that is
 * not there is OK, since what was asked for is so. What is no object (a directory, a fifo, a device) is
 * not removed. Of a symbolic link the link goes, not what it leads to. */
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <penstock/sync.h>

#define DENTS_BYTES 4096

/* May what is called `key` be removed? *is_there 0: nothing to do. */
static pst_rc look(const pst_backend *b, pst_op *op, pst_str key, const struct fst_parent *parent,
                   pst_str if_match, int *is_there)
{
    struct stat st;

    *is_there = fstatat(parent->fd, fst_leaf(parent), &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!*is_there && errno != ENOENT)
        return fst_fail_errno(b, op, errno, key, "stat");
    int is_dangling = 0;
    if (*is_there && S_ISLNK(st.st_mode) && fst_lookup(b, parent->path, &st) != 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return fst_fail_errno(b, op, errno, key, "stat");
        is_dangling = 1; /* no object, but nothing else either: it may go */
    }
    if (*is_there && !is_dangling && !S_ISREG(st.st_mode))
        return fst_fail(b, op, PST_E_INVALID, key, "is %s, not an object",
                        fst_type_text(st.st_mode));
    return fst_match_check(b, op, key, *is_there && !is_dangling ? &st : NULL, if_match);
}

/* ENOENT: somebody was faster. After other errors it may be gone all the same (NFS: the reply was lost). */
static pst_rc unlink_object(const pst_backend *b, pst_op *op, pst_str key,
                            const struct fst_parent *parent)
{
    struct stat st;

    if (unlinkat(parent->fd, fst_leaf(parent), 0) == 0 || errno == ENOENT)
        return PST_OK;
    int saved = errno;
    int is_there = fstatat(parent->fd, fst_leaf(parent), &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!is_there && errno == ENOENT)
        return PST_OK;
    pst_rc rc = fst_fail_errno(b, op, saved, key, "remove");
    if (!is_there)
        op->err->flags |= PST_ERR_MAYBE_APPLIED;
    return rc;
}

static pst_rc remove_one(const pst_backend *b, pst_op *op, pst_str key, pst_str if_match)
{
    struct fst_parent parent;
    int lock_fd = -1, is_there = 0;
    pst_rc rc = fst_key_check(b, op, key);

    if (rc != PST_OK)
        return rc;
    rc = fst_parent_open(b, op, key, 0, &parent);
    if (rc == PST_E_NOT_FOUND) /* its directory is missing, or is a file: no such object */
        return fst_match_check(b, op, key, NULL, if_match);
    if (rc != PST_OK)
        return rc;
    rc = fst_lock(b, op, parent.fd, key, if_match.len > 0, &lock_fd);
    if (rc == PST_OK)
        rc = look(b, op, key, &parent, if_match, &is_there);
    if (rc == PST_OK && is_there) {
        rc = unlink_object(b, op, key, &parent);
        if (rc == PST_OK && b->fsync == FST_FSYNC_FULL && fst_dir_sync(parent.fd) != 0) {
            rc = fst_fail_errno(b, op, errno, key, "flush the directory");
            op->err->flags |= PST_ERR_MAYBE_APPLIED;
        }
    }
    fst_unlock(lock_fd);
    fst_parent_close(b, &parent, 0);
    return rc;
}

/* What both have room for; the other's struct_size stays, and so does what lies beyond ours. */
static void copy_error(pst_error *to, const pst_error *from)
{
    size_t n = to->struct_size < sizeof(*from) ? to->struct_size : sizeof(*from);
    const size_t head = sizeof(to->struct_size);

    if (n > head)
        memcpy((char *)to + head, (const char *)from + head, n - head);
}

pst_rc fst_remove(pst_backend *b, pst_op *op, const pst_remove_args *args,
                  pst_remove_result *result)
{
    pst_str if_match = pst_str_of(NULL, 0);

    if (PST_HAS(pst_remove_args, args, if_match))
        if_match = args->if_match;
    if (if_match.len > 0 && args->n_keys != 1)
        return fst_error_set(op->err, PST_E_INVALID, 0, "if_match needs exactly one key");
    for (size_t i = 0; i < args->n_keys; i++) {
        if (i > 0 && pst_sync_cancelled(op))
            return fst_cancelled(op);
        pst_rc rc = args->versions && args->versions[i].len > 0
                        ? fst_fail(b, op, PST_E_UNIMPLEMENTED, args->keys[i],
                                   "a file system keeps no old versions")
                        : remove_one(b, op, args->keys[i], if_match);
        result->status[i] = rc;
        if (rc != PST_OK && result->errors)
            copy_error((pst_error *)((char *)result->errors + i * result->error_stride), op->err);
    }
    return PST_OK;
}

/* A container is a directory; "a/b/" is the same as "a/b". */
static pst_rc container_key(const pst_backend *b, pst_op *op, pst_str name, pst_str *key)
{
    *key = name;
    if (key->len > 1 && key->ptr[key->len - 1] == '/')
        key->len--;
    return fst_key_check(b, op, *key);
}

pst_rc fst_container_create(pst_backend *b, pst_op *op, const pst_container_args *args,
                            pst_result *result)
{
    struct fst_parent parent;
    pst_str key;

    (void)result;
    if (args->name.len == 0)
        return fst_fail(b, op, PST_E_EXISTS, args->name, "the root of the store is there");
    pst_rc rc = container_key(b, op, args->name, &key);
    if (rc == PST_OK)
        rc = fst_parent_open(b, op, key, 1, &parent);
    if (rc != PST_OK)
        return rc;
    if (mkdirat(parent.fd, fst_leaf(&parent), 0777) != 0) /* the kernel applies the umask */
        rc = fst_fail_errno(b, op, errno, key, "mkdir");
    else if (b->fsync == FST_FSYNC_FULL && fst_dir_sync(parent.fd) != 0)
        rc = fst_fail_errno(b, op, errno, key, "flush the directory");
    fst_parent_close(b, &parent, rc != PST_OK);
    return rc;
}

/* Is there nothing in it but our lock file? 1, 0, or -1 and errno. */
static int holds_lock_only(int dir_fd)
{
    union { /* aligned for what the kernel writes */
        uint64_t align;
        char bytes[DENTS_BYTES];
    } buffer;
    int n_others = 0;
    ssize_t got;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -1;
    while (n_others == 0 && (got = getdents64(fd, buffer.bytes, sizeof(buffer.bytes))) > 0) {
        for (ssize_t at = 0; at < got;) {
            const struct dirent64 *entry = (const struct dirent64 *)(const void *)(buffer.bytes +
                                                                                   at);
            n_others += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                        strcmp(entry->d_name, FST_LOCK_NAME) != 0;
            at += entry->d_reclen;
        }
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return n_others > 0 ? 0 : got < 0 ? -1 : 1;
}

static int remove_dir(const struct fst_parent *parent)
{
    if (unlinkat(parent->fd, fst_leaf(parent), AT_REMOVEDIR) == 0)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return -1;
    int dir_fd = openat(parent->fd, fst_leaf(parent),
                        O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir_fd < 0)
        return -1;
    int rc = holds_lock_only(dir_fd);
    if (rc == 1)
        rc = fst_lock_remove(dir_fd);
    else if (rc == 0) {
        errno = ENOTEMPTY;
        rc = -1;
    }
    int saved = errno;
    close(dir_fd);
    errno = saved;
    return rc != 0 ? rc : unlinkat(parent->fd, fst_leaf(parent), AT_REMOVEDIR);
}

pst_rc fst_container_delete(pst_backend *b, pst_op *op, const pst_container_args *args,
                            pst_result *result)
{
    struct fst_parent parent;
    struct stat st;
    pst_str key;

    (void)result;
    if (args->name.len == 0)
        return fst_fail(b, op, PST_E_INVALID, args->name, "the root of the store is not removed");
    pst_rc rc = container_key(b, op, args->name, &key);
    if (rc == PST_OK)
        rc = fst_parent_open(b, op, key, 0, &parent);
    if (rc != PST_OK)
        return rc;
    if (fstatat(parent.fd, fst_leaf(&parent), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        !S_ISDIR(st.st_mode)) {
        rc = fst_fail(b, op, PST_E_NOT_FOUND, key, "is %s, not a directory",
                      fst_type_text(st.st_mode));
    } else if (remove_dir(&parent) != 0) {
        rc = errno == ENOTEMPTY || errno == EEXIST
                 ? fst_fail(b, op, PST_E_PRECONDITION, key, "is not empty")
                 : fst_fail_errno(b, op, errno, key, "rmdir");
    } else if (b->fsync == FST_FSYNC_FULL && fst_dir_sync(parent.fd) != 0) {
        rc = fst_fail_errno(b, op, errno, key, "flush the directory");
        op->err->flags |= PST_ERR_MAYBE_APPLIED;
    }
    fst_parent_close(b, &parent, 0);
    return rc;
}
