/* writer_end.c - how a writer ends: the one commit, cancel, free.
 *
 * Finalize sends what is left, waits for all parts and publishes. A put or commit that failed in a way that
 * may pass can be asked for again; any other failure stays. Cancel and free have a time of their own, since
 * they also run when the call's token was fired: what has not ended by then goes on in the background
 * (io/sink.c), and nothing is left in the store. */
#include "io/writer_state.h"

#include <stdlib.h>

#include "core/error.h"
#include "io/outcome.h"

#define END_WAIT_NS ((uint64_t)1000000000)     /* free, and cancel by a token that was fired */
#define CANCEL_WAIT_NS ((uint64_t)30000000000) /* cancel that was asked for in peace */

/* ---- finalize --------------------------------------------------------------------------------- */

static pst_rc put_whole(struct pst_writer *writer)
{
    struct pst_sink_run run = pst_writer_run(writer);
    uint64_t size = 0;
    struct pst_sums sums = {.which = writer->sums.which};
    if (writer->current) { /* the last of the kept ones now */
        *writer->kept_last = writer->current;
        writer->kept_last = &writer->current->next;
        writer->current = NULL;
    }
    for (const struct pst_cargo *cargo = writer->kept; cargo; cargo = cargo->next) {
        pst_sums_append(&sums, &cargo->sums, cargo->len);
        size += cargo->len;
    }
    pst_rc rc = pst_sink_put(writer->sink, &run, &writer->kept, size, &sums, &writer->result,
                             &writer->error);
    if (!writer->kept)
        writer->kept_last = &writer->kept;
    writer->offset = size;
    writer->sums = sums;
    return rc;
}

static pst_rc commit(struct pst_writer *writer)
{
    struct pst_sink_run run = pst_writer_run(writer);
    return pst_sink_commit(writer->sink, &run, writer->offset, writer->number, &writer->sums,
                           &writer->result, &writer->error);
}

/* Send what is left. Returns PST_OK when only the commit is missing. */
static pst_rc send_rest(struct pst_writer *writer)
{
    struct pst_sink_run run = pst_writer_run(writer);
    pst_rc rc = PST_OK;
    if (writer->current)
        rc = pst_parts_end(writer);
    else if (!writer->is_upload_open) /* an empty object of a store that cannot put */
        rc = pst_sink_open(writer->sink, &run, &writer->error);
    return rc == PST_OK ? pst_sink_settle(writer->sink, &run, &writer->error) : rc;
}

/* May the put or commit that failed be asked for once more? */
static int may_finalize_again(const struct pst_writer *writer, pst_rc rc)
{
    uint32_t flags = writer->error.flags;
    if (rc == PST_E_CANCELLED || rc == PST_E_DEADLINE || !(flags & PST_ERR_RETRYABLE))
        return 0;
    return writer->is_upload_open || !writer->is_conditional || !(flags & PST_ERR_MAYBE_APPLIED);
}

static pst_rc publish(struct pst_writer *writer, pst_error *err)
{
    pst_rc rc = PST_OK;
    writer->lent_bytes = 0;
    if (writer->compressor && writer->state == PST_WRITER_OPEN) {
        rc = pst_compressed_finish(writer);
        if (rc != PST_OK)
            return pst_writer_stay_failed(writer, rc, err);
    }
    int is_put = writer->can_put && !writer->is_upload_open;
    if (writer->current && writer->current->len == 0) { /* lent, and nothing committed */
        pst_cargo_free(writer->current);
        writer->current = NULL;
    }
    if (!is_put && writer->state == PST_WRITER_OPEN) {
        rc = send_rest(writer);
        if (rc != PST_OK)
            return pst_writer_stay_failed(writer, rc, err);
        writer->is_upload_open = 1;
    }
    writer->state = PST_WRITER_FINALIZING;
    pst_error_clear(&writer->error);
    rc = is_put ? put_whole(writer) : commit(writer);
    if (rc != PST_OK && may_finalize_again(writer, rc)) {
        pst_error_copy(err, &writer->error);
        return rc;
    }
    if (rc == PST_OK)
        rc = pst_outcome_check(writer->port, pst_sink_key(writer->sink), writer->offset,
                               &writer->call, &writer->result, &writer->error);
    if (rc != PST_OK)
        return pst_writer_stay_failed(writer, rc, err);
    writer->state = PST_WRITER_DONE;
    writer->result.n_parts = is_put ? 0 : writer->number;
    writer->result.has_crc32c = (writer->sums.which & PST_SUM_BIT(PST_SUM_CRC32C)) != 0;
    if (writer->result.has_crc32c)
        writer->result.crc32c = writer->compressor ? writer->given_crc32c : writer->sums.crc32c;
    pst_outcome_describe(&writer->result, writer->n_written);
    return PST_OK;
}

pst_rc pst_writer_finalize(pst_writer *writer, pst_write_result *result, pst_error *err)
{
    pst_rc rc = pst_writer_check(writer, 0, err);
    if (rc == PST_OK && writer->state != PST_WRITER_DONE)
        rc = publish(writer, err);
    if (rc == PST_OK)
        pst_outcome_give(&writer->result, result);
    return rc;
}

/* ---- cancel and free -------------------------------------------------------------------------- */

static pst_rc drop_all(struct pst_writer *writer, uint64_t wait_ns, pst_error *err)
{
    struct pst_sink_run run = pst_writer_run(writer);
    pst_compressed_close(writer);
    pst_cargo_free(writer->current);
    pst_cargo_free(writer->kept);
    writer->current = writer->kept = NULL;
    writer->kept_last = &writer->kept;
    writer->lent_bytes = 0;
    run.limit = (struct pst_limit){pst_now_ns() + wait_ns, NULL};
    return pst_sink_abort(writer->sink, &run, err);
}

pst_rc pst_writer_cancel(pst_writer *writer, pst_error *err)
{
    if (writer->generation != pst_fork_generation())
        return pst_fail(err, PST_E_FORKED, "the writer belongs to the process before fork");
    if (writer->state == PST_WRITER_DONE)
        return pst_fail(err, PST_E_INVALID, "the object was published already");
    writer->state = PST_WRITER_CANCELLED;
    int is_urgent = writer->call.cancel && pst_cancel_fired(writer->call.cancel);
    return drop_all(writer, is_urgent ? END_WAIT_NS : CANCEL_WAIT_NS, err);
}

void pst_writer_free(pst_writer *writer)
{
    if (!writer || writer->generation != pst_fork_generation())
        return; /* in a fork child the parent's upload, buffers and locks are not ours */
    if (writer->state != PST_WRITER_DONE) {
        pst_error err = PST_ERROR_INIT;
        int is_cancelled = writer->state == PST_WRITER_CANCELLED; /* then that has waited */
        if (drop_all(writer, is_cancelled ? 0 : END_WAIT_NS, &err) != PST_OK && !is_cancelled)
            pst_logf(&writer->port->core->log, PST_LEVEL_WARN,
                     "PUT %s: an unfinished object could not be dropped: %s", writer->port->uri,
                     err.message);
    }
    pst_compressed_close(writer);
    pst_sink_free(writer->sink);
    free(writer);
}
