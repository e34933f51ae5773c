/* Where the time of one conversion went: spans of work or waiting. They are always added up, by
 * stage (common/spent.h), for two clock reads and no lock. If a trace is started they are also
 * written as a Chrome trace (JSON array of complete events, timestamps in us), which Perfetto and
 * chrome://tracing open, one lane for each thread and stage.
 * Source of the format: "Trace Event Format", sections JSON Array Format and Complete Events. */
#ifndef SM_COMMON_TRACE_H
#define SM_COMMON_TRACE_H

#include "common/buf.h"

/* Lanes may lie inside each other (encode holds nothing, write holds write-wait); spans of one lane
 * never overlap. */
typedef enum sm_trace_stage {
    SM_TRACE_OPEN,
    SM_TRACE_PLAN,
    SM_TRACE_READ_WAIT, /* for a block or tile of the source, or of what is read back */
    SM_TRACE_HASH,
    SM_TRACE_COPY_IN, /* into the scratch copy */
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
    SM_TRACE_IDLE, /* a worker without a tile to work on */
    SM_TRACE_STAGES
} sm_trace_stage;

/* A span that has begun. */
typedef struct sm_span {
    uint64_t begin_ns;
    uint64_t spent_ns; /* what the thread had in its sums: what comes on top lies inside the span */
} sm_span;

/** A span begins. Any thread. */
sm_span sm_trace_begin(void);

/** The same for SM_TRACE_VERIFY: until its end, all that the thread spends is verify's. */
sm_span sm_trace_begin_verify(void);

/** The span ends now, on the thread it began on. Its stage is charged with what no span inside it
 *  was charged with. */
void sm_trace_end(sm_trace_stage stage, sm_span begun);

/** Bytes that the source took this long to deliver, while the calling thread waited for them. */
void sm_trace_delivered(uint64_t bytes, uint64_t ns);

/* What all threads of the process have spent so far, those that have ended too. */
typedef struct sm_trace_sums {
    uint64_t ns[2][SM_TRACE_STAGES]; /* [1]: inside of verify */
    uint64_t delivered_bytes, delivered_ns;
} sm_trace_sums;
/** Any time; spans that have not ended are not in it. */
void sm_trace_sum(sm_trace_sums *sums);

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
