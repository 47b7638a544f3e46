/* sum.h - the checksum that Penstock keeps beside objects, for hosts that compare bytes with it. */
#ifndef PENSTOCK_SUM_H
#define PENSTOCK_SUM_H

#include <penstock/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Continue the CRC-32C `crc` (0 at the start) over `len` more bytes: of "123456789" it is
 * 0xe3069283. A pst_sum holds it in big-endian bytes. Threads: any. */
PST_API uint32_t pst_crc32c(uint32_t crc, const void *data, size_t len);

/* The CRC-32C of A followed by B, from that of each and the length of B. */
PST_API uint32_t pst_crc32c_combine(uint32_t a, uint32_t b, uint64_t len_b);

#define PST_CRC32C_TEXT_SIZE 16u /* "crc32c:e3069283" and its NUL */

/* Write the CRC as text. Returns `out`. */
PST_API char *pst_crc32c_text(uint32_t crc, char out[PST_CRC32C_TEXT_SIZE]);

/* Read such a text, with or without "crc32c:", digits of either case. Returns 1, or 0 if it is not. */
PST_API int pst_crc32c_parse(pst_str text, uint32_t *crc);

#ifdef __cplusplus
}
#endif
#endif
