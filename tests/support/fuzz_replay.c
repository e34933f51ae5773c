/* Runs a fuzz target over stored inputs, as an ordinary test: every file of the folders and every
 * file named on the command line. The preset `fuzz` links libFuzzer instead. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool replay_file(const char *path)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf input = {0};
    uint8_t chunk[4096];
    FILE *file = fopen(path, "rb");
    bool ok = file != NULL;

    for (size_t n = 1; ok && n > 0;) {
        n = fread(chunk, 1, sizeof(chunk), file);
        ok = !ferror(file) && sm_buf_append(&input, chunk, n, &err) == SM_OK;
    }
    if (file != NULL)
        (void)fclose(file);
    if (ok)
        (void)LLVMFuzzerTestOneInput(input.data, input.len);
    else
        (void)fprintf(stderr, "%s: cannot be read\n", path);
    sm_buf_free(&input);
    return ok;
}

static bool replay_folder(const char *folder, unsigned *n)
{
    DIR *dir = opendir(folder);
    bool ok = true;

    for (struct dirent *entry = NULL; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char path[4096];
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        ok = replay_file(path) && ok;
        ++*n;
    }
    if (dir != NULL)
        (void)closedir(dir);
    return ok;
}

int main(int argc, char **argv)
{
    unsigned n = 0;
    bool ok = true;

    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            ok = replay_folder(argv[i], &n) && ok;
        } else {
            ok = replay_file(argv[i]) && ok;
            n++;
        }
    }
    (void)printf("replayed %u inputs\n", n);
    if (n == 0) {
        (void)printf("skipped: no stored input\n");
        return 77;
    }
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
