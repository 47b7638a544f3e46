#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/crc64nvme.h"

enum { LONG_BYTES = 300001 };

static unsigned char bytes[LONG_BYTES];

static int fill(void **state)
{
    uint32_t x = 1;

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        x = x * 1664525 + 1013904223;
        bytes[i] = (unsigned char)(x >> 24);
    }
    return 0;
}

/* Bit by bit, as the specification defines it. */
static uint64_t by_definition(const unsigned char *p, size_t len)
{
    uint64_t state = UINT64_MAX;

    for (size_t i = 0; i < len; i++) {
        state ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            state = (state >> 1) ^ (state & 1 ? 0x9a6c9329ac4bc9b5 : 0);
    }
    return ~state;
}

static void expect(uint64_t got, uint64_t wanted)
{
    if (got != wanted)
        fail_msg("%016llx is not %016llx", (unsigned long long)got, (unsigned long long)wanted);
}

/* The check value, and the examples of the NVM command set: 4 KiB of each. */
static void test_crc64nvme__is_that_of_the_specification(void **state)
{
    unsigned char block[4096];

    (void)state;
    expect(pst_crc64nvme(0, "123456789", 9), 0xae8b14860a799888);
    expect(pst_crc64nvme(0, NULL, 0), 0);
    memset(block, 0, sizeof(block));
    expect(pst_crc64nvme(0, block, sizeof(block)), 0x6482d367eb22b64e);
    memset(block, 0xff, sizeof(block));
    expect(pst_crc64nvme(0, block, sizeof(block)), 0xc0ddba7302eca3ac);
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (unsigned char)i;
    expect(pst_crc64nvme(0, block, sizeof(block)), 0x3e729f5f6750449c);
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (unsigned char)(255 - i);
    expect(pst_crc64nvme(0, block, sizeof(block)), 0x9a2df64b8e9e517e);
}

static void test_crc64nvme__both_ways_agree_at_every_length_and_alignment(void **state)
{
    (void)state;
    for (size_t offset = 0; offset < 9; offset++) {
        for (size_t len = 0; len < 600; len++) {
            const uint64_t expected = by_definition(bytes + offset, len);
            uint64_t crc = 0;
            pst_crc64nvme_portable(&crc, bytes + offset, len);
            expect(crc, expected);
            crc = 0;
            if (pst_crc64nvme_pclmul(&crc, bytes + offset, len))
                expect(crc, expected);
        }
    }
}

static void test_crc64nvme__sum_of_pieces_is_the_sum_of_the_whole(void **state)
{
    const uint64_t whole = by_definition(bytes, LONG_BYTES);

    (void)state;
    expect(pst_crc64nvme(0, bytes, LONG_BYTES), whole);
    for (size_t cut = 0; cut <= LONG_BYTES; cut += 4999) {
        const uint64_t head = pst_crc64nvme(0, bytes, cut);
        expect(pst_crc64nvme(head, bytes + cut, LONG_BYTES - cut), whole);
    }
}

static void test_crc64nvme__combine_gives_the_sum_of_both(void **state)
{
    const uint64_t whole = pst_crc64nvme(0, bytes, LONG_BYTES);

    (void)state;
    for (size_t cut = 0; cut <= LONG_BYTES; cut += 9973) {
        const uint64_t a = pst_crc64nvme(0, bytes, cut);
        const uint64_t b = pst_crc64nvme(0, bytes + cut, LONG_BYTES - cut);
        expect(pst_crc64nvme_combine(a, b, LONG_BYTES - cut), whole);
    }
    expect(pst_crc64nvme_combine(whole, 0, 0), whole);
    expect(pst_crc64nvme_combine(0, whole, LONG_BYTES), whole);
}

static void test_crc64nvme__combine_reaches_beyond_4_gib(void **state)
{
    const uint64_t a = pst_crc64nvme(0, bytes, 1000), b = pst_crc64nvme(0, bytes + 1000, 1000);
    const uint64_t far = ((uint64_t)1 << 40) + 12345;

    (void)state;
    /* A, B of `far` bytes, C: in whichever order it is put together. */
    const uint64_t left = pst_crc64nvme_combine(pst_crc64nvme_combine(a, b, far), a, 1000);
    const uint64_t right = pst_crc64nvme_combine(a, pst_crc64nvme_combine(b, a, 1000), far + 1000);
    expect(left, right);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc64nvme__is_that_of_the_specification),
        cmocka_unit_test(test_crc64nvme__both_ways_agree_at_every_length_and_alignment),
        cmocka_unit_test(test_crc64nvme__sum_of_pieces_is_the_sum_of_the_whole),
        cmocka_unit_test(test_crc64nvme__combine_gives_the_sum_of_both),
        cmocka_unit_test(test_crc64nvme__combine_reaches_beyond_4_gib),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
