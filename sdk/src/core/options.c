/* Options: declared by plugins, resolved and checked by the host.
 *
 * Each option takes its value from the first of: what the application gave, the environment, the
 * config file, the declared default. Every value, the default included, is brought into one form
 * (bytes, milliseconds, "1" or "0") before a plugin sees it, so that no plugin parses units and two
 * spellings of one value open one store. An environment variable that is set but empty counts as
 * not set, as with the tools whose variables plugins accept. A plugin is told the source of each
 * value: half a key from the application and half from the environment are no key.
 *
 * What fails: an option that is not declared (the nearest name is suggested), one given twice, a
 * value of the wrong form or out of its range, named with where it came from. A wrong value is
 * never replaced by the next source.
 *
 * Secrets appear in no message, no log line and no listing; in the identity of a store they are a
 * 128-bit keyed digest whose key never leaves the process. Every copy made here is wiped. */
#include "core/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/manifest.h"
#include "util/dynbuf.h"
#include "util/parse.h"
#include "util/siphash.h"
#include "util/suggest.h"

enum { IDENTITY_MAX = 1 << 20, SHOWN_BYTES = 72 };

/* ---- one value -------------------------------------------------------------------------------- */

static pst_rc refuse(const pst_option *o, pst_str value, char *why, size_t why_cap, const char *is)
{
    char shown[SHOWN_BYTES];

    if (o->flags & PST_OPT_SECRET)
        snprintf(why, why_cap, "the value (secret) %s", is);
    else
        snprintf(why, why_cap, "'%s' %s", pst_printable(value, shown, sizeof(shown)), is);
    return PST_E_INVALID;
}

static int is_choice(const char *choices, pst_str value)
{
    for (const char *at = choices;; at++) {
        const size_t n = strcspn(at, "|");
        if (n == value.len && memcmp(at, value.ptr, n) == 0)
            return 1;
        at += n;
        if (*at == '\0')
            return 0;
    }
}

static pst_rc check_range(const pst_option *o, int64_t number, pst_str value, char *why,
                          size_t why_cap)
{
    static const char *const units[] = {[PST_OPT_SIZE] = " bytes", [PST_OPT_DURATION] = " ms"};
    const char *unit = o->type == PST_OPT_INT ? "" : units[o->type];
    char is[128];

    if (o->min == o->max || (number >= o->min && number <= o->max))
        return PST_OK;
    snprintf(is, sizeof(is), "is not within %" PRId64 "..%" PRId64 "%s", o->min, o->max, unit);
    return refuse(o, value, why, why_cap, is);
}

static pst_rc normalise_number(const pst_option *o, pst_str value, char number[24], char *why,
                               size_t why_cap)
{
    int64_t parsed = 0;
    int truth = 0;
    int is_good;
    const char *is;

    switch (o->type) {
    case PST_OPT_BOOL:
        is_good = pst_parse_bool(value.ptr, value.len, &truth);
        is = "is neither true nor false";
        break;
    case PST_OPT_INT:
        is_good = pst_parse_int(value.ptr, value.len, &parsed);
        is = "is not a whole number";
        break;
    case PST_OPT_SIZE:
        is_good = pst_parse_size(value.ptr, value.len, &parsed);
        is = "is not a size such as 4096 or 8MiB";
        break;
    default:
        is_good = pst_parse_duration(value.ptr, value.len, &parsed);
        is = "is not a duration such as 500ms, 30s or 5m";
        break;
    }
    if (!is_good)
        return refuse(o, value, why, why_cap, is);
    if (o->type == PST_OPT_BOOL)
        parsed = truth;
    else if (check_range(o, parsed, value, why, why_cap) != PST_OK)
        return PST_E_INVALID;
    snprintf(number, 24, "%" PRId64, parsed);
    return PST_OK;
}

