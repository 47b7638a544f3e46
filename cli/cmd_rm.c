/* cmd_rm.c - delete objects: one exact key, or everything below a directory.
 *
 * Without -r and --regex a location is one key, deleted exactly: "foo" never touches "foobar", and a
 * directory is refused. With -r it is a directory: all keys that begin with "dir/", whether or not
 * the slash was typed. The listing runs in this thread; keys go in batches to a few threads that
 * delete them. A key that cannot be deleted costs a line and exit 1, the others go on.
 *
 * Where directories exist without objects (file://), those that are empty afterwards are removed too,
 * deepest first, unless --regex chose among the objects or something failed.
 *
 * Deleting many asks first: --yes, or a terminal's answer. A whole store, an empty key, needs
 * --whole-store on top, because "file:///" is one character away from every file:// location. */
#include <stdlib.h>
#include <string.h>

#include <penstock/plugin.h>

#include "cli.h"

#define BATCH_KEYS 256u
#define BATCHES_WAITING 8u

/* Keys on their way from the listing to a deleting thread. */
struct batch {
    struct batch *next;
    size_t n_keys;
    pst_str keys[BATCH_KEYS]; /* owned */
    pst_rc statuses[BATCH_KEYS];
};

struct remover {
    struct cli *cli;
    const struct cli_location *location;
    struct cli_tally *tally;
    struct batch *filling;
    pthread_cond_t changed;
    pthread_mutex_t mutex;
    struct {
        struct batch *first, **last;
        uint32_t n_batches;
        bool is_finished;
    } locked;
};

static void print_location(struct cli *cli, const struct cli_location *location, pst_str key)
{
    struct cli_text_buf uri = {0};
    cli_add_uri(&uri, location, key);
    cli_put_uri(cli, pst_str_of(uri.data, uri.len));
    cli_put(cli, cli_flag(cli->args, "null") ? "" : "\n", 1);
    cli_text_fini(&uri);
}

/* ---- one key ------------------------------------------------------------------------------------- */

static int fail_directory(struct cli *cli, const struct cli_location *location)
{
    return cli_usage(cli, "%s: is a directory, -r deletes what is below it", location->arg);
}

/* Nothing of that key is there: say whether a directory is. */
static int fail_missing(struct cli *cli, const struct cli_location *location)
{
    struct cli_base base = {0};
    int code = CLI_OK;

    if (cli_flag(cli->args, "force"))
        return CLI_OK;
    code = cli_base_find(cli, location, &base);
    if (code)
        return code;
    if (!base.is_object)
        code = fail_directory(cli, location);
    cli_base_fini(&base);
    return code;
}

/* A version, which may be a delete marker that nothing can be asked of, or not be there any more. */
static int remove_version(struct cli *cli, const struct cli_location *location, pst_str version)
{
    const pst_delete_options options = {.struct_size = sizeof(options), .version = version};
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;

    if (cli_flag(cli->args, "dry-run")) {
        print_location(cli, location, location->parts.key);
        return CLI_OK;
    }
    rc = pst_delete(location->store, location->parts.key, &options, &cli->call, &err);
    return rc == PST_OK ? CLI_OK : cli_fail_rc(cli, rc, &err);
}

static int remove_key(struct cli *cli, const struct cli_location *location)
{
    pst_str version = cli_str(cli->args, "version-id");
    pst_error err = PST_ERROR_INIT;
    pst_attr *attr = NULL;
    pst_rc rc;

    if (location->is_directory)
        return fail_directory(cli, location);
    if (version.len > 0)
        return remove_version(cli, location, version);
    rc = pst_stat(location->store, location->parts.key, NULL, &cli->call, &attr, &err);
    if (rc == PST_OK && attr->kind != PST_KIND_OBJECT)
        rc = PST_E_NOT_FOUND;
    pst_attr_free(attr);
    if (rc == PST_E_NOT_FOUND)
        return fail_missing(cli, location);
    if (rc == PST_OK && cli_flag(cli->args, "dry-run")) {
        print_location(cli, location, location->parts.key);
        return CLI_OK;
    }
    if (rc == PST_OK)
        rc = pst_delete(location->store, location->parts.key, NULL, &cli->call, &err);
    return rc == PST_OK ? CLI_OK : cli_fail_rc(cli, rc, &err);
}

/* ---- many keys ----------------------------------------------------------------------------------- */

