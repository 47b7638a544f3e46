/* The host and the services of cred_fixture.h. */
#include "cred_fixture.h"

#include <ftw.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../url.h"
enum { GUARD_S = 30, TEXTS_MAX = 64 };

static char *texts[TEXTS_MAX];
static size_t n_texts;

static struct cred_case *case_of(const pst_host *host)
{
    return (struct cred_case *)(uintptr_t)host;
}

static struct timespec guard(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += GUARD_S;
    return until;
}

/* ---- threads ---------------------------------------------------------------------------------- */

struct thread {
    struct cred_case *c;
    void (*fn)(void *);
    void *arg;
};

static void *run_thread(void *arg)
{
    struct thread t = *(struct thread *)arg;
    free(arg);
    t.fn(t.arg);
    pthread_mutex_lock(&t.c->mutex);
    t.c->n_threads--;
    pthread_cond_broadcast(&t.c->changed);
    pthread_mutex_unlock(&t.c->mutex);
    return NULL;
}

static void start_thread(struct cred_case *c, void (*fn)(void *), void *arg)
{
    pthread_t id;
    pthread_attr_t attr;
    struct thread *t = malloc(sizeof(*t));

    *t = (struct thread){c, fn, arg};
    pthread_mutex_lock(&c->mutex);
    c->n_threads++;
    pthread_mutex_unlock(&c->mutex);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&id, &attr, run_thread, t) != 0)
        abort();
    pthread_attr_destroy(&attr);
}

/* ---- the host --------------------------------------------------------------------------------- */

static void *fake_alloc(const pst_host *host, size_t size, size_t align)
{
    struct cred_case *c = case_of(host);
    void *memory = NULL;

    pthread_mutex_lock(&c->mutex);
    const int fails = c->fail_after == 0;
    if (c->fail_after > 0)
        c->fail_after--;
    if (!fails)
        c->n_blocks++;
    pthread_mutex_unlock(&c->mutex);
    if (fails || posix_memalign(&memory, align < 8 ? 8 : align, size) != 0)
        return NULL;
    memset(memory, 0xa5, size);
    return memory;
}

static void fake_dealloc(const pst_host *host, void *memory)
{
    struct cred_case *c = case_of(host);

    const size_t n = memory ? malloc_usable_size(memory) : 0;
    const int is_dirty = n > 0 && (memmem(memory, n, "hush", 4) || memmem(memory, n, "SECRET-", 7));

    pthread_mutex_lock(&c->mutex);
    c->n_blocks--;
    c->n_dirty += is_dirty;
    pthread_mutex_unlock(&c->mutex);
    free(memory);
}

struct op_block {
    struct op_block *next;
    _Alignas(16) char bytes[];
};

static void *fake_op_alloc(const pst_host *host, pst_op *op, size_t size)
{
    struct cred_asker *a = op->host_private;
    struct op_block *block = malloc(sizeof(*block) + size);

    (void)host;
    block->next = a->blocks;
    a->blocks = block;
    return block->bytes;
}

static pst_rc fake_exec(const pst_host *host, pst_op *op, uint32_t pool, void (*fn)(void *),
                        void *arg)
{
    struct cred_case *c = case_of(host);

    assert_null(op);
    assert_int_equal(pool, PST_POOL_BLOCKING);
    pthread_mutex_lock(&c->mutex);
    const int fails = c->exec_fails, is_held = c->is_exec_held;
    if (is_held) {
        c->held_fn = fn;
        c->held_arg = arg;
    }
    c->n_jobs += !fails;
    pthread_mutex_unlock(&c->mutex);
    if (fails)
        return PST_E_NO_MEMORY;
    if (!is_held)
        start_thread(c, fn, arg);
    return PST_OK;
}

