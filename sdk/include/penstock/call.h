/* call.h - how long a blocking call may take, and how to stop it. */
#ifndef PENSTOCK_CALL_H
#define PENSTOCK_CALL_H

#include <penstock/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A switch that ends every call it was given to, for good. */
typedef struct pst_cancel pst_cancel;

/* Make a token. Ownership: free it after the last call that uses it has returned. */
PST_API PST_NODISCARD pst_rc pst_cancel_new(pst_cancel **out);

/* Make a token that also asks: while a call waits, `poll(arg)` runs on its thread about 20 times a second,
 * with no lock held, and anything but 0 fires the token. For hosts that hear of an interrupt only where
 * they look, as interpreters do. Serves one call at a time. Ownership: as pst_cancel_new. */
PST_API PST_NODISCARD pst_rc pst_cancel_new_polled(int (*poll)(void *arg), void *arg,
                                                   pst_cancel **out);

/* End the calls that hold this token: each returns PST_E_CANCELLED within a second, unless it has come to
 * its end before.
 * Threads: any, and safe in a signal handler. */
PST_API void pst_cancel_fire(pst_cancel *cancel);

/* Tell whether the token was fired. */
PST_API int pst_cancel_fired(const pst_cancel *cancel);

PST_API void pst_cancel_free(pst_cancel *cancel);

/* What every blocking call takes; NULL stands for all zero. With neither timeout nor cancel token the
 * calling thread itself does what a blocking plugin does for the call: quicker, but it cannot leave. */
typedef struct pst_call {
    uint32_t struct_size, flags;
    uint64_t timeout_ms;   /* for the whole call, retries included; 0: no limit */
    uint32_t max_attempts; /* 0: the context's; 1: no retry */
    uint32_t affinity;     /* rank or shard, for stores with several endpoints */
    pst_cancel *cancel;    /* NULL: cannot be cancelled */
    void *reserved0;
} pst_call;

#ifdef __cplusplus
}
#endif
#endif
