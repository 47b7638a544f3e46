#include "url.h"

/* What is written as it is: the unreserved characters (RFC 3986, 2.3), and no more, because SigV4 wants
 * exactly these; SLASH in paths alone. */
enum { KEPT = 1, SLASH = 2 };
static const uint8_t classes[256] = {
    ['-'] = KEPT, ['.'] = KEPT, ['_'] = KEPT, ['~'] = KEPT, ['/'] = SLASH, ['0'] = KEPT,
    ['1'] = KEPT, ['2'] = KEPT, ['3'] = KEPT, ['4'] = KEPT, ['5'] = KEPT,  ['6'] = KEPT,
    ['7'] = KEPT, ['8'] = KEPT, ['9'] = KEPT, ['A'] = KEPT, ['B'] = KEPT,  ['C'] = KEPT,
    ['D'] = KEPT, ['E'] = KEPT, ['F'] = KEPT, ['G'] = KEPT, ['H'] = KEPT,  ['I'] = KEPT,
    ['J'] = KEPT, ['K'] = KEPT, ['L'] = KEPT, ['M'] = KEPT, ['N'] = KEPT,  ['O'] = KEPT,
    ['P'] = KEPT, ['Q'] = KEPT, ['R'] = KEPT, ['S'] = KEPT, ['T'] = KEPT,  ['U'] = KEPT,
    ['V'] = KEPT, ['W'] = KEPT, ['X'] = KEPT, ['Y'] = KEPT, ['Z'] = KEPT,  ['a'] = KEPT,
    ['b'] = KEPT, ['c'] = KEPT, ['d'] = KEPT, ['e'] = KEPT, ['f'] = KEPT,  ['g'] = KEPT,
    ['h'] = KEPT, ['i'] = KEPT, ['j'] = KEPT, ['k'] = KEPT, ['l'] = KEPT,  ['m'] = KEPT,
    ['n'] = KEPT, ['o'] = KEPT, ['p'] = KEPT, ['q'] = KEPT, ['r'] = KEPT,  ['s'] = KEPT,
    ['t'] = KEPT, ['u'] = KEPT, ['v'] = KEPT, ['w'] = KEPT, ['x'] = KEPT,  ['y'] = KEPT,
    ['z'] = KEPT,
};

static inline char *encode(char *out, pst_str text, unsigned kept)
{
    static const char digits[] = "0123456789ABCDEF"; /* upper case: SigV4 compares bytes */

    for (size_t i = 0; i < text.len; i++) {
        const unsigned char c = (unsigned char)text.ptr[i];
        if (classes[c] & kept) {
            *out++ = (char)c;
        } else {
            *out++ = '%';
            *out++ = digits[c >> 4];
            *out++ = digits[c & 15];
        }
    }
    return out;
}

char *s3_encode_path(char *out, pst_str text)
{
    return encode(out, text, KEPT | SLASH);
}

char *s3_encode_query(char *out, pst_str text)
{
    return encode(out, text, KEPT);
}

static int compare(pst_str a, pst_str b)
{
    const size_t n = a.len < b.len ? a.len : b.len;
    const int order = n > 0 ? memcmp(a.ptr, b.ptr, n) : 0;

    return order ? order : (a.len > b.len) - (a.len < b.len);
}

char *s3_encode_params(char *out, pst_kv *params, size_t n)
{
    for (size_t i = 1; i < n; i++) { /* a handful, mostly in order */
        const pst_kv param = params[i];
        size_t at = i;
        for (; at > 0 && compare(params[at - 1].key, param.key) > 0; at--)
            params[at] = params[at - 1];
        params[at] = param;
    }
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            *out++ = '&';
        out = s3_encode_query(out, params[i].key);
        *out++ = '=';
        out = s3_encode_query(out, params[i].value);
    }
    return out;
}

