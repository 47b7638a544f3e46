/* puppet.h - a plugin whose every answer the test gives, linked into the test.
 *
 * It serves puppet:// and, as a second plugin with one operation at a time, serial://, and as
 * a third without dst_ready, early://. A slot calls the
 * hook of the same name if the test set one, else it serves `body` as the only object there is, inline.
 * What the host does is written down. */
#ifndef PST_TEST_PUPPET_H
#define PST_TEST_PUPPET_H

#include <pthread.h>
#include <stdatomic.h>

#include <penstock/penstock.h>
#include <penstock/plugin.h>

#define PUPPET_HELD_MAX 64

struct puppet {
    pst_backend_ops hooks;
    uint64_t caps; /* that the open store offers */
    pst_limits limits;
    const char *body; /* the object */
    size_t body_len;
    const char *etag;
    uint32_t etag_strength;
    uint32_t want_sums;   /* 1 << PST_SUM_* */
    const char *endpoint; /* NULL: none */

    const pst_host *host;
    pst_backend *backend; /* of the store opened last */
    atomic_int n_open, n_closed, n_submits, n_flushes, n_cancels, n_dst_ready;
    atomic_int n_upload_frees, n_outstanding, max_outstanding;
    atomic_int closed_while_outstanding;
    atomic_int n_fork_child;
    atomic_int n_beyond; /* calls of what lies behind a table's struct_size */

    /* Operations that puppet_hold took, in order. */
    atomic_int n_held;
    pst_op *held[PUPPET_HELD_MAX];
};

extern struct puppet puppet;

/* Everything as at the start: all capabilities, an object "0123456789" with a strong etag. */
void puppet_reset(void);

/* From a hook: keep the operation pending until puppet_release. */
pst_rc puppet_hold(pst_op *op);

/* Wait until `n` operations are held (10 s at most; fails the test). */
void puppet_wait_held(int n);

/* Wait until a counter has reached `n` (10 s at most; fails the test). */
void puppet_wait_count(const atomic_int *counter, int n);

/* Complete held operation `i` on the caller's thread. */
void puppet_release(int i, pst_rc rc);

/* A thread of the plugin's own that completes held operation `i`; join it. */
pthread_t puppet_release_elsewhere(int i, pst_rc rc);

/* What the built-in slot does, for hooks that only change a detail. */
pst_rc puppet_read(pst_op *op, const pst_read_args *args, pst_read_result *result);

/* A context with no plugins but these, and an open store of scheme://. Fails the test on error. */
pst_context *puppet_context(const pst_context_options *options);
pst_store *puppet_store(pst_context *context, const char *scheme);

#endif
