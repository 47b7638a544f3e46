/* acme.c - a Penstock plugin: objects in one directory, a file each.
 *
 * It is complete and passes the conformance kit, so start from it by replacing, one function at a
 * time, what talks to the file system with what talks to your storage; the kit tells when something
 * broke. All that a plugin may use is in <penstock/plugin.h>; its long form is docs/abi.md.
 *
 * How: the functions below block, and <penstock/sync.h> makes them asynchronous on the host's
 * threads. A key becomes one file name by percent-encoding, so every key of up to KEY_MAX bytes is kept
 * exactly; a longer one is refused with INVALID before any I/O. An object is written under a name that
 * begins with a dot, which no key encodes to, and renamed when it is complete: readers see the old
 * object or the new one. Files are never changed in place, so an open descriptor is one version.
 *
 * How it fails: every failure fills op->err with one line that names what was tried. What the store
 * cannot do is a capability that is not claimed; the host then never asks for it.
 *
 * It keeps no state outside a store, so it needs neither shutdown nor fork_child. */
#define _POSIX_C_SOURCE 200809L

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <penstock/plugin.h>
#include <penstock/sync.h>

#define NAME_BYTES 256u             /* a file name and its NUL */
#define KEY_MAX 85u                 /* a third, because every byte may need three */
#define ETAG_BYTES 64u              /* three numbers in hexadecimal and what separates them */
#define BLOCK_BYTES (1024u * 1024u) /* moved between two looks at the cancel flag */
#define PAGE_ENTRIES 10000u         /* of one page of a listing */
#define PARTS_MAX 10000u            /* of one upload */

/* An open store. Nothing in it changes after store_open, so all threads may read it. */
struct pst_backend {
    const pst_host *host;
    int dir_fd;
    int is_synced; /* option fsync */
};

/* ---- failures: once, where they are understood ----------------------------------------------- */

