/* write.c - an object becomes visible whole, or not at all.
 *
 * begin:    open the directory (making what is missing of it), create a temporary file in it, set the
 *           attributes. The temporary name comes from chance, never from the key, so keys whose last
 *           component is 255 bytes long work. Being in the same directory, it can be renamed.
 * (bytes):  at absolute offsets, through struct fst_data_ops; write.c for a put, upload.c for parts.
 * publish:  check the size, flush as the option `fsync` asks, take over the mode of the file that is
 *           replaced, check conditions under the lock, rename, flush the directory.
 * discard:  unlink the temporary file and the directories that were made for it.
 *
 * A process that is killed leaves the temporary file behind. The writer holds an flock() on it, which
 * the kernel drops with the process: that is how cleanup.c tells the dead from the living, in another
 * container as well, where a process id says nothing.
 *
 * Modes: a new file gets 0666 less the umask, applied by the kernel when the file is made (asking for
 * the umask would mean changing it, for all threads). A replaced file keeps permission bits, group and
 * owner as far as the process may set them, and until then its bytes are ours alone to read.
 *
 * Fails: everything before the rename leaves the object as it was. After the rename only flushing the
 * directory can fail; the error then carries PST_ERR_MAYBE_APPLIED.
 *
 * Does not: write through a symbolic link (the link is replaced, what it led to stays), keep ACLs or
 * set-id bits of a replaced file. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

enum { TEMP_TRIES = 64 };

pst_rc fst_match_check(const pst_backend *b, pst_op *op, pst_str key, const struct stat *st,
                       pst_str if_match)
{
    char etag[FST_ETAG_SIZE];

    if (if_match.len == 0)
        return PST_OK;
    if (!st)
        return fst_fail(b, op, PST_E_PRECONDITION, key, "if_match is given and nothing is there");
    if (fst_etag_matches(st, if_match))
        return PST_OK;
    pst_str now = fst_etag(st, etag);
    return fst_fail(b, op, PST_E_PRECONDITION, key, "its etag is %.*s, not the one asked for",
                    (int)now.len, now.ptr);
}

/* What is at the key now: *st, or *is_there 0. INVALID for what a write must not replace. */
static pst_rc look_at_target(struct fst_write *w, pst_op *op, struct stat *st, int *is_there)
{
    const pst_backend *b = w->backend;

    /* In the directory that is open, not by the path: it may lead elsewhere by now. */
    *is_there = fstatat(w->parent.fd, fst_leaf(&w->parent), st, AT_SYMLINK_NOFOLLOW) == 0;
    if (*is_there && S_ISLNK(st->st_mode))
        *is_there = fst_lookup(b, w->parent.path, st) == 0;
    if (!*is_there)
        return errno == ENOENT ? PST_OK : fst_fail_errno(b, op, errno, w->key, "stat");
    if (w->is_create_only)
        return fst_fail(b, op, PST_E_EXISTS, w->key, "exists (%s)", fst_type_text(st->st_mode));
    if (!S_ISREG(st->st_mode))
        return fst_fail(b, op, PST_E_INVALID, w->key, "is %s and cannot be replaced by an object",
                        fst_type_text(st->st_mode));
    return PST_OK;
}

static int name_temp(struct fst_write *w)
{
    uint64_t chance;

    if (getrandom(&chance, sizeof(chance), 0) != (ssize_t)sizeof(chance))
        return -1;
    snprintf(w->temp, sizeof(w->temp), ".penstock-tmp-%s-%d-%016llx", w->backend->boot, (int)w->pid,
             (unsigned long long)chance);
    return 0;
}

/* Create the temporary file and lock it. EAGAIN when a cleanup was faster than our lock. */
static int make_temp(struct fst_write *w, mode_t mode)
{
    struct stat st;

    if (name_temp(w) != 0)
        return -1;
    w->fd = openat(w->parent.fd, w->temp,
                   O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW | w->backend->temp_flags,
                   mode);
    if (w->fd < 0)
        return -1;
    int rc = flock(w->fd, LOCK_EX | LOCK_NB);
    /* A file system without flock is no reason to fail: cleanup then goes by process id and age. */
    int is_lost = rc != 0 && errno == EWOULDBLOCK;
    if (!is_lost && fstat(w->fd, &st) == 0 && st.st_nlink > 0)
        return 0;
    unlinkat(w->parent.fd, w->temp, 0);
    close(w->fd);
    w->fd = -1;
    errno = EAGAIN;
    return -1;
}

