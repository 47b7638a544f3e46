/* get.c - the range engine.
 *
 * How: the first read asks for at most `first_read_bytes`. Its reply tells the object's size and etag.
 * The plugin announces both through host->dst before it receives, so the buffer is allocated once, at
 * its final size, and the first bytes go where they stay. The rest follows as ranges of a few MiB, in
 * parallel, into the same memory. No stat before, no copy after.
 *
 * One version: every reply must show the etag and the size of the first one, and ranges carry
 * If-Match where the store can. An object whose etag is weak or absent cannot be pinned: unless the
 * caller allows it, it is read again as a whole by one single request.
 *
 * Memory: the destination is reserved from the budget in one step, when its size is known (get_dst.c).
 *
 * Failing: the first failure stops the other ranges; done() comes when all of them have ended, so the
 * destination is quiet then. A range that came short although the object goes on, or long, is DATA_LOSS;
 * an etag or a size that moved is CHANGED.
 *
 * What it does not do: adapt the part size to the measured rate, hedge, checksum. */
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "io/call.h"
#include "io/get_state.h"
#include "io/retry.h"

#define PART_BYTES ((uint64_t)8 << 20)

uint64_t pst_range_part_bytes(uint64_t rest, const pst_limits *limits)
{
    uint64_t part = limits->io_preferred > 0 ? limits->io_preferred : PART_BYTES;
    uint64_t align = limits->io_align > 1 ? limits->io_align : 1;
    if (rest < part)
        part = rest;
    return (part + align - 1) / align * align;
}

uint32_t pst_range_in_flight(uint64_t n_parts, uint32_t max_at_plugin)
{
    uint32_t most = max_at_plugin < PST_GET_IN_FLIGHT_MAX ? max_at_plugin : PST_GET_IN_FLIGHT_MAX;
    return n_parts < most ? (uint32_t)n_parts : most;
}

pst_rc pst_read_check_flags(uint32_t flags, pst_error *err)
{
    const uint32_t known = PST_READ_EXACT | PST_READ_ALLOW_UNPINNED;
    if (flags & ~known)
        return pst_fail(err, PST_E_INVALID, "unknown flags 0x%x", (unsigned)(flags & ~known));
    return PST_OK;
}

/* ---- making and releasing --------------------------------------------------------------------- */

static char *keep(char **at, pst_str *text)
{
    char *copy = *at;
    if (text->len > 0)
        memcpy(copy, text->ptr, text->len);
    text->ptr = copy;
    *at += text->len;
    return copy;
}

struct pst_get *pst_get_new(const struct pst_get_spec *spec)
{
    size_t iov_bytes = spec->n_dst * sizeof(pst_iov);
    struct pst_get *get = calloc(1, sizeof(*get));
    char *kept = malloc(iov_bytes + spec->key.len + spec->if_match.len + spec->version.len + 1);
    if (!get || !kept) {
        free(get);
        free(kept);
        return NULL;
    }
    atomic_init(&get->refs, 1);
    pthread_mutex_init(&get->mutex, NULL);
    get->spec = *spec;
    get->kept = kept;
    if (iov_bytes > 0)
        memcpy(kept, spec->dst, iov_bytes);
    get->spec.dst = (const pst_iov *)(void *)kept;
    char *at = kept + iov_bytes;
    keep(&at, &get->spec.key);
    keep(&at, &get->spec.if_match);
    keep(&at, &get->spec.version);
    for (size_t i = 0; i < spec->n_dst; i++)
        get->capacity += spec->dst[i].len;
    get->error.struct_size = sizeof(get->error);
    get->outcome.object_size = PST_UNKNOWN;
    get->outcome.error = &get->error;
    pst_port_ref(spec->port);
    return get;
}

struct pst_get *pst_get_ref(struct pst_get *get)
{
    atomic_fetch_add_explicit(&get->refs, 1, memory_order_relaxed);
    return get;
}

void pst_get_unref(struct pst_get *get)
{
    if (!get || atomic_fetch_sub_explicit(&get->refs, 1, memory_order_acq_rel) != 1)
        return;
    pst_buffer_unref(get->outcome.buffer);
    pthread_mutex_destroy(&get->mutex);
    pst_port_unref(get->spec.port);
    free(get->kept);
    free(get);
}

void *pst_get_owner(struct pst_get *get)
{
    return get->spec.owner;
}

pst_str pst_get_key(const struct pst_get *get)
{
    return get->spec.key;
}

