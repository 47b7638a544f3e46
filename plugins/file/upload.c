/* upload.c - an object in numbered parts, which arrive in any order and side by side.
 *
 * Every part is written at its absolute offset into the temporary file (write.c), so parts
 * need no order and no lock while their bytes move. What was written is noted per part, under a
 * mutex: number, offset and length, only after all of its bytes are there. Commit publishes when these
 * notes cover the object from 0 to its size without a gap or an overlap; a file with a hole that
 * nobody wrote is never published.
 *
 * Life: OPEN -> COMMITTED or ABORTED, and upload_free() from any state. A part that is already noted
 * may come again in any state (the host repeats after a lost reply) and is not written twice. Commit
 * may be repeated: after an error it tries again, after a success it gives the same answer. Only
 * upload_free() releases the memory. */
#include "file.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct part {
    uint64_t offset, length;
    uint32_t number, reserved0;
};

enum upload_state { OPEN, COMMITTED, ABORTED };

struct pst_upload {
    struct fst_write write;
    pthread_mutex_t mutex;
    struct {
        enum upload_state state;
        struct part *parts; /* by number */
        size_t n_parts, capacity;
        uint64_t size; /* once committed */
    } locked;
    size_t key_len, if_match_len;
    char text[]; /* key and if_match: the arguments of upload_open do not outlive it */
};

pst_rc fst_upload_open(pst_backend *b, pst_op *op, const pst_put_args *args,
                       pst_upload_result *result)
{
    pst_rc rc = fst_key_check(b, op, args->key);

    if (rc == PST_OK && args->if_match.len > FST_ETAG_SIZE)
        rc = fst_fail(b, op, PST_E_PRECONDITION, args->key, "if_match is no etag of this store");
    if (rc != PST_OK)
        return rc;
    pst_upload *u = b->host->alloc(b->host, sizeof(*u) + args->key.len + args->if_match.len, 16);
    if (!u)
        return fst_no_memory(op);
    memset(u, 0, sizeof(*u));
    memcpy(u->text, args->key.ptr, args->key.len);
    if (args->if_match.len > 0)
        memcpy(u->text + args->key.len, args->if_match.ptr, args->if_match.len);
    rc = fst_write_begin(&u->write, b, op, pst_str_of(u->text, args->key.len), args->flags,
                         pst_str_of(u->text + args->key.len, args->if_match.len), args->attr);
    if (rc == PST_OK && pthread_mutex_init(&u->mutex, NULL) != 0) {
        fst_write_discard(&u->write);
        fst_write_end(&u->write);
        rc = fst_no_memory(op);
    }
    if (rc != PST_OK) {
        b->host->dealloc(b->host, u);
        return rc;
    }
    result->upload = u;
    return PST_OK;
}

