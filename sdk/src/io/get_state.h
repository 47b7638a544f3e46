/* get_state.h - the state of one read, shared by the files of the range engine:
 *
 *     get.c        its life: made, first read, stopped, ended
 *     get_first.c  the first reply, and objects whose size nobody tells
 *     get_range.c  the rest, in ranges
 *     get_try.c    requests for one range: one, or two when it is late
 *     get_sum.c    checksums
 *     get_verify.c where those come from that the bytes are compared with
 *     get_dst.c    the destination of a first read: memory, the budget, the line for it
 *     get_pace.c   how long ranges are and how many travel, pure */
#ifndef PST_IO_GET_STATE_H
#define PST_IO_GET_STATE_H

#include "io/get.h"

#define PST_GET_ETAG_MAX 1100u

enum pst_get_memory {
    PST_MEMORY_NONE,
    PST_MEMORY_IN_LINE,  /* for the budget; a reference to the get is held */
    PST_MEMORY_RESERVED, /* reserved_bytes are ours */
    PST_MEMORY_LEFT      /* the read ended while it was in line and being served */
};

struct pst_span;

/* One request for a span. It has a reference to the get. With `spare` it writes to memory of its own,
 * and may be left behind: its span is NULL then and it frees itself when it ends. */
struct pst_try {
    struct pst_get *get;
    struct pst_span *span; /* under get->mutex */
    struct pst_task *task;
    pst_buffer *spare;
    uint64_t reserved_bytes; /* of the budget, for `spare` */
};

/* How a request gets its destination. */
enum pst_aim {
    PST_AIM_DIRECT, /* the span's place in the destination */
    PST_AIM_LATE,   /* there too, once the object's size is known */
    PST_AIM_SPARE   /* memory of its own */
};

/* The stat that asks for checksums. */
enum pst_ask { PST_ASK_NOT, PST_ASK_UNDER_WAY, PST_ASK_OVER };

struct pst_stretch {
    uint64_t from, n; /* of the destination */
};

/* One range of the destination that is being read: the first one, or one of the rest. */
struct pst_span {
    struct pst_get *get;
    void (*settled)(struct pst_span *, pst_rc, const pst_error *cause); /* no lock held */
    uint64_t from, length; /* of the destination; what was asked for */
    uint64_t n_read;       /* of them: what the reply brought and the read wants */
    uint64_t begun_ns;
    uint64_t looked_ns; /* when it was last found too early, or too poor, for a second request */
    struct pst_try *tries[2];
    struct pst_try *winner; /* one of the two: it has its bytes */
    uint32_t crc32c;
    int is_busy;
    int is_hedged; /* a second request was made, or is not allowed */
    struct pst_job job;
};

struct pst_get {
    atomic_uint refs;
    struct pst_get_spec spec; /* texts and dst point into `kept` */
    struct pst_get_outcome outcome;
    pst_error error;
    pthread_mutex_t mutex;
    struct pst_budget_waiter waiter;
    struct pst_timer hedge_timer; /* holds a reference while it is armed */
    uint64_t capacity;            /* of spec.dst */
    uint64_t begun_ns;
    struct pst_span first;  /* the first read; then those of an object whose size nobody tells */
    struct pst_span *spans; /* n_spans of them, for the rest */
    uint32_t n_spans;
    int is_single;             /* the rest is one range, since the object cannot be pinned */
    struct pst_claims *claims; /* with PST_READ_VERIFY: the owner's, or its own */
    uint64_t base;             /* where the destination begins in the object, once that is known */
    struct pst_stretch *unfed; /* n_unfed that came before there were claims; under the mutex */
    size_t n_unfed, max_unfed;
    struct pst_job feed_job;
    struct {
        enum pst_get_memory memory;
        uint64_t reserved_bytes;
        uint64_t next;         /* of the destination, not yet asked for */
        uint64_t total;        /* bytes this read will deliver, once known */
        uint64_t agreed_bytes; /* ... of them those whose reply came with a checksum that agrees */
        uint32_t n_running;    /* spans that are not closed; plus one while the read is set going */
        uint32_t n_asked;      /* ... of them those at the plugin */
        uint32_t crc32c;       /* sum of what the closed ones contribute */
        struct pst_pace pace;
        struct pst_task *late; /* the request that may stand in line for memory */
        pst_rc rc;             /* the first failure */
        int is_stopped, is_ended;
        enum pst_ask asks;
        struct pst_task *look; /* the stat under way */
        int is_watched;        /* hedge_timer is armed, for watch_due_ns */
        uint64_t watch_due_ns;
    } locked;
    /* From here on not cleared when it is made. */
    char etag[PST_GET_ETAG_MAX]; /* outcome.etag tells how much of it */
    pst_iov kept[];              /* destinations, and texts behind them */
};

