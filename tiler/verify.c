/* Structure, digests and every tile of one pyramid. */
#include "tiler/verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/stop.h"
#include "tiler/profile.h"

#define MAX_HEAD_BYTES (UINT64_C(1) << 30)
#define MARKS_BYTES (UINT64_C(1) << 20) /* searched for marks of ours where there is no head */

/* Hash the whole file, and apart from that its head (kept in memory) and its data. */
typedef struct hash_pass {
    uint64_t head_bytes;
    bool whole_head; /* its length is known; else these are just the file's first bytes */
    sm_buf head;
    sm_hasher *whole, *data;
} hash_pass;

static sm_status hash_block(hash_pass *h, const sm_block *b, sm_error *err)
{
    sm_status st = sm_hasher_update(h->whole, b->bytes, b->len, err);
    const uint64_t end = b->offset + b->len;
    const uint64_t in_head = b->offset >= h->head_bytes ? 0
                             : end <= h->head_bytes     ? b->len
                                                        : h->head_bytes - b->offset;
    if (st == SM_OK && in_head > 0)
        st = sm_buf_append(&h->head, b->bytes, (size_t)in_head, err);
    if (st == SM_OK && in_head < b->len)
        st = sm_hasher_update(h->data, b->bytes + in_head, b->len - (size_t)in_head, err);
    return st;
}

static sm_status hash_file(const sm_source *source, hash_pass *h, sm_digest *whole, sm_digest *data,
                           sm_error *err)
{
    sm_stream *stream = NULL;
    sm_block block = {0};
    sm_status st = sm_hasher_new(SM_DIGEST_SHA256, &h->whole, err);
    if (st == SM_OK)
        st = sm_hasher_new(SM_DIGEST_XXH128, &h->data, err);
    if (st == SM_OK)
        st = sm_stream_open(source, NULL, &stream, err);
    while (st == SM_OK) {
        st = sm_stop_check(err);
        if (st == SM_OK)
            st = sm_stream_next(stream, &block, err);
        if (st != SM_OK || block.len == 0)
            break;
        st = hash_block(h, &block, err);
    }
    if (st == SM_OK)
        st = sm_hasher_final(h->whole, whole, err);
    if (st == SM_OK)
        st = sm_hasher_final(h->data, data, err);
    sm_stream_close(&stream);
    return st;
}

/* The head ends where the first tile begins. */
static uint64_t first_tile(const sm_slide *slide)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < sm_slide_get_info(slide)->n_levels; i++) {
        const sm_level *l = sm_slide_level(slide, i);
        const uint64_t n = l->offsets == NULL ? 0 : (uint64_t)l->cols * l->rows;
        for (uint64_t t = 0; t < n; t++)
            if (l->lens[t] > 0 && l->offsets[t] < first)
                first = l->offsets[t];
    }
    return first == UINT64_MAX ? 0 : first;
}

/* One of the keys of our digests stands there, so slidemill wrote it: a file in which the digests
 * cannot be read any more is damaged, and not a stranger's. No single flip takes all three away. */
static bool has_marks(const sm_buf *head)
{
    static const char *const MARKS[] = {"source-sha256", "data-xxh128", "head-xxh128"};
    for (size_t i = 0; head->len > 0 && i < SM_COUNT(MARKS); i++)
        if (memmem(head->data, head->len, MARKS[i], strlen(MARKS[i])) != NULL)
            return true;
    return false;
}

/* The description's text somewhere in the head; digests in it agree with the bytes? */
static sm_status check_provenance(hash_pass *h, const sm_digest *data, sm_verify_report *r,
                                  sm_error *err)
{
    sm_provenance p;
    char hex[SM_DIGEST_HEX_CAP];
    static const char KEY[] = "source-sha256";
    if (!has_marks(&h->head))
        return SM_OK;
    r->has_provenance = true;
    snprintf(r->source_sha256, sizeof r->source_sha256, "unreadable");
    const sm_status st = sm_buf_append(&h->head, "", 1, err); /* so that it is a string */
    if (st != SM_OK)
        return st;
    h->head.len--;
    uint8_t *at = memmem(h->head.data, h->head.len, KEY, sizeof KEY - 1);
    if (at == NULL || !sm_provenance_find((const char *)at, &p))
        return SM_OK;
    memcpy(r->source_sha256, p.source_sha256, sizeof r->source_sha256);
    if (!h->whole_head)
        return SM_OK;
    r->data_ok = strcmp(sm_digest_hex(data, hex), p.data_xxh128) == 0;
    uint8_t *own = memmem(at, h->head.len - (size_t)(at - h->head.data), p.head_xxh128, 32);
    /* the last of the three digests: the same digits could only stand earlier by a miracle */
    if (own == NULL)
        return SM_OK;
    memset(own, '0', 32);
    const sm_digest head = sm_digest_xxh128(h->head.data, h->head.len);
    r->head_ok = strcmp(sm_digest_hex(&head, hex), p.head_xxh128) == 0;
    return SM_OK;
}

