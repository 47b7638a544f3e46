/* move.c - copy and rename inside the store.
 *
 * A copy is a write (write.c) whose bytes come from another file: the target appears whole, the source
 * is checked for changes before it is published, and the kernel moves the bytes itself where it can
 * (copy_file_range: a reflink on xfs and btrfs).
 *
 * A rename is one renameat2(). It answers UNIMPLEMENTED, and the host may copy and delete, where one
 * call cannot do it: another file system, a symbolic link (a relative one would lead elsewhere from its
 * new place), two names of one file (POSIX has rename() leave both), attributes to be replaced. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pst_rc check_args(const pst_backend *b, pst_op *op, const pst_copy_args *args)
{
    pst_rc rc = fst_key_check(b, op, args->from);

    if (rc == PST_OK)
        rc = fst_key_check(b, op, args->to);
    if (rc == PST_OK && args->from_version.len > 0)
        rc = fst_fail(b, op, PST_E_UNIMPLEMENTED, args->from,
                      "a file system keeps no old versions");
    return rc;
}

/* A directory as source is a mistake of another kind than a missing object. */
static pst_rc refuse_dir(const pst_backend *b, pst_op *op, pst_str key)
{
    char path[FST_KEY_MAX + 1];
    struct stat st;

    memcpy(path, key.ptr, key.len);
    path[key.len] = '\0';
    if (fst_lookup(b, path, &st) == 0 && S_ISDIR(st.st_mode))
        return fst_fail(b, op, PST_E_INVALID, key, "is a directory, not an object");
    return PST_OK;
}

/* The bytes and attributes of the open source into the begun write, then publish. */
static pst_rc fill_and_publish(struct fst_write *w, pst_op *op, const pst_copy_args *args,
                               int from_fd, const struct stat *before, pst_put_result *result)
{
    const pst_backend *b = w->backend;
    const uint64_t size = (uint64_t)before->st_size;
    pst_sum sums[FST_SUMS_MAX];
    struct stat after;
    uint32_t n_sums = fst_sums_read(from_fd, before, sums);
    pst_rc rc = fst_copy_bytes(b, op, args->from, from_fd, w->fd, size);

    if (rc == PST_OK && fstat(from_fd, &after) != 0)
        rc = fst_fail_errno(b, op, errno, args->from, "fstat");
    else if (rc == PST_OK && !fst_is_unchanged(before, &after))
        rc = fst_fail(b, op, PST_E_CHANGED, args->from, "was changed while it was copied");
    if (rc == PST_OK)
        rc = fst_write_publish(w, op, size, sums, sizeof(sums[0]), n_sums, result);
    return rc;
}

pst_rc fst_copy(pst_backend *b, pst_op *op, const pst_copy_args *args, pst_put_result *result)
{
    pst_attr attr = {.struct_size = sizeof(attr)};
    struct fst_write w;
    struct stat st;
    int from_fd = -1;
    pst_rc rc = check_args(b, op, args);

    if (rc == PST_OK)
        rc = refuse_dir(b, op, args->from);
    if (rc == PST_OK)
        rc = fst_object_open(b, op, args->from, &from_fd, &st);
    if (rc != PST_OK)
        return rc;
    rc = fst_match_check(b, op, args->from, &st, args->from_if_match);
    if (rc == PST_OK)
        rc = fst_empty_check(b, op, args->from, from_fd, &st);
    if (rc == PST_OK && !(args->flags & PST_COPY_REPLACE_ATTR))
        rc = fst_attr_read(b, op, args->from, from_fd, &attr);
    if (rc == PST_OK)
        rc = fst_write_begin(&w, b, op, args->to, args->flags, args->if_match,
                             args->flags & PST_COPY_REPLACE_ATTR ? args->attr : &attr);
    if (rc == PST_OK) {
        rc = fill_and_publish(&w, op, args, from_fd, &st, result);
        if (rc != PST_OK)
            fst_write_discard(&w);
        fst_write_end(&w);
    }
    close(from_fd);
    return rc;
}

/* Both ends of a rename, open and, where a lock file is there or needed, locked. */
struct ends {
    struct fst_parent from, to;
    int from_lock, to_lock;
    int file_fd; /* O_PATH, the source */
    struct stat st;
    int sums_fd; /* the source, if it has sums that are believed */
    uint32_t n_sums;
    pst_sum sums[FST_SUMS_MAX];
};

static int is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Two renames in opposite directions must not wait for each other: the directory with the lower inode
 * is locked first, and one directory only once. */
static pst_rc lock_ends(const pst_backend *b, pst_op *op, const pst_copy_args *args,
                        struct ends *ends)
{
    struct stat from, to;

