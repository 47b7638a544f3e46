/* mini_host.c - see mini_host.h. It keeps the rules that a plugin may rely on: scratch is zeroed and
 * aligned, arguments and results live until the completion, an operation completes exactly once (more
 * is a failed assertion), dst_ready comes once after PST_LATER and holds no lock. */
#include "mini_host.h"

#include <dirent.h>
#include <ftw.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

/* Cut `len` bytes at `bytes` into spans. */
static pst_iov *make_spans(char *bytes, size_t len, size_t span_bytes, size_t *n)
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
    mop->dst = malloc(mop->dst_len + 1);
    if (!mop->dst)
        abort();
    mop->dst[mop->dst_len] = 0x5a;
    grant->capacity = args->capacity;
    mop->spans = make_spans(mop->dst, mop->dst_len, mini->span_bytes, &grant->n_dst);
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
    (void)host;
    (void)level;
    (void)id;
    (void)text;
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
    pst_kv kv[8];
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
    for (; options && options[n]; n++) {
        const char *equals = strchr(options[n], '=');
        kv[n].key = pst_str_of(options[n], (size_t)(equals - options[n]));
        kv[n].value = mini_str(equals + 1);
    }
    const pst_open_args args = {
        .struct_size = sizeof(args), .scheme = PST_STR("file"), .options = kv, .n_options = n};
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

static void keep_text(char *out, pst_str text)
{
    if (!out)
        return;
    memcpy(out, text.ptr, text.len);
    out[text.len] = '\0';
}

static const pst_attr no_attr = {.struct_size = sizeof(no_attr)};

static pst_rc put(struct mini_host *mini, pst_put_args *args, const void *bytes, size_t len,
                  char *etag)
{
    struct mini_op op;
    pst_put_result result = {.struct_size = sizeof(result)};
    char *copy = malloc(len + 1);

    if (!copy)
        abort();
    memcpy(copy, bytes, len);
    pst_iov *spans = make_spans(copy, len, mini->span_bytes, &args->n_src);
    args->src = spans;
    args->struct_size = sizeof(*args);
    if (!args->attr)
        args->attr = &no_attr;
    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->put(mini->store, &op.op, args, &result));
    if (rc == PST_OK) {
        assert_int_equal(result.size, len);
        assert_int_equal(result.etag_strength, PST_ETAG_STRONG);
        keep_text(etag, result.etag);
    }
    mini_op_fini(&op);
    free(spans);
    free(copy);
    return rc;
}

pst_rc mini_put(struct mini_host *mini, pst_str key, const void *bytes, size_t len, uint32_t flags,
                pst_str if_match, const pst_attr *attr, char *etag)
{
    pst_put_args args = {.flags = flags, .key = key, .if_match = if_match, .attr = attr};

    return put(mini, &args, bytes, len, etag);
}

pst_rc mini_put_sum(struct mini_host *mini, pst_str key, const void *bytes, size_t len,
                    const pst_sum *sum)
{
    pst_put_args args = {.key = key, .sums = sum, .sum_stride = sizeof(*sum), .n_sums = 1};

    return put(mini, &args, bytes, len, NULL);
}

pst_rc mini_read(struct mini_host *mini, pst_str key, uint64_t offset, uint64_t length,
                 uint32_t flags, pst_str if_match, char **bytes, size_t *n_read, char *etag)
{
    struct mini_op op;
    pst_read_result result = {.struct_size = sizeof(result)};
    pst_read_args args = {.struct_size = sizeof(args),
                          .flags = flags,
                          .offset = offset,
                          .length = length,
                          .key = key,
                          .if_match = if_match};
    char *early = NULL;
    pst_iov *spans = NULL;

    mini_op_init(mini, &op);
    if (mini->dst == MINI_DST_EARLY) {
        early = malloc((size_t)length + 1);
        if (!early)
            abort();
        memset(early, 0x5a, (size_t)length + 1);
        spans = make_spans(early, (size_t)length, mini->span_bytes, &args.n_dst);
        args.dst = spans;
    }
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->read(mini->store, &op.op, &args, &result));
    if (rc == PST_OK) {
        const char *from = early ? early : op.dst;
        assert_int_equal(result.etag_strength, PST_ETAG_STRONG);
        keep_text(etag, result.etag);
        if (n_read)
            *n_read = (size_t)result.n_read;
        if (bytes) {
            *bytes = malloc((size_t)result.n_read + 1);
            if (!*bytes)
                abort();
            if (result.n_read > 0)
                memcpy(*bytes, from, (size_t)result.n_read);
            (*bytes)[result.n_read] = '\0';
        }
    }
    if (early)
        assert_int_equal(early[length], 0x5a);
    if (op.dst)
        assert_int_equal(op.dst[op.dst_len], 0x5a);
    mini_op_fini(&op);
    free(early);
    free(spans);
    return rc;
}

