/* many.c - get_many of 10,000 files of 64 KiB from the page cache.
 *
 * The plain side is what one would write by hand: threads that take the next file, open, fstat, pread,
 * close. It keeps its results as Penstock does: packed into arenas of 2 MiB huge pages, all of them until
 * the last file has been read (keep), or until a window of 512 has (release). Arenas that are given back
 * are used again, as Penstock does up to its budget. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N_FILES = 10000, FILE_BYTES = 64 << 10, RELEASE_WINDOW = 512 };
enum { MAX_ARENAS = 1024 };

struct many {
    struct bench *b;
    size_t window; /* results kept at once */
    char (*paths)[4096];
    pst_store *store;
    pst_get_item *items;
    pst_get_result *results;

    /* The plain side. */
    pthread_mutex_t mutex;
    char *current, *used[MAX_ARENAS], *idle[MAX_ARENAS];
    size_t current_used, n_used, n_idle;
    atomic_size_t next;
    pthread_barrier_t barrier;

    char list[4096]; /* a file with all paths */
    struct peer *s3dlio, *obstore;
};

/* ---- the plain side ---------------------------------------------------------------------------- */

static char *take_memory(struct many *m, size_t bytes)
{
    char *memory;

    pthread_mutex_lock(&m->mutex);
    if (m->current == NULL || m->current_used + bytes > HUGE_BYTES) {
        m->current = m->n_idle > 0 ? m->idle[--m->n_idle] : map_pages(HUGE_BYTES);
        if (m->n_used == MAX_ARENAS)
            die("too many arenas");
        m->used[m->n_used++] = m->current;
        m->current_used = 0;
    }
    memory = m->current + m->current_used;
    m->current_used += (bytes + 63) / 64 * 64;
    pthread_mutex_unlock(&m->mutex);
    return memory;
}

static void release_memory(struct many *m)
{
    for (size_t i = 0; i < m->n_used; i++)
        m->idle[m->n_idle++] = m->used[i];
    m->n_used = 0;
    m->current = NULL;
}

static void read_one(struct many *m, const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) != 0)
        die("%s: errno %d", path, errno);
    char *at = take_memory(m, (size_t)st.st_size);
    for (off_t done = 0; done < st.st_size;) {
        ssize_t n = pread(fd, at + done, (size_t)(st.st_size - done), done);

        if (n <= 0)
            die("%s: errno %d", path, errno);
        done += n;
    }
    close(fd);
}

/* All threads stay for all windows, as those of a pool do. */
static void read_windows(void *arg, unsigned int thread)
{
    struct many *m = arg;
    size_t i;

    for (size_t from = 0; from < N_FILES; from += m->window) {
        size_t end = from + m->window < N_FILES ? from + m->window : N_FILES;

        while ((i = atomic_fetch_add(&m->next, 1)) < end)
            read_one(m, m->paths[i]);
        pthread_barrier_wait(&m->barrier);
        if (thread == 0) {
            release_memory(m);
            atomic_store(&m->next, end);
        }
        pthread_barrier_wait(&m->barrier);
    }
}

static void plain(void *arg)
{
    struct many *m = arg;

    pthread_barrier_init(&m->barrier, NULL, m->b->n_threads);
    start_clock();
    atomic_store(&m->next, 0);
    run_threads(m->b->n_threads, read_windows, m);
    stop_clock();
    pthread_barrier_destroy(&m->barrier);
}

/* ---- Penstock ---------------------------------------------------------------------------------- */

static void penstock(void *arg)
{
    struct many *m = arg;
    const pst_many_options options = {.struct_size = sizeof options,
                                      .max_in_flight = m->b->n_threads};
    pst_error err = PST_ERROR_INIT;

    start_clock();
    for (size_t from = 0; from < N_FILES; from += m->window) {
        size_t n = from + m->window < N_FILES ? m->window : N_FILES - from;

        check(pst_get_many(m->store, m->items + from, n, &options, NULL, m->results, &err), &err);
        for (size_t i = 0; i < n; i++) {
            if (pst_buffer_size(m->results[i].buffer) != FILE_BYTES)
                die("%s: %zu bytes", m->paths[from + i], pst_buffer_size(m->results[i].buffer));
        }
        pst_get_results_free(m->results, n);
    }
    stop_clock();
}

