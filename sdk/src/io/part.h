/* part.h - how big the parts of an upload are. Pure: no I/O, no clock, no memory. */
#ifndef PST_IO_PART_H
#define PST_IO_PART_H

#include <penstock/plugin.h>

#define PST_PART_DEFAULT_BYTES ((uint64_t)8 << 20)
#define PST_PART_NO_LIMIT (UINT64_MAX / 2)

/* What a plan follows from. */
struct pst_part_ask {
    const pst_limits *limits; /* of the open store */
    uint64_t size_hint;       /* PST_UNKNOWN if the length is not known */
    uint64_t wanted_bytes;    /* the part size that the application asked for, 0 for none */
    uint64_t budget_bytes;    /* memory for all parts on their way; PST_PART_NO_LIMIT for any */
};

struct pst_part_plan {
    uint64_t first_bytes;  /* size of part 0 */
    uint64_t last_bytes;   /* parts grow to this size and no further */
    uint64_t object_max;   /* of the store, PST_PART_NO_LIMIT where it sets none */
    uint64_t budget_bytes; /* as asked */
    uint32_t parts_max;    /* 0: no limit */
    uint32_t n_hinted;     /* parts before growth begins: those of the expected length */
    uint32_t step;         /* then the size doubles every so many parts; 0: never */
    uint32_t is_cut;       /* parts would have to grow beyond what the budget allows */
};

/* Plan the parts of an object.
 * Errors: INVALID for a wanted size that the store does not take, and for a hint that no plan can hold;
 * OVER_BUDGET where a single part exceeds the budget. All name both numbers. INTERNAL for limits that
 * contradict themselves. */
pst_rc pst_part_plan(const struct pst_part_ask *ask, struct pst_part_plan *out, pst_error *err);

/* Size of part `number`, from 0; 0 when the store takes no more parts. */
uint64_t pst_part_size(const struct pst_part_plan *plan, uint32_t number);

/* Length of the longest object that the plan can hold; PST_PART_NO_LIMIT where nothing ends it. */
uint64_t pst_part_reach(const struct pst_part_plan *plan);

/* Fill *err for an object that is longer than that, with the way out. Returns INVALID. */
pst_rc pst_part_fail_reach(const struct pst_part_plan *plan, pst_error *err);

#endif
