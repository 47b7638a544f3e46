/* fault_text.c - growing bytes, lists of named values, and the few encodings that providers use:
 * percent-encoding, queries, and as much of XML as a request body of theirs has (elements without
 * attributes of interest, five entities, numeric references below 256). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fault.h"
#include "kit.h"

void kf_add(struct kf_buf *b, const void *bytes, size_t n)
{
    if (b->len + n + 1 > b->cap) {
        size_t cap = (b->len + n + 1) * 3 / 2 + 64;
        char *grown = (char *)k_alloc(cap);
        if (b->len > 0)
            memcpy(grown, b->data, b->len);
        k_free(b->data);
        b->data = grown;
        b->cap = cap;
    }
    if (n > 0)
        memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = '\0';
}

void kf_add_str(struct kf_buf *b, pst_str s)
{
    kf_add(b, s.ptr, s.len);
}

void kf_addf(struct kf_buf *b, const char *format, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (n > 0)
        kf_add(b, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

void kf_buf_fini(struct kf_buf *b)
{
    k_free(b->data);
    memset(b, 0, sizeof(*b));
}

pst_str kf_view(const struct kf_buf *b)
{
    return pst_str_of(b->data ? b->data : "", b->len);
}

pst_str kf_str(const char *text)
{
    return pst_str_of(text ? text : "", text ? strlen(text) : 0);
}

pst_str kf_copy(pst_str s)
{
    char *copy = (char *)k_alloc(s.len + 1);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    return pst_str_of(copy, s.len);
}

bool kf_is(pst_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

/* ---- named values ------------------------------------------------------------------------------ */

static void free_str(pst_str s)
{
    char *memory = NULL;
    memcpy(&memory, &s.ptr, sizeof(memory));
    k_free(memory);
}

void kf_append(struct kf_fields *f, pst_str name, pst_str value)
{
    if (f->n == f->cap) {
        size_t cap = f->cap * 2 + 8;
        pst_kv *grown = (pst_kv *)(void *)k_alloc(cap * sizeof(*grown));
        if (f->n > 0)
            memcpy(grown, f->all, f->n * sizeof(*grown));
        k_free(f->all);
        f->all = grown;
        f->cap = cap;
    }
    f->all[f->n].key = kf_copy(name);
    f->all[f->n].value = kf_copy(value);
    f->n++;
}

static pst_kv *find(const struct kf_fields *f, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < f->n; i++)
        if (f->all[i].key.len == len && strncasecmp(f->all[i].key.ptr, name, len) == 0)
            return &f->all[i];
    return NULL;
}

void kf_set(struct kf_fields *f, const char *name, pst_str value)
{
    pst_kv *kv = find(f, name);
    if (kv && value.len > 0) {
        pst_str copy = kf_copy(value);
        free_str(kv->value);
        kv->value = copy;
    } else if (kv) {
        free_str(kv->key);
        free_str(kv->value);
        f->n--;
        memmove(kv, kv + 1, (size_t)(f->all + f->n - kv) * sizeof(*kv));
    } else if (value.len > 0) {
        kf_append(f, kf_str(name), value);
    }
}

void kf_setf(struct kf_fields *f, const char *name, const char *format, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    kf_set(f, name, kf_str(text));
}

pst_str kf_get(const struct kf_fields *f, const char *name)
{
    const pst_kv *kv = find(f, name);
    return kv ? kv->value : pst_str_of("", 0);
}

bool kf_has(const struct kf_fields *f, const char *name)
{
    return find(f, name) != NULL;
}

void kf_fields_fini(struct kf_fields *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free_str(f->all[i].key);
        free_str(f->all[i].value);
    }
    k_free(f->all);
    memset(f, 0, sizeof(*f));
}

/* ---- encodings --------------------------------------------------------------------------------- */

