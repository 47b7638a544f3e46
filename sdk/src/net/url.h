/* url.h - takes an absolute URL apart without changing a byte of it. Pure. */
#ifndef PST_NET_URL_H
#define PST_NET_URL_H

#include <stdint.h>

#include <penstock/base.h>

struct pst_url {
    int is_https;
    pst_str authority; /* "host" or "host:port", the host perhaps in brackets */
    pst_str host;      /* without the brackets */
    uint16_t port;
    pst_str target; /* from the '/' or '?' on, may be empty */
};

/* Returns NULL, or what is wrong: not http or https, user information, no host, a bad port, a
 * fragment, a byte that a URL cannot have. */
const char *pst_url_parse(pst_str text, struct pst_url *out);

#endif
