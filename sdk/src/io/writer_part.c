/* writer_part.c - bytes become parts.
 *
 * A part is begun with its first byte: budget for all of it is reserved in one step, so this is where a
 * writer waits. It is sent when it is full and it is certain that more follows, because an object that
 * fits the first part shall become one put. A part is cut to what the size hint leaves, which saves the
 * unused end of the last one; when the hint turns out to be too small the part grows, without waiting.
 *
 * A store that has no uploads gets one put however long the object is; its parts are kept, within the
 * memory budget, until finalize. So does one that holds the condition of a write for a put alone. */
#include "io/writer_state.h"

#include "core/error.h"

/* The most that `size` bytes become, as far as the store takes it; frames, checksums and seek table are a
 * small part of what this adds. */
static uint64_t most_compressed(uint64_t size, uint64_t object_max)
{
    uint64_t most = size > PST_PART_NO_LIMIT ? PST_UNKNOWN : size + size / 64 + 4096;
    return object_max && size <= PST_PART_NO_LIMIT && most > object_max ? object_max : most;
}

static const char *why_one_put(const struct pst_writer *writer)
{
    return writer->is_held_to_put ? " to hold its condition" : "";
}

static pst_rc fail_condition(uint64_t size, uint64_t put_max, pst_error *err)
{
    return pst_fail(
        err, PST_E_UNIMPLEMENTED,
        "%llu bytes and a condition: the store holds one for a single request alone, of "
        "at most %llu bytes",
        (unsigned long long)size, (unsigned long long)put_max);
}

pst_rc pst_parts_fail_reach(const struct pst_writer *writer, pst_error *err)
{
    uint64_t reach = pst_part_reach(&writer->plan);
    return writer->is_held_to_put ? fail_condition(reach + 1, reach, err)
                                  : pst_part_fail_reach(&writer->plan, err);
}

pst_rc pst_parts_plan(struct pst_writer *writer, const pst_write_options *options, pst_error *err)
{
    uint64_t hint = options->size_hint ? options->size_hint : PST_UNKNOWN;
    pst_limits limits = writer->port->limits;
    uint64_t budget_bytes = writer->port->core->budget.limit_bytes;
    if (options->zstd_level != 0)
        hint = writer->can_upload ? most_compressed(hint, limits.object_max) : PST_UNKNOWN;
    const struct pst_part_ask ask = {&limits, hint, options->part_bytes, budget_bytes};
    if (writer->is_held_to_put && limits.part_max > 0 &&
        (limits.object_max == 0 || limits.part_max < limits.object_max))
        limits.object_max = limits.part_max;
    if (writer->is_held_to_put && hint != PST_UNKNOWN && limits.object_max &&
        hint > limits.object_max)
        return fail_condition(hint, limits.object_max, err);
    if (!writer->can_upload && hint != PST_UNKNOWN && hint > budget_bytes)
        return pst_fail(err, PST_E_OVER_BUDGET,
                        "%llu bytes must be kept for one put%s, the memory budget is %llu bytes",
                        (unsigned long long)hint, why_one_put(writer),
                        (unsigned long long)budget_bytes);
    if (!writer->can_upload) { /* pieces of one put know no limits of parts */
        limits.part_min = limits.part_max = limits.part_multiple = limits.parts_max = 0;
        limits.flags &= ~PST_LIMIT_PARTS_UNIFORM;
    }
    pst_rc rc = pst_part_plan(&ask, &writer->plan, err);
    writer->hint_bytes = hint;
    writer->is_hint_exact = options->zstd_level == 0;
    writer->reach_bytes = rc == PST_OK ? pst_part_reach(&writer->plan) : 0;
    return rc;
}

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
                 "more than %llu bytes must be kept for one put%s, the memory budget is %llu bytes",
                 (unsigned long long)kept_bytes, why_one_put(writer),
                 (unsigned long long)budget_bytes);
    return pst_writer_fail(writer, PST_E_OVER_BUDGET);
}

static pst_rc begin_part(struct pst_writer *writer)
{
    struct pst_sink_run run = pst_writer_run(writer);
    uint64_t size = pst_part_size(&writer->plan, writer->number);
    if (writer->hint_bytes != PST_UNKNOWN && writer->offset < writer->hint_bytes &&
        writer->hint_bytes - writer->offset < size)
        size = writer->hint_bytes - writer->offset;
    pst_rc rc = check_budget(writer, size);
    if (rc != PST_OK)
        return rc;
    rc = pst_cargo_new(writer->port, (size_t)size, writer->sums.which, &run.limit,
                       &writer->current);
    return rc == PST_OK ? rc : pst_writer_fail(writer, rc);
}

