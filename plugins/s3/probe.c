/* probe.c - are the conditions of writes obeyed? Who asks, who waits, what is remembered.
 *
 * Some stores take If-None-Match and If-Match and ignore them without a word, which turns "exactly one
 * of us may write this" into "the last one wins". So before the first conditional write of a kind the
 * store is put to the test (race.c). AWS is trusted, and so is whoever says conditional_writes=trust.
 *
 * One operation runs the race of a kind, others that need it wait for the outcome. When it fails, since the
 * store could not be asked, the others are told so too and may repeat it. A failure that is its own (it
 * was cancelled or too late, or may not write where it wanted to) hands the race to the next in line; after
 * some of those in a row the others are told to come again. What was found out holds for the endpoint and the
 * life of the process: entries are written once, never freed, and found without a lock, so that a child
 * of fork may use them whatever its parent was doing. */
#include "probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "endpoint.h"
#include "error.h"
#include "ops.h"
#include "race.h"

/* What is known of one endpoint. */
struct known {
    struct known *next;
    _Atomic(uint32_t) found[S3_N_CONDITIONALS]; /* enum s3_obedience, n_won above it */
    char server[]; /* its origin, and what a connection to it goes through */
};

static _Atomic(struct known *) all_known;

#define HANDED_MAX 16u

struct s3_probe {
    pst_backend *store;
    struct known *known;
    int is_trusted, is_refused;
    pthread_mutex_t mutex;
    struct {
        pst_op *leader[S3_N_CONDITIONALS];
        pst_op *waiting[S3_N_CONDITIONALS];   /* linked by call->next */
        uint32_t n_handed[S3_N_CONDITIONALS]; /* on, in a row */
    } locked;
};

static const struct {
    const char *what, *header;
    uint64_t cap;
} names[S3_N_CONDITIONALS] = {
    [S3_PUT_CREATE] = {"PUT", "If-None-Match", PST_CAP_CREATE_ONLY},
    [S3_PUT_MATCH] = {"PUT", "If-Match", PST_CAP_WRITE_IF_MATCH},
    [S3_COMPLETE_CREATE] = {"CompleteMultipartUpload", "If-None-Match", PST_CAP_UPLOAD_CONDITIONAL},
    [S3_COMPLETE_MATCH] = {"CompleteMultipartUpload", "If-Match", PST_CAP_UPLOAD_CONDITIONAL},
    [S3_DELETE_MATCH] = {"DELETE", "If-Match", 0},
};

/* ---- what is known ---------------------------------------------------------------------------- */

static struct known *find_known(const pst_backend *store)
{
    struct known *first = atomic_load(&all_known);
    const struct s3_config *config = store->config;
    const char *origin = s3_endpoint_origin(store->endpoints, 0);
    size_t room = strlen(origin) + strlen(config->unix_socket) + strlen(config->proxy) + 3;
    struct known *k = calloc(1, sizeof(*k) + room); /* outlives every host */
    if (!k)
        return NULL;
    snprintf(k->server, room, "%s %s %s", origin, config->unix_socket, config->proxy);
    for (struct known *old = first; old; old = old->next) {
        if (strcmp(old->server, k->server) == 0) {
            free(k);
            return old;
        }
    }
    k->next = first;
    while (!atomic_compare_exchange_weak(&all_known, &k->next, k))
        ; /* two stores that come at once may both add one: each remembers */
    return k;
}

static enum s3_obedience found(const struct s3_probe *probe, enum s3_conditional what,
                               uint32_t *n_won)
{
    uint32_t value = atomic_load(&probe->known->found[what]);
    *n_won = value >> 8;
    return (enum s3_obedience)(value & 0xff);
}

pst_rc s3_probe_new(pst_backend *store, struct s3_probe **out, pst_error *err)
{
    struct s3_probe *probe = store->host->alloc(store->host, sizeof(*probe), 16);
    enum s3_conditions policy = store->config->conditional_writes;
    if (!probe)
        return s3_fail(err, PST_E_NO_MEMORY, "out of memory");
    memset(probe, 0, sizeof(*probe));
    probe->store = store;
    probe->is_trusted = policy == S3_CONDITIONS_TRUST ||
                        (policy == S3_CONDITIONS_AUTO && s3_endpoints_are_aws(store->endpoints));
    probe->is_refused = policy == S3_CONDITIONS_REFUSE;
    pthread_mutex_init(&probe->mutex, NULL);
    probe->known = find_known(store);
    *out = probe;
    if (probe->known)
        return PST_OK;
    s3_probe_free(probe);
    *out = NULL;
    return s3_fail(err, PST_E_NO_MEMORY, "out of memory");
}

void s3_probe_free(struct s3_probe *probe)
{
    if (!probe)
        return;
    pthread_mutex_destroy(&probe->mutex);
    probe->store->host->dealloc(probe->store->host, probe);
}

uint64_t s3_probe_caps(const struct s3_probe *probe, uint64_t caps)
{
    uint32_t n_won;
    for (int i = 0; i < S3_N_CONDITIONALS; i++) {
        enum s3_obedience is = found(probe, (enum s3_conditional)i, &n_won);
        if (probe->is_refused || (!probe->is_trusted && is != S3_NOT_KNOWN && is != S3_OBEYED))
            caps &= ~names[i].cap;
    }
    return caps;
}

/* ---- the answer ------------------------------------------------------------------------------- */

static pst_rc answer(const struct s3_probe *probe, pst_op *op, enum s3_conditional what)
{
    uint32_t n_won;
    enum s3_obedience is = found(probe, what, &n_won);
    if (is == S3_OBEYED)
        return PST_OK;
    if (is == S3_REFUSED)
        return s3_fail(op->err, PST_E_UNIMPLEMENTED, "the store does not take %s with %s",
                       names[what].header, names[what].what);
    return s3_fail(op->err, PST_E_UNIMPLEMENTED,
                   "the store ignores %s with %s: %u of %u writers won a race", names[what].header,
                   names[what].what, n_won, S3_RACERS);
}

