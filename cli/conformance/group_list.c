/* group_list.c - LIST: complete, in order, page by page. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

static int compare(pst_str a, pst_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n > 0 ? memcmp(a.ptr, b.ptr, n) : 0;
    return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

static bool starts_with(pst_str s, pst_str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

/* Both kinds of listing, where there are both. */
bool k_next_way(struct k_store *s, unsigned *way, struct k_listing *l)
{
    for (; *way < 2; (*way)++) {
        l->use_cursor = *way == 0;
        l->use_token = *way == 1;
        if (*way == 0 ? k_lists_by_cursor(s) : k_lists_by_token(s)) {
            (*way)++;
            return true;
        }
    }
    return false;
}

/* Exactly the keys of the corpus that begin with `prefix` and come after `after`, each once. */
void k_check_complete(struct k_test *t, const struct k_corpus *c, const struct k_listing *l,
                      pst_rc rc, const char *what)
{
    size_t n_expected = 0, n_missing = 0;
    if (!k_that(t, rc == PST_OK, "expected %s: OK, got %s", what, k_rc_name(rc)))
        return;
    for (size_t i = 0; i < c->n; i++) {
        if (!starts_with(c->keys[i], l->prefix) || compare(c->keys[i], l->start_after) <= 0)
            continue;
        n_expected++;
        /* Quadratic, over 1,500 short keys: quick enough. */
        if (!k_entries_find(&l->entries, c->keys[i]) && n_missing++ == 0)
            k_fail(t, "expected %s to show %s, got no such entry", what, k_show(c->keys[i]));
    }
    k_that(t, l->entries.n == n_expected, "expected %zu entries from %s, got %zu (%zu missing)",
           n_expected, what, l->entries.n, n_missing);
}

void k_LIST_001(struct k_test *t)
{
    static const uint32_t pages[] = {1, 7, 1000};
    struct k_store *s = k_need(t, PST_CAP_LIST);
    struct k_corpus corpus;
    if (!s || !k_corpus(s, &corpus))
        return;
    for (size_t i = 0; i < 3; i++) {
        struct k_listing way_l = {0};
        for (unsigned way = 0; k_next_way(s, &way, &way_l);) {
            struct k_listing l = way_l;
            l.prefix = corpus.prefix;
            l.flags = PST_LIST_RECURSIVE;
            l.max_entries = pages[i];
            /* A request for each key is too much of a server. */
            if (pages[i] == 1 && corpus.n > 300)
                l.prefix = corpus.keys[corpus.n / 2], l.prefix.len -= l.prefix.len > 2 ? 2 : 0;
            k_step(t, "listing in pages of %u", pages[i]);
            pst_rc rc = k_list(s, &l);
            k_check_complete(t, &corpus, &l, rc, "a recursive listing");
            k_entries_fini(&l.entries);
        }
    }
    k_corpus_fini(&corpus);
}

void k_LIST_002(struct k_test *t)
{
    static const uint32_t pages[] = {1, 2, 7, 50};
    struct k_store *s = k_need(t, PST_CAP_LIST);
    struct k_corpus corpus;
    if (!s || !k_corpus(s, &corpus))
        return;
    for (size_t i = 0; i < 4; i++) {
        struct k_listing way_l = {0};
        for (unsigned way = 0; k_next_way(s, &way, &way_l);) {
            struct k_listing l = way_l;
            l.prefix = corpus.prefix;
            l.max_entries = pages[i];
            k_step(t, "listing one level in pages of %u", pages[i]);
            (void)k_list(s, &l);
            k_that(t, l.largest_page <= pages[i], "expected at most %u entries in a page, got %u",
                   pages[i], l.largest_page);
            k_entries_fini(&l.entries);
        }
    }
    k_corpus_fini(&corpus);
}

