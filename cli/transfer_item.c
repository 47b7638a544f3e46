/* transfer_item.c - one object from source to target.
 *
 * The happy path: look whether the target has it already; if not, let the store copy it, where one
 * store holds both sides, or else read and write it; for a move, look at the copy and delete the
 * source. An object of up to SMALL_BYTES is one read and one put out of the buffer that the read
 * filled. A larger one goes range by range through a writer, whose parts bound the memory, and is
 * published only when all of it was read as one version and its size is what the source said.
 *
 * Identical means the same size and the same CRC-32C. A side's sum is what its store reports; on
 * remote stores also the user metadata "penstock-crc32c", which is written beside every small object
 * put to a store that keeps no such sums; on local stores else the sum of its bytes, which are read
 * for it. (Local files are rewritten in place by other programs, metadata stays: it is not believed
 * there.) Without both sums the object is copied again.
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

#include "escape.h"
#include "transfer.h"

#define SMALL_BYTES (8u * 1024u * 1024u)
#define SUM_META PST_STR("penstock-crc32c")

/* One side of the item. */
struct side {
    const struct transfer_place *place;
    struct cli_text_buf key, shown; /* NUL-terminated, not counted */
    pst_attr *attr;                 /* once it was asked for */
    bool has_crc;
    uint32_t crc;
};

struct work {
    struct transfer *t;
    struct cli *cli;
    const struct transfer_item *item;
    struct side from, to;
    struct cli_text_buf to_name; /* item->to, marked if need be */
    pst_buffer *body;            /* of a small object, once it was read */
    uint64_t n_read;             /* bytes of a large object that went into the writer */
    uint32_t n_read_crc;
    pst_writer *writer;
    bool may_rename; /* another mark may still help */
    bool is_renamed; /* ... and does: try again */
};

/* ---- sides -------------------------------------------------------------------------------------- */

static pst_str key_of(const struct side *side)
{
    return pst_str_of(side->key.data, side->key.len);
}

static void set_side(struct side *side, const struct transfer_place *place, pst_str name)
{
    side->place = place;
    side->key.len = side->shown.len = 0;
    cli_addf(&side->key, "%s", place->prefix);
    cli_add(&side->key, name.ptr, name.len);
    cli_addf(&side->shown, "%s", place->shown);
    cli_add(&side->shown, name.ptr, name.len);
    cli_add(&side->shown, "", 1);
    side->shown.len--;
}

static void clear_side(struct side *side)
{
    pst_attr_free(side->attr);
    side->attr = NULL;
    side->has_crc = false;
}

static int fail_from(struct work *work, pst_rc rc, const pst_error *err)
{
    return cli_fail_rc_at(work->cli, rc, err, "%s: ", work->from.shown.data);
}

static void set_target_name(struct work *work)
{
    const struct transfer *t = work->t;
    work->to_name.len = 0;
    if (t->options->escapes && !t->target.name)
        transfer_mark_name(t->target.dir, work->item->to, &work->to_name);
    else
        cli_add(&work->to_name, work->item->to.ptr, work->item->to.len);
    set_side(&work->to, &t->target, pst_str_of(work->to_name.data, work->to_name.len));
}

/* With --escape-keys another worker may have made a directory of our file's name, or a file of one of
 * our directories' names, since the name was chosen. */
static int fail_to(struct work *work, pst_rc rc, const pst_error *err)
{
    struct cli_text_buf name = {0};
    if (work->may_rename && work->t->options->escapes && !work->t->target.name) {
        transfer_mark_name(work->t->target.dir, work->item->to, &name);
        work->is_renamed = name.len != work->to_name.len;
        cli_text_fini(&name);
    }
    return work->is_renamed ? CLI_SOME_FAILED
                            : cli_fail_rc_at(work->cli, rc, err, "%s: ", work->to.shown.data);
}

static pst_rc load_attr(struct work *work, struct side *side, pst_error *err)
{
    if (side->attr)
        return PST_OK;
    return pst_stat(side->place->store, key_of(side), &work->cli->call, &side->attr, err);
}

/* ---- sums --------------------------------------------------------------------------------------- */

static bool is_local(const struct transfer_place *place)
{
    return !place->info.endpoint || !place->info.endpoint[0];
}

static bool parse_sum(pst_str text, uint32_t *crc)
{
    static const char digits[] = "0123456789abcdef";
    *crc = 0;
    if (text.len != 8)
        return false;
    for (size_t i = 0; i < 8; i++) {
        const char *digit = memchr(digits, text.ptr[i], 16);
        if (!digit)
            return false;
        *crc = *crc << 4 | (uint32_t)(digit - digits);
    }
    return true;
}

