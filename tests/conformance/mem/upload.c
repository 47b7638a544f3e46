/* upload.c - parts are kept until the commit, which makes one object of them. */
#include "mem.h"

#include <stdlib.h>

struct part {
    struct part *next;
    uint64_t offset, size;
    uint32_t number;
    unsigned char data[];
};

enum upload_state { OPEN, COMMITTED, ABORTED };

struct pst_upload {
    pst_backend *backend;
    pthread_mutex_t mutex;
    struct object *draft; /* key and attributes */
    pst_str if_match;
    uint32_t flags;
    struct {
        struct part *parts;
        enum upload_state state;
        uint64_t size, generation; /* once committed */
    } locked;
};

static void drop_parts_locked(pst_upload *u)
{
    while (u->locked.parts) {
        struct part *part = u->locked.parts;
        u->locked.parts = part->next;
        free(part);
    }
}

void mem_upload_free(pst_upload *u)
{
    const pst_host *host = u->backend->host;
    drop_parts_locked(u);
    mem_object_unref(u->draft);
    mem_free_str(u->if_match);
    (void)pthread_mutex_destroy(&u->mutex);
    host->dealloc(host, u);
}

static pst_rc do_upload_open(void *object, pst_op *op, const void *args, void *result)
{
    pst_backend *b = object;
    const pst_put_args *a = args;
    pst_upload_result *r = result;
    pst_rc rc = mem_check(b, op, a->key);
    if (rc == PST_OK)
        rc = mem_check_attr(op, a->key, a->attr);
    if (rc != PST_OK)
        return rc;
    pst_upload *u = b->host->alloc(b->host, sizeof(*u), 16);
    if (!u)
        return mem_fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    memset(u, 0, sizeof(*u));
    u->backend = b;
    u->flags = a->flags;
    (void)pthread_mutex_init(&u->mutex, NULL);
    u->draft = mem_object_new(a->key, 0, a->attr);
    if (!u->draft || mem_dup_str(a->if_match, &u->if_match) != 0) {
        mem_upload_free(u);
        return mem_fail(op, PST_E_NO_MEMORY, a->key, "out of memory");
    }
    r->upload = u;
    return PST_OK;
}

pst_rc mem_upload_open(pst_backend *b, pst_op *op, const pst_put_args *a, pst_upload_result *r)
{
    return mem_submit(b, b, op, a, r, do_upload_open);
}

static pst_rc do_upload_part(void *object, pst_op *op, const void *args, void *result)
{
    pst_upload *u = object;
    const pst_part_args *a = args;
    uint64_t size = mem_iov_bytes(a->src, a->n_src);
    pst_rc rc = PST_OK;
    (void)result;
    struct part *part = malloc(sizeof(*part) + (size_t)size);
    if (!part)
        return mem_fail(op, PST_E_NO_MEMORY, u->draft->key, "out of memory");
    part->offset = a->offset;
    part->size = size;
    part->number = a->number;
    mem_gather(part->data, a->src, a->n_src);
    size_t n_sums = PST_HAS(pst_part_args, a, sum_stride) ? a->n_sums : 0;
    if (n_sums > 0 && !mem_is_sum_right(a->sums, a->sum_stride, n_sums, part->data, size))
        rc = mem_fail(op, PST_E_DATA_LOSS, u->draft->key,
                      "a part does not have the sum sent with it");
    (void)pthread_mutex_lock(&u->mutex);
    int is_known = u->locked.state != OPEN;
    for (struct part *p = u->locked.parts; p && !is_known; p = p->next)
        is_known = p->number == a->number;
    if (rc == PST_OK && !is_known) {
        part->next = u->locked.parts;
        u->locked.parts = part;
        part = NULL;
    }
    (void)pthread_mutex_unlock(&u->mutex);
    free(part);
    return rc;
}

pst_rc mem_upload_part(pst_upload *u, pst_op *op, const pst_part_args *a, pst_result *r)
{
    return mem_submit(u->backend, u, op, a, r, do_upload_part);
}

/* All parts in one object, or NULL with *rc. Parts must cover it from 0 to `size` exactly. */
static struct object *assemble_locked(pst_upload *u, pst_op *op, uint64_t size, pst_rc *rc)
{
    const struct object *d = u->draft;
    uint64_t total = 0;
    for (struct part *p = u->locked.parts; p; p = p->next) {
        total += p->size;
        for (struct part *q = p->next; q; q = q->next)
            if (p->size > 0 && q->size > 0 && p->offset < q->offset + q->size &&
                q->offset < p->offset + p->size)
                total = UINT64_MAX / 2;
        if (p->offset + p->size > size)
            total = UINT64_MAX / 2;
    }
    if (total != size) {
        *rc = mem_fail(op, PST_E_INVALID, d->key, "the parts do not make an object of that size");
        return NULL;
    }
    struct object *o = mem_object_dup(d, d->key, NULL, size);
    if (!o)
        *rc = mem_fail(op, PST_E_NO_MEMORY, d->key, "out of memory");
    for (struct part *p = u->locked.parts; o && p; p = p->next)
        memcpy(o->data + p->offset, p->data, (size_t)p->size);
    return o;
}

static pst_rc tell_commit_again(pst_upload *u, pst_op *op, pst_put_result *r)
{
    const struct object done = {.generation = u->locked.generation};
    if (mem_tell_etag(op, &done, &r->etag, &r->etag_strength) != 0 ||
        (PST_HAS(pst_put_result, r, version) &&
         mem_tell_version(u->backend, op, &done, &r->version) != 0))
        return mem_fail(op, PST_E_NO_MEMORY, u->draft->key, "out of memory");
    r->size = u->locked.size;
    return PST_OK;
}

static pst_rc do_upload_commit(void *object, pst_op *op, const void *args, void *result)
{
    pst_upload *u = object;
    const pst_commit_args *a = args;
    pst_rc rc = PST_OK;
    (void)pthread_mutex_lock(&u->mutex);
    if (u->locked.state == COMMITTED) {
        rc = tell_commit_again(u, op, result);
    } else if (u->locked.state == ABORTED) {
        rc = mem_fail(op, PST_E_INVALID, u->draft->key, "the upload was aborted");
    } else {
        struct object *o = assemble_locked(u, op, a->size, &rc);
        if (o)
            rc = mem_publish(u->backend, op, mem_object_ref(o), u->flags, u->if_match, result);
        if (rc == PST_OK) {
            u->locked.state = COMMITTED;
            u->locked.size = a->size;
            u->locked.generation = o->generation;
        } else if (o) {
            mem_object_unref(o); /* that of the bucket */
        }
        mem_object_unref(o);
    }
    (void)pthread_mutex_unlock(&u->mutex);
    return rc;
}

pst_rc mem_upload_commit(pst_upload *u, pst_op *op, const pst_commit_args *a, pst_put_result *r)
{
    return mem_submit(u->backend, u, op, a, r, do_upload_commit);
}

static pst_rc do_upload_abort(void *object, pst_op *op, const void *args, void *result)
{
    pst_upload *u = object;
    (void)op;
    (void)args;
    (void)result;
    (void)pthread_mutex_lock(&u->mutex);
    if (u->locked.state == OPEN)
        u->locked.state = ABORTED;
    drop_parts_locked(u);
    (void)pthread_mutex_unlock(&u->mutex);
    return PST_OK;
}

pst_rc mem_upload_abort(pst_upload *u, pst_op *op, const pst_abort_args *a, pst_result *r)
{
    return mem_submit(u->backend, u, op, a, r, do_upload_abort);
}
