/* text.h - between the wire and values: base64, hex digits, times, numbers, percent signs. Pure. */
#ifndef PST_S3_TEXT_H
#define PST_S3_TEXT_H

#include <penstock/plugin.h>

#define S3_BASE64_BYTES(n) (((n) + 2) / 3 * 4 + 1) /* room for the text of n bytes and its NUL */

/* Returns the length of the text, which ends in NUL. */
size_t s3_base64_encode(const void *bytes, size_t len, char *out);

/* Strict: padded, nothing before or behind. Returns 0 when `text` is not that, or is too long. */
int s3_base64_decode(pst_str text, uint8_t *out, size_t capacity, size_t *len);

/* Write 2 * n lower case digits, no NUL; returns the end. */
char *s3_hex(char *out, const uint8_t *bytes, size_t n);

/* Take an etag that has the form of an MD5: 32 lower case digits in quotes. Returns 0 for any other. */
int s3_etag_md5(pst_str etag, uint8_t md5[16]);

/* Decimal digits alone. Returns 0 when `text` is something else or too large. */
int s3_parse_u64(pst_str text, uint64_t *out);

/* Nanoseconds since 1970, whole seconds; PST_TIME_UNKNOWN for what is no such time.
 * "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7) and "1994-11-06T08:49:37.123Z". */
int64_t s3_parse_http_date(pst_str text);
int64_t s3_parse_iso_date(pst_str text);

/* Decode %XX, and '+' as a space, in place. Returns the new length; SIZE_MAX: malformed. */
size_t s3_percent_decode(char *text, size_t len);

/* The length of the longest beginning of `text` that is whole UTF-8 (RFC 3629). */
size_t s3_utf8_len(pst_str text);

/* Could `rest`, where UTF-8 ended, be the beginning of one more character? */
int s3_utf8_is_begun(pst_str rest);

/* The value of a reply's header, {NULL, 0} where there is none. Names in lower case. */
pst_str s3_header(const pst_kv *headers, size_t n_headers, const char *name);

int s3_str_eq(pst_str a, pst_str b);
int s3_str_is(pst_str a, const char *b);
int s3_starts_with(pst_str text, pst_str prefix);

#endif
