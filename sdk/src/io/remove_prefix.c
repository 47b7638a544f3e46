/* remove_prefix.c - delete all below a prefix: list a page, delete its keys, until nothing is left.
 *
 * It stops at the first page with a failure: what is left can be listed and deleted again. Keys that
 * appear while it runs may stay. What it deletes are keys that the listing gave, and a listing that
 * names one outside the prefix is an error (io/page.c). */
#include <stdlib.h>

#include <penstock/list.h>
#include <penstock/object.h>

#include "core/error.h"
#include "io/call.h"
#include "io/verb.h"

#define PAGE_ENTRIES 4000u /* four batches side by side (io/remove.c) */

/* What is left of the time of the whole call, for its next step. */
static pst_rc narrow_call(const struct pst_limit *limit, pst_call *call)
{
    uint64_t now_ns = pst_now_ns();
    if (limit->deadline_ns == 0)
        return PST_OK;
    if (now_ns >= limit->deadline_ns)
        return PST_E_DEADLINE;
    call->timeout_ms = (limit->deadline_ns - now_ns) / 1000000u + 1;
    return PST_OK;
}

static pst_rc delete_page(pst_store *store, const pst_entry *entries, size_t n,
                          const pst_call *call, uint64_t *n_deleted, pst_error *err)
{
    size_t n_keys = 0;
    pst_str *keys = calloc(n, sizeof(*keys));
    pst_rc *statuses = calloc(n, sizeof(*statuses));
    pst_rc rc = PST_E_NO_MEMORY;
    for (size_t i = 0; keys && i < n; i++) {
        if (entries[i].kind == PST_KIND_OBJECT)
            keys[n_keys++] = entries[i].key;
    }
    if (keys && statuses)
        rc = pst_delete_many(store, keys, NULL, n_keys, call, statuses, err);
    else
        pst_fail(err, rc, "out of memory");
    for (size_t i = 0; keys && statuses && i < n_keys; i++)
        *n_deleted += statuses[i] == PST_OK;
    free(statuses);
    free(keys);
    return rc;
}

pst_rc pst_delete_prefix(pst_store *store, pst_str prefix, const pst_call *call,
                         uint64_t *n_deleted, pst_error *err)
{
    const struct pst_limit limit = pst_limit_of(call);
    pst_list_options options = {.struct_size = sizeof(options),
                                .flags = PST_LISTING_RECURSIVE,
                                .page_entries = PAGE_ENTRIES};
    struct pst_port *port = NULL;
    pst_list *list = NULL;
    pst_call own;
    *n_deleted = 0;
    if (prefix.len == 0)
        return pst_fail(err, PST_E_INVALID, "delete below an empty prefix would delete everything");
    pst_rc rc = pst_options_take(&own, sizeof(own), call, err);
    own.struct_size = sizeof(own);
    if (rc == PST_OK)
        rc = pst_store_port(store, &port, err);
    if (rc != PST_OK)
        return rc;
    /* Order costs a store that has it little, and makes it read a directory before we change it. */
    if (!(port->info.caps & PST_CAP_LIST_ORDERED))
        options.flags |= PST_LISTING_UNORDERED;
    rc = pst_verb_need(port, PST_CAP_REMOVE, err);
    if (rc != PST_OK)
        pst_fail_at(port, pst_slot_name(PST_SLOT_REMOVE), prefix, rc, err, err);
    else
        rc = pst_list_open(store, prefix, &options, &list, err);
    while (rc == PST_OK) {
        const pst_entry *entries = NULL;
        size_t n = 0;
        rc = narrow_call(&limit, &own);
        if (rc != PST_OK)
            pst_fail_at(port, pst_slot_name(PST_SLOT_REMOVE), prefix, rc, NULL, err);
        else
            rc = pst_list_page(list, &own, &entries, &n, err);
        if (rc == PST_OK && n == 0)
            break;
        if (rc == PST_OK)
            rc = narrow_call(&limit, &own) == PST_OK
                     ? delete_page(store, entries, n, &own, n_deleted, err)
                     : pst_fail_at(port, pst_slot_name(PST_SLOT_REMOVE), prefix, PST_E_DEADLINE,
                                   NULL, err);
    }
    pst_list_free(list);
    pst_port_unref(port);
    return rc;
}