static void fake_log(const pst_host *host, uint32_t level, const char *plugin, const char *text)
{
    struct cred_case *c = case_of(host);
    (void)level;

    pthread_mutex_lock(&c->mutex);
    const size_t n = strlen(c->log);
    snprintf(c->log + n, sizeof(c->log) - n, "%s: %s\n", plugin, text);
    pthread_mutex_unlock(&c->mutex);
}

static int32_t fake_log_enabled(const pst_host *host, uint32_t level)
{
    (void)host;
    return level <= PST_LOG_WARN;
}

/* ---- http/1 ----------------------------------------------------------------------------------- */

struct pst_http_client {
    struct cred_case *c;
    uint32_t flags;
};

static pst_rc fake_client_new(const pst_host *host, const pst_http_config *config,
                              pst_http_client **out, pst_error *err)
{
    (void)err;
    *out = malloc(sizeof(**out));
    **out = (struct pst_http_client){case_of(host), config->flags};
    return PST_OK;
}

static void fake_client_free(pst_http_client *client)
{
    free(client);
}

struct reply {
    struct cred_case *c;
    uint64_t id;
    void (*done)(void *, pst_rc, const pst_http_reply *);
    void *ctx;
    struct cred_rule rule;
};

static void deliver(void *arg)
{
    struct reply *r = arg;
    struct cred_case *c = r->c;
    const struct timespec until = guard();
    pst_rc rc = r->rule.status ? PST_OK : r->rule.rc;

    pthread_mutex_lock(&c->mutex);
    c->n_held += r->rule.is_held;
    pthread_cond_broadcast(&c->changed);
    while (r->rule.is_held && !c->is_released && c->cancelled_id != r->id) {
        if (pthread_cond_timedwait(&c->changed, &c->mutex, &until) != 0)
            abort();
    }
    if (c->cancelled_id == r->id)
        rc = PST_E_CANCELLED;
    pthread_mutex_unlock(&c->mutex);
    const pst_http_reply reply = {
        .struct_size = sizeof(reply),
        .status = rc == PST_OK ? r->rule.status : 0,
        .body = s3_str(rc == PST_OK ? r->rule.body : ""),
        .peer = "",
        .message = rc == PST_OK ? "" : "127.0.0.1:1: connection refused",
    };
    r->done(r->ctx, rc, &reply);
    free(r);
}

static char *print_headers(const pst_http_request *q)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);

    for (size_t i = 0; i < q->n_headers; i++)
        fprintf(f, "%.*s: %.*s\n", (int)q->headers[i].key.len, q->headers[i].key.ptr,
                (int)q->headers[i].value.len, q->headers[i].value.ptr);
    fclose(f);
    return text;
}

static pst_rc fake_send(pst_http_client *client, const pst_http_request *q, uint64_t *id)
{
    struct cred_case *c = client->c;
    struct reply *r = calloc(1, sizeof(*r));

    *r = (struct reply){.c = c, .done = q->done, .ctx = q->ctx};
    r->rule = (struct cred_rule){.rc = PST_E_UNAVAILABLE};
    pthread_mutex_lock(&c->mutex);
    assert_true(c->n_sent < sizeof(c->sent) / sizeof(c->sent[0]));
    struct cred_sent *s = &c->sent[c->n_sent];
    *s = (struct cred_sent){
        .headers = print_headers(q),
        .body = strndup(q->n_body ? q->body[0].ptr : "", q->n_body ? q->body[0].len : 0),
        .is_direct = client->flags & PST_HTTP_NO_PROXY,
        .deadline_ns = q->deadline_ns};
    if (asprintf(&s->line, "%.*s %.*s", (int)q->method.len, q->method.ptr, (int)q->url.len,
                 q->url.ptr) < 0)
        abort();
    *id = r->id = ++c->next_id;
    for (size_t i = 0; i < c->n_rules; i++) {
        struct cred_rule *rule = &c->rules[i];
        if (rule->n_left == 0 || strncmp(s->line, rule->match, strlen(rule->match)) != 0)
            continue;
        rule->n_left -= rule->n_left > 0;
        r->rule = *rule;
        if (rule->wants && !strstr(s->headers, rule->wants) && !strstr(s->body, rule->wants))
            r->rule = (struct cred_rule){.status = 599, .body = "not as the test wants it"};
        break;
    }
    c->n_sent++;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    start_thread(c, deliver, r);
    return PST_PENDING;
}

