#include "torture.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static atomic_uint countdown; /* 0: not armed, or spent */
static atomic_int is_reached;
static atomic_long live;

void torture_arm(unsigned n)
{
    atomic_store(&is_reached, 0);
    atomic_store(&countdown, n);
}

int torture_disarm(void)
{
    atomic_store(&countdown, 0);
    return atomic_load(&is_reached);
}

long torture_live(void)
{
    return atomic_load(&live);
}

static int must_fail(void)
{
    unsigned left = atomic_load(&countdown);

    while (left > 0 && !atomic_compare_exchange_weak(&countdown, &left, left - 1))
        ;
    if (left != 1)
        return 0;
    atomic_store(&is_reached, 1);
    errno = ENOMEM;
    return 1;
}

static void *counted(void *memory)
{
    if (memory)
        atomic_fetch_add(&live, 1);
    return memory;
}

/* The linker's names for "the function of the program" and "the one it stands for". */
#define WRAP(type, name, parameters)                                                               \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters

WRAP(void *, malloc, (size_t size))
{
    return must_fail() ? NULL : counted(__real_malloc(size));
}

WRAP(void *, calloc, (size_t n, size_t size))
{
    return must_fail() ? NULL : counted(__real_calloc(n, size));
}

WRAP(void, free, (void *memory))
{
    if (memory)
        atomic_fetch_sub(&live, 1);
    __real_free(memory);
}

WRAP(void *, realloc, (void *memory, size_t size))
{
    void *moved;

    if (must_fail())
        return NULL;
    moved = __real_realloc(memory, size);
    return memory ? moved : counted(moved);
}

WRAP(void *, reallocarray, (void *memory, size_t n, size_t size))
{
    void *moved;

    if (must_fail())
        return NULL;
    moved = __real_reallocarray(memory, n, size);
    return memory ? moved : counted(moved);
}

WRAP(char *, strdup, (const char *text))
{
    return must_fail() ? NULL : counted(__real_strdup(text));
}

WRAP(char *, strndup, (const char *text, size_t len))
{
    return must_fail() ? NULL : counted(__real_strndup(text, len));
}

int __wrap_asprintf(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **out, const char *format, ...)
{
    va_list args;
    int n;

    if (must_fail())
        return -1;
    va_start(args, format);
    n = vasprintf(out, format, args);
    va_end(args);
    if (n >= 0)
        counted(*out);
    return n;
}

WRAP(char *, realpath, (const char *path, char *out))
{
    char *real;

    if (!out && must_fail())
        return NULL;
    real = __real_realpath(path, out);
    return out ? real : counted(real);
}

WRAP(DIR *, opendir, (const char *path))
{
    return must_fail() ? NULL : __real_opendir(path);
}

WRAP(int, posix_memalign, (void **out, size_t align, size_t size))
{
    int failure;

    if (must_fail())
        return ENOMEM;
    failure = __real_posix_memalign(out, align, size);
    if (failure == 0)
        counted(*out);
    return failure;
}

WRAP(void *, aligned_alloc, (size_t align, size_t size))
{
    return must_fail() ? NULL : counted(__real_aligned_alloc(align, size));
}

void torture_jansson(void)
{
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
}
