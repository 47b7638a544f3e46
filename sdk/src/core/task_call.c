/* task_call.c - what differs from one kind of operation to the next: its name, the result that is cleared
 * before an attempt, the function of the plugin that is called.
 *
 * A slot that the plugin leaves NULL answers UNIMPLEMENTED, as if it were a function of its own. When and
 * how often a task is called is not known here: core/task.c. */
#include "core/task_call.h"

#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "core/port.h"

const char *pst_slot_name(enum pst_slot slot)
{
    static const char *const names[] = {
        [PST_SLOT_READ] = "GET",
        [PST_SLOT_STAT] = "STAT",
        [PST_SLOT_PUT] = "PUT",
        [PST_SLOT_COPY] = "COPY",
        [PST_SLOT_RENAME] = "RENAME",
        [PST_SLOT_REMOVE] = "DELETE",
        [PST_SLOT_LIST] = "LIST",
        [PST_SLOT_LIST_OPEN] = "LIST",
        [PST_SLOT_LIST_PAGE] = "LIST",
        [PST_SLOT_UPLOAD_OPEN] = "PUT",
        [PST_SLOT_UPLOAD_PART] = "PUT part",
        [PST_SLOT_UPLOAD_COMMIT] = "PUT commit",
        [PST_SLOT_UPLOAD_ABORT] = "PUT abort",
        [PST_SLOT_CONTAINER_CREATE] = "CREATE CONTAINER",
        [PST_SLOT_CONTAINER_DELETE] = "DELETE CONTAINER",
        [PST_SLOT_CONTAINER_LIST] = "LIST CONTAINERS",
        [PST_SLOT_PRESIGN] = "PRESIGN",
        [PST_SLOT_CLEANUP] = "CLEANUP",
    };
    return names[slot];
}

int pst_slot_writes(enum pst_slot slot)
{
    switch (slot) {
    case PST_SLOT_PUT:
    case PST_SLOT_COPY:
    case PST_SLOT_RENAME:
    case PST_SLOT_REMOVE:
    case PST_SLOT_UPLOAD_COMMIT:
    case PST_SLOT_CONTAINER_CREATE:
    case PST_SLOT_CONTAINER_DELETE:
        return 1;
    default:
        return 0;
    }
}

void pst_task_reset(struct pst_task *task)
{
    pst_remove_result kept = task->result.remove;
    pst_task_drop_results(task);
    if (!PST_FAULT(DIRTY_SCRATCH))
        memset(task->op.scratch, 0, task->port->loaded->plugin.op_scratch);
    if (PST_FAULT(PART_CHANGED) && task->slot == PST_SLOT_UPLOAD_PART && task->op.attempt > 1)
        task->args.part.offset++;
    pst_error_clear(&task->error);
    task->error.attempt = task->op.attempt;
    task->error.max_attempts = task->op.max_attempts;
    memset(&task->result, 0, sizeof(task->result));
    switch (task->slot) {
    case PST_SLOT_READ:
        task->result.read.struct_size = sizeof(task->result.read);
        task->result.read.object_size = PST_UNKNOWN;
        break;
    case PST_SLOT_STAT:
        task->result.stat.struct_size = sizeof(task->result.stat);
        task->result.stat.mtime_ns = PST_TIME_UNKNOWN;
        break;
    case PST_SLOT_PUT:
    case PST_SLOT_COPY:
    case PST_SLOT_RENAME:
    case PST_SLOT_UPLOAD_COMMIT:
        task->result.put.struct_size = sizeof(task->result.put);
        task->result.put.size = PST_UNKNOWN;
        break;
    case PST_SLOT_REMOVE:
        task->result.remove = kept;
        task->result.remove.struct_size = sizeof(task->result.remove);
        for (size_t i = 0; kept.status && i < task->args.remove.n_keys; i++)
            kept.status[i] = PST_FAULT(TRUST_STATUS)
                                 ? PST_OK
                                 : PST_E_INTERNAL; /* for what the plugin leaves out */
        break;
    case PST_SLOT_LIST:
    case PST_SLOT_LIST_PAGE:
    case PST_SLOT_CONTAINER_LIST:
        task->result.list.struct_size = sizeof(task->result.list);
        break;
    case PST_SLOT_LIST_OPEN:
        task->result.cursor.struct_size = sizeof(task->result.cursor);
        break;
    case PST_SLOT_UPLOAD_OPEN:
        task->result.upload.struct_size = sizeof(task->result.upload);
        break;
    case PST_SLOT_PRESIGN:
        task->result.presign.struct_size = sizeof(task->result.presign);
        break;
    case PST_SLOT_CLEANUP:
        task->result.cleanup.struct_size = sizeof(task->result.cleanup);
        break;
    case PST_SLOT_UPLOAD_PART:
    case PST_SLOT_UPLOAD_ABORT:
    case PST_SLOT_CONTAINER_CREATE:
    case PST_SLOT_CONTAINER_DELETE:
        task->result.none.struct_size = sizeof(task->result.none);
        break;
    }
}

