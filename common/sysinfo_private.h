/* The look-ups behind sysinfo.h with the root of /proc and /sys as a parameter, for tests. */
#ifndef SM_COMMON_SYSINFO_PRIVATE_H
#define SM_COMMON_SYSINFO_PRIVATE_H

#include "common/sysinfo.h"

/** As sm_sysinfo_threads and sm_sysinfo_memory; root is put before "/proc/..." and "/sys/...":
 *  "" for the real ones. */
sm_allowance sm_sysinfo_threads_in(const char *root);
sm_allowance sm_sysinfo_memory_in(const char *root);

/** The tightest limit of this process's cgroup and its parents, UINT64_MAX for none: CPUs (quota /
 *  period, rounded up), bytes. */
uint64_t sm_sysinfo_cgroup_cpus(const char *root);
uint64_t sm_sysinfo_cgroup_memory(const char *root);

#endif
