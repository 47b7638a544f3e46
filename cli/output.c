/* output.c - standard output and the messages on stderr.
 *
 * Standard output is buffered (64 KiB) and flushed at once on a terminal. A reader that went away
 * (EPIPE) is no error: what follows is dropped, and loops that only print ask cli_output_closed and
 * stop. Any other failure, a full disk say, is remembered, dropped likewise, and reported when the
 * run ends, because data that is missing must never look like success.
 *
 * Messages are composed in memory and written by one write, so that lines of several threads do not
 * mix; control characters are escaped, so that a key cannot command the terminal. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"

#define BUFFER_BYTES (64u * 1024u)

struct cli_output {
    pthread_mutex_t mutex;
    bool is_terminal;
    struct {
        char *data;
        size_t len;
    } locked;
    atomic_int sys_errno; /* the failure that ended it */
};

/* ---- texts -------------------------------------------------------------------------------------- */

static void reserve(struct cli_text_buf *buf, size_t more)
{
    if (buf->cap - buf->len >= more)
        return;
    size_t cap = buf->cap ? buf->cap : 256;
    while (cap - buf->len < more)
        cap *= 2;
    buf->data = cli_grow(buf->data, cap, 1);
    buf->cap = cap;
}

void cli_add(struct cli_text_buf *buf, const char *data, size_t len)
{
    if (len == 0)
        return;
    reserve(buf, len);
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
}

void cli_add_va(struct cli_text_buf *buf, const char *format, va_list list)
{
    va_list again;
    int n;

    va_copy(again, list);
    n = vsnprintf(NULL, 0, format, list);
    if (n > 0) {
        reserve(buf, (size_t)n + 1);
        vsnprintf(buf->data + buf->len, (size_t)n + 1, format, again);
        buf->len += (size_t)n;
    }
    va_end(again);
}

void cli_addf(struct cli_text_buf *buf, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    cli_add_va(buf, format, list);
    va_end(list);
}

void cli_text_fini(struct cli_text_buf *buf)
{
    free(buf->data);
    memset(buf, 0, sizeof(*buf));
}

void cli_add_time(struct cli_text_buf *buf, int64_t time_ns, bool has_nanoseconds)
{
    int64_t ns = time_ns % 1000000000;
    time_t seconds = (time_t)(time_ns / 1000000000);
    struct tm tm;
    char text[40];

    if (ns < 0) {
        ns += 1000000000;
        seconds--;
    }
    if (time_ns == PST_TIME_UNKNOWN || !gmtime_r(&seconds, &tm) ||
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        cli_add(buf, "-", 1);
        return;
    }
    cli_addf(buf, "%s", text);
    if (has_nanoseconds)
        cli_addf(buf, ".%09lld", (long long)ns);
    cli_add(buf, "Z", 1);
}

void cli_add_human(struct cli_text_buf *buf, uint64_t bytes)
{
    static const char units[] = "KMGTPE";
    double value = (double)bytes;
    size_t i = 0;

    if (bytes < 1024) {
        cli_addf(buf, "%llu B", (unsigned long long)bytes);
        return;
    }
    for (value /= 1024; value >= 1023.95 && i + 1 < sizeof(units) - 1; i++)
        value /= 1024;
    cli_addf(buf, "%.1f %ciB", value, units[i]);
}

/* ---- JSON --------------------------------------------------------------------------------------- */

