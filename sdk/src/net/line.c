/* line.c - who may go next.
 *
 * Requests wait in order for each origin. An origin whose cap leaves room and for which somebody waits
 * stands in the loop's circle of ready ones; they are served in turn, one request each, so that a store
 * with ten thousand requests in line does not keep out one with a single request. Requests with a time
 * to wait for stand apart, sorted by it: they come with growing times, so the place is found from the
 * end. */
#include "net/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t quota_of(const struct pst_http_client *client, const struct pst_loop *loop)
{
    const uint32_t n = client->n_loops;
    const uint32_t n_all = client->instance->n_loops;
    const uint32_t place = (loop->index + n_all - client->first_loop) % n_all;
    const uint32_t quota = client->settings.max_connections / n +
                           (place < client->settings.max_connections % n ? 1 : 0);
    return quota > 0 ? quota : 1;
}

static struct pst_origin *new_origin(struct pst_lane *lane, const struct pst_url *url)
{
    static const char *const scheme[] = {"http://", "https://"};
    const size_t url_size = strlen(scheme[1]) + url->authority.len + 2;
    const size_t name_size = url->host.len + sizeof("[]:65535");
    struct pst_origin *origin = calloc(1, sizeof(*origin) + url_size + 2 * name_size);
    if (!origin)
        return NULL;
    char *text = (char *)(origin + 1);
    char *name = text + url_size;
    const int is_v6 = memchr(url->host.ptr, ':', url->host.len) != NULL;
    snprintf(text, url_size, "%s%.*s/", scheme[url->is_https], (int)url->authority.len,
             url->authority.ptr);
    snprintf(name, name_size, is_v6 ? "[%.*s]:%u" : "%.*s:%u", (int)url->host.len, url->host.ptr,
             url->port);
    char *host = name + name_size;
    snprintf(host, name_size, is_v6 ? "[%.*s]" : "%.*s", (int)url->host.len, url->host.ptr);
    origin->url = text;
    origin->name = name;
    origin->host_field = url->port == (url->is_https ? 443 : 80) ? host : name;
    origin->is_https = url->is_https;
    origin->authority = pst_str_of(text + strlen(scheme[url->is_https]), url->authority.len);
    origin->quota = quota_of(lane->client, lane->loop);
    origin->asks_before_sending = 1;
    pst_ring_init(&origin->waiting);
    pst_ring_init(&origin->kept);
    pst_ring_add_last(&lane->origins, &origin->link);
    return origin;
}

static struct pst_origin *origin_of(struct pst_lane *lane, const struct pst_url *url)
{
    for (struct pst_ring *link = lane->origins.next; link != &lane->origins; link = link->next) {
        struct pst_origin *origin = PST_RING_ENTRY(link, struct pst_origin, link);
        if (origin->is_https == url->is_https && origin->authority.len == url->authority.len &&
            memcmp(origin->authority.ptr, url->authority.ptr, url->authority.len) == 0)
            return origin;
    }
    return new_origin(lane, url);
}

struct pst_lane *pst_lane_of(struct pst_loop *loop, struct pst_http_client *client)
{
    struct pst_lane *lane = client->locked.lanes[loop->index]; /* only this thread sets it */
    if (lane)
        return lane;
    lane = calloc(1, sizeof(*lane));
    if (!lane)
        return NULL;
    pst_client_ref(client);
    lane->client = client;
    lane->loop = loop;
    pst_ring_init(&lane->idle[0]);
    pst_ring_init(&lane->idle[1]);
    pst_ring_init(&lane->origins);
    pst_ring_add_last(&loop->lanes, &lane->link);
    pthread_mutex_lock(&client->mutex);
    client->locked.lanes[loop->index] = lane;
    pthread_mutex_unlock(&client->mutex);
    return lane;
}

