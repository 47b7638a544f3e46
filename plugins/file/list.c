/* list.c - walk a directory tree in the order of its keys, page by page.
 *
 * A cursor is a stack of levels, one per directory on the way down. A level first reads its directory
 * whole (is_reading), collecting names (names.c), then walks them in order: an object becomes an entry,
 * a directory becomes a PREFIX entry or, in a recursive listing, the next level. So at most one
 * directory's names are held per level. UNORDERED listings hand objects on while they read and collect
 * only the names of directories.
 *
 * The prefix is bytes: "a/b" matches "a/b", "a/bc" and "a/b/c". Its part up to the last slash names the
 * directory to begin in, the rest filters the names there.
 *
 * Entries gather in a page, which is handed to the host in one call at its end. When something fails in
 * the middle, the page stays and every step that did not succeed is still to be done: asking again
 * continues there, and the host gets each entry once.
 *
 * Symbolic links to objects are objects if the option `symlinks` lets a read follow them. Links to
 * directories show up as PREFIX, but a recursive listing enters them only with symlinks=follow, and then
 * never a directory that it is already inside of: circles end.
 *
 * What is not an object is skipped: fifos, sockets, devices, dangling links, our own lock and temporary
 * files. What vanishes while we walk is skipped. A directory that may not be read is an error that names
 * it: a list that silently lacks a part is worse than none.
 *
 * Does not: take a snapshot. An object that is there throughout is listed, exactly once; one that comes
 * or goes meanwhile may be listed or not. */
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <penstock/sync.h>

#define DENTS_BYTES 65536u
#define PAGE_DEFAULT 1000u
#define FDS_KEPT 16u /* levels that keep their directory open while we are below them */

struct level {
    struct level *up;
    struct fst_names *names;
    int fd; /* -1: closed to save descriptors */
    uint32_t depth;
    size_t path_len; /* cursor->path[0..path_len) is this directory's key, with its '/' */
    int is_reading, has_entry;
    dev_t dev; /* to see circles of links */
    ino_t ino;
};

struct pst_cursor {
    const pst_backend *backend;
    uint32_t flags;
    int is_started, is_temps; /* is_temps: our own temporary files and nothing else */
    pst_str prefix, start_after;
    size_t base_len; /* prefix[0..base_len) is the directory to begin in, with its '/' */
    struct level *top;
    char *dents; /* directory entries of the level that is reading */
    size_t dents_len, dents_at;
    struct fst_page page;
    char path[FST_PATH_SIZE];
    char text[]; /* prefix and start_after */
};

/* ---- pages --------------------------------------------------------------------------------------- */

/* Add path[0..len) to the page: an object if `st` is given, else a prefix. */
static pst_rc add_entry(pst_cursor *c, pst_op *op, size_t len, const struct stat *st)
{
    return fst_page_add(&c->page, op, pst_str_of(c->path, len), st);
}

/* ---- which keys are wanted ------------------------------------------------------------------------ */

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return order != 0 ? order : a_len < b_len ? -1 : a_len > b_len;
}

static int starts_with(const char *bytes, size_t len, pst_str head)
{
    return len >= head.len && (head.len == 0 || memcmp(bytes, head.ptr, head.len) == 0);
}

static int is_after(const pst_cursor *c, size_t len)
{
    return c->start_after.len == 0 ||
           compare_bytes(c->path, len, c->start_after.ptr, c->start_after.len) > 0;
}

/* May a key below the directory path[0..len) come after start_after? */
static int reaches_after(const pst_cursor *c, size_t len)
{
    return is_after(c, len) ||
           starts_with(c->start_after.ptr, c->start_after.len, pst_str_of(c->path, len));
}

/* Put a name behind the directory's path. INVALID for what is too long to be a key; our own temporary
 * files are none, their names may be longer than the keys they stand for. */
static pst_rc compose(pst_cursor *c, pst_op *op, const char *name, size_t len, size_t *key_len)
{
    memcpy(c->path + c->top->path_len, name, len);
    *key_len = c->top->path_len + len;
    c->path[*key_len] = '\0';
    if (*key_len > FST_KEY_MAX && !fst_is_own_name(name, len))
        return fst_fail(c->backend, op, PST_E_INVALID, pst_str_of(c->path, *key_len),
                        "a key is at most 4000 bytes long");
    return PST_OK;
}

