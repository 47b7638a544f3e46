/* bench.h - what the benchmarks share: time, pages, files, threads, sides that run by turns. */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

#include <penstock/penstock.h>

enum { ROUNDS = 5, MAX_THREADS = 64, HUGE_BYTES = 2 << 20 };

struct bench {
    const char *place;   /* "tmpfs", "disk": what `dir` lies on */
    const char *dir;     /* everything is made below it, and removed */
    const char *plugins; /* folder of file.so, NULL: as a host finds it */
    const char *python;  /* with the peers installed, NULL: they are left out */
    const char *peers;   /* path of peers.py */
    int has_fio;
    unsigned int n_threads;
    int failures; /* targets that were missed */
};

/* A failure here is the end: one line and exit 1. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void check(pst_rc rc, const pst_error *err);

double now_s(void);
double cpu_s(void);                     /* of the process, user and system */
uint64_t read_status(const char *name); /* a line of /proc/self/status ("VmHWM:"), in bytes */

/* Memory as Penstock's arenas are made of: 2 MiB aligned, huge pages advised, untouched. */
void *map_pages(size_t bytes);
void unmap_pages(void *pages, size_t bytes);

/* Run fn(arg, i) on `n` threads, i from 0, and wait for all. */
void run_threads(unsigned int n, void (*fn)(void *arg, unsigned int i), void *arg);

/* "DIR/NAME", in memory of the caller. */
const char *path_of(const struct bench *b, const char *name, char *path, size_t size);
void write_file(const char *path, size_t bytes, unsigned int seed);
void remove_file(const char *path);

/* 0: the library's own. idle_bytes 1: memory that was given back is not used again. */
pst_context *open_context(const struct bench *b, uint64_t budget_bytes, uint64_t idle_bytes);
pst_store *open_store(pst_context *context, const char *uri, const pst_kv *options, size_t n);
/* The key of a path: what follows "file:///". */
pst_str key_of(const char *path);

/* ---- sides.c ------------------------------------------------------------------------------------ */

/* One side of a comparison: does all the work once. Only what lies between start and stop counts, or what
 * is told to set_clock by a side that has another process measure itself. */
struct side {
    const char *name;
    void (*run)(void *arg);
    void *arg;
    double wall_s[ROUNDS], cpu_s[ROUNDS];
};

void start_clock(void);
void stop_clock(void);
void set_clock(double wall_s, double cpu_s);

/* Run all sides ROUNDS times by turns, after one run each that does not count. Sides whose run is NULL
 * are left out. */
void run_sides(struct side *sides, size_t n);

double median(const double *values);

#define NO_TARGET 0.0
/* A row: how many times as fast as `other`; to be at least `target`. */
void report_speed(struct bench *b, const char *what, double bytes, const struct side *other,
                  const struct side *ours, double target);
/* How much of the other's CPU time; to be at most `target`. */
void report_cpu(struct bench *b, const char *what, double bytes, const struct side *other,
                const struct side *ours, double target);
/* Any other figure of each round; to be at most `target`. */
void report_most(struct bench *b, const char *what, double bytes, const struct side *other,
                 const struct side *ours, const double *values, double target);

/* ---- peer.c, fio.c, uring.c: those that Penstock is compared with ------------------------------------- */

/* A Python process with one of the peers; NULL where there is none. It takes a line ("get PATH"), does it
 * and keeps the result until the next, and sets the clock to what it has measured. */
struct peer;
struct peer *peer_start(const struct bench *b, const char *name);
void peer_do(struct peer *peer, const char *verb, const char *path, uint64_t bytes);
void peer_stop(struct peer *peer);

/* One job of fio on io_uring with O_DIRECT; sets the clock to what it reports. */
struct fio {
    const char *path;
    uint64_t bytes, block_bytes;
    unsigned int depth;
    int is_write, has_huge_pages;
};
void fio_run(const struct fio *job);

/* The same by hand, between `memory` and a file that is open with O_DIRECT. */
struct uring;
struct uring *uring_new(unsigned int depth);
void uring_move(struct uring *u, int fd, char *memory, uint64_t bytes, uint64_t block_bytes,
                int is_write);
void uring_free(struct uring *u);

/* ---- the parts ----------------------------------------------------------------------------------------- */

void bench_get(struct bench *b);
void bench_many(struct bench *b);
void bench_direct(struct bench *b);
void bench_checksum(struct bench *b);
void bench_zstd(struct bench *b);
void bench_put(struct bench *b);
void bench_memory(struct bench *b);

#endif
