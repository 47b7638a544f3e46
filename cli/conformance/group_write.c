/* group_write.c - WRITE: put, copy, rename, remove, append, containers, cleanup. Uploads are in
 * group_upload.c. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

#define BASIC (PST_CAP_READ | PST_CAP_STAT | PST_CAP_LIST)

static struct k_call *new_put(struct k_store *s, pst_str key, struct k_source *src, uint64_t size)
{
    struct k_call *c = k_call_new(s, K_PUT, NULL);
    c->in.put.key = key;
    c->in.put.size_hint = size;
    c->in.put.src = src->iov;
    c->in.put.n_src = src->n;
    return c;
}

/* Put with flags and a condition; the outcome. */
static pst_rc put_if(struct k_store *s, pst_str key, uint64_t size, uint64_t seed, uint32_t flags,
                     pst_str if_match)
{
    struct k_source *src = k_source_new("put", (size_t)size, seed, 0, 0);
    struct k_call *c = new_put(s, key, src, size);
    c->in.put.flags = flags;
    c->in.put.if_match = if_match;
    pst_rc rc = k_call_run(c);
    k_source_bury(src);
    k_call_free(c);
    return rc;
}

static void check_put_result(struct k_store *s, const struct k_call *c, pst_str key, uint64_t size)
{
    struct k_test *t = s->test;
    struct k_attrs a;
    const pst_put_result *r = &c->out.put;
    pst_rc rc = k_stat(s, key, &a);
    if (!k_that(t, rc == PST_OK, "expected stat of what was written: OK, got %s", k_rc_name(rc)))
        return;
    k_that(t, a.size == size, "expected stat to tell %llu bytes, got %llu",
           (unsigned long long)size, (unsigned long long)a.size);
    k_that(t, r->size == size || r->size == PST_UNKNOWN,
           "expected the result to tell %llu bytes, got "
           "%llu",
           (unsigned long long)size, (unsigned long long)r->size);
    k_that(t, r->etag_strength == PST_ETAG_NONE || k_str_eq(r->etag, k_etag(&a)),
           "expected the result to name stat's etag %s, got %s", k_show(k_etag(&a)),
           k_show(r->etag));
}

void k_WRITE_001(struct k_test *t)
{
    static const uint64_t sizes[] = {1, 4096, 100003, (1u << 20) + 1};
    struct k_store *s = k_need(t, BASIC | PST_CAP_PUT);
    for (size_t i = 0; s && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        pst_str key = k_key(t, "put-%zu", i);
        struct k_source *src = k_source_new("put", (size_t)sizes[i], i, 0, 0);
        struct k_call *c = new_put(s, key, src, sizes[i]);
        k_step(t, "putting %llu bytes", (unsigned long long)sizes[i]);
        (void)k_call_run(c);
        k_source_bury(src);
        if (k_want(c, PST_OK, "put")) {
            check_put_result(s, c, key, sizes[i]);
            (void)k_holds(s, key, sizes[i], i);
        }
        k_call_free(c);
    }
}

void k_WRITE_002(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_PUT);
    pst_str key = k_key(t, "empty");
    struct k_attrs a;
    if (!s || !k_make(s, key, 0, 0))
        return;
    pst_rc rc = k_stat(s, key, &a);
    k_that(t, rc == PST_OK && a.size == 0,
           "expected stat of an empty object: OK and 0 bytes, got %s "
           "and %llu",
           k_rc_name(rc), (unsigned long long)a.size);
    (void)k_holds(s, key, 0, 0);
}

void k_WRITE_003(struct k_test *t)
{
    static const uint64_t sizes[] = {100000, 10, 0, 5000, 5000, 200000};
    struct k_store *s = k_need(t, BASIC);
    pst_str key = k_key(t, "replaced");
    for (size_t i = 0; s && i < sizeof(sizes) / sizeof(sizes[0]); i++)
        if (!k_make(s, key, sizes[i], i) || !k_holds(s, key, sizes[i], i))
            return;
}

/* ---- a reader beside a writer -------------------------------------------------------------------- */

#define N_VERSIONS 60u
#define VERSION_BYTES 300000u

struct rewriter {
    struct k_store *store;
    pst_str key;
    atomic_bool is_over;
};

