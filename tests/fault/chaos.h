/* chaos.h - a store, what each of its keys must hold, and what an operation may answer. */
#ifndef PST_TEST_CHAOS_H
#define PST_TEST_CHAOS_H

#include <stddef.h>
#include <stdint.h>

#include <penstock/penstock.h>

#include "io_faults.h"
#include "versions.h"

enum { KEYS = 24, BATCH = 6, ONE_IN = 60 };

struct world {
    const char *dir, *what; /* what: the operation under way */
    pst_context *context;
    pst_store *store;
    uint64_t seed, turn, random;
    uint64_t held[KEYS]; /* version of each key, 0: absent */
    uint64_t last_version;
    char keys[KEYS][32];
    char *paths[KEYS];
    char *body; /* of VERSION_BYTES_MAX */
    pst_error err;
    unsigned n_faults; /* in this operation */
    size_t n_ok, n_failed, n_maybe;
    unsigned long n_faults_before[IO_FAULT_CALLS];
};

/* Fails the test, saying which operation of which seed it was. */
#define CHECK(w, condition) check((w), (condition), #condition, __FILE__, __LINE__)
void check(const struct world *w, int holds, const char *text, const char *file, int line);

uint64_t next(struct world *w, uint64_t below);
pst_str key_of(const struct world *w, size_t i);

/* A store of `scheme` in `dir`, with the plugins of the build; `more` are options. */
void open_world(struct world *w, const char *dir, const char *scheme, const pst_kv *more,
                size_t n_more);
/* Cleans up: the keys are as they must be, and nothing else is left. */
void close_world(struct world *w);

/* Around each operation. `wanted`: what it answers if nothing goes wrong. */
void begin(struct world *w, const char *what);
void end(struct world *w, pst_rc rc, pst_rc wanted);
/* The same for a batch, which answers with the code of the first item that failed. */
void end_batch(struct world *w, pst_rc rc, const pst_get_result *results);

/* What reading this key answers if nothing goes wrong. */
pst_rc wanted_of(const struct world *w, size_t key);

/* The key holds what it did, or what was written, as the answer says. */
void settle(struct world *w, size_t key, uint64_t written, pst_rc rc);

/* Are these the bytes from `offset`, `most` of them or as many as there are? */
int is_slice(const struct world *w, size_t key, uint64_t offset, const void *bytes, size_t n,
             size_t most);

/* An item of a batch failed clearly, or is of a key that is there. */
void check_item(struct world *w, size_t key, const pst_get_result *result);

#endif
