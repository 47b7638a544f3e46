/* call.c - one operation, from the test's arguments to its checked outcome.
 *
 * The test fills `in` with pointers into its own memory. Submitting copies all of it into guarded
 * pages: the operation, its scratch and its result can be written, arguments, vectors and strings
 * only read. When the completion comes, on whatever thread, everything is copied out and the pages
 * become inaccessible before complete() returns, so whoever looks at the operation afterwards is
 * caught, the thread that is still inside the submit function included. Destinations become
 * read-only and are compared with a snapshot when the test lets go of them.
 *
 * A call that the test lets go of stays for hundreds of others: a completion that comes late must find
 * the one it belongs to, and a late access its trap. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kit.h"

_Thread_local struct k_call *k_submitting;

struct k_copy {
    struct k_copy *next;
    char data[];
};

/* What a struct measures now, and for a host of the minor before: one member less, where it is one
 * that an operation can do without. */
struct shape {
    const char *name;
    size_t args, args_short, result, result_short;
};

#define SHORT(type, member) offsetof(type, member)
static const struct shape shapes[K_N_SLOTS] = {
    [K_READ] = {"read", sizeof(pst_read_args), SHORT(pst_read_args, n_dst), sizeof(pst_read_result),
                SHORT(pst_read_result, version)},
    [K_STAT] = {"stat", sizeof(pst_stat_args), SHORT(pst_stat_args, version), sizeof(pst_attr),
                SHORT(pst_attr, n_user_meta)},
    [K_PUT] = {"put", sizeof(pst_put_args), SHORT(pst_put_args, reserved0), sizeof(pst_put_result),
               SHORT(pst_put_result, version)},
    [K_APPEND] = {"append", sizeof(pst_put_args), SHORT(pst_put_args, reserved0),
                  sizeof(pst_put_result), SHORT(pst_put_result, version)},
    [K_COPY] = {"copy", sizeof(pst_copy_args), SHORT(pst_copy_args, reserved0),
                sizeof(pst_put_result), SHORT(pst_put_result, version)},
    [K_RENAME] = {"rename", sizeof(pst_copy_args), SHORT(pst_copy_args, reserved0),
                  sizeof(pst_put_result), SHORT(pst_put_result, version)},
    [K_REMOVE] = {"remove", sizeof(pst_remove_args), SHORT(pst_remove_args, if_match),
                  sizeof(pst_remove_result), SHORT(pst_remove_result, reserved0)},
    [K_LIST] = {"list", sizeof(pst_list_args), SHORT(pst_list_args, reserved0),
                sizeof(pst_list_result), SHORT(pst_list_result, next_token)},
    [K_LIST_OPEN] = {"list_open", sizeof(pst_list_args), SHORT(pst_list_args, reserved0),
                     sizeof(pst_cursor_result), SHORT(pst_cursor_result, reserved0)},
    [K_LIST_PAGE] = {"list_page", sizeof(pst_page_args), sizeof(pst_page_args),
                     sizeof(pst_list_result), SHORT(pst_list_result, next_token)},
    [K_UPLOAD_OPEN] = {"upload_open", sizeof(pst_put_args), SHORT(pst_put_args, reserved0),
                       sizeof(pst_upload_result), SHORT(pst_upload_result, reserved0)},
    [K_UPLOAD_PART] = {"upload_part", sizeof(pst_part_args), sizeof(pst_part_args),
                       sizeof(pst_result), SHORT(pst_result, flags)},
    [K_UPLOAD_COMMIT] = {"upload_commit", sizeof(pst_commit_args), sizeof(pst_commit_args),
                         sizeof(pst_put_result), SHORT(pst_put_result, version)},
    [K_UPLOAD_ABORT] = {"upload_abort", sizeof(pst_abort_args), SHORT(pst_abort_args, flags),
                        sizeof(pst_result), SHORT(pst_result, flags)},
    [K_CONTAINER_CREATE] = {"container_create", sizeof(pst_container_args),
                            sizeof(pst_container_args), sizeof(pst_result),
                            SHORT(pst_result, flags)},
    [K_CONTAINER_DELETE] = {"container_delete", sizeof(pst_container_args),
                            sizeof(pst_container_args), sizeof(pst_result),
                            SHORT(pst_result, flags)},
    [K_CONTAINER_LIST] = {"container_list", sizeof(pst_list_args), SHORT(pst_list_args, reserved0),
                          sizeof(pst_list_result), SHORT(pst_list_result, next_token)},
    [K_PRESIGN] = {"presign", sizeof(pst_presign_args), SHORT(pst_presign_args, method),
                   sizeof(pst_presign_result), sizeof(pst_presign_result)},
    [K_CLEANUP] = {"cleanup", sizeof(pst_cleanup_args), sizeof(pst_cleanup_args),
                   sizeof(pst_cleanup_result), SHORT(pst_cleanup_result, n_bytes)},
};

const char *k_slot_name(enum k_slot slot)
{
    return shapes[slot].name;
}

