/* stream.c - read one object in order, by ranges, in bounded memory: the library's reader, with this
 * program's words for what goes wrong.
 *
 * The first piece tells the object's size. A range that the object does not have is refused then, before
 * any byte reaches the sink, and so is the verb that cannot use it (on_size). All pieces are of one
 * version; when that is gone the read ends with "changed while it was read" (exit 7). The sink may have
 * received a part by then: whoever owns the destination must not publish it, which is what writers are
 * for. */
#include <stdlib.h>
#include <string.h>

#include "frame.h"

static int fail_read(struct cli *cli, const struct cli_stream *stream, pst_rc rc,
                     const pst_error *err)
{
    if (rc == PST_E_CHANGED)
        return cli_fail(cli, pst_rc_exit_code(rc), "%s: changed while it was read", stream->name);
    /* The store of a transfer may be rooted at a directory and know the object by another name. */
    if (strstr(err->message, stream->name))
        return cli_fail_rc(cli, rc, err);
    return cli_fail_rc_at(cli, rc, err, "%s: ", stream->name);
}

static int fail_range(struct cli *cli, const struct cli_stream *stream, uint64_t object_size)
{
    struct cli_text_buf wanted = {0};
    int code;

    cli_addf(&wanted, "offset %llu", (unsigned long long)stream->offset);
    if (stream->length != PST_UNKNOWN)
        cli_addf(&wanted, ", length %llu", (unsigned long long)stream->length);
    cli_add(&wanted, "", 1);
    code = cli_fail(cli, pst_rc_exit_code(PST_E_RANGE),
                    "%s: %s goes beyond the end, the object has %llu bytes", stream->name,
                    wanted.data, (unsigned long long)object_size);
    cli_text_fini(&wanted);
    return code;
}

/* With the first piece: is the range there, and does the verb want it? */
static int begin(struct cli *cli, const struct cli_stream *stream, pst_reader *reader)
{
    pst_read_info info = {.struct_size = sizeof(info), .object_size = PST_UNKNOWN};
    uint64_t size, left;

    pst_reader_info(reader, &info);
    size = info.object_size;
    left = stream->offset < size ? size - stream->offset : 0;
    if (stream->is_exact && size != PST_UNKNOWN &&
        (stream->offset > size || (stream->length != PST_UNKNOWN && stream->length > left)))
        return fail_range(cli, stream, size);
    return stream->on_size ? stream->on_size(stream->arg, size, info.etag) : CLI_OK;
}

static int deliver(const struct cli_stream *stream, pst_buffer *buffer)
{
    /* Length 0 reads a byte, so that the range is looked at: nobody wants it. */
    if (stream->length == 0 || pst_buffer_size(buffer) == 0)
        return CLI_OK;
    return stream->sink(stream->arg, buffer);
}

static int read_all(struct cli *cli, const struct cli_stream *stream, pst_reader *reader)
{
    pst_error err = PST_ERROR_INIT;
    bool is_first = true, is_over = false;
    uint64_t n_read = 0;
    int code = CLI_OK;

    while (code == CLI_OK && !is_over) {
        pst_buffer *buffer = NULL;
        pst_rc rc = pst_reader_next(reader, &buffer, &err);
        if (rc != PST_OK)
            return fail_read(cli, stream, rc, &err);
        if (is_first)
            code = begin(cli, stream, reader);
        is_first = false;
        is_over = buffer == NULL;
        if (buffer)
            n_read += pst_buffer_size(buffer);
        if (buffer && code == CLI_OK)
            code = deliver(stream, buffer);
        pst_buffer_unref(buffer);
    }
    /* Of a store that does not tell sizes the end is known now. */
    if (code == CLI_OK && stream->is_exact && stream->length != PST_UNKNOWN &&
        n_read < stream->length)
        code = fail_range(cli, stream, stream->offset + n_read);
    return code;
}

int cli_stream_read(struct cli *cli, const struct cli_stream *stream)
{
    pst_error err = PST_ERROR_INIT;
    pst_reader *reader = NULL;
    int code;
    pst_rc rc = pst_reader_open(stream->store, stream->key, stream->offset,
                                stream->length ? stream->length : 1, stream->options, &cli->call,
                                &reader, &err);

    if (rc != PST_OK)
        return fail_read(cli, stream, rc, &err);
    code = read_all(cli, stream, reader);
    if (stream->info)
        pst_reader_info(reader, stream->info);
    if (stream->info && stream->length == 0) { /* the byte that nobody wanted */
        stream->info->n_read = 0;
        stream->info->crc32c = 0;
    }
    pst_reader_free(reader);
    return code == CLI_STOP ? CLI_OK : code;
}

int cli_sink_stdout(void *arg, pst_buffer *buffer)
{
    struct cli *cli = arg;
    cli_put(cli, pst_buffer_data(buffer), pst_buffer_size(buffer));
    if (cli_interrupted(cli))
        return CLI_INTERRUPTED;
    return cli_output_closed(cli) ? CLI_STOP : CLI_OK;
}

int cli_sink_nowhere(void *arg, pst_buffer *buffer)
{
    const struct cli *cli = arg;
    (void)buffer;
    return cli_interrupted(cli) ? CLI_INTERRUPTED : CLI_OK;
}
