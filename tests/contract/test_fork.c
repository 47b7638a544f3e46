/* Contract 12: a child works on its own, with nothing of the parent's. */
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <penstock/services.h>

#include "contract.h"

struct job {
    pst_op *op;
    const pst_read_args *args;
    pst_read_result *result;
};

static void read_now(void *arg)
{
    struct job *job = arg;
    pst_rc rc = puppet_read(job->op, job->args, job->result);
    atomic_fetch_sub(&puppet.n_outstanding, 1);
    job->op->host->complete(job->op->host, job->op, rc);
}

/* Needs a thread of the host: one that is gone in the child. */
static pst_rc run_on_pool(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    struct job *job = op->scratch;
    (void)b;
    *job = (struct job){op, a, r};
    pst_rc rc = op->host->exec(op->host, op, PST_POOL_BLOCKING, read_now, job);
    return rc == PST_OK ? (pst_rc)PST_PENDING : rc;
}

static int read_once(pst_store *store)
{
    pst_buffer *buffer = NULL;
    if (pst_get(store, object_key, NULL, NULL, &buffer, NULL, NULL) != PST_OK)
        return 0;
    int is_right = pst_buffer_size(buffer) == 10 &&
                   memcmp(pst_buffer_data(buffer), "0123456789", 10) == 0;
    pst_buffer_unref(buffer);
    return is_right;
}

/* In the child. Returns its exit status; an alarm ends one that hangs. */
static int child(pst_context *context, pst_store *store, pst_queue *queue, pst_buffer *old)
{
    pst_event event;
    size_t n;
    alarm(5);
    if (!read_once(store))
        return 1;
    if (pst_queue_wait(queue, &event, 1, 0, NULL, &n, NULL) != PST_E_FORKED)
        return 2;
    if (atomic_load(&puppet.n_fork_child) != 1 || atomic_load(&puppet.n_open) != 2)
        return 3;
    if (memcmp(pst_buffer_data(old), "0123456789", 10) != 0)
        return 4;
    pst_buffer_unref(old);
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
    return atomic_load(&puppet.n_closed) == 1 ? 0 : 5; /* its own, not the parent's */
}

/* Past every checker of leaks: the memory of the parent's handles stays, on purpose. */
static void leave(int status)
{
    syscall(SYS_exit_group, status);
}

/* In the child as in the parent the application is asked, by a thread of that process. */
static atomic_int n_supplied;

static pst_rc supply(void *arg, const char *uri, pst_credentials_answer *answer, pst_error *err)
{
    (void)arg;
    (void)uri;
    (void)err;
    atomic_fetch_add(&n_supplied, 1);
    return pst_credentials_add(answer, PST_STR("key"), PST_STR("value"));
}

static void on_credentials(void *ctx, pst_rc rc, const pst_credentials *given, const pst_error *err)
{
    struct job *job = ctx;
    (void)given;
    (void)err;
    atomic_fetch_sub(&puppet.n_outstanding, 1);
    job->op->host->complete(job->op->host, job->op,
                            rc == PST_OK ? puppet_read(job->op, job->args, job->result) : rc);
}

static pst_rc read_signed(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    const pst_cred_1 *cred = op->host->service(op->host, "cred/1");
    pst_credentials given = {.struct_size = sizeof(given)};
    struct job *job = op->scratch;
    (void)b;
    *job = (struct job){op, a, r};
    pst_rc rc = cred->get(op->host, op, 0, &given, on_credentials, job);
    return rc == PST_OK ? puppet_read(op, a, r) : rc;
}

static void test_fork__a_child_asks_for_credentials_of_its_own(void **state)
{
    const pst_context_options options = {.struct_size = sizeof(options), .credentials = supply};
    int status = 0;
    (void)state;
    puppet.hooks.read = read_signed;
    pst_context *context = puppet_context(&options);
    pst_store *store = puppet_store(context, "puppet");
    assert_true(read_once(store));
    assert_int_equal(atomic_load(&n_supplied), 1);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(5);
        int is_right = read_once(store) && read_once(store) && atomic_load(&n_supplied) == 2;
        pst_store_free(store);
        pst_context_free(context);
        /* Nothing points to the parent's core any more: valgrind would look even behind leave(). */
        kill(getpid(), is_right ? SIGKILL : SIGABRT);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(read_once(store));
    assert_int_equal(atomic_load(&n_supplied), 1);
    pst_store_free(store);
    pst_context_free(context);
}

static void test_fork__child_reads_and_parent_goes_on(void **state)
{
    pst_buffer *old = NULL;
    pst_queue *queue;
    int status = 0;
    (void)state;
    puppet.hooks.read = run_on_pool;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_queue_new(context, &queue, NULL), PST_OK);
    assert_true(read_once(store)); /* the parent's threads run */
    assert_int_equal(pst_get(store, object_key, NULL, NULL, &old, NULL, NULL), PST_OK);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        leave(child(context, store, queue, old));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(read_once(store));
    pst_buffer_unref(old);
    pst_queue_free(queue);
    pst_store_free(store);
    pst_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(test_fork__child_reads_and_parent_goes_on),
        CONTRACT_TEST(test_fork__a_child_asks_for_credentials_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
