/* io_faults.c - the functions of libc that plugins reach files with, each in front of the real one.
 *
 * The program that links this defines pread64, renameat2 and so on itself. The dynamic linker looks into
 * the program before it looks into libc, for plugins that are loaded later too, so that file.so and
 * directio.so run unchanged, under the sanitizers as well: what a library in LD_PRELOAD would do, without
 * depending on the order of libraries.
 *
 * A fault is one of: the call is not made and gives an errno; it is made with a part of its bytes (short
 * reads and writes); it is made and gives an errno all the same, as a network file system whose reply was
 * lost (rename, close). Whether a call is hit depends on seed, turn, kind and how many calls of this kind
 * there were in this turn, on nothing else: with one thread at work a run can be repeated exactly.
 *
 * Requests on a ring are no calls. Those that were waited for get another result before the plugin sees
 * it: an errno, or fewer bytes, although all were moved.
 *
 * Only names of the large-file interface are here, since plugins are built with _FILE_OFFSET_BITS=64.
 * Calls that the library makes by itself (its log, manifests) do not happen while faults are armed. */
#include "io_faults.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <liburing.h>

#define EXPORT __attribute__((visibility("default")))

/* ---- the real ones ----------------------------------------------------------------------------- */

static struct {
    ssize_t (*pread)(int, void *, size_t, off64_t);
    ssize_t (*pwrite)(int, const void *, size_t, off64_t);
    ssize_t (*preadv)(int, const struct iovec *, int, off64_t);
    ssize_t (*pwritev)(int, const struct iovec *, int, off64_t);
    int (*openat)(int, const char *, int, ...);
    int (*mkdirat)(int, const char *, mode_t);
    int (*close)(int);
    int (*fsync)(int);
    int (*fdatasync)(int);
    int (*renameat)(int, const char *, int, const char *);
    int (*renameat2)(int, const char *, int, const char *, unsigned int);
    int (*linkat)(int, const char *, int, const char *, int);
    int (*unlinkat)(int, const char *, int);
    int (*fstat)(int, struct stat64 *);
    int (*fstatat)(int, const char *, struct stat64 *, int);
    int (*statx)(int, const char *, int, unsigned int, struct statx *);
    int (*ftruncate)(int, off64_t);
    int (*fallocate)(int, int, off64_t, off64_t);
    ssize_t (*copy_file_range)(int, off64_t *, int, off64_t *, size_t, unsigned int);
    ssize_t (*getdents)(int, void *, size_t);
    int (*fsetxattr)(int, const char *, const void *, size_t, int);
    long (*syscall)(long, ...);
    int (*submit_and_wait)(struct io_uring *, unsigned int);
} real;

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A function pointer is set through its bytes: ISO C knows no cast from void *. */
static void find(void *slot, const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (!found) {
        fprintf(stderr, "io_faults: no %s in libc\n", name);
        abort();
    }
    *(void **)slot = found;
}

static void find_all(void)
{
    find(&real.pread, "pread64");
    find(&real.pwrite, "pwrite64");
    find(&real.preadv, "preadv64");
    find(&real.pwritev, "pwritev64");
    find(&real.openat, "openat64");
    find(&real.mkdirat, "mkdirat");
    find(&real.close, "close");
    find(&real.fsync, "fsync");
    find(&real.fdatasync, "fdatasync");
    find(&real.renameat, "renameat");
    find(&real.renameat2, "renameat2");
    find(&real.linkat, "linkat");
    find(&real.unlinkat, "unlinkat");
    find(&real.fstat, "fstat64");
    find(&real.fstatat, "fstatat64");
    find(&real.statx, "statx");
    find(&real.ftruncate, "ftruncate64");
    find(&real.fallocate, "fallocate64");
    find(&real.copy_file_range, "copy_file_range");
    find(&real.getdents, "getdents64");
    find(&real.fsetxattr, "fsetxattr");
    find(&real.syscall, "syscall");
    find(&real.submit_and_wait, "io_uring_submit_and_wait");
}

/* ---- the schedule ------------------------------------------------------------------------------ */

enum { SHORT = -1, LOST = -2, CHOICES = 6, ERRNOS = 256 };

