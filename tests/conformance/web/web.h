/* web.h - what the files of the web plugin share. */
#ifndef PST_TESTS_WEB_H
#define PST_TESTS_WEB_H

#include <penstock/services.h>

#define REQUEST_BYTES 8192u

struct pst_backend {
    const pst_host *host;
    const pst_http_1 *http;
    pst_http_client *client;
    char base[512]; /* "http://127.0.0.1:4711/store" */
};

enum kind { READ, STAT, PUT, REMOVE, LIST };

struct job {
    pst_backend *b;
    pst_op *op;
    enum kind kind;
    const void *args;
    void *result;
    uint64_t id;                  /* http/1's, there before the request can end */
    uint64_t first, length, size; /* of the reply to a read */
    uint32_t etag_len;
    char etag[128], *text; /* text: REQUEST_BYTES for URL and headers */
};

pst_rc web_fail(pst_op *op, pst_rc rc, uint32_t flags, const char *message);

/* http/1's callbacks: they turn the reply into the operation's result and complete it. */
int32_t web_accept(void *ctx, const pst_http_head *head, pst_http_grant *grant);
void web_done(void *ctx, pst_rc rc, const pst_http_reply *reply);

uint64_t web_number(pst_str digits);

#endif
