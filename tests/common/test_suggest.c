/* "did you mean ...?" asks only when it is likely. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/error.h"
#include "common/suggest.h"

static void distance_counts_edits_and_swaps(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        size_t distance;
    } cases[] = {
        {"", "", 0},
        {"abc", "", 3},
        {"", "abc", 3},
        {"convert", "convert", 0},
        {"convrt", "convert", 1},
        {"convertt", "convert", 1},
        {"canvert", "convert", 1},
        {"ocnvert", "convert", 1},
        {"tiels", "tiles", 1},
        {"ca", "abc", 3}, /* optimal string alignment: no edit inside a swap */
        {"kitten", "sitting", 3},
        {"0123456789012345678901234567890123456789012345678901234567890123", "0", 64},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const size_t got = sm_edit_distance(cases[i].a, cases[i].b);
        if (got != cases[i].distance || sm_edit_distance(cases[i].b, cases[i].a) != got)
            fail_msg("'%s' and '%s': %zu", cases[i].a, cases[i].b, got);
    }
}

static void nearest_candidate_is_suggested_and_strangers_are_not(void **state)
{
    (void)state;
    static const char *const words[] = {"convert", "info", "verify", "verifier"};
    static const struct {
        const char *typed, *want;
    } cases[] = {
        {"convrt", "convert"},
        {"inof", "info"},
        {"verifyy", "verify"},
        {"verifie", "verifier"},
        {"frobnicate", NULL},
        {"in", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_suggestion best = {NULL, 0};
        for (size_t w = 0; w < SM_COUNT(words); w++)
            sm_suggest_offer(&best, cases[i].typed, words[w]);
        if (cases[i].want == NULL ? best.word != NULL
                                  : best.word == NULL || strcmp(best.word, cases[i].want) != 0)
            fail_msg("'%s': suggested '%s'", cases[i].typed, best.word ? best.word : "nothing");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distance_counts_edits_and_swaps),
        cmocka_unit_test(nearest_candidate_is_suggested_and_strangers_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
