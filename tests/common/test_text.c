/* Tests of common/text.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/text.h"
#include "tests/support/check.h"

static void hostile_text_becomes_printable(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *terminal, *json;
    } cases[] = {
        {"plain", "a b.svs", "a b.svs", "a b.svs"},
        {"empty", "", "", ""},
        {"UTF-8", "h\xC3\xA9 \xF0\x9F\x94\xAC", "h\xC3\xA9 \xF0\x9F\x94\xAC",
         "h\xC3\xA9 \xF0\x9F\x94\xAC"},
        {"escape and newline", "a\033[31m\nb", "a?[31m?b", "a\033[31m\nb"},
        {"a C1 control", "a\xC2\x9B", "a?", "a\xC2\x9B"},
        {"a stray byte", "a\xFFz", "a?z", "a\xEF\xBF\xBDz"},
        {"a sequence cut short", "a\xE2\x82", "a??", "a\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"overlong", "\xC0\xAF", "??", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"a surrogate", "\xED\xA0\x80", "???", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"beyond Unicode", "\xF4\x90\x80\x80", "????",
         "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    };
    sm_error err = SM_ERROR_INIT;
    sm_buf out = {0};
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        for (int terminal = 0; terminal < 2; terminal++) {
            const char *want = terminal ? cases[i].terminal : cases[i].json;
            SM_CHECK_OK(sm_text_clean(cases[i].text, terminal, &out, &err), &err);
            if (out.len != strlen(want) + 1 || memcmp(out.data, want, out.len) != 0)
                fail_msg("%s, terminal %d: '%s'", cases[i].name, terminal, (char *)out.data);
        }
    }
    sm_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hostile_text_becomes_printable)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
