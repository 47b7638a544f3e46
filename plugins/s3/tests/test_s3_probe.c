#include "trial.h"

/* A store that judges conditional writes by itself: `behaves` says how. */
enum behaviour { OBEYS, IGNORES, REFUSES, OBEYS_TOO_MUCH, FAILS, DENIES_A_DIRECTORY };

struct judge {
    enum behaviour behaves;
    int n_of_probe, n_won; /* conditional writes to the key at hand */
    char url[512];
    int n_deleted;
    int has_versions; /* which nobody may remove by their ids, where negative */
    int n_of_versions, n_plain, n_busy;
};

static int decide(struct fake *fake, struct fake_sent *sent, struct fake_reply *reply)
{
    struct judge *j = fake->answer_ctx;
    int is_probe = strstr(sent->url, "penstock-probe") != NULL;
    int is_conditional = fake_header(sent, "if-none-match")[0] != '\0' ||
                         fake_header(sent, "if-match")[0] != '\0';
    *reply = (struct fake_reply){.status = 200,
                                 .headers = j->has_versions ? "etag: \"e\"\nx-amz-version-id: v"
                                                            : "etag: \"e\""};
    if (strcmp(sent->method, "DELETE") == 0) {
        int is_version = strstr(sent->url, "?versionId=v") != NULL;
        j->n_deleted += is_probe;
        j->n_of_versions += is_version;
        j->n_plain += !is_version;
        if (j->has_versions < 0 && is_version)
            *reply = (struct fake_reply){.status = 403};
        if (j->n_busy > 0 && j->n_busy--)
            *reply = (struct fake_reply){.status = 503};
    }
    if (!is_probe || !is_conditional)
        return 1;
    if (strcmp(j->url, sent->url) != 0) { /* a new round */
        snprintf(j->url, sizeof(j->url), "%s", sent->url);
        j->n_won = 0;
    }
    j->n_of_probe++;
    int is_denied = j->behaves == DENIES_A_DIRECTORY && strstr(sent->url, "/denied/") != NULL;
    int obeys = j->behaves == OBEYS || j->behaves == DENIES_A_DIRECTORY;
    int wins = j->behaves == IGNORES || (obeys && j->n_won == 0);
    j->n_won += wins;
    if (j->behaves == REFUSES)
        *reply = (struct fake_reply){.status = 501, .body = ERROR_XML("NotImplemented")};
    else if (j->behaves == FAILS || is_denied)
        *reply = (struct fake_reply){.status = 403, .body = ERROR_XML("AccessDenied")};
    else if (!wins)
        *reply = (struct fake_reply){.status = 412, .body = ERROR_XML("PreconditionFailed")};
    reply->body_len = reply->body ? strlen(reply->body) : 0;
    return 1;
}

static pst_rc put_new(struct trial *t, const char *key)
{
    static const pst_attr attr = {.struct_size = sizeof(attr)};
    pst_op *op = trial_op(t);
    const pst_put_args args = {.struct_size = sizeof(args),
                               .flags = PST_PUT_CREATE_ONLY,
                               .key = fake_str(key),
                               .attr = &attr};
    pst_put_result result = {.struct_size = sizeof(result)};
    return fake_run(&t->op, ops_of(t)->put(t->fake.store, op, &args, &result));
}

static uint64_t caps(struct trial *t, const char **note)
{
    pst_limits limits = {.struct_size = sizeof(limits)};
    pst_backend_info info = {.struct_size = sizeof(info), .limits = &limits};
    ops_of(t)->info(t->fake.store, &info);
    *note = info.note;
    return info.caps;
}

/* Each with an endpoint of its own: what is found out lives as long as the process. */
static struct trial *judged(struct judge *j, enum behaviour behaves, const char *endpoint)
{
    struct trial *t = trial_start(OPTIONS(endpoint));
    *j = (struct judge){.behaves = behaves};
    t->fake.answer = decide;
    t->fake.answer_ctx = j;
    return t;
}

static void test_probe__store_that_obeys_is_asked_once_in_the_life_of_the_process(void **state)
{
    const char *note;
    struct judge j;
    struct trial *t = judged(&j, OBEYS, "endpoint=http://obeys:1");
    (void)state;
    assert_int_equal(put_new(t, "dir/k"), PST_OK);
    assert_int_equal(j.n_of_probe, 40); /* eight writers, five rounds */
    assert_int_equal(j.n_deleted, 5);
    assert_non_null(strstr(sent(t, 0)->url, "/bucket/dir/.penstock-probe-"));
    const size_t n = t->fake.n_sent;
    assert_string_equal(asked(t, n - 1), "PUT /bucket/dir/k");
    assert_int_equal(put_new(t, "dir/k"), PST_OK);
    assert_int_equal(t->fake.n_sent, n + 1);
    assert_true(caps(t, &note) & PST_CAP_CREATE_ONLY);
    assert_non_null(strstr(note, "obeyed"));
    trial_finish(t);
    t = judged(&j, OBEYS, "endpoint=http://obeys:1");
    assert_int_equal(put_new(t, "dir/k"), PST_OK);
    assert_int_equal(t->fake.n_sent, 1);
    trial_finish(t);
}

