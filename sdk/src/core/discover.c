/* Search for manifests.
 *
 * The folders, in this order: those the application names; PENSTOCK_PLUGIN_PATH; the one beside
 * the library this code is in (a wheel, an install tree, a build tree alike); the system's. In each,
 * *.json in byte order. A folder that was searched already, by whatever name, is not searched again.
 *
 * Nothing here is fatal but the lack of memory. A folder that was asked for and cannot be read, a
 * manifest that is malformed, of another ABI, or without its library: each is recorded with one
 * line that says why, for `penstock plugins list --why`. Folders that are only looked at by default
 * may be absent without a word.
 *
 * No library is opened: a process that lists plugins runs no plugin's code. What shadows what is
 * the registry's business, which also knows the plugins that are linked in. */
#include "core/discover.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/strict.h"
#include "util/strlist.h"

enum { MANIFESTS_MAX = 10000, DIRS_MAX = 256 };

#ifndef PENSTOCK_PLUGIN_DIR
#define PENSTOCK_PLUGIN_DIR "/usr/local/lib/penstock/plugins"
#endif

static const char *const system_dirs[] = {
    PENSTOCK_PLUGIN_DIR,
    "/usr/local/lib/penstock/plugins",
    "/usr/lib/penstock/plugins",
#if defined(__x86_64__) && !defined(__ILP32__)
    "/usr/lib/x86_64-linux-gnu/penstock/plugins",
#elif defined(__aarch64__)
    "/usr/lib/aarch64-linux-gnu/penstock/plugins",
#elif defined(__i386__)
    "/usr/lib/i386-linux-gnu/penstock/plugins",
#elif defined(__arm__)
    "/usr/lib/arm-linux-gnueabihf/penstock/plugins",
#endif
};

struct dir_id {
    dev_t dev;
    ino_t ino;
};

struct search {
    uint32_t flags;
    struct pst_discovery *out;
    struct dir_id seen[DIRS_MAX];
    size_t n_seen;
    pst_error *err;
};

static pst_rc no_memory(const struct search *s)
{
    return pst_fail(s->err, PST_E_NO_MEMORY, "out of memory while searching for plugins");
}

/* ---- results ---------------------------------------------------------------------------------- */

/* An empty item at the end, valid until the next one is added; NULL without memory. */
static struct pst_discovered *add_item(struct search *s, const char *path)
{
    struct pst_discovery *out = s->out;

    if (out->n == out->room) {
        const size_t room = out->room ? out->room * 2 : 16;
        struct pst_discovered *items = reallocarray(out->items, room, sizeof(*items));
        if (!items)
            return NULL;
        out->items = items;
        out->room = room;
    }
    struct pst_discovered *item = &out->items[out->n];
    memset(item, 0, sizeof(*item));
    item->manifest_path = strdup(path);
    if (!item->manifest_path)
        return NULL;
    out->n++;
    return item;
}

static pst_rc set_reason(struct search *s, struct pst_discovered *item, const char *reason)
{
    item->reason = strdup(reason);
    return item->reason ? PST_OK : no_memory(s);
}

static pst_rc skip_dir(struct search *s, const char *dir, const char *reason)
{
    struct pst_discovered *item = add_item(s, dir);

    return item ? set_reason(s, item, reason) : no_memory(s);
}

/* ---- one manifest ----------------------------------------------------------------------------- */

static pst_rc check_library(const struct search *s, struct pst_discovered *item, pst_error *why)
{
    struct stat st;

    if (stat(item->library_path, &st) != 0)
        return pst_fail_errno(why, PST_E_BAD_PLUGIN, errno, "library %s", item->library_path);
    if (!S_ISREG(st.st_mode))
        return pst_fail(why, PST_E_BAD_PLUGIN, "library %s: not a regular file",
                        item->library_path);
    if (faccessat(AT_FDCWD, item->library_path, R_OK, AT_EACCESS) != 0)
        return pst_fail_errno(why, PST_E_BAD_PLUGIN, errno, "library %s", item->library_path);
    return s->flags & PST_CONTEXT_STRICT ? pst_strict_check(item->library_path, why) : PST_OK;
}

