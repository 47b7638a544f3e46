/* mini_host.c - see mini_host.h. It keeps the rules that a plugin may rely on: scratch is zeroed and
 * aligned, arguments and results live until the completion, an operation completes exactly once (more
 * is a failed assertion), dst_ready comes once after PST_LATER and holds no lock. */
#include "mini_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct block {
    struct block *next;
    _Alignas(16) char bytes[];
};

struct job {
    void (*fn)(void *);
    void *arg;
};

static struct mini_host *mini_of(const pst_host *host)
{
    return host->host_private;
}

static struct mini_op *op_of(pst_op *op)
{
    return op->host_private;
}

/* Does this allocation have to fail? Counts those that live. */
static int count_block(struct mini_host *mini)
{
    int fails = 0;

    pthread_mutex_lock(&mini->mutex);
    if (mini->fail_after == 0) {
        fails = 1;
        mini->has_failed = 1;
        mini->fail_after = -1;
    } else {
        if (mini->fail_after > 0)
            mini->fail_after--;
        mini->n_blocks++;
    }
    pthread_mutex_unlock(&mini->mutex);
    return fails;
}

static void *host_alloc(const pst_host *host, size_t size, size_t align)
{
    void *bytes = NULL;

    if (count_block(mini_of(host)))
        return NULL;
    if (posix_memalign(&bytes, align < sizeof(void *) ? sizeof(void *) : align, size) != 0)
        abort();
    memset(bytes, 0xa5, size); /* nobody may count on zeros */
    return bytes;
}

static void host_dealloc(const pst_host *host, void *bytes)
{
    struct mini_host *mini = mini_of(host);

    assert_non_null(bytes);
    pthread_mutex_lock(&mini->mutex);
    mini->n_blocks--;
    pthread_mutex_unlock(&mini->mutex);
    free(bytes);
}

static void *host_op_alloc(const pst_host *host, pst_op *op, size_t size)
{
    struct mini_op *mop = op_of(op);

    if (count_block(mini_of(host)))
        return NULL;
    struct block *block = aligned_alloc(16, (sizeof(*block) + size + 15) / 16 * 16);
    if (!block)
        abort();
    block->next = mop->blocks;
    mop->blocks = block;
    memset(block->bytes, 0xa5, size);
    return block->bytes;
}

static void host_complete(const pst_host *host, pst_op *op, pst_rc rc)
{
    struct mini_op *mop = op_of(op);

    (void)host;
    pthread_mutex_lock(&mop->mutex);
    mop->n_completed++;
    mop->rc = rc;
    pthread_cond_broadcast(&mop->done);
    pthread_mutex_unlock(&mop->mutex);
}

static void host_wake(const pst_host *host, pst_backend *backend)
{
    (void)host;
    (void)backend;
}

pst_iov *mini_spans(char *bytes, size_t len, size_t span_bytes, size_t *n)
{
    size_t step = span_bytes > 0 ? span_bytes : len > 0 ? len : 1;
    pst_iov *spans = calloc(len / step + 2, sizeof(*spans));

    if (!spans)
        abort();
    *n = 0;
    for (size_t at = 0; at < len; at += step) {
        spans[*n].ptr = bytes + at;
        spans[*n].len = len - at < step ? len - at : step;
        (*n)++;
        if (span_bytes > 0 && *n == 1) { /* an empty span is allowed anywhere */
            spans[*n].ptr = NULL;
            spans[*n].len = 0;
            (*n)++;
        }
    }
    return spans;
}

static void *send_dst_ready(void *arg)
{
    struct mini_op *mop = arg;

    mop->mini->plugin->ops->dst_ready(mop->mini->store, &mop->op);
    return NULL;
}