bool k_has_slot(const struct k_store *s, enum k_slot slot)
{
    const pst_backend_ops *o = s->ops;
    switch (slot) {
    case K_READ:
        return PST_HAS(pst_backend_ops, o, read) && o->read;
    case K_STAT:
        return PST_HAS(pst_backend_ops, o, stat) && o->stat;
    case K_PUT:
        return PST_HAS(pst_backend_ops, o, put) && o->put;
    case K_APPEND:
        return PST_HAS(pst_backend_ops, o, append) && o->append;
    case K_COPY:
        return PST_HAS(pst_backend_ops, o, copy) && o->copy;
    case K_RENAME:
        return PST_HAS(pst_backend_ops, o, rename) && o->rename;
    case K_REMOVE:
        return PST_HAS(pst_backend_ops, o, remove) && o->remove;
    case K_LIST:
        return PST_HAS(pst_backend_ops, o, list) && o->list;
    case K_LIST_OPEN:
        return PST_HAS(pst_backend_ops, o, list_open) && o->list_open;
    case K_LIST_PAGE:
        return PST_HAS(pst_backend_ops, o, list_page) && o->list_page;
    case K_UPLOAD_OPEN:
        return PST_HAS(pst_backend_ops, o, upload_open) && o->upload_open;
    case K_UPLOAD_PART:
        return PST_HAS(pst_backend_ops, o, upload_part) && o->upload_part;
    case K_UPLOAD_COMMIT:
        return PST_HAS(pst_backend_ops, o, upload_commit) && o->upload_commit;
    case K_UPLOAD_ABORT:
        return PST_HAS(pst_backend_ops, o, upload_abort) && o->upload_abort;
    case K_CONTAINER_CREATE:
        return PST_HAS(pst_backend_ops, o, container_create) && o->container_create;
    case K_CONTAINER_DELETE:
        return PST_HAS(pst_backend_ops, o, container_delete) && o->container_delete;
    case K_CONTAINER_LIST:
        return PST_HAS(pst_backend_ops, o, container_list) && o->container_list;
    case K_PRESIGN:
        return PST_HAS(pst_backend_ops, o, presign) && o->presign;
    case K_CLEANUP:
        return PST_HAS(pst_backend_ops, o, cleanup) && o->cleanup;
    case K_N_SLOTS:
        break;
    }
    return false;
}

/* ---- finding a call by its operation ----------------------------------------------------------- */

static struct k_call **bucket_of(struct k_host *host, const pst_op *op)
{
    uintptr_t h = (uintptr_t)op >> 4;
    h ^= h >> 16;
    return &host->buckets[(h ^ (h >> 10)) % (sizeof(host->buckets) / sizeof(host->buckets[0]))];
}

struct k_call *k_call_find(struct k_host *host, const pst_op *op)
{
    (void)pthread_mutex_lock(&host->mutex);
    struct k_call *c = *bucket_of(host, op);
    while (c && c->op != op)
        c = c->next_in_bucket;
    (void)pthread_mutex_unlock(&host->mutex);
    return c;
}

struct k_call *k_call_new(struct k_store *s, enum k_slot slot, void *object)
{
    struct k_call *c = (struct k_call *)(void *)k_alloc(sizeof(*c));
    c->store = s;
    c->host = s->host;
    c->slot = slot;
    c->object = object ? object : s->backend;
    c->attempt = 1;
    c->place = K_AT_END;
    c->emit_limit = SIZE_MAX;
    (void)pthread_mutex_init(&c->mutex, NULL);
    (void)pthread_cond_init(&c->cond, NULL);
    return c;
}

/* ---- memory for bytes read --------------------------------------------------------------------- */

/* Cut `n` bytes into spans of about `span` bytes, every one behind a guard page of its own. Lengths
 * are odd on purpose, unless the store asked for aligned memory. */
static size_t make_spans(struct k_call *c, size_t n, size_t span, pst_iov *out, size_t max)
{
    size_t align = c->store->limits.mem_align > 1 ? c->store->limits.mem_align : 1;
    size_t n_spans = 0, done = 0;
    while (done < n || (n == 0 && n_spans == 0)) {
        size_t len = n - done;
        if (span > 0 && span < len && n_spans + 1 < max) {
            len = span + n_spans % 3;
            if (len % 2 == 0)
                len++;
            len = align > 1 ? (len + align - 1) / align * align : len;
            len = len < n - done ? len : n - done;
        }
        out[n_spans].ptr = k_region_take(&c->data, "destination", len, align, c->place);
        out[n_spans].len = len;
        if (!out[n_spans].ptr)
            break;
        n_spans++;
        done += len;
    }
    return n_spans;
}

/* Room for `n` bytes in spans of about `span`: each on pages of its own, with a guard and what its
 * alignment skips. Address space is cheap but not free: sanitizers keep books about all of it. */
static size_t room_for(size_t n, size_t span, size_t align)
{
    size_t n_spans = span > 0 && n / span + 2 < K_SPANS_MAX ? n / span + 2 : K_SPANS_MAX;
    return n + (span > 0 ? n_spans : 2) * (2 * align + 3 * 4096) + 8 * 4096;
}

static void init_data(struct k_call *c, uint64_t n, size_t span)
{
    size_t align = c->store->limits.mem_align > 4096 ? c->store->limits.mem_align : 4096;
    if (!c->data.base)
        k_region_init(&c->data, shapes[c->slot].name, room_for((size_t)n, span, align),
                      K_SPANS_MAX);
}

void k_call_dst(struct k_call *c, size_t n, size_t span, enum k_place place)
{
    c->place = place;
    if (c->host->skew == K_OLDER)
        return; /* its pst_read_args has no n_dst: the plugin asks dst() */
    init_data(c, n, span);
    c->n_spans = make_spans(c, n, span, c->spans, K_SPANS_MAX);
    c->in.read.dst = c->spans;
    c->in.read.n_dst = c->n_spans;
}