static void test_probe__store_that_ignores_conditions_is_refused(void **state)
{
    const char *note;
    struct judge j;
    struct trial *t = judged(&j, IGNORES, "endpoint=http://ignores:1");
    (void)state;
    assert_true(caps(t, &note) & PST_CAP_CREATE_ONLY);
    assert_int_equal(put_new(t, "k"), PST_E_UNIMPLEMENTED);
    assert_non_null(strstr(t->op.err.message, "8 of 8 writers won"));
    assert_int_equal(j.n_of_probe, 8); /* one round says it */
    for (size_t i = 0; i < t->fake.n_sent; i++)
        assert_non_null(strstr(sent(t, i)->url, "penstock-probe"));
    assert_false(caps(t, &note) & PST_CAP_CREATE_ONLY);
    assert_non_null(strstr(note, "ignored"));
    trial_finish(t);
}

static void test_probe__store_that_takes_no_condition_is_refused(void **state)
{
    struct judge j;
    struct trial *t = judged(&j, REFUSES, "endpoint=http://refuses:1");
    (void)state;
    assert_int_equal(put_new(t, "k"), PST_E_UNIMPLEMENTED);
    assert_non_null(strstr(t->op.err.message, "does not take"));
    trial_finish(t);
    t = judged(&j, OBEYS_TOO_MUCH, "endpoint=http://never:1");
    assert_int_equal(put_new(t, "k"), PST_E_UNIMPLEMENTED);
    trial_finish(t);
}

static void test_probe__that_could_not_be_made_decides_nothing(void **state)
{
    struct judge j;
    struct trial *t = judged(&j, FAILS, "endpoint=http://fails:1");
    (void)state;
    assert_int_equal(put_new(t, "k"), PST_E_DENIED);
    j.behaves = OBEYS;
    assert_int_equal(put_new(t, "k"), PST_OK);
    trial_finish(t);
}

static void test_probe__operations_that_come_together_share_one(void **state)
{
    static const pst_attr attr = {.struct_size = sizeof(attr)};
    struct judge j;
    struct trial *t = judged(&j, OBEYS, "endpoint=http://shared:1");
    const pst_put_args args = {.struct_size = sizeof(args),
                               .flags = PST_PUT_CREATE_ONLY,
                               .key = PST_STR("k"),
                               .attr = &attr};
    pst_put_result results[3];
    struct fake_op *ops = calloc(3, sizeof(*ops));
    (void)state;
    assert_non_null(ops);
    for (int i = 0; i < 3; i++) {
        fake_op_init(&t->fake, &ops[i]);
        results[i] = (pst_put_result){.struct_size = sizeof(results[i])};
        assert_int_equal(ops_of(t)->put(t->fake.store, &ops[i].op, &args, &results[i]),
                         PST_PENDING);
    }
    ops_of(t)->cancel(t->fake.store, &ops[1].op); /* who waits leaves at once */
    assert_int_equal(ops[1].n_completed, 1);
    assert_int_equal(ops[1].rc, PST_E_CANCELLED);
    assert_int_equal(fake_run(&ops[0], PST_PENDING), PST_OK);
    assert_int_equal(fake_run(&ops[2], PST_PENDING), PST_OK);
    assert_int_equal(j.n_of_probe, 40);
    for (int i = 0; i < 3; i++)
        fake_op_fini(&ops[i]);
    free(ops);
    trial_finish(t);
}

static void test_probe__is_handed_on_when_its_operation_is_cancelled(void **state)
{
    static const pst_attr attr = {.struct_size = sizeof(attr)};
    struct judge j;
    struct trial *t = judged(&j, OBEYS, "endpoint=http://heir:1");
    const pst_put_args args = {.struct_size = sizeof(args),
                               .flags = PST_PUT_CREATE_ONLY,
                               .key = PST_STR("k"),
                               .attr = &attr};
    pst_put_result results[2];
    struct fake_op *ops = calloc(2, sizeof(*ops));
    (void)state;
    assert_non_null(ops);
    for (int i = 0; i < 2; i++) {
        fake_op_init(&t->fake, &ops[i]);
        results[i] = (pst_put_result){.struct_size = sizeof(results[i])};
        assert_int_equal(ops_of(t)->put(t->fake.store, &ops[i].op, &args, &results[i]),
                         PST_PENDING);
    }
    ops_of(t)->cancel(t->fake.store, &ops[0].op);
    assert_int_equal(fake_run(&ops[0], PST_PENDING), PST_E_CANCELLED);
    assert_int_equal(fake_run(&ops[1], PST_PENDING), PST_OK);
    for (int i = 0; i < 2; i++)
        fake_op_fini(&ops[i]);
    free(ops);
    trial_finish(t);
}

