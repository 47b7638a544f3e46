/* Rule 17: credentials of the application, asked for once for all, by a thread of their own. */
#include "contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <penstock/services.h>

#define SECRET "wJalrXUtnFEMI"

/* ---- the application --------------------------------------------------------------------------- */

static struct {
    atomic_int n_calls, n_inside;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int is_blocked;
    pst_rc rc;
    const char *reason;
    int64_t lifetime_ns; /* 0: for ever */
    int64_t expires_unix_ns;
    char uri[64];
    pthread_t thread;
    char log[8192];
} app = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int64_t unix_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static pst_rc supply(void *arg, const char *uri, pst_credentials_answer *answer, pst_error *err)
{
    char key[32];
    (void)arg;
    atomic_fetch_add(&app.n_inside, 1);
    pthread_mutex_lock(&app.mutex);
    while (app.is_blocked)
        pthread_cond_wait(&app.changed, &app.mutex);
    app.thread = pthread_self();
    snprintf(app.uri, sizeof(app.uri), "%s", uri);
    int n = snprintf(key, sizeof(key), "key-%d", atomic_fetch_add(&app.n_calls, 1) + 1);
    if (app.lifetime_ns != 0) {
        app.expires_unix_ns = unix_now_ns() + app.lifetime_ns;
        pst_credentials_expire(answer, app.expires_unix_ns);
    }
    pst_rc rc = app.rc;
    if (rc != PST_OK && app.reason)
        snprintf(err->message, sizeof(err->message), "%s", app.reason);
    pthread_mutex_unlock(&app.mutex);
    assert_int_equal(pst_credentials_add(answer, PST_STR("key"), pst_str_of(key, (size_t)n)),
                     PST_OK);
    assert_int_equal(pst_credentials_add(answer, PST_STR("secret"), PST_STR(SECRET)), PST_OK);
    assert_int_equal(pst_credentials_add(answer, (pst_str){NULL, 0}, PST_STR("x")), PST_E_INVALID);
    assert_int_equal(pst_credentials_add(answer, PST_STR("token"), (pst_str){NULL, 0}), PST_OK);
    return rc;
}

static void block(int is_blocked)
{
    pthread_mutex_lock(&app.mutex);
    app.is_blocked = is_blocked;
    pthread_cond_broadcast(&app.changed);
    pthread_mutex_unlock(&app.mutex);
}

static void keep_log(void *arg, uint32_t level, const char *line)
{
    size_t used = strlen(app.log);
    (void)arg;
    (void)level;
    snprintf(app.log + used, sizeof(app.log) - used, "%s\n", line);
}

/* ---- the plugin: every read needs credentials -------------------------------------------------- */

static struct {
    atomic_int n_inline, n_told;
    atomic_ullong generation; /* given last */
    char key[32], secret[32]; /* under `noting`: operations note what they got on any thread */
    uint64_t refused;         /* what the next reads say that the provider refused */
    pthread_t told_on;
    pst_rc told;
} plugin;

static pthread_mutex_t noting = PTHREAD_MUTEX_INITIALIZER;

struct wait { /* in the scratch */
    pst_op *op;
    const pst_read_args *args;
    pst_read_result *result;
};

static void note(const pst_credentials *given)
{
    assert_int_equal(given->n_kv, 3);
    assert_memory_equal(given->kv[0].key.ptr, "key", 3);
    assert_memory_equal(given->kv[1].key.ptr, "secret", 6);
    assert_int_equal(given->kv[2].value.len, 0);
    pthread_mutex_lock(&noting);
    snprintf(plugin.key, sizeof(plugin.key), "%.*s", (int)given->kv[0].value.len,
             given->kv[0].value.ptr);
    snprintf(plugin.secret, sizeof(plugin.secret), "%.*s", (int)given->kv[1].value.len,
             given->kv[1].value.ptr);
    pthread_mutex_unlock(&noting);
    atomic_store(&plugin.generation, given->generation);
}

static void on_credentials(void *ctx, pst_rc rc, const pst_credentials *given, const pst_error *err)
{
    struct wait *wait = ctx;
    pst_op *op = wait->op;
    plugin.told_on = pthread_self();
    plugin.told = rc;
    if (rc == PST_OK) {
        note(given);
        rc = puppet_read(op, wait->args, wait->result);
    } else {
        memcpy(op->err->message, err->message, sizeof(err->message));
        op->err->code = rc;
    }
    atomic_fetch_sub(&puppet.n_outstanding, 1);
    atomic_fetch_add(&plugin.n_told, 1);
    op->host->complete(op->host, op, rc);
}

