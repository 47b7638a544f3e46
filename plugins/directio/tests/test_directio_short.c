/* Requests that move less than they were asked for, are interrupted or fail: the linker puts the
 * functions below between the plugin and the kernel. Exact bytes or an error all the same. */
#include <errno.h>
#include <liburing.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../file/tests/mini_host.h"
#include "../dio.h"
#include "direct_files.h"

#define SIZE (((size_t)9 << 20) + 777)

static const pst_str none = {NULL, 0};
static unsigned n_results;
static int is_reading;
static int fail_at, fail_with; /* the fail_at-th result becomes this errno; 0: none */
static int is_old_kernel;      /* rings without plain reads and writes: Linux 5.1 to 5.5 */

/* What is to come of a request for `n` bytes: an errno below 0, or that many bytes. Every third is
 * cut short in whole units, every fifth is interrupted. */
static ssize_t allow(size_t n)
{
    n_results++;
    if (fail_at > 0)
        return (int)n_results == fail_at ? -fail_with : (ssize_t)n;
    if (n_results % 5 == 0)
        return n_results % 2 ? -EINTR : -EAGAIN;
    if (n_results % 3 == 0 && n >= 8192)
        return (ssize_t)((n_results % 2 ? n / 4 * 3 : n / 3) / 512 * 512);
    return (ssize_t)n;
}

ssize_t __real_pread64(int fd, void *bytes, size_t n, off_t at);
ssize_t __real_pwrite64(int fd, const void *bytes, size_t n, off_t at);
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned n);
ssize_t __wrap_pread64(int fd, void *bytes, size_t n, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t n, off_t at);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned n);

int __real_io_uring_queue_init(unsigned n, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned n, struct io_uring *ring, unsigned flags);

int __wrap_io_uring_queue_init(unsigned n, struct io_uring *ring, unsigned flags)
{
    int rc = __real_io_uring_queue_init(n, ring, flags);

    if (rc == 0 && is_old_kernel)
        ring->features &= ~(unsigned)IORING_FEAT_RW_CUR_POS;
    return rc;
}

static ssize_t refuse(ssize_t allowed)
{
    errno = allowed == -EAGAIN ? EINTR : (int)-allowed; /* a call that may wait has no EAGAIN */
    return -1;
}

ssize_t __wrap_pread64(int fd, void *bytes, size_t n, off_t at)
{
    ssize_t allowed = allow(n);

    return allowed < 0 ? refuse(allowed) : __real_pread64(fd, bytes, (size_t)allowed, at);
}

ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t n, off_t at)
{
    ssize_t allowed = allow(n);

    return allowed < 0 ? refuse(allowed) : __real_pwrite64(fd, bytes, (size_t)allowed, at);
}

/* What the kernel has done cannot be undone, but a read can be made to look so. */
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned n)
{
    int rc = __real_io_uring_submit_and_wait(ring, n);
    unsigned head = *ring->cq.khead, tail = __atomic_load_n(ring->cq.ktail, __ATOMIC_ACQUIRE);

    for (; head != tail; head++) { /* all of them are reaped before the next call */
        struct io_uring_cqe *cqe = &ring->cq.cqes[head & *ring->cq.kring_mask];
        struct dio_slot *slot = io_uring_cqe_get_data(cqe);
        if (is_old_kernel)
            cqe->res = -EINVAL;
        if (cqe->res <= 0)
            continue;
        ssize_t allowed = allow((size_t)cqe->res);
        size_t kept = allowed > 0 ? (size_t)allowed : 0;
        if (is_reading)
            memset(slot->memory + slot->done + kept, 0x77, (size_t)cqe->res - kept);
        cqe->res = (int)allowed;
    }
    return rc;
}

static pst_rc put(struct mini_fixture *f, unsigned seed)
{
    char *bytes = aligned_alloc(4096, SIZE / 4096 * 4096 + 4096);

    assert_non_null(bytes);
    pattern_fill(bytes, SIZE, 0, seed);
    pst_rc rc = mini_put(&f->mini, PST_STR("o"), bytes, SIZE, 0, none, NULL, NULL);
    free(bytes);
    return rc;
}

