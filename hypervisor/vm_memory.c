// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory out of files; see vm_memory.h. Used by the restore, and by the
 * save to compare with what was restored. The files may be forged: snapshot/
 * has checked the image's header and index, the layer's header is checked here.
 */
#include "vm_memory.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/num.h"

#define HUGE     (2ull << 20)
#define MAP_LONG 64u /* pages: a run of so many is mapped, a shorter one read */
#define PROT     (PROT_READ | PROT_WRITE)
#define FLAGS    (MAP_PRIVATE | MAP_NORESERVE)

/* Aligned, a little below the lowest of our mappings, where nothing is yet; if something is,
 * room for two. */
static int map_aligned(uint64_t size, int fd, uint64_t off, uint8_t **ret, struct err *e)
{
    uint8_t *p = mmap(NULL, SNAP_PAGE, PROT_NONE, FLAGS | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED) {
        munmap(p, SNAP_PAGE);
        p = mmap((void *)align_down((uintptr_t)p - size, HUGE), size, PROT,
                 FLAGS | MAP_FIXED_NOREPLACE, fd, (off_t)off);
    }
    if (p == MAP_FAILED && errno == EEXIST) {
        p = mmap(NULL, size + HUGE, PROT_NONE, FLAGS | MAP_ANONYMOUS, -1, 0);
        if (p != MAP_FAILED)
            p = mmap((void *)align_up((uintptr_t)p, HUGE), size, PROT, FLAGS | MAP_FIXED, fd,
                     (off_t)off);
    }
    if (p == MAP_FAILED)
        return err_sys(e, errno, "map the image");
    *ret = p;
    return 0;
}

/* Pages of the layer's place that the image stores itself. */
static int own_pages(const struct snap_file *image, int fd, uint8_t *mem, struct err *e)
{
    if (image->info.layer_own && !image->nruns)
        return err_set(e, EINVAL, "the image's index was not read");
    const struct snap_layer *l = &image->info.layer;
    uint64_t first = l->off / SNAP_PAGE, end = first + l->len / SNAP_PAGE;
    for (size_t i = snap_find_run(image->index, image->nruns, first); i < image->nruns; i++) {
        struct snap_run run = snap_run_at(image->index, i);
        uint64_t from = MAX((uint64_t)run.page, first);
        uint64_t to = MIN((uint64_t)run.page + run.count, end);
        uint64_t off = run.off + (from - run.page) * SNAP_PAGE;
        if (from >= to)
            break;
        uint8_t *p = mem + from * SNAP_PAGE;
        size_t len = (size_t)(to - from) * SNAP_PAGE;
        int r = 0;
        if (to - from < MAP_LONG)
            r = fd_pread_full(fd, p, len, off);
        else if (mmap(p, len, PROT, FLAGS | MAP_FIXED, fd, (off_t)off) == MAP_FAILED)
            r = -errno;
        if (r < 0)
            return err_sys(e, -r, "read the image's own pages");
    }
    return 0;
}

static int map_layer(const struct snap_file *image, int fd, int layer_fd, uint8_t *mem,
                     struct err *e)
{
    struct layer_info l;
    int r = layer_fd < 0 ? err_set(e, EINVAL, "the image needs its memory layer")
                         : layer_read(layer_fd, &l, e);
    if (r == 0)
        r = layer_check(&l, &image->info, e);
    if (r == 0 && mmap(mem + l.is.off, l.is.len, PROT, FLAGS | MAP_FIXED, layer_fd,
                       (off_t)LAYER_DATA) == MAP_FAILED)
        r = err_sys(e, errno, "map the memory layer");
    return r < 0 ? r : own_pages(image, fd, mem, e);
}

int memory_map(const struct snap_file *image, int image_fd, int layer_fd, uint8_t **ret,
               struct err *e)
{
    const struct snap_info *s = &image->info;
    int r = map_aligned(s->mem_bytes, image_fd, s->data_off, ret, e);
    if (r < 0 || !(s->flags & SNAP_LAYERED))
        return r;
    r = map_layer(image, image_fd, layer_fd, *ret, e);
    if (r < 0)
        munmap(*ret, s->mem_bytes);
    return r;
}
