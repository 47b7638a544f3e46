/* store.c - loading the plugin and opening stores, as a host does it, with what must be checked on
 * the way. Options are declared by the plugin and resolved here: given on the command line, else from
 * the environment, else the fallback; values reach the plugin in the form that plugin.h promises. */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>

#include "kit_fault.h"

bool k_load(struct k_test *t)
{
    if (t->entry)
        return true;
    if (t->config->linked) {
        t->entry = t->config->linked;
        return true;
    }
    k_step(t, "loading %s", t->config->path);
    void *library = dlopen(t->config->path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library) {
        k_fail(t,
               "expected dlopen(RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) to load the file, got: %s",
               dlerror());
        return false;
    }
    void *symbol = dlsym(library, "pst_plugin_open_1");
    if (!symbol) {
        k_fail(t, "expected the symbol pst_plugin_open_1, got: %s", dlerror());
        return false;
    }
    memcpy(&t->entry, &symbol, sizeof(symbol));
    return true;
}

bool k_enter(struct k_host *host, const pst_plugin **out)
{
    struct k_test *t = host->test;
    if (!k_load(t))
        return false;
    k_step(t, "calling pst_plugin_open_1");
    pst_error err = PST_ERROR_INIT;
    const pst_plugin *plugin = NULL;
    pst_rc rc = t->entry(host->table, &plugin, &err);
    if (rc != PST_OK) {
        k_fail(t, "expected pst_plugin_open_1 to return OK, got %s: %s", k_rc_name(rc),
               err.message);
        return false;
    }
    if (!plugin || plugin->struct_size < offsetof(pst_plugin, query) + sizeof(plugin->query) ||
        !plugin->ops || !plugin->store_open || !plugin->limits || !plugin->schemes || !plugin->id) {
        k_fail(t,
               "expected a complete pst_plugin with ops, store_open, limits, schemes and id, got "
               "%s",
               plugin ? "one where some are missing" : "NULL");
        return false;
    }
    *out = plugin;
    return true;
}

/* ---- options ----------------------------------------------------------------------------------- */

static bool parse_scaled(const char *text, const char *const *units, const int64_t *factors,
                         char *out, size_t size)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text)
        return false;
    for (size_t i = 0; units[i]; i++) {
        if (strcasecmp(end, units[i]) == 0 && value <= INT64_MAX / factors[i] && value >= 0) {
            (void)snprintf(out, size, "%" PRId64, (int64_t)value * factors[i]);
            return true;
        }
    }
    return false;
}

static bool resolve_value(const pst_option *o, const char *text, char *out, size_t size)
{
    static const char *const sizes[] = {"", "B", "KiB", "MiB", "GiB", "KB", "MB", "GB", NULL};
    static const int64_t size_factors[] = {1,       1,    1 << 10, 1 << 20,
                                           1 << 30, 1000, 1000000, 1000000000};
    static const char *const times[] = {"ms", "s", "m", "h", "", NULL};
    static const int64_t time_factors[] = {1, 1000, 60000, 3600000, 1};
    static const char *const yes[] = {"true", "yes", "on", "1", NULL};
    static const char *const no[] = {"false", "no", "off", "0", NULL};
    if (o->type == PST_OPT_SIZE)
        return parse_scaled(text, sizes, size_factors, out, size);
    if (o->type == PST_OPT_DURATION)
        return parse_scaled(text, times, time_factors, out, size);
    if (o->type == PST_OPT_BOOL) {
        for (size_t i = 0; yes[i]; i++) {
            if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
                (void)snprintf(out, size, "%d", strcasecmp(text, yes[i]) == 0);
                return true;
            }
        }
        return false;
    }
    return (size_t)snprintf(out, size, "%s", text) < size;
}

