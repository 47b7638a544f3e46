/* results.h - what the calls that read many things share: an outcome for each, one for the call. */
#ifndef PST_IO_RESULTS_H
#define PST_IO_RESULTS_H

#include <penstock/many.h>

/* A copy for a result to own; NULL for lack of memory. */
pst_error *pst_error_dup(const pst_error *error);

/* The code of the first that failed, what was cancelled on account of it last; *err counts them. */
pst_rc pst_results_first_failure(const pst_get_result *results, size_t n, pst_error *err);

#endif
