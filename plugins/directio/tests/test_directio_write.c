/* The file is exactly the bytes that were given, whatever their number, address and offset. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../file/tests/mini_host.h"
#include "direct_files.h"

#define MIB ((size_t)1 << 20)

static const pst_str none = {NULL, 0};
static const size_t sizes[] = {0,    1,       511,         512,     513,        4095,
                               4096, 4097,    5000,        65536,   100001,     MIB - 1,
                               MIB,  MIB + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* A put whose source begins `shift` bytes after an aligned address, in spans of span_bytes. */
static pst_rc put_from(struct mini_fixture *f, size_t n, size_t shift, unsigned seed)
{
    static const pst_attr attr = {.struct_size = sizeof(attr)};
    struct mini_op op;
    pst_put_result result = {.struct_size = sizeof(result)};
    char *memory = aligned_alloc(4096, (n + shift) / 4096 * 4096 + 4096);
    pst_put_args args = {.struct_size = sizeof(args), .key = PST_STR("o"), .attr = &attr};

    assert_non_null(memory);
    pattern_fill(memory + shift, n, 0, seed);
    pst_iov *spans = mini_spans(memory + shift, n, f->mini.span_bytes, &args.n_src);
    args.src = spans;
    mini_op_init(&f->mini, &op);
    pst_rc rc = mini_op_wait(&op, f->mini.plugin->ops->put(f->mini.store, &op.op, &args, &result));
    mini_op_fini(&op);
    if (rc == PST_OK)
        assert_int_equal(result.size, n);
    free(spans);
    free(memory);
    return rc;
}

static void check_puts(struct mini_fixture *f)
{
    static const size_t shifts[] = {0, 512, 1, 16, 4095};

    for (size_t i = 0; i < N_SIZES; i++) {
        for (size_t j = 0; j < 5; j++) {
            assert_int_equal(put_from(f, sizes[i], shifts[j], (unsigned)(i * 5 + j)), PST_OK);
            direct_check(f->dir, "o", sizes[i], (unsigned)(i * 5 + j));
        }
    }
    assert_int_equal(mini_count_names(f->dir), 1);
}

static void test_write__a_put_stores_exactly_its_bytes(void **state)
{
    check_puts(*state);
}

static void test_write__a_put_in_many_spans_stores_exactly_its_bytes(void **state)
{
    struct mini_fixture *f = *state;

    f->mini.span_bytes = 70000;
    check_puts(f);
}

static int setup_no_ring(void **state)
{
    return mini_setup_with(state, "io_uring=off");
}

static int setup_sync(void **state)
{
    return mini_setup_with(state, "sync_writes=1");
}

/* An upload in parts that end at `ends`, sent in the order of `order`. */
static void upload(struct mini_fixture *f, const size_t *ends, const unsigned *order, unsigned n)
{
    pst_upload *u;
    char *bytes = malloc(ends[n - 1] + 1), etag[128];

    assert_non_null(bytes);
    pattern_fill(bytes, ends[n - 1], 0, n);
    assert_int_equal(mini_upload_open(&f->mini, PST_STR("u"), 0, none, &u), PST_OK);
    for (unsigned i = 0; i < n; i++) {
        size_t from = order[i] > 0 ? ends[order[i] - 1] : 0;
        assert_int_equal(
            mini_part(&f->mini, u, order[i], from, bytes + from, ends[order[i]] - from), PST_OK);
    }
    assert_int_equal(mini_commit(&f->mini, u, ends[n - 1], n, etag), PST_OK);
    mini_upload_free(&f->mini, u);
    direct_check(f->dir, "u", ends[n - 1], n);
    free(bytes);
}

