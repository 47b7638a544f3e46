/* Conditional writes: create-only and if_match, atomic among processes. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../file.h"
#include "mini_host.h"

static const pst_str none = {NULL, 0};

static pst_rc put_if(struct mini_fixture *f, const char *key, const char *text, uint32_t flags,
                     const char *if_match, char *etag)
{
    return mini_put(&f->mini, mini_str(key), text, strlen(text), flags, mini_str(if_match), NULL,
                    etag);
}

static void assert_file(struct mini_fixture *f, const char *name, const char *expected)
{
    char *text = mini_read_file(f->dir, name);

    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

static void test_create_only__second_writer_gets_exists(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *one, *two;

    assert_int_equal(put_if(f, "o", "first", PST_PUT_CREATE_ONLY, NULL, NULL), PST_OK);
    assert_int_equal(put_if(f, "o", "second", PST_PUT_CREATE_ONLY, NULL, NULL), PST_E_EXISTS);
    assert_file(f, "o", "first");
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("o"), PST_PUT_CREATE_ONLY, none, &one),
                     PST_E_EXISTS); /* before any bytes travel */
    /* Both begin before either commits. */
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("p"), PST_PUT_CREATE_ONLY, none, &one),
                     PST_OK);
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("p"), PST_PUT_CREATE_ONLY, none, &two),
                     PST_OK);
    assert_int_equal(mini_part(&f->mini, one, 0, 0, "1", 1), PST_OK);
    assert_int_equal(mini_part(&f->mini, two, 0, 0, "2", 1), PST_OK);
    assert_int_equal(mini_commit(&f->mini, two, 1, 1, NULL), PST_OK);
    assert_int_equal(mini_commit(&f->mini, one, 1, 1, NULL), PST_E_EXISTS);
    mini_upload_free(&f->mini, one);
    mini_upload_free(&f->mini, two);
    assert_file(f, "p", "2");
    assert_int_equal(mini_count_names(f->dir), 2); /* no lock file: creating needs none */
    assert_int_equal(
        mini_copy(&f->mini, PST_STR("o"), PST_STR("p"), PST_PUT_CREATE_ONLY, none, none, NULL),
        PST_E_EXISTS);
    assert_int_equal(mini_rename(&f->mini, PST_STR("o"), PST_STR("p"), PST_PUT_CREATE_ONLY, none),
                     PST_E_EXISTS);
    assert_file(f, "o", "first");
}

static void test_if_match__only_the_content_that_was_seen_is_replaced(void **state)
{
    struct mini_fixture *f = *state;
    char first[128], second[128];

    assert_int_equal(put_if(f, "o", "1", 0, "any", NULL), PST_E_PRECONDITION); /* nothing there */
    assert_int_equal(put_if(f, "o", "1", 0, NULL, first), PST_OK);
    assert_int_equal(put_if(f, "o", "2", 0, first, second), PST_OK);
    assert_int_equal(put_if(f, "o", "3", 0, first, NULL), PST_E_PRECONDITION);
    assert_file(f, "o", "2");
    assert_int_equal(mini_remove(&f->mini, PST_STR("o"), mini_str(first)), PST_E_PRECONDITION);
    assert_int_equal(mini_remove(&f->mini, PST_STR("o"), mini_str(second)), PST_OK);
    assert_int_equal(mini_remove(&f->mini, PST_STR("o"), mini_str(second)), PST_E_PRECONDITION);
}

static void test_if_match__change_between_open_and_commit_is_seen(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload;
    char etag[128];

    assert_int_equal(put_if(f, "o", "1", 0, NULL, etag), PST_OK);
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("o"), 0, mini_str(etag), &upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "2", 1), PST_OK);
    assert_int_equal(put_if(f, "o", "x", 0, NULL, NULL), PST_OK);
    assert_int_equal(mini_commit(&f->mini, upload, 1, 1, NULL), PST_E_PRECONDITION);
    mini_upload_free(&f->mini, upload);
    assert_file(f, "o", "x");
}

