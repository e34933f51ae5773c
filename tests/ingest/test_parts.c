/* Slides by their names, and the files that belong to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>

#include "common/buf.h"
#include "ingest/parts.h"
#include "tests/support/check.h"
#include "tests/support/tmpdir.h"

static void slides_are_known_by_their_names(void **state)
{
    (void)state;
    static const struct {
        const char *path, *vendor;
    } cases[] = {
        {"a.svs", "aperio"},
        {"d/e/A.SVS", "aperio"},
        {"a.ndpi", "hamamatsu"},
        {"a.vms", "hamamatsu"},
        {"a.vmu", "hamamatsu"},
        {"a.scn", "leica"},
        {"a.mrxs", "mirax"},
        {"a.bif", "ventana"},
        {"a.svslide", "sakura"},
        {"a.tif", "generic-tiff"},
        {"a.tiff", "generic-tiff"},
        {"a.btf", "generic-tiff"},
        {"a.ome.tif", "ome-tiff"},
        {"a.OME.TIFF", "ome-tiff"},
        {"a.ome.btf", "ome-tiff"},
        {"a.dcm", "dicom"},
        {"a.svs.part", NULL},
        {"a.jpg", NULL},
        {"svs", NULL},
        {".svs", NULL},
        {"a.svs/b", NULL},
        {"d/.tif", NULL},
        {"", NULL},
        {"a.svs\n", NULL},
        {"\xff\xfe.svs", "aperio"},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const char *got = sm_parts_vendor(cases[i].path);
        if ((got == NULL) != (cases[i].vendor == NULL) ||
            (got != NULL && strcmp(got, cases[i].vendor) != 0))
            fail_msg("'%s': %s", cases[i].path, got != NULL ? got : "no slide");
    }
}

typedef struct place {
    sm_tmpdir dir;
    int fd;
} place;

static place place_make(void)
{
    place p = {.dir = sm_tmpdir_make()};

    p.fd = open(p.dir.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(p.fd >= 0);
    return p;
}

static void place_put(const place *p, const char *name, const char *text)
{
    sm_file_write(sm_tmpdir_file(&p->dir, name).path, text, strlen(text));
}

static void place_mkdir(const place *p, const char *name)
{
    assert_int_equal(mkdir(sm_tmpdir_file(&p->dir, name).path, 0777), 0);
}

static void place_remove(place *p)
{
    (void)close(p->fd);
    sm_tmpdir_remove(&p->dir);
}

/* The parts, joined by '|'; the test fails with the error. */
static void expect_parts(const place *p, const char *path, const char *want)
{
    sm_error err = SM_ERROR_INIT;
    char **parts = NULL;
    char got[1024] = "";
    size_t n = 0, len = 0;

    SM_CHECK_OK(sm_parts_find(p->fd, path, &parts, &n, &err), &err);
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%s", i > 0 ? "|" : "", parts[i]);
    if (strcmp(got, want) != 0)
        fail_msg("%s: '%s', not '%s'", path, got, want);
    sm_parts_free(&parts, n);
    assert_null(parts);
}

static void mirax_has_the_files_of_its_folder(void **state)
{
    (void)state;
    place p = place_make();

    place_mkdir(&p, "d");
    place_mkdir(&p, "d/a");
    place_mkdir(&p, "d/a/sub");
    place_put(&p, "d/a.mrxs", "x");
    place_put(&p, "d/a/Slidedat.ini", "x");
    place_put(&p, "d/a/Data0001.dat", "x");
    place_put(&p, "d/a/Data0000.dat", "x");
    place_put(&p, "d/a/.Data0000.dat.aB3dE9", "x");
    place_put(&p, "d/alone.mrxs", "x");
    place_put(&p, "d/file.mrxs", "x");
    place_put(&p, "d/file", "x");
    expect_parts(&p, "d/a.mrxs", "d/a/Data0000.dat|d/a/Data0001.dat|d/a/Slidedat.ini");
    expect_parts(&p, "d/alone.mrxs", "");
    expect_parts(&p, "d/file.mrxs", "");
    expect_parts(&p, "d/a.svs", "");
    place_remove(&p);
}

