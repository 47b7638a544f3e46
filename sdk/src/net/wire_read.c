/* wire_read.c - a reply on the way that http/1 goes by itself: strictly parsed, the body received
 * straight into the caller's memory.
 *
 * The head, and whatever comes with it in one piece of at most 4 KiB, is read into a small buffer. When
 * the length of the body is known and accept has granted memory, the rest is read right there; behind
 * the last byte stands the small buffer again, so that a byte too many shows itself and the connection
 * is not used again. Chunked bodies, bodies up to the close, and bodies that are collected or rejected
 * pass through the buffer piece by piece.
 *
 * Anything that is not as RFC 9112 has it ends the connection: lines that do not end in CRLF, a status
 * line of another form, a chunk size that is none, a length beside chunks, bytes after the end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net/net.h"

/* So much at most for one connection before the others have their turn; and in one read, so that its
 * checksum finds it in cache. */
#define TURN_BYTES (1024u * 1024)
#define READ_BYTES (256u * 1024)
#define HEAD_BYTES 4096u

/* Less than was asked for: the kernel has no more, unless the other side has hung up, of which no event
 * tells again. */
static long note_rest(struct pst_wire *wire, long n, size_t asked)
{
    if (n > 0 && (size_t)n < asked && !wire->has_hung_up)
        wire->may_read = 0;
    return n;
}

long pst_wire_receive(struct pst_slot *slot, void *out, size_t cap)
{
    size_t n = 0;
    if (!slot->wire->is_tls)
        return note_rest(slot->wire, recv(slot->wire->fd, out, cap, 0), cap);
    const CURLcode code = curl_easy_recv(slot->easy, out, cap, &n);
    if (code == CURLE_OK)
        return (long)n;
    errno = code == CURLE_AGAIN ? EAGAIN : EIO;
    return -1;
}

/* A line in the small buffer, without its end; NULL if it is not complete. */
static const char *next_line(struct pst_wire *wire, size_t *len)
{
    const char *start = wire->in + wire->in_at;
    const char *end = memchr(start, '\n', wire->in_len - wire->in_at);
    if (!end)
        return NULL;
    *len = (size_t)(end - start);
    wire->in_at += *len + 1;
    return start;
}

static int ends_in_cr(const char *line, size_t len)
{
    return len > 0 && line[len - 1] == '\r' && !memchr(line, '\r', len - 1) &&
           !memchr(line, '\0', len);
}

/* "HTTP/1.1 200 OK" */
static int is_status_line(const char *line, size_t len, int *is_old)
{
    if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || (line[7] != '1' && line[7] != '0') ||
        line[8] != ' ' || (len > 12 && line[12] != ' '))
        return 0;
    for (int i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9')
            return 0;
    }
    *is_old = line[7] == '0';
    return line[9] != '0';
}

static int has_word(pst_str value, const char *word)
{
    const size_t len = strlen(word);
    for (size_t i = 0; i + len <= value.len; i++) {
        const int begins = i == 0 || value.ptr[i - 1] == ',' || value.ptr[i - 1] == ' ';
        const int ends = i + len == value.len || value.ptr[i + len] == ',' ||
                         value.ptr[i + len] == ' ' || value.ptr[i + len] == ';';
        if (begins && ends && strncasecmp(value.ptr + i, word, len) == 0)
            return 1;
    }
    return 0;
}

static int name_is(const pst_kv *field, const char *name)
{
    return field->key.len == strlen(name) && memcmp(field->key.ptr, name, field->key.len) == 0;
}

/* How the body is delimited (RFC 9112, 6.3). Returns 0 for what cannot be. */
static int begin_body(struct pst_slot *slot)
{
    struct pst_wire *wire = slot->wire;
    const struct pst_head *head = &slot->head;
    int has_length = 0;
    int is_chunked = 0;
    for (size_t i = 0; i < head->n; i++) {
        const pst_kv *field = &head->fields[i];
        if (name_is(field, "connection") && has_word(field->value, "close"))
            wire->must_close = 1;
        has_length |= name_is(field, "content-length");
        if (name_is(field, "transfer-encoding")) {
            if (is_chunked || field->value.len != 7 ||
                strncasecmp(field->value.ptr, "chunked", 7) != 0)
                return 0;
            is_chunked = 1;
        }
    }
    if (has_length && is_chunked)
        return 0;
    if (strcmp(slot->transfer->method, "HEAD") == 0 || head->status == 204 || head->status == 304) {
        wire->expects = PST_WIRE_END;
    } else if (is_chunked) {
        wire->expects = PST_WIRE_CHUNK_SIZE;
    } else if (has_length) {
        wire->left = head->content_length;
        wire->expects = wire->left > 0 ? PST_WIRE_LENGTH : PST_WIRE_END;
    } else {
        wire->expects = PST_WIRE_TO_CLOSE;
        wire->must_close = 1;
    }
    return 1;
}

