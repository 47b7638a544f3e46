/* mutant.h - between the frame of the mutants (frame.c) and what is wrong with each (before.c, after.c,
 * net.c). */
#ifndef PST_MUTANT_H
#define PST_MUTANT_H

#include <penstock/services.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define MUTANT_IS_build(name)
#define MUTANT_IS_file(name) M_##name,
#define MUTANT_IS_mem(name) M_##name,
#define MUTANT_IS_s3(name) M_##name,
enum mutant {
    M_none,
#define X(name, base, killers) MUTANT_IS_##base(name)
#include "mutants.def"
#undef X
};

extern enum mutant mutant;

enum slot {
    READ,
    STAT,
    PUT,
    APPEND,
    COPY,
    RENAME,
    REMOVE,
    LIST,
    LIST_OPEN,
    LIST_PAGE,
    UPLOAD_OPEN,
    UPLOAD_PART,
    UPLOAD_COMMIT,
    UPLOAD_ABORT,
    CONTAINER_CREATE,
    CONTAINER_DELETE,
    CONTAINER_LIST,
    PRESIGN,
    CLEANUP
};

/* A host as the plugin underneath sees it. */
struct shim {
    pst_host table;
    const pst_host *real;
};

/* What is known about an operation; lies behind the plugin's own scratch. */
struct call {
    struct shim *shim;
    enum slot slot;
    void *object;
    const void *args; /* as given, or `changed` */
    void *result;
    pst_op *op;
    union {
        pst_read_args read;
        pst_put_args put;
        pst_copy_args copy;
        pst_remove_args remove;
        pst_list_args list;
        pst_page_args page;
        pst_part_args part;
        pst_cleanup_args cleanup;
    } changed;
    pst_attr attr;
    pst_iov dst[2]; /* the first two pieces of the destination */
    size_t n_dst;
    uint64_t n_emitted;
    pst_rc dst_rc, emit_rc;
    atomic_bool is_cancelled, is_done, was_parked, is_ready;
};

extern atomic_int n_inflight, n_open_uploads;
extern pst_plugin plugin_table; /* what the host sees */

/* What mutants remember from one operation to the next. */
extern struct state {
    char upload_key[4096];
    const char *kept_key; /* of arguments that are over */
    pst_upload *last_upload;
    unsigned last_part;
    char secret[256];
    bool is_unordered; /* the last listing that was opened */
    pthread_mutex_t big_lock;
} state;

void pause_ms(long ms);
void make_file(pst_str key);
void remove_file(pst_str key, const char *more);
pst_str upload_key(void);
bool plugin_is_shut_down(void);

/* The hooks; each does nothing but for the mutants it knows. */
void change_tables(pst_plugin *plugin, pst_backend_ops *ops);
void on_load(void);
void on_unload(void);
void on_store_open(const pst_host *host, const pst_open_args *args);
void on_store_close(void);
void change_info(pst_backend_info *info);
bool before(struct call *c, pst_rc *rc); /* true: *rc is the answer, the plugin is not asked */
pst_rc after(struct call *c, pst_rc rc);
void after_pending(pst_op *op);
void complete_real(const pst_host *real, pst_op *op, pst_rc rc, const pst_iov *dst,
                   const pst_iov *src);
bool on_cancel(struct call *c); /* true: the plugin does not hear of it */
void on_upload_free(pst_upload *upload);
pst_rc mutate_dst(struct call *c, const pst_dst_args *args, pst_dst_grant *grant);
const void *change_service(const char *name, const void *table);
pst_rc after_net(struct call *c, pst_rc rc);
pst_rc mutate_emit(struct call *c, const pst_entry *entries, size_t n, size_t stride);

#endif