void k_LIST_003(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST | PST_CAP_LIST_ORDERED);
    struct k_corpus corpus;
    if (!s || !k_corpus(s, &corpus))
        return;
    for (unsigned i = 0; i < 2; i++) {
        struct k_listing way_l = {0};
        for (unsigned way = 0; k_next_way(s, &way, &way_l);) {
            struct k_listing l = way_l;
            l.prefix = corpus.prefix;
            l.flags = i == 0 ? PST_LIST_RECURSIVE : 0;
            l.max_entries = 100;
            pst_rc rc = k_list(s, &l);
            k_that(t, rc == PST_OK, "expected a listing: OK, got %s", k_rc_name(rc));
            for (size_t k = 1; k < l.entries.n; k++) {
                pst_str a = l.entries.all[k - 1].key, b = l.entries.all[k].key;
                if (!k_that(t, compare(a, b) < 0,
                            "expected keys in the order of their bytes, got %s "
                            "before %s",
                            k_show(a), k_show(b)))
                    break;
            }
            k_entries_fini(&l.entries);
        }
    }
    k_corpus_fini(&corpus);
}

static void list_after(struct k_store *s, const struct k_corpus *corpus, pst_str after)
{
    struct k_listing way_l = {0};
    for (unsigned way = 0; k_next_way(s, &way, &way_l);) {
        struct k_listing l = way_l;
        l.prefix = corpus->prefix;
        l.flags = PST_LIST_RECURSIVE;
        l.start_after = after;
        l.max_entries = 400;
        k_step(s->test, "listing after %s", k_show(after));
        pst_rc rc = k_list(s, &l);
        k_check_complete(s->test, corpus, &l, rc, "a listing with start_after");
        k_entries_fini(&l.entries);
    }
}

void k_LIST_004(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST | PST_CAP_LIST_ORDERED);
    struct k_corpus corpus;
    if (!s || !k_corpus(s, &corpus))
        return;
    const size_t at[] = {0, corpus.n / 3, corpus.n / 2, corpus.n - 1};
    for (size_t i = 0; i < 4; i++) {
        pst_str key = corpus.keys[at[i]];
        list_after(s, &corpus, key);
        /* The same with a key that does not exist, just behind it. */
        char *behind = (char *)k_alloc(key.len + 1);
        memcpy(behind, key.ptr, key.len);
        behind[key.len] = '!';
        list_after(s, &corpus, pst_str_of(behind, key.len + 1));
    }
    list_after(s, &corpus, corpus.prefix);
    k_corpus_fini(&corpus);
}

void k_LIST_005(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST);
    struct k_corpus corpus;
    if (!s || !k_corpus(s, &corpus))
        return;
    for (size_t i = 0; i < corpus.n; i += corpus.n / 8 + 1) {
        for (size_t cut = 0; cut < 4; cut++) {
            struct k_listing l = {.prefix = corpus.keys[i], .flags = PST_LIST_RECURSIVE};
            if (corpus.keys[i].len < corpus.prefix.len + cut)
                break;
            l.prefix.len -= cut;
            k_step(t, "listing the prefix %s", k_show(l.prefix));
            pst_rc rc = k_list(s, &l);
            k_check_complete(t, &corpus, &l, rc, "a listing of a prefix");
            k_entries_fini(&l.entries);
        }
    }
    k_corpus_fini(&corpus);
}

static void check_level(struct k_test *t, const struct k_corpus *corpus, const struct k_listing *l)
{
    for (size_t i = 0; i < corpus->n; i++) {
        pst_str key = corpus->keys[i];
        if (!starts_with(key, l->prefix))
            continue;
        const char *slash = memchr(key.ptr + l->prefix.len, '/', key.len - l->prefix.len);
        if (slash)
            key.len = (size_t)(slash - key.ptr) + 1;
        const pst_entry *e = k_entries_find(&l->entries, key);
        if (!k_that(t, e != NULL, "expected the level to show %s, got no such entry", k_show(key)))
            return;
        k_that(t, e->kind == (slash ? PST_KIND_PREFIX : PST_KIND_OBJECT),
               "expected %s to be %s, got kind %u", k_show(key), slash ? "a prefix" : "an object",
               e->kind);
    }
    for (size_t i = 0; i < l->entries.n; i++) {
        pst_str key = l->entries.all[i].key;
        for (size_t k = i + 1; k < l->entries.n; k++)
            k_that(t, !k_str_eq(key, l->entries.all[k].key),
                   "expected each entry once, got %s twice", k_show(key));
        bool is_inside = starts_with(key, l->prefix);
        const char *slash = is_inside
                                ? memchr(key.ptr + l->prefix.len, '/', key.len - l->prefix.len)
                                : NULL;
        k_that(t, is_inside && (!slash || slash == key.ptr + key.len - 1),
               "expected entries of one level below %s, got %s", k_show(l->prefix), k_show(key));
    }
}

