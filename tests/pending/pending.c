/* pending.c - a plugin that keeps its host waiting: pending://anything/key
 *
 * It has four threads of its own and no data; each key's object is eight bytes computed from the key.
 * What it is for is the order of completions:
 *
 *   mode=hold    no operation completes until `count` of them are here; then all, shuffled by `seed`,
 *                from all threads at once
 *   mode=early   each operation completes on one of the threads before its submit returns
 *   mode=mixed   every third does the one, the others do the other
 *
 * With `limit` set it takes so many at once and answers BUSY to the next; then a full house or the end
 * of a batch (flush) is what releases the ones held. The limit is not declared in pst_limits, so the
 * host runs into it.
 *
 * How: a submit puts the operation among the held (an array made at open) or the ready (a chain through
 * the operations' scratch memory), so nothing is allocated on the way. Cancel moves an operation from
 * the held to the ready. A read of the key "stats" gives what was counted.
 *
 * How it fails: an operation ends with OK, CANCELLED, or what the host said about the destination.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <penstock/plugin.h>

#define CAPS (PST_CAP_READ | PST_CAP_STAT | PST_CAP_CANCEL_BOUNDED)

enum { MODE_HOLD, MODE_EARLY, MODE_MIXED };
enum { MAX_THREADS = 16 };

enum place { AT_HOST = 0, HELD, READY, OVER }; /* AT_HOST: what zeroed scratch says */

struct job { /* in op->scratch */
    pst_op *op;
    struct job *next;          /* of those that are ready */
    const pst_read_args *read; /* NULL: a stat */
    pst_read_result *read_result;
    pst_attr *attr;
    size_t at; /* in held[] */
    enum place place;
    int is_cancelled;
    int *is_over; /* early: the submit waits for this */
};

