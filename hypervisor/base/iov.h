// SPDX-License-Identifier: Apache-2.0
/* Lists of buffers as readv() and virtqueues have them. */
#ifndef DORMOUSE_BASE_IOV_H
#define DORMOUSE_BASE_IOV_H

#include <stddef.h>
#include <sys/uio.h>

/* Bytes between a buffer list, from byte `off` on, and flat memory; they return how many
 * could be copied. */
size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *dst, size_t len);
size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *src, size_t len);
/* Drops the first `len` bytes; returns how many leading buffers are now empty. */
unsigned iov_skip(struct iovec *iov, unsigned n, size_t len);
/* Keeps the first `len` bytes only; returns how many buffers are left. */
unsigned iov_clip(struct iovec *iov, unsigned n, size_t len);

#endif
