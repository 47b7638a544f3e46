/* run.c - a benchmark from start to end.
 *
 * The objects are written first, with the same driver but without being measured; then the load runs
 * for --warmup, uncounted; then it is measured: wall time, processor time of the whole process, the
 * latency of each operation from the moment it was handed to the library until its result was there.
 * The load is closed: an operation begins when another has ended, so a store that stalls is asked less
 * often, and the highest percentiles are those of --concurrency operations, not of arrivals at a rate.
 *
 * An operation that fails is counted by its code and the load goes on; the first of each code is said.
 * An interruption ends the phase; what is under way is cancelled, the objects are removed, and what was
 * measured so far is not reported.
 *
 * The peak of resident memory is that of the measured phase where the kernel lets it be reset
 * (/proc/self/clear_refs), else that of the process. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define LISTINGS 10u /* without --duration */

const char *const bench_op_names[BENCH_OPS] = {"get", "put", "list"};

uint64_t bench_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- handing out -------------------------------------------------------------------------------- */

static enum bench_op choose_op(const struct bench *bench, uint64_t ticket)
{
    const char *kind = bench->phase->kind;

    if (strcmp(kind, "mixed") == 0)
        return bench_random(bench->options->seed ^ bench_random(ticket)) % 100 <
                       bench->options->get_percent
                   ? BENCH_GET
                   : BENCH_PUT;
    return strcmp(kind, "get") == 0 ? BENCH_GET : strcmp(kind, "put") == 0 ? BENCH_PUT : BENCH_LIST;
}

bool bench_next(struct bench *bench, struct bench_ticket *out)
{
    struct bench_phase *phase = bench->phase;
    uint64_t ticket;

    if (cli_interrupted(bench->cli) || (phase->end_ns != 0 && bench_now_ns() >= phase->end_ns))
        return false;
    ticket = atomic_fetch_add(&phase->n_tickets, 1);
    if (ticket >= phase->n_ops)
        return false;
    out->op = choose_op(bench, ticket);
    out->serial = atomic_fetch_add(out->op == BENCH_PUT ? &phase->n_puts : &phase->n_gets, 1);
    out->index = bench->n_objects > 0 ? out->serial % bench->n_objects : 0;
    out->serial += bench->n_serials;
    return true;
}

void bench_count(struct bench *bench, const struct bench_outcome *outcome)
{
    struct bench_count *count = &bench->counts[outcome->op];
    uint32_t code = outcome->rc < 0 && outcome->rc > -(pst_rc)BENCH_CODES ? (uint32_t)-outcome->rc
                                                                          : BENCH_CODES - 1;
    bool is_first = false;

    /* What an interruption ended has not failed. */
    if (outcome->rc == PST_E_CANCELLED && cli_interrupted(bench->cli))
        return;
    pthread_mutex_lock(&bench->mutex);
    if (outcome->rc == PST_OK) {
        count->n_ok++;
        count->bytes += outcome->bytes;
        count->stored_bytes += outcome->stored_bytes;
        count->entries += outcome->entries;
        cli_progress_add(bench->cli, 1, outcome->bytes);
        histogram_add(&count->latency_ns, outcome->latency_ns);
    } else {
        count->n_failed++;
        count->errors[code]++;
        is_first = !bench->has_said[code];
        bench->has_said[code] = true;
    }
    pthread_mutex_unlock(&bench->mutex);
    if (is_first)
        cli_fail_rc_at(bench->cli, outcome->rc, outcome->err, "%s: ", bench_op_names[outcome->op]);
}

/* ---- phases ------------------------------------------------------------------------------------- */

int bench_run_phase(struct bench *bench, struct bench_phase *phase)
{
    uint64_t n_puts;
    int code;

    bench->phase = phase;
    memset(bench->counts, 0, sizeof(bench->counts));
    code = bench->options->has_threads || strcmp(phase->kind, "list") == 0
               ? bench_drive_threads(bench)
               : bench_drive_queue(bench);
    n_puts = atomic_load(&phase->n_puts);
    bench->n_serials += n_puts;
    if (n_puts > bench->n_objects)
        n_puts = bench->n_objects;
    if (phase->makes_objects)
        bench->n_made = n_puts;
    else if (n_puts > bench->n_put)
        bench->n_put = n_puts;
    return cli_interrupted(bench->cli) ? CLI_INTERRUPTED : code;
}

static int prepare(struct bench *bench)
{
    struct bench_phase phase = {.kind = "put", .n_ops = bench->n_objects, .makes_objects = true};
    int code;

    cli_progress_start(bench->cli, "writing", bench->n_objects,
                       bench->n_objects * bench->options->size);
    code = bench_run_phase(bench, &phase);
    cli_progress_stop(bench->cli); /* nothing is drawn while it is measured */
    if (code == CLI_OK && bench->counts[BENCH_PUT].n_failed > 0) {
        for (uint32_t i = 1; i < BENCH_CODES; i++) {
            if (bench->counts[BENCH_PUT].errors[i] > 0)
                return pst_rc_exit_code(-(pst_rc)i); /* which was said */
        }
    }
    return code;
}

