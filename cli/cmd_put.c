/* cmd_put.c - one object from a file or standard input, as a stream.
 *
 * The source is read piece by piece into memory that the writer lends, which sends parts and waits when
 * the memory budget is used up: memory does not grow with the object. Readers see the old object until the last byte is
 * committed; after any failure, an interruption included, nothing of the new one stays.
 *
 * A regular file must not change meanwhile: size and time are looked at before and after, and the
 * bytes read are counted. A difference ends it with "changed while it was read" (exit 7). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "flow.h"

#define PIECE_BYTES (1024u * 1024u)

struct source {
    const char *name;
    int fd;
    bool is_regular;
    struct stat st;
    uint64_t n_read;
};

static int open_source(struct cli *cli, const char *file, struct source *source)
{
    source->name = file;
    source->fd = STDIN_FILENO;
    if (strcmp(file, "-") == 0) {
        source->name = "standard input";
    } else if (strstr(file, "://")) {
        return cli_usage(cli, "FILE is a local path, '%s' is a URI: use 'penstock cp'", file);
    } else {
        source->fd = open(file, O_RDONLY | O_CLOEXEC);
        if (source->fd < 0)
            return cli_fail_errno(cli, errno, "%s", file);
    }
    if (fstat(source->fd, &source->st) != 0)
        return cli_fail_errno(cli, errno, "%s", source->name);
    if (S_ISDIR(source->st.st_mode))
        return cli_usage(cli, "%s: is a directory: use 'penstock cp -r'", source->name);
    /* Standard input may stand anywhere in a file: then its size says nothing about the rest. */
    source->is_regular = S_ISREG(source->st.st_mode) && source->fd != STDIN_FILENO;
    return CLI_OK;
}

static int check_unchanged(struct cli *cli, const struct source *source)
{
    struct stat now;

    if (!source->is_regular)
        return CLI_OK;
    if (fstat(source->fd, &now) != 0)
        return cli_fail_errno(cli, errno, "%s", source->name);
    if (now.st_size == source->st.st_size && (uint64_t)now.st_size == source->n_read &&
        now.st_mtim.tv_sec == source->st.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == source->st.st_mtim.tv_nsec)
        return CLI_OK;
    return cli_fail(cli, pst_rc_exit_code(PST_E_CHANGED), "%s: changed while it was read",
                    source->name);
}

/* The writer lends memory of its parts, so the bytes are read to where they leave from. */
static int copy_source(struct cli *cli, struct source *source, pst_writer *writer)
{
    int code = CLI_OK;

    while (code == CLI_OK) {
        pst_error err = PST_ERROR_INIT;
        void *piece = NULL;
        size_t len = 0;
        /* The end, unless it grew. A store that is full now, or one part that is, lends nothing more. */
        if (source->is_regular && source->n_read == (uint64_t)source->st.st_size) {
            char more;
            ssize_t n = cli_read_fd(cli, source->fd, &more, 1);
            if (n < 0)
                return cli_fail_errno(cli, errno, "%s", source->name);
            source->n_read += (uint64_t)n;
            break;
        }
        pst_rc rc = pst_writer_reserve(writer, PIECE_BYTES, &piece, &len, &err);
        if (rc != PST_OK)
            return cli_fail_rc(cli, rc, &err);
        ssize_t n = cli_read_fd(cli, source->fd, piece, len);
        if (n < 0)
            return cli_fail_errno(cli, errno, "%s", source->name);
        rc = pst_writer_commit(writer, (size_t)n, &err);
        if (rc != PST_OK)
            code = cli_fail_rc(cli, rc, &err);
        source->n_read += (uint64_t)n;
        cli_progress_add(cli, 0, (uint64_t)n);
        if (n == 0)
            break;
    }
    return code == CLI_OK ? check_unchanged(cli, source) : code;
}

