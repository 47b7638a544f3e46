/* crypto.c - digests, HMAC and signatures for plugins that sign their requests.
 *
 * Looking an algorithm up by name costs OpenSSL 3 about 5 us, an HMAC through its own interface 0.9 to
 * 1.7 us: more than the hashing itself, which is 0.15 us for a short text. So the digests are fetched once
 * and kept, and HMAC is put together from two digests over one context (RFC 2104): 0.4 us.
 *
 * Everything is stateless for the caller: no handle, any thread, nothing to free. The algorithms fetched
 * stay for the life of the process; they are plain memory, good in a fork child as well. OpenSSL's own
 * handler at exit is turned off, since threads of ours may still use what it would free.
 *
 * A private key is parsed for each signature. That is a small part of what an RSA signature costs, and
 * tokens are signed once an hour. Keys, and digests of them, are wiped; messages say what is wrong with a
 * key and never show a part of it. Encrypted keys are refused: OpenSSL would ask on the terminal. */
#include "net/crypto.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

enum { SHA256_BYTES = 32, SHA256_BLOCK_BYTES = 64, P256_BYTES = 32 };

/* ---- setting up -------------------------------------------------------------------------------- */

static pst_rc fail(pst_error *err, pst_rc rc, const char *text)
{
    ERR_clear_error();
    if (err && PST_HAS(pst_error, err, message)) {
        err->code = rc;
        snprintf(err->message, sizeof(err->message), "%s", text);
    }
    return rc;
}

pst_rc pst_crypto_setup(pst_error *err)
{
    if (!OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL))
        return fail(err, PST_E_INTERNAL, "OpenSSL cannot be set up");
    return PST_OK;
}

static const char *const digest_names[] = {
    [PST_DIGEST_SHA256] = "SHA256",
    [PST_DIGEST_SHA1] = "SHA1",
    [PST_DIGEST_MD5] = "MD5",
};

#define DIGESTS_END (sizeof(digest_names) / sizeof(digest_names[0]))

/* The algorithm, fetched on first use; threads that race for it keep the first one. NULL where this OpenSSL
 * does not have it. */
static const EVP_MD *find_digest(uint32_t algorithm)
{
    static _Atomic(EVP_MD *) found[DIGESTS_END];
    EVP_MD *md = atomic_load_explicit(&found[algorithm], memory_order_acquire), *none = NULL;
    if (md)
        return md;
    if (pst_crypto_setup(NULL) != PST_OK)
        return NULL;
    md = EVP_MD_fetch(NULL, digest_names[algorithm], NULL);
    if (!md) {
        ERR_clear_error();
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&found[algorithm], &none, md)) {
        EVP_MD_free(md);
        md = none;
    }
    return md;
}

/* ---- digests ----------------------------------------------------------------------------------- */

static pst_rc digest(const pst_host *host, uint32_t algorithm, const pst_iov *data, size_t n,
                     uint8_t *out)
{
    (void)host;
    if (algorithm == 0 || algorithm >= DIGESTS_END)
        return PST_E_INVALID;
    const EVP_MD *md = find_digest(algorithm);
    if (!md)
        return PST_E_UNIMPLEMENTED;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int is_good = ctx && EVP_DigestInit_ex2(ctx, md, NULL);
    for (size_t i = 0; i < n && is_good; i++)
        is_good = EVP_DigestUpdate(ctx, data[i].ptr, data[i].len);
    is_good = is_good && EVP_DigestFinal_ex(ctx, out, NULL);
    EVP_MD_CTX_free(ctx);
    return is_good ? (pst_rc)PST_OK : fail(NULL, PST_E_NO_MEMORY, "");
}

/* One of the two digests of an HMAC: of the key, padded and masked, and `len` bytes. */
static int digest_masked(EVP_MD_CTX *ctx, const EVP_MD *md, uint8_t *block, uint8_t mask,
                         const void *data, size_t len, uint8_t *out)
{
    for (int i = 0; i < SHA256_BLOCK_BYTES; i++)
        block[i] ^= mask;
    return EVP_DigestInit_ex2(ctx, md, NULL) && EVP_DigestUpdate(ctx, block, SHA256_BLOCK_BYTES) &&
           EVP_DigestUpdate(ctx, data, len) && EVP_DigestFinal_ex(ctx, out, NULL);
}

static pst_rc hmac_sha256(const pst_host *host, const void *key, size_t key_len, const void *data,
                          size_t len, uint8_t out[32])
{
    uint8_t block[SHA256_BLOCK_BYTES] = {0}, inner[SHA256_BYTES];
    const EVP_MD *md = find_digest(PST_DIGEST_SHA256);
    EVP_MD_CTX *ctx = md ? EVP_MD_CTX_new() : NULL;
    int is_good = ctx != NULL;
    (void)host;
    if (!md)
        return PST_E_UNIMPLEMENTED;
    if (is_good && key_len > sizeof(block))
        is_good = EVP_DigestInit_ex2(ctx, md, NULL) && EVP_DigestUpdate(ctx, key, key_len) &&
                  EVP_DigestFinal_ex(ctx, block, NULL);
    else if (key_len > 0)
        memcpy(block, key, key_len);
    is_good = is_good && digest_masked(ctx, md, block, 0x36, data, len, inner) &&
              digest_masked(ctx, md, block, 0x36 ^ 0x5c, inner, sizeof(inner), out);
    OPENSSL_cleanse(block, sizeof(block));
    OPENSSL_cleanse(inner, sizeof(inner));
    EVP_MD_CTX_free(ctx); /* wipes what it holds */
    return is_good ? (pst_rc)PST_OK : fail(NULL, PST_E_NO_MEMORY, "");
}

