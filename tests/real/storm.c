/* storm.c - thousands of operations of every kind, each held against what must be there.
 *
 *   storm URI SEED OPERATIONS THREADS LEDGER
 *
 * Each thread has keys of its own below URI and knows what they hold, so every answer can be judged: bytes
 * are those of a version that the key may hold, to the last one; an error is one that a broken network or
 * a dead server explains, with a message of one line. EXISTS, PRECONDITION and NOT_FOUND are answers like
 * any other, and wrong where the key's state says so: a create-only put whose first reply was lost must
 * not be told that it lost against itself.
 *
 * A write that ends with MAYBE_APPLIED leaves its key with two possibilities. The key is retired then, since
 * the request may still be on its way, and another takes its place. At the end the ledger has a line for
 * each key that was ever used, `key<TAB>state<TAB>state...`, a state being `-` (absent) or `size:crc32`:
 * what an independent client must find. Whoever started this breaks and mends the network meanwhile; the
 * number of operations done is printed now and then for them, and at the end one line of totals in JSON.
 *
 * Exit 0: every answer was right. 1: one was not, it is on stderr. Uploads that failed are aborted by their
 * writers; what is left of them all the same is removed by pst_cleanup once the network is whole, which
 * standard input tells. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <penstock/penstock.h>

enum {
    SLOTS = 16, /* keys of a thread at a time */
    STATES = 4, /* of one key; it is retired long before */
    THREADS_MAX = 32,
    TIMEOUT_MS = 30000,
    TOLD_EVERY = 50,
    CODES = 32,
    KEY_MAX = 512,
    PAST = 64,
    SUSPECTS_MAX = 256 /* uploads of a thread, three in a hundred operations */
};
#define SMALL_MAX ((size_t)200000)
#define PART_BYTES ((size_t)5 << 20)
#define LARGE_MAX ((size_t)16 << 20)

struct slot {
    uint64_t versions[STATES]; /* 0: absent */
    size_t n;
    char key[KEY_MAX];
};

struct past {
    const char *what;
    char key[KEY_MAX];
    double at_s; /* since the start, when it was judged */
    pst_rc rc;
    uint32_t flags; /* of the error */
    uint64_t version;
};

struct worker {
    pthread_t thread;
    pst_store *store;
    FILE *ledger;
    unsigned number, n_keys;
    uint64_t random, last_version;
    char *body; /* of LARGE_MAX */
    struct slot slots[SLOTS];
    char suspects[SUSPECTS_MAX][KEY_MAX]; /* keys that had an upload */
    size_t n_ok, n_maybe, n_suspects;
    size_t n_left;          /* uploads whose abort failed as well */
    size_t n_failed[CODES]; /* by code, negated */
    const char *what;
    pst_error err;
    struct past past[PAST]; /* what was done last, for whoever reads that an answer was wrong */
    size_t n_past;
};

static atomic_int is_over; /* somebody was answered wrongly */
static atomic_size_t n_begun;
static size_t n_wanted;
static double start_s;
static pst_str prefix;
static pthread_mutex_t ledger_mutex = PTHREAD_MUTEX_INITIALIZER;
static uint32_t crc_table[256];

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9 - start_s;
}

/* ---- versions ---------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x) /* splitmix64, Vigna 2015 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t next(struct worker *w, uint64_t below)
{
    w->random = mix(w->random);
    return (w->random >> 11) % below;
}

/* A version is a number whose low bit says whether it is a large object. */
static int is_large(uint64_t v)
{
    return v & 1;
}

static size_t version_bytes(uint64_t v)
{
    uint64_t chance = mix(~v);

    if (is_large(v))
        return PART_BYTES + 1 + (size_t)(chance % (LARGE_MAX - PART_BYTES));
    return chance % 10 == 0 ? 0 : (size_t)(chance >> 8) % SMALL_MAX;
}

static uint64_t word_of(uint64_t v, uint64_t i)
{
    return (v * 0x9e3779b97f4a7c15u ^ i) * 0xbf58476d1ce4e5b9u;
}

static void version_fill(uint64_t v, char *out)
{
    size_t bytes = version_bytes(v);

    for (size_t at = 0; at < bytes; at += 8) {
        uint64_t word = word_of(v, at / 8);

        memcpy(out + at, &word, bytes - at < 8 ? bytes - at : 8);
    }
}

