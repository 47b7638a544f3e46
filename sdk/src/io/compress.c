/* compress.c - a stream of bytes becomes a seekable zstd object: frames of equal content, then a table.
 *
 * Bytes are gathered into a frame; a full one goes to the context's CPU pool and the next one is filled
 * meanwhile. At most as many runners as workers are planned take frames from the line, each with a context of libzstd's
 * that it keeps while it runs; they never wait for anything but the mutex. What they made is emitted in
 * order by the thread that writes: before it opens a frame while too many are out, and at the end. A
 * frame that lies whole in a buffer of the caller is compressed from there. The only frame of a small
 * object is compressed where it stands: waking a thread costs more.
 *
 * Frames are independent, know their content's size and carry its checksum. Independent frames on our
 * own pool, not libzstd's threads: they can be read one by one and in parallel, the number of threads in
 * the process stays what the context says, and one libzstd worker alone is slower than none.
 *
 * Memory: a frame reserves what goes in and the most that can come out, in one step, and gives back what
 * it does not need as soon as it is compressed; there is at most one more than workers. Only the thread
 * that writes can let go of them, and it may be waiting for budget itself (for the part that takes what
 * is emitted), so that all of it counts as idle: core/budget.h.
 *
 * Errors stay, and end the stream; free leaves a runner its frame to finish, and the last one who goes
 * releases everything. A fork child must not call anything here on a compressor of before. */
#include "io/compress.h"

#include <stdlib.h>
#include <string.h>

#include "codec/seek_table.h"
#include "codec/zstd_lib.h"
#include "core/error.h"
#include "io/compress_plan.h"
#include "io/room.h"

#define INLINE_MAX ((size_t)1 << 20) /* an only frame up to here wakes no thread */

enum frame_state { FRAME_QUEUED, FRAME_RUNNING, FRAME_DONE };

struct frame {
    struct frame *next; /* in the order of the stream */
    const char *in;
    size_t in_len, in_capacity;
    pst_buffer *in_buffer, *out_buffer; /* the first one ours, or a reference to the caller's */
    uint64_t reserved_bytes;
    enum frame_state state; /* under the mutex; the rest belongs to who has the frame */
    pst_rc rc;
    size_t zstd_result;
};

struct runner {
    struct pst_job job;
    struct pst_compressor *compressor;
    int is_out; /* under the mutex */
};

struct pst_compressor {
    atomic_uint refs; /* the owner, each runner that is out */
    struct pst_port *port;
    const struct pst_zstd *zstd;
    pst_compressed_fn emit;
    void *emit_arg;
    struct pst_compress_plan plan;
    struct frame *filling;       /* NULL: none is open */
    struct frame *first, **last; /* submitted, not emitted */
    uint32_t n_submitted;
    int has_frame, is_finished, has_emit_failed;
    struct pst_seek_log log;
    pst_error error; /* code: the failure that stays */
    struct pst_gate gate;
    struct {
        uint32_t n_out; /* runners */
        int is_stopping;
    } locked;
    struct runner runners[];
};

/* ---- frames ----------------------------------------------------------------------------------- */

static void release_room(struct pst_compressor *c, struct frame *frame, uint64_t bytes)
{
    frame->reserved_bytes -= bytes;
    pst_budget_busy(&c->port->core->budget, bytes);
    pst_budget_release(&c->port->core->budget, bytes);
}

static void free_frame(struct pst_compressor *c, struct frame *frame)
{
    if (!frame)
        return;
    pst_buffer_unref(frame->in_buffer);
    pst_buffer_unref(frame->out_buffer);
    release_room(c, frame, frame->reserved_bytes);
    free(frame);
}

/* One frame, on whatever thread; no lock held. */
static void compress(struct pst_compressor *c, struct ZSTD_CCtx_s *cctx, struct frame *frame)
{
    const size_t bound = pst_compress_bound(frame->in_len);
    frame->rc = PST_E_NO_MEMORY;
    if (!cctx || !(frame->out_buffer = pst_buffer_new(c->port->core->arenas, bound, 0)))
        return;
    frame->zstd_result = c->zstd->compress2(cctx, pst_buffer_bytes(frame->out_buffer), bound,
                                            frame->in, frame->in_len);
    if (c->zstd->is_error(frame->zstd_result)) {
        if (c->zstd->error_code(frame->zstd_result) != PST_ZSTD_E_NO_MEMORY)
            frame->rc = PST_E_INTERNAL;
        return;
    }
    frame->rc = PST_OK;
    pst_buffer_set_size(frame->out_buffer, frame->zstd_result);
    pst_buffer_unref(frame->in_buffer);
    frame->in_buffer = NULL;
    release_room(c, frame, frame->reserved_bytes - frame->zstd_result);
}

