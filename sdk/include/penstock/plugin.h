/* plugin.h - all that a storage plugin needs. C11, also C++11. The long form is docs/abi.md.
 *
 * A plugin is one shared object with one exported symbol, pst_plugin_open_1. It receives a table of
 * host functions and returns a table of its own. It links nothing of Penstock. To write blocking
 * functions instead of the asynchronous ones below, include <penstock/sync.h>. */
#ifndef PENSTOCK_PLUGIN_H
#define PENSTOCK_PLUGIN_H

#include <penstock/base.h>
#include <penstock/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A host takes a plugin of its own major with any minor from PST_ABI_MINOR_OLDEST up, newer than
 * itself included. */
#define PST_ABI_MAJOR 1u
#define PST_ABI_MINOR 0u
#define PST_ABI_MINOR_OLDEST 0u

/* What a submit function answers beside the errors of status.h. */
#define PST_PENDING 1 /* accepted: complete() will be called exactly once, perhaps already was */
#define PST_BUSY 2    /* untouched: the host submits it again after wake() */
#define PST_LATER 3   /* dst() only: no memory yet, dst_ready() follows exactly once */

typedef struct pst_host pst_host;
typedef struct pst_backend pst_backend; /* yours: an open store */
typedef struct pst_upload pst_upload;   /* yours: an object being written in parts */
typedef struct pst_cursor pst_cursor;   /* yours: a listing under way */

/* Out, in the flags of a conditional write that fails with PST_ERR_MAYBE_APPLIED: you have looked, and another
 * attempt will know this one's work when it meets it, so it may be made. The attempts that follow find the
 * flag set. */
#define PST_OP_REPEATABLE 1u

/* One attempt of one operation. Valid until it has completed and every cancel of it returned. */
typedef struct pst_op {
    uint32_t struct_size, flags;
    uint64_t id;                    /* for logs; unique in the process */
    uint64_t deadline_ns;           /* CLOCK_MONOTONIC, 0 for none; the host enforces it */
    uint32_t attempt, max_attempts; /* from 1 */
    uint32_t affinity;              /* rank or shard, to choose among endpoints */
    uint32_t last_endpoint; /* in: index used by the attempt before; out: the one used now */
    const pst_host *host;   /* complete through THIS host: one process may hold two */
    void *scratch;          /* op_scratch bytes, 16-aligned, zeroed before every submit; yours */
    pst_error *err;         /* fill it before you complete with an error; never NULL */
    void *host_private;
} pst_op;

/* ---- operations: f(backend or upload or cursor, op, args, result) ---------------------------- */

typedef struct pst_result { /* of operations that return nothing but their status */
    uint32_t struct_size, flags;
} pst_result;

/* Read at most `length` bytes at `offset`. The bytes go to `dst` when n_dst > 0 (its lengths add up
 * to `length`), else ask host->dst once the object's size is known. Reading at or beyond the end
 * gives OK with 0 bytes, on an empty object too; no destination is asked for then. */
#define PST_READ_SUFFIX 1u /* `offset` is ignored: the last `length` bytes (PST_CAP_READ_SUFFIX) */
/* The caller compares checksums: supply those you can have cheaply. A sum of length 0 and scope RANGE says
 * that there are some of parts, which stat tells. */
#define PST_READ_SUMS 2u
typedef struct pst_read_args {
    uint32_t struct_size, flags;
    uint64_t offset, length;
    pst_str key, version, if_match;
    const pst_iov *dst;
    size_t n_dst;
} pst_read_args;
typedef struct pst_read_result {
    uint32_t struct_size, flags;
    uint64_t n_read;        /* less than asked for only at the end of the object */
    uint64_t object_size;   /* PST_UNKNOWN if the store did not say */
    uint32_t etag_strength; /* of the content these bytes belong to */
    uint32_t n_sums;
    const pst_sum *sums; /* as the store supplied them, never computed by you */
    size_t sum_stride;
    pst_str etag, version;
} pst_read_result;

/* With SUMS the caller compares checksums: tell the object's, and where that is no plain sum of its
 * bytes, those of its parts, with scope RANGE. */
#define PST_STAT_SUMS 1u
typedef struct pst_stat_args {
    uint32_t struct_size, flags;
    pst_str key, version;
} pst_stat_args;

