// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's own translation, stage 1 at EL1 and EL0 (Arm ARM, D8), for a
 * debugger that names guest addresses: 4 KiB granule, up to 48 bits, TTBR0 and
 * TTBR1. Pure: tables are read through a callback. Registers and tables are
 * the guest's and may hold anything.
 */
#ifndef DORMOUSE_DEBUG_PAGEWALK_H
#define DORMOUSE_DEBUG_PAGEWALK_H

#include <stdbool.h>
#include <stdint.h>

struct walk_regs {
    uint64_t sctlr, tcr, ttbr0, ttbr1;
};

struct walk {
    uint64_t pa;
    uint64_t left; /* bytes from pa to the end of its page or block */
};

/* The 8 bytes at the guest-physical address, or false. */
typedef bool (*walk_read)(void *ctx, uint64_t pa, uint64_t *ret);

/* -EFAULT: not mapped, -ENOTSUP: another granule. */
int walk_va(const struct walk_regs *r, uint64_t va, walk_read read, void *ctx,
            struct walk *ret);

#endif
