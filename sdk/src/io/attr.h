/* attr.h - copies of attributes, each one block. */
#ifndef PST_IO_ATTR_H
#define PST_IO_ATTR_H

#include <penstock/object.h>

#include "core/task.h"

/* Copy the attributes with every string, sum and user_meta entry; NULL for lack of memory. The copy
 * has this library's struct_size and strides. Ownership: pst_attr_free. */
pst_attr *pst_attr_dup(const pst_attr *from);

/* The same into memory that lives as long as the task. */
const pst_attr *pst_attr_keep(struct pst_task *task, const pst_attr *from);

#endif
