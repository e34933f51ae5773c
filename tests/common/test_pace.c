/* When a brick is called slow, with made-up rates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/error.h"
#include "common/pace.h"

#define S UINT64_C(1000000000)
#define MB UINT64_C(1000000)

static void the_median_is_the_middle(void **state)
{
    (void)state;
    double odd[] = {9, 1, 5}, even[] = {4, 1, 3, 2}, one[] = {7};
    assert_true(sm_median(odd, 3) == 5 && sm_median(even, 4) == 2.5 && sm_median(one, 1) == 7);
    assert_true(sm_median(NULL, 0) == 0);
}

/* Four bricks; what is said of the third one, in percent of the median. */
static void a_slow_brick_is_named_with_enough_data_only(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        sm_pace good, third;
        int percent;
    } cases[] = {
        {"slow", {20, 2000 * MB, 20 * S, 0, 0, 0, 0, 0}, {20, 820 * MB, 20 * S, 0, 0, 0, 0, 0}, 41},
        {"a little slower",
         {20, 2000 * MB, 20 * S, 0, 0, 0, 0, 0},
         {20, 1600 * MB, 20 * S, 0, 0, 0, 0, 0},
         100},
        {"few slides",
         {20, 2000 * MB, 20 * S, 0, 0, 0, 0, 0},
         {SM_PACE_READS - 1, 82 * MB, 2 * S, 82 * MB, 2 * S, 0, 0, 0},
         100},
        {"little time",
         {20, 2000 * MB, 20 * S, 0, 0, 0, 0, 0},
         {20, 10 * MB, SM_PACE_NS - 1, 10 * MB, SM_PACE_NS - 1, 0, 0, 0},
         100},
        {"never waited for: its lower bound is no measurement",
         {20, 2000 * MB, 20 * S, 0, 0, 0, 0, 0},
         {0, 0, 0, 200 * MB, 20 * S, 0, 0, 0},
         100},
        {"the others were never waited for, but are faster",
         {0, 0, 0, 2000 * MB, 20 * S, 0, 0, 0},
         {20, 1000 * MB, 20 * S, 0, 0, 0, 0, 0},
         50},
        {"the others were never waited for, and their work is slower than it reads",
         {0, 0, 0, 400 * MB, 20 * S, 0, 0, 0},
         {20, 1000 * MB, 20 * S, 0, 0, 0, 0, 0},
         100},
        {"nothing is known of the others",
         {0, 0, 0, 0, 0, 0, 0, 0},
         {20, 82 * MB, 20 * S, 0, 0, 0, 0, 0},
         100},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        sm_pace bricks[] = {cases[i].good, cases[i].good, cases[i].third, cases[i].good};
        double scratch[SM_COUNT(bricks)];
        sm_pace_judge(bricks, SM_COUNT(bricks), scratch);
        const int percent = (int)(100 * bricks[2].of_median + 0.5);
        if (percent != cases[i].percent)
            fail_msg("%s: %d%%", cases[i].name, percent);
        for (size_t b = 0; b < SM_COUNT(bricks); b++)
            if (b != 2 && bricks[b].of_median != 1)
                fail_msg("%s: brick %zu is called slow", cases[i].name, b + 1);
    }
}

static void one_brick_is_never_slow(void **state)
{
    (void)state;
    sm_pace brick = {.n = 100, .bytes = MB, .ns = 100 * S};
    double scratch[1];
    sm_pace_judge(&brick, 1, scratch);
    assert_true(brick.of_median == 1 && brick.measured);
    sm_pace_judge(NULL, 0, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_median_is_the_middle),
        cmocka_unit_test(a_slow_brick_is_named_with_enough_data_only),
        cmocka_unit_test(one_brick_is_never_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
