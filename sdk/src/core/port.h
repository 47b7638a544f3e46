/* port.h - an open store as the engine sees it: the backend, its limits, and the line of tasks. */
#ifndef PST_CORE_PORT_H
#define PST_CORE_PORT_H

#include "core/core.h"
#include "core/task.h"

#define PST_RETRY_TOKENS 500 /* of a fresh store; see io/retry.c */

struct pst_cred_store;

struct pst_port {
    atomic_uint refs; /* the store handle, each task, each call into the plugin */
    struct pst_core *core;
    const struct pst_loaded *loaded;
    pst_backend *backend;
    char *uri; /* "scheme://authority", for messages */
    pst_backend_info info;
    pst_limits limits;
    uint32_t max_at_plugin;      /* in-flight cap */
    uint32_t max_late;           /* ... of reads that may have to wait for memory */
    struct pst_share share;      /* of the blocking pool */
    struct pst_cred_store *cred; /* NULL: the application supplies no credentials */
    atomic_int retry_tokens;     /* io/retry.c: what a store that fails on and on may still cost */
    atomic_int hedge_tokens;     /* io/get_try.c: what second requests may still cost */
    atomic_uint learned_in_flight; /* io/get.c: what reads found out about the store; 0: nothing */
    atomic_ullong learned_part_bytes, learned_median_ns;
    struct pst_timer pump_timer; /* pump on the reactor: deferred, or the BUSY poll */
    struct pst_timer close_timer;
    struct pst_port *prev, *next; /* in core->locked.ports */
    pthread_mutex_t mutex;
    pthread_cond_t idle; /* the last task is done */
    struct {
        struct pst_task_line ready, late; /* waiting to be submitted, in order; late reads apart */
        struct pst_task *tasks;           /* every one that was submitted and is not done */
        uint32_t n_tasks, n_at_plugin, n_parked, n_late;
        uint64_t epoch; /* moves with every wake */
        int is_blocked; /* BUSY; nothing is submitted until a wake or the poll */
        int was_ready;  /* the line that was served last */
        int is_pump_armed;
        uint64_t pump_due_ns;
        uint64_t starved_since_ns; /* BUSY, and all that could end it waits for memory; else 0 */
    } locked;
};

struct pst_port *pst_port_ref(struct pst_port *port);

/* Take a reference unless the last one is gone already; NULL then. With core->mutex held. */
struct pst_port *pst_port_try_ref(struct pst_port *port);

/* Drop a reference. The last one closes the backend: here where the stack is clear of plugin code,
 * else on the reactor. */
void pst_port_unref(struct pst_port *port);

/* Open the backend. `options` and texts are used during the call only. */
pst_rc pst_port_open(struct pst_core *core, const struct pst_loaded *loaded, pst_str scheme,
                     pst_str authority, const struct pst_resolved *options, struct pst_port **out,
                     pst_error *err);

/* For task.c, with port->mutex held: join the task's line at its end, or at its front after BUSY; take it
 * out of the line. */
void pst_port_push_back_locked(struct pst_task *task);
void pst_port_push_front_locked(struct pst_task *task);
void pst_port_leave_line_locked(struct pst_task *task);

/* Is anything at the plugin of another store, which may give memory back when it ends? */
int pst_port_others_run(struct pst_port *port);

/* Submit what waits, as far as the cap allows. Never call it on top of plugin code: pst_stack_kick
 * knows when. */
void pst_port_pump(struct pst_port *port);

/* Pump on the reactor at due_ns (CLOCK_MONOTONIC, 0: now). */
void pst_port_pump_later(struct pst_port *port, uint64_t due_ns);

/* Cancel every task; without `with_uploads` not what opens and aborts uploads: cut off, it would leave one in
 * the store. */
void pst_port_cancel_all(struct pst_port *port, int with_uploads);

/* Wait until no task is left or the deadline has come. Returns 1 when none is left. */
int pst_port_wait_idle(struct pst_port *port, uint64_t deadline_ns);

/* A plugin called wake: try again. */
void pst_port_wake(struct pst_port *port);

static inline int pst_port_has(const struct pst_port *port, uint64_t caps)
{
    return (port->info.caps & caps) == caps;
}

#endif
