/* json.h - jansson, with two things it lacks. */
#ifndef PST_UTIL_JSON_H
#define PST_UTIL_JSON_H

#include <jansson.h>

/* Parse; duplicate keys are errors. NULL on failure: *no_memory tells whether for lack of memory,
 * else *where says what is wrong. */
json_t *pst_json_parse(const char *text, size_t len, json_error_t *where, int *no_memory);

/* Give back a tree and leave none of its strings in memory. NULL is allowed. */
void pst_json_wipe(json_t *root);

#endif
