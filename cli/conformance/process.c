/* process.c - what of the process a plugin must leave as it is. */
#include <dirent.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kit.h"

static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;
    if (!dir)
        return -1;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        n += e->d_name[0] != '.';
    (void)closedir(dir);
    return n;
}

int k_count_threads(void)
{
    return count_entries("/proc/self/task");
}

static uint64_t hash(uint64_t h, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ull;
    return h;
}

extern char **environ;

void k_process_look(struct k_process *out)
{
    memset(out, 0, sizeof(*out));
    out->n_fds = count_entries("/proc/self/fd") - 1;
    out->n_threads = k_count_threads();
    mode_t mask = umask(0);
    (void)umask(mask);
    out->umask_bits = (unsigned)mask;
    if (!getcwd(out->cwd, sizeof(out->cwd)))
        out->cwd[0] = '\0';
    (void)snprintf(out->locale, sizeof(out->locale), "%s", setlocale(LC_ALL, NULL));
    out->environment = 1;
    for (char **e = environ; e && *e; e++)
        out->environment = hash(out->environment, *e, strlen(*e) + 1);
    out->signals = 1;
    for (int i = 1; i < 65; i++) {
        struct sigaction action;
        memset(&action, 0, sizeof(action));
        if (sigaction(i, NULL, &action) == 0) {
            out->signals = hash(out->signals, &action.sa_handler, sizeof(action.sa_handler));
            out->signals = hash(out->signals, &action.sa_flags, sizeof(action.sa_flags));
        }
    }
    sigset_t set;
    (void)sigemptyset(&set);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &set);
    out->signal_mask = 1;
    for (int i = 1; i < 65; i++)
        out->signal_mask = out->signal_mask * 3 + (uint64_t)(sigismember(&set, i) == 1);
}

void k_process_compare(struct k_test *t, const struct k_process *before,
                       const struct k_process *after, const char *when, uint32_t what)
{
    if (what & K_SAME_FDS)
        k_that(t, before->n_fds == after->n_fds, "expected %d open descriptors %s, got %d",
               before->n_fds, when, after->n_fds);
    if (what & K_SAME_THREADS)
        k_that(t, before->n_threads == after->n_threads, "expected %d threads %s, got %d",
               before->n_threads, when, after->n_threads);
    if (!(what & K_SAME_REST))
        return;
    k_that(t, before->umask_bits == after->umask_bits, "expected umask %03o %s, got %03o",
           before->umask_bits, when, after->umask_bits);
    k_that(t, strcmp(before->cwd, after->cwd) == 0, "expected the working directory %s %s, got %s",
           before->cwd, when, after->cwd);
    k_that(t, strcmp(before->locale, after->locale) == 0, "expected the locale %s %s, got %s",
           before->locale, when, after->locale);
    k_that(t, before->environment == after->environment,
           "expected the environment %s to be the same, got another", when);
    k_that(t, before->signals == after->signals,
           "expected the signal handlers %s to be the same, got others", when);
    k_that(t, before->signal_mask == after->signal_mask,
           "expected the signal mask %s to be the same, got another", when);
}
