/* Output of list and export: standard output, or a file that appears whole. Owns the sink. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/stop.h"
#include "ingest/catalog_cli.h"

#define FLUSH_BYTES ((size_t)256 * 1024)

sm_status catalog_out_open(const char *path, const sm_catalog *catalog, catalog_out *out,
                           sm_error *err)
{
    const sm_sink_config config = {.force = true};
    struct stat target, own;

    *out = (catalog_out){.path = path};
    if (path == NULL || strcmp(path, "-") == 0) {
        out->path = NULL;
        return SM_OK;
    }
    if (catalog != NULL && stat(path, &target) == 0 && stat(sm_catalog_path(catalog), &own) == 0 &&
        target.st_dev == own.st_dev && target.st_ino == own.st_ino)
        return sm_fail(err, SM_ERR_ARG, "%s: is the catalog itself", path);
    return sm_sink_create(path, &config, &out->sink, err);
}

static sm_status write_out(catalog_out *out, sm_error *err)
{
    uint64_t offset = 0;

    if (out->sink != NULL)
        return sm_sink_append(out->sink, out->text.data, out->text.len, &offset, err);
    errno = 0;
    if (fwrite(out->text.data, 1, out->text.len, stdout) == out->text.len)
        return SM_OK;
    return sm_fail_errno(err, SM_ERR_IO, errno != 0 ? errno : EIO, "standard output");
}

sm_status catalog_out_flush(catalog_out *out, bool all, sm_error *err)
{
    if (out->text.len == 0 || (!all && out->text.len < FLUSH_BYTES))
        return SM_OK;
    sm_status st = sm_stop_check(err);
    if (st == SM_OK)
        st = write_out(out, err);
    out->text.len = 0;
    return st;
}

sm_status catalog_out_commit(catalog_out *out, sm_error *err)
{
    sm_sink_result result;
    sm_digest digest;
    sm_status st = catalog_out_flush(out, true, err);

    if (st == SM_OK && out->sink == NULL)
        return catalog_flush(err);
    if (st == SM_OK)
        st = sm_sink_data_digest(out->sink, &digest, err);
    if (st == SM_OK)
        st = sm_sink_write_head(out->sink, "", 0, err);
    if (st == SM_OK)
        st = sm_sink_verify(out->sink, SM_VERIFY_CACHE, &result, err);
    if (st == SM_OK)
        st = sm_sink_commit(&out->sink, &result, err);
    return st;
}

void catalog_out_discard(catalog_out *out)
{
    sm_sink_discard(&out->sink);
    sm_buf_free(&out->text);
}
