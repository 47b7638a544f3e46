/* fault_wire.c - HTTP/1.1 on a socket, from the server's end, and all the ways to get it wrong.
 *
 * Reading is strict about as little as it can be: a line, header fields, a body by length or in chunks.
 * Sending puts the whole reply together first, so that a cut, a stall or a drip is a position in it.
 * Every wait also looks at stop_fd: a stalled connection does not outlive the server. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"
#include "kit.h"

#define HEAD_MAX (256u * 1024u)
#define BODY_MAX (512ull * 1024 * 1024)

/* ---- reading ----------------------------------------------------------------------------------- */

/* Fill the buffer; false at the end of the connection or of the server. */
static bool fill(struct kf_wire *w)
{
    struct pollfd fds[2] = {{w->fd, POLLIN, 0}, {w->stop_fd, POLLIN, 0}};
    w->at = w->len = 0;
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return false;
        if (fds[1].revents)
            return false;
        if (fds[0].revents) {
            ssize_t n = recv(w->fd, w->buf, sizeof(w->buf), 0);
            w->len = n > 0 ? (size_t)n : 0;
            return n > 0;
        }
    }
}

static bool read_line(struct kf_wire *w, struct kf_buf *line)
{
    line->len = 0;
    kf_add(line, "", 0);
    for (;;) {
        if (w->at == w->len && !fill(w))
            return false;
        const char *start = w->buf + w->at;
        const char *end = memchr(start, '\n', w->len - w->at);
        size_t n = end ? (size_t)(end - start) + 1 : w->len - w->at;
        kf_add(line, start, n);
        w->at += n;
        if (line->len > HEAD_MAX)
            return false;
        if (end)
            break;
    }
    while (line->len > 0 &&
           (line->data[line->len - 1] == '\n' || line->data[line->len - 1] == '\r'))
        line->data[--line->len] = '\0';
    return true;
}

static bool parse_request_line(struct kf_request *r, const char *line)
{
    const char *space = strchr(line, ' ');
    const char *second = space ? strchr(space + 1, ' ') : NULL;
    if (!second || strncmp(second + 1, "HTTP/1.", 7) != 0)
        return false;
    pst_str target = pst_str_of(space + 1, (size_t)(second - space) - 1);
    r->method = (char *)k_alloc((size_t)(space - line) + 1);
    memcpy(r->method, line, (size_t)(space - line));
    r->target = (char *)k_alloc(target.len + 1);
    memcpy(r->target, target.ptr, target.len);
    const char *path = r->target, *mark;
    if (strncmp(path, "http://", 7) == 0) { /* as to a proxy */
        path = strchr(path + 7, '/');
        path = path ? path : "/";
    }
    mark = strchr(path, '?');
    r->path = pst_str_of(path, mark ? (size_t)(mark - path) : strlen(path));
    if (mark)
        kf_parse_query(kf_str(mark + 1), &r->query);
    return true;
}

bool kf_read_head(struct kf_wire *w, struct kf_request *out)
{
    struct kf_buf line = {0};
    size_t total = 0;
    bool is_good = read_line(w, &line) && parse_request_line(out, line.data);
    while (is_good) {
        is_good = read_line(w, &line);
        if (!is_good || line.len == 0)
            break;
        total += line.len;
        char *colon = strchr(line.data, ':');
        is_good = colon != NULL && total < HEAD_MAX;
        if (!is_good)
            break;
        const char *value = colon + 1 + strspn(colon + 1, " \t");
        for (char *p = line.data; p < colon; p++)
            *p = *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p;
        kf_append(&out->headers, pst_str_of(line.data, (size_t)(colon - line.data)), kf_str(value));
    }
    kf_buf_fini(&line);
    return is_good;
}

static bool send_all(struct kf_wire *w, const char *bytes, size_t n)
{
    size_t done = 0;
    while (done < n) {
        struct pollfd fds[2] = {{w->fd, POLLOUT, 0}, {w->stop_fd, POLLIN, 0}};
        ssize_t sent = send(w->fd, bytes + done, n - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            done += (size_t)sent;
        } else if (errno == EAGAIN || errno == EINTR) {
            if (poll(fds, 2, -1) < 0 && errno != EINTR)
                return false;
            if (fds[1].revents)
                return false;
        } else {
            return false;
        }
    }
    return true;
}

static bool take(struct kf_wire *w, uint64_t n, struct kf_buf *out)
{
    while (n > 0) {
        if (w->at == w->len && !fill(w))
            return false;
        size_t piece = w->len - w->at < n ? w->len - w->at : (size_t)n;
        if (out)
            kf_add(out, w->buf + w->at, piece);
        w->at += piece;
        n -= piece;
    }
    return true;
}

