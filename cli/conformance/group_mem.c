/* group_mem.c - MEM: destinations, sources, grants, allocations. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

#define ALL_READ (PST_CAP_READ | PST_CAP_LIST)

static uint64_t io_align(const struct k_store *s)
{
    return s->limits.io_align > 1 ? s->limits.io_align : 1;
}

static uint64_t align_up(const struct k_store *s, uint64_t n)
{
    return (n + io_align(s) - 1) / io_align(s) * io_align(s);
}

static struct k_call *new_read(struct k_store *s, const struct k_object *o, uint64_t offset,
                               uint64_t length)
{
    struct k_call *c = k_call_new(s, K_READ, NULL);
    c->in.read.key = o->key;
    c->in.read.offset = offset;
    c->in.read.length = length;
    return c;
}

/* An object with something in it: without bytes there is no dst(). */
static bool object_with_bytes(struct k_store *s, uint64_t size, struct k_object *o)
{
    if (!k_object(s, size, o))
        return false;
    if (o->size == 0)
        k_skip(s->test, "every object under the URI is empty");
    return o->size > 0;
}

static bool has_bytes(struct k_call *c, const struct k_object *o, uint64_t offset, uint64_t n)
{
    struct k_test *t = c->host->test;
    if (!k_that(t, c->out.read.n_read == n, "expected n_read %llu, got %llu", (unsigned long long)n,
                (unsigned long long)c->out.read.n_read))
        return false;
    for (uint64_t i = 0; i < n && i < c->snapshot_len; i++)
        if (c->snapshot[i] != o->data[offset + i])
            return k_that(t, false, "expected the object's byte at %llu, got another one",
                          (unsigned long long)(offset + i));
    return k_that(t, n <= c->snapshot_len,
                  "expected %llu bytes in the destination, got room for %zu", (unsigned long long)n,
                  c->snapshot_len);
}

static void read_and_check(struct k_call *c, const struct k_object *o, const char *what)
{
    uint64_t offset = c->in.read.offset, length = c->in.read.length;
    uint64_t rest = offset < o->size ? o->size - offset : 0;
    (void)k_call_run(c);
    if (k_want(c, PST_OK, what))
        (void)has_bytes(c, o, offset, rest < length ? rest : length);
}

/* Lengths around pages and blocks, from both ends of the object. */
static const uint64_t lengths[] = {1, 7, 511, 512, 4095, 4096, 4097, 65537, 100001};
#define N_LENGTHS (sizeof(lengths) / sizeof(lengths[0]))

static void read_at_guards(struct k_store *s, const struct k_object *o, enum k_place place)
{
    for (size_t i = 0; i < N_LENGTHS; i++) {
        uint64_t length = align_up(s, lengths[i]);
        uint64_t offset = o->size > length / 2 ? o->size - length / 2 : 0;
        const uint64_t offsets[] = {0, offset - offset % io_align(s)};
        for (size_t k = 0; k < 2; k++) {
            struct k_call *c = new_read(s, o, offsets[k], length);
            k_step(s->test, "reading %llu bytes at %llu behind a guard page",
                   (unsigned long long)length, (unsigned long long)offsets[k]);
            k_call_dst(c, (size_t)length, 0, place);
            read_and_check(c, o, "a read");
            k_call_free(c);
        }
    }
}

void k_MEM_001(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !k_object(s, 100001, &o))
        return;
    read_at_guards(s, &o, K_AT_END);
    read_at_guards(s, &o, K_AT_START);
    k_object_fini(&o);
}

/* Reads that end in every way; whoever still writes afterwards hits memory that is read-only. */
void k_MEM_002(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    struct k_call *calls[24];
    struct k_object o;
    size_t n = 0;
    if (!s || !k_object(s, 1u << 20, &o))
        return;
    for (; n < sizeof(calls) / sizeof(calls[0]); n++) {
        struct k_call *c = new_read(s, &o, 0, align_up(s, (1u << 20) + 1));
        calls[n] = c;
        c->keep = true;
        if (n % 4 == 1)
            c->in.read.if_match = PST_STR("another");
        if (n % 4 == 2)
            c->dst_span = 100000;
        else
            k_call_dst(c, (size_t)c->in.read.length, n % 4 == 3 ? 70000 : 0, K_AT_END);
        k_step(t, "reading, then watching the destination");
        if (k_call_submit(c) == PST_PENDING) {
            if (n % 4 == 3 && s->ops->cancel)
                k_call_cancel(c);
            (void)k_call_finish(c);
        }
    }
    k_pause_ms(60);
    for (size_t i = 0; i < n; i++)
        k_call_free(calls[i]);
    k_object_fini(&o);
}

