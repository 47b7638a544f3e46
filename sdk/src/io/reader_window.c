/* reader_window.c - the ranges of a reader: how long, how many, which version, whose memory.
 *
 * How: the first range is read alone into memory of its own size. Its reply tells the object's size and
 * etag; from then on up to n_ahead ranges are under way or waiting to be taken, launched by the thread
 * that learned the size and afterwards by the application's, whenever it asks for more.
 *
 * Memory: a range is reserved from the budget before it is launched and given back once its bytes were
 * taken. While they wait for the application they are marked idle, since nobody but the application can
 * set them free (core/budget.h). Ranges ahead are launched only while the budget has room and nobody
 * stands in line for it; only the range that the application waits for stands in line itself, and by
 * then the reader holds nothing else. So any number of readers share a budget and none of them waits for
 * what another one's application holds.
 *
 * One version: each range carries the first reply's strong etag and must show the same etag and size.
 * What has no strong etag cannot be pinned; unless the application allows it, it is read again by one
 * request as pst_get would, which takes memory for all of it: beyond the budget it is refused. A store
 * that tells no size is read range after range until one comes short.
 *
 * Failing: the first failure stops further launches; what lies before it is still delivered. Reader and
 * ranges share the state by reference, so freeing a reader waits for nothing: what still comes in is
 * dropped where it ends. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "io/reader_state.h"
#include "io/retry.h"
#include "io/room.h"

#define AHEAD_PARTS 4u
#define PART_MIN ((uint64_t)64 << 10)

/* ---- the plan ---------------------------------------------------------------------------------- */

static uint64_t round_up(uint64_t n, uint64_t to)
{
    uint64_t over = n % to;
    return over == 0 || n > UINT64_MAX - to ? n : n + to - over;
}

pst_rc pst_reader_plan(uint64_t budget_bytes, const pst_limits *limits,
                       const struct pst_reader_wish *wish, uint64_t *part_bytes, uint32_t *n_ahead,
                       pst_error *err)
{
    uint64_t align = limits->io_align > 1 ? limits->io_align : 1;
    uint64_t n = wish->max_in_flight ? wish->max_in_flight : AHEAD_PARTS, part;
    if (wish->part_bytes > 0) {
        part = round_up(wish->part_bytes, align);
    } else {
        uint64_t least = round_up(PART_MIN, align);
        uint64_t share = budget_bytes / (n + (wish->is_decoded ? 1 : 0)); /* for what comes out */
        part = pst_range_part_bytes(wish->length, limits);
        if (part > share)
            part = share / align * align;
        if (part < least)
            part = round_up(wish->length < least ? wish->length : least, align);
    }
    if (part == 0)
        part = align; /* of nothing */
    if (part > budget_bytes || part > SIZE_MAX / 2)
        return pst_fail(err, PST_E_OVER_BUDGET,
                        "one part of %llu bytes is more than the memory budget of %llu bytes",
                        (unsigned long long)part, (unsigned long long)budget_bytes);
    uint64_t fit = budget_bytes / part;
    if (wish->is_decoded && fit > 1)
        fit--;
    *part_bytes = part;
    *n_ahead = (uint32_t)(n < fit ? n : fit);
    return PST_OK;
}

/* ---- giving back ------------------------------------------------------------------------------- */

void pst_reader_unref(struct pst_reader *reader)
{
    if (atomic_fetch_sub_explicit(&reader->refs, 1, memory_order_acq_rel) != 1)
        return;
    pst_claims_unref(reader->claims);
    pst_gate_fini(&reader->gate);
    pst_port_unref(reader->port);
    free(reader->kept);
    free(reader);
}

/* Give up bytes that wait for the application. */
static void release_idle(struct pst_reader *reader, uint64_t bytes)
{
    struct pst_budget *budget = &reader->port->core->budget;
    if (bytes == 0)
        return;
    pst_budget_busy(budget, bytes);
    pst_budget_release(budget, bytes);
}