static bool check_dst_args(struct k_call *c, const pst_dst_args *a)
{
    struct k_test *t = c->host->test;
    const char *name = shapes[c->slot].name;
    bool is_more = (a->flags & PST_DST_MORE) != 0;
    if (c->slot != K_READ || c->in.read.n_dst > 0) {
        k_fail(t, "expected dst() only for a read without a destination, got it for %s%s", name,
               c->slot == K_READ ? " that brought its own" : "");
        return false;
    }
    if (atomic_load(&c->is_parked)) {
        k_fail(t, "expected nothing after LATER until dst_ready(), got another dst()");
        return false;
    }
    if (c->n_grants > 0 && !(is_more && c->dst_seen.length == PST_UNKNOWN)) {
        k_fail(t, "expected at most one grant per attempt, got a second dst()");
        return false;
    }
    if (a->length != PST_UNKNOWN && a->length > c->in.read.length) {
        k_fail(t, "expected dst() for at most the %llu bytes that were asked for, got %llu",
               (unsigned long long)c->in.read.length, (unsigned long long)a->length);
        return false;
    }
    uint64_t align = c->store->limits.io_align > 1 ? c->store->limits.io_align : 1;
    if (a->capacity < (a->length == PST_UNKNOWN ? 1 : a->length) ||
        (a->length != PST_UNKNOWN && a->capacity > a->length + 2 * (align - 1))) {
        k_fail(t,
               "expected dst() with a capacity of the length %llu, at most rounded up to io_align "
               "%llu, got %llu",
               (unsigned long long)a->length, (unsigned long long)align,
               (unsigned long long)a->capacity);
        return false;
    }
    return true;
}

static void send_dst_ready(void *arg)
{
    struct k_call *c = arg;
    k_call_ready(c);
}

pst_rc k_call_grant(struct k_call *c, const pst_dst_args *args, pst_dst_grant *grant)
{
    struct k_test *t = c->host->test;
    c->n_dst_calls++;
    if (!args || !grant || args->struct_size < sizeof(*args) ||
        grant->struct_size < sizeof(*grant)) {
        k_fail(t, "expected dst() with both structs and their struct_size set, got something else");
        return PST_E_INVALID;
    }
    if (!check_dst_args(c, args))
        return PST_E_INTERNAL;
    c->dst_seen = *args;
    c->dst_etag[0] = '\0';
    if (args->etag.len < sizeof(c->dst_etag) && args->etag.len > 0) {
        memcpy(c->dst_etag, args->etag.ptr, args->etag.len);
        c->dst_etag[args->etag.len] = '\0';
    }
    if (c->dst_later > 0) {
        c->dst_later--;
        atomic_store(&c->is_parked, true);
        if (!c->dst_manual)
            k_pool_post(c->host->courier, send_dst_ready, c);
        return PST_LATER;
    }
    if (c->dst_refuse)
        return c->dst_refuse;

    uint64_t bytes = args->capacity;
    if (args->length == PST_UNKNOWN) /* more will follow */
        init_data(c, c->in.read.length + args->capacity, 1);
    else
        init_data(c, bytes, c->dst_span);
    size_t first = c->n_spans;
    size_t n = make_spans(c, (size_t)bytes, c->dst_span, c->spans + first, K_SPANS_MAX - first);
    c->n_spans += n;
    c->n_grants++;
    c->granted += bytes;
    pst_iov *iov = k_region_take(&c->region, "granted vector", n * sizeof(*iov), 8, K_AT_END);
    if (!iov)
        return PST_E_NO_MEMORY;
    memcpy(iov, c->spans + first, n * sizeof(*iov));
    k_region_protect(&c->region, iov, PROT_READ);
    grant->flags = 0;
    grant->capacity = bytes;
    grant->dst = iov;
    grant->n_dst = n;
    return PST_OK;
}

void *k_call_op_alloc(struct k_call *c, size_t size)
{
    static const size_t sizes[K_HEAPS] = {256u << 10, 8u << 20, 256u << 20};
    void *p = NULL;
    (void)pthread_mutex_lock(&c->mutex);
    for (size_t i = 0; i < K_HEAPS && !p && size < sizes[K_HEAPS - 1]; i++) {
        if (!c->heaps[i].base)
            k_region_init(&c->heaps[i], shapes[c->slot].name, sizes[i], 256);
        p = k_region_take(&c->heaps[i], "op_alloc memory", size, 16, K_AT_END);
    }
    (void)pthread_mutex_unlock(&c->mutex);
    return p;
}

pst_rc k_call_emit(struct k_call *c, const pst_entry *entries, size_t n, size_t stride)
{
    struct k_test *t = c->host->test;
    if (c->slot != K_LIST && c->slot != K_LIST_PAGE && c->slot != K_CLEANUP &&
        c->slot != K_CONTAINER_LIST) {
        k_fail(t, "expected list_emit() only for listings and cleanup, got it for %s",
               shapes[c->slot].name);
        return PST_E_INTERNAL;
    }
    if (stride < sizeof(pst_entry) || stride % 8 != 0 || (n > 0 && !entries)) {
        k_fail(t, "expected list_emit() with stride sizeof(pst_entry), got %zu", stride);
        return PST_E_INVALID;
    }
    if (c->emit_error && c->entries.n + n > c->emit_limit)
        return c->emit_error;
    for (size_t i = 0; i < n; i++) {
        const char *at = (const char *)entries + i * stride;
        k_entries_add(&c->entries, (const pst_entry *)(const void *)at);
    }
    return PST_OK;
}

/* ---- arguments into guarded pages -------------------------------------------------------------- */

struct placing {
    size_t total;
    char *at;        /* NULL: only add up */
    bool null_empty; /* an empty string is {NULL, 0}, else {somewhere, 0} */
};

static void place(struct placing *p, pst_str *s)
{
    if (!p->at) {
        p->total += s->len;
        return;
    }
    if (s->len > 0)
        memcpy(p->at, s->ptr, s->len);
    s->ptr = s->len == 0 && p->null_empty ? NULL : p->at;
    p->at += s->len;
}

