/* read_into.c - the blocking reads into memory of the caller.
 *
 * They return only when nothing writes there any more. Where the plugin cannot promise to end soon after
 * a cancel (no PST_CAP_CANCEL_BOUNDED), it never sees that memory: the bytes arrive piece by piece in
 * buffers of ours and are copied here, by the caller's own thread. Every piece must be of the first
 * one's version; what cannot be pinned comes in one piece, as the range engine would read it. */
#include <string.h>

#include "core/error.h"
#include "io/decode.h"
#include "io/read.h"

#define BOUNCE_BYTES ((uint64_t)8 << 20)

struct into {
    const pst_iov *dst;
    size_t n_dst, capacity, n_read;
    pst_read_info *info;
};

static pst_rc read_direct(struct pst_get_spec *spec, const pst_call *call,
                          const struct pst_limit *limit, struct into *into, pst_error *err)
{
    struct pst_get *get = NULL;
    spec->length = into->capacity;
    pst_rc rc = pst_read_run(spec, call, limit, &get, err);
    if (rc != PST_OK)
        return rc;
    into->n_read = (size_t)pst_get_outcome_of(get)->n_read;
    pst_get_fill_info(pst_get_outcome_of(get), into->info);
    pst_get_unref(get);
    return PST_OK;
}

/* ---- through buffers of ours ------------------------------------------------------------------- */

/* What the pieces have told so far. */
struct sum_up {
    struct pst_get_outcome all; /* its etag is kept in `etag` */
    struct pst_claims *claims;  /* with PST_READ_VERIFY; fed with what is copied */
    char etag[1104];
};

static void copy_to(const pst_iov *dst, size_t at, const char *from, size_t len)
{
    for (; len > 0; dst++) {
        if (at >= dst->len) {
            at -= dst->len;
            continue;
        }
        size_t n = dst->len - at < len ? dst->len - at : len;
        memcpy((char *)dst->ptr + at, from, n);
        from += n;
        len -= n;
        at = 0;
    }
}

static pst_rc check_pin(struct sum_up *sum, const struct pst_get_outcome *piece, int is_first,
                        const struct pst_get_spec *spec, pst_error *err)
{
    pst_error cause = PST_ERROR_INIT;
    struct pst_get_outcome *all = &sum->all;
    if (is_first) {
        memset(all, 0, sizeof(*all));
        memcpy(sum->etag, piece->etag.ptr ? piece->etag.ptr : "", piece->etag.len);
        all->etag = pst_str_of(sum->etag, piece->etag.len);
        all->object_size = piece->object_size;
        all->etag_strength = piece->etag_strength;
        all->is_verified = 1; /* until one is not */
        return PST_OK;
    }
    if (piece->object_size == all->object_size && piece->etag.len == all->etag.len &&
        memcmp(sum->etag, piece->etag.ptr ? piece->etag.ptr : "", all->etag.len) == 0)
        return PST_OK;
    pst_fail(&cause, PST_E_CHANGED, "the object changed while it was read");
    return pst_fail_at(spec->port, "GET", spec->key, PST_E_CHANGED, &cause, err);
}

static void add_piece(struct pst_get_outcome *all, const struct pst_get_outcome *piece)
{
    all->n_read += piece->n_read;
    all->elapsed_ns += piece->elapsed_ns;
    all->n_ranges += piece->n_ranges;
    all->n_retries += piece->n_retries;
    all->n_hedges += piece->n_hedges;
    all->n_hedges_won += piece->n_hedges_won;
    all->has_crc32c = piece->has_crc32c;
    all->crc32c = pst_crc32c_combine(all->crc32c, piece->crc32c, piece->n_read);
    all->is_verified &= piece->is_verified;
    if (piece->n_read > all->part_bytes)
        all->part_bytes = piece->n_read;
    if (piece->max_in_flight > all->max_in_flight)
        all->max_in_flight = piece->max_in_flight;
}

