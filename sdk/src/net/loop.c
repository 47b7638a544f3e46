/* loop.c - one thread, one curl_multi, at most 128 transfers.
 *
 * A round: take what was sent, cancelled and resumed meanwhile; look at the clock; begin what may
 * begin; let libcurl move bytes; end what has ended. Then sleep, unless the callbacks of this round
 * have sent something new. enter() and leave() of the core stand around each round, so that what a
 * completion sets free in the core is submitted on this thread, by leave(), and is in the inbox before
 * the loop thinks of sleeping: one request follows the other without a wake-up. Where there
 * is always something new, epoll is asked every fourth round all the same.
 *
 * Another thread wakes the loop only if it sleeps and nobody has woken it yet. That question, the
 * inbox, cancels and resumes are all there is under the mutex.
 *
 * libcurl is asked to move bytes with curl_multi_perform, not by socket: it looks at every transfer,
 * which is quicker than telling an epoll set of every change as long as there are no more than 128 of
 * them (measured).
 *
 * Deadlines and stalls are looked for by a walk over all transfers when the first of them may be due;
 * a stall is noticed an eighth of its time late at most. While accept has asked for a pause nothing
 * can stall: it is we who do not move. */
#include "net/net.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Deadlines that are near to each other share a walk. */
#define CHECK_GRAIN_NS 5000000u
#define SLEEP_MAX_MS 60000
#define TIDY_NS (30 * UINT64_C(1000000000))
/* So many at most, one after the other, in which epoll is not asked. */
#define DEAF_ROUNDS 4
/* A loop without work keeps so many buffers, and after a second none. */
#define IDLE_BLOCKS 4u
#define IDLE_MS 1000
#define IDLE_NS (IDLE_MS * UINT64_C(1000000) - 1000000)

static _Thread_local struct pst_loop *here;

struct pst_loop *pst_loop_here(void)
{
    return here;
}

/* ---- from any thread -------------------------------------------------------------------------- */

static void wake_locked(struct pst_loop *loop)
{
    if (loop->locked.is_asleep) {
        loop->locked.is_asleep = 0;
        const uint64_t one = 1;
        (void)!write(loop->wake_fd, &one,
                     sizeof(one)); /* its descriptor lives as long as the lock */
    }
}

static struct pst_transfer **find_locked(struct pst_loop *loop, uint64_t id)
{
    struct pst_transfer **at = &loop->locked.by_id[(id >> 3) % PST_LOOP_BUCKETS];
    while (*at && (*at)->id != id)
        at = &(*at)->locked.next_by_id;
    return at;
}

static int make_set(struct pst_loop *loop)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    if (loop->epoll < 0)
        loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->wake_fd < 0)
        loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return loop->epoll >= 0 && loop->wake_fd >= 0 &&
           (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake_fd, &event) == 0 || errno == EEXIST);
}

