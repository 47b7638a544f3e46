/* sign.h - AWS Signature Version 4: one signature over one request, in a header or in the query. */
#ifndef PST_S3_SIGN_H
#define PST_S3_SIGN_H

#include <pthread.h>

#include <penstock/services.h>

#include "cred.h"

#define S3_DATE_SIZE 17 /* "20130524T000000Z" and its NUL */

#define S3_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"
#define S3_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define S3_SIGNATURE_SIZE 64 /* digits, no NUL */

/* The key that signs is derived from secret, date, region and service by four HMACs, and good for the
 * day: the last one is kept here. */
struct s3_signer {
    const pst_host *host;
    const pst_crypto_1 *crypto;
    pthread_mutex_t mutex;
    struct {
        uint64_t generation; /* of the identity it belongs to; 0: none */
        char date[9], region[64], service[16];
        uint8_t key[32];
    } locked;
};

struct s3_signing {
    const struct s3_identity *identity;
    const char *date; /* s3_sign_date */
    const char *region, *service;
    pst_str method, path, query; /* as they go out; parameters sorted */
    const pst_kv *headers;       /* those to be signed, sorted, names in lower case */
    size_t n_headers;
    pst_str payload; /* hex of its SHA-256, or UNSIGNED-PAYLOAD */
};

void s3_signer_init(struct s3_signer *signer, const pst_host *host, const pst_crypto_1 *crypto);
void s3_signer_fini(struct s3_signer *signer); /* wipes the key */

/* Bytes of scratch memory that s3_sign and s3_sign_authorization need at most. */
size_t s3_sign_room(const struct s3_signing *in);

/* Write the 64 digits of the signature. `scratch`: s3_sign_room bytes. Errors: those of crypto/1. */
pst_rc s3_sign(struct s3_signer *signer, const struct s3_signing *in, char *scratch,
               char signature[S3_SIGNATURE_SIZE]);

/* Sign, and make the value of the header "authorization" in `scratch`. */
pst_rc s3_sign_authorization(struct s3_signer *signer, const struct s3_signing *in, char *scratch,
                             pst_str *value);

/* Write a time since 1970 as SigV4 wants it, UTC. */
void s3_sign_date(int64_t unix_s, char out[S3_DATE_SIZE]);

/* "AKID/20130524/us-east-1/s3/aws4_request", and "host;range;x-amz-date". Return the end. */
char *s3_sign_credential(char *out, const struct s3_signing *in);
char *s3_sign_names(char *out, const struct s3_signing *in);

#endif
