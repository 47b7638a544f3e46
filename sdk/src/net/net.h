/* net.h - what http/1 is made of.
 *
 *   instance   one for each core: its loops, in one list so that a pst_host finds it
 *   client     settings and figures of one store
 *   loop       a thread with a curl_multi and at most PST_LOOP_TRANSFERS transfers under way
 *   lane       a client in a loop: its idle handles
 *   origin     scheme, host and port in a lane: who waits, how many travel, how many may
 *   transfer   one request from send to done
 *   slot       an easy handle, and what of a reply is kept beside it; reused
 *
 * A transfer belongs to one loop from send on. Only that loop's thread touches it, but for the members
 * named `locked`, which belong to the loop's mutex. */
#ifndef PST_NET_NET_H
#define PST_NET_NET_H

#include <pthread.h>
#include <stdatomic.h>

#include <curl/curl.h>
#include <sys/epoll.h>

#include "net/blocks.h"
#include "net/head.h"
#include "net/settings.h"
#include "net/url.h"
#include "net/wire.h"
#include "util/dynbuf.h"
#include "util/net_abi.h"
#include "util/ring.h"

#define PST_LOOPS_MAX 8u
#define PST_LOOP_TRANSFERS 128u
#define PST_LOOP_BUCKETS 1024u /* of the table of ids */
#define PST_LOOP_SHARES 8u
#define PST_LOOP_EVENTS 128
#define PST_LOOP_SCRATCH_BYTES (64u * 1024)
#define PST_METHOD_MAX 23u
#define PST_FIELDS_MAX (64u * 1024) /* bytes of a body that is sent with its head in one call */
#define PST_EXPECT_MIN (1024u * 1024)

struct pst_lane;
struct pst_loop;
struct pst_slot;

struct pst_net_instance {
    struct pst_net_host nh;
    struct pst_net_instance *next; /* in the process's list */
    atomic_uint_fast64_t next_id, next_client;
    uint32_t n_loops;
    struct pst_loop *loops[PST_LOOPS_MAX];
    pthread_mutex_t mutex;
    struct {
        struct pst_http_client *clients;
        pst_http_stats gone; /* of the clients that are freed */
    } locked;
};

struct pst_socket {
    int fd;
    uint64_t inode; /* another file may have the number by now */
};

struct pst_http_client {
    atomic_uint refs; /* its owner, each lane */
    struct pst_net_instance *instance;
    struct pst_http_client *prev, *next; /* in the instance's list */
    struct pst_net_settings settings;
    uint32_t first_loop, n_loops; /* that it may use, from first_loop on, around the end */
    pthread_mutex_t mutex;
    struct {
        struct pst_lane *lanes[PST_LOOPS_MAX];
        struct pst_socket *sockets; /* opened, and perhaps closed since */
        uint32_t n_sockets, socket_room;
    } locked;
    atomic_uint_fast64_t requests, opened, reused, name_ns, connect_ns, tls_ns;
    atomic_uint_fast64_t bytes_sent, bytes_received;
};

struct pst_origin {
    struct pst_ring link;    /* in the lane */
    struct pst_ring ready;   /* in the loop, while somebody waits and may go */
    struct pst_ring waiting; /* transfers, in order */
    struct pst_ring kept;    /* slots with an idle connection, the one used last first */
    uint32_t n_kept;
    uint32_t n_active, quota; /* transfers under way; how many may be */
    int is_ready;
    int asks_before_sending; /* a large body: the last one was refused, or none was sent yet */
    int ignores_expect;      /* it has never answered an Expect */
    int is_https;
    char *url;              /* "http://host:port/" */
    const char *name;       /* "host:port" for messages, in the same block */
    const char *host_field; /* ... without the port where it goes without saying */
    pst_str authority;
};

struct pst_lane {
    struct pst_http_client *client;
    struct pst_loop *loop;
    struct pst_ring link;    /* in the loop */
    struct pst_ring idle[2]; /* slots; for http, for https */
    struct pst_ring origins;
    struct pst_ring retired; /* in the loop's locked.retired */
};

struct pst_loop {
    struct pst_net_instance *instance;
    uint32_t index;
    CURLM *multi;
    uint32_t n_libcurl; /* transfers and connections that libcurl is working on */
    int epoll, wake_fd;
    struct epoll_event events[PST_LOOP_EVENTS];
    int at_event, n_events;
    int n_deaf;          /* rounds since epoll was asked */
    struct pst_ring hot; /* wires that have something to do without an event */
    CURLSH *shares
        [PST_LOOP_SHARES]; /* names and TLS sessions; several, so that connections spread over addresses */
    uint32_t next_share;
    uint32_t n_active;
    uint64_t now_ns;
    uint64_t next_tidy_ns;  /* when to look for old connections */
    uint64_t next_check_ns; /* when the next deadline or stall may be due */
    struct pst_ring all;    /* transfers */
    struct pst_ring timed;  /* not yet to be begun, by time */
    struct pst_ring ready;  /* origins */
    struct pst_ring lanes;
    atomic_uint load;        /* transfers of its own, waiting ones too */
    struct pst_ring signals; /* taken from locked.signals */
    struct pst_blocks blocks;
    char scratch[PST_LOOP_SCRATCH_BYTES];
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t ended; /* the thread is about to return */
    struct {
        int has_thread, has_ended, is_stopping;
        int is_asleep; /* a wake-up is needed, and none is on its way */
        struct pst_ring inbox;
        struct pst_ring signals; /* transfers to be cancelled or resumed */
        struct pst_ring retired; /* lanes whose client is freed */
        struct pst_transfer *by_id[PST_LOOP_BUCKETS];
    } locked;
};

