/* cred.c - the credentials of one store: kept, renewed in time, fetched by one for all.
 *
 * Keys in the options or in the environment are an identity from the start: no job, no lock, no delay.
 * What a source has to be asked for is fetched by a job on the host's pool (cred_chain.c), one at a
 * time; whoever needs it meanwhile waits in line and is called when it ends. From five minutes before
 * its end on (half its life for what lives shorter, and some seconds apart from other processes that
 * began in the same moment) an identity is renewed in the background while it is still handed out. A
 * renewal that fails is a warning until the old one has expired; the next try comes after a growing
 * pause.
 *
 * An identity that the store has refused is dropped, and the source asked again: once, since whoever
 * comes with the same refused generation later finds a newer one. An error that no repetition can help
 * is handed to everybody for a second, so that ten thousand operations do not ask ten thousand times.
 *
 * The application's callback (cred/1) does its own single flight, so each operation asks the host, and
 * what it gets is kept here likewise.
 *
 * Closing: s3_creds_free cancels what is under way and waits for it, half a second at most for http
 * and a tenth for a program. A job that the host never started keeps the struct alive by its own
 * reference. After fork the child opens the store anew, and this begins from nothing. */
#include "cred.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "cred_source.h"
#include "error.h"
#include "s3.h"
#include "url.h"

#define NS_PER_S INT64_C(1000000000)
#define RENEW_NS (300 * NS_PER_S)
#define RETRY_FIRST_NS (5 * NS_PER_S)
#define RETRY_MAX_NS (60 * NS_PER_S)
#define HOLD_NS ((uint64_t)NS_PER_S)

enum state { IDLE, QUEUED, RUNNING };

struct s3_creds {
    atomic_uint refs; /* the store's, and one of a job that has not ended */
    int is_callback;
    const pst_host *host;
    const struct s3_config *config;
    const pst_http_1 *http;
    const pst_crypto_1 *crypto;
    const pst_cred_1 *cred;
    struct s3_identity *given;   /* never changes; NULL: somebody has to be asked */
    pst_http_client *clients[2]; /* the running job's; index: S3_CRED_DIRECT */
    pthread_mutex_t mutex;
    pthread_cond_t idle;
    struct {
        enum state state;
        int is_stopping, n_telling;  /* jobs that have their answer and call those who waited */
        struct s3_identity *current; /* NULL: none, or refused */
        uint64_t generation;         /* of the last one */
        int64_t renew_unix_ns;       /* ask again from then on */
        uint32_t n_failed;
        int had_some;
        struct s3_waiter *first;
        uint64_t held_until_ns; /* CLOCK_MONOTONIC: `held` is the answer until then */
        pst_error held;
        pst_http_client *client; /* of the request under way */
        uint64_t http_id;
    } locked;
};

/* ---- identities ------------------------------------------------------------------------------- */

/* One block with its strings behind it, so that one wipe reaches all of them. */
struct block {
    struct s3_identity identity;
    const pst_host *host;
    size_t n_bytes;
};

static char *copy_text(char **at, const char *text)
{
    char *copy = *at;

    if (!text)
        return NULL;
    const size_t size = strlen(text) + 1;
    memcpy(copy, text, size);
    *at += size;
    return copy;
}