static int version_matches(uint64_t v, size_t offset, const void *bytes, size_t len)
{
    const char *p = bytes;

    for (size_t done = 0; done < len;) {
        size_t skip = (offset + done) % 8, n = len - done < 8 - skip ? len - done : 8 - skip;
        uint64_t word = word_of(v, (offset + done) / 8);

        if (memcmp(p + done, (const char *)&word + skip, n) != 0)
            return 0;
        done += n;
    }
    return offset + len <= version_bytes(v);
}

static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
        crc_table[i] = crc;
    }
}

static uint32_t crc32_of(const char *bytes, size_t n)
{
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < n; i++)
        crc = crc_table[(crc ^ (uint8_t)bytes[i]) & 0xff] ^ (crc >> 8);
    return ~crc;
}

/* ---- what a key may hold ----------------------------------------------------------------------- */

static pst_str key_of(const struct slot *slot)
{
    return pst_str_of(slot->key, strlen(slot->key));
}

static int may_hold(const struct slot *slot, uint64_t v)
{
    for (size_t i = 0; i < slot->n; i++)
        if (slot->versions[i] == v)
            return 1;
    return 0;
}

/* The version of which these are the bytes at `offset` of `object_bytes`; UINT64_MAX: of none. */
static uint64_t identify(const struct slot *slot, uint64_t object_bytes, size_t offset,
                         const void *bytes, size_t n)
{
    for (size_t i = 0; i < slot->n; i++) {
        uint64_t v = slot->versions[i];

        if (v && version_bytes(v) == object_bytes && version_matches(v, offset, bytes, n))
            return v;
    }
    return UINT64_MAX;
}

static void note(struct worker *w, const struct slot *slot)
{
    pthread_mutex_lock(&ledger_mutex);
    fputs(slot->key + prefix.len, w->ledger);
    for (size_t i = 0; i < slot->n; i++) {
        uint64_t v = slot->versions[i];

        if (!v) {
            fputs("\t-", w->ledger);
            continue;
        }
        version_fill(v, w->body);
        fprintf(w->ledger, "\t%zu:%08" PRIx32, version_bytes(v),
                crc32_of(w->body, version_bytes(v)));
    }
    fputc('\n', w->ledger);
    pthread_mutex_unlock(&ledger_mutex);
}

/* Another key takes its place. The bytes that URLs and XML must escape are in all of them. */
static void renew(struct worker *w, struct slot *slot)
{
    snprintf(slot->key, sizeof(slot->key), "%.*st%02u/k %u+%%&<", (int)prefix.len, prefix.ptr,
             w->number, w->n_keys++);
    slot->versions[0] = 0;
    slot->n = 1;
}

static void remember(struct worker *w, const struct slot *slot, uint64_t v, pst_rc rc)
{
    struct past *past = &w->past[w->n_past++ % PAST];

    *past = (struct past){.what = w->what,
                          .at_s = seconds(),
                          .rc = rc,
                          .flags = rc == PST_OK ? 0 : w->err.flags,
                          .version = v};
    memcpy(past->key, slot->key, KEY_MAX);
}

/* A write of `v` (0: a delete) ended with rc. */
static void settle(struct worker *w, struct slot *slot, uint64_t v, pst_rc rc)
{
    remember(w, slot, v, rc);
    if (rc == PST_OK) {
        slot->versions[0] = v;
        slot->n = 1;
    } else if (w->err.flags & PST_ERR_MAYBE_APPLIED) {
        w->n_maybe++;
        if (!may_hold(slot, v))
            slot->versions[slot->n++] = v;
        note(w, slot);
        renew(w, slot);
    }
}

/* ---- judgement --------------------------------------------------------------------------------- */

static int wrong(struct worker *w, const struct slot *slot, const char *why)
{
    atomic_store(&is_over, 1);
    pthread_mutex_lock(&ledger_mutex);
    fprintf(stderr, "storm: thread %u, at %.3f s, %s of \"%s\": %s\n", w->number, seconds(),
            w->what, slot ? slot->key : "", why);
    for (size_t i = 0; slot && i < slot->n; i++)
        fprintf(stderr, "storm:   it may hold version %" PRIu64 ", %zu bytes\n", slot->versions[i],
                slot->versions[i] ? version_bytes(slot->versions[i]) : 0);
    for (size_t i = 0; slot && i < PAST && i < w->n_past; i++) {
        const struct past *past = &w->past[(w->n_past - 1 - i) % PAST];

        if (strcmp(past->key, slot->key) == 0)
            fprintf(stderr, "storm:   before, at %.3f s: %s of %" PRIu64 ": %s%s\n", past->at_s,
                    past->what, past->version, pst_rc_name(past->rc),
                    past->flags & PST_ERR_MAYBE_APPLIED ? ", maybe applied" : "");
    }
    fprintf(stderr, "storm:   last error: %s: %s\n", pst_rc_name(w->err.code), w->err.message);
    pthread_mutex_unlock(&ledger_mutex);
    return 0;
}

