/* base.h - values that both sides of the plugin ABI share: strings, vectors, sums, versions. */
#ifndef PENSTOCK_BASE_H
#define PENSTOCK_BASE_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define PST_EXPORT __declspec(dllexport)
#define PST_API
#define PST_NODISCARD
#else
#define PST_EXPORT __attribute__((visibility("default")))
#define PST_API __attribute__((visibility("default")))
#define PST_NODISCARD __attribute__((warn_unused_result))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Is member `f` inside what the owner of `*p` allocated? Every struct that may grow starts with
 * `struct_size`: the sizeof its OWNER compiled. Readers and fillers touch a member only where this
 * holds, never change struct_size and never assign or clear a whole struct of the other side. */
#define PST_HAS(T, p, f) ((p)->struct_size >= offsetof(T, f) + sizeof((p)->f))

/* Bytes, not NUL-terminated. Empty is {NULL or anything, 0}. Keys are bytes, other text is UTF-8. */
typedef struct pst_str {
    const char *ptr;
    size_t len;
} pst_str;

/* Make a pst_str of a string literal. */
#define PST_STR(literal) (pst_str_of((literal), sizeof(literal) - 1))

static inline pst_str pst_str_of(const char *ptr, size_t len)
{
    pst_str s;
    s.ptr = ptr;
    s.len = len;
    return s;
}

/* One span of memory; the same layout as struct iovec. */
typedef struct pst_iov {
    void *ptr;
    size_t len;
} pst_iov;

typedef struct pst_kv {
    pst_str key, value;
} pst_kv;

/* Where the value of an option comes from. */
#define PST_SOURCE_DEFAULT 0u
#define PST_SOURCE_FILE 1u
#define PST_SOURCE_ENVIRONMENT 2u
#define PST_SOURCE_EXPLICIT 3u

/* A checksum. `bytes` is big-endian as providers print it: CRC-32C of "123456789" is e3 06 92 83. */
#define PST_SUM_CRC32C 1u    /* 4 bytes, Castagnoli (RFC 3720, appendix B.4) */
#define PST_SUM_CRC64NVME 2u /* 8 bytes */
#define PST_SUM_SHA256 3u    /* 32 bytes */
#define PST_SUM_MD5 4u       /* 16 bytes */
#define PST_SCOPE_OBJECT 0u  /* the sum covers the whole object */
#define PST_SCOPE_RANGE 1u   /* ... or `size` bytes at `offset` of it */
typedef struct pst_sum {
    uint32_t algorithm; /* PST_SUM_* */
    uint32_t scope;     /* PST_SCOPE_* */
    uint32_t length;    /* bytes used in `bytes` */
    uint32_t reserved0;
    uint8_t bytes[32];
    uint64_t offset, size; /* with PST_SCOPE_RANGE */
} pst_sum;

/* How far an etag can be trusted to name one exact content. */
#define PST_ETAG_NONE 0u   /* the store gave none */
#define PST_ETAG_WEAK 1u   /* equal etags may cover different bytes; never sent as If-Match */
#define PST_ETAG_STRONG 2u /* equal etags mean equal bytes */

#define PST_UNKNOWN UINT64_MAX     /* a size or length that is not known */
#define PST_TIME_UNKNOWN INT64_MIN /* a time that is not known */

/* Attributes of an object. As output: what stat and list saw. As input (put, copy, upload): the
 * text fields and user_meta, the rest is ignored; what a store cannot keep it refuses with INVALID. An
 * empty string is "not set". */
#define PST_KIND_OBJECT 0u
#define PST_KIND_PREFIX 1u /* a common prefix; on file:// a directory */
typedef struct pst_attr {
    uint32_t struct_size;
    uint32_t kind;          /* PST_KIND_* */
    uint64_t size;          /* bytes as stored */
    int64_t mtime_ns;       /* last modified, nanoseconds since 1970 UTC, or PST_TIME_UNKNOWN */
    uint32_t etag_strength; /* PST_ETAG_* */
    uint32_t n_sums;
    const pst_sum *sums; /* over the stored bytes, scope OBJECT */
    size_t sum_stride;   /* bytes from one element of `sums` to the next */
    pst_str etag;        /* names this content; opaque, at most 1,100 bytes; fits if_match */
    pst_str version;     /* the provider's version id where it keeps old versions */
    pst_str content_type, content_encoding, content_language, content_disposition, cache_control;
    pst_str storage_class;
    const pst_kv *user_meta;
    size_t n_user_meta;
    const pst_kv *tags; /* input; as output only where they come with the rest */
    size_t n_tags;
} pst_attr;

#define PST_ENTRY_LATEST 1u        /* what a read without a version gets */
#define PST_ENTRY_DELETE_MARKER 2u /* no content: the key was deleted here */
/* One line of a listing. Grows at its end: arrays of it carry a stride. */
typedef struct pst_entry {
    pst_str key; /* the whole key; a common prefix ends in '/' */
    uint64_t size;
    int64_t mtime_ns;
    uint32_t kind, etag_strength; /* PST_KIND_*, PST_ETAG_* */
    pst_str etag, version, content_encoding, storage_class;
    uint32_t flags, reserved0; /* PST_ENTRY_*, of a listing of versions */
} pst_entry;

#ifdef __cplusplus
}
#endif
#endif