/* ---- signatures -------------------------------------------------------------------------------- */

/* Called for an encrypted key: there is no password. */
static int refuse_password(char *out, int size, int is_writing, void *arg)
{
    int *was_asked = arg;
    (void)out;
    (void)size;
    (void)is_writing;
    *was_asked = 1;
    return -1;
}

static pst_rc read_key(pst_str text, EVP_PKEY **out, pst_error *err)
{
    int was_asked = 0;
    if (text.len == 0 || text.len > 65536)
        return fail(err, PST_E_INVALID, "private key: it is empty, or longer than 64 KiB");
    BIO *bio = BIO_new_mem_buf(text.ptr, (int)text.len);
    *out = bio ? PEM_read_bio_PrivateKey(bio, NULL, refuse_password, &was_asked) : NULL;
    BIO_free(bio);
    if (*out)
        return PST_OK;
    if (!bio)
        return fail(err, PST_E_NO_MEMORY, "out of memory");
    return fail(err, PST_E_INVALID,
                was_asked ? "private key: it is encrypted; one without a password is needed"
                          : "private key: not a PEM text that holds a private key");
}

static pst_rc check_key(EVP_PKEY *key, uint32_t scheme, pst_error *err)
{
    char group[64] = "";
    if (scheme == PST_SIGN_RS256 && !EVP_PKEY_is_a(key, "RSA"))
        return fail(err, PST_E_INVALID,
                    "private key: RS256 needs an RSA key, this is another kind");
    if (scheme != PST_SIGN_ES256)
        return PST_OK;
    if (!EVP_PKEY_is_a(key, "EC"))
        return fail(err, PST_E_INVALID, "private key: ES256 needs an EC key, this is another kind");
    if (!EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) ||
        (strcmp(group, "prime256v1") != 0 && strcmp(group, "P-256") != 0))
        return fail(err, PST_E_INVALID,
                    "private key: ES256 needs an EC key on P-256, this is on another curve");
    return PST_OK;
}

/* DER to the two numbers, 32 bytes each. */
static int unpack_ecdsa(const uint8_t *der, size_t len, uint8_t *out)
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)len);
    int is_good = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, P256_BYTES) == P256_BYTES &&
                  BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + P256_BYTES, P256_BYTES) == P256_BYTES;
    ECDSA_SIG_free(sig);
    return is_good;
}

static int run_sign(EVP_PKEY *key, const void *data, size_t data_len, uint8_t *out, size_t *len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int is_good = ctx && EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, key, NULL) &&
                  EVP_DigestSign(ctx, out, len, data, data_len);
    EVP_MD_CTX_free(ctx);
    return is_good;
}

static pst_rc sign(const pst_host *host, uint32_t scheme, pst_str key_text, const void *data,
                   size_t data_len, uint8_t *out, size_t *len, pst_error *err)
{
    EVP_PKEY *key = NULL;
    uint8_t der[128];
    size_t size = 0;
    pst_rc rc;
    (void)host;
    if (scheme != PST_SIGN_RS256 && scheme != PST_SIGN_ES256)
        return fail(err, PST_E_INVALID, "signature: not a scheme that is known");
    rc = pst_crypto_setup(err);
    if (rc == PST_OK)
        rc = read_key(key_text, &key, err);
    if (rc == PST_OK)
        rc = check_key(key, scheme, err);
    if (rc != PST_OK)
        goto out;
    size = scheme == PST_SIGN_RS256 ? (size_t)EVP_PKEY_get_size(key) : 2 * (size_t)P256_BYTES;
    if (*len < size) {
        rc = fail(err, PST_E_INVALID, "signature: there is too little room for it");
        goto out;
    }
    int is_good;
    if (scheme == PST_SIGN_RS256) {
        is_good = run_sign(key, data, data_len, out, &size);
    } else {
        size_t der_len = sizeof(der);
        is_good = run_sign(key, data, data_len, der, &der_len) && unpack_ecdsa(der, der_len, out);
    }
    *len = is_good ? size : 0;
    rc = is_good ? (pst_rc)PST_OK
                 : fail(err, PST_E_INVALID, "private key: it cannot sign, its numbers are wrong");
out:
    EVP_PKEY_free(key);
    return rc;
}

/* OpenSSL's generator seeds itself anew in a fork child. */
static pst_rc fill_random(const pst_host *host, void *out, size_t len)
{
    unsigned char *at = out;
    (void)host;
    if (pst_crypto_setup(NULL) != PST_OK)
        return PST_E_INTERNAL;
    while (len > 0) {
        int n = len < (1 << 20) ? (int)len : 1 << 20;
        if (RAND_bytes(at, n) != 1)
            return fail(NULL, PST_E_INTERNAL, "");
        at += n;
        len -= (size_t)n;
    }
    return PST_OK;
}

const pst_crypto_1 pst_crypto_service = {
    .struct_size = sizeof(pst_crypto_1),
    .digest = digest,
    .hmac_sha256 = hmac_sha256,
    .sign = sign,
    .random = fill_random,
};