static void *rewrite(void *arg)
{
    struct rewriter *w = arg;
    for (uint64_t i = 1; i < N_VERSIONS && !k_failed(w->store->test); i++)
        (void)k_make(w->store, w->key, VERSION_BYTES + i, i);
    atomic_store(&w->is_over, true);
    return NULL;
}

/* The size tells which version it should be. */
static void check_version(struct k_test *t, const unsigned char *bytes, uint64_t n)
{
    if (!k_that(t, n >= VERSION_BYTES && n < VERSION_BYTES + N_VERSIONS,
                "expected one of the versions written, got %llu bytes", (unsigned long long)n))
        return;
    uint64_t seed = n - VERSION_BYTES;
    size_t at = k_differs(bytes, (size_t)n, seed, 0);
    k_that(t, at == SIZE_MAX, "expected the bytes of one version, got another's at %zu", at);
}

void k_WRITE_004(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC);
    struct rewriter w = {.store = s, .key = k_key(t, "rewritten")};
    pthread_t thread;
    unsigned n_read = 0;
    if (!s || !k_make(s, w.key, VERSION_BYTES, 0))
        return;
    if (s->plugin->threads == PST_THREADS_SERIAL) {
        k_skip(t, "the plugin is SERIAL");
        return;
    }
    if (pthread_create(&thread, NULL, rewrite, &w) != 0)
        return;
    while (!atomic_load(&w.is_over) && !k_failed(t)) {
        unsigned char *bytes = NULL;
        uint64_t n = 0;
        uint64_t align = s->limits.io_align > 1 ? s->limits.io_align : 1;
        uint64_t length = (VERSION_BYTES + N_VERSIONS + align - 1) / align * align;
        k_step(t, "reading an object that is being replaced");
        pst_rc rc = k_read(s, w.key, 0, length, &bytes, &n);
        if (rc == PST_OK)
            check_version(t, bytes, n);
        else /* whoever cannot tell which version it read must say so */
            k_that(t, rc == PST_E_CHANGED, "expected a read beside a put: OK or CHANGED, got %s",
                   k_rc_name(rc));
        n_read += rc == PST_OK;
        k_free(bytes);
    }
    (void)pthread_join(thread, NULL);
    k_that(t, n_read > 0, "expected some of the reads beside a put to succeed, got none");
}

/* ---- conditions ---------------------------------------------------------------------------------- */

#define N_RIVALS 8u

struct rival {
    struct k_store *store;
    pst_str key, if_match;
    uint32_t flags;
    unsigned number;
    pst_rc rc;
    pthread_barrier_t *start;
};

static void *compete(void *arg)
{
    struct rival *r = arg;
    (void)pthread_barrier_wait(r->start);
    r->rc = put_if(r->store, r->key, 1000 + r->number, r->number, r->flags, r->if_match);
    return NULL;
}

/* Eight puts with the same condition: one must win, and its bytes must be there. */
static void race(struct k_store *s, pst_str key, uint32_t flags, pst_str if_match, pst_rc loser)
{
    struct k_test *t = s->test;
    struct rival rivals[N_RIVALS];
    pthread_t threads[N_RIVALS];
    pthread_barrier_t start;
    unsigned n_won = 0, winner = 0;
    if (s->plugin->threads == PST_THREADS_SERIAL)
        return;
    (void)pthread_barrier_init(&start, NULL, N_RIVALS);
    for (unsigned i = 0; i < N_RIVALS; i++) {
        rivals[i] = (struct rival){s, key, if_match, flags, i, PST_E_INTERNAL, &start};
        if (pthread_create(&threads[i], NULL, compete, &rivals[i]) != 0) {
            k_fail(t, "the kit could not start a thread");
            return;
        }
    }
    for (unsigned i = 0; i < N_RIVALS; i++) {
        (void)pthread_join(threads[i], NULL);
        if (rivals[i].rc == PST_OK) {
            n_won++;
            winner = i;
        } else {
            k_that(t, rivals[i].rc == loser, "expected the losers of a race to get %s, got %s",
                   k_rc_name(loser), k_rc_name(rivals[i].rc));
        }
    }
    (void)pthread_barrier_destroy(&start);
    if (k_that(t, n_won == 1, "expected one winner of %u with the same condition, got %u", N_RIVALS,
               n_won))
        (void)k_holds(s, key, 1000 + winner, winner);
}

