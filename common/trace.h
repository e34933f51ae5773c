/* Where the time of one conversion went: spans of work, written as a Chrome trace (JSON array of
 * complete events, timestamps in us), which Perfetto and chrome://tracing open. One lane for each
 * thread and stage. Off unless started: then a span costs one branch.
 * Source of the format: "Trace Event Format", sections JSON Array Format and Complete Events. */
#ifndef SM_COMMON_TRACE_H
#define SM_COMMON_TRACE_H

#include <stdatomic.h>

#include "common/buf.h"

/* Lanes may lie inside each other (encode holds nothing, write holds write-wait); spans of one lane
 * never overlap. */
typedef enum sm_trace_stage {
    SM_TRACE_OPEN,
    SM_TRACE_PLAN,
    SM_TRACE_READ_WAIT, /* for a block or tile of the source, or of what is read back */
    SM_TRACE_HASH,
    SM_TRACE_CUT,
    SM_TRACE_FEED_WAIT, /* until a worker or the order of the output has room; inside cut */
    SM_TRACE_COPY,
    SM_TRACE_RETILE,
    SM_TRACE_DECODE,
    SM_TRACE_MAKE, /* decoding at half size: the scaled IDCT */
    SM_TRACE_DOWNSAMPLE,
    SM_TRACE_ENCODE,
    SM_TRACE_WRITE,      /* into the blocks, digest included */
    SM_TRACE_WRITE_WAIT, /* for a block to be written; inside write */
    SM_TRACE_FSYNC,
    SM_TRACE_VERIFY, /* its read-wait and hash lie inside */
    SM_TRACE_PUBLISH,
    SM_TRACE_STAGES
} sm_trace_stage;

/* Of this file's inline functions only. */
extern atomic_bool sm_trace_is_on;
uint64_t sm_trace_clock(void);
void sm_trace_record(sm_trace_stage stage, uint64_t begin_ns);

/** A span begins; 0 when nothing is traced. Any thread. */
static inline uint64_t sm_trace_begin(void)
{
    return atomic_load_explicit(&sm_trace_is_on, memory_order_relaxed) ? sm_trace_clock() : 0;
}

/** The span that began at begin_ns ends now, on the thread it began on. */
static inline void sm_trace_end(sm_trace_stage stage, uint64_t begin_ns)
{
    if (begin_ns != 0)
        sm_trace_record(stage, begin_ns);
}

/** Say what the calling thread is called in its lanes: `name`, or "name N" if index is not
 *  negative. The first call counts, later ones cost a branch; name is a string literal. A thread
 *  without a name is "thread N". */
void sm_trace_name_thread(const char *name, int index);

/**
 * Begin to trace this process into a new file. Not while a trace is on.
 * A file that is there is replaced only if it is empty or a trace: a mistyped name must not cost a
 * slide.
 * @return SM_ERR_IO or SM_ERR_ARG: nothing is traced; the work itself can go on
 */
SM_NODISCARD sm_status sm_trace_start(const char *path, sm_error *err);

/**
 * Write what is left and end the trace. No other thread may be in a span. Does nothing, and returns
 * SM_OK, when no trace is on. SM_ERR_IO, SM_ERR_NOMEM: the file is cut short where the failure was.
 */
SM_NODISCARD sm_status sm_trace_stop(sm_error *err);

/** Append `path` with ".id" before its suffix, and a NUL: "d/trace.json", 7 -> "d/trace.7.json". */
SM_NODISCARD sm_status sm_trace_path(const char *path, int64_t id, sm_buf *out, sm_error *err);

#endif