static bool is_sum_meta(pst_str key)
{
    pst_str name = SUM_META;
    return key.len == name.len && strncasecmp(key.ptr, name.ptr, name.len) == 0;
}

/* The sum that comes with the attributes. */
static void find_sum(struct side *side)
{
    const pst_attr *attr = side->attr;
    for (uint32_t i = 0; i < attr->n_sums && !side->has_crc; i++) {
        const pst_sum *sum = (const pst_sum *)(const void *)((const char *)attr->sums +
                                                             i * attr->sum_stride);
        if (sum->algorithm != PST_SUM_CRC32C || sum->scope != PST_SCOPE_OBJECT || sum->length != 4)
            continue;
        side->crc = (uint32_t)sum->bytes[0] << 24 | (uint32_t)sum->bytes[1] << 16 |
                    (uint32_t)sum->bytes[2] << 8 | sum->bytes[3];
        side->has_crc = true;
    }
    for (size_t i = 0; i < attr->n_user_meta && !side->has_crc && !is_local(side->place); i++) {
        if (is_sum_meta(attr->user_meta[i].key))
            side->has_crc = parse_sum(attr->user_meta[i].value, &side->crc);
    }
}

/* The sum of the bytes, read one range after the other. Any failure: no sum. */
static void read_sum(struct work *work, struct side *side, uint64_t size)
{
    pst_read_options options = {.struct_size = sizeof(options)};
    pst_read_info first = {.struct_size = sizeof(first)}, info = {.struct_size = sizeof(info)};
    uint64_t offset = 0;
    uint32_t crc = 0;
    pst_rc rc = PST_OK;

    do {
        pst_buffer *buffer = NULL;
        rc = pst_get_range(side->place->store, key_of(side), offset, SMALL_BYTES, &options,
                           &work->cli->call, &buffer, &info, NULL);
        if (rc != PST_OK)
            break;
        size_t n = pst_buffer_size(buffer);
        crc = pst_crc32c(crc, pst_buffer_data(buffer), n);
        pst_buffer_unref(buffer);
        if (offset == 0) {
            first = info;
            if (first.etag_strength == PST_ETAG_STRONG)
                options.if_match = pst_str_of(first.etag, strlen(first.etag));
        }
        offset += n;
        if (n == 0 || info.object_size != size || strcmp(first.etag, info.etag) != 0)
            break;
    } while (offset < size);
    side->has_crc = rc == PST_OK && offset == size && info.object_size == size &&
                    strcmp(first.etag, info.etag) == 0;
    side->crc = crc;
}

/* Read a small object whole. *is_small is false when it turns out to be no longer small. */
static int load_body(struct work *work, bool *is_small)
{
    const struct transfer_item *item = work->item;
    pst_read_options options = {.struct_size = sizeof(options)};
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_error err = PST_ERROR_INIT;
    const pst_attr *attr = work->from.attr;
    pst_rc rc;

    *is_small = work->body != NULL;
    if (work->body || item->size > SMALL_BYTES)
        return CLI_OK;
    if (attr && attr->etag_strength == PST_ETAG_STRONG)
        options.if_match = attr->etag;
    rc = pst_get_range(item->source->store, key_of(&work->from), 0, SMALL_BYTES, &options,
                       &work->cli->call, &work->body, &info, &err);
    if (rc != PST_OK)
        return fail_from(work, rc == PST_E_PRECONDITION ? PST_E_CHANGED : rc, &err);
    if (info.object_size != pst_buffer_size(work->body)) {
        pst_buffer_unref(work->body);
        work->body = NULL;
        return CLI_OK;
    }
    work->from.crc = pst_crc32c(0, pst_buffer_data(work->body), pst_buffer_size(work->body));
    work->from.has_crc = true;
    *is_small = true;
    return CLI_OK;
}

/* ---- identical? --------------------------------------------------------------------------------- */

/* The sum of the source; none if only reading a large remote object would tell. */
static int find_source_sum(struct work *work)
{
    struct side *from = &work->from;
    bool is_small;

    if (!from->has_crc && load_attr(work, from, NULL) == PST_OK)
        find_sum(from);
    if (!from->has_crc && work->item->size <= SMALL_BYTES)
        return load_body(work, &is_small); /* a copy would read it as well */
    if (!from->has_crc && is_local(from->place))
        read_sum(work, from, work->item->size);
    return CLI_OK;
}

