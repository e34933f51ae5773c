/* Fuzz target: a list of files from outside. The first byte chooses the kind it is taken for. What
 * is read must be clean, and come back when it is written as a list of ours. */
#include <stdlib.h>
#include <string.h>

#include "common/manifest.h"
#include "common/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool fact)
{
    if (!fact)
        abort();
}

/* The only entry of a text of ours is this path. */
static void reread(const sm_buf *text, sm_manifest_kind kind, const char *path)
{
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_manifest *manifest = NULL;
    sm_manifest_entry entry;
    bool more = false;
    if (sm_source_open_memory(text->data, text->len, "ours", &source, &err) != SM_OK)
        return;
    must(sm_manifest_open(source, kind, false, &manifest, &err) == SM_OK);
    must(sm_manifest_next(manifest, &entry, &more, &err) == SM_OK && more);
    must(strcmp(entry.path, path) == 0);
    must(sm_manifest_next(manifest, &entry, &more, &err) == SM_OK && !more);
    sm_manifest_close(&manifest);
    sm_source_close(&source);
}

static void write_again(const sm_manifest_entry *entry)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf text = {0};
    if (entry->has_digest && entry->digest.kind != SM_DIGEST_XXH128 &&
        sm_manifest_write_sum(&entry->digest, entry->path, &text, &err) == SM_OK)
        reread(&text, SM_MANIFEST_AUTO, entry->path);
    text.len = 0;
    if (sm_buf_printf(&text, &err, "id,path\n1,") == SM_OK &&
        sm_manifest_write_csv_field(entry->path, &text, &err) == SM_OK &&
        sm_buf_append(&text, "\n", 1, &err) == SM_OK)
        reread(&text, SM_MANIFEST_CSV, entry->path);
    sm_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_manifest *manifest = NULL;
    sm_manifest_entry entry;
    bool more = true;
    if (size == 0)
        return 0;
    const sm_manifest_kind kind = (sm_manifest_kind)(data[0] % (SM_MANIFEST_TSV + 1));
    if (sm_source_open_memory(data + 1, size - 1, "fuzz", &source, &err) != SM_OK)
        return 0;
    if (sm_manifest_open(source, kind, (data[0] & 0x80) != 0, &manifest, &err) == SM_OK) {
        must(sm_manifest_get_kind(manifest) != SM_MANIFEST_AUTO);
        for (uint64_t line = 0; more;) {
            const sm_status st = sm_manifest_next(manifest, &entry, &more, &err);
            must(st == SM_OK || st == SM_ERR_FORMAT || st == SM_ERR_NOMEM);
            if (st != SM_OK || !more)
                continue;
            must(sm_path_check(entry.path, &err) == SM_OK && entry.line > line);
            line = entry.line;
            write_again(&entry);
        }
    }
    sm_manifest_close(&manifest);
    sm_source_close(&source);
    return 0;
}
