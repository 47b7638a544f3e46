/* get_first.c - the first read, and objects whose size nobody tells.
 *
 * The first reply decides about everything that follows: the version to hold on to, how long the whole
 * is, whether its ranges may be of two requests at all. A store that does not tell the size is read in
 * sequence until a read comes short; the memory doubles on the way. Where nothing pins the version
 * either, the requests of such a sequence might be of two: the object is asked for once more, all of it
 * by one request, which finds its memory as a first read does. Longer than the budget is refused there. */
#include <string.h>

#include "core/error.h"
#include "core/fault.h"
#include "io/get_state.h"

int pst_get_is_same_version(const struct pst_get *get, const pst_read_result *r)
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

/* Is there room for what the plugin says it delivered? */
static pst_rc check_delivered(struct pst_get *get, const struct pst_try *try, uint64_t before)
{
    struct pst_task *task = try->task;
    uint64_t n_read = task->result.read.n_read, room = task->args.read.length;
    if (n_read > room)
        return pst_fail(&task->error, PST_E_DATA_LOSS, "asked for %llu bytes, got %llu",
                        (unsigned long long)room, (unsigned long long)n_read);
    if (get->spec.n_dst > 0 || try->spare)
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
static pst_rc check_first(struct pst_get *get, const struct pst_try *try, uint64_t *total)
{
    struct pst_task *task = try->task;
    const pst_read_result *r = &task->result.read;
    const pst_read_args *a = &task->args.read;
    pst_rc rc = note_version(get, task);
    if (rc != PST_OK)
        return rc;
    rc = check_delivered(get, try, 0);
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
    uint64_t want = pst_get_requested(get);
    *total = get->spec.is_suffix || rest < want ? rest : want;
    return PST_OK;
}

/* ---- sizes that nobody tells ------------------------------------------------------------------- */

static void on_unknown_settled(struct pst_span *span, pst_rc rc, const pst_error *cause);

/* Read on at so_far. Returns 0 when there is nothing to wait for. */
static int continue_unknown(struct pst_get *get, uint64_t so_far)
{
    struct pst_span *span = &get->first;
    uint64_t want = pst_get_requested(get);
    uint64_t first = get->spec.port->core->config.first_read_bytes;
    uint64_t length = want - so_far < first ? want - so_far : first;
    pst_error why = PST_ERROR_INIT;
    struct pst_task *task = NULL;
    pthread_mutex_lock(&get->mutex);
    size_t had = get->outcome.buffer ? pst_buffer_capacity(get->outcome.buffer) : 0;
    if (get->spec.n_dst == 0 && had < so_far + length && get->locked.rc == PST_OK) {
        pst_rc rc = pst_get_grow_locked(get, so_far + 1, (so_far + length) * 2, so_far, &why);
        if (rc != PST_OK)
            pst_get_fail_locked(get, rc, &why);
        had = rc == PST_OK ? pst_buffer_capacity(get->outcome.buffer) : 0;
        if (rc == PST_OK && length > had - so_far)
            length = had - so_far; /* the budget ends here */
    }
    if (get->locked.rc == PST_OK) {
        span->from = so_far;
        span->length = length;
        span->is_hedged = 1;
        span->settled = on_unknown_settled;
        task = pst_get_aim_locked(span, PST_AIM_DIRECT);
    }
    pthread_mutex_unlock(&get->mutex);
    if (task)
        pst_get_submit(get, task);
    return task != NULL;
}

/* Ask once more, for the first `length` bytes. Returns as above. */
static int ask_from_start(struct pst_get *get, uint64_t length)
{
    struct pst_span *span = &get->first;
    struct pst_task *task = NULL;
    pthread_mutex_lock(&get->mutex);
    if (get->locked.rc == PST_OK) {
        span->length = length;
        span->is_hedged = 1;
        task = pst_get_aim_locked(span, get->spec.n_dst > 0 ? PST_AIM_DIRECT : PST_AIM_LATE);
    }
    pthread_mutex_unlock(&get->mutex);
    if (task)
        pst_get_submit(get, task);
    return task != NULL;
}

/* Ask for all of it by one request. What came before is of no use: it may be of another version. One
 * byte more than the budget is enough to find out that it does not fit. */
static int ask_for_all(struct pst_get *get, uint64_t so_far)
{
    uint64_t limit_bytes = get->spec.port->core->budget.limit_bytes;
    uint64_t length = pst_get_requested(get);
    (void)so_far;
    if (get->spec.n_dst == 0 && length > limit_bytes)
        length = limit_bytes + 1;
    return ask_from_start(get, length);
}

/* Ask for the same bytes, into the destination, where the read can stand in line for memory. */
static int ask_in_line(struct pst_get *get, uint64_t so_far)
{
    (void)so_far;
    return ask_from_start(get, get->first.length);
}

/* The bytes of the span's request are wanted: bring them to their place, sum them. */
static void take_bytes(struct pst_span *span)
{
    struct pst_get *get = span->get;
    pst_error why = PST_ERROR_INIT;
    pst_rc rc = pst_get_work(span, &why);
    pthread_mutex_lock(&get->mutex);
    get->locked.crc32c = pst_crc32c_combine(get->locked.crc32c, span->crc32c, span->n_read);
    if (rc == PST_OK)
        rc = pst_get_note_sums_locked(span, &why);
    if (rc != PST_OK)
        pst_get_fail_locked(get, rc, &why);
    pthread_mutex_unlock(&get->mutex);
}

/* The span's request is over: let ask() make the next one (NULL: there is none), or end the read. */
static void go_on_unknown(struct pst_span *span, int (*ask)(struct pst_get *, uint64_t so_far))
{
    struct pst_get *get = span->get;
    uint64_t so_far = span->from + span->n_read;
    pst_get_ref(get); /* the request's reference may be the last one */
    pthread_mutex_lock(&get->mutex);
    struct pst_try *winner = span->winner;
    span->winner = NULL; /* who looks for late ranges reads it */
    get->locked.n_running--;
    pthread_mutex_unlock(&get->mutex);
    pst_try_free(winner);
    if (!ask || !ask(get, so_far))
        pst_get_end(get);
    pst_get_unref(get);
}

static void on_unknown_settled(struct pst_span *span, pst_rc rc, const pst_error *cause)
{
    struct pst_get *get = span->get;
    struct pst_try *winner = span->winner; /* there is one if rc is OK */
    int is_full = 0;
    if (rc == PST_E_PRECONDITION ||
        (rc == PST_OK && winner && !pst_get_is_same_version(get, &winner->task->result.read))) {
        pst_error why = PST_ERROR_INIT;
        rc = pst_fail(&why, PST_E_CHANGED, "the object changed while it was read");
        pthread_mutex_lock(&get->mutex);
        pst_get_fail_locked(get, rc, &why);
        pthread_mutex_unlock(&get->mutex);
    }
    if (rc == PST_OK && winner) {
        rc = check_delivered(get, winner, span->from);
        cause = &winner->task->error;
    }
    pthread_mutex_lock(&get->mutex);
    if (rc != PST_OK)
        pst_get_fail_locked(get, rc, cause);
    span->n_read = rc == PST_OK && winner ? winner->task->result.read.n_read : 0;
    is_full = span->n_read == span->length;
    get->locked.total = span->from + span->n_read;
    get->outcome.n_ranges += rc == PST_OK;
    int goes_on = get->locked.rc == PST_OK && is_full && get->locked.total < pst_get_requested(get);
    pthread_mutex_unlock(&get->mutex);
    if (winner)
        take_bytes(span);
    go_on_unknown(span, goes_on ? continue_unknown : NULL);
}

/* ---- the first reply --------------------------------------------------------------------------- */

/* The size was told with the result only, after the memory was given; or the bytes are in memory of the
 * request's own. */
static void make_room_locked(struct pst_get *get, uint64_t total, uint64_t used)
{
    pst_error why = PST_ERROR_INIT;
    size_t had = get->outcome.buffer ? pst_buffer_capacity(get->outcome.buffer) : 0;
    if (get->spec.n_dst > 0 || total <= had)
        return;
    pst_rc rc = pst_get_grow_locked(get, total, total, used, &why);
    if (rc != PST_OK)
        pst_get_fail_locked(get, rc, &why);
}

/* The first bytes are in memory of the request's own, which the read can let go of: the whole is only
 * taken from the budget where it fits. Returns 0 when it does not. */
static int try_room_locked(struct pst_get *get, uint64_t total)
{
    struct pst_budget *budget = &get->spec.port->core->budget;
    if (get->spec.n_dst > 0 || total == 0 || total > budget->limit_bytes ||
        get->locked.memory != PST_MEMORY_NONE)
        return 1;
    if (!pst_budget_try(budget, total))
        return 0;
    get->locked.memory = PST_MEMORY_RESERVED;
    get->locked.reserved_bytes = total;
    return 1;
}

static void on_first_settled(struct pst_span *span, pst_rc rc, const pst_error *cause)
{
    struct pst_get *get = span->get;
    struct pst_try *winner = span->winner; /* there is one if rc is OK */
    uint64_t total = 0, n_read = winner ? winner->task->result.read.n_read : 0;
    int is_full = n_read == span->length, has_spare = winner && winner->spare;
    if (rc == PST_OK && winner) {
        rc = check_first(get, winner, &total);
        cause = &winner->task->error;
    }
    pthread_mutex_lock(&get->mutex);
    get->locked.total = total;
    get->locked.next = span->n_read = n_read;
    if (rc != PST_OK)
        pst_get_fail_locked(get, rc, cause);
    else
        pst_pace_took(&get->locked.pace, pst_now_ns() - span->begun_ns);
    int is_unpinned = get->outcome.etag_strength != PST_ETAG_STRONG && !PST_FAULT(PIN_WEAK) &&
                      !(get->spec.flags & PST_READ_ALLOW_UNPINNED);
    int goes_on = get->outcome.object_size == PST_UNKNOWN && is_full && n_read > 0 &&
                  n_read < pst_get_requested(get) && !get->spec.is_suffix;
    int is_starved = rc == PST_OK && get->locked.rc == PST_OK && has_spare &&
                     !try_room_locked(get, total);
    if (rc == PST_OK && get->locked.rc == PST_OK && !is_starved) {
        get->outcome.n_ranges++;
        if (!goes_on || !is_unpinned)
            make_room_locked(get, total, has_spare ? 0 : n_read);
    }
    rc = get->locked.rc;
    if (rc == PST_OK && !is_starved && (total > n_read || goes_on) && is_unpinned) {
        get->locked.next = span->n_read = 0; /* one request for all of it: nothing to mix */
        get->is_single = 1;
    }
    pthread_mutex_unlock(&get->mutex);
    if (is_starved) {
        go_on_unknown(span, ask_in_line);
        return;
    }
    if (rc == PST_OK && goes_on) {
        if (!is_unpinned)
            take_bytes(span);
        go_on_unknown(span, is_unpinned ? ask_for_all : continue_unknown);
        return;
    }
    /* Read again as a whole it may be another version, and without an etag nothing would show that: sums of
     * this one would call the new bytes wrong. It is not verified then, and says so. */
    int is_nameless = get->is_single && get->outcome.etag_strength == PST_ETAG_NONE;
    if (rc == PST_OK && winner && !is_nameless)
        pst_get_learn_sums(get, winner->task);
    if (rc == PST_OK && total > n_read)
        pst_get_start_rest(get);
    pst_get_close_span(span, rc == PST_OK && span->n_read > 0);
}

void pst_get_start(struct pst_get *get)
{
    struct pst_port *port = get->spec.port;
    struct pst_span *span = &get->first;
    struct pst_task *task = NULL;
    uint64_t length = pst_get_requested(get);
    if (length > port->core->config.first_read_bytes)
        length = port->core->config.first_read_bytes;
    pst_get_ref(get); /* until pst_get_end */
    get->begun_ns = pst_now_ns();
    if (length == 0) {
        pst_get_end(get);
        return;
    }
    span->length = length;
    span->settled = on_first_settled;
    pthread_mutex_lock(&get->mutex);
    if (get->locked.rc == PST_OK || PST_FAULT(LOSE_EARLY_CANCEL))
        task = pst_get_aim_locked(span, pst_get_aim_of(get, 1));
    pthread_mutex_unlock(&get->mutex);
    if (task)
        pst_get_submit(get, task);
    else /* stopped before it began, or out of memory */
        pst_get_end(get);
}