static int make_multi(struct pst_loop *loop)
{
    CURLM *multi = make_set(loop) ? curl_multi_init() : NULL;
    if (!multi)
        return 0;
    /* No connection is closed to make room: as many may be idle as may be busy, for two stores. */
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 2L * PST_LOOP_TRANSFERS);
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    for (uint32_t i = 0; i < PST_LOOP_SHARES; i++) {
        if (!loop->shares[i] && !(loop->shares[i] = curl_share_init())) {
            curl_multi_cleanup(multi);
            return 0;
        }
        curl_share_setopt(loop->shares[i], CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
        curl_share_setopt(loop->shares[i], CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    }
    loop->multi = multi;
    return 1;
}

static void *run_loop(void *arg);

static int start_thread_locked(struct pst_loop *loop)
{
    sigset_t all, before;
    if (loop->locked.has_thread)
        return 1;
    if (!loop->multi && !make_multi(loop))
        return 0;
    /* The application's handlers run on its own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    loop->locked.has_thread = pthread_create(&loop->thread, NULL, run_loop, loop) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return loop->locked.has_thread;
}

pst_rc pst_loop_send(struct pst_loop *loop, struct pst_transfer *t)
{
    pst_rc rc = PST_PENDING;
    t->loop = loop;
    t->stage = PST_STAGE_INBOX;
    atomic_fetch_add_explicit(&loop->load, 1, memory_order_relaxed);
    pthread_mutex_lock(&loop->mutex);
    if (loop->locked.is_stopping)
        rc = PST_E_CANCELLED;
    else if (!start_thread_locked(loop))
        rc = PST_E_NO_MEMORY;
    if (rc == PST_PENDING) {
        struct pst_transfer **at = &loop->locked.by_id[(t->id >> 3) % PST_LOOP_BUCKETS];
        t->locked.next_by_id = *at;
        *at = t;
        pst_ring_add_last(&loop->locked.inbox, &t->link);
        wake_locked(loop);
    } else {
        atomic_fetch_sub_explicit(&loop->load, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&loop->mutex);
    return rc;
}

void pst_loop_signal(struct pst_loop *loop, uint64_t id, int is_cancel)
{
    pthread_mutex_lock(&loop->mutex);
    struct pst_transfer *t = *find_locked(loop, id);
    if (t) {
        if (is_cancel)
            t->locked.is_cancelled = 1;
        else
            t->locked.is_resumed = 1;
        if (!t->locked.is_signalled) {
            t->locked.is_signalled = 1;
            pst_ring_add_last(&loop->locked.signals, &t->locked.signal);
        }
        wake_locked(loop);
    }
    pthread_mutex_unlock(&loop->mutex);
}

void pst_loop_retire(struct pst_loop *loop, struct pst_lane *lane)
{
    pthread_mutex_lock(&loop->mutex);
    pst_ring_add_last(&loop->locked.retired, &lane->retired);
    wake_locked(loop);
    pthread_mutex_unlock(&loop->mutex);
}

void pst_loop_stop(struct pst_loop *loop)
{
    pthread_mutex_lock(&loop->mutex);
    loop->locked.is_stopping = 1;
    wake_locked(loop);
    pthread_mutex_unlock(&loop->mutex);
}

int pst_loop_wait(struct pst_loop *loop, uint64_t deadline_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                                   .tv_nsec = (long)(deadline_ns % 1000000000u)};
    int rc = 0;
    pthread_mutex_lock(&loop->mutex);
    while (loop->locked.has_thread && !loop->locked.has_ended && rc == 0)
        rc = pthread_cond_timedwait(&loop->ended, &loop->mutex, &until);
    const int is_running = loop->locked.has_thread && !loop->locked.has_ended;
    const int must_join = loop->locked.has_thread && loop->locked.has_ended;
    if (must_join)
        loop->locked.has_thread = 0;
    pthread_mutex_unlock(&loop->mutex);
    if (must_join)
        pthread_join(loop->thread, NULL);
    return !is_running;
}

/* ---- on the loop's own thread ----------------------------------------------------------------- */

void pst_loop_forget(struct pst_loop *loop, struct pst_transfer *t)
{
    pthread_mutex_lock(&loop->mutex);
    struct pst_transfer **at = find_locked(loop, t->id);
    *at = t->locked.next_by_id;
    if (t->locked.is_signalled)
        pst_ring_remove(&t->locked.signal);
    pthread_mutex_unlock(&loop->mutex);
}

static void move_ring(struct pst_ring *from, struct pst_ring *to)
{
    if (pst_ring_is_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    pst_ring_init(from);
}

/* Returns whether the loop has to stop. */
static int take_inbox(struct pst_loop *loop, struct pst_ring *inbox, struct pst_ring *retired)
{
    pthread_mutex_lock(&loop->mutex);
    loop->locked.is_asleep = 0;
    move_ring(&loop->locked.inbox, inbox);
    move_ring(&loop->locked.signals, &loop->signals);
    move_ring(&loop->locked.retired, retired);
    const int is_stopping = loop->locked.is_stopping;
    pthread_mutex_unlock(&loop->mutex);
    return is_stopping;
}

static void line_up(struct pst_loop *loop, struct pst_ring *inbox)
{
    while (!pst_ring_is_empty(inbox)) {
        struct pst_transfer *t = PST_RING_ENTRY(inbox->next, struct pst_transfer, link);
        pst_ring_remove(&t->link);
        pst_ring_add_last(&loop->all, &t->all);
        if (!pst_line_add(t))
            pst_finish(t, CURLE_OK, PST_E_NO_MEMORY, NULL);
    }
}

static struct pst_transfer *next_signal(struct pst_loop *loop, int *is_cancelled, int *is_resumed)
{
    struct pst_transfer *t = NULL;
    if (pst_ring_is_empty(&loop->signals))
        return NULL;
    pthread_mutex_lock(&loop->mutex);
    t = (struct pst_transfer *)(void *)((char *)loop->signals.next -
                                        offsetof(struct pst_transfer, locked.signal));
    pst_ring_remove(&t->locked.signal);
    *is_cancelled = t->locked.is_cancelled;
    *is_resumed = t->locked.is_resumed;
    t->locked.is_signalled = t->locked.is_resumed = 0;
    pthread_mutex_unlock(&loop->mutex);
    return t;
}

static void obey_signals(struct pst_loop *loop)
{
    struct pst_transfer *t;
    int is_cancelled, is_resumed;
    while ((t = next_signal(loop, &is_cancelled, &is_resumed))) {
        if (is_cancelled)
            pst_finish(t, CURLE_OK, PST_E_CANCELLED, NULL);
        else if (is_resumed && t->is_paused && !pst_receive_resume(t))
            pst_finish(t, CURLE_OK, t->rc, t->problem);
        else if (is_resumed && !t->is_paused && t->stage == PST_STAGE_PARKED)
            pst_finish(t, t->parked_code, PST_OK, NULL);
    }
}

static void free_lanes(struct pst_ring *retired)
{
    while (!pst_ring_is_empty(retired)) {
        struct pst_lane *lane = PST_RING_ENTRY(retired->next, struct pst_lane, retired);
        pst_ring_remove(&lane->retired);
        pst_lane_free(lane);
    }
}

static void cancel_all(struct pst_loop *loop)
{
    while (!pst_ring_is_empty(&loop->all))
        pst_finish(PST_RING_ENTRY(loop->all.next, struct pst_transfer, all), CURLE_OK,
                   PST_E_CANCELLED, NULL);
}

/* Has nothing moved for too long? Reading libcurl's figure of sent bytes is how a slow upload shows,
 * of which one buffer may last long. */
static int is_stalled(struct pst_transfer *t)
{
    const uint64_t stall_ns = (uint64_t)t->client->settings.stall_timeout_ms * 1000000u;
    curl_off_t connected_us = 0;
    curl_off_t sent = 0;
    if (t->stage != PST_STAGE_ACTIVE)
        return 0;
    const int is_wire = t->slot->wire && t->slot->wire->state != PST_WIRE_CONNECTING;
    if (!is_wire) {
        curl_easy_getinfo(t->slot->easy, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
        curl_easy_getinfo(t->slot->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    }
    if ((!is_wire && connected_us == 0) || t->is_paused || (uint64_t)sent != t->last_sent)
        t->last_progress_ns = t->loop->now_ns;
    t->last_sent = (uint64_t)sent;
    pst_loop_check_at(t->loop, t->loop->now_ns + stall_ns / 8);
    return t->loop->now_ns >= t->last_progress_ns + stall_ns;
}

/* A way through the network that was forgotten there: those kept beside it may have been as well. */
static void distrust_kept(struct pst_transfer *t)
{
    if (t->slot->wire && t->slot->wire->has_served && t->first_byte_ns == 0)
        pst_wire_close_kept(t->origin, 0);
}

static void check_times(struct pst_loop *loop)
{
    struct pst_ring *link = loop->all.next;
    if (loop->now_ns < loop->next_check_ns)
        return;
    loop->next_check_ns = UINT64_MAX;
    while (link != &loop->all) {
        struct pst_transfer *t = PST_RING_ENTRY(link, struct pst_transfer, all);
        link = link->next;
        if (t->deadline_ns && t->deadline_ns <= loop->now_ns) {
            pst_finish(t, CURLE_OK, PST_E_DEADLINE, "deadline passed");
        } else if (is_stalled(t)) {
            char problem[64];
            distrust_kept(t);
            snprintf(problem, sizeof(problem), "nothing moved for %u ms",
                     t->client->settings.stall_timeout_ms);
            pst_finish(t, CURLE_OK, PST_E_UNAVAILABLE, problem);
        } else if (t->deadline_ns) {
            pst_loop_check_at(loop, t->deadline_ns);
        }
    }
    if (loop->next_check_ns < loop->now_ns + CHECK_GRAIN_NS)
        loop->next_check_ns = loop->now_ns + CHECK_GRAIN_NS;
}

/* Connections that nobody uses any more. */
static void tidy(struct pst_loop *loop)
{
    if (loop->now_ns < loop->next_tidy_ns)
        return;
    loop->next_tidy_ns = loop->now_ns + TIDY_NS;
    for (struct pst_ring *l = loop->lanes.next; l != &loop->lanes; l = l->next) {
        const struct pst_lane *lane = PST_RING_ENTRY(l, struct pst_lane, link);
        for (struct pst_ring *o = lane->origins.next; o != &lane->origins; o = o->next)
            pst_wire_close_old(PST_RING_ENTRY(o, struct pst_origin, link));
    }
}

/* Returns whether libcurl has been given something to do. */
static int start_ready(struct pst_loop *loop)
{
    struct pst_transfer *t;
    const uint32_t before = loop->n_libcurl;
    while ((t = pst_line_next(loop))) {
        pst_rc rc = pst_slot_start(t);
        if (rc != PST_OK)
            pst_finish(t, CURLE_OK, rc, "libcurl refused the request");
    }
    return loop->n_libcurl > before;
}

/* Before new requests are begun: what an idle connection has to tell decides whether it serves again. */
static void serve_events(struct pst_loop *loop)
{
    for (loop->at_event = 0; loop->at_event < loop->n_events;) {
        const struct epoll_event event = loop->events[loop->at_event++];
        if (event.data.ptr)
            pst_wire_event(event.data.ptr, event.events);
    }
    loop->n_events = loop->at_event = 0;
}

static void serve_hot(struct pst_loop *loop)
{
    struct pst_ring hot;
    /* Each once: who has more to do stands behind again. */
    pst_ring_init(&hot);
    move_ring(&loop->hot, &hot);
    while (!pst_ring_is_empty(&hot))
        pst_wire_serve(PST_RING_ENTRY(hot.next, struct pst_wire, busy)->slot);
}

/* The message is about a connection that a wire waits for. */
static void connected(struct pst_slot *slot, CURLcode code)
{
    if (code == CURLE_OK)
        code = pst_wire_connected(slot);
    if (code != CURLE_OK)
        pst_finish(slot->transfer, code, PST_OK, NULL);
}

static void ask_libcurl(struct pst_loop *loop)
{
    CURLMsg *message;
    int n = 0;
    curl_multi_perform(loop->multi, &n);
    while ((message = curl_multi_info_read(loop->multi, &n))) {
        char *private = NULL;
        const CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        struct pst_slot *slot = (struct pst_slot *)(void *)private;
        struct pst_transfer *t = slot->transfer;
        if (slot->wire) {
            connected(slot, code);
        } else if (t->is_paused && code == CURLE_OK) { /* an empty body */
            t->stage = PST_STAGE_PARKED;
            t->parked_code = code;
        } else if (code == CURLE_OK || !pst_slot_retry(t, code)) {
            pst_finish(t, code, PST_OK, NULL);
        }
    }
}

static int sleep_ms(const struct pst_loop *loop)
{
    uint64_t until = loop->next_check_ns;
    if (!pst_ring_is_empty(&loop->timed)) {
        const uint64_t at =
            PST_RING_ENTRY(loop->timed.next, struct pst_transfer, link)->not_before_ns;
        until = at < until ? at : until;
    }
    if (pst_ring_is_empty(&loop->all))
        return loop->blocks.n > 0 ? IDLE_MS : SLEEP_MAX_MS;
    if (until <= loop->now_ns)
        return 0;
    const uint64_t ms = (until - loop->now_ns + 999999) / 1000000;
    return ms < SLEEP_MAX_MS ? (int)ms : SLEEP_MAX_MS;
}

/* libcurl waits for its own descriptors and our set together; without work for it, the set alone. */
static void wait_for_events(struct pst_loop *loop, int ms)
{
    struct curl_waitfd set = {.fd = loop->epoll, .events = CURL_WAIT_POLLIN};
    if (loop->n_libcurl > 0) {
        curl_multi_poll(loop->multi, &set, 1, ms, NULL);
        ms = 0;
    }
    const int n = epoll_wait(loop->epoll, loop->events, PST_LOOP_EVENTS, ms);
    loop->n_events = n > 0 ? n : 0;
}

/* Instead of sleeping: connections that an event is due for must not wait until those that are always
 * busy have nothing to do. */
static void look_for_events(struct pst_loop *loop)
{
    if (++loop->n_deaf < DEAF_ROUNDS)
        return;
    loop->n_deaf = 0;
    const int n = epoll_wait(loop->epoll, loop->events, PST_LOOP_EVENTS, 0);
    loop->n_events = n > 0 ? n : 0;
}

/* Returns whether it may have slept. */
static int sleep_unless_sent(struct pst_loop *loop)
{
    pthread_mutex_lock(&loop->mutex);
    const int must_go_on = !pst_ring_is_empty(&loop->hot) ||
                           !pst_ring_is_empty(&loop->locked.inbox) ||
                           !pst_ring_is_empty(&loop->locked.signals) ||
                           !pst_ring_is_empty(&loop->locked.retired) || loop->locked.is_stopping;
    loop->locked.is_asleep = !must_go_on;
    pthread_mutex_unlock(&loop->mutex);
    if (must_go_on)
        return 0;
    loop->n_deaf = 0;
    if (pst_ring_is_empty(&loop->all))
        pst_blocks_trim(&loop->blocks, IDLE_BLOCKS);
    wait_for_events(loop, sleep_ms(loop));
    if (pst_ring_is_empty(&loop->all) && pst_net_now_ns() > loop->now_ns + IDLE_NS)
        pst_blocks_trim(&loop->blocks, 0);
    return 1;
}

static void *run_loop(void *arg)
{
    struct pst_loop *loop = arg;
    const struct pst_net_host *nh = &loop->instance->nh;
    char name[16];
    here = loop;
    snprintf(name, sizeof(name), "pst-net-%u", loop->index);
    pthread_setname_np(pthread_self(), name);
    pst_blocks_use(&loop->blocks);
    for (;;) {
        struct pst_ring inbox, retired;
        pst_ring_init(&inbox);
        pst_ring_init(&retired);
        const int is_stopping = take_inbox(loop, &inbox, &retired);
        loop->now_ns = pst_net_now_ns();
        nh->enter();
        line_up(loop, &inbox);
        obey_signals(loop);
        free_lanes(&retired);
        if (is_stopping)
            cancel_all(loop);
        serve_events(loop);
        pst_line_wake(loop);
        check_times(loop);
        tidy(loop);
        start_ready(loop);
        serve_hot(loop);
        if (loop->n_libcurl > 0)
            ask_libcurl(loop);
        const int has_begun = start_ready(loop);
        nh->leave();
        if (is_stopping && pst_ring_is_empty(&loop->all))
            break;
        if (has_begun || !sleep_unless_sent(loop))
            look_for_events(loop);
    }
    while (!pst_ring_is_empty(&loop->lanes))
        pst_lane_free(PST_RING_ENTRY(loop->lanes.next, struct pst_lane, link));
    pst_blocks_use(NULL);
    pst_blocks_trim(&loop->blocks, 0);
    pthread_mutex_lock(&loop->mutex);
    loop->locked.has_ended = 1;
    pthread_cond_broadcast(&loop->ended);
    pthread_mutex_unlock(&loop->mutex);
    return NULL;
}

/* ---- making and freeing ------------------------------------------------------------------------ */

pst_rc pst_loop_new(struct pst_net_instance *instance, uint32_t index, struct pst_loop **out)
{
    pthread_condattr_t attr;
    struct pst_loop *loop = calloc(1, sizeof(*loop));
    *out = loop;
    if (!loop)
        return PST_E_NO_MEMORY;
    loop->instance = instance;
    loop->index = index;
    loop->next_check_ns = UINT64_MAX;
    atomic_init(&loop->load, 0);
    pst_ring_init(&loop->all);
    pst_ring_init(&loop->timed);
    pst_ring_init(&loop->ready);
    pst_ring_init(&loop->hot);
    loop->epoll = loop->wake_fd = -1;
    pst_ring_init(&loop->lanes);
    pst_ring_init(&loop->signals);
    pst_ring_init(&loop->locked.inbox);
    pst_ring_init(&loop->locked.signals);
    pst_ring_init(&loop->locked.retired);
    pthread_mutex_init(&loop->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&loop->ended, &attr);
    pthread_condattr_destroy(&attr);
    return PST_OK;
}

void pst_loop_free(struct pst_loop *loop)
{
    if (!loop)
        return;
    pthread_mutex_lock(&loop->mutex); /* behind whoever is waking it */
    pthread_mutex_unlock(&loop->mutex);
    if (loop->multi)
        curl_multi_cleanup(loop->multi);
    for (uint32_t i = 0; i < PST_LOOP_SHARES; i++) {
        if (loop->shares[i])
            curl_share_cleanup(loop->shares[i]);
    }
    if (loop->epoll >= 0)
        close(loop->epoll);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    pthread_cond_destroy(&loop->ended);
    pthread_mutex_destroy(&loop->mutex);
    free(loop);
}
