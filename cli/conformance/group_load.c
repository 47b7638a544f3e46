/* group_load.c - LOAD: the file, the entry function, the tables, and hosts of other minors. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kit.h"
#include "requirements_fwd.h"

/* ---- the file ---------------------------------------------------------------------------------- */

static bool read_file(struct k_test *t, struct k_elf *elf)
{
    if (t->config->linked) {
        k_skip(t, "the plugin is linked in, there is no file");
        return false;
    }
    k_step(t, "reading %s as ELF", t->config->path);
    return k_that(t, k_elf_read(t->config->path, elf), "expected an ELF shared object, got: %s",
                  elf->error);
}

void k_LOAD_001(struct k_test *t)
{
    struct k_elf elf = {0};
    if (read_file(t, &elf))
        (void)k_load(t);
    k_elf_fini(&elf);
}

void k_LOAD_002(struct k_test *t)
{
    struct k_elf elf = {0};
    bool is_there = false;
    if (read_file(t, &elf)) {
        for (size_t i = 0; i < elf.n_exports; i++) {
            if (strcmp(elf.exports[i], "pst_plugin_open_1") == 0)
                is_there = true;
            else
                k_fail(t, "expected no other symbol than pst_plugin_open_1, got %s",
                       elf.exports[i]);
        }
        k_that(t, is_there, "expected the symbol pst_plugin_open_1, got %zu symbols without it",
               elf.n_exports);
    }
    k_elf_fini(&elf);
}

void k_LOAD_003(struct k_test *t)
{
    struct k_elf elf = {0};
    if (read_file(t, &elf)) {
        for (size_t i = 0; i < elf.n_undefined; i++)
            k_that(t, strncmp(elf.undefined[i], "pst_", 4) != 0,
                   "expected no undefined symbol that begins with pst_, got %s", elf.undefined[i]);
    }
    k_elf_fini(&elf);
}

void k_LOAD_004(struct k_test *t)
{
    static const char *const banned[] = {"libpenstock", "libcurl", "libssl", "libcrypto"};
    struct k_elf elf = {0};
    if (read_file(t, &elf)) {
        for (size_t i = 0; i < elf.n_needed; i++)
            for (size_t k = 0; k < sizeof(banned) / sizeof(banned[0]); k++)
                k_that(t, strncmp(elf.needed[i], banned[k], strlen(banned[k])) != 0,
                       "expected no dependency on %s, got %s", banned[k], elf.needed[i]);
    }
    k_elf_fini(&elf);
}

#define TLS_MAX 4096u
#define FLAG_STATIC_TLS 0x10u

void k_LOAD_005(struct k_test *t)
{
    struct k_elf elf = {0};
    if (read_file(t, &elf)) {
        k_that(t, !(elf.flags & FLAG_STATIC_TLS), "expected no DF_STATIC_TLS, got it");
        k_that(t, elf.tls_bytes <= TLS_MAX,
               "expected at most %u bytes of thread-local storage, got %llu", TLS_MAX,
               (unsigned long long)elf.tls_bytes);
    }
    k_elf_fini(&elf);
}

void k_LOAD_006(struct k_test *t)
{
    struct k_elf elf = {0};
    if (read_file(t, &elf)) {
        k_that(t, !elf.has_textrel, "expected position-independent code, got text relocations");
        k_that(t, elf.has_stack_header && !elf.has_exec_stack,
               "expected a stack that is not executable, got %s",
               elf.has_stack_header ? "one that is" : "no PT_GNU_STACK");
        k_that(t, !elf.has_writable_code,
               "expected no segment that is writable and executable, got "
               "one");
    }
    k_elf_fini(&elf);
}

void k_LOAD_007(struct k_test *t)
{
    struct k_process before, after;
    if (t->config->linked) {
        k_skip(t, "the plugin is linked in, there is nothing to load");
        return;
    }
    k_process_look(&before);
    if (!k_load(t))
        return;
    k_process_look(&after);
    k_process_compare(t, &before, &after, "after loading the file",
                      K_SAME_FDS | K_SAME_THREADS | K_SAME_REST);
}

/* ---- the plugin's table ------------------------------------------------------------------------ */

static const pst_plugin *enter(struct k_test *t)
{
    const pst_plugin *plugin = NULL;
    if (!t->host)
        t->host = k_host_new(t, K_SAME, 4);
    return k_enter(t->host, &plugin) ? plugin : NULL;
}