pst_rc mini_stat(struct mini_host *mini, pst_str key, struct mini_op *op, pst_attr *attr)
{
    const pst_stat_args args = {.struct_size = sizeof(args), .key = key};

    memset(attr, 0, sizeof(*attr));
    attr->struct_size = sizeof(*attr);
    mini_op_init(mini, op);
    return mini_op_wait(op, mini->plugin->ops->stat(mini->store, &op->op, &args, attr));
}

pst_rc mini_etag(struct mini_host *mini, pst_str key, char *etag)
{
    struct mini_op op;
    pst_attr attr;
    pst_rc rc = mini_stat(mini, key, &op, &attr);

    if (rc == PST_OK)
        keep_text(etag, attr.etag);
    mini_op_fini(&op);
    return rc;
}

pst_rc mini_remove(struct mini_host *mini, pst_str key, pst_str if_match)
{
    struct mini_op op;
    pst_rc status = PST_E_INTERNAL;
    pst_error error = PST_ERROR_INIT;
    const pst_remove_args args = {
        .struct_size = sizeof(args), .keys = &key, .n_keys = 1, .if_match = if_match};
    pst_remove_result result = {.struct_size = sizeof(result),
                                .status = &status,
                                .errors = &error,
                                .error_stride = sizeof(error)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->remove(mini->store, &op.op, &args, &result));
    mini_op_fini(&op);
    assert_int_equal(error.struct_size, sizeof(error));
    if (rc == PST_OK) {
        assert_int_equal(error.code, status);
        pthread_mutex_lock(&mini->mutex);
        mini->err = error;
        pthread_mutex_unlock(&mini->mutex);
        rc = status;
    }
    return rc;
}

static pst_rc copy_or_rename(struct mini_host *mini, int is_copy, const pst_copy_args *args)
{
    struct mini_op op;
    pst_put_result result = {.struct_size = sizeof(result)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(
        &op, is_copy ? mini->plugin->ops->copy(mini->store, &op.op, args, &result)
                     : mini->plugin->ops->rename(mini->store, &op.op, args, &result));
    if (rc == PST_OK && !mini->is_threaded && mini->fail_after < 0) {
        char etag[128], now[128];
        keep_text(etag, result.etag);
        assert_int_equal(mini_etag(mini, args->to, now), PST_OK);
        assert_string_equal(etag, now);
    }
    mini_op_fini(&op);
    return rc;
}

pst_rc mini_copy(struct mini_host *mini, pst_str from, pst_str to, uint32_t flags,
                 pst_str from_if_match, pst_str if_match, const pst_attr *attr)
{
    const pst_copy_args args = {.struct_size = sizeof(args),
                                .flags = flags | (attr ? PST_COPY_REPLACE_ATTR : 0u),
                                .from = from,
                                .from_if_match = from_if_match,
                                .to = to,
                                .if_match = if_match,
                                .attr = attr ? attr : &no_attr};

    return copy_or_rename(mini, 1, &args);
}

pst_rc mini_rename(struct mini_host *mini, pst_str from, pst_str to, uint32_t flags,
                   pst_str if_match)
{
    const pst_copy_args args = {.struct_size = sizeof(args),
                                .flags = flags,
                                .from = from,
                                .to = to,
                                .if_match = if_match,
                                .attr = &no_attr};

    return copy_or_rename(mini, 0, &args);
}

pst_rc mini_container(struct mini_host *mini, pst_str name, int is_create)
{
    struct mini_op op;
    const pst_container_args args = {.struct_size = sizeof(args), .name = name};
    pst_result result = {.struct_size = sizeof(result)};
    const pst_backend_ops *ops = mini->plugin->ops;

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, is_create
                                      ? ops->container_create(mini->store, &op.op, &args, &result)
                                      : ops->container_delete(mini->store, &op.op, &args, &result));
    mini_op_fini(&op);
    return rc;
}

