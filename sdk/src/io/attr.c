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
    to->user_meta = from->n_user_meta ? meta : NULL;
    for (size_t i = 0; i < from->n_user_meta; i++) {
        pst_kv copy = {copy_str(block, from->user_meta[i].key),
                       copy_str(block, from->user_meta[i].value)};
        if (meta)
            meta[i] = copy;
    }
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
