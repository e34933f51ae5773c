/* Tests of common/brick.c: values as GlusterFS 10 gives them, and hostile ones.
 * With arguments it names the bricks of files, for tests/cluster. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/brick.h"
#include "common/buf.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

#define DIST(brick, host, file) "<POSIX(" brick "):" host ":" brick file ">"

static const struct {
    const char *name, *value, *want; /* NULL: none in it */
} CASES[] = {
    {"distribute",
     "(<DISTRIBUTE:dist-dht> <POSIX(/b/dist-0/data):HOST:/b/dist-0/data/d/slide.svs>)",
     "HOST:/b/dist-0/data"},
    {"replicate",
     "(<DISTRIBUTE:rep-dht> (<REPLICATE:rep-replicate-0> <POSIX(/b/rep-0/data):HOST:/b/rep-0/data/"
     "d/slide.svs> <POSIX(/b/rep-1/data):HOST:/b/rep-1/data/d/slide.svs>))",
     "rep-replicate-0"},
    {"replicate, the other order",
     "(<DISTRIBUTE:rep-dht> (<REPLICATE:rep-replicate-0> <POSIX(/b/rep-1/data):HOST:/b/rep-1/data/"
     "d/slide.svs> <POSIX(/b/rep-0/data):HOST:/b/rep-0/data/d/slide.svs>))",
     "rep-replicate-0"},
    {"replicate, one dead",
     "(<DISTRIBUTE:rep-dht> (<REPLICATE:rep-replicate-0> <POSIX(/b/rep-1/data):HOST:/b/rep-1/data/"
     "d/slide.svs>))",
     "rep-replicate-0"},
    {"replicate alone", "(<REPLICATE:v-replicate-0> " DIST("/b/0", "h", "/f") ")", "v-replicate-0"},
    {"disperse", "(<DISTRIBUTE:v-dht> (<EC:v-disperse-3> " DIST("/b/0", "h", "/f") "))",
     "v-disperse-3"},
    {"shard", "(<DISTRIBUTE:shard-dht> " DIST("/b/shard-0/data", "HOST", "/d/s.svs") ")",
     "HOST:/b/shard-0/data"},
    {"one brick, no translator", DIST("/b/0", "gh3.example.org", "/f"), "gh3.example.org:/b/0"},
    {"brick with brackets and spaces", "(<DISTRIBUTE:v-dht> " DIST("/b (old):x/0", "h", "/f") ")",
     "h:/b (old):x/0"},
    {"file that looks like a value",
     "(<DISTRIBUTE:v-dht> " DIST("/b/0", "h", "/x> (<REPLICATE:evil> <POSIX(/e):e:/e/y") ">)",
     "h:/b/0"},
    {"file that looks like a brick",
     "(<DISTRIBUTE:v-dht> " DIST("/b/0", "h", "/):h:/b/0/):h:/b/0/") ")", "h:/b/0"},
    {"file with control characters", "(<DISTRIBUTE:v-dht> " DIST("/b/0", "h", "/\x1b[2J\n") ")",
     "h:/b/0"},
    {"deeper chain",
     "(<DISTRIBUTE:v-tier-dht> (<DISTRIBUTE:v-cold-dht> " DIST("/b/0", "h", "/f") "))", "h:/b/0"},
    {"folder",
     "((<DISTRIBUTE:dist-dht> <POSIX(/b/0):HOST:/b/0/d> <POSIX(/b/1):HOST:/b/1/d>) "
     "(dist-dht-layout "
     "(dist-client-1 0 1073741822) (dist-client-2 1073741823 2147483645)))",
     NULL},
    {"nothing", "", NULL},
    {"only brackets", "((((((((", NULL},
    {"no name", "(<DISTRIBUTE:> " DIST("/b/0", "h", "/f") ")", NULL},
    {"no kind", "(<:v> " DIST("/b/0", "h", "/f") ")", NULL},
    {"name with a bracket", "(<REPLICATE:v(1)> " DIST("/b/0", "h", "/f") ")", NULL},
    {"name with an escape", "(<REPLICATE:v\x1b> " DIST("/b/0", "h", "/f") ")", NULL},
    {"cut in the kind", "(<DISTRI", NULL},
    {"cut in the name", "(<DISTRIBUTE:v", NULL},
    {"cut behind the name", "(<DISTRIBUTE:v>", NULL},
    {"cut in the brick", "(<DISTRIBUTE:v> <POSIX(/b/0", NULL},
    {"cut in the host", "(<DISTRIBUTE:v> <POSIX(/b/0):h", NULL},
    {"cut in the second brick", "(<DISTRIBUTE:v> <POSIX(/b/0):h:/b/", NULL},
    {"cut behind it", "(<DISTRIBUTE:v> <POSIX(/b/0):h:/b/0", NULL},
    {"relative brick", "(<DISTRIBUTE:v> <POSIX(b/0):h:b/0/f>)", NULL},
    {"two bricks that differ", "(<DISTRIBUTE:v> <POSIX(/b/0):h:/b/1/f>)", NULL},
    {"one that only begins alike", "(<DISTRIBUTE:v> <POSIX(/b/0):h:/b/01/f>)", NULL},
    {"no host", "(<DISTRIBUTE:v> <POSIX(/b/0)::/b/0/f>)", NULL},
    {"host with a space", "(<DISTRIBUTE:v> <POSIX(/b/0):h h:/b/0/f>)", NULL},
    {"brick with a newline", "(<DISTRIBUTE:v> " DIST("/b\n0", "h", "/f") ")", NULL},
    {"SQL", "'); DROP TABLE slide; --", NULL},
};

