// SPDX-License-Identifier: Apache-2.0
/*
 * Copy-on-write disk layers. An overlay is one sparse file: a header page, a
 * bitmap with a bit per 4 KiB block, then the blocks at their own offset. A
 * disk is a raw base file and up to CTL_LAYERS_MAX-1 overlays; reads come from
 * the topmost layer that holds the block, writes go to the last one. Described
 * byte by byte in docs/snapshot-format.md.
 */
#ifndef DORMOUSE_SNAPSHOT_OVERLAY_H
#define DORMOUSE_SNAPSHOT_OVERLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

#define OVERLAY_BLOCK 4096u

struct overlay; /* one open layer */

/* Formats an empty file for a disk of `size` bytes (multiple of 4096, <= 64 GiB). */
int overlay_create(int fd, uint64_t size, struct err *e);
/* Opens a layer; the fd stays the caller's and must outlive it. */
int overlay_open(struct overlay **ret, int fd, bool writable, struct err *e);
void overlay_free(struct overlay *o);

uint64_t overlay_size(const struct overlay *o);
bool overlay_has(const struct overlay *o, uint64_t block);
/* File offset of a block's data, whether or not it is there. */
uint64_t overlay_offset(const struct overlay *o, uint64_t block);
/* Marks blocks as present (their data must have been written first). */
void overlay_set(struct overlay *o, uint64_t block, uint64_t count);
/* Number of blocks present. */
uint64_t overlay_count(const struct overlay *o);
/* Writes the bitmap back to the file (no fsync). */
int overlay_flush(struct overlay *o, struct err *e);

#endif