void pst_reader_drop_piece(struct pst_reader *reader)
{
    struct pst_reader_piece piece = reader->piece;
    reader->piece = (struct pst_reader_piece){0};
    pst_buffer_unref(piece.buffer);
    release_idle(reader, piece.budget_bytes);
}

struct pst_reader_part pst_reader_clear_locked(struct pst_reader_part *part)
{
    struct pst_reader_part was = *part;
    *part = (struct pst_reader_part){.reader = was.reader};
    return was;
}

void pst_reader_drop_part(struct pst_reader_part part)
{
    pst_buffer_unref(part.buffer);
    release_idle(part.reader, part.budget_bytes);
    pst_get_unref(part.get);
}

void pst_reader_stop(struct pst_reader *reader)
{
    struct pst_get *running[PST_READ_IN_FLIGHT_MAX];
    struct pst_reader_part ended[PST_READ_IN_FLIGHT_MAX];
    uint32_t n_running = 0, n_ended = 0;
    pthread_mutex_lock(&reader->gate.mutex);
    reader->locked.is_stopped = 1;
    reader->locked.is_closing = 1;
    for (uint32_t i = 0; i < PST_READ_IN_FLIGHT_MAX; i++) {
        struct pst_reader_part *part = &reader->locked.parts[i];
        if (part->get && !part->is_ready)
            running[n_running++] = pst_get_ref(part->get);
        else if (part->get)
            ended[n_ended++] = pst_reader_clear_locked(part);
    }
    struct pst_task *look = reader->locked.look ? pst_task_ref(reader->locked.look) : NULL;
    pthread_mutex_unlock(&reader->gate.mutex);
    if (look)
        pst_retry_cancel(look, PST_E_CANCELLED);
    pst_task_unref(look);
    for (uint32_t i = 0; i < n_ended; i++)
        pst_reader_drop_part(ended[i]);
    for (uint32_t i = 0; i < n_running; i++) {
        pst_get_stop(running[i], PST_E_CANCELLED);
        pst_get_unref(running[i]);
    }
}

/* ---- launching --------------------------------------------------------------------------------- */

static void on_done(struct pst_get *get, pst_rc rc);

static struct pst_reader_part *slot(struct pst_reader *reader, uint64_t i)
{
    return &reader->locked.parts[i % reader->n_ahead];
}

static int is_pinned(const struct pst_reader *reader)
{
    return reader->locked.etag_strength == PST_ETAG_STRONG;
}

/* Make the get of a part whose offset, length and is_late are set. Returns 0 for lack of memory. */
static int make_get_locked(struct pst_reader *reader, struct pst_reader_part *part)
{
    const struct pst_port *port = reader->port;
    pst_iov iov = {NULL, 0};
    struct pst_get_spec spec = {
        .port = reader->port,
        .key = reader->key,
        .if_match = reader->if_match,
        .version = reader->version,
        .offset = part->offset,
        .length = part->length,
        .flags = reader->flags & (PST_READ_ALLOW_UNPINNED | PST_READ_VERIFY),
        .max_attempts = reader->call.max_attempts,
        .affinity = reader->call.affinity,
        .part_bytes = reader->locked.is_whole ? 0 : reader->part_bytes,
        .hedge_after_ms = reader->hedge_after_ms,
        .done = on_done,
        .owner = part,
    };
    if (pst_claims_is_set(reader->claims) || reader->locked.look)
        spec.flags &= ~PST_READ_VERIFY; /* the reader knows, or asks once for all; see take */
    if (!pst_claims_is_set(reader->claims) && pst_read_is_summed(reader->flags) && !reader->decoder)
        spec.flags |= PST_READ_CRC32C;
    if (part->is_late)
        spec.claims = reader->claims;
    if (reader->locked.is_learned && is_pinned(reader))
        spec.if_match = pst_str_of(reader->locked.etag, reader->locked.etag_len);
    if (!part->is_late) {
        size_t align = port->limits.mem_align > 1 ? port->limits.mem_align : 1;
        size_t unit = port->limits.io_align > 1 ? port->limits.io_align : 1;
        part->buffer = pst_buffer_new(port->core->arenas, (size_t)round_up(part->length, unit),
                                      align);
        if (!part->buffer)
            return 0;
        iov = (pst_iov){pst_buffer_bytes(part->buffer), (size_t)part->length};
        spec.dst = &iov;
        spec.n_dst = 1;
    }
    part->get = pst_get_new(&spec);
    if (!part->get) {
        pst_buffer_unref(part->buffer);
        part->buffer = NULL;
        return 0;
    }
    if (++reader->locked.n_under_way > reader->locked.most_under_way)
        reader->locked.most_under_way = reader->locked.n_under_way;
    atomic_fetch_add_explicit(&reader->refs, 1, memory_order_relaxed);
    return 1;
}

