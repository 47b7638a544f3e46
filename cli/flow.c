/* flow.c - options of transfers that are about bytes, and the account that --stats gives of them.
 *
 * A verb initialises the flow from its options, asks it to fill in the library's, and reports each read,
 * write and object to it; counters are atomic, since workers do so side by side. Retries, hedges and
 * memory come from the context, which serves this run alone. Stores are described when the work is done,
 * because a store may learn only on the way what it has to do without.
 *
 * The account goes to stderr, in lines for people or as one JSON object; docs/cli.md has its members. It
 * is given when the command got as far as moving bytes, and -q does not hide what was asked for. */
#include "flow.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- options ------------------------------------------------------------------------------------ */

int cli_flow_init(struct cli *cli, const struct cli_args *args, struct cli_flow *flow)
{
    const char *decompress;

    pthread_mutex_init(&flow->mutex, NULL);
    flow->start_s = now_s();
    flow->start_cpu_s = cpu_s();
    flow->verifies = cli_flag(args, "verify") > 0;
    flow->tells = cli_flag(args, "stats") > 0;
    flow->is_json = cli_flag(args, "json") > 0;
    /* put prints what it wrote as JSON, too. */
    if (flow->is_json && !flow->tells && strcmp(args->verb->name, "put") != 0)
        return cli_usage(cli, "--json is about --stats, which was not given");
    if (cli_given(args, "part-size"))
        flow->part_bytes = cli_number(args, "part-size");
    if (cli_given(args, "concurrency"))
        flow->n_at_once = (uint32_t)cli_number(args, "concurrency");
    if (cli_has_option(args->verb, "compress") && cli_given(args, "compress"))
        flow->zstd_level = (int32_t)cli_number(args, "compress");
    decompress = cli_has_option(args->verb, "decompress") ? cli_text(args, "decompress") : NULL;
    if (decompress && strcmp(decompress, "name") == 0)
        flow->decode = PST_DECODE_BY_NAME;
    else if (decompress && strcmp(decompress, "always") == 0)
        flow->decode = PST_DECODE_ZSTD;
    else if (decompress)
        return cli_usage(cli, "--decompress=%s: must be name or always", decompress);
    return CLI_OK;
}

void cli_flow_fini(struct cli_flow *flow)
{
    for (size_t i = 0; i < flow->locked.n_stores; i++) {
        free(flow->locked.stores[i].uri);
        free(flow->locked.stores[i].plugin);
        free(flow->locked.stores[i].note);
    }
    pthread_mutex_destroy(&flow->mutex);
}

bool cli_flow_compresses(const struct cli_flow *flow, pst_str name)
{
    return flow->zstd_level > 0 && !pst_key_is_zstd(name);
}

void cli_flow_write_options(const struct cli_flow *flow, bool compresses, pst_write_options *out)
{
    out->part_bytes = flow->part_bytes;
    out->max_in_flight = flow->n_at_once;
    out->zstd_level = compresses ? flow->zstd_level : 0;
}

uint64_t cli_read_part(uint64_t part_bytes)
{
    if (part_bytes > 0 && part_bytes < PST_READ_PART_MIN)
        return PST_READ_PART_MIN;
    return part_bytes < PST_READ_PART_MAX ? part_bytes : PST_READ_PART_MAX;
}

void cli_flow_read_options(const struct cli_flow *flow, pst_read_options *out)
{
    out->part_bytes = cli_read_part(flow->part_bytes);
    out->max_in_flight = flow->n_at_once;
    out->decode = flow->decode;
    if (flow->verifies)
        out->flags |= PST_READ_VERIFY;
}

/* ---- account ------------------------------------------------------------------------------------ */

void cli_flow_add_store(struct cli_flow *flow, const char *uri, pst_store *store)
{
    pst_store_info info = {.struct_size = sizeof(info)};

    if (!flow->tells || !store)
        return;
    pst_store_describe(store, &info);
    pthread_mutex_lock(&flow->mutex);
    size_t n = flow->locked.n_stores;
    if (n < CLI_FLOW_STORES) {
        const char *note = info.note ? info.note : "";
        flow->locked.stores[n].uri = cli_dup(uri, strlen(uri));
        flow->locked.stores[n].plugin = cli_dup(info.plugin, strlen(info.plugin));
        flow->locked.stores[n].note = cli_dup(note, strlen(note));
        flow->locked.n_stores++;
    }
    pthread_mutex_unlock(&flow->mutex);
}

static void raise_to(atomic_ullong *most, unsigned long long value)
{
    unsigned long long seen = atomic_load(most);
    while (seen < value && !atomic_compare_exchange_weak(most, &seen, value))
        continue;
}

