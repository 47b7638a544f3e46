/* transfer_side.c - the two sides of an item: names, messages, attributes, and whether they are equal.
 *
 * Identical means the same size and the same CRC-32C. A side's sum is what its store reports; on
 * remote stores also the user metadata "penstock-crc32c", which is written beside every small object
 * put to a store that keeps no such sums; on local stores else the sum of its bytes, which are read
 * for it. (Local files are rewritten in place by other programs, and metadata stays: it is not
 * believed there.) Without both sums the object is copied again; a failure to find one is no error,
 * the copy will meet it. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "transfer_work.h"

/* ---- sides -------------------------------------------------------------------------------------- */

pst_str transfer_side_key(const struct transfer_side *side)
{
    return pst_str_of(side->key.data, side->key.len);
}

void transfer_side_set(struct transfer_side *side, const struct transfer_place *place, pst_str name)
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

void transfer_side_clear(struct transfer_side *side)
{
    pst_attr_free(side->attr);
    side->attr = NULL;
    side->has_crc = false;
}

/* The library names the object as its store knows it, relative to
 * the directory that the store is rooted at; the user knows it by the whole URI. */
int transfer_fail_side(const struct transfer_work *work, const struct transfer_side *side,
                       pst_rc rc, const pst_error *err, const char *words)
{
    struct cli_text_buf uri = {0}, message = {0};
    const char *at = NULL;
    pst_error said = PST_ERROR_INIT;

    cli_add_uri(&uri, &side->place->location, transfer_side_key(side));
    if (err && err->message[0])
        at = memmem(err->message, strlen(err->message), uri.data, uri.len);
    if (at) {
        cli_addf(&message, "%.*s%s%s", (int)(at - err->message), err->message, side->shown.data,
                 at + uri.len);
        snprintf(said.message, sizeof(said.message), "%s", message.data);
    }
    int code = at ? cli_fail_rc_at(work->cli, rc, &said, "%s", words)
                  : cli_fail_rc_at(work->cli, rc, err, "%s%s: ", words, side->shown.data);
    cli_text_fini(&uri);
    cli_text_fini(&message);
    return code;
}

int transfer_fail_from(const struct transfer_work *work, pst_rc rc, const pst_error *err)
{
    return transfer_fail_side(work, &work->from, rc, err, "");
}

void transfer_name_target(struct transfer_work *work)
{
    const struct transfer *t = work->t;
    work->to_name.len = 0;
    if (t->options->escapes && !t->target.name)
        transfer_mark_name(t->target.dir, work->item->to, &work->to_name);
    else
        cli_add(&work->to_name, work->item->to.ptr, work->item->to.len);
    transfer_side_set(&work->to, &t->target, pst_str_of(work->to_name.data, work->to_name.len));
}

/* With --escape-keys another worker may have made a directory of our file's name, or a file of one of
 * our directories' names, since the name was chosen. */
int transfer_fail_to(struct transfer_work *work, pst_rc rc, const pst_error *err)
{
    struct cli_text_buf name = {0};
    if (work->may_rename && work->t->options->escapes && !work->t->target.name) {
        transfer_mark_name(work->t->target.dir, work->item->to, &name);
        work->is_renamed = name.len != work->to_name.len;
        cli_text_fini(&name);
    }
    return work->is_renamed ? CLI_SOME_FAILED : transfer_fail_side(work, &work->to, rc, err, "");
}

pst_rc transfer_load_attr(struct transfer_work *work, struct transfer_side *side, pst_error *err)
{
    const pst_stat_options options = {
        .struct_size = sizeof(options), .flags = PST_LOOK_SUMS, .version = side->place->version};

    if (side->attr)
        return PST_OK;
    return pst_stat(side->place->store, transfer_side_key(side), &options, &work->cli->call,
                    &side->attr, err);
}

/* ---- sums --------------------------------------------------------------------------------------- */

bool transfer_is_local(const struct transfer_place *place)
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

bool transfer_is_sum_meta(pst_str key)
{
    pst_str name = TRANSFER_SUM_META;
    return key.len == name.len && strncasecmp(key.ptr, name.ptr, name.len) == 0;
}

void transfer_find_sum(struct transfer_side *side)
{
    const pst_attr *attr = side->attr;
    if (!side->has_crc)
        side->has_crc = cli_find_crc(attr, &side->crc);
    for (size_t i = 0; i < attr->n_user_meta && !side->has_crc && !transfer_is_local(side->place);
         i++) {
        if (transfer_is_sum_meta(attr->user_meta[i].key))
            side->has_crc = parse_sum(attr->user_meta[i].value, &side->crc);
    }
}

