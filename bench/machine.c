/* Asks /proc and the C library what this machine is. Owns nothing. */
#include "bench/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "bench/commit.h" /* made by the build */
#include "common/error.h"
#include "common/sysinfo.h"

/* Behind the first of `marks` in the line of a file that begins with key; quotes are dropped. */
static void line_value(const char *path, const char *key, const char *marks, char *out, size_t cap)
{
    char line[512];
    FILE *f = fopen(path, "re");

    out[0] = '\0';
    if (f == NULL)
        return;
    while (out[0] == '\0' && fgets(line, sizeof line, f) != NULL) {
        const char *value = strpbrk(line, marks);
        if (strncmp(line, key, strlen(key)) != 0 || value == NULL)
            continue;
        value += strspn(value, " \t\":=");
        (void)snprintf(out, cap, "%.*s", (int)strcspn(value, "\"\n"), value);
    }
    (void)fclose(f);
}

static const char *file_system_name(const char *path, char other[32])
{
    static const struct {
        unsigned long magic;
        const char *name;
    } KNOWN[] = {{0x65735546, "fuse"},    {0xEF53, "ext4"},       {0x58465342, "xfs"},
                 {0x01021994, "tmpfs"},   {0x6969, "nfs"},        {0x9123683E, "btrfs"},
                 {0x794C7630, "overlay"}, {0x0BD00BD0, "lustre"}, {0x00C36400, "ceph"}};
    struct statfs info;

    if (statfs(path, &info) != 0)
        return "unknown";
    for (size_t i = 0; i < SM_COUNT(KNOWN); i++)
        if ((unsigned long)info.f_type == KNOWN[i].magic)
            return KNOWN[i].name;
    (void)snprintf(other, 32, "0x%lx", (unsigned long)info.f_type);
    return other;
}

void bench_machine_describe(const char *path, bench_machine *m)
{
    struct utsname uts;
    struct tm day;
    char other[32];
    const time_t now = time(NULL);

    memset(m, 0, sizeof *m);
    line_value("/proc/cpuinfo", "model name", ":", m->cpu, sizeof m->cpu);
    line_value("/etc/os-release", "PRETTY_NAME", "=", m->system, sizeof m->system);
    if (uname(&uts) == 0) {
        (void)snprintf(m->kernel, sizeof m->kernel, "%.90s", uts.release);
        (void)snprintf(m->host, sizeof m->host, "%.90s", uts.nodename);
    }
    (void)snprintf(m->file_system, sizeof m->file_system, "%s", file_system_name(path, other));
    if (gmtime_r(&now, &day) != NULL)
        (void)strftime(m->date, sizeof m->date, "%Y-%m-%dT%H:%M:%SZ", &day);
    m->cpus = (uint32_t)sm_sysinfo_threads().value;
    m->memory_gib =
        (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (double)(1 << 30);
}

const char *bench_commit(void)
{
    return BENCH_COMMIT;
}
