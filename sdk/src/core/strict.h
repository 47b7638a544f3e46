/* strict.h - refuse plugin files that somebody else could have written (PST_CONTEXT_STRICT). */
#ifndef PST_CORE_STRICT_H
#define PST_CORE_STRICT_H

#include <penstock/status.h>

/* Check a file or directory and, after links are resolved, every directory above it: each must
 * belong to root or to us and be writable by its owner alone. Above `path` itself a sticky directory
 * such as /tmp is good enough, because nobody can rename what is not his in there.
 * Errors: BAD_PLUGIN naming path, owner and mode; NO_MEMORY. */
pst_rc pst_strict_check(const char *path, pst_error *err);

#endif
