/* stream.c - read one object in order, by ranges, in bounded memory.
 *
 * The first range is read alone: its reply tells the size and the etag. What remains is cut into
 * ranges of the same length, of which a few are under way at any time; they arrive in any order and
 * are handed to the sink in theirs. So memory is ranges-ahead times the length of a range, both made
 * to fit the budget, however large the object is.
 *
 * Every later range is pinned: a strong etag goes along as If-Match, and size and etag of each reply
 * are compared with the first in any case. A difference ends the read with "changed while it was
 * read" (exit 7), so two versions are never mixed. The sink may have received a part by then: whoever
 * owns the destination must not publish it, which is what writers are for.
 *
 * A store that does not tell sizes is read range after range until one comes short. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "frame.h"

#define RANGE_BYTES (8u * 1024u * 1024u)
#define RANGE_BYTES_MIN (64u * 1024u)
#define AHEAD_MAX 64u

struct reader {
    struct cli *cli;
    const struct cli_stream *stream;
    pst_queue *queue;
    uint64_t range_bytes, n_ahead;
    uint64_t object_size;     /* PST_UNKNOWN if the store does not say */
    uint64_t next, end;       /* still to submit */
    pst_read_options options; /* as far as they were given */
    uint64_t n_given, n_ranges;
    uint32_t crc32c; /* of what was given to the sink */
    char etag[1104];
    uint32_t etag_strength;
    uint64_t deadline_ms; /* 0: none */
    /* Range i of those after the first waits in slot i % n_ahead. */
    pst_buffer *slots[AHEAD_MAX];
    uint64_t n_submitted, n_delivered;
};

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

static int fail_changed(const struct reader *reader)
{
    return cli_fail(reader->cli, pst_rc_exit_code(PST_E_CHANGED), "%s: changed while it was read",
                    reader->stream->name);
}

static int fail_range(const struct reader *reader)
{
    const struct cli_stream *stream = reader->stream;
    struct cli_text_buf wanted = {0};
    int code;

    cli_addf(&wanted, "offset %llu", (unsigned long long)stream->offset);
    if (stream->length != PST_UNKNOWN)
        cli_addf(&wanted, ", length %llu", (unsigned long long)stream->length);
    cli_add(&wanted, "", 1);
    code = cli_fail(reader->cli, pst_rc_exit_code(PST_E_RANGE),
                    "%s: %s goes beyond the end, the object has %llu bytes", stream->name,
                    wanted.data, (unsigned long long)reader->object_size);
    cli_text_fini(&wanted);
    return code;
}

/* With the last bytes the checksum is known, and they are held back if it is wrong. */
static int check_sum(const struct reader *reader)
{
    uint32_t wanted = reader->options.expected_crc32c;
    if (!(reader->options.flags & PST_READ_EXPECT_CRC32C) || wanted == reader->crc32c)
        return CLI_OK;
    return cli_fail(reader->cli, pst_rc_exit_code(PST_E_DATA_LOSS),
                    "%s: checksum: wanted crc32c:%08x, got crc32c:%08x", reader->stream->name,
                    (unsigned)wanted, (unsigned)reader->crc32c);
}

static int deliver(struct reader *reader, pst_buffer *buffer)
{
    size_t size = pst_buffer_size(buffer);
    int code = CLI_OK;

    reader->n_ranges++;
    if (reader->options.flags & (PST_READ_CRC32C | PST_READ_EXPECT_CRC32C))
        reader->crc32c = pst_crc32c(reader->crc32c, pst_buffer_data(buffer), size);
    reader->n_given += size;
    if (reader->stream->offset + reader->n_given == reader->end)
        code = check_sum(reader);
    if (code != CLI_OK || size == 0)
        return code;
    return reader->stream->sink(reader->stream->arg, pst_buffer_data(buffer), size);
}

/* Decide from the first reply how far to read. */
static int plan(struct reader *reader, const pst_read_info *info, size_t n_first)
{
    const struct cli_stream *stream = reader->stream;
    uint64_t size = info->object_size, left;

    reader->object_size = size;
    reader->etag_strength = info->etag_strength;
    memcpy(reader->etag, info->etag, sizeof(reader->etag));
    reader->next = stream->offset + n_first;
    if (size == PST_UNKNOWN) {
        reader->end = PST_UNKNOWN;
        if (stream->length != PST_UNKNOWN && stream->length < PST_UNKNOWN - stream->offset)
            reader->end = stream->offset + stream->length;
        return CLI_OK;
    }
    left = stream->offset < size ? size - stream->offset : 0;
    if (stream->is_exact &&
        (stream->offset > size || (stream->length != PST_UNKNOWN && stream->length > left)))
        return fail_range(reader);
    if (stream->length < left)
        left = stream->length;
    reader->end = stream->offset + left;
    /* A first reply that is short although the object goes on would be a hole. */
    if (n_first < left && n_first < reader->range_bytes)
        return fail_changed(reader);
    return CLI_OK;
}

