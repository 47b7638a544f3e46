/* move.c - run a plan: requests on a ring, as many at a time as the queue is deep, or one after the
 * other where there is no ring.
 *
 * The same steps serve both: start() hands a request to the ring, or makes the system call itself and
 * passes the result on. finish() judges a result: a short one is continued, a read that meets the end
 * of the file stops the plan, an error stops it too. Whatever happens, the function returns only when
 * nothing is under way: the destination is quiet then, also after a cancel.
 *
 * If the ring itself fails (a sandbox that closes later), what it had accepted is waited for, the rest is
 * done without it, and the store goes on without rings. EINVAL of a request means that the file system
 * refuses it with O_DIRECT: the caller does it through the page cache.
 *
 * Does not cancel requests that the disk already has: they cannot be called back, and take milliseconds.
 */
#include "dio.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <penstock/sync.h>

#define QUIET_POLL_NS 200000

struct move {
    struct dio_store *store;
    pst_op *op;
    struct dio_channel *channel;
    struct dio_plan plan;
    int fd, is_write, has_ring;
    uint32_t depth, n_busy;
    uint64_t n_bytes;
    int sys_errno; /* the first error */
    int is_stopped, is_refused, is_cancelled;
    int is_over; /* all is planned */
};

static void finish(struct move *m, struct dio_slot *slot, ssize_t result);

