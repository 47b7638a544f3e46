/* reader_take.c - the next range of a reader, in order, and whether it may be delivered.
 *
 * A range must be of the version that the first reply was of: same etag, same size, as long as it was
 * asked for. What is wrong with one is told when its turn comes, so everything before it is delivered. */
#include <string.h>

#include <penstock/sum.h>

#include "core/error.h"
#include "io/reader_state.h"

pst_rc pst_reader_fail(struct pst_reader *reader, pst_rc rc, const pst_error *cause)
{
    reader->rc = pst_fail_at(reader->port, "GET", reader->key, rc, cause, &reader->error);
    pst_reader_stop(reader);
    return reader->rc;
}

int pst_reader_is_last(struct pst_reader *reader)
{
    pthread_mutex_lock(&reader->gate.mutex);
    int is_so = reader->locked.n_launched == reader->locked.n_taken && reader->locked.is_learned &&
                reader->locked.next >= reader->locked.end;
    pthread_mutex_unlock(&reader->gate.mutex);
    return is_so;
}

static pst_rc fail_changed(struct pst_reader *reader)
{
    pst_error cause = PST_ERROR_INIT;
    pst_fail(&cause, PST_E_CHANGED, "the object changed while it was read");
    return pst_reader_fail(reader, PST_E_CHANGED, &cause);
}

static pst_rc fail_unpinned(struct pst_reader *reader)
{
    pst_error cause = PST_ERROR_INIT;
    uint64_t size = reader->locked.object_size;
    if (size == PST_UNKNOWN)
        pst_fail(&cause, PST_E_OVER_BUDGET,
                 "without a strong etag it must come by one request, and is larger than the memory "
                 "budget of %llu bytes",
                 (unsigned long long)reader->port->core->budget.limit_bytes);
    else
        pst_fail(
            &cause, PST_E_OVER_BUDGET,
            "without a strong etag its %llu bytes must come by one request, the memory budget is "
            "%llu bytes",
            (unsigned long long)size, (unsigned long long)reader->port->core->budget.limit_bytes);
    return pst_reader_fail(reader, PST_E_OVER_BUDGET, &cause);
}

/* Is it of the version that the first one was of, and as long as it must be? */
static pst_rc check_part(struct pst_reader *reader, const struct pst_reader_part *part)
{
    const struct pst_get_outcome *outcome = pst_get_outcome_of(part->get);
    if (part->rc == PST_E_PRECONDITION && !part->is_late)
        return fail_changed(reader);
    if (part->rc == PST_E_OVER_BUDGET && reader->locked.is_whole)
        return fail_unpinned(reader);
    if (part->rc != PST_OK) {
        pst_reader_stop(reader);
        if (outcome->error->code != part->rc)
            return pst_reader_fail(reader, part->rc, NULL);
        pst_error_copy(&reader->error, outcome->error);
        return reader->rc = part->rc;
    }
    if (part->is_late)
        return PST_OK;
    if (outcome->object_size != reader->locked.object_size ||
        outcome->etag.len != reader->locked.etag_len ||
        (outcome->etag.len > 0 &&
         memcmp(outcome->etag.ptr, reader->locked.etag, outcome->etag.len) != 0) ||
        (outcome->n_read != part->length && !reader->locked.is_sequential))
        return fail_changed(reader);
    return PST_OK;
}

/* What of the range that was asked for lies beyond the end? */
static pst_rc check_exact(struct pst_reader *reader, uint64_t n_delivered, int is_last)
{
    pst_error cause = PST_ERROR_INIT;
    uint64_t size = reader->locked.object_size;
    if (!(reader->flags & PST_READ_EXACT) || reader->length == PST_UNKNOWN)
        return PST_OK;
    if (size == PST_UNKNOWN && is_last)
        size = reader->offset + n_delivered;
    if (size == PST_UNKNOWN || (reader->offset <= size && reader->length <= size - reader->offset))
        return PST_OK;
    pst_fail(&cause, PST_E_RANGE,
             "range of %llu bytes at %llu goes beyond the end: the object has %llu bytes",
             (unsigned long long)reader->length, (unsigned long long)reader->offset,
             (unsigned long long)size);
    return pst_reader_fail(reader, PST_E_RANGE, &cause);
}

