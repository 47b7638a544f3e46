/* write.c - put, append, copy, rename, remove: a new object is made and published under the lock. */
#include "mem.h"

int mem_is_sum_right(const pst_sum *sums, size_t stride, size_t n_sums, const unsigned char *data,
                     uint64_t size)
{
    for (size_t i = 0; i < n_sums; i++) {
        const pst_sum *sum = (const pst_sum *)(const void *)((const char *)sums + i * stride);
        uint32_t crc = 0;
        if (sum->algorithm != PST_SUM_CRC32C || sum->length != 4)
            continue;
        for (size_t k = 0; k < 4; k++)
            crc = crc << 8 | sum->bytes[k];
        if (crc != mem_crc32c(0, data, (size_t)size))
            return 0;
    }
    return 1;
}

uint64_t mem_iov_bytes(const pst_iov *iov, size_t n)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += iov[i].len;
    return total;
}

void mem_gather(unsigned char *out, const pst_iov *iov, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (iov[i].len > 0)
            memcpy(out, iov[i].ptr, iov[i].len);
        out += iov[i].len;
    }
}

pst_rc mem_check_attr(pst_op *op, pst_str key, const pst_attr *attr)
{
    size_t total = 0;
    if (attr->content_language.len + attr->content_disposition.len + attr->cache_control.len +
            attr->storage_class.len >
        0)
        return mem_fail(op, PST_E_INVALID, key, "only content type and encoding are kept here");
    if (!PST_HAS(pst_attr, attr, n_user_meta))
        return PST_OK;
    for (size_t i = 0; i < attr->n_user_meta; i++)
        total += attr->user_meta[i].key.len + attr->user_meta[i].value.len;
    return total > META_MAX ? mem_fail(op, PST_E_INVALID, key, "more than 4096 bytes of metadata")
                            : PST_OK;
}

/* Make `o` visible if the conditions hold. Takes it over, unless it fails. */
pst_rc mem_publish(pst_backend *b, pst_op *op, struct object *o, uint32_t flags, pst_str if_match,
                   pst_put_result *r)
{
    pst_rc rc = PST_OK;
    char *etag = op->host->op_alloc(op->host, op, 2 * ETAG_SIZE);
    if (!etag)
        return mem_fail(op, PST_E_NO_MEMORY, o->key, "out of memory");
    o->crc32c = mem_crc32c(0, o->data, (size_t)o->size);
    (void)pthread_mutex_lock(&mem_process.mutex);
    struct object *old = mem_find(b->bucket, o->key);
    if (old && (flags & PST_PUT_CREATE_ONLY))
        rc = mem_fail(op, PST_E_EXISTS, o->key, "exists");
    else if (!mem_matches(old, if_match))
        rc = mem_fail(op, PST_E_PRECONDITION, o->key, "its etag is another one");
    else if (mem_insert(b->bucket, o, b->n_kept) != 0)
        rc = mem_fail(op, PST_E_NO_MEMORY, o->key, "out of memory");
    if (rc == PST_OK && PST_HAS(pst_put_result, r, version) && b->n_kept > 0)
        r->version = mem_version(o, etag + ETAG_SIZE);
    if (rc == PST_OK) {
        r->etag = mem_etag(o, etag);
        r->etag_strength = PST_ETAG_STRONG;
        r->size = o->size;
    }
    (void)pthread_mutex_unlock(&mem_process.mutex);
    return rc;
}

static pst_rc do_put(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_put_args *a = args;
    pst_rc rc = mem_check(b, op, a->key);
    if (rc == PST_OK)
        rc = mem_check_attr(op, a->key, a->attr);
    if (rc != PST_OK)
        return rc;
    if (b->part_max > 0 && mem_iov_bytes(a->src, a->n_src) > b->part_max)
        return mem_fail(op, PST_E_INVALID, a->key, "more than one request may bring");
    struct object *o = mem_object_new(a->key, mem_iov_bytes(a->src, a->n_src), a->attr);
    if (!o)
        return mem_fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    mem_gather(o->data, a->src, a->n_src);
    if (!mem_is_sum_right(a->sums, a->sum_stride, a->n_sums, o->data, o->size))
        rc = mem_fail(op, PST_E_DATA_LOSS, a->key, "the bytes do not have the sum sent with them");
    else
        rc = mem_publish(b, op, o, a->flags, a->if_match, result);
    if (rc != PST_OK)
        mem_object_unref(o);
    return rc;
}

pst_rc mem_put(pst_backend *b, pst_op *op, const pst_put_args *a, pst_put_result *r)
{
    return mem_submit(b, b, op, a, r, do_put);
}

/* A copy of `from` under another key, `more` bytes longer. */
struct object *mem_object_dup(const struct object *from, pst_str key, const pst_attr *attr,
                              uint64_t more)
{
    const pst_attr kept = {.struct_size = sizeof(kept),
                           .content_type = from->content_type,
                           .content_encoding = from->content_encoding,
                           .user_meta = from->meta,
                           .n_user_meta = from->n_meta,
                           .tags = from->tags,
                           .n_tags = from->n_tags};
    struct object *o = mem_object_new(key, from->size + more, attr ? attr : &kept);
    if (o && from->size > 0)
        memcpy(o->data, from->data, (size_t)from->size);
    return o;
}

