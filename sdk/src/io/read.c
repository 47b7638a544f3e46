/* read.c - the blocking reads into buffers: take the options, start a get, wait, hand over.
 *
 * A suffix is one request where the store reads suffixes and it is no longer than a first read. Else stat
 * tells where the end is, of the version asked for, and the range there is read: pinned to stat's etag if
 * that is strong, compared with stat's size in any case. What is replaced in between is CHANGED, under an
 * if_match of the caller PRECONDITION. Both requests share the call's timeout.
 *
 * When cancel or the deadline strike, the call returns at once and the get ends by itself: nobody but the
 * get knows its buffer yet. */
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "io/call.h"
#include "io/decode.h"
#include "io/get.h"
#include "io/page.h"
#include "io/read.h"
#include "io/verb.h"

static void on_done(struct pst_get *get, pst_rc rc)
{
    pst_waiter_end(pst_get_owner(get), rc);
}

static void stop_get(void *get, pst_rc code)
{
    pst_get_stop(get, code);
}

pst_rc pst_read_run(struct pst_get_spec *spec, const pst_call *call, const struct pst_limit *limit,
                    struct pst_get **out, pst_error *err)
{
    int is_done = 0;
    struct pst_get *get = NULL;
    if (pst_limit_is_fired(limit))
        return pst_fail_at(spec->port, "GET", spec->key, PST_E_CANCELLED, NULL, err);
    struct pst_waiter *waiter = pst_waiter_new(spec->port->core);
    if (waiter) {
        spec->owner = waiter;
        spec->crew = waiter;
        spec->done = on_done;
        spec->deadline_ns = limit->deadline_ns;
        if (call && PST_HAS(pst_call, call, max_attempts))
            spec->max_attempts = call->max_attempts;
        if (call && PST_HAS(pst_call, call, affinity))
            spec->affinity = call->affinity;
        get = pst_get_new(spec);
    }
    if (!get) {
        pst_waiter_free(waiter);
        return pst_fail_at(spec->port, "GET", spec->key, PST_E_NO_MEMORY, NULL, err);
    }
    if (spec->hedge_after_ms == 0) /* else it must be free to take the second answer */
        pst_waiter_help(waiter, spec->port, limit);
    pst_get_start(get);
    pst_rc rc = pst_waiter_wait(waiter, *limit, spec->n_dst > 0, stop_get, get, &is_done);
    if (rc != PST_OK && is_done)
        pst_error_copy(err, pst_get_outcome_of(get)->error);
    else if (rc != PST_OK)
        pst_fail_at(spec->port, "GET", spec->key, rc, NULL, err);
    if (rc != PST_OK) {
        pst_get_unref(get);
        return rc;
    }
    *out = get;
    return PST_OK;
}

pst_rc pst_read_check_flags(uint32_t flags, uint32_t known, pst_error *err)
{
    if (flags & ~known)
        return pst_fail(err, PST_E_INVALID, "unknown flags 0x%x", (unsigned)(flags & ~known));
    return PST_OK;
}

static pst_rc take_options(const pst_read_options *given, struct pst_get_spec *spec, pst_error *err)
{
    const uint32_t known = PST_READ_EXACT | PST_READ_ALLOW_UNPINNED | PST_READ_CRC32C |
                           PST_READ_VERIFY | PST_READ_EXPECT_CRC32C;
    pst_read_options options;
    pst_rc rc = pst_options_take(&options, sizeof(options), given, err);
    if (rc == PST_OK)
        rc = pst_read_check_flags(options.flags, known, err);
    if (rc != PST_OK)
        return rc;
    if (options.part_bytes > 0 &&
        (options.part_bytes < PST_READ_PART_MIN || options.part_bytes > PST_READ_PART_MAX))
        return pst_fail(err, PST_E_INVALID, "part_bytes must be %llu to %llu, not %llu",
                        (unsigned long long)PST_READ_PART_MIN,
                        (unsigned long long)PST_READ_PART_MAX,
                        (unsigned long long)options.part_bytes);
    if (options.max_in_flight > PST_READ_IN_FLIGHT_MAX)
        return pst_fail(err, PST_E_INVALID, "max_in_flight must be at most %u, not %u",
                        PST_READ_IN_FLIGHT_MAX, options.max_in_flight);
    spec->flags = options.flags;
    spec->if_match = options.if_match;
    spec->version = options.version;
    spec->part_bytes = options.part_bytes;
    spec->max_in_flight = options.max_in_flight;
    spec->hedge_after_ms = options.hedge_after_ms;
    spec->expected_crc32c = options.expected_crc32c;
    return PST_OK;
}

pst_rc pst_read_fill_spec(const pst_read_options *given, struct pst_get_spec *spec, pst_error *err)
{
    uint64_t budget_bytes = spec->port->core->budget.limit_bytes;
    pst_rc rc = take_options(given, spec, err);
    if (rc == PST_OK && spec->n_dst == 0 && spec->part_bytes > budget_bytes)
        rc = pst_fail(err, PST_E_OVER_BUDGET,
                      "one part of %llu bytes is more than the memory budget of %llu bytes",
                      (unsigned long long)spec->part_bytes, (unsigned long long)budget_bytes);
    return rc;
}