/* A commit that is cut, by the network or with the server, can leave MinIO with neither the object nor all
 * parts of the upload, or without the upload; the next one is then told so. */
static int is_broken_commit(const pst_error *err)
{
    if (!(err->flags & PST_ERR_MAYBE_APPLIED))
        return 0;
    return (err->code == PST_E_DATA_LOSS && strcmp(err->provider_code, "InvalidPart") == 0) ||
           (err->code == PST_E_NOT_FOUND && strcmp(err->provider_code, "NoSuchUpload") == 0);
}

/* Counts the answer. 1: go on with it; 0: it failed in a way that broken networks explain, or wrongly.
 * `also`: a code that is right as things are, 0 if there is none. */
static int judge(struct worker *w, const struct slot *slot, pst_rc rc, pst_rc also)
{
    const char *secret = getenv("AWS_SECRET_ACCESS_KEY");

    if (rc == PST_OK || rc == also) {
        w->n_ok++;
        return 1;
    }
    w->n_failed[-rc < CODES ? -rc : 0]++;
    if (w->err.code != rc || !w->err.message[0] || strpbrk(w->err.message, "\r\n"))
        return wrong(w, slot, "the error is not one line about its code");
    if (secret && strstr(w->err.message, secret))
        return wrong(w, slot, "the secret key is in the message");
    if (rc != PST_E_UNAVAILABLE && rc != PST_E_DEADLINE && rc != PST_E_THROTTLED &&
        !is_broken_commit(&w->err))
        return wrong(w, slot, "no broken network explains this code");
    return 0;
}

static void begin(struct worker *w, const char *what)
{
    w->what = what;
    w->err = (pst_error)PST_ERROR_INIT;
}

static const pst_call call = {.struct_size = sizeof(call), .timeout_ms = TIMEOUT_MS};

/* What is right besides OK, or instead of it, when the key is read. */
static pst_rc absence(const struct slot *slot)
{
    return may_hold(slot, 0) ? PST_E_NOT_FOUND : PST_OK;
}

static int is_absent(const struct slot *slot)
{
    return slot->n == 1 && !slot->versions[0];
}

/* ---- operations -------------------------------------------------------------------------------- */

static void do_put(struct worker *w, struct slot *slot)
{
    int is_create = next(w, 3) == 0, must_fail = is_create && !is_absent(slot);
    uint64_t v;
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .flags = is_create ? PST_WRITE_CREATE_ONLY : 0};
    pst_write_result result = {.struct_size = sizeof(result)};

    /* After a lost reply nobody can tell one empty object from another (docs/s3.md): none here. */
    do
        v = ((uint64_t)w->number << 40 | ++w->last_version) << 1;
    while (is_create && version_bytes(v) == 0);
    pst_iov src = {w->body, version_bytes(v)};

    begin(w, is_create ? "create-only put" : "put");
    version_fill(v, w->body);
    pst_rc rc = pst_put(w->store, key_of(slot), &src, 1, &options, &call, &result, &w->err);
    if (rc == PST_E_EXISTS && must_fail) {
        w->n_ok++;
        return;
    }
    if (rc == PST_OK && must_fail)
        wrong(w, slot, "it was there");
    else if (rc == PST_OK && result.size != src.len)
        wrong(w, slot, "the result tells another size");
    else {
        judge(w, slot, rc, PST_OK);
        settle(w, slot, v, rc);
    }
}

static pst_rc write_parts(struct worker *w, pst_writer *writer, size_t bytes)
{
    pst_rc rc = PST_OK;

    for (size_t at = 0; at < bytes && rc == PST_OK;) {
        size_t n = bytes - at < 3000000 ? bytes - at : 3000000;

        rc = pst_writer_write(writer, w->body + at, n, &w->err);
        at += n;
    }
    return rc == PST_OK ? pst_writer_finalize(writer, NULL, &w->err) : rc;
}

