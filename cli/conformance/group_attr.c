/* group_attr.c - WRITE, the part about attributes and sums. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

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
            /* What nobody named may come back as the store's own default. */
            k_that(t,
                   want->content_type.len == 0 || k_str_eq(got->content_type, want->content_type),
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
    struct k_call *c = k_new_put(s, key, src, 100);
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
    struct k_store *s = k_need(t, K_WRITES | cap);
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

/* Each alone: it comes back, or is refused before anything is written. */
static void keep_or_refuse(struct k_store *s, const char *name, size_t offset, pst_str value)
{
    struct k_test *t = s->test;
    pst_attr attr = {.struct_size = sizeof(attr)};
    pst_str key = k_key(t, "attribute-%s", name);
    memcpy((char *)&attr + offset, &value, sizeof(value));
    pst_rc rc = put_attr(s, key, &attr);
    if (rc != PST_OK) {
        if (k_that(t, rc == PST_E_INVALID, "expected %s to be kept or refused with INVALID, got %s",
                   name, k_rc_name(rc)))
            (void)k_absent(s, key);
        return;
    }
    struct k_call *c = k_new_stat(s, key);
    (void)k_call_run(c);
    pst_str got;
    memcpy(&got, (const char *)&c->out.attr + offset, sizeof(got));
    if (k_want(c, PST_OK, "stat"))
        k_that(t, k_str_eq(got, value), "expected %s %s, got %s", name, k_show(value), k_show(got));
    k_call_free(c);
}

void k_WRITE_022(struct k_test *t)
{
    round_trip(t, PST_CAP_CONTENT_TYPE);
    struct k_store *s = &t->store;
    if (!s->backend || !(s->caps & PST_CAP_CONTENT_TYPE) || !(s->caps & PST_CAP_PUT))
        return;
    keep_or_refuse(s, "content_language", offsetof(pst_attr, content_language), PST_STR("de-AT"));
    keep_or_refuse(s, "content_disposition", offsetof(pst_attr, content_disposition),
                   PST_STR("attachment; filename=\"a b\""));
    keep_or_refuse(s, "cache_control", offsetof(pst_attr, cache_control), PST_STR("no-store"));
}

void k_WRITE_023(struct k_test *t)
{
    round_trip(t, PST_CAP_USER_META);
}

void k_WRITE_024(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_USER_META);
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

/* As a host has it whose pst_sum is longer. */
struct long_sum {
    pst_sum sum;
    unsigned char tail[16];
};

static struct long_sum make_sum(const struct k_source *src, bool is_right)
{
    struct long_sum x = {.sum = {.algorithm = PST_SUM_CRC32C, .length = 4}};
    memset(x.tail, K_POISON, sizeof(x.tail));
    uint32_t crc = crc32c(src->iov[0].ptr, src->iov[0].len) ^ (is_right ? 0 : 0x100);
    for (unsigned i = 0; i < 4; i++)
        x.sum.bytes[i] = (uint8_t)(crc >> (24 - 8 * i));
    return x;
}

static void put_sum(struct k_store *s, bool is_right)
{
    struct k_test *t = s->test;
    pst_str key = k_key(t, "sum-%d", is_right);
    struct k_source *src = k_source_new("put", 5000, 1, 0, 0);
    /* Another algorithm comes first: sums are found by stride. */
    struct long_sum sums[2] = {make_sum(src, is_right), make_sum(src, is_right)};
    sums[0].sum.algorithm = PST_SUM_CRC64NVME;
    sums[0].sum.length = 8;
    struct k_call *c = k_new_put(s, key, src, 5000);
    c->in.put.sums = &sums[is_right ? 1 : 0].sum;
    c->in.put.n_sums = is_right ? 1 : 2;
    c->in.put.sum_stride = sizeof(sums[0]);
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
        struct long_sum x = make_sum(src, false);
        struct k_call *c = k_call_new(s, K_UPLOAD_PART, w.upload);
        c->in.part.src = src->iov;
        c->in.part.n_src = src->n;
        c->in.part.sums = &x.sum;
        c->in.part.n_sums = 1;
        c->in.part.sum_stride = sizeof(x);
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
    struct k_store *s = k_need(t, K_WRITES);
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

void k_WRITE_027(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_COPY | PST_CAP_PUT | PST_CAP_USER_META);
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
    struct k_call *c = k_run_copy(s, K_COPY, from, kept, 0, NULL);
    if (k_want(c, PST_OK, "copy"))
        check_attr(s, kept, &x.attr, caps);
    k_call_free(c);
    const pst_kv meta = {PST_STR("new"), PST_STR("yes")};
    pst_attr other = {.struct_size = sizeof(other), .user_meta = &meta, .n_user_meta = 1};
    if (caps & PST_CAP_CONTENT_TYPE)
        other.content_type = PST_STR("image/png");
    c = k_run_copy(s, K_COPY, from, replaced, PST_COPY_REPLACE_ATTR, &other);
    if (k_want(c, PST_OK, "copy with other attributes")) {
        check_attr(s, replaced, &other, caps);
        (void)k_holds(s, replaced, 100, 1);
    }
    k_call_free(c);
}
