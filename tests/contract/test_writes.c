/* Contract 1, 11, 14, 15: uploads, their sums and parts; listings that fail half way. */
#include <stdlib.h>

#include "contract.h"

#define PART ((size_t)64 << 10)

static char source[3 * PART];

static pst_writer *open_writer(pst_store *store)
{
    const pst_write_options options = {.struct_size = sizeof(options),
                                       .part_bytes = PART,
                                       .sums = 1u << PST_SUM_CRC32C,
                                       .max_in_flight = 4};
    pst_writer *writer = NULL;
    pst_error err = PST_ERROR_INIT;
    if (pst_writer_open(store, object_key, &options, NULL, &writer, &err) != PST_OK)
        fail_msg("%s", err.message);
    return writer;
}

/* 1. The upload is freed once, with nothing outstanding, whatever became of it. */
static void test_upload__is_freed_once_after_the_commit(void **state)
{
    (void)state;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    pst_writer *writer = open_writer(store);
    assert_int_equal(pst_writer_write(writer, source, sizeof(source), NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    pst_writer_free(writer);
    pst_store_free(store);
    pst_context_free(context);
    assert_int_equal(atomic_load(&puppet.n_upload_frees), 1);
    assert_int_equal(atomic_load(&puppet.closed_while_outstanding), 0);
}

static atomic_int n_aborts;

static pst_rc count_abort(pst_upload *u, pst_op *op, const pst_abort_args *a, pst_result *r)
{
    (void)u;
    (void)op;
    (void)a;
    (void)r;
    atomic_fetch_add(&n_aborts, 1);
    return PST_OK;
}

static pst_rc no_commit(pst_upload *u, pst_op *op, const pst_commit_args *a, pst_put_result *r)
{
    (void)u;
    (void)op;
    (void)a;
    (void)r;
    fail_msg("a writer that was not finalized was committed");
    return PST_E_INTERNAL;
}

static void test_upload__writer_dropped_without_finalize_is_aborted(void **state)
{
    (void)state;
    atomic_store(&n_aborts, 0);
    puppet.hooks.upload_abort = count_abort;
    puppet.hooks.upload_commit = no_commit;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    pst_writer *writer = open_writer(store);
    assert_int_equal(pst_writer_write(writer, source, sizeof(source), NULL), PST_OK);
    pst_writer_free(writer);
    pst_store_free(store);
    pst_context_free(context);
    assert_int_equal(atomic_load(&n_aborts), 1);
    assert_int_equal(atomic_load(&puppet.n_upload_frees), 1);
}

/* 1. A commit that may be repeated is repeated, on the same upload. */
static atomic_int n_commits;

static pst_rc commit_twice(pst_upload *u, pst_op *op, const pst_commit_args *a, pst_put_result *r)
{
    (void)u;
    r->size = a->size;
    if (atomic_fetch_add(&n_commits, 1) > 0)
        return PST_OK;
    op->err->flags |= PST_ERR_RETRYABLE | PST_ERR_MAYBE_APPLIED;
    return PST_E_UNAVAILABLE;
}

static void test_upload__commit_with_a_lost_reply_is_repeated(void **state)
{
    (void)state;
    atomic_store(&n_commits, 0);
    puppet.hooks.upload_commit = commit_twice;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    pst_writer *writer = open_writer(store);
    assert_int_equal(pst_writer_write(writer, source, sizeof(source), NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_int_equal(atomic_load(&n_commits), 2);
    pst_writer_free(writer);
    pst_store_free(store);
    pst_context_free(context);
    assert_int_equal(atomic_load(&puppet.n_upload_frees), 1);
}

/* 11. Parts and commit carry the CRC-32C of exactly their bytes, by an implementation of our own. */
static uint32_t crc32c_slowly(uint32_t crc, const unsigned char *p, size_t n)
{
    crc = ~crc;
    while (n-- > 0) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static int has_sum(const pst_sum *sums, uint32_t n_sums, size_t stride, uint32_t want)
{
    const unsigned char bytes[4] = {(unsigned char)(want >> 24), (unsigned char)(want >> 16),
                                    (unsigned char)(want >> 8), (unsigned char)want};
    if (n_sums != 1 || stride < sizeof(pst_sum))
        return 0;
    return sums->algorithm == PST_SUM_CRC32C && sums->length == 4 &&
           memcmp(sums->bytes, bytes, 4) == 0;
}

static atomic_int n_right_parts, n_right_commits;

static pst_rc check_part(pst_upload *u, pst_op *op, const pst_part_args *a, pst_result *r)
{
    uint32_t crc = 0;
    (void)u;
    (void)op;
    (void)r;
    for (size_t i = 0; i < a->n_src; i++)
        crc = crc32c_slowly(crc, a->src[i].ptr, a->src[i].len);
    atomic_fetch_add(&n_right_parts, has_sum(a->sums, a->n_sums, a->sum_stride, crc));
    return PST_OK;
}

static pst_rc check_commit(pst_upload *u, pst_op *op, const pst_commit_args *a, pst_put_result *r)
{
    uint32_t crc = crc32c_slowly(0, (const unsigned char *)source, sizeof(source));
    (void)u;
    (void)op;
    atomic_fetch_add(&n_right_commits, has_sum(a->sums, a->n_sums, a->sum_stride, crc));
    r->size = a->size;
    return PST_OK;
}

static void test_sums__parts_and_commit_carry_the_crc32c_of_their_bytes(void **state)
{
    (void)state;
    atomic_store(&n_right_parts, 0);
    atomic_store(&n_right_commits, 0);
    puppet.hooks.upload_part = check_part;
    puppet.hooks.upload_commit = check_commit;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    pst_writer *writer = open_writer(store);
    assert_int_equal(pst_writer_write(writer, source, sizeof(source), NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    assert_int_equal(atomic_load(&n_right_parts), 3);
    assert_int_equal(atomic_load(&n_right_commits), 1);
    pst_writer_free(writer);
    pst_store_free(store);
    pst_context_free(context);
}

/* 14. A part is sent again only after its attempt has ended, with the same bytes at the same place. */
static struct {
    uint64_t offset;
    uint32_t crc;
    int n, is_at_plugin;
} sent[3];
static int part_faults;
static pthread_mutex_t sent_mutex = PTHREAD_MUTEX_INITIALIZER;

static pst_rc flaky_part(pst_upload *u, pst_op *op, const pst_part_args *a, pst_result *r)
{
    uint32_t crc = crc32c_slowly(0, a->src[0].ptr, a->src[0].len);
    (void)u;
    (void)r;
    pthread_mutex_lock(&sent_mutex);
    if (a->number >= 3 || sent[a->number].is_at_plugin ||
        (sent[a->number].n > 0 &&
         (sent[a->number].offset != a->offset || sent[a->number].crc != crc)))
        part_faults++;
    sent[a->number].offset = a->offset;
    sent[a->number].crc = crc;
    int is_first = sent[a->number].n++ == 0;
    pthread_mutex_unlock(&sent_mutex);
    if (!is_first)
        return PST_OK;
    op->err->flags |= PST_ERR_RETRYABLE;
    return PST_E_UNAVAILABLE;
}

static void test_part__is_resent_identical(void **state)
{
    (void)state;
    memset(sent, 0, sizeof(sent));
    part_faults = 0;
    puppet.hooks.upload_part = flaky_part;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    pst_writer *writer = open_writer(store);
    assert_int_equal(pst_writer_write(writer, source, sizeof(source), NULL), PST_OK);
    assert_int_equal(pst_writer_finalize(writer, NULL, NULL), PST_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sent[i].n, 2);
    assert_int_equal(part_faults, 0);
    pst_writer_free(writer);
    pst_store_free(store);
    pst_context_free(context);
}

/* 15. What a failed attempt listed is forgotten. */
static pst_rc list_then_fail(pst_backend *b, pst_op *op, const pst_list_args *a, pst_list_result *r)
{
    const pst_entry entries[] = {{.key = PST_STR("a")}, {.key = PST_STR("b")}};
    int is_first = atomic_load(&puppet.n_submits) == 1;
    (void)b;
    (void)a;
    (void)r;
    pst_rc rc = op->host->list_emit(op->host, op, entries, is_first ? 1 : 2, sizeof(entries[0]));
    if (rc != PST_OK || !is_first)
        return rc;
    op->err->flags |= PST_ERR_RETRYABLE;
    return PST_E_UNAVAILABLE;
}

static void test_list__entries_of_a_failed_attempt_are_discarded(void **state)
{
    pst_list *list = NULL;
    const pst_entry *entries = NULL;
    size_t n = 0;
    (void)state;
    puppet.hooks.list = list_then_fail;
    pst_context *context = puppet_context(NULL);
    pst_store *store = puppet_store(context, "puppet");
    assert_int_equal(pst_list_open(store, PST_STR(""), NULL, &list, NULL), PST_OK);
    assert_int_equal(pst_list_page(list, NULL, &entries, &n, NULL), PST_OK);
    assert_int_equal(n, 2);
    assert_memory_equal(entries[0].key.ptr, "a", 1);
    assert_memory_equal(entries[1].key.ptr, "b", 1);
    pst_list_free(list);
    pst_store_free(store);
    pst_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(test_upload__is_freed_once_after_the_commit),
        CONTRACT_TEST(test_upload__writer_dropped_without_finalize_is_aborted),
        CONTRACT_TEST(test_upload__commit_with_a_lost_reply_is_repeated),
        CONTRACT_TEST(test_sums__parts_and_commit_carry_the_crc32c_of_their_bytes),
        CONTRACT_TEST(test_part__is_resent_identical),
        CONTRACT_TEST(test_list__entries_of_a_failed_attempt_are_discarded),
    };
    for (size_t i = 0; i < sizeof(source); i++)
        source[i] = (char)(i * 2654435761u >> 11);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
