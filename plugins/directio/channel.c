/* channel.c - a ring and bounce memory for one operation at a time, kept for the next one.
 *
 * A ring that many threads share needs a lock around its submissions and a thread that reaps: two
 * wake-ups for each read. So an operation has a ring to itself while it runs, on the host thread that
 * runs it, and the store keeps rings that are idle. They carry no setup flags: SINGLE_ISSUER would tie
 * a ring to one thread, and with a few large requests under way none of them showed a gain.
 *
 * Nothing is under way on an idle channel. A child after fork() gets neither ring nor bounce memory
 * (MADV_DONTFORK) and never looks for them: the host opens its store anew. */
#include "dio.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define BOUNCE_BYTES ((size_t)DIO_BOUNCE_SLOTS * DIO_BOUNCE_SLOT_BYTES)
#define IDLE_BOUNCES_MAX 8u /* 16 MiB; more are given back to the kernel */

/* A huge page, where the kernel has one: O_DIRECT pins 4 KiB pages one by one. */
static char *map_bounce(void)
{
    const size_t span = BOUNCE_BYTES * 2;
    char *raw = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (raw == MAP_FAILED)
        return NULL;
    size_t head = (BOUNCE_BYTES - (uintptr_t)raw % BOUNCE_BYTES) % BOUNCE_BYTES;
    if (head > 0)
        munmap(raw, head);
    munmap(raw + head + BOUNCE_BYTES, span - head - BOUNCE_BYTES);
    madvise(raw + head, BOUNCE_BYTES, MADV_HUGEPAGE); /* advice: it works without, only slower */
    madvise(raw + head, BOUNCE_BYTES, MADV_DONTFORK);
    return raw + head;
}

static void drop_bounce(struct dio_channel *c)
{
    if (c->bounce)
        munmap(c->bounce, BOUNCE_BYTES);
    c->bounce = NULL;
    c->is_fixed = 0;
}

/* Rings come and go with the mutex held: liburing maps them by system calls of its own, so a race
 * detector sees a new ring where an old one was as the same memory, and must be told which was first. */
void dio_channel_drop_ring(struct dio_store *d, struct dio_channel *c)
{
    if (c->has_ring) {
        pthread_mutex_lock(&d->mutex);
        io_uring_queue_exit(&c->ring);
        pthread_mutex_unlock(&d->mutex);
    }
    c->has_ring = c->is_fixed = 0;
}

static void free_channel(struct dio_store *d, struct dio_channel *c)
{
    dio_channel_drop_ring(d, c);
    drop_bounce(c);
    d->host->dealloc(d->host, c);
}

/* Plain reads and writes came to rings with Linux 5.6, and with it this feature. Before, every one of
 * them fails with EINVAL, which looks like a file system that refuses O_DIRECT. */
static int make_ring(struct dio_store *d, struct dio_channel *c)
{
    pthread_mutex_lock(&d->mutex);
    int rc = io_uring_queue_init(d->depth, &c->ring, 0);
    pthread_mutex_unlock(&d->mutex);

    if (rc < 0)
        return -rc;
    c->has_ring = 1;
    if (!(c->ring.features & IORING_FEAT_RW_CUR_POS)) {
        dio_channel_drop_ring(d, c);
        return ENOSYS;
    }
    io_uring_ring_dontfork(&c->ring);
    return 0;
}

int dio_channel_take(struct dio_store *d, int with_ring, struct dio_channel **out)
{
    pthread_mutex_lock(&d->mutex);
    struct dio_channel *c = d->locked.idle;
    if (c) {
        d->locked.idle = c->next;
        d->locked.n_bounces -= c->bounce != NULL;
    }
    pthread_mutex_unlock(&d->mutex);
    if (!c) {
        const size_t bytes = sizeof(*c) + d->depth * sizeof(c->slots[0]);
        c = d->host->alloc(d->host, bytes, 16);
        if (!c)
            return ENOMEM;
        memset(c, 0, bytes);
    }
    if (with_ring && !c->has_ring && !d->is_ring_off && !(atomic_load(&d->missing) & DIO_NO_RING)) {
        int failed = make_ring(d, c);
        /* Where one ring could be made, a lack of descriptors or memory for another one will pass. */
        if (failed && (!d->has_rings || (failed != EMFILE && failed != ENFILE && failed != ENOMEM)))
            dio_miss(d, DIO_NO_RING, failed);
    }
    *out = c;
    return 0;
}

int dio_channel_need_bounce(struct dio_store *d, struct dio_channel *c)
{
    if (!c->bounce && !(c->bounce = map_bounce()))
        return ENOMEM;
    if (!d->has_fixed || c->is_fixed || !c->has_ring || atomic_load(&d->missing) & DIO_NO_FIXED)
        return 0;
    const struct iovec whole = {c->bounce, BOUNCE_BYTES};
    int rc = io_uring_register_buffers(&c->ring, &whole, 1);
    c->is_fixed = rc == 0;
    if (rc < 0)
        dio_miss(d, DIO_NO_FIXED, -rc);
    return 0;
}

void dio_channel_give(struct dio_store *d, struct dio_channel *c)
{
    pthread_mutex_lock(&d->mutex);
    int is_spare = c->bounce && !c->is_fixed && d->locked.n_bounces >= IDLE_BOUNCES_MAX;
    pthread_mutex_unlock(&d->mutex);
    if (is_spare)
        drop_bounce(c);
    pthread_mutex_lock(&d->mutex);
    c->next = d->locked.idle;
    d->locked.idle = c;
    d->locked.n_bounces += c->bounce != NULL;
    pthread_mutex_unlock(&d->mutex);
}

void dio_channels_free(struct dio_store *d)
{
    while (d->locked.idle) {
        struct dio_channel *c = d->locked.idle;
        d->locked.idle = c->next;
        free_channel(d, c);
    }
}
