/* server.h - a small HTTP server inside the test: one thread for each connection, replies written by
 * the test, byte by byte if it likes. */
#ifndef PST_TESTS_NET_SERVER_H
#define PST_TESTS_NET_SERVER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct server;

/* One request as it came, and the connection to answer on. */
struct conn {
    struct server *server;
    struct ssl_st *ssl; /* NULL: plain */
    int fd;
    unsigned number;     /* of the connection, from 1 */
    unsigned n_requests; /* on it, this one included */
    char head[100000];   /* method line and fields, terminated */
    size_t head_len, body_len;
    char *body;         /* read by conn_read_body */
    char early[100000]; /* came together with the head */
    size_t n_early;
};

/* Answer a request. Returns whether the connection goes on. */
typedef int (*server_script)(struct conn *conn, void *arg);

struct server *server_start(server_script script, void *arg);
/* On another address: "::1", or a path for a unix socket. NULL if this machine has none. */
struct server *server_start_at(const char *address, server_script script, void *arg);
/* With TLS: PEM files of the server's certificate and key, and, if not NULL, of the CA that clients must
 * have a certificate of. */
struct server *server_start_tls(const char *cert, const char *key, const char *client_ca,
                                server_script script, void *arg);
void server_stop(struct server *server);
/* Refuse new connections. */
void server_refuse(struct server *server);

uint16_t server_port(const struct server *server);
unsigned server_connections(const struct server *server);
/* TLS sessions that were taken up again. */
unsigned server_resumptions(const struct server *server);

/* For scripts. Whether the request line is for this target. */
int conn_is(const struct conn *conn, const char *method, const char *target);
/* The value of a field, copied and terminated; NULL if it is not there. */
const char *conn_field(const struct conn *conn, const char *name, char *out, size_t cap);
/* Read the body the head announces. Returns 0 if the client went away. */
int conn_read_body(struct conn *conn);
void conn_write(struct conn *conn, const void *data, size_t len);
void conn_printf(struct conn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Become a tunnel to 127.0.0.1:port until either side closes. */
void conn_tunnel(struct conn *conn, uint16_t port);
/* Wait until the client has closed. */
void conn_wait_closed(struct conn *conn);
/* Close with a reset. */
void conn_reset(struct conn *conn);

#endif
