/* task_call.h - one attempt of a task, for core/task.c: no locks, no states. */
#ifndef PST_CORE_TASK_CALL_H
#define PST_CORE_TASK_CALL_H

#include "core/task.h"

/* Clear what an earlier attempt left: result, error, scratch, memory of op_alloc. */
void pst_task_reset(struct pst_task *task);

/* Say in the task's error which container is missing, where the plugin tells that one is. */
void pst_task_name_container(struct pst_task *task, pst_rc rc);

/* Call the plugin's function of the task's slot; returns what it returns. */
pst_rc pst_task_call(struct pst_task *task);

#endif
