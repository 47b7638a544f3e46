/* Rule 11, reading: bytes are compared with what the store keeps, and with nothing else.
 *
 * The store here is one object that replies to a whole object, or stat, may say sums about: of the object,
 * of its parts, both or none. A byte of what is delivered can be flipped. */
#include "contract.h"

#include <stdlib.h>

#include <penstock/sum.h>

#include "io/claims.h"
#include "util/crc64nvme.h"

#define FIRST ((size_t)64 << 10) /* first_read_bytes */
#define SMALL 5000u
#define LARGE (4 * FIRST + 12345)
#define PART_BYTES 50001u /* aligned with nothing */

#define BODY (3u << 20)

static unsigned char body[BODY];

/* ---- the store --------------------------------------------------------------------------------- */

enum { NOTHING, WHOLE, PARTS, HINT };

static struct {
    size_t size;
    uint32_t algorithm;
    int in_read, in_stat; /* what each says */
    uint64_t flipped;     /* this byte is delivered wrong; PST_UNKNOWN: none */
    size_t part_bytes;
    size_t gap;            /* this part is left out of the list, if not 0 */
    const char *stat_etag; /* NULL: that of the object */
    int stat_is_held, stat_fails;
    atomic_int n_stats, n_reads, n_unranged;
    pst_op *held_op;
    pst_attr *held_attr;
    atomic_int is_held;
} rd;

static pst_sum sum_of(uint64_t offset, uint64_t size, uint32_t scope)
{
    pst_sum sum = {.algorithm = rd.algorithm,
                   .scope = scope,
                   .length = rd.algorithm == PST_SUM_CRC32C ? 4 : 8,
                   .offset = offset,
                   .size = size};
    uint64_t value = rd.algorithm == PST_SUM_CRC32C ? pst_crc32c(0, body + offset, size)
                                                    : pst_crc64nvme(0, body + offset, size);
    if (rd.algorithm == PST_SUM_SHA256)
        sum.length = 32;
    for (uint32_t i = 0; i < sum.length && sum.length <= 8; i++)
        sum.bytes[i] = (uint8_t)(value >> (8 * (sum.length - 1 - i)));
    return sum;
}

static const pst_sum *make_sums(pst_op *op, int what, uint32_t *n)
{
    size_t n_parts = (rd.size + rd.part_bytes - 1) / rd.part_bytes;
    pst_sum *sums = op->host->op_alloc(op->host, op, (n_parts + 1) * sizeof(*sums));
    *n = 0;
    if (what == WHOLE)
        sums[(*n)++] = sum_of(0, rd.size, PST_SCOPE_OBJECT);
    if (what == HINT)
        sums[(*n)++] = (pst_sum){.algorithm = rd.algorithm, .scope = PST_SCOPE_RANGE};
    for (size_t i = n_parts; what == PARTS && i > 0; i--) { /* last one first */
        uint64_t offset = (i - 1) * rd.part_bytes;
        uint64_t size = rd.size - offset < rd.part_bytes ? rd.size - offset : rd.part_bytes;
        if (rd.gap != i)
            sums[(*n)++] = sum_of(offset, size, PST_SCOPE_RANGE);
    }
    return sums;
}

static pst_rc read_sums(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    atomic_fetch_add(&rd.n_reads, 1);
    int is_unranged = a->offset == 0 && a->n_dst == 0 && (a->flags & PST_READ_SUMS);
    atomic_fetch_add(&rd.n_unranged, is_unranged);
    puppet.body = (const char *)body;
    puppet.body_len = rd.size;
    if (rd.flipped != PST_UNKNOWN)
        body[rd.flipped] ^= 0x10;
    pst_rc rc = puppet_read(op, a, r);
    if (rd.flipped != PST_UNKNOWN)
        body[rd.flipped] ^= 0x10;
    if (rc == PST_OK && is_unranged) {
        r->sums = make_sums(op, rd.in_read, &r->n_sums);
        r->sum_stride = sizeof(pst_sum);
    }
    return rc;
}

static void fill_stat(pst_op *op, pst_attr *attr)
{
    const char *etag = rd.stat_etag ? rd.stat_etag : puppet.etag;
    attr->size = rd.size;
    attr->etag = pst_str_of(etag, strlen(etag));
    attr->etag_strength = PST_ETAG_STRONG;
    attr->sums = make_sums(op, rd.in_stat, &attr->n_sums);
    attr->sum_stride = sizeof(pst_sum);
}

