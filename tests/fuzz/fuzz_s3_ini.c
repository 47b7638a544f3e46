/* Every input is a configuration file of AWS's tools or has a first line that is not. Whatever it is, no
 * question about it reads beyond it, and what is found lies within one of its lines. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cred_ini.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds)
        abort();
}

static void check_value(pst_str text, pst_str value)
{
    require(value.len > 0);
    require(value.ptr >= text.ptr && value.ptr + value.len <= text.ptr + text.len);
    require(!memchr(value.ptr, '\n', value.len));
    require(value.ptr[0] != ' ' && value.ptr[value.len - 1] != ' ');
}

/* The first word of the input is asked for too, so that sections which are there are found. */
static pst_str pick_name(pst_str text)
{
    const char *open = text.len > 0 ? memchr(text.ptr, '[', text.len) : NULL;
    size_t n = 0;

    if (!open)
        return PST_STR("default");
    while (open + 1 + n < text.ptr + text.len && open[1 + n] != ']' && open[1 + n] != ' ' && n < 64)
        n++;
    return pst_str_of(open + 1, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const kinds[] = {NULL, "profile", "sso-session"};
    static const char *const keys[] = {"aws_access_key_id", "region", "x"};
    char *copy = malloc(size + 1); /* of just this size, for the address sanitizer */
    const char *what = NULL;
    uint32_t n_lines = 1;

    if (!copy)
        return 0;
    char *exact = size > 0 ? realloc(copy, size) : copy;
    if (size > 0)
        memcpy(exact, data, size);
    const pst_str text = pst_str_of(exact, size);
    const pst_str names[] = {PST_STR("default"), pick_name(text)};
    for (size_t i = 0; i < size; i++)
        n_lines += exact[i] == '\n';
    const uint32_t bad = s3_ini_check(text, &what);
    require(bad <= n_lines && (bad > 0) == (what != NULL));
    for (size_t i = 0; i < 18; i++) {
        const char *kind = kinds[i % 3];
        const pst_str name = names[i / 3 % 2];
        pst_str value;
        if (s3_ini_get(text, kind, name, keys[i / 6], &value)) {
            require(s3_ini_has(text, kind, name));
            check_value(text, value);
        }
    }
    free(exact);
    return 0;
}
