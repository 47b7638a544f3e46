/* group_dst.c - MEM, the part about late destinations: dst(), LATER, grants. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

static const uint64_t lengths[] = {1, 7, 4096, 4097, 65537, 100001};
#define N_LENGTHS (sizeof(lengths) / sizeof(lengths[0]))
static const size_t spans[] = {1, 3, 777, 4097, 65535};
#define N_SPANS (sizeof(spans) / sizeof(spans[0]))

/* An object with something in it: without bytes there is no dst(). */
static bool object_with_bytes(struct k_store *s, uint64_t size, struct k_object *o)
{
    if (!k_object(s, size, o))
        return false;
    if (o->size == 0)
        k_skip(s->test, "every object under the URI is empty");
    return o->size > 0;
}

void k_MEM_008(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !k_object(s, 100001, &o))
        return;
    for (size_t i = 0; i < N_LENGTHS + 1; i++) {
        uint64_t length = k_align_up(s, i < N_LENGTHS ? lengths[i] : o.size + 100);
        uint64_t rest = o.size < length ? o.size : length;
        struct k_call *c = k_new_read(s, o.key, 0, length);
        k_step(t, "reading at most %llu bytes with late destination", (unsigned long long)length);
        k_read_and_check(c, &o, "a read with late destination");
        if (c->rc == PST_OK && rest > 0)
            k_that(t,
                   c->n_dst_calls >= 1 &&
                       (c->dst_seen.length == rest || c->dst_seen.length == PST_UNKNOWN),
                   "expected one dst() for %llu bytes, got %u, for %llu", (unsigned long long)rest,
                   c->n_dst_calls, (unsigned long long)c->dst_seen.length);
        k_call_free(c);
    }
    k_object_fini(&o);
}

void k_MEM_009(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !object_with_bytes(s, 5000, &o))
        return;
    struct k_call *c = k_new_read(s, o.key, 0, k_align_up(s, o.size));
    k_read_and_check(c, &o, "a read with late destination");
    const pst_read_result *r = &c->out.read;
    if (c->rc == PST_OK && c->n_grants > 0) {
        k_that(t, c->dst_seen.object_size == o.size || c->dst_seen.object_size == PST_UNKNOWN,
               "expected dst() to be told the object's size %llu, got %llu",
               (unsigned long long)o.size, (unsigned long long)c->dst_seen.object_size);
        k_that(t,
               c->dst_seen.etag_strength == r->etag_strength &&
                   k_str_eq(k_text(c->dst_etag), r->etag),
               "expected dst() to be told the etag of the result, %s, got %s", k_show(r->etag),
               k_show(k_text(c->dst_etag)));
    }
    k_call_free(c);
    k_object_fini(&o);
}

void k_MEM_010(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !object_with_bytes(s, 100001, &o))
        return;
    for (unsigned i = 1; i <= 20; i++) {
        struct k_call *c = k_new_read(s, o.key, 0, k_align_up(s, o.size));
        k_step(t, "answering LATER %u times", i % 3 + 1);
        c->dst_later = i % 3 + 1;
        k_read_and_check(c, &o, "a read that was told LATER");
        k_call_free(c);
    }
    struct k_call *c = k_new_read(s, o.key, 0, k_align_up(s, o.size));
    c->dst_later = 1;
    c->dst_manual = true;
    k_step(t, "leaving a read without memory for a while");
    if (k_call_submit(c) == PST_PENDING) {
        k_that(t, !k_call_wait(c, 50),
               "expected nothing after LATER until dst_ready, got a "
               "completion (%s)",
               k_rc_name(c->rc));
        if (atomic_load(&c->state) != K_DONE)
            k_call_ready(c);
        if (k_call_finish(c) && k_want(c, PST_OK, "a read after dst_ready"))
            (void)k_has_bytes(c, &o, 0, o.size);
    }
    k_call_free(c);
    k_object_fini(&o);
}

static bool wait_until_parked(struct k_call *c)
{
    for (unsigned ms = 0; ms < 10000; ms++) {
        if (atomic_load(&c->is_parked))
            return true;
        if (atomic_load(&c->state) == K_DONE)
            return false;
        k_pause_ms(1);
    }
    return false;
}

#define N_PARKED 6u

