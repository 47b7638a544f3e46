/* Contract 3, 9 and 14 in a read of many ranges: each part's bytes are asked for again from its own
 * start, sums are of what was delivered whatever the order, and a late part's second request never
 * shares memory with the first. */
#include <stdio.h>
#include <stdlib.h>

#include "contract.h"

#include "core/store.h"
#include "io/get.h"

#define PART 4096u
#define FIRST (2 * PART)
#define BODY (FIRST + 5 * PART + 100)
#define HELD_MAX PUPPET_HELD_MAX
#define LATE_MS 40u /* what is answered at once is not late, on a busy machine either */

static char body[BODY], dst[BODY];
static pst_context *context;
static pst_store *store;
static const pst_read_args *held_args[HELD_MAX];
static pst_read_result *held_results[HELD_MAX];
static pst_sum sum;

static void open_with(const pst_context_options *options)
{
    for (size_t i = 0; i < BODY; i++)
        body[i] = (char)(i * 7 + i / 251);
    memset(dst, 0x55, BODY);
    puppet.body = body;
    puppet.body_len = BODY;
    context = puppet_context(options);
    store = puppet_store(context, "puppet");
}

static void open_all(void)
{
    const pst_context_options options = {
        .struct_size = sizeof(options), .first_read_bytes = FIRST, .memory_budget_bytes = 8u << 20};
    open_with(&options);
}

static void close_all(void)
{
    pst_store_free(store);
    pst_context_free(context);
    assert_int_equal(atomic_load(&puppet.n_outstanding), 0);
}

static pst_read_options parts(uint32_t max_in_flight)
{
    return (pst_read_options){.struct_size = sizeof(pst_read_options),
                              .part_bytes = PART,
                              .max_in_flight = max_in_flight};
}

/* ---- held reads --------------------------------------------------------------------------------- */

/* The first read is answered at once, its ranges are held. */
static pst_rc hold_ranges(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    if (a->offset == 0)
        return puppet_read(op, a, r);
    held_args[atomic_load(&puppet.n_held)] = a;
    held_results[atomic_load(&puppet.n_held)] = r;
    return puppet_hold(op);
}

static pst_rc hold_all(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    held_args[atomic_load(&puppet.n_held)] = a;
    held_results[atomic_load(&puppet.n_held)] = r;
    return puppet_hold(op);
}

static void answer(int i)
{
    puppet_release(i, puppet_read(puppet.held[i], held_args[i], held_results[i]));
}

static atomic_int n_done;
static pst_rc done_rc;

static void note_done(struct pst_get *get, pst_rc rc)
{
    (void)get;
    done_rc = rc;
    atomic_fetch_add(&n_done, 1);
}

/* Start a read of the whole object, into `dst` or a buffer. */
static struct pst_get *start(uint32_t hedge_after_ms, int is_into, uint32_t flags)
{
    struct pst_port *port = NULL;
    const pst_iov iov = {dst, BODY};
    atomic_store(&n_done, 0);
    assert_int_equal(pst_store_port(store, &port, NULL), PST_OK);
    const struct pst_get_spec spec = {.port = port,
                                      .key = object_key,
                                      .length = PST_UNKNOWN,
                                      .flags = flags,
                                      .dst = &iov,
                                      .n_dst = is_into ? 1 : 0,
                                      .part_bytes = PART,
                                      .max_in_flight = 8,
                                      .hedge_after_ms = hedge_after_ms,
                                      .done = note_done};
    struct pst_get *get = pst_get_new(&spec);
    assert_non_null(get);
    pst_port_unref(port);
    pst_get_start(get);
    return get;
}

static void assert_exact(struct pst_get *get, int is_into)
{
    puppet_wait_count(&n_done, 1);
    const struct pst_get_outcome *outcome = pst_get_outcome_of(get);
    assert_int_equal(done_rc, PST_OK);
    assert_int_equal(outcome->n_read, BODY);
    assert_memory_equal(is_into ? dst : pst_buffer_data(outcome->buffer), body, BODY);
}

/* ---- parts -------------------------------------------------------------------------------------- */

static atomic_int n_asked[BODY / PART + 1];

