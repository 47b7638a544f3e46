/* settings.h - the config file: {"plugin id": {"option": value, ...}, ...}. */
#ifndef PST_CORE_SETTINGS_H
#define PST_CORE_SETTINGS_H

#include <penstock/status.h>

#define PST_SETTINGS_MAX_BYTES (1u << 20)

struct pst_setting {
    char *plugin, *option, *value; /* one block, at `plugin` */
    size_t bytes;                  /* of that block */
};

/* Every setting of a file, in its order. */
struct pst_settings {
    char *path; /* NULL: there is no file, and nothing is set */
    struct pst_setting *items;
    size_t n;
};

/* Read a file. Values are strings, integers or booleans; the latter two become text.
 * Errors: INVALID naming the file and the place; NO_MEMORY. */
pst_rc pst_settings_read(const char *path, struct pst_settings *out, pst_error *err);

/* The text set for one option, NULL if there is none. */
const char *pst_settings_get(const struct pst_settings *settings, const char *plugin,
                             const char *option);

/* Wipes the values: some are secrets. */
void pst_settings_fini(struct pst_settings *settings);

#endif
