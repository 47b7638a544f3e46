/* fault_action.c - what a route does to the objects, in terms of no provider: read, write, copy, upload
 * in parts. Each answers the name of an outcome; the declaration says which reply that is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fault.h"
#include "kit.h"

static pst_str header(const struct kf_turn *t, const char *name)
{
    return kf_get(&t->scope->request->headers, name);
}

void kf_set_times(struct kf_fields *vars, int64_t when_s)
{
    struct tm tm;
    char text[64];
    time_t when = (time_t)when_s;
    (void)gmtime_r(&when, &tm);
    (void)strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    kf_set(vars, "mtime", kf_str(text));
    (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S.000Z", &tm);
    kf_set(vars, "mtime_iso", kf_str(text));
}

void kf_object_vars(const struct kf_object *o, struct kf_fields *vars)
{
    kf_set_times(vars, o->mtime_s);
    kf_setf(vars, "size", "%zu", o->data.len);
    kf_set(vars, "etag", kf_str(o->etag));
    kf_set(vars, "crc32c", kf_str(o->crc32c));
    kf_set(vars, "crc64nvme", kf_str(o->crc64nvme));
    kf_set(vars, "version", kf_str(o->version));
}

static bool is_etag(pst_str given, const char *etag)
{
    if (given.len > 1 && given.ptr[0] == '"')
        given = pst_str_of(given.ptr + 1, given.len - 2);
    return kf_is(given, "*") || kf_is(given, etag);
}

/* Is the object, or its absence, what the request demands? NULL: yes. */
static const char *check_conditions(const struct kf_turn *t, const struct kf_object *o)
{
    pst_str match = header(t, "if-match"), none = header(t, "if-none-match");
    if (kf_is(kf_str(json_string_value(json_object_get(t->fault, "conditions"))), "ignore"))
        return NULL;
    if (match.len > 0 && !o)
        return "no_key";
    if (match.len > 0 && !is_etag(match, o->etag))
        return "precondition";
    if (none.len > 0 && o && is_etag(none, o->etag))
        return "exists";
    return NULL;
}

/* Headers that belong to the object, by the declaration's patterns. */
static void keep_headers(const struct kf_turn *t, struct kf_fields *kept)
{
    const json_t *patterns = json_object_get(t->server->declaration, "keep");
    const struct kf_fields *headers = &t->scope->request->headers;
    for (size_t i = 0; i < headers->n; i++)
        for (size_t k = 0; k < json_array_size(patterns); k++)
            if (kf_glob(json_string_value(json_array_get(patterns, k)), headers->all[i].key))
                kf_append(kept, headers->all[i].key, headers->all[i].value);
}

/* Does the request carry a sum, or ask for one? */
static bool is_about_sums(const struct kf_turn *t)
{
    const char *name;
    json_t *kind, *verify = json_object_get(t->server->declaration, "verify");
    json_object_foreach(verify, name, kind) if (header(t, name).len > 0) return true;
    return header(t, "x-amz-checksum-mode").len > 0;
}

/* Sums that the request carries against those of `data`. */
static bool sums_agree(const struct kf_turn *t, pst_str data)
{
    char crc32c[16], crc64nvme[16];
    const char *name;
    json_t *kind, *verify = json_object_get(t->server->declaration, "verify");
    if (!is_about_sums(t))
        return true;
    kf_sums_of(data, crc32c, crc64nvme);
    json_object_foreach(verify, name, kind)
    {
        pst_str given = header(t, name);
        const char *wanted = strcmp(json_string_value(kind), "crc32c") == 0 ? crc32c : crc64nvme;
        if (given.len > 0 && !kf_is(given, wanted))
            return false;
    }
    return true;
}