static pst_rc get(struct mini_fixture *f, uint64_t offset, unsigned seed)
{
    char *bytes = NULL;
    size_t n = 0;
    is_reading = 1;
    pst_rc rc = mini_read(&f->mini, PST_STR("o"), offset, SIZE, 0, none, &bytes, &n, NULL);

    is_reading = 0;
    if (rc == PST_OK) {
        assert_int_equal(n, SIZE - offset);
        assert_int_equal(pattern_differs(bytes, n, offset, seed), n);
    }
    free(bytes);
    return rc;
}

static int setup_ring(void **state)
{
    n_results = 0;
    fail_at = 0;
    return mini_setup_with(state, "block_size=65536");
}

static int setup_calls(void **state)
{
    int rc = setup_ring(state);
    struct mini_fixture *f = *state;
    char *root = NULL;

    if (rc != 0)
        return rc;
    mini_close(&f->mini);
    if (asprintf(&root, "root=%s", f->dir) < 0)
        return -1;
    const char *const options[] = {root, "block_size=65536", "io_uring=off", NULL};
    rc = mini_open(&f->mini, options);
    free(root);
    return rc == PST_OK ? 0 : -1;
}

static void test_short__every_byte_arrives_once(void **state)
{
    struct mini_fixture *f = *state;

    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(put(f, i), PST_OK);
        direct_check(f->dir, "o", SIZE, i);
        f->mini.span_bytes = i % 2 ? 100000 : 0; /* bounces, too */
        assert_int_equal(get(f, 0, i), PST_OK);
        assert_int_equal(get(f, i * 1001, i), PST_OK);
    }
    assert_true(n_results > 1000);
}

static void test_short__an_error_in_any_place_is_told_and_leaves_nothing_half(void **state)
{
    struct mini_fixture *f = *state;
    static const struct {
        int sys_errno;
        pst_rc rc;
    } errors[] = {{EIO, PST_E_IO}, {ENOSPC, PST_E_NO_SPACE}, {ESTALE, PST_E_IO}};

    assert_int_equal(put(f, 1), PST_OK);
    for (int at = 1; at < 60; at += 4) {
        fail_with = errors[at % 3].sys_errno;
        n_results = 0;
        fail_at = at;
        assert_int_equal(put(f, 2), errors[at % 3].rc);
        assert_non_null(strstr(f->mini.err.message, "write"));
        n_results = 0;
        assert_int_equal(get(f, 0, 1), errors[at % 3].rc); /* and the old object is there */
        fail_at = 0;
        direct_check(f->dir, "o", SIZE, 1);
        assert_int_equal(mini_count_names(f->dir), 1);
    }
}

static int setup_old_kernel(void **state)
{
    n_results = 0;
    fail_at = 0;
    is_old_kernel = 1;
    return mini_setup_with(state, "o_direct=require");
}

static int teardown_old_kernel(void **state)
{
    is_old_kernel = 0;
    return mini_teardown(state);
}

static void test_short__a_ring_that_cannot_read_and_write_is_none(void **state)
{
    struct mini_fixture *f = *state;
    pst_limits limits = {.struct_size = sizeof(limits)};
    pst_backend_info info = {.struct_size = sizeof(info), .limits = &limits};

    assert_int_equal(put(f, 1), PST_OK);
    assert_int_equal(get(f, 0, 1), PST_OK);
    f->mini.plugin->ops->info(f->mini.store, &info);
    assert_non_null(strstr(info.note, "io_uring is not available"));
    assert_null(strstr(info.note, "O_DIRECT"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_short__every_byte_arrives_once, setup_ring,
                                        mini_teardown),
        cmocka_unit_test_setup_teardown(test_short__every_byte_arrives_once, setup_calls,
                                        mini_teardown),
        cmocka_unit_test_setup_teardown(
            test_short__an_error_in_any_place_is_told_and_leaves_nothing_half, setup_ring,
            mini_teardown),
        cmocka_unit_test_setup_teardown(
            test_short__an_error_in_any_place_is_told_and_leaves_nothing_half, setup_calls,
            mini_teardown),
        cmocka_unit_test_setup_teardown(test_short__a_ring_that_cannot_read_and_write_is_none,
                                        setup_old_kernel, teardown_old_kernel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
