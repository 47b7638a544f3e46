/* fault_control.c - the server's own paths, below "/-/", and the record of what was asked of it.
 *
 *   PUT    /-/faults                   an array of rules; DELETE takes them away
 *   GET    /-/log                      every request since the start; DELETE forgets them
 *   GET    /-/objects                  what is stored;  GET, PUT, DELETE /-/objects/CONTAINER/KEY
 *   GET    /-/uploads                  what is being uploaded
 *   PUT    /-/containers/NAME
 *   DELETE /-/                         forget everything
 *
 * The record has no secrets: signatures are cut away, and of a token only a checksum is told, by which a
 * test can see that another one was used. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "fault.h"
#include "kit.h"

/* ---- the record -------------------------------------------------------------------------------- */

static const char *const secret_headers[] = {
    "x-amz-security-token", "x-aws-ec2-metadata-token", "x-amz-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key"};

static json_t *text_or_hex(pst_str s)
{
    json_t *text = json_stringn(s.ptr, s.len);
    if (text)
        return text;
    struct kf_buf plain = {0};
    kf_escape_url(s, "", &plain);
    text = json_string(plain.data);
    kf_buf_fini(&plain);
    return text;
}

/* "Signature=..." and whatever follows "Bearer" or an account's colon. */
static json_t *without_signature(pst_str value)
{
    static const char *const marks[] = {"Signature=", "Bearer ", "SharedKey "};
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        const char *at = memmem(value.ptr, value.len, marks[i], strlen(marks[i]));
        if (at)
            return json_sprintf("%.*s(secret)", (int)(at - value.ptr) + (int)strlen(marks[i]),
                                value.ptr);
    }
    return json_string("(secret)");
}

static json_t *loggable(pst_str name, pst_str value)
{
    char crc32c[16], crc64nvme[16];
    if (kf_is(name, "authorization"))
        return without_signature(value);
    for (size_t i = 0; i < sizeof(secret_headers) / sizeof(secret_headers[0]); i++) {
        if (!kf_is(name, secret_headers[i]))
            continue;
        kf_sums_of(value, crc32c, crc64nvme);
        return json_sprintf("(secret, crc32c %s)", crc32c);
    }
    return text_or_hex(value);
}

static json_t *log_target(const char *target)
{
    static const char *const marks[] = {"X-Amz-Signature=", "X-Amz-Security-Token=", "sig="};
    struct kf_buf text = {0};
    for (const char *p = target; *p;) {
        bool is_secret = false;
        for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]) && !is_secret; i++) {
            size_t len = strlen(marks[i]);
            if (p == target || (p[-1] != '&' && p[-1] != '?') || strncasecmp(p, marks[i], len) != 0)
                continue;
            kf_add(&text, p, len);
            kf_addf(&text, "(secret)");
            p += strcspn(p, "&");
            is_secret = true;
        }
        if (!is_secret)
            kf_add(&text, p++, 1);
    }
    json_t *out = text_or_hex(kf_view(&text));
    kf_buf_fini(&text);
    return out;
}

void kf_log(struct kf_server *s, const struct kf_request *r, const struct kf_route *route,
            const struct kf_fields *vars, unsigned status, json_t *fault)
{
    json_t *entry = json_object(), *headers = json_object();
    for (size_t i = 0; i < r->headers.n; i++)
        (void)json_object_set_new(headers, r->headers.all[i].key.ptr,
                                  loggable(r->headers.all[i].key, r->headers.all[i].value));
    (void)json_object_set_new(entry, "n", json_integer((json_int_t)s->n_requests));
    (void)json_object_set_new(entry, "connection", json_integer((json_int_t)r->connection));
    (void)json_object_set_new(entry, "method", json_string(r->method));
    (void)json_object_set_new(entry, "target", log_target(r->target));
    (void)json_object_set_new(entry, "route", json_string(route ? route->name : ""));
    (void)json_object_set_new(entry, "do", json_string(route ? route->action : ""));
    (void)json_object_set_new(entry, "key", text_or_hex(kf_get(vars, "key")));
    (void)json_object_set_new(entry, "headers", headers);
    (void)json_object_set_new(entry, "body_size", json_integer((json_int_t)r->body.len));
    if (route && json_is_true(json_object_get(route->spec, "log_body")))
        (void)json_object_set_new(entry, "body", text_or_hex(kf_view(&r->body)));
    (void)json_object_set_new(entry, "status", json_integer((json_int_t)status));
    (void)json_object_set_new(entry, "faulty", json_boolean(fault != NULL || status == 0));
    (void)json_array_append_new(s->log, entry);
}

/* ---- the paths --------------------------------------------------------------------------------- */

static void answer(struct kf_reply *out, unsigned status, json_t *body)
{
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    out->status = status;
    out->announced = UINT64_MAX;
    kf_set(&out->headers, "Content-Type", kf_str("application/json"));
    if (text)
        kf_add_str(&out->body, kf_str(text));
    free(text);
    json_decref(body);
}

