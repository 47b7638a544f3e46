/* transfer_item.c - one object from source to target.
 *
 * The happy path: look whether the target has it already; if not, let the store copy it, where one
 * store holds both sides, or else read and write it; for a move, look at the copy and delete the
 * source. A small object is one read and one put out of the buffer that the read filled. A larger one
 * goes range by range through a writer, whose parts bound the memory, and is published only when all
 * of it was read as one version.
 *
 * Every write asks for the CRC-32C, so that the store can keep it, and what the writer says it wrote
 * is compared with what was read.
 *
 * A move deletes its source only if the copy is there with the same size and, as far as the store
 * tells sums, the same sum; the delete names the etag of what was read where the store can check it.
 *
 * Workers run this side by side on different items. A failure is said here, once, with the URI of the
 * side that failed. */
#include <stdlib.h>
#include <string.h>

#include <penstock/plugin.h>

#include "transfer_work.h"

/* ---- copying ------------------------------------------------------------------------------------ */

/* What the target gets beside the bytes. The arrays live as long as `*metas`. */
static int make_attr(struct transfer_work *work, bool knows_sum, pst_attr *out, pst_kv **metas,
                     char sum[9])
{
    const struct transfer_options *options = work->t->options;
    const struct transfer_place *target = work->to.place;
    uint64_t both = work->from.place->info.caps & target->info.caps;
    pst_error err = PST_ERROR_INIT;
    size_t n = 0;

    memset(out, 0, sizeof(*out));
    out->struct_size = sizeof(*out);
    if (!options->drops_attributes && (both & (PST_CAP_CONTENT_TYPE | PST_CAP_USER_META))) {
        pst_rc rc = transfer_load_attr(work, &work->from, &err);
        if (rc != PST_OK)
            return transfer_fail_from(work, rc, &err);
    }
    const pst_attr *attr = options->drops_attributes ? NULL : work->from.attr;
    *metas = cli_alloc(attr ? attr->n_user_meta + 1 : 1, sizeof(**metas));
    if (attr && (both & PST_CAP_CONTENT_TYPE)) {
        out->content_type = attr->content_type;
        out->content_encoding = attr->content_encoding;
        out->content_language = attr->content_language;
        out->content_disposition = attr->content_disposition;
        out->cache_control = attr->cache_control;
    }
    for (size_t i = 0; attr && (both & PST_CAP_USER_META) && i < attr->n_user_meta; i++) {
        if (!transfer_is_sum_meta(attr->user_meta[i].key))
            (*metas)[n++] = attr->user_meta[i];
    }
    if (knows_sum && !transfer_is_local(target) && (target->info.caps & PST_CAP_USER_META) &&
        !(target->info.want_sums & 1u << PST_SUM_CRC32C)) {
        snprintf(sum, 9, "%08x", work->from.crc);
        (*metas)[n].key = TRANSFER_SUM_META;
        (*metas)[n++].value = pst_str_of(sum, 8);
    }
    out->user_meta = *metas;
    out->n_user_meta = n;
    return CLI_OK;
}

/* Has the store taken what we gave it? */
static int check_result(struct transfer_work *work, const pst_write_result *result, uint64_t size,
                        uint32_t crc)
{
    uint64_t written = work->item->is_compressed ? result->bytes_written : result->size;

    work->n_read = size;
    work->stored_size = result->size;
    if (written == size && (!result->has_crc32c || result->crc32c == crc)) {
        cli_flow_add_write(&work->t->flow, result);
        cli_flow_add_object(&work->t->flow, size, result->size);
        cli_flow_add_crc(&work->t->flow, crc);
        return CLI_OK;
    }
    return cli_fail(work->cli, CLI_DATA, "%s: what was written is not what was read",
                    work->to.shown.data);
}

static int copy_small(struct transfer_work *work)
{
    pst_write_options options = {.struct_size = sizeof(options), .sums = 1u << PST_SUM_CRC32C};
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_error err = PST_ERROR_INIT;
    size_t size = pst_buffer_size(work->body);
    /* put only reads what `src` points to; iovec has no const. */
    pst_iov src = {(void *)(uintptr_t)pst_buffer_data(work->body), size};
    pst_attr attr;
    pst_kv *metas = NULL;
    char sum[9];
    int code = make_attr(work, true, &attr, &metas, sum);

    if (code == CLI_OK) {
        options.attr = &attr;
        pst_rc rc = pst_put(work->to.place->store, transfer_side_key(&work->to), &src, 1, &options,
                            &work->cli->call, &result, &err);
        code = rc == PST_OK ? check_result(work, &result, size, work->from.crc)
                            : transfer_fail_to(work, rc, &err);
    }
    if (code == CLI_OK) {
        cli_progress_add(work->cli, 0, size);
        atomic_fetch_add(&work->t->copied_bytes, size);
    }
    free(metas);
    return code;
}

