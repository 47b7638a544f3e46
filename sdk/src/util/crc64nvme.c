/* CRC-64/NVME two ways: polynomial 0xad93d23594c93659, bits reflected, inverted at both ends.
 *
 * Where the processor multiplies without carry (PCLMULQDQ), eight accumulators of 128 bits run over the
 * input side by side: multiplying one by x^1024 modulo the polynomial carries it over the next 128 bytes,
 * and the two 64-bit halves do so with one instruction each. At the end they are folded into one, which is
 * sixteen bytes that have the CRC of everything before. Short inputs, what is left over and all other
 * machines use a table of nibbles, as crc32c.c does.
 *
 * Registers hold polynomials reflected: bit i of a 64-bit half is the coefficient of x^(63-i). The
 * product of two such halves stands one bit too low in its register, so the constant for x^n is
 * x^(n-1) mod P. Nothing here can fail. */
#include "util/crc64nvme.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { FOLD_MIN_BYTES = 256, STRIDE_BYTES = 128 };

#define POLYNOMIAL 0x9a6c9329ac4bc9b5u /* reflected */

/* nibble_crc[k][v]: what nibble v, k nibbles into a 64-bit little-endian word, adds to the CRC once
 * the whole word has been shifted through. */
static const uint64_t nibble_crc[16][16] = {
    {0x0000000000000000, 0x21e9761e252621ac, 0x43d2ec3c4a4c4358, 0x623b9a226f6a62f4,
     0x87a5d878949886b0, 0xa64cae66b1bea71c, 0xc4773444ded4c5e8, 0xe59e425afbf2e444,
     0x3b9296a271a69e0b, 0x1a7be0bc5480bfa7, 0x78407a9e3beadd53, 0x59a90c801eccfcff,
     0xbc374edae53e18bb, 0x9dde38c4c0183917, 0xffe5a2e6af725be3, 0xde0cd4f88a547a4f},
    {0x0000000000000000, 0x77252d44e34d3c16, 0xee4a5a89c69a782c, 0x996f77cd25d7443a,
     0xe84d9340d5a36333, 0x9f68be0436ee5f25, 0x0607c9c913391b1f, 0x7122e48df0742709,
     0xe44200d2f3d1550d, 0x93672d96109c691b, 0x0a085a5b354b2d21, 0x7d2d771fd6061137,
     0x0c0f93922672363e, 0x7b2abed6c53f0a28, 0xe245c91be0e84e12, 0x9560e45f03a57204},
    {0x0000000000000000, 0xfc5d27f6bf353971, 0xcc6369be26fde189, 0x303e4e4899c8d8f8,
     0xac1ff52f156c5079, 0x5042d2d9aa596908, 0x607c9c913391b1f0, 0x9c21bb678ca48881,
     0x6ce6cc0d724f3399, 0x90bbebfbcd7a0ae8, 0xa085a5b354b2d210, 0x5cd88245eb87eb61,
     0xc0f93922672363e0, 0x3ca41ed4d8165a91, 0x0c9a509c41de8269, 0xf0c7776afeebbb18},
    {0x0000000000000000, 0xd9cd981ae49e6732, 0x8742166691ab5d0f, 0x5e8f8e7c75353a3d,
     0x3a5d0a9e7bc12975, 0xe39092849f5f4e47, 0xbd1f1cf8ea6a747a, 0x64d284e20ef41348,
     0x74ba153cf78252ea, 0xad778d26131c35d8, 0xf3f8035a66290fe5, 0x2a359b4082b768d7,
     0x4ee71fa28c437b9f, 0x972a87b868dd1cad, 0xc9a509c41de82690, 0x106891def97641a2},
    {0x0000000000000000, 0xe9742a79ef04a5d4, 0xe63172a0869ed8c3, 0x0f4558d9699a7d17,
     0xf8bbc31255aa22ed, 0x11cfe96bbaae8739, 0x1e8ab1b2d334fa2e, 0xf7fe9bcb3c305ffa,
     0xc5aea077f3c3d6b1, 0x2cda8a0e1cc77365, 0x239fd2d7755d0e72, 0xcaebf8ae9a59aba6,
     0x3d156365a669f45c, 0xd461491c496d5188, 0xdb2411c520f72c9f, 0x32503bbccff3894b},
    {0x0000000000000000, 0xbf8466bcbf103e09, 0x4bd1eb2a26b7ef79, 0xf4558d9699a7d170,
     0x97a3d6544d6fdef2, 0x2827b0e8f27fe0fb, 0xdc723d7e6bd8318b, 0x63f65bc2d4c80f82,
     0x1b9e8afbc2482e8f, 0xa41aec477d581086, 0x504f61d1e4ffc1f6, 0xefcb076d5befffff,
     0x8c3d5caf8f27f07d, 0x33b93a133037ce74, 0xc7ecb785a9901f04, 0x7868d1391680210d},
    {0x0000000000000000, 0x373d15f784905d1e, 0x6e7a2bef0920ba3c, 0x59473e188db0e722,
     0xdcf457de12417478, 0xebc9422996d12966, 0xb28e7c311b61ce44, 0x85b369c69ff1935a,
     0x8d3189ef7c157b9b, 0xba0c9c18f8852685, 0xe34ba2007535c1a7, 0xd476b7f7f1a59cb9,
     0x51c5de316e540fe3, 0x66f8cbc6eac452fd, 0x3fbff5de6774b5df, 0x0882e029e3e4e8c1},
    {0x0000000000000000, 0x2eba358da0bd645d, 0x5d746b1b417ac8ba, 0x73ce5e96e1c7ace7,
     0xbae8d63682f59174, 0x9452e3bb2248f529, 0xe79cbd2dc38f59ce, 0xc92688a063323d93,
     0x41088a3e5d7cb183, 0x6fb2bfb3fdc1d5de, 0x1c7ce1251c067939, 0x32c6d4a8bcbb1d64,
     0xfbe05c08df8920f7, 0xd55a69857f3444aa, 0xa69437139ef3e84d, 0x882e029e3e4e8c10},
    {0x0000000000000000, 0x8211147cbaf96306, 0x30fb0eaa2d655567, 0xb2ea1ad6979c3661,
     0x61f61d545acaaace, 0xe3e70928e033c9c8, 0x510d13fe77afffa9, 0xd31c0782cd569caf,
     0xc3ec3aa8b595559c, 0x41fd2ed40f6c369a, 0xf317340298f000fb, 0x7106207e220963fd,
     0xa21a27fcef5fff52, 0x200b338055a69c54, 0x92e12956c23aaa35, 0x10f03d2a78c3c933},
    {0x0000000000000000, 0xb301530233bd3853, 0x52db80573fede3cd, 0xe1dad3550c50db9e,
     0xa5b700ae7fdbc79a, 0x16b653ac4c66ffc9, 0xf76c80f940362457, 0x446dd3fb738b1c04,
     0x7fb7270fa7201c5f, 0xccb6740d949d240c, 0x2d6ca75898cdff92, 0x9e6df45aab70c7c1,
     0xda0027a1d8fbdbc5, 0x690174a3eb46e396, 0x88dba7f6e7163808, 0x3bdaf4f4d4ab005b},
    {0x0000000000000000, 0xff6e4e1f4e4038be, 0xca05ba6dc417e217, 0x356bf4728a57daa9,
     0xa0d25288d0b85745, 0x5fbc1c979ef86ffb, 0x6ad7e8e514afb552, 0x95b9a6fa5aef8dec,
     0x757d8342f9e73de1, 0x8a13cd5db7a7055f, 0xbf78392f3df0dff6, 0x4016773073b0e748,
     0xd5afd1ca295f6aa4, 0x2ac19fd5671f521a, 0x1faa6ba7ed4888b3, 0xe0c425b8a308b00d},
    {0x0000000000000000, 0xeafb0685f3ce7bc2, 0xe12f2b58bf0b64ef, 0x0bd42ddd4cc51f2d,
     0xf68770e226815ab5, 0x1c7c7667d54f2177, 0x17a85bba998a3e5a, 0xfd535d3f6a444598,
     0xd9d7c79715952601, 0x332cc112e65b5dc3, 0x38f8eccfaa9e42ee, 0xd203ea4a5950392c,
     0x2f50b77533147cb4, 0xc5abb1f0c0da0776, 0xce7f9c2d8c1f185b, 0x24849aa87fd16399},
    {0x0000000000000000, 0x8776a97d73bddf69, 0x3a3474a9bfec2db9, 0xbd42ddd4cc51f2d0,
     0x7468e9537fd85b72, 0xf31e402e0c65841b, 0x4e5c9dfac03476cb, 0xc92a3487b389a9a2,
     0xe8d1d2a6ffb0b6e4, 0x6fa77bdb8c0d698d, 0xd2e5a60f405c9b5d, 0x55930f7233e14434,
     0x9cb93bf58068ed96, 0x1bcf9288f3d532ff, 0xa68d4f5c3f84c02f, 0x21fbe6214c391f46},
    {0x0000000000000000, 0xe57a831ea7f6fea3, 0xfe2c206e177a6e2d, 0x1b56a370b08c908e,
     0xc881668f76634f31, 0x2dfbe591d195b192, 0x36ad46e16119211c, 0xd3d7c5ffc6efdfbf,
     0xa5dbeb4db4510d09, 0x40a1685313a7f3aa, 0x5bf7cb23a32b6324, 0xbe8d483d04dd9d87,
     0x6d5a8dc2c2324238, 0x88200edc65c4bc9b, 0x9376adacd5482c15, 0x760c2eb272bed2b6},
    {0x0000000000000000, 0x7f6ef0c830358979, 0xfedde190606b12f2, 0x81b31158505e9b8b,
     0xc962e5739841b68f, 0xb60c15bba8743ff6, 0x37bf04e3f82aa47d, 0x48d1f42bc81f2d04,
     0xa61cecb46814fe75, 0xd9721c7c5821770c, 0x58c10d24087fec87, 0x27affdec384a65fe,
     0x6f7e09c7f05548fa, 0x1010f90fc060c183, 0x91a3e857903e5a08, 0xeecd189fa00bd371},
    {0x0000000000000000, 0x78e0ff3b88be6f81, 0xf1c1fe77117cdf02, 0x8921014c99c2b083,
     0xd75adabd7a6e2d6f, 0xafba2586f2d042ee, 0x269b24ca6b12f26d, 0x5e7bdbf1e3ac9dec,
     0x9a6c9329ac4bc9b5, 0xe28c6c1224f5a634, 0x6bad6d5ebd3716b7, 0x134d926535897936,
     0x4d364994d625e4da, 0x35d6b6af5e9b8b5b, 0xbcf7b7e3c7593bd8, 0xc41748d84fe75459},
};

