/* cmd_get.c - one object, or an exact range of it, to a file or standard output.
 *
 * A regular FILE is written through a file:// writer: a temporary name beside it, renamed when it is
 * complete, so that FILE is the old one, the new one or absent, whatever happens. What is there and is
 * not a regular file (/dev/null, a FIFO) is written as it is; a directory takes the object under its
 * last name; of a symbolic link the file that it names is replaced, as the shell's > does.
 *
 * The writer is opened when the first reply has told the size, so a missing object or a range beyond
 * the end leaves no trace. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "flow.h"

struct getter {
    struct cli *cli;
    struct cli_flow *flow;
    uint64_t offset, length; /* as asked for */
    bool is_decoded;         /* so that the object's size says nothing about the file's */
    struct cli_location file;
    pst_writer *writer;
    int fd; /* of a FILE that is not regular; else -1 */
};

static bool is_decoded(const struct cli_flow *flow, pst_str key)
{
    return flow->decode == PST_DECODE_ZSTD ||
           (flow->decode == PST_DECODE_BY_NAME && pst_key_is_zstd(key));
}

static int fail_writing(const struct getter *getter, pst_rc rc, const pst_error *err)
{
    return cli_fail_rc(getter->cli, rc, err);
}

static int start_file(void *arg, uint64_t object_size, const char *etag)
{
    struct getter *getter = arg;
    pst_write_options options = {.struct_size = sizeof(options), .size_hint = PST_UNKNOWN};
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;

    (void)etag;
    if (object_size != PST_UNKNOWN && !getter->is_decoded)
        options.size_hint = object_size - getter->offset;
    if (getter->length < options.size_hint)
        options.size_hint = getter->length;
    cli_progress_start(getter->cli, "get", PST_UNKNOWN, options.size_hint);
    if (getter->fd >= 0)
        return CLI_OK;
    rc = pst_writer_open(getter->file.store, getter->file.parts.key, &options, &getter->cli->call,
                         &getter->writer, &err);
    return rc == PST_OK ? CLI_OK : fail_writing(getter, rc, &err);
}

