/* The closing summary of a conversion, as text and as JSON. */
#include "tiler/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/progress.h"
#include "common/sysinfo.h"

static const char *sampling_name(const sm_out_level *l)
{
    static const struct {
        uint8_t h, v;
        const char *name;
    } names[] = {{1, 1, "4:4:4"}, {2, 1, "4:2:2"}, {2, 2, "4:2:0"},
                 {1, 2, "4:4:0"}, {4, 1, "4:1:1"}, {4, 2, "4:1:0"}};
    for (size_t i = 0; i < SM_COUNT(names); i++)
        if (names[i].h == l->h_samp && names[i].v == l->v_samp)
            return names[i].name;
    return "unusual sampling";
}

/* "JPEG YCbCr 4:2:0", "zstd" */
static void codec_text(const sm_out_level *l, char text[40])
{
    if (l->codec == SM_CODEC_JPEG)
        snprintf(text, 40, "JPEG %s %s", l->photometric == 6 ? "YCbCr" : "RGB", sampling_name(l));
    else
        snprintf(text, 40, "%s", sm_codec_name(l->codec));
}

/* How a level came to be, in words. */
static void how_text(const sm_plan *plan, uint32_t i, char text[80])
{
    const sm_out_level *l = &plan->out[i];
    switch (l->how) {
    case SM_HOW_COPIED:
        snprintf(text, 80, "copied from source level %u", l->source_level);
        break;
    case SM_HOW_RETILED:
        snprintf(text, 80, "retiled from source level %u", l->source_level);
        break;
    case SM_HOW_TRANSCODED:
        snprintf(text, 80, "transcoded from source level %u", l->source_level);
        break;
    case SM_HOW_MADE_IDCT:
        snprintf(text, 80, "made by scaled IDCT of level %u", i - 1);
        break;
    case SM_HOW_MADE_MEAN:
        snprintf(text, 80, "made by 2x2 mean of level %u", i - 1);
        break;
    }
}

static sm_status level_line(const sm_convert_report *r, uint32_t i, sm_buf *text, sm_error *err)
{
    const sm_out_level *l = &r->plan.out[i];
    char how[80], codec[40], bytes[16], size[32], tile[24];
    how_text(&r->plan, i, how);
    codec_text(l, codec);
    snprintf(size, sizeof size, "%u x %u", l->w_px, l->h_px);
    snprintf(tile, sizeof tile, "%ux%u", l->tile_w_px, l->tile_h_px);
    sm_status st = sm_buf_printf(text, err, "  level %-2u %-17s %-9s %-18s %9s  %s\n", i, size,
                                 tile, codec, sm_human_bytes(r->level_bytes[i], bytes), how);
    const bool said = i > 0 && strcmp(l->why, r->plan.out[i - 1].why) == 0;
    if (st == SM_OK && l->why[0] != '\0' && !said)
        st = sm_buf_printf(text, err, "           not %s: %s\n",
                           l->how == SM_HOW_RETILED ? "copied" : "kept as it was", l->why);
    return st;
}

static sm_status times_line(const sm_convert_report *r, sm_buf *text, sm_error *err)
{
    const sm_convert_times *t = &r->times;
    const double s = (double)t->total_ns / 1e9;
    char total[16], fsync[16], verify[16], rss[16];
    const double mpx = (double)r->plan.out[0].w_px * r->plan.out[0].h_px / 1e6;
    return sm_buf_printf(text, err,
                         "  %s: %.0f Mpx/s, %.0f MB/s read (fsync %s, read back %s), "
                         "%u threads, %s, peak memory %s\n",
                         sm_human_ns(t->total_ns, total), mpx / s,
                         (double)r->source_bytes / 1e6 / s, sm_human_ns(t->fsync_ns, fsync),
                         sm_human_ns(t->verify_ns, verify), r->threads, r->io_backend,
                         sm_human_bytes(sm_peak_rss_bytes(), rss));
}