struct placed { /* everything that is copied, besides the args struct itself */
    union k_args args;
    pst_attr attr;
    pst_kv *meta;
    pst_str *keys, *versions;
};

static void place_attr(struct placing *p, struct placed *x)
{
    place(p, &x->attr.etag);
    place(p, &x->attr.version);
    place(p, &x->attr.content_type);
    place(p, &x->attr.content_encoding);
    place(p, &x->attr.content_language);
    place(p, &x->attr.content_disposition);
    place(p, &x->attr.cache_control);
    place(p, &x->attr.storage_class);
    for (size_t i = 0; i < x->attr.n_user_meta; i++) {
        place(p, &x->meta[i].key);
        place(p, &x->meta[i].value);
    }
}

/* The key comes last: its end touches the guard page. */
static void place_strings(struct placing *p, enum k_slot slot, struct placed *x)
{
    union k_args *a = &x->args;
    switch (slot) {
    case K_READ:
        place(p, &a->read.version);
        place(p, &a->read.if_match);
        place(p, &a->read.key);
        break;
    case K_STAT:
        place(p, &a->stat.version);
        place(p, &a->stat.key);
        break;
    case K_PUT:
    case K_APPEND:
    case K_UPLOAD_OPEN:
        place(p, &a->put.if_match);
        place_attr(p, x);
        place(p, &a->put.key);
        break;
    case K_COPY:
    case K_RENAME:
        place(p, &a->copy.from_version);
        place(p, &a->copy.from_if_match);
        place(p, &a->copy.if_match);
        place_attr(p, x);
        place(p, &a->copy.from);
        place(p, &a->copy.to);
        break;
    case K_REMOVE:
        place(p, &a->remove.if_match);
        for (size_t i = 0; x->versions && i < a->remove.n_keys; i++)
            place(p, &x->versions[i]);
        for (size_t i = 0; i < a->remove.n_keys; i++)
            place(p, &x->keys[i]);
        break;
    case K_LIST:
    case K_LIST_OPEN:
    case K_CONTAINER_LIST:
        place(p, &a->list.start_after);
        place(p, &a->list.page_token);
        place(p, &a->list.prefix);
        break;
    case K_CONTAINER_CREATE:
    case K_CONTAINER_DELETE:
        place(p, &a->container.name);
        break;
    case K_PRESIGN:
        place(p, &a->presign.method);
        place(p, &a->presign.key);
        break;
    case K_CLEANUP:
        place(p, &a->cleanup.prefix);
        break;
    case K_LIST_PAGE:
    case K_UPLOAD_PART:
    case K_UPLOAD_COMMIT:
    case K_UPLOAD_ABORT:
    case K_N_SLOTS:
        break;
    }
}

static bool takes_attr(enum k_slot slot)
{
    return slot == K_PUT || slot == K_APPEND || slot == K_UPLOAD_OPEN || slot == K_COPY ||
           slot == K_RENAME;
}

/* Copy `n` bytes onto pages of their own that the plugin can only read. */
static void *place_bytes(struct k_call *c, const char *name, const void *bytes, size_t n)
{
    if (n == 0)
        return NULL;
    void *p = k_region_take(&c->region, name, n, 8, K_AT_END);
    memcpy(p, bytes, n);
    k_region_protect(&c->region, p, PROT_READ);
    return p;
}

/* A struct that starts with struct_size, as long as this host's minor has it. */
static void *place_struct(struct k_call *c, const char *name, const void *bytes, size_t full,
                          size_t shorter, size_t *total)
{
    enum k_skew skew = c->host->skew;
    size_t len = skew == K_OLDER ? shorter : full;
    *total = len + (skew == K_NEWER ? K_TAIL : 0);
    unsigned char *p = k_region_take(&c->region, name, *total, 8, K_AT_END);
    uint32_t struct_size = (uint32_t)*total;
    memset(p, K_POISON, *total);
    memcpy(p, bytes, len);
    memcpy(p, &struct_size, sizeof(struct_size));
    return p;
}

static void place_vectors(struct k_call *c, struct placed *x)
{
    union k_args *a = &x->args;
    switch (c->slot) {
    case K_READ:
        a->read.dst = place_bytes(c, "vector of destinations", a->read.dst,
                                  a->read.n_dst * sizeof(pst_iov));
        break;
    case K_PUT:
    case K_APPEND:
    case K_UPLOAD_OPEN:
        a->put.src = place_bytes(c, "vector of sources", a->put.src,
                                 a->put.n_src * sizeof(pst_iov));
        a->put.sums = place_bytes(c, "sums", a->put.sums, a->put.n_sums * sizeof(pst_sum));
        a->put.sum_stride = sizeof(pst_sum);
        break;
    case K_UPLOAD_PART:
        a->part.src = place_bytes(c, "vector of sources", a->part.src,
                                  a->part.n_src * sizeof(pst_iov));
        a->part.sums = place_bytes(c, "sums", a->part.sums, a->part.n_sums * sizeof(pst_sum));
        a->part.sum_stride = sizeof(pst_sum);
        break;
    case K_UPLOAD_COMMIT:
        a->commit.sums = place_bytes(c, "sums", a->commit.sums, a->commit.n_sums * sizeof(pst_sum));
        a->commit.sum_stride = sizeof(pst_sum);
        break;
    case K_REMOVE:
        a->remove.keys = place_bytes(c, "keys", x->keys, a->remove.n_keys * sizeof(pst_str));
        a->remove.versions = x->versions ? place_bytes(c, "versions", x->versions,
                                                       a->remove.n_keys * sizeof(pst_str))
                                         : NULL;
        break;
    default:
        break;
    }
}

