#include <string.h>

#include "group.h"
#include "ops.h"
#include "probe.h"

void s3_cancel(pst_backend *store, pst_op *op)
{
    struct s3_call *call = s3_call_of(op);
    s3_request_cancel(&call->request); /* first: who starts a group looks for it afterwards */
    struct s3_group *group = atomic_load(&call->group);
    if (group)
        s3_group_cancel(group);
    s3_probe_cancel(store->probe, op);
}

void s3_error_copy(pst_error *to, const pst_error *from)
{
    const size_t head = sizeof(to->struct_size);
    size_t n = to->struct_size < from->struct_size ? to->struct_size : from->struct_size;
    if (n > sizeof(*from))
        n = sizeof(*from);
    if (n > head)
        memcpy((char *)to + head, (const char *)from + head, n - head);
}

pst_str s3_skip_blanks(pst_str document)
{
    while (document.len > 0 && (*document.ptr == ' ' || *document.ptr == '\t' ||
                                *document.ptr == '\r' || *document.ptr == '\n')) {
        document.ptr++;
        document.len--;
    }
    return document;
}
