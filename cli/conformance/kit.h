/* kit.h - what the files of the conformance kit share. The picture is in kit.c.
 *
 * Names: k_ is private to the kit. A struct k_test is one requirement being checked, in a process of
 * its own; a k_host is one hostile host table; a k_store an open store behind it; a k_call one
 * operation from its first submit to the end of the test. */
#ifndef PST_KIT_H
#define PST_KIT_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <penstock/plugin.h>
#include <penstock/plugins.h>

/* ---- the table of requirements (requirements.h) -------------------------------------------------- */

enum k_profile { K_RO = 0, K_RW = 1, K_FULL = 2 };

struct k_test;
struct k_requirement {
    const char *id; /* "PST-READ-003" */
    const char *group;
    enum k_profile profile; /* the smallest that runs it */
    const char *text, *rule;
    void (*run)(struct k_test *t);
};
extern const struct k_requirement k_requirements[];
extern const size_t k_n_requirements;

/* ---- configuration ------------------------------------------------------------------------------- */

struct k_option {
    const char *name, *value; /* slices of argv made into strings */
};

struct k_config {
    const char *path;            /* of the plugin, or "static:NAME" */
    pst_plugin_open_1_fn linked; /* the entry of "static:NAME", else NULL */
    char *scheme;
    pst_str authority, prefix; /* prefix: "" or ends in '/' */
    enum k_profile profile;
    struct k_option *options;
    size_t n_options;
    uint32_t timeout_s;
    int run_id;              /* of this run, part of every key it writes */
    struct k_faults *faults; /* the server of --faults, or NULL */
};

/* ---- what a requirement's process tells the runner (report.c) ------------------------------------ */

enum k_verdict { K_PASSED, K_FAILED, K_SKIPPED };

struct k_shared { /* in memory shared by both */
    atomic_flag lock;
    atomic_uint n_failures;
    atomic_bool has_finished; /* the test function came to its end */
    atomic_bool is_skipped;
    atomic_bool has_written; /* something may lie in the store now */
    size_t used;
    char step[512];
    atomic_uint last_slot; /* of the last operation submitted, from 1; 0: none yet */
    char text[24 * 1024];  /* lines */
};

