/* file.c - file://, objects as files: the teaching plugin. Start here.
 *
 * A Penstock plugin is one exported function that hands out one table. This file has both, at its end;
 * what stands between is what every plugin needs: options, limits, opening and closing a store. The work
 * itself is in the files beside it, one per concept:
 *
 *     path.c     keys, and opening what they name without leaving the root
 *     read.c     the exact bytes of one version, or an error
 *     attr.c     etags, metadata, checksums, stat
 *     write.c    put; how an object becomes visible whole or not at all; upload.c: in parts
 *     move.c     copy and rename; remove.c: remove, make and remove directories
 *     list.c     walk a tree in key order; names.c sorts the names of one directory, page.c gathers
 *                entries
 *     cleanup.c  remove what writers that died left behind
 *     lock.c, io.c, error.c    conditional writes, moving bytes, errno into status and words
 *
 * How a call arrives: the functions here block, as file systems do. PST_SYNC_OPS (penstock/sync.h,
 * compiled into the plugin) wraps each of them so that the host sees an asynchronous plugin: a submit
 * returns PENDING at once, a host thread runs the function, its result completes the operation.
 *
 * One read: the host submits {key, offset, length}. fst_read() checks the key, opens the file, learns
 * its size, asks the host for memory of just that size (host->dst), reads into it, and looks once more
 * whether the file is still the one it opened. If there is no memory now it returns PST_LATER, and the
 * host calls it again when there is.
 *
 * One write: upload_open makes a temporary file in the object's directory, upload_part writes at
 * absolute offsets from any number of threads, upload_commit checks that every byte is there and renames
 * the file to the object's name. Before that nobody sees anything; after abort nothing is left.
 *
 * Rules kept everywhere, and worth copying:
 *  - What cannot be stored exactly is refused before any I/O, with a message that says why.
 *  - No globals but const tables. Two hosts in one process, or a fork, cannot meet in here.
 *  - Memory comes from host->alloc, what belongs to a result from host->op_alloc. Each may fail, and
 *    then the call fails cleanly: memory is taken before anything irreversible is done.
 *  - Structs of the host are filled member by member, never assigned whole, struct_size never written.
 *    Their last member may be missing, from a host that is older: PST_HAS tells before it is touched.
 *  - Every error names the path, what was tried and the kernel's reason.
 *  - Long loops ask pst_sync_cancelled() at least every 8 MiB or 64 KiB of directory entries.
 *
 * To make your own from this: copy the folder, rename id and scheme below, and replace the bodies. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <penstock/sync.h>

#define CAPS                                                                                       \
    (PST_CAP_READ | PST_CAP_READ_SUFFIX | PST_CAP_STAT | PST_CAP_PUT | PST_CAP_UPLOAD |            \
     PST_CAP_UPLOAD_UNORDERED | PST_CAP_REMOVE | PST_CAP_LIST | PST_CAP_LIST_ORDERED |             \
     PST_CAP_COPY | PST_CAP_RENAME | PST_CAP_CONTAINER | PST_CAP_CLEANUP | PST_CAP_READ_IF_MATCH | \
     PST_CAP_WRITE_IF_MATCH | PST_CAP_CREATE_ONLY | PST_CAP_USER_META | PST_CAP_CONTENT_TYPE |     \
     PST_CAP_CANCEL_BOUNDED | PST_CAP_EMPTY_DIRS)

static const pst_limits limits = {
    .struct_size = sizeof(limits),
    .object_max = INT64_MAX,
    .part_multiple = 1,
    .io_preferred = 8u << 20,
    .parts_max = FST_PARTS_MAX,
    .list_page_max = FST_PAGE_MAX,
    .remove_batch_max = 1000,
    .key_max = FST_KEY_MAX,
    .user_meta_max = 65536, /* per value; the file system may have room for less and then refuses */
    .mem_align = 1,
    .io_align = 1,
};

/* The host validates and resolves these before store_open: explicit value, environment, config file,
 * default. A plugin reads no environment and no file for its configuration. */