static struct ZSTD_CCtx_s *take_context(const struct pst_compressor *c)
{
    struct ZSTD_CCtx_s *cctx = pst_zstd_take_cctx(c->zstd);
    if (cctx) {
        c->zstd->cctx_set(cctx, PST_ZSTD_C_LEVEL, c->plan.level);
        c->zstd->cctx_set(cctx, PST_ZSTD_C_CONTENT_SIZE, 1);
        c->zstd->cctx_set(cctx, PST_ZSTD_C_CHECKSUM, 1);
    }
    return cctx;
}

static void compress_here(struct pst_compressor *c, struct frame *frame)
{
    struct ZSTD_CCtx_s *cctx = take_context(c);
    compress(c, cctx, frame);
    pst_zstd_give_cctx(c->zstd, cctx);
}

/* ---- runners ---------------------------------------------------------------------------------- */

static void unref(struct pst_compressor *c)
{
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    while (c->first) {
        struct frame *next = c->first->next;
        free_frame(c, c->first);
        c->first = next;
    }
    free_frame(c, c->filling);
    pst_seek_log_fini(&c->log);
    pst_gate_fini(&c->gate);
    pst_port_unref(c->port);
    free(c);
}

static void unref_after(void *compressor)
{
    unref(compressor);
}

static struct frame *next_queued_locked(struct pst_compressor *c)
{
    struct frame *frame = c->locked.is_stopping ? NULL : c->first;
    while (frame && frame->state != FRAME_QUEUED)
        frame = frame->next;
    return frame;
}

static void run(void *arg)
{
    struct runner *runner = arg;
    struct pst_compressor *c = runner->compressor;
    struct ZSTD_CCtx_s *cctx = take_context(c);
    struct frame *frame = NULL;
    pthread_mutex_lock(&c->gate.mutex);
    while ((frame = next_queued_locked(c))) {
        frame->state = FRAME_RUNNING;
        pthread_mutex_unlock(&c->gate.mutex);
        compress(c, cctx, frame);
        pthread_mutex_lock(&c->gate.mutex);
        frame->state = FRAME_DONE;
        pthread_cond_signal(&c->gate.changed);
    }
    runner->is_out = 0;
    c->locked.n_out--;
    pthread_mutex_unlock(&c->gate.mutex);
    pst_zstd_give_cctx(c->zstd, cctx);
}

/* Send out one more runner if one is at home. Returns 0 when nobody is out, nor can be sent. */
static int send_runner(struct pst_compressor *c)
{
    struct runner *runner = NULL;
    pthread_mutex_lock(&c->gate.mutex);
    for (uint32_t i = 0; i < c->plan.n_workers && !runner; i++) {
        if (!c->runners[i].is_out)
            runner = &c->runners[i];
    }
    if (runner) {
        runner->is_out = 1;
        c->locked.n_out++;
    }
    pthread_mutex_unlock(&c->gate.mutex);
    if (!runner)
        return 1;
    runner->compressor = c;
    runner->job = (struct pst_job){.fn = run, .arg = runner, .after = unref_after, .after_arg = c};
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    if (pst_pool_run(c->port->core->cpu, &c->port->core->cpu_share, &runner->job) == PST_OK)
        return 1;                                                 /* and may be back by now */
    atomic_fetch_sub_explicit(&c->refs, 1, memory_order_relaxed); /* never the last */
    pthread_mutex_lock(&c->gate.mutex);
    runner->is_out = 0;
    int is_anybody_out = --c->locked.n_out > 0;
    pthread_mutex_unlock(&c->gate.mutex);
    return is_anybody_out;
}

static void submit(struct pst_compressor *c, struct frame *frame, int is_only)
{
    int is_done = is_only && frame->in_len <= INLINE_MAX;
    c->has_frame = 1;
    if (is_done)
        compress_here(c, frame);
    pthread_mutex_lock(&c->gate.mutex);
    frame->state = is_done ? FRAME_DONE : FRAME_QUEUED;
    *c->last = frame;
    c->last = &frame->next;
    pthread_mutex_unlock(&c->gate.mutex);
    c->n_submitted++;
    if (is_done || send_runner(c))
        return;
    /* Not one thread can be had. All runners are at home, but one may have taken the frame before. */
    if (frame->state == FRAME_QUEUED) {
        compress_here(c, frame);
        frame->state = FRAME_DONE;
    }
}

/* ---- the caller's side ------------------------------------------------------------------------ */

/* What emit answered has been explained to whom it belongs. */
static pst_rc stay_failed(const struct pst_compressor *c, pst_error *err)
{
    if (!c->has_emit_failed)
        pst_error_copy(err, &c->error);
    return c->error.code;
}