static int write_fd(const struct getter *getter, const char *data, size_t len)
{
    while (len > 0 && !cli_interrupted(getter->cli)) {
        ssize_t n = write(getter->fd, data, len);
        if (n < 0 && errno == EPIPE)
            return CLI_STOP; /* the reader of a FIFO went away */
        if (n < 0 && errno != EINTR)
            return cli_fail_errno(getter->cli, errno, "%s", getter->file.arg);
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return cli_interrupted(getter->cli) ? CLI_INTERRUPTED : CLI_OK;
}

static int write_file(void *arg, pst_buffer *buffer)
{
    struct getter *getter = arg;
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;
    int code;

    if (getter->fd >= 0) {
        code = write_fd(getter, pst_buffer_data(buffer), pst_buffer_size(buffer));
    } else {
        rc = pst_writer_write_owned(getter->writer, buffer, &err);
        code = rc == PST_OK ? CLI_OK : fail_writing(getter, rc, &err);
    }
    cli_progress_add(getter->cli, 0, pst_buffer_size(buffer));
    return code;
}

/* The path to write for FILE: into a directory, through a link. free(). */
static char *choose_path(struct cli *cli, const char *file, pst_str key, bool is_decoded,
                         bool *is_special)
{
    const char *slash = key.len ? memrchr(key.ptr, '/', key.len) : NULL;
    struct cli_text_buf path = {0};
    struct stat st;
    size_t len = strlen(file);

    *is_special = false;
    if (is_decoded && pst_key_is_zstd(key))
        key.len -= strlen(".zst");
    cli_add(&path, file, len);
    if ((len > 0 && file[len - 1] == '/') || (stat(file, &st) == 0 && S_ISDIR(st.st_mode))) {
        const char *name = slash ? slash + 1 : key.ptr;
        if (len > 0 && file[len - 1] != '/')
            cli_add(&path, "/", 1);
        cli_add(&path, name, (size_t)(key.ptr + key.len - name));
    }
    cli_add(&path, "", 1);
    if (stat(path.data, &st) != 0)
        return path.data;
    if (S_ISDIR(st.st_mode)) {
        cli_usage(cli, "%s: is a directory", path.data);
        cli_text_fini(&path);
        return NULL;
    }
    *is_special = !S_ISREG(st.st_mode);
    if (S_ISREG(st.st_mode) && lstat(path.data, &st) == 0 && S_ISLNK(st.st_mode)) {
        char *target = realpath(path.data, NULL);
        if (target) {
            cli_text_fini(&path);
            return target;
        }
    }
    return path.data;
}

/* Publish the file, and see with --verify that it is what was read. */
static int finish_file(struct getter *getter, const pst_read_info *info, int code)
{
    pst_write_result result = {.struct_size = sizeof(result)};
    bool is_written = getter->writer != NULL;
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;

    if (code == CLI_OK && is_written) {
        rc = pst_writer_finalize(getter->writer, &result, &err);
        if (rc != PST_OK)
            code = fail_writing(getter, rc, &err);
    }
    pst_writer_free(getter->writer);
    if (getter->fd >= 0 && close(getter->fd) != 0 && code == CLI_OK)
        code = cli_fail_errno(getter->cli, errno, "%s", getter->file.arg);
    if (code == CLI_OK && is_written && getter->flow->verifies) {
        struct cli_expected expected = {.name = getter->file.uri,
                                        .size = info->n_read,
                                        .stored_size = info->n_read,
                                        .crc = info->crc32c};
        code = cli_verify_written(getter->cli, getter->flow, getter->file.store,
                                  getter->file.parts.key, &expected);
    }
    return code;
}

static int get_to_file(struct cli *cli, struct cli_flow *flow, struct cli_stream *stream,
                       const char *file)
{
    struct getter getter = {.cli = cli,
                            .flow = flow,
                            .offset = stream->offset,
                            .length = stream->length,
                            .is_decoded = is_decoded(flow, stream->key),
                            .fd = -1};
    bool is_special;
    char *path;
    int code;

    if (strstr(file, "://"))
        return cli_usage(cli, "FILE is a local path, '%s' is a URI: use 'penstock cp'", file);
    path = choose_path(cli, file, stream->key, getter.is_decoded, &is_special);
    if (!path)
        return CLI_USAGE;
    code = cli_location_parse(cli, path, 0, &getter.file);
    if (code == CLI_OK && is_special) {
        getter.fd = open(path, O_WRONLY | O_CLOEXEC);
        if (getter.fd < 0)
            code = cli_fail_errno(cli, errno, "%s", path);
    } else if (code == CLI_OK) {
        code = cli_location_open(cli, &getter.file);
    }
    if (code == CLI_OK) {
        stream->on_size = start_file;
        stream->sink = write_file;
        stream->arg = &getter;
        code = finish_file(&getter, stream->info, cli_stream_read(cli, stream));
        cli_flow_add_store(flow, getter.file.uri, getter.file.store);
    }
    cli_location_fini(&getter.file);
    free(path);
    return code;
}

static int sink_with_progress(void *arg, pst_buffer *buffer)
{
    cli_progress_add(arg, 0, pst_buffer_size(buffer));
    return cli_sink_stdout(arg, buffer);
}

static int start_progress(void *arg, uint64_t object_size, const char *etag)
{
    (void)etag;
    if (!isatty(STDOUT_FILENO))
        cli_progress_start(arg, "get", PST_UNKNOWN, object_size);
    return CLI_OK;
}

static int get_object(struct cli *cli, struct cli_flow *flow, struct cli_stream *stream,
                      const char *file)
{
    pst_read_options options = {.struct_size = sizeof(options)};
    pst_read_info info = {.struct_size = sizeof(info)};
    int code = CLI_OK;

    cli_flow_read_options(flow, &options);
    options.flags |= PST_READ_CRC32C;
    options.version = cli_str(cli->args, "version-id");
    stream->options = &options;
    stream->info = &info;
    if (strcmp(file, "-") == 0) {
        bool is_range = stream->offset > 0 || stream->length != PST_UNKNOWN;
        stream->on_size = is_range ? NULL : start_progress;
        stream->sink = sink_with_progress;
        stream->arg = cli;
        code = cli_stream_read(cli, stream);
    } else {
        code = get_to_file(cli, flow, stream, file);
    }
    if (code == CLI_OK) {
        cli_verify_read(cli, flow, stream);
        cli_flow_add_read(flow, &info);
        cli_flow_add_object(flow, info.n_read,
                            is_decoded(flow, stream->key) ? info.object_size : info.n_read);
        cli_flow_add_crc(flow, info.crc32c);
    }
    return code;
}

static int run_get(struct cli *cli, const struct cli_args *args)
{
    struct cli_stream stream = {.length = cli_number(args, "length"), .is_exact = true};
    const char *file = args->n_operands > 1 ? args->operands[1] : "-";
    struct cli_location location = {0};
    struct cli_flow flow = {0};
    pst_str version;
    int code = cli_flow_init(cli, args, &flow);

    if (code == CLI_OK)
        code = cli_version_id(cli, args, &version);
    if (code == CLI_OK)
        code = cli_location_parse(cli, args->operands[0], 0, &location);
    if (code == CLI_OK && cli_given(args, "offset"))
        stream.offset = cli_number(args, "offset");
    if (code == CLI_OK && location.is_directory)
        code = cli_usage(cli, "%s: is a directory: use 'penstock cp -r'", location.arg);
    if (code == CLI_OK)
        code = cli_location_open(cli, &location);
    if (code == CLI_OK) {
        stream.store = location.store;
        stream.key = location.parts.key;
        stream.name = location.uri;
        code = get_object(cli, &flow, &stream, file);
        cli_progress_stop(cli);
        cli_flow_add_store(&flow, location.uri, location.store);
        if (code == CLI_OK)
            cli_flow_tell(cli, &flow);
    }
    cli_location_fini(&location);
    cli_flow_fini(&flow);
    return code;
}

static const struct cli_option options[] = {
    {0, CLI_SIZE, "offset", "BYTES", "start here", NULL, 0, 0},
    {0, CLI_SIZE, "length", "BYTES", "read exactly this many", NULL, 0, 0},
    CLI_OPTION_VERSION_ID,
    CLI_FLOW_OPTION_DECOMPRESS,
    CLI_FLOW_OPTIONS,
    CLI_FLOW_OPTION_JSON,
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_get = {
    .name = "get",
    .operands = "URI [FILE]",
    .summary = "read one object, or a range of it, to FILE or standard output",
    .details =
        "FILE is written under a temporary name and renamed when it is complete. If FILE is a "
        "directory, the object's last name is used in it.\n\n"
        "A range is exact: one that goes beyond the end of the object writes nothing and is "
        "exit 7, naming the size.\n\n"
        "  penstock get s3://bucket/model.bin --offset 1MiB --length 4096 head.bin",
    .options = options,
    .min_operands = 1,
    .max_operands = 2,
    .run = run_get,
};
