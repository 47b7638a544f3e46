/* The host of fake.h: what a plugin may call, counted. */
#include "fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* The table of sdk/src/net/crypto.c, linked in. */
extern const pst_crypto_1 pst_crypto_service;

enum { GUARD_S = 30 };

struct block {
    struct block *next;
    _Alignas(16) char bytes[];
};

static struct fake *fake_of(const pst_host *host)
{
    return (struct fake *)(uintptr_t)host;
}

pst_str fake_str(const char *text)
{
    return pst_str_of(text, strlen(text));
}

static void complete(const pst_host *host, pst_op *op, pst_rc rc)
{
    struct fake *fake = fake_of(host);
    struct fake_op *mine = (struct fake_op *)op;

    pthread_mutex_lock(&fake->mutex);
    mine->n_completed++;
    mine->rc = rc;
    fake->n_changes++;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->mutex);
}

static int is_failing(struct fake *fake)
{
    pthread_mutex_lock(&fake->mutex);
    const int fails = fake->fail_after == 0;
    if (fake->fail_after > 0)
        fake->fail_after--;
    pthread_mutex_unlock(&fake->mutex);
    return fails;
}

static void *op_alloc(const pst_host *host, pst_op *op, size_t size)
{
    struct fake_op *mine = (struct fake_op *)op;
    struct block *block;

    if (is_failing(fake_of(host)))
        return NULL;
    block = malloc(sizeof(*block) + size);
    assert_non_null(block);
    memset(block->bytes, 0xa5, size);
    block->next = mine->blocks;
    mine->blocks = block;
    return block->bytes;
}

static void *host_alloc(const pst_host *host, size_t size, size_t align)
{
    struct fake *fake = fake_of(host);
    void *memory = NULL;

    if (is_failing(fake))
        return NULL;
    assert_int_equal(posix_memalign(&memory, align < 16 ? 16 : align, size), 0);
    pthread_mutex_lock(&fake->mutex);
    fake->n_blocks++;
    pthread_mutex_unlock(&fake->mutex);
    return memory;
}

static void host_dealloc(const pst_host *host, void *memory)
{
    struct fake *fake = fake_of(host);

    if (!memory)
        return;
    free(memory);
    pthread_mutex_lock(&fake->mutex);
    fake->n_blocks--;
    pthread_mutex_unlock(&fake->mutex);
}

static pst_rc dst(const pst_host *host, pst_op *op, const pst_dst_args *args, pst_dst_grant *grant)
{
    struct fake *fake = fake_of(host);
    struct fake_op *mine = (struct fake_op *)op;
    const uint64_t size = args->length == PST_UNKNOWN ? 1u << 16 : args->length;

    pthread_mutex_lock(&fake->mutex);
    if (fake->dst == FAKE_DST_LATER && !mine->is_parked) {
        mine->is_parked = 1;
        fake->n_changes++;
        pthread_cond_broadcast(&fake->changed);
        pthread_mutex_unlock(&fake->mutex);
        return PST_LATER;
    }
    pthread_mutex_unlock(&fake->mutex);
    mine->dst = realloc(mine->dst, mine->dst_len + size + 1);
    assert_non_null(mine->dst);
    mine->span.ptr = mine->dst + mine->dst_len;
    mine->span.len = size;
    mine->dst_len += size;
    grant->capacity = size;
    grant->dst = &mine->span;
    grant->n_dst = 1;
    return PST_OK;
}

static pst_str keep(const pst_host *host, pst_op *op, pst_str s)
{
    char *copy = op_alloc(host, op, s.len + 1);

    assert_non_null(copy);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return pst_str_of(copy, s.len);
}

static pst_rc list_emit(const pst_host *host, pst_op *op, const pst_entry *entries, size_t n,
                        size_t stride)
{
    struct fake_op *mine = (struct fake_op *)op;

    mine->entries = reallocarray(mine->entries, mine->n_entries + n + 1, sizeof(pst_entry));
    assert_non_null(mine->entries);
    for (size_t i = 0; i < n; i++) {
        const pst_entry *from = (const pst_entry *)((const char *)entries + i * stride);
        pst_entry *to = &mine->entries[mine->n_entries++];
        *to = *from;
        to->key = keep(host, op, from->key);
        to->etag = keep(host, op, from->etag);
        to->version = keep(host, op, from->version);
        to->content_encoding = keep(host, op, from->content_encoding);
        to->storage_class = keep(host, op, from->storage_class);
    }
    return PST_OK;
}

