/* faults.c - starts the fault server and speaks to its own paths over a plain socket. */
#include "faults.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

extern char **environ;

void faults_start(struct faults *f, const char *declaration)
{
    char program[4096], path[4096];
    char verb[] = "conformance", word[] = "serve-faults";
    int fds[2];
    posix_spawn_file_actions_t actions;
    const char *bin = getenv("PST_TEST_BIN"), *source = getenv("PST_TEST_SOURCE");
    assert_non_null(bin);
    assert_non_null(source);
    (void)snprintf(program, sizeof(program), "%s/penstock", bin);
    if (strchr(declaration, '/'))
        (void)snprintf(path, sizeof(path), "%s", declaration);
    else
        (void)snprintf(path, sizeof(path), "%s/tests/servers/faults/%s.json", source, declaration);
    char *argv[] = {program, verb, word, path, NULL};
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, fds[1], 1), 0);
    assert_int_equal(posix_spawn(&f->pid, program, &actions, NULL, argv, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(fds[1]);
    size_t len = 0;
    while (len + 1 < sizeof(f->address) && read(fds[0], f->address + len, 1) == 1 &&
           f->address[len] != '\n')
        len++;
    f->address[len] = '\0';
    (void)close(fds[0]);
    const char *colon = strchr(f->address, ':');
    assert_non_null(colon);
    f->port = (unsigned)strtoul(colon + 1, NULL, 10);
}

void faults_stop(struct faults *f)
{
    int status = 0;
    assert_int_equal(kill(f->pid, SIGTERM), 0);
    assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void send_all(int fd, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        assert_true(sent > 0);
        p += sent;
        n -= (size_t)sent;
    }
}

char *faults_control(const struct faults *f, const char *method, const char *path, const void *body,
                     size_t n, size_t *len, int *status)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)f->port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char head[4096];
    size_t used = 0, cap = 1u << 16;
    char *reply = malloc(cap);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_non_null(reply);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    (void)snprintf(
        head, sizeof(head),
        "%s /-/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", method,
        path, f->address, n);
    send_all(fd, head, strlen(head));
    send_all(fd, body, n);
    for (;;) {
        if (used + 1 == cap) {
            cap *= 2;
            reply = realloc(reply, cap);
            assert_non_null(reply);
        }
        ssize_t got = recv(fd, reply + used, cap - used - 1, 0);
        assert_true(got >= 0);
        if (got == 0)
            break;
        used += (size_t)got;
    }
    (void)close(fd);
    reply[used] = '\0';
    char *end = strstr(reply, "\r\n\r\n");
    assert_non_null(end);
    *status = (int)strtol(reply + strlen("HTTP/1.1 "), NULL, 10);
    *len = used - (size_t)(end + 4 - reply);
    memmove(reply, end + 4, *len + 1);
    return reply;
}

static void must_work(const struct faults *f, const char *method, const char *path,
                      const void *body, size_t n)
{
    size_t len;
    int status;
    char *reply = faults_control(f, method, path, body, n, &len, &status);
    if (status != 200)
        fail_msg("%s /-/%s: %d %s", method, path, status, reply);
    free(reply);
}

void faults_set(const struct faults *f, const char *rules)
{
    const char *text = rules ? rules : "[]";
    must_work(f, "PUT", "faults", text, strlen(text));
}

void faults_forget(const struct faults *f)
{
    must_work(f, "DELETE", "", "", 0);
}

void faults_put(const struct faults *f, const char *name, const void *data, size_t n)
{
    char path[1024];
    (void)snprintf(path, sizeof(path), "objects/%s", name);
    must_work(f, "PUT", path, data, n);
}

char *faults_log(const struct faults *f)
{
    size_t len;
    int status;
    char *reply = faults_control(f, "GET", "log", "", 0, &len, &status);
    assert_int_equal(status, 200);
    return reply;
}

unsigned faults_count(const struct faults *f, const char *route)
{
    char *text = faults_log(f);
    json_t *log = json_loads(text, 0, NULL), *entry;
    unsigned n = 0;
    size_t i;
    assert_non_null(log);
    json_array_foreach(log, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "route"));
        const char *action = json_string_value(json_object_get(entry, "do"));
        n += (name && strcmp(name, route) == 0) || (action && strcmp(action, route) == 0);
    }
    json_decref(log);
    free(text);
    return n;
}
