/* Buffers: where their memory comes from, who may write to it, when it goes, and that it is used again. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <penstock/penstock.h>

#include "core/arena.h"
#include "torture.h"

#define MIB ((size_t)1 << 20)
#define KIB ((size_t)1 << 10)
#define N_THREADS 4u

static pst_context *new_context(pst_context_options options)
{
    pst_context *context = NULL;
    options.struct_size = sizeof(options);
    options.flags |= PST_CONTEXT_NO_ENVIRONMENT | PST_CONTEXT_ONLY_DIRS;
    assert_int_equal(pst_context_new(&options, &context, NULL), PST_OK);
    return context;
}

static pst_buffer *new_buffer(pst_context *context, size_t size, size_t align)
{
    pst_buffer *buffer = NULL;
    assert_int_equal(pst_buffer_alloc(context, size, align, &buffer, NULL), PST_OK);
    assert_int_equal(pst_buffer_size(buffer), size);
    return buffer;
}

static pst_stats stats_of(pst_context *context)
{
    pst_stats stats = {.struct_size = sizeof(stats)};
    pst_context_stats(context, &stats);
    return stats;
}

/* ---- memory of ours --------------------------------------------------------------------------- */

static void test_alloc__memory_is_aligned_as_asked_and_all_of_it_can_be_used(void **state)
{
    static const size_t sizes[] = {1, 63, 256, 4096, 40000, MIB, MIB + 1, 5 * MIB};
    pst_context *context = new_context((pst_context_options){0});
    (void)state;
    for (size_t align = 64; align <= 2 * MIB; align *= 2) {
        pst_buffer *buffers[8];
        for (size_t i = 0; i < 8; i++) {
            buffers[i] = new_buffer(context, sizes[i], align);
            char *bytes = pst_buffer_writable(buffers[i]);
            assert_int_equal((uintptr_t)bytes % align, 0);
            memset(bytes, (int)i + 1, sizes[i]);
        }
        for (size_t i = 0; i < 8; i++) {
            const char *bytes = pst_buffer_data(buffers[i]);
            assert_int_equal(bytes[0], (int)i + 1);
            assert_int_equal(bytes[sizes[i] - 1], (int)i + 1);
            pst_buffer_unref(buffers[i]);
        }
    }
    pst_context_free(context);
}

static void test_alloc__zero_alignment_means_64(void **state)
{
    pst_context *context = new_context((pst_context_options){0});
    (void)state;
    for (size_t size = 1; size < 1000; size += 37) {
        pst_buffer *buffer = new_buffer(context, size, 0);
        assert_int_equal((uintptr_t)pst_buffer_data(buffer) % 64, 0);
        pst_buffer_unref(buffer);
    }
    pst_context_free(context);
}

static void test_alloc__odd_or_too_large_alignment_is_invalid(void **state)
{
    static const size_t bad[] = {3, 96, 4 * MIB, SIZE_MAX};
    pst_context *context = new_context((pst_context_options){0});
    pst_error err = PST_ERROR_INIT;
    pst_buffer *buffer;
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pst_buffer_alloc(context, 10, bad[i], &buffer, &err), PST_E_INVALID);
        assert_null(buffer);
        assert_non_null(strstr(err.message, "alignment"));
    }
    pst_context_free(context);
}

static void test_alloc__more_than_there_can_be_is_no_memory(void **state)
{
    pst_context *context = new_context((pst_context_options){0});
    pst_buffer *buffer;
    (void)state;
    assert_int_equal(pst_buffer_alloc(context, SIZE_MAX, 0, &buffer, NULL), PST_E_NO_MEMORY);
    assert_int_equal(pst_buffer_alloc(context, SIZE_MAX / 2, 0, &buffer, NULL), PST_E_NO_MEMORY);
    assert_null(buffer);
    assert_int_equal(stats_of(context).handed_out_bytes, 0);
    pst_context_free(context);
}

