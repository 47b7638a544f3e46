/* test_pending.c - ten thousand operations under way at once, at a plugin that completes them in every
 * order there is: see pending.c.
 *
 * How: requests are submitted in batches without reaping, stats and reads into the caller's memory by
 * turns, and each event is checked off against its request: once, with the id that submit gave, the
 * right status, the right bytes. Wake-ups of the queue's descriptor are counted by standing in front
 * of the C library's eventfd_write and write.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include <penstock/penstock.h>

enum { N = 10000, SUBMIT_BATCH = 500, REAP_BATCH = 256, PATIENCE_MS = 60000 };

/* Threads that a context has while nothing runs on its pools: docs/threading-and-fork.md. */
enum { HOST_THREADS = 1, PLUGIN_THREADS = 4 };

/* ---- counting wake-ups ------------------------------------------------------------------------- */

static atomic_int watched_fd = -1;
static atomic_uint n_wakeups;

PST_EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
    static ssize_t (*real)(int, const void *, size_t);

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "write");
    if (fd == atomic_load(&watched_fd))
        atomic_fetch_add(&n_wakeups, 1);
    return real(fd, buf, n);
}

PST_EXPORT int eventfd_write(int fd, eventfd_t value)
{
    return write(fd, &value, sizeof value) == (ssize_t)sizeof value ? 0 : -1;
}

/* ---- one run ----------------------------------------------------------------------------------- */

struct run {
    pst_context *context;
    pst_store *store;
    pst_queue *queue;
    size_t n;
    uint64_t *ids;
    uint64_t *bytes;       /* [i]: where read i goes */
    uint32_t *order;       /* requests in the order of their events */
    unsigned char *seen;   /* [i]: an event of request i came */
    unsigned char *is_cut; /* [i]: request i was cancelled by us */
    size_t n_events, n_ok, n_cancelled, n_batches;
};

static uint64_t hash_key(const char *key) /* as pending.c computes its objects */
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (; *key != '\0'; key++)
        h = (h ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
    return h;
}

static const char *key_of(size_t i, char key[32])
{
    snprintf(key, 32, "k%05zu", i);
    return key;
}

static int is_read(size_t i)
{
    return i % 2 == 1;
}

static int count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    int n = -2; /* . and .. */

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static pst_context *open_context(void)
{
    const char *const dirs[] = {PENDING_PLUGINS, NULL};
    pst_context_options options = {
        .struct_size = sizeof options,
        .flags = PST_CONTEXT_ONLY_DIRS | PST_CONTEXT_NO_ENVIRONMENT,
        .max_in_flight = 16384, /* all of N at the plugin at once */
        .plugin_dirs = dirs,
    };
    pst_context *context = NULL;
    pst_error err = PST_ERROR_INIT;

    if (pst_context_new(&options, &context, &err) != PST_OK)
        fail_msg("%s", err.message);
    return context;
}

/* Open `pending://x` with options given as "name=value", NULL at the end. */
static void open_run(struct run *run, size_t n, const char *const *texts)
{
    pst_kv options[8];
    size_t n_options = 0;
    pst_error err = PST_ERROR_INIT;

    memset(run, 0, sizeof *run);
    run->context = open_context();
    run->n = n;
    for (; texts[n_options] != NULL; n_options++) {
        const char *text = texts[n_options], *value = strchr(text, '=') + 1;

        options[n_options].key = pst_str_of(text, (size_t)(value - text) - 1);
        options[n_options].value = pst_str_of(value, strlen(value));
    }
    if (pst_store_open(run->context, PST_STR("pending://x/"), options, n_options, &run->store,
                       &err) != PST_OK ||
        pst_queue_new(run->context, &run->queue, &err) != PST_OK)
        fail_msg("%s", err.message);
    run->ids = calloc(n, sizeof *run->ids);
    run->bytes = calloc(n, sizeof *run->bytes);
    run->order = calloc(n, sizeof *run->order);
    run->seen = calloc(n, 1);
    run->is_cut = calloc(n, 1);
    assert_true(run->ids && run->bytes && run->order && run->seen && run->is_cut);
    atomic_store(&n_wakeups, 0);
    atomic_store(&watched_fd, pst_queue_fd(run->queue));
}

static void close_run(struct run *run)
{
    atomic_store(&watched_fd, -1);
    pst_queue_free(run->queue);
    pst_store_free(run->store);
    pst_context_free(run->context);
    free(run->ids);
    free(run->bytes);
    free(run->order);
    free(run->seen);
    free(run->is_cut);
}

