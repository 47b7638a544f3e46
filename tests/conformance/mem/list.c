/* list.c - listings of keys, of their versions, and of buckets, by token.
 *
 * A page is filled under the lock, with a reference to each object, and handed over without it. The token
 * is the last key that was listed; in a listing of versions the generation comes before it, in 16
 * hexadecimal digits, and what is left of that key are its older ones. */
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>

#define TOKEN_DIGITS 16u

struct page {
    pst_entry entries[PAGE_MAX];
    struct object *refs[PAGE_MAX];
    char etags[PAGE_MAX][ETAG_SIZE], versions[PAGE_MAX][ETAG_SIZE];
    size_t n, max;
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
    page->refs[page->n] = mem_object_ref(o);
    e->key = o->key;
    if (slash) {
        e->key.len = (size_t)(slash - o->key.ptr) + 1;
        e->kind = PST_KIND_PREFIX;
        e->mtime_ns = PST_TIME_UNKNOWN;
    } else {
        e->size = o->size;
        e->mtime_ns = o->mtime_ns;
        e->content_encoding = o->content_encoding;
    }
    if (!slash && !o->is_marker) {
        e->etag = mem_etag(o, page->etags[page->n]);
        e->etag_strength = PST_ETAG_STRONG;
    }
    if (!slash && (flags & PST_LIST_VERSIONS))
        e->version = mem_version(o, page->versions[page->n]);
    if (!slash && o->is_marker)
        e->flags |= PST_ENTRY_DELETE_MARKER;
    page->n++;
}

/* Is `o` behind the common prefix that was added last? */
static int is_in_last_group(const struct page *page, const struct object *o)
{
    const pst_entry *last = page->n > 0 ? &page->entries[page->n - 1] : NULL;
    return last && last->kind == PST_KIND_PREFIX && starts_with(o->key, last->key);
}

/* The versions of one key that are older than `before`. 0: the page is full. */
static int add_versions(struct page *page, struct object *newest, const pst_list_args *a,
                        uint64_t before)
{
    for (struct object *o = newest; o; o = o->older) {
        if (o->generation >= before || is_in_last_group(page, o))
            continue;
        if (page->n == page->max) {
            page->has_more = 1;
            return 0;
        }
        add_entry(page, o, a->prefix, a->flags);
        if (o == newest && page->entries[page->n - 1].kind == PST_KIND_OBJECT)
            page->entries[page->n - 1].flags |= PST_ENTRY_LATEST;
    }
    return 1;
}

static int add_key(struct page *page, struct object *o, const pst_list_args *a)
{
    if (o->is_marker || is_in_last_group(page, o))
        return 1;
    if (page->n == page->max) {
        page->has_more = 1;
        return 0;
    }
    add_entry(page, o, a->prefix, a->flags);
    return 1;
}

static void fill_page(struct bucket *b, const pst_list_args *a, struct page *page)
{
    int has_versions = (a->flags & PST_LIST_VERSIONS) != 0;
    pst_str token = a->page_token;
    uint64_t before = UINT64_MAX; /* generations of the token's key that are still to come */
    if (has_versions && token.len > TOKEN_DIGITS) {
        char digits[TOKEN_DIGITS + 1] = "";
        memcpy(digits, token.ptr, TOKEN_DIGITS);
        before = strtoull(digits, NULL, 16);
        token = pst_str_of(token.ptr + TOKEN_DIGITS, token.len - TOKEN_DIGITS);
    }
    pst_str after = mem_compare(token, a->start_after) > 0 ? token : a->start_after;
    int skips_group = !(a->flags & PST_LIST_RECURSIVE) && after.len > 0 &&
                      after.ptr[after.len - 1] == '/' && mem_compare(after, token) == 0;
    (void)pthread_mutex_lock(&mem_process.mutex);
    size_t i = mem_lower_bound(b, mem_compare(after, a->prefix) > 0 ? after : a->prefix);
    for (int is_room = 1; is_room && i < b->n && starts_with(b->objects[i]->key, a->prefix); i++) {
        struct object *o = b->objects[i];
        int order = after.len > 0 ? mem_compare(o->key, after) : 1;
        int is_resumed = has_versions && token.len > 0 && mem_compare(o->key, token) == 0;
        if ((order <= 0 && !is_resumed) || (skips_group && starts_with(o->key, after)))
            continue;
        is_room = has_versions ? add_versions(page, o, a, is_resumed ? before : UINT64_MAX)
                               : add_key(page, o, a);
    }
    (void)pthread_mutex_unlock(&mem_process.mutex);
}