static bool go_on(struct kf_wire *w, const struct kf_request *r)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    return !kf_has(&r->headers, "expect") || send_all(w, interim, sizeof(interim) - 1);
}

bool kf_read_some(struct kf_wire *w, const struct kf_request *r, uint64_t n)
{
    return go_on(w, r) && take(w, n, NULL);
}

bool kf_read_body(struct kf_wire *w, struct kf_request *r)
{
    uint64_t length = kf_number(kf_get(&r->headers, "content-length"), 0);
    bool is_chunked = kf_is(kf_get(&r->headers, "transfer-encoding"), "chunked");
    if ((length > 0 || is_chunked) && !go_on(w, r))
        return false;
    if (!is_chunked)
        return length <= BODY_MAX && take(w, length, &r->body);
    struct kf_buf line = {0};
    bool is_good;
    uint64_t n;
    do {
        is_good = read_line(w, &line);
        n = is_good ? strtoull(line.data, NULL, 16) : 0;
        is_good = is_good && r->body.len + n <= BODY_MAX && take(w, n, &r->body) &&
                  (n == 0 || read_line(w, &line));
    } while (is_good && n > 0);
    while (is_good && line.len > 0) /* trailers, and the empty line behind them */
        is_good = read_line(w, &line);
    kf_buf_fini(&line);
    return is_good;
}

/* ---- sending ----------------------------------------------------------------------------------- */

