/* transfer.h - the engine under cp, mv, sync, upload and download.
 *
 * A transfer has sources and one target. Each source is an object or a directory (all keys below a
 * prefix); its items are planned from a listing, page by page, and carried out by workers side by
 * side. docs/cli.md, "Transfers", says what users may rely on. Private to the transfer files; the
 * verbs use the first part only. */
#ifndef PST_CLI_TRANSFER_H
#define PST_CLI_TRANSFER_H

#include <stdio.h>

#include "flow.h"

/* ---- what the verbs ask for (transfer.c) ------------------------------------------------------- */

struct transfer_options {
    uint32_t n_jobs;
    bool is_move;             /* delete each source object once its copy is there */
    bool is_sync;             /* one directory onto another */
    bool is_recursive;        /* -r: directories with everything below */
    bool is_dry_run;          /* print what would be done */
    bool deletes_extras;      /* sync --delete */
    bool is_target_directory; /* the target is a directory even without a '/' at its end */
    bool is_target_local;     /* download */
    bool compares_times;      /* --size-time: same size and no newer source is identical */
    bool drops_attributes;    /* --no-attributes */
    bool escapes, unescapes;  /* file names of the target, of the sources */
    bool skips_links;         /* --links=skip */
    pst_str version;          /* cp: of the one source; empty: the latest */
    const char *regex;        /* NULL: every name */
};

/* The options that all five verbs share, for their tables. */
/* clang-format off */
#define TRANSFER_OPTIONS_WITHOUT_TIME                                                              \
    {'j', CLI_COUNT, "jobs", "N", "objects under way at once", "16", 1, 1024},                     \
    {'n', CLI_FLAG, "dry-run", NULL, "print what would be done and change nothing", NULL, 0, 0},   \
    {0, CLI_FLAG, "no-attributes", NULL,                                                           \
     "do not carry over content type, user metadata and the like", NULL, 0, 0},                    \
    {0, CLI_FLAG, "escape-keys", NULL,                                                             \
     "write keys that cannot be file names under escaped names", NULL, 0, 0},                      \
    {0, CLI_FLAG, "unescape-keys", NULL,                                                           \
     "take names of local files as --escape-keys wrote them", NULL, 0, 0}
#define TRANSFER_OPTIONS                                                                           \
    TRANSFER_OPTIONS_WITHOUT_TIME,                                                                 \
    {0, CLI_FLAG, "size-time", NULL,                                                               \
     "identical means: same size and source not newer (otherwise: same CRC-32C)", NULL, 0, 0}
#define TRANSFER_OPTION_LINKS                                                                      \
    {0, CLI_TEXT, "links", "fail|skip",                                                            \
     "what to do about links that cannot be followed inside the source", "fail", 0, 0}
#define TRANSFER_OPTION_RECURSIVE                                                                  \
    {'r', CLI_FLAG, "recursive", NULL, "directories too, with everything below", NULL, 0, 0}
#define TRANSFER_OPTION_REGEX                                                                      \
    {'p', CLI_TEXT, "regex", "REGEX", "only names, relative to the source, that match", NULL, 0, 0}
/* What has to do with bytes. mv, sync and download do not compress: they go by names and sizes. */
#define TRANSFER_OPTIONS_FLOW CLI_FLOW_OPTIONS, CLI_FLOW_OPTION_JSON
#define TRANSFER_OPTION_END {0, CLI_FLAG, NULL, NULL, NULL, NULL, 0, 0}
/* clang-format on */

/* Read the options that `args->verb` has in its table. The fields without an option stay as set. */
int transfer_options_read(struct cli *cli, const struct cli_args *args,
                          struct transfer_options *options);

/* Carry out the transfer from all operands but the last to the last. Returns the exit code. */
int transfer_run(struct cli *cli, const struct cli_args *args,
                 const struct transfer_options *options);

/* ---- where from and where to (transfer_place.c) ------------------------------------------------ */

/* Which links a store of files follows: its option `symlinks`. */
enum transfer_links { TRANSFER_LINKS_INSIDE, TRANSFER_LINKS_ANYWHERE, TRANSFER_LINKS_NEVER };

/* Keys are prefix + name. A directory of local files is opened as a store of its own, rooted there
 * (`dir` is set, `prefix` empty), so that the plugin itself keeps every name inside it. */
struct transfer_place {
    struct cli_location location;
    pst_store *store;
    pst_store_info info;
    char *prefix;
    char *shown; /* URI of the empty name: shown + name is what messages print */
    char *dir;   /* the local directory, absolute; NULL if this is none */
    enum transfer_links links;
    char *name; /* the one object: of a source, or that a target shall become; NULL: a directory */
    char *into; /* of a source: what its names begin with below the target, "" or "tree/" */
    bool is_tree;    /* of a source: with everything below, not just one level */
    pst_str version; /* of a source that is one object; empty: the latest */
    /* Of a source: the stores in which it and the target lie, where the latter may copy by itself; one
     * where it may rename, too. Else NULL. */
    pst_store *direct, *direct_target;
    uint64_t size; /* of the one object, with mtime_ns */
    int64_t mtime_ns;
};

int transfer_source_open(struct cli *cli, const struct transfer_options *options, const char *arg,
                         struct transfer_place *out);

/* Opens the target, and decides `into` of the sources. A local directory that is not there yet is
 * only made, and `store` set, by transfer_target_ready. */
