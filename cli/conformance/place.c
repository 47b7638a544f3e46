/* place.c - arguments, result and operation of a call, copied into guarded pages.
 *
 * Strings are packed into one piece, the key last, so that its end touches the guard page. Structs that
 * start with struct_size are as long as this host's minor has them: one of the minor before lacks the
 * last member, where an operation can do without it; one of the next has a tail of poison. */
#include <string.h>
#include <sys/mman.h>

#include "kit.h"

/* What a struct measures now, and for a host of the minor before: one member less, where it is one
 * that an operation can do without. */
struct shape {
    const char *name;
    size_t args, args_short, result, result_short;
};

#define SHORT(type, member) offsetof(type, member)
static const struct shape shapes[K_N_SLOTS] = {
    [K_READ] = {"read", sizeof(pst_read_args), SHORT(pst_read_args, n_dst), sizeof(pst_read_result),
                SHORT(pst_read_result, version)},
    [K_STAT] = {"stat", sizeof(pst_stat_args), SHORT(pst_stat_args, version), sizeof(pst_attr),
                SHORT(pst_attr, n_tags)},
    [K_PUT] = {"put", sizeof(pst_put_args), SHORT(pst_put_args, reserved0), sizeof(pst_put_result),
               SHORT(pst_put_result, version)},
    [K_APPEND] = {"append", sizeof(pst_put_args), SHORT(pst_put_args, reserved0),
                  sizeof(pst_put_result), SHORT(pst_put_result, version)},
    [K_COPY] = {"copy", sizeof(pst_copy_args), SHORT(pst_copy_args, from_authority),
                sizeof(pst_put_result), SHORT(pst_put_result, version)},
    [K_RENAME] = {"rename", sizeof(pst_copy_args), SHORT(pst_copy_args, from_authority),
                  sizeof(pst_put_result), SHORT(pst_put_result, version)},
    [K_REMOVE] = {"remove", sizeof(pst_remove_args), SHORT(pst_remove_args, if_match),
                  sizeof(pst_remove_result), SHORT(pst_remove_result, reserved0)},
    [K_LIST] = {"list", sizeof(pst_list_args), SHORT(pst_list_args, reserved0),
                sizeof(pst_list_result), SHORT(pst_list_result, next_token)},
    [K_LIST_OPEN] = {"list_open", sizeof(pst_list_args), SHORT(pst_list_args, reserved0),
                     sizeof(pst_cursor_result), SHORT(pst_cursor_result, reserved0)},
    [K_LIST_PAGE] = {"list_page", sizeof(pst_page_args), sizeof(pst_page_args),
                     sizeof(pst_list_result), SHORT(pst_list_result, next_token)},
    [K_UPLOAD_OPEN] = {"upload_open", sizeof(pst_put_args), SHORT(pst_put_args, reserved0),
                       sizeof(pst_upload_result), SHORT(pst_upload_result, reserved0)},
    [K_UPLOAD_PART] = {"upload_part", sizeof(pst_part_args), sizeof(pst_part_args),
                       sizeof(pst_result), SHORT(pst_result, flags)},
    [K_UPLOAD_COMMIT] = {"upload_commit", sizeof(pst_commit_args), sizeof(pst_commit_args),
                         sizeof(pst_put_result), SHORT(pst_put_result, version)},
    [K_UPLOAD_ABORT] = {"upload_abort", sizeof(pst_abort_args), SHORT(pst_abort_args, flags),
                        sizeof(pst_result), SHORT(pst_result, flags)},
    [K_CONTAINER_CREATE] = {"container_create", sizeof(pst_container_args),
                            sizeof(pst_container_args), sizeof(pst_result),
                            SHORT(pst_result, flags)},
    [K_CONTAINER_DELETE] = {"container_delete", sizeof(pst_container_args),
                            sizeof(pst_container_args), sizeof(pst_result),
                            SHORT(pst_result, flags)},
    [K_CONTAINER_LIST] = {"container_list", sizeof(pst_list_args), SHORT(pst_list_args, reserved0),
                          sizeof(pst_list_result), SHORT(pst_list_result, next_token)},
    [K_PRESIGN] = {"presign", sizeof(pst_presign_args), SHORT(pst_presign_args, method),
                   sizeof(pst_presign_result), sizeof(pst_presign_result)},
    [K_CLEANUP] = {"cleanup", sizeof(pst_cleanup_args), sizeof(pst_cleanup_args),
                   sizeof(pst_cleanup_result), SHORT(pst_cleanup_result, n_bytes)},
};

const char *k_slot_name(enum k_slot slot)
{
    return shapes[slot].name;
}