static void print_result(struct cli *cli, const struct cli_location *to, uint64_t n_read,
                         const pst_write_result *result)
{
    struct cli_text_buf line = {0};

    cli_json_begin(&line);
    cli_json_bytes(&line, "uri", pst_str_of(to->uri, strlen(to->uri)));
    cli_json_number(&line, "size", result->size);
    cli_json_number(&line, "bytes_written", n_read);
    if (result->etag[0])
        cli_json_text(&line, "etag", pst_str_of(result->etag, strlen(result->etag)));
    if (result->version[0])
        cli_json_text(&line, "version", pst_str_of(result->version, strlen(result->version)));
    if (result->has_crc32c) {
        char crc[9];
        snprintf(crc, sizeof(crc), "%08" PRIx32, result->crc32c);
        cli_json_text(&line, "crc32c", pst_str_of(crc, 8));
    }
    cli_json_end(&line);
    cli_put_text(cli, &line);
    cli_text_fini(&line);
}

/* What comes after the last byte. */
static int finish(struct cli *cli, struct cli_flow *flow, const struct cli_location *to,
                  uint64_t n_read, bool is_compressed, const pst_write_result *result)
{
    struct cli_expected expected = {.name = to->uri,
                                    .size = n_read,
                                    .stored_size = result->size,
                                    .crc = result->crc32c,
                                    .is_compressed = is_compressed};

    cli_flow_add_write(flow, result);
    cli_flow_add_object(flow, n_read, result->size);
    if (result->has_crc32c)
        cli_flow_add_crc(flow, result->crc32c);
    if (!flow->verifies)
        return CLI_OK;
    return cli_verify_written(cli, flow, to->store, to->parts.key, &expected);
}

static int put_source(struct cli *cli, struct cli_flow *flow, struct source *source,
                      const struct cli_location *to, bool is_compressed)
{
    const struct cli_args *args = cli->args;
    pst_attr attr = {.struct_size = sizeof(attr), .mtime_ns = PST_TIME_UNKNOWN};
    pst_write_options options = {.struct_size = sizeof(options), .size_hint = PST_UNKNOWN};
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_error err = PST_ERROR_INIT;
    pst_writer *writer = NULL;
    pst_rc rc;
    int code;

    attr.content_type = cli_str(args, "content-type");
    attr.content_encoding = cli_str(args, "content-encoding");
    attr.cache_control = cli_str(args, "cache-control");
    attr.storage_class = cli_str(args, "storage-class");
    attr.n_tags = cli_pairs(args, "tag", &attr.tags);
    attr.n_user_meta = cli_pairs(args, "meta", &attr.user_meta);
    options.attr = &attr;
    options.if_match = cli_str(args, "if-match");
    options.flags = cli_flag(args, "create-only") ? PST_WRITE_CREATE_ONLY : 0;
    options.sums = 1u << PST_SUM_CRC32C;
    cli_flow_write_options(flow, is_compressed, &options);
    if (source->is_regular)
        options.size_hint = (uint64_t)source->st.st_size;

    rc = pst_writer_open(to->store, to->parts.key, &options, &cli->call, &writer, &err);
    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, &err);
    cli_progress_start(cli, "put", PST_UNKNOWN, options.size_hint);
    code = copy_source(cli, source, writer);
    if (code == CLI_OK) {
        rc = pst_writer_finalize(writer, &result, &err);
        if (rc != PST_OK)
            code = cli_fail_rc(cli, rc, &err);
    }
    pst_writer_free(writer); /* cancels what was not finalized */
    if (code == CLI_OK)
        code = finish(cli, flow, to, source->n_read, is_compressed, &result);
    if (code == CLI_OK && cli_flag(args, "json"))
        print_result(cli, to, source->n_read, &result);
    return code;
}

