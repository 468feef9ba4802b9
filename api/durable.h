// SPDX-License-Identifier: Apache-2.0
/* Small files that are either wholly there or not, also after a power failure. */
#ifndef DORMOUSE_API_DURABLE_H
#define DORMOUSE_API_DURABLE_H

#include <stddef.h>
#include <sys/types.h>

#include "../hypervisor/base/err.h"
#include "../snapshot/io.h"

#define DURABLE_TMP ".new-" /* temporary names begin so */

/* Replaces name in dirfd: temporary file beside it, fsync, rename, fsync of the directory. */
int durable_write(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                  struct err *e);
int durable_write_io(const struct snap_io *io, int dirfd, const char *name, const void *data,
                     size_t len, mode_t mode, struct err *e);
/* Opens a directory, making it (mode 0700) and its parents when missing. */
int durable_dir(int dirfd, const char *path, int *ret_fd, struct err *e);

#endif
