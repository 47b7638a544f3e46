/* listing.c - listing through the plugin, by cursor and by token, and keeping what came. */
#include <string.h>

#include "kit.h"

pst_str k_dup_str(pst_str s)
{
    char *copy = (char *)k_alloc(s.len + 1);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    return pst_str_of(copy, s.len);
}

void k_entries_add(struct k_entries *e, const pst_entry *entry)
{
    if (e->n == e->cap) {
        e->cap = e->cap ? e->cap * 2 : 64;
        pst_entry *all = (pst_entry *)(void *)k_alloc(e->cap * sizeof(pst_entry));
        if (e->n > 0)
            memcpy(all, e->all, e->n * sizeof(pst_entry));
        k_free(e->all);
        e->all = all;
    }
    pst_entry *copy = &e->all[e->n++];
    *copy = *entry;
    copy->key = k_dup_str(entry->key);
    copy->etag = k_dup_str(entry->etag);
    copy->version = k_dup_str(entry->version);
    copy->content_encoding = k_dup_str(entry->content_encoding);
    copy->storage_class = k_dup_str(entry->storage_class);
}

void k_free_str(pst_str s)
{
    char *p = NULL;
    memcpy(&p, &s.ptr, sizeof(p));
    k_free(p);
}

void k_entries_fini(struct k_entries *e)
{
    for (size_t i = 0; i < e->n; i++) {
        k_free_str(e->all[i].key);
        k_free_str(e->all[i].etag);
        k_free_str(e->all[i].version);
        k_free_str(e->all[i].content_encoding);
        k_free_str(e->all[i].storage_class);
    }
    k_free(e->all);
    memset(e, 0, sizeof(*e));
}

const pst_entry *k_entries_find(const struct k_entries *e, pst_str key)
{
    for (size_t i = 0; i < e->n; i++)
        if (k_str_eq(e->all[i].key, key))
            return &e->all[i];
    return NULL;
}

static void take_page(struct k_listing *l, struct k_call *c)
{
    l->n_pages++;
    if (c->entries.n > l->largest_page)
        l->largest_page = (uint32_t)c->entries.n;
    for (size_t i = 0; i < c->entries.n; i++)
        k_entries_add(&l->entries, &c->entries.all[i]);
}

#define PAGES_MAX 100000u

static pst_rc list_by_token(struct k_store *s, struct k_listing *l)
{
    char *token = NULL;
    size_t token_len = 0;
    pst_rc rc;
    do {
        struct k_call *c = k_call_new(s, K_LIST, NULL);
        c->in.list.prefix = l->prefix;
        c->in.list.start_after = l->start_after;
        c->in.list.flags = l->flags;
        c->in.list.max_entries = l->max_entries;
        c->in.list.page_token = pst_str_of(token, token_len);
        rc = k_call_run(c);
        k_free(token);
        token = NULL;
        token_len = 0;
        if (rc == PST_OK) {
            take_page(l, c);
            pst_str next = c->out.list.next_token;
            token_len = next.len;
            token = (char *)k_alloc(token_len);
            if (token_len > 0)
                memcpy(token, next.ptr, token_len);
        }
        k_call_free(c);
    } while (rc == PST_OK && token_len > 0 && l->n_pages < PAGES_MAX);
    k_free(token);
    return rc;
}

static pst_rc list_by_cursor(struct k_store *s, struct k_listing *l)
{
    struct k_call *c = k_call_new(s, K_LIST_OPEN, NULL);
    c->in.list.prefix = l->prefix;
    c->in.list.start_after = l->start_after;
    c->in.list.flags = l->flags;
    c->in.list.max_entries = l->max_entries;
    pst_rc rc = k_call_run(c);
    pst_cursor *cursor = rc == PST_OK ? c->out.cursor.cursor : NULL;
    k_call_free(c);
    if (rc != PST_OK)
        return rc;
    if (!k_that(s->test, cursor != NULL, "expected list_open to return a cursor, got NULL"))
        return PST_E_INTERNAL;
    bool is_last = false;
    while (rc == PST_OK && !is_last && l->n_pages < PAGES_MAX) {
        c = k_call_new(s, K_LIST_PAGE, cursor);
        c->in.page.max_entries = l->max_entries;
        rc = k_call_run(c);
        if (rc == PST_OK) {
            take_page(l, c);
            is_last = (c->out.list.flags & PST_PAGE_LAST) != 0;
        }
        k_call_free(c);
    }
    s->ops->list_close(cursor);
    return rc;
}

bool k_lists_by_cursor(struct k_store *s)
{
    struct k_listing probe = {.prefix = k_key(s->test, "nothing-to-list/"), .max_entries = 1};
    if (s->by_cursor == K_NOT_ASKED)
        s->by_cursor = k_has_slot(s, K_LIST_OPEN) && k_has_slot(s, K_LIST_PAGE) &&
                               list_by_cursor(s, &probe) != PST_E_UNIMPLEMENTED
                           ? K_CAN
                           : K_CANNOT;
    k_entries_fini(&probe.entries);
    return s->by_cursor == K_CAN;
}

bool k_lists_by_token(struct k_store *s)
{
    struct k_listing probe = {.prefix = k_key(s->test, "nothing-to-list/"), .max_entries = 1};
    if (s->by_token == K_NOT_ASKED)
        s->by_token = k_has_slot(s, K_LIST) && list_by_token(s, &probe) != PST_E_UNIMPLEMENTED
                          ? K_CAN
                          : K_CANNOT;
    k_entries_fini(&probe.entries);
    return s->by_token == K_CAN;
}

pst_rc k_list(struct k_store *s, struct k_listing *l)
{
    if (l->use_cursor || (!l->use_token && k_lists_by_cursor(s)))
        return list_by_cursor(s, l);
    return list_by_token(s, l);
}