pst_rc fst_write_begin(struct fst_write *w, const pst_backend *b, pst_op *op, pst_str key,
                       uint32_t flags, pst_str if_match, const pst_attr *attr)
{
    memset(w, 0, sizeof(*w));
    w->backend = b;
    w->key = key;
    w->if_match = if_match;
    w->pid = getpid();
    w->fd = w->parent.fd = -1;
    w->is_create_only = (flags & PST_PUT_CREATE_ONLY) != 0;

    pst_rc rc = PST_OK;
    for (int i = 0; w->fd < 0; i++) {
        rc = fst_parent_open(b, op, key, 1, &w->parent);
        if (rc != PST_OK)
            return rc;
        /* Early refusals save the transfer of the bytes; publish looks again. */
        rc = look_at_target(w, op, &w->old, &w->has_old);
        if (rc == PST_OK)
            rc = fst_match_check(b, op, key, w->has_old ? &w->old : NULL, if_match);
        if (rc != PST_OK)
            break;
        /* Bytes that replace a private file are as private from their first moment. */
        if (make_temp(w, w->has_old ? 0600 : 0666) == 0)
            break;
        /* ENOENT: the directory was empty, and another writer that had made it took it away. */
        if ((errno != ENOENT && errno != EAGAIN && errno != EEXIST) || i == TEMP_TRIES) {
            rc = fst_fail_errno(b, op, errno, key, "create a temporary file beside it");
            break;
        }
        fst_parent_close(b, &w->parent, 0);
    }
    if (rc == PST_OK)
        rc = fst_attr_write(b, op, key, w->fd, attr);
    if (rc != PST_OK) {
        fst_write_discard(w);
        fst_write_end(w);
    }
    return rc;
}

/* Permission bits, group and owner of the file that is replaced. */
static int keep_mode(int fd, const struct stat *old)
{
    struct stat now;
    mode_t mode = old->st_mode &
                  0777; /* the kernel, too, clears set-id bits when a file is written */

    if (fstat(fd, &now) != 0)
        return -1;
    if (now.st_uid != old->st_uid || now.st_gid != old->st_gid) {
        if (fchown(fd, old->st_uid, old->st_gid) != 0 && now.st_gid != old->st_gid &&
            fchown(fd, (uid_t)-1, old->st_gid) != 0)
            mode &= ~(mode_t)070 | (mode & 07) << 3; /* another group gets no more than others */
        if (fstat(fd, &now) != 0)
            return -1;
    }
    return (now.st_mode & 07777) == mode ? 0 : fchmod(fd, mode);
}

/* All bytes are in the file: see to it that an error of writing them comes now, not after the rename.
 * Without fsync a network file system reports it on close; closing a duplicate makes it speak.
 * The kernel reports such an error once. It is kept, so that a commit which is repeated does not take
 * the silence of the second fsync for success. */
static pst_rc seal(struct fst_write *w, pst_op *op, uint64_t size, struct stat *st)
{
    const pst_backend *b = w->backend;

    if (w->sync_errno == 0 && b->fsync != FST_FSYNC_NONE) {
        w->sync_errno = fsync(w->fd) != 0 ? errno : 0;
    } else if (w->sync_errno == 0) {
        int twin = dup(w->fd);
        if (twin < 0)
            return fst_fail_errno(b, op, errno, w->key, "dup");
        w->sync_errno = close(twin) != 0 && errno != EINTR ? errno : 0;
    }
    if (w->sync_errno != 0)
        return fst_fail_errno(b, op, w->sync_errno, w->key, "flush");
    if (fstat(w->fd, st) != 0)
        return fst_fail_errno(b, op, errno, w->key, "fstat");
    if ((uint64_t)st->st_size != size)
        return fst_fail(b, op, PST_E_DATA_LOSS, w->key,
                        "the temporary file holds %lld bytes instead of %llu",
                        (long long)st->st_size, (unsigned long long)size);
    return PST_OK;
}