/* Run the stat within what is left of the call's time. */
static pst_rc run_stat(struct pst_task *task, const struct pst_get_spec *spec,
                       const struct pst_limit *limit)
{
    pst_call call = {.struct_size = sizeof(call),
                     .cancel = limit->cancel,
                     .max_attempts = spec->max_attempts,
                     .affinity = spec->affinity};
    uint64_t now_ns = pst_now_ns();
    if (limit->deadline_ns > 0)
        call.timeout_ms = limit->deadline_ns > now_ns ? (limit->deadline_ns - now_ns) / 1000000u + 1
                                                      : 1;
    return pst_call_run(task, spec->key, &call, 0, NULL);
}

/* The first piece is there: what will the whole be compared with? As get_verify.c does, but waiting. */
static void learn_sums(const struct pst_get_spec *spec, const struct into *into, uint64_t first,
                       const struct pst_limit *limit, struct sum_up *sum,
                       const struct pst_get_outcome *piece)
{
    uint64_t rest = piece->object_size > first ? piece->object_size - first : 0;
    const struct pst_verify_case c = {
        .object_size = piece->object_size,
        .offset = first,
        .n_wanted = rest < into->capacity ? rest : into->capacity,
        .n_first = piece->n_read,
        .was_unranged = piece->was_unranged != 0,
        .is_hinted = piece->is_hinted != 0,
    };
    if (pst_claims_is_set(sum->claims) || !pst_verify_is_worth_asking(&c) ||
        !pst_port_has(spec->port, PST_CAP_STAT))
        return;
    struct pst_task *task = pst_task_new(spec->port, PST_SLOT_STAT, NULL);
    if (!task)
        return;
    task->args.stat = (pst_stat_args){
        .struct_size = sizeof(task->args.stat), .flags = PST_STAT_SUMS, .version = spec->version};
    if (pst_task_keep_str(task, spec->key, &task->args.stat.key) &&
        pst_task_keep_str(task, spec->version, &task->args.stat.version) &&
        run_stat(task, spec, limit) == PST_OK &&
        pst_verify_is_same(&task->result.stat, piece->object_size, piece->etag))
        pst_claims_take(sum->claims, task->result.stat.sums, task->result.stat.n_sums,
                        task->result.stat.sum_stride, piece->object_size);
    pst_task_unref(task);
}

/* What a first reply says is said about its version: none is known yet. */
static pst_rc renew_claims(struct pst_get_spec *spec, struct sum_up *sum, pst_error *err)
{
    pst_claims_unref(sum->claims);
    spec->claims = sum->claims = pst_claims_new();
    return sum->claims ? (pst_rc)PST_OK
                       : pst_fail_at(spec->port, "GET", spec->key, PST_E_NO_MEMORY, NULL, err);
}

/* Compare the bytes of a piece with what the store claims. */
static pst_rc feed(const struct pst_get_spec *spec, struct sum_up *sum,
                   const struct pst_get_outcome *piece, pst_error *err)
{
    struct pst_feed run;
    pst_error cause = PST_ERROR_INIT;
    if (!pst_claims_is_set(sum->claims) || piece->n_read == 0)
        return PST_OK;
    pst_feed_begin(&run, sum->claims, spec->offset, 0);
    pst_feed_add(&run, pst_buffer_data(piece->buffer), (size_t)piece->n_read);
    pst_rc rc = pst_feed_end(&run, &cause);
    return rc == PST_OK ? rc : pst_fail_at(spec->port, "GET", spec->key, rc, &cause, err);
}

/* The checksum of the whole, which no piece could be compared with. */
static pst_rc check_whole(const struct pst_get_spec *spec, uint32_t flags, struct sum_up *sum,
                          pst_error *err)
{
    struct pst_get_outcome *all = &sum->all;
    pst_error cause = PST_ERROR_INIT;
    uint64_t agreed = 0;
    pst_rc rc = PST_OK;
    if (flags & PST_READ_EXPECT_CRC32C)
        rc = pst_read_check_crc32c(spec->expected_crc32c, all->crc32c, &cause);
    if (rc == PST_OK && pst_claims_is_set(sum->claims)) {
        rc = pst_claims_agreed(sum->claims, &agreed, &cause);
        all->is_verified = rc == PST_OK && agreed == all->n_read &&
                           (agreed > 0 || all->object_size == 0);
    }
    return rc == PST_OK ? rc : pst_fail_at(spec->port, "GET", spec->key, rc, &cause, err);
}

