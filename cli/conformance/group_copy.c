/* group_copy.c - WRITE, the part about copy, rename, remove, containers and append. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

struct k_call *k_run_copy(struct k_store *s, enum k_slot slot, pst_str from, pst_str to,
                          uint32_t flags, const pst_attr *attr)
{
    struct k_call *c = k_call_new(s, slot, NULL);
    c->in.copy.from = from;
    c->in.copy.to = to;
    c->in.copy.flags = flags;
    c->in.copy.attr = attr;
    (void)k_call_run(c);
    return c;
}

void k_WRITE_026(struct k_test *t)
{
    static const uint64_t sizes[] = {0, 1, 100003, (3u << 20) + 5};
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_COPY);
    for (size_t i = 0; s && i < 4; i++) {
        pst_str from = k_key(t, "from-%zu", i), to = k_key(t, "to/deep/%zu", i);
        if (!k_make(s, from, sizes[i], i))
            return;
        /* Twice: onto nothing, and onto what the first one made. */
        for (unsigned k = 0; k < 2; k++) {
            struct k_call *c = k_run_copy(s, K_COPY, from, to, 0, NULL);
            if (k_want(c, PST_OK, "copy")) {
                k_check_put(s, c, to, sizes[i]);
                (void)k_holds(s, to, sizes[i], i);
                (void)k_holds(s, from, sizes[i], i);
            }
            k_call_free(c);
        }
    }
}

void k_WRITE_028(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_COPY);
    pst_str from = k_key(t, "from"), to = k_key(t, "to"), fresh = k_key(t, "fresh");
    if (!s || !k_make(s, from, 100, 1) || !k_make(s, to, 200, 2))
        return;
    struct k_call *c = k_run_copy(s, K_COPY, k_key(t, "not-there"), to, 0, NULL);
    (void)k_want(c, PST_E_NOT_FOUND, "copy of what is not there");
    k_call_free(c);
    if (s->caps & PST_CAP_CREATE_ONLY) {
        c = k_run_copy(s, K_COPY, from, to, PST_PUT_CREATE_ONLY, NULL);
        (void)k_want(c, PST_E_EXISTS, "copy with CREATE_ONLY onto an object");
        k_call_free(c);
    }
    if (s->caps & PST_CAP_READ_IF_MATCH) {
        c = k_call_new(s, K_COPY, NULL);
        c->in.copy.from = from;
        c->in.copy.to = fresh;
        c->in.copy.from_if_match = PST_STR("another");
        (void)k_call_run(c);
        k_that(t, c->rc == PST_E_PRECONDITION || c->rc == PST_E_CHANGED,
               "expected copy of another version: PRECONDITION or CHANGED, got %s",
               k_rc_name(c->rc));
        k_call_free(c);
        (void)k_absent(s, fresh);
    }
    (void)k_holds(s, from, 100, 1);
    (void)k_holds(s, to, 200, 2);
}

void k_WRITE_029(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_RENAME);
    pst_str from = k_key(t, "from"), to = k_key(t, "to/another"), other = k_key(t, "other");
    if (!s || !k_make(s, from, 5000, 1) || !k_make(s, other, 600, 2))
        return;
    struct k_call *c = k_run_copy(s, K_RENAME, from, to, 0, NULL);
    if (k_want(c, PST_OK, "rename") && k_absent(s, from))
        (void)k_holds(s, to, 5000, 1);
    k_call_free(c);
    c = k_run_copy(s, K_RENAME, to, other, 0, NULL);
    if (k_want(c, PST_OK, "rename onto an object") && k_absent(s, to))
        (void)k_holds(s, other, 5000, 1);
    k_call_free(c);
    c = k_run_copy(s, K_RENAME, from, to, 0, NULL);
    (void)k_want(c, PST_E_NOT_FOUND, "rename of what is not there");
    k_call_free(c);
    if ((s->caps & PST_CAP_CREATE_ONLY) && k_make(s, from, 10, 3)) {
        c = k_run_copy(s, K_RENAME, from, other, PST_PUT_CREATE_ONLY, NULL);
        (void)k_want(c, PST_E_EXISTS, "rename with CREATE_ONLY onto an object");
        k_call_free(c);
        (void)k_holds(s, from, 10, 3);
        (void)k_holds(s, other, 5000, 1);
    }
}