static pst_rc fail_third(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    int part = (int)(a->offset / PART);
    int n = atomic_fetch_add(&n_asked[part], 1);
    if (part != 4 || n > 0)
        return puppet_read(op, a, r);
    memset(a->dst[0].ptr, 0xee, 1000); /* it was under way */
    op->err->code = PST_E_UNAVAILABLE;
    op->err->flags = PST_ERR_RETRYABLE;
    return PST_E_UNAVAILABLE;
}

static void test_range__part_that_failed_is_asked_again_from_its_own_start(void **state)
{
    pst_read_options options = parts(3);
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_buffer *buffer = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof(n_asked) / sizeof(n_asked[0]); i++)
        atomic_store(&n_asked[i], 0);
    open_all();
    puppet.hooks.read = fail_third;
    options.flags = PST_READ_CRC32C;
    assert_int_equal(pst_get(store, object_key, &options, NULL, &buffer, &info, NULL), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), BODY);
    assert_memory_equal(pst_buffer_data(buffer), body, BODY);
    const int wanted[] = {1, 0, 1, 1, 2, 1, 1, 1}; /* the first read is two parts long */
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(atomic_load(&n_asked[i]), wanted[i]);
    assert_int_equal(info.n_retries, 1);
    assert_int_equal(info.n_ranges, 7);
    assert_int_equal(info.n_read, BODY);
    assert_int_equal(info.part_bytes, PART);
    assert_in_range(info.max_in_flight, 1, 3);
    assert_true(info.elapsed_ns > 0);
    assert_int_equal(info.has_crc32c, 1);
    assert_int_equal(info.crc32c, pst_crc32c(0, body, BODY));
    pst_buffer_unref(buffer);
    close_all();
}

static pst_rc throttle_once(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    if (op->attempt > 1)
        return puppet_read(op, a, r);
    op->err->code = PST_E_THROTTLED;
    op->err->flags = PST_ERR_RETRYABLE;
    return PST_E_THROTTLED;
}

static void test_range__throttled_read_of_one_request_teaches_no_number(void **state)
{
    struct pst_port *port = NULL;
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_buffer *buffer = NULL;
    (void)state;
    open_all();
    puppet.body_len = PART;
    puppet.hooks.read = throttle_once;
    assert_int_equal(pst_get(store, object_key, NULL, NULL, &buffer, &info, NULL), PST_OK);
    assert_int_equal(info.n_retries, 1);
    assert_int_equal(pst_store_port(store, &port, NULL), PST_OK);
    assert_int_equal(atomic_load(&port->learned_in_flight), 0);
    pst_port_unref(port);
    pst_buffer_unref(buffer);
    close_all();
}

static void test_range__infos_and_options_of_an_earlier_version_are_respected(void **state)
{
    pst_read_options options = parts(3);
    pst_read_info info;
    pst_buffer *buffer = NULL;
    (void)state;
    open_all();
    memset(&info, 0x77, sizeof(info));
    info.struct_size = offsetof(pst_read_info, n_read);
    options.struct_size = offsetof(pst_read_options, part_bytes);
    assert_int_equal(pst_get(store, object_key, &options, NULL, &buffer, &info, NULL), PST_OK);
    assert_int_equal(info.object_size, BODY);
    for (size_t i = offsetof(pst_read_info, n_read); i < sizeof(info); i++)
        assert_int_equal(((const unsigned char *)&info)[i], 0x77);
    pst_buffer_unref(buffer);
    close_all();
}

static void test_range__options_out_of_bounds_are_refused_with_the_bound(void **state)
{
    static const struct {
        pst_read_options options;
        pst_rc rc;
        const char *says;
    } cases[] = {
        {{.part_bytes = 4095}, PST_E_INVALID, "part_bytes must be 4096 to 1073741824, not 4095"},
        {{.part_bytes = (1ull << 30) + 1}, PST_E_INVALID, "4096 to 1073741824, not 1073741825"},
        {{.max_in_flight = 65}, PST_E_INVALID, "max_in_flight must be at most 64, not 65"},
        {{.flags = 64}, PST_E_INVALID, "unknown flags 0x40"},
        {{.part_bytes = 9u << 20},
         PST_E_OVER_BUDGET,
         "one part of 9437184 bytes is more than the memory budget of 8388608 bytes"},
    };
    (void)state;
    open_all();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pst_read_options options = cases[i].options;
        pst_error err = PST_ERROR_INIT;
        pst_buffer *buffer = NULL;
        options.struct_size = sizeof(options);
        assert_int_equal(pst_get(store, object_key, &options, NULL, &buffer, NULL, &err),
                         cases[i].rc);
        assert_non_null(strstr(err.message, cases[i].says));
        assert_non_null(strstr(err.message, "GET puppet://host/object: "));
        assert_null(buffer);
    }
    assert_int_equal(atomic_load(&puppet.n_submits), 0);
    /* Into memory of the caller a part needs none of the budget. */
    pst_read_options options = parts(1);
    size_t n_read = 0;
    options.part_bytes = 9u << 20;
    assert_int_equal(
        pst_get_into(store, object_key, 0, dst, BODY, &options, NULL, &n_read, NULL, NULL), PST_OK);
    assert_int_equal(n_read, BODY);
    close_all();
}