static void test_if_match__copy_and_rename_check_both_ends(void **state)
{
    struct mini_fixture *f = *state;
    char from[128], to[128];

    assert_int_equal(put_if(f, "from", "1", 0, NULL, from), PST_OK);
    assert_int_equal(put_if(f, "d/to", "2", 0, NULL, to), PST_OK);
    assert_int_equal(
        mini_copy(&f->mini, PST_STR("from"), PST_STR("d/to"), 0, mini_str(to), none, NULL),
        PST_E_PRECONDITION);
    assert_int_equal(
        mini_copy(&f->mini, PST_STR("from"), PST_STR("d/to"), 0, none, mini_str(from), NULL),
        PST_E_PRECONDITION);
    assert_int_equal(mini_rename(&f->mini, PST_STR("from"), PST_STR("d/to"), 0, mini_str(from)),
                     PST_E_PRECONDITION);
    assert_int_equal(mini_copy(&f->mini, PST_STR("from"), PST_STR("d/to"), 0, mini_str(from),
                               mini_str(to), NULL),
                     PST_OK);
    assert_int_equal(mini_etag(&f->mini, PST_STR("d/to"), to), PST_OK);
    assert_int_equal(mini_rename(&f->mini, PST_STR("from"), PST_STR("d/to"), 0, mini_str(to)),
                     PST_OK);
    assert_file(f, "d/to", "1");
}

static void test_lock__held_by_another_delays_and_cancel_ends_the_wait(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, ".penstock-lock");
    const pst_attr attr = {.struct_size = sizeof(attr)};
    const pst_iov src = {"x", 1};
    const pst_put_args args = {
        .struct_size = sizeof(args), .key = PST_STR("o"), .src = &src, .n_src = 1, .attr = &attr};
    pst_put_result result = {.struct_size = sizeof(result)};
    struct mini_op op;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

    assert_int_equal(flock(fd, LOCK_EX), 0);
    f->mini.is_threaded = 1;
    mini_op_init(&f->mini, &op);
    pst_rc submitted = f->mini.plugin->ops->put(f->mini.store, &op.op, &args, &result);
    f->mini.plugin->ops->cancel(f->mini.store, &op.op);
    assert_int_equal(mini_op_wait(&op, submitted), PST_E_CANCELLED);
    mini_op_fini(&op);
    assert_int_equal(mini_count_names(f->dir), 1);
    close(fd);
    assert_int_equal(put_if(f, "o", "x", 0, NULL, NULL), PST_OK);
    free(path);
}