/* "  work 8.1 s: encode 61%, decode 30%; waiting 1.2 s: idle 0.9 s, read 0.3 s" */
static sm_status work_line(const sm_convert_report *r, sm_buf *text, sm_error *err)
{
    sm_stage order[SM_STAGES];
    char time[16];
    const double work = (double)sm_spent_sum(r->spent.ns, false);
    size_t n = sm_spent_order(r->spent.ns, false, order);
    sm_status st =
        sm_buf_printf(text, err, "  work %s", sm_human_ns(sm_spent_sum(r->spent.ns, false), time));
    for (size_t i = 0; st == SM_OK && i < n; i++)
        st = sm_buf_printf(text, err, "%s%s %.0f%%", i > 0 ? ", " : ": ", sm_stage_name(order[i]),
                           100 * (double)r->spent.ns[order[i]] / work);
    n = sm_spent_order(r->spent.ns, true, order);
    if (st == SM_OK)
        st = sm_buf_printf(text, err, "\n  waiting %s",
                           sm_human_ns(sm_spent_sum(r->spent.ns, true), time));
    for (size_t i = 0; st == SM_OK && i < n; i++)
        st = sm_buf_printf(text, err, "%s%s %s", i > 0 ? ", " : ": ", sm_stage_name(order[i]),
                           sm_human_ns(r->spent.ns[order[i]], time));
    return st == SM_OK ? sm_buf_printf(text, err, " (of all threads)\n") : st;
}

const char *sm_bad_tile_place(const sm_bad_tile *b, char text[SM_PLACE_CAP])
{
    const int n =
        snprintf(text, SM_PLACE_CAP, "level %" PRIu32 ", column %" PRIu32 ", row %" PRIu32,
                 b->level, b->col, b->row);
    if (b->offset != SM_NO_OFFSET && n > 0)
        snprintf(text + n, SM_PLACE_CAP - (size_t)n, " at byte %" PRIu64, b->offset);
    return text;
}

static sm_status notes(const sm_convert_report *r, sm_buf *text, sm_error *err)
{
    sm_status st = SM_OK;
    if (r->n_missing > 0)
        st = sm_buf_printf(text, err,
                           "  note: %" PRIu64 " tile%s missing in the source became background\n",
                           r->n_missing, r->n_missing == 1 ? "" : "s");
    if (st == SM_OK && r->mpp_x <= 0.0)
        st = sm_buf_printf(text, err,
                           "  note: the source does not say its MPP; neither does the "
                           "output\n");
    if (st == SM_OK && r->n_associated > 0)
        st = sm_buf_printf(text, err,
                           "  note: %u associated images (label, macro, ...) were %s; they can "
                           "show patient data\n",
                           r->n_associated, r->kept_associated ? "kept" : "left out");
    if (st == SM_OK && r->staged)
        st = sm_buf_printf(text, err, "  note: read through a scratch copy\n");
    if (st == SM_OK && r->n_bad > 0)
        st = sm_buf_printf(text, err, "  WARNING: %" PRIu64 " bad tile%s became background:\n",
                           r->n_bad, r->n_bad == 1 ? "" : "s");
    const uint64_t listed = r->bad == NULL ? 0 : r->n_bad < 10 ? r->n_bad : 10;
    for (uint64_t i = 0; st == SM_OK && i < listed; i++) {
        const sm_bad_tile *b = &r->bad[i];
        char place[SM_PLACE_CAP];
        st = sm_buf_printf(text, err, "    %s: %s\n", sm_bad_tile_place(b, place), b->message);
    }
    if (st == SM_OK && r->n_bad > listed)
        st = sm_buf_printf(text, err, "    and %" PRIu64 " more (--json lists up to %d)\n",
                           r->n_bad - listed, SM_MAX_BAD_TILES);
    return st;
}

