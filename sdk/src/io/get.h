/* get.h - the range engine: one read of any size, as one first read and the rest in parallel. */
#ifndef PST_IO_GET_H
#define PST_IO_GET_H

#include <penstock/object.h>

#include "core/port.h"

struct pst_get;

/* What to read. Texts and the iov array are copied; the memory the iovs point to is not. */
struct pst_get_spec {
    struct pst_port *port; /* a reference is taken */
    pst_str key, if_match, version;
    uint64_t offset, length; /* length PST_UNKNOWN: to the end */
    int is_suffix;           /* the last `length` bytes; the port must have PST_CAP_READ_SUFFIX */
    uint32_t flags;          /* PST_READ_* */
    const pst_iov *dst;      /* n_dst 0: into a new buffer */
    size_t n_dst;
    uint32_t max_attempts, affinity;
    uint64_t deadline_ns;
    void (*done)(struct pst_get *, pst_rc); /* once, under the rules of task hooks */
    void *owner;
    const void *crew; /* who may run its jobs (core/pool.h), or NULL */
};

/* What came of it; valid in done() and until the last reference goes. */
struct pst_get_outcome {
    pst_buffer *buffer; /* NULL when dst was given; pst_get_take moves it out */
    uint64_t n_read, object_size;
    uint32_t etag_strength;
    pst_str etag;
    pst_error *error; /* the whole line, on failure */
};

/* NULL for lack of memory. */
struct pst_get *pst_get_new(const struct pst_get_spec *spec);
void pst_get_start(struct pst_get *get);

/* End it early; done() comes when nothing writes to the destination any more. */
void pst_get_stop(struct pst_get *get, pst_rc code);

struct pst_get *pst_get_ref(struct pst_get *get);
void pst_get_unref(struct pst_get *get);

void *pst_get_owner(struct pst_get *get);

/* The key, in memory of the get. */
pst_str pst_get_key(const struct pst_get *get);
const struct pst_get_outcome *pst_get_outcome_of(struct pst_get *get);

/* Move the buffer out; its bytes count as handed out from the moment the read was done. */
pst_buffer *pst_get_take(struct pst_get *get);

/* Copy what the outcome says about the object, as far as info->struct_size reaches. */
void pst_get_fill_info(struct pst_get *get, pst_read_info *info);

/* INVALID for flags that are no PST_READ_*. */
pst_rc pst_read_check_flags(uint32_t flags, pst_error *err);

/* ---- planning, pure ---------------------------------------------------------------------------- */

/* How long each range of a split read is, from the object's rest and the store's limits. */
uint64_t pst_range_part_bytes(uint64_t rest, const pst_limits *limits);

/* How many of them travel at once. */
uint32_t pst_range_in_flight(uint64_t n_parts, uint32_t max_at_plugin);

#endif
