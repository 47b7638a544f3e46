/* What dead writers leave is recognised and removed; what living ones hold is not. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mini_host.h"

static const pst_str none = {NULL, 0};

#define DEAD_A ".penstock-tmp-0123456789abcdef-1-0000000000000001"
#define DEAD_B ".penstock-tmp-fedcba9876543210-99999-0000000000000002"

static void put_text(struct mini_fixture *f, const char *key, const char *text)
{
    assert_int_equal(mini_put(&f->mini, mini_str(key), text, strlen(text), 0, none, NULL, NULL),
                     PST_OK);
}

static void plant(struct mini_fixture *f)
{
    put_text(f, "a/b/object", "kept");
    mini_write_file(f->dir, DEAD_A, "12345");
    mini_write_file(f->dir, "a/" DEAD_B, "123");
    mini_write_file(f->dir, "a/b/" DEAD_A, "12");
    mini_write_file(f->dir, ".penstock-tmp-mine", "kept");
    mini_write_file(f->dir, ".penstock-tmp-0123456789abcdef-1-000000000000000Z", "kept");
}

static uint64_t cleanup(struct mini_fixture *f, const char *prefix, uint64_t older_than_s,
                        uint32_t flags, uint64_t *n_bytes)
{
    uint64_t n;

    assert_int_equal(mini_cleanup(&f->mini, mini_str(prefix), older_than_s, flags, &n, n_bytes),
                     PST_OK);
    return n;
}

static void test_cleanup__removes_only_what_is_ours_and_below_the_prefix(void **state)
{
    struct mini_fixture *f = *state;
    uint64_t n_bytes;

    plant(f);
    assert_int_equal(cleanup(f, "", 0, PST_CLEANUP_DRY_RUN, &n_bytes), 3);
    assert_int_equal(n_bytes, 10);
    assert_int_equal(cleanup(f, "nothing", 0, 0, &n_bytes), 0);
    assert_int_equal(cleanup(f, "a/b", 0, 0, &n_bytes), 1);
    assert_int_equal(n_bytes, 2);
    assert_int_equal(cleanup(f, "", 0, 0, &n_bytes), 2);
    assert_int_equal(cleanup(f, "", 0, 0, &n_bytes), 0);
    assert_int_equal(mini_count_names(f->dir), 3); /* "a" and the two that only look like ours */
    char *text = mini_read_file(f->dir, "a/b/object");
    assert_string_equal(text, "kept");
    free(text);
}

static void test_cleanup__spares_what_is_young(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, DEAD_A);
    const struct timespec old[2] = {{1000000000, 0}, {1000000000, 0}};
    uint64_t n_bytes;

    plant(f);
    assert_int_equal(cleanup(f, "", 3600, 0, &n_bytes), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    assert_int_equal(cleanup(f, "", 3600, 0, &n_bytes), 1);
    assert_int_equal(cleanup(f, "", 0, 0, &n_bytes), 2);
    free(path);
}

static void test_cleanup__spares_the_file_of_a_living_writer(void **state)
{
    struct mini_fixture *f = *state;
    pst_upload *upload;
    uint64_t n_bytes;

    assert_int_equal(mini_upload_open(&f->mini, PST_STR("o"), 0, none, &upload), PST_OK);
    assert_int_equal(mini_part(&f->mini, upload, 0, 0, "x", 1), PST_OK);
    assert_int_equal(cleanup(f, "", 0, 0, &n_bytes), 0);
    assert_int_equal(mini_commit(&f->mini, upload, 1, 1, NULL), PST_OK);
    mini_upload_free(&f->mini, upload);
    assert_int_equal(mini_count_names(f->dir), 1);
}

/* In another container its process id means nothing here; its lock does. */
static void test_cleanup__spares_a_locked_file_whose_process_is_not_in_sight(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, DEAD_B);
    uint64_t n_bytes;

    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(cleanup(f, "", 0, 0, &n_bytes), 0);
    close(fd);
    assert_int_equal(cleanup(f, "", 0, 0, &n_bytes), 1);
    free(path);
}

/* A file system without locks: the process id in the name has to do. */
static int without_flock(void *arg)
{
    struct mini_fixture *f = arg;
    pst_upload *upload;
    uint64_t n, n_bytes;

    if (mini_forbid(SYS_flock, EOPNOTSUPP) != 0)
        return 101;
    if (mini_upload_open(&f->mini, PST_STR("o"), 0, none, &upload) != PST_OK ||
        mini_part(&f->mini, upload, 0, 0, "x", 1) != PST_OK)
        return 1;
    plant(f); /* dead ones beside it */
    if (mini_cleanup(&f->mini, none, 0, 0, &n, &n_bytes) != PST_OK || n != 3)
        return 2;
    if (mini_commit(&f->mini, upload, 1, 1, NULL) != PST_OK)
        return 3;
    mini_upload_free(&f->mini, upload);
    return 0;
}

static void test_cleanup__goes_by_process_id_where_there_are_no_locks(void **state)
{
    assert_int_equal(mini_run_child(without_flock, *state, 0), 0);
}

static int cleanup_as_nobody(void *arg)
{
    struct mini_fixture *f = arg;
    uint64_t n, n_bytes;

    return mini_cleanup(&f->mini, none, 0, 0, &n, &n_bytes) == PST_E_DENIED && n == 1 ? 0 : 1;
}