sm_status sm_report_text(const char *in, const char *out, const sm_convert_report *r, sm_buf *text,
                         sm_error *err)
{
    char hex[SM_DIGEST_HEX_CAP], bytes[16];
    sm_status st = sm_buf_printf(text, err, "%s  %s, %s\n  sha256 %s\n", in, r->vendor,
                                 sm_human_bytes(r->source_bytes, bytes),
                                 sm_digest_hex(&r->source_sha256, hex));
    if (st == SM_OK)
        st = sm_buf_printf(
            text, err, "-> %s  %s%s\n  sha256 %s\n", out, sm_human_bytes(r->output_bytes, bytes),
            r->output_hashed ? ", read back and verified" : ", not read back",
            r->output_hashed ? sm_digest_hex(&r->output_sha256, hex) : "not taken (--verify none)");
    for (uint32_t i = 0; st == SM_OK && i < r->plan.n_out; i++)
        st = level_line(r, i, text, err);
    if (st == SM_OK)
        st = notes(r, text, err);
    if (st == SM_OK)
        st = times_line(r, text, err);
    if (st == SM_OK)
        st = work_line(r, text, err);
    return st == SM_OK ? sm_buf_append(text, "", 1, err) : st;
}

/* ---- JSON ---- */

/* cJSON keeps numbers as doubles: exact for bytes up to 2^53. */
static void add_number(cJSON *object, const char *key, uint64_t value)
{
    (void)cJSON_AddNumberToObject(object, key, (double)value);
}

static void add_seconds(cJSON *object, const char *key, uint64_t ns)
{
    (void)cJSON_AddNumberToObject(object, key, (double)ns / 1e9);
}

static void json_source(cJSON *root, const char *in, const sm_convert_report *r)
{
    char hex[SM_DIGEST_HEX_CAP];
    cJSON *o = cJSON_AddObjectToObject(root, "source");
    (void)cJSON_AddStringToObject(o, "path", in);
    (void)cJSON_AddStringToObject(o, "reader", r->reader);
    (void)cJSON_AddStringToObject(o, "vendor", r->vendor);
    add_number(o, "bytes", r->source_bytes);
    if (r->source_sha256.len > 0)
        (void)cJSON_AddStringToObject(o, "sha256", sm_digest_hex(&r->source_sha256, hex));
    if (r->mpp_x > 0.0) {
        (void)cJSON_AddNumberToObject(o, "mpp_x", r->mpp_x);
        (void)cJSON_AddNumberToObject(o, "mpp_y", r->mpp_y);
    }
    if (r->objective > 0.0)
        (void)cJSON_AddNumberToObject(o, "objective", r->objective);
    add_number(o, "icc_bytes", r->icc_len);
    add_number(o, "missing_tiles", r->n_missing);
    add_number(o, "associated_images", r->n_associated);
    (void)cJSON_AddBoolToObject(o, "associated_kept", r->kept_associated);
}

static void json_levels(cJSON *output, const sm_convert_report *r)
{
    cJSON *levels = cJSON_AddArrayToObject(output, "levels");
    for (uint32_t i = 0; i < r->plan.n_out; i++) {
        const sm_out_level *l = &r->plan.out[i];
        char text[80];
        cJSON *o = cJSON_CreateObject();
        add_number(o, "width", l->w_px);
        add_number(o, "height", l->h_px);
        add_number(o, "tile_width", l->tile_w_px);
        add_number(o, "tile_height", l->tile_h_px);
        (void)cJSON_AddNumberToObject(o, "downsample", l->downsample);
        (void)cJSON_AddStringToObject(o, "how", sm_how_name(l->how));
        how_text(&r->plan, i, text);
        (void)cJSON_AddStringToObject(o, "how_text", text);
        if (l->why[0] != '\0')
            (void)cJSON_AddStringToObject(o, "why", l->why);
        (void)cJSON_AddStringToObject(o, "codec", sm_codec_name(l->codec));
        if (l->codec == SM_CODEC_JPEG) {
            (void)cJSON_AddStringToObject(o, "colour", l->photometric == 6 ? "ycbcr" : "rgb");
            (void)cJSON_AddStringToObject(o, "subsampling", sampling_name(l));
        }
        add_number(o, "tiles", r->level_tiles[i]);
        add_number(o, "shared_tiles", r->level_shared[i]);
        add_number(o, "bytes", r->level_bytes[i]);
        (void)cJSON_AddItemToArray(levels, o);
    }
}