pst_rc pst_parts_end(struct pst_writer *writer)
{
    struct pst_sink_run run = pst_writer_run(writer);
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
    pst_sums_append(&writer->sums, &cargo->sums, cargo->len);
    return pst_sink_send_part(writer->sink, &run, writer->max_in_flight, writer->number++, offset,
                              cargo, &writer->error);
}

/* Is it certain that the object takes more than the part which is full now? */
static int is_more_certain(const struct pst_writer *writer)
{
    return writer->can_upload &&
           (writer->is_upload_open || !writer->can_put ||
            (writer->hint_bytes != PST_UNKNOWN && writer->hint_bytes > writer->plan.first_bytes));
}

/* Let a full part travel while the application thinks. */
static pst_rc send_if_full(struct pst_writer *writer)
{
    uint64_t full = pst_part_size(&writer->plan, writer->number);
    return writer->current->len == full && is_more_certain(writer) ? pst_parts_end(writer) : PST_OK;
}

/* See to it that `current` takes one more byte. */
static pst_rc make_room(struct pst_writer *writer)
{
    pst_rc rc = PST_OK;
    if (writer->current && writer->current->len == writer->current->capacity) {
        uint64_t size = pst_part_size(&writer->plan, writer->number);
        if (!writer->can_upload || writer->current->capacity >= size) {
            rc = pst_parts_end(writer);
        } else { /* the hint was too small */
            rc = check_budget(writer, size);
            if (rc == PST_OK)
                pst_cargo_grow(writer->current, (size_t)size);
        }
    }
    return rc == PST_OK && !writer->current ? begin_part(writer) : rc;
}

uint64_t pst_parts_room(const struct pst_writer *writer)
{
    return writer->reach_bytes - writer->offset - (writer->current ? writer->current->len : 0);
}

/* Append some of the bytes to `current`, *n says how many. */
static pst_rc add_some(struct pst_writer *writer, const char *data, size_t len, pst_buffer *owner,
                       size_t *n)
{
    struct pst_cargo *cargo = writer->current;
    const struct pst_port *port = writer->port;
    uint32_t align = port->limits.io_align;
    pst_rc rc = PST_OK;
    *n = owner ? pst_cargo_takes(cargo, port, data, len) : 0;
    if (*n > 0) {
        rc = pst_cargo_take(cargo, owner, data, *n);
    } else {
        if (owner && align > 1 && cargo->len % align != 0 && len > align - cargo->len % align)
            len = align - cargo->len % align; /* from there the rest may travel as it is */
        rc = pst_cargo_fill(cargo, port, data, len, n);
    }
    return rc == PST_OK ? rc : pst_writer_fail(writer, rc);
}

pst_rc pst_parts_append(struct pst_writer *writer, const char *data, size_t len, pst_buffer *owner)
{
    pst_rc rc = PST_OK;
    if (len > pst_parts_room(writer))
        return pst_writer_fail(writer, pst_parts_fail_reach(writer, &writer->error));
    while (len > 0 && rc == PST_OK) {
        size_t n = 0;
        rc = make_room(writer);
        if (rc == PST_OK)
            rc = add_some(writer, data, len, owner, &n);
        if (rc == PST_OK)
            rc = send_if_full(writer);
        data += n;
        len -= n;
    }
    return rc;
}

pst_rc pst_parts_lend(struct pst_writer *writer, size_t want, void **out, size_t *len)
{
    uint64_t left = pst_parts_room(writer);
    pst_rc rc = make_room(writer);
    if (rc != PST_OK)
        return rc;
    rc = pst_cargo_lend(writer->current, writer->port, out, len);
    if (rc != PST_OK)
        return pst_writer_fail(writer, rc);
    if (*len > want)
        *len = want;
    if (*len > left)
        *len = (size_t)left;
    return PST_OK;
}

pst_rc pst_parts_keep(struct pst_writer *writer, size_t len)
{
    pst_rc rc = pst_cargo_keep(writer->current, len);
    return rc == PST_OK ? send_if_full(writer) : pst_writer_fail(writer, rc);
}
