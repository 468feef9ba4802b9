// SPDX-License-Identifier: Apache-2.0
/*
 * All I/O that has to survive a power failure, as one small table: the daemon's
 * code for saving, publishing and deleting snapshot files goes through it, and
 * so do the writes of a snapshot itself. The tests put a simulated disk in its
 * place that fails, or loses power, after any call (tests/fault/).
 */
#ifndef DORMOUSE_SNAPSHOT_IO_H
#define DORMOUSE_SNAPSHOT_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Each returns what the system call does, with -errno for errors. */
struct snap_io {
    int (*open)(void *ctx, int dir, const char *name, int flags, mode_t mode);
    int (*close)(void *ctx, int fd);
    ssize_t (*pwrite)(void *ctx, int fd, const void *p, size_t len, uint64_t off);
    int (*truncate)(void *ctx, int fd, uint64_t len);
    int (*sync)(void *ctx, int fd); /* a file's data and length, or a directory's names */
    int (*rename)(void *ctx, int dir, const char *from, const char *to);
    int (*unlink)(void *ctx, int dir, const char *name, bool is_dir);
    /* A second name of a file, in another directory; the name is new. */
    int (*link)(void *ctx, int dir, const char *name, int to_dir, const char *to);
    /* Names but . and ..; stops when each() returns false. The directory may shrink meanwhile.
     */
    int (*list)(void *ctx, int dir, bool (*each)(void *arg, const char *name), void *arg);
    void *ctx;
};

extern const struct snap_io snap_io_host; /* the system itself */

/* 0, or -errno; EINTR and short counts are retried. */
int snap_io_write_full(const struct snap_io *io, int fd, const void *p, size_t len,
                       uint64_t off);
/* Closes and forgets; *fd may be -1. */
void snap_io_close(const struct snap_io *io, int *fd);

#endif