static pst_rc read_signed(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    const pst_cred_1 *cred = op->host->service(op->host, "cred/1");
    pst_credentials given = {.struct_size = sizeof(given)};
    struct wait *wait = op->scratch;
    (void)b;
    *wait = (struct wait){op, a, r};
    if (!cred)
        return PST_E_UNIMPLEMENTED;
    pst_rc rc = cred->get(op->host, op, plugin.refused, &given, on_credentials, wait);
    if (rc != PST_OK)
        return rc;
    atomic_fetch_add(&plugin.n_inline, 1);
    note(&given);
    return puppet_read(op, a, r);
}

/* A thread of the plugin's that takes memory of the operation, while another asks for credentials. */
static void *take_memory(void *arg)
{
    pst_op *op = arg;
    for (int i = 0; i < 2000; i++) {
        char *memory = op->host->op_alloc(op->host, op, 48);
        assert_non_null(memory);
        memset(memory, 'm', 48);
    }
    return NULL;
}

static pst_rc read_beside(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    const pst_cred_1 *cred = op->host->service(op->host, "cred/1");
    pst_credentials given = {.struct_size = sizeof(given)};
    pthread_t thread;
    (void)b;
    assert_int_equal(pthread_create(&thread, NULL, take_memory, op), 0);
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(cred->get(op->host, op, 0, &given, on_credentials, NULL), PST_OK);
        note(&given);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    note(&given);
    return puppet_read(op, a, r);
}

/* A read that asks from a thread of the plugin's own, when submit may have returned long ago. */
static struct {
    pthread_t thread;
    int is_patient; /* it asks when the operation has been cancelled */
} asker;

static void *ask_elsewhere(void *arg)
{
    struct wait *wait = arg;
    pst_op *op = wait->op;
    const pst_cred_1 *cred = op->host->service(op->host, "cred/1");
    pst_credentials given = {.struct_size = sizeof(given)};
    const uint64_t refused = atomic_load(&plugin.generation);
    if (asker.is_patient)
        puppet_wait_count(&puppet.n_cancels, 1);
    assert_int_equal(cred->get(op->host, op, refused, &given, on_credentials, wait), PST_PENDING);
    return NULL;
}

static pst_rc read_elsewhere(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    struct wait *wait = op->scratch;
    (void)b;
    *wait = (struct wait){op, a, r};
    assert_int_equal(pthread_create(&asker.thread, NULL, ask_elsewhere, wait), 0);
    return PST_PENDING;
}

/* ---- the tests --------------------------------------------------------------------------------- */

struct fixture {
    pst_context *context;
    pst_store *store;
};

static void open_with(struct fixture *f, pst_context_options options)
{
    atomic_store(&app.n_calls, 0);
    atomic_store(&app.n_inside, 0);
    app.is_blocked = 0;
    app.rc = PST_OK;
    app.reason = NULL;
    app.lifetime_ns = 0;
    app.log[0] = '\0';
    memset(&plugin, 0, sizeof(plugin));
    puppet.hooks.read = read_signed;
    options.struct_size = sizeof(options);
    options.credentials = supply;
    options.log = keep_log;
    options.log_level = PST_LEVEL_DEBUG;
    f->context = puppet_context(&options);
    f->store = puppet_store(f->context, "puppet");
}

static void shut(struct fixture *f)
{
    pst_store_free(f->store);
    pst_context_free(f->context);
    assert_null(strstr(app.log, SECRET));
    assert_null(strstr(app.log, "key-"));
}

static pst_rc get_once(struct fixture *f, const pst_call *call, pst_error *err)
{
    pst_buffer *buffer = NULL;
    pst_rc rc = pst_get(f->store, object_key, NULL, call, &buffer, NULL, err);
    if (rc == PST_OK)
        assert_int_equal(pst_buffer_size(buffer), 10);
    pst_buffer_unref(buffer);
    return rc;
}

static void expect_get(struct fixture *f, uint64_t generation)
{
    pst_error err = PST_ERROR_INIT;
    if (get_once(f, NULL, &err) != PST_OK)
        fail_msg("%s", err.message);
    assert_int_equal(atomic_load(&plugin.generation), generation);
}

static void test_cred__without_a_callback_there_is_no_such_service(void **state)
{
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    (void)state;
    assert_null(puppet.host->service(puppet.host, "cred/1"));
    pst_store_free(store);
    pst_context_free(context);
}

static void test_cred__the_application_is_asked_once_and_answers_are_kept(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, (pst_context_options){0});
    expect_get(&f, 1);
    assert_string_equal(plugin.key, "key-1");
    assert_string_equal(plugin.secret, SECRET);
    assert_string_equal(app.uri, "puppet://host");
    assert_int_equal(atomic_load(&plugin.n_told), 1);
    assert_false(pthread_equal(app.thread, pthread_self()));
    assert_false(pthread_equal(plugin.told_on, pthread_self()));
    assert_false(pthread_equal(app.thread, plugin.told_on));
    expect_get(&f, 1);
    assert_int_equal(atomic_load(&plugin.n_inline), 1);
    assert_int_equal(atomic_load(&app.n_calls), 1);
    shut(&f);
}