void k_WRITE_005(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_PUT | PST_CAP_CREATE_ONLY);
    pst_str key = k_key(t, "created");
    if (!s)
        return;
    pst_str none = pst_str_of(NULL, 0);
    pst_rc rc = put_if(s, key, 100, 1, PST_PUT_CREATE_ONLY, none);
    k_that(t, rc == PST_OK, "expected CREATE_ONLY where nothing is: OK, got %s", k_rc_name(rc));
    rc = put_if(s, key, 200, 2, PST_PUT_CREATE_ONLY, none);
    k_that(t, rc == PST_E_EXISTS, "expected CREATE_ONLY onto an object: EXISTS, got %s",
           k_rc_name(rc));
    (void)k_holds(s, key, 100, 1);
    for (unsigned i = 0; i < 10 && !k_failed(t); i++) {
        k_step(t, "creating an object from %u threads", N_RIVALS);
        race(s, k_key(t, "race-%u", i), PST_PUT_CREATE_ONLY, none, PST_E_EXISTS);
    }
}

void k_WRITE_006(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_PUT | PST_CAP_WRITE_IF_MATCH);
    pst_str key = k_key(t, "matched");
    struct k_attrs a;
    if (!s || !k_make(s, key, 100, 1) || k_stat(s, key, &a) != PST_OK)
        return;
    pst_rc rc = put_if(s, key, 200, 2, 0, k_etag(&a));
    k_that(t, rc == PST_OK, "expected a put with the current etag: OK, got %s", k_rc_name(rc));
    (void)k_holds(s, key, 200, 2);
    rc = put_if(s, key, 300, 3, 0, k_etag(&a));
    k_that(t, rc == PST_E_PRECONDITION, "expected a put with an old etag: PRECONDITION, got %s",
           k_rc_name(rc));
    (void)k_holds(s, key, 200, 2);
    rc = put_if(s, k_key(t, "not-there"), 10, 4, 0, k_etag(&a));
    k_that(t, rc == PST_E_PRECONDITION || rc == PST_E_NOT_FOUND,
           "expected a put with an etag where nothing is: PRECONDITION or NOT_FOUND, got %s",
           k_rc_name(rc));
    (void)k_absent(s, k_key(t, "not-there"));
    for (unsigned i = 0; i < 10 && !k_failed(t); i++) {
        k_step(t, "replacing an object from %u threads with the same etag", N_RIVALS);
        if (k_stat(s, key, &a) == PST_OK)
            race(s, key, 0, k_etag(&a), PST_E_PRECONDITION);
    }
}

/* ---- attributes ---------------------------------------------------------------------------------- */

struct attr_sample {
    pst_attr attr;
    pst_kv meta[4];
};

static void make_attr(struct attr_sample *x, uint64_t caps)
{
    memset(x, 0, sizeof(*x));
    x->attr.struct_size = sizeof(x->attr);
    if (caps & PST_CAP_CONTENT_TYPE) {
        x->attr.content_type = PST_STR("text/plain; charset=utf-8");
        x->attr.content_encoding = PST_STR("zstd");
    }
    if (caps & PST_CAP_USER_META) {
        x->meta[0] = (pst_kv){PST_STR("step"), PST_STR("1200")};
        x->meta[1] = (pst_kv){PST_STR("empty"), PST_STR("")};
        x->meta[2] = (pst_kv){PST_STR("long"), PST_STR("0123456789012345678901234567890123456789"
                                                       "0123456789012345678901234567890123456789")};
        x->meta[3] = (pst_kv){PST_STR("spaced"), PST_STR("a b=c;d")};
        x->attr.user_meta = x->meta;
        x->attr.n_user_meta = 4;
    }
}

static const pst_kv *find_meta(const pst_attr *a, pst_str name)
{
    for (size_t i = 0; i < a->n_user_meta; i++)
        if (k_str_eq(a->user_meta[i].key, name))
            return &a->user_meta[i];
    return NULL;
}

