/* main.c - from argv to one verb and its exit code.
 *
 * Interruption: SIGINT, SIGTERM and SIGHUP fire the cancel token that every call of the run holds and
 * write a byte into a pipe that waits in this program poll, so a run ends by its own path: writers are
 * aborted, temporary files go. Should anything still hang, a timer ends the process 900 ms later
 * (unless the verb has more to clean up than that, cli_ends_slowly), and a second signal at once. The exit code is 128 plus the signal's number, 130 for Ctrl-C. A signal
 * that was ignored when we were started (nohup, a background job) stays ignored.
 *
 * SIGPIPE is ignored: output.c sees EPIPE. File descriptors 0 to 2 are made sure to exist, so that no
 * data file ever takes the number of standard output. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"

/* What the handler touches: set up before it is installed, never torn down. */
static struct {
    pst_cancel *cancel;
    int pipe_fds[2];
    timer_t timer;
    volatile sig_atomic_t signal_number, ends_slowly;
} interrupt;

static void on_signal(int signal_number)
{
    static const struct itimerspec soon = {.it_value = {.tv_nsec = 900 * 1000 * 1000}};
    int saved_errno = errno;
    ssize_t n;

    if (interrupt.signal_number != 0)
        _exit(128 + interrupt.signal_number);
    interrupt.signal_number = signal_number;
    pst_cancel_fire(interrupt.cancel);
    n = write(interrupt.pipe_fds[1], "", 1);
    (void)n;
    if (!interrupt.ends_slowly)
        timer_settime(interrupt.timer, 0, &soon, NULL);
    errno = saved_errno;
}

static void on_timer(int signal_number)
{
    (void)signal_number;
    _exit(128 + interrupt.signal_number);
}

static int catch_signals(struct cli *cli)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct sigaction action, before;
    pst_rc rc = pst_cancel_new(&cli->cancel);

    if (rc != PST_OK)
        return cli_fail_rc(cli, rc, NULL);
    interrupt.cancel = cli->cancel;
    if (pipe2(interrupt.pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return cli_fail_errno(cli, errno, "cannot make a pipe");
    if (timer_create(CLOCK_MONOTONIC, &event, &interrupt.timer) != 0)
        return cli_fail_errno(cli, errno, "cannot make a timer");

    memset(&action, 0, sizeof(action));
    sigemptyset(&action.sa_mask);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    action.sa_handler = on_timer;
    sigaction(SIGALRM, &action, NULL);
    action.sa_handler = on_signal; /* no SA_RESTART: a blocking call shall return */
    for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++) {
        sigaction(ending[i], NULL, &before);
        if (before.sa_handler != SIG_IGN)
            sigaction(ending[i], &action, NULL);
    }
    return CLI_OK;
}

void cli_ends_slowly(struct cli *cli)
{
    (void)cli;
    interrupt.ends_slowly = 1;
}

bool cli_interrupted(const struct cli *cli)
{
    return pst_cancel_fired(cli->cancel) != 0;
}

ssize_t cli_read_fd(struct cli *cli, int fd, void *buffer, size_t size)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN},
                            {.fd = interrupt.pipe_fds[0], .events = POLLIN}};
    for (;;) {
        int n = poll(fds, 2, -1);
        if (cli_interrupted(cli)) {
            errno = EINTR;
            return -1;
        }
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            ssize_t got = read(fd, buffer, size);
            if (got >= 0 || (errno != EINTR && errno != EAGAIN))
                return got;
        }
    }
}

/* ---- memory -------------------------------------------------------------------------------------- */

static void end_without_memory(void)
{
    static const char line[] = "penstock: out of memory\n";
    ssize_t n = write(STDERR_FILENO, line, sizeof(line) - 1);
    (void)n;
    _exit(CLI_IO);
}

void *cli_alloc(size_t n, size_t size)
{
    void *memory = calloc(n ? n : 1, size ? size : 1);
    if (!memory)
        end_without_memory();
    return memory;
}

void *cli_grow(void *old, size_t n, size_t size)
{
    void *memory = reallocarray(old, n ? n : 1, size);
    if (!memory)
        end_without_memory();
    return memory;
}

char *cli_dup(const char *text, size_t len)
{
    char *copy = cli_alloc(len + 1, 1);
    memcpy(copy, text, len);
    return copy;
}

/* ---- context ------------------------------------------------------------------------------------- */

static void log_line(void *arg, uint32_t level, const char *line)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    struct cli *cli = arg;
    cli_verbose(cli, "%s: %s", names[level < 4 ? level : 3], line);
}

