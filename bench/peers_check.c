/* Looks at what converters wrote, each kind in the simplest way that cannot be fooled by a file
 * that is only begun. Owns nothing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/peers.h"
#include "common/source.h"
#include "tiler/slide.h"

sm_status peers_size_of(const char *path, uint32_t *w_px, uint32_t *h_px, uint64_t *bytes,
                        sm_error *err)
{
    sm_source *source = NULL;
    sm_slide *slide = NULL;
    sm_status st = sm_source_open(path, &source, err);
    if (st == SM_OK)
        st = sm_slide_open(source, &slide, err);
    if (st == SM_OK) {
        *w_px = sm_slide_level(slide, 0)->w_px;
        *h_px = sm_slide_level(slide, 0)->h_px;
        *bytes = sm_source_size(source);
    }
    sm_slide_close(&slide);
    sm_source_close(&source);
    return st;
}

static bool size_is(const peers_bench *b, uint32_t w_px, uint32_t h_px, char why[200])
{
    if (w_px == b->w_px && h_px == b->h_px)
        return true;
    (void)snprintf(why, 200,
                   "the output has %" PRIu32 " x %" PRIu32 " px, not %" PRIu32 " x %" PRIu32, w_px,
                   h_px, b->w_px, b->h_px);
    return false;
}

static bool check_tiff(const peers_bench *b, const char *path, char why[200])
{
    sm_error err = SM_ERROR_INIT;
    uint32_t w_px = 0, h_px = 0;
    uint64_t bytes = 0;
    if (peers_size_of(path, &w_px, &h_px, &bytes, &err) != SM_OK) {
        (void)snprintf(why, 200, "its output does not open: %.160s", err.message);
        return false;
    }
    return size_is(b, w_px, h_px, why);
}

/* ---- DeepZoom ---- */

static uint32_t attribute(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at != NULL ? (uint32_t)strtoul(at + strlen(name), NULL, 10) : 0;
}

static bool check_dzi(const peers_bench *b, const char *path, char why[200])
{
    char name[PATH_MAX + 64], text[4096];
    struct stat info;
    uint32_t levels = 0;
    (void)snprintf(name, sizeof name, "%s.dzi", path);
    FILE *f = fopen(name, "re");
    const size_t len = f != NULL ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f != NULL)
        (void)fclose(f);
    text[len] = '\0';
    if (!size_is(b, attribute(text, "Width=\""), attribute(text, "Height=\""), why))
        return false;
    while (levels < 31 && (UINT32_C(1) << levels) < b->w_px + (b->w_px == 0))
        levels++;
    while (levels < 31 && (UINT32_C(1) << levels) < b->h_px)
        levels++;
    (void)snprintf(name, sizeof name, "%s_files/%" PRIu32 "/0_0.jpg", path, levels);
    if (stat(name, &info) == 0 && info.st_size > 0)
        return true;
    (void)snprintf(why, 200, "its full-size level (%" PRIu32 ") has no first tile", levels);
    return false;
}

/* ---- DICOM ---- */

/* (0048,0006) and (0048,0007), total columns and rows of the matrix: VR UL, 4 bytes. Compressed
 * instances are explicit little-endian, so that these bytes stand there just so. */
static bool find_total(const uint8_t *bytes, size_t len, uint8_t element, uint32_t *value)
{
    const uint8_t tag[8] = {0x48, 0, element, 0, 'U', 'L', 4, 0};
    const uint8_t *at = memmem(bytes, len, tag, sizeof tag);
    if (at == NULL || (size_t)(at - bytes) + 12 > len)
        return false;
    *value =
        (uint32_t)at[8] | (uint32_t)at[9] << 8 | (uint32_t)at[10] << 16 | (uint32_t)at[11] << 24;
    return true;
}

static bool is_level0(const peers_bench *b, int folder, const char *name)
{
    enum { HEAD = 1 << 20 };
    static const uint8_t PIXELS[] = {0xE0, 0x7F, 0x10, 0, 'O', 'B'};
    const int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    uint8_t *head = sm_malloc_array(HEAD, 1);
    const ssize_t got = fd >= 0 && head != NULL ? pread(fd, head, HEAD, 0) : 0;
    const size_t len = got > 0 ? (size_t)got : 0;
    uint32_t w_px = 0, h_px = 0;
    const bool good = len > 132 && memcmp(head + 128, "DICM", 4) == 0 &&
                      find_total(head, len, 6, &w_px) && find_total(head, len, 7, &h_px) &&
                      w_px == b->w_px && h_px == b->h_px &&
                      memmem(head, len, PIXELS, sizeof PIXELS) != NULL;
    free(head);
    if (fd >= 0)
        (void)close(fd);
    return good;
}

static bool check_dicom(const peers_bench *b, const char *path, char why[200])
{
    const struct dirent *entry;
    bool found = false;
    DIR *folder = opendir(path);
    while (folder != NULL && !found && (entry = readdir(folder)) != NULL)
        found = entry->d_name[0] != '.' && is_level0(b, dirfd(folder), entry->d_name);
    if (folder != NULL)
        (void)closedir(folder);
    if (!found)
        (void)snprintf(why, 200, "no DICOM instance of %" PRIu32 " x %" PRIu32 " px in its output",
                       b->w_px, b->h_px);
    return found;
}

/* ---- copies ---- */

static bool same_bytes(FILE *a, FILE *b)
{
    enum { CHUNK = 1 << 16 };
    uint8_t left[CHUNK], right[CHUNK];
    size_t n;
    do {
        n = fread(left, 1, CHUNK, a);
        if (fread(right, 1, CHUNK, b) != n || memcmp(left, right, n) != 0)
            return false;
    } while (n > 0);
    return !ferror(a) && !ferror(b);
}

static bool check_copy(const peers_bench *b, const char *path, char why[200])
{
    FILE *slide = fopen(b->slide, "re"), *copy = fopen(path, "re");
    const bool same = slide != NULL && copy != NULL && same_bytes(slide, copy);
    if (slide != NULL)
        (void)fclose(slide);
    if (copy != NULL)
        (void)fclose(copy);
    if (!same)
        (void)snprintf(why, 200, "its copy does not have the bytes of the slide");
    return same;
}

bool peers_check(const peers_bench *b, const peers_row *row, const char *path, char why[200])
{
    switch (row->output) {
    case PEERS_TIFF:
        return check_tiff(b, path, why);
    case PEERS_DZI:
        return check_dzi(b, path, why);
    case PEERS_DICOM:
        return check_dicom(b, path, why);
    case PEERS_COPY:
        return check_copy(b, path, why);
    case PEERS_NONE:
        return true;
    }
    return false;
}