static void place_attr_struct(struct k_call *c, struct placed *x)
{
    size_t total = 0;
    x->attr.user_meta = place_bytes(c, "user metadata", x->meta,
                                    x->attr.n_user_meta * sizeof(pst_kv));
    void *attr = place_struct(c, "attributes", &x->attr, sizeof(pst_attr),
                              offsetof(pst_attr, n_user_meta), &total);
    k_region_protect(&c->region, attr, PROT_READ);
    if (c->slot == K_COPY || c->slot == K_RENAME)
        x->args.copy.attr = attr;
    else
        x->args.put.attr = attr;
}

static void *dup_array(const void *array, size_t n, size_t size)
{
    unsigned char *copy = k_alloc(n * size + 1);
    if (n > 0)
        memcpy(copy, array, n * size);
    return copy;
}

static void place_result(struct k_call *c)
{
    const struct shape *shape = &shapes[c->slot];
    union k_result empty;
    memset(&empty, 0, sizeof(empty));
    if (c->slot == K_REMOVE) {
        size_t n = c->in.remove.n_keys;
        c->statuses = k_region_take(&c->region, "statuses", n * sizeof(pst_rc) + 1, 8, K_AT_END);
        for (size_t i = 0; i < n; i++)
            c->statuses[i] = PST_E_INTERNAL;
        empty.remove.status = c->statuses;
    }
    c->result = place_struct(c, "result", &empty, shape->result, shape->result_short,
                             &c->result_len);
}

static void place_op(struct k_call *c)
{
    static atomic_uint_fast64_t ids;
    uint32_t scratch_len = c->store->plugin->op_scratch;
    pst_error err = PST_ERROR_INIT;
    c->err = place_struct(c, "error", &err, sizeof(err), sizeof(err), &c->err_len);
    pst_op op = {.id = atomic_fetch_add(&ids, 1) + 1,
                 .deadline_ns = c->deadline_ns,
                 .attempt = c->attempt,
                 .max_attempts = 3,
                 .host = c->host->table,
                 .err = c->err};
    op.scratch = k_region_take(&c->region, "scratch", scratch_len, 16, K_AT_END);
    c->op = place_struct(c, "op", &op, sizeof(op), offsetof(pst_op, host_private), &c->op_len);

    (void)pthread_mutex_lock(&c->host->mutex);
    struct k_call **bucket = bucket_of(c->host, c->op);
    c->next_in_bucket = *bucket;
    *bucket = c;
    (void)pthread_mutex_unlock(&c->host->mutex);
}

static void place_all(struct k_call *c)
{
    const struct shape *shape = &shapes[c->slot];
    struct placed x = {.args = c->in};
    struct placing p = {0, NULL, false};
    size_t n_keys = c->slot == K_REMOVE ? c->in.remove.n_keys : 0;
    bool has_attr = takes_attr(c->slot);
    bool is_copy = c->slot == K_COPY || c->slot == K_RENAME;
    const pst_attr *attr = is_copy ? c->in.copy.attr : c->in.put.attr;
    if (has_attr && attr) {
        x.attr = *attr;
        if (c->host->skew == K_OLDER)
            x.attr.n_user_meta = 0;
        x.meta = dup_array(attr->user_meta, x.attr.n_user_meta, sizeof(pst_kv));
    }
    if (n_keys > 0) {
        x.keys = dup_array(c->in.remove.keys, n_keys, sizeof(pst_str));
        if (c->in.remove.versions)
            x.versions = dup_array(c->in.remove.versions, n_keys, sizeof(pst_str));
    }
    place_strings(&p, c->slot, &x);
    size_t arrays = n_keys * (2 * sizeof(pst_str) + sizeof(pst_rc)) +
                    x.attr.n_user_meta * sizeof(pst_kv) + K_SPANS_MAX * sizeof(pst_iov);
    k_region_init(&c->region, shape->name,
                  p.total + arrays + c->store->plugin->op_scratch + 256 * 1024, 24);
    p.null_empty = ((uintptr_t)c->region.base >> 20) % 2 == 0;
    p.at = k_region_take(&c->region, "strings", p.total, 1, K_AT_END);
    const char *strings = p.at;
    place_strings(&p, c->slot, &x);
    k_region_protect(&c->region, strings, PROT_READ);
    place_vectors(c, &x);
    if (has_attr)
        place_attr_struct(c, &x);
    c->args = place_struct(c, "arguments", &x.args, shape->args, shape->args_short, &c->args_len);
    k_region_protect(&c->region, c->args, PROT_READ);
    place_result(c);
    place_op(c);
    k_free(x.meta);
    k_free(x.keys);
    k_free(x.versions);
}

/* ---- submit ------------------------------------------------------------------------------------ */

static pst_rc call_slot(struct k_call *c)
{
    const pst_backend_ops *o = c->store->ops;
    void *b = c->object, *a = c->args, *r = c->result;
    pst_op *op = c->op;
    switch (c->slot) {
    case K_READ:
        return o->read(b, op, a, r);
    case K_STAT:
        return o->stat(b, op, a, r);
    case K_PUT:
        return o->put(b, op, a, r);
    case K_APPEND:
        return o->append(b, op, a, r);
    case K_COPY:
        return o->copy(b, op, a, r);
    case K_RENAME:
        return o->rename(b, op, a, r);
    case K_REMOVE:
        return o->remove(b, op, a, r);
    case K_LIST:
        return o->list(b, op, a, r);
    case K_LIST_OPEN:
        return o->list_open(b, op, a, r);
    case K_LIST_PAGE:
        return o->list_page(b, op, a, r);
    case K_UPLOAD_OPEN:
        return o->upload_open(b, op, a, r);
    case K_UPLOAD_PART:
        return o->upload_part(b, op, a, r);
    case K_UPLOAD_COMMIT:
        return o->upload_commit(b, op, a, r);
    case K_UPLOAD_ABORT:
        return o->upload_abort(b, op, a, r);
    case K_CONTAINER_CREATE:
        return o->container_create(b, op, a, r);
    case K_CONTAINER_DELETE:
        return o->container_delete(b, op, a, r);
    case K_CONTAINER_LIST:
        return o->container_list(b, op, a, r);
    case K_PRESIGN:
        return o->presign(b, op, a, r);
    case K_CLEANUP:
        return o->cleanup(b, op, a, r);
    case K_N_SLOTS:
        break;
    }
    return PST_E_UNIMPLEMENTED;
}