int transfer_target_open(struct cli *cli, const struct transfer_options *options, const char *arg,
                         struct transfer_place *sources, size_t n_sources,
                         struct transfer_place *out);
int transfer_target_ready(struct cli *cli, struct transfer_place *target);
void transfer_place_fini(struct transfer_place *place);

/* ---- both together (transfer_pair.c, transfer_mark.c) ------------------------------------------- */

/* Refuse what would copy something onto or into itself, or move or delete what is still to be read. */
int transfer_check_overlap(struct cli *cli, const struct transfer_options *options,
                           const struct cli_flow *flow, const struct transfer_place *source,
                           const struct transfer_place *target);

/* Set source->direct and direct_target if there is one store in which both places lie, so that it copies
 * and renames by itself, or one that may copy from the other. transfer_direct_key makes the key there of a name of either place. */
int transfer_direct_open(struct cli *cli, struct transfer_place *source,
                         const struct transfer_place *target);
void transfer_direct_key(const struct transfer_place *place, pst_str name,
                         struct cli_text_buf *out);

/* Does `name` stay below the local directory `dir` through every link on its way? Asked before a
 * store that is not rooted at `dir` writes there. */
bool transfer_is_beneath(const char *dir, const char *name);

/* The name that key `escaped` (by cli_escape_key) has below `dir`: where a file stands in the way of
 * a directory or the other way round, components are marked. */
void transfer_mark_name(const char *dir, pst_str escaped, struct cli_text_buf *out);

/* Does every mark in `name` make a difference? Else another file has the same key. */
bool transfer_is_marked_rightly(const char *dir, pst_str name);

/* ---- links (transfer_links.c) ------------------------------------------------------------------ */

/* Called for all in the local directory `place` that its listing leaves out, given the links that it
 * follows; `why` continues "NAME: ". */
typedef void (*transfer_link_fn)(void *arg, const char *name, const char *why);
int transfer_walk_links(struct cli *cli, const struct transfer_place *place,
                        enum transfer_links links, transfer_link_fn fn, void *arg);

/* ---- names kept for later (transfer_spool.c) --------------------------------------------------- */

/* Names in order, in a temporary file: as many as there may be. Zero it to start. */
struct transfer_spool {
    FILE *file;
    uint64_t n;
};
int transfer_spool_add(struct cli *cli, struct transfer_spool *spool, pst_str name);
int transfer_spool_rewind(struct cli *cli, struct transfer_spool *spool);
/* The next name into `out` (emptied first); *has_name is false at the end. */
int transfer_spool_next(struct cli *cli, struct transfer_spool *spool, struct cli_text_buf *out,
                        bool *has_name);
void transfer_spool_fini(struct transfer_spool *spool);

/* A set of names, 16 bytes for each: their hashes. Zero it to start. Two names may be taken for one
 * with a probability of 2^-64. */
struct transfer_set {
    uint64_t *slots; /* 0: free */
    size_t n, n_slots;
};
bool transfer_set_add(struct transfer_set *set, pst_str name); /* false: it was there */
bool transfer_set_has(const struct transfer_set *set, pst_str name);
void transfer_set_fini(struct transfer_set *set);

/* ---- the run ------------------------------------------------------------------------------------ */

enum transfer_there { TRANSFER_UNKNOWN, TRANSFER_ABSENT, TRANSFER_PRESENT };

struct transfer_item {
    const struct transfer_place *source;
    uint64_t size; /* as listed */
    int64_t mtime_ns;
    enum transfer_there there; /* is there a target object? then: */
    uint64_t target_size;
    int64_t target_mtime_ns;
    bool is_compressed; /* is written with zstd; `to` ends in .zst */
    pst_str from, to;   /* names below source and target; the bytes lie behind this struct */
};

struct transfer_queue;

struct transfer {
    struct cli *cli;
    const struct transfer_options *options;
    struct cli_flow flow;
    struct transfer_place *sources;
    size_t n_sources;
    struct transfer_place target;
    struct cli_regex *regex;
    struct transfer_queue *queue;
    uint64_t small_bytes; /* an object of up to this length is one read and one put */
    struct cli_tally tally;
    atomic_ullong n_copied, n_identical, copied_bytes;
    /* Of the planner, in the main thread. */
    uint64_t n_planned, planned_bytes, n_left_out, n_deleted;
    struct transfer_spool dirs;   /* empty directories to create */
    struct transfer_spool extras; /* what --delete deletes */
    struct transfer_set names;    /* of the target, as far as they must be remembered */
    struct transfer_set dir_names;
};

/* Find every item and hand it to `transfer_push`. A failure has been said; the items before it are
 * under way all the same. (transfer_plan.c) */
int transfer_plan(struct transfer *t);

/* Give an item to the workers; takes it over. Waits while they have enough. (transfer.c) */
void transfer_push(struct transfer *t, struct transfer_item *item);

/* Stand around the copy of a large object: only as many run at once as the memory budget has room for.
 * (transfer.c) */
void transfer_begin_large(struct transfer *t);
void transfer_end_large(struct transfer *t);

/* Carry out one item; returns its exit code, having said what went wrong. (transfer_item.c) */
int transfer_item_run(struct transfer *t, const struct transfer_item *item);

/* After all items: empty directories, --delete, directories that a move left empty. (transfer_tidy.c) */
int transfer_make_dirs(struct transfer *t);
int transfer_delete_extras(struct transfer *t);
int transfer_remove_source_dirs(struct transfer *t, const struct transfer_place *source);

#endif
