#include "trial.h"

static char abc[] = "abc";
static const pst_iov src = {abc, 3};
#define MD5_OF_ABC "\"900150983cd24fb0d6963f7d28e17f72\""
#define OPENED                                                                                     \
    XML "<InitiateMultipartUploadResult><UploadId>U 1</UploadId></InitiateMultipartUploadResult>"
#define COMPLETED                                                                                  \
    "\n\n  " XML                                                                                   \
    "<CompleteMultipartUploadResult><ETag>&quot;m-2&quot;</ETag></CompleteMultipartUploadResult>"
/* md5 of the two binary MD5s */
#define MD5_OF_BOTH "\"043a916d6cfeecedf5e04f0312ba762d-2\""

static pst_upload *open_upload(struct trial *t, uint32_t flags, pst_str if_match)
{
    static const pst_attr attr = {.struct_size = sizeof(attr), .content_type = {"text/plain", 10}};
    pst_op *op = trial_op(t);
    const pst_put_args args = {.struct_size = sizeof(args),
                               .flags = flags,
                               .size_hint = PST_UNKNOWN,
                               .key = fake_str("k"),
                               .if_match = if_match,
                               .attr = &attr};
    pst_upload_result result = {.struct_size = sizeof(result)};
    fake_answer(&t->fake, 200, NULL, OPENED);
    assert_int_equal(fake_run(&t->op, ops_of(t)->upload_open(t->fake.store, op, &args, &result)),
                     PST_OK);
    assert_non_null(result.upload);
    return result.upload;
}

static pst_rc run_part(struct trial *t, pst_upload *upload, uint32_t number)
{
    pst_op *op = trial_op(t);
    const pst_part_args args = {.struct_size = sizeof(args),
                                .number = number,
                                .offset = 3 * (uint64_t)number,
                                .src = &src,
                                .n_src = 1};
    pst_result result = {.struct_size = sizeof(result)};
    return fake_run(&t->op, ops_of(t)->upload_part(upload, op, &args, &result));
}

static void send_part(struct trial *t, pst_upload *upload, uint32_t number)
{
    fake_answer(&t->fake, 200, "etag: " MD5_OF_ABC, NULL);
    assert_int_equal(run_part(t, upload, number), PST_OK);
}

static pst_rc run_commit(struct trial *t, pst_upload *upload, uint32_t n_parts, uint64_t size,
                         pst_put_result *result)
{
    pst_op *op = trial_op(t);
    const pst_commit_args args = {.struct_size = sizeof(args), .size = size, .n_parts = n_parts};
    *result = (pst_put_result){.struct_size = sizeof(*result)};
    return fake_run(&t->op, ops_of(t)->upload_commit(upload, op, &args, result));
}

static pst_rc run_abort(struct trial *t, pst_upload *upload)
{
    pst_op *op = trial_op(t);
    const pst_abort_args args = {.struct_size = sizeof(args)};
    pst_result result = {.struct_size = sizeof(result)};
    return fake_run(&t->op, ops_of(t)->upload_abort(upload, op, &args, &result));
}

static pst_str none(void)
{
    return pst_str_of(NULL, 0);
}

static void finish(struct trial *t, pst_upload *upload)
{
    ops_of(t)->upload_free(upload);
    trial_finish(t);
}

static void test_upload__parts_in_any_order_become_one_object(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    assert_string_equal(asked(t, 0), "POST /bucket/k?uploads=");
    assert_string_equal(fake_header(sent(t, 0), "content-type"), "text/plain");
    send_part(t, upload, 1);
    send_part(t, upload, 0);
    assert_string_equal(asked(t, 1), "PUT /bucket/k?partNumber=2&uploadId=U%201");
    assert_string_equal(sent(t, 1)->body, "abc");
    fake_answer(&t->fake, 200, "x-amz-version-id: v1", COMPLETED);
    assert_int_equal(run_commit(t, upload, 2, 6, &result), PST_OK);
    assert_string_equal(asked(t, 3), "POST /bucket/k?uploadId=U%201");
    assert_string_equal(
        sent(t, 3)->body,
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        "<Part><PartNumber>1</PartNumber><ETag>&quot;900150983cd24fb0d6963f7d28e17f72&quot;</ETag>"
        "</Part><Part><PartNumber>2</PartNumber><ETag>&quot;900150983cd24fb0d6963f7d28e17f72&quot;"
        "</ETag></Part></CompleteMultipartUpload>");
    assert_text(result.etag, "\"m-2\"");
    assert_text(result.version, "v1");
    assert_true(result.size == PST_UNKNOWN);
    /* Again: the same, and nothing is sent. So is an abort that comes too late. */
    assert_int_equal(run_commit(t, upload, 2, 6, &result), PST_OK);
    assert_text(result.etag, "\"m-2\"");
    assert_int_equal(run_abort(t, upload), PST_OK);
    assert_int_equal(t->fake.n_sent, 4);
    finish(t, upload);
}