static void test_cleanup__does_the_rest_when_one_file_may_not_be_removed(void **state)
{
    struct mini_fixture *f = *state;

    plant(f);
    char *a = mini_path(f->dir, "a"), *b = mini_path(f->dir, "a/b");
    assert_int_equal(chmod(a, 0777), 0); /* here one may remove, elsewhere not */
    assert_int_equal(chmod(b, 0555), 0);
    assert_int_equal(chmod(f->dir, 0555), 0);
    assert_int_equal(mini_run_child(cleanup_as_nobody, f, 1), 0);
    assert_int_equal(chmod(f->dir, 0755), 0);
    assert_int_equal(chmod(b, 0755), 0);
    free(a);
    free(b);
}

/* Writers and cleanups side by side: no write may lose its file. */
struct writer {
    struct mini_fixture *f;
    int index;
};

static void *put_often(void *arg)
{
    const struct writer *writer = arg;
    char key[32];

    snprintf(key, sizeof(key), "o%d", writer->index);
    for (int i = 0; i < 300; i++)
        put_text(writer->f, key, "bytes");
    return NULL;
}

static void test_cleanup__beside_writers_loses_nothing(void **state)
{
    struct mini_fixture *f = *state;
    struct writer writers[3];
    pthread_t threads[3];
    uint64_t n_bytes;

    for (int i = 0; i < 3; i++) {
        writers[i] = (struct writer){f, i};
        assert_int_equal(pthread_create(&threads[i], NULL, put_often, &writers[i]), 0);
    }
    for (int i = 0; i < 300; i++)
        cleanup(f, "", 0, 0, &n_bytes);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(mini_count_names(f->dir), 3);
}

/* ---- kill -9 --------------------------------------------------------------------------------------- */

enum { N_PUTS = 100, N_PARTS = 4, PART_BYTES = 300000, N_STEPS = N_PARTS + 3 };

static void tell(int fd)
{
    while (write(fd, ".", 1) < 0 && errno == EINTR) {}
}

/* Replace the object by a version whose every byte is `fill`, telling each step taken. */
static void write_version(struct mini_fixture *f, const char *key, char fill, int tell_fd)
{
    char *bytes = malloc(PART_BYTES);
    pst_upload *upload;

    if (!bytes)
        _exit(1);
    memset(bytes, fill, PART_BYTES);
    tell(tell_fd);
    if (mini_upload_open(&f->mini, mini_str(key), 0, none, &upload) != PST_OK)
        _exit(1);
    tell(tell_fd);
    for (uint32_t i = 0; i < N_PARTS; i++) {
        if (mini_part(&f->mini, upload, i, (uint64_t)i * PART_BYTES, bytes, PART_BYTES) != PST_OK)
            _exit(1);
        tell(tell_fd);
    }
    if (mini_commit(&f->mini, upload, (uint64_t)N_PARTS * PART_BYTES, N_PARTS, NULL) != PST_OK)
        _exit(1);
    tell(tell_fd);
    mini_upload_free(&f->mini, upload);
    _exit(0);
}

/* Kill a writer as soon as it has told `n_steps` steps. */
static void kill_at(struct mini_fixture *f, const char *key, char fill, int n_steps)
{
    int pipes[2], status;
    char byte;

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0)
        write_version(f, key, fill, pipes[1]);
    close(pipes[1]);
    while (n_steps > 0 && read(pipes[0], &byte, 1) == 1)
        n_steps--;
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    close(pipes[0]);
}

static void test_kill__leaves_every_object_whole_or_absent(void **state)
{
    struct mini_fixture *f = *state;
    int n_absent = 0, n_old = 0, n_new = 0;
    uint64_t n_removed, n_bytes;

    for (int i = 0; i < N_PUTS; i++) {
        char key[32], *bytes;
        size_t n;
        snprintf(key, sizeof(key), "d%d/o%d", i % 3, i);
        if (i % 2)
            put_text(f, key, "old");
        kill_at(f, key, (char)('a' + i % 26), i % (N_STEPS + 1));
        pst_rc rc = mini_read(&f->mini, mini_str(key), 0, 1 << 22, 0, none, &bytes, &n, NULL);
        if (rc == PST_E_NOT_FOUND) {
            assert_int_equal(i % 2, 0);
            n_absent++;
            continue;
        }
        assert_int_equal(rc, PST_OK);
        if (n == 3) {
            assert_string_equal(bytes, "old");
            n_old++;
        } else {
            assert_int_equal(n, N_PARTS * PART_BYTES);
            for (size_t j = 0; j < n; j++)
                assert_int_equal(bytes[j], 'a' + i % 26);
            n_new++;
        }
        free(bytes);
    }
    n_removed = cleanup(f, "", 0, 0, &n_bytes);
    assert_true(n_removed > 0); /* else nothing was killed in the middle */
    assert_true(n_absent > 0 && n_old > 0 && n_new > 0);
    int n_left = 0;
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof(name), "d%d", i);
        char *dir = mini_path(f->dir, name);
        n_left += mini_count_names(dir);
        free(dir);
    }
    assert_int_equal(n_left, n_old + n_new);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, mini_setup, mini_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cleanup__removes_only_what_is_ours_and_below_the_prefix),
        TEST(test_cleanup__spares_what_is_young),
        TEST(test_cleanup__spares_the_file_of_a_living_writer),
        TEST(test_cleanup__spares_a_locked_file_whose_process_is_not_in_sight),
        TEST(test_cleanup__goes_by_process_id_where_there_are_no_locks),
        TEST(test_cleanup__does_the_rest_when_one_file_may_not_be_removed),
        TEST(test_cleanup__beside_writers_loses_nothing),
        TEST(test_kill__leaves_every_object_whole_or_absent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
