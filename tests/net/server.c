#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

struct server {
    int fd;
    uint16_t port;
    char path[108];
    pthread_t thread;
    SSL_CTX *tls;
    atomic_uint n_resumed;
    server_script script;
    void *arg;
    pthread_mutex_t mutex;
    pthread_cond_t idle;
    unsigned n_connections, n_running;
    int fds[1024]; /* of the running ones */
};

static ssize_t receive(struct conn *c, void *data, size_t len)
{
    return c->ssl ? SSL_read(c->ssl, data, (int)len) : recv(c->fd, data, len, 0);
}

static int read_head(struct conn *c)
{
    size_t len = 0;
    c->head[0] = '\0';
    memcpy(c->head, c->early, c->n_early);
    len = c->n_early;
    c->n_early = 0;
    for (;;) {
        c->head[len] = '\0';
        char *end = strstr(c->head, "\r\n\r\n");
        if (end) {
            end += 4;
            c->head_len = (size_t)(end - c->head);
            c->n_early = len - c->head_len;
            memcpy(c->early, end, c->n_early);
            *end = '\0';
            return 1;
        }
        ssize_t n = receive(c, c->head + len, sizeof(c->head) - 1 - len);
        if (n <= 0)
            return 0;
        len += (size_t)n;
    }
}

int conn_is(const struct conn *c, const char *method, const char *target)
{
    char line[512];
    snprintf(line, sizeof(line), "%s %s HTTP/1.1\r\n", method, target);
    return strncmp(c->head, line, strlen(line)) == 0;
}

const char *conn_field(const struct conn *c, const char *name, char *out, size_t cap)
{
    const char *p = strstr(c->head, "\r\n");
    while (p && p[2] != '\r') {
        p += 2;
        const char *end = strstr(p, "\r\n");
        if (strncasecmp(p, name, strlen(name)) == 0 && p[strlen(name)] == ':') {
            p += strlen(name) + 1;
            while (*p == ' ')
                p++;
            snprintf(out, cap, "%.*s", (int)(end - p), p);
            return out;
        }
        p = end;
    }
    return NULL;
}

int conn_read_body(struct conn *c)
{
    char text[32];
    const char *length = conn_field(c, "content-length", text, sizeof(text));
    c->body_len = length ? strtoul(length, NULL, 10) : 0;
    free(c->body);
    c->body = malloc(c->body_len + 1);
    size_t got = c->n_early < c->body_len ? c->n_early : c->body_len;
    memcpy(c->body, c->early, got);
    memmove(c->early, c->early + got, c->n_early - got);
    c->n_early -= got;
    while (got < c->body_len) {
        ssize_t n = receive(c, c->body + got, c->body_len - got);
        if (n <= 0)
            return 0;
        got += (size_t)n;
    }
    c->body[got] = '\0';
    return 1;
}

void conn_write(struct conn *c, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = c->ssl ? SSL_write(c->ssl, p, (int)len) : send(c->fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        p += n;
        len -= (size_t)n;
    }
}

void conn_printf(struct conn *c, const char *format, ...)
{
    char text[8192];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    conn_write(c, text, (size_t)n);
}

void conn_wait_closed(struct conn *c)
{
    char sink[4096];
    while (receive(c, sink, sizeof(sink)) > 0) {}
}

void conn_tunnel(struct conn *c, uint16_t port)
{
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(port)};
    struct pollfd fds[2] = {
        {.fd = c->fd, .events = POLLIN},
        {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .events = POLLIN}};
    char block[16384];
    ssize_t n = connect(fds[1].fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 ? 1 : 0;
    while (n > 0 && poll(fds, 2, -1) > 0) {
        const int from = fds[0].revents ? 0 : 1;
        n = recv(fds[from].fd, block, sizeof(block), 0);
        if (n > 0)
            n = send(fds[!from].fd, block, (size_t)n, MSG_NOSIGNAL);
    }
    close(fds[1].fd);
}

