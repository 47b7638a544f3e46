/* decode_crew.c - a counter, some runners on the CPU pool, and the caller, who works too.
 *
 * Each takes the next piece, decompresses it where it belongs (or beside it, when only a part is wanted
 * or a span ends in it), and sums it while it is warm. The first failure, a fired token or the deadline
 * stops the taking; the caller then waits for the pieces that are being worked on. One piece is one call
 * of libzstd up to ONE_CALL_MAX and slices of the streaming decoder beyond, so that this wait is short.
 *
 * What one call refused is given to the streaming decoder as well: it tells where the data is wrong. */
#include "io/decode_crew.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "codec/decoder.h"
#include "codec/frame.h"
#include "codec/zstd_lib.h"
#include "core/error.h"
#include "util/crc32c.h"

#define ONE_CALL_MAX ((size_t)64 << 20)
#define SLICE_BYTES ((size_t)8 << 20)

struct crew {
    atomic_uint refs; /* the caller, each runner */
    struct pst_port *port;
    const struct pst_zstd *zstd;
    struct pst_decode_piece *pieces;
    size_t n_pieces;
    struct pst_decode_dst dst;
    atomic_int is_stopping;
    struct pst_gate gate;
    struct {
        size_t next, n_running;
        size_t failed_at; /* the piece that *error is of */
        pst_error error;
    } locked;
    struct pst_job jobs[];
};

uint32_t pst_decode_threads(const struct pst_port *port, size_t n_pieces)
{
    uint32_t cores = port->core->config.cpu_threads;
    return n_pieces < cores ? (uint32_t)n_pieces : cores;
}

/* ---- the destination --------------------------------------------------------------------------- */

/* The span that holds all `len` bytes at `*at`, which is then counted from its start; NULL where a span
 * ends before them. Looks at lengths only: the memory may still have to be made. */
static const pst_iov *span_of(const struct pst_decode_dst *dst, size_t *at, size_t len)
{
    for (size_t i = 0; i < dst->n_spans; i++) {
        if (*at < dst->spans[i].len)
            return len <= dst->spans[i].len - *at ? &dst->spans[i] : NULL;
        *at -= dst->spans[i].len;
    }
    return NULL;
}

int pst_decode_is_in_place(const struct pst_decode_piece *piece, const struct pst_decode_dst *dst)
{
    size_t at = piece->dst_at;
    return piece->take == piece->content_len &&
           (piece->take == 0 || span_of(dst, &at, piece->take) != NULL);
}

static void scatter(const struct pst_decode_dst *dst, size_t at, const char *from, size_t len)
{
    for (size_t i = 0; i < dst->n_spans && len > 0; i++) {
        size_t room = dst->spans[i].len;
        if (at >= room) {
            at -= room;
            continue;
        }
        size_t n = room - at < len ? room - at : len;
        memcpy((char *)dst->spans[i].ptr + at, from, n);
        from += n;
        len -= n;
        at = 0;
    }
}

pst_rc pst_decode_strike(const struct pst_limit *limit)
{
    if (pst_limit_is_fired(limit))
        return PST_E_CANCELLED;
    return limit->deadline_ns > 0 && pst_now_ns() >= limit->deadline_ns ? (pst_rc)PST_E_DEADLINE
                                                                        : (pst_rc)PST_OK;
}

/* ---- one piece --------------------------------------------------------------------------------- */

static pst_rc fail_length(const struct pst_decode_piece *piece, pst_error *err)
{
    return pst_fail(err, PST_E_DATA_LOSS,
                    "the zstd frame at offset %" PRIu64
                    " does not have the %zu bytes of content that were announced",
                    piece->stored_at, piece->content_len);
}