static void test_upload__part_that_is_stored_is_not_sent_again(void **state)
{
    struct trial *t = trial_start(NULL);
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    send_part(t, upload, 0);
    assert_int_equal(run_part(t, upload, 0), PST_OK);
    assert_int_equal(t->fake.n_sent, 2);
    fake_answer(&t->fake, 200, NULL, NULL); /* and no etag */
    assert_int_equal(run_part(t, upload, 1), PST_E_DATA_LOSS);
    finish(t, upload);
}

static void test_upload__commit_refuses_what_does_not_add_up(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    send_part(t, upload, 0);
    send_part(t, upload, 2);
    assert_int_equal(run_commit(t, upload, 3, 9, &result), PST_E_DATA_LOSS); /* 1 is missing */
    assert_int_equal(run_commit(t, upload, 2, 6, &result), PST_E_DATA_LOSS); /* 2 is too much */
    send_part(t, upload, 1);
    assert_int_equal(run_commit(t, upload, 3, 8, &result), PST_E_DATA_LOSS);
    assert_int_equal(t->fake.n_sent, 4);
    finish(t, upload);
}

static void test_upload__error_document_under_200_fails_the_commit(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    send_part(t, upload, 0);
    fake_answer(&t->fake, 200, NULL, ERROR_XML("InvalidPart"));
    assert_int_equal(run_commit(t, upload, 1, 3, &result), PST_E_DATA_LOSS);
    fake_answer(&t->fake, 200, NULL, "   " ERROR_XML("InternalError"));
    fake_answer(&t->fake, 404, NULL, NULL); /* the look: not there, yet */
    assert_int_equal(run_commit(t, upload, 1, 3, &result), PST_E_UNAVAILABLE);
    assert_int_equal(t->op.err.flags, PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED);
    assert_string_equal(asked(t, 4), "HEAD /bucket/k");
    finish(t, upload);
}

static void test_upload__commit_whose_reply_was_lost_is_recognised_by_its_etag(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    send_part(t, upload, 0);
    send_part(t, upload, 1);
    answer_cut(t);
    fake_answer(&t->fake, 200, "content-length: 6\netag: \"other-2\"", NULL);
    assert_int_equal(run_commit(t, upload, 2, 6, &result), PST_E_UNAVAILABLE);
    /* The next one meets the end of the upload: that may be the first one's work. */
    fake_answer(&t->fake, 404, NULL, ERROR_XML("NoSuchUpload"));
    fake_answer(&t->fake, 200, "content-length: 6\netag: " MD5_OF_BOTH, NULL);
    assert_int_equal(run_commit(t, upload, 2, 6, &result), PST_OK);
    assert_text(result.etag, MD5_OF_BOTH);
    assert_int_equal(result.size, 6);
    finish(t, upload);
}

/* As Ceph RGW answers every commit. */
#define NO_ETAG "<CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>"

static void test_upload__commit_that_names_no_etag_is_looked_up(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    send_part(t, upload, 0);
    send_part(t, upload, 1);
    fake_answer(&t->fake, 200, NULL, NO_ETAG);
    fake_answer(&t->fake, 404, NULL, NULL);
    assert_int_equal(run_commit(t, upload, 2, 6, &result), PST_E_UNAVAILABLE);
    assert_true(t->op.err.flags & PST_ERR_MAYBE_APPLIED);
    fake_answer(&t->fake, 404, NULL, ERROR_XML("NoSuchUpload"));
    fake_answer(&t->fake, 200, "content-length: 6\netag: " MD5_OF_BOTH, NULL);
    assert_int_equal(run_commit(t, upload, 2, 6, &result), PST_OK);
    assert_text(result.etag, MD5_OF_BOTH);
    finish(t, upload);
}

/* Who cancels, or has no time left, hears that rather than what the reply before it lacked. */
static void test_upload__look_that_is_cut_off_says_why(void **state)
{
    static const pst_rc reasons[] = {PST_E_CANCELLED, PST_E_DEADLINE, PST_E_NO_MEMORY};
    struct trial *t = trial_start(NULL);
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    send_part(t, upload, 0);
    send_part(t, upload, 1);
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        const struct fake_reply cut = {.rc = reasons[i], .failed_at = PST_HTTP_AT_HEAD};
        fake_answer(&t->fake, 200, NULL, NO_ETAG);
        fake_answer_with(&t->fake, &cut);
        assert_int_equal(run_commit(t, upload, 2, 6, &result), reasons[i]);
        assert_int_equal(t->op.err.code, reasons[i]);
        assert_int_equal(t->op.err.flags, PST_ERR_MAYBE_APPLIED);
    }
    finish(t, upload);
}

