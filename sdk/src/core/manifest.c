/* A manifest in memory: check it, compare two, write one.
 *
 * The same struct holds what a JSON file says (manifest_read.c) and what a loaded library's table
 * says (loader.c), so that checking, comparing and writing are each done in one place. A library
 * that passes pst_manifest_check can be written; what was written parses to an equal manifest.
 *
 * Failures are BAD_PLUGIN with one line that names the file and the member, or NO_MEMORY. Nothing
 * here touches the file system or a library. */
#include "core/manifest.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/caps.h"
#include "core/error.h"
#include "core/options.h"
#include "util/dynbuf.h"
#include "util/text.h"

/* Generous: the largest plugin known, S3, declares some forty options. */
enum { ID_MAX = 64, TEXT_MAX = 4096 };

#define FIELD(member)                                                                              \
    {                                                                                              \
#member, offsetof(pst_limits, member), sizeof(((pst_limits *)0)->member)                   \
    }
const struct pst_limit_field pst_limit_fields[] = {
    FIELD(object_max),   FIELD(part_min),  FIELD(part_max),      FIELD(part_multiple),
    FIELD(io_preferred), FIELD(parts_max), FIELD(list_page_max), FIELD(remove_batch_max),
    FIELD(inflight_max), FIELD(key_max),   FIELD(user_meta_max), FIELD(mem_align),
    FIELD(io_align),     {NULL, 0, 0},
};
#undef FIELD

uint64_t pst_limit_get(const pst_limits *limits, const struct pst_limit_field *field)
{
    const char *at = (const char *)limits + field->offset;
    uint64_t wide = 0;
    uint32_t narrow = 0;

    if (field->size == sizeof(wide)) {
        memcpy(&wide, at, sizeof(wide));
        return wide;
    }
    memcpy(&narrow, at, sizeof(narrow));
    return narrow;
}

const char *pst_option_type_name(uint32_t type)
{
    static const char *const names[] = {NULL,   "string",   "bool", "int",
                                        "size", "duration", "enum", "path"};

    return type < sizeof(names) / sizeof(names[0]) ? names[type] : NULL;
}

/* ---- check ------------------------------------------------------------------------------------ */

static int is_name(const char *text, const char *more)
{
    size_t i = 0;

    if (text[0] < 'a' || text[0] > 'z')
        return 0;
    for (; text[i]; i++) {
        const char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr(more, c)))
            return 0;
    }
    return i <= ID_MAX;
}

/* One line of UTF-8. */
static int is_line(const char *text)
{
    const size_t len = strnlen(text, TEXT_MAX + 1);

    if (len > TEXT_MAX || !pst_text_is_utf8(text, len))
        return 0;
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return 0;
    }
    return 1;
}

/* A relative path that stays below where it starts. */
static int is_inside(const char *path)
{
    if (path[0] == '\0' || path[0] == '/')
        return 0;
    while (*path) {
        const size_t n = strcspn(path, "/");
        if (n == 0 || (n == 2 && memcmp(path, "..", 2) == 0))
            return 0;
        path += n;
        if (*path == '/' && *++path == '\0')
            return 0;
    }
    return 1;
}

static pst_rc check_schemes(const struct pst_manifest *m, const char *what, const char *path,
                            pst_error *err)
{
    if (!m->schemes[0])
        return pst_fail(err, PST_E_BAD_PLUGIN, "%s %s: 'schemes' is empty", what, path);
    for (size_t i = 0; m->schemes[i]; i++) {
        if (!is_name(m->schemes[i], "+-."))
            return pst_fail(err, PST_E_BAD_PLUGIN, "%s %s: '%s' is not a scheme in lower case",
                            what, path, m->schemes[i]);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(m->schemes[i], m->schemes[j]) == 0)
                return pst_fail(err, PST_E_BAD_PLUGIN, "%s %s: scheme '%s' is there twice", what,
                                path, m->schemes[i]);
        }
    }
    return PST_OK;
}