/* ---- sources ----------------------------------------------------------------------------------- */

static void put_spans(struct k_store *s, size_t span)
{
    struct k_test *t = s->test;
    pst_str key = k_key(t, "source-%zu", span);
    struct k_source *src = k_source_new("put", 100003, span, 0, span);
    struct k_call *c = k_call_new(s, K_PUT, NULL);
    k_step(t, "putting a source of %zu pieces", src->n);
    c->in.put.key = key;
    c->in.put.size_hint = 100003;
    c->in.put.src = src->iov;
    c->in.put.n_src = src->n;
    (void)k_call_run(c);
    k_source_bury(src);
    if (k_want(c, PST_OK, "put"))
        (void)k_holds(s, key, 100003, span);
    k_call_free(c);
}

static void upload_spans(struct k_store *s, size_t span)
{
    struct k_test *t = s->test;
    struct k_writer w;
    pst_str key = k_key(t, "source-parts-%zu", span);
    if (k_writer_open(&w, s, key, span)) {
        struct k_source *src = k_source_new("upload_part", (size_t)w.part_bytes, span, 0, span);
        struct k_call *c = k_call_new(s, K_UPLOAD_PART, w.upload);
        c->in.part.src = src->iov;
        c->in.part.n_src = src->n;
        (void)k_call_run(c);
        bool is_sent = k_want(c, PST_OK, "upload_part");
        k_source_bury(src);
        k_call_free(c);
        if (is_sent && k_writer_commit(&w, w.part_bytes, 1) == PST_OK)
            (void)k_holds(s, key, w.part_bytes, span);
    }
    k_writer_free(&w);
}

void k_MEM_003(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    if (!s)
        return;
    if (s->caps & PST_CAP_PUT)
        put_spans(s, 0);
    if (s->caps & PST_CAP_UPLOAD)
        upload_spans(s, 0);
    k_pause_ms(50);
}

void k_MEM_004(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    struct k_tour tour = {.store = s};
    if (!s)
        return;
    while (k_tour_next(&tour)) {
        (void)k_call_run(tour.call);
        (void)k_tour_check(&tour);
        k_tour_done(&tour);
    }
}

/* The arguments of an open are buried when it has completed; what comes next must not need them. */
void k_MEM_005(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !k_object(s, 10, &o))
        return;
    struct k_listing l = {.prefix = o.key, .flags = PST_LIST_RECURSIVE, .max_entries = 1};
    k_step(t, "listing with a cursor whose arguments are gone");
    pst_rc rc = k_list(s, &l);
    k_that(t, rc == PST_OK && k_entries_find(&l.entries, o.key),
           "expected the listing to show %s, "
           "got %s without it",
           k_show(o.key), k_rc_name(rc));
    k_entries_fini(&l.entries);
    if (t->config->profile != K_RO && (s->caps & PST_CAP_UPLOAD)) {
        struct k_writer w;
        pst_str key = k_key(t, "upload-whose-arguments-are-gone");
        k_step(t, "uploading after the arguments of upload_open are gone");
        if (k_writer_open(&w, s, key, 4) && k_writer_part(&w, 0, w.part_bytes) &&
            k_that(t, k_writer_commit(&w, w.part_bytes, 1) == PST_OK,
                   "expected commit: OK, got an error"))
            (void)k_holds(s, key, w.part_bytes, 4);
        k_writer_free(&w);
    }
    k_object_fini(&o);
}

static const size_t spans[] = {1, 3, 777, 4097, 65535};
#define N_SPANS (sizeof(spans) / sizeof(spans[0]))

