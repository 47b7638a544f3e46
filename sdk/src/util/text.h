/* text.h - make bytes that came from outside safe to print on one line. */
#ifndef PST_UTIL_TEXT_H
#define PST_UTIL_TEXT_H

#include <stddef.h>

/* Is this text UTF-8 without overlong forms, surrogates or code points above U+10FFFF? */
int pst_text_is_utf8(const char *text, size_t len);

/* Is `text` the terminated `word`, the letters A-Z taken for a-z? In every locale. */
int pst_text_equals_nocase(const char *text, size_t len, const char *word);

/* Copy `text` to `out` (cap > 0, always terminated) as one line of UTF-8: control characters (C0,
 * DEL, C1) become \n, \t, \r or \xNN, and so does each byte that is not UTF-8. Backslashes stay as
 * they are, so text that was escaped once is not escaped again. What does not fit is cut between
 * characters and ends in "...". Returns the length written. */
size_t pst_text_escape(const char *text, size_t len, char *out, size_t cap);

#endif
