/* dio.h - what the parts of the directio plugin share. Private to this folder. Names, publishing,
 * attributes, listings come from ../file/file.h; here is only how bytes reach the disk. */
#ifndef DIO_DIO_H
#define DIO_DIO_H

#include "../file/file.h"

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>

#define DIO_DEPTH_MAX 64u
#define DIO_ALIGN_MAX 65536u
#define DIO_BOUNCE_SLOTS 4u
#define DIO_BOUNCE_SLOT_BYTES (512u << 10) /* four of them: one huge page */
#define DIO_DIRECT_MIN (64u << 10)         /* copying less costs less than a request of its own */

/* What was wished for and is not there. Bits. */
enum dio_fallback {
    DIO_NO_RING = 1,   /* io_uring: preadv and pwritev on the caller's thread instead */
    DIO_NO_DIRECT = 2, /* O_DIRECT: the page cache instead */
    DIO_NO_FIXED = 4   /* registered buffers: plain ones instead */
};
#define DIO_NOTES 8u
#define DIO_NOTE_SIZE 384u

enum dio_mode { DIO_AUTO, DIO_OFF, DIO_REQUIRE };

struct dio_store {
    pst_backend *tree;
    const pst_host *host;
    uint32_t depth;
    size_t block_bytes;    /* of one request at most; a multiple of DIO_ALIGN_MAX */
    uint64_t min_io_bytes; /* shorter requests go through the page cache */
    uint32_t alignment;    /* 0: as the file system says */
    uint32_t page_bytes;
    enum dio_mode direct;
    int is_ring_off;     /* by option */
    int has_rings;       /* the one made at open has shown it */
    int has_fixed;       /* registered buffers are wished for */
    atomic_uint missing; /* enum dio_fallback */
    pst_limits limits;
    char notes[DIO_NOTES][DIO_NOTE_SIZE]; /* one for each value of `missing` */
    pthread_mutex_t mutex;
    struct {
        struct dio_channel *idle;
        uint32_t n_bounces; /* idle channels that keep their bounce memory */
    } locked;
};

/* ---- plan.c: cut a transfer into requests. No I/O ---------------------------------------------- */

struct dio_align {
    uint32_t mem, offset;
    int is_reported; /* by the file system, not assumed */
};

struct dio_plan {
    struct fst_place place;
    uint64_t pos, end; /* bytes of the file that are still to be planned */
    uint64_t room_end; /* the file offset to which the spans may be overwritten */
    struct dio_align align;
    size_t block_bytes; /* a multiple of align.offset */
};

/* One request: `n` bytes at `pos`, moved as `io_len` bytes at `io_pos`, which are aligned. */
struct dio_step {
    void *direct;           /* where they go to or come from; NULL: through a bounce slot */
    struct fst_place place; /* of the n bytes */
    uint64_t pos, io_pos;
    size_t n, io_len;
};

/* 0 when all is planned. */
int dio_plan_next(struct dio_plan *plan, struct dio_step *step);
/* Will the next step need a bounce slot? */
int dio_plan_bounces(const struct dio_plan *plan);

void dio_scatter(const struct dio_step *step,
                 const char *bounce);                       /* a read's bounce to its spans */
void dio_gather(const struct dio_step *step, char *bounce); /* a write's spans to its bounce */

static inline uint64_t dio_down(uint64_t n, uint32_t align)
{
    return n - n % align;
}

static inline uint64_t dio_up(uint64_t n, uint32_t align)
{
    return dio_down(n + align - 1, align);
}

/* ---- channel.c: a ring and bounce memory, for one operation at a time ---------------------------- */

struct dio_slot {
    struct dio_step step;
    char *memory; /* of the request */
    size_t done;
    int is_busy;
    int bounce; /* index, -1: none */
};

struct dio_channel {
    struct dio_channel *next;
    struct io_uring ring;
    int has_ring, is_fixed;
    char *bounce; /* DIO_BOUNCE_SLOTS slots, or NULL */
    uint32_t bounces_busy;
    struct dio_slot slots[]; /* depth */
};

/* Errors are errnos. A channel without a ring is good for one request after the other. */
int dio_channel_take(struct dio_store *d, int with_ring, struct dio_channel **out);
int dio_channel_need_bounce(struct dio_store *d, struct dio_channel *c);
void dio_channel_give(struct dio_store *d, struct dio_channel *c);
void dio_channel_drop_ring(struct dio_store *d, struct dio_channel *c);
void dio_channels_free(struct dio_store *d);

/* ---- move.c: run a plan --------------------------------------------------------------------------- */

enum dio_verdict {
    DIO_DONE,    /* moved, *n_bytes of them */
    DIO_FAILED,  /* op->err is filled */
    DIO_REFUSED, /* the file system does not do this with O_DIRECT; nothing is under way any more */
};

enum dio_verdict dio_move(struct dio_store *d, pst_op *op, pst_str key, int fd, int is_write,
                          const struct dio_plan *plan, pst_rc *rc, uint64_t *n_bytes);

/* ---- direct.c: reading and writing objects; directio.c: the plugin ---------------------------------- */

extern const struct fst_data_ops dio_direct;

/* Something wished for is not there: seen in the store's note from now on, logged once per store. */
void dio_miss(struct dio_store *d, enum dio_fallback what, int sys_errno);

#endif
