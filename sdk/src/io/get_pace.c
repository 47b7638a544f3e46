/* get_pace.c - the pace of one read: length of its ranges, how many at once.
 *
 * Length. It starts from what the store prefers (or 8 MiB), from what earlier reads of the store
 * learned, and from the read itself: there should be two ranges for each that may travel, so that the
 * last ones end together. Then it follows the clock. A range that takes less than 2 ms pays too much
 * for being asked for: twice as long. One that takes more than a second makes every retry expensive and
 * every cancel slow: half. Ranges that come at the speed of memory (0.6 GB/s each) pay little for being
 * asked for and are not longer than the store prefers; where a checksum is wanted and the store prefers
 * nothing, not longer than 2 MiB, so that the bytes are still in the processor's cache when they are
 * summed (ranges of 8 MiB from the page cache cost 20 to 25 % for the sum, of 1 to 2 MiB 5 to 15 %).
 * Slower ones grow to the usual length again. A store that prefers more pays more for each request than
 * the sum does: past the page cache 8 MiB cost 3 % for the sum where 2 MiB cost 10 %.
 *
 * Number. From a store whose time is latency, more ranges at once bring more in the same time; from one
 * that is busy they only wait longer. So a level is measured for an epoch (a range for each that
 * travels, 20 ms at least), then a higher one, twice as high at first. The higher one is kept if it
 * brought at least 60 % of what it would have brought if every range cost nothing; else the search goes
 * back, tries half as far, and then rests for some epochs. Ranges at the speed of memory wait for a
 * processor: nothing higher is tried then, since on a busy machine more threads do get more of it, from
 * everybody else; and a store without an endpoint, a file system, gets 16 at most. So a local disk stays at
 * its two per core. A rate that falls by half at the
 * level in use takes a quarter of the ranges off, but none of the two per core; THROTTLED takes half of
 * them and makes later steps small.
 *
 * What this does not do: know about other reads of the store. Each finds its own level in their
 * presence, under the store's in-flight cap. */
#include "io/get_pace.h"

#include <stddef.h>
#include <string.h>

#define PART_BYTES ((uint64_t)8 << 20)      /* where the store prefers nothing */
#define PART_MIN_BYTES ((uint64_t)1 << 20)  /* adapted ranges are not shorter ... */
#define PART_MAX_BYTES ((uint64_t)16 << 20) /* ... nor longer */
#define HOT_BYTES ((uint64_t)2 << 20)       /* what a core's cache still holds after a read */
#define LOCAL_BYTES_PER_NS 0.6              /* of a range that waits for no network */
#define NEAR_BYTES_PER_NS 0.25              /* ... and where there is none, on a busy machine */
#define NEAR_IN_FLIGHT 16u                  /* most from a file system */
#define SHORT_NS 2000000u
#define LONG_NS 1000000000u
#define TREND_RANGES 4 /* so many of a kind change the length */

#define EPOCH_NS 20000000u
#define EPOCH_RANGES 4u
#define GAIN 0.6 /* of the ideal that a higher level must bring */
#define HOLD 16u
#define HOLD_THROTTLED 32u
#define LATE_MIN_NS 5000000u
#define LATE_MEDIANS 3u
#define MEDIAN_RANGES 4u

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static uint64_t round_up(uint64_t value, uint64_t align)
{
    return (value + align - 1) / align * align;
}

uint64_t pst_range_part_bytes(uint64_t rest, const pst_limits *limits)
{
    uint64_t part = limits->io_preferred > 0 ? limits->io_preferred : PART_BYTES;
    uint64_t align = limits->io_align > 1 ? limits->io_align : 1;
    return round_up(rest < part ? rest : part, align);
}

static void start_length(struct pst_pace *pace, const struct pst_pace_start *start)
{
    uint64_t part = pst_range_part_bytes(PST_UNKNOWN / 2, start->limits);
    pace->align = start->limits->io_align > 1 ? start->limits->io_align : 1;
    pace->is_part_fixed = start->asked_part_bytes > 0;
    if (pace->is_part_fixed) {
        pace->part_bytes = round_up(start->asked_part_bytes, pace->align);
        return;
    }
    pace->part_min = part < PART_MIN_BYTES ? part : PART_MIN_BYTES;
    pace->part_max = part > PART_MAX_BYTES ? part : PART_MAX_BYTES;
    uint64_t hot = start->limits->io_preferred > HOT_BYTES ? start->limits->io_preferred
                                                           : HOT_BYTES;
    pace->part_local = pace->is_summed && part > hot ? hot : part;
    if (start->learned_part_bytes > 0)
        part = start->learned_part_bytes;
    if (pace->is_summed && part > hot) {
        pace->part_uncut = part;
        part = hot;
    }
    uint64_t share = start->rest / (2 * (uint64_t)pace->in_flight);
    if (share < part)
        part = share;
    pace->part_bytes = round_up(clamp(part, pace->part_min, pace->part_max), pace->align);
}

