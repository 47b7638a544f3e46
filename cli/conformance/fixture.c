/* fixture.c - what the requirements are made of: keys, contents, objects, listings, writers, and the
 * state of the process.
 *
 * Contents are a function of a seed and the position, so nothing needs to be kept to be compared.
 * Sources lie on pages that can only be read, and only until the operation has completed. In profile
 * ro nothing is written: objects are those that the listing finds, and what a whole read of one
 * returned is the truth that all other reads are held against. */
#include <dirent.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
    struct k_call *c = k_call_new(s, K_PUT, NULL);
    c->in.put.key = key;
    c->in.put.size_hint = size;
    c->in.put.src = src->iov;
    c->in.put.n_src = src->n;
    pst_rc rc = k_call_run(c);
    k_source_bury(src);
    if (rc < 0)
        k_step(s->test, "put of %s: %s: %s", k_show(key), k_rc_name(rc), c->error.message);
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
    struct k_call *c = k_call_new(s, K_STAT, NULL);
    c->in.stat.key = key;
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
    struct k_call *c = k_call_new(s, K_READ, NULL);
    c->in.read.key = key;
    c->in.read.offset = offset;
    c->in.read.length = length;
    k_call_dst(c, (size_t)length, 0, K_AT_END);
    pst_rc rc = k_call_run(c);
    *bytes = NULL;
    *n = 0;
    if (rc == PST_OK)
        *bytes = k_call_bytes(c, n);
    k_call_free(c);
    return rc;
}

static uint64_t align_up(const struct k_store *s, uint64_t n)
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
        uint64_t length = size - done < chunk ? align_up(s, size - done + 1) : chunk;
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
        pst_rc rc = k_read(s, key, 0, align_up(s, 1), &bytes, &n);
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

/* ---- listings ---------------------------------------------------------------------------------- */

static pst_str dup_str(pst_str s)
{
    char *copy = (char *)k_alloc(s.len + 1);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    return pst_str_of(copy, s.len);
}

void k_entries_add(struct k_entries *e, const pst_entry *entry)
{
    if (e->n == e->cap) {
        e->cap = e->cap ? e->cap * 2 : 64;
        pst_entry *all = (pst_entry *)(void *)k_alloc(e->cap * sizeof(pst_entry));
        if (e->n > 0)
            memcpy(all, e->all, e->n * sizeof(pst_entry));
        k_free(e->all);
        e->all = all;
    }
    pst_entry *copy = &e->all[e->n++];
    *copy = *entry;
    copy->key = dup_str(entry->key);
    copy->etag = dup_str(entry->etag);
    copy->version = dup_str(entry->version);
    copy->content_encoding = dup_str(entry->content_encoding);
    copy->storage_class = dup_str(entry->storage_class);
}

static void free_str(pst_str s)
{
    char *p = NULL;
    memcpy(&p, &s.ptr, sizeof(p));
    k_free(p);
}

void k_entries_fini(struct k_entries *e)
{
    for (size_t i = 0; i < e->n; i++) {
        free_str(e->all[i].key);
        free_str(e->all[i].etag);
        free_str(e->all[i].version);
        free_str(e->all[i].content_encoding);
        free_str(e->all[i].storage_class);
    }
    k_free(e->all);
    memset(e, 0, sizeof(*e));
}

const pst_entry *k_entries_find(const struct k_entries *e, pst_str key)
{
    for (size_t i = 0; i < e->n; i++)
        if (k_str_eq(e->all[i].key, key))
            return &e->all[i];
    return NULL;
}

static void take_page(struct k_listing *l, struct k_call *c)
{
    l->n_pages++;
    if (c->entries.n > l->largest_page)
        l->largest_page = (uint32_t)c->entries.n;
    for (size_t i = 0; i < c->entries.n; i++)
        k_entries_add(&l->entries, &c->entries.all[i]);
}

#define PAGES_MAX 100000u