/* ---- into several spans ------------------------------------------------------------------------- */

static void read_into_spans(uint64_t offset, uint32_t flags)
{
    const pst_iov spans[] = {{dst, 100},
                             {NULL, 0},
                             {dst + 100, 3 * PART},
                             {dst + 100 + 3 * PART, 1},
                             {dst + 101 + 3 * PART, BODY - 101 - 3 * PART}};
    pst_read_options options = parts(4);
    pst_read_info info = {.struct_size = sizeof(info)};
    size_t n_read = 0;
    options.flags = flags;
    options.expected_crc32c = pst_crc32c(0, body + offset, BODY - offset);
    memset(dst, 0x55, BODY);
    assert_int_equal(
        pst_get_into_iov(store, object_key, offset, spans, 5, &options, NULL, &n_read, &info, NULL),
        PST_OK);
    assert_int_equal(n_read, BODY - offset);
    assert_int_equal(info.n_read, BODY - offset);
    assert_int_equal(info.crc32c, options.expected_crc32c);
    assert_memory_equal(dst, body + offset, BODY - offset);
    if (offset > 0)
        assert_int_equal(dst[BODY - offset], 0x55);
}

static void test_into__spans_are_filled_in_their_order_with_any_plugin(void **state)
{
    const pst_iov no_memory = {NULL, 1};
    size_t n_read = 1;
    (void)state;
    open_all();
    read_into_spans(0, PST_READ_CRC32C);
    read_into_spans(PART + 1, PST_READ_EXPECT_CRC32C);
    assert_int_equal(
        pst_get_into_iov(store, object_key, 0, NULL, 0, NULL, NULL, &n_read, NULL, NULL), PST_OK);
    assert_int_equal(n_read, 0);
    assert_int_equal(
        pst_get_into_iov(store, object_key, 0, &no_memory, 1, NULL, NULL, &n_read, NULL, NULL),
        PST_E_INVALID);
    close_all();
    puppet.caps &= ~PST_CAP_CANCEL_BOUNDED; /* through buffers of the host's */
    open_all();
    read_into_spans(0, PST_READ_CRC32C);
    read_into_spans(PART + 1, PST_READ_EXPECT_CRC32C);
    close_all();
}

static void test_into__an_object_may_be_larger_than_the_budget(void **state)
{
    const pst_context_options options = {
        .struct_size = sizeof(options), .first_read_bytes = FIRST, .memory_budget_bytes = 65536};
    const size_t size = 300001;
    char *large = malloc(size), *copy = malloc(size);
    assert_non_null(large);
    assert_non_null(copy);
    (void)state;
    for (size_t i = 0; i < size; i++)
        large[i] = (char)(i * 7 + i / 251);
    for (int is_bounded = 0; is_bounded < 2; is_bounded++) {
        pst_error err = PST_ERROR_INIT;
        pst_read_options own = parts(4);
        pst_read_info info = {.struct_size = sizeof(info)};
        pst_buffer *buffer = NULL;
        size_t n_read = 0;
        puppet_reset();
        if (!is_bounded)
            puppet.caps &= ~PST_CAP_CANCEL_BOUNDED; /* through the budget, piece by piece */
        open_with(&options);
        puppet.body = large;
        puppet.body_len = size;
        assert_int_equal(pst_get(store, object_key, NULL, NULL, &buffer, NULL, &err),
                         PST_E_OVER_BUDGET);
        assert_non_null(
            strstr(err.message, "needs 300001 bytes of memory, the budget is 65536 bytes"));
        memset(copy, 0, size);
        own.flags = PST_READ_EXPECT_CRC32C;
        own.expected_crc32c = pst_crc32c(0, large, size);
        assert_int_equal(
            pst_get_into(store, object_key, 0, copy, size, &own, NULL, &n_read, &info, NULL),
            PST_OK);
        assert_int_equal(n_read, size);
        assert_memory_equal(copy, large, size);
        pst_stats stats = {.struct_size = sizeof(stats)};
        pst_context_stats(context, &stats);
        assert_true(stats.peak_in_flight_bytes <= 65536);
        close_all();
    }
    free(large);
    free(copy);
}

