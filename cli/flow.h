/* flow.h - how the bytes of put, get, cp and their like shall flow, and how they did: the options
 * --compress, --decompress, --verify, --part-size, --concurrency and --stats. */
#ifndef PST_CLI_FLOW_H
#define PST_CLI_FLOW_H

#include "cli.h"

#define CLI_FLOW_STORES 16u

struct cli_flow {
    /* What was asked for. */
    int32_t zstd_level; /* 0: bytes are written as they are */
    uint32_t decode;    /* PST_DECODE_* of reads */
    uint32_t n_at_once; /* ranges or parts of one object; 0: the library's choice */
    uint64_t part_bytes;
    bool verifies, tells, is_json;
    /* What happened. */
    atomic_ullong n_objects, bytes, stored_bytes, n_ranges, n_parts, n_verified, n_unverified;
    atomic_ullong part_bytes_most, at_once_most;
    double start_s, start_cpu_s;
    pthread_mutex_t mutex;
    struct {
        bool has_crc; /* of the one object */
        uint32_t crc;
        size_t n_stores;
        struct {
            char *uri, *plugin, *note;
        } stores[CLI_FLOW_STORES];
    } locked;
};

/* For the tables of verbs. cli_flow_init reads those that the verb has. */
/* clang-format off */
#define CLI_FLOW_OPTIONS                                                                           \
    {0, CLI_FLAG, "verify", NULL,                                                                  \
     "compare checksums, of what was read and of what was written; else exit 7", NULL, 0, 0},      \
    {0, CLI_SIZE, "part-size", "SIZE",                                                             \
     "length of ranges and parts (chosen from the store's limits)", NULL, 1, UINT64_MAX},          \
    {0, CLI_COUNT, "concurrency", "N",                                                             \
     "ranges or parts of one object under way at once", NULL, 1, 64},                              \
    {0, CLI_FLAG, "stats", NULL, "tell on stderr how it went, with notes of the stores", NULL, 0, 0}
#define CLI_FLOW_OPTION_JSON                                                                       \
    {0, CLI_FLAG, "json", NULL, "--stats as one JSON object", NULL, 0, 0}
#define CLI_FLOW_OPTION_COMPRESS                                                                   \
    {0, CLI_COUNT, "compress", "LEVEL",                                                            \
     "write with zstd, 1 (quick) to 22 (small), under the name with .zst", NULL, 1, 22}
#define CLI_FLOW_OPTION_DECOMPRESS                                                                 \
    {0, CLI_TEXT, "decompress", "name|always",                                                     \
     "decompress an object named .zst, or whatever its name is", NULL, 0, 0}
/* clang-format on */

/* Zero *flow first. cli_flow_fini in any case. */
int cli_flow_init(struct cli *cli, const struct cli_args *args, struct cli_flow *flow);
void cli_flow_fini(struct cli_flow *flow);

/* Does an object called `name` get compressed? What is named .zst is already. */
bool cli_flow_compresses(const struct cli_flow *flow, pst_str name);

/* The length of ranges nearest to that of parts: stores take parts that no range may be as long, or as
 * short, as. 0 stays 0. */
uint64_t cli_read_part(uint64_t part_bytes);

/* Fill in what the flow says: parts, level of compression if it is asked for; ranges, verification. */
void cli_flow_write_options(const struct cli_flow *flow, bool compresses, pst_write_options *out);
void cli_flow_read_options(const struct cli_flow *flow, pst_read_options *out);

/* Note what was done, for --stats. Any thread. */
void cli_flow_add_store(struct cli_flow *flow, const char *uri, pst_store *store);
void cli_flow_add_read(struct cli_flow *flow, const pst_read_info *info);
void cli_flow_add_write(struct cli_flow *flow, const pst_write_result *result);
/* An object is done: bytes of the application, and as many of the store. */
void cli_flow_add_object(struct cli_flow *flow, uint64_t bytes, uint64_t stored_bytes);
void cli_flow_add_crc(struct cli_flow *flow, uint32_t crc);

/* Print it, if --stats was given. */
void cli_flow_tell(struct cli *cli, struct cli_flow *flow);

/* ---- --verify (verify.c) ------------------------------------------------------------------------ */

/* The CRC-32C that the store keeps of the whole object, as it is stored. */
bool cli_find_crc(const pst_attr *attr, uint32_t *crc);

/* What an object that was written must be. */
struct cli_expected {
    const char *name; /* for messages */
    uint64_t size, stored_size;
    uint32_t crc; /* of `size` bytes */
    bool is_compressed;
};
/* Is it there, as it must be? A remote store is asked for its checksum; where it has none, and of local
 * and compressed objects, the bytes are read back. Any thread. */
int cli_verify_written(struct cli *cli, struct cli_flow *flow, pst_store *store, pst_str key,
                       const struct cli_expected *expected);

/* After a read that succeeded: what was read with PST_READ_VERIFY is verified, or it is said why not.
 * Nothing without --verify. */
void cli_verify_read(struct cli *cli, struct cli_flow *flow, const struct cli_stream *stream);

/* Say that something is not verified, and why; -q does not hide it. */
void cli_not_verified(struct cli *cli, struct cli_flow *flow, const char *name, const char *why);

#endif
