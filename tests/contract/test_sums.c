/* Rule 11: every sum a store wants, of exactly the bytes it gets; digests on the host's workers.
 *
 * This program brings the network library's entry itself, so that nothing is mapped: it serves crypto/1 by
 * the real functions, and notes who asks for digests. */
#include "contract.h"

#include <stdlib.h>

#include "net/crypto.h"
#include "util/net_abi.h"

#define PART_BYTES ((size_t)256 << 10)

static unsigned char source[3 * PART_BYTES + 1000];

/* ---- a network library ------------------------------------------------------------------------- */

static struct {
    int is_missing; /* crypto/1 */
    pthread_t caller;
    atomic_int n_digests, n_on_caller;
} net;

static pst_rc digest(const pst_host *host, uint32_t algorithm, const pst_iov *data, size_t n,
                     uint8_t *out)
{
    atomic_fetch_add(&net.n_digests, 1);
    if (pthread_equal(net.caller, pthread_self()))
        atomic_fetch_add(&net.n_on_caller, 1);
    return pst_crypto_service.digest(host, algorithm, data, n, out);
}

static const pst_crypto_1 crypto = {.struct_size = sizeof(crypto), .digest = digest};

static pst_rc new_instance(const struct pst_net_host *nh, struct pst_net_instance **out,
                           pst_error *err)
{
    static char instance;
    (void)nh;
    (void)err;
    *out = (struct pst_net_instance *)(void *)&instance;
    return PST_OK;
}

static const void *serve(struct pst_net_instance *instance, const char *name)
{
    (void)instance;
    return strcmp(name, "crypto/1") == 0 && !net.is_missing ? &crypto : NULL;
}

static int shut(struct pst_net_instance *instance, uint64_t deadline_ns)
{
    (void)instance;
    (void)deadline_ns;
    return 1;
}

static void free_instance(struct pst_net_instance *instance)
{
    (void)instance;
}

pst_rc pst_net_open_1(const char *build_id, const struct pst_net **out, pst_error *err)
{
    static struct pst_net table = {.instance_new = new_instance,
                                   .service = serve,
                                   .instance_shutdown = shut,
                                   .instance_free = free_instance};
    (void)err;
    table.build_id = build_id;
    *out = &table;
    return PST_OK;
}

/* ---- sums by definition ------------------------------------------------------------------------ */

static uint64_t crc_slowly(uint64_t crc, uint64_t polynomial, uint64_t mask, const pst_iov *src,
                           size_t n)
{
    crc = ~crc & mask;
    for (size_t i = 0; i < n; i++) {
        const unsigned char *p = src[i].ptr;
        for (size_t k = 0; k < src[i].len; k++) {
            crc ^= p[k];
            for (int bit = 0; bit < 8; bit++)
                crc = crc >> 1 ^ (crc & 1 ? polynomial : 0);
        }
    }
    return ~crc & mask;
}

static int is_number(const pst_sum *sum, uint64_t wanted)
{
    uint64_t got = 0;
    for (uint32_t i = 0; i < sum->length; i++)
        got = got << 8 | sum->bytes[i];
    return got == wanted;
}

/* Which algorithms are in the list, each once and right, as a mask. */
static uint32_t right_sums(const pst_sum *list, uint32_t n, size_t stride, const pst_iov *src,
                           size_t n_src)
{
    uint32_t right = 0;
    for (uint32_t i = 0; i < n; i++) {
        const pst_sum *sum = (const void *)((const char *)list + i * stride);
        uint8_t bytes[32];
        int is_right = 0;
        if (sum->algorithm == PST_SUM_CRC32C)
            is_right = sum->length == 4 &&
                       is_number(sum, crc_slowly(0, 0x82f63b78, UINT32_MAX, src, n_src));
        else if (sum->algorithm == PST_SUM_CRC64NVME)
            is_right = sum->length == 8 &&
                       is_number(sum, crc_slowly(0, 0x9a6c9329ac4bc9b5, UINT64_MAX, src, n_src));
        else if (sum->algorithm == PST_SUM_SHA256 || sum->algorithm == PST_SUM_MD5)
            is_right = sum->length == (sum->algorithm == PST_SUM_MD5 ? 16 : 32) &&
                       pst_crypto_service.digest(
                           NULL, sum->algorithm == PST_SUM_MD5 ? PST_DIGEST_MD5 : PST_DIGEST_SHA256,
                           src, n_src, bytes) == PST_OK &&
                       memcmp(bytes, sum->bytes, sum->length) == 0;
        if (!is_right || sum->scope != PST_SCOPE_OBJECT || (right & 1u << sum->algorithm))
            return 0;
        right |= 1u << sum->algorithm;
    }
    return right;
}

