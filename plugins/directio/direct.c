/* direct.c - reading and writing objects past the page cache: the struct fst_data_ops of directio.
 *
 * A read sets O_DIRECT on the descriptor that was opened for it and runs a plan (plan.c, move.c).
 *
 * A write has two descriptors of the temporary file. Whole pages go through one with O_DIRECT, the
 * unaligned head and tail of a part through the other one and the page cache. So no padding is ever
 * written, nothing has to be cut off before the object is published, and parts may begin anywhere. The
 * two never meet: a page belongs to one of them, except where two parts share it, and then both use the
 * cache. Before a long part its blocks are allocated (fallocate): requests that extend a file wait for
 * each other, those inside it do not.
 *
 * Through the page cache altogether go requests shorter than min_io_size, everything with o_direct=off,
 * and what the file system refuses: opening with EINVAL, an alignment of 0 in statx, or EINVAL from the
 * first request. A file is then done again from its start. So does a write for which there is no second
 * descriptor: too many are open, or the umask forbids it. With o_direct=require both are an error.
 * Nothing is learned for the next file, which may lie on another disk. */
#include "dio.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <penstock/sync.h>

static struct dio_store *store_of(const pst_backend *b)
{
    return b->data_private;
}

/* What the file system asks for. 0, or -1 if it has no O_DIRECT for this file. */
static int find_alignment(const struct dio_store *d, int fd, struct dio_align *out)
{
    *out = (struct dio_align){.mem = d->page_bytes, .offset = d->page_bytes};
#ifdef STATX_DIOALIGN /* Linux 6.1 */
    struct statx st;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 && st.stx_mask & STATX_DIOALIGN) {
        if (st.stx_dio_offset_align == 0)
            return -1;
        out->is_reported = 1;
        out->mem = st.stx_dio_mem_align > 0 ? st.stx_dio_mem_align : 1;
        out->offset = st.stx_dio_offset_align;
    }
#endif
    if (d->alignment > 0)
        out->mem = out->offset = d->alignment;
    return out->mem <= DIO_ALIGN_MAX && out->offset <= DIO_ALIGN_MAX ? 0 : -1;
}

/* The file system refuses O_DIRECT. OK: go on without it. */
static pst_rc refuse(struct dio_store *d, pst_op *op, pst_str key)
{
    dio_miss(d, DIO_NO_DIRECT, EINVAL);
    if (d->direct != DIO_REQUIRE)
        return PST_OK;
    return fst_fail(
        d->tree, op, PST_E_UNIMPLEMENTED, key,
        "the file system refuses O_DIRECT, and o_direct=require forbids the page cache");
}

static int is_direct(const struct dio_store *d, uint64_t length)
{
    return d->direct != DIO_OFF && length > 0 && length >= d->min_io_bytes;
}

static pst_rc read_direct(const pst_backend *b, pst_op *op, const struct fst_read *r,
                          uint64_t *n_done)
{
    struct dio_store *d = store_of(b);
    struct dio_plan plan = {
        .place = {.iov = r->iov, .n_iov = r->n_iov},
        .pos = r->offset,
        .end = r->offset + r->length,
        .room_end = r->offset + r->room,
        .block_bytes = d->block_bytes,
    };
    pst_rc rc = PST_OK;

    if (!is_direct(d, r->length))
        return fst_buffered.read(b, op, r, n_done);
    /* Without O_NONBLOCK, which the tree opens with: a ring takes it for a wish not to wait. */
    if (find_alignment(d, r->fd, &plan.align) == 0 && fcntl(r->fd, F_SETFL, O_DIRECT) == 0) {
        if (dio_move(d, op, r->key, r->fd, 0, &plan, &rc, n_done) != DIO_REFUSED)
            return rc;
        fcntl(r->fd, F_SETFL, 0);
    }
    rc = refuse(d, op, r->key);
    return rc == PST_OK ? fst_buffered.read(b, op, r, n_done) : rc;
}

/* A second descriptor of the temporary file, with O_DIRECT. -1 and errno. */
static int open_twin(const struct fst_write *w)
{
    struct stat mine, twin;
    int fd = openat(w->parent.fd, w->temp,
                    O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW | w->backend->temp_flags);

    if (fd < 0)
        return -1;
    if (fstat(w->fd, &mine) == 0 && fstat(fd, &twin) == 0 && mine.st_ino == twin.st_ino &&
        mine.st_dev == twin.st_dev)
        return fd;
    close(fd); /* somebody has put another file in its place */
    errno = ESTALE;
    return -1;
}

