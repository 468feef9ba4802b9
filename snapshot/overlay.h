// SPDX-License-Identifier: Apache-2.0
/*
 * Copy-on-write disk layers. An overlay is one sparse file: a header page, a
 * bitmap with a bit per 4 KiB block, then the blocks at their own offset. A
 * disk is a raw base file and up to DISK_LAYERS_MAX-1 overlays; reads come from
 * the topmost layer that holds the block, writes go to the last one. Described
 * byte by byte in docs/snapshot-format.md.
 *
 *   0     u8[8]  "DMOVERL1"
 *   8     u32    block size, 4096
 *   12    u32    zero
 *   16    u64    disk size in bytes
 *   24    u64    its complement
 *   32    u64    offset of the bitmap, 4096
 *   40    u64    offset of block 0, a multiple of 4096
 *   48    u64    the session's generation that used it last, 0 for none (api/snapfiles.h)
 *   56    zeros up to 4096
 *
 * Bit b%8 of bitmap byte b/8 stands for block b. The file is as long as block 0's
 * offset plus the disk; a block that is marked but lies in a hole reads as zeros.
 *
 * Power loss: a mark may only become durable after its block. So writers go
 * data, fsync, overlay_flush(), fsync, where overlay_stage() before the first
 * fsync fixes which marks the flush will write. An unmarked block may hold
 * leftovers of a write that was never flushed.
 */
#ifndef DORMOUSE_SNAPSHOT_OVERLAY_H
#define DORMOUSE_SNAPSHOT_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "io.h"

#define OVERLAY_BLOCK    4096u
#define OVERLAY_DISK_MAX (64ull << 30)
#define OVERLAY_USED_AT  48u

struct overlay; /* one open layer */

/* Formats an empty file for a disk of `size` bytes (multiple of 4096, <= 64 GiB). */
int overlay_create(int fd, uint64_t size, struct err *e);
int overlay_create_io(const struct snap_io *io, int fd, uint64_t size, struct err *e);
/* Opens a layer; the fd stays the caller's and must outlive it. */
int overlay_open(struct overlay **ret, int fd, bool writable, struct err *e);
/* Marks that were not flushed are lost. */
void overlay_free(struct overlay *o);

uint64_t overlay_size(const struct overlay *o);
int overlay_fd(const struct overlay *o);
bool overlay_has(const struct overlay *o, uint64_t block);
/* How many blocks from `block` on, at most `max`, are all present or all absent like it. */
uint64_t overlay_run(const struct overlay *o, uint64_t block, uint64_t max);
/* File offset of a block's data, whether or not it is there. */
uint64_t overlay_offset(const struct overlay *o, uint64_t block);
/* Marks blocks as present (their data must have been written first). */
void overlay_set(struct overlay *o, uint64_t block, uint64_t count);
/* Number of blocks present. */
uint64_t overlay_count(const struct overlay *o);
/* True when marks were made that overlay_flush() has not written. */
bool overlay_dirty(const struct overlay *o);
/* Chooses the marks made so far for the next flush. */
void overlay_stage(struct overlay *o);
/* Writes the staged marks to the file (no fsync). After an error they are still due. */
int overlay_flush(struct overlay *o, struct err *e);

#endif
