/* Read a manifest from JSON.
 *
 * A manifest is small, written by `penstock plugins manifest`, and read before its library is: it
 * decides what will be loaded, so it is taken strictly. Wrong types, missing members, duplicate
 * keys and NUL characters are errors that name the file and the member. What is merely unknown (a
 * member, a limit, a capability of a later minor version) is skipped and recorded in `notes`.
 *
 * Format and ABI are looked at before anything else, so that a manifest of a later major version is
 * refused for that, and not for some member which changed its type. */
#include "core/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/caps.h"
#include "core/error.h"
#include "util/dynbuf.h"
#include "util/file.h"
#include "util/json.h"
#include "util/parse.h"

enum { NOTES_MAX = 1024, SCHEMES_MAX = 64, OPTIONS_MAX = 512 };

struct reader {
    const char *path;
    pst_error *err;
    struct pst_manifest *out;
    struct pst_dynbuf notes;
};

/* These return the code as a constant, so that a reader, or an analyser, of their callers sees that
 * nothing goes on after them. */
static pst_rc no_memory(const struct reader *r)
{
    (void)pst_fail(r->err, PST_E_NO_MEMORY, "manifest %s: out of memory", r->path);
    return PST_E_NO_MEMORY;
}

static pst_rc missing(const struct reader *r, const char *in, const char *member)
{
    (void)pst_fail(r->err, PST_E_BAD_PLUGIN, "manifest %s: %s'%s' is missing", r->path, in, member);
    return PST_E_BAD_PLUGIN;
}

/* "in" is what the member belongs to: "" for the root, "limits.", "option part_size: ". */
static pst_rc want(const struct reader *r, const char *in, const char *member, const char *type)
{
    (void)pst_fail(r->err, PST_E_BAD_PLUGIN, "manifest %s: %s'%s' must be %s", r->path, in, member,
                   type);
    return PST_E_BAD_PLUGIN;
}

/* Notes beyond the ceiling are dropped: they inform, nothing depends on them. */
static void note_unknown(struct reader *r, const char *in, const char *member)
{
    (void)pst_dynbuf_addf(&r->notes, "%sunknown: %s%s", r->notes.len ? ", " : "", in, member);
}

static void note_unknown_members(struct reader *r, const char *in, json_t *object,
                                 const char *const *known)
{
    const char *name;
    json_t *value;

    json_object_foreach(object, name, value)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], name) != 0)
            i++;
        if (!known[i])
            note_unknown(r, in, name);
    }
}

/* `fallback` is taken when the member is absent; NULL makes it an error. */
static pst_rc read_string(struct reader *r, const char *in, json_t *object, const char *member,
                          const char *fallback, const char **out)
{
    json_t *value = json_object_get(object, member);

    if (!value && fallback) {
        *out = fallback;
        return PST_OK;
    }
    if (!value)
        return missing(r, in, member);
    if (!json_is_string(value))
        return want(r, in, member, "a string");
    *out = pst_region_strdup(&r->out->region, json_string_value(value));
    return *out ? PST_OK : no_memory(r);
}

static pst_rc read_flag(struct reader *r, const char *in, json_t *object, const char *member,
                        uint32_t flag, uint32_t *flags)
{
    json_t *value = json_object_get(object, member);

    if (!value)
        return PST_OK;
    if (!json_is_boolean(value))
        return want(r, in, member, "true or false");
    if (json_is_true(value))
        *flags |= flag;
    return PST_OK;
}

static pst_rc read_integer(struct reader *r, const char *in, json_t *object, const char *member,
                           int64_t *out)
{
    json_t *value = json_object_get(object, member);

    if (!value)
        return PST_OK;
    if (!json_is_integer(value))
        return want(r, in, member, "an integer");
    *out = json_integer_value(value);
    return PST_OK;
}