void k_WRITE_030(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_REMOVE);
    static const char *const names[] = {"foobar", "foo-bar", "foo.bar", "dir/foo",
                                        "fo",     "Foo",     "foo "};
    pst_str foo = k_key(t, "foo");
    if (!s || !k_make(s, foo, 10, 100))
        return;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!k_make(s, k_key(t, "%s", names[i]), 10, i))
            return;
    pst_rc rc = k_remove(s, foo);
    k_that(t, rc == PST_OK, "expected remove of foo: OK, got %s", k_rc_name(rc));
    (void)k_absent(s, foo);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        (void)k_holds(s, k_key(t, "%s", names[i]), 10, i);
    /* A common prefix is not a key: nothing below it may go. */
    (void)k_remove(s, k_key(t, "dir"));
    (void)k_remove(s, k_key(t, "dir/"));
    (void)k_holds(s, k_key(t, "dir/foo"), 10, 3);
    if (k_make(s, foo, 20, 7))
        (void)k_holds(s, foo, 20, 7);
}

#define N_MANY 120u

void k_WRITE_031(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_REMOVE);
    pst_str keys[N_MANY];
    if (!s)
        return;
    size_t n = s->limits.remove_batch_max > 0 && s->limits.remove_batch_max < N_MANY
                   ? s->limits.remove_batch_max
                   : N_MANY;
    for (size_t i = 0; i < n; i++) {
        keys[i] = k_key(t, "many/%zu", i);
        if (i % 3 != 1 && !k_make(s, keys[i], 5, i)) /* every third one is not there */
            return;
    }
    if (!k_make(s, k_key(t, "many/kept"), 5, 1))
        return;
    if (n > 10)
        keys[6] = pst_str_of(NULL, 0); /* a key that no store has */
    struct k_call *c = k_call_new(s, K_REMOVE, NULL);
    c->in.remove.keys = keys;
    c->in.remove.n_keys = n;
    c->give_errors = true;
    (void)k_call_run(c);
    k_that(t, c->hung || c->rc == PST_OK || c->rc == PST_E_INVALID,
           "expected remove of many: OK, or INVALID for the empty key, got %s", k_rc_name(c->rc));
    for (size_t i = 0; i < n && !c->hung; i++) {
        bool is_empty = keys[i].len == 0;
        k_that(t, is_empty ? c->statuses[i] != PST_E_INTERNAL : c->statuses[i] == PST_OK,
               "expected the status of key %zu to be %s, got %s", i, is_empty ? "filled" : "OK",
               k_rc_name(c->statuses[i]));
        if (!is_empty && i % 10 == 0)
            (void)k_absent(s, keys[i]);
    }
    k_call_free(c);
    struct k_listing l = {.prefix = k_key(t, "many/"), .flags = PST_LIST_RECURSIVE};
    (void)k_list(s, &l);
    size_t left = 1 + (n > 10); /* the empty key took the place of many/6, which stays */
    k_that(t, l.entries.n == left, "expected %zu objects after remove, got %zu", left, l.entries.n);
    k_entries_fini(&l.entries);
}