static pst_rc stat_sums(pst_backend *b, pst_op *op, const pst_stat_args *a, pst_attr *attr)
{
    (void)b;
    atomic_fetch_add(&rd.n_stats, 1);
    assert_int_equal(a->flags, PST_STAT_SUMS);
    if (rd.stat_fails)
        return PST_E_DENIED;
    if (rd.stat_is_held) {
        rd.held_op = op;
        rd.held_attr = attr;
        atomic_store(&rd.is_held, 1);
        return PST_PENDING;
    }
    fill_stat(op, attr);
    return PST_OK;
}

static void *answer_stat(void *arg)
{
    puppet_wait_count(&rd.is_held, 1);
    puppet_wait_count(&rd.n_reads, *(int *)arg);
    fill_stat(rd.held_op, rd.held_attr);
    atomic_fetch_sub(&puppet.n_outstanding, 1);
    rd.held_op->host->complete(rd.held_op->host, rd.held_op, PST_OK);
    return NULL;
}

/* ---- reading it -------------------------------------------------------------------------------- */

static pst_context *context;
static pst_store *store;

static int begin(void **state)
{
    (void)state;
    puppet_reset();
    memset(&rd, 0, sizeof(rd));
    rd.size = LARGE;
    rd.algorithm = PST_SUM_CRC32C;
    rd.flipped = PST_UNKNOWN;
    rd.part_bytes = PART_BYTES;
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (unsigned char)(i * 31 + (i >> 8));
    puppet.hooks.read = read_sums;
    puppet.hooks.stat = stat_sums;
    const pst_context_options options = {.struct_size = sizeof(options), .first_read_bytes = FIRST};
    context = puppet_context(&options);
    store = puppet_store(context, "puppet");
    return 0;
}

static int end(void **state)
{
    (void)state;
    pst_store_free(store);
    pst_context_free(context);
    return 0;
}

enum way { GET, RANGE, INTO, BOUNCED, READER, MANY, WAYS };

/* Read all of it. *verified tells whether the read says so. */
static pst_rc read_all(enum way way, uint32_t *verified, pst_error *err)
{
    static unsigned char into[LARGE + 1];
    pst_read_options options = {
        .struct_size = sizeof(options), .flags = PST_READ_VERIFY, .part_bytes = 40000};
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_buffer *buffer = NULL;
    pst_reader *reader = NULL;
    size_t n = 0, n_read = 0;
    pst_rc rc = PST_OK;
    memset(into, 0, sizeof(into));
    *err = (pst_error)PST_ERROR_INIT;
    if (way == GET || way == RANGE) {
        rc = pst_get_range(store, object_key, 0, way == GET ? PST_UNKNOWN : rd.size, &options, NULL,
                           &buffer, &info, err);
    } else if (way == INTO || way == BOUNCED) {
        rc = pst_get_into(store, object_key, 0, into, sizeof(into), &options, NULL, &n, &info, err);
    } else if (way == MANY) {
        const pst_get_item item = {.key = object_key, .length = PST_UNKNOWN};
        const pst_many_options many = {
            .struct_size = sizeof(many), .max_in_flight = 1, .read = &options};
        pst_get_result result;
        rc = pst_get_many(store, &item, 1, &many, NULL, &result, err);
        info.is_verified = result.is_verified;
        buffer = result.buffer ? pst_buffer_ref(result.buffer) : NULL;
        pst_get_results_free(&result, 1);
    } else {
        rc = pst_reader_open(store, object_key, 0, PST_UNKNOWN, &options, NULL, &reader, err);
        for (n_read = 1; rc == PST_OK && n_read > 0; n += n_read) {
            n_read = 0;
            rc = pst_reader_read(reader, into + n, 30000, &n_read, err);
        }
        pst_reader_info(reader, &info);
        pst_reader_free(reader);
    }
    *verified = info.is_verified;
    if (rc == PST_OK && rd.flipped == PST_UNKNOWN) {
        assert_int_equal(buffer ? pst_buffer_size(buffer) : n, rd.size);
        assert_memory_equal(buffer ? pst_buffer_data(buffer) : (const void *)into, body, rd.size);
    }
    assert_true((rc != PST_OK) <= (buffer == NULL));
    pst_buffer_unref(buffer);
    return rc;
}

