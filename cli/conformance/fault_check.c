/* fault_check.c - what must hold of an operation that met a fault, whatever the fault was. */
#include <stdio.h>
#include <string.h>

#include "kit_fault.h"

static const char *list_codes(const pst_rc *codes)
{
    static _Thread_local char text[200];
    size_t used = 0;
    for (size_t i = 0; codes[i] != 0 && used < sizeof(text); i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i > 0 ? " or " : "",
                                 k_rc_name(codes[i]));
    return text;
}

static bool is_among(pst_rc rc, const pst_rc *codes)
{
    for (size_t i = 0; codes[i] != 0; i++)
        if (codes[i] == rc)
            return true;
    return false;
}

static void check_flag(struct k_call *c, const char *what, const char *name, uint32_t flag,
                       bool is_wanted)
{
    bool is_set = (c->error.flags & flag) != 0;
    k_that(c->host->test, is_set == is_wanted, "expected %s %s from %s (%s), got %s",
           is_wanted ? "the flag" : "no", name, what, k_rc_name(c->rc),
           is_set ? "it set" : "it not set");
}

bool k_want_failure(struct k_call *c, const char *what, uint32_t marks, const pst_rc *codes)
{
    struct k_test *t = c->host->test;
    const pst_error *e = &c->error;
    if (c->hung)
        return false;
    if (!k_that(t, is_among(c->rc, codes), "expected %s from %s, got %s: %s", list_codes(codes),
                what, k_rc_name(c->rc), e->message))
        return false;
    k_that(t, e->code == c->rc && e->message[0],
           "expected the error of %s to have its code and a message, got %s and \"%s\"", what,
           k_rc_name(e->code), e->message);
    if (marks & (K_RETRY | K_NO_RETRY))
        check_flag(c, what, "RETRYABLE", PST_ERR_RETRYABLE, (marks & K_RETRY) != 0);
    if (marks & (K_MAYBE | K_NO_MAYBE))
        check_flag(c, what, "MAYBE_APPLIED", PST_ERR_MAYBE_APPLIED, (marks & K_MAYBE) != 0);
    if (marks & K_FROM_REPLY)
        k_that(t, e->http_status >= 200 && e->request_id[0],
               "expected http_status and request_id of the reply in the error of %s, got %d and "
               "\"%s\"",
               what, e->http_status, e->request_id);
    if (marks & K_PROVIDER)
        k_that(t, e->provider_code[0], "expected provider_code in the error of %s, got none", what);
    if (marks & K_ENDPOINT)
        k_that(t, strstr(e->endpoint, t->fault_address) || strstr(e->message, t->fault_address),
               "expected the error of %s to name %s, got endpoint \"%s\" and: %s", what,
               t->fault_address, e->endpoint, e->message);
    return !k_failed(t);
}

struct k_call *k_read_under(struct k_store *s, const char *rules, pst_str key, uint64_t offset,
                            uint64_t size)
{
    struct k_call *c = k_new_read(s, key, offset, size);
    k_fault_set(s->test, "%s", rules);
    k_step(s->test, "reading under %s", rules);
    (void)k_call_run(c);
    return c;
}

bool k_read_is_right(struct k_call *c, uint64_t seed, uint64_t offset, uint64_t size)
{
    uint64_t n = 0;
    unsigned char *bytes = k_call_bytes(c, &n);
    bool is_right = bytes && n == size && k_differs(bytes, (size_t)size, seed, offset) == SIZE_MAX;
    k_free(bytes);
    return is_right;
}

void k_wants_recovery(struct k_store *s, pst_str key, uint64_t size, uint64_t seed)
{
    struct k_test *t = s->test;
    struct k_call *c = k_new_read(s, key, 0, size + 1);
    k_fault_set(t, NULL);
    k_step(t, "reading again, without a fault");
    (void)k_call_run(c);
    k_that(t, c->rc == PST_OK && k_read_is_right(c, seed, 0, size),
           "expected the next read to be right, got %s: %s", k_rc_name(c->rc), c->error.message);
    k_call_free(c);
}
