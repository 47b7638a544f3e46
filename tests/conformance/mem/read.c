/* read.c - reads, attributes, URLs. */
#include "mem.h"

#include <stdio.h>

static pst_rc copy_out(pst_op *op, const pst_read_args *a, pst_read_result *r,
                       const struct object *o, uint64_t offset, uint64_t length)
{
    const pst_iov *dst = NULL;
    size_t n_dst = 0;
    if (PST_HAS(pst_read_args, a, n_dst)) {
        dst = a->dst;
        n_dst = a->n_dst;
    }
    if (n_dst == 0 && length > 0) {
        pst_dst_grant grant = {.struct_size = sizeof(grant)};
        const pst_dst_args ask = {.struct_size = sizeof(ask),
                                  .length = length,
                                  .capacity = length,
                                  .object_size = o->size,
                                  .etag_strength = r->etag_strength,
                                  .etag = r->etag};
        pst_rc rc = op->host->dst(op->host, op, &ask, &grant);
        if (rc != PST_OK)
            return rc;
        dst = grant.dst;
        n_dst = grant.n_dst;
    }
    uint64_t done = 0;
    for (size_t i = 0; i < n_dst && done < length; i++) {
        size_t n = length - done < dst[i].len ? (size_t)(length - done) : dst[i].len;
        memcpy(dst[i].ptr, o->data + offset + done, n);
        done += n;
    }
    r->n_read = done;
    return done == length ? PST_OK : PST_E_INTERNAL;
}

static pst_rc do_read(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_read_args *a = args;
    pst_read_result *r = result;
    pst_rc rc = mem_check(b, op, a->key);
    if (rc != PST_OK)
        return rc;
    struct object *o = mem_find_ref(b, a->key, a->version);
    if (!o)
        return mem_fail(op, PST_E_NOT_FOUND, a->key, "no such object");
    uint64_t offset = a->offset;
    if (a->flags & PST_READ_SUFFIX)
        offset = a->length < o->size ? o->size - a->length : 0;
    uint64_t length = offset < o->size ? o->size - offset : 0;
    if (length > a->length)
        length = a->length;
    r->object_size = o->size;
    if (!mem_matches(o, a->if_match))
        rc = mem_fail(op, PST_E_PRECONDITION, a->key, "its etag is another one");
    else if (mem_tell_etag(op, o, &r->etag, &r->etag_strength) != 0 ||
             (PST_HAS(pst_read_result, r, version) && mem_tell_version(b, op, o, &r->version) != 0))
        rc = mem_fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    else
        rc = copy_out(op, a, r, o, offset, length);
    mem_object_unref(o);
    return rc;
}

pst_rc mem_read(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    return mem_submit(b, b, op, a, r, do_read);
}

static int tell_pairs(pst_op *op, const pst_kv *from, size_t n, const pst_kv **out, size_t *n_out)
{
    if (n == 0)
        return 0;
    pst_kv *pairs = op->host->op_alloc(op->host, op, n * sizeof(*pairs));
    if (!pairs)
        return -1;
    memset(pairs, 0, n * sizeof(*pairs));
    for (size_t i = 0; i < n; i++)
        if (mem_op_dup(op, from[i].key, &pairs[i].key) != 0 ||
            mem_op_dup(op, from[i].value, &pairs[i].value) != 0)
            return -1;
    *out = pairs;
    *n_out = n;
    return 0;
}

static int tell_sum(pst_op *op, const struct object *o, pst_attr *attr)
{
    pst_sum *sum = op->host->op_alloc(op->host, op, sizeof(*sum));
    if (!sum)
        return -1;
    *sum = (pst_sum){.algorithm = PST_SUM_CRC32C, .scope = PST_SCOPE_OBJECT, .length = 4};
    for (unsigned i = 0; i < 4; i++)
        sum->bytes[i] = (uint8_t)(o->crc32c >> (24 - 8 * i));
    attr->sums = sum;
    attr->n_sums = 1;
    attr->sum_stride = sizeof(*sum);
    return 0;
}

static int tell_attr(const pst_backend *b, pst_op *op, const struct object *o, uint32_t flags,
                     pst_attr *attr)
{
    attr->kind = PST_KIND_OBJECT;
    attr->size = o->size;
    attr->mtime_ns = o->mtime_ns;
    if (mem_tell_etag(op, o, &attr->etag, &attr->etag_strength) != 0 ||
        mem_op_dup(op, o->content_type, &attr->content_type) != 0 ||
        mem_op_dup(op, o->content_encoding, &attr->content_encoding) != 0)
        return -1;
    if (mem_tell_version(b, op, o, &attr->version) != 0 ||
        ((flags & PST_STAT_SUMS) && tell_sum(op, o, attr) != 0))
        return -1;
    if (PST_HAS(pst_attr, attr, n_user_meta) &&
        tell_pairs(op, o->meta, o->n_meta, &attr->user_meta, &attr->n_user_meta) != 0)
        return -1;
    return PST_HAS(pst_attr, attr, n_tags)
               ? tell_pairs(op, o->tags, o->n_tags, &attr->tags, &attr->n_tags)
               : 0;
}

/* Done inside the submit function: nothing here waits. */
pst_rc mem_stat(pst_backend *b, pst_op *op, const pst_stat_args *a, pst_attr *attr)
{
    pst_str version = PST_HAS(pst_stat_args, a, version) ? a->version : pst_str_of(NULL, 0);
    pst_rc rc = mem_check(b, op, a->key);
    if (rc != PST_OK)
        return rc;
    struct object *o = mem_find_ref(b, a->key, version);
    if (!o)
        return mem_fail(op, PST_E_NOT_FOUND, a->key, "no such object");
    if (tell_attr(b, op, o, a->flags, attr) != 0)
        rc = mem_fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    mem_object_unref(o);
    return rc;
}

pst_rc mem_presign(pst_backend *b, pst_op *op, const pst_presign_args *a, pst_presign_result *r)
{
    static const char prefix[] = "https://mem.invalid/";
    static const char digits[] = "0123456789abcdef";
    pst_rc rc = mem_check(b, op, a->key);
    if (rc != PST_OK)
        return rc;
    char *url = op->host->op_alloc(op->host, op, sizeof(prefix) + 2 * a->key.len);
    if (!url)
        return mem_fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    size_t n = sizeof(prefix) - 1;
    memcpy(url, prefix, n);
    for (size_t i = 0; i < a->key.len; i++) {
        url[n++] = digits[(unsigned char)a->key.ptr[i] >> 4];
        url[n++] = digits[(unsigned char)a->key.ptr[i] & 15];
    }
    r->url = pst_str_of(url, n);
    return PST_OK;
}