static void test_probe__aws_and_trust_need_none(void **state)
{
    struct trial *t = trial_start(OPTIONS("endpoint=", "region=us-east-1"));
    (void)state;
    fake_answer(&t->fake, 200, "etag: \"e\"", NULL);
    assert_int_equal(put_new(t, "k"), PST_OK);
    trial_finish(t);
    t = trial_start(OPTIONS("endpoint=http://trusted:1", "conditional_writes=trust"));
    fake_answer(&t->fake, 200, "etag: \"e\"", NULL);
    assert_int_equal(put_new(t, "k"), PST_OK);
    trial_finish(t);
    t = trial_start(OPTIONS("endpoint=http://refused:1", "conditional_writes=refuse"));
    assert_int_equal(put_new(t, "k"), PST_E_UNIMPLEMENTED);
    assert_int_equal(t->fake.n_sent, 0);
    trial_finish(t);
}

static void test_probe__failure_of_one_operations_own_is_not_the_others(void **state)
{
    static const pst_attr attr = {.struct_size = sizeof(attr)};
    struct judge j;
    struct trial *t = judged(&j, DENIES_A_DIRECTORY, "endpoint=http://partly:1");
    pst_put_args args[2];
    pst_put_result results[2];
    struct fake_op *ops = calloc(2, sizeof(*ops));
    (void)state;
    assert_non_null(ops);
    for (int i = 0; i < 2; i++) {
        fake_op_init(&t->fake, &ops[i]);
        args[i] = (pst_put_args){.struct_size = sizeof(args[i]),
                                 .flags = PST_PUT_CREATE_ONLY,
                                 .key = fake_str(i == 0 ? "denied/k" : "k"),
                                 .attr = &attr};
        results[i] = (pst_put_result){.struct_size = sizeof(results[i])};
        assert_int_equal(ops_of(t)->put(t->fake.store, &ops[i].op, &args[i], &results[i]),
                         PST_PENDING);
    }
    assert_int_equal(fake_run(&ops[0], PST_PENDING), PST_E_DENIED);
    assert_int_equal(fake_run(&ops[1], PST_PENDING), PST_OK);
    for (int i = 0; i < 2; i++)
        fake_op_fini(&ops[i]);
    free(ops);
    trial_finish(t);
}

static void test_probe__versions_it_made_are_removed_by_their_ids(void **state)
{
    struct judge j;
    struct trial *t = judged(&j, OBEYS, "endpoint=http://versions:1");
    (void)state;
    j.has_versions = 1;
    j.n_busy = 1;
    assert_int_equal(put_new(t, "k"), PST_OK);
    assert_int_equal(j.n_of_versions, 6); /* one of them twice */
    assert_int_equal(j.n_plain, 0);
    trial_finish(t);
    t = judged(&j, OBEYS, "endpoint=http://versions:2");
    j.has_versions = -1;
    assert_int_equal(put_new(t, "k"), PST_OK);
    assert_int_equal(j.n_of_versions, 5);
    assert_int_equal(j.n_plain, 5); /* markers at least */
    trial_finish(t);
}

static void test_probe__writes_as_the_options_say(void **state)
{
    struct judge j;
    struct trial *t = trial_start(OPTIONS("endpoint=http://encrypts:1", "sse=AES256"));
    (void)state;
    j = (struct judge){.behaves = OBEYS};
    t->fake.answer = decide;
    t->fake.answer_ctx = &j;
    assert_int_equal(put_new(t, "k"), PST_OK);
    assert_string_equal(fake_header(sent(t, 0), "x-amz-server-side-encryption"), "AES256");
    trial_finish(t);
}

static void test_probe__servers_behind_different_sockets_are_different(void **state)
{
    static const char *const sockets[] = {"unix_socket=/tmp/one", "unix_socket=/tmp/two"};
    struct judge j;
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct trial *t = trial_start(OPTIONS("endpoint=http://local:1", sockets[i]));
        j = (struct judge){.behaves = OBEYS};
        t->fake.answer = decide;
        t->fake.answer_ctx = &j;
        assert_int_equal(put_new(t, "k"), PST_OK);
        assert_int_equal(j.n_of_probe, 40);
        trial_finish(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe__store_that_obeys_is_asked_once_in_the_life_of_the_process),
        cmocka_unit_test(test_probe__store_that_ignores_conditions_is_refused),
        cmocka_unit_test(test_probe__store_that_takes_no_condition_is_refused),
        cmocka_unit_test(test_probe__that_could_not_be_made_decides_nothing),
        cmocka_unit_test(test_probe__operations_that_come_together_share_one),
        cmocka_unit_test(test_probe__is_handed_on_when_its_operation_is_cancelled),
        cmocka_unit_test(test_probe__aws_and_trust_need_none),
        cmocka_unit_test(test_probe__failure_of_one_operations_own_is_not_the_others),
        cmocka_unit_test(test_probe__versions_it_made_are_removed_by_their_ids),
        cmocka_unit_test(test_probe__writes_as_the_options_say),
        cmocka_unit_test(test_probe__servers_behind_different_sockets_are_different),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
