/* group_read.c - READ: bytes, ranges, etags, keys. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "kit.h"
#include "requirements_fwd.h"

/* Read a range both ways and compare it with the object. */
static void check_range(struct k_store *s, const struct k_object *o, uint64_t offset,
                        uint64_t length)
{
    struct k_test *t = s->test;
    uint64_t rest = offset < o->size ? o->size - offset : 0;
    uint64_t want = rest < length ? rest : length;
    for (int is_early = 0; is_early < 2; is_early++) {
        const char *way = is_early ? "given memory" : "late destination";
        struct k_call *c = k_new_read(s, o->key, offset, length);
        k_step(t, "reading %llu bytes at %llu of %llu, %s", (unsigned long long)length,
               (unsigned long long)offset, (unsigned long long)o->size, way);
        if (is_early)
            k_call_dst(c, (size_t)length, 0, K_AT_END);
        (void)k_call_run(c);
        if (k_want(c, PST_OK, "a read") &&
            k_that(
                t, c->out.read.n_read == want,
                "expected n_read %llu of %llu bytes at %llu from an object of %llu (%s), got %llu",
                (unsigned long long)want, (unsigned long long)length, (unsigned long long)offset,
                (unsigned long long)o->size, way, (unsigned long long)c->out.read.n_read))
            k_that(t,
                   c->snapshot_len >= want &&
                       (want == 0 || memcmp(c->snapshot, o->data + offset, (size_t)want) == 0),
                   "expected the object's bytes at %llu (%s), got other ones",
                   (unsigned long long)offset, way);
        k_that(t, want > 0 || c->n_dst_calls == 0,
               "expected no dst() where there is nothing to read, got %u", c->n_dst_calls);
        k_call_free(c);
    }
}

void k_READ_001(struct k_test *t)
{
    static const uint64_t sizes[] = {0, 1, 4095, 4096, 4097, (1u << 20) + 1};
    struct k_store *s = k_need(t, K_READS);
    if (!s)
        return;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct k_object o;
        if (!k_object(s, sizes[i], &o))
            return;
        check_range(s, &o, 0, k_align_up(s, o.size));
        check_range(s, &o, 0, k_align_up(s, o.size + 1));
        check_range(s, &o, 0, k_align_up(s, o.size + 100000));
        k_object_fini(&o);
    }
}

void k_READ_002(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !k_object(s, 20u << 20, &o))
        return;
    check_range(s, &o, 0, k_align_up(s, o.size));
    k_object_fini(&o);
}

void k_READ_003(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !k_object(s, 100003, &o))
        return;
    const uint64_t offsets[] = {0,
                                1,
                                4095,
                                4096,
                                65536,
                                o.size / 2,
                                o.size > 5000 ? o.size - 5000 : 0,
                                o.size > 0 ? o.size - 1 : 0};
    const uint64_t lengths[] = {1, 2, 4096, 4097, 5000, 5001, 65537};
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
        for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
            uint64_t align = k_align_up(s, 1);
            check_range(s, &o, offsets[i] - offsets[i] % align, k_align_up(s, lengths[k]));
        }
    k_object_fini(&o);
}

void k_READ_004(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    const uint64_t sizes[] = {5000, 0};
    for (size_t i = 0; s && i < 2; i++) {
        struct k_object o;
        if (!k_object(s, sizes[i], &o))
            return;
        const uint64_t end = k_align_up(s, o.size);
        const uint64_t offsets[] = {end, end + k_align_up(s, 1), end + (1ull << 32),
                                    (uint64_t)INT64_MAX - (uint64_t)INT64_MAX % k_align_up(s, 1),
                                    UINT64_MAX - UINT64_MAX % k_align_up(s, 1) - k_align_up(s, 1)};
        for (size_t k = 0; k < sizeof(offsets) / sizeof(offsets[0]); k++)
            check_range(s, &o, offsets[k], k_align_up(s, 100));
        k_object_fini(&o);
    }
}

