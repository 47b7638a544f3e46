/* after.c - what is wrong with each mutant once an operation is under way: host functions that the
 * plugin calls, outcomes, completions and cancels. See frame.c for when these hooks are called. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mutant.h"

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
        return is_seventh && state.is_unordered;
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
    if (mutant == M_tags_are_cut && PST_HAS(pst_attr, a, n_tags) && a->n_tags > 0)
        a->n_tags--;
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
        if (mutant == M_remove_assigns_errors_whole && ((pst_remove_result *)c->result)->errors)
            *((pst_remove_result *)c->result)->errors = (pst_error)PST_ERROR_INIT;
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
        (void)snprintf(err->message + used, sizeof(err->message) - used, " (token %s)",
                       state.secret);
        break;
    default:
        break;
    }
}

pst_rc after(struct call *c, pst_rc rc)
{
    pst_result *plain = c->result;
    const pst_host *real = c->shim->real;
    rc = after_net(c, after_slot(c, rc));
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
        state.last_part = (unsigned)*(volatile uint64_t *)&op->id;
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
        state.last_part = *(volatile unsigned char *)l->src.ptr;
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
        (void)pthread_mutex_lock(&state.big_lock);
    real->complete(real, op, rc);
    switch (mutant) {
    case M_completes_under_lock:
        (void)pthread_mutex_unlock(&state.big_lock);
        break;
    case M_completes_twice:
        real->complete(real, op, rc);
        break;
    case M_touches_op_after_complete:
        state.last_part = *(volatile uint32_t *)&op->flags;
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
