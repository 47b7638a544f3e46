/* object.c - objects to read and keys to list.
 *
 * They are made for the purpose, with contents that are known. In profile ro nothing is written: objects
 * are those that the listing finds, and what a whole read of one returned is the truth that all other
 * reads are held against. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kit.h"

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
        out->key = k_dup_str(best->key);
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
        out->key = k_dup_str(k_key(t, "object-%llu", (unsigned long long)size));
        out->size = size;
        out->data = k_alloc((size_t)size + 1);
        k_fill(out->data, (size_t)size, size + 7, 0);
        return k_make(s, out->key, size, size + 7);
    }
    if (!find_object(s, size, out))
        return false;
    uint64_t n = 0;
    pst_rc rc = k_read(s, out->key, 0, k_align_up(s, out->size + 1), &out->data, &n);
    return k_that(t, rc == PST_OK && n == out->size,
                  "expected the %llu bytes of %s that the listing shows, got %s and %llu",
                  (unsigned long long)out->size, k_show(out->key), k_rc_name(rc),
                  (unsigned long long)n);
}

void k_object_fini(struct k_object *o)
{
    k_free_str(o->key);
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
        out->keys[out->n++] = k_dup_str(l.entries.all[i].key);
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
        out->prefix = k_dup_str(t->config->prefix);
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
        k_free_str(c->keys[i]);
    k_free(c->keys);
    k_free_str(c->prefix);
    memset(c, 0, sizeof(*c));
}