/* "bytes=3-9", "bytes=3-", "bytes=-5"; false: cannot be satisfied. */
static bool apply_range(const struct kf_turn *t, pst_str range, uint64_t size, bool *is_partial,
                        uint64_t *first, uint64_t *length)
{
    *is_partial = false;
    *first = 0;
    *length = size;
    if (range.len < 8 || memcmp(range.ptr, "bytes=", 6) != 0 ||
        kf_is(kf_str(json_string_value(json_object_get(t->fault, "range"))), "ignore"))
        return true;
    const char *text = range.ptr + 6, *dash = memchr(text, '-', range.len - 6);
    if (!dash)
        return true;
    pst_str from = pst_str_of(text, (size_t)(dash - text));
    pst_str to = pst_str_of(dash + 1, range.len - 7 - from.len);
    *is_partial = true;
    if (from.len == 0) {
        uint64_t n = kf_number(to, 0);
        n = n < size ? n : size;
        *first = size - n;
        *length = n;
        return n > 0;
    }
    uint64_t last = kf_number(to, UINT64_MAX);
    *first = kf_number(from, UINT64_MAX);
    if (*first >= size || last < *first)
        return false;
    last = last < size - 1 ? last : size - 1;
    *length = last - *first + 1;
    return true;
}

static const char *do_get(struct kf_turn *t)
{
    struct kf_object *o = kf_find(&t->server->model, t->container, t->key);
    struct kf_scope *scope = t->scope;
    pst_str version = kf_get(scope->vars, "version");
    bool is_partial;
    if (!kf_has_container(&t->server->model, t->container))
        return "no_container";
    if (!o)
        return "no_key";
    if (version.len > 0 && !kf_is(version, o->version))
        return "no_version";
    if (is_about_sums(t))
        kf_sum_up(o);
    kf_object_vars(o, scope->vars);
    const char *outcome = check_conditions(t, o);
    if (outcome)
        return strcmp(outcome, "exists") == 0 ? "not_modified" : outcome;
    if (!apply_range(t, header(t, "range"), o->data.len, &is_partial, &scope->first,
                     &scope->length))
        return "range";
    uint64_t shift = (uint64_t)json_integer_value(json_object_get(t->fault, "shift"));
    if (is_partial && scope->first + shift + scope->length <= o->data.len)
        scope->first += shift; /* and says so */
    scope->object = o;
    kf_setf(scope->vars, "first", "%llu", (unsigned long long)scope->first);
    kf_setf(scope->vars, "last", "%llu", (unsigned long long)(scope->first + scope->length - 1));
    return is_partial ? "partial" : "ok";
}

static const char *store(struct kf_turn *t, struct kf_buf *data, struct kf_fields *kept)
{
    const char *outcome = check_conditions(t, kf_find(&t->server->model, t->container, t->key));
    if (!outcome) {
        struct kf_object *o = kf_store(&t->server->model, t->container, t->key, data, kept);
        if (is_about_sums(t))
            kf_sum_up(o);
        kf_object_vars(o, t->scope->vars);
    }
    kf_buf_fini(data);
    kf_fields_fini(kept);
    return outcome ? outcome : "ok";
}

static const char *do_put(struct kf_turn *t)
{
    struct kf_fields kept = {0};
    struct kf_buf data = {0};
    pst_str body = kf_view(&t->scope->request->body);
    if (!kf_has_container(&t->server->model, t->container))
        return "no_container";
    if (!sums_agree(t, body))
        return "bad_sum";
    kf_add_str(&data, body);
    keep_headers(t, &kept);
    return store(t, &data, &kept);
}

/* The source that a header names: "/container/key?versionId=...", percent-encoded. */
static const char *find_source(const struct kf_turn *t, const struct kf_object **out)
{
    pst_str from = kf_get(t->scope->vars, "from");
    pst_str match = header(t, "x-amz-copy-source-if-match");
    struct kf_buf plain = {0};
    const char *outcome = NULL, *mark = from.len > 0 ? memchr(from.ptr, '?', from.len) : NULL;
    if (mark)
        from.len = (size_t)(mark - from.ptr);
    if (from.len > 0 && *from.ptr == '/')
        from = pst_str_of(from.ptr + 1, from.len - 1);
    kf_unescape_url(from, false, &plain);
    const char *slash = strchr(plain.data, '/');
    *out = NULL;
    if (slash) {
        size_t n = (size_t)(slash - plain.data);
        *out = kf_find(&t->server->model, pst_str_of(plain.data, n),
                       pst_str_of(slash + 1, plain.len - n - 1));
    }
    if (!*out)
        outcome = "no_key";
    else if (match.len > 0 && !is_etag(match, (*out)->etag))
        outcome = "precondition";
    kf_buf_fini(&plain);
    return outcome;
}

