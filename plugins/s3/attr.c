/* attr.c - attributes, encryption and etags as header fields.
 *
 * What no header can carry is refused before any I/O: control characters and bytes outside ASCII
 * (stores disagree on how those come back), spaces at either end (a header is trimmed), capital letters
 * in the names of user metadata (S3 gives them back in lower case, so "Step" would return as another
 * name). Nothing is folded, dropped or encoded on the quiet. */
#include "attr.h"

#include <stdio.h>
#include <string.h>

#include "config.h"
#include "error.h"
#include "s3.h"
#include "text.h"
#include "url.h"

/* ---- keys and kept strings -------------------------------------------------------------------- */

pst_rc s3_bucket_check(const pst_backend *store, pst_op *op)
{
    return store->bucket[0]
               ? PST_OK
               : s3_fail(op->err, PST_E_INVALID, "the URI names no bucket: want s3://bucket/key");
}

pst_rc s3_key_check(const pst_backend *store, pst_op *op, pst_str key)
{
    pst_rc rc = s3_bucket_check(store, op);
    if (rc != PST_OK)
        return rc;
    if (key.len == 0)
        return s3_fail(op->err, PST_E_INVALID, "the key is empty");
    if (key.len > S3_KEY_MAX)
        return s3_fail(op->err, PST_E_INVALID, "the key has %zu bytes, S3 takes %u", key.len,
                       S3_KEY_MAX);
    if (memchr(key.ptr, '\0', key.len))
        return s3_fail(op->err, PST_E_INVALID, "the key holds a NUL, which S3 cannot");
    size_t whole = s3_utf8_len(key);
    if (whole < key.len)
        return s3_fail(op->err, PST_E_INVALID,
                       "the key is not UTF-8 from byte %zu on: S3 holds "
                       "nothing else",
                       whole);
    return PST_OK;
}

pst_str s3_keep(pst_op *op, pst_str text)
{
    char *copy = text.len > 0 ? s3_alloc(op, text.len) : NULL;
    if (!copy)
        return pst_str_of(NULL, 0);
    memcpy(copy, text.ptr, text.len);
    return pst_str_of(copy, text.len);
}

pst_str s3_write_etag(char *out, pst_str etag, uint32_t *strength)
{
    int is_weak = s3_starts_with(etag, PST_STR("W/\""));
    int is_quoted = is_weak || s3_starts_with(etag, PST_STR("\""));
    char *at = out;
    if (!is_quoted)
        *at++ = '"';
    at = s3_write(at, etag);
    if (!is_quoted)
        *at++ = '"';
    *strength = is_weak ? PST_ETAG_WEAK : PST_ETAG_STRONG;
    return pst_str_of(out, (size_t)(at - out));
}

pst_str s3_keep_etag(pst_op *op, pst_str etag, uint32_t *strength)
{
    char *copy = etag.len > 0 ? s3_alloc(op, etag.len + 2) : NULL;
    *strength = PST_ETAG_NONE;
    return copy ? s3_write_etag(copy, etag, strength) : pst_str_of(NULL, 0);
}

/* ---- to the store ----------------------------------------------------------------------------- */

static int is_carried(pst_str value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < 0x20 || value.ptr[i] > 0x7e)
            return 0;
    }
    return value.len == 0 || (value.ptr[0] != ' ' && value.ptr[value.len - 1] != ' ');
}

static int is_meta_name(pst_str name)
{
    for (size_t i = 0; i < name.len; i++) { /* a token of RFC 9110, 5.6.2, in lower case */
        char c = name.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              (c != '\0' && strchr("!#$%&'*+-.^_`|~", c))))
            return 0;
    }
    return name.len > 0;
}

