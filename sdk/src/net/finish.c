/* finish.c - the end of a transfer: what is known of it becomes a reply, done is called, the rest is
 * given back.
 *
 * Every transfer ends here, once: complete, failed, cancelled, late, or never begun. By the time done
 * runs libcurl has let go of it, so no byte moves in memory of the caller any more, and its id finds
 * nothing. */
#include "net/net.h"

#include <stdio.h>
#include <string.h>

#include "net/outcome.h"

enum { PEER_BYTES = PST_WIRE_PEER_BYTES };

static curl_off_t number(CURL *easy, CURLINFO what)
{
    curl_off_t value = 0;
    curl_easy_getinfo(easy, what, &value);
    return value > 0 ? value : 0;
}

static long small_number(CURL *easy, CURLINFO what)
{
    long value = 0;
    curl_easy_getinfo(easy, what, &value);
    return value;
}

int pst_finish_has_sent(const struct pst_transfer *t)
{
    const struct pst_wire *wire = t->slot->wire;
    if (wire && wire->state != PST_WIRE_CONNECTING)
        return wire->out_at == wire->out_len && t->n_read == t->body_bytes;
    /* A body that libcurl takes from a callback is sent when the callback has given it all; any other
     * goes out with its head. What is still in a buffer counts as sent: it may be on its way. */
    return small_number(t->slot->easy, CURLINFO_REQUEST_SIZE) > 0 &&
           (!t->slot->is_upload || t->n_read == t->body_bytes);
}

static void gather_progress(const struct pst_transfer *t, struct pst_facts *f)
{
    CURL *easy = t->slot->easy;
    const struct pst_wire *wire = t->slot->wire;
    f->has_sent = pst_finish_has_sent(t);
    f->has_head = t->slot->head.is_complete;
    f->length = t->slot->head.is_complete ? t->slot->head.content_length : PST_UNKNOWN;
    f->detail = t->slot->error;
    if (wire && wire->state != PST_WIRE_CONNECTING) {
        f->has_name = f->has_connection = f->has_tls = 1;
        f->sys_errno = wire->sys_errno;
        f->n_sent = t->n_read;
        return;
    }
    /* Of a connection that was there already, libcurl tells only the last of these times. */
    const int has_all = number(easy, CURLINFO_PRETRANSFER_TIME_T) > 0;
    f->has_name = has_all || number(easy, CURLINFO_NAMELOOKUP_TIME_T) > 0;
    f->has_connection = has_all || t->slot->has_begun_tls ||
                        number(easy, CURLINFO_CONNECT_TIME_T) > 0;
    f->has_tls = has_all || number(easy, CURLINFO_APPCONNECT_TIME_T) > 0;
    f->sys_errno = (int)small_number(easy, CURLINFO_OS_ERRNO);
    f->n_sent = (uint64_t)number(easy, CURLINFO_SIZE_UPLOAD_T);
}

static struct pst_facts gather(const struct pst_transfer *t, CURLcode code)
{
    struct pst_facts f = {
        .code = code,
        .is_https = t->url.is_https,
        .has_proxy = *pst_settings_proxy(&t->client->settings, t->url.is_https) != '\0',
        .n_body = t->body_bytes,
        .n_received = t->n_received,
        .length = PST_UNKNOWN,
        .connect_timeout_ms = t->client->settings.connect_timeout_ms,
        .has_no_ca = t->client->settings.has_no_ca,
        .origin = t->origin ? t->origin->name : "?",
        .detail = "",
    };
    if (t->slot && t->slot->is_added)
        gather_progress(t, &f);
    return f;
}

static void add(atomic_uint_fast64_t *sum, uint64_t value)
{
    atomic_fetch_add_explicit(sum, value, memory_order_relaxed);
}

/* Returns whether the connection had served before. */
static int count(const struct pst_transfer *t, const struct pst_facts *f)
{
    struct pst_http_client *client = t->client;
    add(&client->requests, 1);
    add(&client->bytes_sent, f->n_sent);
    add(&client->bytes_received, t->n_received);
    if (!t->slot || !t->slot->is_added)
        return 0;
    CURL *easy = t->slot->easy;
    if (t->slot->wire && t->slot->wire->has_served) {
        add(&client->reused, 1);
        return 1;
    }
    if (small_number(easy, CURLINFO_NUM_CONNECTS) == 0) {
        if (!f->has_connection)
            return 0;
        add(&client->reused, 1);
        return 1;
    }
    const curl_off_t name = number(easy, CURLINFO_NAMELOOKUP_TIME_T);
    const curl_off_t connect = number(easy, CURLINFO_CONNECT_TIME_T);
    const curl_off_t tls = number(easy, CURLINFO_APPCONNECT_TIME_T);
    if (connect == 0)
        return 0;
    add(&client->opened, 1);
    add(&client->name_ns, (uint64_t)name * 1000);
    add(&client->connect_ns, (uint64_t)(connect > name ? connect - name : 0) * 1000);
    add(&client->tls_ns, (uint64_t)(tls > connect ? tls - connect : 0) * 1000);
    return 0;
}

