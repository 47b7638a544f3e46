/* object.h - read, write, stat, copy and delete objects, one blocking call each.
 *
 * Common to all: `store` may be shared by threads, `call` may be NULL, `err` may be NULL, a call
 * made in a child after fork() reopens the store by itself. Failures that are transient are retried
 * with back-off where repeating is safe. Beside the errors named, every call may return CANCELLED,
 * DEADLINE, NO_MEMORY, DENIED, UNAUTHENTICATED, THROTTLED, UNAVAILABLE, IO and INVALID (a key that
 * the backend cannot hold, refused before any I/O). */
#ifndef PENSTOCK_OBJECT_H
#define PENSTOCK_OBJECT_H

#include <penstock/buffer.h>
#include <penstock/store.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PST_READ_EXACT 1u          /* a range cut short by the object's end is RANGE */
#define PST_READ_ALLOW_UNPINNED 2u /* read weakly versioned objects in parallel all the same */
#define PST_READ_CRC32C 4u         /* tell info->crc32c, computed while the bytes are in cache */
#define PST_READ_VERIFY 8u         /* compare with the checksum that the store keeps, if it does */
#define PST_READ_EXPECT_CRC32C 16u /* compare with expected_crc32c; else DATA_LOSS, naming both */
#define PST_DECODE_NEVER 0u        /* the bytes as they are stored */
#define PST_DECODE_BY_NAME 1u      /* decompress where pst_key_is_zstd says so */
#define PST_DECODE_ZSTD 2u         /* decompress; DATA_LOSS, naming the offset, if it is no zstd */
#define PST_HEDGE_AUTO UINT32_MAX  /* after three times the median of the ranges so far */
#define PST_READ_PART_MIN 4096ull  /* bounds of part_bytes where it is given ... */
#define PST_READ_PART_MAX (1ull << 30)
#define PST_READ_IN_FLIGHT_MAX 64u /* ... and of max_in_flight */
typedef struct pst_read_options {
    uint32_t struct_size, flags;
    pst_str if_match;         /* an etag; else PRECONDITION */
    pst_str version;          /* one of the versions that the store keeps; empty: the latest */
    uint64_t part_bytes;      /* length of the ranges after the first; 0: 1 to 16 MiB, adapted */
    uint32_t max_in_flight;   /* ranges at once; 0: 1 to 64, adapted */
    uint32_t hedge_after_ms;  /* ask a second time for a range that takes longer; 0: never. At most
                               * one in ten of a store's requests is such a second one */
    uint32_t expected_crc32c; /* with PST_READ_EXPECT_CRC32C; of what is delivered */
    uint32_t decode;          /* PST_DECODE_* */
} pst_read_options;

/* What a read learned about the object beside its bytes. */
typedef struct pst_read_info {
    uint32_t struct_size, etag_strength;
    uint64_t object_size; /* as stored */
    char etag[1104];      /* NUL-terminated */
    uint64_t n_read;      /* bytes delivered */
    uint64_t elapsed_ns;
    uint64_t part_bytes;    /* of the longest range */
    uint32_t n_ranges;      /* requests that succeeded */
    uint32_t max_in_flight; /* most at once */
    uint32_t n_retries, n_hedges, n_hedges_won;
    uint32_t has_crc32c, crc32c; /* of the bytes delivered, in host byte order */
    uint32_t is_verified;        /* PST_READ_VERIFY found a checksum of the store, and it agrees */
} pst_read_info;

/* Does the key end in ".zst", after a name? That is all that PST_DECODE_BY_NAME looks at. Writing never
 * looks at it: an object that is compressed is stored under the key that was given. */
PST_API int pst_key_is_zstd(pst_str key);

/* Read a whole object. The first reply tells the size, the rest comes in parallel ranges into the
 * same buffer, pinned to the first reply's etag.
 * Ownership: pst_buffer_unref(*out). `info` may be NULL.
 * Errors: NOT_FOUND; CHANGED when the object was replaced meanwhile; OVER_BUDGET, naming both
 * sizes, when it can never fit the memory budget; with options->decode DATA_LOSS, naming the offset,
 * and UNIMPLEMENTED, naming the library, where libzstd is missing. */
PST_API PST_NODISCARD pst_rc pst_get(pst_store *store, pst_str key, const pst_read_options *options,
                                     const pst_call *call, pst_buffer **out, pst_read_info *info,
                                     pst_error *err);

/* Read `length` bytes at `offset` (PST_UNKNOWN: to the end). As pread: cut short only at the end of
 * the object, empty at or beyond it, length 0 reads nothing. With options->decode all of this is about
 * the content, here and in the calls below, by way of the object's seek table (docs/compression.md).
 * Errors: as pst_get; UNIMPLEMENTED for a decoded range of an object without one. */
