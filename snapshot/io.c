// SPDX-License-Identifier: Apache-2.0
/* The real system behind io.h. */
#include "io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int result(int r)
{
    return r < 0 ? -errno : r;
}

static int host_open(void *ctx, int dir, const char *name, int flags, mode_t mode)
{
    (void)ctx;
    return result(openat(dir, name, flags | O_CLOEXEC, mode));
}

static int host_close(void *ctx, int fd)
{
    (void)ctx;
    return result(close(fd));
}

static ssize_t host_pwrite(void *ctx, int fd, const void *p, size_t len, uint64_t off)
{
    (void)ctx;
    ssize_t n = pwrite(fd, p, len, (off_t)off);
    return n < 0 ? -errno : n;
}

static int host_truncate(void *ctx, int fd, uint64_t len)
{
    (void)ctx;
    return result(ftruncate(fd, (off_t)len));
}

static int host_sync(void *ctx, int fd)
{
    (void)ctx;
    return result(fsync(fd));
}

static int host_rename(void *ctx, int dir, const char *from, const char *to)
{
    (void)ctx;
    return result(renameat(dir, from, dir, to));
}

static int host_unlink(void *ctx, int dir, const char *name, bool is_dir)
{
    (void)ctx;
    return result(unlinkat(dir, name, is_dir ? AT_REMOVEDIR : 0));
}

static int host_link(void *ctx, int dir, const char *name, int to_dir, const char *to)
{
    (void)ctx;
    return result(linkat(dir, name, to_dir, to, 0));
}

static int host_list(void *ctx, int dir, bool (*each)(void *arg, const char *name), void *arg)
{
    (void)ctx;
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *d = fdopendir(fd);
    if (!d) {
        int r = -errno;
        close(fd);
        return r;
    }
    for (struct dirent *de; (de = readdir(d));) {
        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 &&
            !each(arg, de->d_name))
            break;
    }
    closedir(d);
    return 0;
}

const struct snap_io snap_io_host = {
    .open = host_open,
    .close = host_close,
    .pwrite = host_pwrite,
    .truncate = host_truncate,
    .sync = host_sync,
    .rename = host_rename,
    .unlink = host_unlink,
    .link = host_link,
    .list = host_list,
};

int snap_io_write_full(const struct snap_io *io, int fd, const void *p, size_t len,
                       uint64_t off)
{
    const uint8_t *at = p;
    while (len > 0) {
        ssize_t n = io->pwrite(io->ctx, fd, at, len, off);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? (int)n : -EIO;
        at += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

void snap_io_close(const struct snap_io *io, int *fd)
{
    if (*fd >= 0)
        io->close(io->ctx, *fd);
    *fd = -1;
}
