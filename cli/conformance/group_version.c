/* group_version.c - READ, WRITE and LIST, the parts about old versions; and tags.
 *
 * A store may be able to keep versions and the container under test still keep none: then a put tells no
 * version, and there is nothing to hold the store to. Every version that was made is removed again. */
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

#define SIZE_1 100u
#define SIZE_2 250u
#define CAPS (K_WRITES | K_READS | PST_CAP_PUT | PST_CAP_REMOVE | PST_CAP_STAT | PST_CAP_VERSIONS)

/* One key, written twice. */
struct versions {
    struct k_store *store;
    pst_str key, first, second; /* first, second: ids, owned */
};

static bool make_one(struct k_store *s, pst_str key, uint64_t size, pst_str *version)
{
    struct k_source *src = k_source_new("a version", (size_t)size, size, 0, 0);
    struct k_call *c = k_new_put(s, key, src, size);
    bool is_made = k_call_run(c) == PST_OK;
    k_that(s->test, is_made, "expected put of %s: OK, got %s", k_show(key), k_rc_name(c->rc));
    *version = is_made ? k_dup_str(c->out.put.version) : pst_str_of(NULL, 0);
    k_call_free(c);
    k_source_bury(src);
    return is_made;
}

static pst_rc remove_version(struct k_store *s, pst_str key, pst_str version)
{
    struct k_call *c = k_call_new(s, K_REMOVE, NULL);
    c->in.remove.keys = &key;
    c->in.remove.versions = &version;
    c->in.remove.n_keys = 1;
    pst_rc rc = k_call_run(c);
    if (rc == PST_OK)
        rc = c->statuses[0];
    k_call_free(c);
    return rc;
}

static bool make_both(struct k_store *s, pst_str key, struct versions *v)
{
    *v = (struct versions){.store = s, .key = key};
    if (!make_one(s, key, SIZE_1, &v->first) || !make_one(s, key, SIZE_2, &v->second))
        return false;
    if (v->first.len == 0) {
        k_skip(s->test, "the container keeps no versions");
        return false;
    }
    return k_that(s->test, !k_str_eq(v->first, v->second),
                  "expected another version for each put, got %s twice", k_show(v->first));
}

/* Remove what is left of the key, markers too. */
static void drop_all(struct versions *v)
{
    struct k_listing l = {.prefix = v->key, .flags = PST_LIST_RECURSIVE | PST_LIST_VERSIONS};
    if (v->first.len > 0 && k_list(v->store, &l) == PST_OK)
        for (size_t i = 0; i < l.entries.n; i++)
            (void)remove_version(v->store, v->key, l.entries.all[i].version);
    k_entries_fini(&l.entries);
    k_free_str(v->first);
    k_free_str(v->second);
}

/* Stat and read of one version: `size` bytes, or NOT_FOUND where that is 0. */
static void check_version(struct versions *v, pst_str version, uint64_t size, const char *when)
{
    struct k_store *s = v->store;
    struct k_test *t = s->test;
    pst_rc wanted = size > 0 ? PST_OK : PST_E_NOT_FOUND;
    struct k_call *c = k_new_stat(s, v->key);
    c->in.stat.version = version;
    pst_rc rc = k_call_run(c);
    k_that(t, rc == wanted && (rc != PST_OK || c->out.attr.size == size),
           "expected stat of the version %s, %s: %s and %llu bytes, got %s and %llu",
           k_show(version), when, k_rc_name(wanted), (unsigned long long)size, k_rc_name(rc),
           (unsigned long long)(rc == PST_OK ? c->out.attr.size : 0));
    k_that(t, rc != PST_OK || k_str_eq(c->out.attr.version, version),
           "expected stat of the version %s to name it, got %s", k_show(version),
           k_show(c->out.attr.version));
    k_call_free(c);
    c = k_new_read(s, v->key, 0, k_align_up(s, SIZE_2 + 1));
    c->in.read.version = version;
    rc = k_call_run(c);
    k_that(t, rc == wanted && (rc != PST_OK || c->out.read.n_read == size),
           "expected a read of the version %s, %s: %s and %llu bytes, got %s and %llu",
           k_show(version), when, k_rc_name(wanted), (unsigned long long)size, k_rc_name(rc),
           (unsigned long long)(rc == PST_OK ? c->out.read.n_read : 0));
    k_call_free(c);
}

void k_READ_019(struct k_test *t)
{
    struct k_store *s = k_need(t, CAPS);
    struct versions v;
    if (!s)
        return;
    if (make_both(s, k_key(t, "versions-read"), &v)) {
        check_version(&v, v.first, SIZE_1, "once it was replaced");
        check_version(&v, v.second, SIZE_2, "while it is the latest");
        k_that(t, k_remove(s, v.key) == PST_OK, "expected remove of %s: OK, got an error",
               k_show(v.key));
        (void)k_absent(s, v.key);
        check_version(&v, v.first, SIZE_1, "once its key was removed");
        check_version(&v, v.second, SIZE_2, "once its key was removed");
    }
    drop_all(&v);
}