/* Returns whether to go on: 0 if a line is missing or *code is set. */
static int read_head(struct pst_slot *slot, CURLcode *code)
{
    struct pst_wire *wire = slot->wire;
    struct pst_transfer *t = slot->transfer;
    size_t len;
    const char *line = next_line(wire, &len);
    int is_old = 0;
    if (!line)
        return 0;
    *code = CURLE_WEIRD_SERVER_REPLY;
    if (wire->wants_status) {
        if (!ends_in_cr(line, len) || !is_status_line(line, len - 1, &is_old))
            return 0;
        wire->must_close |= is_old;
    } else if (!ends_in_cr(line, len) || (len > 1 && (*line == ' ' || *line == '\t')) ||
               (len > 1 && !memchr(line, ':', len))) {
        return 0;
    }
    wire->wants_status = len == 1; /* unless it is complete now, an interim head has ended */
    if (pst_receive_header((char *)(uintptr_t)line, 1, len, slot) != len) {
        *code = CURLE_WRITE_ERROR;
        return 0;
    }
    if (slot->head.status == 101 || (slot->head.is_complete && !begin_body(slot)))
        return 0;
    if (slot->head.is_complete && !wire->is_sent) { /* it does not want the rest of our body */
        wire->is_sent = 1;
        wire->must_close = 1;
    }
    *code = CURLE_OK;
    t->last_progress_ns = t->loop->now_ns;
    return 1;
}

static int read_chunk_size(struct pst_wire *wire, CURLcode *code)
{
    size_t len, i = 0;
    uint64_t size = 0;
    const char *line = next_line(wire, &len);
    if (!line)
        return 0;
    *code = CURLE_RECV_ERROR;
    if (!ends_in_cr(line, len))
        return 0;
    for (; i < len - 1; i++) {
        const char c = line[i];
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0)
            break;
        if (size > UINT64_MAX >> 5)
            return 0;
        size = size * 16 + (uint64_t)digit;
    }
    if (i == 0 || (i < len - 1 && line[i] != ';' && line[i] != ' '))
        return 0;
    *code = CURLE_OK;
    wire->left = size;
    wire->expects = size > 0 ? PST_WIRE_CHUNK : PST_WIRE_TRAILER;
    return 1;
}

static int read_break(struct pst_slot *slot, CURLcode *code)
{
    struct pst_wire *wire = slot->wire;
    size_t len;
    const char *line = next_line(wire, &len);
    if (!line)
        return 0;
    /* Trailers count as the head does: they could go on for ever else. */
    slot->head.n_bytes += wire->expects == PST_WIRE_TRAILER ? len : 0;
    if (!ends_in_cr(line, len) || slot->head.n_bytes > PST_HEAD_MAX_BYTES ||
        (wire->expects == PST_WIRE_CHUNK_BREAK && len != 1)) {
        *code = CURLE_RECV_ERROR;
        return 0;
    }
    if (wire->expects == PST_WIRE_CHUNK_BREAK)
        wire->expects = PST_WIRE_CHUNK_SIZE;
    else if (len == 1)
        wire->expects = PST_WIRE_END;
    return 1;
}

/* `n` bytes of the body were dealt with. */
static void advance(struct pst_wire *wire, size_t n)
{
    if (wire->expects == PST_WIRE_TO_CLOSE)
        return;
    wire->left -= n;
    if (wire->left == 0)
        wire->expects = wire->expects == PST_WIRE_CHUNK ? PST_WIRE_CHUNK_BREAK : PST_WIRE_END;
}

