/* services.h - what a host offers a plugin beyond plugin.h: HTTP, cryptography, credentials.
 *
 * A service is a table, fetched by name with host->service(host, "http/1") and good for as long as the
 * host is. NULL: this host has none of that name; a plugin that cannot do without it fails store_open
 * with UNIMPLEMENTED and names it. Tables grow at their end: look with PST_HAS at what came after 1.0.
 * Every function may be called from any thread, and blocks for nothing but short locks unless it says
 * otherwise. */
#ifndef PENSTOCK_SERVICES_H
#define PENSTOCK_SERVICES_H

#include <penstock/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- http/1: HTTP/1.1 requests over pooled connections ------------------------------------------
 *
 * One request, one reply: http/1 does not retry, redirect or authenticate, and it hides interim (1xx)
 * and proxy replies. A kept-alive connection that turns out to be closed before a byte of the reply
 * came is the one exception: the request is sent again over another.
 * Callbacks run on a thread of the service, one at a time for a request; they must not block, and may
 * call anything of the host and of http/1. None runs inside send; on another thread they may, done
 * included, before the caller of send goes on: all that they need is in place before the call, and what
 * done ends is not touched after it. */

typedef struct pst_http_client pst_http_client; /* settings, caps and figures of one store */

#define PST_HTTP_NO_PROXY 1u     /* metadata services: never by way of a proxy */
#define PST_HTTP_LIBCURL 2u      /* by libcurl from end to end, without http/1's own way */
typedef struct pst_http_config { /* strings are copied; empty: the default */
    uint32_t struct_size, flags;
    pst_str user_agent;              /* "s3/1.0.0"; what names the host is put before it */
    pst_str ca_file, ca_dir;         /* PEM; else SSL_CERT_FILE, SSL_CERT_DIR, else the system's */
    pst_str client_cert, client_key; /* PEM files */
    pst_str proxy, no_proxy;         /* else http_proxy, https_proxy, all_proxy, no_proxy */
    pst_str unix_socket;             /* connect to this path instead of the URL's address */
    uint32_t connect_timeout_ms;     /* name, TCP and TLS together; 0: 10,000 */
    uint32_t stall_timeout_ms;       /* no byte in either direction for so long; 0: 30,000 */
    uint32_t max_connections;        /* to one origin; 0: 256 */
    uint32_t reserved0;
} pst_http_config;

/* The status line and header fields of the final reply. Strings are good during the callback. */
typedef struct pst_http_head {
    uint32_t struct_size, status;
    const pst_kv *headers; /* in order of arrival, names in lower case, values trimmed */
    size_t n_headers;
    uint64_t content_length; /* PST_UNKNOWN: chunked, or up to the close */
    uint64_t n_taken;        /* 0 at first; else: this is about more memory, so much is full */
} pst_http_head;

/* What accept answers; a negative code ends the request with that code. */
#define PST_HTTP_TAKE 1         /* the body goes to grant->dst */
#define PST_HTTP_COLLECT 2      /* ... to memory of the service, at most body_max: else DATA_LOSS */
#define PST_HTTP_REJECT 3       /* ... so do its first 64 KiB, as text for an error; no more */
#define PST_HTTP_PAUSE 4        /* no memory yet: receive nothing, and ask again after resume */
typedef struct pst_http_grant { /* for accept to fill */
    uint32_t struct_size, flags;
    const pst_iov *dst; /* spans of one memory area each; they and the array are good until done */
    size_t n_dst;
} pst_http_grant;

#define PST_HTTP_REUSED 1u      /* over a connection that had served before */
#define PST_HTTP_MAY_BE_SENT 2u /* the whole request may have reached the server */
#define PST_HTTP_CUT 4u         /* the rejected body was longer than `body` */
#define PST_HTTP_UNTRUSTED 8u   /* AT_TLS: a certificate is wrong, here or there; no repeat helps */

/* Where a transport failed, in the order of a request's life. */
#define PST_HTTP_AT_NAME 1u
#define PST_HTTP_AT_CONNECT 2u
#define PST_HTTP_AT_TLS 3u
#define PST_HTTP_AT_SEND 4u
#define PST_HTTP_AT_HEAD 5u /* sent, and no complete head has come */
#define PST_HTTP_AT_BODY 6u
typedef struct pst_http_reply { /* good during done */
    uint32_t struct_size, flags;
    uint32_t status;    /* 0: no head came */
    uint32_t failed_at; /* PST_HTTP_AT_*, 0 where nothing failed */
    const pst_kv *headers;
    size_t n_headers;
    pst_str body;           /* collected or rejected */
    uint64_t n_taken;       /* bytes put into dst */
    uint64_t n_sent;        /* of the request's body */
    uint64_t first_byte_ns; /* CLOCK_MONOTONIC; 0: none came */
    const char *peer;       /* "127.0.0.1:9000", "" if not connected */
    const char *message; /* why the transport failed: one line that names host and port; else "" */
    uint32_t has_crc32c, crc32c; /* with PST_HTTP_CRC32C: of the bytes taken, host byte order */
} pst_http_reply;

