/* Edit distance with swaps (optimal string alignment), three rows at a time, and the rule for what
 * is near enough to be worth a question. */
#include "common/suggest.h"

#include <string.h>

#define WORD_CAP 64

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t sm_edit_distance(const char *a, const char *b)
{
    const size_t a_len = strlen(a);
    const size_t b_len = strlen(b);
    size_t rows[3][WORD_CAP];
    size_t *before = rows[0];
    size_t *last = rows[1];
    size_t *now = rows[2];

    if (a_len >= WORD_CAP || b_len >= WORD_CAP)
        return a_len > b_len ? a_len : b_len;
    for (size_t j = 0; j <= b_len; j++) {
        before[j] = 0;
        last[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        now[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            const size_t replace = last[j - 1] + (a[i - 1] != b[j - 1]);
            now[j] = min_size(replace, min_size(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = min_size(now[j], before[j - 2] + 1);
        }
        size_t *const oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[b_len];
}

void sm_suggest_offer(sm_suggestion *best, const char *typed, const char *candidate)
{
    const size_t allowed = strlen(typed) < 6 ? 1 : strlen(typed) / 3;
    const size_t distance = sm_edit_distance(typed, candidate);

    if (distance > allowed || (best->word != NULL && distance >= best->distance))
        return;
    best->word = candidate;
    best->distance = distance;
}
