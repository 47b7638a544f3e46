/* verify.c - --verify: is what was written, or read, what it should be?
 *
 * What was written is compared by size and CRC-32C. The checksum that a local store keeps beside a file
 * is the one that was handed to it, which proves nothing about the bytes: they are read back. So are
 * compressed objects, through the decompressor, because the checksum that counts is that of the bytes
 * before. A remote store computes a sum of its own over what arrived, which is as good as reading.
 *
 * What was read the library compares with the checksums that the store keeps of it; there is nothing to
 * compare with where it keeps none, and that is said. A difference is exit 7 with both checksums in one line. */
#include <inttypes.h>
#include <string.h>

#include "flow.h"

bool cli_find_crc(const pst_attr *attr, uint32_t *crc)
{
    for (uint32_t i = 0; i < attr->n_sums; i++) {
        const pst_sum *sum = (const pst_sum *)(const void *)((const char *)attr->sums +
                                                             i * attr->sum_stride);
        if (sum->algorithm != PST_SUM_CRC32C || sum->scope != PST_SCOPE_OBJECT || sum->length != 4)
            continue;
        *crc = (uint32_t)sum->bytes[0] << 24 | (uint32_t)sum->bytes[1] << 16 |
               (uint32_t)sum->bytes[2] << 8 | sum->bytes[3];
        return true;
    }
    return false;
}

void cli_not_verified(struct cli *cli, struct cli_flow *flow, const char *name, const char *why)
{
    atomic_fetch_add(&flow->n_unverified, 1);
    cli_tell(cli, "%s: verified: no, %s", name, why);
}

static int fail_size(struct cli *cli, const char *name, uint64_t wanted, uint64_t got)
{
    return cli_fail(cli, CLI_DATA, "%s: wanted %" PRIu64 " bytes, got %" PRIu64, name, wanted, got);
}

static int compare_crc(struct cli *cli, const char *name, uint32_t wanted, uint32_t got)
{
    char texts[2][PST_CRC32C_TEXT_SIZE];
    if (wanted == got)
        return CLI_OK;
    return cli_fail(cli, CLI_DATA, "%s: checksum: wanted %s, got %s", name,
                    pst_crc32c_text(wanted, texts[0]), pst_crc32c_text(got, texts[1]));
}

static int read_back(struct cli *cli, struct cli_flow *flow, pst_store *store, pst_str key,
                     const pst_attr *attr, const struct cli_expected *expected)
{
    pst_read_options options = {.struct_size = sizeof(options), .flags = PST_READ_CRC32C};
    pst_read_info info = {.struct_size = sizeof(info)};
    struct cli_stream stream = {.store = store,
                                .key = key,
                                .length = PST_UNKNOWN,
                                .options = &options,
                                .info = &info,
                                .name = expected->name,
                                .sink = cli_sink_nowhere,
                                .arg = cli};
    int code;

    cli_flow_read_options(flow, &options);
    options.flags &= ~PST_READ_VERIFY; /* what the store says of itself is not the question */
    options.decode = expected->is_compressed ? PST_DECODE_ZSTD : PST_DECODE_NEVER;
    if (attr->etag_strength == PST_ETAG_STRONG)
        options.if_match = attr->etag;
    code = cli_stream_read(cli, &stream);
    if (code == CLI_OK && info.n_read != expected->size)
        code = fail_size(cli, expected->name, expected->size, info.n_read);
    return code == CLI_OK ? compare_crc(cli, expected->name, expected->crc, info.crc32c) : code;
}

int cli_verify_written(struct cli *cli, struct cli_flow *flow, pst_store *store, pst_str key,
                       const struct cli_expected *expected)
{
    const pst_stat_options look = {.struct_size = sizeof(look), .flags = PST_LOOK_SUMS};
    pst_store_info info = {.struct_size = sizeof(info)};
    pst_error err = PST_ERROR_INIT;
    pst_attr *attr = NULL;
    uint32_t crc;
    int code;
    pst_rc rc = pst_stat(store, key, &look, &cli->call, &attr, &err);

    if (rc != PST_OK)
        return cli_fail_rc_at(cli, rc, &err, "verify: ");
    pst_store_describe(store, &info);
    bool is_remote = info.endpoint && info.endpoint[0];
    if (attr->size != expected->stored_size)
        code = fail_size(cli, expected->name, expected->stored_size, attr->size);
    else if (is_remote && !expected->is_compressed && cli_find_crc(attr, &crc))
        code = compare_crc(cli, expected->name, expected->crc, crc);
    else
        code = read_back(cli, flow, store, key, attr, expected);
    if (code == CLI_OK)
        atomic_fetch_add(&flow->n_verified, 1);
    pst_attr_free(attr);
    return code;
}

void cli_verify_read(struct cli *cli, struct cli_flow *flow, const struct cli_stream *stream)
{
    bool is_part = stream->offset > 0 || stream->length != PST_UNKNOWN;

    if (!flow->verifies)
        return;
    if (stream->info->is_verified) {
        atomic_fetch_add(&flow->n_verified, 1);
        cli_verbose(cli, "%s: verified: yes", stream->name);
    } else {
        cli_not_verified(cli, flow, stream->name,
                         is_part ? "the store keeps no CRC of just these bytes"
                                 : "the store keeps no CRC of it");
    }
}