PST_API PST_NODISCARD pst_rc pst_get_range(pst_store *store, pst_str key, uint64_t offset,
                                           uint64_t length, const pst_read_options *options,
                                           const pst_call *call, pst_buffer **out,
                                           pst_read_info *info, pst_error *err);

/* Read the last `length` bytes, all of a shorter object (with PST_READ_EXACT: RANGE). For more than a
 * first read, and on a store that cannot read suffixes, its size is asked for first.
 * Errors: as pst_get; CHANGED also when the object had another size by then. */
PST_API PST_NODISCARD pst_rc pst_get_suffix(pst_store *store, pst_str key, uint64_t length,
                                            const pst_read_options *options, const pst_call *call,
                                            pst_buffer **out, pst_read_info *info, pst_error *err);

/* Read up to `capacity` bytes at `offset` into memory of the caller; *n_read tells how many.
 * When this returns, with an error too, nothing writes to `dst` any more. */
PST_API PST_NODISCARD pst_rc pst_get_into(pst_store *store, pst_str key, uint64_t offset, void *dst,
                                          size_t capacity, const pst_read_options *options,
                                          const pst_call *call, size_t *n_read, pst_read_info *info,
                                          pst_error *err);

/* The same into several spans, filled in their order. */
PST_API PST_NODISCARD pst_rc pst_get_into_iov(pst_store *store, pst_str key, uint64_t offset,
                                              const pst_iov *dst, size_t n_dst,
                                              const pst_read_options *options, const pst_call *call,
                                              size_t *n_read, pst_read_info *info, pst_error *err);

/* pst_get and pst_get_range that compare the CRC-32C of the bytes delivered with `checksum`:
 * "crc32c:e3069283", or just the digits; when it is empty, as PST_READ_VERIFY does.
 * Errors: DATA_LOSS naming the checksum wanted and the one found; INVALID for other texts. */
PST_API PST_NODISCARD pst_rc pst_get_with_validation(pst_store *store, pst_str key,
                                                     pst_str checksum,
                                                     const pst_read_options *options,
                                                     const pst_call *call, pst_buffer **out,
                                                     pst_read_info *info, pst_error *err);
PST_API PST_NODISCARD pst_rc pst_get_range_with_validation(pst_store *store, pst_str key,
                                                           uint64_t offset, uint64_t length,
                                                           pst_str checksum,
                                                           const pst_read_options *options,
                                                           const pst_call *call, pst_buffer **out,
                                                           pst_read_info *info, pst_error *err);

/* A condition is kept or refused, never dropped: where the store cannot hold it for an object in parts,
 * one request carries the whole object, and what does not fit is refused before a byte is sent. */
#define PST_WRITE_CREATE_ONLY 1u /* EXISTS when the key is there */
typedef struct pst_write_options {
    uint32_t struct_size, flags;
    uint64_t size_hint;        /* writer: bytes it will be given; 0 or PST_UNKNOWN if not known */
    uint64_t part_bytes;       /* writer: 0: from the store's limits, the hint and the budget */
    pst_str if_match;          /* replace only this content; else PRECONDITION */
    const pst_attr *attr;      /* content type, encoding, user metadata, tags...; NULL for none */
    uint32_t sums;             /* 1 << PST_SUM_*: compute and hand to the store */
    uint32_t max_in_flight;    /* writer: parts on their way at once; 0: 4 */
    int32_t zstd_level;        /* 1 to 22 compresses, 0 does not; anything else is INVALID */
    uint32_t zstd_workers;     /* frames compressed side by side; 0: the context's cpu_threads */
    uint64_t zstd_frame_bytes; /* of input in one frame, 64 KiB to 1 GiB; 0: 4 MiB */
} pst_write_options;

typedef struct pst_write_result {
    uint32_t struct_size, etag_strength;
    uint64_t size;    /* bytes that the store holds */
    uint32_t n_parts; /* 0: one put */
    uint32_t has_crc32c;
    uint32_t crc32c; /* of the bytes written, host byte order */
    uint32_t reserved0;
    char etag[1104];
    char version[1104];
    uint64_t bytes_written; /* as the application gave them; `size` is what is stored */
    double ratio;           /* bytes_written / size; 1 for an empty object */
    char checksum[24];      /* "crc32c:e3069283" of the bytes written, "" if none was asked for */
} pst_write_result;

/* Write a whole object from `src`; readers see the old one or the new one, never a part.
 * Ownership: `src` is read until this returns. `result` may be NULL.
 * Errors: EXISTS, PRECONDITION, NO_SPACE; one with PST_ERR_MAYBE_APPLIED in err->flags when the
 * reply was lost and the store could not tell. */
PST_API PST_NODISCARD pst_rc pst_put(pst_store *store, pst_str key, const pst_iov *src,
                                     size_t n_src, const pst_write_options *options,
                                     const pst_call *call, pst_write_result *result,
                                     pst_error *err);

