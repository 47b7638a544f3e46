/* writer.c - a stream of bytes becomes one put or numbered parts: the calls that take bytes.
 *
 * Bytes are copied once, into a part's buffer, or not at all: reserve lends the memory behind the last
 * byte, write_owned references the application's (io/cargo.c). A full part is handed to the sink and the
 * next one is filled while it travels (io/writer_part.c; io/part.c says how long each is). Up to
 * max_in_flight parts travel side by side where the store takes them in any order, else one. The upload is
 * opened with the second part: an object that fits the first becomes one put. A writer that compresses
 * puts io/writer_zstd.c before all that.
 *
 * Errors stay: after a failure every later call answers the same, until cancel or free, except that a put
 * or commit which failed in a way that may pass can be asked for again (io/writer_end.c). The call given at
 * open holds for each call on the writer: its cancel token ends any of them, its timeout starts anew with
 * each. */
#include "io/writer_state.h"

#include <stdlib.h>

#include "core/error.h"

#define IN_FLIGHT_PARTS 4u

pst_rc pst_writer_fail(struct pst_writer *writer, pst_rc rc)
{
    return pst_fail_at(writer->port, "PUT", pst_sink_key(writer->sink), rc,
                       writer->error.code == rc ? &writer->error : NULL, &writer->error);
}

struct pst_sink_run pst_writer_run(const struct pst_writer *writer)
{
    struct pst_limit limit = pst_limit_of(&writer->call);
    if (writer->deadline_ns > 0)
        limit.deadline_ns = writer->deadline_ns;
    return (struct pst_sink_run){.limit = limit,
                                 .deadline_ns = limit.deadline_ns,
                                 .max_attempts = writer->call.max_attempts,
                                 .affinity = writer->call.affinity};
}

/* ---- open ------------------------------------------------------------------------------------- */

static pst_rc new_writer(struct pst_port *port, pst_str key, const struct pst_write_plan *plan,
                         const pst_call *call, struct pst_writer **out, pst_error *err)
{
    struct pst_write_plan sent = *plan;
    struct pst_writer *writer = calloc(1, sizeof(*writer));
    if (!writer)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    pst_rc rc = pst_options_take(&writer->call, sizeof(writer->call), call, err);
    writer->call.struct_size = sizeof(writer->call);
    writer->port = port;
    writer->generation = port->core->generation;
    writer->can_put = (port->info.caps & PST_CAP_PUT) != 0;
    writer->can_upload = (port->info.caps & PST_CAP_UPLOAD) != 0;
    writer->max_in_flight = plan->options.max_in_flight ? plan->options.max_in_flight
                                                        : IN_FLIGHT_PARTS;
    if (!(port->info.caps & PST_CAP_UPLOAD_UNORDERED))
        writer->max_in_flight = 1;
    writer->sums.which = plan->sums;
    writer->is_conditional = plan->flags != 0 || plan->options.if_match.len > 0;
    writer->is_held_to_put = writer->is_conditional && writer->can_upload &&
                             !(port->info.caps & PST_CAP_UPLOAD_CONDITIONAL);
    if (writer->is_held_to_put)
        writer->can_upload = 0;
    writer->kept_last = &writer->kept;
    writer->error.struct_size = sizeof(writer->error);
    writer->result.struct_size = sizeof(writer->result);
    if (rc == PST_OK && writer->is_held_to_put && !writer->can_put)
        rc = pst_verb_need(port, PST_CAP_UPLOAD_CONDITIONAL, err);
    if (rc == PST_OK)
        rc = pst_parts_plan(writer, &plan->options, err);
    if (rc == PST_OK && plan->options.zstd_level != 0) {
        sent.options.size_hint = 0; /* that of the input: nothing to tell the store */
        rc = pst_compressed_open(writer, &plan->options, err);
    }
    if (rc == PST_OK && !(writer->sink = pst_sink_new(port, key, &sent)))
        rc = pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    if (rc != PST_OK) {
        pst_compressed_close(writer);
        free(writer);
        return rc;
    }
    *out = writer;
    return PST_OK;
}

pst_rc pst_writer_open(pst_store *store, pst_str key, const pst_write_options *options,
                       const pst_call *call, pst_writer **out, pst_error *err)
{
    struct pst_port *port = NULL;
    struct pst_write_plan plan;
    *out = NULL;
    pst_rc rc = pst_store_port(store, &port, err);
    if (rc != PST_OK)
        return rc;
    rc = pst_verb_check_key(port, key, err);
    if (rc == PST_OK && !(port->info.caps & PST_CAP_UPLOAD))
        rc = pst_verb_need(port, PST_CAP_PUT, err);
    if (rc == PST_OK)
        rc = pst_write_plan_init(port, options, &plan, err);
    if (rc == PST_OK)
        rc = new_writer(port, key, &plan, call, out, err);
    if (rc != PST_OK)
        pst_fail_at(port, "PUT", key, rc, err, err);
    pst_port_unref(port);
    return rc;
}

/* ---- what every call does --------------------------------------------------------------------- */

