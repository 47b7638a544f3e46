/* The registry of one context: which plugins there are, and the loading of each on first use.
 *
 * Slots are made once, when the context is made: plugins that are linked in first, then manifests in
 * the order of the search. Their number and order never change after that, so they are walked
 * without a lock; what does change (a plugin gets loaded, or fails to) is in each slot under its own
 * mutex. Two threads that need one plugin load it once, two that need different ones do not wait
 * for each other.
 *
 * A plugin that fails to load stays failed, with the same error for everybody: its entry may have
 * left threads behind, and trying again with every request would hide the first cause. Only a lack
 * of memory is forgotten.
 *
 * It does not fall through: when the first plugin of a scheme cannot be loaded, a second one of the
 * same scheme is not tried, because it would answer with other options under another name. */
#include "core/registry.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>

#include "core/error.h"
#include "core/loader.h"
#include "core/slots.h"
#include "core/static_plugins.h"
#include "core/strict.h"
#include "util/dynbuf.h"
#include "util/suggest.h"
#include "util/text.h"

enum { NO_SCHEME_NAMED = 4, LIST_TEXT_MAX = 4096, PATH_TEXT_MAX = 8192 };

pst_rc pst_slots_no_memory(pst_error *err)
{
    return pst_fail(err, PST_E_NO_MEMORY, "out of memory in the plugin registry");
}

int pst_slot_is_usable(const struct pst_slot *slot)
{
    return slot->about.id && (slot->state == PST_PLUGIN_FOUND || slot->state == PST_PLUGIN_STATIC);
}

static const char *slot_path(const struct pst_slot *slot)
{
    return slot->found ? slot->found->manifest_path : slot->static_name;
}

/* ---- making it -------------------------------------------------------------------------------- */

static struct pst_slot *add_slot(struct pst_registry *r)
{
    struct pst_slot *slot = &r->slots[r->n_slots];

    if (pthread_mutex_init(&slot->mutex, NULL) != 0)
        return NULL;
    r->n_slots++;
    return slot;
}

static pst_rc add_static(struct pst_registry *r, const struct pst_static_plugin *plugin,
                         pst_error *err)
{
    pst_error why = PST_ERROR_INIT;
    struct pst_slot *slot = add_slot(r);

    if (!slot)
        return pst_slots_no_memory(err);
    slot->static_name = strdup(plugin->name);
    if (!slot->static_name)
        return pst_slots_no_memory(err);
    pst_rc rc = pst_loader_open_static(plugin->name, plugin->open, r->host, &slot->locked.loaded,
                                       &why);
    if (rc == PST_E_NO_MEMORY)
        return pst_slots_no_memory(err);
    if (rc == PST_OK) {
        slot->state = PST_PLUGIN_STATIC;
        pst_loader_describe(slot->locked.loaded, "", &slot->about);
        return PST_OK;
    }
    slot->state = PST_PLUGIN_SKIPPED;
    slot->reason = strdup(why.message);
    return slot->reason ? PST_OK : pst_slots_no_memory(err);
}

static pst_rc add_found(struct pst_registry *r, const struct pst_discovered *found, pst_error *err)
{
    struct pst_slot *slot = add_slot(r);

    if (!slot)
        return pst_slots_no_memory(err);
    slot->found = found;
    slot->about = found->manifest; /* borrowed: `discovery` owns it */
    slot->state = found->reason ? PST_PLUGIN_SKIPPED : PST_PLUGIN_FOUND;
    if (found->reason) {
        slot->reason = strdup(found->reason);
        if (!slot->reason)
            return pst_slots_no_memory(err);
    }
    return PST_OK;
}

/* The first usable plugin of an id wins. */
static pst_rc mark_shadowed(struct pst_registry *r, pst_error *err)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        struct pst_slot *slot = &r->slots[i];
        for (size_t j = 0; j < i && pst_slot_is_usable(slot); j++) {
            const struct pst_slot *first = &r->slots[j];
            struct pst_dynbuf reason;
            if (!pst_slot_is_usable(first) || strcmp(first->about.id, slot->about.id) != 0)
                continue;
            pst_dynbuf_init(&reason, PATH_TEXT_MAX);
            (void)pst_dynbuf_addf(&reason, "shadowed by %s%s",
                                  first->found ? "" : "the built-in plugin ", slot_path(first));
            slot->reason = pst_dynbuf_take(&reason);
            pst_dynbuf_fini(&reason);
            if (!slot->reason)
                return pst_slots_no_memory(err);
            slot->state = PST_PLUGIN_SHADOWED;
        }
    }
    return PST_OK;
}

