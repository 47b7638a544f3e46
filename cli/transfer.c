/* transfer.c - a transfer from start to end: places, workers, report.
 *
 * The main thread plans (transfer_plan.c) and hands items to workers through a bounded queue, so a
 * listing of any length runs just ahead of them. A worker is started when an item finds none idle, up
 * to --jobs: one object is one thread. When all items are done and none failed, the main thread
 * tidies up (transfer_tidy.c).
 *
 * Items fail one by one: each says so in a line on stderr and the others go on; the exit code counts
 * them together (struct cli_tally). A plan that fails lets the items it has found finish. An
 * interruption cancels the calls under way through the run's token, the items still queued are
 * dropped, and nothing that was begun becomes visible. Running the same command again takes up where
 * this one ended, because what is already there is recognised. */
#include <stdlib.h>
#include <string.h>

#include "transfer.h"

/* ---- the queue ---------------------------------------------------------------------------------- */

enum { QUEUE_ITEMS = 256 };

#define PAGE_BYTES 4096u
#define SMALL_BYTES (8u * 1024u * 1024u)
#define LARGE_BYTES (64u * 1024u * 1024u) /* in memory for one large object */

struct transfer_queue {
    pthread_mutex_t mutex;
    pthread_cond_t has_items, has_room, has_large_slot;
    pthread_t *threads;
    uint32_t n_large_max;
    struct {
        struct transfer_item *items[QUEUE_ITEMS]; /* a ring */
        size_t first, n;
        uint32_t n_threads, n_idle, n_large;
        bool is_closed; /* no item will be added */
    } locked;
};

static void run_item(struct transfer *t, struct transfer_item *item)
{
    int code = cli_interrupted(t->cli) ? CLI_INTERRUPTED : transfer_item_run(t, item);
    cli_tally_add(&t->tally, code);
    free(item);
}

static struct transfer_item *pop_item(struct transfer_queue *queue)
{
    struct transfer_item *item = NULL;

    pthread_mutex_lock(&queue->mutex);
    queue->locked.n_idle++;
    while (queue->locked.n == 0 && !queue->locked.is_closed)
        pthread_cond_wait(&queue->has_items, &queue->mutex);
    queue->locked.n_idle--;
    if (queue->locked.n > 0) {
        item = queue->locked.items[queue->locked.first];
        queue->locked.first = (queue->locked.first + 1) % QUEUE_ITEMS;
        queue->locked.n--;
        pthread_cond_signal(&queue->has_room);
    }
    pthread_mutex_unlock(&queue->mutex);
    return item;
}

static void *work(void *arg)
{
    struct transfer *t = arg;
    struct transfer_item *item;
    while ((item = pop_item(t->queue)) != NULL)
        run_item(t, item);
    return NULL;
}

void transfer_push(struct transfer *t, struct transfer_item *item)
{
    struct transfer_queue *queue = t->queue;
    bool has_worker;

    pthread_mutex_lock(&queue->mutex);
    while (queue->locked.n == QUEUE_ITEMS)
        pthread_cond_wait(&queue->has_room, &queue->mutex);
    if (queue->locked.n_idle <= queue->locked.n && queue->locked.n_threads < t->options->n_jobs &&
        pthread_create(&queue->threads[queue->locked.n_threads], NULL, work, t) == 0)
        queue->locked.n_threads++;
    has_worker = queue->locked.n_threads > 0;
    if (has_worker) {
        size_t last = (queue->locked.first + queue->locked.n++) % QUEUE_ITEMS;
        queue->locked.items[last] = item;
        pthread_cond_signal(&queue->has_items);
    }
    pthread_mutex_unlock(&queue->mutex);
    if (!has_worker)
        run_item(t, item);
}

void transfer_begin_large(struct transfer *t)
{
    struct transfer_queue *queue = t->queue;
    pthread_mutex_lock(&queue->mutex);
    while (queue->locked.n_large == queue->n_large_max)
        pthread_cond_wait(&queue->has_large_slot, &queue->mutex);
    queue->locked.n_large++;
    pthread_mutex_unlock(&queue->mutex);
}

void transfer_end_large(struct transfer *t)
{
    struct transfer_queue *queue = t->queue;
    pthread_mutex_lock(&queue->mutex);
    queue->locked.n_large--;
    pthread_cond_signal(&queue->has_large_slot);
    pthread_mutex_unlock(&queue->mutex);
}

