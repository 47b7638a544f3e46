#include "codec/frame.h"

#include <string.h>

#define IS_SINGLE_SEGMENT 0x20u

static const unsigned char frame_magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
static const unsigned char skippable_magic[4] = {0x50, 0x2a, 0x4d, 0x18}; /* low nibble: anything */

int pst_frame_is_start(const void *data, size_t len)
{
    const unsigned char *p = data;
    size_t n = len < sizeof(frame_magic) ? len : sizeof(frame_magic);
    if (memcmp(p, frame_magic, n) == 0)
        return 1;
    return (p[0] & 0xf0u) == skippable_magic[0] && memcmp(p + 1, skippable_magic + 1, n - 1) == 0;
}

static uint64_t little_endian(const unsigned char *p, size_t n)
{
    uint64_t value = 0;
    while (n-- > 0)
        value = value << 8 | p[n];
    return value;
}

uint64_t pst_frame_window(const void *head, size_t len)
{
    const unsigned char *p = head;
    if (len < 6 || memcmp(p, frame_magic, sizeof(frame_magic)) != 0)
        return 0;
    if (!(p[4] & IS_SINGLE_SEGMENT)) {
        uint64_t base = (uint64_t)1 << (10 + (p[5] >> 3));
        return base + base / 8 * (p[5] & 7u);
    }
    /* The whole content is the window. */
    static const size_t id_bytes[4] = {0, 1, 2, 4}, size_bytes[4] = {1, 2, 4, 8};
    size_t at = 5 + id_bytes[p[4] & 3u], n = size_bytes[p[4] >> 6];
    if (len < at + n)
        return 0;
    return little_endian(p + at, n) + (n == 2 ? 256 : 0);
}
