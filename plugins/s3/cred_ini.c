/* cred_ini.c - the format of AWS's configuration files.
 *
 * There is no grammar of it but the common behaviour of AWS's own tools: "[section]" lines, "key =
 * value" lines, comments behind # or ; at the start of a line or after a space, and indented lines that
 * continue the setting above them ("s3 =" with its own settings below). Here every question reads the
 * text again from the start: files have a few dozen lines, nothing is copied, and what is a secret
 * stays in one place that its owner wipes.
 *
 * What is refused, by number of line: a section without its closing bracket, a line that is neither a
 * comment nor has '=', a setting before the first section, a NUL byte. Not interpreted: continuation
 * lines, of which no setting of credentials is made. */
#include "cred_ini.h"

#include <string.h>

struct reader {
    const char *at, *end;
    uint32_t line;
    pst_str section; /* without brackets, trimmed; ptr NULL before the first */
};

enum item { ITEM_END, ITEM_SECTION, ITEM_SETTING, ITEM_NOTHING, ITEM_BAD };

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static pst_str trim(const char *from, const char *to)
{
    while (from < to && is_blank(*from))
        from++;
    while (to > from && is_blank(to[-1]))
        to--;
    return pst_str_of(from, (size_t)(to - from));
}

/* Where a comment begins that has something before it: at the first # or ; behind a blank. */
static const char *find_comment(const char *from, const char *to)
{
    for (const char *p = from; p < to; p++) {
        if ((*p == '#' || *p == ';') && p > from && is_blank(p[-1]))
            return p;
    }
    return to;
}

static void start(struct reader *r, pst_str text)
{
    memset(r, 0, sizeof(*r));
    r->at = text.len > 0 ? text.ptr : "";
    r->end = r->at + text.len;
    if (text.len >= 3 && memcmp(text.ptr, "\xef\xbb\xbf", 3) == 0)
        r->at += 3;
}

static enum item next(struct reader *r, pst_str *key, pst_str *value, const char **what)
{
    if (r->at >= r->end)
        return ITEM_END;
    const char *from = r->at;
    const char *newline = memchr(from, '\n', (size_t)(r->end - from));
    const char *to = newline ? newline : r->end;
    r->at = newline ? newline + 1 : r->end;
    r->line++;

    if (memchr(from, '\0', (size_t)(to - from))) {
        *what = "there is a NUL byte";
        return ITEM_BAD;
    }
    const pst_str all = trim(from, to);
    if (all.len == 0 || all.ptr[0] == '#' || all.ptr[0] == ';' || is_blank(*from))
        return ITEM_NOTHING;
    if (*from == '[') {
        const char *close = memchr(from, ']', (size_t)(to - from));
        if (!close) {
            *what = "the section has no closing bracket";
            return ITEM_BAD;
        }
        r->section = trim(from + 1, close);
        return ITEM_SECTION;
    }
    const char *equals = memchr(from, '=', (size_t)(to - from));
    if (!equals || equals == from) {
        *what = equals ? "there is nothing before '='" : "there is no '='";
        return ITEM_BAD;
    }
    if (!r->section.ptr) {
        *what = "there is a setting before the first section";
        return ITEM_BAD;
    }
    *key = trim(from, equals);
    *value = trim(equals + 1, find_comment(equals + 1, to));
    return ITEM_SETTING;
}

uint32_t s3_ini_check(pst_str text, const char **what)
{
    struct reader r;
    pst_str key, value;
    enum item item;

    start(&r, text);
    while ((item = next(&r, &key, &value, what)) != ITEM_END) {
        if (item == ITEM_BAD)
            return r.line;
    }
    return 0;
}

static int is_name(pst_str text, pst_str name)
{
    if (text.len >= 2 && (text.ptr[0] == '"' || text.ptr[0] == '\'') &&
        text.ptr[text.len - 1] == text.ptr[0])
        text = pst_str_of(text.ptr + 1, text.len - 2);
    return text.len == name.len && (name.len == 0 || memcmp(text.ptr, name.ptr, name.len) == 0);
}

static int is_section(const struct reader *r, const char *kind, pst_str name)
{
    if (!r->section.ptr)
        return 0;
    if (!kind)
        return is_name(r->section, name);
    const size_t n = strlen(kind);
    if (r->section.len <= n || memcmp(r->section.ptr, kind, n) != 0 || !is_blank(r->section.ptr[n]))
        return 0;
    return is_name(trim(r->section.ptr + n, r->section.ptr + r->section.len), name);
}

/* Not strncasecmp: that follows the application's locale. */
static int is_key(pst_str text, const char *key)
{
    size_t i;

    for (i = 0; i < text.len && key[i]; i++) {
        const char c = text.ptr[i];
        if ((c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c) != key[i])
            return 0;
    }
    return i == text.len && key[i] == '\0';
}

int s3_ini_has(pst_str text, const char *kind, pst_str name)
{
    struct reader r;
    pst_str key, value;
    const char *what;
    enum item item;

    start(&r, text);
    while ((item = next(&r, &key, &value, &what)) != ITEM_END) {
        if (item == ITEM_SECTION && is_section(&r, kind, name))
            return 1;
    }
    return 0;
}

int s3_ini_get(pst_str text, const char *kind, pst_str name, const char *key, pst_str *value)
{
    struct reader r;
    pst_str found_key, found;
    const char *what;
    enum item item;
    int is_found = 0;

    start(&r, text);
    while ((item = next(&r, &found_key, &found, &what)) != ITEM_END) {
        if (item == ITEM_SETTING && is_section(&r, kind, name) && is_key(found_key, key)) {
            *value = found;
            is_found = found.len > 0;
        }
    }
    return is_found;
}