/* ---- checksums ---------------------------------------------------------------------------------- */

static void test_sum__ranges_may_end_in_any_order(void **state)
{
    static const int order[] = {5, 0, 3, 1, 4, 2};
    (void)state;
    open_all();
    puppet.hooks.read = hold_ranges;
    struct pst_get *get = start(0, 1, PST_READ_CRC32C);
    puppet_wait_held(6);
    for (size_t i = 0; i < 6; i++)
        answer(order[i]);
    assert_exact(get, 1);
    assert_int_equal(pst_get_outcome_of(get)->crc32c, pst_crc32c(0, body, BODY));
    pst_get_unref(get);
    close_all();
}

static pst_rc supply_sums(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    pst_rc rc = puppet_read(op, a, r);
    if (!(a->flags & PST_READ_SUMS))
        return rc;
    pst_sum *own = op->host->op_alloc(op->host, op, 2 * sizeof(*own));
    uint32_t crc = pst_crc32c(0, body + a->offset, r->n_read);
    own[0] = (pst_sum){.algorithm = PST_SUM_MD5, .length = 16};
    own[1] = sum;
    if (sum.scope == PST_SCOPE_RANGE) {
        crc ^= sum.bytes[0] && a->offset > 0; /* a wrong one, if it is to be */
        for (int i = 0; i < 4; i++)
            own[1].bytes[i] = (uint8_t)(crc >> (24 - 8 * i));
    }
    r->sums = own;
    r->n_sums = 2;
    r->sum_stride = sizeof(*own);
    return rc;
}

static void set_object_sum(uint32_t crc)
{
    sum = (pst_sum){.algorithm = PST_SUM_CRC32C, .length = 4, .scope = PST_SCOPE_OBJECT};
    for (int i = 0; i < 4; i++)
        sum.bytes[i] = (uint8_t)(crc >> (24 - 8 * i));
}

static pst_rc verify(uint64_t offset, uint64_t length, pst_read_info *info, pst_error *err)
{
    pst_read_options options = parts(4);
    pst_buffer *buffer = NULL;
    *info = (pst_read_info){.struct_size = sizeof(*info)};
    pst_rc rc = pst_get_range_with_validation(store, object_key, offset, length, PST_STR(""),
                                              &options, NULL, &buffer, info, err);
    assert_true((rc == PST_OK) == (buffer != NULL));
    pst_buffer_unref(buffer);
    return rc;
}

static void test_sum__the_stores_own_is_compared_where_it_covers_what_was_read(void **state)
{
    pst_read_info info;
    pst_error err = PST_ERROR_INIT;
    const uint32_t crc = pst_crc32c(0, body, BODY);
    (void)state;
    open_all();
    assert_int_equal(verify(0, PST_UNKNOWN, &info, NULL), PST_OK); /* it has none */
    assert_int_equal(info.is_verified, 0);
    puppet.hooks.read = supply_sums;
    set_object_sum(pst_crc32c(0, body, BODY));
    assert_int_equal(verify(0, PST_UNKNOWN, &info, NULL), PST_OK);
    assert_int_equal(info.is_verified, 1);
    set_object_sum(crc ^ 1);
    assert_int_equal(verify(1, PST_UNKNOWN, &info, NULL), PST_OK); /* not the whole */
    assert_int_equal(info.is_verified, 0);
    set_object_sum(pst_crc32c(0, body, BODY) ^ 1);
    assert_int_equal(verify(0, PST_UNKNOWN, &info, &err), PST_E_DATA_LOSS);
    assert_non_null(strstr(err.message, "GET puppet://host/object: checksum: wanted crc32c:"));
    sum = (pst_sum){.algorithm = PST_SUM_CRC32C, .length = 4, .scope = PST_SCOPE_RANGE};
    assert_int_equal(verify(100, BODY - 200, &info, NULL), PST_OK);
    assert_int_equal(info.is_verified, 1);
    sum.bytes[0] = 1;
    assert_int_equal(verify(100, BODY - 200, &info, &err), PST_E_DATA_LOSS);
    close_all();
}

