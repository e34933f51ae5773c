/* The options of a conversion, shared by `convert`, `ingest` and the worker: one table, one
 * meaning. */
#ifndef SM_TILER_CONVERT_OPTS_H
#define SM_TILER_CONVERT_OPTS_H

#include "common/opts.h"
#include "common/sysinfo.h"
#include "tiler/convert.h"

/* What the rows fill; choices are indices of their words. */
typedef struct sm_convert_flags {
    int levels, tiles, codec, subsampling, profile, blank, bad_tile, associated, verify;
    uint32_t tile_px, quality, threads;
    uint64_t memory;
    const char *scratch;
} sm_convert_flags;

/* Rows of an option table for a config struct T whose member m is an sm_convert_flags; to be used
 * inside the array: SM_CONVERT_OPTION_ROWS(config, convert, "cache"). A default is a string. */
/* clang-format off */
/* NOLINTBEGIN(bugprone-macro-parentheses): a type and a member */
#define SM_CONVERT_OPTION_ROWS(T, m, verify_default)                                               \
  {"levels", SM_OPT_CHOICE, offsetof(T, m.levels), 0, 0, "auto", "auto|source|dyadic",             \
   "Levels of the output. auto keeps the source's and adds what is missing, in steps of at most "  \
   "4x, down to 1024 px; source keeps them and adds none; dyadic has every power of two."},        \
  {"tiles", SM_OPT_CHOICE, offsetof(T, m.tiles), 0, 0, "auto", "auto|copy|retile|transcode",       \
   "How tiles get over. copy: compressed bytes as they are, or fail; retile: JPEG coefficients "   \
   "moved to another tile size without loss; transcode: decode and encode. auto takes the first "  \
   "that is possible."},                                                                           \
  {"tile-px", SM_OPT_U32, offsetof(T, m.tile_px), 0, 4096, "0", "px",                              \
   "Side of the tiles that are written anew, a multiple of 16. 0: the source's if they are "       \
   "square, else 512."},                                                                           \
  {"codec", SM_OPT_CHOICE, offsetof(T, m.codec), 0, 0, "jpeg", "jpeg|zstd|deflate|lzw|none",       \
   "Compression of the output. jpeg is the one that every viewer reads; the others are "           \
   "lossless."},                                                                                   \
  {"quality", SM_OPT_U32, offsetof(T, m.quality), 1, 100, "85", "",                                \
   "JPEG quality (libjpeg's scale) of tiles that are encoded anew."},                              \
  {"subsampling", SM_OPT_CHOICE, offsetof(T, m.subsampling), 0, 0, "auto", "auto|444|422|420",     \
   "Chroma sampling of JPEG tiles that are encoded anew; auto is 420 below quality 90, else "      \
   "444."},                                                                                        \
  {"profile", SM_OPT_CHOICE, offsetof(T, m.profile), 0, 0, "hybrid", "hybrid|generic",             \
   "hybrid: a pyramid for TIFF and for OME-TIFF readers alike; generic: without OME-XML."},        \
  {"blank", SM_OPT_CHOICE, offsetof(T, m.blank), 0, 0, "share", "share|full",                      \
   "share: tiles of exactly one colour are stored once a level; full: each is stored."},           \
  {"bad-tile", SM_OPT_CHOICE, offsetof(T, m.bad_tile), 0, 0, "fail", "fail|blank",                 \
   "A tile that does not decode: fail, or put background in its place and report it."},            \
  {"associated", SM_OPT_CHOICE, offsetof(T, m.associated), 0, 0, "none", "none|keep",              \
   "Label, macro and thumbnail: none leaves them out, since they can show patient data; keep "     \
   "stores them, uncompressed, behind the levels."},                                               \
  {"threads", SM_OPT_U32, offsetof(T, m.threads), 0, 1024, "0", "N",                               \
   "Worker threads. 0: SLURM_CPUS_PER_TASK, else CPU affinity and cgroup quota."},                 \
  {"memory", SM_OPT_BYTES, offsetof(T, m.memory), 0, UINT64_MAX, "0", "SIZE",                      \
   "Refuse at the start what may need more. 0: SLURM_MEM_PER_NODE or SLURM_MEM_PER_CPU, else "     \
   "the cgroup's limit, else the machine's memory."},                                              \
  {"scratch", SM_OPT_STR, offsetof(T, m.scratch), 0, 0, NULL, "DIR",                               \
   "Folder for a local copy of a slide that lies on a network mount and cannot be read in one "    \
   "pass. Default: SLURM_TMPDIR, TMPDIR, /tmp."},                                                  \
  {"verify", SM_OPT_CHOICE, offsetof(T, m.verify), 0, 0, verify_default, "cache|media|none",       \
   "Read the output back and compare it with what was written: through the page cache, past it, "  \
   "or not at all (the output's digest is then not taken)."}
/* NOLINTEND(bugprone-macro-parentheses) */
/* clang-format on */

/** Check what the rows cannot (tile_px a multiple of 16): SM_ERR_ARG "--tile-px: ...". */
SM_NODISCARD sm_status sm_convert_flags_check(const sm_convert_flags *flags, sm_error *err);

/** Options for sm_convert; threads and memory as decided and from where. force, quiet, hooks are 0.
 */
void sm_convert_flags_options(const sm_convert_flags *flags, sm_convert_options *options,
                              sm_allowance *threads, sm_allowance *memory);

/** The flags as a command line again ("--levels=auto", ...): strings appended, each NUL-terminated,
 *  *n of them. only_bytes: just those that decide the output's bytes (no threads, memory, scratch,
 *  verify): the same text for the same bytes. */
SM_NODISCARD sm_status sm_convert_flags_argv(const sm_convert_flags *flags, bool only_bytes,
                                             sm_buf *out, size_t *n, sm_error *err);

#endif
