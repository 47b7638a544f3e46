/* slot.c - easy handles: made once for a client and scheme, then reused.
 *
 * What belongs to the client is set when the handle is made. Of a request only what differs from the
 * last one on the same handle is set: usually the target and the headers. The target is given apart
 * from the URL, so that libcurl parses nothing but "http://host:port/" and sends the rest byte by byte.
 * A proxy for plain http is the exception: there the request line holds the whole URL.
 *
 * Sockets are opened here, close-on-exec. */
#include "net/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* How long a server may think about "Expect: 100-continue" before the body goes anyway. */
#define EXPECT_WAIT_MS 500L

enum kind {
    KIND_GET,    /* no body */
    KIND_HEAD,   /* none in either direction */
    KIND_FIELDS, /* a short body in one piece: one send with the head */
    KIND_UPLOAD, /* any other body, through pst_send_read */
};

static curl_socket_t open_socket(void *client, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    pst_client_note_socket(client, fd);
    return fd;
}

/* libcurl tells of a TCP connection only when TLS is through as well. */
static CURLcode note_tls(CURL *easy, void *ssl_ctx, void *arg)
{
    (void)easy;
    (void)ssl_ctx;
    ((struct pst_slot *)arg)->has_begun_tls = 1;
    return CURLE_OK;
}

static int set_up(struct pst_slot *slot)
{
    CURL *easy = slot->easy;
    struct pst_http_client *client = slot->lane->client;
    struct pst_loop *loop = slot->lane->loop;
    CURLSH *share = loop->shares[loop->next_share++ % PST_LOOP_SHARES];
    CURLcode rc = CURLE_OK;
#define SET(option, value) (rc = rc ? rc : curl_easy_setopt(easy, CURLOPT_##option, (value)))
    SET(SHARE, share);
    SET(PRIVATE, (void *)slot);
    SET(ERRORBUFFER, slot->error);
    SET(HEADERFUNCTION, pst_receive_header);
    SET(HEADERDATA, (void *)slot);
    SET(WRITEFUNCTION, pst_receive_body);
    SET(WRITEDATA, (void *)slot);
    SET(READFUNCTION, pst_send_read);
    SET(READDATA, (void *)slot);
    SET(SEEKFUNCTION, pst_send_seek);
    SET(SEEKDATA, (void *)slot);
    SET(OPENSOCKETFUNCTION, open_socket);
    SET(OPENSOCKETDATA, (void *)client);
    SET(EXPECT_100_TIMEOUT_MS, EXPECT_WAIT_MS);
    SET(SSL_CTX_FUNCTION, note_tls);
    SET(SSL_CTX_DATA, (void *)slot);
#undef SET
    return rc == CURLE_OK && pst_settings_apply(&client->settings, slot->is_https, easy);
}

static struct pst_slot *take_slot(struct pst_lane *lane, int is_https)
{
    struct pst_ring *idle = &lane->idle[is_https];
    struct pst_slot *slot;
    if (!pst_ring_is_empty(idle)) {
        slot = PST_RING_ENTRY(idle->next, struct pst_slot, link);
        pst_ring_remove(&slot->link);
        return slot;
    }
    return pst_slot_new(lane, is_https);
}

struct pst_slot *pst_slot_new(struct pst_lane *lane, int is_https)
{
    struct pst_slot *slot = calloc(1, sizeof(*slot));
    if (!slot)
        return NULL;
    slot->lane = lane;
    slot->is_https = is_https;
    slot->easy = curl_easy_init();
    pst_head_reset(&slot->head);
    if (!slot->easy || !set_up(slot)) {
        pst_slot_free(slot);
        return NULL;
    }
    return slot;
}

void pst_slot_free(struct pst_slot *slot)
{
    if (slot->wire)
        slot->wire->is_good = 0;
    pst_slot_stop(slot);
    curl_easy_cleanup(slot->easy);
    pst_head_fini(&slot->head);
    free(slot);
}

