/* group_http.c - HTTP, the first half: replies that are whole, in every shape that servers and what is
 * between them give them; and replies that say one thing and send another. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "kit_fault.h"
#include "requirements_fwd.h"

#define SIZE 70001u
#define SEED 41u
#define ALWAYS(fault) "[{'on': 'get', 'times': 0, 'fault': " fault "}]"

static struct k_store *begin(struct k_test *t, pst_str *key)
{
    struct k_store *s = k_fault_store(t, PST_CAP_READ);
    if (s)
        *key = k_fault_object(t, "object", SIZE, SEED);
    return s;
}

static void want_right(struct k_call *c, const char *what, uint64_t offset, uint64_t size)
{
    k_that(c->host->test, c->rc == PST_OK && k_read_is_right(c, SEED, offset, size),
           "expected the right %llu bytes from %s, got %s, %llu bytes: %s",
           (unsigned long long)size, what, k_rc_name(c->rc), (unsigned long long)c->out.read.n_read,
           c->error.message);
}

/* Into memory of the caller, or of dst(). */
static struct k_call *read_either(struct k_store *s, const char *rules, pst_str key,
                                  uint64_t offset, uint64_t size, bool is_early)
{
    struct k_call *c = k_new_read(s, key, offset, size);
    if (is_early)
        k_call_dst(c, (size_t)size, 0, K_AT_END);
    k_fault_set(s->test, "%s", rules);
    k_step(s->test, "reading under %s", rules);
    (void)k_call_run(c);
    return c;
}

/* The reply is a good one: whole object and a range, both kinds of destination. */
static void must_serve(struct k_test *t, const char *rules, const char *what)
{
    pst_str key;
    struct k_store *s = begin(t, &key);
    for (unsigned i = 0; s && i < 4; i++) {
        uint64_t offset = i / 2 ? 1000 : 0, size = i / 2 ? 5000 : SIZE;
        struct k_call *c = read_either(s, rules, key, offset, size, i % 2);
        want_right(c, what, offset, size);
        k_call_free(c);
    }
    if (s)
        k_wants_recovery(s, key, SIZE, SEED);
}

/* The reply is none that a read may be made of: 5,000 bytes at 1,000 must not come out as OK, unless
 * `or_right` and they are the right ones. */
static void must_refuse(struct k_test *t, const char *rules, const char *what, bool or_right)
{
    pst_str key;
    struct k_store *s = begin(t, &key);
    for (unsigned i = 0; s && i < 2; i++) {
        struct k_call *c = read_either(s, rules, key, 1000, 5000, i % 2);
        if (or_right && c->rc == PST_OK)
            want_right(c, what, 1000, 5000);
        else
            (void)k_want_failure(c, what, K_NO_MAYBE,
                                 K_CODES(PST_E_UNAVAILABLE, PST_E_DATA_LOSS, PST_E_CHANGED,
                                         PST_E_RANGE, PST_E_UNIMPLEMENTED, PST_E_IO));
        k_call_free(c);
    }
    if (s)
        k_wants_recovery(s, key, SIZE, SEED);
}

void k_HTTP_001(struct k_test *t)
{
    must_serve(t, ALWAYS("{'chunked': true}"), "a reply in chunks");
}

void k_HTTP_002(struct k_test *t)
{
    must_serve(t, ALWAYS("{'close': true}"), "a reply with Connection: close");
}

/* The end of the connection comes behind a whole reply that promised to keep it. */
void k_HTTP_003(struct k_test *t)
{
    must_serve(t, ALWAYS("{'cut': {'at': 'body', 'bytes': 1000000, 'how': 'close'}}"),
               "a connection that is closed without a word after a whole reply");
}

void k_HTTP_004(struct k_test *t)
{
    must_serve(t, ALWAYS("{'interim': true}"), "a reply behind a 103");
}

void k_HTTP_005(struct k_test *t)
{
    must_serve(t, ALWAYS("{'drip': {'bytes': 2000, 'every_ms': 20}}"), "a reply in drips");
}

void k_HTTP_006(struct k_test *t)
{
    must_refuse(t, ALWAYS("{'filler': 65536}"), "a reply with 64 KiB of headers", true);
}

void k_HTTP_007(struct k_test *t)
{
    must_refuse(t, ALWAYS("{'range': 'ignore'}"), "200 with the whole object to a range", true);
}

void k_HTTP_008(struct k_test *t)
{
    must_refuse(t, ALWAYS("{'shift': 7}"), "206 with another range", false);
}

void k_HTTP_009(struct k_test *t)
{
    must_refuse(t, ALWAYS("{'shift': 7, 'content_range': 'none'}"),
                "206 without Content-Range and with other bytes", false);
}

void k_HTTP_010(struct k_test *t)
{
    must_refuse(t, ALWAYS("{'extend': 3000}"), "206 with more bytes than were asked for", false);
}

void k_HTTP_011(struct k_test *t)
{
    must_refuse(t, ALWAYS("{'content_length': 'none'}"), "a reply without a length", true);
}

