/* list.c - a listing, page by page.
 *
 * Two shapes of plugin: a cursor that it keeps (list_open, list_page, list_close), tried first, or pages
 * by token (list), which need nothing kept. Either way one task fetches one page; the plugin's entries
 * are packed as they arrive (io/page.c), thrown away when the attempt fails, and belong to the
 * application until its next call. An empty page that is not the last is no news: the next one is
 * fetched.
 *
 * A call may be cut short while its page is on the way. The page is then still coming, and a cursor has
 * moved past it: so the next call waits for that page instead of asking again, and nothing is skipped.
 *
 * What the plugin needs lives in a `walk`, which the list and the page on its way hold. Who lets go last
 * closes the cursor, never on top of plugin code: there the reactor does it. No page is read ahead.
 *
 * Order is checked, across pages too, where the store promises it: a listing out of order would make
 * sync delete what it should keep. Such a listing is broken for good; a page that failed for another
 * reason may be asked for again. */
#include <stdlib.h>
#include <string.h>

#include <penstock/list.h>

#include "core/error.h"
#include "core/fault.h"
#include "core/stack.h"
#include "io/call.h"
#include "io/page.h"
#include "io/retry.h"
#include "io/verb.h"

#define PAGE_ENTRIES 1000u
#define PAGE_ENTRIES_MAX 1000000u

/* Shared by the list and the task on its way. Written by whoever of the two is at work; `locked` is for
 * the moment of handing over. */
struct walk {
    atomic_uint refs;
    struct pst_port *port;
    struct pst_gate gate;
    struct pst_timer close_timer;
    pst_cursor *cursor;
    pst_str prefix, start_after; /* into `texts` */
    char *texts;
    uint32_t flags;
    struct pst_page page;
    struct pst_page_rules rules;
    uint32_t page_attempt; /* whose entries `page` holds */
    char *last_key;        /* of the pages before */
    size_t last_room;
    char *token;
    size_t token_len;
    struct {
        int is_running;
        pst_rc rc;
    } locked;
};

struct pst_list {
    struct walk *walk;
    struct pst_task *task; /* on its way, or ended and not looked at */
    uint32_t generation;
    int of_containers, uses_tokens, is_at_end;
    size_t n_taken; /* of walk->page, by pst_list_next */
    pst_rc broken;
    pst_error why;
};

/* ---- the walk --------------------------------------------------------------------------------- */

static void close_walk(void *arg)
{
    struct walk *walk = arg;
    if (walk->cursor) {
        pst_stack_enter();
        walk->port->loaded->ops.list_close(walk->cursor);
        pst_stack_leave();
    }
    pst_page_fini(&walk->page);
    pst_gate_fini(&walk->gate);
    pst_port_unref(walk->port);
    free(walk->token);
    free(walk->last_key);
    free(walk->texts);
    free(walk);
}

/* The last reference is gone. */
static void end_walk(struct walk *walk)
{
    if (!walk->cursor || pst_stack_is_clear())
        close_walk(walk);
    else
        pst_reactor_arm(walk->port->core->reactor, &walk->close_timer, 0);
}

static struct walk *new_walk(struct pst_port *port, pst_str prefix, pst_str start_after)
{
    struct walk *walk = calloc(1, sizeof(*walk));
    char *texts = malloc(prefix.len + start_after.len + 1);
    if (!walk || !texts) {
        free(texts);
        free(walk);
        return NULL;
    }
    if (prefix.len > 0)
        memcpy(texts, prefix.ptr, prefix.len);
    if (start_after.len > 0)
        memcpy(texts + prefix.len, start_after.ptr, start_after.len);
    atomic_init(&walk->refs, 1);
    walk->port = pst_port_ref(port);
    walk->texts = texts;
    walk->prefix = pst_str_of(texts, prefix.len);
    walk->start_after = pst_str_of(texts + prefix.len, start_after.len);
    walk->close_timer.fn = close_walk;
    walk->close_timer.arg = walk;
    pst_gate_init(&walk->gate);
    return walk;
}

/* ---- hooks of the task ------------------------------------------------------------------------ */