static const char *do_copy(struct kf_turn *t)
{
    const struct kf_object *source;
    struct kf_fields kept = {0};
    struct kf_buf data = {0};
    const char *outcome = find_source(t, &source);
    if (outcome)
        return outcome;
    kf_add_str(&data, kf_view(&source->data));
    bool replaces = json_is_true(json_object_get(t->route->spec, "replace"));
    if (replaces)
        keep_headers(t, &kept);
    for (size_t i = 0; !replaces && i < source->kept.n; i++)
        kf_append(&kept, source->kept.all[i].key, source->kept.all[i].value);
    return store(t, &data, &kept);
}

static const char *do_delete(struct kf_turn *t)
{
    const struct kf_object *o = kf_find(&t->server->model, t->container, t->key);
    pst_str match = header(t, "if-match");
    if (!kf_has_container(&t->server->model, t->container))
        return "no_container";
    if (match.len > 0 && (!o || !is_etag(match, o->etag)))
        return o ? "precondition" : "no_key";
    kf_remove(&t->server->model, t->container, t->key);
    return o ? "ok" : "missing";
}

/* ---- uploads ----------------------------------------------------------------------------------- */

static struct kf_upload *upload_of(const struct kf_turn *t)
{
    return kf_upload_find(&t->server->model, kf_get(t->scope->vars, "upload"));
}

static const char *do_upload_open(struct kf_turn *t)
{
    struct kf_fields kept = {0};
    if (!kf_has_container(&t->server->model, t->container))
        return "no_container";
    keep_headers(t, &kept);
    struct kf_upload *u = kf_upload_open(&t->server->model, t->container, t->key, &kept);
    kf_set(t->scope->vars, "upload", kf_str(u->id));
    return "ok";
}

static const char *do_upload_part(struct kf_turn *t)
{
    struct kf_upload *u = upload_of(t);
    pst_str body = kf_view(&t->scope->request->body);
    struct kf_buf data = {0};
    char crc32c[16], crc64nvme[16];
    if (!u)
        return "no_upload";
    if (kf_has(t->scope->vars, "from")) {
        const struct kf_object *source;
        uint64_t first, length;
        bool is_partial;
        const char *outcome = find_source(t, &source);
        if (outcome)
            return outcome;
        if (!apply_range(t, header(t, "x-amz-copy-source-range"), source->data.len, &is_partial,
                         &first, &length))
            return "range";
        kf_add(&data, source->data.data + first, (size_t)length);
    } else {
        if (!sums_agree(t, body))
            return "bad_sum";
        kf_add_str(&data, body);
    }
    const struct kf_part *part = kf_upload_part(&t->server->model, u,
                                                kf_get(t->scope->vars, "part"), &data);
    kf_set(t->scope->vars, "etag", kf_str(part->etag));
    if (is_about_sums(t)) {
        kf_sums_of(kf_view(&part->data), crc32c, crc64nvme);
        kf_set(t->scope->vars, "crc32c", kf_str(crc32c));
        kf_set(t->scope->vars, "crc64nvme", kf_str(crc64nvme));
    }
    return "ok";
}

static const char *name_of(const json_t *spec, const char *member, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(spec, member));
    return text ? text : otherwise;
}

/* The parts that the body names, in that order; all of them where the body is empty. */
static const char *join_parts(const struct kf_turn *t, const struct kf_upload *u,
                              struct kf_buf *data, struct kf_buf *digests)
{
    unsigned char md5[16];
    const json_t *spec = json_object_get(t->route->spec, "commit");
    pst_str xml = kf_view(&t->scope->request->body), item;
    struct kf_buf id = {0}, etag = {0};
    const char *outcome = NULL;
    size_t at = 0, n = 0;
    while (!outcome && kf_xml_next(xml, name_of(spec, "element", "Part"), &at, &item)) {
        const struct kf_part *part = NULL;
        (void)kf_xml_text(item, name_of(spec, "id", "PartNumber"), &id);
        (void)kf_xml_text(item, name_of(spec, "etag", "ETag"), &etag);
        for (size_t i = 0; i < u->n_parts && !part; i++)
            if (strcmp(u->parts[i].id, id.data) == 0)
                part = &u->parts[i];
        if (!part || (etag.len > 0 && !is_etag(kf_view(&etag), part->etag)))
            outcome = "bad_part";
        else {
            kf_add_str(data, kf_view(&part->data));
            kf_md5(kf_view(&part->data), md5);
            kf_add(digests, md5, sizeof(md5));
        }
        n++;
    }
    if (n == 0)
        outcome = "bad_request";
    kf_buf_fini(&id);
    kf_buf_fini(&etag);
    return outcome;
}

