/* cli.h - the frame of the `penstock` command: what every verb builds on.
 *
 * One verb is one `const struct cli_verb cli_cmd_<verb>` in cmd_<verb>.c, named in the table of
 * verbs.c. Its options are a table: parsing, --help, `penstock help VERB`, the man page and the shell
 * completions are all made from these tables and from nothing else.
 *
 * A verb's function returns the process's exit code. Each function below that can fail has already
 * printed the one line on stderr that explains it when it returns a code other than 0, so a verb
 * hands the code on and says nothing more. Memory: cli_alloc and cli_dup end the process when there
 * is none, so they never return NULL. */
#ifndef PST_CLI_H
#define PST_CLI_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include <penstock/penstock.h>

/* Exit codes that do not come from a pst_rc (those: pst_rc_exit_code). */
#define CLI_OK 0
#define CLI_SOME_FAILED 1
#define CLI_USAGE 2
#define CLI_NOT_FOUND 3
#define CLI_DENIED 4
#define CLI_UNAVAILABLE 5
#define CLI_CONFLICT 6
#define CLI_DATA 7
#define CLI_IO 8
#define CLI_INTERRUPTED 130

/* ---- verbs and their options (args.c, verbs.c) ------------------------------------------------- */

enum cli_type {
    CLI_FLAG,     /* takes no value; repeats are counted */
    CLI_TEXT,     /* any text; the last one wins */
    CLI_LIST,     /* any text; all are kept in order */
    CLI_PAIRS,    /* name=value; all are kept in order */
    CLI_COUNT,    /* 100, 4k (4000), 4ki (4096), m, g, t likewise */
    CLI_SIZE,     /* bytes: as CLI_COUNT, with an optional B: 8MB, 8MiB */
    CLI_DURATION, /* with a unit: 500ms 30s 5m 2h 1d; the number is in milliseconds */
};

enum cli_complete { CLI_COMPLETE_FILES, CLI_COMPLETE_NOTHING, CLI_COMPLETE_PLUGINS };

struct cli_option {
    char letter; /* 0: none */
    enum cli_type type;
    const char *name;     /* NULL ends a table */
    const char *value;    /* what help calls the value: "REGEX"; NULL for a flag */
    const char *help;     /* one line, no full stop */
    const char *fallback; /* the value that stands for "not given", as typed; NULL: none */
    uint64_t min, max;    /* numbers; max 0: any */
};

struct cli;
struct cli_args;
struct cli_text_buf;

#define CLI_ANY UINT32_MAX
struct cli_verb {
    const char *name;     /* "ls"; two words for a verb below another: "plugins list" */
    const char *operands; /* "URI [FILE]" for help; "" if it takes none */
    const char *summary;  /* one line, no full stop */
    const char *details;  /* paragraphs for help and man page, separated by "\n\n"; may be NULL */
    const struct cli_option *options; /* NULL: none of its own */
    uint32_t min_operands, max_operands;
    enum cli_complete complete; /* what its operands are */
    bool is_hidden;
    bool is_raw; /* everything after the name goes to `run` as operands, options too */
    int (*run)(struct cli *cli, const struct cli_args *args);
};

/* Every verb, NULL at the end, in the order of the help text. */
extern const struct cli_verb *const cli_verbs[];

/* The options that every verb takes. A verb's own option hides a global one of the same letter. */
extern const struct cli_option cli_global_options[];

struct cli_args {
    const struct cli_verb *verb;
    struct cli_value *values; /* private to args.c */
    size_t n_values;
    char **operands; /* n_operands, as typed */
    uint32_t n_operands;
};

/* Read what was given. `name` must be in the verb's table or a global option: anything else is a
 * mistake in the verb and asserted. */
uint32_t cli_flag(const struct cli_args *args, const char *name);    /* how often */
bool cli_given(const struct cli_args *args, const char *name);       /* fallbacks do not count */
const char *cli_text(const struct cli_args *args, const char *name); /* NULL: not given */
pst_str cli_str(const struct cli_args *args, const char *name);     /* the same; empty: not given */
uint64_t cli_number(const struct cli_args *args, const char *name); /* PST_UNKNOWN: not given */
size_t cli_list(const struct cli_args *args, const char *name, const char *const **values);
/* CLI_PAIRS as pst_kv, slices of the arguments. */
size_t cli_pairs(const struct cli_args *args, const char *name, const pst_kv **pairs);

