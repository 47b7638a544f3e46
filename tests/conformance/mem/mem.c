/* mem.c - mem://, objects in memory: the conformance kit's second subject, and what hosts are tested with.
 *
 * It is what the file plugin is not: truly asynchronous, with threads of its own and a queue that
 * fills up (BUSY and wake), some operations done inside the submit function, listings by token,
 * suffix reads, append, presign, sums that it checks, buckets, old versions, tags. So the other paths of
 * kit and host are walked as well.
 *
 * Buckets belong to the process and are found by authority, so a store that is opened again finds its
 * objects (bucket.c). A forked child begins with no bucket at all. work.c has the threads; read.c, write.c,
 * upload.c and list.c have the operations.
 *
 * Fails: NO_MEMORY everywhere without effect. Does not: keep anything on disk. */
#include "mem.h"

#include <stdio.h>

/* ---- the store --------------------------------------------------------------------------------- */

#define CAPS                                                                                       \
    (PST_CAP_READ | PST_CAP_READ_SUFFIX | PST_CAP_STAT | PST_CAP_PUT | PST_CAP_UPLOAD |            \
     PST_CAP_UPLOAD_UNORDERED | PST_CAP_REMOVE | PST_CAP_LIST | PST_CAP_LIST_ORDERED |             \
     PST_CAP_COPY | PST_CAP_RENAME | PST_CAP_PRESIGN | PST_CAP_READ_IF_MATCH |                     \
     PST_CAP_WRITE_IF_MATCH | PST_CAP_CREATE_ONLY | PST_CAP_USER_META | PST_CAP_CONTENT_TYPE |     \
     PST_CAP_CANCEL_BOUNDED | PST_CAP_APPEND | PST_CAP_UPLOAD_CONDITIONAL | PST_CAP_CONTAINER |    \
     PST_CAP_COPY_ACROSS | PST_CAP_VERSIONS | PST_CAP_TAGS)

static const pst_limits limits = {
    .struct_size = sizeof(limits),
    .list_page_max = PAGE_MAX,
    .inflight_max = INFLIGHT_MAX,
    .key_max = KEY_MAX,
    .user_meta_max = META_MAX,
};

static void mem_info(pst_backend *b, pst_backend_info *info)
{
    pst_limits *l = info->limits;
    info->caps = b->n_kept > 0 ? CAPS : CAPS & ~PST_CAP_VERSIONS;
    info->endpoint = "";
    info->note = "";
    if (PST_HAS(pst_backend_info, info, want_sums))
        info->want_sums = 1u << PST_SUM_CRC32C;
    l->part_max = b->part_max;
    l->list_page_max = limits.list_page_max;
    l->inflight_max = limits.inflight_max;
    l->key_max = limits.key_max;
    l->user_meta_max = limits.user_meta_max;
}

static void mem_close(pst_backend *b)
{
    const pst_host *host = b->host;
    mem_join_threads(b);
    (void)pthread_cond_destroy(&b->cond);
    (void)pthread_mutex_destroy(&b->mutex);
    host->dealloc(host, b);
}

/* Objects "seed/0000" and so on, so that there is something to read in a fresh process. Where versions are
 * kept, each was written twice: its old version is a byte shorter. */
static int sow_locked(struct bucket *bucket, uint64_t n, unsigned n_kept)
{
    for (uint64_t i = 0; i < (n_kept > 0 ? 2 * n : n); i++) {
        uint64_t number = n_kept > 0 ? i / 2 : i;
        uint64_t size = number * 997 % 100000 + 1;
        char key[40];
        int len = snprintf(key, sizeof(key), "seed/%s%04llu", number % 7 ? "" : "dir/",
                           (unsigned long long)number);
        if (n_kept > 0 && i % 2 == 0)
            size--;
        struct object *o = mem_object_new(pst_str_of(key, (size_t)len), size, NULL);
        if (!o)
            return -1;
        for (uint64_t k = 0; k < o->size; k++)
            o->data[k] = (unsigned char)(k * 31 + number);
        o->crc32c = mem_crc32c(0, o->data, (size_t)o->size);
        if (mem_insert(bucket, o, n_kept) != 0) {
            mem_object_unref(o);
            return -1;
        }
    }
    return 0;
}

static uint64_t read_number(const pst_open_args *a, pst_str name)
{
    uint64_t n = 0;
    for (size_t i = 0; i < a->n_options; i++)
        if (mem_compare(a->options[i].key, name) == 0)
            for (size_t k = 0; k < a->options[i].value.len; k++)
                n = n * 10 + (uint64_t)(a->options[i].value.ptr[k] - '0');
    return n;
}

