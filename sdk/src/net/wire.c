/* wire.c - http/1's own path: a request and its reply over a connection that libcurl has opened.
 *
 * Measured with 64 KiB replies, libcurl takes half of a client's CPU time: it copies every body once
 * more, looks at all transfers in every round, asks the kernel about every idle connection, and keeps
 * books about headers nobody reads. So a connection is opened by libcurl, which resolves, goes through
 * proxies and shakes hands (CONNECT_ONLY), and used here: one send for the head, straight from the spans
 * for the body; one read for the head of the reply, straight into the caller's memory for its body. A
 * plain connection is written and read by system calls, one with TLS through libcurl's functions for
 * that.
 *
 * Connections stand in the loop's epoll set once for all, edge-triggered. One that is idle and has an
 * event was closed, or says something unasked: it is closed. Which of those that are kept is taken: the
 * one used last, so that those that are too many grow old and are closed, by the server or here.
 *
 * They stay in libcurl's cache, which it looks through now and then for connections that nobody uses and
 * that are dead or old, to close them; the number of the descriptor would be another connection's next.
 * Ours are in use as far as libcurl knows: its handle is tied to the connection from the first
 * curl_easy_recv on.
 *
 * What does not go this way: a body that asks first (Expect), requests with a connection of their own,
 * plain http through a proxy. Those are libcurl's from end to end, as is everything when the client asks
 * for it (PST_HTTP_LIBCURL). */
#include "net/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net/net.h"
#include "util/wipe.h"

#define SPANS_MAX 64
#define TURN_BYTES (4u * 1024 * 1024)
#define TLS_PIECE_BYTES (64u * 1024)
#define OUT_KEPT_BYTES (16u * 1024)
/* As libcurl does with its own. */
#define IDLE_MAX_NS (118 * UINT64_C(1000000000))

int pst_wire_fits(const struct pst_transfer *t)
{
    return t->client->settings.has_wire && !(t->flags & PST_HTTP_NO_REUSE) && !t->asks_first &&
           (t->body_bytes == 0 || t->expect) &&
           (t->url.is_https || !*pst_settings_proxy(&t->client->settings, 0));
}

/* ---- the head of a request -------------------------------------------------------------------- */

static int add(struct pst_wire *wire, const char *text, size_t len)
{
    if (wire->out_len + len > wire->out_room) {
        size_t room = wire->out_room ? wire->out_room : 1024;
        while (room < wire->out_len + len)
            room *= 2;
        char *out = pst_wipe_grow(wire->out, wire->out_len, room);
        if (!out)
            return 0;
        wire->out = out;
        wire->out_room = room;
    }
    memcpy(wire->out + wire->out_len, text, len);
    wire->out_len += len;
    return 1;
}

static int add_text(struct pst_wire *wire, const char *text)
{
    return add(wire, text, strlen(text));
}

/* The list is written for libcurl: "Name;" has an empty value, "Name:" is not to be sent. */
static int add_header(struct pst_wire *wire, const char *line)
{
    const size_t len = strlen(line);
    const char *colon = memchr(line, ':', len);
    if (colon == line + len - 1)
        return 1;
    if (!colon)
        return add(wire, line, len - 1) && add_text(wire, ":\r\n");
    return add(wire, line, len) && add_text(wire, "\r\n");
}

/* Whether the request brings this header, be it empty. */
static int has_header(const struct pst_transfer *t, const char *name)
{
    const size_t len = strlen(name);
    const struct curl_slist *h = t->headers;
    while (h &&
           (strncasecmp(h->data, name, len) != 0 || (h->data[len] != ':' && h->data[len] != ';')))
        h = h->next;
    return h != NULL;
}

static int has_length_zero(const struct pst_transfer *t)
{
    return strcmp(t->method, "PUT") == 0 || strcmp(t->method, "POST") == 0 ||
           strcmp(t->method, "PATCH") == 0;
}

static int write_head(struct pst_slot *slot, const struct pst_transfer *t)
{
    struct pst_wire *wire = slot->wire;
    const char *agent = t->client->settings.user_agent;
    int is_good = 1;
    char length[48];
    wire->out_len = 0;
    wire->out_at = 0;
    is_good &= add_text(wire, t->method) && add_text(wire, " ") && add_text(wire, t->target) &&
               add_text(wire, " HTTP/1.1\r\n");
    if (!has_header(t, "host"))
        is_good &= add_text(wire, "Host: ") && add_text(wire, t->origin->host_field) &&
                   add_text(wire, "\r\n");
    if (!has_header(t, "user-agent"))
        is_good &= add_text(wire, "User-Agent: ") && add_text(wire, agent) &&
                   add_text(wire, "\r\n");
    for (const struct curl_slist *h = t->headers; is_good && h; h = h->next)
        is_good &= add_header(wire, h->data);
    if (t->body_bytes > 0 || has_length_zero(t)) {
        snprintf(length, sizeof(length), "Content-Length: %llu\r\n",
                 (unsigned long long)t->body_bytes);
        is_good &= add_text(wire, length);
    }
    return is_good && add_text(wire, "\r\n");
}