static void test_sum__expected_one_is_compared_and_both_are_named(void **state)
{
    char text[PST_CRC32C_TEXT_SIZE], wrong[PST_CRC32C_TEXT_SIZE], says[128];
    pst_buffer *buffer = NULL;
    pst_read_options options = parts(4);
    pst_error err = PST_ERROR_INIT;
    size_t n_read = 0;
    (void)state;
    open_all();
    const uint32_t crc = pst_crc32c(0, body, BODY);
    pst_crc32c_text(crc, text);
    pst_crc32c_text(crc ^ 0xff, wrong);
    assert_int_equal(pst_get_with_validation(store, object_key, pst_str_of(text, 15), &options,
                                             NULL, &buffer, NULL, NULL),
                     PST_OK);
    pst_buffer_unref(buffer);
    assert_int_equal(pst_get_with_validation(store, object_key, pst_str_of(text + 7, 8), &options,
                                             NULL, &buffer, NULL, NULL),
                     PST_OK);
    pst_buffer_unref(buffer);
    assert_int_equal(pst_get_with_validation(store, object_key, pst_str_of(wrong, 15), &options,
                                             NULL, &buffer, NULL, &err),
                     PST_E_DATA_LOSS);
    assert_null(buffer);
    snprintf(says, sizeof(says), "GET puppet://host/object: checksum: wanted %s, got %s", wrong,
             text);
    assert_string_equal(err.message, says);
    assert_int_equal(pst_get_with_validation(store, object_key, PST_STR("md5:00"), &options, NULL,
                                             &buffer, NULL, &err),
                     PST_E_INVALID);
    assert_non_null(strstr(err.message, "\"md5:00\" is no checksum"));
    puppet.caps &= ~PST_CAP_CANCEL_BOUNDED;
    pst_store *slow = puppet_store(context, "early");
    options.flags = PST_READ_EXPECT_CRC32C;
    options.expected_crc32c = crc ^ 0xff;
    assert_int_equal(
        pst_get_into(slow, object_key, 0, dst, BODY, &options, NULL, &n_read, NULL, &err),
        PST_E_DATA_LOSS);
    assert_non_null(strstr(err.message, text));
    assert_int_equal(n_read, 0);
    pst_store_free(slow);
    close_all();
}

/* ---- hedges ------------------------------------------------------------------------------------- */

static uint64_t late_offset;

static pst_rc hold_late(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    return a->offset == late_offset ? hold_all(b, op, a, r) : puppet_read(op, a, r);
}

/* Start a read whose range `late` is held (0), and wait until it is asked for a second time (1). */
static struct pst_get *start_late(int late, int is_into, uint32_t flags)
{
    late_offset = FIRST + (uint64_t)late * PART;
    puppet.hooks.read = hold_late;
    struct pst_get *get = start(LATE_MS, is_into, flags);
    puppet_wait_held(2);
    assert_int_equal(held_args[1]->offset, late_offset);
    assert_int_equal(held_args[1]->length, held_args[0]->length);
    assert_ptr_not_equal(held_args[1]->dst[0].ptr, held_args[0]->dst[0].ptr);
    return get;
}

static void scribble(int i)
{
    memset(held_args[i]->dst[0].ptr, 0xee, held_args[i]->dst[0].len);
}