/* The first part whose number is not below `number`. */
static size_t find_locked(const pst_upload *u, uint32_t number)
{
    size_t low = 0, high = u->locked.n_parts;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (u->locked.parts[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Is this part to be written? *is_known: it is there already. */
static pst_rc examine_locked(pst_upload *u, pst_op *op, const struct part *part, int *is_known)
{
    const pst_backend *b = u->write.backend;
    size_t at = find_locked(u, part->number);
    const struct part *old = at < u->locked.n_parts ? &u->locked.parts[at] : NULL;

    *is_known = old && old->number == part->number;
    if (*is_known && (old->offset != part->offset || old->length != part->length))
        return fst_fail(b, op, PST_E_INVALID, u->write.key,
                        "part %u came again with another offset or length", part->number);
    if (!*is_known && u->locked.state != OPEN)
        return fst_fail(b, op, PST_E_INVALID, u->write.key, "part %u comes after the %s",
                        part->number, u->locked.state == COMMITTED ? "commit" : "abort");
    return PST_OK;
}

static pst_rc note_locked(pst_upload *u, pst_op *op, const struct part *part)
{
    const pst_host *host = u->write.backend->host;
    size_t at = find_locked(u, part->number);

    if (u->locked.n_parts == FST_PARTS_MAX)
        return fst_fail(u->write.backend, op, PST_E_INVALID, u->write.key,
                        "an upload has at most %u parts", FST_PARTS_MAX);
    if (u->locked.n_parts == u->locked.capacity) {
        size_t capacity = u->locked.capacity > 0 ? u->locked.capacity * 2 : 16;
        struct part *parts = host->alloc(host, capacity * sizeof(*parts), 16);
        if (!parts)
            return fst_no_memory(op);
        if (u->locked.n_parts > 0)
            memcpy(parts, u->locked.parts, u->locked.n_parts * sizeof(*parts));
        if (u->locked.parts)
            host->dealloc(host, u->locked.parts);
        u->locked.parts = parts;
        u->locked.capacity = capacity;
    }
    memmove(u->locked.parts + at + 1, u->locked.parts + at,
            (u->locked.n_parts - at) * sizeof(*part));
    u->locked.parts[at] = *part;
    u->locked.n_parts++;
    return PST_OK;
}

pst_rc fst_upload_part(pst_upload *u, pst_op *op, const pst_part_args *args, pst_result *result)
{
    const pst_backend *b = u->write.backend;
    const struct part part = {.offset = args->offset,
                              .length = fst_iov_bytes(args->src, args->n_src),
                              .number = args->number};
    int is_known;

    (void)result;
    pthread_mutex_lock(&u->mutex);
    pst_rc rc = examine_locked(u, op, &part, &is_known);
    pthread_mutex_unlock(&u->mutex);
    if (rc != PST_OK || is_known)
        return rc;
    if (part.length > INT64_MAX || part.offset > INT64_MAX - part.length)
        return fst_fail_errno(b, op, EFBIG, u->write.key, "write");
    rc = b->data->write(&u->write, op, args->src, args->n_src, part.length, part.offset);
    if (rc != PST_OK)
        return rc;
    pthread_mutex_lock(&u->mutex);
    rc = note_locked(u, op, &part);
    pthread_mutex_unlock(&u->mutex);
    return rc;
}

static int compare_offsets(const void *a, const void *b)
{
    const struct part *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->length < y->length ? -1 : x->length > y->length;
}

/* Do the parts cover 0..size, each byte once? Works on a copy sorted by offset where the numbers do not
 * follow the offsets; they do, unless somebody is creative. */
static pst_rc check_coverage(pst_upload *u, pst_op *op, const pst_commit_args *args)
{
    const pst_backend *b = u->write.backend;
    const struct part *parts = u->locked.parts;
    struct part *sorted = NULL;
    size_t n = u->locked.n_parts, i = 1;
    pst_rc rc = PST_OK;

    if (n != args->n_parts)
        return fst_fail(b, op, PST_E_INVALID, u->write.key, "%zu parts arrived, commit names %u", n,
                        args->n_parts);
    while (i < n && compare_offsets(&parts[i - 1], &parts[i]) <= 0)
        i++;
    if (i < n) {
        sorted = b->host->alloc(b->host, n * sizeof(*sorted), 16);
        if (!sorted)
            return fst_no_memory(op);
        memcpy(sorted, parts, n * sizeof(*sorted));
        qsort(sorted, n, sizeof(*sorted), compare_offsets);
        parts = sorted;
    }
    uint64_t end = 0;
    for (i = 0; i < n && rc == PST_OK; i++) {
        if (parts[i].offset != end)
            rc = fst_fail(b, op, PST_E_INVALID, u->write.key,
                          parts[i].offset > end ? "no part holds the byte at %llu"
                                                : "two parts hold the byte at %llu",
                          (unsigned long long)(parts[i].offset > end ? end : parts[i].offset));
        end += parts[i].length;
    }
    if (rc == PST_OK && end != args->size)
        rc = fst_fail(b, op, PST_E_INVALID, u->write.key,
                      "the parts hold %llu bytes, commit names %llu", (unsigned long long)end,
                      (unsigned long long)args->size);
    if (sorted)
        b->host->dealloc(b->host, sorted);
    return rc;
}

/* The host keeps parts, commit and abort of one upload apart; the mutex is for parts side by side and
 * orders what this thread reads after what they noted. */
pst_rc fst_upload_commit(pst_upload *u, pst_op *op, const pst_commit_args *args,
                         pst_put_result *result)
{
    const pst_backend *b = u->write.backend;
    pst_rc rc = PST_OK;

    pthread_mutex_lock(&u->mutex);
    if (u->locked.state == ABORTED)
        rc = fst_fail(b, op, PST_E_INVALID, u->write.key, "the upload was aborted");
    else if (u->locked.state == COMMITTED && args->size != u->locked.size)
        rc = fst_fail(b, op, PST_E_INVALID, u->write.key, "was committed with another size");
    else if (u->locked.state == OPEN && !u->write.is_published)
        rc = check_coverage(u, op, args);
    if (rc == PST_OK)
        rc = fst_write_publish(&u->write, op, args->size, args->sums, args->sum_stride,
                               args->n_sums, result);
    if (rc == PST_OK) {
        u->locked.state = COMMITTED;
        u->locked.size = args->size;
    }
    pthread_mutex_unlock(&u->mutex);
    return rc;
}

pst_rc fst_upload_abort(pst_upload *u, pst_op *op, const pst_abort_args *args, pst_result *result)
{
    const pst_backend *b = u->write.backend;
    pst_rc rc = PST_OK;

    (void)args;
    (void)result;
    pthread_mutex_lock(&u->mutex);
    if (u->write.is_published)
        rc = fst_fail(b, op, PST_E_INVALID, u->write.key, "is committed already");
    else if (fst_write_discard(&u->write) != 0)
        rc = fst_fail_errno(b, op, errno, u->write.key, "remove the temporary file");
    if (rc == PST_OK) {
        u->locked.state = ABORTED;
        fst_write_end(&u->write);
    }
    pthread_mutex_unlock(&u->mutex);
    return rc;
}

void fst_upload_free(pst_upload *u)
{
    const pst_host *host = u->write.backend->host;

    fst_write_discard(&u->write); /* never commits: what was not committed goes away */
    fst_write_end(&u->write);
    pthread_mutex_destroy(&u->mutex);
    if (u->locked.parts)
        host->dealloc(host, u->locked.parts);
    host->dealloc(host, u);
}