void k_LOAD_008(struct k_test *t)
{
    const pst_plugin *p = enter(t);
    if (!p)
        return;
    k_that(t, p->struct_size % 8 == 0 && p->struct_size < 65536,
           "expected struct_size to be sizeof(pst_plugin), got %u", p->struct_size);
    k_that(t, p->abi_major == PST_ABI_MAJOR, "expected ABI major %u, got %u", PST_ABI_MAJOR,
           p->abi_major);
    k_that(t, p->abi_minor + 1u > PST_ABI_MINOR_OLDEST, "expected ABI minor %u or later, got %u",
           PST_ABI_MINOR_OLDEST, p->abi_minor);
    k_that(t, p->abi_minor != PST_ABI_MINOR || p->struct_size == sizeof(pst_plugin),
           "expected struct_size %zu from minor %u, got %u", sizeof(pst_plugin), p->abi_minor,
           p->struct_size);
    k_that(t, p->ops->struct_size >= offsetof(pst_backend_ops, close) + sizeof(p->ops->close),
           "expected pst_backend_ops with struct_size %zu or more, got %u", sizeof(pst_backend_ops),
           p->ops->struct_size);
    k_that(t, p->limits->struct_size >= sizeof(pst_limits),
           "expected pst_limits with struct_size %zu or more, got %u", sizeof(pst_limits),
           p->limits->struct_size);
    k_that(t, p->op_scratch <= 65536, "expected op_scratch of at most 64 KiB, got %u",
           p->op_scratch);
}

static void check_line(struct k_test *t, const char *name, const char *text)
{
    if (!k_that(t, text != NULL && *text, "expected %s to be a text, got %s", name,
                text ? "\"\"" : "NULL"))
        return;
    k_check_text(t, name, text);
    k_that(t, strlen(text) <= 128, "expected %s of at most 128 bytes, got %zu", name, strlen(text));
}

void k_LOAD_009(struct k_test *t)
{
    const pst_plugin *p = enter(t);
    if (!p)
        return;
    check_line(t, "id", p->id);
    check_line(t, "version", p->version);
    check_line(t, "vendor", p->vendor);
    check_line(t, "license", p->license);
    size_t good = strspn(p->id, "abcdefghijklmnopqrstuvwxyz0123456789._-");
    k_that(t, p->id[0] >= 'a' && p->id[0] <= 'z' && p->id[good] == '\0',
           "expected an id of lower case letters, digits, '.', '_', '-' that begins with a letter, "
           "got %s",
           k_show(k_text(p->id)));
}

void k_LOAD_010(struct k_test *t)
{
    const pst_plugin *p = enter(t);
    bool is_served = false;
    size_t n = 0;
    if (!p)
        return;
    for (; p->schemes[n] && n < 64; n++) {
        const char *scheme = p->schemes[n];
        size_t good = strspn(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+.-");
        k_that(t, scheme[0] >= 'a' && scheme[0] <= 'z' && scheme[good] == '\0',
               "expected a lower case scheme of RFC 3986, got %s", k_show(k_text(scheme)));
        for (size_t i = 0; i < n; i++)
            k_that(t, strcmp(scheme, p->schemes[i]) != 0, "expected distinct schemes, got %s twice",
                   scheme);
        is_served |= strcmp(scheme, t->config->scheme) == 0;
    }
    k_that(t, n > 0 && n < 64, "expected 1 to 63 schemes and NULL behind them, got %zu", n);
    k_that(t, is_served, "expected the scheme %s of the URI among them, got others",
           t->config->scheme);
}

static bool is_value_of(const pst_option *o, const char *value)
{
    char *end = NULL;
    errno = 0;
    if (o->type == PST_OPT_INT) {
        long long v = strtoll(value, &end, 10);
        return errno == 0 && end != value && *end == '\0' &&
               (o->min == o->max || (v >= o->min && v <= o->max));
    }
    if (o->type == PST_OPT_SIZE || o->type == PST_OPT_DURATION) {
        (void)strtoll(value, &end, 10);
        return errno == 0 && end != value && strlen(end) <= 3;
    }
    if (o->type == PST_OPT_BOOL) {
        static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "1", "0"};
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
            if (strcmp(value, words[i]) == 0)
                return true;
        return false;
    }
    if (o->type == PST_OPT_ENUM && o->choices) {
        size_t len = strlen(value);
        for (const char *c = o->choices; *c; c += c[strcspn(c, "|")] == '|') {
            size_t n = strcspn(c, "|");
            if (n == len && memcmp(c, value, n) == 0)
                return true;
            c += n;
        }
        return false;
    }
    return true;
}

