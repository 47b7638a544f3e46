/* names.c - the names of one directory, sorted, in little memory.
 *
 * A directory may hold millions of names in no order, a listing must give them in key order. So they
 * are collected first: packed one behind the other in one block (length, kind, bytes), with an index of
 * 32-bit offsets that grows from the block's other end. No allocation per name. The block doubles until
 * it has reached the option list_memory (64 MiB, some three million names).
 *
 * Beyond that, what is in the block is sorted and written as one run to a temporary file without a name
 * (O_TMPFILE in the option tmpdir), the block is filled anew, and at the end the runs are merged through
 * a heap. Ten million names need three or four runs.
 *
 * Sorting is multikey quicksort (Bentley and Sedgewick, 1997): names of one directory share long
 * beginnings ("part-000..."), and it looks at every byte about once.
 *
 * A directory's name is kept with a '/' at its end: then plain byte order of the names is byte order of
 * the keys below them ("a-b" before "a/x" before "a0"). */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <penstock/sync.h>

#define BLOCK_FIRST 4096u
#define HEAD_BYTES 3u /* of a record: length, low byte first, and kind */
#define RECORD_MAX (HEAD_BYTES + FST_COMPONENT_MAX + 1u)
#define IO_BYTES 65536u
#define READER_MIN 4096u
#define RUNS_MAX 65536u
#define INSERTION_MAX 12u
#define CANCEL_MIN 65536u /* names: sorting fewer is a matter of milliseconds */

struct run {
    uint64_t at, end; /* in the file: next byte to read, and its end */
    char *buffer;
    size_t n_bytes, here; /* in the buffer: filled, and where the current record starts */
};

struct fst_names {
    const pst_backend *backend;
    char *block;
    size_t capacity, used, n; /* bytes from the front; index entries from the back */
    size_t current;           /* once sorted */
    int file_fd;              /* -1: everything is in the block */
    uint64_t file_bytes;
    struct run *runs;
    size_t n_runs, runs_capacity;
    size_t *heap; /* of runs, the one with the lowest name first; NULL: not merging */
    size_t n_heap;
};

static pst_rc fail_file(const struct fst_names *names, pst_op *op, int sys_errno)
{
    pst_rc rc = sys_errno == ENOSPC || sys_errno == EDQUOT  ? (pst_rc)PST_E_NO_SPACE
                : sys_errno == EACCES || sys_errno == EROFS ? (pst_rc)PST_E_DENIED
                                                            : (pst_rc)PST_E_IO;
    return fst_error_set(op->err, rc, sys_errno, "temporary file for sorting names, in %.200s",
                         names->backend->tmpdir);
}

pst_rc fst_names_new(const pst_backend *b, pst_op *op, struct fst_names **out)
{
    struct fst_names *names = b->host->alloc(b->host, sizeof(*names), 16);

    if (!names)
        return fst_no_memory(op);
    memset(names, 0, sizeof(*names));
    names->backend = b;
    names->file_fd = -1;
    *out = names;
    return PST_OK;
}

static void free_runs(struct fst_names *names)
{
    const pst_host *host = names->backend->host;

    for (size_t i = 0; names->heap && i < names->n_runs; i++) {
        if (names->runs[i].buffer)
            host->dealloc(host, names->runs[i].buffer);
        names->runs[i].buffer = NULL;
    }
    if (names->heap)
        host->dealloc(host, names->heap);
    names->heap = NULL;
}

void fst_names_free(struct fst_names *names)
{
    if (!names)
        return;
    const pst_host *host = names->backend->host;
    free_runs(names);
    if (names->runs)
        host->dealloc(host, names->runs);
    if (names->block)
        host->dealloc(host, names->block);
    if (names->file_fd >= 0)
        close(names->file_fd); /* it has no name: this is its end */
    host->dealloc(host, names);
}

static uint32_t *index_of(const struct fst_names *names)
{
    return (uint32_t *)(void *)(names->block + names->capacity) - names->n;
}

static size_t record_len(const char *record)
{
    return (size_t)(unsigned char)record[0] | (size_t)(unsigned char)record[1] << 8;
}

static void decode(const char *record, struct fst_name *out)
{
    out->name = record + HEAD_BYTES;
    out->len = record_len(record);
    out->kind = (enum fst_kind)record[2];
}

/* ---- sorting -------------------------------------------------------------------------------------- */

/* The byte at `depth` plus 1, or 0 behind the end: a name sorts before its continuations. */
static unsigned byte_at(const char *block, uint32_t offset, size_t depth)
{
    const char *record = block + offset;

    return depth < record_len(record) ? (unsigned char)record[HEAD_BYTES + depth] + 1u : 0u;
}