size_t k_result_size(const struct k_call *c)
{
    const struct shape *shape = &shapes[c->slot];
    return c->host->skew == K_OLDER ? shape->result_short : shape->result;
}

bool k_has_slot(const struct k_store *s, enum k_slot slot)
{
    const pst_backend_ops *o = s->ops;
    switch (slot) {
    case K_READ:
        return PST_HAS(pst_backend_ops, o, read) && o->read;
    case K_STAT:
        return PST_HAS(pst_backend_ops, o, stat) && o->stat;
    case K_PUT:
        return PST_HAS(pst_backend_ops, o, put) && o->put;
    case K_APPEND:
        return PST_HAS(pst_backend_ops, o, append) && o->append;
    case K_COPY:
        return PST_HAS(pst_backend_ops, o, copy) && o->copy;
    case K_RENAME:
        return PST_HAS(pst_backend_ops, o, rename) && o->rename;
    case K_REMOVE:
        return PST_HAS(pst_backend_ops, o, remove) && o->remove;
    case K_LIST:
        return PST_HAS(pst_backend_ops, o, list) && o->list;
    case K_LIST_OPEN:
        return PST_HAS(pst_backend_ops, o, list_open) && o->list_open;
    case K_LIST_PAGE:
        return PST_HAS(pst_backend_ops, o, list_page) && o->list_page;
    case K_UPLOAD_OPEN:
        return PST_HAS(pst_backend_ops, o, upload_open) && o->upload_open;
    case K_UPLOAD_PART:
        return PST_HAS(pst_backend_ops, o, upload_part) && o->upload_part;
    case K_UPLOAD_COMMIT:
        return PST_HAS(pst_backend_ops, o, upload_commit) && o->upload_commit;
    case K_UPLOAD_ABORT:
        return PST_HAS(pst_backend_ops, o, upload_abort) && o->upload_abort;
    case K_CONTAINER_CREATE:
        return PST_HAS(pst_backend_ops, o, container_create) && o->container_create;
    case K_CONTAINER_DELETE:
        return PST_HAS(pst_backend_ops, o, container_delete) && o->container_delete;
    case K_CONTAINER_LIST:
        return PST_HAS(pst_backend_ops, o, container_list) && o->container_list;
    case K_PRESIGN:
        return PST_HAS(pst_backend_ops, o, presign) && o->presign;
    case K_CLEANUP:
        return PST_HAS(pst_backend_ops, o, cleanup) && o->cleanup;
    case K_N_SLOTS:
        break;
    }
    return false;
}

struct placing {
    size_t total;
    char *at;        /* NULL: only add up */
    bool null_empty; /* an empty string is {NULL, 0}, else {somewhere, 0} */
};

static void place(struct placing *p, pst_str *s)
{
    if (!p->at) {
        p->total += s->len;
        return;
    }
    if (s->len > 0)
        memcpy(p->at, s->ptr, s->len);
    s->ptr = s->len == 0 && p->null_empty ? NULL : p->at;
    p->at += s->len;
}

struct placed { /* everything that is copied, besides the args struct itself */
    union k_args args;
    pst_attr attr;
    pst_kv *meta, *tags;
    pst_str *keys, *versions;
};

static void place_attr(struct placing *p, struct placed *x)
{
    place(p, &x->attr.etag);
    place(p, &x->attr.version);
    place(p, &x->attr.content_type);
    place(p, &x->attr.content_encoding);
    place(p, &x->attr.content_language);
    place(p, &x->attr.content_disposition);
    place(p, &x->attr.cache_control);
    place(p, &x->attr.storage_class);
    for (size_t i = 0; i < x->attr.n_user_meta; i++) {
        place(p, &x->meta[i].key);
        place(p, &x->meta[i].value);
    }
    for (size_t i = 0; i < x->attr.n_tags; i++) {
        place(p, &x->tags[i].key);
        place(p, &x->tags[i].value);
    }
}

