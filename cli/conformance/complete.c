/* complete.c - what happens when a completion comes, on whatever thread: the outcome is checked and
 * copied out, then the operation's pages close, before complete() returns to the plugin. */
#include <stdlib.h>
#include <string.h>

#include "kit.h"

static pst_str copy_str(struct k_call *c, pst_str s)
{
    if (s.len == 0)
        return pst_str_of("", 0);
    if (s.len > 16u * 1024 * 1024 || !s.ptr) {
        k_fail(c->host->test,
               "expected the strings in the result of %s to have a sane length, got "
               "%zu",
               k_slot_name(c->slot), s.len);
        return pst_str_of("", 0);
    }
    struct k_copy *copy = (struct k_copy *)(void *)k_alloc(sizeof(*copy) + s.len + 1);
    memcpy(copy->data, s.ptr, s.len);
    copy->next = c->copies;
    c->copies = copy;
    return pst_str_of(copy->data, s.len);
}

static const pst_kv *copy_pairs(struct k_call *c, const pst_kv *from, size_t n)
{
    if (n == 0 || n > 100000)
        return from;
    pst_kv *pairs = k_dup_array(from, n, sizeof(pst_kv));
    for (size_t i = 0; i < n; i++) {
        pairs[i].key = copy_str(c, pairs[i].key);
        pairs[i].value = copy_str(c, pairs[i].value);
    }
    return pairs;
}

static void copy_attr(struct k_call *c, pst_attr *a)
{
    a->etag = copy_str(c, a->etag);
    a->version = copy_str(c, a->version);
    a->content_type = copy_str(c, a->content_type);
    a->content_encoding = copy_str(c, a->content_encoding);
    a->content_language = copy_str(c, a->content_language);
    a->content_disposition = copy_str(c, a->content_disposition);
    a->cache_control = copy_str(c, a->cache_control);
    a->storage_class = copy_str(c, a->storage_class);
    a->user_meta = copy_pairs(c, a->user_meta, a->n_user_meta);
    a->tags = copy_pairs(c, a->tags, a->n_tags);
}

static void copy_result(struct k_call *c)
{
    size_t len = k_result_size(c);
    memset(&c->out, 0, sizeof(c->out));
    memcpy(&c->out, c->result, len);
    c->live = c->out;
    if (c->rc != PST_OK)
        return;
    switch (c->slot) {
    case K_READ:
        c->out.read.etag = copy_str(c, c->out.read.etag);
        c->out.read.version = copy_str(c, c->out.read.version);
        break;
    case K_STAT:
        copy_attr(c, &c->out.attr);
        break;
    case K_PUT:
    case K_APPEND:
    case K_COPY:
    case K_RENAME:
    case K_UPLOAD_COMMIT:
        c->out.put.etag = copy_str(c, c->out.put.etag);
        c->out.put.version = copy_str(c, c->out.put.version);
        break;
    case K_LIST:
    case K_CONTAINER_LIST:
        c->out.list.next_token = copy_str(c, c->out.list.next_token);
        break;
    case K_PRESIGN:
        c->out.presign.url = copy_str(c, c->out.presign.url);
        break;
    default:
        break;
    }
}

static void check_frame(struct k_call *c, const char *what, const void *frame, size_t len)
{
    struct k_test *t = c->host->test;
    uint32_t struct_size = 0;
    memcpy(&struct_size, frame, sizeof(struct_size));
    if (struct_size != len)
        k_fail(t, "expected struct_size of the %s of %s to stay %zu, got %u", what,
               k_slot_name(c->slot), len, struct_size);
    if (c->host->skew != K_NEWER)
        return;
    const unsigned char *tail = (const unsigned char *)frame + len - K_TAIL;
    for (size_t i = 0; i < K_TAIL; i++) {
        if (tail[i] != K_POISON) {
            k_fail(t,
                   "expected members that the plugin cannot know to stay untouched in the %s of "
                   "%s, got byte %zu of them written",
                   what, k_slot_name(c->slot), i);
            return;
        }
    }
}

static void check_errors(struct k_call *c)
{
    struct k_test *t = c->host->test;
    for (size_t i = 0; c->errors && i < c->in.remove.n_keys; i++) {
        const unsigned char *at = c->errors + i * K_ERROR_STRIDE;
        uint32_t struct_size = 0;
        memcpy(&struct_size, at, sizeof(struct_size));
        bool has_tail = true;
        for (size_t k = sizeof(pst_error); k < K_ERROR_STRIDE; k++)
            has_tail &= at[k] == K_POISON;
        if (!k_that(
                t, struct_size == K_ERROR_STRIDE && has_tail,
                "expected the error of key %zu to keep its struct_size and what lies beyond the "
                "plugin's pst_error, got them changed",
                i))
            return;
    }
}

