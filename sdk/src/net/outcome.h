/* outcome.h - what became of a transfer, in the terms of services.h. */
#ifndef PST_NET_OUTCOME_H
#define PST_NET_OUTCOME_H

#include <curl/curl.h>

#include <penstock/services.h>

#define PST_OUTCOME_TEXT 512

/* What libcurl can tell of a transfer that has ended or is about to be ended. */
struct pst_facts {
    CURLcode code;
    int is_https, has_proxy, has_head;
    int has_no_ca;                         /* no certificates to trust were found anywhere */
    int has_name, has_connection, has_tls; /* each stage that is over */
    int has_sent;                          /* the whole request, as far as we know */
    int sys_errno;
    uint64_t n_sent, n_body;     /* of the request's body */
    uint64_t n_received, length; /* of the reply's body; PST_UNKNOWN */
    uint32_t connect_timeout_ms;
    const char *origin; /* "host:port" */
    const char *detail; /* libcurl's own words, may be empty */
};

/* PST_HTTP_AT_*: how far it had come. */
uint32_t pst_outcome_stage(const struct pst_facts *facts);

/* Is it about certificates, so that the next try would end alike? */
int pst_outcome_is_untrusted(const struct pst_facts *facts);

/* The code of services.h for one of libcurl's. */
pst_rc pst_outcome_rc(const struct pst_facts *facts);

/* One line. `problem`: what we have to say ourselves, else NULL. Returns out. */
const char *pst_outcome_text(const struct pst_facts *facts, uint32_t stage, const char *problem,
                             char out[PST_OUTCOME_TEXT]);

#endif