static pst_rc send_meta(struct s3_request *request, const pst_attr *attr)
{
    static const char stem[] = "x-amz-meta-";
    const size_t stem_len = sizeof(stem) - 1;
    pst_op *op = request->op;
    if (attr->n_user_meta == 0)
        return PST_OK;
    pst_kv *more = s3_alloc(op, attr->n_user_meta * sizeof(*more));
    if (!more)
        return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < attr->n_user_meta; i++) {
        pst_str name = attr->user_meta[i].key, value = attr->user_meta[i].value;
        if (!is_meta_name(name))
            return s3_fail(
                op->err, PST_E_INVALID,
                "S3 cannot keep the metadata name '%.*s': lower case letters, digits and "
                "-._ only",
                (int)(name.len < 100 ? name.len : 100), name.ptr);
        if (!is_carried(value))
            return s3_fail(op->err, PST_E_INVALID,
                           "S3 cannot keep the value of metadata '%.*s': printable ASCII without "
                           "spaces at its ends only",
                           (int)(name.len < 100 ? name.len : 100), name.ptr);
        char *text = s3_alloc(op, stem_len + name.len);
        if (!text)
            return s3_fail(op->err, PST_E_NO_MEMORY, "out of memory");
        memcpy(text, stem, stem_len);
        memcpy(text + stem_len, name.ptr, name.len);
        more[i] = (pst_kv){pst_str_of(text, stem_len + name.len), value};
    }
    request->more = more;
    request->n_more = attr->n_user_meta;
    return PST_OK;
}

static pst_rc send_tags(struct s3_request *request, const pst_attr *attr)
{
    size_t room = 0;
    if (!PST_HAS(pst_attr, attr, n_tags) || attr->n_tags == 0)
        return PST_OK;
    for (size_t i = 0; i < attr->n_tags; i++)
        room += 3 * (attr->tags[i].key.len + attr->tags[i].value.len) + 2;
    char *text = s3_alloc(request->op, room);
    if (!text)
        return s3_fail(request->op->err, PST_E_NO_MEMORY, "out of memory");
    char *at = text;
    for (size_t i = 0; i < attr->n_tags; i++) {
        if (attr->tags[i].key.len == 0)
            return s3_fail(request->op->err, PST_E_INVALID, "a tag with an empty name");
        if (i > 0)
            *at++ = '&';
        at = s3_encode_query(at, attr->tags[i].key);
        *at++ = '=';
        at = s3_encode_query(at, attr->tags[i].value);
    }
    s3_request_header(request, "x-amz-tagging", pst_str_of(text, (size_t)(at - text)));
    return PST_OK;
}

pst_rc s3_attr_send(struct s3_request *request, const pst_attr *attr)
{
    const struct {
        const char *header;
        pst_str value;
    } texts[] = {
        {"content-type", attr->content_type},
        {"content-encoding", attr->content_encoding},
        {"content-language", attr->content_language},
        {"content-disposition", attr->content_disposition},
        {"cache-control", attr->cache_control},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (!is_carried(texts[i].value))
            return s3_fail(
                request->op->err, PST_E_INVALID,
                "S3 cannot keep this %s: printable ASCII without spaces at its ends only",
                texts[i].header);
        s3_request_header(request, texts[i].header, texts[i].value);
    }
    pst_rc rc = send_meta(request, attr);
    return rc == PST_OK ? send_tags(request, attr) : rc;
}

void s3_new_object_send(struct s3_request *request, const pst_attr *attr)
{
    const struct s3_config *config = request->store->config;
    if (attr && attr->storage_class.len > 0)
        s3_request_header(request, "x-amz-storage-class", attr->storage_class);
    else
        s3_request_header(request, "x-amz-storage-class", s3_str(config->storage_class));
    s3_request_header(request, "x-amz-acl", s3_str(config->acl));
    s3_request_header(request, "x-amz-server-side-encryption", s3_str(config->sse));
    s3_request_header(request, "x-amz-server-side-encryption-aws-kms-key-id",
                      s3_str(config->sse_kms_key_id));
    s3_request_header(request, "x-amz-server-side-encryption-context",
                      s3_str(config->sse_kms_context));
    s3_sse_c_headers(request, 0);
}

/* ---- from the store --------------------------------------------------------------------------- */