static void test_hedge__second_request_wins_and_the_first_has_ended_before_the_read_does(
    void **state)
{
    (void)state;
    for (int is_into = 0; is_into < 2; is_into++) {
        puppet_reset();
        open_all();
        struct pst_get *get = start_late(2, is_into, PST_READ_CRC32C);
        assert_int_equal(atomic_load(&puppet.n_cancels), 0);
        answer(1);
        puppet_wait_count(&puppet.n_cancels, 1);
        assert_int_equal(atomic_load(&n_done), 0); /* the first may write still */
        scribble(0);
        puppet_release(0, PST_E_CANCELLED);
        assert_exact(get, is_into);
        assert_int_equal(pst_get_outcome_of(get)->n_hedges, 1);
        assert_int_equal(pst_get_outcome_of(get)->n_hedges_won, 1);
        assert_int_equal(pst_get_outcome_of(get)->crc32c, pst_crc32c(0, body, BODY));
        pst_get_unref(get);
        pst_stats stats = {.struct_size = sizeof(stats)};
        pst_context_stats(context, &stats);
        assert_int_equal(stats.hedges, 1);
        assert_int_equal(stats.hedges_won, 1);
        close_all();
    }
}

static void test_hedge__first_request_wins_and_the_second_is_left_behind(void **state)
{
    (void)state;
    open_all();
    struct pst_get *get = start_late(0, 1, PST_READ_CRC32C);
    answer(0);
    assert_exact(get, 1); /* without waiting */
    assert_int_equal(pst_get_outcome_of(get)->n_hedges_won, 0);
    assert_int_equal(pst_get_outcome_of(get)->crc32c, pst_crc32c(0, body, BODY));
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(context, &stats);
    assert_int_equal(stats.abandoned_ops, 1);
    assert_true(stats.in_flight_bytes > 0); /* its memory is pinned */
    pst_get_unref(get);
    scribble(1);
    puppet_release(1, PST_E_CANCELLED);
    assert_memory_equal(dst, body, BODY);
    for (int i = 0; i < 50000 && stats.abandoned_ops > 0; i++) { /* its cancel may be on a stack */
        const struct timespec tick = {.tv_nsec = 200000};
        nanosleep(&tick, NULL);
        pst_context_stats(context, &stats);
    }
    assert_int_equal(stats.abandoned_ops, 0);
    assert_int_equal(stats.in_flight_bytes, 0);
    close_all();
}

static void test_hedge__both_bring_the_bytes(void **state)
{
    (void)state;
    open_all();
    struct pst_get *get = start_late(5, 0, PST_READ_CRC32C);
    answer(1);
    answer(0);
    assert_exact(get, 0);
    assert_int_equal(pst_get_outcome_of(get)->crc32c, pst_crc32c(0, body, BODY));
    pst_get_unref(get);
    close_all();
}

static void test_hedge__decides_when_the_first_request_fails(void **state)
{
    (void)state;
    open_all();
    struct pst_get *get = start_late(1, 1, 0);
    scribble(0);
    puppet_release(0, PST_E_IO);
    assert_int_equal(atomic_load(&n_done), 0);
    answer(1);
    assert_exact(get, 1);
    pst_get_unref(get);
    close_all();
    puppet_reset();
    open_all();
    get = start_late(1, 1, 0);
    puppet_release(0, PST_E_IO);
    assert_int_equal(atomic_load(&n_done), 0);
    puppet_release(1, PST_E_DENIED);
    puppet_wait_count(&n_done, 1);
    assert_int_equal(done_rc, PST_E_DENIED);
    pst_get_unref(get);
    close_all();
}

static void test_hedge__slow_plugins_never_see_the_destination(void **state)
{
    (void)state;
    puppet.caps &= ~PST_CAP_CANCEL_BOUNDED;
    open_all();
    struct pst_get *get = start_late(3, 0, PST_READ_CRC32C);
    answer(1);
    assert_exact(get, 0); /* although the first request has not ended */
    assert_int_equal(pst_get_outcome_of(get)->crc32c, pst_crc32c(0, body, BODY));
    scribble(0);
    assert_exact(get, 0);
    pst_get_unref(get);
    puppet_release(0, PST_OK);
    close_all();
}