/* How long the next range is; 0: there is none to launch now. */
static uint64_t next_length_locked(struct pst_reader *reader)
{
    uint64_t n_ahead = reader->locked.is_sequential ? 1 : reader->n_ahead;
    uint64_t left = reader->locked.end - reader->locked.next;
    if (!reader->locked.is_learned || reader->locked.is_stopped ||
        reader->locked.n_launched - reader->locked.n_taken >= n_ahead ||
        reader->locked.next >= reader->locked.end)
        return 0;
    return left < reader->part_bytes ? left : reader->part_bytes;
}

/* Launch a range for which `length` bytes are reserved. NULL for lack of memory: they still are. */
static struct pst_get *launch_locked(struct pst_reader *reader, uint64_t length)
{
    struct pst_reader_part *part = slot(reader, reader->locked.n_launched);
    *part = (struct pst_reader_part){
        .reader = reader, .offset = reader->locked.next, .length = length, .budget_bytes = length};
    if (!make_get_locked(reader, part)) {
        *part = (struct pst_reader_part){.reader = reader};
        return NULL;
    }
    reader->locked.n_launched++;
    reader->locked.next += length;
    return pst_get_ref(part->get);
}

/* Ranges that were launched and are still to be started, without the lock. */
struct launches {
    struct pst_get *gets[PST_READ_IN_FLIGHT_MAX];
    uint32_t n;
    uint64_t unused_bytes; /* of the budget */
};

static void launch_ahead_locked(struct pst_reader *reader, struct launches *out)
{
    struct pst_budget *budget = &reader->port->core->budget;
    for (;;) {
        uint64_t length = next_length_locked(reader);
        if (length == 0 || !pst_budget_try(budget, length))
            return;
        struct pst_get *get = launch_locked(reader, length);
        if (!get) {
            out->unused_bytes = length;
            return;
        }
        out->gets[out->n++] = get;
    }
}

static void start(struct pst_reader *reader, const struct launches *launches)
{
    if (launches->unused_bytes > 0)
        pst_budget_release(&reader->port->core->budget, launches->unused_bytes);
    for (uint32_t i = 0; i < launches->n; i++) {
        pst_get_start(launches->gets[i]);
        pst_get_unref(launches->gets[i]);
    }
}

void pst_reader_top_up(struct pst_reader *reader)
{
    struct launches launches = {.n = 0};
    pthread_mutex_lock(&reader->gate.mutex);
    launch_ahead_locked(reader, &launches);
    pthread_mutex_unlock(&reader->gate.mutex);
    start(reader, &launches);
}

pst_rc pst_reader_launch_head(struct pst_reader *reader, const struct pst_limit *limit)
{
    struct pst_budget *budget = &reader->port->core->budget;
    pthread_mutex_lock(&reader->gate.mutex);
    int is_missing = reader->locked.n_launched == reader->locked.n_taken;
    uint64_t length = is_missing ? next_length_locked(reader) : 0;
    pthread_mutex_unlock(&reader->gate.mutex);
    if (length == 0)
        return PST_OK;
    pst_rc rc = pst_room_reserve(budget, length, limit);
    if (rc != PST_OK)
        return rc;
    pthread_mutex_lock(&reader->gate.mutex);
    struct pst_get *get = launch_locked(reader, length);
    pthread_mutex_unlock(&reader->gate.mutex);
    if (!get) {
        pst_budget_release(budget, length);
        return PST_E_NO_MEMORY;
    }
    pst_get_start(get);
    pst_get_unref(get);
    return PST_OK;
}

