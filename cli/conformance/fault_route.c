/* fault_route.c - the declaration: loading it, finding the route of a request, building named replies.
 *
 * A route matches by method, path, query, headers, fields of a form, a piece of the body, and by how
 * often it matched before (nth). The first that fits is taken. Patterns capture: "{name}" a stretch that,
 * in a path, has no slash, "{name*}" any, '*' any without a name. What is captured from a path or a
 * query is decoded. */
#include <stdio.h>
#include <string.h>

#include "fault.h"
#include "kit.h"

/* ---- patterns ---------------------------------------------------------------------------------- */

static void capture(struct kf_fields *vars, const char *name, size_t name_len, pst_str value,
                    bool is_path)
{
    char text[80];
    struct kf_buf plain = {0};
    (void)snprintf(text, sizeof(text), "%.*s", (int)name_len, name);
    if (is_path)
        kf_unescape_url(value, false, &plain);
    else
        kf_add_str(&plain, value);
    kf_set(vars, text, kf_view(&plain));
    kf_buf_fini(&plain);
}

/* The longest stretch first; captures are set from the last to the first, once all fits. */
static bool fits(const char *pattern, pst_str text, bool is_path, struct kf_fields *vars)
{
    const char *close = *pattern == '{' ? strchr(pattern, '}') : NULL;
    if (*pattern == '\0')
        return text.len == 0;
    if (*pattern != '*' && !close)
        return text.len > 0 && *text.ptr == *pattern &&
               fits(pattern + 1, pst_str_of(text.ptr + 1, text.len - 1), is_path, vars);
    bool is_wide = !close || close[-1] == '*';
    size_t least = close ? 1 : 0, most = text.len;
    const char *slash = is_path && !is_wide && text.len > 0 ? memchr(text.ptr, '/', text.len)
                                                            : NULL;
    if (slash)
        most = (size_t)(slash - text.ptr);
    for (size_t n = most + 1; n-- > least;) {
        pst_str rest = pst_str_of(text.ptr + n, text.len - n);
        if (!fits(close ? close + 1 : pattern + 1, rest, is_path, vars))
            continue;
        if (close)
            capture(vars, pattern + 1, (size_t)(close - pattern) - 1 - is_wide,
                    pst_str_of(text.ptr, n), is_path);
        return true;
    }
    return false;
}

static bool all_fit(const json_t *wanted, const struct kf_fields *fields, struct kf_fields *vars)
{
    const char *name;
    json_t *value;
    json_t *object = NULL;
    memcpy(&object, &wanted, sizeof(object)); /* jansson iterates over what is not const */
    json_object_foreach(object, name, value)
    {
        bool is_there = kf_has(fields, name);
        if (json_is_boolean(value)) {
            if (json_is_true(value) != is_there)
                return false;
        } else if (!is_there ||
                   !fits(json_string_value(value), kf_get(fields, name), false, vars)) {
            return false;
        }
    }
    return true;
}

static bool method_fits(const json_t *wanted, const char *method)
{
    const char *text = json_string_value(wanted);
    return !text || strcmp(text, method) == 0;
}

static bool route_fits(const struct kf_route *route, const struct kf_request *r, pst_str whole_path,
                       struct kf_fields *vars)
{
    const json_t *spec = route->spec;
    const char *path = json_string_value(json_object_get(spec, "path"));
    const char *piece = json_string_value(json_object_get(spec, "body_has"));
    if (!method_fits(json_object_get(spec, "method"), r->method))
        return false;
    if (path && !fits(path, whole_path, true, vars))
        return false;
    if (!all_fit(json_object_get(spec, "query"), &r->query, vars) ||
        !all_fit(json_object_get(spec, "headers"), &r->headers, vars))
        return false;
    if (piece && !(r->body.data && memmem(r->body.data, r->body.len, piece, strlen(piece))))
        return false;
    if (json_object_get(spec, "form")) {
        struct kf_fields form = {0};
        kf_parse_query(kf_view(&r->body), &form);
        bool does_fit = all_fit(json_object_get(spec, "form"), &form, vars);
        kf_fields_fini(&form);
        return does_fit;
    }
    return true;
}

static void take_optional(const json_t *take, const struct kf_fields *from, struct kf_fields *vars)
{
    const char *name;
    json_t *variable;
    json_t *object = NULL;
    memcpy(&object, &take, sizeof(object));
    json_object_foreach(object, name, variable) if (kf_has(from, name))
        kf_set(vars, json_string_value(variable), kf_get(from, name));
}

/* With the container of a virtual host in front, where the declaration knows such hosts. */
static void find_path(const struct kf_server *s, const struct kf_request *r, struct kf_buf *out)
{
    const char *pattern = json_string_value(json_object_get(s->declaration, "virtual_host"));
    struct kf_fields captured = {0};
    if (pattern && fits(pattern, kf_get(&r->headers, "host"), false, &captured)) {
        kf_add(out, "/", 1);
        kf_add_str(out, kf_get(&captured, "container"));
    }
    kf_fields_fini(&captured);
    kf_add_str(out, r->path);
}

static struct kf_route *match(struct kf_server *s, const struct kf_request *r, pst_str path,
                              struct kf_fields *vars)
{
    for (size_t i = 0; i < s->n_routes; i++) {
        struct kf_route *route = &s->routes[i];
        struct kf_fields captured = {0};
        if (!route_fits(route, r, path, &captured)) {
            kf_fields_fini(&captured);
            continue;
        }
        const json_t *nth = json_object_get(route->spec, "nth");
        bool is_turn = !nth || route->n_hits + 1 == (unsigned)json_integer_value(nth);
        route->n_hits++;
        if (!is_turn) {
            kf_fields_fini(&captured);
            continue;
        }
        for (size_t k = 0; k < captured.n; k++)
            kf_append(vars, captured.all[k].key, captured.all[k].value);
        kf_fields_fini(&captured);
        take_optional(json_object_get(route->spec, "take"), &r->query, vars);
        kf_setf(vars, "n", "%u", route->n_hits);
        if (!kf_has(vars, "container"))
            kf_set(vars, "container",
                   kf_str(json_string_value(json_object_get(s->declaration, "container"))));
        return route;
    }
    return NULL;
}

