/* file.c - file://, objects as files: the teaching plugin. Start here.
 *
 * A Penstock plugin is one exported function that hands out one table. This file has both, with what
 * the table names: capabilities, limits, options. The work itself is in the files beside it, one per
 * concept:
 *
 *     store.c    opening and closing a store, its options
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
 * plugins/directio is made of the same files but for this one: it moves the bytes by other
 * means, through struct fst_data_ops, and shares everything else.
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

#include <penstock/sync.h>

static const pst_limits limits = {
    FST_TREE_LIMITS, .part_multiple = 1, .io_preferred = 2u << 20, .mem_align = 1, .io_align = 1,
};

/* The host validates and resolves these before store_open: explicit value, environment, config file,
 * default. A plugin reads no environment and no file for its configuration. */
static const pst_option options[] = {FST_TREE_OPTIONS};

static pst_rc store_open(const pst_host *host, const pst_open_args *args, pst_backend **out,
                         pst_error *err)
{
    return fst_store_open(host, args, &fst_buffered, out, err);
}

static void describe(pst_backend *b, pst_backend_info *info)
{
    fst_store_describe(b, &limits, info);
}

/* The blocking functions. Slots left out (append, presign, list by token) answer UNIMPLEMENTED. */
static const pst_backend_ops blocking = {
    .struct_size = sizeof(blocking),
    FST_TREE_OPS,
    .info = describe,
    .close = fst_store_close,
};

/* ... made asynchronous. */
PST_SYNC_OPS(ops, blocking)

static const char *const schemes[] = {"file", NULL};

static const pst_plugin plugin_table = {
    .struct_size = sizeof(plugin_table),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = FST_CAPS,
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
    pst_rc rc = fst_host_check(host, err);

    if (rc == PST_OK)
        *plugin = &plugin_table;
    return rc;
}
