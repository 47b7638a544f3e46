/* object.c - put, stat and exists.
 *
 * A put reads the caller's memory. Such memory must be quiet when the call returns (contract 3), so the
 * call waits for the plugin, cancelled or not. That is bounded only where the store declared prompt
 * cancel; elsewhere a put that may be cut short by cancel or timeout goes through a writer, which works
 * on copies. So does one that is larger than a single request may carry, or compressed. Sums are computed before the
 * submit and cover exactly what is sent. */
#include <penstock/object.h>

#include "core/error.h"
#include "io/attr.h"
#include "io/call.h"
#include "io/outcome.h"
#include "io/sums.h"
#include "io/verb.h"
#include "io/writer.h"

/* Returns the bytes of src; PST_UNKNOWN for one that cannot be. */
static uint64_t count_bytes(const pst_iov *src, size_t n_src)
{
    uint64_t size = 0;
    for (size_t i = 0; i < n_src; i++) {
        if ((src[i].len > 0 && !src[i].ptr) || src[i].len > PST_UNKNOWN - 1 - size)
            return PST_UNKNOWN;
        size += src[i].len;
    }
    return size;
}

static pst_rc check_put(const struct pst_port *port, pst_str key, const pst_iov *src, size_t n_src,
                        uint64_t *size, pst_error *err)
{
    pst_rc rc = pst_verb_check_key(port, key, err);
    if (rc == PST_OK && !(port->info.caps & PST_CAP_UPLOAD))
        rc = pst_verb_need(port, PST_CAP_PUT, err);
    if (rc != PST_OK)
        return rc;
    *size = n_src > 0 && !src ? PST_UNKNOWN : count_bytes(src, n_src);
    if (*size == PST_UNKNOWN)
        return pst_fail(err, PST_E_INVALID, "the source is not memory");
    return PST_OK;
}

static pst_rc check_size(const struct pst_port *port, uint64_t size, pst_error *err)
{
    if (port->limits.object_max && size > port->limits.object_max)
        return pst_fail(err, PST_E_INVALID, "%llu bytes are more than the store's limit of %llu",
                        (unsigned long long)size, (unsigned long long)port->limits.object_max);
    return PST_OK;
}

static int may_be_cut_short(const pst_call *call)
{
    struct pst_limit limit = pst_limit_of(call);
    return limit.cancel || limit.deadline_ns > 0;
}

static int needs_writer(const struct pst_port *port, uint64_t size, const pst_call *call)
{
    if (!(port->info.caps & PST_CAP_PUT))
        return 1;
    if (port->limits.part_max && size > port->limits.part_max && (port->info.caps & PST_CAP_UPLOAD))
        return 1;
    return size > 0 && !(port->info.caps & PST_CAP_CANCEL_BOUNDED) && may_be_cut_short(call);
}

/* One request, straight from the caller's memory. */
static pst_rc put_in_place(struct pst_port *port, pst_str key, const pst_iov *src, size_t n_src,
                           uint64_t size, const struct pst_write_plan *plan, const pst_call *call,
                           pst_write_result *result, pst_error *err)
{
    pst_sum sums[PST_SUMS_MAX];
    pst_error cause = PST_ERROR_INIT;
    pst_write_result own = {.struct_size = sizeof(own)};
    struct pst_task *task = pst_task_new(port, PST_SLOT_PUT, NULL);
    if (!task)
        return pst_fail_at(port, "PUT", key, PST_E_NO_MEMORY, NULL, err);
    pst_put_args *args = &task->args.put;
    args->struct_size = sizeof(*args);
    args->flags = plan->flags;
    args->size_hint = size;
    args->key = key;
    args->if_match = plan->options.if_match;
    args->src = src;
    args->n_src = n_src;
    args->attr = &plan->attr;
    args->sums = sums;
    args->sum_stride = sizeof(sums[0]);
    pst_rc rc = pst_sums_compute(port->core, plan->sums, src, n_src, sums, &args->n_sums, &cause);
    own.has_crc32c = pst_sums_get_crc32c(sums, args->n_sums, &own.crc32c);
    rc = rc == PST_OK ? pst_call_run(task, key, call, 1, err)
                      : pst_fail_at(port, "PUT", key, rc, &cause, err);
    if (rc == PST_OK) {
        pst_outcome_take(&task->result.put, &own);
        rc = pst_outcome_check(port, key, size, call, &own, err);
    }
    if (rc == PST_OK) {
        pst_outcome_describe(&own, size);
        atomic_fetch_add_explicit(&port->core->bytes_written, size, memory_order_relaxed);
        pst_outcome_give(&own, result);
    }
    pst_task_unref(task);
    return rc;
}