/* The bucket of the authority: found, or made with what it has to begin with. */
static struct bucket *open_bucket_locked(const pst_open_args *a, unsigned n_kept)
{
    struct bucket *bucket = mem_bucket_find(a->authority);
    if (bucket)
        return bucket;
    bucket = mem_bucket_make(a->authority);
    if (bucket && sow_locked(bucket, read_number(a, PST_STR("seed")), n_kept) != 0)
        return NULL;
    if (bucket && read_number(a, PST_STR("missing")) > 0)
        atomic_store(&bucket->is_there, 0);
    return bucket;
}

static pst_rc mem_store_open(const pst_host *host, const pst_open_args *a, pst_backend **out,
                             pst_error *err)
{
    pst_backend *b = host->alloc(host, sizeof(*b), 16);
    if (!b) {
        err->code = PST_E_NO_MEMORY;
        return PST_E_NO_MEMORY;
    }
    memset(b, 0, sizeof(*b));
    b->host = host;
    b->locked.last = &b->locked.first;
    (void)pthread_mutex_init(&b->mutex, NULL);
    (void)pthread_cond_init(&b->cond, NULL);
    b->n_kept = (unsigned)read_number(a, PST_STR("versions"));
    b->part_max = read_number(a, PST_STR("part_max"));
    (void)pthread_mutex_lock(&mem_process.mutex);
    b->bucket = open_bucket_locked(a, b->n_kept);
    (void)pthread_mutex_unlock(&mem_process.mutex);
    if (!b->bucket || mem_start_threads(b) != 0) {
        err->code = PST_E_NO_MEMORY;
        (void)snprintf(err->message, sizeof(err->message), "mem: out of memory or threads");
        mem_close(b);
        return PST_E_NO_MEMORY;
    }
    if (host->log_enabled(host, PST_LOG_DEBUG))
        host->log(host, PST_LOG_DEBUG, "mem", "a store was opened");
    *out = b;
    return PST_OK;
}

/* The lock may have been held, a bucket half changed: begin anew. */
static void mem_fork_child(const pst_host *host)
{
    (void)host;
    if (mem_process.pid == getpid())
        return;
    mem_process.pid = getpid();
    (void)pthread_mutex_init(&mem_process.mutex, NULL);
    mem_process.buckets = NULL;
}

static void mem_shutdown(const pst_host *host)
{
    (void)host;
}

static const pst_backend_ops ops = {
    .struct_size = sizeof(ops),
    .read = mem_read,
    .stat = mem_stat,
    .put = mem_put,
    .append = mem_append,
    .copy = mem_copy,
    .rename = mem_rename,
    .remove = mem_remove,
    .list = mem_list,
    .upload_open = mem_upload_open,
    .upload_part = mem_upload_part,
    .upload_commit = mem_upload_commit,
    .upload_abort = mem_upload_abort,
    .upload_free = mem_upload_free,
    .container_create = mem_container_create,
    .container_delete = mem_container_delete,
    .container_list = mem_container_list,
    .presign = mem_presign,
    .dst_ready = mem_dst_ready,
    .cancel = mem_cancel,
    .info = mem_info,
    .close = mem_close,
};

static const pst_option options[] = {
    {.type = PST_OPT_INT,
     .max = 100000,
     .name = "seed",
     .fallback = "0",
     .doc = "objects to begin with, under seed/"},
    {.type = PST_OPT_INT,
     .max = 1000,
     .name = "versions",
     .fallback = "3",
     .doc = "old versions of each key that are kept"},
    {.type = PST_OPT_INT,
     .max = INT32_MAX,
     .name = "part_max",
     .fallback = "0",
     .doc = "bytes that one request may bring, 0 for any number"},
    {.type = PST_OPT_BOOL,
     .name = "missing",
     .fallback = "false",
     .doc = "the bucket is not there until it is made"},
    {.type = PST_OPT_STRING,
     .flags = PST_OPT_SECRET,
     .name = "token",
     .doc = "kept secret and used for nothing"},
};

static const char *const schemes[] = {"mem", NULL};

static const pst_plugin plugin_table = {
    .struct_size = sizeof(plugin_table),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = CAPS,
    .threads = PST_THREADS_PARALLEL,
    .op_scratch = sizeof(struct job),
    .id = "mem",
    .version = "0.9.0",
    .vendor = "Penstock",
    .license = "Apache-2.0",
    .schemes = schemes,
    .limits = &limits,
    .options = options,
    .option_stride = sizeof(options[0]),
    .n_options = sizeof(options) / sizeof(options[0]),
    .ops = &ops,
    .store_open = mem_store_open,
    .fork_child = mem_fork_child,
    .shutdown = mem_shutdown,
};

PST_PLUGIN_ENTRY(host, plugin, err)
{
    (void)host;
    (void)err;
    *plugin = &plugin_table;
    return PST_OK;
}
