/* page.c - the entries of one page of a listing, until the host has taken them. */
#include "file.h"

#include <string.h>

#define CHUNK_BYTES 65536u

/* Text of entries. A chunk never moves, so entries may point into it. */
struct fst_chunk {
    struct fst_chunk *next;
    size_t used;
    char bytes[CHUNK_BYTES];
};

static char *take_text(struct fst_page *page, size_t size)
{
    if (!page->chunks || CHUNK_BYTES - page->chunks->used < size) {
        struct fst_chunk *chunk = page->host->alloc(page->host, sizeof(*chunk), 16);
        if (!chunk)
            return NULL;
        chunk->next = page->chunks;
        chunk->used = 0;
        page->chunks = chunk;
    }
    char *text = page->chunks->bytes + page->chunks->used;
    page->chunks->used += size;
    return text;
}

static pst_rc grow(struct fst_page *page, pst_op *op)
{
    size_t capacity = page->capacity > 0 ? page->capacity * 2 : 64;

    if (page->n < page->capacity)
        return PST_OK;
    pst_entry *entries = page->host->alloc(page->host, capacity * sizeof(*entries), 16);
    if (!entries)
        return fst_no_memory(op);
    if (page->entries) {
        memcpy(entries, page->entries, page->n * sizeof(*entries));
        page->host->dealloc(page->host, page->entries);
    }
    page->entries = entries;
    page->capacity = capacity;
    return PST_OK;
}

pst_rc fst_page_add(struct fst_page *page, pst_op *op, pst_str key, const struct stat *st)
{
    pst_rc rc = grow(page, op);

    if (rc != PST_OK)
        return rc;
    char *text = take_text(page, key.len + (st ? FST_ETAG_SIZE : 0));
    if (!text)
        return fst_no_memory(op);
    memcpy(text, key.ptr, key.len);
    pst_entry *entry = &page->entries[page->n++];
    memset(entry, 0, sizeof(*entry));
    entry->key = pst_str_of(text, key.len);
    if (st) {
        entry->kind = PST_KIND_OBJECT;
        entry->size = (uint64_t)st->st_size;
        entry->mtime_ns = fst_mtime_ns(st);
        entry->etag = fst_etag(st, text + key.len);
        entry->etag_strength = PST_ETAG_STRONG;
    } else {
        entry->kind = PST_KIND_PREFIX;
        entry->mtime_ns = PST_TIME_UNKNOWN;
    }
    return PST_OK;
}

void fst_page_drop(struct fst_page *page, size_t n)
{
    page->n -= n;
    if (page->n > 0) { /* the rest keeps its text where it is */
        memmove(page->entries, page->entries + n, page->n * sizeof(*page->entries));
        return;
    }
    while (page->chunks && page->chunks->next) { /* one chunk stays for the next page */
        struct fst_chunk *next = page->chunks->next;
        page->host->dealloc(page->host, page->chunks);
        page->chunks = next;
    }
    if (page->chunks)
        page->chunks->used = 0;
}

void fst_page_fini(struct fst_page *page)
{
    fst_page_drop(page, page->n);
    if (page->chunks)
        page->host->dealloc(page->host, page->chunks);
    if (page->entries)
        page->host->dealloc(page->host, page->entries);
}
