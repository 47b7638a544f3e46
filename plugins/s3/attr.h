/* attr.h - attributes, checksums and encryption as header fields, in both directions. */
#ifndef PST_S3_ATTR_H
#define PST_S3_ATTR_H

#include "s3.h"

#define S3_KEY_MAX 1024u /* bytes */

/* A member that an older host's struct may lack: empty then, or not written. */
#define S3_GET(type, p, member) (PST_HAS(type, p, member) ? (p)->member : pst_str_of(NULL, 0))
#define S3_SET(type, p, member, value)                                                             \
    do {                                                                                           \
        if (PST_HAS(type, p, member))                                                              \
            (p)->member = (value);                                                                 \
    } while (0)

/* Is there a bucket to ask? INVALID, in op->err too, in a store of the service itself (s3://), whose path
 * would begin with the key: "s3:///name" would make, tell of and remove the bucket of that name. */
pst_rc s3_bucket_check(const pst_backend *store, pst_op *op);

/* The same, and can S3 hold this key at all? INVALID too: empty, over 1,024 bytes, not UTF-8, a NUL. */
pst_rc s3_key_check(const pst_backend *store, pst_op *op, pst_str key);

/* A copy in the operation's memory; {NULL, 0} for lack of it and for nothing. */
pst_str s3_keep(pst_op *op, pst_str text);

/* What names the content, in the form that if-match takes: quoted. In the operation's memory. */
pst_str s3_keep_etag(pst_op *op, pst_str etag, uint32_t *strength);

/* The same into `out`: etag.len + 2 bytes. */
pst_str s3_write_etag(char *out, pst_str etag, uint32_t *strength);

/* ---- to the store ----------------------------------------------------------------------------- */

/* Content type and the like, user metadata, tags. INVALID, in op->err too: what no header can carry. */
pst_rc s3_attr_send(struct s3_request *request, const pst_attr *attr);

/* What the store's options add to every new object: storage class (that of `attr` wins), ACL,
 * encryption. */
void s3_new_object_send(struct s3_request *request, const pst_attr *attr);

/* One checksum of the list, the one that the store is configured for if it is there; MD5 as
 * Content-MD5. SHA-256 also becomes the payload's hash, which the signature covers. */
void s3_sums_send(struct s3_request *request, const pst_sum *sums, uint32_t n, size_t stride);

/* That one alone; nothing where it is NULL. */
void s3_sum_send(struct s3_request *request, const pst_sum *sum);

/* The same of a part, in an upload that was opened for `algorithm` (0: for none, and takes none). */
void s3_part_sums_send(struct s3_request *request, uint32_t algorithm, const pst_sum *sums,
                       uint32_t n, size_t stride);

/* The sum of that algorithm in a list, NULL if there is none. */
const pst_sum *s3_sum_find(const pst_sum *sums, uint32_t n, size_t stride, uint32_t algorithm);

const char *s3_sum_name(uint32_t algorithm); /* "CRC32C"; NULL: S3 has none */
uint32_t s3_sum_bytes(uint32_t algorithm);

/* ---- from the store --------------------------------------------------------------------------- */

#define S3_SUMS_MAX 3u
struct s3_sums {
    pst_sum sums[S3_SUMS_MAX]; /* over the whole object */
    uint32_t n;
    uint32_t is_composite; /* there is a checksum, but one of the parts' checksums */
};

void s3_sums_take(const pst_kv *headers, size_t n_headers, struct s3_sums *out);

/* One checksum from its base64; 0 when it is none of that algorithm. */
int s3_sum_parse(uint32_t algorithm, pst_str text, pst_sum *out);

/* Is the reply about the version that was asked for? Stores that know none send what they have. */
int s3_is_version(pst_str wanted, const pst_kv *headers, size_t n_headers);

/* Everything that the reply to HEAD tells. Returns 0 for lack of memory. */
int s3_attr_take(pst_op *op, const pst_kv *headers, size_t n_headers, pst_attr *out,
                 struct s3_sums *sums);

/* etag, version of a reply to a write. */
void s3_put_take(pst_op *op, const pst_http_reply *reply, uint64_t size, pst_put_result *out);

#endif
