/* crc32c.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4). */
#ifndef PST_UTIL_CRC32C_H
#define PST_UTIL_CRC32C_H

#include <penstock/sum.h>

/* The three ways to compute it, for tests. `portable` runs everywhere; `sse42` and `isal` return 0
 * and leave *crc alone where they cannot run. */
void pst_crc32c_portable(uint32_t *crc, const void *data, size_t len);
int pst_crc32c_sse42(uint32_t *crc, const void *data, size_t len);
int pst_crc32c_isal(uint32_t *crc, const void *data, size_t len);

#endif