static const pst_option options[] = {
    {.type = PST_OPT_PATH,
     .name = "root",
     .fallback = "/",
     .doc = "directory that keys are relative to; an absolute path"},
    {.type = PST_OPT_ENUM,
     .name = "symlinks",
     .fallback = "inside",
     .choices = "inside|follow|refuse",
     .doc = "symbolic links: followed while they stay below root, followed anywhere, or refused"},
    {.type = PST_OPT_ENUM,
     .name = "fsync",
     .fallback = "none",
     .choices = "none|data|full",
     .doc = "before a write is reported done, flush nothing, the file, or file and directory"},
    {.type = PST_OPT_SIZE,
     .name = "list_memory",
     .fallback = "64MiB",
     .min = 64 << 10,
     .max = 1 << 30,
     .doc = "names of one directory that are sorted in memory; more go through a temporary file"},
    {.type = PST_OPT_PATH,
     .name = "tmpdir",
     .fallback = "/tmp",
     .env = "TMPDIR",
     .doc = "where that temporary file is made"},
};

static pst_str find_option(const pst_open_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_options; i++) {
        const pst_kv *kv = &args->options[i];
        if (kv->key.len == strlen(name) && memcmp(kv->key.ptr, name, kv->key.len) == 0)
            return kv->value;
    }
    return pst_str_of(NULL, 0);
}

static int is_text(pst_str value, const char *text)
{
    return value.len == strlen(text) && memcmp(value.ptr, text, value.len) == 0;
}

static uint64_t to_bytes(pst_str value)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < value.len; i++) /* decimal, within min..max: the host has checked */
        bytes = bytes * 10 + (uint64_t)(value.ptr[i] - '0');
    return bytes;
}

/* 16 hex digits that change with every start of the machine, for the names of temporary files. */
static void read_boot_id(char boot[17])
{
    char text[64];
    size_t n = 0;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof(text)) : 0;

    if (fd >= 0)
        close(fd);
    memset(boot, '0', 16); /* without /proc: locks and age decide in cleanup.c */
    boot[16] = '\0';
    for (ssize_t i = 0; i < got && n < 16; i++) {
        if ((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f'))
            boot[n++] = text[i];
    }
}

/* How names are kept inside the root; see path.c. */
static void choose_confinement(pst_backend *b, pst_str symlinks)
{
    static const char note[] = "openat2() is not available: symbolic links are refused";
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH};

    b->follow_dirs = is_text(symlinks, "follow");
    b->confine = FST_PLAIN;
    if (b->follow_dirs || (b->root[1] == '\0' && !is_text(symlinks, "refuse")))
        return; /* below "/" lies everything */
    b->resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    if (is_text(symlinks, "refuse"))
        b->resolve |= RESOLVE_NO_SYMLINKS;
    long fd = syscall(SYS_openat2, b->root_fd, ".", &how, sizeof(how));
    b->confine = fd >= 0 ? FST_OPENAT2 : FST_WALK;
    if (fd >= 0)
        close((int)fd);
    else if (!is_text(symlinks, "refuse"))
        memcpy(b->note, note, sizeof(note));
}

static void store_close(pst_backend *b)
{
    if (b->root_fd >= 0)
        close(b->root_fd);
    b->host->dealloc(b->host, b);
}

