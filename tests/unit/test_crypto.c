/* crypto/1 against the vectors of the standards, and its signatures against OpenSSL's verification. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <penstock/plugins.h>

#include "net/crypto.h"
#include "scratch.h"

static const pst_crypto_1 *const crypto = &pst_crypto_service;

static const char *hex(const uint8_t *bytes, size_t n)
{
    static char text[129];
    for (size_t i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return text;
}

static const char *digest_of(uint32_t algorithm, const char *text, size_t n)
{
    static const size_t sizes[] = {0, 32, 20, 16};
    uint8_t out[32];
    pst_iov halves[2] = {{NULL, n / 2}, {NULL, n - n / 2}};
    char *copy = malloc(n + 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    halves[0].ptr = copy;
    halves[1].ptr = copy + n / 2;
    assert_int_equal(crypto->digest(NULL, algorithm, halves, 2, out), PST_OK);
    free(copy);
    return hex(out, sizes[algorithm]);
}

/* FIPS 180-4, RFC 3174, RFC 1321 */
static void test_crypto__digests_are_those_of_the_standards(void **state)
{
    uint8_t out[32];
    (void)state;
    assert_string_equal(digest_of(PST_DIGEST_SHA256, "abc", 3),
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_string_equal(digest_of(PST_DIGEST_SHA256,
                                  "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56),
                        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    assert_string_equal(digest_of(PST_DIGEST_SHA1, "abc", 3),
                        "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_string_equal(digest_of(PST_DIGEST_MD5, "message digest", 14),
                        "f96b697d7cb7938d525a2f31aaf161d0");
    assert_int_equal(crypto->digest(NULL, PST_DIGEST_SHA256, NULL, 0, out), PST_OK);
    assert_string_equal(hex(out, 32),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void test_crypto__an_unknown_digest_is_invalid(void **state)
{
    uint8_t out[32];
    (void)state;
    assert_int_equal(crypto->digest(NULL, 0, NULL, 0, out), PST_E_INVALID);
    assert_int_equal(crypto->digest(NULL, 4, NULL, 0, out), PST_E_INVALID);
}

/* RFC 4231, the cases with whole outputs */
static void test_crypto__hmac_is_that_of_rfc_4231(void **state)
{
    static const char jefe[] = "what do ya want for nothing?";
    static const char long_key[] = "Test Using Larger Than Block-Size Key - Hash Key First";
    static const char long_data[] =
        "This is a test using a larger than block-size key and a larger than block-size data. The "
        "key needs to be hashed before being used by the HMAC algorithm.";
    uint8_t key[131], data[50], counted[25], out[32];
    (void)state;
    memset(key, 0x0b, 20);
    assert_int_equal(crypto->hmac_sha256(NULL, key, 20, "Hi There", 8, out), PST_OK);
    assert_string_equal(hex(out, 32),
                        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    assert_int_equal(crypto->hmac_sha256(NULL, "Jefe", 4, jefe, 28, out), PST_OK);
    assert_string_equal(hex(out, 32),
                        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof(key));
    memset(data, 0xdd, sizeof(data));
    assert_int_equal(crypto->hmac_sha256(NULL, key, 20, data, 50, out), PST_OK);
    assert_string_equal(hex(out, 32),
                        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    for (size_t i = 0; i < sizeof(counted); i++)
        counted[i] = (uint8_t)(i + 1);
    memset(data, 0xcd, sizeof(data));
    assert_int_equal(crypto->hmac_sha256(NULL, counted, 25, data, 50, out), PST_OK);
    assert_string_equal(hex(out, 32),
                        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    assert_int_equal(crypto->hmac_sha256(NULL, key, 131, long_key, 54, out), PST_OK);
    assert_string_equal(hex(out, 32),
                        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    assert_int_equal(crypto->hmac_sha256(NULL, key, 131, long_data, 152, out), PST_OK);
    assert_string_equal(hex(out, 32),
                        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

static void test_crypto__hmac_takes_an_empty_key_and_an_empty_text(void **state)
{
    uint8_t out[32];
    (void)state;
    assert_int_equal(crypto->hmac_sha256(NULL, NULL, 0, NULL, 0, out), PST_OK);
    assert_string_equal(hex(out, 32),
                        "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* ---- signatures -------------------------------------------------------------------------------- */

#define TEXT "what is signed"

/* `key` as PEM, PKCS#8 or the older form, encrypted with a password if one is given. */
static pst_str pem_of(EVP_PKEY *key, int is_old, const char *password)
{
    static char text[8192];
    BIO *bio = BIO_new(BIO_s_mem());
    const EVP_CIPHER *cipher = password ? EVP_aes_128_cbc() : NULL;
    int n = password ? (int)strlen(password) : 0;
    if (is_old)
        assert_int_equal(PEM_write_bio_PrivateKey_traditional(bio, key, cipher, NULL, 0, NULL,
                                                              password ? (void *)"secret" : NULL),
                         1);
    else
        assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, key, cipher, password, n, NULL, NULL),
                         1);
    int len = BIO_read(bio, text, sizeof(text));
    assert_true(len > 0);
    BIO_free(bio);
    return pst_str_of(text, (size_t)len);
}

static int verifies(EVP_PKEY *key, const uint8_t *sig, size_t len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key), 1);
    int is_good = EVP_DigestVerify(ctx, sig, len, (const uint8_t *)TEXT, sizeof(TEXT) - 1) == 1;
    EVP_MD_CTX_free(ctx);
    return is_good;
}

static void test_crypto__rs256_verifies_with_keys_of_either_form(void **state)
{
    EVP_PKEY *key = EVP_RSA_gen(2048);
    uint8_t sig[512];
    (void)state;
    for (int is_old = 0; is_old < 2; is_old++) {
        pst_error err = PST_ERROR_INIT;
        size_t len = sizeof(sig);
        assert_int_equal(crypto->sign(NULL, PST_SIGN_RS256, pem_of(key, is_old, NULL), TEXT,
                                      sizeof(TEXT) - 1, sig, &len, &err),
                         PST_OK);
        assert_int_equal(len, 256);
        assert_true(verifies(key, sig, len));
    }
    EVP_PKEY_free(key);
}

static void test_crypto__es256_is_two_numbers_of_32_bytes_that_verify(void **state)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    (void)state;
    for (int i = 0; i < 64; i++) { /* one in 128 has a number that begins with a zero byte */
        pst_error err = PST_ERROR_INIT;
        uint8_t raw[64], *der = NULL;
        size_t len = sizeof(raw);
        assert_int_equal(crypto->sign(NULL, PST_SIGN_ES256, pem_of(key, i % 2, NULL), TEXT,
                                      sizeof(TEXT) - 1, raw, &len, &err),
                         PST_OK);
        assert_int_equal(len, 64);
        ECDSA_SIG *sig = ECDSA_SIG_new();
        ECDSA_SIG_set0(sig, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL));
        int der_len = i2d_ECDSA_SIG(sig, &der);
        assert_true(verifies(key, der, (size_t)der_len));
        OPENSSL_free(der);
        ECDSA_SIG_free(sig);
    }
    EVP_PKEY_free(key);
}

static void expect_refusal(uint32_t scheme, pst_str key, size_t room, const char *why)
{
    pst_error err = PST_ERROR_INIT;
    uint8_t sig[512];
    assert_int_equal(crypto->sign(NULL, scheme, key, TEXT, sizeof(TEXT) - 1, sig, &room, &err),
                     PST_E_INVALID);
    assert_int_equal(err.code, PST_E_INVALID);
    if (!strstr(err.message, why))
        fail_msg("'%s' does not say '%s'", err.message, why);
}

static void test_crypto__what_is_wrong_with_a_key_is_said_and_no_part_of_it(void **state)
{
    EVP_PKEY *rsa = EVP_RSA_gen(2048), *p256 = EVP_EC_gen("P-256"), *p384 = EVP_EC_gen("P-384");
    (void)state;
    expect_refusal(PST_SIGN_ES256, pem_of(rsa, 0, NULL), 512, "ES256 needs an EC key");
    expect_refusal(PST_SIGN_RS256, pem_of(p256, 0, NULL), 512, "RS256 needs an RSA key");
    expect_refusal(PST_SIGN_ES256, pem_of(p384, 0, NULL), 512, "on P-256");
    expect_refusal(PST_SIGN_RS256, pem_of(rsa, 0, NULL), 255, "too little room");
    expect_refusal(PST_SIGN_ES256, pem_of(p256, 0, NULL), 63, "too little room");
    expect_refusal(PST_SIGN_RS256, pem_of(rsa, 0, "secret"), 512, "encrypted");
    expect_refusal(PST_SIGN_RS256, pem_of(rsa, 1, "secret"), 512, "encrypted");
    expect_refusal(PST_SIGN_RS256, (pst_str){NULL, 0}, 512, "empty");
    expect_refusal(PST_SIGN_RS256, PST_STR("hunter2"), 512, "not a PEM text");
    expect_refusal(7, pem_of(rsa, 0, NULL), 512, "not a scheme");
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(p256);
    EVP_PKEY_free(p384);
}

static void test_crypto__random_bytes_differ_and_fill_all_of_the_room(void **state)
{
    static uint8_t a[4 << 20], b[64];
    uint8_t last[64] = {0};
    (void)state;
    assert_int_equal(crypto->random(NULL, a, sizeof(a)), PST_OK);
    assert_int_equal(crypto->random(NULL, b, sizeof(b)), PST_OK);
    assert_memory_not_equal(a, b, sizeof(b));
    assert_memory_not_equal(a + sizeof(a) - sizeof(last), last, sizeof(last));
    assert_int_equal(crypto->random(NULL, NULL, 0), PST_OK);
}

/* ---- linked in ---------------------------------------------------------------------------------- */

/* This program has both archives: the services are its own, and nothing is mapped. */
static void test_crypto__is_found_where_the_library_is_linked_in(void **state)
{
    static const pst_host host = {.struct_size = sizeof(host)};
    pst_services *services = NULL;
    (void)state;
    assert_int_equal(pst_services_new(&host, &services, NULL), PST_OK);
    assert_ptr_equal(pst_services_find(services, "crypto/1"), &pst_crypto_service);
    assert_false(scratch_is_mapped("penstock-net"));
    pst_services_free(services);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crypto__digests_are_those_of_the_standards),
        cmocka_unit_test(test_crypto__an_unknown_digest_is_invalid),
        cmocka_unit_test(test_crypto__hmac_is_that_of_rfc_4231),
        cmocka_unit_test(test_crypto__hmac_takes_an_empty_key_and_an_empty_text),
        cmocka_unit_test(test_crypto__rs256_verifies_with_keys_of_either_form),
        cmocka_unit_test(test_crypto__es256_is_two_numbers_of_32_bytes_that_verify),
        cmocka_unit_test(test_crypto__what_is_wrong_with_a_key_is_said_and_no_part_of_it),
        cmocka_unit_test(test_crypto__random_bytes_differ_and_fill_all_of_the_room),
        cmocka_unit_test(test_crypto__is_found_where_the_library_is_linked_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