static const char *do_upload_commit(struct kf_turn *t)
{
    struct kf_upload *u = upload_of(t);
    struct kf_model *m = &t->server->model;
    struct kf_buf data = {0}, digests = {0};
    if (!u)
        return "no_upload";
    const char *outcome = join_parts(t, u, &data, &digests);
    if (!outcome)
        outcome = check_conditions(t, kf_find(m, t->container, t->key));
    if (!outcome) {
        outcome = store(t, &data, &u->kept);
        struct kf_object *o = kf_find(m, t->container, t->key);
        if (m->has_md5_etags) {
            kf_etag_of(m, kf_view(&digests), o->etag);
            (void)snprintf(o->etag + 32, sizeof(o->etag) - 32, "-%zu", digests.len / 16);
        }
        kf_object_vars(o, t->scope->vars);
        kf_upload_drop(m, u);
    }
    kf_buf_fini(&data);
    kf_buf_fini(&digests);
    return outcome;
}

static const char *do_upload_abort(struct kf_turn *t)
{
    struct kf_upload *u = upload_of(t);
    if (!u)
        return "no_upload";
    kf_upload_drop(&t->server->model, u);
    return "ok";
}

/* ---- containers -------------------------------------------------------------------------------- */

static const char *do_container_create(struct kf_turn *t)
{
    bool is_there = kf_has_container(&t->server->model, t->container);
    kf_add_container(&t->server->model, t->container);
    return is_there ? "container_exists" : "ok";
}

static const char *do_container_delete(struct kf_turn *t)
{
    if (!kf_has_container(&t->server->model, t->container))
        return "no_container";
    return kf_remove_container(&t->server->model, t->container) ? "ok" : "not_empty";
}

static const char *do_container_head(struct kf_turn *t)
{
    return kf_has_container(&t->server->model, t->container) ? "ok" : "no_container";
}

static const char *do_reply(struct kf_turn *t)
{
    (void)t;
    return "ok";
}

static const struct {
    const char *name;
    const char *(*run)(struct kf_turn *t);
} actions[] = {
    {"get", do_get},
    {"head", do_get},
    {"put", do_put},
    {"delete", do_delete},
    {"delete_many", kf_do_delete_many},
    {"copy", do_copy},
    {"list", kf_do_list},
    {"upload_open", do_upload_open},
    {"upload_part", do_upload_part},
    {"upload_commit", do_upload_commit},
    {"upload_abort", do_upload_abort},
    {"list_uploads", kf_do_list_uploads},
    {"list_parts", kf_do_list_parts},
    {"container_create", do_container_create},
    {"container_delete", do_container_delete},
    {"container_head", do_container_head},
    {"list_containers", kf_do_list_containers},
    {"reply", do_reply},
};

void kf_act(struct kf_server *s, const struct kf_route *route, struct kf_scope *scope,
            const json_t *fault, struct kf_reply *out)
{
    struct kf_buf container = {0}, key = {0}; /* the variables may change meanwhile */
    const char *outcome = NULL, *reply;
    kf_add_str(&container, kf_get(scope->vars, "container"));
    kf_add_str(&key, kf_get(scope->vars, "key"));
    struct kf_turn turn = {.server = s,
                           .route = route,
                           .scope = scope,
                           .fault = fault,
                           .container = kf_view(&container),
                           .key = kf_view(&key)};
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (strcmp(route->action, actions[i].name) == 0)
            outcome = actions[i].run(&turn);
    if (!outcome)
        outcome = "no_such_action";
    if (strcmp(outcome, "missing") == 0 &&
        !json_object_get(json_object_get(route->spec, "replies"), outcome))
        outcome = "ok";
    reply = json_string_value(json_object_get(json_object_get(route->spec, "replies"), outcome));
    if (!reply)
        reply = json_string_value(
            json_object_get(json_object_get(s->declaration, "outcomes"), outcome));
    kf_build(s, reply ? reply : outcome, scope, out);
    kf_buf_fini(&container);
    kf_buf_fini(&key);
}
