/* objects.c - where a benchmark writes, and how it leaves no trace.
 *
 * All objects of a run lie in a folder of its own, "penstock-bench-" and a number that no other run
 * has, so what is deleted at the end was made by this run. The location must be empty unless
 * --not-empty says that it may hold something else; --existing writes nothing and reads what is there.
 *
 * Cleaning has no cancel token: it runs after an interruption too. Where directories exist without
 * objects, those that this run brought into being go as well. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <penstock/plugin.h>

#include "bench.h"

#define DELETE_KEYS 1000u

/* ---- opening ------------------------------------------------------------------------------------ */

static int find_existing(struct bench *bench)
{
    pst_list_options options = {.struct_size = sizeof(options), .flags = PST_LISTING_RECURSIVE};
    struct cli *cli = bench->cli;
    const pst_entry *entry = NULL;
    pst_error err = PST_ERROR_INIT;
    pst_list *list = NULL;
    pst_rc rc = pst_list_open(bench->location.store, pst_str_of(bench->below, strlen(bench->below)),
                              &options, &list, &err);

    while (rc == PST_OK && bench->n_objects < bench->options->count) {
        rc = pst_list_next(list, &cli->call, &entry, &err);
        if (rc != PST_OK || !entry)
            break;
        if ((bench->n_objects & (bench->n_objects - 1)) == 0)
            bench->names = cli_grow(bench->names, (size_t)bench->n_objects * 2 + 1,
                                    sizeof(*bench->names));
        bench->names[bench->n_objects++] = cli_dup(entry->key.ptr, entry->key.len);
    }
    pst_list_free(list);
    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, &err);
    if (bench->n_objects == 0)
        return cli_fail(cli, CLI_NOT_FOUND, "%s: holds no object", bench->location.arg);
    return CLI_OK;
}

static int check_empty(struct bench *bench)
{
    pst_list_options options = {.struct_size = sizeof(options), .page_entries = 1};
    struct cli *cli = bench->cli;
    const pst_entry *entry = NULL;
    pst_error err = PST_ERROR_INIT;
    pst_list *list = NULL;
    struct cli_text_buf name = {0};
    pst_rc rc;
    int code = CLI_OK;

    if (bench->options->may_be_beside)
        return CLI_OK;
    rc = pst_list_open(bench->location.store, pst_str_of(bench->below, strlen(bench->below)),
                       &options, &list, &err);
    if (rc == PST_OK)
        rc = pst_list_next(list, &cli->call, &entry, &err);
    if (rc != PST_OK) {
        code = cli_fail_rc(cli, rc, &err);
    } else if (entry) {
        cli_add(&name, entry->key.ptr, entry->key.len);
        cli_add(&name, "", 1);
        code = cli_fail(cli, CLI_CONFLICT,
                        "%s: is not empty, it holds '%s'; --not-empty writes beside it",
                        bench->location.arg, name.data);
    }
    cli_text_fini(&name);
    pst_list_free(list);
    return code;
}

/* How many of the directories from the location's up are not there yet? */
static int count_missing(struct bench *bench)
{
    const uint64_t caps = PST_CAP_EMPTY_DIRS | PST_CAP_CONTAINER;
    size_t head = strlen(bench->location.uri) - bench->location.parts.key.len;
    struct cli_text_buf uri = {0};
    size_t len = strlen(bench->below);
    bool is_there = false;
    int code = CLI_OK;

    if ((bench->info.caps & caps) != caps)
        return CLI_OK;
    while (len > 0 && code == CLI_OK) {
        struct cli_location above = {0};
        uri.len = 0;
        cli_add(&uri, bench->location.uri, head);
        cli_add(&uri, bench->below, len);
        cli_add(&uri, "", 1);
        code = cli_location_parse(bench->cli, uri.data, 0, &above);
        if (code == CLI_OK)
            code = cli_location_open(bench->cli, &above);
        if (code == CLI_OK)
            code = cli_base_exists(bench->cli, &above, &is_there);
        cli_location_fini(&above);
        if (code != CLI_OK || is_there)
            break;
        bench->n_levels_missing++;
        for (len--; len > 0 && bench->below[len - 1] != '/';)
            len--;
    }
    cli_text_fini(&uri);
    return code;
}