void k_LIST_006(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST);
    struct k_corpus corpus;
    if (!s || !k_corpus(s, &corpus))
        return;
    static const char *const below[] = {"", "dir1/", "a", "di"};
    for (size_t i = 0; i < 4; i++) {
        static const uint32_t pages[] = {3, 1000};
        for (size_t k = 0; k < 2; k++) {
            struct k_listing way_l = {0};
            for (unsigned way = 0; k_next_way(s, &way, &way_l);) {
                struct k_listing l = way_l;
                char prefix[800];
                int n = snprintf(prefix, sizeof(prefix), "%.*s%s", (int)corpus.prefix.len,
                                 corpus.prefix.ptr, below[i]);
                l.prefix = pst_str_of(prefix, (size_t)n);
                l.max_entries = pages[k];
                k_step(t, "listing one level below %s in pages of %u", k_show(l.prefix), pages[k]);
                pst_rc rc = k_list(s, &l);
                if (k_that(t, rc == PST_OK, "expected a listing of one level: OK, got %s",
                           k_rc_name(rc)))
                    check_level(t, &corpus, &l);
                k_entries_fini(&l.entries);
            }
        }
    }
    k_corpus_fini(&corpus);
}

void k_LIST_007(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST);
    const pst_str prefixes[] = {k_key(t, "nothing-here/"), k_key(t, "nothing-here"),
                                k_key(t, "nothing/at/all/")};
    for (size_t i = 0; s && i < 3; i++) {
        for (unsigned flags = 0; flags < 2; flags++) {
            struct k_listing way_l = {0};
            for (unsigned way = 0; k_next_way(s, &way, &way_l);) {
                struct k_listing l = way_l;
                l.prefix = prefixes[i];
                l.flags = flags ? PST_LIST_RECURSIVE : 0;
                pst_rc rc = k_list(s, &l);
                k_that(t, rc == PST_OK && l.entries.n == 0,
                       "expected OK and no entry below %s, got %s and %zu", k_show(prefixes[i]),
                       k_rc_name(rc), l.entries.n);
                k_entries_fini(&l.entries);
            }
        }
    }
}

void k_LIST_011(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST | PST_CAP_STAT);
    struct k_corpus corpus;
    if (!s || !k_corpus(s, &corpus))
        return;
    struct k_listing l = {.prefix = corpus.prefix, .flags = PST_LIST_RECURSIVE};
    (void)k_list(s, &l);
    for (size_t i = 0; i < l.entries.n; i += l.entries.n / 40 + 1) {
        const pst_entry *e = &l.entries.all[i];
        struct k_attrs a;
        pst_rc rc = k_stat(s, e->key, &a);
        k_that(t, rc == PST_OK, "expected stat of the listed key %s: OK, got %s", k_show(e->key),
               k_rc_name(rc));
        k_that(t, e->kind == PST_KIND_OBJECT,
               "expected a recursive listing to give objects, got kind "
               "%u for %s",
               e->kind, k_show(e->key));
        k_that(t, e->size == a.size, "expected %s with the %llu bytes that stat tells, got %llu",
               k_show(e->key), (unsigned long long)a.size, (unsigned long long)e->size);
        int64_t apart_ns = e->mtime_ns - a.mtime_ns;
        k_that(t,
               e->mtime_ns == PST_TIME_UNKNOWN || a.mtime_ns == PST_TIME_UNKNOWN ||
                   (apart_ns < 1000000000 && apart_ns > -1000000000),
               "expected %s with the time that stat tells, got one %lld ns away", k_show(e->key),
               (long long)apart_ns);
    }
    k_entries_fini(&l.entries);
    k_corpus_fini(&corpus);
}