const char *k_option_given(const struct k_test *t, const pst_option *o, uint32_t *source)
{
    const struct k_config *config = t->config;
    const char *declared = config->faults ? k_faults_option(t, o->name) : NULL;
    *source = PST_SOURCE_EXPLICIT;
    if (declared && t->requirement && k_is_fault_group(t->requirement))
        return declared;
    for (size_t i = 0; i < config->n_options; i++)
        if (strcmp(config->options[i].name, o->name) == 0)
            return config->faults ? k_faults_fill_in(config->options[i].value, t->fault_address)
                                  : config->options[i].value;
    if (declared)
        return declared;
    char names[512];
    *source = PST_SOURCE_ENVIRONMENT;
    (void)snprintf(names, sizeof(names), "%s", o->env ? o->env : "");
    for (char *save = NULL, *name = strtok_r(names, " ", &save); name;
         name = strtok_r(NULL, " ", &save)) {
        const char *value = getenv(name);
        if (value)
            return value;
    }
    *source = PST_SOURCE_DEFAULT;
    return o->fallback;
}

static const pst_option *option_at(const pst_plugin *plugin, size_t i)
{
    const char *at = (const char *)plugin->options + i * plugin->option_stride;
    return (const pst_option *)(const void *)at;
}

static bool check_given(struct k_test *t, const pst_plugin *plugin)
{
    for (size_t i = 0; i < t->config->n_options; i++) {
        bool is_known = false;
        for (size_t k = 0; k < plugin->n_options; k++)
            is_known |= strcmp(option_at(plugin, k)->name, t->config->options[i].name) == 0;
        if (!is_known) {
            k_fail(t, "the option -o %s is not one that the plugin declares",
                   t->config->options[i].name);
            return false;
        }
    }
    return true;
}

/* ---- open -------------------------------------------------------------------------------------- */

static pst_str place_text(struct k_region *region, const char *name, const char *text, size_t len)
{
    char *p = k_region_take(region, name, len, 1, K_AT_END);
    memcpy(p, text, len);
    k_region_protect(region, p, PROT_READ);
    return pst_str_of(p, len);
}

/* On pages that are buried when store_open has returned: nothing of it may be kept. */
static bool place_open_args(struct k_test *t, const pst_plugin *plugin, struct k_region *region,
                            enum k_skew skew, const pst_open_args **out)
{
    const struct k_config *config = t->config;
    k_region_init(region, "pst_open_args", 4u * 1024 * 1024, 256);
    pst_open_args args = {.fork_generation = t->fork_generation};
    pst_kv *options = k_region_take(region, "options", plugin->n_options * sizeof(pst_kv) + 1, 8,
                                    K_AT_END);
    uint32_t *sources = k_region_take(region, "sources of options",
                                      plugin->n_options * sizeof(uint32_t) + 1, 8, K_AT_END);
    for (size_t i = 0; i < plugin->n_options; i++) {
        const pst_option *o = option_at(plugin, i);
        const char *text = k_option_given(t, o, &sources[args.n_options]);
        char value[4096];
        if (!text)
            continue;
        if (!resolve_value(o, text, value, sizeof(value))) {
            k_fail(t, "the value of option %s is not of its type: %s", o->name,
                   (o->flags & PST_OPT_SECRET) ? "(secret)" : text);
            return false;
        }
        pst_kv *kv = &options[args.n_options++];
        kv->key = place_text(region, "name of an option", o->name, strlen(o->name));
        kv->value = place_text(region, "value of an option", value, strlen(value));
    }
    k_region_protect(region, options, PROT_READ);
    k_region_protect(region, sources, PROT_READ);
    args.options = options;
    args.option_sources = sources;
    args.scheme = place_text(region, "scheme", config->scheme, strlen(config->scheme));
    args.authority = place_text(region, "authority", config->authority.ptr, config->authority.len);
    size_t len = skew == K_OLDER   ? offsetof(pst_open_args, option_sources)
                 : skew == K_NEWER ? sizeof(args) + K_TAIL
                                   : sizeof(args);
    args.struct_size = (uint32_t)len;
    unsigned char *p = k_region_take(region, "arguments", len, 8, K_AT_END);
    memset(p, K_POISON, len);
    memcpy(p, &args, len < sizeof(args) ? len : sizeof(args));
    k_region_protect(region, p, PROT_READ);
    *out = (const pst_open_args *)(const void *)p;
    return true;
}