static size_t bounded(const struct pst_wire *wire, size_t n)
{
    return wire->expects != PST_WIRE_TO_CLOSE && n > wire->left ? (size_t)wire->left : n;
}

/* What was collected may be credentials: it stays in one place only. */
static void forget_piece(const struct pst_transfer *t, char *data, size_t len)
{
    if (t->mode == PST_RECEIVE_COLLECT)
        explicit_bzero(data, len);
}

/* The body's bytes in the small buffer. Returns 0 if the transfer pauses or ends. */
static int deliver(struct pst_slot *slot, CURLcode *code)
{
    struct pst_wire *wire = slot->wire;
    const size_t there = bounded(wire, wire->in_len - wire->in_at);
    const size_t done = pst_receive_piece(slot->transfer, wire->in + wire->in_at, there);
    forget_piece(slot->transfer, wire->in + wire->in_at, done);
    wire->in_at += done;
    advance(wire, done);
    if (slot->transfer->rc != PST_OK || slot->transfer->is_abandoned)
        *code = CURLE_WRITE_ERROR;
    return *code == CURLE_OK && done == there;
}

/* Look at what is in the small buffer. Returns 1 once that is empty and more is wanted, 0 else: the
 * reply is whole, accept has paused, or *code is set. */
static int parse(struct pst_slot *slot, CURLcode *code)
{
    struct pst_wire *wire = slot->wire;
    for (;;) {
        int goes_on = 0;
        if (wire->expects == PST_WIRE_END || slot->transfer->is_paused)
            return 0;
        if (wire->in_at == wire->in_len) {
            wire->in_at = wire->in_len = 0;
            return 1;
        }
        switch (wire->expects) {
        case PST_WIRE_HEAD:
            goes_on = read_head(slot, code);
            break;
        case PST_WIRE_LENGTH:
        case PST_WIRE_TO_CLOSE:
        case PST_WIRE_CHUNK:
            goes_on = deliver(slot, code);
            break;
        case PST_WIRE_CHUNK_SIZE:
            goes_on = read_chunk_size(wire, code);
            break;
        case PST_WIRE_CHUNK_BREAK:
        case PST_WIRE_TRAILER:
            goes_on = read_break(slot, code);
            break;
        case PST_WIRE_END:
            break;
        }
        if (!goes_on)
            return *code == CURLE_OK && !slot->transfer->is_paused && wire->expects != PST_WIRE_END;
    }
}

/* Make room behind what is there: a line of a head may be long. */
static int make_room(struct pst_wire *wire)
{
    if (wire->in_at > 0) {
        memmove(wire->in, wire->in + wire->in_at, wire->in_len - wire->in_at);
        wire->in_len -= wire->in_at;
        explicit_bzero(wire->in + wire->in_len, wire->in_at);
        wire->in_at = 0;
    }
    if (wire->in_len < wire->in_room)
        return 1;
    if (wire->in_room > PST_HEAD_LINE_MAX_BYTES)
        return 0;
    const size_t room = wire->in_room + PST_WIRE_IN_BYTES;
    char *in = realloc(wire->in, room);
    if (!in)
        return 0;
    wire->in = in;
    wire->in_room = room;
    return 1;
}

/* Read into the small buffer. Of a reply's first bytes no more than a head: what follows has a better
 * place to go. */
static long fill(struct pst_slot *slot)
{
    struct pst_wire *wire = slot->wire;
    if (!make_room(wire)) {
        errno = EMSGSIZE;
        return -1;
    }
    size_t room = wire->in_room - wire->in_len;
    if (wire->expects == PST_WIRE_HEAD && wire->in_len < HEAD_BYTES)
        room = HEAD_BYTES - wire->in_len;
    const long n = pst_wire_receive(slot, wire->in + wire->in_len, room);
    if (n > 0)
        wire->in_len += (size_t)n;
    /* A part of a line is enough: the server has begun to answer, so nothing is sent again. */
    if (n > 0 && slot->transfer->first_byte_ns == 0)
        slot->transfer->first_byte_ns = pst_net_now_ns();
    return n;
}

/* Read into `dst`, and behind the last byte that is due into the small buffer. Returns as recv() does;
 * *taken is what lies in dst. */
