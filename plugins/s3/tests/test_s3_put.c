#include "trial.h"

static char abc[] = "abc";
static const pst_iov src = {abc, 3};
#define MD5_OF_ABC "\"900150983cd24fb0d6963f7d28e17f72\""

/* `flags`: what the attempt before left in the operation's. */
static pst_rc run_put(struct trial *t, pst_put_args *args, const pst_attr *attr,
                      pst_put_result *result, uint32_t flags)
{
    static const pst_attr none = {.struct_size = sizeof(none)};
    pst_op *op = trial_op(t);
    op->attempt = 2;
    op->flags = flags;
    args->struct_size = sizeof(*args);
    args->key = fake_str("k");
    args->src = &src;
    args->n_src = 1;
    args->attr = attr ? attr : &none;
    *result = (pst_put_result){.struct_size = sizeof(*result)};
    return fake_run(&t->op, ops_of(t)->put(t->fake.store, op, args, result));
}

static void test_put__sends_attributes_tags_and_the_options_of_the_store(void **state)
{
    struct trial *t = trial_start(
        OPTIONS("storage_class=STANDARD_IA", "acl=private", "sse=aws:kms", "sse_kms_key_id=key-1"));
    const pst_kv meta[] = {{PST_STR("step"), PST_STR("12")}, {PST_STR("empty"), PST_STR("")}};
    const pst_kv tags[] = {{PST_STR("a b"), PST_STR("c&d")}, {PST_STR("e"), PST_STR("")}};
    const pst_attr attr = {.struct_size = sizeof(attr),
                           .content_type = PST_STR("text/plain"),
                           .cache_control = PST_STR("no-cache"),
                           .user_meta = meta,
                           .n_user_meta = 2,
                           .tags = tags,
                           .n_tags = 2};
    pst_put_args args = {.flags = 0};
    pst_put_result result;
    (void)state;
    fake_answer(&t->fake, 200, "etag: \"e\"\nx-amz-version-id: v1", NULL);
    assert_int_equal(run_put(t, &args, &attr, &result, 0), PST_OK);
    assert_string_equal(asked(t, 0), "PUT /bucket/k");
    assert_string_equal(sent(t, 0)->body, "abc");
    assert_string_equal(fake_header(sent(t, 0), "content-type"), "text/plain");
    assert_string_equal(fake_header(sent(t, 0), "cache-control"), "no-cache");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-meta-step"), "12");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-tagging"), "a%20b=c%26d&e=");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-storage-class"), "STANDARD_IA");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-acl"), "private");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-server-side-encryption"), "aws:kms");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-server-side-encryption-aws-kms-key-id"),
                        "key-1");
    assert_int_equal(result.size, 3);
    assert_text(result.etag, "\"e\"");
    assert_text(result.version, "v1");
    trial_finish(t);
}

static void test_put__refuses_what_no_header_can_carry(void **state)
{
    const pst_kv bad[] = {{PST_STR("Step"), PST_STR("1")},
                          {PST_STR("a b"), PST_STR("1")},
                          {PST_STR("a"), PST_STR("x\ny")},
                          {PST_STR("a"), PST_STR(" x")},
                          {PST_STR("a"), PST_STR("\xc3\xa9")}};
    struct trial *t = trial_start(NULL);
    pst_put_args args = {.flags = 0};
    pst_put_result result;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const pst_attr attr = {.struct_size = sizeof(attr), .user_meta = &bad[i], .n_user_meta = 1};
        assert_int_equal(run_put(t, &args, &attr, &result, 0), PST_E_INVALID);
    }
    const pst_attr attr = {.struct_size = sizeof(attr), .content_type = PST_STR("a\r\nb: c")};
    assert_int_equal(run_put(t, &args, &attr, &result, 0), PST_E_INVALID);
    assert_int_equal(t->fake.n_sent, 0);
    trial_finish(t);
}