/* Does stat of `key` give back what was set? */
static void check_attr(struct k_store *s, pst_str key, const pst_attr *want, uint64_t caps)
{
    struct k_test *t = s->test;
    struct k_call *c = k_call_new(s, K_STAT, NULL);
    c->in.stat.key = key;
    (void)k_call_run(c);
    const pst_attr *got = &c->out.attr;
    if (k_want(c, PST_OK, "stat")) {
        if (caps & PST_CAP_CONTENT_TYPE) {
            k_that(t, k_str_eq(got->content_type, want->content_type),
                   "expected content type %s, got %s", k_show(want->content_type),
                   k_show(got->content_type));
            k_that(t, k_str_eq(got->content_encoding, want->content_encoding),
                   "expected content encoding %s, got %s", k_show(want->content_encoding),
                   k_show(got->content_encoding));
        }
        for (size_t i = 0; (caps & PST_CAP_USER_META) && i < want->n_user_meta; i++) {
            const pst_kv *kv = find_meta(got, want->user_meta[i].key);
            k_that(t, kv && k_str_eq(kv->value, want->user_meta[i].value),
                   "expected metadata %s = %s, got %s", k_show(want->user_meta[i].key),
                   k_show(want->user_meta[i].value), kv ? k_show(kv->value) : "none");
        }
        k_that(t, !(caps & PST_CAP_USER_META) || got->n_user_meta == want->n_user_meta,
               "expected %zu pieces of metadata, got %zu", want->n_user_meta, got->n_user_meta);
    }
    k_call_free(c);
}

static pst_rc put_attr(struct k_store *s, pst_str key, const pst_attr *attr)
{
    struct k_source *src = k_source_new("put", 100, 1, 0, 0);
    struct k_call *c = new_put(s, key, src, 100);
    c->in.put.attr = attr;
    pst_rc rc = k_call_run(c);
    k_source_bury(src);
    k_call_free(c);
    return rc;
}

static pst_rc upload_attr(struct k_store *s, pst_str key, const pst_attr *attr)
{
    struct k_writer w = {.store = s, .key = key, .seed = 1};
    struct k_call *c = k_call_new(s, K_UPLOAD_OPEN, NULL);
    c->in.put.key = key;
    c->in.put.attr = attr;
    c->in.put.size_hint = PST_UNKNOWN;
    pst_rc rc = k_call_run(c);
    if (rc == PST_OK) {
        w.upload = c->out.upload.upload;
        rc = k_writer_part(&w, 0, 100) ? k_writer_commit(&w, 100, 1) : PST_E_INTERNAL;
        k_writer_free(&w);
    }
    k_call_free(c);
    return rc;
}

static void round_trip(struct k_test *t, uint64_t cap)
{
    struct k_store *s = k_need(t, BASIC | cap);
    struct attr_sample x;
    if (!s)
        return;
    make_attr(&x, cap);
    for (unsigned i = 0; i < 2; i++) {
        pst_str key = k_key(t, "attributes-%u", i);
        if (!(s->caps & (i == 0 ? PST_CAP_PUT : PST_CAP_UPLOAD)))
            continue;
        pst_rc rc = i == 0 ? put_attr(s, key, &x.attr) : upload_attr(s, key, &x.attr);
        if (k_that(t, rc == PST_OK, "expected %s with attributes: OK, got %s",
                   i == 0 ? "put" : "an upload", k_rc_name(rc)))
            check_attr(s, key, &x.attr, cap);
    }
    /* Another put without them has none of the old ones. */
    if ((s->caps & PST_CAP_PUT) && k_make(s, k_key(t, "attributes-0"), 50, 2)) {
        const pst_attr none = {.struct_size = sizeof(none)};
        check_attr(s, k_key(t, "attributes-0"), &none, cap);
    }
}

void k_WRITE_022(struct k_test *t)
{
    round_trip(t, PST_CAP_CONTENT_TYPE);
}

void k_WRITE_023(struct k_test *t)
{
    round_trip(t, PST_CAP_USER_META);
}