void conn_reset(struct conn *c)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static void *serve(void *arg)
{
    struct conn *c = arg;
    struct server *s = c->server;
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    int is_open = 1;
    if (s->tls) {
        c->ssl = SSL_new(s->tls);
        SSL_set_fd(c->ssl, c->fd);
        is_open = SSL_accept(c->ssl) == 1;
        if (is_open && SSL_session_reused(c->ssl))
            atomic_fetch_add(&s->n_resumed, 1);
    }
    while (is_open && read_head(c)) {
        c->n_requests++;
        if (!s->script(c, s->arg))
            break;
    }
    if (c->ssl) {
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
    }
    pthread_mutex_lock(&s->mutex);
    s->fds[c->number % 1024] = -1;
    close(c->fd);
    s->n_running--;
    pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->mutex);
    free(c->body);
    free(c);
    return NULL;
}

static void *accept_all(void *arg)
{
    struct server *s = arg;
    for (;;) {
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0)
            return NULL;
        struct conn *c = calloc(1, sizeof(*c));
        pthread_attr_t attr;
        pthread_t thread;
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_mutex_lock(&s->mutex);
        c->server = s;
        c->fd = fd;
        c->number = ++s->n_connections;
        s->n_running++;
        s->fds[c->number % 1024] = fd;
        pthread_mutex_unlock(&s->mutex);
        if (pthread_create(&thread, &attr, serve, c) != 0)
            abort();
        pthread_attr_destroy(&attr);
    }
}

static struct server *start(const char *address, SSL_CTX *tls, server_script script, void *arg)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr *sa = (struct sockaddr *)&v4;
    socklen_t len = sizeof(v4);
    struct server *s = calloc(1, sizeof(*s));
    if (*address == '/') {
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", address);
        snprintf(s->path, sizeof(s->path), "%s", address);
        sa = (struct sockaddr *)&un;
        len = sizeof(un);
    } else if (strchr(address, ':')) {
        sa = (struct sockaddr *)&v6;
        len = sizeof(v6);
    }
    memset(s->fds, -1, sizeof(s->fds));
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    s->script = script;
    s->arg = arg;
    s->tls = tls;
    s->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->idle, NULL);
    if (s->fd < 0 || bind(s->fd, sa, len) != 0 || listen(s->fd, 512) != 0) {
        if (s->fd >= 0)
            close(s->fd);
        free(s);
        return NULL;
    }
    if (sa->sa_family != AF_UNIX) {
        struct sockaddr_storage bound;
        len = sizeof(bound);
        getsockname(s->fd, (struct sockaddr *)&bound, &len);
        s->port = ntohs(sa->sa_family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port
                                                 : ((struct sockaddr_in6 *)&bound)->sin6_port);
    }
    if (pthread_create(&s->thread, NULL, accept_all, s) != 0)
        abort();
    return s;
}

struct server *server_start_at(const char *address, server_script script, void *arg)
{
    return start(address, NULL, script, arg);
}

struct server *server_start_tls(const char *cert, const char *key, const char *client_ca,
                                server_script script, void *arg)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(tls, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
        abort();
    SSL_CTX_set_session_id_context(tls, (const unsigned char *)"test", 4);
    if (client_ca) {
        if (SSL_CTX_load_verify_locations(tls, client_ca, NULL) != 1)
            abort();
        SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return start("127.0.0.1", tls, script, arg);
}

unsigned server_resumptions(const struct server *s)
{
    return s->n_resumed;
}

struct server *server_start(server_script script, void *arg)
{
    return server_start_at("127.0.0.1", script, arg);
}

void server_refuse(struct server *s)
{
    shutdown(s->fd, SHUT_RDWR);
}

void server_stop(struct server *s)
{
    if (!s)
        return;
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
    pthread_mutex_lock(&s->mutex);
    for (int i = 0; i < 1024; i++) {
        if (s->fds[i] >= 0)
            shutdown(s->fds[i], SHUT_RDWR);
    }
    while (s->n_running > 0)
        pthread_cond_wait(&s->idle, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
    if (*s->path)
        unlink(s->path);
    SSL_CTX_free(s->tls);
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

uint16_t server_port(const struct server *s)
{
    return s->port;
}

unsigned server_connections(const struct server *s)
{
    struct server *server = (struct server *)(uintptr_t)s;
    pthread_mutex_lock(&server->mutex);
    const unsigned n = server->n_connections;
    pthread_mutex_unlock(&server->mutex);
    return n;
}
