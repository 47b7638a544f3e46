#include "io/outcome.h"

#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "io/call.h"
#include "util/crc32c.h"

#define LOOK_MS 500 /* of a call that is cancelled, and has a second to end */

/* Returns 0 when `from` does not fit, which leaves `to` empty. */
static int take_text(pst_str from, char *to, size_t cap)
{
    int fits = from.len < cap;
    if (fits && from.len > 0)
        memcpy(to, from.ptr, from.len);
    to[fits ? from.len : 0] = '\0';
    return fits;
}

void pst_outcome_take(const pst_put_result *reply, pst_write_result *out)
{
    out->size = reply->size;
    out->etag_strength = reply->etag_strength;
    if (!take_text(reply->etag, out->etag, sizeof(out->etag)) || out->etag[0] == '\0')
        out->etag_strength = PST_ETAG_NONE;
    take_text(reply->version, out->version, sizeof(out->version));
}

void pst_outcome_describe(pst_write_result *out, uint64_t n_written)
{
    out->bytes_written = n_written;
    out->ratio = out->size > 0 ? (double)n_written / (double)out->size : 1.0;
    out->checksum[0] = '\0';
    if (out->has_crc32c)
        pst_crc32c_text(out->crc32c, out->checksum);
}

void pst_outcome_give(const pst_write_result *from, pst_write_result *to)
{
    size_t head = sizeof(to->struct_size);
    if (!to || to->struct_size <= head)
        return;
    size_t bytes = to->struct_size < sizeof(*from) ? to->struct_size : sizeof(*from);
    memcpy((char *)to + head, (const char *)from + head, bytes - head);
}

/* Somebody else may have replaced the object since: then its size says nothing about ours. */
static int is_another(const pst_attr *now, const pst_write_result *written)
{
    size_t len = strlen(written->etag);
    return len > 0 && now->etag.len > 0 &&
           (now->etag.len != len || memcmp(now->etag.ptr, written->etag, len) != 0);
}

static pst_rc stat_once(struct pst_port *port, pst_str key, const pst_call *call,
                        struct pst_task **out, pst_error *err)
{
    struct pst_task *task = pst_task_new(port, PST_SLOT_STAT, NULL);
    *out = task;
    if (!task)
        return PST_E_NO_MEMORY;
    task->args.stat.struct_size = sizeof(task->args.stat);
    if (!pst_task_keep_str(task, key, &task->args.stat.key))
        return PST_E_NO_MEMORY;
    return pst_call_run(task, key, call, 0, err);
}

/* Whoever cancels what the store has confirmed hears of its loss all the same, if that takes no longer than
 * LOOK_MS. Ownership: pst_task_unref(*out). */
static pst_rc stat_after_all(struct pst_port *port, pst_str key, const pst_call *call,
                             struct pst_task **out, pst_error *err)
{
    pst_call brief = {.struct_size = sizeof(brief), .timeout_ms = LOOK_MS};
    pst_rc rc = stat_once(port, key, call, out, err);
    const struct pst_limit limit = pst_limit_of(call);
    if (rc != PST_E_CANCELLED || !pst_limit_is_fired(&limit))
        return rc;
    if (PST_HAS(pst_call, call, affinity)) /* there is a call: it has the token */
        brief.affinity = call->affinity;
    pst_task_unref(*out);
    pst_error_clear(err);
    return stat_once(port, key, &brief, out, err);
}

/* Ask for the size. Returns PST_OK with *size PST_UNKNOWN when there is nothing to compare with. */
static pst_rc look(struct pst_port *port, pst_str key, const pst_call *call,
                   const pst_write_result *written, uint64_t *size, pst_error *err)
{
    struct pst_task *task = NULL;
    pst_error cause = PST_ERROR_INIT;
    pst_rc rc = stat_after_all(port, key, call, &task, &cause);
    if (rc == PST_OK && !is_another(&task->result.stat, written)) {
        *size = task->result.stat.size;
    } else if (rc == PST_E_NOT_FOUND) {
        pst_fail(&cause, PST_E_DATA_LOSS, "the store confirmed the object and does not have it");
        rc = pst_fail_at(port, "PUT", key, PST_E_DATA_LOSS, &cause, err);
    } else if (rc != PST_OK) {
        pst_logf(&port->core->log, PST_LEVEL_WARN, "size not verified: %s",
                 cause.message[0] ? cause.message : pst_rc_text(rc));
        rc = PST_OK;
    }
    pst_task_unref(task);
    return rc;
}

pst_rc pst_outcome_check(struct pst_port *port, pst_str key, uint64_t size, const pst_call *call,
                         pst_write_result *out, pst_error *err)
{
    pst_error cause = PST_ERROR_INIT;
    uint64_t stored = out->size;
    if (stored == PST_UNKNOWN && (port->info.caps & PST_CAP_STAT)) {
        pst_rc rc = look(port, key, call, out, &stored, err);
        if (rc != PST_OK)
            return rc;
    }
    out->size = size;
    if (stored == PST_UNKNOWN || stored == size)
        return PST_OK;
    pst_fail(&cause, PST_E_DATA_LOSS, "the store holds %llu bytes of the %llu that were written",
             (unsigned long long)stored, (unsigned long long)size);
    return pst_fail_at(port, "PUT", key, PST_E_DATA_LOSS, &cause, err);
}
