/* writer.h - the writer, as pst_put uses it. */
#ifndef PST_IO_WRITER_H
#define PST_IO_WRITER_H

#include <penstock/writer.h>

#include "core/port.h"
#include "io/verb.h"

/* Write `size` bytes of src by way of a writer, that is from copies of this library's own. The call's
 * time is for all of it. */
pst_rc pst_writer_put(struct pst_port *port, pst_str key, const pst_iov *src, size_t n_src,
                      uint64_t size, const struct pst_write_plan *plan, const pst_call *call,
                      pst_write_result *result, pst_error *err);

#endif