static size_t size_of(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

/* `secrets` NULL: anonymous. NULL for no memory. */
static struct s3_identity *identity_new(const pst_host *host, const struct s3_secrets *secrets,
                                        uint64_t generation)
{
    static const struct s3_secrets nobody = {.expires_unix_ns = PST_TIME_UNKNOWN,
                                             .source = "anonymous"};
    const struct s3_secrets *s = secrets ? secrets : &nobody;
    const size_t n_bytes = sizeof(struct block) + size_of(s->access_key) + size_of(s->secret_key) +
                           size_of(s->session_token);
    struct block *b = host->alloc(host, n_bytes, 16);

    if (!b)
        return NULL;
    memset(b, 0, sizeof(*b));
    b->host = host;
    b->n_bytes = n_bytes;
    char *at = (char *)(b + 1);
    atomic_init(&b->identity.refs, 1);
    b->identity.generation = generation;
    b->identity.expires_unix_ns = s->expires_unix_ns;
    b->identity.access_key = copy_text(&at, s->access_key);
    b->identity.secret_key = copy_text(&at, s->secret_key);
    b->identity.session_token = copy_text(&at, s->session_token);
    snprintf(b->identity.source, sizeof(b->identity.source), "%s", s->source);
    return &b->identity;
}

static struct s3_identity *identity_ref(struct s3_identity *identity)
{
    atomic_fetch_add_explicit(&identity->refs, 1, memory_order_relaxed);
    return identity;
}

void s3_identity_unref(struct s3_identity *identity)
{
    if (!identity || atomic_fetch_sub_explicit(&identity->refs, 1, memory_order_acq_rel) != 1)
        return;
    struct block *b = (struct block *)identity; /* its first member */
    const pst_host *host = b->host;
    explicit_bzero(b, b->n_bytes);
    host->dealloc(host, b);
}

/* ---- the store's side ------------------------------------------------------------------------- */

static void destroy(struct s3_creds *c)
{
    s3_identity_unref(c->given);
    s3_identity_unref(c->locked.current);
    pthread_cond_destroy(&c->idle);
    pthread_mutex_destroy(&c->mutex);
    c->host->dealloc(c->host, c);
}

static void unref(struct s3_creds *c)
{
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
        destroy(c);
}

pst_rc s3_creds_new(pst_backend *store, struct s3_creds **out, pst_error *err)
{
    const pst_host *host = store->host;
    struct s3_secrets secrets = {0};
    int is_anonymous = 0;
    pst_rc rc = s3_cred_find_given(host, store->config, store->cred != NULL, &secrets,
                                   &is_anonymous, err);
    const int is_given = rc == PST_OK;

    if (rc != PST_OK && rc != S3_CRED_NONE)
        return rc;
    struct s3_creds *c = host->alloc(host, sizeof(*c), 16);
    if (!c) {
        s3_secrets_fini(host, &secrets);
        return s3_fail(err, PST_E_NO_MEMORY, "out of memory");
    }
    memset(c, 0, sizeof(*c));
    atomic_init(&c->refs, 1);
    c->host = host;
    c->config = store->config;
    c->http = store->http;
    c->crypto = store->crypto;
    c->cred = store->cred;
    c->is_callback = c->cred && s3_cred_is_callback_first(store->config);
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->idle, NULL);
    rc = PST_OK;
    if (c->is_callback && store->config->is_directory)
        rc = s3_fail(err, PST_E_UNIMPLEMENTED,
                     "%s is a directory bucket: its sessions cannot be had with credentials that "
                     "the application supplies by callback",
                     store->config->bucket);
    if (rc == PST_OK && is_given &&
        !(c->given = identity_new(host, is_anonymous ? NULL : &secrets, 1)))
        rc = s3_fail(err, PST_E_NO_MEMORY, "out of memory");
    s3_secrets_fini(host, &secrets);
    if (rc == PST_OK)
        *out = c;
    else
        unref(c);
    return rc;
}

void s3_creds_free(struct s3_creds *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->mutex);
    c->locked.is_stopping = 1;
    if (c->locked.client)
        c->http->cancel(c->locked.client, c->locked.http_id);
    while (c->locked.state == RUNNING || c->locked.n_telling > 0)
        pthread_cond_wait(&c->idle, &c->mutex);
    pthread_mutex_unlock(&c->mutex);
    for (int i = 0; i < 2; i++) {
        if (c->clients[i])
            c->http->client_free(c->clients[i]);
    }
    unref(c);
}

/* ---- those who wait ---------------------------------------------------------------------------- */

static void enter_locked(struct s3_creds *c, struct s3_waiter *waiter)
{
    waiter->next = c->locked.first;
    waiter->link = &c->locked.first;
    if (waiter->next)
        waiter->next->link = &waiter->next;
    c->locked.first = waiter;
}