pst_rc mini_cleanup(struct mini_host *mini, pst_str prefix, uint64_t older_than_s, uint32_t flags,
                    uint64_t *n_removed, uint64_t *n_bytes)
{
    struct mini_op op;
    const pst_cleanup_args args = {.struct_size = sizeof(args),
                                   .flags = flags,
                                   .older_than_s = older_than_s,
                                   .prefix = prefix};
    pst_cleanup_result result = {.struct_size = sizeof(result)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->cleanup(mini->store, &op.op, &args, &result));
    *n_removed = result.n_removed;
    if (n_bytes)
        *n_bytes = result.n_bytes;
    if (rc == PST_OK)
        assert_int_equal(op.n_entries, result.n_removed);
    mini_op_fini(&op);
    return rc;
}

pst_rc mini_upload_open(struct mini_host *mini, pst_str key, uint32_t flags, pst_str if_match,
                        pst_upload **upload)
{
    struct mini_op op;
    char *moved = malloc(key.len + 1); /* the arguments do not outlive the call */
    const pst_put_args args = {.struct_size = sizeof(args),
                               .flags = flags,
                               .size_hint = PST_UNKNOWN,
                               .key = pst_str_of(moved, key.len),
                               .if_match = if_match,
                               .attr = &no_attr};
    pst_upload_result result = {.struct_size = sizeof(result)};

    if (!moved)
        abort();
    memcpy(moved, key.ptr, key.len);
    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op,
                             mini->plugin->ops->upload_open(mini->store, &op.op, &args, &result));
    *upload = rc == PST_OK ? result.upload : NULL;
    mini_op_fini(&op);
    free(moved);
    return rc;
}

pst_rc mini_part(struct mini_host *mini, pst_upload *upload, uint32_t number, uint64_t offset,
                 const void *bytes, size_t len)
{
    struct mini_op op;
    char *copy = malloc(len + 1);
    if (!copy)
        abort();
    memcpy(copy, bytes, len);
    const pst_iov src = {copy, len};
    const pst_part_args args = {
        .struct_size = sizeof(args), .offset = offset, .number = number, .src = &src, .n_src = 1};
    pst_result result = {.struct_size = sizeof(result)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->upload_part(upload, &op.op, &args, &result));
    mini_op_fini(&op);
    free(copy);
    return rc;
}

pst_rc mini_commit(struct mini_host *mini, pst_upload *upload, uint64_t size, uint32_t n_parts,
                   char *etag)
{
    struct mini_op op;
    const pst_commit_args args = {.struct_size = sizeof(args), .size = size, .n_parts = n_parts};
    pst_put_result result = {.struct_size = sizeof(result)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->upload_commit(upload, &op.op, &args, &result));
    if (rc == PST_OK) {
        assert_int_equal(result.size, size);
        keep_text(etag, result.etag);
    }
    mini_op_fini(&op);
    return rc;
}

pst_rc mini_abort(struct mini_host *mini, pst_upload *upload)
{
    struct mini_op op;
    const pst_abort_args args = {.struct_size = sizeof(args)};
    pst_result result = {.struct_size = sizeof(result)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->upload_abort(upload, &op.op, &args, &result));
    mini_op_fini(&op);
    return rc;
}

void mini_upload_free(struct mini_host *mini, pst_upload *upload)
{
    mini->plugin->ops->upload_free(upload);
}

/* All pages; a page that fails for lack of memory is asked for again, as a host does. */
static pst_rc list_pages(struct mini_host *mini, pst_cursor *cursor, uint32_t page_entries,
                         struct mini_list *out)
{
    const pst_page_args args = {.struct_size = sizeof(args), .max_entries = page_entries};
    int is_last = 0, n_tries = 0;

    while (!is_last) {
        struct mini_op **ops = reallocarray(out->ops, out->n_ops + 1, sizeof(*ops));
        struct mini_op *op = malloc(sizeof(*op));
        pst_list_result result = {.struct_size = sizeof(result)};
        if (!ops || !op)
            abort();
        out->ops = ops;
        mini_op_init(mini, op);
        pst_rc rc = mini_op_wait(op, mini->plugin->ops->list_page(cursor, &op->op, &args, &result));
        if (rc != PST_OK) {
            mini_op_fini(op);
            free(op);
            if (rc != PST_E_NO_MEMORY || n_tries++ == 1000)
                return rc;
            continue;
        }
        out->ops[out->n_ops++] = op;
        if (page_entries > 0)
            assert_true(op->n_entries <= page_entries);
        is_last = (result.flags & PST_PAGE_LAST) != 0;
        assert_true(is_last || op->n_entries > 0);
        out->entries = reallocarray(out->entries, out->n + op->n_entries + 1, sizeof(pst_entry));
        if (!out->entries)
            abort();
        if (op->n_entries > 0)
            memcpy(out->entries + out->n, op->entries, op->n_entries * sizeof(pst_entry));
        out->n += op->n_entries;
    }
    return PST_OK;
}

