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
 *  - all else (other file systems, a folder, a value we cannot read): "dev:MAJOR:MINOR"
 * @param fd  any fd of the file, also O_PATH
 * SM_ERR_IO only when the file cannot be asked at all.
 */
SM_NODISCARD sm_status sm_brick_of(int fd, char name[SM_BRICK_CAP], sm_error *err);

/**
 * Parse a value of glusterfs.pathinfo (with or without its NUL). SM_ERR_FORMAT if it is none, if it
 * is a folder's, or if the name is not printable or does not fit. Only the part before the file's
 * own path is looked at, so a hostile file name cannot choose a brick. Examples:
 *   (<DISTRIBUTE:v-dht> <POSIX(/b/0/data):HOST:/b/0/data/d/slide.svs>)         HOST:/b/0/data
 *   (<DISTRIBUTE:v-dht> (<REPLICATE:v-replicate-0> <POSIX(..):..> ...))        v-replicate-0
 *   (<DISTRIBUTE:v-dht> (<EC:v-disperse-0> <POSIX(..):..> ...))                v-disperse-0
 */
SM_NODISCARD sm_status sm_brick_parse(const char *pathinfo, size_t len, char name[SM_BRICK_CAP],
                                      sm_error *err);

#endif
