/* lock.c - one writer at a time per directory, for conditional writes.
 *
 * "Replace only if the etag is still this one" is a look and a rename, and a file system has no call
 * that does both. So a writer with if_match locks the file .penstock-lock in the object's directory,
 * looks, renames, unlocks. A writer without a condition takes the lock only where the file is already
 * there: one failing open() is all that ordinary writers pay, and directories in which nobody writes
 * conditionally never get such a file. It then stays until its directory goes.
 *
 * What this leaves open, and README.md says so: programs that are not Penstock, and an unconditional
 * write in the very microseconds in which the first conditional one of a directory makes the file.
 * In these another user's write may also be DENIED, before the file has the mode of its directory.
 *
 * flock() and not fcntl(): it belongs to the open file, not to the process, so threads exclude each
 * other too, and the kernel drops it when a process dies. It is asked for with LOCK_NB and patience,
 * since a thread inside a blocking flock() could not be cancelled. A child that was forked meanwhile has
 * the open file as well, so closing the descriptor is not enough: every lock is given up by LOCK_UN. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <penstock/sync.h>

#define WAIT_MIN_NS 50000 /* a rename takes about as long */
#define WAIT_MAX_NS 10000000

/* Who may write the directory may lock it, whatever the umask of the process that made the file. Where
 * it cannot have the directory's owner, that one may be any of the others: reading is enough to lock. */
static void share(int dir_fd, int fd)
{
    struct stat dir;
    mode_t mode = 0600;

    if (fstat(dir_fd, &dir) != 0)
        return;
    mode |= dir.st_mode & 0066;
    if (fchown(fd, dir.st_uid, dir.st_gid) != 0) {
        mode |= 0044;
        if (fchown(fd, (uid_t)-1, dir.st_gid) != 0)
            mode |= (dir.st_mode & 0060) >> 3;
    }
    fchmod(fd, mode); /* fails where a file system has no modes, and then needs none */
}

static int open_lock_file(int dir_fd, int create)
{
    const int flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;

    for (;;) {
        int fd = openat(dir_fd, FST_LOCK_NAME, O_RDWR | flags);
        /* Another user's file: local file systems lock it through a read-only descriptor as well. */
        if (fd < 0 && errno == EACCES)
            fd = openat(dir_fd, FST_LOCK_NAME, O_RDONLY | flags);
        if (fd >= 0 || errno != ENOENT || !create)
            return fd;
        fd = openat(dir_fd, FST_LOCK_NAME, O_RDWR | O_CREAT | O_EXCL | flags, 0666);
        if (fd >= 0)
            share(dir_fd, fd);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
}

/* Is the file that was locked still the one of that name? Whoever removed it held the lock before. */
static int is_current(int dir_fd, int fd)
{
    struct stat mine, named;

    return fstat(fd, &mine) == 0 &&
           fstatat(dir_fd, FST_LOCK_NAME, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

pst_rc fst_lock(const pst_backend *b, pst_op *op, int dir_fd, pst_str key, int create, int *lock_fd)
{
    long wait_ns = WAIT_MIN_NS;

    *lock_fd = -1;
    for (;;) {
        int fd = open_lock_file(dir_fd, create);
        if (fd < 0 && errno == ENOENT && !create)
            return PST_OK;
        if (fd < 0)
            return fst_fail_errno(b, op, errno, key, "open the lock file of the directory");
        int saved = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
        if (saved == 0 && is_current(dir_fd, fd)) {
            *lock_fd = fd;
            return PST_OK;
        }
        if (saved == 0)
            fst_unlock(fd);
        else
            close(fd);
        if (saved == EWOULDBLOCK) {
            struct timespec wait = {.tv_nsec = wait_ns};
            nanosleep(&wait, NULL);
            wait_ns = wait_ns < WAIT_MAX_NS / 2 ? wait_ns * 2 : WAIT_MAX_NS;
        } else if (saved != 0 && saved != EINTR) {
            return create ? fst_fail_errno(b, op, saved, key, "lock the directory") : PST_OK;
        }
        if (pst_sync_cancelled(op))
            return fst_cancelled(op);
    }
}

void fst_unlock(int lock_fd)
{
    if (lock_fd < 0)
        return;
    flock(lock_fd, LOCK_UN);
    close(lock_fd);
}

int fst_lock_remove(int dir_fd)
{
    int fd = open_lock_file(dir_fd, 0);

    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    int rc = flock(fd, LOCK_EX | LOCK_NB);
    if (rc == 0 && is_current(dir_fd, fd))
        rc = unlinkat(dir_fd, FST_LOCK_NAME, 0);
    else if (rc != 0 && errno == EWOULDBLOCK)
        errno = EBUSY;
    int saved = errno;
    fst_unlock(fd);
    errno = saved;
    return rc;
}
