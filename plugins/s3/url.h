/* url.h - how keys and parameters become a URL: percent-encoding byte by byte. All pure. */
#ifndef PST_S3_URL_H
#define PST_S3_URL_H

#include <string.h>

#include <penstock/base.h>

static inline pst_str s3_str(const char *text)
{
    return pst_str_of(text, text ? strlen(text) : 0);
}

/* Copy to `out`; returns the end. */
static inline char *s3_write(char *out, pst_str s)
{
    if (s.len > 0)
        memcpy(out, s.ptr, s.len);
    return out + s.len;
}

/* Write `text` with all but unreserved characters (RFC 3986, 2.3) as %XX; `/` is kept in a path and
 * encoded in a query. At most 3 * len bytes, no NUL; returns the end. */
char *s3_encode_path(char *out, pst_str text);
char *s3_encode_query(char *out, pst_str text);

/* Write n parameters sorted and encoded, "a=1&b=": both what goes out and what is signed. Sorts
 * `params` in place. Returns the end. */
char *s3_encode_params(char *out, pst_kv *params, size_t n);

/* "scheme://host[:port]" of a URL: 1 and its parts, or 0 if `url` is not one of http or https. `rest` is
 * what follows, "" or from '/', '?' or '#' on. */
struct s3_url {
    pst_str origin, scheme, host, rest; /* host with its port */
    int is_tls;
};
int s3_url_parse(pst_str url, struct s3_url *out);

/* Leave out the port that the scheme implies: so HTTP clients write the Host header, and it is signed. */
void s3_url_drop_default_port(struct s3_url *url);

/* Is its host one of S3's below amazonaws.com or amazonaws.com.cn? Customers have names there too (load
 * balancers, virtual machines). */
int s3_url_is_aws(const struct s3_url *url);

/* May the bucket be a part of a host name: 3 to 63 of a-z 0-9 and '-', no dots (wildcard certificates
 * cover one label), alphanumeric at both ends. */
int s3_bucket_is_label(pst_str bucket);

/* "name--zone--x-s3": a directory bucket of S3 Express One Zone. */
int s3_bucket_is_directory(pst_str bucket);

#endif