static void check_filled(struct k_test *t, const char *what, const void *frame, size_t len,
                         enum k_skew skew)
{
    uint32_t struct_size = 0;
    memcpy(&struct_size, frame, sizeof(struct_size));
    k_that(t, struct_size == len, "expected struct_size of %s to stay %zu, got %u", what, len,
           struct_size);
    const unsigned char *tail = (const unsigned char *)frame + len - K_TAIL;
    for (size_t i = 0; skew == K_NEWER && i < K_TAIL; i++) {
        if (!k_that(t, tail[i] == K_POISON,
                    "expected members that the plugin cannot know to stay "
                    "untouched in %s, got them written",
                    what))
            break;
    }
}

static bool read_info(struct k_store *s)
{
    struct k_test *t = s->test;
    enum k_skew skew = s->host->skew;
    struct k_region *region = (struct k_region *)(void *)k_alloc(sizeof(*region));
    size_t info_len = skew == K_OLDER   ? offsetof(pst_backend_info, want_sums)
                      : skew == K_NEWER ? sizeof(pst_backend_info) + K_TAIL
                                        : sizeof(pst_backend_info);
    size_t limits_len = skew == K_OLDER   ? offsetof(pst_limits, io_align)
                        : skew == K_NEWER ? sizeof(pst_limits) + K_TAIL
                                          : sizeof(pst_limits);
    if (!PST_HAS(pst_backend_ops, s->ops, info) || !s->ops->info) {
        k_fail(t, "expected the slot info to be there, got NULL");
        return false;
    }
    k_region_init(region, "info", 256 * 1024, 2);
    pst_backend_info *info = k_region_take(region, "pst_backend_info", info_len, 8, K_AT_END);
    pst_limits *limits = k_region_take(region, "pst_limits", limits_len, 8, K_AT_END);
    memset(info, 0, info_len < sizeof(*info) ? info_len : sizeof(*info));
    memset(limits, 0, limits_len < sizeof(*limits) ? limits_len : sizeof(*limits));
    info->struct_size = (uint32_t)info_len;
    info->limits = limits;
    limits->struct_size = (uint32_t)limits_len;
    k_step(t, "calling info");
    s->ops->info(s->backend, info);
    check_filled(t, "pst_backend_info", info, info_len, skew);
    check_filled(t, "pst_limits", limits, limits_len, skew);
    s->caps = info->caps;
    if (skew != K_OLDER)
        s->want_sums = info->want_sums;
    memcpy(&s->limits, limits, limits_len < sizeof(s->limits) ? limits_len : sizeof(s->limits));
    if (k_that(t, info->endpoint && info->note,
               "expected endpoint and note of pst_backend_info to "
               "be texts, \"\" if empty, got NULL")) {
        k_check_text(t, "the store's endpoint", info->endpoint);
        k_check_text(t, "the store's note", info->note);
    }
    k_region_bury(region);
    return true;
}

static pst_rc open_backend(struct k_host *host, const pst_plugin *plugin, pst_backend **backend,
                           pst_error *err)
{
    struct k_test *t = host->test;
    const pst_open_args *args = NULL;
    struct k_region *region = (struct k_region *)(void *)k_alloc(sizeof(*region));
    if (!place_open_args(t, plugin, region, host->skew, &args))
        return PST_E_INVALID;
    pst_rc rc = plugin->store_open(host->table, args, backend, err);
    k_region_bury(region);
    k_that(t,
           memchr(err->message, '\0', sizeof(err->message)) != NULL &&
               err->struct_size == sizeof(*err),
           "expected the error of store_open to keep its frame, got it damaged");
    err->message[sizeof(err->message) - 1] = '\0';
    k_check_text(t, "the error of store_open", err->message);
    return rc;
}

