/* crypto.h - the service crypto/1: what signing needs, by OpenSSL. */
#ifndef PST_NET_CRYPTO_H
#define PST_NET_CRYPTO_H

#include <penstock/services.h>

/* Before anything else uses OpenSSL or libcurl: no handler of theirs may run at exit, while loops still
 * do. May be repeated, from any thread. Errors: INTERNAL when OpenSSL cannot be set up. */
pst_rc pst_crypto_setup(pst_error *err);

/* The table. Its functions set up by themselves. */
extern const pst_crypto_1 pst_crypto_service;

#endif
