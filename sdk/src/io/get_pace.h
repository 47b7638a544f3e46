/* get_pace.h - how long the ranges of a read are, how many travel at once, when one is late. Pure: the
 * clock is an argument. */
#ifndef PST_IO_GET_PACE_H
#define PST_IO_GET_PACE_H

#include <penstock/object.h>
#include <penstock/plugin.h>

#define PST_PACE_TIMES 32u /* how many of the latest ranges the median is taken of */

/* What is known before the first range. */
struct pst_pace_start {
    const pst_limits *limits;
    uint64_t rest;             /* bytes that the ranges must bring */
    uint64_t asked_part_bytes; /* by the caller; 0: adapt */
    uint32_t asked_in_flight;  /* by the caller; 0: adapt */
    uint32_t max_at_plugin;    /* what the store takes */
    uint32_t cores;
    uint64_t learned_part_bytes; /* by earlier reads of this store; 0: nothing */
    uint32_t learned_in_flight;
    int is_near;   /* the store has no endpoint: a file system */
    int is_summed; /* each range is read once more by the processor */
};

struct pst_pace {
    /* The latest requests; pst_pace_init keeps them. */
    uint64_t took_ns[PST_PACE_TIMES];
    uint32_t n_took;

    uint32_t in_flight;  /* how many ranges may travel at once */
    uint64_t part_bytes; /* how long the next range is */

    /* Bounds. */
    uint64_t part_min, part_max, align;
    uint64_t part_uncut; /* what it would be but for the checksum; 0: what it is */
    uint64_t part_local; /* most of a range that comes at the speed of memory */
    uint32_t in_flight_max;
    uint32_t usual;            /* in_flight where nothing is known: two per core, 4 to 16 */
    double local_bytes_per_ns; /* a range this fast waits for a processor, not for the store */
    int is_part_fixed, is_in_flight_fixed, is_summed;
    int is_length_learned; /* by the clock, here or in an earlier read */

    uint32_t n_at_size; /* ranges in a row that were too quick (or too slow) for their length */
    int trend;

    /* The search for in_flight, in epochs of some ranges each. */
    uint64_t epoch_ns, epoch_bytes; /* its begin, what it brought; begin 0: none runs */
    uint32_t epoch_ranges;
    uint32_t skip;         /* ranges that were under way when in_flight changed */
    uint32_t best;         /* the level with the best rate so far ... */
    double best_rate;      /* ... and that rate, bytes per ns; 0: not measured */
    uint32_t step;         /* how far above it the next try is */
    uint32_t hold;         /* epochs until then */
    int is_trying;         /* in_flight is such a try */
    int is_throttled;      /* ... and those under way may say so too */
    int is_number_learned; /* from an epoch, or since the store asked for less */
};

/* How long a range is where nothing is known but the store: what it prefers, or 8 MiB, at most `rest`,
 * on the grid of its I/O. */
uint64_t pst_range_part_bytes(uint64_t rest, const pst_limits *limits);

void pst_pace_init(struct pst_pace *pace, const struct pst_pace_start *start);

/* How long the next range is when `left` bytes are left. Above 0 unless left is 0. */
uint64_t pst_pace_length(const struct pst_pace *pace, uint64_t left);

/* A range of `bytes` came in at now_ns, took_ns after it was asked for. is_full: as many others as may
 * travel do; at the end of a read fewer do, and the rate of the whole says nothing. */
void pst_pace_note(struct pst_pace *pace, uint64_t bytes, uint64_t took_ns, uint64_t now_ns,
                   int is_full);

/* The store asked for less. */
void pst_pace_throttle(struct pst_pace *pace);

/* A request took so long; nothing else is learned from it. */
void pst_pace_took(struct pst_pace *pace, uint64_t took_ns);

/* Move what earlier reads found (0: none did) towards a new median (0: none). In small steps, so that
 * it stays the middle of many and one slow read does not count. */
uint64_t pst_pace_learn_median(uint64_t learned_ns, uint64_t median_ns);

/* Of the latest ranges; 0 when there are none. */
uint64_t pst_pace_median_ns(const struct pst_pace *pace);

/* After how long a range is late: as asked (PST_HEDGE_AUTO: from the median, or what earlier reads found
 * while this one has fewer than four ranges). UINT64_MAX: never, or not known yet. */
uint64_t pst_pace_late_ns(const struct pst_pace *pace, uint32_t hedge_after_ms,
                          uint64_t learned_median_ns);

#endif