static void check_option(struct k_test *t, const pst_option *o, size_t index)
{
    if (!k_that(t,
                o->name && *o->name &&
                    !o->name[strspn(o->name, "abcdefghijklmnopqrstuvwxyz"
                                             "0123456789_")],
                "expected option %zu to have a name of lower case letters, digits and '_', got %s",
                index, o->name ? k_show(k_text(o->name)) : "NULL"))
        return;
    k_that(t, o->type >= PST_OPT_STRING && o->type <= PST_OPT_PATH,
           "expected option %s to have a type of plugin.h, got %u", o->name, o->type);
    k_that(t, (o->flags & ~(PST_OPT_SECRET | PST_OPT_DEPRECATED)) == 0,
           "expected option %s to have flags of plugin.h, got 0x%x", o->name, o->flags);
    if (k_that(t, o->doc && *o->doc, "expected option %s to have a doc text, got none", o->name))
        k_check_text(t, "the doc text of an option", o->doc);
    k_that(t, o->min <= o->max, "expected option %s to have min <= max, got %lld > %lld", o->name,
           (long long)o->min, (long long)o->max);
    k_that(t, o->type != PST_OPT_ENUM || (o->choices && *o->choices),
           "expected the enumeration %s to have choices, got none", o->name);
    k_that(t, !o->fallback || is_value_of(o, o->fallback),
           "expected the fallback of option %s to be a value of its type, got %s", o->name,
           o->fallback);
    k_that(t, !(o->flags & PST_OPT_SECRET) || !o->fallback,
           "expected the secret option %s to have no fallback, got one", o->name);
}

void k_LOAD_011(struct k_test *t)
{
    const pst_plugin *p = enter(t);
    if (!p)
        return;
    if (p->n_options > 0 &&
        !k_that(t,
                p->options && k_is_stride(p, p->option_stride, sizeof(pst_option)) &&
                    p->n_options < 1000,
                "expected %zu options with stride %zu, got stride %zu", p->n_options,
                sizeof(pst_option), p->option_stride))
        return;
    const char *at = (const char *)p->options;
    for (size_t i = 0; i < p->n_options; i++) {
        pst_option option = {0};
        const pst_option *o = &option;
        memcpy(&option, at + i * p->option_stride,
               p->option_stride < sizeof(option) ? p->option_stride : sizeof(option));
        check_option(t, o, i);
        for (size_t k = 0; k < i && o->name; k++) {
            const pst_option *other = (const pst_option *)(const void *)(at + k * p->option_stride);
            k_that(t, !other->name || strcmp(other->name, o->name) != 0,
                   "expected distinct option names, got %s twice", o->name);
        }
    }
}

/* ---- capabilities ------------------------------------------------------------------------------ */

