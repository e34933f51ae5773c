/* The course of one conversion: open, plan, run the mill, publish; plan again when a level turns
 * out not to be what it seemed. */
#include "tiler/convert.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/stop.h"
#include "common/sysinfo.h"
#include "common/trace.h"
#include "tiler/associated.h"
#include "tiler/stage_in.h"

/* Everything a conversion holds. */
typedef struct conversion {
    const char *in, *out;
    const sm_convert_options *o;
    sm_convert_report *report;
    sm_source *source;
    sm_source *staged; /* the scratch copy, when there is one */
    char *staged_path;
    sm_slide *slide;
    char unfit[SM_MAX_LEVELS][128];
    sm_progress *progress;
    uint32_t associated_dir; /* first directory of associated images, when they are kept */
} conversion;

/* Tell who watches where we are. */
static void at(const conversion *c, const char *stage, uint64_t bytes, uint64_t px)
{
    if (c->o->hooks.at != NULL)
        c->o->hooks.at(c->o->hooks.arg, stage, bytes, px);
}

static void at_read(void *arg, uint64_t bytes, uint64_t px)
{
    at(arg, "read", bytes, px);
}

static void at_copy(void *arg, uint64_t bytes)
{
    at(arg, "copy-in", bytes, 0);
}

static void at_hash(void *arg, uint64_t bytes)
{
    at(arg, "hash", bytes, 0);
}