bool kf_glob(const char *pattern, pst_str text)
{
    size_t at = 0, star_at = 0;
    const char *star = NULL;
    while (at < text.len) {
        if (*pattern == '*') {
            star = ++pattern;
            star_at = at;
        } else if (*pattern == text.ptr[at]) {
            pattern++;
            at++;
        } else if (star) {
            pattern = star;
            at = ++star_at;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

uint64_t kf_number(pst_str text, uint64_t otherwise)
{
    uint64_t value = 0;
    if (text.len == 0 || text.len > 19)
        return otherwise;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return otherwise;
        value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    return value;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void kf_unescape_url(pst_str text, bool plus_is_space, struct kf_buf *out)
{
    kf_add(out, "", 0);
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%' && i + 2 < text.len && hex_digit(text.ptr[i + 1]) >= 0 &&
            hex_digit(text.ptr[i + 2]) >= 0) {
            c = (char)(hex_digit(text.ptr[i + 1]) * 16 + hex_digit(text.ptr[i + 2]));
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        kf_add(out, &c, 1);
    }
}

void kf_escape_url(pst_str text, const char *keep, struct kf_buf *out)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c && (strchr(plain, c) || strchr(keep, c)))
            kf_add(out, &c, 1);
        else
            kf_addf(out, "%%%02X", (unsigned)(unsigned char)c);
    }
}

void kf_parse_query(pst_str query, struct kf_fields *out)
{
    size_t at = 0;
    while (at < query.len) {
        const char *start = query.ptr + at;
        const char *end = memchr(start, '&', query.len - at);
        size_t len = end ? (size_t)(end - start) : query.len - at;
        const char *equals = memchr(start, '=', len);
        size_t name_len = equals ? (size_t)(equals - start) : len;
        struct kf_buf name = {0}, value = {0};
        kf_unescape_url(pst_str_of(start, name_len), true, &name);
        kf_unescape_url(pst_str_of(equals ? equals + 1 : start, equals ? len - name_len - 1 : 0),
                        true, &value);
        if (name.len > 0)
            kf_append(out, kf_view(&name), kf_view(&value));
        kf_buf_fini(&name);
        kf_buf_fini(&value);
        at += len + 1;
    }
}

static size_t find_bytes(pst_str text, size_t from, const char *what)
{
    const char *at = from < text.len ? memmem(text.ptr + from, text.len - from, what, strlen(what))
                                     : NULL;
    return at ? (size_t)(at - text.ptr) : SIZE_MAX;
}

bool kf_xml_next(pst_str xml, const char *element, size_t *at, pst_str *inner)
{
    char open[80], close[80];
    (void)snprintf(open, sizeof(open), "<%s>", element);
    (void)snprintf(close, sizeof(close), "</%s>", element);
    size_t start = find_bytes(xml, *at, open);
    if (start == SIZE_MAX)
        return false;
    start += strlen(open);
    size_t end = find_bytes(xml, start, close);
    if (end == SIZE_MAX)
        return false;
    *inner = pst_str_of(xml.ptr + start, end - start);
    *at = end + strlen(close);
    return true;
}

static void unescape_xml(pst_str text, struct kf_buf *out)
{
    static const struct {
        const char *name;
        char c;
    } entities[] = {
        {"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};
    for (size_t i = 0; i < text.len;) {
        size_t used = 0;
        char c = text.ptr[i];
        for (size_t k = 0; c == '&' && k < sizeof(entities) / sizeof(entities[0]); k++) {
            size_t len = strlen(entities[k].name);
            if (text.len - i >= len && memcmp(text.ptr + i, entities[k].name, len) == 0) {
                kf_add(out, &entities[k].c, 1);
                used = len;
            }
        }
        if (used == 0 && c == '&' && i + 2 < text.len && text.ptr[i + 1] == '#') {
            bool is_hex = text.ptr[i + 2] == 'x';
            char *end = NULL;
            unsigned long value = strtoul(text.ptr + i + 2 + is_hex, &end, is_hex ? 16 : 10);
            if (end && *end == ';' && value < 256) {
                char byte = (char)value;
                kf_add(out, &byte, 1);
                used = (size_t)(end + 1 - (text.ptr + i));
            }
        }
        if (used == 0) {
            kf_add(out, &c, 1);
            used = 1;
        }
        i += used;
    }
}

pst_str kf_xml_text(pst_str xml, const char *element, struct kf_buf *out)
{
    size_t at = 0;
    pst_str inner = xml;
    out->len = 0;
    kf_add(out, "", 0);
    if (element[0] == '\0' || kf_xml_next(xml, element, &at, &inner))
        unescape_xml(inner, out);
    return kf_view(out);
}
