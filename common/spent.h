/* What a process spent by stage of its work: seconds of all threads together, beside which stands
 * the CPU time that the kernel counted. docs/benchmarks.md "Stages" says it for users. */
#ifndef SM_COMMON_SPENT_H
#define SM_COMMON_SPENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No second of a thread is in two stages. Names in journals and catalogs: new ones may be added,
 * those here stay. */
typedef enum sm_stage {
    SM_STAGE_OPEN,        /* directories, with the small reads in it */
    SM_STAGE_PLAN,        /* what is done with which tile, and in which order */
    SM_STAGE_READ,        /* waiting for bytes of the source */
    SM_STAGE_HASH,        /* digests of the source */
    SM_STAGE_COPY_IN,     /* writing the scratch copy */
    SM_STAGE_CUT,         /* bytes into tiles */
    SM_STAGE_FEED_WAIT,   /* waiting until workers have taken or finished their tiles */
    SM_STAGE_COPY,        /* tiles that are kept as they are */
    SM_STAGE_RETILE,      /* coefficients to other tiles */
    SM_STAGE_DECODE,      /* at half size too */
    SM_STAGE_DOWNSAMPLE,  /* 2x2 means */
    SM_STAGE_ENCODE,      /* pixels into tiles */
    SM_STAGE_WRITE,       /* into the blocks that are written, their digests included */
    SM_STAGE_WRITE_WAIT,  /* waiting for a block to be written */
    SM_STAGE_SYNC,        /* waiting in fsync */
    SM_STAGE_VERIFY,      /* digests and structure of what is read back */
    SM_STAGE_VERIFY_WAIT, /* waiting for bytes that are read back */
    SM_STAGE_PUBLISH,     /* rename, fsync of the folder */
    SM_STAGE_IDLE,        /* workers without a tile to work on */
    SM_STAGES
} sm_stage;

/** "open", "copy-in"; "unknown". Static. */
const char *sm_stage_name(sm_stage stage);
/** A thread stands still in it, so its seconds are no CPU time. */
bool sm_stage_waits(sm_stage stage);

typedef struct sm_spent {
    uint64_t ns[SM_STAGES];
    uint64_t cpu_ns; /* of the process, user and system; the kernel's share of I/O is only here */
    uint64_t delivered_bytes; /* of the source, while it was waited for without a rest */
    uint64_t delivered_ns;
} sm_spent;

/** Of this process so far, by threads that live and that have ended. */
void sm_spent_now(sm_spent *spent);
/** What came on top of `before`. */
void sm_spent_since(const sm_spent *before, sm_spent *spent);
/** Sum of the stages that wait, or of those that do not. */
uint64_t sm_spent_sum(const uint64_t ns[SM_STAGES], bool waits);
/** Those of them that took more than a hundredth of that sum, longest first; returns how many. */
size_t sm_spent_order(const uint64_t ns[SM_STAGES], bool waits, sm_stage order[SM_STAGES]);

#endif
