/* crc64nvme.h - CRC-64/NVME (NVM Express, NVM Command Set specification: the 64-bit CRC). */
#ifndef PST_UTIL_CRC64NVME_H
#define PST_UTIL_CRC64NVME_H

#include <stddef.h>
#include <stdint.h>

/* Continue the CRC (0 at the start) over `len` more bytes: of "123456789" it is 0xae8b14860a799888. */
uint64_t pst_crc64nvme(uint64_t crc, const void *data, size_t len);

/* The CRC of A followed by B, from that of each and the length of B. */
uint64_t pst_crc64nvme_combine(uint64_t a, uint64_t b, uint64_t len_b);

/* The two ways to compute it, for tests. `portable` runs everywhere; `pclmul` returns 0 and leaves *crc
 * alone where it cannot run. */
void pst_crc64nvme_portable(uint64_t *crc, const void *data, size_t len);
int pst_crc64nvme_pclmul(uint64_t *crc, const void *data, size_t len);

#endif
