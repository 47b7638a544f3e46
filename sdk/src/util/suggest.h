/* suggest.h - "did you mean": the known word that is nearest to a mistyped one. */
#ifndef PST_UTIL_SUGGEST_H
#define PST_UTIL_SUGGEST_H

#include <stddef.h>

struct pst_suggest {
    const char *word;
    size_t word_len;
    const char *best; /* NULL while nothing is near enough */
    size_t best_distance;
};

void pst_suggest_init(struct pst_suggest *suggest, const char *word, size_t len);

/* Keeps `known` in `best` if it is nearer than what was offered before. */
void pst_suggest_offer(struct pst_suggest *suggest, const char *known);

/* Insertions, deletions, substitutions and swaps of neighbours between two words of at most
 * PST_SUGGEST_MAX bytes; SIZE_MAX for longer ones. */
#define PST_SUGGEST_MAX 64
size_t pst_edit_distance(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
