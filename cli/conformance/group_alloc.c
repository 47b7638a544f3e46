/* group_alloc.c - MEM, the part about allocations: when they fail, what is given back, and how long
 * the strings of a result last. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

#define FAILURES_MAX 40

static void fail_each(struct k_test *t, atomic_int *countdown)
{
    struct k_store *s = &t->store;
    bool is_done = false;
    unsigned n_failed = 0;
    for (int at = 1; at <= FAILURES_MAX && !is_done && !k_failed(t); at++) {
        struct k_tour tour = {.store = s};
        is_done = true;
        while (k_tour_next(&tour)) {
            atomic_store(countdown, at);
            (void)k_call_run(tour.call);
            bool has_failed = atomic_exchange(countdown, 0) == 0;
            n_failed += has_failed;
            is_done &= !has_failed;
            k_step(t, "%s, whose allocation number %d failed", tour.what, at);
            (void)k_tour_check_or(&tour, has_failed ? PST_E_NO_MEMORY : 0);
            if (has_failed && tour.call->rc == PST_OK && tour.call->slot == K_STAT)
                k_that(t,
                       tour.call->out.attr.etag.len > 0 ||
                           tour.call->out.attr.etag_strength == PST_ETAG_NONE,
                       "expected stat without memory to fail or to be complete, got no etag with a "
                       "strength");
            k_tour_done(&tour);
        }
    }
    if (n_failed == 0)
        k_skip(t, "no operation calls it");
    struct k_tour tour = {.store = s};
    while (k_tour_next(&tour)) {
        (void)k_call_run(tour.call);
        (void)k_tour_check(&tour);
        k_tour_done(&tour);
    }
}

static void fail_opens(struct k_test *t, struct k_host *host)
{
    const pst_plugin *plugin = NULL;
    if (!k_enter(host, &plugin))
        return;
    for (int at = 1; at <= FAILURES_MAX; at++) {
        bool has_failed = false;
        pst_rc rc = k_open_failing(host, at, &has_failed);
        k_that(t, !has_failed || rc == PST_E_NO_MEMORY || rc == PST_OK,
               "expected store_open without memory to return NO_MEMORY, got %s", k_rc_name(rc));
        if (!has_failed)
            break;
    }
}

void k_MEM_018(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    fail_opens(t, s->host);
    fail_each(t, &s->host->fail_alloc_at);
    k_close(s);
    k_that(t, atomic_load(&t->host->n_alloc_live) == 0,
           "expected nothing left after failed allocations and close, got %ld blocks",
           atomic_load(&t->host->n_alloc_live));
}

void k_MEM_019(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    fail_each(t, &s->host->fail_op_alloc_at);
    k_close(s);
    k_that(t, atomic_load(&t->host->n_alloc_live) == 0,
           "expected nothing left after failed allocations and close, got %ld blocks",
           atomic_load(&t->host->n_alloc_live));
}

void k_MEM_020(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s)
        return;
    for (unsigned i = 0; i < 3; i++) {
        struct k_tour tour = {.store = s};
        while (k_tour_next(&tour)) {
            if (i == 1)
                tour.call->dst_refuse = PST_E_OVER_BUDGET;
            if (i == 2) {
                tour.call->emit_limit = 0;
                tour.call->emit_error = PST_E_NO_MEMORY;
            }
            (void)k_call_run(tour.call);
            k_tour_done(&tour);
        }
    }
    if (!k_object(s, 1000, &o))
        return;
    k_object_fini(&o);
    k_close(s);
    long blocks = atomic_load(&t->host->n_alloc_live);
    k_that(t, blocks == 0,
           "expected everything from alloc() to be given back by close(), got %ld "
           "blocks with %ld bytes left",
           blocks, atomic_load(&t->host->alloc_bytes_live));
    if (atomic_load(&t->host->n_allocs) == 0)
        k_skip(t, "the plugin does not call alloc");
}

void k_MEM_021(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_tour tour = {.store = s};
    if (!s)
        return;
    while (k_tour_next(&tour)) {
        (void)k_call_run(tour.call);
        (void)k_tour_check(&tour);
        k_tour_done(&tour);
    }
    k_close(s);
    if (atomic_load(&t->host->n_allocs) == 0)
        k_skip(t, "the plugin does not call alloc");
}

static bool is_same(struct k_test *t, const char *what, pst_str live, pst_str copy)
{
    return k_that(t, k_str_eq(live, copy), "expected the %s of a kept result to stay %s, got %s",
                  what, k_show(copy), k_show(live));
}

void k_MEM_022(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS | PST_CAP_STAT);
    struct k_object o;
    if (!s || !k_object(s, 5000, &o))
        return;
    struct k_call *stat_call = k_call_new(s, K_STAT, NULL);
    stat_call->in.stat.key = o.key;
    (void)k_call_run(stat_call);
    struct k_call *read_call = k_new_read(s, o.key, 0, k_align_up(s, o.size));
    (void)k_call_run(read_call);
    if (!k_want(stat_call, PST_OK, "stat") || !k_want(read_call, PST_OK, "a read"))
        return;
    struct k_tour tour = {.store = s};
    while (k_tour_next(&tour)) {
        (void)k_call_run(tour.call);
        k_tour_done(&tour);
    }
    k_close(s);
    k_step(t, "looking at strings of results after close");
    (void)is_same(t, "etag", stat_call->live.attr.etag, stat_call->out.attr.etag);
    (void)is_same(t, "content type", stat_call->live.attr.content_type,
                  stat_call->out.attr.content_type);
    (void)is_same(t, "etag", read_call->live.read.etag, read_call->out.read.etag);
    (void)is_same(t, "version", read_call->live.read.version, read_call->out.read.version);
    k_call_free(stat_call);
    k_call_free(read_call);
    k_object_fini(&o);
}
