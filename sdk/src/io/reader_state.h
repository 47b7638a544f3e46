/* reader_state.h - one reader, shared by reader.c (delivery), reader_window.c (ranges ahead),
 * reader_take.c (the next of them) and reader_decode.c (decompression on the way). */
#ifndef PST_IO_READER_STATE_H
#define PST_IO_READER_STATE_H

#include <penstock/reader.h>

#include "io/call.h"
#include "io/get.h"

struct pst_decoder;

/* One range, from its launch until its bytes were taken. */
struct pst_reader_part {
    struct pst_reader *reader;
    struct pst_get *get;   /* NULL: the slot is free */
    pst_buffer *buffer;    /* where it goes; made by the get itself if that is `is_late` */
    uint64_t offset;       /* in the object */
    uint64_t length;       /* asked for */
    uint64_t budget_bytes; /* ours until the bytes are taken */
    pst_rc rc;
    int is_late, is_ready;
};

/* What the application reads from now. */
struct pst_reader_piece {
    pst_buffer *buffer; /* NULL: none */
    size_t at, n;
    uint64_t budget_bytes;
};

struct pst_reader {
    atomic_uint refs; /* the handle, each range under way */
    struct pst_port *port;
    pst_context *context; /* the handle's */
    uint32_t generation;
    uint32_t flags; /* PST_READ_* as the application gave them */
    pst_call call;
    char *kept; /* the texts below */
    pst_str key, if_match, version;
    uint64_t offset, length; /* as asked for */
    uint64_t part_bytes;
    uint32_t n_ahead, hedge_after_ms, expected_crc32c;
    uint64_t began_ns;
    struct pst_gate gate; /* its mutex guards `locked` */

    /* The application's side; one thread at a time. */
    struct pst_reader_piece piece;
    struct pst_decoder *decoder; /* NULL: as stored */
    pst_rc rc;                   /* stays, once it is not PST_OK */
    pst_error error;
    pst_read_info info;                  /* n_read, crc32c and what the ranges told so far */
    uint64_t stored_bytes, agreed_bytes; /* taken; ... of them with a checksum of the store */
    uint32_t stored_crc32c;
    struct pst_claims *claims; /* with PST_READ_VERIFY; fed with what is taken */
    int is_over;               /* the end was reported, or will be with the bytes at hand */

    struct {
        struct pst_reader_part parts[PST_READ_IN_FLIGHT_MAX]; /* range i in slot i % n_ahead */
        uint64_t n_launched, n_taken;
        uint64_t next, end; /* in the object: not asked for yet; PST_UNKNOWN until it is known */
        uint64_t object_size;
        uint32_t etag_strength, n_under_way, most_under_way;
        char etag[sizeof(((pst_read_info *)0)->etag)];
        size_t etag_len;
        int is_learned;        /* a first reply has told size and etag */
        int is_sequential;     /* ... but no size: range after range, until one comes short */
        int is_whole;          /* it cannot be pinned: all of it by one read */
        int is_stopped;        /* a range failed: none is launched any more */
        int is_closing;        /* none will be taken either */
        struct pst_task *look; /* the stat that asks for checksums */
    } locked;
};

/* ---- reader_window.c ---------------------------------------------------------------------------- */

/* Length and number of the ranges that fit `budget_bytes`; those asked for may be 0, to be chosen here.
 * Pure. Errors: OVER_BUDGET, naming both sizes, where not even one part fits. */
struct pst_reader_wish {
    uint64_t length; /* of the whole stream, or PST_UNKNOWN */
    uint64_t part_bytes;
    uint32_t max_in_flight;
    int is_decoded;
};
pst_rc pst_reader_plan(uint64_t budget_bytes, const pst_limits *limits,
                       const struct pst_reader_wish *wish, uint64_t *part_bytes, uint32_t *n_ahead,
                       pst_error *err);

/* Start the first range. Errors: NO_MEMORY. */
pst_rc pst_reader_start(struct pst_reader *reader);

/* Keep as many ranges ahead as the plan and the budget allow. */
void pst_reader_top_up(struct pst_reader *reader);

/* Give the piece at hand back to where it came from. */
void pst_reader_drop_piece(struct pst_reader *reader);

/* Nothing more will be taken: give back what waits, stop what is under way. What that still brings is
 * dropped where it ends. */
void pst_reader_stop(struct pst_reader *reader);

void pst_reader_unref(struct pst_reader *reader);

/* When nothing is under way, since there was no room for it: wait for some and launch the next range.
 * Errors: CANCELLED, DEADLINE, NO_MEMORY. */
pst_rc pst_reader_launch_head(struct pst_reader *reader, const struct pst_limit *limit);

/* Empty a slot whose range has ended. */
struct pst_reader_part pst_reader_clear_locked(struct pst_reader_part *part);

/* Release what was in a slot; without the lock. */
void pst_reader_drop_part(struct pst_reader_part part);

/* Ask for the checksums of what is read, once its first reply is known: a task to be submitted, with a
 * reference, or NULL. It ends as locked.look becomes NULL. */
struct pst_task *pst_reader_ask_locked(struct pst_reader *reader,
                                       const struct pst_get_outcome *outcome);

/* ---- reader_take.c ------------------------------------------------------------------------------ */

/* Take the next range, waiting for it; the piece at hand must be empty. With *is_end 1 there is none.
 * The piece's checks are done: it is of the pinned version and as long as it must be. */
pst_rc pst_reader_take(struct pst_reader *reader, const struct pst_limit *limit, int *is_end);

/* Was the last range taken? */
int pst_reader_is_last(struct pst_reader *reader);

/* Fail for good: `cause` (NULL: the text of rc) with operation and key before it. Returns rc. */
pst_rc pst_reader_fail(struct pst_reader *reader, pst_rc rc, const pst_error *cause);

/* ---- reader_decode.c ---------------------------------------------------------------------------- */

/* As pst_reader_read and pst_reader_next, of what the stream holds. */
pst_rc pst_reader_decode(struct pst_reader *reader, const struct pst_limit *limit, void *dst,
                         size_t capacity, size_t *n_read);
pst_rc pst_reader_decode_next(struct pst_reader *reader, const struct pst_limit *limit,
                              pst_buffer **out);

/* At the end: compare what was delivered with what was expected, what was taken with what the store
 * keeps. Errors: DATA_LOSS, naming both. */
pst_rc pst_reader_check_sums(struct pst_reader *reader);

#endif