/* ---- the peers --------------------------------------------------------------------------------- */

static void many_by_s3dlio(void *arg)
{
    const struct many *m = arg;

    peer_do(m->s3dlio, "many", m->list, (uint64_t)N_FILES * FILE_BYTES);
}

static void many_by_obstore(void *arg)
{
    const struct many *m = arg;

    peer_do(m->obstore, "many", m->list, (uint64_t)N_FILES * FILE_BYTES);
}

static void write_list(struct many *m)
{
    FILE *f = fopen(path_of(m->b, "many.list", m->list, sizeof m->list), "w");

    for (size_t i = 0; f != NULL && i < N_FILES; i++)
        fprintf(f, "%s\n", m->paths[i]);
    if (f == NULL || fclose(f) != 0)
        die("cannot write %s", m->list);
}

/* All results are kept, by the peers too. */
static void compare_kept(struct many *m)
{
    struct bench *b = m->b;
    const char *what = "`pst_get_many` 10,000 x 64 KiB";
    const double bytes = (double)N_FILES * FILE_BYTES;

    m->window = N_FILES;
    m->s3dlio = peer_start(b, "s3dlio");
    m->obstore = peer_start(b, "obstore");
    struct side sides[] = {{"plain C", plain, m, {0}, {0}},
                           {"Penstock", penstock, m, {0}, {0}},
                           {"s3dlio", m->s3dlio ? many_by_s3dlio : NULL, m, {0}, {0}},
                           {"obstore", m->obstore ? many_by_obstore : NULL, m, {0}, {0}}};
    run_sides(sides, 4);
    int faster = m->s3dlio && median(sides[2].wall_s) < median(sides[3].wall_s) ? 2 : 3;
    report_speed(b, what, bytes, &sides[0], &sides[1], 0.7);
    report_cpu(b, "... its CPU time", bytes, &sides[0], &sides[1], 1.6);
    report_cpu(b, "... the faster peer's", bytes, &sides[faster], &sides[1], 0.5);
    report_cpu(b, "... the other peer's", bytes, &sides[5 - faster], &sides[1], NO_TARGET);
    peer_stop(m->s3dlio);
    peer_stop(m->obstore);
}

static void compare_released(struct many *m)
{
    const double bytes = (double)N_FILES * FILE_BYTES;
    struct side sides[] = {{"plain C", plain, m, {0}, {0}}, {"Penstock", penstock, m, {0}, {0}}};

    m->window = RELEASE_WINDOW;
    run_sides(sides, 2);
    report_speed(m->b, "the same, 512 kept at a time", bytes, &sides[0], &sides[1], 0.7);
    report_cpu(m->b, "... its CPU time", bytes, &sides[0], &sides[1], 1.6);
}

void bench_many(struct bench *b)
{
    struct many m = {.b = b, .mutex = PTHREAD_MUTEX_INITIALIZER};
    pst_context *context = open_context(b, 0, 0);
    char name[32];

    m.store = open_store(context, "file:///", NULL, 0);
    m.paths = calloc(N_FILES, sizeof *m.paths);
    m.items = calloc(N_FILES, sizeof *m.items);
    m.results = calloc(N_FILES, sizeof *m.results);
    if (m.paths == NULL || m.items == NULL || m.results == NULL)
        die("out of memory");
    for (unsigned int i = 0; i < N_FILES; i++) {
        snprintf(name, sizeof name, "many.%05u", i);
        path_of(b, name, m.paths[i], sizeof m.paths[i]);
        write_file(m.paths[i], FILE_BYTES, i);
        m.items[i] = (pst_get_item){.key = key_of(m.paths[i]), .length = PST_UNKNOWN};
    }
    write_list(&m);
    compare_kept(&m);
    compare_released(&m);
    remove_file(m.list);
    for (size_t i = 0; i < N_FILES; i++)
        remove_file(m.paths[i]);
    while (m.n_idle > 0)
        unmap_pages(m.idle[--m.n_idle], HUGE_BYTES);
    free(m.paths);
    free(m.items);
    free(m.results);
    pst_store_free(m.store);
    pst_context_free(context);
}