static sm_status open_slide(conversion *c, sm_error *err)
{
    const sm_convert_hooks *hooks = &c->o->hooks;
    at(c, "open", 0, 0);
    sm_status st = hooks->open != NULL ? hooks->open(hooks->arg, c->in, &c->source, err)
                                       : sm_source_open(c->in, &c->source, err);
    if (st != SM_OK)
        return st;
    struct stat a, b;
    if (stat(c->in, &a) == 0 && stat(c->out, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino)
        return sm_fail(err, SM_ERR_ARG, "%s: IN and OUT are the same file", c->in);
    return sm_slide_open(c->source, &c->slide, err);
}

static void describe_source(conversion *c)
{
    const sm_slide_info *info = sm_slide_get_info(c->slide);
    sm_convert_report *r = c->report;
    snprintf(r->reader, sizeof r->reader, "%s", info->reader);
    snprintf(r->vendor, sizeof r->vendor, "%s", info->vendor);
    r->mpp_x = info->mpp_x;
    r->mpp_y = info->mpp_y;
    r->objective = info->objective;
    r->icc_len = info->icc_len;
    r->n_associated = info->n_associated;
    r->kept_associated = c->o->keep_associated;
    r->source_bytes = sm_source_size(c->source);
    r->n_missing = sm_slide_level(c->slide, 0)->n_missing;
}

static sm_status plan_and_order(conversion *c, sm_order *order, sm_error *err)
{
    sm_plan_options plan_options = c->o->plan;
    const sm_span begin = sm_trace_begin();
    plan_options.unfit = (const char(*)[128])c->unfit;
    sm_status st = sm_plan_make(c->slide, &plan_options, &c->report->plan, err);
    if (st == SM_OK)
        st = sm_order_make(c->slide, &c->report->plan, order, err);
    sm_trace_end(SM_TRACE_PLAN, begin);
    if (st != SM_OK)
        sm_error_prefix(err, "%s", c->in);
    return st;
}

/* Only one file of these can be copied aside; their companions would be missing. */
static bool has_companions(const sm_slide_info *info, const char *path)
{
    const char *dot = strrchr(path, '.');
    return strcmp(info->vendor, "mirax") == 0 ||
           (dot != NULL && (strcmp(dot, ".vms") == 0 || strcmp(dot, ".vmu") == 0));
}

/* What must be read at random is brought to local disk when it lies on a mount, and hashed. */
static sm_status stage(conversion *c, sm_order *order, sm_error *err)
{
    const uint64_t start = sm_now_ns();
    sm_status st = SM_OK;
    if (c->report->source_hashed)
        return SM_OK;
    const bool copy =
        !sm_source_is_local(c->source) && !has_companions(sm_slide_get_info(c->slide), c->in);
    sm_source_pass pass = {
        .also = c->o->hooks.also_digest, .at = copy ? at_copy : at_hash, .arg = c};
    pass.at(c, 0);
    if (copy) {
        const char *dir = c->o->scratch != NULL ? c->o->scratch : sm_stage_default_dir();
        st = sm_stage_in(c->source, dir, &c->staged_path, &pass, err);
        if (st == SM_OK)
            st = sm_source_open(c->staged_path, &c->staged, err);
        if (st == SM_OK) {
            sm_slide_close(&c->slide);
            st = sm_slide_open(c->staged, &c->slide, err);
        }
        if (st == SM_OK) {
            c->report->staged = true;
            sm_order_free(order);
            st = plan_and_order(c, order, err);
        }
    } else {
        st = sm_hash_source(c->source, &pass, err);
    }
    if (st == SM_OK) {
        c->report->source_sha256 = pass.sha256;
        c->report->source_other = pass.other;
        c->report->source_hashed = true;
    }
    c->report->times.stage_in_ns += sm_now_ns() - start;
    return st;
}

static sm_status check_memory(conversion *c, const sm_order *order, sm_error *err)
{
    const uint64_t need = sm_mill_memory(c->slide, &c->report->plan, order, c->o->threads);
    c->report->memory_bound_bytes = need;
    if (c->o->memory_bytes == 0 || need <= c->o->memory_bytes)
        return SM_OK;
    char needs[16], has[16];
    return sm_fail(err, SM_ERR_LIMIT,
                   "%s: needs up to %s of memory with %u threads and may use %s; "
                   "raise --memory or use fewer --threads or a smaller --tile-px",
                   c->in, sm_human_bytes(need, needs), c->o->threads,
                   sm_human_bytes(c->o->memory_bytes, has));
}

/* ---- the file ---- */

/* Render, hash and write the head; the digests are in the description by then. */
static sm_status write_head(conversion *c, sm_bigtiff *tiff, sm_sink *sink, sm_error *err)
{
    const sm_plan *plan = &c->report->plan;
    sm_provenance p;
    sm_digest data;
    sm_buf head = {0};
    sm_provenance_init(&p);
    sm_status st = sm_sink_data_digest(sink, &data, err);
    if (st == SM_OK) {
        sm_digest_hex(&c->report->source_sha256, p.source_sha256);
        sm_digest_hex(&data, p.data_xxh128);
        st = sm_profile_describe(c->o->profile, c->slide, plan, &p, tiff, err);
    }
    if (st == SM_OK)
        st = sm_bigtiff_render(tiff, &head, err);
    if (st == SM_OK) {
        const sm_digest own = sm_digest_xxh128(head.data, head.len);
        sm_digest_hex(&own, p.head_xxh128);
        st = sm_profile_describe(c->o->profile, c->slide, plan, &p, tiff, err);
    }
    if (st == SM_OK)
        st = sm_bigtiff_render(tiff, &head, err);
    if (st == SM_OK)
        st = sm_sink_write_head(sink, head.data, head.len, err);
    sm_buf_free(&head);
    return st;
}

/* What was written opens as the pyramid that was planned. */
static sm_status check_structure(conversion *c, const sm_sink *sink, sm_error *err)
{
    const sm_plan *plan = &c->report->plan;
    sm_source *source = NULL;
    sm_slide *slide = NULL;
    const sm_span begin = sm_trace_begin_verify();
    sm_status st = sm_source_open(sm_sink_temp_path(sink), &source, err);
    if (st == SM_OK)
        st = sm_slide_open(source, &slide, err);
    if (st == SM_OK) {
        const uint32_t n = sm_slide_get_info(slide)->n_levels;
        bool same = n == plan->n_out;
        for (uint32_t i = 0; same && i < n; i++) {
            const sm_level *l = sm_slide_level(slide, i);
            same =
                l->w_px == plan->out[i].w_px && l->h_px == plan->out[i].h_px && l->n_missing == 0;
        }
        if (!same)
            st = sm_fail(err, SM_ERR_INTERNAL, "%s: what was written does not open as planned",
                         c->out);
    }
    sm_slide_close(&slide);
    sm_source_close(&source);
    sm_trace_end(SM_TRACE_VERIFY, begin);
    return st;
}

static sm_status publish(conversion *c, sm_bigtiff *tiff, sm_sink **sink, sm_error *err)
{
    sm_convert_report *r = c->report;
    sm_sink_result result = {0};
    const sm_convert_hooks *hooks = &c->o->hooks;
    sm_status st = sm_source_check_unchanged(c->source, err);
    if (st == SM_OK && hooks->before_publish != NULL)
        st = hooks->before_publish(hooks->arg, r, err);
    if (st == SM_OK) {
        at(c, "fsync", 0, 0);
        st = write_head(c, tiff, *sink, err);
    }
    if (st == SM_OK && c->progress != NULL)
        sm_progress_at(c->progress, r->source_bytes, 0, "verify");
    if (st == SM_OK) {
        at(c, "verify", 0, 0);
        st = sm_sink_verify(*sink, c->o->verify, &result, err);
    }
    if (st == SM_OK)
        st = check_structure(c, *sink, err);
    if (st == SM_OK)
        st = sm_stop_check(err);
    if (st == SM_OK) {
        at(c, "publish", 0, 0);
        st = sm_sink_commit(sink, &result, err);
    }
    r->output_bytes = result.size_bytes;
    r->output_hashed = result.read_back;
    r->output_sha256 = result.sha256;
    r->times.fsync_ns = result.fsync_ns;
    r->times.verify_ns = result.verify_ns;
    r->times.publish_ns = result.publish_ns;
    return st;
}

/* Head of the file: directories and their room, before any tile. */
static sm_status build_head(conversion *c, sm_mill *mill, sm_bigtiff **tiff, sm_error *err)
{
    const sm_plan *plan = &c->report->plan;
    sm_buf tables[SM_MAX_LEVELS] = {0};
    sm_status st = SM_OK;
    for (uint32_t i = 0; st == SM_OK && i < plan->n_out; i++)
        st = sm_mill_tables(mill, i, &tables[i], err);
    if (st == SM_OK)
        st = sm_profile_build(c->o->profile, c->slide, plan, tables, tiff, err);
    if (st == SM_OK && c->o->keep_associated)
        st = sm_associated_add_dirs(c->slide, *tiff, &c->associated_dir, err);
    for (uint32_t i = 0; i < plan->n_out; i++)
        sm_buf_free(&tables[i]);
    return st;
}

/* whole: the mill came to its end, so its digests are of the whole source. */
static void take_result(sm_convert_report *r, sm_mill_result *m, bool whole)
{
    if (m->hashed && whole) {
        r->source_sha256 = m->source_sha256;
        r->source_other = m->source_other;
        r->source_hashed = true;
    }
    memcpy(r->level_tiles, m->level_tiles, sizeof r->level_tiles);
    memcpy(r->level_bytes, m->level_bytes, sizeof r->level_bytes);
    memcpy(r->level_shared, m->level_shared, sizeof r->level_shared);
    r->io_backend = m->io_backend;
    r->n_bad = m->n_bad;
    free(r->bad);
    r->bad = m->bad;
    m->bad = NULL;
}

/* One attempt with the plan as it stands. *unfit: source level to transcode in the next one. */
static sm_status attempt(conversion *c, const sm_order *order, uint32_t *unfit, sm_error *err)
{
    sm_convert_report *r = c->report;
    const sm_mill_config config = {.threads = c->o->threads,
                                   .share_blank = c->o->share_blank,
                                   .blank_bad_tiles = c->o->blank_bad_tiles,
                                   .progress = c->progress,
                                   .also_digest = c->o->hooks.also_digest,
                                   .at = at_read,
                                   .at_arg = c};
    sm_mill *mill = NULL;
    sm_bigtiff *tiff = NULL;
    sm_sink *sink = NULL;
    sm_mill_result result = {.unfit_level = SM_NO_LEVEL};
    const uint64_t start = sm_now_ns();
    at(c, "read", 0, 0);
    *unfit = SM_NO_LEVEL;
    sm_status st = sm_mill_new(c->slide, &r->plan, order, &config, &mill, &result.unfit_level, err);
    if (st == SM_ERR_FORMAT)
        snprintf(result.unfit_why, sizeof result.unfit_why, "%.127s", err->message);
    if (st == SM_OK)
        st = build_head(c, mill, &tiff, err);
    if (st == SM_OK) {
        const sm_sink_config sink_config = {.head_bytes = sm_bigtiff_head_bytes(tiff),
                                            .force = c->o->force};
        st = sm_sink_create(c->out, &sink_config, &sink, err);
        if (st != SM_OK)
            goto out; /* the message names OUT */
        st = sm_mill_run(mill, sink, tiff, &result, err);
        take_result(r, &result, st == SM_OK);
        if (st == SM_OK && c->o->keep_associated)
            st = sm_associated_write(c->slide, c->associated_dir, tiff, sink, err);
    }
    r->times.mill_ns += sm_now_ns() - start;
    if (st == SM_OK) {
        st = publish(c, tiff, &sink, err);
        goto out;
    }
    *unfit = result.unfit_level;
    if (*unfit != SM_NO_LEVEL)
        snprintf(c->unfit[*unfit], sizeof c->unfit[0], "%s", result.unfit_why);
    if (st != SM_ERR_INTERRUPTED && strstr(err->message, c->in) == NULL &&
        strstr(err->message, c->out) == NULL)
        sm_error_prefix(err, "%s", c->in);
out:
    sm_sink_discard(&sink);
    sm_bigtiff_free(&tiff);
    sm_mill_free(&mill);
    return st;
}

static sm_status start_progress(conversion *c, const sm_order *order, sm_error *err)
{
    uint64_t px = 0;
    for (uint32_t s = 0; s < c->report->plan.n_sources; s++) {
        const sm_level *l = sm_slide_level(c->slide, s);
        px += c->report->plan.use[s].used ? (uint64_t)l->w_px * l->h_px : 0;
    }
    const char *slash = strrchr(c->in, '/');
    sm_progress_free(&c->progress);
    return sm_progress_new(slash != NULL ? slash + 1 : c->in,
                           order->streamed ? c->report->source_bytes : 0, px, c->o->quiet,
                           &c->progress, err);
}

/* Plan, run, and when a level is not what it seemed, plan again with that level transcoded. */
static sm_status run(conversion *c, sm_error *err)
{
    sm_status st = SM_OK;
    for (;;) {
        sm_order order = {0};
        uint32_t unfit = SM_NO_LEVEL;
        st = plan_and_order(c, &order, err);
        if (st == SM_OK && !order.streamed)
            st = stage(c, &order, err);
        if (st == SM_OK)
            st = check_memory(c, &order, err);
        if (st == SM_OK)
            st = start_progress(c, &order, err);
        if (st == SM_OK)
            st = attempt(c, &order, &unfit, err);
        c->report->streamed = order.streamed;
        sm_order_free(&order);
        if (st == SM_OK || unfit == SM_NO_LEVEL)
            return st;
        c->report->n_fallbacks++;
        *err = (sm_error)SM_ERROR_INIT;
    }
}

sm_status sm_convert(const char *in, const char *out, const sm_convert_options *options,
                     sm_convert_report *report, sm_error *err)
{
    const uint64_t start = sm_now_ns();
    sm_spent before;
    conversion c = {.in = in, .out = out, .o = options, .report = report};
    *report = (sm_convert_report){.threads = options->threads, .io_backend = "none"};
    sm_spent_now(&before);
    const sm_span begin = sm_trace_begin();
    sm_status st = open_slide(&c, err);
    sm_trace_end(SM_TRACE_OPEN, begin);
    report->times.open_ns = sm_now_ns() - start;
    if (st == SM_OK) {
        describe_source(&c);
        st = run(&c, err);
    }
    sm_progress_free(&c.progress);
    sm_slide_close(&c.slide);
    sm_source_close(&c.staged);
    sm_stage_remove(&c.staged_path);
    sm_source_close(&c.source);
    sm_spent_since(&before, &report->spent);
    report->times.total_ns = sm_now_ns() - start;
    return st;
}

void sm_convert_report_clear(sm_convert_report *report)
{
    free(report->bad);
    report->bad = NULL;
}
