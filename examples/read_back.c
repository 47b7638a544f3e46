/* read_back.c - read every object below a prefix with get_many and compare it with a local tree.
 *
 *   read_back file:///tmp/store/ /usr/include
 *
 * How: list the store recursively, read the objects in batches, open the file of the same name below
 * the tree and compare byte by byte. Only the time inside pst_get_many counts for the throughput.
 * How it fails: one line per object that differs or cannot be read, exit code 1; a listing that
 * fails ends the run. It does not look for files that the store lacks: compare the counts for that.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <penstock/penstock.h>

#define BATCH_ITEMS 1024u
#define BATCH_BYTES (128u * 1024u * 1024u)
#define MAX_IN_FLIGHT 64u

struct batch {
    size_t n;
    uint64_t bytes;
    char *keys[BATCH_ITEMS];
    pst_get_item items[BATCH_ITEMS];
    pst_get_result results[BATCH_ITEMS];
};

struct totals {
    uint64_t objects, bytes, failures;
    double seconds;
};

static double now_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Does the file at `path` hold exactly these bytes? */
static int file_equals(const char *path, const unsigned char *bytes, size_t len)
{
    unsigned char piece[65536];
    size_t done = 0, n;
    int equal = 1;
    FILE *f = fopen(path, "rb");

    if (f == NULL)
        return 0;
    while (equal && (n = fread(piece, 1, sizeof piece, f)) > 0) {
        equal = n <= len - done && memcmp(piece, bytes + done, n) == 0;
        done += n;
    }
    equal = equal && !ferror(f) && done == len;
    fclose(f);
    return equal;
}

/* Read what the batch names, compare it, and empty the batch. */
static int flush_batch(pst_store *store, struct batch *b, const char *tree, size_t prefix_len,
                       struct totals *totals)
{
    pst_many_options options = {.struct_size = sizeof options, .max_in_flight = MAX_IN_FLIGHT};
    pst_error err = PST_ERROR_INIT;
    double start = now_seconds();
    pst_rc rc = pst_get_many(store, b->items, b->n, &options, NULL, b->results, &err);

    totals->seconds += now_seconds() - start;
    if (rc != PST_OK)
        fprintf(stderr, "read_back: %s\n", err.message);
    for (size_t i = 0; i < b->n; i++) {
        const pst_get_result *r = &b->results[i];
        char *path = NULL;

        if (r->status == PST_OK) {
            size_t len = pst_buffer_size(r->buffer);

            if (asprintf(&path, "%s/%s", tree, b->keys[i] + prefix_len) < 0)
                path = NULL;
            if (path == NULL || !file_equals(path, pst_buffer_data(r->buffer), len)) {
                fprintf(stderr, "read_back: %s differs from %s\n", b->keys[i], path ? path : tree);
                totals->failures++;
            }
            totals->bytes += len;
            free(path);
        } else {
            fprintf(stderr, "read_back: %s: %s\n", b->keys[i],
                    r->error ? r->error->message : pst_rc_text(r->status));
            totals->failures++;
        }
        totals->objects++;
        free(b->keys[i]);
    }
    pst_get_results_free(b->results, b->n);
    b->n = 0;
    b->bytes = 0;
    return rc == PST_OK ? 0 : -1;
}

static int add_item(struct batch *b, const pst_entry *entry)
{
    char *key = malloc(entry->key.len + 1);

    if (key == NULL)
        return -1;
    memcpy(key, entry->key.ptr, entry->key.len);
    key[entry->key.len] = '\0';
    b->keys[b->n] = key;
    b->items[b->n] = (pst_get_item){.key = pst_str_of(key, entry->key.len), .length = PST_UNKNOWN};
    b->n++;
    b->bytes += entry->size;
    return 0;
}

static int read_tree(pst_store *store, pst_str prefix, const char *tree, struct totals *totals)
{
    pst_list_options options = {.struct_size = sizeof options, .flags = PST_LISTING_RECURSIVE};
    pst_error err = PST_ERROR_INIT;
    struct batch *batch = calloc(1, sizeof *batch);
    pst_list *list = NULL;
    const pst_entry *entry = NULL;
    int result = -1;

    if (batch == NULL || pst_list_open(store, prefix, &options, &list, &err) != PST_OK)
        goto out;
    while (pst_list_next(list, NULL, &entry, &err) == PST_OK) {
        if (entry != NULL && add_item(batch, entry) != 0)
            goto out;
        if (entry == NULL || batch->n == BATCH_ITEMS || batch->bytes >= BATCH_BYTES) {
            if (batch->n > 0 && flush_batch(store, batch, tree, prefix.len, totals) != 0)
                goto out;
        }
        if (entry == NULL) {
            result = 0;
            goto out;
        }
    }
out:
    if (err.code != 0)
        fprintf(stderr, "read_back: %s\n", err.message);
    for (size_t i = 0; batch != NULL && i < batch->n; i++)
        free(batch->keys[i]);
    free(batch);
    pst_list_free(list);
    return result;
}

int main(int argc, char **argv)
{
    struct totals totals = {0};
    pst_error err = PST_ERROR_INIT;
    pst_context *context = NULL;
    pst_store *store = NULL;
    pst_uri uri;
    int exit_code = 1;

    if (argc != 3) {
        fprintf(stderr, "usage: read_back STORE_URI TREE\n");
        return 2;
    }
    pst_str text = pst_str_of(argv[1], strlen(argv[1]));
    if (pst_uri_parse(text, &uri, &err) != PST_OK ||
        pst_context_new(NULL, &context, &err) != PST_OK ||
        pst_store_open(context, text, NULL, 0, &store, &err) != PST_OK) {
        fprintf(stderr, "read_back: %s\n", err.message);
        goto out;
    }
    if (read_tree(store, uri.key, argv[2], &totals) == 0 && totals.failures == 0)
        exit_code = 0;
    printf("%" PRIu64 " objects, %" PRIu64 " bytes read in %.3f s, %.0f MB/s, %.0f objects/s, "
           "%" PRIu64 " differ\n",
           totals.objects, totals.bytes, totals.seconds,
           totals.seconds > 0 ? (double)totals.bytes / 1e6 / totals.seconds : 0.0,
           totals.seconds > 0 ? (double)totals.objects / totals.seconds : 0.0, totals.failures);
out:
    pst_store_free(store);
    pst_context_free(context);
    return exit_code;
}
