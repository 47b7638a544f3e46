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

#ifdef __cplusplus
}
#endif
#endif
