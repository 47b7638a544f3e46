#include "util/pack.h"

#include <stdlib.h>
#include <string.h>

static const char *get_string(const char *member)
{
    const char *text;

    memcpy(&text, member, sizeof(text));
    return text ? text : "";
}

void *pst_pack(const void *rows, size_t n, size_t row_bytes, size_t first_string, size_t n_strings)
{
    const char *from = rows;
    size_t total = n * row_bytes; /* `rows` is that large, so it fits */

    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n_strings; j++)
            total += strlen(get_string(from + i * row_bytes + first_string + j * sizeof(char *))) +
                     1;
    }
    char *block = malloc(total > 0 ? total : 1);
    if (!block)
        return NULL;
    if (n > 0)
        memcpy(block, rows, n * row_bytes);
    char *text = block + n * row_bytes;
    for (size_t i = 0; i < n; i++) {
        char *member = block + i * row_bytes + first_string;
        for (size_t j = 0; j < n_strings; j++, member += sizeof(char *)) {
            const char *old = get_string(member);
            const size_t len = strlen(old) + 1;
            memcpy(text, old, len);
            const char *moved = text;
            memcpy(member, &moved, sizeof(moved));
            text += len;
        }
    }
    return block;
}