static int start_large(void *arg, uint64_t object_size, const char *etag)
{
    struct transfer_work *work = arg;
    pst_write_options options = {
        .struct_size = sizeof(options), .size_hint = object_size, .sums = 1u << PST_SUM_CRC32C};
    pst_error err = PST_ERROR_INIT;
    pst_attr attr;
    pst_kv *metas = NULL;
    char sum[9];
    /* A store that keeps no sums gets that of the bytes as they are stored, or none. */
    bool is_known = work->from.has_crc && object_size == work->item->size &&
                    !work->item->is_compressed;
    int code = make_attr(work, is_known, &attr, &metas, sum);
    const pst_attr *seen = work->from.attr;

    if (code == CLI_OK && seen && etag && seen->etag.len > 0 &&
        (strlen(etag) != seen->etag.len || memcmp(etag, seen->etag.ptr, seen->etag.len) != 0))
        code = transfer_fail_from(work, PST_E_CHANGED, NULL);
    if (code == CLI_OK) {
        options.attr = &attr;
        cli_flow_write_options(&work->t->flow, work->item->is_compressed, &options);
        pst_rc rc = pst_writer_open(work->to.place->store, transfer_side_key(&work->to), &options,
                                    &work->cli->call, &work->writer, &err);
        code = rc == PST_OK ? CLI_OK : transfer_fail_to(work, rc, &err);
    }
    free(metas);
    return code;
}

static int write_large(void *arg, pst_buffer *buffer)
{
    struct transfer_work *work = arg;
    pst_error err = PST_ERROR_INIT;
    size_t len = pst_buffer_size(buffer);
    pst_rc rc = pst_writer_write_owned(work->writer, buffer, &err);

    if (rc != PST_OK)
        return transfer_fail_to(work, rc, &err);
    work->n_read_crc = pst_crc32c(work->n_read_crc, pst_buffer_data(buffer), len);
    work->n_read += len;
    cli_progress_add(work->cli, 0, len);
    return CLI_OK;
}

static int copy_large(struct transfer_work *work)
{
    pst_read_options options = {.struct_size = sizeof(options),
                                .version = work->item->source->version};
    pst_read_info info = {.struct_size = sizeof(info)};
    struct cli_stream stream = {.store = work->from.place->store,
                                .key = transfer_side_key(&work->from),
                                .length = PST_UNKNOWN,
                                .options = &options,
                                .info = &info,
                                .name = work->from.shown.data,
                                .on_size = start_large,
                                .sink = write_large,
                                .arg = work};
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_error err = PST_ERROR_INIT;
    int code;

    work->n_read = 0;
    work->n_read_crc = 0;
    cli_flow_read_options(&work->t->flow, &options);
    transfer_begin_large(work->t);
    code = cli_stream_read(work->cli, &stream);
    if (code == CLI_OK) {
        pst_rc rc = pst_writer_finalize(work->writer, &result, &err);
        code = rc == PST_OK ? check_result(work, &result, work->n_read, work->n_read_crc)
                            : transfer_fail_to(work, rc, &err);
    }
    pst_writer_free(work->writer); /* aborts what was not finalized */
    work->writer = NULL;
    transfer_end_large(work->t);
    if (code == CLI_OK) {
        work->from.crc = work->n_read_crc;
        work->from.has_crc = true;
        cli_flow_add_read(&work->t->flow, &info);
        atomic_fetch_add(&work->t->copied_bytes, work->n_read);
    }
    return code;
}

static int copy_through(struct transfer_work *work)
{
    bool is_small = false;
    int code = CLI_OK;

    if (!work->item->is_compressed)
        code = transfer_load_body(work, &is_small);
    if (code != CLI_OK)
        return code;
    return is_small ? copy_small(work) : copy_large(work);
}

/* ---- by the store itself ------------------------------------------------------------------------ */