/* Keep room for a copy of each key that may become the last one, so that finishing a page cannot fail:
 * a cursor has moved on by then. */
static int reserve_last_key(struct walk *walk)
{
    size_t len = walk->page.n > 0 ? walk->page.entries[walk->page.n - 1].key.len : 0;
    if (len <= walk->last_room)
        return 1;
    int is_after = walk->last_key && walk->rules.after.ptr == walk->last_key;
    size_t room = len < SIZE_MAX / 2 ? len + len : len; /* not again for the next longer one */
    char *key = realloc(walk->last_key, room);
    if (!key)
        return 0;
    if (is_after)
        walk->rules.after.ptr = key;
    walk->last_key = key;
    walk->last_room = room;
    return 1;
}

static pst_rc on_emit(struct pst_task *task, const pst_entry *entries, size_t n, size_t stride)
{
    struct walk *walk = task->owner;
    if (walk->page_attempt !=
        task->op.attempt) { /* the attempt before failed: forget its entries */
        if (!PST_FAULT(KEEP_FAILED_ENTRIES))
            pst_page_clear(&walk->page);
        walk->page_attempt = task->op.attempt;
    }
    pst_rc rc = pst_page_add(&walk->page, &walk->rules, entries, n, stride);
    if (rc == PST_OK && !reserve_last_key(walk)) {
        rc = pst_fail(&walk->page.why, PST_E_NO_MEMORY, "out of memory");
        walk->page.fault = rc;
    }
    return rc;
}

static void on_end(struct pst_task *task, pst_rc rc)
{
    struct walk *walk = task->owner;
    if (rc == PST_OK && task->slot == PST_SLOT_LIST_OPEN)
        walk->cursor = task->result.cursor.cursor;
    pthread_mutex_lock(&walk->gate.mutex);
    walk->locked.rc = rc;
    walk->locked.is_running = 0;
    int is_last = atomic_fetch_sub(&walk->refs, 1) == 1; /* before the list can be freed */
    pthread_cond_signal(&walk->gate.changed);
    pthread_mutex_unlock(&walk->gate.mutex);
    if (is_last)
        end_walk(walk);
}

/* ---- one task --------------------------------------------------------------------------------- */

static pst_rc start_task(struct pst_list *list, enum pst_slot slot, const pst_call *call,
                         const struct pst_limit *limit)
{
    struct walk *walk = list->walk;
    struct pst_task *task = pst_task_new(walk->port, slot, walk->cursor);
    if (!task)
        return PST_E_NO_MEMORY;
    if (slot == PST_SLOT_LIST_PAGE) {
        task->args.page.struct_size = sizeof(task->args.page);
        task->args.page.max_entries = (uint32_t)walk->rules.max_entries;
    } else {
        pst_list_args *args = &task->args.list;
        args->struct_size = sizeof(*args);
        args->flags = walk->flags;
        args->prefix = walk->prefix;
        args->start_after = walk->start_after;
        args->page_token = pst_str_of(walk->token, walk->token_len);
        args->max_entries = (uint32_t)walk->rules.max_entries;
    }
    task->emit = slot == PST_SLOT_LIST_OPEN ? NULL : on_emit;
    task->then = on_end;
    task->owner = walk;
    task->op.affinity = call->affinity;
    pst_page_clear(&walk->page);
    walk->page_attempt = 1;
    walk->locked.is_running = 1; /* nobody else looks yet */
    list->task = task;
    list->n_taken = 0;
    atomic_fetch_add(&walk->refs, 1);
    pst_retry_submit(task, call->max_attempts, limit->deadline_ns);
    return PST_OK;
}

/* Wait for the task. Returns PST_OK when it has ended, else what cut the wait short. */
static pst_rc wait_for_task(struct pst_list *list, const struct pst_limit *limit)
{
    struct walk *walk = list->walk;
    pst_rc rc = PST_OK;
    pthread_mutex_lock(&walk->gate.mutex);
    while (walk->locked.is_running && rc == PST_OK)
        rc = pst_gate_sleep(&walk->gate, limit);
    pthread_mutex_unlock(&walk->gate.mutex);
    if (rc != PST_OK)
        pst_retry_cancel(list->task, rc);
    return rc;
}

