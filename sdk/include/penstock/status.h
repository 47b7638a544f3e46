/* status.h - the result codes of every call, and the error that explains them. */
#ifndef PENSTOCK_STATUS_H
#define PENSTOCK_STATUS_H

#include <penstock/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0 is success, negative is a failure. Numbers are append-only and never reused; treat an unknown
 * negative code as PST_E_INTERNAL. The last column is what `penstock` exits with. */
typedef int32_t pst_rc;

/* X(name, number, text, exit code) */
#define PST_STATUS_TABLE(X)                                                                        \
    X(CANCELLED, -1, "cancelled", 130)                                                             \
    X(INVALID, -2, "invalid argument", 2)                                                          \
    X(NOT_FOUND, -3, "not found", 3)                                                               \
    X(EXISTS, -4, "already exists", 6)                                                             \
    X(DENIED, -5, "permission denied", 4)                                                          \
    X(UNAUTHENTICATED, -6, "not authenticated", 4)                                                 \
    X(THROTTLED, -7, "throttled", 5)                                                               \
    X(PRECONDITION, -8, "precondition failed", 6)                                                  \
    X(RANGE, -9, "range not satisfiable", 7)                                                       \
    X(UNIMPLEMENTED, -10, "not supported", 2)                                                      \
    X(UNAVAILABLE, -11, "unavailable", 5)                                                          \
    X(DEADLINE, -12, "deadline exceeded", 5)                                                       \
    X(DATA_LOSS, -13, "data loss", 7)                                                              \
    X(IO, -14, "input/output error", 8)                                                            \
    X(NO_MEMORY, -15, "out of memory", 8)                                                          \
    X(INTERNAL, -16, "internal error", 8)                                                          \
    X(CHANGED, -17, "object changed while it was read", 7)                                         \
    X(NO_SPACE, -18, "no space left", 8)                                                           \
    X(OVER_BUDGET, -19, "over the memory budget", 2)                                               \
    X(FORKED, -20, "handle belongs to the process before fork", 8)                                 \
    X(BAD_PLUGIN, -21, "plugin cannot be used", 2)                                                 \
    X(NO_SCHEME, -22, "no plugin serves this scheme", 2)

#define PST_STATUS_ENUM(name, number, text, exit_code) PST_E_##name = (number),
enum { PST_OK = 0, PST_STATUS_TABLE(PST_STATUS_ENUM) };
#undef PST_STATUS_ENUM

#define PST_ERR_RETRYABLE 1u     /* the same request may succeed later */
#define PST_ERR_MAYBE_APPLIED 2u /* the store may have carried it out although the reply was lost */
#define PST_ERR_NO_CONTAINER 4u  /* NOT_FOUND: it is the container that is missing */

/* Why a call failed. Plain data in storage of whoever passes it in: initialise with
 * PST_ERROR_INIT, no lifetime to keep. Secrets never appear in any member. */
typedef struct pst_error {
    uint32_t struct_size;    /* capacity, set by the owner */
    int32_t code;            /* PST_E_* */
    uint32_t flags;          /* PST_ERR_* */
    uint32_t retry_after_ms; /* the provider's wish, 0 if none */
    int32_t sys_errno;       /* 0 if none */
    int32_t http_status;     /* 0 if none */
    uint32_t attempt;        /* the attempt that failed, from 1 */
    uint32_t max_attempts;   /* ... of so many */
    char provider_code[64];  /* "SlowDown" */
    char request_id[128];
    char endpoint[128]; /* host:port that answered, or empty */
    char message[768];  /* one line of UTF-8: operation, URI, cause */
} pst_error;

/* clang-format off */
#if defined(__cplusplus)
#define PST_ERROR_INIT {(uint32_t)sizeof(pst_error), 0, 0, 0, 0, 0, 0, 0, {0}, {0}, {0}, {0}}
#else
#define PST_ERROR_INIT {.struct_size = (uint32_t)sizeof(pst_error)}
#endif
/* clang-format on */

#ifdef __cplusplus
}
#endif
#endif
