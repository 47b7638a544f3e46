/* Map a plugin, call its entry, verify and copy what it returns.
 *
 * A plugin is code of somebody else, but a mistake in it shall cost one clear line and not a crash
 * later: so the tables are checked once, here, and copied into tables of this host's own size
 * (the smaller of the two struct_sizes, the rest zero). The rest of the host then reads any member
 * it was compiled with. Bits, flags and members that this host does not know are masked away: a
 * newer plugin cannot make it promise what it cannot keep.
 *
 * Fails with BAD_PLUGIN for a library that cannot be mapped, an entry that is missing or belongs to
 * another ABI major, tables that are cut, absent or contradict themselves, and whatever the entry
 * answers. A pointer that points nowhere cannot be seen from here.
 *
 * Nothing is ever unmapped, not even after a failure: the entry may have started threads. */
#include "core/loader.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/caps.h"
#include "core/error.h"
#include "core/fault.h"
#include "util/elf.h"

enum {
    TABLE_MAX_BYTES = 1 << 16, /* a struct_size above this is not a size */
    SCRATCH_MAX_BYTES = 4096,
    OPTIONS_MAX = 512,
};

/* The library or the static plugin that a message is about. */
struct subject {
    const char *what, *path;
    pst_error *err;
};

static pst_rc reject(const struct subject *s, const char *cause)
{
    return pst_fail(s->err, PST_E_BAD_PLUGIN, "%s %s: %s", s->what, s->path, cause);
}

/* ---- tables ----------------------------------------------------------------------------------- */

/* A table has to reach to the end of member `last`, and to be a whole number of words. */
#define TABLE_OK(T, table, last, word)                                                             \
    (PST_HAS(T, table, last) && (table)->struct_size <= TABLE_MAX_BYTES &&                         \
     (table)->struct_size % (word) == 0)

static size_t copy_bytes(uint32_t theirs, size_t ours)
{
    return theirs < ours && !PST_FAULT(COPY_WHOLE) ? theirs : ours;
}

static pst_rc check_plugin_table(const struct subject *s, const pst_plugin *p)
{
    char cause[128];

    if (!p)
        return reject(s, "the entry returned no table");
    /* struct_size and the ABI numbers are where every version of the table has them. */
    if (p->struct_size < offsetof(pst_plugin, caps) || p->struct_size > TABLE_MAX_BYTES) {
        snprintf(cause, sizeof(cause), "struct_size %u of its plugin table cannot be right",
                 p->struct_size);
        return reject(s, cause);
    }
    const struct pst_manifest abi = {.abi_major = p->abi_major, .abi_minor = p->abi_minor};
    pst_rc rc = pst_manifest_check_abi(&abi, s->what, s->path, s->err);
    if (rc != PST_OK)
        return rc;
    if (!TABLE_OK(pst_plugin, p, store_open, sizeof(void *))) {
        snprintf(cause, sizeof(cause), "struct_size %u of its plugin table is too small or cut",
                 p->struct_size);
        return reject(s, cause);
    }
    if (!p->id || !p->version || !p->schemes)
        return reject(s, "id, version or schemes is NULL");
    if (!p->ops || !p->limits)
        return reject(s, "ops or limits is NULL");
    if (!p->store_open)
        return reject(s, "store_open is NULL");
    if (p->n_options > OPTIONS_MAX)
        return reject(s, "it declares more than 512 options");
    if (p->n_options > 0 &&
        (!p->options || p->option_stride < offsetof(pst_option, reserved0) ||
         p->option_stride > TABLE_MAX_BYTES || p->option_stride % sizeof(void *) != 0))
        return reject(s, "options is NULL or option_stride is wrong");
    if (p->op_scratch > SCRATCH_MAX_BYTES) {
        snprintf(cause, sizeof(cause), "op_scratch is %u, the most is %d", p->op_scratch,
                 SCRATCH_MAX_BYTES);
        return reject(s, cause);
    }
    return PST_OK;
}

