/* cleanup.c - remove the temporary files of writers that died.
 *
 * A temporary file is known by its name (path.c), so nothing of anybody else is ever touched. Whether
 * its writer lives is known by the flock() that it holds on the file: the kernel drops that with the
 * process, whatever container or machine it ran in. Where a file system has no locks, the process id in
 * the name decides, if the file was made since this start of the machine; otherwise age alone does, so
 * older_than_s should be generous on such a file system.
 *
 * A file that may not be removed does not stop the work: the rest is done, then its error is returned. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <penstock/sync.h>

#define PAGE_ENTRIES 256

/* Without locks to ask: was it made by a process of this machine's current start that is there? */
static int has_living_pid(const pst_backend *b, const char *name)
{
    const char *boot = name + sizeof(".penstock-tmp-") - 1;

    if (memcmp(boot, b->boot, sizeof(b->boot) - 1) != 0)
        return 0;
    long pid = strtol(boot + sizeof(b->boot), NULL, 10);
    return pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

/* 1: removed, or would be. 0: its writer lives, or it is gone. -1 and errno. */
static int remove_dead(const pst_backend *b, const struct fst_parent *parent, int is_dry_run)
{
    const char *name = fst_leaf(parent);
    int fd = openat(parent->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int rc = 0, saved = 0;

    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        rc = 1;
    else if (errno != EWOULDBLOCK)
        rc = !has_living_pid(b, name);
    if (rc == 1 && !is_dry_run && unlinkat(parent->fd, name, 0) != 0) {
        rc = errno == ENOENT ? 0 : -1;
        saved = errno;
    }
    close(fd);
    errno = saved;
    return rc;
}

static int is_old(const pst_entry *entry, uint64_t older_than_s)
{
    struct timespec now;

    if (older_than_s == 0)
        return 1;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t age_s = (int64_t)now.tv_sec - entry->mtime_ns / 1000000000;
    return age_s > 0 && (uint64_t)age_s >= older_than_s;
}

/* One temporary file. A failure of its own goes to *first and is not the end. */
static pst_rc clean_one(const pst_backend *b, pst_op *op, const pst_cleanup_args *args,
                        const pst_entry *entry, pst_cleanup_result *result, int *first_errno)
{
    struct fst_parent parent;

    if (!is_old(entry, args->older_than_s))
        return PST_OK;
    if (fst_parent_open(b, op, entry->key, 0, &parent) != PST_OK)
        return PST_OK; /* its directory has just gone */
    int rc = remove_dead(b, &parent, (args->flags & PST_CLEANUP_DRY_RUN) != 0);
    int saved = errno;
    fst_parent_close(b, &parent, 0);
    if (rc < 0 && *first_errno == 0)
        *first_errno = saved;
    if (rc <= 0)
        return PST_OK;
    result->n_removed++;
    result->n_bytes += entry->size;
    pst_rc emitted = op->host->list_emit(op->host, op, entry, 1, sizeof(*entry));
    return emitted == PST_OK ? PST_OK
                             : fst_error_set(op->err, emitted, 0, "the host did not take an entry");
}

pst_rc fst_cleanup(pst_backend *b, pst_op *op, const pst_cleanup_args *args,
                   pst_cleanup_result *result)
{
    pst_cursor *cursor;
    int first_errno = 0, is_last = 0;
    pst_rc rc = fst_list_temps(b, op, args->prefix, &cursor);

    if (rc != PST_OK)
        return rc;
    while (rc == PST_OK && !is_last) {
        const pst_entry *entries;
        size_t n;
        rc = fst_list_fill(cursor, op, PAGE_ENTRIES, &entries, &n, &is_last);
        for (size_t i = 0; i < n && rc == PST_OK; i++)
            rc = clean_one(b, op, args, &entries[i], result, &first_errno);
        if (rc == PST_OK && pst_sync_cancelled(op))
            rc = fst_cancelled(op);
        fst_list_drop(cursor);
    }
    fst_list_close(cursor);
    if (rc == PST_OK && first_errno != 0)
        rc = fst_fail_errno(b, op, first_errno, args->prefix,
                            "some temporary files were not removed");
    return rc;
}