struct pst_option_scope pst_slot_scope(const struct pst_registry *r, const char *id,
                                       const pst_option *options, size_t n_options)
{
    return (struct pst_option_scope){
        .plugin_id = id,
        .options = options,
        .n_options = n_options,
        .settings = &r->settings,
        .use_environment = !(r->flags & PST_CONTEXT_NO_ENVIRONMENT),
        .digest_key = r->digest_key,
        .log = r->log,
    };
}

const struct pst_slot *pst_slot_find(const struct pst_registry *r, const char *id)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        if (pst_slot_is_usable(&r->slots[i]) && strcmp(r->slots[i].about.id, id) == 0)
            return &r->slots[i];
    }
    return NULL;
}

static pst_rc read_settings(struct pst_registry *r, const char *path, pst_error *err)
{
    pst_rc rc;

    if (!path && !(r->flags & PST_CONTEXT_NO_ENVIRONMENT)) {
        path = getenv("PENSTOCK_CONFIG");
        if (path && !path[0])
            path = NULL;
    }
    if (!path)
        return PST_OK;
    rc = pst_settings_read(path, &r->settings, err);
    for (size_t i = 0; rc == PST_OK && i < r->n_slots; i++) {
        const struct pst_slot *slot = &r->slots[i];
        if (pst_slot_is_usable(slot)) {
            const struct pst_option_scope scope = pst_slot_scope(
                r, slot->about.id, slot->about.options, slot->about.n_options);
            rc = pst_options_check_settings(&scope, err);
        }
    }
    for (size_t i = 0; rc == PST_OK && i < r->settings.n; i++) {
        const char *id = r->settings.items[i].plugin;
        const int is_first = i == 0 || strcmp(r->settings.items[i - 1].plugin, id) != 0;
        if (is_first && !pst_slot_find(r, id))
            pst_logf(r->log, PST_LEVEL_WARN,
                     "config file %s: there is no plugin '%s' here, its options are ignored", path,
                     id);
    }
    return rc;
}

static void log_found(const struct pst_registry *r)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        const struct pst_slot *slot = &r->slots[i];
        if (slot->state == PST_PLUGIN_SHADOWED)
            pst_logf(r->log, PST_LEVEL_INFO, "plugin %s: %s", slot_path(slot), slot->reason);
        else if (slot->reason)
            pst_logf(r->log, PST_LEVEL_INFO, "plugin skipped: %s", slot->reason);
        if (slot->about.notes && slot->about.notes[0])
            pst_logf(r->log, PST_LEVEL_INFO, "plugin %s: %s", slot_path(slot), slot->about.notes);
    }
}

pst_rc pst_registry_new(const struct pst_registry_config *config, struct pst_registry **out,
                        pst_error *err)
{
    struct pst_registry *r = calloc(1, sizeof(*r));
    size_t n_static = 0;
    pst_rc rc = PST_OK;

    *out = NULL;
    if (!r)
        return pst_slots_no_memory(err);
    r->flags = config->flags;
    if (getauxval(AT_SECURE))
        r->flags |= PST_CONTEXT_NO_ENVIRONMENT;
    r->host = config->host;
    r->log = config->log;
    if (getrandom(r->digest_key, sizeof(r->digest_key), 0) != (ssize_t)sizeof(r->digest_key)) {
        rc = pst_fail(err, PST_E_INTERNAL, "the kernel gives no random numbers");
        goto out;
    }
    rc = pst_discover(r->flags, config->plugin_dirs, &r->discovery, err);
    if (rc != PST_OK)
        goto out;
    while (pst_static_plugins[n_static].open)
        n_static++;
    r->slots = calloc(n_static + r->discovery.n + 1, sizeof(*r->slots));
    if (!r->slots) {
        rc = pst_slots_no_memory(err);
        goto out;
    }
    for (size_t i = 0; rc == PST_OK && i < n_static; i++)
        rc = add_static(r, &pst_static_plugins[i], err);
    for (size_t i = 0; rc == PST_OK && i < r->discovery.n; i++)
        rc = add_found(r, &r->discovery.items[i], err);
    if (rc == PST_OK)
        rc = mark_shadowed(r, err);
    if (rc == PST_OK)
        rc = read_settings(r, config->config_file, err);
    if (rc != PST_OK)
        goto out;
    log_found(r);
    *out = r;
    r = NULL;
out:
    pst_registry_free(r);
    return rc;
}

