/* outcome.c - tells the failures of a transport apart, and puts them into words. Pure.
 *
 * libcurl's codes say what failed, but not always when: a reset is the same code while the request is
 * sent and in the middle of the reply, and so is a timeout. When is what decides whether a request may
 * be repeated, so the stage follows from what was reached, and a code overrules it only where it leaves
 * no doubt.
 *
 * Texts name host and port. They never hold a path, a query (presigned signatures) or a proxy's user
 * and password; libcurl's own words are used for TLS only, where they are about certificates. */
#include "net/outcome.h"

#include <stdio.h>
#include <string.h>

#include "net/settings.h"
#include "util/text.h"

static int is_tls_code(CURLcode code)
{
    switch (code) {
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CLIENTCERT:
    case CURLE_USE_SSL_FAILED:
        return 1;
    default:
        return 0;
    }
}

int pst_outcome_is_untrusted(const struct pst_facts *f)
{
    switch (f->code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return 1;
    default:
        return 0;
    }
}

uint32_t pst_outcome_stage(const struct pst_facts *f)
{
    if (is_tls_code(f->code))
        return PST_HTTP_AT_TLS;
    if (f->code == CURLE_COULDNT_RESOLVE_HOST || f->code == CURLE_COULDNT_RESOLVE_PROXY)
        return PST_HTTP_AT_NAME;
    if (f->code == CURLE_COULDNT_CONNECT || f->code == CURLE_PROXY)
        return PST_HTTP_AT_CONNECT;
    if (f->has_head)
        return PST_HTTP_AT_BODY;
    if (!f->has_name)
        return PST_HTTP_AT_NAME;
    if (!f->has_connection)
        return PST_HTTP_AT_CONNECT;
    if (f->is_https && !f->has_tls)
        return PST_HTTP_AT_TLS;
    return f->has_sent ? PST_HTTP_AT_HEAD : PST_HTTP_AT_SEND;
}

pst_rc pst_outcome_rc(const struct pst_facts *f)
{
    switch (f->code) {
    case CURLE_OK:
        return PST_OK;
    case CURLE_OUT_OF_MEMORY:
        /* libcurl's word for a header line of more than 100 KiB, too. */
        return f->has_sent && !f->has_head ? PST_E_UNAVAILABLE : PST_E_NO_MEMORY;
    case CURLE_URL_MALFORMAT:
        return PST_E_INVALID;
    case CURLE_BAD_FUNCTION_ARGUMENT:
    case CURLE_FAILED_INIT:
    case CURLE_ABORTED_BY_CALLBACK:
        return PST_E_INTERNAL;
    default:
        return PST_E_UNAVAILABLE;
    }
}

static void explain(const struct pst_facts *f, uint32_t stage, char *out, size_t cap)
{
    char buffer[128];
    const char *reason = f->sys_errno ? strerror_r(f->sys_errno, buffer, sizeof(buffer)) : NULL;
    if (f->code == CURLE_OPERATION_TIMEDOUT) {
        static const char *const waiting_for[] = {"", "name", "connection", "TLS handshake"};
        snprintf(out, cap, "no connection within %u ms: waiting for the %s", f->connect_timeout_ms,
                 stage <= PST_HTTP_AT_TLS ? waiting_for[stage] : "proxy");
        return;
    }
    switch (stage) {
    case PST_HTTP_AT_NAME:
        snprintf(out, cap, "cannot resolve the name%s",
                 f->code == CURLE_COULDNT_RESOLVE_PROXY ? " of the proxy" : "");
        break;
    case PST_HTTP_AT_CONNECT:
        snprintf(out, cap, "cannot connect%s: %s", f->has_proxy ? " through the proxy" : "",
                 reason ? reason : curl_easy_strerror(f->code));
        break;
    case PST_HTTP_AT_TLS:
        if (f->has_no_ca && pst_outcome_is_untrusted(f))
            snprintf(out, cap,
                     "TLS failed: no certificates to trust: none are given (ca_file, ca_dir, "
                     "SSL_CERT_FILE, SSL_CERT_DIR), and there is no " PST_CA_DEBIAN ", " PST_CA_RHEL
                     ", " PST_CA_SUSE ", " PST_CA_ALPINE);
        else
            snprintf(out, cap, "TLS failed: %s",
                     *f->detail ? f->detail : curl_easy_strerror(f->code));
        break;
    case PST_HTTP_AT_SEND:
        snprintf(out, cap, "connection lost after %llu of %llu bytes of the request's body%s%s",
                 (unsigned long long)f->n_sent, (unsigned long long)f->n_body, reason ? ": " : "",
                 reason ? reason : "");
        break;
    case PST_HTTP_AT_HEAD:
        if (f->code == CURLE_GOT_NOTHING || f->code == CURLE_RECV_ERROR ||
            f->code == CURLE_SEND_ERROR)
            snprintf(out, cap, "connection lost before the reply%s%s", reason ? ": " : "",
                     reason ? reason : "");
        else
            snprintf(out, cap, "%s",
                     f->code == CURLE_OUT_OF_MEMORY ? "the head of the reply is too long"
                                                    : "no valid reply");
        break;
    default:
        if (f->length != PST_UNKNOWN)
            snprintf(out, cap, "connection lost after %llu of %llu bytes of the body",
                     (unsigned long long)f->n_received, (unsigned long long)f->length);
        else
            snprintf(out, cap, "reply broken off after %llu bytes of the body",
                     (unsigned long long)f->n_received);
        break;
    }
}

static const char *while_at(uint32_t stage)
{
    switch (stage) {
    case PST_HTTP_AT_NAME:
        return "resolving the name";
    case PST_HTTP_AT_CONNECT:
        return "connecting";
    case PST_HTTP_AT_TLS:
        return "in the TLS handshake";
    case PST_HTTP_AT_SEND:
        return "sending the request";
    case PST_HTTP_AT_HEAD:
        return "waiting for the reply";
    case PST_HTTP_AT_BODY:
        return "receiving the body";
    default:
        return "in line";
    }
}

const char *pst_outcome_text(const struct pst_facts *f, uint32_t stage, const char *problem,
                             char out[PST_OUTCOME_TEXT])
{
    char draft[PST_OUTCOME_TEXT];
    int n = snprintf(draft, sizeof(draft), "%s: ", f->origin);
    size_t used = n < 0 ? 0 : (size_t)n < sizeof(draft) ? (size_t)n : sizeof(draft) - 1;
    if (problem)
        snprintf(draft + used, sizeof(draft) - used, "%s (%s)", problem, while_at(stage));
    else
        explain(f, stage, draft + used, sizeof(draft) - used);
    pst_text_escape(draft, strlen(draft), out, PST_OUTCOME_TEXT);
    return out;
}
