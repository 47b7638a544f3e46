/* Memory that runs out anywhere: the n-th allocation fails through a whole life, until none does. Each
 * time the life ends with success or NO_MEMORY, nothing is leaked, and every object is whole or absent.
 *
 * One countdown for all threads: which allocation is the n-th varies a little with their timing. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "file_store.h"
#include "scratch.h"
#include "torture.h"

#define BYTES ((size_t)150000)
#define TRIES 3000u

static char *body; /* of every object */
static const char *dir;

static const pst_str keys[] = {{"put", sizeof("put") - 1},
                               {"copy", sizeof("copy") - 1},
                               {"stream", sizeof("stream") - 1},
                               {"queued", sizeof("queued") - 1}};

/* ---- what a life consists of ------------------------------------------------------------------ */

static pst_rc is_body(const pst_buffer *buffer, size_t offset, size_t len)
{
    assert_int_equal(pst_buffer_size(buffer), len);
    assert_memory_equal(pst_buffer_data(buffer), body + offset, len);
    return PST_OK;
}

static pst_rc put(pst_store *store)
{
    const pst_iov src = {body, BYTES};
    return pst_put(store, keys[0], &src, 1, NULL, NULL, NULL, NULL);
}

static pst_rc get(pst_store *store)
{
    pst_buffer *buffer = NULL;
    pst_rc rc = pst_get(store, keys[0], NULL, NULL, &buffer, NULL, NULL);
    if (rc == PST_OK)
        is_body(buffer, 0, BYTES);
    pst_buffer_unref(buffer);
    return rc;
}

static pst_rc get_range(pst_store *store)
{
    pst_buffer *buffer = NULL;
    pst_rc rc = pst_get_range(store, keys[0], 1000, 100000, NULL, NULL, &buffer, NULL, NULL);
    if (rc == PST_OK)
        is_body(buffer, 1000, 100000);
    pst_buffer_unref(buffer);
    return rc;
}

static pst_rc get_into(pst_store *store)
{
    static char dst[BYTES];
    size_t n = 0;
    memset(dst, 0, sizeof(dst));
    pst_rc rc = pst_get_into(store, keys[0], 0, dst, sizeof(dst), NULL, NULL, &n, NULL, NULL);
    if (rc == PST_OK) {
        assert_int_equal(n, BYTES);
        assert_memory_equal(dst, body, BYTES);
    }
    return rc;
}

static pst_rc get_many(pst_store *store)
{
    const pst_get_item items[] = {{.key = keys[0], .length = PST_UNKNOWN},
                                  {.key = keys[0], .offset = 10, .length = 20}};
    pst_get_result results[2];
    pst_rc rc = pst_get_many(store, items, 2, NULL, NULL, results, NULL);
    pst_get_results_free(results, 2);
    return rc;
}

static pst_rc copy(pst_store *store)
{
    return pst_copy(store, keys[0], store, keys[1], NULL, NULL, NULL, NULL);
}

static pst_rc stream(pst_store *store)
{
    const pst_write_options options = {.struct_size = sizeof(options), .part_bytes = 65536};
    pst_writer *writer = NULL;
    pst_rc rc = pst_writer_open(store, keys[2], &options, NULL, &writer, NULL);
    if (rc == PST_OK)
        rc = pst_writer_write(writer, body, BYTES / 2, NULL);
    if (rc == PST_OK)
        rc = pst_writer_write(writer, body + BYTES / 2, BYTES - BYTES / 2, NULL);
    if (rc == PST_OK)
        rc = pst_writer_finalize(writer, NULL, NULL);
    pst_writer_free(writer);
    return rc;
}

static pst_rc list(pst_store *store)
{
    pst_list *listing = NULL;
    const pst_entry *entry = NULL;
    pst_rc rc = pst_list_open(store, PST_STR(""), NULL, &listing, NULL);
    while (rc == PST_OK) {
        rc = pst_list_next(listing, NULL, &entry, NULL);
        if (rc == PST_OK && !entry)
            break;
    }
    pst_list_free(listing);
    return rc;
}

static pst_rc reap_all(pst_queue *queue)
{
    pst_event events[4];
    pst_rc first = PST_OK;
    size_t n = 0;
    do {
        pst_rc rc = pst_queue_wait(queue, events, 4, PST_UNKNOWN, NULL, &n, NULL);
        if (rc != PST_OK)
            return rc;
        for (size_t i = 0; i < n; i++) {
            if (first == PST_OK && events[i].status != PST_E_NOT_FOUND)
                first = events[i].status;
            pst_event_fini(&events[i]);
        }
    } while (n > 0);
    return first;
}