pst_rc pst_reader_start(struct pst_reader *reader)
{
    struct pst_reader_part *part = &reader->locked.parts[0];
    uint64_t align = reader->port->limits.io_align > 1 ? reader->port->limits.io_align : 1;
    uint64_t length = reader->part_bytes;
    if (length > reader->offset % align)
        length -= reader->offset % align; /* so that the ranges after it are aligned */
    if (length > reader->length)
        length = reader->length;
    *part = (struct pst_reader_part){
        .reader = reader, .offset = reader->offset, .length = length, .is_late = 1};
    if (!make_get_locked(reader, part))
        return PST_E_NO_MEMORY;
    reader->locked.n_launched = 1;
    struct pst_get *get = pst_get_ref(part->get);
    pst_get_start(get);
    pst_get_unref(get);
    return PST_OK;
}

/* ---- the first reply --------------------------------------------------------------------------- */

/* Read it again, as a whole. NULL for lack of memory. */
static struct pst_get *read_whole_locked(struct pst_reader *reader, struct pst_reader_part *part)
{
    if (reader->claims) { /* it may be another version by then */
        pst_claims_unref(reader->claims);
        reader->claims = pst_claims_new();
    }
    reader->locked.is_whole = 1;
    reader->locked.is_learned = 0; /* once more, by the whole's reply: no ranges until then */
    *part = (struct pst_reader_part){
        .reader = reader, .offset = reader->offset, .length = reader->length, .is_late = 1};
    return make_get_locked(reader, part) ? pst_get_ref(part->get) : NULL;
}

/* Note what the first reply tells; returns 1 when the object must be read again as a whole. */
static int learn_locked(struct pst_reader *reader, const struct pst_reader_part *part,
                        const struct pst_get_outcome *outcome)
{
    uint64_t size = outcome->object_size;
    uint64_t want = reader->length < PST_UNKNOWN - reader->offset ? reader->offset + reader->length
                                                                  : PST_UNKNOWN;
    int is_known = size != PST_UNKNOWN;
    reader->locked.object_size = size;
    reader->locked.etag_strength = outcome->etag_strength;
    reader->locked.etag_len = outcome->etag.len < sizeof(reader->locked.etag)
                                  ? outcome->etag.len
                                  : sizeof(reader->locked.etag) - 1;
    if (reader->locked.etag_len > 0)
        memcpy(reader->locked.etag, outcome->etag.ptr, reader->locked.etag_len);
    reader->locked.etag[reader->locked.etag_len] = '\0';
    reader->locked.next = reader->offset + outcome->n_read;
    reader->locked.end = is_known && size < want ? size : want;
    if (reader->locked.is_whole || (!is_known && outcome->n_read < part->length))
        reader->locked.end = reader->locked.next;
    reader->locked.is_sequential = !is_known;
    reader->locked.is_learned = 1;
    return reader->locked.next < reader->locked.end && !is_pinned(reader) &&
           !(reader->flags & PST_READ_ALLOW_UNPINNED) && !reader->locked.is_stopped;
}

static void on_look(struct pst_task *task, pst_rc rc)
{
    struct pst_reader *reader = task->owner;
    const pst_attr *attr = &task->result.stat;
    pthread_mutex_lock(&reader->gate.mutex);
    pst_str etag = pst_str_of(reader->locked.etag, reader->locked.etag_len);
    if (rc == PST_OK && pst_verify_is_same(attr, reader->locked.object_size, etag))
        pst_claims_take(reader->claims, attr->sums, attr->n_sums, attr->sum_stride, attr->size);
    reader->locked.look = NULL;
    pthread_cond_signal(&reader->gate.changed);
    pthread_mutex_unlock(&reader->gate.mutex);
    if (rc != PST_OK && rc != PST_E_CANCELLED)
        pst_logf(&reader->port->core->log, PST_LEVEL_INFO,
                 "read not verified, its checksums cannot be had: %s", task->error.message);
    pst_task_unref(task);
    pst_reader_unref(reader);
}