static void test_put__sends_one_checksum_and_signs_what_the_host_computed(void **state)
{
    const pst_sum sums[] = {
        {.algorithm = PST_SUM_SHA256, .length = 32, .bytes = {0xba, 0x78}},
        {.algorithm = PST_SUM_CRC32C, .length = 4, .bytes = {0x36, 0x4b, 0x3f, 0xb7}},
        {.algorithm = PST_SUM_MD5, .length = 16, .bytes = {1}},
    };
    struct trial *t = trial_start(NULL);
    pst_put_args args = {.sums = sums, .n_sums = 3, .sum_stride = sizeof(sums[0])};
    pst_put_result result;
    (void)state;
    fake_answer(&t->fake, 200, "etag: \"e\"", NULL);
    assert_int_equal(run_put(t, &args, NULL, &result, 0), PST_OK);
    assert_string_equal(fake_header(sent(t, 0), "x-amz-checksum-crc32c"), "Nks/tw==");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-checksum-sha256"), "");
    assert_string_equal(fake_header(sent(t, 0), "content-md5"), "AQAAAAAAAAAAAAAAAAAAAA==");
    assert_memory_equal(fake_header(sent(t, 0), "x-amz-content-sha256"), "ba780000", 8);
    trial_finish(t);
}

static void test_put__conditions_are_headers_and_failures_have_their_codes(void **state)
{
    struct trial *t = trial_start(OPTIONS("conditional_writes=trust"));
    pst_put_args args = {.flags = PST_PUT_CREATE_ONLY};
    pst_put_result result;
    (void)state;
    fake_answer(&t->fake, 412, NULL, ERROR_XML("PreconditionFailed"));
    assert_int_equal(run_put(t, &args, NULL, &result, 0), PST_E_EXISTS);
    assert_string_equal(fake_header(sent(t, 0), "if-none-match"), "*");
    args = (pst_put_args){.if_match = PST_STR("\"e\"")};
    fake_answer(&t->fake, 412, NULL, ERROR_XML("PreconditionFailed"));
    assert_int_equal(run_put(t, &args, NULL, &result, 0), PST_E_PRECONDITION);
    assert_string_equal(fake_header(sent(t, 1), "if-match"), "\"e\"");
    fake_answer(&t->fake, 409, NULL, ERROR_XML("ConditionalRequestConflict"));
    assert_int_equal(run_put(t, &args, NULL, &result, 0), PST_E_UNAVAILABLE);
    assert_int_equal(t->op.err.flags, PST_ERR_RETRYABLE);
    trial_finish(t);
}

static void test_put__conditional_whose_reply_was_lost_finds_its_own_work(void **state)
{
    struct trial *t = trial_start(OPTIONS("conditional_writes=trust"));
    pst_put_args args = {.flags = PST_PUT_CREATE_ONLY};
    pst_put_result result;
    (void)state;
    answer_cut(t);
    fake_answer(&t->fake, 200, "content-length: 3\netag: " MD5_OF_ABC, NULL);
    assert_int_equal(run_put(t, &args, NULL, &result, 0), PST_OK);
    assert_string_equal(asked(t, 1), "HEAD /bucket/k");
    assert_text(result.etag, MD5_OF_ABC);
    assert_int_equal(result.size, 3);
    trial_finish(t);
}

