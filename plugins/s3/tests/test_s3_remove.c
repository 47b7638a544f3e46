#include "trial.h"

#define N_MAX 8

struct removing {
    pst_remove_args args;
    pst_remove_result result;
    pst_rc status[N_MAX];
    pst_error errors[N_MAX];
};

static pst_rc run_remove(struct trial *t, struct removing *r, const pst_str *keys, size_t n)
{
    pst_op *op = trial_op(t);
    r->args.struct_size = sizeof(r->args);
    r->args.keys = keys;
    r->args.n_keys = n;
    r->result = (pst_remove_result){.struct_size = sizeof(r->result),
                                    .status = r->status,
                                    .errors = r->errors,
                                    .error_stride = sizeof(r->errors[0])};
    for (size_t i = 0; i < N_MAX; i++) {
        r->status[i] = PST_E_INTERNAL;
        r->errors[i] = (pst_error)PST_ERROR_INIT;
    }
    return fake_run(&t->op, ops_of(t)->remove(t->fake.store, op, &r->args, &r->result));
}

static void test_remove__one_key_is_one_delete(void **state)
{
    const pst_str keys[] = {PST_STR("a/b")}, versions[] = {PST_STR("v1")};
    struct trial *t = trial_start(NULL);
    struct removing r = {.args = {.versions = versions}};
    (void)state;
    fake_answer(&t->fake, 204, NULL, NULL);
    assert_int_equal(run_remove(t, &r, keys, 1), PST_OK);
    assert_string_equal(asked(t, 0), "DELETE /bucket/a/b?versionId=v1");
    assert_int_equal(r.status[0], PST_OK);
    r.args.versions = NULL;
    fake_answer(&t->fake, 404, NULL, ERROR_XML("NoSuchKey"));
    assert_int_equal(run_remove(t, &r, keys, 1), PST_OK);
    assert_int_equal(r.status[0], PST_OK);
    fake_answer(&t->fake, 404, NULL, ERROR_XML("NoSuchBucket"));
    assert_int_equal(run_remove(t, &r, keys, 1), PST_E_NOT_FOUND);
    assert_int_equal(r.status[0], PST_E_NOT_FOUND);
    trial_finish(t);
}

static void test_remove__many_keys_are_one_request_with_an_answer_for_each(void **state)
{
    const pst_str keys[] = {PST_STR("a&<b>"), PST_STR("c"), PST_STR("d"), PST_STR("\xff")};
    struct trial *t = trial_start(NULL);
    struct removing r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(&t->fake, 200, NULL,
                XML
                "<DeleteResult><Error><Key>c</Key><Code>AccessDenied</Code><Message>no</Message>"
                "</Error><Error><Key>d</Key><Code>NoSuchKey</Code></Error></DeleteResult>");
    assert_int_equal(run_remove(t, &r, keys, 4), PST_OK);
    assert_string_equal(asked(t, 0), "POST /bucket?delete=");
    assert_string_equal(
        sent(t, 0)->body,
        "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>"
        "<Object><Key>a&amp;&lt;b&gt;</Key></Object><Object><Key>c</Key></Object>"
        "<Object><Key>d</Key></Object></Delete>");
    assert_int_equal(strlen(fake_header(sent(t, 0), "content-md5")), 24);
    assert_int_equal(r.status[0], PST_OK);
    assert_int_equal(r.status[1], PST_E_DENIED);
    assert_string_equal(r.errors[1].provider_code, "AccessDenied");
    assert_int_equal(r.status[2], PST_OK);
    assert_int_equal(r.status[3], PST_E_INVALID);
    trial_finish(t);
}

static void test_remove__keys_that_xml_cannot_carry_go_one_by_one(void **state)
{
    const pst_str keys[] = {PST_STR("a\x01"), PST_STR("b"), PST_STR("c\n"), PST_STR("d")};
    struct trial *t = trial_start(NULL);
    struct removing r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(&t->fake, 200, NULL, XML "<DeleteResult></DeleteResult>");
    fake_answer(&t->fake, 204, NULL, NULL);
    fake_answer(&t->fake, 403, NULL, ERROR_XML("AccessDenied"));
    assert_int_equal(run_remove(t, &r, keys, 4), PST_OK);
    assert_null(strstr(sent(t, 0)->body, "a\x01"));
    assert_string_equal(asked(t, 1), "DELETE /bucket/a%01");
    assert_string_equal(asked(t, 2), "DELETE /bucket/c%0A");
    assert_int_equal(r.status[0], PST_OK);
    assert_int_equal(r.status[1], PST_OK);
    assert_int_equal(r.status[2], PST_E_DENIED);
    assert_int_equal(r.status[3], PST_OK);
    trial_finish(t);
}

static void test_remove__store_without_the_batch_is_asked_singly(void **state)
{
    const pst_str keys[] = {PST_STR("a"), PST_STR("b")};
    struct trial *t = trial_start(NULL);
    struct removing r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(&t->fake, 501, NULL, ERROR_XML("NotImplemented"));
    fake_answer(&t->fake, 204, NULL, NULL);
    fake_answer(&t->fake, 204, NULL, NULL);
    assert_int_equal(run_remove(t, &r, keys, 2), PST_OK);
    assert_int_equal(t->fake.n_sent, 3);
    assert_int_equal(r.status[0], PST_OK);
    assert_int_equal(r.status[1], PST_OK);
    trial_finish(t);
}