bool k_open(struct k_host *host, struct k_store *out)
{
    struct k_test *t = host->test;
    const pst_plugin *plugin = NULL;
    pst_backend *backend = NULL;
    pst_error err = PST_ERROR_INIT;
    memset(out, 0, sizeof(*out));
    if (!k_enter(host, &plugin) || !check_given(t, plugin))
        return false;
    if (!t->store.plugin)
        t->store.plugin = plugin; /* for the texts that are checked: its id, its secrets */
    k_step(t, "opening the store");
    pst_rc rc = open_backend(host, plugin, &backend, &err);
    if (rc != PST_OK || !backend) {
        k_fail(t, "expected store_open to return OK and a store, got %s: %s", k_rc_name(rc),
               err.message);
        return false;
    }
    out->test = t;
    out->host = host;
    out->plugin = plugin;
    out->ops = plugin->ops;
    out->backend = backend;
    return read_info(out);
}

pst_rc k_open_failing(struct k_host *host, int at, bool *has_failed)
{
    const pst_plugin *plugin = NULL;
    pst_backend *backend = NULL;
    pst_error err = PST_ERROR_INIT;
    if (!k_enter(host, &plugin))
        return PST_E_INTERNAL;
    k_step(host->test, "store_open, whose allocation number %d fails", at);
    atomic_store(&host->fail_alloc_at, at);
    pst_rc rc = open_backend(host, plugin, &backend, &err);
    *has_failed = atomic_exchange(&host->fail_alloc_at, 0) == 0;
    if (rc == PST_OK && backend)
        plugin->ops->close(backend);
    return rc;
}

void k_close(struct k_store *s)
{
    struct k_test *t = s->test;
    if (!s->backend)
        return;
    for (unsigned i = 0; atomic_load(&s->host->n_outstanding) > 0 && i < 5000; i++)
        k_pause_ms(1);
    if (!k_that(t, atomic_load(&s->host->n_outstanding) == 0,
                "expected every operation to have completed, got %u outstanding",
                atomic_load(&s->host->n_outstanding)))
        return;
    k_step(t, "closing the store");
    s->ops->close(s->backend);
    s->backend = NULL;
}

static const struct {
    uint64_t cap;
    const char *name;
} cap_names[] = {
    {PST_CAP_READ, "READ"},
    {PST_CAP_READ_SUFFIX, "READ_SUFFIX"},
    {PST_CAP_STAT, "STAT"},
    {PST_CAP_PUT, "PUT"},
    {PST_CAP_UPLOAD, "UPLOAD"},
    {PST_CAP_UPLOAD_UNORDERED, "UPLOAD_UNORDERED"},
    {PST_CAP_REMOVE, "REMOVE"},
    {PST_CAP_LIST, "LIST"},
    {PST_CAP_LIST_ORDERED, "LIST_ORDERED"},
    {PST_CAP_COPY, "COPY"},
    {PST_CAP_RENAME, "RENAME"},
    {PST_CAP_CONTAINER, "CONTAINER"},
    {PST_CAP_PRESIGN, "PRESIGN"},
    {PST_CAP_CLEANUP, "CLEANUP"},
    {PST_CAP_READ_IF_MATCH, "READ_IF_MATCH"},
    {PST_CAP_WRITE_IF_MATCH, "WRITE_IF_MATCH"},
    {PST_CAP_CREATE_ONLY, "CREATE_ONLY"},
    {PST_CAP_USER_META, "USER_META"},
    {PST_CAP_CONTENT_TYPE, "CONTENT_TYPE"},
    {PST_CAP_CANCEL_BOUNDED, "CANCEL_BOUNDED"},
    {PST_CAP_EMPTY_DIRS, "EMPTY_DIRS"},
    {PST_CAP_APPEND, "APPEND"},
    {PST_CAP_COPY_ACROSS, "COPY_ACROSS"},
    {PST_CAP_UPLOAD_CONDITIONAL, "UPLOAD_CONDITIONAL"},
    {PST_CAP_VERSIONS, "VERSIONS"},
    {PST_CAP_TAGS, "TAGS"},
};