static int read_first(struct reader *reader, pst_buffer **out)
{
    const struct cli_stream *stream = reader->stream;
    pst_read_options options = {.struct_size = sizeof(options)};
    pst_read_info info = {.struct_size = sizeof(info), .object_size = PST_UNKNOWN};
    pst_error err = PST_ERROR_INIT;
    uint64_t length = stream->length < reader->range_bytes ? stream->length : reader->range_bytes;
    pst_rc rc;
    int code;

    options.if_match = reader->options.if_match;
    /* Length 0 reads nothing and so learns nothing: ask for one byte to have the range checked. */
    rc = pst_get_range(stream->store, stream->key, stream->offset, length ? length : 1, &options,
                       &reader->cli->call, out, &info, &err);
    if (rc == PST_E_PRECONDITION)
        return fail_changed(reader);
    if (rc != PST_OK)
        return cli_fail_rc(reader->cli, rc, &err);
    code = plan(reader, &info, length ? pst_buffer_size(*out) : 0);
    if (code == CLI_OK && stream->on_size)
        code = stream->on_size(stream->arg, info.object_size, info.etag);
    if (code == CLI_OK && length > 0)
        code = deliver(reader, *out);
    return code;
}

static pst_rc submit_one(struct reader *reader, pst_error *err)
{
    const struct cli_stream *stream = reader->stream;
    uint64_t left = reader->end - reader->next;
    pst_request request = {.struct_size = sizeof(request), .kind = PST_REQ_GET};

    request.user_data = reader->n_submitted;
    request.offset = reader->next;
    request.length = left < reader->range_bytes ? left : reader->range_bytes;
    request.flags = PST_READ_EXACT;
    request.max_attempts = reader->cli->call.max_attempts;
    request.store = stream->store;
    request.key = stream->key;
    if (reader->etag_strength == PST_ETAG_STRONG)
        request.if_match = pst_str_of(reader->etag, strlen(reader->etag));
    if (reader->deadline_ms) {
        uint64_t now = now_ms();
        request.timeout_ms = now < reader->deadline_ms ? reader->deadline_ms - now : 1;
    }
    reader->next += request.length;
    reader->n_submitted++;
    return pst_queue_submit(reader->queue, &request, 1, NULL, err);
}

/* Take over one completed range. */
static int accept_event(struct reader *reader, pst_event *event)
{
    if (event->status == PST_E_PRECONDITION || event->status == PST_E_RANGE ||
        event->status == PST_E_CHANGED)
        return fail_changed(reader);
    if (event->status != PST_OK)
        return cli_fail_rc(reader->cli, event->status, event->error);
    if ((event->object_size != PST_UNKNOWN && event->object_size != reader->object_size) ||
        (event->etag && reader->etag[0] && strcmp(event->etag, reader->etag) != 0))
        return fail_changed(reader);
    reader->slots[event->user_data % reader->n_ahead] = event->buffer;
    event->buffer = NULL;
    return CLI_OK;
}

static int read_rest_in_parallel(struct reader *reader)
{
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = PST_OK;
    int code = CLI_OK;

    while (code == CLI_OK &&
           (reader->next < reader->end || reader->n_delivered < reader->n_submitted)) {
        pst_event events[AHEAD_MAX];
        size_t n = 0;
        while (rc == PST_OK && reader->next < reader->end &&
               reader->n_submitted - reader->n_delivered < reader->n_ahead)
            rc = submit_one(reader, &err);
        if (rc == PST_OK)
            rc = pst_queue_wait(reader->queue, events, AHEAD_MAX, PST_UNKNOWN, reader->cli->cancel,
                                &n, &err);
        if (rc != PST_OK)
            return cli_fail_rc(reader->cli, rc, &err);
        for (size_t i = 0; i < n; i++) {
            if (code == CLI_OK)
                code = accept_event(reader, &events[i]);
            pst_event_fini(&events[i]);
        }
        while (code == CLI_OK && reader->n_delivered < reader->n_submitted) {
            pst_buffer **slot = &reader->slots[reader->n_delivered % reader->n_ahead];
            if (!*slot)
                break;
            code = deliver(reader, *slot);
            pst_buffer_unref(*slot);
            *slot = NULL;
            reader->n_delivered++;
        }
    }
    return code;
}