int bench_place_open(struct bench *bench)
{
    struct cli_location *location = &bench->location;
    struct cli_text_buf below = {0}, folder = {0};
    struct timespec now;
    int code = cli_location_open(bench->cli, location);

    if (code)
        return code;
    bench->info.struct_size = sizeof(bench->info);
    pst_store_describe(location->store, &bench->info);
    cli_add(&below, location->parts.key.ptr, location->parts.key.len);
    if (below.len > 0 && below.data[below.len - 1] != '/')
        cli_add(&below, "/", 1);
    cli_add(&below, "", 1);
    bench->below = below.data;
    if (bench->options->uses_existing)
        return find_existing(bench);

    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t number = bench_random((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec) ^
                      bench_random((uint64_t)getpid());
    cli_addf(&folder, "%spenstock-bench-%016" PRIx64 "/", bench->below, number);
    cli_add(&folder, "", 1);
    bench->folder = folder.data;
    bench->n_objects = bench->options->count;
    if (folder.len + 32 > BENCH_KEY_MAX)
        return cli_usage(bench->cli, "%s: is too long for a benchmark", location->arg);
    code = check_empty(bench);
    return code == CLI_OK ? count_missing(bench) : code;
}

void bench_place_fini(struct bench *bench)
{
    for (uint64_t i = 0; bench->names && i < bench->n_objects; i++)
        free(bench->names[i]);
    free(bench->names);
    free(bench->folder);
    free(bench->below);
}

/* ---- names -------------------------------------------------------------------------------------- */

static pst_str make_key(const struct bench *bench, const char *what, uint64_t index,
                        char out[BENCH_KEY_MAX])
{
    int n = snprintf(out, BENCH_KEY_MAX, "%s%s-%08" PRIu64 "%s", bench->folder, what, index,
                     bench->options->zstd_level ? ".zst" : "");
    return pst_str_of(out, (size_t)n);
}

pst_str bench_key(const struct bench *bench, const struct bench_ticket *ticket,
                  char out[BENCH_KEY_MAX])
{
    if (bench->names) {
        const char *name = bench->names[ticket->index];
        snprintf(out, BENCH_KEY_MAX, "%s", name); /* for messages */
        return pst_str_of(name, strlen(name));
    }
    return make_key(bench, ticket->op == BENCH_PUT && !bench->phase->makes_objects ? "put" : "get",
                    ticket->index, out);
}

/* ---- cleaning ----------------------------------------------------------------------------------- */

static pst_rc delete_objects(struct bench *bench, const char *what, uint64_t n,
                             const pst_call *call, pst_error *err)
{
    char *texts = cli_alloc(DELETE_KEYS, BENCH_KEY_MAX);
    pst_str *keys = cli_alloc(DELETE_KEYS, sizeof(*keys));
    pst_rc *statuses = cli_alloc(DELETE_KEYS, sizeof(*statuses));
    pst_rc rc = PST_OK;

    for (uint64_t done = 0; done < n && rc == PST_OK;) {
        size_t n_keys = n - done < DELETE_KEYS ? (size_t)(n - done) : DELETE_KEYS;
        for (size_t i = 0; i < n_keys; i++)
            keys[i] = make_key(bench, what, done + i, texts + i * BENCH_KEY_MAX);
        rc = pst_delete_many(bench->location.store, keys, NULL, n_keys, call, statuses, err);
        done += n_keys;
    }
    free(statuses);
    free(keys);
    free(texts);
    return rc;
}

/* The folder, and what was missing above it. One that is not empty stays. */
static void delete_directories(struct bench *bench, const pst_call *call)
{
    const uint64_t caps = PST_CAP_EMPTY_DIRS | PST_CAP_CONTAINER;
    size_t len = strlen(bench->folder);
    uint32_t left = bench->n_levels_missing + 1;

    while ((bench->info.caps & caps) == caps && left-- > 0 && len > 0) {
        len--; /* the slash */
        if (pst_container_delete(bench->location.store, pst_str_of(bench->folder, len), call,
                                 NULL) != PST_OK)
            return;
        while (len > 0 && bench->folder[len - 1] != '/')
            len--;
    }
}

int bench_clean(struct bench *bench)
{
    pst_call call = bench->cli->call;
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;

    if (!bench->folder || bench->n_made + bench->n_put == 0)
        return CLI_OK;
    if (bench->options->keeps) {
        cli_note(bench->cli, "%" PRIu64 " objects stay in %.*s%s", bench->n_made + bench->n_put,
                 (int)(strlen(bench->location.uri) - bench->location.parts.key.len),
                 bench->location.uri, bench->folder);
        return CLI_OK;
    }
    call.cancel = NULL;
    rc = delete_objects(bench, "get", bench->n_made, &call, &err);
    if (rc == PST_OK)
        rc = delete_objects(bench, "put", bench->n_put, &call, &err);
    if (rc != PST_OK)
        return cli_fail_rc_at(bench->cli, rc, &err, "not all objects of this run were removed: ");
    delete_directories(bench, &call);
    return CLI_OK;
}