static void do_upload(struct worker *w, struct slot *slot)
{
    uint64_t v = ((uint64_t)w->number << 40 | ++w->last_version) << 1 | 1;
    const pst_write_options options = {.struct_size = sizeof(options), .part_bytes = PART_BYTES};
    pst_error cancel_err = PST_ERROR_INIT;
    pst_writer *writer = NULL;

    begin(w, "upload");
    version_fill(v, w->body);
    pst_rc rc = pst_writer_open(w->store, key_of(slot), &options, &call, &writer, &w->err);
    if (rc == PST_OK)
        rc = write_parts(w, writer, version_bytes(v));
    if (w->n_suspects < SUSPECTS_MAX)
        memcpy(w->suspects[w->n_suspects++], slot->key, KEY_MAX);
    if (!judge(w, slot, rc, PST_OK) && writer) {
        /* It knows more than the failure did: nothing is left, or all of it is there. */
        pst_rc cancelled = pst_writer_cancel(writer, &cancel_err);

        if (cancelled == PST_OK)
            w->err.flags &= ~PST_ERR_MAYBE_APPLIED;
        else if (cancelled == PST_E_INVALID)
            rc = PST_OK;
        else
            w->n_left++;
    }
    pst_writer_free(writer);
    settle(w, slot, v, rc);
}

static void check_bytes(struct worker *w, const struct slot *slot, pst_buffer *buffer)
{
    size_t n = pst_buffer_size(buffer);

    if (identify(slot, n, 0, pst_buffer_data(buffer), n) == UINT64_MAX)
        wrong(w, slot, "the bytes are of no version that it may hold");
}

static void do_get(struct worker *w, struct slot *slot)
{
    pst_buffer *buffer = NULL;

    begin(w, "get");
    pst_rc rc = pst_get(w->store, key_of(slot), NULL, &call, &buffer, NULL, &w->err);
    if (judge(w, slot, rc, absence(slot)) && rc == PST_OK)
        check_bytes(w, slot, buffer);
    pst_buffer_unref(buffer);
}

static void do_range(struct worker *w, struct slot *slot)
{
    uint64_t offset = next(w, next(w, 8) ? SMALL_MAX : LARGE_MAX), length = next(w, 1u << 17);
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_buffer *buffer = NULL;

    begin(w, "range");
    pst_rc rc = pst_get_range(w->store, key_of(slot), offset, length, NULL, &call, &buffer, &info,
                              &w->err);
    if (judge(w, slot, rc, absence(slot)) && rc == PST_OK && length > 0) {
        size_t n = pst_buffer_size(buffer);
        uint64_t left = info.object_size > offset ? info.object_size - offset : 0;

        if (n != (left < length ? left : length))
            wrong(w, slot, "the range is longer or shorter than the object allows");
        else if (n > 0 && identify(slot, info.object_size, (size_t)offset, pst_buffer_data(buffer),
                                   n) == UINT64_MAX)
            wrong(w, slot, "the bytes are of no version that it may hold");
    }
    pst_buffer_unref(buffer);
}

static void do_stat(struct worker *w, struct slot *slot)
{
    pst_attr *attr = NULL;

    begin(w, "stat");
    pst_rc rc = pst_stat(w->store, key_of(slot), NULL, &call, &attr, &w->err);
    if (judge(w, slot, rc, absence(slot)) && rc == PST_OK &&
        identify(slot, attr->size, 0, NULL, 0) == UINT64_MAX)
        wrong(w, slot, "it has the size of no version that it may hold");
    pst_attr_free(attr);
}

static void do_delete(struct worker *w, struct slot *slot)
{
    begin(w, "delete");
    pst_rc rc = pst_delete(w->store, key_of(slot), NULL, &call, &w->err);
    judge(w, slot, rc, PST_OK);
    settle(w, slot, 0, rc);
}

static void do_copy(struct worker *w, struct slot *from)
{
    struct slot *to = &w->slots[next(w, SLOTS)];

    if (to == from)
        return;
    begin(w, "copy");
    pst_rc rc = pst_copy(w->store, key_of(from), w->store, key_of(to), NULL, &call, NULL, &w->err);
    if (rc == PST_E_NOT_FOUND && is_absent(from))
        w->n_ok++;
    else if (rc == PST_OK && is_absent(from))
        wrong(w, from, "it was not there");
    else {
        judge(w, to, rc, PST_OK);
        settle(w, to, from->versions[0], rc);
    }
}

