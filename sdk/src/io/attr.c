#include "io/attr.h"

#include <stdlib.h>
#include <string.h>

/* A cursor through the block: elements first, all 8-aligned by their size, then the bytes. */
struct block {
    char *at; /* NULL while the size is being counted */
    size_t used;
};

static void *take(struct block *block, size_t bytes)
{
    void *here = block->at ? block->at + block->used : NULL;
    block->used += bytes;
    return here;
}

static pst_str copy_str(struct block *block, pst_str from)
{
    if (from.len == 0)
        return (pst_str){NULL, 0};
    char *copy = take(block, from.len);
    if (copy)
        memcpy(copy, from.ptr, from.len);
    return (pst_str){copy, from.len};
}

static void copy_sums(struct block *block, const pst_attr *from, pst_attr *to)
{
    pst_sum *sums = take(block, from->n_sums * sizeof(*sums));
    size_t bytes = from->sum_stride < sizeof(*sums) ? from->sum_stride : sizeof(*sums);
    for (uint32_t i = 0; sums && i < from->n_sums; i++) {
        memset(&sums[i], 0, sizeof(sums[i]));
        memcpy(&sums[i], (const char *)from->sums + i * from->sum_stride, bytes);
    }
    to->sums = from->n_sums ? sums : NULL;
    to->sum_stride = sizeof(*sums);
}

/* The texts of `n` pairs; `to` has room for the pairs, or is NULL while counting. */
static const pst_kv *copy_pairs(struct block *block, const pst_kv *from, size_t n, pst_kv *to)
{
    for (size_t i = 0; i < n; i++) {
        pst_kv copy = {copy_str(block, from[i].key), copy_str(block, from[i].value)};
        if (to)
            to[i] = copy;
    }
    return n > 0 ? to : NULL;
}

/* Lay the copy out in `block`, or only count where block->at is NULL. */
static void copy_attr(struct block *block, const pst_attr *from)
{
    pst_attr uncounted;
    pst_attr *to = take(block, sizeof(*to));
    if (!to)
        to = &uncounted;
    *to = *from;
    to->struct_size = sizeof(*to);
    copy_sums(block, from, to);
    pst_kv *meta = take(block, from->n_user_meta * sizeof(*meta));
    pst_kv *tags = take(block, from->n_tags * sizeof(*tags));
    to->user_meta = copy_pairs(block, from->user_meta, from->n_user_meta, meta);
    to->tags = copy_pairs(block, from->tags, from->n_tags, tags);
    to->etag = copy_str(block, from->etag);
    to->version = copy_str(block, from->version);
    to->content_type = copy_str(block, from->content_type);
    to->content_encoding = copy_str(block, from->content_encoding);
    to->content_language = copy_str(block, from->content_language);
    to->content_disposition = copy_str(block, from->content_disposition);
    to->cache_control = copy_str(block, from->cache_control);
    to->storage_class = copy_str(block, from->storage_class);
}

static size_t count_bytes(const pst_attr *from)
{
    struct block counted = {NULL, 0};
    copy_attr(&counted, from);
    return counted.used;
}

pst_attr *pst_attr_dup(const pst_attr *from)
{
    struct block block = {malloc(count_bytes(from)), 0};
    if (block.at)
        copy_attr(&block, from);
    return (pst_attr *)(void *)block.at;
}

const pst_attr *pst_attr_keep(struct pst_task *task, const pst_attr *from)
{
    struct block block = {pst_task_keep(task, NULL, count_bytes(from)), 0};
    if (block.at)
        copy_attr(&block, from);
    return (const pst_attr *)(void *)block.at;
}

void pst_attr_free(pst_attr *attr)
{
    free(attr);
}