static sm_status check_digests(const sm_slide *slide, sm_verify_report *r, sm_error *err)
{
    hash_pass h = {.head_bytes = first_tile(slide), .whole_head = true};
    sm_digest data;
    /* No head of ours. What OpenSlide alone opens may have been ours before it was damaged. */
    if (h.head_bytes == 0 || h.head_bytes > MAX_HEAD_BYTES) {
        h.head_bytes = MARKS_BYTES;
        h.whole_head = false;
    }
    sm_status st = hash_file(sm_slide_source(slide), &h, &r->sha256, &data, err);
    if (st == SM_OK)
        st = check_provenance(&h, &data, r, err);
    sm_hasher_free(&h.whole);
    sm_hasher_free(&h.data);
    sm_buf_free(&h.head);
    return st;
}

/* Decode every tile of every level; bad ones are listed. */
static sm_status check_tiles(const sm_slide *slide, unsigned threads, sm_progress *progress,
                             sm_verify_report *r, sm_error *err)
{
    const sm_mill_config config = {
        .threads = threads, .blank_bad_tiles = true, .progress = progress};
    sm_plan plan = {.n_sources = r->n_levels, .tile_px = 256};
    sm_order order = {0};
    sm_mill *mill = NULL;
    uint32_t unfit = SM_NO_LEVEL; /* nothing is retiled here */
    sm_mill_result result = {0};
    for (uint32_t s = 0; s < SM_MAX_LEVELS; s++)
        plan.use[s] = SM_SOURCE_UNUSED;
    for (uint32_t s = 0; s < r->n_levels; s++) {
        plan.use[s].used = plan.use[s].check = true;
        const sm_level *l = sm_slide_level(slide, s);
        r->n_tiles += (uint64_t)l->cols * l->rows;
    }
    sm_status st = sm_order_make(slide, &plan, &order, err);
    if (st == SM_OK)
        st = sm_mill_new(slide, &plan, &order, &config, &mill, &unfit, err);
    if (st == SM_OK)
        st = sm_mill_run(mill, NULL, NULL, &result, err);
    r->n_bad = result.n_bad;
    r->bad = result.bad;
    result.bad = NULL;
    sm_mill_free(&mill);
    sm_order_free(&order);
    return st;
}

static sm_status check_against(const sm_slide *slide, const sm_verify_options *o,
                               sm_progress *progress, sm_verify_report *r, sm_error *err)
{
    sm_source *source = NULL;
    sm_slide *against = NULL;
    hash_pass h = {0};
    sm_digest unused;
    char hex[SM_DIGEST_HEX_CAP];
    sm_status st = sm_source_open(o->against, &source, err);
    if (st == SM_OK)
        st = sm_slide_open(source, &against, err);
    if (st == SM_OK)
        st = hash_file(source, &h, &r->against_sha256, &unused, err);
    if (st == SM_OK) {
        r->against = true;
        r->against_is_source = r->has_provenance && strcmp(sm_digest_hex(&r->against_sha256, hex),
                                                           r->source_sha256) == 0;
        st = sm_compare(slide, against, o->threads, progress, r, err);
    }
    sm_hasher_free(&h.whole);
    sm_hasher_free(&h.data);
    sm_slide_close(&against);
    sm_source_close(&source);
    return st;
}

sm_status sm_verify(const char *path, const sm_verify_options *o, sm_verify_report *r,
                    sm_error *err)
{
    sm_source *source = NULL;
    sm_slide *slide = NULL;
    sm_progress *progress = NULL;
    *r = (sm_verify_report){0};
    sm_status st = sm_source_open(path, &source, err);
    if (st == SM_OK)
        st = sm_slide_open(source, &slide, err);
    if (st == SM_OK) {
        const sm_slide_info *info = sm_slide_get_info(slide);
        snprintf(r->reader, sizeof r->reader, "%s", info->reader);
        snprintf(r->vendor, sizeof r->vendor, "%s", info->vendor);
        r->bytes = sm_source_size(source);
        r->n_levels = info->n_levels;
        st = check_digests(slide, r, err);
    }
    if (st == SM_OK)
        st = sm_progress_new(path, r->bytes, 0, o->quiet, &progress, err);
    if (st == SM_OK)
        st = check_tiles(slide, o->threads, progress, r, err);
    if (st == SM_OK && o->against != NULL)
        st = check_against(slide, o, progress, r, err);
    sm_progress_free(&progress);
    sm_slide_close(&slide);
    sm_source_close(&source);
    return st;
}

void sm_verify_report_clear(sm_verify_report *r)
{
    free(r->bad);
    r->bad = NULL;
}