static const struct {
    const char *name;
    int faults[CHOICES]; /* an errno, SHORT or LOST; as many as are not 0 */
    unsigned often;      /* so many times as often as others: calls that there are few of */
} kinds[IO_FAULT_CALLS] = {
    [IO_FAULT_READ] = {"read", {EIO, ESTALE, EINTR, SHORT}, 4},
    [IO_FAULT_WRITE] = {"write", {EIO, ENOSPC, EDQUOT, ESTALE, EINTR, SHORT}, 4},
    [IO_FAULT_OPEN] = {"open", {EIO, ESTALE, EINTR}, 1},
    [IO_FAULT_CREATE] = {"create", {EIO, ENOSPC, EDQUOT, ESTALE, EINTR}, 2},
    [IO_FAULT_SYNC] = {"sync", {EIO, ENOSPC, EDQUOT}, 2},
    [IO_FAULT_RENAME] = {"rename", {EIO, ENOSPC, EDQUOT, ESTALE, LOST}, 2},
    [IO_FAULT_UNLINK] = {"unlink", {EIO, ESTALE, LOST}, 2},
    [IO_FAULT_STAT] = {"stat", {EIO, ESTALE}, 1},
    [IO_FAULT_LIST] = {"list", {EIO, ESTALE}, 2},
    [IO_FAULT_TRUNCATE] = {"truncate", {EIO, ENOSPC, EDQUOT, EINTR}, 4},
    [IO_FAULT_COPY] = {"copy", {EIO, ENOSPC, EDQUOT, EINTR, SHORT}, 4},
    [IO_FAULT_CLOSE] = {"close", {LOST}, 1},
    [IO_FAULT_ENTER] = {"enter", {EAGAIN, EBUSY, EINTR}, 2},
    [IO_FAULT_COMPLETE] = {"complete", {EIO, ENOSPC, EDQUOT, ESTALE, EINTR, SHORT}, 4},
    [IO_FAULT_XATTR] = {"xattr", {EIO, ENOSPC, EDQUOT}, 4},
};

static atomic_uint one_in_now; /* 0: not armed */
static _Atomic uint64_t seed_now;
static atomic_uint n_calls[IO_FAULT_CALLS]; /* in this turn */
static atomic_uint n_faults;
static atomic_int had[ERRNOS];
static atomic_ulong totals[IO_FAULT_CALLS];
static _Thread_local int is_spared;

static uint64_t mix(uint64_t x) /* splitmix64, Vigna 2015 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void io_faults_arm(uint64_t seed, uint64_t turn, unsigned one_in)
{
    pthread_once(&once, find_all);
    for (unsigned i = 0; i < IO_FAULT_CALLS; i++)
        atomic_store(&n_calls[i], 0);
    for (unsigned i = 0; i < ERRNOS; i++)
        atomic_store(&had[i], 0);
    atomic_store(&n_faults, 0);
    atomic_store(&seed_now, mix(seed ^ mix(turn)));
    atomic_store(&one_in_now, one_in);
}

unsigned io_faults_disarm(void)
{
    atomic_store(&one_in_now, 0);
    return atomic_load(&n_faults);
}

int io_faults_had(int sys_errno)
{
    return sys_errno > 0 && sys_errno < ERRNOS && atomic_load(&had[sys_errno]);
}

void io_faults_spare_thread(void)
{
    is_spared = 1;
}

unsigned long io_faults_total(enum io_fault_call call)
{
    return atomic_load(&totals[call]);
}

const char *io_faults_name(enum io_fault_call call)
{
    return kinds[call].name;
}

/* What happens to this call: 0 nothing, an errno (which is set, too), SHORT or LOST. */
static int pick(enum io_fault_call call)
{
    int saved = errno;
    unsigned n = 0, one_in = atomic_load(&one_in_now);

    pthread_once(&once, find_all);
    errno = saved;
    if (one_in == 0 || is_spared)
        return 0;
    uint64_t chance = mix(atomic_load(&seed_now) ^
                          mix((uint64_t)call << 32 | atomic_fetch_add(&n_calls[call], 1)));
    if ((chance >> 32) % one_in >= kinds[call].often)
        return 0;
    while (n < CHOICES && kinds[call].faults[n] != 0)
        n++;
    int fault = kinds[call].faults[chance % n];
    int as_errno = fault == LOST ? ESTALE : fault;
    atomic_fetch_add(&n_faults, 1);
    atomic_fetch_add(&totals[call], 1);
    if (as_errno > 0) {
        atomic_store(&had[as_errno], 1);
        errno = as_errno;
    }
    return fault;
}

/* After a call that was made although its reply is lost. */
static int lose(int fault, int rc)
{
    if (fault != LOST)
        return rc;
    errno = ESTALE;
    return -1;
}

/* ---- the functions ----------------------------------------------------------------------------- */

/* At least a byte; of aligned requests an aligned part, as O_DIRECT needs it. */
static size_t shorten(size_t len)
{
    return len >= 8192 ? len / 2 / 4096 * 4096 : len > 1 && len % 512 != 0 ? len / 2 : len;
}

/* What came by O_DIRECT ends at a whole unit or at the end of the file: cut elsewhere it would say that the
 * file ends there. */
static size_t shorten_direct(size_t len)
{
    return len > 8192 ? len / 2 / 4096 * 4096 : len > 4096 ? 4096 : len;
}