static pst_rc check_options(const struct pst_manifest *m, const char *what, const char *path,
                            pst_error *err)
{
    for (size_t i = 0; i < m->n_options; i++) {
        const pst_option *o = &m->options[i];
        char why[256];

        if (!is_name(o->name, "_-."))
            return pst_fail(err, PST_E_BAD_PLUGIN, "%s %s: '%s' is not a name for an option", what,
                            path, o->name);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(o->name, m->options[j].name) == 0)
                return pst_fail(err, PST_E_BAD_PLUGIN, "%s %s: option '%s' is there twice", what,
                                path, o->name);
        }
        if (!is_line(o->doc) || !is_line(o->env) || !is_line(o->choices) ||
            (o->fallback && !is_line(o->fallback)))
            return pst_fail(err, PST_E_BAD_PLUGIN,
                            "%s %s: a text of option '%s' is not one line of UTF-8", what, path,
                            o->name);
        pst_rc rc = pst_option_check(o, why, sizeof(why));
        if (rc == PST_E_NO_MEMORY)
            return pst_fail(err, rc, "%s %s: out of memory", what, path);
        if (rc != PST_OK)
            return pst_fail(err, PST_E_BAD_PLUGIN, "%s %s: option '%s': %s", what, path, o->name,
                            why);
    }
    return PST_OK;
}

pst_rc pst_manifest_check_abi(const struct pst_manifest *m, const char *what, const char *path,
                              pst_error *err)
{
    if (m->abi_major != PST_ABI_MAJOR)
        return pst_fail(err, PST_E_BAD_PLUGIN,
                        "%s %s: plugin ABI %u.%u has the wrong major, this host takes %u.%u and up",
                        what, path, (unsigned)m->abi_major, (unsigned)m->abi_minor, PST_ABI_MAJOR,
                        PST_ABI_MINOR_OLDEST);
    if (m->abi_minor + 1u <= PST_ABI_MINOR_OLDEST) /* not <: the oldest may be 0 */
        return pst_fail(err, PST_E_BAD_PLUGIN,
                        "%s %s: plugin ABI %u.%u is too old, this host takes %u.%u and up", what,
                        path, (unsigned)m->abi_major, (unsigned)m->abi_minor, PST_ABI_MAJOR,
                        PST_ABI_MINOR_OLDEST);
    return PST_OK;
}

pst_rc pst_manifest_check(const struct pst_manifest *m, const char *what, const char *path,
                          pst_error *err)
{
    pst_rc rc = pst_manifest_check_abi(m, what, path, err);

    if (rc != PST_OK)
        return rc;
    if (!is_name(m->id, "_-."))
        return pst_fail(err, PST_E_BAD_PLUGIN,
                        "%s %s: 'id' is '%s', want lower case letters, digits, '.', '-', '_'", what,
                        path, m->id);
    if (m->version[0] == '\0')
        return pst_fail(err, PST_E_BAD_PLUGIN, "%s %s: 'version' is empty", what, path);
    if (!is_line(m->version) || !is_line(m->vendor) || !is_line(m->license) || !is_line(m->library))
        return pst_fail(err, PST_E_BAD_PLUGIN,
                        "%s %s: version, vendor, license or library is not one line of UTF-8", what,
                        path);
    if (!is_inside(m->library))
        return pst_fail(err, PST_E_BAD_PLUGIN,
                        "%s %s: 'library' is '%s', want a path relative to the manifest that stays "
                        "in its folder",
                        what, path, m->library);
    if (m->threads != PST_THREADS_SERIAL && m->threads != PST_THREADS_PARALLEL)
        return pst_fail(err, PST_E_BAD_PLUGIN, "%s %s: 'threads' is neither serial nor parallel",
                        what, path);
    if (m->caps == 0)
        return pst_fail(err, PST_E_BAD_PLUGIN, "%s %s: no capability that this host knows", what,
                        path);
    for (const struct pst_limit_field *f = pst_limit_fields; f->name; f++) {
        if (pst_limit_get(&m->limits, f) > INT64_MAX)
            return pst_fail(err, PST_E_BAD_PLUGIN, "%s %s: limits.%s is over %" PRId64, what, path,
                            f->name, INT64_MAX);
    }
    rc = check_schemes(m, what, path, err);
    return rc == PST_OK ? check_options(m, what, path, err) : rc;
}

/* ---- compare ---------------------------------------------------------------------------------- */

/* The two sides of a comparison, and where to report that they differ. */
struct sides {
    const char *manifest_path, *library_path;
    pst_error *err;
};

static pst_rc differ(const struct sides *s, const char *member, const char *manifest_value,
                     const char *library_value)
{
    return pst_fail(s->err, PST_E_BAD_PLUGIN,
                    "manifest %s says %s '%s', library %s says '%s': write the manifest anew",
                    s->manifest_path, member, manifest_value, s->library_path, library_value);
}

static pst_rc same_text(const struct sides *s, const char *member, const char *a, const char *b)
{
    return strcmp(a, b) == 0 ? PST_OK : differ(s, member, a, b);
}

static pst_rc same_number(const struct sides *s, const char *member, uint64_t a, uint64_t b)
{
    char left[24], right[24];

    if (a == b)
        return PST_OK;
    snprintf(left, sizeof(left), "%" PRIu64, a);
    snprintf(right, sizeof(right), "%" PRIu64, b);
    return differ(s, member, left, right);
}