struct pst_backend {
    const pst_host *host;
    uint32_t mode, limit, n_threads;
    uint64_t count;
    pthread_t threads[MAX_THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t is_ready, is_over;
    struct {
        struct job **held, *ready, **ready_end;
        size_t n_held;
        uint64_t random, n_inside, peak, arrived, early, busy, wakes, cancelled;
        int is_closing, is_starved;
    } locked;
};

static uint64_t next_random(uint64_t *state) /* xorshift64* */
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t hash_key(pst_str key) /* FNV-1a: what the object holds */
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < key.len; i++)
        h = (h ^ (unsigned char)key.ptr[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* A look at the counters, neither held nor counted itself. */
static int is_stats(const struct job *job)
{
    return job->read != NULL && job->read->key.len == 5 &&
           memcmp(job->read->key.ptr, "stats", 5) == 0;
}

/* ---- the lists --------------------------------------------------------------------------------- */

static void hold_locked(struct pst_backend *b, struct job *job)
{
    job->place = HELD;
    job->at = b->locked.n_held;
    b->locked.held[b->locked.n_held++] = job;
}

static void make_ready_locked(struct pst_backend *b, struct job *job)
{
    if (job->place == HELD) { /* the last one takes its place */
        struct job *last = b->locked.held[--b->locked.n_held];

        last->at = job->at;
        b->locked.held[job->at] = last;
    }
    job->place = READY;
    job->next = NULL;
    *b->locked.ready_end = job;
    b->locked.ready_end = &job->next;
    pthread_cond_signal(&b->is_ready);
}

/* All that are held become ready, in an order of chance. */
static void release_locked(struct pst_backend *b)
{
    while (b->locked.n_held > 0)
        make_ready_locked(b, b->locked.held[next_random(&b->locked.random) % b->locked.n_held]);
}

/* ---- the threads ------------------------------------------------------------------------------- */

/* Hand over the part of `content` that was asked for. */
static pst_rc deliver(struct job *job, const char *content, size_t size)
{
    const pst_host *host = job->op->host;
    const pst_read_args *args = job->read;
    const pst_iov *dst = args->dst;
    size_t n_dst = args->n_dst;
    size_t offset = args->offset < size ? (size_t)args->offset : size;
    size_t left = size - offset < args->length ? size - offset : (size_t)args->length;

    job->read_result->object_size = size;
    job->read_result->n_read = left;
    if (n_dst == 0 && left > 0) {
        pst_dst_args ask = {
            .struct_size = sizeof ask, .length = left, .capacity = left, .object_size = size};
        pst_dst_grant grant = {.struct_size = sizeof grant};
        pst_rc rc = host->dst(host, job->op, &ask, &grant);

        if (rc != PST_OK)
            return rc; /* LATER too: work() leaves the operation alone then */
        dst = grant.dst;
        n_dst = grant.n_dst;
    }
    content += offset;
    for (size_t i = 0; i < n_dst && left > 0; i++) {
        size_t n = dst[i].len < left ? dst[i].len : left;

        memcpy(dst[i].ptr, content, n);
        content += n;
        left -= n;
    }
    return PST_OK;
}

static pst_rc deliver_stats(struct pst_backend *b, struct job *job)
{
    char text[256];

    pthread_mutex_lock(&b->mutex);
    int n = snprintf(text, sizeof text,
                     "arrived=%" PRIu64 " early=%" PRIu64 " peak=%" PRIu64 " busy=%" PRIu64
                     " wakes=%" PRIu64 " cancelled=%" PRIu64,
                     b->locked.arrived, b->locked.early, b->locked.peak, b->locked.busy,
                     b->locked.wakes, b->locked.cancelled);
    pthread_mutex_unlock(&b->mutex);
    return deliver(job, text, (size_t)n);
}

static pst_rc carry_out(struct pst_backend *b, struct job *job)
{
    if (job->is_cancelled) {
        pst_error *err = job->op->err;

        snprintf(err->message, sizeof err->message, "cancelled while it was held");
        return PST_E_CANCELLED;
    }
    if (job->attr != NULL) {
        job->attr->size = sizeof(uint64_t);
        job->attr->kind = PST_KIND_OBJECT;
        job->attr->mtime_ns = PST_TIME_UNKNOWN;
        return PST_OK;
    }
    if (is_stats(job))
        return deliver_stats(b, job);
    uint64_t content = hash_key(job->read->key);
    return deliver(job, (const char *)&content, sizeof content);
}

static void end(struct pst_backend *b, struct job *job, pst_rc rc)
{
    pst_op *op = job->op;
    const pst_host *host = op->host;
    int wakes;

    pthread_mutex_lock(&b->mutex);
    job->place = OVER;
    b->locked.n_inside--;
    if (rc == PST_E_CANCELLED)
        b->locked.cancelled++;
    wakes = b->locked.is_starved;
    if (wakes)
        b->locked.wakes++;
    b->locked.is_starved = 0;
    pthread_mutex_unlock(&b->mutex);
    if (wakes)
        host->wake(host, b);
    host->complete(host, op, rc);
}

static void *work(void *arg)
{
    struct pst_backend *b = arg;

    pthread_mutex_lock(&b->mutex);
    for (;;) {
        struct job *job = b->locked.ready;

        if (job == NULL) {
            if (b->locked.is_closing)
                break;
            pthread_cond_wait(&b->is_ready, &b->mutex);
            continue;
        }
        b->locked.ready = job->next;
        if (job->next == NULL)
            b->locked.ready_end = &b->locked.ready;
        int *is_over = job->is_over;
        job->is_over = NULL;
        pthread_mutex_unlock(&b->mutex);

        pst_rc rc = carry_out(b, job);
        if (rc != PST_LATER)
            end(b, job, rc);

        pthread_mutex_lock(&b->mutex);
        if (is_over != NULL) {
            *is_over = 1;
            pthread_cond_broadcast(&b->is_over);
        }
    }
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

/* ---- the slots --------------------------------------------------------------------------------- */

static pst_rc submit(struct pst_backend *b, struct job *job)
{
    int is_early, is_over = 0;
    pst_rc rc = PST_BUSY;

    pthread_mutex_lock(&b->mutex);
    if (b->limit != 0 && b->locked.n_inside == b->limit) {
        b->locked.busy++;
        b->locked.is_starved = 1;
        release_locked(b);
        goto out;
    }
    b->locked.n_inside++;
    if (b->locked.n_inside > b->locked.peak)
        b->locked.peak = b->locked.n_inside;
    rc = PST_PENDING;
    if (is_stats(job)) {
        make_ready_locked(b, job);
        goto out;
    }
    is_early = b->mode == MODE_EARLY || (b->mode == MODE_MIXED && b->locked.arrived % 3 == 0);
    b->locked.arrived++;
    if (is_early) {
        b->locked.early++;
        job->is_over = &is_over;
        make_ready_locked(b, job);
    } else {
        hold_locked(b, job);
    }
    if (b->limit == 0 && b->locked.arrived >= b->count)
        release_locked(b);
    while (is_early && !is_over) /* and not one more look at the operation */
        pthread_cond_wait(&b->is_over, &b->mutex);
out:
    pthread_mutex_unlock(&b->mutex);
    return rc;
}

static pst_rc submit_read(pst_backend *b, pst_op *op, const pst_read_args *args,
                          pst_read_result *result)
{
    struct job *job = op->scratch;

    job->op = op;
    job->read = args;
    job->read_result = result;
    return submit(b, job);
}

static pst_rc submit_stat(pst_backend *b, pst_op *op, const pst_stat_args *args, pst_attr *attr)
{
    struct job *job = op->scratch;

    (void)args;
    job->op = op;
    job->attr = attr;
    return submit(b, job);
}

static void resume(pst_backend *b, pst_op *op)
{
    pthread_mutex_lock(&b->mutex);
    make_ready_locked(b, op->scratch);
    pthread_mutex_unlock(&b->mutex);
}

static void end_batch(pst_backend *b)
{
    pthread_mutex_lock(&b->mutex);
    if (b->limit != 0)
        release_locked(b);
    pthread_mutex_unlock(&b->mutex);
}

static void cancel(pst_backend *b, pst_op *op)
{
    struct job *job = op->scratch;

    pthread_mutex_lock(&b->mutex);
    if (job->place == HELD) {
        job->is_cancelled = 1;
        make_ready_locked(b, job);
    }
    pthread_mutex_unlock(&b->mutex);
}

static void describe(pst_backend *b, pst_backend_info *info)
{
    (void)b;
    info->caps = CAPS;
    info->endpoint = "";
    info->note = "";
}

static void close_backend(pst_backend *b)
{
    pthread_mutex_lock(&b->mutex);
    b->locked.is_closing = 1;
    pthread_cond_broadcast(&b->is_ready);
    pthread_mutex_unlock(&b->mutex);
    for (uint32_t i = 0; i < b->n_threads; i++)
        pthread_join(b->threads[i], NULL);
    pthread_cond_destroy(&b->is_over);
    pthread_cond_destroy(&b->is_ready);
    pthread_mutex_destroy(&b->mutex);
    b->host->dealloc(b->host, b->locked.held);
    b->host->dealloc(b->host, b);
}

/* ---- opening ----------------------------------------------------------------------------------- */

static uint64_t number_option(const pst_open_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_options; i++) {
        const pst_kv *kv = &args->options[i];
        char text[32] = "";

        if (kv->key.len == strlen(name) && memcmp(kv->key.ptr, name, kv->key.len) == 0 &&
            kv->value.len < sizeof text) {
            memcpy(text, kv->value.ptr, kv->value.len);
            return strtoull(text, NULL, 10);
        }
    }
    return 0;
}

static uint32_t mode_option(const pst_open_args *args)
{
    for (size_t i = 0; i < args->n_options; i++) {
        const pst_kv *kv = &args->options[i];

        if (kv->key.len == 4 && memcmp(kv->key.ptr, "mode", 4) == 0)
            return kv->value.ptr[0] == 'h'   ? MODE_HOLD
                   : kv->value.ptr[0] == 'e' ? MODE_EARLY
                                             : MODE_MIXED;
    }
    return MODE_MIXED;
}

static pst_rc open_backend(const pst_host *host, const pst_open_args *args, pst_backend **out,
                           pst_error *err)
{
    pst_backend *b = host->alloc(host, sizeof *b, 64);

    if (b == NULL)
        return PST_E_NO_MEMORY;
    memset(b, 0, sizeof *b);
    b->host = host;
    b->mode = mode_option(args);
    b->limit = (uint32_t)number_option(args, "limit");
    b->count = number_option(args, "count");
    b->locked.random = number_option(args, "seed") * 2 + 1;
    b->locked.ready_end = &b->locked.ready;
    b->locked.held = host->alloc(
        host, (size_t)(b->limit != 0 ? b->limit : b->count) * sizeof(struct job *), 16);
    if (b->locked.held == NULL) {
        host->dealloc(host, b);
        return PST_E_NO_MEMORY;
    }
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->is_ready, NULL);
    pthread_cond_init(&b->is_over, NULL);
    uint32_t n = (uint32_t)number_option(args, "threads");
    for (; b->n_threads < n; b->n_threads++) {
        if (pthread_create(&b->threads[b->n_threads], NULL, work, b) != 0) {
            snprintf(err->message, sizeof err->message, "only %u threads", b->n_threads);
            close_backend(b);
            return PST_E_NO_MEMORY;
        }
    }
    *out = b;
    return PST_OK;
}

PST_PLUGIN_ENTRY(host, plugin, err)
{
    static const char *const schemes[] = {"pending", NULL};
    static const pst_limits limits = {.struct_size = sizeof limits};
    static const pst_option options[] = {
        {.type = PST_OPT_ENUM,
         .name = "mode",
         .fallback = "mixed",
         .choices = "hold|early|mixed",
         .doc = "when operations complete"},
        {.type = PST_OPT_INT,
         .min = 1,
         .max = INT32_MAX,
         .name = "count",
         .fallback = "1",
         .doc = "operations that must be here before those held complete"},
        {.type = PST_OPT_INT,
         .max = INT32_MAX,
         .name = "limit",
         .fallback = "0",
         .doc = "operations taken at once, 0 for any number"},
        {.type = PST_OPT_INT,
         .max = INT32_MAX,
         .name = "seed",
         .fallback = "1",
         .doc = "of the order of completions"},
        {.type = PST_OPT_INT,
         .min = 1,
         .max = MAX_THREADS,
         .name = "threads",
         .fallback = "4",
         .doc = "that complete"},
    };
    static const pst_backend_ops ops = {
        .struct_size = sizeof ops,
        .read = submit_read,
        .stat = submit_stat,
        .dst_ready = resume,
        .flush = end_batch,
        .cancel = cancel,
        .info = describe,
        .close = close_backend,
    };
    static const pst_plugin pending = {
        .struct_size = sizeof pending,
        .abi_major = PST_ABI_MAJOR,
        .abi_minor = PST_ABI_MINOR,
        .caps = CAPS,
        .threads = PST_THREADS_PARALLEL,
        .op_scratch = sizeof(struct job),
        .id = "test.pending",
        .version = "0.9.0",
        .vendor = "Penstock tests",
        .license = "Apache-2.0",
        .schemes = schemes,
        .limits = &limits,
        .options = options,
        .option_stride = sizeof options[0],
        .n_options = sizeof options / sizeof options[0],
        .ops = &ops,
        .store_open = open_backend,
    };

    (void)host;
    (void)err;
    *plugin = &pending;
    return PST_OK;
}