/* The version that --version-id names, for verbs whose table has CLI_OPTION_VERSION_ID. A usage error
 * where there are several operands, as each object has versions of its own. */
#define CLI_OPTION_VERSION_ID                                                                      \
    {                                                                                              \
        0, CLI_TEXT, "version-id", "ID", "this version, as ls --versions shows it", NULL, 0, 0     \
    }
int cli_version_id(struct cli *cli, const struct cli_args *args, pst_str *out);

/* Is the option in the verb's own table? For code that several verbs share. */
bool cli_has_option(const struct cli_verb *verb, const char *name);

/* Print to stdout what is made from the tables (help.c, man.c, complete.c). */
int cli_help(struct cli *cli, const struct cli_verb *verb); /* NULL: the whole command */

/* List the commands that begin with `group` ("bench", "plugins"). False, and nothing, if none do. */
bool cli_help_group(struct cli *cli, const char *group);

/* ---- the run (main.c) -------------------------------------------------------------------------- */

struct cli {
    const char *verb;   /* for messages */
    uint32_t verbosity; /* -v once or twice */
    bool is_quiet;
    const struct cli_args *args;
    pst_cancel *cancel;   /* fired by SIGINT, SIGTERM, SIGHUP */
    pst_call call;        /* timeout, attempts and cancel of this run: pass &cli->call everywhere */
    pst_context *context; /* NULL until cli_context */
    struct cli_output *output;
    struct cli_progress *progress;
    pthread_mutex_t stderr_mutex;
    bool is_stderr_terminal;
};

/* Make sure that cli->context is there (verbs that need no store never pay for it). */
int cli_context(struct cli *cli);

/* Was the run interrupted? Cheap; ask it in loops that do not call the library. */
bool cli_interrupted(const struct cli *cli);

/* An interrupted run may take longer than a second, because it removes what it made. */
void cli_ends_slowly(struct cli *cli);

/* Wait until `fd` (standard input, a FIFO) can be read; then read. As read(2), but a signal ends it:
 * -1 with EINTR means interrupted. */
ssize_t cli_read_fd(struct cli *cli, int fd, void *buffer, size_t size);

void *cli_alloc(size_t n, size_t size);           /* zeroed; free() */
void *cli_grow(void *old, size_t n, size_t size); /* realloc of an array */
char *cli_dup(const char *text, size_t len);      /* NUL-terminated copy */

/* Are standard input and stderr a terminal, so that a question makes sense? */
bool cli_can_ask(const struct cli *cli);

