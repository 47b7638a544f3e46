#include "trial.h"

#define COPIED "  " XML "<CopyObjectResult><ETag>&quot;e&quot;</ETag></CopyObjectResult>"
#define OPENED                                                                                     \
    XML "<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>"
#define PART XML "<CopyPartResult><ETag>&quot;p&quot;</ETag></CopyPartResult>"
#define COMPLETED                                                                                  \
    XML "<CompleteMultipartUploadResult><ETag>&quot;m&quot;</ETag></"                              \
        "CompleteMultipartUploadResult>"

static pst_rc run_copy(struct trial *t, pst_copy_args *args, pst_put_result *result)
{
    static const pst_attr none = {.struct_size = sizeof(none)};
    pst_op *op = trial_op(t);
    args->struct_size = sizeof(*args);
    args->from = fake_str("a b");
    args->to = fake_str("to");
    if (!args->attr)
        args->attr = &none;
    *result = (pst_put_result){.struct_size = sizeof(*result)};
    return fake_run(&t->op, ops_of(t)->copy(t->fake.store, op, args, result));
}

static void test_copy__is_one_request_for_the_store_to_carry_out(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_copy_args args = {.from_authority = PST_STR("other"), .from_version = PST_STR("v/1")};
    pst_put_result result;
    (void)state;
    fake_answer(&t->fake, 200, "x-amz-version-id: v2", COPIED);
    assert_int_equal(run_copy(t, &args, &result), PST_OK);
    assert_string_equal(asked(t, 0), "PUT /bucket/to");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-copy-source"),
                        "/other/a%20b?versionId=v%2F1");
    assert_string_equal(fake_header(sent(t, 0), "x-amz-metadata-directive"), "");
    assert_text(result.etag, "\"e\"");
    assert_text(result.version, "v2");
    trial_finish(t);
}

static void test_copy__replaces_attributes_when_asked_to(void **state)
{
    const pst_attr attr = {.struct_size = sizeof(attr), .content_type = PST_STR("image/png")};
    struct trial *t = trial_start(NULL);
    pst_copy_args args = {.flags = PST_COPY_REPLACE_ATTR, .attr = &attr};
    pst_put_result result;
    (void)state;
    fake_answer(&t->fake, 200, NULL, COPIED);
    assert_int_equal(run_copy(t, &args, &result), PST_OK);
    assert_string_equal(fake_header(sent(t, 0), "x-amz-metadata-directive"), "REPLACE");
    assert_string_equal(fake_header(sent(t, 0), "content-type"), "image/png");
    trial_finish(t);
}

static void test_copy__error_document_under_200_is_an_error(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_copy_args args = {.flags = 0};
    pst_put_result result;
    (void)state;
    fake_answer(&t->fake, 200, NULL, ERROR_XML("SlowDown"));
    assert_int_equal(run_copy(t, &args, &result), PST_E_THROTTLED);
    fake_answer(&t->fake, 200, NULL, "");
    assert_int_equal(run_copy(t, &args, &result), PST_E_UNAVAILABLE);
    assert_int_equal(t->op.err.flags, PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED);
    trial_finish(t);
}

static void test_copy__of_another_content_than_wanted_does_not_begin(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_copy_args args = {.from_if_match = PST_STR("\"e\"")};
    pst_put_result result;
    (void)state;
    fake_answer(&t->fake, 200, "etag: \"f\"\ncontent-length: 3", NULL);
    assert_int_equal(run_copy(t, &args, &result), PST_E_PRECONDITION);
    assert_string_equal(asked(t, 0), "HEAD /bucket/a%20b");
    fake_answer(&t->fake, 200, "etag: \"e\"\ncontent-length: 3", NULL);
    fake_answer(&t->fake, 200, NULL, COPIED);
    assert_int_equal(run_copy(t, &args, &result), PST_OK);
    assert_string_equal(fake_header(sent(t, 2), "x-amz-copy-source-if-match"), "\"e\"");
    trial_finish(t);
}