#define PST_PUT_CREATE_ONLY 1u /* fail with EXISTS when the key is there */
typedef struct pst_put_args {  /* also opens an upload: then src is empty and the sums come later */
    uint32_t struct_size, flags;
    uint64_t size_hint; /* upload: expected size or PST_UNKNOWN */
    pst_str key, if_match;
    const pst_iov *src;
    size_t n_src;
    const pst_attr *attr; /* never NULL */
    const pst_sum *sums;  /* over all of src: verify or hand on */
    size_t sum_stride;
    void *reserved1;
    uint32_t n_sums, reserved0;
} pst_put_args;
typedef struct pst_put_result { /* of put, copy and upload_commit */
    uint32_t struct_size, etag_strength;
    uint64_t size; /* bytes now stored, PST_UNKNOWN if the reply did not say */
    pst_str etag, version;
} pst_put_result;

#define PST_COPY_REPLACE_ATTR 2u /* take `attr`; without it the source's attributes are kept */
typedef struct pst_copy_args {   /* copy and rename; PST_PUT_CREATE_ONLY applies to `to` */
    uint32_t struct_size, flags;
    pst_str from, from_version, from_if_match, to, if_match;
    const pst_attr *attr;
    void *reserved0;
    pst_str from_authority; /* PST_CAP_COPY_ACROSS: another container; empty: this store's */
} pst_copy_args;

typedef struct pst_remove_args {
    uint32_t struct_size, flags;
    const pst_str *keys;
    size_t n_keys;
    const pst_str *versions; /* NULL or one per key */
    void *reserved0;
    pst_str if_match; /* one key only */
} pst_remove_args;
typedef struct pst_remove_result { /* a missing key is OK: what was asked for is so */
    uint32_t struct_size, flags;
    pst_rc *status;      /* one per key, set by the host to INTERNAL: fill every one */
    pst_error *errors;   /* NULL or one per key */
    size_t error_stride; /* bytes from one error to the next */
    void *reserved0;
} pst_remove_result;

#define PST_LIST_RECURSIVE 1u  /* no delimiter: every object below the prefix */
#define PST_LIST_UNORDERED 2u  /* the caller does without order: send what is quick */
#define PST_LIST_EMPTY_DIRS 4u /* with RECURSIVE: also directories without an entry, as PREFIX */
#define PST_LIST_VERSIONS 16u  /* PST_CAP_VERSIONS: old versions and delete markers as well */
/* The delimiter is '/' unless RECURSIVE. max_entries 0: as many to a page as you like. Only
 * keys above start_after; a PREFIX that has such keys below it may come with them. */
typedef struct pst_list_args {
    uint32_t struct_size, flags;
    pst_str prefix, start_after, page_token; /* page_token: `list` only, empty at first */
    uint32_t max_entries, reserved0;
} pst_list_args;
typedef struct pst_list_result {
    uint32_t struct_size, flags;
    pst_str next_token; /* `list`: empty on the last page */
} pst_list_result;
#define PST_PAGE_LAST 1u /* flag of the result of `list_page`: nothing follows */
typedef struct pst_cursor_result {
    uint32_t struct_size, flags;
    pst_cursor *cursor;
    void *reserved0;
} pst_cursor_result;
typedef struct pst_page_args {
    uint32_t struct_size, max_entries;
} pst_page_args;

typedef struct pst_upload_result {
    uint32_t struct_size, flags;
    pst_upload *upload;
    void *reserved0;
} pst_upload_result;
typedef struct pst_part_args {
    uint32_t struct_size, flags;
    uint64_t offset; /* of this part in the object */
    uint32_t number; /* from 0 */
    uint32_t n_sums;
    const pst_iov *src;
    size_t n_src;
    const pst_sum *sums; /* over src */
    size_t sum_stride;
} pst_part_args;
typedef struct pst_commit_args {
    uint32_t struct_size, flags;
    uint64_t size; /* of the object: refuse to publish any other */
    uint32_t n_parts, n_sums;
    const pst_sum *sums; /* over the whole object */
    size_t sum_stride;
} pst_commit_args;
typedef struct pst_abort_args {
    uint32_t struct_size, flags;
} pst_abort_args;

typedef struct pst_container_args { /* name: empty is the authority itself; file://: a directory */
    uint32_t struct_size, flags;
    pst_str name;
} pst_container_args;
typedef struct pst_presign_args {
    uint32_t struct_size, flags;
    uint64_t expires_s;
    pst_str key, method;
} pst_presign_args;
typedef struct pst_presign_result {
    uint32_t struct_size, flags;
    pst_str url;
} pst_presign_result;
#define PST_CLEANUP_DRY_RUN 1u
typedef struct pst_cleanup_args { /* remove what dead writers left below `prefix` */
    uint32_t struct_size, flags;
    uint64_t older_than_s;
    pst_str prefix;
} pst_cleanup_args;
typedef struct pst_cleanup_result {
    uint32_t struct_size, flags;
    uint64_t n_removed, n_bytes; /* each is also list_emit()ted */
} pst_cleanup_result;

