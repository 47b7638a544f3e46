/* Every input is what a server says: the first byte chooses the request and what accept answers, the
 * second where the network cuts the rest in pieces. However it is cut, the reply must come to the same
 * end with the same bytes, no memory but what was granted is written, and the reader never waits for
 * what it has. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net.h"

enum { INPUT_MAX = 48 * 1024, ROUNDS_MAX = 100000 };

enum { BY_TAKE, BY_SMALL_GRANTS, BY_COLLECT, BY_REJECT, BY_PAUSE, N_WAYS };

struct outcome {
    int end, code;
    uint32_t status;
    pst_rc rc;
    uint64_t n_received, n_taken;
    uint32_t crc32c;
    struct pst_dynbuf collected;
};

struct reader {
    int way, has_paused;
    char *memory; /* granted; of just this size, for the address sanitizer */
    size_t n_memory;
    pst_iov span;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static int32_t accept_reply(void *ctx, const pst_http_head *head, pst_http_grant *grant)
{
    struct reader *reader = ctx;
    for (size_t i = 0; i < head->n_headers; i++) {
        const pst_kv *field = &head->headers[i];
        require(!memchr(field->key.ptr, '\n', field->key.len));
        require(field->value.len == 0 || !memchr(field->value.ptr, '\n', field->value.len));
    }
    if (reader->way == BY_COLLECT)
        return PST_HTTP_COLLECT;
    if (reader->way == BY_REJECT)
        return PST_HTTP_REJECT;
    if (reader->way == BY_PAUSE && (reader->has_paused = !reader->has_paused))
        return PST_HTTP_PAUSE;
    size_t want = head->content_length < INPUT_MAX ? (size_t)head->content_length : INPUT_MAX;
    if (reader->way != BY_TAKE)
        want = 7;
    free(reader->memory);
    reader->memory = malloc(want > 0 ? want : 1);
    require(reader->memory != NULL);
    reader->span = (pst_iov){reader->memory, want};
    grant->dst = &reader->span;
    grant->n_dst = 1;
    return PST_HTTP_TAKE;
}

/* Read until there is nothing more. */
static int read_on(struct pst_slot *slot, int *code)
{
    for (int i = 0; i < ROUNDS_MAX; i++) {
        const int end = pst_wire_read(slot, code);
        if (end != PST_WIRE_WAIT)
            return end;
        if (slot->transfer->is_paused) {
            if (!pst_receive_resume(slot->transfer)) {
                *code = CURLE_WRITE_ERROR;
                return PST_WIRE_FAILED;
            }
        } else if (!slot->wire->is_hot && !slot->wire->may_read) {
            return end;
        }
        if (slot->wire->is_hot)
            pst_ring_remove(&slot->wire->busy);
        slot->wire->is_hot = 0;
    }
    abort();
}

static void run(struct pst_loop *loop, int way, int is_head, const uint8_t *text, size_t len,
                size_t piece, struct outcome *out)
{
    struct reader reader = {.way = way};
    struct pst_wire wire = {.state = PST_WIRE_BUSY, .wants_status = 1, .is_sent = 1};
    struct pst_lane lane = {.loop = loop};
    struct pst_slot slot = {.wire = &wire, .lane = &lane};
    struct pst_transfer *t = calloc(1, sizeof(*t));
    int ends[2];
    size_t at = 0;
    require(t && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    wire.slot = &slot;
    wire.fd = ends[0];
    wire.in_room = PST_WIRE_IN_BYTES;
    wire.in = malloc(wire.in_room);
    slot.transfer = t;
    pst_head_reset(&slot.head);
    t->slot = &slot;
    t->loop = loop;
    t->method = is_head ? "HEAD" : "GET";
    t->flags = PST_HTTP_CRC32C;
    t->body_max = INPUT_MAX;
    t->accept = accept_reply;
    t->ctx = &reader;
    memset(out, 0, sizeof(*out));
    do {
        const size_t part = len - at < piece ? len - at : piece;
        require(write(ends[1], text + at, part) == (ssize_t)part);
        at += part;
        wire.may_read = 1;
        out->end = read_on(&slot, &out->code);
    } while (out->end == PST_WIRE_WAIT && at < len);
    if (out->end == PST_WIRE_WAIT) {
        shutdown(ends[1], SHUT_WR);
        wire.may_read = wire.has_hung_up = 1;
        out->end = read_on(&slot, &out->code);
    }
    require(out->end == PST_WIRE_COMPLETE || out->end == PST_WIRE_FAILED);
    require(t->n_received <= len && t->n_taken <= t->n_received);
    if (out->end == PST_WIRE_COMPLETE)
        require(slot.head.is_complete && slot.head.status >= 200);
    out->status = slot.head.is_complete ? slot.head.status : 0;
    out->rc = t->rc;
    out->n_received = t->n_received;
    out->n_taken = t->n_taken;
    out->crc32c = t->crc32c;
    out->collected = t->collected;
    memset(&t->collected, 0, sizeof(t->collected));
    pst_transfer_free(t);
    pst_head_fini(&slot.head);
    free(wire.in);
    free(reader.memory);
    close(ends[0]);
    close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pst_loop loop;
    struct outcome whole, cut;
    if (size < 2 || size > INPUT_MAX)
        return 0;
    pst_ring_init(&loop.hot);
    const int way = data[0] % N_WAYS;
    const int is_head = data[0] >= 0xf0;
    run(&loop, way, is_head, data + 2, size - 2, INPUT_MAX, &whole);
    run(&loop, way, is_head, data + 2, size - 2, (size_t)data[1] + 1, &cut);
    require(whole.end == cut.end && whole.status == cut.status && whole.rc == cut.rc);
    if (whole.end == PST_WIRE_COMPLETE) {
        require(whole.n_received == cut.n_received && whole.n_taken == cut.n_taken);
        require(whole.crc32c == cut.crc32c && whole.collected.len == cut.collected.len);
        require(whole.collected.len == 0 ||
                memcmp(whole.collected.data, cut.collected.data, whole.collected.len) == 0);
    }
    pst_dynbuf_fini(&whole.collected);
    pst_dynbuf_fini(&cut.collected);
    return 0;
}
