#include "trial.h"

/* ---- buckets ---------------------------------------------------------------------------------- */

static pst_rc run_container(struct trial *t, int is_create, const char *name)
{
    pst_op *op = trial_op(t);
    const pst_container_args args = {.struct_size = sizeof(args), .name = fake_str(name)};
    pst_result result = {.struct_size = sizeof(result)};
    return fake_run(&t->op, is_create
                                ? ops_of(t)->container_create(t->fake.store, op, &args, &result)
                                : ops_of(t)->container_delete(t->fake.store, op, &args, &result));
}

static void test_bucket__is_made_where_the_region_says(void **state)
{
    struct trial *t = trial_start(OPTIONS("endpoint=", "region=eu-west-1"));
    (void)state;
    fake_answer(&t->fake, 200, NULL, NULL);
    assert_int_equal(run_container(t, 1, ""), PST_OK);
    assert_string_equal(sent(t, 0)->url, "https://bucket.s3.eu-west-1.amazonaws.com/");
    assert_non_null(strstr(sent(t, 0)->body, "<LocationConstraint>eu-west-1</LocationConstraint>"));
    trial_finish(t);
    t = trial_start(OPTIONS("region=eu-west-1"));
    fake_answer(&t->fake, 200, NULL, NULL);
    assert_int_equal(run_container(t, 1, ""), PST_OK);
    assert_int_equal(sent(t, 0)->body_len, 0); /* not AWS */
    fake_answer(&t->fake, 409, NULL, ERROR_XML("BucketAlreadyOwnedByYou"));
    assert_int_equal(run_container(t, 1, ""), PST_E_EXISTS);
    trial_finish(t);
}

static void test_bucket__is_deleted_when_empty(void **state)
{
    struct trial *t = trial_start(NULL);
    (void)state;
    fake_answer(&t->fake, 409, NULL, ERROR_XML("BucketNotEmpty"));
    assert_int_equal(run_container(t, 0, ""), PST_E_PRECONDITION);
    assert_string_equal(asked(t, 0), "DELETE /bucket");
    fake_answer(&t->fake, 204, NULL, NULL);
    assert_int_equal(run_container(t, 0, "bucket"), PST_OK);
    assert_int_equal(run_container(t, 0, "another"), PST_E_INVALID);
    assert_int_equal(t->fake.n_sent, 2);
    trial_finish(t);
}

/* s3:///name: a name in the place of a key is no bucket to be read, written or removed. */
static void test_bucket__without_one_there_are_no_objects(void **state)
{
    struct trial *t = calloc(1, sizeof(*t));
    const pst_str key = PST_STR("name");
    const pst_stat_args stat = {.struct_size = sizeof(stat), .key = key};
    const pst_put_args put = {.struct_size = sizeof(put), .key = key};
    const pst_remove_args remove = {.struct_size = sizeof(remove), .keys = &key, .n_keys = 1};
    const pst_list_args list = {.struct_size = sizeof(list)};
    const pst_cleanup_args cleanup = {.struct_size = sizeof(cleanup)};
    pst_attr attr = {.struct_size = sizeof(attr)};
    pst_put_result written = {.struct_size = sizeof(written)};
    pst_rc status = PST_OK;
    pst_remove_result removed = {.struct_size = sizeof(removed), .status = &status};
    pst_list_result listed = {.struct_size = sizeof(listed)};
    pst_cleanup_result cleaned = {.struct_size = sizeof(cleaned)};
    (void)state;
    assert_non_null(t);
    assert_int_equal(fake_open_bucket(&t->fake, "", NULL), PST_OK);
    pst_backend *store = t->fake.store;
    pst_op *op = trial_op(t);
    assert_int_equal(fake_run(&t->op, ops_of(t)->stat(store, op, &stat, &attr)), PST_E_INVALID);
    assert_non_null(strstr(t->op.err.message, "s3://bucket/key"));
    op = trial_op(t);
    assert_int_equal(fake_run(&t->op, ops_of(t)->put(store, op, &put, &written)), PST_E_INVALID);
    op = trial_op(t);
    assert_int_equal(fake_run(&t->op, ops_of(t)->remove(store, op, &remove, &removed)), PST_OK);
    assert_int_equal(status, PST_E_INVALID);
    op = trial_op(t);
    assert_int_equal(fake_run(&t->op, ops_of(t)->list(store, op, &list, &listed)), PST_E_INVALID);
    op = trial_op(t);
    assert_int_equal(fake_run(&t->op, ops_of(t)->cleanup(store, op, &cleanup, &cleaned)),
                     PST_E_INVALID);
    assert_int_equal(t->fake.n_sent, 0);
    trial_finish(t);
}