static void free_batch(struct batch *batch)
{
    for (size_t i = 0; i < batch->n_keys; i++)
        free((void *)(uintptr_t)batch->keys[i].ptr);
    free(batch);
}

static void delete_batch(struct remover *remover, struct batch *batch)
{
    struct cli *cli = remover->cli;
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;

    for (size_t i = 0; i < batch->n_keys; i++)
        batch->statuses[i] = PST_E_INTERNAL;
    rc = pst_delete_many(remover->location->store, batch->keys, NULL, batch->n_keys, &cli->call,
                         batch->statuses, &err);
    for (size_t i = 0; i < batch->n_keys; i++) {
        int code = CLI_OK;
        if (rc != PST_OK && batch->statuses[i] != PST_OK) {
            struct cli_text_buf uri = {0};
            cli_add_uri(&uri, remover->location, batch->keys[i]);
            cli_add(&uri, "", 1);
            code = cli_fail_rc_at(cli, batch->statuses[i], NULL, "%s: ", uri.data);
            cli_text_fini(&uri);
        }
        cli_tally_add(remover->tally, code);
    }
    cli_progress_add(cli, batch->n_keys, 0);
    free_batch(batch);
}

static void *run_deleter(void *arg)
{
    struct remover *remover = arg;

    pthread_mutex_lock(&remover->mutex);
    for (;;) {
        struct batch *batch = remover->locked.first;
        if (batch) {
            remover->locked.first = batch->next;
            if (!remover->locked.first)
                remover->locked.last = &remover->locked.first;
            remover->locked.n_batches--;
            pthread_cond_broadcast(&remover->changed);
            pthread_mutex_unlock(&remover->mutex);
            delete_batch(remover, batch);
            pthread_mutex_lock(&remover->mutex);
        } else if (remover->locked.is_finished) {
            break;
        } else {
            pthread_cond_wait(&remover->changed, &remover->mutex);
        }
    }
    pthread_mutex_unlock(&remover->mutex);
    return NULL;
}

static void hand_over(struct remover *remover)
{
    struct batch *batch = remover->filling;

    remover->filling = NULL;
    if (!batch)
        return;
    pthread_mutex_lock(&remover->mutex);
    while (remover->locked.n_batches >= BATCHES_WAITING)
        pthread_cond_wait(&remover->changed, &remover->mutex);
    *remover->locked.last = batch;
    remover->locked.last = &batch->next;
    remover->locked.n_batches++;
    pthread_cond_broadcast(&remover->changed);
    pthread_mutex_unlock(&remover->mutex);
}

static int collect_entry(void *arg, const pst_entry *entry, pst_str relative)
{
    struct remover *remover = arg;
    struct batch *batch;

    (void)relative;
    if (entry->kind != PST_KIND_OBJECT)
        return CLI_OK;
    if (cli_flag(remover->cli->args, "dry-run")) {
        print_location(remover->cli, remover->location, entry->key);
        return cli_output_closed(remover->cli) ? CLI_STOP : CLI_OK;
    }
    if (!remover->filling)
        remover->filling = cli_alloc(1, sizeof(*remover->filling));
    batch = remover->filling;
    batch->keys[batch->n_keys++] = pst_str_of(cli_dup(entry->key.ptr, entry->key.len),
                                              entry->key.len);
    if (batch->n_keys == BATCH_KEYS)
        hand_over(remover);
    return cli_interrupted(remover->cli) ? CLI_INTERRUPTED : CLI_OK;
}

