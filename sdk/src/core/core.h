/* core.h - what a context is made of.
 *
 * A pst_context is a shell around a pst_core. A fork child never touches the parent's core (its locks
 * and threads are gone): the first call in the child builds a fresh one from the saved configuration
 * and swaps it in. docs/threading-and-fork.md tells the whole story. */
#ifndef PST_CORE_CORE_H
#define PST_CORE_CORE_H

#include <pthread.h>
#include <stdatomic.h>

#include <penstock/context.h>
#include <penstock/plugin.h>
#include <penstock/plugins.h>

#include "core/budget.h"
#include "core/buffer.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/reactor.h"
#include "core/registry.h"

struct pst_cred;
struct pst_store;

struct pst_core {
    pst_host host;       /* what plugins of this core see; host_private points back here */
    uint32_t generation; /* of fork; a core of another generation is never used */
    atomic_uint refs;    /* the context, each port */
    pst_context_options config;
    struct pst_log log;
    struct pst_budget budget;
    struct pst_arenas *arenas;
    struct pst_registry *registry;
    pst_services *services; /* those of libpenstock-net */
    struct pst_cred *cred;  /* NULL: the application supplies no credentials */
    struct pst_reactor *reactor;
    struct pst_timer trim_timer; /* gives idle memory back */
    struct pst_timer end_timer;  /* the last reference went where it must not be ended */
    struct pst_pool *blocking, *cpu;
    struct pst_share cpu_share, common_share;
    atomic_ullong next_op_id;
    atomic_ullong ops_submitted, ops_completed, retries, busy, bytes_read, bytes_written;
    atomic_ullong abandoned;
    atomic_ullong ranges, hedges, hedges_won; /* counted by the range engine */
    pthread_mutex_t mutex;
    struct {
        struct pst_port *ports;   /* every open one */
        struct pst_store *stores; /* cache, by identity */
    } locked;
};

/* Get the core of this process, building it after a fork. Never NULL on PST_OK.
 * Errors: CANCELLED when the context was freed; NO_MEMORY. */
pst_rc pst_core_of(pst_context *context, struct pst_core **out, pst_error *err);

struct pst_core *pst_core_ref(struct pst_core *core);
void pst_core_unref(struct pst_core *core);

pst_context *pst_context_ref(pst_context *context);
void pst_context_unref(pst_context *context);

/* How many cores this process may use, at least 1. */
uint32_t pst_usable_cores(void);

/* Count forks from now on, if nobody has asked for it before. */
void pst_fork_watch(void);

/* Count of forks between the first process and this one. */
uint32_t pst_fork_generation(void);

/* The host table every plugin gets, without host_private. */
extern const pst_host pst_host_template;

#endif