static int compare_from(const char *a, const char *b, size_t depth)
{
    size_t a_len = record_len(a), b_len = record_len(b);
    size_t n = (a_len < b_len ? a_len : b_len) - depth;
    int order = memcmp(a + HEAD_BYTES + depth, b + HEAD_BYTES + depth, n);

    return order != 0 ? order : a_len < b_len ? -1 : a_len > b_len;
}

static void sort_few(const char *block, uint32_t *index, size_t n, size_t depth)
{
    for (size_t i = 1; i < n; i++) {
        uint32_t moving = index[i];
        size_t j = i;
        for (; j > 0 && compare_from(block + index[j - 1], block + moving, depth) > 0; j--)
            index[j] = index[j - 1];
        index[j] = moving;
    }
}

static unsigned median(unsigned a, unsigned b, unsigned c)
{
    if (a < b)
        return b < c ? b : a < c ? c : a;
    return a < c ? a : b < c ? c : b;
}

struct range {
    uint32_t *index;
    size_t n, depth;
};

/* All names in the range agree in their first `depth` bytes. Split by the next byte into below, equal
 * and above; only the equal ones go one byte deeper. The two smaller parts recurse, so the stack is
 * never deeper than the logarithm of n. */
static void sort_range(const char *block, struct range range, const pst_op *op)
{
    while (range.n > INSERTION_MAX) {
        uint32_t *index = range.index;
        if (range.n >= CANCEL_MIN && pst_sync_cancelled(op))
            return;
        unsigned pivot = median(byte_at(block, index[0], range.depth),
                                byte_at(block, index[range.n / 2], range.depth),
                                byte_at(block, index[range.n - 1], range.depth));
        size_t low = 0, high = range.n;
        for (size_t i = 0; i < high;) {
            unsigned here = byte_at(block, index[i], range.depth);
            uint32_t moving = index[i];
            if (here < pivot) {
                index[i++] = index[low];
                index[low++] = moving;
            } else if (here > pivot) {
                index[i] = index[--high];
                index[high] = moving;
            } else {
                i++;
            }
        }
        struct range parts[3] = {
            {index, low, range.depth},
            {index + low, pivot == 0 ? 0 : high - low, range.depth + 1}, /* 0: equal to the end */
            {index + high, range.n - high, range.depth},
        };
        size_t largest = 0;
        for (size_t i = 1; i < 3; i++)
            largest = parts[i].n > parts[largest].n ? i : largest;
        for (size_t i = 0; i < 3; i++) {
            if (i != largest && parts[i].n > 1)
                sort_range(block, parts[i], op);
        }
        range = parts[largest];
    }
    sort_few(block, range.index, range.n, range.depth);
}

static pst_rc sort_block(struct fst_names *names, pst_op *op)
{
    if (names->n > 1)
        sort_range(names->block, (struct range){index_of(names), names->n, 0}, op);
    return pst_sync_cancelled(op) ? fst_cancelled(op) : PST_OK;
}

/* ---- collecting ----------------------------------------------------------------------------------- */

static pst_rc open_file(struct fst_names *names, pst_op *op)
{
    const char *dir = names->backend->tmpdir;
    char path[4096];
    uint64_t chance;

    if (names->file_fd >= 0)
        return PST_OK;
    names->file_fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (names->file_fd >= 0)
        return PST_OK;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
        return fail_file(names, op, errno);
    /* A file system without O_TMPFILE: make a name and take it away at once. */
    if (getrandom(&chance, sizeof(chance), 0) != (ssize_t)sizeof(chance))
        return fail_file(names, op, EIO);
    int n = snprintf(path, sizeof(path), "%s/.penstock-sort-%016llx", dir,
                     (unsigned long long)chance);
    if (n < 0 || (size_t)n >= sizeof(path))
        return fail_file(names, op, ENAMETOOLONG);
    names->file_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (names->file_fd < 0 || unlink(path) != 0)
        return fail_file(names, op, errno);
    return PST_OK;
}

static pst_rc grow_runs(struct fst_names *names, pst_op *op)
{
    const pst_host *host = names->backend->host;
    size_t capacity = names->runs_capacity > 0 ? names->runs_capacity * 2 : 8;

    if (names->n_runs < names->runs_capacity)
        return PST_OK;
    if (names->n_runs >= RUNS_MAX)
        return fst_error_set(op->err, PST_E_NO_MEMORY, 0,
                             "too many names in one directory for the option list_memory");
    struct run *runs = host->alloc(host, capacity * sizeof(*runs), 16);
    if (!runs)
        return fst_no_memory(op);
    memset(runs, 0, capacity * sizeof(*runs));
    if (names->runs) {
        memcpy(runs, names->runs, names->n_runs * sizeof(*runs));
        host->dealloc(host, names->runs);
    }
    names->runs = runs;
    names->runs_capacity = capacity;
    return PST_OK;
}

