/* What this process may use: CPUs and memory of the allocation, not of the machine. */
#ifndef SM_COMMON_SYSINFO_H
#define SM_COMMON_SYSINFO_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* where: a static string such as "SLURM_CPUS_PER_TASK", "CPU affinity", "cgroup quota". */
typedef struct sm_allowance {
    uint64_t value;
    const char *where;
} sm_allowance;

/** Threads to use: SLURM_CPUS_PER_TASK, else min(affinity, cgroup v1/v2 quota rounded up); >= 1. */
sm_allowance sm_sysinfo_threads(void);

/** Bytes to stay within: SLURM_MEM_PER_NODE (MiB), else SLURM_MEM_PER_CPU x CPUs, else the cgroup
 *  v1/v2 limit, else RLIMIT_AS, else physical memory. */
sm_allowance sm_sysinfo_memory(void);

/** Monotonic clock in ns. */
uint64_t sm_now_ns(void);

/** n_bytes random bytes as 2 * n_bytes lower-case hexadecimal digits and a NUL: names that nobody
 *  else has. */
SM_NODISCARD sm_status sm_random_hex(char *hex, size_t n_bytes, sm_error *err);

/** Peak resident set of this process so far, bytes. */
uint64_t sm_peak_rss_bytes(void);

#endif
