/* Flags of a conversion into its options, and back into words. The rows of the table are the only
 * list of them. */
#include "tiler/convert_opts.h"

#include <inttypes.h>
#include <string.h>

typedef struct only_flags {
    sm_convert_flags flags;
} only_flags;

static const sm_opt ROWS[] = {SM_CONVERT_OPTION_ROWS(only_flags, flags, "media")};

sm_status sm_convert_flags_check(const sm_convert_flags *flags, sm_error *err)
{
    if (flags->tile_px % 16 != 0 || (flags->tile_px > 0 && flags->tile_px < 64))
        return sm_fail(err, SM_ERR_ARG, "--tile-px: '%u' is not a multiple of 16 in 64..4096",
                       flags->tile_px);
    return SM_OK;
}

void sm_convert_flags_options(const sm_convert_flags *flags, sm_convert_options *options,
                              sm_allowance *threads, sm_allowance *memory)
{
    *threads =
        flags->threads > 0 ? (sm_allowance){flags->threads, "--threads"} : sm_sysinfo_threads();
    *memory = flags->memory > 0 ? (sm_allowance){flags->memory, "--memory"} : sm_sysinfo_memory();
    *options = (sm_convert_options){
        .plan = {.levels = (sm_levels_mode)flags->levels,
                 .tiles = (sm_tiles_mode)flags->tiles,
                 .codec = (sm_codec_mode)flags->codec,
                 .subsampling = (sm_subsampling)flags->subsampling,
                 .quality = flags->quality,
                 .tile_px = flags->tile_px},
        .profile = (sm_profile)flags->profile,
        .share_blank = flags->blank == 0,
        .blank_bad_tiles = flags->bad_tile == 1,
        .keep_associated = flags->associated == 1,
        .threads = (unsigned)threads->value,
        .memory_bytes = memory->value,
        .scratch = flags->scratch,
        .verify = (sm_verify_mode)flags->verify,
    };
}

/* How it is done, not what comes out. */
static bool decides_bytes(const sm_opt *row)
{
    static const char *const OTHERS[] = {"threads", "memory", "scratch", "verify"};
    for (size_t i = 0; i < SM_COUNT(OTHERS); i++)
        if (strcmp(row->name, OTHERS[i]) == 0)
            return false;
    return true;
}

/* Word `index` of "a|b|c". */
static sm_status put_word(const char *words, int index, sm_buf *out, sm_error *err)
{
    for (; index > 0 && words != NULL; index--) {
        words = strchr(words, '|');
        words = words != NULL ? words + 1 : NULL;
    }
    if (words == NULL)
        return sm_fail(err, SM_ERR_INTERNAL, "an option has a value without a word");
    return sm_buf_append(out, words, strcspn(words, "|"), err);
}

static sm_status put_value(const only_flags *flags, const sm_opt *row, sm_buf *out, sm_error *err)
{
    const char *field = (const char *)flags + row->field;
    uint64_t number = 0;
    uint32_t small = 0;
    int choice = 0;
    switch (row->kind) {
    case SM_OPT_CHOICE:
        memcpy(&choice, field, sizeof choice);
        return put_word(row->unit, choice, out, err);
    case SM_OPT_U32:
        memcpy(&small, field, sizeof small);
        return sm_buf_printf(out, err, "%" PRIu32, small);
    case SM_OPT_BYTES:
        memcpy(&number, field, sizeof number);
        return sm_buf_printf(out, err, "%" PRIu64, number);
    default:
        return sm_buf_printf(out, err, "%s", flags->flags.scratch);
    }
}

sm_status sm_convert_flags_argv(const sm_convert_flags *flags, bool only_bytes, sm_buf *out,
                                size_t *n, sm_error *err)
{
    const only_flags all = {.flags = *flags};
    sm_status st = SM_OK;
    *n = 0;
    for (size_t i = 0; st == SM_OK && i < SM_COUNT(ROWS); i++) {
        const sm_opt *row = &ROWS[i];
        if ((only_bytes && !decides_bytes(row)) ||
            (row->kind == SM_OPT_STR && flags->scratch == NULL))
            continue;
        st = sm_buf_printf(out, err, "--%s=", row->name);
        if (st == SM_OK)
            st = put_value(&all, row, out, err);
        if (st == SM_OK)
            st = sm_buf_append(out, "", 1, err);
        *n += 1;
    }
    return st;
}
