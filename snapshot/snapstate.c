// SPDX-License-Identifier: Apache-2.0
/* Lists inside the device state; see snapstate.h. The bytes may be forged. */
#include "snapstate.h"

#include <errno.h>

#include "../hypervisor/base/num.h"

/* In a KVM register id, bits 52..55 hold the binary logarithm of the size. */
#define REG_SIZE_SHIFT 52u
#define REG_SIZE_MAX   8u /* 256 bytes */

int snap_next_reg(const void *data, size_t len, size_t *pos, struct snap_reg *ret,
                  struct err *e)
{
    const uint8_t *p = data;
    if (*pos == len)
        return 0;
    if (!range_ok(*pos, sizeof(uint64_t), len))
        return err_set(e, EBADMSG, "the register list ends inside an id");
    ret->id = get_le64(p + *pos);
    unsigned size = (unsigned)(ret->id >> REG_SIZE_SHIFT & 15);
    if (size > REG_SIZE_MAX || !range_ok(*pos + sizeof(uint64_t), 1u << size, len))
        return err_set(e, EBADMSG, "the register list ends inside register %llx",
                       (unsigned long long)ret->id);
    ret->size = 1u << size;
    ret->value = p + *pos + sizeof(uint64_t);
    *pos += sizeof(uint64_t) + ret->size;
    return 1;
}

int snap_next_gic_word(const void *data, size_t len, size_t *pos, struct snap_gic_word *ret,
                       struct err *e)
{
    const uint8_t *p = (const uint8_t *)data + *pos;
    if (*pos == len)
        return 0;
    if (!range_ok(*pos, SNAP_GIC_WORD, len))
        return err_set(e, EBADMSG, "the list of GIC words ends inside one");
    ret->group = get_le32(p);
    ret->vcpu = get_le32(p + 4);
    ret->offset = get_le32(p + 8);
    ret->value = get_le64(p + 12);
    *pos += SNAP_GIC_WORD;
    return 1;
}