static pst_rc hand_on(struct pst_compressor *c, const void *data, size_t len)
{
    pst_rc rc = c->emit(c->emit_arg, data, len);
    c->has_emit_failed = rc != PST_OK;
    c->error.code = rc;
    return rc;
}

static pst_rc fail_frame(struct pst_compressor *c, const struct frame *frame)
{
    if (frame->rc == PST_E_NO_MEMORY)
        return pst_fail(&c->error, frame->rc, "no memory to compress at level %d", c->plan.level);
    return pst_fail(&c->error, frame->rc, "libzstd cannot compress: %s",
                    c->zstd->error_name(frame->zstd_result));
}

/* Wait for the oldest frame and hand on what became of it. */
static pst_rc emit_oldest(struct pst_compressor *c, const struct pst_limit *limit)
{
    struct frame *frame = c->first;
    pst_rc rc = PST_OK;
    pthread_mutex_lock(&c->gate.mutex);
    while (frame->state != FRAME_DONE && rc == PST_OK)
        rc = pst_gate_sleep(&c->gate, limit);
    if (frame->state == FRAME_DONE) {
        c->first = frame->next;
        if (!c->first)
            c->last = &c->first;
        rc = PST_OK;
    }
    pthread_mutex_unlock(&c->gate.mutex);
    if (rc != PST_OK)
        return pst_fail(&c->error, rc, "%s", pst_rc_text(rc));
    c->n_submitted--;
    rc = frame->rc == PST_OK ? pst_seek_log_add(&c->log, (uint32_t)frame->zstd_result,
                                                (uint32_t)frame->in_len, &c->error)
                             : fail_frame(c, frame);
    if (rc == PST_OK)
        rc = hand_on(c, pst_buffer_data(frame->out_buffer), frame->zstd_result);
    free_frame(c, frame);
    return rc;
}

/* Reserve, letting go of our own frames before waiting for others. */
static pst_rc reserve(struct pst_compressor *c, uint64_t bytes, const struct pst_limit *limit)
{
    struct pst_budget *budget = &c->port->core->budget;
    pst_rc rc = PST_OK;
    while (rc == PST_OK && !pst_budget_try(budget, bytes)) {
        if (c->n_submitted > 0) {
            rc = emit_oldest(c, limit);
            continue;
        }
        rc = pst_room_reserve(budget, bytes, limit);
        if (rc != PST_OK)
            pst_fail(&c->error, rc, "%s", pst_rc_text(rc));
        break;
    }
    if (rc == PST_OK)
        pst_budget_idle(budget, bytes);
    return rc;
}

/* A frame with the memory to compress it; `capacity` bytes to copy to, or none for an `owner`. */
static pst_rc new_frame(struct pst_compressor *c, size_t capacity, pst_buffer *owner,
                        const struct pst_limit *limit, struct frame **out)
{
    pst_rc rc = PST_OK;
    while (rc == PST_OK && c->n_submitted > c->plan.n_workers)
        rc = emit_oldest(c, limit);
    if (rc == PST_OK)
        rc = reserve(c, pst_compress_room(capacity), limit);
    if (rc != PST_OK)
        return rc;
    struct frame *frame = calloc(1, sizeof(*frame));
    if (frame)
        frame->in_buffer = owner ? pst_buffer_ref(owner)
                                 : pst_buffer_new(c->port->core->arenas, capacity, 0);
    if (!frame || !frame->in_buffer) {
        free(frame);
        pst_budget_busy(&c->port->core->budget, pst_compress_room(capacity));
        pst_budget_release(&c->port->core->budget, pst_compress_room(capacity));
        return pst_fail(&c->error, PST_E_NO_MEMORY, "no memory to compress");
    }
    frame->reserved_bytes = pst_compress_room(capacity);
    frame->in_capacity = capacity;
    if (!owner)
        frame->in = pst_buffer_bytes(frame->in_buffer);
    *out = frame;
    return PST_OK;
}

/* The first frame turned out to be longer: move what is there. Does not wait: who holds bytes cannot
 * let go of them. */
static pst_rc grow_filling(struct pst_compressor *c)
{
    struct frame *frame = c->filling;
    size_t capacity = frame->in_capacity > c->plan.frame_bytes / 4 ? c->plan.frame_bytes
                                                                   : frame->in_capacity * 4;
    pst_buffer *larger = pst_buffer_new(c->port->core->arenas, capacity, 0);
    if (!larger)
        return pst_fail(&c->error, PST_E_NO_MEMORY, "no memory to compress");
    uint64_t more = pst_compress_room(capacity) - frame->reserved_bytes;
    pst_budget_force(&c->port->core->budget, more);
    pst_budget_idle(&c->port->core->budget, more);
    memcpy(pst_buffer_bytes(larger), frame->in, frame->in_len);
    pst_buffer_unref(frame->in_buffer);
    frame->in_buffer = larger;
    frame->in = pst_buffer_bytes(larger);
    frame->reserved_bytes += more;
    frame->in_capacity = capacity;
    return PST_OK;
}