static pst_rc store_open(const pst_host *host, const pst_open_args *args, pst_backend **out,
                         pst_error *err)
{
    pst_str root = find_option(args, "root"), tmpdir = find_option(args, "tmpdir");
    pst_str list_memory = find_option(args, "list_memory"), fsync_when = find_option(args, "fsync");

    if (args->authority.len > 0)
        return fst_error_set(err, PST_E_INVALID, 0,
                             "file URIs have no authority: write file:///path (three slashes)");
    if (root.len == 0)
        root = PST_STR("/");
    if (root.ptr[0] != '/' || memchr(root.ptr, '\0', root.len))
        return fst_error_set(err, PST_E_INVALID, 0, "option root: must be an absolute path");
    while (root.len > 1 && root.ptr[root.len - 1] == '/')
        root.len--;
    pst_backend *b = host->alloc(host, sizeof(*b) + root.len + tmpdir.len + 2, 16);
    if (!b)
        return fst_error_set(err, PST_E_NO_MEMORY, 0, "out of memory");
    memset(b, 0, sizeof(*b) + root.len + tmpdir.len + 2);
    b->host = host;
    char *text = (char *)(b + 1);
    memcpy(text, root.ptr, root.len);
    b->root = text;
    if (tmpdir.len > 0)
        memcpy(text + root.len + 1, tmpdir.ptr, tmpdir.len);
    b->tmpdir = tmpdir.len > 0 ? text + root.len + 1 : "/tmp";
    b->list_memory = list_memory.len > 0 ? to_bytes(list_memory) : 64u << 20;
    b->fsync = is_text(fsync_when, "full")   ? FST_FSYNC_FULL
               : is_text(fsync_when, "data") ? FST_FSYNC_DATA
                                             : FST_FSYNC_NONE;
    read_boot_id(b->boot);
    b->root_fd = open(b->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (b->root_fd < 0) {
        pst_rc rc = errno == EACCES                       ? (pst_rc)PST_E_DENIED
                    : errno == ENOENT || errno == ENOTDIR ? (pst_rc)PST_E_NOT_FOUND
                                                          : (pst_rc)PST_E_IO;
        fst_error_set(err, rc, errno, "option root: %.300s", b->root);
        store_close(b);
        return rc;
    }
    choose_confinement(b, find_option(args, "symlinks"));
    *out = b;
    return PST_OK;
}

static void describe(pst_backend *b, pst_backend_info *info)
{
    pst_limits *l = info->limits;

    info->caps = CAPS;
    info->endpoint = "";
    info->note = b->note;
    if (PST_HAS(pst_backend_info, info, want_sums))
        info->want_sums = 0; /* kept where a caller has them; computing them is its choice */
    l->flags = limits.flags;
    l->object_max = limits.object_max;
    l->part_min = limits.part_min;
    l->part_max = limits.part_max;
    l->part_multiple = limits.part_multiple;
    l->io_preferred = limits.io_preferred;
    l->parts_max = limits.parts_max;
    l->list_page_max = limits.list_page_max;
    l->remove_batch_max = limits.remove_batch_max;
    l->inflight_max = limits.inflight_max;
    l->key_max = limits.key_max;
    l->user_meta_max = limits.user_meta_max;
    l->mem_align = limits.mem_align;
    if (PST_HAS(pst_limits, l, io_align))
        l->io_align = limits.io_align;
}

/* The blocking functions. Slots left out (append, presign, list by token) answer UNIMPLEMENTED. */
static const pst_backend_ops blocking = {
    .struct_size = sizeof(blocking),
    .read = fst_read,
    .stat = fst_stat,
    .put = fst_put,
    .copy = fst_copy,
    .rename = fst_rename,
    .remove = fst_remove,
    .list_open = fst_list_open,
    .list_page = fst_list_page,
    .list_close = fst_list_close,
    .upload_open = fst_upload_open,
    .upload_part = fst_upload_part,
    .upload_commit = fst_upload_commit,
    .upload_abort = fst_upload_abort,
    .upload_free = fst_upload_free,
    .container_create = fst_container_create,
    .container_delete = fst_container_delete,
    .cleanup = fst_cleanup,
    .info = describe,
    .close = store_close,
};

/* ... made asynchronous. */
PST_SYNC_OPS(ops, blocking)

static const char *const schemes[] = {"file", NULL};

static const pst_plugin plugin_table = {
    .struct_size = sizeof(plugin_table),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = CAPS,
    .threads = PST_THREADS_PARALLEL,
    .op_scratch = PST_SYNC_SCRATCH,
    .id = "file",
    .version = "0.9.0",
    .vendor = "Penstock",
    .license = "Apache-2.0",
    .schemes = schemes,
    .limits = &limits,
    .options = options,
    .option_stride = sizeof(options[0]),
    .n_options = sizeof(options) / sizeof(options[0]),
    .ops = &ops,
    .store_open = store_open,
};

PST_PLUGIN_ENTRY(host, plugin, err)
{
    /* A host of this major has at least the functions of its oldest minor; whether it is one is all
     * there is to check. */
    if (host->abi_major != PST_ABI_MAJOR || !PST_HAS(pst_host, host, exec))
        return fst_error_set(err, PST_E_BAD_PLUGIN, 0, "the host speaks ABI %u.%u, this is %u.%u",
                             host->abi_major, host->abi_minor, PST_ABI_MAJOR, PST_ABI_MINOR);
    *plugin = &plugin_table;
    return PST_OK;
}