static int read_rest_one_by_one(struct reader *reader, bool is_first_full)
{
    const struct cli_stream *stream = reader->stream;
    pst_read_options options = {.struct_size = sizeof(options)};
    bool has_more = is_first_full;
    int code = CLI_OK;

    if (reader->etag_strength == PST_ETAG_STRONG)
        options.if_match = pst_str_of(reader->etag, strlen(reader->etag));
    while (code == CLI_OK && has_more && reader->next < reader->end) {
        uint64_t left = reader->end - reader->next;
        uint64_t length = left < reader->range_bytes ? left : reader->range_bytes;
        pst_read_info info = {.struct_size = sizeof(info)};
        pst_error err = PST_ERROR_INIT;
        pst_buffer *buffer = NULL;
        pst_rc rc = pst_get_range(stream->store, stream->key, reader->next, length, &options,
                                  &reader->cli->call, &buffer, &info, &err);
        if (rc == PST_E_PRECONDITION || (rc == PST_OK && strcmp(info.etag, reader->etag) != 0))
            code = fail_changed(reader);
        else if (rc != PST_OK)
            code = cli_fail_rc(reader->cli, rc, &err);
        else
            code = deliver(reader, buffer);
        if (buffer) {
            has_more = pst_buffer_size(buffer) == length;
            reader->next += pst_buffer_size(buffer);
        }
        pst_buffer_unref(buffer);
    }
    if (code == CLI_OK && stream->is_exact && stream->length != PST_UNKNOWN &&
        reader->next < reader->end) {
        reader->object_size = reader->next;
        code = fail_range(reader);
    }
    return code;
}

static void fill_info(const struct reader *reader, pst_read_info *info)
{
    info->object_size = reader->object_size;
    info->etag_strength = reader->etag_strength;
    memcpy(info->etag, reader->etag, sizeof(info->etag));
    info->n_read = reader->n_given;
    info->part_bytes = reader->range_bytes;
    info->n_ranges = (uint32_t)reader->n_ranges;
    info->max_in_flight = (uint32_t)reader->n_ahead;
    info->has_crc32c = (reader->options.flags & PST_READ_CRC32C) != 0;
    info->crc32c = reader->crc32c;
}

int cli_stream_read(struct cli *cli, const struct cli_stream *stream)
{
    struct reader reader = {.cli = cli, .stream = stream};
    pst_error err = PST_ERROR_INIT;
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_buffer *first = NULL;
    bool is_first_full;
    pst_rc rc;
    int code;

    if (stream->options)
        reader.options = *stream->options;
    reader.n_ahead = reader.options.max_in_flight ? reader.options.max_in_flight : 4;
    if (reader.n_ahead > AHEAD_MAX)
        reader.n_ahead = AHEAD_MAX;
    reader.range_bytes = reader.options.part_bytes ? reader.options.part_bytes : RANGE_BYTES;
    pst_context_stats(cli->context, &stats);
    while (reader.range_bytes > RANGE_BYTES_MIN &&
           reader.range_bytes * (reader.n_ahead + 1) > stats.budget_bytes)
        reader.range_bytes /= 2;
    if (cli->call.timeout_ms)
        reader.deadline_ms = now_ms() + cli->call.timeout_ms;

    code = read_first(&reader, &first);
    is_first_full = first && pst_buffer_size(first) == reader.range_bytes;
    pst_buffer_unref(first);
    if (code == CLI_OK && reader.object_size == PST_UNKNOWN) {
        code = read_rest_one_by_one(&reader, is_first_full);
    } else if (code == CLI_OK && reader.next < reader.end) {
        rc = pst_queue_new(cli->context, &reader.queue, &err);
        if (rc != PST_OK)
            return cli_fail_rc(cli, rc, &err);
        code = read_rest_in_parallel(&reader);
        pst_queue_free(reader.queue);
        for (size_t i = 0; i < AHEAD_MAX; i++)
            pst_buffer_unref(reader.slots[i]);
    }
    if (code == CLI_OK && stream->info)
        fill_info(&reader, stream->info);
    return code == CLI_STOP ? CLI_OK : code;
}

int cli_sink_stdout(void *arg, const void *data, size_t len)
{
    struct cli *cli = arg;
    cli_put(cli, data, len);
    if (cli_interrupted(cli))
        return CLI_INTERRUPTED;
    return cli_output_closed(cli) ? CLI_STOP : CLI_OK;
}