/* Every key of this thread that is surely there is listed, none that is surely not, each with its size. */
static void do_list(struct worker *w)
{
    const pst_list_options options = {
        .struct_size = sizeof(options), .flags = PST_LISTING_RECURSIVE, .page_entries = 7};
    char folder[KEY_MAX];
    int is_seen[SLOTS] = {0};
    pst_list *list = NULL;
    const pst_entry *entry = NULL;
    int n = snprintf(folder, sizeof(folder), "%.*st%02u/", (int)prefix.len, prefix.ptr, w->number);

    begin(w, "listing");
    pst_rc rc = pst_list_open(w->store, pst_str_of(folder, (size_t)n), &options, &list, &w->err);
    while (rc == PST_OK && (rc = pst_list_next(list, &call, &entry, &w->err)) == PST_OK && entry)
        for (size_t i = 0; i < SLOTS; i++) {
            struct slot *slot = &w->slots[i];

            if (entry->key.len != strlen(slot->key) ||
                memcmp(entry->key.ptr, slot->key, entry->key.len) != 0)
                continue; /* another slot's, or retired */
            if (is_seen[i]++)
                wrong(w, slot, "it is listed twice");
            else if (identify(slot, entry->size, 0, NULL, 0) == UINT64_MAX)
                wrong(w, slot, "it is listed with the size of no version that it may hold");
        }
    if (judge(w, NULL, rc, PST_OK))
        for (size_t i = 0; i < SLOTS; i++)
            if (!is_seen[i] && !may_hold(&w->slots[i], 0))
                wrong(w, &w->slots[i], "it is not listed");
    pst_list_free(list);
}

static void do_get_many(struct worker *w)
{
    const pst_many_options options = {.struct_size = sizeof(options), .max_in_flight = 4};
    pst_get_item items[SLOTS];
    pst_get_result results[SLOTS] = {0};

    begin(w, "get_many");
    for (size_t i = 0; i < SLOTS; i++)
        items[i] = (pst_get_item){.key = key_of(&w->slots[i]), .length = PST_UNKNOWN};
    pst_rc rc = pst_get_many(w->store, items, SLOTS, &options, &call, results, &w->err);
    for (size_t i = 0; i < SLOTS; i++) {
        const pst_get_result *result = &results[i];

        if (result->error)
            w->err = *result->error;
        if (judge(w, &w->slots[i], result->status, absence(&w->slots[i])) &&
            result->status == PST_OK)
            check_bytes(w, &w->slots[i], result->buffer);
        if (rc == PST_OK && result->status != PST_OK)
            wrong(w, &w->slots[i], "the call succeeded and the item did not");
    }
    pst_get_results_free(results, SLOTS);
}

static void do_one(struct worker *w)
{
    struct slot *slot = &w->slots[next(w, SLOTS)];
    uint64_t choice = next(w, 100);

    if (choice < 30)
        do_put(w, slot);
    else if (choice < 33)
        do_upload(w, slot);
    else if (choice < 58)
        do_get(w, slot);
    else if (choice < 73)
        do_range(w, slot);
    else if (choice < 82)
        do_stat(w, slot);
    else if (choice < 90)
        do_delete(w, slot);
    else if (choice < 95)
        do_copy(w, slot);
    else if (choice < 98)
        do_list(w);
    else
        do_get_many(w);
}

static void *run(void *arg)
{
    struct worker *w = arg;
    size_t n;

    for (size_t i = 0; i < SLOTS; i++)
        renew(w, &w->slots[i]);
    while (!atomic_load(&is_over) && (n = atomic_fetch_add(&n_begun, 1)) < n_wanted) {
        do_one(w);
        if (n % TOLD_EVERY == 0) {
            printf("%zu\n", n);
            fflush(stdout);
        }
    }
    for (size_t i = 0; i < SLOTS; i++)
        note(w, &w->slots[i]);
    return NULL;
}

/* ---- all of it --------------------------------------------------------------------------------- */

static void tell(const struct worker *workers, size_t n, pst_context *context, uint64_t n_removed)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    size_t n_ok = 0, n_maybe = 0, n_left = 0;
    const char *comma = "";

    pst_context_stats(context, &stats);
    printf("{\"failed\": {");
    for (size_t code = 0; code < CODES; code++) {
        size_t n_failed = 0;

        for (size_t i = 0; i < n; i++)
            n_failed += workers[i].n_failed[code];
        if (n_failed > 0) {
            printf("%s\"%s\": %zu", comma, pst_rc_name(-(pst_rc)code), n_failed);
            comma = ", ";
        }
    }
    for (size_t i = 0; i < n; i++) {
        n_ok += workers[i].n_ok;
        n_maybe += workers[i].n_maybe;
        n_left += workers[i].n_left;
    }
    printf("}, \"ok\": %zu, \"maybe\": %zu, \"uploads_left\": %zu, \"uploads_removed\": %" PRIu64
           ", \"requests\": %" PRIu64 ", \"retries\": %" PRIu64 ", \"abandoned\": %" PRIu64 "}\n",
           n_ok, n_maybe, n_left, n_removed, stats.ops_submitted, stats.retries,
           stats.abandoned_ops);
}