void pst_lane_free(struct pst_lane *lane)
{
    for (int i = 0; i < 2; i++) {
        while (!pst_ring_is_empty(&lane->idle[i])) {
            struct pst_slot *slot = PST_RING_ENTRY(lane->idle[i].next, struct pst_slot, link);
            pst_ring_remove(&slot->link);
            pst_slot_free(slot);
        }
    }
    while (!pst_ring_is_empty(&lane->origins)) {
        struct pst_origin *origin = PST_RING_ENTRY(lane->origins.next, struct pst_origin, link);
        pst_ring_remove(&origin->link);
        pst_wire_close_kept(origin, 0);
        free(origin);
    }
    pst_ring_remove(&lane->link);
    pthread_mutex_lock(&lane->client->mutex);
    lane->client->locked.lanes[lane->loop->index] = NULL;
    pthread_mutex_unlock(&lane->client->mutex);
    pst_client_unref(lane->client);
    free(lane);
}

static void update_ready(struct pst_loop *loop, struct pst_origin *origin)
{
    const int is_ready = !pst_ring_is_empty(&origin->waiting) && origin->n_active < origin->quota;
    if (is_ready == origin->is_ready)
        return;
    origin->is_ready = is_ready;
    if (is_ready)
        pst_ring_add_last(&loop->ready, &origin->ready);
    else
        pst_ring_remove(&origin->ready);
}

static void queue(struct pst_transfer *t)
{
    t->stage = PST_STAGE_WAITING;
    pst_ring_add_last(&t->origin->waiting, &t->link);
    update_ready(t->loop, t->origin);
}

static void queue_timed(struct pst_transfer *t)
{
    struct pst_ring *at = t->loop->timed.prev;
    t->stage = PST_STAGE_TIMED;
    while (at != &t->loop->timed &&
           PST_RING_ENTRY(at, struct pst_transfer, link)->not_before_ns > t->not_before_ns)
        at = at->prev;
    pst_ring_add(at, &t->link);
}

int pst_line_add(struct pst_transfer *t)
{
    struct pst_lane *lane = pst_lane_of(t->loop, t->client);
    t->origin = lane ? origin_of(lane, &t->url) : NULL;
    if (!t->origin)
        return 0;
    t->lane = lane;
    if (t->deadline_ns)
        pst_loop_check_at(t->loop, t->deadline_ns);
    if (t->not_before_ns > t->loop->now_ns)
        queue_timed(t);
    else
        queue(t);
    return 1;
}

struct pst_transfer *pst_line_next(struct pst_loop *loop)
{
    if (loop->n_active >= PST_LOOP_TRANSFERS || pst_ring_is_empty(&loop->ready))
        return NULL;
    struct pst_origin *origin = PST_RING_ENTRY(loop->ready.next, struct pst_origin, ready);
    struct pst_transfer *t = PST_RING_ENTRY(origin->waiting.next, struct pst_transfer, link);
    pst_ring_remove(&t->link);
    t->stage = PST_STAGE_ACTIVE;
    origin->n_active++;
    loop->n_active++;
    /* Behind the others, if it may go on. */
    pst_ring_remove(&origin->ready);
    origin->is_ready = 0;
    update_ready(loop, origin);
    return t;
}

void pst_line_remove(struct pst_transfer *t)
{
    switch (t->stage) {
    case PST_STAGE_TIMED:
        pst_ring_remove(&t->link);
        break;
    case PST_STAGE_WAITING:
        pst_ring_remove(&t->link);
        update_ready(t->loop, t->origin);
        break;
    case PST_STAGE_ACTIVE:
    case PST_STAGE_PARKED:
        t->origin->n_active--;
        t->loop->n_active--;
        update_ready(t->loop, t->origin);
        break;
    case PST_STAGE_INBOX:
        break;
    }
    t->stage = PST_STAGE_INBOX;
}

void pst_line_wake(struct pst_loop *loop)
{
    while (!pst_ring_is_empty(&loop->timed)) {
        struct pst_transfer *t = PST_RING_ENTRY(loop->timed.next, struct pst_transfer, link);
        if (t->not_before_ns > loop->now_ns)
            return;
        pst_ring_remove(&t->link);
        queue(t);
    }
}