/* ---- levels --------------------------------------------------------------------------------------- */

static void free_level(pst_cursor *c, struct level *level)
{
    const pst_host *host = c->backend->host;

    if (level->fd >= 0)
        close(level->fd);
    fst_names_free(level->names);
    host->dealloc(host, level);
}

static void pop(pst_cursor *c)
{
    struct level *level = c->top;

    c->top = level->up;
    c->dents_len = c->dents_at = 0;
    free_level(c, level);
}

/* Make a level for the open directory path[0..path_len). Takes `fd`, after a failure too. */
static pst_rc make_level(pst_cursor *c, pst_op *op, int fd, size_t path_len, struct level **out)
{
    const pst_backend *b = c->backend;
    struct level *level = b->host->alloc(b->host, sizeof(*level), 16);
    struct stat st;

    if (!level) {
        close(fd);
        return fst_no_memory(op);
    }
    memset(level, 0, sizeof(*level));
    level->fd = fd;
    level->path_len = path_len;
    level->is_reading = 1;
    if (b->follow_dirs && fstat(fd, &st) == 0) {
        level->dev = st.st_dev;
        level->ino = st.st_ino;
    }
    pst_rc rc = fst_names_new(b, op, &level->names);
    if (rc != PST_OK) {
        free_level(c, level);
        return rc;
    }
    *out = level;
    return PST_OK;
}

static void push(pst_cursor *c, struct level *level)
{
    level->up = c->top;
    level->depth = c->top ? c->top->depth + 1 : 0;
    c->top = level;
    c->dents_len = c->dents_at = 0;
}

/* Open a directory by its key path[0..len), which ends in '/' or is empty. */
static int open_dir(pst_cursor *c, size_t len)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NONBLOCK;

    if (len == 0)
        return fst_open(c->backend, ".", flags);
    c->path[len - 1] = '\0';
    int fd = fst_open(c->backend, c->path, flags);
    int saved = errno;
    c->path[len - 1] = '/';
    errno = saved;
    return fd;
}

static int is_vanished(int sys_errno)
{
    return sys_errno == ENOENT || sys_errno == ENOTDIR;
}

/* Of a link: leads nowhere, in a circle, or where we may not follow. */
static int is_no_way(int sys_errno)
{
    return is_vanished(sys_errno) || sys_errno == ELOOP || sys_errno == EXDEV ||
           sys_errno == EACCES;
}

static int is_inside(const pst_cursor *c, int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return 0;
    for (const struct level *level = c->top; level; level = level->up) {
        if (level->dev == st.st_dev && level->ino == st.st_ino)
            return 1;
    }
    return 0;
}

/* The current level's directory, reopened if it was closed. *is_gone: it is not there any more. */
static pst_rc reopen(pst_cursor *c, pst_op *op, int *is_gone)
{
    struct level *level = c->top;

    *is_gone = 0;
    if (level->fd >= 0)
        return PST_OK;
    level->fd = open_dir(c, level->path_len);
    if (level->fd >= 0)
        return PST_OK;
    if (is_no_way(errno) && errno != EACCES) {
        *is_gone = 1;
        return PST_OK;
    }
    return fst_fail_errno(c->backend, op, errno, pst_str_of(c->path, level->path_len), "open");
}

/* ---- objects -------------------------------------------------------------------------------------- */

/* Add the object path[0..len), whose name in the current directory is `name`, unless it is none. */
static pst_rc add_object(pst_cursor *c, pst_op *op, const char *name, size_t len,
                         enum fst_kind kind)
{
    const pst_backend *b = c->backend;
    struct stat st;
    int failed = kind == FST_LINK ? fst_lookup(b, c->path, &st)
                                  : fstatat(c->top->fd, name, &st, AT_SYMLINK_NOFOLLOW);

    if (failed && (is_vanished(errno) || (kind == FST_LINK && is_no_way(errno))))
        return PST_OK;
    if (failed)
        return fst_fail_errno(b, op, errno, pst_str_of(c->path, len), "stat");
    if (!S_ISREG(st.st_mode))
        return PST_OK;
    pst_rc rc = add_entry(c, op, len, &st);
    if (rc == PST_OK)
        c->top->has_entry = 1;
    return rc;
}

/* ---- reading a directory -------------------------------------------------------------------------- */