void k_READ_005(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !k_object(s, 5000, &o))
        return;
    check_range(s, &o, 0, 0);
    check_range(s, &o, k_align_up(s, 1), 0);
    check_range(s, &o, k_align_up(s, o.size), 0);
    k_object_fini(&o);
}

void k_READ_006(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    struct k_object o;
    if (!s || !k_object(s, 5000, &o))
        return;
    const uint64_t offsets[] = {0, k_align_up(s, 100), k_align_up(s, o.size)};
    for (size_t i = 0; i < 3; i++) {
        struct k_call *c = k_new_read(s, o.key, offsets[i], k_align_up(s, 50));
        (void)k_call_run(c);
        if (k_want(c, PST_OK, "a read"))
            k_that(t, c->out.read.object_size == o.size || c->out.read.object_size == PST_UNKNOWN,
                   "expected object_size %llu, got %llu", (unsigned long long)o.size,
                   (unsigned long long)c->out.read.object_size);
        k_call_free(c);
    }
    k_object_fini(&o);
}

void k_READ_007(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    const pst_str keys[] = {k_key(t, "not-there"), k_key(t, "not/there/either"),
                            k_key(t, "not there ?#%%")};
    if (!s)
        return;
    for (size_t i = 0; i < 3; i++) {
        struct k_attrs a;
        if (s->caps & PST_CAP_STAT) {
            pst_rc rc = k_stat(s, keys[i], &a);
            k_that(t, rc == PST_E_NOT_FOUND,
                   "expected stat of what is not there: NOT_FOUND, got %s", k_rc_name(rc));
        }
        struct k_call *c = k_new_read(s, keys[i], 0, k_align_up(s, 100));
        (void)k_call_run(c);
        (void)k_want(c, PST_E_NOT_FOUND, "a read of what is not there");
        k_that(t, c->n_dst_calls == 0, "expected no dst() for what is not there, got %u",
               c->n_dst_calls);
        k_call_free(c);
    }
}

void k_READ_008(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    pst_str prefix = k_key(t, "directory");
    if (!s)
        return;
    if (t->config->profile == K_RO) {
        if (t->base_len < 2) {
            k_skip(t, "the URI has no prefix to read");
            return;
        }
        prefix = pst_str_of(t->base, t->base_len - 1);
    } else if (!k_make(s, k_key(t, "directory/object"), 10, 1)) {
        return;
    }
    struct k_call *c = k_new_read(s, prefix, 0, k_align_up(s, 100));
    (void)k_call_run(c);
    k_that(t, c->hung || c->rc == PST_E_NOT_FOUND || c->rc == PST_E_INVALID,
           "expected a read of the common prefix %s: NOT_FOUND or INVALID, got %s", k_show(prefix),
           k_rc_name(c->rc));
    k_call_free(c);
}

void k_READ_014(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS | PST_CAP_READ_SUFFIX);
    struct k_object o;
    if (!s || !k_object(s, 10007, &o))
        return;
    const uint64_t lengths[] = {k_align_up(s, 1), k_align_up(s, 8), k_align_up(s, 4096), o.size,
                                o.size + 1000};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint64_t want = lengths[i] < o.size ? lengths[i] : o.size;
        for (int is_early = 0; is_early < 2; is_early++) {
            struct k_call *c = k_new_read(s, o.key, 77, lengths[i]);
            c->in.read.flags = PST_READ_SUFFIX;
            if (is_early)
                k_call_dst(c, (size_t)lengths[i], 0, K_AT_END);
            k_step(t, "reading the last %llu bytes", (unsigned long long)lengths[i]);
            (void)k_call_run(c);
            if (k_want(c, PST_OK, "a suffix read"))
                k_that(t,
                       c->out.read.n_read == want &&
                           memcmp(c->snapshot, o.data + (o.size - want), (size_t)want) == 0,
                       "expected the last %llu bytes of %llu, got %llu or other ones",
                       (unsigned long long)want, (unsigned long long)o.size,
                       (unsigned long long)c->out.read.n_read);
            k_call_free(c);
        }
    }
    k_object_fini(&o);
}