static void reopen(enum way way)
{
    if (way ==
        BOUNCED) { /* a plugin that does not promise to end soon never sees the caller's memory */
        puppet.caps &= ~PST_CAP_CANCEL_BOUNDED;
        pst_store_free(store);
        store = puppet_store(context, "puppet");
    }
}

static void expect(enum way way, int is_verified, int n_stats, int line)
{
    uint32_t verified = 9;
    pst_error err;
    int before = atomic_load(&rd.n_stats);
    if (read_all(way, &verified, &err) != PST_OK)
        fail_msg("line %d, way %d: %s", line, (int)way, err.message);
    if ((int)verified != is_verified || atomic_load(&rd.n_stats) - before != n_stats)
        fail_msg("line %d, way %d: verified %u, %d stats", line, (int)way, verified,
                 atomic_load(&rd.n_stats) - before);
}

static void expect_loss(enum way way, const char *says, int line)
{
    uint32_t verified = 9;
    pst_error err;
    pst_rc rc = read_all(way, &verified, &err);
    if (rc != PST_E_DATA_LOSS || verified != 0 || !strstr(err.message, says))
        fail_msg("line %d, way %d: %d, verified %u: '%s' does not say '%s'", line, (int)way,
                 (int)rc, verified, err.message, says);
}

#define EXPECT(way, is_verified, n_stats) expect(way, is_verified, n_stats, __LINE__)
#define EXPECT_LOSS(way, says) expect_loss(way, says, __LINE__)

/* ---- the tests --------------------------------------------------------------------------------- */

static void flip_and_read(enum way way, const char *says)
{
    const uint64_t places[] = {0, rd.size / 2, rd.size - 1};
    for (size_t i = 0; i < 3; i++) {
        rd.flipped = places[i];
        EXPECT_LOSS(way, says);
    }
    rd.flipped = PST_UNKNOWN;
}

static void test_verify__a_small_object_is_compared_with_what_its_reply_says(void **state)
{
    (void)state;
    rd.size = SMALL;
    rd.in_read = WHOLE;
    for (enum way way = GET; way < WAYS; way++) {
        if (way == INTO)
            continue; /* its reply is to a range */
        reopen(way);
        EXPECT(way, 1, 0);
        flip_and_read(way, "checksum: wanted crc32c:");
    }
}

static void test_verify__a_large_object_is_compared_with_what_one_stat_says(void **state)
{
    (void)state;
    rd.in_stat = WHOLE;
    for (enum way way = GET; way < WAYS; way++) {
        reopen(way);
        EXPECT(way, 1, 1);
        flip_and_read(way, "checksum: wanted crc32c:");
    }
}

static void test_verify__crc64nvme_is_compared_as_well(void **state)
{
    (void)state;
    rd.algorithm = PST_SUM_CRC64NVME;
    rd.in_stat = WHOLE;
    for (enum way way = GET; way < WAYS; way++) {
        reopen(way);
        EXPECT(way, 1, 1);
        flip_and_read(way, "checksum: wanted crc64nvme:");
    }
}

static void test_verify__composite_sums_are_compared_part_by_part(void **state)
{
    (void)state;
    rd.in_stat = PARTS;
    for (enum way way = GET; way < WAYS; way++) {
        reopen(way);
        EXPECT(way, 1, 1);
        flip_and_read(way, "checksum of part ");
    }
    rd.flipped = PART_BYTES;
    EXPECT_LOSS(GET, "checksum of part 2, 50001 bytes at 50001: wanted crc32c:");
}

static void test_verify__a_small_composite_object_is_asked_about_only_if_its_reply_says_so(
    void **state)
{
    (void)state;
    rd.size = 60000;
    rd.in_stat = PARTS;
    EXPECT(GET, 0, 0);
    rd.in_read = HINT;
    EXPECT(GET, 1, 1);
    EXPECT(READER, 1, 1);
    EXPECT(INTO, 1, 1);
    flip_and_read(GET, "checksum of part ");
}