static const struct {
    uint64_t cap, any_of; /* any_of: one of these is there as well */
    enum k_slot slots[4];
    size_t n_slots;
} cap_slots[] = {
    {PST_CAP_READ, 0, {K_READ}, 1},
    {PST_CAP_READ_SUFFIX, PST_CAP_READ, {K_READ}, 1},
    {PST_CAP_STAT, 0, {K_STAT}, 1},
    {PST_CAP_PUT, 0, {K_PUT}, 1},
    {PST_CAP_UPLOAD, 0, {K_UPLOAD_OPEN, K_UPLOAD_PART, K_UPLOAD_COMMIT, K_UPLOAD_ABORT}, 4},
    {PST_CAP_UPLOAD_UNORDERED, PST_CAP_UPLOAD, {K_UPLOAD_PART}, 1},
    {PST_CAP_REMOVE, 0, {K_REMOVE}, 1},
    {PST_CAP_LIST_ORDERED, PST_CAP_LIST, {K_READ}, 0},
    {PST_CAP_COPY, 0, {K_COPY}, 1},
    {PST_CAP_RENAME, 0, {K_RENAME}, 1},
    {PST_CAP_CONTAINER, 0, {K_CONTAINER_CREATE, K_CONTAINER_DELETE}, 2},
    {PST_CAP_PRESIGN, 0, {K_PRESIGN}, 1},
    {PST_CAP_CLEANUP, 0, {K_CLEANUP}, 1},
    {PST_CAP_READ_IF_MATCH, PST_CAP_READ, {K_READ}, 1},
    {PST_CAP_WRITE_IF_MATCH, PST_CAP_PUT | PST_CAP_UPLOAD, {K_READ}, 0},
    {PST_CAP_CREATE_ONLY, PST_CAP_PUT | PST_CAP_UPLOAD, {K_READ}, 0},
    {PST_CAP_USER_META, PST_CAP_STAT, {K_STAT}, 1},
    {PST_CAP_CONTENT_TYPE, PST_CAP_STAT, {K_STAT}, 1},
    {PST_CAP_EMPTY_DIRS, PST_CAP_LIST, {K_READ}, 0},
    {PST_CAP_APPEND, 0, {K_APPEND}, 1},
    {PST_CAP_COPY_ACROSS, PST_CAP_COPY, {K_COPY}, 1},
    {PST_CAP_UPLOAD_CONDITIONAL, PST_CAP_UPLOAD, {K_READ}, 0},
    {PST_CAP_UPLOAD_CONDITIONAL, PST_CAP_CREATE_ONLY | PST_CAP_WRITE_IF_MATCH, {K_READ}, 0},
    {PST_CAP_TAGS, PST_CAP_PUT | PST_CAP_UPLOAD, {K_READ}, 0},
};

static void check_caps(struct k_test *t, const struct k_store *s, uint64_t caps, const char *whose)
{
    for (size_t i = 0; i < sizeof(cap_slots) / sizeof(cap_slots[0]); i++) {
        if (!(caps & cap_slots[i].cap))
            continue;
        const char *name = k_cap_name(cap_slots[i].cap);
        for (size_t k = 0; k < cap_slots[i].n_slots; k++)
            k_that(t, k_has_slot(s, cap_slots[i].slots[k]),
                   "expected %s, which declares %s, to have the slot %s, got NULL", whose, name,
                   k_slot_name(cap_slots[i].slots[k]));
        k_that(t, cap_slots[i].any_of == 0 || (caps & cap_slots[i].any_of),
               "expected %s, which declares %s, to declare %s as well, got nothing", whose, name,
               k_cap_name(cap_slots[i].any_of & -cap_slots[i].any_of));
    }
    bool has_cursor = k_has_slot(s, K_LIST_OPEN) && k_has_slot(s, K_LIST_PAGE) &&
                      s->ops->list_close;
    k_that(
        t, !(caps & PST_CAP_LIST) || has_cursor || k_has_slot(s, K_LIST),
        "expected %s, which declares LIST, to have list, or list_open, list_page and list_close, "
        "got neither",
        whose);
}

void k_LOAD_012(struct k_test *t)
{
    struct k_store *s = k_need(t, 0);
    if (!s)
        return;
    const pst_backend_ops *o = s->ops;
    k_that(t,
           s->plugin->threads == PST_THREADS_SERIAL || s->plugin->threads == PST_THREADS_PARALLEL,
           "expected threads to be SERIAL or PARALLEL, got %u", s->plugin->threads);
    check_caps(t, s, s->plugin->caps, "the plugin");
    check_caps(t, s, s->caps, "the store");
    k_that(t, o->info && o->close, "expected the slots info and close, got NULL");
    k_that(t, !o->read || o->dst_ready, "expected dst_ready beside read, got NULL");
    k_that(t, !o->upload_open || o->upload_free,
           "expected upload_free beside upload_open, got NULL");
    k_that(t, !o->list_open || o->list_close, "expected list_close beside list_open, got NULL");
    k_that(t, !(s->caps & PST_CAP_CANCEL_BOUNDED) || o->cancel,
           "expected CANCEL_BOUNDED to come with cancel, got NULL");
}

static void check_limit(struct k_test *t, const char *name, uint64_t open, uint64_t declared)
{
    k_that(t, declared == 0 || (open != 0 && open <= declared),
           "expected the store's %s within the plugin's %llu, got %llu", name,
           (unsigned long long)declared, (unsigned long long)open);
}

static bool is_power_of_two(uint32_t n)
{
    return (n & (n - 1)) == 0;
}