static void open_queue(struct transfer *t)
{
    struct transfer_queue *queue = cli_alloc(1, sizeof(*queue));
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->has_items, NULL);
    pthread_cond_init(&queue->has_room, NULL);
    pthread_cond_init(&queue->has_large_slot, NULL);
    queue->threads = cli_alloc(t->options->n_jobs, sizeof(*queue->threads));
    t->queue = queue;
}

/* Wait until every item is done. */
static void close_queue(struct transfer *t)
{
    struct transfer_queue *queue = t->queue;
    uint32_t n_threads;

    pthread_mutex_lock(&queue->mutex);
    queue->locked.is_closed = true;
    n_threads = queue->locked.n_threads;
    pthread_cond_broadcast(&queue->has_items);
    pthread_mutex_unlock(&queue->mutex);
    for (uint32_t i = 0; i < n_threads; i++)
        pthread_join(queue->threads[i], NULL);
    pthread_cond_destroy(&queue->has_large_slot);
    pthread_cond_destroy(&queue->has_room);
    pthread_cond_destroy(&queue->has_items);
    pthread_mutex_destroy(&queue->mutex);
    free(queue->threads);
    free(queue);
    t->queue = NULL;
}

/* ---- options ------------------------------------------------------------------------------------ */

int transfer_options_read(struct cli *cli, const struct cli_args *args,
                          struct transfer_options *options)
{
    options->n_jobs = (uint32_t)cli_number(args, "jobs");
    options->is_dry_run = cli_flag(args, "dry-run") > 0;
    options->drops_attributes = cli_flag(args, "no-attributes") > 0;
    options->escapes = cli_flag(args, "escape-keys") > 0;
    options->unescapes = cli_flag(args, "unescape-keys") > 0;
    if (cli_has_option(args->verb, "recursive"))
        options->is_recursive = cli_flag(args, "recursive") > 0;
    if (cli_has_option(args->verb, "size-time"))
        options->compares_times = cli_flag(args, "size-time") > 0;
    if (cli_has_option(args->verb, "version-id") && cli_given(args, "version-id")) {
        int code = cli_version_id(cli, args, &options->version);
        if (code == CLI_OK && options->is_recursive)
            code = cli_usage(cli, "--version-id is of one object");
        if (code != CLI_OK)
            return code;
    }
    if (cli_has_option(args->verb, "regex"))
        options->regex = cli_text(args, "regex");
    if (cli_has_option(args->verb, "links")) {
        const char *links = cli_text(args, "links");
        options->skips_links = strcmp(links, "skip") == 0;
        if (!options->skips_links && strcmp(links, "fail") != 0)
            return cli_usage(cli, "--links=%s: must be fail or skip", links);
    }
    return CLI_OK;
}

/* ---- the run ------------------------------------------------------------------------------------ */

static int open_places(struct transfer *t, const struct cli_args *args)
{
    const struct transfer_options *options = t->options;
    int code = cli_regex_new(t->cli, options->regex, &t->regex);

    for (size_t i = 0; i < t->n_sources && code == CLI_OK; i++)
        code = transfer_source_open(t->cli, options, args->operands[i], &t->sources[i]);
    if (code == CLI_OK)
        code = transfer_target_open(t->cli, options, args->operands[t->n_sources], t->sources,
                                    t->n_sources, &t->target);
    for (size_t i = 0; i < t->n_sources && code == CLI_OK; i++) {
        code = transfer_check_overlap(t->cli, options, &t->flow, &t->sources[i], &t->target);
        if (code == CLI_OK)
            code = transfer_direct_open(t->cli, &t->sources[i], &t->target);
    }
    return code;
}

static int tidy_up(struct transfer *t)
{
    const struct transfer_options *options = t->options;
    bool is_complete = atomic_load(&t->tally.n_failed) == 0;
    int code = CLI_OK;

    if (cli_interrupted(t->cli))
        return CLI_OK;
    if (options->deletes_extras && is_complete)
        code = transfer_delete_extras(t);
    else if (options->deletes_extras)
        cli_note(t->cli, "nothing is deleted, as not everything was copied");
    if (code == CLI_OK && (t->target.store || options->is_dry_run))
        code = transfer_make_dirs(t);
    for (size_t i = 0; i < t->n_sources && code == CLI_OK; i++) {
        if (options->is_move && !options->is_dry_run && is_complete)
            code = transfer_remove_source_dirs(t, &t->sources[i]);
    }
    return code;
}

