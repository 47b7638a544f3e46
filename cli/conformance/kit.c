/* kit.c - `penstock conformance`: does a plugin do what plugin.h demands?
 *
 * The kit is a host of its own, and a hostile one. It loads the plugin with dlopen and drives its
 * tables directly; nothing of libpenstock is between them. The requirements stand in one table
 * (requirements.h); each row is one function of the group_*.c files.
 *
 * Every requirement is checked in a forked process that loads the plugin afresh, so a crash is one
 * failed requirement with the signal named, and a hang one that was killed when its time was up. The
 * child writes what it finds into memory shared with the runner (report.c). Operations live on guarded
 * pages (guard.c, call.c) and go through a host table that uses every liberty a host has (host.c).
 *
 * Where it writes: below "<prefix>pst-conformance-<pid>/", which is emptied when the run ends. Profile
 * ro writes nothing and reads what the listing of the URI finds.
 *
 * A store behind a network is also tried on a server that fails on demand (fault_server.c): the groups
 * HTTP and FAULT, with --faults.
 *
 * What it cannot see: whether data survives a power cut. */
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "conformance.h"
#include "fault.h"
#include "kit_fault.h"
#include "requirements_fwd.h"

#define K_REQ(group, number, profile, text, rule)                                                  \
    {"PST-" #group "-" #number, #group, K_##profile, text, rule, k_##group##_##number},
const struct k_requirement k_requirements[] = {
#include "requirements.h"
};
#undef K_REQ
const size_t k_n_requirements = sizeof(k_requirements) / sizeof(k_requirements[0]);

struct k_static k_static[K_STATIC_MAX];
size_t k_n_static;

void pst_conformance_static(const char *name, pst_plugin_open_1_fn entry)
{
    if (k_n_static < K_STATIC_MAX) {
        k_static[k_n_static].name = name;
        k_static[k_n_static++].entry = entry;
    }
}

/* ---- one requirement, in its child ------------------------------------------------------------- */

#define GRACE_MS 30u

static void note_open_fds(struct k_test *t)
{
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        if (e->d_name[0] != '.' && t->n_fds_before < sizeof(t->fds_before) / sizeof(int))
            t->fds_before[t->n_fds_before++] = (int)strtol(e->d_name, NULL, 10);
    (void)closedir(dir);
}

static void set_base(struct k_test *t, const char *name)
{
    const struct k_config *config = t->config;
    int n;
    if (config->profile == K_RO)
        n = snprintf(t->base, sizeof(t->base), "%.*s", (int)config->prefix.len, config->prefix.ptr);
    else
        n = snprintf(t->base, sizeof(t->base), "%.*spst-conformance-%d/%s/",
                     (int)config->prefix.len, config->prefix.ptr, config->run_id, name);
    t->base_len = (size_t)n < sizeof(t->base) ? (size_t)n : sizeof(t->base) - 1;
}

/* Never returns. `requirement` NULL: clean up after the run. */
static void run_child(const struct k_config *config, const struct k_requirement *requirement,
                      struct k_shared *shared, int output_fd)
{
    struct k_test *t = (struct k_test *)(void *)k_alloc(sizeof(*t));
    sigset_t none;
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    int null_fd = open("/dev/null", O_RDONLY);
    if (null_fd > 0) {
        (void)dup2(null_fd, 0);
        (void)close(null_fd);
    }
    (void)dup2(output_fd, 1);
    (void)dup2(output_fd, 2);
    (void)close(output_fd);

    t->config = config;
    t->shared = shared;
    t->requirement = requirement;
    set_base(t, requirement ? requirement->id : "sweep");
    if (config->faults)
        memcpy(t->fault_address, config->faults->address, sizeof(t->fault_address));
    k_guard_install(shared);
    note_open_fds(t);
    if (requirement)
        requirement->run(t);
    else
        k_sweep(t);
    /* What comes late comes now. */
    if (t->host) {
        k_step(t, "waiting for late completions");
        k_pause_ms(GRACE_MS);
        k_host_check_quarantine(t->host);
    }
    atomic_store(&shared->has_finished, true);
    _exit(0);
}

/* ---- the runner -------------------------------------------------------------------------------- */

static void append_line(char *text, size_t size, const char *line, size_t len)
{
    size_t used = strlen(text);
    if (used + len + 2 > size)
        return;
    memcpy(text + used, line, len);
    text[used + len] = '\n';
    text[used + len + 1] = '\0';
}

/* The last lines of what the child printed: a sanitizer's report, most often. */
static void append_output(char *text, size_t size, int fd)
{
    char output[3000];
    off_t end = lseek(fd, 0, SEEK_END);
    off_t start = end > (off_t)sizeof(output) ? end - (off_t)sizeof(output) : 0;
    ssize_t n = pread(fd, output, sizeof(output) - 1, start);
    if (n <= 0)
        return;
    output[n] = '\0';
    append_line(text, size, "it printed:", 11);
    for (const char *line = output; *line;) {
        size_t len = strcspn(line, "\n");
        append_line(text, size, line, len);
        line += len + (line[len] == '\n');
    }
}

static void describe_end(struct k_shared *shared, int status, bool timed_out, uint32_t timeout_s,
                         char *text, size_t size)
{
    char line[800], where[600];
    unsigned last = atomic_load(&shared->last_slot);
    bool has_last = last > 0 && last <= K_N_SLOTS;
    (void)snprintf(where, sizeof(where), "%s%s%s%s", shared->step,
                   has_last ? " (last operation: " : "",
                   has_last ? k_slot_name((enum k_slot)(last - 1)) : "", has_last ? ")" : "");
    if (timed_out)
        (void)snprintf(line, sizeof(line), "expected an end within %u s, got none, while: %s",
                       timeout_s, where);
    else if (WIFSIGNALED(status))
        (void)snprintf(line, sizeof(line),
                       "expected no crash, got killed by signal %d (%s), while: "
                       "%s",
                       WTERMSIG(status), strsignal(WTERMSIG(status)), where);
    else
        (void)snprintf(line, sizeof(line),
                       "expected the process to go on, got exit status %d, "
                       "while: %s",
                       WEXITSTATUS(status), where);
    append_line(text, size, line, strlen(line));
}

/* Wait for the child, at most `timeout_s`; SIGCHLD is blocked. */
static bool wait_for(pid_t pid, uint32_t timeout_s, int *status)
{
    uint64_t end_ns = k_now_ns() + (uint64_t)timeout_s * 1000000000u;
    sigset_t child;
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    for (;;) {
        pid_t got = waitpid(pid, status, WNOHANG);
        if (got == pid)
            return true;
        uint64_t now_ns = k_now_ns();
        if (now_ns >= end_ns)
            return false;
        uint64_t left_ns = end_ns - now_ns;
        struct timespec left = {(time_t)(left_ns / 1000000000u), (long)(left_ns % 1000000000u)};
        (void)sigtimedwait(&child, NULL, &left);
    }
}

static void run_one(const struct k_config *config, const struct k_requirement *requirement,
                    struct k_shared *shared, struct k_outcome *out)
{
    static char text[sizeof(shared->text) + 6000];
    int status = 0;
    bool has_written = atomic_load(&shared->has_written);
    memset(shared, 0, sizeof(*shared));
    atomic_store(&shared->has_written, has_written);
    text[0] = '\0';
    out->requirement = requirement;
    uint64_t started_ns = k_now_ns();
    int output_fd = memfd_create("output", MFD_CLOEXEC);
    (void)fflush(NULL);
    pid_t pid = output_fd < 0 ? -1 : fork();
    if (pid == 0)
        run_child(config, requirement, shared, output_fd);
    bool timed_out = pid > 0 && !wait_for(pid, config->timeout_s, &status);
    if (pid > 0) {
        (void)kill(-pid, SIGKILL); /* whatever it forked itself */
        if (timed_out) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
        }
    }
    size_t used = strnlen(shared->text, sizeof(shared->text) - 1);
    memcpy(text, shared->text, used);
    text[used] = '\0';
    bool is_whole = pid > 0 && !timed_out && WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
                    atomic_load(&shared->has_finished);
    if (pid < 0)
        append_line(text, sizeof(text), "the kit could not fork", 22);
    else if (!is_whole)
        describe_end(shared, status, timed_out, config->timeout_s, text, sizeof(text));
    unsigned n_failures = atomic_load(&shared->n_failures);
    out->verdict = K_PASSED;
    if (!is_whole || n_failures > 0)
        out->verdict = K_FAILED;
    else if (atomic_load(&shared->is_skipped))
        out->verdict = K_SKIPPED;
    if (out->verdict == K_FAILED && output_fd >= 0)
        append_output(text, sizeof(text), output_fd);
    if (output_fd >= 0)
        (void)close(output_fd);
    out->seconds = (double)(k_now_ns() - started_ns) / 1e9;
    out->details = (char *)k_alloc(strlen(text) + 1);
    memcpy(out->details, text, strlen(text));
}