/* ---- sending ----------------------------------------------------------------------------------- */

/* `n` bytes went out: of the head first, then of the body. */
static void note_sent(struct pst_slot *slot, size_t n)
{
    struct pst_wire *wire = slot->wire;
    struct pst_transfer *t = slot->transfer;
    const size_t head_left = wire->out_len - wire->out_at;
    const size_t head = n < head_left ? n : head_left;
    wire->out_at += head;
    n -= head;
    t->n_read += n;
    while (n > 0) {
        const size_t span_left = t->body[t->at_span].len - t->at_byte;
        const size_t part = n < span_left ? n : span_left;
        t->at_byte += part;
        n -= part;
        if (t->at_byte == t->body[t->at_span].len) {
            t->at_span++;
            t->at_byte = 0;
        }
    }
    t->last_progress_ns = t->loop->now_ns;
}

static long send_plain(struct pst_slot *slot)
{
    const struct pst_wire *wire = slot->wire;
    const struct pst_transfer *t = slot->transfer;
    struct iovec spans[SPANS_MAX];
    struct msghdr message = {.msg_iov = spans};
    size_t n = 0;
    if (wire->out_at < wire->out_len)
        spans[n++] = (struct iovec){wire->out + wire->out_at, wire->out_len - wire->out_at};
    for (size_t i = t->at_span; i < t->n_body && n < SPANS_MAX; i++, n++) {
        const size_t skip = i == t->at_span ? t->at_byte : 0;
        spans[n] = (struct iovec){(char *)t->body[i].ptr + skip, t->body[i].len - skip};
    }
    if (n == 1)
        return send(wire->fd, spans[0].iov_base, spans[0].iov_len, MSG_NOSIGNAL);
    message.msg_iovlen = n;
    return sendmsg(wire->fd, &message, MSG_NOSIGNAL);
}

/* A call that could not finish is made again with the same bytes, as OpenSSL wants it. */
static long send_tls(struct pst_slot *slot)
{
    const struct pst_wire *wire = slot->wire;
    const struct pst_transfer *t = slot->transfer;
    const char *from = wire->out + wire->out_at;
    size_t len = wire->out_len - wire->out_at;
    size_t n = 0;
    if (len == 0) {
        from = (const char *)t->body[t->at_span].ptr + t->at_byte;
        len = t->body[t->at_span].len - t->at_byte;
        if (len > TLS_PIECE_BYTES)
            len = TLS_PIECE_BYTES;
    }
    const CURLcode code = curl_easy_send(slot->easy, from, len, &n);
    if (code == CURLE_OK)
        return (long)n;
    errno = code == CURLE_AGAIN ? EAGAIN : EIO;
    return -1;
}

/* Returns 0 if the connection is lost. */
static int send_more(struct pst_slot *slot)
{
    struct pst_wire *wire = slot->wire;
    struct pst_transfer *t = slot->transfer;
    size_t turn = 0;
    while (!wire->is_sent) {
        if (turn >= TURN_BYTES) {
            pst_wire_make_hot(slot);
            return 1;
        }
        const long n = wire->is_tls ? send_tls(slot) : send_plain(slot);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 1;
        if (n < 0) {
            wire->sys_errno = errno == EIO ? 0 : errno;
            return 0;
        }
        note_sent(slot, (size_t)n);
        turn += (size_t)n;
        wire->is_sent = wire->out_at == wire->out_len && t->n_read == t->body_bytes;
    }
    return 1;
}

/* ---- a connection's life ------------------------------------------------------------------------ */

void pst_wire_make_hot(struct pst_slot *slot)
{
    struct pst_wire *wire = slot->wire;
    if (wire->is_hot)
        return;
    wire->is_hot = 1;
    pst_ring_add_last(&slot->lane->loop->hot, &wire->busy);
}

static void make_cold(struct pst_wire *wire)
{
    if (wire->is_hot)
        pst_ring_remove(&wire->busy);
    wire->is_hot = 0;
}

void pst_wire_free(struct pst_slot *slot)
{
    struct pst_loop *loop = slot->lane->loop;
    struct pst_wire *wire = slot->wire;
    if (!wire)
        return;
    for (int i = loop->at_event; i < loop->n_events; i++) {
        if (loop->events[i].data.ptr == slot)
            loop->events[i].data.ptr = NULL; /* what is told of it is no longer true */
    }
    make_cold(wire);
    if (wire->fd >= 0) /* closing it does not do, if a fork child has it as well */
        epoll_ctl(loop->epoll, EPOLL_CTL_DEL, wire->fd, NULL);
    free(wire->in);
    pst_wipe_free(wire->out, wire->out_len);
    free(wire);
    slot->wire = NULL;
}