static int take_meta(pst_op *op, const pst_kv *headers, size_t n_headers, pst_attr *out)
{
    static const pst_str stem = {"x-amz-meta-", 11};
    size_t n = 0;
    for (size_t i = 0; i < n_headers; i++)
        n += s3_starts_with(headers[i].key, stem) && headers[i].key.len > stem.len;
    if (n == 0)
        return 1;
    pst_kv *meta = s3_alloc(op, n * sizeof(*meta));
    if (!meta)
        return 0;
    size_t at = 0;
    for (size_t i = 0; i < n_headers; i++) {
        pst_str name = headers[i].key;
        if (!s3_starts_with(name, stem) || name.len == stem.len)
            continue;
        meta[at].key = s3_keep(op, pst_str_of(name.ptr + stem.len, name.len - stem.len));
        meta[at].value = s3_keep(op, headers[i].value);
        if (!meta[at].key.ptr || (headers[i].value.len > 0 && !meta[at].value.ptr))
            return 0;
        at++;
    }
    out->user_meta = meta;
    out->n_user_meta = n;
    return 1;
}

int s3_is_version(pst_str wanted, const pst_kv *headers, size_t n_headers)
{
    pst_str is = s3_header(headers, n_headers, "x-amz-version-id");
    return wanted.len == 0 || s3_str_eq(wanted, is) || (is.len == 0 && s3_str_is(wanted, "null"));
}

/* "aws-chunked" is how the bytes were sent, not what they are; some stores keep it. */
static pst_str content_coding(pst_str value)
{
    static const pst_str chunked = {"aws-chunked", 11};
    if (!s3_starts_with(value, chunked))
        return value;
    size_t skip = chunked.len;
    while (skip < value.len && (value.ptr[skip] == ',' || value.ptr[skip] == ' '))
        skip++;
    return pst_str_of(value.ptr + skip, value.len - skip);
}

int s3_attr_take(pst_op *op, const pst_kv *headers, size_t n_headers, pst_attr *out,
                 struct s3_sums *sums)
{
    const struct {
        const char *header;
        pst_str *to;
    } texts[] = {
        {"content-type", &out->content_type},
        {"content-encoding", &out->content_encoding},
        {"content-language", &out->content_language},
        {"content-disposition", &out->content_disposition},
        {"cache-control", &out->cache_control},
        {"x-amz-storage-class", &out->storage_class},
        {"x-amz-version-id", &out->version},
    };
    out->kind = PST_KIND_OBJECT;
    out->mtime_ns = s3_parse_http_date(s3_header(headers, n_headers, "last-modified"));
    if (!s3_parse_u64(s3_header(headers, n_headers, "content-length"), &out->size))
        out->size = PST_UNKNOWN;
    pst_str etag = s3_header(headers, n_headers, "etag");
    out->etag = s3_keep_etag(op, etag, &out->etag_strength);
    if (etag.len > 0 && !out->etag.ptr)
        return 0;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        pst_str value = s3_header(headers, n_headers, texts[i].header);
        if (texts[i].to == &out->content_encoding)
            value = content_coding(value);
        *texts[i].to = s3_keep(op, value);
        if (value.len > 0 && !texts[i].to->ptr)
            return 0;
    }
    s3_sums_take(headers, n_headers, sums);
    if (sums->n > 0) {
        pst_sum *kept = s3_alloc(op, sums->n * sizeof(*kept));
        if (!kept)
            return 0;
        memcpy(kept, sums->sums, sums->n * sizeof(*kept));
        out->sums = kept;
        out->n_sums = sums->n;
        out->sum_stride = sizeof(*kept);
    }
    return take_meta(op, headers, n_headers, out);
}

void s3_put_take(pst_op *op, const pst_http_reply *reply, uint64_t size, pst_put_result *out)
{
    out->etag = s3_keep_etag(op, s3_header(reply->headers, reply->n_headers, "etag"),
                             &out->etag_strength);
    S3_SET(pst_put_result, out, version,
           s3_keep(op, s3_header(reply->headers, reply->n_headers, "x-amz-version-id")));
    out->size = size;
}
