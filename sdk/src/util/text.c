#include "util/text.h"

#include <stdint.h>
#include <string.h>

/* Length of the UTF-8 sequence at `s` (1..4), 0 if there is none. Unicode 15, table 3-7. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t n;

    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        n = 2;
    else if ((s[0] & 0xf0) == 0xe0)
        n = 3;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        n = 4;
    else
        return 0;
    if (left < n)
        return 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    return n;
}

int pst_text_is_utf8(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;

    for (size_t i = 0; i < len;) {
        size_t n = utf8_length(s + i, len - i);
        if (n == 0)
            return 0;
        i += n;
    }
    return 1;
}

static int lower(int c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

int pst_text_equals_nocase(const char *text, size_t len, const char *word)
{
    size_t i = 0;

    while (i < len && word[i] != '\0' && lower(text[i]) == lower(word[i]))
        i++;
    return i == len && word[i] == '\0';
}

static size_t escape_byte(unsigned char byte, char out[4])
{
    static const char hex[] = "0123456789abcdef";

    out[0] = '\\';
    switch (byte) {
    case '\n':
        out[1] = 'n';
        return 2;
    case '\r':
        out[1] = 'r';
        return 2;
    case '\t':
        out[1] = 't';
        return 2;
    default:
        out[1] = 'x';
        out[2] = hex[byte >> 4];
        out[3] = hex[byte & 15];
        return 4;
    }
}

size_t pst_text_escape(const char *text, size_t len, char *out, size_t cap)
{
    const unsigned char *s = (const unsigned char *)text;
    const size_t room = cap - 1;
    size_t used = 0;
    size_t cut = 0; /* the last place where "..." still fits behind */

    for (size_t i = 0; i < len;) {
        char escaped[4];
        const char *piece = (const char *)s + i;
        size_t n = utf8_length(s + i, len - i);
        size_t piece_len = n;
        int is_c1 = n == 2 && s[i] == 0xc2 && s[i + 1] < 0xa0;

        if (n == 0 || (n == 1 && (s[i] < 0x20 || s[i] == 0x7f)) || is_c1) {
            piece_len = escape_byte(s[i], escaped);
            piece = escaped;
            n = 1;
        }
        if (used + piece_len > room) {
            if (room >= 3) {
                memcpy(out + cut, "...", 3);
                used = cut + 3;
            }
            break;
        }
        memcpy(out + used, piece, piece_len);
        used += piece_len;
        if (used + 3 <= room)
            cut = used;
        i += n;
    }
    out[used] = '\0';
    return used;
}
