/* The inside of a source, for stream.c, fetch.c and sink_verify.c only. */
#ifndef SM_COMMON_SOURCE_PRIVATE_H
#define SM_COMMON_SOURCE_PRIVATE_H

#include <sys/types.h>
#include <time.h>

#include "common/source.h"

struct sm_source {
    char *path;           /* for messages and for sm_source_check_unchanged */
    uint64_t size;        /* when opened */
    int fd;               /* -1 over memory */
    const uint8_t *bytes; /* over memory: borrowed; else NULL */
    bool local;
    dev_t dev;
    ino_t inode;
    struct timespec mtime;
};

#endif