pst_rc pst_read_take_options(const pst_read_options *given, struct pst_get_spec *spec,
                             pst_error *err)
{
    pst_rc rc = pst_read_fill_spec(given, spec, err);
    if (rc == PST_OK)
        rc = pst_verb_check_key(spec->port, spec->key, err);
    if (rc == PST_OK)
        rc = pst_verb_check_version(spec->port, spec->version, err);
    return rc == PST_OK ? rc : pst_fail_at(spec->port, "GET", spec->key, rc, err, err);
}

static pst_rc read_buffer(struct pst_get_spec *spec, const pst_read_options *options,
                          const pst_call *call, pst_buffer **out, pst_read_info *info,
                          pst_error *err)
{
    struct pst_get *get = NULL;
    struct pst_limit limit = pst_limit_of(call);
    pst_rc rc = pst_read_take_options(options, spec, err);
    if (rc == PST_OK)
        rc = pst_read_run(spec, call, &limit, &get, err);
    if (rc == PST_OK) {
        pst_get_fill_info(pst_get_outcome_of(get), info);
        *out = pst_get_take(get);
        pst_get_unref(get);
    }
    return rc;
}

pst_rc pst_get(pst_store *store, pst_str key, const pst_read_options *options, const pst_call *call,
               pst_buffer **out, pst_read_info *info, pst_error *err)
{
    return pst_get_range(store, key, 0, PST_UNKNOWN, options, call, out, info, err);
}

/* ---- the end of an object ---------------------------------------------------------------------- */

/* Ask what there is of the version that is to be read. Ownership: pst_task_unref(*out). */
static pst_rc stat_version(pst_store *store, const struct pst_get_spec *spec, const pst_call *call,
                           struct pst_task **out, pst_error *err)
{
    struct pst_task *task = NULL;
    pst_rc rc = pst_verb_begin(store, PST_SLOT_STAT, PST_CAP_STAT, spec->key, 0, &task, err);
    if (rc != PST_OK)
        return rc;
    pst_stat_args *args = &task->args.stat;
    args->struct_size = sizeof(*args);
    if (pst_task_keep_str(task, spec->key, &args->key) &&
        pst_task_keep_str(task, spec->version, &args->version))
        rc = pst_call_run(task, spec->key, call, 0, err);
    else
        rc = pst_call_fail(task, spec->key, PST_E_NO_MEMORY, err);
    if (rc != PST_OK) {
        pst_task_unref(task);
        return rc;
    }
    *out = task;
    return PST_OK;
}

/* Make the suffix of spec->length bytes a range, pinned where it can be. Where it cannot, one byte more is
 * asked for: should the object have grown, a store that does not tell its size shows it so. */
static pst_rc aim_at_end(struct pst_get_spec *spec, const pst_attr *attr, pst_error *err)
{
    const pst_str want = spec->if_match;
    uint64_t take = spec->length < attr->size ? spec->length : attr->size;
    int is_pinned = attr->etag_strength == PST_ETAG_STRONG && attr->etag.len > 0;
    if (attr->kind != PST_KIND_OBJECT)
        return pst_fail(err, PST_E_NOT_FOUND, "it is no object");
    if (want.len > 0 && attr->etag.len > 0 &&
        (want.len != attr->etag.len || memcmp(want.ptr, attr->etag.ptr, want.len) != 0))
        return pst_fail(err, PST_E_PRECONDITION, "the object's etag is another one");
    if ((spec->flags & PST_READ_EXACT) && take < spec->length)
        return pst_fail(err, PST_E_RANGE, "the last %llu bytes of an object of %llu bytes",
                        (unsigned long long)spec->length, (unsigned long long)attr->size);
    spec->flags &= ~PST_READ_EXACT;
    if (is_pinned)
        spec->if_match = attr->etag;
    spec->offset = attr->size - take;
    spec->length = take > 0 && !is_pinned ? take + 1 : take;
    return PST_OK;
}

/* Are the bytes that were read the end of the object that stat saw? */
static int is_its_end(const struct pst_get_outcome *outcome, const struct pst_get_spec *spec,
                      uint64_t size)
{
    return outcome->n_read == size - spec->offset &&
           (outcome->object_size == size || outcome->object_size == PST_UNKNOWN);
}