static int leave_locked(struct s3_waiter *waiter)
{
    if (!waiter->link)
        return 0;
    *waiter->link = waiter->next;
    if (waiter->next)
        waiter->next->link = waiter->link;
    waiter->next = NULL;
    waiter->link = NULL;
    return 1;
}

int s3_creds_leave(struct s3_creds *c, struct s3_waiter *waiter)
{
    pthread_mutex_lock(&c->mutex);
    const int was_waiting = leave_locked(waiter);
    pthread_mutex_unlock(&c->mutex);
    return was_waiting;
}

/* ---- a refresh -------------------------------------------------------------------------------- */

int s3_cred_is_stopping(const struct s3_cred_job *job)
{
    struct s3_creds *c = job->creds;

    pthread_mutex_lock(&c->mutex);
    const int is_stopping = c->locked.is_stopping;
    pthread_mutex_unlock(&c->mutex);
    return is_stopping;
}

pst_rc s3_cred_client(struct s3_cred_job *job, uint32_t flags, pst_http_client **out)
{
    struct s3_creds *c = job->creds;
    const struct s3_config *config = c->config;
    const int is_direct = (flags & S3_CRED_DIRECT) != 0;
    const pst_http_config settings = {
        .struct_size = sizeof(settings),
        .flags = (is_direct ? PST_HTTP_NO_PROXY : 0) |
                 (config->is_libcurl_only ? PST_HTTP_LIBCURL : 0),
        .user_agent = PST_STR("s3/" S3_VERSION),
        .ca_file = s3_str(config->ca_file),
        .ca_dir = s3_str(config->ca_dir),
        .proxy = s3_str(is_direct ? "" : config->proxy),
        .no_proxy = s3_str(is_direct ? "" : config->no_proxy),
        .connect_timeout_ms = is_direct ? 1000 : config->connect_timeout_ms,
        .max_connections = 4,
    };
    pst_rc rc = PST_OK;

    if (!c->clients[is_direct])
        rc = c->http->client_new(c->host, &settings, &c->clients[is_direct], job->err);
    *out = c->clients[is_direct];
    return rc;
}

/* Under the lock that s3_creds_free takes: either it sees the id, or we see that it wants to stop.
 * `done` may run before this returns; an id that has ended is no error to cancel. */
pst_rc s3_cred_send(struct s3_cred_job *job, pst_http_client *client,
                    const pst_http_request *request)
{
    struct s3_creds *c = job->creds;
    pst_rc rc = PST_E_CANCELLED;

    pthread_mutex_lock(&c->mutex);
    if (!c->locked.is_stopping) {
        rc = c->http->send(client, request, &c->locked.http_id);
        c->locked.client = client;
    }
    pthread_mutex_unlock(&c->mutex);
    return rc;
}

/* A number below `bound`, not the same in two processes. */
static int64_t pick_below(const struct s3_creds *c, int64_t bound)
{
    uint64_t number = 0;

    if (bound <= 0 || c->crypto->random(c->host, &number, sizeof(number)) != PST_OK)
        return 0;
    return (int64_t)(number % (uint64_t)bound);
}

static int64_t renewal_of(const struct s3_creds *c, const struct s3_identity *identity)
{
    const int64_t now = s3_cred_now_ns();

    if (identity->expires_unix_ns == PST_TIME_UNKNOWN)
        return INT64_MAX;
    const int64_t half_life = (identity->expires_unix_ns - now) / 2;
    const int64_t window = half_life < RENEW_NS ? half_life : RENEW_NS;
    return identity->expires_unix_ns - window - pick_below(c, window / 5);
}

static int is_usable_locked(const struct s3_creds *c, int64_t now)
{
    const struct s3_identity *current = c->locked.current;

    return current &&
           (current->expires_unix_ns == PST_TIME_UNKNOWN || now < current->expires_unix_ns);
}