static void test_put__conditional_whose_reply_was_lost_knows_what_is_not_its_work(void **state)
{
    static const struct {
        uint32_t status;
        const char *headers;
        int is_repeatable;
    } looks[] = {
        {404, NULL, 1},                                   /* not there yet */
        {200, "content-length: 4\netag: " MD5_OF_ABC, 1}, /* another size */
        /* An etag of the form of an MD5 that is none, as stores make that encrypt. */
        {200, "content-length: 3\netag: \"00000000000000000000000000000000\"", 0},
        {200, "content-length: 3\netag: \"opaque\"", 0}, /* who knows */
        {503, NULL, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++) {
        struct trial *t = trial_start(OPTIONS("conditional_writes=trust"));
        pst_put_args args = {.flags = PST_PUT_CREATE_ONLY};
        pst_put_result result;
        answer_cut(t);
        fake_answer(&t->fake, looks[i].status, looks[i].headers, NULL);
        assert_int_equal(run_put(t, &args, NULL, &result, 0), PST_E_UNAVAILABLE);
        assert_int_equal(t->op.err.flags, PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED);
        assert_int_equal(t->op.op.flags, looks[i].is_repeatable ? PST_OP_REPEATABLE : 0);
        trial_finish(t);
    }
}

static void test_put__replacement_that_left_the_old_object_there_may_be_tried_again(void **state)
{
    struct trial *t = trial_start(OPTIONS("conditional_writes=trust"));
    pst_put_args args = {.if_match = PST_STR("\"old\"")};
    pst_put_result result;
    (void)state;
    answer_cut(t);
    fake_answer(&t->fake, 200, "content-length: 3\netag: \"old\"", NULL);
    assert_int_equal(run_put(t, &args, NULL, &result, 0), PST_E_UNAVAILABLE);
    assert_int_equal(t->op.op.flags, PST_OP_REPEATABLE);
    trial_finish(t);
}

static void test_put__refusal_after_no_lost_reply_is_a_conflict(void **state)
{
    struct trial *t = trial_start(OPTIONS("conditional_writes=trust"));
    pst_put_args args = {.flags = PST_PUT_CREATE_ONLY};
    pst_put_result result;
    (void)state;
    /* Attempt 2, and the first was throttled: another writer has made it, be it of the same bytes. */
    fake_answer(&t->fake, 412, NULL, ERROR_XML("PreconditionFailed"));
    assert_int_equal(run_put(t, &args, NULL, &result, 0), PST_E_EXISTS);
    assert_int_equal(t->fake.n_sent, 1);
    trial_finish(t);
}

static void test_put__refusal_after_a_lost_reply_may_be_its_echo(void **state)
{
    struct trial *t = trial_start(OPTIONS("conditional_writes=trust"));
    pst_put_args args = {.flags = PST_PUT_CREATE_ONLY};
    pst_put_result result;
    (void)state;
    fake_answer(&t->fake, 412, NULL, ERROR_XML("PreconditionFailed"));
    fake_answer(&t->fake, 200, "content-length: 3\netag: " MD5_OF_ABC, NULL);
    assert_int_equal(run_put(t, &args, NULL, &result, PST_OP_REPEATABLE), PST_OK);
    fake_answer(&t->fake, 412, NULL, ERROR_XML("PreconditionFailed"));
    fake_answer(&t->fake, 200, "content-length: 9\netag: \"x\"", NULL);
    assert_int_equal(run_put(t, &args, NULL, &result, PST_OP_REPEATABLE), PST_E_EXISTS);
    trial_finish(t);
}

static void test_put__without_condition_leaves_a_lost_reply_to_the_host(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_put_args args = {.flags = 0};
    pst_put_result result;
    (void)state;
    answer_cut(t);
    assert_int_equal(run_put(t, &args, NULL, &result, 0), PST_E_UNAVAILABLE);
    assert_int_equal(t->op.err.flags, PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED);
    assert_int_equal(t->fake.n_sent, 1);
    trial_finish(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put__sends_attributes_tags_and_the_options_of_the_store),
        cmocka_unit_test(test_put__refuses_what_no_header_can_carry),
        cmocka_unit_test(test_put__sends_one_checksum_and_signs_what_the_host_computed),
        cmocka_unit_test(test_put__conditions_are_headers_and_failures_have_their_codes),
        cmocka_unit_test(test_put__conditional_whose_reply_was_lost_finds_its_own_work),
        cmocka_unit_test(test_put__conditional_whose_reply_was_lost_knows_what_is_not_its_work),
        cmocka_unit_test(test_put__replacement_that_left_the_old_object_there_may_be_tried_again),
        cmocka_unit_test(test_put__refusal_after_no_lost_reply_is_a_conflict),
        cmocka_unit_test(test_put__refusal_after_a_lost_reply_may_be_its_echo),
        cmocka_unit_test(test_put__without_condition_leaves_a_lost_reply_to_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