pst_rc pst_put(pst_store *store, pst_str key, const pst_iov *src, size_t n_src,
               const pst_write_options *options, const pst_call *call, pst_write_result *result,
               pst_error *err)
{
    struct pst_port *port = NULL;
    struct pst_write_plan plan;
    uint64_t size = 0;
    pst_rc rc = pst_store_port(store, &port, err);
    if (rc != PST_OK)
        return rc;
    rc = check_put(port, key, src, n_src, &size, err);
    if (rc == PST_OK)
        rc = pst_write_plan_init(port, options, &plan, err);
    int is_compressed = rc == PST_OK && plan.options.zstd_level != 0;
    if (rc == PST_OK && !is_compressed)
        rc = check_size(port, size, err);
    if (rc != PST_OK)
        pst_fail_at(port, "PUT", key, rc, err, err);
    else if (is_compressed || needs_writer(port, size, call))
        rc = pst_writer_put(port, key, src, n_src, size, &plan, call, result, err);
    else
        rc = put_in_place(port, key, src, n_src, size, &plan, call, result, err);
    pst_port_unref(port);
    return rc;
}

static pst_rc check_stat(const struct pst_port *port, const pst_stat_options *options,
                         pst_error *err)
{
    if (options->flags & ~PST_LOOK_SUMS)
        return pst_fail(err, PST_E_INVALID, "unknown flags 0x%x", (unsigned)options->flags);
    return pst_verb_check_version(port, options->version, err);
}

pst_rc pst_stat(pst_store *store, pst_str key, const pst_stat_options *options,
                const pst_call *call, pst_attr **out, pst_error *err)
{
    struct pst_task *task = NULL;
    pst_stat_options own;
    *out = NULL;
    pst_rc rc = pst_verb_begin(store, PST_SLOT_STAT, PST_CAP_STAT, key, 0, &task, err);
    if (rc != PST_OK)
        return rc;
    pst_stat_args *args = &task->args.stat;
    args->struct_size = sizeof(*args);
    rc = pst_options_take(&own, sizeof(own), options, err);
    if (rc == PST_OK)
        rc = check_stat(task->port, &own, err);
    if (rc != PST_OK) {
        pst_fail_at(task->port, pst_slot_name(task->slot), key, rc, err, err);
    } else if (pst_task_keep_str(task, key, &args->key) &&
               pst_task_keep_str(task, own.version, &args->version)) {
        args->flags = own.flags & PST_LOOK_SUMS ? PST_STAT_SUMS : 0;
        rc = pst_call_run(task, key, call, 0, err);
        if (rc == PST_OK && !(*out = pst_attr_dup(&task->result.stat)))
            rc = pst_call_fail(task, key, PST_E_NO_MEMORY, err);
    } else {
        rc = pst_call_fail(task, key, PST_E_NO_MEMORY, err);
    }
    pst_task_unref(task);
    return rc;
}

pst_rc pst_exists(pst_store *store, pst_str key, const pst_call *call, int *exists, pst_error *err)
{
    pst_attr *attr = NULL;
    *exists = 0;
    pst_rc rc = pst_stat(store, key, NULL, call, &attr, err);
    if (attr)
        *exists = attr->kind == PST_KIND_OBJECT;
    pst_attr_free(attr);
    if (rc == PST_E_NOT_FOUND) {
        pst_error_clear(err);
        rc = PST_OK;
    }
    return rc;
}
