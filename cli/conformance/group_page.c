/* group_page.c - LIST, the part about pages that fail, cursors, and listings beside writers. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

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
        k_check_complete(t, corpus, &l, PST_OK, "a listing whose pages failed at first");
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
        for (unsigned way = 0; k_next_way(s, &way, &way_l);) {
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