static void keep_locked(struct s3_creds *c, struct s3_identity *fresh)
{
    s3_identity_unref(c->locked.current);
    c->locked.current = identity_ref(fresh);
    c->locked.generation = fresh->generation;
    c->locked.renew_unix_ns = renewal_of(c, fresh);
    c->locked.n_failed = 0;
    c->locked.had_some = 1;
    c->locked.held_until_ns = 0;
}

static void warn(const struct s3_creds *c, const pst_error *err, int64_t left_ns)
{
    char line[960];

    if (!c->host->log_enabled(c->host, PST_LOG_WARN))
        return;
    snprintf(line, sizeof(line),
             "credentials could not be renewed, those at hand last %" PRId64 " s more: %s",
             left_ns / NS_PER_S, err->message);
    c->host->log(c->host, PST_LOG_WARN, "s3", line);
}

/* Returns for how long what we have still lasts, 0 where it does not. */
static int64_t note_failure_locked(struct s3_creds *c, const pst_error *err)
{
    const int64_t now = s3_cred_now_ns();
    int64_t pause = RETRY_FIRST_NS;

    if (is_usable_locked(c, now)) {
        for (uint32_t i = 0; i < c->locked.n_failed && pause < RETRY_MAX_NS; i++)
            pause *= 2;
        pause = pause < RETRY_MAX_NS ? pause : RETRY_MAX_NS;
        c->locked.n_failed++;
        c->locked.renew_unix_ns = now + pause + pick_below(c, pause / 5);
        return c->locked.current->expires_unix_ns == PST_TIME_UNKNOWN
                   ? INT64_MAX
                   : c->locked.current->expires_unix_ns - now;
    }
    s3_identity_unref(c->locked.current);
    c->locked.current = NULL;
    if (!(err->flags & PST_ERR_RETRYABLE)) {
        c->locked.held = *err;
        c->locked.held_until_ns = s3_cred_monotonic_ns() + HOLD_NS;
    }
    return 0;
}

/* One at a time, so that one who leaves meanwhile is either called or not. */
static struct s3_waiter *pop(struct s3_creds *c, struct s3_waiter **first)
{
    pthread_mutex_lock(&c->mutex);
    struct s3_waiter *waiter = *first;
    if (waiter)
        leave_locked(waiter);
    pthread_mutex_unlock(&c->mutex);
    return waiter;
}

/* The end of a refresh: `fresh` is ours to unref, NULL where it failed. Whoever comes from now on, perhaps
 * to refuse what has just been fetched, is for the next refresh; those who waited are told here. After
 * the last of them the store may be on its way to be closed, and waits for us. */
static void finish(struct s3_creds *c, pst_rc rc, struct s3_identity *fresh, const pst_error *err)
{
    struct s3_waiter *first, *waiter;
    int64_t left_ns = 0;

    pthread_mutex_lock(&c->mutex);
    c->locked.state = IDLE;
    c->locked.n_telling++;
    c->locked.client = NULL;
    first = c->locked.first;
    c->locked.first = NULL;
    if (first)
        first->link = &first;
    if (fresh)
        keep_locked(c, fresh);
    else if (!c->locked.is_stopping)
        left_ns = note_failure_locked(c, err);
    pthread_mutex_unlock(&c->mutex);
    if (left_ns > 0)
        warn(c, err, left_ns);
    while ((waiter = pop(c, &first)))
        waiter->fn(waiter, rc, fresh ? identity_ref(fresh) : NULL, err);
    s3_identity_unref(fresh);

    pthread_mutex_lock(&c->mutex);
    c->locked.n_telling--;
    pthread_cond_broadcast(&c->idle);
    pthread_mutex_unlock(&c->mutex);
}