int fst_rename_new(int from_dir_fd, const char *from, int to_dir_fd, const char *to)
{
    if (renameat2(from_dir_fd, from, to_dir_fd, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
        return -1;
    /* A file system without the flag: link() does not replace either. */
    if (linkat(from_dir_fd, from, to_dir_fd, to, 0) != 0)
        return -1;
    unlinkat(from_dir_fd, from, 0); /* a name left over costs nothing; cleanup finds it */
    return 0;
}

int fst_is_named(int fd, int dir_fd, const char *name)
{
    struct stat mine, there;

    if (fstat(fd, &mine) != 0)
        return -1;
    if (fstatat(dir_fd, name, &there, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -1;
    return mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
}

static pst_rc rename_locked(struct fst_write *w, pst_op *op, const struct stat *sealed,
                            const pst_sum *sums, size_t stride, size_t n_sums)
{
    const pst_backend *b = w->backend;
    const char *leaf = fst_leaf(&w->parent);
    struct stat target;
    int is_there;
    pst_rc rc = look_at_target(w, op, &target, &is_there);

    if (rc == PST_OK)
        rc = fst_match_check(b, op, w->key, is_there ? &target : NULL, w->if_match);
    if (rc != PST_OK)
        return rc;
    if ((is_there || w->has_old) && keep_mode(w->fd, is_there ? &target : &w->old) != 0)
        return fst_fail_errno(b, op, errno, w->key, "keep the mode");
    /* Last, since sums are believed only if the ctime, which the rename moves, is close to this
     * moment. They are a service: a file system that cannot keep them stores the object all the
     * same, and stat reports none. */
    fst_sums_write(w->fd, sealed, sums, stride, n_sums);
    int failed = w->is_create_only ? fst_rename_new(w->parent.fd, w->temp, w->parent.fd, leaf)
                                   : renameat(w->parent.fd, w->temp, w->parent.fd, leaf);
    int saved = errno;
    /* Did a rename that reported an error happen all the same? (NFS: the reply was lost.) */
    int is_in_place = failed ? fst_is_named(w->fd, w->parent.fd, leaf) : 1;
    if (is_in_place != 1) {
        rc = saved == ENOENT
                 ? fst_fail(b, op, PST_E_IO, w->key, "its temporary file was removed by someone")
                 : fst_fail_errno(b, op, saved, w->key, "rename");
        if (is_in_place < 0)
            op->err->flags |= PST_ERR_MAYBE_APPLIED;
        return rc;
    }
    w->is_published = 1;
    return PST_OK;
}

/* After the rename: make it durable, and learn the etag (the rename moved the ctime). Once; a commit
 * that is repeated gives the same answer even if somebody has touched the file since. */
static pst_rc settle(struct fst_write *w, pst_op *op, const pst_sum *sums, size_t stride,
                     size_t n_sums)
{
    const pst_backend *b = w->backend;
    struct stat st;

    if (w->etag_len > 0)
        return PST_OK;
    if (w->sync_errno == 0 && b->fsync == FST_FSYNC_FULL && fst_dir_sync(w->parent.fd) != 0)
        w->sync_errno = errno;
    if (w->sync_errno != 0)
        return fst_fail_errno(b, op, w->sync_errno, w->key, "flush the directory");
    if (fstat(w->fd, &st) != 0)
        return fst_fail_errno(b, op, errno, w->key, "fstat");
    fst_sums_settle(w->fd, &st, sums, stride, n_sums);
    w->etag_len = fst_etag(&st, w->etag).len;
    return PST_OK;
}

pst_rc fst_write_publish(struct fst_write *w, pst_op *op, uint64_t size, const pst_sum *sums,
                         size_t stride, size_t n_sums, pst_put_result *result)
{
    const pst_backend *b = w->backend;
    struct stat st;
    pst_rc rc = PST_OK;
    int lock_fd = -1;
    /* All that may fail for lack of memory comes before the point of no return. */
    char *etag = op->host->op_alloc(op->host, op, FST_ETAG_SIZE);

    if (!etag)
        return fst_no_memory(op);
    if (!w->is_published) {
        rc = fst_sums_check(b, op, w->key, sums, stride, n_sums);
        if (rc == PST_OK)
            rc = seal(w, op, size, &st);
        if (rc == PST_OK)
            rc = fst_lock(b, op, w->parent.fd, w->key, w->if_match.len > 0, &lock_fd);
        if (rc == PST_OK)
            rc = rename_locked(w, op, &st, sums, stride, n_sums);
        fst_unlock(lock_fd);
        if (rc != PST_OK)
            return rc;
    }
    rc = settle(w, op, sums, stride, n_sums);
    if (rc != PST_OK) {
        op->err->flags |= PST_ERR_MAYBE_APPLIED;
        return rc;
    }
    memcpy(etag, w->etag, w->etag_len);
    result->size = size;
    result->etag_strength = PST_ETAG_STRONG;
    result->etag = pst_str_of(etag, w->etag_len);
    return PST_OK;
}

int fst_write_discard(struct fst_write *w)
{
    int rc = 0;

    /* In a child after fork() the file belongs to the parent, which still writes it. */
    if (w->fd < 0 || w->is_published || w->pid != getpid())
        return 0;
    if (unlinkat(w->parent.fd, w->temp, 0) != 0 && errno != ENOENT)
        rc = -1;
    return rc;
}

void fst_write_end(struct fst_write *w)
{
    if (w->fd >= 0)
        close(w->fd); /* its bytes were flushed before they were published, or are not wanted */
    w->fd = -1;
    fst_parent_close(w->backend, &w->parent, !w->is_published && w->pid == getpid());
}

pst_rc fst_put(pst_backend *b, pst_op *op, const pst_put_args *args, pst_put_result *result)
{
    struct fst_write w;
    uint64_t size = fst_iov_bytes(args->src, args->n_src);
    pst_rc rc = fst_key_check(b, op, args->key);

    if (rc == PST_OK && size == UINT64_MAX)
        rc = fst_fail_errno(b, op, EFBIG, args->key, "write");
    if (rc != PST_OK)
        return rc;
    rc = fst_write_begin(&w, b, op, args->key, args->flags, args->if_match, args->attr);
    if (rc != PST_OK)
        return rc;
    rc = b->data->write(&w, op, args->src, args->n_src, size, 0);
    if (rc == PST_OK)
        rc = fst_write_publish(&w, op, size, args->sums, args->sum_stride, args->n_sums, result);
    if (rc != PST_OK)
        fst_write_discard(&w);
    fst_write_end(&w);
    return rc;
}
