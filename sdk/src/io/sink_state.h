/* sink_state.h - the state of a sink, shared by sink.c (what is sent) and sink_trip.c (how it ends). */
#ifndef PST_IO_SINK_STATE_H
#define PST_IO_SINK_STATE_H

#include "io/sink.h"

/* One operation on its way, with the bytes it carries. Lives in its task. */
struct pst_trip {
    struct pst_sink *sink;
    struct pst_task *task;
    struct pst_cargo *cargo;
    struct pst_trip *prev, *next; /* under way */
    int is_done, is_abandoned;
    pst_rc rc;
    struct pst_summing summing;
    pst_sum sums[PST_SUMS_MAX];
    size_t n_src;
    pst_iov src[]; /* the spans of the cargo */
};

struct pst_sink {
    atomic_uint refs; /* the writer, each trip */
    struct pst_port *port;
    pst_str key, if_match; /* into `texts` */
    char *texts;
    pst_attr *attr;
    uint32_t put_flags;
    uint64_t size_hint;
    struct pst_task *abort_task; /* made with the upload, used once */
    struct pst_timer free_timer;
    struct pst_gate gate;
    struct {
        pst_upload *upload;
        struct pst_trip *trips;
        uint32_t n_trips;
        int is_committed, is_aborted, wants_abort;
        int is_in_doubt; /* a put or commit failed, and may have happened */
        pst_rc rc;       /* first failure of a part */
        pst_rc abort_rc;
        pst_error error, abort_error;
    } locked; /* under gate.mutex; trips too */
};

/* The last reference is gone. */
void pst_sink_end(struct pst_sink *sink);

/* Make a task and its trip. NULL for lack of memory. */
struct pst_trip *pst_trip_new(struct pst_sink *sink, enum pst_slot slot, struct pst_cargo *cargo);

/* Which sums go with it: those that ran along, and digests of the cargo once it is started. */
void pst_trip_add_sums(struct pst_trip *trip, const struct pst_sums *sums, uint32_t *n);

/* Start it. The reference to the task that the caller holds becomes the trip's; take another one to
 * wait. The abort was counted, and has its reference to the sink, since it was taken. */
void pst_trip_start(struct pst_trip *trip, uint32_t max_attempts, uint32_t affinity,
                    uint64_t deadline_ns);

/* Start it and wait for its end; the caller holds a reference to the task of its own. When the wait is
 * cut short the trip goes on alone, with its cargo. */
pst_rc pst_trip_run(struct pst_trip *trip, const struct pst_sink_run *run, pst_error *err);

/* Wait until at most `n_left` trips are under way or a part has failed. */
pst_rc pst_trip_wait(struct pst_sink *sink, const struct pst_limit *limit, uint32_t n_left,
                     pst_error *err);

/* Ask all of them to hurry, but the opening of the upload and the abort. */
void pst_trip_cancel_all(struct pst_sink *sink);

/* With the mutex held: is it time to abort? Then turn the task that was put aside into a trip. */
int pst_trip_is_abort_due(const struct pst_sink *sink);
struct pst_trip *pst_trip_take_abort(struct pst_sink *sink);

#endif
