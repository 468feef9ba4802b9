// SPDX-License-Identifier: Apache-2.0
/* The files behind a virtual disk; see disk_layers.h. */
#include "disk_layers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"

static int check_access(int fd, bool write, struct err *e)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return err_sys(e, errno, "look at a disk layer");
    int mode = flags & O_ACCMODE;
    if (mode == O_WRONLY || (write && mode != O_RDWR))
        return err_set(e, EACCES, "a disk layer is not open for %s",
                       write ? "reading and writing" : "reading");
    return 0;
}

static int open_layers(struct disk_layers *l, const int *fds, unsigned nfds, uint64_t size,
                       struct err *e)
{
    struct stat st;
    if (nfds == 0 || nfds > DISK_LAYERS_MAX)
        return err_set(e, EINVAL, "a disk of %u layers: want 1 to %u", nfds, DISK_LAYERS_MAX);
    for (unsigned i = 0; i < nfds; i++) {
        int r = check_access(fds[i], i == nfds - 1 && !l->readonly, e);
        if (r < 0)
            return r;
    }
    if (fstat(l->base, &st) < 0)
        return err_sys(e, errno, "stat the disk's base file");
    if (!S_ISREG(st.st_mode))
        return err_set(e, EINVAL, "the disk's base is not a regular file");
    l->base_size = (uint64_t)st.st_size;
    l->size = size ? size : align_up(l->base_size, OVERLAY_BLOCK);
    if (l->size == 0 || l->size % OVERLAY_BLOCK || l->size > OVERLAY_DISK_MAX)
        return err_set(e, EINVAL, "a disk of %llu bytes: want a multiple of 4096 up to 64 GiB",
                       (unsigned long long)l->size);
    if (nfds == 1 && !l->readonly)
        l->base_size = l->size; /* writes make it that long */
    for (unsigned i = 1; i < nfds; i++) {
        bool writable = i == nfds - 1 && !l->readonly;
        int r = overlay_open(&l->over[i - 1], fds[i], writable, e);
        if (r < 0)
            return err_wrap(e, "layer %u of the disk", i);
        l->nover = i;
        if (overlay_size(l->over[i - 1]) != l->size)
            return err_set(e, EINVAL, "layer %u is for a disk of %llu bytes, not %llu", i,
                           (unsigned long long)overlay_size(l->over[i - 1]),
                           (unsigned long long)l->size);
    }
    return 0;
}

int disk_layers_open(struct disk_layers *l, const int *fds, unsigned nfds, uint64_t size,
                     bool readonly, struct err *e)
{
    *l = (struct disk_layers){.base = nfds ? fds[0] : -1, .readonly = readonly};
    int r = open_layers(l, fds, nfds, size, e);
    if (r < 0) {
        for (unsigned i = 0; i < l->nover; i++)
            overlay_free(l->over[i]);
        for (unsigned i = 0; i < nfds; i++)
            close(fds[i]);
        *l = (struct disk_layers){.base = -1};
    }
    return r;
}

void disk_layers_close(struct disk_layers *l)
{
    for (unsigned i = 0; i < l->nover; i++) {
        close(overlay_fd(l->over[i]));
        overlay_free(l->over[i]);
    }
    if (l->base >= 0)
        close(l->base);
    *l = (struct disk_layers){.base = -1};
}

void disk_layers_find(const struct disk_layers *l, uint64_t off, uint64_t len,
                      struct disk_extent *ret)
{
    uint64_t block = off / OVERLAY_BLOCK, in = off % OVERLAY_BLOCK;
    uint64_t blocks = (in + len + OVERLAY_BLOCK - 1) / OVERLAY_BLOCK;
    /* Each layer that lacks the block shortens the stretch to what it lacks. */
    for (unsigned i = l->nover; i-- > 0;) {
        struct overlay *o = l->over[i];
        blocks = overlay_run(o, block, blocks);
        if (overlay_has(o, block)) {
            uint64_t end = blocks * OVERLAY_BLOCK - in;
            *ret = (struct disk_extent){.fd = overlay_fd(o),
                                        .off = overlay_offset(o, block) + in,
                                        .len = MIN(len, end)};
            return;
        }
    }
    uint64_t end = blocks * OVERLAY_BLOCK - in;
    *ret = (struct disk_extent){.fd = l->base, .off = off, .len = MIN(len, end)};
    if (off >= l->base_size)
        ret->fd = -1;
    else
        ret->short_zero = true;
}
