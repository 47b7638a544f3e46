/* zstd_lib.c - libzstd at run time.
 *
 * The library is mapped by the first who compresses or decompresses; a process that does neither never
 * loads it, and libpenstock does not need it to start. Threads that come at the same time each look the
 * symbols up, one table wins and stays for good; there is no lock, so a fork at any moment leaves the
 * child in order. A library that is missing is looked for again the next time.
 *
 * Contexts that are not in use stand in a few slots, taken and given back by one atomic exchange each.
 * What is larger than a context of level 3 is freed instead: level 22 needs 70 MiB. */
#include "codec/zstd_lib.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "util/load.h"

#define LIBRARY "libzstd.so.1"
#define KEEP_MAX_BYTES ((size_t)4 << 20)
enum { N_SLOTS = 16 };

#define SYMBOL(member, name)                                                                       \
    {                                                                                              \
        name, offsetof(struct pst_zstd, member)                                                    \
    }
static const struct {
    const char *name;
    size_t at;
} symbols[] = {
    SYMBOL(create_cctx, "ZSTD_createCCtx"),
    SYMBOL(free_cctx, "ZSTD_freeCCtx"),
    SYMBOL(cctx_set, "ZSTD_CCtx_setParameter"),
    SYMBOL(cctx_reset, "ZSTD_CCtx_reset"),
    SYMBOL(sizeof_cctx, "ZSTD_sizeof_CCtx"),
    SYMBOL(compress2, "ZSTD_compress2"),
    SYMBOL(create_dctx, "ZSTD_createDCtx"),
    SYMBOL(free_dctx, "ZSTD_freeDCtx"),
    SYMBOL(dctx_set, "ZSTD_DCtx_setParameter"),
    SYMBOL(dctx_reset, "ZSTD_DCtx_reset"),
    SYMBOL(sizeof_dctx, "ZSTD_sizeof_DCtx"),
    SYMBOL(decompress_dctx, "ZSTD_decompressDCtx"),
    SYMBOL(decompress_stream, "ZSTD_decompressStream"),
    SYMBOL(content_size, "ZSTD_getFrameContentSize"),
    SYMBOL(frame_size, "ZSTD_findFrameCompressedSize"),
    SYMBOL(is_error, "ZSTD_isError"),
    SYMBOL(error_code, "ZSTD_getErrorCode"),
    SYMBOL(error_name, "ZSTD_getErrorName"),
};

pst_rc pst_zstd_open(const char *library, struct pst_zstd *out, pst_error *err)
{
    static const struct pst_home home = {"ZSTD_freeCDict", "libzstd.so"};
    char why[400];
    void *handle = pst_load_library(library, RTLD_NOW | RTLD_LOCAL, &home, 1, why, sizeof(why));
    if (!handle)
        return pst_fail(err, PST_E_UNIMPLEMENTED, "zstd needs %s, which cannot be loaded: %s",
                        library, why);
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *symbol = dlsym(handle, symbols[i].name);
        if (!symbol) {
            dlclose(handle);
            return pst_fail(err, PST_E_UNIMPLEMENTED, "zstd needs %s 1.4 or later: it has no %s",
                            library, symbols[i].name);
        }
        /* ISO C has no cast from object to function pointer. */
        memcpy((char *)out + symbols[i].at, &symbol, sizeof(symbol));
    }
    return PST_OK;
}

pst_rc pst_zstd_get(const struct pst_zstd **out, pst_error *err)
{
    static _Atomic(struct pst_zstd *) found;
    struct pst_zstd *zstd = atomic_load_explicit(&found, memory_order_acquire);
    struct pst_zstd *other = NULL;
    pst_rc rc = PST_OK;

    if (!zstd) {
        zstd = calloc(1, sizeof(*zstd));
        rc = zstd ? pst_zstd_open(LIBRARY, zstd, err)
                  : pst_fail(err, PST_E_NO_MEMORY, "no memory to load %s", LIBRARY);
        if (rc != PST_OK) {
            free(zstd);
            return rc;
        }
        if (!atomic_compare_exchange_strong(&found, &other, zstd)) {
            free(zstd);
            zstd = other;
        }
    }
    *out = zstd;
    return PST_OK;
}

/* ---- contexts ---------------------------------------------------------------------------------- */

static void *take(_Atomic(void *) *slots)
{
    for (unsigned i = 0; i < N_SLOTS; i++) {
        if (atomic_load_explicit(&slots[i], memory_order_relaxed)) {
            void *context = atomic_exchange(&slots[i], NULL);
            if (context)
                return context;
        }
    }
    return NULL;
}

/* Returns 0 when all slots are full. */
static int keep(_Atomic(void *) *slots, void *context)
{
    for (unsigned i = 0; i < N_SLOTS; i++) {
        void *empty = NULL;
        if (atomic_compare_exchange_strong(&slots[i], &empty, context))
            return 1;
    }
    return 0;
}

static _Atomic(void *) idle_cctx[N_SLOTS], idle_dctx[N_SLOTS];

struct ZSTD_CCtx_s *pst_zstd_take_cctx(const struct pst_zstd *zstd)
{
    void *cctx = take(idle_cctx);
    return cctx ? cctx : zstd->create_cctx();
}

void pst_zstd_give_cctx(const struct pst_zstd *zstd, struct ZSTD_CCtx_s *cctx)
{
    if (!cctx)
        return;
    zstd->cctx_reset(cctx, PST_ZSTD_RESET_ALL);
    if (zstd->sizeof_cctx(cctx) > KEEP_MAX_BYTES || !keep(idle_cctx, cctx))
        zstd->free_cctx(cctx);
}

struct ZSTD_DCtx_s *pst_zstd_take_dctx(const struct pst_zstd *zstd)
{
    void *dctx = take(idle_dctx);
    return dctx ? dctx : zstd->create_dctx();
}

void pst_zstd_give_dctx(const struct pst_zstd *zstd, struct ZSTD_DCtx_s *dctx)
{
    if (!dctx)
        return;
    zstd->dctx_reset(dctx, PST_ZSTD_RESET_ALL);
    if (zstd->sizeof_dctx(dctx) > KEEP_MAX_BYTES || !keep(idle_dctx, dctx))
        zstd->free_dctx(dctx);
}