static void forget_task(struct pst_list *list)
{
    pst_task_unref(list->task);
    list->task = NULL;
}

/* Which slot comes next. */
static enum pst_slot next_slot(const struct pst_list *list)
{
    if (list->of_containers)
        return PST_SLOT_CONTAINER_LIST;
    if (list->uses_tokens)
        return PST_SLOT_LIST;
    return list->walk->cursor ? PST_SLOT_LIST_PAGE : PST_SLOT_LIST_OPEN;
}

static const char *name_of(const struct pst_list *list)
{
    return pst_slot_name(list->of_containers ? PST_SLOT_CONTAINER_LIST : PST_SLOT_LIST);
}

static pst_rc break_list(struct pst_list *list, pst_rc rc, const char *why, pst_error *err)
{
    if (why)
        pst_fail(&list->why, rc, "%s", why);
    else
        pst_error_copy(&list->why, &list->walk->page.why);
    pst_fail_at(list->walk->port, name_of(list), list->walk->prefix, rc, &list->why, &list->why);
    list->broken = rc;
    pst_error_copy(err, &list->why);
    return rc;
}

/* ---- what a task brought ---------------------------------------------------------------------- */

static void remember_last_key(struct walk *walk)
{
    if (walk->page.n == 0)
        return;
    pst_str key = walk->page.entries[walk->page.n - 1].key;
    memcpy(walk->last_key, key.ptr, key.len); /* on_emit has made room */
    walk->rules.after = pst_str_of(walk->last_key, key.len);
    walk->rules.is_first = 0;
}

/* Keep the token of the next page. Until all is well the old one stays: the page can be asked again. */
static pst_rc take_token(struct pst_list *list, pst_error *err)
{
    struct walk *walk = list->walk;
    pst_str next = list->task->result.list.next_token;
    if (next.len == 0) {
        list->is_at_end = 1;
        return PST_OK;
    }
    if (next.len == walk->token_len && memcmp(next.ptr, walk->token, next.len) == 0)
        return break_list(list, PST_E_INTERNAL, "the plugin gave the same token twice", err);
    char *token = malloc(next.len);
    if (!token)
        return pst_fail_at(walk->port, name_of(list), walk->prefix, PST_E_NO_MEMORY, NULL, err);
    memcpy(token, next.ptr, next.len);
    free(walk->token);
    walk->token = token;
    walk->token_len = next.len;
    return PST_OK;
}

static pst_rc take_page(struct pst_list *list, pst_error *err)
{
    struct walk *walk = list->walk;
    if (walk->page_attempt != list->task->op.attempt)
        pst_page_clear(&walk->page); /* the last attempt listed nothing */
    if (walk->page.fault != PST_OK)  /* and the plugin said OK: the page is lost to a cursor */
        return break_list(list, walk->page.fault, NULL, err);
    if (list->uses_tokens) {
        pst_rc rc = take_token(list, err);
        if (rc != PST_OK)
            return rc;
    } else {
        list->is_at_end = (list->task->result.list.flags & PST_PAGE_LAST) != 0;
    }
    remember_last_key(walk);
    return PST_OK;
}

static pst_rc take_failure(struct pst_list *list, pst_rc rc, pst_error *err)
{
    if (list->walk->page.fault == PST_E_INTERNAL)
        return break_list(list, PST_E_INTERNAL, NULL, err);
    return pst_call_fail(list->task, list->walk->prefix, rc, err);
}

static pst_rc take_cursor(struct pst_list *list, pst_rc rc, pst_error *err)
{
    struct walk *walk = list->walk;
    if (rc == PST_OK && !walk->cursor)
        return break_list(list, PST_E_INTERNAL, "the plugin opened no cursor", err);
    if (rc == PST_E_UNIMPLEMENTED && walk->port->loaded->ops.list) {
        list->uses_tokens = 1;
        return PST_OK;
    }
    return rc == PST_OK ? rc : pst_call_fail(list->task, walk->prefix, rc, err);
}

