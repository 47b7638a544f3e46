/* read.h - what the blocking reads share. */
#ifndef PST_IO_READ_H
#define PST_IO_READ_H

#include "io/call.h"
#include "io/get.h"

/* Run one read and wait for it. *out is a get whose outcome may be looked at, on success. */
pst_rc pst_read_run(struct pst_get_spec *spec, const pst_call *call, const struct pst_limit *limit,
                    struct pst_get **out, pst_error *err);

#endif
