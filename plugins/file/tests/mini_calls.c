/* mini_calls.c - one function per operation: submit, wait, check what every result owes, keep it. */
#include "mini_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void keep_text(char *out, pst_str text)
{
    if (!out)
        return;
    memcpy(out, text.ptr, text.len);
    out[text.len] = '\0';
}

static const pst_attr no_attr = {.struct_size = sizeof(no_attr)};

static pst_rc put(struct mini_host *mini, pst_put_args *args, const void *bytes, size_t len,
                  char *etag)
{
    struct mini_op op;
    pst_put_result result = {.struct_size = sizeof(result)};
    char *copy = malloc(len + 1);

    if (!copy)
        abort();
    memcpy(copy, bytes, len);
    pst_iov *spans = mini_spans(copy, len, mini->span_bytes, &args->n_src);
    args->src = spans;
    args->struct_size = sizeof(*args);
    if (!args->attr)
        args->attr = &no_attr;
    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->put(mini->store, &op.op, args, &result));
    if (rc == PST_OK) {
        assert_int_equal(result.size, len);
        assert_int_equal(result.etag_strength, PST_ETAG_STRONG);
        keep_text(etag, result.etag);
    }
    mini_op_fini(&op);
    free(spans);
    free(copy);
    return rc;
}

pst_rc mini_put(struct mini_host *mini, pst_str key, const void *bytes, size_t len, uint32_t flags,
                pst_str if_match, const pst_attr *attr, char *etag)
{
    pst_put_args args = {.flags = flags, .key = key, .if_match = if_match, .attr = attr};

    return put(mini, &args, bytes, len, etag);
}

pst_rc mini_put_sum(struct mini_host *mini, pst_str key, const void *bytes, size_t len,
                    const pst_sum *sum)
{
    pst_put_args args = {.key = key, .sums = sum, .sum_stride = sizeof(*sum), .n_sums = 1};

    return put(mini, &args, bytes, len, NULL);
}

pst_rc mini_read(struct mini_host *mini, pst_str key, uint64_t offset, uint64_t length,
                 uint32_t flags, pst_str if_match, char **bytes, size_t *n_read, char *etag)
{
    struct mini_op op;
    pst_read_result result = {.struct_size = sizeof(result)};
    pst_read_args args = {.struct_size = sizeof(args),
                          .flags = flags,
                          .offset = offset,
                          .length = length,
                          .key = key,
                          .if_match = if_match};
    char *early = NULL;
    pst_iov *spans = NULL;

    mini_op_init(mini, &op);
    if (mini->dst == MINI_DST_EARLY) {
        early = malloc((size_t)length + 1);
        if (!early)
            abort();
        memset(early, 0x5a, (size_t)length + 1);
        spans = mini_spans(early, (size_t)length, mini->span_bytes, &args.n_dst);
        args.dst = spans;
    }
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->read(mini->store, &op.op, &args, &result));
    if (rc == PST_OK) {
        const char *from = early ? early : op.dst;
        assert_int_equal(result.etag_strength, PST_ETAG_STRONG);
        keep_text(etag, result.etag);
        if (n_read)
            *n_read = (size_t)result.n_read;
        if (bytes) {
            *bytes = malloc((size_t)result.n_read + 1);
            if (!*bytes)
                abort();
            if (result.n_read > 0)
                memcpy(*bytes, from, (size_t)result.n_read);
            (*bytes)[result.n_read] = '\0';
        }
    }
    if (early)
        assert_int_equal(early[length], 0x5a);
    if (op.dst)
        assert_int_equal(op.dst[op.dst_len], 0x5a);
    mini_op_fini(&op);
    free(early);
    free(spans);
    return rc;
}

pst_rc mini_stat(struct mini_host *mini, pst_str key, struct mini_op *op, pst_attr *attr)
{
    const pst_stat_args args = {.struct_size = sizeof(args), .key = key};

    memset(attr, 0, sizeof(*attr));
    attr->struct_size = sizeof(*attr);
    mini_op_init(mini, op);
    return mini_op_wait(op, mini->plugin->ops->stat(mini->store, &op->op, &args, attr));
}

pst_rc mini_etag(struct mini_host *mini, pst_str key, char *etag)
{
    struct mini_op op;
    pst_attr attr;
    pst_rc rc = mini_stat(mini, key, &op, &attr);

    if (rc == PST_OK)
        keep_text(etag, attr.etag);
    mini_op_fini(&op);
    return rc;
}

