#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scratch.h"
#include "util/crc32c.h"

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

/* Bit by bit, as the RFC defines it. */
static uint32_t by_definition(const unsigned char *p, size_t len)
{
    uint32_t state = 0xffffffff;

    for (size_t i = 0; i < len; i++) {
        state ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            state = (state >> 1) ^ (state & 1 ? 0x82f63b78 : 0);
    }
    return ~state;
}

/* The first test: nothing long has been summed yet. */
static void test_crc32c__isal_is_mapped_by_the_first_long_input_only(void **state)
{
    uint32_t crc = 0;

    (void)state;
    (void)pst_crc32c(0, bytes, 4096);
    assert_false(scratch_is_mapped("libisal"));
    (void)pst_crc32c(0, bytes, 4097);
    assert_int_equal(scratch_is_mapped("libisal"), pst_crc32c_isal(&crc, bytes, 1));
}

static void test_crc32c__is_castagnoli(void **state)
{
    unsigned char block[32];

    (void)state;
    assert_int_equal(pst_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(pst_crc32c(0, NULL, 0), 0);
    /* RFC 3720, appendix B.4 */
    memset(block, 0, sizeof(block));
    assert_int_equal(pst_crc32c(0, block, 32), 0x8a9136aa);
    memset(block, 0xff, sizeof(block));
    assert_int_equal(pst_crc32c(0, block, 32), 0x62a8ab43);
    for (size_t i = 0; i < 32; i++)
        block[i] = (unsigned char)i;
    assert_int_equal(pst_crc32c(0, block, 32), 0x46dd794e);
    for (size_t i = 0; i < 32; i++)
        block[i] = (unsigned char)(31 - i);
    assert_int_equal(pst_crc32c(0, block, 32), 0x113fdb5c);
}

static void test_crc32c__three_ways_agree_at_every_length_and_alignment(void **state)
{
    (void)state;
    for (size_t offset = 0; offset < 9; offset++) {
        for (size_t len = 0; len < 70; len++) {
            const uint32_t expected = by_definition(bytes + offset, len);
            uint32_t crc = 0;
            pst_crc32c_portable(&crc, bytes + offset, len);
            assert_int_equal(crc, expected);
            crc = 0;
            if (pst_crc32c_sse42(&crc, bytes + offset, len))
                assert_int_equal(crc, expected);
            crc = 0;
            if (pst_crc32c_isal(&crc, bytes + offset, len))
                assert_int_equal(crc, expected);
        }
    }
}

static void test_crc32c__sum_of_pieces_is_the_sum_of_the_whole(void **state)
{
    const uint32_t whole = by_definition(bytes, LONG_BYTES);

    (void)state;
    assert_int_equal(pst_crc32c(0, bytes, LONG_BYTES), whole);
    for (size_t cut = 0; cut <= LONG_BYTES; cut += 4999) {
        const uint32_t head = pst_crc32c(0, bytes, cut);
        assert_int_equal(pst_crc32c(head, bytes + cut, LONG_BYTES - cut), whole);
    }
}

static void test_crc32c__combine_gives_the_sum_of_both(void **state)
{
    const uint32_t whole = pst_crc32c(0, bytes, LONG_BYTES);

    (void)state;
    for (size_t cut = 0; cut <= LONG_BYTES; cut += 9973) {
        const uint32_t a = pst_crc32c(0, bytes, cut);
        const uint32_t b = pst_crc32c(0, bytes + cut, LONG_BYTES - cut);
        assert_int_equal(pst_crc32c_combine(a, b, LONG_BYTES - cut), whole);
    }
    assert_int_equal(pst_crc32c_combine(whole, 0, 0), whole);
    assert_int_equal(pst_crc32c_combine(0, whole, LONG_BYTES), whole);
}

static void test_crc32c__combine_reaches_beyond_4_gib(void **state)
{
    /* Zeros, doubled 40 times from one: a TiB. */
    uint32_t crc = pst_crc32c(0, "", 1);
    uint32_t half = 0;

    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        half = crc;
        crc = pst_crc32c_combine(crc, crc, 1ull << i);
    }
    assert_int_equal(pst_crc32c_combine(half, half, 1ull << 39), crc);
    /* The low 32 bits of that length are 0, and must not be all that counts. */
    assert_int_not_equal(pst_crc32c_combine(half, half, 0), crc);
}

static void test_crc32c__combine_knows_every_length_of_zeros(void **state)
{
    /* Against the definition: appending zeros one by one. */
    uint32_t crc = pst_crc32c(0, "123456789", 9);
    const uint32_t first = crc;

    (void)state;
    for (uint64_t len = 1; len < 70000; len++) {
        crc = pst_crc32c(crc, "", 1);
        if (len < 300 || (len & (len - 1)) == 0 || len % 4093 == 0) {
            uint32_t all = 0;
            for (uint64_t left = len; left > 0; left--)
                all = pst_crc32c(all, "", 1);
            assert_int_equal(pst_crc32c_combine(first, all, len), crc);
        }
    }
}

static void test_crc32c__text_and_back(void **state)
{
    char text[PST_CRC32C_TEXT_SIZE];
    uint32_t crc = 1;

    (void)state;
    assert_string_equal(pst_crc32c_text(0xe3069283, text), "crc32c:e3069283");
    assert_string_equal(pst_crc32c_text(0x0000002a, text), "crc32c:0000002a");
    assert_int_equal(pst_crc32c_parse(pst_str_of(text, 15), &crc), 1);
    assert_int_equal(crc, 0x2a);
    assert_int_equal(pst_crc32c_parse(PST_STR("E3069283"), &crc), 1);
    assert_int_equal(crc, 0xe3069283);
}

static void test_crc32c__other_texts_are_no_checksum(void **state)
{
    static const char *const texts[] = {
        "",         "crc32c:",          "crc32c:e306928", "crc32c:e30692833", "e306928g",
        "e306928",  "crc64nvme:e30692", "0xe30692",       " e3069283",        "e3069283 ",
        "CRC32C:0", "crc32c:crc32c:e3", "-e306928"};
    uint32_t crc = 7;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(pst_crc32c_parse(pst_str_of(texts[i], strlen(texts[i])), &crc), 0);
        assert_int_equal(crc, 7);
    }
}

static void *sum(void *out)
{
    *(uint32_t *)out = pst_crc32c(0, bytes, LONG_BYTES);
    return NULL;
}

static void test_crc32c__threads_sum_side_by_side(void **state)
{
    pthread_t threads[8];
    uint32_t sums[8];

    (void)state;
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sum, &sums[i]), 0);
    for (size_t i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(sums[i], by_definition(bytes, LONG_BYTES));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c__isal_is_mapped_by_the_first_long_input_only),
        cmocka_unit_test(test_crc32c__is_castagnoli),
        cmocka_unit_test(test_crc32c__three_ways_agree_at_every_length_and_alignment),
        cmocka_unit_test(test_crc32c__sum_of_pieces_is_the_sum_of_the_whole),
        cmocka_unit_test(test_crc32c__combine_gives_the_sum_of_both),
        cmocka_unit_test(test_crc32c__combine_reaches_beyond_4_gib),
        cmocka_unit_test(test_crc32c__combine_knows_every_length_of_zeros),
        cmocka_unit_test(test_crc32c__text_and_back),
        cmocka_unit_test(test_crc32c__other_texts_are_no_checksum),
        cmocka_unit_test(test_crc32c__threads_sum_side_by_side),
    };

    return cmocka_run_group_tests(tests, fill, NULL);
}