/* ---- the plugin -------------------------------------------------------------------------------- */

static struct {
    atomic_uint put, commit;
    atomic_uint parts[8];
    atomic_int n_aborts;
} seen;

static pst_rc see_put(pst_backend *b, pst_op *op, const pst_put_args *a, pst_put_result *r)
{
    (void)b;
    (void)op;
    atomic_store(&seen.put, right_sums(a->sums, a->n_sums, a->sum_stride, a->src, a->n_src));
    r->size = 0;
    for (size_t i = 0; i < a->n_src; i++)
        r->size += a->src[i].len;
    return PST_OK;
}

static pst_rc see_part(pst_upload *u, pst_op *op, const pst_part_args *a, pst_result *r)
{
    (void)u;
    (void)op;
    (void)r;
    atomic_store(&seen.parts[a->number],
                 right_sums(a->sums, a->n_sums, a->sum_stride, a->src, a->n_src));
    return PST_OK;
}

static pst_rc see_commit(pst_upload *u, pst_op *op, const pst_commit_args *a, pst_put_result *r)
{
    const pst_iov whole = {source, sizeof(source)};
    (void)u;
    (void)op;
    atomic_store(&seen.commit, right_sums(a->sums, a->n_sums, a->sum_stride, &whole, 1));
    r->size = a->size;
    return PST_OK;
}

static pst_rc see_abort(pst_upload *u, pst_op *op, const pst_abort_args *a, pst_result *r)
{
    (void)u;
    (void)op;
    (void)a;
    (void)r;
    atomic_fetch_add(&seen.n_aborts, 1);
    return PST_OK;
}

/* ---- the tests --------------------------------------------------------------------------------- */

#define CRCS (1u << PST_SUM_CRC32C | 1u << PST_SUM_CRC64NVME)
#define ALL (CRCS | 1u << PST_SUM_SHA256 | 1u << PST_SUM_MD5)

struct fixture {
    pst_context *context;
    pst_store *store;
};

static struct fixture open_wanting(uint32_t sums)
{
    struct fixture f;
    memset(&seen, 0, sizeof(seen));
    memset(&net, 0, sizeof(net));
    net.caller = pthread_self();
    for (size_t i = 0; i < sizeof(source); i++)
        source[i] = (unsigned char)(i * 7 + (i >> 9));
    puppet.want_sums = sums;
    puppet.hooks.put = see_put;
    puppet.hooks.upload_part = see_part;
    puppet.hooks.upload_commit = see_commit;
    puppet.hooks.upload_abort = see_abort;
    f.context = puppet_context(NULL);
    f.store = puppet_store(f.context, "puppet");
    return f;
}

static void close_fixture(struct fixture *f)
{
    pst_store_free(f->store);
    pst_context_free(f->context);
}

static pst_rc put(struct fixture *f, size_t n, uint32_t sums, pst_error *err)
{
    const pst_iov src[] = {{source, n / 3}, {NULL, 0}, {source + n / 3, n - n / 3}};
    const pst_write_options options = {.struct_size = sizeof(options), .sums = sums};
    return pst_put(f->store, object_key, src, 3, &options, NULL, NULL, err);
}

static void test_sums__a_put_carries_all_that_the_store_or_the_caller_wants(void **state)
{
    struct fixture f = open_wanting(1u << PST_SUM_SHA256 | 1u << 31);
    pst_error err = PST_ERROR_INIT;
    (void)state;
    if (put(&f, 1000, 0, &err) != PST_OK)
        fail_msg("%s", err.message);
    assert_int_equal(atomic_load(&seen.put), 1u << PST_SUM_SHA256);
    assert_int_equal(put(&f, 200000, CRCS | 1u << PST_SUM_MD5, &err), PST_OK);
    assert_int_equal(atomic_load(&seen.put), ALL);
    assert_int_equal(put(&f, 0, CRCS, &err), PST_OK);
    assert_int_equal(atomic_load(&seen.put), CRCS | 1u << PST_SUM_SHA256);
    close_fixture(&f);
}

