/* plan.c - cut a transfer into requests that O_DIRECT takes.
 *
 * O_DIRECT wants file offset, length and memory address to be multiples of what the file system says
 * (512 on most disks, 4096 on some). An application wants any bytes of the object at any address. So
 * a transfer becomes steps of two kinds:
 *
 *   direct   file offset and address are aligned at the same byte of a span: the disk writes straight
 *            into the destination, whole units only. A step ends where the span, the block or the
 *            aligned bytes end. Where a granted buffer has room behind the last byte, the last unit
 *            goes there whole; a caller's own buffer is never written past its end.
 *   bounce   all else: units that cover the bytes are moved to or from a slot of aligned memory, and
 *            the bytes wanted are copied. A head and a tail are such steps, and so is everything if
 *            the caller's address does not fit. Spans of a few bytes share a slot.
 *
 * A run of direct bytes below DIO_DIRECT_MIN joins a bounce: copying it takes less time than a request.
 * For writes the caller plans whole units only, so a bounce never needs bytes of the file. */
#include "dio.h"

#include <string.h>

/* Drop spans that are used up, so that place.iov[0] has bytes unless nothing is left. */
static void normalize(struct fst_place *place)
{
    fst_place_advance(place, 0);
}

/* How many bytes may move straight to this address, beginning at the aligned `pos`? */
static uint64_t direct_bytes(const struct dio_plan *plan, const char *at, size_t span_left,
                             uint64_t pos)
{
    const uint32_t unit = plan->align.offset;
    uint64_t left = plan->end - pos, n = span_left < left ? span_left : left;

    if ((uintptr_t)at % plan->align.mem != 0)
        return 0;
    uint64_t whole = dio_down(n, unit), rounded = dio_up(n, unit);
    if (n == left && rounded <= span_left && pos + rounded <= plan->room_end)
        return rounded; /* the end of the transfer, and the rest of the unit may be written too */
    return whole;
}

/* Are they enough for a request of their own? */
static int is_worthwhile(const struct dio_plan *plan, uint64_t pos, uint64_t n)
{
    return n > 0 && (n >= DIO_DIRECT_MIN || pos + n >= plan->end);
}

static uint64_t direct_here(const struct dio_plan *plan)
{
    const struct fst_place *p = &plan->place;

    if (plan->pos % plan->align.offset != 0 || p->n_iov == 0)
        return 0;
    uint64_t n = direct_bytes(plan, (char *)p->iov->ptr + p->skip, p->iov->len - p->skip,
                              plan->pos);
    return is_worthwhile(plan, plan->pos, n) ? n : 0;
}

/* Bytes from here to the next place where a direct step can begin, at most `max`. */
static uint64_t bytes_to_direct(const struct dio_plan *plan, uint64_t max)
{
    const uint32_t unit = plan->align.offset;
    uint64_t pos = plan->pos, stop = plan->end - pos < max ? plan->end : pos + max;

    for (size_t i = 0; i < plan->place.n_iov && pos < stop; i++) {
        size_t skip = i == 0 ? plan->place.skip : 0;
        const pst_iov *span = &plan->place.iov[i];
        uint64_t left = span->len - skip, aligned = dio_up(pos, unit);
        if (aligned == plan->pos) /* there it was found not to be worth while */
            aligned += unit;
        if (aligned < stop && aligned - pos < left) {
            uint64_t lead = aligned - pos;
            uint64_t n = direct_bytes(plan, (char *)span->ptr + skip + lead, (size_t)(left - lead),
                                      aligned);
            if (is_worthwhile(plan, aligned, n))
                return aligned - plan->pos;
        }
        pos += left;
    }
    return stop - plan->pos;
}

int dio_plan_bounces(const struct dio_plan *plan)
{
    struct dio_plan copy = *plan;

    normalize(&copy.place);
    return copy.pos < copy.end && direct_here(&copy) == 0;
}

int dio_plan_next(struct dio_plan *plan, struct dio_step *step)
{
    const uint32_t unit = plan->align.offset;

    normalize(&plan->place);
    if (plan->pos >= plan->end)
        return 0;
    uint64_t n = direct_here(plan);
    step->place = plan->place;
    step->pos = plan->pos;
    step->io_pos = dio_down(plan->pos, unit);
    if (n > 0) {
        step->direct = (char *)plan->place.iov->ptr + plan->place.skip;
        step->io_len = n < plan->block_bytes ? (size_t)n : plan->block_bytes;
        step->n = plan->end - plan->pos < step->io_len ? (size_t)(plan->end - plan->pos)
                                                       : step->io_len;
    } else {
        step->direct = NULL;
        step->n = (size_t)bytes_to_direct(plan, DIO_BOUNCE_SLOT_BYTES - (plan->pos - step->io_pos));
        step->io_len = (size_t)(dio_up(plan->pos + step->n, unit) - step->io_pos);
    }
    plan->pos += step->n;
    fst_place_advance(&plan->place, step->n);
    return 1;
}

/* Copy between the spans of a step and its bounce slot. */
static void copy_step(const struct dio_step *step, char *bounce, int is_read)
{
    struct fst_place place = step->place;
    char *at = bounce + (step->pos - step->io_pos);
    size_t left = step->n;

    while (left > 0) {
        size_t n = place.iov->len - place.skip;
        if (n > left)
            n = left;
        char *span = (char *)place.iov->ptr + place.skip;
        if (n > 0)
            memcpy(is_read ? span : at, is_read ? at : span, n);
        at += n;
        left -= n;
        fst_place_advance(&place, n);
    }
}

void dio_scatter(const struct dio_step *step, const char *bounce)
{
    copy_step(step, (char *)(uintptr_t)bounce, 1);
}

void dio_gather(const struct dio_step *step, char *bounce)
{
    copy_step(step, bounce, 0);
}
