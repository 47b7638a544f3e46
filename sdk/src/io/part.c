/* part.c - the size of each part, from the store's limits and what is known of the length.
 *
 * A known length gives equal parts: the preferred size, or as much larger as parts_max demands. For an
 * unknown length parts start at the preferred size and double each time a sixteenth of parts_max is
 * used up, so that early parts stay cheap and late ones carry the weight: with 8 MiB, 10,000 parts
 * and at most 5 GiB each, 78 GiB become 23 TiB. Above that a stream needs a hint, because no early part
 * can be made larger afterwards.
 *
 * A hint that was too small is no error by itself: parts go on growing from where they are. Only a
 * store that demands equal parts holds a stream to the size chosen at the start. */
#include "io/part.h"

#include "core/error.h"

#define NO_LIMIT (UINT64_MAX / 2)
#define DOUBLINGS 16u /* steps in which parts_max is used up */

static uint64_t round_down(uint64_t n, uint64_t multiple)
{
    return n / multiple * multiple;
}

/* Both are at most NO_LIMIT: no overflow. */
static uint64_t round_up(uint64_t n, uint64_t multiple)
{
    return round_down(n + multiple - 1, multiple);
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* What both part_multiple and io_align divide; 0 if that is absurd. */
static uint64_t multiple_of(const pst_limits *limits)
{
    uint64_t a = limits->part_multiple ? limits->part_multiple : 1;
    uint64_t b = limits->io_align ? limits->io_align : 1;
    a /= gcd(a, b);
    return a > NO_LIMIT / 2 / b ? 0 : a * b;
}

static uint64_t div_up(uint64_t n, uint64_t by)
{
    return n / by + (n % by != 0);
}

pst_rc pst_part_plan(const pst_limits *limits, uint64_t size_hint, uint64_t wanted_bytes,
                     struct pst_part_plan *out, pst_error *err)
{
    uint64_t multiple = multiple_of(limits), min = 0, max = 0;
    uint64_t size = PST_PART_DEFAULT_BYTES;

    if (multiple && limits->part_min < NO_LIMIT / 2 && limits->part_max < NO_LIMIT) {
        min = round_up(limits->part_min ? limits->part_min : 1, multiple);
        max = round_down(limits->part_max ? limits->part_max : NO_LIMIT, multiple);
    }
    if (max < min || max == 0)
        return pst_fail(err, PST_E_INTERNAL, "the plugin's part limits leave no size: %llu..%llu",
                        (unsigned long long)limits->part_min, (unsigned long long)limits->part_max);
    if (size_hint != PST_UNKNOWN && limits->object_max && size_hint > limits->object_max)
        return pst_fail(err, PST_E_INVALID, "%llu bytes are more than the store's limit of %llu",
                        (unsigned long long)size_hint, (unsigned long long)limits->object_max);
    if (wanted_bytes && (wanted_bytes < limits->part_min || wanted_bytes > max))
        return pst_fail(err, PST_E_INVALID, "part size %llu is not within the store's %llu..%llu",
                        (unsigned long long)wanted_bytes, (unsigned long long)min,
                        (unsigned long long)max);
    if (wanted_bytes)
        size = wanted_bytes;
    else if (limits->io_preferred)
        size = limits->io_preferred;
    if (size_hint != PST_UNKNOWN && limits->parts_max) {
        uint64_t needed = div_up(size_hint, limits->parts_max);
        int is_fixed = wanted_bytes && (limits->flags & PST_LIMIT_PARTS_UNIFORM);
        if (needed > max || (is_fixed && needed > round_up(size, multiple)))
            return pst_fail(err, PST_E_INVALID,
                            "%llu bytes do not fit %u parts of at most %llu bytes",
                            (unsigned long long)size_hint, (unsigned)limits->parts_max,
                            (unsigned long long)(is_fixed ? size : max));
        if (needed > size)
            size = needed;
    }
    size = size < min ? min : size > max ? max : size; /* both are multiples */
    size = round_up(size, multiple);

    *out = (struct pst_part_plan){
        .first_bytes = size,
        .max_bytes = max,
        .multiple = multiple,
        .hint_bytes = size_hint,
        .parts_max = limits->parts_max,
        .is_uniform = (limits->flags & PST_LIMIT_PARTS_UNIFORM) != 0,
    };
    return PST_OK;
}

uint64_t pst_part_size(const struct pst_part_plan *plan, uint32_t number, uint64_t offset)
{
    if (plan->parts_max && number >= plan->parts_max)
        return 0;
    int is_expected = plan->hint_bytes != PST_UNKNOWN && offset < plan->hint_bytes;
    if (plan->is_uniform || !plan->parts_max || is_expected)
        return plan->first_bytes;
    uint32_t step = plan->parts_max / DOUBLINGS ? plan->parts_max / DOUBLINGS : 1;
    uint64_t size = plan->first_bytes;
    for (uint32_t n = number / step; n > 0 && size < plan->max_bytes; n--)
        size = size > plan->max_bytes / 2 ? plan->max_bytes : size * 2;
    return size;
}
