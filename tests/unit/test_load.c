/* A library is mapped with its own functions, whatever the process shows to everybody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <dlfcn.h>

#include "codec/zstd_lib.h"
#include "core/net.h"
#include "util/load.h"
#include "util/net_abi.h"

/* Sanitizers and valgrind bring an allocator of their own, under which it can only be refused. */
static int has_libc_malloc(void)
{
    const void *function = dlsym(RTLD_DEFAULT, "malloc");
    Dl_info info;
    return function && dladdr(function, &info) && strstr(info.dli_fname, "/libc.so");
}

static void test_load__missing_library_is_named(void **state)
{
    char why[100] = "";
    (void)state;
    assert_null(pst_load_library("libnowhere.so.9", RTLD_NOW, NULL, 0, why, sizeof(why)));
    assert_non_null(strstr(why, "libnowhere.so.9"));
}

static void test_load__zstd_beside_a_stranger_calls_its_own_functions(void **state)
{
    const struct pst_zstd *zstd = NULL;
    pst_error err = PST_ERROR_INIT;
    (void)state;
    pst_rc rc = pst_zstd_get(&zstd, &err);
    if (!has_libc_malloc()) {
        assert_int_equal(rc, PST_E_UNIMPLEMENTED);
        assert_non_null(strstr(err.message, "stranger.so"));
        return;
    }
    assert_int_equal(rc, PST_OK);
    struct ZSTD_CCtx_s *context = zstd->create_cctx();
    assert_non_null(context);
    assert_int_equal(zstd->cctx_reset(context, PST_ZSTD_RESET_ALL), 0); /* calls ZSTD_freeCDict */
    zstd->free_cctx(context);
}

static void test_load__network_beside_a_stranger_is_mapped(void **state)
{
    const struct pst_net *net = NULL;
    pst_error err = PST_ERROR_INIT;
    (void)state;
    pst_rc rc = pst_net_load(UNIT_NET, &net, &err);
    if (!has_libc_malloc()) {
        assert_int_equal(rc, PST_E_BAD_PLUGIN);
        assert_non_null(strstr(err.message, "stranger.so"));
        return;
    }
    assert_int_equal(rc, PST_OK);
    /* The digest of what is loaded for everybody would abort. */
    struct pst_net_host host = {.n_cores = 1};
    struct pst_net_instance *instance = NULL;
    assert_int_equal(net->instance_new(&host, &instance, &err), PST_OK);
    const pst_crypto_1 *crypto = net->service(instance, "crypto/1");
    unsigned char digest[32];
    char abc[] = "abc";
    const pst_iov data = {abc, 3};
    assert_int_equal(crypto->digest(NULL, PST_DIGEST_SHA256, &data, 1, digest), PST_OK);
    assert_int_equal(digest[0], 0xba);
    net->instance_free(instance);
}

static int show_to_everybody(void **state)
{
    (void)state;
    return dlopen(UNIT_STRANGER, RTLD_NOW | RTLD_GLOBAL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load__missing_library_is_named),
        cmocka_unit_test(test_load__zstd_beside_a_stranger_calls_its_own_functions),
        cmocka_unit_test(test_load__network_beside_a_stranger_is_mapped),
    };
    return cmocka_run_group_tests(tests, show_to_everybody, NULL);
}