#define PST_LOOK_SUMS 1u /* also checksums that cost the store an effort, those of parts included */
typedef struct pst_stat_options {
    uint32_t struct_size, flags;
    pst_str version; /* empty: the latest */
} pst_stat_options;

/* Read the attributes; `options` may be NULL. Ownership: pst_attr_free(*out). Errors: NOT_FOUND. */
PST_API PST_NODISCARD pst_rc pst_stat(pst_store *store, pst_str key,
                                      const pst_stat_options *options, const pst_call *call,
                                      pst_attr **out, pst_error *err);
PST_API void pst_attr_free(pst_attr *attr);

/* Tell in *exists (0 or 1) whether there is an object; any other failure is an error. */
PST_API PST_NODISCARD pst_rc pst_exists(pst_store *store, pst_str key, const pst_call *call,
                                        int *exists, pst_error *err);

typedef struct pst_delete_options {
    uint32_t struct_size, flags;
    pst_str if_match; /* only this content; else PRECONDITION */
    pst_str version;  /* this version for good; empty: the key, where old versions may stay */
} pst_delete_options;

/* Delete exactly this key; a key that is not there is OK. `options` may be NULL. */
PST_API PST_NODISCARD pst_rc pst_delete(pst_store *store, pst_str key,
                                        const pst_delete_options *options, const pst_call *call,
                                        pst_error *err);

/* Delete many keys in batches; `versions` has one for each key, which may be empty, or is NULL.
 * `statuses` (n_keys) gets a code for each; returns the first failure, with the number of failures in
 * the message. */
PST_API PST_NODISCARD pst_rc pst_delete_many(pst_store *store, const pst_str *keys,
                                             const pst_str *versions, size_t n_keys,
                                             const pst_call *call, pst_rc *statuses,
                                             pst_error *err);

/* Delete every object whose key starts with `prefix`, byte by byte ("foo" also matches "foobar").
 * *n_deleted counts, also after a failure. INVALID for an empty prefix. */
PST_API PST_NODISCARD pst_rc pst_delete_prefix(pst_store *store, pst_str prefix,
                                               const pst_call *call, uint64_t *n_deleted,
                                               pst_error *err);

typedef struct pst_copy_options {
    uint32_t struct_size, flags; /* PST_WRITE_CREATE_ONLY, of the target */
    pst_str if_match;            /* replace only this content of the target; else PRECONDITION */
    pst_str from_if_match;       /* copy only this content of the source; else PRECONDITION */
    pst_str from_version;        /* a version of the source; empty: the latest */
    const pst_attr *attr;        /* the target's attributes; NULL keeps the source's */
    void *reserved0;
} pst_copy_options;

/* Copy by the store's own means, within one store or from one that differs from it in its authority
 * alone (same plugin, same options). `options` and `result` may be NULL.
 * Errors: NOT_FOUND, EXISTS, PRECONDITION; UNIMPLEMENTED where it cannot: read and write instead. */
PST_API PST_NODISCARD pst_rc pst_copy(pst_store *from_store, pst_str from, pst_store *to_store,
                                      pst_str to, const pst_copy_options *options,
                                      const pst_call *call, pst_write_result *result,
                                      pst_error *err);

/* Rename in one step, as the store can. Errors: UNIMPLEMENTED where it cannot: copy and delete. */
PST_API PST_NODISCARD pst_rc pst_rename(pst_store *store, pst_str from, pst_str to,
                                        const pst_copy_options *options, const pst_call *call,
                                        pst_error *err);

/* Create or delete a container: a bucket, or on file:// the directory `name`. An empty name stands
 * for the store's authority. Errors: EXISTS, NOT_FOUND, PRECONDITION (not empty), UNIMPLEMENTED. */
PST_API PST_NODISCARD pst_rc pst_container_create(pst_store *store, pst_str name,
                                                  const pst_call *call, pst_error *err);
PST_API PST_NODISCARD pst_rc pst_container_delete(pst_store *store, pst_str name,
                                                  const pst_call *call, pst_error *err);

/* Make a URL that grants `method` on `key` for a while. Ownership: free(*url). */
PST_API PST_NODISCARD pst_rc pst_presign(pst_store *store, pst_str key, pst_str method,
                                         uint64_t expires_s, const pst_call *call, char **url,
                                         pst_error *err);

#define PST_CLEAN_DRY_RUN 1u
/* Remove what writers that died left below `prefix` and that is older than `older_than_s` seconds:
 * temporary files, unfinished uploads. Counts what was (with DRY_RUN: would be) removed. */
PST_API PST_NODISCARD pst_rc pst_cleanup(pst_store *store, pst_str prefix, uint64_t older_than_s,
                                         uint32_t flags, const pst_call *call, uint64_t *n_removed,
                                         uint64_t *n_bytes, pst_error *err);

#ifdef __cplusplus
}
#endif
#endif