static void note(const struct s3_probe *probe, enum s3_conditional what, enum s3_obedience is,
                 uint32_t n_won)
{
    char text[200];
    if (is == S3_OBEYED)
        snprintf(text, sizeof(text), "%s with %s: obeyed", names[what].what, names[what].header);
    else if (is == S3_REFUSED)
        snprintf(text, sizeof(text), "%s with %s: refused by the store", names[what].what,
                 names[what].header);
    else
        snprintf(text, sizeof(text), "%s with %s: ignored, %u of %u writers won a race",
                 names[what].what, names[what].header, n_won, S3_RACERS);
    s3_note(probe->store, text);
}

static void go_on(pst_op *op, pst_rc rc)
{
    s3_call_of(op)->go_on(op, rc);
}

static void on_over(pst_op *op, enum s3_conditional what, enum s3_obedience is, uint32_t n_won,
                    pst_rc rc);

/* Let `op`, who waits in the leader's place, race. */
static void lead(struct s3_probe *probe, pst_op *op, enum s3_conditional what, pst_str key)
{
    if (!s3_race(probe->store, op, what, key, on_over))
        on_over(op, what, S3_NOT_KNOWN, 0, s3_fail(op->err, PST_E_NO_MEMORY, "out of memory"));
}

/* A failure that says nothing to anybody else. */
static int is_leaders_own(pst_op *leader, pst_rc rc)
{
    return atomic_load(&s3_call_of(leader)->request.own.is_cancelled) || rc == PST_E_CANCELLED ||
           rc == PST_E_DEADLINE || rc == PST_E_DENIED;
}

/* What the race's end means to `op`, who waited for it. */
static pst_rc tell(const struct s3_probe *probe, pst_op *op, enum s3_conditional what,
                   pst_op *leader, pst_rc rc)
{
    if (rc == PST_OK)
        return answer(probe, op, what);
    if (!is_leaders_own(leader, rc)) {
        s3_error_copy(op->err, leader->err);
        return rc;
    }
    (void)s3_fail(op->err, PST_E_UNAVAILABLE,
                  "whether the store obeys %s with %s could not be found out: %s",
                  names[what].header, names[what].what, leader->err->message);
    op->err->flags |= PST_ERR_RETRYABLE;
    return PST_E_UNAVAILABLE;
}

static void on_over(pst_op *op, enum s3_conditional what, enum s3_obedience is, uint32_t n_won,
                    pst_rc rc)
{
    pst_backend *store = s3_call_of(op)->request.store;
    struct s3_probe *probe = store->probe;
    int is_own = is == S3_NOT_KNOWN && is_leaders_own(op, rc);
    pst_op *waiting = NULL, *heir = NULL;
    if (is != S3_NOT_KNOWN) {
        atomic_store(&probe->known->found[what], (uint32_t)is | n_won << 8);
        note(probe, what, is, n_won);
    }
    pthread_mutex_lock(&probe->mutex);
    waiting = probe->locked.waiting[what];
    if (is_own && waiting && probe->locked.n_handed[what] < HANDED_MAX) {
        probe->locked.n_handed[what]++;
        heir = waiting;
        probe->locked.waiting[what] = s3_call_of(heir)->next;
        waiting = NULL;
    } else {
        probe->locked.waiting[what] = NULL;
        probe->locked.n_handed[what] = 0;
    }
    probe->locked.leader[what] = heir;
    pthread_mutex_unlock(&probe->mutex);
    if (heir)
        lead(probe, heir, what, s3_call_of(heir)->request.key);
    while (waiting) {
        pst_op *next = s3_call_of(waiting)->next;
        go_on(waiting, tell(probe, waiting, what, op, is == S3_NOT_KNOWN ? rc : (pst_rc)PST_OK));
        waiting = next;
    }
    go_on(op,
          is == S3_NOT_KNOWN ? rc : answer(probe, op, what)); /* last: the store may go with it */
}

pst_rc s3_probe_need(struct s3_probe *probe, pst_op *op, enum s3_conditional what, pst_str key)
{
    uint32_t n_won;
    if (probe->is_trusted)
        return PST_OK;
    if (probe->is_refused)
        return s3_fail(op->err, PST_E_UNIMPLEMENTED,
                       "conditions of writes are switched off (conditional_writes=refuse)");
    if (found(probe, what, &n_won) != S3_NOT_KNOWN)
        return answer(probe, op, what);
    pthread_mutex_lock(&probe->mutex);
    int is_led = probe->locked.leader[what] != NULL;
    if (is_led) {
        s3_call_of(op)->next = probe->locked.waiting[what];
        probe->locked.waiting[what] = op;
    } else {
        probe->locked.leader[what] = op;
    }
    pthread_mutex_unlock(&probe->mutex);
    if (!is_led)
        lead(probe, op, what, key);
    return PST_PENDING;
}

void s3_probe_cancel(struct s3_probe *probe, pst_op *op)
{
    int is_found = 0;
    pthread_mutex_lock(&probe->mutex);
    for (int i = 0; i < S3_N_CONDITIONALS && !is_found; i++) {
        pst_op **link = &probe->locked.waiting[i];
        while (*link && *link != op)
            link = &s3_call_of(*link)->next;
        if (*link) {
            *link = s3_call_of(op)->next;
            is_found = 1;
        }
    }
    pthread_mutex_unlock(&probe->mutex);
    if (is_found)
        go_on(op, s3_fail(op->err, PST_E_CANCELLED, "cancelled"));
}