static bool writes(enum k_slot slot)
{
    return slot == K_PUT || slot == K_APPEND || slot == K_COPY || slot == K_RENAME ||
           slot == K_UPLOAD_OPEN || slot == K_UPLOAD_COMMIT || slot == K_CONTAINER_CREATE;
}

static void check_untouched(struct k_call *c, const unsigned char *op_before,
                            const unsigned char *result_before)
{
    struct k_test *t = c->host->test;
    if (memcmp(op_before, c->op, c->op_len) != 0)
        k_fail(t, "expected %s that answers BUSY to leave the op as it was, got it changed",
               shapes[c->slot].name);
    if (memcmp(result_before, c->result, c->result_len) != 0)
        k_fail(t, "expected %s that answers BUSY to leave the result as it was, got it changed",
               shapes[c->slot].name);
    if (c->err->code != 0 || c->err->message[0])
        k_fail(t, "expected %s that answers BUSY to leave the error empty, got code %d",
               shapes[c->slot].name, (int)c->err->code);
}

pst_rc k_call_submit_once(struct k_call *c)
{
    struct k_test *t = c->host->test;
    const char *name = shapes[c->slot].name;
    if (!c->op)
        place_all(c);
    if (writes(c->slot))
        atomic_store(&t->shared->has_written, true);
    unsigned char *op_before = dup_array(c->op, 1, c->op_len);
    unsigned char *result_before = dup_array(c->result, 1, c->result_len);
    if (c->op->scratch)
        memset(c->op->scratch, 0, c->store->plugin->op_scratch);
    c->exec_said_busy = false;
    c->started_ns = k_now_ns();
    atomic_fetch_add(&c->host->n_outstanding, 1);
    atomic_store(&c->state, K_SUBMITTING);
    k_submitting = c;
    pst_rc rc = call_slot(c);
    k_submitting = NULL;
    int state = atomic_load(&c->state);
    if (rc == PST_PENDING) {
        int expected = K_SUBMITTING;
        (void)atomic_compare_exchange_strong(&c->state, &expected, K_PENDING);
        c->was_pending = true;
        if (PST_HAS(pst_backend_ops, c->store->ops, flush) && c->store->ops->flush)
            c->store->ops->flush(c->store->backend);
    } else if (state == K_DONE) {
        k_fail(t,
               "expected complete() only for an operation that answers PENDING, got it for %s "
               "that then answered %s",
               name, k_rc_name(rc));
        rc = PST_PENDING;
    } else if (rc == PST_BUSY) {
        check_untouched(c, op_before, result_before);
        c->said_busy = true;
        c->n_busy++;
        atomic_store(&c->state, K_IDLE);
        atomic_fetch_sub(&c->host->n_outstanding, 1);
    } else {
        k_call_completed(c, rc);
    }
    k_free(op_before);
    k_free(result_before);
    return rc;
}

pst_rc k_call_submit(struct k_call *c)
{
    uint64_t give_up_ns = k_now_ns() + 20000000000u;
    for (;;) {
        unsigned wakes = atomic_load(&c->host->n_wakes);
        pst_rc rc = k_call_submit_once(c);
        if (rc != PST_BUSY)
            return rc;
        if (k_now_ns() > give_up_ns) {
            k_fail(c->host->test, "expected %s to be accepted after BUSY, got BUSY for 20 seconds",
                   shapes[c->slot].name);
            c->hung = true;
            return PST_E_INTERNAL;
        }
        if (!c->exec_said_busy && atomic_load(&c->host->n_wakes) == wakes)
            k_pause_ms(1);
    }
}

/* ---- completion -------------------------------------------------------------------------------- */

static pst_str copy_str(struct k_call *c, pst_str s)
{
    if (s.len == 0)
        return pst_str_of("", 0);
    if (s.len > 16u * 1024 * 1024 || !s.ptr) {
        k_fail(c->host->test,
               "expected the strings in the result of %s to have a sane length, got "
               "%zu",
               shapes[c->slot].name, s.len);
        return pst_str_of("", 0);
    }
    struct k_copy *copy = (struct k_copy *)(void *)k_alloc(sizeof(*copy) + s.len + 1);
    memcpy(copy->data, s.ptr, s.len);
    copy->next = c->copies;
    c->copies = copy;
    return pst_str_of(copy->data, s.len);
}

static void copy_attr(struct k_call *c, pst_attr *a)
{
    a->etag = copy_str(c, a->etag);
    a->version = copy_str(c, a->version);
    a->content_type = copy_str(c, a->content_type);
    a->content_encoding = copy_str(c, a->content_encoding);
    a->content_language = copy_str(c, a->content_language);
    a->content_disposition = copy_str(c, a->content_disposition);
    a->cache_control = copy_str(c, a->cache_control);
    a->storage_class = copy_str(c, a->storage_class);
    if (a->n_user_meta == 0 || a->n_user_meta > 100000)
        return;
    pst_kv *meta = dup_array(a->user_meta, a->n_user_meta, sizeof(pst_kv));
    for (size_t i = 0; i < a->n_user_meta; i++) {
        meta[i].key = copy_str(c, meta[i].key);
        meta[i].value = copy_str(c, meta[i].value);
    }
    a->user_meta = meta;
}

