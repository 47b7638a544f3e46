/* io.c - moving bytes between the host's spans and a file, at absolute offsets.
 *
 * Always pread and pwrite: nothing depends on a file position, so parts may run side by side. Short
 * results and EINTR are continued, and between blocks of 8 MiB the operation asks whether anybody
 * still wants it: that keeps the promise of PST_CAP_CANCEL_BOUNDED. */
#include "file.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include <penstock/sync.h>

#define SPANS_PER_CALL 64
#define COPY_BUFFER (1u << 20)

/* The next spans of at most `max` bytes in all. Returns how many. */
static int gather(const struct fst_place *place, uint64_t max, struct iovec out[SPANS_PER_CALL])
{
    int n = 0;

    for (size_t i = 0; i < place->n_iov && n < SPANS_PER_CALL && max > 0; i++) {
        size_t skip = i == 0 ? place->skip : 0;
        size_t len = place->iov[i].len - skip;
        if (len == 0)
            continue;
        if (len > max)
            len = (size_t)max;
        out[n].iov_base = (char *)place->iov[i].ptr + skip;
        out[n].iov_len = len;
        max -= len;
        n++;
    }
    return n;
}

void fst_place_advance(struct fst_place *place, size_t done)
{
    while (place->n_iov > 0 && done >= place->iov[0].len - place->skip) {
        done -= place->iov[0].len - place->skip;
        place->iov++;
        place->n_iov--;
        place->skip = 0;
    }
    place->skip += done;
}

static pst_rc transfer(const pst_backend *b, pst_op *op, pst_str key, int fd, int is_write,
                       struct fst_place place, uint64_t length, uint64_t offset, uint64_t *n_done)
{
    struct iovec iov[SPANS_PER_CALL];

    *n_done = 0;
    while (*n_done < length) {
        if (*n_done > 0 && pst_sync_cancelled(op))
            return fst_cancelled(op);
        uint64_t left = length - *n_done;
        int n = gather(&place, left < FST_BLOCK ? left : FST_BLOCK, iov);
        off_t at = (off_t)(offset + *n_done);
        ssize_t got = is_write ? pwritev(fd, iov, n, at) : preadv(fd, iov, n, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fst_fail_errno(b, op, errno, key, is_write ? "write" : "read");
        if (got == 0 && is_write)
            return fst_fail_errno(b, op, EIO, key, "write");
        if (got == 0)
            break;
        *n_done += (uint64_t)got;
        fst_place_advance(&place, (size_t)got);
    }
    return PST_OK;
}

pst_rc fst_read_at(const pst_backend *b, pst_op *op, pst_str key, int fd, const pst_iov *iov,
                   size_t n_iov, uint64_t length, uint64_t offset, uint64_t *n_done)
{
    struct fst_place place = {.iov = iov, .n_iov = n_iov};

    return transfer(b, op, key, fd, 0, place, length, offset, n_done);
}

pst_rc fst_write_at(const pst_backend *b, pst_op *op, pst_str key, int fd, struct fst_place place,
                    uint64_t length, uint64_t offset)
{
    uint64_t n_done;

    return transfer(b, op, key, fd, 1, place, length, offset, &n_done);
}

static pst_rc read_buffered(const pst_backend *b, pst_op *op, const struct fst_read *r,
                            uint64_t *n_done)
{
    return fst_read_at(b, op, r->key, r->fd, r->iov, r->n_iov, r->length, r->offset, n_done);
}

static pst_rc write_buffered(const struct fst_write *w, pst_op *op, const pst_iov *iov,
                             size_t n_iov, uint64_t length, uint64_t offset)
{
    const struct fst_place place = {.iov = iov, .n_iov = n_iov};

    return fst_write_at(w->backend, op, w->key, w->fd, place, length, offset);
}

const struct fst_data_ops fst_buffered = {.read = read_buffered, .write = write_buffered};

uint64_t fst_iov_bytes(const pst_iov *iov, size_t n_iov)
{
    uint64_t total = 0;

    for (size_t i = 0; i < n_iov; i++) {
        if (iov[i].len > INT64_MAX - total)
            return UINT64_MAX;
        total += iov[i].len;
    }
    return total;
}

/* Through memory, where the kernel cannot copy by itself. */
static pst_rc copy_through_buffer(const pst_backend *b, pst_op *op, pst_str key, int from_fd,
                                  int to_fd, uint64_t at, uint64_t size)
{
    pst_rc rc = PST_OK;
    char *buffer = b->host->alloc(b->host, COPY_BUFFER, 4096);

    if (!buffer)
        return fst_no_memory(op);
    while (rc == PST_OK && at < size) {
        pst_iov iov = {.ptr = buffer,
                       .len = size - at < COPY_BUFFER ? (size_t)(size - at) : COPY_BUFFER};
        uint64_t got;
        rc = pst_sync_cancelled(op) ? fst_cancelled(op)
                                    : fst_read_at(b, op, key, from_fd, &iov, 1, iov.len, at, &got);
        if (rc == PST_OK && got == 0)
            rc = fst_fail(b, op, PST_E_CHANGED, key, "became shorter while it was copied");
        if (rc == PST_OK)
            rc = fst_write_at(b, op, key, to_fd, (struct fst_place){.iov = &iov, .n_iov = 1}, got,
                              at);
        if (rc == PST_OK)
            at += got;
    }
    b->host->dealloc(b->host, buffer);
    return rc;
}

pst_rc fst_copy_bytes(const pst_backend *b, pst_op *op, pst_str key, int from_fd, int to_fd,
                      uint64_t size)
{
    uint64_t done = 0;

    while (done < size) {
        if (pst_sync_cancelled(op))
            return fst_cancelled(op);
        loff_t from = (loff_t)done, to = (loff_t)done;
        size_t want = size - done < FST_BLOCK ? (size_t)(size - done) : FST_BLOCK;
        ssize_t got = copy_file_range(from_fd, &from, to_fd, &to, want, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
            return fst_fail_errno(b, op, errno, key, "copy");
        if (got <= 0) /* another file system, an old kernel, or the end: reading tells which */
            return copy_through_buffer(b, op, key, from_fd, to_fd, done, size);
        done += (uint64_t)got;
    }
    return PST_OK;
}