static pst_rc copy_tables(const struct subject *s, const pst_plugin *p, struct pst_loaded *l)
{
    char cause[128];
    const char *cap;

    if (!TABLE_OK(pst_backend_ops, p->ops, close, sizeof(void *)))
        return reject(s, "struct_size of its ops table is too small or cut");
    if (!TABLE_OK(pst_limits, p->limits, io_align, sizeof(uint32_t)))
        return reject(s, "struct_size of its limits is too small or cut");
    memcpy(&l->plugin, p, copy_bytes(p->struct_size, sizeof(l->plugin)));
    memcpy(&l->ops, p->ops, copy_bytes(p->ops->struct_size, sizeof(l->ops)));
    memcpy(&l->limits, p->limits, copy_bytes(p->limits->struct_size, sizeof(l->limits)));
    l->plugin.struct_size = (uint32_t)sizeof(l->plugin);
    l->ops.struct_size = (uint32_t)sizeof(l->ops);
    l->limits.struct_size = (uint32_t)sizeof(l->limits);
    l->limits.flags &= PST_LIMIT_PARTS_UNIFORM;
    l->caps = p->caps & pst_caps_known();
    l->plugin.caps = l->caps;
    l->plugin.ops = &l->ops;
    l->plugin.limits = &l->limits;
    l->id = p->id;
    if (!l->plugin.vendor)
        l->plugin.vendor = "";
    if (!l->plugin.license)
        l->plugin.license = "";
    if (!l->ops.info || !l->ops.close)
        return reject(s, "the slots info and close are required");
    const char *slot = pst_caps_missing_slot(l->caps, &l->ops, &cap);
    if (slot) {
        snprintf(cause, sizeof(cause), "declares capability '%s' but its slot '%s' is NULL", cap,
                 slot);
        return reject(s, cause);
    }
    return PST_OK;
}

/* Texts that may be NULL become "", so that nobody after this has to ask. */
static pst_rc copy_options(const struct subject *s, const pst_plugin *p, struct pst_loaded *l)
{
    pst_option *options = calloc(p->n_options + 1, sizeof(*options));

    if (!options)
        return pst_fail(s->err, PST_E_NO_MEMORY, "%s %s: out of memory", s->what, s->path);
    l->options = options;
    l->n_options = p->n_options;
    l->plugin.options = options;
    l->plugin.option_stride = sizeof(*options);
    for (size_t i = 0; i < p->n_options; i++) {
        pst_option *o = &options[i];
        const size_t n = p->option_stride < sizeof(*o) ? p->option_stride : sizeof(*o);
        memcpy(o, (const char *)p->options + i * p->option_stride, n);
        if (!o->name)
            return reject(s, "an option has no name");
        o->flags &= PST_OPT_SECRET | PST_OPT_DEPRECATED;
        if (!o->doc)
            o->doc = "";
        if (!o->env)
            o->env = "";
        if (!o->choices)
            o->choices = "";
    }
    return PST_OK;
}

void pst_loader_describe(const struct pst_loaded *l, const char *library, struct pst_manifest *out)
{
    *out = (struct pst_manifest){
        .id = l->id,
        .version = l->plugin.version,
        .vendor = l->plugin.vendor,
        .license = l->plugin.license,
        .library = library,
        .abi_major = l->plugin.abi_major,
        .abi_minor = l->plugin.abi_minor,
        .threads = l->plugin.threads,
        .caps = l->caps,
        .schemes = l->plugin.schemes,
        .limits = l->limits,
        .options = l->options,
        .n_options = l->n_options,
        .notes = "",
    };
}

/* ---- the entry -------------------------------------------------------------------------------- */

static pst_rc call_entry(const struct subject *s, pst_plugin_open_1_fn entry, const pst_host *host,
                         struct pst_loaded **out)
{
    pst_error answer = PST_ERROR_INIT;
    const pst_plugin *plugin = NULL;
    struct pst_manifest described;
    struct pst_loaded *loaded = NULL;
    pst_rc rc = entry(host, &plugin, &answer);

