#define PST_ERROR_DEFINITIONS
#include "core/error.h"

#include <stdio.h>
#include <string.h>

#include "util/text.h"

/* Longer than a message, so that a text which is cut while it is formatted is cut again, visibly,
 * when it is escaped. */
enum { DRAFT_BYTES = 1024 };

static size_t known_bytes(const pst_error *err)
{
    return err->struct_size < sizeof(*err) ? err->struct_size : sizeof(*err);
}

void pst_error_clear(pst_error *err)
{
    const size_t head = sizeof(err->struct_size);

    if (err && err->struct_size > head)
        memset((char *)err + head, 0, known_bytes(err) - head);
}

static size_t format_draft(char draft[DRAFT_BYTES], const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

static size_t format_draft(char draft[DRAFT_BYTES], const char *format, va_list args)
{
    int n = vsnprintf(draft, DRAFT_BYTES, format, args);

    if (n < 0)
        return 0;
    return n < DRAFT_BYTES ? (size_t)n : DRAFT_BYTES - 1;
}

static void set(pst_error *err, pst_rc rc, int sys_errno, const char *message, size_t len)
{
    pst_error_clear(err);
    if (PST_HAS(pst_error, err, code))
        err->code = rc;
    if (PST_HAS(pst_error, err, sys_errno))
        err->sys_errno = sys_errno;
    if (PST_HAS(pst_error, err, message))
        pst_text_escape(message, len, err->message, sizeof(err->message));
}

pst_rc pst_fail(pst_error *err, pst_rc rc, const char *format, ...)
{
    char draft[DRAFT_BYTES];
    va_list args;

    if (!err)
        return rc;
    va_start(args, format);
    size_t len = format_draft(draft, format, args);
    va_end(args);
    set(err, rc, 0, draft, len);
    return rc;
}

pst_rc pst_fail_errno(pst_error *err, pst_rc rc, int sys_errno, const char *format, ...)
{
    char draft[DRAFT_BYTES];
    char why[128];
    va_list args;

    if (!err)
        return rc;
    va_start(args, format);
    size_t len = format_draft(draft, format, args);
    va_end(args);
    /* The cause is worth more than the end of a long name: keep room for it. */
    const char *text = strerror_r(sys_errno, why, sizeof(why));
    const size_t text_len = strlen(text);
    if (len + 2 + text_len > sizeof(err->message) - 1) {
        char cut[sizeof(err->message)];
        len = pst_text_escape(draft, len, cut, sizeof(cut) - 2 - text_len);
        memcpy(draft, cut, len);
    }
    int n = snprintf(draft + len, sizeof(draft) - len, ": %s", text);
    set(err, rc, sys_errno, draft, len + (n > 0 ? (size_t)n : 0));
    return rc;
}

void pst_error_prefix(pst_error *err, const char *format, ...)
{
    char draft[DRAFT_BYTES + sizeof(err->message)];
    va_list args;

    if (!err || !PST_HAS(pst_error, err, message))
        return;
    va_start(args, format);
    size_t len = format_draft(draft, format, args);
    va_end(args);
    const size_t old = strnlen(err->message, sizeof(err->message) - 1);
    memcpy(draft + len, err->message, old);
    pst_text_escape(draft, len + old, err->message, sizeof(err->message));
}

void pst_error_copy(pst_error *dst, const pst_error *src)
{
    const size_t head = sizeof(dst->struct_size);

    if (!dst || !src || dst == src)
        return;
    pst_error_clear(dst);
    const size_t n = known_bytes(dst) < known_bytes(src) ? known_bytes(dst) : known_bytes(src);
    if (n > head)
        memcpy((char *)dst + head, (const char *)src + head, n - head);
}

const char *pst_printable(pst_str s, char *out, size_t cap)
{
    pst_text_escape(s.ptr, s.len, out, cap);
    return out;
}