pst_rc pst_option_normalise(const pst_option *o, pst_str value, char **out, char *why,
                            size_t why_cap)
{
    char number[24];
    pst_rc rc = PST_OK;

    if (value.len > 0 && memchr(value.ptr, '\0', value.len))
        return refuse(o, value, why, why_cap, "holds a NUL byte");
    if (o->type == PST_OPT_ENUM && !is_choice(o->choices, value)) {
        char is[192];
        snprintf(is, sizeof(is), "is not one of %s", o->choices);
        return refuse(o, value, why, why_cap, is);
    }
    if (o->type == PST_OPT_PATH && value.len == 0)
        return refuse(o, value, why, why_cap, "is not a path");
    if (o->type == PST_OPT_BOOL || o->type == PST_OPT_INT || o->type == PST_OPT_SIZE ||
        o->type == PST_OPT_DURATION) {
        rc = normalise_number(o, value, number, why, why_cap);
        if (rc == PST_OK)
            value = pst_str_of(number, strlen(number));
    }
    if (rc == PST_OK) {
        *out = malloc(value.len + 1);
        if (*out) {
            if (value.len > 0)
                memcpy(*out, value.ptr, value.len);
            (*out)[value.len] = '\0';
        } else {
            rc = PST_E_NO_MEMORY;
        }
    }
    explicit_bzero(number, sizeof(number));
    return rc;
}

pst_rc pst_option_check(const pst_option *o, char *why, size_t why_cap)
{
    const int has_range = o->type == PST_OPT_INT || o->type == PST_OPT_SIZE ||
                          o->type == PST_OPT_DURATION;
    const char *fault = NULL;
    char *value = NULL;
    pst_rc rc;

    if (!pst_option_type_name(o->type))
        fault = "its type is not one that this host knows";
    else if ((o->type == PST_OPT_ENUM) != (o->choices[0] != '\0'))
        fault = "an enum has choices, and nothing else has";
    else if (o->min > o->max)
        fault = "min is over max";
    else if (o->min != o->max && !has_range)
        fault = "only numbers have a range";
    else if ((o->flags & PST_OPT_SECRET) && o->fallback)
        fault = "a secret cannot have a default";
    if (fault) {
        snprintf(why, why_cap, "%s", fault);
        return PST_E_INVALID;
    }
    if (!o->fallback)
        return PST_OK;
    rc = pst_option_normalise(o, pst_str_of(o->fallback, strlen(o->fallback)), &value, why,
                              why_cap);
    free(value);
    return rc;
}

/* ---- where a value comes from ----------------------------------------------------------------- */

static int same_name(const char *name, pst_str text)
{
    return strlen(name) == text.len && memcmp(name, text.ptr, text.len) == 0;
}

static const pst_option *find_option(const struct pst_option_scope *scope, pst_str name)
{
    for (size_t i = 0; i < scope->n_options; i++) {
        if (same_name(scope->options[i].name, name))
            return &scope->options[i];
    }
    return NULL;
}

/* The first variable of `o->env` that is set to something. */
static const char *find_variable(const pst_option *o, const char **name, size_t *name_len)
{
    const char *at = o->env;

    while (*(at += strspn(at, " "))) {
        char buf[128];
        const size_t n = strcspn(at, " ");
        if (n < sizeof(buf)) {
            memcpy(buf, at, n);
            buf[n] = '\0';
            const char *value = getenv(buf);
            if (value && value[0]) {
                *name = at;
                *name_len = n;
                return value;
            }
        }
        at += n;
    }
    return NULL;
}

static pst_rc fail_value(const struct pst_option_scope *scope, const pst_option *o, pst_rc rc,
                         uint32_t source, const char *detail, size_t detail_len, const char *why,
                         pst_error *err)
{
    static const char *const from[] = {
        [PST_SOURCE_DEFAULT] = "its default",
        [PST_SOURCE_FILE] = "config file ",
        [PST_SOURCE_ENVIRONMENT] = "environment variable ",
    };

    if (rc == PST_E_NO_MEMORY)
        return pst_fail(err, rc, "option '%s' of plugin '%s': out of memory", o->name,
                        scope->plugin_id);
    if (source == PST_SOURCE_EXPLICIT)
        return pst_fail(err, rc, "option '%s' of plugin '%s': %s", o->name, scope->plugin_id, why);
    return pst_fail(err, rc, "option '%s' of plugin '%s', from %s%.*s: %s", o->name,
                    scope->plugin_id, from[source], (int)detail_len, detail, why);
}