/* An array of strings that has to be there. */
static pst_rc get_array(struct reader *r, json_t *root, const char *member, size_t max,
                        json_t **out)
{
    json_t *array = json_object_get(root, member);

    if (!array)
        return missing(r, "", member);
    if (!json_is_array(array))
        return want(r, "", member, "an array");
    if (json_array_size(array) > max)
        return want(r, "", member, "shorter");
    *out = array;
    return PST_OK;
}

static pst_rc read_format(struct reader *r, json_t *root)
{
    int64_t format = INT64_MIN;
    pst_rc rc = read_integer(r, "", root, "manifest", &format);

    if (rc != PST_OK)
        return rc;
    if (format == INT64_MIN)
        return missing(r, "", "manifest");
    if (format != PST_MANIFEST_FORMAT)
        return pst_fail(r->err, PST_E_BAD_PLUGIN,
                        "manifest %s: format %" PRId64 ", this host reads %d", r->path, format,
                        PST_MANIFEST_FORMAT);
    return PST_OK;
}

static pst_rc read_abi(struct reader *r, json_t *root)
{
    const char *abi;
    int64_t major, minor;
    pst_rc rc = read_string(r, "", root, "abi", NULL, &abi);

    if (rc != PST_OK)
        return rc;
    const size_t dot = strcspn(abi, ".");
    if (abi[dot] == '\0' || !pst_parse_int(abi, dot, &major) ||
        !pst_parse_int(abi + dot + 1, strlen(abi + dot + 1), &minor) || major < 0 ||
        major > UINT16_MAX || minor < 0 || minor > UINT16_MAX)
        return want(r, "", "abi", "like \"0.9\"");
    r->out->abi_major = (uint32_t)major;
    r->out->abi_minor = (uint32_t)minor;
    return pst_manifest_check_abi(r->out, "manifest", r->path, r->err);
}

static pst_rc read_schemes(struct reader *r, json_t *root)
{
    json_t *array;
    pst_rc rc = get_array(r, root, "schemes", SCHEMES_MAX, &array);

    if (rc != PST_OK)
        return rc;
    const size_t n = json_array_size(array);
    const char **schemes = pst_region_array(&r->out->region, n + 1, sizeof(*schemes));
    if (!schemes)
        return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        const char *scheme = json_string_value(json_array_get(array, i));
        if (!scheme)
            return want(r, "", "schemes", "an array of strings");
        schemes[i] = pst_region_strdup(&r->out->region, scheme);
        if (!schemes[i])
            return no_memory(r);
    }
    r->out->schemes = schemes;
    return PST_OK;
}

static pst_rc read_caps(struct reader *r, json_t *root)
{
    json_t *array;
    pst_rc rc = get_array(r, root, "caps", 1024, &array);

    for (size_t i = 0; rc == PST_OK && i < json_array_size(array); i++) {
        const char *name = json_string_value(json_array_get(array, i));
        if (!name)
            return want(r, "", "caps", "an array of strings");
        const uint64_t bit = pst_caps_parse(name);
        if (bit == 0)
            note_unknown(r, "capability ", name);
        r->out->caps |= bit;
    }
    return rc;
}

static pst_rc read_threads(struct reader *r, json_t *root)
{
    const char *threads;
    pst_rc rc = read_string(r, "", root, "threads", NULL, &threads);

    if (rc != PST_OK)
        return rc;
    if (strcmp(threads, "serial") == 0)
        r->out->threads = PST_THREADS_SERIAL;
    else if (strcmp(threads, "parallel") == 0)
        r->out->threads = PST_THREADS_PARALLEL;
    else
        return want(r, "", "threads", "\"serial\" or \"parallel\"");
    return PST_OK;
}

