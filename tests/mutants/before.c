/* before.c - what is wrong with each mutant before an operation reaches the plugin, and when it is
 * loaded and opened. See frame.c for when these hooks are called.
 *
 * Mutants of the store's contents go behind the plugin's back and touch the file itself: with the file
 * plugin and its root "/" a key is a path without its first slash. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mutant.h"

struct state state = {.big_lock = PTHREAD_MUTEX_INITIALIZER};

void pause_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

/* ---- keys and files ---------------------------------------------------------------------------- */

static void path_of(pst_str key, const char *more, char *path, size_t size)
{
    (void)snprintf(path, size, "/%.*s%s", (int)key.len, key.ptr, more);
}

void make_file(pst_str key)
{
    char path[4200];
    path_of(key, "", path, sizeof(path));
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0755);
        *slash = '/';
    }
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    if (fd >= 0)
        (void)close(fd);
}

void remove_file(pst_str key, const char *more)
{
    char path[4200];
    path_of(key, more, path, sizeof(path));
    (void)unlink(path);
}

pst_str upload_key(void)
{
    return pst_str_of(state.upload_key, strlen(state.upload_key));
}

/* Lower case in the last component only, so that the place stays the same. */
static pst_str fold(pst_str key)
{
    char *copy = malloc(key.len + 1);
    size_t start = 0;
    if (!copy)
        abort();
    for (size_t i = 0; i < key.len; i++)
        if (key.ptr[i] == '/')
            start = i + 1;
    for (size_t i = 0; i < key.len; i++) {
        char c = key.ptr[i];
        copy[i] = i >= start && c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    return pst_str_of(copy, key.len);
}

/* ---- loading and opening ------------------------------------------------------------------------- */

void on_load(void)
{
    if (mutant == M_constructor_sets_umask)
        (void)umask(0);
}

void on_unload(void)
{
    if (mutant == M_destructor_crashes)
        abort();
}

static void *sleep_for_ever(void *arg)
{
    (void)arg;
    for (;;)
        pause_ms(10000);
    return NULL;
}

static int open_fd = -1;

void on_store_open(const pst_host *host, const pst_open_args *args)
{
    pthread_t thread;
    (void)host;
    for (size_t i = 0; i < args->n_options; i++) {
        pst_str name = args->options[i].key, value = args->options[i].value;
        if (name.len == 5 && memcmp(name.ptr, "token", 5) == 0)
            (void)snprintf(state.secret, sizeof(state.secret), "%.*s", (int)value.len, value.ptr);
    }
    switch (mutant) {
    case M_descriptor_without_cloexec:
        open_fd = open("/dev/null", O_RDONLY);
        break;
    case M_thread_outlives_close:
        if (pthread_create(&thread, NULL, sleep_for_ever, NULL) == 0)
            (void)pthread_detach(thread);
        break;
    case M_changes_signal_handler:
        (void)signal(SIGPIPE, SIG_IGN);
        break;
    case M_prints:
        (void)printf("hello\n");
        (void)fflush(stdout);
        break;
    case M_heap_leaks: {
        char *volatile leaked = malloc(1000);
        (void)leaked;
        break;
    }
    default:
        break;
    }
}

void on_store_close(void)
{
    if (open_fd >= 0)
        (void)close(open_fd);
    open_fd = -1;
}

void change_tables(pst_plugin *plugin, pst_backend_ops *ops)
{
    static const char *const upper[] = {"file", "FILE", NULL};
    static pst_option options[16];
    switch (mutant) {
    case M_major_of_another:
        plugin->abi_major = PST_ABI_MAJOR + 1;
        break;
    case M_id_in_upper_case:
        plugin->id = "File";
        break;
    case M_scheme_in_upper_case:
        plugin->schemes = upper;
        break;
    case M_fallback_of_another_type:
        for (size_t i = 0; i < plugin->n_options && i < 16; i++)
            options[i] = plugin->options[i];
        options[0].type = PST_OPT_ENUM;
        options[0].choices = "this|that";
        options[0].fallback = "other";
        plugin->options = options;
        break;
    case M_cap_without_slot:
        plugin->caps |= PST_CAP_APPEND;
        ops->append = NULL;
        break;
    case M_scratch_too_small:
        plugin->op_scratch -= 64;
        break;
    default:
        break;
    }
}

void change_info(pst_backend_info *info)
{
    if (mutant == M_info_widens)
        info->caps |= PST_CAP_APPEND;
    else if (mutant == M_cap_without_slot)
        info->caps |= PST_CAP_APPEND;
    else if (mutant == M_offers_no_listing)
        info->caps &= ~PST_CAP_LIST;
}

/* ---- before an operation -------------------------------------------------------------------------- */

static void change_attr(struct call *c, bool has_type, size_t n_meta)
{
    c->attr = *c->changed.put.attr;
    if (!has_type)
        c->attr.content_type = pst_str_of("", 0);
    if (c->attr.n_user_meta > n_meta)
        c->attr.n_user_meta = n_meta;
    c->changed.put.attr = &c->attr;
    c->args = &c->changed;
}

static size_t meta_bytes(const pst_attr *attr)
{
    size_t n = 0;
    for (size_t i = 0; i < attr->n_user_meta; i++)
        n += attr->user_meta[i].key.len + attr->user_meta[i].value.len;
    return n;
}

static uint64_t src_bytes(const pst_iov *src, size_t n_src)
{
    uint64_t n = 0;
    for (size_t i = 0; i < n_src; i++)
        n += src[i].len;
    return n;
}

/* The same pieces, the first two exchanged. */
static const pst_iov *exchange_pieces(const pst_iov *src, size_t n_src)
{
    pst_iov *copy = calloc(n_src + 1, sizeof(*copy));
    if (!copy)
        abort();
    memcpy(copy, src, n_src * sizeof(*copy));
    if (n_src > 1) {
        pst_iov first = copy[0];
        copy[0] = copy[1];
        copy[1] = first;
    }
    return copy;
}

static bool before_read(struct call *c, pst_rc *rc)
{
    pst_read_args *a = &c->changed.read;
    struct timespec two_ms = {0, 2000000};
    pst_dst_grant grant = {.struct_size = sizeof(grant)};
    pst_dst_args ask = {.struct_size = sizeof(ask), .length = 1, .capacity = 1};
    switch (mutant) {
    case M_asks_dst_with_destination:
        if (a->n_dst > 0)
            (void)c->op->host->dst(c->op->host, c->op, &ask, &grant);
        return false;
    case M_wants_aligned_memory:
        if (a->n_dst > 0 && (uintptr_t)a->dst[0].ptr % 16 != 0) {
            *rc = PST_E_INVALID;
            return true;
        }
        return false;
    case M_range_off_by_one:
        a->offset += a->offset > 0;
        break;
    case M_length_zero_is_invalid:
        *rc = PST_E_INVALID;
        return a->length == 0;
    case M_own_etag_is_refused:
        *rc = PST_E_PRECONDITION;
        return a->if_match.len > 0;
    case M_if_match_is_ignored:
        a->if_match.len = 0;
        break;
    case M_version_is_ignored:
    case M_old_version_is_latest:
        a->version.len = 0;
        break;
    case M_suffix_is_prefix:
        if (a->flags & PST_READ_SUFFIX)
            a->offset = 0;
        a->flags &= ~PST_READ_SUFFIX;
        break;
    case M_interrupted_is_an_error:
        *rc = PST_E_IO;
        return nanosleep(&two_ms, NULL) != 0;
    default:
        return false;
    }
    c->args = &c->changed;
    return false;
}

static bool before_put(struct call *c, pst_rc *rc)
{
    pst_put_args *a = &c->changed.put;
    uint64_t size = src_bytes(a->src, a->n_src);
    pst_put_result *r = c->result;
    switch (mutant) {
    case M_mixes_up_pieces_of_source:
        a->src = exchange_pieces(a->src, a->n_src);
        break;
    case M_empty_put_is_refused:
        *rc = PST_E_INVALID;
        return size == 0;
    case M_short_put_is_dropped:
        r->size = size;
        *rc = PST_OK;
        return size > 0 && size < 100;
    case M_put_if_match_is_ignored:
        a->if_match.len = 0;
        break;
    case M_create_only_is_ignored:
        a->flags &= ~PST_PUT_CREATE_ONLY;
        break;
    case M_sums_are_ignored:
        a->n_sums = 0;
        break;
    case M_drops_content_type:
        change_attr(c, false, SIZE_MAX);
        break;
    case M_drops_metadata:
        change_attr(c, true, 0);
        break;
    case M_drops_large_metadata:
        change_attr(c, true, meta_bytes(a->attr) > 1000 ? 0 : SIZE_MAX);
        break;
    default:
        return false;
    }
    c->args = &c->changed;
    return false;
}

static bool before_copy(struct call *c)
{
    static const pst_attr none = {.struct_size = sizeof(none)};
    pst_copy_args *a = &c->changed.copy;
    if (mutant == M_copy_drops_attributes && c->slot == COPY) {
        if (!(a->flags & PST_COPY_REPLACE_ATTR))
            a->attr = &none;
        a->flags |= PST_COPY_REPLACE_ATTR;
    } else if (mutant == M_copy_without_conditions) {
        a->flags &= ~PST_PUT_CREATE_ONLY;
        a->from_if_match.len = 0;
    } else {
        return false;
    }
    c->args = &c->changed;
    return false;
}

static bool before_list(struct call *c)
{
    pst_list_args *a = &c->changed.list;
    state.is_unordered = (a->flags & PST_LIST_UNORDERED) != 0;
    switch (mutant) {
    case M_keeps_arguments:
        state.kept_key = a->prefix.ptr;
        return false;
    case M_start_after_is_early:
        a->start_after.len -= a->start_after.len > 0;
        break;
    case M_prefix_is_directory:
        while (a->prefix.len > 0 && a->prefix.ptr[a->prefix.len - 1] != '/')
            a->prefix.len--;
        break;
    case M_lists_no_versions:
        a->flags &= ~PST_LIST_VERSIONS;
        break;
    case M_always_empty_dirs:
        a->flags |= PST_LIST_EMPTY_DIRS;
        break;
    default:
        return false;
    }
    c->args = &c->changed;
    return false;
}

static bool before_part(struct call *c, pst_rc *rc)
{
    pst_part_args *a = &c->changed.part;
    bool is_next = state.last_upload != c->object ? a->number == 0
                                                  : a->number == state.last_part + 1;
    bool is_again = state.last_upload == c->object && a->number <= state.last_part;
    state.last_upload = c->object;
    state.last_part = a->number;
    switch (mutant) {
    case M_mixes_up_pieces_of_source:
        a->src = exchange_pieces(a->src, a->n_src);
        break;
    case M_parts_are_shifted:
        a->offset += a->number > 0;
        break;
    case M_sums_are_ignored:
        a->n_sums = 0;
        break;
    case M_parts_in_order_only:
        *rc = PST_E_INVALID;
        return !is_next;
    case M_part_again_is_refused:
        *rc = PST_E_EXISTS;
        return is_again;
    default:
        return false;
    }
    c->args = &c->changed;
    return false;
}

static bool before_upload(struct call *c, pst_rc *rc)
{
    static void *committed, *aborted;
    static unsigned n_commits, n_aborts;
    if (c->slot == UPLOAD_COMMIT) {
        n_commits = committed == c->object ? n_commits + 1 : 1;
        committed = c->object;
        *rc = PST_E_INVALID;
        return (mutant == M_second_commit_fails && n_commits > 1) ||
               (mutant == M_no_parts_is_refused &&
                ((const pst_commit_args *)c->args)->n_parts == 0);
    }
    n_aborts = aborted == c->object ? n_aborts + 1 : 1;
    aborted = c->object;
    if (mutant == M_abort_after_commit_removes && committed == c->object)
        remove_file(upload_key(), "");
    *rc = PST_E_INVALID;
    return mutant == M_second_abort_fails && n_aborts > 1;
}

static void before_upload_open(struct call *c)
{
    pst_str key = c->changed.put.key;
    char path[4200];
    (void)snprintf(state.upload_key, sizeof(state.upload_key), "%.*s", (int)key.len, key.ptr);
    state.last_upload = NULL;
    if (mutant == M_keeps_arguments)
        state.kept_key = key.ptr;
    path_of(key, "", path, sizeof(path));
    if (mutant == M_open_truncates_old && truncate(path, 1) != 0)
        state.last_part = 0;
}

/* Of the operations whose keys are folded; listings show what is there. */
static void fold_keys(struct call *c)
{
    if (c->slot == READ)
        c->changed.read.key = fold(c->changed.read.key);
    else if (c->slot == PUT)
        c->changed.put.key = fold(c->changed.put.key);
    else
        return;
    c->args = &c->changed;
}

/* What holds for every kind of operation. */
static bool before_any(struct call *c, pst_rc *rc)
{
    switch (mutant) {
    case M_deadline_is_invalid:
        *rc = PST_E_INVALID;
        return c->op->deadline_ns != 0;
    case M_shutdown_ends_all_hosts:
        *rc = PST_E_FORKED;
        return plugin_is_shut_down();
    case M_logs_two_lines:
        c->op->host->log(c->op->host, PST_LOG_INFO, "file", "one\ntwo");
        return false;
    case M_writes_arguments:
        *(volatile uint32_t *)(uintptr_t)c->args = *(const uint32_t *)c->args;
        return false;
    case M_reads_missing_member:
        if (c->slot == STAT && ((const volatile pst_stat_args *)c->args)->version.len > 0)
            state.last_part = 0;
        return false;
    case M_completes_under_lock:
    case M_lock_survives_fork:
        (void)pthread_mutex_lock(&state.big_lock);
        if (mutant == M_lock_survives_fork)
            pause_ms(1);
        (void)pthread_mutex_unlock(&state.big_lock);
        return false;
    case M_keeps_arguments:
        if ((c->slot == UPLOAD_PART || c->slot == LIST_PAGE) && state.kept_key)
            state.last_part = *(const volatile char *)state.kept_key == 'x';
        return false;
    case M_folds_case:
        fold_keys(c);
        return false;
    default:
        return false;
    }
}

bool before(struct call *c, pst_rc *rc)
{
    if (before_any(c, rc))
        return true;
    switch (c->slot) {
    case READ:
        return before_read(c, rc);
    case UPLOAD_OPEN:
        before_upload_open(c);
        return before_put(c, rc);
    case PUT:
        return before_put(c, rc);
    case APPEND:
        *rc = PST_OK;
        return mutant == M_not_offered_but_ok;
    case COPY:
    case RENAME:
        return before_copy(c);
    case LIST:
    case LIST_OPEN:
        return before_list(c);
    case LIST_PAGE:
        c->changed.page.max_entries += mutant == M_pages_are_too_long;
        if (mutant == M_pages_are_too_long)
            c->args = &c->changed;
        return false;
    case UPLOAD_PART:
        return before_part(c, rc);
    case UPLOAD_COMMIT:
    case UPLOAD_ABORT:
        return before_upload(c, rc);
    case REMOVE:
        if (mutant == M_remove_if_match_is_ignored)
            c->changed.remove.if_match.len = 0;
        else if (mutant == M_removes_key_of_version)
            c->changed.remove.versions = NULL;
        else
            return false;
        c->args = &c->changed;
        return false;
    case CLEANUP:
        if (mutant == M_dry_run_removes) {
            c->changed.cleanup.flags = 0;
            c->args = &c->changed;
        }
        return false;
    default:
        return false;
    }
}