void pst_registry_free(struct pst_registry *r)
{
    if (!r)
        return;
    for (size_t i = 0; r->slots && i < r->n_slots; i++) {
        struct pst_slot *slot = &r->slots[i];
        struct pst_loaded *loaded = slot->locked.loaded;
        if (loaded && loaded->plugin.shutdown)
            loaded->plugin.shutdown(r->host);
        pst_loader_free(loaded);
        pthread_mutex_destroy(&slot->mutex);
        free(slot->static_name);
        free(slot->reason);
    }
    free(r->slots);
    pst_discovery_fini(&r->discovery);
    pst_settings_fini(&r->settings);
    explicit_bzero(r->digest_key, sizeof(r->digest_key));
    free(r);
}

void pst_registry_fork_child(struct pst_registry *r)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        struct pst_slot *slot = &r->slots[i];
        pthread_mutex_init(&slot->mutex, NULL); /* a thread that is gone may have held it */
        const struct pst_loaded *loaded = slot->locked.loaded;
        if (loaded && loaded->plugin.fork_child)
            loaded->plugin.fork_child(r->host);
    }
}

/* ---- loading ---------------------------------------------------------------------------------- */

static pst_rc load_library(const struct pst_registry *r, const struct pst_slot *slot,
                           struct pst_loaded **out, pst_error *err)
{
    const char *path = slot->found->library_path;
    struct pst_loaded *loaded = NULL;
    struct pst_manifest says;
    pst_rc rc = PST_OK;

    /* Again: time has passed since the search. */
    if (r->flags & PST_CONTEXT_STRICT)
        rc = pst_strict_check(path, err);
    if (rc == PST_OK)
        rc = pst_loader_open(path, r->host, &loaded, err);
    if (rc != PST_OK)
        return rc;
    pst_loader_describe(loaded, slot->about.library, &says);
    rc = pst_manifest_compare(&slot->about, slot->found->manifest_path, &says, path, err);
    if (rc != PST_OK) {
        if (loaded->plugin.shutdown)
            loaded->plugin.shutdown(r->host);
        pst_loader_free(loaded);
        return rc;
    }
    *out = loaded;
    return PST_OK;
}

static pst_rc load_locked(const struct pst_registry *r, struct pst_slot *slot, pst_error *err)
{
    pst_error why = PST_ERROR_INIT;

    if (slot->locked.loaded)
        return PST_OK;
    if (slot->locked.has_failed) {
        pst_error_copy(err, &slot->locked.failure);
        return slot->locked.failure.code;
    }
    pst_rc rc = load_library(r, slot, &slot->locked.loaded, &why);
    if (rc == PST_OK) {
        pst_logf(r->log, PST_LEVEL_INFO, "plugin '%s' %s: loaded from %s", slot->about.id,
                 slot->about.version, slot->found->library_path);
        return PST_OK;
    }
    if (rc != PST_E_NO_MEMORY) {
        slot->locked.has_failed = 1;
        slot->locked.failure = why;
        pst_logf(r->log, PST_LEVEL_ERROR, "%s", why.message);
    }
    pst_error_copy(err, &why);
    return rc;
}

static pst_rc load(const struct pst_registry *r, struct pst_slot *slot,
                   const struct pst_loaded **out, pst_error *err)
{
    pthread_mutex_lock(&slot->mutex);
    pst_rc rc = load_locked(r, slot, err);
    if (rc == PST_OK && out)
        *out = slot->locked.loaded;
    pthread_mutex_unlock(&slot->mutex);
    return rc;
}

