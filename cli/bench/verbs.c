/* verbs.c - penstock bench get, put, mixed and list. */
#include <string.h>

#include "bench.h"

/* clang-format off */
#define OPTIONS_LOAD(SIZE_DEFAULT, CONCURRENCY_DEFAULT)                                            \
    {'s', CLI_SIZE, "size", "SIZE", "length of each object", SIZE_DEFAULT, 0, (uint64_t)1 << 46},  \
    {'c', CLI_COUNT, "count", "N", "objects", "1000", 1, 100000000},                               \
    {0, CLI_COUNT, "concurrency", "N", "operations under way at once", CONCURRENCY_DEFAULT,        \
     1, 4096},                                                                                     \
    {0, CLI_DURATION, "duration", "DURATION", "go on for so long, round and round the objects",    \
     NULL, 1, (uint64_t)30 * 86400 * 1000},                                                        \
    {0, CLI_DURATION, "warmup", "DURATION", "the same load before, which does not count", NULL, 1, \
     (uint64_t)86400 * 1000},                                                                      \
    {0, CLI_COUNT, "seed", "N", "of the data, and of the order of a mixed load", "1", 0, 0},       \
    {0, CLI_FLAG, "keep", NULL, "leave the objects where they are", NULL, 0, 0},                   \
    {0, CLI_FLAG, "not-empty", NULL, "URI may hold something else, which stays as it is", NULL,    \
     0, 0},                                                                                        \
    {0, CLI_FLAG, "json", NULL, "print one JSON object", NULL, 0, 0}
#define OPTIONS_TRANSFER                                                                           \
    {0, CLI_SIZE, "part-size", "SIZE", "length of ranges and parts, on threads without a queue",   \
     NULL, 1, UINT64_MAX},                                                                         \
    {0, CLI_COUNT, "compress", "LEVEL", "zstd, 1 to 22, both ways, on threads without a queue",    \
     NULL, 1, 22}
#define OPTION_EXISTING                                                                            \
    {0, CLI_FLAG, "existing", NULL, "read up to --count objects that are there; write nothing",    \
     NULL, 0, 0}
#define OPTION_END {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0}
/* clang-format on */

static int check_existing(struct cli *cli, const struct cli_args *args)
{
    static const char *const others[] = {"size", "keep", "not-empty"};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (cli_given(args, others[i]))
            return cli_usage(cli, "--existing writes nothing: --%s has no meaning", others[i]);
    }
    return CLI_OK;
}

static int run(struct cli *cli, const struct cli_args *args)
{
    const char *kind = strchr(args->verb->name, ' ') + 1;
    bool is_list = strcmp(kind, "list") == 0, is_mixed = strcmp(kind, "mixed") == 0;
    struct bench_options options = {.kind = kind};
    struct bench bench = {.cli = cli, .options = &options};
    int code = CLI_OK;

    options.size = cli_number(args, "size");
    options.count = cli_number(args, "count");
    options.concurrency = (uint32_t)cli_number(args, "concurrency");
    options.duration_ms = cli_given(args, "duration") ? cli_number(args, "duration") : 0;
    options.warmup_ms = cli_given(args, "warmup") ? cli_number(args, "warmup") : 0;
    options.seed = cli_number(args, "seed");
    options.keeps = cli_flag(args, "keep") > 0;
    options.may_be_beside = cli_flag(args, "not-empty") > 0;
    options.is_json = cli_flag(args, "json") > 0;
    if (is_mixed)
        options.get_percent = (uint32_t)cli_number(args, "gets");
    if (is_list || strcmp(kind, "get") == 0)
        options.uses_existing = cli_flag(args, "existing") > 0;
    if (!is_list && cli_given(args, "part-size"))
        options.part_bytes = cli_number(args, "part-size");
    if (!is_list && cli_given(args, "compress"))
        options.zstd_level = (int32_t)cli_number(args, "compress");
    options.has_threads = is_list || options.part_bytes > 0 || options.zstd_level > 0;
    if (options.uses_existing)
        code = check_existing(cli, args);
    if (code == CLI_OK)
        code = cli_location_parse(cli, args->operands[0], 0, &bench.location);
    if (code != CLI_OK)
        return code;
    cli_ends_slowly(cli);
    code = bench_run(&bench);
    cli_location_fini(&bench.location);
    return code;
}

static const struct cli_option get_options[] = {OPTIONS_LOAD("1MiB", "16"), OPTIONS_TRANSFER,
                                                OPTION_EXISTING, OPTION_END};
static const struct cli_option put_options[] = {OPTIONS_LOAD("1MiB", "16"), OPTIONS_TRANSFER,
                                                OPTION_END};
static const struct cli_option mixed_options[] = {
    OPTIONS_LOAD("1MiB", "16"),
    OPTIONS_TRANSFER,
    {0, CLI_COUNT, "gets", "PERCENT", "share of reads; the rest are writes", "70", 0, 100},
    OPTION_END,
};
static const struct cli_option list_options[] = {OPTIONS_LOAD("0", "1"), OPTION_EXISTING,
                                                 OPTION_END};

#define DETAILS                                                                                    \
    "\n\nThe objects lie in a folder of their own below URI, which must be empty, and are "        \
    "removed "                                                                                     \
    "at the end, also after Ctrl-C. Their bytes cannot be compressed and are made beforehand. "    \
    "Latencies are in microseconds; docs/cli.md has the JSON."

const struct cli_verb cli_cmd_bench_get = {
    .name = "bench get",
    .operands = "URI",
    .summary = "measure reading: throughput, latency, processor time, memory",
    .details = "Writes --count objects, then reads each once, or for --duration." DETAILS
               "\n\n  penstock bench get --size 64KiB --count 10k --duration 10s /mnt/fast/bench",
    .options = get_options,
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};

const struct cli_verb cli_cmd_bench_put = {
    .name = "bench put",
    .operands = "URI",
    .summary = "measure writing",
    .details = "Writes each of --count objects once, or for --duration over and over." DETAILS,
    .options = put_options,
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};

const struct cli_verb cli_cmd_bench_mixed = {
    .name = "bench mixed",
    .operands = "URI",
    .summary = "measure reading and writing at once",
    .details = "Writes --count objects to read, then reads those and writes others, --gets of a "
               "hundred operations being reads." DETAILS,
    .options = mixed_options,
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};

const struct cli_verb cli_cmd_bench_list = {
    .name = "bench list",
    .operands = "URI",
    .summary = "measure listing",
    .details = "Writes --count objects, then lists them all ten times, or for --duration. An "
               "operation is a whole listing." DETAILS,
    .options = list_options,
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