/* The key comes last: its end touches the guard page. */
static void place_strings(struct placing *p, enum k_slot slot, struct placed *x)
{
    union k_args *a = &x->args;
    switch (slot) {
    case K_READ:
        place(p, &a->read.version);
        place(p, &a->read.if_match);
        place(p, &a->read.key);
        break;
    case K_STAT:
        place(p, &a->stat.version);
        place(p, &a->stat.key);
        break;
    case K_PUT:
    case K_APPEND:
    case K_UPLOAD_OPEN:
        place(p, &a->put.if_match);
        place_attr(p, x);
        place(p, &a->put.key);
        break;
    case K_COPY:
    case K_RENAME:
        place(p, &a->copy.from_version);
        place(p, &a->copy.from_if_match);
        place(p, &a->copy.if_match);
        place(p, &a->copy.from_authority);
        place_attr(p, x);
        place(p, &a->copy.from);
        place(p, &a->copy.to);
        break;
    case K_REMOVE:
        place(p, &a->remove.if_match);
        for (size_t i = 0; x->versions && i < a->remove.n_keys; i++)
            place(p, &x->versions[i]);
        for (size_t i = 0; i < a->remove.n_keys; i++)
            place(p, &x->keys[i]);
        break;
    case K_LIST:
    case K_LIST_OPEN:
    case K_CONTAINER_LIST:
        place(p, &a->list.start_after);
        place(p, &a->list.page_token);
        place(p, &a->list.prefix);
        break;
    case K_CONTAINER_CREATE:
    case K_CONTAINER_DELETE:
        place(p, &a->container.name);
        break;
    case K_PRESIGN:
        place(p, &a->presign.method);
        place(p, &a->presign.key);
        break;
    case K_CLEANUP:
        place(p, &a->cleanup.prefix);
        break;
    case K_LIST_PAGE:
    case K_UPLOAD_PART:
    case K_UPLOAD_COMMIT:
    case K_UPLOAD_ABORT:
    case K_N_SLOTS:
        break;
    }
}

static bool takes_attr(enum k_slot slot)
{
    return slot == K_PUT || slot == K_APPEND || slot == K_UPLOAD_OPEN || slot == K_COPY ||
           slot == K_RENAME;
}

/* Copy `n` bytes onto pages of their own that the plugin can only read. */
static void *place_bytes(struct k_call *c, const char *name, const void *bytes, size_t n)
{
    if (n == 0)
        return NULL;
    void *p = k_region_take(&c->region, name, n, 8, K_AT_END);
    memcpy(p, bytes, n);
    k_region_protect(&c->region, p, PROT_READ);
    return p;
}

/* A struct that starts with struct_size, as long as this host's minor has it. */
static void *place_struct(struct k_call *c, const char *name, const void *bytes, size_t full,
                          size_t shorter, size_t *total)
{
    enum k_skew skew = c->host->skew;
    size_t len = skew == K_OLDER ? shorter : full;
    *total = len + (skew == K_NEWER ? K_TAIL : 0);
    unsigned char *p = k_region_take(&c->region, name, *total, 8, K_AT_END);
    uint32_t struct_size = (uint32_t)*total;
    memset(p, K_POISON, *total);
    memcpy(p, bytes, len);
    memcpy(p, &struct_size, sizeof(struct_size));
    return p;
}

static void place_vectors(struct k_call *c, struct placed *x)
{
    union k_args *a = &x->args;
    switch (c->slot) {
    case K_READ:
        a->read.dst = place_bytes(c, "vector of destinations", a->read.dst,
                                  a->read.n_dst * sizeof(pst_iov));
        break;
    case K_PUT:
    case K_APPEND:
    case K_UPLOAD_OPEN:
        a->put.src = place_bytes(c, "vector of sources", a->put.src,
                                 a->put.n_src * sizeof(pst_iov));
        a->put.sums = place_bytes(c, "sums", a->put.sums, a->put.n_sums * a->put.sum_stride);
        break;
    case K_UPLOAD_PART:
        a->part.src = place_bytes(c, "vector of sources", a->part.src,
                                  a->part.n_src * sizeof(pst_iov));
        a->part.sums = place_bytes(c, "sums", a->part.sums, a->part.n_sums * a->part.sum_stride);
        break;
    case K_UPLOAD_COMMIT:
        a->commit.sums = place_bytes(c, "sums", a->commit.sums,
                                     a->commit.n_sums * a->commit.sum_stride);
        break;
    case K_REMOVE:
        a->remove.keys = place_bytes(c, "keys", x->keys, a->remove.n_keys * sizeof(pst_str));
        a->remove.versions = x->versions ? place_bytes(c, "versions", x->versions,
                                                       a->remove.n_keys * sizeof(pst_str))
                                         : NULL;
        break;
    default:
        break;
    }
}

static void place_attr_struct(struct k_call *c, struct placed *x)
{
    size_t total = 0;
    x->attr.user_meta = place_bytes(c, "user metadata", x->meta,
                                    x->attr.n_user_meta * sizeof(pst_kv));
    x->attr.tags = place_bytes(c, "tags", x->tags, x->attr.n_tags * sizeof(pst_kv));
    void *attr = place_struct(c, "attributes", &x->attr, sizeof(pst_attr),
                              offsetof(pst_attr, n_tags), &total);
    k_region_protect(&c->region, attr, PROT_READ);
    if (c->slot == K_COPY || c->slot == K_RENAME)
        x->args.copy.attr = attr;
    else
        x->args.put.attr = attr;
}