pst_rc mini_list(struct mini_host *mini, pst_str prefix, pst_str start_after, uint32_t flags,
                 uint32_t page_entries, struct mini_list *out)
{
    struct mini_op op;
    const pst_list_args args = {
        .struct_size = sizeof(args), .flags = flags, .prefix = prefix, .start_after = start_after};
    pst_cursor_result result = {.struct_size = sizeof(result)};

    memset(out, 0, sizeof(*out));
    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op,
                             mini->plugin->ops->list_open(mini->store, &op.op, &args, &result));
    mini_op_fini(&op);
    if (rc != PST_OK)
        return rc;
    rc = list_pages(mini, result.cursor, page_entries, out);
    mini->plugin->ops->list_close(result.cursor);
    return rc;
}

void mini_list_free(struct mini_list *list)
{
    for (size_t i = 0; i < list->n_ops; i++) {
        mini_op_fini(list->ops[i]);
        free(list->ops[i]);
    }
    free(list->ops);
    free(list->entries);
    memset(list, 0, sizeof(*list));
}

/* ---- fixtures ------------------------------------------------------------------------------------- */

int mini_setup_with(void **state, const char *option)
{
    struct mini_fixture *f = calloc(1, sizeof(*f));
    char *root = NULL;

    if (!f)
        return -1;
    f->dir = mini_temp_dir();
    if (asprintf(&root, "root=%s", f->dir) < 0)
        return -1;
    const char *const options[] = {root, option, NULL};
    pst_rc rc = mini_open(&f->mini, options);
    free(root);
    *state = f;
    return rc == PST_OK ? 0 : -1;
}

int mini_setup(void **state)
{
    return mini_setup_with(state, NULL);
}

int mini_teardown(void **state)
{
    struct mini_fixture *f = *state;

    mini_close(&f->mini);
    mini_remove_tree(f->dir);
    free(f);
    return 0;
}

int mini_run_child(int (*fn)(void *), void *arg, int as_nobody)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (as_nobody && geteuid() == 0 &&
            (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 ||
             setresuid(65534, 65534, 65534) != 0))
            _exit(101);
        _exit(fn(arg));
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int mini_forbid(long number, int sys_errno)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)sys_errno),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* ---- files ---------------------------------------------------------------------------------------- */

char *mini_temp_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *dir = NULL;

    if (asprintf(&dir, "%s/penstock-file-XXXXXX", base && base[0] ? base : "/tmp") < 0 ||
        !mkdtemp(dir))
        abort();
    return dir;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void mini_remove_tree(char *dir)
{
    nftw(dir, remove_entry, 32, FTW_DEPTH | FTW_PHYS);
    free(dir);
}

char *mini_path(const char *dir, const char *name)
{
    char *path = NULL;

    if (asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    return path;
}

void mini_write_file(const char *dir, const char *name, const char *text)
{
    char *path = mini_path(dir, name);
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
    free(path);
}

char *mini_read_file(const char *dir, const char *name)
{
    char *path = mini_path(dir, name);
    FILE *f = fopen(path, "r");
    char *text = NULL;
    size_t cap = 0;

    free(path);
    if (!f)
        return NULL;
    ssize_t len = getdelim(&text, &cap, 0, f);
    if (len < 0) {
        free(text);
        text = strdup("");
    }
    fclose(f);
    return text;
}

int mini_count_names(const char *dir)
{
    DIR *d = opendir(dir);
    int n = 0;

    if (!d)
        return -1;
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

void mini_pass_tick(const char *dir, const char *name)
{
    char *path = mini_path(dir, name);
    struct timespec now;
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    do
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    while (now.tv_sec < st.st_ctim.tv_sec ||
           (now.tv_sec == st.st_ctim.tv_sec && now.tv_nsec <= st.st_ctim.tv_nsec));
    free(path);
}