/* Remove the uploads that were left behind: where the abort failed, or where the reply that named the upload
 * was lost and the next attempt began another. By their very keys, since MinIO does not list by a mere prefix. */
static pst_rc clean(pst_store *store, const struct worker *workers, size_t n, uint64_t *n_removed,
                    pst_error *err)
{
    uint64_t n_now = 0, n_bytes = 0;
    pst_rc rc = PST_OK;

    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < workers[i].n_suspects && rc == PST_OK; k++) {
            const char *key = workers[i].suspects[k];

            rc = pst_cleanup(store, pst_str_of(key, strlen(key)), 0, 0, NULL, &n_now, &n_bytes,
                             err);
            *n_removed += n_now;
        }
    return rc;
}

static int storm(pst_context *context, pst_store *store, uint64_t seed, size_t n_threads,
                 FILE *ledger)
{
    struct worker *workers = calloc(n_threads, sizeof(*workers));
    pst_error err = PST_ERROR_INIT;
    uint64_t n_removed = 0;
    size_t n_started = 0;
    int rc = 1;

    if (!workers)
        return 1;
    for (; n_started < n_threads; n_started++) {
        struct worker *w = &workers[n_started];

        w->store = store;
        w->ledger = ledger;
        w->number = (unsigned)n_started;
        w->random = seed * 1000 + n_started;
        w->body = malloc(LARGE_MAX + 8);
        if (!w->body || pthread_create(&w->thread, NULL, run, w) != 0) {
            free(w->body);
            atomic_store(&is_over, 1);
            break;
        }
    }
    for (size_t i = 0; i < n_started; i++) {
        pthread_join(workers[i].thread, NULL);
        free(workers[i].body);
    }
    printf("healing\n"); /* what comes now must find the network whole */
    fflush(stdout);
    if (n_started == n_threads && getchar() != EOF) {
        if (clean(store, workers, n_started, &n_removed, &err) == PST_OK)
            rc = atomic_load(&is_over);
        else
            fprintf(stderr, "storm: cleanup: %s\n", err.message);
    }
    tell(workers, n_started, context, n_removed);
    free(workers);
    return rc;
}

static void print_log(void *arg, uint32_t level, const char *line)
{
    (void)arg;
    (void)level;
    fprintf(stderr, "%s\n", line);
}

int main(int argc, char **argv)
{
    const char *const dirs[] = {getenv("PST_TEST_PLUGINS"), NULL};
    const pst_context_options options = {.struct_size = sizeof(options),
                                         .memory_budget_bytes = (uint64_t)256 << 20,
                                         .plugin_dirs = dirs,
                                         .log = getenv("STORM_LOG") ? print_log : NULL,
                                         .log_level = PST_LEVEL_DEBUG};
    pst_error err = PST_ERROR_INIT;
    pst_context *context = NULL;
    pst_store *store = NULL;
    FILE *ledger = NULL;
    pst_uri uri;
    int rc = 2;

    if (argc != 6) {
        fprintf(stderr, "usage: storm URI SEED OPERATIONS THREADS LEDGER\n");
        return 2;
    }
    pst_str text = pst_str_of(argv[1], strlen(argv[1]));
    unsigned long n_threads = strtoul(argv[4], NULL, 10);
    n_wanted = strtoul(argv[3], NULL, 10);
    start_s = seconds();
    make_crc_table();
    if (n_threads == 0 || n_threads > THREADS_MAX || !(ledger = fopen(argv[5], "we"))) {
        fprintf(stderr, "storm: threads or ledger\n");
        return 2;
    }
    if (pst_uri_parse(text, &uri, &err) != PST_OK ||
        pst_context_new(&options, &context, &err) != PST_OK ||
        pst_store_open(context, text, NULL, 0, &store, &err) != PST_OK) {
        fprintf(stderr, "storm: %s\n", err.message);
        goto out;
    }
    prefix = uri.key;
    rc = storm(context, store, strtoull(argv[2], NULL, 10), n_threads, ledger);
out:
    pst_store_free(store);
    pst_context_free(context);
    if (fclose(ledger) != 0)
        rc = 2;
    return rc;
}
