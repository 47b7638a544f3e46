#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

int scratch_setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = NULL;

    if (asprintf(&dir, "%s/pst-test-XXXXXX", tmp && tmp[0] ? tmp : "/tmp") < 0 || !mkdtemp(dir)) {
        free(dir);
        return -1;
    }
    /* Without links, so that a path that the library resolved compares equal. */
    *state = realpath(dir, NULL);
    free(dir);
    return *state ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int scratch_teardown(void **state)
{
    int failed = nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);

    free(*state);
    return failed;
}

const char *scratch_path(const char *dir, const char *name)
{
    static char paths[8][4096];
    static unsigned next;
    char *path = paths[next++ % 8];

    assert_true(snprintf(path, sizeof(paths[0]), "%s/%s", dir, name) < (int)sizeof(paths[0]));
    return path;
}

const char *scratch_mkdir(const char *dir, const char *name)
{
    const char *path = scratch_path(dir, name);

    assert_int_equal(mkdir(path, 0755), 0);
    return path;
}

void scratch_write_bytes(const char *path, const void *bytes, size_t len)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

void scratch_write(const char *path, const char *text)
{
    scratch_write_bytes(path, text, strlen(text));
}

void scratch_copy_head(const char *from, const char *to, size_t len)
{
    FILE *in = fopen(from, "re");
    FILE *out = fopen(to, "we");
    int c;

    assert_non_null(in);
    assert_non_null(out);
    while (len-- > 0 && (c = getc(in)) != EOF)
        putc(c, out);
    assert_int_equal(ferror(in), 0);
    assert_int_equal(fclose(in), 0);
    assert_int_equal(fclose(out), 0);
}

void scratch_copy(const char *from, const char *to)
{
    scratch_copy_head(from, to, SIZE_MAX);
}

int scratch_is_mapped(const char *text)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[8192];
    int found = 0;

    assert_non_null(maps);
    while (!found && fgets(line, sizeof(line), maps))
        found = strstr(line, text) != NULL;
    fclose(maps);
    return found;
}