static void test_remove__error_document_under_200_is_an_error(void **state)
{
    const pst_str keys[] = {PST_STR("a"), PST_STR("b")};
    struct trial *t = trial_start(NULL);
    struct removing r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(&t->fake, 200, NULL, ERROR_XML("InternalError"));
    assert_int_equal(run_remove(t, &r, keys, 2), PST_E_UNAVAILABLE);
    assert_true(t->op.err.flags & PST_ERR_RETRYABLE);
    assert_int_equal(r.status[0], PST_E_UNAVAILABLE); /* the host believes an OK here */
    assert_int_equal(r.status[1], PST_E_UNAVAILABLE);
    trial_finish(t);
}

static void test_remove__reply_that_is_no_result_leaves_no_key_as_deleted(void **state)
{
    static const char *const replies[] = {
        XML "<DeleteResult>",
        XML "<DeleteResult><Error><Key>a</Key><Code>NoSuchKey</Code></Error>",
        XML "<html><body>please log in</body></html>",
    };
    const pst_str keys[] = {PST_STR("a"), PST_STR("b")};
    (void)state;
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        struct trial *t = trial_start(NULL);
        struct removing r = {.args = {.flags = 0}};
        fake_answer(&t->fake, 200, NULL, replies[i]);
        assert_int_equal(run_remove(t, &r, keys, 2), PST_E_DATA_LOSS);
        assert_int_equal(t->op.err.flags, PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED);
        assert_int_equal(r.status[0], PST_E_DATA_LOSS);
        assert_int_equal(r.status[1], PST_E_DATA_LOSS);
        trial_finish(t);
    }
}

static void test_remove__error_with_a_version_that_was_not_sent_is_of_its_key(void **state)
{
    const pst_str keys[] = {PST_STR("a"), PST_STR("b")};
    struct trial *t = trial_start(NULL);
    struct removing r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(&t->fake, 200, NULL,
                XML "<DeleteResult><Error><Key>a</Key><VersionId>null</VersionId>"
                    "<Code>AccessDenied</Code></Error></DeleteResult>");
    assert_int_equal(run_remove(t, &r, keys, 2), PST_OK);
    assert_int_equal(r.status[0], PST_E_DENIED);
    assert_int_equal(r.status[1], PST_OK);
    trial_finish(t);
}

static void test_remove__error_of_no_key_that_was_sent_fails_those_without_one(void **state)
{
    const pst_str keys[] = {PST_STR("a"), PST_STR("b")};
    struct trial *t = trial_start(NULL);
    struct removing r = {.args = {.flags = 0}};
    (void)state;
    fake_answer(&t->fake, 200, NULL,
                XML "<DeleteResult><Error><Code>AccessDenied</Code></Error>"
                    "<Error><Key>b</Key><Code>NoSuchKey</Code></Error></DeleteResult>");
    assert_int_equal(run_remove(t, &r, keys, 2), PST_OK);
    assert_int_equal(r.status[0], PST_E_DENIED);
    assert_string_equal(r.errors[0].provider_code, "AccessDenied");
    assert_int_equal(r.status[1], PST_OK);
    trial_finish(t);
}

static void test_remove__conditional_whose_reply_was_lost_looks(void **state)
{
    static const struct {
        uint32_t status;
        const char *headers;
        pst_rc rc;
        uint32_t flags; /* of the operation */
    } looks[] = {
        {404, NULL, PST_OK, 0},
        {200, "etag: \"e\"", PST_E_UNAVAILABLE, PST_OP_REPEATABLE},
        {200, "etag: \"f\"", PST_E_PRECONDITION, 0},
        {503, NULL, PST_E_UNAVAILABLE, 0},
    };
    const pst_str keys[] = {PST_STR("a")}, versions[] = {PST_STR("v1")};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct trial *t = trial_start(OPTIONS("conditional_writes=trust"));
        struct removing r = {.args = {.if_match = PST_STR("\"e\""), .versions = versions}};
        answer_cut(t);
        fake_answer(&t->fake, looks[i].status, looks[i].headers, NULL);
        assert_int_equal(run_remove(t, &r, keys, 1), looks[i].rc);
        assert_string_equal(fake_header(sent(t, 0), "if-match"), "\"e\"");
        assert_int_equal(r.status[0], looks[i].rc);
        assert_string_equal(asked(t, 1), "HEAD /bucket/a?versionId=v1");
        assert_true(i == 0 || (t->op.err.flags & PST_ERR_MAYBE_APPLIED));
        assert_int_equal(t->op.op.flags, looks[i].flags);
        trial_finish(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remove__one_key_is_one_delete),
        cmocka_unit_test(test_remove__many_keys_are_one_request_with_an_answer_for_each),
        cmocka_unit_test(test_remove__keys_that_xml_cannot_carry_go_one_by_one),
        cmocka_unit_test(test_remove__store_without_the_batch_is_asked_singly),
        cmocka_unit_test(test_remove__error_document_under_200_is_an_error),
        cmocka_unit_test(test_remove__reply_that_is_no_result_leaves_no_key_as_deleted),
        cmocka_unit_test(test_remove__error_with_a_version_that_was_not_sent_is_of_its_key),
        cmocka_unit_test(test_remove__error_of_no_key_that_was_sent_fails_those_without_one),
        cmocka_unit_test(test_remove__conditional_whose_reply_was_lost_looks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
