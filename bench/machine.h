/* What a result was measured on and by. */
#ifndef SM_BENCH_MACHINE_H
#define SM_BENCH_MACHINE_H

#include <stdint.h>

typedef struct bench_machine {
    char cpu[96], kernel[96], system[96], file_system[32], host[96], date[32];
    uint32_t cpus;
    double memory_gib;
} bench_machine;

/** @param path  somewhere on the file system that is measured */
void bench_machine_describe(const char *path, bench_machine *machine);
/** `git describe` of the sources when they were built; "" without git. */
const char *bench_commit(void);

#endif
