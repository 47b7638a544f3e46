/* zstd_lib.h - libzstd, mapped when it is first needed, and the few things of it that are used.
 *
 * Only what has been stable since 1.4.0, declared here, so that no header of it is needed to build;
 * tests/unit/test_zstd_lib.c holds these lines to the real header. Layer codec/: from memory to memory. */
#ifndef PST_CODEC_ZSTD_LIB_H
#define PST_CODEC_ZSTD_LIB_H

#include <penstock/status.h>

/* The tags are those of zstd.h, so that the test can compare the types. */
struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

struct pst_zstd_in {
    const void *src;
    size_t size, pos;
};

struct pst_zstd_out {
    void *dst;
    size_t size, pos;
};

#define PST_ZSTD_C_LEVEL 100u
#define PST_ZSTD_C_CONTENT_SIZE 200u
#define PST_ZSTD_C_CHECKSUM 201u
#define PST_ZSTD_D_WINDOW_LOG_MAX 100u
#define PST_ZSTD_RESET_ALL 3u
#define PST_ZSTD_UNKNOWN ((unsigned long long)-1) /* content size: the frame does not tell */
#define PST_ZSTD_ERROR ((unsigned long long)-2)   /* ... is no frame, or its header is cut off */
#define PST_ZSTD_E_WINDOW 16u                     /* codes of get_error_code */
#define PST_ZSTD_E_CHECKSUM 22u
#define PST_ZSTD_E_NO_MEMORY 64u
#define PST_ZSTD_E_DST_TOO_SMALL 70u

#define PST_ZSTD_LEVEL_MAX 22

/* Each is ZSTD_<name> in camel case. */
struct pst_zstd {
    struct ZSTD_CCtx_s *(*create_cctx)(void);
    size_t (*free_cctx)(struct ZSTD_CCtx_s *);
    size_t (*cctx_set)(struct ZSTD_CCtx_s *, unsigned, int);
    size_t (*cctx_reset)(struct ZSTD_CCtx_s *, unsigned);
    size_t (*sizeof_cctx)(const struct ZSTD_CCtx_s *);
    size_t (*compress2)(struct ZSTD_CCtx_s *, void *, size_t, const void *, size_t);
    struct ZSTD_DCtx_s *(*create_dctx)(void);
    size_t (*free_dctx)(struct ZSTD_DCtx_s *);
    size_t (*dctx_set)(struct ZSTD_DCtx_s *, unsigned, int);
    size_t (*dctx_reset)(struct ZSTD_DCtx_s *, unsigned);
    size_t (*sizeof_dctx)(const struct ZSTD_DCtx_s *);
    size_t (*decompress_dctx)(struct ZSTD_DCtx_s *, void *, size_t, const void *, size_t);
    size_t (*decompress_stream)(struct ZSTD_DCtx_s *, struct pst_zstd_out *, struct pst_zstd_in *);
    unsigned long long (*content_size)(const void *, size_t);
    size_t (*frame_size)(const void *, size_t);
    unsigned (*is_error)(size_t);
    unsigned (*error_code)(size_t);
    const char *(*error_name)(size_t);
};

/* Map `library` and find everything in it. What is mapped stays.
 * Errors: UNIMPLEMENTED, naming the library and what is wrong with it. */
pst_rc pst_zstd_open(const char *library, struct pst_zstd *out, pst_error *err);

/* The same for libzstd.so.1, once for the process. Threads: any. Fork: any time.
 * Errors: UNIMPLEMENTED; NO_MEMORY. */
pst_rc pst_zstd_get(const struct pst_zstd **out, pst_error *err);

/* Contexts for compressing and decompressing are kept for the next one who needs one, while they are
 * small: making one costs as much as 64 KiB of data. Fresh ones have every parameter at its default.
 * NULL for lack of memory. */
struct ZSTD_CCtx_s *pst_zstd_take_cctx(const struct pst_zstd *zstd);
void pst_zstd_give_cctx(const struct pst_zstd *zstd, struct ZSTD_CCtx_s *cctx);
struct ZSTD_DCtx_s *pst_zstd_take_dctx(const struct pst_zstd *zstd);
void pst_zstd_give_dctx(const struct pst_zstd *zstd, struct ZSTD_DCtx_s *dctx);

#endif
