/* fault_template.c - the little language in which a declaration writes headers and bodies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fault.h"
#include "kit.h"

static void add_xml(pst_str text, struct kf_buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '&')
            kf_addf(out, "&amp;");
        else if (c == '<')
            kf_addf(out, "&lt;");
        else if (c == '>')
            kf_addf(out, "&gt;");
        else if (c == '"')
            kf_addf(out, "&quot;");
        else if (c < 0x20)
            kf_addf(out, "&#%u;", c);
        else
            kf_add(out, &text.ptr[i], 1);
    }
}

static void add_json(pst_str text, struct kf_buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < 0x20)
            kf_addf(out, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            kf_addf(out, "\\%c", c);
        else
            kf_add(out, &text.ptr[i], 1);
    }
}

/* {time:+60}: UTC a minute from now as providers write it in bodies; {http:0} as in headers. */
static void add_time(const char *offset, bool is_http, struct kf_buf *out)
{
    time_t when = time(NULL) + (time_t)strtol(offset, NULL, 10);
    struct tm tm;
    char text[64];
    (void)gmtime_r(&when, &tm);
    (void)strftime(text, sizeof(text), is_http ? "%a, %d %b %Y %H:%M:%S GMT" : "%Y-%m-%dT%H:%M:%SZ",
                   &tm);
    kf_addf(out, "%s", text);
}

static pst_str look_up(const struct kf_scope *scope, const char *name)
{
    if (strncmp(name, "header:", 7) == 0)
        return kf_get(&scope->request->headers, name + 7);
    if (strncmp(name, "query:", 6) == 0)
        return kf_get(&scope->request->query, name + 6);
    return kf_get(scope->vars, name);
}

static void add_value(const char *inside, const struct kf_scope *scope, struct kf_buf *out)
{
    char name[128];
    (void)snprintf(name, sizeof(name), "%s", inside);
    char *filter = strchr(name, '|');
    if (filter)
        *filter++ = '\0';
    if (strncmp(name, "time:", 5) == 0 || strncmp(name, "http:", 5) == 0) {
        add_time(name + 5, name[0] == 'h', out);
        return;
    }
    pst_str value = look_up(scope, name);
    if (filter && strcmp(filter, "xml") == 0)
        add_xml(value, out);
    else if (filter && strcmp(filter, "json") == 0)
        add_json(value, out);
    else if (filter && strcmp(filter, "url") == 0)
        kf_escape_url(value, "", out);
    else if (filter && strcmp(filter, "path") == 0)
        kf_escape_url(value, "/", out);
    else
        kf_add_str(out, value);
}

void kf_expand(const char *template, const struct kf_scope *scope, struct kf_buf *out)
{
    kf_add(out, "", 0);
    for (const char *p = template; *p;) {
        const char *end = NULL;
        if (p[0] == '{' && p[1] == '{') {
            kf_add(out, p, 1);
            p += 2;
            continue;
        }
        if (p[0] == '{' && (p[1] == '?' || p[1] == '/' || (p[1] >= 'a' && p[1] <= 'z')))
            end = strchr(p, '}');
        if (!end || end - p > 100) {
            kf_add(out, p++, 1);
            continue;
        }
        char inside[128];
        (void)snprintf(inside, sizeof(inside), "%.*s", (int)(end - p - 1), p + 1);
        p = end + 1;
        if (inside[0] == '?' && look_up(scope, inside + 1).len == 0) {
            const char *close = strstr(p, "{/}");
            p = close ? close + 3 : p + strlen(p);
        } else if (inside[0] != '?' && inside[0] != '/') {
            add_value(inside, scope, out);
        }
    }
}
