#include "trial.h"

#define CONTENTS(key, size)                                                                        \
    "<Contents><Key>" key "</Key><LastModified>2009-10-12T17:50:30.123Z</LastModified>"            \
    "<ETag>&quot;e&quot;</ETag><Size>" size                                                        \
    "</Size><StorageClass>STANDARD</StorageClass></Contents>"
#define COMMON(key) "<CommonPrefixes><Prefix>" key "</Prefix></CommonPrefixes>"
#define PAGE(more)                                                                                 \
    XML "<ListBucketResult><EncodingType>url</EncodingType>" more "</ListBucketResult>"

static pst_rc run_list(struct trial *t, pst_list_args *args, pst_list_result *result)
{
    pst_op *op = trial_op(t);
    args->struct_size = sizeof(*args);
    *result = (pst_list_result){.struct_size = sizeof(*result)};
    return fake_run(&t->op, ops_of(t)->list(t->fake.store, op, args, result));
}

static void test_list__merges_objects_and_prefixes_in_one_order(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_list_args args = {.prefix = PST_STR("d/"), .start_after = PST_STR("d/A"), .max_entries = 7};
    pst_list_result result;
    (void)state;
    fake_answer(&t->fake, 200, NULL,
                PAGE(CONTENTS("d/a%2Bb+c", "1") CONTENTS("d/m", "2") COMMON("d/b%2F")
                         COMMON("d/z/") "<IsTruncated>true</IsTruncated>"
                                        "<NextContinuationToken>tok/+=</NextContinuationToken>"));
    assert_int_equal(run_list(t, &args, &result), PST_OK);
    assert_string_equal(asked(t, 0),
                        "GET /bucket?delimiter=%2F&encoding-type=url&list-type=2&max-keys=7&"
                        "prefix=d%2F&start-after=d%2FA");
    assert_int_equal(t->op.n_entries, 4);
    assert_text(t->op.entries[0].key, "d/a+b c");
    assert_text(t->op.entries[1].key, "d/b/");
    assert_int_equal(t->op.entries[1].kind, PST_KIND_PREFIX);
    assert_text(t->op.entries[2].key, "d/m");
    assert_int_equal(t->op.entries[2].size, 2);
    assert_int_equal(t->op.entries[2].mtime_ns, 1255369830 * INT64_C(1000000000));
    assert_text(t->op.entries[2].etag, "\"e\"");
    assert_text(t->op.entries[2].storage_class, "STANDARD");
    assert_text(result.next_token, "tok/+=");
    args.page_token = PST_STR("tok/+=");
    fake_answer(&t->fake, 200, NULL, PAGE("<IsTruncated>false</IsTruncated>"));
    assert_int_equal(run_list(t, &args, &result), PST_OK);
    assert_non_null(strstr(asked(t, 1), "continuation-token=tok%2F%2B%3D"));
    assert_null(strstr(asked(t, 1), "start-after"));
    assert_int_equal(result.next_token.len, 0);
    trial_finish(t);
}

static void test_list__that_cannot_be_trusted_emits_nothing(void **state)
{
    static const char *const pages[] = {
        PAGE(CONTENTS("a", "1") "<IsTruncated>true</IsTruncated>"), /* and no token */
        PAGE(CONTENTS("a", "1") CONTENTS("b%4", "1")),              /* a broken escape */
        XML "<ListBucketResult>" CONTENTS("a", "1"),                /* cut */
        XML "<ListBucketResult>" CONTENTS("a&#1;", "1") "</ListBucketResult>",
        XML "<html><body>please log in</body></html>",
        "",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        struct trial *t = trial_start(NULL);
        pst_list_args args = {.flags = PST_LIST_RECURSIVE};
        pst_list_result result;
        fake_answer(&t->fake, 200, NULL, pages[i]);
        assert_int_equal(run_list(t, &args, &result), PST_E_DATA_LOSS);
        assert_int_equal(t->op.n_entries, 0);
        trial_finish(t);
    }
}