static pst_rc write_parts(struct fixture *f, pst_error *err)
{
    const pst_write_options options = {.struct_size = sizeof(options), .part_bytes = PART_BYTES};
    pst_writer *writer = NULL;
    assert_int_equal(pst_writer_open(f->store, object_key, &options, NULL, &writer, NULL), PST_OK);
    pst_rc rc = PST_OK;
    for (size_t at = 0; at < sizeof(source) && rc == PST_OK; at += 50000) {
        size_t n = sizeof(source) - at < 50000 ? sizeof(source) - at : 50000;
        rc = pst_writer_write(writer, source + at, n, err);
    }
    if (rc == PST_OK)
        rc = pst_writer_finalize(writer, NULL, err);
    pst_writer_free(writer);
    return rc;
}

static void test_sums__parts_carry_all_and_the_commit_what_can_be_combined(void **state)
{
    struct fixture f = open_wanting(ALL);
    pst_error err = PST_ERROR_INIT;
    (void)state;
    if (write_parts(&f, &err) != PST_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < 4; i++)
        assert_int_equal(atomic_load(&seen.parts[i]), ALL);
    assert_int_equal(atomic_load(&seen.commit), CRCS);
    assert_int_equal(atomic_load(&net.n_digests), 8);
    close_fixture(&f);
}

static void test_sums__digests_of_parts_are_the_work_of_the_hosts_threads(void **state)
{
    struct fixture f = open_wanting(1u << PST_SUM_SHA256);
    pst_error err = PST_ERROR_INIT;
    (void)state;
    assert_int_equal(write_parts(&f, &err), PST_OK);
    assert_int_equal(atomic_load(&net.n_digests), 4);
    assert_true(atomic_load(&net.n_on_caller) <= 1); /* the last part is 1,000 bytes */
    close_fixture(&f);
}

static void test_sums__a_queued_put_is_summed_by_the_hosts_threads(void **state)
{
    struct fixture f = open_wanting(ALL);
    pst_queue *queue = NULL;
    pst_event event;
    size_t n = 0;
    pst_iov src = {source, sizeof(source)};
    (void)state;
    assert_int_equal(pst_queue_new(f.context, &queue, NULL), PST_OK);
    const pst_request request = {.struct_size = sizeof(request),
                                 .kind = PST_REQ_PUT,
                                 .store = f.store,
                                 .key = object_key,
                                 .src = &src,
                                 .n_src = 1};
    assert_int_equal(pst_queue_submit(queue, &request, 1, NULL, NULL), PST_OK);
    assert_int_equal(pst_queue_wait(queue, &event, 1, 10000, NULL, &n, NULL), PST_OK);
    assert_int_equal(n, 1);
    assert_int_equal(event.status, PST_OK);
    pst_event_fini(&event);
    assert_int_equal(atomic_load(&seen.put), ALL);
    assert_int_equal(atomic_load(&net.n_digests), 2);
    assert_int_equal(atomic_load(&net.n_on_caller), 0);
    pst_queue_free(queue);
    close_fixture(&f);
}

static void test_sums__without_the_library_a_digest_is_an_error_and_nothing_is_left(void **state)
{
    struct fixture f = open_wanting(1u << PST_SUM_SHA256);
    pst_error err = PST_ERROR_INIT;
    (void)state;
    net.is_missing = 1;
    assert_int_equal(put(&f, 1000, 0, &err), PST_E_UNIMPLEMENTED);
    assert_non_null(strstr(err.message, "PUT puppet://host/object: SHA-256 needs the network"));
    err = (pst_error)PST_ERROR_INIT;
    assert_int_equal(write_parts(&f, &err), PST_E_UNIMPLEMENTED);
    assert_non_null(strstr(err.message, "SHA-256 needs the network library"));
    assert_int_equal(atomic_load(&seen.n_aborts), 1);
    assert_int_equal(atomic_load(&puppet.n_upload_frees), 1);
    net.is_missing = 0;
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(test_sums__a_put_carries_all_that_the_store_or_the_caller_wants),
        CONTRACT_TEST(test_sums__parts_carry_all_and_the_commit_what_can_be_combined),
        CONTRACT_TEST(test_sums__digests_of_parts_are_the_work_of_the_hosts_threads),
        CONTRACT_TEST(test_sums__a_queued_put_is_summed_by_the_hosts_threads),
        CONTRACT_TEST(test_sums__without_the_library_a_digest_is_an_error_and_nothing_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