static void vms_has_the_files_it_names(void **state)
{
    (void)state;
    place p = place_make();

    place_mkdir(&p, "d");
    place_put(&p, "d/a.vms",
              "[Virtual Microscope Specimen]\r\nNoLayers=1\r\nImageFile=a.jpg\r\n"
              "ImageFile(1,0)=a(1,0).jpg\r\nImageFile(1,0)=a(1,0).jpg\r\nMapFile=a_map.jpg\r\n"
              "MacroImage=\r\nOptimisationFile=gone.opt\r\nPhysicalWidth=100");
    expect_parts(&p, "d/a.vms", "d/a(1,0).jpg|d/a.jpg|d/a_map.jpg|d/gone.opt");
    place_put(&p, "b.vmu", "ImageFile=b.ngr\n");
    expect_parts(&p, "b.vmu", "b.ngr");
    place_put(&p, "empty.vms", "");
    expect_parts(&p, "empty.vms", "");
    place_remove(&p);
}

static void an_index_cannot_name_files_elsewhere(void **state)
{
    (void)state;
    static const char *const VALUES[] = {"../x.jpg", "/etc/passwd", "sub/x.jpg",
                                         "..",       ".hidden",     "C:\\x.jpg"};
    place p = place_make();
    sm_error err = SM_ERROR_INIT;
    char **parts = NULL;
    char text[100];
    size_t n = 0;

    for (size_t i = 0; i < SM_COUNT(VALUES); i++) {
        (void)snprintf(text, sizeof text, "ImageFile=ok.jpg\nMapFile=%s\n", VALUES[i]);
        place_put(&p, "a.vms", text);
        SM_CHECK_FAILS(sm_parts_find(p.fd, "a.vms", &parts, &n, &err), &err, SM_ERR_FORMAT,
                       "outside of its folder");
        assert_null(parts);
    }
    SM_CHECK_FAILS(sm_parts_find(p.fd, "../a.vms", &parts, &n, &err), &err, SM_ERR_ARG, "..");
    char *big = malloc(2 << 20);
    assert_non_null(big);
    memset(big, '\n', 2 << 20);
    sm_file_write(sm_tmpdir_file(&p.dir, "big.vms").path, big, 2 << 20);
    free(big);
    SM_CHECK_FAILS(sm_parts_find(p.fd, "big.vms", &parts, &n, &err), &err, SM_ERR_FORMAT, "1 MiB");
    assert_int_equal(symlink("/etc", sm_tmpdir_file(&p.dir, "out").path), 0);
    place_put(&p, "out.mrxs", "x");
    SM_CHECK_FAILS(sm_parts_find(p.fd, "out.mrxs", &parts, &n, &err), &err, SM_ERR_ARG, "out");
    place_remove(&p);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    place p = place_make();

    place_put(&p, "a.vms", "ImageFile=a.jpg\nMapFile=b.jpg\nMacroImage=c.jpg\n");
    for (long i = 0; i < 100; i++) {
        sm_error err = SM_ERROR_INIT;
        char **parts = NULL;
        size_t n = 0;
        sm_alloc_fail_after(i);
        const sm_status st = sm_parts_find(p.fd, "a.vms", &parts, &n, &err);
        sm_alloc_fail_after(-1);
        if (st == SM_OK) {
            assert_int_equal(n, 3);
            assert_true(i > 2);
            sm_parts_free(&parts, n);
            place_remove(&p);
            return;
        }
        assert_int_equal(st, SM_ERR_NOMEM);
        assert_null(parts);
    }
    fail_msg("it never succeeds");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slides_are_known_by_their_names),
        cmocka_unit_test(mirax_has_the_files_of_its_folder),
        cmocka_unit_test(vms_has_the_files_it_names),
        cmocka_unit_test(an_index_cannot_name_files_elsewhere),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
