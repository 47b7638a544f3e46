#include "net/url.h"

#include <string.h>

#include "util/text.h"

static const char *parse_port(const char *p, const char *end, struct pst_url *out)
{
    uint32_t port = 0;
    if (p == end)
        return "no number after the ':' of the port";
    for (; p < end; p++) {
        if (*p < '0' || *p > '9')
            return "the port is no number";
        port = port * 10 + (uint32_t)(*p - '0');
        if (port > 65535)
            return "the port is above 65535";
    }
    if (port == 0)
        return "the port is 0";
    out->port = (uint16_t)port;
    return NULL;
}

static const char *parse_authority(struct pst_url *out)
{
    const char *p = out->authority.ptr;
    const char *end = p + out->authority.len;
    const char *host_end;
    if (memchr(p, '@', out->authority.len))
        return "user information is not allowed";
    if (p < end && *p == '[') {
        host_end = memchr(p, ']', out->authority.len);
        if (!host_end)
            return "no ']' after the address";
        out->host = pst_str_of(p + 1, (size_t)(host_end - p - 1));
        host_end++;
    } else {
        host_end = memchr(p, ':', out->authority.len);
        if (!host_end)
            host_end = end;
        out->host = pst_str_of(p, (size_t)(host_end - p));
    }
    if (out->host.len == 0)
        return "no host";
    out->port = out->is_https ? 443 : 80;
    if (host_end == end)
        return NULL;
    if (*host_end != ':')
        return "something other than a port after the address";
    return parse_port(host_end + 1, end, out);
}

const char *pst_url_parse(pst_str text, struct pst_url *out)
{
    const char *p = text.ptr;
    const char *end = p + text.len;
    if (text.len >= 8 && pst_text_equals_nocase(p, 8, "https://")) {
        out->is_https = 1;
        p += 8;
    } else if (text.len >= 7 && pst_text_equals_nocase(p, 7, "http://")) {
        out->is_https = 0;
        p += 7;
    } else {
        return "neither http:// nor https://";
    }
    for (const char *c = p; c < end; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f)
            return "a space or control character";
        if (*c == '#')
            return "a fragment";
    }
    const char *start = p;
    while (p < end && *p != '/' && *p != '?')
        p++;
    out->authority = pst_str_of(start, (size_t)(p - start));
    out->target = pst_str_of(p, (size_t)(end - p));
    return parse_authority(out);
}