const char *k_cap_name(uint64_t cap)
{
    for (size_t i = 0; i < sizeof(cap_names) / sizeof(cap_names[0]); i++)
        if (cap_names[i].cap == cap)
            return cap_names[i].name;
    return "an unknown capability";
}

static bool has_caps(struct k_test *t, const struct k_store *s, uint64_t caps)
{
    for (size_t i = 0; i < sizeof(cap_names) / sizeof(cap_names[0]); i++) {
        if ((caps & cap_names[i].cap) && !(s->caps & cap_names[i].cap)) {
            k_skip(t, "the store does not offer %s", cap_names[i].name);
            return false;
        }
    }
    return true;
}

struct k_store *k_need_on(struct k_test *t, struct k_host *host, uint64_t caps, struct k_store *out)
{
    if (!out->backend && !k_open(host, out))
        return NULL;
    return has_caps(t, out, caps) ? out : NULL;
}

struct k_store *k_need(struct k_test *t, uint64_t caps)
{
    if (!t->host)
        t->host = k_host_new(t, K_SAME, 4);
    return k_need_on(t, t->host, caps, &t->store);
}

/* ---- cleaning up ------------------------------------------------------------------------------- */

static void remove_objects(struct k_store *s, pst_str prefix)
{
    struct k_listing l = {.prefix = prefix, .flags = PST_LIST_RECURSIVE | PST_LIST_UNORDERED};
    size_t batch = s->limits.remove_batch_max > 0 ? s->limits.remove_batch_max : 500;
    (void)k_list(s, &l);
    for (size_t i = 0; i < l.entries.n; i += batch) {
        size_t n = l.entries.n - i < batch ? l.entries.n - i : batch;
        pst_str *keys = (pst_str *)(void *)k_alloc(n * sizeof(pst_str));
        for (size_t k = 0; k < n; k++)
            keys[k] = l.entries.all[i + k].key;
        struct k_call *c = k_call_new(s, K_REMOVE, NULL);
        c->in.remove.keys = keys;
        c->in.remove.n_keys = n;
        (void)k_call_run(c);
        k_call_free(c);
        k_free(keys);
    }
    k_entries_fini(&l.entries);
}

static void delete_container(struct k_store *s, pst_str name)
{
    struct k_call *c = k_call_new(s, K_CONTAINER_DELETE, NULL);
    if (name.len > 0 && name.ptr[name.len - 1] == '/')
        name.len--;
    c->in.container.name = name;
    (void)k_call_run(c);
    k_call_free(c);
}

/* Deepest first: a directory shows up as empty once those below it are gone. */
static void remove_directories(struct k_store *s, pst_str prefix)
{
    for (unsigned depth = 0; depth < 64; depth++) {
        struct k_listing l = {.prefix = prefix, .flags = PST_LIST_RECURSIVE | PST_LIST_EMPTY_DIRS};
        (void)k_list(s, &l);
        size_t n = l.entries.n;
        for (size_t i = 0; i < n; i++)
            delete_container(s, l.entries.all[i].key);
        k_entries_fini(&l.entries);
        if (n == 0)
            break;
    }
    delete_container(s, prefix);
}

void k_sweep(struct k_test *t)
{
    struct k_store *s = k_need(t, PST_CAP_LIST | PST_CAP_REMOVE);
    char base[1024];
    int len = snprintf(base, sizeof(base), "%.*spst-conformance-%d/", (int)t->config->prefix.len,
                       t->config->prefix.ptr, t->config->run_id);
    pst_str prefix = pst_str_of(base, (size_t)len);
    if (!s)
        return;
    if ((s->caps & PST_CAP_CLEANUP) && k_has_slot(s, K_CLEANUP)) {
        struct k_call *c = k_call_new(s, K_CLEANUP, NULL);
        c->in.cleanup.prefix = prefix;
        (void)k_call_run(c);
        k_call_free(c);
    }
    remove_objects(s, prefix);
    if ((s->caps & PST_CAP_EMPTY_DIRS) && (s->caps & PST_CAP_CONTAINER))
        remove_directories(s, prefix);
    k_close(s);
}
