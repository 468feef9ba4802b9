// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory out of files; see snapmem.h. Used by the restore, and by the
 * save to compare with what was restored. The files may be forged: the
 * image's header and index have been checked, the layer's header is checked here.
 */
#include "snapmem.h"

#include <errno.h>
#include <sys/mman.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"

#define HUGE  (2ull << 20)
#define PROT  (PROT_READ | PROT_WRITE)
#define FLAGS (MAP_PRIVATE | MAP_NORESERVE)

struct piece {
    uint64_t at, len;
    int fd;
    uint64_t off;
};

/* One mapping for each, without one that another would have to be cut out of. */
static int map_pieces(uint8_t *base, const struct piece *pieces, unsigned n, int how)
{
    for (unsigned i = 0; i < n; i++) {
        const struct piece *p = &pieces[i];
        if (p->len &&
            mmap(base + p->at, p->len, PROT, FLAGS | how | (p->fd < 0 ? MAP_ANONYMOUS : 0),
                 p->fd, (off_t)p->off) == MAP_FAILED) {
            int r = -errno;
            if (p->at)
                munmap(base, p->at);
            return r;
        }
    }
    return 0;
}

/* Aligned: below `place` if nothing is there, else anywhere. */
static int map_all(uint8_t *place, uint64_t size, const struct piece *pieces, unsigned n,
                   uint8_t **ret, struct err *e)
{
    uint8_t *base = place ? place - size : NULL;
    int r = place ? map_pieces(base, pieces, n, MAP_FIXED_NOREPLACE) : -EEXIST;
    if (r == -EEXIST) {
        void *room = mmap(NULL, size + HUGE, PROT_NONE, FLAGS | MAP_ANONYMOUS, -1, 0);
        base = (uint8_t *)align_up((uintptr_t)room, HUGE);
        r = room == MAP_FAILED ? -errno : map_pieces(base, pieces, n, MAP_FIXED);
    }
    *ret = base;
    return r < 0 ? err_sys(e, -r, "map guest memory") : 0;
}

int memory_map_anonymous(uint64_t size, uint8_t **ret, struct err *e)
{
    const struct piece all = {0, size, -1, 0};
    return map_all(NULL, size, &all, 1, ret, e);
}

/* Pages of the layer's place that the image stores itself. */
static int own_pages(const struct snap_file *image, int fd, uint8_t *mem, struct err *e)
{
    const struct snap_layer *l = &image->info.layer;
    uint64_t first = l->off / SNAP_PAGE, end = first + l->len / SNAP_PAGE;
    for (size_t i = snap_find_run(image->own, image->nown, first); i < image->nown; i++) {
        struct snap_run run = snap_run_at(image->own, i);
        uint64_t from = MAX((uint64_t)run.page, first);
        uint64_t to = MIN((uint64_t)run.page + run.count, end);
        uint64_t off = run.off + (from - run.page) * SNAP_PAGE;
        if (from >= to)
            break;
        uint8_t *p = mem + from * SNAP_PAGE;
        size_t len = (size_t)(to - from) * SNAP_PAGE;
        int r = 0;
        if (to - from < MEMORY_MAP_RUN)
            r = fd_pread_full(fd, p, len, off);
        else if (mmap(p, len, PROT, FLAGS | MAP_FIXED, fd, (off_t)off) == MAP_FAILED)
            r = -errno;
        if (r < 0)
            return err_sys(e, -r, "read the image's own pages");
    }
    return 0;
}

int memory_map(const struct snap_file *image, int image_fd, int layer_fd, uint8_t *place,
               uint8_t **ret, struct err *e)
{
    const struct snap_info *s = &image->info;
    bool layered = s->flags & SNAP_LAYERED;
    uint64_t from = layered ? s->layer.off : s->mem_bytes;
    uint64_t to = layered ? from + s->layer.len : from;
    const struct piece pieces[] = {
        {0, from, image_fd, s->data_off},
        {from, to - from, layer_fd, LAYER_DATA},
        {to, s->mem_bytes - to, image_fd, s->data_off + to},
    };
    int r = 0;
    if (layered)
        r = layer_fd < 0 ? err_set(e, EINVAL, "the image needs its memory layer")
                         : layer_check(layer_fd, s, e);
    if (r == 0)
        r = map_all(place, s->mem_bytes, pieces, ARRAY_LEN(pieces), ret, e);
    if (r < 0 || !layered)
        return r;
    r = own_pages(image, image_fd, *ret, e);
    if (r < 0)
        munmap(*ret, s->mem_bytes);
    return r;
}
