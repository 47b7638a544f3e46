/* options.h - a plugin's declared options: check a value, find it, resolve them all. */
#ifndef PST_CORE_OPTIONS_H
#define PST_CORE_OPTIONS_H

#include "core/registry.h"
#include "core/settings.h"

/* Is this a sane declaration? Type, range, choices, fallback. On INVALID `why` says what is not. */
pst_rc pst_option_check(const pst_option *option, char *why, size_t why_cap);

/* Bring a value into the form in which plugins receive it. Ownership: free(*out), after wiping it
 * when the option is a secret. On INVALID `why` says what is wrong, without the value of a secret.
 */
pst_rc pst_option_normalise(const pst_option *option, pst_str value, char **out, char *why,
                            size_t why_cap);

/* The options of one plugin, and where to look for their values. */
struct pst_option_scope {
    const char *plugin_id;
    const pst_option *options;
    size_t n_options;
    const struct pst_settings *settings; /* of the config file */
    int use_environment;
    const uint64_t *digest_key; /* 4 words, random, for secrets in an identity */
    struct pst_log *log;        /* deprecated options are logged; NULL allowed */
};

/* See pst_registry_resolve. */
pst_rc pst_options_resolve(const struct pst_option_scope *scope, const pst_kv *given,
                           size_t n_given, struct pst_resolved *out, pst_error *err);

/* Check what the config file sets for this plugin: names and values. */
pst_rc pst_options_check_settings(const struct pst_option_scope *scope, pst_error *err);

/* Where one option gets its value without an explicit one. */
struct pst_option_value {
    char *value;        /* normalised, NULL if it has none; for pst_option_value_fini */
    uint32_t source;    /* PST_SOURCE_* */
    const char *detail; /* name of the variable or file, "" otherwise; borrowed */
    size_t detail_len;
};
pst_rc pst_options_look_up(const struct pst_option_scope *scope, const pst_option *option,
                           struct pst_option_value *out, pst_error *err);
void pst_option_value_fini(struct pst_option_value *value);

#endif
