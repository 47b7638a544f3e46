/* changing.h - a file of blocks that changes, and the states it can be in. */
#ifndef PST_TEST_CHANGING_H
#define PST_TEST_CHANGING_H

#include <stddef.h>
#include <stdint.h>

#define BLOCK ((size_t)4096)
#define BLOCKS ((size_t)64)
#define HALF (BLOCKS / 2)

struct writer {
    const char *path, *temporary;
    uint64_t generation, random;
};

/* What can happen to the file. replace_it makes it, too; rewrite_half leaves the second half as it was. */
void rewrite_in_place(struct writer *w);
void rewrite_half(struct writer *w);
void rewrite_a_later_block(struct writer *w);
void truncate_it(struct writer *w);
void grow_it(struct writer *w);
void replace_it(struct writer *w);
void delete_it(struct writer *w);

/* Blocks in order, as far as they were read; those of ranges that failed are skipped. */
struct sight {
    uint64_t values[BLOCKS];
    size_t places[BLOCKS], n;
};

void see(struct sight *sight, size_t offset, const char *bytes, size_t len);

/* Fail the test unless the file was like this at one moment. */
void judge(const char *what, const struct sight *sight);

#endif