/* A piece has come: check it, copy it, note what it tells. */
static pst_rc take_piece(struct pst_get_spec *spec, struct sum_up *sum, struct into *into,
                         const struct pst_get_outcome *piece, pst_error *err)
{
    size_t n = (size_t)piece->n_read;
    pst_rc rc = feed(spec, sum, piece, err);
    if (rc == PST_OK && n > 0)
        copy_to(into->dst, into->n_read, pst_buffer_data(piece->buffer), n);
    if (rc == PST_OK) {
        add_piece(&sum->all, piece);
        into->n_read += n;
    }
    return rc;
}

static pst_rc read_pieces(struct pst_get_spec *spec, const pst_call *call,
                          const struct pst_limit *limit, struct into *into, struct sum_up *sum,
                          pst_error *err)
{
    uint64_t first = spec->offset, piece = spec->port->core->budget.limit_bytes / 4 + 1;
    uint32_t flags = spec->flags;
    int is_own_pin = spec->if_match.len == 0;
    if (piece > BOUNCE_BYTES)
        piece = BOUNCE_BYTES;
    if (spec->part_bytes > 0)
        piece = spec->part_bytes;
    spec->dst = NULL;
    spec->n_dst = 0;
    spec->flags &= ~(PST_READ_EXACT | PST_READ_EXPECT_CRC32C); /* of the whole, not of each piece */
    if (flags & PST_READ_EXPECT_CRC32C)
        spec->flags |= PST_READ_CRC32C;
    for (;;) {
        struct pst_get *get = NULL;
        uint64_t left = into->capacity - into->n_read;
        spec->offset = first + into->n_read;
        spec->length = left < piece ? left : piece;
        pst_rc rc = pst_read_run(spec, call, limit, &get, err);
        if (rc == PST_E_PRECONDITION && is_own_pin && into->n_read > 0 && err)
            err->code = PST_E_CHANGED;
        if (rc != PST_OK)
            return rc == PST_E_PRECONDITION && is_own_pin ? (pst_rc)PST_E_CHANGED : rc;
        const struct pst_get_outcome *outcome = pst_get_outcome_of(get);
        size_t n = (size_t)outcome->n_read;
        rc = check_pin(sum, outcome, into->n_read == 0, spec, err);
        int is_over = n < spec->length || into->n_read + n == into->capacity ||
                      (sum->all.object_size != PST_UNKNOWN &&
                       spec->offset + n >= sum->all.object_size);
        int is_unpinned = sum->all.etag_strength != PST_ETAG_STRONG && !is_over &&
                          piece < into->capacity && !(flags & PST_READ_ALLOW_UNPINNED);
        if (rc == PST_OK && !is_unpinned && into->n_read == 0 && sum->claims)
            learn_sums(spec, into, first, limit, sum, outcome);
        if (rc == PST_OK && !is_unpinned)
            rc = take_piece(spec, sum, into, outcome, err);
        if (is_unpinned) {
            piece = into->capacity; /* from the start again */
            if (sum->claims)
                rc = renew_claims(spec, sum, err);
        } else if (sum->all.etag_strength == PST_ETAG_STRONG && is_own_pin) {
            spec->if_match = sum->all.etag;
        }
        pst_get_unref(get);
        if (rc == PST_OK && is_over) {
            rc = check_whole(spec, flags, sum, err);
            if (rc == PST_OK)
                pst_get_fill_info(&sum->all, into->info);
        }
        if (rc != PST_OK || is_over)
            return rc;
    }
}

static pst_rc read_bounced(struct pst_get_spec *spec, const pst_call *call,
                           const struct pst_limit *limit, struct into *into, pst_error *err)
{
    struct sum_up sum = {.claims = NULL};
    pst_rc rc = PST_OK;
    if (spec->flags & PST_READ_VERIFY)
        rc = renew_claims(spec, &sum, err);
    if (rc == PST_OK)
        rc = read_pieces(spec, call, limit, into, &sum, err);
    pst_claims_unref(sum.claims);
    return rc;
}