static void fake_cancel(pst_http_client *client, uint64_t id)
{
    pthread_mutex_lock(&client->c->mutex);
    client->c->cancelled_id = id;
    pthread_cond_broadcast(&client->c->changed);
    pthread_mutex_unlock(&client->c->mutex);
}

/* ---- cases ------------------------------------------------------------------------------------ */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int cred_case_setup(void **state)
{
    struct cred_case *c = calloc(1, sizeof(*c));

    c->home = strdup("/tmp/pst-cred-XXXXXX");
    if (!mkdtemp(c->home))
        return -1;
    c->fail_after = -1;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->host = (pst_host){
        .struct_size = sizeof(pst_host),
        .abi_major = PST_ABI_MAJOR,
        .abi_minor = PST_ABI_MINOR,
        .op_alloc = fake_op_alloc,
        .alloc = fake_alloc,
        .dealloc = fake_dealloc,
        .exec = fake_exec,
        .log = fake_log,
        .log_enabled = fake_log_enabled,
    };
    c->http = (pst_http_1){
        .struct_size = sizeof(pst_http_1),
        .client_new = fake_client_new,
        .client_free = fake_client_free,
        .send = fake_send,
        .cancel = fake_cancel,
    };
    if (pst_services_new(&c->host, &c->services, NULL) != PST_OK)
        return -1;
    *state = c;
    return 0;
}

int cred_case_teardown(void **state)
{
    struct cred_case *c = *state;
    int rc;

    cred_case_close(c);
    pst_services_free(c->services);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->mutex);
    for (size_t i = 0; i < c->n_sent; i++) {
        free(c->sent[i].line);
        free(c->sent[i].headers);
        free(c->sent[i].body);
    }
    while (n_texts > 0)
        free(texts[--n_texts]);
    rc = nftw(c->home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(c->home);
    free(c);
    return rc;
}

