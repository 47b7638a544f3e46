/* mem_plugin.c - mem://, objects in memory: the conformance kit's second subject.
 *
 * It is what the file plugin is not: truly asynchronous, with threads of its own and a queue that
 * fills up (BUSY and wake), some operations done inside the submit function, listings by token,
 * suffix reads, append, presign, and sums that it checks. So the kit's other paths are walked as well.
 *
 * Happy path: a submit function puts a job, which lives in the operation's scratch, into the store's
 * queue and answers PENDING; one of two threads takes it, runs the blocking function, calls wake if
 * somebody was sent away, and completes the operation as the last thing it does with it.
 *
 * Buckets belong to the process and are found by authority, so a store that is opened again finds its
 * objects. Objects never change: a write makes a new one and exchanges the pointer under the lock. A
 * forked child begins with no bucket at all.
 *
 * Fails: NO_MEMORY everywhere without effect. Does not: keep anything on disk, or old versions. */
#define _GNU_SOURCE
#include <penstock/plugin.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEY_MAX 1024u
#define META_MAX 4096u
#define INFLIGHT_MAX 64u
#define PAGE_MAX 1000u
#define N_THREADS 2u

/* ---- objects ----------------------------------------------------------------------------------- */

struct object {
    atomic_uint n_refs;
    pst_str key;
    unsigned char *data;
    uint64_t size, generation;
    int64_t mtime_ns;
    pst_str content_type, content_encoding;
    pst_kv *meta;
    size_t n_meta;
};

struct bucket {
    pst_str authority;
    struct object **objects; /* by key */
    size_t n, cap;
    struct bucket *next;
};

static struct {
    pthread_mutex_t mutex;
    struct bucket *buckets;
    uint64_t generation;
    pid_t pid;
} process = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void free_str(pst_str s)
{
    char *p = NULL;
    memcpy(&p, &s.ptr, sizeof(p));
    free(p);
}

static int dup_str(pst_str s, pst_str *out)
{
    char *p = malloc(s.len + 1);
    if (!p)
        return -1;
    if (s.len > 0)
        memcpy(p, s.ptr, s.len);
    *out = pst_str_of(p, s.len);
    return 0;
}

static void unref(struct object *o)
{
    if (!o || atomic_fetch_sub(&o->n_refs, 1) != 1)
        return;
    free_str(o->key);
    free_str(o->content_type);
    free_str(o->content_encoding);
    for (size_t i = 0; i < o->n_meta; i++) {
        free_str(o->meta[i].key);
        free_str(o->meta[i].value);
    }
    free(o->meta);
    free(o->data);
    free(o);
}