/* List and delete at the same time, with `walk` set up but for its function. */
static int remove_entries(struct cli *cli, struct cli_walk *walk, struct cli_tally *tally)
{
    struct remover remover = {.cli = cli, .location = walk->location, .tally = tally};
    uint64_t n_jobs = cli_number(cli->args, "jobs");
    pthread_t *threads = cli_alloc(n_jobs, sizeof(*threads));
    size_t n_threads = 0;
    int code = CLI_OK;

    remover.locked.last = &remover.locked.first;
    pthread_mutex_init(&remover.mutex, NULL);
    pthread_cond_init(&remover.changed, NULL);
    while (n_threads < n_jobs && !cli_flag(cli->args, "dry-run") &&
           pthread_create(&threads[n_threads], NULL, run_deleter, &remover) == 0)
        n_threads++;
    if (n_threads == 0 && !cli_flag(cli->args, "dry-run"))
        code = cli_fail(cli, CLI_IO, "cannot start a thread");
    walk->fn = collect_entry;
    walk->arg = &remover;
    if (code == CLI_OK)
        code = cli_walk(cli, walk);
    if (remover.filling && code != CLI_OK) {
        free_batch(remover.filling);
        remover.filling = NULL;
    }
    hand_over(&remover);
    pthread_mutex_lock(&remover.mutex);
    remover.locked.is_finished = true;
    pthread_cond_broadcast(&remover.changed);
    pthread_mutex_unlock(&remover.mutex);
    for (size_t i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    pthread_cond_destroy(&remover.changed);
    pthread_mutex_destroy(&remover.mutex);
    free(threads);
    return code;
}

/* ---- directories that are empty afterwards -------------------------------------------------------- */

struct directory_remover {
    struct cli *cli;
    const struct cli_location *location;
    uint64_t n_removed;
};

static int remove_directory(struct cli *cli, const struct cli_location *location, pst_str key)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = pst_container_delete(location->store, pst_str_of(key.ptr, key.len - 1), &cli->call,
                                     &err);
    /* Somebody else may have removed it, which is what we want. */
    return rc == PST_OK || rc == PST_E_NOT_FOUND ? CLI_OK : cli_fail_rc(cli, rc, &err);
}

static int remove_empty_directory(void *arg, const pst_entry *entry, pst_str relative)
{
    struct directory_remover *remover = arg;

    if (entry->kind != PST_KIND_PREFIX || relative.len == 0)
        return CLI_OK;
    remover->n_removed++;
    return remove_directory(remover->cli, remover->location, entry->key);
}

static int remove_directories(struct cli *cli, const struct cli_location *location,
                              const struct cli_base *base)
{
    struct directory_remover remover = {.cli = cli, .location = location};
    struct cli_walk walk = {.location = location,
                            .base = base,
                            .fn = remove_empty_directory,
                            .flags = PST_LISTING_RECURSIVE | PST_LISTING_EMPTY_DIRS,
                            .arg = &remover};
    pst_store_info info = {.struct_size = sizeof(info)};
    int code;

    pst_store_describe(location->store, &info);
    if (!(info.caps & PST_CAP_EMPTY_DIRS) || !(info.caps & PST_CAP_CONTAINER))
        return CLI_OK;
    /* A directory whose last subdirectory went is empty in the next round. */
    do {
        remover.n_removed = 0;
        code = cli_walk(cli, &walk);
    } while (code == CLI_OK && remover.n_removed > 0);
    if (code == CLI_OK && base->prefix_len > 0)
        code = remove_directory(cli, location, pst_str_of(base->prefix, base->prefix_len));
    return code;
}

/* ---- asking --------------------------------------------------------------------------------------- */

struct counter {
    uint64_t n_objects, n_bytes;
};

static int count_entry(void *arg, const pst_entry *entry, pst_str relative)
{
    struct counter *counter = arg;
    (void)relative;
    if (entry->kind == PST_KIND_OBJECT) {
        counter->n_objects++;
        counter->n_bytes += entry->size;
    }
    return CLI_OK;
}

static int ask(struct cli *cli, struct cli_walk *walk)
{
    struct counter counter = {0};
    struct cli_text_buf size = {0};
    bool is_yes;
    int code;

    if (cli_flag(cli->args, "yes") || cli_flag(cli->args, "dry-run"))
        return CLI_OK;
    if (!cli_can_ask(cli))
        return cli_usage(cli, "deleting many objects needs --yes, or a terminal to ask on");
    walk->fn = count_entry;
    walk->arg = &counter;
    code = cli_walk(cli, walk);
    if (code)
        return code;
    cli_add_human(&size, counter.n_bytes);
    cli_add(&size, "", 1);
    is_yes = cli_confirm(cli, "delete %llu objects, %s, below %s?",
                         (unsigned long long)counter.n_objects, size.data, walk->location->uri);
    cli_text_fini(&size);
    if (is_yes)
        return CLI_OK;
    return cli_fail(cli, cli_interrupted(cli) ? CLI_INTERRUPTED : CLI_SOME_FAILED,
                    "nothing was deleted");
}

static int remove_below(struct cli *cli, const struct cli_location *location,
                        struct cli_regex *regex, struct cli_tally *tally)
{
    struct cli_base base = {0};
    struct cli_walk walk = {
        .location = location, .base = &base, .regex = regex, .flags = PST_LISTING_UNORDERED};
    uint64_t n_failed = tally->n_failed;
    int code;