static void run_refresh(void *arg)
{
    struct s3_creds *c = arg;
    pst_error err = PST_ERROR_INIT;
    struct s3_secrets secrets = {0};
    struct s3_identity *fresh = NULL;
    struct s3_cred_job job = {
        .host = c->host,
        .config = c->config,
        .http = c->http,
        .crypto = c->crypto,
        .creds = c,
        .err = &err,
    };

    pthread_mutex_lock(&c->mutex);
    const int is_abandoned = c->locked.is_stopping;
    if (!is_abandoned)
        c->locked.state = RUNNING;
    job.had_some = c->locked.had_some;
    const uint64_t generation = c->locked.generation + 1;
    pthread_mutex_unlock(&c->mutex);
    if (is_abandoned) { /* the store is closed; its config is gone */
        unref(c);
        return;
    }
    job.deadline_ns = s3_cred_monotonic_ns() +
                      (uint64_t)c->config->credential_timeout_ms * 1000000u;
    pst_rc rc = s3_cred_find(&job, &secrets);
    if (rc == PST_OK) {
        fresh = identity_new(c->host, &secrets, generation);
        if (!fresh)
            rc = s3_fail(&err, PST_E_NO_MEMORY, "credentials: out of memory");
    }
    s3_secrets_fini(c->host, &secrets);
    finish(c, rc, fresh, &err);
    unref(c);
}

/* With state QUEUED set by the caller. On an error nothing has begun. */
static pst_rc start_refresh(struct s3_creds *c, pst_error *err)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    const pst_rc rc = c->host->exec(c->host, NULL, PST_POOL_BLOCKING, run_refresh, c);
    if (rc == PST_OK)
        return rc;
    unref(c);
    s3_fail(err, rc < 0 ? rc : (pst_rc)PST_E_UNAVAILABLE,
            "credentials: the host has no thread to fetch them");
    err->flags |= PST_ERR_RETRYABLE;
    return err->code;
}

/* ---- asking ----------------------------------------------------------------------------------- */

void s3_creds_explain(pst_error *to, const pst_error *from)
{
    to->code = from->code;
    to->flags = from->flags;
    to->sys_errno = from->sys_errno;
    to->http_status = from->http_status;
    memcpy(to->provider_code, from->provider_code, sizeof(to->provider_code));
    memcpy(to->message, from->message, sizeof(to->message));
}

/* What we have, counted, unless somebody has to be asked first. */
static struct s3_identity *take_locked(struct s3_creds *c, uint64_t refused, int *is_due)
{
    const struct s3_identity *current = c->locked.current;
    const int64_t now = current && current->expires_unix_ns != PST_TIME_UNKNOWN ? s3_cred_now_ns()
                                                                                : 0;

    *is_due = 1;
    if (current && refused != 0 && refused >= current->generation) {
        s3_identity_unref(c->locked.current);
        c->locked.current = NULL;
        return NULL;
    }
    if (!is_usable_locked(c, now))
        return NULL;
    *is_due = now >= c->locked.renew_unix_ns;
    return identity_ref(c->locked.current);
}

static pst_rc ask_callback(struct s3_creds *c, pst_op *op, uint64_t refused,
                           struct s3_waiter *waiter, struct s3_identity **out, pst_error *err);

/* Start what is due. Answers at once where there is an identity to go on with. */
static pst_rc ask_source(struct s3_creds *c, struct s3_identity *identity, int is_starting,
                         struct s3_waiter *waiter, struct s3_identity **out, pst_error *err)
{
    pst_error own = PST_ERROR_INIT;
    const int is_failed = is_starting && start_refresh(c, &own) != PST_OK;

    if (is_failed) {
        if (!identity)
            s3_creds_leave(c, waiter);
        finish(c, own.code, NULL, &own);
    }
    if (identity) {
        *out = identity;
        return PST_OK;
    }
    if (!is_failed) /* nothing of the waiter's is ours any more */
        return PST_PENDING;
    s3_creds_explain(err, &own);
    return own.code;
}

pst_rc s3_creds_get(struct s3_creds *c, pst_op *op, uint64_t refused, struct s3_waiter *waiter,
                    struct s3_identity **out, pst_error *err)
{
    int is_due = 0, is_starting = 0, is_held = 0;