static int serves(const struct pst_slot *slot, pst_str scheme)
{
    const char *const *s = slot->about.schemes;

    for (; s && *s; s++) {
        if (pst_text_equals_nocase(scheme.ptr, scheme.len, *s))
            return 1;
    }
    return 0;
}

/* "no plugin serves 'x' (did you mean 'y'?); known schemes: a, b; skipped: why; skipped: why" */
static pst_rc fail_no_scheme(const struct pst_registry *r, pst_str scheme, pst_error *err)
{
    char shown[72];
    struct pst_suggest suggest;
    struct pst_dynbuf known, skipped;
    size_t n_skipped = 0;

    pst_suggest_init(&suggest, scheme.ptr, scheme.len);
    pst_dynbuf_init(&known, LIST_TEXT_MAX);
    pst_dynbuf_init(&skipped, LIST_TEXT_MAX);
    for (size_t i = 0; i < r->n_slots; i++) {
        const struct pst_slot *slot = &r->slots[i];
        for (const char *const *s = slot->about.schemes; pst_slot_is_usable(slot) && *s; s++) {
            pst_suggest_offer(&suggest, *s);
            (void)pst_dynbuf_addf(&known, "%s%s", known.len ? ", " : "", *s);
        }
        if (slot->state == PST_PLUGIN_SKIPPED && n_skipped++ < NO_SCHEME_NAMED)
            (void)pst_dynbuf_addf(&skipped, "; skipped: %s", slot->reason);
    }
    if (n_skipped > NO_SCHEME_NAMED)
        (void)pst_dynbuf_addf(&skipped, " and %zu more", n_skipped - NO_SCHEME_NAMED);
    pst_rc rc = pst_fail(err, PST_E_NO_SCHEME, "no plugin serves '%s'%s%s%s; known schemes: %s%s",
                         pst_printable(scheme, shown, sizeof(shown)),
                         suggest.best ? " (did you mean '" : "", suggest.best ? suggest.best : "",
                         suggest.best ? "'?)" : "", known.len ? known.data : "none",
                         skipped.len ? skipped.data : "");
    pst_dynbuf_fini(&known);
    pst_dynbuf_fini(&skipped);
    return rc;
}

pst_rc pst_registry_find(struct pst_registry *r, pst_str scheme, const struct pst_loaded **out,
                         pst_error *err)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        if (pst_slot_is_usable(&r->slots[i]) && serves(&r->slots[i], scheme))
            return load(r, &r->slots[i], out, err);
    }
    return fail_no_scheme(r, scheme, err);
}

pst_rc pst_registry_load(struct pst_registry *r, const char *id, pst_error *err)
{
    const struct pst_slot *skipped = NULL;
    struct pst_suggest suggest;

    pst_suggest_init(&suggest, id, strlen(id));
    for (size_t i = 0; i < r->n_slots; i++) {
        struct pst_slot *slot = &r->slots[i];
        const int is_it = slot->about.id && strcmp(slot->about.id, id) == 0;
        if (is_it && pst_slot_is_usable(slot))
            return load(r, slot, NULL, err);
        if (is_it && !skipped)
            skipped = slot;
        if (pst_slot_is_usable(slot))
            pst_suggest_offer(&suggest, slot->about.id);
    }
    if (skipped)
        return pst_fail(err, PST_E_BAD_PLUGIN, "plugin '%s' cannot be used: %s", id,
                        skipped->reason);
    return pst_fail(err, PST_E_NOT_FOUND, "there is no plugin '%s'%s%s%s", id,
                    suggest.best ? ", did you mean '" : "", suggest.best ? suggest.best : "",
                    suggest.best ? "'?" : "");
}

pst_rc pst_registry_resolve(struct pst_registry *r, const struct pst_loaded *loaded,
                            const pst_kv *given, size_t n_given, struct pst_resolved *out,
                            pst_error *err)
{
    const struct pst_option_scope scope = pst_slot_scope(r, loaded->id, loaded->options,
                                                         loaded->n_options);

    return pst_options_resolve(&scope, given, n_given, out, err);
}