static void test_verify__an_answer_that_comes_after_the_bytes_is_still_compared(void **state)
{
    pthread_t thread;
    uint32_t verified = 0;
    pst_error err;
    int n_reads = 7; /* the first, and six ranges of 40,000 bytes: all but the answer is there */
    (void)state;
    rd.in_stat = PARTS;
    rd.stat_is_held = 1;
    for (int is_flipped = 0; is_flipped < 2; is_flipped++) {
        atomic_store(&rd.is_held, 0);
        atomic_store(&rd.n_reads, 0);
        rd.flipped = is_flipped ? LARGE - 1 : PST_UNKNOWN;
        assert_int_equal(pthread_create(&thread, NULL, answer_stat, &n_reads), 0);
        pst_rc rc = read_all(GET, &verified, &err);
        pthread_join(thread, NULL);
        assert_int_equal(rc, is_flipped ? PST_E_DATA_LOSS : PST_OK);
        assert_int_equal(verified, !is_flipped);
    }
}

static void test_verify__what_is_not_of_this_version_or_has_gaps_is_not_compared(void **state)
{
    (void)state;
    rd.flipped = 5;
    rd.in_stat = WHOLE;
    rd.stat_etag = "another";
    for (enum way way = GET; way < WAYS; way++) {
        reopen(way);
        EXPECT(way, 0, 1);
    }
    rd.stat_etag = NULL;
    rd.in_stat = PARTS;
    rd.gap = 3;
    EXPECT(GET, 0, 1);
    rd.gap = 0;
    rd.algorithm = PST_SUM_SHA256;
    rd.in_stat = WHOLE;
    EXPECT(GET, 0, 1);
    rd.in_stat = NOTHING;
    EXPECT(GET, 0, 1);
}

static void test_verify__a_stat_that_fails_fails_nothing(void **state)
{
    (void)state;
    rd.stat_fails = 1;
    for (enum way way = GET; way < WAYS; way++) {
        reopen(way);
        EXPECT(way, 0, 1);
    }
}

static void test_verify__a_store_that_cannot_stat_is_not_asked(void **state)
{
    (void)state;
    puppet.caps &= ~PST_CAP_STAT;
    pst_store_free(store);
    store = puppet_store(context, "puppet");
    rd.in_stat = WHOLE;
    EXPECT(GET, 0, 0);
    EXPECT(READER, 0, 0);
}

static pst_rc read_range(uint64_t offset, uint64_t length, uint32_t *verified)
{
    const pst_read_options options = {.struct_size = sizeof(options), .flags = PST_READ_VERIFY};
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_buffer *buffer = NULL;
    pst_rc rc = pst_get_range(store, object_key, offset, length, &options, NULL, &buffer, &info,
                              NULL);
    pst_buffer_unref(buffer);
    *verified = info.is_verified;
    return rc;
}

static void test_verify__a_range_is_verified_where_it_covers_whole_parts(void **state)
{
    uint32_t verified = 9;
    (void)state;
    rd.size = BODY;
    rd.in_stat = PARTS;
    rd.part_bytes = 1u << 20;
    assert_int_equal(read_range(1u << 20, 100, &verified), PST_OK);
    assert_int_equal(verified, 0);
    assert_int_equal(atomic_load(&rd.n_stats), 0); /* a mere piece: not worth a stat */
    assert_int_equal(read_range(1u << 20, 2u << 20, &verified), PST_OK);
    assert_int_equal(verified, 1);
    assert_int_equal(atomic_load(&rd.n_stats), 1);
    assert_int_equal(read_range((1u << 20) + 1, 2u << 20, &verified), PST_OK);
    assert_int_equal(verified, 0);
    rd.flipped = (1u << 20) + 7;
    assert_int_equal(read_range(1u << 20, 1u << 20, &verified), PST_E_DATA_LOSS);
    assert_int_equal(read_range(2u << 20, 1u << 20, &verified), PST_OK);
    assert_int_equal(verified, 1);
}