void cli_flow_add_read(struct cli_flow *flow, const pst_read_info *info)
{
    atomic_fetch_add(&flow->n_ranges, info->n_ranges);
    raise_to(&flow->part_bytes_most, info->part_bytes);
    raise_to(&flow->at_once_most, info->max_in_flight);
}

void cli_flow_add_write(struct cli_flow *flow, const pst_write_result *result)
{
    atomic_fetch_add(&flow->n_parts, result->n_parts);
}

void cli_flow_add_object(struct cli_flow *flow, uint64_t bytes, uint64_t stored_bytes)
{
    atomic_fetch_add(&flow->n_objects, 1);
    atomic_fetch_add(&flow->bytes, bytes);
    atomic_fetch_add(&flow->stored_bytes, stored_bytes);
}

void cli_flow_add_crc(struct cli_flow *flow, uint32_t crc)
{
    pthread_mutex_lock(&flow->mutex);
    flow->locked.has_crc = true;
    flow->locked.crc = crc;
    pthread_mutex_unlock(&flow->mutex);
}

/* ---- telling ------------------------------------------------------------------------------------ */

/* One moment's figures, so that text and JSON say the same. */
struct account {
    uint64_t n_objects, bytes, stored_bytes, n_ranges, n_parts, n_verified, n_unverified;
    double seconds, cpu_seconds, ratio;
    bool has_crc;
    char crc[PST_CRC32C_TEXT_SIZE];
    pst_stats stats;
};

static struct account take_account(struct cli *cli, struct cli_flow *flow)
{
    struct account account = {
        .n_objects = atomic_load(&flow->n_objects),
        .bytes = atomic_load(&flow->bytes),
        .stored_bytes = atomic_load(&flow->stored_bytes),
        .n_ranges = atomic_load(&flow->n_ranges),
        .n_parts = atomic_load(&flow->n_parts),
        .n_verified = atomic_load(&flow->n_verified),
        .n_unverified = atomic_load(&flow->n_unverified),
        .seconds = now_s() - flow->start_s,
        .cpu_seconds = cpu_s() - flow->start_cpu_s,
        .ratio = 1,
        .stats = {.struct_size = sizeof(account.stats)},
    };

    if (account.stored_bytes > 0)
        account.ratio = (double)account.bytes / (double)account.stored_bytes;
    account.has_crc = flow->locked.has_crc && account.n_objects == 1;
    if (account.has_crc)
        pst_crc32c_text(flow->locked.crc, account.crc);
    pst_context_stats(cli->context, &account.stats);
    return account;
}

static void tell_json(struct cli *cli, const struct cli_flow *flow, const struct account *account)
{
    struct cli_text_buf out = {0};

    cli_json_begin(&out);
    cli_json_text(&out, "command", pst_str_of(cli->verb, strlen(cli->verb)));
    cli_json_number(&out, "objects", account->n_objects);
    cli_json_number(&out, "bytes", account->bytes);
    cli_json_number(&out, "stored_bytes", account->stored_bytes);
    cli_json_real(&out, "ratio", account->ratio);
    if (account->has_crc)
        cli_json_text(&out, "checksum", pst_str_of(account->crc, strlen(account->crc)));
    cli_json_real(&out, "seconds", account->seconds);
    cli_json_real(&out, "bytes_per_second", (double)account->bytes / account->seconds);
    cli_json_real(&out, "cpu_seconds", account->cpu_seconds);
    cli_json_number(&out, "ranges", account->n_ranges);
    cli_json_number(&out, "parts", account->n_parts);
    cli_json_number(&out, "range_bytes_most", atomic_load(&flow->part_bytes_most));
    cli_json_number(&out, "ranges_at_once_most", atomic_load(&flow->at_once_most));
    cli_json_number(&out, "retries", account->stats.retries);
    cli_json_number(&out, "hedges", account->stats.hedges);
    cli_json_number(&out, "hedges_won", account->stats.hedges_won);
    cli_json_number(&out, "http_requests", account->stats.http_requests);
    cli_json_number(&out, "http_connections", account->stats.http_opened);
    cli_json_number(&out, "http_reused", account->stats.http_reused);
    cli_json_real(&out, "http_name_seconds", (double)account->stats.http_name_ns / 1e9);
    cli_json_real(&out, "http_connect_seconds", (double)account->stats.http_connect_ns / 1e9);
    cli_json_real(&out, "http_tls_seconds", (double)account->stats.http_tls_ns / 1e9);
    cli_json_number(&out, "peak_in_flight_bytes", account->stats.peak_in_flight_bytes);
    cli_json_number(&out, "peak_mapped_bytes", account->stats.peak_mapped_bytes);
    cli_json_number(&out, "budget_bytes", account->stats.budget_bytes);
    cli_json_number(&out, "verified", account->n_verified);
    cli_json_number(&out, "not_verified", account->n_unverified);
    cli_json_name(&out, "stores");
    cli_add(&out, "[", 1);
    for (size_t i = 0; i < flow->locked.n_stores; i++) {
        const char *uri = flow->locked.stores[i].uri, *plugin = flow->locked.stores[i].plugin;
        const char *note = flow->locked.stores[i].note;
        cli_json_begin(&out);
        cli_json_bytes(&out, "uri", pst_str_of(uri, strlen(uri)));
        cli_json_text(&out, "plugin", pst_str_of(plugin, strlen(plugin)));
        cli_json_text(&out, "note", pst_str_of(note, strlen(note)));
        cli_json_close(&out);
    }
    cli_add(&out, "]", 1);
    cli_json_end(&out);
    cli_put_stderr(cli, &out);
    cli_text_fini(&out);
}