static enum kind kind_of(const struct pst_transfer *t)
{
    if (t->body_bytes == 0) {
        if (strcmp(t->method, "HEAD") == 0)
            return KIND_HEAD;
        /* "Content-Length: 0" has to be said where a body is usual. */
        return strcmp(t->method, "PUT") == 0 || strcmp(t->method, "POST") == 0 ||
                       strcmp(t->method, "PATCH") == 0
                   ? KIND_FIELDS
                   : KIND_GET;
    }
    return t->n_body == 1 && t->body_bytes <= PST_FIELDS_MAX ? KIND_FIELDS : KIND_UPLOAD;
}

#define SET(option, value) (rc = rc ? rc : curl_easy_setopt(slot->easy, CURLOPT_##option, (value)))

static CURLcode set_method(struct pst_slot *slot, const struct pst_transfer *t, int kind)
{
    CURLcode rc = CURLE_OK;
    if (kind != slot->kind) {
        SET(HTTPGET, 1L);
        if (kind == KIND_HEAD)
            SET(NOBODY, 1L);
        else if (kind == KIND_FIELDS)
            SET(POST, 1L);
        else if (kind == KIND_UPLOAD)
            SET(UPLOAD, 1L);
        slot->kind = kind;
        slot->is_upload = kind == KIND_UPLOAD;
    }
    if (strcmp(slot->method, t->method) != 0) {
        SET(CUSTOMREQUEST, t->method);
        memcpy(slot->method, t->method, strlen(t->method) + 1);
    }
    if (kind == KIND_FIELDS) {
        SET(POSTFIELDSIZE_LARGE, (curl_off_t)t->body_bytes);
        SET(POSTFIELDS, t->n_body ? t->body[0].ptr : (void *)slot->error /* none is read */);
    } else if (kind == KIND_UPLOAD) {
        SET(INFILESIZE_LARGE, (curl_off_t)t->body_bytes);
    }
    return rc;
}

static CURLcode set_target(struct pst_slot *slot, const struct pst_transfer *t)
{
    CURLcode rc = CURLE_OK;
    if (!t->url.is_https && *pst_settings_proxy(&t->client->settings, 0)) {
        SET(URL, t->whole_url);
        return rc;
    }
    if (slot->origin != t->origin)
        SET(URL, t->origin->url);
    SET(REQUEST_TARGET, t->target);
    slot->origin = t->origin;
    return rc;
}

/* Ask before a large body is sent, unless the last one was welcome: a refusal then costs a round trip
 * instead of the body, and in the good case the question is asked once. */
static void set_expect(struct pst_transfer *t)
{
    const struct pst_origin *origin = t->origin;
    t->asks_first = t->expect && t->body_bytes >= PST_EXPECT_MIN && origin->asks_before_sending &&
                    !origin->ignores_expect;
    if (t->asks_first)
        *t->expect = NULL; /* then libcurl asks, and if that gives 417 does not the second time */
}

static CURLcode set_connection(struct pst_slot *slot, const struct pst_transfer *t)
{
    /* Where connections are kept for wires libcurl keeps none: together they would be too many. */
    const int is_single = (t->flags & PST_HTTP_NO_REUSE) != 0 ||
                          (t->client->settings.has_wire &&
                           (t->url.is_https || !*pst_settings_proxy(&t->client->settings, 0)));
    const int is_fresh = is_single || t->is_second_try;
    CURLcode rc = CURLE_OK;
    if (is_fresh != slot->is_fresh)
        SET(FRESH_CONNECT, (long)is_fresh);
    if (is_single != slot->is_single)
        SET(FORBID_REUSE, (long)is_single);
    slot->is_fresh = is_fresh;
    slot->is_single = is_single;
    return rc;
}
#undef SET