int cli_context(struct cli *cli)
{
    const struct cli_args *args = cli->args;
    pst_context_options options = {.struct_size = sizeof(options)};
    pst_error err = PST_ERROR_INIT;
    const char *const *given;
    const char **dirs;
    size_t n_dirs;
    uint64_t memory = cli_number(args, "memory");
    uint64_t attempts = cli_number(args, "max-attempts");
    pst_rc rc;

    if (cli->context)
        return CLI_OK;
    n_dirs = cli_list(args, "plugin-dir", &given);
    dirs = cli_alloc(n_dirs + 1, sizeof(*dirs));
    if (n_dirs > 0)
        memcpy(dirs, given, n_dirs * sizeof(*dirs));
    options.plugin_dirs = dirs;
    options.flags = cli_flag(args, "strict") ? PST_CONTEXT_STRICT : 0;
    options.config_file = cli_text(args, "config");
    options.memory_budget_bytes = memory == PST_UNKNOWN ? 0 : memory;
    options.max_attempts = attempts == PST_UNKNOWN ? 0 : (uint32_t)attempts;
    if (cli->verbosity > 0) {
        options.log = log_line;
        options.log_arg = cli;
        options.log_level = cli->verbosity > 1 ? PST_LEVEL_DEBUG : PST_LEVEL_INFO;
    }
    rc = pst_context_new(&options, &cli->context, &err);
    free(dirs);
    return rc == PST_OK ? CLI_OK : cli_fail_rc(cli, rc, &err);
}

bool cli_can_ask(const struct cli *cli)
{
    return cli->is_stderr_terminal && isatty(STDIN_FILENO) != 0;
}

bool cli_confirm(struct cli *cli, const char *format, ...)
{
    struct cli_text_buf question = {0};
    char answer[8];
    size_t len = 0;
    ssize_t n;
    va_list list;

    va_start(list, format);
    cli_add_va(&question, format, list);
    va_end(list);
    cli_addf(&question, " [y/N] ");
    n = write(STDERR_FILENO, question.data, question.len);
    cli_text_fini(&question);
    while (n > 0 && len < sizeof(answer) - 1) {
        n = cli_read_fd(cli, STDIN_FILENO, answer + len, 1);
        if (n <= 0 || answer[len] == '\n')
            break;
        len++;
    }
    answer[len] = '\0';
    return strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0;
}

/* ---- start and end ------------------------------------------------------------------------------- */

static int secure_standard_fds(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        /* Opened the wrong way round, so that using what was closed is an error. */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            return -1;
    }
    return 0;
}

static int run(struct cli *cli, char **argv, uint32_t argc, struct cli_args *args)
{
    const struct cli_verb *verb;
    uint32_t n_used, n_words;
    uint64_t timeout;
    int code = cli_args_parse_global(cli, argv, argc, args, &n_used);

    if (code)
        return code;
    argv += n_used;
    argc -= n_used;
    cli->args = args;
    if (cli_flag(args, "version"))
        return cli_print_version(cli);
    if (argc == 0) {
        if (cli_flag(args, "help"))
            return cli_help(cli, NULL);
        return cli_usage(cli, "no command given");
    }
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) &&
        cli_help_group(cli, argv[0]))
        return CLI_OK;
    code = cli_find_verb(cli, argv, argc, &verb, &n_words);
    if (code)
        return code;
    cli->verb = verb->name;
    code = cli_args_parse(cli, verb, argv + n_words, argc - n_words, args);
    if (code)
        return code;
    if (cli_flag(args, "help"))
        return cli_help(cli, verb);
    if (cli_flag(args, "version"))
        return cli_print_version(cli);

    cli->verbosity = cli_flag(args, "verbose");
    cli->is_quiet = cli_flag(args, "quiet") > 0;
    timeout = cli_number(args, "timeout");
    cli->call.struct_size = sizeof(cli->call);
    cli->call.timeout_ms = timeout == PST_UNKNOWN ? 0 : timeout;
    cli->call.cancel = cli->cancel;
    return verb->run(cli, args);
}

int main(int argc, char **argv)
{
    struct cli cli = {.is_stderr_terminal = isatty(STDERR_FILENO) != 0};
    struct cli_args args = {0};
    int code, output_code;

    if (secure_standard_fds() != 0)
        return CLI_IO;
    pthread_mutex_init(&cli.stderr_mutex, NULL);
    cli.output = cli_output_new();
    code = catch_signals(&cli);
    if (code == CLI_OK && argc > 0)
        code = run(&cli, argv + 1, (uint32_t)argc - 1, &args);
    cli_progress_stop(&cli);
    output_code = cli_output_finish(&cli);
    if (code == CLI_OK)
        code = output_code;
    if (code != CLI_OK && interrupt.signal_number != 0)
        code = 128 + interrupt.signal_number;

    pst_context_free(cli.context);
    cli_args_fini(&args);
    cli_output_free(cli.output);
    /* The token stays: a signal may still come. */
    return code;
}
