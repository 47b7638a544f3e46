#include "util/json.h"

#include <errno.h>
#include <string.h>

/* Without memory jansson (2.14) complains of an invalid token or, worse, succeeds with a character
 * missing from a string: its lexer does not look whether its buffer grew. errno does not tell, for
 * the next number clears it. But allocations do not fail twice in the same place: when two attempts
 * disagree, there was no memory. */
json_t *pst_json_parse(const char *text, size_t len, json_error_t *where, int *no_memory)
{
    json_t *root, *again;

    errno = 0;
    root = json_loadb(text, len, JSON_REJECT_DUPLICATES, where);
    again = json_loadb(text, len, JSON_REJECT_DUPLICATES, where);
    *no_memory = root || again ? !json_equal(root, again) : errno == ENOMEM;
    pst_json_wipe(again);
    if (*no_memory) {
        pst_json_wipe(root);
        return NULL;
    }
    return root;
}

/* jansson frees its strings without wiping them, and hands them out as const. */
static void wipe_strings(json_t *value)
{
    const char *name;
    json_t *member;
    size_t i;

    if (json_is_string(value)) {
        char *text;
        const char *borrowed = json_string_value(value);
        memcpy(&text, &borrowed, sizeof(text));
        explicit_bzero(text, json_string_length(value));
    }
    json_object_foreach(value, name, member)
    {
        wipe_strings(member);
    }
    json_array_foreach(value, i, member)
    {
        wipe_strings(member);
    }
}

void pst_json_wipe(json_t *root)
{
    if (root)
        wipe_strings(root);
    json_decref(root);
}
