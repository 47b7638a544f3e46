/* text.c - texts that grow, and what is composed in them: numbers and times for people, JSON, escapes.
 *
 * Keys are bytes and JSON is UTF-8, so a string that is not UTF-8 is written twice: with U+FFFD in
 * place of what is wrong, for reading, and in hexadecimal, exact. What reaches a terminal is escaped,
 * since a key may hold anything, commands for the terminal included. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "frame.h"

/* ---- growing -------------------------------------------------------------------------------------- */

static void reserve(struct cli_text_buf *buf, size_t more)
{
    if (buf->cap - buf->len >= more)
        return;
    size_t cap = buf->cap ? buf->cap : 256;
    while (cap - buf->len < more)
        cap *= 2;
    buf->data = cli_grow(buf->data, cap, 1);
    buf->cap = cap;
}

void cli_add(struct cli_text_buf *buf, const char *data, size_t len)
{
    if (len == 0)
        return;
    reserve(buf, len);
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
}

void cli_add_va(struct cli_text_buf *buf, const char *format, va_list list)
{
    va_list again;
    int n;

    va_copy(again, list);
    n = vsnprintf(NULL, 0, format, list);
    if (n > 0) {
        reserve(buf, (size_t)n + 1);
        vsnprintf(buf->data + buf->len, (size_t)n + 1, format, again);
        buf->len += (size_t)n;
    }
    va_end(again);
}

void cli_addf(struct cli_text_buf *buf, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    cli_add_va(buf, format, list);
    va_end(list);
}

void cli_text_fini(struct cli_text_buf *buf)
{
    free(buf->data);
    memset(buf, 0, sizeof(*buf));
}

void cli_add_time(struct cli_text_buf *buf, int64_t time_ns, bool has_nanoseconds)
{
    int64_t ns = time_ns % 1000000000;
    time_t seconds = (time_t)(time_ns / 1000000000);
    struct tm tm;
    char text[40];

    if (ns < 0) {
        ns += 1000000000;
        seconds--;
    }
    if (time_ns == PST_TIME_UNKNOWN || !gmtime_r(&seconds, &tm) ||
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        cli_add(buf, "-", 1);
        return;
    }
    cli_addf(buf, "%s", text);
    if (has_nanoseconds)
        cli_addf(buf, ".%09lld", (long long)ns);
    cli_add(buf, "Z", 1);
}

void cli_add_human(struct cli_text_buf *buf, uint64_t bytes)
{
    static const char units[] = "KMGTPE";
    double value = (double)bytes;
    size_t i = 0;

    if (bytes < 1024) {
        cli_addf(buf, "%llu B", (unsigned long long)bytes);
        return;
    }
    for (value /= 1024; value >= 1023.95 && i + 1 < sizeof(units) - 1; i++)
        value /= 1024;
    cli_addf(buf, "%.1f %ciB", value, units[i]);
}

/* ---- JSON --------------------------------------------------------------------------------------- */

/* How long the UTF-8 sequence at `p` is, 0 if it is none (overlong forms, surrogates, beyond
 * U+10FFFF included). */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (n == 0 || n > left || p[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

/* Returns false when bytes had to be replaced. */
static bool add_json_string(struct cli_text_buf *buf, pst_str text)
{
    const unsigned char *p = (const unsigned char *)text.ptr;
    bool is_exact = true;

    cli_add(buf, "\"", 1);
    for (size_t i = 0; i < text.len;) {
        size_t n = utf8_length(p + i, text.len - i);
        if (n == 0) {
            cli_add(buf, "\\ufffd", 6);
            is_exact = false;
            i++;
        } else if (p[i] == '"' || p[i] == '\\') {
            cli_addf(buf, "\\%c", p[i++]);
        } else if (p[i] < 0x20 || p[i] == 0x7f) {
            cli_addf(buf, "\\u%04x", p[i++]);
        } else {
            cli_add(buf, text.ptr + i, n);
            i += n;
        }
    }
    cli_add(buf, "\"", 1);
    return is_exact;
}

void cli_add_json(struct cli_text_buf *buf, pst_str text)
{
    add_json_string(buf, text);
}

void cli_json_begin(struct cli_text_buf *buf)
{
    char last = buf->len ? buf->data[buf->len - 1] : '\0';
    cli_add(buf, last == '}' ? ",{" : "{", last == '}' ? 2 : 1);
}

void cli_json_name(struct cli_text_buf *buf, const char *name)
{
    char last = buf->len ? buf->data[buf->len - 1] : '{';
    cli_addf(buf, last == '{' ? "\"%s\":" : ",\"%s\":", name);
}

void cli_json_text(struct cli_text_buf *buf, const char *name, pst_str value)
{
    cli_json_name(buf, name);
    add_json_string(buf, value);
}

void cli_json_bytes(struct cli_text_buf *buf, const char *name, pst_str value)
{
    cli_json_name(buf, name);
    if (add_json_string(buf, value))
        return;
    cli_addf(buf, ",\"%s_hex\":\"", name);
    for (size_t i = 0; i < value.len; i++)
        cli_addf(buf, "%02x", (unsigned char)value.ptr[i]);
    cli_add(buf, "\"", 1);
}

void cli_json_number(struct cli_text_buf *buf, const char *name, uint64_t value)
{
    cli_json_name(buf, name);
    cli_addf(buf, "%llu", (unsigned long long)value);
}

void cli_json_real(struct cli_text_buf *buf, const char *name, double value)
{
    cli_json_name(buf, name);
    cli_addf(buf, "%.9g", value);
}

void cli_json_bool(struct cli_text_buf *buf, const char *name, bool value)
{
    cli_json_name(buf, name);
    cli_addf(buf, "%s", value ? "true" : "false");
}

void cli_json_close(struct cli_text_buf *buf)
{
    cli_add(buf, "}", 1);
}

void cli_json_end(struct cli_text_buf *buf)
{
    cli_add(buf, "}\n", 2);
}

/* ---- escapes ------------------------------------------------------------------------------------ */

bool cli_is_control(pst_str text, size_t i)
{
    unsigned char c = (unsigned char)text.ptr[i];
    unsigned char next = i + 1 < text.len ? (unsigned char)text.ptr[i + 1] : 0;
    return c < 0x20 || c == 0x7f || (c == 0xc2 && next >= 0x80 && next < 0xa0);
}

void cli_add_escaped(struct cli_text_buf *buf, pst_str text, bool is_shell)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '\n')
            cli_add(buf, "\\n", 2);
        else if (c == '\t')
            cli_add(buf, "\\t", 2);
        else if (cli_is_control(text, i))
            /* Three octal digits in the shell: \x would swallow a hex digit that follows. */
            cli_addf(buf, is_shell ? "\\%03o" : "\\x%02x", c);
        else if (is_shell && (c == '\'' || c == '\\'))
            cli_addf(buf, "\\%c", c);
        else
            cli_add(buf, text.ptr + i, 1);
    }
}

void cli_add_printable(struct cli_text_buf *buf, pst_str text)
{
    cli_add_escaped(buf, text, false);
}