static pst_rc host_dst(const pst_host *host, pst_op *op, const pst_dst_args *args,
                       pst_dst_grant *grant)
{
    struct mini_host *mini = mini_of(host);
    struct mini_op *mop = op_of(op);

    if (mini->on_dst)
        mini->on_dst(mini->on_dst_arg);
    if (mini->cancel_at_dst)
        mini->plugin->ops->cancel(mini->store, op);
    if (mini->dst == MINI_DST_LATER && !mop->is_parked) {
        pthread_t thread;
        mop->is_parked = 1;
        mini->n_later++;
        if (pthread_create(&thread, NULL, send_dst_ready, mop) != 0)
            abort();
        pthread_detach(thread);
        return PST_LATER;
    }
    assert_null(mop->dst); /* one grant per attempt */
    assert_true(args->capacity >= args->length);
    mop->dst_len = (size_t)args->capacity;
    if (posix_memalign((void **)&mop->dst, 4096, mop->dst_len + 1) != 0)
        abort();
    mop->dst[mop->dst_len] = 0x5a;
    grant->capacity = args->capacity;
    mop->spans = mini_spans(mop->dst, mop->dst_len, mini->span_bytes, &grant->n_dst);
    grant->dst = mop->spans;
    return PST_OK;
}

static void *keep(struct mini_op *mop, const void *bytes, size_t len)
{
    struct block *block = aligned_alloc(16, (sizeof(*block) + len + 15) / 16 * 16);

    if (!block)
        abort();
    block->next = mop->blocks;
    mop->blocks = block;
    if (len > 0)
        memcpy(block->bytes, bytes, len);
    pthread_mutex_lock(&mop->mini->mutex);
    mop->mini->n_blocks++;
    pthread_mutex_unlock(&mop->mini->mutex);
    return block->bytes;
}

static pst_rc host_list_emit(const pst_host *host, pst_op *op, const pst_entry *entries, size_t n,
                             size_t stride)
{
    struct mini_host *mini = mini_of(host);
    struct mini_op *mop = op_of(op);

    assert_int_equal(stride, sizeof(pst_entry));
    if (mini->fail_emits > 0) {
        mini->fail_emits--;
        return PST_E_NO_MEMORY;
    }
    if (mini->cancel_at_emit)
        mini->plugin->ops->cancel(mini->store, op);
    if (mop->n_entries + n > mop->capacity) {
        mop->capacity = (mop->n_entries + n) * 2;
        mop->entries = reallocarray(mop->entries, mop->capacity, sizeof(pst_entry));
        if (!mop->entries)
            abort();
    }
    for (size_t i = 0; i < n; i++) {
        pst_entry *to = &mop->entries[mop->n_entries++];
        *to = entries[i];
        to->key.ptr = keep(mop, entries[i].key.ptr, entries[i].key.len);
        to->etag.ptr = keep(mop, entries[i].etag.ptr, entries[i].etag.len);
    }
    return PST_OK;
}

static void *run_job(void *arg)
{
    struct job job = *(struct job *)arg;

    free(arg);
    job.fn(job.arg);
    return NULL;
}

static pst_rc host_exec(const pst_host *host, pst_op *op, uint32_t pool, void (*fn)(void *),
                        void *arg)
{
    pthread_t thread;

    (void)op;
    assert_int_equal(pool, PST_POOL_BLOCKING);
    struct job *job = malloc(sizeof(*job));
    if (!job)
        abort();
    *job = (struct job){fn, arg};
    if (!mini_of(host)->is_threaded) {
        run_job(job);
        return PST_OK;
    }
    if (pthread_create(&thread, NULL, run_job, job) != 0)
        abort();
    pthread_detach(thread);
    return PST_OK;
}

static void host_log(const pst_host *host, uint32_t level, const char *id, const char *text)
{
    struct mini_host *mini = mini_of(host);

    (void)level;
    (void)id;
    pthread_mutex_lock(&mini->mutex);
    mini->n_logs++;
    snprintf(mini->log, sizeof(mini->log), "%s", text);
    pthread_mutex_unlock(&mini->mutex);
}

static int32_t host_log_enabled(const pst_host *host, uint32_t level)
{
    (void)host;
    (void)level;
    return 0;
}

static const void *host_service(const pst_host *host, const char *name)
{
    (void)host;
    (void)name;
    return NULL;
}

pst_str mini_str(const char *text)
{
    return pst_str_of(text, text ? strlen(text) : 0);
}

