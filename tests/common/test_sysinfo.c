/* Tests of common/sysinfo.c on made-up /proc and /sys trees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/error.h"
#include "common/sysinfo.h"
#include "common/sysinfo_private.h"
#include "tests/support/tmpdir.h"

static const char *const SLURM[] = {"SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE",
                                    "SLURM_MEM_PER_CPU"};

static int clear_slurm(void **state)
{
    (void)state;
    for (size_t i = 0; i < SM_COUNT(SLURM); i++)
        unsetenv(SLURM[i]);
    return 0;
}

/* root/path with its folders made on the way. */
static void put(const sm_tmpdir *root, const char *path, const char *text)
{
    sm_tmppath file = sm_tmpdir_file(root, path + 1);
    for (char *slash = file.path + strlen(root->path) + 1; (slash = strchr(slash, '/')) != NULL;
         slash++) {
        *slash = '\0';
        mkdir(file.path, 0755);
        *slash = '/';
    }
    sm_file_write(file.path, text, strlen(text));
}

typedef struct tree_file {
    const char *path, *text;
} tree_file;

static void cgroup_limits_are_the_tightest_up_the_tree(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        tree_file files[6];
        uint64_t cpus, bytes;
    } cases[] = {
        {"no cgroups", {{0}}, UINT64_MAX, UINT64_MAX},
        {"v2, no limit",
         {{"/proc/self/cgroup", "0::/a\n"},
          {"/sys/fs/cgroup/a/cpu.max", "max 100000\n"},
          {"/sys/fs/cgroup/a/memory.max", "max\n"}},
         UINT64_MAX,
         UINT64_MAX},
        {"v2, the parent is tighter; quota rounded up",
         {{"/proc/self/cgroup", "0::/job/step\n"},
          {"/sys/fs/cgroup/job/step/cpu.max", "800000 100000\n"},
          {"/sys/fs/cgroup/job/cpu.max", "250000 100000\n"},
          {"/sys/fs/cgroup/job/step/memory.max", "max\n"},
          {"/sys/fs/cgroup/job/memory.max", "1048576\n"}},
         3,
         1048576},
        {"v2 inside a container: the path is the host's",
         {{"/proc/self/cgroup", "0::/docker/0123\n"},
          {"/sys/fs/cgroup/cpu.max", "50000 100000\n"},
          {"/sys/fs/cgroup/memory.max", "4096\n"}},
         1,
         4096},
        {"v1 and an empty v2 beside it",
         {{"/proc/self/cgroup", "9:memory:/slurm/job\n4:cpu,cpuacct:/\n0::/\n"},
          {"/sys/fs/cgroup/memory/slurm/job/memory.limit_in_bytes", "9223372036854771712\n"},
          {"/sys/fs/cgroup/memory/slurm/memory.limit_in_bytes", "2097152\n"},
          {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "400000\n"},
          {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"}},
         4,
         2097152},
        {"v1 without a quota",
         {{"/proc/self/cgroup", "1:cpu:/\n"},
          {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"},
          {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}},
         UINT64_MAX,
         UINT64_MAX},
        {"cpuset is not cpu",
         {{"/proc/self/cgroup", "1:cpuset:/\n"},
          {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n"},
          {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}},
         UINT64_MAX,
         UINT64_MAX},
        {"nonsense is no limit",
         {{"/proc/self/cgroup", "rubbish\n0:\n0::/\n"},
          {"/sys/fs/cgroup/cpu.max", "12z 100000\n"},
          {"/sys/fs/cgroup/memory.max", "99999999999999999999999\n"}},
         UINT64_MAX,
         UINT64_MAX},
        {"a period of 0",
         {{"/proc/self/cgroup", "0::/\n"}, {"/sys/fs/cgroup/cpu.max", "100000 0\n"}},
         UINT64_MAX,
         UINT64_MAX},
    };
    for (size_t i = 0; i < SM_COUNT(cases); i++) {
        const sm_tmpdir root = sm_tmpdir_make();
        for (size_t k = 0; k < SM_COUNT(cases[i].files) && cases[i].files[k].path != NULL; k++)
            put(&root, cases[i].files[k].path, cases[i].files[k].text);
        const uint64_t cpus = sm_sysinfo_cgroup_cpus(root.path);
        const uint64_t bytes = sm_sysinfo_cgroup_memory(root.path);
        sm_tmpdir_remove(&root);
        if (cpus != cases[i].cpus || bytes != cases[i].bytes)
            fail_msg("%s: got %llu CPUs, %llu bytes", cases[i].name, (unsigned long long)cpus,
                     (unsigned long long)bytes);
    }
}

static void slurm_comes_first_and_only_when_it_is_a_number(void **state)
{
    (void)state;
    setenv("SLURM_CPUS_PER_TASK", "12", 1);
    sm_allowance got = sm_sysinfo_threads();
    assert_int_equal(got.value, 12);
    assert_string_equal(got.where, "SLURM_CPUS_PER_TASK");
    setenv("SLURM_MEM_PER_CPU", "2000", 1);
    got = sm_sysinfo_memory();
    assert_int_equal(got.value, UINT64_C(12) * 2000 << 20);
    assert_string_equal(got.where, "SLURM_MEM_PER_CPU");
    setenv("SLURM_MEM_PER_NODE", "512", 1);
    assert_int_equal(sm_sysinfo_memory().value, UINT64_C(512) << 20);
    static const char *const BAD[] = {"", "0", "12z", "-1", " 4", "99999999999999999999"};
    for (size_t i = 0; i < SM_COUNT(BAD); i++) {
        setenv("SLURM_CPUS_PER_TASK", BAD[i], 1);
        if (strcmp(sm_sysinfo_threads().where, "SLURM_CPUS_PER_TASK") == 0)
            fail_msg("'%s' was taken for a number", BAD[i]);
    }
    setenv("SLURM_MEM_PER_NODE", "18446744073709551615", 1); /* MiB: overflows */
    assert_string_not_equal(sm_sysinfo_memory().where, "SLURM_MEM_PER_NODE");
}

static void affinity_and_quota_take_the_smaller(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    const sm_tmpdir root = sm_tmpdir_make();
    const sm_allowance all = sm_sysinfo_threads_in(root.path);
    assert_int_equal(all.value, CPU_COUNT(&before));
    assert_string_equal(all.where, "CPU affinity");
    if (all.value > 1) {
        put(&root, "/proc/self/cgroup", "0::/\n");
        put(&root, "/sys/fs/cgroup/cpu.max", "1000 100000\n");
        const sm_allowance got = sm_sysinfo_threads_in(root.path);
        assert_int_equal(got.value, 1);
        assert_string_equal(got.where, "cgroup quota");
    }
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    const sm_allowance bound = sm_sysinfo_threads_in(root.path);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
    sm_tmpdir_remove(&root);
    assert_int_equal(bound.value, 1);
}

static void memory_falls_back_to_the_machine(void **state)
{
    (void)state;
    const sm_tmpdir root = sm_tmpdir_make();
    const sm_allowance physical = sm_sysinfo_memory_in(root.path);
    put(&root, "/proc/self/cgroup", "0::/\n");
    put(&root, "/sys/fs/cgroup/memory.max", "9223372036854771712\n");
    const sm_allowance unlimited = sm_sysinfo_memory_in(root.path);
    put(&root, "/sys/fs/cgroup/memory.max", "67108864\n");
    const sm_allowance limited = sm_sysinfo_memory_in(root.path);
    sm_tmpdir_remove(&root);
    assert_true(physical.value >= UINT64_C(64) << 20);
    assert_string_equal(unlimited.where, physical.where);
    assert_int_equal(limited.value, 67108864);
    assert_string_equal(limited.where, "cgroup limit");
}

static void clock_goes_forward_and_peak_memory_grows(void **state)
{
    (void)state;
    const uint64_t start = sm_now_ns(), peak = sm_peak_rss_bytes();
    const size_t len = (size_t)32 << 20;
    char *touched = malloc(len);
    assert_non_null(touched);
    memset(touched, 1, len);
    __asm__ volatile("" : : "r"(touched) : "memory");
    const uint64_t grown = sm_peak_rss_bytes();
    free(touched);
    assert_true(sm_now_ns() > start);
    assert_true(peak > 0);
    assert_true(grown >= len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(cgroup_limits_are_the_tightest_up_the_tree, clear_slurm),
        cmocka_unit_test_setup_teardown(slurm_comes_first_and_only_when_it_is_a_number, clear_slurm,
                                        clear_slurm),
        cmocka_unit_test_setup(affinity_and_quota_take_the_smaller, clear_slurm),
        cmocka_unit_test_setup(memory_falls_back_to_the_machine, clear_slurm),
        cmocka_unit_test_setup(clock_goes_forward_and_peak_memory_grows, clear_slurm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