void k_MEM_011(struct k_test *t)
{
    struct k_call *parked[N_PARKED] = {NULL};
    struct k_store *s;
    struct k_object o;
    /* One thread: if a parked read kept it, nothing else could go on. */
    t->host = k_host_new(t, K_SAME, 1);
    s = k_need(t, K_READS);
    if (!s || !object_with_bytes(s, 5000, &o))
        return;
    if (s->plugin->threads == PST_THREADS_SERIAL) {
        k_skip(t, "the plugin is SERIAL: it never has two operations");
        return;
    }
    bool are_parked = true;
    for (size_t i = 0; i < N_PARKED && are_parked; i++) {
        parked[i] = k_new_read(s, o.key, 0, k_align_up(s, o.size));
        parked[i]->dst_later = 1;
        parked[i]->dst_manual = true;
        k_step(t, "parking read %zu of %u", i + 1, N_PARKED);
        are_parked = k_call_submit(parked[i]) == PST_PENDING && wait_until_parked(parked[i]);
    }
    k_that(t, are_parked,
           "expected %u reads to ask dst() on a pool of one thread, got stuck before", N_PARKED);
    struct k_call *other = k_new_read(s, o.key, 0, k_align_up(s, o.size));
    k_step(t, "reading beside %u parked reads", N_PARKED);
    if (are_parked && k_call_submit(other) == PST_PENDING)
        k_that(t, k_call_wait(other, 10000),
               "expected another read to go on while %u wait for "
               "memory, got it blocked",
               N_PARKED);
    for (size_t i = 0; i < N_PARKED && are_parked; i++) {
        k_call_ready(parked[i]);
        if (k_call_finish(parked[i]) && k_want(parked[i], PST_OK, "a read after dst_ready"))
            (void)k_has_bytes(parked[i], &o, 0, o.size);
    }
    k_object_fini(&o);
}

void k_MEM_012(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !object_with_bytes(s, 100001, &o))
        return;
    if (!s->ops->cancel) {
        k_skip(t, "the plugin has no cancel");
        return;
    }
    for (unsigned i = 0; i < 10; i++) {
        struct k_call *c = k_new_read(s, o.key, 0, k_align_up(s, o.size));
        c->dst_later = 1;
        c->dst_manual = true;
        c->keep = true;
        k_step(t, "cancelling a read that waits for memory");
        if (k_call_submit(c) == PST_PENDING && wait_until_parked(c)) {
            if (i % 2 == 0)
                k_pause_ms(1);
            k_call_cancel(c);
            if (!k_call_wait(c, i % 3 == 0 ? 20 : 0))
                k_call_ready(c);
            if (k_call_finish(c) && c->rc != PST_OK)
                (void)k_want(c, PST_E_CANCELLED, "a cancelled read");
        }
        k_call_free(c);
    }
    k_object_fini(&o);
}

void k_MEM_013(struct k_test *t)
{
    static const pst_rc codes[] = {PST_E_OVER_BUDGET, PST_E_NO_MEMORY, PST_E_CANCELLED};
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !object_with_bytes(s, 5000, &o))
        return;
    for (unsigned i = 0; i < 6; i++) {
        struct k_call *c = k_new_read(s, o.key, 0, k_align_up(s, o.size));
        c->dst_refuse = codes[i % 3];
        c->dst_later = i / 3;
        k_step(t, "answering %s to dst()", k_rc_name(codes[i % 3]));
        (void)k_call_run(c);
        (void)k_want(c, codes[i % 3], "a read whose dst() answered that");
        k_call_free(c);
    }
    k_object_fini(&o);
}

void k_MEM_014(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !object_with_bytes(s, 100001, &o))
        return;
    for (uint32_t attempt = 1; attempt <= 3; attempt++) {
        struct k_call *c = k_new_read(s, o.key, 0, k_align_up(s, o.size));
        k_step(t, "attempt %u of a read", attempt);
        c->attempt = attempt;
        c->dst_span = attempt * 1000;
        k_read_and_check(c, &o, "a read, attempted again");
        k_that(t, c->n_dst_calls == 1 || c->dst_seen.length == PST_UNKNOWN,
               "expected one dst() for each attempt, got %u", c->n_dst_calls);
        k_call_free(c);
    }
    k_object_fini(&o);
}

void k_MEM_015(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !k_object(s, 100001, &o))
        return;
    for (size_t i = 0; i < N_SPANS; i++) {
        struct k_call *c = k_new_read(s, o.key, 0, k_align_up(s, o.size));
        k_step(t, "granting pieces of about %zu bytes", spans[i]);
        c->dst_span = spans[i];
        c->place = i % 2 ? K_AT_START : K_AT_END;
        k_read_and_check(c, &o, "a read into a grant of several pieces");
        k_call_free(c);
    }
    k_object_fini(&o);
}

void k_MEM_016(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !k_object(s, 5000, &o))
        return;
    struct k_call *c = k_new_read(s, o.key, 0, k_align_up(s, o.size));
    k_call_dst(c, (size_t)c->in.read.length, 0, K_AT_END);
    k_read_and_check(c, &o, "a read into given memory");
    k_that(t, c->n_dst_calls == 0,
           "expected no dst() from a read that brings its destination, got "
           "%u",
           c->n_dst_calls);
    k_call_free(c);
    k_object_fini(&o);
}