static int compare_sides(struct work *work, uint64_t target_size, int64_t target_mtime_ns,
                         bool *is_identical)
{
    const struct transfer_item *item = work->item;
    struct side *to = &work->to;
    int code;

    *is_identical = false;
    if (target_size != item->size)
        return CLI_OK;
    if (work->t->options->compares_times) {
        *is_identical = item->mtime_ns != PST_TIME_UNKNOWN && target_mtime_ns != PST_TIME_UNKNOWN &&
                        item->mtime_ns <= target_mtime_ns;
        return CLI_OK;
    }
    if (load_attr(work, to, NULL) != PST_OK)
        return CLI_OK;
    if (to->attr->size != item->size)
        return CLI_OK;
    find_sum(to);
    if (!to->has_crc && is_local(to->place))
        read_sum(work, to, item->size);
    if (!to->has_crc)
        return CLI_OK;
    code = find_source_sum(work);
    if (code == CLI_OK && work->from.has_crc && work->from.crc == to->crc)
        *is_identical = (!work->body || pst_buffer_size(work->body) == to->attr->size) &&
                        (!work->from.attr || work->from.attr->size == to->attr->size);
    return code;
}

/* Is the target object there, and is it the source's? */
static int look_at_target(struct work *work, bool *is_identical)
{
    const struct transfer_item *item = work->item;
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;

    *is_identical = false;
    if (item->there == TRANSFER_ABSENT || !work->t->target.store)
        return CLI_OK;
    if (item->there == TRANSFER_PRESENT)
        return compare_sides(work, item->target_size, item->target_mtime_ns, is_identical);
    rc = load_attr(work, &work->to, &err);
    if (rc == PST_E_NOT_FOUND)
        return CLI_OK;
    if (rc != PST_OK)
        return fail_to(work, rc, &err);
    if (work->to.attr->kind != PST_KIND_OBJECT)
        return CLI_OK;
    return compare_sides(work, work->to.attr->size, work->to.attr->mtime_ns, is_identical);
}

/* ---- copying ------------------------------------------------------------------------------------ */

/* What the target gets beside the bytes. The arrays live as long as `*metas`. */
static int make_attr(struct work *work, bool knows_sum, pst_attr *out, pst_kv **metas, char sum[9])
{
    const struct transfer_options *options = work->t->options;
    const struct transfer_place *target = work->to.place;
    uint64_t both = work->from.place->info.caps & target->info.caps;
    pst_error err = PST_ERROR_INIT;
    size_t n = 0;

    memset(out, 0, sizeof(*out));
    out->struct_size = sizeof(*out);
    if (!options->drops_attributes && (both & (PST_CAP_CONTENT_TYPE | PST_CAP_USER_META))) {
        pst_rc rc = load_attr(work, &work->from, &err);
        if (rc != PST_OK)
            return fail_from(work, rc, &err);
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
        if (!is_sum_meta(attr->user_meta[i].key))
            (*metas)[n++] = attr->user_meta[i];
    }
    if (knows_sum && !is_local(target) && (target->info.caps & PST_CAP_USER_META) &&
        !(target->info.want_sums & 1u << PST_SUM_CRC32C)) {
        snprintf(sum, 9, "%08x", work->from.crc);
        (*metas)[n].key = SUM_META;
        (*metas)[n++].value = pst_str_of(sum, 8);
    }
    out->user_meta = *metas;
    out->n_user_meta = n;
    return CLI_OK;
}

/* Has the store taken what we gave it? */
static int check_result(struct work *work, const pst_write_result *result, uint64_t size,
                        uint32_t crc)
{
    if (result->size == size && (!result->has_crc32c || result->crc32c == crc))
        return CLI_OK;
    return cli_fail(work->cli, CLI_DATA, "%s: what was written is not what was read",
                    work->to.shown.data);
}