static int compare(pst_str a, pst_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n > 0 ? memcmp(a.ptr, b.ptr, n) : 0;
    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

/* The first object whose key is not before `key`. */
static size_t lower_bound_locked(const struct bucket *b, pst_str key)
{
    size_t low = 0, high = b->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(b->objects[middle]->key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct object *find_locked(const struct bucket *b, pst_str key)
{
    size_t i = lower_bound_locked(b, key);
    return i < b->n && compare(b->objects[i]->key, key) == 0 ? b->objects[i] : NULL;
}

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Take `o` into the bucket in place of what has its key. */
static int store_locked(struct bucket *b, struct object *o)
{
    size_t i = lower_bound_locked(b, o->key);
    o->generation = ++process.generation;
    o->mtime_ns = now_ns();
    if (i < b->n && compare(b->objects[i]->key, o->key) == 0) {
        unref(b->objects[i]);
        b->objects[i] = o;
        return 0;
    }
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        struct object **grown = calloc(cap, sizeof(*grown));
        if (!grown)
            return -1;
        if (b->n > 0)
            memcpy(grown, b->objects, b->n * sizeof(*grown));
        free(b->objects);
        b->objects = grown;
        b->cap = cap;
    }
    memmove(b->objects + i + 1, b->objects + i, (b->n - i) * sizeof(b->objects[0]));
    b->objects[i] = o;
    b->n++;
    return 0;
}

static void drop_locked(struct bucket *b, pst_str key)
{
    size_t i = lower_bound_locked(b, key);
    if (i == b->n || compare(b->objects[i]->key, key) != 0)
        return;
    unref(b->objects[i]);
    b->n--;
    memmove(b->objects + i, b->objects + i + 1, (b->n - i) * sizeof(b->objects[0]));
}

static struct bucket *find_bucket_locked(pst_str authority)
{
    for (struct bucket *b = process.buckets; b; b = b->next)
        if (compare(b->authority, authority) == 0)
            return b;
    struct bucket *b = calloc(1, sizeof(*b));
    if (!b || dup_str(authority, &b->authority) != 0) {
        free(b);
        return NULL;
    }
    b->next = process.buckets;
    process.buckets = b;
    return b;
}

/* ---- stores and jobs --------------------------------------------------------------------------- */

enum { RUNNING, PARKED, READY };

struct job { /* in the operation's scratch */
    struct job *next;
    pst_rc (*run)(void *object, pst_op *op, const void *args, void *result);
    void *object;
    pst_op *op;
    const void *args;
    void *result;
    atomic_uint state;
    atomic_uint is_cancelled;
};

struct pst_backend {
    const pst_host *host;
    struct bucket *bucket;
    pthread_t threads[N_THREADS];
    unsigned n_threads;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct {
        struct job *first, **last;
        unsigned n_inflight;
        int is_closing, owes_wake;
    } locked;
};

static pst_rc fail(pst_op *op, pst_rc rc, pst_str key, const char *why)
{
    char text[300];
    size_t n = 0;
    for (size_t i = 0; i < key.len && n + 2 < sizeof(text); i++) {
        unsigned char c = (unsigned char)key.ptr[i];
        text[n++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    text[n] = '\0';
    op->err->code = rc;
    (void)snprintf(op->err->message, sizeof(op->err->message), "mem: %s: %s", text, why);
    return rc;
}

static void run_job(pst_backend *b, struct job *job)
{
    pst_op *op = job->op;
    const pst_host *host = op->host;
    pst_rc rc;
    for (;;) {
        rc = atomic_load(&job->is_cancelled) ? (pst_rc)PST_E_CANCELLED
                                             : job->run(job->object, op, job->args, job->result);
        if (rc != PST_LATER)
            break;
        unsigned expected = RUNNING;
        if (atomic_compare_exchange_strong(&job->state, &expected, PARKED))
            return;
        atomic_store(&job->state, RUNNING);
    }
    (void)pthread_mutex_lock(&b->mutex);
    b->locked.n_inflight--;
    int owes_wake = b->locked.owes_wake;
    b->locked.owes_wake = 0;
    (void)pthread_mutex_unlock(&b->mutex);
    if (owes_wake)
        host->wake(host, b);
    host->complete(host, op, rc);
}

static void *serve(void *arg)
{
    pst_backend *b = arg;
    (void)pthread_mutex_lock(&b->mutex);
    for (;;) {
        while (!b->locked.first && !b->locked.is_closing)
            (void)pthread_cond_wait(&b->cond, &b->mutex);
        struct job *job = b->locked.first;
        if (!job)
            break;
        b->locked.first = job->next;
        if (!b->locked.first)
            b->locked.last = &b->locked.first;
        (void)pthread_mutex_unlock(&b->mutex);
        run_job(b, job);
        (void)pthread_mutex_lock(&b->mutex);
    }
    (void)pthread_mutex_unlock(&b->mutex);
    return NULL;
}

static void queue_locked(pst_backend *b, struct job *job)
{
    job->next = NULL;
    *b->locked.last = job;
    b->locked.last = &job->next;
    (void)pthread_cond_signal(&b->cond);
}

static pst_rc submit(pst_backend *b, void *object, pst_op *op, const void *args, void *result,
                     pst_rc (*run)(void *, pst_op *, const void *, void *))
{
    pst_rc rc = PST_PENDING;
    (void)pthread_mutex_lock(&b->mutex);
    if (b->locked.n_inflight >= INFLIGHT_MAX) {
        b->locked.owes_wake = 1;
        rc = PST_BUSY;
    } else {
        struct job *job = op->scratch;
        job->run = run;
        job->object = object;
        job->op = op;
        job->args = args;
        job->result = result;
        b->locked.n_inflight++;
        queue_locked(b, job);
    }
    (void)pthread_mutex_unlock(&b->mutex);
    return rc;
}

static void mem_cancel(pst_backend *b, pst_op *op)
{
    struct job *job = op->scratch;
    (void)b;
    atomic_store(&job->is_cancelled, 1);
}

static void mem_dst_ready(pst_backend *b, pst_op *op)
{
    struct job *job = op->scratch;
    if (atomic_exchange(&job->state, READY) != PARKED)
        return;
    atomic_store(&job->state, RUNNING);
    (void)pthread_mutex_lock(&b->mutex);
    queue_locked(b, job);
    (void)pthread_mutex_unlock(&b->mutex);
}

/* ---- reading ----------------------------------------------------------------------------------- */

static pst_rc check_key(pst_op *op, pst_str key)
{
    if (key.len == 0)
        return fail(op, PST_E_INVALID, key, "a key cannot be empty");
    if (key.len > KEY_MAX)
        return fail(op, PST_E_INVALID, key, "a key has at most 1024 bytes");
    return PST_OK;
}

#define ETAG_SIZE 20

static pst_str etag_of(const struct object *o, char buf[ETAG_SIZE])
{
    int n = snprintf(buf, ETAG_SIZE, "g%llx", (unsigned long long)o->generation);
    return pst_str_of(buf, (size_t)n);
}

static int matches(const struct object *o, pst_str if_match)
{
    char buf[ETAG_SIZE];
    return if_match.len == 0 || (o && compare(etag_of(o, buf), if_match) == 0);
}

static int tell_etag(pst_op *op, const struct object *o, pst_str *etag, uint32_t *strength)
{
    char *buf = op->host->op_alloc(op->host, op, ETAG_SIZE);
    if (!buf)
        return -1;
    *etag = etag_of(o, buf);
    *strength = PST_ETAG_STRONG;
    return 0;
}

static struct object *find_ref(pst_backend *b, pst_str key)
{
    (void)pthread_mutex_lock(&process.mutex);
    struct object *o = find_locked(b->bucket, key);
    if (o)
        atomic_fetch_add(&o->n_refs, 1);
    (void)pthread_mutex_unlock(&process.mutex);
    return o;
}

static pst_rc copy_out(pst_op *op, const pst_read_args *a, pst_read_result *r,
                       const struct object *o, uint64_t offset, uint64_t length)
{
    const pst_iov *dst = NULL;
    size_t n_dst = 0;
    if (PST_HAS(pst_read_args, a, n_dst)) {
        dst = a->dst;
        n_dst = a->n_dst;
    }
    if (n_dst == 0 && length > 0) {
        pst_dst_grant grant = {.struct_size = sizeof(grant)};
        const pst_dst_args ask = {.struct_size = sizeof(ask),
                                  .length = length,
                                  .capacity = length,
                                  .object_size = o->size,
                                  .etag_strength = r->etag_strength,
                                  .etag = r->etag};
        pst_rc rc = op->host->dst(op->host, op, &ask, &grant);
        if (rc != PST_OK)
            return rc;
        dst = grant.dst;
        n_dst = grant.n_dst;
    }
    uint64_t done = 0;
    for (size_t i = 0; i < n_dst && done < length; i++) {
        size_t n = length - done < dst[i].len ? (size_t)(length - done) : dst[i].len;
        memcpy(dst[i].ptr, o->data + offset + done, n);
        done += n;
    }
    r->n_read = done;
    return done == length ? PST_OK : PST_E_INTERNAL;
}

static pst_rc do_read(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_read_args *a = args;
    pst_read_result *r = result;
    pst_rc rc = check_key(op, a->key);
    if (rc == PST_OK && a->version.len > 0)
        rc = fail(op, PST_E_UNIMPLEMENTED, a->key, "there are no old versions");
    if (rc != PST_OK)
        return rc;
    struct object *o = find_ref(b, a->key);
    if (!o)
        return fail(op, PST_E_NOT_FOUND, a->key, "no such object");
    uint64_t offset = a->offset;
    if (a->flags & PST_READ_SUFFIX)
        offset = a->length < o->size ? o->size - a->length : 0;
    uint64_t length = offset < o->size ? o->size - offset : 0;
    if (length > a->length)
        length = a->length;
    r->object_size = o->size;
    if (!matches(o, a->if_match))
        rc = fail(op, PST_E_PRECONDITION, a->key, "its etag is another one");
    else if (tell_etag(op, o, &r->etag, &r->etag_strength) != 0)
        rc = fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    else
        rc = copy_out(op, a, r, o, offset, length);
    unref(o);
    return rc;
}

static pst_rc mem_read(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    return submit(b, b, op, a, r, do_read);
}

static int op_dup(pst_op *op, pst_str s, pst_str *out)
{
    if (s.len == 0)
        return 0;
    char *p = op->host->op_alloc(op->host, op, s.len);
    if (!p)
        return -1;
    memcpy(p, s.ptr, s.len);
    *out = pst_str_of(p, s.len);
    return 0;
}

static int tell_attr(pst_op *op, const struct object *o, pst_attr *attr)
{
    attr->kind = PST_KIND_OBJECT;
    attr->size = o->size;
    attr->mtime_ns = o->mtime_ns;
    if (tell_etag(op, o, &attr->etag, &attr->etag_strength) != 0 ||
        op_dup(op, o->content_type, &attr->content_type) != 0 ||
        op_dup(op, o->content_encoding, &attr->content_encoding) != 0)
        return -1;
    if (o->n_meta == 0 || !PST_HAS(pst_attr, attr, n_user_meta))
        return 0;
    pst_kv *meta = op->host->op_alloc(op->host, op, o->n_meta * sizeof(*meta));
    if (!meta)
        return -1;
    memset(meta, 0, o->n_meta * sizeof(*meta));
    for (size_t i = 0; i < o->n_meta; i++)
        if (op_dup(op, o->meta[i].key, &meta[i].key) != 0 ||
            op_dup(op, o->meta[i].value, &meta[i].value) != 0)
            return -1;
    attr->user_meta = meta;
    attr->n_user_meta = o->n_meta;
    return 0;
}

/* Done inside the submit function: nothing here waits. */
static pst_rc mem_stat(pst_backend *b, pst_op *op, const pst_stat_args *a, pst_attr *attr)
{
    pst_rc rc = check_key(op, a->key);
    if (rc == PST_OK && PST_HAS(pst_stat_args, a, version) && a->version.len > 0)
        rc = fail(op, PST_E_UNIMPLEMENTED, a->key, "there are no old versions");
    if (rc != PST_OK)
        return rc;
    struct object *o = find_ref(b, a->key);
    if (!o)
        return fail(op, PST_E_NOT_FOUND, a->key, "no such object");
    if (tell_attr(op, o, attr) != 0)
        rc = fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    unref(o);
    return rc;
}

static pst_rc mem_presign(pst_backend *b, pst_op *op, const pst_presign_args *a,
                          pst_presign_result *r)
{
    static const char prefix[] = "https://mem.invalid/";
    static const char digits[] = "0123456789abcdef";
    pst_rc rc = check_key(op, a->key);
    (void)b;
    if (rc != PST_OK)
        return rc;
    char *url = op->host->op_alloc(op->host, op, sizeof(prefix) + 2 * a->key.len);
    if (!url)
        return fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    size_t n = sizeof(prefix) - 1;
    memcpy(url, prefix, n);
    for (size_t i = 0; i < a->key.len; i++) {
        url[n++] = digits[(unsigned char)a->key.ptr[i] >> 4];
        url[n++] = digits[(unsigned char)a->key.ptr[i] & 15];
    }
    r->url = pst_str_of(url, n);
    return PST_OK;
}

/* ---- writing ----------------------------------------------------------------------------------- */

static uint32_t crc32c(uint32_t crc, const unsigned char *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static int is_sum_right(const pst_sum *sums, size_t stride, size_t n_sums,
                        const unsigned char *data, uint64_t size)
{
    for (size_t i = 0; i < n_sums; i++) {
        const pst_sum *sum = (const pst_sum *)(const void *)((const char *)sums + i * stride);
        uint32_t crc = 0;
        if (sum->algorithm != PST_SUM_CRC32C || sum->length != 4)
            continue;
        for (size_t k = 0; k < 4; k++)
            crc = crc << 8 | sum->bytes[k];
        if (crc != crc32c(0, data, (size_t)size))
            return 0;
    }
    return 1;
}

static uint64_t iov_bytes(const pst_iov *iov, size_t n)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += iov[i].len;
    return total;
}

static void gather(unsigned char *out, const pst_iov *iov, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (iov[i].len > 0)
            memcpy(out, iov[i].ptr, iov[i].len);
        out += iov[i].len;
    }
}

static int take_attr(struct object *o, const pst_attr *attr)
{
    size_t n = PST_HAS(pst_attr, attr, n_user_meta) ? attr->n_user_meta : 0;
    if (dup_str(attr->content_type, &o->content_type) != 0 ||
        dup_str(attr->content_encoding, &o->content_encoding) != 0)
        return -1;
    o->meta = calloc(n + 1, sizeof(*o->meta));
    if (!o->meta)
        return -1;
    for (; o->n_meta < n; o->n_meta++) {
        pst_kv *kv = &o->meta[o->n_meta];
        if (dup_str(attr->user_meta[o->n_meta].key, &kv->key) != 0)
            return -1;
        if (dup_str(attr->user_meta[o->n_meta].value, &kv->value) != 0) {
            free_str(kv->key);
            return -1;
        }
    }
    return 0;
}

static struct object *new_object(pst_str key, uint64_t size, const pst_attr *attr)
{
    struct object *o = calloc(1, sizeof(*o));
    if (!o)
        return NULL;
    atomic_store(&o->n_refs, 1);
    o->size = size;
    o->data = malloc((size_t)size + 1);
    if (!o->data || dup_str(key, &o->key) != 0 || (attr && take_attr(o, attr) != 0)) {
        unref(o);
        return NULL;
    }
    return o;
}

static pst_rc check_attr(pst_op *op, pst_str key, const pst_attr *attr)
{
    size_t total = 0;
    if (attr->content_language.len + attr->content_disposition.len + attr->cache_control.len +
            attr->storage_class.len >
        0)
        return fail(op, PST_E_INVALID, key, "only content type and encoding are kept here");
    if (!PST_HAS(pst_attr, attr, n_user_meta))
        return PST_OK;
    for (size_t i = 0; i < attr->n_user_meta; i++)
        total += attr->user_meta[i].key.len + attr->user_meta[i].value.len;
    return total > META_MAX ? fail(op, PST_E_INVALID, key, "more than 4096 bytes of metadata")
                            : PST_OK;
}

/* Make `o` visible if the conditions hold. Takes it over, unless it fails. */
static pst_rc publish(pst_backend *b, pst_op *op, struct object *o, uint32_t flags,
                      pst_str if_match, pst_put_result *r)
{
    pst_rc rc = PST_OK;
    char *etag = op->host->op_alloc(op->host, op, ETAG_SIZE);
    if (!etag)
        return fail(op, PST_E_NO_MEMORY, o->key, "out of memory");
    (void)pthread_mutex_lock(&process.mutex);
    struct object *old = find_locked(b->bucket, o->key);
    if (old && (flags & PST_PUT_CREATE_ONLY))
        rc = fail(op, PST_E_EXISTS, o->key, "exists");
    else if (!matches(old, if_match))
        rc = fail(op, PST_E_PRECONDITION, o->key, "its etag is another one");
    else if (store_locked(b->bucket, o) != 0)
        rc = fail(op, PST_E_NO_MEMORY, o->key, "out of memory");
    if (rc == PST_OK) {
        r->etag = etag_of(o, etag);
        r->etag_strength = PST_ETAG_STRONG;
        r->size = o->size;
    }
    (void)pthread_mutex_unlock(&process.mutex);
    return rc;
}

static pst_rc do_put(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_put_args *a = args;
    pst_rc rc = check_key(op, a->key);
    if (rc == PST_OK)
        rc = check_attr(op, a->key, a->attr);
    if (rc != PST_OK)
        return rc;
    struct object *o = new_object(a->key, iov_bytes(a->src, a->n_src), a->attr);
    if (!o)
        return fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    gather(o->data, a->src, a->n_src);
    if (!is_sum_right(a->sums, a->sum_stride, a->n_sums, o->data, o->size))
        rc = fail(op, PST_E_DATA_LOSS, a->key, "the bytes do not have the sum sent with them");
    else
        rc = publish(b, op, o, a->flags, a->if_match, result);
    if (rc != PST_OK)
        unref(o);
    return rc;
}

static pst_rc mem_put(pst_backend *b, pst_op *op, const pst_put_args *a, pst_put_result *r)
{
    return submit(b, b, op, a, r, do_put);
}

/* A copy of `from` under another key, `more` bytes longer. */
static struct object *dup_object(const struct object *from, pst_str key, const pst_attr *attr,
                                 uint64_t more)
{
    const pst_attr kept = {.struct_size = sizeof(kept),
                           .content_type = from->content_type,
                           .content_encoding = from->content_encoding,
                           .user_meta = from->meta,
                           .n_user_meta = from->n_meta};
    struct object *o = new_object(key, from->size + more, attr ? attr : &kept);
    if (o && from->size > 0)
        memcpy(o->data, from->data, (size_t)from->size);
    return o;
}

static pst_rc do_append(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_put_args *a = args;
    uint64_t more = iov_bytes(a->src, a->n_src);
    pst_rc rc = check_key(op, a->key);
    if (rc != PST_OK)
        return rc;
    struct object *old = find_ref(b, a->key);
    char buf[ETAG_SIZE];
    struct object *o = old ? dup_object(old, a->key, NULL, more)
                           : new_object(a->key, more, a->attr);
    if (!o) {
        rc = fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    } else {
        gather(o->data + (old ? old->size : 0), a->src, a->n_src);
        rc = publish(b, op, o, old ? 0 : PST_PUT_CREATE_ONLY,
                     old ? etag_of(old, buf) : pst_str_of(NULL, 0), result);
        if (rc != PST_OK)
            unref(o);
    }
    unref(old);
    return rc;
}

static pst_rc mem_append(pst_backend *b, pst_op *op, const pst_put_args *a, pst_put_result *r)
{
    return submit(b, b, op, a, r, do_append);
}

static pst_rc do_copy(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_copy_args *a = args;
    pst_rc rc = check_key(op, a->to);
    if (rc != PST_OK)
        return rc;
    struct object *from = find_ref(b, a->from);
    if (!from)
        return fail(op, PST_E_NOT_FOUND, a->from, "no such object");
    const pst_attr *attr = (a->flags & PST_COPY_REPLACE_ATTR) ? a->attr : NULL;
    if (!matches(from, a->from_if_match)) {
        rc = fail(op, PST_E_PRECONDITION, a->from, "its etag is another one");
    } else {
        struct object *o = dup_object(from, a->to, attr, 0);
        rc = o ? publish(b, op, o, a->flags, a->if_match, result)
               : fail(op, PST_E_NO_MEMORY, a->to, "out of memory");
        if (rc != PST_OK)
            unref(o);
    }
    unref(from);
    return rc;
}

static pst_rc mem_copy(pst_backend *b, pst_op *op, const pst_copy_args *a, pst_put_result *r)
{
    return submit(b, b, op, a, r, do_copy);
}

static pst_rc do_rename(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_copy_args *a = args;
    pst_rc rc = do_copy(object, op, args, result);
    if (rc == PST_OK && compare(a->from, a->to) != 0) {
        (void)pthread_mutex_lock(&process.mutex);
        drop_locked(b->bucket, a->from);
        (void)pthread_mutex_unlock(&process.mutex);
    }
    return rc;
}

static pst_rc mem_rename(pst_backend *b, pst_op *op, const pst_copy_args *a, pst_put_result *r)
{
    return submit(b, b, op, a, r, do_rename);
}

static pst_rc do_remove(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_remove_args *a = args;
    pst_remove_result *r = result;
    pst_str if_match = pst_str_of(NULL, 0);
    pst_rc rc = PST_OK;
    if (PST_HAS(pst_remove_args, a, if_match))
        if_match = a->if_match;
    (void)pthread_mutex_lock(&process.mutex);
    for (size_t i = 0; i < a->n_keys; i++) {
        struct object *o = find_locked(b->bucket, a->keys[i]);
        r->status[i] = a->keys[i].len == 0 ? PST_E_INVALID : PST_OK;
        if (if_match.len > 0 && !matches(o, if_match)) {
            rc = fail(op, PST_E_PRECONDITION, a->keys[i], "its etag is another one");
            r->status[i] = rc;
        } else if (o) {
            drop_locked(b->bucket, a->keys[i]);
        }
    }
    (void)pthread_mutex_unlock(&process.mutex);
    return rc;
}

static pst_rc mem_remove(pst_backend *b, pst_op *op, const pst_remove_args *a, pst_remove_result *r)
{
    return submit(b, b, op, a, r, do_remove);
}

/* ---- uploads ----------------------------------------------------------------------------------- */

struct part {
    struct part *next;
    uint64_t offset, size;
    uint32_t number;
    unsigned char data[];
};

enum upload_state { OPEN, COMMITTED, ABORTED };

struct pst_upload {
    pst_backend *backend;
    pthread_mutex_t mutex;
    struct object *draft; /* key and attributes */
    pst_str if_match;
    uint32_t flags;
    struct {
        struct part *parts;
        enum upload_state state;
        uint64_t size, generation; /* once committed */
    } locked;
};

static void drop_parts_locked(pst_upload *u)
{
    while (u->locked.parts) {
        struct part *part = u->locked.parts;
        u->locked.parts = part->next;
        free(part);
    }
}

static void mem_upload_free(pst_upload *u)
{
    const pst_host *host = u->backend->host;
    drop_parts_locked(u);
    unref(u->draft);
    free_str(u->if_match);
    (void)pthread_mutex_destroy(&u->mutex);
    host->dealloc(host, u);
}

static pst_rc do_upload_open(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_put_args *a = args;
    pst_upload_result *r = result;
    pst_rc rc = check_key(op, a->key);
    if (rc == PST_OK)
        rc = check_attr(op, a->key, a->attr);
    if (rc != PST_OK)
        return rc;
    pst_upload *u = b->host->alloc(b->host, sizeof(*u), 16);
    if (!u)
        return fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    memset(u, 0, sizeof(*u));
    u->backend = b;
    u->flags = a->flags;
    (void)pthread_mutex_init(&u->mutex, NULL);
    u->draft = new_object(a->key, 0, a->attr);
    if (!u->draft || dup_str(a->if_match, &u->if_match) != 0) {
        mem_upload_free(u);
        return fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    }
    r->upload = u;
    return PST_OK;
}

static pst_rc mem_upload_open(pst_backend *b, pst_op *op, const pst_put_args *a,
                              pst_upload_result *r)
{
    return submit(b, b, op, a, r, do_upload_open);
}

static pst_rc do_upload_part(void *object, pst_op *op, const void *args, void *result)
{
    pst_upload *u = object;
    const pst_part_args *a = args;
    uint64_t size = iov_bytes(a->src, a->n_src);
    pst_rc rc = PST_OK;
    (void)result;
    struct part *part = malloc(sizeof(*part) + (size_t)size);
    if (!part)
        return fail(op, PST_E_NO_MEMORY, u->draft->key, "out of memory");
    part->offset = a->offset;
    part->size = size;
    part->number = a->number;
    gather(part->data, a->src, a->n_src);
    size_t n_sums = PST_HAS(pst_part_args, a, sum_stride) ? a->n_sums : 0;
    if (n_sums > 0 && !is_sum_right(a->sums, a->sum_stride, n_sums, part->data, size))
        rc = fail(op, PST_E_DATA_LOSS, u->draft->key, "a part does not have the sum sent with it");
    (void)pthread_mutex_lock(&u->mutex);
    int is_known = u->locked.state != OPEN;
    for (struct part *p = u->locked.parts; p && !is_known; p = p->next)
        is_known = p->number == a->number;
    if (rc == PST_OK && !is_known) {
        part->next = u->locked.parts;
        u->locked.parts = part;
        part = NULL;
    }
    (void)pthread_mutex_unlock(&u->mutex);
    free(part);
    return rc;
}

static pst_rc mem_upload_part(pst_upload *u, pst_op *op, const pst_part_args *a, pst_result *r)
{
    return submit(u->backend, u, op, a, r, do_upload_part);
}

/* All parts in one object, or NULL with *rc. Parts must cover it from 0 to `size` exactly. */
static struct object *assemble_locked(pst_upload *u, pst_op *op, uint64_t size, pst_rc *rc)
{
    const struct object *d = u->draft;
    uint64_t total = 0;
    for (struct part *p = u->locked.parts; p; p = p->next) {
        total += p->size;
        for (struct part *q = p->next; q; q = q->next)
            if (p->size > 0 && q->size > 0 && p->offset < q->offset + q->size &&
                q->offset < p->offset + p->size)
                total = UINT64_MAX / 2;
        if (p->offset + p->size > size)
            total = UINT64_MAX / 2;
    }
    if (total != size) {
        *rc = fail(op, PST_E_INVALID, d->key, "the parts do not make an object of that size");
        return NULL;
    }
    struct object *o = dup_object(d, d->key, NULL, size);
    if (!o)
        *rc = fail(op, PST_E_NO_MEMORY, d->key, "out of memory");
    for (struct part *p = u->locked.parts; o && p; p = p->next)
        memcpy(o->data + p->offset, p->data, (size_t)p->size);
    return o;
}

static pst_rc tell_commit_again(pst_upload *u, pst_op *op, pst_put_result *r)
{
    const struct object done = {.generation = u->locked.generation};
    if (tell_etag(op, &done, &r->etag, &r->etag_strength) != 0)
        return fail(op, PST_E_NO_MEMORY, u->draft->key, "out of memory");
    r->size = u->locked.size;
    return PST_OK;
}

static pst_rc do_upload_commit(void *object, pst_op *op, const void *args, void *result)
{
    pst_upload *u = object;
    const pst_commit_args *a = args;
    pst_rc rc = PST_OK;
    (void)pthread_mutex_lock(&u->mutex);
    if (u->locked.state == COMMITTED) {
        rc = tell_commit_again(u, op, result);
    } else if (u->locked.state == ABORTED) {
        rc = fail(op, PST_E_INVALID, u->draft->key, "the upload was aborted");
    } else {
        struct object *o = assemble_locked(u, op, a->size, &rc);
        if (o)
            rc = publish(u->backend, op, o, u->flags, u->if_match, result);
        if (rc == PST_OK) {
            u->locked.state = COMMITTED;
            u->locked.size = a->size;
            u->locked.generation = o->generation;
        } else {
            unref(o);
        }
    }
    (void)pthread_mutex_unlock(&u->mutex);
    return rc;
}

static pst_rc mem_upload_commit(pst_upload *u, pst_op *op, const pst_commit_args *a,
                                pst_put_result *r)
{
    return submit(u->backend, u, op, a, r, do_upload_commit);
}

static pst_rc do_upload_abort(void *object, pst_op *op, const void *args, void *result)
{
    pst_upload *u = object;
    (void)op;
    (void)args;
    (void)result;
    (void)pthread_mutex_lock(&u->mutex);
    if (u->locked.state == OPEN)
        u->locked.state = ABORTED;
    drop_parts_locked(u);
    (void)pthread_mutex_unlock(&u->mutex);
    return PST_OK;
}

static pst_rc mem_upload_abort(pst_upload *u, pst_op *op, const pst_abort_args *a, pst_result *r)
{
    return submit(u->backend, u, op, a, r, do_upload_abort);
}

/* ---- listing ----------------------------------------------------------------------------------- */

struct page {
    pst_entry entries[PAGE_MAX];
    struct object *refs[PAGE_MAX];
    char etags[PAGE_MAX][ETAG_SIZE];
    size_t n;
    int has_more;
};

static int starts_with(pst_str s, pst_str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

/* One entry for `o`: itself, or the common prefix that it stands behind. */
static void add_entry(struct page *page, struct object *o, pst_str prefix, uint32_t flags)
{
    const char *slash = NULL;
    pst_entry *e = &page->entries[page->n];
    memset(e, 0, sizeof(*e));
    if (!(flags & PST_LIST_RECURSIVE))
        slash = memchr(o->key.ptr + prefix.len, '/', o->key.len - prefix.len);
    atomic_fetch_add(&o->n_refs, 1);
    page->refs[page->n] = o;
    e->key = o->key;
    if (slash) {
        e->key.len = (size_t)(slash - o->key.ptr) + 1;
        e->kind = PST_KIND_PREFIX;
        e->mtime_ns = PST_TIME_UNKNOWN;
    } else {
        e->size = o->size;
        e->mtime_ns = o->mtime_ns;
        e->etag = etag_of(o, page->etags[page->n]);
        e->etag_strength = PST_ETAG_STRONG;
        e->content_encoding = o->content_encoding;
    }
    page->n++;
}

static void fill_page(struct bucket *b, const pst_list_args *a, uint32_t max, struct page *page)
{
    pst_str after = compare(a->page_token, a->start_after) > 0 ? a->page_token : a->start_after;
    int skips_group = !(a->flags & PST_LIST_RECURSIVE) && after.len > 0 &&
                      after.ptr[after.len - 1] == '/' && compare(after, a->page_token) == 0;
    (void)pthread_mutex_lock(&process.mutex);
    size_t i = lower_bound_locked(b, compare(after, a->prefix) > 0 ? after : a->prefix);
    for (; i < b->n && starts_with(b->objects[i]->key, a->prefix); i++) {
        struct object *o = b->objects[i];
        if ((after.len > 0 && compare(o->key, after) <= 0) ||
            (skips_group && starts_with(o->key, after)))
            continue;
        const pst_entry *last = page->n > 0 ? &page->entries[page->n - 1] : NULL;
        if (last && last->kind == PST_KIND_PREFIX && starts_with(o->key, last->key))
            continue;
        if (page->n == max) {
            page->has_more = 1;
            break;
        }
        add_entry(page, o, a->prefix, a->flags);
    }
    (void)pthread_mutex_unlock(&process.mutex);
}

static pst_rc do_list(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_list_args *a = args;
    pst_list_result *r = result;
    uint32_t max = a->max_entries > 0 && a->max_entries < PAGE_MAX ? a->max_entries : PAGE_MAX;
    struct page *page = b->host->alloc(b->host, sizeof(*page), 16);
    if (!page)
        return fail(op, PST_E_NO_MEMORY, a->prefix, "out of memory");
    page->n = 0;
    page->has_more = 0;
    fill_page(b->bucket, a, max, page);
    pst_rc rc = PST_OK;
    if (page->n > 0)
        rc = op->host->list_emit(op->host, op, page->entries, page->n, sizeof(pst_entry));
    if (rc == PST_OK && page->has_more && PST_HAS(pst_list_result, r, next_token) &&
        op_dup(op, page->entries[page->n - 1].key, &r->next_token) != 0)
        rc = fail(op, PST_E_NO_MEMORY, a->prefix, "out of memory");
    for (size_t i = 0; i < page->n; i++)
        unref(page->refs[i]);
    b->host->dealloc(b->host, page);
    return rc;
}

static pst_rc mem_list(pst_backend *b, pst_op *op, const pst_list_args *a, pst_list_result *r)
{
    return submit(b, b, op, a, r, do_list);
}

/* ---- the store --------------------------------------------------------------------------------- */

#define CAPS                                                                                       \
    (PST_CAP_READ | PST_CAP_READ_SUFFIX | PST_CAP_STAT | PST_CAP_PUT | PST_CAP_UPLOAD |            \
     PST_CAP_UPLOAD_UNORDERED | PST_CAP_REMOVE | PST_CAP_LIST | PST_CAP_LIST_ORDERED |             \
     PST_CAP_COPY | PST_CAP_RENAME | PST_CAP_PRESIGN | PST_CAP_READ_IF_MATCH |                     \
     PST_CAP_WRITE_IF_MATCH | PST_CAP_CREATE_ONLY | PST_CAP_USER_META | PST_CAP_CONTENT_TYPE |     \
     PST_CAP_CANCEL_BOUNDED | PST_CAP_APPEND | PST_CAP_UPLOAD_CONDITIONAL)

static const pst_limits limits = {
    .struct_size = sizeof(limits),
    .list_page_max = PAGE_MAX,
    .inflight_max = INFLIGHT_MAX,
    .key_max = KEY_MAX,
    .user_meta_max = META_MAX,
};

static void mem_info(pst_backend *b, pst_backend_info *info)
{
    pst_limits *l = info->limits;
    (void)b;
    info->caps = CAPS;
    info->endpoint = "";
    info->note = "";
    if (PST_HAS(pst_backend_info, info, want_sums))
        info->want_sums = 1u << PST_SUM_CRC32C;
    l->list_page_max = limits.list_page_max;
    l->inflight_max = limits.inflight_max;
    l->key_max = limits.key_max;
    l->user_meta_max = limits.user_meta_max;
}

static void mem_close(pst_backend *b)
{
    const pst_host *host = b->host;
    (void)pthread_mutex_lock(&b->mutex);
    b->locked.is_closing = 1;
    (void)pthread_cond_broadcast(&b->cond);
    (void)pthread_mutex_unlock(&b->mutex);
    for (unsigned i = 0; i < b->n_threads; i++)
        (void)pthread_join(b->threads[i], NULL);
    (void)pthread_cond_destroy(&b->cond);
    (void)pthread_mutex_destroy(&b->mutex);
    host->dealloc(host, b);
}

/* Threads of ours take no signal that is meant for the application. */
static int start_threads(pst_backend *b)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (b->n_threads < N_THREADS &&
           pthread_create(&b->threads[b->n_threads], NULL, serve, b) == 0)
        b->n_threads++;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return b->n_threads > 0 ? 0 : -1;
}

/* Objects "seed/0000" and so on, so that there is something to read in a fresh process. */
static int sow_locked(struct bucket *bucket, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char key[32];
        int len = snprintf(key, sizeof(key), "seed/%s%04u", i % 7 ? "" : "dir/", i);
        struct object *o = new_object(pst_str_of(key, (size_t)len), (uint64_t)i * 997 % 100000,
                                      NULL);
        if (!o)
            return -1;
        for (uint64_t k = 0; k < o->size; k++)
            o->data[k] = (unsigned char)(k * 31 + i);
        if (store_locked(bucket, o) != 0) {
            unref(o);
            return -1;
        }
    }
    return 0;
}

static unsigned read_seed(const pst_open_args *a)
{
    unsigned n = 0;
    for (size_t i = 0; i < a->n_options; i++)
        if (compare(a->options[i].key, PST_STR("seed")) == 0)
            for (size_t k = 0; k < a->options[i].value.len; k++)
                n = n * 10 + (unsigned)(a->options[i].value.ptr[k] - '0');
    return n;
}

static pst_rc mem_store_open(const pst_host *host, const pst_open_args *a, pst_backend **out,
                             pst_error *err)
{
    pst_backend *b = host->alloc(host, sizeof(*b), 16);
    if (!b) {
        err->code = PST_E_NO_MEMORY;
        return PST_E_NO_MEMORY;
    }
    memset(b, 0, sizeof(*b));
    b->host = host;
    b->locked.last = &b->locked.first;
    (void)pthread_mutex_init(&b->mutex, NULL);
    (void)pthread_cond_init(&b->cond, NULL);
    (void)pthread_mutex_lock(&process.mutex);
    b->bucket = find_bucket_locked(a->authority);
    int is_sown = b->bucket && (b->bucket->n > 0 || sow_locked(b->bucket, read_seed(a)) == 0);
    (void)pthread_mutex_unlock(&process.mutex);
    if (!is_sown || start_threads(b) != 0) {
        err->code = PST_E_NO_MEMORY;
        (void)snprintf(err->message, sizeof(err->message), "mem: out of memory or threads");
        mem_close(b);
        return PST_E_NO_MEMORY;
    }
    if (host->log_enabled(host, PST_LOG_DEBUG))
        host->log(host, PST_LOG_DEBUG, "mem", "a store was opened");
    *out = b;
    return PST_OK;
}

/* The lock may have been held, a bucket half changed: begin anew. */
static void mem_fork_child(const pst_host *host)
{
    (void)host;
    if (process.pid == getpid())
        return;
    process.pid = getpid();
    (void)pthread_mutex_init(&process.mutex, NULL);
    process.buckets = NULL;
}

static void mem_shutdown(const pst_host *host)
{
    (void)host;
}

static const pst_backend_ops ops = {
    .struct_size = sizeof(ops),
    .read = mem_read,
    .stat = mem_stat,
    .put = mem_put,
    .append = mem_append,
    .copy = mem_copy,
    .rename = mem_rename,
    .remove = mem_remove,
    .list = mem_list,
    .upload_open = mem_upload_open,
    .upload_part = mem_upload_part,
    .upload_commit = mem_upload_commit,
    .upload_abort = mem_upload_abort,
    .upload_free = mem_upload_free,
    .presign = mem_presign,
    .dst_ready = mem_dst_ready,
    .cancel = mem_cancel,
    .info = mem_info,
    .close = mem_close,
};

static const pst_option options[] = {
    {.type = PST_OPT_INT,
     .max = 100000,
     .name = "seed",
     .fallback = "0",
     .doc = "objects to begin with, under seed/"},
    {.type = PST_OPT_STRING,
     .flags = PST_OPT_SECRET,
     .name = "token",
     .doc = "kept secret and used for nothing"},
};

static const char *const schemes[] = {"mem", NULL};

static const pst_plugin plugin_table = {
    .struct_size = sizeof(plugin_table),
    .abi_major = PST_ABI_MAJOR,
    .abi_minor = PST_ABI_MINOR,
    .caps = CAPS,
    .threads = PST_THREADS_PARALLEL,
    .op_scratch = sizeof(struct job),
    .id = "mem",
    .version = "0.9.0",
    .vendor = "Penstock",
    .license = "Apache-2.0",
    .schemes = schemes,
    .limits = &limits,
    .options = options,
    .option_stride = sizeof(options[0]),
    .n_options = sizeof(options) / sizeof(options[0]),
    .ops = &ops,
    .store_open = mem_store_open,
    .fork_child = mem_fork_child,
    .shutdown = mem_shutdown,
};

PST_PLUGIN_ENTRY(host, plugin, err)
{
    (void)host;
    (void)err;
    *plugin = &plugin_table;
    return PST_OK;
}
