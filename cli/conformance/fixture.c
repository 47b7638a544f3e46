/* fixture.c - what the requirements are made of: memory, keys, contents, single operations, writers.
 *
 * Contents are a function of a seed and the position, so nothing needs to be kept to be compared.
 * Sources lie on pages that can only be read, and only until the operation has completed. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kit.h"

/* Counted, so that what the plugin takes from malloc can be told apart. */
static atomic_long kit_bytes;
#define CHUNK_HEADER 8

unsigned char *k_alloc(size_t n)
{
    unsigned char *p = calloc(1, n > 0 ? n : 1);
    if (!p)
        _exit(71);
    atomic_fetch_add(&kit_bytes, (long)malloc_usable_size(p) + CHUNK_HEADER);
    return p;
}

void k_free(void *p)
{
    if (p)
        atomic_fetch_sub(&kit_bytes, (long)malloc_usable_size(p) + CHUNK_HEADER);
    free(p);
}

long k_plugin_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return (long)(info.uordblks + info.hblkhd) - atomic_load(&kit_bytes);
}

pst_str k_text(const char *text)
{
    return pst_str_of(text, strlen(text));
}

bool k_str_eq(pst_str a, pst_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

pst_str k_key_bytes(struct k_test *t, pst_str name)
{
    char *key = (char *)k_alloc(t->base_len + name.len + 1);
    memcpy(key, t->base, t->base_len);
    if (name.len > 0)
        memcpy(key + t->base_len, name.ptr, name.len);
    return pst_str_of(key, t->base_len + name.len);
}

pst_str k_key(struct k_test *t, const char *format, ...)
{
    char name[1024];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(name, sizeof(name), format, ap);
    va_end(ap);
    return k_key_bytes(t, pst_str_of(name, n > 0 ? (size_t)n : 0));
}

/* ---- contents ---------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ (x >> 33);
}

static unsigned char pattern_at(uint64_t seed, uint64_t position, uint64_t *word)
{
    if (position % 8 == 0 || *word == 0)
        *word = mix(seed * 0x9e3779b97f4a7c15ull + position / 8 + 1);
    return (unsigned char)(*word >> (position % 8 * 8));
}

void k_fill(unsigned char *buf, size_t n, uint64_t seed, uint64_t offset)
{
    uint64_t word = 0;
    for (size_t i = 0; i < n; i++)
        buf[i] = pattern_at(seed, offset + i, &word);
}

size_t k_differs(const unsigned char *buf, size_t n, uint64_t seed, uint64_t offset)
{
    uint64_t word = 0;
    for (size_t i = 0; i < n; i++)
        if (buf[i] != pattern_at(seed, offset + i, &word))
            return i;
    return SIZE_MAX;
}

/* ---- objects ----------------------------------------------------------------------------------- */

struct k_call *k_new_stat(struct k_store *s, pst_str key)
{
    struct k_call *c = k_call_new(s, K_STAT, NULL);
    c->in.stat.key = key;
    return c;
}

struct k_call *k_new_read(struct k_store *s, pst_str key, uint64_t offset, uint64_t length)
{
    struct k_call *c = k_call_new(s, K_READ, NULL);
    c->in.read.key = key;
    c->in.read.offset = offset;
    c->in.read.length = length;
    return c;
}

struct k_call *k_new_put(struct k_store *s, pst_str key, const struct k_source *src, uint64_t size)
{
    struct k_call *c = k_call_new(s, K_PUT, NULL);
    c->in.put.key = key;
    c->in.put.size_hint = size;
    c->in.put.src = src->iov;
    c->in.put.n_src = src->n;
    return c;
}

pst_str k_etag(const struct k_attrs *a)
{
    return pst_str_of(a->etag, strlen(a->etag));
}

static pst_rc upload_all(struct k_store *s, pst_str key, uint64_t size, uint64_t seed)
{
    struct k_writer w;
    uint32_t n = 0;
    if (!k_writer_open(&w, s, key, seed))
        return PST_E_INTERNAL;
    for (uint64_t done = 0; done < size; done += w.part_bytes, n++) {
        uint64_t len = size - done < w.part_bytes ? size - done : w.part_bytes;
        if (!k_writer_part(&w, n, len))
            break;
    }
    pst_rc rc = k_writer_commit(&w, size, n);
    k_writer_free(&w);
    return rc;
}

pst_rc k_put(struct k_store *s, pst_str key, uint64_t size, uint64_t seed)
{
    if (!(s->caps & PST_CAP_PUT))
        return upload_all(s, key, size, seed);
    struct k_source *src = k_source_new("put", (size_t)size, seed, 0, 0);
    struct k_call *c = k_new_put(s, key, src, size);
    pst_rc rc = k_call_run(c);
    k_source_bury(src);
    k_call_free(c);
    return rc;
}

bool k_make(struct k_store *s, pst_str key, uint64_t size, uint64_t seed)
{
    pst_rc rc = k_put(s, key, size, seed);
    return k_that(s->test, rc == PST_OK, "expected %s of %llu bytes to be written, got %s",
                  k_show(key), (unsigned long long)size, k_rc_name(rc));
}

pst_rc k_stat(struct k_store *s, pst_str key, struct k_attrs *out)
{
    struct k_call *c = k_new_stat(s, key);
    pst_rc rc = k_call_run(c);
    memset(out, 0, sizeof(*out));
    if (rc == PST_OK) {
        out->size = c->out.attr.size;
        out->mtime_ns = c->out.attr.mtime_ns;
        out->kind = c->out.attr.kind;
        out->etag_strength = c->out.attr.etag_strength;
        if (c->out.attr.etag.len < sizeof(out->etag))
            memcpy(out->etag, c->out.attr.etag.ptr, c->out.attr.etag.len);
    }
    k_call_free(c);
    return rc;
}

pst_rc k_read(struct k_store *s, pst_str key, uint64_t offset, uint64_t length,
              unsigned char **bytes, uint64_t *n)
{
    struct k_call *c = k_new_read(s, key, offset, length);
    k_call_dst(c, (size_t)length, 0, K_AT_END);
    pst_rc rc = k_call_run(c);
    *bytes = NULL;
    *n = 0;
    if (rc == PST_OK)
        *bytes = k_call_bytes(c, n);
    k_call_free(c);
    return rc;
}

uint64_t k_align_up(const struct k_store *s, uint64_t n)
{
    uint64_t align = s->limits.io_align > 1 ? s->limits.io_align : 1;
    return (n + align - 1) / align * align;
}

bool k_holds(struct k_store *s, pst_str key, uint64_t size, uint64_t seed)
{
    struct k_test *t = s->test;
    uint64_t chunk = 8u * 1024 * 1024, done = 0;
    for (;;) {
        unsigned char *bytes = NULL;
        uint64_t n = 0;
        uint64_t length = size - done < chunk ? k_align_up(s, size - done + 1) : chunk;
        pst_rc rc = k_read(s, key, done, length, &bytes, &n);
        if (!k_that(t, rc == PST_OK, "expected %s to be read, got %s", k_show(key), k_rc_name(rc)))
            return false;
        uint64_t rest = size - done < length ? size - done : length;
        size_t at = k_differs(bytes, (size_t)(n < rest ? n : rest), seed, done);
        k_free(bytes);
        if (!k_that(t, n == rest, "expected %llu bytes of %s at %llu, got %llu",
                    (unsigned long long)rest, k_show(key), (unsigned long long)done,
                    (unsigned long long)n) ||
            !k_that(t, at == SIZE_MAX, "expected the bytes written to %s, got another one at %llu",
                    k_show(key), (unsigned long long)(done + at)))
            return false;
        done += n;
        if (done >= size)
            return true;
    }
}

bool k_absent(struct k_store *s, pst_str key)
{
    struct k_test *t = s->test;
    struct k_attrs a;
    unsigned char *bytes = NULL;
    uint64_t n = 0;
    bool is_absent = true;
    if (s->caps & PST_CAP_STAT) {
        pst_rc rc = k_stat(s, key, &a);
        is_absent &= k_that(t, rc == PST_E_NOT_FOUND, "expected stat of %s: NOT_FOUND, got %s",
                            k_show(key), k_rc_name(rc));
    }
    if (s->caps & PST_CAP_READ) {
        pst_rc rc = k_read(s, key, 0, k_align_up(s, 1), &bytes, &n);
        is_absent &= k_that(t, rc == PST_E_NOT_FOUND, "expected read of %s: NOT_FOUND, got %s",
                            k_show(key), k_rc_name(rc));
        k_free(bytes);
    }
    if (s->caps & PST_CAP_LIST) {
        struct k_listing l = {.prefix = key, .flags = PST_LIST_RECURSIVE};
        pst_rc rc = k_list(s, &l);
        is_absent &= k_that(t, rc == PST_OK && !k_entries_find(&l.entries, key),
                            "expected no listing to show %s, got %s", k_show(key),
                            rc == PST_OK ? "it" : k_rc_name(rc));
        k_entries_fini(&l.entries);
    }
    return is_absent;
}

pst_rc k_remove(struct k_store *s, pst_str key)
{
    struct k_call *c = k_call_new(s, K_REMOVE, NULL);
    c->in.remove.keys = &key;
    c->in.remove.n_keys = 1;
    pst_rc rc = k_call_run(c);
    if (rc == PST_OK)
        rc = c->statuses[0];
    k_call_free(c);
    return rc;
}

/* ---- sources ----------------------------------------------------------------------------------- */

struct k_source *k_source_new(const char *owner, size_t size, uint64_t seed, uint64_t offset,
                              size_t span)
{
    struct k_source *src = (struct k_source *)(void *)k_alloc(sizeof(*src));
    size_t done = 0;
    k_region_init(&src->region, owner, size + (span > 0 ? K_SPANS_MAX : 2) * 4u * 4096,
                  K_SPANS_MAX);
    while (done < size) {
        size_t len = size - done;
        if (span > 0 && span < len && src->n + 1 < K_SPANS_MAX)
            len = span + src->n % 3;
        len = len < size - done ? len : size - done;
        unsigned char *p = k_region_take(&src->region, "source", len, 1, K_AT_END);
        k_fill(p, len, seed, offset + done);
        k_region_protect(&src->region, p, PROT_READ);
        src->iov[src->n].ptr = p;
        src->iov[src->n].len = len;
        src->n++;
        done += len;
    }
    return src;
}

void k_source_bury(struct k_source *src)
{
    k_region_bury(&src->region);
}

/* ---- writers ----------------------------------------------------------------------------------- */

bool k_writer_open(struct k_writer *w, struct k_store *s, pst_str key, uint64_t seed)
{
    const pst_limits *l = &s->limits;
    memset(w, 0, sizeof(*w));
    w->store = s;
    w->key = key;
    w->seed = seed;
    w->part_bytes = 64 * 1024 > l->part_min ? 64 * 1024 : l->part_min;
    if (l->part_multiple > 1)
        w->part_bytes = (w->part_bytes + l->part_multiple - 1) / l->part_multiple *
                        l->part_multiple;
    if (l->part_max > 0 && w->part_bytes > l->part_max)
        w->part_bytes = l->part_max;
    struct k_call *c = k_call_new(s, K_UPLOAD_OPEN, NULL);
    c->in.put.key = key;
    c->in.put.size_hint = PST_UNKNOWN;
    (void)k_call_run(c);
    bool is_open = k_want(c, PST_OK, "upload_open");
    if (is_open)
        w->upload = c->out.upload.upload;
    k_call_free(c);
    return is_open &&
           k_that(s->test, w->upload != NULL, "expected upload_open to return an upload, got NULL");
}

bool k_writer_part(struct k_writer *w, uint32_t number, uint64_t size)
{
    uint64_t offset = number * w->part_bytes;
    struct k_source *src = k_source_new("upload_part", (size_t)size, w->seed, offset, 0);
    struct k_call *c = k_call_new(w->store, K_UPLOAD_PART, w->upload);
    c->in.part.offset = offset;
    c->in.part.number = number;
    c->in.part.src = src->iov;
    c->in.part.n_src = src->n;
    (void)k_call_run(c);
    bool is_sent = k_want(c, PST_OK, "upload_part");
    k_source_bury(src);
    k_call_free(c);
    return is_sent;
}

pst_rc k_writer_commit(struct k_writer *w, uint64_t size, uint32_t n_parts)
{
    struct k_call *c = k_call_new(w->store, K_UPLOAD_COMMIT, w->upload);
    c->in.commit.size = size;
    c->in.commit.n_parts = n_parts;
    pst_rc rc = k_call_run(c);
    if (rc == PST_OK && c->out.put.size != PST_UNKNOWN)
        k_that(w->store->test, c->out.put.size == size,
               "expected upload_commit to tell the size %llu, got %llu", (unsigned long long)size,
               (unsigned long long)c->out.put.size);
    k_call_free(c);
    return rc;
}

pst_rc k_writer_abort(struct k_writer *w)
{
    struct k_call *c = k_call_new(w->store, K_UPLOAD_ABORT, w->upload);
    pst_rc rc = k_call_run(c);
    k_call_free(c);
    return rc;
}

void k_writer_free(struct k_writer *w)
{
    if (w->upload)
        w->store->ops->upload_free(w->upload);
    w->upload = NULL;
}
