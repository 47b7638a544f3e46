/* error.h - fill a caller's pst_error; every function accepts err == NULL. */
#ifndef PST_CORE_ERROR_H
#define PST_CORE_ERROR_H

#include <stdarg.h>

#include <penstock/status.h>

/* Set code and message (printf format), clear the rest as far as struct_size reaches. Returns rc, so
 * that `return pst_fail(err, PST_E_INVALID, "...")` reads well. The message becomes one line: control
 * characters are shown as \xNN. */
pst_rc pst_fail(pst_error *err, pst_rc rc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with errno: appends ": <text>" and sets sys_errno. */
pst_rc pst_fail_errno(pst_error *err, pst_rc rc, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#if defined(__clang_analyzer__) && !defined(PST_ERROR_DEFINITIONS)
/* clang-tidy sees one file at a time: show it that these return their code. */
#define pst_fail(err, rc, ...) ((void)pst_fail((err), (rc), __VA_ARGS__), (rc))
#define pst_fail_errno(err, rc, ...) ((void)pst_fail_errno((err), (rc), __VA_ARGS__), (rc))
#endif

/* Put words before the message that is there. */
void pst_error_prefix(pst_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Copy as much as both have room for; dst keeps its struct_size. */
void pst_error_copy(pst_error *dst, const pst_error *src);

/* Make *err empty (code 0) within its struct_size. */
void pst_error_clear(pst_error *err);

/* printf a key or URI safely: writes at most cap-1 characters of `s` to `out`, control characters,
 * backslash-escaped (\n, \xNN), cut at a character boundary with "..." when it does not fit.
 * Returns out. */
const char *pst_printable(pst_str s, char *out, size_t cap);

#endif