static int copy_small(struct work *work)
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
        pst_rc rc = pst_put(work->to.place->store, key_of(&work->to), &src, 1, &options,
                            &work->cli->call, &result, &err);
        code = rc == PST_OK ? check_result(work, &result, size, work->from.crc)
                            : fail_to(work, rc, &err);
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
    struct work *work = arg;
    pst_write_options options = {
        .struct_size = sizeof(options), .size_hint = object_size, .sums = 1u << PST_SUM_CRC32C};
    pst_error err = PST_ERROR_INIT;
    pst_attr attr;
    pst_kv *metas = NULL;
    char sum[9];
    bool is_known = work->from.has_crc && object_size == work->item->size;
    int code = make_attr(work, is_known, &attr, &metas, sum);
    const pst_attr *seen = work->from.attr;

    if (code == CLI_OK && seen && etag && seen->etag.len > 0 &&
        (strlen(etag) != seen->etag.len || memcmp(etag, seen->etag.ptr, seen->etag.len) != 0))
        code = fail_from(work, PST_E_CHANGED, NULL);
    if (code == CLI_OK) {
        options.attr = &attr;
        pst_rc rc = pst_writer_open(work->to.place->store, key_of(&work->to), &options,
                                    &work->cli->call, &work->writer, &err);
        code = rc == PST_OK ? CLI_OK : fail_to(work, rc, &err);
    }
    free(metas);
    return code;
}

static int write_large(void *arg, const void *data, size_t len)
{
    struct work *work = arg;
    pst_error err = PST_ERROR_INIT;
    pst_rc rc = pst_writer_write(work->writer, data, len, &err);

    if (rc != PST_OK)
        return fail_to(work, rc, &err);
    work->n_read_crc = pst_crc32c(work->n_read_crc, data, len);
    work->n_read += len;
    cli_progress_add(work->cli, 0, len);
    return CLI_OK;
}

static int copy_large(struct work *work)
{
    struct cli_stream stream = {.store = work->from.place->store,
                                .key = key_of(&work->from),
                                .length = PST_UNKNOWN,
                                .name = work->from.shown.data,
                                .on_size = start_large,
                                .sink = write_large,
                                .arg = work};
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_error err = PST_ERROR_INIT;
    int code;

    work->n_read = 0;
    work->n_read_crc = 0;
    code = cli_stream_read(work->cli, &stream);
    if (code == CLI_OK) {
        pst_rc rc = pst_writer_finalize(work->writer, &result, &err);
        code = rc == PST_OK ? check_result(work, &result, work->n_read, work->n_read_crc)
                            : fail_to(work, rc, &err);
    }
    pst_writer_free(work->writer); /* aborts what was not finalized */
    work->writer = NULL;
    if (code == CLI_OK) {
        work->from.crc = work->n_read_crc;
        work->from.has_crc = true;
        atomic_fetch_add(&work->t->copied_bytes, work->n_read);
    }
    return code;
}

static int copy_through(struct work *work)
{
    bool is_small;
    int code = load_body(work, &is_small);
    if (code != CLI_OK)
        return code;
    return is_small ? copy_small(work) : copy_large(work);
}

/* ---- within one store --------------------------------------------------------------------------- */

/* May the store that holds both sides write the target by itself? */
static bool is_direct(const struct work *work, uint64_t cap)
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

static void make_direct_keys(const struct work *work, struct cli_text_buf *from,
                             struct cli_text_buf *to)
{
    transfer_direct_key(work->item->source, work->item->from, from);
    transfer_direct_key(&work->t->target, pst_str_of(work->to_name.data, work->to_name.len), to);
}

/* *is_done is false when the store cannot. */
static int copy_direct(struct work *work, bool *is_done)
{
    static const pst_attr none = {.struct_size = sizeof(none)};
    pst_write_options options = {.struct_size = sizeof(options),
                                 .attr = work->t->options->drops_attributes ? &none : NULL,
                                 .sums = 1u << PST_SUM_CRC32C};
    pst_write_result result = {.struct_size = sizeof(result)};
    pst_error err = PST_ERROR_INIT;
    struct cli_text_buf from = {0}, to = {0};
    pst_rc rc = PST_E_UNIMPLEMENTED;

    if (is_direct(work, PST_CAP_COPY)) {
        make_direct_keys(work, &from, &to);
        rc = pst_copy(work->item->source->direct, pst_str_of(from.data, from.len),
                      pst_str_of(to.data, to.len), &options, &work->cli->call, &result, &err);
        cli_text_fini(&from);
        cli_text_fini(&to);
    }
    *is_done = rc != PST_E_UNIMPLEMENTED;
    if (rc == PST_E_UNIMPLEMENTED)
        return CLI_OK;
    if (rc != PST_OK)
        return fail_to(work, rc, &err);
    cli_progress_add(work->cli, 0, work->item->size);
    atomic_fetch_add(&work->t->copied_bytes, work->item->size);
    return CLI_OK;
}