/* A store that holds an object of 300 MiB and copies parts of it. */
struct source {
    int fail_part;
    int is_unclear;   /* the code of its refusal has many meanings */
    const char *size; /* of the object, NULL: 300 MiB */
    int n_parts, n_aborts;
};

static int serve(struct fake *fake, struct fake_sent *sent, struct fake_reply *reply)
{
    struct source *s = fake->answer_ctx;
    *reply = (struct fake_reply){.status = 200};
    if (strcmp(sent->method, "HEAD") == 0) {
        reply->headers = s->size ? s->size
                                 : "etag: \"e\"\ncontent-length: 314572801\n"
                                   "content-type: text/plain\n"
                                   "x-amz-meta-step: 12\nx-amz-tagging-count: 1";
    } else if (strstr(sent->url, "?tagging")) {
        reply->body = XML
            "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
    } else if (strstr(sent->url, "?uploads")) {
        reply->body = OPENED;
    } else if (strcmp(sent->method, "DELETE") == 0) {
        reply->status = ++s->n_aborts == 1 ? 204 : 404;
    } else if (strstr(sent->url, "partNumber")) {
        s->n_parts++;
        reply->body = PART;
        if (s->fail_part && strstr(sent->url, "partNumber=2")) {
            reply->status = 412;
            reply->body = ERROR_XML("PreconditionFailed");
        }
    } else if (fake_header(sent, "x-amz-copy-source")[0]) {
        reply->status = 400;
        reply->body = s->is_unclear ? ERROR_XML("InvalidRequest") : ERROR_XML("EntityTooLarge");
    } else {
        reply->body = COMPLETED;
    }
    reply->body_len = reply->body ? strlen(reply->body) : 0;
    return 1;
}

static const struct fake_sent *find(const struct trial *t, const char *part)
{
    for (size_t i = 0; i < t->fake.n_sent; i++) {
        if (strstr(sent(t, i)->url, part))
            return sent(t, i);
    }
    fail_msg("no request with %s", part);
    return NULL;
}

static void test_copy__too_large_for_one_request_goes_in_parts(void **state)
{
    struct trial *t = trial_start(NULL);
    struct source source = {.fail_part = 0};
    pst_copy_args args = {.flags = 0};
    pst_put_result result;
    (void)state;
    t->fake.answer = serve;
    t->fake.answer_ctx = &source;
    assert_int_equal(run_copy(t, &args, &result), PST_OK);
    assert_int_equal(source.n_parts, 3);
    assert_text(result.etag, "\"m\"");
    const struct fake_sent *opened = find(t, "?uploads");
    assert_string_equal(fake_header(opened, "content-type"), "text/plain");
    assert_string_equal(fake_header(opened, "x-amz-meta-step"), "12");
    assert_string_equal(fake_header(opened, "x-amz-tagging"), "k=v");
    const struct fake_sent *last = find(t, "partNumber=3");
    assert_string_equal(fake_header(last, "x-amz-copy-source-range"), "bytes=268435456-314572800");
    assert_string_equal(fake_header(last, "x-amz-copy-source-if-match"), "\"e\"");
    trial_finish(t);
}

static void test_copy__part_that_fails_ends_the_upload(void **state)
{
    struct trial *t = trial_start(NULL);
    struct source source = {.fail_part = 1};
    pst_copy_args args = {.flags = 0};
    pst_put_result result;
    (void)state;
    t->fake.answer = serve;
    t->fake.answer_ctx = &source;
    assert_int_equal(run_copy(t, &args, &result), PST_E_PRECONDITION);
    assert_string_equal(t->op.err.provider_code, "PreconditionFailed");
    assert_int_equal(source.n_aborts, 2);                              /* until it is gone */
    assert_int_not_equal(sent(t, t->fake.n_sent - 1)->deadline_ns, 0); /* not the operation's */
    trial_finish(t);
}

