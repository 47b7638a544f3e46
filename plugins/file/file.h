/* file.h - what the parts of the file plugin share. Private: nothing outside this folder sees it but
 * plugins/directio, which is made of the same parts.
 *
 * Every function that can fail returns a pst_rc and has then filled op->err; where one returns a
 * descriptor instead, -1 stands for a failure that errno tells. `key` is always the caller's bytes,
 * `path` the same bytes with a NUL behind them. */
#ifndef FST_FILE_H
#define FST_FILE_H

/* openat2, renameat2, O_PATH, copy_file_range: Linux. Before any other header. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <penstock/plugin.h>

#define FST_KEY_MAX 4000u      /* bytes of a key: PATH_MAX less room for what we put around it */
#define FST_COMPONENT_MAX 255u /* bytes between two slashes: NAME_MAX */
#define FST_PATH_SIZE                                                                              \
    (FST_KEY_MAX + FST_COMPONENT_MAX + 3u) /* a key, or beside one a name of ours */
#define FST_BLOCK (8u << 20)               /* bytes moved between two looks at the cancel flag */
#define FST_ETAG_SIZE 96u      /* five hexadecimal numbers of 64 bits and what separates them */
#define FST_TEMP_SIZE 80u      /* the name of a temporary file and its NUL */
#define FST_SUMS_MAX 4u        /* kinds of checksums in base.h */
#define FST_PARTS_MAX 1000000u /* of one upload */
#define FST_PAGE_MAX 10000u    /* entries of one page of a listing */

/* The file that writers with if_match lock; one per directory, made when first needed. */
#define FST_LOCK_NAME ".penstock-lock"

enum fst_confine {
    FST_PLAIN,   /* links may lead anywhere the process may go */
    FST_OPENAT2, /* the kernel keeps every step inside the root (Linux 5.6) */
    FST_WALK     /* an older kernel: component by component, no link followed */
};

enum fst_fsync { FST_FSYNC_NONE, FST_FSYNC_DATA, FST_FSYNC_FULL };

struct fst_read;
struct fst_write;

/* How the bytes of objects move. All else about a local file system is shared. */
struct fst_data_ops {
    /* Read as *r says. OK with *n_done < r->length only when the file ends before. */
    pst_rc (*read)(const pst_backend *b, pst_op *op, const struct fst_read *r, uint64_t *n_done);
    /* Write `length` bytes of `iov` at `offset` of the temporary file. Parts may come side by side. */
    pst_rc (*write)(const struct fst_write *w, pst_op *op, const pst_iov *iov, size_t n_iov,
                    uint64_t length, uint64_t offset);
    /* A regular file was opened for stat: see whether its bytes can move as they should. Or NULL. */
    void (*look)(const pst_backend *b, int fd);
};

/* An open store. Constant from store_open to close, so every thread may read it. */
struct pst_backend {
    const pst_host *host;
    const struct fst_data_ops *data;
    void *data_private; /* of `data` */
    uint32_t io_align;  /* granted memory is rounded up to it; 1: exact */
    int temp_flags;     /* more flags to open temporary files with */
    int root_fd;        /* O_PATH; every name is resolved relative to it */
    enum fst_confine confine;
    uint64_t resolve; /* RESOLVE_* for openat2 */
    enum fst_fsync fsync;
    int follow_dirs; /* a recursive listing enters links to directories */
    uint64_t list_memory;
    char boot[17]; /* names this start of the machine, in the names of temporary files */
    const char *root, *tmpdir;
    char note[128];
};

/* ---- store.c: what plugins of this tree have in common ---------------------------------------- */

#define FST_CAPS                                                                                   \
    (PST_CAP_READ | PST_CAP_READ_SUFFIX | PST_CAP_STAT | PST_CAP_PUT | PST_CAP_UPLOAD |            \
     PST_CAP_UPLOAD_UNORDERED | PST_CAP_REMOVE | PST_CAP_LIST | PST_CAP_LIST_ORDERED |             \
     PST_CAP_COPY | PST_CAP_RENAME | PST_CAP_CONTAINER | PST_CAP_CLEANUP | PST_CAP_READ_IF_MATCH | \
     PST_CAP_WRITE_IF_MATCH | PST_CAP_CREATE_ONLY | PST_CAP_USER_META | PST_CAP_CONTENT_TYPE |     \
     PST_CAP_CANCEL_BOUNDED | PST_CAP_EMPTY_DIRS | PST_CAP_UPLOAD_CONDITIONAL)

