#include "trial.h"

struct reading {
    pst_read_args args;
    pst_read_result result;
};

static pst_rc run_read(struct trial *t, struct reading *r, uint64_t offset, uint64_t length,
                       uint32_t flags)
{
    pst_op *op = trial_op(t);
    r->args.struct_size = sizeof(r->args);
    r->args.key = fake_str("a/b");
    r->args.offset = offset;
    r->args.length = length;
    r->args.flags = flags;
    r->result = (pst_read_result){.struct_size = sizeof(r->result)};
    return fake_run(&t->op, ops_of(t)->read(t->fake.store, op, &r->args, &r->result));
}

static void test_read__range_goes_straight_to_what_the_host_grants(void **state)
{
    struct trial *t = trial_start(NULL);
    struct reading r = {.args = {.if_match = PST_STR("\"e\""), .version = PST_STR("v 1")}};
    (void)state;
    fake_answer(&t->fake, 206, "content-range: bytes 10-14/100\netag: \"e\"\nx-amz-version-id: v 1",
                "hello");
    assert_int_equal(run_read(t, &r, 10, 5, 0), PST_OK);
    assert_string_equal(asked(t, 0), "GET /bucket/a/b?versionId=v%201");
    assert_string_equal(fake_header(sent(t, 0), "range"), "bytes=10-14");
    assert_string_equal(fake_header(sent(t, 0), "if-match"), "\"e\"");
    assert_int_equal(r.result.n_read, 5);
    assert_int_equal(r.result.object_size, 100);
    assert_int_equal(r.result.etag_strength, PST_ETAG_STRONG);
    assert_text(r.result.etag, "\"e\"");
    assert_text(r.result.version, "v 1");
    assert_memory_equal(t->op.dst, "hello", 5);
    trial_finish(t);
}

static void test_read__waits_for_memory_without_holding_a_thread(void **state)
{
    struct trial *t = trial_start(NULL);
    struct reading r = {.args = {.flags = 0}};
    (void)state;
    t->fake.dst = FAKE_DST_LATER;
    fake_answer(&t->fake, 206, "content-range: bytes 0-4/5\netag: \"e\"", "hello");
    assert_int_equal(run_read(t, &r, 0, 100, 0), PST_OK);
    assert_int_equal(t->op.is_parked, 2); /* LATER was answered, and dst_ready came */
    assert_int_equal(r.result.n_read, 5);
    assert_memory_equal(t->op.dst, "hello", 5);
    trial_finish(t);
}

static void test_read__suffix_and_callers_memory(void **state)
{
    struct trial *t = trial_start(NULL);
    char memory[8];
    const pst_iov dst[2] = {{memory, 3}, {memory + 3, 5}};
    struct reading r = {.args = {.dst = dst, .n_dst = 2}};
    (void)state;
    fake_answer(&t->fake, 206, "content-range: bytes 92-99/100\netag: \"e\"", "12345678");
    assert_int_equal(run_read(t, &r, 0, 8, PST_READ_SUFFIX), PST_OK);
    assert_string_equal(fake_header(sent(t, 0), "range"), "bytes=-8");
    assert_memory_equal(memory, "12345678", 8);
    trial_finish(t);
}

static void test_read__refuses_what_is_not_the_range(void **state)
{
    static const struct {
        const char *headers, *body;
    } replies[] = {
        {"content-range: bytes 11-15/100", "hello"},  /* another one */
        {"content-range: bytes 10-15/100", "hello!"}, /* longer */
        {"content-range: bytes 10-12/100", "hel"},    /* shorter, and not at the end */
        {"content-range: bytes 10-14/12", "hello"},   /* beyond the end */
        {"content-range: bytes 10-14/100", "hell"},   /* not as long as it says */
        {"content-range: items 10-14/100", "hello"},  /* malformed */
        {"etag: \"e\"", "hello"},                     /* none */
        {"content-range: bytes 10-12/*", "hel"},      /* shorter: who says that the object ends */
    };
    (void)state;
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        struct trial *t = trial_start(NULL);
        struct reading r = {.args = {.flags = 0}};
        fake_answer(&t->fake, 206, replies[i].headers, replies[i].body);
        assert_int_equal(run_read(t, &r, 10, 5, 0), PST_E_DATA_LOSS);
        assert_true(t->op.err.message[0] != '\0');
        assert_int_equal(t->op.err.flags & PST_ERR_RETRYABLE, 0);
        trial_finish(t);
    }
}