    if (rc != PST_OK)
        return pst_fail(s->err, PST_E_BAD_PLUGIN, "%s %s: its entry answers %s%s%s", s->what,
                        s->path, pst_rc_text(rc), answer.message[0] ? ": " : "", answer.message);
    rc = check_plugin_table(s, plugin);
    if (rc != PST_OK)
        return rc;
    loaded = calloc(1, sizeof(*loaded));
    if (!loaded)
        return pst_fail(s->err, PST_E_NO_MEMORY, "%s %s: out of memory", s->what, s->path);
    rc = copy_tables(s, plugin, loaded);
    if (rc == PST_OK)
        rc = copy_options(s, plugin, loaded);
    if (rc == PST_OK) {
        pst_loader_describe(loaded, "-", &described);
        rc = pst_manifest_check(&described, s->what, s->path, s->err);
    }
    if (rc != PST_OK) {
        pst_loader_free(loaded);
        return rc;
    }
    *out = loaded;
    return PST_OK;
}

void pst_loader_free(struct pst_loaded *loaded)
{
    void *options;

    if (!loaded)
        return;
    memcpy(&options, &loaded->options, sizeof(options)); /* ours, though const for its readers */
    free(options);
    free(loaded);
}

pst_rc pst_loader_open_static(const char *name, pst_plugin_open_1_fn entry, const pst_host *host,
                              struct pst_loaded **out, pst_error *err)
{
    const struct subject s = {"built-in plugin", name, err};

    return call_entry(&s, entry, host, out);
}

/* ---- the library ------------------------------------------------------------------------------ */

/* dlerror's text starts with the path, which our message has already. */
static pst_rc reject_dl(const struct subject *s, const char *text)
{
    const size_t n = strlen(s->path);

    if (!text)
        text = "unknown reason";
    if (strncmp(text, s->path, n) == 0 && strncmp(text + n, ": ", 2) == 0)
        text += n + 2;
    return pst_fail(s->err, PST_E_BAD_PLUGIN, "%s %s: cannot be loaded: %s", s->what, s->path,
                    text);
}

static pst_rc reject_no_entry(const struct subject *s, void *library)
{
    char symbol[] = "pst_plugin_open_2";
    char cause[128];

    for (; symbol[sizeof(symbol) - 2] <= '9'; symbol[sizeof(symbol) - 2]++) {
        if (dlsym(library, symbol)) {
            snprintf(cause, sizeof(cause),
                     "wrong ABI major: it exports %s, this host calls pst_plugin_open_1", symbol);
            return reject(s, cause);
        }
    }
    return reject(s, "not a Penstock plugin: it does not export pst_plugin_open_1");
}

static pst_rc check_whole(const struct subject *s)
{
    uint64_t has_bytes, needs_bytes;
    int failure = pst_elf_extent(s->path, &has_bytes, &needs_bytes);

    if (failure == ENODEV)
        return reject(s, "not a regular file");
    if (failure)
        return pst_fail_errno(s->err, PST_E_BAD_PLUGIN, failure, "%s %s", s->what, s->path);
    if (has_bytes < needs_bytes)
        return pst_fail(s->err, PST_E_BAD_PLUGIN,
                        "%s %s: the file is cut: %" PRIu64 " bytes of at least %" PRIu64, s->what,
                        s->path, has_bytes, needs_bytes);
    return PST_OK;
}

pst_rc pst_loader_open(const char *path, const pst_host *host, struct pst_loaded **out,
                       pst_error *err)
{
    const struct subject s = {"plugin", path, err};
    pst_plugin_open_1_fn entry;
    pst_rc rc = check_whole(&s);

    if (rc != PST_OK)
        return rc;
    errno = 0;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library && errno == ENOMEM)
        return pst_fail(err, PST_E_NO_MEMORY, "plugin %s: out of memory", path);
    if (!library)
        return reject_dl(&s, dlerror());
    void *symbol = dlsym(library, "pst_plugin_open_1");
    if (!symbol)
        return reject_no_entry(&s, library);
    memcpy(&entry, &symbol, sizeof(entry)); /* ISO C has no cast from object to function pointer */
    return call_entry(&s, entry, host, out);
}
