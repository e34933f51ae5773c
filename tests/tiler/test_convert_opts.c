/* The options of a conversion: into flags, and back into the same words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/support/check.h"
#include "tiler/convert_opts.h"

typedef struct config {
    uint32_t before;
    sm_convert_flags flags;
} config;

static const sm_opt OPTIONS[] = {SM_CONVERT_OPTION_ROWS(config, flags, "media")};
static const char *const NO_NAMES[] = {""};
static const sm_command COMMAND = {
    .name = "test", .opts = OPTIONS, .n_opts = SM_COUNT(OPTIONS), .operand_names = NO_NAMES};

enum { MAX_WORDS = 32 };

static config parse(int argc, char **argv)
{
    sm_error err = SM_ERROR_INIT;
    config c = {0};
    const char *operands[1];
    unsigned n = 0;
    sm_opts_action action;
    SM_CHECK_OK(sm_opts_parse(&COMMAND, argc, argv, &c, operands, &n, &action, &err), &err);
    return c;
}

/* Words of the buffer behind a program name. */
static int split(sm_buf *words, size_t n, char *argv[MAX_WORDS])
{
    static char program[] = "test";
    char *at = (char *)words->data;
    int argc = 0;
    argv[argc++] = program;
    assert_true(n < MAX_WORDS - 1);
    for (size_t i = 0; i < n; i++, at += strlen(at) + 1)
        argv[argc++] = at;
    assert_true(at == (char *)words->data + words->len);
    return argc;
}

static bool has_word(const sm_buf *words, size_t n, const char *word)
{
    const char *at = (const char *)words->data;
    for (size_t i = 0; i < n; i++, at += strlen(at) + 1)
        if (strcmp(at, word) == 0)
            return true;
    return false;
}

static char words_of_a_run[][32] = {
    "test",
    "--levels=dyadic",
    "--tiles=retile",
    "--codec=lzw",
    "--quality=61",
    "--profile=generic",
    "--subsampling=422",
    "--blank=full",
    "--bad-tile=blank",
    "--tile-px=512",
    "--associated=keep",
    "--threads=3",
    "--memory=3G",
    "--scratch=/a b",
    "--verify=cache",
};

static config some_config(void)
{
    char *argv[SM_COUNT(words_of_a_run)];
    for (size_t i = 0; i < SM_COUNT(words_of_a_run); i++)
        argv[i] = words_of_a_run[i];
    return parse(SM_COUNT(words_of_a_run), argv);
}

static void words_parse_into_the_same_flags(void **state)
{
    (void)state;
    const config sets[] = {parse(0, NULL), some_config()};
    for (size_t i = 0; i < SM_COUNT(sets); i++) {
        sm_error err = SM_ERROR_INIT;
        sm_buf words = {0};
        char *argv[MAX_WORDS];
        size_t n = 0;
        SM_CHECK_OK(sm_convert_flags_argv(&sets[i].flags, false, &words, &n, &err), &err);
        const config again = parse(split(&words, n, argv), argv);
        const sm_convert_flags *a = &sets[i].flags, *b = &again.flags;
        assert_memory_equal(a, b, offsetof(sm_convert_flags, memory));
        assert_true(a->memory == b->memory);
        assert_true((a->scratch == NULL) == (b->scratch == NULL));
        if (a->scratch != NULL)
            assert_string_equal(a->scratch, b->scratch);
        sm_buf_free(&words);
    }
}

static void only_what_decides_the_bytes(void **state)
{
    (void)state;
    const config c = some_config();
    sm_error err = SM_ERROR_INIT;
    sm_buf words = {0}, other = {0};
    size_t n = 0, n_other = 0;
    SM_CHECK_OK(sm_convert_flags_argv(&c.flags, true, &words, &n, &err), &err);
    assert_int_equal(n, SM_COUNT(OPTIONS) - 4);
    assert_true(has_word(&words, n, "--quality=61"));
    assert_true(has_word(&words, n, "--codec=lzw"));
    assert_false(has_word(&words, n, "--threads=3"));
    config same = c;
    same.flags.threads = 7;
    same.flags.memory = 1;
    same.flags.scratch = NULL;
    same.flags.verify = 0;
    SM_CHECK_OK(sm_convert_flags_argv(&same.flags, true, &other, &n_other, &err), &err);
    assert_int_equal(n, n_other);
    assert_int_equal(words.len, other.len);
    assert_memory_equal(words.data, other.data, words.len);
    sm_buf_free(&words);
    sm_buf_free(&other);
}

static void tile_sides_are_multiples_of_16(void **state)
{
    (void)state;
    static const struct {
        uint32_t px;
        bool fine;
    } cases[] = {{0, true}, {64, true}, {512, true}, {4096, true}, {16, false}, {100, false}};
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const sm_convert_flags flags = {.tile_px = cases[i].px};
        sm_error err = SM_ERROR_INIT;
        if ((sm_convert_flags_check(&flags, &err) == SM_OK) != cases[i].fine)
            fail_msg("%u: %s", cases[i].px, err.message);
    }
}

static void flags_become_options(void **state)
{
    (void)state;
    const config c = some_config();
    sm_convert_options o;
    sm_allowance threads, memory;
    sm_convert_flags_options(&c.flags, &o, &threads, &memory);
    assert_int_equal(o.plan.levels, SM_LEVELS_DYADIC);
    assert_int_equal(o.plan.tiles, SM_TILES_RETILE);
    assert_int_equal(o.plan.codec, SM_CODEC_MODE_LZW);
    assert_int_equal(o.plan.subsampling, SM_SUBSAMPLING_422);
    assert_int_equal(o.plan.quality, 61);
    assert_int_equal(o.profile, SM_PROFILE_GENERIC);
    assert_true(!o.share_blank && o.blank_bad_tiles && o.keep_associated);
    assert_int_equal(o.threads, 3);
    assert_int_equal(o.memory_bytes, UINT64_C(3) << 30);
    assert_int_equal(o.verify, SM_VERIFY_CACHE);
    assert_string_equal(threads.where, "--threads");
    assert_true(!o.force && !o.quiet && o.hooks.at == NULL && o.hooks.also_digest == NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_parse_into_the_same_flags),
        cmocka_unit_test(only_what_decides_the_bytes),
        cmocka_unit_test(tile_sides_are_multiples_of_16),
        cmocka_unit_test(flags_become_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
