/* race.h - eight writers at once: do their conditions hold? */
#ifndef PST_S3_RACE_H
#define PST_S3_RACE_H

#include "probe.h"

#define S3_RACERS 8u
#define S3_ROUNDS 5u

enum s3_obedience { S3_NOT_KNOWN, S3_OBEYED, S3_IGNORED, S3_REFUSED };

/* Race in memory and on behalf of `op`, on keys of its own beside `key`. over() is called once, perhaps
 * before this returns, with NOT_KNOWN and op->err where the store could not be asked. `n_won`: of eight,
 * in the round that decided. Returns 0 for lack of memory: then it is not called. */
int s3_race(pst_backend *store, pst_op *op, enum s3_conditional what, pst_str key,
            void (*over)(pst_op *op, enum s3_conditional what, enum s3_obedience, uint32_t n_won,
                         pst_rc rc));

#endif
