/* "did you mean ...?": the known word that a mistyped one most resembles. Owns nothing. */
#ifndef SM_COMMON_SUGGEST_H
#define SM_COMMON_SUGGEST_H

#include <stddef.h>

/** Edits between two words: insert, delete, replace, swap of neighbours. Words of more than 63
 * bytes are as far apart as the longer one is long. */
size_t sm_edit_distance(const char *a, const char *b);

/* The best match so far; zero it, offer candidates, read `word`. */
typedef struct sm_suggestion {
    const char *word; /* borrowed from the candidates; NULL: nothing is near enough */
    size_t distance;
} sm_suggestion;

/** Keep candidate if it is nearer to typed than what was offered before, and near enough at all: at
 *  most one edit for every three letters typed, and one for the shortest. */
void sm_suggest_offer(sm_suggestion *best, const char *typed, const char *candidate);

#endif
