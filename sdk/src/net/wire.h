/* wire.h - http/1's own path: a request and its reply over a connection that libcurl has opened.
 *
 * Every function runs on the loop's thread. */
#ifndef PST_NET_WIRE_H
#define PST_NET_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include <curl/curl.h>

#include "util/ring.h"

struct pst_loop;
struct pst_origin;
struct pst_slot;
struct pst_transfer;

#define PST_WIRE_IN_BYTES (16u * 1024)
#define PST_WIRE_PEER_BYTES 64u

enum pst_wire_state { PST_WIRE_CONNECTING, PST_WIRE_IDLE, PST_WIRE_BUSY };

/* What of a reply comes next. */
enum pst_wire_expects {
    PST_WIRE_HEAD,
    PST_WIRE_LENGTH,      /* `left` bytes of a body whose length is known */
    PST_WIRE_TO_CLOSE,    /* a body that ends with the connection */
    PST_WIRE_CHUNK_SIZE,  /* the line before a chunk */
    PST_WIRE_CHUNK,       /* `left` bytes of it */
    PST_WIRE_CHUNK_BREAK, /* the empty line after it */
    PST_WIRE_TRAILER,     /* lines up to an empty one */
    PST_WIRE_END,
};

struct pst_wire {
    struct pst_slot *slot; /* that it is part of */
    int fd;
    enum pst_wire_state state;
    int is_tls;
    int has_served;  /* a request before this one */
    int may_read;    /* an event said so, and it was not read empty since */
    int has_hung_up; /* the other side will send no more than is there */
    int is_good;     /* this reply is complete, and the connection may serve again */
    uint64_t idle_since_ns;
    int must_close; /* somebody said so, or what the server does next is unknown */
    int sys_errno;
    struct pst_ring busy; /* in the loop's `hot`, while there is something to do without an event */
    int is_hot;
    char *out; /* the head of the request */
    size_t out_at, out_len, out_room;
    int is_sent;
    enum pst_wire_expects expects;
    uint64_t left;
    size_t in_at, in_len;
    size_t in_room;
    char *in;         /* read, and not looked at yet */
    int wants_status; /* the next line of a head is a status line */
    char peer[PST_WIRE_PEER_BYTES];
};

/* Can this request go this way? */
int pst_wire_fits(const struct pst_transfer *t);

/* Begin: over a connection that is kept, or over a new one. */
int pst_wire_start(struct pst_transfer *t);

/* libcurl has connected. Anything but CURLE_OK: the transfer has to fail. */
CURLcode pst_wire_connected(struct pst_slot *slot);

/* What epoll says of it. */
void pst_wire_event(struct pst_slot *slot, uint32_t events);

/* Send and receive what can be. May end the transfer and free the slot. */
void pst_wire_serve(struct pst_slot *slot);

/* Serve it in this round without an event. */
void pst_wire_make_hot(struct pst_slot *slot);

/* Keep a connection that is good, else close and free it. */
void pst_wire_give_back(struct pst_slot *slot);
void pst_wire_free(struct pst_slot *slot);

/* Close kept connections of an origin until there are no more than `n`. */
void pst_wire_close_kept(struct pst_origin *origin, uint32_t n);
/* ... and those that have been idle for long. */
void pst_wire_close_old(struct pst_origin *origin);

/* ---- wire_read.c ---- */

#define PST_WIRE_WAIT 0     /* for more bytes, or for resume */
#define PST_WIRE_COMPLETE 1 /* the reply is whole */
#define PST_WIRE_FAILED 2   /* see *code */

/* Receive what is there. *code is a CURLcode. */
int pst_wire_read(struct pst_slot *slot, int *code);
/* Read at most `cap` bytes: as recv(), errno set to EAGAIN or a reason. */
long pst_wire_receive(struct pst_slot *slot, void *out, size_t cap);

#endif