struct job {
    struct fake *fake;
    void (*fn)(void *);
    void *arg;
};

static void *run_job(void *arg)
{
    struct job job = *(struct job *)arg;

    free(arg);
    job.fn(job.arg);
    pthread_mutex_lock(&job.fake->mutex);
    job.fake->n_jobs--;
    job.fake->n_changes++;
    pthread_cond_broadcast(&job.fake->changed);
    pthread_mutex_unlock(&job.fake->mutex);
    return NULL;
}

static pst_rc exec(const pst_host *host, pst_op *op, uint32_t pool, void (*fn)(void *), void *arg)
{
    struct job *job = malloc(sizeof(*job));
    pthread_t thread;

    (void)op;
    (void)pool;
    assert_non_null(job);
    job->fake = fake_of(host);
    job->fn = fn;
    job->arg = arg;
    pthread_mutex_lock(&job->fake->mutex);
    job->fake->n_jobs++;
    pthread_mutex_unlock(&job->fake->mutex);
    assert_int_equal(pthread_create(&thread, NULL, run_job, job), 0);
    pthread_detach(thread);
    return PST_OK;
}

static void wake(const pst_host *host, pst_backend *store)
{
    (void)host;
    (void)store;
}

static void log_line(const pst_host *host, uint32_t level, const char *plugin, const char *text)
{
    struct fake *fake = fake_of(host);
    const size_t len = strlen(text);

    (void)level;
    (void)plugin;
    pthread_mutex_lock(&fake->mutex);
    fake->n_logs++;
    if (fake->log_len + len + 2 < sizeof(fake->log)) {
        memcpy(fake->log + fake->log_len, text, len + 1);
        fake->log_len += len;
        fake->log[fake->log_len++] = '\n';
        fake->log[fake->log_len] = '\0';
    }
    pthread_mutex_unlock(&fake->mutex);
}

static int32_t log_enabled(const pst_host *host, uint32_t level)
{
    (void)host;
    (void)level;
    return 1;
}

static const void *service(const pst_host *host, const char *name)
{
    struct fake *fake = fake_of(host);

    if (strcmp(name, "http/1") == 0)
        return &fake->http;
    if (strcmp(name, "cred/1") == 0)
        return fake->cred;
    return strcmp(name, "crypto/1") == 0 ? &pst_crypto_service : NULL;
}

/* ---- opening ---------------------------------------------------------------------------------- */

/* The form in which a plugin receives a declared default. */
static char *normalise(const pst_option *o)
{
    const char *text = o->fallback;
    char *out = calloc(1, strlen(text) + 8);

    assert_non_null(out);
    snprintf(out, strlen(text) + 8, "%s", text);
    if (o->type == PST_OPT_BOOL)
        snprintf(out, strlen(text) + 8, "%d", strcmp(text, "true") == 0);
    if (o->type == PST_OPT_DURATION) {
        char *unit = NULL;
        const long n = strtol(text, &unit, 10);
        snprintf(out, strlen(text) + 8, "%ld", strcmp(unit, "ms") == 0 ? n : n * 1000);
    }
    return out;
}

static const char *given(const char *const *options, const char *name)
{
    const size_t len = strlen(name);

    for (size_t i = 0; options && options[i]; i++) {
        if (strncmp(options[i], name, len) == 0 && options[i][len] == '=')
            return options[i] + len + 1;
    }
    return NULL;
}

static const char *preset(const char *const *options, const char *name)
{
    static const char *const keys[] = {"access_key_id", "secret_access_key"};
    static const char *const values[] = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"};

    if (strcmp(name, "endpoint") == 0)
        return "http://127.0.0.1:9000";
    for (size_t i = 0; i < 2; i++) {
        if (strcmp(name, keys[i]) == 0 && !given(options, "no_keys"))
            return values[i];
    }
    return NULL;
}