static uint64_t load_le64(const unsigned char *p)
{
    uint64_t word = 0;

    for (unsigned i = 0; i < 8; i++)
        word |= (uint64_t)p[i] << (8 * i);
    return word;
}

/* Without the inversion at either end. */
static uint64_t update(uint64_t state, const unsigned char *p, size_t len)
{
    for (; len >= 8; len -= 8, p += 8) {
        const uint64_t word = load_le64(p) ^ state;
        state = 0;
        for (unsigned k = 0; k < 16; k++)
            state ^= nibble_crc[k][(word >> (4 * k)) & 15];
    }
    for (; len > 0; len--, p++) {
        /* The last two rows are those of a word whose other bytes are gone: a single byte. */
        const uint64_t byte = (state ^ *p) & 0xff;
        state = (state >> 8) ^ nibble_crc[14][byte & 15] ^ nibble_crc[15][byte >> 4];
    }
    return state;
}

void pst_crc64nvme_portable(uint64_t *crc, const void *data, size_t len)
{
    *crc = ~update(~*crc, data, len);
}

#if defined(__x86_64__)
__attribute__((target("pclmul,sse4.1"))) static __m128i fold(__m128i acc, __m128i by, __m128i next)
{
    const __m128i low = _mm_clmulepi64_si128(acc, by, 0x00);
    const __m128i high = _mm_clmulepi64_si128(acc, by, 0x11);

    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

__attribute__((target("pclmul,sse4.1"))) static __m128i load(const unsigned char *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* x^(n+63) and x^(n-1), for the half that comes first and the one behind it; n is the distance. */
__attribute__((target("pclmul,sse4.1"))) static uint64_t pclmul_update(uint64_t state,
                                                                       const unsigned char *p,
                                                                       size_t len)
{
    const __m128i by_1024 = _mm_set_epi64x(0x5f852fb61e8d92dc, (long long)0xa1ca681e733f9c40);
    const __m128i by_512 = _mm_set_epi64x(0x62242240ace5045a, 0x0c32cdb31e18a84a);
    const __m128i by_256 = _mm_set_epi64x((long long)0xe1e0bb9d45d7a44c,
                                          (long long)0xb0bc2e589204f500);
    const __m128i by_128 = _mm_set_epi64x(0x21e9761e252621ac, (long long)0xeadc41fd2ba3d420);
    unsigned char last[16];
    __m128i acc[8];

    for (int i = 0; i < 8; i++)
        acc[i] = load(p + 16 * i);
    acc[0] = _mm_xor_si128(acc[0], _mm_set_epi64x(0, (long long)state));
    for (p += STRIDE_BYTES, len -= STRIDE_BYTES; len >= STRIDE_BYTES;
         p += STRIDE_BYTES, len -= STRIDE_BYTES) {
        for (int i = 0; i < 8; i++)
            acc[i] = fold(acc[i], by_1024, load(p + 16 * i));
    }
    for (int i = 0; i < 4; i++)
        acc[i] = fold(acc[i], by_512, acc[i + 4]);
    acc[0] = fold(acc[0], by_256, acc[2]);
    acc[1] = fold(acc[1], by_256, acc[3]);
    acc[0] = fold(acc[0], by_128, acc[1]);
    for (; len >= 16; p += 16, len -= 16)
        acc[0] = fold(acc[0], by_128, load(p));
    _mm_storeu_si128((__m128i *)(void *)last, acc[0]);
    return update(update(0, last, sizeof(last)), p, len);
}

int pst_crc64nvme_pclmul(uint64_t *crc, const void *data, size_t len)
{
    if (len < STRIDE_BYTES || !__builtin_cpu_supports("pclmul"))
        return 0;
    *crc = ~pclmul_update(~*crc, data, len);
    return 1;
}
#else
int pst_crc64nvme_pclmul(uint64_t *crc, const void *data, size_t len)
{
    (void)crc;
    (void)data;
    (void)len;
    return 0;
}
#endif

uint64_t pst_crc64nvme(uint64_t crc, const void *data, size_t len)
{
    if (len == 0)
        return crc;
    if (len < FOLD_MIN_BYTES || !pst_crc64nvme_pclmul(&crc, data, len))
        pst_crc64nvme_portable(&crc, data, len);
    return crc;
}

/* a * b modulo the polynomial, both in reflected form: bit 63 is x^0. */
static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product = 0;

    for (uint64_t bit = (uint64_t)1 << 63; bit; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = (b >> 1) ^ (b & 1 ? POLYNOMIAL : 0);
    }
    return product;
}

/* x^(8 * 2^k): what 2^k more bytes multiply by. */
static const uint64_t byte_powers[64] = {
    0x0080000000000000, 0x0000800000000000, 0x0000000080000000, 0x9a6c9329ac4bc9b5,
    0x10f4bb0f129310d6, 0x70f05dcea2ebd226, 0x311211205672822d, 0x2fc297db0f46c96e,
    0xca4d536fabf7da84, 0xfb4cdc3b379ee6ed, 0xea261148df25140a, 0x59ccb2c07aa6c9b4,
    0x20b3674a839af27a, 0x2d8e1986da94d583, 0x42cdf4c20337635d, 0x1d78724bf0f26839,
    0xb96c84e0afb34bd5, 0x5d2e1fcd2df0a3ea, 0xcd9506572332be42, 0x23bda2427f7d690f,
    0x347a953232374f07, 0x1c2a807ac2a8ceea, 0x9b92ad0e14fe1460, 0x2574114889f670b2,
    0x4a84a6c45e3bf520, 0x915bbac21cd1c7ff, 0xb0290ec579f291f5, 0xcf2548505c624e6e,
    0xb154f27bf08a8207, 0xce4e92344baf7d35, 0x51da8d7e057c5eb3, 0x9fb10823f5be15df,
    0x73b825b3ff1f71cf, 0x5db436c5406ebb74, 0xfa7ed8f3ec3f2bca, 0xc4d58efdc61b9ef6,
    0xa7e39e61e855bd45, 0x97ad46f9dd1bf2f1, 0x1a0abb01f853ee6b, 0x3f0827c3348f8215,
    0x4eb68c4506134607, 0x4a46f6de5df34e0a, 0x2d855d6a1c57a8dd, 0x8688da58e1115812,
    0x5232f417fc7c7300, 0xa4080fb2e767d8da, 0xd515a7e17693e562, 0x1181f7c862e94226,
    0x9e23cd058204ca91, 0x9b8992c57a0aed82, 0xb2c0afb84609b6ff, 0x2f7160553a5ea018,
    0x3cd378b5c99f2722, 0x814054ad61a3b058, 0xbf766189fce806d8, 0x85a5e898ac49f86f,
    0x34830d11bc84f346, 0x9644d95b173c8c1c, 0x150401ac9ac759b1, 0xebe1f7f46fb00eba,
    0x8ee4ce0c2e2bd662, 0x4000000000000000, 0x2000000000000000, 0x0800000000000000,
};

uint64_t pst_crc64nvme_combine(uint64_t a, uint64_t b, uint64_t len_b)
{
    for (unsigned k = 0; len_b && a; len_b >>= 1, k++) {
        if (len_b & 1)
            a = multiply(byte_powers[k], a);
    }
    return a ^ b;
}
