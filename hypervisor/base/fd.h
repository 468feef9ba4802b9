// SPDX-License-Identifier: Apache-2.0
/* Whole reads and writes, retried over EINTR and short counts. */
#ifndef DORMOUSE_BASE_FD_H
#define DORMOUSE_BASE_FD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

/* 0, or -errno; -ENODATA when the file or peer ends early. */
int fd_read_full(int fd, void *data, size_t len);
int fd_write_full(int fd, const void *data, size_t len);
int fd_pread_full(int fd, void *data, size_t len, uint64_t off);
int fd_pwrite_full(int fd, const void *data, size_t len, uint64_t off);
int fd_set_nonblock(int fd, int on);
/* Reads a whole small file (limit bytes at most), NUL-terminated; caller frees. */
int fd_read_file(int dirfd, const char *path, size_t limit, char **ret, size_t *ret_len,
                 struct err *e);

#endif