/* ---- keys -------------------------------------------------------------------------------------- */

static const char *const odd_names[] = {
    "with space",
    " leading space",
    "trailing space ",
    "percent%41",
    "percent%2F",
    "100%",
    "question?mark",
    "hash#tag",
    "plus+sign",
    "new\nline",
    "tab\there",
    "back\\slash",
    "..dots",
    ".hidden",
    "trailing.",
    "UPPER",
    "upper",
    "quote\"'s",
    "semi;colon&amp",
    "star*[a-z]",
    "~tilde",
    "\xc3\xa9 composed",
    "e\xcc\x81 decomposed",
    "\xf0\x9f\x98\x80",
    "\xff\xfe not utf-8",
    "a//b",
    "a/./b",
    "a/../b",
    "/leading",
    "a/",
    "..",
    ".",
    "a/..",
    "\x01",
    "x\r\ny",
    "colon:name",
    "nul\0name",
    "COM1",
    "$HOME",
    "`id`",
    "-dash",
    "\xe2\x80\xae rtl",
};
#define N_ODD (sizeof(odd_names) / sizeof(odd_names[0]))

static pst_str odd_name(size_t i)
{
    bool has_nul = strcmp(odd_names[i], "nul") == 0;
    return has_nul ? pst_str_of(odd_names[i], 8) : k_text(odd_names[i]);
}

/* Write, look it up in the listing, read it back. True: the key was kept. */
static bool is_key_kept(struct k_store *s, pst_str key, uint64_t seed)
{
    struct k_test *t = s->test;
    k_step(t, "writing the key %s", k_show(key));
    pst_rc rc = k_put(s, key, 50 + seed, seed);
    if (rc == PST_E_INVALID)
        return false;
    if (!k_that(t, rc == PST_OK, "expected the key %s to be kept or refused with INVALID, got %s",
                k_show(key), k_rc_name(rc)))
        return false;
    struct k_listing l = {.prefix = key, .flags = PST_LIST_RECURSIVE};
    rc = k_list(s, &l);
    k_that(t, rc == PST_OK && k_entries_find(&l.entries, key),
           "expected the listing to show the key %s byte for byte, got %s and %zu other entries",
           k_show(key), k_rc_name(rc), l.entries.n);
    k_entries_fini(&l.entries);
    return k_holds(s, key, 50 + seed, seed);
}

void k_READ_015(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS | PST_CAP_REMOVE);
    pst_str kept[N_ODD + 4];
    uint64_t seeds[N_ODD + 4];
    size_t n_kept = 0, n_objects = 0;
    char longest[300];
    if (!s)
        return;
    for (size_t i = 0; i < N_ODD + 4; i++) {
        /* Each in a place of its own: a key that is folded shows up as another key there. */
        pst_str base = k_key(t, "odd-%zu/", i);
        pst_str odd;
        if (i < N_ODD) {
            odd = odd_name(i);
        } else {
            size_t len = (size_t)252 + i - N_ODD; /* 252 to 255 bytes */
            memset(longest, 'l', sizeof(longest));
            odd = pst_str_of(longest, len);
        }
        char *joined = (char *)k_alloc(base.len + odd.len);
        memcpy(joined, base.ptr, base.len);
        memcpy(joined + base.len, odd.ptr, odd.len);
        pst_str key = pst_str_of(joined, base.len + odd.len);
        if (is_key_kept(s, key, i)) {
            kept[n_kept] = key;
            seeds[n_kept++] = i;
        }
    }
    struct k_listing l = {.prefix = k_key(t, "%s", ""), .flags = PST_LIST_RECURSIVE};
    if (k_list(s, &l) == PST_OK)
        for (size_t i = 0; i < l.entries.n; i++)
            n_objects += l.entries.all[i].kind == PST_KIND_OBJECT;
    k_that(t, n_objects == n_kept, "expected %zu objects for %zu keys that were kept, got %zu",
           n_kept, n_kept, n_objects);
    k_entries_fini(&l.entries);
    for (size_t i = 0; i < n_kept; i++)
        (void)k_holds(s, kept[i], 50 + seeds[i], seeds[i]);
    k_that(t, n_kept > 5, "expected at least the plainest of the odd keys to be kept, got %zu kept",
           n_kept);
}

