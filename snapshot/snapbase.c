// SPDX-License-Identifier: Apache-2.0
/* See snapbase.h. The files may have been replaced or damaged since the restore. */
#include "snapbase.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "snapmem.h"

void snap_base_close(struct snap_base *b)
{
    snap_free(&b->file);
    free(b->stored);
    if (b->map)
        munmap(b->map, b->len);
}

int snap_base_open(struct snap_base *b, int image_fd, int layer_fd, const uint8_t id[SNAP_ID],
                   uint64_t mem_bytes, struct err *e)
{
    int r = snap_open(&b->file, image_fd, NULL, e);
    if (r < 0)
        return err_wrap(e, "image");
    if (memcmp(b->file.info.id, id, SNAP_ID) != 0 || b->file.info.mem_bytes != mem_bytes)
        return err_set(e, ESTALE, "the image file was replaced under the machine");
    b->stored = snap_bitmap_new(mem_bytes);
    if (!b->stored)
        return err_sys(e, ENOMEM, "compare with the image");
    snap_mark_stored(&b->file, b->stored);
    b->len = mem_bytes;
    return memory_map(&b->file, image_fd, layer_fd, NULL, &b->map, e);
}

void snap_base_mark(const struct snap_base *b, uint64_t *bitmap)
{
    for (uint64_t i = 0; b->stored && i < b->len / SNAP_PAGE / 64; i++)
        bitmap[i] |= b->stored[i];
}

int snap_lower_open(struct snap_lower *l, int fd, uint64_t mem_bytes, struct err *e)
{
    int r = layer_read(fd, &l->info, e);
    if (r < 0)
        return r;
    if (!snap_layer_ok(&l->info.is, mem_bytes))
        return err_set(e, EINVAL, "the memory layer lies outside the machine's memory");
    void *p = mmap(NULL, l->info.is.len, PROT_READ, MAP_SHARED, fd, (off_t)LAYER_DATA);
    if (p == MAP_FAILED)
        return err_sys(e, errno, "map the memory layer");
    l->map = p;
    return 0;
}

void snap_lower_close(struct snap_lower *l)
{
    if (l->map)
        munmap(l->map, l->info.is.len);
}

void snap_mark(uint64_t *bitmap, uint64_t off, uint64_t len)
{
    for (uint64_t p = off / SNAP_PAGE; p < (off + len) / SNAP_PAGE; p++)
        bitmap[p / 64] |= 1ull << (p % 64);
}
