#include "io/results.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"

pst_error *pst_error_dup(const pst_error *error)
{
    pst_error *copy = malloc(sizeof(*copy));
    if (copy)
        memcpy(copy, error, sizeof(*copy));
    return copy;
}

pst_rc pst_results_first_failure(const pst_get_result *results, size_t n, pst_error *err)
{
    size_t n_failed = 0, first = 0;
    for (size_t i = n; i-- > 0;) {
        if (results[i].status == PST_OK)
            continue;
        n_failed++;
        first = results[i].status == PST_E_CANCELLED && n_failed > 1 ? first : i;
    }
    if (n_failed == 0)
        return PST_OK;
    if (results[first].error)
        pst_error_copy(err, results[first].error);
    else
        pst_fail(err, results[first].status, "%s", pst_rc_text(results[first].status));
    if (n_failed > 1)
        pst_error_prefix(err, "%zu of %zu reads failed, first: ", n_failed, n);
    return results[first].status;
}

void pst_get_results_free(pst_get_result *results, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        pst_buffer_unref(results[i].buffer);
        free(results[i].error);
        results[i].buffer = NULL;
        results[i].error = NULL;
    }
}
