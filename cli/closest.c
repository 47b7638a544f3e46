/* closest.c - what somebody may have meant by a word that is none. */
#include <string.h>

#include "frame.h"

#define WORD_MAX 40u

/* Edit distance with swaps of neighbours counted as one, the mistakes that fingers make. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t len_a = strlen(a), len_b = strlen(b);
    size_t row[3][WORD_MAX + 1];

    if (len_a > WORD_MAX || len_b > WORD_MAX)
        return WORD_MAX;
    for (size_t j = 0; j <= len_b; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= len_a; i++) {
        size_t *now = row[i % 3], *above = row[(i - 1) % 3], *two_above = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= len_b; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                two_above[j - 2] + 1 < best)
                best = two_above[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[len_a % 3][len_b];
}

const char *cli_find_closest(const char *word, const char *const *candidates)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 + 1;

    for (size_t i = 0; candidates[i]; i++) {
        size_t distance = edit_distance(word, candidates[i]);
        if (strlen(word) >= 3 && strncmp(word, candidates[i], strlen(word)) == 0)
            distance = 0; /* an abbreviation */
        if (distance < best_distance || (distance == best_distance && !best && strlen(word) > 2)) {
            best_distance = distance;
            best = candidates[i];
        }
    }
    return best;
}