static size_t count_below(struct k_store *s, pst_str prefix, uint32_t flags)
{
    struct k_listing l = {.prefix = prefix, .flags = flags};
    pst_rc rc = k_list(s, &l);
    size_t n = l.entries.n;
    k_that(s->test, rc == PST_OK, "expected a listing: OK, got %s", k_rc_name(rc));
    k_entries_fini(&l.entries);
    return n;
}

void k_LIST_012(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST | PST_CAP_UPLOAD);
    struct k_writer w[2];
    pst_str prefix = k_key(t, "%s", "");
    if (!s || !k_make(s, k_key(t, "visible"), 10, 1))
        return;
    if (k_writer_open(&w[0], s, k_key(t, "upload-a"), 1) && k_writer_part(&w[0], 0, 1000) &&
        k_writer_open(&w[1], s, k_key(t, "visible"), 2) && k_writer_part(&w[1], 0, 1000)) {
        static const uint32_t flags[] = {PST_LIST_RECURSIVE, 0,
                                         PST_LIST_RECURSIVE | PST_LIST_UNORDERED,
                                         PST_LIST_RECURSIVE | PST_LIST_EMPTY_DIRS};
        for (size_t i = 0; i < 4; i++) {
            size_t n = count_below(s, prefix, flags[i]);
            k_that(t, n == 1,
                   "expected one object while uploads are open, got %zu entries with flags "
                   "%u",
                   n, flags[i]);
        }
        k_writer_free(&w[0]);
        k_writer_free(&w[1]);
    }
}

void k_LIST_013(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST);
    struct k_corpus corpus;
    struct k_listing way_l = {0};
    if (!s || !k_corpus(s, &corpus))
        return;
    for (unsigned way = 0; k_next_way(s, &way, &way_l);) {
        struct k_listing l = way_l;
        l.prefix = corpus.prefix;
        l.flags = PST_LIST_RECURSIVE | PST_LIST_UNORDERED;
        l.max_entries = 100;
        pst_rc rc = k_list(s, &l);
        k_check_complete(t, &corpus, &l, rc, "an unordered listing");
        k_entries_fini(&l.entries);
    }
    k_corpus_fini(&corpus);
}

static bool make_container(struct k_store *s, pst_str name)
{
    struct k_call *c = k_call_new(s, K_CONTAINER_CREATE, NULL);
    c->in.container.name = name;
    (void)k_call_run(c);
    bool is_made = k_want(c, PST_OK, "container_create");
    k_call_free(c);
    return is_made;
}

void k_LIST_014(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST | PST_CAP_CONTAINER | PST_CAP_EMPTY_DIRS);
    pst_str prefix = k_key(t, "%s", ""), dir = k_key(t, "empty/");
    if (!s || !k_make(s, k_key(t, "full/object"), 10, 1) || !make_container(s, k_key(t, "empty")))
        return;
    struct k_listing with = {.prefix = prefix, .flags = PST_LIST_RECURSIVE | PST_LIST_EMPTY_DIRS};
    (void)k_list(s, &with);
    const pst_entry *e = k_entries_find(&with.entries, dir);
    k_that(t, e && e->kind == PST_KIND_PREFIX,
           "expected the empty directory %s as a prefix, got %s", k_show(dir),
           e ? "another kind" : "none");
    k_that(t, with.entries.n == 2, "expected the object and the empty directory, got %zu entries",
           with.entries.n);
    k_entries_fini(&with.entries);
    struct k_listing without = {.prefix = prefix, .flags = PST_LIST_RECURSIVE};
    (void)k_list(s, &without);
    k_that(t, without.entries.n == 1 && !k_entries_find(&without.entries, dir),
           "expected only the object without EMPTY_DIRS, got %zu entries", without.entries.n);
    k_entries_fini(&without.entries);
}
