/* versions.c - contents that tell which version they are.
 *
 * A version is its number, spread over words of eight bytes: word i is mix(v ^ mix(i)), and word 0 is v
 * itself, so that a file of unknown history can be named by its first bytes and then checked to the last.
 * Two versions share no word in any place: bytes of two of them in one object never pass. */
#include "versions.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io_faults.h"

static uint64_t mix(uint64_t x) /* splitmix64, Vigna 2015 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t word_of(uint64_t v, uint64_t i)
{
    return i == 0 ? v : mix(v * 0x9e3779b97f4a7c15u ^ i);
}

size_t version_size(uint64_t v)
{
    uint64_t chance = mix(~v);
    size_t span = chance % 8 < 4 ? 4096 : chance % 8 < 7 ? 65536 : VERSION_BYTES_MAX - 8;

    return 8 + (size_t)(chance >> 8) % span;
}

void version_fill(uint64_t v, char *out)
{
    size_t size = version_size(v);

    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = word_of(v, at / 8);

        memcpy(out + at, &word, size - at < 8 ? size - at : 8);
    }
}

int version_matches(uint64_t v, size_t offset, const void *bytes, size_t len)
{
    const char *p = bytes;

    for (size_t done = 0; done < len;) {
        size_t skip = (offset + done) % 8, n = len - done < 8 - skip ? len - done : 8 - skip;
        uint64_t word = word_of(v, (offset + done) / 8);

        if (memcmp(p + done, (const char *)&word + skip, n) != 0)
            return 0;
        done += n;
    }
    return offset + len <= version_size(v);
}

/* Into a buffer of VERSION_BYTES_MAX + 1. */
static uint64_t identify(const char *path, char *bytes)
{
    size_t n = 0;
    ssize_t got = 1;
    uint64_t v = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    while (n <= VERSION_BYTES_MAX && (got = read(fd, bytes + n, VERSION_BYTES_MAX + 1 - n)) > 0)
        n += (size_t)got;
    close(fd);
    if (got < 0 || n < 8)
        return UINT64_MAX;
    memcpy(&v, bytes, sizeof(v));
    return v != 0 && n == version_size(v) && version_matches(v, 0, bytes, n) ? v : UINT64_MAX;
}

uint64_t version_of_file(const char *path)
{
    char *bytes = malloc(VERSION_BYTES_MAX + 1);
    uint64_t v = bytes ? identify(path, bytes) : UINT64_MAX;

    free(bytes);
    return v;
}

/* ---- the watcher ------------------------------------------------------------------------------- */

struct watcher {
    pthread_t thread;
    const char *const *paths;
    size_t n;
    atomic_int is_ending;
    long n_seen;
    char bytes[VERSION_BYTES_MAX + 1];
};

static void *watch(void *arg)
{
    struct watcher *w = arg;
    const struct timespec pause = {.tv_nsec = 50000};

    io_faults_spare_thread();
    for (size_t i = 0; !atomic_load(&w->is_ending) && w->n_seen >= 0; i = (i + 1) % w->n) {
        uint64_t v = identify(w->paths[i], w->bytes);

        if (v == UINT64_MAX)
            fprintf(stderr, "%s: seen as no whole version\n", w->paths[i]);
        w->n_seen = v == UINT64_MAX ? -1 : w->n_seen + (v != 0);
        nanosleep(&pause, NULL); /* it shares the cores with what it watches */
    }
    return NULL;
}

struct watcher *watcher_start(const char *const *paths, size_t n)
{
    struct watcher *w = calloc(1, sizeof(*w));

    if (!w)
        return NULL;
    w->paths = paths;
    w->n = n;
    if (pthread_create(&w->thread, NULL, watch, w) != 0) {
        free(w);
        return NULL;
    }
    return w;
}

long watcher_stop(struct watcher *w)
{
    atomic_store(&w->is_ending, 1);
    pthread_join(w->thread, NULL);
    long n_seen = w->n_seen;
    free(w);
    return n_seen;
}
