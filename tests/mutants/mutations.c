/* mutations.c - what is wrong with each mutant. See frame.c for when these hooks are called.
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

bool plugin_is_shut_down(void);

static void pause_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

/* ---- keys and files ---------------------------------------------------------------------------- */

static char last_upload_key[4096];
static const char *kept_key; /* of arguments that are over */
static pst_upload *last_upload;
static unsigned last_part, n_commits, n_aborts;
static char secret[256];
static bool is_unordered; /* the last listing that was opened */

static void path_of(pst_str key, const char *more, char *path, size_t size)
{
    (void)snprintf(path, size, "/%.*s%s", (int)key.len, key.ptr, more);
}

static void make_file(pst_str key)
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

static void remove_file(pst_str key, const char *more)
{
    char path[4200];
    path_of(key, more, path, sizeof(path));
    (void)unlink(path);
}

static pst_str upload_key(void)
{
    return pst_str_of(last_upload_key, strlen(last_upload_key));
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
            (void)snprintf(secret, sizeof(secret), "%.*s", (int)value.len, value.ptr);
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
    case M_minor_too_old:
        plugin->abi_minor = PST_ABI_MINOR_OLDEST - 1;
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

static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;

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
    is_unordered = (a->flags & PST_LIST_UNORDERED) != 0;
    switch (mutant) {
    case M_keeps_arguments:
        kept_key = a->prefix.ptr;
        return false;
    case M_start_after_is_early:
        a->start_after.len -= a->start_after.len > 0;
        break;
    case M_prefix_is_directory:
        while (a->prefix.len > 0 && a->prefix.ptr[a->prefix.len - 1] != '/')
            a->prefix.len--;
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
    bool is_next = last_upload != c->object ? a->number == 0 : a->number == last_part + 1;
    bool is_again = last_upload == c->object && a->number <= last_part;
    last_upload = c->object;
    last_part = a->number;
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
    (void)snprintf(last_upload_key, sizeof(last_upload_key), "%.*s", (int)key.len, key.ptr);
    last_upload = NULL;
    if (mutant == M_keeps_arguments)
        kept_key = key.ptr;
    path_of(key, "", path, sizeof(path));
    if (mutant == M_open_truncates_old && truncate(path, 1) != 0)
        last_part = 0;
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
            last_part = 0;
        return false;
    case M_completes_under_lock:
    case M_lock_survives_fork:
        (void)pthread_mutex_lock(&big_lock);
        if (mutant == M_lock_survives_fork)
            pause_ms(1);
        (void)pthread_mutex_unlock(&big_lock);
        return false;
    case M_keeps_arguments:
        if ((c->slot == UPLOAD_PART || c->slot == LIST_PAGE) && kept_key)
            last_part = *(const volatile char *)kept_key == 'x';
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
        if (mutant == M_remove_if_match_is_ignored) {
            c->changed.remove.if_match.len = 0;
            c->args = &c->changed;
        }
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

/* ---- host functions on the way ---------------------------------------------------------------------- */

pst_rc mutate_dst(struct call *c, const pst_dst_args *args, pst_dst_grant *grant)
{
    const pst_host *real = c->shim->real;
    pst_dst_args a = *args;
    if (mutant == M_asks_for_what_it_was_asked)
        a.length = a.capacity = ((const pst_read_args *)c->args)->length;
    if (mutant == M_tells_dst_another_etag)
        a.etag = PST_STR("another");
    pst_rc rc = real->dst(real, c->op, &a, grant);
    if (rc == PST_OK && mutant == M_asks_dst_twice)
        (void)real->dst(real, c->op, &a, grant);
    if (rc == PST_LATER && mutant == M_later_becomes_error)
        return PST_E_NO_MEMORY;
    if (rc == PST_LATER && mutant == M_waits_for_memory) {
        for (int ms = 0; ms < 20000 && !atomic_load(&c->is_ready); ms++)
            pause_ms(1);
        rc = real->dst(real, c->op, &a, grant);
    }
    return rc;
}

static bool is_dropped(const pst_entry *e)
{
    bool is_seventh = e->key.len > 0 && e->key.ptr[e->key.len - 1] == '7';
    if (mutant == M_listing_drops_entries || mutant == M_token_listing_drops_entries)
        return is_seventh;
    if (mutant == M_unordered_drops_entries)
        return is_seventh && is_unordered;
    return mutant == M_no_common_prefixes && e->kind == PST_KIND_PREFIX;
}

static pst_rc emit_one(struct call *c, const pst_entry *entry)
{
    const pst_host *real = c->shim->real;
    pst_entry e = *entry;
    char temporary[4200];
    if (is_dropped(&e))
        return PST_OK;
    if (mutant == M_entries_tell_other_size)
        e.size++;
    if (mutant == M_etag_is_constant)
        e.etag = PST_STR("constant");
    pst_rc rc = real->list_emit(real, c->op, &e, 1, sizeof(e));
    if (rc == PST_OK && mutant == M_listing_doubles_entries)
        rc = real->list_emit(real, c->op, &e, 1, sizeof(e));
    if (rc == PST_OK && mutant == M_lists_temporaries && atomic_load(&n_open_uploads) > 0) {
        int n = snprintf(temporary, sizeof(temporary), "%.*s.tmp", (int)e.key.len, e.key.ptr);
        e.key = pst_str_of(temporary, (size_t)n);
        rc = real->list_emit(real, c->op, &e, 1, sizeof(e));
    }
    return rc;
}

pst_rc mutate_emit(struct call *c, const pst_entry *entries, size_t n, size_t stride)
{
    const pst_host *real = c->shim->real;
    const char *at = (const char *)entries;
    bool one_by_one = mutant == M_listing_drops_entries ||
                      mutant == M_token_listing_drops_entries ||
                      mutant == M_unordered_drops_entries || mutant == M_no_common_prefixes ||
                      mutant == M_entries_tell_other_size || mutant == M_etag_is_constant ||
                      mutant == M_listing_doubles_entries || mutant == M_lists_temporaries ||
                      mutant == M_listing_is_reversed;
    pst_rc rc = PST_OK;
    if (!one_by_one)
        rc = real->list_emit(real, c->op, entries, n, stride);
    for (size_t i = 0; one_by_one && i < n && rc == PST_OK; i++) {
        size_t k = mutant == M_listing_is_reversed ? n - 1 - i : i;
        rc = emit_one(c, (const pst_entry *)(const void *)(at + k * stride));
    }
    c->emit_rc = rc < 0 ? rc : c->emit_rc;
    return mutant == M_failed_page_is_lost ? PST_OK : rc;
}

/* ---- after an operation ------------------------------------------------------------------------------ */

static void flip(unsigned char *p)
{
    *p ^= 0x40;
}

static pst_rc after_read(struct call *c, pst_rc rc)
{
    pst_read_result *r = c->result;
    const pst_read_args *a = c->args;
    unsigned char *first = c->n_dst > 0 ? c->dst[0].ptr : NULL;
    bool is_given = PST_HAS(pst_read_args, a, n_dst) && a->n_dst > 0;
    if (mutant == M_missing_is_empty && (rc == PST_E_NOT_FOUND || rc == PST_E_INVALID))
        return PST_OK;
    if (mutant == M_dst_error_is_masked && rc == c->dst_rc && rc < 0)
        return PST_E_IO;
    if (rc != PST_OK)
        return rc;
    switch (mutant) {
    case M_writes_behind_destination:
        if (is_given)
            first[c->dst[0].len] = 1;
        break;
    case M_writes_before_destination:
        if (is_given)
            first[-1] = 1;
        break;
    case M_mixes_up_pieces_of_destination:
        if (is_given && c->n_dst > 1 && r->n_read > c->dst[0].len)
            flip(c->dst[1].ptr);
        break;
    case M_mixes_up_pieces_of_grant:
        if (!is_given && c->n_dst > 1)
            flip(c->dst[1].ptr);
        break;
    case M_operations_mix:
        if (atomic_load(&n_inflight) > 1 && r->n_read > 0)
            flip(first);
        break;
    case M_flips_byte_of_4097:
        if (r->object_size == 4097 && r->n_read > 0)
            flip(first);
        break;
    case M_flips_byte_behind_16_mib:
        if (r->n_read > 1u << 24 && c->dst[0].len > 1u << 24)
            flip(first + (1u << 24));
        break;
    case M_versions_mix:
        if (r->n_read > 300000)
            flip(first + 150000);
        break;
    case M_range_error_at_end:
        return a->offset >= r->object_size && a->length > 0 ? PST_E_RANGE : PST_OK;
    case M_object_size_is_n_read:
        r->object_size = r->n_read;
        break;
    case M_read_has_another_etag:
        r->etag = PST_STR("another");
        break;
    case M_etag_is_constant:
        r->etag = PST_STR("constant");
        break;
    case M_descriptor_leaks:
        (void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
        break;
    default:
        break;
    }
    return rc;
}

static pst_rc after_stat(struct call *c, pst_rc rc)
{
    static char kept[256];
    pst_attr *a = c->result;
    if (mutant == M_missing_is_empty && rc == PST_E_NOT_FOUND)
        return PST_OK;
    if (rc != PST_OK)
        return rc;
    if (mutant == M_stat_tells_other_size)
        a->size++;
    if (mutant == M_etag_is_constant)
        a->etag = PST_STR("constant");
    if (mutant == M_strings_in_static_memory) {
        (void)snprintf(kept, sizeof(kept), "%.*s", (int)a->etag.len, a->etag.ptr);
        a->etag = pst_str_of(kept, strlen(kept));
    }
    return rc;
}

static pst_rc after_upload(struct call *c, pst_rc rc)
{
    if (c->slot == UPLOAD_OPEN && rc == PST_OK && mutant == M_visible_before_commit)
        make_file(upload_key());
    if (c->slot == UPLOAD_ABORT && rc == PST_OK && mutant == M_abort_leaves_object)
        make_file(upload_key());
    if (c->slot == UPLOAD_COMMIT && mutant == M_commit_never_fails)
        return PST_OK;
    return rc;
}

static pst_rc after_list(struct call *c, pst_rc rc)
{
    if (mutant == M_nothing_is_not_found && rc == PST_OK && c->n_emitted == 0 &&
        c->slot != LIST_OPEN)
        return PST_E_NOT_FOUND;
    if (c->emit_rc == 0)
        return rc;
    if (mutant == M_failed_page_is_lost)
        return c->emit_rc;
    return mutant == M_emit_error_is_masked ? PST_E_IO : rc;
}

static pst_rc after_slot(struct call *c, pst_rc rc)
{
    switch (c->slot) {
    case READ:
        return after_read(c, rc);
    case STAT:
        return after_stat(c, rc);
    case PUT:
        if (rc == PST_OK && mutant == M_put_tells_other_size)
            ((pst_put_result *)c->result)->size++;
        return rc;
    case COPY:
        if (rc == PST_OK && mutant == M_copy_moves)
            remove_file(((const pst_copy_args *)c->args)->from, "");
        return rc;
    case REMOVE: {
        const pst_remove_args *a = c->args;
        if (mutant == M_remove_takes_neighbours)
            remove_file(a->keys[0], "bar");
        if (mutant == M_remove_leaves_a_status)
            ((pst_remove_result *)c->result)->status[a->n_keys - 1] = PST_E_INTERNAL;
        return rc;
    }
    case LIST:
    case LIST_OPEN:
    case LIST_PAGE:
        return after_list(c, rc);
    case UPLOAD_OPEN:
    case UPLOAD_COMMIT:
    case UPLOAD_ABORT:
        return after_upload(c, rc);
    case CONTAINER_CREATE:
        return rc == PST_E_EXISTS && mutant == M_container_exists_is_ok ? PST_OK : rc;
    case PRESIGN:
        if (rc == PST_OK && mutant == M_url_of_two_lines)
            ((pst_presign_result *)c->result)->url = PST_STR("https://mem.invalid/a\nb");
        return rc;
    default:
        return rc;
    }
}

static void spoil_error(struct call *c, pst_rc rc)
{
    pst_error *err = c->op->err;
    size_t used = strlen(err->message);
    switch (mutant) {
    case M_error_without_message:
        err->message[0] = '\0';
        break;
    case M_error_with_other_code:
        err->code = PST_E_IO;
        break;
    case M_message_without_end:
        memset(err->message, 'x', sizeof(err->message));
        break;
    case M_not_found_is_retryable:
        if (rc == PST_E_NOT_FOUND)
            err->flags |= PST_ERR_RETRYABLE;
        break;
    case M_tells_secret:
        (void)snprintf(err->message + used, sizeof(err->message) - used, " (token %s)", secret);
        break;
    default:
        break;
    }
}

pst_rc after(struct call *c, pst_rc rc)
{
    pst_result *plain = c->result;
    const pst_host *real = c->shim->real;
    rc = after_slot(c, rc);
    if (rc < 0)
        spoil_error(c, rc);
    switch (mutant) {
    case M_unknown_code:
        return rc == PST_OK ? -999 : rc;
    case M_result_assigned_whole:
        plain->struct_size = 16;
        break;
    case M_writes_unknown_tail:
        /* Results are at most as long as pst_attr here; what is longer is a newer host's. */
        if (c->slot == STAT && plain->struct_size > sizeof(pst_attr))
            memset((char *)plain + sizeof(pst_attr), 0, 8);
        break;
    case M_tables_change:
        plugin_table.caps += 1ull << 40;
        break;
    case M_alloc_leaks:
        (void)real->alloc(real, 16, 16);
        break;
    case M_cancel_is_slow:
        if (c->slot == READ)
            pause_ms(900);
        break;
    default:
        break;
    }
    return rc;
}

/* ---- completions, cancels, frees ---------------------------------------------------------------------- */

void after_pending(pst_op *op)
{
    if (mutant == M_submit_touches_op)
        last_part = (unsigned)*(volatile uint64_t *)&op->id;
    for (int ms = 0; mutant == M_submit_waits && ms < 3000 && atomic_load(&n_inflight) > 0; ms++)
        pause_ms(1);
}

struct late {
    const pst_host *real;
    pst_op *op;
    pst_iov dst, src;
};

static void *come_late(void *arg)
{
    struct late *l = arg;
    pause_ms(8);
    if (mutant == M_completes_late_again)
        l->real->complete(l->real, l->op, PST_OK);
    else if (mutant == M_writes_destination_late && l->dst.len > 0)
        *(volatile char *)l->dst.ptr = 1;
    else if (mutant == M_reads_source_late && l->src.len > 0)
        last_part = *(volatile unsigned char *)l->src.ptr;
    free(l);
    return NULL;
}

static void send_late(const pst_host *real, pst_op *op, const pst_iov *dst, const pst_iov *src)
{
    struct late *l = malloc(sizeof(*l));
    pthread_t thread;
    if (!l)
        abort();
    *l = (struct late){real, op, *dst, *src};
    if (pthread_create(&thread, NULL, come_late, l) == 0)
        (void)pthread_detach(thread);
}

void complete_real(const pst_host *real, pst_op *op, pst_rc rc, const pst_iov *dst,
                   const pst_iov *src)
{
    if (mutant == M_completes_under_lock)
        (void)pthread_mutex_lock(&big_lock);
    real->complete(real, op, rc);
    switch (mutant) {
    case M_completes_under_lock:
        (void)pthread_mutex_unlock(&big_lock);
        break;
    case M_completes_twice:
        real->complete(real, op, rc);
        break;
    case M_touches_op_after_complete:
        last_part = *(volatile uint32_t *)&op->flags;
        break;
    case M_completes_late_again:
    case M_writes_destination_late:
    case M_reads_source_late:
        send_late(real, op, dst, src);
        break;
    default:
        break;
    }
}

bool on_cancel(struct call *c)
{
    const pst_host *real = c->shim->real;
    bool is_done = atomic_load(&c->is_done);
    if ((mutant == M_cancel_completes_itself && !is_done) ||
        (mutant == M_cancel_completes_again && is_done))
        real->complete(real, c->op, PST_E_CANCELLED);
    return false;
}

void on_upload_free(pst_upload *upload)
{
    (void)upload;
    if (mutant == M_free_publishes)
        make_file(upload_key());
}
