/* What is declared by hand agrees with the real header, and the library is mapped late, once, or not. */
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <penstock/context.h>

#include "codec/zstd_lib.h"
#include "scratch.h"

/* ---- the real header --------------------------------------------------------------------------- */

/* Enums are unsigned int to both compilers. */
#define SAME(member, function)                                                                     \
    _Static_assert(                                                                                \
        _Generic(&(function), __typeof__(((struct pst_zstd *)0)->member) : 1, default : 0),        \
        #function)
SAME(create_cctx, ZSTD_createCCtx);
SAME(free_cctx, ZSTD_freeCCtx);
SAME(cctx_set, ZSTD_CCtx_setParameter);
SAME(cctx_reset, ZSTD_CCtx_reset);
SAME(sizeof_cctx, ZSTD_sizeof_CCtx);
SAME(compress2, ZSTD_compress2);
SAME(create_dctx, ZSTD_createDCtx);
SAME(free_dctx, ZSTD_freeDCtx);
SAME(dctx_set, ZSTD_DCtx_setParameter);
SAME(dctx_reset, ZSTD_DCtx_reset);
SAME(sizeof_dctx, ZSTD_sizeof_DCtx);
SAME(decompress_dctx, ZSTD_decompressDCtx);
SAME(content_size, ZSTD_getFrameContentSize);
SAME(frame_size, ZSTD_findFrameCompressedSize);
SAME(is_error, ZSTD_isError);
SAME(error_code, ZSTD_getErrorCode);
SAME(error_name, ZSTD_getErrorName);

/* decompress_stream has structs of its own in its prototype. */
#define SAME_PLACE(ours, theirs, member)                                                           \
    _Static_assert(sizeof(ours) == sizeof(theirs) &&                                               \
                       offsetof(ours, member) == offsetof(theirs, member),                         \
                   #member)
SAME_PLACE(struct pst_zstd_in, ZSTD_inBuffer, src);
SAME_PLACE(struct pst_zstd_in, ZSTD_inBuffer, size);
SAME_PLACE(struct pst_zstd_in, ZSTD_inBuffer, pos);
SAME_PLACE(struct pst_zstd_out, ZSTD_outBuffer, dst);
SAME_PLACE(struct pst_zstd_out, ZSTD_outBuffer, size);
SAME_PLACE(struct pst_zstd_out, ZSTD_outBuffer, pos);

_Static_assert(PST_ZSTD_C_LEVEL == ZSTD_c_compressionLevel, "level");
_Static_assert(PST_ZSTD_C_CONTENT_SIZE == ZSTD_c_contentSizeFlag, "content size");
_Static_assert(PST_ZSTD_C_CHECKSUM == ZSTD_c_checksumFlag, "checksum");
_Static_assert(PST_ZSTD_D_WINDOW_LOG_MAX == ZSTD_d_windowLogMax, "window log");
_Static_assert(PST_ZSTD_RESET_ALL == ZSTD_reset_session_and_parameters, "reset");
_Static_assert(PST_ZSTD_UNKNOWN == ZSTD_CONTENTSIZE_UNKNOWN, "unknown");
_Static_assert(PST_ZSTD_ERROR == ZSTD_CONTENTSIZE_ERROR, "error");
_Static_assert(PST_ZSTD_E_WINDOW == ZSTD_error_frameParameter_windowTooLarge, "window");
_Static_assert(PST_ZSTD_E_CHECKSUM == ZSTD_error_checksum_wrong, "checksum");
_Static_assert(PST_ZSTD_E_NO_MEMORY == ZSTD_error_memory_allocation, "memory");
_Static_assert(PST_ZSTD_E_DST_TOO_SMALL == ZSTD_error_dstSize_tooSmall, "room");

/* ---- mapping ----------------------------------------------------------------------------------- */

static void *get(void *arg)
{
    const struct pst_zstd **out = arg;
    return pst_zstd_get(out, NULL) == PST_OK ? arg : NULL;
}

static void test_zstd_lib__is_not_mapped_before_it_is_used(void **state)
{
    const struct pst_zstd *zstd = NULL;
    (void)state;
    assert_false(scratch_is_mapped("libzstd"));
    assert_int_equal(pst_zstd_get(&zstd, NULL), PST_OK);
    assert_true(scratch_is_mapped("libzstd.so.1"));
}

static void test_zstd_lib__threads_agree_on_one_table(void **state)
{
    enum { N = 8 };
    pthread_t threads[N];
    const struct pst_zstd *found[N] = {NULL};
    void *result = NULL;
    (void)state;
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get, &found[i]), 0);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_non_null(result);
    }
    for (unsigned i = 0; i < N; i++)
        assert_ptr_equal(found[i], found[0]);
}