/* A user who mistyped the bucket reads its name in the same words whatever the store is, before what the
 * plugin says. Operations on containers, and those that may be about another one, have the latter alone. */
void pst_task_name_container(struct pst_task *task, pst_rc rc)
{
    char shown[300];
    char reason[sizeof(task->error.message)];
    if (rc != PST_E_NOT_FOUND || !(task->error.flags & PST_ERR_NO_CONTAINER))
        return;
    switch (task->slot) {
    case PST_SLOT_COPY:
    case PST_SLOT_RENAME:
    case PST_SLOT_CONTAINER_CREATE:
    case PST_SLOT_CONTAINER_DELETE:
        return;
    default:
        break;
    }
    const char *authority = strstr(task->port->uri, "://") + 3;
    pst_printable(pst_str_of(authority, strlen(authority)), shown, sizeof(shown));
    memcpy(reason, task->error.message, sizeof(reason));
    snprintf(task->error.message, sizeof(task->error.message),
             "the container \"%s\" does not exist%s%.400s", shown, reason[0] ? ": " : "", reason);
}

#define CALL(slot_name, object, args_member, result_member)                                        \
    (ops->slot_name                                                                                \
         ? ops->slot_name((object), op, &task->args.args_member, &task->result.result_member)      \
         : (pst_rc)PST_E_UNIMPLEMENTED)

pst_rc pst_task_call(struct pst_task *task)
{
    const pst_backend_ops *ops = &task->port->loaded->ops;
    pst_backend *backend = task->port->backend;
    pst_op *op = &task->op;
    switch (task->slot) {
    case PST_SLOT_READ:
        return CALL(read, backend, read, read);
    case PST_SLOT_STAT:
        return CALL(stat, backend, stat, stat);
    case PST_SLOT_PUT:
        return CALL(put, backend, put, put);
    case PST_SLOT_COPY:
        return CALL(copy, backend, copy, put);
    case PST_SLOT_RENAME:
        return CALL(rename, backend, copy, put);
    case PST_SLOT_REMOVE:
        return CALL(remove, backend, remove, remove);
    case PST_SLOT_LIST:
        return CALL(list, backend, list, list);
    case PST_SLOT_LIST_OPEN:
        return CALL(list_open, backend, list, cursor);
    case PST_SLOT_LIST_PAGE:
        return CALL(list_page, (pst_cursor *)task->object, page, list);
    case PST_SLOT_UPLOAD_OPEN:
        return CALL(upload_open, backend, put, upload);
    case PST_SLOT_UPLOAD_PART:
        return CALL(upload_part, (pst_upload *)task->object, part, none);
    case PST_SLOT_UPLOAD_COMMIT:
        return CALL(upload_commit, (pst_upload *)task->object, commit, put);
    case PST_SLOT_UPLOAD_ABORT:
        return CALL(upload_abort, (pst_upload *)task->object, abort, none);
    case PST_SLOT_CONTAINER_CREATE:
        return CALL(container_create, backend, container, none);
    case PST_SLOT_CONTAINER_DELETE:
        return CALL(container_delete, backend, container, none);
    case PST_SLOT_CONTAINER_LIST:
        return CALL(container_list, backend, list, list);
    case PST_SLOT_PRESIGN:
        return CALL(presign, backend, presign, presign);
    case PST_SLOT_CLEANUP:
        return CALL(cleanup, backend, cleanup, cleanup);
    }
    return PST_E_INTERNAL;
}
