// SPDX-License-Identifier: Apache-2.0
/*
 * Zip archives for image builds: stored or deflated entries, Unix modes,
 * symbolic links. No zip64, as the host takes none: 65535 entries and 4 GiB.
 * The same input gives the same bytes.
 */
#ifndef DORMOUSE_CLI_ZIP_WRITE_H
#define DORMOUSE_CLI_ZIP_WRITE_H

#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "../../hypervisor/base/buf.h"
#include "../../hypervisor/base/err.h"

struct zip_writer {
    int fd;         /* the caller's; written from its start */
    uint64_t off;   /* so far */
    uint64_t bytes; /* of contents */
    uint32_t entries, files;
    struct buf directory;
};

void zip_writer_init(struct zip_writer *z, int fd);
void zip_writer_free(struct zip_writer *z);

/* name: relative, with '/' and without "." or ".." parts; a directory's ends with '/'. */
/* A regular file's contents up to its end. */
int zip_add_file(struct zip_writer *z, const char *name, mode_t mode, time_t mtime, int fd,
                 struct err *e);
/* A directory (len 0), a symbolic link (its target), or a small file. */
int zip_add_bytes(struct zip_writer *z, const char *name, mode_t mode, time_t mtime,
                  const void *data, size_t len, struct err *e);
int zip_finish(struct zip_writer *z, struct err *e);

#endif
