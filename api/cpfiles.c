// SPDX-License-Identifier: Apache-2.0
/* Files of checkpoints and disk layers; see cpfiles.h. */
#include "cpfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "seal.h"

static void tmp_name(char ret[SNAPFILES_NAME + 8], const char *id)
{
    snprintf(ret, SNAPFILES_NAME + 8, "%.40s.tmp", id);
}

int cpfiles_top(const struct snap_io *io, int vm_dir, uint64_t serial, uint64_t size, bool sync,
                int *ret_fd, struct err *e)
{
    char name[SNAPFILES_NAME];
    snapfiles_disk(name, serial);
    io->unlink(io->ctx, vm_dir, name, false);
    int fd = io->open(io->ctx, vm_dir, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return err_sys(e, -fd, "make a disk layer");
    int r = overlay_create_io(io, fd, size, e);
    if (r == 0 && sync && (r = io->sync(io->ctx, fd)) < 0)
        err_sys(e, -r, "make a disk layer durable");
    if (r < 0) {
        snap_io_close(io, &fd);
        io->unlink(io->ctx, vm_dir, name, false);
        return r;
    }
    if (ret_fd)
        *ret_fd = fd;
    else
        snap_io_close(io, &fd);
    return 0;
}

int cpfiles_share(const struct snap_io *io, int from_dir, const char *from, int to_dir,
                  const char *to, struct err *e)
{
    int r = io->link(io->ctx, from_dir, from, to_dir, to);
    if (r == -EEXIST) { /* left by an attempt that was cut */
        io->unlink(io->ctx, to_dir, to, false);
        r = io->link(io->ctx, from_dir, from, to_dir, to);
    }
    if (r < 0)
        return err_sys(e, -r, "give a snapshot a second name");
    if ((r = io->sync(io->ctx, to_dir)) < 0) {
        io->unlink(io->ctx, to_dir, to, false);
        return err_sys(e, -r, "make a name durable");
    }
    return 0;
}

int cpfiles_freeze(const struct snap_io *io, int vm_dir, uint64_t serial, int disks_dir,
                   const char *id, struct err *e)
{
    char name[SNAPFILES_NAME];
    snapfiles_disk(name, serial);
    return cpfiles_share(io, vm_dir, name, disks_dir, id, e);
}

/* Renamed, and the name durable; or nothing. */
static int publish(const struct snap_io *io, int dir, const char *tmp, const char *id,
                   struct err *e)
{
    int r = io->rename(io->ctx, dir, tmp, id);
    if (r < 0) {
        io->unlink(io->ctx, dir, tmp, false);
        return err_sys(e, -r, "publish a checkpoint's file");
    }
    if ((r = io->sync(io->ctx, dir)) < 0) {
        io->unlink(io->ctx, dir, id, false);
        return err_sys(e, -r, "publish a checkpoint's file");
    }
    return 0;
}

int cpfiles_merge(const struct snap_io *io, int disks_dir, const int *fds, unsigned n,
                  const char *id, const struct overlay_pace *pace, struct err *e)
{
    char tmp[SNAPFILES_NAME + 8];
    tmp_name(tmp, id);
    int fd = io->open(io->ctx, disks_dir, tmp, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return err_sys(e, -fd, "make a disk layer");
    int r = overlay_merge(io, fds, n, fd, pace, NULL, e);
    if (r == 0 && (r = io->sync(io->ctx, fd)) < 0)
        err_sys(e, -r, "make a disk layer durable");
    snap_io_close(io, &fd);
    if (r < 0) {
        io->unlink(io->ctx, disks_dir, tmp, false);
        return r;
    }
    return publish(io, disks_dir, tmp, id, e);
}

int cpfiles_memory(const struct snap_io *io, int dir, const char *id, int *ret_fd,
                   struct err *e)
{
    char tmp[SNAPFILES_NAME + 8];
    tmp_name(tmp, id);
    int fd = io->open(io->ctx, dir, tmp, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return err_sys(e, -fd, "make the checkpoint's file");
    *ret_fd = fd;
    return 0;
}

int cpfiles_publish(const struct snap_io *io, const struct seal *seal, int dir, const char *id,
                    int fd, uint64_t *ret_bytes, struct err *e)
{
    char tmp[SNAPFILES_NAME + 8];
    struct stat st;
    tmp_name(tmp, id);
    int r = seal ? seal_put(seal, io, fd, e) : 0;
    if (r == 0 && (r = io->sync(io->ctx, fd)) < 0)
        err_sys(e, -r, "make the checkpoint durable");
    if (r < 0) {
        io->unlink(io->ctx, dir, tmp, false);
        return r;
    }
    if (fstat(fd, &st) == 0)
        *ret_bytes = (uint64_t)st.st_blocks * 512;
    return publish(io, dir, tmp, id, e);
}

void cpfiles_drop(const struct snap_io *io, int dir, const char *id)
{
    char tmp[SNAPFILES_NAME + 8];
    tmp_name(tmp, id);
    io->unlink(io->ctx, dir, tmp, false);
}

void cpfiles_remove(const struct snap_io *io, int dir, const char *id)
{
    io->unlink(io->ctx, dir, id, false);
}

struct cleaning {
    const struct snap_io *io;
    int dir;
    bool (*known)(void *ctx, const char *name);
    void *ctx;
    unsigned n;
};

static bool clean_one(void *arg, const char *name)
{
    struct cleaning *c = arg;
    if (!c->known(c->ctx, name) && c->io->unlink(c->io->ctx, c->dir, name, false) == 0)
        c->n++;
    return true;
}

unsigned cpfiles_clean(const struct snap_io *io, int dir,
                       bool (*known)(void *ctx, const char *name), void *ctx)
{
    struct cleaning c = {.io = io, .dir = dir, .known = known, .ctx = ctx};
    io->list(io->ctx, dir, clean_one, &c);
    return c.n;
}