static long fill_dst(struct pst_slot *slot, char *dst, size_t room, size_t *taken)
{
    struct pst_wire *wire = slot->wire;
    size_t want = bounded(wire, room);
    long n;
    if (want > READ_BYTES)
        want = READ_BYTES;
    if (wire->expects == PST_WIRE_LENGTH && want == wire->left && !wire->is_tls) {
        struct iovec spans[2] = {{dst, want}, {wire->in, wire->in_room}};
        n = note_rest(wire, readv(wire->fd, spans, 2), want + wire->in_room);
    } else {
        n = pst_wire_receive(slot, dst, want);
    }
    *taken = n < 0 ? 0 : (size_t)n < want ? (size_t)n : want;
    if (n > 0)
        wire->in_len = (size_t)n - *taken;
    return n;
}

/* The body, straight to where it goes, or by way of the loop's scratch memory. */
static long read_body(struct pst_slot *slot, CURLcode *code)
{
    struct pst_wire *wire = slot->wire;
    struct pst_transfer *t = slot->transfer;
    char *dst = NULL;
    size_t taken = 0;
    long n;
    if (t->mode == PST_RECEIVE_TAKE) {
        const size_t room = pst_receive_room(t, wire->expects == PST_WIRE_LENGTH, &dst);
        if (t->rc != PST_OK)
            *code = CURLE_WRITE_ERROR;
        if (t->rc != PST_OK || t->is_paused)
            return 1;
        if (room > 0) {
            n = fill_dst(slot, dst, room, &taken);
            pst_receive_placed(t, taken);
            advance(wire, taken);
            return n;
        }
    }
    if (t->mode == PST_RECEIVE_TAKE)
        return fill(slot); /* nobody knows whether anything follows */
    n = fill_dst(slot, t->loop->scratch, sizeof(t->loop->scratch), &taken);
    pst_receive_piece(t, t->loop->scratch, taken);
    forget_piece(t, t->loop->scratch, taken);
    advance(wire, taken);
    if (t->rc != PST_OK || t->is_abandoned)
        *code = CURLE_WRITE_ERROR;
    return n;
}

static int is_direct(const struct pst_wire *wire)
{
    return wire->in_at == wire->in_len &&
           (wire->expects == PST_WIRE_LENGTH || wire->expects == PST_WIRE_TO_CLOSE);
}

/* The connection has ended: is that how the reply ends? */
static int at_close(struct pst_slot *slot, int *code)
{
    if (slot->wire->expects == PST_WIRE_TO_CLOSE) {
        slot->wire->expects = PST_WIRE_END;
        return PST_WIRE_COMPLETE;
    }
    *code = slot->wire->expects == PST_WIRE_HEAD ? CURLE_GOT_NOTHING : CURLE_PARTIAL_FILE;
    return PST_WIRE_FAILED;
}

static int at_error(struct pst_slot *slot, int *code)
{
    if (errno == EAGAIN)
        slot->wire->may_read = 0;
    if (errno == EAGAIN || errno == EINTR)
        return PST_WIRE_WAIT;
    slot->wire->sys_errno = errno == EIO || errno == EMSGSIZE ? 0 : errno;
    *code = errno == EMSGSIZE ? CURLE_OUT_OF_MEMORY : CURLE_RECV_ERROR;
    return PST_WIRE_FAILED;
}

int pst_wire_read(struct pst_slot *slot, int *code)
{
    struct pst_transfer *t = slot->transfer;
    CURLcode parsed = CURLE_OK;
    for (size_t turn = 0; turn < TURN_BYTES;) {
        long n = 1;
        const int wants_more = parse(slot, &parsed);
        if (wants_more && !slot->wire->may_read)
            return PST_WIRE_WAIT;
        if (wants_more)
            n = is_direct(slot->wire) ? read_body(slot, &parsed) : fill(slot);
        *code = (int)parsed;
        if (parsed != CURLE_OK)
            return PST_WIRE_FAILED;
        if (!wants_more)
            return slot->wire->expects == PST_WIRE_END ? PST_WIRE_COMPLETE : PST_WIRE_WAIT;
        if (n == 0)
            return at_close(slot, code);
        if (n < 0)
            return at_error(slot, code);
        t->last_progress_ns = t->loop->now_ns;
        turn += (size_t)n;
    }
    pst_wire_make_hot(slot);
    return PST_WIRE_WAIT;
}