EXPORT ssize_t pread64(int fd, void *buffer, size_t len, off64_t offset)
{
    int fault = pick(IO_FAULT_READ);

    return fault > 0 ? -1 : real.pread(fd, buffer, fault == SHORT ? shorten(len) : len, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *buffer, size_t len, off64_t offset)
{
    int fault = pick(IO_FAULT_WRITE);

    return fault > 0 ? -1 : real.pwrite(fd, buffer, fault == SHORT ? shorten(len) : len, offset);
}

EXPORT ssize_t preadv64(int fd, const struct iovec *iov, int n, off64_t offset)
{
    int fault = pick(IO_FAULT_READ);

    if (fault == SHORT && n > 0 && iov[0].iov_len > 0)
        return real.pread(fd, iov[0].iov_base, shorten(iov[0].iov_len), offset);
    return fault > 0 ? -1 : real.preadv(fd, iov, n, offset);
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t offset)
{
    int fault = pick(IO_FAULT_WRITE);

    if (fault == SHORT && n > 0 && iov[0].iov_len > 0)
        return real.pwrite(fd, iov[0].iov_base, shorten(iov[0].iov_len), offset);
    return fault > 0 ? -1 : real.pwritev(fd, iov, n, offset);
}

EXPORT int openat64(int dir_fd, const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list args;

    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    int fault = pick(flags & O_CREAT ? IO_FAULT_CREATE : IO_FAULT_OPEN);
    return fault > 0 ? -1 : real.openat(dir_fd, path, flags, mode);
}

EXPORT int mkdirat(int dir_fd, const char *path, mode_t mode)
{
    return pick(IO_FAULT_CREATE) > 0 ? -1 : real.mkdirat(dir_fd, path, mode);
}

EXPORT int close(int fd)
{
    int fault = pick(IO_FAULT_CLOSE);

    return lose(fault, real.close(fd));
}

EXPORT int fsync(int fd)
{
    return pick(IO_FAULT_SYNC) > 0 ? -1 : real.fsync(fd);
}

EXPORT int fdatasync(int fd)
{
    return pick(IO_FAULT_SYNC) > 0 ? -1 : real.fdatasync(fd);
}

EXPORT int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    int fault = pick(IO_FAULT_RENAME);

    return fault > 0 ? -1 : lose(fault, real.renameat(from_fd, from, to_fd, to));
}

EXPORT int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned int flags)
{
    int fault = pick(IO_FAULT_RENAME);

    return fault > 0 ? -1 : lose(fault, real.renameat2(from_fd, from, to_fd, to, flags));
}

EXPORT int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    int fault = pick(IO_FAULT_RENAME);

    return fault > 0 ? -1 : lose(fault, real.linkat(from_fd, from, to_fd, to, flags));
}

EXPORT int unlinkat(int dir_fd, const char *path, int flags)
{
    int fault = pick(IO_FAULT_UNLINK);

    return fault > 0 ? -1 : lose(fault, real.unlinkat(dir_fd, path, flags));
}

EXPORT int fstat64(int fd, struct stat64 *st)
{
    return pick(IO_FAULT_STAT) > 0 ? -1 : real.fstat(fd, st);
}

EXPORT int fstatat64(int dir_fd, const char *path, struct stat64 *st, int flags)
{
    return pick(IO_FAULT_STAT) > 0 ? -1 : real.fstatat(dir_fd, path, st, flags);
}

EXPORT int statx(int dir_fd, const char *path, int flags, unsigned int mask, struct statx *st)
{
    return pick(IO_FAULT_STAT) > 0 ? -1 : real.statx(dir_fd, path, flags, mask, st);
}

EXPORT int ftruncate64(int fd, off64_t length)
{
    return pick(IO_FAULT_TRUNCATE) > 0 ? -1 : real.ftruncate(fd, length);
}

EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
    return pick(IO_FAULT_TRUNCATE) > 0 ? -1 : real.fallocate(fd, mode, offset, length);
}

EXPORT ssize_t copy_file_range(int from_fd, off64_t *from, int to_fd, off64_t *to, size_t len,
                               unsigned int flags)
{
    int fault = pick(IO_FAULT_COPY);

    if (fault == SHORT && len > 1)
        len /= 2;
    return fault > 0 ? -1 : real.copy_file_range(from_fd, from, to_fd, to, len, flags);
}

EXPORT ssize_t getdents64(int fd, void *buffer, size_t len)
{
    return pick(IO_FAULT_LIST) > 0 ? -1 : real.getdents(fd, buffer, len);
}

EXPORT int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    return pick(IO_FAULT_XATTR) > 0 ? -1 : real.fsetxattr(fd, name, value, size, flags);
}

/* openat2 has no function of its own in glibc 2.36. */
EXPORT long syscall(long number, ...)
{
    long a[6];
    va_list args;

    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == SYS_openat2 && pick(IO_FAULT_OPEN) > 0)
        return -1;
    pthread_once(&once, find_all);
    return real.syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

EXPORT int io_uring_submit_and_wait(struct io_uring *ring, unsigned int n)
{
    struct io_uring_cqe *cqe;
    unsigned int head;
    int fault = pick(IO_FAULT_ENTER);
    int rc = fault > 0 ? -fault : real.submit_and_wait(ring, n);

    io_uring_for_each_cqe(ring, head, cqe)
    {
        if (cqe->res <= 0)
            continue;
        fault = pick(IO_FAULT_COMPLETE);
        if (fault == SHORT)
            cqe->res = (int)shorten_direct((size_t)cqe->res);
        else if (fault > 0)
            cqe->res = -fault;
    }
    return rc;
}
