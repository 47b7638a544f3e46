/* fault_rule.c - which request meets which fault, and what a fault does to a reply before it is sent.
 * What it does to the sending is in fault_wire.c.
 *
 * A rule is {"on": action or route, "key": pattern, "nth": 1, "times": 1, "fault": ...}: it waits for the
 * nth request that fits and takes that one and the next, `times` in all; 0 takes every one from there.
 * The first rule that wants a request has it. */
#include <stdio.h>
#include <string.h>

#include "fault.h"
#include "kit.h"

static const char *const members[] = {
    "reply",       "apply",  "status",     "headers",  "body",      "cut",     "stall",
    "drip",        "extend", "close",      "delay_ms", "shorten",   "chunked", "content_length",
    "range",       "shift",  "filler",     "etag",     "garbage",   "flip",    "content_range",
    "cut_request", "doc",    "refuse_key", "interim",  "conditions"};

static bool check_fault(const json_t *fault, char *why, size_t size)
{
    const char *name;
    json_t *value, *object = NULL;
    memcpy(&object, &fault, sizeof(object));
    json_object_foreach(object, name, value)
    {
        bool is_known = false;
        for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
            is_known |= strcmp(name, members[i]) == 0;
        if (!is_known) {
            (void)snprintf(why, size, "a fault has no member %s", name);
            return false;
        }
    }
    return true;
}

static bool fits_one(const json_t *on, const struct kf_route *route)
{
    const char *text = json_string_value(on);
    return text && (strcmp(text, route->action) == 0 || strcmp(text, route->name) == 0 ||
                    strcmp(text, "*") == 0);
}

static bool fits(const json_t *on, const struct kf_route *route)
{
    for (size_t i = 0; json_is_array(on) && i < json_array_size(on); i++)
        if (fits_one(json_array_get(on, i), route))
            return true;
    return fits_one(on, route);
}

bool kf_set_rules(struct kf_server *s, json_t *rules, char *why, size_t size)
{
    if (!json_is_array(rules) || json_array_size(rules) > KF_RULES_MAX) {
        (void)snprintf(why, size, "needs an array of at most %u rules", KF_RULES_MAX);
        return false;
    }
    struct kf_rule made[KF_RULES_MAX];
    memset(made, 0, sizeof(made));
    for (size_t i = 0; i < json_array_size(rules); i++) {
        json_t *rule = json_array_get(rules, i);
        json_t *fault = json_object_get(rule, "fault");
        if (json_is_string(fault)) {
            const char *name = json_string_value(fault);
            fault = json_object_get(json_object_get(s->declaration, "faults"), name);
            if (!fault) {
                (void)snprintf(why, size, "the declaration has no fault %s", name);
                return false;
            }
        }
        if (!json_is_object(fault) || !json_object_get(rule, "on")) {
            (void)snprintf(why, size, "rule %zu needs \"on\" and \"fault\"", i + 1);
            return false;
        }
        if (!check_fault(fault, why, size))
            return false;
        made[i].spec = rule;
        made[i].fault = fault;
    }
    for (size_t i = 0; i < s->n_rules; i++) {
        json_decref(s->rules[i].spec);
        json_decref(s->rules[i].fault);
    }
    s->n_rules = json_array_size(rules);
    for (size_t i = 0; i < s->n_rules; i++) {
        s->rules[i] = made[i];
        (void)json_incref(made[i].spec);
        (void)json_incref(made[i].fault);
    }
    return true;
}

static bool wants(const struct kf_rule *rule, const struct kf_route *route,
                  const struct kf_fields *vars)
{
    const char *key = json_string_value(json_object_get(rule->spec, "key"));
    return fits(json_object_get(rule->spec, "on"), route) &&
           (!key || kf_glob(key, kf_get(vars, "key")));
}

/* Is it this rule's turn when it sees a request as its n-th? */
static bool is_due(const struct kf_rule *rule, unsigned n)
{
    const json_t *nth_member = json_object_get(rule->spec, "nth");
    const json_t *times_member = json_object_get(rule->spec, "times");
    unsigned nth = nth_member ? (unsigned)json_integer_value(nth_member) : 1;
    unsigned times = times_member ? (unsigned)json_integer_value(times_member) : 1;
    return n >= nth && (times == 0 || n < nth + times);
}