/* Say what is being done now: a crash or a hang is reported with it. */
void k_step(struct k_test *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The requirement is not met: one line, "expected ..., got ...". Any thread. */
void k_fail(struct k_test *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The store does not offer what the requirement is about. */
void k_skip(struct k_test *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Fails with the text unless `is_true`; returns it. */
bool k_that(struct k_test *t, bool is_true, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool k_failed(const struct k_test *t);
/* For the handler of SIGSEGV: no lock, no formatting. */
void k_fail_raw(struct k_shared *shared, const char *text);

const char *k_rc_name(pst_rc rc);
/* Bytes made printable, in one of eight static buffers per thread. */
const char *k_show(pst_str bytes);

/* ---- guarded memory (guard.c) -------------------------------------------------------------------- */

enum k_place { K_AT_END, K_AT_START }; /* which end of the piece touches the guard exactly */

/* A stretch of address space of which only single pieces are accessible; every piece has a guard page
 * before and behind it. Must stay where it is until it is destroyed: the fault handler looks at it. */
struct k_piece {
    const char *name;
    unsigned char *start; /* as given out */
    size_t len;
    unsigned char *pages; /* the pages it lies on */
    size_t pages_len;
};
struct k_region {
    const char *owner; /* what the pieces belong to: "stat", "host table" */
    unsigned char *base;
    size_t size, used;
    struct k_piece *pieces;
    unsigned pieces_max, slot;
    atomic_uint n_pieces;
    atomic_int state; /* 0 live, 1 read-only now, 2 buried */
};

void k_guard_install(struct k_shared *shared);
void k_region_init(struct k_region *region, const char *owner, size_t size, unsigned pieces_max);
/* `n` bytes at a multiple of `align`. NULL only if the region is full: the caller sizes it. */
void *k_region_take(struct k_region *region, const char *name, size_t n, size_t align,
                    enum k_place place);
void k_region_protect(struct k_region *region, const void *piece, int prot);
/* Is the slack that alignment leaves around the pieces untouched? *name: the piece where it is not. */
bool k_region_is_intact(const struct k_region *region, const char **name);
void k_region_freeze(struct k_region *region);  /* everything readable, nothing writable */
void k_region_bury(struct k_region *region);    /* nothing accessible, contents gone */
void k_region_destroy(struct k_region *region); /* unmaps it; nothing if it was never made */

/* ---- threads of the host (pool.c) ---------------------------------------------------------------- */

struct k_pool;
struct k_pool *k_pool_new(unsigned n_threads);
void k_pool_post(struct k_pool *pool, void (*fn)(void *), void *arg);
void k_pool_hold(struct k_pool *pool, bool is_held); /* queue, but start nothing */
size_t k_pool_waiting(struct k_pool *pool);
void k_pool_after_fork(struct k_pool *pool); /* no thread of before is there */
void k_pool_start(struct k_pool *pool);      /* all threads now, not on demand */

uint64_t k_now_ns(void);
void k_pause_ms(unsigned ms);

/* ---- the hostile host (host.c) ------------------------------------------------------------------- */

enum k_skew { K_OLDER = -1, K_SAME = 0, K_NEWER = 1 };
#define K_TAIL 64u     /* bytes by which a newer host's structs are longer */
#define K_POISON 0xa7u /* what they hold */

struct k_call;
struct k_host {
    struct k_test *test;
    enum k_skew skew;
    struct k_region region; /* of the table */
    pst_host *table;
    struct k_pool *pool, *courier;
    /* faults: set before the call they shall meet */
    atomic_int exec_busy;      /* that many exec calls during a submit answer BUSY */
    atomic_bool exec_finishes; /* exec called in a submit returns after the operation completed */
    atomic_int fail_alloc_at;  /* the n-th alloc from now returns NULL; 0: none */
    atomic_int fail_op_alloc_at;
    atomic_bool has_quarantine; /* freed memory is kept and checked */
    /* observations */
    atomic_uint n_exec, n_exec_busy, n_wakes, n_allocs, n_op_allocs, n_logs;
    atomic_long n_alloc_live, alloc_bytes_live;
    atomic_bool probe_fds; /* look at descriptors at every call from the plugin */
    atomic_uint n_outstanding;
    pst_services *services; /* made when first asked for */
    pthread_mutex_t mutex;
    pthread_cond_t wake_cond;
    struct k_call *buckets[1024];
    struct k_block *quarantine;
    struct k_call *freed_first, *freed_last; /* let go of, and still traps */
    size_t n_freed;
};

struct k_host *k_host_new(struct k_test *t, enum k_skew skew, unsigned n_threads);
/* May elements of an array that grows be so large? Only a plugin of an older minor has shorter ones. */
bool k_is_stride(const pst_plugin *plugin, size_t stride, size_t ours);
void k_host_after_fork(struct k_host *host);
/* End the services that the host offered, with every store closed: threads and descriptors are theirs. */
void k_host_end_services(struct k_host *host);
void k_host_check_quarantine(struct k_host *host);
/* Is `text` one line of clean UTF-8 without a secret? Fails the test, naming `what`. */
void k_check_text(struct k_test *t, const char *what, const char *text);
/* A descriptor that is open now and was not in `before` must be close-on-exec. */
void k_check_cloexec(struct k_host *host);

/* ---- stores (store.c) ---------------------------------------------------------------------------- */

struct k_store {
    struct k_test *test;
    struct k_host *host;
    const pst_plugin *plugin;
    const pst_backend_ops *ops;
    pst_backend *backend;
    uint64_t caps;
    pst_limits limits;
    uint32_t want_sums;
    enum { K_NOT_ASKED, K_CAN, K_CANNOT } by_cursor, by_token; /* see k_lists_by */
};

struct k_test {
    const struct k_config *config;
    const struct k_requirement *requirement;
    struct k_shared *shared;
    pst_plugin_open_1_fn entry; /* after k_load */
    struct k_host *host;        /* the default one */
    struct k_store store;       /* the default one, open when store.backend is set */
    char base[512];             /* every key written begins with it */
    size_t base_len;
    uint64_t fork_generation;
    int fds_before[256]; /* open when the test began */
    size_t n_fds_before;
    char fault_address[64]; /* what {fault} stands for in options */
    bool uses_tls;          /* ... those of the declaration that want TLS */
};

bool k_load(struct k_test *t);
/* Call the entry function; false: failed and said so. */
bool k_enter(struct k_host *host, const pst_plugin **out);
bool k_open(struct k_host *host, struct k_store *out);
/* The value of an option of the plugin, or NULL, and where it is from. */
const char *k_option_given(const struct k_test *t, const pst_option *o, uint32_t *source);
/* Open and close again while the n-th alloc() fails; *has_failed: it came to that. */
pst_rc k_open_failing(struct k_host *host, int at, bool *has_failed);
void k_close(struct k_store *s);
/* The default store with all of `caps`, opened on first use; NULL: skipped or failed. */
struct k_store *k_need(struct k_test *t, uint64_t caps);
/* The same on a host of its own. */
struct k_store *k_need_on(struct k_test *t, struct k_host *host, uint64_t caps,
                          struct k_store *out);
const char *k_cap_name(uint64_t cap);
/* Remove everything below the run's prefix. */
void k_sweep(struct k_test *t);

/* ---- operations (call.c) ------------------------------------------------------------------------- */

/* What a requirement needs at least, for the arguments of k_need. */
#define K_READS (PST_CAP_READ | PST_CAP_LIST)
#define K_WRITES (PST_CAP_READ | PST_CAP_STAT | PST_CAP_LIST)

enum k_slot {
    K_READ,
    K_STAT,
    K_PUT,
    K_APPEND,
    K_COPY,
    K_RENAME,
    K_REMOVE,
    K_LIST,
    K_LIST_OPEN,
    K_LIST_PAGE,
    K_UPLOAD_OPEN,
    K_UPLOAD_PART,
    K_UPLOAD_COMMIT,
    K_UPLOAD_ABORT,
    K_CONTAINER_CREATE,
    K_CONTAINER_DELETE,
    K_CONTAINER_LIST,
    K_PRESIGN,
    K_CLEANUP,
    K_N_SLOTS
};

union k_args {
    pst_read_args read;
    pst_stat_args stat;
    pst_put_args put;
    pst_copy_args copy;
    pst_remove_args remove;
    pst_list_args list;
    pst_page_args page;
    pst_part_args part;
    pst_commit_args commit;
    pst_abort_args abort;
    pst_container_args container;
    pst_presign_args presign;
    pst_cleanup_args cleanup;
};
union k_result {
    uint32_t struct_size;
    pst_result plain;
    pst_read_result read;
    pst_attr attr;
    pst_put_result put;
    pst_remove_result remove;
    pst_list_result list;
    pst_cursor_result cursor;
    pst_upload_result upload;
    pst_presign_result presign;
    pst_cleanup_result cleanup;
};

struct k_entries {
    pst_entry *all; /* every string is a copy */
    size_t n, cap;
};

enum { K_IDLE, K_SUBMITTING, K_PENDING, K_DONE };

#define K_SPANS_MAX 64
#define K_HEAPS 3 /* op_alloc memory: each larger than the one before, made when needed */
#define K_ERROR_STRIDE (sizeof(pst_error) + 32) /* a longer pst_error than ours, with poison */
#define K_NOT_ANSWERED 1000 /* k_call_run: it never completed, and that has been reported */

struct k_copy {
    struct k_copy *next;
    char data[];
};

struct k_call {
    struct k_store *store;
    struct k_host *host;
    enum k_slot slot;
    void *object;    /* backend, upload or cursor */
    union k_args in; /* the test fills it, pointers into its own memory */
    /* how the host behaves towards this call */
    uint32_t attempt;
    uint64_t deadline_ns;
    bool keep;          /* op and args stay accessible after completion, until k_call_bury */
    unsigned dst_later; /* dst answers LATER that often first */
    bool give_errors;   /* remove: room for an error of each key, at K_ERROR_STRIDE */
    bool dst_manual;    /* after LATER the test sends dst_ready itself */
    pst_rc dst_refuse;  /* dst answers this (after the LATERs); 0: grants */
    size_t dst_span;    /* grant in spans of about that many bytes; 0: one span */
    enum k_place place; /* where grants and destinations touch their guard */
    size_t emit_limit;  /* list_emit accepts that many entries ... */
    pst_rc emit_error;  /* ... and then answers this; 0: accepts all */
    void (*on_complete)(struct k_call *,
                        void *); /* on the plugin's thread, before complete returns */
    void *on_complete_arg;
    /* guarded memory: the operation, its destination, its result's strings */
    struct k_region region, data, heaps[K_HEAPS];
    pst_op *op;
    void *args, *result;
    pst_error *err;
    pst_rc *statuses;
    unsigned char *errors; /* copies, at K_ERROR_STRIDE; NULL if not given */
    size_t args_len, result_len, err_len, op_len;
    pst_iov spans[K_SPANS_MAX]; /* where the bytes read are */
    size_t n_spans;
    uint64_t granted;
    unsigned n_grants, n_dst_calls;
    unsigned char *snapshot; /* the destination at completion */
    size_t snapshot_len;
    pst_dst_args dst_seen; /* what the plugin told dst */
    char dst_etag[1200];
    /* outcome */
    atomic_int state;
    bool is_finished;      /* under mutex: rc and what follows it are there */
    atomic_bool is_parked; /* LATER was answered and dst_ready not sent yet */
    bool was_pending, said_busy, exec_said_busy, hung;
    unsigned n_busy;
    pst_rc rc;
    pst_error error;     /* copy */
    union k_result out;  /* copy; its strings are copies too */
    union k_result live; /* as the plugin left it, pointing into its memory */
    struct k_entries entries;
    uint64_t started_ns, finished_ns;
    struct k_copy *copies;
    struct k_call *next_freed;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct k_call *next_in_bucket;
};

struct k_call *k_call_new(struct k_store *s, enum k_slot slot, void *object);
/* Memory for `n` bytes read, in spans of about `span` bytes (0: one), as early destination. */
void k_call_dst(struct k_call *c, size_t n, size_t span, enum k_place place);
/* Submit; BUSY is retried as a host does. Returns PST_OK or an error (inline), or PST_PENDING. */
pst_rc k_call_submit(struct k_call *c);
/* One submit without retry: may return PST_BUSY. */
pst_rc k_call_submit_once(struct k_call *c);
bool k_call_wait(struct k_call *c, unsigned timeout_ms); /* false: not yet */
bool k_call_finish(struct k_call *c); /* wait as long as anything may take; false: reported hung */
pst_rc k_call_run(struct k_call *c);
void k_call_cancel(struct k_call *c);
void k_call_ready(struct k_call *c); /* dst_ready */
void k_call_bury(struct k_call *c);
/* Check that nothing wrote to the destination since completion, and let go of the memory. */
void k_call_free(struct k_call *c);
/* Was the outcome `rc`? Fails the test otherwise, naming `what`. */
bool k_want(struct k_call *c, pst_rc rc, const char *what);
const char *k_slot_name(enum k_slot slot);
bool k_has_slot(const struct k_store *s, enum k_slot slot);
unsigned char *k_call_bytes(struct k_call *c, uint64_t *n); /* what was read, gathered; free() */

/* Between the files that make a call (place.c, dst.c, call.c) and host.c. */
void k_place_all(struct k_call *c);
void k_call_register(struct k_call *c);
size_t k_result_size(const struct k_call *c); /* as this host's minor has it */
void *k_dup_array(const void *array, size_t n, size_t size);
struct k_call *k_call_find(struct k_host *host, const pst_op *op);
void k_call_completed(struct k_call *c, pst_rc rc);
pst_rc k_call_grant(struct k_call *c, const pst_dst_args *args, pst_dst_grant *grant);
void *k_call_op_alloc(struct k_call *c, size_t size);
pst_rc k_call_emit(struct k_call *c, const pst_entry *entries, size_t n, size_t stride);
extern _Thread_local struct k_call *k_submitting;

/* ---- the file itself (elf.c) --------------------------------------------------------------------- */

struct k_elf {
    const unsigned char *map;
    size_t len;
    char error[256]; /* not empty: not a shared object that can be read */
    const char **exports, **undefined, **needed;
    size_t n_exports, n_undefined, n_needed;
    uint64_t flags, tls_bytes;
    bool has_textrel, has_exec_stack, has_stack_header, has_writable_code;
};
bool k_elf_read(const char *path, struct k_elf *out);
void k_elf_fini(struct k_elf *elf);

/* ---- the command line (arguments.c) ------------------------------------------------------------- */

struct json_t;
struct k_run { /* the command line */
    struct k_config config;
    const char *uri, *json_path, *junit_path, *quirks_path, *faults_path;
    const char **only;
    char *path; /* the plugin's, resolved */
    size_t n_only;
    struct json_t *quirks;
    int (*shortcut)(void); /* --list and the like: print and stop */
};

#define K_STATIC_MAX 16
extern struct k_static {
    const char *name;
    pst_plugin_open_1_fn entry;
} k_static[K_STATIC_MAX]; /* plugins that are linked in */
extern size_t k_n_static;

/* Say what is wrong with the command line, on stderr; returns 2. */
int k_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
int k_parse_arguments(struct k_run *run, int argc, char **argv); /* 0, or the exit code */
int k_place_run(struct k_run *run); /* where it works, 0 or the exit code */
void k_run_fini(struct k_run *run);

/* ---- output (output.c) --------------------------------------------------------------------------- */

struct k_outcome {
    const struct k_requirement *requirement;
    enum k_verdict verdict;
    const char *quirk; /* the declared reason, or NULL */
    char *details;     /* lines; "" if none */
    double seconds;
};
void k_print_markdown(void);
void k_print_list(void);
void k_print_tap(size_t number, const struct k_outcome *o);
bool k_write_json(const char *path, const struct k_config *config, const struct k_outcome *all,
                  size_t n);
bool k_write_junit(const char *path, const struct k_config *config, const struct k_outcome *all,
                   size_t n);

#include "fixture.h"

#endif
