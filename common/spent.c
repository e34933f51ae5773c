/* The stages that users see, out of the spans that threads have been in. Owns nothing. */
#include "common/spent.h"

#include <sys/resource.h>

#include "common/trace.h"

typedef struct stage_fact {
    const char *name;
    bool waits;
} stage_fact;

static const stage_fact FACTS[SM_STAGES] = {
    [SM_STAGE_OPEN] = {"open", false},
    [SM_STAGE_PLAN] = {"plan", false},
    [SM_STAGE_READ] = {"read", true},
    [SM_STAGE_HASH] = {"hash", false},
    [SM_STAGE_COPY_IN] = {"copy-in", false},
    [SM_STAGE_CUT] = {"cut", false},
    [SM_STAGE_FEED_WAIT] = {"feed-wait", true},
    [SM_STAGE_COPY] = {"copy", false},
    [SM_STAGE_RETILE] = {"retile", false},
    [SM_STAGE_DECODE] = {"decode", false},
    [SM_STAGE_DOWNSAMPLE] = {"downsample", false},
    [SM_STAGE_ENCODE] = {"encode", false},
    [SM_STAGE_WRITE] = {"write", false},
    [SM_STAGE_WRITE_WAIT] = {"write-wait", true},
    [SM_STAGE_SYNC] = {"sync", true},
    [SM_STAGE_VERIFY] = {"verify", false},
    [SM_STAGE_VERIFY_WAIT] = {"verify-wait", true},
    [SM_STAGE_PUBLISH] = {"publish", false},
    [SM_STAGE_IDLE] = {"idle", true},
};

static const sm_stage OF_SPAN[SM_TRACE_STAGES] = {
    [SM_TRACE_OPEN] = SM_STAGE_OPEN,
    [SM_TRACE_PLAN] = SM_STAGE_PLAN,
    [SM_TRACE_READ_WAIT] = SM_STAGE_READ,
    [SM_TRACE_HASH] = SM_STAGE_HASH,
    [SM_TRACE_COPY_IN] = SM_STAGE_COPY_IN,
    [SM_TRACE_CUT] = SM_STAGE_CUT,
    [SM_TRACE_FEED_WAIT] = SM_STAGE_FEED_WAIT,
    [SM_TRACE_COPY] = SM_STAGE_COPY,
    [SM_TRACE_RETILE] = SM_STAGE_RETILE,
    [SM_TRACE_DECODE] = SM_STAGE_DECODE,
    [SM_TRACE_MAKE] = SM_STAGE_DECODE,
    [SM_TRACE_DOWNSAMPLE] = SM_STAGE_DOWNSAMPLE,
    [SM_TRACE_ENCODE] = SM_STAGE_ENCODE,
    [SM_TRACE_WRITE] = SM_STAGE_WRITE,
    [SM_TRACE_WRITE_WAIT] = SM_STAGE_WRITE_WAIT,
    [SM_TRACE_FSYNC] = SM_STAGE_SYNC,
    [SM_TRACE_VERIFY] = SM_STAGE_VERIFY,
    [SM_TRACE_PUBLISH] = SM_STAGE_PUBLISH,
    [SM_TRACE_IDLE] = SM_STAGE_IDLE,
};

const char *sm_stage_name(sm_stage stage)
{
    return (unsigned)stage < SM_STAGES ? FACTS[stage].name : "unknown";
}

bool sm_stage_waits(sm_stage stage)
{
    return (unsigned)stage < SM_STAGES && FACTS[stage].waits;
}

static uint64_t cpu_ns(void)
{
    struct rusage used;
    if (getrusage(RUSAGE_SELF, &used) != 0)
        return 0; /* cannot be */
    return ((uint64_t)used.ru_utime.tv_sec + (uint64_t)used.ru_stime.tv_sec) * 1000000000 +
           ((uint64_t)used.ru_utime.tv_usec + (uint64_t)used.ru_stime.tv_usec) * 1000;
}

void sm_spent_now(sm_spent *spent)
{
    sm_trace_sums sums;
    sm_trace_sum(&sums);
    *spent = (sm_spent){.cpu_ns = cpu_ns(),
                        .delivered_bytes = sums.delivered_bytes,
                        .delivered_ns = sums.delivered_ns};
    for (size_t i = 0; i < SM_TRACE_STAGES; i++) {
        const bool waits = sm_stage_waits(OF_SPAN[i]);
        spent->ns[OF_SPAN[i]] += sums.ns[0][i];
        spent->ns[waits ? SM_STAGE_VERIFY_WAIT : SM_STAGE_VERIFY] += sums.ns[1][i];
    }
}

void sm_spent_since(const sm_spent *before, sm_spent *spent)
{
    sm_spent_now(spent);
    for (size_t i = 0; i < SM_STAGES; i++)
        spent->ns[i] -= before->ns[i];
    spent->cpu_ns -= before->cpu_ns;
    spent->delivered_bytes -= before->delivered_bytes;
    spent->delivered_ns -= before->delivered_ns;
}

uint64_t sm_spent_sum(const uint64_t ns[SM_STAGES], bool waits)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < SM_STAGES; i++)
        sum += sm_stage_waits((sm_stage)i) == waits ? ns[i] : 0;
    return sum;
}

size_t sm_spent_order(const uint64_t ns[SM_STAGES], bool waits, sm_stage order[SM_STAGES])
{
    const uint64_t least = sm_spent_sum(ns, waits) / 100;
    size_t n = 0;
    for (int s = 0; s < SM_STAGES; s++) {
        if (sm_stage_waits((sm_stage)s) != waits || ns[s] <= least)
            continue;
        size_t i = n++;
        for (; i > 0 && ns[order[i - 1]] < ns[s]; i--)
            order[i] = order[i - 1];
        order[i] = (sm_stage)s;
    }
    return n;
}
