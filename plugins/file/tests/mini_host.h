/* mini_host.h - the smallest host that can drive a plugin: enough for its tests, nothing of libpenstock.
 *
 * Memory is counted and can be made to fail, exec runs jobs inline or on a thread each, reads get their
 * memory early, late, or after one PST_LATER. Every call below submits one operation, waits for its
 * completion and returns its status; the error is in host->err. */
#ifndef MINI_HOST_H
#define MINI_HOST_H

#include <pthread.h>

#include <penstock/plugin.h>

/* What the program that links this host tests: its scheme and what its stores are opened with. */
extern const char *const mini_scheme;
extern const char *const mini_options[]; /* "name=value", NULL at the end */

enum mini_dst { MINI_DST_GRANT, MINI_DST_LATER, MINI_DST_EARLY };

struct mini_host {
    pst_host host; /* first */
    const pst_plugin *plugin;
    pst_backend *store;
    int is_threaded; /* exec starts a thread for each job */
    enum mini_dst dst;
    size_t span_bytes;      /* destinations are cut into spans of this size; 0: one span */
    void (*on_dst)(void *); /* called when a read asks for memory, the file being open */
    void *on_dst_arg;
    int64_t fail_after; /* allocations until one fails; -1: none */
    int has_failed;
    int64_t n_blocks; /* alive */
    int n_later;      /* PST_LATER answered */
    int fail_emits;   /* so many list_emit calls fail */
    int cancel_at_emit, cancel_at_dst;
    pst_error err; /* of the last operation that this thread waited for */
    int n_logs;
    char log[256]; /* the last line */
    pthread_mutex_t mutex;
};

/* One operation; `result` texts live until it is ended. */
struct mini_op {
    pst_op op; /* first */
    struct mini_host *mini;
    pst_error err;
    void *blocks; /* op_alloc */
    pthread_mutex_t mutex;
    pthread_cond_t done;
    int n_completed, is_parked;
    pst_rc rc;
    char *dst; /* granted memory */
    size_t dst_len;
    pst_iov *spans;
    pst_entry *entries;
    size_t n_entries, capacity;
    _Alignas(16) char scratch[256];
};

/* What is kept of a listing. */
struct mini_list {
    pst_entry *entries;
    size_t n;
    struct mini_op **ops; /* hold the texts */
    size_t n_ops;
};

/* Start a host and open a store. `options`: "name=value" strings, NULL at the end. */
pst_rc mini_open(struct mini_host *mini, const char *const *options);
void mini_close(struct mini_host *mini); /* fails the test if memory was leaked */

void mini_op_init(struct mini_host *mini, struct mini_op *op);
pst_rc mini_op_wait(struct mini_op *op, pst_rc submitted);
void mini_op_fini(struct mini_op *op);

/* Cut `len` bytes at `bytes` into spans of span_bytes (0: one); free() the array. */
pst_iov *mini_spans(char *bytes, size_t len, size_t span_bytes, size_t *n);

pst_rc mini_put(struct mini_host *mini, pst_str key, const void *bytes, size_t len, uint32_t flags,
                pst_str if_match, const pst_attr *attr, char *etag);
pst_rc mini_put_sum(struct mini_host *mini, pst_str key, const void *bytes, size_t len,
                    const pst_sum *sum);
/* *bytes is malloc'ed; *n_read and `etag` (128 bytes) may be NULL. */
pst_rc mini_read(struct mini_host *mini, pst_str key, uint64_t offset, uint64_t length,
                 uint32_t flags, pst_str if_match, char **bytes, size_t *n_read, char *etag);
/* The attributes live in `op` until mini_op_fini. */
pst_rc mini_stat(struct mini_host *mini, pst_str key, struct mini_op *op, pst_attr *attr);
pst_rc mini_etag(struct mini_host *mini, pst_str key, char *etag);
pst_rc mini_remove(struct mini_host *mini, pst_str key, pst_str if_match);
pst_rc mini_copy(struct mini_host *mini, pst_str from, pst_str to, uint32_t flags,
                 pst_str from_if_match, pst_str if_match, const pst_attr *attr);
pst_rc mini_rename(struct mini_host *mini, pst_str from, pst_str to, uint32_t flags,
                   pst_str if_match);
pst_rc mini_container(struct mini_host *mini, pst_str name, int is_create);
pst_rc mini_cleanup(struct mini_host *mini, pst_str prefix, uint64_t older_than_s, uint32_t flags,
                    uint64_t *n_removed, uint64_t *n_bytes);

pst_rc mini_upload_open(struct mini_host *mini, pst_str key, uint32_t flags, pst_str if_match,
                        pst_upload **upload);
pst_rc mini_part(struct mini_host *mini, pst_upload *upload, uint32_t number, uint64_t offset,
                 const void *bytes, size_t len);
pst_rc mini_commit(struct mini_host *mini, pst_upload *upload, uint64_t size, uint32_t n_parts,
                   char *etag);
pst_rc mini_abort(struct mini_host *mini, pst_upload *upload);
void mini_upload_free(struct mini_host *mini, pst_upload *upload);

pst_rc mini_list(struct mini_host *mini, pst_str prefix, pst_str start_after, uint32_t flags,
                 uint32_t page_entries, struct mini_list *out);
void mini_list_free(struct mini_list *list);

/* What most tests start from: a store whose root is an empty directory. For cmocka. */
struct mini_fixture {
    struct mini_host mini;
    char *dir;
};
int mini_setup(void **state);
int mini_setup_with(void **state, const char *option); /* one more option, "name=value" */
int mini_teardown(void **state);

/* The user "nobody" in a child: run fn(arg) there and return what it returns (0..100). */
int mini_run_child(int (*fn)(void *), void *arg, int as_nobody);

/* From now on this process's system call `number` fails with `sys_errno`, for good. 0, or -1. */
int mini_forbid(long number, int sys_errno);

/* Files and directories for tests. */
char *mini_temp_dir(void); /* made by mkdtemp; free with mini_remove_tree */
void mini_remove_tree(char *dir);
void mini_write_file(const char *dir, const char *name, const char *text);
char *mini_read_file(const char *dir,
                     const char *name);             /* malloc'ed, NUL-terminated; NULL if none */
char *mini_path(const char *dir, const char *name); /* malloc'ed */
int mini_count_names(const char *dir);              /* entries of one directory */
/* Wait until the kernel's clock has moved on from the last change of a file: two changes within one
 * tick look alike on kernels before 6.13. */
void mini_pass_tick(const char *dir, const char *name);
pst_str mini_str(const char *text);

#endif