static pst_rc list_by_token(struct k_store *s, struct k_listing *l)
{
    char *token = NULL;
    size_t token_len = 0;
    pst_rc rc;
    do {
        struct k_call *c = k_call_new(s, K_LIST, NULL);
        c->in.list.prefix = l->prefix;
        c->in.list.start_after = l->start_after;
        c->in.list.flags = l->flags;
        c->in.list.max_entries = l->max_entries;
        c->in.list.page_token = pst_str_of(token, token_len);
        rc = k_call_run(c);
        k_free(token);
        token = NULL;
        token_len = 0;
        if (rc == PST_OK) {
            take_page(l, c);
            pst_str next = c->out.list.next_token;
            token_len = next.len;
            token = (char *)k_alloc(token_len);
            if (token_len > 0)
                memcpy(token, next.ptr, token_len);
        }
        k_call_free(c);
    } while (rc == PST_OK && token_len > 0 && l->n_pages < PAGES_MAX);
    k_free(token);
    return rc;
}

static pst_rc list_by_cursor(struct k_store *s, struct k_listing *l)
{
    struct k_call *c = k_call_new(s, K_LIST_OPEN, NULL);
    c->in.list.prefix = l->prefix;
    c->in.list.start_after = l->start_after;
    c->in.list.flags = l->flags;
    c->in.list.max_entries = l->max_entries;
    pst_rc rc = k_call_run(c);
    pst_cursor *cursor = rc == PST_OK ? c->out.cursor.cursor : NULL;
    k_call_free(c);
    if (rc != PST_OK)
        return rc;
    if (!k_that(s->test, cursor != NULL, "expected list_open to return a cursor, got NULL"))
        return PST_E_INTERNAL;
    bool is_last = false;
    while (rc == PST_OK && !is_last && l->n_pages < PAGES_MAX) {
        c = k_call_new(s, K_LIST_PAGE, cursor);
        c->in.page.max_entries = l->max_entries;
        rc = k_call_run(c);
        if (rc == PST_OK) {
            take_page(l, c);
            is_last = (c->out.list.flags & PST_PAGE_LAST) != 0;
        }
        k_call_free(c);
    }
    s->ops->list_close(cursor);
    return rc;
}

bool k_lists_by_cursor(struct k_store *s)
{
    struct k_listing probe = {.prefix = k_key(s->test, "nothing-to-list/"), .max_entries = 1};
    if (s->by_cursor == K_NOT_ASKED)
        s->by_cursor = k_has_slot(s, K_LIST_OPEN) && k_has_slot(s, K_LIST_PAGE) &&
                               list_by_cursor(s, &probe) != PST_E_UNIMPLEMENTED
                           ? K_CAN
                           : K_CANNOT;
    k_entries_fini(&probe.entries);
    return s->by_cursor == K_CAN;
}

bool k_lists_by_token(struct k_store *s)
{
    struct k_listing probe = {.prefix = k_key(s->test, "nothing-to-list/"), .max_entries = 1};
    if (s->by_token == K_NOT_ASKED)
        s->by_token = k_has_slot(s, K_LIST) && list_by_token(s, &probe) != PST_E_UNIMPLEMENTED
                          ? K_CAN
                          : K_CANNOT;
    k_entries_fini(&probe.entries);
    return s->by_token == K_CAN;
}

pst_rc k_list(struct k_store *s, struct k_listing *l)
{
    if (l->use_cursor || (!l->use_token && k_lists_by_cursor(s)))
        return list_by_cursor(s, l);
    return list_by_token(s, l);
}

/* ---- objects to read --------------------------------------------------------------------------- */

#define FOUND_MAX ((uint64_t)64 * 1024 * 1024)

