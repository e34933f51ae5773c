/* Paths from a catalog, a manifest or a folder listing: always relative, clean, and opened beneath
 * a root. A path is a string of bytes without NUL; it need not be UTF-8. */
#ifndef SM_COMMON_PATH_H
#define SM_COMMON_PATH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/error.h"

/* Longest relative path we take, without the NUL. */
#define SM_PATH_MAX 4000

/**
 * Is `path` relative and clean? SM_ERR_ARG, saying what is wrong: empty, longer than SM_PATH_MAX,
 * absolute, a component that is empty, "." or "..", a component longer than 255 bytes, a trailing
 * slash. Other bytes (spaces, newlines, no UTF-8) are fine.
 */
SM_NODISCARD sm_status sm_path_check(const char *path, sm_error *err);

/**
 * Clean a path as manifests write it: drops leading "./" (repeated), doubled slashes and "/./";
 * then sm_path_check. Refuses ".." anywhere. out is replaced, NUL-terminated (counted in len).
 */
SM_NODISCARD sm_status sm_path_clean(const char *path, sm_buf *out, sm_error *err);

/**
 * For loops around a system call on a path: is a call that failed with errnum worth repeating?
 * ESTALE (another client replaced the file; Gluster says so for up to a second), EAGAIN (openat2
 * met a rename), EINTR. True after a pause, at most 15 times and two seconds in all; start with
 * *tries = 0. errno is errnum afterwards.
 */
bool sm_path_try_again(int errnum, unsigned *tries);

/** Open a folder to look beneath (O_PATH | O_DIRECTORY). *fd is closed by the caller.
 *  SM_ERR_ARG when it is missing or no folder, SM_ERR_IO when the mount says no. */
SM_NODISCARD sm_status sm_path_open_root(const char *root, int *fd, sm_error *err);

/**
 * Open root_fd/path with openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS): symbolic links that stay
 * beneath are followed, those that lead out are SM_ERR_ARG ("leads out of the root"). Where openat2
 * is missing (ENOSYS) every component is opened with O_NOFOLLOW, so any symlink is refused.
 * @param flags  O_RDONLY, O_PATH, ...; O_CLOEXEC is added; with O_CREAT the mode is 0666 & ~umask
 * SM_ERR_ARG: the path is not clean, leads out, or not permitted; SM_ERR_IO: the rest, ENOENT among
 * them: on Gluster a brick that is down makes its files look absent (err->sys_errno tells).
 * ESTALE and EAGAIN are retried (sm_path_try_again).
 */
SM_NODISCARD sm_status sm_path_open_beneath(int root_fd, const char *path, int flags, int *fd,
                                            sm_error *err);

/** fstat of what sm_path_open_beneath finds; a regular file or SM_ERR_ARG. */
SM_NODISCARD sm_status sm_path_stat_beneath(int root_fd, const char *path, struct stat *st,
                                            sm_error *err);

/** Make the folders above root_fd/path (0777 & ~umask), never through a symlink that leads out;
 *  each new folder's parent is fsynced. SM_ERR_ARG as above, or where a file stands in the way. */
SM_NODISCARD sm_status sm_path_make_parents(int root_fd, const char *path, sm_error *err);

/** Make one folder (0777 & ~umask); one that is new is fsynced into the folder above it, one that
 * is there is fine. SM_ERR_ARG where that is not allowed, SM_ERR_IO the rest. */
SM_NODISCARD sm_status sm_path_make_folder(const char *path, sm_error *err);

/** root + "/" + path, NUL-terminated, into out (replaced). An empty root is the working folder. */
SM_NODISCARD sm_status sm_path_join(const char *root, const char *path, sm_buf *out, sm_error *err);

/** Percent-encode everything but printable ASCII without '%', '"' and '\\': one line, reversible.
 *  Appended to out without NUL. */
SM_NODISCARD sm_status sm_path_encode(const char *path, sm_buf *out, sm_error *err);
/** The reverse; out replaced, NUL-terminated. SM_ERR_ARG on a bad escape or an encoded NUL. */
SM_NODISCARD sm_status sm_path_decode(const char *text, sm_buf *out, sm_error *err);

#endif