void k_WRITE_024(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_USER_META);
    if (!s)
        return;
    size_t most = s->limits.user_meta_max > 0 ? s->limits.user_meta_max : 1u << 20;
    const size_t sizes[] = {most / 2 + 1, most + 1, most * 4};
    for (size_t i = 0; i < 3; i++) {
        char *value = (char *)k_alloc(sizes[i]);
        memset(value, 'm', sizes[i]);
        pst_kv meta[2] = {{PST_STR("small"), PST_STR("1")},
                          {PST_STR("large"), pst_str_of(value, sizes[i])}};
        pst_attr attr = {.struct_size = sizeof(attr), .user_meta = meta, .n_user_meta = 2};
        for (unsigned way = 0; way < 2; way++) {
            pst_str key = k_key(t, "metadata-%zu-%u", i, way);
            if (!(s->caps & (way == 0 ? PST_CAP_PUT : PST_CAP_UPLOAD)))
                continue;
            k_step(t, "writing with %zu bytes of metadata", sizes[i]);
            pst_rc rc = way == 0 ? put_attr(s, key, &attr) : upload_attr(s, key, &attr);
            if (rc == PST_OK)
                check_attr(s, key, &attr, PST_CAP_USER_META);
            else if (k_that(t, rc == PST_E_INVALID,
                            "expected %zu bytes of metadata to be kept or "
                            "refused with INVALID, got %s",
                            sizes[i], k_rc_name(rc)))
                (void)k_absent(s, key);
        }
        k_free(value);
    }
}

/* ---- sums ---------------------------------------------------------------------------------------- */

static uint32_t crc32c(const unsigned char *p, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static pst_sum make_sum(const struct k_source *src, bool is_right)
{
    pst_sum sum = {.algorithm = PST_SUM_CRC32C, .length = 4};
    uint32_t crc = crc32c(src->iov[0].ptr, src->iov[0].len) ^ (is_right ? 0 : 0x100);
    for (unsigned i = 0; i < 4; i++)
        sum.bytes[i] = (uint8_t)(crc >> (24 - 8 * i));
    return sum;
}

static void put_sum(struct k_store *s, bool is_right)
{
    struct k_test *t = s->test;
    pst_str key = k_key(t, "sum-%d", is_right);
    struct k_source *src = k_source_new("put", 5000, 1, 0, 0);
    pst_sum sum = make_sum(src, is_right);
    struct k_call *c = new_put(s, key, src, 5000);
    c->in.put.sums = &sum;
    c->in.put.n_sums = 1;
    (void)k_call_run(c);
    if (is_right) {
        if (k_want(c, PST_OK, "put with a right sum"))
            (void)k_holds(s, key, 5000, 1);
    } else if (k_that(t, c->rc < 0, "expected put with a wrong sum to fail, got %s",
                      k_rc_name(c->rc))) {
        (void)k_absent(s, key);
    }
    k_source_bury(src);
    k_call_free(c);
}

static void upload_sum(struct k_store *s)
{
    struct k_test *t = s->test;
    struct k_writer w;
    pst_str key = k_key(t, "sum-of-part");
    if (k_writer_open(&w, s, key, 1)) {
        struct k_source *src = k_source_new("upload_part", 5000, 1, 0, 0);
        pst_sum sum = make_sum(src, false);
        struct k_call *c = k_call_new(s, K_UPLOAD_PART, w.upload);
        c->in.part.src = src->iov;
        c->in.part.n_src = src->n;
        c->in.part.sums = &sum;
        c->in.part.n_sums = 1;
        (void)k_call_run(c);
        k_that(t, c->rc < 0, "expected a part with a wrong sum to fail, got %s", k_rc_name(c->rc));
        k_source_bury(src);
        k_call_free(c);
    }
    k_writer_free(&w);
    (void)k_absent(s, key);
}

void k_WRITE_025(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC);
    if (!s)
        return;
    if (!(s->want_sums & (1u << PST_SUM_CRC32C))) {
        k_skip(t, "the store wants no CRC-32C");
        return;
    }
    if (s->caps & PST_CAP_PUT) {
        put_sum(s, true);
        put_sum(s, false);
    }
    if (s->caps & PST_CAP_UPLOAD)
        upload_sum(s);
}

/* ---- copy and rename ------------------------------------------------------------------------------ */

static struct k_call *run_copy(struct k_store *s, enum k_slot slot, pst_str from, pst_str to,
                               uint32_t flags, const pst_attr *attr)
{
    struct k_call *c = k_call_new(s, slot, NULL);
    c->in.copy.from = from;
    c->in.copy.to = to;
    c->in.copy.flags = flags;
    c->in.copy.attr = attr;
    (void)k_call_run(c);
    return c;
}