static void test_lock__child_that_was_forked_meanwhile_does_not_keep_it(void **state)
{
    struct mini_fixture *f = *state;
    int dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int lock_fd, until[2];
    struct mini_op op;
    char etag[128], byte;

    assert_int_equal(put_if(f, "o", "1", 0, NULL, etag), PST_OK);
    mini_op_init(&f->mini, &op);
    assert_int_equal(fst_lock(f->mini.store, &op.op, dir_fd, PST_STR("o"), 1, &lock_fd), PST_OK);
    mini_op_fini(&op);
    assert_int_equal(pipe2(until, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(until[1]);
        while (read(until[0], &byte, 1) > 0) {}
        _exit(0);
    }
    assert_true(pid > 0);
    close(until[0]);
    fst_unlock(lock_fd);
    /* First without patience, so that a lock that was kept fails this test rather than hangs it. */
    int fd = openat(dir_fd, ".penstock-lock", O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    close(fd);
    assert_int_equal(put_if(f, "o", "2", 0, etag, NULL), PST_OK);
    assert_file(f, "o", "2");
    close(until[1]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(dir_fd);
}

static void test_lock__file_is_not_listed_and_goes_with_its_directory(void **state)
{
    struct mini_fixture *f = *state;
    char etag[128];
    struct mini_list list;

    assert_int_equal(put_if(f, "d/o", "1", 0, NULL, etag), PST_OK);
    assert_int_equal(put_if(f, "d/o", "2", 0, etag, NULL), PST_OK);
    char *text = mini_read_file(f->dir, "d/.penstock-lock");
    assert_non_null(text);
    free(text);
    assert_int_equal(mini_list(&f->mini, PST_STR("d/"), none, 0, 0, &list), PST_OK);
    assert_int_equal(list.n, 1);
    mini_list_free(&list);
    assert_int_equal(mini_container(&f->mini, PST_STR("d"), 0), PST_E_PRECONDITION);
    text = mini_read_file(f->dir, "d/.penstock-lock");
    assert_non_null(text); /* a refused delete leaves it */
    free(text);
    assert_int_equal(mini_remove(&f->mini, PST_STR("d/o"), none), PST_OK);
    assert_int_equal(mini_container(&f->mini, PST_STR("d"), 0), PST_OK);
    assert_int_equal(mini_count_names(f->dir), 0);
}

/* ---- eight processes ------------------------------------------------------------------------------ */

enum { N_PROCESSES = 8, N_ROUNDS = 100 };

enum how { BY_PUT, BY_UPLOAD, BY_RENAME };

static pst_rc write_by(struct mini_fixture *f, enum how how, uint32_t flags, const char *etag,
                       const char *text, int index)
{
    pst_upload *upload;
    char own[32];

    if (how == BY_PUT)
        return put_if(f, "o", text, flags, etag, NULL);
    if (how == BY_RENAME) {
        snprintf(own, sizeof(own), "mine%d", index);
        if (put_if(f, own, text, 0, NULL, NULL) != PST_OK)
            return PST_E_INTERNAL;
        return mini_rename(&f->mini, mini_str(own), PST_STR("o"), flags, mini_str(etag));
    }
    pst_rc rc = mini_upload_open(&f->mini, PST_STR("o"), flags, mini_str(etag), &upload);
    if (rc != PST_OK)
        return rc;
    rc = mini_part(&f->mini, upload, 0, 0, text, strlen(text));
    if (rc == PST_OK)
        rc = mini_commit(&f->mini, upload, strlen(text), 1, NULL);
    mini_upload_free(&f->mini, upload);
    return rc;
}

/* One process: told to start by a closed pipe, writes under the condition, tells by its exit code. */
static void compete(struct mini_fixture *f, int start_fd, int index, enum how how, uint32_t flags,
                    const char *etag)
{
    char text[32], byte;

    snprintf(text, sizeof(text), "process %d", index);
    while (read(start_fd, &byte, 1) > 0) {}
    pst_rc rc = write_by(f, how, flags, etag, text, index);
    _exit(rc == PST_OK ? 1 : rc == PST_E_PRECONDITION || rc == PST_E_EXISTS ? 0 : 2);
}

/* Returns the index of the one that won; fails the test unless exactly one did. */
static int run_round(struct mini_fixture *f, enum how how, uint32_t flags, const char *etag)
{
    pid_t pids[N_PROCESSES];
    int start[2], winner = -1;

    assert_int_equal(pipe2(start, O_CLOEXEC), 0);
    for (int i = 0; i < N_PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            close(start[1]);
            compete(f, start[0], i, how, flags, etag);
        }
    }
    close(start[0]);
    close(start[1]); /* go */
    for (int i = 0; i < N_PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        assert_in_range(WEXITSTATUS(status), 0, 1);
        if (WEXITSTATUS(status) == 1) {
            assert_int_equal(winner, -1);
            winner = i;
        }
    }
    assert_int_not_equal(winner, -1);
    return winner;
}

static void assert_winner(struct mini_fixture *f, int winner)
{
    char text[32];

    snprintf(text, sizeof(text), "process %d", winner);
    assert_file(f, "o", text);
}

static void test_if_match__eight_processes_have_one_winner_each_round(void **state)
{
    struct mini_fixture *f = *state;
    char etag[128];

    assert_int_equal(put_if(f, "o", "start", 0, NULL, NULL), PST_OK);
    for (int round = 0; round < N_ROUNDS; round++) {
        assert_int_equal(mini_etag(&f->mini, PST_STR("o"), etag), PST_OK);
        assert_winner(f, run_round(f, (enum how)(round % 3), 0, etag));
    }
}

static void test_create_only__eight_processes_have_one_winner_each_round(void **state)
{
    struct mini_fixture *f = *state;

    for (int round = 0; round < N_ROUNDS; round++) {
        assert_winner(f, run_round(f, (enum how)(round % 3), PST_PUT_CREATE_ONLY, NULL));
        assert_int_equal(mini_remove(&f->mini, PST_STR("o"), none), PST_OK);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mini_setup, mini_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_create_only__second_writer_gets_exists),
        TEST(test_if_match__only_the_content_that_was_seen_is_replaced),
        TEST(test_if_match__change_between_open_and_commit_is_seen),
        TEST(test_if_match__copy_and_rename_check_both_ends),
        TEST(test_lock__held_by_another_delays_and_cancel_ends_the_wait),
        TEST(test_lock__child_that_was_forked_meanwhile_does_not_keep_it),
        TEST(test_lock__file_is_not_listed_and_goes_with_its_directory),
        TEST(test_if_match__eight_processes_have_one_winner_each_round),
        TEST(test_create_only__eight_processes_have_one_winner_each_round),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