static void finish(struct pst_slot *slot, CURLcode code)
{
    struct pst_transfer *t = slot->transfer;
    if (code == CURLE_OK || !pst_slot_retry(t, code))
        pst_finish(t, code, PST_OK, NULL);
}

/* Nothing to read. With TLS there may be a session ticket, which OpenSSL takes. */
static int is_silent(struct pst_slot *slot)
{
    char byte;
    if (pst_wire_receive(slot, &byte, 1) >= 0 || errno != EAGAIN)
        return 0;
    slot->wire->may_read = 0;
    return 1;
}

/* The reply is whole. Is the connection as it should be? With TLS a byte too many does not show by
 * itself. */
static int is_good(struct pst_slot *slot)
{
    const struct pst_wire *wire = slot->wire;
    if (wire->must_close || wire->has_hung_up || wire->in_at != wire->in_len)
        return 0;
    return !wire->is_tls || is_silent(slot);
}

/* May an idle one serve again? Not if it was closed, or says something unasked; what an event tells of
 * may have been read before it came. */
static int may_serve(struct pst_slot *slot)
{
    return !slot->wire->has_hung_up && (!slot->wire->may_read || is_silent(slot));
}

static void drop_kept(struct pst_slot *slot)
{
    slot->kept_by->n_kept--;
    pst_ring_remove(&slot->link);
    pst_slot_free(slot);
}

void pst_wire_event(struct pst_slot *slot, uint32_t events)
{
    struct pst_wire *wire = slot->wire;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        wire->has_hung_up = 1;
    if (events & ~(uint32_t)EPOLLOUT)
        wire->may_read = 1;
    if (wire->state == PST_WIRE_BUSY) {
        pst_wire_serve(slot);
        return;
    }
    if (!may_serve(slot))
        drop_kept(slot);
}

void pst_wire_serve(struct pst_slot *slot)
{
    struct pst_wire *wire = slot->wire;
    struct pst_transfer *t = slot->transfer;
    int code = CURLE_OK;
    make_cold(wire);
    /* A server may refuse and close: its reply says more than the send that failed. */
    const int is_lost = !send_more(slot);
    wire->may_read |= is_lost;
    switch (pst_wire_read(slot, &code)) {
    case PST_WIRE_WAIT:
        if (is_lost && !t->is_paused && !wire->is_hot) /* else there is more to read */
            finish(slot, CURLE_SEND_ERROR);
        break;
    case PST_WIRE_COMPLETE:
        wire->is_good = is_good(slot);
        if (t->is_paused) {
            t->stage = PST_STAGE_PARKED;
            t->parked_code = CURLE_OK;
        } else {
            finish(slot, CURLE_OK);
        }
        break;
    default:
        finish(slot, (CURLcode)code);
        break;
    }
}

static int begin(struct pst_slot *slot)
{
    struct pst_wire *wire = slot->wire;
    struct pst_transfer *t = slot->transfer;
    wire->state = PST_WIRE_BUSY;
    wire->is_good = 0;
    wire->must_close = 0;
    wire->is_sent = 0;
    wire->sys_errno = 0;
    wire->expects = PST_WIRE_HEAD;
    wire->wants_status = 1;
    wire->in_at = wire->in_len = 0;
    t->last_progress_ns = t->loop->now_ns;
    if (!write_head(slot, t))
        return 0;
    pst_wire_make_hot(slot);
    return 1;
}

static void write_peer(struct pst_slot *slot)
{
    char *ip = NULL;
    long port = 0;
    curl_easy_getinfo(slot->easy, CURLINFO_PRIMARY_IP, &ip);
    curl_easy_getinfo(slot->easy, CURLINFO_PRIMARY_PORT, &port);
    slot->wire->peer[0] = '\0';
    if (ip && *ip)
        snprintf(slot->wire->peer, sizeof(slot->wire->peer),
                 strchr(ip, ':') ? "[%s]:%ld" : "%s:%ld", ip, port);
}

/* See above. No request was sent, so there is nothing to read; if there is, it is the reply's to be
 * wrong, and a connection that is lost shows by and by. */
static int tie(struct pst_slot *slot)
{
    const CURLcode code = curl_easy_recv(slot->easy, slot->wire->in, 1, &slot->wire->in_len);
    return code == CURLE_AGAIN || code == CURLE_OK || code == CURLE_RECV_ERROR;
}

