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

void cli_put_uri(struct cli *cli, pst_str uri)
{
    struct cli_text_buf buf = {0};
    bool has_control = false;

    if (cli->output->is_terminal) {
        for (size_t i = 0; i < uri.len && !has_control; i++)
            has_control = cli_is_control(uri, i);
    }
    if (!has_control) {
        cli_put(cli, uri.ptr, uri.len);
        return;
    }
    cli_add(&buf, "$'", 2);
    cli_add_escaped(&buf, uri, true);
    cli_add(&buf, "'", 1);
    cli_put_text(cli, &buf);
    cli_text_fini(&buf);
}

/* ---- messages ----------------------------------------------------------------------------------- */

void cli_put_stderr(struct cli *cli, const struct cli_text_buf *line)
{
    size_t done = 0;

    pthread_mutex_lock(&cli->stderr_mutex);
    cli_progress_clear_locked(cli);
    while (done < line->len) {
        ssize_t n = write(STDERR_FILENO, line->data + done, line->len - done);
        if (n < 0 && errno != EINTR)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    pthread_mutex_unlock(&cli->stderr_mutex);
}

static void say(struct cli *cli, const struct cli_text_buf *message, const char *tail)
{
    struct cli_text_buf line = {0};

    cli_addf(&line, "penstock: ");
    if (cli->verb)
        cli_addf(&line, "%s: ", cli->verb);
    cli_add_escaped(&line, pst_str_of(message->data, message->len), false);
    cli_addf(&line, "%s\n", tail);
    cli_put_stderr(cli, &line);
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

void cli_tell(struct cli *cli, const char *format, ...)
{
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
