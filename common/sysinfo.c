/* CPUs and memory of this process: Slurm's environment, affinity, cgroup v1 and v2, rlimits.
 * Owns nothing; every call looks again. */
#include "common/sysinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/geom.h"
#include "common/sysinfo_private.h"

/* Digits only, and then one of `ends`; *end is left there. */
static bool parse_u64(const char *text, const char *ends, uint64_t *value, const char **end)
{
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    char *stop = NULL;
    errno = 0;
    const unsigned long long parsed = strtoull(text, &stop, 10);
    if (errno != 0 || (*stop != '\0' && strchr(ends, *stop) == NULL))
        return false;
    *value = parsed;
    if (end != NULL)
        *end = stop;
    return true;
}

/* Slurm writes plain numbers; 0 means "no limit said" and counts as absent. */
static bool env_number(const char *name, uint64_t *value)
{
    return parse_u64(getenv(name), "", value, NULL) && *value > 0;
}

/* The file's first cap-1 bytes as text; false if it cannot be read. */
static bool read_text(const char *root, const char *path, char *text, size_t cap)
{
    char full[2 * PATH_MAX];
    const int len = snprintf(full, sizeof(full), "%s%s", root, path);
    if (len < 0 || (size_t)len >= sizeof(full))
        return false;
    const int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t n = 0;
    for (ssize_t got = 1; got > 0 && n < cap - 1;) {
        got = read(fd, text + n, cap - 1 - n);
        if (got > 0)
            n += (size_t)got;
        else if (got < 0 && errno == EINTR)
            got = 1;
    }
    (void)close(fd); /* only read from */
    text[n] = '\0';
    return n > 0;
}

/* One limit file. A file that is absent or says "max" or -1 is no limit: UINT64_MAX. */
typedef uint64_t (*limit_reader)(const char *root, const char *dir);

static uint64_t cpus_of_quota(uint64_t quota_us, uint64_t period_us)
{
    if (quota_us == 0 || period_us == 0)
        return UINT64_MAX;
    return quota_us / period_us + (quota_us % period_us != 0);
}

static uint64_t read_cpus_v2(const char *root, const char *dir)
{
    char path[PATH_MAX], text[128];
    uint64_t quota = 0, period = 0;
    const char *rest = NULL;
    snprintf(path, sizeof(path), "%s/cpu.max", dir); /* "200000 100000" or "max 100000" */
    if (!read_text(root, path, text, sizeof(text)) || !parse_u64(text, " ", &quota, &rest) ||
        *rest != ' ' || !parse_u64(rest + 1, "\n", &period, NULL))
        return UINT64_MAX;
    return cpus_of_quota(quota, period);
}

static uint64_t read_cpus_v1(const char *root, const char *dir)
{
    char path[PATH_MAX], text[64];
    uint64_t quota = 0, period = 0;
    snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", dir);
    if (!read_text(root, path, text, sizeof(text)) || !parse_u64(text, "\n", &quota, NULL))
        return UINT64_MAX;
    snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", dir);
    if (!read_text(root, path, text, sizeof(text)) || !parse_u64(text, "\n", &period, NULL))
        return UINT64_MAX;
    return cpus_of_quota(quota, period);
}

static uint64_t read_bytes(const char *root, const char *dir, const char *file)
{
    char path[PATH_MAX], text[64];
    uint64_t bytes = 0;
    snprintf(path, sizeof(path), "%s/%s", dir, file);
    if (!read_text(root, path, text, sizeof(text)) || !parse_u64(text, "\n", &bytes, NULL))
        return UINT64_MAX;
    return bytes;
}

static uint64_t read_memory_v2(const char *root, const char *dir)
{
    return read_bytes(root, dir, "memory.max");
}

static uint64_t read_memory_v1(const char *root, const char *dir)
{
    return read_bytes(root, dir, "memory.limit_in_bytes");
}

/* The tightest limit from mount/group up to the mount. Inside a container without a cgroup
 * namespace the group's own folder is not there, but the mount then is the container's group. */
static uint64_t walk_up(const char *root, const char *mount, const char *group, limit_reader limit)
{
    char dir[PATH_MAX];
    const int len = snprintf(dir, sizeof(dir), "%s%s", mount, group);
    if (len < 0 || (size_t)len >= sizeof(dir) - 32)
        return UINT64_MAX;
    uint64_t tightest = UINT64_MAX;
    for (;;) {
        const uint64_t here = limit(root, dir);
        if (here < tightest)
            tightest = here;
        char *slash = strrchr(dir, '/');
        if (strlen(dir) <= strlen(mount) || slash == NULL)
            return tightest;
        *slash = '\0';
    }
}

static bool list_has(const char *list, const char *word)
{
    const size_t len = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += len) {
        const bool starts = at == list || at[-1] == ',';
        if (starts && (at[len] == '\0' || at[len] == ','))
            return true;
    }
    return false;
}