/* May the target's store write it by itself? */
static bool is_direct(const struct transfer_work *work, uint64_t cap)
{
    const struct transfer_place *target = &work->t->target;
    struct cli_text_buf name = {0};
    bool is_allowed = work->item->source->direct && (target->info.caps & cap);

    if (is_allowed && target->dir) {
        cli_add(&name, work->to_name.data, work->to_name.len);
        cli_add(&name, "", 1);
        is_allowed = transfer_is_beneath(target->dir, name.data);
        cli_text_fini(&name);
    }
    return is_allowed;
}

static void make_direct_keys(const struct transfer_work *work, struct cli_text_buf *from,
                             struct cli_text_buf *to)
{
    transfer_direct_key(work->item->source, work->item->from, from);
    transfer_direct_key(&work->t->target, pst_str_of(work->to_name.data, work->to_name.len), to);
}

/* *is_done is false when the store cannot. */
static int copy_direct(struct transfer_work *work, bool *is_done)
{
    static const pst_attr none = {.struct_size = sizeof(none)};
    pst_copy_options options = {.struct_size = sizeof(options),
                                .from_version = work->item->source->version,
                                .attr = work->t->options->drops_attributes ? &none : NULL};
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_error err = PST_ERROR_INIT;
    struct cli_text_buf from = {0}, to = {0};
    pst_rc rc = PST_E_UNIMPLEMENTED;

    if (is_direct(work, PST_CAP_COPY)) {
        make_direct_keys(work, &from, &to);
        rc = pst_copy(work->item->source->direct, pst_str_of(from.data, from.len),
                      work->item->source->direct_target, pst_str_of(to.data, to.len), &options,
                      &work->cli->call, &result, &err);
        cli_text_fini(&from);
        cli_text_fini(&to);
    }
    *is_done = rc != PST_E_UNIMPLEMENTED;
    if (rc == PST_E_UNIMPLEMENTED)
        return CLI_OK;
    if (rc != PST_OK)
        return transfer_fail_to(work, rc, &err);
    cli_progress_add(work->cli, 0, work->item->size);
    cli_flow_add_object(&work->t->flow, work->item->size, work->item->size);
    atomic_fetch_add(&work->t->copied_bytes, work->item->size);
    return CLI_OK;
}

static int rename_direct(struct transfer_work *work, bool *is_done)
{
    pst_error err = PST_ERROR_INIT;
    struct cli_text_buf from = {0}, to = {0};
    pst_rc rc = PST_E_UNIMPLEMENTED;

    if (!work->t->options->drops_attributes && is_direct(work, PST_CAP_RENAME) &&
        work->item->source->direct == work->item->source->direct_target) {
        make_direct_keys(work, &from, &to);
        rc = pst_rename(work->item->source->direct, pst_str_of(from.data, from.len),
                        pst_str_of(to.data, to.len), NULL, &work->cli->call, &err);
        cli_text_fini(&from);
        cli_text_fini(&to);
    }
    *is_done = rc != PST_E_UNIMPLEMENTED;
    if (rc == PST_E_UNIMPLEMENTED)
        return CLI_OK;
    if (rc != PST_OK)
        return transfer_fail_to(work, rc, &err);
    if (work->t->flow.verifies)
        cli_not_verified(work->cli, &work->t->flow, work->to.shown.data,
                         "the store renamed it, no byte was read");
    cli_progress_add(work->cli, 0, work->item->size);
    cli_flow_add_object(&work->t->flow, work->item->size, work->item->size);
    atomic_fetch_add(&work->t->copied_bytes, work->item->size);
    return CLI_OK;
}

/* ---- moving ------------------------------------------------------------------------------------- */

/* Is the copy really there? */
static int check_copy(struct transfer_work *work)
{
    struct transfer_side *to = &work->to;
    pst_error err = PST_ERROR_INIT;
    uint64_t size = work->body         ? pst_buffer_size(work->body)
                    : work->n_read > 0 ? work->n_read
                                       : work->item->size;
    transfer_side_clear(to);
    pst_rc rc = transfer_load_attr(work, to, &err);
    if (rc != PST_OK)
        return transfer_fail_side(work, to, rc, &err, "");
    transfer_find_sum(to);
    if (to->attr->size != size || (to->has_crc && work->from.has_crc && to->crc != work->from.crc))
        return cli_fail(work->cli, CLI_DATA, "%s: differs from %s, which stays", to->shown.data,
                        work->from.shown.data);
    return CLI_OK;
}

/* Delete what was read and nothing newer. A remote store compares the etag by itself; asked the same,
 * the file plugin would leave its lock file behind, so for local files a look must do. */
