/* name.h - which reads decompress. */
#ifndef PST_CODEC_NAME_H
#define PST_CODEC_NAME_H

#include <penstock/status.h>

/* Does a read of `key` with this PST_DECODE_* deliver the content of zstd frames?
 * Errors: INVALID for another number. */
pst_rc pst_decode_wanted(uint32_t decode, pst_str key, int *is_wanted, pst_error *err);

#endif
