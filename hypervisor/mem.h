// SPDX-License-Identifier: Apache-2.0
/*
 * Guest memory: one contiguous region, one KVM memslot. mem_at() is the only
 * door from a guest address to a host pointer.
 *
 * Physical map: devices below 1 GiB, RAM from 1 GiB. The first 2 MiB of RAM
 * are the system area (VMGenID page, device tree): mapped, but left out of the
 * device tree's memory node.
 */
#ifndef DORMOUSE_MEM_H
#define DORMOUSE_MEM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/num.h"

#define MEM_BASE        0x40000000ull
#define MEM_SYSTEM_SIZE 0x200000ull /* system area at MEM_BASE */
#define MEM_KERNEL_BASE (MEM_BASE + MEM_SYSTEM_SIZE)
#define MEM_VMGENID     (MEM_BASE + 0x1000)
#define MEM_FDT         (MEM_BASE + 0x10000)
#define MEM_FDT_MAX     0x10000ull
#define MEM_MIN         (128ull << 20)
#define MEM_MAX         (32ull << 30)

#define MAP_GICD        0x08000000ull /* GICv2 and v3 distributor, 64 KiB */
#define MAP_GICC        0x08010000ull /* GICv2 CPU interface, 64 KiB */
#define MAP_GICR        0x080a0000ull /* GICv3 redistributors, 128 KiB a vCPU */
#define MAP_UART        0x09000000ull
#define MAP_RTC         0x09010000ull
#define MAP_DEV_LEN     0x1000ull     /* of these two */
#define MAP_VIRTIO      0x0a000000ull /* + slot * MAP_VIRTIO_STEP */
#define MAP_VIRTIO_STEP 0x1000ull

/* Shared peripheral interrupts (SPI numbers, 0 = INTID 32). */
#define SPI_UART    1u
#define SPI_RTC     2u
#define SPI_VMGENID 3u
#define SPI_VIRTIO  16u /* + slot */

/* A part of RAM mapped from another file than the image: its pages are not anonymous and
 * still have to be saved. */
struct mem_overlay {
    uint64_t off, len; /* from MEM_BASE */
};

struct guest_mem {
    uint8_t *host;                /* where MEM_BASE is mapped here */
    uint64_t size;                /* bytes, from MEM_BASE */
    struct mem_overlay *overlays; /* sorted */
    unsigned noverlays;
    bool image; /* the rest is a private mapping of a snapshot file, else anonymous */
};

/* Gives whole pages back to the host (balloon, free-page reporting): afterwards the guest
 * reads zeros or, in a restored machine, what its image holds. Page-aligned, inside RAM,
 * else -EINVAL. Any thread. */
int mem_discard(const struct guest_mem *m, uint64_t gpa, uint64_t len);

/* Host pointer to [gpa, gpa+len) if wholly inside RAM, else NULL. len 0: NULL. */
static inline void *mem_at(const struct guest_mem *m, uint64_t gpa, uint64_t len)
{
    if (len == 0 || gpa < MEM_BASE || !range_ok(gpa - MEM_BASE, len, m->size))
        return NULL;
    return m->host + (gpa - MEM_BASE);
}

#endif