/* "s3://bucket/dir/" takes the file under its own name; what gets compressed is named so. */
static int complete_key(struct cli *cli, const struct source *source, const char *file,
                        bool is_compressed, struct cli_location *to, char **arg)
{
    const char *slash = strrchr(file, '/');
    const char *name = slash ? slash + 1 : file;
    bool is_named = !is_compressed || (!to->is_directory && pst_key_is_zstd(to->parts.key));
    struct cli_text_buf uri = {0};

    if (!to->is_directory && is_named)
        return CLI_OK;
    cli_addf(&uri, "%s", to->uri);
    if (to->is_directory) {
        if (source->fd == STDIN_FILENO || *name == '\0') {
            cli_text_fini(&uri);
            return cli_usage(cli, "%s: is a directory: give the object's whole name", to->arg);
        }
        cli_addf(&uri, "%s%s", uri.data[uri.len - 1] == '/' ? "" : "/", name);
    }
    if (!is_named)
        cli_addf(&uri, ".zst");
    cli_add(&uri, "", 1);
    cli_location_fini(to);
    *arg = uri.data;
    return cli_location_parse(cli, uri.data, 0, to);
}

static int run_put(struct cli *cli, const struct cli_args *args)
{
    struct source source = {.fd = -1};
    struct cli_location to = {0};
    struct cli_flow flow = {0};
    const char *file = args->operands[0];
    char *completed = NULL;
    bool is_compressed = false;
    int code = cli_flow_init(cli, args, &flow);

    if (code == CLI_OK && cli_flag(args, "create-only") && cli_given(args, "if-match"))
        code = cli_usage(cli, "--create-only and --if-match exclude each other");
    if (code == CLI_OK)
        code = open_source(cli, file, &source);
    if (code == CLI_OK)
        code = cli_location_parse(cli, args->operands[1], 0, &to);
    if (code == CLI_OK) {
        is_compressed = cli_flow_compresses(&flow, pst_str_of(file, strlen(file)));
        code = complete_key(cli, &source, file, is_compressed, &to, &completed);
    }
    if (code == CLI_OK)
        code = cli_location_open(cli, &to);
    if (code == CLI_OK) {
        code = put_source(cli, &flow, &source, &to, is_compressed);
        cli_progress_stop(cli);
        cli_flow_add_store(&flow, to.uri, to.store);
        if (code == CLI_OK)
            cli_flow_tell(cli, &flow);
    }
    cli_location_fini(&to);
    free(completed);
    if (source.fd > STDERR_FILENO)
        close(source.fd);
    cli_flow_fini(&flow);
    return code;
}

static const struct cli_option options[] = {
    {0, CLI_FLAG, "create-only", NULL, "fail (exit 6) when the object is already there", NULL, 0,
     0},
    {0, CLI_TEXT, "if-match", "ETAG", "replace only this content, as stat showed it; else exit 6",
     NULL, 0, 0},
    {0, CLI_TEXT, "content-type", "TYPE", "media type of the object", NULL, 0, 0},
    {0, CLI_TEXT, "content-encoding", "CODING", "how its bytes are encoded, like gzip", NULL, 0, 0},
    {0, CLI_TEXT, "cache-control", "TEXT", "for caches between the store and its readers", NULL, 0,
     0},
    {0, CLI_TEXT, "storage-class", "CLASS", "as the store calls it, like STANDARD_IA", NULL, 0, 0},
    {0, CLI_PAIRS, "meta", "NAME=VALUE", "user metadata; may be repeated", NULL, 0, 0},
    {0, CLI_PAIRS, "tag", "NAME=VALUE", "a tag of the object; may be repeated", NULL, 0, 0},
    CLI_FLOW_OPTION_COMPRESS,
    CLI_FLOW_OPTIONS,
    {0, CLI_FLAG, "json", NULL, "print size, etag and CRC-32C of what was written", NULL, 0, 0},
    {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0},
};

const struct cli_verb cli_cmd_put = {
    .name = "put",
    .operands = "FILE URI",
    .summary = "write one object from FILE or, with '-', standard input",
    .details = "The object appears whole or not at all. Memory does not grow with its size. A URI "
               "that ends in a slash takes the file under its own name. With --compress the name "
               "gets .zst unless it has it; a FILE that is named .zst is written as it is.\n\n"
               "  tar c . | penstock put - s3://bucket/tree.tar --meta job=42",
    .options = options,
    .min_operands = 2,
    .max_operands = 2,
    .run = run_put,
};
