// SPDX-License-Identifier: Apache-2.0
/* Atomic, durable small files; see durable.h. */
#include "durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "uuid.h"

int durable_write_io(const struct snap_io *io, int dirfd, const char *name, const void *data,
                     size_t len, mode_t mode, struct err *e)
{
    char tmp[280], id[UUID_CAP];
    uuid_make(id);
    snprintf(tmp, sizeof tmp, DURABLE_TMP "%s", id);
    int fd = io->open(io->ctx, dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL, mode);
    if (fd < 0)
        return err_sys(e, -fd, "create a file for '%s'", name);
    int r = snap_io_write_full(io, fd, data, len, 0);
    if (r == 0)
        r = io->sync(io->ctx, fd);
    snap_io_close(io, &fd);
    if (r == 0)
        r = io->rename(io->ctx, dirfd, tmp, name);
    if (r < 0) {
        io->unlink(io->ctx, dirfd, tmp, false);
        return err_sys(e, -r, "write '%s'", name);
    }
    if ((r = io->sync(io->ctx, dirfd)) < 0)
        return err_sys(e, -r, "make '%s' durable", name);
    return 0;
}

int durable_write(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
                  struct err *e)
{
    return durable_write_io(&snap_io_host, dirfd, name, data, len, mode, e);
}

int durable_dir(int dirfd, const char *path, int *ret_fd, struct err *e)
{
    char part[1024];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof part)
        return err_set(e, ENAMETOOLONG, "directory name '%.60s…' is empty or too long", path);
    for (size_t i = 1; i <= len; i++) {
        if (i < len && path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdirat(dirfd, part, 0700) < 0 && errno != EEXIST)
            return err_sys(e, errno, "make directory '%s'", part);
    }
    int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open directory '%s'", path);
    *ret_fd = fd;
    return 0;
}
