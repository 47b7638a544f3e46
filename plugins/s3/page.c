/* page.c - a page of a listing.
 *
 * The whole document is read before anything is handed over, so a page that turns out broken in its
 * last line has told nothing. Texts go into one block as long as the document, since no decoding makes
 * them longer. Names come percent-encoded where the store says so (encoding-type=url): XML 1.0 cannot
 * carry every key.
 *
 * S3 sends the objects of a page first and its common prefixes behind them; each list is in order, and
 * a page holds all of both between its first and its last name, so merging two lists page by page gives
 * the order of the whole.
 *
 * What was asked for is checked again here. Prefix and start_after are bytes to the caller, and S3 takes
 * UTF-8 only: a text that ends within a character is sent up to there, and what comes too much is
 * dropped. */
#include "page.h"

#include <string.h>

#include "attr.h"
#include "error.h"
#include "text.h"

int s3_page_init(struct s3_page *page, pst_op *op, pst_str document, const pst_list_args *args)
{
    memset(page, 0, sizeof(*page));
    page->entry.mtime_ns = PST_TIME_UNKNOWN;
    page->op = op;
    page->prefix = args->prefix;
    page->start_after = args->start_after;
    page->texts = s3_alloc(op, document.len + 1);
    page->texts_end = page->texts ? page->texts + document.len : NULL;
    return page->texts != NULL;
}

pst_str s3_page_keep(struct s3_page *page, pst_str text)
{
    char *at = page->texts;
    if (text.len == 0 || (size_t)(page->texts_end - at) < text.len)
        return pst_str_of(at, 0);
    memcpy(at, text.ptr, text.len);
    page->texts += text.len;
    return pst_str_of(at, text.len);
}

void s3_page_field(struct s3_page *page, const char *name, pst_str text)
{
    pst_entry *e = &page->entry;
    if (strcmp(name, "Key") == 0) {
        e->key = s3_page_keep(page, text);
    } else if (strcmp(name, "Size") == 0) {
        if (!s3_parse_u64(text, &e->size))
            e->size = PST_UNKNOWN;
    } else if (strcmp(name, "LastModified") == 0) {
        e->mtime_ns = s3_parse_iso_date(text);
    } else if (strcmp(name, "ETag") == 0) {
        /* Quotes fit where the tags of the element were. */
        if (text.len > 0 && (size_t)(page->texts_end - page->texts) >= text.len + 2) {
            e->etag = s3_write_etag(page->texts, text, &e->etag_strength);
            page->texts += e->etag.len;
        }
    } else if (strcmp(name, "StorageClass") == 0) {
        e->storage_class = s3_page_keep(page, text);
    } else if (strcmp(name, "VersionId") == 0) {
        e->version = s3_page_keep(page, text);
    } else if (strcmp(name, "IsLatest") == 0 && s3_str_is(text, "true")) {
        e->flags |= PST_ENTRY_LATEST;
    }
}

int s3_page_add(struct s3_page *page, struct s3_entries *to, uint32_t kind)
{
    if (to->n == to->room) {
        size_t room = to->room ? 2 * to->room : 256;
        pst_entry *at = s3_alloc(page->op, room * sizeof(*at));
        if (!at)
            return 0;
        if (to->n > 0)
            memcpy(at, to->at, to->n * sizeof(*at));
        to->at = at;
        to->room = room;
    }
    page->entry.kind = kind;
    to->at[to->n++] = page->entry;
    memset(&page->entry, 0, sizeof(page->entry));
    page->entry.mtime_ns = PST_TIME_UNKNOWN;
    return 1;
}

/* ---- what goes to the host -------------------------------------------------------------------- */

static int compare(pst_str a, pst_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.ptr, b.ptr, len) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int is_wanted(const struct s3_page *page, const pst_entry *e)
{
    if (e->key.len == 0 || !s3_starts_with(e->key, page->prefix))
        return 0;
    if (page->start_after.len == 0 || compare(e->key, page->start_after) > 0)
        return 1;
    return e->kind == PST_KIND_PREFIX && s3_starts_with(page->start_after, e->key) &&
           page->start_after.len > e->key.len;
}

/* Returns 0 when an encoding is broken. */
static int decode(const struct s3_page *page, struct s3_entries *list)
{
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++) {
        pst_entry *e = &list->at[i];
        if (page->is_encoded && e->key.len > 0) {
            char *text = page->texts + (e->key.ptr - page->texts); /* ours to write */
            e->key.len = s3_percent_decode(text, e->key.len);
            if (e->key.len == SIZE_MAX)
                return 0;
        }
        if (is_wanted(page, e))
            list->at[n++] = *e;
    }
    list->n = n;
    return 1;
}

/* Objects and prefixes in one order; NULL for lack of memory. */
static pst_entry *merge(pst_op *op, const struct s3_entries *a, const struct s3_entries *b)
{
    size_t n = a->n + b->n;
    if (b->n == 0 || a->n == 0)
        return b->n == 0 ? a->at : b->at;
    pst_entry *all = s3_alloc(op, n * sizeof(*all));
    for (size_t i = 0, j = 0; all && i + j < n;) {
        int is_object = j == b->n || (i < a->n && compare(a->at[i].key, b->at[j].key) <= 0);
        all[i + j] = is_object ? a->at[i] : b->at[j];
        i += is_object ? 1 : 0;
        j += is_object ? 0 : 1;
    }
    return all;
}

pst_rc s3_page_emit_some(struct s3_page *page, size_t max, pst_str *last)
{
    pst_op *op = page->op;
    size_t n;
    *last = pst_str_of(NULL, 0);
    if (!decode(page, &page->objects) || !decode(page, &page->prefixes))
        return s3_fail(op->err, PST_E_DATA_LOSS, "the listing holds a broken percent-encoding");
    n = page->objects.n + page->prefixes.n;
    if (n == 0)
        return PST_OK;
    pst_entry *all = merge(op, &page->objects, &page->prefixes);
    if (!all)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    if (max > 0 && n > max) {
        n = max;
        *last = all[n - 1].key;
    }
    return op->host->list_emit(op->host, op, all, n, sizeof(*all));
}

pst_rc s3_page_emit(struct s3_page *page)
{
    pst_str last;
    return s3_page_emit_some(page, 0, &last);
}

/* ---- what can be asked ------------------------------------------------------------------------ */

pst_str s3_askable(pst_str text)
{
    const char *nul = text.len > 0 ? memchr(text.ptr, '\0', text.len) : NULL;
    if (nul)
        text.len = (size_t)(nul - text.ptr);
    if (text.len > S3_KEY_MAX)
        text.len = S3_KEY_MAX;
    text.len = s3_utf8_len(text);
    return text;
}

int s3_is_prefix_possible(pst_str prefix)
{
    size_t whole = s3_utf8_len(prefix);
    pst_str rest = pst_str_of(prefix.ptr + whole, prefix.len - whole);
    return prefix.len <= S3_KEY_MAX && (prefix.len == 0 || !memchr(prefix.ptr, '\0', prefix.len)) &&
           (rest.len == 0 || s3_utf8_is_begun(rest));
}
