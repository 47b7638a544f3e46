/* group_host.c - LOAD, the part about hosts: two at once, older and newer ones. */
#include <stdio.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

/* A little of everything that the profile allows, to see whether the store works at all. */
static void use_store(struct k_store *s, const char *name)
{
    struct k_test *t = s->test;
    struct k_attrs a;
    struct k_object o;
    if (!k_object(s, 5000, &o))
        return;
    struct k_call *c = k_call_new(s, K_READ, NULL);
    c->in.read.key = o.key;
    c->in.read.length = o.size + 10;
    c->dst_span = 1000;
    (void)k_call_run(c);
    if (k_want(c, PST_OK, "a read with late destination"))
        k_that(t, c->out.read.n_read == o.size && memcmp(c->snapshot, o.data, o.size) == 0,
               "expected the object's %llu bytes through the host %s, got other ones",
               (unsigned long long)o.size, name);
    k_call_free(c);
    if (s->caps & PST_CAP_STAT) {
        pst_rc rc = k_stat(s, o.key, &a);
        k_that(t, rc == PST_OK && a.size == o.size,
               "expected stat through the host %s to tell %llu "
               "bytes, got %s and %llu",
               name, (unsigned long long)o.size, k_rc_name(rc), (unsigned long long)a.size);
        (void)k_stat(s, k_key(t, "not-there"), &a);
    }
    struct k_listing l = {.prefix = o.key, .flags = PST_LIST_RECURSIVE, .max_entries = 10};
    pst_rc rc = k_list(s, &l);
    k_that(t, rc == PST_OK && k_entries_find(&l.entries, o.key),
           "expected a listing through the host %s to show %s, got %s without it", name,
           k_show(o.key), k_rc_name(rc));
    k_entries_fini(&l.entries);
    if (t->config->profile != K_RO && (s->caps & PST_CAP_UPLOAD)) {
        struct k_writer w;
        pst_str key = k_key(t, "uploaded");
        if (k_writer_open(&w, s, key, 3)) {
            (void)k_writer_part(&w, 0, w.part_bytes);
            (void)k_writer_part(&w, 1, 100);
            rc = k_writer_commit(&w, w.part_bytes + 100, 2);
            k_that(t, rc == PST_OK, "expected commit through the host %s: OK, got %s", name,
                   k_rc_name(rc));
            (void)k_holds(s, key, w.part_bytes + 100, 3);
        }
        k_writer_free(&w);
    }
    if (t->config->profile != K_RO && (s->caps & PST_CAP_REMOVE)) {
        rc = k_remove(s, o.key);
        k_that(t, rc == PST_OK, "expected remove through the host %s: OK, got %s", name,
               k_rc_name(rc));
    }
    k_object_fini(&o);
}

void k_LOAD_015(struct k_test *t)
{
    struct k_store *first = k_need(t, PST_CAP_READ | PST_CAP_LIST);
    struct k_store second;
    if (!first || !k_open(k_host_new(t, K_SAME, 2), &second))
        return;
    k_that(t, first->backend != second.backend, "expected two stores, got the same pointer twice");
    use_store(first, "one");
    use_store(&second, "two");
    use_store(first, "one");
    k_close(first);
    use_store(&second, "two");
    k_close(&second);
}

static void try_skew(struct k_test *t, enum k_skew skew, const char *name)
{
    struct k_store s = {0};
    t->host = k_host_new(t, skew, 4);
    if (!k_need_on(t, t->host, PST_CAP_READ | PST_CAP_LIST, &s))
        return;
    use_store(&s, name);
    k_close(&s);
}

void k_LOAD_016(struct k_test *t)
{
    try_skew(t, K_NEWER, "of the next minor");
}

void k_LOAD_017(struct k_test *t)
{
    try_skew(t, K_OLDER, "of the minor before");
}

void k_LOAD_018(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_READ | PST_CAP_LIST);
    if (s)
        use_store(s, "of this minor");
}

static uint64_t digest(const pst_plugin *p)
{
    uint64_t h = 1469598103934665603ull;
    const struct {
        const void *bytes;
        size_t n;
    } tables[] = {
        {p, sizeof(*p)},
        {p->ops, sizeof(*p->ops)},
        {p->limits, sizeof(*p->limits)},
        {p->options, p->n_options * p->option_stride},
        {p->id, strlen(p->id)},
    };
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        for (size_t k = 0; k < tables[i].n; k++)
            h = (h ^ ((const unsigned char *)tables[i].bytes)[k]) * 0x100000001b3ull;
    return h;
}

void k_LOAD_019(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_READ | PST_CAP_LIST);
    const pst_plugin *again = NULL;
    if (!s)
        return;
    uint64_t before = digest(s->plugin);
    use_store(s, "of this minor");
    k_that(t, digest(s->plugin) == before,
           "expected the plugin's tables to stay, got other bytes "
           "after some operations");
    if (k_enter(t->host, &again))
        k_that(t, digest(again) == before,
               "expected the same tables from a second call of the entry "
               "function, got other ones");
}