static int answer_commit(struct fake *fake, struct fake_sent *sent, struct fake_reply *reply)
{
    int is_head = strcmp(sent->method, "HEAD") == 0;
    (void)fake;
    *reply = (struct fake_reply){.status = 200,
                                 .headers = is_head ? "content-length: 6\netag: " MD5_OF_BOTH
                                                    : NULL,
                                 .body = is_head ? NULL : NO_ETAG,
                                 .body_len = is_head ? 0 : strlen(NO_ETAG)};
    return 1;
}

static void test_upload__look_without_memory_says_so(void **state)
{
    pst_rc rc = PST_E_NO_MEMORY;
    (void)state;
    for (int64_t after = 0; rc != PST_OK; after++) {
        struct trial *t = trial_start(NULL);
        pst_put_result result;
        pst_upload *upload = open_upload(t, 0, none());
        send_part(t, upload, 0);
        send_part(t, upload, 1);
        t->fake.answer = answer_commit;
        t->fake.fail_after = after;
        rc = run_commit(t, upload, 2, 6, &result);
        t->fake.fail_after = -1;
        if (rc != PST_OK)
            assert_int_equal(rc, PST_E_NO_MEMORY);
        assert_true(after < 100);
        finish(t, upload);
    }
}

static void test_upload__etag_that_is_no_md5_is_no_proof_against_a_lost_commit(void **state)
{
    struct trial *t = trial_start(NULL);
    const pst_sum sum = {
        .algorithm = PST_SUM_CRC32C, .length = 4, .bytes = {0x36, 0x4b, 0x3f, 0xb7}};
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    send_part(t, upload, 0);
    answer_cut(t);
    fake_answer(&t->fake, 503, NULL, NULL);
    assert_int_equal(run_commit(t, upload, 1, 3, &result), PST_E_UNAVAILABLE);
    fake_answer(&t->fake, 404, NULL, ERROR_XML("NoSuchUpload"));
    fake_answer(&t->fake, 200, "content-length: 3\netag: \"00000000000000000000000000000000-1\"",
                NULL);
    assert_int_equal(run_commit(t, upload, 1, 3, &result), PST_E_NOT_FOUND);
    assert_true(t->op.err.flags & PST_ERR_MAYBE_APPLIED);
    /* Where there is a checksum beside it, that decides. */
    pst_op *op = trial_op(t);
    const pst_commit_args args = {.struct_size = sizeof(args),
                                  .size = 3,
                                  .n_parts = 1,
                                  .sums = &sum,
                                  .n_sums = 1,
                                  .sum_stride = sizeof(sum)};
    fake_answer(&t->fake, 404, NULL, ERROR_XML("NoSuchUpload"));
    fake_answer(&t->fake, 200,
                "content-length: 3\netag: \"00000000000000000000000000000000-1\"\n"
                "x-amz-checksum-crc32c: Nks/tw==",
                NULL);
    result = (pst_put_result){.struct_size = sizeof(result)};
    assert_int_equal(fake_run(&t->op, ops_of(t)->upload_commit(upload, op, &args, &result)),
                     PST_OK);
    finish(t, upload);
}

static void test_upload__refused_condition_under_200_is_exists(void **state)
{
    struct trial *t = trial_start(OPTIONS("conditional_writes=trust"));
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, PST_PUT_CREATE_ONLY, none());
    assert_true(sent(t, 0)->request.flags & PST_HTTP_NO_REUSE); /* never opened twice */
    send_part(t, upload, 0);
    fake_answer(&t->fake, 200, NULL, ERROR_XML("PreconditionFailed"));
    assert_int_equal(run_commit(t, upload, 1, 3, &result), PST_E_EXISTS);
    finish(t, upload);
}

static void test_upload__without_doubt_no_such_upload_is_just_that(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    send_part(t, upload, 0);
    fake_answer(&t->fake, 404, NULL, ERROR_XML("NoSuchUpload"));
    assert_int_equal(run_commit(t, upload, 1, 3, &result), PST_E_NOT_FOUND);
    assert_int_equal(t->fake.n_sent, 3);
    finish(t, upload);
}

static void test_upload__condition_stands_with_the_commit(void **state)
{
    struct trial *t = trial_start(OPTIONS("conditional_writes=trust"));
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, PST_PUT_CREATE_ONLY, none());
    assert_string_equal(fake_header(sent(t, 0), "if-none-match"), "");
    send_part(t, upload, 0);
    fake_answer(&t->fake, 412, NULL, ERROR_XML("PreconditionFailed"));
    assert_int_equal(run_commit(t, upload, 1, 3, &result), PST_E_EXISTS);
    assert_string_equal(fake_header(sent(t, 2), "if-none-match"), "*");
    finish(t, upload);
}

