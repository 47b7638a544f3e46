/* fault_run.c - the fault server of a run: started once, in a process of its own, so that it is neither
 * among the threads and descriptors that requirements count nor killed with one of them. Options that
 * the declaration has for the plugin are handed to every store that is opened: for the groups HTTP and
 * FAULT before those of the command line, for all others after them. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "kit_fault.h"

bool k_is_fault_group(const struct k_requirement *r)
{
    return strcmp(r->group, "HTTP") == 0 || strcmp(r->group, "FAULT") == 0;
}

/* Never returns. */
static void run_server(json_t *declaration, int address_fd, int stop_fd)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct kf_server *server = kf_server_new(declaration);
    int listen_fd = kf_listen(server);
    if (listen_fd < 0)
        _exit(8);
    ssize_t n = write(address_fd, server->address, strlen(server->address));
    (void)close(address_fd);
    if (n > 0)
        kf_serve(server, listen_fd, stop_fd);
    (void)close(listen_fd);
    kf_server_free(server);
    _exit(0);
}

bool k_faults_start(struct k_faults *f, const char *path)
{
    char why[500] = "";
    int address_fds[2], stop_fds[2];
    json_t *declaration = kf_load(path, why, sizeof(why));
    if (!declaration) {
        (void)k_usage("--faults: %s", why);
        return false;
    }
    f->declaration = declaration;
    if (pipe2(address_fds, O_CLOEXEC) != 0 || pipe2(stop_fds, O_CLOEXEC) != 0)
        return false;
    (void)fflush(NULL);
    f->pid = (int)fork();
    if (f->pid == 0) {
        (void)close(address_fds[0]);
        (void)close(stop_fds[1]);
        run_server(declaration, address_fds[1], stop_fds[0]);
    }
    (void)close(address_fds[1]);
    (void)close(stop_fds[0]);
    f->stop_fd = stop_fds[1];
    ssize_t n = f->pid > 0 ? read(address_fds[0], f->address, sizeof(f->address) - 1) : -1;
    (void)close(address_fds[0]);
    f->address[n > 0 ? n : 0] = '\0';
    if (n <= 0)
        (void)fprintf(stderr, "penstock: conformance: the fault server did not start\n");
    return n > 0;
}

void k_faults_stop(struct k_faults *f)
{
    if (f->pid > 0) {
        (void)close(f->stop_fd);
        while (waitpid(f->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    json_decref(f->declaration);
    memset(f, 0, sizeof(*f));
}

/* Texts that were filled in, kept to the end: options are few, but looked up with every line of log. No
 * lock, since a child of fork looks them up as well; two threads may add the same one. */
struct filled {
    struct filled *next;
    char *text, *from, *address;
};

static _Atomic(struct filled *) all_filled;

static char *fill_in(const char *text, const char *address)
{
    struct kf_buf out = {0};
    kf_add(&out, "", 0);
    for (const char *at = strstr(text, "{fault}"); at; at = strstr(text, "{fault}")) {
        kf_add(&out, text, (size_t)(at - text));
        kf_add_str(&out, kf_str(address));
        text = at + strlen("{fault}");
    }
    kf_add_str(&out, kf_str(text));
    return out.data;
}

static char *dup_text(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(k_alloc(size), text, size);
}

const char *k_faults_fill_in(const char *text, const char *address)
{
    struct filled *newest = atomic_load(&all_filled), *f = newest;
    while (f && (strcmp(f->from, text) != 0 || strcmp(f->address, address) != 0))
        f = f->next;
    if (!f) {
        f = (struct filled *)(void *)k_alloc(sizeof(*f));
        f->from = dup_text(text);
        f->address = dup_text(address);
        f->text = fill_in(text, address);
        f->next = newest;
        while (!atomic_compare_exchange_weak(&all_filled, &f->next, f))
            continue;
    }
    return f->text;
}

bool k_faults_has_tls(const struct k_test *t)
{
    const json_t *kit = json_object_get(t->config->faults->declaration, "kit");
    return json_object_size(json_object_get(kit, "tls_options")) > 0;
}

const char *k_faults_option(const struct k_test *t, const char *name)
{
    const json_t *kit = json_object_get(t->config->faults->declaration, "kit");
    const char *value =
        t->uses_tls ? json_string_value(json_object_get(json_object_get(kit, "tls_options"), name))
                    : NULL;
    if (!value)
        value = json_string_value(json_object_get(json_object_get(kit, "options"), name));
    return value ? k_faults_fill_in(value, t->fault_address) : NULL;
}