void k_MEM_006(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !k_object(s, 100001, &o))
        return;
    for (size_t i = 0; i < N_SPANS; i++) {
        struct k_call *c = new_read(s, &o, 0, align_up(s, o.size + 5));
        k_step(t, "reading into pieces of about %zu bytes", spans[i]);
        k_call_dst(c, (size_t)c->in.read.length, spans[i], K_AT_END);
        read_and_check(c, &o, "a read into several pieces");
        k_call_free(c);
    }
    k_object_fini(&o);
}

void k_MEM_007(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    if (!s)
        return;
    for (size_t i = 0; i < N_SPANS; i++) {
        if (s->caps & PST_CAP_PUT)
            put_spans(s, spans[i]);
        if (s->caps & PST_CAP_UPLOAD)
            upload_spans(s, spans[i]);
    }
}

/* ---- late destinations ------------------------------------------------------------------------- */

void k_MEM_008(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !k_object(s, 100001, &o))
        return;
    for (size_t i = 0; i < N_LENGTHS + 1; i++) {
        uint64_t length = align_up(s, i < N_LENGTHS ? lengths[i] : o.size + 100);
        uint64_t rest = o.size < length ? o.size : length;
        struct k_call *c = new_read(s, &o, 0, length);
        k_step(t, "reading at most %llu bytes with late destination", (unsigned long long)length);
        read_and_check(c, &o, "a read with late destination");
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
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !object_with_bytes(s, 5000, &o))
        return;
    struct k_call *c = new_read(s, &o, 0, align_up(s, o.size));
    read_and_check(c, &o, "a read with late destination");
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
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !object_with_bytes(s, 100001, &o))
        return;
    for (unsigned i = 1; i <= 20; i++) {
        struct k_call *c = new_read(s, &o, 0, align_up(s, o.size));
        k_step(t, "answering LATER %u times", i % 3 + 1);
        c->dst_later = i % 3 + 1;
        read_and_check(c, &o, "a read that was told LATER");
        k_call_free(c);
    }
    struct k_call *c = new_read(s, &o, 0, align_up(s, o.size));
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
            (void)has_bytes(c, &o, 0, o.size);
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
    s = k_need(t, ALL_READ);
    if (!s || !object_with_bytes(s, 5000, &o))
        return;
    if (s->plugin->threads == PST_THREADS_SERIAL) {
        k_skip(t, "the plugin is SERIAL: it never has two operations");
        return;
    }
    bool are_parked = true;
    for (size_t i = 0; i < N_PARKED && are_parked; i++) {
        parked[i] = new_read(s, &o, 0, align_up(s, o.size));
        parked[i]->dst_later = 1;
        parked[i]->dst_manual = true;
        k_step(t, "parking read %zu of %u", i + 1, N_PARKED);
        are_parked = k_call_submit(parked[i]) == PST_PENDING && wait_until_parked(parked[i]);
    }
    k_that(t, are_parked,
           "expected %u reads to ask dst() on a pool of one thread, got stuck before", N_PARKED);
    struct k_call *other = new_read(s, &o, 0, align_up(s, o.size));
    k_step(t, "reading beside %u parked reads", N_PARKED);
    if (are_parked && k_call_submit(other) == PST_PENDING)
        k_that(t, k_call_wait(other, 10000),
               "expected another read to go on while %u wait for "
               "memory, got it blocked",
               N_PARKED);
    for (size_t i = 0; i < N_PARKED && are_parked; i++) {
        k_call_ready(parked[i]);
        if (k_call_finish(parked[i]) && k_want(parked[i], PST_OK, "a read after dst_ready"))
            (void)has_bytes(parked[i], &o, 0, o.size);
    }
    k_object_fini(&o);
}