/* The sum of the bytes, read one range after the other. Any failure: no sum. */
void transfer_read_sum(struct transfer_work *work, struct transfer_side *side, uint64_t size)
{
    pst_read_options options = {.struct_size = sizeof(options), .version = side->place->version};
    pst_read_info first = {.struct_size = sizeof(first)}, info = {.struct_size = sizeof(info)};
    uint64_t offset = 0;
    uint32_t crc = 0;
    pst_rc rc = PST_OK;

    do {
        pst_buffer *buffer = NULL;
        rc = pst_get_range(side->place->store, transfer_side_key(side), offset,
                           work->t->small_bytes, &options, &work->cli->call, &buffer, &info, NULL);
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

int transfer_load_body(struct transfer_work *work, bool *is_small)
{
    const struct transfer_item *item = work->item;
    pst_read_options options = {.struct_size = sizeof(options), .version = item->source->version};
    pst_read_info info = {.struct_size = sizeof(info)};
    pst_error err = PST_ERROR_INIT;
    const pst_attr *attr = work->from.attr;
    pst_rc rc;

    if (work->t->flow.verifies)
        options.flags = PST_READ_VERIFY;
    *is_small = work->body != NULL;
    if (work->body || item->size > work->t->small_bytes)
        return CLI_OK;
    if (attr && attr->etag_strength == PST_ETAG_STRONG)
        options.if_match = attr->etag;
    rc = pst_get_range(item->source->store, transfer_side_key(&work->from), 0, work->t->small_bytes,
                       &options, &work->cli->call, &work->body, &info, &err);
    if (rc != PST_OK)
        return transfer_fail_from(work, rc == PST_E_PRECONDITION ? PST_E_CHANGED : rc, &err);
    if (info.object_size != pst_buffer_size(work->body)) {
        pst_buffer_unref(work->body);
        work->body = NULL;
        return CLI_OK;
    }
    work->from.crc = pst_crc32c(0, pst_buffer_data(work->body), pst_buffer_size(work->body));
    work->from.has_crc = true;
    *is_small = true;
    cli_flow_add_read(&work->t->flow, &info);
    return CLI_OK;
}

/* ---- identical? --------------------------------------------------------------------------------- */

/* The sum of the source; none if only reading a large remote object would tell. */
static int find_source_sum(struct transfer_work *work)
{
    struct transfer_side *from = &work->from;
    bool is_small;

    if (!from->has_crc && transfer_load_attr(work, from, NULL) == PST_OK)
        transfer_find_sum(from);
    if (!from->has_crc && work->item->size <= work->t->small_bytes)
        return transfer_load_body(work, &is_small); /* a copy would read it as well */
    if (!from->has_crc && transfer_is_local(from->place))
        transfer_read_sum(work, from, work->item->size);
    return CLI_OK;
}

static int compare_sides(struct transfer_work *work, uint64_t target_size, int64_t target_mtime_ns,
                         bool *is_identical)
{
    const struct transfer_item *item = work->item;
    struct transfer_side *to = &work->to;
    int code;

    *is_identical = false;
    if (target_size != item->size)
        return CLI_OK;
    if (work->t->options->compares_times) {
        *is_identical = item->mtime_ns != PST_TIME_UNKNOWN && target_mtime_ns != PST_TIME_UNKNOWN &&
                        item->mtime_ns <= target_mtime_ns;
        return CLI_OK;
    }
    if (transfer_load_attr(work, to, NULL) != PST_OK)
        return CLI_OK;
    if (to->attr->size != item->size)
        return CLI_OK;
    transfer_find_sum(to);
    if (!to->has_crc && transfer_is_local(to->place))
        transfer_read_sum(work, to, item->size);
    if (!to->has_crc)
        return CLI_OK;
    code = find_source_sum(work);
    if (code == CLI_OK && work->from.has_crc && work->from.crc == to->crc)
        *is_identical = (!work->body || pst_buffer_size(work->body) == to->attr->size) &&
                        (!work->from.attr || work->from.attr->size == to->attr->size);
    return code;
}

int transfer_look_at_target(struct transfer_work *work, bool *is_identical)
{
    const struct transfer_item *item = work->item;
    pst_error err = PST_ERROR_INIT;
    pst_rc rc;

    *is_identical = false;
    if (item->there == TRANSFER_ABSENT || !work->t->target.store)
        return CLI_OK;
    if (item->there == TRANSFER_PRESENT)
        return compare_sides(work, item->target_size, item->target_mtime_ns, is_identical);
    rc = transfer_load_attr(work, &work->to, &err);
    if (rc == PST_E_NOT_FOUND)
        return CLI_OK;
    if (rc != PST_OK)
        return transfer_fail_to(work, rc, &err);
    if (work->to.attr->kind != PST_KIND_OBJECT)
        return CLI_OK;
    return compare_sides(work, work->to.attr->size, work->to.attr->mtime_ns, is_identical);
}