void pst_pace_init(struct pst_pace *pace, const struct pst_pace_start *start)
{
    size_t kept = offsetof(struct pst_pace, in_flight);
    memset((char *)pace + kept, 0, sizeof(*pace) - kept);
    uint32_t most = start->max_at_plugin < PST_READ_IN_FLIGHT_MAX ? start->max_at_plugin
                                                                  : PST_READ_IN_FLIGHT_MAX;
    uint32_t bound = most;
    if (start->is_near && bound > NEAR_IN_FLIGHT)
        bound = NEAR_IN_FLIGHT;
    uint32_t at_start = 2 * start->cores;
    if (at_start < 4)
        at_start = 4;
    if (at_start > 16)
        at_start = 16;
    pace->usual = at_start;
    if (start->learned_in_flight > 0)
        at_start = start->learned_in_flight;
    pace->is_in_flight_fixed = start->asked_in_flight > 0;
    if (pace->is_in_flight_fixed) {
        at_start = start->asked_in_flight;
        bound = most;
    }
    pace->local_bytes_per_ns = start->is_near ? NEAR_BYTES_PER_NS : LOCAL_BYTES_PER_NS;
    pace->in_flight_max = bound > 0 ? bound : 1;
    pace->in_flight = (uint32_t)clamp(at_start, 1, pace->in_flight_max);
    pace->best = pace->in_flight;
    pace->step = start->learned_in_flight > 0 ? pace->best / 4 + 1 : pace->best;
    pace->is_summed = start->is_summed;
    start_length(pace, start);
}

uint64_t pst_pace_length(const struct pst_pace *pace, uint64_t left)
{
    uint64_t slack = pace->is_part_fixed ? 0 : pace->part_bytes / 4; /* no request for a crumb */
    return left < pace->part_bytes + slack ? left : pace->part_bytes;
}

/* ---- length ------------------------------------------------------------------------------------ */

static void note_length(struct pst_pace *pace, uint64_t bytes, uint64_t took_ns)
{
    int is_local = (double)bytes > pace->local_bytes_per_ns * (double)took_ns;
    uint64_t most = is_local ? pace->part_local : pace->part_max;
    int trend = 0;
    int is_cut_for_nothing = !is_local && pace->part_bytes < pace->part_uncut;
    if ((took_ns < SHORT_NS || is_cut_for_nothing) && pace->part_bytes < most)
        trend = 1;
    else if (took_ns > LONG_NS && pace->part_bytes >= 2 * pace->part_min)
        trend = -1;
    if (bytes < pace->part_bytes)
        return; /* the last range, or one of another length */
    if (trend != pace->trend) {
        pace->trend = trend;
        pace->n_at_size = 0;
    }
    if (trend == 0 || ++pace->n_at_size < TREND_RANGES)
        return;
    uint64_t wish = trend > 0 ? pace->part_bytes * 2 : pace->part_bytes / 2;
    pace->part_bytes = round_up(clamp(wish, pace->part_min, most), pace->align);
    pace->is_length_learned = 1;
    pace->n_at_size = 0;
}

/* ---- number ------------------------------------------------------------------------------------ */

static void set_level(struct pst_pace *pace, uint32_t level)
{
    if (level != pace->in_flight)
        pace->skip = pace->in_flight; /* those show the old level */
    pace->in_flight = level;
    pace->epoch_ns = 0;
}

static void try_higher(struct pst_pace *pace)
{
    uint32_t room = pace->in_flight_max - pace->best;
    int is_local = pace->best_rate > pace->local_bytes_per_ns * (double)pace->best;
    if (is_local && pace->best >= pace->usual)
        room = 0;
    uint32_t step = pace->step < room ? pace->step : room;
    pace->is_trying = step > 0;
    set_level(pace, pace->best + step);
}

static void judge_try(struct pst_pace *pace, double rate)
{
    double ideal = (double)pace->in_flight / (double)pace->best;
    pace->is_trying = 0;
    if (rate >= pace->best_rate * (1 + GAIN * (ideal - 1))) {
        pace->best = pace->in_flight;
        pace->best_rate = rate;
        try_higher(pace);
        return;
    }
    set_level(pace, pace->best);
    if (pace->step > pace->best / 2 && pace->step > 1) {
        pace->step = pace->best / 2 > 0 ? pace->best / 2 : 1;
        return; /* half as far, after a look at the old level */
    }
    pace->step = pace->best / 4 + 1;
    pace->hold = HOLD;
}

