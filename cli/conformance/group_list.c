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
static bool next_way(struct k_store *s, unsigned *way, struct k_listing *l)
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
static void check_complete(struct k_test *t, const struct k_corpus *c, const struct k_listing *l,
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
        for (unsigned way = 0; next_way(s, &way, &way_l);) {
            struct k_listing l = way_l;
            l.prefix = corpus.prefix;
            l.flags = PST_LIST_RECURSIVE;
            l.max_entries = pages[i];
            /* A request for each key is too much of a server. */
            if (pages[i] == 1 && corpus.n > 300)
                l.prefix = corpus.keys[corpus.n / 2], l.prefix.len -= l.prefix.len > 2 ? 2 : 0;
            k_step(t, "listing in pages of %u", pages[i]);
            pst_rc rc = k_list(s, &l);
            check_complete(t, &corpus, &l, rc, "a recursive listing");
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
        for (unsigned way = 0; next_way(s, &way, &way_l);) {
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
        for (unsigned way = 0; next_way(s, &way, &way_l);) {
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
    for (unsigned way = 0; next_way(s, &way, &way_l);) {
        struct k_listing l = way_l;
        l.prefix = corpus->prefix;
        l.flags = PST_LIST_RECURSIVE;
        l.start_after = after;
        l.max_entries = 400;
        k_step(s->test, "listing after %s", k_show(after));
        pst_rc rc = k_list(s, &l);
        check_complete(s->test, corpus, &l, rc, "a listing with start_after");
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
            check_complete(t, &corpus, &l, rc, "a listing of a prefix");
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
            for (unsigned way = 0; next_way(s, &way, &way_l);) {
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
            for (unsigned way = 0; next_way(s, &way, &way_l);) {
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

/* ---- pages that fail --------------------------------------------------------------------------- */

static pst_cursor *open_cursor(struct k_store *s, pst_str prefix)
{
    struct k_call *c = k_call_new(s, K_LIST_OPEN, NULL);
    c->in.list.prefix = prefix;
    c->in.list.flags = PST_LIST_RECURSIVE;
    c->in.list.max_entries = 20;
    (void)k_call_run(c);
    pst_cursor *cursor = k_want(c, PST_OK, "list_open") ? c->out.cursor.cursor : NULL;
    k_call_free(c);
    return cursor;
}

/* One page; while `refuse` is set list_emit takes `limit` entries and then answers it. */
static struct k_call *next_page(struct k_store *s, pst_cursor *cursor, pst_str prefix,
                                pst_str token, size_t limit, pst_rc refuse)
{
    struct k_call *c = k_call_new(s, cursor ? K_LIST_PAGE : K_LIST, cursor);
    if (cursor) {
        c->in.page.max_entries = 20;
    } else {
        c->in.list.prefix = prefix;
        c->in.list.flags = PST_LIST_RECURSIVE;
        c->in.list.max_entries = 20;
        c->in.list.page_token = token;
    }
    c->emit_limit = limit;
    c->emit_error = refuse;
    (void)k_call_run(c);
    return c;
}

static void list_with_failures(struct k_store *s, const struct k_corpus *corpus, bool by_cursor)
{
    struct k_test *t = s->test;
    struct k_listing l = {.prefix = corpus->prefix};
    pst_cursor *cursor = NULL;
    pst_str token = pst_str_of(NULL, 0);
    bool is_last = false;
    if (by_cursor) {
        cursor = open_cursor(s, corpus->prefix);
        if (!cursor)
            return;
    }
    for (size_t page = 0; !is_last && page < 200 && !k_failed(t); page++) {
        k_step(t, "failing page %zu, then asking for it again", page);
        struct k_call *c = next_page(s, cursor, corpus->prefix, token, page % 5,
                                     page < 12 ? PST_E_NO_MEMORY : 0);
        if (c->rc != PST_OK) { /* a last page may be too short to fail */
            if (!k_want(c, PST_E_NO_MEMORY, "a page whose list_emit() failed"))
                break;
            k_call_free(c);
            c = next_page(s, cursor, corpus->prefix, token, SIZE_MAX, 0);
        }
        if (!k_want(c, PST_OK, "a page that is asked for again"))
            break;
        for (size_t i = 0; i < c->entries.n; i++)
            k_entries_add(&l.entries, &c->entries.all[i]);
        token = by_cursor ? token : c->out.list.next_token; /* stays for hundreds of calls */
        is_last = by_cursor ? (c->out.list.flags & PST_PAGE_LAST) != 0 : token.len == 0;
        k_call_free(c);
    }
    if (cursor)
        s->ops->list_close(cursor);
    if (is_last)
        check_complete(t, corpus, &l, PST_OK, "a listing whose pages failed at first");
    k_entries_fini(&l.entries);
}

void k_LIST_008(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST);
    struct k_corpus corpus;
    if (!s || !k_corpus(s, &corpus))
        return;
    if (k_lists_by_cursor(s))
        list_with_failures(s, &corpus, true);
    if (k_lists_by_token(s))
        list_with_failures(s, &corpus, false);
    k_corpus_fini(&corpus);
}

void k_LIST_009(struct k_test *t)
{
    static const pst_rc codes[] = {PST_E_NO_MEMORY, PST_E_CANCELLED, PST_E_OVER_BUDGET};
    struct k_store *s = k_need(t, PST_CAP_LIST);
    struct k_corpus corpus;
    if (!s || !k_corpus(s, &corpus))
        return;
    for (size_t i = 0; i < 3; i++) {
        struct k_listing way_l = {0};
        for (unsigned way = 0; next_way(s, &way, &way_l);) {
            pst_cursor *cursor = way_l.use_cursor ? open_cursor(s, corpus.prefix) : NULL;
            if (way_l.use_cursor && !cursor)
                return;
            struct k_call *c = next_page(s, cursor, corpus.prefix, pst_str_of(NULL, 0), 0,
                                         codes[i]);
            (void)k_want(c, codes[i], "a page whose list_emit() answered that");
            k_call_free(c);
            if (cursor)
                s->ops->list_close(cursor);
        }
    }
    k_corpus_fini(&corpus);
}

void k_LIST_010(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST);
    struct k_corpus corpus;
    if (!s || !k_corpus(s, &corpus))
        return;
    if (!k_lists_by_cursor(s)) {
        k_skip(t, "the plugin lists by token");
        return;
    }
    struct k_process before, after;
    k_process_look(&before);
    long blocks = atomic_load(&s->host->n_alloc_live);
    for (unsigned n_pages = 0; n_pages < 4; n_pages++) {
        pst_cursor *cursor = open_cursor(s, corpus.prefix);
        if (!cursor)
            return;
        for (unsigned i = 0; i < n_pages; i++) {
            struct k_call *c = next_page(s, cursor, corpus.prefix, pst_str_of(NULL, 0), SIZE_MAX,
                                         0);
            (void)k_want(c, PST_OK, "a page");
            k_call_free(c);
        }
        k_step(t, "closing a cursor after %u pages", n_pages);
        s->ops->list_close(cursor);
    }
    k_process_look(&after);
    k_process_compare(t, &before, &after, "after closing cursors", K_SAME_FDS);
    k_that(t, atomic_load(&s->host->n_alloc_live) == blocks,
           "expected closed cursors to give everything back, got %ld blocks more",
           atomic_load(&s->host->n_alloc_live) - blocks);
    k_corpus_fini(&corpus);
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
    for (unsigned way = 0; next_way(s, &way, &way_l);) {
        struct k_listing l = way_l;
        l.prefix = corpus.prefix;
        l.flags = PST_LIST_RECURSIVE | PST_LIST_UNORDERED;
        l.max_entries = 100;
        pst_rc rc = k_list(s, &l);
        check_complete(t, &corpus, &l, rc, "an unordered listing");
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

/* ---- a listing beside writers ------------------------------------------------------------------- */

struct churn {
    struct k_store *store;
    atomic_bool is_over;
};

static void *come_and_go(void *arg)
{
    struct churn *churn = arg;
    struct k_test *t = churn->store->test;
    for (unsigned i = 0; !atomic_load(&churn->is_over) && !k_failed(t); i++) {
        pst_str key = k_key(t, "k%03u-guest", i % 50 * 4);
        if (!k_make(churn->store, key, 10, 1))
            break;
        pst_rc rc = k_remove(churn->store, key);
        k_that(t, rc == PST_OK, "expected remove: OK, got %s", k_rc_name(rc));
    }
    return NULL;
}

#define N_STAYING 200u

void k_LIST_015(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST | PST_CAP_REMOVE);
    struct churn churn = {.store = s};
    pthread_t thread;
    if (!s)
        return;
    if (s->plugin->threads == PST_THREADS_SERIAL) {
        k_skip(t, "the plugin is SERIAL");
        return;
    }
    for (unsigned i = 0; i < N_STAYING; i++)
        if (!k_make(s, k_key(t, "k%03u", i), 10, i))
            return;
    bool has_thread = pthread_create(&thread, NULL, come_and_go, &churn) == 0;
    for (unsigned round = 0; round < 10 && !k_failed(t); round++) {
        struct k_listing l = {
            .prefix = k_key(t, "%s", ""), .flags = PST_LIST_RECURSIVE, .max_entries = 23};
        k_step(t, "listing while objects come and go");
        pst_rc rc = k_list(s, &l);
        k_that(t, rc == PST_OK, "expected a listing beside writers: OK, got %s", k_rc_name(rc));
        for (unsigned i = 0; i < N_STAYING; i++) {
            pst_str key = k_key(t, "k%03u", i);
            unsigned n = 0;
            for (size_t k = 0; k < l.entries.n; k++)
                n += k_str_eq(l.entries.all[k].key, key);
            if (!k_that(t, n == 1, "expected %s exactly once beside writers, got it %u times",
                        k_show(key), n))
                break;
        }
        k_entries_fini(&l.entries);
    }
    atomic_store(&churn.is_over, true);
    if (has_thread)
        (void)pthread_join(thread, NULL);
}