static void test_hedge__first_read_of_unknown_size_may_be_late_too(void **state)
{
    (void)state;
    for (int is_bounded = 0; is_bounded < 2; is_bounded++) {
        puppet_reset();
        if (!is_bounded)
            puppet.caps &= ~PST_CAP_CANCEL_BOUNDED;
        open_all();
        puppet.hooks.read = hold_all;
        struct pst_get *get = start(LATE_MS, 0, PST_READ_CRC32C);
        puppet_wait_held(2);
        assert_int_equal(held_args[0]->n_dst, is_bounded ? 0 : 1); /* late, or memory of its own */
        assert_int_equal(held_args[1]->n_dst, 1);
        puppet.hooks.read = NULL;
        answer(1);
        puppet_wait_count(&puppet.n_cancels, 1);
        if (is_bounded)
            puppet_release(0, PST_E_CANCELLED);
        assert_exact(get, 0);
        assert_int_equal(pst_get_outcome_of(get)->crc32c, pst_crc32c(0, body, BODY));
        assert_int_equal(pst_get_outcome_of(get)->n_hedges_won, 1);
        pst_get_unref(get);
        if (!is_bounded)
            puppet_release(0, PST_E_CANCELLED);
        close_all();
    }
}

static atomic_int n_parked;

/* Only a request that asks for its destination may be parked. */
static pst_rc park_late(pst_backend *b, pst_op *op, const pst_read_args *a, pst_read_result *r)
{
    (void)b;
    pst_rc rc = puppet_read(op, a, r);
    if (rc != PST_LATER)
        return rc;
    held_args[0] = a;
    held_results[0] = r;
    puppet_hold(op);
    atomic_fetch_add(&n_parked, 1);
    return PST_PENDING;
}

static void answer_parked(pst_backend *b, pst_op *op)
{
    (void)b;
    (void)op;
    answer(0);
}

/* 2. A first request with memory of its own tells how much the whole needs: it waits for that too. */
static void test_hedge__read_of_a_slow_plugin_stands_in_line_for_the_whole(void **state)
{
    const uint64_t taken_bytes = (8u << 20) - 2 * FIRST; /* free for the first bytes, not for all */
    pst_stats stats = {.struct_size = sizeof(stats)};
    struct pst_port *port = NULL;
    (void)state;
    puppet.caps &= ~PST_CAP_CANCEL_BOUNDED;
    open_all();
    atomic_store(&n_parked, 0);
    puppet.hooks.read = park_late;
    puppet.hooks.dst_ready = answer_parked;
    assert_int_equal(pst_store_port(store, &port, NULL), PST_OK);
    pst_budget_force(&port->core->budget, taken_bytes);
    struct pst_get *get = start(60000, 0, PST_READ_CRC32C);
    puppet_wait_count(&n_parked, 1);
    pst_budget_release(&port->core->budget, taken_bytes);
    assert_exact(get, 0);
    assert_int_equal(pst_get_outcome_of(get)->crc32c, pst_crc32c(0, body, BODY));
    pst_context_stats(context, &stats);
    assert_true(stats.peak_in_flight_bytes <= 8u << 20);
    assert_int_equal(stats.in_flight_bytes, 0);
    pst_get_unref(get);
    pst_port_unref(port);
    close_all();
}

static void test_hedge__at_most_one_in_ten_and_one(void **state)
{
    (void)state;
    open_all();
    puppet.hooks.read = hold_ranges;
    struct pst_get *get = start(LATE_MS, 1, 0);
    puppet_wait_held(7); /* six ranges are late, one is asked for again */
    int twice = 0;
    while (held_args[twice]->offset != held_args[6]->offset)
        twice++;
    for (int i = 0; i < 7; i++) {
        if (i != twice)
            answer(i);
    }
    puppet_wait_count(&puppet.n_cancels, 1);
    puppet_release(twice, PST_E_CANCELLED);
    assert_exact(get, 1);
    assert_int_equal(pst_get_outcome_of(get)->n_hedges, 1);
    assert_int_equal(atomic_load(&puppet.n_held), 7);
    pst_get_unref(get);
    close_all();
}

static void test_hedge__none_without_memory_for_it(void **state)
{
    (void)state;
    open_all();
    puppet.hooks.read = hold_ranges;
    struct pst_port *port = NULL;
    assert_int_equal(pst_store_port(store, &port, NULL), PST_OK);
    struct pst_get *get = start(20, 1, 0);
    puppet_wait_held(6);
    pst_budget_force(&port->core->budget, 8u << 20);
    /* The watch looks at each, more than once; they end without a hedge. */
    uint64_t until = now_ms() + 60;
    while (now_ms() < until)
        ;
    for (int i = 0; i < 6; i++)
        answer(i);
    assert_exact(get, 1);
    pst_budget_release(&port->core->budget, 8u << 20);
    assert_int_equal(pst_get_outcome_of(get)->n_hedges, 0);
    pst_get_unref(get);
    pst_port_unref(port);
    close_all();
}