/* ---- get.c: its life --------------------------------------------------------------------------- */

void pst_get_fail_locked(struct pst_get *get, pst_rc rc, const pst_error *cause);
void pst_get_fail_for_memory(struct pst_get *get);

/* Cancel what runs; each request's own end follows. */
void pst_get_stop_running(struct pst_get *get, pst_rc code);

/* n_running is 0: end the read. */
void pst_get_end(struct pst_get *get);

/* Bytes that the caller asked for, PST_UNKNOWN for all there are. */
uint64_t pst_get_requested(const struct pst_get *get);

/* ---- get_range.c: the rest, in ranges ----------------------------------------------------------- */

/* Ask for what is missing between locked.next and locked.total. */
void pst_get_start_rest(struct pst_get *get);

/* Bring the bytes of a settled span to their place, sum them, close it. Ends the read when it was the
 * last one. `has_bytes` 0: there is nothing to do but close it. */
void pst_get_close_span(struct pst_span *span, int has_bytes);

int pst_get_is_same_version(const struct pst_get *get, const pst_read_result *r);

/* ---- get_try.c: requests for one span ----------------------------------------------------------- */

/* Make the first request for a span whose from, length and settled are set. Returns its task with a
 * reference for pst_get_submit, or NULL: then the read has failed for lack of memory. */
struct pst_task *pst_get_aim_locked(struct pst_span *span, enum pst_aim aim);
void pst_get_submit(struct pst_get *get, struct pst_task *task);

/* Which kind of destination the first request of a span has. */
enum pst_aim pst_get_aim_of(const struct pst_get *get, int is_first);

/* See to it that somebody looks when the next range is late. */
void pst_get_watch_locked(struct pst_get *get);

/* The read ends: nobody looks any more. Returns 1 when a reference must be dropped. */
int pst_get_unwatch_locked(struct pst_get *get);
void pst_get_watch_init(struct pst_get *get);

void pst_try_free(struct pst_try *try);

/* ---- get_sum.c: copies and checksums ------------------------------------------------------------ */

/* The part [from, from + len) of the destination; returns how many spans it has, at most those of the
 * destination. */
size_t pst_get_slice(const struct pst_get *get, uint64_t from, uint64_t len, pst_iov *out);

/* Copy from the winner's own memory, if it has some, and sum, if the caller wants it: in blocks, so
 * that a byte is touched once. Errors: DATA_LOSS, for a checksum of the store. */
pst_rc pst_get_work(struct pst_span *span, pst_error *err);

/* Sum bytes that are in the destination, for the claims alone. Errors: as above. */
pst_rc pst_get_feed_again(struct pst_get *get, uint64_t from, uint64_t n, pst_error *err);

/* Take what the reply says about checksums. Errors: DATA_LOSS. */
pst_rc pst_get_note_sums_locked(struct pst_span *span, pst_error *err);

/* The whole has arrived: compare. Errors: DATA_LOSS. */
pst_rc pst_get_check_sums(struct pst_get *get, pst_error *err);

/* ---- get_verify.c: what is compared with --------------------------------------------------------- */

/* The first reply is good: take the sums it brought, or ask for some. */
void pst_get_learn_sums(struct pst_get *get, const struct pst_task *first);

/* These bytes are in place, and there are no claims yet: they are summed once there are. */
void pst_get_unfed(struct pst_get *get, uint64_t from, uint64_t n);

/* ---- get_dst.c: the destination of a first read -------------------------------------------------- */

pst_rc pst_get_on_dst(struct pst_task *task, const pst_dst_args *args, pst_dst_grant *grant);
void pst_get_on_dst_cancelled(struct pst_task *task);

/* Get out of the line for memory. Returns 1 when the read was in it and will not be served. */
int pst_get_leave_line(struct pst_get *get);

/* Make room for `need` bytes, or `wish` where the budget allows, since nobody told the size before;
 * keeps the first `used` bytes. Errors: OVER_BUDGET, NO_MEMORY. */
pst_rc pst_get_grow_locked(struct pst_get *get, uint64_t need, uint64_t wish, uint64_t used,
                           pst_error *err);

#endif
