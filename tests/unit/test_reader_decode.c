/* The streaming reader of compressed objects. */
#include "reader_trial.h"

#include <zstd.h>

#define PLAIN ((size_t)3000000)
static unsigned char *plain, *packed;
static size_t packed_size;

static int setup_zstd(void **state)
{
    int rc = setup(state);
    plain = malloc(PLAIN);
    packed = malloc(ZSTD_compressBound(PLAIN));
    for (size_t i = 0; i < PLAIN; i++)
        plain[i] = i % 3 ? 'x' : read_byte(1, i);
    packed_size = ZSTD_compress(packed, ZSTD_compressBound(PLAIN), plain, PLAIN, 3);
    rd.body = packed;
    rd.size = packed_size;
    return rc;
}

static int teardown_zstd(void **state)
{
    int rc = teardown(state);
    free(plain);
    free(packed);
    return rc;
}

static void test_decode__delivers_the_content(void **state)
{
    pst_read_options options = options_of(64 * KIB, 2);
    unsigned char *dst = malloc(PLAIN + 1);
    uint64_t at = 0;
    size_t n = 0;
    options.decode = PST_DECODE_ZSTD;
    options.flags = PST_READ_CRC32C;
    pst_store *store = store_with(state, 1 * MIB);
    pst_reader *reader = open_parts(store, &options);
    assert_int_equal(pst_reader_read(reader, dst, PLAIN + 1, &n, NULL), PST_OK);
    assert_int_equal(n, PLAIN);
    assert_memory_equal(dst, plain, PLAIN);
    pst_read_info info = info_of(reader);
    assert_int_equal(info.object_size, packed_size);
    assert_int_equal(info.n_read, PLAIN);
    assert_int_equal(info.crc32c, pst_crc32c(0, plain, PLAIN));
    pst_reader_free(reader);
    reader = open_parts(store, &options);
    for (;;) {
        pst_buffer *buffer = NULL;
        assert_int_equal(pst_reader_next(reader, &buffer, NULL), PST_OK);
        if (!buffer)
            break;
        assert_memory_equal(pst_buffer_data(buffer), plain + at, pst_buffer_size(buffer));
        at += pst_buffer_size(buffer);
        pst_buffer_unref(buffer);
    }
    assert_int_equal(at, PLAIN);
    pst_reader_free(reader);
    free(dst);
    assert_in_range(peak_of(state), 1, 1 * MIB);
}

static void test_decode__by_name_looks_at_the_end_of_the_key(void **state)
{
    pst_read_options options = options_of(64 * KIB, 2);
    const struct {
        pst_str name;
        size_t first;
    } cases[] = {{PST_STR("a.zst"), PLAIN}, {PST_STR("a.zstd"), 0}, {PST_STR("a"), 0}};
    unsigned char *dst = malloc(PLAIN);
    options.decode = PST_DECODE_BY_NAME;
    pst_store *store = store_with(state, 16 * MIB);
    for (size_t i = 0; i < 3; i++) {
        pst_reader *reader = NULL;
        size_t n = 0;
        assert_int_equal(
            pst_reader_open(store, cases[i].name, 0, PST_UNKNOWN, &options, NULL, &reader, NULL),
            PST_OK);
        assert_int_equal(pst_reader_read(reader, dst, PLAIN, &n, NULL), PST_OK);
        assert_int_equal(n, cases[i].first ? cases[i].first : packed_size);
        pst_reader_free(reader);
    }
    free(dst);
}

static void test_decode__of_what_is_cut_or_no_zstd_is_data_loss(void **state)
{
    pst_read_options options = options_of(64 * KIB, 2);
    pst_error err = PST_ERROR_INIT;
    unsigned char *dst = malloc(PLAIN);
    size_t n = 0;
    options.decode = PST_DECODE_ZSTD;
    pst_store *store = store_with(state, 16 * MIB);
    rd.size = packed_size - 5;
    pst_reader *reader = open_parts(store, &options);
    pst_rc rc = pst_reader_read(reader, dst, PLAIN, &n, &err);
    if (rc == PST_OK)
        rc = pst_reader_read(reader, dst, PLAIN, &n, &err);
    assert_int_equal(rc, PST_E_DATA_LOSS);
    assert_says(&err, "GET rd://box/k: ");
    pst_reader_free(reader);
    rd.body = plain;
    rd.size = 100;
    reader = open_parts(store, &options);
    assert_int_equal(pst_reader_read(reader, dst, PLAIN, &n, &err), PST_E_DATA_LOSS);
    assert_int_equal(pst_reader_read(reader, dst, PLAIN, &n, &err), PST_E_DATA_LOSS);
    pst_reader_free(reader);
    free(dst);
}

static void test_decode__of_a_range_is_refused(void **state)
{
    pst_read_options options = options_of(64 * KIB, 2);
    pst_error err = PST_ERROR_INIT;
    pst_reader *reader = NULL;
    options.decode = PST_DECODE_ZSTD;
    pst_store *store = store_with(state, 16 * MIB);
    assert_int_equal(pst_reader_open(store, key, 0, 10, &options, NULL, &reader, &err),
                     PST_E_UNIMPLEMENTED);
    assert_says(&err, "a range of a compressed object cannot be decoded");
    assert_int_equal(pst_reader_open(store, key, 1, PST_UNKNOWN, &options, NULL, &reader, &err),
                     PST_E_UNIMPLEMENTED);
    options.decode = 7;
    assert_int_equal(pst_reader_open(store, key, 0, PST_UNKNOWN, &options, NULL, &reader, &err),
                     PST_E_INVALID);
}

#define ZSTD_TEST(name) cmocka_unit_test_setup_teardown(name, setup_zstd, teardown_zstd)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ZSTD_TEST(test_decode__delivers_the_content),
        ZSTD_TEST(test_decode__by_name_looks_at_the_end_of_the_key),
        ZSTD_TEST(test_decode__of_what_is_cut_or_no_zstd_is_data_loss),
        ZSTD_TEST(test_decode__of_a_range_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