/* Of a value, user_meta_max: the file system may have room for less and then refuses. */
#define FST_TREE_LIMITS                                                                            \
    .struct_size = sizeof(pst_limits), .object_max = INT64_MAX, .parts_max = FST_PARTS_MAX,        \
    .list_page_max = FST_PAGE_MAX, .remove_batch_max = 1000, .key_max = FST_KEY_MAX,               \
    .user_meta_max = 65536

#define FST_TREE_OPTIONS                                                                           \
    {.type = PST_OPT_PATH,                                                                         \
     .name = "root",                                                                               \
     .fallback = "/",                                                                              \
     .doc = "directory that keys are relative to; an absolute path"},                              \
        {.type = PST_OPT_ENUM,                                                                     \
         .name = "symlinks",                                                                       \
         .fallback = "inside",                                                                     \
         .choices = "inside|follow|refuse",                                                        \
         .doc = "symbolic links: followed while they stay below root, followed anywhere, or "      \
                "refused"},                                                                        \
        {.type = PST_OPT_ENUM,                                                                     \
         .name = "fsync",                                                                          \
         .fallback = "none",                                                                       \
         .choices = "none|data|full",                                                              \
         .doc =                                                                                    \
             "before a write is reported done, flush nothing, the file, or file and directory"},   \
        {.type = PST_OPT_SIZE,                                                                     \
         .name = "list_memory",                                                                    \
         .fallback = "64MiB",                                                                      \
         .min = 64 << 10,                                                                          \
         .max = 1 << 30,                                                                           \
         .doc = "names of one directory that are sorted in memory; more go through a temporary "   \
                "file"},                                                                           \
    {                                                                                              \
        .type = PST_OPT_PATH, .name = "tmpdir", .fallback = "/tmp", .env = "TMPDIR",               \
        .doc = "where that temporary file is made"                                                 \
    }

#define FST_TREE_OPS                                                                               \
    .read = fst_read, .stat = fst_stat, .put = fst_put, .copy = fst_copy, .rename = fst_rename,    \
    .remove = fst_remove, .list_open = fst_list_open, .list_page = fst_list_page,                  \
    .list_close = fst_list_close, .upload_open = fst_upload_open, .upload_part = fst_upload_part,  \
    .upload_commit = fst_upload_commit, .upload_abort = fst_upload_abort,                          \
    .upload_free = fst_upload_free, .container_create = fst_container_create,                      \
    .container_delete = fst_container_delete, .cleanup = fst_cleanup

/* The value of an option, empty if it is not there; is it that text; its number. */
pst_str fst_option(const pst_open_args *args, const char *name);
int fst_is_text(pst_str value, const char *text);
uint64_t fst_to_number(pst_str value);

/* Refuse a host of another major with BAD_PLUGIN. For the entry of a plugin. */
pst_rc fst_host_check(const pst_host *host, pst_error *err);

pst_rc fst_store_open(const pst_host *host, const pst_open_args *args,
                      const struct fst_data_ops *data, pst_backend **out, pst_error *err);
void fst_store_describe(const pst_backend *b, const pst_limits *limits, pst_backend_info *info);
void fst_store_close(pst_backend *b);

/* ---- error.c: what errno means to a caller -------------------------------------------------- */

