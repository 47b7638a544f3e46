#include "direct_files.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../file/tests/mini_host.h"

/* Objects are this text again and again, from a place that depends on the seed: comparing with it is
 * quick under the sanitizers too, and its length has nothing in common with blocks and pages. */
enum { PERIOD = 1000003 };
static char text[PERIOD];
static pthread_once_t text_once = PTHREAD_ONCE_INIT;

static void make_text(void)
{
    uint32_t x = 1;

    for (size_t i = 0; i < PERIOD; i++) {
        x = x * 1103515245u + 12345u;
        text[i] = (char)(x >> 24);
    }
}

static size_t place_in_text(uint64_t offset, unsigned seed)
{
    pthread_once(&text_once, make_text);
    return (size_t)((offset + seed * 7919u) % PERIOD);
}

void pattern_fill(char *bytes, size_t n, uint64_t offset, unsigned seed)
{
    for (size_t done = 0, step; done < n; done += step) {
        size_t at = place_in_text(offset + done, seed);
        step = PERIOD - at < n - done ? PERIOD - at : n - done;
        memcpy(bytes + done, text + at, step);
    }
}

size_t pattern_differs(const char *bytes, size_t n, uint64_t offset, unsigned seed)
{
    for (size_t done = 0, step; done < n; done += step) {
        size_t at = place_in_text(offset + done, seed);
        step = PERIOD - at < n - done ? PERIOD - at : n - done;
        if (memcmp(bytes + done, text + at, step) == 0)
            continue;
        while (bytes[done] == text[at]) {
            done++;
            at++;
        }
        return done;
    }
    return n;
}

int bytes_are(const char *bytes, size_t n, char value)
{
    return n == 0 || (bytes[0] == value && memcmp(bytes, bytes + 1, n - 1) == 0);
}

static int open_file(const char *dir, const char *name, int flags)
{
    char *path = mini_path(dir, name);
    int fd = open(path, flags | O_CLOEXEC, 0644);

    free(path);
    assert_true(fd >= 0);
    return fd;
}

void direct_make(const char *dir, const char *name, uint64_t size, unsigned seed)
{
    int fd = open_file(dir, name, O_WRONLY | O_CREAT | O_TRUNC);
    char *bytes = malloc(size + 1);

    assert_non_null(bytes);
    pattern_fill(bytes, size, 0, seed);
    assert_int_equal(write(fd, bytes, size), size);
    free(bytes);
    close(fd);
}

void direct_check(const char *dir, const char *name, uint64_t size, unsigned seed)
{
    int fd = open_file(dir, name, O_RDONLY);
    char *bytes = malloc(size + 1);

    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, size + 1), size);
    assert_int_equal(pattern_differs(bytes, size, 0, seed), size);
    free(bytes);
    close(fd);
}

void direct_evict(const char *dir, const char *name)
{
    int fd = open_file(dir, name, O_RDONLY);

    assert_int_equal(fsync(fd), 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
}

uint64_t direct_cached(const char *dir, const char *name)
{
    int fd = open_file(dir, name, O_RDONLY);
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct stat st;
    uint64_t n = 0;

    assert_int_equal(fstat(fd, &st), 0);
    size_t n_pages = ((size_t)st.st_size + page - 1) / page;
    unsigned char *in_core = calloc(n_pages, 1);
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED && in_core);
    assert_int_equal(mincore(map, (size_t)st.st_size, in_core), 0);
    for (size_t i = 0; i < n_pages; i++)
        n += (in_core[i] & 1u) * page;
    munmap(map, (size_t)st.st_size);
    free(in_core);
    close(fd);
    return n;
}

struct guarded guarded_new(size_t n, size_t shift)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t body = (n + shift + page - 1) / page * page;
    struct guarded g = {.map_bytes = body + 2 * page};

    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map, page, PROT_NONE), 0);
    assert_int_equal(mprotect(g.map + page + body, page, PROT_NONE), 0);
    g.bytes = g.map + page + body - shift - n;
    memset(g.map + page, 0x5a, body);
    return g;
}

void guarded_free(struct guarded *g)
{
    munmap(g->map, g->map_bytes);
    g->map = NULL;
}