static void test_copy__with_a_condition_on_the_destination_relies_on_the_commit(void **state)
{
    struct trial *t = trial_start(OPTIONS("conditional_writes=trust"));
    pst_copy_args args = {.flags = PST_PUT_CREATE_ONLY};
    pst_put_result result;
    (void)state;
    fake_answer(&t->fake, 200, "etag: \"e\"\ncontent-length: 3", NULL);
    fake_answer(&t->fake, 200, NULL, OPENED);
    fake_answer(&t->fake, 200, NULL, PART);
    fake_answer(&t->fake, 412, NULL, ERROR_XML("PreconditionFailed"));
    fake_answer(&t->fake, 204, NULL, NULL);
    assert_int_equal(run_copy(t, &args, &result), PST_E_EXISTS);
    assert_string_equal(fake_header(sent(t, 2), "x-amz-copy-source-range"), "");
    assert_string_equal(fake_header(sent(t, 3), "if-none-match"), "*");
    assert_string_equal(asked(t, 4), "DELETE /bucket/to?uploadId=U");
    trial_finish(t);
}

static void test_copy__refused_for_another_reason_than_its_size_is_an_error(void **state)
{
    struct trial *t = trial_start(NULL);
    struct source source = {.is_unclear = 1};
    pst_copy_args args = {.flags = 0};
    pst_put_result result;
    (void)state;
    t->fake.answer = serve;
    t->fake.answer_ctx = &source;
    assert_int_equal(run_copy(t, &args, &result), PST_E_INVALID);
    assert_string_equal(t->op.err.provider_code, "InvalidRequest");
    assert_int_equal(t->fake.n_sent, 2); /* and the look at how large it is */
    source.size = "etag: \"e\"\ncontent-length: 5368709121";
    assert_int_equal(run_copy(t, &args, &result), PST_OK);
    assert_int_equal(source.n_parts, 41);
    trial_finish(t);
}

static void test_copy__commit_in_doubt_is_over_when_there_was_an_upload_to_abort(void **state)
{
    struct trial *t = trial_start(OPTIONS("conditional_writes=trust"));
    pst_copy_args args = {.flags = PST_PUT_CREATE_ONLY};
    pst_put_result result;
    (void)state;
    for (int is_there = 0; is_there < 2; is_there++) {
        fake_answer(&t->fake, 200, "etag: \"e\"\ncontent-length: 3", NULL);
        fake_answer(&t->fake, 200, NULL, OPENED);
        fake_answer(&t->fake, 200, NULL, PART);
        answer_cut(t);
        fake_answer(&t->fake, 404, NULL, NULL); /* nothing there, so far */
        fake_answer(&t->fake, is_there ? 204 : 404, NULL, NULL);
        assert_int_equal(run_copy(t, &args, &result), PST_E_UNAVAILABLE);
        assert_int_equal(t->op.err.flags & PST_ERR_MAYBE_APPLIED,
                         is_there ? 0 : PST_ERR_MAYBE_APPLIED);
    }
    trial_finish(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy__is_one_request_for_the_store_to_carry_out),
        cmocka_unit_test(test_copy__replaces_attributes_when_asked_to),
        cmocka_unit_test(test_copy__error_document_under_200_is_an_error),
        cmocka_unit_test(test_copy__of_another_content_than_wanted_does_not_begin),
        cmocka_unit_test(test_copy__too_large_for_one_request_goes_in_parts),
        cmocka_unit_test(test_copy__part_that_fails_ends_the_upload),
        cmocka_unit_test(test_copy__with_a_condition_on_the_destination_relies_on_the_commit),
        cmocka_unit_test(test_copy__refused_for_another_reason_than_its_size_is_an_error),
        cmocka_unit_test(test_copy__commit_in_doubt_is_over_when_there_was_an_upload_to_abort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