/* Without suffix reads, or for one too long for a single request: ask for the size, then read a range. */
static pst_rc suffix_by_stat(pst_store *store, struct pst_get_spec *spec,
                             const pst_read_options *options, const pst_call *call,
                             pst_buffer **out, pst_read_info *info, pst_error *err)
{
    struct pst_get *get = NULL;
    struct pst_task *stat = NULL;
    pst_error cause = PST_ERROR_INIT;
    struct pst_limit limit = pst_limit_of(call); /* of both requests */
    pst_rc rc = pst_read_take_options(options, spec, err);
    int is_own_pin = spec->if_match.len == 0;
    if (rc == PST_OK)
        rc = stat_version(store, spec, call, &stat, err);
    if (rc != PST_OK)
        return rc;
    uint64_t size = stat->result.stat.size;
    rc = aim_at_end(spec, &stat->result.stat, &cause);
    if (rc != PST_OK) {
        rc = pst_fail_at(spec->port, "GET", spec->key, rc, &cause, err);
        goto out;
    }
    rc = pst_read_run(spec, call, &limit, &get, err);
    if ((rc == PST_E_PRECONDITION && is_own_pin) ||
        (rc == PST_OK && !is_its_end(pst_get_outcome_of(get), spec, size))) {
        rc = pst_fail(&cause, PST_E_CHANGED, "the object was replaced while it was read");
        rc = pst_fail_at(spec->port, "GET", spec->key, rc, &cause, err);
    } else if (rc == PST_OK) {
        pst_get_fill_info(pst_get_outcome_of(get), info);
        *out = pst_get_take(get);
    }
out:
    pst_get_unref(get);
    pst_task_unref(stat);
    return rc;
}

/* ---- into a new buffer ------------------------------------------------------------------------ */

/* Into a new buffer: decoded, as a suffix that the store or a stat finds, or as it is. */
static pst_rc read_new(pst_store *store, const struct pst_decode_ask *ask,
                       const pst_read_options *options, const pst_call *call, pst_buffer **out,
                       pst_read_info *info, pst_error *err)
{
    struct pst_get_spec spec = {.key = ask->key, .offset = ask->offset, .length = ask->length};
    int is_decoded = 0;
    *out = NULL;
    pst_rc rc = pst_decode_asked(options, ask->key, &is_decoded, err);
    if (rc == PST_OK && is_decoded)
        return pst_decode_read(store, ask, options, call, out, NULL, info, err);
    if (rc == PST_OK)
        rc = pst_store_port(store, &spec.port, err);
    if (rc != PST_OK)
        return rc;
    spec.is_suffix = ask->is_suffix &&
                     (pst_port_has(spec.port, PST_CAP_READ_SUFFIX) || PST_FAULT(SUFFIX_ANYWAY)) &&
                     ask->length <= spec.port->core->config.first_read_bytes;
    rc = spec.is_suffix == ask->is_suffix
             ? read_buffer(&spec, options, call, out, info, err)
             : suffix_by_stat(store, &spec, options, call, out, info, err);
    pst_port_unref(spec.port);
    return rc;
}

pst_rc pst_get_range(pst_store *store, pst_str key, uint64_t offset, uint64_t length,
                     const pst_read_options *options, const pst_call *call, pst_buffer **out,
                     pst_read_info *info, pst_error *err)
{
    const struct pst_decode_ask ask = {.key = key, .offset = offset, .length = length};
    return read_new(store, &ask, options, call, out, info, err);
}

pst_rc pst_get_suffix(pst_store *store, pst_str key, uint64_t length,
                      const pst_read_options *options, const pst_call *call, pst_buffer **out,
                      pst_read_info *info, pst_error *err)
{
    const struct pst_decode_ask ask = {.key = key, .length = length, .is_suffix = 1};
    return read_new(store, &ask, options, call, out, info, err);
}

/* ---- validation -------------------------------------------------------------------------------- */

/* The same options, and a checksum to compare with. */
static pst_rc add_checksum(pst_str checksum, const pst_read_options *given, pst_read_options *out,
                           pst_error *err)
{
    pst_rc rc = pst_options_take(out, sizeof(*out), given, err);
    if (rc != PST_OK)
        return rc;
    out->struct_size = sizeof(*out);
    out->flags |= checksum.len > 0 ? PST_READ_EXPECT_CRC32C : PST_READ_VERIFY;
    if (checksum.len > 0 && !pst_crc32c_parse(checksum, &out->expected_crc32c))
        return pst_fail(err, PST_E_INVALID, "\"%.*s\" is no checksum like \"crc32c:e3069283\"",
                        checksum.len < 64 ? (int)checksum.len : 64, checksum.ptr);
    return PST_OK;
}

pst_rc pst_get_with_validation(pst_store *store, pst_str key, pst_str checksum,
                               const pst_read_options *options, const pst_call *call,
                               pst_buffer **out, pst_read_info *info, pst_error *err)
{
    return pst_get_range_with_validation(store, key, 0, PST_UNKNOWN, checksum, options, call, out,
                                         info, err);
}

pst_rc pst_get_range_with_validation(pst_store *store, pst_str key, uint64_t offset,
                                     uint64_t length, pst_str checksum,
                                     const pst_read_options *options, const pst_call *call,
                                     pst_buffer **out, pst_read_info *info, pst_error *err)
{
    pst_read_options own;
    *out = NULL;
    pst_rc rc = add_checksum(checksum, options, &own, err);
    if (rc != PST_OK) {
        pst_error_prefix(err, "get_with_validation: ");
        return rc;
    }
    return pst_get_range(store, key, offset, length, &own, call, out, info, err);
}
