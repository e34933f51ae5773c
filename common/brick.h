/* Which brick (one Gluster store, or one device) holds a file. */
#ifndef SM_COMMON_BRICK_H
#define SM_COMMON_BRICK_H

#include <stddef.h>

#include "common/error.h"

#define SM_BRICK_CAP 256

/**
 * Name of the brick set that holds an open file:
 *  - distribute: "HOST:/brick/path" (the folder that is the brick, without the file's own path)
 *  - replicate, disperse: the set's translator name, e.g. "rep-replicate-0" (the order of replicas
 *    in pathinfo varies and a dead one is missing, so their list is no name)
 *  - sharded volumes: the brick of the first shard
 *  - other file systems: "dev:MAJOR:MINOR"
 * @param fd    any fd of the file, also O_PATH
 * @param path  relative path of the file on the volume's mount as far as known, or NULL; helps to
 *              cut the file's path off the brick's
 * SM_ERR_IO only when the file cannot be asked at all.
 */
SM_NODISCARD sm_status sm_brick_of(int fd, char name[SM_BRICK_CAP], sm_error *err);

/**
 * Parse a value of glusterfs.pathinfo (with or without its NUL). SM_ERR_FORMAT if it is none.
 * Examples: docs in tests/common/test_brick.c.
 */
SM_NODISCARD sm_status sm_brick_parse(const char *pathinfo, size_t len, char name[SM_BRICK_CAP],
                                      sm_error *err);

#endif