pst_rc pst_writer_check(const struct pst_writer *writer, int is_write, pst_error *err)
{
    if (writer->generation != pst_fork_generation())
        return pst_fail(err, PST_E_FORKED, "the writer belongs to the process before fork");
    if (writer->state == PST_WRITER_FAILED) {
        pst_error_copy(err, &writer->error);
        return writer->rc;
    }
    if (writer->state == PST_WRITER_CANCELLED)
        return pst_fail(err, PST_E_CANCELLED, "the writer was cancelled");
    if (is_write && writer->state != PST_WRITER_OPEN)
        return pst_fail(err, PST_E_INVALID, "the writer was finalized");
    /* Looked at before anything is done, since what is quick would be done in spite of it. */
    if (writer->state != PST_WRITER_DONE && writer->call.cancel &&
        pst_cancel_fired(writer->call.cancel))
        return pst_fail_at(writer->port, "PUT", pst_sink_key(writer->sink), PST_E_CANCELLED, NULL,
                           err);
    return PST_OK;
}

pst_rc pst_writer_stay_failed(struct pst_writer *writer, pst_rc rc, pst_error *err)
{
    writer->state = PST_WRITER_FAILED;
    writer->rc = rc;
    pst_error_copy(err, &writer->error);
    return rc;
}

/* ---- bytes ------------------------------------------------------------------------------------ */

static pst_rc append(pst_writer *writer, const void *data, size_t len, pst_buffer *owner,
                     pst_error *err)
{
    writer->lent_bytes = 0;
    pst_rc rc = writer->compressor ? pst_compressed_append(writer, data, len, owner)
                                   : pst_parts_append(writer, data, len, owner);
    if (rc != PST_OK)
        return pst_writer_stay_failed(writer, rc, err);
    writer->n_written += len;
    return PST_OK;
}

pst_rc pst_writer_write(pst_writer *writer, const void *data, size_t len, pst_error *err)
{
    pst_rc rc = pst_writer_check(writer, 1, err);
    if (rc == PST_OK && len > 0 && !data)
        return pst_fail(err, PST_E_INVALID, "the data is not memory");
    return rc == PST_OK ? append(writer, data, len, NULL, err) : rc;
}

pst_rc pst_writer_write_owned(pst_writer *writer, pst_buffer *buffer, pst_error *err)
{
    pst_rc rc = pst_writer_check(writer, 1, err);
    if (rc == PST_OK && !buffer)
        return pst_fail(err, PST_E_INVALID, "there is no buffer");
    if (rc != PST_OK)
        return rc;
    return append(writer, pst_buffer_data(buffer), pst_buffer_size(buffer), buffer, err);
}

pst_rc pst_writer_reserve(pst_writer *writer, size_t want, void **out, size_t *len, pst_error *err)
{
    *out = NULL;
    *len = 0;
    pst_rc rc = pst_writer_check(writer, 1, err);
    if (rc == PST_OK && want == 0)
        return pst_fail(err, PST_E_INVALID, "no byte is asked for");
    if (rc != PST_OK)
        return rc;
    writer->lent_bytes = 0;
    if (!writer->compressor && pst_parts_room(writer) == 0) {
        rc = pst_parts_fail_reach(writer, err);
        return pst_fail_at(writer->port, "PUT", pst_sink_key(writer->sink), rc, err, err);
    }
    rc = writer->compressor ? pst_compressed_lend(writer, want, out, len)
                            : pst_parts_lend(writer, want, out, len);
    if (rc != PST_OK)
        return pst_writer_stay_failed(writer, rc, err);
    writer->lent_bytes = *len;
    return PST_OK;
}

pst_rc pst_writer_commit(pst_writer *writer, size_t len, pst_error *err)
{
    pst_rc rc = pst_writer_check(writer, 1, err);
    if (rc != PST_OK)
        return rc;
    size_t lent_bytes = writer->lent_bytes;
    if (lent_bytes == 0 || len > lent_bytes)
        return pst_fail(err, PST_E_INVALID, "%zu bytes are committed, %zu were lent", len,
                        lent_bytes);
    writer->lent_bytes = 0;
    if (len > 0)
        rc = writer->compressor ? pst_compressed_keep(writer, len) : pst_parts_keep(writer, len);
    if (rc != PST_OK)
        return pst_writer_stay_failed(writer, rc, err);
    writer->n_written += len;
    return PST_OK;
}

/* ---- put -------------------------------------------------------------------------------------- */

pst_rc pst_writer_put(struct pst_port *port, pst_str key, const pst_iov *src, size_t n_src,
                      uint64_t size, const struct pst_write_plan *plan, const pst_call *call,
                      pst_write_result *result, pst_error *err)
{
    struct pst_write_plan own = *plan;
    struct pst_writer *writer = NULL;
    own.options.size_hint = size;
    pst_rc rc = new_writer(port, key, &own, call, &writer, err);
    if (rc != PST_OK)
        return pst_fail_at(port, "PUT", key, rc, err, err);
    writer->deadline_ns = pst_limit_of(call).deadline_ns;
    for (size_t i = 0; i < n_src && rc == PST_OK; i++)
        rc = pst_writer_write(writer, src[i].ptr, src[i].len, err);
    if (rc == PST_OK)
        rc = pst_writer_finalize(writer, result, err);
    pst_writer_free(writer);
    return rc;
}
