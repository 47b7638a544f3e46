/* get_state.h - the state of one read, shared by get.c (ranges) and get_dst.c (destination). */
#ifndef PST_IO_GET_STATE_H
#define PST_IO_GET_STATE_H

#include "io/get.h"

#define PST_GET_IN_FLIGHT_MAX 16u
#define PST_GET_ETAG_MAX 1100u

enum pst_get_memory {
    PST_MEMORY_NONE,
    PST_MEMORY_IN_LINE,  /* for the budget; a reference to the get is held */
    PST_MEMORY_RESERVED, /* reserved_bytes are ours */
    PST_MEMORY_LEFT      /* the read ended while it was in line and being served */
};

struct pst_get {
    atomic_uint refs;
    struct pst_get_spec spec; /* texts and dst point into `kept` */
    char *kept;
    struct pst_get_outcome outcome;
    pst_error error;
    pthread_mutex_t mutex;
    struct pst_budget_waiter waiter;
    uint64_t capacity; /* of spec.dst */
    uint64_t part_bytes;
    char etag[PST_GET_ETAG_MAX];
    struct {
        enum pst_get_memory memory;
        uint64_t reserved_bytes;
        uint64_t next;  /* of the destination, not yet asked for */
        uint64_t total; /* bytes this read will deliver, once known */
        uint32_t n_running;
        struct pst_task *first; /* for the line */
        struct pst_task *running[PST_GET_IN_FLIGHT_MAX];
        pst_rc rc; /* the first failure */
        int is_stopped, is_ended;
    } locked;
};

/* Hooks of a first read that goes into a new buffer. */
pst_rc pst_get_on_dst(struct pst_task *task, const pst_dst_args *args, pst_dst_grant *grant);
void pst_get_on_dst_cancelled(struct pst_task *task);

/* Get out of the line for memory. Returns 1 when the read was in it and will not be served. */
int pst_get_leave_line(struct pst_get *get);

/* Make room for `need` bytes, or `wish` where the budget allows, since nobody told the size before;
 * keeps the first `used` bytes. Errors: OVER_BUDGET, NO_MEMORY. */
pst_rc pst_get_grow_locked(struct pst_get *get, uint64_t need, uint64_t wish, uint64_t used,
                           pst_error *err);

#endif