/* From memory of exactly that size, so that a sanitizer sees a step too far. */
static sm_status parse_exact(const char *value, size_t len, char name[SM_BRICK_CAP], sm_error *err)
{
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, value, len);
    const sm_status st = sm_brick_parse(copy, len, name, err);
    free(copy);
    return st;
}

static void values_are_read_with_and_without_their_nul(void **state)
{
    (void)state;
    for (size_t i = 0; i < SM_COUNT(CASES); i++) {
        for (size_t nul = 0; nul <= 1; nul++) {
            sm_error err = SM_ERROR_INIT;
            char name[SM_BRICK_CAP] = "before";
            const sm_status st =
                parse_exact(CASES[i].value, strlen(CASES[i].value) + nul, name, &err);
            if (st != (CASES[i].want != NULL ? SM_OK : SM_ERR_FORMAT))
                fail_msg("%s: %s: '%s' %s", CASES[i].name, sm_status_name(st), name, err.message);
            assert_string_equal(name, CASES[i].want != NULL ? CASES[i].want : "");
        }
    }
}

static void no_cut_and_no_flipped_byte_leads_astray(void **state)
{
    (void)state;
    for (size_t i = 0; i < SM_COUNT(CASES); i++) {
        const size_t len = strlen(CASES[i].value);
        for (size_t at = 0; at < len; at++) {
            char name[SM_BRICK_CAP], value[512];
            sm_error err = SM_ERROR_INIT;
            const sm_status cut = parse_exact(CASES[i].value, at, name, &err);
            assert_true(cut == SM_OK || cut == SM_ERR_FORMAT);
            assert_true(cut != SM_OK ||
                        (CASES[i].want != NULL && strcmp(name, CASES[i].want) == 0));
            for (int bit = 0; bit < 8; bit++) {
                memcpy(value, CASES[i].value, len);
                value[at] = (char)(value[at] ^ (1 << bit));
                const sm_status st = parse_exact(value, len, name, &err);
                assert_true(st == SM_OK || st == SM_ERR_FORMAT);
                assert_true(strlen(name) < SM_BRICK_CAP && (name[0] != '\0') == (st == SM_OK));
                for (const char *p = name; *p != '\0'; p++)
                    assert_true((unsigned char)*p >= 0x20 && *p != 0x7F);
            }
        }
    }
}