static int tell_token(pst_op *op, const struct page *page, uint32_t flags, pst_str *token)
{
    const pst_entry *last = &page->entries[page->n - 1];
    if (!(flags & PST_LIST_VERSIONS))
        return mem_op_dup(op, last->key, token);
    char *text = op->host->op_alloc(op->host, op, TOKEN_DIGITS + 1 + last->key.len);
    if (!text)
        return -1;
    (void)snprintf(text, TOKEN_DIGITS + 1, "%016llx",
                   (unsigned long long)page->refs[page->n - 1]->generation);
    memcpy(text + TOKEN_DIGITS, last->key.ptr, last->key.len);
    *token = pst_str_of(text, TOKEN_DIGITS + last->key.len);
    return 0;
}

static pst_rc do_list(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_list_args *a = args;
    pst_list_result *r = result;
    if (!atomic_load(&b->bucket->is_there)) {
        op->err->flags |= PST_ERR_NO_CONTAINER;
        return mem_fail(op, PST_E_NOT_FOUND, a->prefix, "no such bucket");
    }
    struct page *page = b->host->alloc(b->host, sizeof(*page), 16);
    if (!page)
        return mem_fail(op, PST_E_NO_MEMORY, a->prefix, "out of memory");
    page->max = a->max_entries > 0 && a->max_entries < PAGE_MAX ? a->max_entries : PAGE_MAX;
    page->n = 0;
    page->has_more = 0;
    fill_page(b->bucket, a, page);
    pst_rc rc = PST_OK;
    if (page->n > 0)
        rc = op->host->list_emit(op->host, op, page->entries, page->n, sizeof(pst_entry));
    if (rc == PST_OK && page->has_more && PST_HAS(pst_list_result, r, next_token) &&
        tell_token(op, page, a->flags, &r->next_token) != 0)
        rc = mem_fail(op, PST_E_NO_MEMORY, a->prefix, "out of memory");
    for (size_t i = 0; i < page->n; i++)
        mem_object_unref(page->refs[i]);
    b->host->dealloc(b->host, page);
    return rc;
}

pst_rc mem_list(pst_backend *b, pst_op *op, const pst_list_args *a, pst_list_result *r)
{
    return mem_submit(b, b, op, a, r, do_list);
}

/* ---- buckets ------------------------------------------------------------------------------------ */

static pst_rc check_name(pst_backend *b, pst_op *op, pst_str *name)
{
    if (name->len == 0)
        *name = b->bucket->authority;
    return name->len == 0 || memchr(name->ptr, '/', name->len)
               ? mem_fail(op, PST_E_INVALID, *name, "no name of a bucket")
               : (pst_rc)PST_OK;
}

pst_rc mem_container_create(pst_backend *b, pst_op *op, const pst_container_args *a, pst_result *r)
{
    pst_str name = a->name;
    pst_rc rc = check_name(b, op, &name);
    (void)r;
    if (rc != PST_OK)
        return rc;
    (void)pthread_mutex_lock(&mem_process.mutex);
    const struct bucket *bucket = mem_bucket_find(name);
    if (bucket && atomic_load(&bucket->is_there))
        rc = mem_fail(op, PST_E_EXISTS, name, "exists");
    else if (!mem_bucket_make(name))
        rc = mem_fail(op, PST_E_NO_MEMORY, name, "out of memory");
    (void)pthread_mutex_unlock(&mem_process.mutex);
    return rc;
}

pst_rc mem_container_delete(pst_backend *b, pst_op *op, const pst_container_args *a, pst_result *r)
{
    pst_str name = a->name;
    pst_rc rc = check_name(b, op, &name);
    (void)r;
    if (rc != PST_OK)
        return rc;
    (void)pthread_mutex_lock(&mem_process.mutex);
    struct bucket *bucket = mem_bucket_find(name);
    if (!bucket || !atomic_load(&bucket->is_there))
        rc = mem_fail(op, PST_E_NOT_FOUND, name, "no such bucket");
    else if (!mem_is_empty(bucket))
        rc = mem_fail(op, PST_E_PRECONDITION, name, "the bucket is not empty");
    else
        atomic_store(&bucket->is_there, 0);
    (void)pthread_mutex_unlock(&mem_process.mutex);
    return rc;
}

/* All in one page; there are never many. */
pst_rc mem_container_list(pst_backend *b, pst_op *op, const pst_list_args *a, pst_list_result *r)
{
    pst_entry entries[64];
    size_t n = 0;
    (void)b;
    (void)r;
    (void)pthread_mutex_lock(&mem_process.mutex);
    for (const struct bucket *bucket = mem_process.buckets; bucket && n < 64;
         bucket = bucket->next) {
        if (!atomic_load(&bucket->is_there) || bucket->authority.len == 0 ||
            !starts_with(bucket->authority, a->prefix))
            continue;
        entries[n++] = (pst_entry){
            .key = bucket->authority, .size = PST_UNKNOWN, .mtime_ns = PST_TIME_UNKNOWN};
    }
    (void)pthread_mutex_unlock(&mem_process.mutex);
    return n > 0 ? op->host->list_emit(op->host, op, entries, n, sizeof(entries[0]))
                 : (pst_rc)PST_OK;
}