/* Fill op->err with "<path of key>: <words>" and return rc. */
pst_rc fst_fail(const pst_backend *b, pst_op *op, pst_rc rc, pst_str key, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* The same for a failed system call: "<path of key>: <doing>: <text of errno>". */
pst_rc fst_fail_errno(const pst_backend *b, pst_op *op, int sys_errno, pst_str key,
                      const char *doing);

pst_rc fst_no_memory(pst_op *op);
pst_rc fst_cancelled(pst_op *op);

/* Write `err` alone; for store_open, which has no operation. */
pst_rc fst_error_set(pst_error *err, pst_rc rc, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- path.c: keys, and opening what they name without leaving the root ------------------------ */

/* NULL if `name` may be a component of a key, else why not. */
const char *fst_component_fault(const char *name, size_t len);

/* Refuse with INVALID, before any I/O, what a file system cannot hold exactly. */
pst_rc fst_key_check(const pst_backend *b, pst_op *op, pst_str key);

/* Is this the name of the lock file or of a temporary file of ours? */
int fst_is_own_name(const char *name, size_t len);
int fst_is_temp_name(const char *name, size_t len);

/* Open `path` below the root as the option `symlinks` allows. Never creates. "." is the root. */
int fst_open(const pst_backend *b, const char *path, int flags);

/* The status of what `path` leads to, links followed as allowed. 0, or -1 and errno. */
int fst_lookup(const pst_backend *b, const char *path, struct stat *st);

/* Open the regular file `key` for reading, without hanging on a fifo. NOT_FOUND for anything that
 * is not a regular file, with words that say what it is. */
pst_rc fst_object_open(const pst_backend *b, pst_op *op, pst_str key, int *fd, struct stat *st);

/* Files of the kernel (/proc) have bytes but no size: an error, not an empty object. */
pst_rc fst_empty_check(const pst_backend *b, pst_op *op, pst_str key, int fd,
                       const struct stat *st);

/* "a directory", "a fifo" ... */
const char *fst_type_text(mode_t mode);

/* The directory that holds a key. */
struct fst_parent {
    int fd;             /* O_PATH */
    size_t dir_len;     /* bytes of the directory in `path`; 0: the root */
    size_t created_len; /* the topmost directory that we made is path[0..created_len); 0: none */
    size_t path_len;
    char path[FST_PATH_SIZE]; /* the whole key */
};

/* Open it; with `create` make the missing directories. fst_parent_close() releases it, with `drop`
 * also removes the directories that were made here and are still empty. */
pst_rc fst_parent_open(const pst_backend *b, pst_op *op, pst_str key, int create,
                       struct fst_parent *parent);
void fst_parent_close(const pst_backend *b, struct fst_parent *parent, int drop);
const char *fst_leaf(const struct fst_parent *parent);

/* Flush the directory itself, so that a rename in it survives a power cut. 0, or -1 and errno. */
int fst_dir_sync(int dir_fd);

/* ---- lock.c: one writer at a time per directory ------------------------------------------------ */

/* Lock the directory's lock file. Without `create` and without such a file there is nothing to lock:
 * *lock_fd is -1 and the answer PST_OK. */
pst_rc fst_lock(const pst_backend *b, pst_op *op, int dir_fd, pst_str key, int create,
                int *lock_fd);
void fst_unlock(int lock_fd);

/* Remove the lock file unless somebody holds it. 0, or -1 and errno (EBUSY). */
int fst_lock_remove(int dir_fd);

/* ---- io.c: moving bytes ------------------------------------------------------------------------ */

extern const struct fst_data_ops fst_buffered; /* through the page cache */

struct fst_read {
    pst_str key;
    int fd; /* opened for this read alone */
    const pst_iov *iov;
    size_t n_iov;
    uint64_t offset, length;
    uint64_t room; /* of `iov`, at least `length`: how much of it may be overwritten */
};

/* Where in a list of spans we are. */
struct fst_place {
    const pst_iov *iov;
    size_t n_iov, skip; /* bytes of iov[0] already done */
};
void fst_place_advance(struct fst_place *place, size_t done);

/* Read into `iov` or write what is at `place`, `length` bytes at `offset`. OK with *n_done < length only at the end
 * of the file. */
pst_rc fst_read_at(const pst_backend *b, pst_op *op, pst_str key, int fd, const pst_iov *iov,
                   size_t n_iov, uint64_t length, uint64_t offset, uint64_t *n_done);
pst_rc fst_write_at(const pst_backend *b, pst_op *op, pst_str key, int fd, struct fst_place place,
                    uint64_t length, uint64_t offset);

/* Copy `size` bytes from one file to the start of another. CHANGED if the source ends early. */
pst_rc fst_copy_bytes(const pst_backend *b, pst_op *op, pst_str key, int from_fd, int to_fd,
                      uint64_t size);

/* Bytes in `iov`; UINT64_MAX when they do not fit 63 bits. */
uint64_t fst_iov_bytes(const pst_iov *iov, size_t n_iov);

/* ---- attr.c: etags, and what is kept in extended attributes ------------------------------------ */

int64_t fst_mtime_ns(const struct stat *st);

/* Write the etag of `st` to `out` (FST_ETAG_SIZE bytes). Returns it. */
pst_str fst_etag(const struct stat *st, char *out);
int fst_etag_matches(const struct stat *st, pst_str etag);

/* May the bytes read between `before` and `after` be taken for one version? */
int fst_is_unchanged(const struct stat *before, const struct stat *after);

/* Keep the text fields and user_meta of `attr` on `fd`. INVALID for what does not fit. */
pst_rc fst_attr_write(const pst_backend *b, pst_op *op, pst_str key, int fd, const pst_attr *attr);

/* Read them back into memory of `op`. */
pst_rc fst_attr_read(const pst_backend *b, pst_op *op, pst_str key, int fd, pst_attr *attr);

/* Keep sums beside size, mtime and the time of now; read those that can still be believed. */
pst_rc fst_sums_check(const pst_backend *b, pst_op *op, pst_str key, const pst_sum *sums,
                      size_t stride, size_t n_sums);
int fst_sums_write(int fd, const struct stat *st, const pst_sum *sums, size_t stride,
                   size_t n_sums);
uint32_t fst_sums_read(int fd, const struct stat *st, pst_sum sums[FST_SUMS_MAX]);

/* The same in memory of the operation, for its result. */
pst_rc fst_sums_give(pst_op *op, int fd, const struct stat *st, const pst_sum **out,
                     uint32_t *n_out);

/* After a rename, whose status is *st: where a busy disk has delayed it so long that the sums are not
 * believed, date them anew, which moves the ctime in *st. */
void fst_sums_settle(int fd, struct stat *st, const pst_sum *sums, size_t stride, size_t n_sums);

pst_rc fst_stat(pst_backend *b, pst_op *op, const pst_stat_args *args, pst_attr *attr);

/* ---- read.c ------------------------------------------------------------------------------------ */

pst_rc fst_read(pst_backend *b, pst_op *op, const pst_read_args *args, pst_read_result *result);

/* ---- write.c: an object becomes visible whole or not at all ------------------------------------ */

struct fst_write {
    const pst_backend *backend;
    pst_str key, if_match; /* borrowed */
    struct fst_parent parent;
    pid_t pid; /* a fork child must not clean up after its parent */
    int fd;    /* the temporary file */
    int is_create_only, is_published, has_old;
    int sync_errno;  /* an error of flushing, which the kernel reports only once */
    struct stat old; /* what was there when we began */
    size_t etag_len; /* 0 until the write has ended well */
    char temp[FST_TEMP_SIZE], etag[FST_ETAG_SIZE];
};

/* Make the temporary file with its attributes. After a failure there is nothing to discard. */
pst_rc fst_write_begin(struct fst_write *w, const pst_backend *b, pst_op *op, pst_str key,
                       uint32_t flags, pst_str if_match, const pst_attr *attr);

/* Give it its name. May be called again after a failure. */
pst_rc fst_write_publish(struct fst_write *w, pst_op *op, uint64_t size, const pst_sum *sums,
                         size_t stride, size_t n_sums, pst_put_result *result);

/* Remove what was not published; 0, or -1 and errno. fst_write_end() releases everything. */
int fst_write_discard(struct fst_write *w);
void fst_write_end(struct fst_write *w);

/* Rename unless the target exists. 0, or -1 and errno (EEXIST). */
int fst_rename_new(int from_dir_fd, const char *from, int to_dir_fd, const char *to);

/* Is `name` in the directory the file that `fd` is open on? 1, 0, or -1 where that cannot be told. */
int fst_is_named(int fd, int dir_fd, const char *name);

/* Is `key`, whose status is *st or which is missing (st NULL), what if_match asks for? */
pst_rc fst_match_check(const pst_backend *b, pst_op *op, pst_str key, const struct stat *st,
                       pst_str if_match);

pst_rc fst_put(pst_backend *b, pst_op *op, const pst_put_args *args, pst_put_result *result);

/* ---- upload.c: an object in numbered parts ------------------------------------------------------ */

pst_rc fst_upload_open(pst_backend *b, pst_op *op, const pst_put_args *args,
                       pst_upload_result *result);
pst_rc fst_upload_part(pst_upload *u, pst_op *op, const pst_part_args *args, pst_result *result);
pst_rc fst_upload_commit(pst_upload *u, pst_op *op, const pst_commit_args *args,
                         pst_put_result *result);
pst_rc fst_upload_abort(pst_upload *u, pst_op *op, const pst_abort_args *args, pst_result *result);
void fst_upload_free(pst_upload *u);

/* ---- move.c, remove.c -------------------------------------------------------------------------- */

pst_rc fst_copy(pst_backend *b, pst_op *op, const pst_copy_args *args, pst_put_result *result);
pst_rc fst_rename(pst_backend *b, pst_op *op, const pst_copy_args *args, pst_put_result *result);
pst_rc fst_remove(pst_backend *b, pst_op *op, const pst_remove_args *args,
                  pst_remove_result *result);
pst_rc fst_container_create(pst_backend *b, pst_op *op, const pst_container_args *args,
                            pst_result *result);
pst_rc fst_container_delete(pst_backend *b, pst_op *op, const pst_container_args *args,
                            pst_result *result);

/* ---- names.c: the names of one directory, sorted ------------------------------------------------ */

enum fst_kind { FST_FILE, FST_LINK, FST_DIR, FST_DIR_LINK };

struct fst_name {
    const char *name; /* a directory's ends in '/', so that plain byte order is key order */
    size_t len;
    enum fst_kind kind;
};

struct fst_names;
pst_rc fst_names_new(const pst_backend *b, pst_op *op, struct fst_names **out);
pst_rc fst_names_add(struct fst_names *names, pst_op *op, const struct fst_name *name);
pst_rc fst_names_sort(struct fst_names *names, pst_op *op); /* after the last add; repeatable */
int fst_names_peek(const struct fst_names *names, struct fst_name *out); /* 0 at the end */
pst_rc fst_names_next(struct fst_names *names, pst_op *op);
void fst_names_free(struct fst_names *names);

/* ---- page.c: entries until the host has taken them ---------------------------------------------- */

struct fst_page {
    const pst_host *host;
    pst_entry *entries;
    size_t n, capacity;
    struct fst_chunk *chunks;
};

/* Add an object if `st` is given, else a prefix. */
pst_rc fst_page_add(struct fst_page *page, pst_op *op, pst_str key, const struct stat *st);
void fst_page_drop(struct fst_page *page, size_t n); /* the first n */
void fst_page_fini(struct fst_page *page);

/* ---- list.c, cleanup.c -------------------------------------------------------------------------- */

pst_rc fst_list_open(pst_backend *b, pst_op *op, const pst_list_args *args,
                     pst_cursor_result *result);
pst_rc fst_list_page(pst_cursor *c, pst_op *op, const pst_page_args *args, pst_list_result *result);
void fst_list_close(pst_cursor *c);

/* For cleanup.c: a cursor over our own temporary files and nothing else; fill a page without handing it
 * on (*is_last tells whether more may follow); forget the page. */
pst_rc fst_list_temps(const pst_backend *b, pst_op *op, pst_str prefix, pst_cursor **out);
pst_rc fst_list_fill(pst_cursor *c, pst_op *op, size_t max_entries, const pst_entry **entries,
                     size_t *n, int *is_last);
void fst_list_drop(pst_cursor *c);

pst_rc fst_cleanup(pst_backend *b, pst_op *op, const pst_cleanup_args *args,
                   pst_cleanup_result *result);

#endif