void k_WRITE_026(struct k_test *t)
{
    static const uint64_t sizes[] = {0, 1, 100003, (3u << 20) + 5};
    struct k_store *s = k_need(t, BASIC | PST_CAP_COPY);
    for (size_t i = 0; s && i < 4; i++) {
        pst_str from = k_key(t, "from-%zu", i), to = k_key(t, "to/deep/%zu", i);
        if (!k_make(s, from, sizes[i], i))
            return;
        /* Twice: onto nothing, and onto what the first one made. */
        for (unsigned k = 0; k < 2; k++) {
            struct k_call *c = run_copy(s, K_COPY, from, to, 0, NULL);
            if (k_want(c, PST_OK, "copy")) {
                check_put_result(s, c, to, sizes[i]);
                (void)k_holds(s, to, sizes[i], i);
                (void)k_holds(s, from, sizes[i], i);
            }
            k_call_free(c);
        }
    }
}

void k_WRITE_027(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_COPY | PST_CAP_PUT | PST_CAP_USER_META);
    struct attr_sample x;
    pst_str from = k_key(t, "from"), kept = k_key(t, "kept"), replaced = k_key(t, "replaced");
    if (!s)
        return;
    uint64_t caps = s->caps & (PST_CAP_USER_META | PST_CAP_CONTENT_TYPE);
    make_attr(&x, caps);
    if (!k_that(t, put_attr(s, from, &x.attr) == PST_OK,
                "expected put with attributes: OK, got an "
                "error"))
        return;
    struct k_call *c = run_copy(s, K_COPY, from, kept, 0, NULL);
    if (k_want(c, PST_OK, "copy"))
        check_attr(s, kept, &x.attr, caps);
    k_call_free(c);
    const pst_kv meta = {PST_STR("new"), PST_STR("yes")};
    pst_attr other = {.struct_size = sizeof(other), .user_meta = &meta, .n_user_meta = 1};
    if (caps & PST_CAP_CONTENT_TYPE)
        other.content_type = PST_STR("image/png");
    c = run_copy(s, K_COPY, from, replaced, PST_COPY_REPLACE_ATTR, &other);
    if (k_want(c, PST_OK, "copy with other attributes")) {
        check_attr(s, replaced, &other, caps);
        (void)k_holds(s, replaced, 100, 1);
    }
    k_call_free(c);
}

void k_WRITE_028(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_COPY);
    pst_str from = k_key(t, "from"), to = k_key(t, "to"), fresh = k_key(t, "fresh");
    if (!s || !k_make(s, from, 100, 1) || !k_make(s, to, 200, 2))
        return;
    struct k_call *c = run_copy(s, K_COPY, k_key(t, "not-there"), to, 0, NULL);
    (void)k_want(c, PST_E_NOT_FOUND, "copy of what is not there");
    k_call_free(c);
    if (s->caps & PST_CAP_CREATE_ONLY) {
        c = run_copy(s, K_COPY, from, to, PST_PUT_CREATE_ONLY, NULL);
        (void)k_want(c, PST_E_EXISTS, "copy with CREATE_ONLY onto an object");
        k_call_free(c);
    }
    if (s->caps & PST_CAP_READ_IF_MATCH) {
        c = k_call_new(s, K_COPY, NULL);
        c->in.copy.from = from;
        c->in.copy.to = fresh;
        c->in.copy.from_if_match = PST_STR("another");
        (void)k_call_run(c);
        k_that(t, c->rc == PST_E_PRECONDITION || c->rc == PST_E_CHANGED,
               "expected copy of another version: PRECONDITION or CHANGED, got %s",
               k_rc_name(c->rc));
        k_call_free(c);
        (void)k_absent(s, fresh);
    }
    (void)k_holds(s, from, 100, 1);
    (void)k_holds(s, to, 200, 2);
}