static pst_rc read_limit(struct reader *r, const char *name, json_t *value)
{
    const struct pst_limit_field *f = pst_limit_fields;
    const json_int_t n = json_integer_value(value);

    while (f->name && strcmp(f->name, name) != 0)
        f++;
    if (!f->name) {
        note_unknown(r, "limits.", name);
        return PST_OK;
    }
    if (!json_is_integer(value) || n < 0 || (f->size == sizeof(uint32_t) && n > UINT32_MAX))
        return want(r, "limits.", name,
                    f->size == sizeof(uint32_t) ? "an integer from 0 to 4294967295"
                                                : "an integer from 0 up");
    char *at = (char *)&r->out->limits + f->offset;
    const uint64_t wide = (uint64_t)n;
    const uint32_t narrow = (uint32_t)n;
    if (f->size == sizeof(wide))
        memcpy(at, &wide, sizeof(wide));
    else
        memcpy(at, &narrow, sizeof(narrow));
    return PST_OK;
}

static pst_rc read_limits(struct reader *r, json_t *root)
{
    json_t *object = json_object_get(root, "limits");
    const char *name;
    json_t *value;

    r->out->limits.struct_size = (uint32_t)sizeof(r->out->limits);
    if (!object)
        return PST_OK;
    if (!json_is_object(object))
        return want(r, "", "limits", "an object");
    json_object_foreach(object, name, value)
    {
        pst_rc rc;
        if (strcmp(name, "parts_uniform") == 0)
            rc = read_flag(r, "limits.", object, name, PST_LIMIT_PARTS_UNIFORM,
                           &r->out->limits.flags);
        else
            rc = read_limit(r, name, value);
        if (rc != PST_OK)
            return rc;
    }
    return PST_OK;
}

static pst_rc read_option(struct reader *r, json_t *object, pst_option *o)
{
    static const char *const known[] = {"name", "type", "default", "doc",        "env", "choices",
                                        "min",  "max",  "secret",  "deprecated", NULL};
    const char *type;
    char shown[64], in[96];
    pst_rc rc = read_string(r, "option: ", object, "name", NULL, &o->name);

    if (rc != PST_OK)
        return rc;
    snprintf(in, sizeof(in), "option %s: ",
             pst_printable(pst_str_of(o->name, strlen(o->name)), shown, sizeof(shown)));
    rc = read_string(r, in, object, "type", NULL, &type);
    if (rc == PST_OK && json_object_get(object, "default"))
        rc = read_string(r, in, object, "default", NULL, &o->fallback);
    if (rc == PST_OK)
        rc = read_string(r, in, object, "doc", "", &o->doc);
    if (rc == PST_OK)
        rc = read_string(r, in, object, "env", "", &o->env);
    if (rc == PST_OK)
        rc = read_string(r, in, object, "choices", "", &o->choices);
    if (rc == PST_OK)
        rc = read_integer(r, in, object, "min", &o->min);
    if (rc == PST_OK)
        rc = read_integer(r, in, object, "max", &o->max);
    if (rc == PST_OK)
        rc = read_flag(r, in, object, "secret", PST_OPT_SECRET, &o->flags);
    if (rc == PST_OK)
        rc = read_flag(r, in, object, "deprecated", PST_OPT_DEPRECATED, &o->flags);
    if (rc != PST_OK)
        return rc;
    for (o->type = PST_OPT_STRING; pst_option_type_name(o->type); o->type++) {
        if (strcmp(pst_option_type_name(o->type), type) == 0)
            break;
    }
    if (!pst_option_type_name(o->type))
        return want(r, in, "type", "string, bool, int, size, duration, enum or path");
    note_unknown_members(r, in, object, known);
    return PST_OK;
}

static pst_rc read_options(struct reader *r, json_t *root)
{
    json_t *array;
    pst_rc rc = get_array(r, root, "options", OPTIONS_MAX, &array);

    if (rc != PST_OK)
        return rc;
    const size_t n = json_array_size(array);
    pst_option *options = pst_region_array(&r->out->region, n, sizeof(*options));
    if (!options)
        return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        json_t *object = json_array_get(array, i);
        if (!json_is_object(object))
            return want(r, "", "options", "an array of objects");
        rc = read_option(r, object, &options[i]);
        if (rc != PST_OK)
            return rc;
    }
    r->out->options = options;
    r->out->n_options = n;
    return PST_OK;
}