static void log_deprecated(const struct pst_option_scope *scope, const pst_option *o)
{
    if (scope->log && (o->flags & PST_OPT_DEPRECATED))
        pst_logf(scope->log, PST_LEVEL_WARN, "option '%s' of plugin '%s' is deprecated: %s",
                 o->name, scope->plugin_id, o->doc);
}

pst_rc pst_options_look_up(const struct pst_option_scope *scope, const pst_option *o,
                           struct pst_option_value *out, pst_error *err)
{
    char why[384];
    const char *text = NULL;

    *out = (struct pst_option_value){.source = PST_SOURCE_DEFAULT, .detail = ""};
    if (scope->use_environment) {
        text = find_variable(o, &out->detail, &out->detail_len);
        if (text)
            out->source = PST_SOURCE_ENVIRONMENT;
    }
    if (!text) {
        text = pst_settings_get(scope->settings, scope->plugin_id, o->name);
        if (text) {
            out->source = PST_SOURCE_FILE;
            out->detail = scope->settings->path;
            out->detail_len = strlen(out->detail);
        }
    }
    if (!text)
        text = o->fallback;
    if (!text)
        return PST_OK;
    pst_rc rc = pst_option_normalise(o, pst_str_of(text, strlen(text)), &out->value, why,
                                     sizeof(why));
    if (rc != PST_OK)
        return fail_value(scope, o, rc, out->source, out->detail, out->detail_len, why, err);
    if (out->source != PST_SOURCE_DEFAULT)
        log_deprecated(scope, o);
    return PST_OK;
}

void pst_option_value_fini(struct pst_option_value *value)
{
    if (value->value)
        explicit_bzero(value->value, strlen(value->value));
    free(value->value);
    value->value = NULL;
}

static pst_rc fail_unknown(const struct pst_option_scope *scope, pst_str name, const char *where,
                           pst_error *err)
{
    char shown[SHOWN_BYTES];
    struct pst_suggest suggest;

    pst_printable(name, shown, sizeof(shown));
    pst_suggest_init(&suggest, name.ptr, name.len);
    for (size_t i = 0; i < scope->n_options; i++)
        pst_suggest_offer(&suggest, scope->options[i].name);
    if (suggest.best)
        return pst_fail(err, PST_E_INVALID, "%splugin '%s' has no option '%s', did you mean '%s'?",
                        where, scope->plugin_id, shown, suggest.best);
    return pst_fail(err, PST_E_INVALID, "%splugin '%s' has no option '%s'", where, scope->plugin_id,
                    shown);
}

pst_rc pst_options_check_settings(const struct pst_option_scope *scope, pst_error *err)
{
    const struct pst_settings *settings = scope->settings;

    for (size_t i = 0; i < settings->n; i++) {
        const struct pst_setting *item = &settings->items[i];
        char why[384];
        char *value = NULL;

        if (strcmp(item->plugin, scope->plugin_id) != 0)
            continue;
        const pst_str name = pst_str_of(item->option, strlen(item->option));
        const pst_option *o = find_option(scope, name);
        if (!o) {
            pst_rc rc = fail_unknown(scope, name, "", err);
            pst_error_prefix(err, "config file %s: ", settings->path);
            return rc;
        }
        const pst_str text = pst_str_of(item->value, strlen(item->value));
        pst_rc rc = pst_option_normalise(o, text, &value, why, sizeof(why));
        if (rc != PST_OK)
            return fail_value(scope, o, rc, PST_SOURCE_FILE, settings->path, strlen(settings->path),
                              why, err);
        explicit_bzero(value, strlen(value));
        free(value);
    }
    return PST_OK;
}

/* ---- all of them ------------------------------------------------------------------------------ */

static pst_rc check_given(const struct pst_option_scope *scope, const pst_kv *given, size_t n_given,
                          pst_error *err)
{
    for (size_t i = 0; i < n_given; i++) {
        const pst_option *o = find_option(scope, given[i].key);
        if (!o)
            return fail_unknown(scope, given[i].key, "", err);
        for (size_t j = 0; j < i; j++) {
            if (same_name(o->name, given[j].key))
                return pst_fail(err, PST_E_INVALID, "option '%s' of plugin '%s' is given twice",
                                o->name, scope->plugin_id);
        }
    }
    return PST_OK;
}