/* ---- what the host offers: thread-safe, never blocks, never calls back into the plugin --------- */

#define PST_DST_MORE 1u /* the length was unknown and the last grant is full: one more */
typedef struct pst_dst_args {
    uint32_t struct_size, flags;
    uint64_t length;      /* bytes that will be delivered, PST_UNKNOWN if the store did not say */
    uint64_t capacity;    /* memory needed: length, rounded up to io_align where you need it */
    uint64_t object_size; /* PST_UNKNOWN if not known */
    uint32_t etag_strength, reserved0;
    pst_str etag;
} pst_dst_args;
typedef struct pst_dst_grant { /* spans in host memory, aligned to mem_align */
    uint32_t struct_size, flags;
    uint64_t capacity;
    const pst_iov *dst; /* valid until the operation completes */
    size_t n_dst;
} pst_dst_grant;

#define PST_POOL_BLOCKING 0u /* may wait for I/O */
#define PST_POOL_CPU 1u      /* must not wait for anything */

#define PST_LOG_ERROR 0u
#define PST_LOG_WARN 1u
#define PST_LOG_INFO 2u
#define PST_LOG_DEBUG 3u

struct pst_host {
    uint32_t struct_size;
    uint16_t abi_major, abi_minor;
    /* End a PENDING operation, once. Last thing your thread does with op and backend; hold no lock. */
    void (*complete)(const pst_host *, pst_op *, pst_rc);
    /* Your own limit that made you answer BUSY is gone. */
    void (*wake)(const pst_host *, pst_backend *);
    /* Ask where a read goes. OK: granted, once per attempt. LATER: stop receiving, give your thread
     * back, ask again after dst_ready. Else: complete with that error. */
    pst_rc (*dst)(const pst_host *, pst_op *, const pst_dst_args *, pst_dst_grant *);
    /* Hand over entries of a list, list_page or cleanup; copied. stride = sizeof(pst_entry). */
    pst_rc (*list_emit)(const pst_host *, pst_op *, const pst_entry *, size_t n, size_t stride);
    /* Memory that lives as long as the operation's result: put result strings here. NULL if none.
     * 16-aligned. Call it from one thread at a time. */
    void *(*op_alloc)(const pst_host *, pst_op *, size_t size);
    /* Memory of your own. align: a power of two. */
    void *(*alloc)(const pst_host *, size_t size, size_t align);
    void (*dealloc)(const pst_host *, void *);
    /* Run fn(arg) on a host thread for `op` (NULL: for none). OK, or BUSY while submitting (the host
     * sends the wake), or an error. */
    pst_rc (*exec)(const pst_host *, pst_op *, uint32_t pool, void (*fn)(void *), void *arg);
    /* One line, no secrets. log_enabled() tells whether formatting it is worth the while. */
    void (*log)(const pst_host *, uint32_t level, const char *plugin_id, const char *utf8);
    int32_t (*log_enabled)(const pst_host *, uint32_t level);
    /* Optional services by "name/major"; NULL where the host has none of that name. */
    const void *(*service)(const pst_host *, const char *name);
    void *host_private;
};

/* ---- what a plugin offers ---------------------------------------------------------------------- */

#define PST_CAP_READ (1ull << 0)
#define PST_CAP_READ_SUFFIX (1ull << 1)
#define PST_CAP_STAT (1ull << 2)
#define PST_CAP_PUT (1ull << 3)
#define PST_CAP_UPLOAD (1ull << 4)
#define PST_CAP_UPLOAD_UNORDERED (1ull << 5) /* parts in any order and side by side */
#define PST_CAP_REMOVE (1ull << 6)
#define PST_CAP_LIST (1ull << 7)
#define PST_CAP_LIST_ORDERED (1ull << 8) /* key byte order, so start_after works */
#define PST_CAP_COPY (1ull << 9)
#define PST_CAP_RENAME (1ull << 10)
#define PST_CAP_CONTAINER (1ull << 11)
#define PST_CAP_PRESIGN (1ull << 12)
#define PST_CAP_CLEANUP (1ull << 13)
#define PST_CAP_READ_IF_MATCH (1ull << 14)
#define PST_CAP_WRITE_IF_MATCH (1ull << 15)
#define PST_CAP_CREATE_ONLY (1ull << 16)
#define PST_CAP_USER_META (1ull << 17)
#define PST_CAP_CONTENT_TYPE (1ull << 18)
#define PST_CAP_CANCEL_BOUNDED (1ull << 19) /* cancel completes the operation within 500 ms */
#define PST_CAP_EMPTY_DIRS (1ull << 20)
#define PST_CAP_APPEND (1ull << 21)
#define PST_CAP_COPY_ACROSS (1ull << 22)        /* from another container */
#define PST_CAP_UPLOAD_CONDITIONAL (1ull << 23) /* create-only and if_match hold for uploads too */
#define PST_CAP_VERSIONS (1ull << 24)           /* reads, removes and lists old versions */
#define PST_CAP_TAGS (1ull << 25)

