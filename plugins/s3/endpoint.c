/* endpoint.c - the servers of one store.
 *
 * The option is a list of URLs separated by commas, each of which may hold templates ({1...8}, {01...16})
 * that stand for every number between; without it there is one server, AWS's for the region. All of
 * them are taken to serve the same objects.
 *
 * A server that fails three times in a row is left out for a second, then, after one request has tried
 * it in vain, for 2, 4, ... 30 s. When all are left out all are asked: a wrong opinion costs less than
 * refusing to try. An attempt that follows a failed one avoids the server of that one.
 *
 * Everything here is counters; requests of many threads meet in them without a lock. Two requests that
 * report at once may eject a moment early or late, which is harmless. */
#include "endpoint.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "config.h"
#include "error.h"

enum { ENDPOINTS_MAX = 1024, URL_MAX_BYTES = 512, EJECT_AFTER = 3 };
#define SECOND_NS UINT64_C(1000000000)
#define EJECT_MAX_NS (30 * SECOND_NS)

struct endpoint {
    char text[URL_MAX_BYTES]; /* the origin */
    char name[URL_MAX_BYTES]; /* host:port */
    struct s3_url url;        /* points into text */
    atomic_uint outstanding, n_in_row, is_tried;
    _Atomic(uint64_t) out_until_ns, out_ns; /* 0: not left out */
    _Atomic(uint64_t) requests, failures, ejections;
};

struct s3_endpoints {
    const pst_host *host;
    enum s3_endpoint_policy policy;
    uint32_t n, capacity;
    int is_aws, is_implied;
    atomic_uint next;
    struct endpoint at[];
};

/* ---- the list --------------------------------------------------------------------------------- */

/* What stands before an '@' may be a password. */
static pst_rc refuse(pst_error *err, pst_str url, const char *is)
{
    const char *at = url.len > 0 ? memrchr(url.ptr, '@', url.len) : NULL;
    const size_t n_hidden = at ? (size_t)(at - url.ptr) : 0;

    return s3_fail(err, PST_E_INVALID, "option endpoint: '%s%.*s' %s", at ? "..." : "",
                   (int)(url.len - n_hidden), url.ptr + n_hidden, is);
}

static int has_bad_byte(pst_str host)
{
    for (size_t i = 0; i < host.len; i++) {
        const unsigned char c = (unsigned char)host.ptr[i];
        if (c <= ' ' || c >= 0x7f || strchr("\"'<>\\^`{|}%", c))
            return 1;
    }
    return 0;
}

static int has_port(pst_str host)
{
    const char *colon = NULL;

    for (size_t i = 0; i < host.len; i++) {
        if (host.ptr[i] == ':')
            colon = host.ptr + i;
        else if (host.ptr[i] == ']') /* an IPv6 address ends here */
            colon = NULL;
    }
    return colon != NULL;
}

static pst_rc add(struct s3_endpoints *e, pst_str url, pst_error *err)
{
    struct endpoint *to = &e->at[e->n];

    if (e->n == e->capacity)
        return s3_fail(err, PST_E_INVALID, "option endpoint: stands for more than %u servers",
                       (unsigned)ENDPOINTS_MAX);
    while (url.len > 0 && url.ptr[url.len - 1] == '/')
        url.len--;
    if (url.len >= sizeof(to->text) - 8)
        return refuse(err, url, "is too long");
    memcpy(to->text, url.ptr, url.len);
    to->text[url.len] = '\0';
    if (!s3_url_parse(pst_str_of(to->text, url.len), &to->url) || has_bad_byte(to->url.host))
        return refuse(err, url, "is not http://host:port or https://host:port");
    if (to->url.rest.len > 0)
        return refuse(err, url, "has a path: the bucket stands in the URI, not here");
    snprintf(to->name, sizeof(to->name), "%.*s%s", (int)to->url.host.len, to->url.host.ptr,
             has_port(to->url.host) ? "" : (to->url.is_tls ? ":443" : ":80"));
    s3_url_drop_default_port(&to->url);
    to->text[to->url.origin.len] = '\0';
    e->n++;
    return PST_OK;
}

struct range {
    uint64_t first, last;
    size_t begin, end; /* of "{1...8}" in the text */
    int width;         /* digits, 0: as many as it takes */
};