#define PST_HTTP_CRC32C 1u        /* sum what is taken, block by block while it is in cache */
#define PST_HTTP_NO_REUSE 2u      /* over a connection of its own, closed afterwards */
typedef struct pst_http_request { /* all but the memory of body and dst is copied by send */
    uint32_t struct_size, flags;
    pst_op *op;            /* what it is for, NULL allowed; named in logs */
    void *ctx;             /* of accept and done */
    pst_str method, url;   /* "GET"; absolute, percent-encoded, sent byte by byte as it is */
    const pst_kv *headers; /* host, content-length and connection are the service's to add; a header
                            * "host" given here replaces it */
    size_t n_headers;
    const pst_iov *body; /* the spans' memory is read until done */
    size_t n_body;
    uint64_t body_max;      /* ceiling of a collected body */
    uint64_t deadline_ns;   /* CLOCK_MONOTONIC, 0: none */
    uint64_t not_before_ns; /* leave it in line until then; 0: at once */
    /* NULL: COLLECT for status 200 to 299, else REJECT. Once for a reply; again after a PAUSE that was
     * resumed, and again, with n_taken, when a grant is full and the body goes on. */
    int32_t (*accept)(void *ctx, const pst_http_head *head, pst_http_grant *grant);
    /* Exactly once for each send that answered PENDING. rc: PST_OK for a complete reply of whatever
     * status; UNAVAILABLE (name, connect, TLS, cut, stall: see failed_at), DEADLINE, CANCELLED,
     * DATA_LOSS (a longer body than memory was granted for, or than body_max), or what accept answered. */
    void (*done)(void *ctx, pst_rc rc, const pst_http_reply *reply);
} pst_http_request;

typedef struct pst_http_stats { /* of one client since it was made */
    uint32_t struct_size, n_open;
    uint64_t requests, opened, reused;    /* connections */
    uint64_t name_ns, connect_ns, tls_ns; /* sums over the connections opened */
    uint64_t bytes_sent, bytes_received;  /* bodies */
} pst_http_stats;

typedef struct pst_http_1 {
    uint32_t struct_size, reserved0;
    /* No I/O. Errors: INVALID for a setting, NO_MEMORY. */
    pst_rc (*client_new)(const pst_host *, const pst_http_config *, pst_http_client **,
                         pst_error *);
    /* With no request outstanding. */
    void (*client_free)(pst_http_client *);
    /* PENDING: *id was written first, and done will come. INVALID (malformed URL or header), NO_MEMORY:
     * nothing will. Beyond the caps requests wait in order; there is no BUSY. */
    pst_rc (*send)(pst_http_client *, const pst_http_request *, uint64_t *id);
    /* End it soon: done still comes, within 500 ms. Unknown ids are no error. */
    void (*cancel)(pst_http_client *, uint64_t id);
    void (*resume)(pst_http_client *, uint64_t id);
    void (*stats)(pst_http_client *, pst_http_stats *);
} pst_http_1;

/* ---- crypto/1: what signing needs ---------------------------------------------------------------- */

#define PST_DIGEST_SHA256 1u /* 32 bytes */
#define PST_DIGEST_SHA1 2u   /* 20 bytes: names of cache files, nothing else */
#define PST_DIGEST_MD5 3u    /* 16 bytes: Content-MD5 */
#define PST_SIGN_RS256 1u    /* RSASSA-PKCS1-v1_5 with SHA-256 */
#define PST_SIGN_ES256 2u    /* ECDSA on P-256 with SHA-256; r and s, 32 bytes each */
typedef struct pst_crypto_1 {
    uint32_t struct_size, reserved0;
    pst_rc (*digest)(const pst_host *, uint32_t algorithm, const pst_iov *data, size_t n,
                     uint8_t *out);
    pst_rc (*hmac_sha256)(const pst_host *, const void *key, size_t key_len, const void *data,
                          size_t len, uint8_t out[32]);
    /* key: PEM, PKCS#8 or the older forms, not encrypted. *len: capacity in, length out.
     * Errors: INVALID naming what is wrong with the key; never a part of it. */
    pst_rc (*sign)(const pst_host *, uint32_t scheme, pst_str key, const void *data,
                   size_t data_len, uint8_t *out, size_t *len, pst_error *);
    pst_rc (*random)(const pst_host *, void *out, size_t len);
} pst_crypto_1;

/* ---- cred/1: credentials that the application supplies --------------------------------------------
 *
 * There only where the application registered a callback (pst_context_options.credentials). */

typedef struct pst_credentials {
    uint32_t struct_size, reserved0;
    const pst_kv *kv; /* named by the backend's documentation; in memory of the operation */
    size_t n_kv;
    int64_t expires_unix_ns; /* PST_TIME_UNKNOWN: never */
    uint64_t generation;     /* counts the answers of the application, from 1 */
} pst_credentials;

typedef struct pst_cred_1 {
    uint32_t struct_size, reserved0;
    /* Credentials for the store `op` belongs to. `refused`: 0, or the generation that the provider has
     * just refused; the application is asked once for each. OK: *out is filled, fn will not run.
     * PENDING: fn runs exactly once, on a thread of the host, after this has returned, and `op` must be
     * PENDING until then. Else an error. The application is asked by one thread for all, and again
     * before what it gave expires. Any thread, several for one `op` too, also beside op_alloc. */
    pst_rc (*get)(const pst_host *, pst_op *op, uint64_t refused, pst_credentials *out,
                  void (*fn)(void *ctx, pst_rc, const pst_credentials *, const pst_error *),
                  void *ctx);
} pst_cred_1;

#ifdef __cplusplus
}
#endif
#endif