enum pst_stage {
    PST_STAGE_INBOX,
    PST_STAGE_TIMED,
    PST_STAGE_WAITING,
    PST_STAGE_ACTIVE,
    PST_STAGE_PARKED, /* complete on the wire, but accept has not answered yet */
};

/* Where the body of the reply goes. */
enum pst_receive_mode {
    PST_RECEIVE_NONE, /* accept has not been asked */
    PST_RECEIVE_TAKE,
    PST_RECEIVE_COLLECT,
    PST_RECEIVE_REJECT,
};

struct pst_transfer {
    struct pst_ring link; /* inbox, timed, or the origin's waiting */
    struct pst_ring all;
    struct pst_http_client *client;
    struct pst_loop *loop;
    struct pst_lane *lane;
    struct pst_origin *origin;
    struct pst_slot *slot; /* while active or parked */
    enum pst_stage stage;
    uint64_t id;
    struct {
        struct pst_transfer *next_by_id;
        struct pst_ring signal;
        int is_signalled, is_cancelled, is_resumed;
    } locked;

    /* The request; strings and arrays are in the same block of memory, of n_bytes. */
    size_t n_bytes;
    uint32_t flags;
    uint64_t op_id;
    const char *method;
    struct pst_url url;
    const char *whole_url, *target;
    struct curl_slist *headers;
    struct curl_slist *
        *expect; /* what leads to their last node, "Expect:"; NULL: it is not there */
    const pst_iov *body;
    size_t n_body;
    uint64_t body_bytes, body_max, deadline_ns, not_before_ns;
    int32_t (*accept)(void *ctx, const pst_http_head *head, pst_http_grant *grant);
    void (*done)(void *ctx, pst_rc rc, const pst_http_reply *reply);
    void *ctx;

    /* Sending: the next byte for libcurl. */
    size_t at_span, at_byte;
    uint64_t n_read;
    int asks_first; /* with Expect: 100-continue */
    int saw_continue;
    int was_sent;      /* whole, by a try before this one */
    int is_second_try; /* over a new connection: the kept one was closed */

    /* Receiving. */
    enum pst_receive_mode mode;
    int is_paused;    /* accept said so, and was not resumed yet */
    int is_held;      /* libcurl holds back bytes for it */
    int is_dropping;  /* rejected, and enough of it is kept */
    int is_cut;       /* ... and what was dropped is not empty */
    int is_abandoned; /* ended by us, successfully, before the end of the body */
    size_t n_skip;    /* of the block that is held back: taken already */
    const pst_iov *dst;
    size_t n_dst, at_dst, at_dst_byte;
    uint64_t n_received; /* of the body */
    uint64_t n_taken;    /* ... into dst */
    uint64_t first_byte_ns, last_progress_ns, last_sent;
    CURLcode parked_code;
    uint32_t crc32c;
    pst_rc rc;           /* why one of our callbacks ended it; PST_OK if none did */
    int is_refused;      /* ... since accept said so */
    const char *problem; /* ... in words, or NULL */
    struct pst_dynbuf collected;
};

struct pst_slot {
    struct pst_ring link; /* in the lane, while idle */
    struct pst_lane *lane;
    struct pst_transfer *transfer;
    CURL *easy;
    struct pst_wire *wire;           /* NULL: libcurl moves the bytes */
    struct pst_origin *kept_by;      /* made for a wire: whose connection it has */
    const struct pst_origin *origin; /* whose URL the handle has */
    int is_https;
    int is_added;   /* to the multi */
    int is_counted; /* in the loop's n_libcurl */
    int has_begun_tls;
    int kind;                /* of request, that the handle is set to */
    int is_upload;           /* ... with a body that libcurl asks for piece by piece */
    int is_fresh, is_single; /* set to a new connection; to close it afterwards */
    char method[PST_METHOD_MAX + 1];
    struct pst_head head;
    char error[CURL_ERROR_SIZE];
};

/* ---- net.c ---- */
struct pst_net_instance *pst_net_instance_of(const pst_host *host);
extern const pst_http_1 pst_net_http;
uint64_t pst_net_now_ns(void);
pst_rc pst_net_fail(pst_error *err, pst_rc rc, const char *message);

