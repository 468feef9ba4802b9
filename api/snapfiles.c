// SPDX-License-Identifier: Apache-2.0
/* Order of durable operations; see snapfiles.h. */
#include "snapfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/num.h"
#include "../snapshot/overlay.h"
#include "seal.h"

#define DISK      "disk."
#define SNAPSHOT  "mem.snap."

#define LAYER_TMP "new.tmp"

void snapfiles_disk(char ret[SNAPFILES_NAME], uint64_t serial)
{
    if (serial == 0)
        snprintf(ret, SNAPFILES_NAME, DISK "ovl");
    else
        snprintf(ret, SNAPFILES_NAME, DISK "%" PRIu64 ".ovl", serial);
}

void snapfiles_name(char ret[SNAPFILES_NAME], uint64_t generation)
{
    snprintf(ret, SNAPFILES_NAME, SNAPSHOT "%" PRIu64, generation);
}

/* Written, sealed and durable under its temporary name. */
static int fill(const struct snap_io *io, const struct seal *seal, int fd,
                const struct snapfiles_steps *s, uint64_t *ret_bytes, struct err *e)
{
    struct stat st;
    int r = s->save(s->ctx, fd, e);
    if (r == 0 && seal)
        r = seal_put(seal, io, fd, e);
    if (r < 0)
        return r;
    if ((r = io->sync(io->ctx, fd)) < 0)
        return err_sys(e, -r, "make the snapshot durable");
    if (ret_bytes && fstat(fd, &st) == 0)
        *ret_bytes = (uint64_t)st.st_blocks * 512; /* holes cost nothing */
    return 0;
}

static int publish(const struct snap_io *io, int dir, const char *tmp, const char *name,
                   struct err *e)
{
    int r = io->rename(io->ctx, dir, tmp, name);
    if (r < 0) {
        io->unlink(io->ctx, dir, tmp, false);
        return err_sys(e, -r, "publish the snapshot");
    }
    if ((r = io->sync(io->ctx, dir)) < 0) {
        io->unlink(io->ctx, dir, name, false);
        return err_sys(e, -r, "publish the snapshot");
    }
    return 0;
}