static pst_rc search_manifest(struct search *s, const char *dir, const char *name)
{
    pst_error why = PST_ERROR_INIT;
    char *path = NULL;
    pst_rc rc = PST_OK;

    if (asprintf(&path, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name) < 0)
        return no_memory(s);
    struct pst_discovered *item = add_item(s, path);
    free(path);
    if (!item)
        return no_memory(s);
    if (s->flags & PST_CONTEXT_STRICT)
        rc = pst_strict_check(item->manifest_path, &why);
    if (rc == PST_OK)
        rc = pst_manifest_read(item->manifest_path, &item->manifest, &why);
    if (rc == PST_OK && asprintf(&item->library_path, "%s/%s", dir, item->manifest.library) < 0) {
        item->library_path = NULL;
        return no_memory(s);
    }
    if (rc == PST_OK)
        rc = check_library(s, item, &why);
    if (rc == PST_OK)
        return PST_OK;
    return rc == PST_E_NO_MEMORY ? no_memory(s) : set_reason(s, item, why.message);
}

/* ---- one folder ------------------------------------------------------------------------------- */

static int has_manifest_name(const char *name)
{
    const size_t n = strlen(name);

    return name[0] != '.' && n > 5 && strcmp(name + n - 5, ".json") == 0;
}

/* 0, or an errno; the names are sorted. */
static int list_manifests(const char *dir, struct pst_strlist *names)
{
    DIR *stream = opendir(dir);
    int failure = 0;

    if (!stream)
        return errno;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (!entry) {
            failure = errno;
            break;
        }
        if (!has_manifest_name(entry->d_name))
            continue;
        if (pst_strlist_add(names, entry->d_name) != 0) {
            failure = names->n == MANIFESTS_MAX ? EFBIG : ENOMEM;
            break;
        }
    }
    closedir(stream);
    pst_strlist_sort(names);
    return failure;
}

/* 1: this folder is new; 0: searched before. */
static int remember_dir(struct search *s, const struct stat *st)
{
    for (size_t i = 0; i < s->n_seen; i++) {
        if (s->seen[i].dev == st->st_dev && s->seen[i].ino == st->st_ino)
            return 0;
    }
    if (s->n_seen < DIRS_MAX)
        s->seen[s->n_seen++] = (struct dir_id){st->st_dev, st->st_ino};
    return 1;
}

/* `dir` is absolute and without links. */
static pst_rc search_real_dir(struct search *s, const char *dir)
{
    pst_error why = PST_ERROR_INIT;
    struct pst_strlist names;
    struct stat st;
    pst_rc rc = PST_OK;
    int failure;

    pst_strlist_init(&names, MANIFESTS_MAX);
    if (stat(dir, &st) == 0 && !remember_dir(s, &st))
        return PST_OK;
    if (s->flags & PST_CONTEXT_STRICT)
        rc = pst_strict_check(dir, &why);
    if (rc == PST_OK) {
        failure = list_manifests(dir, &names);
        if (failure == ENOMEM)
            rc = PST_E_NO_MEMORY;
        else if (failure == EFBIG)
            rc = pst_fail(&why, PST_E_BAD_PLUGIN, "folder %s: more than %d manifests", dir,
                          MANIFESTS_MAX);
        else if (failure)
            rc = pst_fail_errno(&why, PST_E_BAD_PLUGIN, failure, "folder %s", dir);
    }
    if (rc == PST_E_NO_MEMORY)
        rc = no_memory(s);
    else if (rc != PST_OK)
        rc = skip_dir(s, dir, why.message);
    else
        for (size_t i = 0; rc == PST_OK && i < names.n; i++)
            rc = search_manifest(s, dir, names.items[i]);
    pst_strlist_fini(&names);
    return rc;
}