const struct pst_get_outcome *pst_get_outcome_of(struct pst_get *get)
{
    return &get->outcome;
}

pst_buffer *pst_get_take(struct pst_get *get)
{
    pst_buffer *buffer = get->outcome.buffer;
    get->outcome.buffer = NULL;
    return buffer;
}

void pst_get_fill_info(struct pst_get *get, pst_read_info *info)
{
    if (!info)
        return;
    if (PST_HAS(pst_read_info, info, etag_strength))
        info->etag_strength = get->outcome.etag_strength;
    if (PST_HAS(pst_read_info, info, object_size))
        info->object_size = get->outcome.object_size;
    if (PST_HAS(pst_read_info, info, etag)) {
        memcpy(info->etag, get->outcome.etag.ptr ? get->outcome.etag.ptr : "",
               get->outcome.etag.len);
        info->etag[get->outcome.etag.len] = '\0';
    }
}

/* ---- the end ---------------------------------------------------------------------------------- */

static uint64_t requested(const struct pst_get *get)
{
    return get->spec.n_dst > 0 && get->capacity < get->spec.length ? get->capacity
                                                                   : get->spec.length;
}

static pst_rc check_exact(struct pst_get *get)
{
    uint64_t want = requested(get), got = get->outcome.n_read;
    if (!(get->spec.flags & PST_READ_EXACT) || want == PST_UNKNOWN || got == want)
        return PST_OK;
    return pst_fail(&get->error, PST_E_RANGE,
                    "range of %llu bytes at %llu goes beyond the end: the object has %llu bytes",
                    (unsigned long long)want, (unsigned long long)get->spec.offset,
                    (unsigned long long)get->outcome.object_size);
}

/* Nothing runs any more. */
static void end(struct pst_get *get)
{
    struct pst_core *core = get->spec.port->core;
    uint64_t release_bytes = 0;
    pthread_mutex_lock(&get->mutex);
    get->locked.is_ended = 1; /* a stop comes too late now */
    pst_rc rc = get->locked.rc;
    get->outcome.n_read = rc == PST_OK ? get->locked.total : 0;
    if (get->locked.memory == PST_MEMORY_RESERVED) {
        get->locked.memory = PST_MEMORY_NONE;
        release_bytes = get->locked.reserved_bytes;
    }
    pthread_mutex_unlock(&get->mutex);
    if (rc == PST_OK)
        rc = check_exact(get);
    if (rc == PST_OK && get->spec.n_dst == 0 && !get->outcome.buffer &&
        !(get->outcome.buffer = pst_buffer_new(core->arenas, 0, 1)))
        rc = pst_fail(&get->error, PST_E_NO_MEMORY, "out of memory");
    if (get->outcome.buffer && rc == PST_OK) {
        pst_buffer_set_size(get->outcome.buffer, (size_t)get->outcome.n_read);
        pst_buffer_hand_out(get->outcome.buffer);
    } else if (get->outcome.buffer) {
        pst_buffer_unref(get->outcome.buffer);
        get->outcome.buffer = NULL;
    }
    if (release_bytes > 0)
        pst_budget_release(&core->budget, release_bytes);
    if (rc == PST_OK)
        atomic_fetch_add_explicit(&core->bytes_read, get->outcome.n_read, memory_order_relaxed);
    else
        pst_fail_at(get->spec.port, "GET", get->spec.key, rc, &get->error, &get->error);
    get->spec.done(get, rc);
    pst_get_unref(get);
}

static void fail_locked(struct pst_get *get, pst_rc rc, const pst_error *cause)
{
    if (get->locked.rc != PST_OK)
        return;
    get->locked.rc = rc;
    if (cause != &get->error)
        pst_error_copy(&get->error, cause);
}

static void fail_for_memory(struct pst_get *get)
{
    pst_error why = PST_ERROR_INIT;
    pst_fail(&why, PST_E_NO_MEMORY, "out of memory");
    pthread_mutex_lock(&get->mutex);
    fail_locked(get, PST_E_NO_MEMORY, &why);
    pthread_mutex_unlock(&get->mutex);
}