void k_WRITE_032(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_REMOVE | PST_CAP_WRITE_IF_MATCH);
    pst_str key = k_key(t, "matched");
    struct k_attrs a;
    if (!s || !k_make(s, key, 10, 1) || k_stat(s, key, &a) != PST_OK)
        return;
    for (unsigned i = 0; i < 2; i++) {
        struct k_call *c = k_call_new(s, K_REMOVE, NULL);
        c->in.remove.keys = &key;
        c->in.remove.n_keys = 1;
        c->in.remove.if_match = i == 0 ? PST_STR("another") : k_etag(&a);
        pst_rc rc = k_call_run(c);
        if (rc == PST_OK)
            rc = c->statuses[0];
        if (rc == PST_E_UNIMPLEMENTED) {
            (void)k_holds(s, key, 10, 1);
        } else if (i == 0) {
            k_that(t, rc == PST_E_PRECONDITION,
                   "expected remove with another etag: PRECONDITION, got "
                   "%s",
                   k_rc_name(rc));
            (void)k_holds(s, key, 10, 1);
        } else {
            k_that(t, rc == PST_OK, "expected remove with the current etag: OK, got %s",
                   k_rc_name(rc));
            (void)k_absent(s, key);
        }
        k_call_free(c);
    }
}

static pst_rc run_container(struct k_store *s, enum k_slot slot, pst_str name)
{
    struct k_call *c = k_call_new(s, slot, NULL);
    c->in.container.name = name;
    pst_rc rc = k_call_run(c);
    k_call_free(c);
    return rc;
}

static bool is_listed(struct k_store *s, pst_str parent, pst_str entry)
{
    struct k_listing l = {.prefix = parent};
    (void)k_list(s, &l);
    bool is_there = k_entries_find(&l.entries, entry) != NULL;
    k_entries_fini(&l.entries);
    return is_there;
}

void k_WRITE_033(struct k_test *t)
{
    struct k_store *s = k_need(t,
                               K_WRITES | PST_CAP_CONTAINER | PST_CAP_EMPTY_DIRS | PST_CAP_REMOVE);
    pst_str parent = k_key(t, "%s", ""), name = k_key(t, "made"), entry = k_key(t, "made/");
    pst_str object = k_key(t, "made/object");
    if (!s)
        return;
    pst_rc rc = run_container(s, K_CONTAINER_CREATE, name);
    k_that(t, rc == PST_OK, "expected container_create: OK, got %s", k_rc_name(rc));
    k_that(t, is_listed(s, parent, entry), "expected the container %s to be listed, got none",
           k_show(entry));
    rc = run_container(s, K_CONTAINER_CREATE, name);
    k_that(t, rc == PST_E_EXISTS, "expected container_create of one that is there: EXISTS, got %s",
           k_rc_name(rc));
    if (!k_make(s, object, 10, 1))
        return;
    rc = run_container(s, K_CONTAINER_DELETE, name);
    k_that(t, rc < 0, "expected container_delete of one with an object in it to fail, got %s",
           k_rc_name(rc));
    (void)k_holds(s, object, 10, 1);
    (void)k_remove(s, object);
    rc = run_container(s, K_CONTAINER_DELETE, name);
    k_that(t, rc == PST_OK || rc == PST_E_NOT_FOUND,
           "expected container_delete of an empty one: OK, "
           "got %s",
           k_rc_name(rc));
    k_that(t, !is_listed(s, parent, entry),
           "expected the deleted container %s not to be listed, got "
           "it",
           k_show(entry));
    rc = run_container(s, K_CONTAINER_DELETE, name);
    k_that(t, rc == PST_E_NOT_FOUND,
           "expected container_delete of what is not there: NOT_FOUND, got "
           "%s",
           k_rc_name(rc));
}

void k_WRITE_034(struct k_test *t)
{
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_APPEND);
    pst_str key = k_key(t, "appended");
    uint64_t size = 0;
    for (unsigned i = 0; s && i < 4; i++) {
        uint64_t more = 1000u * i + 7;
        struct k_source *src = k_source_new("append", (size_t)more, 5, size, 0);
        struct k_call *c = k_call_new(s, K_APPEND, NULL);
        c->in.put.key = key;
        c->in.put.src = src->iov;
        c->in.put.n_src = src->n;
        (void)k_call_run(c);
        bool is_done = k_want(c, PST_OK, "append");
        k_source_bury(src);
        k_call_free(c);
        size += more;
        if (!is_done || !k_holds(s, key, size, 5))
            break;
    }
}
