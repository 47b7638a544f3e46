/* ranges.h - which ranges of an object share a request. Pure. */
#ifndef PST_IO_RANGES_H
#define PST_IO_RANGES_H

#include <penstock/many.h>

/* One request, for `n` ranges: those that order[first] and its successors name. */
struct pst_ranges_group {
    size_t first, n;
    uint64_t offset, length; /* PST_UNKNOWN: to the end */
};

/* Sort the ranges that are not empty into order[] (room for n) and cut it into groups[] (room for n).
 * Neighbours share a request when the gap between them is at most gap_bytes and the request stays within
 * max_bytes; what lies inside another range, or repeats it, shares its request in any case. With
 * gap_bytes PST_UNKNOWN each has its own. Returns the number of groups. */
size_t pst_ranges_plan(const pst_range *ranges, size_t n, uint64_t gap_bytes, uint64_t max_bytes,
                       size_t *order, struct pst_ranges_group *groups);

#endif