/* By the streaming decoder, looking up between slices. `limit` is NULL on a runner. */
static pst_rc decode_slices(const struct crew *crew, const struct pst_decode_piece *piece, char *to,
                            const struct pst_limit *limit, pst_error *err)
{
    struct pst_decoder *decoder = NULL;
    size_t at = 0, done = 0, n_in = 0, n_out = 0;
    char beyond;
    pst_rc rc = pst_decoder_new(&decoder, err);
    if (rc == PST_OK)
        pst_decoder_start_at(decoder, piece->stored_at);
    while (rc == PST_OK) {
        int is_full = done == piece->content_len;
        size_t room = piece->content_len - done < SLICE_BYTES ? piece->content_len - done
                                                              : SLICE_BYTES;
        if (atomic_load_explicit(&crew->is_stopping, memory_order_relaxed))
            rc = PST_E_CANCELLED; /* whoever stopped it says why */
        else if (limit)
            rc = pst_decode_strike(limit);
        if (rc != PST_OK)
            pst_fail(err, rc, "%s", pst_rc_text(rc));
        else
            rc = pst_decoder_run(decoder, piece->in + at, piece->in_len - at, &n_in,
                                 is_full ? &beyond : to + done, is_full ? 1 : room, &n_out, err);
        if (rc == PST_OK && is_full && n_out > 0)
            rc = fail_length(piece, err);
        if (rc != PST_OK || (n_in == 0 && n_out == 0))
            break;
        at += n_in;
        done += n_out;
    }
    if (rc == PST_OK)
        rc = pst_decoder_end(decoder, err);
    if (rc == PST_OK && done != piece->content_len)
        rc = fail_length(piece, err);
    pst_decoder_free(decoder);
    return rc;
}

static pst_rc decode_to(const struct crew *crew, struct ZSTD_DCtx_s *dctx,
                        const struct pst_decode_piece *piece, char *to,
                        const struct pst_limit *limit, pst_error *err)
{
    if (dctx && piece->content_len <= ONE_CALL_MAX && piece->in_len <= ONE_CALL_MAX &&
        pst_frame_is_start(piece->in, piece->in_len)) {
        size_t n = crew->zstd->decompress_dctx(dctx, to, piece->content_len, piece->in,
                                               piece->in_len);
        if (n == piece->content_len)
            return PST_OK;
    }
    return decode_slices(crew, piece, to, limit, err);
}

static pst_rc decode_piece(const struct crew *crew, struct ZSTD_DCtx_s *dctx,
                           struct pst_decode_piece *piece, const struct pst_limit *limit,
                           pst_error *err)
{
    pst_buffer *beside = NULL;
    char nothing, *to = &nothing;
    if (!pst_decode_is_in_place(piece, &crew->dst)) {
        beside = pst_buffer_new(crew->port->core->arenas, piece->content_len, 0);
        if (!beside)
            return pst_fail(err, PST_E_NO_MEMORY, "no memory to decompress %zu bytes",
                            piece->content_len);
        to = pst_buffer_bytes(beside);
    } else if (piece->take > 0) {
        size_t at = piece->dst_at;
        const pst_iov *span = span_of(&crew->dst, &at, piece->take);
        to = (char *)span->ptr + at;
    }
    pst_rc rc = decode_to(crew, dctx, piece, to, limit, err);
    if (rc == PST_OK && crew->dst.wants_crc32c)
        piece->crc32c = pst_crc32c(0, to + piece->skip, piece->take);
    if (rc == PST_OK && beside)
        scatter(&crew->dst, piece->dst_at, to + piece->skip, piece->take);
    pst_buffer_unref(beside);
    return rc;
}

/* ---- the crew ---------------------------------------------------------------------------------- */

static void unref(struct crew *crew)
{
    if (atomic_fetch_sub_explicit(&crew->refs, 1, memory_order_acq_rel) != 1)
        return;
    pst_gate_fini(&crew->gate);
    pst_port_unref(crew->port);
    free(crew);
}

static void unref_after(void *crew)
{
    unref(crew);
}

static void note_failure_locked(struct crew *crew, size_t at, const pst_error *error)
{
    atomic_store(&crew->is_stopping, 1);
    if (crew->locked.error.code != PST_OK && crew->locked.failed_at < at)
        return;
    if (error->code == PST_E_CANCELLED && crew->locked.error.code != PST_OK)
        return; /* stopped by the failure that is there */
    pst_error_copy(&crew->locked.error, error);
    crew->locked.failed_at = at;
}