#define PST_LIMIT_PARTS_UNIFORM 1u /* all parts but the last must be equally long */
typedef struct pst_limits {        /* 0 is "no limit" unless said otherwise */
    uint32_t struct_size, flags;
    uint64_t object_max;
    uint64_t part_min, part_max, part_multiple;
    uint64_t io_preferred; /* good size of one read or part; 0: the host chooses */
    uint32_t parts_max, list_page_max, remove_batch_max, inflight_max;
    uint32_t key_max, user_meta_max; /* bytes */
    uint32_t mem_align, io_align;    /* of addresses; of offsets and lengths. 0 or 1: any */
} pst_limits;

typedef struct pst_backend_info { /* of the OPEN store: a subset of what the plugin declares */
    uint32_t struct_size, flags;
    uint64_t caps;
    pst_limits *limits;   /* host storage: fill it */
    const char *endpoint; /* "host:port", "" if there is none; lives as long as the backend */
    const char *note;     /* fallbacks chosen so far, one line, "" if none; lives as long */
    void *reserved1;
    uint32_t want_sums; /* 1 << PST_SUM_*: sums the host shall send with put, part and commit */
    uint32_t reserved0;
} pst_backend_info;

/* NULL slots answer UNIMPLEMENTED. Submit functions never block and never call user code. */
typedef struct pst_backend_ops {
    uint32_t struct_size, reserved0;
    pst_rc (*read)(pst_backend *, pst_op *, const pst_read_args *, pst_read_result *);
    pst_rc (*stat)(pst_backend *, pst_op *, const pst_stat_args *, pst_attr *);
    pst_rc (*put)(pst_backend *, pst_op *, const pst_put_args *, pst_put_result *);
    pst_rc (*append)(pst_backend *, pst_op *, const pst_put_args *, pst_put_result *);
    pst_rc (*copy)(pst_backend *, pst_op *, const pst_copy_args *, pst_put_result *);
    pst_rc (*rename)(pst_backend *, pst_op *, const pst_copy_args *, pst_put_result *);
    pst_rc (*remove)(pst_backend *, pst_op *, const pst_remove_args *, pst_remove_result *);
    /* Either a page by token, or a cursor. A failed page may be asked for again. */
    pst_rc (*list)(pst_backend *, pst_op *, const pst_list_args *, pst_list_result *);
    pst_rc (*list_open)(pst_backend *, pst_op *, const pst_list_args *, pst_cursor_result *);
    pst_rc (*list_page)(pst_cursor *, pst_op *, const pst_page_args *, pst_list_result *);
    void (*list_close)(pst_cursor *); /* with no page outstanding; once */
    /* Parts carry absolute offsets. Commit and abort may be repeated and never free the upload. */
    pst_rc (*upload_open)(pst_backend *, pst_op *, const pst_put_args *, pst_upload_result *);
    pst_rc (*upload_part)(pst_upload *, pst_op *, const pst_part_args *, pst_result *);
    pst_rc (*upload_commit)(pst_upload *, pst_op *, const pst_commit_args *, pst_put_result *);
    pst_rc (*upload_abort)(pst_upload *, pst_op *, const pst_abort_args *, pst_result *);
    void (*upload_free)(pst_upload *); /* with nothing outstanding on it; once */
    pst_rc (*container_create)(pst_backend *, pst_op *, const pst_container_args *, pst_result *);
    pst_rc (*container_delete)(pst_backend *, pst_op *, const pst_container_args *, pst_result *);
    pst_rc (*container_list)(pst_backend *, pst_op *, const pst_list_args *, pst_list_result *);
    pst_rc (*presign)(pst_backend *, pst_op *, const pst_presign_args *, pst_presign_result *);
    pst_rc (*cleanup)(pst_backend *, pst_op *, const pst_cleanup_args *, pst_cleanup_result *);
    void (*dst_ready)(pst_backend *, pst_op *); /* after LATER, once, the host holds no lock */
    void (*flush)(pst_backend *);               /* the end of a batch of submits */
    /* Hurry: the completion still comes, once. May run beside or after complete(): then a no-op. */
    void (*cancel)(pst_backend *, pst_op *);
    void (*info)(pst_backend *, pst_backend_info *);
    void (*close)(pst_backend *); /* once, with nothing outstanding and no call on any stack */
} pst_backend_ops;

