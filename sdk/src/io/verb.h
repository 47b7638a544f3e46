/* verb.h - what the calls on objects do before anything is sent: options, keys, capabilities. */
#ifndef PST_IO_VERB_H
#define PST_IO_VERB_H

#include <penstock/object.h>

#include "core/port.h"

/* Copy a struct of options that the application filled to one of this library's size; `given` may be
 * NULL, for all zero. Every options struct starts with struct_size.
 * Errors: INVALID when struct_size was not set or when members are set that this version lacks. */
pst_rc pst_options_take(void *own, size_t own_bytes, const void *given, pst_error *err);

/* Is there each of `caps` (PST_CAP_*)? UNIMPLEMENTED names the first that is missing. */
pst_rc pst_verb_need(const struct pst_port *port, uint64_t caps, pst_error *err);

/* INVALID for a key that is empty or longer than the store takes. */
pst_rc pst_verb_check_key(const struct pst_port *port, pst_str key, pst_error *err);

/* UNIMPLEMENTED for a version of a store that keeps none. An empty one is the latest. */
pst_rc pst_verb_check_version(const struct pst_port *port, pst_str version, pst_error *err);

/* Get at the store, check `caps` and the key, and make a task. Ownership: pst_task_unref.
 * With PST_VERB_ANY_KEY the key may be empty. */
#define PST_VERB_ANY_KEY 1u
pst_rc pst_verb_begin(pst_store *store, enum pst_slot slot, uint64_t caps, pst_str key,
                      uint32_t flags, struct pst_task **out, pst_error *err);

/* What put, copy and the writer are told, checked against the open store. */
struct pst_write_plan {
    pst_write_options options; /* of this library's size */
    pst_attr attr;             /* likewise; all empty where none was given */
    uint32_t flags;            /* PST_PUT_* */
    int has_attr;
    uint32_t sums; /* PST_SUM_BITs wanted by the application or by the store */
};

/* Take the options and check flags, condition, attributes and sums.
 * Errors: INVALID; UNIMPLEMENTED for what the store cannot keep or promise. */
pst_rc pst_write_plan_init(const struct pst_port *port, const pst_write_options *given,
                           struct pst_write_plan *out, pst_error *err);

#endif