/* Fetch one page into walk->page. */
static pst_rc fetch(struct pst_list *list, const pst_call *call, const struct pst_limit *limit,
                    pst_error *err)
{
    struct walk *walk = list->walk;
    for (;;) {
        int is_leftover = list->task != NULL;
        pst_rc rc = is_leftover ? PST_OK : start_task(list, next_slot(list), call, limit);
        if (rc == PST_OK)
            rc = wait_for_task(list, limit);
        if (rc != PST_OK)
            return pst_fail_at(walk->port, name_of(list), walk->prefix, rc, NULL, err);
        rc = walk->locked.rc;
        enum pst_slot slot = list->task->slot;
        int is_void = is_leftover && rc != PST_OK; /* its own call gave up on it: ask again */
        if (is_void)
            rc = PST_OK;
        else if (slot == PST_SLOT_LIST_OPEN)
            rc = take_cursor(list, rc, err);
        else
            rc = rc == PST_OK ? take_page(list, err) : take_failure(list, rc, err);
        forget_task(list);
        if (rc != PST_OK || (slot != PST_SLOT_LIST_OPEN && !is_void))
            return rc;
    }
}

/* ---- the calls -------------------------------------------------------------------------------- */

static pst_rc check_options(const struct pst_port *port, const pst_list_options *options,
                            pst_error *err)
{
    const uint32_t known = PST_LISTING_RECURSIVE | PST_LISTING_UNORDERED | PST_LISTING_EMPTY_DIRS |
                           PST_LISTING_VERSIONS;
    int is_unordered = (options->flags & PST_LISTING_UNORDERED) != 0;
    if (options->flags & ~known)
        return pst_fail(err, PST_E_INVALID, "unknown flags 0x%x", (unsigned)options->flags);
    if (options->page_entries > PAGE_ENTRIES_MAX)
        return pst_fail(err, PST_E_INVALID, "at most %u entries a page", PAGE_ENTRIES_MAX);
    if (is_unordered && options->start_after.len > 0)
        return pst_fail(err, PST_E_UNIMPLEMENTED, "start_after needs order, not UNORDERED");
    return pst_verb_need(port,
                         PST_CAP_LIST | (is_unordered ? 0 : PST_CAP_LIST_ORDERED) |
                             (options->flags & PST_LISTING_VERSIONS ? PST_CAP_VERSIONS : 0),
                         err);
}

static void set_rules(struct walk *walk, const pst_list_options *options)
{
    const struct pst_port *port = walk->port;
    uint32_t max = options->page_entries ? options->page_entries : PAGE_ENTRIES;
    if (port->limits.list_page_max > 0 && max > port->limits.list_page_max)
        max = port->limits.list_page_max;
    walk->rules.prefix = walk->prefix;
    walk->rules.after = walk->start_after;
    walk->rules.is_first = 1;
    walk->rules.is_ordered = !(options->flags & PST_LISTING_UNORDERED);
    walk->rules.has_versions = (options->flags & PST_LISTING_VERSIONS) != 0;
    walk->rules.max_entries = max;
    walk->flags = (options->flags & PST_LISTING_RECURSIVE ? PST_LIST_RECURSIVE : 0) |
                  (options->flags & PST_LISTING_UNORDERED ? PST_LIST_UNORDERED : 0) |
                  (options->flags & PST_LISTING_VERSIONS ? PST_LIST_VERSIONS : 0);
    /* A store without directories has none that are empty. */
    if ((options->flags & PST_LISTING_EMPTY_DIRS) && (port->info.caps & PST_CAP_EMPTY_DIRS))
        walk->flags |= PST_LIST_EMPTY_DIRS;
}

static pst_rc new_list(struct pst_port *port, pst_str prefix, const pst_list_options *options,
                       pst_list **out, pst_error *err)
{
    struct pst_list *list = calloc(1, sizeof(*list));
    if (list)
        list->walk = new_walk(port, prefix, options->start_after);
    if (!list || !list->walk) {
        free(list);
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    }
    set_rules(list->walk, options);
    list->generation = port->core->generation;
    list->uses_tokens = !port->loaded->ops.list_open;
    list->why.struct_size = sizeof(list->why);
    *out = list;
    return PST_OK;
}

