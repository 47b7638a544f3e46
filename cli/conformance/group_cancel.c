/* group_cancel.c - OP, the part about cancel and deadline. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

static struct k_store *need_cancel(struct k_test *t, uint64_t caps)
{
    struct k_store *s = k_need(t, caps);
    if (s && !s->ops->cancel) {
        k_skip(t, "the plugin has no cancel");
        return NULL;
    }
    return s;
}

void k_OP_009(struct k_test *t)
{
    struct k_store *s = need_cancel(t, K_READS);
    struct k_tour tour = {.store = s};
    if (!s)
        return;
    while (k_tour_next(&tour)) {
        tour.call->keep = true;
        k_pool_hold(s->host->pool, true);
        if (k_call_submit(tour.call) == PST_PENDING) {
            k_call_cancel(tour.call);
            k_pool_hold(s->host->pool, false);
            (void)k_call_finish(tour.call);
        }
        k_pool_hold(s->host->pool, false);
        (void)k_tour_check_or(&tour, PST_E_CANCELLED);
        k_tour_done(&tour);
    }
}

/* Wait a pseudo-random time, from nothing to about two milliseconds. */
static void dither(unsigned round)
{
    uint64_t until_ns = k_now_ns() + (round * 7919u % 64u) * 32000u;
    while (k_now_ns() < until_ns)
        ;
}

static void *cancel_beside(void *arg)
{
    k_call_cancel(arg);
    return NULL;
}

static void cancel_once(struct k_tour *tour, unsigned round)
{
    struct k_call *c = tour->call;
    pthread_t other;
    c->keep = true;
    if (k_call_submit(c) != PST_PENDING)
        return;
    dither(round);
    bool is_twice = pthread_create(&other, NULL, cancel_beside, c) == 0;
    k_call_cancel(c);
    if (is_twice)
        (void)pthread_join(other, NULL);
    (void)k_call_finish(c);
}

void k_OP_010(struct k_test *t)
{
    struct k_store *s = need_cancel(t, K_READS);
    if (!s)
        return;
    for (unsigned round = 0; round < 12 && !k_failed(t); round++) {
        struct k_tour tour = {.store = s};
        for (unsigned i = 0; k_tour_next(&tour); i++) {
            cancel_once(&tour, round * 5 + i);
            (void)k_tour_check_or(&tour, PST_E_CANCELLED);
            k_tour_done(&tour);
        }
    }
}

void k_OP_011(struct k_test *t)
{
    struct k_store *s = need_cancel(t, K_READS);
    struct k_tour tour = {.store = s};
    if (!s)
        return;
    while (k_tour_next(&tour)) {
        tour.call->keep = true;
        if (k_call_submit(tour.call) == PST_PENDING && k_call_finish(tour.call)) {
            k_step(t, "cancelling %s after its completion", tour.what);
            k_call_cancel(tour.call);
            k_call_cancel(tour.call);
        }
        (void)k_tour_check(&tour);
        k_tour_done(&tour);
    }
    k_tour_run(s);
}

#define CANCEL_LIMIT_MS 500u

static uint64_t time_cancel(struct k_store *s, const struct k_object *o, unsigned after_ms)
{
    struct k_call *c = k_call_new(s, K_READ, NULL);
    uint64_t took_ms = 0;
    c->in.read.key = o->key;
    c->in.read.length = o->size;
    c->keep = true;
    k_call_dst(c, (size_t)o->size, 0, K_AT_END);
    if (k_call_submit(c) == PST_PENDING) {
        k_pause_ms(after_ms);
        uint64_t started_ns = k_now_ns();
        k_call_cancel(c);
        if (k_call_finish(c))
            took_ms = (k_now_ns() - started_ns) / 1000000u;
    }
    k_call_free(c);
    return took_ms;
}

void k_OP_012(struct k_test *t)
{
    struct k_store *s = need_cancel(t, K_READS | PST_CAP_CANCEL_BOUNDED);
    struct k_object o;
    if (!s || !k_object(s, 8u * 1024 * 1024, &o))
        return;
    for (unsigned after_ms = 0; after_ms < 3; after_ms++) {
        k_step(t, "cancelling a read after %u ms", after_ms);
        /* A busy machine may be late once, a plugin that does not listen is late always. */
        uint64_t best_ms = UINT64_MAX;
        for (unsigned i = 0; i < 3 && best_ms > CANCEL_LIMIT_MS; i++) {
            uint64_t took_ms = time_cancel(s, &o, after_ms);
            best_ms = took_ms < best_ms ? took_ms : best_ms;
        }
        k_that(t, best_ms <= CANCEL_LIMIT_MS,
               "expected a cancelled read to complete within %u ms, "
               "got %llu",
               CANCEL_LIMIT_MS, (unsigned long long)best_ms);
    }
    k_object_fini(&o);
}

void k_OP_013(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    for (unsigned round = 0; round < 3; round++) {
        struct k_tour tour = {.store = s};
        while (k_tour_next(&tour)) {
            tour.call->deadline_ns = round == 0 ? 1 : k_now_ns() + (round - 1) * 1000000u;
            (void)k_call_run(tour.call);
            (void)k_tour_check_or(&tour, PST_E_DEADLINE);
            k_tour_done(&tour);
        }
    }
}