static void test_list__error_document_under_200_is_an_error(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_list_args args = {.flags = PST_LIST_RECURSIVE};
    pst_list_result result;
    (void)state;
    fake_answer(&t->fake, 200, NULL, ERROR_XML("InternalError"));
    assert_int_equal(run_list(t, &args, &result), PST_E_UNAVAILABLE);
    assert_int_equal(t->op.err.flags, PST_ERR_RETRYABLE);
    fake_answer(&t->fake, 200, NULL, ERROR_XML("AccessDenied"));
    args.flags |= PST_LIST_VERSIONS;
    assert_int_equal(run_list(t, &args, &result), PST_E_DENIED);
    trial_finish(t);
}

static void test_list__names_that_are_not_encoded_stay_as_they_are(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_list_args args = {.flags = PST_LIST_RECURSIVE};
    pst_list_result result;
    (void)state;
    fake_answer(&t->fake, 200, NULL,
                XML "<ListBucketResult>" CONTENTS("a%41+&amp;", "1") "</ListBucketResult>");
    assert_int_equal(run_list(t, &args, &result), PST_OK);
    assert_text(t->op.entries[0].key, "a%41+&");
    trial_finish(t);
}

static void test_list__prefix_that_ends_within_a_character_is_filtered_here(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_list_args args = {.prefix = PST_STR("a\xc3"), .flags = PST_LIST_RECURSIVE};
    pst_list_result result;
    (void)state;
    fake_answer(&t->fake, 200, NULL,
                PAGE(CONTENTS("ab", "1") CONTENTS("a%C3%A9", "1") CONTENTS("a%C4%80", "1")));
    assert_int_equal(run_list(t, &args, &result), PST_OK);
    assert_non_null(strstr(asked(t, 0), "&prefix=a"));
    assert_int_equal(t->op.n_entries, 1);
    assert_text(t->op.entries[0].key, "a\xc3\xa9");
    args.prefix = PST_STR("a\xff");
    assert_int_equal(run_list(t, &args, &result), PST_OK); /* no key begins so */
    assert_int_equal(t->fake.n_sent, 1);
    trial_finish(t);
}

static void test_list__versions_come_with_their_markers(void **state)
{
    struct trial *t = trial_start(NULL);
    pst_list_args args = {.flags = PST_LIST_RECURSIVE | PST_LIST_VERSIONS};
    pst_list_result result;
    (void)state;
    fake_answer(&t->fake, 200, NULL,
                XML "<ListVersionsResult><EncodingType>url</EncodingType>"
                    "<DeleteMarker><Key>a</Key><VersionId>3</VersionId><IsLatest>true</IsLatest>"
                    "</DeleteMarker><Version><Key>a</Key><VersionId>2</VersionId>"
                    "<IsLatest>false</IsLatest><Size>5</Size></Version>"
                    "<IsTruncated>true</IsTruncated><NextKeyMarker>a%2B</NextKeyMarker>"
                    "<NextVersionIdMarker>2</NextVersionIdMarker></ListVersionsResult>");
    assert_int_equal(run_list(t, &args, &result), PST_OK);
    assert_string_equal(asked(t, 0), "GET /bucket?encoding-type=url&versions=");
    assert_int_equal(t->op.n_entries, 2);
    assert_int_equal(t->op.entries[0].flags, PST_ENTRY_LATEST | PST_ENTRY_DELETE_MARKER);
    assert_text(t->op.entries[1].version, "2");
    assert_int_equal(t->op.entries[1].flags, 0);
    char token[16];
    const size_t len = result.next_token.len;
    assert_true(len <= sizeof(token));
    memcpy(token, result.next_token.ptr, len);
    args.page_token = pst_str_of(token, len);
    fake_answer(&t->fake, 200, NULL, XML "<ListVersionsResult></ListVersionsResult>");
    assert_int_equal(run_list(t, &args, &result), PST_OK);
    assert_string_equal(asked(t, 1), "GET /bucket?encoding-type=url&key-marker=a%2B&"
                                     "version-id-marker=2&versions=");
    trial_finish(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list__merges_objects_and_prefixes_in_one_order),
        cmocka_unit_test(test_list__that_cannot_be_trusted_emits_nothing),
        cmocka_unit_test(test_list__error_document_under_200_is_an_error),
        cmocka_unit_test(test_list__names_that_are_not_encoded_stay_as_they_are),
        cmocka_unit_test(test_list__prefix_that_ends_within_a_character_is_filtered_here),
        cmocka_unit_test(test_list__versions_come_with_their_markers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