/* How long the UTF-8 sequence at `p` is, 0 if it is none (overlong forms, surrogates, beyond
 * U+10FFFF included). */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (n == 0 || n > left || p[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

/* Returns false when bytes had to be replaced. */
static bool add_json_string(struct cli_text_buf *buf, pst_str text)
{
    const unsigned char *p = (const unsigned char *)text.ptr;
    bool is_exact = true;

    cli_add(buf, "\"", 1);
    for (size_t i = 0; i < text.len;) {
        size_t n = utf8_length(p + i, text.len - i);
        if (n == 0) {
            cli_add(buf, "\\ufffd", 6);
            is_exact = false;
            i++;
        } else if (p[i] == '"' || p[i] == '\\') {
            cli_addf(buf, "\\%c", p[i++]);
        } else if (p[i] < 0x20 || p[i] == 0x7f) {
            cli_addf(buf, "\\u%04x", p[i++]);
        } else {
            cli_add(buf, text.ptr + i, n);
            i += n;
        }
    }
    cli_add(buf, "\"", 1);
    return is_exact;
}

void cli_add_json(struct cli_text_buf *buf, pst_str text)
{
    add_json_string(buf, text);
}

void cli_json_begin(struct cli_text_buf *buf)
{
    char last = buf->len ? buf->data[buf->len - 1] : '\0';
    cli_add(buf, last == '}' ? ",{" : "{", last == '}' ? 2 : 1);
}

void cli_json_name(struct cli_text_buf *buf, const char *name)
{
    char last = buf->len ? buf->data[buf->len - 1] : '{';
    cli_addf(buf, last == '{' ? "\"%s\":" : ",\"%s\":", name);
}

void cli_json_text(struct cli_text_buf *buf, const char *name, pst_str value)
{
    cli_json_name(buf, name);
    add_json_string(buf, value);
}

void cli_json_bytes(struct cli_text_buf *buf, const char *name, pst_str value)
{
    cli_json_name(buf, name);
    if (add_json_string(buf, value))
        return;
    cli_addf(buf, ",\"%s_hex\":\"", name);
    for (size_t i = 0; i < value.len; i++)
        cli_addf(buf, "%02x", (unsigned char)value.ptr[i]);
    cli_add(buf, "\"", 1);
}

void cli_json_number(struct cli_text_buf *buf, const char *name, uint64_t value)
{
    cli_json_name(buf, name);
    cli_addf(buf, "%llu", (unsigned long long)value);
}

void cli_json_bool(struct cli_text_buf *buf, const char *name, bool value)
{
    cli_json_name(buf, name);
    cli_addf(buf, "%s", value ? "true" : "false");
}

void cli_json_close(struct cli_text_buf *buf)
{
    cli_add(buf, "}", 1);
}

void cli_json_end(struct cli_text_buf *buf)
{
    cli_add(buf, "}\n", 2);
}

/* ---- standard output ---------------------------------------------------------------------------- */

struct cli_output *cli_output_new(void)
{
    struct cli_output *output = cli_alloc(1, sizeof(*output));
    pthread_mutex_init(&output->mutex, NULL);
    output->is_terminal = isatty(STDOUT_FILENO) != 0;
    output->locked.data = cli_alloc(1, BUFFER_BYTES);
    return output;
}

void cli_output_free(struct cli_output *output)
{
    if (!output)
        return;
    pthread_mutex_destroy(&output->mutex);
    free(output->locked.data);
    free(output);
}

static void write_all(struct cli *cli, const char *data, size_t len)
{
    struct cli_output *output = cli->output;

    while (len > 0 && atomic_load(&output->sys_errno) == 0) {
        /* A signal may also have cut the write before short: the next one would sleep again. */
        ssize_t n = cli_interrupted(cli) ? -1 : write(STDOUT_FILENO, data, len);
        if (n < 0 && cli_interrupted(cli)) {
            atomic_store(&output->sys_errno, EINTR);
        } else if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd pollfd = {.fd = STDOUT_FILENO, .events = POLLOUT};
            (void)poll(&pollfd, 1, -1);
        } else if (errno != EINTR) {
            atomic_store(&output->sys_errno, errno);
        }
    }
}

static void flush_locked(struct cli *cli)
{
    struct cli_output *output = cli->output;
    size_t len = output->locked.len;
    output->locked.len = 0;
    write_all(cli, output->locked.data, len);
}

void cli_put(struct cli *cli, const void *data, size_t len)
{
    struct cli_output *output = cli->output;

    pthread_mutex_lock(&output->mutex);
    if (output->locked.len + len > BUFFER_BYTES)
        flush_locked(cli);
    if (len >= BUFFER_BYTES) {
        write_all(cli, data, len);
    } else if (len > 0) {
        memcpy(output->locked.data + output->locked.len, data, len);
        output->locked.len += len;
    }
    if (output->is_terminal)
        flush_locked(cli);
    pthread_mutex_unlock(&output->mutex);
}

void cli_put_text(struct cli *cli, const struct cli_text_buf *buf)
{
    cli_put(cli, buf->data, buf->len);
}

void cli_printf(struct cli *cli, const char *format, ...)
{
    struct cli_text_buf buf = {0};
    va_list list;

    va_start(list, format);
    cli_add_va(&buf, format, list);
    va_end(list);
    cli_put_text(cli, &buf);
    cli_text_fini(&buf);
}

bool cli_output_closed(const struct cli *cli)
{
    return atomic_load(&cli->output->sys_errno) != 0;
}

int cli_output_finish(struct cli *cli)
{
    int sys_errno;

    pthread_mutex_lock(&cli->output->mutex);
    flush_locked(cli);
    pthread_mutex_unlock(&cli->output->mutex);
    sys_errno = atomic_load(&cli->output->sys_errno);
    if (sys_errno == 0 || sys_errno == EPIPE)
        return CLI_OK;
    if (sys_errno == EINTR)
        return CLI_INTERRUPTED;
    cli_fail_errno(cli, sys_errno, "cannot write to standard output");
    return CLI_IO;
}

/* Bytes that a terminal obeys: C0, DEL, and C1 as UTF-8 (c2 80 to c2 9f). */
static bool is_control(pst_str text, size_t i)
{
    unsigned char c = (unsigned char)text.ptr[i];
    unsigned char next = i + 1 < text.len ? (unsigned char)text.ptr[i + 1] : 0;
    return c < 0x20 || c == 0x7f || (c == 0xc2 && next >= 0x80 && next < 0xa0);
}

static void add_escaped(struct cli_text_buf *buf, pst_str text, bool is_shell)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '\n')
            cli_add(buf, "\\n", 2);
        else if (c == '\t')
            cli_add(buf, "\\t", 2);
        else if (is_control(text, i))
            /* Three octal digits in the shell: \x would swallow a hex digit that follows. */
            cli_addf(buf, is_shell ? "\\%03o" : "\\x%02x", c);
        else if (is_shell && (c == '\'' || c == '\\'))
            cli_addf(buf, "\\%c", c);
        else
            cli_add(buf, text.ptr + i, 1);
    }
}