struct kf_route *kf_match(struct kf_server *s, const struct kf_request *r, struct kf_fields *vars)
{
    struct kf_buf path = {0};
    find_path(s, r, &path);
    struct kf_route *route = match(s, r, kf_view(&path), vars);
    kf_buf_fini(&path);
    return route;
}

/* ---- replies ----------------------------------------------------------------------------------- */

void kf_build(const struct kf_server *s, const char *name, const struct kf_scope *scope,
              struct kf_reply *out)
{
    const json_t *spec = json_object_get(json_object_get(s->declaration, "replies"), name);
    const json_t *error = json_object_get(json_object_get(s->declaration, "errors"), name);
    const char *header;
    json_t *value, *headers;
    struct kf_buf date = {0};
    out->announced = UINT64_MAX;
    out->status = (unsigned)json_integer_value(json_object_get(spec, "status"));
    if (!spec && error) {
        spec = json_object_get(s->declaration, "error");
        out->status = (unsigned)json_integer_value(json_array_get(error, 0));
        kf_set(scope->vars, "code", kf_str(name));
        kf_set(scope->vars, "message", kf_str(json_string_value(json_array_get(error, 1))));
    }
    if (out->status == 0)
        out->status = spec ? 200 : 500;
    kf_expand("{http:0}", scope, &date);
    kf_set(&out->headers, "Date", kf_view(&date));
    kf_buf_fini(&date);
    headers = json_object_get(spec, "headers");
    json_object_foreach(headers, header, value)
    {
        struct kf_buf text = {0};
        kf_expand(json_string_value(value), scope, &text);
        kf_set(&out->headers, header, kf_view(&text)); /* one that comes out empty is left away */
        kf_buf_fini(&text);
    }
    if (json_is_true(json_object_get(spec, "data")) && scope->object) {
        const struct kf_object *o = scope->object;
        for (size_t i = 0; i < o->kept.n; i++)
            kf_append(&out->headers, o->kept.all[i].key, o->kept.all[i].value);
        if (scope->length > 0)
            kf_add(&out->body, o->data.data + scope->first, (size_t)scope->length);
    } else if (json_object_get(spec, "body")) {
        kf_expand(json_string_value(json_object_get(spec, "body")), scope, &out->body);
    }
}

/* ---- loading ----------------------------------------------------------------------------------- */

static bool has_reply(const json_t *declaration, const char *name)
{
    return name && (json_object_get(json_object_get(declaration, "replies"), name) ||
                    json_object_get(json_object_get(declaration, "errors"), name));
}

static bool all_strings(json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name,
                        value) if (!json_is_string(value) && !json_is_boolean(value)) return false;
    return !object || json_is_object(object);
}

static bool check_outcomes(json_t *declaration, json_t *outcomes, const char *where, char *why,
                           size_t size)
{
    const char *outcome;
    json_t *reply;
    json_object_foreach(outcomes, outcome, reply)
    {
        if (has_reply(declaration, json_string_value(reply)))
            continue;
        (void)snprintf(why, size, "%s: outcome %s names no reply that is declared", where, outcome);
        return false;
    }
    return true;
}

static bool check_route(json_t *declaration, json_t *route, size_t i, char *why, size_t size)
{
    static const char *const maps[] = {"query", "headers", "form", "take", "each"};
    char where[200];
    const char *name = json_string_value(json_object_get(route, "name"));
    (void)snprintf(where, sizeof(where), "route %zu (%s)", i + 1, name ? name : "no name");
    if (!name || !json_is_string(json_object_get(route, "do"))) {
        (void)snprintf(why, size, "%s: needs a name and what to do", where);
        return false;
    }
    for (size_t k = 0; k < sizeof(maps) / sizeof(maps[0]); k++) {
        if (!all_strings(json_object_get(route, maps[k]))) {
            (void)snprintf(why, size, "%s: %s must be an object of strings", where, maps[k]);
            return false;
        }
    }
    return check_outcomes(declaration, json_object_get(route, "replies"), where, why, size);
}

json_t *kf_load(const char *path, char *why, size_t size)
{
    json_error_t error;
    json_t *declaration = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    json_t *routes = json_object_get(declaration, "routes"), *route, *reply;
    const char *name;
    size_t i;
    if (!declaration) {
        (void)snprintf(why, size, "%s:%d: %s", path, error.line, error.text);
        return NULL;
    }
    if (!json_is_array(routes)) {
        (void)snprintf(why, size, "%s: needs an array of routes", path);
        goto refuse;
    }
    json_array_foreach(routes, i,
                       route) if (!check_route(declaration, route, i, why, size)) goto refuse;
    if (!check_outcomes(declaration, json_object_get(declaration, "outcomes"), "outcomes", why,
                        size))
        goto refuse;
    json_object_foreach(json_object_get(declaration, "replies"), name, reply)
    {
        if (all_strings(json_object_get(reply, "headers")))
            continue;
        (void)snprintf(why, size, "reply %s: headers must be an object of strings", name);
        goto refuse;
    }
    return declaration;

refuse:
    json_decref(declaration);
    return NULL;
}
