/* get_sum.c - what happens to bytes that have arrived: copied, if they came into memory of a request's
 * own, and summed, if the caller wants the CRC-32C or a comparison.
 *
 * Ranges end in any order. The checksum of the whole is still a plain sum: shifting a range's CRC by the
 * bytes behind it makes its share, and the shares of all ranges are xored. So nothing is kept per
 * range, and nothing is read twice. */
#include <string.h>

#include "core/error.h"
#include "io/get_state.h"

#define BLOCK_BYTES ((size_t)64 << 10) /* copied and summed while it is in the first cache */

size_t pst_get_slice(const struct pst_get *get, uint64_t from, uint64_t len, pst_iov *out)
{
    const pst_iov whole = {get->outcome.buffer ? pst_buffer_bytes(get->outcome.buffer) : NULL,
                           get->outcome.buffer ? pst_buffer_capacity(get->outcome.buffer) : 0};
    const pst_iov *dst = get->spec.n_dst > 0 ? get->spec.dst : &whole;
    size_t n_dst = get->spec.n_dst > 0 ? get->spec.n_dst : 1, n = 0;
    for (size_t i = 0; i < n_dst && len > 0; i++) {
        if (from >= dst[i].len) {
            from -= dst[i].len;
            continue;
        }
        uint64_t piece = dst[i].len - from < len ? dst[i].len - from : len;
        out[n++] = (pst_iov){(char *)dst[i].ptr + from, (size_t)piece};
        len -= piece;
        from = 0;
    }
    return n;
}

static void copy_and_feed(struct pst_feed *feed, char *to, const char *from, size_t len,
                          int is_summed)
{
    for (size_t at = 0; at < len; at += BLOCK_BYTES) {
        size_t n = len - at < BLOCK_BYTES ? len - at : BLOCK_BYTES;
        memcpy(to + at, from + at, n);
        if (is_summed)
            pst_feed_add(feed, to + at, n);
    }
}

/* The bytes [from, from + len) of the destination; `spare`, if not NULL, is copied there. */
static void walk(const struct pst_get *get, uint64_t from, uint64_t len, const char *spare,
                 struct pst_feed *feed, int is_summed)
{
    uint64_t done = 0;
    for (size_t i = 0; done < len; i++) {
        const pst_iov *dst = get->spec.n_dst > 0 ? &get->spec.dst[i] : NULL;
        char *base = dst ? dst->ptr : pst_buffer_bytes(get->outcome.buffer);
        uint64_t room = dst ? dst->len : pst_buffer_capacity(get->outcome.buffer);
        if (from >= room) {
            from -= room;
            continue;
        }
        size_t n = (size_t)(room - from < len - done ? room - from : len - done);
        if (spare)
            copy_and_feed(feed, base + from, spare + done, n, is_summed);
        else if (is_summed)
            pst_feed_add(feed, base + from, n);
        done += n;
        from = 0;
    }
}

/* Its own claims: those of its owner are fed by the owner. */
static struct pst_claims *fed_claims(struct pst_get *get)
{
    return get->spec.claims ? NULL : get->claims;
}

pst_rc pst_get_work(struct pst_span *span, pst_error *err)
{
    struct pst_get *get = span->get;
    struct pst_claims *claims = fed_claims(get);
    const struct pst_try *winner = span->winner;
    const char *spare = winner->spare ? pst_buffer_bytes(winner->spare) : NULL;
    int is_summed = pst_read_is_summed(get->spec.flags);
    struct pst_feed feed;
    pst_feed_begin(&feed, claims, get->base + span->from,
                   is_summed ? PST_SUM_BIT(PST_SUM_CRC32C) : 0);
    walk(get, span->from, span->n_read, spare, &feed, is_summed);
    pst_rc rc = pst_feed_end(&feed, err);
    span->crc32c = feed.total.crc32c;
    if (claims && !feed.claims)
        pst_get_unfed(get, span->from, span->n_read);
    return rc;
}

pst_rc pst_get_feed_again(struct pst_get *get, uint64_t from, uint64_t n, pst_error *err)
{
    struct pst_feed feed;
    pst_feed_begin(&feed, get->claims, get->base + from, 0);
    walk(get, from, n, NULL, &feed, 1);
    return pst_feed_end(&feed, err);
}

/* ---- comparing --------------------------------------------------------------------------------- */

pst_rc pst_read_check_crc32c(uint32_t wanted, uint32_t got, pst_error *err)
{
    return wanted == got ? (pst_rc)PST_OK : pst_claim_fail(PST_SUM_CRC32C, wanted, got, "", err);
}

/* Sums of exactly the bytes of one reply; those of the object and its parts are claims. */
pst_rc pst_get_note_sums_locked(struct pst_span *span, pst_error *err)
{
    struct pst_get *get = span->get;
    const pst_read_args *a = &span->winner->task->args.read;
    const pst_read_result *r = &span->winner->task->result.read;
    if (!(get->spec.flags & PST_READ_VERIFY) || !r->sums)
        return PST_OK;
    for (uint32_t i = 0; i < r->n_sums; i++) {
        pst_sum sum = {0};
        uint32_t crc32c = 0;
        memcpy(&sum, (const char *)r->sums + i * r->sum_stride,
               r->sum_stride < sizeof(sum) ? r->sum_stride : sizeof(sum));
        int is_whole_reply = sum.size == 0 || (sum.offset == a->offset && sum.size == r->n_read);
        if (sum.scope != PST_SCOPE_RANGE || sum.length != 4 || !is_whole_reply ||
            !pst_sums_get_crc32c(&sum, 1, &crc32c))
            continue;
        pst_rc rc = pst_read_check_crc32c(crc32c, span->crc32c, err);
        if (rc == PST_OK)
            get->locked.agreed_bytes += span->n_read;
        return rc;
    }
    return PST_OK;
}

/* Is every byte that was read under a checksum of the store's that agrees? */
static pst_rc check_claims(struct pst_get *get, pst_error *err)
{
    struct pst_get_outcome *outcome = &get->outcome;
    uint64_t agreed = 0;
    pst_rc rc = PST_OK;
    if (pst_claims_is_set(fed_claims(get))) {
        rc = pst_claims_agreed(get->claims, &agreed, err);
        outcome->is_verified = rc == PST_OK && agreed == outcome->n_read &&
                               (agreed > 0 || outcome->object_size == 0);
    }
    if (outcome->n_read > 0 && get->locked.agreed_bytes == outcome->n_read)
        outcome->is_verified = 1;
    return rc;
}

pst_rc pst_get_check_sums(struct pst_get *get, pst_error *err)
{
    struct pst_get_outcome *outcome = &get->outcome;
    pst_rc rc = PST_OK;
    if (!pst_read_is_summed(get->spec.flags))
        return PST_OK;
    outcome->has_crc32c = 1;
    outcome->crc32c = get->locked.crc32c;
    if (get->spec.flags & PST_READ_EXPECT_CRC32C)
        rc = pst_read_check_crc32c(get->spec.expected_crc32c, outcome->crc32c, err);
    return rc == PST_OK ? check_claims(get, err) : rc;
}
