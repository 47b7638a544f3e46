/* fault_list.c - routes that answer with lists: of objects, uploads, parts, containers, and the results
 * of a batch of deletes. The route's "each" has a template for each kind of item; what they come to is
 * in {items} and {prefixes}, and {truncated}, {next} and {count} tell of the page. */
#include <stdio.h>
#include <string.h>

#include "fault.h"
#include "kit.h"

static void add_item(const struct kf_turn *t, const char *kind, struct kf_buf *out)
{
    const char *template = json_string_value(
        json_object_get(json_object_get(t->route->spec, "each"), kind));
    if (template)
        kf_expand(template, t->scope, out);
}

static void set_page(const struct kf_turn *t, struct kf_buf *items, struct kf_buf *prefixes,
                     size_t count, pst_str next)
{
    kf_set(t->scope->vars, "items", kf_view(items));
    kf_set(t->scope->vars, "prefixes", kf_view(prefixes));
    kf_set(t->scope->vars, "next", next);
    kf_set(t->scope->vars, "truncated", kf_str(next.len > 0 ? "true" : "false"));
    kf_setf(t->scope->vars, "count", "%zu", count);
    kf_buf_fini(items);
    kf_buf_fini(prefixes);
}

static bool begins_with(pst_str text, pst_str with)
{
    return text.len >= with.len && (with.len == 0 || memcmp(text.ptr, with.ptr, with.len) == 0);
}

/* What an object is listed as: its key, or the common prefix it lies below. */
static pst_str listed_as(pst_str key, pst_str prefix, pst_str delimiter, bool *is_prefix)
{
    const char *end = delimiter.len > 0 && key.len > prefix.len
                          ? memmem(key.ptr + prefix.len, key.len - prefix.len, delimiter.ptr,
                                   delimiter.len)
                          : NULL;
    *is_prefix = end != NULL;
    return end ? pst_str_of(key.ptr, (size_t)(end - key.ptr) + delimiter.len) : key;
}

static bool is_after(pst_str a, pst_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n > 0 ? memcmp(a.ptr, b.ptr, n) : 0;
    return order > 0 || (order == 0 && a.len > b.len);
}

/* A token is the last name of the page before, percent-encoded. */
const char *kf_do_list(struct kf_turn *t)
{
    const struct kf_model *m = &t->server->model;
    struct kf_fields *vars = t->scope->vars;
    struct kf_buf items = {0}, prefixes = {0}, after = {0}, last = {0}, next = {0};
    struct kf_buf prefix = {0}, delimiter = {0};
    size_t count = 0, page_max = 1000;
    if (!kf_has_container(m, t->container))
        return "no_container";
    kf_add_str(&prefix, kf_get(vars, "prefix"));
    kf_add_str(&delimiter, kf_get(vars, "delimiter"));
    if (kf_has(vars, "token"))
        kf_unescape_url(kf_get(vars, "token"), false, &after);
    else
        kf_add_str(&after, kf_get(vars, "start_after"));
    kf_add(&last, "", 0);
    if (kf_number(kf_get(vars, "max"), page_max) < page_max)
        page_max = (size_t)kf_number(kf_get(vars, "max"), page_max);
    for (size_t i = kf_find_position(m, t->container, kf_view(&prefix)); i < m->n_objects; i++) {
        const struct kf_object *o = m->objects[i];
        pst_str key = pst_str_of(o->key, o->key_len);
        if (!kf_is(t->container, o->container) || !begins_with(key, kf_view(&prefix)))
            break;
        bool is_prefix;
        pst_str name = listed_as(key, kf_view(&prefix), kf_view(&delimiter), &is_prefix);
        if (!is_after(name, kf_view(&after)) || (count > 0 && !is_after(name, kf_view(&last))))
            continue; /* on a page before, or the prefix that was just listed */
        if (count == page_max) {
            kf_escape_url(kf_view(&last), "", &next);
            break;
        }
        last.len = 0;
        kf_add_str(&last, name);
        kf_object_vars(o, vars);
        kf_set(vars, "key", name);
        add_item(t, is_prefix ? "prefix" : "object", is_prefix ? &prefixes : &items);
        count++;
    }
    kf_set(vars, "prefix", kf_view(&prefix));
    set_page(t, &items, &prefixes, count, kf_view(&next));
    kf_buf_fini(&after);
    kf_buf_fini(&last);
    kf_buf_fini(&next);
    kf_buf_fini(&prefix);
    kf_buf_fini(&delimiter);
    return "ok";
}