static void json_bad(cJSON *root, const sm_convert_report *r)
{
    add_number(root, "bad_tiles", r->n_bad);
    if (r->n_bad == 0 || r->bad == NULL)
        return;
    cJSON *list = cJSON_AddArrayToObject(root, "bad_tile_list");
    for (uint64_t i = 0; i < r->n_bad && i < SM_MAX_BAD_TILES; i++) {
        const sm_bad_tile *b = &r->bad[i];
        cJSON *o = cJSON_CreateObject();
        add_number(o, "level", b->level);
        add_number(o, "column", b->col);
        add_number(o, "row", b->row);
        if (b->offset != SM_NO_OFFSET)
            add_number(o, "offset", b->offset);
        add_number(o, "bytes", b->len);
        (void)cJSON_AddStringToObject(o, "message", b->message);
        (void)cJSON_AddItemToArray(list, o);
    }
}

static void json_times(cJSON *root, const sm_convert_report *r)
{
    const sm_convert_times *t = &r->times;
    cJSON *o = cJSON_AddObjectToObject(root, "times");
    add_seconds(o, "open_s", t->open_ns);
    add_seconds(o, "stage_in_s", t->stage_in_ns);
    add_seconds(o, "convert_s", t->mill_ns);
    add_seconds(o, "fsync_s", t->fsync_ns);
    add_seconds(o, "verify_s", t->verify_ns);
    add_seconds(o, "publish_s", t->publish_ns);
    add_seconds(o, "total_s", t->total_ns);
}

static void json_stages(cJSON *root, const char *key, const sm_convert_report *r, bool waits)
{
    cJSON *o = cJSON_AddObjectToObject(root, key);
    for (int s = 0; s < SM_STAGES; s++)
        if (sm_stage_waits((sm_stage)s) == waits && r->spent.ns[s] > 0)
            add_seconds(o, sm_stage_name((sm_stage)s), r->spent.ns[s]);
}

sm_status sm_report_json(const char *in, const char *out, const sm_convert_report *r,
                         const sm_error *failure, sm_buf *text, sm_error *err)
{
    char hex[SM_DIGEST_HEX_CAP];
    cJSON *root = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(root, "slidemill", SM_VERSION);
    (void)cJSON_AddStringToObject(root, "status", sm_status_name(failure->status));
    if (failure->status != SM_OK) {
        (void)cJSON_AddStringToObject(root, "error", failure->message);
        if (failure->offset != SM_NO_OFFSET)
            add_number(root, "error_offset", failure->offset);
    }
    json_source(root, in, r);
    if (failure->status == SM_OK) {
        cJSON *o = cJSON_AddObjectToObject(root, "output");
        (void)cJSON_AddStringToObject(o, "path", out);
        add_number(o, "bytes", r->output_bytes);
        if (r->output_hashed)
            (void)cJSON_AddStringToObject(o, "sha256", sm_digest_hex(&r->output_sha256, hex));
        (void)cJSON_AddBoolToObject(o, "verified", r->output_hashed);
        json_levels(o, r);
    }
    json_bad(root, r);
    json_times(root, r);
    json_stages(root, "work", r, false);
    json_stages(root, "waits", r, true);
    add_seconds(root, "cpu_s", r->spent.cpu_ns);
    add_number(root, "threads", r->threads);
    (void)cJSON_AddStringToObject(root, "io", r->io_backend);
    (void)cJSON_AddBoolToObject(root, "streamed", r->streamed);
    add_number(root, "memory_bound_bytes", r->memory_bound_bytes);
    add_number(root, "peak_rss_bytes", sm_peak_rss_bytes());
    char *printed = cJSON_Print(root);
    cJSON_Delete(root);
    if (printed == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "out of memory for the JSON summary");
    const sm_status st = sm_buf_append(text, printed, strlen(printed) + 1, err);
    free(printed);
    return st;
}
