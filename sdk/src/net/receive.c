/* receive.c - a reply, from libcurl to where the caller wants it.
 *
 * Header lines are collected until the head is complete; then accept is asked where the body goes.
 * TAKE: each block is copied into the granted spans and summed while it is in cache; when they are
 * full and the body goes on, accept is asked for more. COLLECT: into a buffer of ours, which ends with
 * done. REJECT: likewise the first 64 KiB; if much more follows the connection is given up, since
 * reading on would cost more than a new one.
 *
 * PAUSE: the next block is refused, and libcurl keeps it and stops reading the socket. Of a block that
 * filled a grant in its middle a part is taken already: it comes again whole, and that part is skipped.
 *
 * When a callback here gives up it leaves the reason in the transfer and lets libcurl fail. */
#include "net/net.h"

#include <string.h>

#include <penstock/sum.h>

#define REJECT_KEEP (64u * 1024)
#define REJECT_DROP (256u * 1024)

static int give_up(struct pst_transfer *t, pst_rc rc, const char *problem)
{
    t->rc = rc;
    t->problem = problem;
    return 0;
}

static int32_t ask(struct pst_transfer *t, pst_http_grant *grant)
{
    const struct pst_head *head = &t->slot->head;
    const pst_http_head out = {
        .struct_size = sizeof(out),
        .status = head->status,
        .headers = head->fields,
        .n_headers = head->n,
        .content_length = head->content_length,
        .n_taken = t->n_taken,
    };
    if (t->accept)
        return t->accept(t->ctx, &out, grant);
    return head->status < 300 ? PST_HTTP_COLLECT : PST_HTTP_REJECT;
}

static void collect(struct pst_transfer *t, enum pst_receive_mode mode, uint64_t ceiling)
{
    t->mode = mode;
    pst_dynbuf_fini(&t->collected);
    pst_dynbuf_init(&t->collected, ceiling < SIZE_MAX / 2 ? (size_t)ceiling : SIZE_MAX / 2);
    t->collected.is_secret = 1; /* it may be credentials */
}

/* Returns 0 if the transfer ends here. */
static int ask_where(struct pst_transfer *t)
{
    pst_http_grant grant = {.struct_size = sizeof(grant)};
    const int32_t answer = ask(t, &grant);
    t->is_paused = 0;
    switch (answer) {
    case PST_HTTP_TAKE:
        t->mode = PST_RECEIVE_TAKE;
        t->dst = grant.dst;
        t->n_dst = grant.n_dst;
        t->at_dst = 0;
        t->at_dst_byte = 0;
        return 1;
    case PST_HTTP_COLLECT:
        collect(t, PST_RECEIVE_COLLECT, t->body_max);
        return 1;
    case PST_HTTP_REJECT:
        collect(t, PST_RECEIVE_REJECT, REJECT_KEEP);
        return 1;
    case PST_HTTP_PAUSE:
        t->is_paused = 1;
        return 1;
    default:
        t->is_refused = 1;
        return give_up(t, answer < 0 ? answer : (pst_rc)PST_E_INTERNAL, NULL);
    }
}

size_t pst_receive_header(char *line, size_t size, size_t n, void *arg)
{
    struct pst_slot *slot = arg;
    struct pst_transfer *t = slot->transfer;
    const size_t len = size * n;
    t->last_progress_ns = t->loop->now_ns;
    if (t->first_byte_ns == 0)
        t->first_byte_ns = pst_net_now_ns();
    switch (pst_head_add(&slot->head, line, len)) {
    case PST_HEAD_MORE:
        if (slot->head.status == 100)
            t->saw_continue = 1;
        return len;
    case PST_HEAD_COMPLETE:
        if (slot->head.status == 417 && t->asks_first) {
            /* libcurl will send the request again without the question, and if it does not this is
             * the reply. */
            collect(t, PST_RECEIVE_REJECT, REJECT_KEEP);
            return len;
        }
        if (t->mode != PST_RECEIVE_NONE) { /* after a 417, of which nothing counts now */
            pst_dynbuf_fini(&t->collected);
            t->n_received = 0;
            t->is_cut = 0;
        }
        return ask_where(t) ? len : 0;
    case PST_HEAD_TOO_LONG:
        give_up(t, PST_E_UNAVAILABLE, "the head of the reply is too long");
        return 0;
    case PST_HEAD_MALFORMED:
        give_up(t, PST_E_UNAVAILABLE, "the reply has no valid content-length");
        return 0;
    default:
        give_up(t, PST_E_NO_MEMORY, NULL);
        return 0;
    }
}

/* Skip spans that are full. Returns what the present one has room for, 0: none is left. */
static size_t room_in_dst(struct pst_transfer *t)
{
    while (t->at_dst < t->n_dst && t->at_dst_byte == t->dst[t->at_dst].len) {
        t->at_dst++;
        t->at_dst_byte = 0;
    }
    return t->at_dst < t->n_dst ? t->dst[t->at_dst].len - t->at_dst_byte : 0;
}

