/* kill -9 in the middle of writing: every object is whole or absent afterwards, no listing shows anything
 * else, and `penstock cleanup` removes what the dead left. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "file_store.h"
#include "scratch.h"

#define VICTIMS 100u
#define PUTS 100u
#define BYTES ((size_t)300000)

static char *body;

/* In the child: puts and streams, for ever. */
static void write_for_ever(const char *dir)
{
    pst_context *context = NULL;
    pst_store *store = NULL;
    const pst_iov src = {body, BYTES};
    const pst_write_options options = {.struct_size = sizeof(options), .part_bytes = 65536};
    char key[32];
    if (file_context(&context, NULL) != PST_OK || file_store(context, dir, &store, NULL) != PST_OK)
        _exit(1);
    for (unsigned i = 0;; i = (i + 1) % PUTS) {
        pst_writer *writer = NULL;
        pst_rc rc = PST_OK;
        int n = snprintf(key, sizeof(key), "object-%u", i);
        if (i % 2 == 0) {
            rc = pst_put(store, pst_str_of(key, (size_t)n), &src, 1, NULL, NULL, NULL, NULL);
        } else {
            rc = pst_writer_open(store, pst_str_of(key, (size_t)n), &options, NULL, &writer, NULL);
            for (size_t at = 0; at < BYTES && rc == PST_OK; at += BYTES / 3)
                rc = pst_writer_write(writer, body + at, BYTES / 3, NULL);
            if (rc == PST_OK)
                rc = pst_writer_finalize(writer, NULL, NULL);
            pst_writer_free(writer);
        }
        if (rc != PST_OK)
            _exit(2);
    }
}

static void kill_one(const char *dir, unsigned i)
{
    int status = 0;
    const struct timespec life = {.tv_nsec = (long)(5 + i * 37 % 90) * 1000000};
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        write_for_ever(dir);
    nanosleep(&life, NULL);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Count what lies in the folder. */
static void count_files(const char *dir, size_t *n_objects, size_t *n_leftovers)
{
    static char found[BYTES + 1];
    DIR *listing = opendir(dir);
    assert_non_null(listing);
    *n_objects = *n_leftovers = 0;
    for (struct dirent *entry = readdir(listing); entry; entry = readdir(listing)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (strncmp(entry->d_name, "object-", 7) != 0) {
            ++*n_leftovers;
            continue;
        }
        FILE *file = fopen(scratch_path(dir, entry->d_name), "rb");
        assert_non_null(file);
        size_t n = fread(found, 1, sizeof(found), file);
        fclose(file);
        assert_int_equal(n, BYTES);
        assert_memory_equal(found, body, BYTES);
        ++*n_objects;
    }
    closedir(listing);
}

static size_t count_listed(const char *dir)
{
    pst_context *context = NULL;
    pst_store *store = NULL;
    pst_list *list = NULL;
    const pst_entry *entry = NULL;
    size_t n = 0;
    assert_int_equal(file_context(&context, NULL), PST_OK);
    assert_int_equal(file_store(context, dir, &store, NULL), PST_OK);
    assert_int_equal(pst_list_open(store, PST_STR(""), NULL, &list, NULL), PST_OK);
    for (;; n++) {
        assert_int_equal(pst_list_next(list, NULL, &entry, NULL), PST_OK);
        if (!entry)
            break;
        assert_int_equal(entry->size, BYTES);
    }
    pst_list_free(list);
    pst_store_free(store);
    pst_context_free(context);
    return n;
}

static void clean_up(const char *dir)
{
    char uri[600], command[600];
    int status = 0;
    snprintf(command, sizeof(command), "%s/penstock", getenv("PST_TEST_BIN"));
    snprintf(uri, sizeof(uri), "file://%s/", dir);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl(command, command, "cleanup", "--older-than", "0s", uri, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_kill__objects_are_whole_and_cleanup_removes_the_rest(void **state)
{
    const char *dir = *state;
    size_t n_objects = 0, n_leftovers = 0, n_after = 0;
    for (unsigned i = 0; i < VICTIMS; i++)
        kill_one(dir, i);
    count_files(dir, &n_objects, &n_leftovers);
    assert_true(n_objects > 0); /* else it tells nothing */
    assert_int_equal(count_listed(dir), n_objects);
    clean_up(dir);
    count_files(dir, &n_after, &n_leftovers);
    assert_int_equal(n_after, n_objects);
    assert_int_equal(n_leftovers, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kill__objects_are_whole_and_cleanup_removes_the_rest,
                                        scratch_setup, scratch_teardown),
    };
    body = malloc(BYTES);
    if (!body)
        return 1;
    for (size_t i = 0; i < BYTES; i++)
        body[i] = (char)(i * 2654435761u >> 13);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    free(body);
    return rc;
}