static void test_cred__operations_that_wait_together_ask_once(void **state)
{
    enum { N = 8 };
    struct fixture f;
    pst_get_item items[N];
    pst_get_result results[N];
    const pst_many_options many = {.struct_size = sizeof(many), .max_in_flight = N};
    pst_error err = PST_ERROR_INIT;
    (void)state;
    open_with(&f, (pst_context_options){0});
    for (int i = 0; i < N; i++)
        items[i] = (pst_get_item){.key = object_key, .length = PST_UNKNOWN};
    assert_int_equal(pst_get_many(f.store, items, N, &many, NULL, results, &err), PST_OK);
    pst_get_results_free(results, N);
    assert_int_equal(atomic_load(&app.n_calls), 1);
    shut(&f);
}

static void test_cred__what_was_refused_is_asked_for_once_more_and_once_only(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, (pst_context_options){0});
    expect_get(&f, 1);
    plugin.refused = 1;
    expect_get(&f, 2);
    expect_get(&f, 2); /* another that had used the first one */
    assert_int_equal(atomic_load(&app.n_calls), 2);
    plugin.refused = 2;
    expect_get(&f, 3);
    shut(&f);
}

static void test_cred__what_has_expired_is_asked_for_again(void **state)
{
    const struct timespec tick = {.tv_nsec = 1000000};
    struct fixture f;
    (void)state;
    open_with(&f, (pst_context_options){0});
    app.lifetime_ns = 30000000;
    expect_get(&f, 1);
    app.lifetime_ns = 0;
    while (unix_now_ns() <= app.expires_unix_ns)
        nanosleep(&tick, NULL);
    expect_get(&f, 2);
    assert_int_equal(atomic_load(&plugin.n_inline), 0);
    shut(&f);
}

static void test_cred__before_they_expire_they_are_renewed_while_the_old_ones_serve(void **state)
{
    (void)state;
    for (int64_t lifetime_ns = 250000000;; lifetime_ns *= 2) {
        struct fixture f;
        open_with(&f, (pst_context_options){0});
        app.lifetime_ns = lifetime_ns;
        expect_get(&f, 1);
        pthread_mutex_lock(&app.mutex);
        app.lifetime_ns = 0; /* the second ones stay */
        pthread_mutex_unlock(&app.mutex);
        while (atomic_load(&plugin.generation) == 1) {
            pst_error err = PST_ERROR_INIT;
            if (get_once(&f, NULL, &err) != PST_OK)
                fail_msg("%s", err.message);
        }
        assert_int_equal(atomic_load(&app.n_calls), 2);
        int n_waited = atomic_load(&plugin.n_told);
        shut(&f);
        if (n_waited == 1) /* but for the first nobody had to wait */
            return;
        assert_true(lifetime_ns < (int64_t)60
                                      << 30); /* else this machine was too slow: once more */
        puppet_reset();
    }
}

static void test_cred__credentials_that_have_expired_already_are_an_error(void **state)
{
    struct fixture f;
    pst_error err = PST_ERROR_INIT;
    (void)state;
    open_with(&f, (pst_context_options){0});
    app.lifetime_ns = -1;
    assert_int_equal(get_once(&f, NULL, &err), PST_E_UNAUTHENTICATED);
    assert_non_null(strstr(err.message, "have expired"));
    shut(&f);
}

static void test_cred__a_refusal_of_the_application_reaches_the_user_and_is_not_kept(void **state)
{
    struct fixture f;
    pst_error err = PST_ERROR_INIT;
    (void)state;
    open_with(&f, (pst_context_options){0});
    app.rc = PST_E_UNAUTHENTICATED;
    app.reason = "the vault is sealed";
    assert_int_equal(get_once(&f, NULL, &err), PST_E_UNAUTHENTICATED);
    assert_non_null(strstr(err.message, "GET puppet://host/object: the application gave no "
                                        "credentials for puppet://host: the vault is sealed"));
    assert_non_null(strstr(app.log, "the vault is sealed"));
    app.rc = PST_OK;
    expect_get(&f, 1);
    shut(&f);
}

static void test_cred__who_waits_too_long_is_told_and_the_late_answer_serves_others(void **state)
{
    struct fixture f;
    pst_error err = PST_ERROR_INIT;
    const pst_call once = {.struct_size = sizeof(once), .max_attempts = 1};
    (void)state;
    open_with(&f, (pst_context_options){.credentials_timeout_ms = 30});
    block(1);
    assert_int_equal(get_once(&f, &once, &err), PST_E_DEADLINE);
    assert_non_null(strstr(err.message, "within 30 ms"));
    block(0);
    puppet_wait_count(&app.n_calls, 1);
    while (get_once(&f, &once, &err) != PST_OK) /* the answer is not in its place yet */
        assert_int_equal(atomic_load(&app.n_calls), 1);
    assert_int_equal(atomic_load(&app.n_calls), 1);
    shut(&f);
}