static const char *text_after(const char *text, const char *prefix)
{
    const size_t n = strlen(prefix);

    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

pst_rc cred_case_open(struct cred_case *c, const char *const *options)
{
    pst_kv kvs[64];
    uint32_t sources[64];
    size_t n = 0;
    int has_home = 0;
    static const char *const presets[][2] = {{"connect_timeout", "10000"},
                                             {"stall_timeout", "30000"}};
    int has_timeout = 0;

    for (size_t i = 0; options && options[i]; i++, n++) {
        const char *text = text_after(options[i], "env:");
        sources[n] = text ? PST_SOURCE_ENVIRONMENT : PST_SOURCE_EXPLICIT;
        text = text ? text : options[i];
        const char *equals = strchr(text, '=');
        assert_non_null(equals);
        kvs[n].key = pst_str_of(text, (size_t)(equals - text));
        kvs[n].value = s3_str(equals + 1);
        has_home |= text_after(text, "home=") != NULL;
        has_timeout |= text_after(text, "credential_timeout=") != NULL;
    }
    for (size_t i = 0; i < 2; i++, n++) {
        kvs[n] = (pst_kv){s3_str(presets[i][0]), s3_str(presets[i][1])};
        sources[n] = PST_SOURCE_DEFAULT;
    }
    if (!has_timeout) {
        kvs[n] = (pst_kv){PST_STR("credential_timeout"), PST_STR("30000")};
        sources[n++] = PST_SOURCE_DEFAULT;
    }
    if (!has_home) {
        kvs[n] = (pst_kv){PST_STR("home"), s3_str(c->home)};
        sources[n++] = PST_SOURCE_ENVIRONMENT;
    }
    const pst_open_args args = {
        .struct_size = sizeof(args), .options = kvs, .n_options = n, .option_sources = sources};
    c->err = (pst_error)PST_ERROR_INIT;
    pst_rc rc = s3_config_new(&c->host, &args, &c->store.config, &c->err);
    if (rc != PST_OK)
        return rc;
    c->store.host = &c->host;
    c->store.http = &c->http;
    c->store.crypto = pst_services_find(c->services, "crypto/1");
    c->store.cred = c->cred.get ? &c->cred : NULL;
    rc = s3_creds_new(&c->store, &c->creds, &c->err);
    if (rc != PST_OK)
        cred_case_close(c);
    return rc;
}

void cred_case_close(struct cred_case *c)
{
    const struct timespec until = guard();

    s3_creds_free(c->creds);
    s3_config_free(c->store.config);
    c->creds = NULL;
    c->store.config = NULL;
    pthread_mutex_lock(&c->mutex);
    while (c->n_threads > 0)
        assert_int_equal(pthread_cond_timedwait(&c->changed, &c->mutex, &until), 0);
    pthread_mutex_unlock(&c->mutex);
    if (!c->is_blind)
        assert_int_equal(c->n_blocks, 0);
    assert_int_equal(c->n_dirty, 0);
}

struct cred_rule *cred_case_rule(struct cred_case *c, const char *match)
{
    assert_true(c->n_rules < sizeof(c->rules) / sizeof(c->rules[0]));
    pthread_mutex_lock(&c->mutex);
    struct cred_rule *rule = &c->rules[c->n_rules++];
    *rule = (struct cred_rule){.match = match, .body = "", .n_left = -1, .rc = PST_E_UNAVAILABLE};
    pthread_mutex_unlock(&c->mutex);
    return rule;
}

void cred_case_answer(struct cred_case *c, const char *match, uint32_t status, const char *body)
{
    struct cred_rule *rule = cred_case_rule(c, match);

    rule->status = status;
    rule->body = body;
}

void cred_case_release(struct cred_case *c)
{
    pthread_mutex_lock(&c->mutex);
    c->is_released = 1;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
}

void cred_case_wait_sent(struct cred_case *c, size_t n)
{
    const struct timespec until = guard();

    pthread_mutex_lock(&c->mutex);
    while (c->n_sent < n)
        assert_int_equal(pthread_cond_timedwait(&c->changed, &c->mutex, &until), 0);
    pthread_mutex_unlock(&c->mutex);
}

size_t cred_case_n_sent(struct cred_case *c)
{
    pthread_mutex_lock(&c->mutex);
    const size_t n = c->n_sent;
    pthread_mutex_unlock(&c->mutex);
    return n;
}

const char *cred_case_path(struct cred_case *c, const char *name)
{
    static char paths[4][512];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", c->home, name);
    return path;
}

void cred_case_file(struct cred_case *c, const char *name, const char *text)
{
    char path[512];

    snprintf(path, sizeof(path), "%s", cred_case_path(c, name));
    for (char *slash = path + strlen(c->home) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* ---- askers ----------------------------------------------------------------------------------- */

static void on_identity(struct s3_waiter *waiter, pst_rc rc, struct s3_identity *identity,
                        const pst_error *err)
{
    struct cred_asker *a = (struct cred_asker *)waiter;

    pthread_mutex_lock(&a->c->mutex);
    a->n_called++;
    a->rc = rc;
    a->identity = identity;
    if (rc != PST_OK)
        s3_creds_explain(&a->err, err);
    pthread_cond_broadcast(&a->c->changed);
    pthread_mutex_unlock(&a->c->mutex);
}

pst_rc cred_ask(struct cred_case *c, struct cred_asker *a, uint64_t refused)
{
    memset(a, 0, sizeof(*a));
    a->c = c;
    a->err = (pst_error)PST_ERROR_INIT;
    a->op = (pst_op){
        .struct_size = sizeof(pst_op), .host = &c->host, .err = &a->err, .host_private = a};
    a->waiter.fn = on_identity;
    pst_rc rc = s3_creds_get(c->creds, &a->op, refused, &a->waiter, &a->identity, &a->err);
    if (rc != PST_PENDING)
        a->rc = rc;
    return rc;
}

pst_rc cred_wait(struct cred_asker *a)
{
    const struct timespec until = guard();

    pthread_mutex_lock(&a->c->mutex);
    while (a->n_called == 0)
        assert_int_equal(pthread_cond_timedwait(&a->c->changed, &a->c->mutex, &until), 0);
    pthread_mutex_unlock(&a->c->mutex);
    return a->rc;
}

void cred_asker_fini(struct cred_asker *a)
{
    s3_identity_unref(a->identity);
    a->identity = NULL;
    while (a->blocks) {
        struct op_block *block = a->blocks;
        a->blocks = block->next;
        free(block);
    }
}

static pst_rc ask_and_wait(struct cred_case *c, struct cred_asker *a)
{
    const pst_rc rc = cred_ask(c, a, 0);

    return rc == PST_PENDING ? cred_wait(a) : rc;
}

void expect_key(struct cred_case *c, const char *access_key, const char *token)
{
    struct cred_asker a;

    if (ask_and_wait(c, &a) != PST_OK)
        fail_msg("%s", a.err.message);
    assert_string_equal(a.identity->access_key, access_key);
    if (token)
        assert_string_equal(a.identity->session_token, token);
    else
        assert_null(a.identity->session_token);
    cred_asker_fini(&a);
}

void expect_error(struct cred_case *c, pst_rc rc, const char *const *wanted)
{
    struct cred_asker a;
    const pst_rc got = ask_and_wait(c, &a);

    for (size_t i = 0; wanted[i]; i++) {
        if (!strstr(a.err.message, wanted[i]))
            fail_msg("'%s' is not in '%s'", wanted[i], a.err.message);
    }
    assert_int_equal(got, rc);
    assert_int_equal(a.err.code, rc);
    assert_null(a.identity);
    cred_asker_fini(&a);
}

/* ---- documents -------------------------------------------------------------------------------- */

const char *time_text(int64_t seconds_from_now)
{
    static char buffers[4][32];
    static unsigned turn;
    char *out = buffers[turn++ % 4];
    const time_t at = time(NULL) + (time_t)seconds_from_now;
    struct tm tm;

    gmtime_r(&at, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return out;
}

static const char *keep(char *text)
{
    assert_true(n_texts < TEXTS_MAX);
    texts[n_texts++] = text;
    return text;
}

const char *json_keys(struct cred_case *c, const char *access_key, int64_t lives_s)
{
    char *text = NULL;

    (void)c;
    if (asprintf(&text,
                 "{\"Code\": \"Success\", \"Version\": 1, \"AccessKeyId\": \"%s\", "
                 "\"SecretAccessKey\": \"SECRET-%s\", \"Token\": \"TOKEN-%s\", "
                 "\"SessionToken\": \"TOKEN-%s\", \"Expiration\": \"%s\"}",
                 access_key, access_key, access_key, access_key, time_text(lives_s)) < 0)
        abort();
    return keep(text);
}

const char *sts_keys(struct cred_case *c, const char *action, const char *access_key,
                     int64_t lives_s)
{
    char *text = NULL;

    (void)c;
    if (asprintf(&text,
                 "<%sResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><%sResult>"
                 "<Credentials><AccessKeyId>%s</AccessKeyId>"
                 "<SecretAccessKey>SECRET-%s</SecretAccessKey>"
                 "<SessionToken>TOKEN-%s</SessionToken><Expiration>%s</Expiration></Credentials>"
                 "</%sResult></%sResponse>",
                 action, action, access_key, access_key, access_key, time_text(lives_s), action,
                 action) < 0)
        abort();
    return keep(text);
}