#define PST_OPT_STRING 1u
#define PST_OPT_BOOL 2u     /* true false yes no on off 1 0; you receive "1" or "0" */
#define PST_OPT_INT 3u      /* decimal, within min..max */
#define PST_OPT_SIZE 4u     /* "8MiB"; you receive bytes in decimal */
#define PST_OPT_DURATION 5u /* "500ms" "30s" "5m"; you receive milliseconds in decimal */
#define PST_OPT_ENUM 6u     /* one of `choices`, which are separated by '|' */
#define PST_OPT_PATH 7u
#define PST_OPT_SECRET 1u     /* flag: never shown, wiped after use */
#define PST_OPT_DEPRECATED 2u /* flag: its use is logged */
typedef struct pst_option {   /* grows at its end: arrays of it carry a stride */
    uint32_t type, flags;
    int64_t min, max;            /* numbers; min == max: unbounded */
    const char *name, *fallback; /* fallback NULL: not passed unless it is set */
    const char *doc, *env;       /* env: names separated by spaces, the first that is set wins */
    const char *choices;
    void *reserved0;
} pst_option;

typedef struct pst_open_args {
    uint32_t struct_size, flags;
    uint64_t fork_generation;
    pst_str scheme, authority;
    const pst_kv *options; /* declared, validated and resolved by the host; valid during the call */
    size_t n_options;
    const uint32_t
        *option_sources; /* PST_SOURCE_*, one per option: keys that are given in two parts,
                                     * one by the application and one by its environment, differ */
    void *reserved0;
} pst_open_args;

#define PST_THREADS_SERIAL 1u   /* at most one operation outstanding per store */
#define PST_THREADS_PARALLEL 2u /* any call from any thread, side by side */

typedef struct pst_plugin {
    uint32_t struct_size;
    uint16_t abi_major, abi_minor;
    uint64_t caps; /* upper bound of what a store may offer */
    uint32_t threads, op_scratch;
    const char *id, *version, *vendor, *license; /* id: "file", "acme.tape" */
    const char *const *schemes;                  /* lower case, NULL at the end */
    const pst_limits *limits;                    /* upper bounds */
    const pst_option *options;
    size_t option_stride;
    size_t n_options;
    const pst_backend_ops *ops;
    /* Make a store ready without network I/O. */
    pst_rc (*store_open)(const pst_host *, const pst_open_args *, pst_backend **, pst_error *);
    void (*fork_child)(const pst_host *); /* NULL allowed; in the child, idempotent */
    void (*shutdown)(const pst_host *);   /* NULL allowed; on explicit shutdown of that host only */
    const void *(*query)(const pst_host *, const char *name); /* NULL allowed; "vendor-thing/1" */
} pst_plugin;

typedef pst_rc (*pst_plugin_open_1_fn)(const pst_host *, const pst_plugin **, pst_error *);

/* Open the function that every plugin ends with:
 *     PST_PLUGIN_ENTRY(host, plugin, err) { *plugin = &my_plugin; return PST_OK; }
 * -DPST_STATIC_PLUGIN=name renames it for linking into the host. */
#if defined(PST_STATIC_PLUGIN)
#define PST_CAT_(a, b) a##b
#define PST_CAT(a, b) PST_CAT_(a, b)
#define PST_PLUGIN_SYMBOL PST_CAT(pst_plugin_open_1_, PST_STATIC_PLUGIN)
pst_rc PST_PLUGIN_SYMBOL(const pst_host *, const pst_plugin **, pst_error *);
#else
#define PST_PLUGIN_SYMBOL pst_plugin_open_1
PST_EXPORT pst_rc pst_plugin_open_1(const pst_host *, const pst_plugin **, pst_error *);
#endif
#define PST_PLUGIN_ENTRY(host, plugin, err)                                                        \
    pst_rc PST_PLUGIN_SYMBOL(const pst_host *host, const pst_plugin **plugin, pst_error *err)

#ifdef __cplusplus
}
#endif
#endif