static pst_rc do_append(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_put_args *a = args;
    uint64_t more = mem_iov_bytes(a->src, a->n_src);
    pst_rc rc = mem_check(b, op, a->key);
    if (rc != PST_OK)
        return rc;
    struct object *old = mem_find_ref(b, a->key, pst_str_of(NULL, 0));
    char buf[ETAG_SIZE];
    struct object *o = old ? mem_object_dup(old, a->key, NULL, more)
                           : mem_object_new(a->key, more, a->attr);
    if (!o) {
        rc = mem_fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    } else {
        mem_gather(o->data + (old ? old->size : 0), a->src, a->n_src);
        rc = mem_publish(b, op, o, old ? 0 : PST_PUT_CREATE_ONLY,
                         old ? mem_etag(old, buf) : pst_str_of(NULL, 0), result);
        if (rc != PST_OK)
            mem_object_unref(o);
    }
    mem_object_unref(old);
    return rc;
}

pst_rc mem_append(pst_backend *b, pst_op *op, const pst_put_args *a, pst_put_result *r)
{
    return mem_submit(b, b, op, a, r, do_append);
}

static struct bucket *find_bucket(pst_str authority)
{
    (void)pthread_mutex_lock(&mem_process.mutex);
    struct bucket *bucket = mem_bucket_find(authority);
    (void)pthread_mutex_unlock(&mem_process.mutex);
    return bucket && atomic_load(&bucket->is_there) ? bucket : NULL;
}

static pst_rc do_copy(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_copy_args *a = args;
    pst_rc rc = mem_check(b, op, a->to);
    if (rc != PST_OK)
        return rc;
    pst_str authority = pst_str_of(NULL, 0);
    if (PST_HAS(pst_copy_args, a, from_authority))
        authority = a->from_authority;
    pst_backend source = {.bucket = b->bucket}; /* for its bucket alone */
    if (authority.len > 0 && !(source.bucket = find_bucket(authority))) {
        op->err->flags |= PST_ERR_NO_CONTAINER;
        return mem_fail(op, PST_E_NOT_FOUND, authority, "no such bucket");
    }
    struct object *from = mem_find_ref(&source, a->from, a->from_version);
    if (!from)
        return mem_fail(op, PST_E_NOT_FOUND, a->from, "no such object");
    const pst_attr *attr = (a->flags & PST_COPY_REPLACE_ATTR) ? a->attr : NULL;
    if (!mem_matches(from, a->from_if_match)) {
        rc = mem_fail(op, PST_E_PRECONDITION, a->from, "its etag is another one");
    } else {
        struct object *o = mem_object_dup(from, a->to, attr, 0);
        rc = o ? mem_publish(b, op, o, a->flags, a->if_match, result)
               : mem_fail(op, PST_E_NO_MEMORY, a->to, "out of memory");
        if (rc != PST_OK)
            mem_object_unref(o);
    }
    mem_object_unref(from);
    return rc;
}

pst_rc mem_copy(pst_backend *b, pst_op *op, const pst_copy_args *a, pst_put_result *r)
{
    return mem_submit(b, b, op, a, r, do_copy);
}

static pst_rc do_rename(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_copy_args *a = args;
    pst_rc rc = do_copy(object, op, args, result);
    if (rc == PST_OK && mem_compare(a->from, a->to) != 0) {
        (void)pthread_mutex_lock(&mem_process.mutex);
        if (mem_drop(b->bucket, a->from, b->n_kept) != 0)
            rc = mem_fail(op, PST_E_NO_MEMORY, a->from, "out of memory");
        (void)pthread_mutex_unlock(&mem_process.mutex);
    }
    return rc;
}

pst_rc mem_rename(pst_backend *b, pst_op *op, const pst_copy_args *a, pst_put_result *r)
{
    return mem_submit(b, b, op, a, r, do_rename);
}

static pst_rc do_remove(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_remove_args *a = args;
    pst_remove_result *r = result;
    pst_str if_match = pst_str_of(NULL, 0);
    pst_rc rc = PST_OK;
    if (PST_HAS(pst_remove_args, a, if_match))
        if_match = a->if_match;
    (void)pthread_mutex_lock(&mem_process.mutex);
    for (size_t i = 0; i < a->n_keys; i++) {
        struct object *o = mem_find(b->bucket, a->keys[i]);
        pst_str version = a->versions ? a->versions[i] : pst_str_of(NULL, 0);
        r->status[i] = a->keys[i].len == 0 ? PST_E_INVALID : PST_OK;
        if (if_match.len > 0 && !mem_matches(o, if_match)) {
            rc = mem_fail(op, PST_E_PRECONDITION, a->keys[i], "its etag is another one");
            r->status[i] = rc;
        } else if (version.len > 0) {
            mem_drop_version(b->bucket, a->keys[i], version);
        } else if (mem_drop(b->bucket, a->keys[i], b->n_kept) != 0) {
            rc = mem_fail(op, PST_E_NO_MEMORY, a->keys[i], "out of memory");
            r->status[i] = rc;
        }
    }
    (void)pthread_mutex_unlock(&mem_process.mutex);
    return rc;
}

pst_rc mem_remove(pst_backend *b, pst_op *op, const pst_remove_args *a, pst_remove_result *r)
{
    return mem_submit(b, b, op, a, r, do_remove);
}