static int delete_source(struct transfer_work *work)
{
    struct transfer_side *from = &work->from;
    const struct transfer_place *place = from->place;
    pst_attr *read = from->attr;
    pst_delete_options options = {.struct_size = sizeof(options)};
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = PST_OK;

    from->attr = NULL;
    if (read->etag_strength == PST_ETAG_STRONG && transfer_is_local(place)) {
        rc = transfer_load_attr(work, from, &err);
        if (rc == PST_OK && (from->attr->etag.len != read->etag.len ||
                             memcmp(from->attr->etag.ptr, read->etag.ptr, read->etag.len) != 0))
            rc = PST_E_CHANGED;
    } else if (read->etag_strength == PST_ETAG_STRONG &&
               (place->info.caps & PST_CAP_WRITE_IF_MATCH)) {
        options.if_match = read->etag;
    }
    if (rc == PST_OK)
        rc = pst_delete(place->store, transfer_side_key(from), &options, &work->cli->call, &err);
    pst_attr_free(read);
    return rc == PST_OK ? CLI_OK
                        : transfer_fail_side(work, from, rc, &err, "copied but not deleted: ");
}

/* ---- the item ----------------------------------------------------------------------------------- */

static int say_plan(struct transfer_work *work)
{
    struct cli *cli = work->cli;
    struct cli_text_buf line = {0};

    /* One call for the line: workers print side by side. */
    cli_addf(&line, "%s ", work->t->options->is_move ? "move" : "copy");
    cli_add(&line, work->from.shown.data, work->from.shown.len);
    cli_addf(&line, " -> ");
    cli_add(&line, work->to.shown.data, work->to.shown.len);
    cli_add(&line, "\n", 1);
    cli_put_text(cli, &line);
    cli_text_fini(&line);
    return CLI_OK;
}

static int copy_item(struct transfer_work *work, bool *is_identical)
{
    const struct transfer_options *options = work->t->options;
    pst_error err = PST_ERROR_INIT;
    bool is_done = false;
    int code;

    if (options->is_move && !options->is_dry_run) {
        code = rename_direct(work, &is_done);
        if (code != CLI_OK || is_done)
            return code;
        /* Pins what is read, and what may be deleted then. */
        pst_rc rc = transfer_load_attr(work, &work->from, &err);
        if (rc != PST_OK)
            return transfer_fail_from(work, rc, &err);
    }
    code = transfer_look_at_target(work, is_identical);
    if (code == CLI_OK && options->is_dry_run)
        return *is_identical && !options->is_move ? CLI_OK : say_plan(work);
    if (code == CLI_OK && !*is_identical) {
        if (!work->item->is_compressed)
            code = copy_direct(work, &is_done);
        if (code == CLI_OK && !is_done)
            code = copy_through(work);
    }
    if (code == CLI_OK && work->t->flow.verifies)
        code = transfer_verify_target(work, *is_identical || is_done);
    if (code == CLI_OK && options->is_move)
        code = check_copy(work);
    if (code == CLI_OK && options->is_move)
        code = delete_source(work);
    return code;
}

int transfer_item_run(struct transfer *t, const struct transfer_item *item)
{
    struct transfer_work work = {.t = t, .cli = t->cli, .item = item, .may_rename = true};
    bool is_identical = false;
    int code;

    transfer_side_set(&work.from, item->source, item->from);
    transfer_name_target(&work);
    code = copy_item(&work, &is_identical);
    if (work.is_renamed) {
        transfer_side_clear(&work.to);
        work.is_renamed = work.may_rename = false;
        transfer_name_target(&work);
        code = copy_item(&work, &is_identical);
    }
    if (code == CLI_OK && is_identical && !t->options->is_move)
        atomic_fetch_add(&t->n_identical, 1);
    else if (code == CLI_OK)
        atomic_fetch_add(&t->n_copied, 1);
    if (code == CLI_OK && !is_identical)
        cli_verbose(t->cli, "%s -> %s", work.from.shown.data, work.to.shown.data);
    cli_progress_add(t->cli, 1, is_identical ? item->size : 0);

    pst_buffer_unref(work.body);
    transfer_side_clear(&work.from);
    transfer_side_clear(&work.to);
    cli_text_fini(&work.from.key);
    cli_text_fini(&work.from.shown);
    cli_text_fini(&work.to.key);
    cli_text_fini(&work.to.shown);
    cli_text_fini(&work.to_name);
    return code;
}