static pst_rc read_root(struct reader *r, json_t *root)
{
    static const char *const known[] = {"manifest", "abi",     "id",      "version", "vendor",
                                        "license",  "library", "schemes", "caps",    "limits",
                                        "threads",  "options", NULL};
    struct pst_manifest *m = r->out;
    pst_rc rc;

    if (!json_is_object(root))
        return pst_fail(r->err, PST_E_BAD_PLUGIN, "manifest %s: must be a JSON object", r->path);
    rc = read_format(r, root);
    if (rc == PST_OK)
        rc = read_abi(r, root);
    if (rc == PST_OK)
        rc = read_string(r, "", root, "id", NULL, &m->id);
    if (rc == PST_OK)
        rc = read_string(r, "", root, "version", NULL, &m->version);
    if (rc == PST_OK)
        rc = read_string(r, "", root, "vendor", "", &m->vendor);
    if (rc == PST_OK)
        rc = read_string(r, "", root, "license", "", &m->license);
    if (rc == PST_OK)
        rc = read_string(r, "", root, "library", NULL, &m->library);
    if (rc == PST_OK)
        rc = read_threads(r, root);
    if (rc == PST_OK)
        rc = read_schemes(r, root);
    if (rc == PST_OK)
        rc = read_caps(r, root);
    if (rc == PST_OK)
        rc = read_limits(r, root);
    if (rc == PST_OK)
        rc = read_options(r, root);
    if (rc == PST_OK)
        rc = pst_manifest_check(m, "manifest", r->path, r->err);
    if (rc != PST_OK)
        return rc;
    note_unknown_members(r, "", root, known);
    m->notes = r->notes.len ? pst_region_strndup(&m->region, r->notes.data, r->notes.len) : "";
    return m->notes ? PST_OK : no_memory(r);
}

pst_rc pst_manifest_parse(const char *path, const char *text, size_t len, struct pst_manifest *out,
                          pst_error *err)
{
    struct reader r = {.path = path, .err = err, .out = out};
    json_error_t where;
    int is_no_memory;
    pst_rc rc;

    memset(out, 0, sizeof(*out));
    pst_dynbuf_init(&r.notes, NOTES_MAX);
    json_t *root = pst_json_parse(text, len, &where, &is_no_memory);
    if (root)
        rc = read_root(&r, root);
    else if (is_no_memory)
        rc = no_memory(&r);
    else
        rc = pst_fail(err, PST_E_BAD_PLUGIN, "manifest %s: line %d, column %d: %s", path,
                      where.line, where.column, where.text);
    json_decref(root);
    pst_dynbuf_fini(&r.notes);
    if (rc != PST_OK)
        pst_manifest_fini(out);
    return rc;
}

pst_rc pst_manifest_read(const char *path, struct pst_manifest *out, pst_error *err)
{
    char *text = NULL;
    size_t len = 0;
    int failure = pst_file_read(path, PST_MANIFEST_MAX_BYTES, &text, &len);
    pst_rc rc;

    memset(out, 0, sizeof(*out));
    if (failure == ENOMEM)
        return pst_fail(err, PST_E_NO_MEMORY, "manifest %s: out of memory", path);
    if (failure == EFBIG)
        return pst_fail(err, PST_E_BAD_PLUGIN, "manifest %s: over %u bytes", path,
                        PST_MANIFEST_MAX_BYTES);
    if (failure == ENODEV)
        return pst_fail(err, PST_E_BAD_PLUGIN, "manifest %s: not a regular file", path);
    if (failure)
        return pst_fail_errno(err, PST_E_BAD_PLUGIN, failure, "manifest %s", path);
    rc = pst_manifest_parse(path, text, len, out, err);
    free(text);
    return rc;
}

void pst_manifest_fini(struct pst_manifest *manifest)
{
    pst_region_fini(&manifest->region);
    memset(manifest, 0, sizeof(*manifest));
}
