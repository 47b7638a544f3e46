/* Whatever this machine refuses: it works all the same, and the log and the store's note say so. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../file/tests/mini_host.h"
#include "direct_files.h"

#define SIZE (((size_t)5 << 20) + 777)

static const pst_str none = {NULL, 0};

/* What a child does: forbid something, open a store with one more option, see that it works. */
struct scene {
    const char *dir;
    const char *option;
    int (*before_open)(void);
    int (*after_open)(void);
    const char *note; /* part of the note and of the log; NULL: neither says anything */
    int is_any_note;  /* that depends on the kernel */
    int is_silent;    /* the option asked for it: a note, no log */
    pst_rc rc;        /* of a put */
};

static const char *note_of(struct mini_host *mini)
{
    pst_limits limits = {.struct_size = sizeof(limits)};
    pst_backend_info info = {.struct_size = sizeof(info), .limits = &limits};

    mini->plugin->ops->info(mini->store, &info);
    return info.note;
}

static int round_trip(struct mini_host *mini, const struct scene *scene, size_t shift)
{
    char *bytes = malloc(SIZE + 1 + shift), *back = NULL;
    size_t n = 0;
    int fault = 0;

    pattern_fill(bytes + shift, SIZE, 0, 5);
    pst_rc rc = mini_put(mini, PST_STR("o"), bytes + shift, SIZE, 0, none, NULL, NULL);
    if (rc != scene->rc)
        fault = 11;
    if (rc == PST_OK && !fault) {
        direct_check(scene->dir, "o", SIZE, 5);
        mini->dst = shift > 0 ? MINI_DST_EARLY : MINI_DST_GRANT;
        if (mini_read(mini, PST_STR("o"), shift, SIZE, 0, none, &back, &n, NULL) != PST_OK)
            fault = 12;
        else if (n != SIZE - shift || pattern_differs(back, n, shift, 5) != n)
            fault = 13;
    }
    free(bytes);
    free(back);
    return fault;
}

static int play(void *arg)
{
    const struct scene *scene = arg;
    struct mini_host mini;
    char root[300];
    const char *options[] = {root, scene->option, NULL};

    snprintf(root, sizeof(root), "root=%s", scene->dir);
    if (scene->before_open && scene->before_open() != 0)
        return 1;
    if (mini_open(&mini, options) != PST_OK)
        return 2;
    if (scene->after_open && scene->after_open() != 0)
        return 3;
    int fault = round_trip(&mini, scene, 0);
    if (!fault)
        fault = round_trip(&mini, scene, 1);
    const char *note = note_of(&mini);
    if (scene->is_any_note)
        goto out;
    if (!fault && scene->note ? !strstr(note, scene->note) : note[0] != '\0')
        fault = 4;
    if (!fault && scene->note && !scene->is_silent &&
        (mini.n_logs != 1 || !strstr(mini.log, scene->note)))
        fault = 5; /* once, however often it was met */
    if (!fault && (!scene->note || scene->is_silent) && mini.n_logs != 0)
        fault = 6;
out:
    if (fault)
        print_message("note: %s\nlog (%d): %s\nerror: %s\n", note, mini.n_logs, mini.log,
                      mini.err.message);
    mini_close(&mini);
    return fault;
}

static void check(struct scene scene, int as_nobody)
{
    char *dir = mini_temp_dir();

    if (as_nobody)
        assert_int_equal(chmod(dir, 0777), 0);
    scene.dir = dir;
    assert_int_equal(mini_run_child(play, &scene, as_nobody), 0);
    mini_remove_tree(dir);
}

static void test_fallback__nothing_is_said_where_nothing_is_missing(void **state)
{
    (void)state;
    check((struct scene){.option = NULL}, 0);
}

/* ---- io_uring ------------------------------------------------------------------------------------ */

static int forbid_setup(void)
{
    return mini_forbid(SYS_io_uring_setup, EPERM);
}

static int lose_setup(void)
{
    return mini_forbid(SYS_io_uring_setup, ENOSYS);
}

static int forbid_enter(void)
{
    return mini_forbid(SYS_io_uring_enter, EPERM);
}

static void test_fallback__io_uring_refused_by_a_sandbox(void **state)
{
    (void)state;
    check((struct scene){.before_open = forbid_setup, .note = "io_uring is not available"}, 0);
}

static void test_fallback__a_kernel_without_io_uring(void **state)
{
    (void)state;
    check((struct scene){.before_open = lose_setup, .note = "io_uring is not available"}, 0);
}

static void test_fallback__a_sandbox_that_closes_after_the_store_was_opened(void **state)
{
    (void)state;
    check((struct scene){.after_open = forbid_enter, .note = "io_uring is not available"}, 0);
}

static void test_fallback__io_uring_switched_off(void **state)
{
    (void)state;
    check((struct scene){.option = "io_uring=off", .note = "io_uring is off", .is_silent = 1}, 0);
}