CURLcode pst_wire_connected(struct pst_slot *slot)
{
    struct pst_wire *wire = slot->wire;
    struct pst_loop *loop = slot->lane->loop;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = slot};
    curl_socket_t fd = CURL_SOCKET_BAD;
    pst_slot_uncount(slot);
    curl_easy_getinfo(slot->easy, CURLINFO_ACTIVESOCKET, &fd);
    wire->fd = fd;
    write_peer(slot);
    if (fd == CURL_SOCKET_BAD) /* the other side has closed it already */
        return CURLE_COULDNT_CONNECT;
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) != 0 || !begin(slot))
        return CURLE_OUT_OF_MEMORY;
    return tie(slot) ? CURLE_OK : CURLE_FAILED_INIT;
}

void pst_wire_close_old(struct pst_origin *origin)
{
    while (origin->n_kept > 0) {
        const struct pst_slot *last = PST_RING_ENTRY(origin->kept.prev, struct pst_slot, link);
        if (last->lane->loop->now_ns < last->wire->idle_since_ns + IDLE_MAX_NS)
            break;
        pst_wire_close_kept(origin, origin->n_kept - 1);
    }
}

static struct pst_slot *take_kept(struct pst_origin *origin)
{
    struct pst_slot *slot = NULL;
    pst_wire_close_old(origin);
    while (!slot && !pst_ring_is_empty(&origin->kept)) {
        slot = PST_RING_ENTRY(origin->kept.next, struct pst_slot, link);
        if (!may_serve(slot)) {
            drop_kept(slot);
            slot = NULL;
        }
    }
    if (!slot)
        return NULL;
    pst_ring_remove(&slot->link);
    origin->n_kept--;
    slot->wire->has_served = 1;
    return slot;
}

static struct pst_slot *new_connection(struct pst_transfer *t)
{
    struct pst_slot *slot = pst_slot_new(t->lane, t->url.is_https);
    if (!slot)
        return NULL;
    slot->wire = calloc(1, sizeof(*slot->wire));
    char *in = slot->wire ? malloc(PST_WIRE_IN_BYTES) : NULL;
    if (!in || curl_easy_setopt(slot->easy, CURLOPT_URL, t->origin->url) != CURLE_OK ||
        curl_easy_setopt(slot->easy, CURLOPT_CONNECT_ONLY, 1L) != CURLE_OK ||
        curl_easy_setopt(slot->easy, CURLOPT_FRESH_CONNECT, 1L) != CURLE_OK ||
        curl_multi_add_handle(t->loop->multi, slot->easy) != CURLM_OK) {
        free(in);
        pst_slot_free(slot);
        return NULL;
    }
    slot->is_added = slot->is_counted = 1;
    t->loop->n_libcurl++;
    slot->wire->slot = slot;
    slot->wire->in = in;
    slot->wire->in_room = PST_WIRE_IN_BYTES;
    slot->wire->fd = -1;
    slot->wire->is_tls = t->url.is_https;
    slot->wire->state = PST_WIRE_CONNECTING;
    return slot;
}

int pst_wire_start(struct pst_transfer *t)
{
    struct pst_slot *slot = t->is_second_try ? NULL : take_kept(t->origin);
    const int is_kept = slot != NULL;
    if (!slot)
        slot = new_connection(t);
    if (!slot)
        return 0;
    t->slot = slot;
    t->last_progress_ns = t->loop->now_ns;
    slot->transfer = t;
    slot->kept_by = t->origin;
    slot->error[0] = '\0';
    slot->has_begun_tls = 0;
    return !is_kept || begin(slot);
}

void pst_wire_close_kept(struct pst_origin *origin, uint32_t n)
{
    while (origin->n_kept > n) {
        drop_kept(PST_RING_ENTRY(origin->kept.prev, struct pst_slot, link));
    }
}

void pst_wire_give_back(struct pst_slot *slot)
{
    struct pst_wire *wire = slot->wire;
    make_cold(wire);
    if (wire->out)
        explicit_bzero(wire->out, wire->out_len); /* a signature, perhaps a key */
    wire->out_at = wire->out_len = 0;
    if (wire->out_room > OUT_KEPT_BYTES) {
        free(wire->out);
        wire->out = NULL;
        wire->out_room = 0;
    }
    if (wire->in_room > PST_WIRE_IN_BYTES) { /* it held a long line */
        char *in = realloc(wire->in, PST_WIRE_IN_BYTES);
        wire->in_room = in ? PST_WIRE_IN_BYTES : wire->in_room;
        wire->in = in ? in : wire->in;
    }
    wire->state = PST_WIRE_IDLE;
    wire->idle_since_ns = slot->lane->loop->now_ns;
    slot->kept_by->n_kept++;
    pst_ring_add_first(&slot->kept_by->kept, &slot->link);
}
