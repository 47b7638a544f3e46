/* cred_process.c - credentials printed by a program (credential_process of a profile).
 *
 * The command is split into words by AWS's own rules, those of a POSIX shell's quotes and nothing else
 * of a shell: no variables, no globs, no pipes. The program is started by posix_spawn (fork without the
 * fork handlers of a process full of threads), in a process group of its own, with /dev/null as its
 * input, two pipes as its outputs and not a single other descriptor of ours. It has as long as one
 * refresh has (option credential_timeout); then its whole group is killed.
 *
 * It must print one JSON document of Version 1 and end with 0. Of what it writes to its standard error
 * the first line stands in our error, because it is all that tells why; of the command only the
 * program's name is shown, since people put secrets into arguments. Where the application reaps all
 * its children itself (SIGCHLD ignored) the status is lost, and the document alone decides. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cred_source.h"
#include "error.h"
#include "text.h"
#include "url.h"

#define ARGS_MAX 64
#define SLICE_MS 100
#define STDERR_MAX 512

extern char **environ; /* handed on as it is: the program has to find its own configuration */

/* ---- words ------------------------------------------------------------------------------------ */

/* Split in place. 0: a quote is not closed, there is no word, or there are too many. */
static size_t split(char *text, char *argv[ARGS_MAX + 1])
{
    size_t n = 0;
    char *in = text, *out = text;

    for (;;) {
        while (*in == ' ' || *in == '\t')
            in++;
        if (*in == '\0')
            break;
        if (n == ARGS_MAX)
            return 0;
        argv[n++] = out;
        char quote = '\0';
        while (*in && (quote || (*in != ' ' && *in != '\t'))) {
            const char c = *in++;
            if (quote ? c == quote : (c == '\'' || c == '"')) {
                quote = quote ? '\0' : c;
            } else if (c == '\\' && quote != '\'' && *in) {
                /* Inside double quotes it escapes only itself and the quote. */
                if (quote == '"' && *in != '"' && *in != '\\')
                    *out++ = c;
                *out++ = *in++;
            } else {
                *out++ = c;
            }
        }
        if (quote)
            return 0;
        if (*in)
            in++;
        *out++ = '\0';
    }
    argv[n] = NULL;
    return n;
}

/* ---- the program ------------------------------------------------------------------------------ */

struct process {
    pid_t pid;
    int out, err; /* read ends of the pipes; -1: closed */
    size_t n_out, n_err;
    char *text; /* S3_CRED_TEXT_MAX + 1 */
    char complaint[STDERR_MAX + 1];
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int spawn(struct process *p, char *const argv[], const int out[2], const int err[2])
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int rc;

    sigemptyset(&none);
    sigfillset(&all);
    rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0)
        return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return rc;
    }
    /* What our threads block and ignore is no business of the program's. */
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    if (rc == 0)
        rc = posix_spawnp(&p->pid, argv[0], &actions, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/* Above the three that the child's own numbers overwrite, should the application have closed those. */
static int make_pipe(int ends[2])
{
    int low[2];

    if (pipe2(low, O_CLOEXEC) != 0)
        return errno;
    for (int i = 0; i < 2; i++)
        ends[i] = fcntl(low[i], F_DUPFD_CLOEXEC, 3);
    const int sys_errno = errno;
    close(low[0]);
    close(low[1]);
    if (ends[0] >= 0 && ends[1] >= 0)
        return fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 ? 0 : errno;
    close_fd(&ends[0]);
    close_fd(&ends[1]);
    return sys_errno;
}

/* What is beyond the capacity is read and dropped for stderr; for stdout it is too much. */
static int drain(int *fd, char *into, size_t capacity, size_t *n, int is_dropping)
{
    char rest[512];

    for (;;) {
        const int is_full = *n == capacity;
        const ssize_t got = read(*fd, is_full ? rest : into + *n,
                                 is_full ? sizeof(rest) : capacity - *n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return 1;
        if (got <= 0) {
            close_fd(fd);
            return 1;
        }
        if (!is_full)
            *n += (size_t)got;
        else if (!is_dropping)
            return 0;
    }
}

/* Read both pipes to their ends. */
static pst_rc watch(struct s3_cred_job *job, const char *what, struct process *p)
{
    pst_rc rc = PST_OK;

    while ((p->out >= 0 || p->err >= 0) && rc == PST_OK) {
        struct pollfd fds[] = {{p->out, POLLIN, 0}, {p->err, POLLIN, 0}};
        rc = s3_cred_check_time(job, what);
        if (rc != PST_OK)
            break;
        if (poll(fds, 2, SLICE_MS) <= 0)
            continue;
        if (fds[0].revents && !drain(&p->out, p->text, S3_CRED_TEXT_MAX, &p->n_out, 0))
            rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: it printed more than %u bytes", what,
                         S3_CRED_TEXT_MAX);
        if (fds[1].revents)
            (void)drain(&p->err, p->complaint, STDERR_MAX, &p->n_err, 1);
        /* A daemon that it leaves behind may hold stderr for ever: the document is what counts. */
        if (p->out < 0)
            close_fd(&p->err);
    }
    return rc;
}

/* Its exit status as of waitpid; -1: nobody can tell any more. */
static pst_rc reap(struct s3_cred_job *job, const char *what, struct process *p, pst_rc rc,
                   int *status)
{
    const struct timespec slice = {.tv_nsec = 5 * 1000000};

    for (;;) {
        if (rc != PST_OK)
            kill(-p->pid, SIGKILL);
        const pid_t got = waitpid(p->pid, status, rc == PST_OK ? WNOHANG : 0);
        if (got == p->pid)
            return rc;
        if (got < 0 && errno != EINTR) {
            *status = -1;
            return rc;
        }
        if (rc == PST_OK) {
            nanosleep(&slice, NULL);
            rc = s3_cred_check_time(job, what);
        }
    }
}

static pst_rc fail_ended(struct s3_cred_job *job, const char *what, struct process *p, int status)
{
    char shown[200];
    const size_t line = strcspn(p->complaint, "\r\n");

    s3_cred_shown(pst_str_of(p->complaint, line), shown, sizeof(shown));
    if (WIFSIGNALED(status))
        return s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: it was ended by signal %d%s%s", what,
                       WTERMSIG(status), line ? ": " : "", shown);
    return s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: it ended with %d%s%s", what,
                   WEXITSTATUS(status), line ? ": " : "", shown);
}