static void copy_result(struct k_call *c)
{
    const struct shape *shape = &shapes[c->slot];
    size_t len = c->host->skew == K_OLDER ? shape->result_short : shape->result;
    memset(&c->out, 0, sizeof(c->out));
    memcpy(&c->out, c->result, len);
    c->live = c->out;
    if (c->rc != PST_OK)
        return;
    switch (c->slot) {
    case K_READ:
        c->out.read.etag = copy_str(c, c->out.read.etag);
        c->out.read.version = copy_str(c, c->out.read.version);
        break;
    case K_STAT:
        copy_attr(c, &c->out.attr);
        break;
    case K_PUT:
    case K_APPEND:
    case K_COPY:
    case K_RENAME:
    case K_UPLOAD_COMMIT:
        c->out.put.etag = copy_str(c, c->out.put.etag);
        c->out.put.version = copy_str(c, c->out.put.version);
        break;
    case K_LIST:
    case K_CONTAINER_LIST:
        c->out.list.next_token = copy_str(c, c->out.list.next_token);
        break;
    case K_PRESIGN:
        c->out.presign.url = copy_str(c, c->out.presign.url);
        break;
    default:
        break;
    }
}

static void check_frame(struct k_call *c, const char *what, const void *frame, size_t len)
{
    struct k_test *t = c->host->test;
    uint32_t struct_size = 0;
    memcpy(&struct_size, frame, sizeof(struct_size));
    if (struct_size != len)
        k_fail(t, "expected struct_size of the %s of %s to stay %zu, got %u", what,
               shapes[c->slot].name, len, struct_size);
    if (c->host->skew != K_NEWER)
        return;
    const unsigned char *tail = (const unsigned char *)frame + len - K_TAIL;
    for (size_t i = 0; i < K_TAIL; i++) {
        if (tail[i] != K_POISON) {
            k_fail(t,
                   "expected members that the plugin cannot know to stay untouched in the %s of "
                   "%s, got byte %zu of them written",
                   what, shapes[c->slot].name, i);
            return;
        }
    }
}

static bool is_terminated(const char *text, size_t size)
{
    return memchr(text, '\0', size) != NULL;
}

static void check_error(struct k_call *c)
{
    struct k_test *t = c->host->test;
    pst_error *e = &c->error;
    memcpy(e, c->err, sizeof(*e));
    if (!is_terminated(e->message, sizeof(e->message)) ||
        !is_terminated(e->provider_code, sizeof(e->provider_code)) ||
        !is_terminated(e->request_id, sizeof(e->request_id)) ||
        !is_terminated(e->endpoint, sizeof(e->endpoint))) {
        k_fail(t, "expected every text of the error to end with NUL inside its array, got one that "
                  "does not");
        e->message[sizeof(e->message) - 1] = '\0';
        e->provider_code[sizeof(e->provider_code) - 1] = '\0';
        e->request_id[sizeof(e->request_id) - 1] = '\0';
        e->endpoint[sizeof(e->endpoint) - 1] = '\0';
    }
    k_check_text(t, "the error's message", e->message);
    k_check_text(t, "the error's provider code", e->provider_code);
    k_check_text(t, "the error's endpoint", e->endpoint);
}

static void check_read(struct k_call *c)
{
    struct k_test *t = c->host->test;
    const pst_read_result *r = &c->out.read;
    if (c->rc != PST_OK)
        return;
    if (r->n_read > c->in.read.length)
        k_fail(t, "expected at most the %llu bytes asked for, got n_read %llu",
               (unsigned long long)c->in.read.length, (unsigned long long)r->n_read);
    if (c->in.read.n_dst == 0 && c->host->skew != K_OLDER && r->n_read > c->granted)
        k_fail(t, "expected at most the %llu bytes granted by dst(), got n_read %llu",
               (unsigned long long)c->granted, (unsigned long long)r->n_read);
}

static void take_snapshot(struct k_call *c)
{
    struct k_test *t = c->host->test;
    const char *name = NULL;
    if (!c->data.base)
        return;
    if (!k_region_is_intact(&c->data, &name))
        k_fail(t, "expected nothing to be written around the %s, got bytes there", name);
    k_region_freeze(&c->data);
    size_t total = 0;
    for (size_t i = 0; i < c->n_spans; i++)
        total += c->spans[i].len;
    c->snapshot = k_alloc(total + 1);
    for (size_t i = 0, at = 0; i < c->n_spans; at += c->spans[i].len, i++)
        memcpy(c->snapshot + at, c->spans[i].ptr, c->spans[i].len);
    c->snapshot_len = total;
}