/* 1: the first template of `url`. 0: there is none. -1: braces that are no template. */
static int find_range(pst_str url, struct range *out)
{
    const char *open = memchr(url.ptr, '{', url.len), *end = url.ptr + url.len, *at;

    if (!open)
        return memchr(url.ptr, '}', url.len) ? -1 : 0;
    memset(out, 0, sizeof(*out));
    out->begin = (size_t)(open - url.ptr);
    for (at = open + 1; at < end && *at >= '0' && *at <= '9'; at++) {
        out->first = out->first * 10 + (uint64_t)(*at - '0');
        if (out->first > UINT32_MAX)
            return -1;
    }
    if (at == open + 1 || end - at < 3 || memcmp(at, "...", 3) != 0)
        return -1;
    if (open[1] == '0')
        out->width = (int)(at - open - 1);
    const char *second = at += 3;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        out->last = out->last * 10 + (uint64_t)(*at - '0');
        if (out->last > UINT32_MAX)
            return -1;
    }
    if (at == second || at == end || *at != '}' || out->last < out->first)
        return -1;
    out->end = (size_t)(at + 1 - url.ptr);
    return 1;
}

/* All that `url` stands for: the first template is filled in, and what comes of it is expanded again. */
static pst_rc expand(struct s3_endpoints *e, pst_str url, unsigned depth, pst_error *err)
{
    char text[URL_MAX_BYTES];
    struct range range;
    const int found = find_range(url, &range);
    pst_rc rc = PST_OK;

    if (found == 0)
        return add(e, url, err);
    if (found < 0 || depth == 4)
        return refuse(err, url, "has braces that are not of the form {1...8}");
    for (uint64_t i = range.first; rc == PST_OK && i <= range.last; i++) {
        const int len = snprintf(text, sizeof(text), "%.*s%0*llu%.*s", (int)range.begin, url.ptr,
                                 range.width, (unsigned long long)i, (int)(url.len - range.end),
                                 url.ptr + range.end);
        if (len < 0 || (size_t)len >= sizeof(text))
            rc = refuse(err, url, "is too long");
        else
            rc = expand(e, pst_str_of(text, (size_t)len), depth + 1, err);
    }
    return rc;
}

static int is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static pst_rc read_list(struct s3_endpoints *e, pst_str list, pst_error *err)
{
    pst_rc rc = PST_OK;

    while (rc == PST_OK && list.len > 0) {
        const char *comma = memchr(list.ptr, ',', list.len);
        const size_t n = comma ? (size_t)(comma - list.ptr) : list.len;
        pst_str url = pst_str_of(list.ptr, n);
        while (url.len > 0 && is_blank(url.ptr[0]))
            url = pst_str_of(url.ptr + 1, url.len - 1);
        while (url.len > 0 && is_blank(url.ptr[url.len - 1]))
            url.len--;
        rc = url.len > 0 ? expand(e, url, 0, err) : refuse(err, list, "begins with no server");
        list = pst_str_of(list.ptr + n + (comma != NULL), list.len - n - (comma != NULL));
    }
    return rc;
}

size_t s3_aws_host(const char *region, char out[S3_AWS_HOST_SIZE])
{
    const char *zone = strncmp(region, "cn-", 3) == 0 ? "amazonaws.com.cn" : "amazonaws.com";

    return (size_t)snprintf(out, S3_AWS_HOST_SIZE, "s3.%.63s.%s", region[0] ? region : "us-east-1",
                            zone);
}

size_t s3_express_host(pst_str bucket, const char *region, char out[S3_AWS_HOST_SIZE])
{
    const size_t n_end = strlen("--x-s3");
    size_t end = bucket.len - n_end, begin = end;

    while (begin > 1 && !(bucket.ptr[begin - 1] == '-' && bucket.ptr[begin - 2] == '-'))
        begin--;
    const int n_zone = end - begin < 32 ? (int)(end - begin) : 32;
    return (size_t)snprintf(out, S3_AWS_HOST_SIZE, "s3express-%.*s.%.63s.amazonaws.com", n_zone,
                            bucket.ptr + begin, region);
}

pst_rc s3_endpoints_new(const pst_host *host, const struct s3_config *config,
                        struct s3_endpoints **out, pst_error *err)
{
    char implied[8 + S3_AWS_HOST_SIZE] = "https://";
    pst_str list = s3_str(config->endpoint);
    /* Templates multiply: room for as many as there may be, unless there is none. */
    uint32_t capacity = strchr(config->endpoint, '{') ? ENDPOINTS_MAX : 1;
    pst_rc rc;

    for (size_t i = 0; i < list.len && capacity < ENDPOINTS_MAX; i++)
        capacity += list.ptr[i] == ',';
    if (list.len == 0)
        list = pst_str_of(implied, 8 + s3_aws_host(config->region, implied + 8));
    const size_t n_bytes = sizeof(struct s3_endpoints) + capacity * sizeof(struct endpoint);
    struct s3_endpoints *e = host->alloc(host, n_bytes, 64);
    if (!e)
        return s3_fail(err, PST_E_NO_MEMORY, "out of memory");
    memset(e, 0, n_bytes);
    e->host = host;
    e->policy = config->endpoint_policy;
    e->capacity = capacity;
    rc = read_list(e, list, err);
    if (rc != PST_OK) {
        s3_endpoints_free(e);
        return rc;
    }
    e->is_implied = config->endpoint[0] == '\0';
    e->is_aws = s3_url_is_aws(&e->at[0].url);
    *out = e;
    return PST_OK;
}

