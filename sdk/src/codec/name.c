#include "codec/name.h"

#include <string.h>

#include <penstock/object.h>

#include "core/error.h"

int pst_key_is_zstd(pst_str key)
{
    static const char suffix[] = ".zst";
    const size_t n = sizeof(suffix) - 1;
    return key.len > n && memcmp(key.ptr + key.len - n, suffix, n) == 0 &&
           key.ptr[key.len - n - 1] != '/';
}

pst_rc pst_decode_wanted(uint32_t decode, pst_str key, int *is_wanted, pst_error *err)
{
    *is_wanted = decode == PST_DECODE_ZSTD ||
                 (decode == PST_DECODE_BY_NAME && pst_key_is_zstd(key));
    if (decode > PST_DECODE_ZSTD)
        return pst_fail(err, PST_E_INVALID, "decode is %u: no PST_DECODE_* has that number",
                        decode);
    return PST_OK;
}
