/* raw.c - bench_raw HOST PORT BUCKET: a plain receiver of HTTP replies, the ceiling of the race.
 *
 * Keep-alive connections, one send and as few recv as the kernel needs for a reply, straight into memory
 * that is mapped once and touched already. It trusts the server: no signatures, no checks beyond the
 * status and the length, no retries. One connection and blocking calls for one object, epoll for many. */
#include "side.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_BYTES = 2048, MAX_CONNECTIONS = 1024 };

struct connection {
    int fd;
    size_t item, n_head;
    char *at;
    uint64_t n_left;
    int has_head;
    double sent_s;
    char head[HEAD_BYTES];
};

static const char *bucket, *host;
static struct sockaddr_in address;
static struct connection connections[MAX_CONNECTIONS];
static unsigned int n_open;
static char *memory;
static uint64_t memory_bytes;

static void need_memory(uint64_t bytes)
{
    if (bytes <= memory_bytes)
        return;
    if (memory != NULL)
        munmap(memory, memory_bytes);
    memory_bytes = (bytes + (2u << 20) - 1) & ~(uint64_t)((2u << 20) - 1);
    memory = mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die("no memory");
    madvise(memory, memory_bytes, MADV_HUGEPAGE);
}

static void open_connections(unsigned int n)
{
    int one = 1;

    for (; n_open < n; n_open++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
            die("cannot connect: %d", errno);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[n_open].fd = fd;
    }
}

static void ask(struct connection *c, const struct work *work, size_t item, char *to)
{
    char text[1600], range[64] = "";
    const struct item *what = &work->items[item];
    int len;

    if (what->offset >= 0)
        snprintf(range, sizeof range, "Range: bytes=%lld-%lld\r\n", (long long)what->offset,
                 (long long)(what->offset + (int64_t)what->bytes - 1));
    len = snprintf(text, sizeof text, "GET /%s/%s HTTP/1.1\r\nHost: %s\r\n%s\r\n", bucket,
                   what->key, host, range);
    c->item = item;
    c->n_head = 0;
    c->has_head = 0;
    c->at = to;
    c->n_left = what->bytes;
    c->sent_s = now_s();
    if (send(c->fd, text, (size_t)len, MSG_NOSIGNAL) != len)
        die("cannot send");
}

/* Receive what is there. 1: the reply is complete. */
static int take(struct connection *c, int flags)
{
    ssize_t n;

    if (!c->has_head) {
        n = recv(c->fd, c->head + c->n_head, HEAD_BYTES - 1 - c->n_head, flags);
        if (n <= 0)
            return n < 0 && errno == EAGAIN ? 0 : (die("cut in a head"), 0);
        c->n_head += (size_t)n;
        c->head[c->n_head] = '\0';
        char *end = strstr(c->head, "\r\n\r\n");
        if (end == NULL)
            return 0;
        char *length = strcasestr(c->head, "\r\ncontent-length:");
        if (strncmp(c->head, "HTTP/1.1 20", 11) != 0 || length == NULL || length > end ||
            strtoull(length + 17, NULL, 10) != c->n_left)
            die("not the reply that was expected: %.60s", c->head);
        size_t n_body = c->n_head - (size_t)(end + 4 - c->head);
        memcpy(c->at, end + 4, n_body);
        c->at += n_body;
        c->n_left -= n_body;
        c->has_head = 1;
    }
    while (c->n_left > 0) {
        n = recv(c->fd, c->at, c->n_left < (1u << 20) ? c->n_left : (1u << 20), flags);
        if (n <= 0)
            return n < 0 && errno == EAGAIN ? 0 : (die("cut in a body"), 0);
        c->at += n;
        c->n_left -= (uint64_t)n;
    }
    return 1;
}

static void run_many(const struct work *work)
{
    struct epoll_event events[64];
    size_t next = 0, n_done = 0;
    uint64_t used = 0;
    unsigned int n = work->n_in_flight < work->n_items ? work->n_in_flight
                                                       : (unsigned int)work->n_items;
    int poll_fd = epoll_create1(EPOLL_CLOEXEC);

    open_connections(n);
    for (; next < n; next++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[next]};

        epoll_ctl(poll_fd, EPOLL_CTL_ADD, connections[next].fd, &event);
        ask(&connections[next], work, next, memory + used);
        used += work->items[next].bytes;
    }
    while (n_done < work->n_items) {
        int n_events = epoll_wait(poll_fd, events, 64, -1);

        for (int i = 0; i < n_events; i++) {
            struct connection *c = events[i].data.ptr;

            if (!take(c, MSG_DONTWAIT))
                continue;
            work->latencies_s[c->item] = now_s() - c->sent_s;
            n_done++;
            if (next < work->n_items) {
                ask(c, work, next, memory + used);
                used += work->items[next++].bytes;
            }
        }
    }
    close(poll_fd);
}

static void run(const struct work *work)
{
    if (work->verb[0] == 'p')
        die("the plain receiver does not write: stores want signatures");
    need_memory(work->total_bytes);
    if (work->n_items > 1) {
        run_many(work);
        return;
    }
    open_connections(1);
    ask(&connections[0], work, 0, memory);
    while (!take(&connections[0], 0))
        ;
    work->latencies_s[0] = now_s() - connections[0].sent_s;
}

static void drop(void)
{
}

int main(int argc, char **argv)
{
    static char name[256];

    if (argc != 4)
        die("usage: bench_raw ADDRESS PORT BUCKET");
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1)
        die("%s is no address", argv[1]);
    snprintf(name, sizeof name, "%s:%s", argv[1], argv[2]);
    host = name;
    bucket = argv[3];
    serve(run, drop);
    return 0;
}