int s3_url_parse(pst_str url, struct s3_url *out)
{
    size_t at = 0;

    memset(out, 0, sizeof(*out));
    if (url.len >= 8 && memcmp(url.ptr, "https://", 8) == 0)
        at = 8;
    else if (url.len >= 7 && memcmp(url.ptr, "http://", 7) == 0)
        at = 7;
    else
        return 0;
    const size_t host = at;
    while (at < url.len && url.ptr[at] != '/' && url.ptr[at] != '?' && url.ptr[at] != '#')
        at++;
    out->is_tls = host == 8;
    out->scheme = pst_str_of(url.ptr, host - 3);
    out->host = pst_str_of(url.ptr + host, at - host);
    out->origin = pst_str_of(url.ptr, at);
    out->rest = pst_str_of(url.ptr + at, url.len - at);
    return out->host.len > 0 && !memchr(out->host.ptr, '@', out->host.len);
}

void s3_url_drop_default_port(struct s3_url *url)
{
    const pst_str port = url->is_tls ? PST_STR(":443") : PST_STR(":80");

    if (url->host.len > port.len &&
        memcmp(url->host.ptr + url->host.len - port.len, port.ptr, port.len) == 0) {
        url->host.len -= port.len;
        url->origin.len -= port.len;
    }
}

/* Cut the last label off `host`. */
static pst_str cut_label(pst_str *host)
{
    const char *dot = host->len > 0 ? memrchr(host->ptr, '.', host->len) : NULL;
    const size_t begin = dot ? (size_t)(dot - host->ptr) + 1 : 0;
    const pst_str label = pst_str_of(host->ptr + begin, host->len - begin);

    host->len = dot ? begin - 1 : 0;
    return label;
}

static int is_label(pst_str label, const char *text)
{
    return label.len == strlen(text) && memcmp(label.ptr, text, label.len) == 0;
}

static int is_s3_label(pst_str label)
{
    return label.len >= 2 && memcmp(label.ptr, "s3", 2) == 0 &&
           (label.len == 2 || label.ptr[2] == '-' ||
            (label.len > 10 && memcmp(label.ptr, "s3express-", 10) == 0));
}

/* What stands before the zone: "s3" or "s3-..."; behind it may be "<region>", "dualstack.<region>",
 * "dualstack" or "<region>.vpce", before it the bucket. */
static int is_s3_host(pst_str host)
{
    pst_str label = cut_label(&host);

    if (is_s3_label(label))
        return 1;
    if (is_label(label, "vpce"))
        (void)cut_label(&host); /* the region */
    label = cut_label(&host);
    if (is_label(label, "dualstack"))
        label = cut_label(&host);
    return is_s3_label(label);
}

int s3_url_is_aws(const struct s3_url *url)
{
    static const char *const zones[] = {".amazonaws.com", ".amazonaws.com.cn"};

    struct s3_url plain = *url;
    s3_url_drop_default_port(&plain);
    const pst_str host = plain.host;
    for (size_t i = 0; i < 2; i++) {
        const size_t n = strlen(zones[i]);
        if (host.len > n && memcmp(host.ptr + host.len - n, zones[i], n) == 0)
            return is_s3_host(pst_str_of(host.ptr, host.len - n));
    }
    return 0;
}

static int is_label_end(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

int s3_bucket_is_label(pst_str bucket)
{
    if (bucket.len < 3 || bucket.len > 63)
        return 0;
    for (size_t i = 0; i < bucket.len; i++) {
        if (!is_label_end(bucket.ptr[i]) && bucket.ptr[i] != '-')
            return 0;
    }
    return is_label_end(bucket.ptr[0]) && is_label_end(bucket.ptr[bucket.len - 1]);
}

int s3_bucket_is_directory(pst_str bucket)
{
    static const char end[] = "--x-s3";
    const size_t n = sizeof(end) - 1;

    return bucket.len > n + 4 && memcmp(bucket.ptr + bucket.len - n, end, n) == 0 &&
           memmem(bucket.ptr + 1, bucket.len - n - 2, "--", 2) != NULL;
}