/* Submit requests from..to-1 in one call. */
static void submit(struct run *run, size_t from, size_t to)
{
    static pst_request requests[SUBMIT_BATCH];
    static pst_iov spans[SUBMIT_BATCH];
    static char keys[SUBMIT_BATCH][32];
    pst_error err = PST_ERROR_INIT;

    assert_true(to - from <= SUBMIT_BATCH);
    for (size_t i = from; i < to; i++) {
        pst_request *r = &requests[i - from];
        const char *key = key_of(i, keys[i - from]);

        memset(r, 0, sizeof *r);
        r->struct_size = sizeof *r;
        r->kind = is_read(i) ? PST_REQ_GET : PST_REQ_STAT;
        r->user_data = i;
        r->store = run->store;
        r->key = pst_str_of(key, strlen(key));
        if (is_read(i)) {
            spans[i - from] = (pst_iov){.ptr = &run->bytes[i], .len = sizeof run->bytes[i]};
            r->length = sizeof run->bytes[i];
            r->dst = &spans[i - from];
            r->n_dst = 1;
        }
    }
    if (pst_queue_submit(run->queue, requests, to - from, &run->ids[from], &err) != PST_OK)
        fail_msg("%s", err.message);
}

static void check_event(struct run *run, const pst_event *event)
{
    size_t i = (size_t)event->user_data;
    char key[32];

    assert_true(i < run->n);
    assert_int_equal(run->seen[i], 0);
    run->seen[i] = 1;
    run->order[run->n_events++] = (uint32_t)i;
    assert_int_equal(event->id, run->ids[i]);
    assert_int_equal(event->kind, is_read(i) ? PST_REQ_GET : PST_REQ_STAT);
    if (event->status == PST_E_CANCELLED) {
        assert_true(run->is_cut[i]);
        run->n_cancelled++;
        return;
    }
    if (event->status != PST_OK)
        fail_msg("request %zu: %s", i, event->error ? event->error->message : "no error");
    run->n_ok++;
    if (is_read(i)) {
        assert_int_equal(event->size, sizeof run->bytes[i]);
        assert_int_equal(run->bytes[i], hash_key(key_of(i, key)));
    } else {
        assert_non_null(event->attr);
        assert_int_equal(event->attr->size, sizeof run->bytes[i]);
    }
}

/* Reap until `n_events` came in all: sleep on the descriptor, then empty the queue. */
static void reap(struct run *run, size_t n_events)
{
    static pst_event events[REAP_BATCH];
    pst_error err = PST_ERROR_INIT;
    size_t n;

    while (run->n_events < n_events) {
        struct pollfd pollfd = {.fd = pst_queue_fd(run->queue), .events = POLLIN};

        if (poll(&pollfd, 1, PATIENCE_MS) != 1)
            fail_msg("%zu of %zu events came", run->n_events, n_events);
        do {
            if (pst_queue_wait(run->queue, events, REAP_BATCH, 0, NULL, &n, &err) != PST_OK)
                fail_msg("%s", err.message);
            for (size_t k = 0; k < n; k++) {
                check_event(run, &events[k]);
                pst_event_fini(&events[k]);
            }
            run->n_batches += n > 0;
        } while (n > 0);
    }
    assert_int_equal(run->n_events, n_events);
}

/* What the plugin counted: the number after `name=`. */
static uint64_t plugin_count(struct run *run, const char *name)
{
    char text[256] = "";
    size_t n = 0;
    pst_error err = PST_ERROR_INIT;

    if (pst_get_into(run->store, PST_STR("stats"), 0, text, sizeof text - 1, NULL, NULL, &n, NULL,
                     &err) != PST_OK)
        fail_msg("%s", err.message);
    const char *at = strstr(text, name);
    assert_non_null(at);
    return strtoull(at + strlen(name) + 1, NULL, 10);
}