/* Add what the range tells to what is told of the whole. */
static void note_part(struct pst_reader *reader, const struct pst_get_outcome *outcome)
{
    pst_read_info *info = &reader->info;
    info->n_ranges += outcome->n_ranges;
    info->n_retries += outcome->n_retries;
    info->n_hedges += outcome->n_hedges;
    info->n_hedges_won += outcome->n_hedges_won;
    uint64_t longest = outcome->part_bytes > 0 ? outcome->part_bytes : outcome->n_read;
    if (longest > info->part_bytes)
        info->part_bytes = longest;
    reader->stored_bytes += outcome->n_read;
    if (outcome->is_verified)
        reader->agreed_bytes += outcome->n_read;
}

/* Sum what was not summed on arrival, and compare with the store's claims. */
static pst_rc compare(struct pst_reader *reader, const struct pst_reader_part *part)
{
    const struct pst_get_outcome *outcome = pst_get_outcome_of(part->get);
    pst_error cause = PST_ERROR_INIT;
    uint32_t crc32c = outcome->crc32c;
    if (pst_claims_is_set(reader->claims)) {
        struct pst_feed feed;
        int is_summed = !outcome->has_crc32c && !reader->decoder;
        pst_feed_begin(&feed, reader->claims, part->offset,
                       is_summed ? PST_SUM_BIT(PST_SUM_CRC32C) : 0);
        pst_feed_add(&feed, pst_buffer_bytes(part->buffer), (size_t)outcome->n_read);
        pst_rc rc = pst_feed_end(&feed, &cause);
        if (rc != PST_OK)
            return pst_reader_fail(reader, rc, &cause);
        if (is_summed)
            crc32c = feed.total.crc32c;
    }
    reader->stored_crc32c = pst_crc32c_combine(reader->stored_crc32c, crc32c, outcome->n_read);
    return PST_OK;
}

pst_rc pst_reader_take(struct pst_reader *reader, const struct pst_limit *limit, int *is_end)
{
    struct pst_reader_part part;
    pst_rc rc = PST_OK;
    *is_end = 0;
    pst_reader_top_up(reader);
    if (pst_reader_is_last(reader)) {
        *is_end = 1;
        return PST_OK;
    }
    rc = pst_reader_launch_head(reader, limit);
    if (rc != PST_OK)
        return pst_reader_fail(reader, rc, NULL);
    pthread_mutex_lock(&reader->gate.mutex);
    struct pst_reader_part *head = &reader->locked.parts[reader->locked.n_taken % reader->n_ahead];
    while ((!head->is_ready || reader->locked.look) && rc == PST_OK)
        rc = pst_gate_sleep(&reader->gate, limit);
    if (rc == PST_OK) {
        part = pst_reader_clear_locked(head);
        reader->locked.n_taken++;
    }
    pthread_mutex_unlock(&reader->gate.mutex);
    if (rc != PST_OK)
        return pst_reader_fail(reader, rc, NULL);
    rc = check_part(reader, &part);
    uint64_t n = rc == PST_OK ? pst_get_outcome_of(part.get)->n_read : 0;
    if (rc == PST_OK && reader->locked.is_sequential && n < part.length) {
        pthread_mutex_lock(&reader->gate.mutex);
        reader->locked.next = reader->locked.end = part.offset + n;
        pthread_mutex_unlock(&reader->gate.mutex);
    }
    if (rc == PST_OK)
        rc = check_exact(reader, part.offset + n - reader->offset, pst_reader_is_last(reader));
    if (rc == PST_OK)
        rc = compare(reader, &part);
    if (rc != PST_OK) {
        pst_reader_drop_part(part);
        return rc;
    }
    note_part(reader, pst_get_outcome_of(part.get));
    if (!part.is_late)
        pst_buffer_set_size(part.buffer, (size_t)n);
    reader->piece = (struct pst_reader_piece){
        .buffer = part.buffer, .n = (size_t)n, .budget_bytes = part.budget_bytes};
    pst_get_unref(part.get);
    return PST_OK;
}