/* Ask on the terminal; anything but y or yes is no. Only after cli_can_ask. */
bool cli_confirm(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- messages on stderr (output.c): one line each, any thread ------------------------------------ */

/* "penstock: VERB: ..."; control characters are escaped. Each returns the exit code. */
int cli_fail(struct cli *cli, int exit_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A mistake in the command line: 2, with a pointer to the help. */
int cli_usage(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What the library said. An interruption prints nothing. */
int cli_fail_rc(struct cli *cli, pst_rc rc, const pst_error *err);
/* The same with words before it ("s3://b/k: "). */
int cli_fail_rc_at(struct cli *cli, pst_rc rc, const pst_error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* A system call: "...: No such file or directory", the exit code follows from the number. */
int cli_fail_errno(struct cli *cli, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Worth saying, no failure; not with -q. */
void cli_note(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What was asked for: -q does not silence it. */
void cli_tell(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same as it is, without the words in front: JSON. */
void cli_put_stderr(struct cli *cli, const struct cli_text_buf *line);
/* Only with -v. */
void cli_verbose(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Results of many items, counted from any thread. All ok: 0. All failed alike: that exit code. Some
 * ok and some failed, or failed in different ways: 1. Interrupted: 130. */
struct cli_tally {
    atomic_ullong n_ok, n_failed;
    atomic_int first_code;
    atomic_bool is_mixed, is_interrupted;
};
void cli_tally_add(struct cli_tally *tally, int exit_code);
int cli_tally_exit(const struct cli_tally *tally);

/* ---- texts (text.c) ------------------------------------------------------------------------------ */

/* A growing text. Zero it to start; never fails (see cli_alloc). */
struct cli_text_buf {
    char *data;
    size_t len, cap;
};
void cli_add(struct cli_text_buf *buf, const char *data, size_t len);
void cli_addf(struct cli_text_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cli_add_json(struct cli_text_buf *buf, pst_str text); /* with quotes; see docs/cli.md */
void cli_add_time(struct cli_text_buf *buf, int64_t time_ns, bool has_nanoseconds); /* RFC 3339 */
void cli_add_human(struct cli_text_buf *buf, uint64_t bytes);                       /* 1.5 MiB */
void cli_text_fini(struct cli_text_buf *buf);

/* One JSON object on a line: cli_json_begin, members, cli_json_end. Inside: cli_json_name, begin,
 * members, close. */
void cli_json_begin(struct cli_text_buf *buf);
void cli_json_name(struct cli_text_buf *buf, const char *name); /* a value must follow */
void cli_json_text(struct cli_text_buf *buf, const char *name, pst_str value);
/* The same with bytes that need not be UTF-8: adds "<name>_hex" with the exact bytes if they are not. */
void cli_json_bytes(struct cli_text_buf *buf, const char *name, pst_str value);
void cli_json_number(struct cli_text_buf *buf, const char *name, uint64_t value);
void cli_json_real(struct cli_text_buf *buf, const char *name, double value); /* 9 digits */
void cli_json_bool(struct cli_text_buf *buf, const char *name, bool value);
void cli_json_close(struct cli_text_buf *buf);
void cli_json_end(struct cli_text_buf *buf); /* closes and adds the newline */

/* Append text with control characters escaped: \n, \t, \xNN. */
void cli_add_printable(struct cli_text_buf *buf, pst_str text);

/* ---- standard output (output.c): buffered, any thread ------------------------------------------- */

/* Write bytes to stdout. After a broken pipe it does nothing: ask cli_output_closed in long loops.
 * Other errors are reported once, when the run ends, with exit code 8. */
void cli_put(struct cli *cli, const void *data, size_t len);
void cli_put_text(struct cli *cli, const struct cli_text_buf *buf);
void cli_printf(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool cli_output_closed(const struct cli *cli);
/* Write a URI: raw bytes, so that it can be pasted back. On a terminal one with control characters
 * is written as $'...' of the shell. */
void cli_put_uri(struct cli *cli, pst_str uri);

/* Append the names of PST_CAP_* bits, separated by spaces (caps.c). */
void cli_add_caps(struct cli_text_buf *buf, uint64_t caps);

/* ---- locations (path.c) -------------------------------------------------------------------------- */

/* An operand that names a place. Contains "://": a URI, taken as it is. "-": standard input or
 * output, where that is allowed. Anything else: a local path, made into file:///absolute/path ("."
 * and ".." are resolved, for plain paths only). A scheme is never guessed. */
struct cli_location {
    const char *arg; /* as typed */
    char *uri;       /* the full URI; NULL when is_stdio */
    pst_uri parts;   /* slices of `uri` */
    bool is_stdio;
    bool is_path;      /* typed as a plain path */
    bool is_directory; /* must be one: ends in '/', or has no key */
    pst_store *store;  /* after cli_location_open */
};
#define CLI_ALLOW_STDIO 1u
int cli_location_parse(struct cli *cli, const char *arg, uint32_t flags, struct cli_location *out);
int cli_location_open(struct cli *cli, struct cli_location *location);
/* The same store with one option set beside those of the command line (NULL: none); pst_store_free. */
int cli_store_open(struct cli *cli, const struct cli_location *location, const pst_kv *extra,
                   pst_store **out);
void cli_location_fini(struct cli_location *location);

/* The full URI of another key of the same store, as `ls` prints it. Appends to `buf`. */
void cli_add_uri(struct cli_text_buf *buf, const struct cli_location *location, pst_str key);

/* The absolute path of a plain path, "." and ".." resolved; NULL and errno. free(). */
char *cli_absolute_path(const char *path);

/* What a location stands for when something is done to all of it. */
struct cli_base {
    bool is_object; /* one object, `prefix` is its key; else a directory: */
    char *prefix;   /* "" or ends in '/': all its keys begin with it */
    size_t prefix_len;
    uint64_t size; /* of the object, as the rest */
    int64_t mtime_ns;
};
/* Look: a directory if the location ends in '/' or anything lies below key + "/", else the object of
 * that key. Errors: 3 when there is neither. */
int cli_base_find(struct cli *cli, const struct cli_location *location, struct cli_base *out);
void cli_base_fini(struct cli_base *base);

/* The same without a message when there is neither. */
int cli_base_exists(struct cli *cli, const struct cli_location *location, bool *exists);

/* PCRE2 on bytes, searched anywhere in the subject; UTF-8 aware, '$' matches at the very end only. */
struct cli_regex;
int cli_regex_new(struct cli *cli, const char *pattern,
                  struct cli_regex **out); /* NULL pattern: NULL */
/* A NULL regex matches everything. One thread at a time. */
bool cli_regex_matches(struct cli_regex *regex, pst_str subject);
void cli_regex_free(struct cli_regex *regex);

/* ---- listing (walk.c) ------------------------------------------------------------------------------ */

/* One entry of a walk. `relative` is its key without the base's prefix (of a single object: its last
 * component). A code other than 0 ends the walk; CLI_STOP does so without being an error. */
typedef int (*cli_entry_fn)(void *arg, const pst_entry *entry, pst_str relative);

struct cli_walk {
    const struct cli_location *location;
    const struct cli_base *base;
    uint32_t flags;          /* PST_LISTING_* */
    uint32_t page_entries;   /* 0: the library's choice */
    struct cli_regex *regex; /* on `relative`; NULL: everything */
    cli_entry_fn fn;
    void *arg;
};
/* Call fn for each entry below the base, or for the one object that the base is. */
int cli_walk(struct cli *cli, const struct cli_walk *walk);

/* ---- reading in a stream (stream.c) --------------------------------------------------------------- */

/* Receives the bytes in order, never none; who wants to keep them takes a reference. A code other than 0 ends the read; it has been reported. CLI_STOP ends
 * it without being an error: nobody wants the rest. */
#define CLI_STOP (-1)
typedef int (*cli_sink_fn)(void *arg, pst_buffer *buffer);

/* What is known from the first reply, before any byte reaches the sink. A code other than 0 ends it. */
typedef int (*cli_size_fn)(void *arg, uint64_t object_size, const char *etag);

struct cli_stream {
    pst_store *store;
    pst_str key;
    uint64_t offset, length;         /* length PST_UNKNOWN: to the end */
    bool is_exact;                   /* a range that the object does not have is an error: exit 7 */
    const pst_read_options *options; /* NULL: the library's choice of everything */
    pst_read_info *info;             /* NULL, or filled when all was read; its struct_size is set */
    const char *name;                /* the URI, for messages */
    cli_size_fn on_size;             /* may be NULL */
    cli_sink_fn sink;
    void *arg;
};
/* Read by ranges in parallel, pinned to one version, memory bounded. */
int cli_stream_read(struct cli *cli, const struct cli_stream *stream);

/* Sink for standard output; arg is the struct cli. */
int cli_sink_stdout(void *arg, pst_buffer *buffer);
/* Sink of those who want to know only whether all can be read. */
int cli_sink_nowhere(void *arg, pst_buffer *buffer);

/* ---- progress (progress.c): stderr, only on a terminal and not with -q ---------------------------- */

/* Totals may be PST_UNKNOWN. Any thread may add; start and stop belong to the main thread. */
void cli_progress_start(struct cli *cli, const char *what, uint64_t total_items,
                        uint64_t total_bytes);
void cli_progress_total(struct cli *cli, uint64_t total_items, uint64_t total_bytes);
void cli_progress_add(struct cli *cli, uint64_t items, uint64_t bytes);
void cli_progress_stop(struct cli *cli);

#endif
