/* sign.c - AWS Signature Version 4.
 *
 * A request in canonical form (method, path, query, signed headers, digest of the payload) is hashed;
 * the hash, with date and scope, is authenticated by a key derived from the secret. Here paths and
 * queries come as they go out, encoded once and sorted (S3 alone among the services does not encode
 * twice), so that what is signed is what is sent.
 *
 * The derived key is kept for one identity, day, region and service, so that a request costs one
 * SHA-256 of some 300 bytes and one HMAC. All memory is the caller's.
 *
 * What can fail: crypto/1. Not here: which headers are signed, and the digest of the payload
 * (request.c); signatures of chunks ("aws-chunked"), which are never used. */
#include "sign.h"

#include <string.h>
#include <strings.h>

#include "text.h"
#include "url.h"

static const char algorithm[] = "AWS4-HMAC-SHA256";

void s3_signer_init(struct s3_signer *signer, const pst_host *host, const pst_crypto_1 *crypto)
{
    memset(signer, 0, sizeof(*signer));
    signer->host = host;
    signer->crypto = crypto;
    pthread_mutex_init(&signer->mutex, NULL);
}

void s3_signer_fini(struct s3_signer *signer)
{
    pthread_mutex_destroy(&signer->mutex);
    explicit_bzero(&signer->locked, sizeof(signer->locked));
}

/* ---- forms ------------------------------------------------------------------------------------ */

static void put_digits(char *out, int64_t number, int n)
{
    while (n-- > 0) {
        out[n] = (char)('0' + number % 10);
        number /= 10;
    }
}

/* The date of a day since 1970, after Hinnant: years that begin in March have their leap day at the end,
 * and 400 of them are 146,097 days. gmtime_r takes the lock of the time zones. */
void s3_sign_date(int64_t unix_s, char out[S3_DATE_SIZE])
{
    const int64_t days = unix_s / 86400 + 719468, s = unix_s % 86400; /* of a time since 1970 */
    const int64_t era = days / 146097, of_era = days % 146097;
    const int64_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    const int64_t of_year = of_era - (365 * years + years / 4 - years / 100);
    const int64_t march = (5 * of_year + 2) / 153; /* months since March */
    const int64_t month = march < 10 ? march + 3 : march - 9;

    put_digits(out, years + era * 400 + (month <= 2), 4);
    put_digits(out + 4, month, 2);
    put_digits(out + 6, of_year - (153 * march + 2) / 5 + 1, 2);
    out[8] = 'T';
    put_digits(out + 9, s / 3600, 2);
    put_digits(out + 11, s / 60 % 60, 2);
    put_digits(out + 13, s % 60, 2);
    out[15] = 'Z';
    out[16] = '\0';
}

/* ---- the key ---------------------------------------------------------------------------------- */

static pst_rc derive(const struct s3_signer *signer, const struct s3_signing *in, uint8_t key[32])
{
    const pst_host *host = signer->host;
    const pst_crypto_1 *crypto = signer->crypto;
    const size_t len = strlen(in->identity->secret_key);
    char start[4 + 256];
    uint8_t first[32], second[32];
    pst_rc rc = PST_E_INVALID;

    if (len > sizeof(start) - 4) /* AWS: 40 characters */
        return rc;
    memcpy(start, "AWS4", 4);
    memcpy(start + 4, in->identity->secret_key, len);
    rc = crypto->hmac_sha256(host, start, 4 + len, in->date, 8, first);
    if (rc == PST_OK)
        rc = crypto->hmac_sha256(host, first, 32, in->region, strlen(in->region), second);
    if (rc == PST_OK)
        rc = crypto->hmac_sha256(host, second, 32, in->service, strlen(in->service), first);
    if (rc == PST_OK)
        rc = crypto->hmac_sha256(host, first, 32, "aws4_request", 12, key);
    explicit_bzero(start, sizeof(start));
    explicit_bzero(first, sizeof(first));
    explicit_bzero(second, sizeof(second));
    return rc;
}

static int is_kept_locked(const struct s3_signer *signer, const struct s3_signing *in)
{
    return signer->locked.generation == in->identity->generation &&
           memcmp(signer->locked.date, in->date, 8) == 0 &&
           strcmp(signer->locked.region, in->region) == 0 &&
           strcmp(signer->locked.service, in->service) == 0;
}

static void keep_locked(struct s3_signer *signer, const struct s3_signing *in,
                        const uint8_t key[32])
{
    const size_t n_region = strlen(in->region), n_service = strlen(in->service);

    if (n_region >= sizeof(signer->locked.region) || n_service >= sizeof(signer->locked.service))
        return;
    signer->locked.generation = in->identity->generation;
    memcpy(signer->locked.date, in->date, 8);
    memcpy(signer->locked.region, in->region, n_region + 1);
    memcpy(signer->locked.service, in->service, n_service + 1);
    memcpy(signer->locked.key, key, 32);
}