static int kind_of_mode(mode_t mode)
{
    return S_ISREG(mode) ? FST_FILE : S_ISDIR(mode) ? FST_DIR : S_ISLNK(mode) ? FST_LINK : -1;
}

/* What a directory entry is: an fst_kind, -1 for what is skipped, -2 (and errno) where that cannot be
 * told: to skip that too would make a short list. The key is in c->path. */
static int classify(const pst_cursor *c, const struct dirent64 *entry)
{
    const pst_backend *b = c->backend;
    struct stat st;
    int kind = -1;

    switch (entry->d_type) {
    case DT_REG:
        kind = FST_FILE;
        break;
    case DT_DIR:
        kind = FST_DIR;
        break;
    case DT_LNK:
        kind = FST_LINK;
        break;
    case DT_UNKNOWN: /* some file systems do not say */
        if (fstatat(c->top->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            kind = kind_of_mode(st.st_mode);
        else if (!is_vanished(errno))
            return -2;
        break;
    default:
        break;
    }
    if (kind != FST_LINK)
        return kind;
    if (c->is_temps)
        return -1;
    if (fst_lookup(b, c->path, &st) != 0)
        return is_no_way(errno) ? -1 : -2;
    if (S_ISDIR(st.st_mode))
        return c->flags & PST_LIST_RECURSIVE && !b->follow_dirs ? -1 : FST_DIR_LINK;
    return S_ISREG(st.st_mode) ? FST_LINK : -1;
}

/* One directory entry: into the page, into the names, or nowhere. */
static pst_rc take(pst_cursor *c, pst_op *op, const struct dirent64 *entry)
{
    const char *name = entry->d_name;
    size_t len = strlen(name), key_len;
    const int is_own = fst_is_own_name(name, len);
    struct level *level = c->top;

    if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
        return PST_OK;
    if (is_own && !(c->is_temps && fst_is_temp_name(name, len)))
        return PST_OK;
    if (!level->up &&
        !starts_with(name, len,
                     pst_str_of(c->prefix.ptr + c->base_len, c->prefix.len - c->base_len)))
        return PST_OK;
    pst_rc rc = compose(c, op, name, len, &key_len);
    if (rc != PST_OK)
        return rc;
    int kind = classify(c, entry);
    if (kind == -2)
        return fst_fail_errno(c->backend, op, errno, pst_str_of(c->path, key_len), "stat");
    if (kind < 0 || (c->is_temps && kind != FST_DIR && !is_own))
        return PST_OK;
    const int is_dir = kind == FST_DIR || kind == FST_DIR_LINK;
    if (is_dir) {
        c->path[key_len++] = '/';
        c->path[key_len] = '\0';
    }
    if (!(is_dir && c->flags & PST_LIST_RECURSIVE ? reaches_after(c, key_len)
                                                  : is_after(c, key_len))) {
        level->has_entry = 1;
        return PST_OK;
    }
    if (c->flags & PST_LIST_UNORDERED && !is_dir)
        return add_object(c, op, name, key_len, (enum fst_kind)kind);
    const struct fst_name kept = {c->path + level->path_len, key_len - level->path_len,
                                  (enum fst_kind)kind};
    return fst_names_add(level->names, op, &kept);
}

/* Until the directory is read or the page is full. */
static pst_rc read_dir(pst_cursor *c, pst_op *op, size_t max_entries)
{
    while (c->page.n < max_entries) {
        if (c->dents_at >= c->dents_len) {
            if (pst_sync_cancelled(op))
                return fst_cancelled(op);
            ssize_t got = getdents64(c->top->fd, c->dents, DENTS_BYTES);
            if (got < 0 && errno != ENOENT)
                return fst_fail_errno(c->backend, op, errno, pst_str_of(c->path, c->top->path_len),
                                      "read the directory");
            c->dents_len = got > 0 ? (size_t)got : 0; /* ENOENT: removed while it was open */
            c->dents_at = 0;
            if (got <= 0) {
                pst_rc rc = fst_names_sort(c->top->names, op);
                if (rc == PST_OK)
                    c->top->is_reading = 0;
                return rc;
            }
        }
        const struct dirent64 *entry = (const struct dirent64 *)(const void *)(c->dents +
                                                                               c->dents_at);
        pst_rc rc = take(c, op, entry);
        if (rc != PST_OK)
            return rc;
        c->dents_at += entry->d_reclen;
    }
    return PST_OK;
}

/* ---- walking the names ---------------------------------------------------------------------------- */

/* Step over the current name, after `n_before` entries: what it added is taken back on failure. */
static pst_rc step(pst_cursor *c, pst_op *op, size_t n_before)
{
    pst_rc rc = fst_names_next(c->top->names, op);

    if (rc != PST_OK)
        c->page.n = n_before;
    return rc;
}

/* Go down into path[0..len), the current name. */
static pst_rc descend(pst_cursor *c, pst_op *op, const struct fst_name *name, size_t len)
{
    const pst_backend *b = c->backend;
    struct level *level = c->top;
    int fd;

    if (name->kind == FST_DIR_LINK) {
        fd = open_dir(c, len);
    } else {
        c->path[len - 1] = '\0';
        fd = openat(level->fd, c->path + level->path_len,
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        int saved = errno;
        c->path[len - 1] = '/';
        errno = saved;
    }
    if (fd < 0 && !is_vanished(errno) && errno != ELOOP)
        return fst_fail_errno(b, op, errno, pst_str_of(c->path, len), "open the directory");
    if (fd >= 0 && b->follow_dirs && is_inside(c, fd)) {
        close(fd);
        fd = -1;
    }
    struct level *below = NULL;
    pst_rc rc = fd >= 0 ? make_level(c, op, fd, len, &below) : PST_OK;
    if (rc == PST_OK)
        rc = step(c, op, c->page.n);
    if (rc != PST_OK || !below) {
        if (below)
            free_level(c, below);
        return rc;
    }
    level->has_entry = 1;
    if (level->depth >= FDS_KEPT) {
        close(level->fd);
        level->fd = -1;
    }
    push(c, below);
    return PST_OK;
}

/* The end of a level: an empty directory shows itself, if it is asked for. */
static pst_rc ascend(pst_cursor *c, pst_op *op)
{
    const size_t len = c->top->path_len;
    const uint32_t wanted = PST_LIST_RECURSIVE | PST_LIST_EMPTY_DIRS;
    pst_rc rc = PST_OK;

    if ((c->flags & wanted) == wanted && !c->top->has_entry && len > 0 && is_after(c, len) &&
        starts_with(c->path, len, c->prefix))
        rc = add_entry(c, op, len, NULL);
    if (rc == PST_OK)
        pop(c);
    return rc;
}

/* One name of the current level. Adds at most one entry. */
static pst_rc walk(pst_cursor *c, pst_op *op)
{
    const size_t n_before = c->page.n;
    struct fst_name name;
    size_t len;
    int is_gone;

    if (!fst_names_peek(c->top->names, &name))
        return ascend(c, op);
    pst_rc rc = reopen(c, op, &is_gone);
    if (rc == PST_OK && is_gone) {
        pop(c);
        return PST_OK;
    }
    if (rc == PST_OK)
        rc = compose(c, op, name.name, name.len, &len);
    if (rc != PST_OK)
        return rc;
    if (name.kind == FST_FILE || name.kind == FST_LINK) {
        rc = add_object(c, op, c->path + c->top->path_len, len, name.kind);
    } else if (c->flags & PST_LIST_RECURSIVE) {
        return descend(c, op, &name, len);
    } else {
        rc = add_entry(c, op, len, NULL);
        c->top->has_entry = 1;
    }
    return rc == PST_OK ? step(c, op, n_before) : rc;
}

/* ---- the cursor ----------------------------------------------------------------------------------- */

/* Can a key begin with these directories at all? */
static int is_possible(pst_str base)
{
    if (base.len > FST_KEY_MAX || (base.len > 0 && memchr(base.ptr, '\0', base.len)))
        return 0;
    for (size_t start = 0; start < base.len;) {
        const char *slash = memchr(base.ptr + start, '/', base.len - start);
        size_t end = (size_t)(slash - base.ptr);
        if (fst_component_fault(base.ptr + start, end - start))
            return 0;
        start = end + 1;
    }
    return 1;
}

/* Open the directory to begin in. One that is not there, or cannot be, has no keys. */
static pst_rc start(pst_cursor *c, pst_op *op)
{
    const pst_backend *b = c->backend;

    if (!is_possible(pst_str_of(c->prefix.ptr, c->base_len))) {
        c->is_started = 1;
        return PST_OK;
    }
    if (!c->dents)
        c->dents = b->host->alloc(b->host, DENTS_BYTES, 16);
    if (!c->dents)
        return fst_no_memory(op);
    memcpy(c->path, c->prefix.ptr, c->base_len);
    int fd = open_dir(c, c->base_len);
    if (fd < 0 && !is_vanished(errno))
        return fst_fail_errno(b, op, errno, pst_str_of(c->path, c->base_len), "open the directory");
    struct level *level;
    pst_rc rc = fd >= 0 ? make_level(c, op, fd, c->base_len, &level) : PST_OK;
    if (rc == PST_OK && fd >= 0)
        push(c, level);
    c->is_started = rc == PST_OK;
    return rc;
}

pst_rc fst_list_fill(pst_cursor *c, pst_op *op, size_t max_entries, const pst_entry **entries,
                     size_t *n, int *is_last)
{
    pst_rc rc = c->is_started ? PST_OK : start(c, op);

    while (rc == PST_OK && c->top && c->page.n < max_entries) {
        if (pst_sync_cancelled(op))
            rc = fst_cancelled(op);
        else
            rc = c->top->is_reading ? read_dir(c, op, max_entries) : walk(c, op);
    }
    *entries = c->page.entries;
    *n = c->page.n < max_entries ? c->page.n : max_entries;
    *is_last = !c->top && *n == c->page.n;
    return rc;
}

static pst_cursor *new_cursor(const pst_backend *b, uint32_t flags, pst_str prefix,
                              pst_str start_after)
{
    pst_cursor *c = b->host->alloc(b->host, sizeof(*c) + prefix.len + start_after.len, 16);

    if (!c)
        return NULL;
    memset(c, 0, sizeof(*c));
    c->backend = b;
    c->page.host = b->host;
    c->flags = flags;
    if (prefix.len > 0)
        memcpy(c->text, prefix.ptr, prefix.len);
    c->prefix = pst_str_of(c->text, prefix.len);
    if (start_after.len > 0)
        memcpy(c->text + prefix.len, start_after.ptr, start_after.len);
    c->start_after = pst_str_of(c->text + prefix.len, start_after.len);
    c->base_len = prefix.len;
    while (c->base_len > 0 && c->text[c->base_len - 1] != '/')
        c->base_len--;
    return c;
}

pst_rc fst_list_open(pst_backend *b, pst_op *op, const pst_list_args *args,
                     pst_cursor_result *result)
{
    result->cursor = new_cursor(b, args->flags, args->prefix, args->start_after);
    return result->cursor ? PST_OK : fst_no_memory(op);
}

pst_rc fst_list_temps(const pst_backend *b, pst_op *op, pst_str prefix, pst_cursor **out)
{
    *out = new_cursor(b, PST_LIST_RECURSIVE | PST_LIST_UNORDERED, prefix, pst_str_of(NULL, 0));
    if (!*out)
        return fst_no_memory(op);
    (*out)->is_temps = 1;
    return PST_OK;
}

void fst_list_drop(pst_cursor *c)
{
    fst_page_drop(&c->page, c->page.n);
}

pst_rc fst_list_page(pst_cursor *c, pst_op *op, const pst_page_args *args, pst_list_result *result)
{
    size_t max_entries = args->max_entries > 0 ? args->max_entries : PAGE_DEFAULT;
    const pst_entry *entries;
    size_t n;
    int is_last;

    if (max_entries > FST_PAGE_MAX)
        max_entries = FST_PAGE_MAX;
    pst_rc rc = fst_list_fill(c, op, max_entries, &entries, &n, &is_last);
    if (rc != PST_OK)
        return rc; /* the page stays for the next try */
    if (n > 0)
        rc = op->host->list_emit(op->host, op, entries, n, sizeof(*entries));
    if (rc != PST_OK)
        return fst_error_set(op->err, rc, 0, "the host did not take the page");
    fst_page_drop(&c->page, n);
    if (is_last)
        result->flags |= PST_PAGE_LAST;
    return PST_OK;
}

void fst_list_close(pst_cursor *c)
{
    const pst_host *host = c->backend->host;

    while (c->top)
        pop(c);
    fst_page_fini(&c->page);
    if (c->dents)
        host->dealloc(host, c->dents);
    host->dealloc(host, c);
}