static const char *reason_of(unsigned status)
{
    static const struct {
        unsigned status;
        const char *reason;
    } reasons[] = {{200, "OK"},
                   {201, "Created"},
                   {204, "No Content"},
                   {206, "Partial Content"},
                   {301, "Moved Permanently"},
                   {304, "Not Modified"},
                   {307, "Temporary Redirect"},
                   {400, "Bad Request"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {409, "Conflict"},
                   {412, "Precondition Failed"},
                   {416, "Range Not Satisfiable"},
                   {429, "Too Many Requests"},
                   {500, "Internal Server Error"},
                   {503, "Service Unavailable"}};
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Status";
}

static bool has_no_body(const struct kf_request *r, const struct kf_reply *reply)
{
    return strcmp(r->method, "HEAD") == 0 || reply->status == 204 || reply->status == 304;
}

static void put_together(const struct kf_request *r, const struct kf_reply *reply,
                         const json_t *fault, bool *closes, struct kf_buf *out, size_t *head_len)
{
    bool is_chunked = json_is_true(json_object_get(fault, "chunked"));
    pst_str connection = kf_get(&r->headers, "connection");
    const char *length = json_string_value(json_object_get(fault, "content_length"));
    bool has_length = !is_chunked && !(length && strcmp(length, "none") == 0) &&
                      reply->status != 204;
    uint64_t announced = reply->announced != UINT64_MAX ? reply->announced : reply->body.len;
    *closes = json_is_true(json_object_get(fault, "close")) || (!has_length && !is_chunked) ||
              kf_is(connection, "close") || announced != reply->body.len;
    if (reply->status == 204)
        *closes = json_is_true(json_object_get(fault, "close")) || kf_is(connection, "close");
    if (json_is_true(json_object_get(fault, "interim")))
        kf_addf(out, "HTTP/1.1 103 Early Hints\r\nLink: </other>\r\n\r\n");
    kf_addf(out, "HTTP/1.1 %u %s\r\n", reply->status, reason_of(reply->status));
    for (size_t i = 0; i < reply->headers.n; i++) {
        kf_add_str(out, reply->headers.all[i].key);
        kf_add(out, ": ", 2);
        kf_add_str(out, reply->headers.all[i].value);
        kf_add(out, "\r\n", 2);
    }
    if (has_length && !kf_has(&reply->headers, "content-length"))
        kf_addf(out, "Content-Length: %llu\r\n", (unsigned long long)announced);
    if (is_chunked)
        kf_addf(out, "Transfer-Encoding: chunked\r\n");
    if (*closes && (has_length || json_object_get(fault, "close")))
        kf_addf(out, "Connection: close\r\n");
    kf_add(out, "\r\n", 2);
    *head_len = out->len;
    if (has_no_body(r, reply))
        return;
    if (!is_chunked) {
        kf_add_str(out, kf_view(&reply->body));
        return;
    }
    for (size_t at = 0; at < reply->body.len;) {
        size_t n = reply->body.len - at < 5000 ? reply->body.len - at : 5000;
        kf_addf(out, "%zx\r\n", n);
        kf_add(out, reply->body.data + at, n);
        kf_add(out, "\r\n", 2);
        at += n;
    }
    kf_add(out, "0\r\n\r\n", 5);
}

/* Where in the reply: {"at": "before_head" | "in_head" | "body", "bytes": n}. */
static size_t position(const json_t *where, size_t head_len, size_t len)
{
    const char *at = json_string_value(json_object_get(where, "at"));
    size_t bytes = (size_t)json_integer_value(json_object_get(where, "bytes"));
    if (!where)
        return SIZE_MAX;
    if (at && strcmp(at, "before_head") == 0)
        return 0;
    if (at && strcmp(at, "in_head") == 0)
        return head_len / 2;
    return head_len + bytes < len ? head_len + bytes : len;
}

/* false: the peer went away, or the server is at its end. */
static bool wait_ms(struct kf_wire *w, int ms)
{
    uint64_t end_ns = k_now_ns() + (uint64_t)(ms > 0 ? ms : 0) * 1000000u;
    for (;;) {
        struct pollfd fds[2] = {{w->fd, POLLRDHUP, 0}, {w->stop_fd, POLLIN, 0}};
        uint64_t now_ns = k_now_ns();
        if (ms >= 0 && now_ns >= end_ns)
            return true;
        int left_ms = ms < 0 ? -1 : (int)((end_ns - now_ns) / 1000000u) + 1;
        if (poll(fds, 2, left_ms) < 0 && errno != EINTR)
            return false;
        if (fds[0].revents || fds[1].revents)
            return false;
    }
}

static int milliseconds(const json_t *object, const char *member, int otherwise)
{
    const json_t *value = json_object_get(object, member);
    return value ? (int)json_integer_value(value) : otherwise;
}

/* [from, to) of the reply, at the pace that the fault asks for. */
static bool send_span(struct kf_wire *w, const struct kf_buf *out, size_t from, size_t to,
                      const json_t *drip)
{
    size_t step = (size_t)json_integer_value(json_object_get(drip, "bytes"));
    if (!drip || step == 0)
        return from >= to || send_all(w, out->data + from, to - from);
    while (from < to) {
        size_t n = to - from < step ? to - from : step;
        if (!send_all(w, out->data + from, n))
            return false;
        from += n;
        if (from < to && !wait_ms(w, milliseconds(drip, "every_ms", 10)))
            return false;
    }
    return true;
}

void kf_reset(struct kf_wire *w)
{
    struct linger none = {1, 0};
    (void)setsockopt(w->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

bool kf_send_reply(struct kf_wire *w, const struct kf_request *r, struct kf_reply *reply,
                   json_t *fault)
{
    static const char garbage[] = "\x15\x03\x01\x00\x02\x02\x50 this is not HTTP\r\n\r\n";
    const json_t *cut = json_object_get(fault, "cut"), *stall = json_object_get(fault, "stall");
    const json_t *drip = json_object_get(fault, "drip");
    const char *how = json_string_value(json_object_get(cut, "how"));
    struct kf_buf out = {0};
    size_t head_len = 0, from = 0;
    bool closes = false, is_good;
    if (json_object_get(fault, "delay_ms") && !wait_ms(w, milliseconds(fault, "delay_ms", 0)))
        return false;
    if (json_is_true(json_object_get(fault, "garbage"))) {
        (void)send_all(w, garbage, sizeof(garbage) - 1);
        return false;
    }
    put_together(r, reply, fault, &closes, &out, &head_len);
    size_t end = position(cut, head_len, out.len), pause = position(stall, head_len, out.len);
    end = end < out.len ? end : out.len;
    is_good = true;
    if (pause < end) {
        is_good = send_span(w, &out, 0, pause, drip) && wait_ms(w, milliseconds(stall, "ms", -1));
        from = pause;
    }
    is_good = is_good && send_span(w, &out, from, end, drip);
    if (cut && is_good && !(how && strcmp(how, "close") == 0)) {
        /* What was sent shall arrive before the reset overtakes it. */
        if (end > 0)
            (void)wait_ms(w, 30);
        kf_reset(w);
    }
    kf_buf_fini(&out);
    return is_good && !cut && !closes;
}

void kf_request_fini(struct kf_request *r)
{
    k_free(r->method);
    k_free(r->target);
    kf_fields_fini(&r->headers);
    kf_fields_fini(&r->query);
    kf_buf_fini(&r->body);
    memset(r, 0, sizeof(*r));
}

void kf_reply_fini(struct kf_reply *r)
{
    kf_fields_fini(&r->headers);
    kf_buf_fini(&r->body);
    memset(r, 0, sizeof(*r));
}