static int warm_up(struct bench *bench)
{
    struct bench_phase phase = {
        .kind = bench->options->kind,
        .n_ops = PST_UNKNOWN,
        .end_ns = bench_now_ns() + bench->options->warmup_ms * 1000000u,
    };
    int code = bench_run_phase(bench, &phase);

    memset(bench->has_said, 0, sizeof(bench->has_said));
    return code;
}

/* ---- measuring ---------------------------------------------------------------------------------- */

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Make VmHWM begin anew. Where that is not allowed it keeps the peak of all that was before. */
static void reset_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = write(fd, "5", 1);
    (void)n;
    close(fd);
}

static uint64_t peak_rss(void)
{
    struct rusage usage;
    uint64_t kib = 0;
    char line[128];
    FILE *file = fopen("/proc/self/status", "re");

    while (file && kib == 0 && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "VmHWM: %" SCNu64 " kB", &kib) != 1)
            kib = 0;
    }
    if (file)
        fclose(file);
    getrusage(RUSAGE_SELF, &usage);
    return (kib > 0 ? kib : (uint64_t)usage.ru_maxrss) * 1024u;
}

static int measure(struct bench *bench)
{
    const struct bench_options *options = bench->options;
    bool lists = strcmp(options->kind, "list") == 0;
    struct bench_phase phase = {.kind = options->kind,
                                .n_ops = lists ? LISTINGS : bench->n_objects};
    struct bench_usage *usage = &bench->usage;
    pst_stats before = {.struct_size = sizeof(before)};
    struct timespec now;
    uint64_t start_ns;
    double start_cpu;
    int code;

    if (options->duration_ms > 0) {
        phase.n_ops = PST_UNKNOWN;
        phase.end_ns = bench_now_ns() + options->duration_ms * 1000000u;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    bench->started_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    pst_context_stats(bench->cli->context, &before);
    reset_peak();
    start_cpu = cpu_seconds();
    start_ns = bench_now_ns();
    code = bench_run_phase(bench, &phase);
    usage->seconds = (double)(bench_now_ns() - start_ns) / 1e9;
    usage->cpu_seconds = cpu_seconds() - start_cpu;
    usage->peak_rss_bytes = peak_rss();
    usage->stats.struct_size = sizeof(usage->stats);
    pst_context_stats(bench->cli->context, &usage->stats);
    pst_store_describe(bench->location.store, &bench->info); /* its note may be new */
    usage->stats.retries -= before.retries;
    usage->stats.busy -= before.busy;
    usage->stats.ranges -= before.ranges;
    usage->stats.hedges -= before.hedges;
    usage->stats.hedges_won -= before.hedges_won;
    return code;
}

/* ---- the run ------------------------------------------------------------------------------------ */

static int exit_code(const struct bench *bench)
{
    struct cli_tally tally = {0};

    for (size_t op = 0; op < BENCH_OPS; op++) {
        if (bench->counts[op].n_ok > 0)
            cli_tally_add(&tally, CLI_OK);
        for (uint32_t i = 1; i < BENCH_CODES; i++) {
            if (bench->counts[op].errors[i] > 0)
                cli_tally_add(&tally, pst_rc_exit_code(-(pst_rc)i));
        }
    }
    return cli_tally_exit(&tally);
}

int bench_run(struct bench *bench)
{
    const struct bench_options *options = bench->options;
    bool reads = strcmp(options->kind, "put") != 0;
    static atomic_size_t n_lent;
    int code, clean_code;

    bench->n_lent = &n_lent;
    pthread_mutex_init(&bench->mutex, NULL);
    code = bench_place_open(bench);
    if (code == CLI_OK && !options->uses_existing)
        code = bench_data_make(bench->cli, options->size, options->count, options->seed,
                               &bench->data);
    if (code == CLI_OK && reads && !options->uses_existing)
        code = prepare(bench);
    if (code == CLI_OK && options->warmup_ms > 0)
        code = warm_up(bench);
    if (code == CLI_OK)
        code = measure(bench);
    clean_code = bench_clean(bench);
    if (code == CLI_OK) {
        bench_report(bench);
        code = exit_code(bench);
    }
    if (code == CLI_OK)
        code = clean_code;
    /* Memory that is still being written to a store stays until the process ends. */
    if (atomic_load(&n_lent) == 0 && !cli_interrupted(bench->cli))
        bench_data_free(&bench->data);
    bench_place_fini(bench);
    pthread_mutex_destroy(&bench->mutex);
    return code;
}
