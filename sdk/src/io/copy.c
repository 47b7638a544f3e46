/* copy.c - copy and rename by the store's own means.
 *
 * A copy from another store is one that the target's plugin carries out, with the target's options: so the
 * two must have the same plugin and equal options, and differ in their authority alone. Whatever else asks
 * gets UNIMPLEMENTED before any I/O and reads and writes instead.
 *
 * Nothing here uses memory of the caller: what the task needs is copied into it, so a call that is
 * cancelled returns at once and leaves the rest to the task. */
#include "io/copy.h"

#include "core/error.h"
#include "io/attr.h"
#include "io/call.h"
#include "io/outcome.h"
#include "io/verb.h"

/* Where the source lies: nothing for the store itself, else its authority. */
static pst_rc find_container(const struct pst_port *port, const pst_store *from_store,
                             const pst_store *store, pst_str *authority, pst_error *err)
{
    *authority = pst_str_of(NULL, 0);
    if (from_store == store)
        return PST_OK;
    /* A source without an authority cannot be named: to the plugin that means its own store. */
    const int is_nameless = pst_store_authority(from_store).len == 0 &&
                            pst_store_authority(store).len > 0;
    if (is_nameless || !pst_store_is_alike(from_store, store))
        return pst_fail(err, PST_E_UNIMPLEMENTED,
                        "%s cannot copy from a store of another kind or with other options: read "
                        "and write instead",
                        port->uri);
    *authority = pst_store_authority(from_store);
    return pst_verb_need(port, PST_CAP_COPY_ACROSS, err);
}

static pst_rc check_source(const struct pst_port *port, const pst_copy_options *options,
                           pst_error *err)
{
    pst_rc rc = pst_verb_check_version(port, options->from_version, err);
    if (rc == PST_OK && options->from_if_match.len > 0)
        rc = pst_verb_need(port, PST_CAP_READ_IF_MATCH, err);
    return rc;
}

pst_rc pst_copy_fill(struct pst_task *task, pst_store *from_store, pst_str from, pst_store *store,
                     pst_str to, const pst_copy_options *options, pst_error *err)
{
    const struct pst_port *port = task->port;
    struct pst_write_plan plan;
    pst_copy_options own;
    pst_str authority;
    pst_copy_args *args = &task->args.copy;
    pst_rc rc = pst_options_take(&own, sizeof(own), options, err);
    const pst_write_options write = {.struct_size = sizeof(write),
                                     .flags = own.flags,
                                     .if_match = own.if_match,
                                     .attr = own.attr};
    if (rc == PST_OK)
        rc = pst_verb_check_key(port, to, err);
    if (rc == PST_OK)
        rc = find_container(port, from_store, store, &authority, err);
    if (rc == PST_OK)
        rc = check_source(port, &own, err);
    if (rc == PST_OK)
        rc = pst_write_plan_init(port, &write, &plan, err);
    if (rc != PST_OK)
        return rc;
    args->struct_size = sizeof(*args);
    args->flags = plan.flags | (plan.has_attr ? PST_COPY_REPLACE_ATTR : 0);
    args->attr = pst_attr_keep(task, &plan.attr);
    if (args->attr && pst_task_keep_str(task, from, &args->from) &&
        pst_task_keep_str(task, to, &args->to) &&
        pst_task_keep_str(task, own.if_match, &args->if_match) &&
        pst_task_keep_str(task, own.from_if_match, &args->from_if_match) &&
        pst_task_keep_str(task, own.from_version, &args->from_version) &&
        pst_task_keep_str(task, authority, &args->from_authority))
        return PST_OK;
    return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
}

static pst_rc run(pst_store *from_store, enum pst_slot slot, uint64_t caps, pst_str from,
                  pst_store *store, pst_str to, const pst_copy_options *options,
                  const pst_call *call, pst_write_result *result, pst_error *err)
{
    struct pst_task *task = NULL;
    pst_write_result own = {.struct_size = sizeof(own)};
    pst_str named = from_store == store ? from : to; /* what lies in the store that fails */
    pst_rc rc = pst_verb_begin(store, slot, caps, from, 0, &task, err);
    if (rc != PST_OK)
        return rc;
    rc = pst_copy_fill(task, from_store, from, store, to, options, err);
    if (rc != PST_OK) {
        pst_fail_at(task->port, pst_slot_name(slot), named, rc, err, err);
    } else {
        rc = pst_call_run(task, named, call, 0, err);
        if (rc == PST_OK) {
            pst_outcome_take(&task->result.put, &own);
            pst_outcome_give(&own, result);
        }
    }
    pst_task_unref(task);
    return rc;
}

pst_rc pst_copy(pst_store *from_store, pst_str from, pst_store *to_store, pst_str to,
                const pst_copy_options *options, const pst_call *call, pst_write_result *result,
                pst_error *err)
{
    return run(from_store, PST_SLOT_COPY, PST_CAP_COPY, from, to_store, to, options, call, result,
               err);
}

pst_rc pst_rename(pst_store *store, pst_str from, pst_str to, const pst_copy_options *options,
                  const pst_call *call, pst_error *err)
{
    return run(store, PST_SLOT_RENAME, PST_CAP_RENAME, from, store, to, options, call, NULL, err);
}