static pst_rc fail(pst_error *err, pst_rc rc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static pst_rc fail(pst_error *err, pst_rc rc, const char *format, ...)
{
    va_list list;

    /* Member by member: the struct is the host's and may be longer than the one we know. */
    err->code = rc;
    err->flags = 0;
    err->sys_errno = 0;
    va_start(list, format);
    vsnprintf(err->message, sizeof(err->message), format, list);
    va_end(list);
    return rc;
}

static pst_rc fail_errno(pst_error *err, int sys_errno, const char *doing, const char *name)
{
    char text[128];
    pst_rc rc = sys_errno == ENOENT                          ? PST_E_NOT_FOUND
                : sys_errno == EEXIST                        ? PST_E_EXISTS
                : sys_errno == EACCES || sys_errno == EPERM  ? PST_E_DENIED
                : sys_errno == ENOSPC || sys_errno == EDQUOT ? PST_E_NO_SPACE
                : sys_errno == EMFILE || sys_errno == ENFILE ? PST_E_UNAVAILABLE
                : sys_errno == ENOMEM                        ? PST_E_NO_MEMORY
                                                             : PST_E_IO;

    if (strerror_r(sys_errno, text, sizeof(text)) != 0)
        snprintf(text, sizeof(text), "error %d", sys_errno);
    fail(err, rc, "acme: %s: %s: %s", name, doing, text);
    err->sys_errno = sys_errno;
    /* Retryable: the same request may succeed later, without anybody changing anything. */
    if (rc == PST_E_UNAVAILABLE)
        err->flags = PST_ERR_RETRYABLE;
    return rc;
}

static pst_rc fail_no_memory(pst_op *op)
{
    return fail(op->err, PST_E_NO_MEMORY, "acme: out of memory");
}

static pst_rc fail_cancelled(pst_op *op)
{
    return fail(op->err, PST_E_CANCELLED, "acme: cancelled");
}

/* ---- keys and file names ------------------------------------------------------------------------ */

static int is_plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

/* The file that a key is kept in. Printable ASCII, so it also serves in messages. */
static pst_rc encode_key(pst_op *op, pst_str key, char name[NAME_BYTES])
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;

    if (key.len == 0 || key.len > KEY_MAX)
        return fail(op->err, PST_E_INVALID, "acme: a key has 1 to %u bytes, not %zu", KEY_MAX,
                    key.len);
    for (size_t i = 0; i < key.len; i++) {
        unsigned char c = (unsigned char)key.ptr[i];
        if (is_plain(c) && !(i == 0 && c == '.')) {
            name[n++] = (char)c;
        } else {
            name[n++] = '%';
            name[n++] = digits[c >> 4];
            name[n++] = digits[c & 15];
        }
    }
    name[n] = '\0';
    return PST_OK;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The key of a file name; 0 for names that no key encodes to: temporary files, strangers. */
static int decode_name(const char *name, char key[NAME_BYTES], size_t *len)
{
    size_t n = 0;

    if (name[0] == '.' || strlen(name) >= NAME_BYTES)
        return 0;
    for (size_t i = 0; name[i]; i++) {
        if (name[i] == '%') {
            int high = hex_digit(name[i + 1]);
            int low = high >= 0 ? hex_digit(name[i + 2]) : -1;
            unsigned char c = low >= 0 ? (unsigned char)(high * 16 + low) : 'a';
            /* A character that needs no escape was not escaped by us. */
            if (is_plain(c) && !(n == 0 && c == '.'))
                return 0;
            key[n++] = (char)c;
            i += 2;
        } else if (is_plain((unsigned char)name[i])) {
            key[n++] = name[i];
        } else {
            return 0;
        }
    }
    *len = n;
    return n > 0;
}

/* Names one content: no two files of ours agree in all three (see finish_file). */
static pst_str make_etag(const struct stat *st, char out[ETAG_BYTES])
{
    int n = snprintf(out, ETAG_BYTES, "%llx-%llx-%llx.%lx", (unsigned long long)st->st_ino,
                     (unsigned long long)st->st_size, (unsigned long long)st->st_mtim.tv_sec,
                     (unsigned long)st->st_mtim.tv_nsec);
    return pst_str_of(out, n > 0 ? (size_t)n : 0);
}

static int same_text(pst_str a, pst_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static int64_t mtime_ns(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* ---- moving bytes ------------------------------------------------------------------------------- */

/* pread or pwrite `length` bytes at `offset`, from or to spans that hold at least as many. */
static pst_rc move_bytes(pst_op *op, const char *name, int fd, int is_write, const pst_iov *iov,
                         size_t n_iov, uint64_t length, uint64_t offset)
{
    for (size_t i = 0; i < n_iov && length > 0; i++) {
        char *at = iov[i].ptr;
        size_t left = iov[i].len < length ? iov[i].len : (size_t)length;
        while (left > 0) {
            size_t block = left < BLOCK_BYTES ? left : BLOCK_BYTES;
            ssize_t n;
            if (pst_sync_cancelled(op))
                return fail_cancelled(op);
            n = is_write ? pwrite(fd, at, block, (off_t)offset)
                         : pread(fd, at, block, (off_t)offset);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return fail_errno(op->err, errno, is_write ? "write" : "read", name);
            if (n == 0)
                return fail(op->err, PST_E_CHANGED, "acme: %s: became shorter while it was read",
                            name);
            at += n;
            left -= (size_t)n;
            length -= (uint64_t)n;
            offset += (uint64_t)n;
        }
    }
    return length == 0 ? PST_OK
                       : fail(op->err, PST_E_INTERNAL, "acme: %s: spans are too short", name);
}

static uint64_t count_bytes(const pst_iov *iov, size_t n_iov)
{
    uint64_t n = 0;
    for (size_t i = 0; i < n_iov; i++)
        n += iov[i].len;
    return n;
}

/* ---- read and stat ------------------------------------------------------------------------------ */

static pst_rc open_object(const pst_backend *b, pst_op *op, pst_str key, char name[NAME_BYTES],
                          int *fd, struct stat *st)
{
    pst_rc rc = encode_key(op, key, name);

    if (rc != PST_OK)
        return rc;
    *fd = openat(b->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0)
        return fail_errno(op->err, errno, "open", name);
    if (fstat(*fd, st) == 0 && S_ISREG(st->st_mode))
        return PST_OK;
    close(*fd);
    return fail(op->err, PST_E_NOT_FOUND, "acme: %s: is no regular file", name);
}

/* The caller's spans if it brought some (an older host has no such member: ask before touching the
 * last member of any struct of the host's); else ask the host, which allocates now that the length is
 * known. LATER is handed on: this operation then runs again from its start. */
static pst_rc find_destination(pst_op *op, const pst_read_args *args, const pst_read_result *result,
                               uint64_t length, pst_dst_grant *grant)
{
    if (PST_HAS(pst_read_args, args, n_dst) && args->n_dst > 0) {
        grant->dst = args->dst;
        grant->n_dst = args->n_dst;
        return PST_OK;
    }
    const pst_dst_args ask = {
        .struct_size = sizeof(ask),
        .length = length,
        .capacity = length,
        .object_size = result->object_size,
        .etag_strength = result->etag_strength,
        .etag = result->etag,
    };
    return op->host->dst(op->host, op, &ask, grant);
}

/* Who asks for an old version must never get the current one instead. */
static pst_rc refuse_version(pst_op *op)
{
    return fail(op->err, PST_E_UNIMPLEMENTED, "acme: keeps no old versions");
}

static pst_rc acme_read(pst_backend *b, pst_op *op, const pst_read_args *args,
                        pst_read_result *result)
{
    pst_dst_grant grant = {.struct_size = sizeof(grant)};
    /* What the result points to must outlive this function: the operation's own memory. */
    char *etag = op->host->op_alloc(op->host, op, ETAG_BYTES);
    char name[NAME_BYTES];
    struct stat st, after;
    uint64_t size, offset = args->offset, length = args->length;
    int fd = -1;
    pst_rc rc;

    if (!etag)
        return fail_no_memory(op);
    if (args->version.len > 0)
        return refuse_version(op);
    rc = open_object(b, op, args->key, name, &fd, &st);
    if (rc != PST_OK)
        return rc;
    size = (uint64_t)st.st_size;
    if (args->flags & PST_READ_SUFFIX)
        offset = length < size ? size - length : 0;
    if (offset >= size)
        length = 0;
    else if (length > size - offset)
        length = size - offset;

    result->object_size = size;
    result->etag_strength = PST_ETAG_STRONG;
    result->etag = make_etag(&st, etag);
    if (args->if_match.len > 0 && !same_text(args->if_match, result->etag))
        rc = fail(op->err, PST_E_PRECONDITION, "acme: %s: has another etag", name);
    if (rc == PST_OK && length > 0) {
        rc = find_destination(op, args, result, length, &grant);
        if (rc == PST_OK)
            rc = move_bytes(op, name, fd, 0, grant.dst, grant.n_dst, length, offset);
        /* Nobody of us writes into a file in place; somebody else might have. */
        if (rc == PST_OK && (fstat(fd, &after) != 0 || after.st_size != st.st_size ||
                             mtime_ns(&after) != mtime_ns(&st)))
            rc = fail(op->err, PST_E_CHANGED, "acme: %s: changed while it was read", name);
    }
    if (rc == PST_OK)
        result->n_read = length;
    close(fd);
    return rc;
}

static pst_rc acme_stat(pst_backend *b, pst_op *op, const pst_stat_args *args, pst_attr *attr)
{
    char *etag = op->host->op_alloc(op->host, op, ETAG_BYTES);
    char name[NAME_BYTES];
    struct stat st;
    pst_rc rc = etag ? encode_key(op, args->key, name) : fail_no_memory(op);

    if (rc == PST_OK && PST_HAS(pst_stat_args, args, version) && args->version.len > 0)
        rc = refuse_version(op);
    if (rc != PST_OK)
        return rc;
    if (fstatat(b->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return fail_errno(op->err, errno, "stat", name);
    if (!S_ISREG(st.st_mode))
        return fail(op->err, PST_E_NOT_FOUND, "acme: %s: is no regular file", name);
    attr->kind = PST_KIND_OBJECT;
    attr->size = (uint64_t)st.st_size;
    attr->mtime_ns = mtime_ns(&st);
    attr->etag_strength = PST_ETAG_STRONG;
    attr->etag = make_etag(&st, etag);
    return PST_OK;
}

/* ---- write: invisible until it is complete ------------------------------------------------------- */

/* A file on its way to becoming an object. */
struct draft {
    const pst_backend *backend;
    int fd; /* -1: there is none */
    int is_create_only, is_published;
    pid_t pid; /* a child after fork must not remove its parent's file */
    size_t etag_len;
    char etag[ETAG_BYTES], name[NAME_BYTES], temporary[48];
};

static pst_rc begin_draft(struct draft *draft, const pst_backend *b, pst_op *op, pst_str key,
                          uint32_t flags)
{
    static unsigned counter;
    pst_rc rc;

    memset(draft, 0, sizeof(*draft));
    draft->backend = b;
    draft->fd = -1;
    draft->pid = getpid();
    draft->is_create_only = (flags & PST_PUT_CREATE_ONLY) != 0;
    rc = encode_key(op, key, draft->name);
    if (rc != PST_OK)
        return rc;
    /* An early answer saves the transfer; publish_draft decides. */
    if (draft->is_create_only && faccessat(b->dir_fd, draft->name, F_OK, 0) == 0)
        return fail(op->err, PST_E_EXISTS, "acme: %s: is there already", draft->name);
    do {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        snprintf(draft->temporary, sizeof(draft->temporary), ".part-%ld-%lx-%x", (long)draft->pid,
                 (unsigned long)now.tv_nsec, __atomic_fetch_add(&counter, 1u, __ATOMIC_RELAXED));
        draft->fd = openat(b->dir_fd, draft->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                           0666);
    } while (draft->fd < 0 && errno == EEXIST);
    return draft->fd >= 0 ? PST_OK : fail_errno(op->err, errno, "create", draft->name);
}

/* The kernel's file times move in steps of milliseconds, so two writes could get the same one, and
 * with a reused inode the same etag. Setting the time by the fine clock makes each one its own. */
static pst_rc finish_file(struct draft *draft, pst_op *op)
{
    struct timespec times[2] = {{0, UTIME_OMIT}, {0, 0}};

    clock_gettime(CLOCK_REALTIME, &times[1]);
    if (futimens(draft->fd, times) != 0)
        return fail_errno(op->err, errno, "set the time", draft->name);
    if (draft->backend->is_synced && fsync(draft->fd) != 0)
        return fail_errno(op->err, errno, "fsync", draft->name);
    return PST_OK;
}

/* Give the draft its name, once; repeated it gives the same answer. */
static pst_rc publish_draft(struct draft *draft, pst_op *op, pst_put_result *result)
{
    int dir_fd = draft->backend->dir_fd;
    char *etag = op->host->op_alloc(op->host, op, ETAG_BYTES);
    struct stat st;
    pst_rc rc = etag ? PST_OK : fail_no_memory(op);

    if (rc == PST_OK && !draft->is_published)
        rc = finish_file(draft, op);
    if (rc == PST_OK && fstat(draft->fd, &st) != 0)
        rc = fail_errno(op->err, errno, "stat", draft->name);
    if (rc != PST_OK)
        return rc;
    if (!draft->is_published) {
        /* link() does not replace, rename() does. */
        int failed = draft->is_create_only
                         ? linkat(dir_fd, draft->temporary, dir_fd, draft->name, 0)
                         : renameat(dir_fd, draft->temporary, dir_fd, draft->name);
        if (failed)
            return fail_errno(op->err, errno, "publish", draft->name);
        if (draft->is_create_only)
            unlinkat(dir_fd, draft->temporary, 0);
        draft->is_published = 1;
        draft->etag_len = make_etag(&st, draft->etag).len;
    }
    memcpy(etag, draft->etag, draft->etag_len);
    result->size = (uint64_t)st.st_size;
    result->etag_strength = PST_ETAG_STRONG;
    result->etag = pst_str_of(etag, draft->etag_len);
    return PST_OK;
}

/* Release the draft; what was not published goes. */
static void end_draft(struct draft *draft)
{
    if (draft->fd < 0)
        return;
    if (!draft->is_published && draft->pid == getpid())
        unlinkat(draft->backend->dir_fd, draft->temporary, 0);
    close(draft->fd);
    draft->fd = -1;
}

static pst_rc acme_put(pst_backend *b, pst_op *op, const pst_put_args *args, pst_put_result *result)
{
    uint64_t size = count_bytes(args->src, args->n_src);
    struct draft draft;
    pst_rc rc = begin_draft(&draft, b, op, args->key, args->flags);

    if (rc == PST_OK)
        rc = move_bytes(op, draft.name, draft.fd, 1, args->src, args->n_src, size, 0);
    if (rc == PST_OK)
        rc = publish_draft(&draft, op, result);
    end_draft(&draft);
    return rc;
}

/* ---- uploads: the same in parts, which may come in any order -------------------------------------- */

/* Parts of different numbers may be written side by side; each has a slot of its own. The host runs
 * open, commit, abort and free beside no other call on the upload, so nothing here needs a lock. */
struct pst_upload {
    struct draft draft;
    int is_aborted;
    struct {
        uint64_t offset, length;
        int is_there;
    } parts[PARTS_MAX];
};

static pst_rc acme_upload_open(pst_backend *b, pst_op *op, const pst_put_args *args,
                               pst_upload_result *result)
{
    pst_upload *u = b->host->alloc(b->host, sizeof(*u), 16);
    pst_rc rc;

    if (!u)
        return fail_no_memory(op);
    memset(u, 0, sizeof(*u));
    rc = begin_draft(&u->draft, b, op, args->key, args->flags);
    if (rc != PST_OK) {
        b->host->dealloc(b->host, u);
        return rc;
    }
    result->upload = u;
    return PST_OK;
}

static pst_rc acme_upload_part(pst_upload *u, pst_op *op, const pst_part_args *args,
                               pst_result *result)
{
    uint64_t length = count_bytes(args->src, args->n_src);
    pst_rc rc;

    (void)result;
    if (args->number >= PARTS_MAX)
        return fail(op->err, PST_E_INVALID, "acme: %s: part %u is beyond the limit of %u parts",
                    u->draft.name, args->number, PARTS_MAX);
    if (u->parts[args->number].is_there)
        return PST_OK; /* sent again after a lost reply; what we have stays */
    if (u->is_aborted || u->draft.is_published)
        return fail(op->err, PST_E_INVALID, "acme: %s: part %u comes after the end", u->draft.name,
                    args->number);
    rc = move_bytes(op, u->draft.name, u->draft.fd, 1, args->src, args->n_src, length,
                    args->offset);
    if (rc == PST_OK) {
        u->parts[args->number].offset = args->offset;
        u->parts[args->number].length = length;
        u->parts[args->number].is_there = 1;
    }
    return rc;
}

/* The parts must cover the object exactly: a hole would read as zeros that nobody wrote. */
static pst_rc check_parts(const pst_upload *u, pst_op *op, const pst_commit_args *args)
{
    uint64_t end = 0;

    for (uint32_t i = 0; i < PARTS_MAX; i++) {
        if (!u->parts[i].is_there && i >= args->n_parts)
            continue;
        if (!u->parts[i].is_there || i >= args->n_parts || u->parts[i].offset != end)
            return fail(op->err, PST_E_INVALID, "acme: %s: part %u is missing or misplaced",
                        u->draft.name, i);
        end += u->parts[i].length;
    }
    if (end != args->size)
        return fail(op->err, PST_E_INVALID, "acme: %s: the parts have %llu bytes, not %llu",
                    u->draft.name, (unsigned long long)end, (unsigned long long)args->size);
    return PST_OK;
}

static pst_rc acme_upload_commit(pst_upload *u, pst_op *op, const pst_commit_args *args,
                                 pst_put_result *result)
{
    pst_rc rc = PST_OK;

    if (u->is_aborted)
        return fail(op->err, PST_E_INVALID, "acme: %s: commit comes after abort", u->draft.name);
    if (!u->draft.is_published)
        rc = check_parts(u, op, args);
    return rc == PST_OK ? publish_draft(&u->draft, op, result) : rc;
}

static pst_rc acme_upload_abort(pst_upload *u, pst_op *op, const pst_abort_args *args,
                                pst_result *result)
{
    (void)op;
    (void)args;
    (void)result;
    if (!u->draft.is_published) {
        u->is_aborted = 1;
        end_draft(&u->draft);
    }
    return PST_OK;
}

static void acme_upload_free(pst_upload *u)
{
    const pst_host *host = u->draft.backend->host;
    end_draft(&u->draft);
    host->dealloc(host, u);
}

/* ---- remove --------------------------------------------------------------------------------------- */

static pst_rc remove_one(const pst_backend *b, pst_op *op, pst_str key)
{
    char name[NAME_BYTES];
    pst_rc rc = encode_key(op, key, name);

    if (rc == PST_OK && unlinkat(b->dir_fd, name, 0) != 0 && errno != ENOENT)
        rc = fail_errno(op->err, errno, "remove", name);
    return rc;
}

static pst_rc acme_remove(pst_backend *b, pst_op *op, const pst_remove_args *args,
                          pst_remove_result *result)
{
    for (size_t i = 0; i < args->n_keys; i++) {
        result->status[i] = remove_one(b, op, args->keys[i]);
        if (result->status[i] != PST_OK && result->errors) {
            pst_error *err = (pst_error *)(void *)((char *)result->errors +
                                                   i * result->error_stride);
            fail(err, result->status[i], "%s", op->err->message);
        }
    }
    return PST_OK; /* the statuses tell */
}

/* ---- list ------------------------------------------------------------------------------------------- */

/* A snapshot of the names, taken when the listing begins; sizes and times are looked up page by
 * page. Its memory grows with the number of keys. */
struct pst_cursor {
    const pst_backend *backend;
    char *text; /* all keys, one after the other */
    size_t text_len, text_cap;
    struct item {
        size_t start, len;
    } * items;
    size_t n_items, items_cap, next;
};

static void acme_list_close(pst_cursor *c)
{
    const pst_host *host = c->backend->host;
    if (c->text)
        host->dealloc(host, c->text);
    if (c->items)
        host->dealloc(host, c->items);
    host->dealloc(host, c);
}

/* The host has no realloc: take twice as much and copy. */
static void *grow(const pst_host *host, void *old, size_t used, size_t *cap, size_t needed)
{
    size_t more = *cap ? *cap : 4096;
    void *memory;

    while (more < needed)
        more *= 2;
    memory = host->alloc(host, more, 16);
    if (!memory)
        return NULL;
    if (old) {
        memcpy(memory, old, used);
        host->dealloc(host, old);
    }
    *cap = more;
    return memory;
}

static int add_item(pst_cursor *c, pst_str key)
{
    const pst_host *host = c->backend->host;

    if (c->text_len + key.len > c->text_cap) {
        char *text = grow(host, c->text, c->text_len, &c->text_cap, c->text_len + key.len);
        if (!text)
            return 0;
        c->text = text;
    }
    if ((c->n_items + 1) * sizeof(*c->items) > c->items_cap) {
        size_t used = c->n_items * sizeof(*c->items);
        struct item *items = grow(host, c->items, used, &c->items_cap, used + sizeof(*items));
        if (!items)
            return 0;
        c->items = items;
    }
    memcpy(c->text + c->text_len, key.ptr, key.len);
    c->items[c->n_items].start = c->text_len;
    c->items[c->n_items].len = key.len;
    c->text_len += key.len;
    c->n_items++;
    return 1;
}

static int compare_bytes(pst_str a, pst_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len ? memcmp(a.ptr, b.ptr, len) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* Items are compared by their text, which qsort cannot reach from them: offsets become pointers. */
static int compare_strs(const void *a, const void *b)
{
    return compare_bytes(*(const pst_str *)a, *(const pst_str *)b);
}

/* Sort and drop what is there twice: a common prefix came once for each key below it. */
static int sort_items(pst_cursor *c)
{
    const pst_host *host = c->backend->host;
    pst_str *sorted = c->n_items ? host->alloc(host, c->n_items * sizeof(*sorted), 16) : NULL;
    size_t n = 0;

    if (c->n_items == 0)
        return 1;
    if (!sorted)
        return 0;
    for (size_t i = 0; i < c->n_items; i++)
        sorted[i] = pst_str_of(c->text + c->items[i].start, c->items[i].len);
    qsort(sorted, c->n_items, sizeof(*sorted), compare_strs);
    for (size_t i = 0; i < c->n_items; i++) {
        if (i > 0 && compare_bytes(sorted[i - 1], sorted[i]) == 0)
            continue;
        c->items[n].start = (size_t)(sorted[i].ptr - c->text);
        c->items[n++].len = sorted[i].len;
    }
    c->n_items = n;
    host->dealloc(host, sorted);
    return 1;
}

/* The entry that a key shows as below `prefix`; 0 if it is not in this listing. */
static int find_entry(const pst_list_args *args, pst_str *key)
{
    const char *slash;
    size_t skip = args->prefix.len;

    if (key->len < skip || (skip && memcmp(key->ptr, args->prefix.ptr, skip) != 0))
        return 0;
    slash = key->len > skip ? memchr(key->ptr + skip, '/', key->len - skip) : NULL;
    if (slash && !(args->flags & PST_LIST_RECURSIVE))
        key->len = (size_t)(slash + 1 - key->ptr);
    return args->start_after.len == 0 || compare_bytes(*key, args->start_after) > 0;
}

static pst_rc read_names(pst_cursor *c, pst_op *op, DIR *dir, const pst_list_args *args)
{
    char bytes[NAME_BYTES];

    for (;;) {
        const struct dirent *found;
        pst_str key = {bytes, 0};
        if (pst_sync_cancelled(op))
            return fail_cancelled(op);
        errno = 0;
        found = readdir(dir);
        if (!found)
            return errno ? fail_errno(op->err, errno, "read the directory", ".") : PST_OK;
        if (decode_name(found->d_name, bytes, &key.len) && find_entry(args, &key) &&
            !add_item(c, key))
            return fail_no_memory(op);
    }
}

static pst_rc acme_list_open(pst_backend *b, pst_op *op, const pst_list_args *args,
                             pst_cursor_result *result)
{
    pst_cursor *c = b->host->alloc(b->host, sizeof(*c), 16);
    DIR *dir = NULL;
    int fd = -1;
    pst_rc rc = PST_OK;

    if (!c)
        return fail_no_memory(op);
    memset(c, 0, sizeof(*c));
    c->backend = b;
    fd = openat(b->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir)
        rc = fail_errno(op->err, errno, "open the directory", ".");
    if (!dir && fd >= 0)
        close(fd);
    if (rc == PST_OK)
        rc = read_names(c, op, dir, args);
    if (dir)
        closedir(dir);
    if (rc == PST_OK && !sort_items(c))
        rc = fail_no_memory(op);
    if (rc != PST_OK) {
        acme_list_close(c);
        return rc;
    }
    result->cursor = c;
    return PST_OK;
}

/* Hand over one item. *n_sent grows unless the object has gone meanwhile. */
static pst_rc send_item(const pst_cursor *c, pst_op *op, size_t i, uint32_t *n_sent)
{
    pst_entry entry = {.kind = PST_KIND_PREFIX, .mtime_ns = PST_TIME_UNKNOWN};
    char name[NAME_BYTES], etag[ETAG_BYTES];
    struct stat st;
    pst_rc rc;

    entry.key = pst_str_of(c->text + c->items[i].start, c->items[i].len);
    rc = encode_key(op, entry.key, name);
    /* A prefix ends in a slash; so may an object, and then there is a file of that name. */
    if (rc == PST_OK && fstatat(c->backend->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!S_ISREG(st.st_mode))
            return PST_OK;
        entry.kind = PST_KIND_OBJECT;
        entry.size = (uint64_t)st.st_size;
        entry.mtime_ns = mtime_ns(&st);
        entry.etag_strength = PST_ETAG_STRONG;
        entry.etag = make_etag(&st, etag);
    } else if (entry.key.ptr[entry.key.len - 1] != '/') {
        return PST_OK;
    }
    (*n_sent)++;
    return op->host->list_emit(op->host, op, &entry, 1, sizeof(entry));
}

static pst_rc acme_list_page(pst_cursor *c, pst_op *op, const pst_page_args *args,
                             pst_list_result *result)
{
    size_t i = c->next;
    uint32_t n_sent = 0, max_entries = PAGE_ENTRIES;
    pst_rc rc = PST_OK;

    if (PST_HAS(pst_page_args, args, max_entries) && args->max_entries > 0 &&
        args->max_entries < max_entries)
        max_entries = args->max_entries;
    while (rc == PST_OK && i < c->n_items && n_sent < max_entries) {
        rc = pst_sync_cancelled(op) ? fail_cancelled(op) : send_item(c, op, i, &n_sent);
        i++;
    }
    if (rc != PST_OK)
        return rc; /* `next` has not moved, so the page may be asked for again */
    c->next = i;
    if (i == c->n_items)
        result->flags |= PST_PAGE_LAST;
    return PST_OK;
}

/* ---- the store and the plugin ----------------------------------------------------------------------- */

#define ACME_CAPS                                                                                  \
    (PST_CAP_READ | PST_CAP_READ_SUFFIX | PST_CAP_READ_IF_MATCH | PST_CAP_STAT | PST_CAP_PUT |     \
     PST_CAP_CREATE_ONLY | PST_CAP_UPLOAD | PST_CAP_UPLOAD_UNORDERED | PST_CAP_REMOVE |            \
     PST_CAP_LIST | PST_CAP_LIST_ORDERED | PST_CAP_CANCEL_BOUNDED | PST_CAP_UPLOAD_CONDITIONAL)

static const pst_limits acme_limits = {
    .struct_size = sizeof(acme_limits),
    .parts_max = PARTS_MAX,
    .list_page_max = PAGE_ENTRIES,
    .key_max = KEY_MAX,
};

static void acme_info(pst_backend *b, pst_backend_info *info)
{
    (void)b;
    info->caps = ACME_CAPS;
    info->limits->parts_max = acme_limits.parts_max;
    info->limits->list_page_max = acme_limits.list_page_max;
    info->limits->key_max = acme_limits.key_max;
    info->endpoint = "";
    info->note = "";
}

static void acme_close(pst_backend *b)
{
    const pst_host *host = b->host;
    close(b->dir_fd);
    host->dealloc(host, b);
}

static const pst_option acme_options[] = {
    {.type = PST_OPT_PATH,
     .name = "root",
     .env = "ACME_ROOT",
     .doc = "directory that holds a directory for each authority"},
    {.type = PST_OPT_BOOL,
     .name = "fsync",
     .fallback = "no",
     .doc = "flush each object to the disk"},
};

static pst_str find_option(const pst_open_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_options; i++) {
        if (same_text(args->options[i].key, pst_str_of(name, strlen(name))))
            return args->options[i].value;
    }
    return pst_str_of(NULL, 0);
}

static pst_rc acme_store_open(const pst_host *host, const pst_open_args *args, pst_backend **out,
                              pst_error *err)
{
    pst_str root = find_option(args, "root"), authority = args->authority;
    char path[4096];
    pst_backend *b;
    int n;

    if (root.len == 0)
        return fail(err, PST_E_INVALID, "acme: set the option root or the variable ACME_ROOT");
    if ((authority.len > 0 && authority.ptr[0] == '.') || memchr(authority.ptr, '/', authority.len))
        return fail(err, PST_E_INVALID, "acme: that authority cannot be the name of a directory");
    n = snprintf(path, sizeof(path), "%.*s/%.*s", (int)root.len, root.ptr, (int)authority.len,
                 authority.len ? authority.ptr : "");
    if (n < 0 || (size_t)n >= sizeof(path))
        return fail(err, PST_E_INVALID, "acme: root is too long");
    b = host->alloc(host, sizeof(*b), 16);
    if (!b)
        return fail(err, PST_E_NO_MEMORY, "acme: out of memory");
    b->host = host;
    b->is_synced = find_option(args, "fsync").len == 1 && find_option(args, "fsync").ptr[0] == '1';
    /* An authority comes into being when it is first used. */
    b->dir_fd = mkdir(path, 0777) == 0 || errno == EEXIST
                    ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                    : -1;
    if (b->dir_fd < 0) {
        host->dealloc(host, b);
        return fail_errno(err, errno, "open", path);
    }
    *out = b;
    return PST_OK;
}

static const pst_backend_ops acme_blocking = {
    .struct_size = sizeof(acme_blocking),
    .read = acme_read,
    .stat = acme_stat,
    .put = acme_put,
    .remove = acme_remove,
    .list_open = acme_list_open,
    .list_page = acme_list_page,
    .list_close = acme_list_close,
    .upload_open = acme_upload_open,
    .upload_part = acme_upload_part,
    .upload_commit = acme_upload_commit,
    .upload_abort = acme_upload_abort,
    .upload_free = acme_upload_free,
    .info = acme_info,
    .close = acme_close,
};
PST_SYNC_OPS(acme_ops, acme_blocking)

static const char *const acme_schemes[] = {"acme", NULL};

static const pst_plugin acme_plugin = {
    .struct_size = sizeof(acme_plugin),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = ACME_CAPS,
    .threads = PST_THREADS_PARALLEL,
    .op_scratch = PST_SYNC_SCRATCH,
    .id = "acme",
    .version = "0.1.0",
    .vendor = "acme",
    .license = "unspecified",
    .schemes = acme_schemes,
    .limits = &acme_limits,
    .options = acme_options,
    .option_stride = sizeof(acme_options[0]),
    .n_options = sizeof(acme_options) / sizeof(acme_options[0]),
    .ops = &acme_ops,
    .store_open = acme_store_open,
};

PST_PLUGIN_ENTRY(host, plugin, err)
{
    (void)host;
    (void)err;
    *plugin = &acme_plugin;
    return PST_OK;
}