/* ---- O_DIRECT ------------------------------------------------------------------------------------ */

/* `number` fails with EINVAL when bit O_DIRECT is set in its argument `index`. */
static int refuse_o_direct(long number, unsigned index)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                 (uint32_t)offsetof(struct seccomp_data, args) + index * 8),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_DIRECT, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int refuse_open(void)
{
    return refuse_o_direct(SYS_openat, 2) != 0 || refuse_o_direct(SYS_fcntl, 2) != 0;
}

static void test_fallback__a_file_system_that_refuses_to_open_with_o_direct(void **state)
{
    (void)state;
    check((struct scene){.before_open = refuse_open, .note = "O_DIRECT is refused"}, 0);
}

/* Requests are pread and pwrite without a ring; what goes through the page cache is preadv, pwritev. */
static int refuse_requests(void)
{
    return mini_forbid(SYS_pread64, EINVAL) != 0 || mini_forbid(SYS_pwrite64, EINVAL) != 0 ||
           mini_forbid(SYS_io_uring_setup, ENOSYS) != 0;
}

static int play_refused_requests(void *arg)
{
    struct scene *scene = arg;
    struct mini_host mini;
    char root[300];
    const char *options[] = {root, "io_uring=off", NULL};

    snprintf(root, sizeof(root), "root=%s", scene->dir);
    if (mini_open(&mini, options) != PST_OK || refuse_requests() != 0)
        return 1;
    int fault = round_trip(&mini, scene, 0);
    if (!fault && !strstr(note_of(&mini), "O_DIRECT is refused"))
        fault = 4;
    mini_close(&mini);
    return fault;
}

static void test_fallback__a_file_system_that_refuses_the_first_request(void **state)
{
    char *dir = mini_temp_dir();
    struct scene scene = {.dir = dir};

    (void)state;
    assert_int_equal(mini_run_child(play_refused_requests, &scene, 0), 0);
    mini_remove_tree(dir);
}

static void test_fallback__o_direct_switched_off(void **state)
{
    (void)state;
    check((struct scene){.option = "o_direct=off", .note = "O_DIRECT is off", .is_silent = 1}, 0);
}

static void test_fallback__o_direct_required_and_refused_is_an_error(void **state)
{
    (void)state;
    check((struct scene){.option = "o_direct=require",
                         .before_open = refuse_open,
                         .note = "O_DIRECT is refused",
                         .rc = PST_E_UNIMPLEMENTED},
          0);
}

/* A temporary file that is made read-only cannot be opened for writing again. Not by root: its rights
 * go with the user. */
static int deny_second_open(void)
{
    umask(0277);
    return 0;
}

static void test_fallback__a_second_descriptor_that_is_denied(void **state)
{
    (void)state;
    check((struct scene){.before_open = deny_second_open, .note = "O_DIRECT is refused"}, 1);
    check((struct scene){.option = "o_direct=require",
                         .before_open = deny_second_open,
                         .rc = PST_E_DENIED},
          1);
}

