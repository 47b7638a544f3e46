#include "util/suggest.h"

#include <stdint.h>
#include <string.h>

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t pst_edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    /* Rows i-2, i-1 and i of the table: a swap looks two rows back. */
    size_t rows[3][PST_SUGGEST_MAX + 1];

    if (a_len > PST_SUGGEST_MAX || b_len > PST_SUGGEST_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t *now = rows[i % 3];
        const size_t *up = rows[(i + 2) % 3];
        const size_t *up2 = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            const size_t change = up[j - 1] + (a[i - 1] != b[j - 1]);
            now[j] = least(change, least(up[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], up2[j - 2] + 1);
        }
    }
    return rows[a_len % 3][b_len];
}

void pst_suggest_init(struct pst_suggest *suggest, const char *word, size_t len)
{
    suggest->word = word;
    suggest->word_len = len;
    suggest->best = NULL;
    /* A third of the word may be wrong; anything further is another word. */
    suggest->best_distance = (len + 2) / 3 + 1;
}

void pst_suggest_offer(struct pst_suggest *suggest, const char *known)
{
    size_t distance = pst_edit_distance(suggest->word, suggest->word_len, known, strlen(known));

    if (distance < suggest->best_distance) {
        suggest->best = known;
        suggest->best_distance = distance;
    }
}