static pst_rc run(struct s3_cred_job *job, const char *what, char *const argv[], struct process *p)
{
    int out[2] = {-1, -1}, err[2] = {-1, -1};
    int status = 0;
    char reason[96];
    pst_rc rc;
    int failed = make_pipe(out);

    if (failed == 0)
        failed = make_pipe(err);
    if (failed == 0)
        failed = spawn(p, argv, out, err);
    close_fd(&out[1]);
    close_fd(&err[1]);
    p->out = out[0];
    p->err = err[0];
    if (failed != 0) {
        rc = s3_fail(job->err, PST_E_UNAUTHENTICATED, "%s: it cannot be started: %s", what,
                     strerror_r(failed, reason, sizeof(reason)));
        job->err->sys_errno = failed;
    } else {
        rc = watch(job, what, p);
        rc = reap(job, what, p, rc, &status);
        if (rc == PST_OK && status != 0 && status != -1)
            rc = fail_ended(job, what, p, status);
    }
    close_fd(&p->out);
    close_fd(&p->err);
    return rc;
}

pst_rc s3_cred_process(struct s3_cred_job *job, pst_str command, const char *profile,
                       struct s3_secrets *out)
{
    static const struct s3_cred_names names = {.access_key = "AccessKeyId",
                                               .secret_key = "SecretAccessKey",
                                               .session_token = "SessionToken",
                                               .expiration = "Expiration",
                                               .version = 1};
    struct process p = {.out = -1, .err = -1};
    char *argv[ARGS_MAX + 1];
    char what[256], shown[96];
    char *words = s3_cred_dup(job->host, command);
    pst_rc rc;

    p.text = job->host->alloc(job->host, S3_CRED_TEXT_MAX + 1, 16);
    if (!words || !p.text) {
        rc = s3_fail(job->err, PST_E_NO_MEMORY, "%s: out of memory", profile);
        goto out;
    }
    if (split(words, argv) == 0) {
        rc = s3_fail(job->err, PST_E_INVALID,
                     "%s: credential_process is no command: a quote is not closed, or it has more "
                     "than %d words",
                     profile, ARGS_MAX);
        goto out;
    }
    snprintf(what, sizeof(what), "credential_process %s of %.120s",
             s3_cred_shown(s3_str(argv[0]), shown, sizeof(shown)), profile);
    rc = run(job, what, argv, &p);
    if (rc == PST_OK)
        rc = s3_cred_from_json(job, what, pst_str_of(p.text, p.n_out), &names, out);
out:
    if (p.text) {
        explicit_bzero(p.text, p.n_out);
        job->host->dealloc(job->host, p.text);
    }
    if (words) {
        explicit_bzero(words, command.len);
        job->host->dealloc(job->host, words);
    }
    explicit_bzero(p.complaint, sizeof(p.complaint));
    return rc;
}
