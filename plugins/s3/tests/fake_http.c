/* The service http/1 as a script: requests are kept as they were sent, and answered one after another by
 * fake_step. */
#include "fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct pst_http_client {
    struct fake *fake;
};

static char *copy_text(pst_str s)
{
    char *copy = malloc(s.len + 1);

    assert_non_null(copy);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return copy;
}

static pst_rc client_new(const pst_host *host, const pst_http_config *config, pst_http_client **out,
                         pst_error *err)
{
    struct fake *fake = (struct fake *)(uintptr_t)host;

    (void)err;
    assert_int_equal(config->struct_size, sizeof(*config));
    pst_http_client *client = calloc(1, sizeof(*client));
    assert_non_null(client);
    client->fake = fake;
    *out = client;
    return PST_OK;
}

static void client_free(pst_http_client *client)
{
    free(client);
}

static pst_rc send_request(pst_http_client *client, const pst_http_request *request, uint64_t *id)
{
    struct fake *fake = client->fake;
    struct fake_sent *sent = calloc(1, sizeof(*sent));

    assert_non_null(sent);
    assert_int_equal(request->struct_size, sizeof(*request));
    sent->method = copy_text(request->method);
    sent->url = copy_text(request->url);
    sent->headers = calloc(request->n_headers + 1, sizeof(*sent->headers));
    assert_non_null(sent->headers);
    sent->n_headers = request->n_headers;
    for (size_t i = 0; i < request->n_headers; i++) {
        const pst_kv *kv = &request->headers[i];
        sent->headers[i].key = pst_str_of(copy_text(kv->key), kv->key.len);
        sent->headers[i].value = pst_str_of(copy_text(kv->value), kv->value.len);
        for (size_t k = 0; k < kv->value.len; k++) /* http/1 refuses these */
            assert_false(kv->value.ptr[k] == '\r' || kv->value.ptr[k] == '\n');
    }
    for (size_t i = 0; i < request->n_body; i++)
        sent->body_len += request->body[i].len;
    sent->body = malloc(sent->body_len + 1);
    assert_non_null(sent->body);
    size_t at = 0;
    for (size_t i = 0; i < request->n_body; i++) {
        memcpy(sent->body + at, request->body[i].ptr, request->body[i].len);
        at += request->body[i].len;
    }
    sent->body[at] = '\0';
    sent->not_before_ns = request->not_before_ns;
    sent->deadline_ns = request->deadline_ns;
    sent->request = *request;
    sent->is_open = 1;
    pthread_mutex_lock(&fake->mutex);
    assert_true(fake->n_sent < sizeof(fake->sent) / sizeof(fake->sent[0]));
    sent->id = *id = fake->n_sent + 1;
    fake->sent[fake->n_sent++] = sent;
    fake->n_changes++;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->mutex);
    return PST_PENDING;
}

static void cancel_request(pst_http_client *client, uint64_t id)
{
    struct fake *fake = client->fake;

    pthread_mutex_lock(&fake->mutex);
    if (id >= 1 && id <= fake->n_sent)
        fake->sent[id - 1]->is_cancelled = 1;
    fake->n_changes++;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->mutex);
}

static void resume_request(pst_http_client *client, uint64_t id)
{
    struct fake *fake = client->fake;

    assert_true(id >= 1);
    pthread_mutex_lock(&fake->mutex);
    assert_true(id <= fake->n_sent);
    fake->sent[id - 1]->is_paused = 0;
    fake->n_changes++;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->mutex);
}

static void stats(pst_http_client *client, pst_http_stats *out)
{
    out->requests = client->fake->n_sent;
}

const pst_http_1 fake_http = {
    .struct_size = sizeof(fake_http),
    .client_new = client_new,
    .client_free = client_free,
    .send = send_request,
    .cancel = cancel_request,
    .resume = resume_request,
    .stats = stats,
};

/* ---- answers ---------------------------------------------------------------------------------- */

