/* The config file.
 *
 * A flat list of (plugin, option, value): files are small and read once. Whether an option exists
 * and what its values may be is known only to the plugins, so that is checked later, for each of
 * them that is there.
 *
 * Values may be secrets. Our copies are wiped when they are given back, and so are the file's text
 * and the strings of the parsed tree; jansson's own token buffer is the one copy out of reach. */
#include "core/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "util/file.h"
#include "util/json.h"

enum { SETTINGS_MAX = 10000 };

static int add(struct pst_settings *settings, const char *plugin, const char *option,
               const char *value)
{
    const size_t plugin_bytes = strlen(plugin) + 1;
    const size_t option_bytes = strlen(option) + 1;
    const size_t value_bytes = strlen(value) + 1;
    struct pst_setting item = {.bytes = plugin_bytes + option_bytes + value_bytes};

    struct pst_setting *items = reallocarray(settings->items, settings->n + 1, sizeof(*items));
    if (!items)
        return -1;
    settings->items = items;
    item.plugin = malloc(item.bytes);
    if (!item.plugin)
        return -1;
    item.option = item.plugin + plugin_bytes;
    item.value = item.option + option_bytes;
    memcpy(item.plugin, plugin, plugin_bytes);
    memcpy(item.option, option, option_bytes);
    memcpy(item.value, value, value_bytes);
    items[settings->n++] = item;
    return 0;
}

static pst_rc add_value(struct pst_settings *settings, const char *plugin, const char *option,
                        json_t *value, pst_error *err)
{
    char number[24];
    const char *text;

    if (json_is_string(value)) {
        text = json_string_value(value);
    } else if (json_is_boolean(value)) {
        text = json_is_true(value) ? "true" : "false";
    } else if (json_is_integer(value)) {
        snprintf(number, sizeof(number), "%" PRId64, (int64_t)json_integer_value(value));
        text = number;
    } else {
        return pst_fail(err, PST_E_INVALID,
                        "config file %s: '%s.%s' must be a string, an integer, true or false",
                        settings->path, plugin, option);
    }
    if (settings->n == SETTINGS_MAX)
        return pst_fail(err, PST_E_INVALID, "config file %s: more than %d settings", settings->path,
                        SETTINGS_MAX);
    if (add(settings, plugin, option, text) != 0)
        return pst_fail(err, PST_E_NO_MEMORY, "config file %s: out of memory", settings->path);
    return PST_OK;
}

static pst_rc add_all(struct pst_settings *settings, json_t *root, pst_error *err)
{
    const char *plugin, *option;
    json_t *options, *value;

    if (!json_is_object(root))
        return pst_fail(err, PST_E_INVALID, "config file %s: must be a JSON object",
                        settings->path);
    json_object_foreach(root, plugin, options)
    {
        if (!json_is_object(options))
            return pst_fail(err, PST_E_INVALID, "config file %s: '%s' must be an object of options",
                            settings->path, plugin);
        json_object_foreach(options, option, value)
        {
            pst_rc rc = add_value(settings, plugin, option, value, err);
            if (rc != PST_OK)
                return rc;
        }
    }
    return PST_OK;
}

static pst_rc read_failure(const char *path, int failure, pst_error *err)
{
    if (failure == ENOMEM)
        return pst_fail(err, PST_E_NO_MEMORY, "config file %s: out of memory", path);
    if (failure == EFBIG)
        return pst_fail(err, PST_E_INVALID, "config file %s: over %u bytes", path,
                        PST_SETTINGS_MAX_BYTES);
    if (failure == ENODEV)
        return pst_fail(err, PST_E_INVALID, "config file %s: not a regular file", path);
    return pst_fail_errno(err, PST_E_INVALID, failure, "config file %s", path);
}

/* The place, but not the text around it: that may be a secret. */
static pst_rc parse_failure(const char *path, const json_error_t *where, pst_error *err)
{
    const char *near = strstr(where->text, " near ");
    const int len = near ? (int)(near - where->text) : (int)strlen(where->text);
    const int has_name = json_error_code(where) == json_error_duplicate_key;

    return pst_fail(err, PST_E_INVALID, "config file %s: line %d, column %d: %.*s", path,
                    where->line, where->column, has_name ? JSON_ERROR_TEXT_LENGTH : len,
                    where->text);
}

pst_rc pst_settings_read(const char *path, struct pst_settings *out, pst_error *err)
{
    json_t *root = NULL;
    json_error_t where;
    char *text = NULL;
    size_t len = 0;
    int is_no_memory;
    pst_rc rc;

    memset(out, 0, sizeof(*out));
    int failure = pst_file_read(path, PST_SETTINGS_MAX_BYTES, &text, &len);
    if (failure) {
        rc = read_failure(path, failure, err);
        goto out;
    }
    out->path = strdup(path);
    if (!out->path) {
        rc = read_failure(path, ENOMEM, err);
        goto out;
    }
    root = pst_json_parse(text, len, &where, &is_no_memory);
    if (root)
        rc = add_all(out, root, err);
    else if (is_no_memory)
        rc = read_failure(path, ENOMEM, err);
    else
        rc = parse_failure(path, &where, err);
out:
    pst_json_wipe(root);
    if (text)
        explicit_bzero(text, len);
    free(text);
    if (rc != PST_OK)
        pst_settings_fini(out);
    return rc;
}

const char *pst_settings_get(const struct pst_settings *settings, const char *plugin,
                             const char *option)
{
    for (size_t i = 0; i < settings->n; i++) {
        const struct pst_setting *item = &settings->items[i];
        if (strcmp(item->plugin, plugin) == 0 && strcmp(item->option, option) == 0)
            return item->value;
    }
    return NULL;
}

void pst_settings_fini(struct pst_settings *settings)
{
    for (size_t i = 0; i < settings->n; i++) {
        explicit_bzero(settings->items[i].plugin, settings->items[i].bytes);
        free(settings->items[i].plugin);
    }
    free(settings->items);
    free(settings->path);
    memset(settings, 0, sizeof(*settings));
}