void s3_endpoints_free(struct s3_endpoints *e)
{
    if (e)
        e->host->dealloc(e->host, e);
}

/* ---- what they are ---------------------------------------------------------------------------- */

uint32_t s3_endpoints_count(const struct s3_endpoints *e)
{
    return e->n;
}

const char *s3_endpoint_origin(const struct s3_endpoints *e, uint32_t index)
{
    return e->at[index].text;
}

const char *s3_endpoint_name(const struct s3_endpoints *e, uint32_t index)
{
    return e->at[index].name;
}

const struct s3_url *s3_endpoint_url(const struct s3_endpoints *e, uint32_t index)
{
    return &e->at[index].url;
}

int s3_endpoints_are_aws(const struct s3_endpoints *e)
{
    return e->is_aws;
}

int s3_endpoints_are_implied(const struct s3_endpoints *e)
{
    return e->is_implied;
}

/* ---- which one is next ------------------------------------------------------------------------ */

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* Is it in order, or is it time for one request to try it? */
static int is_usable(struct endpoint *at)
{
    const uint64_t until = atomic_load(&at->out_until_ns);

    return until == 0 || (now_ns() >= until && atomic_exchange(&at->is_tried, 1) == 0);
}

static uint32_t choose(struct s3_endpoints *e, uint32_t affinity, uint32_t avoided)
{
    const uint32_t start = e->policy == S3_BY_RANK ? affinity % e->n
                                                   : atomic_fetch_add(&e->next, 1) % e->n;
    uint32_t best = UINT32_MAX, least = UINT32_MAX;

    for (uint32_t i = 0; i < e->n; i++) {
        const uint32_t index = (start + i) % e->n;
        const uint32_t outstanding = atomic_load(&e->at[index].outstanding);
        if (index == avoided)
            continue;
        if (best != UINT32_MAX && (e->policy != S3_LEAST_OUTSTANDING || outstanding >= least))
            continue;
        if (!is_usable(&e->at[index]))
            continue;
        best = index;
        least = outstanding;
    }
    if (best == UINT32_MAX && avoided < e->n && is_usable(&e->at[avoided]))
        best = avoided;
    return best != UINT32_MAX ? best : start;
}

uint32_t s3_endpoints_pick(struct s3_endpoints *e, uint32_t affinity, uint32_t avoided)
{
    const uint32_t index = e->n > 1 ? choose(e, affinity, avoided) : 0;

    atomic_fetch_add(&e->at[index].outstanding, 1);
    atomic_fetch_add(&e->at[index].requests, 1);
    return index;
}

static void eject(struct endpoint *at)
{
    uint64_t ns = atomic_load(&at->out_ns);

    ns = ns == 0 ? SECOND_NS : 2 * ns;
    if (ns > EJECT_MAX_NS)
        ns = EJECT_MAX_NS;
    atomic_store(&at->out_ns, ns);
    atomic_store(&at->out_until_ns, now_ns() + ns);
    atomic_store(&at->is_tried, 0);
    atomic_fetch_add(&at->ejections, 1);
}

void s3_endpoints_report(struct s3_endpoints *e, uint32_t index, enum s3_outcome outcome)
{
    struct endpoint *at = &e->at[index];

    atomic_fetch_sub(&at->outstanding, 1);
    if (outcome == S3_FAILED) {
        const uint64_t until = atomic_load(&at->out_until_ns);
        atomic_fetch_add(&at->failures, 1);
        if (atomic_fetch_add(&at->n_in_row, 1) + 1 >= EJECT_AFTER &&
            (until == 0 || now_ns() >= until)) /* requests sent before count once */
            eject(at);
    } else if (outcome == S3_ANSWERED) {
        if (atomic_load(&at->n_in_row) > 0)
            atomic_store(&at->n_in_row, 0);
        if (atomic_load(&at->out_until_ns) > 0) {
            atomic_store(&at->out_ns, 0);
            atomic_store(&at->out_until_ns, 0);
            atomic_store(&at->is_tried, 0);
        }
    } else if (atomic_load(&at->is_tried)) {
        atomic_store(&at->is_tried, 0);
    }
}

void s3_endpoints_stats(struct s3_endpoints *e, uint32_t index, struct s3_endpoint_stats *out)
{
    struct endpoint *at = &e->at[index];

    out->requests = atomic_load(&at->requests);
    out->failures = atomic_load(&at->failures);
    out->ejections = atomic_load(&at->ejections);
    out->outstanding = atomic_load(&at->outstanding);
    out->is_ejected = atomic_load(&at->out_until_ns) > 0;
}
