/* page.c - pack entries and hold the plugin to what a listing promises.
 *
 * Entries come in any number of calls, with a stride that tells how large the plugin's pst_entry is: an
 * older one is shorter (the rest is unset), a newer one longer (the rest is not ours to see). Texts go
 * one behind the other into blocks that the next page uses again, so a listing of a million keys costs
 * a handful of allocations. */
#include "io/page.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#define TEXT_BYTES ((size_t)64 << 10)
#define FIRST_ROOM 128u

struct pst_page_text {
    struct pst_page_text *next;
    size_t used, cap;
    char bytes[];
};

static void free_texts(struct pst_page_text *text)
{
    while (text) {
        struct pst_page_text *next = text->next;
        free(text);
        text = next;
    }
}

void pst_page_fini(struct pst_page *page)
{
    free_texts(page->texts);
    free_texts(page->spare);
    free(page->entries);
    memset(page, 0, sizeof(*page));
}

void pst_page_clear(struct pst_page *page)
{
    while (page->texts) {
        struct pst_page_text *text = page->texts;
        page->texts = text->next;
        text->used = 0;
        text->next = page->spare;
        page->spare = text;
    }
    page->n = 0;
    page->fault = PST_OK;
}

int pst_key_compare(pst_str a, pst_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.ptr, b.ptr, len) : 0;
    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

static int starts_with(pst_str key, pst_str prefix)
{
    return key.len >= prefix.len &&
           (prefix.len == 0 || memcmp(key.ptr, prefix.ptr, prefix.len) == 0);
}

/* ---- memory ----------------------------------------------------------------------------------- */

static char *take_text(struct pst_page *page, size_t len)
{
    struct pst_page_text *text = page->texts;
    if (!text || text->cap - text->used < len) {
        text = page->spare;
        if (text && text->cap >= len) {
            page->spare = text->next;
        } else {
            size_t cap = len > TEXT_BYTES ? len : TEXT_BYTES;
            text = len < SIZE_MAX / 2 ? malloc(sizeof(*text) + cap) : NULL;
            if (!text)
                return NULL;
            text->cap = cap;
        }
        text->used = 0;
        text->next = page->texts;
        page->texts = text;
    }
    char *at = text->bytes + text->used;
    text->used += len;
    return at;
}

static int copy_text(struct pst_page *page, pst_str *text)
{
    char *copy = NULL;
    if (text->len == 0) {
        text->ptr = NULL;
        return 1;
    }
    copy = take_text(page, text->len);
    if (!copy)
        return 0;
    memcpy(copy, text->ptr, text->len);
    text->ptr = copy;
    return 1;
}

static int make_room(struct pst_page *page)
{
    if (page->n < page->room)
        return 1;
    size_t room = page->room ? page->room * 2 : FIRST_ROOM;
    pst_entry *entries = reallocarray(page->entries, room, sizeof(*entries));
    if (!entries)
        return 0;
    page->entries = entries;
    page->room = room;
    return 1;
}

/* ---- rules ------------------------------------------------------------------------------------ */

static pst_rc fault_of(struct pst_page *page, const char *what, pst_str key, pst_str other)
{
    char shown[200], shown_other[200];
    page->fault = pst_fail(&page->why, PST_E_INTERNAL, "the plugin listed \"%s\" %s \"%s\"",
                           pst_printable(key, shown, sizeof(shown)), what,
                           pst_printable(other, shown_other, sizeof(shown_other)));
    return page->fault;
}

/* Another version of the key before, or another look at it: one that the page before ended with. */
static int is_other_version(const struct pst_page *page, const struct pst_page_rules *rules,
                            const pst_entry *entry)
{
    const pst_entry *before = page->n > 0 ? &page->entries[page->n - 1] : NULL;
    if (!rules->has_versions || (!before && rules->is_first) || entry->kind != PST_KIND_OBJECT)
        return 0;
    return !before || before->version.len != entry->version.len ||
           (entry->version.len > 0 &&
            memcmp(before->version.ptr, entry->version.ptr, entry->version.len) != 0);
}

static pst_rc check_entry(struct pst_page *page, const struct pst_page_rules *rules,
                          const pst_entry *entry)
{
    if (entry->key.len == 0 || entry->kind > PST_KIND_PREFIX)
        return fault_of(page, "without a key or of unknown kind, below", entry->key, rules->prefix);
    if (!starts_with(entry->key, rules->prefix))
        return fault_of(page, "which does not start with the prefix", entry->key, rules->prefix);
    if (!rules->is_ordered)
        return PST_OK;
    int is_first = page->n == 0;
    pst_str before = is_first ? rules->after : page->entries[page->n - 1].key;
    int order = before.len > 0 ? pst_key_compare(entry->key, before) : 1;
    if (order > 0 || (order == 0 && is_other_version(page, rules, entry)))
        return PST_OK;
    /* With start_after "a/x" the group "a/" may hold keys that come after it. */
    if (is_first && rules->is_first && entry->kind == PST_KIND_PREFIX &&
        starts_with(before, entry->key))
        return PST_OK;
    return fault_of(page, "after", entry->key, before);
}

static pst_rc add_one(struct pst_page *page, const struct pst_page_rules *rules,
                      const pst_entry *entry, size_t stride)
{
    pst_entry copy = {.size = PST_UNKNOWN, .mtime_ns = PST_TIME_UNKNOWN};
    memcpy(&copy, entry, stride < sizeof(copy) ? stride : sizeof(copy));
    if (page->n >= rules->max_entries) {
        page->fault = pst_fail(&page->why, PST_E_INTERNAL,
                               "the plugin listed more than the %zu entries asked for",
                               rules->max_entries);
        return page->fault;
    }
    pst_rc rc = check_entry(page, rules, &copy);
    if (rc != PST_OK)
        return rc;
    if (!make_room(page) || !copy_text(page, &copy.key) || !copy_text(page, &copy.etag) ||
        !copy_text(page, &copy.version) || !copy_text(page, &copy.content_encoding) ||
        !copy_text(page, &copy.storage_class)) {
        page->fault = pst_fail(&page->why, PST_E_NO_MEMORY, "out of memory");
        return page->fault;
    }
    page->entries[page->n++] = copy;
    return PST_OK;
}

pst_rc pst_page_add(struct pst_page *page, const struct pst_page_rules *rules,
                    const pst_entry *entries, size_t n, size_t stride)
{
    if (page->why.struct_size == 0)
        page->why.struct_size = sizeof(page->why);
    if (page->fault == PST_OK && stride < sizeof(pst_str)) /* not even a key */
        page->fault = pst_fail(&page->why, PST_E_INTERNAL, "the plugin listed with a stride of %zu",
                               stride);
    const char *at = (const char *)entries;
    for (size_t i = 0; i < n && page->fault == PST_OK; i++)
        add_one(page, rules, (const pst_entry *)(const void *)(at + i * stride), stride);
    return page->fault;
}