pst_rc mini_open(struct mini_host *mini, const char *const *options)
{
    const char *const *lists[] = {options, mini_options}; /* the first of a name wins */
    pst_kv kv[16];
    size_t n = 0;
    pst_error err = PST_ERROR_INIT;

    memset(mini, 0, sizeof(*mini));
    mini->host = (pst_host){
        .struct_size = sizeof(pst_host),
        .abi_major = PST_ABI_MAJOR,
        .abi_minor = PST_ABI_MINOR,
        .complete = host_complete,
        .wake = host_wake,
        .dst = host_dst,
        .list_emit = host_list_emit,
        .op_alloc = host_op_alloc,
        .alloc = host_alloc,
        .dealloc = host_dealloc,
        .exec = host_exec,
        .log = host_log,
        .log_enabled = host_log_enabled,
        .service = host_service,
        .host_private = mini,
    };
    mini->fail_after = -1;
    mini->err.struct_size = sizeof(mini->err);
    pthread_mutex_init(&mini->mutex, NULL);
    for (size_t i = 0; i < 2; i++) {
        for (const char *const *option = lists[i]; option && *option; option++, n++) {
            const char *equals = strchr(*option, '=');
            kv[n].key = pst_str_of(*option, (size_t)(equals - *option));
            kv[n].value = mini_str(equals + 1);
        }
    }
    const pst_open_args args = {.struct_size = sizeof(args),
                                .scheme = mini_str(mini_scheme),
                                .options = kv,
                                .n_options = n};
    pst_rc rc = pst_plugin_open_1(&mini->host, &mini->plugin, &err);
    if (rc == PST_OK)
        rc = mini->plugin->store_open(&mini->host, &args, &mini->store, &err);
    mini->err = err;
    return rc;
}

void mini_close(struct mini_host *mini)
{
    if (mini->store)
        mini->plugin->ops->close(mini->store);
    mini->store = NULL;
    assert_int_equal(mini->n_blocks, 0);
    pthread_mutex_destroy(&mini->mutex);
}

void mini_op_init(struct mini_host *mini, struct mini_op *op)
{
    memset(op, 0, sizeof(*op));
    op->mini = mini;
    op->err.struct_size = sizeof(op->err);
    op->op = (pst_op){
        .struct_size = sizeof(pst_op),
        .id = 1,
        .attempt = 1,
        .max_attempts = 1,
        .host = &mini->host,
        .scratch = op->scratch,
        .err = &op->err,
        .host_private = op,
    };
    assert_true(mini->plugin->op_scratch <= sizeof(op->scratch));
    pthread_mutex_init(&op->mutex, NULL);
    pthread_cond_init(&op->done, NULL);
}

pst_rc mini_op_wait(struct mini_op *op, pst_rc submitted)
{
    if (submitted != PST_PENDING)
        return submitted;
    pthread_mutex_lock(&op->mutex);
    while (op->n_completed == 0)
        pthread_cond_wait(&op->done, &op->mutex);
    assert_int_equal(op->n_completed, 1);
    pst_rc rc = op->rc;
    pthread_mutex_unlock(&op->mutex);
    pthread_mutex_lock(&op->mini->mutex);
    op->mini->err = op->err;
    pthread_mutex_unlock(&op->mini->mutex);
    if (rc != PST_OK) { /* what every error owes its reader */
        assert_true(rc < 0);
        assert_int_equal(op->err.code, rc);
        assert_true(op->err.message[0] != '\0');
        assert_null(strchr(op->err.message, '\n'));
    }
    return rc;
}

void mini_op_fini(struct mini_op *op)
{
    while (op->blocks) {
        struct block *next = ((struct block *)op->blocks)->next;
        free(op->blocks);
        op->blocks = next;
        pthread_mutex_lock(&op->mini->mutex);
        op->mini->n_blocks--;
        pthread_mutex_unlock(&op->mini->mutex);
    }
    free(op->dst);
    free(op->spans);
    free(op->entries);
    pthread_mutex_destroy(&op->mutex);
    pthread_cond_destroy(&op->done);
}
