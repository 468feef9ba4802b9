// SPDX-License-Identifier: Apache-2.0
/*
 * Copy-on-write disk layers; see overlay.h. The bitmap is a private mapping of
 * the file: a hundred microVMs over one base layer share its pages, and a
 * writable layer only pays for the parts it marks. Files may be forged: every
 * header field is checked against the file's size.
 */
#include "overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"

#define MAGIC         "DMOVERL1"
#define HEADER_BYTES  48u
#define BITMAP_OFFSET 4096u
#define CHUNK         4096u /* the bitmap is staged and written in parts of this size */

struct overlay {
    int fd;
    bool writable;
    uint64_t size, blocks, data;
    uint8_t *map; /* header page and bitmap */
    size_t map_len;
    uint8_t *bits;   /* map + BITMAP_OFFSET */
    size_t nchunks;  /* of the bitmap */
    uint8_t *staged; /* copies of the chunks to write */
    bool any_dirty, any_due;
    struct chunk {
        bool dirty; /* marked since it was staged */
        bool due;   /* staged and not yet written */
    } chunks[];
};

static uint64_t bitmap_bytes(uint64_t size)
{
    return align_up(align_up(size / OVERLAY_BLOCK, 8) / 8, CHUNK);
}

static void header_fill(uint8_t h[HEADER_BYTES], uint64_t size)
{
    memset(h, 0, HEADER_BYTES);
    memcpy(h, MAGIC, 8);
    put_le32(h + 8, OVERLAY_BLOCK);
    put_le64(h + 16, size);
    put_le64(h + 24, ~size);
    put_le64(h + 32, BITMAP_OFFSET);
    put_le64(h + 40, BITMAP_OFFSET + bitmap_bytes(size));
}

static bool size_ok(uint64_t size)
{
    return size > 0 && size % OVERLAY_BLOCK == 0 && size <= OVERLAY_DISK_MAX;
}

int overlay_create(int fd, uint64_t size, struct err *e)
{
    return overlay_create_io(&snap_io_host, fd, size, e);
}

int overlay_create_io(const struct snap_io *io, int fd, uint64_t size, struct err *e)
{
    if (!size_ok(size))
        return err_set(e, EINVAL, "a disk of %llu bytes: want a multiple of 4096 up to 64 GiB",
                       (unsigned long long)size);
    uint8_t h[HEADER_BYTES];
    header_fill(h, size);
    int r = io->truncate(io->ctx, fd, 0);
    if (r == 0)
        r = io->truncate(io->ctx, fd, BITMAP_OFFSET + bitmap_bytes(size) + size);
    if (r < 0)
        return err_sys(e, -r, "size a disk overlay");
    r = snap_io_write_full(io, fd, h, sizeof h, 0);
    return r < 0 ? err_sys(e, -r, "write a disk overlay's header") : 0;
}

static int check_header(int fd, uint64_t *ret_size, struct err *e)
{
    uint8_t h[HEADER_BYTES], want[HEADER_BYTES];
    struct stat st;
    int r = fd_pread_full(fd, h, sizeof h, 0);
    if (r < 0)
        return err_sys(e, -r, "read a disk overlay's header");
    uint64_t size = get_le64(h + 16);
    if (memcmp(h, MAGIC, 8) != 0)
        return err_set(e, EBADMSG, "not a disk overlay");
    header_fill(want, size);
    if (!size_ok(size) || memcmp(h, want, sizeof h) != 0)
        return err_set(e, EBADMSG, "the disk overlay's header is damaged");
    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "stat a disk overlay");
    if ((uint64_t)st.st_size != BITMAP_OFFSET + bitmap_bytes(size) + size)
        return err_set(e, EBADMSG, "the disk overlay is cut short or too long");
    *ret_size = size;
    return 0;
}