void k_WRITE_036(struct k_test *t)
{
    struct k_store *s = k_need(t, CAPS);
    struct versions v;
    struct k_attrs a;
    if (!s)
        return;
    if (make_both(s, k_key(t, "versions-removed"), &v)) {
        pst_rc rc = remove_version(s, v.key, v.first);
        k_that(t, rc == PST_OK, "expected remove of a version: OK, got %s", k_rc_name(rc));
        check_version(&v, v.first, 0, "once it was removed");
        check_version(&v, v.second, SIZE_2, "once an older one was removed");
        rc = remove_version(s, v.key, v.first);
        k_that(t, rc == PST_OK, "expected remove of a version that is gone: OK, got %s",
               k_rc_name(rc));
        k_that(t, k_stat(s, v.key, &a) == PST_OK && a.size == SIZE_2,
               "expected the key to hold its latest version, got something else");
        rc = remove_version(s, v.key, v.second);
        k_that(t, rc == PST_OK, "expected remove of the last version: OK, got %s", k_rc_name(rc));
        (void)k_absent(s, v.key);
    }
    drop_all(&v);
}

/* ---- listings ----------------------------------------------------------------------------------- */

static void check_entry(struct k_test *t, const pst_entry *e, pst_str version, uint64_t size)
{
    k_that(t, k_str_eq(e->version, version) && e->size == size && e->flags == 0,
           "expected the old version %s of %llu bytes, got %s of %llu with flags %u",
           k_show(version), (unsigned long long)size, k_show(e->version),
           (unsigned long long)e->size, e->flags);
}

static void check_listing(struct versions *v, uint32_t max_entries)
{
    struct k_test *t = v->store->test;
    struct k_listing l = {.prefix = v->key,
                          .flags = PST_LIST_RECURSIVE | PST_LIST_VERSIONS,
                          .max_entries = max_entries};
    pst_rc rc = k_list(v->store, &l);
    if (k_that(t, rc == PST_OK && l.entries.n == 3,
               "expected a delete marker and two versions of %s, got %s and %zu entries",
               k_show(v->key), k_rc_name(rc), l.entries.n)) {
        const pst_entry *e = l.entries.all;
        k_that(t, e[0].flags == (PST_ENTRY_DELETE_MARKER | PST_ENTRY_LATEST),
               "expected the delete marker first, as the latest, got flags %u", e[0].flags);
        check_entry(t, &e[1], v->second, SIZE_2);
        check_entry(t, &e[2], v->first, SIZE_1);
    }
    k_entries_fini(&l.entries);
}

void k_LIST_016(struct k_test *t)
{
    struct k_store *s = k_need(t, CAPS | PST_CAP_LIST | PST_CAP_LIST_ORDERED);
    struct versions v;
    if (!s)
        return;
    if (make_both(s, k_key(t, "versions-listed"), &v) &&
        k_that(t, k_remove(s, v.key) == PST_OK, "expected remove of %s: OK, got an error",
               k_show(v.key))) {
        check_listing(&v, 1000);
        check_listing(&v, 1);
        struct k_listing l = {.prefix = v.key, .flags = PST_LIST_RECURSIVE};
        pst_rc rc = k_list(s, &l);
        k_that(t, rc == PST_OK && l.entries.n == 0,
               "expected a listing without VERSIONS to leave a removed key out, got %s and %zu "
               "entries",
               k_rc_name(rc), l.entries.n);
        k_entries_fini(&l.entries);
    }
    drop_all(&v);
}

/* ---- tags --------------------------------------------------------------------------------------- */

void k_WRITE_037(struct k_test *t)
{
    static const pst_kv tags[] = {{{"team", 4}, {"blue sky", 8}}, {{"stage", 5}, {"", 0}}};
    struct k_store *s = k_need(t, K_WRITES | PST_CAP_PUT | PST_CAP_STAT | PST_CAP_TAGS);
    const pst_attr attr = {.struct_size = sizeof(attr), .tags = tags, .n_tags = 2};
    pst_str key = k_key(t, "tagged");
    if (!s)
        return;
    struct k_source *src = k_source_new("tagged", 10, 1, 0, 0);
    struct k_call *c = k_new_put(s, key, src, 10);
    c->in.put.attr = &attr;
    (void)k_call_run(c);
    bool is_made = k_want(c, PST_OK, "put with tags");
    k_call_free(c);
    k_source_bury(src);
    if (!is_made)
        return;
    c = k_new_stat(s, key);
    if (k_call_run(c) == PST_OK && c->out.attr.n_tags > 0) {
        bool has_both = c->out.attr.n_tags == 2;
        for (size_t i = 0; has_both && i < 2; i++) {
            const pst_kv *other = &c->out.attr.tags[i];
            const pst_kv *same = &tags[k_str_eq(other->key, tags[1].key)];
            has_both = k_str_eq(other->key, same->key) && k_str_eq(other->value, same->value);
        }
        k_that(t, has_both, "expected stat to tell the two tags as they were given, got %zu",
               c->out.attr.n_tags);
    }
    k_call_free(c);
}