static pst_rc write_all(struct fst_names *names, pst_op *op, const char *bytes, size_t n,
                        uint64_t *at)
{
    while (n > 0) {
        ssize_t got = pwrite(names->file_fd, bytes, n, (off_t)*at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return fail_file(names, op, got < 0 ? errno : EIO);
        bytes += got;
        n -= (size_t)got;
        *at += (uint64_t)got;
    }
    return PST_OK;
}

/* Sort what is in the block, append it to the file as a run, and empty the block. After a failure the
 * block is as full as before, and the call may be repeated. */
static pst_rc write_run(struct fst_names *names, pst_op *op)
{
    const pst_host *host = names->backend->host;
    uint64_t at = names->file_bytes;
    size_t fill = 0;
    pst_rc rc = open_file(names, op);

    if (rc == PST_OK)
        rc = grow_runs(names, op);
    if (rc == PST_OK)
        rc = sort_block(names, op);
    if (rc != PST_OK)
        return rc;
    char *buffer = host->alloc(host, IO_BYTES, 16);
    if (!buffer)
        return fst_no_memory(op);
    const uint32_t *index = index_of(names);
    for (size_t i = 0; i < names->n && rc == PST_OK; i++) {
        const char *record = names->block + index[i];
        size_t len = HEAD_BYTES + record_len(record);
        if (fill + len > IO_BYTES) {
            rc = write_all(names, op, buffer, fill, &at);
            fill = 0;
        }
        memcpy(buffer + fill, record, len);
        fill += len;
    }
    if (rc == PST_OK)
        rc = write_all(names, op, buffer, fill, &at);
    host->dealloc(host, buffer);
    if (rc == PST_OK) {
        names->runs[names->n_runs++] = (struct run){.at = names->file_bytes, .end = at};
        names->file_bytes = at;
        names->used = names->n = 0;
    }
    return rc;
}

static size_t bytes_left(const struct fst_names *names)
{
    return names->capacity - names->used - names->n * sizeof(uint32_t);
}

/* Room for one more record and its index entry. */
static pst_rc make_room(struct fst_names *names, pst_op *op, size_t wanted)
{
    const pst_host *host = names->backend->host;
    const size_t limit = (size_t)names->backend->list_memory & ~(size_t)15; /* aligned index */

    while (!names->block || bytes_left(names) < wanted) {
        if (names->capacity >= limit)
            return write_run(names, op);
        size_t capacity = names->capacity > 0 ? names->capacity * 2 : BLOCK_FIRST;
        if (capacity > limit)
            capacity = limit;
        char *block = host->alloc(host, capacity, 16);
        if (!block)
            return fst_no_memory(op);
        if (names->block) {
            size_t index_bytes = names->n * sizeof(uint32_t);
            memcpy(block, names->block, names->used);
            memcpy(block + capacity - index_bytes, names->block + names->capacity - index_bytes,
                   index_bytes);
            host->dealloc(host, names->block);
        }
        names->block = block;
        names->capacity = capacity;
    }
    return PST_OK;
}

pst_rc fst_names_add(struct fst_names *names, pst_op *op, const struct fst_name *name)
{
    pst_rc rc = make_room(names, op, HEAD_BYTES + name->len + sizeof(uint32_t));

    if (rc != PST_OK)
        return rc;
    char *record = names->block + names->used;
    record[0] = (char)(name->len & 255);
    record[1] = (char)(name->len >> 8);
    record[2] = (char)name->kind;
    memcpy(record + HEAD_BYTES, name->name, name->len);
    names->n++;
    index_of(names)[0] = (uint32_t)names->used;
    names->used += HEAD_BYTES + name->len;
    return PST_OK;
}

/* ---- merging -------------------------------------------------------------------------------------- */

/* Have `wanted` bytes of the run in its buffer from the current record on. *has 0: it ends before. */
static pst_rc fill_run(struct fst_names *names, pst_op *op, struct run *run, size_t size,
                       size_t wanted, int *has)
{
    while (run->n_bytes - run->here < wanted && run->at < run->end) {
        if (run->here > 0) {
            memmove(run->buffer, run->buffer + run->here, run->n_bytes - run->here);
            run->n_bytes -= run->here;
            run->here = 0;
        }
        size_t n = size - run->n_bytes;
        if (n > run->end - run->at)
            n = (size_t)(run->end - run->at);
        ssize_t got = pread(names->file_fd, run->buffer + run->n_bytes, n, (off_t)run->at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return fail_file(names, op, got < 0 ? errno : EIO);
        run->n_bytes += (size_t)got;
        run->at += (uint64_t)got;
    }
    *has = run->n_bytes - run->here >= wanted;
    return PST_OK;
}

/* Bytes of buffer per run: together about as much as the block was. */
static size_t reader_bytes(const struct fst_names *names)
{
    size_t share = (size_t)names->backend->list_memory / names->n_runs;

    return share < READER_MIN ? READER_MIN : share > IO_BYTES ? IO_BYTES : share;
}

/* Have the whole record in the buffer that starts `skip` bytes behind the current one. */
static pst_rc fill_record(struct fst_names *names, pst_op *op, struct run *run, size_t skip,
                          int *has)
{
    const size_t size = reader_bytes(names);
    pst_rc rc = fill_run(names, op, run, size, skip + HEAD_BYTES, has);

    if (rc == PST_OK && *has)
        rc = fill_run(names, op, run, size,
                      skip + HEAD_BYTES + record_len(run->buffer + run->here + skip), has);
    return rc;
}

static const char *head_of(const struct fst_names *names, size_t place)
{
    const struct run *run = &names->runs[names->heap[place]];

    return run->buffer + run->here;
}

static void sift_down(struct fst_names *names, size_t place)
{
    for (;;) {
        size_t child = 2 * place + 1;
        if (child >= names->n_heap)
            return;
        if (child + 1 < names->n_heap &&
            compare_from(head_of(names, child + 1), head_of(names, child), 0) < 0)
            child++;
        if (compare_from(head_of(names, place), head_of(names, child), 0) <= 0)
            return;
        size_t moving = names->heap[place];
        names->heap[place] = names->heap[child];
        names->heap[child] = moving;
        place = child;
    }
}

static pst_rc start_merge(struct fst_names *names, pst_op *op)
{
    const pst_host *host = names->backend->host;
    pst_rc rc = PST_OK;
    uint64_t at = 0;

    names->heap = host->alloc(host, names->n_runs * sizeof(*names->heap), 16);
    if (!names->heap)
        return fst_no_memory(op);
    names->n_heap = 0;
    for (size_t i = 0; i < names->n_runs && rc == PST_OK; i++) {
        struct run *run = &names->runs[i];
        int has = 0;
        run->at = at; /* from its start, also when an earlier try got further */
        at = run->end;
        run->n_bytes = run->here = 0;
        run->buffer = host->alloc(host, reader_bytes(names), 16);
        rc = run->buffer ? fill_record(names, op, run, 0, &has) : fst_no_memory(op);
        if (has)
            names->heap[names->n_heap++] = i;
    }
    if (rc != PST_OK) {
        free_runs(names);
        return rc;
    }
    for (size_t i = names->n_heap / 2; i-- > 0;)
        sift_down(names, i);
    return PST_OK;
}

pst_rc fst_names_sort(struct fst_names *names, pst_op *op)
{
    if (names->n_runs == 0)
        return sort_block(names, op);
    pst_rc rc = names->n > 0 ? write_run(names, op) : PST_OK;
    if (rc != PST_OK)
        return rc;
    if (names->block) { /* the readers' buffers come in its place */
        names->backend->host->dealloc(names->backend->host, names->block);
        names->block = NULL;
        names->capacity = 0;
    }
    return start_merge(names, op);
}

int fst_names_peek(const struct fst_names *names, struct fst_name *out)
{
    if (names->heap && names->n_heap > 0)
        decode(head_of(names, 0), out);
    else if (!names->heap && names->current < names->n)
        decode(names->block + index_of(names)[names->current], out);
    else
        return 0;
    return 1;
}

/* After a failure the current name is still the current one. */
pst_rc fst_names_next(struct fst_names *names, pst_op *op)
{
    if (!names->heap) {
        names->current++;
        return PST_OK;
    }
    struct run *run = &names->runs[names->heap[0]];
    size_t len = HEAD_BYTES + record_len(run->buffer + run->here);
    int has = 0;
    pst_rc rc = fill_record(names, op, run, len, &has);
    if (rc != PST_OK)
        return rc;
    if (has)
        run->here += len;
    else
        names->heap[0] = names->heap[--names->n_heap];
    sift_down(names, 0);
    return PST_OK;
}