void k_READ_016(struct k_test *t)
{
    static const uint64_t sizes[] = {0, 1, 100000};
    struct k_store *s = k_need(t, K_READS | PST_CAP_STAT);
    struct timespec now;
    if (!s)
        return;
    for (size_t i = 0; i < 3; i++) {
        struct k_object o;
        struct k_attrs a;
        if (!k_object(s, sizes[i], &o))
            return;
        pst_rc rc = k_stat(s, o.key, &a);
        (void)clock_gettime(CLOCK_REALTIME, &now);
        k_that(t, rc == PST_OK && a.size == o.size,
               "expected stat to tell %llu bytes, got %s and "
               "%llu",
               (unsigned long long)o.size, k_rc_name(rc), (unsigned long long)a.size);
        k_that(t, a.kind == PST_KIND_OBJECT, "expected kind OBJECT from stat, got %u", a.kind);
        int64_t now_s = (int64_t)now.tv_sec, then_s = a.mtime_ns / 1000000000;
        bool is_sane = then_s <= now_s + 86400 &&
                       (t->config->profile == K_RO || then_s >= now_s - 86400);
        k_that(t, a.mtime_ns == PST_TIME_UNKNOWN || is_sane,
               "expected a time about now, in nanoseconds since 1970, got %lld",
               (long long)a.mtime_ns);
        k_object_fini(&o);
    }
}

void k_READ_017(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS | PST_CAP_PRESIGN);
    const pst_str keys[] = {k_key(t, "plain"), k_key(t, "odd ?#%%+\xc3\xa9"),
                            k_key(t, "new\nline")};
    if (!s)
        return;
    for (size_t i = 0; i < 3; i++) {
        struct k_call *c = k_call_new(s, K_PRESIGN, NULL);
        c->in.presign.key = keys[i];
        c->in.presign.method = PST_STR("GET");
        c->in.presign.expires_s = 3600;
        (void)k_call_run(c);
        if (k_want(c, PST_OK, "presign")) {
            pst_str url = c->out.presign.url;
            bool is_url = url.len > 8 && memchr(url.ptr, ':', url.len) != NULL;
            for (size_t k = 0; k < url.len; k++)
                is_url &= url.ptr[k] > ' ' && url.ptr[k] < 0x7f;
            k_that(t, is_url, "expected a URL of printable ASCII, got %s", k_show(url));
        }
        k_call_free(c);
    }
}

void k_READ_018(struct k_test *t)
{
    struct k_store *s = k_need(t, K_READS);
    const pst_str version = PST_STR("no-such-version");
    struct k_object o;
    if (!s || !k_object(s, 5000, &o))
        return;
    struct k_call *c = k_new_read(s, o.key, 0, k_align_up(s, 100));
    c->in.read.version = version;
    (void)k_call_run(c);
    k_that(t, c->hung || c->rc < 0,
           "expected a read of a version that does not exist to fail, got %s", k_rc_name(c->rc));
    k_call_free(c);
    if (s->caps & PST_CAP_STAT) {
        c = k_new_stat(s, o.key);
        c->in.stat.version = version;
        (void)k_call_run(c);
        k_that(t, c->hung || c->rc < 0,
               "expected stat of a version that does not exist to fail, got %s", k_rc_name(c->rc));
        k_call_free(c);
    }
    k_object_fini(&o);
}
