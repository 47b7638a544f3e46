/* preset.c - stores opened for a purpose: local paths past the page cache. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <penstock/store.h>

#include "core/core.h"
#include "core/error.h"
#include "core/registry.h"

#define DIRECT "direct"

struct setting {
    const char *name, *value; /* the last one has no name */
};

/* The defaults of the plugin are made for it. */
static const struct setting plain[] = {{NULL, NULL}};

/* Large requests pay; short ones are quicker through the page cache, and depth hides the latency of
 * devices that are farther away than a local disk. */
static const struct setting fast[] = {
    {"queue_depth", "16"},
    {"min_io_size", "64KiB"},
    {"registered_buffers", "yes"},
    {NULL, NULL},
};
enum { SETTINGS_MAX = sizeof(fast) / sizeof(fast[0]) };

static int is_scheme(pst_str scheme, const char *name)
{
    return scheme.len == strlen(name) && strncasecmp(scheme.ptr, name, scheme.len) == 0;
}

static int is_given(const char *name, const pst_kv *options, size_t n_options)
{
    for (size_t i = 0; i < n_options; i++) {
        if (options[i].key.len == strlen(name) &&
            memcmp(options[i].key.ptr, name, options[i].key.len) == 0)
            return 1;
    }
    return 0;
}

static int is_declared(const struct pst_loaded *loaded, const char *name)
{
    for (size_t i = 0; i < loaded->n_options; i++) {
        if (strcmp(loaded->options[i].name, name) == 0)
            return 1;
    }
    return 0;
}

static pst_str str(const char *text)
{
    return pst_str_of(text, strlen(text));
}

/* Those of the preset that the plugin knows and the caller has not set, then the caller's own. */
static pst_rc open_direct(pst_context *context, pst_str uri, const struct setting *preset,
                          const pst_kv *options, size_t n_options, pst_store **out, pst_error *err)
{
    const struct pst_loaded *loaded;
    struct pst_core *core;
    size_t n = 0;
    pst_rc rc = pst_core_of(context, &core, err);

    if (rc == PST_OK)
        rc = pst_registry_find(core->registry, PST_STR(DIRECT), &loaded, err);
    if (rc != PST_OK)
        return rc;
    pst_kv *all = calloc(SETTINGS_MAX + n_options, sizeof(*all));
    if (!all)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    for (; preset->name; preset++) {
        if (is_declared(loaded, preset->name) && !is_given(preset->name, options, n_options))
            all[n++] = (pst_kv){str(preset->name), str(preset->value)};
    }
    if (n_options > 0)
        memcpy(all + n, options, n_options * sizeof(*all));
    rc = pst_store_open(context, uri, all, n + n_options, out, err);
    free(all);
    return rc;
}

static pst_rc open_preset(pst_context *context, pst_str uri, const struct setting *preset,
                          const pst_kv *options, size_t n_options, pst_store **out, pst_error *err)
{
    pst_uri parts;
    *out = NULL;
    pst_rc rc = pst_uri_parse(uri, &parts, err);

    if (rc != PST_OK)
        return rc;
    if (is_scheme(parts.scheme, DIRECT))
        return open_direct(context, uri, preset, options, n_options, out, err);
    if (!is_scheme(parts.scheme, "file"))
        return pst_store_open(context, uri, options, n_options, out, err);
    const size_t rest = uri.len - parts.scheme.len, len = strlen(DIRECT) + rest;
    char *text = malloc(len);
    if (!text)
        return pst_fail(err, PST_E_NO_MEMORY, "out of memory");
    memcpy(text, DIRECT, strlen(DIRECT));
    memcpy(text + strlen(DIRECT), uri.ptr + parts.scheme.len, rest);
    rc = open_direct(context, pst_str_of(text, len), preset, options, n_options, out, err);
    free(text);
    return rc;
}

pst_rc pst_store_open_direct_io(pst_context *context, pst_str uri, const pst_kv *options,
                                size_t n_options, pst_store **out, pst_error *err)
{
    return open_preset(context, uri, plain, options, n_options, out, err);
}

pst_rc pst_store_open_high_performance(pst_context *context, pst_str uri, const pst_kv *options,
                                       size_t n_options, pst_store **out, pst_error *err)
{
    return open_preset(context, uri, fast, options, n_options, out, err);
}