static pst_rc find_key(struct s3_signer *signer, const struct s3_signing *in, uint8_t key[32])
{
    pthread_mutex_lock(&signer->mutex);
    const int is_kept = in->identity->generation != 0 && is_kept_locked(signer, in);
    if (is_kept)
        memcpy(key, signer->locked.key, 32);
    pthread_mutex_unlock(&signer->mutex);
    if (is_kept)
        return PST_OK;
    const pst_rc rc = derive(signer, in, key);
    if (rc == PST_OK) {
        pthread_mutex_lock(&signer->mutex);
        keep_locked(signer, in, key);
        pthread_mutex_unlock(&signer->mutex);
    }
    return rc;
}

/* ---- the canonical request -------------------------------------------------------------------- */

/* Trimmed, and runs of spaces made one, as the store does it before it compares. */
static char *put_value(char *out, pst_str value)
{
    size_t from = 0, to = value.len;

    if (to == 0)
        return out;
    while (from < to && value.ptr[from] == ' ')
        from++;
    while (to > from && value.ptr[to - 1] == ' ')
        to--;
    if (!memchr(value.ptr + from, ' ', to - from)) /* nearly all of them */
        return s3_write(out, pst_str_of(value.ptr + from, to - from));
    for (size_t i = from; i < to; i++) {
        if (value.ptr[i] != ' ' || value.ptr[i - 1] != ' ')
            *out++ = value.ptr[i];
    }
    return out;
}

char *s3_sign_names(char *out, const struct s3_signing *in)
{
    for (size_t i = 0; i < in->n_headers; i++) {
        if (i > 0)
            *out++ = ';';
        out = s3_write(out, in->headers[i].key);
    }
    return out;
}

static char *put_scope(char *out, const struct s3_signing *in)
{
    out = s3_write(out, pst_str_of(in->date, 8));
    *out++ = '/';
    out = s3_write(out, s3_str(in->region));
    *out++ = '/';
    out = s3_write(out, s3_str(in->service));
    return s3_write(out, PST_STR("/aws4_request"));
}

char *s3_sign_credential(char *out, const struct s3_signing *in)
{
    out = s3_write(out, s3_str(in->identity->access_key));
    *out++ = '/';
    return put_scope(out, in);
}

static size_t put_canonical(char *out, const struct s3_signing *in)
{
    char *at = s3_write(out, in->method);

    *at++ = '\n';
    at = s3_write(at, in->path);
    *at++ = '\n';
    at = s3_write(at, in->query);
    *at++ = '\n';
    for (size_t i = 0; i < in->n_headers; i++) {
        at = s3_write(at, in->headers[i].key);
        *at++ = ':';
        at = put_value(at, in->headers[i].value);
        *at++ = '\n';
    }
    *at++ = '\n';
    at = s3_sign_names(at, in);
    *at++ = '\n';
    at = s3_write(at, in->payload);
    return (size_t)(at - out);
}

size_t s3_sign_room(const struct s3_signing *in)
{
    /* Either the canonical request, or what goes before the signature in the header. */
    size_t n = 512 + in->method.len + in->path.len + in->query.len + in->payload.len +
               strlen(in->identity->access_key) + 2 * strlen(in->region) + 2 * strlen(in->service);

    for (size_t i = 0; i < in->n_headers; i++)
        n += 2 * in->headers[i].key.len + in->headers[i].value.len + 3;
    return n;
}

pst_rc s3_sign(struct s3_signer *signer, const struct s3_signing *in, char *scratch,
               char signature[S3_SIGNATURE_SIZE])
{
    const pst_iov canonical = {scratch, put_canonical(scratch, in)};
    uint8_t key[32], hash[32];
    pst_rc rc = signer->crypto->digest(signer->host, PST_DIGEST_SHA256, &canonical, 1, hash);

    if (rc == PST_OK)
        rc = find_key(signer, in, key);
    if (rc == PST_OK) {
        char *at = s3_write(scratch, PST_STR(algorithm));
        *at++ = '\n';
        at = s3_write(at, pst_str_of(in->date, 16));
        *at++ = '\n';
        at = put_scope(at, in);
        *at++ = '\n';
        at = s3_hex(at, hash, 32);
        rc = signer->crypto->hmac_sha256(signer->host, key, 32, scratch, (size_t)(at - scratch),
                                         hash);
        explicit_bzero(key, sizeof(key));
    }
    if (rc == PST_OK)
        s3_hex(signature, hash, 32);
    return rc;
}

pst_rc s3_sign_authorization(struct s3_signer *signer, const struct s3_signing *in, char *scratch,
                             pst_str *value)
{
    char signature[S3_SIGNATURE_SIZE];
    const pst_rc rc = s3_sign(signer, in, scratch, signature);

    if (rc != PST_OK)
        return rc;
    char *at = s3_write(scratch, PST_STR(algorithm));
    at = s3_write(at, PST_STR(" Credential="));
    at = s3_sign_credential(at, in);
    at = s3_write(at, PST_STR(", SignedHeaders="));
    at = s3_sign_names(at, in);
    at = s3_write(at, PST_STR(", Signature="));
    at = s3_write(at, pst_str_of(signature, sizeof(signature)));
    *value = pst_str_of(scratch, (size_t)(at - scratch));
    return PST_OK;
}