static pst_rc fail_short(const struct pst_get_spec *spec, size_t n_read, size_t capacity,
                         pst_error *err)
{
    pst_error cause = PST_ERROR_INIT;
    pst_fail(&cause, PST_E_RANGE, "the object ends after %zu of %zu bytes", n_read, capacity);
    return pst_fail_at(spec->port, "GET", spec->key, PST_E_RANGE, &cause, err);
}

/* ---- the calls --------------------------------------------------------------------------------- */

static pst_rc count_bytes(const struct pst_get_spec *spec, const pst_iov *dst, size_t n_dst,
                          size_t *capacity, pst_error *err)
{
    int is_memory = n_dst == 0 || dst != NULL;
    *capacity = 0;
    for (size_t i = 0; i < n_dst && is_memory; i++) {
        is_memory = (dst[i].ptr || dst[i].len == 0) && dst[i].len <= SIZE_MAX / 2 - *capacity;
        *capacity += dst[i].len;
    }
    if (is_memory)
        return PST_OK;
    pst_fail(err, PST_E_INVALID, "the destination is not memory");
    return pst_fail_at(spec->port, "GET", spec->key, PST_E_INVALID, err, err);
}

pst_rc pst_get_into_iov(pst_store *store, pst_str key, uint64_t offset, const pst_iov *dst,
                        size_t n_dst, const pst_read_options *options, const pst_call *call,
                        size_t *n_read, pst_read_info *info, pst_error *err)
{
    struct pst_get_spec spec = {.key = key, .offset = offset};
    struct into into = {.dst = dst, .n_dst = n_dst, .info = info};
    struct pst_limit limit = pst_limit_of(call);
    int is_decoded = 0;
    *n_read = 0;
    pst_rc rc = pst_decode_asked(options, key, &is_decoded, err);
    if (rc == PST_OK)
        rc = pst_store_port(store, &spec.port, err);
    if (rc != PST_OK)
        return rc;
    if (is_decoded) {
        static const pst_iov nowhere;
        rc = count_bytes(&spec, dst, n_dst, &into.capacity, err);
        const struct pst_decode_ask ask = {.key = key,
                                           .offset = offset,
                                           .length = into.capacity,
                                           .dst = n_dst ? dst : &nowhere,
                                           .n_dst = n_dst};
        if (rc == PST_OK)
            rc = pst_decode_read(store, &ask, options, call, NULL, n_read, info, err);
        pst_port_unref(spec.port);
        return rc;
    }
    if (pst_port_has(spec.port, PST_CAP_CANCEL_BOUNDED)) {
        spec.dst = dst;
        spec.n_dst = n_dst;
    }
    rc = pst_read_take_options(options, &spec, err);
    if (rc == PST_OK)
        rc = count_bytes(&spec, dst, n_dst, &into.capacity, err);
    int is_exact = (spec.flags & PST_READ_EXACT) != 0;
    if (rc == PST_OK && spec.n_dst > 0) {
        rc = read_direct(&spec, call, &limit, &into, err);
    } else if (rc == PST_OK) {
        rc = read_bounced(&spec, call, &limit, &into, err);
        if (rc == PST_OK && is_exact && into.n_read < into.capacity)
            rc = fail_short(&spec, into.n_read, into.capacity, err);
    }
    *n_read = rc == PST_OK ? into.n_read : 0;
    pst_port_unref(spec.port);
    return rc;
}

pst_rc pst_get_into(pst_store *store, pst_str key, uint64_t offset, void *dst, size_t capacity,
                    const pst_read_options *options, const pst_call *call, size_t *n_read,
                    pst_read_info *info, pst_error *err)
{
    const pst_iov iov = {dst, capacity};
    return pst_get_into_iov(store, key, offset, &iov, 1, options, call, n_read, info, err);
}
