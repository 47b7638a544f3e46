/* net_abi.h - what passes between libpenstock and libpenstock-net.
 *
 * The two are built together and may only be used together: the core opens the library by its path
 * beside itself, passes its own build id to the one exported function, and gets a table or an error.
 * The net library links nothing of the core; what it needs of it comes in struct pst_net_host. There
 * is one instance for each core, so a process with several contexts keeps their loops apart. */
#ifndef PST_UTIL_NET_ABI_H
#define PST_UTIL_NET_ABI_H

#include <penstock/services.h>

#define PST_NET_NO_ENVIRONMENT 1u /* read no variable of it */

/* What a core gives its instance. Copied; what it points to outlives the instance. */
struct pst_net_host {
    const pst_host *host; /* the table that this core's plugins pass to http/1 and crypto/1 */
    uint32_t n_cores;     /* that the process may use */
    uint32_t flags;       /* PST_NET_* */
    /* Bracket a batch of callbacks on a loop's thread. What the callbacks set free (the next submit of
     * a plugin) is done inside leave(), on the same thread. */
    void (*enter)(void);
    void (*leave)(void);
};

struct pst_net_instance;

struct pst_net {
    const char *build_id;
    /* No thread and no I/O yet. Errors: NO_MEMORY; INTERNAL if libcurl cannot be set up. */
    pst_rc (*instance_new)(const struct pst_net_host *nh, struct pst_net_instance **out,
                           pst_error *err);
    /* The table "http/1" or "crypto/1", NULL for another name; static, so good for ever. */
    const void *(*service)(struct pst_net_instance *instance, const char *name);
    /* Cancel every request and end the threads. Returns 1, or 0 if a callback has not come back at
     * CLOCK_MONOTONIC deadline_ns; may be repeated. Not from a thread of an instance's own. */
    int (*instance_shutdown)(struct pst_net_instance *instance, uint64_t deadline_ns);
    /* After a shutdown that returned 1, with all clients freed. */
    void (*instance_free)(struct pst_net_instance *instance);
    /* Is this a loop's thread, of whichever instance? */
    int (*is_own_thread)(void);
    /* In a fork child, before anything else: forget the parent's instances. They are not freed: their
     * connections and locks are the parent's. Idempotent. */
    void (*fork_child)(void);
    /* What all clients of the instance have done since it was made, those freed included. */
    void (*stats)(struct pst_net_instance *instance, pst_http_stats *out);
};

/* The exported symbol. Errors: BAD_PLUGIN for another build id, naming both. Threads: any. */
PST_EXPORT pst_rc pst_net_open_1(const char *build_id, const struct pst_net **out, pst_error *err);

typedef pst_rc (*pst_net_open_1_fn)(const char *build_id, const struct pst_net **out,
                                    pst_error *err);

#endif