json_t *kf_pick(struct kf_server *s, const struct kf_route *route, const struct kf_fields *vars)
{
    json_t *picked = NULL;
    for (size_t i = 0; i < s->n_rules; i++) {
        struct kf_rule *rule = &s->rules[i];
        if (!wants(rule, route, vars))
            continue;
        rule->n_seen++;
        if (!picked && is_due(rule, rule->n_seen))
            picked = rule->fault;
    }
    return picked;
}

bool kf_breaks_body(struct kf_server *s, const struct kf_request *r, uint64_t *at)
{
    bool is_wanted = false, breaks = false;
    for (size_t i = 0; i < s->n_rules; i++)
        is_wanted |= json_object_get(s->rules[i].fault, "cut_request") != NULL;
    if (!is_wanted)
        return false;
    struct kf_fields vars = {0};
    struct kf_route *route = kf_match(s, r, &vars);
    for (size_t i = 0; route && i < s->n_rules; i++) {
        struct kf_rule *rule = &s->rules[i];
        const json_t *cut = json_object_get(rule->fault, "cut_request");
        if (breaks || !cut || !wants(rule, route, &vars) || !is_due(rule, rule->n_seen + 1))
            continue;
        rule->n_seen++;
        *at = (uint64_t)json_integer_value(cut);
        breaks = true;
    }
    if (breaks)
        kf_log(s, r, route, &vars, 0, NULL);
    else if (route)
        route->n_hits--; /* it is matched again once its body is there */
    kf_fields_fini(&vars);
    return breaks;
}

/* ---- what becomes of the reply ----------------------------------------------------------------- */

static void spoil_headers(const json_t *fault, const struct kf_scope *scope, struct kf_reply *reply)
{
    const char *name, *range = json_string_value(json_object_get(fault, "content_range"));
    json_t *value, *headers = json_object_get(fault, "headers");
    struct kf_buf text = {0};
    json_object_foreach(headers, name, value)
    {
        text.len = 0;
        kf_expand(json_is_string(value) ? json_string_value(value) : "", scope, &text);
        kf_set(&reply->headers, name, kf_view(&text));
    }
    if (range) {
        text.len = 0;
        kf_expand(strcmp(range, "none") == 0 ? "" : range, scope, &text);
        kf_set(&reply->headers, "content-range", kf_view(&text));
    }
    kf_buf_fini(&text);
}

static void fill_up(struct kf_reply *reply, uint64_t n)
{
    char line[1000];
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    for (uint64_t i = 0; i * 1000 < n; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "x-filler-%llu", (unsigned long long)i);
        kf_append(&reply->headers, kf_str(name), kf_str(line));
    }
}

void kf_spoil(struct kf_server *s, json_t *fault, const struct kf_scope *scope,
              struct kf_reply *reply)
{
    const json_t *status = json_object_get(fault, "status");
    const json_t *body = json_object_get(fault, "body"), *flip = json_object_get(fault, "flip");
    const json_t *filler = json_object_get(fault, "filler");
    uint64_t extend = (uint64_t)json_integer_value(json_object_get(fault, "extend"));
    uint64_t shorten = (uint64_t)json_integer_value(json_object_get(fault, "shorten"));
    if (status)
        reply->status = (unsigned)json_integer_value(status);
    if (body) {
        reply->body.len = 0;
        kf_expand(json_string_value(body), scope, &reply->body);
    }
    spoil_headers(fault, scope, reply);
    if (json_object_get(fault, "etag"))
        kf_setf(&reply->headers, "etag", "\"changed-%llu\"", (unsigned long long)s->n_requests);
    if (filler)
        fill_up(reply, (uint64_t)json_integer_value(filler));
    if (flip && (uint64_t)json_integer_value(flip) < reply->body.len)
        reply->body.data[json_integer_value(flip)] ^= 1;
    if (extend > 0 && extend < 1u << 26) {
        unsigned char *more = k_alloc((size_t)extend);
        memset(more, 0xee, (size_t)extend);
        kf_add(&reply->body, more, (size_t)extend);
        k_free(more);
    }
    if (shorten > 0) {
        reply->announced = reply->body.len;
        reply->body.len -= shorten < reply->body.len ? (size_t)shorten : reply->body.len;
    }
    if (json_is_integer(json_object_get(fault, "content_length")))
        reply->announced = (uint64_t)json_integer_value(json_object_get(fault, "content_length"));
}