const char *kf_do_list_uploads(struct kf_turn *t)
{
    const struct kf_model *m = &t->server->model;
    struct kf_fields *vars = t->scope->vars;
    struct kf_buf items = {0}, none = {0}, prefix = {0};
    size_t count = 0;
    kf_add_str(&prefix, kf_get(vars, "prefix"));
    for (size_t i = 0; i < m->n_uploads; i++) {
        const struct kf_upload *u = m->uploads[i];
        pst_str key = pst_str_of(u->key, u->key_len);
        if (!kf_is(t->container, u->container) || !begins_with(key, kf_view(&prefix)))
            continue;
        kf_set(vars, "key", key);
        kf_set(vars, "upload", kf_str(u->id));
        kf_set_times(vars, u->started_s);
        add_item(t, "upload", &items);
        count++;
    }
    set_page(t, &items, &none, count, kf_str(""));
    kf_buf_fini(&prefix);
    return "ok";
}

const char *kf_do_list_parts(struct kf_turn *t)
{
    struct kf_fields *vars = t->scope->vars;
    const struct kf_upload *u = kf_upload_find(&t->server->model, kf_get(vars, "upload"));
    struct kf_buf items = {0}, none = {0};
    if (!u)
        return "no_upload";
    for (size_t i = 0; i < u->n_parts; i++) {
        kf_set(vars, "part", kf_str(u->parts[i].id));
        kf_set(vars, "etag", kf_str(u->parts[i].etag));
        kf_setf(vars, "size", "%zu", u->parts[i].data.len);
        add_item(t, "part", &items);
    }
    set_page(t, &items, &none, u->n_parts, kf_str(""));
    return "ok";
}

const char *kf_do_list_containers(struct kf_turn *t)
{
    const struct kf_model *m = &t->server->model;
    struct kf_buf items = {0}, none = {0};
    for (size_t i = 0; i < m->n_containers; i++) {
        kf_set(t->scope->vars, "container", kf_str(m->containers[i]));
        add_item(t, "container", &items);
    }
    set_page(t, &items, &none, m->n_containers, kf_str(""));
    return "ok";
}

/* A fault with "refuse_key": n leaves the n-th key where it is and tells so, under a status of 200. */
const char *kf_do_delete_many(struct kf_turn *t)
{
    const json_t *spec = json_object_get(t->route->spec, "batch");
    const char *element = json_string_value(json_object_get(spec, "element"));
    const char *member = json_string_value(json_object_get(spec, "key"));
    size_t refused = (size_t)json_integer_value(json_object_get(t->fault, "refuse_key"));
    pst_str xml = kf_view(&t->scope->request->body), item;
    struct kf_buf key = {0}, items = {0}, none = {0};
    size_t at = 0, n = 0;
    if (!kf_has_container(&t->server->model, t->container))
        return "no_container";
    while (kf_xml_next(xml, element ? element : "Object", &at, &item)) {
        (void)kf_xml_text(item, member ? member : "Key", &key);
        kf_set(t->scope->vars, "key", kf_view(&key));
        if (++n == refused) {
            add_item(t, "failed", &items);
            continue;
        }
        kf_remove(&t->server->model, t->container, kf_view(&key));
        add_item(t, "deleted", &items);
    }
    set_page(t, &items, &none, n, kf_str(""));
    kf_buf_fini(&key);
    return n > 0 ? "ok" : "bad_request";
}