/* With ever more descriptors a put gets ever further; the last thing to fail is the second open. */
static int play_few_descriptors(void *arg)
{
    const struct scene *scene = arg;
    struct mini_host mini;
    struct rlimit limit;
    char root[300], message[sizeof(mini.err.message)] = "";
    const char *options[] = {root, scene->option, NULL};
    char *bytes = calloc(SIZE, 1);
    pst_rc rc = PST_E_IO;

    snprintf(root, sizeof(root), "root=%s", scene->dir);
    if (!bytes || mini_open(&mini, options) != PST_OK || getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1;
    for (limit.rlim_cur = 3; rc != PST_OK && limit.rlim_cur < limit.rlim_max; limit.rlim_cur++) {
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            return 2;
        rc = mini_put(&mini, PST_STR("o"), bytes, SIZE, 0, none, NULL, NULL);
        if (rc != PST_OK)
            memcpy(message, mini.err.message, sizeof(message));
    }
    int fault = rc != PST_OK ? 3 : strstr(message, "O_DIRECT") ? 0 : 4;
    if (note_of(&mini)[0] != '\0' || mini.n_logs != 0)
        fault = 5; /* it passed */
    if (fault)
        print_message("note: %s\nerror: %s\n", note_of(&mini), message);
    free(bytes);
    mini_close(&mini);
    return fault;
}

static void test_fallback__o_direct_required_and_too_many_open_files_is_an_error(void **state)
{
    char *dir = mini_temp_dir();
    struct scene scene = {.dir = dir, .option = "o_direct=require"};

    (void)state;
    assert_int_equal(mini_run_child(play_few_descriptors, &scene, 0), 0);
    mini_remove_tree(dir);
}

static int play_stat(void *arg)
{
    struct scene *scene = arg;
    struct mini_host mini;
    struct mini_op op;
    pst_attr attr;
    char root[300];
    const char *options[] = {root, NULL};

    snprintf(root, sizeof(root), "root=%s", scene->dir);
    if (refuse_open() != 0 || mini_open(&mini, options) != PST_OK)
        return 1;
    mini_write_file(scene->dir, "o", "text");
    pst_rc rc = mini_stat(&mini, PST_STR("o"), &op, &attr);
    mini_op_fini(&op);
    int fault = rc != PST_OK ? 2 : strstr(note_of(&mini), "O_DIRECT is refused") ? 0 : 3;
    mini_close(&mini);
    return fault;
}

static void test_fallback__a_stat_is_enough_to_learn_of_it(void **state)
{
    char *dir = mini_temp_dir();
    struct scene scene = {.dir = dir};

    (void)state;
    assert_int_equal(mini_run_child(play_stat, &scene, 0), 0);
    mini_remove_tree(dir);
}

/* ---- memory -------------------------------------------------------------------------------------- */

static int lock_nothing(void)
{
    const struct rlimit limit = {0, 0};

    return setrlimit(RLIMIT_MEMLOCK, &limit);
}

static int lock_little(void)
{
    const struct rlimit limit = {1 << 20, 1 << 20};

    return setrlimit(RLIMIT_MEMLOCK, &limit);
}

static int refuse_register(void)
{
    return mini_forbid(SYS_io_uring_register, ENOMEM);
}

static int refuse_huge_pages(void)
{
    return prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
}

static void test_fallback__registered_buffers_beyond_the_memlock_limit(void **state)
{
    (void)state;
    check((struct scene){.option = "registered_buffers=1",
                         .before_open = lock_little,
                         .note = "buffers cannot be registered"},
          1);
    check((struct scene){.option = "registered_buffers=1",
                         .before_open = refuse_register,
                         .note = "buffers cannot be registered"},
          0);
}

static void test_fallback__registered_buffers_where_they_are_allowed(void **state)
{
    (void)state;
    check((struct scene){.option = "registered_buffers=1"}, 0);
}

static void test_fallback__no_locked_memory_and_plain_buffers(void **state)
{
    (void)state;
    check((struct scene){.before_open = lock_little}, 1);
    /* Kernels of late count the ring itself as locked memory. */
    check((struct scene){.before_open = lock_nothing, .is_any_note = 1}, 1);
}

static void test_fallback__no_huge_pages(void **state)
{
    (void)state;
    check((struct scene){.before_open = refuse_huge_pages}, 0);
}

static void test_fallback__other_alignments_work(void **state)
{
    (void)state;
    check((struct scene){.option = "alignment=4096"}, 0);
    check((struct scene){.option = "alignment=65536"}, 0);
    check((struct scene){.option = "block_size=65536"}, 0);
    check((struct scene){.option = "queue_depth=1"}, 0);
    check((struct scene){.option = "queue_depth=64"}, 0);
}

static void test_fallback__an_alignment_that_is_none_is_refused(void **state)
{
    static const char *const bad[] = {"alignment=100", "alignment=768", "alignment=1"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct mini_host mini;
        const char *options[] = {bad[i], NULL};
        assert_int_equal(mini_open(&mini, options), PST_E_INVALID);
        assert_non_null(strstr(mini.err.message, "alignment"));
        mini_close(&mini);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fallback__nothing_is_said_where_nothing_is_missing),
        cmocka_unit_test(test_fallback__io_uring_refused_by_a_sandbox),
        cmocka_unit_test(test_fallback__a_kernel_without_io_uring),
        cmocka_unit_test(test_fallback__a_sandbox_that_closes_after_the_store_was_opened),
        cmocka_unit_test(test_fallback__io_uring_switched_off),
        cmocka_unit_test(test_fallback__a_file_system_that_refuses_to_open_with_o_direct),
        cmocka_unit_test(test_fallback__a_file_system_that_refuses_the_first_request),
        cmocka_unit_test(test_fallback__o_direct_switched_off),
        cmocka_unit_test(test_fallback__o_direct_required_and_refused_is_an_error),
        cmocka_unit_test(test_fallback__a_second_descriptor_that_is_denied),
        cmocka_unit_test(test_fallback__o_direct_required_and_too_many_open_files_is_an_error),
        cmocka_unit_test(test_fallback__a_stat_is_enough_to_learn_of_it),
        cmocka_unit_test(test_fallback__registered_buffers_beyond_the_memlock_limit),
        cmocka_unit_test(test_fallback__registered_buffers_where_they_are_allowed),
        cmocka_unit_test(test_fallback__no_locked_memory_and_plain_buffers),
        cmocka_unit_test(test_fallback__no_huge_pages),
        cmocka_unit_test(test_fallback__other_alignments_work),
        cmocka_unit_test(test_fallback__an_alignment_that_is_none_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