/* ---- client.c ---- */
void pst_client_ref(struct pst_http_client *client);
void pst_client_unref(struct pst_http_client *client);
/* What all clients of the instance have done, those that are freed included. */
void pst_client_sum_up(struct pst_net_instance *instance, pst_http_stats *out);
/* Remember a socket that was opened for it. */
void pst_client_note_socket(struct pst_http_client *client, int fd);

/* ---- request.c ---- */
/* Check and copy a request. Errors: INVALID, NO_MEMORY. */
pst_rc pst_transfer_new(struct pst_http_client *client, const pst_http_request *request,
                        struct pst_transfer **out);
void pst_transfer_free(struct pst_transfer *t);

/* ---- loop.c ---- */
pst_rc pst_loop_new(struct pst_net_instance *instance, uint32_t index, struct pst_loop **out);
/* Hand over a transfer, starting the thread if there is none. */
pst_rc pst_loop_send(struct pst_loop *loop, struct pst_transfer *t);
void pst_loop_signal(struct pst_loop *loop, uint64_t id, int is_cancel);
void pst_loop_retire(struct pst_loop *loop, struct pst_lane *lane);
void pst_loop_stop(struct pst_loop *loop);
/* Wait for the thread's end. Returns 0 if it has not come at CLOCK_MONOTONIC deadline_ns. */
int pst_loop_wait(struct pst_loop *loop, uint64_t deadline_ns);
/* Look for deadlines and stalls at `at_ns` at the latest. */
static inline void pst_loop_check_at(struct pst_loop *loop, uint64_t at_ns)
{
    if (at_ns < loop->next_check_ns)
        loop->next_check_ns = at_ns;
}
/* Take a transfer out of the table of ids: no cancel or resume finds it any more. */
void pst_loop_forget(struct pst_loop *loop, struct pst_transfer *t);
void pst_loop_free(struct pst_loop *loop);
/* The loop whose thread this is, or NULL. */
struct pst_loop *pst_loop_here(void);

/* ---- line.c: who may go; all on the loop's thread ---- */
struct pst_lane *pst_lane_of(struct pst_loop *loop, struct pst_http_client *client);
void pst_lane_free(struct pst_lane *lane);
/* Put a transfer in line: until its time, then behind those of its origin. 0: no memory. */
int pst_line_add(struct pst_transfer *t);
/* The next one that may go now, or NULL. It counts as active until it is removed. */
struct pst_transfer *pst_line_next(struct pst_loop *loop);
/* Take one out, whatever its stage. */
void pst_line_remove(struct pst_transfer *t);
/* Move those whose time has come behind the others. */
void pst_line_wake(struct pst_loop *loop);

/* ---- slot.c ---- */
void pst_slot_uncount(struct pst_slot *slot);
struct pst_slot *pst_slot_new(struct pst_lane *lane, int is_https);
/* Begin: a handle from the lane, set for this request, given to the multi. */
pst_rc pst_slot_start(struct pst_transfer *t);
/* The transfer has failed with `code`. If that was a kept connection which the server had closed, begin
 * again over a new one and return 1. */
int pst_slot_retry(struct pst_transfer *t, CURLcode code);
/* Take the handle out of the multi; what it has learnt stays readable. */
void pst_slot_stop(struct pst_slot *slot);
/* ... and give it back to its lane. */
void pst_slot_give_back(struct pst_slot *slot);
void pst_slot_free(struct pst_slot *slot);

/* ---- send.c: callbacks of libcurl ---- */
void pst_send_rewind(struct pst_transfer *t);
size_t pst_send_read(char *out, size_t size, size_t n, void *arg);
int pst_send_seek(void *arg, curl_off_t offset, int origin);

/* ---- receive.c ---- */
size_t pst_receive_header(char *line, size_t size, size_t n, void *arg);
size_t pst_receive_body(char *data, size_t size, size_t n, void *arg);
/* Deal with bytes of the body. Returns how many: less than all if accept asked for a pause; with
 * t->rc or is_abandoned set the transfer has to end. */
size_t pst_receive_piece(struct pst_transfer *t, const char *data, size_t len);
/* TAKE: where the next bytes go, and how many fit there. may_ask: when there is no room left ask accept
 * for more, with the same effects. */
size_t pst_receive_room(struct pst_transfer *t, int may_ask, char **dst);
/* ... they are there. */
void pst_receive_placed(struct pst_transfer *t, size_t len);
/* Ask accept again, after a pause. Returns 0 if the transfer has to end, with its rc. */
int pst_receive_resume(struct pst_transfer *t);

/* ---- finish.c ---- */
/* Whether the whole request may have reached the server, by this try. It is with libcurl still. */
int pst_finish_has_sent(const struct pst_transfer *t);
/* End a transfer: take it from libcurl, call done, free it. `code` is what libcurl made of it; `rc` is
 * PST_OK, or why we end it, with `problem` in words or NULL. */
void pst_finish(struct pst_transfer *t, CURLcode code, pst_rc rc, const char *problem);

#endif