void k_WRITE_029(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_RENAME);
    pst_str from = k_key(t, "from"), to = k_key(t, "to/another"), other = k_key(t, "other");
    if (!s || !k_make(s, from, 5000, 1) || !k_make(s, other, 600, 2))
        return;
    struct k_call *c = run_copy(s, K_RENAME, from, to, 0, NULL);
    if (k_want(c, PST_OK, "rename") && k_absent(s, from))
        (void)k_holds(s, to, 5000, 1);
    k_call_free(c);
    c = run_copy(s, K_RENAME, to, other, 0, NULL);
    if (k_want(c, PST_OK, "rename onto an object") && k_absent(s, to))
        (void)k_holds(s, other, 5000, 1);
    k_call_free(c);
    c = run_copy(s, K_RENAME, from, to, 0, NULL);
    (void)k_want(c, PST_E_NOT_FOUND, "rename of what is not there");
    k_call_free(c);
    if ((s->caps & PST_CAP_CREATE_ONLY) && k_make(s, from, 10, 3)) {
        c = run_copy(s, K_RENAME, from, other, PST_PUT_CREATE_ONLY, NULL);
        (void)k_want(c, PST_E_EXISTS, "rename with CREATE_ONLY onto an object");
        k_call_free(c);
        (void)k_holds(s, from, 10, 3);
        (void)k_holds(s, other, 5000, 1);
    }
}

/* ---- remove --------------------------------------------------------------------------------------- */

void k_WRITE_030(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_REMOVE);
    static const char *const names[] = {"foobar", "foo-bar", "foo.bar", "dir/foo",
                                        "fo",     "Foo",     "foo "};
    pst_str foo = k_key(t, "foo");
    if (!s || !k_make(s, foo, 10, 100))
        return;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!k_make(s, k_key(t, "%s", names[i]), 10, i))
            return;
    pst_rc rc = k_remove(s, foo);
    k_that(t, rc == PST_OK, "expected remove of foo: OK, got %s", k_rc_name(rc));
    (void)k_absent(s, foo);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        (void)k_holds(s, k_key(t, "%s", names[i]), 10, i);
    /* A common prefix is not a key: nothing below it may go. */
    (void)k_remove(s, k_key(t, "dir"));
    (void)k_remove(s, k_key(t, "dir/"));
    (void)k_holds(s, k_key(t, "dir/foo"), 10, 3);
    if (k_make(s, foo, 20, 7))
        (void)k_holds(s, foo, 20, 7);
}

#define N_MANY 120u

void k_WRITE_031(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_REMOVE);
    pst_str keys[N_MANY];
    if (!s)
        return;
    size_t n = s->limits.remove_batch_max > 0 && s->limits.remove_batch_max < N_MANY
                   ? s->limits.remove_batch_max
                   : N_MANY;
    for (size_t i = 0; i < n; i++) {
        keys[i] = k_key(t, "many/%zu", i);
        if (i % 3 != 1 && !k_make(s, keys[i], 5, i)) /* every third one is not there */
            return;
    }
    if (!k_make(s, k_key(t, "many/kept"), 5, 1))
        return;
    if (n > 10)
        keys[6] = pst_str_of(NULL, 0); /* a key that no store has */
    struct k_call *c = k_call_new(s, K_REMOVE, NULL);
    c->in.remove.keys = keys;
    c->in.remove.n_keys = n;
    (void)k_call_run(c);
    k_that(t, c->hung || c->rc == PST_OK || c->rc == PST_E_INVALID,
           "expected remove of many: OK, or INVALID for the empty key, got %s", k_rc_name(c->rc));
    for (size_t i = 0; i < n && !c->hung; i++) {
        bool is_empty = keys[i].len == 0;
        k_that(t, is_empty ? c->statuses[i] != PST_E_INTERNAL : c->statuses[i] == PST_OK,
               "expected the status of key %zu to be %s, got %s", i, is_empty ? "filled" : "OK",
               k_rc_name(c->statuses[i]));
        if (!is_empty && i % 10 == 0)
            (void)k_absent(s, keys[i]);
    }
    k_call_free(c);
    struct k_listing l = {.prefix = k_key(t, "many/"), .flags = PST_LIST_RECURSIVE};
    (void)k_list(s, &l);
    size_t left = 1 + (n > 10); /* the empty key took the place of many/6, which stays */
    k_that(t, l.entries.n == left, "expected %zu objects after remove, got %zu", left, l.entries.n);
    k_entries_fini(&l.entries);
}