static void place_errors(struct k_call *c, size_t n, pst_remove_result *result)
{
    const pst_error empty = {.struct_size = (uint32_t)K_ERROR_STRIDE};
    c->errors = k_region_take(&c->region, "errors", n * K_ERROR_STRIDE, 8, K_AT_END);
    memset(c->errors, K_POISON, n * K_ERROR_STRIDE);
    for (size_t i = 0; i < n; i++)
        memcpy(c->errors + i * K_ERROR_STRIDE, &empty, sizeof(empty));
    result->errors = (pst_error *)(void *)c->errors;
    result->error_stride = K_ERROR_STRIDE;
}

static void place_result(struct k_call *c)
{
    const struct shape *shape = &shapes[c->slot];
    union k_result empty;
    memset(&empty, 0, sizeof(empty));
    if (c->slot == K_REMOVE) {
        size_t n = c->in.remove.n_keys;
        c->statuses = k_region_take(&c->region, "statuses", n * sizeof(pst_rc) + 1, 8, K_AT_END);
        for (size_t i = 0; i < n; i++)
            c->statuses[i] = PST_E_INTERNAL;
        empty.remove.status = c->statuses;
        if (c->give_errors)
            place_errors(c, n, &empty.remove);
    }
    c->result = place_struct(c, "result", &empty, shape->result, shape->result_short,
                             &c->result_len);
}

static void place_op(struct k_call *c)
{
    static atomic_uint_fast64_t ids;
    uint32_t scratch_len = c->store->plugin->op_scratch;
    pst_error err = PST_ERROR_INIT;
    c->err = place_struct(c, "error", &err, sizeof(err), sizeof(err), &c->err_len);
    pst_op op = {.id = atomic_fetch_add(&ids, 1) + 1,
                 .deadline_ns = c->deadline_ns,
                 .attempt = c->attempt,
                 .max_attempts = 3,
                 .host = c->host->table,
                 .err = c->err};
    op.scratch = k_region_take(&c->region, "scratch", scratch_len, 16, K_AT_END);
    c->op = place_struct(c, "op", &op, sizeof(op), offsetof(pst_op, host_private), &c->op_len);

    k_call_register(c);
}

void k_place_all(struct k_call *c)
{
    const struct shape *shape = &shapes[c->slot];
    struct placed x = {.args = c->in};
    struct placing p = {0, NULL, false};
    size_t n_keys = c->slot == K_REMOVE ? c->in.remove.n_keys : 0;
    bool has_attr = takes_attr(c->slot);
    bool is_copy = c->slot == K_COPY || c->slot == K_RENAME;
    const pst_attr *attr = is_copy ? c->in.copy.attr : c->in.put.attr;
    if (has_attr && attr) {
        x.attr = *attr;
        if (c->host->skew == K_OLDER)
            x.attr.n_tags = 0;
        x.meta = k_dup_array(attr->user_meta, x.attr.n_user_meta, sizeof(pst_kv));
        x.tags = k_dup_array(attr->tags, x.attr.n_tags, sizeof(pst_kv));
    }
    if (n_keys > 0) {
        x.keys = k_dup_array(c->in.remove.keys, n_keys, sizeof(pst_str));
        if (c->in.remove.versions)
            x.versions = k_dup_array(c->in.remove.versions, n_keys, sizeof(pst_str));
    }
    place_strings(&p, c->slot, &x);
    size_t arrays = n_keys * (2 * sizeof(pst_str) + sizeof(pst_rc) + K_ERROR_STRIDE) +
                    (x.attr.n_user_meta + x.attr.n_tags) * sizeof(pst_kv) +
                    K_SPANS_MAX * sizeof(pst_iov);
    k_region_init(&c->region, shape->name,
                  p.total + arrays + c->store->plugin->op_scratch + 256 * 1024, 24);
    p.null_empty = ((uintptr_t)c->region.base >> 20) % 2 == 0;
    p.at = k_region_take(&c->region, "strings", p.total, 1, K_AT_END);
    const char *strings = p.at;
    place_strings(&p, c->slot, &x);
    k_region_protect(&c->region, strings, PROT_READ);
    place_vectors(c, &x);
    if (has_attr)
        place_attr_struct(c, &x);
    c->args = place_struct(c, "arguments", &x.args, shape->args, shape->args_short, &c->args_len);
    k_region_protect(&c->region, c->args, PROT_READ);
    place_result(c);
    place_op(c);
    k_free(x.meta);
    k_free(x.tags);
    k_free(x.keys);
    k_free(x.versions);
}