void k_MEM_012(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !object_with_bytes(s, 100001, &o))
        return;
    if (!s->ops->cancel) {
        k_skip(t, "the plugin has no cancel");
        return;
    }
    for (unsigned i = 0; i < 10; i++) {
        struct k_call *c = new_read(s, &o, 0, align_up(s, o.size));
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
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !object_with_bytes(s, 5000, &o))
        return;
    for (unsigned i = 0; i < 6; i++) {
        struct k_call *c = new_read(s, &o, 0, align_up(s, o.size));
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
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !object_with_bytes(s, 100001, &o))
        return;
    for (uint32_t attempt = 1; attempt <= 3; attempt++) {
        struct k_call *c = new_read(s, &o, 0, align_up(s, o.size));
        k_step(t, "attempt %u of a read", attempt);
        c->attempt = attempt;
        c->dst_span = attempt * 1000;
        read_and_check(c, &o, "a read, attempted again");
        k_that(t, c->n_dst_calls == 1 || c->dst_seen.length == PST_UNKNOWN,
               "expected one dst() for each attempt, got %u", c->n_dst_calls);
        k_call_free(c);
    }
    k_object_fini(&o);
}

void k_MEM_015(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !k_object(s, 100001, &o))
        return;
    for (size_t i = 0; i < N_SPANS; i++) {
        struct k_call *c = new_read(s, &o, 0, align_up(s, o.size));
        k_step(t, "granting pieces of about %zu bytes", spans[i]);
        c->dst_span = spans[i];
        c->place = i % 2 ? K_AT_START : K_AT_END;
        read_and_check(c, &o, "a read into a grant of several pieces");
        k_call_free(c);
    }
    k_object_fini(&o);
}

void k_MEM_016(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !k_object(s, 5000, &o))
        return;
    struct k_call *c = new_read(s, &o, 0, align_up(s, o.size));
    k_call_dst(c, (size_t)c->in.read.length, 0, K_AT_END);
    read_and_check(c, &o, "a read into given memory");
    k_that(t, c->n_dst_calls == 0,
           "expected no dst() from a read that brings its destination, got "
           "%u",
           c->n_dst_calls);
    k_call_free(c);
    k_object_fini(&o);
}

void k_MEM_017(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
    struct k_object o;
    if (!s || !k_object(s, 20011, &o))
        return;
    if (s->limits.mem_align > 1 || s->limits.io_align > 1) {
        k_skip(t, "the store asks for aligned memory");
        return;
    }
    /* Placed before a guard page, the address follows from the length. */
    for (uint64_t length = 10000; length < 10032; length++) {
        struct k_call *c = new_read(s, &o, length % 5, length);
        k_step(t, "reading to an address with remainder %llu of 32",
               (unsigned long long)((32 - length % 32) % 32));
        k_call_dst(c, (size_t)length, 0, K_AT_END);
        read_and_check(c, &o, "a read to an odd address");
        k_call_free(c);
    }
    k_object_fini(&o);
}

/* ---- allocations that fail --------------------------------------------------------------------- */

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
        k_step(t, "store_open, whose allocation number %d fails", at);
        pst_rc rc = k_open_failing(host, at, &has_failed);
        k_that(t, !has_failed || rc == PST_E_NO_MEMORY || rc == PST_OK,
               "expected store_open without memory to return NO_MEMORY, got %s", k_rc_name(rc));
        if (!has_failed)
            break;
    }
}

void k_MEM_018(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ);
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
    struct k_store *s = k_need(t, ALL_READ);
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
    struct k_store *s = k_need(t, ALL_READ);
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
    struct k_store *s = k_need(t, ALL_READ);
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

/* ---- strings of results ------------------------------------------------------------------------ */

static bool is_same(struct k_test *t, const char *what, pst_str live, pst_str copy)
{
    return k_that(t, k_str_eq(live, copy), "expected the %s of a kept result to stay %s, got %s",
                  what, k_show(copy), k_show(live));
}

void k_MEM_022(struct k_test *t)
{
    struct k_store *s = k_need(t, ALL_READ | PST_CAP_STAT);
    struct k_object o;
    if (!s || !k_object(s, 5000, &o))
        return;
    struct k_call *stat_call = k_call_new(s, K_STAT, NULL);
    stat_call->in.stat.key = o.key;
    (void)k_call_run(stat_call);
    struct k_call *read_call = new_read(s, &o, 0, align_up(s, o.size));
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
