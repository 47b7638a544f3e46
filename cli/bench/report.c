/* report.c - what a benchmark found: a table, or one JSON object (docs/cli.md has its schema). */
#include <inttypes.h>
#include <string.h>

#include "bench.h"

static const struct {
    const char *name, *title;
    uint32_t per_100k;
} percentiles[] = {
    {"p50", "p50", 50000},
    {"p90", "p90", 90000},
    {"p99", "p99", 99000},
    {"p99_9", "p99.9", 99900},
};
#define N_PERCENTILES (sizeof(percentiles) / sizeof(percentiles[0]))

static bool is_used(const struct bench_count *count)
{
    return count->n_ok + count->n_failed > 0;
}

static double per(double value, double unit)
{
    return unit > 0 ? value / unit : 0;
}

struct total {
    double ops, bytes;
};

static struct total total_of(const struct bench *bench)
{
    struct total total = {0};
    for (size_t op = 0; op < BENCH_OPS; op++) {
        total.ops += (double)bench->counts[op].n_ok;
        total.bytes += (double)bench->counts[op].bytes;
    }
    return total;
}

/* ---- text --------------------------------------------------------------------------------------- */

static void add_head(struct cli_text_buf *out, const struct bench *bench)
{
    const struct bench_options *options = bench->options;

    cli_addf(out, "%s %s (plugin %s): %" PRIu64 " objects", options->kind, bench->location.uri,
             bench->info.plugin, bench->n_objects);
    if (!options->uses_existing) {
        cli_addf(out, " of ");
        cli_add_human(out, options->size);
    }
    cli_addf(out, ", %u at once%s", options->concurrency,
             options->has_threads ? " on threads" : "");
    if (options->part_bytes) {
        cli_addf(out, ", parts of ");
        cli_add_human(out, options->part_bytes);
    }
    if (options->zstd_level)
        cli_addf(out, ", zstd level %d", options->zstd_level);
    cli_addf(out, "\n\n%-5s %10s %8s %10s %8s", "", "done", "failed", "per s", "GB/s");
    for (size_t i = 0; i < N_PERCENTILES; i++)
        cli_addf(out, "  %5s us", percentiles[i].title);
    cli_addf(out, "    max us\n");
}

static void add_row(struct cli_text_buf *out, const char *name, const struct bench_count *count,
                    double seconds)
{
    cli_addf(out, "%-5s %10" PRIu64 " %8" PRIu64 " %10.1f %8.3f", name, count->n_ok,
             count->n_failed, per((double)count->n_ok, seconds),
             per((double)count->bytes / 1e9, seconds));
    for (size_t i = 0; i < N_PERCENTILES; i++)
        cli_addf(out, " %9.0f",
                 (double)histogram_percentile(&count->latency_ns, percentiles[i].per_100k) / 1e3);
    cli_addf(out, " %9.0f\n", (double)count->latency_ns.max / 1e3);
}

static void add_errors(struct cli_text_buf *out, const char *name, const struct bench_count *count)
{
    for (uint32_t i = 1; i < BENCH_CODES; i++) {
        if (count->errors[i] > 0)
            cli_addf(out, "%s errors: %s %" PRIu64 "\n", name, pst_rc_name(-(pst_rc)i),
                     count->errors[i]);
    }
}

static void add_text(struct cli_text_buf *out, const struct bench *bench)
{
    const struct bench_usage *usage = &bench->usage;
    struct total total = total_of(bench);

    add_head(out, bench);
    for (size_t op = 0; op < BENCH_OPS; op++) {
        if (is_used(&bench->counts[op]))
            add_row(out, bench_op_names[op], &bench->counts[op], usage->seconds);
    }
    cli_addf(out, "\n");
    for (size_t op = 0; op < BENCH_OPS; op++) {
        const struct bench_count *count = &bench->counts[op];
        add_errors(out, bench_op_names[op], count);
        if (count->entries > 0)
            cli_addf(out, "%s entries per s: %.0f\n", bench_op_names[op],
                     per((double)count->entries, usage->seconds));
        if (bench->options->zstd_level && count->stored_bytes > 0)
            cli_addf(out, "%s ratio: %.3f\n", bench_op_names[op],
                     (double)count->bytes / (double)count->stored_bytes);
    }
    cli_addf(out, "seconds: %.3f\nprocessor: %.3f s, %.1f us per operation", usage->seconds,
             usage->cpu_seconds, per(usage->cpu_seconds * 1e6, total.ops));
    if (total.bytes > 0)
        cli_addf(out, ", %.3f s per GiB",
                 per(usage->cpu_seconds, total.bytes / (1024.0 * 1024 * 1024)));
    cli_addf(out, "\nmemory: peak ");
    cli_add_human(out, usage->peak_rss_bytes);
    cli_addf(out, " resident, ");
    cli_add_human(out, usage->stats.peak_in_flight_bytes);
    cli_addf(out, " in flight of ");
    cli_add_human(out, usage->stats.budget_bytes);
    cli_addf(out, "\nretries: %" PRIu64 "\n", usage->stats.retries);
    if (bench->info.note && bench->info.note[0])
        cli_addf(out, "note: %s\n", bench->info.note);
}

/* ---- JSON --------------------------------------------------------------------------------------- */

