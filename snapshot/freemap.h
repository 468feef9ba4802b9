// SPDX-License-Identifier: Apache-2.0
/*
 * Memory that the guest's kernel has free need not be saved. The kernel keeps a bit for each
 * 64 KiB that are (initrd/patches/freemap.patch), and its Image's header says where. The guest
 * may lie: then its own memory is lost, nobody else's.
 *
 *     header, at the kernel's place   u8[32]; "FREEMAP1"; u64 where the next is, from here
 *     free_map                        u64 address of the first bit's memory; u64 address of the
 *                                     bits; u64 how many
 */
#ifndef DORMOUSE_SNAPSHOT_FREEMAP_H
#define DORMOUSE_SNAPSHOT_FREEMAP_H

#include <stdint.h>

#define FREEMAP_UNIT  0x10000u /* bytes of memory for a bit */
#define FREEMAP_MAGIC "FREEMAP1"

/* Clears the bits of pages that are free. `kernel`: its place in `mem`, of `len` bytes, which
 * the guest has at `base`. The guest stands still. Returns how many were cleared; 0 also when
 * there is no such map, or it is none. */
uint64_t freemap_clear(const uint8_t *mem, uint64_t len, uint64_t base, uint64_t kernel,
                       uint64_t *pages);

#endif