struct text_pair {
    const char *member, *manifest_value, *library_value;
};

static pst_rc same_texts(const struct sides *s, const struct text_pair *pairs, size_t n)
{
    pst_rc rc = PST_OK;

    for (size_t i = 0; rc == PST_OK && i < n; i++)
        rc = same_text(s, pairs[i].member, pairs[i].manifest_value, pairs[i].library_value);
    return rc;
}

static pst_rc same_option(const struct sides *s, const pst_option *a, const pst_option *b)
{
    const char *const absent = "(none)";
    char left[64], right[64];
    const struct text_pair pairs[] = {
        {"type", pst_option_type_name(a->type), pst_option_type_name(b->type)},
        {"default", a->fallback ? a->fallback : absent, b->fallback ? b->fallback : absent},
        {"doc", a->doc, b->doc},
        {"env", a->env, b->env},
        {"choices", a->choices, b->choices},
        {"range and flags", left, right},
    };
    pst_rc rc = same_text(s, "option", a->name, b->name);

    if (rc != PST_OK)
        return rc;
    snprintf(left, sizeof(left), "%" PRId64 "..%" PRId64 " %u", a->min, a->max, a->flags);
    snprintf(right, sizeof(right), "%" PRId64 "..%" PRId64 " %u", b->min, b->max, b->flags);
    rc = same_texts(s, pairs, sizeof(pairs) / sizeof(pairs[0]));
    if (rc != PST_OK)
        pst_error_prefix(s->err, "option '%s': ", a->name);
    return rc;
}

static pst_rc same_caps(const struct sides *s, uint64_t a, uint64_t b)
{
    for (const struct pst_cap *cap = pst_caps; cap->name; cap++) {
        if ((a ^ b) & cap->bit) {
            char member[ID_MAX];
            snprintf(member, sizeof(member), "capability %s", cap->name);
            return differ(s, member, a & cap->bit ? "yes" : "no", b & cap->bit ? "yes" : "no");
        }
    }
    return PST_OK;
}

static pst_rc same_schemes(const struct sides *s, const char *const *a, const char *const *b)
{
    for (size_t i = 0; a[i] || b[i]; i++) {
        pst_rc rc = same_text(s, "scheme", a[i] ? a[i] : "(none)", b[i] ? b[i] : "(none)");
        if (rc != PST_OK || !a[i] || !b[i])
            return rc;
    }
    return PST_OK;
}

pst_rc pst_manifest_compare(const struct pst_manifest *m, const char *manifest_path,
                            const struct pst_manifest *l, const char *library_path, pst_error *err)
{
    const struct sides s = {manifest_path, library_path, err};
    const struct text_pair pairs[] = {
        {"id", m->id, l->id},
        {"version", m->version, l->version},
        {"vendor", m->vendor, l->vendor},
        {"license", m->license, l->license},
    };
    pst_rc rc = same_texts(&s, pairs, sizeof(pairs) / sizeof(pairs[0]));

    if (rc == PST_OK)
        rc = same_number(&s, "ABI major", m->abi_major, l->abi_major);
    if (rc == PST_OK)
        rc = same_number(&s, "ABI minor", m->abi_minor, l->abi_minor);
    if (rc == PST_OK)
        rc = same_number(&s, "threads", m->threads, l->threads);
    if (rc == PST_OK)
        rc = same_caps(&s, m->caps, l->caps);
    if (rc == PST_OK)
        rc = same_schemes(&s, m->schemes, l->schemes);
    if (rc == PST_OK)
        rc = same_number(&s, "limits.flags", m->limits.flags, l->limits.flags);
    for (const struct pst_limit_field *f = pst_limit_fields; rc == PST_OK && f->name; f++) {
        char member[64];
        snprintf(member, sizeof(member), "limits.%s", f->name);
        rc = same_number(&s, member, pst_limit_get(&m->limits, f), pst_limit_get(&l->limits, f));
    }
    if (rc == PST_OK)
        rc = same_number(&s, "number of options", m->n_options, l->n_options);
    for (size_t i = 0; rc == PST_OK && i < m->n_options; i++)
        rc = same_option(&s, &m->options[i], &l->options[i]);
    return rc;
}

/* ---- write ------------------------------------------------------------------------------------ */

/* Each setter steals its value, accepts NULL for "no memory", and returns 0 or -1. */
static int set_string(json_t *object, const char *name, const char *text)
{
    return json_object_set_new(object, name, json_string(text));
}