pst_rc mini_remove(struct mini_host *mini, pst_str key, pst_str if_match)
{
    struct mini_op op;
    pst_rc status = PST_E_INTERNAL;
    pst_error error = PST_ERROR_INIT;
    const pst_remove_args args = {
        .struct_size = sizeof(args), .keys = &key, .n_keys = 1, .if_match = if_match};
    pst_remove_result result = {.struct_size = sizeof(result),
                                .status = &status,
                                .errors = &error,
                                .error_stride = sizeof(error)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->remove(mini->store, &op.op, &args, &result));
    mini_op_fini(&op);
    assert_int_equal(error.struct_size, sizeof(error));
    if (rc == PST_OK) {
        assert_int_equal(error.code, status);
        pthread_mutex_lock(&mini->mutex);
        mini->err = error;
        pthread_mutex_unlock(&mini->mutex);
        rc = status;
    }
    return rc;
}

static pst_rc copy_or_rename(struct mini_host *mini, int is_copy, const pst_copy_args *args)
{
    struct mini_op op;
    pst_put_result result = {.struct_size = sizeof(result)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(
        &op, is_copy ? mini->plugin->ops->copy(mini->store, &op.op, args, &result)
                     : mini->plugin->ops->rename(mini->store, &op.op, args, &result));
    if (rc == PST_OK && !mini->is_threaded && mini->fail_after < 0) {
        char etag[128], now[128];
        keep_text(etag, result.etag);
        assert_int_equal(mini_etag(mini, args->to, now), PST_OK);
        assert_string_equal(etag, now);
    }
    mini_op_fini(&op);
    return rc;
}

pst_rc mini_copy(struct mini_host *mini, pst_str from, pst_str to, uint32_t flags,
                 pst_str from_if_match, pst_str if_match, const pst_attr *attr)
{
    const pst_copy_args args = {.struct_size = sizeof(args),
                                .flags = flags | (attr ? PST_COPY_REPLACE_ATTR : 0u),
                                .from = from,
                                .from_if_match = from_if_match,
                                .to = to,
                                .if_match = if_match,
                                .attr = attr ? attr : &no_attr};

    return copy_or_rename(mini, 1, &args);
}

pst_rc mini_rename(struct mini_host *mini, pst_str from, pst_str to, uint32_t flags,
                   pst_str if_match)
{
    const pst_copy_args args = {.struct_size = sizeof(args),
                                .flags = flags,
                                .from = from,
                                .to = to,
                                .if_match = if_match,
                                .attr = &no_attr};

    return copy_or_rename(mini, 0, &args);
}

pst_rc mini_container(struct mini_host *mini, pst_str name, int is_create)
{
    struct mini_op op;
    const pst_container_args args = {.struct_size = sizeof(args), .name = name};
    pst_result result = {.struct_size = sizeof(result)};
    const pst_backend_ops *ops = mini->plugin->ops;

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, is_create
                                      ? ops->container_create(mini->store, &op.op, &args, &result)
                                      : ops->container_delete(mini->store, &op.op, &args, &result));
    mini_op_fini(&op);
    return rc;
}

pst_rc mini_cleanup(struct mini_host *mini, pst_str prefix, uint64_t older_than_s, uint32_t flags,
                    uint64_t *n_removed, uint64_t *n_bytes)
{
    struct mini_op op;
    const pst_cleanup_args args = {.struct_size = sizeof(args),
                                   .flags = flags,
                                   .older_than_s = older_than_s,
                                   .prefix = prefix};
    pst_cleanup_result result = {.struct_size = sizeof(result)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->cleanup(mini->store, &op.op, &args, &result));
    *n_removed = result.n_removed;
    if (n_bytes)
        *n_bytes = result.n_bytes;
    if (rc == PST_OK)
        assert_int_equal(op.n_entries, result.n_removed);
    mini_op_fini(&op);
    return rc;
}

pst_rc mini_upload_open(struct mini_host *mini, pst_str key, uint32_t flags, pst_str if_match,
                        pst_upload **upload)
{
    struct mini_op op;
    char *moved = malloc(key.len + 1); /* the arguments do not outlive the call */
    const pst_put_args args = {.struct_size = sizeof(args),
                               .flags = flags,
                               .size_hint = PST_UNKNOWN,
                               .key = pst_str_of(moved, key.len),
                               .if_match = if_match,
                               .attr = &no_attr};
    pst_upload_result result = {.struct_size = sizeof(result)};

    if (!moved)
        abort();
    memcpy(moved, key.ptr, key.len);
    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op,
                             mini->plugin->ops->upload_open(mini->store, &op.op, &args, &result));
    *upload = rc == PST_OK ? result.upload : NULL;
    mini_op_fini(&op);
    free(moved);
    return rc;
}