int snapfiles_write(const struct snap_io *io, const struct seal *seal, int dir,
                    const char *name, const struct snapfiles_steps *s, uint64_t *ret_bytes,
                    struct err *e)
{
    char tmp[SNAPFILES_NAME + 8];
    snprintf(tmp, sizeof tmp, "%.40s.tmp", name);
    /* What an earlier attempt left may not be written again: after a failed fsync nobody knows
     * which of its pages reached the disk. */
    io->unlink(io->ctx, dir, tmp, false);
    int fd = io->open(io->ctx, dir, tmp, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return err_sys(e, -fd, "make the snapshot file");
    int r = fill(io, seal, fd, s, ret_bytes, e);
    snap_io_close(io, &fd);
    if (r < 0) {
        io->unlink(io->ctx, dir, tmp, false);
        return r;
    }
    return publish(io, dir, tmp, name, e);
}

/* ---- memory layers ---- */

void snapfiles_layer_name(char ret[SNAPFILES_LAYER], const uint8_t id[32])
{
    for (unsigned i = 0; i < 32; i++)
        snprintf(ret + 2 * i, 3, "%02x", id[i]);
    memcpy(ret + 64, ".layer", 7);
}

int snapfiles_layer(const struct snap_io *io, int dir, snapfiles_layer_fn *save, void *ctx,
                    struct err *e)
{
    char name[SNAPFILES_LAYER];
    io->unlink(io->ctx, dir, LAYER_TMP, false);
    int fd = io->open(io->ctx, dir, LAYER_TMP, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return err_sys(e, -fd, "make the file of a memory layer");
    int r = save(ctx, fd, name, e);
    if (r == 0 && (r = io->sync(io->ctx, fd)) < 0)
        err_sys(e, -r, "make the memory layer durable");
    snap_io_close(io, &fd);
    if (r < 0) {
        io->unlink(io->ctx, dir, LAYER_TMP, false);
        return r;
    }
    return publish(io, dir, LAYER_TMP, name, e);
}

int snapfiles_drop_layer(const struct snap_io *io, int dir, const char *name)
{
    int r = io->unlink(io->ctx, dir, name, false);
    return r < 0 ? r : io->sync(io->ctx, dir);
}

/* The system says once that it could not write: a later sync would succeed, and what the guest
 * wrote would still be missing. */
static int sync_disk(const struct snap_io *io, int dir, uint64_t serial, struct err *e)
{
    char name[SNAPFILES_NAME];
    snapfiles_disk(name, serial);
    int fd = io->open(io->ctx, dir, name, O_RDWR, 0);
    if (fd < 0)
        return err_sys(e, -fd, "open the session's disk");
    int r = io->sync(io->ctx, fd);
    snap_io_close(io, &fd);
    if (r == 0)
        return 0;
    err_sys(e, -r, "make the session's disk durable");
    if (e)
        e->num = ENOTRECOVERABLE;
    return -ENOTRECOVERABLE;
}

int snapfiles_suspend(const struct snap_io *io, const struct seal *seal, int parent, int dir,
                      uint64_t disk, uint64_t generation, const struct snapfiles_steps *s,
                      uint64_t *ret_bytes, struct err *e)
{
    char name[SNAPFILES_NAME], old[SNAPFILES_NAME];
    snapfiles_name(name, generation);
    snapfiles_name(old, generation - 1);
    int r = snapfiles_write(io, seal, dir, name, s, ret_bytes, e);
    if (r < 0)
        return r;
    r = sync_disk(io, dir, disk, e);
    /* The session's own directory is made without a sync, when it starts. */
    if (r == 0 && parent >= 0 && (r = io->sync(io->ctx, parent)) < 0)
        err_sys(e, -r, "make the session's directory durable");
    if (r == 0)
        r = s->commit(s->ctx, e);
    if (r < 0) {
        io->unlink(io->ctx, dir, name, false);
        return r;
    }
    if (generation > 1)
        io->unlink(io->ctx, dir, old, false);
    return 0;
}

/* ---- removal ---- */

enum what {
    WHAT_SESSION, /* snapshots but `keep`, and without one the disk */
    WHAT_RESULTS, /* of a build: all but its logs */
    WHAT_ALL,
};

struct removal {
    const struct snap_io *io;
    int dir;
    enum what what;
    const char *keep, *keep_disk;
    unsigned n;
    int result;
};

static bool wanted(const struct removal *m, const char *name)
{
    if (m->what == WHAT_ALL)
        return true;
    if (m->what == WHAT_RESULTS)
        return !strstr(name, ".log");
    if (strncmp(name, SNAPSHOT, sizeof SNAPSHOT - 1) == 0)
        return !m->keep || strcmp(name, m->keep) != 0;
    return strncmp(name, DISK, sizeof DISK - 1) == 0 &&
           (!m->keep || strcmp(name, m->keep_disk) != 0);
}

static bool remove_one(void *arg, const char *name)
{
    struct removal *m = arg;
    if (!wanted(m, name))
        return true;
    int r = m->io->unlink(m->io->ctx, m->dir, name, false);
    if (r == 0)
        m->n++;
    else if (r != -ENOENT)
        m->result = r;
    return true;
}

static struct removal sweep(const struct snap_io *io, int dir, enum what what, const char *keep,
                            const char *keep_disk)
{
    struct removal m = {
        .io = io, .dir = dir, .what = what, .keep = keep, .keep_disk = keep_disk};
    int r = io->list(io->ctx, dir, remove_one, &m);
    if (r < 0)
        m.result = r;
    if (m.n && (r = io->sync(io->ctx, dir)) < 0)
        m.result = r;
    return m;
}

int snapfiles_end(const struct snap_io *io, int dir, struct err *e)
{
    struct removal m = sweep(io, dir, WHAT_SESSION, NULL, NULL);
    return m.result < 0 ? err_sys(e, -m.result, "remove the session's files") : 0;
}

static bool there(const struct snap_io *io, int dir, const char *name)
{
    int fd = io->open(io->ctx, dir, name, O_RDWR, 0);
    if (fd < 0)
        return false;
    snap_io_close(io, &fd);
    return true;
}

int snapfiles_use(const struct snap_io *io, int disk, uint64_t generation, struct err *e)
{
    uint8_t raw[8];
    put_le64(raw, generation);
    int r = snap_io_write_full(io, disk, raw, sizeof raw, OVERLAY_USED_AT);
    return r < 0 ? err_sys(e, -r, "mark the session's disk as used") : 0;
}

bool snapfiles_intact(const struct snap_io *io, int dir, uint64_t serial, uint64_t generation)
{
    char name[SNAPFILES_NAME], disk[SNAPFILES_NAME];
    uint8_t raw[8];
    snapfiles_name(name, generation);
    snapfiles_disk(disk, serial);
    int fd = there(io, dir, name) ? io->open(io->ctx, dir, disk, O_RDWR, 0) : -ENOENT;
    if (fd < 0)
        return false;
    bool unused =
        fd_pread_full(fd, raw, sizeof raw, OVERLAY_USED_AT) == 0 && get_le64(raw) <= generation;
    snap_io_close(io, &fd);
    return unused;
}

unsigned snapfiles_clean(const struct snap_io *io, int dir, uint64_t serial, uint64_t keep)
{
    char name[SNAPFILES_NAME], disk[SNAPFILES_NAME];
    snapfiles_name(name, keep);
    snapfiles_disk(disk, serial);
    return sweep(io, dir, WHAT_SESSION, keep ? name : NULL, disk).n;
}

int snapfiles_drop_image(const struct snap_io *io, int dir, struct err *e)
{
    struct removal m = sweep(io, dir, WHAT_RESULTS, NULL, NULL);
    return m.result < 0 ? err_sys(e, -m.result, "remove the results of a build") : 0;
}

int snapfiles_drop_tree(const struct snap_io *io, int parent, const char *name)
{
    int dir = io->open(io->ctx, parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (dir < 0)
        return dir == -ENOENT ? 0 : dir;
    struct removal m = sweep(io, dir, WHAT_ALL, NULL, NULL);
    snap_io_close(io, &dir);
    if (m.result < 0)
        return m.result;
    return io->unlink(io->ctx, parent, name, true);
}
