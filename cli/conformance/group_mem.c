/* group_mem.c - MEM: destinations, sources, grants, allocations. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

bool k_has_bytes(struct k_call *c, const struct k_object *o, uint64_t offset, uint64_t n)
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

void k_read_and_check(struct k_call *c, const struct k_object *o, const char *what)
{
    uint64_t offset = c->in.read.offset, length = c->in.read.length;
    uint64_t rest = offset < o->size ? o->size - offset : 0;
    (void)k_call_run(c);
    if (k_want(c, PST_OK, what))
        (void)k_has_bytes(c, o, offset, rest < length ? rest : length);
}

/* Lengths around pages and blocks, from both ends of the object. */
static const uint64_t lengths[] = {1, 7, 511, 512, 4095, 4096, 4097, 65537, 100001};
#define N_LENGTHS (sizeof(lengths) / sizeof(lengths[0]))

static void read_at_guards(struct k_store *s, const struct k_object *o, enum k_place place)
{
    for (size_t i = 0; i < N_LENGTHS; i++) {
        uint64_t length = k_align_up(s, lengths[i]);
        uint64_t offset = o->size > length / 2 ? o->size - length / 2 : 0;
        const uint64_t offsets[] = {0, offset - offset % k_align_up(s, 1)};
        for (size_t k = 0; k < 2; k++) {
            struct k_call *c = k_new_read(s, o->key, offsets[k], length);
            k_step(s->test, "reading %llu bytes at %llu behind a guard page",
                   (unsigned long long)length, (unsigned long long)offsets[k]);
            k_call_dst(c, (size_t)length, 0, place);
            k_read_and_check(c, o, "a read");
            k_call_free(c);
        }
    }
}

void k_MEM_001(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
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
    struct k_store *s = k_need(t, K_READS);
    struct k_call *calls[24];
    struct k_object o;
    size_t n = 0;
    if (!s || !k_object(s, 1u << 20, &o))
        return;
    for (; n < sizeof(calls) / sizeof(calls[0]); n++) {
        struct k_call *c = k_new_read(s, o.key, 0, k_align_up(s, (1u << 20) + 1));
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
    struct k_store *s = k_need(t, K_READS);
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
    struct k_store *s = k_need(t, K_READS);
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
    struct k_store *s = k_need(t, K_READS);
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
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !k_object(s, 100001, &o))
        return;
    for (size_t i = 0; i < N_SPANS; i++) {
        struct k_call *c = k_new_read(s, o.key, 0, k_align_up(s, o.size + 5));
        k_step(t, "reading into pieces of about %zu bytes", spans[i]);
        k_call_dst(c, (size_t)c->in.read.length, spans[i], K_AT_END);
        k_read_and_check(c, &o, "a read into several pieces");
        k_call_free(c);
    }
    k_object_fini(&o);
}

void k_MEM_007(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    for (size_t i = 0; i < N_SPANS; i++) {
        if (s->caps & PST_CAP_PUT)
            put_spans(s, spans[i]);
        if (s->caps & PST_CAP_UPLOAD)
            upload_spans(s, spans[i]);
    }
}

void k_MEM_017(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !k_object(s, 20011, &o))
        return;
    if (s->limits.mem_align > 1 || s->limits.io_align > 1) {
        k_skip(t, "the store asks for aligned memory");
        return;
    }
    /* Placed before a guard page, the address follows from the length. */
    for (uint64_t length = 10000; length < 10032; length++) {
        struct k_call *c = k_new_read(s, o.key, length % 5, length);
        k_step(t, "reading to an address with remainder %llu of 32",
               (unsigned long long)((32 - length % 32) % 32));
        k_call_dst(c, (size_t)length, 0, K_AT_END);
        k_read_and_check(c, &o, "a read to an odd address");
        k_call_free(c);
    }
    k_object_fini(&o);
}