    if (location->parts.key.len == 0 && !cli_flag(cli->args, "whole-store"))
        return cli_usage(cli, "%s: is a whole store, --whole-store deletes all of it",
                         location->arg);
    if (cli_flag(cli->args, "recursive"))
        walk.flags |= PST_LISTING_RECURSIVE;
    if (cli_flag(cli->args, "force")) {
        bool exists = false;
        code = cli_base_exists(cli, location, &exists);
        if (code || !exists)
            return code;
    }
    code = cli_base_find(cli, location, &base);
    if (code == CLI_OK)
        code = ask(cli, &walk);
    if (code == CLI_OK) {
        cli_progress_start(cli, "rm", PST_UNKNOWN, PST_UNKNOWN);
        code = remove_entries(cli, &walk, tally);
        cli_progress_stop(cli);
    }
    if (code == CLI_OK && tally->n_failed == n_failed && !base.is_object && !regex &&
        cli_flag(cli->args, "recursive") && !cli_flag(cli->args, "dry-run"))
        code = remove_directories(cli, location, &base);
    cli_base_fini(&base);
    return code;
}

static int run_rm(struct cli *cli, const struct cli_args *args)
{
    struct cli_location *locations = cli_alloc(args->n_operands, sizeof(*locations));
    struct cli_regex *regex = NULL;
    struct cli_tally tally = {0};
    bool is_many = cli_flag(args, "recursive") || cli_given(args, "regex");
    pst_str version;
    int code = cli_version_id(cli, args, &version);

    if (code == CLI_OK && version.len > 0 && is_many)
        code = cli_usage(cli, "--version-id is of one object");
    if (code == CLI_OK)
        code = cli_regex_new(cli, cli_text(args, "regex"), &regex);
    /* Every location is understood before the first object goes. */
    for (uint32_t i = 0; i < args->n_operands && code == CLI_OK; i++) {
        code = cli_location_parse(cli, args->operands[i], 0, &locations[i]);
        if (code == CLI_OK)
            code = cli_location_open(cli, &locations[i]);
    }
    for (uint32_t i = 0; i < args->n_operands && code == CLI_OK; i++) {
        int one = is_many ? remove_below(cli, &locations[i], regex, &tally)
                          : remove_key(cli, &locations[i]);
        if (one != CLI_OK || !is_many)
            cli_tally_add(&tally, one);
        if (cli_interrupted(cli))
            break;
    }
    if (code == CLI_OK) {
        code = cli_tally_exit(&tally);
        cli_verbose(cli, "%llu deleted, %llu failed", (unsigned long long)tally.n_ok,
                    (unsigned long long)tally.n_failed);
    }
    for (uint32_t i = 0; i < args->n_operands; i++)
        cli_location_fini(&locations[i]);
    cli_regex_free(regex);
    free(locations);
    return code;
}

static const struct cli_option options[] = {
    {'r', CLI_FLAG, "recursive", NULL, "everything below the directory", NULL, 0, 0},
    {'p', CLI_TEXT, "regex", "REGEX",
     "only objects whose path below the URI matches (PCRE2); one level without -r", NULL, 0, 0},
    {'n', CLI_FLAG, "dry-run", NULL, "print what would be deleted and delete nothing", NULL, 0, 0},
    {'y', CLI_FLAG, "yes", NULL, "delete many without asking", NULL, 0, 0},
    CLI_OPTION_VERSION_ID,
    {'f', CLI_FLAG, "force", NULL, "what is not there is no error", NULL, 0, 0},
    {'j', CLI_COUNT, "jobs", "N", "batches deleted at the same time", "4", 1, 64},
    {'0', CLI_FLAG, "null", NULL, "with -n: end each entry with NUL", NULL, 0, 0},
    {0, CLI_FLAG, "whole-store", NULL, "allow a location that is a whole store", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_rm = {
    .name = "rm",
    .operands = "URI...",
    .summary = "delete objects",
    .details =
        "Without -r each URI is one key and exactly that is deleted. With -r it is a "
        "directory, with or without its slash: \"dir\" never touches \"dirfoo\". Directories "
        "that are empty afterwards go too, where a store has such.\n\n"
        "Where a store keeps old versions, the key alone is deleted and they stay; --version-id "
        "deletes one of them for good.\n\n"
        "-r and --regex ask on the terminal first; in a script they need --yes.\n\n"
        "  penstock rm -r --yes --regex '\\.tmp$' s3://bucket/job/",
    .options = options,
    .min_operands = 1,
    .max_operands = CLI_ANY,
    .run = run_rm,
};