static pst_rc search_dir(struct search *s, const char *dir, int may_be_absent)
{
    pst_error why = PST_ERROR_INIT;
    char *real = realpath(dir, NULL);
    pst_rc rc;

    if (!real) {
        const int failure = errno;
        if (failure == ENOMEM)
            return no_memory(s);
        if (may_be_absent && (failure == ENOENT || failure == ENOTDIR))
            return PST_OK;
        (void)pst_fail_errno(&why, PST_E_BAD_PLUGIN, failure, "folder %s", dir);
        return skip_dir(s, dir, why.message);
    }
    rc = search_real_dir(s, real);
    free(real);
    return rc;
}

/* ---- the order of the folders ----------------------------------------------------------------- */

static pst_rc search_path(struct search *s, const char *path)
{
    pst_rc rc = PST_OK;

    while (rc == PST_OK && *path) {
        const size_t n = strcspn(path, ":");
        if (n > 0) {
            char *dir = strndup(path, n);
            rc = dir ? search_dir(s, dir, 0) : no_memory(s);
            free(dir);
        }
        path += n;
        path += *path == ':';
    }
    return rc;
}

pst_rc pst_discover_own_file(const void *address, int *is_program, char **out)
{
    Dl_info info;
    void *extra = NULL;
    char program[4096];
    const char *file;

    *out = NULL;
    *is_program = 0;
    if (dladdr1(address, &info, &extra, RTLD_DL_LINKMAP) == 0 || !extra)
        return PST_OK;
    const struct link_map *map = extra;
    if (map->l_name && map->l_name[0]) {
        file = map->l_name;
    } else { /* the program itself: what the linker knows is argv[0], which may say anything */
        const ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
        if (n < 0)
            return PST_OK;
        program[n] = '\0';
        file = program;
        *is_program = 1;
    }
    *out = realpath(file, NULL);
    return !*out && errno == ENOMEM ? (pst_rc)PST_E_NO_MEMORY : (pst_rc)PST_OK;
}

pst_rc pst_discover_beside(const void *address, const char *name, char **out)
{
    char *file = NULL;
    int is_program = 0;

    *out = NULL;
    pst_rc rc = pst_discover_own_file(address, &is_program, &file);
    if (rc != PST_OK || !file)
        return rc;
    const int n = (int)(strrchr(file, '/') - file);
    if (asprintf(out, "%.*s/%s%s", n, file, is_program ? "../lib/" : "", name) < 0) {
        *out = NULL;
        rc = PST_E_NO_MEMORY;
    }
    free(file);
    return rc;
}

pst_rc pst_discover(uint32_t flags, const char *const *plugin_dirs, struct pst_discovery *out,
                    pst_error *err)
{
    struct search s = {.flags = flags, .out = out, .err = err};
    const char *path = NULL;
    char *own_dir = NULL;
    pst_rc rc = PST_OK;

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; rc == PST_OK && plugin_dirs && plugin_dirs[i]; i++)
        rc = search_dir(&s, plugin_dirs[i], 0);
    if (rc != PST_OK || (flags & PST_CONTEXT_ONLY_DIRS))
        goto out;
    if (!(flags & PST_CONTEXT_NO_ENVIRONMENT))
        path = getenv("PENSTOCK_PLUGIN_PATH");
    if (path)
        rc = search_path(&s, path);
    /* Any address inside the library this file is linked into will do. */
    if (rc == PST_OK && pst_discover_beside(system_dirs, "penstock/plugins", &own_dir) != PST_OK)
        rc = no_memory(&s);
    if (rc == PST_OK && own_dir)
        rc = search_dir(&s, own_dir, 1);
    for (size_t i = 0; rc == PST_OK && i < sizeof(system_dirs) / sizeof(system_dirs[0]); i++)
        rc = search_dir(&s, system_dirs[i], 1);
out:
    free(own_dir);
    if (rc != PST_OK)
        pst_discovery_fini(out);
    return rc;
}

void pst_discovery_fini(struct pst_discovery *discovery)
{
    for (size_t i = 0; i < discovery->n; i++) {
        struct pst_discovered *item = &discovery->items[i];
        free(item->manifest_path);
        free(item->library_path);
        free(item->reason);
        pst_manifest_fini(&item->manifest);
    }
    free(discovery->items);
    memset(discovery, 0, sizeof(*discovery));
}
