/* error.c - what a failed system call means to a caller of Penstock, in one line of UTF-8.
 *
 * Who understands a failure writes the message: here that is the path, what was being done, and the
 * kernel's reason. The host puts operation and URI before it. A key may hold any byte, so it is
 * escaped: a newline in a name must not become a second line in somebody's log. */
#include "file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SHOWN_KEY_BYTES = 400 }; /* of an escaped key, which leaves room for the reason */

/* Bytes of the well-formed UTF-8 character at p, 0 if there is none. */
static size_t measure_utf8(const unsigned char *p, size_t n)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : 4;

    if (len == 1)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    /* Overlong forms, surrogates, beyond U+10FFFF. */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

static void show_key(pst_str key, char *out, size_t cap)
{
    const unsigned char *p = (const unsigned char *)key.ptr;
    size_t n = 0;

    for (size_t i = 0; i < key.len;) {
        size_t len = measure_utf8(p + i, key.len - i);
        int is_plain = len > 1 || (len == 1 && p[i] >= 0x20 && p[i] != 0x7f && p[i] != '\\');

        if (n + 8 > cap) {
            memcpy(out + n, "...", 3);
            n += 3;
            break;
        }
        if (is_plain) {
            memcpy(out + n, p + i, len);
            n += len;
            i += len;
        } else if (p[i] == '\\') {
            memcpy(out + n, "\\\\", 2);
            n += 2;
            i++;
        } else {
            static const char digits[] = "0123456789abcdef";
            out[n++] = '\\';
            out[n++] = 'x';
            out[n++] = digits[p[i] >> 4];
            out[n++] = digits[p[i] & 15];
            i++;
        }
    }
    out[n] = '\0';
}

/* The table that decides what callers see and whether they try again. */
static pst_rc classify(int sys_errno, uint32_t *flags)
{
    *flags = 0;
    switch (sys_errno) {
    case ENOENT:
    case ENOTDIR:
        return PST_E_NOT_FOUND;
    case EEXIST:
        return PST_E_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP: /* a link where none is followed, or a circle of them */
    case EXDEV: /* openat2: the path leaves the root */
        return PST_E_DENIED;
    case ENOSPC:
    case EDQUOT:
        return PST_E_NO_SPACE;
    case ENAMETOOLONG:
    case EISDIR:
    case EFBIG:
    case EINVAL:
        return PST_E_INVALID;
    case ENOTEMPTY:
    case EBUSY:
        return PST_E_PRECONDITION;
    case EMFILE:
    case ENFILE:
    case EAGAIN:
    case ENOLCK:
        *flags = PST_ERR_RETRYABLE;
        return PST_E_UNAVAILABLE;
    case ENOMEM:
        return PST_E_NO_MEMORY;
    case ENOSYS:
    case EOPNOTSUPP:
        return PST_E_UNIMPLEMENTED;
    default: /* EIO, ESTALE and what no one expects of a file system */
        return PST_E_IO;
    }
}

static const char *explain(int sys_errno, char *buffer, size_t cap)
{
    if (sys_errno == ELOOP)
        return "symbolic link not followed";
    if (sys_errno == EXDEV)
        return "a symbolic link leads out of the root";
    return strerror_r(sys_errno, buffer, cap);
}

static void set_fields(pst_error *err, pst_rc rc, uint32_t flags, int sys_errno)
{
    /* Member by member: the struct belongs to the host and may be longer than ours. All of these are
     * of 0.9, the oldest ABI, so they are there; a member of a later minor would need PST_HAS. */
    err->code = rc;
    err->flags = flags;
    err->retry_after_ms = 0;
    err->sys_errno = sys_errno;
}

pst_rc fst_fail(const pst_backend *b, pst_op *op, pst_rc rc, pst_str key, const char *format, ...)
{
    char shown[SHOWN_KEY_BYTES], shown_root[SHOWN_KEY_BYTES / 2];
    va_list args;
    int n;

    show_key(key, shown, sizeof(shown));
    show_key(pst_str_of(b->root, strlen(b->root)), shown_root, sizeof(shown_root));
    set_fields(op->err, rc, 0, 0);
    n = snprintf(op->err->message, sizeof(op->err->message), "%s%s%s: ", shown_root,
                 b->root[1] ? "/" : "", shown);
    if (n < 0)
        return rc;
    va_start(args, format);
    vsnprintf(op->err->message + n, sizeof(op->err->message) - (size_t)n, format, args);
    va_end(args);
    return rc;
}

pst_rc fst_fail_errno(const pst_backend *b, pst_op *op, int sys_errno, pst_str key,
                      const char *doing)
{
    char text[128];
    uint32_t flags;
    pst_rc rc = classify(sys_errno, &flags);

    fst_fail(b, op, rc, key, "%s: %s", doing, explain(sys_errno, text, sizeof(text)));
    set_fields(op->err, rc, flags, sys_errno);
    return rc;
}

pst_rc fst_error_set(pst_error *err, pst_rc rc, int sys_errno, const char *format, ...)
{
    char text[128];
    va_list args;

    set_fields(err, rc, 0, sys_errno);
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    if (sys_errno != 0 && n >= 0 && (size_t)n < sizeof(err->message))
        snprintf(err->message + n, sizeof(err->message) - (size_t)n, ": %s",
                 explain(sys_errno, text, sizeof(text)));
    return rc;
}

pst_rc fst_no_memory(pst_op *op)
{
    return fst_error_set(op->err, PST_E_NO_MEMORY, 0, "out of memory");
}

pst_rc fst_cancelled(pst_op *op)
{
    return fst_error_set(op->err, PST_E_CANCELLED, 0, "cancelled");
}