/* The blocks of a long part, before its bytes. ENOSPC comes here rather than half way. */
static pst_rc allocate(const struct fst_write *w, pst_op *op, int fd, uint64_t offset,
                       uint64_t length)
{
    int rc;

    do {
        rc = fallocate(fd, 0, (off_t)offset, (off_t)length);
    } while (rc != 0 && errno == EINTR && !pst_sync_cancelled(op));
    if (rc != 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return fst_fail_errno(w->backend, op, errno, w->key, "allocate");
    return PST_OK; /* a file system that does not know it writes all the same */
}

/* Whole pages [from, end) of a write, whose spans begin at place. */
static enum dio_verdict write_pages(struct dio_store *d, const struct fst_write *w, pst_op *op,
                                    int fd, struct fst_place place, uint64_t from, uint64_t end,
                                    const struct dio_align *align, pst_rc *rc)
{
    const struct dio_plan plan = {
        .place = place,
        .pos = from,
        .end = end,
        .room_end = end,
        .align = *align,
        .block_bytes = d->block_bytes,
    };
    uint64_t n_bytes;

    *rc = PST_OK;
    if (align->is_reported && end - from > d->block_bytes)
        *rc = allocate(w, op, fd, from, end - from);
    return *rc == PST_OK ? dio_move(d, op, w->key, fd, 1, &plan, rc, &n_bytes) : DIO_FAILED;
}

/* `length` bytes at `offset` through the page cache; `place` moves on behind them. */
static pst_rc write_rest(const struct fst_write *w, pst_op *op, struct fst_place *place,
                         uint64_t length, uint64_t offset)
{
    if (length == 0)
        return PST_OK;
    pst_rc rc = fst_write_at(w->backend, op, w->key, w->fd, *place, length, offset);
    fst_place_advance(place, (size_t)length);
    return rc;
}

static pst_rc write_direct(const struct fst_write *w, pst_op *op, const pst_iov *iov, size_t n_iov,
                           uint64_t length, uint64_t offset)
{
    struct dio_store *d = store_of(w->backend);
    struct fst_place place = {.iov = iov, .n_iov = n_iov};
    struct dio_align align;
    enum dio_verdict verdict = DIO_REFUSED;
    uint64_t end = offset + length;
    pst_rc rc = PST_OK;

    if (!is_direct(d, length) || length < d->page_bytes)
        return fst_buffered.write(w, op, iov, n_iov, length, offset);
    int fd = open_twin(w);
    if (fd < 0 && errno != EINVAL) {
        const int failed = errno;
        if (d->direct == DIO_REQUIRE)
            return fst_fail_errno(d->tree, op, failed, w->key, "open with O_DIRECT");
        if (failed != EMFILE && failed != ENFILE && failed != ENOMEM) /* those will pass */
            dio_miss(d, DIO_NO_DIRECT, failed);
        return fst_buffered.write(w, op, iov, n_iov, length, offset);
    }
    if (fd >= 0 && find_alignment(d, fd, &align) == 0) {
        uint32_t unit = align.offset > d->page_bytes ? align.offset : d->page_bytes;
        uint64_t from = dio_up(offset, unit), to = dio_down(end, unit);
        if (from >= to) { /* not one whole page */
            close(fd);
            return fst_buffered.write(w, op, iov, n_iov, length, offset);
        }
        verdict = DIO_FAILED;
        rc = write_rest(w, op, &place, from - offset, offset);
        if (rc == PST_OK)
            verdict = write_pages(d, w, op, fd, place, from, to, &align, &rc);
        fst_place_advance(&place, (size_t)(to - from));
        if (verdict == DIO_DONE)
            rc = write_rest(w, op, &place, end - to, to);
    }
    if (fd >= 0)
        close(fd);
    if (verdict != DIO_REFUSED)
        return rc;
    rc = refuse(d, op, w->key);
    return rc == PST_OK ? fst_buffered.write(w, op, iov, n_iov, length, offset) : rc;
}

/* So that the store's note is true after a stat, before anything was read. */
static void look(const pst_backend *b, int fd)
{
    struct dio_store *d = store_of(b);
    struct dio_align align;

    if (d->direct == DIO_OFF || atomic_load(&d->missing) & DIO_NO_DIRECT)
        return;
    if (find_alignment(d, fd, &align) != 0 ||
        (fcntl(fd, F_SETFL, O_DIRECT) != 0 && errno == EINVAL))
        dio_miss(d, DIO_NO_DIRECT, EINVAL);
}

const struct fst_data_ops dio_direct = {.read = read_direct, .write = write_direct, .look = look};