static void test_cred__a_cancelled_operation_does_not_wait_for_the_application(void **state)
{
    struct fixture f;
    char into[10];
    size_t n = 0;
    pst_error err = PST_ERROR_INIT;
    const pst_call brief = {.struct_size = sizeof(brief), .timeout_ms = 30};
    (void)state;
    open_with(&f, (pst_context_options){0});
    block(1);
    /* Into the caller's memory: the call returns only when the operation is over. */
    assert_int_equal(
        pst_get_into(f.store, object_key, 0, into, sizeof(into), NULL, &brief, &n, NULL, &err),
        PST_E_DEADLINE);
    assert_int_equal(plugin.told, PST_E_DEADLINE);
    assert_int_equal(atomic_load(&plugin.n_told), 1);
    block(0);
    expect_get(&f, 1);
    shut(&f);
}

static void test_cred__an_operation_may_end_while_get_returns(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, (pst_context_options){0});
    puppet.hooks.read = read_elsewhere;
    asker.is_patient = 0;
    for (uint64_t i = 1; i <= 100; i++) {
        expect_get(&f, i);
        pthread_join(asker.thread, NULL);
    }
    shut(&f);
}

static void test_cred__an_operation_that_was_cancelled_before_it_asks_is_told_at_once(void **state)
{
    struct fixture f;
    char into[10];
    size_t n = 0;
    pst_error err = PST_ERROR_INIT;
    const pst_call brief = {.struct_size = sizeof(brief), .timeout_ms = 30};
    (void)state;
    open_with(&f, (pst_context_options){0});
    puppet.hooks.read = read_elsewhere;
    asker.is_patient = 1;
    block(1);
    const uint64_t before_ms = now_ms();
    assert_int_equal(
        pst_get_into(f.store, object_key, 0, into, sizeof(into), NULL, &brief, &n, NULL, &err),
        PST_E_DEADLINE);
    pthread_join(asker.thread, NULL);
    assert_true(now_ms() - before_ms < 20000); /* the application has 60 seconds to answer */
    assert_int_equal(plugin.told, PST_E_DEADLINE);
    block(0);
    shut(&f);
}

static void test_cred__a_context_ends_while_the_application_is_still_at_it(void **state)
{
    struct fixture f;
    char into[10];
    size_t n = 0;
    pst_error err = PST_ERROR_INIT;
    const pst_call brief = {.struct_size = sizeof(brief), .timeout_ms = 10};
    (void)state;
    open_with(&f, (pst_context_options){0});
    block(1);
    assert_int_equal(
        pst_get_into(f.store, object_key, 0, into, sizeof(into), NULL, &brief, &n, NULL, &err),
        PST_E_DEADLINE);
    uint64_t before_ms = now_ms();
    shut(&f);
    assert_true(now_ms() - before_ms < 5000);
    block(0);
    puppet_wait_count(&app.n_calls, 1);
}

static void test_cred__may_be_asked_for_while_the_operation_takes_memory(void **state)
{
    struct fixture f;
    (void)state;
    open_with(&f, (pst_context_options){0});
    expect_get(&f, 1);
    puppet.hooks.read = read_beside;
    for (int i = 0; i < 10; i++)
        expect_get(&f, 1);
    assert_string_equal(plugin.secret, SECRET);
    shut(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(test_cred__without_a_callback_there_is_no_such_service),
        CONTRACT_TEST(test_cred__the_application_is_asked_once_and_answers_are_kept),
        CONTRACT_TEST(test_cred__operations_that_wait_together_ask_once),
        CONTRACT_TEST(test_cred__what_was_refused_is_asked_for_once_more_and_once_only),
        CONTRACT_TEST(test_cred__what_has_expired_is_asked_for_again),
        CONTRACT_TEST(test_cred__before_they_expire_they_are_renewed_while_the_old_ones_serve),
        CONTRACT_TEST(test_cred__credentials_that_have_expired_already_are_an_error),
        CONTRACT_TEST(test_cred__a_refusal_of_the_application_reaches_the_user_and_is_not_kept),
        CONTRACT_TEST(test_cred__who_waits_too_long_is_told_and_the_late_answer_serves_others),
        CONTRACT_TEST(test_cred__a_cancelled_operation_does_not_wait_for_the_application),
        CONTRACT_TEST(test_cred__may_be_asked_for_while_the_operation_takes_memory),
        CONTRACT_TEST(test_cred__an_operation_may_end_while_get_returns),
        CONTRACT_TEST(test_cred__an_operation_that_was_cancelled_before_it_asks_is_told_at_once),
        CONTRACT_TEST(test_cred__a_context_ends_while_the_application_is_still_at_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