static void test_write__parts_may_begin_and_end_anywhere(void **state)
{
    static const size_t odd[] = {1, 513, 4097, 5000, 300001, 2 * MIB + 7, 6 * MIB - 1, 6 * MIB};
    static const size_t even[] = {2 * MIB, 4 * MIB, 6 * MIB, 7 * MIB + 99};
    static const unsigned forward[] = {0, 1, 2, 3, 4, 5, 6, 7}, mixed[] = {7, 2, 5, 0, 6, 1, 4, 3},
                          backward[] = {3, 2, 1, 0};

    upload(*state, odd, forward, 8);
    upload(*state, odd, mixed, 8);
    upload(*state, even, forward, 4);
    upload(*state, even, backward, 4);
}

struct sender {
    struct mini_fixture *f;
    pst_upload *upload;
    const char *bytes;
    unsigned number;
    size_t from, end;
};

static void *send_part(void *arg)
{
    struct sender *s = arg;

    assert_int_equal(
        mini_part(&s->f->mini, s->upload, s->number, s->from, s->bytes + s->from, s->end - s->from),
        PST_OK);
    return NULL;
}

static void test_write__parts_that_share_a_page_may_travel_side_by_side(void **state)
{
    enum { N = 8, PART = 300001 };
    struct mini_fixture *f = *state;
    char *bytes = calloc(N, PART), etag[128];

    assert_non_null(bytes);
    pattern_fill(bytes, N * PART, 0, 1);
    for (int round = 0; round < 20; round++) {
        struct sender senders[N];
        pthread_t threads[N];
        pst_upload *u;
        assert_int_equal(mini_upload_open(&f->mini, PST_STR("u"), 0, none, &u), PST_OK);
        for (unsigned i = 0; i < N; i++) {
            senders[i] = (struct sender){f, u, bytes, i, i * PART, (i + 1) * PART};
            assert_int_equal(pthread_create(&threads[i], NULL, send_part, &senders[i]), 0);
        }
        for (unsigned i = 0; i < N; i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(mini_commit(&f->mini, u, N * PART, N, etag), PST_OK);
        mini_upload_free(&f->mini, u);
        direct_check(f->dir, "u", N * PART, 1);
    }
    free(bytes);
}

static void test_write__the_page_cache_keeps_only_an_unaligned_end(void **state)
{
    struct mini_fixture *f = *state;

    direct_make(f->dir, "o", MIB, 0);
    direct_evict(f->dir, "o");
    if (direct_cached(f->dir, "o") > 0)
        skip(); /* a file system that lives in the page cache */
    assert_int_equal(put_from(f, 8 * MIB + 1, 0, 3), PST_OK);
    assert_true(direct_cached(f->dir, "o") <= 4096);
    assert_int_equal(put_from(f, 8 * MIB, 0, 3), PST_OK);
    assert_int_equal(direct_cached(f->dir, "o"), 0);
}

static void test_write__a_file_takes_no_more_blocks_than_its_bytes(void **state)
{
    struct mini_fixture *f = *state;
    char *path = mini_path(f->dir, "o");
    struct stat st;

    assert_int_equal(put_from(f, 8 * MIB + 1, 0, 3), PST_OK);
    direct_evict(f->dir, "o");
    assert_int_equal(stat(path, &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 <= 8 * MIB + 64 * 1024);
    free(path);
}

/* In a child, with a store of its own: a backend does not live through a fork. */
struct scene {
    int (*check)(struct mini_fixture *f);
    const char *option;
};

static int play(void *arg)
{
    const struct scene *scene = arg;
    void *state = NULL;

    if (mini_setup_with(&state, scene->option) != 0)
        return 90;
    int fault = scene->check(state);
    return mini_teardown(&state) != 0 ? 91 : fault;
}

static void run_scene(int (*check)(struct mini_fixture *f), const char *option)
{
    struct scene scene = {check, option};

    assert_int_equal(mini_run_child(play, &scene, 0), 0);
}

/* ---- failures ------------------------------------------------------------------------------------ */

static int check_no_space(struct mini_fixture *f)
{
    direct_make(f->dir, "x", MIB, 0);
    direct_evict(f->dir, "x");
    int is_in_cache = direct_cached(f->dir, "x") > 0; /* a file system that lives there */
    mini_remove(&f->mini, PST_STR("x"), none);
    if (is_in_cache)
        return 0;
    if (mini_forbid(SYS_fallocate, ENOSPC) != 0)
        return 1;
    if (put_from(f, 8 * MIB, 0, 1) != PST_E_NO_SPACE)
        return 2;
    return mini_count_names(f->dir) == 0 ? 0 : 3;
}

static void test_write__a_full_disk_is_told_and_leaves_nothing(void **state)
{
    (void)state;
    run_scene(check_no_space, NULL);
}

static int check_write_error(struct mini_fixture *f)
{
    if (mini_forbid(SYS_pwrite64, ENOSPC) != 0)
        return 1;
    if (put_from(f, 8 * MIB, 0, 1) != PST_E_NO_SPACE)
        return 2;
    if (put_from(f, 8 * MIB, 1, 1) != PST_E_NO_SPACE) /* by way of bounces */
        return 3;
    return mini_count_names(f->dir) == 0 ? 0 : 4;
}

static void test_write__an_error_of_a_request_is_told_and_leaves_nothing(void **state)
{
    (void)state;
    run_scene(check_write_error, "io_uring=off");
}

static int check_file_limit(struct mini_fixture *f)
{
    const struct rlimit limit = {4 * MIB, 4 * MIB};

    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || mini_forbid(SYS_fallocate, EOPNOTSUPP) != 0)
        return 1;
    if (put_from(f, 8 * MIB, 0, 1) != PST_E_INVALID) /* EFBIG, from a ring */
        return 2;
    if (mini_count_names(f->dir) != 0)
        return 3;
    return put_from(f, 4 * MIB, 0, 1) == PST_OK ? 0 : 4;
}

static void test_write__a_request_that_fails_on_a_ring_fails_the_put(void **state)
{
    (void)state;
    run_scene(check_file_limit, NULL);
}

static int check_without_fallocate(struct mini_fixture *f)
{
    if (mini_forbid(SYS_fallocate, EOPNOTSUPP) != 0 || put_from(f, 8 * MIB + 77, 0, 9) != PST_OK)
        return 1;
    direct_check(f->dir, "o", 8 * MIB + 77, 9);
    return 0;
}

static void test_write__a_file_system_without_fallocate_will_do(void **state)
{
    (void)state;
    run_scene(check_without_fallocate, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_write__a_put_stores_exactly_its_bytes, mini_setup,
                                        mini_teardown),
        cmocka_unit_test_setup_teardown(test_write__a_put_in_many_spans_stores_exactly_its_bytes,
                                        mini_setup, mini_teardown),
        cmocka_unit_test_setup_teardown(test_write__a_put_stores_exactly_its_bytes, setup_no_ring,
                                        mini_teardown),
        cmocka_unit_test_setup_teardown(test_write__parts_may_begin_and_end_anywhere, mini_setup,
                                        mini_teardown),
        cmocka_unit_test_setup_teardown(test_write__parts_may_begin_and_end_anywhere, setup_sync,
                                        mini_teardown),
        cmocka_unit_test_setup_teardown(test_write__parts_that_share_a_page_may_travel_side_by_side,
                                        mini_setup, mini_teardown),
        cmocka_unit_test_setup_teardown(test_write__the_page_cache_keeps_only_an_unaligned_end,
                                        mini_setup, mini_teardown),
        cmocka_unit_test_setup_teardown(test_write__a_file_takes_no_more_blocks_than_its_bytes,
                                        mini_setup, mini_teardown),
        cmocka_unit_test(test_write__a_full_disk_is_told_and_leaves_nothing),
        cmocka_unit_test(test_write__an_error_of_a_request_is_told_and_leaves_nothing),
        cmocka_unit_test(test_write__a_request_that_fails_on_a_ring_fails_the_put),
        cmocka_unit_test(test_write__a_file_system_without_fallocate_will_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