static pst_rc start(struct pst_slot *slot, struct pst_transfer *t)
{
    slot->error[0] = '\0';
    slot->has_begun_tls = 0;
    t->last_progress_ns = t->loop->now_ns;
    t->last_sent = 0;
    if (set_connection(slot, t) != CURLE_OK ||
        curl_multi_add_handle(t->loop->multi, slot->easy) != CURLM_OK)
        return PST_E_NO_MEMORY;
    slot->is_added = slot->is_counted = 1;
    t->loop->n_libcurl++;
    return PST_OK;
}

static pst_rc start_libcurl(struct pst_transfer *t)
{
    struct pst_origin *origin = t->origin;
    struct pst_slot *slot = take_slot(t->lane, t->url.is_https);
    CURLcode rc = CURLE_OK;
    if (!slot)
        return PST_E_NO_MEMORY;
    pst_wire_close_kept(origin, origin->quota - origin->n_active);
    t->slot = slot;
    slot->transfer = t;
    rc = set_target(slot, t);
    rc = rc ? rc : set_method(slot, t, (int)kind_of(t));
    rc = rc ? rc : curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, t->headers);
    if (rc != CURLE_OK)
        return rc == CURLE_OUT_OF_MEMORY ? PST_E_NO_MEMORY : PST_E_INTERNAL;
    return start(slot, t);
}

pst_rc pst_slot_start(struct pst_transfer *t)
{
    pst_loop_check_at(t->loop, t->loop->now_ns +
                                   (uint64_t)t->client->settings.stall_timeout_ms * 1000000u / 8);
    set_expect(t);
    if (!pst_wire_fits(t))
        return start_libcurl(t);
    return pst_wire_start(t) ? (pst_rc)PST_OK : (pst_rc)PST_E_NO_MEMORY;
}

static int is_kept(const struct pst_slot *slot)
{
    long n_connects = 0;
    if (slot->wire)
        return slot->wire->has_served;
    curl_easy_getinfo(slot->easy, CURLINFO_NUM_CONNECTS, &n_connects);
    return n_connects == 0;
}

/* libcurl does this itself in most cases. Not when the connection breaks in the middle of a body that is
 * being sent; and not more than five times in the life of a handle, of which it counts all requests
 * together (7.88). */
int pst_slot_retry(struct pst_transfer *t, CURLcode code)
{
    struct pst_slot *slot = t->slot;
    const int was_wire = slot->wire != NULL;
    if ((code != CURLE_SEND_ERROR && code != CURLE_RECV_ERROR && code != CURLE_GOT_NOTHING) ||
        t->first_byte_ns != 0 || t->is_second_try || t->rc != PST_OK || !is_kept(slot))
        return 0;
    t->is_second_try = 1;
    t->was_sent = pst_finish_has_sent(t);
    pst_send_rewind(t);
    pst_slot_stop(slot);
    if (!was_wire)
        return start(slot, t) == PST_OK;
    t->slot = NULL;
    pst_slot_free(slot);
    return pst_wire_start(t);
}

void pst_slot_uncount(struct pst_slot *slot)
{
    if (slot->is_counted)
        slot->lane->loop->n_libcurl--;
    slot->is_counted = 0;
}

void pst_slot_stop(struct pst_slot *slot)
{
    struct pst_http_client *client = slot->lane->client;
    if (slot->wire && slot->wire->is_good)
        return; /* its connection serves again */
    pst_slot_uncount(slot);
    pst_wire_free(slot);
    if (slot->is_added) {
        /* Which may close a socket, whose number another thread may be asking about for its figures. */
        pthread_mutex_lock(&client->mutex);
        curl_multi_remove_handle(slot->lane->loop->multi, slot->easy);
        pthread_mutex_unlock(&client->mutex);
    }
    slot->is_added = 0;
}

void pst_slot_give_back(struct pst_slot *slot)
{
    slot->transfer = NULL;
    pst_head_reset(&slot->head);
    if (slot->kept_by && slot->wire)
        pst_wire_give_back(slot);
    else if (slot->kept_by)
        pst_slot_free(slot);
    else
        pst_ring_add_first(&slot->lane->idle[slot->is_https], &slot->link);
}
