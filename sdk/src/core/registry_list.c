/* What the registry tells: the plugins it knows, and where their options get their values.
 *
 * Both answers are one block for one free(): rows are made first, borrowing their strings, and then
 * packed. Listing loads nothing: a plugin that is not loaded yet is told from its manifest. Fails
 * only for lack of memory, for an unknown id, and for a value that its option does not take; secrets
 * are told as "(secret)". */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/slots.h"
#include "util/dynbuf.h"
#include "util/pack.h"

enum { SCHEMES_TEXT_MAX = 8192 };

/* The pointers stay valid after the mutex is given back: what they point to is set once. */
static void tell_state(struct pst_slot *slot, uint32_t *state, const char **reason)
{
    pthread_mutex_lock(&slot->mutex);
    *state = slot->state;
    *reason = slot->reason;
    if (slot->locked.has_failed) {
        *state = PST_PLUGIN_SKIPPED;
        *reason = slot->locked.failure.message;
    } else if (slot->locked.loaded && slot->state == PST_PLUGIN_FOUND) {
        *state = PST_PLUGIN_LOADED;
    }
    pthread_mutex_unlock(&slot->mutex);
}

static char *join(const char *const *words)
{
    struct pst_dynbuf buf;

    pst_dynbuf_init(&buf, SCHEMES_TEXT_MAX);
    for (size_t i = 0; words && words[i]; i++)
        (void)pst_dynbuf_addf(&buf, "%s%s", i ? " " : "", words[i]);
    char *joined = pst_dynbuf_take(&buf);
    pst_dynbuf_fini(&buf);
    return joined;
}

static void fill_row(struct pst_slot *slot, char *schemes, pst_plugin_info *row)
{
    row->struct_size = (uint32_t)sizeof(*row);
    row->caps = slot->about.caps;
    row->id = slot->about.id ? slot->about.id : slot->static_name;
    row->version = slot->about.version;
    row->vendor = slot->about.vendor;
    row->license = slot->about.license;
    row->schemes = schemes;
    row->manifest_path = slot->found ? slot->found->manifest_path : NULL;
    row->library_path = slot->found ? slot->found->library_path : NULL;
    tell_state(slot, &row->state, &row->reason);
}

pst_rc pst_registry_list(struct pst_registry *r, pst_plugin_info **out, size_t *n, pst_error *err)
{
    pst_plugin_info *rows = calloc(r->n_slots + 1, sizeof(*rows));
    char **schemes = calloc(r->n_slots + 1, sizeof(*schemes));
    pst_rc rc = PST_OK;

    *out = NULL;
    *n = 0;
    if (!rows || !schemes) {
        rc = pst_slots_no_memory(err);
        goto out;
    }
    for (size_t i = 0; i < r->n_slots; i++) {
        schemes[i] = join(r->slots[i].about.schemes);
        if (!schemes[i]) {
            rc = pst_slots_no_memory(err);
            goto out;
        }
        fill_row(&r->slots[i], schemes[i], &rows[i]);
    }
    *out = pst_pack(rows, r->n_slots, sizeof(*rows), offsetof(pst_plugin_info, id), 8);
    if (*out)
        *n = r->n_slots;
    else
        rc = pst_slots_no_memory(err);
out:
    for (size_t i = 0; schemes && i < r->n_slots; i++)
        free(schemes[i]);
    free(schemes);
    free(rows);
    return rc;
}

void pst_plugins_free(pst_plugin_info *infos)
{
    free(infos);
}

/* The rows of a config listing and the values they borrow. */
struct config_rows {
    pst_config_entry *rows;
    struct pst_option_value *values;
    char **details;
    size_t n;
};

static pst_rc add_config(const struct pst_registry *r, const struct pst_slot *slot,
                         struct config_rows *all, pst_error *err)
{
    struct pst_option_scope scope = pst_slot_scope(r, slot->about.id, slot->about.options,
                                                   slot->about.n_options);

    scope.log = NULL; /* a listing uses nothing */
    for (size_t i = 0; i < scope.n_options; i++) {
        const pst_option *o = &scope.options[i];
        pst_config_entry *row = &all->rows[all->n];
        struct pst_option_value *value = &all->values[all->n];
        pst_rc rc = pst_options_look_up(&scope, o, value, err);
        if (rc != PST_OK)
            return rc;
        char *detail = strndup(value->detail, value->detail_len);
        all->details[all->n++] = detail;
        if (!detail)
            return pst_slots_no_memory(err);
        row->struct_size = (uint32_t)sizeof(*row);
        row->source = value->source;
        row->plugin = scope.plugin_id;
        row->option = o->name;
        row->value = value->value && (o->flags & PST_OPT_SECRET) ? "(secret)" : value->value;
        row->detail = detail;
        row->doc = o->doc;
        row->type = pst_option_type_name(o->type);
        row->env = o->env;
    }
    return PST_OK;
}

pst_rc pst_registry_config_list(struct pst_registry *r, const char *id, pst_config_entry **out,
                                size_t *n, pst_error *err)
{
    struct config_rows all = {NULL, NULL, NULL, 0};
    size_t room = 1;
    pst_rc rc = PST_OK;

    *out = NULL;
    *n = 0;
    if (id && !pst_slot_find(r, id))
        return pst_registry_load(r, id, err); /* it fails, and says why */
    for (size_t i = 0; i < r->n_slots; i++)
        room += r->slots[i].about.n_options;
    all.rows = calloc(room, sizeof(*all.rows));
    all.values = calloc(room, sizeof(*all.values));
    all.details = calloc(room, sizeof(*all.details));
    if (!all.rows || !all.values || !all.details) {
        rc = pst_slots_no_memory(err);
        goto out;
    }
    for (size_t i = 0; i < r->n_slots; i++) {
        const struct pst_slot *slot = &r->slots[i];
        if (!pst_slot_is_usable(slot) || (id && strcmp(slot->about.id, id) != 0))
            continue;
        rc = add_config(r, slot, &all, err);
        if (rc != PST_OK)
            goto out;
    }
    *out = pst_pack(all.rows, all.n, sizeof(*all.rows), offsetof(pst_config_entry, plugin), 6);
    if (*out)
        *n = all.n;
    else
        rc = pst_slots_no_memory(err);
out:
    for (size_t i = 0; i < all.n; i++) {
        pst_option_value_fini(&all.values[i]);
        free(all.details[i]);
    }
    free(all.rows);
    free(all.values);
    free(all.details);
    return rc;
}

void pst_config_free(pst_config_entry *entries)
{
    free(entries);
}
