/* group_etag.c - READ, the part about what names a content. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

static void check_etag(struct k_test *t, const char *where, pst_str etag, uint32_t strength)
{
    k_that(t, strength <= PST_ETAG_STRONG, "expected a strength of base.h from %s, got %u", where,
           strength);
    k_that(
        t, (strength == PST_ETAG_NONE) == (etag.len == 0),
        "expected an etag exactly when the strength is not NONE from %s, got %s with strength %u",
        where, k_show(etag), strength);
    k_that(t, etag.len <= 1100, "expected an etag of at most 1,100 bytes from %s, got %zu", where,
           etag.len);
}

void k_READ_009(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS | PST_CAP_STAT);
    struct k_object o;
    struct k_attrs a, b;
    if (!s || !k_object(s, 5000, &o))
        return;
    if (k_stat(s, o.key, &a) != PST_OK || k_stat(s, o.key, &b) != PST_OK) {
        k_fail(t, "expected stat of %s: OK, got an error", k_show(o.key));
        return;
    }
    check_etag(t, "stat", k_etag(&a), a.etag_strength);
    k_that(t, k_str_eq(k_etag(&a), k_etag(&b)),
           "expected stat to name the same etag twice, got %s "
           "and %s",
           k_show(k_etag(&a)), k_show(k_etag(&b)));
    const uint64_t offsets[] = {0, k_align_up(s, 100), k_align_up(s, o.size)};
    for (size_t i = 0; i < 3; i++) {
        struct k_call *c = k_new_read(s, o.key, offsets[i], k_align_up(s, 50));
        (void)k_call_run(c);
        /* No byte, no content: a reply that says "beyond the end" need not name one. */
        bool is_nameless = c->out.read.n_read == 0 && c->out.read.etag_strength == PST_ETAG_NONE;
        if (k_want(c, PST_OK, "a read") && !is_nameless) {
            check_etag(t, "read", c->out.read.etag, c->out.read.etag_strength);
            k_that(t, k_str_eq(c->out.read.etag, k_etag(&a)),
                   "expected read to name stat's etag %s, got %s", k_show(k_etag(&a)),
                   k_show(c->out.read.etag));
        }
        k_call_free(c);
    }
    struct k_listing l = {.prefix = o.key, .flags = PST_LIST_RECURSIVE};
    (void)k_list(s, &l);
    const pst_entry *e = k_entries_find(&l.entries, o.key);
    if (k_that(t, e != NULL, "expected the listing to show %s, got none", k_show(o.key)) &&
        e->etag.len > 0) {
        check_etag(t, "the listing", e->etag, e->etag_strength);
        k_that(t, k_str_eq(e->etag, k_etag(&a)),
               "expected the listing to name stat's etag %s, got "
               "%s",
               k_show(k_etag(&a)), k_show(e->etag));
    }
    k_entries_fini(&l.entries);
    k_object_fini(&o);
}

void k_READ_010(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS | PST_CAP_STAT);
    char seen[8][1200];
    pst_str key = k_key(t, "replaced");
    if (!s)
        return;
    for (size_t i = 0; i < 8; i++) {
        struct k_attrs a;
        if (!k_make(s, key, i < 6 ? 100 : 200, i))
            return;
        if (!k_that(t, k_stat(s, key, &a) == PST_OK, "expected stat: OK, got an error"))
            return;
        if (a.etag_strength != PST_ETAG_STRONG) {
            k_skip(t, "the store's etags are not strong");
            return;
        }
        memcpy(seen[i], a.etag, sizeof(seen[i]));
        for (size_t k = 0; k < i; k++)
            k_that(t, strcmp(seen[i], seen[k]) != 0,
                   "expected contents %zu and %zu to have "
                   "different etags, got %s twice",
                   k, i, k_show(k_etag(&a)));
    }
}

static pst_rc read_matching(struct k_store *s, pst_str key, pst_str etag, uint64_t offset)
{
    struct k_call *c = k_new_read(s, key, offset, k_align_up(s, 100));
    c->in.read.if_match = etag;
    k_call_dst(c, (size_t)c->in.read.length, 0, K_AT_END);
    pst_rc rc = k_call_run(c);
    k_call_free(c);
    return rc;
}

void k_READ_011(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS | PST_CAP_STAT | PST_CAP_READ_IF_MATCH);
    struct k_object o;
    struct k_attrs a;
    if (!s || !k_object(s, 5000, &o))
        return;
    if (k_that(t, k_stat(s, o.key, &a) == PST_OK, "expected stat: OK, got an error") &&
        a.etag_strength == PST_ETAG_STRONG) {
        const uint64_t offsets[] = {0, k_align_up(s, 1000), k_align_up(s, o.size)};
        for (size_t i = 0; i < 3; i++) {
            pst_rc rc = read_matching(s, o.key, k_etag(&a), offsets[i]);
            k_that(t, rc == PST_OK,
                   "expected a read with the object's own etag at %llu: OK, got %s",
                   (unsigned long long)offsets[i], k_rc_name(rc));
        }
    } else {
        k_skip(t, "the object's etag is not strong");
    }
    k_object_fini(&o);
}

static bool is_refusal(pst_rc rc)
{
    return rc == PST_E_PRECONDITION || rc == PST_E_CHANGED;
}

void k_READ_012(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS | PST_CAP_STAT | PST_CAP_READ_IF_MATCH);
    struct k_object o;
    struct k_attrs a;
    char longest[1100], almost[1200];
    if (!s || !k_object(s, 5000, &o))
        return;
    if (k_stat(s, o.key, &a) != PST_OK)
        return;
    memset(longest, 'e', sizeof(longest));
    int n = snprintf(almost, sizeof(almost), "%.1098sx", a.etag);
    const pst_str wrong[] = {PST_STR("x"), PST_STR("\"0123456789abcdef0123456789abcdef\""),
                             pst_str_of(longest, sizeof(longest)), pst_str_of(almost, (size_t)n),
                             pst_str_of(a.etag, strlen(a.etag) > 1 ? strlen(a.etag) - 1 : 1)};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        pst_rc rc = read_matching(s, o.key, wrong[i], 0);
        k_that(t, is_refusal(rc),
               "expected a read with the etag %s instead of %s: PRECONDITION or "
               "CHANGED, got %s",
               k_show(wrong[i]), k_show(k_etag(&a)), k_rc_name(rc));
    }
    k_object_fini(&o);
}

void k_READ_013(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS | PST_CAP_STAT | PST_CAP_READ_IF_MATCH);
    pst_str key = k_key(t, "replaced-between");
    if (!s)
        return;
    for (uint64_t i = 0; i < 6; i++) {
        if (!k_make(s, key, 5000, i * 2))
            return;
        struct k_call *c = k_new_read(s, key, 0, k_align_up(s, 1000));
        (void)k_call_run(c);
        if (!k_want(c, PST_OK, "the first range"))
            return;
        if (c->out.read.etag_strength != PST_ETAG_STRONG) {
            k_skip(t, "the store's etags are not strong");
            return;
        }
        if (!k_make(s, key, i < 4 ? 5000 : 6000, i * 2 + 1))
            return;
        pst_rc rc = read_matching(s, key, c->out.read.etag, k_align_up(s, 1000));
        k_that(t, is_refusal(rc),
               "expected the second range of an object that was replaced: "
               "PRECONDITION or CHANGED, got %s",
               k_rc_name(rc));
        k_call_free(c);
    }
}