static void write_peer(const struct pst_transfer *t, char out[PEER_BYTES])
{
    char *ip = NULL;
    out[0] = '\0';
    if (!t->slot || !t->slot->is_added)
        return;
    if (t->slot->wire) {
        memcpy(out, t->slot->wire->peer, PEER_BYTES);
        return;
    }
    curl_easy_getinfo(t->slot->easy, CURLINFO_PRIMARY_IP, &ip);
    if (!ip || !*ip)
        return;
    snprintf(out, PEER_BYTES, strchr(ip, ':') ? "[%s]:%ld" : "%s:%ld", ip,
             small_number(t->slot->easy, CURLINFO_PRIMARY_PORT));
}

/* Whether the next large body is announced first. */
static void learn_expect(const struct pst_transfer *t, uint32_t status)
{
    if (!t->origin || t->body_bytes < PST_EXPECT_MIN || status == 0)
        return;
    t->origin->asks_before_sending = status >= 300;
    if (t->asks_first && !t->saw_continue && status < 300)
        t->origin->ignores_expect = 1;
}

static void log_end(const struct pst_transfer *t, pst_rc rc, const pst_http_reply *reply)
{
    const pst_host *host = t->loop->instance->nh.host;
    char line[PST_OUTCOME_TEXT + 128];
    if (!host->log_enabled(host, PST_LOG_DEBUG))
        return;
    snprintf(line, sizeof(line), "op %llu: %s %s: %u (%d), %llu bytes sent, %llu received%s%s%s",
             (unsigned long long)t->op_id, t->method, t->origin ? t->origin->name : "?",
             reply->status, (int)rc, (unsigned long long)reply->n_sent,
             (unsigned long long)t->n_received,
             reply->flags & PST_HTTP_REUSED ? ", connection reused" : "",
             *reply->message ? "; " : "", reply->message);
    host->log(host, PST_LOG_DEBUG, "http", line);
}

/* What the caller is told: our reason before libcurl's, which may only follow from it. */
static pst_rc decide(const struct pst_transfer *t, const struct pst_facts *f, pst_rc rc)
{
    if (rc != PST_OK)
        return rc;
    if (t->rc != PST_OK)
        return t->rc;
    return t->is_abandoned ? (pst_rc)PST_OK : pst_outcome_rc(f);
}

static int is_transport_failure(pst_rc rc)
{
    return rc == PST_E_UNAVAILABLE || rc == PST_E_DEADLINE || rc == PST_E_DATA_LOSS;
}

void pst_finish(struct pst_transfer *t, CURLcode code, pst_rc rc, const char *problem)
{
    struct pst_slot *slot = t->slot;
    /* libcurl is content with a connection that is closed in the middle of a head. */
    if (code == CURLE_OK && rc == PST_OK && t->rc == PST_OK && slot && !slot->head.is_complete)
        code = CURLE_GOT_NOTHING;
    const struct pst_facts facts = gather(t, code);
    char peer[PEER_BYTES], message[PST_OUTCOME_TEXT] = "";
    pst_http_reply reply = {.struct_size = sizeof(reply), .peer = peer, .message = message};
    rc = decide(t, &facts, rc);
    if (!problem)
        problem = t->problem;
    if (slot && slot->head.is_complete) {
        reply.status = slot->head.status;
        reply.headers = slot->head.fields;
        reply.n_headers = slot->head.n;
    }
    reply.n_sent = facts.n_sent;
    reply.n_taken = t->n_taken;
    reply.first_byte_ns = t->first_byte_ns;
    reply.body = pst_str_of(t->collected.data, t->collected.len);
    reply.has_crc32c = (t->flags & PST_HTTP_CRC32C) != 0;
    reply.crc32c = t->crc32c;
    reply.flags |= t->is_cut ? PST_HTTP_CUT : 0;
    reply.flags |= facts.has_sent || t->was_sent ? PST_HTTP_MAY_BE_SENT : 0;
    if (is_transport_failure(rc) && !t->is_refused) {
        reply.failed_at = slot ? pst_outcome_stage(&facts) : 0;
        reply.flags |= pst_outcome_is_untrusted(&facts) ? PST_HTTP_UNTRUSTED : 0;
        pst_outcome_text(&facts, reply.failed_at, problem, message);
    }
    write_peer(t, peer);
    if (count(t, &facts))
        reply.flags |= PST_HTTP_REUSED;
    learn_expect(t, reply.status);

    pst_line_remove(t);
    pst_ring_remove(&t->all);
    pst_loop_forget(t->loop, t);
    atomic_fetch_sub_explicit(&t->loop->load, 1, memory_order_relaxed);
    if (slot)
        pst_slot_stop(slot);
    log_end(t, rc, &reply);
    t->done(t->ctx, rc, &reply);
    if (slot)
        pst_slot_give_back(slot);
    pst_transfer_free(t);
}
