/* part.h - how big the parts of an upload are. Pure: no I/O, no clock, no memory. */
#ifndef PST_IO_PART_H
#define PST_IO_PART_H

#include <penstock/plugin.h>

#define PST_PART_DEFAULT_BYTES ((uint64_t)8 << 20)

struct pst_part_plan {
    uint64_t first_bytes; /* size of part 0 */
    uint64_t max_bytes;   /* no part is ever larger; UINT64_MAX / 2 where the store sets no limit */
    uint64_t multiple;    /* every part but the last is a multiple of this */
    uint64_t hint_bytes;  /* expected size of the object, or PST_UNKNOWN */
    uint32_t parts_max;   /* 0: no limit */
    uint32_t is_uniform;  /* all parts but the last are equally long */
};

/* Plan the parts of an object of `size_hint` bytes (PST_UNKNOWN if not known) for a store with these
 * limits. wanted_bytes: the size that the application asked for, 0 for none.
 * Errors: INVALID for a wanted size that the store does not take, and for a hint that no plan can
 * hold; both name the limit. */
pst_rc pst_part_plan(const pst_limits *limits, uint64_t size_hint, uint64_t wanted_bytes,
                     struct pst_part_plan *out, pst_error *err);

/* Size of part `number` (from 0) which starts at `offset`; 0 when the store takes no more parts. */
uint64_t pst_part_size(const struct pst_part_plan *plan, uint32_t number, uint64_t offset);

#endif