int overlay_open(struct overlay **ret, int fd, bool writable, struct err *e)
{
    uint64_t size = 0;
    int r = check_header(fd, &size, e);
    if (r < 0)
        return r;
    size_t bytes = (size_t)bitmap_bytes(size), n = bytes / CHUNK;
    struct overlay *o = calloc(1, sizeof *o + n * sizeof o->chunks[0]);
    if (!o)
        return err_sys(e, ENOMEM, "open a disk overlay");
    o->fd = fd;
    o->writable = writable;
    o->size = size;
    o->blocks = size / OVERLAY_BLOCK;
    o->data = BITMAP_OFFSET + bytes;
    o->nchunks = n;
    o->map_len = BITMAP_OFFSET + bytes;
    int prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *map = mmap(NULL, o->map_len, prot, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        r = err_sys(e, errno, "map a disk overlay's bitmap");
        free(o);
        return r;
    }
    o->map = map;
    o->bits = o->map + BITMAP_OFFSET;
    if (writable) {
        /* Touched only where marks are staged. */
        void *staged =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (staged == MAP_FAILED) {
            r = err_sys(e, errno, "open a disk overlay");
            overlay_free(o);
            return r;
        }
        o->staged = staged;
    }
    *ret = o;
    return 0;
}

void overlay_free(struct overlay *o)
{
    if (!o)
        return;
    munmap(o->map, o->map_len);
    if (o->staged)
        munmap(o->staged, o->nchunks * CHUNK);
    free(o);
}

uint64_t overlay_size(const struct overlay *o)
{
    return o->size;
}

int overlay_fd(const struct overlay *o)
{
    return o->fd;
}

bool overlay_has(const struct overlay *o, uint64_t block)
{
    return block < o->blocks && (o->bits[block / 8] >> (block % 8) & 1);
}

uint64_t overlay_run(const struct overlay *o, uint64_t block, uint64_t max)
{
    bool has = overlay_has(o, block);
    uint8_t whole = has ? 0xff : 0;
    uint64_t n = 0;
    while (n < max && block + n < o->blocks) {
        uint64_t b = block + n;
        if (b % 8 == 0 && max - n >= 8 && o->blocks - b >= 8 && o->bits[b / 8] == whole)
            n += 8;
        else if (overlay_has(o, b) == has)
            n++;
        else
            break;
    }
    return n;
}

uint64_t overlay_offset(const struct overlay *o, uint64_t block)
{
    return o->data + block * OVERLAY_BLOCK;
}

void overlay_set(struct overlay *o, uint64_t block, uint64_t count)
{
    if (!o->writable || !range_ok(block, count, o->blocks))
        return;
    for (uint64_t b = block; b < block + count; b++) {
        uint8_t bit = (uint8_t)(1u << (b % 8));
        if (o->bits[b / 8] & bit)
            continue;
        o->bits[b / 8] |= bit;
        o->chunks[b / 8 / CHUNK].dirty = true;
        o->any_dirty = true;
    }
}

uint64_t overlay_count(const struct overlay *o)
{
    uint64_t n = 0, bytes = o->blocks / 8;
    for (uint64_t i = 0; i < bytes; i++)
        n += (unsigned)__builtin_popcount(o->bits[i]);
    for (uint64_t b = bytes * 8; b < o->blocks; b++)
        n += overlay_has(o, b);
    return n;
}

bool overlay_dirty(const struct overlay *o)
{
    return o->any_dirty || o->any_due;
}

void overlay_stage(struct overlay *o)
{
    for (size_t i = 0; o->any_dirty && i < o->nchunks; i++) {
        if (!o->chunks[i].dirty)
            continue;
        memcpy(o->staged + i * CHUNK, o->bits + i * CHUNK, CHUNK);
        o->chunks[i] = (struct chunk){.due = true};
        o->any_due = true;
    }
    o->any_dirty = false;
}

int overlay_flush(struct overlay *o, struct err *e)
{
    for (size_t i = 0; o->any_due && i < o->nchunks; i++) {
        if (!o->chunks[i].due)
            continue;
        int r = fd_pwrite_full(o->fd, o->staged + i * CHUNK, CHUNK, BITMAP_OFFSET + i * CHUNK);
        if (r < 0)
            return err_sys(e, -r, "write a disk overlay's bitmap");
        o->chunks[i].due = false;
    }
    o->any_due = false;
    return 0;
}