/* Copy as much as there is granted room for. */
static size_t fill_dst(struct pst_transfer *t, const char *data, size_t len)
{
    size_t copied = 0;
    size_t room;
    while (copied < len && (room = room_in_dst(t)) > 0) {
        const size_t part = len - copied < room ? len - copied : room;
        char *to = (char *)t->dst[t->at_dst].ptr + t->at_dst_byte;
        memcpy(to, data + copied, part);
        if (t->flags & PST_HTTP_CRC32C)
            t->crc32c = pst_crc32c(t->crc32c, to, part);
        t->at_dst_byte += part;
        copied += part;
    }
    t->n_taken += copied;
    return copied;
}

/* Returns how much of it was dealt with: less than `len` if accept asked for a pause, or if the
 * transfer ends. */
static size_t take_body(struct pst_transfer *t, const char *data, size_t len)
{
    size_t done = fill_dst(t, data, len);
    while (done < len && t->mode == PST_RECEIVE_TAKE) {
        if (!ask_where(t) || t->is_paused)
            return done;
        if (t->mode == PST_RECEIVE_TAKE && room_in_dst(t) == 0) {
            give_up(t, PST_E_DATA_LOSS, "the body is longer than the memory for it");
            return done;
        }
        if (t->mode == PST_RECEIVE_TAKE)
            done += fill_dst(t, data + done, len - done);
    }
    return done;
}

static int collect_body(struct pst_transfer *t, const char *data, size_t len)
{
    if (pst_dynbuf_add(&t->collected, data, len) == 0)
        return 1;
    return t->collected.is_full
               ? give_up(t, PST_E_DATA_LOSS, "the body is longer than was allowed for")
               : give_up(t, PST_E_NO_MEMORY, NULL);
}

static int reject_body(struct pst_transfer *t, const char *data, size_t len)
{
    const size_t room = REJECT_KEEP - t->collected.len;
    const size_t kept = len < room ? len : room;
    const uint64_t total = t->slot->head.content_length;
    if (pst_dynbuf_add(&t->collected, data, kept) != 0)
        return give_up(t, PST_E_NO_MEMORY, NULL);
    if (kept < len)
        t->is_cut = 1;
    if (t->n_received > REJECT_KEEP + REJECT_DROP ||
        (t->collected.len == REJECT_KEEP && total != PST_UNKNOWN &&
         total > REJECT_KEEP + REJECT_DROP)) {
        t->is_cut = t->is_abandoned = 1;
        return 0;
    }
    return 1;
}

size_t pst_receive_piece(struct pst_transfer *t, const char *data, size_t len)
{
    size_t done = 0;
    if (t->mode == PST_RECEIVE_TAKE)
        done = take_body(t, data, len);
    if (t->rc == PST_OK && !t->is_paused && done < len) {
        t->n_received += len; /* reject_body looks at it */
        if (t->mode == PST_RECEIVE_COLLECT)
            collect_body(t, data + done, len - done);
        else
            reject_body(t, data + done, len - done);
        return len;
    }
    t->n_received += done;
    return done;
}

size_t pst_receive_body(char *data, size_t size, size_t n, void *arg)
{
    struct pst_transfer *t = ((struct pst_slot *)arg)->transfer;
    const size_t whole = size * n;
    t->last_progress_ns = t->loop->now_ns;
    t->is_held = t->is_paused;
    if (t->is_paused)
        return CURL_WRITEFUNC_PAUSE;
    t->n_skip += pst_receive_piece(t, data + t->n_skip, whole - t->n_skip);
    if (t->rc != PST_OK || t->is_abandoned)
        return 0;
    if (t->n_skip < whole) { /* a grant is full in the middle of this block, which comes again */
        t->is_held = 1;
        return CURL_WRITEFUNC_PAUSE;
    }
    t->n_skip = 0;
    return whole;
}

size_t pst_receive_room(struct pst_transfer *t, int may_ask, char **dst)
{
    size_t room = room_in_dst(t);
    if (room == 0 && may_ask) {
        if (!ask_where(t) || t->is_paused || t->mode != PST_RECEIVE_TAKE)
            return 0;
        room = room_in_dst(t);
        if (room == 0)
            give_up(t, PST_E_DATA_LOSS, "the body is longer than the memory for it");
    }
    if (room > 0)
        *dst = (char *)t->dst[t->at_dst].ptr + t->at_dst_byte;
    return room;
}

void pst_receive_placed(struct pst_transfer *t, size_t len)
{
    if (len > 0 && t->flags & PST_HTTP_CRC32C)
        t->crc32c = pst_crc32c(t->crc32c, (char *)t->dst[t->at_dst].ptr + t->at_dst_byte, len);
    t->at_dst_byte += len;
    t->n_taken += len;
    t->n_received += len;
}

int pst_receive_resume(struct pst_transfer *t)
{
    if (!ask_where(t))
        return 0;
    t->last_progress_ns = t->loop->now_ns;
    if (t->is_paused)
        return 1;
    if (t->slot->wire) {
        pst_wire_make_hot(t->slot);
        return 1;
    }
    if (!t->is_held)
        return 1;
    t->is_held = 0;
    /* Hands over what libcurl has kept, here and now. */
    const CURLcode code = curl_easy_pause(t->slot->easy, CURLPAUSE_CONT);
    if (code == CURLE_OK)
        return 1;
    if (t->rc == PST_OK && !t->is_abandoned)
        give_up(t, code == CURLE_OUT_OF_MEMORY ? PST_E_NO_MEMORY : PST_E_INTERNAL, NULL);
    return 0;
}