static pst_rc resolve_one(const struct pst_option_scope *scope, const pst_option *o,
                          const pst_kv *given, size_t n_given, struct pst_option_value *out,
                          pst_error *err)
{
    for (size_t i = 0; i < n_given; i++) {
        char why[384];
        if (!same_name(o->name, given[i].key))
            continue;
        *out = (struct pst_option_value){.source = PST_SOURCE_EXPLICIT, .detail = ""};
        pst_rc rc = pst_option_normalise(o, given[i].value, &out->value, why, sizeof(why));
        if (rc != PST_OK)
            return fail_value(scope, o, rc, PST_SOURCE_EXPLICIT, "", 0, why, err);
        log_deprecated(scope, o);
        return PST_OK;
    }
    return pst_options_look_up(scope, o, out, err);
}

/* Lengths go before values, so that no value can look like the end of one option and the start of
 * the next. What comes from the environment is marked: a plugin may make something else of it. */
static void add_identity(const struct pst_option_scope *scope, const pst_option *o,
                         const struct pst_option_value *resolved, struct pst_dynbuf *identity)
{
    const char *value = resolved->value;
    const size_t len = strlen(value);

    if (resolved->source == PST_SOURCE_ENVIRONMENT)
        (void)pst_dynbuf_add(identity, "$", 1);
    if (o->flags & PST_OPT_SECRET)
        (void)pst_dynbuf_addf(identity, "%s=#%016" PRIx64 "%016" PRIx64 "\n", o->name,
                              pst_siphash(scope->digest_key, value, len),
                              pst_siphash(scope->digest_key + 2, value, len));
    else
        (void)pst_dynbuf_addf(identity, "%s=%zu:%s\n", o->name, len, value);
}

pst_rc pst_options_resolve(const struct pst_option_scope *scope, const pst_kv *given,
                           size_t n_given, struct pst_resolved *out, pst_error *err)
{
    struct pst_dynbuf identity;
    pst_rc rc;

    memset(out, 0, sizeof(*out));
    pst_dynbuf_init(&identity, IDENTITY_MAX);
    rc = check_given(scope, given, n_given, err);
    if (rc != PST_OK)
        goto out;
    out->kv = calloc(scope->n_options + 1, sizeof(*out->kv));
    out->sources = calloc(scope->n_options + 1, sizeof(*out->sources));
    if (!out->kv || !out->sources) {
        rc = pst_fail(err, PST_E_NO_MEMORY, "options of plugin '%s': out of memory",
                      scope->plugin_id);
        goto out;
    }
    for (size_t i = 0; i < scope->n_options; i++) {
        const pst_option *o = &scope->options[i];
        struct pst_option_value value;
        rc = resolve_one(scope, o, given, n_given, &value, err);
        if (rc != PST_OK)
            goto out;
        if (!value.value)
            continue;
        out->sources[out->n] = value.source;
        pst_kv *kv = &out->kv[out->n++];
        kv->key = pst_str_of(o->name, strlen(o->name));
        kv->value = pst_str_of(value.value, strlen(value.value));
        add_identity(scope, o, &value, &identity);
    }
    out->identity = pst_dynbuf_take(&identity);
    if (!out->identity)
        rc = identity.is_full
                 ? pst_fail(err, PST_E_INVALID, "options of plugin '%s' are over %d bytes",
                            scope->plugin_id, IDENTITY_MAX)
                 : pst_fail(err, PST_E_NO_MEMORY, "options of plugin '%s': out of memory",
                            scope->plugin_id);
out:
    pst_dynbuf_fini(&identity);
    if (rc != PST_OK)
        pst_resolved_fini(out);
    return rc;
}

void pst_resolved_fini(struct pst_resolved *resolved)
{
    for (size_t i = 0; resolved->kv && i < resolved->n; i++) {
        struct pst_option_value value = {0};
        /* Ours, though const for plugins. */
        memcpy(&value.value, &resolved->kv[i].value.ptr, sizeof(value.value));
        pst_option_value_fini(&value);
    }
    free(resolved->kv);
    free(resolved->sources);
    free(resolved->identity);
    memset(resolved, 0, sizeof(*resolved));
}
