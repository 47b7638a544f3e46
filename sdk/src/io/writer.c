/* writer.c - a stream of bytes becomes one put or numbered parts (io/part.c says how long each is).
 *
 * Bytes are copied once, into a part's buffer; a full part is handed to the sink and the next one is
 * filled while it travels. Up to max_in_flight parts travel side by side where the store takes them in
 * any order, else one. The upload is opened with the second part: an object that fits the first becomes
 * one put. A store that has no uploads gets one put however long the object is; its parts are kept,
 * within the memory budget, until finalize.
 *
 * Memory: a part is reserved from the budget in one step before its first byte is copied (io/cargo.c).
 * A size hint saves the unused end of the last buffer; one that was too small costs a move of the part.
 *
 * Errors stay: after a failure every later call answers the same, until cancel or free, except that a put
 * or commit which failed in a way that may pass can be asked for again. The call given at open holds for
 * each call on the writer: its cancel token ends any of them, its timeout starts anew with each. Cancel
 * and free have a time of their own, since they also run when the token was fired. */
#include "io/writer.h"

#include <stdlib.h>

#include "core/error.h"
#include "io/outcome.h"
#include "io/part.h"
#include "io/sink.h"
#include "util/crc32c.h"

#define IN_FLIGHT_PARTS 4u
#define END_WAIT_NS ((uint64_t)1000000000)     /* free, and cancel by a token that was fired */
#define CANCEL_WAIT_NS ((uint64_t)30000000000) /* cancel that was asked for in peace */

enum writer_state { WRITER_OPEN, WRITER_FINALIZING, WRITER_DONE, WRITER_FAILED, WRITER_CANCELLED };

struct pst_writer {
    struct pst_sink *sink;
    struct pst_port *port; /* the sink's */
    uint32_t generation;
    enum writer_state state;
    pst_call call;
    uint64_t deadline_ns; /* of the whole writer, 0 for none */
    struct pst_part_plan plan;
    uint64_t hint_bytes, reach_bytes; /* expected length, or PST_UNKNOWN; what the plan can hold */
    uint32_t max_in_flight;
    int wants_crc32c, is_conditional, can_put, can_upload, is_upload_open;
    struct pst_cargo *kept, **kept_last; /* full, of a store without uploads */
    struct pst_cargo *current;           /* being filled */
    uint64_t offset;                     /* of `current` in the object */
    uint32_t number, crc32c;             /* of `current`; of all before it */
    pst_rc rc;
    pst_error error;
    pst_write_result result;
};

static pst_str key_of(const struct pst_writer *writer)
{
    return pst_sink_key(writer->sink);
}

static pst_rc fail(struct pst_writer *writer, pst_rc rc)
{
    return pst_fail_at(writer->port, "PUT", key_of(writer), rc,
                       writer->error.code == rc ? &writer->error : NULL, &writer->error);
}

static struct pst_sink_run run_of(const struct pst_writer *writer)
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

static pst_rc plan_parts(struct pst_writer *writer, const pst_write_options *options,
                         pst_error *err)
{
    uint64_t hint = options->size_hint ? options->size_hint : PST_UNKNOWN;
    pst_limits limits = writer->port->limits;
    uint64_t budget_bytes = writer->port->core->budget.limit_bytes;
    const struct pst_part_ask ask = {&limits, hint, options->part_bytes, budget_bytes};
    if (!writer->can_upload && hint != PST_UNKNOWN && hint > budget_bytes)
        return pst_fail(err, PST_E_OVER_BUDGET,
                        "%llu bytes must be kept for one put, the memory budget is %llu bytes",
                        (unsigned long long)hint, (unsigned long long)budget_bytes);
    if (!writer->can_upload) { /* pieces of one put know no limits of parts */
        limits.part_min = limits.part_max = limits.part_multiple = limits.parts_max = 0;
        limits.flags &= ~PST_LIMIT_PARTS_UNIFORM;
    }
    pst_rc rc = pst_part_plan(&ask, &writer->plan, err);
    writer->hint_bytes = hint;
    writer->reach_bytes = rc == PST_OK ? pst_part_reach(&writer->plan) : 0;
    return rc;
}