static bool find_object(struct k_store *s, uint64_t size, struct k_object *out)
{
    struct k_test *t = s->test;
    struct k_listing l = {.prefix = t->config->prefix, .flags = PST_LIST_RECURSIVE};
    const pst_entry *best = NULL;
    pst_rc rc = k_list(s, &l);
    if (!k_that(t, rc == PST_OK, "expected the listing under the URI: OK, got %s", k_rc_name(rc)))
        return false;
    for (size_t i = 0; i < l.entries.n; i++) {
        const pst_entry *e = &l.entries.all[i];
        if (e->kind != PST_KIND_OBJECT || e->size > FOUND_MAX)
            continue;
        if (!best || (best->size < size && e->size > best->size) ||
            (best->size > size && e->size >= size && e->size < best->size))
            best = e;
    }
    if (best) {
        out->key = dup_str(best->key);
        out->size = best->size;
    }
    k_entries_fini(&l.entries);
    return k_that(t, best != NULL,
                  "expected at least one object under the URI (profile ro reads "
                  "what is there), got none");
}

bool k_object(struct k_store *s, uint64_t size, struct k_object *out)
{
    struct k_test *t = s->test;
    memset(out, 0, sizeof(*out));
    if (t->config->profile != K_RO) {
        out->key = dup_str(k_key(t, "object-%llu", (unsigned long long)size));
        out->size = size;
        out->data = k_alloc((size_t)size + 1);
        k_fill(out->data, (size_t)size, size + 7, 0);
        return k_make(s, out->key, size, size + 7);
    }
    if (!find_object(s, size, out))
        return false;
    uint64_t n = 0;
    pst_rc rc = k_read(s, out->key, 0, align_up(s, out->size + 1), &out->data, &n);
    return k_that(t, rc == PST_OK && n == out->size,
                  "expected the %llu bytes of %s that the listing shows, got %s and %llu",
                  (unsigned long long)out->size, k_show(out->key), k_rc_name(rc),
                  (unsigned long long)n);
}

void k_object_fini(struct k_object *o)
{
    free_str(o->key);
    k_free(o->data);
    memset(o, 0, sizeof(*o));
}

static int compare_keys(const void *a, const void *b)
{
    const pst_str *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int order = n > 0 ? memcmp(x->ptr, y->ptr, n) : 0;
    if (order != 0)
        return order;
    return x->len < y->len ? -1 : x->len > y->len;
}

static bool found_corpus(struct k_store *s, struct k_corpus *out)
{
    struct k_listing l = {.prefix = out->prefix, .flags = PST_LIST_RECURSIVE};
    pst_rc rc = k_list(s, &l);
    out->keys = (pst_str *)(void *)k_alloc((l.entries.n + 1) * sizeof(pst_str));
    for (size_t i = 0; i < l.entries.n; i++)
        out->keys[out->n++] = dup_str(l.entries.all[i].key);
    k_entries_fini(&l.entries);
    return k_that(s->test, rc == PST_OK && out->n > 0,
                  "expected at least one object under the URI, got %s and %zu", k_rc_name(rc),
                  out->n);
}

bool k_corpus(struct k_store *s, struct k_corpus *out)
{
    struct k_test *t = s->test;
    static const char *const special[] = {"a-b", "a/x", "a0", "a/y/z", "a!"};
    memset(out, 0, sizeof(*out));
    if (t->config->profile == K_RO) {
        out->prefix = dup_str(t->config->prefix);
        if (!found_corpus(s, out))
            return false;
        qsort(out->keys, out->n, sizeof(pst_str), compare_keys);
        return true;
    }
    /* Shared by all listing tests of a run: they only read it. */
    char base[sizeof(t->base)];
    memcpy(base, t->base, sizeof(base));
    size_t base_len = t->base_len;
    t->base_len = (size_t)snprintf(t->base, sizeof(t->base), "%.*spst-conformance-%d/list/",
                                   (int)t->config->prefix.len, t->config->prefix.ptr,
                                   t->config->run_id);
    size_t n_flat = t->config->profile == K_FULL ? 1290 : 90;
    size_t n_below = t->config->profile == K_FULL ? 200 : 20;
    size_t n = n_flat + n_below + sizeof(special) / sizeof(special[0]);
    out->prefix = k_key(t, "%s", "");
    out->keys = (pst_str *)(void *)k_alloc(n * sizeof(pst_str));
    for (size_t i = 0; i < n_flat; i++)
        out->keys[out->n++] = k_key(t, "n%04zu", i);
    for (size_t i = 0; i < n_below; i++)
        out->keys[out->n++] = k_key(t, "dir%zu/f%03zu", i % 10, i / 10);
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++)
        out->keys[out->n++] = k_key(t, "%s", special[i]);
    struct k_attrs a;
    bool is_there = k_stat(s, out->keys[n - 1], &a) == PST_OK;
    bool is_made = true;
    for (size_t i = 0; i < n && !is_there && is_made; i++)
        is_made = k_make(s, out->keys[i], i % 5, i);
    qsort(out->keys, out->n, sizeof(pst_str), compare_keys);
    memcpy(t->base, base, sizeof(base));
    t->base_len = base_len;
    return is_made;
}

