/* sink.h - where the bytes of a writer go: puts, parts, commit, abort, and what must outlive the writer.
 *
 * A sink is shared by its writer and by each operation on the way. The writer may be freed while a part
 * is still at the plugin: the part keeps its buffer and the sink, the abort follows when the last part
 * has ended, and the upload is freed when the last of them lets go. */
#ifndef PST_IO_SINK_H
#define PST_IO_SINK_H

#include <penstock/object.h>

#include "io/call.h"
#include "io/cargo.h"
#include "io/verb.h"

struct pst_sink;

/* How an operation of a writer is run. */
struct pst_sink_run {
    struct pst_limit limit; /* of the waiting */
    uint64_t deadline_ns;   /* of parts, which end after the call that sent them */
    uint32_t max_attempts, affinity;
};

/* Copies key, condition and attributes. NULL for lack of memory. */
struct pst_sink *pst_sink_new(struct pst_port *port, pst_str key,
                              const struct pst_write_plan *plan);

/* Write all of `cargo` (a list; NULL: an empty object) in one request. Takes the list when it
 * succeeds and when the wait was cut short (*cargo is NULL then), else leaves it for another try. */
pst_rc pst_sink_put(struct pst_sink *sink, const struct pst_sink_run *run, struct pst_cargo **cargo,
                    uint64_t size, const struct pst_sums *sums, pst_write_result *result,
                    pst_error *err);

/* Open the upload. */
pst_rc pst_sink_open(struct pst_sink *sink, const struct pst_sink_run *run, pst_error *err);

/* Wait until fewer than `max` parts are under way and send this one. Takes `cargo`, always.
 * Errors: beside its own the failure of a part that was sent before. */
pst_rc pst_sink_send_part(struct pst_sink *sink, const struct pst_sink_run *run, uint32_t max,
                          uint32_t number, uint64_t offset, struct pst_cargo *cargo,
                          pst_error *err);

/* Wait for all parts. Errors: the first failure of a part. */
pst_rc pst_sink_settle(struct pst_sink *sink, const struct pst_sink_run *run, pst_error *err);

/* Publish. May be repeated after a retryable failure. */
pst_rc pst_sink_commit(struct pst_sink *sink, const struct pst_sink_run *run, uint64_t size,
                       uint32_t n_parts, const struct pst_sums *sums, pst_write_result *result,
                       pst_error *err);

/* Cancel what is on its way and abort the upload, unless it was committed. Waits as run->limit says;
 * what has not ended by then goes on by itself. May be repeated.
 * Errors: INVALID when the object was published, even if nobody waited for that. */
pst_rc pst_sink_abort(struct pst_sink *sink, const struct pst_sink_run *run, pst_error *err);

/* Drop the writer's reference. */
void pst_sink_free(struct pst_sink *sink);

struct pst_port *pst_sink_port(struct pst_sink *sink);
pst_str pst_sink_key(const struct pst_sink *sink);

#endif
