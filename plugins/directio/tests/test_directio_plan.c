/* Every plan covers each byte once, in aligned requests that stay inside the destination. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../dio.h"

#define BLOCK (256u << 10)

static char *memory; /* aligned to 64 KiB */

struct summary {
    size_t n_direct, n_bounces;
    uint64_t direct_bytes, bounce_bytes;
};

static struct summary run(const pst_iov *iov, size_t n_iov, uint64_t pos, uint64_t length,
                          uint64_t room, uint32_t unit)
{
    struct dio_plan plan = {
        .place = {.iov = iov, .n_iov = n_iov},
        .pos = pos,
        .end = pos + length,
        .room_end = pos + room,
        .align = {.mem = unit, .offset = unit},
        .block_bytes = BLOCK,
    };
    struct dio_step step;
    struct summary sum = {0};
    uint64_t at = pos;

    for (;;) {
        int bounces = dio_plan_bounces(&plan);
        if (!dio_plan_next(&plan, &step))
            break;
        assert_int_equal(step.pos, at);
        assert_true(step.n > 0);
        assert_int_equal(step.io_pos % unit, 0);
        assert_int_equal(step.io_len % unit, 0);
        assert_true(step.io_pos <= step.pos && step.pos - step.io_pos < unit);
        assert_true(step.io_pos + step.io_len >= step.pos + step.n);
        assert_int_equal(bounces, step.direct == NULL);
        if (step.direct) {
            const pst_iov *span = step.place.iov;
            assert_int_equal((uintptr_t)step.direct % unit, 0);
            assert_ptr_equal(step.direct, (char *)span->ptr + step.place.skip);
            assert_true(step.io_len <= span->len - step.place.skip);
            assert_true(step.io_pos + step.io_len <= pos + room);
            assert_true(step.io_len <= BLOCK);
            sum.n_direct++;
            sum.direct_bytes += step.n;
        } else {
            assert_true(step.io_len <= DIO_BOUNCE_SLOT_BYTES);
            sum.n_bounces++;
            sum.bounce_bytes += step.n;
        }
        at += step.n;
    }
    assert_int_equal(at, pos + length);
    return sum;
}

static struct summary run_one(size_t shift, uint64_t pos, uint64_t length, uint64_t room)
{
    const pst_iov iov = {memory + shift, (size_t)room};

    return run(&iov, 1, pos, length, room, 512);
}

static void test_plan__an_aligned_transfer_moves_without_a_copy(void **state)
{
    struct summary sum = run_one(0, 0, 1 << 20, 1 << 20);

    (void)state;
    assert_int_equal(sum.n_direct, 4);
    assert_int_equal(sum.n_bounces, 0);
}

static void test_plan__an_unaligned_tail_is_one_small_bounce(void **state)
{
    struct summary sum = run_one(0, 0, (1 << 20) + 77, (1 << 20) + 77);

    (void)state;
    assert_int_equal(sum.direct_bytes, 1 << 20);
    assert_int_equal(sum.n_bounces, 1);
    assert_int_equal(sum.bounce_bytes, 77);
}

static void test_plan__room_behind_the_end_makes_the_tail_direct(void **state)
{
    struct summary sum = run_one(0, 0, (1 << 20) + 77, (1 << 20) + 512);

    (void)state;
    assert_int_equal(sum.n_bounces, 0);
    sum = run_one(0, 0, (1 << 20) + 77, (1 << 20) + 511); /* one byte too little */
    assert_int_equal(sum.n_bounces, 1);
    sum = run_one(0, 0, 1, 512);
    assert_int_equal(sum.n_bounces, 0);
}

static void test_plan__a_span_longer_than_the_room_is_not_written_behind_the_end(void **state)
{
    const pst_iov iov = {memory, 2 << 20};
    struct summary sum = run(&iov, 1, 0, (1 << 20) + 77, (1 << 20) + 77, 512);

    (void)state;
    assert_int_equal(sum.n_bounces, 1);
}

static void test_plan__an_offset_and_an_address_that_agree_have_a_direct_body(void **state)
{
    struct summary sum = run_one(100, 100, 1 << 20, 1 << 20);

    (void)state;
    assert_int_equal(sum.n_bounces, 2); /* head and tail */
    assert_true(sum.bounce_bytes < 1024);
}

static void test_plan__an_address_that_never_agrees_is_bounced_in_whole_slots(void **state)
{
    struct summary sum = run_one(1, 0, 2 << 20, 2 << 20);

    (void)state;
    assert_int_equal(sum.n_direct, 0);
    assert_int_equal(sum.n_bounces, 4);
}