/* How the network was used, by what used it. */
static void tell_http(struct cli *cli, const pst_stats *stats)
{
    double to_ms_each = 1e-6 / (double)(stats->http_opened > 0 ? stats->http_opened : 1);

    if (stats->http_requests == 0)
        return;
    cli_tell(cli,
             "stats: http requests %" PRIu64 ", %" PRIu64 " over used connections; connections "
             "%" PRIu64 ", each %.1f ms for its name, %.1f to connect, %.1f for TLS",
             stats->http_requests, stats->http_reused, stats->http_opened,
             (double)stats->http_name_ns * to_ms_each, (double)stats->http_connect_ns * to_ms_each,
             (double)stats->http_tls_ns * to_ms_each);
}

static void tell_text(struct cli *cli, const struct cli_flow *flow, const struct account *account)
{
    struct cli_text_buf out = {0};

    cli_addf(&out, "%" PRIu64 " bytes", account->bytes);
    if (account->n_objects != 1)
        cli_addf(&out, " of %" PRIu64 " objects", account->n_objects);
    if (account->stored_bytes != account->bytes)
        cli_addf(&out, ", stored as %" PRIu64 " (ratio %.3f)", account->stored_bytes,
                 account->ratio);
    if (account->has_crc)
        cli_addf(&out, ", %s", account->crc);
    cli_addf(&out, ", in %.3f s, %.3f GB/s, %.3f s of processor", account->seconds,
             (double)account->bytes / account->seconds / 1e9, account->cpu_seconds);
    cli_add(&out, "", 1);
    cli_tell(cli, "stats: %s", out.data);
    out.len = 0;
    cli_addf(&out, "ranges %" PRIu64, account->n_ranges);
    if (account->n_ranges > 0) {
        cli_addf(&out, " of up to ");
        cli_add_human(&out, atomic_load(&flow->part_bytes_most));
        cli_addf(&out, ", %llu at once", (unsigned long long)atomic_load(&flow->at_once_most));
    }
    cli_addf(&out, "; parts %" PRIu64 "; retries %" PRIu64 ", hedges %" PRIu64 " (won %" PRIu64 ")",
             account->n_parts, account->stats.retries, account->stats.hedges,
             account->stats.hedges_won);
    cli_addf(&out, "; memory ");
    cli_add_human(&out, account->stats.peak_in_flight_bytes);
    cli_addf(&out, " in flight of ");
    cli_add_human(&out, account->stats.budget_bytes);
    cli_addf(&out, ", ");
    cli_add_human(&out, account->stats.peak_mapped_bytes);
    cli_addf(&out, " mapped");
    if (account->n_verified + account->n_unverified > 0)
        cli_addf(&out, "; verified %" PRIu64 ", not verified %" PRIu64, account->n_verified,
                 account->n_unverified);
    cli_add(&out, "", 1);
    cli_tell(cli, "stats: %s", out.data);
    tell_http(cli, &account->stats);
    for (size_t i = 0; i < flow->locked.n_stores; i++) {
        const char *note = flow->locked.stores[i].note;
        cli_tell(cli, "stats: %s: plugin %s%s%s", flow->locked.stores[i].uri,
                 flow->locked.stores[i].plugin, note[0] ? "; " : "", note);
    }
    cli_text_fini(&out);
}

void cli_flow_tell(struct cli *cli, struct cli_flow *flow)
{
    if (!flow->tells || !cli->context)
        return;
    struct account account = take_account(cli, flow);
    if (flow->is_json)
        tell_json(cli, flow, &account);
    else
        tell_text(cli, flow, &account);
}
