#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/bits.h"
#include "util/dynbuf.h"
#include "util/pack.h"
#include "util/parse.h"
#include "util/region.h"
#include "util/siphash.h"
#include "util/strlist.h"
#include "util/suggest.h"
#include "util/text.h"

static void assert_size(const char *text, int64_t expected)
{
    int64_t value = -1;

    assert_true(pst_parse_size(text, strlen(text), &value));
    assert_int_equal(value, expected);
}

static void assert_duration(const char *text, int64_t expected)
{
    int64_t value = -1;

    assert_true(pst_parse_duration(text, strlen(text), &value));
    assert_int_equal(value, expected);
}

static void test_parse__sizes_have_binary_and_decimal_units(void **state)
{
    (void)state;
    assert_size("0", 0);
    assert_size("4096", 4096);
    assert_size("1B", 1);
    assert_size("8MiB", 8 << 20);
    assert_size("8M", 8 << 20);
    assert_size("8mib", 8 << 20);
    assert_size("8MB", 8000000);
    assert_size("2TiB", 2ll << 40);
    assert_size("9223372036854775807", INT64_MAX);
}

static void test_parse__what_is_no_size_is_refused(void **state)
{
    static const char *const bad[] = {"",        "MiB",   "-1", "+1", "1.5MiB",
                                      "8 MiB",   "8MiBs", " 8", "8X", "9223372036854775808",
                                      "8192PiB", "0x10"};
    int64_t value;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(pst_parse_size(bad[i], strlen(bad[i]), &value));
}