void k_corpus_fini(struct k_corpus *c)
{
    for (size_t i = 0; i < c->n; i++)
        free_str(c->keys[i]);
    k_free(c->keys);
    free_str(c->prefix);
    memset(c, 0, sizeof(*c));
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

/* ---- the process ------------------------------------------------------------------------------- */

static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;
    if (!dir)
        return -1;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        n += e->d_name[0] != '.';
    (void)closedir(dir);
    return n;
}

int k_count_threads(void)
{
    return count_entries("/proc/self/task");
}

static uint64_t hash(uint64_t h, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ull;
    return h;
}

extern char **environ;

void k_process_look(struct k_process *out)
{
    memset(out, 0, sizeof(*out));
    out->n_fds = count_entries("/proc/self/fd") - 1;
    out->n_threads = k_count_threads();
    mode_t mask = umask(0);
    (void)umask(mask);
    out->umask_bits = (unsigned)mask;
    if (!getcwd(out->cwd, sizeof(out->cwd)))
        out->cwd[0] = '\0';
    (void)snprintf(out->locale, sizeof(out->locale), "%s", setlocale(LC_ALL, NULL));
    out->environment = 1;
    for (char **e = environ; e && *e; e++)
        out->environment = hash(out->environment, *e, strlen(*e) + 1);
    out->signals = 1;
    for (int i = 1; i < 65; i++) {
        struct sigaction action;
        memset(&action, 0, sizeof(action));
        if (sigaction(i, NULL, &action) == 0) {
            out->signals = hash(out->signals, &action.sa_handler, sizeof(action.sa_handler));
            out->signals = hash(out->signals, &action.sa_flags, sizeof(action.sa_flags));
        }
    }
    sigset_t set;
    (void)sigemptyset(&set);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &set);
    out->signal_mask = 1;
    for (int i = 1; i < 65; i++)
        out->signal_mask = out->signal_mask * 3 + (uint64_t)(sigismember(&set, i) == 1);
}

void k_process_compare(struct k_test *t, const struct k_process *before,
                       const struct k_process *after, const char *when, uint32_t what)
{
    if (what & K_SAME_FDS)
        k_that(t, before->n_fds == after->n_fds, "expected %d open descriptors %s, got %d",
               before->n_fds, when, after->n_fds);
    if (what & K_SAME_THREADS)
        k_that(t, before->n_threads == after->n_threads, "expected %d threads %s, got %d",
               before->n_threads, when, after->n_threads);
    if (!(what & K_SAME_REST))
        return;
    k_that(t, before->umask_bits == after->umask_bits, "expected umask %03o %s, got %03o",
           before->umask_bits, when, after->umask_bits);
    k_that(t, strcmp(before->cwd, after->cwd) == 0, "expected the working directory %s %s, got %s",
           before->cwd, when, after->cwd);
    k_that(t, strcmp(before->locale, after->locale) == 0, "expected the locale %s %s, got %s",
           before->locale, when, after->locale);
    k_that(t, before->environment == after->environment,
           "expected the environment %s to be the same, got another", when);
    k_that(t, before->signals == after->signals,
           "expected the signal handlers %s to be the same, got others", when);
    k_that(t, before->signal_mask == after->signal_mask,
           "expected the signal mask %s to be the same, got another", when);
}
