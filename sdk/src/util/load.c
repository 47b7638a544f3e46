/* load.c - map a library without taking somebody else's functions for its own.
 *
 * A function is looked for in the program and in what it loaded for everybody (RTLD_GLOBAL, LD_PRELOAD)
 * before it is looked for in the library that needs it. TensorFlow shows its own zstd, libcurl and
 * BoringSSL that way: a libzstd that is mapped later calls half of itself and half of that, and crashes.
 *
 * RTLD_DEEPBIND turns the order round. It is used only where there is such a function, since it does so
 * for malloc and free as well: under another allocator (LD_PRELOAD=libjemalloc.so) libc's strdup would
 * give memory of that one, which the library would give to libc's free. Both at once is an error, which
 * names what is in the way; what was mapped before stays as it is. */
#include "util/load.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* The file whose function this is to everybody, NULL if it is that which should be, or there is none. */
static const char *find_stranger(const struct pst_home *home)
{
    const void *function = dlsym(RTLD_DEFAULT, home->function);
    Dl_info info;

    if (!function || !dladdr(function, &info) || !info.dli_fname)
        return NULL;
    const char *slash = strrchr(info.dli_fname, '/');
    const char *name = slash ? slash + 1 : info.dli_fname;
    return strncmp(name, home->file, strlen(home->file)) == 0 ? NULL : name;
}

void *pst_load_library(const char *path, int flags, const struct pst_home *homes, size_t n,
                       char *why, size_t size)
{
    static const struct pst_home allocator = {"malloc", "libc.so"};
    const char *stranger = NULL, *other;
    size_t i = 0;

    while (i < n && !(stranger = find_stranger(&homes[i])))
        i++;
    if (stranger) {
        other = find_stranger(&allocator);
#ifndef RTLD_DEEPBIND
        other = other ? other : "this libc";
#endif
        if (other) {
            snprintf(why, size,
                     "%s shows its own %s to everybody, and malloc is that of %s: use Penstock "
                     "before the one is loaded, or without the other",
                     stranger, homes[i].function, other);
            return NULL;
        }
#ifdef RTLD_DEEPBIND
        flags |= RTLD_DEEPBIND;
#endif
    }
    void *library = dlopen(path, flags);
    if (!library) {
        const char *text = dlerror();
        snprintf(why, size, "%s", text ? text : path);
    }
    return library;
}