static void test_bucket__listing_comes_in_pages(void **state)
{
    static const char all[] = XML
        "<ListAllMyBucketsResult><Buckets>"
        "<Bucket><Name>c</Name></Bucket><Bucket><Name>a</Name></Bucket>"
        "<Bucket><Name>b</Name></Bucket></Buckets></ListAllMyBucketsResult>";
    struct trial *t = trial_start(NULL);
    pst_list_args args = {.struct_size = sizeof(args), .max_entries = 2};
    pst_list_result result = {.struct_size = sizeof(result)};
    char token[8];
    (void)state;
    fake_answer(&t->fake, 200, NULL, all);
    pst_op *op = trial_op(t);
    assert_int_equal(fake_run(&t->op, ops_of(t)->container_list(t->fake.store, op, &args, &result)),
                     PST_OK);
    assert_string_equal(asked(t, 0), "GET /");
    assert_int_equal(t->op.n_entries, 2);
    assert_text(t->op.entries[0].key, "a");
    assert_text(result.next_token, "b");
    token[0] = result.next_token.ptr[0];
    args.page_token = pst_str_of(token, 1);
    fake_answer(&t->fake, 200, NULL, all);
    op = trial_op(t);
    assert_int_equal(fake_run(&t->op, ops_of(t)->container_list(t->fake.store, op, &args, &result)),
                     PST_OK);
    assert_int_equal(t->op.n_entries, 1);
    assert_text(t->op.entries[0].key, "c");
    assert_int_equal(result.next_token.len, 0);
    trial_finish(t);
}

/* ---- presigned URLs --------------------------------------------------------------------------- */

static pst_rc run_presign(struct trial *t, const char *method, uint64_t expires_s, pst_str *url)
{
    pst_op *op = trial_op(t);
    const pst_presign_args args = {.struct_size = sizeof(args),
                                   .expires_s = expires_s,
                                   .key = fake_str("a b"),
                                   .method = fake_str(method)};
    pst_presign_result result = {.struct_size = sizeof(result)};
    pst_rc rc = fake_run(&t->op, ops_of(t)->presign(t->fake.store, op, &args, &result));
    *url = result.url;
    return rc;
}

static void test_presign__makes_a_url_and_asks_nobody(void **state)
{
    struct trial *t = trial_start(NULL);
    char text[1024];
    pst_str url;
    (void)state;
    assert_int_equal(run_presign(t, "PUT", 60, &url), PST_OK);
    assert_true(url.len < sizeof(text));
    memcpy(text, url.ptr, url.len);
    text[url.len] = '\0';
    assert_int_equal(strncmp(text, "http://127.0.0.1:9000/bucket/a%20b?X-Amz-Algorithm=", 51), 0);
    assert_non_null(strstr(text, "&X-Amz-Expires=60&"));
    assert_non_null(strstr(text, "&X-Amz-Signature="));
    assert_int_equal(run_presign(t, "", 604800, &url), PST_OK);
    assert_int_equal(run_presign(t, "PATCH", 60, &url), PST_E_INVALID);
    assert_int_equal(run_presign(t, "GET", 0, &url), PST_E_INVALID);
    assert_int_equal(run_presign(t, "GET", 604801, &url), PST_E_INVALID);
    assert_int_equal(t->fake.n_sent, 0);
    trial_finish(t);
}

/* ---- cleanup ---------------------------------------------------------------------------------- */

#define DATE "date: Sat, 21 Nov 2026 12:00:00 GMT"
#define UPLOAD(key, id, hour)                                                                      \
    "<Upload><Key>" key "</Key><UploadId>" id "</UploadId>"                                        \
    "<Initiated>2026-11-21T" hour ":00:00.000Z</Initiated></Upload>"
#define UPLOADS(more)                                                                              \
    XML "<ListMultipartUploadsResult><EncodingType>url</EncodingType>" more                        \
        "</ListMultipartUploadsResult>"
#define PARTS                                                                                      \
    XML "<ListPartsResult><Part><Size>5</Size></Part><Part><Size>7</Size></Part></"                \
        "ListPartsResult>"

static pst_rc run_cleanup_of(struct trial *t, uint64_t older_than_s, uint32_t flags,
                             pst_cleanup_result *result)
{
    pst_op *op = trial_op(t);
    static pst_cleanup_args args;
    args = (pst_cleanup_args){.struct_size = sizeof(args),
                              .flags = flags,
                              .older_than_s = older_than_s,
                              .prefix = fake_str("d/")};
    *result = (pst_cleanup_result){.struct_size = sizeof(*result)};
    return fake_run(&t->op, ops_of(t)->cleanup(t->fake.store, op, &args, result));
}

static pst_rc run_cleanup(struct trial *t, uint32_t flags, pst_cleanup_result *result)
{
    return run_cleanup_of(t, 3600, flags, result);
}

static void test_cleanup__of_any_age_takes_what_a_slow_clock_has_not_seen(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_cleanup_result result;
    (void)state;
    fake_answer(&t->fake, 200, DATE, UPLOADS(UPLOAD("d/a", "1", "13")));
    fake_answer(&t->fake, 200, NULL, PARTS);
    fake_answer(&t->fake, 204, NULL, NULL);
    assert_int_equal(run_cleanup_of(t, 0, 0, &result), PST_OK);
    assert_int_equal(result.n_removed, 1);
    fake_answer(&t->fake, 200, DATE, UPLOADS(UPLOAD("d/a", "1", "13")));
    assert_int_equal(run_cleanup_of(t, 1, 0, &result), PST_OK);
    assert_int_equal(result.n_removed, 0);
    trial_finish(t);
}

