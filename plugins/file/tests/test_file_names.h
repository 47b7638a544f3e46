/* test_file_names.h - list one big directory page by page, checking order and counting memory. */
#ifndef TEST_FILE_NAMES_H
#define TEST_FILE_NAMES_H

#include "mini_host.h"

struct names_result {
    uint64_t n_entries;
    long
        peak_kib; /* of the process that listed; 0 under a sanitizer, which has memory of its own */
};

/* Make files called "<prefix><number in some order><filler>" in `dir`, name_len bytes each. */
void names_make(const char *dir, const char *prefix, uint32_t n, size_t name_len);

/* List `dir` in a process of its own. Fails the test unless keys ascend strictly. */
struct names_result names_list(const char *dir, const char *const *options, uint32_t flags);

#endif