static void judge_level(struct pst_pace *pace, double rate)
{
    if (rate < pace->best_rate / 2 && pace->best > pace->usual) {
        uint32_t fewer = pace->best - pace->best / 4;
        pace->best = fewer > pace->usual ? fewer : pace->usual;
        pace->best_rate = 0; /* other times: measured anew */
        pace->hold = HOLD;
        set_level(pace, pace->best);
        return;
    }
    pace->best_rate = pace->best_rate > 0 ? (pace->best_rate + rate) / 2 : rate;
    if (pace->hold > 0)
        pace->hold--;
    else
        try_higher(pace);
}

static void note_number(struct pst_pace *pace, uint64_t bytes, uint64_t now_ns)
{
    if (pace->skip > 0) {
        pace->skip--;
        return;
    }
    pace->is_throttled = 0;
    if (pace->epoch_ns == 0) {
        pace->epoch_ns = now_ns;
        pace->epoch_bytes = pace->epoch_ranges = 0;
        return;
    }
    pace->epoch_bytes += bytes;
    pace->epoch_ranges++;
    uint32_t enough = pace->in_flight > EPOCH_RANGES ? pace->in_flight : EPOCH_RANGES;
    if (pace->epoch_ranges < enough || now_ns - pace->epoch_ns < EPOCH_NS)
        return;
    double rate = (double)pace->epoch_bytes / (double)(now_ns - pace->epoch_ns);
    pace->epoch_ns = now_ns;
    pace->epoch_bytes = pace->epoch_ranges = 0;
    pace->is_number_learned = 1;
    if (pace->is_trying)
        judge_try(pace, rate);
    else
        judge_level(pace, rate);
}

void pst_pace_note(struct pst_pace *pace, uint64_t bytes, uint64_t took_ns, uint64_t now_ns,
                   int is_full)
{
    pst_pace_took(pace, took_ns);
    if (!pace->is_part_fixed)
        note_length(pace, bytes, took_ns);
    if (!pace->is_in_flight_fixed && is_full)
        note_number(pace, bytes, now_ns);
}

void pst_pace_throttle(struct pst_pace *pace)
{
    if (pace->is_in_flight_fixed || pace->is_throttled)
        return;
    pace->is_throttled = pace->is_number_learned = 1;
    pace->best = pace->in_flight > 1 ? pace->in_flight / 2 : 1;
    pace->best_rate = 0;
    pace->step = 1;
    pace->hold = HOLD_THROTTLED;
    pace->is_trying = 0;
    set_level(pace, pace->best);
}

/* ---- lateness ---------------------------------------------------------------------------------- */

void pst_pace_took(struct pst_pace *pace, uint64_t took_ns)
{
    pace->took_ns[pace->n_took++ % PST_PACE_TIMES] = took_ns;
}

uint64_t pst_pace_learn_median(uint64_t learned_ns, uint64_t median_ns)
{
    uint64_t step_ns = learned_ns / 8 + 1;
    if (learned_ns == 0 || median_ns == 0)
        return learned_ns > 0 ? learned_ns : median_ns;
    if (median_ns > learned_ns)
        return median_ns - learned_ns > step_ns ? learned_ns + step_ns : median_ns;
    return learned_ns - median_ns > step_ns ? learned_ns - step_ns : median_ns;
}

uint64_t pst_pace_median_ns(const struct pst_pace *pace)
{
    uint64_t sorted[PST_PACE_TIMES];
    uint32_t n = pace->n_took < PST_PACE_TIMES ? pace->n_took : PST_PACE_TIMES;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > pace->took_ns[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = pace->took_ns[i];
    }
    return n > 0 ? sorted[n / 2] : 0;
}

uint64_t pst_pace_late_ns(const struct pst_pace *pace, uint32_t hedge_after_ms,
                          uint64_t learned_median_ns)
{
    if (hedge_after_ms == 0)
        return UINT64_MAX;
    if (hedge_after_ms != PST_HEDGE_AUTO)
        return (uint64_t)hedge_after_ms * 1000000u;
    uint64_t median_ns = pace->n_took < MEDIAN_RANGES ? learned_median_ns
                                                      : pst_pace_median_ns(pace);
    if (median_ns == 0 || median_ns > UINT64_MAX / LATE_MEDIANS)
        return UINT64_MAX;
    return median_ns * LATE_MEDIANS > LATE_MIN_NS ? median_ns * LATE_MEDIANS : LATE_MIN_NS;
}
