/* peer.c - a Python process with one of the peers, driven line by line over two pipes. */
#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct peer {
    const char *name;
    pid_t pid;
    FILE *to, *from;
};

struct peer *peer_start(const struct bench *b, const char *name)
{
    int to[2], from[2];
    char line[64];
    struct peer *peer = calloc(1, sizeof *peer);

    if (b->python == NULL) {
        free(peer);
        return NULL;
    }
    if (peer == NULL || pipe(to) != 0 || pipe(from) != 0)
        die("no memory or pipe for %s", name);
    fflush(stdout);
    peer->name = name;
    peer->pid = fork();
    if (peer->pid < 0)
        die("cannot start %s", name);
    if (peer->pid == 0) {
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        for (int fd = STDERR_FILENO + 1; fd < 64; fd++)
            close(fd);
        execl(b->python, b->python, b->peers, name, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    peer->to = fdopen(to[1], "w");
    peer->from = fdopen(from[0], "r");
    if (peer->to == NULL || peer->from == NULL || fgets(line, sizeof line, peer->from) == NULL ||
        strcmp(line, "ready\n") != 0)
        die("%s does not start", name);
    return peer;
}

void peer_do(struct peer *peer, const char *verb, const char *path, uint64_t bytes)
{
    char line[256];
    uint64_t n = 0;
    double wall_s = 0, cpu = 0;

    fprintf(peer->to, "%s %s\n", verb, path);
    fflush(peer->to);
    if (fgets(line, sizeof line, peer->from) == NULL ||
        sscanf(line, "%" SCNu64 " %lf %lf", &n, &wall_s, &cpu) != 3 || n != bytes)
        die("%s: %s %s gave %" PRIu64 " bytes instead of %" PRIu64, peer->name, verb, path, n,
            bytes);
    set_clock(wall_s, cpu);
}

void peer_stop(struct peer *peer)
{
    if (peer == NULL)
        return;
    fclose(peer->to); /* the end of its input is its end */
    fclose(peer->from);
    waitpid(peer->pid, NULL, 0);
    free(peer);
}