static void test_cleanup__ends_what_is_old_by_the_clock_of_the_store(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_cleanup_result result;
    (void)state;
    fake_answer(
        &t->fake, 200, DATE,
        UPLOADS(UPLOAD("d/a%2B", "1", "10") UPLOAD(
            "d/b", "2", "12") "<IsTruncated>true</IsTruncated><NextKeyMarker>d/b</NextKeyMarker>"
                              "<NextUploadIdMarker>2</NextUploadIdMarker>"));
    fake_answer(&t->fake, 200, NULL, PARTS);
    fake_answer(&t->fake, 204, NULL, NULL);
    fake_answer(&t->fake, 200, DATE, UPLOADS(UPLOAD("d/c", "3", "09")));
    fake_answer(&t->fake, 404, NULL, ERROR_XML("NoSuchUpload")); /* gone meanwhile */
    assert_int_equal(run_cleanup(t, 0, &result), PST_OK);
    assert_string_equal(asked(t, 0),
                        "GET /bucket?encoding-type=url&max-uploads=1000&prefix=d%2F&uploads=");
    assert_string_equal(asked(t, 1), "GET /bucket/d/a%2B?uploadId=1");
    assert_string_equal(asked(t, 2), "DELETE /bucket/d/a%2B?uploadId=1");
    assert_non_null(strstr(asked(t, 3), "key-marker=d%2Fb"));
    assert_int_equal(result.n_removed, 1);
    assert_int_equal(result.n_bytes, 12);
    assert_int_equal(t->op.n_entries, 1);
    assert_text(t->op.entries[0].key, "d/a+");
    trial_finish(t);
}

static void test_cleanup__leaves_an_upload_whose_age_nobody_tells(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_cleanup_result result;
    (void)state;
    fake_answer(&t->fake, 200, DATE,
                UPLOADS("<Upload><Key>d/a</Key><UploadId>1</UploadId></Upload>"));
    assert_int_equal(run_cleanup(t, 0, &result), PST_OK);
    assert_int_equal(result.n_removed, 0);
    trial_finish(t);
}

static void test_cleanup__of_a_page_that_is_none_fails(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_cleanup_result result;
    (void)state;
    fake_answer(&t->fake, 200, DATE, ERROR_XML("AccessDenied"));
    assert_int_equal(run_cleanup(t, 0, &result), PST_E_DENIED);
    fake_answer(&t->fake, 200, DATE, XML "<html></html>");
    assert_int_equal(run_cleanup(t, 0, &result), PST_E_DATA_LOSS);
    trial_finish(t);
}

static void test_cleanup__dry_run_ends_nothing(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_cleanup_result result;
    (void)state;
    fake_answer(&t->fake, 200, DATE, UPLOADS(UPLOAD("d/a", "1", "10")));
    fake_answer(&t->fake, 200, NULL, PARTS);
    assert_int_equal(run_cleanup(t, PST_CLEANUP_DRY_RUN, &result), PST_OK);
    assert_int_equal(result.n_removed, 1);
    assert_int_equal(t->fake.n_sent, 2);
    trial_finish(t);
}

static void test_cleanup__goes_on_after_a_failure_and_reports_it(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_cleanup_result result;
    (void)state;
    fake_answer(&t->fake, 200, DATE, UPLOADS(UPLOAD("d/a", "1", "10") UPLOAD("d/b", "2", "10")));
    fake_answer(&t->fake, 200, NULL, PARTS);
    fake_answer(&t->fake, 403, NULL, ERROR_XML("AccessDenied"));
    fake_answer(&t->fake, 200, NULL, PARTS);
    fake_answer(&t->fake, 204, NULL, NULL);
    assert_int_equal(run_cleanup(t, 0, &result), PST_E_DENIED);
    assert_int_equal(result.n_removed, 1);
    trial_finish(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bucket__is_made_where_the_region_says),
        cmocka_unit_test(test_bucket__is_deleted_when_empty),
        cmocka_unit_test(test_bucket__without_one_there_are_no_objects),
        cmocka_unit_test(test_bucket__listing_comes_in_pages),
        cmocka_unit_test(test_presign__makes_a_url_and_asks_nobody),
        cmocka_unit_test(test_cleanup__ends_what_is_old_by_the_clock_of_the_store),
        cmocka_unit_test(test_cleanup__of_any_age_takes_what_a_slow_clock_has_not_seen),
        cmocka_unit_test(test_cleanup__leaves_an_upload_whose_age_nobody_tells),
        cmocka_unit_test(test_cleanup__of_a_page_that_is_none_fails),
        cmocka_unit_test(test_cleanup__dry_run_ends_nothing),
        cmocka_unit_test(test_cleanup__goes_on_after_a_failure_and_reports_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
