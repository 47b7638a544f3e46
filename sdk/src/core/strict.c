#include "core/strict.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"

static pst_rc check_one(const char *path, int sticky_suffices, pst_error *err)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return pst_fail_errno(err, PST_E_BAD_PLUGIN, errno, "strict mode: %s", path);
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return pst_fail(err, PST_E_BAD_PLUGIN,
                        "strict mode: %s belongs to user %u, neither root nor this process", path,
                        (unsigned)st.st_uid);
    if (sticky_suffices && (st.st_mode & S_ISVTX))
        return PST_OK;
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return pst_fail(err, PST_E_BAD_PLUGIN, "strict mode: %s is writable by others (mode %04o)",
                        path, (unsigned)(st.st_mode & 07777));
    return PST_OK;
}

pst_rc pst_strict_check(const char *path, pst_error *err)
{
    char *real = realpath(path, NULL);
    pst_rc rc;

    if (!real)
        return errno == ENOMEM
                   ? pst_fail(err, PST_E_NO_MEMORY, "strict mode: %s: out of memory", path)
                   : pst_fail_errno(err, PST_E_BAD_PLUGIN, errno, "strict mode: %s", path);
    rc = check_one(real, 0, err);
    while (rc == PST_OK && strcmp(real, "/") != 0) {
        char *slash = strrchr(real, '/');
        slash[slash == real] = '\0'; /* the parent of "/x" is "/" */
        rc = check_one(real, 1, err);
    }
    free(real);
    return rc;
}