void k_LOAD_013(struct k_test *t)
{
    struct k_store *s = k_need(t, 0);
    if (!s)
        return;
    const pst_limits *a = &s->limits, *b = s->plugin->limits;
    uint64_t more = s->caps & ~s->plugin->caps;
    k_that(t, more == 0, "expected the store to offer what the plugin declares, got %s on top",
           k_cap_name(more & -more));
    check_limit(t, "object_max", a->object_max, b->object_max);
    check_limit(t, "part_max", a->part_max, b->part_max);
    check_limit(t, "parts_max", a->parts_max, b->parts_max);
    check_limit(t, "key_max", a->key_max, b->key_max);
    check_limit(t, "user_meta_max", a->user_meta_max, b->user_meta_max);
    check_limit(t, "list_page_max", a->list_page_max, b->list_page_max);
    check_limit(t, "remove_batch_max", a->remove_batch_max, b->remove_batch_max);
    k_that(t, a->part_max == 0 || a->part_min <= a->part_max,
           "expected part_min <= part_max, got %llu > %llu", (unsigned long long)a->part_min,
           (unsigned long long)a->part_max);
    k_that(t, a->part_multiple <= 1 || a->part_max % a->part_multiple == 0,
           "expected part_max to be a multiple of part_multiple %llu, got %llu",
           (unsigned long long)a->part_multiple, (unsigned long long)a->part_max);
    k_that(t, is_power_of_two(a->mem_align) && is_power_of_two(a->io_align),
           "expected alignments that are powers of two, got %u and %u", a->mem_align, a->io_align);
    k_that(t, a->mem_align <= (1u << 22) && a->io_align <= (1u << 22),
           "expected alignments of at most 4 MiB, got %u and %u", a->mem_align, a->io_align);
}

static const struct {
    enum k_slot slot;
    uint64_t cap;
} optional_slots[] = {
    {K_APPEND, PST_CAP_APPEND},   {K_COPY, PST_CAP_COPY},       {K_RENAME, PST_CAP_RENAME},
    {K_PRESIGN, PST_CAP_PRESIGN}, {K_CLEANUP, PST_CAP_CLEANUP}, {K_PUT, PST_CAP_PUT},
    {K_REMOVE, PST_CAP_REMOVE},   {K_STAT, PST_CAP_STAT},
};

void k_LOAD_014(struct k_test *t)
{
    struct k_store *s = k_need(t, 0);
    pst_str key = k_key(t, "not-offered");
    if (!s)
        return;
    for (size_t i = 0; i < sizeof(optional_slots) / sizeof(optional_slots[0]); i++) {
        enum k_slot slot = optional_slots[i].slot;
        if ((s->caps & optional_slots[i].cap) || !k_has_slot(s, slot))
            continue;
        k_step(t, "calling %s, which is not offered", k_slot_name(slot));
        struct k_call *c = k_call_new(s, slot, NULL);
        if (slot == K_COPY || slot == K_RENAME)
            c->in.copy.from = c->in.copy.to = key;
        else if (slot == K_PRESIGN)
            c->in.presign.key = key;
        else if (slot == K_CLEANUP)
            c->in.cleanup.prefix = key;
        else if (slot == K_STAT)
            c->in.stat.key = key;
        else if (slot != K_REMOVE)
            c->in.put.key = key;
        (void)k_call_run(c);
        (void)k_want(c, PST_E_UNIMPLEMENTED, "an operation that the store does not offer");
        k_call_free(c);
    }
}

void k_LOAD_020(struct k_test *t)
{
    struct k_store *s = k_need(t, 0);
    uint64_t needed = PST_CAP_READ | PST_CAP_STAT | PST_CAP_LIST;
    if (!s)
        return;
    if (t->config->profile >= K_RW)
        needed |= PST_CAP_REMOVE;
    if (t->config->profile == K_FULL)
        needed |= PST_CAP_UPLOAD;
    for (uint64_t left = needed & ~s->caps; left; left &= left - 1)
        k_fail(t, "expected the store to offer %s in this profile, got none",
               k_cap_name(left & -left));
    k_that(t, t->config->profile < K_RW || (s->caps & (PST_CAP_PUT | PST_CAP_UPLOAD)),
           "expected the store to offer PUT or UPLOAD in this profile, got neither");
}
