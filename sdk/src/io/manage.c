/* manage.c - containers, presign, cleanup: one task each, started, waited for, done.
 *
 * None of them uses memory of the caller: what the task needs is copied into it, so a call that is
 * cancelled returns at once and leaves the rest to the task. */
#include <stdlib.h>
#include <string.h>

#include <penstock/object.h>

#include "core/error.h"
#include "io/call.h"
#include "io/verb.h"

/* ---- containers ------------------------------------------------------------------------------- */

static pst_rc run_container(pst_store *store, enum pst_slot slot, pst_str name,
                            const pst_call *call, pst_error *err)
{
    struct pst_task *task = NULL;
    pst_rc rc = pst_verb_begin(store, slot, PST_CAP_CONTAINER, name, PST_VERB_ANY_KEY, &task, err);
    if (rc != PST_OK)
        return rc;
    task->args.container.struct_size = sizeof(task->args.container);
    if (pst_task_keep_str(task, name, &task->args.container.name))
        rc = pst_call_run(task, name, call, 0, err);
    else
        rc = pst_call_fail(task, name, PST_E_NO_MEMORY, err);
    pst_task_unref(task);
    return rc;
}

pst_rc pst_container_create(pst_store *store, pst_str name, const pst_call *call, pst_error *err)
{
    return run_container(store, PST_SLOT_CONTAINER_CREATE, name, call, err);
}

pst_rc pst_container_delete(pst_store *store, pst_str name, const pst_call *call, pst_error *err)
{
    return run_container(store, PST_SLOT_CONTAINER_DELETE, name, call, err);
}

/* ---- presign ---------------------------------------------------------------------------------- */

static char *dup_text(pst_str from)
{
    char *text = malloc(from.len + 1);
    if (!text)
        return NULL;
    if (from.len > 0)
        memcpy(text, from.ptr, from.len);
    text[from.len] = '\0';
    return text;
}

pst_rc pst_presign(pst_store *store, pst_str key, pst_str method, uint64_t expires_s,
                   const pst_call *call, char **url, pst_error *err)
{
    struct pst_task *task = NULL;
    *url = NULL;
    pst_rc rc = pst_verb_begin(store, PST_SLOT_PRESIGN, PST_CAP_PRESIGN, key, 0, &task, err);
    if (rc != PST_OK)
        return rc;
    task->args.presign.struct_size = sizeof(task->args.presign);
    task->args.presign.expires_s = expires_s;
    if (method.len == 0 || expires_s == 0) {
        pst_fail(err, PST_E_INVALID, "a method and a time above 0 are needed");
        rc = pst_fail_at(task->port, pst_slot_name(task->slot), key, PST_E_INVALID, err, err);
    } else if (!pst_task_keep_str(task, key, &task->args.presign.key) ||
               !pst_task_keep_str(task, method, &task->args.presign.method)) {
        rc = pst_call_fail(task, key, PST_E_NO_MEMORY, err);
    } else {
        rc = pst_call_run(task, key, call, 0, err);
        if (rc == PST_OK && !(*url = dup_text(task->result.presign.url)))
            rc = pst_call_fail(task, key, PST_E_NO_MEMORY, err);
    }
    pst_task_unref(task);
    return rc;
}

/* ---- cleanup ---------------------------------------------------------------------------------- */

/* What was removed is worth a line in the log: it may explain a missing upload later. */
static pst_rc log_removed(struct pst_task *task, const pst_entry *entries, size_t n, size_t stride)
{
    struct pst_log *log = &task->port->core->log;
    int is_dry = (task->args.cleanup.flags & PST_CLEANUP_DRY_RUN) != 0;
    if (!pst_log_enabled(log, PST_LEVEL_INFO))
        return PST_OK;
    for (size_t i = 0; i < n; i++) {
        const pst_entry *entry = (const pst_entry *)(const void *)((const char *)entries +
                                                                   i * stride);
        char shown[256];
        pst_logf(log, PST_LEVEL_INFO, "%s %s/%s", is_dry ? "would remove" : "removed",
                 task->port->uri, pst_printable(entry->key, shown, sizeof(shown)));
    }
    return PST_OK;
}

pst_rc pst_cleanup(pst_store *store, pst_str prefix, uint64_t older_than_s, uint32_t flags,
                   const pst_call *call, uint64_t *n_removed, uint64_t *n_bytes, pst_error *err)
{
    struct pst_task *task = NULL;
    *n_removed = *n_bytes = 0;
    pst_rc rc = pst_verb_begin(store, PST_SLOT_CLEANUP, PST_CAP_CLEANUP, prefix, PST_VERB_ANY_KEY,
                               &task, err);
    if (rc != PST_OK)
        return rc;
    task->args.cleanup.struct_size = sizeof(task->args.cleanup);
    task->args.cleanup.older_than_s = older_than_s;
    task->args.cleanup.flags = flags & PST_CLEAN_DRY_RUN ? PST_CLEANUP_DRY_RUN : 0;
    task->emit = log_removed;
    if (flags & ~PST_CLEAN_DRY_RUN) {
        pst_fail(err, PST_E_INVALID, "unknown flags 0x%x", (unsigned)flags);
        rc = pst_fail_at(task->port, pst_slot_name(task->slot), prefix, PST_E_INVALID, err, err);
    } else if (!pst_task_keep_str(task, prefix, &task->args.cleanup.prefix)) {
        rc = pst_call_fail(task, prefix, PST_E_NO_MEMORY, err);
    } else {
        rc = pst_call_run(task, prefix, call, 0, err);
    }
    if (rc == PST_OK) {
        *n_removed = task->result.cleanup.n_removed;
        *n_bytes = task->result.cleanup.n_bytes;
    }
    pst_task_unref(task);
    return rc;
}