static void test_alloc__of_no_bytes_has_no_data(void **state)
{
    pst_context *context = new_context((pst_context_options){0});
    pst_buffer *buffer = new_buffer(context, 0, 4096);
    (void)state;
    assert_null(pst_buffer_data(buffer));
    assert_null(pst_buffer_writable(buffer));
    assert_int_equal(stats_of(context).mapped_bytes, 0);
    pst_buffer_unref(buffer);
    pst_context_free(context);
}

static void test_alloc__works_where_huge_pages_are_off(void **state)
{
    (void)state;
    assert_int_equal(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    pst_context *context = new_context((pst_context_options){0});
    pst_buffer *buffer = new_buffer(context, 5 * MIB, 2 * MIB);
    memset(pst_buffer_writable(buffer), 1, 5 * MIB);
    pst_buffer_unref(buffer);
    pst_context_free(context);
    assert_int_equal(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
}

static void test_alloc__counts_as_handed_out_until_the_last_reference_goes(void **state)
{
    pst_context *context = new_context((pst_context_options){0});
    pst_buffer *buffer = new_buffer(context, 3 * MIB, 0);
    (void)state;
    assert_int_equal(stats_of(context).handed_out_bytes, 4 * MIB);
    assert_int_equal(stats_of(context).in_flight_bytes, 0);
    pst_buffer_ref(buffer);
    pst_buffer_unref(buffer);
    assert_int_equal(stats_of(context).handed_out_bytes, 4 * MIB);
    pst_buffer_unref(buffer);
    assert_int_equal(stats_of(context).handed_out_bytes, 0);
    pst_context_free(context);
}

/* ---- reuse ------------------------------------------------------------------------------------ */

static void test_reuse__what_was_released_is_given_out_again(void **state)
{
    pst_context *context = new_context((pst_context_options){0});
    (void)state;
    for (int i = 0; i < 100; i++) {
        pst_buffer_unref(new_buffer(context, 64 * KIB, 0));
        pst_buffer_unref(new_buffer(context, 6 * MIB, 0));
    }
    pst_stats stats = stats_of(context);
    assert_int_equal(stats.maps, 2);
    assert_int_equal(stats.reuses, 198);
    assert_int_equal(stats.mapped_bytes, 8 * MIB);
    assert_int_equal(stats.idle_bytes, 8 * MIB);
    pst_context_free(context);
}

static void test_reuse__much_larger_arenas_are_not_wasted_on_small_needs(void **state)
{
    pst_context *context = new_context((pst_context_options){0});
    (void)state;
    pst_buffer_unref(new_buffer(context, 64 * MIB, 0));
    pst_buffer *four = new_buffer(context, 4 * MIB, 0);
    pst_buffer *most = new_buffer(context, 60 * MIB, 0);
    pst_stats stats = stats_of(context);
    assert_int_equal(stats.maps, 2); /* 60 MiB lie in the 64 that were there */
    assert_int_equal(stats.mapped_bytes, 68 * MIB);
    pst_buffer_unref(new_buffer(context, 6 * MIB, 0));
    pst_buffer *other = new_buffer(context, 4 * MIB, 0);
    assert_int_equal(stats_of(context).mapped_bytes, 78 * MIB); /* half as much again is too much */
    pst_buffer_unref(other);
    pst_buffer_unref(four);
    pst_buffer_unref(most);
    pst_context_free(context);
}

/* An application that keeps 1 of 32 objects: the places of the 31 others are used by the next ones. */
static void test_reuse__one_small_object_that_stays_does_not_keep_its_arena_from_others(
    void **state)
{
    enum { ROUNDS = 200, PER_ROUND = 32 };
    pst_buffer *kept[ROUNDS], *round[PER_ROUND];
    pst_context *context = new_context((pst_context_options){0});
    (void)state;
    for (size_t i = 0; i < ROUNDS; i++) {
        for (size_t j = 0; j < PER_ROUND; j++)
            round[j] = new_buffer(context, 64 * KIB, 0);
        kept[i] = round[i % PER_ROUND];
        for (size_t j = 0; j < PER_ROUND; j++) {
            if (round[j] != kept[i])
                pst_buffer_unref(round[j]);
        }
    }
    /* 200 x 64 KiB are 12.5 MiB, and one round more was alive at most. */
    assert_true(stats_of(context).peak_mapped_bytes <= 18 * MIB);
    for (size_t i = 0; i < ROUNDS; i++)
        pst_buffer_unref(kept[i]);
    assert_int_equal(stats_of(context).idle_bytes, stats_of(context).mapped_bytes);
    pst_context_free(context);
}

static void test_reuse__units_that_come_back_join_into_room_for_larger_objects(void **state)
{
    enum { N = 512 }; /* of 4 KiB with 4 KiB alignment: one arena full */
    pst_buffer *buffers[N];
    pst_context *context = new_context((pst_context_options){0});
    (void)state;
    for (size_t i = 0; i < N; i++)
        buffers[i] = new_buffer(context, 4096, 4096);
    assert_int_equal(stats_of(context).mapped_bytes, 2 * MIB);
    for (size_t i = 0; i < N; i += 2) /* every second: no two beside each other */
        pst_buffer_unref(buffers[i]);
    pst_buffer *pair = new_buffer(context, 8192, 4096);
    assert_int_equal(stats_of(context).mapped_bytes, 4 * MIB);
    pst_buffer_unref(buffers[301]);
    pst_buffer *fits = new_buffer(context, 12288, 4096);
    assert_int_equal(stats_of(context).mapped_bytes, 4 * MIB);
    pst_buffer_unref(pair);
    pst_buffer_unref(fits);
    for (size_t i = 1; i < N; i += 2) {
        if (i != 301)
            pst_buffer_unref(buffers[i]);
    }
    assert_int_equal(stats_of(context).idle_bytes, 4 * MIB);
    pst_context_free(context);
}

static void test_idle__the_oldest_go_when_there_is_more_than_was_allowed(void **state)
{
    pst_context *context = new_context((pst_context_options){.idle_memory_bytes = 10 * MIB});
    pst_buffer *old = new_buffer(context, 8 * MIB, 0), *new = new_buffer(context, 6 * MIB, 0);
    pst_buffer *huge = new_buffer(context, 12 * MIB, 0);
    (void)state;
    assert_int_equal(stats_of(context).mapped_bytes, 26 * MIB);
    pst_buffer_unref(old);
    assert_int_equal(stats_of(context).idle_bytes, 8 * MIB);
    pst_buffer_unref(new);
    assert_int_equal(stats_of(context).idle_bytes, 6 * MIB);
    pst_buffer_unref(huge); /* alone more than the bound: drives nothing out */
    assert_int_equal(stats_of(context).idle_bytes, 6 * MIB);
    assert_int_equal(stats_of(context).mapped_bytes, 6 * MIB);
    assert_int_equal(stats_of(context).peak_mapped_bytes, 26 * MIB);
    pst_context_free(context);
}

static unsigned n_idle_calls;

static void count_idle(void *arg)
{
    assert_ptr_equal(arg, &n_idle_calls);
    n_idle_calls++;
}

static void test_idle__goes_back_when_nobody_wanted_it_between_two_looks(void **state)
{
    const struct pst_memory_source source = {NULL, NULL, NULL};
    struct pst_arena_stats stats;
    struct pst_arenas *arenas;
    struct pst_place old, recent;
    (void)state;
    n_idle_calls = 0;
    assert_int_equal(pst_arenas_new(&source, 64 * MIB, &arenas), 0);
    pst_arenas_watch(arenas, count_idle, &n_idle_calls);
    assert_true(pst_arenas_place(arenas, 4 * MIB, 64, &old));
    assert_true(pst_arenas_place(arenas, 8 * MIB, 64, &recent));
    pst_place_free(&old, 0);
    pst_place_free(&recent, 0);
    assert_true(pst_arenas_trim(arenas));
    assert_true(pst_arenas_place(arenas, 8 * MIB, 64, &recent));
    assert_true(pst_arenas_place(arenas, 4 * MIB, 64, &old));
    pst_place_free(&old, 0);
    pst_place_free(&recent, 0);
    assert_true(pst_arenas_trim(arenas));
    assert_true(pst_arenas_place(arenas, 8 * MIB, 64, &recent));
    pst_place_free(&recent, 0);
    assert_true(pst_arenas_trim(arenas)); /* the first, not the one that was wanted */
    pst_arenas_stats(arenas, &stats);
    assert_int_equal(stats.idle_bytes, 8 * MIB);
    assert_int_equal(stats.mapped_bytes, 8 * MIB);
    assert_int_equal(n_idle_calls, 1); /* one timer is enough, also where idle comes and goes */
    assert_false(pst_arenas_trim(arenas));
    pst_arenas_stats(arenas, &stats);
    assert_int_equal(stats.mapped_bytes, 0);
    assert_true(pst_arenas_place(arenas, 4 * MIB, 64, &old));
    pst_place_free(&old, 0);
    assert_int_equal(n_idle_calls, 2);
    pst_arenas_free(arenas);
}

/* ---- memory of the host ----------------------------------------------------------------------- */

static struct {
    pthread_mutex_t mutex;
    struct {
        void *memory;
        size_t bytes;
    } out[256];
    size_t n_out, n_maps, out_bytes, most_bytes;
    int shifts; /* gives misaligned memory */
} pinned = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void *map_pinned(void *arg, size_t bytes)
{
    void *memory = NULL;
    assert_ptr_equal(arg, &pinned);
    assert_int_equal(bytes % (2 * MIB), 0);
    pthread_mutex_lock(&pinned.mutex);
    if (pinned.out_bytes + bytes <= pinned.most_bytes)
        memory = aligned_alloc(2 * MIB, bytes + 2 * MIB);
    if (memory && pinned.shifts)
        memory = (char *)memory + 4096;
    if (memory) {
        pinned.out[pinned.n_out].memory = memory;
        pinned.out[pinned.n_out++].bytes = bytes;
        pinned.n_maps++;
        pinned.out_bytes += bytes;
    }
    pthread_mutex_unlock(&pinned.mutex);
    return memory;
}

static void unmap_pinned(void *arg, void *memory, size_t bytes)
{
    size_t i = 0;
    assert_ptr_equal(arg, &pinned);
    pthread_mutex_lock(&pinned.mutex);
    while (i < pinned.n_out && pinned.out[i].memory != memory)
        i++;
    int is_ours = i < pinned.n_out && pinned.out[i].bytes == bytes; /* not given back before */
    if (is_ours) {
        pinned.out[i] = pinned.out[--pinned.n_out];
        pinned.out_bytes -= bytes;
    }
    pthread_mutex_unlock(&pinned.mutex);
    if (!is_ours)
        abort(); /* the lock of the arenas may be held: no jump out of here */
    free(pinned.shifts ? (char *)memory - 4096 : memory);
}

static pst_context *pinned_context(size_t most_bytes, uint64_t idle_bytes)
{
    pinned.most_bytes = most_bytes;
    pinned.n_maps = 0;
    return new_context((pst_context_options){.memory_map = map_pinned,
                                             .memory_unmap = unmap_pinned,
                                             .memory_arg = &pinned,
                                             .idle_memory_bytes = idle_bytes});
}

static void test_host_memory__is_asked_for_and_given_back_in_pairs(void **state)
{
    pst_context *context = pinned_context(SIZE_MAX, 0);
    pst_buffer *small = new_buffer(context, 100, 0), *large = new_buffer(context, 7 * MIB, 0);
    (void)state;
    assert_int_equal(pinned.n_maps, 2);
    assert_int_equal(pinned.out_bytes, 10 * MIB);
    memset(pst_buffer_writable(large), 1, 7 * MIB);
    pst_buffer_unref(large);
    pst_buffer_unref(new_buffer(context, 8 * MIB, 0)); /* the same arena again */
    assert_int_equal(pinned.n_maps, 2);
    pst_context_free(context);
    assert_int_equal(pinned.out_bytes, 2 * MIB); /* of the buffer that outlives its context */
    memset(pst_buffer_writable(small), 1, 100);
    pst_buffer_unref(small);
    assert_int_equal(pinned.n_out, 0);
}

static void test_host_memory__what_is_idle_goes_back_before_memory_is_refused(void **state)
{
    pst_context *context = pinned_context(16 * MIB, 0);
    (void)state;
    pst_buffer_unref(new_buffer(context, 12 * MIB, 0));
    pst_buffer *other = new_buffer(context, 6 * MIB, 0);
    assert_int_equal(pinned.out_bytes, 6 * MIB);
    pst_buffer *refused = NULL;
    pst_error err = PST_ERROR_INIT;
    assert_int_equal(pst_buffer_alloc(context, 12 * MIB, 0, &refused, &err), PST_E_NO_MEMORY);
    assert_null(refused);
    assert_non_null(strstr(err.message, "12582912"));
    pst_stats stats = stats_of(context);
    assert_int_equal(stats.mapped_bytes, 6 * MIB);
    assert_int_equal(stats.handed_out_bytes, 6 * MIB);
    pst_buffer_unref(other);
    pst_context_free(context);
    assert_int_equal(pinned.n_out, 0);
}

static void test_host_memory__misaligned_memory_is_given_back_and_refused(void **state)
{
    pst_context *context = pinned_context(SIZE_MAX, 0);
    pst_buffer *buffer;
    (void)state;
    pinned.shifts = 1;
    assert_int_equal(pst_buffer_alloc(context, 100, 0, &buffer, NULL), PST_E_NO_MEMORY);
    assert_int_equal(pinned.n_out, 0);
    pst_context_free(context);
    pinned.shifts = 0;
}

static void test_host_memory__one_function_without_the_other_is_invalid(void **state)
{
    const pst_context_options options[] = {
        {.struct_size = sizeof(options[0]), .memory_map = map_pinned},
        {.struct_size = sizeof(options[0]), .memory_unmap = unmap_pinned}};
    pst_context *context;
    (void)state;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pst_context_new(&options[i], &context, NULL), PST_E_INVALID);
}

/* ---- memory of the application ---------------------------------------------------------------- */

static atomic_int n_released;

static void count_release(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void *unref_it(void *arg)
{
    pst_buffer_unref(arg);
    return NULL;
}

static void test_wrap__release_runs_once_whoever_lets_go_last(void **state)
{
    static char bytes[100] = "mine";
    pthread_t threads[8];
    pst_buffer *buffer;
    (void)state;
    for (int round = 0; round < 100; round++) {
        atomic_store(&n_released, 0);
        assert_int_equal(pst_buffer_wrap(bytes, 100, count_release, &n_released, &buffer, NULL),
                         PST_OK);
        assert_ptr_equal(pst_buffer_data(buffer), bytes);
        for (size_t i = 0; i < 8; i++)
            pthread_create(&threads[i], NULL, unref_it, pst_buffer_ref(buffer));
        pst_buffer_unref(buffer);
        for (size_t i = 0; i < 8; i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(atomic_load(&n_released), 1);
    }
}

static void test_wrap__needs_no_release(void **state)
{
    char bytes[10];
    pst_buffer *buffer;
    (void)state;
    assert_int_equal(pst_buffer_wrap(bytes, 10, NULL, NULL, &buffer, NULL), PST_OK);
    assert_ptr_equal(pst_buffer_writable(buffer), bytes);
    pst_buffer_unref(buffer);
}

static void test_writable__only_while_nobody_else_has_a_reference(void **state)
{
    pst_context *context = new_context((pst_context_options){0});
    pst_buffer *buffer = new_buffer(context, 100, 0), *slice;
    (void)state;
    assert_ptr_equal(pst_buffer_writable(buffer), pst_buffer_data(buffer));
    pst_buffer_ref(buffer);
    assert_null(pst_buffer_writable(buffer));
    pst_buffer_unref(buffer);
    assert_non_null(pst_buffer_writable(buffer));
    assert_int_equal(pst_buffer_slice(buffer, 0, 50, &slice, NULL), PST_OK);
    assert_null(pst_buffer_writable(buffer));
    assert_null(pst_buffer_writable(slice));
    pst_buffer_unref(slice);
    assert_non_null(pst_buffer_writable(buffer));
    pst_buffer_unref(buffer);
    pst_context_free(context);
}

static void test_slice__keeps_what_it_shows(void **state)
{
    char bytes[] = "0123456789";
    pst_buffer *buffer, *slice, *part, *none;
    (void)state;
    atomic_store(&n_released, 0);
    assert_int_equal(pst_buffer_wrap(bytes, 10, count_release, &n_released, &buffer, NULL), PST_OK);
    assert_int_equal(pst_buffer_slice(buffer, 2, 6, &slice, NULL), PST_OK);
    assert_int_equal(pst_buffer_slice(slice, 1, 3, &part, NULL), PST_OK);
    assert_int_equal(pst_buffer_slice(slice, 6, 0, &none, NULL), PST_OK);
    pst_buffer_unref(buffer);
    pst_buffer_unref(slice);
    assert_int_equal(atomic_load(&n_released), 0);
    assert_int_equal(pst_buffer_size(part), 3);
    assert_memory_equal(pst_buffer_data(part), "345", 3);
    assert_null(pst_buffer_data(none));
    pst_buffer_unref(part);
    assert_int_equal(atomic_load(&n_released), 0);
    pst_buffer_unref(none);
    assert_int_equal(atomic_load(&n_released), 1);
}

static void test_slice__beyond_the_end_is_invalid(void **state)
{
    static const size_t bad[][2] = {{0, 11}, {11, 0}, {5, 6}, {1, SIZE_MAX}, {SIZE_MAX, 1}};
    char bytes[10];
    pst_buffer *buffer, *slice;
    (void)state;
    assert_int_equal(pst_buffer_wrap(bytes, 10, NULL, NULL, &buffer, NULL), PST_OK);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(pst_buffer_slice(buffer, bad[i][0], bad[i][1], &slice, NULL),
                         PST_E_INVALID);
        assert_null(slice);
    }
    pst_buffer_unref(buffer);
}

/* ---- all together ----------------------------------------------------------------------------- */

static void test_buffer__outlives_its_context_and_ends_on_any_thread(void **state)
{
    pst_context *context = new_context((pst_context_options){0});
    pst_buffer *small = new_buffer(context, 1000, 0), *large = new_buffer(context, 3 * MIB, 0);
    pthread_t thread;
    (void)state;
    memset(pst_buffer_writable(small), 's', 1000);
    memset(pst_buffer_writable(large), 'l', 3 * MIB);
    pst_context_free(context);
    assert_int_equal(((const char *)pst_buffer_data(small))[999], 's');
    assert_int_equal(((const char *)pst_buffer_data(large))[3 * MIB - 1], 'l');
    pthread_create(&thread, NULL, unref_it, small);
    pthread_join(thread, NULL);
    pst_buffer_unref(large);
}

/* The child sees the bytes; what it releases stays with the parent, which goes on as before. */
static void test_buffer__fork_child_reads_and_releases_without_harm(void **state)
{
    pst_context *context = new_context((pst_context_options){0});
    pst_buffer *small = new_buffer(context, 1000, 0), *large = new_buffer(context, 3 * MIB, 0);
    pst_buffer *wrapped, *slice;
    int status = 0;
    (void)state;
    atomic_store(&n_released, 0);
    assert_int_equal(
        pst_buffer_wrap(&status, sizeof(status), count_release, &n_released, &wrapped, NULL),
        PST_OK);
    memset(pst_buffer_writable(small), 's', 1000);
    memset(pst_buffer_writable(large), 'l', 3 * MIB);
    assert_int_equal(pst_buffer_slice(large, MIB, MIB, &slice, NULL), PST_OK);
    pid_t child = fork();
    if (child == 0) {
        int is_good = ((const char *)pst_buffer_data(small))[999] == 's' &&
                      ((const char *)pst_buffer_data(slice))[MIB - 1] == 'l';
        pst_buffer_unref(small);
        pst_buffer_unref(slice);
        pst_buffer_unref(large);
        pst_buffer_unref(wrapped);
        is_good &= atomic_load(&n_released) == 0;
        pst_buffer *own = NULL;
        is_good &= pst_buffer_alloc(context, 5 * MIB, 0, &own, NULL) == PST_OK;
        if (own)
            memset(pst_buffer_writable(own), 'o', 5 * MIB);
        pst_buffer_unref(own);
        is_good &= stats_of(context).mapped_bytes == 6 * MIB; /* none of the parent's */
        _exit(is_good ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(((const char *)pst_buffer_data(large))[3 * MIB - 1], 'l');
    pst_buffer_unref(slice);
    pst_buffer_unref(small);
    pst_buffer_unref(large);
    pst_buffer_unref(wrapped);
    assert_int_equal(atomic_load(&n_released), 1);
    assert_int_equal(stats_of(context).handed_out_bytes, 0);
    pst_context_free(context);
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

struct worker {
    pst_context *context;
    uint64_t seed;
    int is_good;
};

/* Make and release buffers of all sizes in any order; nobody else's bytes ever show up in them. */
static void *churn(void *arg)
{
    enum { LIVE = 24 };
    struct worker *worker = arg;
    pst_buffer *live[LIVE] = {NULL};
    unsigned char marks[LIVE] = {0};
    for (unsigned i = 0; i < 1500; i++) {
        size_t at = next_random(&worker->seed) % LIVE;
        if (live[at]) {
            const unsigned char *bytes = pst_buffer_data(live[at]);
            size_t size = pst_buffer_size(live[at]);
            worker->is_good &= bytes[0] == marks[at] && bytes[size - 1] == marks[at] &&
                               bytes[size / 2] == marks[at];
            pst_buffer_unref(live[at]);
            live[at] = NULL;
            continue;
        }
        size_t size = 1 +
                      next_random(&worker->seed) % ((size_t)64 << next_random(&worker->seed) % 16);
        size_t align = (size_t)64 << next_random(&worker->seed) % 9;
        if (pst_buffer_alloc(worker->context, size, align, &live[at], NULL) != PST_OK) {
            worker->is_good = 0;
            break;
        }
        unsigned char *bytes = pst_buffer_writable(live[at]);
        worker->is_good &= (uintptr_t)bytes % align == 0;
        marks[at] = (unsigned char)next_random(&worker->seed);
        bytes[0] = bytes[size / 2] = bytes[size - 1] = marks[at];
    }
    for (size_t i = 0; i < LIVE; i++)
        pst_buffer_unref(live[i]);
    return NULL;
}

static void test_buffer__many_threads_get_disjoint_memory_and_all_of_it_comes_back(void **state)
{
    struct worker workers[N_THREADS];
    pthread_t threads[N_THREADS];
    pst_context *context = pinned_context(SIZE_MAX, 16 * MIB);
    (void)state;
    for (unsigned i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){context, i + 1, 1};
        pthread_create(&threads[i], NULL, churn, &workers[i]);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(workers[i].is_good);
    }
    pst_stats stats = stats_of(context);
    assert_int_equal(stats.handed_out_bytes, 0);
    assert_int_equal(stats.idle_bytes, stats.mapped_bytes);
    assert_int_equal(stats.mapped_bytes, pinned.out_bytes);
    assert_true(stats.idle_bytes <= 16 * MIB);
    assert_int_equal(stats.maps, pinned.n_maps);
    pst_context_free(context);
    assert_int_equal(pinned.n_out, 0);
}

static void test_buffer__failed_allocation_leaves_all_as_it_was(void **state)
{
    pst_context *context = new_context((pst_context_options){.idle_memory_bytes = 1});
    char bytes[10];
    (void)state;
    for (unsigned n = 1;; n++) {
        pst_buffer *small = NULL, *large = NULL, *wrapped = NULL, *slice = NULL;
        long before = torture_live();
        atomic_store(&n_released, 0);
        torture_arm(n);
        pst_rc rc = pst_buffer_alloc(context, 1000, 0, &small, NULL);
        if (rc == PST_OK)
            rc = pst_buffer_alloc(context, 3 * MIB, 0, &large, NULL);
        if (rc == PST_OK)
            rc = pst_buffer_wrap(bytes, 10, count_release, &n_released, &wrapped, NULL);
        if (rc == PST_OK)
            rc = pst_buffer_slice(large, 0, MIB, &slice, NULL);
        int is_reached = torture_disarm();
        int is_wrapped = wrapped != NULL;
        assert_int_equal(rc, is_reached ? PST_E_NO_MEMORY : PST_OK);
        pst_buffer_unref(slice);
        pst_buffer_unref(wrapped);
        pst_buffer_unref(large);
        pst_buffer_unref(small);
        assert_int_equal(atomic_load(&n_released), is_wrapped);
        assert_int_equal(torture_live(), before);
        assert_int_equal(stats_of(context).mapped_bytes, 0);
        assert_int_equal(stats_of(context).handed_out_bytes, 0);
        if (!is_reached)
            break;
    }
    pst_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc__memory_is_aligned_as_asked_and_all_of_it_can_be_used),
        cmocka_unit_test(test_alloc__zero_alignment_means_64),
        cmocka_unit_test(test_alloc__odd_or_too_large_alignment_is_invalid),
        cmocka_unit_test(test_alloc__more_than_there_can_be_is_no_memory),
        cmocka_unit_test(test_alloc__of_no_bytes_has_no_data),
        cmocka_unit_test(test_alloc__works_where_huge_pages_are_off),
        cmocka_unit_test(test_alloc__counts_as_handed_out_until_the_last_reference_goes),
        cmocka_unit_test(test_reuse__what_was_released_is_given_out_again),
        cmocka_unit_test(test_reuse__much_larger_arenas_are_not_wasted_on_small_needs),
        cmocka_unit_test(
            test_reuse__one_small_object_that_stays_does_not_keep_its_arena_from_others),
        cmocka_unit_test(test_reuse__units_that_come_back_join_into_room_for_larger_objects),
        cmocka_unit_test(test_idle__the_oldest_go_when_there_is_more_than_was_allowed),
        cmocka_unit_test(test_idle__goes_back_when_nobody_wanted_it_between_two_looks),
        cmocka_unit_test(test_host_memory__is_asked_for_and_given_back_in_pairs),
        cmocka_unit_test(test_host_memory__what_is_idle_goes_back_before_memory_is_refused),
        cmocka_unit_test(test_host_memory__misaligned_memory_is_given_back_and_refused),
        cmocka_unit_test(test_host_memory__one_function_without_the_other_is_invalid),
        cmocka_unit_test(test_wrap__release_runs_once_whoever_lets_go_last),
        cmocka_unit_test(test_wrap__needs_no_release),
        cmocka_unit_test(test_writable__only_while_nobody_else_has_a_reference),
        cmocka_unit_test(test_slice__keeps_what_it_shows),
        cmocka_unit_test(test_slice__beyond_the_end_is_invalid),
        cmocka_unit_test(test_buffer__outlives_its_context_and_ends_on_any_thread),
        cmocka_unit_test(test_buffer__fork_child_reads_and_releases_without_harm),
        cmocka_unit_test(test_buffer__many_threads_get_disjoint_memory_and_all_of_it_comes_back),
        cmocka_unit_test(test_buffer__failed_allocation_leaves_all_as_it_was),
    };
    torture_jansson();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
