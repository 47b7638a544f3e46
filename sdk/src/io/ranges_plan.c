#include "io/ranges.h"

#include <stdlib.h>

/* One behind its last byte; PST_UNKNOWN for the end of the object. */
static uint64_t end_of(const pst_range *range)
{
    return range->length < PST_UNKNOWN - range->offset ? range->offset + range->length
                                                       : PST_UNKNOWN;
}

/* By offset; of those that start together the longest first, so that it holds the others. */
static int compare(const void *a, const void *b, void *arg)
{
    const pst_range *ranges = arg;
    const pst_range *left = &ranges[*(const size_t *)a], *right = &ranges[*(const size_t *)b];
    if (left->offset != right->offset)
        return left->offset < right->offset ? -1 : 1;
    if (left->length != right->length)
        return left->length > right->length ? -1 : 1;
    return 0;
}

static int is_shared(const struct pst_ranges_group *group, uint64_t end, const pst_range *range,
                     uint64_t gap_bytes, uint64_t max_bytes)
{
    if (gap_bytes == PST_UNKNOWN)
        return 0;
    if (range->offset <= end && end_of(range) <= end)
        return 1;
    if (end_of(range) == PST_UNKNOWN) /* nobody knows how much that is */
        return 0;
    return (range->offset <= end || range->offset - end <= gap_bytes) &&
           end_of(range) - group->offset <= max_bytes;
}

size_t pst_ranges_plan(const pst_range *ranges, size_t n, uint64_t gap_bytes, uint64_t max_bytes,
                       size_t *order, struct pst_ranges_group *groups)
{
    union { /* qsort_r hands it on as it is */
        const pst_range *borrowed;
        void *arg;
    } all = {.borrowed = ranges};
    size_t n_order = 0, n_groups = 0;
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].length > 0)
            order[n_order++] = i;
    }
    if (n_order > 1)
        qsort_r(order, n_order, sizeof(*order), compare, all.arg);
    for (size_t i = 0; i < n_order; i++) {
        const pst_range *range = &ranges[order[i]];
        struct pst_ranges_group *group = n_groups > 0 ? &groups[n_groups - 1] : NULL;
        if (!group || !is_shared(group, end, range, gap_bytes, max_bytes)) {
            group = &groups[n_groups++];
            *group = (struct pst_ranges_group){.first = i, .offset = range->offset};
            end = 0;
        }
        group->n++;
        if (end_of(range) > end)
            end = end_of(range);
        group->length = end == PST_UNKNOWN ? PST_UNKNOWN : end - group->offset;
    }
    return n_groups;
}