pst_rc mini_part(struct mini_host *mini, pst_upload *upload, uint32_t number, uint64_t offset,
                 const void *bytes, size_t len)
{
    struct mini_op op;
    char *copy = malloc(len + 1);
    if (!copy)
        abort();
    memcpy(copy, bytes, len);
    const pst_iov src = {copy, len};
    const pst_part_args args = {
        .struct_size = sizeof(args), .offset = offset, .number = number, .src = &src, .n_src = 1};
    pst_result result = {.struct_size = sizeof(result)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->upload_part(upload, &op.op, &args, &result));
    mini_op_fini(&op);
    free(copy);
    return rc;
}

pst_rc mini_commit(struct mini_host *mini, pst_upload *upload, uint64_t size, uint32_t n_parts,
                   char *etag)
{
    struct mini_op op;
    const pst_commit_args args = {.struct_size = sizeof(args), .size = size, .n_parts = n_parts};
    pst_put_result result = {.struct_size = sizeof(result)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->upload_commit(upload, &op.op, &args, &result));
    if (rc == PST_OK) {
        assert_int_equal(result.size, size);
        keep_text(etag, result.etag);
    }
    mini_op_fini(&op);
    return rc;
}

pst_rc mini_abort(struct mini_host *mini, pst_upload *upload)
{
    struct mini_op op;
    const pst_abort_args args = {.struct_size = sizeof(args)};
    pst_result result = {.struct_size = sizeof(result)};

    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op, mini->plugin->ops->upload_abort(upload, &op.op, &args, &result));
    mini_op_fini(&op);
    return rc;
}

void mini_upload_free(struct mini_host *mini, pst_upload *upload)
{
    mini->plugin->ops->upload_free(upload);
}

/* All pages; a page that fails for lack of memory is asked for again, as a host does. */
static pst_rc list_pages(struct mini_host *mini, pst_cursor *cursor, uint32_t page_entries,
                         struct mini_list *out)
{
    const pst_page_args args = {.struct_size = sizeof(args), .max_entries = page_entries};
    int is_last = 0, n_tries = 0;

    while (!is_last) {
        struct mini_op **ops = reallocarray(out->ops, out->n_ops + 1, sizeof(*ops));
        struct mini_op *op = malloc(sizeof(*op));
        pst_list_result result = {.struct_size = sizeof(result)};
        if (!ops || !op)
            abort();
        out->ops = ops;
        mini_op_init(mini, op);
        pst_rc rc = mini_op_wait(op, mini->plugin->ops->list_page(cursor, &op->op, &args, &result));
        if (rc != PST_OK) {
            mini_op_fini(op);
            free(op);
            if (rc != PST_E_NO_MEMORY || n_tries++ == 1000)
                return rc;
            continue;
        }
        out->ops[out->n_ops++] = op;
        if (page_entries > 0)
            assert_true(op->n_entries <= page_entries);
        is_last = (result.flags & PST_PAGE_LAST) != 0;
        assert_true(is_last || op->n_entries > 0);
        out->entries = reallocarray(out->entries, out->n + op->n_entries + 1, sizeof(pst_entry));
        if (!out->entries)
            abort();
        if (op->n_entries > 0)
            memcpy(out->entries + out->n, op->entries, op->n_entries * sizeof(pst_entry));
        out->n += op->n_entries;
    }
    return PST_OK;
}

pst_rc mini_list(struct mini_host *mini, pst_str prefix, pst_str start_after, uint32_t flags,
                 uint32_t page_entries, struct mini_list *out)
{
    struct mini_op op;
    const pst_list_args args = {
        .struct_size = sizeof(args), .flags = flags, .prefix = prefix, .start_after = start_after};
    pst_cursor_result result = {.struct_size = sizeof(result)};

    memset(out, 0, sizeof(*out));
    mini_op_init(mini, &op);
    pst_rc rc = mini_op_wait(&op,
                             mini->plugin->ops->list_open(mini->store, &op.op, &args, &result));
    mini_op_fini(&op);
    if (rc != PST_OK)
        return rc;
    rc = list_pages(mini, result.cursor, page_entries, out);
    mini->plugin->ops->list_close(result.cursor);
    return rc;
}

void mini_list_free(struct mini_list *list)
{
    for (size_t i = 0; i < list->n_ops; i++) {
        mini_op_fini(list->ops[i]);
        free(list->ops[i]);
    }
    free(list->ops);
    free(list->entries);
    memset(list, 0, sizeof(*list));
}