/* Copy to the frame that is open, opening or growing it first. *n_taken says how much. */
static pst_rc fill(struct pst_compressor *c, const char *data, size_t len,
                   const struct pst_limit *limit, size_t *n_taken)
{
    pst_rc rc = PST_OK;
    if (!c->filling)
        rc = new_frame(c, c->has_frame ? c->plan.frame_bytes : c->plan.first_bytes, NULL, limit,
                       &c->filling);
    else if (c->filling->in_len == c->filling->in_capacity)
        rc = grow_filling(c);
    if (rc != PST_OK)
        return rc;
    struct frame *frame = c->filling;
    size_t room = frame->in_capacity - frame->in_len;
    *n_taken = len < room ? len : room;
    memcpy((char *)pst_buffer_bytes(frame->in_buffer) + frame->in_len, data, *n_taken);
    frame->in_len += *n_taken;
    if (frame->in_len == c->plan.frame_bytes) {
        c->filling = NULL;
        submit(c, frame, 0);
    }
    return PST_OK;
}

static pst_rc submit_owned(struct pst_compressor *c, const char *data, pst_buffer *owner,
                           const struct pst_limit *limit)
{
    struct frame *frame = NULL;
    pst_rc rc = new_frame(c, c->plan.frame_bytes, owner, limit, &frame);
    if (rc != PST_OK)
        return rc;
    frame->in = data;
    frame->in_len = c->plan.frame_bytes;
    submit(c, frame, 0);
    return PST_OK;
}

pst_rc pst_compressor_write(struct pst_compressor *c, const void *data, size_t len,
                            pst_buffer *owner, const struct pst_limit *limit, pst_error *err)
{
    const char *from = data;
    pst_rc rc = c->error.code;
    while (rc == PST_OK && len > 0) {
        size_t n = c->plan.frame_bytes;
        if (owner && !c->filling && len >= c->plan.frame_bytes)
            rc = submit_owned(c, from, owner, limit);
        else
            rc = fill(c, from, len, limit, &n);
        if (rc == PST_OK) {
            from += n;
            len -= n;
        }
    }
    return rc == PST_OK ? rc : stay_failed(c, err);
}

pst_rc pst_compressor_finish(struct pst_compressor *c, const struct pst_limit *limit,
                             pst_error *err)
{
    pst_rc rc = c->error.code;
    if (rc == PST_OK && !c->has_frame && !c->filling) /* no content: one frame says so */
        rc = new_frame(c, 1, NULL, limit, &c->filling);
    if (rc == PST_OK && c->filling) {
        struct frame *frame = c->filling;
        c->filling = NULL;
        submit(c, frame, !c->has_frame);
    }
    while (rc == PST_OK && c->n_submitted > 0)
        rc = emit_oldest(c, limit);
    if (rc == PST_OK && !c->is_finished) {
        c->is_finished = 1;
        rc = pst_seek_log_end(&c->log, &c->error);
        if (rc == PST_OK)
            rc = hand_on(c, c->log.bytes.data, c->log.bytes.len);
    }
    return rc == PST_OK ? rc : stay_failed(c, err);
}

pst_rc pst_compressor_new(struct pst_port *port, const pst_write_options *options,
                          pst_compressed_fn emit, void *arg, struct pst_compressor **out,
                          pst_error *err)
{
    const struct pst_zstd *zstd = NULL;
    struct pst_compress_plan plan;
    *out = NULL;
    pst_rc rc = pst_zstd_get(&zstd, err);
    if (rc == PST_OK)
        rc = pst_compress_plan(options, port->core->budget.limit_bytes,
                               port->core->config.cpu_threads, &plan, err);
    if (rc != PST_OK)
        return rc;
    struct pst_compressor *c = calloc(1, sizeof(*c) + plan.n_workers * sizeof(c->runners[0]));
    if (!c)
        return pst_fail(err, PST_E_NO_MEMORY, "no memory to compress");
    atomic_init(&c->refs, 1);
    c->port = pst_port_ref(port);
    c->zstd = zstd;
    c->emit = emit;
    c->emit_arg = arg;
    c->plan = plan;
    c->last = &c->first;
    c->error = (pst_error)PST_ERROR_INIT;
    pst_seek_log_init(&c->log);
    pst_gate_init(&c->gate);
    *out = c;
    return PST_OK;
}

void pst_compressor_free(struct pst_compressor *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->gate.mutex);
    c->locked.is_stopping = 1;
    pthread_mutex_unlock(&c->gate.mutex);
    unref(c);
}
