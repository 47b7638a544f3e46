#include "trial.h"

static pst_rc run_stat(struct trial *t, uint32_t flags, pst_attr *out)
{
    pst_op *op = trial_op(t);
    static pst_stat_args args;
    args = (pst_stat_args){.struct_size = sizeof(args), .flags = flags, .key = fake_str("k")};
    *out = (pst_attr){.struct_size = sizeof(*out)};
    return fake_run(&t->op, ops_of(t)->stat(t->fake.store, op, &args, out));
}

static void test_stat__tells_every_attribute(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_attr a;
    (void)state;
    fake_answer(&t->fake, 200,
                "content-length: 123\netag: \"e\"\nlast-modified: Mon, 12 Oct 2009 17:50:30 GMT\n"
                "content-type: text/plain\ncontent-encoding: aws-chunked,zstd\n"
                "content-language: de\ncontent-disposition: inline\ncache-control: no-cache\n"
                "x-amz-storage-class: GLACIER\nx-amz-version-id: v1\nx-amz-meta-step: 12\n"
                "x-amz-meta-empty: \nx-amz-checksum-sha256: "
                "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
                NULL);
    assert_int_equal(run_stat(t, 0, &a), PST_OK);
    assert_string_equal(asked(t, 0), "HEAD /bucket/k");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-checksum-mode"), "");
    assert_int_equal(a.size, 123);
    assert_int_equal(a.mtime_ns, 1255369830 * INT64_C(1000000000));
    assert_text(a.etag, "\"e\"");
    assert_text(a.content_type, "text/plain");
    assert_text(a.content_encoding, "zstd");
    assert_text(a.content_language, "de");
    assert_text(a.content_disposition, "inline");
    assert_text(a.cache_control, "no-cache");
    assert_text(a.storage_class, "GLACIER");
    assert_text(a.version, "v1");
    assert_int_equal(a.n_user_meta, 2);
    assert_text(a.user_meta[0].key, "step");
    assert_text(a.user_meta[0].value, "12");
    assert_int_equal(a.user_meta[1].value.len, 0);
    assert_int_equal(a.n_sums, 1);
    assert_int_equal(a.sums[0].algorithm, PST_SUM_SHA256);
    trial_finish(t);
}

static void test_stat__asks_for_the_bucket_once_in_the_life_of_a_store(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_attr a;
    (void)state;
    fake_answer(&t->fake, 404, NULL, NULL);
    fake_answer(&t->fake, 200, NULL, NULL);
    assert_int_equal(run_stat(t, 0, &a), PST_E_NOT_FOUND);
    assert_int_equal(t->op.err.flags, 0);
    assert_string_equal(asked(t, 1), "HEAD /bucket");
    fake_answer(&t->fake, 404, NULL, NULL);
    assert_int_equal(run_stat(t, 0, &a), PST_E_NOT_FOUND);
    assert_int_equal(t->fake.n_sent, 3);
    trial_finish(t);
}

static void test_stat__names_a_missing_bucket(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_attr a;
    (void)state;
    fake_answer(&t->fake, 404, NULL, NULL);
    fake_answer(&t->fake, 404, NULL, NULL);
    assert_int_equal(run_stat(t, 0, &a), PST_E_NOT_FOUND);
    assert_int_equal(t->op.err.flags, PST_ERR_NO_CONTAINER);
    assert_non_null(strstr(t->op.err.message, "bucket"));
    trial_finish(t);
}

#define PART(number, size)                                                                         \
    "<Part><PartNumber>" number "</PartNumber><Size>" size "</Size>"                               \
    "<ChecksumCRC32C>yZRlqg==</ChecksumCRC32C></Part>"
#define PARTS(more)                                                                                \
    XML "<GetObjectAttributesResponse><ObjectParts>" more                                          \
        "</ObjectParts></GetObjectAttributesResponse>"

static void test_stat__composite_checksums_are_told_part_by_part(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_attr a;
    (void)state;
    fake_answer(&t->fake, 200,
                "content-length: 25\nx-amz-checksum-crc32c: yZRlqg==-3\n"
                "x-amz-checksum-type: COMPOSITE",
                NULL);
    fake_answer(&t->fake, 200, NULL,
                PARTS(PART("1", "10")
                          PART("2", "10") "<IsTruncated>true</IsTruncated>"
                                          "<NextPartNumberMarker>2</NextPartNumberMarker>"));
    fake_answer(&t->fake, 200, NULL, PARTS(PART("3", "5") "<IsTruncated>false</IsTruncated>"));
    assert_int_equal(run_stat(t, PST_STAT_SUMS, &a), PST_OK);
    assert_string_equal(fake_header(sent(t, 0), "x-amz-checksum-mode"), "ENABLED");
    assert_string_equal(asked(t, 1), "GET /bucket/k?attributes=");
    assert_string_equal(fake_header(sent(t, 2), "x-amz-part-number-marker"), "2");
    assert_int_equal(a.n_sums, 3);
    assert_int_equal(a.sums[2].scope, PST_SCOPE_RANGE);
    assert_int_equal(a.sums[2].offset, 20);
    assert_int_equal(a.sums[2].size, 5);
    trial_finish(t);
}

static void test_stat__parts_that_do_not_add_up_are_no_checksums(void **state)
{
    static const char head[] = "content-length: 25\nx-amz-checksum-crc32c: yZRlqg==-3";
    struct trial *t = trial_start(NULL);
    pst_attr a;
    (void)state;
    fake_answer(&t->fake, 200, head, NULL);
    fake_answer(&t->fake, 200, NULL, PARTS(PART("1", "10")));
    assert_int_equal(run_stat(t, PST_STAT_SUMS, &a), PST_OK);
    assert_int_equal(a.n_sums, 0);
    for (int i = 0; i < 2; i++) { /* of what has replaced the object meanwhile */
        fake_answer(&t->fake, 200,
                    "content-length: 10\netag: \"a-1\"\nx-amz-checksum-crc32c: yZRlqg==-1", NULL);
        fake_answer(&t->fake, 200, NULL,
                    i == 0 ? PARTS("<IsTruncated>false</IsTruncated>" PART("1", "10"))
                           : PARTS("</ObjectParts><ETag>b-1</ETag><ObjectParts>" PART("1", "10")));
        assert_int_equal(run_stat(t, PST_STAT_SUMS, &a), PST_OK);
        assert_int_equal(a.n_sums, i == 0 ? 1 : 0);
    }
    fake_answer(&t->fake, 200, head, NULL);
    fake_answer(&t->fake, 405, NULL, ERROR_XML("MethodNotAllowed"));
    assert_int_equal(run_stat(t, PST_STAT_SUMS, &a), PST_OK);
    assert_int_equal(a.n_sums, 0);
    fake_answer(&t->fake, 200, head, NULL); /* for now: must not pass as "none" */
    fake_answer(&t->fake, 503, NULL, ERROR_XML("SlowDown"));
    assert_int_equal(run_stat(t, PST_STAT_SUMS, &a), PST_E_THROTTLED);
    trial_finish(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stat__tells_every_attribute),
        cmocka_unit_test(test_stat__asks_for_the_bucket_once_in_the_life_of_a_store),
        cmocka_unit_test(test_stat__names_a_missing_bucket),
        cmocka_unit_test(test_stat__composite_checksums_are_told_part_by_part),
        cmocka_unit_test(test_stat__parts_that_do_not_add_up_are_no_checksums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