    if (fstat(ends->from.fd, &from) != 0 || fstat(ends->to.fd, &to) != 0)
        return fst_fail_errno(b, op, errno, args->to, "fstat");
    const int make_from = args->from_if_match.len > 0, make_to = args->if_match.len > 0;
    if (is_same_file(&from, &to))
        return fst_lock(b, op, ends->to.fd, args->to, make_from || make_to, &ends->to_lock);
    const int from_first = from.st_dev != to.st_dev ? from.st_dev < to.st_dev
                                                    : from.st_ino < to.st_ino;
    pst_rc rc = PST_OK;
    if (from_first)
        rc = fst_lock(b, op, ends->from.fd, args->from, make_from, &ends->from_lock);
    if (rc == PST_OK)
        rc = fst_lock(b, op, ends->to.fd, args->to, make_to, &ends->to_lock);
    if (rc == PST_OK && !from_first)
        rc = fst_lock(b, op, ends->from.fd, args->from, make_from, &ends->from_lock);
    return rc;
}

static pst_rc check_source(const pst_backend *b, pst_op *op, const pst_copy_args *args,
                           struct ends *ends)
{
    ends->file_fd = openat(ends->from.fd, fst_leaf(&ends->from), O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (ends->file_fd < 0 || fstat(ends->file_fd, &ends->st) != 0)
        return fst_fail_errno(b, op, errno, args->from, "open");
    if (S_ISLNK(ends->st.st_mode))
        return fst_fail(b, op, PST_E_UNIMPLEMENTED, args->from, "a symbolic link is not renamed");
    if (S_ISDIR(ends->st.st_mode))
        return fst_fail(b, op, PST_E_INVALID, args->from, "is a directory, not an object");
    if (!S_ISREG(ends->st.st_mode))
        return fst_fail(b, op, PST_E_NOT_FOUND, args->from, "is %s, not an object",
                        fst_type_text(ends->st.st_mode));
    return fst_match_check(b, op, args->from, &ends->st, args->from_if_match);
}

static pst_rc check_target(const pst_backend *b, pst_op *op, const pst_copy_args *args)
{
    char path[FST_KEY_MAX + 1];
    struct stat target;

    memcpy(path, args->to.ptr, args->to.len);
    path[args->to.len] = '\0';
    int is_there = fst_lookup(b, path, &target) == 0;
    if (!is_there && errno == ENOTDIR)
        return fst_fail(b, op, PST_E_INVALID, args->to,
                        "an object cannot be a directory too: a part of this key is a file");
    if (!is_there && errno != ENOENT)
        return fst_fail_errno(b, op, errno, args->to, "stat");
    if (is_there && args->flags & PST_PUT_CREATE_ONLY)
        return fst_fail(b, op, PST_E_EXISTS, args->to, "exists (%s)",
                        fst_type_text(target.st_mode));
    if (is_there && !S_ISREG(target.st_mode))
        return fst_fail(b, op, PST_E_INVALID, args->to, "is %s and cannot be replaced by an object",
                        fst_type_text(target.st_mode));
    return fst_match_check(b, op, args->to, is_there ? &target : NULL, args->if_match);
}

/* One directory entry by two keys, as a/x and link/x where link leads to a? */
static int is_one_entry(const struct ends *ends, const struct stat *from, const struct stat *to)
{
    return strcmp(fst_leaf(&ends->from), fst_leaf(&ends->to)) == 0 && is_same_file(from, to);
}

static pst_rc refuse_other_fs(const pst_backend *b, pst_op *op, const pst_copy_args *args)
{
    return fst_fail(b, op, PST_E_UNIMPLEMENTED, args->to,
                    "lies on another file system than its source");
}

/* The sums are believed only close to the ctime, which the rename moves: date them anew, if they can
 * be believed now. Where this fails, stat reports no sums. */
static void carry_sums(const pst_backend *b, struct ends *ends)
{
    struct stat st;

    ends->sums_fd = fst_open(b, ends->from.path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
    if (ends->sums_fd >= 0 && fstat(ends->sums_fd, &st) == 0 && is_same_file(&st, &ends->st))
        ends->n_sums = fst_sums_read(ends->sums_fd, &st, ends->sums);
    if (ends->n_sums > 0)
        fst_sums_write(ends->sums_fd, &st, ends->sums, sizeof(ends->sums[0]), ends->n_sums);
}

static pst_rc rename_between(const pst_backend *b, pst_op *op, const pst_copy_args *args,
                             struct ends *ends)
{
    const char *from = fst_leaf(&ends->from), *to = fst_leaf(&ends->to);
    struct stat from_dir, to_dir, target;

    if (fstat(ends->from.fd, &from_dir) != 0 || fstat(ends->to.fd, &to_dir) != 0)
        return fst_fail_errno(b, op, errno, args->to, "fstat");
    if (is_one_entry(ends, &from_dir, &to_dir))
        return PST_OK;
    if (from_dir.st_dev != to_dir.st_dev) /* before the sums: their new date is a new etag */
        return refuse_other_fs(b, op, args);
    /* A link count of 1 and yet the same file: a file system that folds case. Renaming is right. */
    if (fstatat(ends->to.fd, to, &target, AT_SYMLINK_NOFOLLOW) == 0 &&
        is_same_file(&target, &ends->st) && target.st_nlink > 1)
        return fst_fail(b, op, PST_E_UNIMPLEMENTED, args->to, "is another name of its source");
    carry_sums(b, ends);
    int failed = args->flags & PST_PUT_CREATE_ONLY
                     ? fst_rename_new(ends->from.fd, from, ends->to.fd, to)
                     : renameat(ends->from.fd, from, ends->to.fd, to);
    if (!failed)
        return PST_OK;
    if (errno == EXDEV) /* a bind mount, or a quota project: no stat shows it */
        return refuse_other_fs(b, op, args);
    /* Did it happen all the same? (NFS: the reply was lost.) */
    int saved = errno;
    int is_there = fst_is_named(ends->file_fd, ends->to.fd, to);
    if (is_there == 1 && fst_is_named(ends->file_fd, ends->from.fd, from) == 0)
        return PST_OK;
    pst_rc rc = fst_fail_errno(b, op, saved, args->to, "rename");
    if (is_there != 0)
        op->err->flags |= PST_ERR_MAYBE_APPLIED;
    return rc;
}

/* After the rename: durability and the etag. */
static pst_rc settle(const pst_backend *b, pst_op *op, const pst_copy_args *args,
                     const struct ends *ends, char *etag, pst_put_result *result)
{
    struct stat st;

    if (b->fsync == FST_FSYNC_FULL &&
        (fst_dir_sync(ends->to.fd) != 0 || fst_dir_sync(ends->from.fd) != 0))
        return fst_fail_errno(b, op, errno, args->to, "flush the directory");
    if (fstat(ends->file_fd, &st) != 0)
        return fst_fail_errno(b, op, errno, args->to, "fstat");
    fst_sums_settle(ends->sums_fd, &st, ends->sums, sizeof(ends->sums[0]), ends->n_sums);
    result->size = (uint64_t)st.st_size;
    result->etag_strength = PST_ETAG_STRONG;
    result->etag = fst_etag(&st, etag);
    return PST_OK;
}

pst_rc fst_rename(pst_backend *b, pst_op *op, const pst_copy_args *args, pst_put_result *result)
{
    struct ends ends = {.from_lock = -1, .to_lock = -1, .file_fd = -1, .sums_fd = -1};
    int is_renamed = 0;
    pst_rc rc = check_args(b, op, args);

    if (rc == PST_OK && args->flags & PST_COPY_REPLACE_ATTR)
        rc = fst_fail(b, op, PST_E_UNIMPLEMENTED, args->to, "a rename keeps the attributes");
    if (rc != PST_OK)
        return rc;
    ends.from.fd = ends.to.fd = -1;
    char *etag = op->host->op_alloc(op->host, op, FST_ETAG_SIZE);
    if (!etag)
        return fst_no_memory(op);
    rc = fst_parent_open(b, op, args->from, 0, &ends.from);
    if (rc == PST_OK) /* before directories are made for the target */
        rc = check_source(b, op, args, &ends);
    if (rc == PST_OK)
        rc = check_target(b, op, args);
    if (rc == PST_OK)
        rc = fst_parent_open(b, op, args->to, 1, &ends.to);
    if (rc == PST_OK)
        rc = lock_ends(b, op, args, &ends);
    if (rc == PST_OK) {
        close(ends.file_fd);
        rc = check_source(b, op, args, &ends); /* both again, under the lock */
    }
    if (rc == PST_OK)
        rc = check_target(b, op, args);
    if (rc == PST_OK)
        rc = rename_between(b, op, args, &ends);
    is_renamed = rc == PST_OK;
    fst_unlock(ends.from_lock);
    fst_unlock(ends.to_lock);
    if (is_renamed) {
        rc = settle(b, op, args, &ends, etag, result);
        if (rc != PST_OK)
            op->err->flags |= PST_ERR_MAYBE_APPLIED;
    }
    if (ends.file_fd >= 0)
        close(ends.file_fd);
    if (ends.sums_fd >= 0)
        close(ends.sums_fd);
    fst_parent_close(b, &ends.from, 0);
    fst_parent_close(b, &ends.to, !is_renamed);
    return rc;
}