void k_HTTP_012(struct k_test *t)
{
    pst_str key;
    struct k_store *s = begin(t, &key);
    for (unsigned i = 0; s && i < 4; i++) {
        static const char *const rules[] = {ALWAYS("{'shorten': 1}"), ALWAYS("{'shorten': 4999}")};
        struct k_call *c = read_either(s, rules[i / 2], key, 1000, 5000, i % 2);
        (void)k_want_failure(c, "a body that is shorter than announced",
                             K_RETRY | K_NO_MAYBE | K_ENDPOINT,
                             K_CODES(PST_E_UNAVAILABLE, PST_E_DATA_LOSS));
        k_call_free(c);
    }
    if (s)
        k_wants_recovery(s, key, SIZE, SEED);
}

void k_HTTP_016(struct k_test *t)
{
    must_refuse(t, ALWAYS("{'garbage': true}"), "an answer that is no HTTP", false);
}

/* ---- redirects, and words of others than the store ----------------------------------------------- */

void k_HTTP_019(struct k_test *t)
{
    pst_str key;
    if (!k_has_fault(t, "redirect_loop"))
        return;
    struct k_store *s = begin(t, &key);
    if (!s)
        return;
    struct k_call *c = k_read_under(s, ALWAYS("'redirect_loop'"), key, 0, SIZE);
    k_that(t, c->rc < 0, "expected an error from redirects without end, got %s", k_rc_name(c->rc));
    size_t n = k_fault_count(t, "get");
    k_that(t, n >= 1 && n <= 20, "expected at most 20 requests, got %zu", n);
    k_call_free(c);
    k_wants_recovery(s, key, SIZE, SEED);
}

void k_HTTP_020(struct k_test *t)
{
    pst_str key;
    if (!k_has_fault(t, "redirect_away"))
        return;
    struct k_store *s = begin(t, &key);
    if (!s)
        return;
    struct k_call *c = k_read_under(s, "[{'on': 'get', 'fault': 'redirect_away'}]", key, 0, SIZE);
    if (c->rc == PST_OK)
        want_right(c, "a redirect to another origin", 0, SIZE);
    k_call_free(c);
    json_t *log = k_fault_log(t), *entry;
    size_t i;
    json_array_foreach(log, i, entry)
    {
        const char *target = json_string_value(json_object_get(entry, "target"));
        k_that(t,
               !target || !strstr(target, "away=1") ||
                   !json_object_get(json_object_get(entry, "headers"), "authorization"),
               "expected no Authorization header for the other origin, got one");
    }
    json_decref(log);
    k_wants_recovery(s, key, SIZE, SEED);
}

void k_HTTP_021(struct k_test *t)
{
    pst_str key;
    struct k_store *s = begin(t, &key);
    if (!s)
        return;
    struct k_call *c = k_read_under(
        s,
        ALWAYS("{'apply': false, 'status': 502, 'headers': {'Content-Type': 'text/html'}, "
               "'body': '<html><body>Bad Gateway &amp; more</body></html>'}"),
        key, 0, SIZE);
    (void)k_want_failure(c, "a gateway's page", K_RETRY | K_NO_MAYBE | K_ENDPOINT,
                         K_CODES(PST_E_UNAVAILABLE));
    k_that(t, c->error.http_status == 502, "expected http_status 502, got %d",
           c->error.http_status);
    k_that(t, c->n_dst_calls == 0, "expected no dst() for an error, got %u", c->n_dst_calls);
    k_call_free(c);
    k_wants_recovery(s, key, SIZE, SEED);
}

void k_HTTP_022(struct k_test *t)
{
    pst_str key;
    struct k_store *s = begin(t, &key);
    for (unsigned i = 0; s && i < 2; i++) {
        struct k_call *c = read_either(
            s, ALWAYS("{'apply': false, 'status': 500, 'body': 'no', 'extend': 1000000}"), key, 0,
            SIZE, i % 2);
        (void)k_want_failure(c, "an error with a body of a megabyte", K_RETRY | K_NO_MAYBE,
                             K_CODES(PST_E_UNAVAILABLE));
        k_that(t, c->n_dst_calls == 0, "expected no dst() for an error, got %u", c->n_dst_calls);
        for (size_t k = 1; k < c->snapshot_len; k++)
            if (!k_that(t, c->snapshot[k] == c->snapshot[0],
                        "expected nothing of an error in the destination, got some"))
                break;
        k_call_free(c);
    }
    if (s)
        k_wants_recovery(s, key, SIZE, SEED);
}

void k_HTTP_023(struct k_test *t)
{
    pst_str key;
    struct k_store *s = begin(t, &key);
    char etags[2][1200] = {"", ""};
    for (unsigned i = 0; s && i < 2; i++) {
        struct k_call *c = k_read_under(s, ALWAYS("{'etag': 'changing'}"), key, i * 1000, 1000);
        if (k_want(c, PST_OK, "a read of an object that changes"))
            (void)snprintf(etags[i], sizeof(etags[i]), "%.*s", (int)c->out.read.etag.len,
                           c->out.read.etag.ptr);
        k_call_free(c);
    }
    if (s && !k_failed(t))
        k_that(t, strcmp(etags[0], etags[1]) != 0,
               "expected the etag of each reply in its result, got %s twice", etags[0]);
}