static pst_rc new_writer(struct pst_port *port, pst_str key, const struct pst_write_plan *plan,
                         const pst_call *call, struct pst_writer **out, pst_error *err)
{
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
    writer->wants_crc32c = plan->wants_crc32c;
    writer->is_conditional = plan->flags != 0 || plan->options.if_match.len > 0;
    writer->kept_last = &writer->kept;
    writer->error.struct_size = sizeof(writer->error);
    writer->result.struct_size = sizeof(writer->result);
    if (rc == PST_OK)
        rc = plan_parts(writer, &plan->options, err);
    if (rc == PST_OK && !(writer->sink = pst_sink_new(port, key, plan)))
        rc = pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    if (rc != PST_OK) {
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

/* ---- parts ------------------------------------------------------------------------------------ */

/* May the bytes of the part at hand, or of all parts of a put, come to `size`? */
static pst_rc check_budget(struct pst_writer *writer, uint64_t size)
{
    uint64_t budget_bytes = writer->port->core->budget.limit_bytes;
    uint64_t kept_bytes = writer->can_upload ? 0 : writer->offset;
    if (size <= SIZE_MAX / 2 && size <= budget_bytes && kept_bytes <= budget_bytes - size)
        return PST_OK;
    if (writer->can_upload)
        pst_fail(&writer->error, PST_E_OVER_BUDGET,
                 "a part has %llu bytes, the memory budget is %llu bytes", (unsigned long long)size,
                 (unsigned long long)budget_bytes);
    else
        pst_fail(&writer->error, PST_E_OVER_BUDGET,
                 "more than %llu bytes must be kept for one put, the memory budget is %llu bytes",
                 (unsigned long long)kept_bytes, (unsigned long long)budget_bytes);
    return fail(writer, PST_E_OVER_BUDGET);
}

static pst_rc begin_part(struct pst_writer *writer)
{
    struct pst_sink_run run = run_of(writer);
    uint64_t size = pst_part_size(&writer->plan, writer->number);
    if (writer->hint_bytes != PST_UNKNOWN && writer->offset < writer->hint_bytes &&
        writer->hint_bytes - writer->offset < size)
        size = writer->hint_bytes - writer->offset;
    pst_rc rc = check_budget(writer, size);
    if (rc != PST_OK)
        return rc;
    rc = pst_cargo_new(writer->port, (size_t)size, &run.limit, &writer->current);
    return rc == PST_OK ? rc : fail(writer, rc);
}

/* `current` is as long as it will be: keep it or send it. */
static pst_rc end_part(struct pst_writer *writer)
{
    struct pst_sink_run run = run_of(writer);
    struct pst_cargo *cargo = writer->current;
    pst_rc rc = PST_OK;
    if (writer->can_upload && !writer->is_upload_open) {
        rc = pst_sink_open(writer->sink, &run, &writer->error);
        if (rc != PST_OK)
            return rc;
        writer->is_upload_open = 1;
    }
    uint64_t offset = writer->offset;
    writer->current = NULL;
    writer->offset += cargo->len;
    if (!writer->can_upload) {
        *writer->kept_last = cargo;
        writer->kept_last = &cargo->next;
        return PST_OK;
    }
    writer->crc32c = pst_crc32c_combine(writer->crc32c, cargo->crc32c, cargo->len);
    return pst_sink_send_part(writer->sink, &run, writer->max_in_flight, writer->number++, offset,
                              cargo, writer->wants_crc32c, &writer->error);
}

/* `current` is full and there is more. */
static pst_rc make_room(struct pst_writer *writer)
{
    uint64_t size = pst_part_size(&writer->plan, writer->number);
    if (writer->can_upload && writer->current->capacity < size) { /* the hint was too small */
        pst_rc rc = check_budget(writer, size);
        if (rc != PST_OK)
            return rc;
        rc = pst_cargo_grow(writer->current, writer->port, (size_t)size);
        return rc == PST_OK ? rc : fail(writer, rc);
    }
    return end_part(writer);
}

/* Is it certain that the object takes more than the part which is full now? */
static int is_more_certain(const struct pst_writer *writer)
{
    return writer->can_upload &&
           (writer->is_upload_open || !writer->can_put ||
            (writer->hint_bytes != PST_UNKNOWN && writer->hint_bytes > writer->plan.first_bytes));
}

static pst_rc write_all(struct pst_writer *writer, const char *data, size_t len)
{
    uint64_t size = writer->offset + (writer->current ? writer->current->len : 0);
    pst_rc rc = PST_OK;
    if (len > writer->reach_bytes - size) {
        pst_part_fail_reach(&writer->plan, &writer->error);
        return fail(writer, PST_E_INVALID);
    }
    while (len > 0 && rc == PST_OK) {
        if (writer->current && writer->current->len == writer->current->capacity)
            rc = make_room(writer);
        if (rc == PST_OK && !writer->current)
            rc = begin_part(writer);
        if (rc != PST_OK)
            break;
        size_t n = pst_cargo_fill(writer->current, data, len, writer->wants_crc32c);
        data += n;
        len -= n;
        uint64_t full = pst_part_size(&writer->plan, writer->number);
        if (writer->current->len == full && is_more_certain(writer))
            rc = end_part(writer); /* let it travel while the application thinks */
    }
    return rc;
}

/* ---- what every call does --------------------------------------------------------------------- */

/* Refuse a call that the writer's state does not allow. */
static pst_rc check_state(const struct pst_writer *writer, int is_write, pst_error *err)
{
    if (writer->generation != pst_fork_generation())
        return pst_fail(err, PST_E_FORKED, "the writer belongs to the process before fork");
    if (writer->state == WRITER_FAILED) {
        pst_error_copy(err, &writer->error);
        return writer->rc;
    }
    if (writer->state == WRITER_CANCELLED)
        return pst_fail(err, PST_E_CANCELLED, "the writer was cancelled");
    if (is_write && writer->state != WRITER_OPEN)
        return pst_fail(err, PST_E_INVALID, "the writer was finalized");
    return PST_OK;
}

static pst_rc stay_failed(struct pst_writer *writer, pst_rc rc, pst_error *err)
{
    writer->state = WRITER_FAILED;
    writer->rc = rc;
    pst_error_copy(err, &writer->error);
    return rc;
}

pst_rc pst_writer_write(pst_writer *writer, const void *data, size_t len, pst_error *err)
{
    pst_rc rc = check_state(writer, 1, err);
    if (rc == PST_OK && len > 0 && !data)
        return pst_fail(err, PST_E_INVALID, "the data is not memory");
    if (rc != PST_OK)
        return rc;
    rc = write_all(writer, data, len);
    return rc == PST_OK ? rc : stay_failed(writer, rc, err);
}

/* ---- finalize --------------------------------------------------------------------------------- */

static pst_rc put_whole(struct pst_writer *writer)
{
    struct pst_sink_run run = run_of(writer);
    uint64_t size = 0;
    uint32_t crc32c = 0;
    if (writer->current) { /* the last of the kept ones now */
        *writer->kept_last = writer->current;
        writer->kept_last = &writer->current->next;
        writer->current = NULL;
    }
    for (const struct pst_cargo *cargo = writer->kept; cargo; cargo = cargo->next) {
        crc32c = pst_crc32c_combine(crc32c, cargo->crc32c, cargo->len);
        size += cargo->len;
    }
    pst_sum sum = pst_sum_crc32c(crc32c);
    pst_rc rc = pst_sink_put(writer->sink, &run, &writer->kept, size,
                             writer->wants_crc32c ? &sum : NULL, &writer->result, &writer->error);
    if (!writer->kept)
        writer->kept_last = &writer->kept;
    writer->offset = size;
    writer->crc32c = crc32c;
    return rc;
}

static pst_rc commit(struct pst_writer *writer)
{
    struct pst_sink_run run = run_of(writer);
    pst_sum sum = pst_sum_crc32c(writer->crc32c);
    return pst_sink_commit(writer->sink, &run, writer->offset, writer->number,
                           writer->wants_crc32c ? &sum : NULL, &writer->result, &writer->error);
}

/* Send what is left. Returns PST_OK when only the commit is missing. */
static pst_rc send_rest(struct pst_writer *writer)
{
    struct pst_sink_run run = run_of(writer);
    pst_rc rc = PST_OK;
    if (writer->current)
        rc = end_part(writer);
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
    int is_put = writer->can_put && !writer->is_upload_open;
    pst_rc rc = PST_OK;
    if (!is_put && writer->state == WRITER_OPEN) {
        rc = send_rest(writer);
        if (rc != PST_OK)
            return stay_failed(writer, rc, err);
        writer->is_upload_open = 1;
    }
    writer->state = WRITER_FINALIZING;
    pst_error_clear(&writer->error);
    rc = is_put ? put_whole(writer) : commit(writer);
    if (rc != PST_OK && may_finalize_again(writer, rc)) {
        pst_error_copy(err, &writer->error);
        return rc;
    }
    if (rc == PST_OK)
        rc = pst_outcome_check(writer->port, key_of(writer), writer->offset, &writer->call,
                               &writer->result, &writer->error);
    if (rc != PST_OK)
        return stay_failed(writer, rc, err);
    writer->state = WRITER_DONE;
    writer->result.n_parts = is_put ? 0 : writer->number;
    writer->result.has_crc32c = writer->wants_crc32c != 0;
    writer->result.crc32c = writer->wants_crc32c ? writer->crc32c : 0;
    return PST_OK;
}

pst_rc pst_writer_finalize(pst_writer *writer, pst_write_result *result, pst_error *err)
{
    pst_rc rc = check_state(writer, 0, err);
    if (rc == PST_OK && writer->state != WRITER_DONE)
        rc = publish(writer, err);
    if (rc == PST_OK)
        pst_outcome_give(&writer->result, result);
    return rc;
}

/* ---- cancel and free -------------------------------------------------------------------------- */

static pst_rc drop_all(struct pst_writer *writer, uint64_t wait_ns, pst_error *err)
{
    struct pst_sink_run run = run_of(writer);
    pst_cargo_free(writer->current);
    pst_cargo_free(writer->kept);
    writer->current = writer->kept = NULL;
    writer->kept_last = &writer->kept;
    run.limit = (struct pst_limit){pst_now_ns() + wait_ns, NULL};
    return pst_sink_abort(writer->sink, &run, err);
}

pst_rc pst_writer_cancel(pst_writer *writer, pst_error *err)
{
    if (writer->generation != pst_fork_generation())
        return pst_fail(err, PST_E_FORKED, "the writer belongs to the process before fork");
    if (writer->state == WRITER_DONE)
        return pst_fail(err, PST_E_INVALID, "the object was published already");
    writer->state = WRITER_CANCELLED;
    int is_urgent = writer->call.cancel && pst_cancel_fired(writer->call.cancel);
    return drop_all(writer, is_urgent ? END_WAIT_NS : CANCEL_WAIT_NS, err);
}

void pst_writer_free(pst_writer *writer)
{
    if (!writer || writer->generation != pst_fork_generation())
        return; /* in a fork child the parent's upload, buffers and locks are not ours */
    if (writer->state != WRITER_DONE) {
        pst_rc rc = drop_all(writer, END_WAIT_NS, NULL);
        if (rc != PST_OK)
            pst_logf(&writer->port->core->log, PST_LEVEL_WARN,
                     "PUT %s: an unfinished upload could not be aborted in time (%s)",
                     writer->port->uri, pst_rc_text(rc));
    }
    pst_sink_free(writer->sink);
    free(writer);
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