static int rename_direct(struct work *work, bool *is_done)
{
    pst_write_options options = {.struct_size = sizeof(options)};
    pst_error err = PST_ERROR_INIT;
    struct cli_text_buf from = {0}, to = {0};
    pst_rc rc = PST_E_UNIMPLEMENTED;

    if (!work->t->options->drops_attributes && is_direct(work, PST_CAP_RENAME)) {
        make_direct_keys(work, &from, &to);
        rc = pst_rename(work->item->source->direct, pst_str_of(from.data, from.len),
                        pst_str_of(to.data, to.len), &options, &work->cli->call, &err);
        cli_text_fini(&from);
        cli_text_fini(&to);
    }
    *is_done = rc != PST_E_UNIMPLEMENTED;
    if (rc == PST_E_UNIMPLEMENTED)
        return CLI_OK;
    return rc == PST_OK ? CLI_OK : fail_to(work, rc, &err);
}

/* ---- moving ------------------------------------------------------------------------------------- */

/* Is the copy really there? */
static int check_copy(struct work *work)
{
    struct side *to = &work->to;
    pst_error err = PST_ERROR_INIT;
    uint64_t size = work->body         ? pst_buffer_size(work->body)
                    : work->n_read > 0 ? work->n_read
                                       : work->item->size;
    clear_side(to);
    pst_rc rc = load_attr(work, to, &err);
    if (rc != PST_OK)
        return cli_fail_rc_at(work->cli, rc, &err, "%s: ", to->shown.data);
    find_sum(to);
    if (to->attr->size != size || (to->has_crc && work->from.has_crc && to->crc != work->from.crc))
        return cli_fail(work->cli, CLI_DATA, "%s: differs from %s, which stays", to->shown.data,
                        work->from.shown.data);
    return CLI_OK;
}

/* Delete what was read and nothing newer. A remote store compares the etag by itself; asked the same,
 * the file plugin would leave its lock file behind, so for local files a look must do. */
static int delete_source(struct work *work)
{
    struct side *from = &work->from;
    const struct transfer_place *place = from->place;
    pst_attr *read = from->attr;
    pst_error err = PST_ERROR_INIT;
    pst_str if_match = {0};
    pst_rc rc = PST_OK;

    from->attr = NULL;
    if (read->etag_strength == PST_ETAG_STRONG && is_local(place)) {
        rc = load_attr(work, from, &err);
        if (rc == PST_OK && (from->attr->etag.len != read->etag.len ||
                             memcmp(from->attr->etag.ptr, read->etag.ptr, read->etag.len) != 0))
            rc = PST_E_CHANGED;
    } else if (read->etag_strength == PST_ETAG_STRONG &&
               (place->info.caps & PST_CAP_WRITE_IF_MATCH)) {
        if_match = read->etag;
    }
    if (rc == PST_OK)
        rc = pst_delete(place->store, key_of(from), if_match, &work->cli->call, &err);
    pst_attr_free(read);
    return rc == PST_OK ? CLI_OK
                        : cli_fail_rc_at(work->cli, rc, &err,
                                         "%s: copied but not deleted: ", from->shown.data);
}

/* ---- the item ----------------------------------------------------------------------------------- */

static int say_plan(struct work *work)
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

static int copy_item(struct work *work, bool *is_identical)
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
        pst_rc rc = load_attr(work, &work->from, &err);
        if (rc != PST_OK)
            return fail_from(work, rc, &err);
    }
    code = look_at_target(work, is_identical);
    if (code == CLI_OK && options->is_dry_run)
        return *is_identical && !options->is_move ? CLI_OK : say_plan(work);
    if (code == CLI_OK && !*is_identical) {
        code = copy_direct(work, &is_done);
        if (code == CLI_OK && !is_done)
            code = copy_through(work);
    }
    if (code == CLI_OK && options->is_move)
        code = check_copy(work);
    if (code == CLI_OK && options->is_move)
        code = delete_source(work);
    return code;
}

int transfer_item_run(struct transfer *t, const struct transfer_item *item)
{
    struct work work = {.t = t, .cli = t->cli, .item = item, .may_rename = true};
    bool is_identical = false;
    int code;

    set_side(&work.from, item->source, item->from);
    set_target_name(&work);
    code = copy_item(&work, &is_identical);
    if (work.is_renamed) {
        clear_side(&work.to);
        work.is_renamed = work.may_rename = false;
        set_target_name(&work);
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
    clear_side(&work.from);
    clear_side(&work.to);
    cli_text_fini(&work.from.key);
    cli_text_fini(&work.from.shown);
    cli_text_fini(&work.to.key);
    cli_text_fini(&work.to.shown);
    cli_text_fini(&work.to_name);
    return code;
}