void cli_add_printable(struct cli_text_buf *buf, pst_str text)
{
    add_escaped(buf, text, false);
}

void cli_put_uri(struct cli *cli, pst_str uri)
{
    struct cli_text_buf buf = {0};
    bool has_control = false;

    if (cli->output->is_terminal) {
        for (size_t i = 0; i < uri.len && !has_control; i++)
            has_control = is_control(uri, i);
    }
    if (!has_control) {
        cli_put(cli, uri.ptr, uri.len);
        return;
    }
    cli_add(&buf, "$'", 2);
    add_escaped(&buf, uri, true);
    cli_add(&buf, "'", 1);
    cli_put_text(cli, &buf);
    cli_text_fini(&buf);
}

/* ---- messages ----------------------------------------------------------------------------------- */

static void say(struct cli *cli, const struct cli_text_buf *message, const char *tail)
{
    struct cli_text_buf line = {0};
    size_t done = 0;

    cli_addf(&line, "penstock: ");
    if (cli->verb)
        cli_addf(&line, "%s: ", cli->verb);
    add_escaped(&line, pst_str_of(message->data, message->len), false);
    cli_addf(&line, "%s\n", tail);
    pthread_mutex_lock(&cli->stderr_mutex);
    cli_progress_clear_locked(cli);
    while (done < line.len) {
        ssize_t n = write(STDERR_FILENO, line.data + done, line.len - done);
        if (n < 0 && errno != EINTR)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    pthread_mutex_unlock(&cli->stderr_mutex);
    cli_text_fini(&line);
}

#define SAY(cli, tail)                                                                             \
    do {                                                                                           \
        struct cli_text_buf message_ = {0};                                                        \
        va_list list_;                                                                             \
        va_start(list_, format);                                                                   \
        cli_add_va(&message_, format, list_);                                                      \
        va_end(list_);                                                                             \
        say((cli), &message_, (tail));                                                             \
        cli_text_fini(&message_);                                                                  \
    } while (0)

int cli_fail(struct cli *cli, int exit_code, const char *format, ...)
{
    SAY(cli, "");
    return exit_code;
}

int cli_usage(struct cli *cli, const char *format, ...)
{
    struct cli_text_buf tail = {0};

    cli_addf(&tail, " (see 'penstock help%s%s')", cli->verb ? " " : "", cli->verb ? cli->verb : "");
    cli_add(&tail, "", 1);
    SAY(cli, tail.data);
    cli_text_fini(&tail);
    return CLI_USAGE;
}

int cli_fail_rc_at(struct cli *cli, pst_rc rc, const pst_error *err, const char *format, ...)
{
    struct cli_text_buf message = {0};
    va_list list;

    if (rc == PST_E_CANCELLED && cli_interrupted(cli))
        return CLI_INTERRUPTED;
    va_start(list, format);
    cli_add_va(&message, format, list);
    va_end(list);
    if (err && err->message[0])
        cli_addf(&message, "%s", err->message);
    else
        cli_addf(&message, "%s", pst_rc_text(rc));
    say(cli, &message, "");
    cli_text_fini(&message);
    return pst_rc_exit_code(rc);
}

int cli_fail_rc(struct cli *cli, pst_rc rc, const pst_error *err)
{
    return cli_fail_rc_at(cli, rc, err, "%s", "");
}

static int errno_exit_code(int sys_errno)
{
    switch (sys_errno) {
    case ENOENT:
        return CLI_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return CLI_DENIED;
    case EEXIST:
    case ENOTEMPTY:
        return CLI_CONFLICT;
    case EISDIR:
    case ENOTDIR:
    case ENAMETOOLONG:
    case EINVAL:
    case ELOOP:
        return CLI_USAGE;
    default:
        return CLI_IO;
    }
}

int cli_fail_errno(struct cli *cli, int sys_errno, const char *format, ...)
{
    struct cli_text_buf message = {0};
    char text[128];
    va_list list;

    if (sys_errno == EINTR && cli_interrupted(cli))
        return CLI_INTERRUPTED;
    va_start(list, format);
    cli_add_va(&message, format, list);
    va_end(list);
    cli_addf(&message, ": %s", strerror_r(sys_errno, text, sizeof(text)));
    say(cli, &message, "");
    cli_text_fini(&message);
    return errno_exit_code(sys_errno);
}

void cli_note(struct cli *cli, const char *format, ...)
{
    if (!cli->is_quiet)
        SAY(cli, "");
}

void cli_verbose(struct cli *cli, const char *format, ...)
{
    if (cli->verbosity > 0)
        SAY(cli, "");
}

/* ---- tallies ------------------------------------------------------------------------------------ */

void cli_tally_add(struct cli_tally *tally, int exit_code)
{
    int none = 0;

    if (exit_code == CLI_OK) {
        atomic_fetch_add(&tally->n_ok, 1);
        return;
    }
    atomic_fetch_add(&tally->n_failed, 1);
    if (exit_code == CLI_INTERRUPTED)
        atomic_store(&tally->is_interrupted, true);
    if (!atomic_compare_exchange_strong(&tally->first_code, &none, exit_code) && none != exit_code)
        atomic_store(&tally->is_mixed, true);
}

int cli_tally_exit(const struct cli_tally *tally)
{
    if (atomic_load(&tally->is_interrupted))
        return CLI_INTERRUPTED;
    if (atomic_load(&tally->n_failed) == 0)
        return CLI_OK;
    if (atomic_load(&tally->n_ok) > 0 || atomic_load(&tally->is_mixed))
        return CLI_SOME_FAILED;
    return atomic_load(&tally->first_code);
}
