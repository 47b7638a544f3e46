#include "text.h"

#include <string.h>

/* ---- strings ---------------------------------------------------------------------------------- */

int s3_str_eq(pst_str a, pst_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

int s3_str_is(pst_str a, const char *b)
{
    return s3_str_eq(a, pst_str_of(b, strlen(b)));
}

int s3_starts_with(pst_str text, pst_str prefix)
{
    return text.len >= prefix.len &&
           (prefix.len == 0 || memcmp(text.ptr, prefix.ptr, prefix.len) == 0);
}

pst_str s3_header(const pst_kv *headers, size_t n_headers, const char *name)
{
    const size_t len = strlen(name);

    for (size_t i = 0; i < n_headers; i++) {
        if (headers[i].key.len == len && memcmp(headers[i].key.ptr, name, len) == 0)
            return headers[i].value;
    }
    return pst_str_of(NULL, 0);
}

/* ---- base64 ----------------------------------------------------------------------------------- */

static const char digits64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t s3_base64_encode(const void *bytes, size_t len, char *out)
{
    const uint8_t *in = bytes;
    char *at = out;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16;
        if (i + 1 < len)
            v |= (uint32_t)in[i + 1] << 8;
        if (i + 2 < len)
            v |= in[i + 2];
        *at++ = digits64[v >> 18];
        *at++ = digits64[v >> 12 & 63];
        *at++ = i + 1 < len ? digits64[v >> 6 & 63] : '=';
        *at++ = i + 2 < len ? digits64[v & 63] : '=';
    }
    *at = '\0';
    return (size_t)(at - out);
}

static int value64(char c)
{
    const char *at = c ? strchr(digits64, c) : NULL;
    return at ? (int)(at - digits64) : -1;
}

int s3_base64_decode(pst_str text, uint8_t *out, size_t capacity, size_t *len)
{
    size_t n = 0, n_pad = 0;
    if (text.len == 0 || text.len % 4 != 0)
        return 0;
    while (n_pad < 2 && text.ptr[text.len - 1 - n_pad] == '=')
        n_pad++;
    if (text.len / 4 * 3 - n_pad > capacity)
        return 0;
    for (size_t i = 0; i < text.len; i += 4) {
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            int is_pad = i + k >= text.len - n_pad;
            int digit = is_pad ? 0 : value64(text.ptr[i + k]);
            if (digit < 0)
                return 0;
            v = v << 6 | (uint32_t)digit;
        }
        size_t n_here = i + 4 == text.len ? 3 - n_pad : 3;
        for (size_t k = 0; k < n_here; k++)
            out[n++] = (uint8_t)(v >> (16 - 8 * k));
    }
    *len = n;
    return 1;
}

/* ---- numbers and times ------------------------------------------------------------------------ */

int s3_parse_u64(pst_str text, uint64_t *out)
{
    uint64_t value = 0;
    if (text.len == 0)
        return 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c < '0' || c > '9' || __builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(c - '0'), &value))
            return 0;
    }
    *out = value;
    return 1;
}

/* `n` digits at `at`; -1 when they are none. */
static int number_at(pst_str text, size_t at, size_t n)
{
    uint64_t value = 0;
    if (at + n > text.len || !s3_parse_u64(pst_str_of(text.ptr + at, n), &value))
        return -1;
    return (int)value;
}

/* Days since 1970-01-01 in the Gregorian calendar, by Hinnant's days_from_civil. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t era = y / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int64_t time_of(int year, int month, int day, int hour, int minute, int second)
{
    /* Beyond 2262 a count of nanoseconds overflows; a leap second is the next minute's first. */
    if (year < 1970 || year > 2261 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 ||
        hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return PST_TIME_UNKNOWN;
    int64_t seconds = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    return seconds * INT64_C(1000000000);
}

int64_t s3_parse_http_date(pst_str text)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int month = 0;
    if (text.len != 29 || memcmp(text.ptr + 25, " GMT", 4) != 0)
        return PST_TIME_UNKNOWN;
    for (int i = 0; i < 12 && month == 0; i++)
        month = memcmp(text.ptr + 8, months + 3 * (ptrdiff_t)i, 3) == 0 ? i + 1 : 0;
    return time_of(number_at(text, 12, 4), month, number_at(text, 5, 2), number_at(text, 17, 2),
                   number_at(text, 20, 2), number_at(text, 23, 2));
}

int64_t s3_parse_iso_date(pst_str text)
{
    if (text.len < 20 || text.ptr[10] != 'T' || text.ptr[text.len - 1] != 'Z')
        return PST_TIME_UNKNOWN;
    return time_of(number_at(text, 0, 4), number_at(text, 5, 2), number_at(text, 8, 2),
                   number_at(text, 11, 2), number_at(text, 14, 2), number_at(text, 17, 2));
}

/* ---- hexadecimal digits ------------------------------------------------------------------------ */

char *s3_hex(char *out, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    return out;
}

static int value16_lower(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int s3_etag_md5(pst_str etag, uint8_t md5[16])
{
    if (etag.len != 34)
        return 0;
    for (size_t i = 0; i < 16; i++) {
        int high = value16_lower(etag.ptr[1 + 2 * i]);
        int low = value16_lower(etag.ptr[2 + 2 * i]);
        if (high < 0 || low < 0)
            return 0;
        md5[i] = (uint8_t)(high << 4 | low);
    }
    return 1;
}

/* ---- percent signs and UTF-8 ------------------------------------------------------------------ */

static int value16(char c)
{
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : value16_lower(c);
}

size_t s3_percent_decode(char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < len ? value16(text[i + 1]) : -1;
            int low = i + 2 < len ? value16(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return SIZE_MAX;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        text[n++] = c;
    }
    return n;
}

/* How many bytes a character that begins with `c` has; 0: none begins so. */
static size_t sequence_len(uint8_t c)
{
    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c <= 0xdf)
        return 2;
    if (c >= 0xe0 && c <= 0xef)
        return 3;
    return c >= 0xf0 && c <= 0xf4 ? 4 : 0;
}

/* May `c` follow `first` as its second byte? Neither overlong, nor surrogates, nor beyond U+10FFFF. */
static int is_second(uint8_t first, uint8_t c)
{
    switch (first) {
    case 0xe0:
        return c >= 0xa0 && c <= 0xbf;
    case 0xed:
        return c >= 0x80 && c <= 0x9f;
    case 0xf0:
        return c >= 0x90 && c <= 0xbf;
    case 0xf4:
        return c >= 0x80 && c <= 0x8f;
    default:
        return (c & 0xc0) == 0x80;
    }
}

/* How many of the bytes at `s` agree with one character. */
static size_t agreeing(const uint8_t *s, size_t len, size_t want)
{
    size_t n = 1;
    while (n < want && n < len && (n == 1 ? is_second(s[0], s[1]) : (s[n] & 0xc0) == 0x80))
        n++;
    return n;
}

size_t s3_utf8_len(pst_str text)
{
    const uint8_t *s = (const uint8_t *)text.ptr;
    size_t i = 0;
    while (i < text.len) {
        size_t want = sequence_len(s[i]);
        if (want == 0 || agreeing(s + i, text.len - i, want) < want)
            break;
        i += want;
    }
    return i;
}

int s3_utf8_is_begun(pst_str rest)
{
    const uint8_t *s = (const uint8_t *)rest.ptr;
    size_t want = rest.len > 0 ? sequence_len(s[0]) : 0;
    return want > rest.len && agreeing(s, rest.len, want) == rest.len;
}