static void add_options(struct cli_text_buf *out, const struct bench *bench)
{
    const struct bench_options *options = bench->options;

    cli_json_name(out, "options");
    cli_json_begin(out);
    if (!options->uses_existing)
        cli_json_number(out, "size_bytes", options->size);
    cli_json_number(out, "objects", bench->n_objects);
    cli_json_number(out, "concurrency", options->concurrency);
    cli_json_number(out, "duration_ms", options->duration_ms);
    cli_json_number(out, "warmup_ms", options->warmup_ms);
    cli_json_number(out, "part_bytes", options->part_bytes);
    if (strcmp(options->kind, "mixed") == 0)
        cli_json_number(out, "get_percent", options->get_percent);
    cli_json_number(out, "zstd_level", (uint64_t)options->zstd_level);
    cli_json_number(out, "seed", options->seed);
    cli_json_bool(out, "existing", options->uses_existing);
    cli_json_text(out, "driver", options->has_threads ? PST_STR("threads") : PST_STR("queue"));
    cli_json_close(out);
}

static void add_count(struct cli_text_buf *out, const char *name, const struct bench_count *count,
                      double seconds)
{
    const struct histogram *latency = &count->latency_ns;

    cli_json_name(out, name);
    cli_json_begin(out);
    cli_json_number(out, "done", count->n_ok);
    cli_json_number(out, "failed", count->n_failed);
    cli_json_number(out, "bytes", count->bytes);
    cli_json_number(out, "stored_bytes", count->stored_bytes);
    cli_json_number(out, "entries", count->entries);
    cli_json_real(out, "operations_per_second", per((double)count->n_ok, seconds));
    cli_json_real(out, "bytes_per_second", per((double)count->bytes, seconds));
    cli_json_real(out, "entries_per_second", per((double)count->entries, seconds));
    cli_json_name(out, "latency_ns");
    cli_json_begin(out);
    cli_json_number(out, "min", latency->min);
    cli_json_real(out, "mean", histogram_mean(latency));
    for (size_t i = 0; i < N_PERCENTILES; i++)
        cli_json_number(out, percentiles[i].name,
                        histogram_percentile(latency, percentiles[i].per_100k));
    cli_json_number(out, "max", latency->max);
    cli_json_close(out);
    cli_json_name(out, "errors");
    cli_json_begin(out);
    for (uint32_t i = 1; i < BENCH_CODES; i++) {
        if (count->errors[i] > 0)
            cli_json_number(out, pst_rc_name(-(pst_rc)i), count->errors[i]);
    }
    cli_json_close(out);
    cli_json_close(out);
}

static void add_usage(struct cli_text_buf *out, const struct bench *bench)
{
    const struct bench_usage *usage = &bench->usage;
    struct total total = total_of(bench);

    cli_json_name(out, "cpu");
    cli_json_begin(out);
    cli_json_real(out, "seconds", usage->cpu_seconds);
    cli_json_real(out, "ns_per_operation", per(usage->cpu_seconds * 1e9, total.ops));
    cli_json_real(out, "seconds_per_gib",
                  per(usage->cpu_seconds, total.bytes / (1024.0 * 1024 * 1024)));
    cli_json_close(out);
    cli_json_name(out, "memory");
    cli_json_begin(out);
    cli_json_number(out, "peak_rss_bytes", usage->peak_rss_bytes);
    cli_json_number(out, "peak_in_flight_bytes", usage->stats.peak_in_flight_bytes);
    cli_json_number(out, "peak_mapped_bytes", usage->stats.peak_mapped_bytes);
    cli_json_number(out, "budget_bytes", usage->stats.budget_bytes);
    cli_json_close(out);
    cli_json_name(out, "library");
    cli_json_begin(out);
    cli_json_number(out, "retries", usage->stats.retries);
    cli_json_number(out, "ranges", usage->stats.ranges);
    cli_json_number(out, "hedges", usage->stats.hedges);
    cli_json_number(out, "hedges_won", usage->stats.hedges_won);
    cli_json_number(out, "threads", usage->stats.threads);
    cli_json_close(out);
}

static void add_json(struct cli_text_buf *out, const struct bench *bench)
{
    const pst_store_info *info = &bench->info;
    const char *uri = bench->location.uri;

    cli_json_begin(out);
    cli_json_text(out, "schema", PST_STR("penstock-bench"));
    cli_json_number(out, "schema_version", 1);
    cli_json_text(out, "penstock", pst_str_of(pst_version(), strlen(pst_version())));
    cli_json_text(out, "kind", pst_str_of(bench->options->kind, strlen(bench->options->kind)));
    cli_json_bytes(out, "uri", pst_str_of(uri, strlen(uri)));
    cli_json_text(out, "plugin", pst_str_of(info->plugin, strlen(info->plugin)));
    cli_json_text(out, "note",
                  info->note ? pst_str_of(info->note, strlen(info->note)) : PST_STR(""));
    cli_json_name(out, "started");
    cli_add(out, "\"", 1);
    cli_add_time(out, bench->started_ns, true);
    cli_add(out, "\"", 1);
    add_options(out, bench);
    cli_json_real(out, "seconds", bench->usage.seconds);
    cli_json_name(out, "operations");
    cli_json_begin(out);
    for (size_t op = 0; op < BENCH_OPS; op++) {
        if (is_used(&bench->counts[op]))
            add_count(out, bench_op_names[op], &bench->counts[op], bench->usage.seconds);
    }
    cli_json_close(out);
    add_usage(out, bench);
    cli_json_end(out);
}

void bench_report(const struct bench *bench)
{
    struct cli_text_buf out = {0};

    if (bench->options->is_json)
        add_json(&out, bench);
    else
        add_text(&out, bench);
    cli_put_text(bench->cli, &out);
    cli_text_fini(&out);
}