static void names_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    for (size_t n = 200; n < 2 * SM_BRICK_CAP; n++) {
        char word[2 * SM_BRICK_CAP + 1], value[8 * SM_BRICK_CAP], name[SM_BRICK_CAP];
        sm_error err = SM_ERROR_INIT;
        memset(word, 'w', n);
        word[n] = '\0';
        snprintf(value, sizeof(value), "(<REPLICATE:%s> <POSIX(/b):h:/b/f>)", word);
        assert_int_equal(sm_brick_parse(value, strlen(value), name, &err),
                         n < SM_BRICK_CAP ? SM_OK : SM_ERR_FORMAT);
        snprintf(value, sizeof(value), "<POSIX(/%s):h:/%s/f>", word, word);
        assert_int_equal(sm_brick_parse(value, strlen(value), name, &err),
                         n + 3 < SM_BRICK_CAP ? SM_OK : SM_ERR_FORMAT);
        snprintf(value, sizeof(value), "<POSIX(/b):%s:/b/f>", word);
        assert_int_equal(sm_brick_parse(value, strlen(value), name, &err),
                         n + 3 < SM_BRICK_CAP ? SM_OK : SM_ERR_FORMAT);
    }
}

static void elsewhere_a_brick_is_a_device(void **state)
{
    (void)state;
    const sm_tmpdir dir = sm_tmpdir_make();
    const sm_tmppath file = sm_tmpdir_file(&dir, "slide");
    static const int FLAGS[] = {O_RDONLY, O_PATH, O_RDWR};
    struct stat info;
    sm_file_write(file.path, "x", 1);
    assert_int_equal(stat(file.path, &info), 0);
    for (size_t i = 0; i < SM_COUNT(FLAGS); i++) {
        char name[SM_BRICK_CAP], want[SM_BRICK_CAP];
        sm_error err = SM_ERROR_INIT;
        const int fd = open(file.path, FLAGS[i] | O_CLOEXEC);
        assert_true(fd >= 0);
        SM_CHECK_OK(sm_brick_of(fd, name, &err), &err);
        snprintf(want, sizeof(want), "dev:%u:%u", major(info.st_dev), minor(info.st_dev));
        assert_string_equal(name, want);
        close(fd);
    }
    sm_tmpdir_remove(&dir);
}

static void a_file_that_cannot_be_asked_is_an_io_error(void **state)
{
    (void)state;
    char name[SM_BRICK_CAP];
    sm_error err = SM_ERROR_INIT;
    assert_int_equal(sm_brick_of(-1, name, &err), SM_ERR_IO);
    assert_string_equal(name, "");
    sm_alloc_fail_after(0);
    const sm_status st = sm_brick_of(0, name, &err);
    sm_alloc_fail_after(-1);
    assert_int_equal(st, SM_ERR_NOMEM);
}

/* As a tool for tests/cluster: the brick of each file. */
static int name_bricks(char **files)
{
    for (; *files != NULL; files++) {
        char name[SM_BRICK_CAP];
        sm_error err = SM_ERROR_INIT;
        const int fd = open(*files, O_PATH | O_CLOEXEC);
        if (fd < 0 || sm_brick_of(fd, name, &err) != SM_OK) {
            fprintf(stderr, "%s: %s\n", *files, err.message);
            return 1;
        }
        puts(name);
        close(fd);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return name_bricks(argv + 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read_with_and_without_their_nul),
        cmocka_unit_test(no_cut_and_no_flipped_byte_leads_astray),
        cmocka_unit_test(names_that_do_not_fit_are_refused),
        cmocka_unit_test(elsewhere_a_brick_is_a_device),
        cmocka_unit_test(a_file_that_cannot_be_asked_is_an_io_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