struct pst_task *pst_reader_ask_locked(struct pst_reader *reader,
                                       const struct pst_get_outcome *outcome)
{
    uint64_t end = reader->locked.end < outcome->object_size ? reader->locked.end
                                                             : outcome->object_size;
    const struct pst_verify_case c = {
        .object_size = outcome->object_size,
        .offset = reader->offset,
        .n_wanted = end > reader->offset ? end - reader->offset : 0,
        .n_first = outcome->n_read,
        .was_unranged = outcome->was_unranged != 0,
        .is_hinted = outcome->is_hinted != 0,
    };
    if (pst_claims_is_set(reader->claims) || reader->locked.is_closing ||
        !pst_verify_is_worth_asking(&c) || !pst_port_has(reader->port, PST_CAP_STAT))
        return NULL;
    struct pst_task *task = pst_task_new(reader->port, PST_SLOT_STAT, NULL);
    if (!task)
        return NULL;
    task->args.stat = (pst_stat_args){.struct_size = sizeof(task->args.stat),
                                      .flags = PST_STAT_SUMS,
                                      .key = reader->key,
                                      .version = reader->version};
    task->op.affinity = reader->call.affinity;
    task->owner = reader;
    task->then = on_look;
    atomic_fetch_add_explicit(&reader->refs, 1, memory_order_relaxed);
    reader->locked.look = task;
    return pst_task_ref(task);
}

/* The get has reserved, made and handed out its memory by itself: count it as every other part. */
static void adopt(struct pst_reader_part *part, struct pst_get *get)
{
    struct pst_budget *budget = &part->reader->port->core->budget;
    part->buffer = pst_get_take(get);
    part->budget_bytes = part->buffer ? pst_buffer_size(part->buffer) : 0;
    if (part->budget_bytes > 0)
        pst_budget_force(budget, part->budget_bytes);
}

static void on_done(struct pst_get *get, pst_rc rc)
{
    struct pst_reader_part *part = pst_get_owner(get), dropped = {0};
    struct pst_reader *reader = part->reader;
    struct pst_budget *budget = &reader->port->core->budget;
    const struct pst_get_outcome *outcome = pst_get_outcome_of(get);
    struct launches launches = {.n = 0};
    struct pst_task *look = NULL;
    int is_first = part->is_late, is_again = 0;
    if (is_first && rc == PST_OK)
        adopt(part, get);
    if (part->budget_bytes > 0)
        pst_budget_idle(budget, part->budget_bytes);
    pthread_mutex_lock(&reader->gate.mutex);
    reader->locked.n_under_way--;
    part->rc = rc;
    part->is_ready = 1;
    if (rc != PST_OK)
        reader->locked.is_stopped = 1;
    if (is_first && rc == PST_OK && learn_locked(reader, part, outcome)) {
        dropped = pst_reader_clear_locked(part);
        launches.gets[0] = read_whole_locked(reader, part);
        is_again = launches.gets[0] != NULL;
        launches.n = is_again ? 1 : 0;
        if (!is_again) {
            part->rc = PST_E_NO_MEMORY;
            part->get = pst_get_ref(get);
            part->is_ready = reader->locked.is_stopped = 1;
        }
    } else if (is_first) {
        if (rc == PST_OK && (reader->flags & PST_READ_VERIFY))
            look = pst_reader_ask_locked(reader, outcome);
        launch_ahead_locked(reader, &launches); /* now, while nobody can have taken the first */
    }
    if (reader->locked.is_closing && !is_again)
        dropped = pst_reader_clear_locked(part);
    pthread_cond_signal(&reader->gate.changed);
    pthread_mutex_unlock(&reader->gate.mutex);
    if (dropped.reader)
        pst_reader_drop_part(dropped);
    if (look)
        pst_retry_submit(look, reader->call.max_attempts, 0);
    pst_task_unref(look);
    start(reader, &launches);
    pst_reader_unref(reader);
}
