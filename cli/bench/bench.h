/* bench.h - the parts of `penstock bench`.
 *
 * A run has a load (get, put, mixed, list), a store, objects of its own in a folder of its own, and
 * phases: the objects are written, the load warms up, the load is measured, the objects go. Each phase
 * hands out operations one by one (bench_next) to a driver, which keeps --concurrency of them under
 * way: through one completion queue, or, where a queue cannot say what is wanted, on threads. */
#ifndef PST_CLI_BENCH_H
#define PST_CLI_BENCH_H

#include "../cli.h"
#include "histogram.h"

enum bench_op { BENCH_GET, BENCH_PUT, BENCH_LIST };
#define BENCH_OPS 3u
extern const char *const bench_op_names[BENCH_OPS];

struct bench_options {
    const char *kind; /* "get", "put", "mixed", "list" */
    uint64_t size, count, duration_ms, warmup_ms, part_bytes, seed;
    uint32_t concurrency, get_percent;
    int32_t zstd_level;
    bool keeps, uses_existing, may_be_beside;
    bool is_json;
    bool has_threads; /* one thread an operation, instead of a queue */
};

/* ---- data (data.c) ------------------------------------------------------------------------------ */

/* Incompressible bytes, made once. Objects are cut from them at different places, so no two of the
 * first million are alike and none costs anything when it is written. */
struct bench_data {
    char *bytes;
    size_t n_bytes, mapped_bytes;
    uint64_t n_starts; /* of objects, a page apart */
};
int bench_data_make(struct cli *cli, uint64_t size, uint64_t count, uint64_t seed,
                    struct bench_data *out);
void bench_data_free(struct bench_data *data);

/* The spans of object number `index`; at most bench_data_spans(data, size). Returns how many. */
size_t bench_data_spans(const struct bench_data *data, uint64_t size);
size_t bench_data_cut(const struct bench_data *data, uint64_t index, uint64_t size, pst_iov *out);

/* A number that looks random and is the same in every run: splitmix64. */
uint64_t bench_random(uint64_t seed);

/* ---- counts (run.c) ----------------------------------------------------------------------------- */

#define BENCH_CODES 32u
struct bench_count {
    uint64_t n_ok, n_failed, bytes, stored_bytes, entries;
    uint64_t errors[BENCH_CODES]; /* by -code; the last also counts codes beyond it */
    struct histogram latency_ns;  /* of those that succeeded */
};

/* What happened to one operation. */
struct bench_outcome {
    enum bench_op op;
    pst_rc rc;
    const pst_error *err; /* may be NULL */
    uint64_t latency_ns, bytes, stored_bytes, entries;
};

struct bench_usage {
    double seconds, cpu_seconds;
    uint64_t peak_rss_bytes;
    pst_stats stats; /* counters since the measuring began; peaks of the whole run */
};

struct bench_phase {
    const char *kind;   /* what to do: as bench_options.kind */
    uint64_t n_ops;     /* PST_UNKNOWN: until end_ns */
    uint64_t end_ns;    /* 0: after n_ops */
    bool makes_objects; /* puts make what will be read */
    atomic_ullong n_tickets, n_gets, n_puts;
};

struct bench {
    struct cli *cli;
    const struct bench_options *options;
    struct cli_location location;
    pst_store_info info;
    char *below;  /* all keys of the location: "" or ends in '/' */
    char *folder; /* ... of this run: below + "penstock-bench-.../" */
    char **names; /* n_objects keys that were there, with --existing */
    uint64_t n_objects;
    uint32_t n_levels_missing; /* directories above `folder` that were not there */
    uint64_t n_made, n_put;    /* objects that there may be: to read; of puts that were measured */
    uint64_t n_serials;        /* of the phases before */
    struct bench_data data;
    atomic_size_t *n_lent; /* buffers that show `data` and are still held by the library */
    struct bench_phase *phase;
    struct bench_count counts[BENCH_OPS]; /* under mutex */
    bool has_said[BENCH_CODES];           /* likewise */
    pthread_mutex_t mutex;
    struct bench_usage usage;
    int64_t started_ns; /* the measuring, since 1970 */
};

/* The next operation of the phase: what, and on which object. `serial` differs for every put of a run.
 * False at the phase's end and after an interruption. Any thread. */
struct bench_ticket {
    enum bench_op op;
    uint64_t index, serial;
};
bool bench_next(struct bench *bench, struct bench_ticket *out);

/* Count an operation that ended; the first failure of each kind is said. Any thread. */
void bench_count(struct bench *bench, const struct bench_outcome *outcome);

/* Run one phase to its end. A code other than 0 means that it could not go on. */
int bench_run_phase(struct bench *bench, struct bench_phase *phase);

uint64_t bench_now_ns(void);

/* Carry out the run: everything between the options and the report. */
int bench_run(struct bench *bench);

/* ---- drivers (drive_queue.c, drive_threads.c) --------------------------------------------------- */

int bench_drive_queue(struct bench *bench);
int bench_drive_threads(struct bench *bench);

/* ---- objects (objects.c) ------------------------------------------------------------------------ */

#define BENCH_KEY_MAX 1200u

/* Open the location, see that it may be written to, choose the folder or find what is there. */
int bench_place_open(struct bench *bench);
void bench_place_fini(struct bench *bench);
/* The key that an operation works on. */
pst_str bench_key(const struct bench *bench, const struct bench_ticket *ticket,
                  char out[BENCH_KEY_MAX]);
/* Remove what this run made, and nothing else; also after an interruption. */
int bench_clean(struct bench *bench);

/* ---- report (report.c) -------------------------------------------------------------------------- */

void bench_report(const struct bench *bench);

#endif