static int compare_ids(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void check_ids_are_unique(struct run *run)
{
    qsort(run->ids, run->n, sizeof *run->ids, compare_ids);
    for (size_t i = 1; i < run->n; i++)
        assert_true(run->ids[i - 1] < run->ids[i]);
}

/* Not one descriptor write more than batches were reaped, and the one that may be under way. */
static void check_wakeups(const struct run *run)
{
    unsigned int n = atomic_load(&n_wakeups);

    assert_true(n > 0);
    assert_true(n <= run->n_batches + 1);
}

/* In the order of chance half of all neighbours are the wrong way round. */
static void check_shuffled(const struct run *run, size_t from)
{
    size_t n_descents = 0;

    for (size_t i = from + 1; i < run->n_events; i++)
        n_descents += run->order[i] < run->order[i - 1];
    assert_true(n_descents > (run->n_events - from) / 4);
}

static void test_pending__ten_thousand_complete_once_all_are_submitted(void **state)
{
    static const char *const options[] = {"mode=mixed", "count=10000", "seed=7", NULL};
    const size_t n_early = (N + 1) / 3; /* arrivals 0, 3, 6, ... of the first N-1 */
    int n_threads = count_threads();
    struct run run;

    (void)state;
    open_run(&run, N, options);
    for (size_t i = 0; i + SUBMIT_BATCH <= N - SUBMIT_BATCH; i += SUBMIT_BATCH)
        submit(&run, i, i + SUBMIT_BATCH);
    submit(&run, N - SUBMIT_BATCH, N - 1);

    /* One is missing: the third that completed before its submit returned comes, nothing else. */
    reap(&run, n_early);
    assert_int_equal(pst_queue_outstanding(run.queue), N - 1 - n_early);
    while (plugin_count(&run, "arrived") < N - 1)
        continue;
    assert_int_equal(plugin_count(&run, "early"), n_early);
    assert_int_equal(count_threads() - n_threads, HOST_THREADS + PLUGIN_THREADS);

    submit(&run, N - 1, N);
    reap(&run, N);
    assert_int_equal(run.n_ok, N);
    assert_int_equal(pst_queue_outstanding(run.queue), 0);
    assert_true(plugin_count(&run, "peak") >= N - n_early);
    assert_int_equal(plugin_count(&run, "busy"), 0);
    assert_int_equal(count_threads() - n_threads, HOST_THREADS + PLUGIN_THREADS);
    check_shuffled(&run, n_early);
    check_wakeups(&run);
    check_ids_are_unique(&run);
    close_run(&run);
    assert_int_equal(count_threads(), n_threads);
}

static void test_pending__a_third_cancelled_at_a_plugin_that_is_busy_at_64(void **state)
{
    static const char *const options[] = {"mode=mixed", "limit=64", "seed=8", NULL};
    size_t n_cut = 0;
    struct run run;

    (void)state;
    open_run(&run, N, options);
    for (size_t i = 0; i < N; i += SUBMIT_BATCH) {
        submit(&run, i, i + SUBMIT_BATCH);
        for (size_t k = i; k < i + SUBMIT_BATCH; k++) {
            if (k % 3 == 1) {
                run.is_cut[k] = 1;
                n_cut++;
                pst_queue_cancel(run.queue, run.ids[k]);
            }
        }
    }
    reap(&run, N);
    assert_int_equal(run.n_ok + run.n_cancelled, N);
    assert_true(run.n_ok >= N - n_cut);
    assert_true(run.n_cancelled > 0);
    assert_true(plugin_count(&run, "peak") == 64);
    assert_true(plugin_count(&run, "busy") > 0);
    assert_true(plugin_count(&run, "wakes") > 0);
    check_wakeups(&run);
    check_ids_are_unique(&run);

    pst_stats stats = {.struct_size = sizeof stats};
    pst_context_stats(run.context, &stats);
    assert_true(stats.busy > 0);
    assert_int_equal(stats.threads, HOST_THREADS);
    assert_int_equal(stats.abandoned_ops, 0);
    close_run(&run);
}

static void test_pending__operations_may_all_complete_before_their_submit_returns(void **state)
{
    static const char *const options[] = {"mode=early", "seed=9", NULL};
    struct run run;

    (void)state;
    open_run(&run, 2 * SUBMIT_BATCH, options);
    submit(&run, 0, SUBMIT_BATCH);
    submit(&run, SUBMIT_BATCH, 2 * SUBMIT_BATCH);
    reap(&run, run.n);
    assert_int_equal(run.n_ok, run.n);
    assert_int_equal(plugin_count(&run, "early"), run.n);
    check_wakeups(&run);
    close_run(&run);
}

static void test_pending__a_queue_freed_with_all_of_them_held_cancels_them(void **state)
{
    static const char *const options[] = {"mode=hold", "count=1000000", NULL};
    struct run run;

    (void)state;
    open_run(&run, SUBMIT_BATCH, options);
    submit(&run, 0, SUBMIT_BATCH);
    while (plugin_count(&run, "arrived") < SUBMIT_BATCH)
        continue;
    pst_queue_free(run.queue);
    run.queue = NULL;
    assert_int_equal(plugin_count(&run, "cancelled"), SUBMIT_BATCH);
    close_run(&run);
}

static void *do_nothing(void *arg)
{
    return arg;
}

/* Before threads are counted: a sanitizer starts one of its own beside the first. And the real write is
 * looked up while there is only one. */
static int start_one_thread(void **state)
{
    pthread_t thread;

    (void)state;
    if (write(-1, "", 0) >= 0)
        return -1;
    if (pthread_create(&thread, NULL, do_nothing, NULL) != 0)
        return -1;
    return pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pending__ten_thousand_complete_once_all_are_submitted),
        cmocka_unit_test(test_pending__a_third_cancelled_at_a_plugin_that_is_busy_at_64),
        cmocka_unit_test(test_pending__operations_may_all_complete_before_their_submit_returns),
        cmocka_unit_test(test_pending__a_queue_freed_with_all_of_them_held_cancels_them),
    };

    return cmocka_run_group_tests(tests, start_one_thread, NULL);
}
