// SPDX-License-Identifier: Apache-2.0
/*
 * Names of the blocks and fields in a snapshot's device state, and readers for
 * the two that hold lists. Pure functions of (bytes, length); no KVM.
 */
#ifndef DORMOUSE_SNAPSHOT_SNAPSTATE_H
#define DORMOUSE_SNAPSHOT_SNAPSTATE_H

#include <stddef.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"

#define SNAP_TAG(a, b, c, d) \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

#define SNAP_TAG_MACHINE SNAP_TAG('M', 'A', 'C', 'H')
#define SNAP_TAG_VCPU    SNAP_TAG('V', 'C', 'P', 'U') /* one a vCPU */
#define SNAP_TAG_GIC     SNAP_TAG('G', 'I', 'C', ' ')
#define SNAP_TAG_UART    SNAP_TAG('U', 'A', 'R', 'T')
#define SNAP_TAG_RTC     SNAP_TAG('R', 'T', 'C', ' ')
#define SNAP_TAG_VMGENID SNAP_TAG('V', 'G', 'E', 'N')

enum snap_machine_field {
    SNAP_MACHINE_COUNTER = 1, /* u64: CNTVCT at the pause */
    SNAP_MACHINE_DEVS,        /* per device u32 tag, u32 instance: what must be there again */
};

enum snap_vcpu_field {
    SNAP_VCPU_REGS = 1,   /* list of: u64 KVM register id, value (size is in the id) */
    SNAP_VCPU_MP_STATE,   /* u32 */
    SNAP_VCPU_SERROR,     /* u32: bit 0 pending, bit 1 has syndrome, bit 2 external abort */
    SNAP_VCPU_SERROR_ESR, /* u64 */
};

enum snap_gic_field {
    SNAP_GIC_WORDS = 1, /* list of: u32 group, u32 vCPU, u32 offset or register, u64 value */
};
#define SNAP_GIC_WORD 20u /* bytes of one */

struct snap_reg {
    uint64_t id;
    const void *value;
    uint32_t size;
};
/* The register at *pos, which moves on. 1, 0 at the end, -EBADMSG. */
int snap_next_reg(const void *data, size_t len, size_t *pos, struct snap_reg *ret,
                  struct err *e);

struct snap_gic_word {
    uint32_t group, vcpu, offset;
    uint64_t value;
};
int snap_next_gic_word(const void *data, size_t len, size_t *pos, struct snap_gic_word *ret,
                       struct err *e);

#endif
