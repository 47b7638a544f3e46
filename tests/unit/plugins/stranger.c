/* What some programs show to everybody: functions of the names of libzstd's and OpenSSL's, that are not
 * those. Whoever calls one has been bound to the wrong file. */
#include <stdlib.h>

size_t ZSTD_freeCDict(void *dict);
int EVP_DigestInit_ex(void *context, const void *type, void *engine);
int EVP_DigestInit_ex2(void *context, const void *type, const void *parameters);
void *SSL_new(void *context);

size_t ZSTD_freeCDict(void *dict)
{
    (void)dict;
    abort();
}

int EVP_DigestInit_ex(void *context, const void *type, void *engine)
{
    (void)context;
    (void)type;
    (void)engine;
    abort();
}

int EVP_DigestInit_ex2(void *context, const void *type, const void *parameters)
{
    (void)context;
    (void)type;
    (void)parameters;
    abort();
}

void *SSL_new(void *context)
{
    (void)context;
    abort();
}