static void test_plan__short_runs_share_a_request(void **state)
{
    struct summary sum = run_one(0, 0, 5000, 5000);

    (void)state;
    assert_int_equal(sum.n_direct, 0);
    assert_int_equal(sum.n_bounces, 1);
}

static void test_plan__thousands_of_spans_share_slots_and_large_ones_do_not(void **state)
{
    enum { SMALL = 5000, BIG = 512 << 10 };
    pst_iov iov[SMALL + 3];
    char *at = memory;
    size_t n = 0;

    (void)state;
    for (; n < SMALL; n++) {
        iov[n] = (pst_iov){at, n % 7 == 0 ? 0 : 3};
        at += iov[n].len;
    }
    uint64_t small = (uint64_t)(at - memory);
    size_t fill = (size_t)(dio_up(small, 512) - small); /* the large one begins aligned */
    iov[n++] = (pst_iov){at, fill};
    iov[n++] = (pst_iov){memory + (1 << 20), BIG};
    iov[n++] = (pst_iov){memory + (2 << 20) + 5, 1000};
    uint64_t total = small + fill + BIG + 1000;
    struct summary sum = run(iov, n, 0, total, total, 512);
    assert_int_equal(sum.direct_bytes, BIG);
    assert_int_equal(sum.n_bounces, 2);
}

static void test_plan__any_transfer_is_covered(void **state)
{
    static const uint32_t units[] = {512, 4096, 65536};
    unsigned chance = 1;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        pst_iov iov[8];
        uint64_t total = 0;
        chance = chance * 1103515245 + 12345;
        size_t n = chance >> 16 & 7;
        for (size_t j = 0; j <= n && j < 8; j++) {
            chance = chance * 1103515245 + 12345;
            size_t len = (chance >> 8) % (chance & 64 ? 200000 : 600);
            chance = chance * 1103515245 + 12345;
            size_t shift = chance & 128 ? (chance >> 10) % 70000 : (chance >> 10) % 8 * 65536;
            iov[j] = (pst_iov){memory + shift, chance & 256 ? len / 512 * 512 : len};
            total += iov[j].len;
            n = n < 8 ? n : 7;
        }
        chance = chance * 1103515245 + 12345;
        uint64_t pos = chance & 512 ? chance >> 12 : (uint64_t)(chance >> 16) * 65536;
        uint64_t length = total > 0 ? total - (chance >> 9) % (total < 700 ? total : 700) : 0;
        run(iov, n + 1 < 8 ? n + 1 : 8, pos, length, chance & 1 ? total : length, units[i % 3]);
    }
}

static void test_plan__bytes_come_back_from_bounces_in_order(void **state)
{
    char spans[3][10] = {{0}}, bounce[1024];
    const pst_iov iov[] = {{spans[0], 10}, {NULL, 0}, {spans[1], 4}, {spans[2], 10}};
    const struct dio_step step = {
        .place = {.iov = iov, .n_iov = 4, .skip = 3}, .pos = 700, .io_pos = 512, .n = 17};

    (void)state;
    for (size_t i = 0; i < sizeof(bounce); i++)
        bounce[i] = (char)(i * 7 + i / 256);
    char before[1024];
    memcpy(before, bounce, sizeof(before));
    dio_scatter(&step, bounce);
    assert_memory_equal(spans[0], "\0\0\0", 3);
    assert_memory_equal(spans[0] + 3, bounce + 188, 7);
    assert_memory_equal(spans[1], bounce + 195, 4);
    assert_memory_equal(spans[2], bounce + 199, 6);
    assert_int_equal(spans[1][4], 0);
    assert_int_equal(spans[2][6], 0);
    memset(bounce + 188, 0, 17);
    dio_gather(&step, bounce);
    assert_memory_equal(bounce, before, sizeof(before));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan__an_aligned_transfer_moves_without_a_copy),
        cmocka_unit_test(test_plan__an_unaligned_tail_is_one_small_bounce),
        cmocka_unit_test(test_plan__room_behind_the_end_makes_the_tail_direct),
        cmocka_unit_test(test_plan__a_span_longer_than_the_room_is_not_written_behind_the_end),
        cmocka_unit_test(test_plan__an_offset_and_an_address_that_agree_have_a_direct_body),
        cmocka_unit_test(test_plan__an_address_that_never_agrees_is_bounced_in_whole_slots),
        cmocka_unit_test(test_plan__short_runs_share_a_request),
        cmocka_unit_test(test_plan__thousands_of_spans_share_slots_and_large_ones_do_not),
        cmocka_unit_test(test_plan__any_transfer_is_covered),
        cmocka_unit_test(test_plan__bytes_come_back_from_bounces_in_order),
    };

    memory = aligned_alloc(65536, 4 << 20);
    if (!memory)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    free(memory);
    return rc;
}