static size_t parse_headers(const char *text, pst_kv *out, size_t max)
{
    size_t n = 0;

    while (text && *text) {
        const char *end = strchr(text, '\n'), *colon = strstr(text, ": ");
        const size_t len = end ? (size_t)(end - text) : strlen(text);
        assert_non_null(colon);
        assert_true(n < max);
        out[n].key = pst_str_of(text, (size_t)(colon - text));
        out[n++].value = pst_str_of(colon + 2, len - (size_t)(colon - text) - 2);
        text = end ? end + 1 : NULL;
    }
    return n;
}

static void finish(struct fake *fake, struct fake_sent *sent, pst_rc rc, pst_http_reply *reply)
{
    pthread_mutex_lock(&fake->mutex);
    sent->is_open = 0;
    pthread_mutex_unlock(&fake->mutex);
    reply->peer = "127.0.0.1:9000";
    if (!reply->message)
        reply->message = rc == PST_OK ? "" : "127.0.0.1:9000: told to fail";
    sent->request.done(sent->request.ctx, rc, reply);
}

/* Move the body to where accept wants it. 1: over, *rc says how. 0: paused. */
static int take_body(struct fake *fake, struct fake_sent *sent, const struct fake_reply *r,
                     pst_http_head *head, pst_http_reply *reply, pst_rc *rc)
{
    const size_t n_body = r->has_cut ? r->cut_at : r->body_len;
    size_t n_done = 0;

    for (;;) {
        pst_http_grant grant = {.struct_size = sizeof(grant)};
        head->n_taken = n_done;
        const int32_t answer = sent->request.accept
                                   ? sent->request.accept(sent->request.ctx, head, &grant)
                               : head->status < 300 ? PST_HTTP_COLLECT
                                                    : PST_HTTP_REJECT;
        if (answer == PST_HTTP_PAUSE) {
            assert_int_equal(n_done, 0);
            pthread_mutex_lock(&fake->mutex);
            /* resume may have come before accept returned */
            sent->was_paused = 1;
            pthread_mutex_unlock(&fake->mutex);
            return 0;
        }
        if (answer < 0) {
            *rc = answer;
            return 1;
        }
        if (answer == PST_HTTP_COLLECT || answer == PST_HTTP_REJECT) {
            const size_t max = answer == PST_HTTP_REJECT ? 64u << 10 : sent->request.body_max;
            *rc = answer == PST_HTTP_COLLECT && n_body > max ? (pst_rc)PST_E_DATA_LOSS : PST_OK;
            reply->body = pst_str_of(r->body, n_body < max ? n_body : max);
            return 1;
        }
        assert_int_equal(answer, PST_HTTP_TAKE);
        size_t room = 0;
        for (size_t i = 0; i < grant.n_dst && n_done < n_body; i++) {
            const size_t n = n_body - n_done < grant.dst[i].len ? n_body - n_done
                                                                : grant.dst[i].len;
            memcpy(grant.dst[i].ptr, r->body + n_done, n);
            n_done += n;
            room += n;
        }
        reply->n_taken = n_done;
        if (n_done == n_body) {
            *rc = PST_OK;
            return 1;
        }
        if (room == 0) {
            *rc = PST_E_DATA_LOSS;
            return 1;
        }
    }
}

