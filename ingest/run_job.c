/* Jobs out of rows. A row's strings live only until the next question to the catalog, so what is
 * kept is copied first. */
#include "ingest/run_job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "ingest/out_path.h"

static sm_status copy(const char *text, char **out, sm_error *err)
{
    *out = strdup(text);
    return *out != NULL ? SM_OK : sm_fail(err, SM_ERR_NOMEM, "%s: no memory for its job", text);
}

typedef struct part_list {
    sm_job *job;
    size_t cap;
} part_list;

static sm_status add_part(void *arg, const sm_part_row *row, sm_error *err)
{
    part_list *list = arg;
    sm_job *job = list->job;
    if (job->n_parts == list->cap) {
        const size_t cap = list->cap > 0 ? 2 * list->cap : 16;
        sm_job_part *grown = reallocarray(job->parts, cap, sizeof *grown);
        if (grown == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "%s: no memory for its job", row->path);
        job->parts = grown;
        list->cap = cap;
    }
    sm_job_part *part = &job->parts[job->n_parts];
    *part = (sm_job_part){.size_bytes = row->size_bytes,
                          .mtime_ns = row->mtime_ns,
                          .has_digest = row->digest_origin != SM_DIGEST_UNKNOWN,
                          .digest = row->digest};
    const sm_status st = copy(row->path, &part->path, err);
    job->n_parts += st == SM_OK;
    return st;
}

static sm_status read_slide(sm_catalog *catalog, int64_t id, sm_job *job, uint32_t *attempts,
                            sm_error *err)
{
    sm_slide_row row;
    bool found = false;
    sm_status st = sm_catalog_get(catalog, id, &row, &found, err);
    if (st != SM_OK)
        return st;
    if (!found)
        return sm_fail(err, SM_ERR_CORRUPT, "the catalog has no slide %" PRId64, id);
    *attempts = row.attempts;
    job->main = (sm_job_part){.size_bytes = row.size_bytes,
                              .mtime_ns = row.mtime_ns,
                              .has_digest = row.digest_origin != SM_DIGEST_UNKNOWN,
                              .digest = row.digest};
    st = copy(row.path, &job->main.path, err);
    if (st == SM_OK)
        st = copy(sm_catalog_root(catalog), &job->root, err);
    part_list list = {.job = job};
    if (st == SM_OK && row.n_parts > 0)
        st = sm_catalog_parts(catalog, id, add_part, &list, err);
    return st;
}

/* The output that stands there is the one that is recorded. */
static sm_status look_for_own(void *arg, const sm_output_row *row, sm_error *err)
{
    sm_job *job = arg;
    (void)err;
    job->replace = job->replace || strcmp(row->path, job->out_path) == 0;
    return SM_OK;
}

static sm_status add_output(sm_catalog *catalog, const sm_run_job_config *config, sm_job *job,
                            sm_error *err)
{
    sm_buf path = {0};
    sm_status st = sm_out_path(job->main.path, config->full_name, config->suffix, &path, err);
    if (st == SM_OK)
        st = copy((const char *)path.data, &job->out_path, err);
    if (st == SM_OK)
        st = copy(config->out, &job->out_root, err);
    if (st == SM_OK)
        st = sm_catalog_outputs(catalog, job->slide, look_for_own, job, err);
    sm_buf_free(&path);
    return st;
}

static sm_status take_output(void *arg, const sm_output_row *row, sm_error *err)
{
    sm_job *job = arg;
    char *path = NULL;
    const sm_status st = copy(row->path, &path, err);
    if (st != SM_OK)
        return st;
    free(job->main.path);
    job->main = (sm_job_part){
        .path = path, .size_bytes = row->size_bytes, .has_digest = true, .digest = row->sha256};
    return SM_OK;
}

static sm_status output_job(sm_catalog *catalog, const sm_run_job_config *config, sm_job *job,
                            sm_error *err)
{
    sm_target target;
    const char *dir = config->out;
    if (dir == NULL && sm_catalog_target(catalog, &target))
        dir = target.dir;
    if (dir == NULL)
        return sm_fail(err, SM_ERR_CORRUPT, "the catalog does not say where its outputs are");
    sm_status st = copy(dir, &job->root, err);
    if (st == SM_OK)
        st = sm_catalog_outputs(catalog, job->slide, take_output, job, err);
    if (st == SM_OK && job->main.path == NULL)
        st =
            sm_fail(err, SM_ERR_CORRUPT, "the catalog has no output of slide %" PRId64, job->slide);
    return st;
}

sm_status sm_run_job(sm_catalog *catalog, const sm_run_job_config *config, int64_t id, sm_job *job,
                     uint32_t *attempts, sm_error *err)
{
    *job = (sm_job){.kind = config->kind, .slide = id};
    (void)snprintf(job->mark, sizeof job->mark, "%s", config->mark);
    *attempts = 0;
    if (config->kind == SM_ATTEMPT_CHECK_OUTPUT)
        return output_job(catalog, config, job, err);
    const sm_status st = read_slide(catalog, id, job, attempts, err);
    if (st != SM_OK || config->kind == SM_ATTEMPT_HASH)
        return st;
    return add_output(catalog, config, job, err);
}
