/* room.h - wait for bytes of the budget on the caller's own thread, as long as its call may take. */
#ifndef PST_IO_ROOM_H
#define PST_IO_ROOM_H

#include "core/budget.h"
#include "io/call.h"

/* Reserve `bytes`, in line behind those who came before. They are the caller's on PST_OK only.
 * Errors: CANCELLED, DEADLINE, as the limit says. */
pst_rc pst_room_reserve(struct pst_budget *budget, uint64_t bytes, const struct pst_limit *limit);

#endif