static bool is_selected(const struct k_run *run, const struct k_requirement *r)
{
    if (r->profile > run->config.profile || (k_is_fault_group(r) && !run->faults_path))
        return false;
    for (size_t i = 0; i < run->n_only; i++)
        if (strcmp(run->only[i], r->id) == 0 ||
            (strncmp(run->only[i], "PST-", 4) == 0 && strcmp(run->only[i] + 4, r->group) == 0))
            return true;
    return run->n_only == 0;
}

static void sweep(const struct k_config *config, struct k_shared *shared)
{
    struct k_outcome outcome = {0};
    if (!atomic_load(&shared->has_written))
        return;
    run_one(config, NULL, shared, &outcome);
    if (outcome.verdict != K_PASSED)
        printf("# could not remove everything below %.*spst-conformance-%d/: %.*s\n",
               (int)config->prefix.len, config->prefix.ptr, config->run_id,
               (int)strcspn(outcome.details, "\n"), outcome.details);
    k_free(outcome.details);
}

static int run_all(struct k_run *run, struct k_shared *shared)
{
    struct k_config *config = &run->config;
    size_t n_selected = 0, n = 0, counts[3] = {0}, n_quirks = 0;
    for (size_t i = 0; i < k_n_requirements; i++)
        n_selected += is_selected(run, &k_requirements[i]);
    if (n_selected == 0)
        return k_usage(
            "the profile runs none of the requirements of --only, or they need --faults");
    struct k_outcome *outcomes = (struct k_outcome *)(void *)k_alloc(n_selected *
                                                                     sizeof(struct k_outcome));
    printf("TAP version 13\n1..%zu\n", n_selected);
    for (size_t i = 0; i < k_n_requirements; i++) {
        const struct k_requirement *r = &k_requirements[i];
        if (!is_selected(run, r))
            continue;
        struct k_outcome *o = &outcomes[n++];
        run_one(config, r, shared, o);
        const char *reason = run->quirks ? json_string_value(json_object_get(run->quirks, r->id))
                                         : NULL;
        if (o->verdict == K_FAILED)
            o->quirk = reason;
        else if (reason)
            printf("# the quirk %s is declared but was not seen\n", r->id);
        if (o->verdict == K_FAILED && o->quirk) {
            n_quirks++;
            counts[K_SKIPPED]++;
        } else {
            counts[o->verdict]++;
        }
        k_print_tap(n, o);
    }
    sweep(config, shared);
    bool is_written = (!run->json_path || k_write_json(run->json_path, config, outcomes, n)) &&
                      (!run->junit_path || k_write_junit(run->junit_path, config, outcomes, n));
    for (size_t i = 0; i < n; i++)
        k_free(outcomes[i].details);
    k_free(outcomes);
    if (n_quirks > 0)
        printf("# %zu of the skipped are declared quirks\n", n_quirks);
    printf("%zu passed, %zu failed, %zu skipped\n", counts[K_PASSED], counts[K_FAILED],
           counts[K_SKIPPED]);
    (void)fflush(stdout);
    if (!is_written) {
        (void)fprintf(stderr, "penstock: conformance: a results file could not be written\n");
        return 8;
    }
    return counts[K_FAILED] > 0 ? 1 : 0;
}

int pst_conformance_main(int argc, char **argv)
{
    struct k_run run = {.config = {.profile = K_FULL, .timeout_s = 60, .run_id = (int)getpid()}};
    struct k_shared *shared = NULL;
    struct k_faults faults = {0};
    sigset_t child, before;
    if (argc > 1 && strcmp(argv[1], "serve-faults") == 0)
        return kf_command(argc - 1, argv + 1);
    int rc = k_parse_arguments(&run, argc, argv);
    if (rc != 0)
        goto out;
    if (run.shortcut) {
        rc = run.shortcut();
        goto out;
    }
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        shared = NULL;
        (void)fprintf(stderr, "penstock: conformance: out of memory\n");
        rc = 8;
        goto out;
    }
    if (run.faults_path) {
        run.config.faults = &faults;
        rc = k_faults_start(&faults, run.faults_path) ? k_place_run(&run) : 2;
        if (rc != 0)
            goto out;
    }
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &child, &before);
    rc = run_all(&run, shared);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
out:
    if (shared)
        (void)munmap(shared, sizeof(*shared));
    k_faults_stop(&faults);
    k_run_fini(&run);
    return rc;
}