static void test_claims__of_parts_are_judged_when_all_their_bytes_were_seen(void **state)
{
    struct pst_claims *claims = pst_claims_new();
    struct pst_feed feed;
    pst_sum sums[3];
    uint64_t agreed = 0;
    pst_error err = PST_ERROR_INIT;
    (void)state;
    sums[0] = sum_of(0, 100, PST_SCOPE_RANGE);
    sums[1] = sum_of(100, 1, PST_SCOPE_RANGE);
    sums[2] = sum_of(101, 899, PST_SCOPE_RANGE);
    assert_int_equal(pst_claims_take(claims, sums, 2, sizeof(sums[0]), 1000), 0);
    assert_int_equal(pst_claims_take(claims, sums, 3, offsetof(pst_sum, offset), 1000), 0);
    assert_int_equal(pst_claims_take(claims, sums, 3, sizeof(sums[0]), 1000), 1);
    /* Bytes 50 to 999, in two runs, the later one first; then the rest. */
    const struct {
        uint64_t from, to, agreed;
    } runs[] = {{300, 1000, 0}, {50, 300, 900}, {0, 50, 1000}};
    for (size_t i = 0; i < 3; i++) {
        pst_feed_begin(&feed, claims, runs[i].from, 1u << PST_SUM_CRC64NVME);
        for (uint64_t at = runs[i].from; at < runs[i].to; at += 10)
            pst_feed_add(&feed, body + at, 10);
        assert_int_equal(pst_feed_end(&feed, &err), PST_OK);
        assert_true(feed.total.crc64nvme ==
                    pst_crc64nvme(0, body + runs[i].from, runs[i].to - runs[i].from));
        assert_int_equal(pst_claims_agreed(claims, &agreed, &err), PST_OK);
        assert_int_equal(agreed, runs[i].agreed);
    }
    pst_claims_unref(claims);
}

static void test_verify__the_empty_object_has_a_sum_too(void **state)
{
    (void)state;
    rd.size = 0;
    rd.in_read = WHOLE;
    EXPECT(GET, 1, 0);
    EXPECT(READER, 1, 0);
}

static void test_verify__a_reader_of_large_parts_asks_once_for_all(void **state)
{
    static unsigned char into[BODY];
    const pst_read_options options = {
        .struct_size = sizeof(options), .flags = PST_READ_VERIFY, .part_bytes = 1 << 20};
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_reader *reader = NULL;
    pst_error err = PST_ERROR_INIT;
    size_t n = 0, n_read = 1;
    (void)state;
    rd.size = BODY;
    rd.in_stat = WHOLE;
    assert_int_equal(
        pst_reader_open(store, object_key, 0, PST_UNKNOWN, &options, NULL, &reader, &err), PST_OK);
    for (; n < BODY && n_read > 0; n += n_read) {
        if (pst_reader_read(reader, into + n, BODY - n, &n_read, &err) != PST_OK)
            fail_msg("%s", err.message);
    }
    pst_reader_info(reader, &info);
    pst_reader_free(reader);
    assert_int_equal(n, BODY);
    assert_true(info.is_verified);
    assert_int_equal(atomic_load(&rd.n_stats), 1);
}

static void test_verify__sums_of_one_reply_are_not_held_against_the_next(void **state)
{
    (void)state;
    puppet.etag = "";
    puppet.etag_strength = PST_ETAG_NONE;
    rd.in_stat = WHOLE;
    EXPECT(GET, 0, 0);
}

#define VERIFY_TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VERIFY_TEST(test_verify__a_small_object_is_compared_with_what_its_reply_says),
        VERIFY_TEST(test_verify__a_large_object_is_compared_with_what_one_stat_says),
        VERIFY_TEST(test_verify__crc64nvme_is_compared_as_well),
        VERIFY_TEST(test_verify__composite_sums_are_compared_part_by_part),
        VERIFY_TEST(test_verify__a_small_composite_object_is_asked_about_only_if_its_reply_says_so),
        VERIFY_TEST(test_verify__an_answer_that_comes_after_the_bytes_is_still_compared),
        VERIFY_TEST(test_verify__what_is_not_of_this_version_or_has_gaps_is_not_compared),
        VERIFY_TEST(test_verify__a_stat_that_fails_fails_nothing),
        VERIFY_TEST(test_verify__a_store_that_cannot_stat_is_not_asked),
        VERIFY_TEST(test_verify__a_range_is_verified_where_it_covers_whole_parts),
        VERIFY_TEST(test_claims__of_parts_are_judged_when_all_their_bytes_were_seen),
        VERIFY_TEST(test_verify__the_empty_object_has_a_sum_too),
        VERIFY_TEST(test_verify__a_reader_of_large_parts_asks_once_for_all),
        VERIFY_TEST(test_verify__sums_of_one_reply_are_not_held_against_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