static void set_faults(struct kf_server *s, const struct kf_request *r, struct kf_reply *out)
{
    char why[300] = "";
    json_error_t error = {0};
    json_t *rules = strcmp(r->method, "PUT") == 0
                        ? json_loadb(r->body.data ? r->body.data : "", r->body.len, 0, &error)
                        : json_array();
    bool is_set = rules && kf_set_rules(s, rules, why, sizeof(why));
    if (is_set)
        answer(out, 200, NULL);
    else
        answer(out, 400, json_pack("{s:s}", "why", rules ? why : error.text));
    json_decref(rules);
}

static json_t *list_objects(const struct kf_model *m)
{
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_objects; i++) {
        struct kf_object *o = m->objects[i];
        kf_sum_up(o);
        json_t *row = json_object(), *kept = json_object();
        for (size_t k = 0; k < o->kept.n; k++)
            (void)json_object_set_new(kept, o->kept.all[k].key.ptr,
                                      text_or_hex(o->kept.all[k].value));
        (void)json_object_set_new(row, "container", json_string(o->container));
        (void)json_object_set_new(row, "key", text_or_hex(pst_str_of(o->key, o->key_len)));
        (void)json_object_set_new(row, "size", json_integer((json_int_t)o->data.len));
        (void)json_object_set_new(row, "etag", json_string(o->etag));
        (void)json_object_set_new(row, "crc32c", json_string(o->crc32c));
        (void)json_object_set_new(row, "kept", kept);
        (void)json_array_append_new(all, row);
    }
    return all;
}

static json_t *list_uploads(const struct kf_model *m)
{
    json_t *all = json_array();
    for (size_t i = 0; i < m->n_uploads; i++) {
        const struct kf_upload *u = m->uploads[i];
        json_t *row = json_object();
        (void)json_object_set_new(row, "id", json_string(u->id));
        (void)json_object_set_new(row, "key", text_or_hex(pst_str_of(u->key, u->key_len)));
        (void)json_object_set_new(row, "parts", json_integer((json_int_t)u->n_parts));
        (void)json_array_append_new(all, row);
    }
    return all;
}

static void one_object(struct kf_server *s, const struct kf_request *r, pst_str path,
                       struct kf_reply *out)
{
    struct kf_buf plain = {0}, data = {0};
    struct kf_fields kept = {0};
    kf_unescape_url(path, false, &plain);
    const char *slash = strchr(plain.data, '/');
    size_t n = slash ? (size_t)(slash - plain.data) : plain.len;
    pst_str container = pst_str_of(plain.data, n);
    pst_str key = slash ? pst_str_of(slash + 1, plain.len - n - 1) : kf_str("");
    const struct kf_object *o = kf_find(&s->model, container, key);
    if (strcmp(r->method, "PUT") == 0) {
        kf_add_container(&s->model, container);
        kf_add_str(&data, kf_view(&r->body));
        (void)kf_store(&s->model, container, key, &data, &kept);
        answer(out, 200, NULL);
    } else if (strcmp(r->method, "DELETE") == 0) {
        kf_remove(&s->model, container, key);
        answer(out, 200, NULL);
    } else {
        answer(out, o ? 200 : 404, NULL);
        if (o)
            kf_add_str(&out->body, kf_view(&o->data));
    }
    kf_buf_fini(&plain);
}

static void forget(struct kf_server *s)
{
    json_t *none = json_array();
    char why[8];
    (void)kf_set_rules(s, none, why, sizeof(why));
    json_decref(none);
    kf_model_fini(&s->model);
    (void)json_array_clear(s->log);
    for (size_t i = 0; i < s->n_routes; i++)
        s->routes[i].n_hits = 0;
    kf_add_declared(s);
}

void kf_control(struct kf_server *s, const struct kf_request *r, struct kf_reply *out)
{
    pst_str path = pst_str_of(r->path.ptr + 3, r->path.len - 3);
    bool is_get = strcmp(r->method, "GET") == 0, is_delete = strcmp(r->method, "DELETE") == 0;
    if (kf_is(path, "faults") && !is_get) {
        set_faults(s, r, out);
    } else if (kf_is(path, "log") && is_get) {
        answer(out, 200, json_incref(s->log));
    } else if (kf_is(path, "log") && is_delete) {
        (void)json_array_clear(s->log);
        answer(out, 200, NULL);
    } else if (kf_is(path, "objects") && is_get) {
        answer(out, 200, list_objects(&s->model));
    } else if (kf_is(path, "uploads") && is_get) {
        answer(out, 200, list_uploads(&s->model));
    } else if (kf_glob("objects/*", path)) {
        one_object(s, r, pst_str_of(path.ptr + 8, path.len - 8), out);
    } else if (kf_glob("containers/*", path)) {
        kf_add_container(&s->model, pst_str_of(path.ptr + 11, path.len - 11));
        answer(out, 200, NULL);
    } else if (path.len == 0 && is_delete) {
        forget(s);
        answer(out, 200, NULL);
    } else {
        answer(out, 404, json_pack("{s:s}", "why", "no such control"));
    }
}
