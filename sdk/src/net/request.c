/* request.c - checks a request and copies it: the transfer and all its strings, headers and spans in
 * one block of memory.
 *
 * The headers become a list as libcurl reads it. libcurl has a language of its own there: "Name;" sends
 * an empty value, "Name:" takes away a header that libcurl would add by itself. */
#include "net/net.h"

#include <stdlib.h>
#include <string.h>

#include "util/text.h"
#include "util/wipe.h"

/* Of a header's name, RFC 9110, 5.6.2. */
static int is_token(pst_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        const unsigned char c = (unsigned char)s.ptr[i];
        if (c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c))
            return 0;
    }
    return s.len > 0;
}

static int is_value(pst_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        const unsigned char c = (unsigned char)s.ptr[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return 0;
    }
    return 1;
}

static int is_blank(pst_str s)
{
    size_t n = 0;
    while (n < s.len && (s.ptr[n] == ' ' || s.ptr[n] == '\t'))
        n++;
    return n == s.len;
}

static int name_is(const pst_kv *header, const char *name)
{
    return pst_text_equals_nocase(header->key.ptr, header->key.len, name);
}

static int is_method(pst_str method, const char *word)
{
    return method.len == strlen(word) && memcmp(method.ptr, word, method.len) == 0;
}

/* What a request's headers say about those that libcurl would add. */
struct given {
    int accept, content_type, expect;
};

static int check_headers(const pst_http_request *r, struct given *given, size_t *n_bytes)
{
    for (size_t i = 0; i < r->n_headers; i++) {
        const pst_kv *h = &r->headers[i];
        if (!is_token(h->key) || !is_value(h->value) || name_is(h, "content-length") ||
            name_is(h, "connection") || name_is(h, "transfer-encoding"))
            return 0;
        given->accept |= name_is(h, "accept");
        given->content_type |= name_is(h, "content-type");
        given->expect |= name_is(h, "expect");
        *n_bytes += h->key.len + h->value.len + 3;
    }
    return 1;
}

/* A block that is handed out from its start. */
struct block {
    char *at;
};

static char *put_str(struct block *b, pst_str s)
{
    char *start = b->at;
    if (s.len > 0)
        memcpy(start, s.ptr, s.len);
    start[s.len] = '\0';
    b->at += s.len + 1;
    return start;
}

static char *put_header(struct block *b, const pst_kv *header)
{
    char *start = b->at;
    memcpy(start, header->key.ptr, header->key.len);
    char *p = start + header->key.len;
    if (!is_blank(header->value)) {
        *p++ = ':';
        *p++ = ' ';
        memcpy(p, header->value.ptr, header->value.len);
        p += header->value.len;
    } else {
        *p++ = ';';
    }
    *p++ = '\0';
    b->at = p;
    return start;
}

static struct curl_slist *add_node(struct pst_transfer *t, struct curl_slist *node,
                                   struct curl_slist **last, char *data)
{
    node->data = data;
    node->next = NULL;
    if (*last)
        (*last)->next = node;
    else
        t->headers = node;
    *last = node;
    return node + 1;
}

/* Never written to; libcurl's list is not const. */
static char no_accept[] = "Accept:";
static char no_content_type[] = "Content-Type:";
static char no_expect[] = "Expect:";

static void fill(struct pst_transfer *t, const pst_http_request *r, const struct given *given)
{
    struct curl_slist *node = (struct curl_slist *)(t + 1);
    struct curl_slist *last = NULL;
    pst_iov *spans = (pst_iov *)(node + r->n_headers + 3);
    struct block b = {.at = (char *)(spans + r->n_body)};
    for (size_t i = 0; i < r->n_headers; i++)
        node = add_node(t, node, &last, put_header(&b, &r->headers[i]));
    if (!given->accept)
        node = add_node(t, node, &last, no_accept);
    if (!given->content_type && !is_method(r->method, "GET"))
        node = add_node(t, node, &last, no_content_type);
    if (t->body_bytes > 0 && !given->expect) {
        t->expect = last ? &last->next : &t->headers;
        add_node(t, node, &last, no_expect);
    }
    for (size_t i = 0; i < r->n_body; i++) {
        if (r->body[i].len > 0)
            spans[t->n_body++] = r->body[i];
    }
    t->body = spans;
    t->method = put_str(&b, r->method);
    const char *url = put_str(&b, r->url);
    /* The parts move with the copy. */
    t->url.authority.ptr = url + (t->url.authority.ptr - r->url.ptr);
    t->url.host.ptr = url + (t->url.host.ptr - r->url.ptr);
    t->url.target.ptr = url + (t->url.target.ptr - r->url.ptr);
    t->whole_url = url;
    t->target = t->url.target.ptr;
    if (t->url.target.len == 0 || *t->target != '/') {
        char *target = b.at;
        *target = '/';
        memcpy(target + 1, t->url.target.ptr, t->url.target.len + 1);
        t->target = target;
    }
}

pst_rc pst_transfer_new(struct pst_http_client *client, const pst_http_request *r,
                        struct pst_transfer **out)
{
    struct pst_url url;
    struct given given = {0, 0, 0};
    size_t n_bytes = 0;
    uint64_t body_bytes = 0;
    if (!PST_HAS(pst_http_request, r, done) || !r->done || pst_url_parse(r->url, &url) ||
        !is_token(r->method) || r->method.len > PST_METHOD_MAX ||
        !check_headers(r, &given, &n_bytes))
        return PST_E_INVALID;
    for (size_t i = 0; i < r->n_body; i++)
        body_bytes += r->body[i].len;
    if (body_bytes > INT64_MAX || (body_bytes > 0 && is_method(r->method, "HEAD")))
        return PST_E_INVALID;
    n_bytes += r->method.len + r->url.len + url.target.len + 8;
    n_bytes += sizeof(struct pst_transfer) + (r->n_headers + 3) * sizeof(struct curl_slist) +
               r->n_body * sizeof(pst_iov);
    struct pst_transfer *t = malloc(n_bytes);
    if (!t)
        return PST_E_NO_MEMORY;
    memset(t, 0, sizeof(*t));
    t->n_bytes = n_bytes;
    t->client = client;
    t->url = url;
    t->flags = r->flags;
    t->op_id = r->op ? r->op->id : 0;
    t->body_bytes = body_bytes;
    t->body_max = r->body_max;
    t->deadline_ns = r->deadline_ns;
    t->not_before_ns = r->not_before_ns;
    t->accept = r->accept;
    t->done = r->done;
    t->ctx = r->ctx;
    fill(t, r, &given);
    *out = t;
    return PST_OK;
}

void pst_transfer_free(struct pst_transfer *t)
{
    pst_dynbuf_fini(&t->collected);
    pst_wipe_free(t, t->n_bytes); /* signatures, tokens and keys are in its headers and its URL */
}