void k_WRITE_032(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_REMOVE | PST_CAP_WRITE_IF_MATCH);
    pst_str key = k_key(t, "matched");
    struct k_attrs a;
    if (!s || !k_make(s, key, 10, 1) || k_stat(s, key, &a) != PST_OK)
        return;
    for (unsigned i = 0; i < 2; i++) {
        struct k_call *c = k_call_new(s, K_REMOVE, NULL);
        c->in.remove.keys = &key;
        c->in.remove.n_keys = 1;
        c->in.remove.if_match = i == 0 ? PST_STR("another") : k_etag(&a);
        pst_rc rc = k_call_run(c);
        if (rc == PST_OK)
            rc = c->statuses[0];
        if (rc == PST_E_UNIMPLEMENTED) {
            (void)k_holds(s, key, 10, 1);
        } else if (i == 0) {
            k_that(t, rc == PST_E_PRECONDITION,
                   "expected remove with another etag: PRECONDITION, got "
                   "%s",
                   k_rc_name(rc));
            (void)k_holds(s, key, 10, 1);
        } else {
            k_that(t, rc == PST_OK, "expected remove with the current etag: OK, got %s",
                   k_rc_name(rc));
            (void)k_absent(s, key);
        }
        k_call_free(c);
    }
}

/* ---- containers, append, cleanup ------------------------------------------------------------------ */

static pst_rc run_container(struct k_store *s, enum k_slot slot, pst_str name)
{
    struct k_call *c = k_call_new(s, slot, NULL);
    c->in.container.name = name;
    pst_rc rc = k_call_run(c);
    k_call_free(c);
    return rc;
}

static bool is_listed(struct k_store *s, pst_str parent, pst_str entry)
{
    struct k_listing l = {.prefix = parent};
    (void)k_list(s, &l);
    bool is_there = k_entries_find(&l.entries, entry) != NULL;
    k_entries_fini(&l.entries);
    return is_there;
}

void k_WRITE_033(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_CONTAINER | PST_CAP_EMPTY_DIRS | PST_CAP_REMOVE);
    pst_str parent = k_key(t, "%s", ""), name = k_key(t, "made"), entry = k_key(t, "made/");
    pst_str object = k_key(t, "made/object");
    if (!s)
        return;
    pst_rc rc = run_container(s, K_CONTAINER_CREATE, name);
    k_that(t, rc == PST_OK, "expected container_create: OK, got %s", k_rc_name(rc));
    k_that(t, is_listed(s, parent, entry), "expected the container %s to be listed, got none",
           k_show(entry));
    rc = run_container(s, K_CONTAINER_CREATE, name);
    k_that(t, rc == PST_E_EXISTS, "expected container_create of one that is there: EXISTS, got %s",
           k_rc_name(rc));
    if (!k_make(s, object, 10, 1))
        return;
    rc = run_container(s, K_CONTAINER_DELETE, name);
    k_that(t, rc < 0, "expected container_delete of one with an object in it to fail, got %s",
           k_rc_name(rc));
    (void)k_holds(s, object, 10, 1);
    (void)k_remove(s, object);
    rc = run_container(s, K_CONTAINER_DELETE, name);
    k_that(t, rc == PST_OK || rc == PST_E_NOT_FOUND,
           "expected container_delete of an empty one: OK, "
           "got %s",
           k_rc_name(rc));
    k_that(t, !is_listed(s, parent, entry),
           "expected the deleted container %s not to be listed, got "
           "it",
           k_show(entry));
    rc = run_container(s, K_CONTAINER_DELETE, name);
    k_that(t, rc == PST_E_NOT_FOUND,
           "expected container_delete of what is not there: NOT_FOUND, got "
           "%s",
           k_rc_name(rc));
}

void k_WRITE_034(struct k_test *t)
{
    struct k_store *s = k_need(t, BASIC | PST_CAP_APPEND);
    pst_str key = k_key(t, "appended");
    uint64_t size = 0;
    for (unsigned i = 0; s && i < 4; i++) {
        uint64_t more = 1000u * i + 7;
        struct k_source *src = k_source_new("append", (size_t)more, 5, size, 0);
        struct k_call *c = k_call_new(s, K_APPEND, NULL);
        c->in.put.key = key;
        c->in.put.src = src->iov;
        c->in.put.n_src = src->n;
        (void)k_call_run(c);
        bool is_done = k_want(c, PST_OK, "append");
        k_source_bury(src);
        k_call_free(c);
        size += more;
        if (!is_done || !k_holds(s, key, size, 5))
            break;
    }
}