static int set_integer(json_t *object, const char *name, int64_t value)
{
    return json_object_set_new(object, name, json_integer(value));
}

static json_t *limits_to_json(const pst_limits *limits)
{
    json_t *object = json_object();
    int failed = object == NULL;

    for (const struct pst_limit_field *f = pst_limit_fields; !failed && f->name; f++) {
        const uint64_t value = pst_limit_get(limits, f);
        if (value > 0)
            failed = set_integer(object, f->name, (int64_t)value);
    }
    if (!failed && (limits->flags & PST_LIMIT_PARTS_UNIFORM))
        failed = json_object_set_new(object, "parts_uniform", json_true());
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *option_to_json(const pst_option *o)
{
    json_t *object = json_object();
    int failed = !object || set_string(object, "name", o->name) ||
                 set_string(object, "type", pst_option_type_name(o->type));

    if (!failed && o->fallback)
        failed = set_string(object, "default", o->fallback);
    if (!failed && o->doc[0])
        failed = set_string(object, "doc", o->doc);
    if (!failed && o->env[0])
        failed = set_string(object, "env", o->env);
    if (!failed && o->choices[0])
        failed = set_string(object, "choices", o->choices);
    if (!failed && (o->min != 0 || o->max != 0)) /* min == max is "unbounded", but kept as it is */
        failed = set_integer(object, "min", o->min) || set_integer(object, "max", o->max);
    if (!failed && (o->flags & PST_OPT_SECRET))
        failed = json_object_set_new(object, "secret", json_true());
    if (!failed && (o->flags & PST_OPT_DEPRECATED))
        failed = json_object_set_new(object, "deprecated", json_true());
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *manifest_to_json(const struct pst_manifest *m)
{
    json_t *root = json_object();
    json_t *caps = json_array();
    json_t *schemes = json_array();
    json_t *options = json_array();
    char abi[24];
    int failed = !root || !caps || !schemes || !options;

    for (const struct pst_cap *cap = pst_caps; !failed && cap->name; cap++) {
        if (m->caps & cap->bit)
            failed = json_array_append_new(caps, json_string(cap->name));
    }
    for (size_t i = 0; !failed && m->schemes[i]; i++)
        failed = json_array_append_new(schemes, json_string(m->schemes[i]));
    for (size_t i = 0; !failed && i < m->n_options; i++)
        failed = json_array_append_new(options, option_to_json(&m->options[i]));
    if (failed)
        goto out;
    snprintf(abi, sizeof(abi), "%u.%u", (unsigned)m->abi_major, (unsigned)m->abi_minor);
    failed = set_integer(root, "manifest", PST_MANIFEST_FORMAT) || set_string(root, "abi", abi) ||
             set_string(root, "id", m->id) || set_string(root, "version", m->version) ||
             set_string(root, "vendor", m->vendor) || set_string(root, "license", m->license) ||
             set_string(root, "library", m->library) ||
             set_string(root, "threads",
                        m->threads == PST_THREADS_SERIAL ? "serial" : "parallel") ||
             json_object_set_new(root, "limits", limits_to_json(&m->limits)) ||
             json_object_set(root, "caps", caps) || json_object_set(root, "schemes", schemes) ||
             json_object_set(root, "options", options);
out:
    json_decref(caps);
    json_decref(schemes);
    json_decref(options);
    if (failed) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static int append(const char *bytes, size_t len, void *buf)
{
    return pst_dynbuf_add(buf, bytes, len);
}

pst_rc pst_manifest_write(const struct pst_manifest *m, char **json, pst_error *err)
{
    struct pst_dynbuf buf;
    json_t *root = manifest_to_json(m);

    /* Not json_dumps: the caller frees with free(), an application may have given jansson other
     * allocators. */
    pst_dynbuf_init(&buf, PST_MANIFEST_MAX_BYTES);
    *json = NULL;
    if (root && json_dump_callback(root, append, &buf, JSON_INDENT(2) | JSON_SORT_KEYS) == 0 &&
        pst_dynbuf_add(&buf, "\n", 1) == 0)
        *json = pst_dynbuf_take(&buf);
    const int is_full = buf.is_full;
    pst_dynbuf_fini(&buf);
    json_decref(root);
    if (*json)
        return PST_OK;
    if (is_full)
        return pst_fail(err, PST_E_BAD_PLUGIN, "the manifest of '%s' would be over %u bytes", m->id,
                        PST_MANIFEST_MAX_BYTES);
    return pst_fail(err, PST_E_NO_MEMORY, "out of memory while writing the manifest of '%s'",
                    m->id);
}