static bool is_terminated(const char *text, size_t size)
{
    return memchr(text, '\0', size) != NULL;
}

static void check_error(struct k_call *c)
{
    struct k_test *t = c->host->test;
    pst_error *e = &c->error;
    memcpy(e, c->err, sizeof(*e));
    if (!is_terminated(e->message, sizeof(e->message)) ||
        !is_terminated(e->provider_code, sizeof(e->provider_code)) ||
        !is_terminated(e->request_id, sizeof(e->request_id)) ||
        !is_terminated(e->endpoint, sizeof(e->endpoint))) {
        k_fail(t, "expected every text of the error to end with NUL inside its array, got one that "
                  "does not");
        e->message[sizeof(e->message) - 1] = '\0';
        e->provider_code[sizeof(e->provider_code) - 1] = '\0';
        e->request_id[sizeof(e->request_id) - 1] = '\0';
        e->endpoint[sizeof(e->endpoint) - 1] = '\0';
    }
    k_check_text(t, "the error's message", e->message);
    k_check_text(t, "the error's provider code", e->provider_code);
    k_check_text(t, "the error's endpoint", e->endpoint);
}

static void check_read(struct k_call *c)
{
    struct k_test *t = c->host->test;
    const pst_read_result *r = &c->out.read;
    if (c->rc != PST_OK)
        return;
    if (r->n_read > c->in.read.length)
        k_fail(t, "expected at most the %llu bytes asked for, got n_read %llu",
               (unsigned long long)c->in.read.length, (unsigned long long)r->n_read);
    if (c->in.read.n_dst == 0 && c->host->skew != K_OLDER && r->n_read > c->granted)
        k_fail(t, "expected at most the %llu bytes granted by dst(), got n_read %llu",
               (unsigned long long)c->granted, (unsigned long long)r->n_read);
}

static void take_snapshot(struct k_call *c)
{
    struct k_test *t = c->host->test;
    const char *name = NULL;
    if (!c->data.base)
        return;
    if (!k_region_is_intact(&c->data, &name))
        k_fail(t, "expected nothing to be written around the %s, got bytes there", name);
    k_region_freeze(&c->data);
    size_t total = 0;
    for (size_t i = 0; i < c->n_spans; i++)
        total += c->spans[i].len;
    c->snapshot = k_alloc(total + 1);
    for (size_t i = 0, at = 0; i < c->n_spans; at += c->spans[i].len, i++)
        memcpy(c->snapshot + at, c->spans[i].ptr, c->spans[i].len);
    c->snapshot_len = total;
}

void k_call_completed(struct k_call *c, pst_rc rc)
{
    struct k_test *t = c->host->test;
    const char *name = NULL;
    if (atomic_exchange(&c->state, K_DONE) == K_DONE) {
        k_fail(t, "expected one completion of %s, got two side by side", k_slot_name(c->slot));
        return;
    }
    c->finished_ns = k_now_ns();
    c->rc = rc;
    if (rc > 0 || strncmp(k_rc_name(rc), "the unknown", 11) == 0)
        k_fail(t, "expected %s to end with OK or an error of status.h, got %s",
               k_slot_name(c->slot), k_rc_name(rc));
    copy_result(c);
    check_frame(c, "result", c->result, c->result_len);
    check_frame(c, "error", c->err, c->err_len);
    check_frame(c, "op", c->op, c->op_len);
    if (!k_region_is_intact(&c->region, &name))
        k_fail(t, "expected nothing to be written around the %s of %s, got bytes there", name,
               k_slot_name(c->slot));
    check_error(c);
    if (c->slot == K_READ)
        check_read(c);
    if (c->statuses) {
        c->live.remove.status = k_dup_array(c->statuses, c->in.remove.n_keys, sizeof(pst_rc));
        c->statuses = c->live.remove.status;
        check_errors(c);
        if (c->errors)
            c->errors = k_dup_array(c->errors, c->in.remove.n_keys, K_ERROR_STRIDE);
    }
    take_snapshot(c);
    for (size_t i = 0; i < K_HEAPS; i++)
        if (c->heaps[i].base)
            k_region_freeze(&c->heaps[i]);
    if (c->on_complete)
        c->on_complete(c, c->on_complete_arg);
    if (!c->keep)
        k_region_bury(&c->region);
    atomic_fetch_sub(&c->host->n_outstanding, 1);
    (void)pthread_mutex_lock(&c->mutex);
    c->is_finished = true;
    (void)pthread_cond_broadcast(&c->cond);
    (void)pthread_mutex_unlock(&c->mutex);
}