static ssize_t call(const struct move *m, const struct dio_slot *slot)
{
    ssize_t n;

    do {
        char *at = slot->memory + slot->done;
        size_t left = slot->step.io_len - slot->done;
        off_t pos = (off_t)(slot->step.io_pos + slot->done);
        n = m->is_write ? pwrite(m->fd, at, left, pos) : pread(m->fd, at, left, pos);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static void start(struct move *m, struct dio_slot *slot)
{
    struct io_uring_sqe *sqe = m->has_ring ? io_uring_get_sqe(&m->channel->ring) : NULL;

    if (!sqe) { /* there is one for each slot, so only without a ring */
        finish(m, slot, call(m, slot));
        return;
    }
    char *at = slot->memory + slot->done;
    unsigned left = (unsigned)(slot->step.io_len - slot->done);
    uint64_t pos = slot->step.io_pos + slot->done;
    int is_fixed = slot->bounce >= 0 && m->channel->is_fixed;
    if (is_fixed && m->is_write)
        io_uring_prep_write_fixed(sqe, m->fd, at, left, pos, 0);
    else if (is_fixed)
        io_uring_prep_read_fixed(sqe, m->fd, at, left, pos, 0);
    else if (m->is_write)
        io_uring_prep_write(sqe, m->fd, at, left, pos);
    else
        io_uring_prep_read(sqe, m->fd, at, left, pos);
    io_uring_sqe_set_data(sqe, slot);
}

static void release(struct move *m, struct dio_slot *slot)
{
    slot->is_busy = 0;
    m->n_busy--;
    if (slot->bounce >= 0)
        m->channel->bounces_busy &= ~(1u << slot->bounce);
}

static void stop(struct move *m, struct dio_slot *slot, int sys_errno)
{
    if (!m->is_stopped && sys_errno == EINVAL)
        m->is_refused = 1;
    else if (!m->is_stopped)
        m->sys_errno = sys_errno;
    m->is_stopped = 1;
    release(m, slot);
}

static void finish(struct move *m, struct dio_slot *slot, ssize_t result)
{
    const struct dio_step *step = &slot->step;
    /* A read is complete with its last wanted byte; what the unit has behind it may be missing. */
    const size_t needed = m->is_write ? step->io_len : (size_t)(step->pos - step->io_pos) + step->n;

    if (result == -EINTR || result == -EAGAIN) /* the ring could not wait: this thread can */
        result = call(m, slot);
    if (result == 0 && m->is_write)
        result = -EIO;
    if (result < 0) {
        stop(m, slot, (int)-result);
        return;
    }
    slot->done += (size_t)result;
    if (slot->done >= needed) {
        if (slot->bounce >= 0 && !m->is_write)
            dio_scatter(step, slot->memory);
        m->n_bytes += step->n;
        release(m, slot);
        return;
    }
    size_t whole = (size_t)dio_down(slot->done, m->plan.align.offset);
    if (!m->is_write && (result == 0 || whole != slot->done)) { /* the file has become shorter */
        m->is_stopped = 1;
        release(m, slot);
        return;
    }
    slot->done = whole; /* O_DIRECT goes on at a whole unit */
    start(m, slot);
}

/* Begin as many steps as there are places for. */
static void fill(struct move *m)
{
    struct dio_channel *c = m->channel;

    for (uint32_t i = 0; i < m->depth && !m->is_stopped && !m->is_over; i++) {
        struct dio_slot *slot = &c->slots[i];
        if (slot->is_busy)
            continue;
        if (m->n_bytes > 0 && pst_sync_cancelled(m->op)) {
            m->is_cancelled = m->is_stopped = 1;
            return;
        }
        int bounce = -1;
        if (dio_plan_bounces(&m->plan)) {
            for (bounce = 0; bounce < (int)DIO_BOUNCE_SLOTS; bounce++) {
                if (!(c->bounces_busy & 1u << bounce))
                    break;
            }
            if (bounce == (int)DIO_BOUNCE_SLOTS)
                return;
            if (dio_channel_need_bounce(m->store, c) != 0) {
                m->sys_errno = ENOMEM;
                m->is_stopped = 1;
                return;
            }
        }
        m->is_over = !dio_plan_next(&m->plan, &slot->step);
        if (m->is_over)
            return;
        slot->bounce = bounce;
        slot->done = 0;
        slot->is_busy = 1;
        m->n_busy++;
        if (bounce >= 0) {
            c->bounces_busy |= 1u << bounce;
            slot->memory = c->bounce + (size_t)bounce * DIO_BOUNCE_SLOT_BYTES;
            if (m->is_write)
                dio_gather(&slot->step, slot->memory);
        } else {
            slot->memory = slot->step.direct;
        }
        start(m, slot);
    }
}

/* The ring does not take requests any more. Wait for those it took, do the others here. */
static void leave_ring(struct move *m, int sys_errno)
{
    struct io_uring *ring = &m->channel->ring;
    struct io_uring_cqe *cqe;
    uint32_t n_accepted = m->n_busy - io_uring_sq_ready(ring);

    if (sys_errno != EAGAIN && sys_errno != EBUSY) /* those will pass */
        dio_miss(m->store, DIO_NO_RING, sys_errno);
    m->has_ring = 0;
    while (n_accepted > 0) {
        if (io_uring_peek_cqe(ring, &cqe) == 0) {
            struct dio_slot *slot = io_uring_cqe_get_data(cqe);
            ssize_t result = cqe->res;
            io_uring_cqe_seen(ring, cqe);
            n_accepted--;
            finish(m, slot, result);
        } else {
            const struct timespec wait = {.tv_nsec = QUIET_POLL_NS};
            nanosleep(&wait, NULL); /* entering the kernel lets completions arrive */
        }
    }
    dio_channel_drop_ring(m->store, m->channel);
    for (uint32_t i = 0; i < m->depth; i++) {
        struct dio_slot *slot = &m->channel->slots[i];
        if (slot->is_busy && m->is_stopped)
            release(m, slot);
        else if (slot->is_busy)
            finish(m, slot, call(m, slot));
    }
}

/* Hand over what is prepared and wait for at least one result. */
static void reap(struct move *m)
{
    struct io_uring *ring = &m->channel->ring;
    struct io_uring_cqe *cqe;
    int rc = io_uring_submit_and_wait(ring, 1);

    if ((rc == -EAGAIN || rc == -EBUSY) && io_uring_sq_ready(ring) < m->n_busy)
        rc = io_uring_wait_cqe(ring, &cqe); /* short of memory: the next submit comes after this */
    if (rc < 0 && rc != -EINTR) {
        leave_ring(m, -rc);
        return;
    }
    while (m->has_ring && io_uring_peek_cqe(ring, &cqe) == 0) {
        struct dio_slot *slot = io_uring_cqe_get_data(cqe);
        ssize_t result = cqe->res;
        io_uring_cqe_seen(ring, cqe);
        finish(m, slot, result);
    }
}

enum dio_verdict dio_move(struct dio_store *d, pst_op *op, pst_str key, int fd, int is_write,
                          const struct dio_plan *plan, pst_rc *rc, uint64_t *n_bytes)
{
    struct move m = {.store = d, .op = op, .plan = *plan, .fd = fd, .is_write = is_write};
    const int is_long = plan->end - plan->pos > plan->block_bytes;

    *n_bytes = 0;
    *rc = PST_OK;
    if (dio_channel_take(d, is_long, &m.channel) != 0) {
        *rc = fst_no_memory(op);
        return DIO_FAILED;
    }
    m.has_ring = is_long && m.channel->has_ring; /* one request alone gains nothing from it */
    m.depth = m.has_ring ? d->depth : 1;
    do {
        fill(&m);
        if (m.n_busy > 0 && m.has_ring)
            reap(&m);
    } while (m.n_busy > 0 || (!m.is_stopped && !m.is_over));
    dio_channel_give(d, m.channel);
    *n_bytes = m.n_bytes;
    if (m.is_refused)
        return DIO_REFUSED;
    if (m.is_cancelled)
        *rc = fst_cancelled(op);
    else if (m.sys_errno == ENOMEM)
        *rc = fst_no_memory(op);
    else if (m.sys_errno != 0)
        *rc = fst_fail_errno(d->tree, op, m.sys_errno, key, is_write ? "write" : "read");
    return *rc == PST_OK ? DIO_DONE : DIO_FAILED;
}