/* Take and decompress one piece. Returns 0 when there is none to take. */
static int work(struct crew *crew, struct ZSTD_DCtx_s *dctx, const struct pst_limit *limit)
{
    pst_error error = PST_ERROR_INIT;
    pthread_mutex_lock(&crew->gate.mutex);
    size_t at = crew->locked.next;
    int is_over = at == crew->n_pieces || atomic_load(&crew->is_stopping);
    if (!is_over) {
        crew->locked.next++;
        crew->locked.n_running++;
    }
    pthread_mutex_unlock(&crew->gate.mutex);
    if (is_over)
        return 0;
    pst_rc rc = decode_piece(crew, dctx, &crew->pieces[at], limit, &error);
    error.code = rc;
    pthread_mutex_lock(&crew->gate.mutex);
    if (rc != PST_OK)
        note_failure_locked(crew, at, &error);
    crew->locked.n_running--;
    pthread_cond_signal(&crew->gate.changed);
    pthread_mutex_unlock(&crew->gate.mutex);
    return 1;
}

static void run(void *arg)
{
    struct crew *crew = arg;
    struct ZSTD_DCtx_s *dctx = pst_zstd_take_dctx(crew->zstd);
    while (work(crew, dctx, NULL))
        ;
    pst_zstd_give_dctx(crew->zstd, dctx);
}

static void send_runners(struct crew *crew, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        crew->jobs[i] = (struct pst_job){
            .fn = run, .arg = crew, .after = unref_after, .after_arg = crew};
        atomic_fetch_add_explicit(&crew->refs, 1, memory_order_relaxed);
        if (pst_pool_run(crew->port->core->cpu, &crew->port->core->cpu_share, &crew->jobs[i]) !=
            PST_OK) {
            atomic_fetch_sub_explicit(&crew->refs, 1, memory_order_relaxed); /* never the last */
            return; /* the caller does it alone */
        }
    }
}

/* Work until nothing is left to take, then wait for the others. */
static pst_rc work_and_wait(struct crew *crew, const struct pst_limit *limit, pst_error *err)
{
    static const struct pst_limit never = {0, NULL};
    struct ZSTD_DCtx_s *dctx = pst_zstd_take_dctx(crew->zstd);
    pst_rc why = PST_OK;
    while (why == PST_OK && work(crew, dctx, limit))
        why = pst_decode_strike(limit);
    pst_zstd_give_dctx(crew->zstd, dctx);
    pthread_mutex_lock(&crew->gate.mutex);
    while (crew->locked.n_running > 0) {
        if (why == PST_OK)
            why = pst_gate_sleep(&crew->gate, limit);
        else
            pst_gate_sleep(&crew->gate, &never);
        if (why != PST_OK)
            atomic_store(&crew->is_stopping, 1);
    }
    int is_whole = crew->locked.next == crew->n_pieces && crew->locked.error.code == PST_OK;
    if (why != PST_OK && !is_whole)
        pst_fail(err, why, "%s", pst_rc_text(why));
    else if (!is_whole)
        pst_error_copy(err, &crew->locked.error);
    pst_rc rc = is_whole ? (pst_rc)PST_OK : why != PST_OK ? why : crew->locked.error.code;
    crew->locked.next = crew->n_pieces; /* who starts only now finds nothing */
    pthread_mutex_unlock(&crew->gate.mutex);
    return rc;
}

pst_rc pst_decode_pieces(struct pst_port *port, struct pst_decode_piece *pieces, size_t n_pieces,
                         const struct pst_decode_dst *dst, const struct pst_limit *limit,
                         pst_error *err)
{
    const struct pst_zstd *zstd = NULL;
    const uint32_t n_threads = pst_decode_threads(port, n_pieces);
    pst_rc rc = pst_zstd_get(&zstd, err);
    if (rc != PST_OK || n_pieces == 0)
        return rc;
    struct crew *crew = calloc(1, sizeof(*crew) + n_threads * sizeof(crew->jobs[0]));
    if (!crew)
        return pst_fail(err, PST_E_NO_MEMORY, "no memory to decompress");
    atomic_init(&crew->refs, 1);
    crew->port = pst_port_ref(port);
    crew->zstd = zstd;
    crew->pieces = pieces;
    crew->n_pieces = n_pieces;
    crew->dst = *dst;
    crew->locked.error = (pst_error)PST_ERROR_INIT;
    pst_gate_init(&crew->gate);
    send_runners(crew, n_threads - 1);
    rc = work_and_wait(crew, limit, err);
    unref(crew);
    return rc;
}
