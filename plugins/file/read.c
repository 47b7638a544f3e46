/* read.c - the exact bytes of one version of an object, or an error.
 *
 * open, fstat, ask for memory, pread, fstat, close: nothing more, since ten thousand small objects pay
 * for every call. The second fstat on the same descriptor is what makes a read exact: a writer that
 * renames a new file over this one does not disturb us (our descriptor keeps the old file), one that
 * writes into the file in place moves its size, mtime or ctime, and the read fails with CHANGED.
 *
 * A blocking plugin never waits for memory: when host->dst answers PST_LATER, close and return it.
 * This function then runs again from its start. */
#include "file.h"

#include <errno.h>
#include <unistd.h>

/* Where the bytes go: the caller's spans, or what the host grants now that the size is known. */
static pst_rc find_dst(const pst_backend *b, pst_op *op, const pst_read_args *args,
                       const pst_read_result *known, struct fst_read *r)
{
    if (PST_HAS(pst_read_args, args, n_dst) && args->n_dst > 0) {
        r->iov = args->dst;
        r->n_iov = args->n_dst;
        r->room = r->length; /* the rest of it is not ours to touch */
    } else {
        pst_dst_grant grant = {.struct_size = sizeof(grant)};
        const pst_dst_args ask = {
            .struct_size = sizeof(ask),
            .length = r->length,
            .capacity = (r->length + b->io_align - 1) / b->io_align * b->io_align,
            .object_size = known->object_size,
            .etag_strength = known->etag_strength,
            .etag = known->etag,
        };
        pst_rc rc = op->host->dst(op->host, op, &ask, &grant);
        if (rc != PST_OK)
            return rc; /* LATER, or why there is no memory: the host has filled op->err */
        r->iov = grant.dst;
        r->n_iov = grant.n_dst;
        r->room = ask.capacity;
    }
    if (fst_iov_bytes(r->iov, r->n_iov) < r->room)
        return fst_fail(b, op, PST_E_INTERNAL, args->key, "the destination is too small");
    return PST_OK;
}

pst_rc fst_read(pst_backend *b, pst_op *op, const pst_read_args *args, pst_read_result *result)
{
    struct fst_read r = {.key = args->key, .fd = -1, .offset = args->offset};
    struct stat before, after;
    uint64_t size, n_read = 0;
    pst_rc rc = fst_key_check(b, op, args->key);

    if (rc != PST_OK)
        return rc;
    if (args->version.len > 0)
        return fst_fail(b, op, PST_E_UNIMPLEMENTED, args->key,
                        "a file system keeps no old versions");
    char *etag = op->host->op_alloc(op->host, op, FST_ETAG_SIZE);
    if (!etag)
        return fst_no_memory(op);
    rc = fst_object_open(b, op, args->key, &r.fd, &before);
    if (rc != PST_OK)
        return rc;
    rc = fst_match_check(b, op, args->key, &before, args->if_match);
    if (rc == PST_OK)
        rc = fst_empty_check(b, op, args->key, r.fd, &before);
    if (rc != PST_OK)
        goto out;

    size = (uint64_t)before.st_size;
    if (args->flags & PST_READ_SUFFIX)
        r.offset = args->length < size ? size - args->length : 0;
    r.length = r.offset < size ? size - r.offset : 0;
    if (r.length > args->length)
        r.length = args->length;

    result->object_size = size;
    result->etag_strength = PST_ETAG_STRONG;
    result->etag = fst_etag(&before, etag);
    if (r.length > 0) {
        rc = find_dst(b, op, args, result, &r);
        if (rc == PST_OK)
            rc = b->data->read(b, op, &r, &n_read);
        if (rc == PST_OK && fstat(r.fd, &after) != 0)
            rc = fst_fail_errno(b, op, errno, args->key, "fstat");
        else if (rc == PST_OK && (n_read != r.length || !fst_is_unchanged(&before, &after)))
            rc = fst_fail(b, op, PST_E_CHANGED, args->key, "was changed while it was read");
    }
    /* Sums cover the whole object: only a reply that begins it is asked about them. */
    if (rc == PST_OK && (args->flags & PST_READ_SUMS) && r.offset == 0) {
        rc = fst_sums_give(op, r.fd, &before, &result->sums, &result->n_sums);
        result->sum_stride = sizeof(pst_sum);
    }
    if (rc == PST_OK)
        result->n_read = n_read;
out:
    close(r.fd);
    return rc;
}