/* ---- stopping ----------------------------------------------------------------------------------- */

static void cancel_held(pst_backend *b, pst_op *op)
{
    (void)b;
    for (int i = 0; i < atomic_load(&puppet.n_held); i++) {
        if (puppet.held[i] == op) {
            puppet.held[i] = NULL;
            atomic_fetch_sub(&puppet.n_outstanding, 1);
            op->host->complete(op->host, op, PST_E_CANCELLED);
        }
    }
}

static void assert_stopped(struct pst_get *get)
{
    pst_get_stop(get, PST_E_CANCELLED);
    puppet_wait_count(&n_done, 1);
    assert_int_equal(done_rc, PST_E_CANCELLED);
    pst_get_unref(get);
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(context, &stats);
    assert_int_equal(stats.in_flight_bytes, 0);
}

static void test_stop__reaches_a_read_in_every_state(void **state)
{
    (void)state;
    open_all();
    puppet.hooks.cancel = cancel_held;
    puppet.hooks.read = hold_all;
    struct pst_get *get = start(0, 0, 0); /* its first read is at the plugin */
    puppet_wait_held(1);
    assert_stopped(get);
    puppet.hooks.read = hold_ranges;
    get = start(0, 0, PST_READ_CRC32C); /* all its ranges are */
    puppet_wait_held(7);
    assert_stopped(get);
    get = start(LATE_MS, 1, PST_READ_CRC32C); /* one is asked for twice */
    puppet_wait_held(14);
    assert_stopped(get);
    close_all();
}

static void test_stop__while_the_winner_waits_for_the_loser(void **state)
{
    (void)state;
    open_all();
    struct pst_get *get = start_late(4, 1, 0);
    answer(1);
    puppet_wait_count(&puppet.n_cancels, 1);
    pst_get_stop(get, PST_E_DEADLINE);
    assert_int_equal(atomic_load(&n_done), 0); /* it may write still */
    puppet_release(0, PST_E_CANCELLED);
    puppet_wait_count(&n_done, 1);
    assert_int_equal(done_rc, PST_E_DEADLINE);
    pst_get_unref(get);
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(test_range__part_that_failed_is_asked_again_from_its_own_start),
        CONTRACT_TEST(test_range__throttled_read_of_one_request_teaches_no_number),
        CONTRACT_TEST(test_range__infos_and_options_of_an_earlier_version_are_respected),
        CONTRACT_TEST(test_range__options_out_of_bounds_are_refused_with_the_bound),
        CONTRACT_TEST(test_into__spans_are_filled_in_their_order_with_any_plugin),
        CONTRACT_TEST(test_into__an_object_may_be_larger_than_the_budget),
        CONTRACT_TEST(test_sum__ranges_may_end_in_any_order),
        CONTRACT_TEST(test_sum__the_stores_own_is_compared_where_it_covers_what_was_read),
        CONTRACT_TEST(test_sum__expected_one_is_compared_and_both_are_named),
        CONTRACT_TEST(test_hedge__second_request_wins_and_the_first_has_ended_before_the_read_does),
        CONTRACT_TEST(test_hedge__first_request_wins_and_the_second_is_left_behind),
        CONTRACT_TEST(test_hedge__both_bring_the_bytes),
        CONTRACT_TEST(test_hedge__decides_when_the_first_request_fails),
        CONTRACT_TEST(test_hedge__slow_plugins_never_see_the_destination),
        CONTRACT_TEST(test_hedge__first_read_of_unknown_size_may_be_late_too),
        CONTRACT_TEST(test_hedge__read_of_a_slow_plugin_stands_in_line_for_the_whole),
        CONTRACT_TEST(test_hedge__at_most_one_in_ten_and_one),
        CONTRACT_TEST(test_hedge__none_without_memory_for_it),
        CONTRACT_TEST(test_stop__reaches_a_read_in_every_state),
        CONTRACT_TEST(test_stop__while_the_winner_waits_for_the_loser),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