static void test_read__without_any_length_is_refused(void **state)
{
    struct trial *t = trial_start(NULL);
    struct reading r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(&t->fake, 200, "connection: close", "hel");
    assert_int_equal(run_read(t, &r, 0, 5, 0), PST_E_DATA_LOSS);
    fake_answer(&t->fake, 200, "transfer-encoding: chunked", "hel");
    assert_int_equal(run_read(t, &r, 0, 5, 0), PST_OK);
    assert_int_equal(r.result.n_read, 3);
    fake_answer(&t->fake, 206, "content-range: bytes 2-4/*", "llo");
    assert_int_equal(run_read(t, &r, 0, 3, PST_READ_SUFFIX), PST_E_DATA_LOSS);
    trial_finish(t);
}

static void test_read__at_the_end_is_cut_short(void **state)
{
    struct trial *t = trial_start(NULL);
    struct reading r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(&t->fake, 206, "content-range: bytes 10-11/12\netag: \"e\"", "he");
    assert_int_equal(run_read(t, &r, 10, 5, 0), PST_OK);
    assert_int_equal(r.result.n_read, 2);
    assert_int_equal(r.result.object_size, 12);
    trial_finish(t);
}

static void test_read__beyond_the_end_is_empty_and_names_the_content(void **state)
{
    struct trial *t = trial_start(NULL);
    struct reading r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(&t->fake, 416, "content-range: bytes */12", ERROR_XML("InvalidRange"));
    fake_answer(&t->fake, 200, "etag: \"e\"\ncontent-length: 12", NULL);
    assert_int_equal(run_read(t, &r, 12, 5, 0), PST_OK);
    assert_string_equal(asked(t, 1), "HEAD /bucket/a/b");
    assert_int_equal(r.result.n_read, 0);
    assert_int_equal(r.result.object_size, 12);
    assert_text(r.result.etag, "\"e\"");
    assert_null(t->op.dst);
    /* A size that contradicts it: the object was replaced in between. */
    fake_answer(&t->fake, 416, "content-range: bytes */0\netag: \"e\"", NULL);
    assert_int_equal(run_read(t, &r, 0, 5, 0), PST_OK);
    assert_int_equal(r.result.object_size, 0);
    fake_answer(&t->fake, 416, NULL, NULL);
    fake_answer(&t->fake, 200, "etag: \"f\"\ncontent-length: 50", NULL);
    assert_int_equal(run_read(t, &r, 12, 5, 0), PST_E_UNAVAILABLE);
    assert_int_equal(t->op.err.flags, PST_ERR_RETRYABLE);
    trial_finish(t);
}

static void test_read__whole_reply_to_a_range_is_taken_from_the_start_only(void **state)
{
    struct trial *t = trial_start(NULL);
    struct reading r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(&t->fake, 200, "content-length: 11\netag: \"e\"", "hello world");
    assert_int_equal(run_read(t, &r, 0, 5, 0), PST_OK);
    assert_int_equal(r.result.n_read, 5);
    assert_int_equal(r.result.object_size, 11);
    assert_memory_equal(t->op.dst, "hello", 5);
    fake_answer(&t->fake, 200, "content-length: 11\netag: \"e\"", "hello world");
    assert_int_equal(run_read(t, &r, 6, 5, 0), PST_E_DATA_LOSS);
    trial_finish(t);
}

static void test_read__with_sums_asks_for_the_whole_and_stops_after_its_share(void **state)
{
    static const char headers[] =
        "content-length: 11\netag: \"e\"\nx-amz-checksum-crc32c: yZRlqg==";
    struct trial *t = trial_start(NULL);
    struct reading r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(&t->fake, 200, headers, "hello world");
    assert_int_equal(run_read(t, &r, 0, 100, PST_READ_SUMS), PST_OK);
    assert_string_equal(fake_header(sent(t, 0), "range"), "");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-checksum-mode"), "ENABLED");
    assert_int_equal(r.result.n_read, 11);
    assert_int_equal(r.result.n_sums, 1);
    assert_int_equal(r.result.sums[0].algorithm, PST_SUM_CRC32C);
    assert_int_equal(r.result.sums[0].scope, PST_SCOPE_OBJECT);
    assert_memory_equal(r.result.sums[0].bytes, "\xc9\x94\x65\xaa", 4);
    fake_answer(&t->fake, 200, headers, "hello world");
    assert_int_equal(run_read(t, &r, 0, 5, PST_READ_SUMS), PST_OK);
    assert_int_equal(r.result.n_read, 5);
    assert_int_equal(r.result.object_size, 11);
    assert_int_equal(r.result.n_sums, 1);
    trial_finish(t);
}

