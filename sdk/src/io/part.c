/* part.c - the size of each part, from the store's limits, the memory budget and what is known of the
 * length.
 *
 * A known length gives equal parts: the preferred size, or as much larger as parts_max demands. Hence
 * a length of parts_max times part_max fits exactly.
 *
 * An unknown length gives parts that begin at the preferred size and double every `step` parts, so that
 * early parts are cheap, late ones carry the weight, and memory follows the length: a part is about
 * 1/step of what lies before it. Three numbers follow from the limits:
 *   target     what must fit: the store's object_max, else parts_max times part_max.
 *   last_bytes where growth ends: twice the mean part of the longest object, so that half of the parts may
 *              be spent on beginnings; no more than part_max.
 *   step       as many parts as possible with the target still in reach, but parts_max / 32 at least.
 * With S3's old limits (10,000 parts of at most 5 GiB, 5 TiB in all) parts double every 825 parts up to
 * 1 GiB and 5 TiB fit. With its new ones (48.8 TiB, which is 10,000 parts of 5 GiB) no early part may be
 * smaller than 5 GiB if all of it is to fit: mathematics leaves the choice between that and the last
 * quarter, and the planner takes small beginnings. pst_part_reach() says how far a plan goes; what is
 * longer needs a hint.
 *
 * Memory: a part lies in memory as a whole. The first size is a quarter of the budget at most, growth
 * ends at a quarter of it if the target is in reach then, else at half, else at all of it: parts then
 * travel one by one, which is slow and not wrong. Where even that falls short the reach is shorter, and
 * the error that comes then names the budget. A single part that must exceed the budget is refused at
 * once.
 *
 * A hint that was too small is no error by itself: beyond it parts grow as for an unknown length, with
 * the parts that are left. Only a store that demands equal parts holds a stream to the size chosen at the
 * start. */
#include "io/part.h"

#include "core/error.h"

#define NO_LIMIT PST_PART_NO_LIMIT
#define PLANNED_MAX ((uint64_t)1 << 57) /* objects are planned up to 128 PiB: sums never overflow */
#define STEPS_MAX 32u                   /* a step is at least this fraction of the parts */
#define BUDGET_SHARE 4u                 /* parts on their way that the budget should hold */

static uint64_t min_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t div_up(uint64_t n, uint64_t by)
{
    return n / by + (n % by != 0);
}

static uint64_t round_down(uint64_t n, uint64_t multiple)
{
    return n / multiple * multiple;
}

/* Both are at most NO_LIMIT: no overflow. */
static uint64_t round_up(uint64_t n, uint64_t multiple)
{
    return round_down(n + multiple - 1, multiple);
}