/* One line of /proc/self/cgroup: "0::/group" (v2) or "4:cpu,cpuacct:/group" (v1). */
static uint64_t limit_of_line(char *line, const char *root, const char *controller, limit_reader v1,
                              limit_reader v2)
{
    char *controllers = strchr(line, ':');
    char *group = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (group == NULL || group[1] != '/')
        return UINT64_MAX;
    controllers++;
    *group++ = '\0';
    uint64_t a = UINT64_MAX, b = UINT64_MAX;
    if (controllers[0] == '\0') {
        a = walk_up(root, "/sys/fs/cgroup", group, v2);
        b = walk_up(root, "/sys/fs/cgroup/unified", group, v2);
    } else if (list_has(controllers, controller)) {
        char mount[PATH_MAX];
        snprintf(mount, sizeof(mount), "/sys/fs/cgroup/%s", controller);
        a = walk_up(root, mount, group, v1);
        snprintf(mount, sizeof(mount), "/sys/fs/cgroup/%s", controllers);
        b = walk_up(root, mount, group, v1);
    }
    return a < b ? a : b;
}

static uint64_t cgroup_limit(const char *root, const char *controller, limit_reader v1,
                             limit_reader v2)
{
    char text[16384];
    uint64_t tightest = UINT64_MAX;
    if (!read_text(root, "/proc/self/cgroup", text, sizeof(text)))
        return tightest;
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        const uint64_t here = limit_of_line(line, root, controller, v1, v2);
        if (here < tightest)
            tightest = here;
    }
    return tightest;
}

uint64_t sm_sysinfo_cgroup_cpus(const char *root)
{
    return cgroup_limit(root, "cpu", read_cpus_v1, read_cpus_v2);
}

uint64_t sm_sysinfo_cgroup_memory(const char *root)
{
    return cgroup_limit(root, "memory", read_memory_v1, read_memory_v2);
}

/* CPUs this thread may run on. The set is grown until it holds every CPU of the machine. */
static uint64_t affinity_cpus(void)
{
    for (int n = 1024; n <= 1 << 20; n *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)n);
        if (set == NULL)
            break;
        const size_t bytes = CPU_ALLOC_SIZE((size_t)n);
        const bool ok = sched_getaffinity(0, bytes, set) == 0;
        const int why = errno, cpus = ok ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (ok)
            return cpus > 0 ? (uint64_t)cpus : 1;
        if (why != EINVAL)
            break;
    }
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint64_t)online : 1;
}

sm_allowance sm_sysinfo_threads_in(const char *root)
{
    uint64_t n = 0;
    if (env_number("SLURM_CPUS_PER_TASK", &n))
        return (sm_allowance){n, "SLURM_CPUS_PER_TASK"};
    const uint64_t affinity = affinity_cpus(), quota = sm_sysinfo_cgroup_cpus(root);
    if (quota < affinity)
        return (sm_allowance){quota, "cgroup quota"};
    return (sm_allowance){affinity, "CPU affinity"};
}

static uint64_t physical_memory(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_C(1) << 30;
}

sm_allowance sm_sysinfo_memory_in(const char *root)
{
    const uint64_t mib = UINT64_C(1) << 20;
    uint64_t n = 0, bytes = 0;
    if (env_number("SLURM_MEM_PER_NODE", &n) && sm_mul_u64(n, mib, &bytes))
        return (sm_allowance){bytes, "SLURM_MEM_PER_NODE"};
    if (env_number("SLURM_MEM_PER_CPU", &n) && sm_mul_u64(n, mib, &bytes) &&
        sm_mul_u64(bytes, sm_sysinfo_threads_in(root).value, &bytes))
        return (sm_allowance){bytes, "SLURM_MEM_PER_CPU"};
    const uint64_t physical = physical_memory();
    bytes = sm_sysinfo_cgroup_memory(root);
    if (bytes < physical) /* v1 writes a huge number for "no limit" */
        return (sm_allowance){bytes, "cgroup limit"};
    struct rlimit as;
    if (getrlimit(RLIMIT_AS, &as) == 0 && as.rlim_cur != RLIM_INFINITY && as.rlim_cur < physical)
        return (sm_allowance){as.rlim_cur, "RLIMIT_AS"};
    return (sm_allowance){physical, "physical memory"};
}

sm_allowance sm_sysinfo_threads(void)
{
    return sm_sysinfo_threads_in("");
}

sm_allowance sm_sysinfo_memory(void)
{
    return sm_sysinfo_memory_in("");
}

uint64_t sm_now_ns(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* VmHWM first: ru_maxrss survives execve, so a big parent's peak would be taken for ours. */
uint64_t sm_peak_rss_bytes(void)
{
    char text[8192];
    uint64_t kib = 0;
    const char *at = NULL;
    if (read_text("", "/proc/self/status", text, sizeof(text)))
        at = strstr(text, "\nVmHWM:");
    if (at != NULL) {
        at += strlen("\nVmHWM:");
        at += strspn(at, " \t");
        if (parse_u64(at, " ", &kib, NULL))
            return kib * 1024;
    }
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (uint64_t)usage.ru_maxrss * 1024;
}

sm_status sm_random_hex(char *hex, size_t n_bytes, sm_error *err)
{
    for (size_t i = 0; i < n_bytes; i++) {
        uint8_t byte = 0;
        if (getrandom(&byte, sizeof byte, 0) != (ssize_t)sizeof byte)
            return sm_fail_errno(err, SM_ERR_INTERNAL, errno, "no random bytes");
        (void)snprintf(hex + 2 * i, 3, "%02x", byte);
    }
    return SM_OK;
}