    if (c->given) {
        *out = identity_ref(c->given);
        return PST_OK;
    }
    pthread_mutex_lock(&c->mutex);
    waiter->next = NULL;
    waiter->link = NULL;
    struct s3_identity *identity = take_locked(c, refused, &is_due);
    if (!c->is_callback && is_due) {
        is_held = !identity && s3_cred_monotonic_ns() < c->locked.held_until_ns;
        if (is_held)
            s3_creds_explain(err, &c->locked.held);
        is_starting = c->locked.state == IDLE && !is_held;
        if (is_starting)
            c->locked.state = QUEUED;
        if (!identity && !is_held)
            enter_locked(c, waiter);
    }
    pthread_mutex_unlock(&c->mutex);

    if (is_held)
        return err->code;
    if (!c->is_callback)
        return ask_source(c, identity, is_starting, waiter, out, err);
    if (!is_due) {
        *out = identity;
        return PST_OK;
    }
    s3_identity_unref(identity);
    return ask_callback(c, op, refused, waiter, out, err);
}

/* ---- the application's callback --------------------------------------------------------------- */

static pst_str value_of(const pst_credentials *given, const char *name)
{
    for (size_t i = 0; i < given->n_kv; i++) {
        const pst_str key = given->kv[i].key;
        if (key.len == strlen(name) && memcmp(key.ptr, name, key.len) == 0)
            return given->kv[i].value;
    }
    return pst_str_of(NULL, 0);
}

/* Keep what the application gave; *out is counted for the caller. */
static pst_rc keep_given(struct s3_creds *c, const pst_credentials *given, struct s3_identity **out,
                         pst_error *err)
{
    static const char what[] = "credentials of the application's callback";
    struct s3_secrets secrets = {0};
    struct s3_identity *fresh = NULL;

    pthread_mutex_lock(&c->mutex);
    if (c->locked.current && c->locked.current->generation == given->generation)
        fresh = identity_ref(c->locked.current);
    pthread_mutex_unlock(&c->mutex);
    if (fresh) {
        *out = fresh;
        return PST_OK;
    }
    pst_rc rc = s3_secrets_set(c->host, what, value_of(given, "access_key_id"),
                               value_of(given, "secret_access_key"),
                               value_of(given, "session_token"), &secrets, err);
    if (rc != PST_OK)
        return rc;
    secrets.expires_unix_ns = given->expires_unix_ns;
    fresh = identity_new(c->host, &secrets, given->generation);
    s3_secrets_fini(c->host, &secrets);
    if (!fresh)
        return s3_fail(err, PST_E_NO_MEMORY, "%s: out of memory", what);
    pthread_mutex_lock(&c->mutex);
    if (given->generation > c->locked.generation)
        keep_locked(c, fresh);
    pthread_mutex_unlock(&c->mutex);
    *out = fresh;
    return PST_OK;
}

static void on_callback(void *ctx, pst_rc rc, const pst_credentials *given, const pst_error *told)
{
    struct s3_waiter *waiter = ctx;
    struct s3_identity *identity = NULL;
    pst_error err = PST_ERROR_INIT;

    if (rc == PST_OK)
        rc = keep_given(waiter->creds, given, &identity, &err);
    else if (!told)
        s3_fail(&err, rc, "the application's callback gave no credentials");
    waiter->fn(waiter, rc, identity, rc == PST_OK || told == NULL || err.code ? &err : told);
}

static pst_rc ask_callback(struct s3_creds *c, pst_op *op, uint64_t refused,
                           struct s3_waiter *waiter, struct s3_identity **out, pst_error *err)
{
    pst_credentials given = {.struct_size = sizeof(given), .expires_unix_ns = PST_TIME_UNKNOWN};

    waiter->creds = c;
    const pst_rc rc = c->cred->get(c->host, op, refused, &given, on_callback, waiter);
    if (rc == PST_OK)
        return keep_given(c, &given, out, err);
    return rc < 0 ? s3_fail(err, rc, "the application's callback gave no credentials") : rc;
}