static void test_upload__without_parts_is_an_empty_object(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    fake_answer(&t->fake, 200, "etag: \"e\"", NULL);
    fake_answer(&t->fake, 200, NULL, COMPLETED);
    assert_int_equal(run_commit(t, upload, 0, 0, &result), PST_OK);
    assert_string_equal(asked(t, 1), "PUT /bucket/k?partNumber=1&uploadId=U%201");
    assert_int_equal(sent(t, 1)->body_len, 0);
    finish(t, upload);
}

static void test_upload__abort_is_repeated_while_a_part_may_still_arrive(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_put_result result;
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    fake_answer(&t->fake, 504, NULL, NULL); /* the gateway went, the part is on its way */
    assert_int_equal(run_part(t, upload, 0), PST_E_UNAVAILABLE);
    fake_answer(&t->fake, 204, NULL, NULL);
    fake_answer(&t->fake, 204, NULL, NULL);
    fake_answer(&t->fake, 404, NULL, ERROR_XML("NoSuchUpload"));
    assert_int_equal(run_abort(t, upload), PST_OK);
    assert_int_equal(t->fake.n_sent, 5);
    assert_string_equal(asked(t, 4), "DELETE /bucket/k?uploadId=U%201");
    assert_int_equal(run_abort(t, upload), PST_OK);
    assert_int_equal(run_commit(t, upload, 0, 0, &result), PST_E_PRECONDITION);
    assert_int_equal(t->fake.n_sent, 5);
    finish(t, upload);
}

static void test_upload__declares_the_checksum_of_the_store(void **state)
{
    const pst_sum sum = {
        .algorithm = PST_SUM_CRC32C, .length = 4, .bytes = {0x36, 0x4b, 0x3f, 0xb7}};
    struct trial *t = trial_start(OPTIONS("checksum=crc32c"));
    (void)state;
    pst_upload *upload = open_upload(t, 0, none());
    assert_string_equal(fake_header(sent(t, 0), "x-amz-checksum-algorithm"), "CRC32C");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-checksum-type"), "FULL_OBJECT");
    pst_op *op = trial_op(t);
    const pst_part_args part = {.struct_size = sizeof(part),
                                .src = &src,
                                .n_src = 1,
                                .sums = &sum,
                                .n_sums = 1,
                                .sum_stride = sizeof(sum)};
    pst_result none_ = {.struct_size = sizeof(none_)};
    fake_answer(&t->fake, 200, "etag: " MD5_OF_ABC, NULL);
    assert_int_equal(fake_run(&t->op, ops_of(t)->upload_part(upload, op, &part, &none_)), PST_OK);
    assert_string_equal(fake_header(sent(t, 1), "x-amz-checksum-crc32c"), "Nks/tw==");
    op = trial_op(t);
    const pst_commit_args commit = {.struct_size = sizeof(commit),
                                    .size = 3,
                                    .n_parts = 1,
                                    .sums = &sum,
                                    .n_sums = 1,
                                    .sum_stride = sizeof(sum)};
    pst_put_result result = {.struct_size = sizeof(result)};
    fake_answer(&t->fake, 200, NULL, COMPLETED);
    assert_int_equal(fake_run(&t->op, ops_of(t)->upload_commit(upload, op, &commit, &result)),
                     PST_OK);
    assert_string_equal(fake_header(sent(t, 2), "x-amz-checksum-type"), "FULL_OBJECT");
    assert_string_equal(fake_header(sent(t, 2), "x-amz-checksum-crc32c"), "Nks/tw==");
    assert_non_null(strstr(sent(t, 2)->body, "<ChecksumCRC32C>Nks/tw==</ChecksumCRC32C>"));
    finish(t, upload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upload__parts_in_any_order_become_one_object),
        cmocka_unit_test(test_upload__part_that_is_stored_is_not_sent_again),
        cmocka_unit_test(test_upload__commit_refuses_what_does_not_add_up),
        cmocka_unit_test(test_upload__error_document_under_200_fails_the_commit),
        cmocka_unit_test(test_upload__commit_whose_reply_was_lost_is_recognised_by_its_etag),
        cmocka_unit_test(test_upload__commit_that_names_no_etag_is_looked_up),
        cmocka_unit_test(test_upload__look_that_is_cut_off_says_why),
        cmocka_unit_test(test_upload__look_without_memory_says_so),
        cmocka_unit_test(test_upload__etag_that_is_no_md5_is_no_proof_against_a_lost_commit),
        cmocka_unit_test(test_upload__refused_condition_under_200_is_exists),
        cmocka_unit_test(test_upload__without_doubt_no_such_upload_is_just_that),
        cmocka_unit_test(test_upload__condition_stands_with_the_commit),
        cmocka_unit_test(test_upload__without_parts_is_an_empty_object),
        cmocka_unit_test(test_upload__abort_is_repeated_while_a_part_may_still_arrive),
        cmocka_unit_test(test_upload__declares_the_checksum_of_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