static void test_parse__durations_become_milliseconds(void **state)
{
    static const char *const bad[] = {"", "5", "ms", "1.5s", "5 s", "-5s", "00"};
    int64_t value;

    (void)state;
    assert_duration("500ms", 500);
    assert_duration("30s", 30000);
    assert_duration("5m", 300000);
    assert_duration("2h", 7200000);
    assert_duration("1d", 86400000);
    assert_duration("0", 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(pst_parse_duration(bad[i], strlen(bad[i]), &value));
}

static void test_parse__integers_reach_both_ends(void **state)
{
    int64_t value;

    (void)state;
    assert_true(pst_parse_int("-9223372036854775808", 20, &value));
    assert_true(value == INT64_MIN);
    assert_true(pst_parse_int("+9223372036854775807", 20, &value));
    assert_true(value == INT64_MAX);
    assert_false(pst_parse_int("9223372036854775808", 19, &value));
    assert_false(pst_parse_int("-9223372036854775809", 20, &value));
    assert_false(pst_parse_int("", 0, &value));
    assert_false(pst_parse_int("-", 1, &value));
    assert_false(pst_parse_int("1a", 2, &value));
}

static void test_parse__booleans_have_eight_words(void **state)
{
    int value;

    (void)state;
    assert_true(pst_parse_bool("YES", 3, &value) && value == 1);
    assert_true(pst_parse_bool("on", 2, &value) && value == 1);
    assert_true(pst_parse_bool("0", 1, &value) && value == 0);
    assert_true(pst_parse_bool("False", 5, &value) && value == 0);
    assert_false(pst_parse_bool("", 0, &value));
    assert_false(pst_parse_bool("y", 1, &value));
    assert_false(pst_parse_bool("truetrue", 8, &value));
}

static void test_suggest__finds_the_nearest_word(void **state)
{
    struct pst_suggest s;

    (void)state;
    assert_int_equal(pst_edit_distance("kitten", 6, "sitting", 7), 3);
    assert_int_equal(pst_edit_distance("fsnyc", 5, "fsync", 5), 1);
    assert_int_equal(pst_edit_distance("", 0, "abc", 3), 3);
    pst_suggest_init(&s, "part_sise", 9);
    pst_suggest_offer(&s, "parts");
    pst_suggest_offer(&s, "part_size");
    pst_suggest_offer(&s, "port_size");
    assert_string_equal(s.best, "part_size");
}

static void test_suggest__is_silent_when_nothing_is_near(void **state)
{
    char huge[200];
    struct pst_suggest s;

    (void)state;
    pst_suggest_init(&s, "xy", 2);
    pst_suggest_offer(&s, "part_size");
    assert_null(s.best);
    memset(huge, 'a', sizeof(huge));
    pst_suggest_init(&s, huge, sizeof(huge));
    pst_suggest_offer(&s, "a");
    assert_null(s.best);
}

static void test_dynbuf__stops_at_its_ceiling_and_stays_failed(void **state)
{
    struct pst_dynbuf buf;

    (void)state;
    pst_dynbuf_init(&buf, 10);
    assert_int_equal(pst_dynbuf_addf(&buf, "%s", "12345"), 0);
    assert_int_equal(pst_dynbuf_add(&buf, "67890", 5), 0);
    assert_string_equal(buf.data, "1234567890");
    assert_int_equal(pst_dynbuf_add(&buf, "x", 1), -1);
    assert_true(buf.is_full);
    assert_int_equal(pst_dynbuf_add(&buf, "", 0), -1);
    assert_null(pst_dynbuf_take(&buf));
    pst_dynbuf_fini(&buf);
}

static void test_dynbuf__empty_buffer_gives_an_empty_string(void **state)
{
    struct pst_dynbuf buf;

    (void)state;
    pst_dynbuf_init(&buf, 0);
    char *text = pst_dynbuf_take(&buf);
    assert_string_equal(text, "");
    free(text);
    assert_null(buf.data);
}

static void test_dynbuf__grows_over_many_small_appends(void **state)
{
    struct pst_dynbuf buf;

    (void)state;
    pst_dynbuf_init(&buf, 1 << 20);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(pst_dynbuf_addf(&buf, "%04d", i), 0);
    assert_int_equal(buf.len, 40000);
    assert_memory_equal(buf.data + 39996, "9999", 5);
    pst_dynbuf_fini(&buf);
}

static void test_strlist__sorts_by_bytes_and_has_a_ceiling(void **state)
{
    static const char *const words[] = {"b", "a0", "a-b", "a/x", "Z"};
    struct pst_strlist list;

    (void)state;
    pst_strlist_init(&list, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(pst_strlist_add(&list, words[i]), 0);
    assert_int_equal(pst_strlist_add(&list, "more"), -1);
    pst_strlist_sort(&list);
    assert_string_equal(list.items[0], "Z");
    assert_string_equal(list.items[1], "a-b");
    assert_string_equal(list.items[2], "a/x");
    assert_string_equal(list.items[3], "a0");
    assert_string_equal(list.items[4], "b");
    pst_strlist_fini(&list);
}

static void test_region__gives_aligned_zeroed_memory_of_any_size(void **state)
{
    struct pst_region region = {NULL};
    const size_t sizes[] = {0, 1, 16, 17, 4095, 4096, 100000, 3};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned char *p = pst_region_alloc(&region, sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t j = 0; j < sizes[i]; j++)
            assert_int_equal(p[j], 0);
        memset(p, 0xff, sizes[i]);
    }
    assert_null(pst_region_array(&region, SIZE_MAX, 2));
    assert_null(pst_region_alloc(&region, SIZE_MAX));
    assert_string_equal(pst_region_strndup(&region, "abcdef", 3), "abc");
    pst_region_fini(&region);
}

static uint32_t next_one_by_one(const unsigned char *bits, uint32_t at, uint32_t end, int is_set)
{
    while (at < end && bits[at] != is_set)
        at++;
    return at;
}

static void test_bits__runs_are_marked_and_found_like_one_by_one(void **state)
{
    enum { N = 200 };
    unsigned char model[N] = {0};
    uint64_t words[4] = {0}, seed = 1;

    (void)state;
    for (int round = 0; round < 400; round++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t first = (uint32_t)(seed >> 33) % N;
        uint32_t n = (uint32_t)(seed >> 45) % (N - first + 1);
        int is_set = (int)(seed >> 62 & 1);
        pst_bits_mark(words, first, n, is_set);
        memset(model + first, is_set, n);
        for (uint32_t at = 0; at <= N; at += 7) {
            for (is_set = 0; is_set < 2; is_set++)
                assert_int_equal(pst_bits_next(words, at, N, is_set),
                                 next_one_by_one(model, at, N, is_set));
        }
    }
    assert_int_equal(words[3] >> 8, 0); /* nothing beyond the last bit */
}

static void test_pack__makes_rows_and_strings_one_block(void **state)
{
    struct row {
        uint32_t number;
        const char *a, *b;
    } rows[2] = {{1, "one", NULL}, {2, "", "two"}};

    (void)state;
    struct row *packed = pst_pack(rows, 2, sizeof(rows[0]), offsetof(struct row, a), 2);
    assert_non_null(packed);
    assert_int_equal(packed[1].number, 2);
    assert_string_equal(packed[0].a, "one");
    assert_string_equal(packed[0].b, "");
    assert_string_equal(packed[1].b, "two");
    assert_true((const char *)packed < packed[0].a && packed[0].a < packed[1].b);
    free(packed);
}

static void test_siphash__gives_the_authors_vectors(void **state)
{
    /* Aumasson and Bernstein, appendix A: key 00..0f, message 00..0e; and the empty message. */
    const uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
    unsigned char message[15];

    (void)state;
    for (size_t i = 0; i < sizeof(message); i++)
        message[i] = (unsigned char)i;
    assert_true(pst_siphash(key, message, 15) == 0xa129ca6149be45e5);
    assert_true(pst_siphash(key, message, 8) == 0x93f5f5799a932462);
    assert_true(pst_siphash(key, NULL, 0) == 0x726fdb47dd0e0e31);
}

static void test_text__case_is_that_of_ascii_alone(void **state)
{
    (void)state;
    assert_true(pst_text_equals_nocase("FILE", 4, "file"));
    assert_false(pst_text_equals_nocase("FILE", 3, "file"));
    assert_false(pst_text_equals_nocase("files", 5, "file"));
    assert_false(pst_text_equals_nocase("\xc3\x84", 2, "\xc3\xa4"));
    assert_true(pst_text_equals_nocase("", 0, ""));
    assert_false(pst_text_equals_nocase("@", 1, "`"));
}

static void test_text__utf8_is_checked_strictly(void **state)
{
    (void)state;
    assert_true(pst_text_is_utf8("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 10));
    assert_false(pst_text_is_utf8("\xc0\x80", 2));         /* overlong */
    assert_false(pst_text_is_utf8("\xe0\x80\x80", 3));     /* overlong */
    assert_false(pst_text_is_utf8("\xed\xa0\x80", 3));     /* surrogate */
    assert_false(pst_text_is_utf8("\xf4\x90\x80\x80", 4)); /* above U+10FFFF */
    assert_false(pst_text_is_utf8("\xe2\x82", 2));         /* cut */
    assert_false(pst_text_is_utf8("\x80", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse__sizes_have_binary_and_decimal_units),
        cmocka_unit_test(test_parse__what_is_no_size_is_refused),
        cmocka_unit_test(test_parse__durations_become_milliseconds),
        cmocka_unit_test(test_parse__integers_reach_both_ends),
        cmocka_unit_test(test_parse__booleans_have_eight_words),
        cmocka_unit_test(test_suggest__finds_the_nearest_word),
        cmocka_unit_test(test_suggest__is_silent_when_nothing_is_near),
        cmocka_unit_test(test_dynbuf__stops_at_its_ceiling_and_stays_failed),
        cmocka_unit_test(test_dynbuf__empty_buffer_gives_an_empty_string),
        cmocka_unit_test(test_dynbuf__grows_over_many_small_appends),
        cmocka_unit_test(test_strlist__sorts_by_bytes_and_has_a_ceiling),
        cmocka_unit_test(test_region__gives_aligned_zeroed_memory_of_any_size),
        cmocka_unit_test(test_bits__runs_are_marked_and_found_like_one_by_one),
        cmocka_unit_test(test_pack__makes_rows_and_strings_one_block),
        cmocka_unit_test(test_siphash__gives_the_authors_vectors),
        cmocka_unit_test(test_text__case_is_that_of_ascii_alone),
        cmocka_unit_test(test_text__utf8_is_checked_strictly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