static void deliver(struct fake *fake, struct fake_sent *sent)
{
    const struct fake_reply *r = &sent->reply;
    pst_kv headers[64];
    pst_http_reply reply = {.struct_size = sizeof(reply), .flags = r->flags};
    pst_rc rc = r->rc;

    if (r->status == 0) {
        reply.failed_at = r->failed_at;
        finish(fake, sent, rc, &reply);
        return;
    }
    const size_t n = parse_headers(r->headers, headers, 64);
    pst_http_head head = {.struct_size = sizeof(head),
                          .status = r->status,
                          .headers = headers,
                          .n_headers = n,
                          .content_length = r->body_len};
    for (size_t i = 0; i < n; i++) {
        if (headers[i].key.len == 14 && memcmp(headers[i].key.ptr, "content-length", 14) == 0)
            head.content_length = strtoull(headers[i].value.ptr, NULL, 10);
        if ((headers[i].key.len == 17 &&
             memcmp(headers[i].key.ptr, "transfer-encoding", 17) == 0) ||
            (headers[i].key.len == 10 && memcmp(headers[i].key.ptr, "connection", 10) == 0))
            head.content_length = PST_UNKNOWN;
    }
    reply.status = r->status;
    reply.headers = headers;
    reply.n_headers = n;
    reply.first_byte_ns = 1;
    reply.n_sent = sent->body_len;
    pthread_mutex_lock(&fake->mutex);
    sent->is_paused = 1; /* unless resume says otherwise meanwhile */
    pthread_mutex_unlock(&fake->mutex);
    if (!take_body(fake, sent, r, &head, &reply, &rc))
        return;
    if (rc == PST_OK && r->has_cut) {
        rc = PST_E_UNAVAILABLE;
        reply.failed_at = PST_HTTP_AT_BODY;
        reply.flags |= PST_HTTP_MAY_BE_SENT;
    }
    finish(fake, sent, rc, &reply);
}

static int choose_answer(struct fake *fake, struct fake_sent *sent)
{
    if (sent->is_answered)
        return 1;
    if (fake->answer)
        sent->is_answered = fake->answer(fake, sent, &sent->reply);
    else if (fake->n_given < fake->n_replies) {
        sent->reply = fake->replies[fake->n_given++];
        sent->is_answered = 1;
    }
    return sent->is_answered;
}

int fake_step(struct fake *fake)
{
    struct fake_sent *found = NULL;
    int is_cancelled = 0;

    pthread_mutex_lock(&fake->mutex);
    for (size_t i = fake->n_seen; i < fake->n_sent && !found; i++) {
        struct fake_sent *sent = fake->sent[i];
        if (!sent->is_open) {
            if (i == fake->n_seen)
                fake->n_seen++;
            continue;
        }
        is_cancelled = sent->is_cancelled;
        if (is_cancelled || !(sent->was_paused && sent->is_paused))
            found = sent;
    }
    pthread_mutex_unlock(&fake->mutex);
    if (!found)
        return 0;
    if (is_cancelled) {
        pst_http_reply reply = {.struct_size = sizeof(reply),
                                .flags = PST_HTTP_MAY_BE_SENT,
                                .failed_at = PST_HTTP_AT_HEAD};
        finish(fake, found, PST_E_CANCELLED, &reply);
        return 1;
    }
    if (!choose_answer(fake, found))
        return 0;
    found->was_paused = 0;
    deliver(fake, found);
    return 1;
}

void fake_answer_with(struct fake *fake, const struct fake_reply *reply)
{
    assert_true(fake->n_replies < sizeof(fake->replies) / sizeof(fake->replies[0]));
    fake->replies[fake->n_replies++] = *reply;
}

void fake_answer(struct fake *fake, uint32_t status, const char *headers, const char *body)
{
    const struct fake_reply reply = {.status = status,
                                     .headers = headers,
                                     .body = body ? body : "",
                                     .body_len = body ? strlen(body) : 0};

    fake_answer_with(fake, &reply);
}

const char *fake_header(const struct fake_sent *sent, const char *name)
{
    for (size_t i = 0; i < sent->n_headers; i++) {
        if (strcmp(sent->headers[i].key.ptr, name) == 0)
            return sent->headers[i].value.ptr;
    }
    return "";
}

void fake_http_free(struct fake *fake)
{
    for (size_t i = 0; i < fake->n_sent; i++) {
        struct fake_sent *sent = fake->sent[i];
        for (size_t k = 0; k < sent->n_headers; k++) {
            free((void *)(uintptr_t)sent->headers[k].key.ptr);
            free((void *)(uintptr_t)sent->headers[k].value.ptr);
        }
        free(sent->headers);
        free(sent->method);
        free(sent->url);
        free(sent->body);
        free(sent);
    }
    fake->n_sent = fake->n_seen = 0;
}