static void test_zstd_lib__missing_library_is_named(void **state)
{
    struct pst_zstd zstd;
    pst_error err = PST_ERROR_INIT;
    (void)state;
    assert_int_equal(pst_zstd_open("libzstd-that-is-not-there.so.1", &zstd, &err),
                     PST_E_UNIMPLEMENTED);
    assert_int_equal(err.code, PST_E_UNIMPLEMENTED);
    assert_non_null(strstr(err.message, "zstd needs libzstd-that-is-not-there.so.1, which cannot"));
}

/* A process that finds a file of that name which is no library. */
static void test_zstd_lib__what_is_found_in_its_place_is_named(void **state)
{
    char *argv[] = {(char *)(uintptr_t) "test_zstd_lib", (char *)(uintptr_t) "load", NULL};
    char path[4096], message[1024] = "";
    int out[2], status = 0;
    pid_t child = 0;
    posix_spawn_file_actions_t actions;
    scratch_write(scratch_path(*state, "libzstd.so.1"), "no library");
    snprintf(path, sizeof(path), "LD_LIBRARY_PATH=%s", (const char *)*state);
    char *envp[] = {path, NULL};
    assert_int_equal(pipe(out), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    assert_int_equal(posix_spawn(&child, "/proc/self/exe", &actions, NULL, argv, envp), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    ssize_t n = read(out[0], message, sizeof(message) - 1);
    close(out[0]);
    assert_true(n > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 2); /* what the command exits with */
    assert_ptr_equal(strstr(message, "zstd needs libzstd.so.1, which cannot be loaded: "), message);
}

/* What the test above runs. */
static int load(void)
{
    const struct pst_zstd *zstd = NULL;
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = pst_zstd_get(&zstd, &err);
    puts(err.message);
    return pst_rc_exit_code(rc);
}

static void test_zstd_lib__library_without_the_functions_is_named(void **state)
{
    struct pst_zstd zstd;
    pst_error err = PST_ERROR_INIT;
    (void)state;
    assert_int_equal(pst_zstd_open("libc.so.6", &zstd, &err), PST_E_UNIMPLEMENTED);
    assert_string_equal(err.message,
                        "zstd needs libc.so.6 1.4 or later: it has no ZSTD_createCCtx");
}

static void test_zstd_lib__works_in_a_fork_child(void **state)
{
    int status = 0;
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct pst_zstd *zstd = NULL;
        char out[128];
        if (pst_zstd_get(&zstd, NULL) != PST_OK)
            _exit(1);
        struct ZSTD_CCtx_s *cctx = pst_zstd_take_cctx(zstd);
        size_t n = cctx ? zstd->compress2(cctx, out, sizeof(out), "child", 5) : 0;
        _exit(n > 0 && !zstd->is_error(n) ? 0 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- contexts ---------------------------------------------------------------------------------- */

static void test_zstd_lib__small_contexts_are_kept_without_their_parameters(void **state)
{
    const struct pst_zstd *zstd = NULL;
    char out[128];
    (void)state;
    assert_int_equal(pst_zstd_get(&zstd, NULL), PST_OK);
    struct ZSTD_CCtx_s *cctx = pst_zstd_take_cctx(zstd);
    assert_non_null(cctx);
    assert_false(zstd->is_error(zstd->cctx_set(cctx, PST_ZSTD_C_CHECKSUM, 1)));
    size_t with_sum = zstd->compress2(cctx, out, sizeof(out), "bytes", 5);
    pst_zstd_give_cctx(zstd, cctx);
    struct ZSTD_CCtx_s *again = pst_zstd_take_cctx(zstd);
    assert_ptr_equal(again, cctx);
    assert_int_equal(zstd->compress2(again, out, sizeof(out), "bytes", 5), with_sum - 4);
    pst_zstd_give_cctx(zstd, again);

    struct ZSTD_DCtx_s *dctx = pst_zstd_take_dctx(zstd);
    assert_non_null(dctx);
    pst_zstd_give_dctx(zstd, dctx);
    assert_ptr_equal(pst_zstd_take_dctx(zstd), dctx);
    pst_zstd_give_dctx(zstd, dctx);
}

static size_t n_freed;

static size_t count_freed(struct ZSTD_CCtx_s *cctx)
{
    const struct pst_zstd *zstd = NULL;
    n_freed++;
    return pst_zstd_get(&zstd, NULL) == PST_OK ? zstd->free_cctx(cctx) : 0;
}

static void test_zstd_lib__large_contexts_are_not_kept(void **state)
{
    static char in[1 << 20], out[(1 << 20) + 8192];
    const struct pst_zstd *zstd = NULL;
    (void)state;
    assert_int_equal(pst_zstd_get(&zstd, NULL), PST_OK);
    struct pst_zstd spy = *zstd;
    spy.free_cctx = count_freed;
    struct ZSTD_CCtx_s *cctx = pst_zstd_take_cctx(zstd);
    assert_non_null(cctx);
    assert_false(zstd->is_error(zstd->cctx_set(cctx, PST_ZSTD_C_LEVEL, 19)));
    assert_false(zstd->is_error(zstd->compress2(cctx, out, sizeof(out), in, sizeof(in))));
    pst_zstd_give_cctx(&spy, cctx);
    assert_int_equal(n_freed, 1);
}

static void test_zstd_lib__no_more_than_the_slots_are_kept(void **state)
{
    enum { N = 20, N_SLOTS = 16 };
    const struct pst_zstd *zstd = NULL;
    struct ZSTD_CCtx_s *held[N];
    (void)state;
    assert_int_equal(pst_zstd_get(&zstd, NULL), PST_OK);
    struct pst_zstd spy = *zstd;
    spy.free_cctx = count_freed;
    for (unsigned i = 0; i < N; i++) {
        held[i] = pst_zstd_take_cctx(zstd);
        assert_non_null(held[i]);
    }
    n_freed = 0;
    for (unsigned i = 0; i < N; i++)
        pst_zstd_give_cctx(&spy, held[i]);
    assert_int_equal(n_freed, N - N_SLOTS);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "load") == 0)
        return load();

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zstd_lib__is_not_mapped_before_it_is_used),
        cmocka_unit_test(test_zstd_lib__threads_agree_on_one_table),
        cmocka_unit_test(test_zstd_lib__missing_library_is_named),
        cmocka_unit_test_setup_teardown(test_zstd_lib__what_is_found_in_its_place_is_named,
                                        scratch_setup, scratch_teardown),
        cmocka_unit_test(test_zstd_lib__library_without_the_functions_is_named),
        cmocka_unit_test(test_zstd_lib__works_in_a_fork_child),
        cmocka_unit_test(test_zstd_lib__small_contexts_are_kept_without_their_parameters),
        cmocka_unit_test(test_zstd_lib__large_contexts_are_not_kept),
        cmocka_unit_test(test_zstd_lib__no_more_than_the_slots_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