/* Cancel what runs; each task's own end follows. */
static void stop_running(struct pst_get *get, pst_rc code)
{
    struct pst_task *victims[PST_GET_IN_FLIGHT_MAX];
    uint32_t n = 0;
    pthread_mutex_lock(&get->mutex);
    for (uint32_t i = 0; i < PST_GET_IN_FLIGHT_MAX; i++) {
        if (get->locked.running[i])
            victims[n++] = pst_task_ref(get->locked.running[i]);
    }
    pthread_mutex_unlock(&get->mutex);
    for (uint32_t i = 0; i < n; i++) {
        pst_retry_cancel(victims[i], code);
        pst_task_unref(victims[i]);
    }
}

void pst_get_stop(struct pst_get *get, pst_rc code)
{
    pthread_mutex_lock(&get->mutex);
    int is_first = !get->locked.is_stopped;
    get->locked.is_stopped = 1;
    if (is_first && get->locked.rc == PST_OK && !get->locked.is_ended) {
        get->locked.rc = code; /* also where nothing runs yet, or for the moment */
        pst_fail(&get->error, code, "%s", pst_rc_text(code));
    }
    pthread_mutex_unlock(&get->mutex);
    if (is_first)
        stop_running(get, code);
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* The part [from, from+len) of the destination as iovs in the task's memory. */
static int slice_dst(struct pst_get *get, struct pst_task *task, uint64_t from, uint64_t len)
{
    const pst_iov whole = {get->outcome.buffer ? pst_buffer_bytes(get->outcome.buffer) : NULL,
                           get->outcome.buffer ? pst_buffer_capacity(get->outcome.buffer) : 0};
    const pst_iov *dst = get->spec.n_dst > 0 ? get->spec.dst : &whole;
    size_t n_dst = get->spec.n_dst > 0 ? get->spec.n_dst : 1, n = 0;
    pst_iov *slice = pst_task_keep(task, dst, n_dst * sizeof(*dst));
    if (!slice)
        return 0;
    for (size_t i = 0; i < n_dst && len > 0; i++) {
        if (from >= dst[i].len) {
            from -= dst[i].len;
            continue;
        }
        uint64_t span = dst[i].len - from < len ? dst[i].len - from : len;
        slice[n++] = (pst_iov){(char *)dst[i].ptr + from, (size_t)span};
        len -= span;
        from = 0;
    }
    task->args.read.dst = slice;
    task->args.read.n_dst = n;
    return 1;
}

static struct pst_task *new_read(struct pst_get *get, uint64_t offset, uint64_t length)
{
    struct pst_task *task = pst_task_new(get->spec.port, PST_SLOT_READ, NULL);
    if (!task)
        return NULL;
    task->owner = get;
    task->op.affinity = get->spec.affinity;
    task->args.read = (pst_read_args){
        .struct_size = sizeof(task->args.read),
        .offset = offset,
        .length = length,
        .key = get->spec.key, /* lives as long as the get, which outlives the task's run */
        .version = get->spec.version,
        .if_match = pst_port_has(get->spec.port, PST_CAP_READ_IF_MATCH) ? get->spec.if_match
                                                                        : (pst_str){NULL, 0},
    };
    return task;
}

/* Note `task` as one of those running; the caller submits it. */
static void run_locked(struct pst_get *get, struct pst_task *task)
{
    for (uint32_t i = 0; i < PST_GET_IN_FLIGHT_MAX; i++) {
        if (!get->locked.running[i]) {
            get->locked.running[i] = task;
            get->locked.n_running++;
            return;
        }
    }
}

static void submit(struct pst_get *get, struct pst_task *task,
                   void (*then)(struct pst_task *, pst_rc))
{
    task->then = then;
    pst_retry_submit(task, get->spec.max_attempts, get->spec.deadline_ns);
}

static void leave_locked(struct pst_get *get, struct pst_task *task)
{
    for (uint32_t i = 0; i < PST_GET_IN_FLIGHT_MAX; i++) {
        if (get->locked.running[i] == task)
            get->locked.running[i] = NULL;
    }
}

static int is_same_version(const struct pst_get *get, const pst_read_result *r)
{
    if (PST_FAULT(NO_VERSION_CHECK))
        return 1;
    if (r->object_size != get->outcome.object_size)
        return 0;
    if (get->outcome.etag_strength == PST_ETAG_NONE)
        return 1;
    return r->etag.len == get->outcome.etag.len &&
           memcmp(r->etag.ptr, get->outcome.etag.ptr, r->etag.len) == 0;
}

/* Check one range of the rest. PRECONDITION stems from our own pin. */
static pst_rc check_range(struct pst_get *get, struct pst_task *task, pst_rc rc)
{
    const pst_read_result *r = &task->result.read;
    if (rc == PST_E_PRECONDITION)
        return pst_fail(&task->error, PST_E_CHANGED, "the object was replaced while it was read");
    if (rc != PST_OK)
        return rc;
    if (!is_same_version(get, r))
        return pst_fail(&task->error, PST_E_CHANGED, "the object changed while it was read");
    if (r->n_read != task->args.read.length)
        return pst_fail(&task->error, PST_E_DATA_LOSS, "range at %llu: wanted %llu bytes, got %llu",
                        (unsigned long long)task->args.read.offset,
                        (unsigned long long)task->args.read.length, (unsigned long long)r->n_read);
    return PST_OK;
}

static void on_range(struct pst_task *task, pst_rc rc);

/* Make the task for the next range, or NULL when there is none or memory is short. */
static struct pst_task *next_range_locked(struct pst_get *get)
{
    uint64_t from = get->locked.next, left = get->locked.total - from;
    uint64_t length = left < get->part_bytes ? left : get->part_bytes;
    if (left == 0 || get->locked.rc != PST_OK)
        return NULL;
    struct pst_task *task = new_read(get, get->spec.offset + from, length);
    if (!task || !slice_dst(get, task, from, length)) {
        pst_task_unref(task);
        pst_fail(&get->error, PST_E_NO_MEMORY, "out of memory");
        get->locked.rc = PST_E_NO_MEMORY;
        return NULL;
    }
    if (get->outcome.etag_strength == PST_ETAG_STRONG &&
        pst_port_has(get->spec.port, PST_CAP_READ_IF_MATCH))
        task->args.read.if_match = get->outcome.etag;
    get->locked.next += length;
    run_locked(get, task);
    return task;
}

static void on_range(struct pst_task *task, pst_rc rc)
{
    struct pst_get *get = pst_get_ref(task->owner);
    rc = check_range(get, task, rc);
    pthread_mutex_lock(&get->mutex);
    leave_locked(get, task);
    int is_first_failure = rc != PST_OK && get->locked.rc == PST_OK;
    if (rc != PST_OK)
        fail_locked(get, rc, &task->error);
    struct pst_task *next = next_range_locked(get);
    int is_over = --get->locked.n_running == 0;
    pthread_mutex_unlock(&get->mutex);
    pst_task_unref(task);
    if (next)
        submit(get, next, on_range);
    if (is_first_failure && !is_over)
        stop_running(get, PST_E_CANCELLED);
    if (is_over)
        end(get);
    pst_get_unref(get);
}

/* The first read is in; fetch the rest. Called with one running slot still held. */
static void start_rest(struct pst_get *get)
{
    struct pst_task *tasks[PST_GET_IN_FLIGHT_MAX];
    uint32_t n = 0;
    pthread_mutex_lock(&get->mutex);
    uint64_t rest = get->locked.total - get->locked.next;
    if (get->part_bytes == 0)
        get->part_bytes = pst_range_part_bytes(rest, &get->spec.port->limits);
    uint64_t n_parts = (rest + get->part_bytes - 1) / get->part_bytes;
    uint32_t most = pst_range_in_flight(n_parts, get->spec.port->max_at_plugin);
    while (n < most && (tasks[n] = next_range_locked(get)))
        n++;
    int is_over = --get->locked.n_running == 0;
    pthread_mutex_unlock(&get->mutex);
    for (uint32_t i = 0; i < n; i++)
        submit(get, tasks[i], on_range);
    if (is_over)
        end(get);
}

/* Is there room for what the plugin says it delivered? */
static pst_rc check_delivered(struct pst_get *get, struct pst_task *task, uint64_t before)
{
    uint64_t n_read = task->result.read.n_read, room = task->args.read.length;
    if (n_read > room)
        return pst_fail(&task->error, PST_E_DATA_LOSS, "asked for %llu bytes, got %llu",
                        (unsigned long long)room, (unsigned long long)n_read);
    if (get->spec.n_dst > 0)
        return PST_OK;
    room = get->outcome.buffer ? pst_buffer_capacity(get->outcome.buffer) - before : 0;
    return n_read <= room ? (pst_rc)PST_OK
                          : pst_fail(&task->error, PST_E_INTERNAL,
                                     "the plugin delivered %llu bytes without asking where",
                                     (unsigned long long)n_read);
}

static pst_rc note_version(struct pst_get *get, struct pst_task *task)
{
    const pst_read_result *r = &task->result.read;
    if (r->etag.len > PST_GET_ETAG_MAX)
        return pst_fail(&task->error, PST_E_INTERNAL, "the plugin gave an etag of %zu bytes",
                        r->etag.len);
    if (r->etag.len > 0)
        memcpy(get->etag, r->etag.ptr, r->etag.len);
    get->outcome.etag = pst_str_of(get->etag, r->etag.len);
    get->outcome.etag_strength = r->etag.len > 0 ? r->etag_strength : PST_ETAG_NONE;
    get->outcome.object_size = r->object_size;
    const pst_str want = get->spec.if_match;
    if (want.len > 0 && (want.len != r->etag.len || memcmp(want.ptr, r->etag.ptr, want.len) != 0))
        return pst_fail(&task->error, PST_E_PRECONDITION, "the object's etag is another one");
    return PST_OK;
}

/* Judge the first reply and find out how long the whole read is. */
static pst_rc check_first(struct pst_get *get, struct pst_task *task, uint64_t *total)
{
    const pst_read_result *r = &task->result.read;
    const pst_read_args *a = &task->args.read;
    pst_rc rc = note_version(get, task);
    if (rc != PST_OK)
        return rc;
    rc = check_delivered(get, task, 0);
    *total = r->n_read;
    if (rc != PST_OK || r->object_size == PST_UNKNOWN)
        return rc;
    uint64_t rest = r->object_size > a->offset ? r->object_size - a->offset : 0;
    if (get->spec.is_suffix)
        rest = r->object_size < a->length ? r->object_size : a->length;
    uint64_t due = rest < a->length ? rest : a->length;
    if (r->n_read != due)
        return pst_fail(&task->error, PST_E_DATA_LOSS,
                        "wanted %llu bytes at %llu of an object of %llu bytes, got %llu",
                        (unsigned long long)due, (unsigned long long)a->offset,
                        (unsigned long long)r->object_size, (unsigned long long)r->n_read);
    uint64_t want = requested(get);
    *total = get->spec.is_suffix || rest < want ? rest : want;
    return PST_OK;
}

static void on_unknown(struct pst_task *task, pst_rc rc);

/* The store did not tell the size: go on in sequence until a read comes short. */
static int continue_unknown(struct pst_get *get, uint64_t so_far)
{
    uint64_t want = requested(get);
    uint64_t first = get->spec.port->core->config.first_read_bytes;
    uint64_t length = want - so_far < first ? want - so_far : first;
    size_t had = get->outcome.buffer ? pst_buffer_capacity(get->outcome.buffer) : 0;
    if (get->spec.n_dst == 0 && had < so_far + length) {
        pthread_mutex_lock(&get->mutex);
        pst_error why = PST_ERROR_INIT;
        pst_rc rc = pst_get_grow_locked(get, so_far + 1, (so_far + length) * 2, so_far, &why);
        if (rc != PST_OK)
            fail_locked(get, rc, &why);
        had = rc == PST_OK ? pst_buffer_capacity(get->outcome.buffer) : 0;
        pthread_mutex_unlock(&get->mutex);
        if (rc != PST_OK)
            return 0;
        if (length > had - so_far)
            length = had - so_far; /* the budget ends here */
    }
    struct pst_task *task = new_read(get, get->spec.offset + so_far, length);
    if (!task || !slice_dst(get, task, so_far, length)) {
        pst_task_unref(task);
        fail_for_memory(get);
        return 0;
    }
    if (get->outcome.etag_strength == PST_ETAG_STRONG &&
        pst_port_has(get->spec.port, PST_CAP_READ_IF_MATCH))
        task->args.read.if_match = get->outcome.etag;
    pthread_mutex_lock(&get->mutex);
    get->locked.next = so_far;
    int goes_on = get->locked.rc == PST_OK;
    if (goes_on)
        run_locked(get, task);
    pthread_mutex_unlock(&get->mutex);
    if (goes_on)
        submit(get, task, on_unknown);
    else
        pst_task_unref(task);
    return goes_on;
}

static void on_unknown(struct pst_task *task, pst_rc rc)
{
    struct pst_get *get = task->owner;
    const pst_read_result *r = &task->result.read;
    if (rc == PST_E_PRECONDITION || (rc == PST_OK && !is_same_version(get, r)))
        rc = pst_fail(&task->error, PST_E_CHANGED, "the object changed while it was read");
    if (rc == PST_OK)
        rc = check_delivered(get, task, get->locked.next);
    pthread_mutex_lock(&get->mutex);
    leave_locked(get, task);
    if (rc != PST_OK)
        fail_locked(get, rc, &task->error);
    uint64_t so_far = get->locked.next + (rc == PST_OK ? r->n_read : 0);
    get->locked.total = so_far;
    int goes_on = get->locked.rc == PST_OK && r->n_read == task->args.read.length &&
                  so_far < requested(get);
    get->locked.n_running--;
    pthread_mutex_unlock(&get->mutex);
    pst_task_unref(task);
    if (!goes_on || !continue_unknown(get, so_far))
        end(get);
}

/* The size was told with the result only, after the memory was given. */
static void make_room_locked(struct pst_get *get, uint64_t total, uint64_t n_read)
{
    pst_error why = PST_ERROR_INIT;
    size_t had = get->outcome.buffer ? pst_buffer_capacity(get->outcome.buffer) : 0;
    if (get->spec.n_dst > 0 || total <= had)
        return;
    pst_rc rc = pst_get_grow_locked(get, total, total, n_read, &why);
    if (rc != PST_OK)
        fail_locked(get, rc, &why);
}

static void on_first(struct pst_task *task, pst_rc rc)
{
    struct pst_get *get = task->owner;
    const pst_read_result *r = &task->result.read;
    uint64_t total = 0, n_read = r->n_read;
    int is_full = n_read == task->args.read.length;
    pst_get_leave_line(get); /* the plugin gave up while it was parked */
    if (rc == PST_OK)
        rc = check_first(get, task, &total);
    pthread_mutex_lock(&get->mutex);
    leave_locked(get, task);
    get->locked.first = NULL;
    get->locked.total = total;
    get->locked.next = n_read;
    if (rc != PST_OK)
        fail_locked(get, rc, &task->error);
    if (rc == PST_OK && get->locked.rc == PST_OK)
        make_room_locked(get, total, n_read);
    rc = get->locked.rc;
    int is_unpinned = get->outcome.etag_strength != PST_ETAG_STRONG && !PST_FAULT(PIN_WEAK) &&
                      !(get->spec.flags & PST_READ_ALLOW_UNPINNED);
    if (rc == PST_OK && total > n_read && is_unpinned) {
        get->locked.next = 0; /* one request for all of it: nothing to mix */
        get->part_bytes = total;
    }
    pthread_mutex_unlock(&get->mutex);
    pst_task_unref(task);
    if (rc == PST_OK && total > n_read) {
        start_rest(get);
        return;
    }
    int goes_on = rc == PST_OK && get->outcome.object_size == PST_UNKNOWN && is_full &&
                  n_read > 0 && n_read < requested(get) && !get->spec.is_suffix;
    pthread_mutex_lock(&get->mutex);
    get->locked.n_running--;
    pthread_mutex_unlock(&get->mutex);
    if (!goes_on || !continue_unknown(get, n_read))
        end(get);
}

void pst_get_start(struct pst_get *get)
{
    struct pst_port *port = get->spec.port;
    uint64_t length = requested(get);
    if (length > port->core->config.first_read_bytes)
        length = port->core->config.first_read_bytes;
    pst_get_ref(get); /* until end() */
    if (length == 0) {
        end(get);
        return;
    }
    struct pst_task *task = new_read(get, get->spec.offset, length);
    if (task && get->spec.n_dst == 0) {
        task->is_late = 1;
        task->dst = pst_get_on_dst;
        task->dst_cancelled = pst_get_on_dst_cancelled;
    }
    if (!task || (get->spec.n_dst > 0 && !slice_dst(get, task, 0, length))) {
        pst_task_unref(task);
        fail_for_memory(get);
        end(get);
        return;
    }
    if (get->spec.is_suffix)
        task->args.read.flags |= PST_READ_SUFFIX;
    pthread_mutex_lock(&get->mutex);
    int goes_on = get->locked.rc == PST_OK || PST_FAULT(LOSE_EARLY_CANCEL);
    if (goes_on) {
        get->locked.first = task;
        run_locked(get, task);
    }
    pthread_mutex_unlock(&get->mutex);
    if (goes_on) {
        submit(get, task, on_first);
    } else { /* stopped before it began */
        pst_task_unref(task);
        end(get);
    }
}