/* n * by, NO_LIMIT at most. */
static uint64_t times(uint64_t n, uint64_t by)
{
    return n > 0 && by > NO_LIMIT / n ? NO_LIMIT : n * by;
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

/* The bounds of a part, all multiples of `multiple`. */
struct bounds {
    uint64_t multiple, min, max;
};

static pst_rc find_bounds(const pst_limits *limits, struct bounds *out, pst_error *err)
{
    out->multiple = multiple_of(limits);
    out->min = out->max = 0;
    if (out->multiple && limits->part_min < NO_LIMIT / 2 && limits->part_max < NO_LIMIT) {
        out->min = round_up(limits->part_min ? limits->part_min : 1, out->multiple);
        out->max = round_down(limits->part_max ? limits->part_max : NO_LIMIT, out->multiple);
    }
    if (out->max < out->min || out->max == 0)
        return pst_fail(err, PST_E_INTERNAL, "the plugin's part limits leave no size: %llu..%llu",
                        (unsigned long long)limits->part_min, (unsigned long long)limits->part_max);
    return PST_OK;
}

/* ---- growth ----------------------------------------------------------------------------------- */

/* The longest step, in parts, with which `n` parts that grow from `first` to `last` bytes hold `target`
 * bytes; 0 if none does. Where they grow, `n` times `last` is at most PLANNED_MAX. */
static uint64_t longest_step(uint64_t n, uint64_t first, uint64_t last, uint64_t target)
{
    uint64_t n_steps = 0, small_bytes = 0; /* of one part of each size below the last */
    if (times(n, last) < target)
        return 0;
    for (uint64_t size = first; size < last; size *= 2, n_steps++)
        small_bytes += size;
    if (n_steps == 0)
        return n;
    /* step * small_bytes + (n - step * n_steps) * last >= target */
    return min_of(n / n_steps, (n * last - target) / (n_steps * last - small_bytes));
}

/* Let the `n` parts behind those of the hint grow so that `target` bytes fit into them. */
static void plan_growth(struct pst_part_plan *plan, const struct bounds *bounds, uint64_t n,
                        uint64_t target)
{
    uint64_t first = plan->first_bytes, max = min_of(bounds->max, PLANNED_MAX / n);
    uint64_t mean = div_up(min_of(target, PLANNED_MAX), n);
    uint64_t ideal = max_of(
        first, round_down(min_of(max, 2 * mean + bounds->multiple - 1), bounds->multiple));
    uint64_t least = max_of(n / STEPS_MAX, 1), step = 0;
    for (uint64_t share = BUDGET_SHARE; share > 0; share /= 2) {
        uint64_t allowed = round_down(plan->budget_bytes / share, bounds->multiple);
        plan->last_bytes = min_of(ideal, max_of(first, allowed));
        step = longest_step(n, first, plan->last_bytes, target);
        if (step >= least || plan->last_bytes == ideal)
            break;
    }
    plan->is_cut = plan->last_bytes < ideal;
    plan->step = (uint32_t)max_of(step, least);
}

/* ---- the plan --------------------------------------------------------------------------------- */

/* The size of the first part, before the budget has its say. */
static pst_rc choose_first(const struct pst_part_ask *ask, const struct bounds *bounds,
                           uint64_t *out, pst_error *err)
{
    const pst_limits *limits = ask->limits;
    uint64_t wanted = ask->wanted_bytes, hint = ask->size_hint;
    uint64_t size = wanted;
    if (wanted && (wanted < limits->part_min || wanted > bounds->max))
        return pst_fail(err, PST_E_INVALID, "part size %llu is not within the store's %llu..%llu",
                        (unsigned long long)wanted, (unsigned long long)bounds->min,
                        (unsigned long long)bounds->max);
    if (!wanted) {
        size = limits->io_preferred ? limits->io_preferred : PST_PART_DEFAULT_BYTES;
        size = min_of(size, round_down(ask->budget_bytes / BUDGET_SHARE, bounds->multiple));
    }
    if (hint != PST_UNKNOWN && limits->parts_max) {
        uint64_t needed = div_up(hint, limits->parts_max);
        int is_fixed = wanted && (limits->flags & PST_LIMIT_PARTS_UNIFORM);
        if (needed > bounds->max || (is_fixed && needed > round_up(size, bounds->multiple)))
            return pst_fail(err, PST_E_INVALID,
                            "%llu bytes do not fit %u parts of at most %llu bytes",
                            (unsigned long long)hint, (unsigned)limits->parts_max,
                            (unsigned long long)(is_fixed ? size : bounds->max));
        size = max_of(size, needed);
    }
    size = size < bounds->min ? bounds->min : min_of(size, bounds->max);
    *out = round_up(size, bounds->multiple);
    return PST_OK;
}

static pst_rc check_budget(const struct pst_part_ask *ask, uint64_t first, pst_error *err)
{
    uint64_t needed = min_of(first, ask->size_hint);
    if (needed <= ask->budget_bytes)
        return PST_OK;
    if (ask->size_hint != PST_UNKNOWN && ask->limits->parts_max && !ask->wanted_bytes)
        return pst_fail(err, PST_E_OVER_BUDGET,
                        "%llu bytes take parts of %llu bytes, the memory budget is %llu bytes",
                        (unsigned long long)ask->size_hint, (unsigned long long)needed,
                        (unsigned long long)ask->budget_bytes);
    return pst_fail(err, PST_E_OVER_BUDGET,
                    "a part has %llu bytes, the memory budget is %llu bytes",
                    (unsigned long long)needed, (unsigned long long)ask->budget_bytes);
}

pst_rc pst_part_plan(const struct pst_part_ask *ask, struct pst_part_plan *out, pst_error *err)
{
    const pst_limits *limits = ask->limits;
    uint64_t hint = ask->size_hint, first = 0;
    struct bounds bounds;

    pst_rc rc = find_bounds(limits, &bounds, err);
    if (rc != PST_OK)
        return rc;
    if (hint != PST_UNKNOWN && limits->object_max && hint > limits->object_max)
        return pst_fail(err, PST_E_INVALID, "%llu bytes are more than the store's limit of %llu",
                        (unsigned long long)hint, (unsigned long long)limits->object_max);
    rc = choose_first(ask, &bounds, &first, err);
    if (rc == PST_OK)
        rc = check_budget(ask, first, err);
    if (rc != PST_OK)
        return rc;
    *out = (struct pst_part_plan){
        .first_bytes = first,
        .last_bytes = first,
        .object_max = limits->object_max ? min_of(limits->object_max, NO_LIMIT) : NO_LIMIT,
        .budget_bytes = ask->budget_bytes,
        .parts_max = limits->parts_max,
    };
    if (!limits->parts_max || (limits->flags & PST_LIMIT_PARTS_UNIFORM))
        return PST_OK;
    if (hint != PST_UNKNOWN)
        out->n_hinted = (uint32_t)div_up(hint, first); /* parts_max at most */
    uint64_t target = min_of(out->object_max, times(limits->parts_max, bounds.max));
    uint64_t hinted_bytes = min_of(target, times(out->n_hinted, first));
    if (out->n_hinted < limits->parts_max)
        plan_growth(out, &bounds, limits->parts_max - out->n_hinted, target - hinted_bytes);
    return PST_OK;
}

uint64_t pst_part_size(const struct pst_part_plan *plan, uint32_t number)
{
    if (plan->parts_max && number >= plan->parts_max)
        return 0;
    uint64_t size = plan->first_bytes;
    if (plan->step == 0 || number < plan->n_hinted)
        return size;
    for (uint32_t n = (number - plan->n_hinted) / plan->step; n > 0 && size < plan->last_bytes; n--)
        size = min_of(size * 2, plan->last_bytes);
    return size;
}

uint64_t pst_part_reach(const struct pst_part_plan *plan)
{
    if (!plan->parts_max)
        return plan->object_max;
    uint64_t size = plan->first_bytes, sum = times(plan->n_hinted, size);
    for (uint32_t left = plan->parts_max - plan->n_hinted, n = 0; left > 0; left -= n) {
        n = plan->step && size < plan->last_bytes && plan->step < left ? plan->step : left;
        sum = min_of(NO_LIMIT, sum + times(n, size));
        size = min_of(size * 2, plan->last_bytes);
    }
    return min_of(sum, plan->object_max);
}

pst_rc pst_part_fail_reach(const struct pst_part_plan *plan, pst_error *err)
{
    unsigned long long reach = pst_part_reach(plan);
    if (reach == plan->object_max)
        return pst_fail(err, PST_E_INVALID, "more bytes than the store's limit of %llu", reach);
    if (plan->is_cut)
        return pst_fail(
            err, PST_E_INVALID,
            "more than %llu bytes do not fit %u parts of %llu to %llu bytes, the memory "
            "budget of %llu bytes allows no larger ones: raise it, or give size_hint",
            reach, (unsigned)plan->parts_max, (unsigned long long)plan->first_bytes,
            (unsigned long long)plan->last_bytes, (unsigned long long)plan->budget_bytes);
    return pst_fail(err, PST_E_INVALID,
                    "more than %llu bytes do not fit %u parts of %llu to %llu bytes: %s", reach,
                    (unsigned)plan->parts_max, (unsigned long long)plan->first_bytes,
                    (unsigned long long)plan->last_bytes,
                    plan->n_hinted > 0 ? "size_hint was too small" : "give size_hint");
}
