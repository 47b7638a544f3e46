/* bucket.c - the objects of the process.
 *
 * A bucket has the newest version of each key in an array, by key; older ones hang behind it, newest first,
 * as many as the store keeps. A delete puts a marker in front, as S3 does, and what goes over the number
 * that is kept is dropped. Objects in a bucket never change, so a reader needs the lock only to find one.
 *
 * Buckets are never freed: a store that is open points to its own. One that was deleted is not there. */
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct process mem_process = {.mutex = PTHREAD_MUTEX_INITIALIZER};

void mem_free_str(pst_str s)
{
    char *p = NULL;
    memcpy(&p, &s.ptr, sizeof(p));
    free(p);
}

int mem_dup_str(pst_str s, pst_str *out)
{
    char *p = malloc(s.len + 1);
    if (!p)
        return -1;
    if (s.len > 0)
        memcpy(p, s.ptr, s.len);
    *out = pst_str_of(p, s.len);
    return 0;
}

int mem_compare(pst_str a, pst_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n > 0 ? memcmp(a.ptr, b.ptr, n) : 0;
    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

uint32_t mem_crc32c(uint32_t crc, const unsigned char *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

/* ---- objects ------------------------------------------------------------------------------------ */

static void free_pairs(pst_kv *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mem_free_str(pairs[i].key);
        mem_free_str(pairs[i].value);
    }
    free(pairs);
}

static int dup_pairs(const pst_kv *from, size_t n, pst_kv **out, size_t *n_out)
{
    pst_kv *pairs = calloc(n + 1, sizeof(*pairs));
    if (!pairs)
        return -1;
    *out = pairs;
    for (size_t i = 0; i < n; i++) {
        *n_out = i + 1; /* what is not copied yet is {NULL, 0} */
        if (mem_dup_str(from[i].key, &pairs[i].key) != 0 ||
            mem_dup_str(from[i].value, &pairs[i].value) != 0)
            return -1;
    }
    return 0;
}

static int take_attr(struct object *o, const pst_attr *attr)
{
    size_t n_meta = PST_HAS(pst_attr, attr, n_user_meta) ? attr->n_user_meta : 0;
    size_t n_tags = PST_HAS(pst_attr, attr, n_tags) ? attr->n_tags : 0;
    if (mem_dup_str(attr->content_type, &o->content_type) != 0 ||
        mem_dup_str(attr->content_encoding, &o->content_encoding) != 0 ||
        dup_pairs(attr->user_meta, n_meta, &o->meta, &o->n_meta) != 0)
        return -1;
    return n_tags > 0 ? dup_pairs(attr->tags, n_tags, &o->tags, &o->n_tags) : 0;
}

struct object *mem_object_new(pst_str key, uint64_t size, const pst_attr *attr)
{
    struct object *o = calloc(1, sizeof(*o));
    if (!o)
        return NULL;
    atomic_store(&o->n_refs, 1);
    o->size = size;
    o->data = malloc((size_t)size + 1);
    if (!o->data || mem_dup_str(key, &o->key) != 0 || (attr && take_attr(o, attr) != 0)) {
        mem_object_unref(o);
        return NULL;
    }
    return o;
}

struct object *mem_object_ref(struct object *o)
{
    atomic_fetch_add(&o->n_refs, 1);
    return o;
}

void mem_object_unref(struct object *o)
{
    if (!o || atomic_fetch_sub(&o->n_refs, 1) != 1)
        return;
    mem_free_str(o->key);
    mem_free_str(o->content_type);
    mem_free_str(o->content_encoding);
    free_pairs(o->meta, o->n_meta);
    free_pairs(o->tags, o->n_tags);
    free(o->data);
    free(o);
}

pst_str mem_etag(const struct object *o, char buf[ETAG_SIZE])
{
    int n = snprintf(buf, ETAG_SIZE, "g%llx", (unsigned long long)o->generation);
    return pst_str_of(buf, (size_t)n);
}

pst_str mem_version(const struct object *o, char buf[ETAG_SIZE])
{
    int n = snprintf(buf, ETAG_SIZE, "v%llx", (unsigned long long)o->generation);
    return pst_str_of(buf, (size_t)n);
}

int mem_matches(const struct object *o, pst_str if_match)
{
    char buf[ETAG_SIZE];
    return if_match.len == 0 || (o && mem_compare(mem_etag(o, buf), if_match) == 0);
}

/* ---- keys --------------------------------------------------------------------------------------- */

/* The first key that is not before `key`. */
size_t mem_lower_bound(const struct bucket *b, pst_str key)
{
    size_t low = 0, high = b->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (mem_compare(b->objects[middle]->key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct object **newest_of(const struct bucket *b, pst_str key)
{
    size_t i = mem_lower_bound(b, key);
    return i < b->n && mem_compare(b->objects[i]->key, key) == 0 ? &b->objects[i] : NULL;
}

struct object *mem_find(const struct bucket *b, pst_str key)
{
    struct object **newest = newest_of(b, key);
    return newest && !(*newest)->is_marker ? *newest : NULL;
}

struct object *mem_find_version(const struct bucket *b, pst_str key, pst_str version)
{
    struct object **newest = newest_of(b, key);
    char buf[ETAG_SIZE];
    for (struct object *o = newest ? *newest : NULL; o; o = o->older)
        if (mem_compare(mem_version(o, buf), version) == 0)
            return o;
    return NULL;
}

int mem_is_empty(const struct bucket *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (!b->objects[i]->is_marker)
            return 0;
    return 1;
}

static void drop_from(struct object *o)
{
    while (o) {
        struct object *older = o->older;
        o->older = NULL;
        mem_object_unref(o);
        o = older;
    }
}

static void forget_key(struct bucket *b, size_t i)
{
    b->n--;
    memmove(b->objects + i, b->objects + i + 1, (b->n - i) * sizeof(b->objects[0]));
}

static int make_room(struct bucket *b)
{
    if (b->n < b->cap)
        return 0;
    size_t cap = b->cap ? b->cap * 2 : 64;
    struct object **grown = calloc(cap, sizeof(*grown));
    if (!grown)
        return -1;
    if (b->n > 0)
        memcpy(grown, b->objects, b->n * sizeof(*grown));
    free(b->objects);
    b->objects = grown;
    b->cap = cap;
    return 0;
}

int mem_insert(struct bucket *b, struct object *o, unsigned n_kept)
{
    struct object **newest = newest_of(b, o->key);
    struct timespec now;
    if (!newest && make_room(b) != 0)
        return -1;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    o->mtime_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    o->generation = ++mem_process.generation;
    if (!newest) {
        size_t i = mem_lower_bound(b, o->key);
        memmove(b->objects + i + 1, b->objects + i, (b->n - i) * sizeof(b->objects[0]));
        b->objects[i] = o;
        b->n++;
        return 0;
    }
    o->older = *newest;
    *newest = o;
    for (unsigned i = 0; i < n_kept && o->older; i++)
        o = o->older;
    drop_from(o->older);
    o->older = NULL;
    return 0;
}

int mem_drop(struct bucket *b, pst_str key, unsigned n_kept)
{
    if (!mem_find(b, key))
        return 0;
    if (n_kept == 0) {
        size_t i = mem_lower_bound(b, key);
        drop_from(b->objects[i]);
        forget_key(b, i);
        return 0;
    }
    struct object *marker = mem_object_new(key, 0, NULL);
    if (!marker)
        return -1;
    marker->is_marker = 1;
    return mem_insert(b, marker, n_kept);
}

void mem_drop_version(struct bucket *b, pst_str key, pst_str version)
{
    struct object **newest = newest_of(b, key), **at = newest;
    char buf[ETAG_SIZE];
    while (at && *at && mem_compare(mem_version(*at, buf), version) != 0)
        at = &(*at)->older;
    if (!at || !*at)
        return;
    struct object *o = *at;
    *at = o->older;
    o->older = NULL;
    if (!*newest)
        forget_key(b, (size_t)(newest - b->objects));
    mem_object_unref(o);
}

/* ---- buckets ------------------------------------------------------------------------------------ */

struct bucket *mem_bucket_find(pst_str authority)
{
    for (struct bucket *b = mem_process.buckets; b; b = b->next)
        if (mem_compare(b->authority, authority) == 0)
            return b;
    return NULL;
}

struct bucket *mem_bucket_make(pst_str authority)
{
    struct bucket *b = mem_bucket_find(authority);
    if (!b) {
        b = calloc(1, sizeof(*b));
        if (!b || mem_dup_str(authority, &b->authority) != 0) {
            free(b);
            return NULL;
        }
        b->next = mem_process.buckets;
        mem_process.buckets = b;
    }
    atomic_store(&b->is_there, 1);
    return b;
}
