/* get_sum.c - what happens to bytes that have arrived: copied, if they came into memory of a request's
 * own, and summed, if the caller wants the CRC-32C.
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

static uint32_t copy_and_sum(uint32_t crc, char *to, const char *from, size_t len, int is_summed)
{
    for (size_t at = 0; at < len; at += BLOCK_BYTES) {
        size_t n = len - at < BLOCK_BYTES ? len - at : BLOCK_BYTES;
        memcpy(to + at, from + at, n);
        if (is_summed)
            crc = pst_crc32c(crc, to + at, n);
    }
    return crc;
}

void pst_get_work(struct pst_span *span)
{
    const struct pst_get *get = span->get;
    const struct pst_try *winner = span->winner;
    const char *spare = winner->spare ? pst_buffer_bytes(winner->spare) : NULL;
    int is_summed = pst_read_is_summed(get->spec.flags);
    uint64_t done = 0, from = span->from;
    uint32_t crc = 0;
    for (size_t i = 0; done < span->n_read; i++) {
        const pst_iov *dst = get->spec.n_dst > 0 ? &get->spec.dst[i] : NULL;
        char *base = dst ? dst->ptr : pst_buffer_bytes(get->outcome.buffer);
        uint64_t room = dst ? dst->len : pst_buffer_capacity(get->outcome.buffer);
        if (from >= room) {
            from -= room;
            continue;
        }
        uint64_t left = span->n_read - done;
        size_t n = (size_t)(room - from < left ? room - from : left);
        if (spare)
            crc = copy_and_sum(crc, base + from, spare + done, n, is_summed);
        else if (is_summed)
            crc = pst_crc32c(crc, base + from, n);
        done += n;
        from = 0;
    }
    span->crc32c = crc;
}

/* ---- comparing --------------------------------------------------------------------------------- */

static uint32_t crc_of(const pst_sum *sum)
{
    return (uint32_t)sum->bytes[0] << 24 | (uint32_t)sum->bytes[1] << 16 |
           (uint32_t)sum->bytes[2] << 8 | (uint32_t)sum->bytes[3];
}

pst_rc pst_read_check_crc32c(uint32_t wanted, uint32_t got, pst_error *err)
{
    char wanted_text[PST_CRC32C_TEXT_SIZE], got_text[PST_CRC32C_TEXT_SIZE];
    if (wanted == got)
        return PST_OK;
    return pst_fail(err, PST_E_DATA_LOSS, "checksum: wanted %s, got %s",
                    pst_crc32c_text(wanted, wanted_text), pst_crc32c_text(got, got_text));
}

pst_rc pst_get_note_sums_locked(struct pst_span *span, pst_error *err)
{
    struct pst_get *get = span->get;
    const struct pst_task *task = span->winner->task;
    const pst_read_result *r = &task->result.read;
    if (!(get->spec.flags & PST_READ_VERIFY) || !r->sums)
        return PST_OK;
    for (uint32_t i = 0; i < r->n_sums; i++) {
        const pst_sum *sum = (const pst_sum *)(const void *)((const char *)r->sums +
                                                             i * r->sum_stride);
        if (sum->algorithm != PST_SUM_CRC32C || sum->length != 4)
            continue;
        if (sum->scope == PST_SCOPE_OBJECT && !get->outcome.has_store_crc32c) {
            get->outcome.has_store_crc32c = 1;
            get->outcome.store_crc32c = crc_of(sum);
        } else if (sum->scope == PST_SCOPE_RANGE) {
            pst_rc rc = pst_read_check_crc32c(crc_of(sum), span->crc32c, err);
            if (rc != PST_OK)
                return rc;
            get->locked.agreed_bytes += span->n_read;
        }
    }
    return PST_OK;
}

pst_rc pst_get_check_sums(struct pst_get *get, pst_error *err)
{
    struct pst_get_outcome *outcome = &get->outcome;
    uint32_t flags = get->spec.flags;
    pst_rc rc = PST_OK;
    if (!pst_read_is_summed(flags))
        return PST_OK;
    outcome->has_crc32c = 1;
    outcome->crc32c = get->locked.crc32c;
    if (flags & PST_READ_EXPECT_CRC32C)
        rc = pst_read_check_crc32c(get->spec.expected_crc32c, outcome->crc32c, err);
    int is_whole = outcome->n_read == outcome->object_size &&
                   (get->spec.offset == 0 || get->spec.is_suffix);
    if (rc == PST_OK && is_whole && outcome->has_store_crc32c)
        rc = pst_read_check_crc32c(outcome->store_crc32c, outcome->crc32c, err);
    outcome->is_verified = rc == PST_OK &&
                           ((is_whole && outcome->has_store_crc32c) ||
                            (outcome->n_read > 0 && get->locked.agreed_bytes == outcome->n_read));
    return rc;
}