void k_call_completed(struct k_call *c, pst_rc rc)
{
    struct k_test *t = c->host->test;
    const char *name = NULL;
    if (atomic_exchange(&c->state, K_DONE) == K_DONE) {
        k_fail(t, "expected one completion of %s, got two side by side", shapes[c->slot].name);
        return;
    }
    c->finished_ns = k_now_ns();
    c->rc = rc;
    if (rc > 0 || strncmp(k_rc_name(rc), "the unknown", 11) == 0)
        k_fail(t, "expected %s to end with OK or an error of status.h, got %s",
               shapes[c->slot].name, k_rc_name(rc));
    copy_result(c);
    check_frame(c, "result", c->result, c->result_len);
    check_frame(c, "error", c->err, c->err_len);
    check_frame(c, "op", c->op, c->op_len);
    if (!k_region_is_intact(&c->region, &name))
        k_fail(t, "expected nothing to be written around the %s of %s, got bytes there", name,
               shapes[c->slot].name);
    check_error(c);
    if (c->slot == K_READ)
        check_read(c);
    if (c->statuses) {
        c->live.remove.status = dup_array(c->statuses, c->in.remove.n_keys, sizeof(pst_rc));
        c->statuses = c->live.remove.status;
    }
    take_snapshot(c);
    for (size_t i = 0; i < K_HEAPS; i++)
        if (c->heaps[i].base)
            k_region_freeze(&c->heaps[i]);
    if (c->on_complete)
        c->on_complete(c, c->on_complete_arg);
    if (!c->keep)
        k_region_bury(&c->region);
    atomic_fetch_sub(&c->host->n_outstanding, 1);
    (void)pthread_mutex_lock(&c->mutex);
    c->is_finished = true;
    (void)pthread_cond_broadcast(&c->cond);
    (void)pthread_mutex_unlock(&c->mutex);
}

bool k_call_wait(struct k_call *c, unsigned timeout_ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000u);
    until.tv_nsec += (long)(timeout_ms % 1000u) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    (void)pthread_mutex_lock(&c->mutex);
    int rc = 0;
    while (!c->is_finished && rc == 0)
        rc = pthread_cond_timedwait(&c->cond, &c->mutex, &until);
    bool is_finished = c->is_finished;
    (void)pthread_mutex_unlock(&c->mutex);
    return is_finished;
}

bool k_call_finish(struct k_call *c)
{
    unsigned limit_ms = c->host->test->config->timeout_s * 500u;
    if (k_call_wait(c, limit_ms))
        return true;
    if (!c->hung)
        k_fail(c->host->test, "expected %s to complete, got nothing for %u s", shapes[c->slot].name,
               limit_ms / 1000u);
    c->hung = true;
    c->rc = K_NOT_ANSWERED;
    return false;
}

pst_rc k_call_run(struct k_call *c)
{
    pst_rc rc = k_call_submit(c);
    if (rc != PST_PENDING)
        return rc;
    return k_call_finish(c) ? c->rc : K_NOT_ANSWERED;
}

void k_call_cancel(struct k_call *c)
{
    if (PST_HAS(pst_backend_ops, c->store->ops, cancel) && c->store->ops->cancel)
        c->store->ops->cancel(c->store->backend, c->op);
}

void k_call_ready(struct k_call *c)
{
    atomic_store(&c->is_parked, false);
    c->store->ops->dst_ready(c->store->backend, c->op);
}

void k_call_bury(struct k_call *c)
{
    k_region_bury(&c->region);
}

/* The end of a call that nobody can be late for any more. */
static void destroy(struct k_call *c)
{
    struct k_copy *copy = c->copies;
    k_region_destroy(&c->region);
    k_region_destroy(&c->data);
    for (size_t i = 0; i < K_HEAPS; i++)
        k_region_destroy(&c->heaps[i]);
    while (copy) {
        struct k_copy *next = copy->next;
        k_free(copy);
        copy = next;
    }
    k_free(c->statuses);
    k_free(c);
}

#define FREED_MAX 400u

static void retire(struct k_call *c)
{
    struct k_host *host = c->host;
    struct k_call *oldest = NULL;
    (void)pthread_mutex_lock(&host->mutex);
    c->next_freed = NULL;
    if (host->freed_last)
        host->freed_last->next_freed = c;
    else
        host->freed_first = c;
    host->freed_last = c;
    if (++host->n_freed > FREED_MAX) {
        oldest = host->freed_first;
        host->freed_first = oldest->next_freed;
        host->n_freed--;
        struct k_call **link = bucket_of(host, oldest->op);
        while (*link != oldest)
            link = &(*link)->next_in_bucket;
        *link = oldest->next_in_bucket;
    }
    (void)pthread_mutex_unlock(&host->mutex);
    if (oldest)
        destroy(oldest);
}

void k_call_free(struct k_call *c)
{
    if (atomic_load(&c->state) == K_DONE && c->snapshot) {
        for (size_t i = 0, at = 0; i < c->n_spans; at += c->spans[i].len, i++) {
            if (memcmp(c->snapshot + at, c->spans[i].ptr, c->spans[i].len) != 0) {
                k_fail(c->host->test,
                       "expected nobody to write to the destination of %s after it "
                       "completed, got other bytes there",
                       shapes[c->slot].name);
                break;
            }
        }
        k_region_bury(&c->data);
    }
    if (atomic_load(&c->state) == K_DONE) {
        for (size_t i = 0; i < K_HEAPS; i++)
            if (c->heaps[i].base)
                k_region_bury(&c->heaps[i]);
        k_region_bury(&c->region);
        k_entries_fini(&c->entries);
    }
    k_free(c->snapshot);
    c->snapshot = NULL;
    if (atomic_load(&c->state) == K_DONE)
        retire(c);
}

bool k_want(struct k_call *c, pst_rc rc, const char *what)
{
    if (c->hung)
        return false;
    if (c->rc == rc)
        return true;
    k_fail(c->host->test, "expected %s: %s, got %s%s%s", what, k_rc_name(rc), k_rc_name(c->rc),
           c->rc < 0 && c->error.message[0] ? ": " : "", c->rc < 0 ? c->error.message : "");
    return false;
}

unsigned char *k_call_bytes(struct k_call *c, uint64_t *n)
{
    uint64_t total = c->out.read.n_read;
    if (total > c->snapshot_len)
        total = c->snapshot_len;
    unsigned char *bytes = k_alloc((size_t)total + 1);
    if (total > 0)
        memcpy(bytes, c->snapshot, (size_t)total);
    *n = total;
    return bytes;
}