static pst_rc enqueue(pst_store *store, pst_context *context)
{
    pst_queue *queue = NULL;
    const pst_iov src = {body, BYTES};
    static char dst[100];
    const pst_iov into = {dst, sizeof(dst)};
    const pst_request plain = {
        .struct_size = sizeof(plain), .store = store, .key = keys[0], .length = PST_UNKNOWN};
    pst_request requests[5] = {plain, plain, plain, plain, plain};
    requests[0].kind = PST_REQ_PUT;
    requests[0].key = keys[3];
    requests[0].src = &src;
    requests[0].n_src = 1;
    requests[1].kind = PST_REQ_GET;
    requests[1].timeout_ms = 60000;
    requests[2].kind = PST_REQ_STAT;
    requests[3].kind = PST_REQ_GET;
    requests[3].dst = &into;
    requests[3].n_dst = 1;
    requests[4].kind = PST_REQ_DELETE;
    requests[4].key = PST_STR("nothing");
    pst_rc rc = pst_queue_new(context, &queue, NULL);
    if (rc == PST_OK)
        rc = pst_queue_submit(queue, requests, 5, NULL, NULL);
    if (rc == PST_OK)
        rc = reap_all(queue);
    pst_queue_free(queue);
    return rc;
}

static pst_rc delete_many(pst_store *store)
{
    pst_rc statuses[2];
    return pst_delete_many(store, keys, NULL, 2, NULL, statuses, NULL);
}

static pst_rc live_once(void)
{
    static pst_rc (*const steps[])(pst_store *) = {put,  get,    get_range, get_into,
                                                   copy, stream, list,      get_many};
    pst_context *context = NULL;
    pst_store *store = NULL;
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = file_context(&context, &err);
    if (rc == PST_OK)
        rc = file_store(context, dir, &store, &err);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && rc == PST_OK; i++)
        rc = steps[i](store);
    if (rc == PST_OK)
        rc = enqueue(store, context);
    if (rc == PST_OK)
        rc = delete_many(store);
    pst_store_free(store);
    pst_context_free(context);
    return rc;
}

/* ---- what it leaves ---------------------------------------------------------------------------- */

static void check_whole_or_absent(pst_str key)
{
    static char found[BYTES + 1];
    FILE *file = fopen(scratch_path(dir, key.ptr), "rb");
    if (!file)
        return;
    size_t n = fread(found, 1, sizeof(found), file);
    fclose(file);
    assert_int_equal(n, BYTES);
    assert_memory_equal(found, body, BYTES);
    unlink(scratch_path(dir, key.ptr));
}

/* What is left beside the objects are the plugin's own unfinished files. */
static void sweep(void)
{
    DIR *listing = opendir(dir);
    assert_non_null(listing);
    for (struct dirent *entry = readdir(listing); entry; entry = readdir(listing)) {
        if (entry->d_name[0] != '.')
            fail_msg("\"%s\" was left behind", entry->d_name);
        else if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlink(scratch_path(dir, entry->d_name));
    }
    closedir(listing);
}

static void test_life__every_allocation_may_fail(void **state)
{
    pst_rc rc = PST_OK;
    unsigned n = 1;
    dir = *state;
    assert_int_equal(live_once(), PST_OK); /* what is made once in a process is made now */
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        check_whole_or_absent(keys[i]);
    long before = torture_live();
    for (; n < TRIES; n++) {
        torture_arm(n);
        rc = live_once();
        int is_reached = torture_disarm();
        if (rc != PST_OK && rc != PST_E_NO_MEMORY)
            fail_msg("allocation %u: %s", n, pst_rc_name(rc));
        if (torture_live() != before)
            fail_msg("allocation %u: %ld not freed", n, torture_live() - before);
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
            check_whole_or_absent(keys[i]);
        sweep();
        if (!is_reached)
            break;
    }
    assert_int_equal(rc, PST_OK);
    assert_true(n > 100 && n < TRIES);
    print_message("%u allocations\n", n - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life__every_allocation_may_fail, scratch_setup,
                                        scratch_teardown),
    };
    torture_jansson();
    body = malloc(BYTES);
    if (!body)
        return 1;
    for (size_t i = 0; i < BYTES; i++)
        body[i] = (char)(i * 2654435761u >> 13);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    free(body);
    return rc;
}