pst_rc fake_open_bucket(struct fake *fake, const char *bucket, const char *const *options)
{
    pst_kv kvs[128];
    uint32_t sources[128];
    char *texts[128];
    size_t n = 0;

    memset(fake, 0, sizeof(*fake));
    pthread_mutex_init(&fake->mutex, NULL);
    pthread_cond_init(&fake->changed, NULL);
    fake->host = (pst_host){.struct_size = sizeof(pst_host),
                            .abi_major = PST_ABI_MAJOR,
                            .abi_minor = PST_ABI_MINOR,
                            .complete = complete,
                            .wake = wake,
                            .dst = dst,
                            .list_emit = list_emit,
                            .op_alloc = op_alloc,
                            .alloc = host_alloc,
                            .dealloc = host_dealloc,
                            .exec = exec,
                            .log = log_line,
                            .log_enabled = log_enabled,
                            .service = service};
    fake->http = fake_http;
    fake->fail_after = -1;
    fake->open_err = (pst_error)PST_ERROR_INIT;
    assert_int_equal(PST_PLUGIN_SYMBOL(&fake->host, &fake->plugin, &fake->open_err), PST_OK);
    for (size_t i = 0; i < fake->plugin->n_options; i++) {
        const pst_option *o = &fake->plugin->options[i];
        const char *value = given(options, o->name);
        const int is_given = value != NULL;
        if (!value)
            value = preset(options, o->name);
        if (!value && !o->fallback)
            continue;
        texts[n] = value ? strdup(value) : normalise(o);
        assert_non_null(texts[n]);
        kvs[n].key = fake_str(o->name);
        kvs[n].value = fake_str(texts[n]);
        sources[n++] = is_given || value ? PST_SOURCE_EXPLICIT : PST_SOURCE_DEFAULT;
    }
    const pst_open_args args = {.struct_size = sizeof(args),
                                .scheme = PST_STR("s3"),
                                .authority = fake_str(bucket),
                                .options = kvs,
                                .n_options = n,
                                .option_sources = sources};
    const pst_rc rc = fake->plugin->store_open(&fake->host, &args, &fake->store, &fake->open_err);
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
    return rc;
}

pst_rc fake_open(struct fake *fake, const char *const *options)
{
    return fake_open_bucket(fake, "bucket", options);
}

void fake_start(struct fake *fake, const char *const *options)
{
    const pst_rc rc = fake_open(fake, options);

    if (rc != PST_OK)
        fail_msg("store_open: %s", fake->open_err.message);
}

void fake_stop(struct fake *fake)
{
    pthread_mutex_lock(&fake->mutex);
    while (fake->n_jobs > 0)
        pthread_cond_wait(&fake->changed, &fake->mutex);
    pthread_mutex_unlock(&fake->mutex);
    assert_int_equal(fake->n_given, fake->n_replies);
    for (size_t i = 0; i < fake->n_sent; i++)
        assert_false(fake->sent[i]->is_open);
    if (fake->store)
        fake->plugin->ops->close(fake->store);
    assert_int_equal(fake->n_blocks, 0);
    fake_http_free(fake);
    pthread_cond_destroy(&fake->changed);
    pthread_mutex_destroy(&fake->mutex);
}

/* ---- operations ------------------------------------------------------------------------------- */

void fake_op_init(struct fake *fake, struct fake_op *op)
{
    memset(op, 0, sizeof(*op));
    assert_true(fake->plugin->op_scratch <= sizeof(op->scratch));
    op->fake = fake;
    op->err = (pst_error)PST_ERROR_INIT;
    op->op = (pst_op){.struct_size = sizeof(pst_op),
                      .id = 1,
                      .attempt = 1,
                      .max_attempts = 5,
                      .host = &fake->host,
                      .scratch = op->scratch,
                      .err = &op->err};
}

static void wait_change(struct fake *fake, const struct timespec *until)
{
    if (pthread_cond_timedwait(&fake->changed, &fake->mutex, until) != 0)
        fail_msg("nothing happens any more");
}

pst_rc fake_run(struct fake_op *op, pst_rc submitted)
{
    struct fake *fake = op->fake;
    struct timespec until;

    if (submitted != PST_PENDING) {
        assert_int_equal(op->n_completed, 0);
        return submitted;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += GUARD_S;
    for (;;) {
        pthread_mutex_lock(&fake->mutex);
        const int is_over = op->n_completed > 0;
        const int is_later = op->is_parked == 1;
        const uint64_t n_changes = fake->n_changes;
        pthread_mutex_unlock(&fake->mutex);
        if (is_over)
            break;
        if (is_later) {
            op->is_parked = 2;
            fake->plugin->ops->dst_ready(fake->store, &op->op);
        }
        if (fake_step(fake))
            continue;
        pthread_mutex_lock(&fake->mutex);
        if (fake->n_changes == n_changes)
            wait_change(fake, &until);
        pthread_mutex_unlock(&fake->mutex);
    }
    assert_int_equal(op->n_completed, 1);
    return op->rc;
}

void fake_op_fini(struct fake_op *op)
{
    while (op->blocks) {
        struct block *block = op->blocks;
        op->blocks = block->next;
        free(block);
    }
    free(op->dst);
    free(op->entries);
}