static void test_read__never_reports_a_checksum_with_a_range(void **state)
{
    struct trial *t = trial_start(NULL);
    struct reading r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(
        &t->fake, 206,
        "content-range: bytes 6-10/11\netag: \"e\"\nx-amz-checksum-crc32c: yZRlqg==", "world");
    assert_int_equal(run_read(t, &r, 6, 5, PST_READ_SUMS), PST_OK);
    assert_int_equal(r.result.n_sums, 0);
    fake_answer(&t->fake, 200, "content-length: 2\nx-amz-checksum-crc32c: yZRlqg==-2", "ab");
    assert_int_equal(run_read(t, &r, 0, 5, PST_READ_SUMS), PST_OK);
    assert_int_equal(r.result.n_sums,
                     1); /* a checksum of checksums: none, but stat tells the parts' */
    assert_int_equal(r.result.sums[0].scope, PST_SCOPE_RANGE);
    assert_int_equal(r.result.sums[0].length, 0);
    trial_finish(t);
}

static void test_read__of_another_content_than_wanted_fails(void **state)
{
    struct trial *t = trial_start(NULL);
    struct reading r = {.args = {.if_match = PST_STR("\"e\"")}};
    (void)state;
    fake_answer(&t->fake, 206, "content-range: bytes 0-4/5\netag: \"f\"", "hello");
    assert_int_equal(run_read(t, &r, 0, 5, 0), PST_E_PRECONDITION);
    fake_answer(&t->fake, 412, NULL, ERROR_XML("PreconditionFailed"));
    assert_int_equal(run_read(t, &r, 0, 5, 0), PST_E_PRECONDITION);
    fake_answer(&t->fake, 404, NULL, ERROR_XML("NoSuchKey"));
    assert_int_equal(run_read(t, &r, 0, 5, 0), PST_E_NOT_FOUND);
    trial_finish(t);
}

static void test_read__cut_body_may_be_asked_for_again(void **state)
{
    const struct fake_reply reply = {.status = 206,
                                     .headers = "content-range: bytes 0-4/5\netag: \"e\"\n"
                                                "content-length: 5",
                                     .body = "hello",
                                     .body_len = 5,
                                     .has_cut = 1,
                                     .cut_at = 3,
                                     .rc = PST_E_UNAVAILABLE,
                                     .failed_at = PST_HTTP_AT_BODY};
    struct trial *t = trial_start(NULL);
    struct reading r = {.args = {.flags = 0}};
    (void)state;
    fake_answer_with(&t->fake, &reply);
    assert_int_equal(run_read(t, &r, 0, 5, 0), PST_E_UNAVAILABLE);
    assert_true(t->op.err.flags & PST_ERR_RETRYABLE);
    trial_finish(t);
}

static void test_read__refuses_keys_that_s3_cannot_hold(void **state)
{
    static const pst_str keys[] = {{"", 0}, {"a\0b", 3}, {"\xff", 1}, {"a\xc3", 2}};
    struct trial *t = trial_start(NULL);
    char *long_key = malloc(1025);
    (void)state;
    assert_non_null(long_key);
    memset(long_key, 'k', 1025);
    for (size_t i = 0; i < 5; i++) {
        pst_op *op = trial_op(t);
        const pst_read_args args = {.struct_size = sizeof(args),
                                    .key = i < 4 ? keys[i] : pst_str_of(long_key, 1025),
                                    .length = 1};
        pst_read_result result = {.struct_size = sizeof(result)};
        assert_int_equal(ops_of(t)->read(t->fake.store, op, &args, &result), PST_E_INVALID);
    }
    assert_int_equal(t->fake.n_sent, 0);
    free(long_key);
    trial_finish(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read__range_goes_straight_to_what_the_host_grants),
        cmocka_unit_test(test_read__waits_for_memory_without_holding_a_thread),
        cmocka_unit_test(test_read__suffix_and_callers_memory),
        cmocka_unit_test(test_read__refuses_what_is_not_the_range),
        cmocka_unit_test(test_read__without_any_length_is_refused),
        cmocka_unit_test(test_read__at_the_end_is_cut_short),
        cmocka_unit_test(test_read__beyond_the_end_is_empty_and_names_the_content),
        cmocka_unit_test(test_read__whole_reply_to_a_range_is_taken_from_the_start_only),
        cmocka_unit_test(test_read__with_sums_asks_for_the_whole_and_stops_after_its_share),
        cmocka_unit_test(test_read__never_reports_a_checksum_with_a_range),
        cmocka_unit_test(test_read__of_another_content_than_wanted_fails),
        cmocka_unit_test(test_read__cut_body_may_be_asked_for_again),
        cmocka_unit_test(test_read__refuses_keys_that_s3_cannot_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