static void report(struct transfer *t)
{
    struct cli_text_buf line = {0};
    unsigned long long n_failed = atomic_load(&t->tally.n_failed);
    bool is_one = t->n_sources == 1 && t->sources[0].name;

    if (is_one || t->options->is_dry_run)
        return;
    cli_addf(&line, "%s %llu (", t->options->is_move ? "moved" : "copied",
             (unsigned long long)atomic_load(&t->n_copied));
    cli_add_human(&line, atomic_load(&t->copied_bytes));
    cli_addf(&line, "), identical %llu, failed %llu",
             (unsigned long long)atomic_load(&t->n_identical), n_failed);
    if (t->options->deletes_extras)
        cli_addf(&line, ", deleted %llu", (unsigned long long)t->n_deleted);
    if (t->n_left_out > 0)
        cli_addf(&line, ", links left out %llu", (unsigned long long)t->n_left_out);
    cli_add(&line, "", 1);
    cli_note(t->cli, "%s", line.data);
    cli_text_fini(&line);
}

/* What workers hold beside the library's own buffers shall fit the budget too: a small object each,
 * or, for those that stream a large one, what the reader fetches ahead. */
static void share_budget(struct transfer *t)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    uint64_t share;

    pst_context_stats(t->cli->context, &stats);
    share = stats.budget_bytes / (2 * (uint64_t)t->options->n_jobs);
    t->small_bytes = share > SMALL_BYTES ? SMALL_BYTES : share < PAGE_BYTES ? PAGE_BYTES : share;
    /* What is longer than a part goes in parts, but nobody is served by single bytes. */
    if (t->flow.part_bytes > 0 && t->flow.part_bytes < t->small_bytes)
        t->small_bytes = t->flow.part_bytes > PAGE_BYTES ? t->flow.part_bytes : PAGE_BYTES;
    t->queue->n_large_max = (uint32_t)(stats.budget_bytes / LARGE_BYTES);
    if (t->queue->n_large_max == 0)
        t->queue->n_large_max = 1;
    if (stats.budget_bytes / LARGE_BYTES > t->options->n_jobs)
        t->queue->n_large_max = t->options->n_jobs;
}

static int carry_out(struct transfer *t)
{
    int code;

    open_queue(t);
    share_budget(t);
    cli_progress_start(t->cli, t->cli->verb, PST_UNKNOWN, PST_UNKNOWN);
    code = transfer_plan(t);
    if (code == CLI_OK)
        cli_progress_total(t->cli, t->n_planned, t->planned_bytes);
    else
        cli_tally_add(&t->tally, code);
    close_queue(t);
    code = tidy_up(t);
    if (code != CLI_OK)
        cli_tally_add(&t->tally, code);
    cli_progress_stop(t->cli);
    report(t);
    for (size_t i = 0; i < t->n_sources; i++)
        cli_flow_add_store(&t->flow, t->sources[i].location.uri, t->sources[i].store);
    cli_flow_add_store(&t->flow, t->target.location.uri, t->target.store);
    cli_flow_tell(t->cli, &t->flow);
    return cli_interrupted(t->cli) ? CLI_INTERRUPTED : cli_tally_exit(&t->tally);
}

int transfer_run(struct cli *cli, const struct cli_args *args,
                 const struct transfer_options *options)
{
    struct transfer t = {.cli = cli, .options = options, .n_sources = args->n_operands - 1};
    int code = cli_flow_init(cli, args, &t.flow);

    t.sources = cli_alloc(t.n_sources, sizeof(*t.sources));
    if (code == CLI_OK)
        code = open_places(&t, args);
    if (code == CLI_OK)
        code = carry_out(&t);
    for (size_t i = 0; i < t.n_sources; i++)
        transfer_place_fini(&t.sources[i]);
    transfer_place_fini(&t.target);
    free(t.sources);
    cli_regex_free(t.regex);
    transfer_spool_fini(&t.dirs);
    transfer_spool_fini(&t.extras);
    transfer_set_fini(&t.names);
    transfer_set_fini(&t.dir_names);
    cli_flow_fini(&t.flow);
    return code;
}