pst_rc pst_list_open(pst_store *store, pst_str prefix, const pst_list_options *options,
                     pst_list **out, pst_error *err)
{
    struct pst_port *port = NULL;
    pst_list_options own;
    *out = NULL;
    pst_rc rc = pst_options_take(&own, sizeof(own), options, err);
    if (rc == PST_OK)
        rc = pst_store_port(store, &port, err);
    if (rc != PST_OK)
        return rc;
    rc = check_options(port, &own, err);
    if (rc == PST_OK)
        rc = new_list(port, prefix, &own, out, err);
    if (rc != PST_OK)
        pst_fail_at(port, pst_slot_name(PST_SLOT_LIST), prefix, rc, err, err);
    pst_port_unref(port);
    return rc;
}

pst_rc pst_container_list(pst_store *store, pst_str prefix, pst_list **out, pst_error *err)
{
    static const pst_list_options options = {.struct_size = sizeof(options),
                                             .flags = PST_LISTING_UNORDERED};
    struct pst_port *port = NULL;
    *out = NULL;
    pst_rc rc = pst_store_port(store, &port, err);
    if (rc != PST_OK)
        return rc;
    rc = pst_verb_need(port, PST_CAP_CONTAINER, err);
    if (rc == PST_OK && !port->loaded->ops.container_list)
        rc = pst_fail(err, PST_E_UNIMPLEMENTED, "%s cannot list containers", port->uri);
    if (rc == PST_OK)
        rc = new_list(port, prefix, &options, out, err);
    if (rc == PST_OK) {
        (*out)->of_containers = (*out)->uses_tokens = 1;
        (*out)->walk->flags = 0;
    } else {
        pst_fail_at(port, pst_slot_name(PST_SLOT_CONTAINER_LIST), prefix, rc, err, err);
    }
    pst_port_unref(port);
    return rc;
}

pst_rc pst_list_page(pst_list *list, const pst_call *call, const pst_entry **entries, size_t *n,
                     pst_error *err)
{
    const struct pst_limit limit = pst_limit_of(call);
    struct walk *walk = list->walk;
    pst_call own;
    *entries = NULL;
    *n = 0;
    if (list->generation != pst_fork_generation())
        return pst_fail(err, PST_E_FORKED, "the list belongs to the process before fork");
    if (list->broken != PST_OK) {
        pst_error_copy(err, &list->why);
        return list->broken;
    }
    if (!list->task)
        pst_page_clear(&walk->page);
    pst_rc rc = pst_options_take(&own, sizeof(own), call, err);
    while (rc == PST_OK && *n == 0 && (!list->is_at_end || list->task)) {
        rc = fetch(list, &own, &limit, err);
        if (rc == PST_OK) {
            *entries = walk->page.entries;
            *n = walk->page.n;
        }
    }
    if (rc != PST_OK && !list->task)
        pst_page_clear(&walk->page); /* what a failed attempt listed */
    list->n_taken = *n;
    return rc;
}

pst_rc pst_list_next(pst_list *list, const pst_call *call, const pst_entry **entry, pst_error *err)
{
    const pst_entry *entries = NULL;
    size_t n = 0;
    *entry = NULL;
    if (list->generation == pst_fork_generation() && !list->task &&
        list->n_taken < list->walk->page.n) {
        *entry = &list->walk->page.entries[list->n_taken++];
        return PST_OK;
    }
    pst_rc rc = pst_list_page(list, call, &entries, &n, err);
    if (rc == PST_OK && n > 0) {
        *entry = &entries[0];
        list->n_taken = 1;
    }
    return rc;
}

void pst_list_free(pst_list *list)
{
    if (!list || list->generation != pst_fork_generation())
        return; /* in a fork child the parent's cursor is not ours to close */
    if (list->task) {
        pst_retry_cancel(list->task, PST_E_CANCELLED);
        forget_task(list);
    }
    if (atomic_fetch_sub(&list->walk->refs, 1) == 1)
        end_walk(list->walk);
    free(list);
}
